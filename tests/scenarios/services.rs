//! A site of several services: the app, another web service, and workers.

use astra_agent::converge::{RollbackTarget, Selector};
use astra_agent::model::entry::Verb;

use crate::state::{App, How, Migration};
use crate::units::FAILS;
use crate::world::World;

const API: [&str; 2] = ["StartUnit astra-api@1", "StopUnit astra-api@1"];
const WORKER: &str = "[services.worker]\ninstances = 2\ncommand = [\"work\"]\n";

/// The site without its first deploy.
fn site() -> World {
    let world = World::new();
    // The ports behind those of the app and its spare.
    let base = world.base_port() + 3;
    let api = format!(
        "[services.api]\nport = 3000\nbase_port = {base}\nroute.path = \"/api\"\nreadiness.timeout = \"20s\"\n"
    );
    world.config("[deploy]\n", &format!("{api}{WORKER}[deploy]\n"))
}

fn change_worker(world: &mut World, command: &str) {
    world.change_config("[\"work\"]", &format!("[\"{command}\"]"));
}

/// The containers by unit: another invocation is another container.
fn invocations(world: &World, service: &str) -> Vec<u128> {
    let state = world.shared.lock();
    let own = state.units.iter().filter(|(name, _)| name.starts_with(&format!("astra-{service}@")));
    own.map(|(_, unit)| unit.invocation).collect()
}

