//! `[verify]`: whether podman's policy lets in only signed images of the app. podman itself checks them when it
//! pulls; this refuses a deploy that nothing would check. Called by preflight.rs and doctor.rs.

use std::path::Path;

use super::Inputs;
use super::preflight::Problem;
use crate::model::image::PinnedImage;
use crate::model::name::ROOTS_OWN_POLICY;
use crate::model::observed::Engine;
use crate::model::policy::{Policy, Verdict};

/// What speaks against a deploy of `image`, when signatures are required.
pub fn problem(inputs: &Inputs<'_>, image: &PinnedImage) -> Option<Problem> {
    let verify = &inputs.config.verify;
    if !verify.require_signature {
        return None;
    }
    let refuse = |what: String, hint: String| Some(Problem { what, hint, config: false });
    if inputs.engine == Engine::Docker {
        return refuse(
            "[verify] require_signature is set, and docker checks no signatures".into(),
            "use podman ([app] engine = \"podman\"), or take [verify] out of agent.toml".into(),
        );
    }
    let path = verify.policy.display();
    if inputs.observed.files.contains_key(Path::new(ROOTS_OWN_POLICY)) {
        return refuse(
            format!("{ROOTS_OWN_POLICY} is there: podman reads it instead of {path}"),
            format!("move what it says into {path}, and remove it"),
        );
    }
    let repository = &image.repository;
    let hint = format!(
        "write into `transports.docker` of {path}: \"{repository}\": [{{\"type\": \"sigstoreSigned\", \"keyPath\": \
         \"/etc/containers/KEY.pub\", \"signedIdentity\": {{\"type\": \"matchRepository\"}}}}]"
    );
    let Some(seen) = inputs.observed.files.get(&verify.policy) else {
        return refuse(
            format!("[verify] requires signatures, and there is no {path} that can be read"),
            hint,
        );
    };
    if seen.mode & 0o022 != 0 {
        let fix = format!("`chown root:root {path} && chmod 0644 {path}`, and look at what it says");
        return refuse(
            format!("{path} has mode {:04o}: others than root may have written it", seen.mode),
            fix,
        );
    }
    let policy = match Policy::parse(&seen.bytes) {
        Ok(policy) => policy,
        Err(error) => {
            return refuse(format!("reading {path}: {error}"), "mend it: podman refuses it as well".into());
        }
    };
    match policy.verdict(image) {
        Verdict::Signed { .. } => None,
        Verdict::Anything { scope } => {
            refuse(format!("{path} accepts any image of {repository}, signed or not ({scope})"), hint)
        }
        Verdict::Nothing { scope, why } => {
            refuse(format!("{path} lets in no image of {repository} ({scope}: {why})"), hint)
        }
    }
}
