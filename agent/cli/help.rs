//! `--help`, and error messages for command lines that do not parse. Verbs of other tools get a hint at the
//! command that does the same here.

use std::fmt::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};

use super::{Cli, out, report};
use crate::converge::Refused;
use crate::model::outcome::EXIT_USAGE;
use crate::model::problem::Cause;

/// Width of the verb column.
const NAMES: usize = 15;
const WIDTH: usize = 80;

/// Verbs grouped by purpose. A verb in no group is listed in the last one.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Releases", &["install", "deploy", "deploy-sha", "rollback"]),
    ("Look", &["status", "wait", "plan", "history", "doctor", "check", "config"]),
    ("Repair", &["reconcile", "recover", "caddy-upgrade"]),
    ("Scale", &["scale", "pause", "resume"]),
    ("More", &["env", "cron", "accessory"]),
];

const FOOT: &str = "\
Examples:
  astra-agent check && astra-agent plan    read agent.toml, see what happens
  astra-agent deploy                       deploy the newest image
  astra-agent status --watch               follow it from another terminal
  astra-agent rollback                     back to the release before

Exit codes:
   0  converged, or nothing to do
   1  failed or undone, and the release is not to blame
   2  the command line, agent.toml or astra.env is wrong
   3  the release failed; it was undone and is held
   4  incomplete, or something needs a look: `astra-agent status`
  75  another run holds the lock: `--wait 10m` waits for it

`astra-agent VERB --help` explains a verb. The pages tutorial.md, config.md and
operations.md are in docs/using of the source, and in /usr/share/doc/astra-agent
of a host with the package.
";

/// Appended to the help of each verb that changes the host.
pub const MUTATES: &str = "\
Exit codes: 0 converged, 1 failed or undone without blame, 2 usage or config,
3 the release failed and is held, 4 needs a look, 75 another run holds the lock.
Ctrl-C undoes the run. `astra-agent status --watch` follows it from elsewhere.";

pub const WAIT: &str = "\
Examples:
  astra-agent wait                        in CI, after the instance was started
  ExecStartPre=/usr/local/bin/astra-agent wait --timeout 5m

The host serves when each web service has an instance of the release in
rotation, Caddy answers, and no install is under way. `wait` takes no lock, and
Ctrl-C ends it.

Exit codes: 0 the host serves, 1 not within the time (the message has the
reason) or not root, 2 usage.";

pub const SCALE: &str = "\
Examples:
  astra-agent scale worker=3
  astra-agent pause worker
  astra-agent resume

The numbers are kept in /etc/astra/agent.d/zz-scale.toml, over reboots and deploys.
Instances that stay are not touched; one that goes is drained first. Accessories
run on.";

pub const ACCESSORY: &str = "\
Services that use it wait or fail while it restarts. No deploy touches it.

Exit codes: 0 converged, 1 failed or undone without blame, 2 usage or config,
3 it did not become ready and went back, 4 needs a look, 75 another run holds the
lock.";

pub const DEPLOY: &str = "\
Examples:
  astra-agent deploy                  the newest image of the tracked tag
  astra-agent deploy --dry-run        what that would do
  astra-agent deploy --image ghcr.io/you/shop:v2
  astra-agent deploy worker           one service: settings, and its own image

Exit codes: 0 converged, 1 failed or undone without blame, 2 usage or config,
3 the release failed and is held, 4 needs a look, 75 another run holds the lock.
Ctrl-C undoes the run. `astra-agent status --watch` follows it from elsewhere.";

pub const DEPLOY_SHA: &str = "\
Examples:
  astra-agent deploy-sha d0525f2251ba     a release of this host
  astra-agent deploy-sha sha256:… (64 digits)

Exit codes: as of `astra-agent deploy`. Ctrl-C undoes the run.";

pub const ROLLBACK: &str = "\
Examples:
  astra-agent rollback                    to the release before
  astra-agent rollback --to 4             to release 4
  astra-agent rollback --to d0525f2251ba --dry-run

Exit codes: as of `astra-agent deploy`. Ctrl-C undoes the run.";

