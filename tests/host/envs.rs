//! The env file's grammar against its real readers: systemd (`EnvironmentFile=`) and podman (`--env-file`).
//! Every file that the agent accepts must read the same in both, and in the agent.

use std::collections::BTreeMap;

use astra_agent::model::envfile::{EnvFile, check_value};
use astra_agent::model::secret::Secret;

use crate::harness::Host;

/// All line forms on which two readers are known to differ, and those on which they agree.
const FORMS: [&str; 58] = [
    "K=v",
    "K=a#b",
    "  K=v",
    "\tK=v",
    "K=",
    "K=1\nK=2",
    "K=grüße",
    "K=a=b",
    "K=*",
    "K=%d%%",
    "K=a b",
    "K=a  b",
    "K=a #b",
    "K=A <x@y>",
    "K=$$",
    "K=$HOME",
    "K=${HOME}",
    "K=~",
    "K=`id`",
    "K=$(id)",
    "K=a;b",
    "K=a&b",
    "K=a|b",
    "K=a\tb",
    "K=a'b",
    "K=a\"b",
    "K=a'b'c",
    "K=it's",
    "# c",
    "#K=v",
    "",
    "   ",
    "\t",
    "K=v\r",
    "K='v'",
    "K=\"v\"",
    "K=\"a\"b",
    "K='a",
    "K=\"a",
    "K=\\",
    "K=a\\b",
    "K=a\\\nb",
    "K=\"\\\"e\\\" \\\\\"",
    "K =v",
    "K= v",
    "K=v   ",
    "K=v\t",
    "export K=v",
    ";c",
    ";K=v",
    "K",
    "1K=v",
    "K-X=v",
    "K.x=v",
    "=v",
    "\u{feff}K=v",
    "K=a\u{85}b",
    "# c\\\nK=v",
];

type Env = BTreeMap<String, String>;

/// The variables from the file: none of its names is one that a container or a service has anyway.
fn ours(text: &str) -> Env {
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| {
            key.starts_with('K')
                || key.trim_start().starts_with("AFTER")
                || key.contains('K') && key.len() < 6
        })
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Both readings of the file at `path`; `None`: the reader refused it.
fn read(host: &Host, path: &str) -> (Option<Env>, Option<Env>) {
    let systemd = host.sh(&format!(
        "systemd-run -q --wait --pipe --collect -p Type=oneshot -p EnvironmentFile={path} /usr/bin/env -0"
    ));
    let podman = host.sh(&format!(
        "podman run --rm --network none --log-driver none --env-file {path} --entrypoint env 127.0.0.1:5000/astra:v1 -0"
    ));
    let seen = |output: crate::harness::Output| (output.code() == 0).then(|| ours(&output.stdout));
    (seen(systemd), seen(podman))
}

/// The agent's reading.
fn agents(file: &EnvFile) -> Env {
    file.keys()
        .into_iter()
        .filter_map(|key| Some((key.clone(), file.get(&key)?.reveal().to_owned())))
        .collect()
}

#[test]
fn accepted_files_read_the_same_everywhere() {
    let host = Host::boot("envs");
    host.sh("podman pull -q 127.0.0.1:5000/astra:v1").ok();

    let (mut accepted, mut refused, mut differ) = (0, 0, 0);
    for form in FORMS {
        let text = format!("{form}\nAFTER=1\n");
        let file = EnvFile::parse(&text);
        host.write("/root/form.env", &text);
        let (systemd, podman) = read(&host, "/root/form.env");
        if file.check().is_empty() {
            accepted += 1;
            assert_eq!(systemd.as_ref(), podman.as_ref(), "{form:?} is accepted");
            assert_eq!(podman, Some(agents(&file)), "{form:?} is accepted");
        } else {
            refused += 1;
            differ += usize::from(systemd != podman);
            println!("refused {form:?}: systemd {systemd:?}, podman {podman:?}");
        }
    }
    println!("{accepted} forms accepted, {refused} refused, of which {differ} are read differently here");
    // Some forms are refused because of readers that are not here: another systemd, docker, a shell.
    assert!(accepted >= 30 && differ >= 15, "{accepted} {refused} {differ}");

    // Generated values, many to a file.
    let pieces = [
        "'",
        "\"",
        "\\",
        " ",
        "  ",
        "\t",
        "#",
        ";",
        "=",
        "$",
        "${K1}",
        "$HOME",
        "`id`",
        "$(id)",
        "%n",
        "*",
        "~",
        "!",
        "&",
        "|",
        "<",
        ">",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "?",
        ",",
        ":",
        "/",
        "@",
        "ä",
        "ß",
        "日本",
        "\u{1f600}",
        "\u{a0}",
        "\u{2028}",
        "a",
        "B",
        "0",
        "-",
        "_",
        ".",
        "^",
        "+",
    ];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |end: usize| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    };
    let (mut values, mut turned_down) = (0, 0);
    for round in 0..10 {
        let mut file = EnvFile::default();
        let mut wanted = Env::new();
        while wanted.len() < 300 {
            let value: String = (0..next(9)).map(|_| pieces[next(pieces.len())]).collect();
            let key = format!("K{}", wanted.len());
            if check_value(&value).is_err() {
                turned_down += 1;
                continue;
            }
            file.set(&key, &Secret::new(value.clone())).unwrap();
            wanted.insert(key, value);
        }
        assert_eq!(file.check(), []);
        host.write("/root/many.env", &String::from_utf8(file.render()).unwrap());
        let (systemd, podman) = read(&host, "/root/many.env");
        for (reader, seen) in [("systemd", systemd.unwrap()), ("podman", podman.unwrap())] {
            for (key, value) in &wanted {
                assert_eq!(seen.get(key), Some(value), "{reader}, round {round}");
            }
        }
        values += wanted.len();
    }
    println!("{values} generated values read alike, {turned_down} turned down");
}
