//! Properties of the grammars, and a table of measured lines.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::systemd::Comments;
use super::*;

const DIGEST: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn lines(args: &[&str], command: &[&str]) -> ManagedLines {
    let own = |a: &[&str]| a.iter().map(|s| (*s).to_owned()).collect();
    let image = format!("ghcr.io/a/b@{DIGEST}").parse().unwrap();
    let app = ServiceLines {
        image,
        args: own(args),
        command: own(command),
        port: Some(8000),
        since: None,
        env: None,
    };
    ManagedLines { release: 7, app, services: BTreeMap::new(), keys: BTreeSet::new() }
}

fn reads(text: &str) -> Vec<(String, String)> {
    let own = |b: Vec<u8>| String::from_utf8(b).unwrap();
    let found = systemd::read(text.as_bytes(), Comments::End).0;
    found.into_iter().map(|a| (own(a.key), own(a.value))).collect()
}

#[test]
fn systemd_reads_like_the_measured_matrix() {
    for (text, value) in [
        ("K=v", "v"),
        ("K='v'", "v"),
        ("K=\"v\"", "v"),
        ("K=a b", "a b"),
        ("K=a #b", "a #b"),
        ("K=A <x@y>", "A <x@y>"),
        ("K=$$ $HOME ~ `x` $()", "$$ $HOME ~ `x` $()"),
        ("K=a\\b", "ab"),
        (r#"K="\"e\" \\""#, "\"e\" \\"),
        ("K =v", "v"),
        ("K= v", "v"),
        ("K=v   ", "v"),
        ("K=a\\\nb", "ab"),
        ("K=\"a\nb\"", "a\nb"),
        ("K=\"a\"b", "ab"),
        ("K=a\"b'c", "a\"b'c"),
        ("K='a' 'b'", "ab"),
        ("K='a\\b'", "a\\b"),
        ("K=\"\\x\"", "\\x"),
        ("K=v\r\n", "v"),
        ("K=\\ v\\ ", " v "),
        ("K=", ""),
        ("; c\n# d\n  K=v", "v"),
    ] {
        assert_eq!(reads(text), [("K".to_owned(), value.to_owned())], "{text:?}");
    }
    assert!(reads("K\n\nL").is_empty());
    assert_eq!(reads("A='\nB=1\nC=2").len(), 1, "an open quote eats the file");
    assert_eq!(systemd::read(b"# c\\\nK=v", Comments::Continue).0.len(), 0);
    assert_eq!(systemd::read(b"# c\\\nK=v", Comments::End).0.len(), 1);
}

#[test]
fn lines_that_all_read_alike_pass() {
    for line in [
        "K=v",
        "K=a#b",
        "  K=v",
        "\tK=v",
        "K=",
        "K=a=b",
        "K=*%",
        "K=grüße",
        "K=a b",
        "K=a #b",
        "K=A <x@y>",
        "K=$$ $HOME ~ `x` $(y)",
        "K=a;cmd",
        "K=a&b",
        "K=a\tb",
        "K=a'b\"c",
        "# 'c",
        "#",
        "",
        "   ",
        "k_1=v",
    ] {
        assert_eq!(EnvFile::parse(line).check(), [], "{line:?}");
    }
    assert_eq!(EnvFile::parse("A=1\r\nA=2\r\n").check(), []);
}

#[test]
fn lines_that_differ_are_named() {
    for line in [
        "K='v'",
        "K=\"v\"",
        "K=\\",
        "K=a\\b",
        "K =v",
        "K= v",
        "K=v  ",
        "K=v\t",
        "export K=v",
        ";c",
        ";K=v",
        "K",
        "K*",
        "1K=v",
        "K-X=v",
        "K.x=v",
        "=v",
        "K='v",
        "K=\"v",
        "\u{feff}K=v",
        "K=a\u{feff}",
        "K=a\0b",
        "K=a\rb",
        "K=\u{7f}",
        "K=\u{85}",
        "# c\\",
        "ключ=v",
        "MIIEvQIBADANBg+/",
    ] {
        let text = format!("A=1\n{line}\nB=2\n");
        let problems = EnvFile::parse(&text).check();
        assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [2], "{line:?}: {problems:?}");
    }
    assert_eq!(EnvFile::parse(b"K=\xff").check().len(), 1);
    assert_eq!(EnvFile::parse(format!("K={}", "x".repeat(32 << 10))).check().len(), 1);
    let large = "KEY=0123456789\n".repeat(20_000);
    assert_eq!(EnvFile::parse(large).check().first().unwrap().line, 20_000);
}

