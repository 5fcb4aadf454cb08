// SPDX-License-Identifier: GPL-2.0

//! Reads the log that the dm-log-writes target keeps of what was written to a
//! device, and what a disk may hold after a power cut at any point of it.
//!
//! The log is in sectors of the logged device's size: first a superblock, then
//! for each write an entry of one sector with the data behind it. All numbers
//! are little-endian and of 64 bits. A write is logged when it is known to be
//! on the medium: after the next flush, or at once if it was forced there (FUA).
//! See `Documentation/admin-guide/device-mapper/log-writes.rst` of the kernel.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1 << 0;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// One thing that happened to the device.
#[derive(Debug)]
pub struct Entry {
    flags: u64,
    /// Where, in bytes.
    pub at: u64,
    pub data: Vec<u8>,
    /// For a mark: its text.
    pub mark: Option<String>,
}

impl Entry {
    /// What completed before this is on the medium.
    pub fn is_flush(&self) -> bool {
        self.flags & FLUSH != 0
    }

    /// A write that is on the medium when it completes.
    pub fn is_fua(&self) -> bool {
        self.flags & FUA != 0
    }

    pub fn is_write(&self) -> bool {
        !self.data.is_empty()
    }

    fn overlaps(&self, other: &Entry) -> bool {
        let end = |e: &Entry| e.at + e.data.len() as u64;
        self.at < end(other) && other.at < end(self)
    }
}

fn number(sector: &[u8], index: usize) -> u64 {
    let bytes = sector
        .get(index * 8..index * 8 + 8)
        .expect("a whole sector");
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

/// The whole log.
pub fn read(log: &Path) -> Vec<Entry> {
    let file = File::open(log).unwrap_or_else(|e| panic!("{log:?}: {e}"));
    let get = |at: u64, len: u64| {
        let mut buf = vec![0; len as usize];
        file.read_exact_at(&mut buf, at)
            .unwrap_or_else(|e| panic!("{log:?}, {len} bytes at {at}: {e}"));
        buf
    };
    let superblock = get(0, 512);
    assert_eq!(number(&superblock, 0), MAGIC, "no log of dm-log-writes");
    assert_eq!(number(&superblock, 1), VERSION, "version of the log");
    let count = number(&superblock, 2);
    let sector = number(&superblock, 3) & 0xffff_ffff;
    assert!((512..=65536).contains(&sector), "sectors of {sector} bytes");
    let mut at = sector;
    let mut entries = Vec::new();
    for _ in 0..count {
        let head = get(at, sector);
        at += sector;
        let (place, sectors, flags, private) = (
            number(&head, 0),
            number(&head, 1),
            number(&head, 2),
            number(&head, 3) as usize,
        );
        let mark = (flags & MARK != 0)
            .then(|| String::from_utf8_lossy(&head[32..32 + private]).into_owned());
        let mut entry = Entry {
            flags,
            at: place * sector,
            data: Vec::new(),
            mark,
        };
        // What a discard leaves is undefined, and what was there is allowed.
        if flags & DISCARD == 0 {
            entry.data = get(at, sectors * sector);
            at += sectors * sector;
        }
        entries.push(entry);
    }
    entries
}

const BLOCK: usize = 4096;

/// What is on a disk: the blocks that are not all zeroes.
#[derive(Clone)]
pub struct Disk {
    size: u64,
    blocks: BTreeMap<u64, Rc<Vec<u8>>>,
}

impl Disk {
    pub fn read(image: &Path) -> Disk {
        let data = std::fs::read(image).unwrap_or_else(|e| panic!("{image:?}: {e}"));
        let blocks = data
            .chunks(BLOCK)
            .enumerate()
            .filter(|(_, b)| b.iter().any(|b| *b != 0))
            .map(|(i, b)| (i as u64, Rc::new(b.to_vec())))
            .collect();
        Disk {
            size: data.len() as u64,
            blocks,
        }
    }

    pub fn apply(&mut self, entry: &Entry) {
        let mut at = entry.at;
        let mut data = &entry.data[..];
        while !data.is_empty() {
            let inside = (at % BLOCK as u64) as usize;
            let len = data.len().min(BLOCK - inside);
            let (now, rest) = data.split_at(len);
            let empty = || Rc::new(vec![0; BLOCK]);
            let block = self.blocks.entry(at / BLOCK as u64).or_insert_with(empty);
            Rc::make_mut(block)[inside..inside + len].copy_from_slice(now);
            at += len as u64;
            data = rest;
        }
    }

    /// Makes `image` hold this, and nothing else.
    pub fn write(&self, image: &Path) {
        let written = File::create(image).and_then(|file| {
            file.set_len(self.size)?;
            let mut run: (u64, Vec<u8>) = (0, Vec::new());
            for (i, block) in &self.blocks {
                let at = i * BLOCK as u64;
                if run.0 + run.1.len() as u64 != at {
                    file.write_all_at(&run.1, run.0)?;
                    run = (at, Vec::new());
                }
                run.1.extend_from_slice(block);
            }
            file.write_all_at(&run.1, run.0)
        });
        written.unwrap_or_else(|e| panic!("{image:?}: {e}"));
    }
}

/// A state in which a power cut may leave the disk.
pub struct Cut {
    pub what: String,
    /// How many entries of the log had come when the power went.
    pub entries: usize,
    pub disk: Disk,
}

/// The states of a disk during a log, from `start` on: at each flush and each
/// forced write, and between two flushes with some of the writes since the first
/// of them, drawn from `seed`.
pub fn cuts(mut disk: Disk, log: &[Entry], seed: u64, mut see: impl FnMut(Cut)) {
    let mut random = seed | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    // The disk at the last flush with what was forced to it since, and the
    // writes that may or may not have got there.
    let mut certain = disk.clone();
    let mut pending: Vec<&Entry> = Vec::new();
    let mut forced: Vec<&Entry> = Vec::new();
    for (i, entry) in log.iter().enumerate() {
        if entry.is_flush() {
            if pending.len() > 1 {
                let mut some = certain.clone();
                let mut count = 0;
                for entry in &pending {
                    // What was forced there is newer than anything cached.
                    if next() % 2 == 0 && !forced.iter().any(|f| f.overlaps(entry)) {
                        some.apply(entry);
                        count += 1;
                    }
                }
                see(Cut {
                    what: format!("{count} of the {} writes before entry {i}", pending.len()),
                    entries: i,
                    disk: some,
                });
            }
            pending.clear();
            forced.clear();
            certain = disk.clone();
        }
        if entry.is_write() {
            disk.apply(entry);
            if entry.is_fua() || entry.is_flush() {
                certain.apply(entry);
                forced.push(entry);
            } else {
                pending.push(entry);
            }
        }
        if entry.is_flush() || entry.is_fua() {
            see(Cut {
                what: format!("entry {i} of {}", log.len()),
                entries: i + 1,
                disk: disk.clone(),
            });
        }
    }
}
