// SPDX-License-Identifier: GPL-2.0

//! `readdir` of a directory of one lower layer, and of one merged of two and an
//! upper one.

use std::path::Path;

use rustix::fs::{self as rfs, RawDir, SeekFrom};

use super::site::{Kind, Site};
use super::{at, each, empty_files, Row, Sample, Unit};
use crate::sys::{self, Expect, OFlags};
use crate::tree::Tree;

/// How many of the entries are in the upper layer.
const UPPER: usize = 16;

pub struct Listing {
    /// In all layers together; each lower one has its part.
    pub entries: usize,
    /// How many lower layers; with more than one there is an upper part, too.
    pub layers: usize,
    pub rounds: usize,
}

impl Listing {
    fn is_merged(&self) -> bool {
        self.layers > 1
    }

    fn dir(&self) -> String {
        let how = if self.is_merged() { "merged" } else { "single" };
        format!("readdir/{how}{}", self.entries)
    }

    fn fill(&self, layer: usize, lower: &Tree) {
        let each = self.entries / self.layers;
        let names = (0..each).map(|i| format!("entry-{layer}-{i}"));
        empty_files(lower, &self.dir(), names);
    }
}

impl Row for Listing {
    fn name(&self) -> String {
        let how = if self.is_merged() { "merged" } else { "single" };
        format!("readdir.{how}.{}", self.entries)
    }

    fn heading(&self) -> String {
        match self.is_merged() {
            true => "readdir, merged of two lower layers and an upper one",
            false => "readdir, of one lower layer",
        }
        .into()
    }

    fn label(&self) -> String {
        format!("{} entries", self.entries)
    }

    fn unit(&self) -> Unit {
        Unit::Milliseconds
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn layers(&self) -> usize {
        self.layers
    }

    fn lower(&self, lower: &Tree) {
        self.fill(0, lower);
    }

    fn lower_at(&self, layer: usize, lower: &Tree) {
        self.fill(layer, lower);
    }

    fn prepare(&self, site: &Site) {
        if self.is_merged() && site.kind != Kind::Bare {
            let dir = site.dir(&self.dir());
            for i in 0..UPPER {
                at::make_file(&dir, &format!("upper-{i}")).works();
            }
        }
    }

    fn work(&self, site: &Site) -> Sample {
        // On the bare file system there are several directories.
        let dirs = site.seen(&self.dir());
        let upper = self.is_merged() && site.kind != Kind::Bare;
        let expected = self.entries + if upper { UPPER } else { 0 };
        let list = || {
            let found: usize = dirs.iter().map(|d| entries(d, 1)).sum();
            assert_eq!(found, expected, "entries");
        };
        let times = if self.entries > 10_000 { 3 } else { 20 };
        let cold = each(1, |_| list());
        let hot = each(times, |_| list());
        // What the first reading costs is in the figures above.
        let all = each(1, |_| {
            for dir in &dirs {
                entries(dir, 1 + times);
            }
        });
        let again = (all - hot).max(0.0) / times as f64;
        vec![
            ("cold", cold / 1e3),
            ("hot", hot / 1e3),
            ("rewound", again / 1e3),
        ]
    }
}

/// Opens a directory and reads it so many times; the number of entries without
/// `.` and `..`, once.
fn entries(dir: &Path, times: usize) -> usize {
    let fd = sys::open(dir, OFlags::RDONLY | OFlags::DIRECTORY).works();
    let mut space = Vec::with_capacity(32 << 10);
    let mut count = 0;
    for _ in 0..times {
        rfs::seek(&fd, SeekFrom::Start(0)).expect("seek");
        count = 0;
        let mut dir = RawDir::new(&fd, space.spare_capacity_mut());
        while let Some(entry) = dir.next() {
            entry.expect("getdents");
            count += 1;
        }
    }
    count - 2
}
