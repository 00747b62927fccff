//! `[verify]`: a policy that accepts anything refuses the deploy, and podman refuses unsigned images.

use crate::harness::{Host, Output};
use crate::site::{PASSWORD, installed};

const POLICY: &str = "/etc/containers/policy.json";

fn policy(host: &Host, requirement: &str) {
    host.write(
        POLICY,
        &format!(
            r#"{{"default": [{{"type": "insecureAcceptAnything"}}],
                "transports": {{"docker": {{"127.0.0.1:5000/astra": [{requirement}]}}}}}}"#
        ),
    );
}

/// All lasting state, and every start.
fn untouched(host: &Host) -> (String, String) {
    let lasts = |line: &&str| !line.contains("/run/astra/");
    (host.files().lines().filter(lasts).collect::<Vec<_>>().join("\n"), host.invocations())
}

#[track_caller]
fn refused(host: &Host, part: &str, before: &(String, String)) -> Output {
    let deploy = host.agent(["deploy"]);
    let said = format!("{}{}", deploy.stdout, deploy.stderr);
    assert_eq!(deploy.code(), 1, "{said}");
    assert!(said.contains(part), "no {part:?} in {said}");
    assert!(!said.contains(PASSWORD));
    assert_eq!(untouched(host), *before, "something was touched");
    deploy
}

#[test]
fn only_signed_images_are_deployed() {
    let host = installed("verify");
    host.write("/etc/astra/agent.d/verify.toml", "[verify]\nrequire_signature = true\n");
    host.tag("latest", "v2");
    let before = untouched(&host);

    let said = refused(&host, "accepts any image of 127.0.0.1:5000/astra", &before);
    assert!(said.stderr.contains("hint: write into `transports.docker`"), "{}", said.stderr);
    policy(&host, r#"{"type": "reject"}"#);
    refused(&host, "lets in no image of 127.0.0.1:5000/astra", &before);
    policy(&host, r#"{"type": "reject", "type": "insecureAcceptAnything"}"#);
    refused(&host, "duplicate key `type`", &before);
    host.sh(&format!("rm {POLICY}")).ok();
    refused(&host, "there is no /etc/containers/policy.json", &before);

    // podman's service would accept this one, whatever the host's policy says; the run sees it from inside
    // its sandbox.
    policy(&host, r#"{"type": "reject"}"#);
    for own in ["echo '{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}' >", "ln -s /nowhere "] {
        host.sh(&format!("mkdir -p /root/.config/containers && {own}/root/.config/containers/policy.json"))
            .ok();
        refused(&host, "/root/.config/containers/policy.json is there", &before);
        host.sh("rm -r /root/.config").ok();
    }
    // A policy or a key that others may write cannot be trusted.
    host.sh("echo key >/etc/containers/astra.pub").ok();
    policy(&host, r#"{"type": "sigstoreSigned", "keyPath": "/etc/containers/astra.pub"}"#);
    for (spoil, cure, part) in [
        ("chmod g+w /etc/containers", "chmod g-w /etc/containers", "/etc/containers has mode 0775"),
        (
            "chown daemon /etc/containers/policy.json",
            "chown root /etc/containers/policy.json",
            "belongs to user",
        ),
        (
            "chmod 0666 /etc/containers/astra.pub",
            "chmod 0644 /etc/containers/astra.pub",
            "astra.pub has mode 0666",
        ),
    ] {
        host.sh(spoil).ok();
        refused(&host, part, &before);
        host.sh(cure).ok();
    }

    // A sigstore key: podman itself finds no signature.
    host.sh(
        "openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout -out /etc/containers/astra.pub 2>/dev/null",
    )
    .ok();
    policy(
        &host,
        r#"{"type": "sigstoreSigned", "keyPath": "/etc/containers/astra.pub", "signedIdentity": {"type": "matchRepository"}}"#,
    );
    refused(&host, "ignature", &before);

    // A GPG key, and signatures in a directory.
    host.write(
        "/etc/containers/registries.d/astra.yaml",
        "docker:\n  127.0.0.1:5000/astra:\n    lookaside: file:///var/lib/signatures\n    lookaside-staging: file:///var/lib/signatures\n",
    );
    host.sh("gpg --batch -q --passphrase '' --quick-gen-key ci@example.org default default never 2>&1 && \
         gpg --export ci@example.org >/etc/containers/ci.gpg")
        .ok();
    policy(&host, r#"{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/etc/containers/ci.gpg"}"#);
    refused(&host, "ignature", &before);
    let runs = host.history();
    assert_eq!(host.status()["held"].as_array().unwrap().len(), 0, "nothing is to blame: {runs:#?}");

    // The same image, signed, is deployed.
    host.sh("cp /etc/containers/policy.json /root/ && \
         echo '{\"default\": [{\"type\": \"insecureAcceptAnything\"}]}' >/etc/containers/policy.json && \
         podman pull -q 127.0.0.1:5000/astra:v2 && \
         podman push -q --sign-by ci@example.org 127.0.0.1:5000/astra:v2 127.0.0.1:5000/astra:latest && \
         podman rmi -f 127.0.0.1:5000/astra:v2 && cp /root/policy.json /etc/containers/")
        .ok();
    host.agent(["deploy"]).ok();
    assert_eq!(host.versions([1, 2]), ["v2", "v2"]);
    // A tag that was moved back to an earlier release without a signature.
    host.tag("latest", "v1");
    let signed = untouched(&host);
    refused(&host, "ignature", &signed);
    host.agent(["rollback"]).ok();
    assert_eq!(
        host.versions([1, 2]),
        ["v1", "v1"],
        "the release from before signatures were required is still the rollback target"
    );
}
