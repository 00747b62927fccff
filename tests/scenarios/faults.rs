//! The faults of a deploy, one a test: its exit code, and whether the release is held. The law: a release is held
//! only for its own failure. After each fault the former release serves, and the host is tidy.

use std::time::Duration;

use crate::state::{App, How, Migration};
use crate::world::World;

const DENIED: How = How::Refused("org.freedesktop.DBus.Error.AccessDenied");
const FIRST: &str = "StartUnit astra-app@1.service";
const SECOND: &str = "StartUnit astra-app@2.service";
const MIGRATE: &str = "StartUnit astra-migrate.service";
const PULL: &str = "POST /images/create";

/// The release is to blame.
const HELD: (u8, bool) = (3, true);
/// The host is to blame, or an operator.
const FREE: (u8, bool) = (1, false);

fn app(world: &mut World, app: App) {
    world.image("v2", app, Migration::Passes);
}

fn dies(world: &mut World, after: u64, main: (i32, i32), listens: bool) {
    app(world, App::Dies { after: Duration::from_millis(after), main, listens });
}

fn migration(world: &mut World, migration: Migration) {
    world.image("v2", App::Ready, migration);
}

/// The fault of one call; undo makes the same call without it.
fn once(world: &mut World, call: &str, how: How) {
    world.faults(call, how, 0, 1);
}

fn check(provoke: impl FnOnce(&mut World), (code, held): (u8, bool)) {
    let mut world = World::installed("v1");
    provoke(&mut world);
    let ran = world.deploy("v2");
    let text = ran.text();
    assert_eq!(ran.code(), code, "{text}");
    world.serves("v1");
    assert_eq!(world.release(), 1);
    assert_eq!(world.is_held("v2"), held, "held: {text}");
}

macro_rules! faults {
    ($($(#[$attribute:meta])* $name:ident: $provoke:expr => $ends:expr;)*) => {
        $($(#[$attribute])* #[test] fn $name() { check($provoke, $ends) })*
    };
}

faults! {
    an_app_that_exits: |w| app(w, App::Exits(1)) => HELD;
    an_app_that_exits_with_the_engines_code: |w| app(w, App::Exits(125)) => HELD;
    an_app_that_dies_once_it_is_ready: |w| dies(w, 300, (1, 1), true) => HELD;
    an_app_that_dies_before_it_listens: |w| dies(w, 100, (1, 1), false) => HELD;
    an_app_that_ends_well_before_it_listens: |w| dies(w, 100, (1, 0), false) => HELD;
    an_app_that_breaks_in_the_soak: |w| app(w, App::Turns(Duration::from_millis(500), 503)) => HELD;
    an_app_that_answers_nothing: |w| app(w, App::Hangs) => HELD;
    an_app_that_answers_503: |w| app(w, App::Answers(503)) => HELD;
    an_app_that_redirects: |w| app(w, App::Redirects) => HELD;
    an_app_that_does_not_listen: |w| app(w, App::Silent) => HELD;
    an_app_that_never_reports_ready: |w| app(w, App::Starts) => HELD;
    a_start_that_systemd_times_out: |w| once(w, FIRST, How::TimesOut) => HELD;
    a_migration_that_exits: |w| migration(w, Migration::Exits(1)) => HELD;
    a_migration_that_never_ends: |w| migration(w, Migration::Runs) => HELD;

    a_start_that_waits_for_another_unit: |w| once(w, FIRST, How::Waits) => FREE;
    a_migration_that_waits_for_another_unit: |w| once(w, MIGRATE, How::Waits) => FREE;
    a_start_that_d_bus_refuses: |w| once(w, FIRST, DENIED) => FREE;
    a_start_of_the_second_instance_that_d_bus_refuses: |w| once(w, SECOND, DENIED) => FREE;
    a_stop_that_d_bus_refuses: |w| once(w, "StopUnit astra-app@1.service", DENIED) => FREE;
    a_migration_that_d_bus_refuses: |w| once(w, MIGRATE, DENIED) => FREE;
    a_start_that_another_job_cancels: |w| once(w, FIRST, How::Ends("canceled")) => FREE;
    a_start_whose_requirement_fails: |w| once(w, FIRST, How::Ends("dependency")) => FREE;
    an_engine_that_is_killed_at_the_start: |w| app(w, App::Killed(9)) => FREE;
    an_engine_that_is_killed_in_the_soak: |w| dies(w, 300, (2, 9), true) => FREE;
    an_engine_that_is_killed_in_the_migration: |w| migration(w, Migration::Killed(9)) => FREE;
    a_migration_that_the_engine_does_not_start: |w| migration(w, Migration::Exits(125)) => FREE;
    a_migration_that_another_job_cancels: |w| once(w, MIGRATE, How::Ends("canceled")) => FREE;
    a_migration_that_an_administrator_stops: |w| {
        migration(w, Migration::Runs);
        w.systemctl_at(MIGRATE, "StopUnit", "astra-migrate.service");
    } => FREE;
    a_start_that_an_administrator_stops: |w| {
        app(w, App::Starts);
        w.systemctl_at(FIRST, "StopUnit", "astra-app@1.service");
    } => FREE;
    an_instance_that_an_administrator_stops_in_the_soak: |w| {
        w.systemctl_at(SECOND, "StopUnit", "astra-app@1.service");
    } => FREE;

    a_pull_that_the_engine_refuses: |w| w.fault(PULL, How::Status(500, "denied")) => FREE;
    a_pull_that_fails_half_way: |w| w.fault(PULL, How::Says("unexpected EOF")) => FREE;
    a_pull_that_hangs: |w| w.fault(PULL, How::Hangs) => FREE;
    an_engine_that_hangs_up: |w| w.fault(PULL, How::HangsUp) => FREE;
    an_engine_that_answers_500: |w| w.fault("GET /", How::Status(500, "database is locked")) => FREE;
    an_engine_that_hangs: |w| w.fault("GET /", How::Hangs) => FREE;
    a_registry_that_hangs: |w| w.fault("HEAD /v2/", How::Hangs) => FREE;
    a_registry_that_answers_404: |w| w.fault("HEAD /v2/", How::Status(404, "")) => FREE;

    ctrl_c_in_the_pull: |w| _ = w.interrupt_at("pull") => FREE;
    ctrl_c_in_the_migration: |w| {
        migration(w, Migration::Runs);
        w.interrupt_at(MIGRATE);
    } => FREE;
    ctrl_c_in_the_first_start: |w| {
        app(w, App::Starts);
        w.interrupt_at(FIRST);
    } => FREE;
    ctrl_c_in_the_second_start: |w| _ = w.interrupt_at(SECOND) => FREE;
    ctrl_c_while_a_failing_app_starts: |w| {
        app(w, App::Silent);
        w.interrupt_at(FIRST);
    } => FREE;
}
