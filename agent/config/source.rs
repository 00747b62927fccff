//! The sources of `[env]`, and where those in AWS are asked.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::secret::Secret;

/// The source of an environment variable's value.
#[derive(Clone, Debug, PartialEq)]
pub enum EnvSource {
    /// The value itself, as the config has it.
    Literal(Secret),
    /// Generated once with this many characters, then kept.
    Generate {
        /// Number of characters, 8 to 1024.
        length: usize,
    },
    /// The single line of a root-owned file.
    File(PathBuf),
    /// Facts of this EC2 instance, then other texts, joined by commas.
    Host {
        /// Categories of the instance metadata, e.g. `public-ipv4`; never empty.
        facts: Vec<String>,
        /// Texts that follow the facts.
        also: Vec<String>,
    },
    /// A secret of AWS Secrets Manager.
    Secret {
        /// Its name, or its ARN.
        id: String,
        /// The key of a JSON object in it; `None`: the whole text.
        key: Option<String>,
    },
    /// The name or the ARN of a parameter of the AWS SSM Parameter Store.
    Parameter(String),
}

impl EnvSource {
    /// Whether the agent makes the value.
    pub fn is_generated(&self) -> bool {
        matches!(self, Self::Generate { .. })
    }

    /// Whether a service outside the host has the value: it is asked only when a release is planned, and the
    /// committed value stays if it does not answer.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Host { .. } | Self::Secret { .. } | Self::Parameter(_))
    }
}

/// `[aws]`: where secrets and parameters are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aws {
    /// `None`: the region of this instance.
    pub region: Option<String>,
    /// Scheme and address of all services; `None`: those of the region.
    pub endpoint: Option<String>,
    /// How often the timer asks the sources outside the host; `None`: only a deploy asks.
    pub refresh: Option<Duration>,
}
