use super::*;
use crate::host::engine::tests::{HEX, engine, image};
use crate::host::http::testing::json;
use crate::model::secret::Secret;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn pull(client: &EngineClient, stall: u64, total: u64) -> (Result<()>, Vec<String>) {
    let mut said = Vec::new();
    let login = Credentials { username: "me".to_owned(), password: Secret::new("p?>~w") };
    let (stall, total) = (Duration::from_millis(stall), Duration::from_millis(total));
    let done = client.pull(&image(), Some(&login), stall, total, |text| said.push(text)).await;
    (done, said)
}

#[tokio::test]
async fn a_pull_reports_progress() {
    let heads = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&heads);
    let (_server, client) = engine(move |head| {
        *seen.lock().unwrap() = head.to_owned();
        json(
            200,
            "",
            "{\"status\":\"Pulling fs layer\",\"id\":\"abc\"}\n{\"status\":\"Downloading\",\"id\":\"abc\",\
             \"progressDetail\":{\"current\":5000000,\"total\":10000000}}\r\n\n{\"status\":\"Done\",\"progressDetail\":{}}",
        )
    })
    .await;
    let (done, said) = pull(&client, 2000, 2000).await;
    done.unwrap();
    assert_eq!(said, ["abc Pulling fs layer", "abc Downloading 5 of 10 MB", "Done"]);
    let head = heads.lock().unwrap().clone();
    assert!(
        head.starts_with(&format!(
            "POST /images/create?fromImage=ghcr.io%2Falmalinux%2Fastra&tag=sha256%3A{HEX}&platform= "
        )),
        "{head}"
    );
    // {"username":"me","password":"p?>~w",…,"serveraddress":"ghcr.io",…} in the alphabet for URLs.
    let value = "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJwPz5-dyIsImF1dGgiOm51bGwsImVtYWlsIjpudWxsLCJzZXJ2ZXJhZGRyZXNzIjoiZ2hjci5pbyIsImlkZW50aXR5dG9rZW4iOm51bGwsInJlZ2lzdHJ5dG9rZW4iOm51bGx9";
    assert!(value.contains(['-', '_']) && head.contains(&format!("x-registry-auth: {value}\r\n")), "{head}");
}

/// A stream that stalls, with a layer in each of the states.
fn held(layers: &[&str]) -> String {
    let layers = layers.iter().enumerate();
    let lines: String =
        layers.map(|(id, status)| format!("{{\"status\":\"{status}\",\"id\":\"l{id}\"}}\n")).collect();
    format!("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{{\"status\":\"Trying to pull\"}}\n{lines}\0HOLD")
}

#[tokio::test]
async fn only_engine_errors_may_be_retried() {
    for (answer, again) in [
        (
            json(
                200,
                "",
                "{\"errorDetail\":{\"message\":\"reading blob: unexpected EOF\"},\"error\":\"reading blob: unexpected EOF\"}",
            ),
            true,
        ),
        (
            json(
                200,
                "",
                "{\"errorDetail\":{\"message\":\"reading manifest: received unexpected HTTP status: 500\"},\"error\":\"reading manifest: received unexpected HTTP status: 500\"}",
            ),
            true,
        ),
        (json(500, "", "{\"message\":\"pinging registry: 503 (Service Unavailable)\"}"), true),
        (json(500, "", "{\"message\":\"reading manifest: unauthorized: authentication required\"}"), false),
        (json(500, "", "{\"message\":\"requested access to the resource is denied\"}"), false),
        (json(500, "", "{\"message\":\"invalid status code from registry 403 (Forbidden)\"}"), false),
        (json(404, "", "{\"message\":\"manifest unknown\"}"), false),
        (json(500, "", "{\"message\":\"Source image rejected: A signature was required\"}"), false),
        (
            json(
                200,
                "",
                "{\"errorDetail\":{\"message\":\"writing blob: No space left on device\"},\"error\":\"writing blob: No space left on device\"}",
            ),
            false,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"status\":\"x\"}\n\0HOLD".to_owned(), false),
        ("\0HOLD".to_owned(), false),
    ] {
        let said = answer.clone();
        let (_server, client) = engine(move |_| answer.clone()).await;
        let error = pull(&client, 300, 2000).await.0.unwrap_err();
        assert_eq!(may_pass(&error), again, "{said}: {error:#}");
    }
}

