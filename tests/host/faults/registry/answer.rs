//! One request, one connection: the real registry's answer, or one that the mode spoils.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use super::{ADDRESS, Mode, Registry};

const BEHIND: &str = "127.0.0.1:5000";
/// Longer than any row.
const NEVER: Duration = Duration::from_secs(600);

/// A request without its body: a pull has none.
struct Request {
    line: String,
    /// Without `Connection`.
    headers: String,
}

impl Request {
    fn read(client: &TcpStream) -> io::Result<Self> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut headers = String::new();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header == "\r\n" {
                break;
            }
            if !header.to_lowercase().starts_with("connection:") {
                headers.push_str(&header);
            }
        }
        Ok(Self { line, headers })
    }

    fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// Whether the mode affects it.
    fn concerns(&self, mode: Mode) -> bool {
        let (manifest, blob) = (self.path().contains("/manifests/"), self.path().contains("/blobs/"));
        match mode {
            Mode::Good | Mode::Down => false,
            Mode::Silent | Mode::Unauthorized | Mode::WebPage | Mode::Redirect => true,
            Mode::ErrorToPodman => manifest && self.line.starts_with("GET"),
            Mode::Error | Mode::Unavailable | Mode::TooMany | Mode::WrongManifest | Mode::SlowManifest => {
                manifest
            }
            Mode::HalfBlob | Mode::WrongBlob | Mode::StalledBlob | Mode::CutBlob => blob,
        }
    }

    /// The answer of the registry itself.
    fn forward(&self) -> io::Result<Answer> {
        let mut behind = TcpStream::connect(BEHIND)?;
        write!(behind, "{}{}Connection: close\r\n\r\n", self.line, self.headers)?;
        let mut bytes = Vec::new();
        behind.read_to_end(&mut bytes)?;
        let body = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        Ok(Answer { bytes, body })
    }
}

struct Answer {
    bytes: Vec<u8>,
    /// Where the body begins.
    body: usize,
}

pub fn answer(mut client: TcpStream, state: &Mutex<Registry>) -> io::Result<()> {
    let request = Request::read(&client)?;
    let mode = {
        let mut registry = state.lock().unwrap();
        let spoils = request.concerns(registry.mode) && registry.times > 0;
        if spoils {
            registry.times -= 1;
        }
        if spoils { registry.mode } else { Mode::Good }
    };
    let location = format!("Location: http://{ADDRESS}{}\r\n", request.path());
    let realm = "Www-Authenticate: Bearer realm=\"http://127.0.0.1:9/token\",service=\"dead\"\r\n";
    let (status, header, body) = match mode {
        Mode::Error | Mode::ErrorToPodman => ("500 Internal Server Error", "", ""),
        Mode::Unavailable => ("503 Service Unavailable", "", ""),
        Mode::TooMany => ("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        Mode::Unauthorized => ("401 Unauthorized", realm, "{}"),
        Mode::WebPage => ("200 OK", "Content-Type: text/html\r\n", "<html>log in to the wifi</html>"),
        Mode::Redirect => ("302 Found", location.as_str(), ""),
        Mode::Silent => {
            thread::sleep(NEVER);
            return Ok(());
        }
        _ => return spoil(&mut client, request.forward()?, mode),
    };
    let body = if request.line.starts_with("HEAD") { "" } else { body };
    let length = body.len();
    write!(client, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{header}\r\n{body}")
}

/// Sends the registry's answer, spoilt by the mode. One without a body is sent as it is.
fn spoil(client: &mut TcpStream, answer: Answer, mode: Mode) -> io::Result<()> {
    let Answer { mut bytes, body } = answer;
    let middle = body + (bytes.len() - body) / 2;
    match mode {
        _ if body == bytes.len() => {}
        Mode::WrongBlob | Mode::WrongManifest => bytes[middle] ^= 1,
        Mode::HalfBlob => {
            write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", middle - body)?;
            return client.write_all(&bytes[body..middle]);
        }
        Mode::StalledBlob => {
            client.write_all(&bytes[..body])?;
            client.flush()?;
            thread::sleep(NEVER);
        }
        Mode::CutBlob => {
            client.write_all(&bytes[..middle])?;
            // Long before the announced length.
            return client.shutdown(Shutdown::Both);
        }
        Mode::SlowManifest => {
            for part in bytes.chunks(100) {
                client.write_all(part)?;
                thread::sleep(Duration::from_millis(200));
            }
            return Ok(());
        }
        _ => {}
    }
    client.write_all(&bytes)
}
