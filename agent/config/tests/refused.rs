//! Refused configs: the location and the text of each error.

use super::*;

/// Each text below a minimal config gives exactly one error, at `line:column`, whose message starts as given.
#[test]
fn one_mistake_is_one_error_at_its_place() {
    for (text, place, message) in [
        ("instnaces = 2", "3:1", "unknown key `instnaces` in [app]"),
        ("[ap]\nx = 1", "3:2", "unknown key `ap` at the top"),
        ("[app.redyness]\npath = \"/\"", "3:6", "unknown key `redyness` in [app]"),
        ("instances = \"2\"", "3:13", "`instances` must be an integer, found a string"),
        ("instances = -1", "3:13", "`instances` must be from 0 to 254, found -1"),
        ("instances = 255", "3:13", "`instances` must be from 0 to 254"),
        ("instances = 99999999999999999999999", "3:13", "`instances` must be from 0 to 254"),
        ("instances = 1.0", "3:13", "`instances` must be an integer, found a decimal"),
        ("instances = 254\n[deploy]\nstrategy = \"surge\"", "3:13", "`instances` may be 253 at most"),
        ("port = 0", "3:8", "`port` must be from 1 to 65535"),
        ("port = 70000", "3:8", "`port` must be from 1 to 65535"),
        ("base_port = 65534", "3:13", "the 2 ports above 65534 go past 65535"),
        ("base_port = 79", "3:13", "port 80 of instance 1 is taken"),
        ("base_port = 441", "3:13", "port 443 of instance 2 is taken"),
        ("base_port = 9079", "3:13", "port 9080 of instance 1 is taken: Caddy's health checks"),
        ("base_port = 9077\n[deploy]\nstrategy = \"surge\"", "3:13", "port 9080 of the spare"),
        ("name = \"Astra\"", "3:8", "`Astra` is not a valid app name"),
        ("name = \"caddy\"", "3:8", "`caddy` is not a valid app name"),
        ("name = \"astra-cron\"", "3:8", "`astra-cron` is not a valid app name"),
        ("engine = \"podmann\"", "3:10", "`podmann` is not a valid `engine`"),
        ("network = \"none\"", "3:11", "`none` is not a valid `network`"),
        ("command = \"a b\"", "3:11", "`command` must be a list of strings, found a string"),
        ("command = [\"\"]", "3:11", "the program in `command` is an empty string"),
        ("command = [\"a\", \"b\\nc\"]", "3:17", "an argument has a line break"),
        ("command = [\"a\", 1]", "3:17", "each item of `command` must be a string, found an integer"),
        ("volumes = [\"/a\"]", "3:12", "`/a` is not a volume"),
        ("volumes = [\"a/b:/c\"]", "3:12", "`a/b` must be an absolute path"),
        ("volumes = [\"~/b:/c\"]", "3:12", "`~/b` begins with `~`"),
        ("volumes = [\"/a/../b:/c\"]", "3:12", "`/a/../b` must not have `..`"),
        ("volumes = [\"/a:c\"]", "3:12", "`c` must be an absolute path"),
        ("volumes = [\"/a:/b:rx\"]", "3:12", "`rx` is not a volume option"),
        ("volumes = [\"/a:/b:ro:x\"]", "3:12", "`/a:/b:ro:x` is not a volume"),
        ("volumes = [\"/a:/b\", \"/a:/b\"]", "3:21", "`/a:/b` is listed twice in `volumes`"),
        ("memory = 512", "3:10", "`memory` must be a string such as \"512M\", found an integer"),
        ("memory = \"512\"", "3:10", "`512` is not a size"),
        ("memory = \"512MB\"", "3:10", "`512MB` is not a size"),
        ("memory = \"0M\"", "3:10", "`memory` must be more than zero"),
        ("memory = \"99999999999999T\"", "3:10", "`99999999999999T` is not a size"),
        ("cpus = nan", "3:8", "`cpus` must be from 0.01 to 1024"),
        ("cpus = -1", "3:8", "`cpus` must be from 0.01 to 1024"),
        ("cpus = inf", "3:8", "`cpus` must be from 0.01 to 1024"),
        ("cpus = \"1\"", "3:8", "`cpus` must be a number, found a string"),
        ("stop_timeout = 10", "3:16", "`stop_timeout` must be a string such as \"30s\", found an integer"),
        ("stop_timeout = 1.5", "3:16", "`stop_timeout` must be a string such as \"30s\", found a decimal"),
        ("stop_timeout = \"0s\"", "3:16", "`stop_timeout` must be more than zero"),
        ("stop_timeout = \"10\"", "3:16", "`10` is not a time"),
        ("stop_timeout = \"1d\"", "3:16", "`1d` is not a time"),
        ("stop_timeout = \"-1s\"", "3:16", "`-1s` is not a time"),
        ("stop_timeout = \"99999999999999999h\"", "3:16", "`99999999999999999h` is not a time"),
        ("stop_timeout = \"\"", "3:16", "`` is not a time"),
        ("warm_up = [\"search\"]", "3:12", "`search` must begin with `/`"),
        ("warm_up = [\"/a?q=x y\"]", "3:12", "`/a?q=x y` has a character that no query of a URL has"),
        ("warm_up = [\"/a\", \"/a\"]", "3:18", "`/a` is listed twice in `warm_up`"),
        ("required_env = [\"A-B\"]", "3:17", "`A-B` is not a valid environment variable name"),
        ("required_env = [\"A\", \"A\"]", "3:22", "`A` is listed twice in `required_env`"),
        ("readiness = 1", "3:1", "`app.readiness` must be a table, found an integer"),
        ("readiness.notify = \"yes\"", "3:20", "`notify` must be true or false"),
        ("readiness.path = \"readyz\"", "3:18", "`readyz` must begin with `/`"),
        ("readiness.path = \"/a b\"", "3:18", "`/a b` has a character"),
        ("readiness.path = \"/{x}\"", "3:18", "`/{x}` has a character"),
        ("[migrate]\ntimeout = \"1m\"", "3:2", "missing key `command` in [migrate]"),
        ("[migrate]\ncommand = []", "4:11", "`command` is empty"),
        ("[migrate]\ncommand = [[\"a\"], []]", "4:11", "`command` is empty"),
        (
            "[migrate]\ncommand = [[\"a\"], \"b\"]",
            "4:19",
            "`command` must be a list of strings, found a string",
        ),
        ("[deploy]\nkeep = 1", "4:8", "`keep` must be from 2 to 100"),
        ("[deploy]\nstrategy = \"Rolling\"", "4:12", "`Rolling` is not a valid `strategy`"),
        ("[deploy]\ndrain_timeout = \"0ms\"", "4:17", "`drain_timeout` must be more than zero"),
        ("[caddy]\nimage = \"caddy:2\"", "4:9", "`caddy` is not an image reference"),
        ("[caddy]\nimage = \"docker.io/a/b@sha256:12\"", "4:9", "`sha256:12` is not a digest"),
        ("[caddy]\nhosts = [\"*.example.org\"]", "4:10", "`*.example.org` is not a host name: a wildcard"),
        ("[caddy]\nhosts = [\"https://a.b\"]", "4:10", "`https://a.b` is not a host name: it has a scheme"),
        ("[caddy]\nhosts = [\"a.b:80\"]", "4:10", "`a.b:80` is not a host name: it has a port"),
        ("[caddy]\nhosts = [\"A.b\"]", "4:10", "`A.b` is not a host name: it has capital letters"),
        ("[caddy]\nhosts = [\"a..b\"]", "4:10", "`a..b` is not a host name: only"),
        ("[caddy]\nhosts = [\"1.2.3.999\"]", "4:10", "`1.2.3.999` is not a host name: only"),
        ("[caddy]\nhosts = [\"a{b\"]", "4:10", "`a{b` is not a host name: only"),
        ("[caddy]\nhosts = [\"localhost\"]", "4:9", "no public CA gives `localhost` a certificate"),
        ("[caddy]\nblock = [\"x\"]", "4:10", "`x` must begin with `/`"),
        ("[caddy]\ntrusted_proxies = [\"10.0.0.1\"]", "4:20", "`10.0.0.1` is not a network in CIDR form"),
        ("[caddy]\ntrusted_proxies = [\"10.0.0.1/8\"]", "4:20", "`10.0.0.1/8` is not a network in CIDR form"),
        (
            "[caddy]\ntrusted_proxies = [\"10.0.0.0/33\"]",
            "4:20",
            "`10.0.0.0/33` is not a network in CIDR form",
        ),
        ("[caddy]\ntrusted_proxies = [\"fd00::1/8\"]", "4:20", "`fd00::1/8` is not a network in CIDR form"),
        ("[caddy]\nextra = \"a\\u0000\"", "4:9", "`extra` has a control character"),
        (
            "[ap]\nimage = \"ghcr.io/a/b:c\"\n[app.readiness]\npath = \"/\"",
            "3:2",
            "unknown key `ap` at the top",
        ),
        ("memory = \"1K\"", "3:10", "`memory` must be at least \"6M\""),
        ("entrypoint = \"sh\"", "3:14", "`entrypoint` must be a list of strings"),
        ("init = \"yes\"", "3:8", "`init` must be true or false"),
        ("stop_signal = \"TERM\"", "3:15", "`TERM` is not a valid `stop_signal`"),
        ("user = \"a b\"", "3:8", "`a b` is not a user"),
        ("user = \"1000:\"", "3:8", "`1000:` is not a user"),
        ("ulimits = 1", "3:11", "`ulimits` must be a table, found an integer"),
        ("ulimits = { nofiles = 1 }", "3:13", "`nofiles` is not a limit"),
        ("ulimits = { nofile = \"2:1\" }", "3:22", "the limit `nofile` must be"),
        ("ulimits = { nofile = -2 }", "3:22", "the limit `nofile` must be"),
        ("add_hosts = { a = \"b\" }", "3:19", "the address of `a` must be an IP address, found `b`"),
        ("add_hosts = { \"a:b\" = \"1.1.1.1\" }", "3:15", "`a:b` is not a host name"),
        ("tmpfs = [\"tmp\"]", "3:10", "`tmp` must be an absolute path"),
        ("tmpfs = [\"/tmp:size\"]", "3:10", "`size` is not an option of a tmpfs"),
        ("cap_drop = [\"all\"]", "3:13", "`all` is not a capability"),
        ("at_most = 2", "3:11", "`at_most` must be from 0 to 1"),
        ("[env]\n\"A-B\" = \"x\"", "4:1", "`A-B` is not a valid environment variable name"),
        ("[env]\nAPP_IMAGE = \"x\"", "4:1", "`APP_IMAGE` is the agent's own"),
        ("[env]\nASTRA_ENV = \"x\"", "4:1", "`ASTRA_ENV` is the agent's own"),
        ("[env]\nA = 8000", "4:5", "`A` must be a string, found an integer"),
        ("[env]\nA = true", "4:5", "`A` must be a string, found true or false"),
        ("[env]\nA = \"'x'\"", "4:5", "the value of `A` cannot be written: its value begins with a quote"),
        ("[env]\nA = \"x \"", "4:5", "the value of `A` cannot be written: its value has a trailing space"),
        ("[env]\nA = 'x\\y'", "4:5", "the value of `A` cannot be written: its value has a backslash"),
        ("[env]\nA = \"x\\ny\"", "4:5", "the value of `A` cannot be written: it has a line break"),
        ("[env]\nA = {}", "4:5", "`A` must have exactly one of: generate, file, host"),
        ("[env]\nA = { also = [\"x\"] }", "4:7", "`also` stands beside `host` alone"),
        ("[env]\nA = { host = \"ipv6\", alos = 1 }", "4:22", "unknown key `alos` beside `host` for `A`"),
        ("[env]\nA = { host = \"tags/instance/..\" }", "4:14", "unknown fact of an EC2 instance"),
        ("[env]\nA = { host = [\"public_ipv4\"] }", "4:14", "unknown fact of an EC2 instance `public_ipv4`"),
        ("[env]\nA = { host = [] }", "4:14", "`host` needs a fact of the EC2 instance"),
        (
            "[env]\nA = { host = \"ipv6\", also = \"a,b\" }",
            "4:29",
            "text 1 of `also` cannot be written: it has a comma",
        ),
        ("[env]\nA = { host = 1 }", "4:14", "`host` must be a string or a list of strings, found an integer"),
        ("[env]\nA = { generate = 8, file = \"/x\" }", "4:5", "`A` must have exactly one of"),
        ("[env]\nA = { generate = 0 }", "4:18", "`generate` must be a length from 8 to 1024"),
        ("[env]\nA = { generate = \"64\" }", "4:18", "`generate` must be an integer, found a string"),
        ("[env]\nA = { file = \"x\" }", "4:14", "`x` must be an absolute path"),
        ("[env]\nA = { fiel = \"/x\" }", "4:7", "unknown source `fiel` for `A`"),
        (
            "[env]\nA = { secret = \"a\", key = \"b\", x = 1 }",
            "4:32",
            "unknown key `x` beside `secret` for `A`",
        ),
        ("[env]\nA = { secret = \"a b\" }", "4:16", "this is neither the name nor the ARN of a secret"),
        ("[env]\nA = { secret = \"arn:aws:ssm:eu-west-1:1:x\" }", "4:16", "this is not the ARN of a secret"),
        (
            "[env]\nA = { parameter = \"arn:aws:ssm:x.example/:1:x\" }",
            "4:19",
            "this is not the ARN of a parameter",
        ),
        ("[env]\nA = { secret = \"a\", key = \"\" }", "4:27", "`key` is empty"),
        (
            "[env]\nA = { parameter = \"a\", key = \"b\" }",
            "4:24",
            "`key` stands beside `secret` alone, in `A`",
        ),
        ("[env]\nA = { parameter = 1 }", "4:19", "`parameter` must be a string, found an integer"),
        ("[aws]\nregion = \"Frankfurt\"", "4:10", "`Frankfurt` is not a region of AWS"),
        ("[aws]\nendpoint = \"http://10.0.0.1\"", "4:12", "`endpoint` must begin with https://"),
        ("[aws]\nendpoint = \"https://a/b\"", "4:12", "`endpoint` must be a scheme and an address"),
        ("cron_jobs = 1", "3:1", "unknown key `cron_jobs` in [app]"),
        ("[cron_jobs]\nname = \"x\"", "3:2", "`cron_jobs` must be a list of tables"),
    ] {
        let errors = errors(text);
        let [error] = &errors[..] else { panic!("{text}: {}", ConfigErrors(errors)) };
        let at = error.place.as_ref().map(|p| format!("{}:{}", p.line, p.column)).unwrap_or_default();
        assert_eq!(at, place, "{text}: {error}");
        assert!(error.message.starts_with(message), "{text}: {error}");
    }
}

