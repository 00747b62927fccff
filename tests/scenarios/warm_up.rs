//! Requests to an instance on trial before visitors reach it.

use crate::state::{App, Migration};
use crate::world::World;

fn site(paths: &str) -> World {
    World::new().config("[app]\n", &format!("[app]\nwarm_up = [{paths}]\n")).install("v1")
}

#[test]
fn an_instance_is_warm_before_it_rejoins() {
    let mut world = site("\"/\", \"/search?q=x\"");
    let ran = world.deploy("v2").says("ready after 0.0 s; warmed up: 2 requests in 0.0 s (slowest ");
    let order = [
        "StartUnit astra-app@1.service",
        "GET / of astra-app@1.service",
        "GET /search?q=x of astra-app@1.service",
        "StopUnit astra-app@2.service",
        "GET / of astra-app@2.service",
    ];
    ran.calls(&order).succeeds().serves("v2");
    world.kill_at("GET / of astra-app@1").deploy("v3").was_killed();
    assert!(world.root.join("run/astra/drain/1").exists(), "still drained");
    world.recover();
    world.serves("v2");
}

#[test]
fn an_answer_to_a_warm_up_judges_no_release() {
    let mut world = site("\"/fails\", \"/hangs\", \"/\"");
    let ran = world.deploy("v2").says("; /fails answered 500; no answer of /hangs within 2.0s)");
    ran.says("warmed up: 3 requests in 2.0 s (slowest /hangs 2.0 s").succeeds().serves("v2");
}

#[test]
fn a_warm_up_takes_no_longer_than_readiness_may() {
    let mut world = site("\"/hangs\", \"/hangs?2\", \"/\"");
    world.change_config("timeout = \"20s\"\n", "timeout = \"3s\"\n");
    world.deploy("v2").says("warmed up: 2 of 3 requests in 3.0 s").succeeds().serves("v2");
}

#[test]
fn ctrl_c_abandons_a_warm_up() {
    let mut world = site("\"/hangs\"");
    world.interrupt_at("GET /hangs of astra-app@2").deploy("v2").says("interrupted by SIGINT").exits(1);
    world.serves("v1");
    assert!(!world.is_held("v2"));
}

#[test]
fn an_undo_waits_for_no_warm_up() {
    let mut world = site("\"/\"");
    world.image("bad", App::Silent, Migration::Passes);
    let ran = world.deploy("bad").calls(&["StartUnit astra-app@1", "StartUnit astra-app@1"]);
    ran.never_calls("GET / of astra-app@1").exits(3).serves("v1");
}
