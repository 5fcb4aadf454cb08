// SPDX-License-Identifier: GPL-2.0

//! Data that is in the page cache: read, written, mapped.

use super::site::{Kind, Site};
use super::{each, in_words, lower_file, Row, Sample, Unit};
use crate::sys::{self, Expect, Map, OFlags};
use crate::tree::Tree;

/// The size of the file.
const FILE: usize = 1 << 20;
const PAGE: usize = 4096;

/// `pread` of a lower file, `pwrite` to an upper one.
pub struct Data {
    /// Of one call, in bytes.
    pub size: usize,
    pub rounds: usize,
}

fn lay_out(lower: &Tree) {
    lower_file(lower, "data/f", FILE as u64);
}

/// A file of the upper layer, which is as long.
fn prepare(site: &Site) {
    site.writable_dir("data");
    sys::write_file(site.at("data/upper"), vec![1; FILE]).works();
}

/// Opens the lower file to read and the upper one to write, and has both in the
/// page cache.
fn open_both(site: &Site) -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    let lower = match site.kind {
        Kind::Bare => site.lower("data/f"),
        Kind::Overlay | Kind::Rovl => site.at("data/f"),
    };
    let lower = sys::open(lower, OFlags::RDONLY).works();
    let upper = sys::open(site.at("data/upper"), OFlags::RDWR).works();
    for fd in [&lower, &upper] {
        sys::pread(fd, FILE, 0).works();
    }
    sys::pwrite(&upper, vec![2; FILE], 0).works();
    (lower, upper)
}

impl Row for Data {
    fn name(&self) -> String {
        format!("data.{}", self.label().replace(' ', ""))
    }

    fn heading(&self) -> String {
        "data in the page cache".into()
    }

    fn label(&self) -> String {
        in_words(self.size as u64)
    }

    fn unit(&self) -> Unit {
        Unit::Microseconds
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn lower(&self, lower: &Tree) {
        lay_out(lower);
    }

    fn prepare(&self, site: &Site) {
        prepare(site);
    }

    fn work(&self, site: &Site) -> Sample {
        let (lower, upper) = open_both(site);
        let mut buffer = vec![3; self.size];
        let places = FILE / self.size;
        let count = places * (64 << 20) / FILE / 4;
        let place = |i: usize| (i % places * self.size) as u64;
        let read = each(count, |i| {
            let n = rustix::io::pread(&lower, &mut buffer[..], place(i)).expect("pread");
            assert_eq!(n, self.size, "bytes read");
        });
        let write = each(count, |i| {
            let n = rustix::io::pwrite(&upper, &buffer, place(i)).expect("pwrite");
            assert_eq!(n, self.size, "bytes written");
        });
        vec![("read", read), ("write", write)]
    }
}

/// The first touch of each page of a mapping, with mapping and unmapping.
pub struct Faults {
    pub rounds: usize,
}

impl Row for Faults {
    fn name(&self) -> String {
        "mmap".into()
    }

    fn heading(&self) -> String {
        "mapped and touched, for each page".into()
    }

    fn label(&self) -> String {
        String::new()
    }

    fn unit(&self) -> Unit {
        Unit::Microseconds
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn lower(&self, lower: &Tree) {
        lay_out(lower);
    }

    fn prepare(&self, site: &Site) {
        prepare(site);
    }

    fn work(&self, site: &Site) -> Sample {
        const PAGES: usize = FILE / PAGE;
        const TIMES: usize = 16;
        let (lower, upper) = open_both(site);
        let read = each(TIMES, |_| {
            let map = Map::new(&lower, FILE, false, true).works();
            for page in 0..PAGES {
                map.get(page * PAGE, 1);
            }
        });
        let copied = each(TIMES, |_| {
            let map = Map::new(&lower, FILE, true, false).works();
            for page in 0..PAGES {
                map.put(page * PAGE, &[1]);
            }
        });
        let written = each(TIMES, |_| {
            let map = Map::new(&upper, FILE, true, true).works();
            for page in 0..PAGES {
                map.put(page * PAGE, &[1]);
            }
        });
        vec![
            ("lower file, read", read / PAGES as f64),
            ("lower file, private write", copied / PAGES as f64),
            ("upper file, shared write", written / PAGES as f64),
        ]
    }
}
