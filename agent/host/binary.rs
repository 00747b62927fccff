//! The path of the agent's own binary, used in its units and for starting runs. Read once at the start: after
//! the binary was replaced, Linux reports `PATH (deleted)`.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::model::name::{RECOVER_UNIT, unit_file};

const CONDITION: &str = "ConditionFileIsExecutable=";
const DELETED: &str = " (deleted)";

static TAKEN: OnceLock<Option<PathBuf>> = OnceLock::new();

/// The path from which this binary can be started again.
///
/// # Errors
/// No such path is known, or it is not UTF-8.
pub fn path() -> Result<String> {
    let path = TAKEN.get_or_init(take).as_ref().context("finding the path of this binary")?;
    path.to_str().map(str::to_owned).with_context(|| format!("the path {} is not UTF-8", path.display()))
}

fn take() -> Option<PathBuf> {
    let unit = std::fs::read_to_string(unit_file(RECOVER_UNIT)).unwrap_or_default();
    let candidates =
        Candidates { written: written(&unit), invoked: invoked(), running: std::env::current_exe().ok() };
    let own = identity(Path::new("/proc/self/exe"));
    candidates.choose(is_executable, |path| own.is_some() && identity(path) == own)
}

/// Paths that may lead to this binary.
struct Candidates {
    /// From recover's unit file.
    written: Option<PathBuf>,
    /// From the command line; a symlink is not resolved, because it outlives its target.
    invoked: Option<PathBuf>,
    /// From Linux: resolved.
    running: Option<PathBuf>,
}

impl Candidates {
    fn choose(
        self,
        is_executable: impl Fn(&Path) -> bool,
        is_this_binary: impl Fn(&Path) -> bool,
    ) -> Option<PathBuf> {
        let written = self.written.filter(|path| is_executable(path));
        if let Some(path) = written.as_ref().filter(|path| is_this_binary(path)) {
            return Some(path.clone());
        }
        let invoked = self.invoked.filter(|path| is_executable(path));
        // An upgrade installs the next binary at the same path.
        invoked.or(written).or_else(|| self.running.map(undeleted))
    }
}

fn written(unit: &str) -> Option<PathBuf> {
    let path = unit.lines().find_map(|line| line.strip_prefix(CONDITION))?;
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}

fn invoked() -> Option<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next()?);
    match name.parent() {
        _ if name.is_absolute() => Some(name),
        Some(dir) if !dir.as_os_str().is_empty() => {
            Some(std::env::current_dir().ok()?.join(name.strip_prefix(".").unwrap_or(&name)))
        }
        _ => {
            let dirs = std::env::var_os("PATH")?;
            let mut found = std::env::split_paths(&dirs).filter(|dir| dir.is_absolute());
            found.find_map(|dir| Some(dir.join(&name)).filter(|path| is_executable(path)))
        }
    }
}

fn undeleted(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(DELETED)) {
        Some(text) => text.into(),
        None => path,
    }
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(paths: [&str; 3], executable: &[&str], this: &[&str]) -> String {
        let path = |text: &str| Some(PathBuf::from(text)).filter(|_| !text.is_empty());
        let [written, invoked, running] = paths.map(path);
        let is_in = |list: &[&str], path: &Path| list.iter().any(|text| Path::new(text) == path);
        let candidates = Candidates { written, invoked, running };
        let chosen = candidates.choose(|path| is_in(executable, path), |path| is_in(this, path));
        chosen.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_replaced_binary_keeps_its_path() {
        let (bin, deleted) = ("/usr/local/bin/astra-agent", "/usr/local/bin/astra-agent (deleted)");
        // The new binary is installed already, or not yet.
        assert_eq!(chosen([bin, bin, deleted], &[bin], &[]), bin);
        assert_eq!(chosen([bin, bin, deleted], &[], &[]), bin);
        assert_eq!(chosen(["", "", deleted], &[], &[]), bin);
        // Units that name such a path are repaired.
        assert_eq!(chosen([deleted, bin, bin], &[bin], &[bin]), bin);
    }

    #[test]
    fn units_keep_naming_the_symlink() {
        let (link, target) = ("/usr/bin/astra-agent", "/opt/astra-1.2.3/astra-agent");
        let both = [link, target];
        assert_eq!(chosen(["", link, target], &both, &both), link);
        assert_eq!(chosen([link, target, target], &both, &both), link);
        // A different binary elsewhere replaces the path.
        assert_eq!(
            chosen(
                [link, "/root/astra-agent", "/root/astra-agent"],
                &[link, "/root/astra-agent"],
                &["/root/astra-agent"]
            ),
            "/root/astra-agent"
        );
        // A symlink whose target is gone does not count.
        assert_eq!(chosen([link, target, target], &[target], &[target]), target);
    }

    #[test]
    fn the_path_is_read_from_the_unit() {
        let unit = "[Unit]\nConditionFileIsExecutable=/usr/bin/astra-agent\n[Service]\n";
        assert_eq!(written(unit), Some("/usr/bin/astra-agent".into()));
        assert_eq!(written(""), None);
    }
}
