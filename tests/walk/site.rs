//! The decisions of an operator about the abstract host (agent.toml, the tag), and texts that stand in its files, each kept
//! once so that a state is small and quickly compared.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use astra_agent::config::{self, Config};
use astra_agent::model::envfile::{EnvFile, ManagedLines};
use astra_agent::model::fingerprint::{HostKey, sha256};
use astra_agent::model::image::PinnedImage;
use astra_agent::model::instance::ServiceName;
use astra_agent::model::name::FILES_DIR;

use crate::host::APPS;

/// An image, by number; its digest repeats that number.
pub type Digest = u8;

pub static KEY: LazyLock<HostKey> = LazyLock::new(|| HostKey::new([7; 32]));
pub static CADDY: LazyLock<PinnedImage> =
    LazyLock::new(|| format!("ghcr.io/caddy/caddy@sha256:{}", "ca".repeat(32)).parse().unwrap());
static IMAGES: LazyLock<Vec<PinnedImage>> = LazyLock::new(|| {
    let image = |n: u8| format!("ghcr.io/you/shop@sha256:{}", format!("{n:02x}").repeat(32)).parse().unwrap();
    (0..=32).map(image).collect()
});

pub fn image(digest: Digest) -> &'static PinnedImage {
    &IMAGES[usize::from(digest)]
}

pub fn digest_of(image: &PinnedImage) -> Digest {
    let hex = image.digest.to_string();
    let hex = hex.rsplit(':').next().unwrap();
    u8::from_str_radix(&hex[..2], 16).unwrap()
}

/// agent.toml, and what the registry says of the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    pub instances: u8,
    pub surge: bool,
    /// A value in `[env]`: another one is another release of the same image.
    pub env: u8,
    /// Instances of a second service; 0: there is none.
    pub workers: u8,
    /// An argument of its command, from 1: another one is another release, in which the app stays the same.
    pub role: u8,
    pub auto: bool,
    pub tag: Digest,
}

impl Site {
    pub fn new(instances: u8, surge: bool) -> Self {
        Self { instances, surge, env: 1, workers: 0, role: 1, auto: false, tag: 1 }
    }

    /// Read once for each text; the configs of a walk are few.
    pub fn config(self) -> &'static Config {
        static KNOWN: Mutex<Option<HashMap<Site, &'static Config>>> = Mutex::new(None);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Self { tag: 0, ..self };
        known.get_or_insert_default().entry(key).or_insert_with(|| Box::leak(Box::new(key.read())))
    }

    fn read(self) -> Config {
        let Self { instances, surge, env, workers, role, auto, .. } = self;
        let strategy = if surge { "surge" } else { "rolling" };
        let text = format!(
            "[app]\nimage = \"ghcr.io/you/shop:latest\"\ninstances = {instances}\n\
             [migrate]\ncommand = [\"./migrate\"]\n\
             [deploy]\nstrategy = \"{strategy}\"\nauto = {auto}\nkeep = 2\n\
             [env]\nWORKERS = \"{env}\"\n"
        );
        // The mode of all files of a walk.
        let worker = format!(
            "[services.worker]\ninstances = {workers}\ncommand = [\"work\", \"{role}\"]\n\
             [files.role]\ncontent = \"{role}\"\nmode = \"0644\"\n\
             mount = {{ services = [\"worker\"], path = \"/etc/role\" }}\n"
        );
        let text = if workers > 0 { text + &worker } else { text };
        config::parse(&[("agent.toml".into(), text)]).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A deploy keeps an instance in rotation at all times.
    pub fn promises_service(self) -> bool {
        self.instances > 1 || self.surge
    }

    /// The environment and what else makes a release beside its image.
    pub fn variant(self) -> u8 {
        self.env + if self.workers > 0 { ROLE * self.role } else { 0 }
    }

    /// The variant of a release with these lines: a rollback leaves out a service that never served.
    pub fn variant_of(self, lines: &ManagedLines) -> u8 {
        self.env + roles(lines)
    }

    /// Whether agent.toml asks for this instance.
    pub fn wants(self, number: u8) -> bool {
        number <= self.instances || (APPS + 1..=APPS + self.workers).contains(&number)
    }

    pub fn spare(self) -> Option<u8> {
        self.surge.then_some(self.instances + 1)
    }
}