#[test]
fn a_deploy_changes_the_app_then_other_web_services_then_the_workers() {
    let mut world = site().install("v1");
    let order = ["app@1", "app@2", "api@2", "api@1", "worker@1", "worker@2"]
        .map(|unit| format!("StartUnit astra-{unit}"));
    let ran = world.deploy("v2").calls(&order.each_ref().map(String::as_str));
    ran.calls(&["StopUnit astra-api@2"]).succeeds().serves("v2");
    world.deploy("v2").changes_nothing().succeeds();
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn a_change_of_one_service_restarts_that_service_alone() {
    let mut world = site().install("v1");
    let before = ["app", "api"].map(|service| invocations(&world, service));
    change_worker(&mut world, "work-harder");
    world
        .deploy("v1")
        .calls(&["StartUnit astra-worker@1", "StartUnit astra-worker@2"])
        .succeeds()
        .serves("v1");
    assert_eq!(["app", "api"].map(|service| invocations(&world, service)), before);
    // An unchanged service counts as current, for the timer and for the next deploy.
    world.reconcile().changes_nothing().succeeds();
    world.deploy("v1").changes_nothing().succeeds();
    world.deploy("v2").succeeds().serves("v2");
}

#[test]
fn a_worker_that_ends_takes_the_release_back_and_leaves_the_others_alone() {
    let mut world = site().install("v1");
    let before = ["app", "api"].map(|service| invocations(&world, service));
    change_worker(&mut world, FAILS);
    world.deploy("v1").says("astra-worker@1").says("no such queue").exits(3).serves("v1");
    assert_eq!(["app", "api"].map(|service| invocations(&world, service)), before);
    world.deploy("v1").says("is held").exits(1);
}

#[test]
fn a_release_that_fails_in_the_last_service_is_taken_back_in_all() {
    let mut world = site().install("v1");
    change_worker(&mut world, FAILS);
    world.deploy("v2").calls(&["StartUnit astra-app@1", "StartUnit astra-worker@1"]).exits(3).serves("v1");
    world.change_config(&format!("[\"{FAILS}\"]"), "[\"work\"]");
    world.image("v3", App::Silent, Migration::Passes);
    world.deploy("v3").never_calls(API[0]).never_calls("StartUnit astra-worker").exits(3).serves("v1");
}

#[test]
fn a_rollback_takes_every_service_back() {
    let mut world = site().install("v1");
    world.deploy("v2").succeeds();
    world.run(Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest)).succeeds().serves("v1");
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn a_killed_deploy_never_leaves_two_releases() {
    for step in 0.. {
        let mut world = site().install("v1");
        let ended = world.kill_before(step).deploy("v2").is_ended();
        let (old, new) = (world.pinned("v1"), world.pinned("v2"));
        world.recover();
        let named = crate::units::lines(&world.text("/etc/astra/astra.env"))["APP_IMAGE"].clone();
        assert!(named == old || named == new, "{named}");
        world.serves(if named == old { "v1" } else { "v2" });
        if ended {
            assert!(step > 20, "only {step} steps");
            return;
        }
    }
}

#[test]
fn a_service_that_is_taken_out_stops_with_the_next_repair() {
    let mut world = site().install("v1");
    world.change_config(WORKER, "");
    let ran = world.reconcile().calls(&["StopUnit astra-worker@1", "StopUnit astra-worker@2"]);
    ran.succeeds().serves("v1");
    assert_eq!(world.text("/etc/systemd/system/astra-worker@.service"), "");
    assert!(world.text("/etc/astra/astra.env").contains("WORKER_IMAGE"), "only a deploy changes the release");
    let before = invocations(&world, "app");
    world.deploy("v1").succeeds().serves("v1");
    assert!(!world.text("/etc/astra/astra.env").contains("WORKER_"));
    assert_eq!(invocations(&world, "app"), before);
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn a_service_that_is_added_waits_for_a_deploy() {
    let mut world = World::installed("v1");
    world.change_config("[deploy]\n", &format!("{WORKER}[deploy]\n"));
    world.reconcile().never_calls("StartUnit astra-worker").succeeds();
    world.reconcile().changes_nothing().succeeds();
    let before = invocations(&world, "app");
    world.deploy("v1").calls(&["StartUnit astra-worker@1"]).succeeds().serves("v1");
    assert_eq!(invocations(&world, "app"), before);
}

#[test]
fn a_path_goes_to_a_new_service_once_that_is_committed() {
    let mut world = World::installed("v1");
    let base = world.base_port() + 3;
    let api = format!("[services.api]\nport = 3000\nbase_port = {base}\nroute.path = \"/api\"\n");
    world.change_config("[deploy]\n", &format!("{api}[deploy]\n"));
    world.reconcile().never_calls("load").succeeds();
    assert!(!world.text("/etc/astra/Caddyfile").contains("route_api"));
    world.image("v2", App::Silent, Migration::Passes);
    world.deploy("v2").never_calls("load").exits(3);
    world.deploy("v3").calls(&["StartUnit astra-app@1", API[0], "load"]).succeeds().serves("v3");
    assert!(world.text("/etc/astra/Caddyfile").contains("route_api"));
    world.reconcile().changes_nothing().succeeds();
    // It leaves before the service does.
    world.change_config(&api, "");
    world.reconcile().calls(&["load", API[1]]).succeeds().serves("v3");
    world.deploy("v3").succeeds();
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn an_image_that_was_put_into_astra_env_by_hand_is_not_taken_for_the_release() {
    let mut world = site().install("v1");
    world.deploy("v2").succeeds();
    // As the documentation says: the other image, and a restart of the instances.
    let (old, new) = (world.pinned("v1"), world.pinned("v2"));
    world.write("/etc/astra/astra.env", &world.text("/etc/astra/astra.env").replace(&new, &old));
    for unit in ["app@1", "app@2", "api@1", "worker@1", "worker@2"] {
        for verb in ["StopUnit", "StartUnit"] {
            world.systemctl(verb, &format!("astra-{unit}.service"));
        }
    }
    world.deploy("v2").calls(&["StartUnit astra-app@1", "StartUnit astra-worker@2"]).succeeds().serves("v2");
}

#[test]
fn a_worker_becomes_a_web_service_and_one_again() {
    let mut world = World::installed("v1");
    world.change_config("[deploy]\n", &format!("{WORKER}[deploy]\n"));
    world.deploy("v1").succeeds();
    let base = world.base_port() + 3;
    let web = format!(
        "[services.worker]\ninstances = 2\nport = 3000\nbase_port = {base}\nroute.path = \"/w\"\nreadiness.timeout = \"9s\"\n"
    );
    world.change_config(WORKER, &web);
    world.reconcile().never_calls("StopUnit").succeeds();
    world.image("v2", App::Silent, Migration::Passes);
    world.deploy("v2").exits(3);
    world.change_config(&web, WORKER);
    world.deploy("v1").succeeds().serves("v1");
    world.change_config(WORKER, &web);
    world.deploy("v3").succeeds().serves("v3");
    world.change_config(&web, WORKER);
    world.deploy("v3").succeeds().serves("v3");
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn a_restart_leaves_a_service_that_waits_for_its_first_deploy() {
    let mut world = World::installed("v1");
    world.change_config("[deploy]\n", &format!("{WORKER}[deploy]\n"));
    world.run(Verb::Deploy, Selector::Restart).never_calls("StartUnit astra-worker").succeeds();
    world.deploy("v2").succeeds();
    world.change_config(WORKER, &WORKER.replace("worker]", "clerk]"));
    // It takes the former service out of the release as well, and does not begin the new one.
    let back = Selector::Rollback(RollbackTarget::Nearest);
    world.run(Verb::Rollback, back).never_calls("StartUnit astra-clerk").succeeds();
    assert!(!world.text("/etc/astra/astra.env").contains("CLERK_"));
    world.deploy("v3").calls(&["StartUnit astra-clerk@1"]).succeeds().serves("v3");
}

#[test]
fn a_copy_of_a_template_is_the_operators() {
    let mut world = World::installed("v1");
    let template = world.text("/etc/systemd/system/astra-app@.service");
    world.write(
        "/etc/systemd/system/astra-clerk@.service",
        &template.replace("astra-app-%i", "astra-clerk-%i"),
    );
    world.set_unit("astra-clerk@1.service", ("active", "running"));
    world.reconcile().changes_nothing().succeeds();
    assert!(!world.text("/etc/systemd/system/astra-clerk@.service").is_empty());
}

#[test]
fn a_worker_that_does_not_come_back_keeps_no_web_service_on_trial() {
    let mut world = site().install("v1");
    world.image("v2", App::Ready, Migration::Passes);
    change_worker(&mut world, FAILS);
    // The committed worker cannot start any more either: its queue is gone.
    world.faults("StartUnit astra-worker@1.service", How::Late(std::time::Duration::from_secs(900)), 1, 1);
    world.deploy("v2").exits(4);
    let (state, image) = (world.shared.lock(), world.pinned("v1"));
    for container in ["astra-app-1", "astra-app-2", "astra-api-1"] {
        assert_eq!(state.containers[container].labels["astra.image"], image, "{container}");
    }
    assert!(!state.containers.contains_key("astra-api-2"), "the spare");
}

#[test]
fn a_lost_list_of_services_stops_nothing() {
    let mut world = site().install("v1");
    let env = world.text("/etc/astra/astra.env");
    world.write(
        "/etc/astra/astra.env",
        &env.replace("ASTRA_SERVICES=api worker", "ASTRA_SERVICES=api,worker"),
    );
    world.reconcile().says("ASTRA_SERVICES").never_calls("StopUnit").exits(2);
    let lost: String = env
        .lines()
        .filter(|line| !line.contains("_IMAGE=") && !line.starts_with("ASTRA_"))
        .map(|line| format!("{line}\n"))
        .collect();
    world.write("/etc/astra/astra.env", &lost);
    world.reconcile().says("`ASTRA_SERVICES=api worker`").never_calls("StopUnit").exits(2);
}

#[test]
fn more_instances_and_another_worker_come_with_one_deploy() {
    let mut world = site().install("v1");
    world.change_config("[app]\n", "[app]\ninstances = 3\n");
    change_worker(&mut world, "work-harder");
    let order = ["StartUnit astra-worker@2", "StartUnit astra-app@3"];
    world.deploy("v1").never_calls("StopUnit astra-app@1").calls(&order).succeeds().serves("v1");
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn a_worker_that_was_stopped_by_hand_comes_back() {
    let mut world = site().install("v1");
    world.systemctl("StopUnit", "astra-worker@2.service");
    let ran = world.reconcile().calls(&["StartUnit astra-worker@2"]);
    ran.never_calls("StopUnit astra-app").succeeds().serves("v1");
}

#[test]
fn a_variable_with_the_name_of_a_services_line_is_refused() {
    let mut world = World::installed("v1");
    let env = world.text("/etc/astra/astra.env");
    world.write("/etc/astra/astra.env", &format!("{env}WORKER_COMMAND=mine\n"));
    world.change_config("[deploy]\n", &format!("{WORKER}[deploy]\n"));
    world.deploy("v1").says("WORKER_COMMAND is the agent's own line for [services.worker]").exits(2);
    assert!(world.text("/etc/astra/astra.env").contains("WORKER_COMMAND=mine"));
}

#[test]
fn a_paused_site_stops_and_comes_back_with_the_newest_release() {
    let mut world = site().install("v1");
    let numbers = world.config.clone();
    world.change_config("[app]\n", "[app]\ninstances = 0\n");
    world.change_config("[services.api]\n", "[services.api]\ninstances = 0\n");
    world.change_config("instances = 2\ncommand", "instances = 0\ncommand");
    let stops = ["StopUnit astra-app@1", "StopUnit astra-app@2"];
    world.run(Verb::Pause, Selector::Keep).calls(&stops).calls(&API[1..]).succeeds();
    assert!(invocations(&world, "worker").iter().all(|i| *i > 0));
    assert!(world.shared.lock().containers.keys().all(|name| !name.starts_with("astra-app")));
    assert!(!world.shared.lock().enabled.iter().any(|unit| unit.contains("astra-app@")));
    let caddyfile = world.text("/etc/astra/Caddyfile");
    assert!(
        caddyfile.contains("route @route_api {\n\t\terror 503\n\t}\n\troute {\n\t\terror 503\n\t}\n"),
        "{caddyfile}"
    );
    world.reconcile().changes_nothing().succeeds();
    world.recover().never_calls("StartUnit astra-app").succeeds();
    world.deploy("v2").says("app is paused").never_calls("StartUnit astra-app").succeeds();
    world.config = numbers;
    world.run(Verb::Resume, Selector::Keep).calls(&["StartUnit astra-app@1"]).succeeds().serves("v2");
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn a_deploy_of_a_site_with_a_paused_worker_leaves_it_paused() {
    let mut world = site().install("v1");
    world.change_config("instances = 2\ncommand", "instances = 0\ncommand");
    world.deploy("v2").never_calls("StartUnit astra-worker").succeeds();
    world.reconcile().changes_nothing().succeeds();
    world.change_config("instances = 0\ncommand", "instances = 1\ncommand");
    world.reconcile().calls(&["StartUnit astra-worker@1"]).succeeds();
}

#[test]
fn a_paused_app_leaves_the_routes_of_other_services_alone() {
    let mut world = site().install("v1");
    world.change_config("[app]\n", "[app]\ninstances = 0\n");
    world.run(Verb::Pause, Selector::Keep).never_calls("StopUnit astra-api").succeeds();
    let caddyfile = world.text("/etc/astra/Caddyfile");
    // `order route before reverse_proxy`: a bare `error` would be the first of all.
    assert!(caddyfile.contains("\troute {\n\t\terror 503\n\t}\n"), "{caddyfile}");
    assert!(!caddyfile.contains("\n\terror 503\n"), "{caddyfile}");
}

#[test]
fn the_timer_follows_no_tag_while_a_service_is_paused() {
    let mut world = site().config("[deploy]\n", "[deploy]\nauto = true\n").install("v1");
    world.change_config("instances = 2\ncommand", "instances = 0\ncommand");
    world.run(Verb::Pause, Selector::Keep).succeeds();
    world.publish("v2");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
}

#[test]
fn a_service_that_is_called_has_its_address_before_caddy_listens_there() {
    let mut world = site().install("v1");
    let app = invocations(&world, "app");
    world.change_config("command = [\"work\"]\n", "command = [\"work\"]\ncalls = [\"api\"]\n");
    world
        .reconcile()
        .calls(&["StartUnit astra-names", "load"])
        .never_calls("StartUnit astra-worker")
        .succeeds();
    let unit = world.text("/etc/systemd/system/astra-names.service");
    let address = unit.lines().find_map(|line| line.strip_prefix("ExecStart=ip address replace ")).unwrap();
    let address = address.split('/').next().unwrap();
    assert!(world.text("/etc/astra/Caddyfile").contains(&format!("bind {address}\n")), "{address}");
    // The caller alone restarts, with the name in its arguments.
    world.deploy("v1").calls(&["StartUnit astra-worker@1", "StartUnit astra-worker@2"]).succeeds();
    assert!(world.text("/etc/astra/astra.env").contains(&format!("--add-host=api:{address}")));
    assert_eq!(invocations(&world, "app"), app);
    world.change_config("calls = [\"api\"]\n", "");
    world.deploy("v1").calls(&["StartUnit astra-worker@1", "load"]).succeeds();
    world.reconcile().succeeds();
    assert!(!world.root.join("etc/systemd/system/astra-names.service").exists());
}

#[test]
fn a_name_leads_to_caddy_until_its_last_caller_is_replaced() {
    let mut world = site().install("v1");
    world.change_config("command = [\"work\"]\n", "command = [\"work\"]\ncalls = [\"api\"]\n");
    world.deploy("v1").succeeds();
    let inner = || "# http://api for the containers";
    assert!(world.text("/etc/astra/Caddyfile").contains(inner()));
    // The workers that run still have the name.
    world.change_config("calls = [\"api\"]\n", "");
    world.reconcile().never_calls("load").succeeds();
    world.image("v2", App::Exits(3), Migration::Passes);
    world.deploy("v2").never_calls("load").exits(3);
    assert!(world.text("/etc/astra/Caddyfile").contains(inner()));
    world.deploy("v3").calls(&["StartUnit astra-worker@2", "load"]).succeeds();
    assert!(!world.text("/etc/astra/Caddyfile").contains(inner()));
    world.reconcile().never_calls("load").succeeds();
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn an_address_that_was_lost_is_set_again_by_recover() {
    let mut world = site().install("v1");
    world.change_config("command = [\"work\"]\n", "command = [\"work\"]\ncalls = [\"api\"]\n");
    world.deploy("v1").succeeds();
    let wants = world.text("/etc/systemd/system/astra-caddy.service");
    assert!(wants.contains("After=network.target astra-names.service\n"), "{wants}");
    let table = format!("/proc/{}/net/fib_trie", std::process::id());
    world.write(&table, "   |-- 198.18.0.0\n      /16 link UNICAST\n");
    world.recover().calls(&["StartUnit astra-names"]).never_calls("load").succeeds();
    world.reconcile().changes_nothing().succeeds();
}
