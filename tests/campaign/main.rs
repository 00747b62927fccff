//! The proof campaign: tests that take hours, and the page that says what they showed. Each part runs alone or
//! with the others, unattended, and continues where it was interrupted. Results are lines of JSON in
//! target/campaign (records.rs); the settings are environment variables (settings.rs).

mod baseline;
mod cuts;
mod host;
mod load;
mod records;
mod replay;
mod report;
#[allow(dead_code, reason = "the tests record them")]
mod rows;
mod settings;
mod store;
mod suite;
#[path = "../host/report.rs"]
mod traffic;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};

use settings::Settings;
use store::{Store, forget};

/// Proves the claims of docs/proof.md, and writes it.
#[derive(Parser)]
#[command(
    after_help = "Sizes: CAMPAIGN_DEPLOYS, CAMPAIGN_KILLS, CAMPAIGN_CUTS, … (tests/campaign/settings.rs)"
)]
struct Arguments {
    #[arg(required = true)]
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Deploys in a row under load
    Load,
    /// The same load under other ways to deploy
    Baseline,
    /// The agent killed at any moment
    Kills,
    /// The host made to fail
    Faults,
    /// Random sequences of operations, on podman and on docker
    Operator,
    /// Power cuts on a disk that loses unflushed writes
    Cuts,
    /// Bad input
    Fuzz,
    /// The pages, from the recorded results
    Report,
    /// All of them; a part that fails does not stop the next
    All,
    /// All of them in small
    Short,
    /// Forgets the results: the next part starts a campaign, with the agent as committed
    New,
}

const ALL: [Part; 8] = [
    Part::Load,
    Part::Baseline,
    Part::Kills,
    Part::Faults,
    Part::Operator,
    Part::Cuts,
    Part::Fuzz,
    Part::Report,
];

fn run(part: Part, settings: &Settings) -> Result<()> {
    let store = || Store::open(settings);
    match part {
        Part::Load => load::run(settings, &store()?),
        Part::Baseline => baseline::run(settings, &store()?),
        Part::Kills => suite::kills(settings, &store()?),
        Part::Faults => suite::faults(settings, &store()?),
        Part::Operator => suite::operator(settings, &store()?),
        Part::Cuts => cuts::run(settings, &store()?),
        Part::Fuzz => suite::fuzz(settings, &store()?),
        Part::Report => report::run(settings),
        Part::New => forget(&settings.dir),
        Part::All | Part::Short => Ok(()),
    }
}

fn campaign() -> Result<()> {
    let parts = Arguments::parse().parts;
    ensure!(nix::unistd::geteuid().is_root(), "needs root (containers, mounts): run it with sudo");
    let mut failed = Vec::new();
    for part in parts {
        let settings = Settings::read(part == Part::Short, |name| std::env::var(name).ok())?;
        let parts = if matches!(part, Part::All | Part::Short) { ALL.to_vec() } else { vec![part] };
        for part in parts {
            if let Err(error) = run(part, &settings) {
                let name = format!("{part:?}").to_lowercase();
                eprintln!("campaign: {name}: {error:#}");
                failed.push(name);
            }
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn main() -> ExitCode {
    match campaign() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("campaign: {error:#}");
            ExitCode::FAILURE
        }
    }
}
