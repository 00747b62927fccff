//! Parts that are cargo tests: they count for themselves, and record their rows (rows.rs) in the file that
//! ASTRA_RECORDS names.

use std::fs::{self, File};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::records::Tested;
use crate::rows::Row;
use crate::settings::{PROJECT, Settings};
use crate::store::{Store, lines};

/// A cargo test with its variables.
struct Suite {
    part: String,
    build: &'static str,
    variables: Vec<(&'static str, String)>,
    arguments: &'static str,
}

const DEBUG: &str = "debug build";

pub fn kills(settings: &Settings, store: &Store) -> Result<()> {
    run(
        store,
        &Suite {
            part: "kills".into(),
            build: DEBUG,
            variables: vec![("ASTRA_KILLS", settings.kills.to_string())],
            // Two hosts at a time.
            arguments: "--test host kills:: -- --nocapture --test-threads 2",
        },
    )
}

pub fn faults(settings: &Settings, store: &Store) -> Result<()> {
    run(
        store,
        &Suite {
            part: "faults".into(),
            build: DEBUG,
            variables: vec![("ASTRA_FAULTS", settings.faults.clone())],
            arguments: "--test host faults -- --nocapture --test-threads 1",
        },
    )
}

/// Each sequence is also recorded by itself (operator-sequences.jsonl), and not repeated.
pub fn operator(settings: &Settings, store: &Store) -> Result<()> {
    let engines = [("podman", settings.operator), ("docker", settings.operator.div_ceil(2))];
    let runs = engines.map(|(engine, sequences)| {
        run(
            store,
            &Suite {
                part: format!("operator-{engine}"),
                build: DEBUG,
                variables: vec![
                    ("ASTRA_ENGINE", engine.into()),
                    ("ASTRA_OPERATOR", sequences.to_string()),
                    ("ASTRA_SEED", "1".into()),
                    ("ASTRA_HOSTS", settings.side_by_side.to_string()),
                ],
                arguments: "--test host operator::drawn -- --nocapture --test-threads 1",
            },
        )
    });
    runs.into_iter().collect()
}

/// A separate build: the shipped agent has no such checks.
pub fn fuzz(settings: &Settings, store: &Store) -> Result<()> {
    run(
        store,
        &Suite {
            part: "fuzz".into(),
            build: "optimised build with overflow checks and debug assertions",
            variables: vec![
                ("FUZZ_SECONDS", settings.fuzz_seconds.to_string()),
                ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true".into()),
                ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true".into()),
                ("CARGO_PROFILE_RELEASE_LTO", "off".into()),
                ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16".into()),
            ],
            arguments: "--release --target-dir target/fuzz --test fuzz -- --nocapture --test-threads 32",
        },
    )
}

/// Runs the suite unless the same command has passed already.
fn run(store: &Store, suite: &Suite) -> Result<()> {
    let part = suite.part.as_str();
    let variables: Vec<String> =
        suite.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let command = format!("{} cargo test {}", variables.join(" "), suite.arguments);
    if has_passed(&store.lines(part)?, &command) {
        return Ok(());
    }
    eprintln!("campaign: {part}: {command}");
    let origin = store.origin();
    let name = format!("{part}-{}", origin.at.replace(':', ""));
    let log = store.file(format!("{name}.log"));
    let rows_file = store.file(format!("{name}.rows.jsonl"));
    let output = File::create(&log)?;
    let begun = Instant::now();
    // The generator of the host tests' traffic; cargo test does not build it.
    let load = Command::new("cargo")
        .args(["build", "--quiet", "--example", "load"])
        .current_dir(PROJECT)
        .status()?;
    let status = Command::new("cargo")
        .arg("test")
        .args(suite.arguments.split(' '))
        .envs(suite.variables.iter().map(|(name, value)| (*name, value.as_str())))
        .env("ASTRA_RECORDS", &rows_file)
        .current_dir(PROJECT)
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    let rows: Vec<Row> = lines(&store.dir, &format!("{name}.rows"))?;
    let _ = fs::remove_file(&rows_file);
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let (passed, failed) = results(&text);
    let succeeded = load.success() && status.success() && !rows.is_empty();
    let tested = Tested {
        origin,
        command,
        build: suite.build.into(),
        status: if succeeded { 0 } else { status.code().filter(|code| *code != 0).unwrap_or(1) },
        seconds: begun.elapsed().as_secs(),
        passed,
        failed,
        log: format!("{name}.log"),
        rows,
    };
    store.record(part, &tested)?;
    eprintln!("campaign: {part}: ended with {}: {}", tested.status, log.display());
    if !succeeded {
        let problem = if tested.rows.is_empty() { "no row was recorded" } else { "a test failed" };
        bail!("{problem}: {}", log.display());
    }
    Ok(())
}

/// A part is repeated with other variables: more kills, more sequences.
fn has_passed(recorded: &[Tested], command: &str) -> bool {
    recorded.iter().any(|tested| tested.status == 0 && tested.command == command)
}

/// Passed tests, and the names of those that failed, from the output of libtest.
fn results(log: &str) -> (usize, Vec<String>) {
    let passed = log.lines().filter_map(|line| {
        let (count, _) = line.strip_prefix("test result: ")?.split_once(". ")?.1.split_once(" passed")?;
        count.parse::<usize>().ok()
    });
    let listed = log.rsplit_once("\nfailures:\n").map_or("", |(_, listed)| listed);
    let failed =
        listed.lines().take_while(|line| line.starts_with("    ")).map(|line| line.trim().to_owned());
    (passed.sum(), failed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_libtest_are_counted() {
        let log = "running 2 tests\ntest a ... ok\n\nfailures:\n\n---- kills::b stdout ----\n\nfailures:\n    kills::b\n    \
                   kills::c\n\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\n";
        assert_eq!(results(log), (3, vec!["kills::b".into(), "kills::c".into()]));
        let log = "test result: ok. 4 passed; 0 failed; 0 ignored\ntest result: ok. 1 passed; 0 failed;\n";
        assert_eq!(results(log), (5, vec![]));
    }

    #[test]
    fn a_suite_is_repeated_until_the_same_command_has_passed() {
        let tested = |status, command: &str| Tested { status, command: command.into(), ..Tested::default() };
        let recorded = [tested(1, "ASTRA_KILLS=200"), tested(0, "ASTRA_KILLS=10")];
        assert!(has_passed(&recorded, "ASTRA_KILLS=10"));
        assert!(!has_passed(&recorded, "ASTRA_KILLS=200"));
    }
}