#[tokio::test]
async fn a_pull_fails_in_many_ways() {
    for (answer, stall, total, part) in [
        // In the stream, with status 200.
        (
            json(
                200,
                "",
                "{\"errorDetail\":{\"message\":\"manifest unknown\"},\"error\":\"manifest unknown\"}\n",
            ),
            2000,
            2000,
            "manifest unknown",
        ),
        (json(200, "", "{\"errorDetail\":{\"message\":\"denied\"}}"), 2000, 2000, "denied"),
        (json(500, "", "{\"message\":\"toomanyrequests\"}"), 2000, 2000, "500: toomanyrequests"),
        // A registry's message: control characters must not reach a terminal.
        (
            json(
                200,
                "",
                "{\"errorDetail\":{\"message\":\"a\\u001b[2J\\nconverged\"},\"error\":\"a\\u001b[2J\\nconverged\"}\n",
            ),
            2000,
            2000,
            "a [2J converged",
        ),
        (json(500, "", "{\"message\":\"a\\u001b[2J\\nconverged\"}"), 2000, 2000, "500: a [2J converged"),
        // One layer is waiting, although another was fetched.
        (held(&["Download complete", "Downloading"]), 300, 2000, "nothing moved"),
        // All layers were fetched: a large one is unpacked silently.
        (held(&["Already exists", "Download complete"]), 300, 900, "not done after"),
        // A layer that was already there is no reason to wait longer.
        (held(&["Already exists"]), 300, 900, "nothing moved"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"status\":\"Downloading\",\"id\":\"a\"}\n\0HOLD"
                .to_owned(),
            300,
            2000,
            "(last: a Downloading)",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"status\":\"x\"}\n\0HOLD".to_owned(),
            2000,
            300,
            "not done after",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"status\":\"x\"}\n".to_owned(),
            2000,
            2000,
            "hung up",
        ),
        ("\0HOLD".to_owned(), 300, 2000, "no answer"),
    ] {
        let (_server, client) = engine(move |_| answer.clone()).await;
        let error = format!("{:#}", pull(&client, stall, total).await.0.unwrap_err());
        assert!(error.starts_with("pulling ghcr.io/") && error.contains(part), "{error}");
        assert!(!error.contains("p?>~w"));
    }
}

/// Answers one request in parts with pauses. With `hold`, returns how long the client stayed after the last part.
async fn in_parts(parts: Vec<String>, hold: bool) -> (PathBuf, tokio::task::JoinHandle<Duration>) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("astra-parts-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 8192];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        for part in parts {
            stream.write_all(part.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let begun = std::time::Instant::now();
        while hold && stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
        begun.elapsed()
    });
    (path, server)
}

fn chunk(part: &str) -> String {
    format!("{:x}\r\n{part}\r\n", part.len())
}

/// The engine continues until the connection closes.
#[tokio::test]
async fn a_pull_that_is_dropped_hangs_up() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = chunk("{\"status\":\"Downloading\",\"id\":\"a\"}\n");
    for parts in [vec![], vec![head.to_owned()], vec![head.to_owned(), line]] {
        let (path, server) = in_parts(parts, true).await;
        let client = EngineClient::podman(&path);
        let dropped = tokio::time::timeout(Duration::from_millis(300), pull(&client, 60_000, 60_000)).await;
        assert!(dropped.is_err());
        let held = tokio::time::timeout(Duration::from_secs(2), server).await.unwrap().unwrap();
        assert!(held < Duration::from_millis(600), "{held:?}");
        std::fs::remove_file(path).unwrap();
    }
}

/// docker ends each line with CR LF, which may arrive apart from it.
#[tokio::test]
async fn lines_may_come_in_pieces() {
    let whole = "{\"status\":\"Pulling fs layer\",\"id\":\"ä\"}\r\n{\"status\":\"Done\"}\r\n";
    for at in (1..whole.len()).filter(|at| whole.is_char_boundary(*at)) {
        let (one, other) = whole.split_at(at);
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunk(one));
        let (path, _server) = in_parts(vec![head, format!("{}0\r\n\r\n", chunk(other))], false).await;
        let (done, said) = pull(&EngineClient::podman(&path), 2000, 2000).await;
        std::fs::remove_file(path).unwrap();
        done.unwrap_or_else(|error| panic!("{one:?}: {error:#}"));
        assert_eq!(said, ["ä Pulling fs layer", "Done"], "{one:?}");
    }
}

/// Its caller counts the attempts.
#[tokio::test]
async fn a_broken_pull_is_not_repeated() {
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    let (_server, client) = engine(move |_| {
        *count.lock().unwrap() += 1;
        String::new()
    })
    .await;
    let error = pull(&client, 500, 500).await.0.unwrap_err();
    assert!(format!("{error:#}").contains(": asking /") && !may_pass(&error), "{error:#}");
    assert_eq!(*asked.lock().unwrap(), 1);
}
