//! Steps after a change of agent.toml on a serving host.

use std::collections::BTreeMap;

use super::plan as moves;
use crate::config::Config;
use crate::model::fingerprint::{HostKey, sha256};
use crate::model::history::History;
use crate::model::image::PinnedImage;
use crate::model::instance::InstanceName;
use crate::model::name::CADDYFILE;
use crate::model::observed::{CaddyRuns, CaddySeen, Engine, FileSeen, InstanceSeen, Observed, Running};
use crate::model::step::{Content, Step};
use crate::model::unit::{ActiveState, UnitFileState, UnitSeen};
use crate::plan::instances::{self, RepairScope};
use crate::plan::{Inputs, caddy, files, units};

fn config(app: &str) -> Config {
    let text = format!("[app]\nimage = \"ghcr.io/a/b:latest\"\n{app}\n");
    crate::config::parse(&[("agent.toml".into(), text)]).unwrap()
}

fn image() -> PinnedImage {
    format!("ghcr.io/a/b@sha256:{}", "ab".repeat(32)).parse().unwrap()
}

fn id(number: u16) -> InstanceName {
    number.to_string().parse().unwrap()
}

/// A host installed with `config`, and the current ports.
struct Site {
    observed: Observed,
    history: History,
    key: HostKey,
}

impl Site {
    fn of(config: &Config) -> Self {
        let env =
            format!("APP_IMAGE={}\nASTRA_RELEASE=1\nAPP_ARGS=\nAPP_COMMAND=\nASTRA_APP_PORT=8000\n", image());
        let mut site =
            Self { observed: Observed::default(), history: History::default(), key: HostKey::new([1; 32]) };
        site.put("/etc/astra/astra.env", env.as_bytes(), 0o600);
        site.put("/etc/astra/caddy.env", caddy::env(&image()).as_bytes(), 0o644);
        let on = || UnitSeen {
            active: ActiveState::Active,
            enabled: UnitFileState::Enabled,
            ..UnitSeen::default()
        };
        for instance in config.instances() {
            let port = config.port_of(instance);
            let runs = Some(Running { release: 1, image: image(), port });
            site.observed.instances.insert(instance, InstanceSeen { unit: on(), runs, ready: true });
        }
        site.observed.units = units::enabled(config).into_iter().map(|unit| (unit, on())).collect();
        site.observed.dirs = ["/run/astra/drain", "/run/astra/caddy"].map(Into::into).into();
        site.observed.caddy = Some(CaddySeen { version: Some((2, 11)), runs: None });
        let desired = files::desired(&site.inputs(config));
        desired.iter().for_each(|(path, bytes)| site.put(&path.to_string_lossy(), bytes, 0o644));
        let text = |path: &str| {
            String::from_utf8(site.observed.files[std::path::Path::new(path)].bytes.clone()).unwrap()
        };
        let runs = CaddyRuns {
            caddyfile: Some(sha256(text(CADDYFILE).as_bytes())),
            service: crate::model::observed::service_section(&text(
                "/etc/systemd/system/astra-caddy.service",
            )),
            env: text("/etc/astra/caddy.env"),
        };
        site.observed.caddy = Some(CaddySeen { version: Some((2, 11)), runs: Some(runs) });
        site
    }

    fn put(&mut self, path: &str, bytes: &[u8], mode: u32) {
        self.observed.files.insert(path.into(), FileSeen { bytes: bytes.to_vec(), mode });
    }

    fn inputs<'a>(&'a self, config: &'a Config) -> Inputs<'a> {
        Inputs {
            config,
            observed: &self.observed,
            history: &self.history,
            key: &self.key,
            engine: Engine::Podman,
            agent: "/usr/bin/astra-agent",
            caddy_image: None,
        }
    }

    /// The steps of reconcile.
    fn kept(&self, config: &Config) -> Vec<Step> {
        let inputs = self.inputs(config);
        let parts = [
            files::steps(&inputs),
            instances::steps(&inputs, RepairScope::All),
            files::remove_surplus(&inputs),
        ];
        parts.concat()
    }
}

