//! The packages: the same bytes twice, readable by rpm, and a .deb that is installed, upgraded, removed and purged while
//! the site serves. They are built from the binary of this build, in less time than a release takes.

use std::fs::{create_dir_all, read, read_dir, remove_dir_all};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Answer, Host, example};
use crate::site::{CONFIG, CONFIG_FILE, PASSWORD, turn};

const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/build");
/// The debug build needs the C library of this machine.
const ANY_GLIBC: &str = "9.9";

const CONDITION: &str =
    "grep -h ConditionFileIsExecutable /etc/systemd/system/astra-agent-*.service | sort -u";
const TIMER: &str = "systemctl is-enabled astra-agent-reconcile.timer astra-agent-recover";

/// A directory of this test, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

/// Runs a command on this machine: its exit code, and what it printed.
fn run(command: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(command).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), text.concat())
}

#[track_caller]
fn ok(command: &str, arguments: &[&str]) -> String {
    let (ok, text) = run(command, arguments);
    assert!(ok, "{command} {arguments:?}\n{text}");
    text
}

/// The binary without its debug information: 230 of its 245 MB.
fn stripped(dir: &Path) -> String {
    let bin = dir.join("astra-agent").to_str().unwrap().to_owned();
    ok("strip", &["-o", &bin, env!("CARGO_BIN_EXE_astra-agent")]);
    bin
}

fn build(bin: &str, out: &Path, version: &str, glibc: &str) -> (bool, String) {
    let (out, pages) = (out.to_str().unwrap(), example("pages"));
    let what = ["--bin", bin, "--out", out, "--pages", pages.to_str().unwrap()];
    run(BUILD, &[&what[..], &["--quick", "--version", version, "--glibc", glibc]].concat())
}