/// Verbs of other tools, and the equivalent command here.
const HABITS: [(&[&str], &str); 19] = [
    (&["logs", "log"], "`journalctl -t astra-app-1 -t astra-app-2 -f` follows the log of the app"),
    (&["exec", "shell", "console"], "`podman exec -it astra-app-1 sh` (with docker: `docker exec`)"),
    (
        &["restart"],
        "`astra-agent deploy --restart` restarts the release without losing a request, `astra-agent accessory restart NAME` an accessory",
    ),
    (
        &["run"],
        "`astra-agent cron run NAME` runs a cron job; a one-off container: \"Enter a container\" in docs/using/operations.md",
    ),
    (
        &["ps", "ls", "list", "details", "info", "show"],
        "`astra-agent status` shows what runs, `history` what ran",
    ),
    (
        &["up", "start", "apply", "sync", "converge"],
        "`astra-agent install` the first time, later `astra-agent deploy`",
    ),
    (&["down", "stop"], "`astra-agent pause` stops all instances until `astra-agent resume`"),
    (
        &["uninstall", "remove", "purge", "destroy"],
        "the section \"Uninstall\" in docs/using/operations.md has each command",
    ),
    (&["undo", "revert", "back"], "`astra-agent rollback` goes to the release before"),
    (&["diff", "dry-run"], "`astra-agent plan` shows what a deploy would change"),
    (
        &["update", "upgrade"],
        "`astra-agent deploy` for the app, `astra-agent caddy-upgrade` for Caddy, `astra-agent accessory upgrade NAME` for an accessory",
    ),
    (&["audit", "releases", "runs"], "`astra-agent history` lists the runs with their releases"),
    (&["validate", "lint"], "`astra-agent check` reads agent.toml and the env file"),
    (&["watch", "attach", "follow"], "`astra-agent status --watch` follows the run that is under way"),
    (&["health", "ping"], "`astra-agent status` has exit code 0 when all is well"),
    (&["secret", "secrets", "set"], "`astra-agent env set KEY` reads a value from standard input"),
    (&["migrate"], "`astra-agent deploy --migrate` runs the migrations again"),
    (&["prune", "gc", "clean"], "each run removes old images; `[deploy] keep` says how many stay"),
    (
        &["--verbose", "-v", "--debug", "--quiet", "-q"],
        "`astra-agent history --json` has each step of each run, `journalctl -u 'astra-*'` the rest",
    ),
];

impl Cli {
    /// Parses the command line of this process, with the help from this file.
    pub(super) fn try_parse() -> Result<Self, clap::Error> {
        command().try_get_matches().and_then(|matches| Self::from_arg_matches(&matches))
    }
}

/// The definition of the command line, with grouped help: for parsing, manual pages and completions.
pub fn command() -> Command {
    let command = Cli::command();
    let text = overview(&command);
    // Manual pages have the foot alone: they list verbs and options themselves.
    command.override_help(text).after_help(FOOT)
}

fn overview(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let about = super::terminal::wrap(&about, 0, Some(WIDTH));
    let mut text = format!("{about}\n\nUsage: astra-agent VERB [OPTIONS]\n");
    let grouped = |name: &str| GROUPS.iter().any(|(_, verbs)| verbs.contains(&name));
    let all: Vec<&Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect();
    for (nth, (title, verbs)) in GROUPS.iter().enumerate() {
        let _ = writeln!(text, "\n{title}:");
        let named = verbs.iter().filter_map(|name| all.iter().find(|verb| verb.get_name() == *name));
        let last = nth + 1 == GROUPS.len();
        let rest = all.iter().filter(|verb| last && !grouped(verb.get_name()));
        for verb in named.chain(rest) {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            let about = super::terminal::wrap(&about, NAMES + 2, Some(WIDTH));
            let _ = writeln!(text, "  {:<NAMES$}{about}", verb.get_name());
        }
    }
    let options = [
        ("--json", "Print the answer as JSON"),
        ("-h, --help", "Print this help"),
        ("-V, --version", "Print the version"),
    ];
    text.push_str("\nOptions:\n");
    for (option, about) in options {
        let _ = writeln!(text, "  {option:<NAMES$}{about}");
    }
    text + "\n" + FOOT
}

/// Prints clap's error; `--help` and `--version` are errors to clap as well.
pub fn answer(error: &clap::Error, json: bool) -> u8 {
    if !error.use_stderr() {
        out::line(error.render().to_string().trim_end());
        return 0;
    }
    let text = habit(error).unwrap_or_else(|| {
        let text = error.render().to_string();
        text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
    });
    report::refusal(&Refused::of(Cause::Config, anyhow::anyhow!(text)), json);
    EXIT_USAGE
}

