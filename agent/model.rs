//! Floor 1: the types that everything else uses. Pure data and parsing; no clock, no file, no network.

pub mod caddyfile;
pub mod checkup;
pub mod cron;
pub mod digest;
pub mod entry;
pub mod envfile;
pub mod exit;
pub mod fingerprint;
pub mod history;
pub mod image;
pub mod name;
pub mod observed;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod problem;
pub mod release;
pub mod secret;
pub mod selector;
pub mod staged;
pub mod step;
pub mod step_error;
pub mod step_note;
pub mod text;
pub mod token;
pub mod unit;
