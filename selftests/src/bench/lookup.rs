// SPDX-License-Identifier: GPL-2.0

//! Names that are in no cache, in directories of many layers; and long paths.

use super::site::Site;
use super::{at, each, empty_files, Row, Sample, Unit};
use crate::sys::Expect;
use crate::tree::Tree;

const NAMES: usize = 64;
const DIR: &str = "lookup";

/// In a directory that all layers have.
pub struct Lookup {
    pub layers: usize,
    pub rounds: usize,
}

impl Lookup {
    /// A name that only the lowest of so many layers has.
    fn file(&self, i: usize) -> String {
        format!("f{i}-of-{}", self.layers)
    }
}

impl Row for Lookup {
    fn name(&self) -> String {
        format!("lookup.{}", self.layers)
    }

    fn heading(&self) -> String {
        "stat of a name in no cache".into()
    }

    fn label(&self) -> String {
        format!("{} layers", self.layers)
    }

    fn unit(&self) -> Unit {
        Unit::Microseconds
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn layers(&self) -> usize {
        self.layers
    }

    fn lower(&self, lower: &Tree) {
        lower.dir(DIR);
        // For the bare file system.
        let names = (0..NAMES).map(|i| format!("bare-{}", self.file(i)));
        empty_files(lower, DIR, names);
    }

    fn lower_at(&self, layer: usize, lower: &Tree) {
        lower.dir(DIR);
        if layer + 1 == self.layers {
            empty_files(lower, DIR, (0..NAMES).map(|i| self.file(i)));
        }
    }

    fn work(&self, site: &Site) -> Sample {
        let bare = match site.kind {
            super::site::Kind::Bare => "bare-",
            _ => "",
        };
        let there: Vec<String> = (0..NAMES)
            .map(|i| format!("{bare}{}", self.file(i)))
            .collect();
        let not_there: Vec<String> = (0..NAMES).map(|i| format!("n{i}")).collect();
        let root = site.seen_dir("");
        let directory = each(1, |_| at::stat(&root, DIR).works());
        let dir = site.seen_dir(DIR);
        // Reads what the layers have on disk.
        at::absent(&dir, "none");
        vec![
            ("the directory", directory),
            (
                "in the lowest",
                each(NAMES, |i| at::stat(&dir, &there[i]).works()),
            ),
            ("in none", each(NAMES, |i| at::absent(&dir, &not_there[i]))),
        ]
    }
}

/// A path of many directories, each merged of two layers.
pub struct Deep {
    pub rounds: usize,
}

const CHAINS: usize = 16;
const DEPTH: usize = 16;

fn path(chain: usize) -> String {
    format!("chain{chain}{}", "/directory".repeat(DEPTH - 1))
}

impl Row for Deep {
    fn name(&self) -> String {
        "lookup.deep".into()
    }

    fn heading(&self) -> String {
        format!("stat of a path of {DEPTH} merged directories")
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

    fn layers(&self) -> usize {
        2
    }

    fn lower(&self, lower: &Tree) {
        for chain in 0..CHAINS {
            lower.dir(format!("deep/{}", path(chain)));
        }
    }

    fn lower_at(&self, _layer: usize, lower: &Tree) {
        self.lower(lower);
    }

    fn work(&self, site: &Site) -> Sample {
        let paths: Vec<String> = (0..CHAINS).map(path).collect();
        let dir = site.seen_dir("deep");
        let stat = |i: usize| at::stat(&dir, &paths[i % CHAINS]).works();
        vec![
            ("cold", each(CHAINS, stat)),
            ("hot", each(CHAINS * 64, stat)),
        ]
    }
}
