// SPDX-License-Identifier: GPL-2.0

//! R5 and R6: who reads or looks at an object while it is copied up.

use std::path::PathBuf;
use std::sync::Arc;

use super::ops::{
    data, last_preparations, lay_out_lower, ways, Hold, Kind, Op, Upper, MIDDLE, NO_TMPFILE, UPPERS,
};
use crate::env::T;
use crate::fuse::Fuse;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Expect, OFlags};
use crate::watch::{now, start};

pub fn tests() -> Vec<Test> {
    vec![
        test!(R5_fifty_readers_while_data_stands)
            .uppers(&UPPERS)
            .long(5),
        test!(R5_every_way_lets_readers_pass)
            .uppers(&UPPERS)
            .long(5),
        test!(R5_readers_pass_at_every_point)
            .uppers(&NO_TMPFILE)
            .long(10),
        test!(R6_fifty_calls_of_stat_while_data_stands)
            .uppers(&UPPERS)
            .long(5),
        test!(R6_same_inode_number_for_every_kind)
            .uppers(&UPPERS)
            .long(5),
        test!(R6_same_inode_number_at_every_point)
            .uppers(&NO_TMPFILE)
            .long(10),
    ]
}

/// Who an object is.
fn identity(path: PathBuf) -> sys::Res<(u64, u64)> {
    let st = sys::lstat(path)?;
    Ok((st.st_ino, st.st_dev))
}

/// What a reader gets who opens the file now.
fn read_now(o: &Overlay, path: &str) -> Vec<u8> {
    let at = o.m(path);
    now(format!("open of {path} for reading"), move || {
        sys::read_file(at)
    })
    .works()
}

/// A copy-up by open that stands in mid-data, and fifty who do something
/// meanwhile. None of them waits.
fn fifty_meanwhile<R: Send + 'static>(
    t: &T,
    what: &str,
    each: impl Fn(PathBuf) -> R + Clone + Send + 'static,
    check: impl Fn(&Overlay, R),
) {
    let lower = t.fuse(|l| lay_out_lower(l, "d", Kind::File));
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    last_preparations(&o.m("d"), Kind::File);
    let before = identity(o.m("d/f")).works();
    lower.stop_first_at("d/f", MIDDLE);
    let path = o.m("d/f");
    let mut opener = start("open", move || sys::open(path, OFlags::RDWR));
    lower.wait_standing("d/f", 1);
    let all: Vec<_> = (0..50)
        .map(|i| {
            let (each, path) = (each.clone(), o.m("d/f"));
            start(format!("{what} {i}"), move || each(path))
        })
        .collect();
    for one in all {
        check(&o, one.finish());
    }
    assert!(!opener.is_done(), "the copy-up did not stand still");
    lower.go_on("d/f");
    let fd = opener.finish().works();
    assert_eq!(identity(o.m("d/f")).works(), before, "inode number changed");
    sys::pwrite(&fd, "written", 0).works();
    let st = sys::fstat(&fd).works();
    assert_eq!((st.st_ino, st.st_dev), before, "inode number changed");
    assert!(sys::read_file(o.u("d/f")).works()[..7] == *b"written");
    drop(fd);
    upper.finish(&o);
}

fn R5_fifty_readers_while_data_stands(t: &T) {
    let old = data("f");
    fifty_meanwhile(
        t,
        "reader",
        |path| {
            let fd = sys::open(path, OFlags::RDONLY).works();
            let end = sys::pread(&fd, 1000, MIDDLE).works();
            (sys::read_rest(&fd).works(), end)
        },
        move |_, (whole, end)| {
            assert!(whole == old, "a reader did not get the whole old file");
            let at = MIDDLE as usize;
            assert!(end == old[at..at + 1000], "what lies behind the stop");
        },
    );
}

