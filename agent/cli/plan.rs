//! `plan` and `--dry-run`: the steps that a verb would take, with a diff of each file. Changes no part of the
//! service.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use serde::Serialize;
use similar::TextDiff;

use super::engine::Reason;
use super::session::Session;
use super::{Plan as Args, mutate, out, terminal, unit, waiting};
use crate::config::Config;
use crate::converge::{Reconciler, Refused, RollbackTarget, Selector, Snapshot, VerbRequest};
use crate::host::signals::Signals;
use crate::model::entry::Verb;
use crate::model::envfile::ManagedLines;
use crate::model::image::PinnedImage;
use crate::model::instance::ServiceName;
use crate::model::name::CADDYFILE;
use crate::model::observed::Observed;
use crate::model::plan::Plan;
use crate::model::step::{Content, Step};
use crate::plan::accessories;

mod text;

/// The JSON of `plan --json`.
#[derive(Clone, Debug, Default, Serialize)]
struct Shown {
    verb: &'static str,
    from: Option<Named>,
    /// `None`: the verb deploys no release.
    to: Option<Named>,
    /// Steps that bring the host to agent.toml.
    host: Vec<String>,
    /// Steps that deploy the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<Vec<String>>,
    /// Index in `release` of the commit step.
    commit: Option<usize>,
    /// How the verb changes whether the tag is followed, if it changes nothing else of the release.
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<&'static str>,
    /// Diffs of files, in step order.
    changes: Vec<Change>,
    warnings: Vec<String>,
}

/// A release and its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Named {
    release: u64,
    image: PinnedImage,
    /// The images of services that have their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    images: BTreeMap<ServiceName, PinnedImage>,
}

impl Named {
    /// The release of these lines.
    fn of(lines: &ManagedLines, config: &Config) -> Self {
        Self { release: lines.release, image: lines.app.image.clone(), images: config.own_images(lines) }
    }
}

/// A file that a step writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Change {
    /// Index among all steps of the answer.
    step: usize,
    path: String,
    /// In the format of `diff -u`.
    diff: String,
}

/// The request that the planned verb itself would make.
pub(super) fn ask(args: &Args) -> Result<VerbRequest, Refused> {
    let (verb, selector) = match args {
        Args { digest: Some(digest), .. } => (Verb::DeploySha, Selector::digest(mutate::known(digest)?)),
        Args { to: Some(to), .. } => (Verb::Rollback, Selector::Rollback(mutate::back(Some(to))?)),
        Args { rollback: true, .. } => (Verb::Rollback, Selector::Rollback(RollbackTarget::Nearest)),
        Args { reconcile: true, .. } => (Verb::Reconcile, Selector::Keep),
        Args { keep_image: true, .. } => (Verb::Deploy, Selector::Committed),
        Args { image, .. } => (Verb::Deploy, mutate::chosen(image)?),
    };
    let migrate = args.attempt.policy();
    Ok(VerbRequest {
        verb,
        selector,
        only: mutate::only(&args.services),
        migrate,
        force: args.attempt.force,
        soak: true,
        actor: unit::actor(false),
    })
}

/// Exit code 0 for every plan. A refusal of the run is a refusal of the plan.
pub(super) async fn run(ask: &VerbRequest, json: bool) -> Result<u8, Refused> {
    let waiting = waiting::begin("looking at the host", json);
    let session = Session::open(waiting.detail(), Signals::none()).await?;
    let reconciler = session.reconciler(waiting.watch())?;
    let mut snapshot = reconciler.snapshot(true).await?;
    match reconciler.refuse_env(&snapshot) {
        // Before the agent's first commit, APP_IMAGE was written by another tool: it is ignored for the plan.
        Err(refused) if snapshot.history.commits.is_empty() => {
            out::warning(&format!("{refused}, and a run is refused"))
        }
        refused => refused?,
    }
    let mut host = reconciler.host_plan(&snapshot, ask)?;
    reconciler.check_caddyfiles(&snapshot, &host).await?;
    let release = match ask.selector {
        Selector::Keep => None,
        _ => {
            let request = reconciler.request(ask, &snapshot).await?;
            reconciler.ask_for(&request, &mut snapshot).await?;
            Some(reconciler.release_plan(&snapshot, &request)?)
        }
    };
    drop(waiting);
    if ask.verb.is_new() {
        let new = accessories::new(&reconciler.inputs(&snapshot));
        host.warnings.extend(new.map(|new| format!("it first starts the accessory {}", new.service.name)));
    }
    let choice =
        release.as_ref().filter(|plan| plan.is_empty()).and_then(|_| reconciler.choice(ask, &snapshot));
    let shown = Shown { choice, ..shown(ask.verb, &reconciler, &snapshot, &host, release.as_ref()) };
    if json {
        out::json(&shown);
    } else {
        if matches!(session.engine.reason, Reason::Socket | Reason::Default) {
            out::line(&format!("engine {}", session.engine));
        }
        out::line(&text::text(&shown, terminal::columns(), std::io::stdout().is_terminal()));
    }
    Ok(0)
}

