//! Caddy, and an impostor on its admin socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use std::{fs, thread};

use super::super::row::Done;
use super::super::site::Site;

const SOCKET: &str = "/run/astra/caddy/admin.sock";
const REAL_SOCKET: &str = "/run/astra/caddy/real.sock";

impl Site {
    /// A Caddy that runs since before the last change of its Caddyfile holds a deleted file.
    pub fn restart_caddy(&self) -> Done {
        self.sh("systemctl restart astra-caddy")?;
        self.pause(2)
    }

    pub fn signal_caddy(&self, signal: &str) -> Done {
        self.sh(&format!("kill -{signal} $(podman inspect -f '{{{{.State.Pid}}}}' astra-caddy)"))
    }

    /// Answers every request to Caddy's admin socket with a status.
    pub fn caddy_answers(&self, status: &'static str) -> Done {
        let told = |error: io::Error| format!("{SOCKET}: {error}");
        fs::rename(self.at(SOCKET), self.at(REAL_SOCKET)).map_err(told)?;
        let listener = UnixListener::bind(self.at(SOCKET)).map_err(told)?;
        listener.set_nonblocking(true).map_err(told)?;
        self.helper(move || {
            if let Ok((client, _)) = listener.accept() {
                thread::spawn(move || drop(answer(client, status)));
            }
            thread::sleep(Duration::from_millis(5));
        });
        Ok(())
    }

    /// The impostor has ended.
    pub fn caddy_answers_itself(&self) -> Done {
        self.sh(&format!("mv {REAL_SOCKET} {SOCKET}"))
    }
}

/// One answer, after the whole request: a client whose request is not read sees an error instead.
fn answer(client: UnixStream, status: &str) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let mut reader = BufReader::new(client);
    let mut body = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
            body = length.trim().parse().unwrap_or(0);
        }
    }
    reader.read_exact(&mut vec![0; body])?;
    write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
}
