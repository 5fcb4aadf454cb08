// SPDX-License-Identifier: GPL-2.0

//! Selftests of rovl.
//!
//! `rovl_tests [--list] [NAME...]` runs the tests whose names begin with or
//! match (`*`, `?`) one of the arguments, all of them without one, and
//! prints KTAP. `rovl_tests --ask DEVICE` runs those whose names it is given there,
//! one for each line `next` that it writes, until it gets an empty line.
//! `rovl_tests bench` measures instead (`bench/mod.rs`), and
//! `rovl_tests play` does what a script of the differential tester says
//! (`differential/play.rs`). Run as root. The environment:
//!
//! - `ROVL_FSTYPE`: file system type under test, `rovl` by default; with
//!   `overlay` the tests prove themselves on the kernel's own overlayfs.
//! - `ROVL_SCRATCH`: block devices which may be overwritten, the first one at
//!   least 4 GiB; without it sparse files in `ROVL_DIR` (default: the
//!   directory for temporary files) take their place.
//! - `ROVL_DIVISOR`: sizes and counts of the long tests are divided by it.
//! - `ROVL_TIMEOUT`: seconds a test may take, 60 by default.
//! - `ROVL_MODULE`: path of `rovl.ko`, for the tests which load and unload it.
//! - `ROVL_HELPER`: path of `mount.rovl`, if it is not installed in `/sbin`.
//! - `ROVL_MINUTES`, `ROVL_SEED`: how long `stress.copyup`, `differential.random` and
//!   `fuzz.random` go on, and where their random numbers begin.
//! - `ROVL_VERBOSE`: how long each test took.

#![deny(warnings)]

mod bench;
mod device;
mod differential;
mod env;
mod fuse;
mod log_writes;
mod memory;
mod pause;
mod plain;
mod process;
mod queue;
mod runner;
mod stack;
mod suites;
mod sys;
mod tree;
mod watch;

use std::path::PathBuf;

use queue::Queue;
use runner::Work;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == "bench") {
        std::process::exit(bench::main(&args[1..]));
    }
    if args.first().is_some_and(|a| a == "play") {
        std::process::exit(differential::play(&args[1..]));
    }
    let mut cases = runner::cases(&suites::all());
    if let [flag, device] = &args[..] {
        if flag == "--ask" {
            run(None, Queue::open(device.as_ref(), cases));
        }
    }
    let patterns: Vec<String> = args
        .iter()
        .filter(|a| !a.starts_with("--"))
        .flat_map(|a| a.split([',', ' ']))
        .filter(|a| !a.is_empty())
        .map(String::from)
        .collect();
    cases.retain(|c| c.wanted(&patterns));
    let check_layers = runner::selected(runner::LAYERS_CLEAN, &patterns);
    if args.iter().any(|a| a == "--list") {
        for case in &cases {
            println!("{}", case.name);
        }
        if check_layers {
            println!("{}", runner::LAYERS_CLEAN);
        }
        return;
    }
    let plan = cases.len() + usize::from(check_layers);
    let cases = cases.into_iter().map(Work::Case);
    run(
        Some(plan),
        cases.chain(check_layers.then_some(Work::CheckLayers)),
    );
}

/// Ends the program with the status of the tests.
fn run(plan: Option<usize>, work: impl Iterator<Item = Work>) -> ! {
    let base = std::env::var_os("ROVL_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let space = base.join(format!("rovl-selftests.{}", std::process::id()));
    std::fs::create_dir_all(&space).expect("place for the tests");
    let status = runner::Runner::new(space.clone()).run(plan, work);
    let _ = tree::remove_all(&space);
    std::process::exit(status);
}
