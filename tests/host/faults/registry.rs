//! A misbehaving registry: a proxy in front of the real one, inside the host's network. It is this test
//! program itself, started there as the ignored test `serve`; its modes come over standard input.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const ADDRESS: &str = "127.0.0.1:5001";
const BEHIND: &str = "127.0.0.1:5000";

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

    /// Switches the mode; `pass` is a good registry.
    pub fn mode(&mut self, mode: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{mode}").unwrap();
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

#[derive(Default)]
struct State {
    mode: String,
    /// Requests that the mode has spoilt so far.
    spoilt: u32,
}

#[test]
#[ignore = "no test: the proxy that faults.rs starts"]
fn serve() {
    let state = Arc::new(Mutex::new(State { mode: "pass".into(), spoilt: 0 }));
    let told = Arc::clone(&state);
    thread::spawn(move || {
        for mode in io::stdin().lines().map_while(Result::ok) {
            *told.lock().unwrap() = State { mode, spoilt: 0 };
        }
        std::process::exit(0);
    });
    let mut listener = None;
    loop {
        thread::sleep(Duration::from_millis(5));
        if state.lock().unwrap().mode == "down" {
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
            thread::spawn(move || drop(answer(client, &state)));
        }
    }
}

/// One request, one connection.
fn answer(mut client: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut headers = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if !line.to_lowercase().starts_with("connection:") {
            headers.push_str(&line);
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (manifest, blob) = (path.contains("/manifests/"), path.contains("/blobs/"));
    // `500 2`: two requests, then a good registry; without a number forever.
    let (mode, most) = {
        let mode = state.lock().unwrap().mode.clone();
        let (name, most) = mode.split_once(' ').unwrap_or((&mode, "1000000"));
        (name.to_owned(), most.parse::<u32>().unwrap())
    };
    let mine = match mode.as_str() {
        "500" | "503" | "429" | "wrong" | "slow" => manifest,
        // podman's own request: the agent uses HEAD.
        "get-500" => manifest && request.starts_with("GET"),
        "truncated" | "flipped" | "stalled" | "reset" => blob,
        "pass" | "down" => false,
        _ => true,
    };
    let spoil = mine && {
        let mut state = state.lock().unwrap();
        state.spoilt += 1;
        state.spoilt <= most
    };
    if !spoil {
        return pass(&mut client, &request, &headers, &mode, false);
    }
    let status = |client: &mut TcpStream, line: &str, more: &str, body: &str| {
        let body = if request.starts_with("HEAD") { "" } else { body };
        write!(
            client,
            "HTTP/1.1 {line}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    match mode.as_str() {
        "500" | "get-500" => status(&mut client, "500 Internal Server Error", "", ""),
        "503" => status(&mut client, "503 Service Unavailable", "", ""),
        "429" => status(&mut client, "429 Too Many Requests", "Retry-After: 1\r\n", ""),
        "401" => {
            let realm = "Www-Authenticate: Bearer realm=\"http://127.0.0.1:9/token\",service=\"dead\"\r\n";
            status(&mut client, "401 Unauthorized", realm, "{}")
        }
        "html" => {
            status(&mut client, "200 OK", "Content-Type: text/html\r\n", "<html>log in to the wifi</html>")
        }
        "redirect" => status(&mut client, "302 Found", &format!("Location: http://{ADDRESS}{path}\r\n"), ""),
        "silent" => {
            thread::sleep(Duration::from_secs(600));
            Ok(())
        }
        _ => pass(&mut client, &request, &headers, &mode, true),
    }
}

/// The real registry's answer, spoilt by `mode` if told so.
fn pass(client: &mut TcpStream, request: &str, headers: &str, mode: &str, spoil: bool) -> io::Result<()> {
    let mut behind = TcpStream::connect(BEHIND)?;
    write!(behind, "{request}{headers}Connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    behind.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let middle = body + (answer.len() - body) / 2;
    if spoil && answer.len() > body {
        match mode {
            "flipped" | "wrong" => answer[middle] ^= 1,
            // Complete as HTTP: only the digest shows it.
            "truncated" => {
                write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", middle - body)?;
                return client.write_all(&answer[body..middle]);
            }
            "stalled" => {
                client.write_all(&answer[..body])?;
                client.flush()?;
                thread::sleep(Duration::from_secs(600));
            }
            "reset" => {
                client.write_all(&answer[..middle])?;
                // Long before the announced length.
                return client.shutdown(Shutdown::Both);
            }
            "slow" => {
                for part in answer.chunks(100) {
                    client.write_all(part)?;
                    thread::sleep(Duration::from_millis(200));
                }
                return Ok(());
            }
            _ => {}
        }
    }
    client.write_all(&answer)
}
