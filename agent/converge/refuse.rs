//! Preconditions of a run: a readable journal and astra.env.

use super::{Event, Reconciler, Refused, Snapshot, VerbRequest};
use crate::model::entry::Verb;
use crate::model::history::History;
use crate::model::image::PinnedImage;
use crate::model::observed::Observed;
use crate::model::problem::Problem;
use crate::plan::release::Refusal;

/// The committed image, and whether it is pinned.
pub(super) struct Committed {
    pub image: PinnedImage,
    pub chosen: bool,
}

impl Refused {
    /// The release is held: nothing else is wrong.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.error.downcast_ref(), Some(Refusal::Held { .. }))
    }
}

impl Reconciler<'_> {
    pub(super) fn refuse_in_safe_mode(&self, ask: &VerbRequest, history: &History) -> Result<(), Refused> {
        let Some(damage) = &history.damaged else { return Ok(()) };
        if matches!(ask.verb, Verb::DeploySha | Verb::Rollback) {
            (self.watch)(&Event::Warning(&format!(
                "the journal is damaged ({damage}); continuing, because an operator asked"
            )));
            return Ok(());
        }
        let fix = "only `status`, `rollback` and `deploy-sha` work until the file is moved away; automatic runs are \
                   suspended";
        Err(Problem::unfinished("journal", format!("the journal is damaged: {damage}"), fix).into())
    }

    /// The committed release from astra.env, read before anything else.
    ///
    /// # Errors
    /// It names none although one was committed: a run would stop what is serving.
    pub(super) fn committed(&self, history: History) -> Result<Option<Committed>, Refused> {
        let path = self.config.name.env_file();
        let mut observed = Observed::default();
        match self.host.files.read(&path) {
            Ok(Some(seen)) => _ = observed.files.insert(path, seen),
            Ok(None) => {}
            // A path that is not a regular file is reported by the snapshot.
            Err(_) => return Ok(None),
        }
        let snapshot = Snapshot { observed, history, caddy_image: None };
        self.refuse_nameless_env(&snapshot)?;
        let inputs = self.inputs(&snapshot);
        Ok(inputs.committed().map(|lines| Committed { image: lines.app.image, chosen: inputs.is_chosen() }))
    }

    /// # Errors
    /// The committed release cannot be read from astra.env.
    pub fn refuse_env(&self, snapshot: &Snapshot) -> Result<(), Refused> {
        if let Err(error) = self.inputs(snapshot).env_file().managed() {
            let file = self.config.name.env_file();
            let fix = match snapshot.history.commits.is_empty() {
                true => {
                    "no deploy of this agent wrote it: delete the line APP_IMAGE, which the first deploy writes anew"
                }
                false => "`astra-agent doctor` says what to write",
            };
            let what = format!("reading {}: {error}", file.display());
            return Err(Problem::config("app_image", what, fix).into());
        }
        self.refuse_nameless_env(snapshot)
    }

    fn refuse_nameless_env(&self, snapshot: &Snapshot) -> Result<(), Refused> {
        let inputs = self.inputs(snapshot);
        if !inputs.is_nameless() {
            return Ok(());
        }
        let file = self.config.name.env_file();
        let what = format!(
            "{} names no release, although one was committed: what serves is left alone",
            file.display()
        );
        Err(Problem::config("app_image", what, inputs.name_again()).into())
    }
}
