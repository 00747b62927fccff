//! Floor 5: the command line. One verb a file; each parses, calls and prints, and decides nothing.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::model::instance::ServiceName;
use crate::model::selector::{DigestSelector, ReleaseSelector};
use crate::plan::migrations::MigratePolicy;

mod check;
mod config;
mod cron;
mod doctor;
mod engine;
mod env;
mod fit;
mod help;
mod history;
mod mutate;
pub mod out;
mod plan;
mod progress;
mod report;
mod scale;
mod session;
mod status;
mod step_line;
mod terminal;
mod turn;
mod unit;
mod wait;
mod waiting;

pub use help::command;

/// How long output may block the end of a run inside its unit.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Deploys a container app on this host: by digest, without losing a request, with rollback.
#[derive(Parser)]
#[command(name = "astra-agent", version, max_term_width = 80)]
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
    #[command(after_help = help::MUTATES)]
    Install(Mutate),
    /// Converge to the config and the newest digest of the tracked tag
    #[command(after_help = help::DEPLOY)]
    Deploy(Deploy),
    /// Deploy one digest, and stay at it until a plain `deploy`
    #[command(after_help = help::DEPLOY_SHA)]
    DeploySha(DeploySha),
    /// Deploy the release before this one again; needs no registry
    #[command(after_help = help::ROLLBACK)]
    Rollback(Rollback),
    /// Keep the committed release: repair files, units and instances; deploys only with `auto`
    #[command(after_help = help::MUTATES)]
    Reconcile(Reconcile),
    /// Close a run that was cut off; astra.env says what must run
    #[command(after_help = help::MUTATES)]
    Recover(Mutate),
    /// Update Caddy to the current image of [caddy] image; about a second without answers
    #[allow(rustdoc::broken_intra_doc_links, reason = "clap shows the text as it is")]
    #[command(after_help = help::MUTATES)]
    CaddyUpgrade(Mutate),
    /// Run another number of instances than agent.toml has, until `resume`
    #[command(after_help = help::SCALE)]
    Scale(Scale),
    /// Stop all instances, or those of some services, until `resume`; visitors get status 503
    #[command(after_help = help::SCALE)]
    Pause(SomeServices),
    /// Back to the numbers of instances in agent.toml
    #[command(after_help = help::SCALE)]
    Resume(SomeServices),
    /// Show what a verb would do, and change nothing
    Plan(Plan),
    /// The running release, held releases, differences
    Status(Status),
    /// Return once the host serves the committed release; also waits for the first install
    #[command(after_help = help::WAIT)]
    Wait(Wait),
    /// The runs of this host, newest first
    History(History),
    /// Check agent.toml and the env file; with FILE or --root, check a config without a host and without root
    Check(Check),
    /// Show agent.toml and its fragments merged
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Find what is unsafe or broken on this host, with a fix for each; changes nothing
    Doctor,
    /// The app's environment
    #[command(subcommand)]
    Env(Env),
    /// Cron jobs
    #[command(subcommand)]
    Cron(Cron),
    /// Services beside the releases: a database, a cache
    #[command(subcommand)]
    Accessory(Accessory),
}

/// Options of every mutating verb.
#[derive(Args, Clone, Debug, Default)]
pub struct Mutate {
    /// How long to wait for another run to end, e.g. 60s
    #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
    wait: Option<std::time::Duration>,
}