#[test]
fn cron_jobs() {
    for (keys, message) in [
        ("minute = \"60\"\nrun = [\"x\"]", "`60` is not a cron minute"),
        ("minute = 5\nrun = [\"x\"]", "`minute` must be a string, found an integer"),
        ("hour = \"24\"\nrun = [\"x\"]", "`24` is not a cron hour"),
        (
            "day = \"30\"\nmonth = \"2\"\nrun = [\"x\"]",
            "`30` is not a cron day: no month in `2` has that day",
        ),
        ("weekday = \"8\"\nrun = [\"x\"]", "`8` is not a cron weekday"),
        ("minute = \"@reboot\"\nrun = [\"x\"]", "`@reboot` is not a cron minute"),
        ("every = \"0s\"\nrun = [\"x\"]", "`every` must be more than zero"),
        ("every = \"500ms\"\nrun = [\"x\"]", "`every` must be at least \"1s\""),
        ("every = 10\nrun = [\"x\"]", "`every` must be a string such as \"30s\""),
        ("every = \"1m\"\nhour = \"1\"\nrun = [\"x\"]", "`every` and `hour` exclude each other"),
        ("run = [\"x\"]\ncommand = \"x\"", "`command` and `run` exclude each other"),
        ("hour = \"1\"", "a cron job needs `command`"),
        ("run = []", "`run` is empty"),
        ("run = \"x y\"", "`run` must be a list of strings"),
        ("command = \"\"", "`command` is empty"),
        ("command = 1", "`command` must be a string"),
        ("command = \"a | b\"", "`|` means something to a shell only"),
        ("command = \"a\\nb\"", "a line break means something to a shell only"),
        ("command = [\"a\", \"b\\nc\"]", "an argument has a line break"),
        ("command = \"A=1 b\"", "a command cannot begin with an assignment"),
        ("command = \"./a\"", "`./a` must be an absolute path"),
        ("command = \"-a\"", "`-a` must be an absolute path"),
        ("command = \"@/bin/sh\"", "`@/bin/sh` must be an absolute path"),
        ("command = \"a\"\ntimeout = \"0s\"", "`timeout` must be more than zero"),
        ("command = \"a\"\nuser = \"root\"", "unknown key `user` in [[cron_jobs]]"),
        ("command = \"a\"\nentrypoint = [\"sh\"]", "`entrypoint` goes with `run`"),
        ("command = \"a\"\nenv = { A = \"1\" }", "`env` goes with `run`"),
        ("run = [\"a\"]\nenv = { A = 1 }", "`A` must be a string, found an integer"),
        ("run = [\"a\"]\nenv = { A = { secret = \"x\" } }", "`A` must be a string, found a table"),
        ("run = [\"a\"]\nenv = { APP_ARGS = \"1\" }", "`APP_ARGS` is the agent's own"),
        ("run = [\"a\"]\nenv = { A = \" x\" }", "the value of `A` cannot be written"),
    ] {
        let text = format!("[[cron_jobs]]\nname = \"a\"\n{keys}\n");
        let errors = errors(&text);
        let [error] = &errors[..] else { panic!("{text}: {}", ConfigErrors(errors)) };
        assert!(error.message.starts_with(message), "{text}: {error}");
    }
    let job = |name: &str| format!("[[cron_jobs]]\nname = \"{name}\"\nrun = [\"x\"]\n");
    let bad: String = ["A", "a_b", "a\\nb", "../x"].map(job).concat();
    assert_eq!(errors(&bad).len(), 4);
    assert!(errors(&job("a").replace("name = \"a\"\n", ""))[0].message.starts_with("missing key `name`"));
    assert!((0..257).map(|n| job(&format!("j{n}"))).collect::<String>().pipe(|t| errors(&t)).len() == 1);
}

trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}
impl Pipe for String {}

#[test]
fn a_value_of_the_wrong_type_is_shown_as_it_should_be() {
    for (text, help) in [
        ("command = \"./migrate.sh --all\"", "write [\"./migrate.sh\", \"--all\"]"),
        ("[caddy]\nhosts = \"a.example.org\"", "write [\"a.example.org\"]"),
        ("instances = \"2\"", "write 2, without quotes"),
        ("cpus = \"1.5\"", "write 1.5, without quotes"),
        ("init = \"true\"", "write true"),
        ("stop_timeout = 10", "add a unit, e.g. \"10s\""),
        ("memory = 512", "add a unit, e.g. \"512M\""),
        ("engine = 1", "put it in quotes: \"1\""),
    ] {
        let errors = errors(text);
        assert_eq!(errors[0].help, [help], "{text}");
    }
    assert!(errors("command = [1]")[0].help.is_empty());
    assert!(errors("[env]\nA = [\"x\"]")[0].help.is_empty());
}

#[test]
fn a_duplicate_job_names_both_locations() {
    let job = "\n[[cron_jobs]]\nname = \"a\"\nrun = [\"x\"]\n";
    let errors = parse(&files(&[&format!("{MINIMAL}{job}"), job])).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "agent.d/1.toml:3:8: cron job `a` is defined twice\n  |\n3 | name = \"a\"\n  |        ^^^\n  = the other one is at agent.toml:5:8"
    );
}

