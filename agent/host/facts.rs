//! Facts of the running host: time, randomness and the line of a protected file. The floors below get these
//! as arguments; the reconciler and the adapters call here.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;

/// Longest line that is read, in bytes.
const LINE_CAP: u64 = 64 * 1024;

/// `N` bytes from the kernel's generator (getrandom(2)).
///
/// # Errors
///
/// The kernel has no such call.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("getting random bytes from the kernel")?;
    Ok(bytes)
}

/// `characters` random characters out of `A-Z a-z 0-9`, uniformly distributed (for `{ generate = … }`).
///
/// # Errors
///
/// The kernel gives no random bytes.
pub fn random_text(characters: usize) -> Result<String> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(characters);
    while text.len() < characters {
        // 248 = 4 * 62: larger bytes would make the first letters more likely.
        let fresh = random::<64>()?;
        let letters = fresh
            .iter()
            .filter(|byte| **byte < 248)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 62)).map(|letter| char::from(*letter)));
        text.extend(letters.take(characters - text.len()));
    }
    Ok(text)
}

/// The single line of the file at `path`, without its line end. The file must be regular (no symlink), owned
/// by root (or by the current user, which for the agent is root), and not writable by group or others. Fails
/// otherwise, and on more than one line, more than 64 KiB, or text that is not UTF-8.
///
/// # Errors
///
/// The file breaks one of these rules, or cannot be read.
pub fn only_line(path: &Path) -> Result<String> {
    read_only_line(path).with_context(|| format!("reading {}", path.display()))
}

fn read_only_line(path: &Path) -> Result<String> {
    let file = File::options()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(|error| match error.kind() {
            // Root without capabilities can read only root's files.
            std::io::ErrorKind::PermissionDenied => anyhow::anyhow!(
                "{error} (hint: the file and the directories on the way must be root's: the agent has no right to look \
                 into those of others)"
            ),
            _ => error.into(),
        })?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        bail!("it is not a regular file");
    }
    if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
        bail!("it belongs to user {}, not to root (hint: chown root it)", meta.uid());
    }
    if meta.mode() & 0o022 != 0 {
        bail!("its group or others may write to it (hint: chmod go-w it)");
    }
    let mut bytes = Vec::new();
    file.take(LINE_CAP + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LINE_CAP {
        bail!("it is longer than 64 KiB");
    }
    while bytes.pop_if(|byte| matches!(byte, b'\n' | b'\r')).is_some() {}
    if bytes.contains(&b'\n') {
        bail!(
            "it has more than one line, which a variable cannot carry (hint: mount the file with [app] volumes, and set \
             the variable to its path)"
        );
    }
    String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("it is not UTF-8"))
}

/// The current time, as [`rfc3339`].
pub fn now() -> String {
    rfc3339(SystemTime::now())
}

/// `time` in UTC to the millisecond, `2026-11-21T04:23:42.007Z` (RFC 3339, 5.6): fixed width, so that texts
/// sort like times. Times before 1970 and after 9999 become the first and the last of these.
pub fn rfc3339(time: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_millis(253_402_300_799_999);
    humantime::format_rfc3339_millis(time.clamp(UNIX_EPOCH, last)).to_string()
}

/// Milliseconds since 1970 of a time in RFC 3339; `None` for any other text.
pub fn millis_of(time: &str) -> Option<u64> {
    let since = humantime::parse_rfc3339(time).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_772_323_200, "2026-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
            assert_eq!(millis_of(text), Some(seconds * 1000));
        }
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(1 << 40)), "9999-12-31T23:59:59.999Z");
        assert_eq!(millis_of("an unknown time"), None);
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(1007)), "1970-01-01T00:00:01.007Z");
    }

    #[test]
    fn random_is_not_constant() {
        assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
        let text = random_text(500).unwrap();
        assert_eq!(text.len(), 500);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_value_is_the_single_line_of_a_protected_file() {
        let dir = std::env::temp_dir().join(format!("astra-facts-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("key");
        std::fs::write(&path, "one\r\n\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(only_line(&path).unwrap(), "one");
        std::fs::write(&path, "-----BEGIN KEY-----\nhunter2\n-----END KEY-----\n").unwrap();
        let error = format!("{:#}", only_line(&path).unwrap_err());
        assert!(error.contains("more than one line") && !error.contains("hunter2"), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o664)).unwrap();
        assert!(format!("{:#}", only_line(&path).unwrap_err()).contains("group or others"));
        let link = dir.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(only_line(&link).is_err());
        assert!(only_line(&dir).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
