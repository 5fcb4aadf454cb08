// SPDX-License-Identifier: GPL-2.0

//! R15: who has a file open from before its copy-up sees what is written later,
//! and keeps his place in it and his locks.

use rustix::fs::{FlockOperation, SeekFrom};

use super::links::{SIZE, STOP};
use super::ops::UPPERS;
use super::ways::{beside, WAYS};
use crate::env::T;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, Map, OFlags};
use crate::tree::pattern;
use crate::watch::{now, start};

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R15_old_fd_sees_later_writes", sees_later_writes).uppers(&UPPERS),
        test("R15_old_fd_while_data_is_copied", while_data_is_copied).uppers(&UPPERS),
        test("R15_old_fd_at_each_pause_point", at_each_point),
        test("R15_old_fd_of_what_lost_its_name", lost_its_name),
        test("R15_old_fd_after_the_copy_failed", after_a_failure),
        test("R15_locks_are_kept", locks_are_kept),
        test("R15_locks_while_data_is_copied", locks_while_data_is_copied),
        test("R15_old_mapping_keeps_to_the_old_file", old_mapping),
    ]
}

fn name(i: usize) -> String {
    format!("d/f{i}")
}

fn sees_later_writes(t: &T) {
    let size = 20_000;
    let data = pattern(size, 1);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..WAYS.len() {
                l.file(name(i), &data);
            }
        })
        .mount();
    for (i, way) in WAYS.iter().enumerate() {
        let old = sys::open(o.m(name(i)), OFlags::RDONLY).works();
        let second = sys::open(o.m(name(i)), OFlags::RDONLY).works();
        let before = sys::fstat(&old).works();
        sys::seek(&old, SeekFrom::Start(1000)).works();
        (way.run)(&o, &name(i)).works();
        way.check_done(&o, &name(i), &data);
        let at = if way.moves { beside(&name(i)) } else { name(i) };
        let writer = sys::open(o.m(&at), OFlags::RDWR).works();
        sys::pwrite(&writer, "LATER", 1000).works();
        sys::pwrite(&writer, "MORE", size as u64).works();
        let mut want = data.clone();
        want[1000..1005].copy_from_slice(b"LATER");
        want.extend(b"MORE");
        assert_eq!(
            sys::seek(&old, SeekFrom::Current(0)).works(),
            1000,
            "{}",
            way.name
        );
        assert!(sys::read_rest(&old).works() == want[1000..], "{}", way.name);
        let end = sys::seek(&old, SeekFrom::End(0)).works();
        assert_eq!(end as usize, want.len(), "{}", way.name);
        let after = sys::fstat(&old).works();
        assert_eq!(after.st_size as usize, want.len(), "{}", way.name);
        assert_eq!(
            (after.st_dev, after.st_ino),
            (before.st_dev, before.st_ino),
            "{}",
            way.name
        );
        assert_eq!(after.st_nlink, sys::fstat(&writer).works().st_nlink);
        sys::ftruncate(&writer, 10).works();
        assert!(
            sys::pread(&old, size, 0).works() == want[..10],
            "{}",
            way.name
        );
        sys::fsync(&old).works();
        sys::pwrite(&old, "x", 0).fails(Errno::BADF);
        // One that was not used in between goes over as well.
        drop(writer);
        sys::write_file(o.m(&at), "all new").works();
        assert_eq!(sys::read_rest(&second).works(), b"all new", "{}", way.name);
    }
}