#[test]
fn all_errors_of_all_files_come_at_once() {
    let errors = parse(&files(&[
        "[app]\nimage = \"astra\"\nport = 0\nwrong = 1\n[deploy]\nkeep = 0\n",
        "nothing = 1\n[app]\nengine = \"lxc\"\n",
    ]))
    .unwrap_err();
    let places: Vec<_> =
        errors.0.iter().map(|e| (e.file.to_str().unwrap(), e.place.as_ref().unwrap().line)).collect();
    let (a, b) = ("agent.toml", "agent.d/1.toml");
    assert_eq!(places, [(a, 2), (a, 3), (a, 4), (a, 6), (b, 1), (b, 3)], "{errors}");
}

#[test]
fn an_error_shows_its_line() {
    assert_eq!(
        ConfigErrors(errors("\tinstnaces = 2 # two")).to_string(),
        "agent.toml:3:2: unknown key `instnaces` in [app]\n  |\n3 | \tinstnaces …\n  | \t^^^^^^^^^\n  = did you mean `instances`?\n  = known keys: name, image, engine, instances, base_port, port, network, command, volumes, memory, cpus, stop_timeout, entrypoint, init, stop_signal, user, ulimits, add_hosts, calls, healthcheck, read_only, tmpfs, shm_size, cap_drop, cap_add, at_most, required_env, warm_up, readiness, route"
    );
    assert_eq!(
        ConfigErrors(errors("# ä\nengine = \"podmna\"")).to_string(),
        "agent.toml:4:10: `podmna` is not a valid `engine`\n  |\n4 | engine = \"podmna\"\n  |          ^^^^^^^^\n  = did you mean `podman`?\n  = known values: auto, podman, docker"
    );
    let shown = ConfigErrors(errors("engine = \"a\u{0}b\u{1b}[1m\"")).to_string();
    assert!(shown.contains("a\u{fffd}b\u{fffd}[1m") && !shown.contains(['\u{0}', '\u{1b}']), "{shown:?}");
    let text = parse(&[]).unwrap_err().to_string();
    assert!(text.starts_with("/etc/astra/agent.toml: missing key `image` in [app]"), "{text}");
    assert!(
        parse(&files(&["[app]\nport = 1"]))
            .unwrap_err()
            .to_string()
            .starts_with("agent.toml:1:2: missing key")
    );
}

