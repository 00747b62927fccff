//! Requests to an instance before visitors send theirs. Called by instance.rs.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Host;
use crate::host::http::HttpError;
use crate::host::probe::{ProbeError, fetch};
use crate::model::step::HttpCheck;

impl Host {
    /// Asks for each path, one after another, and says how it went. No answer judges the release: readiness and soak do.
    /// At `limit` the rest is left out.
    pub(super) async fn warm_up(&self, at: SocketAddrV4, ask: &HttpCheck, limit: Duration) -> String {
        let begun = Instant::now();
        let mut asked = 0;
        let mut slowest: Option<(Duration, &str)> = None;
        let mut flaws = Vec::new();
        for path in &ask.warm_up {
            let left = limit.saturating_sub(begun.elapsed()).min(ask.answer);
            if left.is_zero() {
                break;
            }
            (self.detail)(&format!("warming up: {path}"));
            let start = Instant::now();
            let answer = fetch(SocketAddr::V4(at), path, &ask.host, ask.https, left).await;
            asked += 1;
            match answer {
                Ok(Some(status)) if status < 400 => {}
                Ok(Some(status)) => flaws.push(format!("{path} answered {status}")),
                Ok(None) | Err(ProbeError::Http(HttpError::Late { .. })) => {
                    flaws.push(format!("no answer of {path} within {left:.1?}"));
                }
                Err(error) => flaws.push(format!("{path}: {error}")),
            }
            let took = (start.elapsed(), path.as_str());
            slowest = slowest.max(Some(took));
        }
        said(asked, ask.warm_up.len(), begun.elapsed(), slowest, &flaws)
    }
}

fn said(
    asked: usize,
    of: usize,
    all: Duration,
    slowest: Option<(Duration, &str)>,
    flaws: &[String],
) -> String {
    let count = match (asked, of) {
        (1, 1) => "1 request".to_owned(),
        (asked, of) if asked == of => format!("{asked} requests"),
        (asked, of) => format!("{asked} of {of} requests"),
    };
    let slowest = slowest.filter(|_| asked > 1);
    let slowest =
        slowest.map(|(time, path)| format!("slowest {path} {:.1} s", time.as_secs_f64())).into_iter();
    let details: Vec<_> = slowest.chain(flaws.iter().cloned()).collect();
    let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
    format!("warmed up: {count} in {:.1} s{details}", all.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_short_when_all_is_well() {
        let (one, two) = (Duration::from_millis(200), Duration::from_millis(1100));
        assert_eq!(said(1, 1, one, Some((one, "/")), &[]), "warmed up: 1 request in 0.2 s");
        let slowest = Some((two, "/search"));
        assert_eq!(
            said(2, 2, two + one, slowest, &[]),
            "warmed up: 2 requests in 1.3 s (slowest /search 1.1 s)"
        );
        assert_eq!(
            said(2, 3, two + one, slowest, &["/search answered 500".into()]),
            "warmed up: 2 of 3 requests in 1.3 s (slowest /search 1.1 s; /search answered 500)"
        );
    }
}
