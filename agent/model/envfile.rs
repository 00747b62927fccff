//! The env file: its grammar, and edits that leave every other line byte for byte as it was.
//!
//! Containers get everything after the first `=` literally (podman and docker `--env-file`); systemd reads
//! the same file with shell-like quoting (systemd.exec(5), `EnvironmentFile=`). Only lines that both read
//! alike are written; the managed lines are quoted for systemd, which alone reads them.

use serde::{Deserialize, Serialize};

use super::image::PinnedImage;

/// What of astra.env says which release is committed, and how its container is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedLines {
    /// `APP_IMAGE`
    pub image: PinnedImage,
    /// `ASTRA_RELEASE`
    pub release: u64,
    /// `APP_ARGS`: arguments of `podman run` or `docker run`, without the image.
    pub args: Vec<String>,
    /// `APP_COMMAND`: the container's argv; empty means the image's own.
    pub command: Vec<String>,
}