#[test]
fn no_message_holds_a_value() {
    let file = EnvFile::parse("PASS='hunter2\nhunter2\n");
    assert!(!format!("{file:?} {:?}", file.check()).contains("hunter2"));
    assert!(!format!("{:?}", check_value("'hunter2'")).contains("hunter2"));
}

#[test]
fn edits_touch_one_line() {
    let before = b"# c\r\nA=1\r\nX='q'\nA=2\n\n  B = 3\nlast".to_vec();
    let mut file = EnvFile::parse(&before);
    assert_eq!(file.render(), before);
    file.set("A", &Secret::new("9")).unwrap();
    file.set("NEW", &Secret::new("")).unwrap();
    assert_eq!(file.render(), b"# c\r\nA=1\r\nX='q'\nA=9\n\n  B = 3\nlast\nNEW=\n");
    assert_eq!(file.get("A").unwrap().reveal(), "9");
    assert_eq!(file.get("X").unwrap().reveal(), "'q'");
    assert_eq!(file.keys(), ["A", "B ", "NEW", "X"]);
    assert!(file.remove("A") && !file.remove("A"));
    assert_eq!(file.render(), b"# c\r\nX='q'\n\n  B = 3\nlast\nNEW=\n");
    assert!(matches!(file.set("APP_IMAGE", &Secret::new("x")), Err(EnvError::Managed(_))));
    assert!(matches!(file.set("A B", &Secret::new("x")), Err(EnvError::Key(_))));
    assert!(matches!(file.set("A", &Secret::new("x\n")), Err(EnvError::Value(_))));
}

#[test]
fn managed_lines_as_measured() {
    let file = EnvFile::parse(format!(
        "APP_IMAGE=ghcr.io/a/b@{DIGEST}\nASTRA_RELEASE=7\nAPP_ARGS=\nAPP_COMMAND='sh -c \"echo a  b $HOME\"'\nASTRA_APP_PORT=8000\n"
    ));
    let expected = lines(&[], &["sh", "-c", "echo a  b $HOME"]);
    assert_eq!(file.managed().unwrap().unwrap(), expected);
    assert_eq!(EnvFile::default().with_managed(&expected).unwrap(), file);
    assert_eq!(EnvFile::default().managed(), Ok(None));
    assert_eq!(EnvFile::parse("APP_IMAGE=...\n").managed(), Ok(None));
    let unnumbered = EnvFile::parse(format!("APP_IMAGE=ghcr.io/a/b@{DIGEST}"));
    assert_eq!(unnumbered.managed(), Err(EnvError::Unnumbered));
    assert!(matches!(EnvFile::parse("APP_IMAGE=ghcr.io/a/b:latest").managed(), Err(EnvError::Image(..))));
    let unsaid = String::from_utf8(file.render()).unwrap().replace("ASTRA_APP_PORT=8000\n", "");
    assert_eq!(EnvFile::parse(&unsaid).managed().unwrap().unwrap().app.port, Some(8000));
    assert_eq!(
        EnvFile::parse(unsaid + "ASTRA_APP_PORT=0\n").managed(),
        Err(EnvError::Port("ASTRA_APP_PORT".to_owned()))
    );
    for release in ["0", "-1", "+1", "x", "1 2"] {
        let text = format!("APP_IMAGE=ghcr.io/a/b@{DIGEST}\nASTRA_RELEASE={release}");
        assert_eq!(
            EnvFile::parse(text).managed(),
            Err(EnvError::Release("ASTRA_RELEASE".to_owned())),
            "{release}"
        );
    }
}

