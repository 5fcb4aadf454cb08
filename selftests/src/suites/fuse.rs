// SPDX-License-Identifier: GPL-2.0

//! The lower filesystem that tests control does what they ask of it.

use std::time::Duration;

use crate::env::T;
use crate::fuse::PIECE;
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FileType, OFlags};
use crate::tree::{assert_names, assert_text, assert_whiteout, pattern};
use crate::watch::{now, start, until};

pub fn tests() -> Vec<Test> {
    vec![
        test!(tree),
        test!(stops_and_goes_on),
        test!(fails_and_is_slow),
        test!(copy_stands_still),
        test!(goes_away_when_in_use),
        test!(error_while_it_is_copied),
        test!(error_before_it_is_copied),
        test!(error_and_unlink),
        test!(error_and_another_name),
        test!(replaced_while_it_is_copied),
        test!(replaced_and_removed),
        test!(links_that_come),
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

/// Files of which nothing is remembered, below a mount; the one to be copied
/// stands in the middle if it is read.
fn to_be_lost(t: &T, links: &[&str]) -> (std::sync::Arc<crate::fuse::Fuse>, Overlay) {
    let f = t.fuse(|f| {
        f.file("d/f", pattern(5 * PIECE as usize, 1));
        f.file("d/other", "other").dir("d/e");
        for link in links {
            f.link("d/f", link);
        }
    });
    f.remember_nothing();
    let o = t.stack().lower_fuse(&f).mount();
    // The directory has been copied up.
    sys::write_file(o.m("d/made"), "made").works();
    (f, o)
}

/// The server gives an error for the name when it is asked whether it still
/// stands. The kernel forgets the name then.
#[track_caller]
fn lose(f: &crate::fuse::Fuse, o: &Overlay, path: &str) {
    f.fail_lookup_once(path, Errno::IO);
    // Another look may follow at once, and finds it.
    let _ = sys::stat(o.m(path));
    assert!(f.lookups_failed(path), "the server has not been asked");
}

/// The same, and nobody has looked for it again.
#[track_caller]
fn lose_for_now(f: &crate::fuse::Fuse, o: &Overlay, path: &str) {
    f.fail_next_lookups(path, Errno::IO, 2);
    sys::stat(o.m(path)).fails(Errno::IO);
    assert!(f.lookups_failed(path), "the server has not been asked");
}

#[track_caller]
fn write_new(fd: &std::os::fd::OwnedFd) {
    sys::pwrite(fd, "NEWDATA", 0).works();
    sys::fsync(fd).works();
}

#[track_caller]
fn has_new(o: &Overlay, path: &str) {
    let mut want = pattern(5 * PIECE as usize, 1);
    want[..7].copy_from_slice(b"NEWDATA");
    assert!(sys::read_file(o.m(path)).works() == want, "what is seen");
    assert!(sys::read_file(o.u(path)).works() == want, "what is above");
    o.assert_no_strays();
}

/// A server that fails once while a file is copied has not removed it: what is
/// written is there afterwards.
fn error_while_it_is_copied(t: &T) {
    for links in [&[][..], &["d/k"][..]] {
        for again in [true, false] {
            let (f, o) = to_be_lost(t, links);
            f.stop_first_at("d/f", 2 * PIECE);
            let path = o.m("d/f");
            let opener = start("open", move || sys::open(path, OFlags::RDWR));
            f.wait_standing("d/f", 1);
            if t.is_overlay() {
                // It holds the lock that a look needs.
            } else if again {
                lose(&f, &o, "d/f");
            } else {
                lose_for_now(&f, &o, "d/f");
            }
            f.go_on("d/f");
            let fd = opener.finish().works();
            write_new(&fd);
            has_new(&o, "d/f");
            // The name is in order.
            sys::append_file(o.m("d/f"), "more").works();
            sys::rename(o.m("d/f"), o.m("d/g")).works();
            assert_eq!(sys::pread(&fd, 4, 5 * PIECE).works(), b"more");
            sys::unlink(o.m("d/g")).works();
            assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
            assert_whiteout(o.u("d/f"));
            drop(fd);
            o.umount();
        }
    }
}

/// The same before the copy begins, for what is open: a file, and a directory in
/// which something is made.
fn error_before_it_is_copied(t: &T) {
    let (f, o) = to_be_lost(t, &[]);
    let fd = sys::open(o.m("d/f"), OFlags::RDONLY).works();
    lose_for_now(&f, &o, "d/f");
    sys::fchmod(&fd, 0o606).works();
    assert_eq!(sys::mode_of(&sys::stat(o.u("d/f")).works()), 0o606);
    assert_eq!(sys::mode_of(&sys::stat(o.m("d/f")).works()), 0o606);
    let again = sys::open(sys::fd_path(&fd), OFlags::RDWR).works();
    write_new(&again);
    has_new(&o, "d/f");

    let dir = sys::open(o.m("d/e"), OFlags::RDONLY).works();
    lose_for_now(&f, &o, "d/e");
    sys::write_file(sys::fd_path(&dir).join("new"), "new").works();
    assert_text(o.u("d/e/new"), "new");
    assert_text(o.m("d/e/new"), "new");
    sys::write_file(o.m("d/e/newer"), "newer").works();
    assert_names(o.m("d/e"), &["new", "newer"]);
    o.assert_no_strays();
}

/// What the overlay itself has removed stays removed, whatever the server says.
fn error_and_unlink(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    for again in [true, false] {
        let (f, o) = to_be_lost(t, &[]);
        f.stop_first_at("d/f", 2 * PIECE);
        let path = o.m("d/f");
        let opener = start("open", move || sys::open(path, OFlags::RDWR));
        f.wait_standing("d/f", 1);
        if again {
            lose(&f, &o, "d/f");
        } else {
            lose_for_now(&f, &o, "d/f");
        }
        sys::unlink(o.m("d/f")).works();
        f.go_on("d/f");
        let fd = opener.finish().works();
        write_new(&fd);
        assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
        sys::stat(o.m("d/f")).fails(Errno::NOENT);
        assert_whiteout(o.u("d/f"));
        o.assert_no_strays();
    }
}

/// One of several names of a lower file is one object, also after it has been
/// lost and found.
fn error_and_another_name(t: &T) {
    t.better_than_overlay("it makes another object of a name that it finds again");
    let (f, o) = to_be_lost(t, &["d/k"]);
    let old = sys::open(o.m("d/f"), OFlags::RDONLY).works();
    lose(&f, &o, "d/f");
    let fd = sys::open(o.m("d/f"), OFlags::RDWR).works();
    write_new(&fd);
    assert_eq!(sys::pread(&old, 7, 0).works(), b"NEWDATA");
    lose(&f, &o, "d/k");
    let other = sys::open(o.m("d/k"), OFlags::RDWR).works();
    assert!(sys::pread(&other, 7, 0).works() != b"NEWDATA");
    sys::fchmod(&old, 0o606).works();
    has_new(&o, "d/f");
    sys::unlink(o.m("d/f")).works();
    assert_eq!(sys::fstat(&old).works().st_nlink, 0);
}

/// The server puts another file there while the first is copied. The copy has the
/// name, as it was asked for, and nobody is left with an object that cannot be
/// written to.
fn replaced_while_it_is_copied(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = to_be_lost(t, &[]);
    f.stop_first_at("d/f", 2 * PIECE);
    let path = o.m("d/f");
    let opener = start("open", move || sys::open(path, OFlags::RDWR));
    f.wait_standing("d/f", 1);
    f.is_now("d/f", Some("d/other"));
    assert_text(o.m("d/f"), "other");
    f.go_on("d/f");
    write_new(&opener.finish().works());
    sys::append_file(o.m("d/f"), "").works();
    has_new(&o, "d/f");
}

/// The same, and the name is the first thing to be changed.
fn replaced_and_removed(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    for replace in [false, true] {
        let (f, o) = to_be_lost(t, &[]);
        sys::write_file(o.m("d/new"), "new").works();
        f.stop_first_at("d/f", 2 * PIECE);
        let path = o.m("d/f");
        let opener = start("open", move || sys::open(path, OFlags::RDWR));
        f.wait_standing("d/f", 1);
        f.is_now("d/f", Some("d/other"));
        assert_text(o.m("d/f"), "other");
        f.go_on("d/f");
        write_new(&opener.finish().works());
        sys::read_file(o.m("d/f")).works();
        if replace {
            sys::rename(o.m("d/new"), o.m("d/f")).works();
            assert_text(o.m("d/f"), "new");
            assert_text(o.u("d/f"), "new");
        } else {
            sys::unlink(o.m("d/f")).works();
            sys::stat(o.m("d/f")).fails(Errno::NOENT);
            assert_whiteout(o.u("d/f"));
        }
        o.assert_no_strays();
        o.umount();
    }
}

/// A server that counts more names of a file by the time it is copied: it becomes a file of
/// its own, and what `stat` says and what is listed is the number of that one, now and at the
/// next mount.
fn links_that_come(t: &T) {
    t.better_than_overlay("it shows the number of the lower file until the next mount");
    let f = t.fuse(|f| {
        f.file("d/f", "1");
    });
    f.remember_nothing();
    let o = t.stack().lower_fuse(&f).mount();
    let check = || {
        let number = sys::stat(o.m("d/f")).works().st_ino;
        let list = sys::dirents(o.m("d")).works();
        let listed = list.iter().find(|e| e.name == "f").expect("listed").ino;
        assert_eq!(listed, number);
        number
    };
    check();
    f.has_links("d/f", 2);
    sys::chmod(o.m("d/f"), 0o600).works();
    sys::get_xattr(o.u("d/f"), "trusted.overlay.origin").fails(Errno::NODATA);
    let number = check();
    assert_eq!(number, sys::stat(o.u("d/f")).works().st_ino);
    o.remount();
    assert_eq!(check(), number, "at the next mount");
}
