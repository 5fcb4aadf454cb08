// SPDX-License-Identifier: GPL-2.0

//! Calls on names and files that change nothing: `stat`, `open` and `close`.

use super::site::{Kind, Site};
use super::{at, each, empty_files, lower_file, Row, Sample, Unit};
use crate::sys::{Expect, OFlags};
use crate::tree::Tree;

/// So many names, and each so often where it is in the caches.
const NAMES: usize = 256;
const TIMES: usize = 16;

/// `stat` of lower files, and of names that do not exist.
pub struct Stat {
    pub rounds: usize,
}

impl Row for Stat {
    fn name(&self) -> String {
        "stat".into()
    }

    fn heading(&self) -> String {
        "stat of a lower file".into()
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
        empty_files(lower, "stat", (0..NAMES).map(|i| format!("f{i}")));
    }

    fn work(&self, site: &Site) -> Sample {
        let there: Vec<String> = (0..NAMES).map(|i| format!("f{i}")).collect();
        let not_there: Vec<String> = (0..NAMES).map(|i| format!("n{i}")).collect();
        let dir = site.seen_dir("stat");
        let found = |i: usize| at::stat(&dir, &there[i % NAMES]).works();
        let not_found = |i: usize| at::absent(&dir, &not_there[i % NAMES]);
        vec![
            ("cold", each(NAMES, found)),
            ("hot", each(NAMES * TIMES, found)),
            ("no such name, cold", each(NAMES, not_found)),
            ("no such name, hot", each(NAMES * TIMES, not_found)),
        ]
    }
}

/// `open` and `close` of files in the caches.
pub struct Open {
    pub rounds: usize,
}

/// Not so many files: those of the upper layer are made for each sample.
const FILES: usize = 32;

impl Row for Open {
    fn name(&self) -> String {
        "open".into()
    }

    fn heading(&self) -> String {
        "open and close".into()
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
        for i in 0..FILES {
            lower_file(lower, &format!("open/l{i}"), 4096);
        }
    }

    fn prepare(&self, site: &Site) {
        site.writable_dir("open");
        let dir = site.dir("open");
        for i in 0..FILES {
            at::make_file(&dir, &format!("u{i}")).works();
        }
    }

    fn work(&self, site: &Site) -> Sample {
        let lower: Vec<String> = (0..FILES).map(|i| format!("l{i}")).collect();
        let upper: Vec<String> = (0..FILES).map(|i| format!("u{i}")).collect();
        let dir = site.dir("open");
        let seen = match site.kind {
            Kind::Bare => site.seen_dir("open"),
            Kind::Overlay | Kind::Rovl => site.dir("open"),
        };
        let read = |i: usize| drop(at::open(&seen, &lower[i % FILES], OFlags::RDONLY).works());
        let write = |i: usize| drop(at::open(&dir, &upper[i % FILES], OFlags::RDWR).works());
        each(FILES, read);
        each(FILES, write);
        vec![
            ("lower file, to read", each(FILES * 64, read)),
            ("upper file, to write", each(FILES * 64, write)),
        ]
    }
}
