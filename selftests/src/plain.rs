// SPDX-License-Identifier: GPL-2.0

//! The same steps in a plain directory and in merged trees: a program must not
//! see in which of them it is.

use std::fmt::{Debug, Display};
use std::path::Path;

use crate::env::T;
use crate::sys::{self, errno_name, Expect, Res};
use crate::tree::Tree;

/// Where the objects are when the steps begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Lower,
    Upper,
    /// Files in the lower layer, in directories that the upper one has, too.
    Merged,
}

/// What the steps found.
#[derive(Default)]
pub struct Notes {
    /// Where this is, in the middle of a sequence.
    pub at: String,
    lines: Vec<String>,
}

impl Notes {
    /// A value that must be the same everywhere.
    pub fn value(&mut self, what: impl Display, value: impl Debug) {
        self.lines.push(format!("{}{what}: {value:?}", self.at));
    }

    /// Whether a call works, or how it fails. Gives what it returned.
    pub fn call<V>(&mut self, what: impl Display, result: Res<V>) -> Option<V> {
        match result {
            Ok(value) => {
                self.value(what, "works");
                Some(value)
            }
            Err(e) => {
                self.lines
                    .push(format!("{}{what}: {}", self.at, errno_name(e.errno)));
                None
            }
        }
    }

    /// A call of which the result is compared, too.
    pub fn result<V: Debug>(&mut self, what: impl Display, result: Res<V>) {
        match result {
            Ok(value) => self.value(what, value),
            Err(e) => self
                .lines
                .push(format!("{}{what}: {}", self.at, errno_name(e.errno))),
        }
    }
}

/// Lays a tree out and runs the steps in it: in a plain directory on the upper
/// file system, and in merged trees where it starts in each of `starts`.
#[track_caller]
pub fn same_from(t: &T, starts: &[Start], fill: impl Fn(&Tree), steps: impl Fn(&Path, &mut Notes)) {
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    let fill_below = |layer: &Tree| {
        layer.dir("d");
        fill(&Tree::new(layer.at("d")));
    };
    let mode = sys::mode_of(&sys::stat(&plain).works());
    let mut want = Notes::default();
    steps(&plain, &mut want);
    for start in starts {
        let stack = t.stack();
        let o = match start {
            Start::Lower => stack.lower(fill_below),
            Start::Upper => stack.lower(|_| {}).upper(fill_below),
            Start::Merged => stack.lower(fill_below).upper(|u| {
                u.dir("d").mode("d", mode);
            }),
        }
        .mount();
        let mut found = Notes::default();
        steps(&o.m("d"), &mut found);
        compare(&want, &found, *start);
    }
}

/// As [`same_from`], with all of them.
#[track_caller]
pub fn same(t: &T, fill: impl Fn(&Tree), steps: impl Fn(&Path, &mut Notes)) {
    same_from(t, &[Start::Lower, Start::Upper, Start::Merged], fill, steps);
}

#[track_caller]
fn compare(want: &Notes, found: &Notes, start: Start) {
    let mut differences = Vec::new();
    let length = want.lines.len().max(found.lines.len());
    for i in 0..length {
        let (w, f) = (want.lines.get(i), found.lines.get(i));
        if w != f {
            let text = |l: Option<&String>| l.cloned().unwrap_or_else(|| "nothing".into());
            differences.push(format!("plain  {}\nmerged {}", text(w), text(f)));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {length} differ where all starts in {start:?}:\n{}",
        differences.len(),
        differences[..differences.len().min(15)].join("\n")
    );
}
