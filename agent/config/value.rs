//! The grammars of single values. Pure; called by read.rs, app.rs, env.rs and jobs.rs, and by cli.rs for
//! times on the command line.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::error::ValueError;

/// The longest duration: a year.
const LONGEST: u64 = 366 * 24 * 3600 * 1000;

/// `500ms`, `30s`, `10m`, `1h30m`: the larger unit first.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    let millis = millis(text).filter(|ms| *ms <= LONGEST);
    millis.map(Duration::from_millis).ok_or_else(|| {
        ValueError::new(format!("`{}` is not a time", clip(text))).help(
            "write whole numbers and ms, s, m or h: \"500ms\", \"30s\", \"10m\", \"1h30m\"; at most a year",
        )
    })
}

fn millis(text: &str) -> Option<u64> {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let (mut rest, mut total, mut larger) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let letters = rest.get(digits..)?.find(|c: char| !c.is_ascii_alphabetic());
        let end = letters.map_or(rest.len(), |n| digits + n);
        let part = rest.get(..end)?;
        let (_, factor) = units.iter().find(|(unit, _)| rest.get(digits..end) == Some(unit))?;
        if *factor >= larger {
            return None;
        }
        larger = *factor;
        total = total.checked_add(scaled(part, &units)?)?;
        rest = rest.get(end..)?;
    }
    (larger < u64::MAX).then_some(total)
}

/// `512M`, `2G`: bytes, in powers of 1024 as the engines count.
pub(super) fn size(text: &str) -> Result<u64, ValueError> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];
    scaled(text, &units).filter(|bytes| *bytes <= 1 << 50).ok_or_else(|| {
        ValueError::new(format!("`{}` is not a size", clip(text)))
            .help("write a whole number and K, M, G or T: \"512M\", \"2G\"")
    })
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(at)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A value shortened for a message.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(100).collect::<String>().escape_debug().to_string()
}

/// An absolute path without `.`, `..`, `//` or control characters.
pub(super) fn absolute(text: &str) -> Result<String, ValueError> {
    let bad = |reason: &str| Err(ValueError::new(format!("`{}` {reason}", clip(text))));
    match text {
        _ if text.starts_with('~') => {
            bad("begins with `~`, which only a shell understands: write the whole path")
        }
        _ if !text.starts_with('/') => bad("must be an absolute path, beginning with `/`"),
        _ if text.contains(char::is_control) => bad("has a control character"),
        _ if text.len() > 4095 => bad("is longer than a path may be"),
        "/" => Ok(text.to_owned()),
        _ if text.split('/').any(|p| p == "..") => bad("must not have `..`"),
        _ if text.split('/').skip(1).any(|p| p == "." || p.is_empty()) => {
            bad("must not have `.`, `//` or `/` at its end")
        }
        _ => Ok(text.to_owned()),
    }
}

/// `SOURCE:TARGET[:OPTIONS]`; the source is a path or the name of a volume.
pub(super) fn volume(text: &str) -> Result<String, ValueError> {
    const OPTIONS: [&str; 16] = [
        "ro", "rw", "z", "Z", "U", "exec", "noexec", "dev", "nodev", "suid", "nosuid", "private", "rprivate",
        "rshared", "rslave", "nocopy",
    ];
    let mut parts = text.split(':');
    let (Some(source), Some(target), options, None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ValueError::new(format!("`{}` is not a volume", clip(text)))
            .help("write SOURCE:TARGET or SOURCE:TARGET:OPTIONS, e.g. \"/etc/astra/key.pem:/key.pem:ro\""));
    };
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let named = source.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && source.bytes().all(name);
    if !named {
        absolute(source)?;
    }
    if absolute(target)? == "/" {
        return Err(ValueError::new("a volume cannot cover the container's whole `/`"));
    }
    for option in options.into_iter().flat_map(|o| o.split(',')) {
        if !OPTIONS.contains(&option) {
            let message = format!("`{}` is not a volume option", clip(option));
            return Err(ValueError::unknown(message, option, "options", &OPTIONS));
        }
    }
    Ok(text.to_owned())
}

