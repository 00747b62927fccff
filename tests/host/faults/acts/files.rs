//! Files of the host, by way of its process 1's root. An absolute symlink of the host would lead to a file of this
//! machine: files are opened without following one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use nix::fcntl::OFlag;

use super::super::row::Done;
use super::super::site::Site;
use crate::site::{CONFIG_FILE, ENV_FILE};

impl Site {
    /// The path of a host's file on this machine.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn open(&self, options: &mut OpenOptions, path: &str) -> Result<File, String> {
        let opened = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(self.at(path));
        opened.map_err(|error| format!("{path}: {error}"))
    }

    /// A link counts, too.
    pub fn exists(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }

    pub fn is_link(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok_and(|it| it.is_symlink())
    }

    pub fn is_file(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok_and(|it| it.is_file())
    }

    pub fn read(&self, path: &str) -> Result<String, String> {
        let mut text = String::new();
        let read = self.open(File::options().read(true), path)?.read_to_string(&mut text);
        read.map_err(|error| format!("{path}: {error}"))?;
        Ok(text)
    }

    pub fn write(&self, path: &str, text: &str) -> Done {
        let inner = |error: io::Error| format!("{path}: {error}");
        fs::create_dir_all(self.at(path).parent().unwrap()).map_err(inner)?;
        let mut file = self.open(File::options().write(true).create(true).truncate(true), path)?;
        file.write_all(text.as_bytes()).map_err(inner)
    }

    pub fn append(&self, path: &str, text: &str) -> Done {
        let mut file = self.open(File::options().append(true), path)?;
        file.write_all(text.as_bytes()).map_err(|error| format!("{path}: {error}"))
    }

    /// Replaces a file, like an editor that writes a new one and renames it.
    pub fn edit(&self, path: &str, change: impl Fn(&str) -> String) -> Done {
        let (old, new) = (self.at(path), self.at(&format!("{path}.edited")));
        let text = self.read(path)?;
        let changed = change(&text);
        if changed == text {
            return Err(format!("{path}: the edit changes nothing"));
        }
        let mode = fs::metadata(&old).map_or(0o600, |it| it.permissions().mode());
        fs::write(&new, changed)
            .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(mode)))
            .and_then(|()| fs::rename(&new, &old))
            .map_err(|error| format!("{path}: {error}"))
    }

    /// Replaces a text of agent.toml.
    pub fn config(&self, old: &str, new: &str) -> Done {
        self.edit(CONFIG_FILE, |toml| toml.replace(old, new))
    }

    /// Adds a line to a table of agent.toml.
    pub fn key(&self, table: &str, line: &str) -> Done {
        self.edit(CONFIG_FILE, |toml| {
            toml.replacen(&format!("[{table}]\n"), &format!("[{table}]\n{line}\n"), 1)
        })
    }

    /// A variable of an env file; exactly one line has it.
    pub fn variable(&self, path: &str, name: &str) -> Result<String, String> {
        let text = self.read(path)?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.into()),
            _ => Err(format!("{path} does not have one {name}: {text}")),
        }
    }

    /// The committed image.
    pub fn image(&self) -> Result<String, String> {
        self.variable(ENV_FILE, "APP_IMAGE")
    }

    /// Removes the lines of astra.env that begin so.
    pub fn drop_variable(&self, name: &str) -> Done {
        self.edit(ENV_FILE, |text| {
            text.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n")).collect()
        })
    }
}

/// A test of a path, as the end of a row.
pub fn must(holds: bool, what: &str) -> Done {
    if holds { Ok(()) } else { Err(format!("not so: {what}")) }
}
