// SPDX-License-Identifier: GPL-2.0

//! R9: the upper file system is frozen in mid-copy.

use std::path::Path;

use super::ops::{
    assert_as_plain, assert_upper_exact, data, last_preparations, lay_out_lower, ways, Kind, Op,
    Upper, MIDDLE, NO_TMPFILE,
};
use crate::env::{Fs, T};
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::sys::{self, Expect, Frozen, OFlags, Res};
use crate::tree::{assert_names, assert_text, assert_whiteout};
use crate::watch::{now, start, Task};

/// Tmpfs cannot be frozen.
const CAN_FREEZE: [Fs; 3] = [Fs::Xfs, Fs::Btrfs, Fs::NoTmpfile];

pub fn tests() -> Vec<Test> {
    vec![
        test!(R9_freeze_does_not_wait_for_data)
            .uppers(&CAN_FREEZE)
            .long(5),
        test!(R9_copies_and_changes_wait_for_the_thaw)
            .uppers(&CAN_FREEZE)
            .long(5),
        test!(R9_freeze_at_every_point).uppers(&NO_TMPFILE).long(10),
    ]
}

/// Freezes the upper file system, which must not wait for what stands still.
#[track_caller]
fn freeze(upper: &Upper<'_>) -> Frozen {
    let at = upper
        .place()
        .expect("a file system of its own")
        .to_path_buf();
    now("freeze", move || Frozen::freeze(&at)).works()
}

fn run(op: &'static Op, at: std::path::PathBuf) -> Task<Res<()>> {
    start(op.name, move || (op.run)(&at))
}

