// SPDX-License-Identifier: GPL-2.0

//! Names that are made, moved and removed, in a merged directory.

use super::site::{Kind, Site};
use super::{at, each, empty_files, Row, Sample, Unit};
use crate::sys::{Expect, OFlags};
use crate::tree::Tree;

const NAMES: usize = 128;
const DIR: &str = "names";

pub struct Names {
    pub rounds: usize,
}

fn names(stem: &str) -> Vec<String> {
    (0..NAMES).map(|i| format!("{stem}{i}")).collect()
}

impl Row for Names {
    fn name(&self) -> String {
        "names".into()
    }

    fn heading(&self) -> String {
        "changes in a merged directory".into()
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
        empty_files(lower, DIR, names("lower").into_iter());
    }

    fn prepare(&self, site: &Site) {
        site.writable_dir(DIR);
        if site.kind == Kind::Bare {
            let dir = site.dir(DIR);
            for name in names("lower") {
                at::make_file(&dir, &name).works();
            }
        }
    }

    fn work(&self, site: &Site) -> Sample {
        let [file, dir, moved, lower] = ["file", "dir", "moved", "lower"].map(names);
        let at = site.dir(DIR);
        let make = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        // Where it stands: the directory and the journal.
        at::make_file(&at, "first").works();
        vec![
            (
                "create",
                each(NAMES, |i| drop(at::open(&at, &file[i], make).works())),
            ),
            ("mkdir", each(NAMES, |i| at::mkdir(&at, &dir[i]).works())),
            (
                "chmod, upper file",
                each(NAMES, |i| at::chmod(&at, &file[i], 0o600).works()),
            ),
            (
                "rename, upper file",
                each(NAMES, |i| at::rename(&at, &file[i], &moved[i]).works()),
            ),
            (
                "unlink, upper file",
                each(NAMES, |i| at::unlink(&at, &moved[i]).works()),
            ),
            ("rmdir", each(NAMES, |i| at::rmdir(&at, &dir[i]).works())),
            (
                "unlink, lower file",
                each(NAMES, |i| at::unlink(&at, &lower[i]).works()),
            ),
            (
                "create over whiteout",
                each(NAMES, |i| drop(at::open(&at, &lower[i], make).works())),
            ),
        ]
    }
}
