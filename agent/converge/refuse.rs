//! What no run begins with: a journal or an astra.env that nobody can trust.

use anyhow::anyhow;

use super::{Ask, Event, Foreman, Look, Refused, Want};
use crate::model::history::History;
use crate::model::image::PinnedImage;
use crate::model::observed::Observed;
use crate::plan::release::Refusal;

/// The committed image, and whether a person chose it.
pub(super) struct Committed {
    pub image: PinnedImage,
    pub chosen: bool,
}

impl Refused {
    /// Nothing is wrong: this release failed before.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.error.downcast_ref(), Some(Refusal::Held { .. }))
    }
}

impl Foreman<'_> {
    pub(super) fn refuse_in_safe_mode(&self, ask: &Ask, history: &History) -> Result<(), Refused> {
        let Some(damage) = &history.damaged else { return Ok(()) };
        if matches!(ask.want, Want::Digest(_) | Want::Back(_)) {
            (self.watch)(&Event::Warning(&format!(
                "the journal is damaged ({damage}); going on because a person asks"
            )));
            return Ok(());
        }
        let error = anyhow!(
            "the journal is damaged: {damage}\n  hint: only `status`, `rollback` and `deploy-sha` work until the file is \
             moved away; nothing automatic runs"
        );
        Err(Refused::of(4, error))
    }

    /// What astra.env names, read before anything else is looked at.
    ///
    /// # Errors
    /// It names none although one was committed: whatever began now would stop what serves.
    pub(super) fn committed(&self, history: History) -> Result<Option<Committed>, Refused> {
        let path = self.config.app.name.env_file();
        let mut observed = Observed::default();
        match self.host.files.read(&path) {
            Ok(Some(seen)) => _ = observed.files.insert(path, seen),
            Ok(None) => {}
            // What is not a file is told by the look at the host.
            Err(_) => return Ok(None),
        }
        let look = Look { observed, history, caddy_image: None };
        self.refuse_nameless_env(&look)?;
        let inputs = self.inputs(&look);
        Ok(inputs.committed().map(|lines| Committed { image: lines.image, chosen: inputs.is_chosen() }))
    }

    /// # Errors
    /// Nobody can tell from astra.env what should run.
    pub fn refuse_env(&self, look: &Look) -> Result<(), Refused> {
        if let Err(error) = self.inputs(look).env_file().managed() {
            let file = self.config.app.name.env_file();
            let hint = match look.history.commits.is_empty() {
                true => {
                    "no deploy of this agent wrote it: delete the line APP_IMAGE, which the first deploy writes anew"
                }
                false => "`astra-agent doctor` says what to write",
            };
            return Err(Refused::of(2, anyhow!("reading {}: {error}\n  hint: {hint}", file.display())));
        }
        self.refuse_nameless_env(look)
    }

    fn refuse_nameless_env(&self, look: &Look) -> Result<(), Refused> {
        let inputs = self.inputs(look);
        if !inputs.is_nameless() {
            return Ok(());
        }
        let file = self.config.app.name.env_file();
        let error = anyhow!(
            "{} names no release, although one was committed: what serves is left alone\n  hint: {}",
            file.display(),
            inputs.name_again()
        );
        Err(Refused::of(2, error))
    }
}