fn while_data_is_copied(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..WAYS.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        let old = sys::open(o.m(&p), OFlags::RDONLY).works();
        sys::seek(&old, SeekFrom::Start(500)).works();
        f.stop_first_at(&p, STOP);
        let (at, path) = (o.clone(), p.clone());
        let mut leader = start(way.name, move || (way.run)(&at, &path));
        f.wait_standing(&p, 1);
        // It reads the whole old file meanwhile.
        let reader = old.try_clone().expect("dup");
        let read = now("read through an old fd", move || sys::read_rest(&reader));
        assert!(read.works() == pattern(SIZE, 1)[500..], "{}", way.name);
        let reader = old.try_clone().expect("dup");
        let size = now("fstat", move || sys::fstat(&reader)).works().st_size;
        assert_eq!(size as usize, SIZE);
        assert!(!leader.is_done());
        f.go_on(&p);
        leader.finish().works();
        let at = if way.moves { beside(&p) } else { p };
        let writer = sys::open(o.m(at), OFlags::WRONLY | OFlags::APPEND).works();
        sys::write(&writer, "LATER").works();
        assert_eq!(sys::read_rest(&old).works(), b"LATER", "{}", way.name);
        assert_eq!(
            sys::seek(&old, SeekFrom::Current(0)).works() as usize,
            SIZE + 5
        );
    }
}

fn at_each_point(t: &T) {
    let data = pattern(50_000, 1);
    pause::need(t);
    for point in Point::OF_LEADER {
        let o = t
            .stack()
            .lower(|l| {
                l.file("f", &data);
            })
            .mount();
        let before = sys::open(o.m("f"), OFlags::RDONLY).works();
        let armed = Pause::once(point);
        let path = o.m("f");
        let opener = start("open", move || sys::open(path, OFlags::RDWR));
        armed.wait_standing(1);
        let path = o.m("f");
        let during = now("open for reading", move || sys::open(path, OFlags::RDONLY)).works();
        for fd in [&before, &during] {
            let fd = fd.try_clone().expect("dup");
            let read = now("read", move || sys::pread(&fd, 60_000, 0));
            assert!(read.works() == data, "{point}");
        }
        armed.go_on();
        let writer = opener.finish().works();
        sys::pwrite(&writer, "LATER", 40_000).works();
        for fd in [&before, &during] {
            assert_eq!(sys::pread(fd, 5, 40_000).works(), b"LATER", "{point}");
        }
    }
}

/// Unlinked before, while, and after it is copied: those who have it open share
/// it all the same.
fn lost_its_name(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..3 {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for i in 0..3 {
        let p = name(i);
        let old = sys::open(o.m(&p), OFlags::RDONLY).works();
        let writer = match i {
            0 => {
                sys::unlink(o.m(&p)).works();
                sys::open(sys::fd_path(&old), OFlags::RDWR).works()
            }
            1 => {
                f.stop_all_at(&p, STOP);
                let path = o.m(&p);
                let opener = start("open", move || sys::open(path, OFlags::RDWR));
                f.wait_standing(&p, 1);
                let path = o.m(&p);
                now("unlink", move || sys::unlink(path)).works();
                f.go_on(&p);
                opener.finish().works()
            }
            _ => {
                let fd = sys::open(o.m(&p), OFlags::RDWR).works();
                sys::unlink(o.m(&p)).works();
                fd
            }
        };
        sys::pwrite(&writer, "LATER", 7).works();
        let mut want = pattern(SIZE, 1);
        want[7..12].copy_from_slice(b"LATER");
        assert!(sys::read_rest(&old).works() == want, "case {i}");
        assert_eq!(sys::fstat(&old).works().st_nlink, 0, "case {i}");
        o.assert_no_strays();
    }
}

fn after_a_failure(t: &T) {
    let f = t.fuse(|f| {
        f.file("f", pattern(SIZE, 1));
    });
    let o = t.stack().lower_fuse(&f).mount();
    let old = sys::open(o.m("f"), OFlags::RDONLY).works();
    f.fail_at("f", STOP, Errno::IO, None);
    sys::open(o.m("f"), OFlags::RDWR).fails(Errno::IO);
    f.fail_no_more("f");
    assert!(sys::pread(&old, SIZE, 0).works() == pattern(SIZE, 1));
    sys::append_file(o.m("f"), "LATER").works();
    assert_eq!(sys::pread(&old, 9, SIZE as u64).works(), b"LATER");
}

const EXCLUSIVE: FlockOperation = FlockOperation::NonBlockingLockExclusive;
const SHARED: FlockOperation = FlockOperation::NonBlockingLockShared;
const BUSY: [Errno; 2] = [Errno::AGAIN, Errno::ACCESS];

fn locks_are_kept(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..WAYS.len() {
                l.file(name(i), "some text");
            }
        })
        .mount();
    for (i, way) in WAYS.iter().enumerate() {
        let holder = sys::open(o.m(name(i)), OFlags::RDONLY).works();
        sys::flock(&holder, EXCLUSIVE).works();
        // One that is open for reading can hold a lock for reading only.
        sys::ofd_lock(&holder, libc::F_RDLCK, 2, 3).works();
        (way.run)(&o, &name(i)).works();
        let at = if way.moves { beside(&name(i)) } else { name(i) };
        let other = sys::open(o.m(&at), OFlags::RDWR).works();
        sys::flock(&other, SHARED).fails(Errno::WOULDBLOCK);
        sys::ofd_lock(&other, libc::F_WRLCK, 0, 10).fails_any(&BUSY);
        sys::ofd_lock(&other, libc::F_WRLCK, 5, 5).works();
        sys::ofd_lock(&holder, libc::F_RDLCK, 6, 1).fails_any(&BUSY);
        sys::flock(&holder, FlockOperation::Unlock).works();
        sys::flock(&other, EXCLUSIVE).works();
        sys::flock(&holder, SHARED).fails(Errno::WOULDBLOCK);
        sys::ofd_lock(&holder, libc::F_UNLCK, 0, 10).works();
        sys::ofd_lock(&other, libc::F_WRLCK, 0, 10).works();
        // To close it gives them back.
        drop(other);
        sys::flock(&holder, EXCLUSIVE).works();
        sys::ofd_lock(&holder, libc::F_RDLCK, 0, 10).works();
        t.in_child(|| {
            let mine = sys::open(o.m(&at), OFlags::RDWR).works();
            sys::posix_lock_range(&mine, libc::F_WRLCK, 0, 1).fails_any(&BUSY);
            drop(holder);
        });
    }
}

