// SPDX-License-Identifier: GPL-2.0

//! The three trees that the same is done to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use super::object;
use super::op::{Op, Outcome, Step};
use super::seen::Uncounted;
use super::state::{self, State, UpperLayer};
use super::worker::{Worker, USERS};
use super::Plan;
use crate::env::T;
use crate::stack::Overlay;
use crate::sys::{self, Expect, FileType, OFlags};
use crate::tree;

/// A tree, and those who work in it.
pub struct Side {
    pub root: PathBuf,
    pub overlay: Option<Overlay>,
    /// The directories that the upper layer had before it was mounted.
    old: BTreeSet<PathBuf>,
    uncounted: Uncounted,
    workers: Vec<Worker>,
}

impl Side {
    /// A stack of the layers of a plan, mounted by `fstype`.
    pub fn stack(t: &T, plan: &Plan, fstype: &str) -> Side {
        let mut stack = t.stack().of_a_round();
        for option in plan.options {
            stack = stack.flag(option);
        }
        for layer in 1..=plan.lowers {
            stack = stack.lower(|l| object::build(&l.root, layer, &plan.objects));
        }
        let overlay = stack
            .upper(|u| object::build(&u.root, 0, &plan.objects))
            .prepare();
        overlay.set_fstype(fstype);
        let old = state::directories(&overlay.u("/"));
        overlay.mount().works();
        Side {
            root: overlay.m("/"),
            overlay: Some(overlay),
            old,
            uncounted: Uncounted::default(),
            workers: Vec::new(),
        }
    }

    /// A copy of a merged tree; see `explained` for hard links.
    pub fn plain(t: &T, of: &Path) -> Side {
        let root = t.new_dir("plain");
        // Whether it is a copy is seen when the two are compared.
        let mut cp = Command::new("cp");
        cp.args(["-a", "--no-preserve=links"]);
        let _ = cp.arg(of.join(".")).arg(&root).output().expect("cp");
        // As a copy-up's copy is. It makes a difference: what ext4 of Linux 7.3.4 does
        // not zero in fallocate(ZERO_RANGE) is the end of a file that is on the disk.
        let fs = sys::open(&root, OFlags::RDONLY).works();
        sys::syncfs(&fs).works();
        sys::bind_mount(&root, &root).works();
        let mut uncounted = BTreeSet::new();
        find_uncounted(of, &root, &mut uncounted);
        Side {
            root,
            overlay: None,
            old: BTreeSet::new(),
            uncounted: Rc::new(uncounted),
            workers: Vec::new(),
        }
    }

    pub fn state(&self) -> State {
        let is_overlay = |o: &Overlay| o.fstype() == "overlay";
        let as_overlay = self.overlay.as_ref().is_some_and(is_overlay);
        State::of(&self.root, &self.uncounted, as_overlay)
    }

    /// What a stack has on disk.
    pub fn upper(&self) -> Option<State> {
        let overlay = self.overlay.as_ref()?;
        let lowers = 0..overlay.lower_count();
        let layer = UpperLayer {
            root: overlay.u("/"),
            lowers: lowers.map(|i| overlay.l(i, "/")).collect(),
            old: &self.old,
        };
        Some(layer.state())
    }

    pub fn run(&mut self, step: &Step) -> Outcome {
        if matches!(step.op, Op::Remount {}) {
            self.remount();
            return Ok(String::new());
        }
        while self.workers.len() < USERS.len() {
            let next = Worker::start(&self.root, self.workers.len(), &self.uncounted);
            self.workers.push(next);
        }
        self.workers[step.worker].run(step)
    }

    /// Ends those who work in the tree, so that nothing in it is open.
    pub fn stop(&mut self) {
        self.workers.clear();
    }

    fn remount(&mut self) {
        self.stop();
        if let Some(overlay) = &self.overlay {
            overlay.remount();
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.stop();
        sys::umount_detach(&self.root);
        let mut all = vec![self.root.clone()];
        if let Some(overlay) = &self.overlay {
            all = vec![overlay.m("/").parent().unwrap_or(&self.root).to_path_buf()];
            all.extend((0..overlay.lower_count()).map(|i| overlay.l(i, "/")));
        }
        for at in all {
            let _ = tree::remove_all(&at);
        }
    }
}

/// The copies of what has several names in the merged tree.
fn find_uncounted(from: &Path, to: &Path, out: &mut BTreeSet<u64>) {
    for name in tree::sorted_names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        let (Ok(st), Ok(copy)) = (sys::lstat(&from), sys::lstat(&to)) else {
            continue;
        };
        if sys::kind_of(&st) == FileType::Directory {
            find_uncounted(&from, &to, out);
        } else if st.st_nlink > 1 {
            out.insert(copy.st_ino);
        }
    }
}
