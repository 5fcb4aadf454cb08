// SPDX-License-Identifier: GPL-2.0

//! Layers that lie: random small trees with malformed, oversized and forged marks of
//! every kind, mounted, walked, copied up in random ways, and mounted again.
//!
//! It may be an error to use what is in them. What must hold:
//!
//! - the kernel has no complaint, nothing hangs, and the mount can be unmounted;
//! - the lower layers are what they were, and nothing is left in the work directory;
//! - the data of a file is what a layer has under its name, or what was written here, or
//!   an error: never zeroes that are nowhere, nor that of a file whose data is said to be
//!   elsewhere (`overlay.metacopy`);
//! - after the next mount there is the same tree.
//!
//! A run is numbered by its seed, and ROVL_SEED repeats it: with `fuzz.random` that many
//! and those after it. `fuzz: seed N` in the kernel's log comes before what a run says.

mod act;
mod layers;
mod marks;
mod walk;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::MountFlags;

use crate::differential::random::Random;
use crate::env::{panic_text, T};
use crate::runner::Test;
use crate::sys::{self, Expect, Res};
use crate::tree;
use crate::watch;
use layers::Layers;
use walk::Walk;

pub fn tests() -> Vec<Test> {
    vec![
        test!(fixed_seed).long(4),
        test!(random).only_by_name().long(4),
    ]
}

/// The seed of the short run.
const SEED: u64 = 1;

fn fixed_seed(t: &T) {
    let runs = t.scaled(60, 25) as u64;
    search(t, SEED, |done| done >= runs);
}

/// For as long as `ROVL_MINUTES` says.
fn random(t: &T) {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(v) if !v.is_empty() => v
            .parse()
            .unwrap_or_else(|_| panic!("{name}={v} is no number")),
        _ => default,
    };
    let minutes = number("ROVL_MINUTES", 1);
    let seed = number("ROVL_SEED", u64::from(std::process::id()) * 100_000);
    println!("# {minutes} minutes, ROVL_SEED={seed}");
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    search(t, seed, |_| Instant::now() >= end);
}

/// What came of the runs, to be told at the end.
#[derive(Default)]
struct Tally {
    mounted: usize,
    refused: usize,
    nested: usize,
    objects: usize,
    unusable: usize,
    done: usize,
    failed: usize,
}

