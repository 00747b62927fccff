//! The fault campaign: a table (faults/rows.rs) of failures around the agent, each provoked on a host that
//! serves under load. A row has the fault, the expected exit code and messages; the promises for all rows are
//! here: the committed release serves, no request is lost while an instance can serve, files stay as they
//! were, there are no leftovers, nothing hangs or panics.
//!
//! ASTRA_FAULTS=short (the default), full, or the ids of rows: F27,F86.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::harness::{Host, Load, Output};
use crate::report::Report;
use crate::site::{CONFIG_FILE, PASSWORD, config_with};

mod registry;
mod rows;

use registry::Proxy;

/// One fault.
#[derive(Clone, Copy)]
pub struct Row {
    /// The number in the list of faults; a letter tells variants apart.
    pub id: &'static str,
    /// The fault, in words.
    pub what: &'static str,
    /// Part of the short tier.
    pub short: bool,
    /// The tag pushed before the command. GOOD: the one of v1 and v2 that does not serve. v3 is not in the
    /// store, so it has to be pulled.
    pub push: &'static str,
    /// The registry's behaviour meanwhile (faults/registry.rs).
    pub registry: &'static str,
    /// Shell: provokes the fault, before there is any traffic.
    pub before: &'static str,
    /// Shell, run beside the command from its start: provokes a fault in its middle. It must succeed.
    pub beside: &'static str,
    /// The command under test.
    pub run: &'static str,
    /// Accepted exit codes.
    pub code: &'static [i32],
    /// Texts that the output must contain.
    pub says: &'static [&'static str],
    /// Whether the pushed release is committed in the end.
    pub commits: bool,
    /// Shell that must succeed once the command has ended.
    pub then: &'static str,
    /// Shell: removes the fault.
    pub cure: &'static str,
    /// Why requests may be lost: no instance can serve, or nothing can pass the requests on.
    pub may_lose: &'static str,
    /// The part that a later recover or reconcile has to repair, if the command could not: otherwise the host is whole
    /// as soon as the fault is removed.
    pub repair: &'static str,
    /// A command that takes longer counts as hung.
    pub seconds: u64,
}

const ROW: Row = Row {
    id: "",
    what: "",
    short: false,
    push: GOOD,
    registry: "pass",
    before: "",
    beside: "",
    run: "astra-agent deploy --force --wait 60s",
    code: &[0],
    says: &[],
    commits: false,
    then: "",
    cure: "",
    may_lose: "",
    repair: "",
    seconds: 120,
};

const GOOD: &str = "GOOD";

/// Limit until the host has recovered by itself.
const ITSELF: Duration = Duration::from_secs(30);

/// Paths that are small file systems of their own here, so that they can be full or read-only.
const SMALL_PLACES: &str = "
install -d -m 0700 /etc/astra /var/lib/astra-agent
mount -t tmpfs -o size=900M,mode=0700 tmpfs /var/lib/containers/storage
mount -t tmpfs -o size=1M,nr_inodes=300,mode=0700 tmpfs /etc/astra
mount -t tmpfs -o size=4M,nr_inodes=2000,mode=0700 tmpfs /var/lib/astra-agent
printf '[[registry]]\\nlocation = \"127.0.0.1:5001\"\\ninsecure = true\\n' >/etc/containers/registries.conf.d/20-faults.conf
";