#[test]
fn a_hidden_managed_line_is_seen() {
    for text in ["A=1\nB='x\n", "A=1\n# c\\\n", "A=1\nB=x\\\n"] {
        let file = EnvFile::parse(text);
        assert_eq!(file.with_managed(&lines(&[], &[])), Err(EnvError::Hidden(2)), "{text:?}");
    }
    assert_eq!(
        EnvFile::default().with_managed(&lines(&["a\nb"], &[])),
        Err(EnvError::Argument("APP_ARGS".to_owned()))
    );
    let long = "x".repeat(40_000);
    assert!(matches!(EnvFile::default().with_managed(&lines(&[&long], &[])), Err(EnvError::LongLine(_))));
}

/// Random text with many characters that are special to the grammars.
fn nasty() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
        Just(" ".to_owned()),
        Just("\t".to_owned()),
        Just("#".to_owned()),
        Just(";".to_owned()),
        Just("=".to_owned()),
        Just("$HOME".to_owned()),
        Just("`x`".to_owned()),
        "[a-zA-Z0-9äß]{1,3}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(EnvFile::parse(&bytes).render(), bytes);
    }

    #[test]
    fn quoted_arguments_come_back(
        args in proptest::collection::vec(nasty(), 0..6),
        command in proptest::collection::vec(any::<String>(), 0..3),
        before in "([A-Z]=[a-z ]*\n|# [a-z]*\n){0,4}",
    ) {
        let a: Vec<_> = args.iter().map(String::as_str).collect();
        let c: Vec<_> = command.iter().map(String::as_str).collect();
        let lines = lines(&a, &c);
        match EnvFile::parse(&before).with_managed(&lines) {
            Ok(file) => {
                prop_assert_eq!(file.managed(), Ok(Some(lines)));
                let rendered = file.render();
                prop_assert!(rendered.starts_with(before.as_bytes()));
                prop_assert_eq!(EnvFile::parse(rendered).managed(), file.managed());
            }
            Err(error) => {
                prop_assert_eq!(error, EnvError::Argument("APP_COMMAND".to_owned()));
                let control = |c: char| c.is_control() || c == '\u{feff}';
                prop_assert!(command.iter().any(|c| c.contains(control)));
            }
        }
    }

    #[test]
    fn accepted_values_read_alike(value in prop_oneof![nasty(), any::<String>()], before in "([A-Z]=[a-z]*\n){0,3}") {
        let mut file = EnvFile::parse(&before);
        match file.set("KEY", &Secret::new(value.clone())) {
            Ok(()) => {
                prop_assert_eq!(file.get("KEY"), Some(Secret::new(value.clone())));
                let text = String::from_utf8(file.render()).unwrap();
                let seen = reads(&text).into_iter().rfind(|(k, _)| k == "KEY");
                prop_assert_eq!(seen, Some(("KEY".to_owned(), value)));
            }
            Err(_) => prop_assert_eq!(file.render(), before.into_bytes()),
        }
    }

    #[test]
    fn plain_text_is_accepted(value in "[a-zA-Z0-9/:@.,_$%&()*=-]([a-zA-Z0-9 '\"#;$`-]*[a-zA-Z0-9'\"#;])?") {
        prop_assert_eq!(check_value(&value), Ok(()));
    }

    #[test]
    fn an_edit_leaves_other_lines(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut file = EnvFile::parse(&bytes);
        file.set("KEY", &Secret::new("v")).unwrap();
        if EnvFile::parse(&bytes).get("KEY").is_none() {
            prop_assert!(file.render().starts_with(&bytes));
        }
        prop_assert_eq!(EnvFile::parse(file.render()).get("KEY"), Some(Secret::new("v")));
    }
}

