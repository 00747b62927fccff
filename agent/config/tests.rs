//! The whole config: what is accepted, what is refused and where, and that the reference, the manual and the
//! code agree.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

mod docs;
mod manual;
mod refused;
mod schema;
mod services;
mod show;

pub(super) const MINIMAL: &str = "[app]\nimage = \"ghcr.io/almalinux/astra:latest\"\n";
/// The contract as it was agreed on, word for word.
pub(super) const CONTRACT: &str = include_str!("tests/contract.toml");
pub(super) const MANUAL: &str = include_str!("../../packaging/agent.toml");

pub(super) fn files(texts: &[&str]) -> Vec<(PathBuf, String)> {
    let name = |n| if n == 0 { "agent.toml".to_owned() } else { format!("agent.d/{n}.toml") };
    texts.iter().enumerate().map(|(n, text)| (PathBuf::from(name(n)), (*text).to_owned())).collect()
}

pub(super) fn good(texts: &[&str]) -> Config {
    parse(&files(texts)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn web(config: &Config) -> &Web {
    config.app.web().unwrap()
}

/// The errors of a minimal config with `text` below it.
pub(super) fn errors(text: &str) -> Vec<ConfigError> {
    parse(&files(&[&format!("{MINIMAL}{text}")])).expect_err(text).0
}

#[test]
fn an_image_is_enough() {
    let config = good(&[MINIMAL]);
    assert_eq!(config, good(&["app.image = \"ghcr.io/almalinux/astra\""]));
    assert_eq!(config.name.as_str(), "astra");
    assert_eq!((config.app.instances, web(&config).base_port, web(&config).port), (2, 8000, 8000));
    assert_eq!((config.engine, config.app.network), (None, Network::Bridge));
    assert_eq!((config.app.memory, config.app.cpus, config.app.migrate.is_none()), (None, None, true));
    assert!(!config.app.readiness.notify && !config.deploy.auto);
    assert_eq!((config.app.strategy, config.deploy.keep), (Strategy::Rolling, 3));
    assert_eq!((config.deploy.soak, config.deploy.min_free), (Duration::from_secs(5), 1 << 30));
    assert_eq!(config.caddy.tls, Tls::Acme);
}

#[test]
fn the_contract_works() {
    let config = good(&[CONTRACT]);
    let secret = EnvSource::Secret { id: "prod/astra/db".into(), key: Some("password".into()) };
    assert_eq!(config.env[&"DATABASE_PASSWORD".parse().unwrap()], secret);
    let parameter = EnvSource::Parameter("/astra/prod/sentry_dsn".into());
    assert_eq!(config.env[&"SENTRY_DSN".parse().unwrap()], parameter);
    assert_eq!(config.app.memory, Some(768 << 20));
    assert_eq!(config.app.cpus, Some(1.0));
    assert_eq!(config.app.volumes.len(), 1);
    assert_eq!(config.env.len(), 7);
    let hosts = EnvSource::Host {
        facts: vec!["public-hostname".into(), "public-ipv4".into()],
        also: vec!["localhost".into(), "127.0.0.1".into()],
    };
    assert_eq!(config.env[&"ALLOWED_HOSTS".parse().unwrap()], hosts);
    assert_eq!(config.app.migrate.as_ref().unwrap().commands, [["migrate.sh"]]);
    let several = good(&[MINIMAL, "[migrate]\ncommand = [[\"prisma\", \"migrate\"], [\"./manage.py\"]]\n"]);
    assert_eq!(several.app.migrate.unwrap().commands, [&["prisma", "migrate"][..], &["./manage.py"]]);
    let [daily, mail] = &config.cron_jobs[..] else { panic!() };
    assert_eq!(daily.when, Schedule::Calendar(vec!["*-*-* 00:00:00".to_owned()]));
    let argv = ["podman", "exec", "astra-app-1", "python", "manage.py", "operations_daily"];
    assert_eq!(daily.what, CronCommand::Command(argv.map(str::to_owned).to_vec()));
    assert_eq!(mail.when, Schedule::Every(Duration::from_secs(10)));
    assert_eq!((mail.timeout, daily.timeout), (Duration::from_secs(300), Duration::from_secs(3600)));
    let container = &config.app.container;
    assert_eq!(
        (container.user.as_deref(), &container.tmpfs[..]),
        (Some("1000:1000"), &["/tmp".to_owned()][..])
    );
    assert_eq!(container.ulimits["nofile"], "65536:65536");
    assert_eq!(container.add_hosts["ipa.example.org"], "10.0.0.9");
    assert!(!config.app.at_most_one && container.healthcheck);
}

#[test]
fn one_instance_surges() {
    let strategy = |text: &str| good(&[&format!("{MINIMAL}{text}")]).app.strategy;
    assert_eq!(strategy("instances = 1"), Strategy::Surge);
    assert_eq!(strategy("instances = 1\n[deploy]\nstrategy = \"rolling\""), Strategy::Rolling);
    assert_eq!(strategy("[deploy]\nstrategy = \"surge\""), Strategy::Surge);
}

#[test]
fn a_job_probably_meant_for_every_hour_gets_a_notice() {
    let notices = |keys: &str| {
        let config = good(&[&format!("{MINIMAL}[[cron_jobs]]\nrun = [\"x\"]\n{keys}\n")]);
        config.notices.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for keys in [
        "name = \"a\"\nminute = \"*/15\"",
        "name = \"a\"\nminute = \"0,30\"",
        "name = \"sync-hourly\"",
        "name = \"hourly\"\nminute = \"5\"",
    ] {
        let found = notices(keys);
        let [notice] = &found[..] else { panic!("{keys}: {found:?}") };
        assert!(notice.contains("without `hour`") && notice.contains("write hour = \"*\""), "{notice}");
    }
    for keys in [
        "name = \"a\"\nminute = \"30\"",
        "name = \"a\"\nminute = \"*/15\"\nhour = \"0\"",
        "name = \"sync-hourly\"\nhour = \"*\"",
        "name = \"sync-hourly\"\nevery = \"1h\"",
        "name = \"nightly\"",
    ] {
        assert_eq!(notices(keys), [""; 0], "{keys}");
    }
}

#[test]
fn times_may_have_several_units() {
    for (text, seconds) in
        [("1h30m", 5400.0), ("1m30s", 90.0), ("1h1m1s1ms", 3661.001), ("2m", 120.0), ("1s500ms", 1.5)]
    {
        assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
    }
    for text in ["30m1h", "1h1h", "1h 30m", "1h30", "h", "1.5h", "1hm"] {
        assert!(duration(text).unwrap_err().contains("is not a time"), "{text}");
    }
}

#[test]
fn at_most_one_excludes_two_copies() {
    let config = good(&[&format!("{MINIMAL}instances = 1\nat_most = 1")]);
    assert_eq!(
        (config.app.at_most_one, config.app.strategy, config.app.spare()),
        (true, Strategy::Rolling, None)
    );
    assert!(errors("at_most = 1")[0].to_string().contains("write `instances = 1`"));
    let surge = errors("instances = 1\nat_most = 1\n[deploy]\nstrategy = \"surge\"");
    assert!(surge[0].message.starts_with("`surge` starts a second copy"), "{}", surge[0]);
}

#[test]
fn fragments_override_keys_and_add_jobs() {
    let job = |name: &str| format!("[[cron_jobs]]\nname = \"{name}\"\nrun = [\"x\"]\n");
    let config = good(&[
        &format!(
            "{MINIMAL}instances = 3\n[app.readiness]\npath = \"/a\"\n[env]\nA = \"1\"\nB = \"1\"\n{}",
            job("one")
        ),
        &format!("app.readiness.timeout = \"1m\"\n[env]\nB = {{ file = \"/b\" }}\nC = \"3\"\n{}", job("two")),
        "[app]\ninstances = 4\ncommand = [\"a\"]\n",
    ]);
    assert_eq!((config.app.instances, web(&config).path.as_str()), (4, "/a"));
    assert_eq!(config.app.readiness.timeout, Duration::from_secs(60));
    assert_eq!(config.env.len(), 3);
    assert_eq!(config.env[&"B".parse().unwrap()], EnvSource::File("/b".into()));
    assert_eq!(config.cron_jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
}

#[test]
fn an_empty_field_is_the_default() {
    let job = "[[cron_jobs]]\nname = \"a\"\nminute = \"\"\nhour = \"\"\nday = \"\"\nmonth = \"\"\nweekday = \"\"\nrun = [\"x\"]\n";
    let config = good(&[&format!("{MINIMAL}{job}")]);
    assert_eq!(config.cron_jobs[0].when, Schedule::Calendar(vec!["*-*-* 00:00:00".to_owned()]));
    let every = "[[cron_jobs]]\nname = \"a\"\nminute = \"\"\nevery = \"1h\"\ncommand = \"true\"\n";
    assert_eq!(
        good(&[&format!("{MINIMAL}{every}")]).cron_jobs[0].when,
        Schedule::Every(Duration::from_secs(3600))
    );
}

#[test]
fn commands_split_like_a_shell_would() {
    for (text, words) in [
        ("a b  c", &["a", "b", "c"][..]),
        ("a 'b  c' \"d e\"", &["a", "b  c", "d e"]),
        ("a b'c'\"d\"e", &["a", "bcde"]),
        ("a '' \"\"", &["a", "", ""]),
        (r#"a b\ c \" "\"\\\$\x" '\'"#, &["a", "b c", "\"", "\"\\$\\x", "\\"]),
        ("a '|&;<>$`()*?' \\* x#y x~", &["a", "|&;<>$`()*?", "*", "x#y", "x~"]),
        ("a --b=c d=e", &["a", "--b=c", "d=e"]),
        ("", &[]),
    ] {
        assert_eq!(words::split(text).unwrap(), words, "{text}");
    }
    for text in [
        "a | b",
        "a & b",
        "a; b",
        "a < b",
        "a > b",
        "a $B",
        "a `b`",
        "a (b",
        "a b)",
        "a *",
        "a ?",
        "a [b]",
        "a\nb",
        "a \"$B\"",
        "a \"`b`\"",
        "a 'b",
        "a \"b",
        "a \\",
        "a # b",
        "a ~/b",
    ] {
        assert!(words::split(text).is_err(), "{text}");
    }
}

#[test]
fn files_below_a_root() {
    let root = std::env::temp_dir().join(format!("astra-config-{}", std::process::id()));
    let dir = root.join("etc/astra/agent.d");
    std::fs::create_dir_all(&dir).unwrap();
    let write = |path: &str, bytes: &[u8]| std::fs::write(root.join("etc/astra").join(path), bytes).unwrap();
    assert!(load(&root).unwrap_err().to_string().contains("etc/astra/agent.toml: reading the configuration"));
    write("agent.toml", MINIMAL.as_bytes());
    write("agent.d/20.toml", b"app.instances = 5\n");
    write("agent.d/10.toml", b"\xef\xbb\xbfapp.instances = 4\r\napp.port = 9\r\n");
    for ignored in ["agent.d/30.toml~", "agent.d/.30.toml", "agent.d/30.toml.rpmsave"] {
        write(ignored, b"broken");
    }
    let config = load(&root).unwrap();
    assert_eq!((config.app.instances, web(&config).port), (5, 9));
    assert_eq!(config.notices, []);
    write("agent.d/25.tml", b"app.instances = 9\n");
    let config = load(&root).unwrap();
    let [notice] = &config.notices[..] else { panic!("{:?}", config.notices) };
    assert_eq!(config.app.instances, 5);
    assert!(notice.to_string().contains("agent.d/25.tml: this file is not read"), "{notice}");
    assert_eq!(load_one(&root.join("etc/astra/agent.toml")).unwrap(), good(&[MINIMAL]));
    write("agent.d/40.toml", b"# \n# \xff\n");
    write("agent.d/60.toml", b"\xff\xfe[\0a\0p\0p\0]\0");
    write("agent.d/50.toml", &vec![b'#'; (1 << 20) + 1]);
    let errors = load(&root).unwrap_err().to_string();
    std::fs::remove_dir_all(&root).unwrap();
    assert!(errors.contains("40.toml: line 2 is not valid UTF-8\n = save it as UTF-8"), "{errors}");
    assert!(errors.contains("60.toml: the file is UTF-16\n = save it as UTF-8"), "{errors}");
    assert!(
        errors.contains("40.toml: line 2 is not valid UTF-8") && errors.contains("larger than 1 MiB"),
        "{errors}"
    );
}