/// The equivalent command for a verb of another tool.
fn habit(error: &clap::Error) -> Option<String> {
    let (kind, what) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, "verb"),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, "option"),
        _ => return None,
    };
    let Some(ContextValue::String(typed)) = error.get(kind) else { return None };
    let (_, hint) = HABITS.iter().find(|(names, _)| names.contains(&typed.as_str()))?;
    Some(format!("there is no {what} `{typed}`\n  hint: {hint}"))
}

#[cfg(test)]
fn refusal(command: &str) -> Option<clap::Error> {
    self::command().try_get_matches_from(command.split(' ')).err()
}

/// Whether a command line exists, for tests of hints.
#[cfg(test)]
pub fn parses(command: &str) -> bool {
    refusal(command).is_none()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refused(words: &[&str]) -> clap::Error {
        refusal(&format!("astra-agent {}", words.join(" "))).unwrap()
    }

    /// Commands in backticks, with values for their placeholders.
    fn commands(text: &str) -> impl Iterator<Item = String> {
        let quoted = text.split('`').filter_map(|part| part.strip_prefix("astra-agent "));
        let value = |word: &str| match word {
            "{0}" | "N" => "4".to_owned(),
            "{1}" => "a.example/b:v1".to_owned(),
            "DIGEST" | "sha256:…" => format!("sha256:{}", "0".repeat(64)),
            "{key}" | "KEY" | "NAME" | "{name}" | "FILE" => "name".to_owned(),
            "…:latest" => "a.example/b:latest".to_owned(),
            other => other.to_owned(),
        };
        quoted
            .filter(|words| !words.contains("{}") && !words.contains(" | ") && !words.contains("VERB"))
            // A line of a long string ends with `\`.
            .map(move |words| {
                words.split_whitespace().filter(|word| *word != "\\").map(value).collect::<Vec<_>>().join(" ")
            })
            .map(|words| format!("astra-agent {words}"))
    }

    /// A hint that names a command or an option that does not exist leaves an operator alone at night.
    #[test]
    fn every_command_in_a_message_or_a_page_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut left: Vec<_> = ["agent", "docs/using", "README.md"].map(|name| root.join(name)).into();
        let mut found = 0;
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                for command in commands(&std::fs::read_to_string(&path).unwrap()) {
                    // A prefix, e.g. `env set`, may want a value.
                    let wanting = refusal(&command)
                        .is_some_and(|error| error.kind() != ErrorKind::MissingRequiredArgument);
                    assert!(!wanting, "{}: `{command}` does not exist", path.display());
                    found += 1;
                }
            }
        }
        assert!(found > 100, "only {found} commands found");
    }

    #[test]
    fn every_verb_is_listed_within_eighty_columns() {
        let text = overview(&Cli::command());
        for verb in Cli::command().get_subcommands() {
            assert_eq!(text.matches(&format!("\n  {:<NAMES$}", verb.get_name())).count(), 1, "{text}");
        }
        for page in [text.as_str(), MUTATES, DEPLOY, DEPLOY_SHA, ROLLBACK, WAIT] {
            for line in page.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
        assert_eq!(refused(&["--help"]).exit_code(), 0);
    }

    #[test]
    fn every_argument_has_a_text() {
        fn pages(command: &Command) -> Vec<Command> {
            let below = command.get_subcommands().flat_map(pages);
            std::iter::once(command.clone()).chain(below).collect()
        }
        for page in pages(&Cli::command()) {
            for argument in page.get_arguments() {
                let name = argument.get_id().as_str();
                let told = matches!(name, "help" | "version") || argument.get_help().is_some();
                assert!(told, "{} {name} has no text", page.get_name());
            }
        }
    }

    #[test]
    fn a_verb_of_another_tool_gets_a_hint() {
        let hint = |words: &[&str]| habit(&refused(words)).unwrap_or_default();
        let logs = hint(&["logs"]);
        assert!(logs.starts_with("there is no verb `logs`\n  hint: `journalctl -t astra-app-1"), "{logs}");
        assert!(hint(&["uninstall"]).contains("\"Uninstall\""));
        assert!(hint(&["deploy", "--verbose"]).starts_with("there is no option `--verbose`"));
        // Typing errors are left to clap's suggestions.
        assert_eq!(hint(&["deplyo"]), "");
        // Existing verbs need no hint.
        for (names, _) in HABITS {
            for name in names {
                assert!(
                    Cli::command().find_subcommand(name).is_none(),
                    "`{name}` exists: remove it from HABITS"
                );
            }
        }
    }
}
