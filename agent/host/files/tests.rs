use super::*;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

struct Temp(PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn temp() -> (Temp, Files) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("astra-files-{}-{number}", std::process::id()));
    std::fs::create_dir_all(root.join("etc/astra")).unwrap();
    for dir in ["", "etc", "etc/astra"] {
        std::fs::set_permissions(root.join(dir), PermissionsExt::from_mode(0o755)).unwrap();
    }
    (Temp(root.clone()), Files::new(root))
}

fn mode(root: &Temp, path: &str, bits: u32) {
    std::fs::set_permissions(root.0.join(path), PermissionsExt::from_mode(bits)).unwrap();
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}

#[test]
fn writes_reads_and_removes() {
    let (root, files) = temp();
    let path = Path::new("/etc/astra/astra.env");
    assert_eq!(files.read(path).unwrap(), None);
    for (bytes, bits) in [(&b"A=1\n"[..], 0o600), (b"A=2\n", 0o644)] {
        files.write_atomic(path, bytes, bits).unwrap();
        assert_eq!(files.read(path).unwrap().unwrap(), FileSeen { bytes: bytes.to_vec(), mode: bits });
    }
    assert_eq!(files.list(Path::new("/etc/astra")).unwrap(), ["astra.env"]);
    assert!(files.remove(path).unwrap());
    assert!(!files.remove(path).unwrap());
    assert!(!files.remove(Path::new("/no/such/dir/x")).unwrap());
    assert!(files.list(Path::new("/no")).unwrap().is_empty());
    assert!(files.free_bytes(Path::new("/etc/not/there/yet")).unwrap() > 0);
    files.sync_fs(Path::new("/etc")).unwrap();
    drop(root);
}

#[test]
fn no_symlink_is_followed() {
    let (root, files) = temp();
    std::fs::write(root.0.join("victim"), "old").unwrap();
    symlink(root.0.join("victim"), root.0.join("etc/astra/x")).unwrap();
    assert!(text(files.read(Path::new("/etc/astra/x")).unwrap_err()).contains("symlink"));
    // A write replaces the symlink and leaves its target alone.
    files.write_atomic(Path::new("/etc/astra/x"), b"new", 0o600).unwrap();
    assert_eq!(std::fs::read(root.0.join("victim")).unwrap(), b"old");
    symlink(root.0.join("etc"), root.0.join("link")).unwrap();
    for result in [
        files.write_atomic(Path::new("/link/astra/y"), b"", 0o600),
        files.make_dir(Path::new("/link/dir"), 0o700),
        files.read(Path::new("/link/astra/x")).map(drop),
        files.remove(Path::new("/link/astra/x")).map(drop),
        files.write_atomic(Path::new("/etc/../etc/y"), b"", 0o600),
        files.write_atomic(Path::new("relative"), b"", 0o600),
    ] {
        assert!(result.is_err());
    }
}

#[test]
fn a_directory_writable_by_others_is_refused() {
    let (root, files) = temp();
    let path = Path::new("/etc/astra/f");
    for bits in [0o775, 0o757, 0o1777] {
        mode(&root, "etc", bits);
        assert!(text(files.write_atomic(path, b"x", 0o600).unwrap_err()).contains("writable"));
    }
    mode(&root, "etc", 0o755);
    files.write_atomic(path, b"x", 0o600).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(root.0.join("etc"), Some(12345), None).unwrap();
        assert!(text(files.write_atomic(path, b"y", 0o600).unwrap_err()).contains("12345"));
        assert!(files.remove(path).is_err());
    }
}

#[test]
fn special_files_are_refused() {
    let (root, files) = temp();
    nix::unistd::mkfifo(&root.0.join("etc/fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    assert!(text(files.read(Path::new("/etc/fifo")).unwrap_err()).contains("regular"));
    assert!(files.read(Path::new("/etc/astra")).is_err());
    std::fs::write(root.0.join("etc/big"), vec![0; CAP as usize + 1]).unwrap();
    assert!(text(files.read(Path::new("/etc/big")).unwrap_err()).contains("1 MiB"));
    std::fs::write(root.0.join("etc/full"), vec![0; CAP as usize]).unwrap();
    assert!(files.read(Path::new("/etc/full")).unwrap().is_some());
}

#[test]
fn directories_and_leftovers() {
    let (root, files) = temp();
    files.make_dir(Path::new("/var/lib/astra-agent/journal"), 0o700).unwrap();
    files.make_dir(Path::new("/var/lib/astra-agent/journal"), 0o700).unwrap();
    assert_eq!(files.owner(Path::new("/var/lib/astra-agent/journal")).unwrap().unwrap().1, 0o700);
    std::fs::write(root.0.join("etc/astra/.x.env.astra-tmp-00aa"), "").unwrap();
    std::fs::write(root.0.join("etc/astra/x.env"), "").unwrap();
    let found = files.leftovers([Path::new("/etc/astra"), Path::new("/none")]).unwrap();
    assert_eq!(found, [PathBuf::from("/etc/astra/.x.env.astra-tmp-00aa")]);
    assert_eq!(files.read_dir(Path::new("/etc/astra")).unwrap().len(), 2);
}

#[test]
fn a_failed_write_leaves_only_the_old_file() {
    let (root, files) = temp();
    std::fs::create_dir(root.0.join("etc/astra/dir")).unwrap();
    assert!(files.write_atomic(Path::new("/etc/astra/dir"), b"x", 0o600).is_err());
    assert_eq!(files.list(Path::new("/etc/astra")).unwrap(), ["dir"]);
}
