//! The HTTP client for registries (TLS), loopback ports, the metadata of EC2 and Caddy's socket; most requests to the
//! engine are bollard's.
//! No proxy from the environment, no redirects, no connection reuse (an app that restarts must not get a stale one),
//! a deadline and a size limit for every answer.
//!
//! Clients are built on first use. The TLS client reads the host's certificates, which takes milliseconds
//! that plain HTTP, and so `status`, does not spend.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, Response};

/// Longest wait for a TCP connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A client for TCP (`http`, `https`) or for one unix socket.
#[derive(Debug, Default)]
pub struct Http {
    socket: Option<PathBuf>,
    extra: Tls,
    plain: OnceLock<Client>,
    tls: OnceLock<Client>,
}

/// TLS settings besides the host's own authorities. All in PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities to trust besides the host's own.
    pub authorities: Vec<Vec<u8>>,
    /// Client certificate and key of this host.
    pub own: Option<Vec<u8>>,
    /// Accept any certificate.
    pub unchecked: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({} authorities, unchecked: {})", self.authorities.len(), self.unchecked)
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection: refused, no such host, TLS.
    #[error("connecting to {to}: {why}")]
    Connect {
        /// Host and port, or the path of a socket.
        to: String,
        /// The causes, outermost first.
        why: String,
    },
    /// The deadline passed before the answer was whole.
    #[error("no answer from {to} within {seconds} s")]
    Late {
        /// Host and port, or the path of a socket.
        to: String,
        /// The deadline of the request.
        seconds: f64,
    },
    /// The body is longer than the caller reads.
    #[error("the answer of {to} is larger than {cap} bytes")]
    TooLarge {
        /// Host and port, or the path of a socket.
        to: String,
        /// The cap of the request, in bytes.
        cap: usize,
    },
    /// The connection broke, or the request cannot be made.
    #[error("asking {to}: {why}")]
    Broken {
        /// Host and port, or the path of a socket.
        to: String,
        /// The causes, outermost first.
        why: String,
    },
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Any status: also 4xx and 5xx are answers.
    pub status: u16,
    /// Its header fields.
    pub headers: HeaderMap,
    /// At most the `cap` of the request.
    pub body: Vec<u8>,
}

/// A request. `url` is absolute; over a unix socket its host has no effect.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    /// GET, HEAD, POST or PUT.
    pub method: Method,
    /// Absolute, with its scheme.
    pub url: &'a str,
    /// Header fields besides `Host`, which comes from `url`.
    pub headers: HeaderMap,
    /// Empty for a request without a body.
    pub body: Vec<u8>,
    /// For the whole request: connection, answer, body.
    pub deadline: Duration,
    /// Longest body, in bytes.
    pub cap: usize,
}

impl<'a> HttpRequest<'a> {
    /// A GET with a deadline of 10 s and a cap of 1 MiB.
    pub fn get(url: &'a str) -> Self {
        let deadline = Duration::from_secs(10);
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Vec::new(), deadline, cap: 1 << 20 }
    }
}