/// Steps as text, files by their last name, a Caddyfile by its upstreams.
fn shown(steps: &[Step]) -> Vec<String> {
    let show = |step: &Step| match step {
        Step::LoadCaddy { content, .. } => format!("caddy {}", upstreams(content)),
        Step::WriteFile { path, content, .. } if path.ends_with("10-astra.conf") => {
            let unit =
                path.parent().unwrap().file_name().unwrap().to_string_lossy().replace(".service.d", "");
            format!("{unit} at {}", units::port_in(content.bytes()).unwrap())
        }
        Step::RestoreCommitted { instance, .. } => format!("return {instance}"),
        Step::AwaitReady { instance, .. } => {
            format!("await {} at {}", instance, instance.upstream.unwrap().port())
        }
        Step::Drain { instance, .. } => {
            format!("drain {} at {}", instance, instance.upstream.unwrap().port())
        }
        Step::Undrain { instance, .. } => {
            format!("rejoin {} at {}", instance, instance.upstream.unwrap().port())
        }
        Step::WriteFile { path, .. } => format!("write {}", path.display()),
        step => step.to_string(),
    };
    steps
        .iter()
        .map(show)
        .filter(|line| !line.starts_with("reload "))
        .map(|l| l.replace("astra-app@", ""))
        .collect()
}

fn upstreams(content: &Content) -> String {
    let text = String::from_utf8_lossy(content.bytes()).into_owned();
    // The site's own proxy is below those of the drain routes.
    let line = text.lines().rev().find_map(|l| l.trim().strip_prefix("reverse_proxy @plain ")).unwrap();
    line.replace("127.0.1.", "").replace(" {", "")
}

#[test]
fn a_fresh_install_needs_no_steps() {
    for app in ["instances = 2", "instances = 1", "instances = 3\nbase_port = 9000\nnetwork = \"host\""] {
        let config = config(app);
        let site = Site::of(&config);
        assert_eq!(shown(&site.kept(&config)), [""; 0], "{app}");
        assert_eq!(moves(&site.inputs(&config)).steps, []);
        assert_eq!(files::pending(&site.inputs(&config)), [""; 0]);
    }
}

