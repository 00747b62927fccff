//! Owners and modes: paths that others must not write or read.

use std::path::{Path, PathBuf};

use super::Problem;
use crate::config::Config;
use crate::model::checkup::{Checkup, Kind, Owner};
use crate::model::name::{
    AUTH_FILE, CADDY_SOCKET_DIR, CONFIG_DIR, CONFIG_FILE, DRAIN_DIR, ETC, FILES_DIR, HOST_KEY, JOURNAL_DIR,
    RUN, STATE,
};

/// A path with its check, the type it must have, and the mode that a fix sets.
struct Rule {
    check: &'static str,
    path: PathBuf,
    kind: Kind,
    /// Permission bits that must not be set.
    never: u32,
    mode: &'static str,
}

/// Every path whose owner and mode matter.
fn rules(config: &Config) -> Vec<Rule> {
    let dir =
        |check, path: &str, never, mode| Rule { check, path: path.into(), kind: Kind::Dir, never, mode };
    let file = |check, path: PathBuf, never, mode| Rule { check, path, kind: Kind::File, never, mode };
    let mut rules: Vec<Rule> =
        ["/", "/etc", "/run", "/var", "/var/lib"].map(|path| dir("parent_dir", path, 0o022, "go-w")).into();
    let own = config.accessories.keys().map(|name| config.name.accessory_env(*name));
    rules.extend(own.map(|path| file("env_mode", path, 0o077, "0600")));
    rules.extend([
        dir("etc_dir", ETC, 0o077, "0700"),
        dir("etc_dir", FILES_DIR, 0o077, "0700"),
        dir("config", CONFIG_DIR, 0o022, "go-w"),
        dir("state_dir", STATE, 0o077, "0700"),
        dir("state_dir", JOURNAL_DIR, 0o077, "0700"),
        dir("run_dir", RUN, 0o022, "0755"),
        dir("run_dir", DRAIN_DIR, 0o022, "0755"),
        dir("run_dir", CADDY_SOCKET_DIR, 0o077, "0700"),
        file("config", CONFIG_FILE.into(), 0o022, "0600"),
        file("env_mode", config.name.env_file(), 0o077, "0600"),
        file("env_mode", config.name.staged_env(), 0o077, "0600"),
        file("auth_mode", AUTH_FILE.into(), 0o077, "0600"),
        file("host_key", HOST_KEY.into(), 0o077, "0600"),
    ]);
    rules
}

/// The paths of `rules`, to be observed.
pub fn watched(config: &Config) -> Vec<PathBuf> {
    rules(config).into_iter().map(|rule| rule.path).collect()
}

pub(super) fn findings(config: &Config, checkup: &Checkup) -> Vec<Problem> {
    let seen = |rule: &Rule| checkup.owners.get(&rule.path).copied();
    let mut found: Vec<_> = rules(config).iter().filter_map(|rule| judge(rule, seen(rule)?)).collect();
    found.extend(store(checkup));
    found
}

fn judge(rule: &Rule, seen: Owner) -> Option<Problem> {
    let path = rule.path.display();
    if seen.kind != rule.kind {
        let what = match rule.kind {
            Kind::Dir => "a directory",
            _ => "a regular file",
        };
        let fix =
            format!("look at it with `ls -ld {path}`, and put {what} there: the agent follows no symlink");
        return Some(Problem::host(rule.check, format!("{path} is not {what}"), fix));
    }
    let secret = rule.kind == Kind::File && rule.never == 0o077;
    if secret && seen.links > 1 {
        let fix = format!("find the other with `find / -xdev -samefile {path}`, and remove it");
        return Some(Problem::host(rule.check, format!("{path} has {} names: a hard link", seen.links), fix));
    }
    let mut wrong = Vec::new();
    let mut fix = Vec::new();
    if seen.uid != 0 {
        wrong.push(format!("belongs to user {}", seen.uid));
        fix.push(format!("chown root:root {path}"));
    }
    if seen.mode & rule.never != 0 {
        let who = if seen.mode & rule.never & 0o022 != 0 { "written" } else { "read" };
        wrong.push(format!("has mode {:04o}, so users other than root may have {who} it", seen.mode));
        fix.push(format!("chmod {} {path}", rule.mode));
    }
    if wrong.is_empty() {
        return None;
    }
    let mut fix = format!("`{}`", fix.join(" && "));
    if secret {
        fix.push_str("; change the secrets in it if others use this host");
    }
    Some(Problem::host(rule.check, format!("{path} {}", wrong.join(" and ")), fix))
}

/// podman keeps the environment of every container in a database readable by anyone who can reach it.
fn store(checkup: &Checkup) -> Option<Problem> {
    let path = checkup.store.as_deref()?;
    let seen = checkup.owners.get(path)?;
    // docker uses 0710.
    let never = if path.starts_with("/var/lib/docker") { 0o007 } else { 0o077 };
    if seen.mode & never == 0 && seen.uid == 0 {
        return None;
    }
    let what = format!(
        "{} has mode {:04o}: other users can read the containers' environment in it",
        path.display(),
        seen.mode
    );
    Some(Problem::host("storage_root", what, fix_mode(path)))
}

fn fix_mode(path: &Path) -> String {
    format!(
        "`chown root:root {0} && chmod 0700 {0}`; change the secrets if others use this host",
        path.display()
    )
}
