//! Kills and power cuts while a site of several services changes: two images, a colour and a file at once. The host
//! ends with all of the old release or all of the new one, in every service.

use std::collections::BTreeSet;
use std::env;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::blind::{fractions, kill};
use super::tally::{Cut, Tally};
use crate::chronos::site;
use crate::harness::{Engine, Host};
use crate::recovery::Restored;
use crate::site::CONFIG_FILE;

/// How long to wait for a host before it counts as lost.
const LIMIT: Duration = Duration::from_secs(120);
/// Seconds that the slowest service and a boot need.
const START: f64 = 30.0;
/// A file in the containers of the API and of the scheduler, with the colour of the front end.
const WORD: &str = "[files.word]\ncontent = \"green\\n\"\nmount = { services = [\"app\", \"scheduler\"], path = \"/etc/word\" }\n";

const LOOK: &str = r#"
part() { printf '\036'; }
astra-agent status --json; printf '\036%s' $?
part; podman ps -a --format '{{.Names}} {{.ListContainer.State}} {{index .Labels "astra.image"}}' | sort
part; curl -s -m 5 localhost/; curl -s -m 5 localhost/api/version
    for name in app-1 app-2 scheduler-1; do podman exec chronos-$name cat /etc/word; done
part; find /run/astra -name 'trial*' -o -path '*/drain/*'
    find /etc/astra /run/astra /etc/systemd/system /var/lib/astra-agent -name '.*' -o -name '*.tmp'
    systemctl --failed --plain --no-legend
part; ls /etc/astra/files
part; cat /etc/astra/chronos.env; echo; cat /etc/astra/chronos-*.env | grep _ARGS
part; astra-agent history -n 1000 --json | jq -c '.runs[] | select(.outcome == null)'
"#;

