//! Lines of a unit file as D-Bus properties, so that one text describes the sandbox of both written and
//! transient units. The types are those of systemd.exec(5) on D-Bus; values that systemd itself parses stay
//! text. An unknown key is an error: a sandbox with an unnoticed hole is worse than none.

use anyhow::{Context, Result, bail};
use zbus::Variant;

type Property = (String, Variant<'static>);

const BOOLS: &[&str] = &[
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "PrivateUsers",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RemoveIPC",
    "RestrictRealtime",
    "RestrictSUIDSGID",
];
const STRINGS: &[&str] = &[
    "DevicePolicy",
    "Group",
    "KeyringMode",
    "ProcSubset",
    "ProtectHome",
    "ProtectProc",
    "ProtectSystem",
    "SyslogIdentifier",
    "User",
    "WorkingDirectory",
];
const LISTS: &[&str] = &[
    "ExecPaths",
    "InaccessiblePaths",
    "NoExecPaths",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "SupplementaryGroups",
    "SystemCallArchitectures",
    "UnsetEnvironment",
];
const FILTERS: &[&str] = &["RestrictAddressFamilies", "RestrictFileSystems", "SystemCallFilter"];
const LIMITS: &[&str] = &[
    "LimitAS",
    "LimitCORE",
    "LimitCPU",
    "LimitDATA",
    "LimitFSIZE",
    "LimitMEMLOCK",
    "LimitNOFILE",
    "LimitNPROC",
    "LimitSTACK",
    "MemoryMax",
    "TasksMax",
];
/// clone(2) flags of the namespaces, by systemd's names.
const NAMESPACES: &[(&str, u64)] = &[
    ("cgroup", 0x0200_0000),
    ("ipc", 0x0800_0000),
    ("mnt", 0x0002_0000),
    ("net", 0x4000_0000),
    ("pid", 0x2000_0000),
    ("user", 0x1000_0000),
    ("uts", 0x0400_0000),
];
/// Bit numbers of the capabilities that a unit here may keep (linux/capability.h); extended when needed.
const CAPABILITIES: &[(&str, u32)] = &[
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_FOWNER", 3),
    ("CAP_FSETID", 4),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
];
const IP_ANY: [(i32, [u8; 16], usize); 2] = [(2, [0; 16], 4), (10, [0; 16], 16)];

/// Parses `text`: `Key=Value` lines, `#` and `;` comments, `[Service]` headers, `\` at a line's end.
pub(super) fn parse(text: &str) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    for line in text.replace("\\\n", " ").lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        let (key, value) = line.split_once('=').with_context(|| format!("`{line}` is not a property"))?;
        let (key, value) = (key.trim(), value.trim());
        let value = property(key, value).with_context(|| format!("reading the property `{line}`"))?;
        all.extend(value);
    }
    Ok(all)
}

fn property(key: &str, text: &str) -> Result<Vec<Property>> {
    if text.contains(['%', '"', '\'']) {
        bail!("specifiers and quotes mean nothing over D-Bus");
    }
    let one = |value: Variant<'static>| Ok(vec![(key.to_owned(), value)]);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if BOOLS.contains(&key) {
        return one(boolean(text)?.into());
    }
    if STRINGS.contains(&key) {
        return one(text.to_owned().into());
    }
    if LISTS.contains(&key) {
        return one(words(text).into());
    }
    if FILTERS.contains(&key) {
        // (allowed, names): `~` inverts a list of allowed names.
        let denied = text.strip_prefix('~');
        return one((denied.is_none(), words(denied.unwrap_or(text))).into());
    }
    if LIMITS.contains(&key) {
        return limit(key, text);
    }
    match key {
        "CapabilityBoundingSet" | "AmbientCapabilities" => one(capabilities(text)?.into()),
        "RestrictNamespaces" => one(namespaces(text)?.into()),
        "UMask" => one(u32::from_str_radix(text, 8).context("it is not octal")?.into()),
        "OOMScoreAdjust" | "Nice" => one(text.parse::<i32>()?.into()),
        "CPUWeight" | "IOWeight" => one(text.parse::<u64>()?.into()),
        "SystemCallErrorNumber" if text == "EPERM" => one(1i32.into()),
        "SystemCallErrorNumber" if text == "ENOSYS" => one(38i32.into()),
        "IPAddressDeny" | "IPAddressAllow" if text == "any" => {
            let nets =
                IP_ANY.map(|(family, zeros, len)| (family, zeros.into_iter().take(len).collect(), 0u32));
            one(nets.into_iter().collect::<Vec<(i32, Vec<u8>, u32)>>().into())
        }
        "RuntimeMaxSec" | "TimeoutStartSec" => Ok(vec![(key.replace("Sec", "USec"), micros(text)?.into())]),
        _ => bail!("`{key}` is not a property known here"),
    }
}

