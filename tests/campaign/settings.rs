//! The size and the place of a campaign, from environment variables.

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::{Context, Result};

/// The repository.
pub const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Clone, Debug)]
pub struct Settings {
    /// CAMPAIGN_DIR: the directory of the results.
    pub dir: PathBuf,
    /// CAMPAIGN_PROOF: the page to write; the tables are beside it.
    pub proof: PathBuf,
    /// CAMPAIGN_AGENT: the binary to measure instead of the committed one.
    pub agent: Option<PathBuf>,
    /// CAMPAIGN_HOSTS: prefix of the host names; two campaigns at the same time need two.
    pub hosts: String,
    /// CAMPAIGN_RATE, CAMPAIGN_WEBSOCKETS: requests a second, open WebSockets.
    pub rate: u32,
    pub websockets: usize,
    /// CAMPAIGN_DEPLOYS, CAMPAIGN_CALM: deploys in a row, seconds of load without a deploy.
    pub deploys: usize,
    pub calm: u64,
    /// CAMPAIGN_WATCH: seconds that the baseline observes after a command. CAMPAIGN_WAYS, CAMPAIGN_CASES: only
    /// these of its contenders and cases, separated by commas.
    pub watch: u64,
    pub ways: Option<String>,
    pub cases: Option<String>,
    /// CAMPAIGN_KILLS: kills by the clock.
    pub kills: usize,
    /// CAMPAIGN_FAULTS: short, full or the names of rows.
    pub faults: String,
    /// CAMPAIGN_OPERATOR, CAMPAIGN_SIDE_BY_SIDE: sequences on podman (half as many on docker), hosts at a time.
    pub operator: usize,
    pub side_by_side: usize,
    /// CAMPAIGN_CUTS, CAMPAIGN_SEED: power cuts, and the seed of a new choice of them.
    pub cuts: usize,
    pub seed: Option<u64>,
    /// CAMPAIGN_FUZZ_SECONDS: of each target.
    pub fuzz_seconds: u64,
}

impl Settings {
    /// `short` has smaller defaults.
    pub fn read(short: bool, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = |name: &str| variable(&format!("CAMPAIGN_{name}")).filter(|text| !text.is_empty());
        let number = |name: &str, full: u64, small: u64| match text(name) {
            Some(text) => text.parse().with_context(|| format!("CAMPAIGN_{name}={text}")),
            None => Ok(if short { small } else { full }),
        };
        let size =
            |name: &str, full: u64, small: u64| Ok::<_, anyhow::Error>(number(name, full, small)? as usize);
        let cpus = available_parallelism().map_or(1, |n| n.get() as u64);
        let dir = text("DIR").map(PathBuf::from);
        let proof = match (text("PROOF"), &dir) {
            (Some(proof), _) => PathBuf::from(proof),
            // Results that are not those of the project do not become its page.
            (None, Some(dir)) => dir.join("proof.md"),
            (None, None) => Path::new(PROJECT).join("docs/proof.md"),
        };
        Ok(Self {
            dir: dir.unwrap_or_else(|| target(&variable).join("campaign")),
            proof,
            agent: text("AGENT").map(PathBuf::from),
            hosts: text("HOSTS").unwrap_or_else(|| "campaign".into()),
            rate: number("RATE", 200, 200)? as u32,
            websockets: size("WEBSOCKETS", 10, 10)?,
            deploys: size("DEPLOYS", 100, 6)?,
            calm: number("CALM", 60, 20)?,
            watch: number("WATCH", 45, 15)?,
            ways: text("WAYS"),
            cases: text("CASES"),
            kills: size("KILLS", 200, 10)?,
            faults: text("FAULTS").unwrap_or_else(|| if short { "short" } else { "full" }.into()),
            operator: size("OPERATOR", 200, 4)?,
            side_by_side: size("SIDE_BY_SIDE", cpus, cpus)?,
            cuts: size("CUTS", 30, 3)?,
            seed: text("SEED").map(|seed| seed.parse().context("CAMPAIGN_SEED")).transpose()?,
            fuzz_seconds: number("FUZZ_SECONDS", 3600, 20)?,
        })
    }
}

/// The directory of all that is built.
fn target(variable: &impl Fn(&str) -> Option<String>) -> PathBuf {
    Path::new(PROJECT).join(variable("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_override_the_defaults_of_a_full_and_of_a_short_campaign() {
        let of = |name: &str| (name == "CAMPAIGN_CUTS").then(|| "7".to_owned());
        let full = Settings::read(false, of).unwrap();
        let short = Settings::read(true, of).unwrap();
        assert_eq!((full.cuts, full.deploys, full.faults.as_str()), (7, 100, "full"));
        assert_eq!((short.cuts, short.deploys, short.faults.as_str()), (7, 6, "short"));
        assert!(Settings::read(false, |_| Some("many".into())).is_err());
    }

    #[test]
    fn results_elsewhere_do_not_become_the_page_of_the_project() {
        let elsewhere = |name: &str| (name == "CAMPAIGN_DIR").then(|| "/tmp/x".to_owned());
        assert_eq!(Settings::read(false, elsewhere).unwrap().proof, Path::new("/tmp/x/proof.md"));
        assert_eq!(Settings::read(false, |_| None).unwrap().proof, Path::new(PROJECT).join("docs/proof.md"));
    }
}
