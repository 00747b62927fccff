//! Tests on real hosts: systemd, podman or docker, Caddy, a registry and PostgreSQL, a fresh one for each
//! test. `harness.rs` has the functions of a test; `host` boots the hosts. They fail on a machine that cannot
//! boot a host, unless ASTRA_SKIP_HOST_TESTS=1.
// Tests report by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod accessories;
mod auto;
mod balancer;
mod broken;
mod caddy;
mod calls;
mod chronos;
mod container;
mod cron;
mod deploy;
mod digests;
mod docker;
mod doctor;
mod environment;
mod envs;
mod examples;
mod facts;
mod faults;
mod from_ansible;
mod harness;
mod holds;
mod install;
mod kills;
mod lock;
mod operator;
mod own_images;
mod packages;
mod pause;
mod proxy;
mod reach;
mod recovery;
mod report;
mod rollback;
mod rotation;
#[path = "../campaign/rows.rs"]
mod rows;
mod runs;

mod secrets;
mod security;
mod services;
mod site;
mod smoke;
mod soak;
mod ssm;
mod status;
mod store;
mod terminal;
mod terraform;
mod tidy;
mod user_data;
mod verify;
mod wait;
