//! Names and numbers of objects on the host, each a type that holds only valid ones. All paths and unit names
//! are derived here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::instance::{InstanceName, ServiceName};

/// The main config file, which the operator writes.
pub const CONFIG_FILE: &str = "/etc/astra/agent.toml";
/// Config fragments, `*.toml`, read after [`CONFIG_FILE`] in the order of their names.
pub const CONFIG_DIR: &str = "/etc/astra/agent.d";
/// The fragment with the numbers of instances that `scale` and `pause` set. Its name is the last in order.
pub const SCALE_FILE: &str = "/etc/astra/agent.d/zz-scale.toml";
/// Parent of the config, the env files and the Caddyfile.
pub const ETC: &str = "/etc/astra";
/// Parent of the lock, trial files and markers; empty after a boot.
pub const RUN: &str = "/run/astra";
/// Drain markers, one file named by its number for each drained instance.
pub const DRAIN_DIR: &str = "/run/astra/drain";
/// Exists while the agent has drained an instance: only then Caddy checks for markers at each request.
pub const WORKING: &str = "/run/astra/drain/any";
/// Held by the one run that changes the host (flock(2)).
pub const LOCK: &str = "/run/astra/run.lock";
/// The environment of the release on trial: the future astra.env.
pub const TRIAL_ENV: &str = "/run/astra/trial.env";
/// Parent of all that the agent keeps across boots.
pub const STATE: &str = "/var/lib/astra-agent";
/// Marker: an `install` has succeeded on this host. Empty, and never removed; user data and units ask for it.
pub const INSTALLED: &str = "/var/lib/astra-agent/installed";
/// Texts of the last valid config, for a rollback.
pub const LAST_CONFIG: &str = "/var/lib/astra-agent/config.last.json";
/// The journal: one file `NNNNNN.jsonl` for each run.
pub const JOURNAL_DIR: &str = "/var/lib/astra-agent/journal";
/// Marker set from before a pull until its flush. Its counterpart in /run does not survive a power cut.
pub const UNFLUSHED: &str = "/var/lib/astra-agent/unflushed";
/// The marker of the current boot: [`UNFLUSHED`] without it means that there was a power cut.
pub const UNFLUSHED_NOW: &str = "/run/astra/unflushed";
/// Its time: when the rollback target's image was last seen in the image store.
pub const WAY_BACK_SEEN: &str = "/run/astra/way-back";
/// The key of all fingerprints: 32 random bytes, 0600.
pub const HOST_KEY: &str = "/var/lib/astra-agent/host.key";
/// The rollback target's image as one line: an output, for scripts and operators.
pub const LAST_APP_IMAGE: &str = "/etc/astra/last_app_image";
/// The files of the committed release: environments of services, and `[files]`. The name of a file has a code of its
/// content, so that none ever changes.
pub const FILES_DIR: &str = "/etc/astra/files";
/// Registry credentials (containers-auth.json(5)).
pub const AUTH_FILE: &str = "/etc/astra/auth.json";
/// When the sources outside the host were asked last, in seconds since the epoch; gone after a boot.
pub const ASKED: &str = "/run/astra/asked";
/// The policy that podman's service reads before it accepts an image; its API has no option for another one.
pub const POLICY: &str = "/etc/containers/policy.json";
/// podman prefers a policy in its user's home to the host's (containers-policy.json(5)).
pub const ROOTS_OWN_POLICY: &str = "/root/.config/containers/policy.json";
/// Caddy's config, written by the agent.
pub const CADDYFILE: &str = "/etc/astra/Caddyfile";
/// `CADDY_IMAGE` and other variables of Caddy's unit.
pub const CADDY_ENV: &str = "/etc/astra/caddy.env";
/// Overrides caddy.env while another image for Caddy is tried; removed by a power cut.
pub const CADDY_TRIAL_ENV: &str = "/run/astra/trial-caddy.env";
/// The only directory that Caddy shares with the agent.
pub const CADDY_SOCKET_DIR: &str = "/run/astra/caddy";
/// Caddy's admin endpoint; it has no TCP port.
pub const CADDY_SOCKET: &str = "/run/astra/caddy/admin.sock";
/// Port of Caddy's own health routes, each on a loopback address 127.0.1.i.
pub const HEALTH_PORT: u16 = 9080;
/// Directory of the agent's units and drop-ins (systemd.unit(5)).
pub const UNIT_DIR: &str = "/etc/systemd/system";
/// The drop-in of every unit whose name begins with `astra-agent-` (systemd.unit(5)), transient ones included.
pub const SANDBOX_FILE: &str = "/etc/systemd/system/astra-agent-.service.d/10-sandbox.conf";
/// The same until the next boot, where [`UNIT_DIR`] cannot be written.
pub const SANDBOX_FILE_NOW: &str = "/run/systemd/system/astra-agent-.service.d/10-sandbox.conf";
/// The unit of the proxy.
pub const CADDY_UNIT: &str = "astra-caddy.service";
/// The unit of the application's migration, started by a deploy alone.
pub const MIGRATE_UNIT: &str = "astra-migrate.service";
/// The unit that sets the addresses of services that others call by name.
pub const NAMES_UNIT: &str = "astra-names.service";
/// Prefix of all cron units.
pub const CRON_PREFIX: &str = "astra-cron-";
/// Runs `recover` at boot, and after a run was killed.
pub const RECOVER_UNIT: &str = "astra-agent-recover.service";
/// Starts [`RECONCILE_UNIT`] every five minutes.
pub const RECONCILE_TIMER: &str = "astra-agent-reconcile.timer";
/// Runs `reconcile`.
pub const RECONCILE_UNIT: &str = "astra-agent-reconcile.service";

