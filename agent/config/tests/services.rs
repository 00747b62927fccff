//! `[services.NAME]`: defaults, kinds, and what excludes each other.

use super::*;

const WORKER: &str = "[services.worker]\ncommand = [\"work\"]\n";
const API: &str = "[services.api]\nport = 3000\nbase_port = 8100\nroute.path = \"/api\"\n";

#[test]
fn services_come_after_the_app_in_the_order_of_a_deploy() {
    let config = good(&[&format!("{MINIMAL}{WORKER}{API}[services.beat]\nat_most = 1\n")]);
    let names: Vec<_> = config.services().map(|service| service.name.to_string()).collect();
    assert_eq!(names, ["app", "api", "beat", "worker"]);
    let ids: Vec<_> = config.instances().map(|id| id.to_string()).collect();
    assert_eq!(ids, ["1", "2", "api-1", "beat-1", "worker-1"]);
    assert_eq!(config.spares().map(|id| id.to_string()).collect::<Vec<_>>(), ["api-2"]);
    assert_eq!(config.port_of("api-1".parse().unwrap()), Some(8101));
    assert_eq!(config.port_of("worker-1".parse().unwrap()), None);
    let worker = config.service("worker".parse().unwrap()).unwrap();
    assert_eq!(worker.kind, Kind::Worker(Liveness::Settle(Duration::from_secs(5))));
    assert_eq!(worker.stop_timeout, Duration::from_secs(10));
    assert_eq!(good(&[MINIMAL]).others.len(), 0);
}

#[test]
fn a_fragment_changes_one_key_of_a_service() {
    let base = format!("{MINIMAL}{WORKER}");
    let config =
        good(&[&base, "services.worker.instances = 3\n[services.worker.readiness]\nsettle = \"1s\"\n"]);
    let worker = config.service("worker".parse().unwrap()).unwrap();
    assert_eq!((worker.instances, worker.command.as_slice()), (3, &["work".to_owned()][..]));
    assert_eq!(worker.kind, Kind::Worker(Liveness::Settle(Duration::from_secs(1))));
}

/// The text has this error alone, at this place.
#[track_caller]
fn is_one_error(text: &str, place: &str, message: &str) {
    let found = errors(text);
    let [error] = &found[..] else { panic!("{text}: {found:?}") };
    let at = error.place.as_ref().map(|place| format!("{}:{}", place.line, place.column));
    assert_eq!(at.as_deref(), Some(place), "{text}: {error}");
    assert!(error.message.starts_with(message), "{text}: {error}");
}

#[test]
fn the_mistakes_of_a_service_are_errors_at_their_place() {
    for (text, place, message) in [
        ("[services]\nworker = 1", "4:1", "`services.worker` must be a table"),
        ("[services.app]", "3:11", "the service `app` is [app]"),
        ("[services.cron-x]", "3:11", "`cron-x` is not a valid service name"),
        ("[services.NAME]", "3:11", "`NAME` is not a valid service name"),
        (
            "[services.a]\nimage = \"a.example/b\"",
            "4:9",
            "a service with an `image` of its own and no `port` needs `kind`",
        ),
        ("[services.a]\nkind = \"worker\"\nimage = \"x\"", "5:9", "`x` is not an image reference"),
        ("[services.a]\npublish = [\"1:1\"]", "4:1", "only an accessory has `publish`"),
        ("[services.a.readyness]", "3:13", "unknown key `readyness` in [services.a]"),
        ("[services.a]\nreadiness.path = \"/x\"", "4:11", "a service without `port` has no `path`"),
        ("[services.a]\nwarm_up = [\"/\"]", "4:1", "a service without `port` has no `warm_up`"),
        ("[services.a]\nbase_port = 8100", "4:1", "a service without `port` has no `base_port`"),
        ("[services.a]\nroute.path = \"/x\"", "4:7", "a service without `port` has no `path`"),
        ("[services.a]\ninstances = 2\nat_most = 1", "5:11", "`at_most = 1` excludes 2 instances"),
        ("[services.a.readiness]\nsettle = \"5m\"", "4:10", "`settle` must be shorter than `timeout`"),
        ("[services.a]\nport = 1\nroute.path = \"/a\"", "3:11", "missing key `base_port` in [services.a]"),
        ("[services.a]\nport = 1\nbase_port = 8100", "3:11", "no request goes to [services.a]"),
        (
            "[services.a]\nport = 1\nbase_port = 8001\nroute.path = \"/a\"",
            "5:13",
            "port 8002 belongs to the service app",
        ),
        (
            "[services.a]\nport = 1\nbase_port = 79\nroute.path = \"/a\"",
            "5:13",
            "port 80 of instance 1 is taken",
        ),
        (
            "[env]\nA_COMMAND = \"x\"\n[services.a]",
            "4:1",
            "`A_COMMAND` is the agent's own line for [services.a]",
        ),
    ] {
        is_one_error(text, place, message);
    }
}

