//! Caddy through its admin socket (caddyserver.com/docs/api): loading a config, requests in flight, metrics.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::Method;
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use serde::Deserialize;

mod loaded;
mod metrics;

use super::http::{Answer, Http, HttpRequest};
use crate::model::observed::CaddySeen;
pub use metrics::Metrics;

/// Loading a config with certificates may take seconds.
const LOAD: Duration = Duration::from_secs(30);
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest metrics answer: a busy Caddy sends 200 KiB.
const METRICS: usize = 16 << 20;

/// Directives that a release was the first to understand.
const TELLTALES: [((u32, u32), &str); 3] = [
    ((2, 11), "{\n\trenewal_window_ratio 0.5\n}\n"),
    ((2, 9), "{\n\tmetrics {\n\t\tper_host\n\t}\n}\n"),
    (CaddySeen::OLDEST, ":0 {\n\treverse_proxy 127.0.0.1:1 {\n\t\tstream_close_delay 1s\n\t}\n}\n"),
];

/// The admin endpoint behind one unix socket.
#[derive(Debug)]
pub struct CaddyAdmin {
    http: Http,
    socket: PathBuf,
}

/// One upstream of reverse_proxy, summed over all sites.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Upstream {
    /// `127.0.1.1:8001`
    pub address: String,
    /// Requests in flight, WebSockets included.
    pub num_requests: u64,
    /// Failures remembered by passive health checks.
    #[serde(default)]
    pub fails: u64,
}

impl CaddyAdmin {
    /// The admin endpoint at this unix socket; makes no connection.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let socket = socket.into();
        Self { http: Http::unix(&socket), socket }
    }

    /// Makes Caddy run exactly this Caddyfile (POST /load). Returns once it is in force; on an error the old
    /// config stays, and the error has Caddy's message. Loading the same bytes again changes nothing.
    ///
    /// # Errors
    ///
    /// Caddy does not answer, or refuses the Caddyfile.
    pub async fn load(&self, caddyfile: &[u8]) -> Result<()> {
        self.post("/load", caddyfile, LOAD).await.context("loading the Caddyfile").map(drop)
    }

    /// Validates a Caddyfile without running it, and returns it as Caddy's JSON; the error has Caddy's
    /// message. Problems with an address or a certificate only show when it runs.
    ///
    /// # Errors
    ///
    /// Caddy does not answer, or cannot parse the Caddyfile.
    pub async fn adapt(&self, caddyfile: &[u8]) -> Result<serde_json::Value> {
        let answer = self.post("/adapt", caddyfile, QUERY_TIMEOUT).await.context("checking the Caddyfile")?;
        serde_json::from_slice(&answer.body).context("checking the Caddyfile: Caddy's answer is not JSON")
    }

    /// Whether the config in force is what Caddy makes of `caddyfile`.
    ///
    /// # Errors
    ///
    /// Caddy does not answer, or cannot parse the Caddyfile.
    pub async fn serves_by(&self, caddyfile: &[u8]) -> Result<bool> {
        let doing = "asking Caddy for its config";
        let running = self.ask(Method::GET, "/config/", &[], QUERY_TIMEOUT).await.context(doing)?;
        let running: serde_json::Value = serde_json::from_slice(&running.body).context(doing)?;
        let adapted = self.adapt(caddyfile).await?;
        Ok(adapted.get("result") == Some(&running))
    }

    /// All upstreams with their current requests in flight.
    ///
    /// # Errors
    ///
    /// Caddy does not answer, or its answer is not a list of upstreams.
    pub async fn upstreams(&self) -> Result<Vec<Upstream>> {
        let doing = "asking Caddy for its upstreams";
        let answer =
            self.ask(Method::GET, "/reverse_proxy/upstreams", &[], QUERY_TIMEOUT).await.context(doing)?;
        read_upstreams(&answer.body).context(doing)
    }

    /// The current counters.
    ///
    /// # Errors
    ///
    /// Caddy does not answer, or does not answer in time.
    pub async fn metrics(&self) -> Result<Metrics> {
        let answer = self
            .ask(Method::GET, "/metrics", &[], QUERY_TIMEOUT)
            .await
            .context("asking Caddy for its metrics")?;
        Ok(Metrics::parse(&String::from_utf8_lossy(&answer.body)))
    }

    /// (major, minor) of the running Caddy: the newest release known here whose Caddyfile it understands,
    /// because the admin endpoint has no version, and `go_build_info` is empty in distributions' builds. (2,
    /// 11) is exact where it matters; below it is a lower bound. `None`: it answers, but is older than
    /// [`CaddySeen::OLDEST`]. Changes nothing in Caddy. An error if Caddy did not judge a Caddyfile, since
    /// then it need not be old.
    ///
    /// # Errors
    ///
    /// Caddy does not answer, or gives no verdict on a Caddyfile.
    pub async fn version(&self) -> Result<Option<(u32, u32)>> {
        for (version, caddyfile) in TELLTALES {
            match self.adapt(caddyfile.as_bytes()).await {
                Ok(_) => return Ok(Some(version)),
                Err(error) if is_refusal(&error) => {}
                Err(error) => return Err(error.context("asking Caddy for its version")),
            }
        }
        Ok(None)
    }

    async fn post(&self, path: &str, caddyfile: &[u8], deadline: Duration) -> Result<Answer> {
        self.ask(Method::POST, path, caddyfile, deadline).await
    }

    async fn ask(&self, method: Method, path: &str, body: &[u8], deadline: Duration) -> Result<Answer> {
        let mut headers = HeaderMap::new();
        // 2.6 accepts only an empty Host over a unix socket (RFC 9112, 3.2); later versions accept it, too.
        headers.insert(HOST, HeaderValue::from_static(""));
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/caddyfile"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        let url = format!("http://caddy{path}");
        let ask = HttpRequest { method, url: &url, headers, body: body.to_vec(), deadline, cap: METRICS };
        let answer = self.http.ask(ask).await?;
        match answer.status {
            200 => Ok(answer),
            status => {
                Err(reason(&answer).unwrap_or_else(|| anyhow!("{} answered {status}", self.socket.display())))
            }
        }
    }
}

