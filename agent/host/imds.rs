//! Facts of an EC2 instance from its metadata service, version 2 alone (IMDSv2): a PUT gives a token, each GET shows
//! it. Version 1 answers without a token, also to a request that an app was tricked into, and is never used.
//! Source: EC2 User Guide, "Use the Instance Metadata Service to access instance metadata".

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::http::{Answer, Http, HttpError, HttpRequest, sensitive};
use crate::model::secret::Secret;

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
/// The longest credentials: a session token has some 1,500 bytes, and no stated limit.
const CREDENTIALS: usize = 16 << 10;
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
    /// The instance has no role.
    #[error("this instance has no role: attach one (an instance profile) that may read what [env] names")]
    NoRole,
    /// The role gives no credentials: a code such as `AssumeRoleUnauthorizedAccess`.
    #[error("the metadata service of EC2 has no credentials of the role {role}: {code}")]
    BadRole {
        /// Its name.
        role: String,
        /// The service's code.
        code: String,
    },
    /// All requests together took too long.
    #[error("the metadata service of EC2 did not give all facts within {} s", LIMIT.as_secs())]
    Late,
}

/// The role of the instance, and credentials that last for hours.
#[derive(Debug)]
pub struct Role {
    /// `eu-central-1`: where the instance is.
    pub region: String,
    /// Its name.
    pub name: String,
    /// The id of its access key; no secret.
    pub key_id: String,
    /// The access key.
    pub key: Secret,
    /// The token of its session.
    pub session: Secret,
}

/// `iam/security-credentials/ROLE`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    code: String,
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    secret_access_key: String,
    #[serde(default)]
    token: String,
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
        in_time(async {
            let token = self.token().await?;
            let mut found = Vec::new();
            for fact in facts {
                found.push(self.fact(fact, &token).await?);
            }
            Ok(found)
        })
        .await
    }

    /// The role of the instance. Its credentials are valid for six hours at most, and replaced in time.
    ///
    /// # Errors
    ///
    /// The instance has no role, or as with [`Self::facts`].
    pub async fn role(&self) -> Result<Role, ImdsError> {
        in_time(async {
            let token = self.token().await?;
            let place = "placement/region";
            let region = self.fact(place, &token).await?;
            let region = region.ok_or_else(|| ImdsError::Garbage { fact: place.to_owned() })?;
            let of_roles = "iam/security-credentials/";
            let name = self.fact(of_roles, &token).await?.ok_or(ImdsError::NoRole)?;
            let place = format!("{of_roles}{name}");
            let garbage = || ImdsError::Garbage { fact: of_roles.to_owned() };
            let bytes = self.category(&place, &token, CREDENTIALS).await?.ok_or(ImdsError::NoRole)?;
            // An error of serde_json may show the key.
            let got: Credentials = serde_json::from_slice(&bytes).map_err(|_| garbage())?;
            match got.code.as_str() {
                "Success" => {}
                code => {
                    let code = crate::model::text::clean(code, 100);
                    return Err(ImdsError::BadRole { role: name, code });
                }
            }
            if got.access_key_id.is_empty() || got.secret_access_key.is_empty() || got.token.is_empty() {
                return Err(garbage());
            }
            let (key, session) = (Secret::new(got.secret_access_key), Secret::new(got.token));
            Ok(Role { region, name, key_id: got.access_key_id, key, session })
        })
        .await
    }

    async fn token(&self) -> Result<HeaderMap, ImdsError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-aws-ec2-metadata-token-ttl-seconds", HeaderValue::from_static(TOKEN_SECONDS));
        let answer = self.ask(Method::PUT, "/latest/api/token", &headers, LONGEST).await?;
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
        let Some(bytes) = self.category(fact, token, LONGEST).await? else { return Ok(None) };
        let text = String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control));
        let text = text.ok_or_else(|| ImdsError::Garbage { fact: fact.to_owned() })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// The text of a category, of at most `cap` bytes; `None`: the instance has none.
    async fn category(
        &self,
        name: &str,
        token: &HeaderMap,
        cap: usize,
    ) -> Result<Option<Vec<u8>>, ImdsError> {
        let answer = self.ask(Method::GET, &format!("/latest/meta-data/{name}"), token, cap).await?;
        match answer.status {
            200 => Ok(Some(answer.body)),
            404 => Ok(None),
            status => Err(ImdsError::Status { fact: name.to_owned(), status }),
        }
    }

    /// Tries again after a broken connection, 429 and 5xx.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        cap: usize,
    ) -> Result<Answer, HttpError> {
        let url = format!("{}{path}", self.endpoint);
        let mut left = TRIES;
        loop {
            left -= 1;
            let request = HttpRequest {
                method: method.clone(),
                headers: headers.clone(),
                deadline: ANSWER,
                cap,
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

async fn in_time<T>(all: impl Future<Output = Result<T, ImdsError>>) -> Result<T, ImdsError> {
    timeout_at(Instant::now() + LIMIT, all).await.unwrap_or(Err(ImdsError::Late))
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
