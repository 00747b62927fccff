//! Writes the manual pages of the verbs, and completions for bash, zsh and fish, below the directory that is its
//! argument, as a package has them below /usr. packaging/build calls it.

use std::fs::{create_dir_all, write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions/astra-agent"),
    (Shell::Zsh, "share/zsh/site-functions/_astra-agent"),
    (Shell::Fish, "share/fish/vendor_completions.d/astra-agent.fish"),
];

fn main() -> Result<()> {
    let below = std::env::args_os().nth(1).context("usage: pages DIR")?;
    for (path, text) in pages(astra_agent::cli::command())? {
        let path = Path::new(&below).join(path);
        create_dir_all(path.parent().context("a page without a directory")?)?;
        write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Paths and contents.
fn pages(all: Command) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut command = Command::new("astra-agent")
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .disable_help_subcommand(true)
        // clap_complete would offer hidden options as well.
        .args(all.get_arguments().filter(|arg| !arg.is_hide_set()))
        .subcommands(all.get_subcommands());
    for (shell, path) in COMPLETIONS {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "astra-agent", &mut text);
        found.push((path.to_owned(), text));
    }
    command.build();
    manual(&command, &mut found)?;
    Ok(found)
}

/// The page of a verb, and those of its verbs.
fn manual(verb: &Command, found: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let page = Man::new(verb.clone()).source(concat!("astra-agent ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if verb.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    // Its columns are aligned: clap_mangen would fill the lines.
    if let Some(notes) = verb.get_after_help() {
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.to_string().lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []).to_writer(&mut text)?;
    }
    let others = if verb.get_name() == "astra-agent" { "agent.toml" } else { "astra-agent(1), agent.toml" };
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text([roman(format!("{others}(5)"))]).to_writer(&mut text)?;
    found.push((format!("share/man/man1/{}", page.get_filename()), text));
    for below in verb.get_subcommands().filter(|below| !below.is_hide_set()) {
        manual(below, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

    use super::*;

    fn page(name: &str) -> String {
        let found = pages(astra_agent::cli::command()).unwrap();
        let (_, text) = found.into_iter().find(|(path, _)| path.ends_with(name)).unwrap_or_else(|| {
            panic!("no {name}");
        });
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn every_verb_has_a_page_and_a_completion() {
        let command = astra_agent::cli::command();
        let shells = ["/astra-agent", "_astra-agent", "astra-agent.fish"].map(page);
        for verb in command.get_subcommands().map(Command::get_name) {
            assert!(page(&format!("man1/astra-agent-{verb}.1")).contains(".SH SYNOPSIS"), "{verb}");
            assert!(shells.iter().all(|shell| shell.contains(verb)), "{verb}");
        }
        assert!(page("man1/astra-agent-env-set.1").contains("standard input"));
        assert!(!shells.iter().any(|shell| shell.contains("in-unit")), "a hidden option is offered");
    }

    #[test]
    fn the_notes_of_a_page_keep_their_columns() {
        let text = page("man1/astra-agent.1");
        assert!(text.contains(".nf\nExamples:\n  astra\\-agent check"), "{text}");
        assert!(text.contains("\n  75  another run holds the lock"), "{text}");
    }
}
