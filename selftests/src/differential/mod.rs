// SPDX-License-Identifier: GPL-2.0

//! The differential tester: random layers and operations, done to the filesystem
//! under test, to the kernel's overlayfs over equal layers, and to a plain copy of
//! the merged tree.
//!
//! What each operation gives is compared, errno by errno; the trees; what the two
//! wrote to their upper layers; and what each shows of the other's. What overlayfs
//! does otherwise than a plain filesystem is not asked of rovl; what rovl does
//! otherwise is in `explained`, or is a bug, which is shrunk to the fewest objects and
//! operations that show it and printed as a script.
//!
//! The rooms: a `generate`d plan has `object`s for the layers and steps with an `op`
//! for a `worker`, which `act`s; both are lines of `word`s. `run` does it on all
//! `sides` and compares `state`s.

mod act;
mod explained;
mod generate;
mod listing;
mod object;
mod op;
mod play;
pub mod random;
mod run;
mod script;
mod seen;
mod shrink;
mod sides;
mod state;
mod word;
mod worker;

pub use play::main as play;

use std::time::{Duration, Instant};

use crate::env::T;
use object::Object;
use op::Step;
use run::{Difference, Tally};

/// Layers, and what is to be done.
#[derive(Clone)]
pub struct Plan {
    /// Of the two mounts.
    options: &'static [&'static str],
    lowers: usize,
    objects: Vec<Object>,
    steps: Vec<Step>,
}

/// Which options the plans have, in turn.
const OPTIONS: [&[&str]; 2] = [&[], &["redirect_dir=on"]];

/// Steps of one plan.
const STEPS: usize = 120;
/// A run ends after so many different differences.
const ENOUGH: usize = 10;
/// How long it is tried to make a plan shorter.
const PATIENCE: Duration = Duration::from_secs(40);

/// Goes through plans, beginning with that of `seed`, until `end` says so, and panics
/// with what differed.
pub fn search(t: &T, seed: u64, mut end: impl FnMut(u64) -> bool) {
    let start = Instant::now();
    let mut tally = Tally::default();
    let mut found: Vec<Difference> = Vec::new();
    let mut count = 0;
    while !end(count) && found.len() < ENOUGH {
        let seed = seed.wrapping_add(count);
        count += 1;
        let plan = generate::plan(seed, STEPS);
        let Some(difference) = run::run(t, &plan, &mut tally) else {
            continue;
        };
        if found.iter().any(|f| f.kind == difference.kind) {
            println!("# seed {seed}: again: {}", difference.kind);
            continue;
        }
        println!("# seed {seed}: {}", difference.kind);
        let difference = explain(t, seed, plan, difference);
        for line in difference.text.lines() {
            println!("# {line}");
        }
        found.push(difference);
    }
    let seconds = start.elapsed().as_secs();
    let total: usize = tally.steps.values().map(|(all, _)| all).sum();
    println!("# {count} plans from seed {seed}, {total} operations, {seconds} s; of each worked:");
    let each = |(op, (all, worked)): (&&str, &(usize, usize))| format!("{op} {worked}/{all}");
    let each: Vec<String> = tally.steps.iter().map(each).collect();
    for some in each.chunks(5) {
        println!("#   {}", some.join(", "));
    }
    for ((what, why), n) in &tally.refused {
        println!("# {n} times: {what} ({why})");
    }
    for (what, n) in &tally.overlay {
        println!("# overlay only, {n} times: {what}");
    }
    let kinds: Vec<&str> = found.iter().map(|f| f.kind.as_str()).collect();
    assert!(
        kinds.is_empty(),
        "unexplained differences, see above:\n{}",
        kinds.join("\n")
    );
}

/// The shortest plan that shows the same kind of difference, or what there was when
/// the time for it was over.
fn explain(t: &T, seed: u64, mut plan: Plan, mut difference: Difference) -> Difference {
    let end = Instant::now() + PATIENCE;
    let mut silent = Tally::default();
    plan.steps.truncate(difference.after);
    let mut shows = |plan: &Plan| {
        if Instant::now() > end {
            return false;
        }
        match run::run(t, plan, &mut silent) {
            Some(found) if found.kind == difference.kind => {
                difference = found;
                true
            }
            _ => false,
        }
    };
    let mut left = usize::MAX;
    while plan.steps.len() + plan.objects.len() < left {
        left = plan.steps.len() + plan.objects.len();
        plan.steps = shrink::smallest(&plan.steps, &mut |some| {
            shows(&Plan {
                steps: some.to_vec(),
                ..plan.clone()
            })
        });
        plan.objects = shrink::smallest(&plan.objects, &mut |some| {
            shows(&Plan {
                objects: some.to_vec(),
                ..plan.clone()
            })
        });
    }
    let used = plan.objects.iter().map(|o| o.layer).max().unwrap_or(0);
    let lowers = used.clamp(1, plan.lowers);
    if shows(&Plan {
        lowers,
        ..plan.clone()
    }) {
        plan.lowers = lowers;
    }
    let text = difference.text.clone();
    Difference {
        text: format!("seed {seed}: {text}\n{}", script::script(&plan)),
        ..difference
    }
}
