// SPDX-License-Identifier: GPL-2.0

//! `rovl_tests play DIR`: does the steps on standard input in a tree, and prints
//! what each gave. `REMOUNT` is the command that mounts it again.

use std::path::Path;
use std::process::Command;

use super::op::{Op, Step};
use super::seen::Uncounted;
use super::worker::{Worker, USERS};
use crate::sys::errno_name;

fn start_all(root: &Path) -> Vec<Worker> {
    (0..USERS.len())
        .map(|which| Worker::start(root, which, &Uncounted::default()))
        .collect()
}

pub fn main(args: &[String]) -> i32 {
    let [root] = args else {
        eprintln!("usage: rovl_tests play DIR < STEPS");
        return 2;
    };
    let root = Path::new(root);
    let mut workers = start_all(root);
    for line in std::io::stdin().lines() {
        let Ok(line) = line else { return 1 };
        let Some(step) = Step::read(&line).filter(|s| s.worker < workers.len()) else {
            eprintln!("no operation: {line}");
            return 2;
        };
        let said = match step.op {
            Op::DropCaches {} => match std::fs::write("/proc/sys/vm/drop_caches", "2") {
                Ok(()) => String::new(),
                Err(e) => e.to_string(),
            },
            Op::Remount {} => {
                workers.clear();
                let command = std::env::var("REMOUNT").unwrap_or_default();
                let status = Command::new("sh").arg("-c").arg(command).status();
                workers = start_all(root);
                status.map_or_else(|e| e.to_string(), |s| s.to_string())
            }
            _ => match workers[step.worker].run(&step) {
                Ok(text) => text,
                Err(errno) => errno_name(errno),
            },
        };
        println!("{step}: {said}");
    }
    0
}
