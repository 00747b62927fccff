//! Performs one operation on a host, and records the commands that repeat it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::accessory::{self, Change};
use super::draw::{Site, TOKEN_FILE};
use super::look::{self, Look};
use super::ops::{BAD, By, GOOD, Hand, Op, Victim};
use crate::harness::{Engine, Host};
use crate::site::{CONFIG_FILE, ENV_FILE, PASSWORD};

/// The state of a host, as far as it affects the expectations.
pub struct Known {
    pub engine: Engine,
    pub site: Site,
    /// The version that the tracked tag points to.
    pub tag: &'static str,
    pub registry: bool,
    pub database: bool,
    pub source: bool,
    /// The digest of each version in the registry.
    pub digests: BTreeMap<String, String>,
    /// The same of the accessory, and the version that its tag points to.
    pub redis: BTreeMap<&'static str, String>,
    pub redis_tag: &'static str,
    /// The number that the accessory has counted to.
    pub count: u64,
}

/// A host and its operator.
pub struct Operator {
    pub host: Host,
    pub known: Known,
    /// The commands so far.
    pub log: String,
    /// The last look at the host.
    pub seen: Option<Look>,
}

impl Deref for Operator {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl DerefMut for Operator {
    fn deref_mut(&mut self) -> &mut Known {
        &mut self.known
    }
}

impl Known {
    pub fn new(engine: Engine, site: Site, digests: BTreeMap<String, String>) -> Self {
        let (tag, redis_tag, redis) = ("v1", accessory::TAGS[0], BTreeMap::new());
        let (registry, database, source) = (true, true, true);
        Self { engine, site, tag, registry, database, source, digests, redis, redis_tag, count: 0 }
    }

    pub fn digest(&self, version: &str) -> String {
        self.digests[version].clone()
    }

    /// The version of an image reference.
    pub fn version(&self, image: &str) -> Option<&str> {
        let digest = image.split_once('@')?.1;
        self.digests.iter().find(|(_, d)| *d == digest).map(|(tag, _)| tag.as_str())
    }
}

/// The result of an operation.
#[derive(Debug, Default)]
pub struct Done {
    /// The agent's last verb with its exit code; none: it was cut off, or there was none.
    pub verb: Option<(String, i32)>,
    /// All commands with their exit codes.
    pub codes: Vec<(String, i32)>,
    pub said: String,
    /// Whether `plan`, just before a deploy, had nothing to do.
    pub planned_nothing: Option<bool>,
}

impl Operator {
    pub fn new(host: Host, site: Site) -> Self {
        let digests = GOOD.iter().chain(&BAD).map(|tag| ((*tag).to_owned(), host.digest(tag))).collect();
        let redis = accessory::TAGS.map(|tag| (tag, host.digest_in("redis", tag))).into();
        let known = Known { redis, ..Known::new(host.engine, site, digests) };
        Self { host, known, log: String::new(), seen: None }
    }

    /// The site as drawn, serving v1.
    pub fn install(&mut self) -> Done {
        self.write_config();
        self.sh(&format!("printf 'token-4711-canary\\n' >{TOKEN_FILE}; chmod 0600 {TOKEN_FILE}"));
        self.set("DATABASE_PASSWORD", PASSWORD);
        self.set("OPERATOR_NOTE", "note");
        let mut done = Done::default();
        self.verb("install", &mut done);
        done
    }

