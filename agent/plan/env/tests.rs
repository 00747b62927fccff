//! The environment from its sources.

use super::*;

fn config(env: &str) -> Config {
    let text = format!(
        "app.image = \"ghcr.io/a/b:c\"\napp.required_env = [\"A\", \"S\", \"P\", \"E\"]\n[env]\n{env}"
    );
    crate::config::parse(&[("agent.toml".into(), text)]).unwrap()
}

fn values(pairs: &[(&str, &str)]) -> BTreeMap<EnvKey, Secret> {
    pairs.iter().map(|(k, v)| (k.parse().unwrap(), Secret::new(*v))).collect()
}

fn none() -> Staged {
    Staged::default()
}

fn names<'k>(keys: impl IntoIterator<Item = &'k EnvKey>) -> Vec<&'k str> {
    keys.into_iter().map(EnvKey::as_str).collect()
}

fn strict(
    config: &Config,
    current: &EnvFile,
    staged: &Staged,
    given: &BTreeMap<EnvKey, Secret>,
) -> Result<Wanted, BadEnv> {
    desired(config, current, staged, given, Mute::Refuse)
}

#[test]
fn literals_and_files_are_set_and_the_rest_is_kept() {
    let config = config("A = \"new\"\nF = { file = \"/x\" }\n");
    let old = EnvFile::parse("# c\nA=old\nF=same\nOTHER='as it is'\n");
    let new = strict(&config, &old, &none(), &values(&[("F", "same")])).unwrap().file;
    assert_eq!(new.render(), b"# c\nA=new\nF=same\nOTHER='as it is'\n");
    assert_eq!(names(&changed(&old, &new)), ["A"]);
    assert_eq!(strict(&config, &new, &none(), &values(&[("F", "same")])).unwrap().file, new, "it converges");
}

#[test]
fn a_generated_value_is_made_once() {
    let config = config("S = { generate = 32 }\n");
    let given = values(&[("S", "made")]);
    for (before, after) in [
        ("", "S=made\n"),
        ("S=\n", "S=made\n"),
        ("S=...\n", "S=made\n"),
        ("S=.....\n", "S=made\n"),
        ("S=kept\n", "S=kept\n"),
    ] {
        let env = strict(&config, &EnvFile::parse(before), &none(), &given).unwrap();
        assert_eq!(String::from_utf8(env.file.render()).unwrap(), after, "{before:?}");
        assert_eq!(names(env.made.keys()), if after == "S=made\n" { vec!["S"] } else { vec![] });
    }
    assert!(strict(&config, &EnvFile::parse("S=kept"), &none(), &BTreeMap::new()).is_ok());
    let error = strict(&config, &EnvFile::default(), &none(), &BTreeMap::new()).unwrap_err();
    assert_eq!(error, BadEnv::NoValue { key: "S".parse().unwrap() });
    let unread = [("S".parse().unwrap(), "reading /root/s: Permission denied".to_owned())].into();
    assert!(error.told(&unread).ends_with("its source gave no value: reading /root/s: Permission denied"));
    assert!(error.told(&BTreeMap::new()).ends_with("its source gave no value"));
    // One that a run which was taken back has made is found again.
    let staged = Staged::parse(b"S=first\n");
    let again = strict(&config, &EnvFile::default(), &staged, &given).unwrap();
    assert_eq!((again.file.render(), again.made.len()), (b"S=first\n".to_vec(), 0));
}

#[test]
fn what_was_set_comes_before_what_is_there_and_after_what_the_config_says() {
    let config = config("A = \"config\"\nS = { generate = 32 }\n");
    let (old, staged) = (
        EnvFile::parse("A=1\nS=old\nP=1\nE=1\nGO=1\n"),
        Staged::parse(b"A=2\nS=mine\nP=2\nN=2\n# unset GO\n"),
    );
    let new = strict(&config, &old, &staged, &values(&[("S", "made")])).unwrap().file;
    assert_eq!(new.render(), b"A=config\nS=mine\nP=2\nE=1\nN=2\n");
    assert_eq!(names(&changed(&old, &new)), ["A", "GO", "N", "P", "S"]);
}

#[test]
fn what_leaves_the_config_leaves_the_file_and_a_line_of_ones_own_stays() {
    let managed = format!("APP_IMAGE=ghcr.io/a/b@sha256:{}\nASTRA_RELEASE=3\n", "0a".repeat(32));
    let old = EnvFile::parse(format!("{managed}ASTRA_CONFIG_KEYS=A B\nA=1\nB=2\nOWN=3\nS=made\n"));
    let config = config("A = \"1\"\n");
    let new = strict(&config, &old, &none(), &BTreeMap::new()).unwrap().file;
    assert_eq!(names(&changed(&old, &new)), ["B"]);
    assert!(new.get("B").is_none() && new.get("OWN").is_some());
    // Set by hand since, it is one's own.
    let staged = Staged::parse(b"B=4\n");
    let new = strict(&config, &old, &staged, &BTreeMap::new()).unwrap().file;
    assert_eq!(new.get("B").unwrap().reveal(), "4");
    assert_eq!(names(&recorded(&super::tests::config("A = \"1\"\nS = { generate = 32 }\n"))), ["A"]);
}

#[test]
fn the_way_back_keeps_the_value_whose_source_is_mute() {
    let config = config("A = \"new\"\nF = { file = \"/gone\" }\n");
    let old = EnvFile::parse("A=old\nF=committed\n");
    let back = desired(&config, &old, &none(), &BTreeMap::new(), Mute::Keep).unwrap();
    assert_eq!(back.file.render(), b"A=new\nF=committed\n");
    assert_eq!(names(&back.kept), ["F"]);
    let refused = |old: &EnvFile, mute| desired(&config, old, &none(), &BTreeMap::new(), mute).is_err();
    assert!(refused(&old, Mute::Refuse) && refused(&EnvFile::default(), Mute::Keep));
}

#[test]
fn a_value_that_cannot_be_written_is_refused_unseen() {
    let config = config("F = { file = \"/x\" }\n");
    let error = strict(&config, &EnvFile::default(), &none(), &values(&[("F", "'hunter2'")])).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert!(error.to_string().starts_with("setting F in the env file: "));
}

#[test]
fn required_names() {
    let env = EnvFile::parse("A=1\nP=....\nE=\n");
    assert_eq!(names(&missing(&config(""), &env)), ["S", "P", "E"]);
}

#[test]
fn managed_lines_are_no_change() {
    let (old, new) =
        (EnvFile::parse("APP_ARGS=x\nB=1\nC.D=1\n"), EnvFile::parse("ASTRA_RELEASE=2\nC.D=2\nN=\n"));
    assert_eq!(names(&changed(&old, &new)), ["B", "N"]);
}
