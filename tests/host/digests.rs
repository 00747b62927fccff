//! `deploy-sha`: every form of a digest, and invalid ones.

use crate::harness::MANIFEST;
use crate::site::{config_with, installed_with};

#[test]
fn a_digest_has_three_forms() {
    let host = installed_with("digests", &config_with([("soak = \"1s\"", "soak = \"0s\"")]));
    let (v2, v3) = (host.digest("v2"), host.digest("v3"));
    for (version, form) in [("v2", v2["sha256:".len()..].to_owned()), ("v3", v3), ("v1", host.image("v1"))] {
        host.agent(["deploy-sha", &form]).ok();
        assert_eq!(host.env("APP_IMAGE"), host.image(version), "{form}");
        assert_eq!(host.versions([1, 2]), [version, version]);
        assert_eq!(host.status()["pinned"], true);
    }
}

#[test]
fn an_invalid_or_foreign_digest_touches_nothing() {
    let host = installed_with("garbage", &config_with([("soak = \"1s\"", "soak = \"0s\"")]));
    let digest = host.digest("v2");
    let hex = &digest["sha256:".len()..];
    let image = host.image("v2");
    let before = (host.files(), host.invocations(), host.history().len());
    for garbage in [
        String::new(),
        " ".into(),
        hex[1..].into(),
        "g".repeat(64),
        format!("{hex}0"),
        "sha256:".into(),
        "sha256:garbage".into(),
        "sha256:../../x".into(),
        format!("sha512:{hex}"),
        format!("sha512:{hex}{hex}"),
        format!("{digest} "),
        format!(" {digest}"),
        format!("{digest}\n"),
        format!("{digest}\\n"),
        format!("{digest}\nSECRET_KEY=owned"),
        format!("{digest}@{digest}"),
        "v2".into(),
        "latest".into(),
        "127.0.0.1:5000/astra".into(),
        "127.0.0.1:5000/astra:v2".into(),
        "127.0.0.1:5000/astra@sha256:".into(),
        format!("127.0.0.1:5000/astra:v2@{digest}"),
        format!("{image}@{digest}"),
        format!("127.0.0.1:5000/Astra@{digest}"),
        format!("127.0.0.1:5000/../astra@{digest}"),
        format!("127.0.0.1:5000/astrа@{digest}"), // a Cyrillic а
        format!("[::1]:5000/astra@{digest}"),
        format!("127.0.0.1:99999/astra@{digest}"),
        format!("127.0.0.1:5000/{}@{digest}", "a".repeat(256)),
        format!("astra@{digest}"),
        format!("evil.example/astra@{digest}"),
        format!("127.0.0.1:5000/caddy@{digest}"),
        format!("docker://{image}"),
        format!("oci:{image}"),
        "dir:/etc".into(),
        format!("containers-storage:{image}"),
        format!("-{digest}"),
        "--digest".into(),
        "$(touch /etc/astra/owned)".into(),
    ] {
        let said = host.agent(["deploy-sha", &garbage]);
        assert_eq!(said.code(), 2, "{garbage:?}: {}{}", said.stdout, said.stderr);
        assert!(said.stderr.starts_with("error: "), "{garbage:?}: {}", said.stderr);
    }
    assert_eq!((host.files(), host.invocations(), host.history().len()), before);
}

#[test]
fn a_digest_missing_in_the_registry_holds_nothing() {
    let host = installed_with("unknown", &config_with([("soak = \"1s\"", "soak = \"0s\"")]));
    let before = (host.files(), host.invocations());
    let manifest = |path: &str| format!("curl -sSf -H 'Accept: {MANIFEST}' localhost:5000/v2/{path}");
    let config = host.sh(&format!("{} | jq -r .config.digest", manifest("astra/manifests/v2"))).ok().stdout;
    let caddy =
        host.sh(&format!("{} | sha256sum | cut -d' ' -f1", manifest("caddy/manifests/2"))).ok().stdout;
    for digest in [&"0".repeat(64), config.trim(), caddy.trim()] {
        let said = host.agent(["deploy-sha", digest]);
        assert_eq!(said.code(), 1, "{digest}: {}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("the engine answered"), "{digest}: {}", said.stdout);
        assert_eq!(host.status()["held"].as_array().unwrap().len(), 0, "{digest}");
    }
    assert_eq!((host.files(), host.invocations()), before);
    assert_eq!(host.versions([1, 2]), ["v1", "v1"]);
}
