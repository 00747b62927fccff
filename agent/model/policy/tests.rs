use super::*;

const SIGNED: &str = r#"[{"type": "sigstoreSigned", "keyPath": "/etc/keys/a.pub"}]"#;
const ANY: &str = r#"[{"type": "insecureAcceptAnything"}]"#;
const REJECT: &str = r#"[{"type": "reject"}]"#;

fn verdict(policy: &str, repository: &str) -> Verdict {
    let image = format!("{repository}@sha256:{}", "0".repeat(64)).parse().unwrap();
    Policy::parse(policy.as_bytes()).unwrap().verdict(&image)
}

fn scope(policy: &str, repository: &str) -> String {
    match verdict(policy, repository) {
        Verdict::Signed { scope, .. } => scope.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_most_specific_scope_decides() {
    let digest = format!("ghcr.io/a/b@sha256:{}", "0".repeat(64));
    let all = [digest.as_str(), "ghcr.io/a/b", "ghcr.io/a", "ghcr.io", "*.io", ""];
    for from in 0..all.len() {
        let scopes: Vec<_> = all[from..]
            .iter()
            .enumerate()
            .map(|(nth, name)| format!("{name:?}: {}", if nth == 0 { SIGNED } else { REJECT }))
            .collect();
        let policy = format!(r#"{{"default": {ANY}, "transports": {{"docker": {{{}}}}}}}"#, scopes.join(","));
        assert_eq!(scope(&policy, "ghcr.io/a/b"), format!("transports.docker.\"{}\"", all[from]));
    }
    let none = format!(r#"{{"default": {SIGNED}, "transports": {{"docker": {{"ghcr.io/a/bb": {ANY}}}}}}}"#);
    assert_eq!(scope(&none, "ghcr.io/a/b"), "`default`");
    let other = format!(r#"{{"default": {SIGNED}, "transports": {{"docker-daemon": {{"": {ANY}}}}}}}"#);
    assert_eq!(scope(&other, "ghcr.io/a/b"), "`default`");
}

#[test]
fn ports_domains_and_tags() {
    let with = |name: &str| {
        format!(r#"{{"default": {REJECT}, "transports": {{"docker": {{"{name}": {SIGNED}}}}}}}"#)
    };
    for name in ["r.example.com:5000/a", "r.example.com:5000", "*.example.com", "*.com"] {
        assert!(scope(&with(name), "r.example.com:5000/a").contains(name), "{name}");
    }
    // podman does not shorten `host:port` to `host`, and an image pulled by digest has no tag.
    for name in ["r.example.com", "r.example.com:5000/a:latest", "example.com", "*.r.example.com"] {
        assert!(matches!(verdict(&with(name), "r.example.com:5000/a"), Verdict::Nothing { .. }), "{name}");
    }
}

#[test]
fn all_requirements_of_a_list_apply() {
    let with = |list: &str| verdict(&format!(r#"{{"default": [{list}]}}"#), "ghcr.io/a/b");
    let any = r#"{"type": "insecureAcceptAnything"}"#;
    let gpg = r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/a", "/b"]}"#;
    assert_eq!(with(any), Verdict::Anything { scope: Scope::Default });
    assert_eq!(with(&format!("{any}, {any}")), Verdict::Anything { scope: Scope::Default });
    let keys = vec!["/a".into(), "/b".into()];
    assert_eq!(with(&format!("{any}, {gpg}")), Verdict::Signed { scope: Scope::Default, keys });
    assert!(matches!(with(&format!(r#"{gpg}, {{"type": "reject"}}"#)), Verdict::Nothing { .. }));
    for never in [
        r#"{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}"#,
        r#"{"type": "sigstoreSigned", "keyData": "eA==", "signedIdentity": {"type": "matchExact"}}"#,
    ] {
        assert!(matches!(with(never), Verdict::Nothing { .. }), "{never}");
    }
    for signed in [
        r#"{"type": "sigstoreSigned", "keyData": "eA==", "signedIdentity": {"type": "matchRepository"}}"#,
        r#"{"type": "sigstoreSigned", "fulcio": {"caPath": "/x"}, "rekorPublicKeyPath": "/y"}"#,
        r#"{"type": "sigstoreSigned", "keyPath": "/x", "signedIdentity":
            {"type": "remapIdentity", "prefix": "a", "signedPrefix": "b"}}"#,
    ] {
        assert!(matches!(with(signed), Verdict::Signed { .. }), "{signed}");
    }
}

#[test]
fn policies_that_podman_refuses_are_refused() {
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"default": []}"#,
        r#"{"default": null}"#,
        r#"{"default": [{}]}"#,
        r#"{"default": [{"type": "insecureacceptanything"}]}"#,
        r#"{"default": [{"type": "insecureAcceptAnything", "x": 1}]}"#,
        r#"{"default": [{"type": "reject"}], "Transports": {}}"#,
        r#"{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}"#,
        r#"{"default": [{"type": "reject", "type": "insecureAcceptAnything"}]}"#,
        r#"{"default": [{"type": "reject"}], "transports": {"docker": {"": []}}}"#,
        r#"{"default": [{"type": "reject"}], "transports": {"docker": {"a": [{"type": "reject"}], "a": [{"type": "reject"}]}}}"#,
        r#"{"default": [{"type": "signedBy"}]}"#,
        r#"{"default": [{"type": "signedBy", "keyType": "X509", "keyPath": "/a"}]}"#,
        r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys"}]}"#,
        r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/a", "keyData": "eA=="}]}"#,
        r#"{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": []}]}"#,
        r#"{"default": [{"type": "sigstoreSigned"}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "fulcio": {}}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "keypath": "/a"}]}"#,
        r#"{"default": [{"type": "sigstoreSigned", "keyPath": "/a", "signedIdentity": {"type": "any"}}]}"#,
        r#"{"default": [{"type": "reject"}]} x"#,
    ] {
        assert!(Policy::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    let deep = "[".repeat(100_000);
    assert!(Policy::parse(deep.as_bytes()).is_err());
}
