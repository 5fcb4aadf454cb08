// SPDX-License-Identifier: GPL-2.0

//! R7: `link(f, k)`, and two names of one lower file, against copy-up. No name
//! is lost, no data is lost, and the link counts are right.

use std::sync::Arc;

use rustix::fs::FlockOperation;

use super::kills::in_process;
use super::ops::{NO_TMPFILE, UPPERS};
use super::ways::{beside, Way, WAYS};
pub use super::ways::{SIZE, STOP};
use crate::env::T;
use crate::fuse::Fuse;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags};
use crate::tree::{assert_names, assert_whiteout, pattern};
use crate::watch::{now, start, Task};

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R7_link_while_data_is_copied", link_while_data_is_copied).uppers(&UPPERS),
        test("R7_two_names_while_data_is_copied", two_names).uppers(&UPPERS),
        test(
            "R7_name_of_two_removed_while_data_is_copied",
            one_of_two_removed,
        ),
        test("R7_link_of_what_lost_its_name", link_of_what_lost_its_name),
        test("R7_link_at_each_pause_point", link_at_each_point).uppers(&NO_TMPFILE),
        test("R7_link_leads", link_leads),
        test("R7_names_after_the_copy_up_are_one_inode", one_inode),
    ]
}

fn name(i: usize) -> String {
    format!("d/f{i}")
}

/// Starts what comes second, and lets it come as far as it can.
pub fn second<R: Send + 'static>(what: &str, f: impl FnOnce() -> R + Send + 'static) -> Task<R> {
    let mut task = start(what, f);
    task.settle();
    task
}

/// A file for each way on a lower file system that stops.
fn files_that_stop(t: &T) -> (Arc<Fuse>, Overlay) {
    let f = t.fuse(|f| {
        for i in 0..WAYS.len() {
            f.file(&name(i), pattern(SIZE, i as u64));
            f.link(&name(i), &format!("second/g{i}"));
        }
        f.dir("e").file("d/single", pattern(SIZE, 0));
    });
    let o = t.stack().lower_fuse(&f).mount();
    (f, o)
}

/// All of these names are one file, which has no others.
#[track_caller]
fn one_file(o: &Overlay, names: &[String], data: &[u8], what: &str) {
    let first = sys::stat(o.m(&names[0])).works();
    let upper = sys::stat(o.u(&names[0])).works();
    for n in names {
        let st = sys::stat(o.m(n)).works();
        assert_eq!(st.st_ino, first.st_ino, "{what}: inode of {n}");
        assert_eq!(st.st_nlink as usize, names.len(), "{what}: links of {n}");
        assert_eq!(
            sys::stat(o.u(n)).works().st_ino,
            upper.st_ino,
            "{what}: {n}"
        );
        assert!(
            sys::read_file(o.m(n)).works() == data,
            "{what}: data of {n}"
        );
    }
    assert_eq!(upper.st_nlink as usize, names.len(), "{what}: links above");
}

/// What holds after `way` and `link(p, k)`, which came second.
#[track_caller]
fn check_link(o: &Overlay, way: &Way, linked: bool, p: &str, k: &str, data: &[u8]) {
    let mut names = Vec::new();
    if way.moves {
        assert!(!sys::exists(o.m(p)), "{}: it is still there", way.name);
        assert_whiteout(o.u(p));
    } else {
        assert!(linked, "{}: link said that there is no file", way.name);
        names.push(p.to_string());
    }
    if way.moves || way.name == "link" {
        names.push(beside(p));
    }
    if linked {
        names.push(k.to_string());
    } else {
        assert!(!sys::exists(o.m(k)), "{}: a link which failed", way.name);
    }
    one_file(o, &names, data, way.name);
    o.assert_no_strays();
}

fn link_while_data_is_copied(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = files_that_stop(t);
    for (i, way) in WAYS.iter().enumerate() {
        let (p, k) = (name(i), format!("e/k{i}"));
        f.stop_all_at(&p, STOP);
        let (at, path) = (o.clone(), p.clone());
        let leader = start(way.name, move || (way.run)(&at, &path));
        f.wait_standing(&p, 1);
        let (from, to) = (o.m(&p), o.m(&k));
        let linker = second("link", move || sys::link(from, to));
        f.go_on(&p);
        leader.finish().works();
        let linked = linker.finish();
        if let Err(e) = &linked {
            assert_eq!(e.errno, Errno::NOENT, "{}: {e:?}", way.name);
        }
        check_link(&o, way, linked.is_ok(), &p, &k, &pattern(SIZE, i as u64));
    }
    o.remount();
    for i in 0..WAYS.len() {
        let k = o.m(format!("e/k{i}"));
        if sys::exists(&k) {
            assert!(sys::read_file(k).works() == pattern(SIZE, i as u64));
        }
    }
}

/// Each name of a lower file with two becomes a file of its own.
fn two_names(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = files_that_stop(t);
    for (i, way) in WAYS.iter().enumerate() {
        let (p, other) = (name(i), format!("second/g{i}"));
        f.stop_all_at(&p, STOP);
        let (at, path) = (o.clone(), p.clone());
        let leader = start(way.name, move || (way.run)(&at, &path));
        f.wait_standing(&p, 1);
        let to = o.m(&other);
        let writer = second("write to the other name", move || {
            let fd = sys::open(to, OFlags::RDWR).works();
            sys::pwrite(&fd, "SECOND", 1000).works();
        });
        f.go_on(&p);
        leader.finish().works();
        writer.finish();
        way.check_done(&o, &p, &pattern(SIZE, i as u64));
        let mut changed = pattern(SIZE, i as u64);
        changed[1000..1006].copy_from_slice(b"SECOND");
        one_file(&o, &[other], &changed, way.name);
    }
}