#[derive(Args)]
struct Deploy {
    /// Change only these services; without one, all
    #[arg(value_name = "SERVICE", conflicts_with = "image")]
    services: Vec<ServiceName>,
    /// Another tag, or a digest, of the app's repository instead of the tracked tag; SERVICE=REF for a service with an
    /// image of its own. All other services keep the images that serve
    #[arg(long, value_name = "[SERVICE=]REF")]
    image: Vec<mutate::ImageOption>,
    /// Keep the images that serve: bring only a changed environment and changed arguments
    #[arg(long, conflicts_with = "image")]
    keep_image: bool,
    /// Restart the committed release, one instance after another, without losing a request; changes nothing else
    #[arg(long, conflicts_with_all = ["image", "keep_image", "migrate", "no_migrate", "force"])]
    restart: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct DeploySha {
    /// 64 hex digits, also as sha256:… or image@sha256:…; of a release that this host knows
    /// the first 8 are enough
    #[arg(value_name = "DIGEST")]
    digest: DigestSelector,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Rollback {
    /// Release number or digest (8 digits are enough) of an earlier release; `history` shows both
    #[arg(long, value_name = "RELEASE")]
    to: Option<ReleaseSelector>,
    #[command(flatten)]
    how: How,
}

/// Which parts of a release are tried again; `plan` has the same.
#[derive(Args, Clone, Copy, Debug, Default)]
struct Attempt {
    /// Do not run migrations
    #[arg(long, conflicts_with = "migrate")]
    no_migrate: bool,
    /// Run migrations even for a digest that this host has run before
    #[arg(long)]
    migrate: bool,
    /// Try a held release again
    #[arg(long)]
    force: bool,
}

impl Attempt {
    fn policy(self) -> MigratePolicy {
        match (self.migrate, self.no_migrate) {
            (true, _) => MigratePolicy::Always,
            (_, true) => MigratePolicy::Never,
            _ => MigratePolicy::Auto,
        }
    }
}

/// How a release is deployed.
#[derive(Args, Clone, Debug, Default)]
struct How {
    #[command(flatten)]
    attempt: Attempt,
    /// Show what it would do, as `plan` does, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not watch the release for [deploy] soak before it is committed
    #[allow(rustdoc::broken_intra_doc_links, reason = "clap shows the text as it is")]
    #[arg(long)]
    no_soak: bool,
    #[command(flatten)]
    mutate: Mutate,
}

#[derive(Args)]
struct Reconcile {
    /// Show what it would do, as `plan --reconcile` does, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    mutate: Mutate,
}

#[derive(Args)]
struct Plan {
    /// Plan `deploy SERVICE`
    #[arg(value_name = "SERVICE", conflicts_with_all = ["image", "digest", "rollback", "to", "reconcile"])]
    services: Vec<ServiceName>,
    /// Plan `deploy --image REF`, or `deploy --image SERVICE=REF`
    #[arg(long, value_name = "[SERVICE=]REF", conflicts_with_all = ["digest", "rollback", "to", "reconcile"])]
    image: Vec<mutate::ImageOption>,
    /// Plan `deploy-sha DIGEST`
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["rollback", "to", "reconcile"])]
    digest: Option<DigestSelector>,
    /// Plan `deploy --keep-image`
    #[arg(long, conflicts_with_all = ["image", "digest", "rollback", "to", "reconcile"])]
    keep_image: bool,
    /// Plan a rollback
    #[arg(long)]
    rollback: bool,
    /// Plan `rollback --to RELEASE`
    #[arg(long, value_name = "RELEASE")]
    to: Option<ReleaseSelector>,
    /// Plan a reconcile
    #[arg(long, conflicts_with_all = ["rollback", "to"])]
    reconcile: bool,
    #[command(flatten)]
    attempt: Attempt,
}

/// The arguments of `check`.
#[derive(Args, Default)]
pub struct Check {
    /// Check this file alone, as the whole config: needs neither root nor a host
    #[arg(value_name = "FILE", conflicts_with = "root")]
    file: Option<std::path::PathBuf>,
    /// Check agent.toml and agent.d below DIR/etc/astra: needs neither root nor a host
    #[arg(long, value_name = "DIR")]
    root: Option<std::path::PathBuf>,
}

/// The verbs of `config`.
#[derive(Subcommand)]
pub enum ConfigVerb {
    /// Show agent.toml and agent.d merged, each setting with its file and line, secrets masked
    Show {
        /// Show the config below DIR/etc/astra: needs neither root nor a host
        #[arg(long, value_name = "DIR")]
        root: Option<std::path::PathBuf>,
    },
}