fn search(t: &T, seed: u64, mut end: impl FnMut(u64) -> bool) {
    if t.is_overlay() {
        t.skip("looks for faults of rovl, and says what overlay follows");
    }
    let start = Instant::now();
    let mut tally = Tally::default();
    let handle = marks::real_handle(t);
    let mut found = Vec::new();
    let mut count = 0;
    while !end(count) && found.len() < 5 {
        let seed = seed.wrapping_add(count);
        count += 1;
        // To be found in the console if the kernel does not survive it.
        let _ = std::fs::write("/dev/kmsg", format!("<6>fuzz: seed {seed}\n"));
        let run = Run {
            seed,
            at: t.dir.join(format!("run{seed}")),
            fstype: t.fstype().to_string(),
            handle: handle.clone(),
        };
        let at = run.at.clone();
        let run = move || {
            let said = catch_unwind(AssertUnwindSafe(|| run.run()));
            said.unwrap_or_else(|e| Err(panic_text(&*e)))
        };
        let said = watch::start(format!("fuzz seed {seed}"), run).finish();
        match said {
            Ok(one) => tally.add(&one),
            Err(what) => {
                println!("# seed {seed}: {what}");
                found.push(format!("seed {seed}: {what}"));
            }
        }
        clean(&at);
        let complaint = t.kernel_log().into_iter().find(|l| {
            ["WARNING:", "BUG:", "Oops", "KASAN", "possible"]
                .iter()
                .any(|w| l.contains(w))
        });
        if let Some(line) = complaint {
            panic!("seed {seed}: the kernel complains: {line}");
        }
    }
    println!(
        "# {count} stacks from seed {seed}, {} s: {} mounted ({} on a stack), {} refused; \
         {} objects, {} unusable; {} operations, {} failed",
        start.elapsed().as_secs(),
        tally.mounted,
        tally.nested,
        tally.refused,
        tally.objects,
        tally.unusable,
        tally.done,
        tally.failed
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

impl Tally {
    fn add(&mut self, one: &Tally) {
        self.mounted += one.mounted;
        self.refused += one.refused;
        self.nested += one.nested;
        self.objects += one.objects;
        self.unusable += one.unusable;
        self.done += one.done;
        self.failed += one.failed;
    }
}

/// Removes what is left of a run.
fn clean(at: &Path) {
    for mount in ["m", "inner", "image"] {
        sys::umount_detach(&at.join(mount));
    }
    sys::umount_detach(at);
    let _ = tree::remove_all(at);
}

struct Run {
    seed: u64,
    at: PathBuf,
    fstype: String,
    /// The value of an origin mark as a mount makes it.
    handle: Vec<u8>,
}

impl Run {
    /// What went wrong, if anything did.
    fn run(&self) -> Result<Tally, String> {
        let mut random = Random::new(self.seed);
        sys::mkdir(&self.at, 0o755).works();
        if random.one_in(2) {
            let flags = MountFlags::empty();
            sys::mount("none", &self.at, "tmpfs", flags, b"size=64m").works();
        }
        let mut layers = Layers::make(&self.at, &mut random, &self.handle);
        let made = layers.snapshots();
        let mut tally = Tally::default();
        let inner = layers.mount_inner(&self.fstype)?;
        // That may give its upper layer a UUID, and does nothing else.
        let before = layers.snapshots();
        for (made, (at, now)) in made.iter().zip(&before) {
            let mut changed = made.1.differences(now);
            if layers.inner_upper() == Some(at.as_path()) {
                changed.retain(|line| !(line.starts_with("\"\":") && line.contains("uuid")));
            }
            if !changed.is_empty() {
                return Err(format!("to mount it changed {at:?}: {changed:?}"));
            }
        }
        let m = self.at.join("m");
        sys::mkdir(&m, 0o755).works();
        let upper = layers.upper.clone();
        let upper = upper.as_ref().map(|(u, w)| (u.as_path(), w.as_path()));
        let again = || layers::mount(&self.fstype, &layers.lower, upper, layers.userxattr, &m);
        let outcome = match again() {
            Ok(()) => {
                tally.mounted = 1;
                tally.nested = usize::from(inner);
                self.use_it(&m, &layers, &mut random, &mut tally, again)
            }
            Err(_) => {
                tally.refused = 1;
                Ok(())
            }
        };
        let _ = sys::umount(&m);
        if inner {
            let at = self.at.join("inner");
            sys::umount(&at).map_err(|e| format!("{e:?}"))?;
        }
        outcome?;
        for (before, (at, now)) in before.iter().zip(layers.snapshots()) {
            let changed = before.1.differences(&now);
            if !changed.is_empty() {
                return Err(format!("the lower layer {at:?} changed: {changed:?}"));
            }
        }
        for work in layers.works() {
            let left = sys::names(work.join("work")).unwrap_or_default();
            if !left.is_empty() {
                return Err(format!("left in {work:?}: {left:?}"));
            }
        }
        Ok(tally)
    }

    fn use_it(
        &self,
        m: &Path,
        layers: &Layers,
        random: &mut Random,
        tally: &mut Tally,
        again: impl Fn() -> Res<()>,
    ) -> Result<(), String> {
        let mut known = layers.contents();
        let first = Walk::of(m);
        tally.objects = first.objects.len();
        tally.unusable = first.objects.values().filter(|o| o.is_error()).count();
        first.check(layers, &known)?;
        // Names change from here on.
        known.at = None;
        if layers.upper.is_some() {
            (tally.done, tally.failed) = act::act(m, &first, random, &mut known)?;
        }
        let done = Walk::of(m);
        done.check(layers, &known)?;
        sys::umount(m).map_err(|e| format!("{e:?}"))?;
        // What has been written is in the upper layer now, whatever its marks say.
        again().map_err(|e| format!("not mounted again: {e:?}"))?;
        let then = Walk::of(m);
        then.check(layers, &known)?;
        let differences = then.differences(&done);
        if !differences.is_empty() {
            return Err(format!(
                "another tree after the next mount: {differences:?}"
            ));
        }
        sys::umount(m).map_err(|e| format!("{e:?}"))
    }
}