/// The version that all of the host serves; else the parts that are missing.
fn missing(host: &Host, accessories: &[String]) -> Result<String, Vec<String>> {
    let look = host.sh(LOOK).stdout;
    let parts: Vec<&str> = look.split('\x1e').collect();
    let [status, code, containers, answers, traces, files, env, open] = parts[..] else {
        return Err(vec![format!("a look that was cut off: {look}")]);
    };
    let mut missing = Vec::new();
    let mut check = |holds: bool, what: String| missing.extend((!holds).then_some(what));
    check(code == "0", format!("status exits with {code}: {status}"));
    let status: Value = serde_json::from_str(status).unwrap_or_default();
    let instances = status["instances"].as_array().cloned().unwrap_or_default();
    check(instances.len() == 5, format!("{} instances", instances.len()));
    for instance in instances {
        check(instance["ready"] == true && instance["drained"] == false, format!("{instance}"));
    }
    let value = |key: &str| {
        env.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    for line in containers.lines().filter(|line| !line.contains("-db-") && !line.contains("-frps-")) {
        let mut words = line.split(' ');
        let (name, state, image) = (words.next().unwrap(), words.next(), words.next().unwrap_or_default());
        let service = name.trim_start_matches("chronos-").split('-').next().unwrap().to_uppercase();
        let wanted = value(&format!("{service}_IMAGE"));
        check(state == Some("running"), line.to_owned());
        check(name == "astra-caddy" || image == wanted, format!("{line}, astra.env: {wanted}"));
    }
    let words: BTreeSet<&str> = answers.split_whitespace().collect();
    let wholes = [["v1", "green"], ["v2", "blue"]].map(BTreeSet::from);
    check(wholes.contains(&words), format!("half old, half new: {answers:?}"));
    check(traces.trim().is_empty(), format!("left: {traces}"));
    check(open.trim().is_empty(), format!("not closed: {open}"));
    let named = |name: &&str| env.contains(&format!("/etc/astra/files/{name}"));
    let unused: Vec<_> = files.lines().filter(|name| !named(name)).collect();
    // A file of an undone release goes with the next run of the timer.
    check(unused.len() <= 3, format!("files that none uses: {unused:?}"));
    let now = host.of_accessories();
    check(now.len() == accessories.len(), format!("accessories: {now:?}"));
    if missing.is_empty() {
        Ok(words.first().map_or("v1", |word| if *word == "blue" { "v2" } else { "v1" }).to_owned())
    } else {
        Err(missing)
    }
}

fn await_whole(host: &Host, accessories: &[String], cut: SystemTime) -> Result<Restored, String> {
    loop {
        let found = missing(host, accessories);
        let passed = cut.elapsed().unwrap_or_default();
        match found {
            Ok(version) => return Ok(Restored { seconds: passed.as_secs_f64(), version }),
            Err(missing) if passed > LIMIT => {
                let said = host.sh("astra-agent status; journalctl --no-pager -o short-precise --since -150s -u 'astra-agent-*' | tail -n 80");
                return Err(format!("not whole after {passed:.0?}: {}\n{}", missing.join("\n"), said.text()));
            }
            Err(_) => {}
        }
    }
}

/// Both images, the colour and the file of a version.
fn publish(host: &Host, version: &str) {
    host.push_front(version);
    host.tag("latest", version);
    let (old, new) = if version == "v2" { ("green", "blue") } else { ("blue", "green") };
    let config = host.read(CONFIG_FILE);
    host.write(CONFIG_FILE, &config.replace(old, new));
}

#[test]
fn a_site_cut_off_at_any_moment_is_of_one_release_in_every_service() {
    let wanted: usize =
        env::var("ASTRA_KILLS").map_or(3, |kills| kills.parse::<usize>().unwrap().div_ceil(5));
    let host = site(Engine::Podman, "kills-site");
    host.write("/etc/astra/agent.d/95-word.toml", WORD);
    let config = host.read(CONFIG_FILE) + WORD;
    host.sh("rm /etc/astra/agent.d/95-word.toml").ok();
    host.write(CONFIG_FILE, &config);
    host.agent(["deploy"]).ok();
    let accessories = host.of_accessories();
    publish(&host, "v2");
    let begun = SystemTime::now();
    host.agent(["deploy"]).ok();
    let length = begun.elapsed().unwrap();
    let mut version = missing(&host, &accessories).unwrap();
    let mut tally = Tally::new("a site of five services", None);
    let seed = env::var("ASTRA_SEED").map_or(7, |seed| seed.parse().unwrap());
    for (nth, fraction) in fractions(seed).take(wanted).enumerate() {
        let moment = length.mul_f64(1.6 * fraction);
        publish(&host, super::other(&version));
        let power = nth % 3 == 2;
        let cut = if power {
            host.sh(&format!("astra-agent deploy --force >/dev/null 2>&1 & sleep {}", moment.as_secs_f64()))
                .ok();
            host.reboot();
            Ok(Some(SystemTime::now()))
        } else {
            let load = [host.load(20).below("/api").websockets(0).start(), host.load(20).gets().start()];
            let killed = kill(&host, "deploy --force", moment);
            // The traffic goes on until the host is whole.
            if let Ok(Some(at)) = killed {
                let _ = await_whole(&host, &accessories, at);
            }
            let failed: Vec<_> = load.map(|load| load.stop().failed).into();
            if failed.iter().sum::<usize>() > 0 { Err(format!("{failed:?} requests failed")) } else { killed }
        };
        let at = cut.as_ref().ok().copied().flatten().unwrap_or_else(SystemTime::now);
        let back = cut.and_then(|_| await_whole(&host, &accessories, at));
        let from = version.clone();
        if let Ok(restored) = &back {
            version.clone_from(&restored.version);
        }
        let how = if power { "by a power cut" } else { "by a signal" };
        if !tally.add(Cut::judge(
            (&format!("deploy, {how}"), format!("after {moment:.2?}"), &from),
            at,
            back,
            START,
        )) {
            break;
        }
    }
    let now = host.of_accessories();
    // A power cut ends their containers as well.
    assert!(wanted > 2 || now == accessories, "{now:?}, {accessories:?}");
    tally.conclude();
}
