// SPDX-License-Identifier: GPL-2.0

//! The lower filesystem that tests control does what they ask of it.

use std::time::Duration;

use crate::env::T;
use crate::fuse::PIECE;
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, FileType, OFlags};
use crate::tree::{assert_names, pattern};
use crate::watch::{now, start, until};

pub fn tests() -> Vec<Test> {
    vec![
        test!(tree),
        test!(stops_and_goes_on),
        test!(fails_and_is_slow),
        test!(copy_stands_still),
        test!(goes_away_when_in_use),
    ]
}

fn tree(t: &T) {
    let data = pattern(100_000, 1);
    let f = t.fuse(|f| {
        f.file("d/f", &data).mode("d/f", 0o640).owner("d/f", 7, 8);
        f.xattr("d/f", "user.x", "y").mtime("d/f", 5);
        f.symlink("s", "d/f").dir("e").link("d/f", "e/g");
        f.node("p", FileType::Fifo, 0);
    });
    let at = |p: &str| f.at.join(p);
    assert_names(&f.at, &["d", "e", "p", "s"]);
    assert!(sys::read_file(at("s")).works() == data);
    let st = sys::stat(at("e/g")).works();
    assert_eq!((st.st_uid, st.st_gid, st.st_nlink), (7, 8, 2));
    assert_eq!((sys::mode_of(&st), st.st_mtime), (0o640, 5));
    assert_eq!(st.st_ino, sys::stat(at("d/f")).works().st_ino);
    assert_eq!(sys::get_xattr(at("d/f"), "user.x").works(), b"y");
    assert_eq!(sys::list_xattr(at("d/f")).works(), ["user.x"]);
    sys::get_xattr(at("d/f"), "user.z").fails(Errno::NODATA);
    assert_eq!(sys::stat(&f.at).works().st_nlink, 4);
    assert_eq!((f.readers("d/f"), f.bytes("d/f")), (1, 100_000));
    f.reset_counts("d/f");
    assert_eq!((f.readers("e/g"), f.bytes("e/g")), (0, 0));
}

fn stops_and_goes_on(t: &T) {
    let data = pattern(100_000, 1);
    let f = t.fuse(|f| {
        f.file("f", &data).file("other", "other");
    });
    let read = |what: &str| {
        let path = f.at.join("f");
        start(what, move || sys::read_file(path).works())
    };
    f.stop_first_at("f", 50_000);
    let mut first = read("first");
    f.wait_standing("f", 1);
    assert!(read("second").finish() == data);
    let other = f.at.join("other");
    assert_eq!(
        now("another file", || sys::read_file(other).works()),
        b"other"
    );
    assert!(!first.is_done());
    f.go_on("f");
    assert!(first.finish() == data);
    f.stop_all_at("f", 50_000);
    let all: Vec<_> = (0..5).map(|i| read(&format!("reader {i}"))).collect();
    f.wait_standing("f", 5);
    f.go_on("f");
    all.into_iter().for_each(|r| assert!(r.finish() == data));
    assert_eq!(f.standing("f"), 0);
}

fn fails_and_is_slow(t: &T) {
    let f = t.fuse(|f| {
        f.file("f", pattern(100_000, 1));
    });
    let path = f.at.join("f");
    f.fail_at("f", 50_000, Errno::IO, Some(1));
    let fd = sys::open(&path, OFlags::RDONLY).works();
    sys::pread(&fd, 1000, 40_000).works();
    sys::pread(&fd, 1000, 60_000).fails(Errno::IO);
    sys::pread(&fd, 1000, 60_000).works();
    f.fail_at("f", 0, Errno::NODEV, None);
    sys::pread(&fd, 1000, 0).fails(Errno::NODEV);
    sys::pread(&fd, 1000, 0).fails(Errno::NODEV);
    f.fail_no_more("f");
    f.delay("f", Some(Duration::from_secs(3600)));
    let slow = start("slow read", move || sys::pread(&fd, 1000, 0).works());
    f.delay("f", Some(Duration::from_millis(1)));
    slow.finish();
    sys::read_file(&path).works();
    f.delay("f", None);
    sys::read_file(&path).works();
}

/// A copy-up stands at the byte where it is told to.
fn copy_stands_still(t: &T) {
    let size = 40 * PIECE;
    let stop = 25 * PIECE;
    let data = pattern(size as usize, 1);
    let f = t.fuse(|f| {
        f.file("f", &data);
    });
    let o = t.stack().lower_fuse(&f).mount();
    f.reset_counts("f");
    f.stop_first_at("f", stop);
    let path = o.m("f");
    let mut copier = start("open for write", move || {
        sys::open(path, OFlags::RDWR).works()
    });
    f.wait_standing("f", 1);
    until("what comes before the stop is served", || {
        f.bytes("f") == stop
    });
    assert!(!copier.is_done(), "{}", copier.stack());
    assert_names(o.u("/"), &[]);
    f.go_on("f");
    drop(copier.finish());
    assert_eq!((f.readers("f"), f.bytes("f")), (1, size));
    assert!(sys::read_file(o.u("f")).works() == data);
}

/// What stands when the test ends does not hold it up.
fn goes_away_when_in_use(t: &T) {
    t.in_child(|| {
        let f = t.fuse(|f| {
            f.file("f", pattern(100_000, 1));
        });
        let path = f.at.join("f");
        f.stop_all_at("f", 0);
        for i in 0..3 {
            let path = path.clone();
            drop(start(format!("reader {i}"), move || sys::read_file(path)));
        }
        f.wait_standing("f", 3);
    });
}
