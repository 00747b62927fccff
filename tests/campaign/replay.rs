//! Restores the disk as a power cut would leave it: replays a write log from qemu's blklogwrites (the format
//! of dm-log-writes) up to a flush, then a random part of the later writes, in pieces of 4 KiB. This models a
//! drive that keeps its promise on flushes, and nothing more. Used by `cuts`.
//!
//!     replay marks LOG FROM TO             numbers of the flushes between two sizes of the log
//!     replay line LOG FROM TEXT            number of the first write after that size with a line that begins so
//!     replay cut LOG DISK FROM MARK SEED   DISK holds all entries before FROM
// A test tool: it reports errors by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::env;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

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

    fn data(&self, log: &File) -> Vec<u8> {
        let mut data = vec![0; if self.flags & DISCARD != 0 { 0 } else { (self.sectors * SECTOR) as usize }];
        log.read_exact_at(&mut data, self.offset + SECTOR).expect("reading the log");
        data
    }
}

fn entries(log: &File) -> Vec<Entry> {
    let word = |at| {
        let mut bytes = [0; 8];
        log.read_exact_at(&mut bytes, at).map(|()| u64::from_le_bytes(bytes)).unwrap_or(0)
    };
    assert!(word(0) == MAGIC, "no write log: it begins with {:#x}", word(0));
    let end = log.metadata().unwrap().len();
    let (mut entries, mut offset) = (Vec::new(), SECTOR);
    while offset + SECTOR <= end {
        let entry =
            Entry { offset, sector: word(offset), sectors: word(offset + 8), flags: word(offset + 16) };
        let data = if entry.flags & DISCARD != 0 { 0 } else { entry.sectors * SECTOR };
        if offset + SECTOR + data > end || (data == 0 && entry.flags == 0) {
            break; // the machine went off while it was written
        }
        offset += SECTOR + data;
        entries.push(entry);
    }
    entries
}

/// splitmix64: the same seed, the same cut.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

fn cut(log: &File, disk: &File, from: usize, mark: usize, seed: u64) {
    let entries = entries(log);
    for entry in &entries[from..=mark] {
        disk.write_all_at(&entry.data(log), entry.sector * SECTOR).expect("writing the disk");
    }
    let next = (mark + 1..entries.len()).find(|&i| entries[i].flushes()).unwrap_or(entries.len());
    let under_way = next - (mark + 1);
    let mut random = Random(seed);
    let reached = if under_way == 0 { 0 } else { (random.next() % (under_way as u64 + 1)) as usize };
    let (mut kept, mut lost) = (0, 0);
    for entry in &entries[mark + 1..mark + 1 + reached] {
        for (i, piece) in entry.data(log).chunks(PIECE).enumerate() {
            if random.next().is_multiple_of(2) {
                lost += 1;
                continue;
            }
            disk.write_all_at(piece, entry.sector * SECTOR + (i * PIECE) as u64).expect("writing the disk");
            kept += 1;
        }
    }
    println!("{{\"mark\":{mark},\"flushes\":{},\"under_way\":{reached},\"kept\":{kept},\"lost\":{lost}}}", {
        entries[..=mark].iter().filter(|e| e.flushes()).count()
    });
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let number = |i: usize| words[i].parse::<u64>().expect("a number");
    match words.first().map(String::as_str) {
        Some("marks") => {
            let log = File::open(&words[1]).expect("opening the log");
            for (i, entry) in entries(&log).iter().enumerate() {
                if entry.flushes() && (number(2)..=number(3)).contains(&entry.offset) {
                    println!("{i}");
                }
            }
        }
        Some("line") => {
            let log = File::open(&words[1]).expect("opening the log");
            let holds = |data: Vec<u8>| {
                let line = [b"\n", words[3].as_bytes()].concat();
                data.starts_with(&line[1..]) || data.windows(line.len()).any(|at| at == line)
            };
            let entries = entries(&log);
            let mut late = entries.iter().enumerate().filter(|(_, entry)| entry.offset >= number(2));
            println!("{}", late.find(|(_, entry)| holds(entry.data(&log))).expect("no such line").0);
        }
        Some("cut") => {
            let log = File::open(&words[1]).expect("opening the log");
            let disk = OpenOptions::new().write(true).open(&words[2]).expect("opening the disk");
            cut(&log, &disk, number(3) as usize, number(4) as usize, number(5));
        }
        _ => panic!(
            "replay marks LOG FROM TO | replay line LOG FROM TEXT | replay cut LOG DISK FROM MARK SEED"
        ),
    }
}