/// Why a text is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a valid {what}: {reason}")]
pub struct BadName {
    /// The text, at most its first 100 characters.
    pub text: String,
    /// The kind of name, e.g. `app name`.
    pub what: &'static str,
    /// The rule, as a clause for a message.
    pub reason: &'static str,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr, $reason:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name without quotes or a suffix.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { text: text.chars().take(100).collect(), what: $what, reason: $reason })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(super) fn is_label(text: &str, longest: usize) -> bool {
    let mut bytes = text.bytes();
    text.len() <= longest
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
}

/// Whether an app name clashes with the agent's own files or units: caddy.env, astra-agent-…, astra-cron-….
fn is_taken(name: &str) -> bool {
    ["caddy", "astra-agent", "astra-cron"].contains(&name) || name.starts_with("astra-agent-")
}

text_type!(
    /// Name of the app: part of unit, container and file names.
    AppName, "app name", |t| is_label(t, 32) && !is_taken(t),
    "lower-case letters, digits and `-`, beginning with a letter, at most 32; `caddy`, `astra-cron`, \
     `astra-agent` and names that begin with `astra-agent-` would share files or units with the host's own"
);
text_type!(
    /// Name of a cron job: `astra-cron-NAME.timer`.
    CronName, "cron job name", |t| is_label(t, 64),
    "lower-case letters, digits and `-`, beginning with a letter, at most 64"
);
text_type!(
    /// Name of a file for containers: `[files.NAME]`.
    FileName, "file name", |t| is_label(t, 32),
    "lower-case letters, digits and `-`, beginning with a letter, at most 32"
);
text_type!(
    /// Name of an environment variable (POSIX.1-2017, 8.1): valid for all readers of an env file.
    EnvKey, "environment variable name",
    |t| t.len() <= 256
        && t.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
    "letters, digits and `_`, not beginning with a digit"
);

impl AppName {
    /// `astra-app@.service`
    pub fn template(&self, service: ServiceName) -> String {
        format!("{self}-{service}@.service")
    }

    /// `astra-app@1.service`
    pub fn unit(&self, instance: InstanceName) -> String {
        format!("{self}-{}@{}.service", instance.service, instance.number)
    }

    /// `astra-app-1`
    pub fn container(&self, instance: InstanceName) -> String {
        format!("{self}-{}-{}", instance.service, instance.number)
    }

    /// The unit of a service's migration: `astra-migrate.service`, `astra-front-migrate.service`.
    pub fn migration_unit(&self, service: ServiceName) -> String {
        match service.is_app() {
            true => MIGRATE_UNIT.to_owned(),
            false => format!("{self}-{service}-migrate.service"),
        }
    }

    /// The service whose migration this unit is, if it is one of this site.
    pub fn migration(&self, unit: &str) -> Option<ServiceName> {
        if unit == MIGRATE_UNIT {
            return Some(ServiceName::app());
        }
        let rest = unit.strip_prefix(self.as_str())?.strip_prefix('-')?;
        rest.strip_suffix("-migrate.service")?.parse().ok().filter(|service: &ServiceName| !service.is_app())
    }

    /// The service with this template, if it is one of this site: `astra-app@.service`.
    pub fn service(&self, template: &str) -> Option<ServiceName> {
        let rest = template.strip_prefix(self.as_str())?.strip_prefix('-')?;
        rest.strip_suffix("@.service")?.parse().ok()
    }

    /// The instance whose unit this is, if it is one of this site.
    pub fn instance(&self, unit: &str) -> Option<InstanceName> {
        let rest = unit.strip_prefix(self.as_str())?.strip_prefix('-')?;
        let (service, number) = rest.strip_suffix(".service")?.split_once('@')?;
        Some(InstanceName { service: service.parse().ok()?, number: number.parse().ok()? })
    }

    /// `/etc/astra/astra.env`
    pub fn env_file(&self) -> PathBuf {
        PathBuf::from(format!("{ETC}/{self}.env"))
    }

    /// `astra-site`: the network on which accessories and workers have names.
    pub fn network(&self) -> String {
        format!("{self}-site")
    }

    /// `/etc/astra/astra-redis.env`: image, arguments and secrets of an accessory.
    pub fn accessory_env(&self, accessory: ServiceName) -> PathBuf {
        PathBuf::from(format!("{ETC}/{self}-{accessory}.env"))
    }

    /// The accessory whose env file has this name: `astra-redis.env`.
    pub fn accessory(&self, file: &str) -> Option<ServiceName> {
        file.strip_prefix(self.as_str())?.strip_prefix('-')?.strip_suffix(".env")?.parse().ok()
    }

    /// `/etc/astra/astra.staged.env`: changes by `env set` and `env unset`, until a deploy commits them.
    pub fn staged_env(&self) -> PathBuf {
        PathBuf::from(format!("{ETC}/{self}.staged.env"))
    }
}

impl CronName {
    /// `astra-cron-NAME.timer`
    pub fn timer(&self) -> String {
        format!("{CRON_PREFIX}{self}.timer")
    }

    /// `astra-cron-NAME.service`
    pub fn service(&self) -> String {
        format!("{CRON_PREFIX}{self}.service")
    }
}

/// Path of a unit file that the agent owns.
pub fn unit_file(unit: &str) -> PathBuf {
    PathBuf::from(format!("{UNIT_DIR}/{unit}"))
}