    pub fn act(&mut self, op: &Op, before: &Look) -> Done {
        let mut done = Done::default();
        match op {
            Op::Deploy { version, force } => {
                self.push(version);
                self.verb(if *force { "deploy --force" } else { "deploy" }, &mut done);
            }
            Op::DeploySha(version) => {
                let digest = self.digest(version);
                self.verb(&format!("deploy-sha {digest}"), &mut done);
            }
            Op::Push(version) => self.push(version),
            Op::Rollback => self.verb("rollback", &mut done),
            Op::RollbackTo(back) => {
                if let Some(number) = earlier(before, *back) {
                    self.verb(&format!("rollback --to {number}"), &mut done);
                }
            }
            Op::Verb(words) => self.verb(words, &mut done),
            Op::EnvSet(key, value) => {
                let code = self.set(key, value);
                done.codes.push((format!("env set {key}"), code));
            }
            Op::Edit(edit, then) => {
                edit.apply(&mut self.site);
                self.write_config();
                if let Some(words) = then {
                    self.verb(words, &mut done);
                }
            }
            Op::Hand(hand) => self.by_hand(*hand),
            Op::Systemctl(word, units) => _ = self.sh(&format!("systemctl {word} {units}")),
            Op::Reboot => {
                let before = self.host.leader();
                self.sh("sync; systemctl reboot");
                self.up_again(&before);
            }
            Op::PowerCut => self.cut_power(),
            Op::Kill(victim) => _ = self.sh(kill(*victim)),
            Op::Disturbed { version, verb, after, by } => {
                self.push(version);
                self.disturb(verb, *after, *by, &mut done);
            }
            Op::NewBinary => _ = self.sh(NEW_BINARY),
            Op::NewBinaryMeanwhile => {
                let waits = "setsid astra-agent reconcile --wait 60s >/root/waits 2>&1 </dev/null & sleep 1";
                self.sh(&format!(
                    "flock /run/astra/run.lock sh -c '{NEW_BINARY}; sleep 2' & sleep 0.2; {waits}; wait"
                ));
            }
            Op::Prune("back") => {
                self.sh("for i in $(cat /etc/astra/last_app_image); do ENGINE rmi --force $i; done; rm -f /run/astra/way-back");
            }
            Op::Prune(_) => _ = self.sh("ENGINE rmi 127.0.0.1:5000/caddy:2"),
            Op::Registry(up) => {
                self.registry = *up;
                if *up {
                    self.start_registry();
                } else {
                    self.sh("systemctl stop docker-registry");
                }
            }
            Op::Database(up) => {
                self.database = *up;
                let word = if *up { "start" } else { "stop" };
                self.sh(&format!("systemctl {word} postgresql@17-main"));
                if *up {
                    self.sh("until pg_isready -q; do sleep 0.1; done");
                }
            }
            Op::Source(up) => {
                self.source = *up;
                let (from, to) = if *up { (".away", "") } else { ("", ".away") };
                self.sh(&format!("[ ! -e {TOKEN_FILE}{from} ] || mv {TOKEN_FILE}{from} {TOKEN_FILE}{to}"));
            }
            Op::Both(one, two) => self.both(one, two, &mut done),
            Op::Accessory(change) => self.change(*change, &mut done),
        }
        done
    }

    /// Runs a command, and records it.
    pub fn sh(&mut self, command: &str) -> String {
        let command = command.replace("ENGINE", self.host.engine.client());
        writeln!(self.log, "    {}", command.trim().replace('\n', "\n    ")).unwrap();
        let output = self.host.sh(&command);
        format!("{}{}", output.stdout, output.stderr)
    }

    pub fn start_registry(&mut self) {
        self.sh("systemctl start docker-registry; until curl -sfo /dev/null 127.0.0.1:5000/v2/; do sleep 0.1; done");
    }

    pub fn verb(&mut self, words: &str, done: &mut Done) {
        if words == "deploy" {
            let plan = self.host.sh("astra-agent plan");
            done.codes.push(("plan".into(), plan.code()));
            done.planned_nothing = (plan.code() == 0).then(|| plan.stdout.trim() == "nothing to do");
        }
        let input = if words.starts_with("env set") { "echo note-both | " } else { "" };
        let output = self.host.sh_within("1200", &format!("{input}astra-agent {words}"), "");
        let code = output.code();
        done.said += &format!("{}{}", output.stdout, output.stderr);
        writeln!(self.log, "    {input}astra-agent {words}   # exit code {code}").unwrap();
        done.codes.push((words.to_owned(), code));
        done.verb = Some((words.to_owned(), code));
    }

