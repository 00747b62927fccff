//! Tests on real hosts: systemd, podman or docker, Caddy, a registry and PostgreSQL, each
//! test on a fresh one. `harness.rs` says what a test can do; `host` boots them.
//! They fail on a machine that cannot boot a host, unless ASTRA_SKIP_HOST_TESTS=1.
// In a test a panic is the report.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod auto;
mod balancer;
mod broken;
mod caddy;
mod container;
mod cron;
mod deploy;
mod digests;
mod docker;
mod doctor;
mod environment;
mod envs;
mod faults;
mod from_ansible;
mod harness;
mod holds;
mod install;
mod kills;
mod lock;
mod operator;
mod proxy;
mod reach;
mod recovery;
mod report;
mod rollback;
mod rotation;
mod runs;
mod security;
mod site;
mod smoke;
mod soak;
mod status;
mod store;
mod terminal;
mod tidy;
mod verify;
