//! Everything that can be observed of a host from outside, with and without its agent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Engine, Host};

/// Part after part. Changes nothing.
const LOOK: &str = r#"
part() { printf '\036'; }
cat /etc/astra/astra.env
part; for n in 1 2 3 4 5 6; do curl -s -m 20 -w ' %{http_code}\n' localhost/version | tr '\n' ' '; echo; done
part; astra-agent status --json 2>&1; printf '\036%s' $?
part; astra-agent history -n 1000 --json
part; ids=$(ENGINE ps -aq --filter name=^/?astra-app-); [ -z "$ids" ] || ENGINE inspect -f '{{.Name}} {{.State.Status}} {{or (index .Config.Labels "astra.since") (index .Config.Labels "astra.release")}}{{range .Config.Env}}
{{.}}{{end}}
-' $ids
part; ENGINE ps -a --format '{{.Names}} STATE' | grep -v '^astra-app-\|^astra-cron-'
part; find /run/astra -name 'trial*' -o -path '*/drain/*'
    find /etc/astra /run/astra /etc/systemd/system /var/lib/astra-agent -name '.*' -o -name '*.tmp'
part; cat /etc/astra/last_app_image 2>/dev/null
part; systemctl list-units --state=failed --plain --no-legend 'astra-*' | grep -v 'astra-cron-\|astra-migrate'
part; runuser -u postgres -- psql -qAt astra -c "select name from django_migrations where app = 'notes'" \
    -c "select 'used ' || key from used_key" 2>/dev/null
part; ENGINE ps -a --filter name=astra-worker- --format '{{.Names}} STATE LABEL'; ls /etc/astra/files 2>/dev/null
part; sed -n 's/^FIELD_KEY=//p' /etc/astra/astra.env | tr -d '\n' | sha256sum | cut -d' ' -f1
part; cat /etc/astra/astra-redis.env 2>/dev/null
part; ENGINE inspect -f '{{.State.Status}} {{.Id}} {{index .Config.Labels "astra.image"}} {{index .Config.Labels "astra.release"}}{{range .Config.Env}}
{{.}}{{end}}' astra-redis-1 2>/dev/null
part; ! grep -q ^REDIS_HOST= /etc/astra/astra.env || curl -s -m 20 localhost/count
"#;

/// A run of the agent is under way or about to start.
const BUSY: &str = r#"
! flock --nonblock /run/astra/run.lock true 2>/dev/null ||
    systemctl list-units --plain --no-legend 'astra-agent-*.service' 'astra-migrate.service' |
        grep -q ' activating \| running \| start '"#;

/// Places that must have no secrets. Only env files and the engine's own storage may have them.
const SECRETS: &str = r#"
umask 077
sed -nE 's/^(SECRET_KEY|FIELD_KEY|DATABASE_PASSWORD|TOKEN)=//p' /etc/astra/astra.env | grep . >/root/secrets || exit 0
grep -rlF -f /root/secrets /etc/astra /run/astra /etc/systemd /var/lib/astra-agent 2>/dev/null |
    grep -v '\.env$\|^/etc/astra/files/\|^/etc/astra/token\(\.away\)\?$' | sed 's/^/file /'
grep -lF -f /root/secrets /proc/[0-9]*/cmdline 2>/dev/null | sed 's/^/argv: /'
journalctl -q --no-pager -o cat | grep -F -f /root/secrets | head -n 3 | sed 's/^/systemd journal: /'
systemctl show 'astra-*' | grep -F -f /root/secrets | head -n 3 | sed 's/^/systemctl show: /'
rm -f /root/secrets
"#;

/// Why a digest is held; the last reason applies with any environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    Environment,
    Failed,
    RolledBack,
}

#[derive(Clone, Debug, Default)]
pub struct Container {
    pub running: bool,
    pub release: String,
    pub env: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default)]
pub struct Look {
    /// astra.env, by variable.
    pub env: BTreeMap<String, String>,
    /// A visitor's answers to several requests: the version, or a status other than 200.
    pub answers: BTreeSet<String>,
    pub status_code: i32,
    pub status: Value,
    /// Newest first.
    pub history: Vec<Value>,
    pub instances: BTreeMap<u16, Container>,
    pub others: BTreeSet<String>,
    pub traces: Vec<String>,
    pub last_image: String,
    pub failed_units: String,
    pub migrations: Vec<String>,
    /// sha256 of each FIELD_KEY that a migration used, and of the one in astra.env.
    pub used_keys: Vec<String>,
    pub field_key: String,
    /// The container of the worker with its image, and the files of releases.
    pub worker: Vec<String>,
    pub redis: Redis,
    /// The answer of the app's counter, which is in the accessory; empty: it uses none.
    pub visits: String,
}

