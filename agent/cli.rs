//! Floor 5: the command line. One verb a file; each parses, calls and prints, and decides nothing.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::model::image::{DigestArg, TrackedImage};
use crate::model::outcome::EXIT_USAGE;

mod check;
mod cron;
mod doctor;
mod env;
mod fit;
mod history;
mod mutate;
pub mod out;
mod plan;
mod progress;
mod report;
mod session;
mod status;
mod step_line;
mod terminal;
mod turn;
mod unit;
mod waiting;

/// How long a reader of a run may keep its end waiting.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Deploys a container app on this host: by digest, without losing a request, with a way back.
#[derive(Parser)]
#[command(name = "astra-agent", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Run here instead of in a transient systemd unit
    #[arg(long, global = true, hide = true)]
    in_unit: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// First boot: directories, units, Caddy and the first deploy; safe to run again
    Install(Mutate),
    /// Converge to the config and the newest digest of the tracked tag
    Deploy(Deploy),
    /// Deploy one digest: 64 hex digits, sha256:…, or image@sha256:…
    DeploySha(DeploySha),
    /// Deploy the release before this one again; needs no registry
    Rollback(Rollback),
    /// Keep the committed release: repair files, units and instances; deploys nothing
    Reconcile(Mutate),
    /// Close a run that was cut off; astra.env says what must run
    Recover(Mutate),
    /// Restart Caddy from the image that [caddy] image means now; about a second without answers
    CaddyUpgrade(Mutate),
    /// Show what a verb would do, and change nothing
    Plan(Plan),
    /// What runs, what is held, what differs
    Status(Status),
    /// The runs of this host, newest first
    History(History),
    /// Check agent.toml and the env file; without root, a config that is not this host's
    Check(Check),
    /// Find what is unsafe or broken on this host, and say the fix for each; changes nothing
    Doctor,
    /// The app's environment
    #[command(subcommand)]
    Env(Env),
    /// Cron jobs
    #[command(subcommand)]
    Cron(Cron),
}

/// What every mutating verb takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Mutate {
    /// Wait that long for another run to end, e.g. 60s
    #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
    wait: Option<std::time::Duration>,
}

#[derive(Args)]
struct Deploy {
    /// Another tag of the app's repository instead of the tracked one
    #[arg(long, value_name = "REF")]
    image: Option<TrackedImage>,
    /// Keep the image that serves: bring only a changed environment and changed arguments
    #[arg(long, conflicts_with = "image")]
    keep_image: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct DeploySha {
    #[arg(value_name = "DIGEST")]
    digest: DigestArg,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Rollback {
    /// Number or digest of an earlier release
    #[arg(long, value_name = "N|DIGEST")]
    to: Option<String>,
    #[command(flatten)]
    how: How,
}

/// How a release is brought into service.
#[derive(Args, Clone, Debug, Default)]
struct How {
    /// Do not run migrations
    #[arg(long, conflicts_with = "migrate")]
    no_migrate: bool,
    /// Run migrations even for a digest that this host has run before
    #[arg(long)]
    migrate: bool,
    /// Try a held release again
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    mutate: Mutate,
}

#[derive(Args)]
struct Plan {
    /// Plan for this digest instead of the tracked tag
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["rollback", "reconcile"])]
    digest: Option<DigestArg>,
    /// Plan a deploy of the image that serves
    #[arg(long, conflicts_with_all = ["digest", "rollback", "reconcile"])]
    keep_image: bool,
    /// Plan a rollback
    #[arg(long)]
    rollback: bool,
    /// Plan a reconcile
    #[arg(long, conflicts_with = "rollback")]
    reconcile: bool,
}

#[derive(Args, Default)]
pub struct Check {
    /// Check this file alone, as the whole config: needs neither root nor a host
    #[arg(value_name = "FILE", conflicts_with = "root")]
    file: Option<std::path::PathBuf>,
    /// Check agent.toml and agent.d below DIR/etc/astra: needs neither root nor a host
    #[arg(long, value_name = "DIR")]
    root: Option<std::path::PathBuf>,
}

#[derive(Args)]
struct Status {
    /// Follow the run that is under way to its end; without one, refresh every 2 s
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
struct History {
    /// Number of runs to show, the newest first; 0 shows all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20)]
    lines: usize,
}

#[derive(Subcommand)]
enum Env {
    /// Check the env file line by line
    Check,
    /// List the variables, values masked
    List,
    /// Set a variable; the value is read from standard input, so that it never stands in a process list
    Set {
        key: crate::model::name::EnvKey,
        /// Set it to an empty text, without reading anything
        #[arg(long)]
        empty: bool,
    },
    /// Remove a variable with the next deploy
    Unset { key: crate::model::name::EnvKey },
}

#[derive(Subcommand)]
enum Cron {
    /// List the jobs, when they ran and when they run next
    List,
    /// Run a job now, and wait for its end
    Run { name: crate::model::name::CronName },
}

/// Parse the command line, do the verb, and answer with the exit code.
pub async fn run() -> u8 {
    // Known from here on: the binary may be replaced at any moment. Whoever needs it says that it is not.
    let _ = crate::host::binary::path();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE } else { 0 };
        }
    };
    let done = match cli.verb {
        Verb::Plan(what) => plan::run(&what, cli.json).await,
        Verb::Status(what) => status::run(what.watch, cli.json).await,
        Verb::History(what) => history::run(what.lines, cli.json),
        Verb::Check(what) => check::run(&what, cli.json),
        Verb::Doctor => doctor::run(cli.json).await,
        Verb::Env(what) => env::run(&what, cli.json).await,
        Verb::Cron(what) => cron::run(&what, cli.json).await,
        mutating => mutate::run(mutating, cli.json, cli.in_unit).await,
    };
    let code = done.unwrap_or_else(|refused| {
        report::refusal(&refused, cli.json);
        refused.exit_code
    });
    // A reader of `history | less` may take all day; a run has to end.
    out::finish(if cli.in_unit { LAST_WORDS } else { Duration::MAX });
    code
}
