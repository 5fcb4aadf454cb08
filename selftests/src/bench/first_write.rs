// SPDX-License-Identifier: GPL-2.0

//! The first write to a lower file: open, write of one byte, close.

use std::time::Instant;

use super::site::Site;
use super::{in_words, lower_file, Row, Sample, Unit};
use crate::tree::Tree;

pub struct FirstWrite {
    pub size: u64,
    /// How many files of this size make one sample.
    pub files: usize,
    pub rounds: usize,
}

impl FirstWrite {
    fn file(&self, i: usize) -> String {
        format!("{}/f{i}", self.name())
    }
}

impl Row for FirstWrite {
    fn name(&self) -> String {
        format!("first_write.{}", in_words(self.size).replace(' ', ""))
    }

    fn heading(&self) -> String {
        "first write to a lower file".into()
    }

    fn label(&self) -> String {
        in_words(self.size)
    }

    fn unit(&self) -> Unit {
        Unit::Milliseconds
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn lower(&self, lower: &Tree) {
        for i in 0..self.files {
            lower_file(lower, &self.file(i), self.size);
        }
    }

    fn prepare(&self, site: &Site) {
        site.writable_dir(&self.name());
    }

    fn work(&self, site: &Site) -> Sample {
        let start = Instant::now();
        for i in 0..self.files {
            site.first_write(&self.file(i));
        }
        let each = start.elapsed().as_secs_f64() * 1e3 / self.files as f64;
        vec![("", each)]
    }
}
