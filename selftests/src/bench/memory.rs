// SPDX-License-Identifier: GPL-2.0

//! What the kernel keeps in memory for a name that has been looked up: inode
//! and dentry, and those of the layer below.

use std::time::Duration;

use super::site::Site;
use super::{at, empty_files, Row, Sample, Unit};
use crate::sys::{self, Expect};
use crate::tree::Tree;

pub struct Memory {
    pub directories: bool,
    pub count: usize,
    pub rounds: usize,
}

impl Memory {
    fn dir(&self) -> String {
        format!("memory/{}", self.label())
    }
}

fn name(i: usize) -> String {
    format!("name{i}")
}

impl Row for Memory {
    fn name(&self) -> String {
        format!("memory.{}", self.label())
    }

    fn heading(&self) -> String {
        "memory for a name in the caches, all slabs".into()
    }

    fn label(&self) -> String {
        match self.directories {
            true => "directories",
            false => "files",
        }
        .into()
    }

    fn unit(&self) -> Unit {
        Unit::Bytes
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn lower(&self, lower: &Tree) {
        if !self.directories {
            return empty_files(lower, &self.dir(), (0..self.count).map(name));
        }
        for i in 0..self.count {
            lower.dir(format!("{}/{}", self.dir(), name(i)));
        }
    }

    fn work(&self, site: &Site) -> Sample {
        let dir = site.seen_dir(&self.dir());
        // What has been dropped is freed a little later.
        std::thread::sleep(Duration::from_millis(300));
        let before = slabs();
        for i in 0..self.count {
            at::stat(&dir, &name(i)).works();
        }
        let used = slabs().saturating_sub(before);
        vec![("", used as f64 / self.count as f64)]
    }
}

/// The memory in all slabs, in bytes.
fn slabs() -> u64 {
    let info = sys::text("/proc/meminfo").works();
    let line = info.lines().find_map(|l| l.strip_prefix("Slab:"));
    let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("Slab in /proc/meminfo") << 10
}