/// Shell functions for the rows.
const WORDS: &str = r#"
until_() { for _ in $(seq 1200); do eval "$1" && return; sleep 0.05; done; echo "never: $1" >&2; exit 9; }
trying() { until_ "[ -e /run/astra/trial-$1.env ]"; }
migrating() { until_ "podman ps --format '{{.Names}}' | grep -q astra-migrate"; }
caddy_pid() { podman inspect -f '{{.State.Pid}}' astra-caddy; }
sql() { runuser -u postgres -- psql -qAt astra -c "$1"; }
locked() { until_ "sql \"SELECT 'yes' FROM pg_locks WHERE relation = 'django_migrations'::regclass AND mode = 'AccessExclusiveLock' AND granted\" | grep -q yes"; }
config() { sed -i "$1" /etc/astra/agent.toml; }
journal() { ls /var/lib/astra-agent/journal/*.jsonl | tail -n 1; }
image() { awk -F= '/^APP_IMAGE=/ { print $2 }' /etc/astra/astra.env; }
pushed() { echo 127.0.0.1:5001/astra@$(curl -sfI -H 'Accept: application/vnd.oci.image.manifest.v1+json' 127.0.0.1:5000/v2/astra/manifests/latest |
    sed -n 's/^docker-content-digest: \([^\r]*\).*/\1/Ip'); }
main() { systemctl show -P MainPID 'astra-agent-deploy-*'; }
# limit CONTROLLER FILE VALUE: prints a control group with that limit, for this machine's v1 hierarchies
limit() { mkdir -p /mnt/$1; mountpoint -q /mnt/$1 || mount -t cgroup -o $1 $1 /mnt/$1 || exit 9
    mkdir -p /mnt/$1/few$$; echo $3 >/mnt/$1/few$$/$2 || exit 9; echo /mnt/$1/few$$; }
# newborn GROUP: the next app starts in that control group, for its runtime puts it there (oci-hooks(5)); once
newborn() { local hooks=/usr/share/containers/oci/hooks.d; mkdir -p $hooks
    printf '#!/bin/sh\nrm %s/newborn.json; jq .pid >%s/cgroup.procs\n' $hooks $1 >/root/newborn; chmod 755 /root/newborn
    echo '{"version": "1.0.0", "hook": {"path": "/root/newborn"}, "when": {"commands": ["python3$"]}, "stages": ["createRuntime"]}' >$hooks/newborn.json; }
# caddy_says PERL-CONDITION STATUS: a server on Caddy's admin socket that answers so where the request line fits
caddy_says() { mv /run/astra/caddy/admin.sock /run/astra/caddy/real.sock
    systemd-run -q --expand-environment=no --unit=impostor perl -MIO::Socket::UNIX -e '$SIG{CHLD} = q(IGNORE);
        my $at = q(/run/astra/caddy/admin.sock); my $s = IO::Socket::UNIX->new(Local => $at, Listen => 9) or die $!;
        while (my $c = $s->accept) { next if fork; my ($q, $b) = (q(), q());
            while (defined($_ = <$c>)) { s/^Connection:.*/Connection: close\r/i; $q .= $_; last if /^\r?$/ }
            $q =~ s/\r\n\r\n$/\r\nConnection: close\r\n\r\n/; read $c, $b, $1 if $q =~ /^Content-Length: (\d+)/mi;
            if ($q =~ $ARGV[0]) { print $c "HTTP/1.1 $ARGV[1]\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n"; exit }
            my $r = IO::Socket::UNIX->new(Peer => q(/run/astra/caddy/real.sock)) or exit; print $r $q, $b; print $c $_ while <$r>; exit }' "$1" "$2"
    until_ '[ -S /run/astra/caddy/admin.sock ]'; }
caddy_again() { systemctl stop impostor; mv /run/astra/caddy/real.sock /run/astra/caddy/admin.sock; }
"#;

/// Everything that must be unchanged, one line each.
const FILES: &str = "
grep -vE '^(APP_IMAGE|ASTRA_RELEASE|APP_ARGS|APP_COMMAND|ASTRA_APP_PORT|ASTRA_CONFIG_KEYS|ASTRA_ENV)=' /etc/astra/astra.env | sha256sum
stat -c '%A %U %n' /etc/astra /etc/astra/astra.env /etc/astra/agent.toml /run/astra /run/astra/drain /run/astra/caddy
find /etc/astra /etc/systemd/system /etc/tmpfiles.d -type f ! -name astra.env ! -name last_app_image -print0 |
    sort -z | xargs -0 sha256sum
sha256sum /etc/shadow /etc/passwd
";

/// Leftovers that no run may have, one line each.
const TRACES: &str = "
find /run/astra -name 'trial*' -o -path '*/drain/*'
find /etc/astra /run/astra /etc/systemd/system /var/lib/astra-agent -name '*astra-tmp*'
podman ps -a --format '{{.Names}} {{.State}}' | grep -vxE 'astra-(app-1|app-2|caddy) running'
flock -n /run/astra/run.lock true || echo 'the lock is held'
systemctl list-units --plain --no-legend 'astra-agent-*.service' --state=activating,active,deactivating
journalctl -q --no-pager _COMM=astra-agent -g 'panicked at' | tail -n 3
true
";

struct Site {
    host: Host,
    proxy: Proxy,
    /// The committed tag.
    serves: String,
    files: String,
}

/// An empty file system of 16 MiB in a file, whose blocks are pages of the file system below.
fn small_disk() -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk.ext4");
    let _ = fs::remove_file(&file);
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-b", "4096", "-O", "^has_journal", "-E", "nodiscard"])
        .args([file.to_str().unwrap(), "16M"])
        .stdout(Stdio::null())
        .status()
        .expect("mkfs.ext4 of e2fsprogs");
    assert!(made.success(), "making {}", file.display());
    file
}