/// The mask of capability numbers (capabilities(7)); `~` inverts it.
fn capabilities(text: &str) -> Result<u64> {
    let names = text.strip_prefix('~').unwrap_or(text);
    let mask = names.split_whitespace().try_fold(0u64, |mask, name| {
        let known = CAPABILITIES.iter().find(|(known, _)| *known == name);
        let (_, bit) = known.with_context(|| format!("`{name}` is not a capability known here"))?;
        Ok::<_, anyhow::Error>(mask | (1 << bit))
    })?;
    Ok(if text.starts_with('~') { !mask } else { mask })
}

/// The allowed kinds of namespaces as flags of clone(2): none for `yes`, all for `no`.
fn namespaces(text: &str) -> Result<u64> {
    let all = NAMESPACES.iter().fold(0, |all, (_, flag)| all | flag);
    if let Ok(restricted) = boolean(text) {
        return Ok(if restricted { 0 } else { all });
    }
    let names = text.strip_prefix('~').unwrap_or(text);
    let named = names.split_whitespace().try_fold(0u64, |flags, name| {
        let known = NAMESPACES.iter().find(|(known, _)| *known == name);
        let (_, flag) = known.with_context(|| format!("`{name}` is not a kind of namespace"))?;
        Ok::<_, anyhow::Error>(flags | flag)
    })?;
    Ok(if text.starts_with('~') { all & !named } else { named })
}

/// The boolean words of systemd.syntax(7).
fn boolean(text: &str) -> Result<bool> {
    match text {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => bail!("`{text}` is not a boolean"),
    }
}

/// A number, with K, M, G or T to the base 1024, or `infinity`. A resource limit has two: both are set.
fn limit(key: &str, text: &str) -> Result<Vec<Property>> {
    let number = match text {
        "infinity" => u64::MAX,
        _ => {
            let (digits, power) = match text.char_indices().next_back() {
                Some((at, unit @ ('K' | 'M' | 'G' | 'T'))) => {
                    (text.get(..at).unwrap_or_default(), " KMGT".find(unit).unwrap_or(0))
                }
                _ => (text, 0),
            };
            let number: u64 = digits.parse().context("it is not a number")?;
            number.checked_mul(1 << (10 * power)).context("it is too large")?
        }
    };
    let mut all = vec![(key.to_owned(), number.into())];
    if key.starts_with("Limit") {
        all.push((format!("{key}Soft"), number.into()));
    }
    Ok(all)
}

/// Seconds, or a number with `ms`, `s`, `min` or `h`; in microseconds.
fn micros(text: &str) -> Result<u64> {
    if text == "infinity" {
        return Ok(u64::MAX);
    }
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text.strip_prefix(digits).unwrap_or_default().trim() {
        "ms" => 1000,
        "" | "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        other => bail!("`{other}` is not a unit of time known here"),
    };
    digits.trim().parse::<u64>().context("it is not a number")?.checked_mul(unit).context("it is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(text: &str) -> Vec<String> {
        parse(text).unwrap().iter().map(|(k, v)| format!("{k} {} {v:?}", v.value_signature())).collect()
    }

    #[test]
    fn each_kind_has_its_type() {
        let seen = types(
            "# comment\n[Service]\nProtectSystem=strict\nNoNewPrivileges=yes\nCapabilityBoundingSet=\n\
             SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n\
             ReadWritePaths=/etc/astra -/run/astra\nUMask=0077\nLimitCORE=0\nRestrictNamespaces=yes\n\
             RestrictAddressFamilies=AF_UNIX \\\n AF_INET\nIPAddressDeny=any\nMemoryMax=1G\nRuntimeMaxSec=2min",
        );
        let kinds: Vec<_> = seen.iter().map(|s| s.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            kinds,
            [
                "ProtectSystem s",
                "NoNewPrivileges b",
                "CapabilityBoundingSet t",
                "SystemCallFilter (bas)",
                "SystemCallFilter (bas)",
                "ReadWritePaths as",
                "UMask u",
                "LimitCORE t",
                "LimitCORESoft t",
                "RestrictNamespaces t",
                "RestrictAddressFamilies (bas)",
                "IPAddressDeny a(iayu)",
                "MemoryMax t",
                "RuntimeMaxUSec t"
            ]
        );
        assert!(seen[2].contains("U64(0)") && seen[6].contains("U32(63)"), "{seen:?}");
        assert!(seen[3].contains("Bool(true)") && seen[4].contains("Bool(false)"), "{seen:?}");
        assert!(seen[12].contains("1073741824") && seen[13].contains("120000000"), "{seen:?}");
        assert!(seen[9].contains("U64(0)"), "{seen:?}");
    }

    #[test]
    fn the_sandbox_of_every_run_is_parsed() {
        assert!(parse(include_str!("../../../units/sandbox.conf")).unwrap().len() > 30);
    }

    #[test]
    fn unknown_keys_are_refused() {
        for bad in [
            "ProtectSytem=strict",
            "NoNewPrivileges=maybe",
            "no equals sign",
            "UMask=9",
            "CapabilityBoundingSet=CAP_FOO",
            "ReadWritePaths=%t/astra",
            "RuntimeMaxSec=1fortnight",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
