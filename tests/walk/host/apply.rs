//! The effect of each step on the abstract host: one match over all of them.

use std::path::Path;

use astra_agent::model::envfile::EnvFile;
use astra_agent::model::name::{AppName, CADDY_UNIT, CADDYFILE, TRIAL_ENV, WORKING};
use astra_agent::model::release::Candidate;
use astra_agent::model::step::Step;

use super::{Caddy, ENV_FILE, Extent, Fact, Host, MOST, Stored, UNITS, Unit, number, number_of};
use crate::site::{Digest, Text, digest_of};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `step`, as far as it gets.
pub fn apply(host: &mut Host, step: &Step, extent: Extent) -> Vec<Fact> {
    let mut facts = Vec::new();
    let full = extent == Extent::Full;
    match step {
        Step::Drain { instance, .. } => {
            host.put(text(&instance.id.marker()), b"");
            host.put(WORKING, b"");
        }
        Step::StartTrial { instance, candidate, .. } => {
            host.put(text(&instance.id.trial_file()), &trial_file(candidate));
            start_over(host, number(instance), extent, &mut facts);
        }
        Step::RestoreCommitted { instance, .. } => {
            host.remove(text(&instance.id.trial_file()));
            start_over(host, number(instance), extent, &mut facts);
        }
        Step::StopInstance { instance, .. } => {
            host.stop(number(instance), &mut facts);
            if full {
                host.remove(text(&instance.id.trial_file()));
                host.remove(text(&instance.id.marker()));
            }
        }
        Step::AwaitReady { instance, .. } => match extent {
            Extent::Half => {}
            Extent::Full | Extent::Broken { .. } => host.instance_mut(number(instance)).ready = full,
        },
        Step::Soak { instances, .. } => {
            let failed = match extent {
                Extent::Broken { last: true } => instances.last(),
                Extent::Broken { last: false } => instances.first(),
                Extent::Half | Extent::Full => None,
            };
            if let Some((instance, _)) = failed {
                host.instance_mut(number(instance)).ready = false;
            }
        }
        Step::LoadCaddy { content, .. } => {
            host.caddy = Some(Caddy { loaded: Text::of(content.bytes()), noted: full });
            if full {
                host.put(CADDYFILE, content.bytes());
            }
        }
        Step::Undrain { instance, .. } if full => {
            let n = number(instance);
            if !host.instance(n).ready && host.is_known(n) {
                facts.push(Fact::Blind(n));
            }
            host.remove(text(&instance.id.marker()));
        }
        // The others do all or nothing.
        Step::Undrain { .. } => {}
        Step::MakeDir { .. }
        | Step::WriteFile { .. }
        | Step::WriteOwnFile { .. }
        | Step::BackupFile { .. }
        | Step::RemoveFile { .. }
        | Step::DaemonReload
        | Step::EnableUnits { .. }
        | Step::DisableUnits { .. }
        | Step::StartUnit { .. }
        | Step::RestartUnit { .. }
        | Step::StopUnit { .. }
        | Step::SwitchCaddyImage { .. }
        | Step::MakeNetwork { .. }
        | Step::Pin { .. }
        | Step::WriteTrialEnv { .. }
        | Step::Commit { .. }
        | Step::Migrate { .. }
        | Step::Pull { .. }
        | Step::FlushImages
        | Step::RemoveContainer { .. }
        | Step::RemoveImage { .. } => {
            if full {
                apply_whole(host, step, &mut facts);
            }
        }
    }
    facts
}

fn start_over(host: &mut Host, number: u8, extent: Extent, facts: &mut Vec<Fact>) {
    host.stop(number, facts);
    match extent {
        Extent::Half => {}
        Extent::Full => host.start(number, facts),
        Extent::Broken { .. } => {
            host.start(number, facts);
            let seen = host.instance_mut(number);
            (seen.unit, seen.runs) = (Unit::Looping, None);
        }
    }
}

fn trial_file(candidate: &Candidate) -> Vec<u8> {
    let mut bytes = EnvFile::default().with_managed(&candidate.lines).unwrap().render();
    bytes.extend_from_slice(format!("ASTRA_ENV={TRIAL_ENV}\n").as_bytes());
    bytes
}