/// The accessory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redis {
    /// Its env file, by variable.
    pub pin: BTreeMap<String, String>,
    pub running: bool,
    pub id: String,
    pub image: String,
    pub release: String,
    /// The environment of its container.
    pub env: BTreeMap<String, String>,
}

impl Redis {
    fn of(pin: &str, container: &str) -> Self {
        let (head, env) = container.trim_start().split_once('\n').unwrap_or_default();
        let [state, id, image, release] = head.split(' ').collect::<Vec<_>>()[..] else {
            return Self { pin: variables(pin), ..Self::default() };
        };
        let [id, image, release] = [id, image, release].map(str::to_owned);
        Self { pin: variables(pin), running: state == "running", id, image, release, env: variables(env) }
    }
}

impl Look {
    pub fn at(host: &Host) -> Result<Self, String> {
        let label = match host.engine {
            Engine::Podman => "{{index .Labels \"astra.image\"}}",
            Engine::Docker => "{{.Label \"astra.image\"}}",
        };
        let look = LOOK.replace("ENGINE", host.engine.client()).replace("STATE", host.engine.state());
        let text = host.sh(&look.replace("LABEL", label)).stdout;
        let parts: Vec<&str> = text.split('\x1e').collect();
        let Some((own, [pin, redis, visits])) = parts.split_last_chunk() else {
            return Err(format!("a look that was cut off: {text}"));
        };
        let [env, site, status, code, history, apps, others, traces, last, failed, migrations, worker, key] =
            own[..]
        else {
            return Err(format!("a look that was cut off: {text}"));
        };
        let lines = |part: &str| part.lines().map(str::to_owned).collect::<Vec<_>>();
        let answer = |line: &str| {
            let (body, code) = line.trim().rsplit_once(' ').unwrap_or(("", line.trim()));
            if code == "200" { body.trim().to_owned() } else { code.to_owned() }
        };
        Ok(Self {
            env: variables(env),
            answers: site.lines().map(answer).collect(),
            status_code: code.trim().parse().unwrap_or(-1),
            status: serde_json::from_str(status).unwrap_or_else(|_| Value::String(status.to_owned())),
            history: serde_json::from_str::<Value>(history)
                .ok()
                .and_then(|answer| answer["runs"].as_array().cloned())
                .unwrap_or_default(),
            instances: apps.split("\n-\n").filter_map(container).collect(),
            others: others.lines().map(|l| l.trim().to_owned()).collect(),
            traces: lines(traces),
            last_image: last.trim().to_owned(),
            failed_units: failed.to_owned(),
            migrations: lines(migrations),
            used_keys: migrations
                .lines()
                .filter_map(|l| l.strip_prefix("used "))
                .map(str::to_owned)
                .collect(),
            field_key: key.trim().to_owned(),
            worker: lines(worker),
            redis: Redis::of(pin, redis),
            visits: visits.trim().to_owned(),
        })
    }

    pub fn image(&self) -> &str {
        self.env.get("APP_IMAGE").map_or("", String::as_str)
    }

    /// The release since which the app is unchanged.
    pub fn since(&self) -> &str {
        self.env.get("ASTRA_APP_RELEASE").map_or_else(|| self.release(), String::as_str)
    }

    pub fn release(&self) -> &str {
        self.env.get("ASTRA_RELEASE").map_or("", String::as_str)
    }

    /// Every answer was complete.
    pub fn serves(&self) -> bool {
        !self.answers.is_empty()
            && self.answers.iter().all(|answer| !answer.is_empty() && answer.parse::<u16>().is_err())
    }

    pub fn held(&self, digest: &str) -> Option<Held> {
        let held = self.status["held"].as_array()?;
        let why = |held: &Value| match held["reason"].as_str() {
            Some(reason) if reason.starts_with("rolled back") => Held::RolledBack,
            _ if held["only_environment"] == true => Held::Environment,
            _ => Held::Failed,
        };
        held.iter().filter(|held| held["digest"] == digest).map(why).max()
    }
}

fn variables(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn container(text: &str) -> Option<(u16, Container)> {
    let (head, env) = text.trim_start().split_once('\n')?;
    let [name, state, release] = head.split(' ').collect::<Vec<_>>()[..] else { return None };
    let instance = name.trim_start_matches('/').strip_prefix("astra-app-")?.parse().ok()?;
    Some((instance, Container { running: state == "running", release: release.into(), env: variables(env) }))
}

/// Whether a run of the agent is under way.
pub fn busy(host: &Host) -> bool {
    host.sh(BUSY).code() == 0
}

/// Places with a secret.
pub fn leaks(host: &Host) -> Vec<String> {
    host.sh(SECRETS).stdout.lines().map(str::to_owned).collect()
}
