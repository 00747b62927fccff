//! reconcile, by hand and by the timer.

use std::time::Duration;

use crate::state::{App, Container, How, Migration, digest};
use crate::world::World;

#[test]
fn a_spare_that_failed_leaves_no_failed_unit() {
    let mut world = World::new().config("[deploy]\n", "[deploy]\nstrategy = \"surge\"\n").install("v1");
    world.set_unit("astra-app@3.service", ("failed", "failed"));
    world.reconcile().calls(&["StopUnit astra-app@3.service"]).succeeds();
    world.reconcile().changes_nothing().succeeds();
}

#[test]
fn nothing_is_done_on_a_host_that_is_in_order() {
    let mut world = World::installed("v1");
    world.reconcile().changes_nothing().succeeds().serves("v1");
}

#[test]
fn an_instance_that_was_stopped_is_started_again() {
    let mut world = World::installed("v1");
    world.systemctl("StopUnit", "astra-app@1.service");
    let ran = world.reconcile().calls(&["StartUnit astra-app@1.service"]);
    ran.never_calls("StopUnit astra-app@2").succeeds().serves("v1");
}

#[test]
fn a_unit_file_that_was_edited_is_written_again_and_no_instance_restarts() {
    let mut world = World::installed("v1");
    let path = "/etc/systemd/system/astra-app@.service";
    let written = world.text(path);
    world.write(path, "# Written by astra-agent\n[Service]\n");
    world.reconcile().calls(&["reload"]).never_calls("StopUnit").succeeds().serves("v1");
    assert_eq!(world.text(path), written);
}

#[test]
fn an_instance_of_another_release_is_returned_to_the_committed_one() {
    let mut world = World::installed("v1");
    world.deploy("v2").succeeds();
    let env = world.text("/etc/astra/astra.env");
    let trial = env.replace(&digest("v2"), &digest("v1")).replace("ASTRA_RELEASE=2", "ASTRA_RELEASE=1");
    world.write("/run/astra/trial-2.env", &trial);
    world.systemctl("RestartUnit", "astra-app@2.service");
    let ran = world.reconcile().never_calls("StopUnit astra-app@1");
    ran.calls(&["StopUnit astra-app@2.service", "StartUnit astra-app@2.service"]).succeeds().serves("v2");
}

#[test]
fn leftovers_of_a_killed_run_are_removed() {
    let mut world = World::installed("v1");
    for path in ["drain/2", "drain/any", "trial.env", "trial-1.env"] {
        world.write(&format!("/run/astra/{path}"), "");
    }
    world.reconcile().never_calls("StopUnit").succeeds().serves("v1");
}

#[test]
fn a_last_app_image_edited_by_hand_names_the_rollback_target_again() {
    let mut world = World::installed("v1");
    world.deploy("v2").succeeds();
    world.write("/etc/astra/last_app_image", "nonsense\n");
    world.reconcile().says("corrected last_app_image").never_calls("StopUnit").succeeds().serves("v2");
    assert!(world.text("/etc/astra/last_app_image").contains(&digest("v1")));
}

#[test]
fn a_caddy_that_was_stopped_is_started_again() {
    let mut world = World::installed("v1");
    world.systemctl("StopUnit", "astra-caddy.service");
    world.reconcile().calls(&["StartUnit astra-caddy.service"]).succeeds().serves("v1");
}

#[test]
fn a_start_of_caddy_that_is_under_way_is_ended_before_the_next_one() {
    let mut world = World::installed("v1");
    world.systemctl("StopUnit", "astra-caddy.service");
    world.faults("StartUnit astra-caddy.service", How::EndsLate(Duration::from_secs(5), "failed"), 0, 1);
    world.systemctl("StartUnit", "astra-caddy.service");
    let calls = ["StopUnit astra-caddy.service", "StartUnit astra-caddy.service"];
    world.reconcile().calls(&calls).succeeds().serves("v1");
}

#[test]
fn a_caddy_that_says_it_reloads_is_left_alone() {
    let mut world = World::installed("v1");
    world.set_unit("astra-caddy.service", ("reloading", "reload"));
    world.reconcile().changes_nothing().succeeds().serves("v1");
}

#[test]
fn a_caddyfile_that_caddy_refuses_changes_nothing() {
    let mut world = World::installed("v1");
    let before = world.text("/etc/astra/Caddyfile");
    world.change_config("[caddy]\n", "[caddy]\nextra = \"nonsense\"\n");
    let ran = world.reconcile().says("unrecognized directive").says("look at `extra`");
    ran.changes_nothing().exits(2).serves("v1");
    assert_eq!(world.text("/etc/astra/Caddyfile"), before);
}

