// SPDX-License-Identifier: GPL-2.0

//! The same write to a file that is in the upper layer already: what a layer
//! costs where there is nothing to copy.

use std::time::Instant;

use super::site::Site;
use super::{Row, Sample, Unit};
use crate::sys::{self, Expect, OFlags};

pub struct Again {
    /// How many files make one sample.
    pub files: usize,
    pub rounds: usize,
}

impl Row for Again {
    fn name(&self) -> String {
        "write_again.4KiB".into()
    }

    fn heading(&self) -> String {
        "the same write to an upper file".into()
    }

    fn label(&self) -> String {
        "4 KiB".into()
    }

    fn unit(&self) -> Unit {
        Unit::Milliseconds
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn prepare(&self, site: &Site) {
        for i in 0..self.files {
            sys::write_file(site.at(&format!("f{i}")), [1; 4096]).works();
        }
    }

    fn work(&self, site: &Site) -> Sample {
        let start = Instant::now();
        for i in 0..self.files {
            let fd = sys::open(site.at(&format!("f{i}")), OFlags::RDWR).works();
            sys::pwrite(&fd, b"x", 0).works();
        }
        let each = start.elapsed().as_secs_f64() * 1e3 / self.files as f64;
        vec![("", each)]
    }
}
