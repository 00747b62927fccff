//! A row of the table: one fault, and how the agent answers it.

use super::registry::Registry;
use super::site::Site;
use crate::harness::Output;

/// An error says why an act failed, or which expectation does not hold.
pub type Done = Result<(), String>;
pub type Act = fn(&Site) -> Done;

/// The release that is pushed before the command.
#[derive(Clone, Copy)]
pub enum Push {
    /// The one of v1 and v2 that does not serve.
    Other,
    /// A tag of the test's registry. v3 is not in the store, so it has to be pulled.
    Tag(&'static str),
}

/// One fault.
#[derive(Clone, Copy)]
pub struct Row {
    /// The number in the list of faults; a letter tells variants apart.
    pub id: &'static str,
    /// The fault, in words.
    pub what: &'static str,
    /// Part of the short tier.
    pub short: bool,
    pub push: Push,
    /// The registry's behaviour meanwhile.
    pub registry: Registry,
    /// Provokes the fault, before there is any traffic.
    pub before: Act,
    /// Runs beside the command from its start: provokes a fault in its middle.
    pub beside: Act,
    /// The command under test, as a user types it.
    pub run: &'static str,
    /// Types it, with a limit in seconds.
    pub typed: fn(&Site, &str, u64) -> Result<Output, String>,
    /// Accepted exit codes.
    pub code: &'static [i32],
    /// Texts that the output must contain.
    pub says: &'static [&'static str],
    /// Whether the pushed release is committed in the end; see [`Row::commits_with`].
    pub commits: bool,
    /// Holds once the command has ended with this output, while the fault lasts.
    pub then: fn(&Site, &Output) -> Done,
    /// Removes the fault. The helpers that an act has started have ended, and agent.toml is restored afterwards.
    pub cure: Act,
    /// Why requests may be lost: no instance can serve, or nothing can pass the requests on.
    pub may_lose: &'static str,
    /// The part that a later recover or reconcile has to repair, if the command could not: otherwise the host is whole
    /// as soon as the fault is removed.
    pub repair: &'static str,
    /// A command that takes longer counts as hung.
    pub seconds: u64,
}

pub const DEPLOY: &str = "astra-agent deploy --force --wait 60s";

/// A deploy of a good release without any fault; it does not commit.
pub const ROW: Row = Row {
    id: "",
    what: "",
    short: false,
    push: Push::Other,
    registry: Registry::GOOD,
    before: |_| Ok(()),
    beside: |_| Ok(()),
    run: DEPLOY,
    typed: |site, line, seconds| Ok(site.command(line, seconds)),
    code: &[0],
    says: &[],
    commits: false,
    then: |_, _| Ok(()),
    cure: |_| Ok(()),
    may_lose: "",
    repair: "",
    seconds: 120,
};

/// A deploy that succeeds in spite of the fault.
pub const GOES_ON: Row = Row { commits: true, ..ROW };

impl Row {
    /// Whether the pushed release is committed after this exit code: a deploy that may fail, and did not, has
    /// committed it.
    pub fn commits_with(&self, code: i32) -> bool {
        self.commits || code == 0 && self.code.len() > 1 && self.run.contains("deploy")
    }

    /// `wish`: full, short, or ids; an id without its letter means all variants.
    pub fn is_wanted(&self, wish: &str) -> bool {
        match wish {
            "full" => true,
            "short" => self.short,
            ids => {
                ids.split(',').any(|id| self.id == id || self.id.trim_end_matches(char::is_lowercase) == id)
            }
        }
    }
}