#[test]
fn no_error_shows_a_value_of_env() {
    for text in [
        "[env]\nA = \"'hunter2'\"",
        "[env]\nA = ['hunter2']",
        "[env]\nA = \"hunter2\\n\"",
        "[env]\nA = { secret = \"hunter2 \" }",
        "[env]\nA = { parameter = [\"hunter2\"] }",
        "[env]\nA = { generate = \"hunter2\" }",
        "[env]\nAPP_ARGS = \"hunter2\"",
        "[env]\nA-B-C = \"hunter2\"",
        "SECRET_KEY = \"hunter2\"",
        "[env]\nA = \"hunter2",
        "[env]\nA = hunter2",
        "[env]\nA = \"hunter2\\q\"",
        "[env]\nA = \"hunter2\" x",
        "[env]\nA = \"\"\"\nhunter2 \\q\n\"\"\"",
        "[env]\nA = \"1\"\nA = \"hunter2\"",
        "[ env ]\nA = hunter2",
        "[\"env\"]\nA = hunter2",
    ] {
        let shown = ConfigErrors(errors(text));
        assert!(
            !shown.to_string().contains("hunter2") && !format!("{shown:?}").contains("hunter2"),
            "{shown}"
        );
    }
    for text in ["env.A = hunter2\n", "env = { A = 'hunter2\n", "env = { B = \"hunter2\", A = \" \" }\n"] {
        let shown = parse(&files(&[text])).unwrap_err();
        assert!(!shown.to_string().contains("hunter2"), "{shown}");
    }
    // A variable in the wrong table stays hidden; a key of the config is shown, so that it can be fixed.
    let astray =
        parse(&files(&["[caddy]\nhosts = [x\n", "[deploy]\nPASSWORD = \"hunter2\nsoak = 1x\n"])).unwrap_err();
    let shown = astray.to_string();
    assert!(!shown.contains("hunter2") && shown.contains("soak = 1x") && shown.contains("[x"), "{shown}");
    assert!(!format!("{:?}", good(&[MINIMAL, "env.A = \"hunter2\""])).contains("hunter2"));
}

