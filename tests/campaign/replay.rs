//! Restores the disk as a power cut would leave it: replays a write log from qemu's blklogwrites (the format
//! of dm-log-writes) up to a flush, then a random part of the later writes, in pieces of 4 KiB. This models a
//! drive that keeps its promise on flushes, and nothing more.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

const SECTOR: u64 = 512;
const PIECE: usize = 4096;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MAGIC: u64 = 0x006a_7366_7773_6872;

struct Entry {
    /// Its start in the log.
    offset: u64,
    sector: u64,
    sectors: u64,
    flags: u64,
}

impl Entry {
    fn flushes(&self) -> bool {
        self.flags & (FLUSH | FUA) != 0
    }

    fn bytes(&self) -> u64 {
        if self.flags & DISCARD != 0 { 0 } else { self.sectors * SECTOR }
    }

    fn data(&self, log: &File) -> Result<Vec<u8>> {
        let mut data = vec![0; usize::try_from(self.bytes())?];
        log.read_exact_at(&mut data, self.offset + SECTOR).context("reading the log")?;
        Ok(data)
    }
}

/// A log, with its entries.
pub struct Log {
    file: File,
    entries: Vec<Entry>,
}

/// How a disk was made: the flushes up to the cut, and the pieces of later writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    pub flushes: usize,
    pub under_way: usize,
    pub kept: usize,
    pub lost: usize,
}

/// splitmix64: the same seed, the same cut.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`, or 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % (end.max(1) as u64)) as usize
    }
}

impl Log {
    pub fn open(file: File) -> Result<Self> {
        let word = |at| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).map(|()| u64::from_le_bytes(bytes)).unwrap_or(0)
        };
        ensure!(word(0) == MAGIC, "no write log: it begins with {:#x}", word(0));
        let end = file.metadata()?.len();
        let (mut entries, mut offset) = (Vec::new(), SECTOR);
        while offset + SECTOR <= end {
            let entry =
                Entry { offset, sector: word(offset), sectors: word(offset + 8), flags: word(offset + 16) };
            if offset + SECTOR + entry.bytes() > end || (entry.bytes() == 0 && entry.flags == 0) {
                break; // the host went off while it was written
            }
            offset += SECTOR + entry.bytes();
            entries.push(entry);
        }
        Ok(Self { file, entries })
    }

    /// Places of the flushes between two sizes of the log.
    pub fn marks(&self, sizes: RangeInclusive<u64>) -> Vec<usize> {
        let entries = self.entries.iter().enumerate();
        entries.filter(|(_, e)| e.flushes() && sizes.contains(&e.offset)).map(|(place, _)| place).collect()
    }

    /// Place of the first write from that size on with a line that begins so.
    pub fn line(&self, from: u64, text: &str) -> Result<usize> {
        for (place, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.offset >= from) {
            let data = entry.data(&self.file)?;
            let later = [b"\n", text.as_bytes()].concat();
            if data.starts_with(text.as_bytes()) || data.windows(later.len()).any(|at| at == later) {
                return Ok(place);
            }
        }
        anyhow::bail!("no write has a line `{text}`")
    }

    /// Brings a disk, which holds all entries before `from`, to a cut after `mark`.
    pub fn cut(&self, disk: &File, from: usize, mark: usize, seed: u64) -> Result<Made> {
        for entry in self.entries.get(from..=mark).context("no such entries")? {
            disk.write_all_at(&entry.data(&self.file)?, entry.sector * SECTOR).context("writing the disk")?;
        }
        let later = self.entries.get(mark + 1..).unwrap_or_default();
        let next = later.iter().position(Entry::flushes).unwrap_or(later.len());
        let mut random = Random(seed);
        let under_way = if next == 0 { 0 } else { random.below(next + 1) };
        let (mut kept, mut lost) = (0, 0);
        for entry in later.iter().take(under_way) {
            for (i, piece) in entry.data(&self.file)?.chunks(PIECE).enumerate() {
                if random.next().is_multiple_of(2) {
                    lost += 1;
                    continue;
                }
                let at = entry.sector * SECTOR + (i * PIECE) as u64;
                disk.write_all_at(piece, at).context("writing the disk")?;
                kept += 1;
            }
        }
        let flushes = self.entries.iter().take(mark + 1).filter(|entry| entry.flushes()).count();
        Ok(Made { flushes, under_way, kept, lost })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::path::PathBuf;

    use super::*;

    fn file(name: &str, content: &[u8]) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("replay-{name}-{}", std::process::id()));
        fs::write(&path, content).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        (path, file)
    }

    /// A log of one-sector writes, each filled with its letter; `true`: a flush follows.
    fn log(writes: &[(u64, u8, bool)]) -> Vec<u8> {
        let mut log = vec![0; SECTOR as usize];
        log[..8].copy_from_slice(&MAGIC.to_le_bytes());
        let mut entry = |sector: u64, sectors: u64, flags: u64, data: &[u8]| {
            let start = log.len();
            log.resize(start + SECTOR as usize, 0);
            for (i, word) in [sector, sectors, flags].into_iter().enumerate() {
                log[start + 8 * i..start + 8 * i + 8].copy_from_slice(&word.to_le_bytes());
            }
            log.extend_from_slice(data);
        };
        for (sector, letter, flushed) in writes {
            entry(*sector, 1, 0, &[*letter; SECTOR as usize]);
            if *flushed {
                entry(0, 0, FLUSH, &[]);
            }
        }
        log
    }

    #[test]
    fn a_cut_keeps_all_up_to_the_flush_and_a_random_part_of_the_rest() {
        let writes = [(0, b'a', true), (1, b'b', false), (2, b'c', false), (3, b'd', true)];
        let (path, file_of_log) = file("log", &log(&writes));
        let log = Log::open(file_of_log).unwrap();
        assert_eq!(log.marks(0..=u64::MAX), [1, 5]);
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let (disk_path, disk) = file(&format!("disk-{seed}"), &[b'.'; 4 * SECTOR as usize]);
            let made = log.cut(&disk, 0, 1, seed).unwrap();
            let content = fs::read(&disk_path).unwrap();
            let letters: String =
                content.chunks(SECTOR as usize).map(|sector| char::from(sector[0])).collect();
            assert!(letters.starts_with('a'), "{letters}");
            assert_eq!(letters.chars().filter(|c| *c != '.').count(), 1 + made.kept);
            assert_eq!((made.flushes, made.kept + made.lost), (1, made.under_way));
            outcomes.insert(letters);
            fs::remove_file(disk_path).unwrap();
        }
        fs::remove_file(path).unwrap();
        assert!(
            outcomes.contains("a.c.") && outcomes.contains("a...") && outcomes.len() == 8,
            "{outcomes:?}"
        );
    }

    #[test]
    fn the_write_of_a_line_is_found() {
        let mut bytes = log(&[(0, b'x', true), (1, b'y', false)]);
        let at = bytes.len() - 100;
        bytes[at..at + 13].copy_from_slice(b"\nAPP_IMAGE=v2");
        let (path, file) = file("line", &bytes);
        let log = Log::open(file).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(log.line(0, "APP_IMAGE=v2").unwrap(), 2);
        assert!(log.line(0, "APP_IMAGE=v3").is_err());
    }
}
