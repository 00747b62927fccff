//! Writes one entry to the systemd journal at the end of a run (systemd.io, "Journal native protocol"): a
//! datagram of fields, so that log readers and alerts need not know the agent's own journal. Called by
//! converge.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::model::text::clean;

/// journald's socket for entries.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Longer values are cut, so that an entry always fits a datagram.
const LONGEST: usize = 4000;

/// journald behind its socket.
#[derive(Clone, Debug)]
pub struct Journald {
    socket: PathBuf,
}

impl Journald {
    /// journald at this socket, usually [`SOCKET`]; makes no connection.
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Writes one entry. Does not block if journald does not read.
    ///
    /// # Errors
    /// The socket is not there, or is full.
    pub fn send(&self, fields: &[(&str, String)]) -> Result<()> {
        let socket = UnixDatagram::unbound().context("making a socket")?;
        socket.set_nonblocking(true).context("making a socket")?;
        socket
            .send_to(&datagram(fields), &self.socket)
            .map(drop)
            .with_context(|| format!("writing into the systemd journal ({})", self.socket.display()))
    }
}

/// One `NAME=value` a line. Values have no line breaks or other control characters, so the form with a length
/// is not needed.
fn datagram(fields: &[(&str, String)]) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(name, value)| format!("{name}={}\n", clean(value, LONGEST)).into_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_datagram_of_fields() {
        let path = std::env::temp_dir().join(format!("astra-journald-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let journald = UnixDatagram::bind(&path).unwrap();
        let fields = [("MESSAGE", "deploy\nPRIORITY=0".to_owned()), ("PRIORITY", "5".to_owned())];
        Journald::at(&path).send(&fields).unwrap();
        let mut bytes = [0; 1000];
        let length = journald.recv(&mut bytes).unwrap();
        // A line break in a value would start another field.
        assert_eq!(&bytes[..length], b"MESSAGE=deploy PRIORITY=0\nPRIORITY=5\n");
        std::fs::remove_file(&path).unwrap();
        assert!(Journald::at(&path).send(&fields).is_err(), "no socket is an error, and no panic");
    }
}