impl Site {
    fn new(number: usize) -> Self {
        let config = config_with([
            ("127.0.0.1:5000/astra", "127.0.0.1:5001/astra"),
            ("timeout = \"60s\"", "timeout = \"15s\""),
            ("[\"./migrate.sh\"]", "[\"./migrate.sh\"]\ntimeout = \"20s\""),
            ("soak = \"1s\"", "soak = \"0s\"\ndrain_timeout = \"8s\"\nmin_free = \"60M\""),
            ("instances = 2", "instances = 2\nstop_timeout = \"5s\""),
        ]);
        let host = Host::boot(&format!("faults-{number}"));
        host.sh(SMALL_PLACES).ok();
        host.write(CONFIG_FILE, &config);
        host.sh(&format!("echo {PASSWORD} | astra-agent env set DATABASE_PASSWORD")).ok();
        host.write("/root/words.sh", WORDS);
        host.put(&small_disk(), "/root/disk.ext4");
        let proxy = Proxy::start(&host.leader());
        host.agent(["install"]).ok();
        // Both are known from here on: there is a rollback target, and a change needs neither pull nor
        // migration.
        host.deploy("v2").ok();
        host.sh(&format!("cp {CONFIG_FILE} /root/agent.toml")).ok();
        let files = host.sh(FILES).ok().stdout;
        Self { host, proxy, serves: "v2".into(), files }
    }

    fn shell(&self, command: &str, seconds: u64) -> Output {
        script(&self.host, "command", command, seconds)
    }

    /// Prepares the row; returns the tag that it pushed.
    fn prepare(&mut self, row: &Row) -> Result<String, String> {
        if self.serves == "v3" {
            self.command("astra-agent deploy --force --wait 60s", "v1")?;
            self.serves = "v1".into();
        }
        let tag = match row.push {
            GOOD if self.serves == "v1" => "v2",
            GOOD => "v1",
            tag => tag,
        };
        if tag == "v3" {
            let digest = self.host.digest("v3");
            self.shell(&format!("podman rmi -f -i 127.0.0.1:5001/astra@{digest}"), 60);
        }
        self.host.tag("latest", tag);
        Ok(tag.into())
    }

    fn command(&self, command: &str, tag: &str) -> Result<(), String> {
        self.host.tag("latest", tag);
        let output = self.shell(command, 120);
        (output.code() == 0)
            .then_some(())
            .ok_or_else(|| format!("{command}: {}{}", output.stdout, output.stderr))
    }

    /// Provokes the fault, and runs the command.
    fn provoke(&mut self, row: &Row, faults: &mut Vec<String>) -> (Output, f64, Option<Load>) {
        if !row.before.is_empty() {
            let before = self.shell(row.before, 90);
            if before.code() != 0 {
                faults.push(format!("not provoked: {}{}", before.stdout, before.stderr));
            }
        }
        self.proxy.mode(row.registry);
        let load = self.host.load(40).websockets(0).start();
        let host = &self.host;
        let (output, seconds, beside) = thread::scope(|scope| {
            let beside = scope.spawn(|| script(host, "beside", row.beside, row.seconds));
            let begun = Instant::now();
            let output = self.shell(row.run, row.seconds);
            (output, begun.elapsed().as_secs_f64(), beside.join().unwrap())
        });
        if beside.code() != 0 {
            faults.push(format!("not provoked: {}{}", beside.stdout, beside.stderr));
        }
        (output, seconds, Some(load))
    }