#[test]
fn two_services_cannot_have_one_route_or_a_name_of_another_site() {
    let other = API.replace("api]", "b]").replace("8100", "8200");
    let found = errors(&format!("{API}{other}"));
    assert!(found[0].message.starts_with("the route of b is that of api as well"), "{found:?}");
    let hosts = "[caddy]\nhosts = [\"a.example.org\"]\n";
    let route = API.replace("route.path = \"/api\"", "route.hosts = [\"b.example.org\"]");
    let found = errors(&format!("{hosts}{route}"));
    assert!(found[0].message.starts_with("`b.example.org` is no name of the site"), "{found:?}");
    good(&[&format!("{MINIMAL}{hosts}{}", route.replace("b.example", "a.example"))]);
}

#[test]
fn the_app_needs_a_route_beside_a_service_that_takes_every_path() {
    let front = API.replace("api", "front").replace("/front", "/");
    let found = errors(&front);
    assert!(found[0].message.starts_with("[services.front] takes every request"), "{found:?}");
    let config = good(&[&format!("{MINIMAL}[app.route]\npath = \"/api/\"\n{front}")]);
    assert_eq!(config.app_route.unwrap().path, "/api");
    let found = errors(&format!("[app.route]\npath = \"/api\"\n{API}"));
    assert!(found[0].message.starts_with("the route of api is that of app as well"), "{found:?}");
    assert_eq!(good(&[&format!("{MINIMAL}[app.route]\nhosts = []\n")]).app_route, None);
}

#[test]
fn a_service_calls_web_services_of_the_release() {
    let pdf = "[services.pdf]\nport = 8080\nbase_port = 8200\n";
    let config = good(&[&format!("{MINIMAL}calls = [\"pdf\", \"app\"]\n{pdf}")]);
    assert_eq!(config.called().into_iter().map(|name| name.to_string()).collect::<Vec<_>>(), ["app", "pdf"]);
    assert_eq!(config.others.values().next().unwrap().web().unwrap().route, None);
    let accessory = "[services.db]\nkind = \"accessory\"\nimage = \"a.example/b:1\"\n";
    for (text, message) in [
        ("calls = [\"db\"]", "`db` is an accessory, which Caddy does not reach"),
        ("calls = [\"b\"]", "`b` is a worker, which Caddy does not reach"),
        ("calls = [\"pfd\"]", "`pfd` is no web service"),
        ("calls = [\"pdf\", \"pdf\"]", "`pdf` is listed twice in `calls`"),
        ("calls = [\"pdf\"]\nadd_hosts = { pdf = \"10.0.0.1\" }", "`add_hosts` has the name `pdf` as well"),
    ] {
        let found = errors(&format!(
            "{pdf}{accessory}[services.b]\n[services.c]\ncalls = [\"pdf\"]\n[services.a]\n{text}\n"
        ));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].message.starts_with(message), "{text}: {found:?}");
    }
}

#[test]
fn two_names_with_one_address_cannot_both_be_called() {
    let mut seen = std::collections::BTreeMap::new();
    let names = (0..5000).map(|n| format!("s{n}").parse::<ServiceName>().unwrap());
    let twins = names.into_iter().find_map(|name| Some((seen.insert(name.address(), name)?, name)));
    let (one, two) = twins.unwrap();
    let web = |name, base| format!("[services.{name}]\nport = 80\nbase_port = {base}\n");
    let found = errors(&format!(
        "{}{}[services.a]\ncalls = [\"{one}\", \"{two}\"]\n",
        web(one, 8100),
        web(two, 8200)
    ));
    assert!(found[0].message.contains("would have the same address"), "{found:?}");
}

#[test]
fn a_migration_of_a_service_needs_an_image_of_its_own() {
    let own = "[services.a]\nkind = \"worker\"\nimage = \"a.example/b:1\"\n";
    let command = "command = [\"up\"]\n";
    for (text, place, message) in [
        (
            format!("[services.a]\n[services.a.migrate]\n{command}"),
            "4:13",
            "[services.a] has no `image` of its own to migrate with",
        ),
        (
            format!("{}migrate.{command}", own.replace("worker", "accessory")),
            "6:1",
            "an accessory has no `migrate`",
        ),
        (
            format!("{own}migrate.{command}migrate.env = []"),
            "7:9",
            "unknown key `env` in [services.a.migrate]",
        ),
        (format!("{own}migrate.timeout = \"1m\""), "6:1", "missing key `command` in [services.a.migrate]"),
        (format!("{own}[services.a.migrate]\n{command}env_only = []"), "8:12", "`env_only` is empty"),
        (
            format!(
                "{own}inherit_env = false\nenv = {{ A = \"1\" }}\nmigrate.{command}migrate.env_only = [\"A\", \"B\"]"
            ),
            "9:20",
            "`B` is in neither `env` nor `secrets` of [services.a]",
        ),
    ] {
        is_one_error(&text, place, message);
    }
    let config = good(&[&format!("{MINIMAL}{own}[services.a.migrate]\n{command}entrypoint = [\"sh\"]\n")]);
    let migrate = config.others.values().next().unwrap().migrate.as_ref().unwrap();
    assert_eq!((migrate.timeout.as_secs(), &migrate.env_only, config.app.migrate), (600, &None, None));
}

