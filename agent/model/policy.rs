//! containers-policy.json(5): the conditions under which podman accepts an image. Parsed as strictly as
//! podman does (github.com/containers/image, signature/policy_config.go: unknown and repeated keys are
//! errors), and evaluated for one repository. Called by plan/preflight.rs and plan/doctor.rs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::image::{PinnedImage, Repository};

/// Transport of images that come from a registry.
const DOCKER: &str = "docker";

/// A whole policy.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// A requirement; an image must meet all of a list.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Requirement {
    #[serde(rename = "insecureAcceptAnything")]
    AcceptAnything {},
    #[serde(rename = "reject")]
    Reject {},
    #[serde(rename = "signedBy")]
    SignedBy {
        key_type: String,
        key_path: Option<String>,
        key_paths: Option<Vec<String>>,
        key_data: Option<String>,
        signed_identity: Option<Identity>,
    },
    /// podman knows this type and accepts no image by it.
    #[serde(rename = "signedBaseLayer")]
    SignedBaseLayer { base_layer_identity: Option<Identity> },
    #[serde(rename = "sigstoreSigned")]
    SigstoreSigned {
        key_path: Option<String>,
        key_paths: Option<Vec<String>>,
        key_data: Option<String>,
        key_datas: Option<Vec<String>>,
        fulcio: Option<Map<String, Value>>,
        pki: Option<Map<String, Value>>,
        rekor_public_key_path: Option<String>,
        rekor_public_key_paths: Option<Vec<String>>,
        rekor_public_key_data: Option<String>,
        rekor_public_key_datas: Option<Vec<String>>,
        signed_identity: Option<Identity>,
    },
}

/// The name that the signature must be for.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Identity {
    #[serde(rename = "matchExact")]
    Exact {},
    #[serde(rename = "matchRepoDigestOrExact")]
    RepoDigestOrExact {},
    #[serde(rename = "matchRepository")]
    Repository {},
    #[serde(rename = "exactReference")]
    ExactReference { docker_reference: String },
    #[serde(rename = "exactRepository")]
    ExactRepository { docker_repository: String },
    #[serde(rename = "remapIdentity")]
    Remap { prefix: String, signed_prefix: String },
}

/// Why a text is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not in the form of containers-policy.json(5): {0}")]
pub struct BadPolicy(String);

/// The effect of a policy on an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No check.
    Anything {
        /// The scope that accepts it.
        scope: Scope,
    },
    /// No image of this repository is ever accepted.
    Nothing {
        /// The scope that refuses it.
        scope: Scope,
        /// The requirement that no image meets, as a clause for a message.
        why: &'static str,
    },
    /// Only images signed by a key.
    Signed {
        /// The scope that requires the signature.
        scope: Scope,
        /// Paths of the public keys, those of all requirements together.
        keys: Vec<PathBuf>,
    },
}

/// The part of the policy that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A scope of `transports.docker`; empty: the transport's default.
    Docker(String),
    /// The policy's `default`, for all transports.
    Default,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(scope) => write!(f, "transports.docker.\"{scope}\""),
            Self::Default => f.write_str("`default`"),
        }
    }
}

impl Policy {
    /// Parses policy.json as strictly as podman does: unknown and duplicate keys are errors.
    ///
    /// # Errors
    ///
    /// The text breaks containers-policy.json(5); the error names the first difference.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadPolicy> {
        let bad = |error: serde_json::Error| BadPolicy(error.to_string());
        let Strict(value) = serde_json::from_slice(bytes).map_err(bad)?;
        let policy: Self = serde_json::from_value(value).map_err(bad)?;
        policy.check().map_err(|why| BadPolicy(why.to_owned()))?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), &'static str> {
        let lists = self.transports.values().flat_map(BTreeMap::values).chain([&self.default]);
        for list in lists {
            if list.is_empty() {
                return Err("a list of requirements is empty");
            }
            list.iter().try_for_each(Requirement::check)?;
        }
        Ok(())
    }

    /// Every key file named in the policy.
    pub fn keys(&self) -> Vec<PathBuf> {
        let lists = self.transports.values().flat_map(BTreeMap::values).chain([&self.default]);
        lists.flatten().flat_map(Requirement::keys).map(PathBuf::from).collect()
    }

    /// The verdict for `image`, which podman requests by digest: from the most specific scope that covers it
    /// (containers/image docker/policyconfiguration/naming.go). A scope with a tag never does.
    pub fn verdict(&self, image: &PinnedImage) -> Verdict {
        let docker = self.transports.get(DOCKER);
        let scopes = std::iter::once(image.to_string()).chain(namespaces(&image.repository));
        let found = docker
            .and_then(|docker| scopes.chain([String::new()]).find_map(|scope| docker.get_key_value(&scope)));
        let (scope, list) = match found {
            Some((scope, list)) => (Scope::Docker(scope.clone()), list),
            None => (Scope::Default, &self.default),
        };
        if let Some(why) = list.iter().find_map(Requirement::refuses) {
            return Verdict::Nothing { scope, why };
        }
        let signed = list.iter().filter(|r| !matches!(r, Requirement::AcceptAnything {}));
        let mut signed = signed.peekable();
        if signed.peek().is_none() {
            return Verdict::Anything { scope };
        }
        Verdict::Signed { scope, keys: signed.flat_map(Requirement::keys).map(PathBuf::from).collect() }
    }
}