#[test]
fn three_dots_are_a_placeholder_and_one_or_two_a_directory() {
    for text in ["", "  ", "...", "....", ".......", "…", "…....…", " ... "] {
        assert!(is_placeholder(text), "{text:?}");
    }
    for text in [".", "..", "...a", "./x", "x", "0"] {
        assert!(!is_placeholder(text), "{text:?}");
    }
}

#[test]
fn the_recorded_config_keys_are_read_back() {
    let mut named = lines(&["--memory=1"], &[]);
    named.keys = ["B".parse().unwrap(), "A".parse().unwrap()].into();
    let file = EnvFile::parse("A=1\nB=2\n").with_managed(&named).unwrap();
    assert!(String::from_utf8(file.render()).unwrap().contains("ASTRA_CONFIG_KEYS=A B\n"));
    assert_eq!(file.managed().unwrap(), Some(named.clone()));
    // An older agent wrote no such line: every variable counts as the user's.
    let older = EnvFile::default().with_managed(&lines(&["--memory=1"], &[])).unwrap();
    assert!(older.get("ASTRA_CONFIG_KEYS").is_none());
    assert!(named.runs_as(&older.managed().unwrap().unwrap()), "which restarts nothing");
}

#[test]
fn the_lines_of_other_services_stand_below_the_apps() {
    let mut site = lines(&[], &[]);
    let command = vec!["celery".to_owned(), "worker".to_owned()];
    let worker = ServiceLines { command, port: None, since: Some(5), ..site.app.clone() };
    site.services.insert("gp-worker".parse().unwrap(), worker.clone());
    let file = EnvFile::parse("A=1\n").with_managed(&site).unwrap();
    let text = String::from_utf8(file.render()).unwrap();
    let own = format!(
        "ASTRA_SERVICES=gp-worker\nGP_WORKER_IMAGE=ghcr.io/a/b@{DIGEST}\nGP_WORKER_ARGS=\nGP_WORKER_COMMAND='celery worker'\n\
         ASTRA_GP_WORKER_RELEASE=5\n"
    );
    assert!(text.ends_with(&own), "{text}");
    assert_eq!(file.managed().unwrap(), Some(site.clone()));
    assert_eq!((site.since("gp-worker".parse().unwrap()), site.since("x".parse().unwrap())), (Some(5), None));
    assert!(file.is_managed("GP_WORKER_ARGS") && !EnvFile::default().is_managed("GP_WORKER_ARGS"));
    assert!(matches!(file.clone().set("GP_WORKER_IMAGE", &Secret::new("x")), Err(EnvError::Managed(_))));
    // A release without it removes its lines, and no other.
    let without = file.with_managed(&lines(&[], &[])).unwrap();
    assert_eq!(without.managed().unwrap(), Some(lines(&[], &[])));
    assert_eq!(
        without.keys(),
        ["A", "APP_ARGS", "APP_COMMAND", "APP_IMAGE", "ASTRA_APP_PORT", "ASTRA_RELEASE", "ASTRA_SERVICES"]
    );
    // Since the committed release: no line says so.
    site.services.insert("gp-worker".parse().unwrap(), ServiceLines { since: None, ..worker });
    assert!(file.with_managed(&site).unwrap().get("ASTRA_GP_WORKER_RELEASE").is_none());
}

#[test]
fn a_journal_of_an_agent_with_one_service_is_read() {
    let old = format!(
        r#"{{"image":"ghcr.io/a/b@{DIGEST}","release":7,"args":["-x"],"command":[],"port":8000,"keys":[]}}"#
    );
    let read: ManagedLines = serde_json::from_str(&old).unwrap();
    assert_eq!(read, lines(&["-x"], &[]));
    let mut site = read;
    let worker = ServiceLines { port: None, since: Some(3), ..site.app.clone() };
    site.services.insert("worker".parse().unwrap(), worker);
    let text = serde_json::to_string(&site).unwrap();
    assert_eq!(serde_json::from_str::<ManagedLines>(&text).unwrap(), site);
}