fn R6_fifty_calls_of_stat_while_data_stands(t: &T) {
    let size = data("f").len();
    fifty_meanwhile(
        t,
        "stat",
        |path| {
            let fd = sys::open(&path, OFlags::RDONLY).works();
            (sys::stat(path).works(), sys::fstat(&fd).works())
        },
        move |o, (stat, fstat)| {
            let first = sys::stat(o.m("d/f")).works();
            for st in [stat, fstat] {
                assert_eq!((st.st_ino, st.st_dev), (first.st_ino, first.st_dev));
                assert_eq!((st.st_size as usize, st.st_nlink), (size, 1));
            }
        },
    );
}

/// One way, held; what is seen meanwhile, and afterwards.
fn meanwhile(o: &Overlay, lower: &Arc<Fuse>, dir: &str, kind: Kind, way: &'static Op, hold: Hold) {
    let what = format!("{kind:?}: {} held at {hold:?}", way.name);
    let f = format!("{dir}/f");
    last_preparations(&o.m(dir), kind);
    let before = identity(o.m(&f)).works();
    let held_open = (kind == Kind::File).then(|| sys::open(o.m(&f), OFlags::RDONLY).works());
    let pause = match hold {
        Hold::At(point) => Some(Pause::once(point)),
        _ => None,
    };
    if hold == Hold::Data {
        lower.stop_first_at(&f, MIDDLE);
    }
    let at = o.m(dir);
    let mut copier = start(&what, move || (way.run)(&at));
    match &pause {
        Some(pause) => pause.wait_standing(1),
        None if hold == Hold::Data => lower.wait_standing(&f, 1),
        None => {}
    }
    if hold != Hold::No {
        let path = o.m(&f);
        let during = now(format!("{what}: stat"), move || identity(path)).works();
        assert_eq!(during, before, "{what}: inode number while it is copied");
        if kind == Kind::File {
            assert!(read_now(o, &f) == data("f"), "{what}: not the old file");
        }
        assert!(!copier.is_done(), "{what}: the copy-up did not stand still");
    }
    drop(pause);
    if hold == Hold::Data {
        lower.go_on(&f);
    }
    copier.finish().works();
    let now_at = if way.name == "rename" { "h" } else { "f" };
    let after = identity(o.m(dir).join(now_at)).works();
    assert_eq!(after, before, "{what}: inode number after it was copied");
    if let Some(fd) = held_open {
        let st = sys::fstat(&fd).works();
        assert_eq!((st.st_ino, st.st_dev), before, "{what}: of an old fd");
    }
}

fn meanwhile_all(t: &T, combinations: &[(Kind, &'static Op, Hold)]) {
    let lower = t.fuse(|l| {
        for (i, (kind, ..)) in combinations.iter().enumerate() {
            lay_out_lower(l, &format!("{i}"), *kind);
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    for (i, (kind, way, hold)) in combinations.iter().enumerate() {
        meanwhile(&o, &lower, &format!("{i}"), *kind, way, *hold);
    }
    upper.finish(&o);
}

fn R5_every_way_lets_readers_pass(t: &T) {
    let all: Vec<_> = ways(Kind::File)
        .map(|w| (Kind::File, w, Hold::Data))
        .collect();
    meanwhile_all(t, &all);
}

fn at_every_point(t: &T, kinds: &[Kind]) {
    pause::need(t);
    let mut all = Vec::new();
    for kind in kinds {
        for way in ways(*kind) {
            for hold in Point::OF_LEADER.map(Hold::At) {
                if hold.suits(*kind) {
                    all.push((*kind, way, hold));
                }
            }
        }
    }
    meanwhile_all(t, &all);
}

fn R5_readers_pass_at_every_point(t: &T) {
    at_every_point(t, &[Kind::File]);
}

fn R6_same_inode_number_at_every_point(t: &T) {
    at_every_point(t, &Kind::OTHERS);
}

fn R6_same_inode_number_for_every_kind(t: &T) {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        all.extend(ways(kind).map(|w| (kind, w, Hold::No)));
    }
    meanwhile_all(t, &all);
}