/// The steps that happen or do not.
fn apply_whole(host: &mut Host, step: &Step, facts: &mut Vec<Fact>) {
    match step {
        Step::MakeDir { .. } => host.dirs = true,
        Step::WriteFile { path, content, .. } | Step::WriteOwnFile { path, content, .. } => {
            host.put(text(path), content.bytes())
        }
        Step::RemoveFile { path } => {
            let marks = |n: &u8| super::id(*n).marker() == *path && host.is_drained(*n);
            let bared = (1..=MOST).find(marks).filter(|n| {
                let seen = host.instance(*n);
                seen.unit == Unit::Up && !seen.ready && host.is_known(*n)
            });
            facts.extend(bared.map(Fact::Blind));
            host.remove(text(path));
        }
        Step::DaemonReload => host.reload_due = false,
        Step::EnableUnits { units } => enable(host, units, true),
        Step::DisableUnits { units } => enable(host, units, false),
        Step::StartUnit { unit } if unit == CADDY_UNIT => {
            let written = host.disk.get(CADDYFILE);
            host.caddy = host.caddy.or(written.map(|loaded| Caddy { loaded, noted: true }));
        }
        Step::StartUnit { .. } => host.timer = true,
        Step::WriteTrialEnv { content } => host.put(TRIAL_ENV, content.bytes()),
        Step::Migrate { .. } => {
            let digest = host.run.get(TRIAL_ENV).and_then(Text::names).unwrap().digest;
            host.migrated |= 1 << digest;
            facts.push(Fact::Migrated(digest));
        }
        Step::Pull { image } => pull(host, digest_of(image)),
        Step::FlushImages => {
            // A flush repairs no image that a power cut may have emptied.
            let pulled = host.store.iter_mut().filter(|stored| **stored == Stored::Unflushed);
            pulled.for_each(|stored| *stored = Stored::Whole);
        }
        Step::Commit { candidate, env, .. } => {
            // As the host does it: the file is read again, and only these lines change.
            let now = host.disk.get(ENV_FILE).map(Text::bytes).unwrap_or_default();
            let mut now = EnvFile::parse(now);
            for (key, value) in env {
                match value {
                    Some(value) => now.set(key.as_str(), value).unwrap(),
                    None => _ = now.remove(key.as_str()),
                }
            }
            host.put(ENV_FILE, &now.with_managed(&candidate.lines).unwrap().render());
        }
        Step::RemoveContainer { container } => host.strays &= !(1 << container.id.parse::<u8>().unwrap()),
        Step::RemoveImage { image } => {
            let digest = digest_of(image);
            host.store[usize::from(digest)] = Stored::Absent;
            facts.push(Fact::Removed(digest));
        }
        // No walk has a hand-made file, a job, an accessory or another image for Caddy; the rest is `apply`'s.
        Step::BackupFile { .. }
        | Step::RestartUnit { .. }
        | Step::StopUnit { .. }
        | Step::SwitchCaddyImage { .. }
        | Step::MakeNetwork { .. }
        | Step::Pin { .. }
        | Step::LoadCaddy { .. }
        | Step::Drain { .. }
        | Step::StartTrial { .. }
        | Step::RestoreCommitted { .. }
        | Step::AwaitReady { .. }
        | Step::Soak { .. }
        | Step::Undrain { .. }
        | Step::StopInstance { .. } => {}
    }
}

/// Suspect images go first, all of them.
fn pull(host: &mut Host, digest: Digest) {
    let damaged = host.store.iter_mut().filter(|stored| **stored == Stored::Damaged);
    damaged.for_each(|stored| *stored = Stored::Absent);
    let stored = &mut host.store[usize::from(digest)];
    if *stored == Stored::Absent {
        *stored = Stored::Unflushed;
    }
}

fn enable(host: &mut Host, units: &[String], on: bool) {
    for unit in units {
        if let Some(at) = UNITS.iter().position(|known| known == unit) {
            host.enabled[at] = on;
        } else if let Some(id) = "astra".parse::<AppName>().unwrap().instance(unit) {
            host.instance_mut(number_of(id)).enabled = on;
        }
    }
}
