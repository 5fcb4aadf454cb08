// SPDX-License-Identifier: GPL-2.0

//! How long others wait in a directory where a large file is copied up.
//!
//! Three threads do something every few milliseconds that has nothing to do
//! with that file: one looks up names which are in no cache, one creates
//! files, one removes files. The figures are the longest that each of them
//! waited while the copy was going on.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::site::{self, Kind, Site};
use super::{in_words, lower_file, Row, Sample, Unit};
use crate::sys::{self, Expect, OFlags, Res};
use crate::tree::Tree;

/// Between two calls of one thread.
const PACE: Duration = Duration::from_millis(10);
/// Names in the lower layer to look up, and as many to remove.
const STOCK: usize = 600;
/// How long there is nothing to wait for, if nothing was copied before.
const IDLE: Duration = Duration::from_secs(1);

/// What else is done to the file while it is copied up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    /// Nothing is copied at all.
    Idle,
    Open,
    OpenThenUnlink,
    OpenThenRenameOver,
}

pub struct Wait {
    disturbance: Disturbance,
    size: u64,
    rounds: usize,
    /// How long the last copy took, on each file system; the row without one
    /// lasts as long.
    last: Arc<Mutex<BTreeMap<Kind, Duration>>>,
}

/// The rows, the one for comparison last.
pub fn all(size: u64, rounds: usize) -> Vec<Wait> {
    let last = Arc::default();
    [
        Disturbance::Open,
        Disturbance::OpenThenUnlink,
        Disturbance::OpenThenRenameOver,
        Disturbance::Idle,
    ]
    .map(|disturbance| Wait {
        disturbance,
        size,
        rounds,
        last: Arc::clone(&last),
    })
    .into()
}

/// A call of a probe: when, and how long it took.
type Calls = Vec<(Instant, Duration)>;

impl Row for Wait {
    fn name(&self) -> String {
        match self.disturbance {
            Disturbance::Idle => "wait.idle",
            Disturbance::Open => "wait.open",
            Disturbance::OpenThenUnlink => "wait.open_unlink",
            Disturbance::OpenThenRenameOver => "wait.open_rename",
        }
        .into()
    }

    fn heading(&self) -> String {
        let size = in_words(self.size);
        match self.disturbance {
            Disturbance::Idle => "longest wait when idle".into(),
            Disturbance::Open => {
                format!("longest wait next to {size} copied up by open")
            }
            Disturbance::OpenThenUnlink => {
                format!("longest wait next to {size} copied up by open, unlink behind it")
            }
            Disturbance::OpenThenRenameOver => {
                format!("longest wait next to {size} copied up by open, rename over it behind it")
            }
        }
    }

    fn label(&self) -> String {
        String::new()
    }

    fn idle(&self) -> Option<String> {
        (self.disturbance != Disturbance::Idle).then(|| "wait.idle".into())
    }

    fn unit(&self) -> Unit {
        Unit::Milliseconds
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn lower(&self, lower: &Tree) {
        lower_file(lower, "wait/f", self.size);
        for i in 0..STOCK {
            lower_file(lower, &format!("wait/s{i}"), 0);
            lower_file(lower, &format!("wait/u{i}"), 0);
        }
    }

    fn prepare(&self, site: &Site) {
        site.writable_dir("wait");
        if site.kind == Kind::Bare {
            sys::link(site.lower("wait/f"), site.at("wait/f")).works();
            for i in 0..STOCK {
                sys::write_file(site.at(&format!("wait/s{i}")), b"").works();
                sys::write_file(site.at(&format!("wait/u{i}")), b"").works();
            }
        }
        sys::write_file(site.at("wait/over"), b"over").works();
    }

    fn work(&self, site: &Site) -> Sample {
        let stop = AtomicBool::new(false);
        let at = |name: String| site.at(&format!("wait/{name}"));
        std::thread::scope(|s| {
            let probes = [
                (
                    "stat",
                    s.spawn(|| {
                        probe(&stop, |i| {
                            timed(|| sys::stat(at(format!("s{}", i % STOCK))).map(drop))
                        })
                    }),
                ),
                (
                    "create",
                    s.spawn(|| {
                        probe(&stop, |i| {
                            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                            timed(|| sys::open(at(format!("c{i}")), flags).map(drop))
                        })
                    }),
                ),
                (
                    "unlink",
                    s.spawn(|| {
                        probe(&stop, |i| {
                            let name = at(format!("u{i}"));
                            if i >= STOCK {
                                sys::write_file(&name, b"")?;
                            }
                            timed(|| sys::unlink(&name))
                        })
                    }),
                ),
            ];
            std::thread::sleep(PACE * 3);
            let start = Instant::now();
            let done = match self.disturbance {
                Disturbance::Idle => {
                    std::thread::sleep(self.idle(site.kind));
                    Ok(Sample::new())
                }
                _ => self.disturb(site),
            };
            let end = Instant::now();
            stop.store(true, Ordering::Relaxed);
            let mut sample = Sample::new();
            for (name, thread) in probes {
                let calls = join(thread).works();
                sample.push((name, longest(&calls, start, end)));
            }
            sample.extend(done.works());
            sample
        })
    }
}

impl Wait {
    fn idle(&self, kind: Kind) -> Duration {
        let last = self.last.lock().expect("last");
        last.get(&kind).copied().unwrap_or(IDLE)
    }

