// SPDX-License-Identifier: GPL-2.0

//! A process that does operations: it has its own open files, working directory,
//! umask and user, and has the tree for its root.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use super::act::Actor;
use super::op::{Outcome, Step};
use super::seen::Uncounted;
use crate::env::{exit_now, fork, pipe, wait_for};
use crate::sys::{self, Errno};

/// Who the workers are: user, group, further groups.
pub const USERS: [(u32, u32, &[u32]); 3] = [(0, 0, &[]), (1000, 1000, &[2000]), (1001, 2000, &[])];

pub struct Worker {
    pid: i32,
    to: File,
    from: BufReader<File>,
}

impl Worker {
    /// Starts the `which`th of `USERS` in the tree at `root`.
    pub fn start(root: &Path, which: usize, uncounted: &Uncounted) -> Worker {
        let (steps, to) = pipe();
        let (from, outcomes) = pipe();
        let pid = fork();
        if pid == 0 {
            drop((to, from));
            work(root, which, uncounted.clone(), (steps, outcomes));
            exit_now(0);
        }
        let from = BufReader::new(from);
        Worker { pid, to, from }
    }

    pub fn run(&mut self, step: &Step) -> Outcome {
        writeln!(self.to, "{step}").expect("worker");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("worker");
        match line.trim_end_matches('\n').split_once(' ') {
            Some(("ok", text)) => Ok(text.into()),
            Some(("error", errno)) => Err(Errno::from_raw_os_error(errno.parse().expect("errno"))),
            _ => panic!("the worker died of {step}"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SAFETY: a child of ours that has not been waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        wait_for(self.pid);
    }
}

fn work(root: &Path, which: usize, uncounted: Uncounted, (steps, mut to): (File, File)) {
    rustix::process::chroot(root).expect("chroot");
    rustix::process::chdir("/").expect("chdir");
    let (uid, gid, groups) = USERS[which];
    if uid != 0 {
        sys::become_user(uid, gid, groups);
    }
    sys::umask(0o022);
    let mut actor = Actor::new(uncounted);
    for line in BufReader::new(steps).lines() {
        let Ok(line) = line else { return };
        let step = Step::read(&line).unwrap_or_else(|| panic!("no operation: {line}"));
        let said = match actor.act(&step.op) {
            Ok(text) => writeln!(to, "ok {text}"),
            Err(errno) => writeln!(to, "error {}", errno.raw_os_error()),
        };
        if said.is_err() {
            return;
        }
    }
}
