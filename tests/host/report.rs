//! The report of the load generator (load.rs), read by the tests (harness.rs).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its start, in seconds since 1970.
    pub began: f64,
    pub seconds: f64,
    /// Requests a second that were to be sent.
    pub asked: f64,
    /// Requests a second that were really sent.
    pub rate: f64,
    /// The longest delay between due and sent.
    pub latest_ms: f64,
    pub total: usize,
    pub failed: usize,
    /// By kind: get, post, slow_get, slow_post, sse.
    pub kinds: BTreeMap<String, Kind>,
    /// How often each version of the app answered a plain GET.
    pub versions: BTreeMap<String, usize>,
    pub websockets: WebSockets,
    /// Second by second, by due time.
    pub timeline: Vec<Second>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    pub answered: usize,
    pub failed: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Kind {
    pub total: usize,
    pub failed: usize,
    /// From the due time to the end of the answer, or to the failure.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// The first twenty.
    pub errors: Vec<Event>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct WebSockets {
    pub opened: usize,
    pub echoes: usize,
    /// Connections that could not be opened.
    pub failed: usize,
    pub errors: Vec<Event>,
    /// Open connections that ended early.
    pub cuts: Vec<Cut>,
}

/// `at` is in seconds since the start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Event {
    pub at: f64,
    pub error: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Cut {
    pub at: f64,
    /// Version and container of the connection.
    pub who: String,
    pub reason: String,
}