    fn set(&mut self, key: &str, value: &str) -> i32 {
        writeln!(self.log, "    printf {value} | astra-agent env set {key}").unwrap();
        self.host.sh_with(&format!("astra-agent env set {key}"), value).code()
    }

    pub fn write_config(&mut self) {
        let toml = self.site.toml();
        // docker has no name for its host.
        let toml = match self.host.engine {
            Engine::Podman => toml,
            Engine::Docker => toml.replace("host.containers.internal", "172.17.0.1"),
        };
        writeln!(self.log, "    cat >{CONFIG_FILE} <<'END'\n{toml}END").unwrap();
        self.host.write(CONFIG_FILE, &toml);
    }

    /// A push fails while the registry is down.
    fn push(&mut self, version: &'static str) {
        if self.registry {
            self.host.tag("latest", version);
            writeln!(self.log, "    # push {version} as latest").unwrap();
            self.tag = version;
        }
    }

    fn by_hand(&mut self, hand: Hand) {
        self.sh(match hand {
            Hand::EnvLine => "echo 'BY_HAND=one' >>/etc/astra/astra.env; sort -u -t= -k1,1 -o /root/e /etc/astra/astra.env; cat /root/e >/etc/astra/astra.env; rm /root/e",
            Hand::EnvGarbage => "cp -p /etc/astra/astra.env /root/astra.env; echo 'export NOT=a line' >>/etc/astra/astra.env",
            Hand::Caddyfile => "echo '# by hand' >>/etc/astra/Caddyfile",
            Hand::AppUnit => "echo '# by hand' >>/etc/systemd/system/astra-app@.service; systemctl daemon-reload",
            Hand::LostUnit => "rm -f /etc/systemd/system/astra-migrate.service /etc/systemd/system/astra-agent-recover.service",
            Hand::Marker => "touch /run/astra/drain/1",
            Hand::Trial => "echo ASTRA_RELEASE=77 >/run/astra/trial-1.env",
            Hand::LastImage => "echo nonsense >/etc/astra/last_app_image",
            Hand::LostFile => "mkdir -p /etc/astra/files; cp -a /etc/astra/files /root/files; rm -f $(ls -d /etc/astra/files/* | head -n1)",
            Hand::Stranger => "ENGINE run -d --name stranger --network none $(ENGINE images -q 127.0.0.1:5000/astra | head -n1) sleep 100000",
        });
    }

    /// Undoes by hand what the agent must refuse and cannot repair.
    pub fn repair(&mut self, op: &Op) {
        match op {
            Op::Hand(Hand::EnvGarbage) => {
                _ = self.sh(&format!("sed -i '/^export NOT/d' {ENV_FILE}; rm -f /root/astra.env"))
            }
            Op::Hand(Hand::Stranger) => _ = self.sh("ENGINE rm -f stranger"),
            Op::Accessory(Change::Unready) => self.set_unready(false),
            // It cannot be made again if agent.toml has changed since.
            Op::Hand(Hand::LostFile) => {
                _ = self.sh("cp -an /root/files/. /etc/astra/files/; rm -r /root/files")
            }
            _ => {}
        }
    }

    fn cut_power(&mut self) {
        writeln!(self.log, "    # on the machine: tests/host/host reboot NAME").unwrap();
        let before = self.host.leader();
        self.host.reboot();
        self.up_again(&before);
    }

    /// Waits for a new boot.
    fn up_again(&mut self, before: &str) {
        let begun = Instant::now();
        loop {
            let leader = self.host.leader();
            let up = "systemctl is-system-running --wait >/dev/null; pg_isready -q && curl -sfo /dev/null 127.0.0.1:5000/v2/";
            if !leader.is_empty() && leader != before && self.host.sh(up).code() == 0 {
                break;
            }
            assert!(begun.elapsed() < BOOT, "the host does not come up again");
            std::thread::sleep(Duration::from_millis(200));
        }
        // A boot starts stopped services.
        (self.registry, self.database) = (true, true);
    }

