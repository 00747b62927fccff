//! The vocabulary of the rows: each act is one thing that happens to a host, and says why it could not.

mod caddy;
mod database;
pub mod disk;
pub mod files;
pub mod helper;
mod journal;
pub mod limits;
mod podman;
pub mod typed;
mod units;