#[test]
fn an_environment_of_its_own_excludes_names_that_it_cannot_have() {
    for (text, message) in [
        ("inherit_env = false\nrequired_env = [\"A\"]", "`required_env` is of the application's environment"),
        ("env = { A = \"x\" }\nsecrets = { A = \"B\" }", "`A` is in `env` and in `secrets`"),
        ("secrets = { ASTRA_ENV = \"B\" }", "`ASTRA_ENV` is the agent's own"),
        ("secrets = { A = 1 }", "`A` must be a string"),
        (
            "kind = \"accessory\"\nimage = \"a.example/b:1\"\ninherit_env = true",
            "an accessory has no `inherit_env`",
        ),
    ] {
        let found = errors(&format!("[services.a]\n{text}\n"));
        assert!(found[0].message.starts_with(message), "{text}: {found:?}");
    }
}

#[test]
fn the_mistakes_of_a_file_are_errors_at_their_place() {
    let mount = "mount = { services = [\"app\"], path = \"/etc/a\" }\n";
    for (text, place, message) in [
        (format!("[files.A]\ncontent = \"\"\n{mount}"), "3:8", "`A` is not a valid file name"),
        (format!("[files.a]\n{mount}"), "3:8", "[files.a] needs either `content` or `template`"),
        (format!("[files.a]\ncontent = \"\"\ntemplate = \"b\"\n{mount}"), "3:8", "[files.a] needs either"),
        ("[files.a]\ncontent = \"\"\n".to_owned(), "3:8", "[files.a] has no `mount`"),
        (
            format!("[files.a]\ntemplate = \"/root/x\"\n{mount}"),
            "4:12",
            "`/root/x` is no path below /etc/astra",
        ),
        (format!("[files.a]\ntemplate = \"../x\"\n{mount}"), "4:12", "`../x` is no path below /etc/astra"),
        (format!("[files.a]\ncontent = \"\"\nmode = \"999\"\n{mount}"), "5:8", "`999` is no mode"),
        (format!("[files.a]\ncontent = \"\"\nmod = 1\n{mount}"), "5:1", "unknown key `mod` in [files.a]"),
        (
            "[files.a]\ncontent = \"\"\n[files.a.mount]\nservices = [\"ap\"]\npath = \"/a\"".to_owned(),
            "6:13",
            "there is no service `ap`",
        ),
        (
            "[files.a]\ncontent = \"\"\n[files.a.mount]\nservices = []\npath = \"/a\"".to_owned(),
            "6:12",
            "`services` is empty",
        ),
        (
            "[files.a]\ncontent = \"\"\n[files.a.mount]\nservices = [\"app\"]\npath = \"/a:b\"".to_owned(),
            "7:8",
            "`/a:b` cannot be the path of a file",
        ),
        (
            format!("[files.a]\ncontent = \"\"\n{mount}[files.b]\ncontent = \"\"\n{mount}"),
            "8:38",
            "[files.a] is at `/etc/a` already",
        ),
        (
            format!("volumes = [\"/x:/etc/a\"]\n[files.a]\ncontent = \"\"\n{mount}"),
            "6:38",
            "a volume of app is at `/etc/a` already",
        ),
    ] {
        is_one_error(&text, place, message);
    }
}

/// A token stands in the content of a file.
#[test]
fn no_error_shows_the_content_of_a_file() {
    for text in
        ["[files.a]\ncontent = [\"canary\"]\n", "[files.a]\ncontent = \"canary\"\ncontents = \"canary\"\n"]
    {
        let found = errors(text).iter().map(ToString::to_string).collect::<String>();
        assert!(!found.contains("canary"), "{found}");
    }
}

#[test]
fn the_fragment_of_numbers_alone_makes_no_service() {
    let file = |path: &str, text: &str| (std::path::PathBuf::from(path), text.to_owned());
    let numbers = file("/etc/astra/agent.d/zz-scale.toml", "[services.gone]\ninstances = 3\n");
    let config = super::super::parse(&[file("/etc/astra/agent.toml", MINIMAL), numbers.clone()]).unwrap();
    assert_eq!(config.others.len(), 0);
    let with = format!("{MINIMAL}[services.gone]\ncommand = [\"work\"]\n");
    let config = super::super::parse(&[file("/etc/astra/agent.toml", &with), numbers]).unwrap();
    assert_eq!(config.service("gone".parse().unwrap()).unwrap().instances, 3);
}