    /// Starts a verb, and sends the signal at its time.
    fn disturb(&mut self, words: &str, after: u64, by: By, done: &mut Done) {
        let (begin, wait) = ("astra-agent", "wait $front; echo \"code $?\"");
        let seconds = format!("{}.{:03}", after / 1000, after % 1000);
        let signal = match by {
            By::Kill => {
                "m=$(systemctl show -P MainPID \"astra-agent-*.service\" | grep -v '^0$' | head -n1); [ -z \"$m\" ] || kill -KILL $m"
            }
            By::Interrupt => "kill -INT $front",
            By::Cut => "",
            By::KillConmon => kill(Victim::Conmon),
            By::KillPodman => kill(Victim::Podman),
        };
        if by == By::Cut {
            self.sh(&format!("setsid {begin} {words} >/root/out 2>&1 </dev/null & sleep {seconds}"));
            return self.cut_power();
        }
        let said = self.sh(&format!(
            "{begin} {words} >/root/out 2>&1 & front=$!; sleep {seconds}; {signal}; {wait}; cat /root/out"
        ));
        let code = said.lines().find_map(|l| l.strip_prefix("code ")?.parse().ok()).unwrap_or(-1);
        writeln!(self.log, "    # exit code {code}").unwrap();
        done.codes.push((words.to_owned(), code));
        done.said += &said;
    }

    fn both(&mut self, one: &str, two: &str, done: &mut Done) {
        let said = self.sh(&format!(
            "echo note-both | astra-agent {one} >/root/one 2>&1 & one=$!; echo note-both | astra-agent {two} >/root/two 2>&1 & two=$!; \
             wait $one; echo \"code $?\"; wait $two; echo \"code $?\"; cat /root/one /root/two"
        ));
        let mut codes = said.lines().filter_map(|l| l.strip_prefix("code ")?.parse().ok());
        for words in [one, two] {
            let code = codes.next().unwrap_or(-1);
            writeln!(self.log, "    # {words}: exit code {code}").unwrap();
            done.codes.push((words.to_owned(), code));
        }
        done.said += &said;
    }

    /// A tick of the timer.
    pub fn tick(&mut self) -> i32 {
        self.sh("systemctl start astra-agent-reconcile.service");
        let code = self.host.sh("systemctl show -P ExecMainStatus astra-agent-reconcile.service").stdout;
        code.trim().parse().unwrap_or(-1)
    }

    pub fn busy(&self) -> bool {
        look::busy(&self.host)
    }
}

/// A shutdown waits for apps that do not end.
const BOOT: Duration = Duration::from_secs(500);

const NEW_BINARY: &str =
    "cp /usr/local/bin/astra-agent /usr/local/bin/new && mv /usr/local/bin/new /usr/local/bin/astra-agent";

fn kill(victim: Victim) -> &'static str {
    match victim {
        Victim::Conmon => "kill -KILL $(systemctl show -P MainPID astra-app@1)",
        Victim::App => "ENGINE kill astra-app-1",
        Victim::Caddy => "ENGINE kill astra-caddy",
        Victim::Worker => "ENGINE kill astra-worker-1",
        Victim::Podman => "systemctl kill -s KILL ENGINE.service",
    }
}

/// The release that many commits before the newest.
fn earlier(look: &Look, back: usize) -> Option<u64> {
    let committed = |run: &&serde_json::Value| run["outcome"] == "converged" && !run["release"].is_null();
    let mut numbers: Vec<u64> =
        look.history.iter().filter(committed).filter_map(|run| run["release"]["number"].as_u64()).collect();
    numbers.dedup();
    numbers.get(back).copied()
}
