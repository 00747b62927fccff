use super::*;
use crate::host::http::testing::{Server, json, serve};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant as Clock;

const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

struct Rig {
    server: Server,
    registry: Registry,
    auth: PathBuf,
    asked: Arc<AtomicU32>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.auth);
    }
}

impl Rig {
    async fn resolve(&self, retries: u32) -> Result<Digest, RegistryError> {
        let image = format!("{}/a/b:v1", self.server.address).parse().unwrap();
        self.registry.resolve(&image, Duration::from_secs(20), retries).await
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// `answer` gets the number of the request, from 1, and its head in lower case.
async fn rig(login: Option<&str>, answer: impl Fn(u32, &str) -> String + Send + Sync + 'static) -> Rig {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let server =
        serve(move |request| answer(count.fetch_add(1, Ordering::SeqCst) + 1, &request.head.to_lowercase()))
            .await;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let auth = std::env::temp_dir().join(format!("astra-auth-{}-{number}.json", std::process::id()));
    if let Some(login) = login {
        let text = format!(
            r#"{{"auths": {{"{}": {{"auth": "{}"}}}}}}"#,
            server.address,
            base64::Engine::encode(&base64::prelude::BASE64_STANDARD, login)
        );
        std::fs::write(&auth, text).unwrap();
    }
    let none = Ecr::new(crate::host::imds::Imds::at("http://127.0.0.1:1"), None);
    Rig { server, registry: Registry::new(auth.clone(), "/nonexistent".into(), none), auth, asked }
}

fn digest() -> String {
    format!("HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:{HEX}\r\nContent-Length: 400\r\n\r\n")
}

#[tokio::test]
async fn one_head_is_enough() {
    let rig = rig(None, |_, head| {
        assert!(head.starts_with("head /v2/a/b/manifests/v1 "), "{head}");
        assert!(head.contains("application/vnd.oci.image.index.v1+json"));
        assert!(head.contains("application/vnd.docker.distribution.manifest.v2+json"));
        digest()
    })
    .await;
    assert_eq!(rig.resolve(0).await.unwrap().hex(), HEX);
    assert_eq!(rig.asked(), 1);
}

#[tokio::test]
async fn a_token_is_fetched_with_the_login() {
    for key in ["token", "access_token"] {
        let rig = rig(Some("me:pass:word"), move |_, head| {
            let host = head.split("host: ").nth(1).unwrap().lines().next().unwrap();
            if head.starts_with("get /token?service=reg&scope=repository%3aa%2fb%3apull ") {
                assert!(head.contains("authorization: basic "), "{head}");
                return json(200, "", &format!(r#"{{"{key}": "t0ken"}}"#));
            }
            match head.contains("authorization: bearer t0ken\r\n") {
                true => digest(),
                false => format!(
                    "HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"reg\",\
                     scope=\"repository:a/b:pull\"\r\nContent-Length: 0\r\n\r\n"
                ),
            }
        })
        .await;
        assert_eq!(rig.resolve(0).await.unwrap().hex(), HEX);
        assert_eq!(rig.asked(), 3);
    }
}

#[tokio::test]
async fn basic_logins() {
    let challenge = |_, head: &str| match head.contains("authorization: basic bwu6cgfzcw==\r\n") {
        true => digest(),
        false => {
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
    };
    // `me:pass` in base64, in lower case like the whole head.
    let right = rig(Some("me:pass"), challenge).await;
    assert_eq!(right.resolve(0).await.unwrap().hex(), HEX);
    let wrong = rig(Some("me:other"), challenge).await;
    assert!(
        wrong.resolve(5).await.unwrap_err().to_string().contains("login rejected: the registry answered 401")
    );
    assert_eq!(wrong.asked(), 2);
    let none = rig(None, challenge).await;
    let error = none.resolve(5).await.unwrap_err();
    assert!(matches!(error, RegistryError::Login { .. }), "{error}");
    assert!(error.to_string().contains("put credentials into /tmp/astra-auth-"), "{error}");
    assert_eq!(none.asked(), 1);
}

#[tokio::test]
async fn without_a_digest_header_the_manifest_is_hashed() {
    let body = r#"{"schemaVersion": 2}"#;
    let rig = rig(None, move |_, head| match head.starts_with("get ") {
        true => json(200, "Content-Type: application/vnd.oci.image.index.v1+json\r\n", body),
        false => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n".to_owned(),
    })
    .await;
    assert_eq!(rig.resolve(0).await.unwrap().hex(), sha256(body.as_bytes()));
}

#[tokio::test]
async fn gives_up_on_4xx_and_invalid_answers() {
    for (answer, part) in [
        (json(404, "", "{}"), "tag not found"),
        (json(403, "", "{}"), "403"),
        (json(200, "Content-Type: text/html; charset=utf-8\r\n", ""), "captive portal"),
        (json(302, "Location: http://evil/\r\n", ""), "not safe"),
        (json(200, "Docker-Content-Digest: sha256:short\r\n", ""), "not a digest"),
        (json(401, "WWW-Authenticate: Bearer realm=\"http://evil.example/t\"\r\n", ""), "not https"),
        (json(401, "WWW-Authenticate: Negotiate\r\n", ""), "kind"),
        (json(200, "", "<p>"), "not a manifest"),
    ] {
        let rig = rig(None, move |_, _| answer.clone()).await;
        let error = rig.resolve(5).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        assert!(rig.asked() <= 2, "{part}: {}", rig.asked());
    }
}

#[tokio::test]
async fn retries_429_and_5xx() {
    let rig = rig(None, |number, _| match number {
        1 => json(429, "Retry-After: 1\r\n", ""),
        2 => json(503, "", ""),
        3 => String::new(),
        _ => digest(),
    })
    .await;
    let begun = Clock::now();
    assert_eq!(rig.resolve(3).await.unwrap().hex(), HEX);
    assert_eq!(rig.asked(), 4);
    assert!(begun.elapsed() > Duration::from_millis(1700), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn attempts_and_time_are_bounded() {
    let down = rig(None, |_, _| json(500, "", "")).await;
    let error = down.resolve(1).await.unwrap_err().to_string();
    assert!(error.contains("gave up after 2 attempts: the registry answered 500"), "{error}");
    // The registry asks for more time than the deadline allows.
    let busy = rig(None, |_, _| json(429, "Retry-After: 3600\r\n", "")).await;
    let begun = Clock::now();
    assert!(busy.resolve(9).await.is_err());
    // More than the clock can represent.
    let mad = rig(None, |_, _| json(503, "Retry-After: 18446744073709551615\r\n", "")).await;
    let error = mad.resolve(9).await.unwrap_err().to_string();
    assert!(error.contains("gave up after 1 attempt: the registry answered 503"), "{error}");
    let silent = rig(None, |_, _| "\0HOLD".to_owned()).await;
    let image = format!("{}/a/b:v1", silent.server.address).parse().unwrap();
    let error = silent.registry.resolve(&image, Duration::from_millis(300), 9).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn only_loopback_goes_without_tls() {
    assert!(is_loopback("[::1]:5000") && !is_loopback("[::2]:5000"));
    for (registry, url) in [
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.8.9.1", "http://127.8.9.1"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1.evil.example", "https://127.0.0.1.evil.example"),
        ("localhost.evil.example", "https://localhost.evil.example"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
        ("docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
    ] {
        let image: TrackedImage = format!("{registry}/a/b:1").parse().unwrap();
        let reach = Reach::read("/nonexistent".as_ref(), &image.repository).unwrap();
        assert_eq!(reach.bases, [url]);
    }
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_registrys_credentials() {
    let elsewhere = serve(|request| {
        assert!(request.head.starts_with("HEAD /moved/v1?sig=1 "), "{}", request.head);
        assert!(!request.head.to_lowercase().contains("authorization"), "{}", request.head);
        digest()
    })
    .await;
    let to = format!("Location: http://{}/moved/v1?sig=1\r\n", elsewhere.address);
    let basic = rig(Some("me:pass"), move |_, head| match head.contains("authorization: basic") {
        true => json(307, &to, ""),
        false => json(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
    })
    .await;
    assert_eq!(basic.resolve(0).await.unwrap().hex(), HEX);
    // On the same server the credentials are kept.
    let same = rig(Some("me:pass"), |_, head| match head {
        _ if !head.contains("authorization: basic") => {
            json(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "")
        }
        _ if head.starts_with("head /other ") => digest(),
        _ => json(307, "Location: /other\r\n", ""),
    })
    .await;
    assert_eq!(same.resolve(0).await.unwrap().hex(), HEX);
}

#[tokio::test]
async fn unsafe_and_endless_redirects_are_refused() {
    let away = rig(None, |_, _| json(302, "Location: http://example.com/x\r\n", "")).await;
    let error = away.resolve(3).await.unwrap_err().to_string();
    assert!(error.contains("redirects to http://example.com, which is not safe"), "{error}");
    assert_eq!(away.asked(), 1);
    let round = rig(None, |_, _| json(307, "Location: /again\r\n", "")).await;
    let error = round.resolve(3).await.unwrap_err().to_string();
    assert!(error.contains("answers with a redirect more than 5 times"), "{error}");
    let nowhere = rig(None, |_, _| json(307, "", "")).await;
    assert!(nowhere.resolve(3).await.unwrap_err().to_string().contains("and not where to"));
}

#[tokio::test]
async fn a_challenge_after_a_redirect_gets_no_credentials() {
    let other = serve(|request| {
        let head = request.head.to_lowercase();
        assert!(!head.contains("basic"), "{head}");
        let host = head.split("host: ").nth(1).unwrap().lines().next().unwrap().to_owned();
        match head {
            _ if head.starts_with("get /token") => json(200, "", r#"{"token": "anonymous"}"#),
            _ if head.contains("bearer anonymous") => digest(),
            _ => json(401, &format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\n"), ""),
        }
    })
    .await;
    let to = format!("Location: http://{}/v2/x\r\n", other.address);
    let gateway = rig(Some("me:pass"), move |_, _| json(307, &to, "")).await;
    assert_eq!(gateway.resolve(0).await.unwrap().hex(), HEX);
}
