use super::*;
use crate::host::http::testing::{UnixServer, json, serve_unix};
use crate::host::registry::Credentials;
use crate::model::secret::Secret;
use std::sync::{Arc, Mutex};

const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

async fn engine(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (UnixServer, EngineClient) {
    let server = serve_unix(move |request| answer(&request.head)).await;
    let client = EngineClient::podman(&server.path);
    (server, client)
}

fn image() -> PinnedImage {
    format!("ghcr.io/almalinux/astra@sha256:{HEX}").parse().unwrap()
}

async fn pull(client: &EngineClient, stall: u64, total: u64) -> (Result<()>, Vec<String>) {
    let mut said = Vec::new();
    let login = Credentials { username: "me".to_owned(), password: Secret::new("p>?w") };
    let (stall, total) = (Duration::from_millis(stall), Duration::from_millis(total));
    let done = client.pull(&image(), Some(&login), stall, total, |text| said.push(text)).await;
    (done, said)
}

#[tokio::test]
async fn containers_in_any_state() {
    let (_server, client) = engine(|head| {
        assert!(head.starts_with("GET /v4.0.0/libpod/containers/json?all=true&external=true "), "{head}");
        json(200, "", r#"[{"Id":"a1","Names":["/x/alias","/astra-app-1"],"State":"stopped","Labels":{"astra.release":"7"},"ImageID":"i","New":[1]},
            {"Id":"b2","Names":null,"State":"brand-new","Labels":null}]"#)
    })
    .await;
    let seen = client.containers().await.unwrap();
    assert_eq!((seen[0].name.as_str(), seen[0].state.as_str()), ("astra-app-1", "stopped"));
    assert_eq!(seen[0].labels["astra.release"], "7");
    assert_eq!((seen[1].name.as_str(), seen[1].state.as_str()), ("", "brand-new"));
}

#[tokio::test]
async fn digests_are_a_set() {
    let other = HEX.replace('0', "f");
    let (_server, client) = engine(move |head| {
        let body = format!(r#""RepoDigests":["ghcr.io/almalinux/astra@sha256:{other}","ghcr.io/almalinux/astra@sha256:{HEX}","<none>@<none>"]"#);
        if head.starts_with(&format!("GET /images/ghcr.io/almalinux/astra@sha256:{HEX}/json ")) {
            return json(200, "", &format!("{{{body}}}"));
        }
        if head.starts_with("GET /images/json") {
            return json(200, "", &format!(r#"[{{"Id":"sha256:i",{body},"Created":5}},{{"Id":"x","RepoDigests":null}}]"#));
        }
        json(404, "", r#"{"cause":"no such image","message":"no such image"}"#)
    })
    .await;
    assert!(client.has_image(&image()).await.unwrap());
    let elsewhere = format!("ghcr.io/almalinux/other@sha256:{HEX}").parse().unwrap();
    assert!(!client.has_image(&elsewhere).await.unwrap());
    let images = client.images().await.unwrap();
    assert_eq!((images.len(), images[0].repo_digests.len(), images[0].created), (1, 2, 5));
}

#[test]
fn docker_hub_names_are_expanded() {
    for (text, full) in [
        ("redis", "docker.io/library/redis"),
        ("almalinux/astra", "docker.io/almalinux/astra"),
        ("localhost/x", "localhost/x"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x"),
    ] {
        assert_eq!(pinned(&format!("{text}@sha256:{HEX}")).unwrap().repository.to_string(), full);
    }
    assert_eq!(pinned("<none>@<none>"), None);
}

#[tokio::test]
async fn already_done_is_no_error() {
    let (_server, client) = engine(|_| json(404, "", r#"{"message":"no such container"}"#)).await;
    client.remove_container("x").await.unwrap();
    client.remove_image("x").await.unwrap();
    let (_server, client) = engine(|_| json(500, "", r#"{"message":"in use","cause":"x"}"#)).await;
    let error = format!("{:#}", client.remove_image("x").await.unwrap_err());
    assert_eq!(error, "removing the image x: the engine answered 500: in use");
    assert!(client.remove_container("x/../../y").await.is_err());
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
             \"progressDetail\":{\"current\":5000000,\"total\":10000000}}\n\nnot json\n{\"status\":\"Done\",\"progressDetail\":{}}",
        )
    })
    .await;
    let (done, said) = pull(&client, 2000, 2000).await;
    done.unwrap();
    assert_eq!(said, ["abc Pulling fs layer", "abc Downloading 5 of 10 MB", "Done"]);
    let head = heads.lock().unwrap().clone();
    assert!(
        head.starts_with(&format!(
            "POST /images/create?fromImage=ghcr.io%2Falmalinux%2Fastra&tag=sha256%3A{HEX} "
        )),
        "{head}"
    );
    let login = r#"{"password":"p>?w","serveraddress":"ghcr.io","username":"me"}"#;
    let value = crate::host::registry::base64(login.as_bytes()).replace('+', "-").replace('/', "_");
    assert!(head.contains(&format!("x-registry-auth: {value}\r\n")), "{head}");
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
        (json(200, "", "{\"error\":\"reading blob: unexpected EOF\"}"), true),
        (json(200, "", "{\"error\":\"reading manifest: received unexpected HTTP status: 500\"}"), true),
        (json(500, "", "{\"message\":\"pinging registry: 503 (Service Unavailable)\"}"), true),
        (json(500, "", "{\"message\":\"reading manifest: unauthorized: authentication required\"}"), false),
        (json(500, "", "{\"message\":\"requested access to the resource is denied\"}"), false),
        (json(500, "", "{\"message\":\"invalid status code from registry 403 (Forbidden)\"}"), false),
        (json(404, "", "{\"message\":\"manifest unknown\"}"), false),
        (json(500, "", "{\"message\":\"Source image rejected: A signature was required\"}"), false),
        (json(200, "", "{\"error\":\"writing blob: No space left on device\"}"), false),
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
        // podman 4.3: status 200, and the error alone in the stream.
        (json(200, "", "{\"error\":\"manifest unknown\"}\n"), 2000, 2000, "manifest unknown"),
        (json(200, "", "{\"errorDetail\":{\"message\":\"denied\"}}"), 2000, 2000, "denied"),
        (json(500, "", "{\"message\":\"toomanyrequests\"}"), 2000, 2000, "500: toomanyrequests"),
        // A registry's message: control characters must not reach a terminal.
        (json(200, "", "{\"error\":\"a\\u001b[2J\\nconverged\"}\n"), 2000, 2000, "a [2J converged"),
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
        assert!(!error.contains("p>?w"));
    }
}

#[tokio::test]
async fn a_missing_engine() {
    let client = EngineClient::docker("/nonexistent/docker.sock");
    let error = format!("{:#}", client.version().await.unwrap_err());
    assert!(error.starts_with("asking the engine for its version: connecting to /nonexistent"), "{error}");
}

#[tokio::test]
async fn version_and_store_use_the_cheap_calls() {
    let (_server, client) = engine(|head| match head.split(' ').nth(1).unwrap() {
        "/_ping" => json(200, "Server: Libpod/5.4.2 (linux)\r\n", "OK"),
        "/containers/json?all=true&limit=1" => json(200, "", r#"[{"Id":"a1"}]"#),
        "/containers/a1/json" => {
            json(200, "", r#"{"GraphDriver":{"Data":{"UpperDir":"/data/containers/overlay/9f/diff"}}}"#)
        }
        path => panic!("{path} is asked"),
    })
    .await;
    assert_eq!(client.version().await.unwrap(), "5.4.2");
    assert_eq!(client.image_store_path().await.unwrap(), Path::new("/data/containers"));
    // Another driver, or no container yet.
    for containers in [r#"[{"Id":"a1"}]"#, "[]"] {
        let (_server, client) = engine(move |head| match head.split(' ').nth(1).unwrap() {
            "/containers/json?all=true&limit=1" => json(200, "", containers),
            "/containers/a1/json" => json(200, "", r#"{"GraphDriver":{"Name":"btrfs","Data":null}}"#),
            "/info" => json(200, "", r#"{"DockerRootDir":"/var/lib/docker"}"#),
            path => panic!("{path} is asked"),
        })
        .await;
        assert_eq!(client.image_store_path().await.unwrap(), Path::new("/var/lib/docker"));
    }
}
