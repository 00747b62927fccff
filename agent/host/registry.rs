//! Resolves a tag to a digest without pulling: one HEAD to the registry (OCI distribution specification,
//! "Pulling manifests"), with the login that it asks for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, Url};
use tokio::time::Instant;

pub mod auth;
mod ecr;
mod error;
mod reach;

use super::http::{Answer, Http, HttpRequest};
use crate::model::digest::Digest;
use crate::model::fingerprint::sha256;
use crate::model::image::{Repository, TrackedImage};
use auth::Challenge;
pub use auth::Credentials;
pub use ecr::Ecr;
use error::AttemptError;
pub use error::RegistryError;
use reach::Reach;

/// Limit for one request; a resolve may need several.
const ASK: Duration = Duration::from_secs(10);
/// Largest manifest that is read (the limit of the distribution specification).
const MANIFEST: usize = 4 << 20;
/// Longest chain of redirects.
const REDIRECTS: usize = 5;
/// First pause between two attempts; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Indexes first: a digest of an index serves every architecture.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A client for every registry.
#[derive(Debug)]
pub struct Registry {
    http: Http,
    auth_file: PathBuf,
    ecr: Ecr,
    /// Root of the engine's own config files: `/`.
    root: PathBuf,
}

impl Registry {
    /// `auth_file` has the form of containers-auth.json(5); it need not exist, and is read at each use.
    pub fn new(auth_file: PathBuf, root: PathBuf, ecr: Ecr) -> Self {
        Self { http: Http::new(), auth_file, ecr, root }
    }

