// SPDX-License-Identifier: GPL-2.0

//! Random operations on rovl, overlayfs and a plain copy; see `crate::differential`.

use std::time::{Duration, Instant};

use crate::differential::search;
use crate::env::T;
use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    vec![
        test!(fixed_seed).long(4),
        test!(random).only_by_name().long(4),
    ]
}

/// The seed of the short run.
const SEED: u64 = 1;

fn fixed_seed(t: &T) {
    if t.is_overlay() {
        t.skip("compares rovl with overlay");
    }
    let plans = t.scaled(4, 2) as u64;
    search(t, SEED, |done| done >= plans);
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