#[test]
fn a_surplus_instance_is_drained_before_caddy_forgets_it() {
    let site = Site::of(&config("instances = 3"));
    let fewer = config("instances = 2");
    let mut steps = shown(&site.kept(&fewer));
    // Timeouts and Caddy's Wants= depend on the count.
    steps.retain(|line| !line.starts_with("write /etc/systemd/"));
    let expected = [
        "drain 3 at 8003",
        "stop 3",
        "disable 3.service",
        "remove /etc/systemd/system/3.service.d/10-astra.conf",
        "caddy 1:8001 2:8002",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn from_surge_to_rolling_and_back_caddy_alone_changes() {
    let surge = config("instances = 2\n[deploy]\nstrategy = \"surge\"");
    let rolling = config("instances = 2");
    let forth = shown(&Site::of(&surge).kept(&rolling));
    assert_eq!(forth, ["caddy 1:8001 2:8002", "remove /etc/systemd/system/3.service.d/10-astra.conf"]);
    let back = shown(&Site::of(&rolling).kept(&surge));
    assert_eq!(back, ["caddy 1:8001 2:8002 3:8003", "3 at 8003"]);
}

#[test]
fn reconcile_moves_nothing_and_status_says_so() {
    let site = Site::of(&config("instances = 2"));
    let elsewhere = config("instances = 2\nbase_port = 9000");
    assert_eq!(shown(&site.kept(&elsewhere)), [""; 0]);
    let pending = super::pending(&site.inputs(&elsewhere)).unwrap();
    assert_eq!(pending, "deploy would move astra-app@1 to port 9001, astra-app@2 to port 9002");
}

#[test]
fn instances_move_one_by_one_and_caddy_follows_each() {
    let site = Site::of(&config("instances = 2"));
    let elsewhere = config("instances = 2\nbase_port = 7000");
    let steps = shown(&moves(&site.inputs(&elsewhere)).steps);
    let expected = [
        "drain 1 at 8001",
        "1 at 7001",
        "return 1",
        "await 1 at 7001",
        "caddy 1:7001 2:8002",
        "rejoin 1 at 7001",
        "drain 2 at 8002",
        "2 at 7002",
        "return 2",
        "await 2 at 7002",
        "caddy 1:7001 2:7002",
        "rejoin 2 at 7002",
    ];
    assert_eq!(steps, expected);
}

#[test]
fn no_instance_moves_to_a_port_that_another_still_has() {
    let site = Site::of(&config("instances = 2"));
    let up = shown(&moves(&site.inputs(&config("instances = 2\nbase_port = 8001"))).steps);
    assert_eq!(up[0], "drain 2 at 8002");
    assert_eq!(up[6], "drain 1 at 8001");
    let down = shown(&moves(&site.inputs(&config("instances = 2\nbase_port = 7999"))).steps);
    assert_eq!(down[0], "drain 1 at 8001");
}

#[test]
fn a_single_instance_moves_behind_its_spare() {
    let site = Site::of(&config("instances = 1"));
    let up = shown(&moves(&site.inputs(&config("instances = 1\nbase_port = 8001"))).steps);
    let expected = [
        "2 at 8003",
        "write /run/astra/drain/2",
        "write /run/astra/drain/any",
        "return 2",
        "await 2 at 8003",
        "caddy 1:8001 2:8003",
        "rejoin 2 at 8003",
        "drain 1 at 8001",
        "1 at 8002",
        "return 1",
        "await 1 at 8002",
        "caddy 1:8002 2:8003",
        "rejoin 1 at 8002",
        "drain 2 at 8003",
        "stop 2",
    ];
    assert_eq!(up, expected);
    let down = shown(&moves(&site.inputs(&config("instances = 1\nbase_port = 7999"))).steps);
    let expected = [
        "write /run/astra/drain/2",
        "write /run/astra/drain/any",
        "return 2",
        "await 2 at 8002",
        "rejoin 2 at 8002",
        "drain 1 at 8001",
        "1 at 8000",
        "return 1",
        "await 1 at 8000",
        "caddy 1:8000 2:8002",
        "rejoin 1 at 8000",
        "drain 2 at 8002",
        "stop 2",
        "2 at 8001",
        "caddy 1:8000 2:8001",
    ];
    assert_eq!(down, expected);
}

#[test]
fn an_added_instance_starts_before_the_only_other_one_moves() {
    let mut site = Site::of(&config("instances = 1\n[deploy]\nstrategy = \"rolling\""));
    let elsewhere = config("instances = 2\nbase_port = 9000\n[deploy]\nstrategy = \"rolling\"");
    let plan = moves(&site.inputs(&elsewhere));
    let expected = [
        "write /run/astra/drain/2",
        "write /run/astra/drain/any",
        "return 2",
        "await 2 at 9002",
        "rejoin 2 at 9002",
        "drain 1 at 8001",
        "1 at 9001",
        "return 1",
        "await 1 at 9001",
        "caddy 1:9001 2:9002",
        "rejoin 1 at 9001",
    ];
    assert_eq!((shown(&plan.steps), plan.warnings), (expected.map(Into::into).to_vec(), Vec::new()));
    // One that failed might never become ready, and the deploy that fixes it would not begin.
    let failed = UnitSeen { active: ActiveState::Failed, ..UnitSeen::default() };
    site.observed.instances.insert(id(2), InstanceSeen { unit: failed, runs: None, ready: false });
    let plan = moves(&site.inputs(&elsewhere));
    assert_eq!(shown(&plan.steps)[0], "1 at 9001");
    assert_eq!(plan.warnings, ["one instance runs: the site is down while it moves"]);
    // Nor can one start on the port that the other one has.
    site.observed.instances.remove(&id(2));
    let lower = config("instances = 2\nbase_port = 7999\n[deploy]\nstrategy = \"rolling\"");
    assert_eq!(moves(&site.inputs(&lower)).warnings.len(), 1);
}

#[test]
fn a_port_in_use_stops_the_move() {
    let mut site = Site::of(&config("instances = 2"));
    let elsewhere = config("instances = 2\nbase_port = 8001");
    // 8002 belongs to instance 2, which leaves it first.
    site.observed.busy = [8002].into();
    assert_eq!(super::problems(&site.inputs(&elsewhere)), []);
    site.observed.busy = [8002, 8003].into();
    let problems = super::problems(&site.inputs(&elsewhere));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].what.contains("8003"), "{problems:?}");
}

