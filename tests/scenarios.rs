//! Each operation of the agent on a host of fakes: a D-Bus with a systemd behind it, an engine and Caddy on unix
//! sockets, a registry and the app's instances on loopback, a temporary directory as `/`. The agent's own
//! code runs from the lock to the journal; only the processes that it starts are fakes. Each host has a paused
//! tokio clock, which advances only while all tasks wait, so a timeout of a minute takes milliseconds.
//! docs/developing/testing.md says how to add one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

#[path = "../agent/host/http/testing.rs"]
#[allow(dead_code, reason = "the adapters' own tests use the rest")]
mod http;

#[path = "scenarios/bus.rs"]
mod bus;
#[path = "scenarios/caddy.rs"]
mod caddy;
#[path = "scenarios/engine.rs"]
mod engine;
#[path = "scenarios/imds.rs"]
mod imds;
#[path = "scenarios/ran.rs"]
mod ran;
#[path = "scenarios/registry.rs"]
mod registry;
#[path = "scenarios/state.rs"]
mod state;
#[path = "scenarios/systemd.rs"]
mod systemd;
#[path = "scenarios/units.rs"]
mod units;
#[path = "scenarios/verb.rs"]
mod verb;
#[path = "scenarios/world.rs"]
mod world;

#[path = "scenarios/accessories.rs"]
mod accessories;
#[path = "scenarios/caddy_upgrade.rs"]
mod caddy_upgrade;
#[path = "scenarios/deploy.rs"]
mod deploy;
#[path = "scenarios/environment.rs"]
mod environment;
#[path = "scenarios/facts.rs"]
mod facts;
#[path = "scenarios/faults.rs"]
mod faults;
#[path = "scenarios/images.rs"]
mod images;
#[path = "scenarios/lost_files.rs"]
mod lost_files;
#[path = "scenarios/migrations.rs"]
mod migrations;
#[path = "scenarios/own_files.rs"]
mod own_files;
#[path = "scenarios/reconcile.rs"]
mod reconcile;
#[path = "scenarios/recover.rs"]
mod recover;
#[path = "scenarios/rollback.rs"]
mod rollback;
#[path = "scenarios/secrets.rs"]
mod secrets;
#[path = "scenarios/services.rs"]
mod services;
#[path = "scenarios/undo.rs"]
mod undo;
#[path = "scenarios/warm_up.rs"]
mod warm_up;
