//! `[verify]`: whether podman's policy accepts only signed images of the app. podman checks them at a pull;
//! this refuses a deploy if nothing would check, or if others than root may write the files that decide.
//! Called by preflight.rs and doctor.rs.

use std::path::Path;

use super::Inputs;
use crate::model::checkup::{Kind, Owner};
use crate::model::image::PinnedImage;
use crate::model::name::{POLICY, ROOTS_OWN_POLICY};
use crate::model::observed::{Engine, Observed};
use crate::model::policy::{Policy, Verdict};
use crate::model::problem::Problem;

/// Why `image` must not be deployed when signatures are required.
pub fn problem(inputs: &Inputs<'_>, image: &PinnedImage) -> Option<Problem> {
    if !inputs.config.verify.require_signature {
        return None;
    }
    if inputs.engine == Engine::Docker {
        return refuse(
            "[verify] require_signature is set, and docker checks no signatures".into(),
            "use podman ([app] engine = \"podman\"), or take [verify] out of agent.toml".into(),
        );
    }
    judge(inputs.observed, image)
}

fn refuse(what: String, fix: String) -> Option<Problem> {
    Some(Problem::host("signatures", what, fix))
}

fn judge(observed: &Observed, image: &PinnedImage) -> Option<Problem> {
    match observed.trust.get(Path::new(ROOTS_OWN_POLICY)) {
        None => {}
        Some(Ok(_)) => {
            return refuse(
                format!("{ROOTS_OWN_POLICY} is there: podman reads it instead of {POLICY}"),
                format!("move what it says into {POLICY}, and remove it"),
            );
        }
        Some(Err(why)) => {
            return refuse(
                format!("cannot check whether {ROOTS_OWN_POLICY} exists, which podman would read: {why}"),
                "look at `ls -ld /root /root/.config /root/.config/containers`: each must be root's, or not there"
                    .into(),
            );
        }
    }
    let repository = &image.repository;
    let fix = format!(
        "write into `transports.docker` of {POLICY}: \"{repository}\": [{{\"type\": \"sigstoreSigned\", \"keyPath\": \
         \"/etc/containers/KEY.pub\", \"signedIdentity\": {{\"type\": \"matchRepository\"}}}}]"
    );
    let Some(seen) = observed.files.get(Path::new(POLICY)) else {
        return refuse(
            format!("[verify] requires signatures, and there is no {POLICY} that can be read"),
            fix,
        );
    };
    if let Some(problem) = open_to_others(observed, Path::new(POLICY)) {
        return Some(problem);
    }
    let policy = match Policy::parse(&seen.bytes) {
        Ok(policy) => policy,
        Err(error) => {
            return refuse(format!("reading {POLICY}: {error}"), "fix it: podman refuses it as well".into());
        }
    };
    match policy.verdict(image) {
        Verdict::Signed { keys, .. } => keys.iter().find_map(|key| open_to_others(observed, key)),
        Verdict::Anything { scope } => {
            refuse(format!("{POLICY} accepts any image of {repository}, signed or not ({scope})"), fix)
        }
        Verdict::Nothing { scope, why } => {
            refuse(format!("{POLICY} lets in no image of {repository} ({scope}: {why})"), fix)
        }
    }
}

/// The owners of the policy, of a key, and of each parent directory can decide which images count as signed.
fn open_to_others(observed: &Observed, file: &Path) -> Option<Problem> {
    let dirs = file.ancestors().skip(1).map(|dir| (dir, Kind::Dir));
    dirs.chain([(file, Kind::File)]).find_map(|(path, kind)| {
        let shown = path.display();
        let Owner { uid, mode, kind: found, .. } = match observed.trust.get(path) {
            Some(Ok(owner)) => *owner,
            Some(Err(why)) => {
                let fix = format!("look at it with `ls -ld {shown}`: it must be root's");
                return refuse(format!("cannot check permissions of {shown}: {why}"), fix);
            }
            None => {
                let fix = "put it back, or name another file in the policy".to_owned();
                return refuse(format!("{shown} is not there, and {POLICY} needs it"), fix);
            }
        };
        let fix = format!("`chown root:root {shown} && chmod go-w {shown}`, and look at what is in it");
        if found != kind {
            let fix = "name the file itself in the policy; a symlink can be redirected".to_owned();
            return refuse(format!("{shown} is not a plain {}", kind_name(kind)), fix);
        }
        if uid != 0 {
            return refuse(format!("{shown} belongs to user {uid}, who decides by it what is signed"), fix);
        }
        if mode & 0o022 != 0 {
            return refuse(format!("{shown} has mode {mode:04o}: users other than root may write it"), fix);
        }
        None
    })
}

