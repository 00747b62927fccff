//! Logins: the auth file, the registry's challenge, the token.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::host::files::Files;
use crate::host::http::sensitive;
use crate::model::image::Repository;
use crate::model::secret::Secret;
use crate::model::token::decode;

/// A user name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Without a `:`, which would end it in `Basic` (RFC 7617).
    pub username: String,
    /// A password or a token.
    pub password: Secret,
}

impl Credentials {
    /// `Basic …` (RFC 7617).
    pub(super) fn basic(&self) -> HeaderValue {
        let text = STANDARD.encode(format!("{}:{}", self.username, self.password.reveal()));
        sensitive(&format!("Basic {text}")).unwrap_or(HeaderValue::from_static("Basic"))
    }
}

/// containers-auth.json(5), and docker's config.json.
#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
}

/// The credentials of the most specific key that covers `repository`: `registry/a/b` before `registry/a`
/// before `registry`. `None` if the file or such a key is missing.
pub(super) fn credentials(file: &Path, repository: &Repository) -> Result<Option<Credentials>> {
    let doing = || format!("reading the logins in {}", file.display());
    // The rules of `Files`: at most 1 MiB, no symlink, no FIFO.
    match Files::new("/").read(file)? {
        Some(seen) => credentials_in(&seen.bytes, repository).with_context(doing),
        None => Ok(None),
    }
}

/// Like `credentials`, from the bytes of an auth file.
///
/// # Errors
///
/// The form is not that of containers-auth.json(5), or the entry has no login but a token or a helper.
pub fn credentials_in(bytes: &[u8], repository: &Repository) -> Result<Option<Credentials>> {
    // serde_json quotes a value of the wrong type, which may be a secret: report only the location.
    let parsed: AuthFile = serde_json::from_slice(bytes).map_err(|e| {
        anyhow!("line {}, column {}: not in the form of containers-auth.json(5)", e.line(), e.column())
    })?;
    find(&parsed, repository)
}

fn find(file: &AuthFile, repository: &Repository) -> Result<Option<Credentials>> {
    let registry = repository.registry();
    let whole = format!("{registry}/{}", repository.path());
    let mut key = whole.as_str();
    loop {
        let entry = file.auths.iter().find(|(name, _)| same(name, key)).map(|(_, entry)| entry);
        if let Some(entry) = entry
            && let Some(login) = login(entry).with_context(|| format!("the entry of {key}"))?
        {
            return Ok(Some(login));
        }
        match key.rsplit_once('/') {
            Some((shorter, _)) => key = shorter,
            None => break,
        }
    }
    let helper = file.helpers.iter().find(|(name, _)| same(name, registry)).map(|(_, helper)| helper);
    match helper.or(file.store.as_ref()) {
        Some(helper) => bail!(
            "it names the credential helper `{helper}` for {registry}; helpers are not run here: \
             log in with `podman login --authfile …`, which writes the login itself"
        ),
        None => Ok(None),
    }
}

/// Docker's own file has URLs as keys, and a special one for Docker Hub.
fn same(name: &str, key: &str) -> bool {
    let plain = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let plain = plain.trim_end_matches('/');
    let plain = plain.strip_suffix("/v1").or_else(|| plain.strip_suffix("/v2")).unwrap_or(plain);
    plain == key || (plain == "index.docker.io" && key == "docker.io")
}

fn login(entry: &Entry) -> Result<Option<Credentials>> {
    if entry.identity_token.as_deref().is_some_and(|token| !token.is_empty()) {
        bail!("it holds an identity token, which is not supported: log in with a name and a password");
    }
    let Some(auth) = entry.auth.as_deref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let plain = decode(auth).and_then(|bytes| String::from_utf8(bytes).ok());
    let plain = plain.context("its `auth` is not base64 of `name:password`")?;
    let (username, password) = plain
        .trim_end_matches('\0')
        .split_once(':')
        .context("its `auth` is not base64 of `name:password`")?;
    Ok(Some(Credentials { username: username.to_owned(), password: Secret::new(password) }))
}