fn locks_while_data_is_copied(t: &T) {
    let f = t.fuse(|f| {
        f.file("f", pattern(SIZE, 1));
    });
    let o = t.stack().lower_fuse(&f).mount();
    let holder = sys::open(o.m("f"), OFlags::RDONLY).works();
    let other = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::flock(&holder, EXCLUSIVE).works();
    f.stop_first_at("f", STOP);
    let path = o.m("f");
    let opener = start("open", move || sys::open(path, OFlags::RDWR));
    f.wait_standing("f", 1);
    sys::flock(&other, SHARED).fails(Errno::WOULDBLOCK);
    sys::flock(&holder, FlockOperation::Unlock).works();
    sys::flock(&other, SHARED).works();
    sys::ofd_lock(&holder, libc::F_RDLCK, 0, 100).works();
    f.go_on("f");
    let fd = opener.finish().works();
    sys::flock(&fd, EXCLUSIVE).fails(Errno::WOULDBLOCK);
    sys::ofd_lock(&fd, libc::F_WRLCK, 0, 1).fails_any(&BUSY);
    drop((holder, other));
    sys::flock(&fd, EXCLUSIVE).works();
    sys::ofd_lock(&fd, libc::F_WRLCK, 0, 1).works();
}

/// A mapping from before the copy-up is of the lower file, and stays so: this is
/// what overlayfs documents, too. The descriptor itself goes over.
fn old_mapping(t: &T) {
    let size = 8 * 4096;
    let data = pattern(size, 1);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", &data);
        })
        .mount();
    let old = sys::open(o.m("f"), OFlags::RDONLY).works();
    let map = Map::new(&old, size, false, true).works();
    let writer = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::pwrite(&writer, vec![b'x'; size], 0).works();
    assert!(map.get(0, size) == data, "the mapping changed");
    assert!(sys::pread(&old, size, 0).works() == vec![b'x'; size]);
    let again = Map::new(&old, size, false, true).works();
    assert!(again.get(0, size) == vec![b'x'; size]);
    sys::pwrite(&writer, "y", 0).works();
    assert_eq!(again.get(0, 2), b"yx");
    sys::ftruncate(&writer, 0).works();
    assert!(map.get(0, size) == data, "the mapping changed");
}
