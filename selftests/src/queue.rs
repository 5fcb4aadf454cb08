// SPDX-License-Identifier: GPL-2.0

//! Tests that somebody else hands out, one by one: what runs several guests gives
//! each its next when it has done one, and none is idle before the last are done.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use crate::runner::{Case, Work, LAYERS_CLEAN};

/// For each line that is written to its device there is one to be read: the name of a
/// test, or an empty one when there is no more.
pub struct Queue {
    device: BufReader<File>,
    cases: Vec<Case>,
}

impl Queue {
    pub fn open(device: &Path, cases: Vec<Case>) -> Queue {
        let file = File::options().read(true).write(true).open(device);
        let device = BufReader::new(file.expect("device to ask for tests"));
        Queue { device, cases }
    }
}

impl Iterator for Queue {
    type Item = Work;

    fn next(&mut self) -> Option<Work> {
        let mut name = String::new();
        self.device.get_mut().write_all(b"next\n").expect("asking");
        self.device.read_line(&mut name).expect("answer");
        match name.trim_end() {
            "" => None,
            LAYERS_CLEAN => Some(Work::CheckLayers),
            name => {
                let case = self.cases.iter().find(|c| c.name == name);
                Some(Work::Case(case.expect(name).clone()))
            }
        }
    }
}
