//! What the load generator prints (load.rs) and the tests read (harness.rs).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// When it began, in seconds since 1970.
    pub began: f64,
    pub seconds: f64,
    /// Requests a second that were to be sent.
    pub asked: f64,
    /// Requests a second that were really sent.
    pub rate: f64,
    /// By how much the latest of them was sent after it was due.
    pub latest_ms: f64,
    pub total: usize,
    pub failed: usize,
    /// By kind: get, post, slow_get, slow_post, sse.
    pub kinds: BTreeMap<String, Kind>,
    /// How often each version of the app answered a plain GET.
    pub versions: BTreeMap<String, usize>,
    pub websockets: WebSockets,
    /// Second by second, by when a request was due.
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
    /// From when a request was due to the end of its answer, or to its failure.
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
    /// Open connections that ended before their time.
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
    /// Version and container that it was connected to.
    pub who: String,
    pub reason: String,
}
