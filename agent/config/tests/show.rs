//! `config show`: every setting that is in force, and where it comes from.

use std::path::PathBuf;

use super::super::{Setting, parse, settings};
use super::*;

fn shown(texts: &[(&str, &str)]) -> Vec<Setting> {
    let files: Vec<_> = texts.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    settings(&files).unwrap()
}

fn line(setting: &Setting) -> String {
    let Setting { table, key, value, place } = setting;
    format!("{table} {key} = {value} # {}", place)
}

#[test]
fn a_later_file_is_above_an_earlier_one() {
    let base = "[app]\nimage = \"a.example/b:1\"\ninstances = 2\n[services.worker]\nenv.ROLE = \"x\"\n";
    let all = shown(&[("agent.toml", base), ("prod.toml", "app.instances = 4\n[deploy]\nsoak = \"9s\"\n")]);
    let given: Vec<_> = all.iter().map(line).collect();
    assert_eq!(
        given,
        [
            "[app] image = \"a.example/b:1\" # agent.toml:2:1",
            "[app] instances = 4 # prod.toml:1:5",
            "[services.worker] env = { ROLE = \"x\" } # agent.toml:5:1",
            "[deploy] soak = \"9s\" # prod.toml:3:1",
        ]
    );
}

#[test]
fn secrets_are_masked_and_their_sources_are_not() {
    let text = format!(
        "{MINIMAL}[env]\nA = \"canary\"\nB = {{ generate = 16 }}\n[files.a]\ncontent = \"canary\"\n\
         mount = {{ services = [\"app\"], path = \"/a\" }}\n[caddy]\nextra = \"header X canary\"\n\
         headers_up = {{ A = \"canary\" }}\n"
    );
    let all: Vec<_> = shown(&[("agent.toml", &text)]).iter().map(line).collect();
    assert!(!all.iter().any(|line| line.contains("canary")), "{all:?}");
    for wanted in [
        "[env] A = \"***\"",
        "[env] B = { generate = 16 }",
        "[files.a] content = \"***\"",
        "[files.a.mount] path = \"/a\"",
    ] {
        assert!(all.iter().any(|line| line.starts_with(wanted)), "{wanted}: {all:?}");
    }
}

/// Written as a config again, it is the same one.
#[test]
fn what_is_shown_is_a_valid_configuration() {
    let manual: String = MANUAL
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '['))
                .unwrap_or(line)
                .to_owned()
                + "\n"
        })
        .collect();
    let all = shown(&[("agent.toml", &manual)]);
    let mut text = String::new();
    let mut table = String::new();
    for Setting { table: of, key, value, .. } in &all {
        if *of != table || (of.starts_with("[[") && key == "name") {
            text.push_str(&format!("{of}\n"));
            table.clone_from(of);
        }
        text.push_str(&format!("{key} = {value}\n"));
    }
    let (mut before, mut after) = (good(&[&manual]), good(&[&text]));
    // Masked values are texts as well.
    for config in [&mut before, &mut after] {
        config.env.clear();
        config.env_places.clear();
        config.files.clear();
        config.caddy.extra.clear();
        config.caddy.headers_up.clear();
    }
    assert_eq!(after, before);
    assert!(parse(&[("a".into(), text)]).is_ok());
}

#[test]
fn an_invalid_configuration_is_not_shown() {
    assert!(settings(&[("agent.toml".into(), "[app]\nimage = 1\n".to_owned())]).is_err());
}