/// Caddy's own error message for a request.
#[derive(Debug, thiserror::Error)]
#[error("Caddy says: {text}")]
struct CaddyError {
    status: u16,
    text: String,
}

/// Caddy has read the request, and rejects its content.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<CaddyError>().is_some_and(|says| says.status == 400))
}

/// The list of upstreams; Caddy answers `null` if there are none.
///
/// # Errors
///
/// The body is not JSON of this form.
pub fn read_upstreams(body: &[u8]) -> Result<Vec<Upstream>> {
    let all: Option<Vec<Upstream>> = serde_json::from_slice(body)?;
    Ok(all.unwrap_or_default())
}

/// Caddy's error message: `{"error": "…"}`.
fn reason(answer: &Answer) -> Option<anyhow::Error> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let body: ErrorBody = serde_json::from_slice(&answer.body).ok()?;
    Some(CaddyError { status: answer.status, text: body.error.trim().to_owned() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::http::testing::{json, serve_unix};

    #[tokio::test]
    async fn requests_suit_2_6_and_2_11() {
        let server = serve_unix(|request| {
            let head = request.head.to_lowercase();
            assert!(head.contains("\r\nhost: \r\n") || head.contains("\r\nhost:\r\n"), "{head}");
            assert!(!head.contains("origin:"));
            if head.starts_with("post /load ") {
                assert!(head.contains("content-type: text/caddyfile\r\n"));
                return match request.body.as_str() {
                    "good" => json(200, "", ""),
                    _ => json(400, "", r#"{"error":"adapting config: Caddyfile:1 - Syntax error"}"#),
                };
            }
            json(200, "", r#"[{"address":"127.0.1.1:8001","num_requests":3,"fails":0}]"#)
        })
        .await;
        let caddy = CaddyAdmin::new(&server.path);
        caddy.load(b"good").await.unwrap();
        let error = format!("{:#}", caddy.load(b"bad").await.unwrap_err());
        assert_eq!(error, "loading the Caddyfile: Caddy says: adapting config: Caddyfile:1 - Syntax error");
        let upstreams = caddy.upstreams().await.unwrap();
        assert_eq!(upstreams, [Upstream { address: "127.0.1.1:8001".to_owned(), num_requests: 3, fails: 0 }]);
    }

    #[tokio::test]
    async fn a_config_that_differs_from_the_caddyfile_is_detected() {
        let server = serve_unix(|request| match request.body.as_str() {
            "" => json(200, "", r#"{"apps":{"http":{},"tls":{}}}"#),
            "same" => json(200, "", r#"{"warnings":[],"result":{"apps":{"tls":{},"http":{}}}}"#),
            _ => json(200, "", r#"{"result":{"apps":{"http":{}}}}"#),
        })
        .await;
        let caddy = CaddyAdmin::new(&server.path);
        assert!(caddy.serves_by(b"same").await.unwrap());
        assert!(!caddy.serves_by(b"other").await.unwrap());
    }

    #[tokio::test]
    async fn a_caddy_that_is_down_is_an_error() {
        let caddy = CaddyAdmin::new("/nonexistent/admin.sock");
        assert!(caddy.version().await.is_err());
        let error = format!("{:#}", caddy.metrics().await.unwrap_err());
        assert!(
            error.starts_with("asking Caddy for its metrics: connecting to /nonexistent/admin.sock"),
            "{error}"
        );
    }
}
