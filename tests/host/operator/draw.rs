//! A site drawn by a seed: its configuration and its app's behaviour.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The same numbers for the same seed, on any machine (splitmix64).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// The content of agent.toml.
#[derive(Clone, Debug)]
pub struct Site {
    pub instances: u16,
    pub base_port: u16,
    pub strategy: &'static str,
    pub network: &'static str,
    pub auto: bool,
    pub notify: bool,
    pub stop_timeout: &'static str,
    /// asgi, threads or sync.
    pub server: &'static str,
    /// The app's behaviour: variables of tests/host/app.
    pub behaviour: BTreeMap<&'static str, &'static str>,
    /// FIELD_KEY, which the migration uses, is generated.
    pub generated: bool,
    /// TOKEN comes from this file.
    pub source: bool,
    /// OPERATOR_NOTE, which only `env set` provides, is required.
    pub required: bool,
    pub cron: bool,
    /// A worker beside the app, and a file in both.
    pub worker: Option<Worker>,
    /// A Redis beside the app, which uses it if they share a network.
    pub accessory: Option<Accessory>,
    pub literals: BTreeMap<&'static str, String>,
    /// An invalid line in `agent.toml`.
    pub broken: bool,
}

/// The second service.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// It has the environment of the app.
    pub inherits: bool,
    /// A word in its command and in the file: another one is another release of the same image.
    pub role: u16,
}

/// The accessory, a Redis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accessory {
    /// A variable of its container: another one waits for `accessory restart`.
    pub setting: u16,
    /// Its readiness command fails.
    pub unready: bool,
}

pub const TOKEN_FILE: &str = "/etc/astra/token";

impl Site {
    pub fn draw(draw: &mut Draw) -> Self {
        let server = draw.pick(&["asgi", "asgi", "threads", "sync"]);
        let mut behaviour = BTreeMap::from([("APP_SERVER", server)]);
        if server != "asgi" {
            behaviour.insert("APP_WORKERS", draw.pick(&["1", "2"]));
        }
        let slow = server == "asgi" || behaviour["APP_WORKERS"] != "1";
        for (one_in, key, values) in [
            (3, "APP_READY_STATUS", ["204", "204", "204"]),
            (if slow { 3 } else { 1000 }, "APP_READY_DELAY", ["0.3", "0.3", "2.5"]),
            (4, "APP_READY_AFTER", ["1", "3", "5"]),
            (4, "APP_START_DELAY", ["0.5", "2", "4"]),
            (4, "APP_ON_TERM", ["slow-term", "dies-on-term", "ignores-term"]),
        ] {
            let value = draw.pick(&values);
            if draw.one_in(one_in) {
                behaviour.insert(key, value);
            }
        }
        // An app that has to be killed is waited for each time, which makes the sequence slow.
        let stop_timeout = match behaviour.get("APP_ON_TERM") {
            Some(&"ignores-term") => draw.pick(&["2s", "3s", "5s", "5s", "5s", "150s"]),
            _ => draw.pick(&["8s", "10s", "10s", "30s", "150s"]),
        };
        let instances = draw.pick(&[1, 2, 2, 2, 3]);
        Self {
            instances,
            base_port: draw.pick(&[8000, 8000, 8100]),
            strategy: draw.pick(&["rolling", "surge"]),
            network: draw.pick(&["bridge", "bridge", "bridge", "host"]),
            auto: draw.one_in(3),
            notify: draw.one_in(2),
            stop_timeout,
            server,
            behaviour,
            generated: draw.one_in(3),
            source: draw.one_in(3),
            required: draw.one_in(4),
            cron: draw.one_in(3),
            worker: None,
            accessory: None,
            literals: BTreeMap::new(),
            broken: false,
        }
    }

