//! Every key of the config: its type, its default and its meaning. This table is the source of the defaults,
//! of the check for unknown keys and of docs/using/config.md (see tests/docs.rs).

/// A key as shown in the reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub table: &'static str,
    pub name: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "only the reference shows it"))]
    pub kind: &'static str,
    pub absent: KeyDefault,
    /// An example value.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the reference shows it"))]
    pub example: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "only the reference shows it"))]
    pub doc: &'static str,
}

/// The default of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyDefault {
    /// This value, in TOML.
    Value(&'static str),
    Required,
    /// A default that depends on something, in words.
    Means(&'static str),
}
use KeyDefault::{Means, Required, Value};

mod sections;

#[cfg(test)]
pub(super) use sections::Section;
pub(super) use sections::TABLES;

/// The one table that is a list.
pub(super) const JOBS: &str = "cron_jobs";

pub(super) const APP_ROUTE: &str = "app.route";

/// The table of all services but the app, by name.
pub(super) const SERVICES: &str = "services";
/// Stands for the name of a service.
pub(super) const ANY: &str = "NAME";
/// The table of one service.
pub(super) const SERVICE: &str = "services.NAME";
pub(super) const SERVICE_READINESS: &str = "services.NAME.readiness";
pub(super) const SERVICE_ROUTE: &str = "services.NAME.route";
pub(super) const SERVICE_MIGRATE: &str = "services.NAME.migrate";

/// The table of all files for containers, by name.
pub(super) const FILES: &str = "files";
/// The table of one file.
pub(super) const FILE: &str = "files.NAME";
pub(super) const FILE_MOUNT: &str = "files.NAME.mount";

/// The keys of `[app]` that a service has as well, with the same meaning.
const SHARED: [&str; 21] = [
    "network",
    "command",
    "volumes",
    "memory",
    "cpus",
    "stop_timeout",
    "entrypoint",
    "init",
    "stop_signal",
    "user",
    "ulimits",
    "add_hosts",
    "calls",
    "healthcheck",
    "read_only",
    "tmpfs",
    "shm_size",
    "cap_drop",
    "cap_add",
    "required_env",
    "warm_up",
];

const fn key(
    table: &'static str,
    name: &'static str,
    kind: &'static str,
    absent: KeyDefault,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key { table, name, kind, absent, example, doc }
}

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("app", "name", "name", Value(r#""astra""#), r#""astra""#,
        "Part of the names of units, containers and the env file: `astra-app@1.service`, `astra-app-1`, `/etc/astra/astra.env`. Lower-case letters, digits and `-`, at most 32."),
    key("app", "image", "image with tag", Required, r#""ghcr.io/almalinux/astra:latest""#,
        "The tracked image: `deploy` resolves its tag to a digest, and containers always run that digest. The registry is part of the name; the default tag is `latest`."),
    key("app", "engine", "`auto`, `podman` or `docker`", Value(r#""auto""#), r#""podman""#,
        "The container engine. `auto` uses the installed one, podman first."),
    key("app", "instances", "0 to 254", Value("2"), "2",
        "Running copies; 0: paused, and visitors get a page with status 503 (`astra-agent pause` writes that for a while). Instance i answers on `127.0.0.1:(base_port + i)`."),
    key("app", "base_port", "port", Value("8000"), "8000",
        "The ports above it, one an instance and one for the spare of a surge deploy, must be free, and none may be Caddy's (`http_port`, `https_port`, 9080)."),
    key("app", "port", "port", Value("8000"), "8000",
        "Where the application listens in its container. With `network = \"host\"` it listens on `PORT` instead."),
    key("app", "network", "`bridge`, `site` or `host`", Means("`site` if there is an accessory, else `bridge`"), r#""bridge""#,
        "`bridge`: the engine's own network. `site`: a network of this site, named after it, where accessories and workers are reached by name (`redis`). `host`: no network of its own; the application gets `PORT` and listens on its own address `127.0.1.i`, or on any."),
    key("app", "command", "list of strings", Value("[]"), r#"["gunicorn", "config.wsgi"]"#,
        "The container's argv; empty: the image's own."),
    key("app", "volumes", "list of `SOURCE:TARGET[:OPTIONS]`", Value("[]"), r#"["/etc/astra/key.pem:/etc/astra/key.pem:ro"]"#,
        "Files, directories or named volumes for the container. Both paths are absolute, without `..`; a source path must exist, or the deploy is refused."),
    key("app", "memory", "size", Means("no limit"), r#""768M""#,
        "Memory limit of an instance; at least `\"6M\"`."),
    key("app", "cpus", "number above 0", Means("no limit"), "1.0",
        "Processor limit of an instance, in processors."),
    key("app", "stop_timeout", "time", Value(r#""10s""#), r#""10s""#,
        "How long an instance may take to end after SIGTERM, before SIGKILL."),
    key("app", "entrypoint", "list of strings", Value("[]"), r#"["python3"]"#,
        "Replaces the image's ENTRYPOINT; `command` follows as its arguments (the image's CMD is not used then). Empty: the image's own. `[migrate]` and cron jobs use it unless they have their own."),
    key("app", "init", "true or false", Value("false"), "true",
        "A small process 1 that forwards SIGTERM and reaps children, for a program that does neither (a shell as ENTRYPOINT). podman needs the package `catatonit`; docker has its own."),
    key("app", "stop_signal", "name of a signal", Means("the image's, else SIGTERM"), r#""SIGINT""#,
        "The signal that stops an instance, e.g. `SIGINT` or `SIGQUIT`."),
    key("app", "user", "`USER` or `USER:GROUP`", Means("the image's"), r#""1000:1000""#,
        "The user of the container's processes: names in the image, or numbers."),
    key("app", "ulimits", "table of numbers or `\"SOFT:HARD\"`", Value("{}"), "{ nofile = 65536 }",
        "Resource limits, by the names of the engines: `nofile`, `nproc`, `memlock` and others."),
    key("app", "add_hosts", "table of IP addresses", Value("{}"), r#"{ "ipa.example.org" = "10.0.0.9" }"#,
        "Lines for the container's `/etc/hosts`; `\"host-gateway\"` is the address of this host. podman copies the host's own `/etc/hosts` at each start, docker does not."),
    key("app", "calls", "list of services", Value("[]"), r#"["api"]"#,
        "Web services that this one calls by name: its containers reach `http://api` on this host, through Caddy (on its `http_port`), which sends no request to an instance that is drained. `app` is that of `[app]`. Accessories and workers have names by themselves on the network `site`."),
    key("app", "healthcheck", "true or false", Value("true"), "false",
        "false: the image's HEALTHCHECK does not run. The agent does not use it (but `[app.readiness]`), and podman makes a timer for each container with one."),
    key("app", "read_only", "true or false", Value("false"), "true",
        "The container's root file system is read-only. podman mounts a tmpfs on `/tmp`, `/var/tmp` and `/run` then; with docker write `tmpfs`."),
    key("app", "tmpfs", "list of `PATH[:OPTIONS]`", Value("[]"), r#"["/tmp"]"#,
        "Directories in memory, e.g. `\"/tmp:size=64m,mode=1777\"`."),
    key("app", "shm_size", "size", Means("64M"), r#""256M""#,
        "Size of `/dev/shm`."),
    key("app", "cap_drop", "list of capabilities", Value("[]"), r#"["ALL"]"#,
        "Capabilities that the container does not get."),
    key("app", "cap_add", "list of capabilities", Value("[]"), r#"["NET_BIND_SERVICE"]"#,
        "Capabilities added to the engine's default set."),
    key("app", "at_most", "0 or 1", Value("0"), "0",
        "1, with `instances = 1`: two copies of the app never run at once, for an app with a scheduler in its process or a database in a file. The old copy is stopped, then the new one starts; the site is down meanwhile, and `surge` is refused. The migration still runs while the old copy serves."),
    key("app", "required_env", "list of names", Value("[]"), r#"["DATABASE_HOST", "SECRET_KEY"]"#,
        "A deploy is refused while one of these is missing, empty or a placeholder: three dots or more (`...`, `....`)."),
    key("app", "warm_up", "list of paths", Value("[]"), r#"["/", "/search?q=x"]"#,
        "GETs that the agent sends to an instance with the release on trial, once it is ready and before it gets requests of visitors: one after another, as readiness requests are sent (straight to the instance, with the name of the site as `Host`), each for `answer_timeout` at most, all of them for the `timeout` of readiness. Their answers do not judge the release; a status from 400 is noted."),

    key("app.readiness", "notify", "true or false", Value("false"), "true",
        "Wait for READY=1 from the application (podman's `--sdnotify=container`) besides the probe. With docker, or false, the probe alone decides. It proves what the sender means by it: gunicorn sends READY=1 before it has loaded the app, and so for an app that cannot be imported, too; leave it false there."),
    key("app.readiness", "path", "path of a URL", Value(r#""/readyz""#), r#""/readyz""#,
        "A 2xx answer means ready. Caddy uses the same path for its health checks, and answers 404 to other clients: such a page may show internal details."),
    key("app.readiness", "timeout", "time", Value(r#""5m""#), r#""5m""#,
        "Limit from start to ready; after it the release has failed."),
    key("app.readiness", "interval", "time, from `1s`", Means("`\"3s\"`; with more than ten instances 0.3 s for each of them"), r#""3s""#,
        "How often Caddy asks each instance. An instance that hangs or is not ready leaves rotation after `interval` and `answer_timeout` at most; the next request skips one that died. Each check costs processor time of the application, also on an idle host."),
    key("app.readiness", "answer_timeout", "time, up to `60s`", Value(r#""2s""#), r#""2s""#,
        "Limit for one answer of the readiness path, for Caddy, deploys and `status`. Raise it for an application whose only worker may be busy for longer."),

    key(APP_ROUTE, "path", "path of a URL", Means("all paths"), r#""/shop""#,
        "This path and everything below it."),
    key(APP_ROUTE, "hosts", "list of host names", Value("[]"), "[]",
        "Names of the site, each also in `[caddy] hosts`; empty: all names."),

    key(SERVICE, "kind", "`web`, `worker` or `accessory`", Means("`web` with `port`, else `worker`"), r#""accessory""#,
        "`accessory`: a service with an image of its own, e.g. a database or a cache, that belongs to no release. Its image is pinned when a deploy first starts it; from then on only `astra-agent accessory upgrade NAME` and `astra-agent accessory restart NAME` touch it, and both go back if it does not become ready."),
    key(SERVICE, "image", "image with tag or digest", Means("that of `[app]`"), r#""docker.io/library/redis:7""#,
        "An image of its own. With a web service or a worker it is part of the release: `deploy` resolves its tag and pulls it with that of `[app]`, and `rollback` takes all of them back. A service without `port` then needs `kind`. Required for an accessory."),
    key(SERVICE, "inherit_env", "true or false", Value("true"), "false",
        "Whether a web service or a worker has the environment of the application. With false it has `env` and `secrets` alone: a front end need not know the password of the database, and a change under `[env]` does not restart it. An accessory never has it."),
    key(SERVICE, "secrets", "table of names", Means("none"), r#"{ POSTGRES_PASSWORD = "DATABASE_PASSWORD" }"#,
        "The name of a variable in its container, and that of the variable under `[env]` or in the env file whose value it has; a deploy is refused while that is missing. Unlike `env` it is on no command line. Kept in a file (0600) in `/etc/astra/files`, that of an accessory in `/etc/astra/astra-NAME.env`."),
    key(SERVICE, "publish", "list of `[ADDRESS:]PORT:PORT[/udp]`", Value("[]"), r#"["127.0.0.1:5432:5432"]"#,
        "Only for an accessory: ports of this host, and those of the container. Without an address the port is open to the network, and the engine opens it past a firewall of the host (ufw)."),
    key(SERVICE, "instances", "0 to 254", Value("1"), "2",
        "How many run; 0: paused."),
    key(SERVICE, "port", "port", Means("a worker"), "3000",
        "Makes it a web service: where it listens in its container."),
    key(SERVICE, "base_port", "1 to 65534", Means("required with `port`"), "8100",
        "Instance i listens on `base_port` + i of this host, and with surge its spare as well. No two services share a port."),
    key(SERVICE, "env", "table of strings", Means("none"), r#"{ ROLE = "mail" }"#,
        "Variables of this service, added to the application's environment; they win over it. Not for secrets: every user can read the command line."),
    key(SERVICE, "at_most", "0 or 1", Value("0"), "0",
        "1, with `instances = 1`: for a scheduler that must never run twice (`celery beat`). Workers are always stopped before they start again; this refuses a second instance."),

    key(SERVICE_READINESS, "path", "path of a URL", Value(r#""/readyz""#), r#""/readyz""#,
        "As in `[app.readiness]`; the path as the service sees it, without a stripped prefix."),
    key(SERVICE_READINESS, "interval", "time, from `1s`", Means("as in `[app.readiness]`"), r#""3s""#,
        "How often Caddy asks each instance."),
    key(SERVICE_READINESS, "answer_timeout", "time, up to `60s`", Value(r#""2s""#), r#""2s""#,
        "Limit for one answer of the readiness path, or for one run of `command`."),
    key(SERVICE_READINESS, "settle", "time", Value(r#""5s""#), r#""5s""#,
        "How long an instance must run without ending until it is ready."),
    key(SERVICE_READINESS, "command", "list of strings", Means("`settle` counts"), r#"["redis-cli", "ping"]"#,
        "Instead of `settle`: a command in the container of a worker or an accessory; it is ready when the command ends with code 0 within `answer_timeout`. Asked while it starts and after a soak, not by `status`."),
    key(SERVICE_READINESS, "tcp", "port", Means("`settle` counts"), "5432",
        "Instead of `settle`: a port of the container; ready when it accepts a connection."),
    key(SERVICE_READINESS, "notify", "true or false", Value("false"), "false",
        "Wait for READY=1 from the worker (podman's `--sdnotify=container`) first."),
    key(SERVICE_READINESS, "timeout", "time", Value(r#""5m""#), r#""5m""#,
        "Limit from start to ready; after it the release has failed."),

    key(SERVICE_ROUTE, "hosts", "list of host names", Value("[]"), "[]",
        "Names of the site for this service, each also in `[caddy] hosts`; empty: all names."),
    key(SERVICE_ROUTE, "path", "path of a URL", Means("all paths"), r#""/api""#,
        "This path and everything below it. If several routes fit, the one with the longest path gets the request. `\"/\"`: every path; then the application needs `[app.route]`."),
    key(SERVICE_ROUTE, "strip_prefix", "true or false", Value("false"), "false",
        "true: the service sees the request without `path`."),

    key(SERVICE_MIGRATE, "command", "list of strings, or list of lists of strings", Required, r#"["./migrate", "up"]"#,
        "As in `[migrate]`, in the new image of this service."),
    key(SERVICE_MIGRATE, "entrypoint", "list of strings", Means("that of the service"), r#"["sh"]"#,
        "Replaces the image's ENTRYPOINT; `command` follows as its arguments."),
    key(SERVICE_MIGRATE, "timeout", "time", Value(r#""10m""#), r#""10m""#,
        "After it the migration has failed."),
    key(SERVICE_MIGRATE, "env_only", "list of names", Means("the whole environment of the service"), r#"["DATABASE_URL"]"#,
        "As in `[migrate]`: the names as its container has them, those of `secrets` among them. Variables of the service's `env` are arguments of its containers, and the migration has them in any case."),

    key("env", "NAME", "string, or one of the next five", Means("the line in the env file is kept"), r#"{ NAME = "value" }"#,
        "The value itself."),
    key("env", "generate", "8 to 1024", Means(""), "{ SECRET_KEY = { generate = 64 } }",
        "`NAME = { generate = LENGTH }`: a random value of that many characters, generated once, then kept."),
    key("env", "file", "absolute path", Means(""), r#"{ REKOR_KEY_PATH = { file = "/etc/astra/rekor.path" } }"#,
        "`NAME = { file = PATH }`: the line of a file that only root may write. A file with more lines, such as a PEM key, is refused: mount it with `volumes`, and set the variable to its path."),
    key("env", "host", "fact or list of facts", Means(""), r#"{ ALLOWED_HOSTS = { host = ["public-hostname", "public-ipv4"], also = ["localhost"] } }"#,
        "`NAME = { host = [FACTS], also = [TEXTS] }`: what the metadata service of EC2 (IMDSv2) says of this instance, then the texts, joined by commas: `instance-id`, `instance-type`, `ami-id`, `local-ipv4`, `local-hostname`, `public-ipv4`, `public-hostname`, `ipv6`, `mac`, `placement/region`, `placement/availability-zone`, `placement/availability-zone-id`, `tags/instance/NAME`. `deploy` and `plan` ask; `rollback` and `deploy SERVICE` keep the committed value, and so does a deploy while the service does not answer. A fact that the instance lacks is left out."),
    key("env", "secret", "name or ARN", Means(""), r#"{ DATABASE_PASSWORD = { secret = "prod/astra/db", key = "password" } }"#,
        "`NAME = { secret = ID, key = KEY }`: a secret of AWS Secrets Manager, read as the role of this instance; with `key` that value of the JSON object in it. Asked for and kept like `host`."),
    key("env", "parameter", "name or ARN", Means(""), r#"{ SENTRY_DSN = { parameter = "/astra/prod/sentry_dsn" } }"#,
        "`NAME = { parameter = NAME }`: a parameter of the AWS SSM Parameter Store, decrypted. Asked for and kept like `host`."),


    key(FILE, "content", "string", Means("`template` is there"), r#""token = {{ FRPS_TOKEN | tojson }}""#,
        "The template itself."),
    key(FILE, "template", "path below `/etc/astra`", Means("`content` is there"), r#""templates/frps.toml.j2""#,
        "A file with the template; relative paths begin at `/etc/astra`."),
    key(FILE, "mode", "octal number in quotes", Value(r#""0444""#), r#""0444""#,
        "Its permission bits in the container, where its owner is root. On the host, only root can reach it, whatever the mode."),
    key(FILE_MOUNT, "services", "list of services", Required, r#"["app"]"#,
        "The services whose containers have it: `app`, other services, accessories."),
    key(FILE_MOUNT, "path", "absolute path", Required, r#""/etc/frp/frps.toml""#,
        "Its path there; read-only."),

    key("migrate", "command", "list of strings, or list of lists of strings", Required, r#"["migrate.sh"]"#,
        "Run in a one-off container of the new image, with the new environment, before any instance changes. Until the deploy is done, and after an undo, old code runs with the new schema: expand first, contract in a later release. Several commands, `[[\"a\"], [\"b\"]]`, run one after another; the first that fails ends the deploy."),
    key("migrate", "entrypoint", "list of strings", Means("that of `[app]`"), r#"["sh"]"#,
        "Replaces the image's ENTRYPOINT; `command` follows as its arguments. Required for an image whose ENTRYPOINT starts the server and ignores arguments."),
    key("migrate", "timeout", "time", Value(r#""10m""#), r#""10m""#,
        "After it the migration has failed."),
    key("migrate", "env_only", "list of names", Means("the whole environment"), r#"["DATABASE_URL"]"#,
        "Its container gets these variables of the environment and no others. A deploy is refused while one of them is missing, empty or a placeholder, as with `required_env`."),

    key("deploy", "strategy", "`rolling` or `surge`", Means("`\"rolling\"`; with one instance `\"surge\"`"), r#""rolling""#,
        "`rolling`: one instance after another. `surge`: a spare instance comes up first, so that at least `instances` serve at any time; one more runs for a moment; the default with one instance. For an app that must never run twice at once set `[app] at_most = 1`, which restarts it in place."),
    key("deploy", "soak", "time, also `0s`", Value(r#""5s""#), r#""5s""#,
        "How long a new release must stay ready without traffic, and again with it."),
    key("deploy", "max_5xx", "share in per cent", Means("no limit"), r#""1%""#,
        "A release fails if a larger share of the answers to visitors has a status of 5xx while all of its instances soak: three answers at least, as Caddy counts them for the whole site. Not for a rollback, `--force`, a restart of a service's only instance, and while a service is paused."),
    key("deploy", "max_p99", "5ms to 10s", Means("no limit"), r#""1s""#,
        "The same if more than 1 % of the answers take longer until their first byte. Caddy counts by 5ms, 10ms, 25ms, 50ms, 100ms, 250ms, 500ms, 1s, 2500ms, 5s and 10s, so it must be one of these, and shorter than `soak`. Event streams and long polls count by their first byte; an answer that has not begun counts nowhere."),
    key("deploy", "drain_timeout", "time", Value(r#""30s""#), r#""30s""#,
        "How long requests in flight may continue before their instance is stopped; an event stream counts as a request unless it was asked for with `Accept: text/event-stream`."),
    key("deploy", "websocket_timeout", "time, also `0s`", Value(r#""5s""#), r#""5s""#,
        "How long WebSockets and event streams may stay open on an instance that is about to be stopped. Clients reconnect to another one; the run reports how many were cut."),
    key("deploy", "auto", "true or false", Value("false"), "false",
        "true: the reconcile timer follows the tracked tag, never to a release that failed."),
    key("deploy", "keep", "2 to 100", Value("3"), "3",
        "Releases whose images are never pruned."),
    key("deploy", "min_free", "size, also `0M`", Value(r#""1G""#), r#""1G""#,
        "A deploy is refused while the image store has less free."),

    key("caddy", "image", "image with tag or digest", Value(r#""docker.io/library/caddy:2""#), r#""docker.io/library/caddy:2""#,
        "Pinned to a digest when it is installed; a deploy never changes it."),
    key("caddy", "hosts", "list of host names", Value("[]"), r#"["accounts.almalinux.org"]"#,
        "The names of the site, the first of them the one that probes send. Empty: any name, on plain :80."),
    key("caddy", "tls", "`acme`, `internal` or `off`", Value(r#""acme""#), r#""acme""#,
        "Source of certificates: a public CA, Caddy's own CA, or none. Without `hosts` there is none."),
    key("caddy", "block", "list of paths", Value("[]"), r#"["/.env", "/.git/config"]"#,
        "Paths that Caddy answers with 404 itself; `*` matches any text. To close the connection without an answer, write `abort /path` in `extra`."),
    key("caddy", "http_port", "port", Value("80"), "80",
        "Where Caddy serves plain HTTP."),
    key("caddy", "https_port", "port", Value("443"), "443",
        "Where Caddy serves HTTPS. A public CA connects to 80 and 443, so with other ports `acme` needs a proxy that forwards these."),
    key("caddy", "health", "path of a URL", Means("no such path"), r#""/health""#,
        "Answered on any `Host` for a load balancer in front of this host: 200 while at least one instance of every web service that visitors reach is ready and in rotation, else 503. It may be the readiness path itself. Names that are not in `hosts` get 421 on every other path."),
    key("caddy", "trusted_proxies", "list of CIDRs", Value("[]"), r#"["10.0.0.0/16"]"#,
        "Networks whose forwarded-for header is trusted."),
    key("caddy", "headers_up", "table of strings", Value("{}"), r#"{ "X-Forwarded-For" = "{CF-Connecting-IP}" }"#,
        "Headers added to requests to the application. `{Name}`, beginning with a capital letter, is replaced by that header of the request; other braces are Caddy's placeholders."),
    key("caddy", "sticky", "true or false", Value("false"), "true",
        "true: a cookie keeps a client on its instance while that is in rotation."),
    key("caddy", "extra", "string", Value(r#""""#), r#""encode zstd gzip""#,
        "Caddyfile lines for the site block."),

    key(JOBS, "name", "name", Required, r#""operations-daily""#,
        "Names `astra-cron-NAME.timer` and `.service`. Lower-case letters, digits and `-`, at most 64."),
    key(JOBS, "minute", "cron field, 0 to 59", Value(r#""0""#), r#""*/15""#, "Minute of the hour, local time. `*/15` without `hour` only runs from 00:00 to 00:45: write `hour = \"*\"`."),
    key(JOBS, "hour", "cron field, 0 to 23", Value(r#""0""#), r#""4""#, "Hour of the day; `\"*\"` for every hour. The default is midnight, not every hour as in a crontab."),
    key(JOBS, "day", "cron field, 1 to 31", Value(r#""*""#), r#""1,15""#, "Day of the month."),
    key(JOBS, "month", "cron field, 1 to 12 or `jan` to `dec`", Value(r#""*""#), r#""*""#, "Month."),
    key(JOBS, "weekday", "cron field, 0 to 7 or `sun` to `sat`", Value(r#""*""#), r#""mon-fri""#, "Day of the week; 0 and 7 are Sunday."),
    key(JOBS, "every", "time, from `1s`", Means("the five fields count"), r#""10s""#,
        "Instead of the five fields: the time from start to start; runs never overlap."),
    key(JOBS, "command", "string or list of strings", Means("`run` is there"), r#""/usr/local/bin/backup --all""#,
        "A command on the host: a string is split like in a shell, but no shell runs it. If you need one, write `[\"/bin/sh\", \"-c\", \"…\"]`. Not for the app itself: `podman exec` skips the image's ENTRYPOINT, and a deploy cuts it; use `run` instead."),
    key(JOBS, "run", "list of strings", Means("`command` is there"), r#"["python", "manage.py", "send_queued_mail"]"#,
        "In a one-off container of the committed release, with the app's environment, volumes and limits: the arguments of the image's ENTRYPOINT. No deploy cuts it."),
    key(JOBS, "entrypoint", "list of strings", Means("that of `[app]`"), r#"["python"]"#,
        "With `run`: replaces the image's ENTRYPOINT; `run` follows as its arguments."),
    key(JOBS, "env", "table of strings", Means("none"), r#"{ TASK_TYPE = "reminders" }"#,
        "With `run`: variables of this job, added to the app's environment; also written as `[cron_jobs.env]`. Not for secrets: every user can read the unit."),
    key(JOBS, "timeout", "time", Value(r#""1h""#), r#""5m""#, "After it the job is stopped: a hung one would block all later runs."),

    key("verify", "require_signature", "true or false", Value("false"), "true",
        "true: a deploy is refused while the policy accepts any image of a repository of the release, or none. Every image except the committed one is pulled again, even if it is on the host, so that its signature is checked; only a `rollback` skips this check."),

    key("aws", "region", "region", Means("the region of this instance"), r#""eu-central-1""#,
        "Where secrets and parameters are. One that is named by its ARN is asked for in the region of the ARN."),
    key("aws", "endpoint", "URL without a path", Means("those of the region"), r#""http://127.0.0.1:5000""#,
        "Where all services of AWS are asked instead: a stand-in such as moto or LocalStack. `http://` to this host alone. An interface endpoint of a VPC needs no setting if it has private DNS names."),
    key("aws", "refresh", "time", Means("only runs that deploy ask"), r#""15m""#,
        "How often the reconcile timer asks `secret`, `parameter` and `host` again. A new value is deployed with the images that serve: on trial, without losing a request, and held if it fails. While the environment or arguments wait for a `deploy` for another reason, or a service is paused, the timer leaves it."),
];

/// The keys of `table`: those of its rows, and for a service those that it shares with `[app]`.
pub(super) fn of(table: &str) -> impl Iterator<Item = &'static Key> + use<'_> {
    let shared = move |k: &Key| table == SERVICE && k.table == "app" && SHARED.contains(&k.name);
    KEYS.iter().filter(move |k| k.table == table || shared(k))
}

/// The key `name` of `table`.
pub(super) fn find(table: &str, name: &str) -> Option<&'static Key> {
    of(table).find(|k| k.name == name)
}

/// The valid names in `table`: its keys, and the tables directly below it.
pub(super) fn names(table: &str) -> Vec<&'static str> {
    let keys = of(table).map(|k| k.name);
    let below = TABLES.iter().filter_map(|t| match t.path.rsplit_once('.') {
        Some((above, name)) => (above == table).then_some(name),
        None => table.is_empty().then_some(t.path),
    });
    keys.chain(below).chain(table.is_empty().then_some([SERVICES, FILES]).into_iter().flatten()).collect()
}

/// The default of a string key, without its quotes.
pub(super) fn default_text(table: &str, name: &str) -> &'static str {
    match find(table, name).map(|k| k.absent) {
        Some(Value(value)) => value.trim_matches('"'),
        _ => "",
    }
}

/// All defaults as a config file: the lowest layer.
pub(super) fn defaults() -> String {
    let mut text = String::new();
    for table in TABLES.iter().filter(|t| t.path != JOBS && t.path != "env") {
        text.push_str(&format!("[{}]\n", table.path));
        for key in of(table.path) {
            if let Value(value) = key.absent {
                text.push_str(&format!("{} = {value}\n", key.name));
            }
        }
    }
    text
}

/// The word of `known` nearest to `word`.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let close = |k: &&str| strsim::jaro_winkler(&word, k);
    known.iter().copied().filter(|k| close(k) > 0.8).max_by(|a, b| close(a).total_cmp(&close(b)))
}
