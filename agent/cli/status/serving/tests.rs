use super::*;
use crate::cli::status::under_way::UnderWay;
use crate::model::outcome::Blame;

fn instance(service: &str, number: u16, ready: bool) -> Instance {
    Instance {
        service: service.to_owned(),
        instance: number,
        port: Some(8000 + number),
        state: "active (running)".to_owned(),
        release: Some(6),
        wanted: true,
        current: true,
        ready,
        ..Instance::default()
    }
}

fn well() -> Status {
    let instances = vec![instance("app", 1, false), instance("app", 2, true), instance("api", 1, true)];
    Status { release: Some(6), caddy: Some("2.11".to_owned()), instances, ..Status::default() }
}

fn under_way(command: &str) -> Option<UnderWay> {
    let (command, doing) = (command.to_owned(), Some("pull r/a".to_owned()));
    Some(UnderWay { command, step: Some(3), of: Some(7), doing, ..UnderWay::default() })
}

fn obstacle(status: Status) -> String {
    status.obstacle().unwrap_or_default()
}

#[test]
fn one_instance_of_each_web_service_is_enough() {
    assert_eq!(well().obstacle(), None);
    assert_eq!(Status { under_way: under_way("deploy"), ..well() }.obstacle(), None);
    // A worker has no rotation, and its state is left to `status`.
    let worker = Instance { port: None, ..instance("worker", 1, false) };
    let mut status = well();
    status.instances.push(worker);
    assert_eq!(status.obstacle(), None);
}

#[test]
fn the_reason_names_the_service_or_caddy() {
    let drained = Instance { drained: true, restarts: 3, ..instance("api", 1, true) };
    let mut status = well();
    status.instances[2] = drained;
    let said = "no instance of api serves the committed release: api 1 ready, drained, release 6, port 8001, active \
                (running), restarted 3 times";
    assert_eq!(obstacle(status.clone()), said);
    let other = Instance { current: false, release: Some(5), ..instance("api", 1, true) };
    status.instances[2] = other;
    assert!(
        obstacle(status).contains("no instance of api serves the committed release: api 1 ready, release 5")
    );
    assert_eq!(obstacle(Status { caddy: None, ..well() }), "Caddy does not answer");
    let paused = Status { instances: Vec::new(), paused: vec!["app".to_owned()], ..well() };
    assert_eq!(obstacle(paused), "every web service is paused: app");
}

#[test]
fn an_install_is_awaited() {
    let none = || Status { release: None, caddy: None, instances: Vec::new(), ..well() };
    assert_eq!(obstacle(none()), "not installed yet: no install is under way");
    let installing = Status { under_way: under_way("install"), ..none() };
    assert_eq!(obstacle(installing), "not installed yet: installing: step 3 of 7, pull r/a");
    assert_eq!(
        obstacle(Status { under_way: under_way("install"), ..well() }),
        "installing: step 3 of 7, pull r/a"
    );
    let failed = Run {
        run: 2,
        verb: Verb::Install,
        actor: "root".to_owned(),
        at: String::new(),
        release: Some(1),
        outcome: Some(Outcome::Undone { blame: Blame::Release }),
        reason: Some("migrating: exit code 1".to_owned()),
        seconds: None,
    };
    let said = obstacle(Status { last_run: Some(failed.clone()), ..none() });
    assert_eq!(said, "not installed yet: install (run 2) release failed: migrating: exit code 1");
    let cut = Run { outcome: None, reason: None, ..failed };
    assert_eq!(
        obstacle(Status { last_run: Some(cut), ..none() }),
        "not installed yet: install (run 2) was cut off"
    );
    let invalid = Status { config_errors: vec!["agent.toml:3: unknown key".to_owned()], ..none() };
    assert_eq!(obstacle(invalid), "not installed yet: no install is under way; agent.toml:3: unknown key");
}
