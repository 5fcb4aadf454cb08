// SPDX-License-Identifier: GPL-2.0

//! Labels of security modules, as attributes. Which modules are active is for the
//! kernel's command line to say (`ROVL_APPEND`, `Documentation/development.rst`).
//! Where SELinux decides by them is in `selinux`.

use std::path::Path;

use crate::env::{Fs, T};
use crate::plain::same;
use crate::runner::Test;
use crate::sys::{self, Expect, OFlags};
use crate::tree::Tree;

pub fn tests() -> Vec<Test> {
    vec![
        test!(come_through_a_copy_up).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(set_and_removed),
        test!(of_new_objects),
        test!(copied_by_users),
    ]
}

const LABELS: [(&str, &str); 4] = [
    ("security.selinux", "system_u:object_r:tmp_t:s0\0"),
    ("security.SMACK64", "Floor"),
    ("security.SMACK64EXEC", "Snap"),
    ("security.other", "\u{1}binary\0"),
];

const KINDS: [&str; 5] = ["f", "d", "s", "p", "d/sub"];

fn fill(l: &Tree) {
    l.file("f", "x").dir("d/sub").symlink("s", "f").fifo("p");
}

fn label(l: &Tree) {
    fill(l);
    for kind in KINDS {
        for (name, value) in LABELS {
            l.xattr(kind, name, value);
        }
    }
}

fn labels(path: &Path) -> Vec<(String, Vec<u8>)> {
    sys::list_xattr(path)
        .works()
        .into_iter()
        .filter(|n| n.starts_with("security."))
        .map(|n| {
            let value = sys::get_xattr(path, &n).works();
            (n, value)
        })
        .collect()
}

fn come_through_a_copy_up(t: &T) {
    let o = t.stack().lower(label).mount();
    let want = |kind: &str| labels(&o.l(0, kind));
    for kind in KINDS {
        assert!(want(kind).len() >= LABELS.len(), "{kind}");
        assert_eq!(labels(&o.m(kind)), want(kind), "{kind} in the lower layer");
    }
    for kind in KINDS {
        sys::lchown(o.m(kind), 1, 1).works();
        assert_eq!(labels(&o.u(kind)), want(kind), "copy of {kind}");
        assert_eq!(labels(&o.m(kind)), want(kind), "{kind} copied up");
    }
    o.remount();
    for kind in KINDS {
        assert_eq!(labels(&o.m(kind)), want(kind), "{kind} mounted again");
    }
}

fn set_and_removed(t: &T) {
    same(t, label, |dir, n| {
        for kind in KINDS {
            let at = dir.join(kind);
            for (name, _) in LABELS {
                n.at = format!("{name} of {kind}: ");
                n.call(
                    "set",
                    sys::set_xattr(&at, name, "another_u:object_r:other_t:s0\0"),
                );
                n.result("is", sys::get_xattr(&at, name));
                n.call("remove", sys::remove_xattr(&at, name));
                n.result("is then", sys::get_xattr(&at, name));
            }
            n.value("listed", labels(&at));
        }
    });
}

/// What is made has the labels that it would have anywhere.
fn of_new_objects(t: &T) {
    same(t, label, |dir, n| {
        let d = dir.join("d");
        sys::write_file(d.join("f"), "").works();
        sys::mkdir(d.join("d"), 0o755).works();
        sys::symlink("x", d.join("s")).works();
        sys::mknod(d.join("p"), sys::FileType::Fifo, 0o600, 0).works();
        sys::link(dir.join("f"), d.join("linked")).works();
        let fd = sys::open_mode(&d, OFlags::TMPFILE | OFlags::RDWR, 0o600).works();
        sys::link_fd(&fd, d.join("nameless")).works();
        sys::unlink(dir.join("p")).works();
        sys::write_file(dir.join("p"), "over a whiteout").works();
        for kind in ["d/f", "d/d", "d/s", "d/p", "d/linked", "d/nameless", "p"] {
            n.value(kind, labels(&dir.join(kind)));
        }
    });
}

/// A user may copy up what he may not label.
fn copied_by_users(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            label(l);
            l.mode("f", 0o666);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::append_file(o.m("f"), "+").works();
    });
    let kept = |n: &(String, Vec<u8>)| n.0 != "security.capability";
    let want: Vec<_> = labels(&o.l(0, "f")).into_iter().filter(kept).collect();
    assert_eq!(labels(&o.u("f")), want);
}