    /// Checks the command's answer.
    fn judge(&self, row: &Row, output: &Output, faults: &mut Vec<String>) {
        let said = format!("{}{}", output.stdout, output.stderr);
        let code = output.code();
        if code == 124 || code == 137 && !row.code.contains(&137) {
            faults.push(format!("hangs: not done after {} s", row.seconds));
        }
        if !row.code.contains(&code) {
            faults.push(format!("exit code {code}, not {:?}", row.code));
        }
        faults.extend(row.says.iter().filter(|s| !said.contains(**s)).map(|s| format!("does not say {s:?}")));
        let advice = ["hint:", "next  ", "Usage:", "\n = "];
        if (1..100).contains(&code) && !advice.iter().any(|a| said.contains(a)) {
            faults.push("does not say what to do".into());
        }
        if said.contains("panicked") || said.contains("RUST_BACKTRACE") {
            faults.push("panics".into());
        }
        if !row.then.is_empty() {
            let then = self.shell(row.then, 60);
            if then.code() != 0 {
                faults.push(format!("afterwards: {}{}", then.stdout, then.stderr));
            }
        }
    }

    /// After the fault: the host becomes whole by itself, and stays so after a repair.
    fn settle(
        &mut self,
        row: &Row,
        code: i32,
        load: Option<Load>,
        faults: &mut Vec<String>,
    ) -> Option<Report> {
        self.proxy.mode("pass");
        let cure = self.shell(&format!("{}\ncp /root/agent.toml {CONFIG_FILE}", row.cure), 90);
        if cure.code() != 0 {
            faults.push(format!("not cured: {}{}", cure.stdout, cure.stderr));
        }
        // Code 4 means that an operator has to repair; systemd's own restarts may still be under way.
        if row.repair.is_empty() && code != 4 {
            let missing = self.missing_at_last();
            faults.extend(missing.into_iter().map(|what| format!("before any repair: {what}")));
        }
        for verb in ["recover", "reconcile"] {
            let again = self.shell(&format!("astra-agent {verb} --wait 60s"), 120);
            if again.code() != 0 {
                faults.push(format!("{verb} ends with {}: {}{}", again.code(), again.stdout, again.stderr));
            }
        }
        thread::scope(|scope| {
            let load = scope.spawn(move || load.map(Load::stop));
            let status = self.shell("astra-agent status --json", 30);
            if status.code() != 0 {
                faults.push(format!("status afterwards: {}{}", status.stdout, status.stderr));
            }
            let history = self.shell("astra-agent history --json >/dev/null", 30);
            if history.code() != 0 {
                faults.push(format!("history afterwards: {}", history.stderr));
            }
            // The timer's own run may have begun.
            faults.extend(self.missing_at_last());
            load.join().unwrap()
        })
    }

    /// The promises that do not hold: both instances serve the committed release, files are unchanged, there
    /// are no leftovers.
    fn missing(&self) -> Vec<String> {
        let host = &self.host;
        let mut missing = Vec::new();
        for instance in [1, 2] {
            let answer = host.sh(&format!("curl -sSf -m 5 localhost:800{instance}/"));
            if !answer.stdout.starts_with(&format!("{} ", self.serves)) {
                let told = format!("{}{}", answer.stdout, answer.stderr);
                missing.push(format!("instance {instance} is not {}: {told}", self.serves));
            }
        }
        let image = host.sh("sed -n s/^APP_IMAGE=//p /etc/astra/astra.env").stdout;
        let digest = host.digest(&self.serves);
        if !image.trim().ends_with(&digest) {
            missing.push(format!("committed is {}, not {} ({digest})", image.trim(), self.serves));
        }
        let files = host.sh(FILES).stdout;
        let differ = |line: &&str| !self.files.contains(*line);
        missing.extend(files.lines().filter(differ).map(|line| format!("changed: {line}")));
        let lost = |line: &&str| !files.contains(*line);
        missing.extend(self.files.lines().filter(lost).map(|line| format!("was: {line}")));
        missing.extend(host.sh(TRACES).stdout.lines().map(|line| format!("left behind: {line}")));
        missing
    }