    /// The current digest of the tag. After 429, 5xx or no answer it is requested again, at most `retries`
    /// times, with growing pauses (or the registry's `Retry-After`), all within `deadline`.
    ///
    /// # Errors
    ///
    /// The tag does not exist, the login fails, or all attempts do.
    pub async fn resolve(
        &self,
        image: &TrackedImage,
        deadline: Duration,
        retries: u32,
    ) -> Result<Digest, RegistryError> {
        let until = Instant::now() + deadline;
        let name = image.to_string();
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let attempt = tokio::time::timeout_at(until, self.attempt(image)).await;
            let late =
                || AttemptError::Again(format!("no answer within {} s in all", deadline.as_secs_f64()), None);
            let (why, wait) = match attempt.unwrap_or_else(|_| Err(late())) {
                Ok(digest) => return Ok(digest),
                Err(AttemptError::NotFound) => return Err(RegistryError::NotFound { image: name }),
                Err(AttemptError::Never(why)) => return Err(RegistryError::Refused { image: name, why }),
                Err(AttemptError::Login(why)) => {
                    let file = self.auth_file.display().to_string();
                    return Err(RegistryError::Login { image: name, why, file });
                }
                Err(AttemptError::Again(why, wait)) => (why, wait),
            };
            let wait = wait.unwrap_or_else(|| jittered(pause));
            // The time that a registry asks for may overflow the clock.
            if attempts > retries || Instant::now().checked_add(wait).is_none_or(|then| then >= until) {
                return Err(RegistryError::Unavailable { image: name, attempts, why });
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The credentials for a repository, also for the engine's pull: those in the auth file, else for a private
    /// registry of Amazon ECR those of the instance's role.
    ///
    /// # Errors
    ///
    /// The auth file cannot be read, its entry has no login but a token or a helper, or ECR gives none.
    pub async fn credentials_for(&self, repository: &Repository) -> Result<Option<Credentials>> {
        match auth::credentials(&self.auth_file, repository)? {
            Some(login) => Ok(Some(login)),
            None => self.ecr.login(repository).await,
        }
    }

    async fn attempt(&self, image: &TrackedImage) -> Result<Digest, AttemptError> {
        let reach = Reach::read(&self.root, &image.repository);
        let reach = reach.map_err(|error| AttemptError::Never(format!("{error:#}")))?;
        let http = reach.http.as_ref().unwrap_or(&self.http);
        let mut missed = AttemptError::Never("no address is known for it".to_owned());
        for base in &reach.bases {
            match self.attempt_at(http, base, image).await {
                Err(miss @ AttemptError::Again(..)) => missed = miss,
                ended => return ended,
            }
        }
        Err(missed)
    }

    async fn attempt_at(
        &self,
        http: &Http,
        base: &str,
        image: &TrackedImage,
    ) -> Result<Digest, AttemptError> {
        let repository = &image.repository;
        let url = format!("{base}/v2/{}/manifests/{}", repository.path(), image.tag);
        let home =
            Url::parse(&url).map_err(|error| AttemptError::Never(format!("{url} is not a URL: {error}")))?;
        let mut login = None;
        let (mut head, mut url) = manifest(http, Method::HEAD, home.clone(), None).await?;
        if head.status == 401 {
            // The registry's credentials are for the registry only, not for a server that it redirects to.
            let credentials =
                if url.origin() == home.origin() { self.credentials(repository).await? } else { None };
            login = Some(self.log_in(http, repository, &url, &head.headers, credentials).await?);
            (head, url) = manifest(http, Method::HEAD, url, login.clone()).await?;
        }
        classify_response(&head)?;
        if let Some(text) = head.headers.get("docker-content-digest") {
            let digest = text.to_str().unwrap_or_default().parse();
            return digest
                .map_err(|error: crate::model::digest::BadDigest| AttemptError::Never(error.to_string()));
        }
        // The registry sent no digest header: the digest is that of the manifest's bytes.
        let (whole, _) = manifest(http, Method::GET, url, login).await?;
        classify_response(&whole)?;
        digest_of(&whole.body).ok_or_else(|| AttemptError::Never("the answer is not a manifest".to_owned()))
    }

    async fn credentials(&self, repository: &Repository) -> Result<Option<Credentials>, AttemptError> {
        self.credentials_for(repository).await.map_err(|error| AttemptError::Login(format!("{error:#}")))
    }

    /// The `Authorization` for the challenge of `from`: a token (distribution specification, "Token
    /// Authentication"), or the login itself (RFC 7617).
    async fn log_in(
        &self,
        http: &Http,
        repository: &Repository,
        from: &Url,
        headers: &HeaderMap,
        credentials: Option<Credentials>,
    ) -> Result<HeaderValue, AttemptError> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        match Challenge::best(challenges) {
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", repository.path()));
                let what = [("service", service.as_deref()), ("scope", Some(scope.as_str()))];
                self.token(http, from, &realm, what, credentials).await
            }
            Some(Challenge::Basic) => match credentials {
                Some(credentials) => Ok(credentials.basic()),
                None => Err(AttemptError::Login("the registry wants a login, and there is none".to_owned())),
            },
            None => Err(AttemptError::Never(
                "the registry asks for a login of a kind that is not known here".to_owned(),
            )),
        }
    }

    async fn token(
        &self,
        http: &Http,
        from: &Url,
        realm: &str,
        what: [(&str, Option<&str>); 2],
        credentials: Option<Credentials>,
    ) -> Result<HeaderValue, AttemptError> {
        let mut url = reqwest::Url::parse(realm)
            .map_err(|_| AttemptError::Never(format!("the registry's token realm `{realm}` is not a URL")))?;
        let is_local = |url: &Url| url.host_str().is_some_and(is_loopback_host);
        let is_near = url.host_str() == from.host_str() || is_local(&url) && is_local(from);
        let is_plain = url.scheme() == "http" && from.scheme() == "http" && is_near;
        if url.scheme() != "https" && !is_plain {
            return Err(AttemptError::Never(format!("the registry's token realm `{realm}` is not https")));
        }
        for (name, value) in what.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            url.query_pairs_mut().append_pair(name, value);
        }
        let with_login = credentials.is_some();
        let mut headers = HeaderMap::new();
        if let Some(credentials) = credentials {
            headers.insert(AUTHORIZATION, credentials.basic());
        }
        let answer =
            http.ask(HttpRequest { headers, deadline: ASK, ..HttpRequest::get(url.as_str()) }).await?;
        match (answer.status, with_login) {
            (400 | 401 | 403, true) => {
                return Err(AttemptError::Login(format!("{realm} answered {}", answer.status)));
            }
            (400 | 401 | 403, false) => {
                return Err(AttemptError::Login("the registry wants a login, and there is none".to_owned()));
            }
            _ => classify_response(&answer)?,
        }
        auth::bearer(&answer.body)
            .ok_or_else(|| AttemptError::Never(format!("the answer of the token realm {realm} has no token")))
    }
}