/// Whoever copies, however he came to it, the freeze does not wait for him; he
/// waits for the thaw.
fn R9_freeze_does_not_wait_for_data(t: &T) {
    t.better_than_overlay("it holds freeze protection while it copies data");
    let all: Vec<&'static Op> = ways(Kind::File).collect();
    let lower = t.fuse(|l| {
        for i in 0..all.len() {
            lay_out_lower(l, &format!("{i}"), Kind::File);
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    for (i, way) in all.iter().enumerate() {
        let (dir, f) = (format!("{i}"), format!("{i}/f"));
        last_preparations(&o.m(&dir), Kind::File);
        lower.stop_first_at(&f, MIDDLE);
        let mut copier = run(way, o.m(&dir));
        lower.wait_standing(&f, 1);
        let frozen = freeze(&upper);
        assert!(lower.standing(&f) > 0, "{} did not stand still", way.name);
        let path = o.m(&f);
        let read = now("reading while frozen", move || sys::read_file(path)).works();
        assert!(read == data("f"), "{}: not the old file", way.name);
        lower.go_on(&f);
        copier.settle();
        assert!(
            !copier.is_done(),
            "{} ended on a frozen file system",
            way.name
        );
        let path = o.m(&f);
        now("stat while frozen", move || sys::stat(path)).works();
        frozen.thaw();
        copier.finish().works();
        assert_as_plain(t, &o, &dir, Kind::File, &[way]);
    }
    upper.finish(&o);
}

const CHANGES: [Op; 9] = [
    Op::other("unlink of a lower file", |d| sys::unlink(d.join("gone"))),
    Op::other("rename of a lower file", |d| {
        sys::rename(d.join("moved"), d.join("renamed"))
    }),
    Op::other("create", |d| sys::write_file(d.join("new"), "new")),
    Op::other("mkdir", |d| sys::mkdir(d.join("dir"), 0o755)),
    Op::other("link of a lower file", |d| {
        sys::link(d.join("linked"), d.join("link"))
    }),
    Op::other("chmod of a lower file", |d| {
        sys::chmod(d.join("mode"), 0o606)
    }),
    Op::other("write to a lower file", |d| {
        sys::append_file(d.join("other"), "+")
    }),
    Op::other("rename over a lower file", |d| {
        sys::rename(d.join("g"), d.join("over"))
    }),
    Op::other("unlink of the file that is copied", |d| {
        sys::unlink(d.join("f"))
    }),
];

/// All at once in one directory while the file system is frozen: none ends, and
/// after the thaw all do.
fn R9_copies_and_changes_wait_for_the_thaw(t: &T) {
    t.better_than_overlay("it holds freeze protection while it copies data");
    let lower = t.fuse(|l| {
        lay_out_lower(l, "d", Kind::File);
        for name in ["gone", "moved", "linked", "mode", "over"] {
            l.file(&format!("d/{name}"), name);
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    last_preparations(&o.m("d"), Kind::File);
    lower.stop_first_at("d/f", MIDDLE);
    let path = o.m("d/f");
    let mut opener = start("open", move || sys::open(path, OFlags::RDWR));
    lower.wait_standing("d/f", 1);
    let frozen = freeze(&upper);
    let mut all: Vec<_> = CHANGES.iter().map(|op| run(op, o.m("d"))).collect();
    all.iter_mut().for_each(Task::settle);
    lower.go_on("d/f");
    opener.settle();
    for task in &mut all {
        assert!(!task.is_done(), "a change of a frozen file system ended");
    }
    assert!(!opener.is_done(), "a copy-up to a frozen file system ended");
    frozen.thaw();
    for task in all {
        task.finish().works();
    }
    let fd = opener.finish().works();
    assert!(
        sys::read_rest(&fd).works() == data("f"),
        "not the whole file"
    );
    drop(fd);
    check_changes(&o);
    upper.finish(&o);
}

fn check_changes(o: &crate::stack::Overlay) {
    let names = [
        "dir", "link", "linked", "made", "mode", "new", "other", "over", "renamed",
    ];
    assert_names(o.m("d"), &names);
    for gone in ["f", "g", "gone", "moved"] {
        assert_whiteout(o.u(Path::new("d").join(gone)));
    }
    for (name, text) in [
        ("link", "linked"),
        ("renamed", "moved"),
        ("other", "other+"),
        ("new", "new"),
        ("mode", "mode"),
    ] {
        assert_text(o.m(Path::new("d").join(name)), text);
    }
    assert!(sys::read_file(o.m("d/over")).works() == data("g"));
    assert_eq!(sys::mode_of(&sys::stat(o.m("d/mode")).works()), 0o606);
    assert_eq!(sys::stat(o.m("d/link")).works().st_nlink, 2);
    assert_upper_exact(o, "");
    o.assert_no_strays();
}

/// The freeze waits where the copy gets its name, under freeze protection, and
/// nowhere else.
fn R9_freeze_at_every_point(t: &T) {
    pause::need(t);
    let mut all = Vec::new();
    for way in ways(Kind::File) {
        all.extend(Point::OF_LEADER.map(|point| (way, point)));
    }
    let lower = t.fuse(|l| {
        for i in 0..all.len() {
            lay_out_lower(l, &format!("{i}"), Kind::File);
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    for (i, (way, point)) in all.iter().enumerate() {
        let dir = format!("{i}");
        last_preparations(&o.m(&dir), Kind::File);
        let pause = Pause::once(*point);
        let mut copier = run(way, o.m(&dir));
        pause.wait_standing(1);
        if *point == Point::Linked {
            let at = upper.place().expect("its own").to_path_buf();
            let mut freezer = start("freeze", move || Frozen::freeze(&at));
            freezer.settle();
            assert!(!freezer.is_done(), "frozen in the middle of a change");
            pause.go_on();
            freezer.finish().works().thaw();
        } else {
            let frozen = freeze(&upper);
            pause.go_on();
            copier.settle();
            assert!(
                !copier.is_done(),
                "{} at {point} ended on a frozen file system",
                way.name
            );
            frozen.thaw();
        }
        copier.finish().works();
        assert_as_plain(t, &o, &dir, Kind::File, &[way]);
    }
    upper.finish(&o);
}
