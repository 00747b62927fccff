//! File systems that are full, have no inodes, or lose their blocks.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::row::Done;
use super::super::site::Site;

const PAGE: u64 = 4096;

/// An empty file system of 16 MiB in a file, whose blocks are pages of the file system below.
pub fn small_disk() -> PathBuf {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk.ext4");
    let _ = fs::remove_file(&file);
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-b", "4096", "-O", "^has_journal", "-E", "nodiscard"])
        .args([file.to_str().unwrap(), "16M"])
        .stdout(Stdio::null())
        .status()
        .expect("mkfs.ext4 of e2fsprogs");
    assert!(made.success(), "making {}", file.display());
    file
}

impl Site {
    /// Leaves no byte in the file system of a directory.
    pub fn fill(&self, directory: &str) -> Done {
        let path = format!("{directory}/fill");
        let mut file = self.open(File::options().write(true).create(true).truncate(true), &path)?;
        let zeros = vec![0; 64 << 10];
        loop {
            match file.write(&zeros) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(format!("{path}: {error}")),
            }
        }
    }

    /// Gives some bytes back.
    pub fn free(&self, directory: &str, bytes: u64) -> Done {
        let path = format!("{directory}/fill");
        let file = self.open(File::options().write(true), &path)?;
        let resized = file.metadata().and_then(|it| file.set_len(it.len().saturating_sub(bytes)));
        resized.map_err(|error| format!("{path}: {error}"))
    }

    /// Takes all inodes.
    pub fn fill_inodes(&self, directory: &str) -> Done {
        self.sh(&format!("mkdir {directory}/fill"))?;
        let room = self.at(directory).join("fill");
        let full = (0..).find_map(|n| File::create(room.join(n.to_string())).err());
        match full {
            Some(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
            error => Err(format!("{directory}: {error:?}")),
        }
    }

    /// Ends all three.
    pub fn empty(&self, directory: &str) -> Done {
        self.sh(&format!("rm -rf {directory}/fill"))
    }

    /// Fills the last page of a file with line ends, up to `left` bytes.
    pub fn fill_page(&self, path: &str, left: u64) -> Done {
        let size = fs::metadata(self.at(path)).map_err(|error| format!("{path}: {error}"))?.len();
        let missing = PAGE - left - size % PAGE;
        self.append(path, &"\n".repeat(usize::try_from(missing).unwrap()))
    }

    /// Overwrites the beginning of a file.
    pub fn damage(&self, path: &str) -> Done {
        let mut noise = vec![0; 4 * 4096];
        let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut noise));
        let mut file = self.open(File::options().write(true), path)?;
        read.and_then(|()| file.write_all(&noise)).map_err(|error| format!("{path}: {error}"))
    }

    /// Puts /etc/astra on a loop device over a sparse file, whose own file system can become full: then each new block
    /// is an error.
    pub fn thin_disk(&self) -> Done {
        self.sh("ls /dev/loop-control >/dev/null 2>&1 || mknod /dev/loop-control c 10 237")?;
        self.sh("mkdir -p /root/thin /root/on && mount -t tmpfs -o size=3M tmpfs /root/thin")?;
        self.sh("cp --sparse=always /root/disk.ext4 /root/thin/disk")?;
        // It calls a device without a node "lost".
        let number: String = self.ask("losetup -f")?.chars().filter(char::is_ascii_digit).collect();
        let device = format!("/dev/loop{number}");
        self.sh(&format!("[ -b {device} ] || mknod {device} b 7 {number}"))?;
        self.sh(&format!("losetup {device} /root/thin/disk && mount {device} /root/on"))?;
        self.sh("cp -a /etc/astra/. /root/on && chmod 0700 /root/on && rmdir /root/on/lost+found && sync")?;
        self.sh("mount --bind /root/on /etc/astra")?;
        self.restart_caddy()
    }

    pub fn end_thin_disk(&self) -> Done {
        let device = self.ask("findmnt -no SOURCE /root/on")?;
        self.sh("umount -l /etc/astra && umount -l /root/on")?;
        self.sh(&format!("losetup -d {device}; umount -l /root/thin"))?;
        self.restart_caddy()
    }
}