/// The repository and its parents up to the registry, then the registry's domains.
fn namespaces(repository: &Repository) -> Vec<String> {
    let whole = repository.to_string();
    let mut names = vec![whole.clone()];
    let mut name = whole.as_str();
    while let Some((shorter, _)) = name.rsplit_once('/') {
        names.push(shorter.to_owned());
        name = shorter;
    }
    let mut host = name.split_once(':').map_or(name, |(host, _)| host);
    while let Some((_, domain)) = host.split_once('.') {
        names.push(format!("*.{domain}"));
        host = domain;
    }
    names
}

impl Requirement {
    fn check(&self) -> Result<(), &'static str> {
        let one = |sources: &[bool]| sources.iter().filter(|given| **given).count() == 1;
        match self {
            Self::AcceptAnything {} | Self::Reject {} | Self::SignedBaseLayer { .. } => Ok(()),
            Self::SignedBy { key_type, key_path, key_paths, key_data, .. } => {
                if key_type != "GPGKeys" {
                    return Err("the `keyType` of `signedBy` must be \"GPGKeys\"");
                }
                if !one(&[key_path.is_some(), key_paths.is_some(), key_data.is_some()]) {
                    return Err("`signedBy` takes exactly one of `keyPath`, `keyPaths` and `keyData`");
                }
                filled(&[key_paths])
            }
            Self::SigstoreSigned {
                key_path,
                key_paths,
                key_data,
                key_datas,
                fulcio,
                pki,
                rekor_public_key_path,
                rekor_public_key_paths,
                rekor_public_key_data,
                rekor_public_key_datas,
                ..
            } => {
                let keys = [key_path.is_some(), key_paths.is_some(), key_data.is_some(), key_datas.is_some()];
                if !one(&[&keys[..], &[fulcio.is_some(), pki.is_some()]].concat()) {
                    return Err("`sigstoreSigned` takes exactly one kind of key");
                }
                let rekor = [
                    rekor_public_key_path.is_some(),
                    rekor_public_key_paths.is_some(),
                    rekor_public_key_data.is_some(),
                    rekor_public_key_datas.is_some(),
                ];
                if rekor.contains(&true) && !one(&rekor) {
                    return Err("`sigstoreSigned` takes at most one kind of Rekor key");
                }
                filled(&[key_paths, key_datas, rekor_public_key_paths, rekor_public_key_datas])
            }
        }
    }

    /// Why no image can ever meet it.
    fn refuses(&self) -> Option<&'static str> {
        match self {
            Self::Reject {} => Some("it rejects every image"),
            Self::SignedBaseLayer { .. } => {
                Some("`signedBaseLayer` is not implemented in podman, which refuses all")
            }
            Self::SignedBy { signed_identity: Some(Identity::Exact {}), .. }
            | Self::SigstoreSigned { signed_identity: Some(Identity::Exact {}), .. } => {
                Some("`matchExact` compares tags, and images are pulled by digest: write `matchRepository`")
            }
            _ => None,
        }
    }

    /// Files with keys and with root certificates.
    fn keys(&self) -> Vec<&str> {
        let (one, many) = match self {
            Self::SignedBy { key_path, key_paths, .. } | Self::SigstoreSigned { key_path, key_paths, .. } => {
                (key_path, key_paths)
            }
            _ => return Vec::new(),
        };
        let mut keys: Vec<&str> = one.iter().chain(many.iter().flatten()).map(String::as_str).collect();
        if let Self::SigstoreSigned { fulcio, pki, rekor_public_key_path, rekor_public_key_paths, .. } = self
        {
            let rekor = rekor_public_key_path.iter().chain(rekor_public_key_paths.iter().flatten());
            keys.extend(rekor.map(String::as_str));
            let roots = fulcio.iter().chain(pki).flatten().filter(|(key, _)| key.ends_with("Path"));
            keys.extend(roots.filter_map(|(_, path)| path.as_str()));
        }
        keys
    }
}

fn filled(lists: &[&Option<Vec<String>>]) -> Result<(), &'static str> {
    match lists.iter().any(|list| list.as_ref().is_some_and(Vec::is_empty)) {
        true => Err("a list of keys is empty"),
        false => Ok(()),
    }
}

/// JSON without duplicate keys, of which readers take either one.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Number(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
                Ok(Value::String(value.to_owned()))
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut all = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    all.push(item);
                }
                Ok(Value::Array(all))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut all = Map::new();
                while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
                    if all.contains_key(&key) {
                        return Err(A::Error::custom(format!("duplicate key `{key}`")));
                    }
                    all.insert(key, value);
                }
                Ok(Value::Object(all))
            }
        }

        deserializer.deserialize_any(Any).map(Self)
    }
}

#[cfg(test)]
mod tests;
