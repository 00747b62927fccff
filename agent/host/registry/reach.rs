//! How to reach a registry, according to the engine's own files: plain HTTP or unchecked TLS if it is marked
//! insecure (containers-registries.conf(5)), and private authorities (containers-certs.d(5)). The agent can
//! resolve whatever podman can pull.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::is_loopback;
use crate::host::http::{Http, Tls};
use crate::model::image::Repository;

const CONF: &str = "etc/containers/registries.conf";
const CONF_DIR: &str = "etc/containers/registries.conf.d";
const CERT_DIRS: [&str; 2] = ["etc/containers/certs.d", "etc/docker/certs.d"];

/// The URLs of a registry, and the client for them.
#[derive(Debug)]
pub(super) struct Reach {
    /// `https://ghcr.io`; each is tried if the one before does not answer.
    pub bases: Vec<String>,
    /// `None`: the default client.
    pub http: Option<Http>,
}

impl Reach {
    /// # Errors
    /// One of these files cannot be read.
    pub fn read(root: &Path, repository: &Repository) -> Result<Self> {
        let registry = repository.registry();
        if matches!(registry, "docker.io" | "index.docker.io") {
            return Ok(Self { bases: vec!["https://registry-1.docker.io".to_owned()], http: None });
        }
        if is_loopback(registry) {
            return Ok(Self { bases: vec![format!("http://{registry}")], http: None });
        }
        let is_insecure = rules(root)?.is_insecure(&repository.to_string());
        let mut tls = certificates(root, registry)?;
        tls.unchecked = is_insecure;
        let mut bases = vec![format!("https://{registry}")];
        bases.extend(is_insecure.then(|| format!("http://{registry}")));
        Ok(Self { bases, http: (tls != Tls::default()).then(|| Http::with(tls)) })
    }
}

/// The settings of registries; for a prefix the last one counts.
#[derive(Debug, Default, PartialEq)]
struct Rules(Vec<(String, bool)>);

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<Table>,
    #[serde(default)]
    registries: Old,
}

#[derive(Deserialize)]
struct Table {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
}

/// Version 1 of the file format.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Old {
    insecure: List,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct List {
    registries: Vec<String>,
}

impl Rules {
    fn add(&mut self, text: &str) -> Result<(), toml::de::Error> {
        let document: Document = toml::from_str(text)?;
        for table in document.registry {
            let prefix = if table.prefix.is_empty() { table.location } else { table.prefix };
            self.0.push((prefix, table.insecure));
        }
        self.0.extend(document.registries.insecure.registries.into_iter().map(|name| (name, true)));
        Ok(())
    }

    /// The setting of the longest prefix that matches `host[:port]/path`.
    fn is_insecure(&self, repository: &str) -> bool {
        let fitting = self.0.iter().filter(|(prefix, _)| fits(prefix, repository));
        fitting.max_by_key(|(prefix, _)| prefix.len()).is_some_and(|(_, insecure)| *insecure)
    }
}

/// Whether whole path components match; `*.example.com` matches every host below it.
fn fits(prefix: &str, repository: &str) -> bool {
    if let Some(domain) = prefix.strip_prefix("*.") {
        let host = repository.split(['/', ':']).next().unwrap_or_default();
        return host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.'));
    }
    let rest = repository.strip_prefix(prefix);
    !prefix.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn rules(root: &Path) -> Result<Rules> {
    let mut paths = vec![root.join(CONF)];
    paths.extend(listed(&root.join(CONF_DIR), "conf"));
    let mut rules = Rules::default();
    for path in paths {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        rules.add(&text).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(rules)
}

/// `HOST[:PORT]/*.crt` are authorities, `NAME.cert` with `NAME.key` is this host's client certificate.
fn certificates(root: &Path, registry: &str) -> Result<Tls> {
    let mut tls = Tls::default();
    for dir in CERT_DIRS.map(|dir| root.join(dir).join(registry)) {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        for path in listed(&dir, "crt") {
            tls.authorities.push(read(&path)?);
        }
        for path in listed(&dir, "cert") {
            let mut pem = read(&path)?;
            pem.push(b'\n');
            pem.extend(read(&path.with_extension("key"))?);
            tls.own = Some(pem);
        }
    }
    Ok(tls)
}

fn listed(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_that_are_marked_insecure() {
        let mut rules = Rules::default();
        rules.add("unqualified-search-registries = ['docker.io']\n[[registry]]\nlocation = 'reg.lan:5000'\ninsecure = true\n").unwrap();
        rules.add("[[registry]]\nprefix = 'reg.lan:5000/safe'\nlocation = 'x.y/z'\n[[registry]]\nprefix = '*.dev.lan'\ninsecure = true\n").unwrap();
        rules.add("[registries.search]\nregistries = ['a.b']\n[registries.insecure]\nregistries = ['old.lan']\n").unwrap();
        for insecure in ["reg.lan:5000/a/b", "a.dev.lan/x", "a.dev.lan:5000/x", "old.lan/x"] {
            assert!(rules.is_insecure(insecure), "{insecure}");
        }
        for safe in
            ["reg.lan/a", "reg.lan:50001/a", "reg.lan:5000/safe/a", "dev.lan/x", "a.b/x", "xdev.lan/y"]
        {
            assert!(!rules.is_insecure(safe), "{safe}");
        }
        assert!(rules.add("[[registry]\n").is_err());
    }

    #[test]
    fn a_registry_is_reached_as_the_files_say() {
        let root = std::env::temp_dir().join(format!("astra-reach-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "etc/containers/registries.conf.d/lan.conf",
            "[[registry]]\nlocation = 'reg.lan'\ninsecure = true\n",
        );
        write("etc/containers/certs.d/ca.lan:5000/ca.crt", "PEM");
        let reach = |image: &str| {
            let tracked: crate::model::image::TrackedImage = image.parse().unwrap();
            Reach::read(&root, &tracked.repository).unwrap()
        };
        assert_eq!(reach("reg.lan/a:1").bases, ["https://reg.lan", "http://reg.lan"]);
        assert!(reach("ca.lan:5000/a:1").http.is_some());
        assert_eq!(reach("ca.lan:5000/a:1").bases, ["https://ca.lan:5000"]);
        assert!(reach("ghcr.io/a/b:1").http.is_none());
        assert_eq!(reach("docker.io/library/a:1").bases, ["https://registry-1.docker.io"]);
        assert_eq!(reach("127.0.0.1:5000/a:1").bases, ["http://127.0.0.1:5000"]);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