/// The content of a file. Equal contents are the same one.
#[derive(Clone, Copy)]
pub struct Text(&'static Body);

pub struct Body {
    pub bytes: Vec<u8>,
    /// The release that an env file or a trial file names.
    pub names: Option<Named>,
    /// The releases since which the app and the worker are unchanged.
    since: [Option<u64>; 2],
    /// In a Caddyfile: a bit for each instance that it sends requests to.
    knows: u8,
    /// In an env file or a trial file: the files that the containers use.
    uses: Vec<String>,
    sum: OnceLock<String>,
}

/// A release as its lines name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Named {
    pub number: u64,
    pub digest: Digest,
    /// [`Site::variant`]; the value in `[env]` stands beside the managed lines, and is 0 where there is none.
    pub variant: u8,
}

/// Weight of [`Site::role`] in a variant.
const ROLE: u8 = 16;

impl Text {
    pub fn of(bytes: &[u8]) -> Self {
        static KNOWN: Mutex<Option<HashMap<Vec<u8>, &'static Body>>> = Mutex::new(None);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_default();
        if let Some(body) = known.get(bytes) {
            return Self(body);
        }
        let body = Box::leak(Box::new(Body {
            bytes: bytes.to_vec(),
            names: named(bytes),
            since: since(bytes),
            knows: known_by(bytes),
            uses: used_by(bytes),
            sum: OnceLock::new(),
        }));
        known.insert(bytes.to_vec(), body);
        Self(body)
    }

    pub fn bytes(self) -> &'static [u8] {
        &self.0.bytes
    }

    pub fn sha256(self) -> &'static str {
        self.0.sum.get_or_init(|| sha256(&self.0.bytes))
    }

    pub fn knows(self, instance: u8) -> bool {
        self.0.knows & (1 << instance) != 0
    }

    pub fn uses(self) -> &'static [String] {
        &self.0.uses
    }

    pub fn names(self) -> Option<Named> {
        self.0.names
    }

    /// The release of an instance by this file: the number of its service, and the part of the variant that it sees.
    pub fn names_for(self, instance: u8) -> Option<Named> {
        let (named, [app, worker]) = (self.0.names?, self.0.since);
        match instance > APPS {
            true => Some(Named { number: worker?, ..named }),
            false => Some(Named { number: app?, variant: named.variant % ROLE, ..named }),
        }
    }
}

fn known_by(bytes: &[u8]) -> u8 {
    let text = String::from_utf8_lossy(bytes);
    let named = |n: &u16| text.contains(&format!("127.0.1.{n}:{}", 8000 + n));
    (1..=u16::from(APPS)).filter(named).map(|n| 1 << n).sum()
}

fn used_by(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let paths = text.match_indices(FILES_DIR).filter_map(|(at, _)| text[at..].split(':').next());
    paths.map(str::to_owned).collect()
}

fn named(bytes: &[u8]) -> Option<Named> {
    let file = EnvFile::parse(bytes);
    let lines = file.managed().ok().flatten()?;
    let env = file.get("WORKERS").and_then(|value| value.reveal().parse().ok()).unwrap_or(0);
    Some(Named { number: lines.release, digest: digest_of(&lines.app.image), variant: env + roles(&lines) })
}

/// The part of a variant that the services other than the app make.
fn roles(lines: &ManagedLines) -> u8 {
    let role = lines.services.get(&worker()).map(|of| of.command.last().unwrap().parse::<u8>().unwrap());
    ROLE * role.unwrap_or(0)
}

fn since(bytes: &[u8]) -> [Option<u64>; 2] {
    let lines = EnvFile::parse(bytes).managed().ok().flatten();
    [ServiceName::app(), worker()].map(|service| lines.as_ref()?.since(service))
}

fn worker() -> ServiceName {
    "worker".parse().unwrap()
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self.0, state);
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {:?}", self.0.bytes.len(), self.0.names)
    }
}
