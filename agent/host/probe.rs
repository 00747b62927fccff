//! One request to an instance's readiness path, like Caddy's.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{HOST, HeaderValue, LOCATION};
use tokio::time::Instant;

use super::http::{Http, HttpError, HttpRequest};
use crate::model::text::clean;

/// Longest part of an answer in a message.
const SHOWN: usize = 500;

/// The instance's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The status code; a redirect is not followed.
    pub status: u16,
    /// Target of a redirect.
    pub location: Option<String>,
    /// At most the first 500 bytes of the body, as text.
    pub body_start: String,
}

impl ProbeAnswer {
    /// The answer's details for a message, besides its status: without control characters, at most 500.
    pub fn shown(&self) -> String {
        let body = clean(self.body_start.trim(), SHOWN);
        match &self.location {
            Some(location) => {
                let hint = "an app that redirects plain HTTP has to accept `X-Forwarded-Proto: https`";
                format!("a redirect to {} {body}\n  hint: {hint}", clean(location, SHOWN))
                    .replace(" \n", "\n")
            }
            None => body,
        }
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The path does not make a URL.
    #[error("`{0}` is not a path that can be asked for")]
    Path(String),
    /// The name has a character that a header must not have.
    #[error("`{0}` cannot be a Host header")]
    Host(String),
    /// No answer in time, or none at all.
    #[error(transparent)]
    Http(#[from] HttpError),
}

/// The status of that path, once the answer is whole; its body is not kept. `None`: it did not end within `deadline`.
///
/// # Errors
///
/// The path or the header is invalid, or no head of an answer arrives in time.
pub async fn fetch(
    addr: SocketAddr,
    path: &str,
    host_header: &str,
    https: bool,
    deadline: Duration,
) -> Result<Option<u16>, ProbeError> {
    let until = Instant::now() + deadline;
    let mut response = ask(addr, path, host_header, https, deadline).await?;
    let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
    let whole = tokio::time::timeout_at(until, rest).await.is_ok();
    Ok(whole.then(|| response.status().as_u16()))
}

/// GET `path` of the server at `addr` with the given Host header, and `X-Forwarded-Proto: https` if `https`,
/// on a new connection; redirects are not followed. The head of the answer must arrive within `deadline`. A
/// slow or endless body is cut at the deadline, which is no error.
///
/// # Errors
///
/// The path or the header is invalid, or no head of an answer arrives in time.
pub async fn probe(
    addr: SocketAddr,
    path: &str,
    host_header: &str,
    https: bool,
    deadline: Duration,
) -> Result<ProbeAnswer, ProbeError> {
    let until = Instant::now() + deadline;
    let mut response = ask(addr, path, host_header, https, deadline).await?;
    let mut body = Vec::new();
    while body.len() < 500 {
        match tokio::time::timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            _ => break,
        }
    }
    body.truncate(500);
    Ok(ProbeAnswer {
        status: response.status().as_u16(),
        location: response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned),
        body_start: String::from_utf8_lossy(&body).into_owned(),
    })
}

async fn ask(
    addr: SocketAddr,
    path: &str,
    host_header: &str,
    https: bool,
    deadline: Duration,
) -> Result<Response, ProbeError> {
    if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ProbeError::Path(path.to_owned()));
    }
    let host = HeaderValue::from_str(host_header).map_err(|_| ProbeError::Host(host_header.to_owned()))?;
    let url = format!("http://{addr}{path}");
    let mut ask = HttpRequest { deadline, ..HttpRequest::get(&url) };
    ask.headers.insert(HOST, host);
    if https {
        ask.headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    }
    Ok(Http::new().open(ask).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::http::testing::serve;

    #[tokio::test]
    async fn sends_the_host_header_and_shows_the_start_of_the_body() {
        let server = serve(|request| {
            assert!(request.head.to_lowercase().contains("\r\nhost: astra.example\r\n"), "{}", request.head);
            assert!(request.head.starts_with("GET /ready?x=1 "));
            format!("HTTP/1.1 503 No\r\nContent-Length: 2000\r\n\r\n{}", "é".repeat(1000))
        })
        .await;
        let answer =
            probe(server.address, "/ready?x=1", "astra.example", true, Duration::from_secs(5)).await.unwrap();
        assert_eq!((answer.status, answer.body_start.chars().count()), (503, 250));
    }

    #[tokio::test]
    async fn reports_why_there_is_no_answer() {
        let silent = serve(|_| String::new()).await;
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let late = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (address, path, host, part) in [
            (silent.address, "/", "x", "asking"),
            (closed, "/", "x", "onnect"),
            (late.local_addr().unwrap(), "/", "x", "no answer"),
            (closed, "no", "x", "path"),
            (closed, "/", "x\ny", "Host"),
        ] {
            let error =
                probe(address, path, host, false, Duration::from_millis(300)).await.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_cut() {
        let server =
            serve(|_| "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nso far".to_owned() + "\0HOLD").await;
        let answer = probe(server.address, "/", "x", false, Duration::from_millis(300)).await.unwrap();
        assert_eq!(answer, ProbeAnswer { status: 200, location: None, body_start: "so far".to_owned() });
    }
}