    pub fn toml(&self) -> String {
        let Self { instances, base_port, strategy, network, auto, notify, stop_timeout, .. } = self;
        let also = if self.required { ", \"OPERATOR_NOTE\"" } else { "" };
        let delay = self.behaviour.get("APP_READY_DELAY").copied().unwrap_or("0");
        let answer_timeout = if delay == "0" || delay == "0.3" { "2s" } else { "5s" };
        let database = if *network == "host" { "127.0.0.1" } else { "host.containers.internal" };
        let mut toml = format!(
            r#"[app]
image = "127.0.0.1:5000/astra:latest"
instances = {instances}
base_port = {base_port}
network = "{network}"
stop_timeout = "{stop_timeout}"
required_env = ["DATABASE_HOST", "DATABASE_PASSWORD", "SECRET_KEY"{also}]

[app.readiness]
notify = {notify}
path = "/readyz"
timeout = "40s"
answer_timeout = "{answer_timeout}"

[migrate]
command = ["./migrate.sh"]

[deploy]
strategy = "{strategy}"
soak = "500ms"
drain_timeout = "5s"
auto = {auto}

[caddy]
image = "127.0.0.1:5000/caddy:2"
hosts = []
tls = "off"

[env]
SECRET_KEY = {{ generate = 64 }}
"#
        );
        let always = [
            ("ALLOWED_HOSTS", "*"),
            ("DATABASE_HOST", database),
            ("DATABASE_NAME", "astra"),
            ("DATABASE_USER", "astra"),
        ];
        let behaviour = self.behaviour.iter().map(|(key, value)| (*key, *value));
        let literals = self.literals.iter().map(|(key, value)| (*key, value.as_str()));
        for (key, value) in always.into_iter().chain(behaviour).chain(literals).collect::<BTreeMap<_, _>>() {
            writeln!(toml, "{key} = \"{value}\"").unwrap();
        }
        if *network == "site" {
            toml += "REDIS_HOST = \"redis\"\n";
        }
        if self.generated {
            toml += "FIELD_KEY = { generate = 32 }\n";
        }
        if self.source {
            writeln!(toml, "TOKEN = {{ file = \"{TOKEN_FILE}\" }}").unwrap();
        }
        if self.cron {
            toml += "\n[[cron_jobs]]\nname = \"beat\"\nevery = \"2s\"\nrun = [\"true\"]\n\
                     \n[[cron_jobs]]\nname = \"row\"\nhour = \"4\"\nrun = [\"python3\", \"manage.py\", \"tick\"]\n\
                     \n[[cron_jobs]]\nname = \"here\"\nhour = \"5\"\ncommand = \"true\"\n";
        }
        if let Some(Worker { inherits, role }) = self.worker {
            write!(
                toml,
                r#"
[services.worker]
command = ["python3", "-c", "import signal, time; signal.signal(15, lambda *a: exit(0)); time.sleep(1e6)", "{role}"]
inherit_env = {inherits}
secrets = {{ JOB_KEY = "SECRET_KEY" }}
stop_timeout = "5s"
readiness = {{ settle = "500ms", timeout = "40s" }}

[files.word]
content = "role {role}, key {{{{ SECRET_KEY | tojson }}}}"
mount = {{ services = ["app", "worker"], path = "/etc/word" }}
"#
            )
            .unwrap();
        }
        toml += &self.accessory.map(Accessory::toml).unwrap_or_default();
        if self.broken {
            toml += "\n[deploy-]\nsoak = 5\n";
        }
        toml
    }

    /// Seconds that one instance may need to become ready on a busy machine.
    pub fn start(&self) -> f64 {
        let seconds = |key| self.behaviour.get(key).map_or(0.0, |v| v.parse::<f64>().unwrap());
        8.0 + seconds("APP_START_DELAY") + seconds("APP_READY_AFTER") + 2.0 * seconds("APP_READY_DELAY")
    }

    /// In one line, for a record.
    pub fn words(&self) -> String {
        let mut words = vec![
            format!("{} x {} {}", self.instances, self.server, self.strategy),
            format!("port {} {}", self.base_port, self.network),
            format!("stop {}", self.stop_timeout),
        ];
        let flags = [
            (self.auto, "auto"),
            (self.notify, "notify"),
            (self.generated, "generate"),
            (self.source, "file source"),
            (self.required, "required"),
            (self.cron, "cron"),
            (self.worker.is_some(), "worker"),
            (self.accessory.is_some(), "accessory"),
        ];
        words.extend(flags.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned()));
        let behaviour = self.behaviour.iter().filter(|(key, _)| **key != "APP_SERVER");
        words.extend(behaviour.map(|(key, value)| format!("{key}={value}")));
        words.join(", ")
    }
}

impl Accessory {
    pub fn toml(self) -> String {
        let Self { setting, unready } = self;
        let ready = if unready {
            r#"["false"], timeout = "2s""#
        } else {
            r#"["redis-cli", "ping"], timeout = "40s""#
        };
        format!(
            r#"
[services.redis]
kind = "accessory"
image = "127.0.0.1:5000/redis:7"
volumes = ["redis:/data"]
env = {{ SETTING = "{setting}" }}
secrets = {{ CACHE_KEY = "SECRET_KEY" }}
stop_timeout = "20s"
readiness = {{ command = {ready} }}
"#
        )
    }
}

#[test]
fn a_seed_draws_the_same_site_again() {
    for seed in 0..200 {
        let [one, two] = [(); 2].map(|()| Site::draw(&mut Draw::new(seed)).toml());
        assert_eq!(one, two);
        toml::from_str::<toml::Value>(&one).unwrap();
    }
}