#[test]
fn invalid_toml() {
    assert!(parse(&files(&[MINIMAL, "[app]\nport = 1\nport = 2\n"])).is_err());
    assert!(parse(&files(&[MINIMAL, "port\n"])).is_err());
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(&files(&[MINIMAL, &deep])).is_err());
    assert_eq!(good(&[MINIMAL, ""]), good(&[&format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"))]));
    let two = parse(&files(&["[app]\nimage = x y\nport = = 3\n"])).unwrap_err();
    assert!(two.0.len() >= 2 && two.0.iter().all(|e| e.message.starts_with("not valid TOML")), "{two}");
    let both = parse(&files(&["[app]\nimage = x y\nport = 0\nsoak = 1\n"])).unwrap_err();
    let lines: std::collections::BTreeSet<_> =
        both.0.iter().map(|e| e.place.as_ref().unwrap().line).collect();
    assert_eq!(lines, [2, 3, 4].into(), "what stands around a broken line is still judged: {both}");
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "(\\[?[a-z_.]{1,8}\\]?( ?= ?(\"\\PC{0,8}\"|[0-9.e-]{1,6}|\\{ [a-z]{1,4} = 1 \\}))?\n){0,6}|\\PC{0,40}") {
        if let Err(errors) = parse(&files(&[MINIMAL, &text])) {
            let _ = errors.to_string();
        }
    }
}