/// Requests a manifest and follows redirects; returns the answer, and the server that gave it. `login` is for
/// the server at `url` only.
async fn manifest(
    http: &Http,
    method: Method,
    mut url: Url,
    login: Option<HeaderValue>,
) -> Result<(Answer, Url), AttemptError> {
    let home = url.origin();
    for _ in 0..=REDIRECTS {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MANIFESTS));
        if let Some(login) = login.clone().filter(|_| url.origin() == home) {
            headers.insert(AUTHORIZATION, login);
        }
        let method = method.clone();
        let ask =
            HttpRequest { method, headers, deadline: ASK, cap: MANIFEST, ..HttpRequest::get(url.as_str()) };
        let answer = http.ask(ask).await?;
        match redirect(&answer, &url)? {
            Some(next) => url = next,
            None => return Ok((answer, url)),
        }
    }
    Err(AttemptError::Never(format!("the registry answers with a redirect more than {REDIRECTS} times")))
}

/// The target of a redirect (RFC 9110, 15.4): never from TLS to plain HTTP, and over plain HTTP only to the
/// same host.
fn redirect(answer: &Answer, url: &Url) -> Result<Option<Url>, AttemptError> {
    if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = answer.headers.get(LOCATION).and_then(|text| text.to_str().ok());
    let next = location.and_then(|text| url.join(text).ok());
    let Some(next) = next else {
        return Err(AttemptError::Never(format!(
            "the registry answered {}, and not where to",
            answer.status
        )));
    };
    let is_near = next.host_str() == url.host_str();
    match next.scheme() {
        "https" => Ok(Some(next)),
        "http" if url.scheme() == "http" && is_near => Ok(Some(next)),
        _ => Err(AttemptError::Never(format!(
            "the registry redirects to {}://{}, which is not safe",
            next.scheme(),
            next.host_str().unwrap_or_default()
        ))),
    }
}

/// The digest of a manifest's bytes; `None` if they are not a manifest.
pub fn digest_of(manifest: &[u8]) -> Option<Digest> {
    match serde_json::from_slice(manifest) {
        Ok(serde_json::Value::Object(_)) => format!("sha256:{}", sha256(manifest)).parse().ok(),
        _ => None,
    }
}

/// Sorts out every answer that is not a 200 with a manifest.
fn classify_response(answer: &Answer) -> Result<(), AttemptError> {
    let kind = answer.headers.get(reqwest::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    match answer.status {
        200 if kind.is_some_and(|kind| kind.starts_with("text/html")) => Err(AttemptError::Never(
            "a web page answered instead of the registry (a captive portal, or a proxy?)".to_owned(),
        )),
        200 => Ok(()),
        401 => Err(AttemptError::Login("the registry answered 401 to the login".to_owned())),
        403 => Err(AttemptError::Login("the registry answered 403: this login may not read it".to_owned())),
        404 => Err(AttemptError::NotFound),
        429 => Err(AttemptError::Again(
            "the registry answered 429, too many requests".to_owned(),
            retry_after(answer),
        )),
        status @ 500.. => {
            Err(AttemptError::Again(format!("the registry answered {status}"), retry_after(answer)))
        }
        status => Err(AttemptError::Never(format!("the registry answered {status}"))),
    }
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3); its date form is ignored.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A random pause between half of `pause` and all of it, so that hosts that failed together do not retry
/// together.
fn jittered(pause: Duration) -> Duration {
    let [random] = super::facts::random::<1>().unwrap_or([128]);
    pause / 2 + pause / 2 * u32::from(random) / 255
}

/// Whether `host[:port]` is this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    is_loopback_host(host)
}

fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