    /// The same, after the time that the host may take to recover.
    fn missing_at_last(&self) -> Vec<String> {
        let end = Instant::now() + ITSELF;
        loop {
            let missing = self.missing();
            if missing.is_empty() || Instant::now() >= end {
                return missing;
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Runs one row; returns what is wrong.
    fn meet(&mut self, row: &Row) -> Vec<String> {
        let mut faults = Vec::new();
        let tag = match self.prepare(row) {
            Ok(tag) => tag,
            Err(error) => return vec![format!("not prepared: {error}")],
        };
        let (output, seconds, load) = self.provoke(row, &mut faults);
        self.judge(row, &output, &mut faults);
        if row.commits {
            self.serves = tag;
        }
        let report = self.settle(row, output.code(), load, &mut faults).unwrap_or_default();
        if report.failed > 0 && row.may_lose.is_empty() {
            let errors = report.kinds.values().flat_map(|kind| &kind.errors);
            let errors: Vec<_> = errors.take(3).map(|e| format!("{} s: {}", e.at, e.error)).collect();
            faults.push(format!("{} of {} requests lost: {errors:?}", report.failed, report.total));
        }
        let verdict = match (faults.is_empty(), report.failed) {
            (false, _) => "FAILED".to_owned(),
            (true, 0) => "ok".to_owned(),
            (true, _) => format!("ok: {}", row.may_lose),
        };
        let lost = format!("{}/{}", report.failed, report.total);
        println!(
            "| {:<5} | {:<78} | {:<14} {:>4} | {seconds:>6.1} s | {lost:>9} | {verdict} |",
            row.id,
            row.what,
            outcome(&output),
            output.code(),
        );
        if !faults.is_empty() || env::var_os("ASTRA_FAULTS_SHOW").is_some() {
            for fault in &faults {
                println!("      ! {}", fault.trim().replace('\n', "\n        "));
            }
            println!(
                "      | {}",
                format!("{}{}", output.stdout, output.stderr).trim().replace('\n', "\n      | ")
            );
        }
        faults
    }
}

/// Runs shell lines with the rows' functions and a time limit. Output goes to files: a pipe would stay open
/// in any process that survives, and block this test.
fn script(host: &Host, name: &str, lines: &str, seconds: u64) -> Output {
    let at = format!("/root/{name}");
    host.write(&at, &format!(". /root/words.sh\n{lines}\n"));
    host.sh(&format!(
        "timeout -k 5 {seconds} bash {at} >{at}.out 2>{at}.err </dev/null; c=$?; cat {at}.out; cat {at}.err >&2; exit $c"
    ))
}

/// The first word of the closing line, or a replacement.
fn outcome(output: &Output) -> &'static str {
    let words = ["converged", "nothing to do", "undone", "failed", "incomplete"];
    let closing = |word: &&&str| output.stdout.lines().any(|line| line.starts_with(**word));
    match words.iter().find(closing) {
        Some(word) => word,
        None if output.stderr.contains("error:") => "refused",
        None => "-",
    }
}

#[test]
fn faults_lose_nothing_and_report_the_fix() {
    let wish = env::var("ASTRA_FAULTS").unwrap_or_else(|_| "short".into());
    let wanted = |row: &&Row| match wish.as_str() {
        "full" => true,
        "short" => row.short,
        ids => ids.split(',').any(|id| row.id == id || row.id.trim_end_matches(char::is_lowercase) == id),
    };
    let rows: Vec<_> = rows::TABLE.iter().flat_map(|rows| rows.iter()).filter(wanted).collect();
    assert!(!rows.is_empty(), "no row {wish}");
    let mut hosts = 0;
    let mut site = Site::new(hosts);
    let mut failed = Vec::new();
    // Start a new line after the test's name.
    println!();
    for row in &rows {
        let faults = site.meet(row);
        if !faults.is_empty() {
            failed.push(row.id);
            // A fresh host after a failure, so that it does not affect the next row.
            hosts += 1;
            drop(site);
            site = Site::new(hosts);
        }
    }
    println!("{} faults met, {} as they must be", rows.len(), rows.len() - failed.len());
    if wish == "full" {
        for (ids, why) in rows::NOT_COVERED {
            println!("| {ids} | {why} | not covered | | | |");
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
