//! `plan`: every verb as a dry run, with a readable difference of each file.

use serde_json::json;
use similar::TextDiff;

use super::session::Session;
use super::{Plan as What, out, progress, unit};
use crate::converge::{Ask, Back, Foreman, Look, Refused, Want};
use crate::host::signals::Signals;
use crate::model::entry::Verb;
use crate::model::plan::Plan;
use crate::model::step::{Content, Step};
use crate::plan::migrations::Wish;

/// Exit code 0, whatever the plan says: a plan is no judgement. What a run would refuse is refused.
pub(super) async fn run(what: &What, json: bool) -> Result<u8, Refused> {
    let (watch, detail) = progress::watch(true);
    let session = Session::open(detail, Signals::none()).await?;
    let foreman = session.foreman(watch)?;
    let look = foreman.look(true).await?;
    match foreman.refuse_env(&look) {
        // Before the agent's first commit APP_IMAGE is another tool's line: planned as if it were not there.
        Err(refused) if look.history.commits.is_empty() => {
            out::warning(&format!("{refused}, and a run is refused"))
        }
        refused => refused?,
    }
    let ask = ask(what);
    let mut parts = vec![("host", foreman.keep_plan(&look, ask.verb))];
    if !what.reconcile {
        parts.push(("moves", foreman.move_plan(&look, ask.verb)?));
        let request = foreman.request(&ask, &look).await?;
        parts.push(("release", foreman.release_plan(&look, &request)?));
    }
    if json {
        let steps = |plan: &Plan| plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>();
        let all: serde_json::Map<_, _> =
            parts.iter().map(|(name, plan)| ((*name).to_owned(), json!(steps(plan)))).collect();
        out::json(&all);
        return Ok(0);
    }
    if parts.iter().all(|(_, plan)| plan.is_empty()) {
        out::line("nothing to do");
    }
    for (_, plan) in parts {
        show(&foreman, &look, &plan);
    }
    Ok(0)
}

fn ask(what: &What) -> Ask {
    let (verb, want) = match &what.digest {
        Some(digest) => (Verb::DeploySha, Want::Digest(digest.clone())),
        None if what.rollback => (Verb::Rollback, Want::Back(Back::Nearest)),
        None if what.reconcile => (Verb::Reconcile, Want::Keep),
        None if what.keep_image => (Verb::Deploy, Want::Committed),
        None => (Verb::Deploy, Want::Tracked),
    };
    Ask { verb, want, migrate: Wish::Auto, force: false, actor: unit::actor(false) }
}

fn show(_: &Foreman<'_>, look: &Look, plan: &Plan) {
    for warning in &plan.warnings {
        out::warning(warning);
    }
    for (number, step) in plan.steps.iter().enumerate() {
        let commit = if plan.commit == Some(number) { "   <- commit point" } else { "" };
        out::line(&format!("{:>3}  {step}{commit}", number + 1));
        if let Step::WriteFile { path, content: Content::Plain(new), .. } = step {
            let old = look.observed.files.get(path).map(|f| f.bytes.clone()).unwrap_or_default();
            difference(&String::from_utf8_lossy(&old), &String::from_utf8_lossy(new));
        }
    }
}

/// As `diff -u` shows it, indented.
fn difference(old: &str, new: &str) {
    if old.is_empty() {
        return;
    }
    let diff = TextDiff::from_lines(old, new);
    for line in diff.unified_diff().context_radius(1).to_string().lines() {
        out::line(&format!("       {line}"));
    }
}