#[test]
fn a_cut_off_move_is_restored_to_the_running_ports() {
    let before = config("instances = 2");
    let elsewhere = config("instances = 2\nbase_port = 9000");
    // Cut between the restart of instance 1 and the load of the new Caddyfile.
    let mut site = Site::of(&before);
    site.put(
        "/etc/systemd/system/astra-app@1.service.d/10-astra.conf",
        units::instance(id(1), 9001).as_bytes(),
        0o644,
    );
    site.observed.instances.get_mut(&id(1)).unwrap().runs.as_mut().unwrap().port = Some(9001);
    site.observed.markers.insert(id(1));
    assert_eq!(shown(&files::routes(&site.inputs(&elsewhere))), ["caddy 1:9001 2:8002"]);
    let unrouted = |n: u16| files::is_unrouted(&site.inputs(&elsewhere), id(n));
    assert_eq!((unrouted(1), unrouted(2)), (true, false), "status must not call instance 1 serving");
    let keep = shown(&instances::steps(&site.inputs(&elsewhere), RepairScope::All));
    assert_eq!(keep, ["await 1 at 9001", "rejoin 1 at 9001"]);
    // Cut while it was stopped: it will start on the new port.
    let was = site.observed.instances.insert(id(1), InstanceSeen::default()).unwrap();
    assert_eq!(shown(&files::routes(&site.inputs(&elsewhere))), ["caddy 1:9001 2:8002"]);
    let keep = shown(&instances::steps(&site.inputs(&elsewhere), RepairScope::All));
    assert_eq!(keep, ["return 1", "await 1 at 9001", "rejoin 1 at 9001"]);
    site.observed.instances.insert(id(1), was);
    // Cut between the drop-in and the restart.
    site.observed.instances.get_mut(&id(1)).unwrap().runs.as_mut().unwrap().port = Some(8001);
    assert_eq!(shown(&files::routes(&site.inputs(&elsewhere))), ["1 at 8001"]);
}

#[test]
fn a_load_with_unknown_result_is_repeated() {
    let config = config("instances = 2");
    let mut site = Site::of(&config);
    let forgotten = |site: &mut Site, sum: Option<String>| {
        site.observed.caddy.as_mut().unwrap().runs.as_mut().unwrap().caddyfile = sum;
    };
    for sum in [None, Some(sha256(b"another"))] {
        forgotten(&mut site, sum);
        assert_eq!(shown(&site.kept(&config)), ["caddy 1:8001 2:8002"]);
        assert_eq!(shown(&files::routes(&site.inputs(&config))), ["caddy 1:8001 2:8002"]);
    }
    // Caddy is down: it will start with what is on disk.
    site.observed.caddy = None;
    assert_eq!(shown(&site.kept(&config)), [""; 0]);
    site.put(CADDYFILE, b"# by hand\n", 0o644);
    assert_eq!(shown(&site.kept(&config)).last().unwrap(), "write /etc/astra/Caddyfile");
}

#[test]
fn a_caddy_of_unknown_version_keeps_its_caddyfile() {
    let config = config("instances = 2");
    let mut site = Site::of(&config);
    site.observed.caddy.as_mut().unwrap().version = None;
    assert_eq!(shown(&site.kept(&config)), [""; 0]);
}

#[test]
fn changes_that_wait_for_a_restart_of_caddy_are_reported() {
    let config = config("instances = 2");
    let mut site = Site::of(&config);
    let runs = |site: &mut Site| site.observed.caddy.as_mut().unwrap().runs.clone().unwrap();
    let was = runs(&mut site);
    site.observed.caddy.as_mut().unwrap().runs =
        Some(CaddyRuns { service: "Type=old".into(), ..was.clone() });
    let said = files::pending(&site.inputs(&config));
    assert_eq!(said, ["astra-caddy.service changed: takes effect at `systemctl restart astra-caddy`"]);
    site.observed.caddy.as_mut().unwrap().runs = Some(CaddyRuns { env: "CADDY_IMAGE=x".into(), ..was });
    assert!(files::pending(&site.inputs(&config))[0].contains("caddy.env changed"));
}

#[test]
fn the_caddyfile_follows_the_map_of_ports() {
    let config = config("instances = 2");
    let listens = BTreeMap::from([(id(1), 9001), (id(2), 8002), (id(3), 8003)]);
    let text = caddy::caddyfile(&config, Some((2, 11)), &listens, &BTreeMap::new());
    for line in [
        "reverse_proxy @plain 127.0.1.1:9001 127.0.1.2:8002 127.0.1.3:8003 {",
        "import health_app /1 127.0.1.1:9001",
    ] {
        assert!(text.contains(line), "{line}");
    }
}
