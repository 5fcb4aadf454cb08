// SPDX-License-Identifier: GPL-2.0

//! Threads which copy up 4 KiB files at the same time.

use std::sync::{Barrier, Mutex};
use std::time::Instant;

use super::site::Site;
use super::{lower_file, Row, Sample, Unit};
use crate::env;
use crate::tree::Tree;

pub struct Threads {
    pub threads: usize,
    /// Each in a directory of its own.
    pub apart: bool,
    /// How many files make one sample, of all threads together.
    pub files: usize,
    pub rounds: usize,
}

impl Threads {
    fn dir(&self, thread: usize) -> String {
        if self.apart {
            format!("threads/apart/d{thread}")
        } else {
            "threads/together".into()
        }
    }

    fn file(&self, thread: usize, i: usize) -> String {
        format!("{}/t{thread}f{i}", self.dir(thread))
    }

    fn each(&self) -> usize {
        self.files / self.threads
    }
}

impl Row for Threads {
    fn name(&self) -> String {
        let how = if self.apart { "apart" } else { "together" };
        format!("threads.{how}.{}", self.threads)
    }

    fn heading(&self) -> String {
        let how = if self.apart {
            "a directory each"
        } else {
            "one directory"
        };
        format!("threads copying up 4 KiB files, {how}")
    }

    fn label(&self) -> String {
        format!("{} threads", self.threads)
    }

    fn unit(&self) -> Unit {
        Unit::PerSecond
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn lower(&self, lower: &Tree) {
        for t in 0..self.threads {
            for i in 0..self.each() {
                lower_file(lower, &self.file(t, i), 4096);
            }
        }
    }

    fn prepare(&self, site: &Site) {
        for t in 0..self.threads {
            site.writable_dir(&self.dir(t));
        }
    }

    fn work(&self, site: &Site) -> Sample {
        let paths: Vec<Vec<String>> = (0..self.threads)
            .map(|t| (0..self.each()).map(|i| self.file(t, i)).collect())
            .collect();
        let barrier = Barrier::new(self.threads);
        // A thread that starts late must not make the time shorter, so it is
        // from the first start to the last end.
        let times = Mutex::new(Vec::new());
        env::threads(
            paths
                .iter()
                .map(|mine| {
                    let (barrier, times) = (&barrier, &times);
                    move || {
                        barrier.wait();
                        let start = Instant::now();
                        for path in mine {
                            site.first_write(path);
                        }
                        times.lock().expect("times").push((start, Instant::now()));
                    }
                })
                .collect(),
        );
        let times = times.into_inner().expect("times");
        let start = times.iter().map(|t| t.0).min().expect("a thread");
        let end = times.iter().map(|t| t.1).max().expect("a thread");
        let done = self.each() * self.threads;
        vec![("", done as f64 / (end - start).as_secs_f64())]
    }
}
