//! A small test server: real sockets, one answer a connection. tests/scenarios.rs uses it, too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::{JoinHandle, JoinSet};

/// A received request.
pub struct Request {
    /// Request line and headers, with the empty line.
    pub head: String,
    /// The body of the request; empty without a `Content-Length`.
    pub body: String,
}

/// A server on a loopback port, which ends with the test.
pub struct Server {
    /// The address to connect to.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

/// A server on a unix socket, which ends with the test.
pub struct UnixServer {
    /// Path of the socket.
    pub path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Server {
    /// Ends it; its address is free again when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl UnixServer {
    /// Ends it; nothing listens on its path when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// Answers each connection with the text from `answer`; a text that ends in `\0HOLD` keeps it open.
pub async fn serve(answer: impl Fn(Request) -> String + Send + Sync + 'static) -> Server {
    serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer).await
}

/// Like [`serve`], at this address.
pub async fn serve_at(
    address: SocketAddr,
    answer: impl Fn(Request) -> String + Send + Sync + 'static,
) -> Server {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            open.spawn(async move { one(stream, &*answer).await });
            while open.try_join_next().is_some() {}
        }
    });
    Server { address, task }
}

/// Like [`serve`], on a unix socket.
pub async fn serve_unix(answer: impl Fn(Request) -> String + Send + Sync + 'static) -> UnixServer {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("astra-http-{}-{number}", std::process::id());
    serve_unix_at(std::env::temp_dir().join(name), answer)
}

/// Like [`serve_unix`], at this path.
pub fn serve_unix_at(
    path: PathBuf,
    answer: impl Fn(Request) -> String + Send + Sync + 'static,
) -> UnixServer {
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            open.spawn(async move { one(stream, &*answer).await });
            while open.try_join_next().is_some() {}
        }
    });
    UnixServer { path, task }
}

async fn one(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &(impl Fn(Request) -> String + Sync)) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let (head, body) = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.lines().next().unwrap().trim().parse::<usize>().unwrap());
            if body.len() >= length {
                break (format!("{head}\r\n\r\n"), body.to_owned());
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let text = answer(Request { head, body });
    let hold = text.ends_with("\0HOLD");
    let _ = stream.write_all(text.trim_end_matches("\0HOLD").as_bytes()).await;
    if hold {
        let _ = stream.read(&mut buffer).await;
    }
}

/// An answer with a JSON body and additional header lines (each ends in `\r\n`).
pub fn json(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}