    /// Copies the file up, and does what is to be done in the middle of that.
    /// How long each took.
    fn disturb(&self, site: &Site) -> Res<Sample> {
        let free = free_bytes(site.upper_fs())?;
        let opened = AtomicBool::new(false);
        std::thread::scope(|s| {
            let opener = s.spawn(|| {
                let start = Instant::now();
                let fd = open_wait(site);
                let taken = start.elapsed();
                opened.store(true, Ordering::Release);
                fd.map(|fd| (fd, taken))
            });
            let mut sample = Sample::new();
            let behind = match self.disturbance {
                Disturbance::OpenThenUnlink => Some("the unlink itself"),
                Disturbance::OpenThenRenameOver => Some("the rename itself"),
                Disturbance::Idle | Disturbance::Open => None,
            };
            let done = behind.map(|figure| {
                // The copy is in the midst of the data when it has space.
                while !opened.load(Ordering::Acquire) {
                    let now = free_bytes(site.upper_fs())?;
                    if free.saturating_sub(now) > self.size / 16 {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                if opened.load(Ordering::Acquire) {
                    site.note("the copy was done before the other call".into());
                }
                let start = Instant::now();
                if self.disturbance == Disturbance::OpenThenUnlink {
                    sys::unlink(site.at("wait/f"))?;
                } else {
                    sys::rename(site.at("wait/over"), site.at("wait/f"))?;
                }
                Ok((figure, start.elapsed().as_secs_f64() * 1e3))
            });
            // Not closed before the clocks stand: with the last user of a file
            // without a name goes its data.
            let (fd, taken) = join(opener)?;
            sample.push(("the open itself", taken.as_secs_f64() * 1e3));
            sample.extend(done.transpose()?);
            sys::pwrite(&fd, b"x", 0)?;
            self.last.lock().expect("last").insert(site.kind, taken);
            Ok(sample)
        })
    }
}

/// The copy-up. On the bare file system the file is copied to another name in
/// that directory.
fn open_wait(site: &Site) -> Res<OwnedFd> {
    let name = if site.kind == Kind::Bare {
        site::copy(&site.at("wait/f"), &site.at("wait/f.copy"))?;
        "wait/f.copy"
    } else {
        "wait/f"
    };
    sys::open(site.at(name), OFlags::RDWR)
}

/// Makes the calls until it is told to stop.
fn probe(stop: &AtomicBool, mut call: impl FnMut(usize) -> Res<(Instant, Duration)>) -> Res<Calls> {
    let mut calls = Calls::new();
    while !stop.load(Ordering::Relaxed) {
        calls.push(call(calls.len())?);
        std::thread::sleep(PACE);
    }
    Ok(calls)
}

fn timed(call: impl FnOnce() -> Res<()>) -> Res<(Instant, Duration)> {
    let start = Instant::now();
    call()?;
    Ok((start, start.elapsed()))
}

/// The longest of the calls which were under way in this time, in ms.
fn longest(calls: &Calls, from: Instant, to: Instant) -> f64 {
    calls
        .iter()
        .filter(|(start, taken)| *start < to && *start + *taken > from)
        .map(|(_, taken)| taken.as_secs_f64() * 1e3)
        .fold(0.0, f64::max)
}

fn free_bytes(at: &Path) -> Res<u64> {
    let st = sys::statfs(at)?;
    Ok(st.f_bfree * st.f_bsize as u64)
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|e| std::panic::resume_unwind(e))
}