fn kind_name(kind: Kind) -> &'static str {
    if kind == Kind::Dir { "directory" } else { "file" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::FileSeen;

    const KEY: &str = "/etc/keys/a.pub";

    fn owner(uid: u32, mode: u32, kind: Kind) -> Result<Owner, String> {
        Ok(Owner { uid, mode, kind, links: 1 })
    }

    /// A host without problems.
    fn well() -> Observed {
        let bytes =
            format!(r#"{{"default": [{{"type": "sigstoreSigned", "keyPath": "{KEY}"}}]}}"#).into_bytes();
        let mut observed = Observed::default();
        observed.files.insert(POLICY.into(), FileSeen { bytes, mode: 0o644 });
        for file in [POLICY, KEY] {
            observed.trust.insert(file.into(), owner(0, 0o644, Kind::File));
        }
        for dir in ["/", "/etc", "/etc/containers", "/etc/keys"] {
            observed.trust.insert(dir.into(), owner(0, 0o755, Kind::Dir));
        }
        observed
    }

    fn said(observed: &Observed) -> Option<String> {
        let image = format!("ghcr.io/a/b@sha256:{}", "0".repeat(64)).parse().unwrap();
        judge(observed, &image).map(|problem| {
            assert!(!problem.fix.is_empty());
            problem.what
        })
    }

    #[test]
    fn only_root_decides_what_is_signed() {
        assert_eq!(said(&well()), None);
        for (path, seen, part) in [
            (POLICY, owner(1000, 0o644, Kind::File), "belongs to user 1000"),
            (POLICY, owner(0, 0o664, Kind::File), "has mode 0664"),
            ("/etc/containers", owner(0, 0o777, Kind::Dir), "has mode 0777"),
            ("/etc/containers", owner(7, 0o755, Kind::Dir), "belongs to user 7"),
            (KEY, owner(0, 0o646, Kind::File), "/etc/keys/a.pub has mode 0646"),
            (KEY, owner(1000, 0o644, Kind::File), "belongs to user 1000"),
            (KEY, owner(0, 0o777, Kind::Symlink), "is not a plain file"),
            (KEY, Err("Permission denied".into()), "cannot check permissions of /etc/keys/a.pub"),
            ("/etc/keys", owner(0, 0o775, Kind::Dir), "/etc/keys has mode 0775"),
        ] {
            let mut observed = well();
            observed.trust.insert(path.into(), seen);
            let said = said(&observed).unwrap_or_default();
            assert!(said.contains(part), "{path}: {said:?}");
        }
        let mut observed = well();
        observed.trust.remove(Path::new(KEY));
        assert!(said(&observed).unwrap().contains("is not there"));
    }

    #[test]
    fn a_policy_in_roots_home_is_absent_or_a_problem() {
        for (seen, part) in [
            (owner(0, 0o644, Kind::File), "is there"),
            (owner(0, 0o777, Kind::Symlink), "is there"),
            (owner(0, 0o644, Kind::Other), "is there"),
            (Err("Permission denied".into()), "cannot check whether"),
        ] {
            let mut observed = well();
            observed.trust.insert(ROOTS_OWN_POLICY.into(), seen);
            assert!(said(&observed).unwrap().contains(part), "{part}");
        }
    }
}