fn shown(
    verb: Verb,
    reconciler: &Reconciler<'_>,
    snapshot: &Snapshot,
    host: &Plan,
    release: Option<&Plan>,
) -> Shown {
    let lines = |plan: &Plan| plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = host.steps.iter().chain(release.iter().flat_map(|plan| &plan.steps));
    let candidate = release.and_then(|plan| plan.candidate.as_ref());
    Shown {
        verb: verb.as_str(),
        from: reconciler.inputs(snapshot).committed().map(|lines| Named::of(&lines, reconciler.config)),
        to: candidate.map(|candidate| Named::of(&candidate.lines, reconciler.config)),
        host: lines(host),
        release: release.map(lines),
        commit: release.and_then(|plan| plan.commit),
        choice: None,
        changes: all.enumerate().filter_map(|(n, step)| change(n, step, &snapshot.observed)).collect(),
        warnings: host
            .warnings
            .iter()
            .chain(release.iter().flat_map(|plan| &plan.warnings))
            .cloned()
            .collect(),
    }
}

/// The diff of the file that `step` writes. Env files show only the names of changed keys, which the step's
/// own line has.
fn change(number: usize, step: &Step, observed: &Observed) -> Option<Change> {
    let (path, new) = match step {
        Step::WriteFile { path, content: Content::Plain(new), .. } => (path.clone(), new),
        Step::LoadCaddy { content: Content::Plain(new), .. } => (CADDYFILE.into(), new),
        _ => return None,
    };
    let old = observed.files.get(&path).map(|seen| seen.bytes.as_slice());
    let path = path.display().to_string();
    let diff = difference(&path, old, new);
    (!diff.is_empty()).then_some(Change { step: number, path, diff })
}

/// The diff in the format of `diff -u`; a new file is compared with /dev/null.
fn difference(path: &str, old: Option<&[u8]>, new: &[u8]) -> String {
    let (before, after) = (String::from_utf8_lossy(old.unwrap_or_default()), String::from_utf8_lossy(new));
    let from = if old.is_some() { path } else { "/dev/null" };
    TextDiff::from_lines(before.as_ref(), after.as_ref())
        .unified_diff()
        .context_radius(3)
        .header(from, path)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::FileSeen;
    use crate::model::secret::Secret;

    #[test]
    fn every_written_file_has_a_diff_except_secret_ones() {
        let seen = |text: &str| FileSeen { bytes: text.into(), mode: 0o644 };
        let mut observed = Observed::default();
        observed.files.insert(CADDYFILE.into(), seen("a\nb\n"));
        let load = Step::LoadCaddy { content: Content::Plain(b"a\nc\n".to_vec()), in_use: false };
        let change_of = change(4, &load, &observed).unwrap();
        assert_eq!((change_of.step, change_of.path.as_str()), (4, CADDYFILE));
        assert_eq!(
            change_of.diff,
            format!("--- {CADDYFILE}\n+++ {CADDYFILE}\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n")
        );

        let write = |content| Step::WriteFile { path: "/etc/new.conf".into(), mode: 0o644, content };
        let new = change(0, &write(Content::Plain(b"x\n".to_vec())), &observed).unwrap();
        assert_eq!(new.diff, "--- /dev/null\n+++ /etc/new.conf\n@@ -0,0 +1 @@\n+x\n");
        assert_eq!(change(0, &write(Content::Plain(Vec::new())), &observed), None);
        let (bytes, changed) = (b"KEY=canary\n".to_vec(), vec!["KEY".parse().unwrap()]);
        assert_eq!(change(0, &write(Content::Secret { bytes, changed }), &observed), None);
        assert_eq!(Secret::new("canary").to_string(), "***");
    }
}