impl Http {
    /// A client that connects by TCP, with the host's own trust settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client for the unix socket at `path`.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { socket: Some(path.into()), ..Self::default() }
    }

    /// A client with other trust settings than the host's own.
    pub fn with(extra: Tls) -> Self {
        Self { extra, ..Self::default() }
    }

    /// Sends the request and reads the whole answer. Any status is an answer.
    ///
    /// # Errors
    ///
    /// There is no connection, no whole answer within the deadline, or a body above the cap.
    pub async fn ask(&self, ask: HttpRequest<'_>) -> Result<Answer, HttpError> {
        let (to, deadline, cap) = (self.peer(ask.url), ask.deadline, ask.cap);
        let whole = async {
            let mut response = self.open(ask).await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| broken(&to, &error))? {
                if body.len() + chunk.len() > cap {
                    return Err(HttpError::TooLarge { to: to.clone(), cap });
                }
                body.extend_from_slice(&chunk);
            }
            let headers = std::mem::take(response.headers_mut());
            Ok(Answer { status: response.status().as_u16(), headers, body })
        };
        match tokio::time::timeout(deadline, whole).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Late { to: to.clone(), seconds: deadline.as_secs_f64() }),
        }
    }

    /// Sends the request and returns once the head of the answer is there; the caller limits time and size of
    /// the body.
    pub(super) async fn open(&self, ask: HttpRequest<'_>) -> Result<Response, HttpError> {
        let to = self.peer(ask.url);
        let request: RequestBuilder = self.client(ask.url)?.request(ask.method, ask.url).headers(ask.headers);
        let send = request.body(ask.body).send();
        match tokio::time::timeout(ask.deadline, send).await {
            Ok(answer) => answer.map_err(|error| broken(&to, &error)),
            Err(_) => Err(HttpError::Late { to, seconds: ask.deadline.as_secs_f64() }),
        }
    }

    fn client(&self, url: &str) -> Result<&Client, HttpError> {
        let tls = self.socket.is_none() && url.starts_with("https:");
        let slot = if tls { &self.tls } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = self.build(tls).map_err(|why| HttpError::Broken { to: self.peer(url), why })?;
        Ok(slot.get_or_init(|| client))
    }

    fn build(&self, tls: bool) -> Result<Client, String> {
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT)
            .user_agent(concat!("astra-agent/", env!("CARGO_PKG_VERSION")));
        if tls {
            // An error means that the process has a provider already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            builder = builder.https_only(true).tls_danger_accept_invalid_certs(self.extra.unchecked);
            let pem = |error: reqwest::Error| format!("reading a certificate: {}", chain(&error));
            for authority in &self.extra.authorities {
                builder = builder.tls_certs_merge(Certificate::from_pem_bundle(authority).map_err(pem)?);
            }
            if let Some(own) = &self.extra.own {
                builder = builder.identity(Identity::from_pem(own).map_err(pem)?);
            }
        } else {
            // Without roots nothing is loaded from disk, and nothing can be trusted by mistake.
            let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            builder = builder.tls_backend_preconfigured(config);
        }
        if let Some(socket) = &self.socket {
            builder = builder.unix_socket(socket.as_path());
        }
        builder.build().map_err(|error| chain(&error))
    }

    /// The peer for error messages: without the query, which may hold a token.
    fn peer(&self, url: &str) -> String {
        match &self.socket {
            Some(socket) => socket.display().to_string(),
            None => url.split('?').next().unwrap_or(url).to_owned(),
        }
    }
}

/// A header value that logs and errors do not show.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn broken(to: &str, error: &reqwest::Error) -> HttpError {
    let (to, why) = (to.to_owned(), chain(error));
    if error.is_connect() { HttpError::Connect { to, why } } else { HttpError::Broken { to, why } }
}

/// The causes of an error, without its own text: reqwest's repeats the whole URL, hyper's says only `client error`.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut texts = Vec::new();
    let mut source = error.source();
    while let Some(inner) = source {
        texts.push(inner.to_string());
        source = inner.source();
    }
    texts.dedup();
    if texts.is_empty() { "it failed".to_owned() } else { texts.join(": ") }
}

#[cfg(test)]
pub mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_capped() {
        let server = testing::serve(|_| testing::json(200, "", &"x".repeat(5000))).await;
        let url = format!("http://{}/", server.address);
        let ask = |cap| HttpRequest { cap, ..HttpRequest::get(&url) };
        assert_eq!(Http::new().ask(ask(5000)).await.unwrap().body.len(), 5000);
        assert!(matches!(Http::new().ask(ask(4999)).await, Err(HttpError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer() {
        let server = testing::serve(|_| testing::json(302, "Location: http://example.com/\r\n", "")).await;
        let url = format!("http://{}/", server.address);
        assert_eq!(Http::new().ask(HttpRequest::get(&url)).await.unwrap().status, 302);
    }

    #[tokio::test]
    async fn errors_never_show_the_query() {
        let error = Http::new().ask(HttpRequest::get("http://127.0.0.1:1/x?token=secret")).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    #[test]
    fn a_plain_client_is_built_quickly() {
        let begun = std::time::Instant::now();
        Http::new().client("http://127.0.0.1/").unwrap();
        let plain = begun.elapsed();
        let begun = std::time::Instant::now();
        Http::new().client("https://example.com/").unwrap();
        println!("plain {plain:?}, TLS {:?}", begun.elapsed());
    }
}