/// A path that is valid in a URL and in a Caddyfile; no query, and nothing that either reads as syntax.
pub(super) fn url_path(text: &str, star: bool) -> Result<String, ValueError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&+,;=:@".contains(c) || (star && c == '*');
    let bad = |reason: &str| Err(ValueError::new(format!("`{}` {reason}", clip(text))));
    match text {
        _ if !text.starts_with('/') => bad("must begin with `/`"),
        _ if !text.chars().all(allowed) => bad("has a character that no path of a URL has (write it as %XX)"),
        _ if text.split('/').any(|p| p == "." || p == "..") => bad("must not have `.` or `..`"),
        _ if text.len() > 1024 => bad("is longer than 1024 characters"),
        _ => Ok(text.to_owned()),
    }
}

/// A path and perhaps a query, as a request has them (RFC 3986).
pub(super) fn url_request(text: &str) -> Result<String, ValueError> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    url_path(path, false)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/?-._~%!$&'()*+,;=:@".contains(c);
    if !query.chars().all(allowed) || text.len() > 1024 {
        let message = format!("`{}` has a character that no query of a URL has, or is too long", clip(text));
        return Err(ValueError::new(message).help("write it as %XX; at most 1024 characters"));
    }
    Ok(text.to_owned())
}

/// A host name (RFC 1123, 2.1) or an IPv4 address.
pub(super) fn host(text: &str) -> Result<String, ValueError> {
    let bad = |reason: &str| ValueError::new(format!("`{}` is not a host name: {reason}", clip(text)));
    if text.contains('*') {
        return Err(bad("a wildcard needs a certificate over DNS, which is not supported")
            .help("list the names one by one"));
    }
    if text.contains("://") || text.contains('/') {
        return Err(
            bad("it has a scheme or a path").help("write the name alone, e.g. \"accounts.example.org\"")
        );
    }
    if text.contains(':') {
        return Err(bad("it has a port or is an IPv6 address").help("ports are `http_port` and `https_port`"));
    }
    if text.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(bad("it has capital letters").help(format!("write `{}`", text.to_ascii_lowercase())));
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let numeric = text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    let address = text.parse::<std::net::Ipv4Addr>().is_ok();
    if text.len() > 253 || !text.split('.').all(label) || (numeric && !address) {
        return Err(bad("only letters, digits, `-` and `.`, each part 1 to 63 characters, 253 in all"));
    }
    Ok(text.to_owned())
}

/// `10.0.0.0/16`, `fd00::/8`: a network, with no bits set behind its prefix.
pub(super) fn cidr(text: &str) -> Result<String, ValueError> {
    let bad = || ValueError::new(format!("`{}` is not a network in CIDR form", clip(text)));
    let Ok(net) = text.parse::<IpNet>() else {
        let hint = match text.parse::<IpAddr>() {
            Ok(address) => format!("for this one address, write `{}`", IpNet::from(address)),
            Err(_) => "write ADDRESS/LENGTH, e.g. \"10.0.0.0/16\"".to_owned(),
        };
        return Err(bad().help(hint));
    };
    if net.trunc() != net {
        return Err(bad().help(format!("the network of that address is `{}`", net.trunc())));
    }
    Ok(net.to_string())
}

/// One argument. Units and env files allow no control character except the tab.
pub(super) fn argument(text: &str) -> Result<String, ValueError> {
    if text.contains(|c: char| (c.is_control() && c != '\t') || c == '\u{feff}') {
        let fault = ValueError::new("an argument has a line break or another control character");
        return Err(fault.help("put the lines into a script, and run that"));
    }
    Ok(text.to_owned())
}

/// Text for Caddy's site block.
pub(super) fn caddyfile(text: &str) -> Result<String, ValueError> {
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(ValueError::new("`extra` has a control character"));
    }
    Ok(text.to_owned())
}

/// A request header and its value (RFC 9110, 5.1 and 5.5), as they stand in a Caddyfile.
pub(super) fn header(name: &str, value: &str) -> Result<(), ValueError> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(ValueError::new(format!("`{}` is not the name of a header", clip(name))));
    }
    if value.contains(|c: char| c.is_control() || c == '`') || value.trim() != value || value.is_empty() {
        return Err(ValueError::new(format!(
            "the value of `{}` is empty, has leading or trailing spaces, a backquote or a control character",
            clip(name)
        )));
    }
    Ok(())
}
