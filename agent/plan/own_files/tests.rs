use super::*;
use crate::config::FileSource;

fn file() -> MountedFile {
    let services = vec![ServiceName::app()];
    MountedFile { source: FileSource::Content(String::new()), services, path: "/a".into(), mode: 0o444 }
}

fn made(template: &str) -> Result<String, String> {
    let values = [("TOKEN", "a\"b"), ("EMPTY", ""), ("SECRET", "canary")];
    let values = values.map(|(key, value)| (key.to_owned(), Secret::new(value))).into();
    rendered(&"frps".parse().unwrap(), &file(), template, &values).map_err(|problem| problem.what)
}

#[test]
fn a_template_is_filled_with_the_variables() {
    for (template, text) in [
        ("token = {{ TOKEN | tojson }}\n", "token = \"a\\\"b\"\n"),
        ("{{ TOKEN }}", "a\"b"),
        ("{% if EMPTY %}\na\n{% else %}\nb\n{% endif %}\nc\n", "b\nc\n"),
        ("{{ NOPE | default('x') }}{% if NOPE is defined %}y{% endif %}", "x"),
        ("no variable\n\n", "no variable\n\n"),
        ("", ""),
    ] {
        assert_eq!(made(template).as_deref(), Ok(text), "{template}");
    }
}

/// No filter writes something in place of a variable that is missing.
#[test]
fn a_missing_variable_is_an_error_at_its_place() {
    for template in [
        "{{ NOPE }}",
        "{{ NOPE | tojson }}",
        "{{ [NOPE] | tojson }}",
        "{{ NOPE | upper }}",
        "{% if NOPE %}{% endif %}",
    ] {
        let error = made(&format!("a = 1\n  b = {template}\n")).unwrap_err();
        assert!(error.starts_with("[files.frps] content:2:"), "{template}: {error}");
        assert!(error.contains("NOPE"), "{template}: {error}");
    }
    let mut jinja = template::environment();
    jinja.set_debug(false);
    let builtin =
        ["abs", "bool", "capitalize", "dictsort", "escape", "e", "first", "float", "indent", "int", "items"];
    let more = [
        "join",
        "last",
        "length",
        "lines",
        "list",
        "lower",
        "max",
        "min",
        "pprint",
        "replace('a', 'b')",
        "reverse",
    ];
    let rest = [
        "round", "safe", "sort", "split", "string", "sum", "title", "tojson", "trim", "unique", "upper",
        "zip", "chain",
    ];
    for filter in builtin.iter().chain(&more).chain(&rest) {
        let text = jinja.render_str(&format!("{{{{ NOPE | {filter} }}}}"), ());
        assert!(text.is_err(), "{filter}: {text:?}");
    }
}

#[test]
fn an_error_names_its_place_and_no_value() {
    for (template, told) in [
        ("{{ SECRET", "content:1"),
        ("a\n{{ SECRET | nofilter }}", "content:2:"),
        ("{{ SECRET | int }}", "content:1:"),
        ("{{ SECRET | round }}", "content:1:"),
        ("{{ SECRET() }}", "content:1:"),
        ("{{ SECRET.a.b }}", "content:1:"),
        ("{% include SECRET %}", "content:1:"),
        ("{{ range(SECRET) }}", "content:1:"),
        (
            "{% for a in range(90000) %}{% for b in range(90000) %}{{ SECRET }}{% endfor %}{% endfor %}",
            "content",
        ),
    ] {
        let error = made(template).unwrap_err();
        assert!(error.contains(told) && !error.contains("canary"), "{template}: {error}");
    }
}

#[test]
fn files_are_found_in_the_arguments_of_an_engine() {
    for (arg, path) in [
        (
            "--volume=/etc/astra/files/frps.0123456789abcdef:/a:ro,z",
            Some("/etc/astra/files/frps.0123456789abcdef"),
        ),
        (
            "--mount=type=bind,source=/etc/astra/files/a.0123456789abcdef,target=/a,readonly",
            Some("/etc/astra/files/a.0123456789abcdef"),
        ),
        ("--volume=/etc/astra/filesystem:/a", None),
        ("--volume=db:/etc/postgresql", None),
    ] {
        assert_eq!(path_in(arg), path.map(PathBuf::from), "{arg}");
    }
    assert!(is_of(Path::new("/etc/astra/files/a.b.0123456789abcdef"), "a.b"));
    assert!(
        !is_of(Path::new("/etc/astra/files/a.0123"), "a") && !is_of(Path::new("/etc/astra/files/a"), "a")
    );
}