#[test]
fn a_changed_caddyfile_is_loaded_without_a_restart() {
    let mut world = World::installed("v1");
    world.change_config("[caddy]\n", "[caddy]\nblock = [\"/admin\"]\n");
    world.reconcile().calls(&["load"]).never_calls("StopUnit").succeeds().serves("v1");
    assert!(world.text("/etc/astra/Caddyfile").contains("/admin"));
    world.reconcile().changes_nothing();
}

#[test]
fn instances_are_added_and_removed_as_the_config_says() {
    let mut world = World::installed("v1").config("[app]\n", "[app]\ninstances = 3\n");
    world.reconcile().calls(&["StartUnit astra-app@3.service"]).succeeds().serves("v1");
    world.change_config("[app]\ninstances = 3\n", "[app]\ninstances = 2\n");
    let ran = world.reconcile().never_calls("StopUnit astra-app@1");
    ran.calls(&["StopUnit astra-app@3.service"]).succeeds().serves("v1");
    world.reconcile().changes_nothing();
}

#[test]
fn the_timer_follows_the_tag_and_leaves_a_held_digest_alone() {
    let mut world = World::installed("v1").config("[deploy]\n", "[deploy]\nauto = true\n");
    world.publish("v2");
    world.timer().reconcile().succeeds().serves("v2");
    world.image("v3", App::Exits(3), Migration::Passes);
    world.publish("v3");
    world.timer().reconcile().exits(3).serves("v2");
    assert_eq!(world.timer().reconcile().changes_nothing().code(), 0);
    world.serves("v2");
}

#[test]
fn the_image_of_the_rollback_target_is_pulled_again() {
    let mut world = World::installed("v1");
    world.deploy("v2").succeeds();
    let is_v1 = |image: &String| image.contains(&digest("v1"));
    world.shared.lock().local.retain(|image| !is_v1(image));
    std::fs::remove_file(world.root.join("run/astra/way-back")).unwrap();
    world.reconcile().calls(&["pull"]).never_calls("StopUnit").succeeds().serves("v2");
    assert!(world.shared.lock().local.iter().any(is_v1));
}

#[test]
fn an_engine_that_hangs_restarts_no_instance() {
    let mut world = World::installed("v1");
    std::fs::remove_file(world.root.join("run/astra/seen.json")).unwrap();
    world.fault("GET /", How::Hangs);
    world.reconcile().never_calls("StopUnit").never_calls("StartUnit").succeeds();
    world.heal();
    world.serves("v1");
}

#[test]
fn an_instance_that_does_not_come_back_leaves_the_other_one_serving() {
    let mut world = World::installed("v1");
    world.systemctl("StopUnit", "astra-app@1.service");
    world.fault("StartUnit astra-app@1.service", How::Ends("failed"));
    world.reconcile().never_calls("StopUnit astra-app@2").exits(1);
    assert_eq!(crate::units::status(&world.shared.lock(), "2".parse().unwrap()), Some(200));
    world.heal();
    world.reconcile().succeeds().serves("v1");
}

#[test]
fn a_hand_made_unit_file_is_kept_as_a_copy() {
    let mut world = World::installed("v1");
    let (path, text) = ("/etc/systemd/system/astra-app@.service", "[Service]\nExecStart=/bin/true\n");
    world.write(path, text);
    world.reconcile().never_calls("StopUnit").succeeds().serves("v1");
    assert_eq!(world.text(&format!("{path}.before-astra")), text);
}

#[test]
fn a_container_that_a_power_cut_left_is_removed() {
    let mut world = World::installed("v1");
    let labels = [("astra.release".to_owned(), "1".to_owned())].into();
    let left = Container { labels, env: Default::default(), files: Default::default(), state: "exited" };
    world.shared.lock().containers.insert("astra-app-7".to_owned(), left);
    world.deploy("v2").calls(&["remove container astra-app-7"]).succeeds().serves("v2");
}

#[test]
fn a_cron_job_is_started_changed_and_stopped_as_the_config_says() {
    let job = "[[cron_jobs]]\nname = \"mail\"\nminute = \"5\"\ncommand = [\"mail\"]\n[deploy]\n";
    let mut world = World::installed("v1").config("[deploy]\n", job);
    world.reconcile().calls(&["StartUnit astra-cron-mail.timer"]).succeeds().serves("v1");
    world.change_config("minute = \"5\"", "minute = \"6\"");
    world.reconcile().calls(&["RestartUnit astra-cron-mail.timer"]).succeeds();
    world.change_config(&job.replace('5', "6"), "[deploy]\n");
    world.reconcile().calls(&["StopUnit astra-cron-mail.timer"]).succeeds().serves("v1");
    world.reconcile().changes_nothing();
}
