//! astra-agent: turns a TOML file into a running, load-balanced, digest-pinned container app on one host.
//! Five floors; a module names only modules on lower ones (docs/developing/architecture.md).

pub mod cli;
pub mod config;
pub mod converge;
pub mod host;
pub mod journal;
pub mod model;
pub mod plan;
pub mod run;