#[derive(Args)]
struct Status {
    /// Follow the run that is under way to its end; without one, refresh every 2 s
    #[arg(long)]
    watch: bool,
}

#[derive(Args)]
struct Wait {
    /// How long to wait, e.g. 30s; 0s looks once
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = crate::config::duration)]
    timeout: Duration,
}

#[derive(Args)]
struct History {
    /// Number of runs to show, the newest first; 0 shows all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20, value_parser = count)]
    lines: usize,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "must be a whole number, e.g. 20; 0 shows all".to_owned())
}

#[derive(Subcommand)]
enum Env {
    /// Check the env file line by line
    Check,
    /// List the variables, values masked
    List,
    /// Set a variable; the value is read from standard input, so that it never stands in a process list
    Set {
        /// Name of the variable
        key: crate::model::name::EnvKey,
        /// Set it to an empty text, without reading anything
        #[arg(long)]
        empty: bool,
    },
    /// Remove a variable with the next deploy
    Unset {
        /// Name of the variable
        key: crate::model::name::EnvKey,
    },
}

#[derive(Args)]
struct Scale {
    /// A service and its number of instances: worker=3; the application is `app`
    #[arg(required = true, value_name = "SERVICE=NUMBER")]
    to: Vec<scale::Wish>,
    #[command(flatten)]
    mutate: Mutate,
}

#[derive(Args)]
struct SomeServices {
    /// Names of services; without one, all
    #[arg(value_name = "SERVICE")]
    services: Vec<ServiceName>,
    #[command(flatten)]
    mutate: Mutate,
}

#[derive(Subcommand)]
enum Accessory {
    /// Run it from the current image of its tag; goes back if that does not become ready
    #[command(after_help = help::ACCESSORY)]
    Upgrade(OneAccessory),
    /// Restart it from its image, with the settings of agent.toml; goes back if it does not become ready
    #[command(after_help = help::ACCESSORY)]
    Restart(OneAccessory),
}

#[derive(Args)]
struct OneAccessory {
    /// Its name in agent.toml: NAME of [services.NAME]
    #[allow(rustdoc::broken_intra_doc_links, reason = "clap shows the text as it is")]
    #[arg(value_name = "ACCESSORY")]
    name: crate::model::instance::ServiceName,
    #[command(flatten)]
    mutate: Mutate,
}

#[derive(Subcommand)]
enum Cron {
    /// List the jobs, when they ran and when they run next
    List,
    /// Run a job now, and wait for its end
    Run {
        /// Name of the job in agent.toml
        name: crate::model::name::CronName,
    },
}

/// Parse the command line, do the verb, and answer with the exit code.
pub async fn run() -> u8 {
    // Must be the first thing: an upgrade may replace the binary at any moment. Callers that need the path
    // report its absence.
    let _ = crate::host::binary::path();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = help::answer(&error, std::env::args().any(|word| word == "--json"));
            out::finish(Duration::MAX);
            return code;
        }
    };
    let done = match cli.verb {
        Verb::Plan(what) => match plan::ask(&what) {
            Ok(ask) => plan::run(&ask, cli.json).await,
            Err(refused) => Err(refused),
        },
        Verb::Status(what) => status::run(what.watch, cli.json).await,
        Verb::Wait(what) => wait::run(what.timeout, cli.json).await,
        Verb::History(what) => history::run(what.lines, cli.json),
        Verb::Check(what) => check::run(&what, cli.json).await,
        Verb::Config(what) => config::run(&what, cli.json),
        Verb::Doctor => doctor::run(cli.json).await,
        Verb::Env(what) => env::run(&what, cli.json).await,
        Verb::Cron(what) => cron::run(&what, cli.json).await,
        mutating => mutate::run(mutating, cli.json, cli.in_unit).await,
    };
    let code = done.unwrap_or_else(|refused| {
        report::refusal(&refused, cli.json);
        refused.exit_code()
    });
    // `history | less` may block for hours; a run inside its unit must end.
    out::finish(if cli.in_unit { LAST_WORDS } else { Duration::MAX });
    code
}
