use super::*;
use crate::host::http::testing::{UnixServer, json, serve_unix};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

pub(super) const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub(super) async fn engine(
    answer: impl Fn(&str) -> String + Send + Sync + 'static,
) -> (UnixServer, EngineClient) {
    let server = serve_unix(move |request| answer(&request.head)).await;
    let client = EngineClient::podman(&server.path);
    (server, client)
}

pub(super) fn image() -> PinnedImage {
    format!("ghcr.io/almalinux/astra@sha256:{HEX}").parse().unwrap()
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
            let rest = r#""ParentId":"","RepoTags":null,"Created":5,"Size":1,"SharedSize":0,"Containers":0,"Labels":null"#;
            return json(200, "", &format!(r#"[{{"Id":"sha256:i",{body},{rest}}},{{"Id":"x","RepoDigests":null,{rest}}}]"#));
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
    for name in ["x/../../y", "..", "x?force=true", "x#", "x%2f..%2fy"] {
        assert!(
            client.remove_container(name).await.is_err() && client.remove_image(name).await.is_err(),
            "{name}"
        );
    }
    // Another client is removing it; a stop finds it stopped.
    let (_server, client) = engine(|_| json(409, "", r#"{"message":"removal in progress"}"#)).await;
    client.remove_container("x").await.unwrap();
    assert!(client.remove_image("x").await.is_err());
    let (_server, client) = engine(|_| "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()).await;
    client.stop_container("x", QUERY_TIMEOUT).await.unwrap();
}

#[tokio::test]
async fn a_missing_engine() {
    let client = EngineClient::docker("/nonexistent/docker.sock");
    let error = format!("{:#}", client.version().await.unwrap_err());
    assert!(error.starts_with("asking the engine for its version: connecting to /nonexistent"), "{error}");
}

/// The request for one running container.
const RUNNING: &str =
    "/containers/json?all=false&limit=1&size=false&filters=%7B%22status%22%3A%5B%22running%22%5D%7D";

#[tokio::test]
async fn version_and_store_use_the_cheap_calls() {
    let (_server, client) = engine(|head| match head.split(' ').nth(1).unwrap() {
        "/_ping" => json(200, "Server: Libpod/5.4.2 (linux)\r\n", "OK"),
        path if path.starts_with(RUNNING) => json(200, "", r#"[{"Id":"a1"}]"#),
        "/containers/a1/json" => json(
            200,
            "",
            r#"{"GraphDriver":{"Name":"overlay","Data":{"UpperDir":"/data/containers/overlay/9f/diff"}}}"#,
        ),
        path => panic!("{path} is asked"),
    })
    .await;
    assert_eq!(client.version().await.unwrap(), "5.4.2");
    assert_eq!(client.image_store_path().await.unwrap(), Path::new("/data/containers"));
    // Another driver, or no container yet.
    for containers in [r#"[{"Id":"a1"}]"#, "[]"] {
        let (_server, client) = engine(move |head| match head.split(' ').nth(1).unwrap() {
            path if path.starts_with(RUNNING) => json(200, "", containers),
            "/containers/a1/json" => json(200, "", r#"{"GraphDriver":{"Name":"btrfs","Data":null}}"#),
            "/info" => json(200, "", r#"{"DockerRootDir":"/var/lib/docker"}"#),
            path => panic!("{path} is asked"),
        })
        .await;
        assert_eq!(client.image_store_path().await.unwrap(), Path::new("/var/lib/docker"));
    }
}

#[tokio::test]
async fn no_path_has_a_version() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    let (_server, client) = engine(move |head| {
        seen.lock().unwrap().push(head.lines().next().unwrap().to_owned());
        json(404, "", r#"{"message":"none"}"#)
    })
    .await;
    client.stop_container("astra-app-1", QUERY_TIMEOUT).await.unwrap();
    client.remove_container("a1").await.unwrap();
    client.remove_image(&image().to_string()).await.unwrap();
    assert!(!client.has_image(&image()).await.unwrap());
    assert!(client.images().await.is_err() && client.image_store_path().await.is_err());
    let heads = heads.lock().unwrap().clone();
    let expected = [
        "POST /containers/astra-app-1/stop".to_owned(),
        "DELETE /containers/a1?v=false&force=false&link=false".to_owned(),
        format!("DELETE /images/{}?force=false&noprune=false", image()),
        format!("GET /images/{}/json", image()),
        "GET /images/json".to_owned(),
        format!("GET {RUNNING}"),
        "GET /info".to_owned(),
    ];
    assert_eq!(heads, expected.map(|line| format!("{line} HTTP/1.1")));
}

/// podman's state of a container that it is cleaning up.
#[tokio::test]
async fn a_stopped_container_breaks_no_call() {
    let (_server, client) = engine(|head| match head.split([' ', '?']).nth(1).unwrap() {
        "/v4.0.0/libpod/containers/json" => json(200, "", r#"[{"Id":"a1","Names":["x"],"State":"stopped"}]"#),
        "/containers/json" => json(200, "", r#"[{"Id":"a1","State":"stopped"}]"#),
        "/containers/a1/json" => json(200, "", r#"{"State":{"Status":"stopped"}}"#),
        "/info" => json(200, "", r#"{"DockerRootDir":"/srv/containers"}"#),
        _ => json(404, "", ""),
    })
    .await;
    assert_eq!(client.containers().await.unwrap()[0].state, "stopped");
    assert_eq!(client.image_store_path().await.unwrap(), Path::new("/srv/containers"));
    client.stop_container("x", QUERY_TIMEOUT).await.unwrap();
    client.remove_container("a1").await.unwrap();
}

#[tokio::test]
async fn a_broken_connection_is_retried_once() {
    for (broken, fine) in [(1, true), (2, false)] {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let (_server, client) = engine(move |head| match count.fetch_add(1, Ordering::Relaxed) % 10 {
            number if number < broken => String::new(),
            _ if head.contains("libpod") => json(200, "", "[]"),
            _ => json(404, "", r#"{"message":"no such image"}"#),
        })
        .await;
        assert_eq!(client.has_image(&image()).await.is_ok(), fine);
        assert_eq!(asked.swap(0, Ordering::Relaxed), 2);
        assert_eq!(client.containers().await.is_ok(), fine);
        assert_eq!(asked.swap(0, Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn a_socket_that_comes_later_is_found() {
    let path = std::env::temp_dir().join(format!("astra-late-{}", std::process::id()));
    let client = EngineClient::podman(&path);
    let error = format!("{:#}", client.remove_container("x").await.unwrap_err());
    assert!(error.contains(": connecting to /") && error.ends_with("there is no such socket"), "{error}");
    let server = serve_unix(|_| json(404, "", "{}")).await;
    std::os::unix::fs::symlink(&server.path, &path).unwrap();
    client.remove_container("x").await.unwrap();
    std::fs::remove_file(&path).unwrap();
}
