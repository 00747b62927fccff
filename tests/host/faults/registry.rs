//! A misbehaving registry: a proxy in front of the real one, inside the host's network. It is this test
//! program itself, started there as the ignored test `serve`; its modes come over standard input.

use std::env;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod answer;

const ADDRESS: &str = "127.0.0.1:5001";

/// A way in which a registry fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It does not fail.
    Good,
    /// No listener.
    Down,
    /// It accepts, and never answers.
    Silent,
    /// 500 on a manifest.
    Error,
    /// 500 on podman's own question for the manifest: the agent uses HEAD.
    ErrorToPodman,
    /// 503 on a manifest.
    Unavailable,
    /// 429 on a manifest, with Retry-After.
    TooMany,
    /// 401, with a token server that is dead.
    Unauthorized,
    /// A web page with status 200.
    WebPage,
    /// A redirect to itself.
    Redirect,
    /// A manifest with a flipped bit.
    WrongManifest,
    /// A manifest at 500 bytes a second.
    SlowManifest,
    /// Half of a blob, complete as HTTP: only the digest shows it.
    HalfBlob,
    /// A blob with a flipped bit.
    WrongBlob,
    /// The head of a blob, and nothing more.
    StalledBlob,
    /// A hangup in the middle of a blob.
    CutBlob,
}

/// The registry's behaviour during a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    mode: Mode,
    /// The requests that it affects; the registry is good after them.
    times: u32,
}

impl Registry {
    pub const GOOD: Self = Self::always(Mode::Good);

    pub const fn always(mode: Mode) -> Self {
        Self { mode, times: u32::MAX }
    }

    pub const fn times(mode: Mode, times: u32) -> Self {
        Self { mode, times }
    }
}

/// The proxy; stopped when dropped.
pub struct Proxy(Child);

impl Proxy {
    pub fn start(leader: &str) -> Self {
        let child = Command::new("nsenter")
            .args(["--net", "--target", leader, "--"])
            .arg(env::current_exe().unwrap())
            .args(["faults::registry::serve", "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("starting the registry proxy");
        Self(child)
    }

    pub fn set(&mut self, registry: Registry) {
        let line = serde_json::to_string(&registry).unwrap();
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        thread::sleep(Duration::from_millis(100));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "no test: the proxy that the fault campaign starts"]
fn serve() {
    let state = Arc::new(Mutex::new(Registry::GOOD));
    let told = Arc::clone(&state);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            *told.lock().unwrap() = serde_json::from_str(&line).unwrap();
        }
        std::process::exit(0);
    });
    let mut listener = None;
    loop {
        thread::sleep(Duration::from_millis(5));
        if state.lock().unwrap().mode == Mode::Down {
            listener = None;
            continue;
        }
        let open = listener.get_or_insert_with(|| {
            let open = TcpListener::bind(ADDRESS).unwrap();
            open.set_nonblocking(true).unwrap();
            open
        });
        if let Ok((client, _)) = open.accept() {
            let state = Arc::clone(&state);
            client.set_nonblocking(false).unwrap();
            // A client that hangs up is no error.
            thread::spawn(move || drop(answer::answer(client, &state)));
        }
    }
}