/// The packages of a directory.
fn packages(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn with(dir: &Path, end: &str) -> PathBuf {
    packages(dir).into_iter().find(|path| path.to_str().unwrap().ends_with(end)).unwrap()
}

#[test]
fn packages_are_the_same_bytes_twice_and_rpm_reads_them() {
    let scratch = Scratch::new("bytes");
    let bin = stripped(&scratch.0);
    let [first, second] = ["first", "second"].map(|name| {
        let out = scratch.0.join(name);
        let (built, said) = build(&bin, &out, "0.1.0", ANY_GLIBC);
        assert!(built, "{said}");
        out
    });
    let found = packages(&first);
    assert_eq!(found.len(), 5, "{found:?}");
    for file in &found {
        assert!(read(file).unwrap() == read(second.join(file.file_name().unwrap())).unwrap(), "{file:?}");
    }
    let check = format!("cd {} && sha256sum -c SHA256SUMS", first.display());
    assert_eq!(ok("sh", &["-c", &check]).matches(": OK").count(), 4);

    let crates: Value = serde_json::from_slice(&read(with(&first, ".cdx.json")).unwrap()).unwrap();
    let names: Vec<_> = crates["components"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert!(names.len() > 50 && names.iter().any(|name| *name == "tokio"), "{names:?}");
    assert!(!names.iter().any(|name| *name == "clap_mangen"), "{names:?}");

    // A build for any glibc needs a newer one than the packages promise.
    let (built, said) = build(&bin, &second, "0.1.0", "2.28");
    assert!(!built && said.contains("needs glibc 2.") && said.contains("promise 2.28"), "{said}");

    let rpm = with(&first, ".rpm");
    let rpm = rpm.to_str().unwrap();
    let said = ok("rpm", &["-qp", "--info", "--list", "--requires", "--scripts", rpm]);
    for words in [
        "/usr/bin/astra-agent\n",
        "/usr/share/man/man1/astra-agent-deploy.1.gz\n",
        "/usr/share/man/man5/agent.toml.5.gz\n",
        "/usr/share/zsh/site-functions/_astra-agent\n",
        "/usr/share/astra-agent/agent.schema.json\n",
        "systemd >= 252\n",
        "[ \"$1\" != 0 ] || removing\n",
        "marker=/var/lib/astra-agent/removed\n",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let root = scratch.0.join("root");
    let root = root.to_str().unwrap();
    ok("rpm", &["--root", root, "-i", "--nodeps", "--noscripts", rpm]);
    assert!(ok(&format!("{root}/usr/bin/astra-agent"), &["--version"]).starts_with("astra-agent "));
    ok("rpm", &["--root", root, "--verify", "--nodeps", "astra-agent"]);
}

/// Copies a package into the host, and installs it over the one that is there.
fn install(host: &Host, deb: &Path) -> String {
    host.put(deb, "/root/astra-agent.deb");
    host.sh("dpkg -i /root/astra-agent.deb 2>&1").ok().stdout
}

#[test]
fn a_package_is_upgraded_removed_and_purged_while_the_site_serves() {
    let scratch = Scratch::new("deb");
    let bin = stripped(&scratch.0);
    let [old, new] = ["0.1.0", "0.1.1"].map(|version| {
        let out = scratch.0.join(version);
        let (built, said) = build(&bin, &out, version, ANY_GLIBC);
        assert!(built, "{said}");
        (with(&out, ".deb"), with(&out, ".rpm"))
    });
    let ((old, _), (new, rpm)) = (old, new);
    let host = Host::boot("packages");
    assert!(install(&host, &old).contains("/usr/local/bin/astra-agent hides"));
    host.sh("rm /usr/local/bin/astra-agent").ok();
    host.write(CONFIG_FILE, CONFIG);
    host.sh_with("astra-agent env set DATABASE_PASSWORD", PASSWORD).ok();
    host.agent(["install"]).ok();
    assert_eq!(host.sh(CONDITION).ok().stdout, "ConditionFileIsExecutable=/usr/bin/astra-agent\n");
    // As on a host that had the bare binary before.
    host.sh("cp /usr/bin/astra-agent /usr/local/bin && /usr/local/bin/astra-agent reconcile").ok();
    assert_eq!(host.sh(CONDITION).ok().stdout, "ConditionFileIsExecutable=/usr/local/bin/astra-agent\n");
    host.sh("rm /usr/local/bin/astra-agent && astra-agent reconcile").ok();
    assert_eq!(host.sh(CONDITION).ok().stdout, "ConditionFileIsExecutable=/usr/bin/astra-agent\n");

    let turn = turn();
    let load = host.load(50).websockets(0).start();
    // A run under way ends with the old binary.
    host.tag("latest", "v2");
    host.put(&new, "/root/astra-agent.deb");
    let deploy = "astra-agent deploy >/root/said & sleep 1; \
                  dpkg -i /root/astra-agent.deb && kill -0 $! && wait $! && cat /root/said";
    assert!(host.sh(deploy).ok().stdout.contains("release 2 is live"));
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);

    let before = (host.invocations(), host.files());
    host.sh("systemctl start astra-agent-reconcile").ok();
    assert_eq!(host.files(), before.1, "the same agent writes the same files");
    host.agent(["status"]).ok();

    held_back(&host);
    let said = host.sh("dpkg -r astra-agent 2>&1").ok().stdout;
    assert!(said.contains("the site goes on serving"), "{said}");
    assert_eq!(host.sh("ls /usr/bin/astra-agent").code(), 2);
    assert_eq!(host.sh("systemctl --failed --plain --no-legend").ok().stdout, "");
    assert_eq!(host.sh(TIMER).stdout, "disabled\ndisabled\n");

    install(&host, &new);
    assert_eq!(host.sh(TIMER).ok().stdout, "enabled\nenabled\n");
    host.sh("systemctl is-active astra-agent-reconcile.timer").ok();
    host.agent(["status"]).ok();
    scripts_of_the_rpm(&host, &rpm);
    let said = host.sh("dpkg -P astra-agent 2>&1").ok().stdout;
    assert!(
        said.contains("because it runs: astra-app@1.service astra-app@2.service astra-caddy.service"),
        "{said}"
    );
    let report = load.stop();
    drop(turn);
    report.assert_lossless();
    assert_eq!(host.invocations(), before.0);
    assert_eq!(host.get("/readyz"), Answer { status: 200, body: "ready\n".into() });

    purged(&host, &new);
}

/// Another process holds the lock of a run: the package stays.
fn held_back(host: &Host) {
    host.sh("systemd-run -q --unit=holder flock /run/astra/run.lock sleep 1000").ok();
    let refused = host.sh("dpkg -r astra-agent");
    assert!(refused.code() != 0 && refused.text().contains("a run is under way"), "{}", refused.text());
    host.agent(["--version"]).ok();
    host.sh("systemctl is-active astra-agent-reconcile.timer && systemctl stop holder").ok();
}

/// As rpm calls them: with 1 in an upgrade, with 0 for the last one.
fn scripts_of_the_rpm(host: &Host, rpm: &Path) {
    let [before, after] =
        ["%{PREUN}", "%{POSTIN}"].map(|tag| ok("rpm", &["-qp", "--qf", tag, rpm.to_str().unwrap()]));
    assert_eq!(host.sh_with("sh -s 1", &before).ok().text(), "");
    host.sh(TIMER).ok();
    assert!(host.sh_with("sh -s 0", &before).ok().stdout.contains("the site goes on serving"));
    assert_eq!(host.sh(TIMER).stdout, "disabled\ndisabled\n");
    assert_eq!(host.sh_with("sh -s 1", &after).ok().text(), "");
    host.sh(TIMER).ok();
}

/// With the site stopped, a purge leaves only a copy of its settings.
fn purged(host: &Host, deb: &Path) {
    install(host, deb);
    host.sh("systemctl stop 'astra-app@*' astra-caddy").ok();
    let said = host.sh("dpkg -P astra-agent 2>&1").ok().stdout;
    assert!(said.contains("the secrets are in /var/backups/astra-"), "{said}");
    let left = "find /etc/astra /var/lib/astra-agent /run/astra /etc/tmpfiles.d/astra.conf /etc/systemd/system \
                -name '*astra*' 2>/dev/null";
    assert_eq!(host.sh(left).stdout, "");
    assert_eq!(host.sh("cat /var/backups/astra-*/agent.toml").ok().stdout, CONFIG);
    assert_eq!(host.sh("stat -c %a /var/backups/astra-*").ok().stdout, "700\n");
    assert_eq!(host.sh("systemctl --failed --plain --no-legend").ok().stdout, "");
}
