//! Facts of an EC2 instance from its metadata service, version 2 alone (IMDSv2): a PUT gives a token, each GET shows
//! it. Version 1 answers without a token, also to a request that an app was tricked into, and is never used.
//! Source: EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::http::{Answer, Http, HttpError, HttpRequest, sensitive};

/// The service of every instance, by its IPv4 address.
pub const ENDPOINT: &str = "http://169.254.169.254";
/// For one request.
const ANSWER: Duration = Duration::from_secs(2);
/// For all facts together: a deploy waits for them.
const LIMIT: Duration = Duration::from_secs(6);
/// A request that failed in a way that may pass is sent so often.
const TRIES: usize = 3;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest fact, in bytes: a tag has up to 256 characters.
const LONGEST: usize = 1024;
/// Seconds that a token is valid: longer than [`LIMIT`].
const TOKEN_SECONDS: &str = "60";

/// Why there are no facts.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// No connection: another host than an instance, or its metadata is off.
    #[error(
        "the metadata service of EC2 cannot be reached ({0}): is this host an EC2 instance with its metadata enabled?"
    )]
    Absent(HttpError),
    /// No answer in time. The one with the token may pass a limited number of hops.
    #[error(
        "the metadata service of EC2 does not answer ({0}): is this host an EC2 instance with its metadata enabled? \
         (an agent in a container needs a hop limit of 2)"
    )]
    Silent(HttpError),
    /// The connection broke, or the answer is too long for a fact.
    #[error("the metadata service of EC2: {0}")]
    Broken(HttpError),
    /// It knows version 1 only, refuses, or is out of order.
    #[error("the metadata service of EC2 answers {status} to the request for a token (IMDSv2){}", of_token(*status))]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The token is empty, or cannot be sent back.
    #[error("the metadata service of EC2 gives no usable token")]
    NoToken,
    /// Another answer than a fact.
    #[error("the metadata service of EC2 answers {status} for `{fact}`{}", of_fact(*status))]
    Status {
        /// The category.
        fact: String,
        /// HTTP status.
        status: u16,
    },
    /// The answer is no single line of text.
    #[error("the metadata service of EC2 has something else than one line of text for `{fact}`")]
    Garbage {
        /// The category.
        fact: String,
    },
    /// All requests together took too long.
    #[error("the metadata service of EC2 did not give all facts within {} s", LIMIT.as_secs())]
    Late,
}

impl From<HttpError> for ImdsError {
    fn from(error: HttpError) -> Self {
        match error {
            error @ HttpError::Connect { .. } => Self::Absent(error),
            error @ HttpError::Late { .. } => Self::Silent(error),
            error => Self::Broken(error),
        }
    }
}

fn of_token(status: u16) -> &'static str {
    match status {
        403 => ": the metadata of this instance is disabled",
        404 | 405 => ": it does not know IMDSv2",
        status => of_any(status),
    }
}

fn of_fact(status: u16) -> &'static str {
    match status {
        401 => ": it does not accept its own token",
        403 => ": the metadata of this instance is disabled",
        status => of_any(status),
    }
}

fn of_any(status: u16) -> &'static str {
    if status == 429 || status >= 500 { ": try again later" } else { "" }
}

/// The metadata service of one instance.
#[derive(Debug)]
pub struct Imds {
    endpoint: String,
    http: Http,
}

impl Imds {
    /// `endpoint`: scheme and address, without a path.
    pub fn at(endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), http: Http::new() }
    }

    /// Each of `facts`, in this order, if the instance has it: one without a public address has no `public-ipv4`.
    ///
    /// # Errors
    ///
    /// The service is silent, refuses, or answers something else than facts; known after 6 s at most.
    pub async fn facts(&self, facts: &[&str]) -> Result<Vec<Option<String>>, ImdsError> {
        let all = async {
            let token = self.token().await?;
            let mut found = Vec::new();
            for fact in facts {
                found.push(self.fact(fact, &token).await?);
            }
            Ok(found)
        };
        match timeout_at(Instant::now() + LIMIT, all).await {
            Ok(found) => found,
            Err(_) => Err(ImdsError::Late),
        }
    }

    async fn token(&self) -> Result<HeaderMap, ImdsError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-aws-ec2-metadata-token-ttl-seconds", HeaderValue::from_static(TOKEN_SECONDS));
        let answer = self.ask(Method::PUT, "/latest/api/token", &headers).await?;
        if answer.status != 200 {
            return Err(ImdsError::Refused { status: answer.status });
        }
        let token = std::str::from_utf8(&answer.body).ok().filter(|token| !token.is_empty());
        let value = token.and_then(sensitive).ok_or(ImdsError::NoToken)?;
        let mut headers = HeaderMap::new();
        headers.insert("x-aws-ec2-metadata-token", value);
        Ok(headers)
    }

    async fn fact(&self, fact: &str, token: &HeaderMap) -> Result<Option<String>, ImdsError> {
        let answer = self.ask(Method::GET, &format!("/latest/meta-data/{fact}"), token).await?;
        match answer.status {
            200 => {}
            404 => return Ok(None),
            status => return Err(ImdsError::Status { fact: fact.to_owned(), status }),
        }
        let text = String::from_utf8(answer.body).ok().filter(|text| !text.chars().any(char::is_control));
        let text = text.ok_or_else(|| ImdsError::Garbage { fact: fact.to_owned() })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Tries again after a broken connection, 429 and 5xx.
    async fn ask(&self, method: Method, path: &str, headers: &HeaderMap) -> Result<Answer, HttpError> {
        let url = format!("{}{path}", self.endpoint);
        let mut left = TRIES;
        loop {
            left -= 1;
            let request = HttpRequest {
                method: method.clone(),
                headers: headers.clone(),
                deadline: ANSWER,
                cap: LONGEST,
                ..HttpRequest::get(&url)
            };
            let answer = self.http.ask(request).await;
            let passes = match &answer {
                Ok(answer) => answer.status == 429 || answer.status >= 500,
                Err(HttpError::Broken { .. }) => true,
                Err(_) => false,
            };
            if left == 0 || !passes {
                return answer;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
