//! The keys of `[app]` for container settings other than image, command and limits. Called by app.rs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use toml::de::DeValue;

use super::Container;
use super::error::ValueError;
use super::read::Reader;
use super::tree::describe;
use super::value::{self, clip};

/// The limits of getrlimit(2), by the engines' names.
const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];
/// Signals that servers accept for a shutdown.
const SIGNALS: [&str; 9] =
    ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL", "SIGRTMIN+3"];
const TMPFS_OPTIONS: [&str; 8] = ["size", "mode", "ro", "rw", "exec", "noexec", "suid", "nosuid"];

pub(super) fn container(r: &mut Reader<'_, '_, '_>) -> Option<Container> {
    let entrypoint = entrypoint(r);
    let init = r.boolean("init");
    let signals = SIGNALS.map(|name| (name, name));
    let stop_signal = r.optional("stop_signal", |r, key| r.choice(key, &signals).map(str::to_owned));
    let user = r.optional("user", |r, key| r.text(key, user));
    let ulimits = ulimits(r);
    let add_hosts = add_hosts(r);
    let healthcheck = r.boolean("healthcheck");
    let read_only = r.boolean("read_only");
    let tmpfs = r.distinct("tmpfs", tmpfs);
    let cap_drop = r.distinct("cap_drop", capability);
    let cap_add = r.distinct("cap_add", capability);
    let shm_size = r.optional("shm_size", Reader::size);
    Some(Container {
        entrypoint: entrypoint?,
        init: init?,
        stop_signal: stop_signal?,
        user: user?,
        ulimits: ulimits?,
        add_hosts: add_hosts?,
        healthcheck: healthcheck?,
        read_only: read_only?,
        tmpfs: tmpfs?,
        cap_drop: cap_drop?,
        cap_add: cap_add?,
        shm_size: shm_size?,
    })
}

/// `entrypoint` of `[app]`, `[migrate]` or a cron job; empty if absent.
pub(super) fn entrypoint(r: &mut Reader<'_, '_, '_>) -> Option<Vec<String>> {
    if r.node("entrypoint").is_none() {
        return Some(Vec::new());
    }
    let argv = r.list("entrypoint", value::argument);
    super::app::no_empty_program(r, "entrypoint", argv.as_deref());
    argv
}

fn user(text: &str) -> Result<String, ValueError> {
    let name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if name(user) && group.is_none_or(name) {
        return Ok(text.to_owned());
    }
    Err(ValueError::new(format!("`{}` is not a user", clip(text)))
        .help("write USER or USER:GROUP, names of the image or numbers: \"1000:1000\""))
}

/// `{ nofile = 65536 }`, or `"SOFT:HARD"`.
fn ulimits(r: &mut Reader<'_, '_, '_>) -> Option<BTreeMap<String, String>> {
    let entries = r.entries("ulimits")?;
    let mut limits = BTreeMap::new();
    for node in &entries {
        if !LIMITS.contains(&node.name) {
            let message = format!("`{}` is not a limit", clip(node.name));
            r.problems.add(
                &node.key,
                node.show(),
                ValueError::unknown(message, node.name, "limits", &LIMITS),
            );
            continue;
        }
        match limit(node.value) {
            Some(limit) => _ = limits.insert(node.name.to_owned(), limit),
            None => {
                let message =
                    format!("the limit `{}` must be a number from 0, -1 (none) or \"SOFT:HARD\"", node.name);
                r.problems.add(&node.span, node.show(), ValueError::new(message));
            }
        }
    }
    (limits.len() == entries.len()).then_some(limits)
}

fn limit(value: &DeValue<'_>) -> Option<String> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= -1);
    let both = |soft: i64, hard: i64| {
        let fits = hard == -1 || (soft != -1 && soft <= hard);
        fits.then(|| format!("{soft}:{hard}"))
    };
    match value {
        DeValue::Integer(given) if given.radix() == 10 => {
            let number = number(given.as_str())?;
            both(number, number)
        }
        DeValue::String(text) => {
            let (soft, hard) = text.split_once(':')?;
            both(number(soft)?, number(hard)?)
        }
        _ => None,
    }
}

/// `{ "ipa.example.org" = "10.0.0.9" }`, or `"host-gateway"` for this host.
fn add_hosts(r: &mut Reader<'_, '_, '_>) -> Option<BTreeMap<String, String>> {
    let entries = r.entries("add_hosts")?;
    let mut hosts = BTreeMap::new();
    for node in &entries {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let named = (1..=253).contains(&node.name.len()) && node.name.bytes().all(plain);
        if !named || node.name.starts_with(['-', '.']) {
            let fault = ValueError::new(format!("`{}` is not a host name", clip(node.name)));
            r.problems.add(&node.key, node.show(), fault);
            continue;
        }
        let address = match node.value {
            DeValue::String(text) if *text == "host-gateway" || text.parse::<IpAddr>().is_ok() => text,
            other => {
                let found = match other {
                    DeValue::String(text) => format!("`{}`", clip(text)),
                    other => describe(other).to_owned(),
                };
                let message = format!("the address of `{}` must be an IP address, found {found}", node.name);
                let fault = ValueError::new(message).help("for this host itself, write \"host-gateway\"");
                r.problems.add(&node.span, node.show(), fault);
                continue;
            }
        };
        hosts.insert(node.name.to_owned(), address.to_string());
    }
    (hosts.len() == entries.len()).then_some(hosts)
}

/// `PATH`, or `PATH:OPTIONS`.
fn tmpfs(text: &str) -> Result<String, ValueError> {
    let (path, options) = text.split_once(':').map_or((text, None), |(path, options)| (path, Some(options)));
    if value::absolute(path)? == "/" {
        return Err(ValueError::new("`tmpfs` cannot cover the container's whole `/`"));
    }
    for option in options.into_iter().flat_map(|o| o.split(',')) {
        let (name, number) = option.split_once('=').unwrap_or((option, ""));
        let plain = number.bytes().all(|b| b.is_ascii_alphanumeric());
        let takes = matches!(name, "size" | "mode");
        if !TMPFS_OPTIONS.contains(&name) || !plain || takes == number.is_empty() {
            let message = format!("`{}` is not an option of a tmpfs", clip(option));
            return Err(ValueError::unknown(message, name, "options", &TMPFS_OPTIONS)
                .help("e.g. \"/tmp:size=64m,mode=1777\""));
        }
    }
    Ok(text.to_owned())
}

/// `ALL`, or a name of capabilities(7) with or without `CAP_`.
fn capability(text: &str) -> Result<String, ValueError> {
    let plain = |b: u8| b.is_ascii_uppercase() || b == b'_';
    if !text.is_empty() && text.len() <= 40 && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(ValueError::new(format!("`{}` is not a capability", clip(text)))
        .help("write its name in capital letters, e.g. \"NET_BIND_SERVICE\", or \"ALL\""))
}