/// An authentication challenge (RFC 9110, 11.6.1).
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A token from another URL (distribution specification, "Token Authentication").
    Bearer {
        /// URL that gives a token.
        realm: String,
        /// The registry's name for itself, passed on to the realm.
        service: Option<String>,
        /// The access that the request needs, e.g. `repository:a/b:pull`.
        scope: Option<String>,
    },
    /// User name and password (RFC 7617).
    Basic,
}

impl Challenge {
    /// The best of the `WWW-Authenticate` headers: a token before a login.
    pub fn best<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for challenge in
            headers.flat_map(|header| http_auth::ChallengeParser::new(header).map_while(Result::ok))
        {
            let value = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            match challenge.scheme.to_ascii_lowercase().as_str() {
                "bearer" => {
                    if let Some(realm) = value("realm") {
                        return Some(Self::Bearer {
                            realm,
                            service: value("service"),
                            scope: value("scope"),
                        });
                    }
                }
                "basic" => basic = Some(Self::Basic),
                _ => {}
            }
        }
        basic
    }
}

/// `Bearer …` from the token server's JSON (distribution specification: `token`, or `access_token` as in
/// OAuth 2).
pub fn bearer(body: &[u8]) -> Option<HeaderValue> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    let token =
        ["token", "access_token"].iter().find_map(|key| json.get(key)?.as_str().filter(|t| !t.is_empty()));
    sensitive(&format!("Bearer {}", token?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_registries() {
        let best = |headers: &[&str]| Challenge::best(headers.iter().copied());
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
            Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
        };
        assert_eq!(
            best(&[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#
            ]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/x:pull,push")
            )
        );
        assert_eq!(
            best(&["Basic realm=\"x\"", "bearer realm=\"https://a/t\" , service = \"b \\\" c\""]),
            bearer("https://a/t", Some("b \" c"), None)
        );
        assert_eq!(
            best(&["Basic realm=\"Registry, Realm\", Bearer realm=\"https://t\""]),
            bearer("https://t", None, None)
        );
        assert_eq!(best(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(best(&["Negotiate abc==", ""]), None);
        assert_eq!(best(&["Bearer"]), None);
    }

    fn file(json: &str) -> AuthFile {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_a_regular_file_holds_logins() {
        let dir = std::env::temp_dir().join(format!("astra-auth-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (path, repository) = (dir.join("auth.json"), "a.b/c".parse().unwrap());
        let read = || credentials(&path, &repository).map_err(|error| format!("{error:#}"));
        assert_eq!(read(), Ok(None));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read().unwrap_err().contains("not a regular file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(dir.join("other"), r#"{"auths": {"a.b": {"auth": "bTpw"}}}"#).unwrap();
        std::os::unix::fs::symlink(dir.join("other"), &path).unwrap();
        assert!(read().unwrap_err().contains("symlink"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(read().unwrap_err().contains("larger than 1 MiB"));
        std::fs::rename(dir.join("other"), &path).unwrap();
        assert_eq!(read().unwrap().unwrap().username, "m");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_most_specific_login_wins() {
        let json = format!(
            r#"{{"auths": {{"ghcr.io": {{"auth": "{}"}}, "ghcr.io/almalinux": {{"auth": "{}"}},
               "https://index.docker.io/v1/": {{"auth": "{}"}}, "quay.io": {{}}}}, "credHelpers": {{"ecr.example.com": "ecr-login"}}}}"#,
            STANDARD.encode(b"wide:1"),
            STANDARD.encode(b"narrow:p:2"),
            STANDARD.encode(b"hub:3")
        );
        let get = |text: &str| find(&file(&json), &text.parse().unwrap());
        let name = |text: &str| get(text).unwrap().map(|c| format!("{} {}", c.username, c.password.reveal()));
        assert_eq!(name("ghcr.io/almalinux/astra").as_deref(), Some("narrow p:2"));
        assert_eq!(name("ghcr.io/almalinuxx/astra").as_deref(), Some("wide 1"));
        assert_eq!(name("docker.io/library/x").as_deref(), Some("hub 3"));
        assert_eq!(name("quay.io/a"), None);
        assert_eq!(name("example.com/a"), None);
        assert!(get("ecr.example.com/a").unwrap_err().to_string().contains("ecr-login"));
        assert!(find(&file(r#"{"auths": {"a.b": {"auth": "!"}}}"#), &"a.b/c".parse().unwrap()).is_err());
    }
}
