//! Writes packaging/agent.toml.5, the manual page of agent.toml, from the table of keys.

use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::super::keys::{KEYS, KeyDefault, TABLES};
use super::docs::{heading, is_written};

/// Text with `code` in bold.
fn inlines(text: &str) -> Vec<Inline> {
    assert!(!text.contains("]("), "a manual page has no links: {text}");
    text.split('`')
        .enumerate()
        .map(|(nth, part)| if nth % 2 == 0 { roman(part) } else { bold(part) })
        .collect()
}

fn manual() -> String {
    let mut page = Roff::new();
    page.control("TH", ["agent.toml", "5", "", "astra-agent"]);
    page.control("SH", ["NAME"]).text([roman("agent.toml - the desired state of a host of astra-agent")]);
    page.control("SH", ["SYNOPSIS"]).text([roman("/etc/astra/agent.toml")]);
    page.control("br", []).text([roman("/etc/astra/agent.d/*.toml")]);
    page.control("SH", ["DESCRIPTION"]).text(inlines(
        "Only `[app]` `image` is required. Fragments are read after agent.toml, sorted by name: a later file \
         overrides single keys, tables merge, lists are replaced, and `[[cron_jobs]]` add up. \
         `astra-agent check` validates all of it and changes nothing; an unknown key is an error.",
    ));
    for table in TABLES {
        page.control("SH", [heading(table.path).as_str()]).text(inlines(table.doc));
        for key in KEYS.iter().filter(|key| key.table == table.path) {
            let absent = match key.absent {
                KeyDefault::Value(value) => format!("; default {value}"),
                KeyDefault::Required => "; required".to_owned(),
                KeyDefault::Means(words) => format!("; default: {words}"),
            };
            let title = [vec![bold(key.name)], inlines(&format!(" ({}{absent})", key.kind))].concat();
            page.control("TP", []).text(title).text(inlines(key.doc));
        }
    }
    page.control("SH", ["SEE ALSO"]).text([roman("astra-agent(1), /usr/share/doc/astra-agent/agent.toml")]);
    page.to_roff()
}

#[test]
fn the_manual_page_is_written_from_the_keys() {
    is_written("packaging/agent.toml.5", &manual(), "manual_page");
}