fn one_of_two_removed(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = files_that_stop(t);
    for (i, way) in WAYS.iter().enumerate() {
        let (p, second) = (name(i), format!("second/g{i}"));
        f.stop_all_at(&p, STOP);
        let (at, path) = (o.clone(), p.clone());
        let leader = start(way.name, move || (way.run)(&at, &path));
        f.wait_standing(&p, 1);
        // Two names are two objects: this one is not being copied.
        let other = o.m(&second);
        now("unlink of the other name", move || sys::unlink(other)).works();
        assert_whiteout(o.u(&second));
        f.go_on(&p);
        leader.finish().works();
        way.check_done(&o, &p, &pattern(SIZE, i as u64));
        sys::stat(o.m(&second)).fails(Errno::NOENT);
    }
    assert_names(o.m("second"), &[]);
}

fn link_of_what_lost_its_name(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = files_that_stop(t);
    let p = "d/single".to_string();
    f.stop_all_at(&p, STOP);
    let at = o.m(&p);
    let opener = start("open", move || sys::open(at, OFlags::RDWR));
    f.wait_standing(&p, 1);
    let (gone, k) = (o.m(&p), o.m("e/k"));
    now("unlink", move || sys::unlink(gone)).works();
    sys::link(o.m(&p), &k).fails(Errno::NOENT);
    f.go_on(&p);
    let fd = opener.finish().works();
    assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
    sys::link_fd(&fd, &k).fails(Errno::NOENT);
    assert_eq!(sys::pread(&fd, SIZE, 0).works(), pattern(SIZE, 0));
    drop(fd);
    assert_whiteout(o.u(&p));
    assert_names(o.m("e"), &[]);
}

fn link_at_each_point(t: &T) {
    let data = pattern(3 << 20, 1);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..Point::OF_LEADER.len() {
                l.file(name(i), &data).dir("e");
            }
        })
        .mount();
    pause::need(t);
    for (i, point) in Point::OF_LEADER.iter().enumerate() {
        let (p, k) = (name(i), format!("e/k{i}"));
        let pause = Pause::once(*point);
        let path = o.m(&p);
        let opener = start("open", move || sys::open(path, OFlags::RDWR));
        pause.wait_standing(1);
        let (from, to) = (o.m(&p), o.m(&k));
        let linker = second("link", move || sys::link(from, to));
        pause.go_on();
        let fd = opener.finish().works();
        linker.finish().works();
        one_file(&o, &[p.clone(), k], &data, &Point::OF_LEADER[i].to_string());
        let mut changed = data.clone();
        changed[5..12].copy_from_slice(b"WRITTEN");
        sys::pwrite(&fd, "WRITTEN", 5).works();
        assert!(sys::read_file(o.m(format!("e/k{i}"))).works() == changed);
        assert!(sys::read_file(o.u(&p)).works() == changed);
    }
}

/// The link copies, and an opener waits for it.
fn link_leads(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = files_that_stop(t);
    let p = name(0);
    f.stop_all_at(&p, STOP);
    let (from, to) = (o.m(&p), o.m("e/k"));
    let linker = start("link", move || sys::link(from, to));
    f.wait_standing(&p, 1);
    let path = o.m(&p);
    let opener = second("open", move || sys::open(path, OFlags::RDWR));
    f.go_on(&p);
    linker.finish().works();
    let fd = opener.finish().works();
    sys::pwrite(&fd, "WRITTEN", 0).works();
    let mut data = pattern(SIZE, 0);
    data[..7].copy_from_slice(b"WRITTEN");
    one_file(&o, &[p.clone(), "e/k".into()], &data, "link");
    sys::unlink(o.m(&p)).works();
    one_file(&o, &["e/k".into()], &data, "one removed");
    assert_eq!(sys::fstat(&fd).works().st_nlink, 1);
}

/// One of several names of a lower file is copied up, and then gets another name. Its
/// inode stays in use while its dentry for that name goes: who looks the name up again
/// finds that inode and no other.
fn one_inode(t: &T) {
    t.better_than_overlay("its answer depends on the index");
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "data").mode("a", 0o644).link("a", "b");
        })
        .mount();
    let fd = sys::open(o.m("a"), OFlags::RDWR).works();
    sys::link(o.m("a"), o.m("c")).works();
    std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
    // Through the one name and then through the other.
    sys::chmod(o.m("c"), 0o600).works();
    assert_eq!(sys::mode_of(&sys::fstat(&fd).works()), 0o600);
    let user = in_process(|| {
        sys::become_user(1000, 1000, &[]);
        sys::open(o.m("a"), OFlags::RDONLY).map(drop)
    });
    assert_eq!(
        user.finish(),
        Errno::ACCESS.raw_os_error(),
        "by the other name"
    );
    let other = sys::open(o.m("c"), OFlags::RDWR).works();
    rustix::fs::flock(&fd, FlockOperation::LockExclusive).expect("flock");
    assert_eq!(
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive),
        Err(Errno::WOULDBLOCK),
        "locks by two names do not meet"
    );
    // Two names of one file: a rename of one to the other does nothing.
    sys::rename(o.m("c"), o.m("a")).works();
    for when in ["at once", "again"] {
        assert_eq!(sys::lstat(o.m("a")).works().st_nlink, 2, "{when}");
        assert_eq!(sys::lstat(o.m("c")).works().st_nlink, 2, "{when}");
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
    }
    sys::unlink(o.m("c")).works();
    assert_eq!(sys::fstat(&fd).works().st_nlink, 1);
    assert_eq!(sys::text(o.m("b")).works(), "data");
    assert_eq!(sys::mode_of(&sys::lstat(o.m("b")).works()), 0o644);
}
