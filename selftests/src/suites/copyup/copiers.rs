// SPDX-License-Identifier: GPL-2.0

//! R2 and R8: many who need the same copy.

use std::path::Path;
use std::sync::{Arc, Barrier};

use super::ops::{
    assert_as_plain, assert_upper_exact, copies, data, last_preparations, lay_out_lower, ways,
    Hold, Kind, Op, Upper, MIDDLE, NO_TMPFILE, SIZE, UPPERS,
};
use crate::env::T;
use crate::fuse::Fuse;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::{Copies, Overlay};
use crate::sys::{self, Errno, Expect, OFlags, Res};
use crate::tree::{assert_names, assert_whiteout};
use crate::watch::{now, start, until, Process, Task};

pub fn tests() -> Vec<Test> {
    vec![
        test!(R2_one_copy_for_fifty).uppers(&UPPERS).long(5),
        test!(R2_every_way_waits_and_works).uppers(&UPPERS).long(5),
        test!(R2_leader_killed_one_takes_over)
            .uppers(&UPPERS)
            .long(5),
        test!(R2_killed_waiters_go_at_once).uppers(&UPPERS).long(5),
        test!(R2_all_killed).uppers(&UPPERS).long(5),
        test!(R2_failed_first_fails_nobody_else)
            .uppers(&UPPERS)
            .long(5),
        test!(R2_user_without_space_and_root_behind).long(5),
        test!(R2_root_and_user_without_space_behind).long(5),
        test!(R2_waiter_looks_late).uppers(&NO_TMPFILE).long(5),
        test!(R2_waiter_looks_after_a_failure)
            .uppers(&NO_TMPFILE)
            .long(5),
        test!(R2_killed_at_every_point).uppers(&NO_TMPFILE).long(10),
        test!(R8_two_hundred_creators).uppers(&UPPERS).long(5),
        test!(R8_ancestors_at_every_point)
            .uppers(&NO_TMPFILE)
            .long(10),
    ]
}

const F: &str = "d/f";

/// A lower file whose copy-up is to be watched.
struct Watched<'a> {
    t: &'a T,
    lower: Arc<Fuse>,
    upper: Upper<'a>,
    o: Overlay,
    before: Copies,
}

impl<'a> Watched<'a> {
    fn new(t: &'a T) -> Watched<'a> {
        Watched::with(t, lay_out_of_one)
    }

    fn with(t: &'a T, fill: impl FnOnce(&mut crate::fuse::FuseTree)) -> Watched<'a> {
        let lower = t.fuse(fill);
        let upper = Upper::new(t);
        let o = upper.mount(&lower);
        copies(t, &o);
        last_preparations(&o.m("d"), Kind::File);
        lower.reset_counts(F);
        Watched {
            t,
            before: copies(t, &o),
            lower,
            upper,
            o,
        }
    }

    fn stop(&self, offset: u64) {
        self.lower.stop_first_at(F, offset);
    }

    fn open(&self, what: &str) -> Task<Res<std::os::fd::OwnedFd>> {
        let path = self.o.m(F);
        start(what, move || sys::open(path, OFlags::RDWR))
    }

    /// As a process of its own, to be killed.
    fn open_in_child(&self, what: &str) -> Process {
        let path = self.o.m(F);
        Process::start(what, || match sys::open(path, OFlags::RDWR) {
            Ok(_) => 0,
            Err(_) => 1,
        })
    }

    #[track_caller]
    fn wait_for_leader(&self) {
        self.lower.wait_standing(F, 1);
    }

    #[track_caller]
    fn wait_for_waiters(&self, count: usize) {
        until(&format!("{count} wait for the copy"), || {
            copies(self.t, &self.o).waiters(F) == Some(count)
        });
    }

    /// How many copies were started, done and failed since the preparations.
    #[track_caller]
    fn assert_copies(&self, started: u64, done: u64, failed: u64) {
        let (now, before) = (copies(self.t, &self.o), &self.before);
        let counted = (
            now.started - before.started,
            now.done - before.done,
            now.failed - before.failed,
        );
        assert_eq!(counted, (started, done, failed), "started, done, failed");
        assert!(now.in_flight.is_empty(), "in flight: {:?}", now.in_flight);
    }

    #[track_caller]
    fn finish(self) {
        let copy = sys::read_file(self.o.u(F)).works();
        assert!(copy == data("f"), "the copy is not the whole file");
        assert_names(self.o.u("d"), &["f", "made"]);
        self.end();
    }

    #[track_caller]
    fn end(self) {
        assert_upper_exact(&self.o, "");
        self.o.assert_no_strays();
        self.upper.finish(&self.o);
    }
}

fn lay_out_of_one(l: &mut crate::fuse::FuseTree) {
    lay_out_lower(l, "d", Kind::File);
    l.owner(F, 1000, 1000);
}

/// What an opener for writing gets is the whole file.
#[track_caller]
fn assert_whole(fd: &std::os::fd::OwnedFd) {
    let whole = sys::pread(fd, 2 * SIZE as usize, 0).works();
    assert!(whole == data("f"), "not the whole file");
}

fn R2_one_copy_for_fifty(t: &T) {
    let w = Watched::new(t);
    w.stop(MIDDLE);
    let leader = w.open("leader");
    w.wait_for_leader();
    let waiters: Vec<_> = (0..50).map(|i| w.open(&format!("waiter {i}"))).collect();
    w.wait_for_waiters(50);
    w.lower.go_on(F);
    for opener in std::iter::once(leader).chain(waiters) {
        assert_whole(&opener.finish().works());
    }
    w.assert_copies(1, 1, 0);
    assert_eq!(copies(t, &w.o).bytes - w.before.bytes, SIZE, "bytes copied");
    assert_eq!((w.lower.readers(F), w.lower.bytes(F)), (1, SIZE));
    w.finish();
}

/// Each way waits for a copy that open leads, and open for one that the way
/// leads; one copy each.
fn R2_every_way_waits_and_works(t: &T) {
    let all: Vec<(&'static Op, bool)> = ways(Kind::File)
        .flat_map(|w| [(w, false), (w, true)])
        .collect();
    let lower = t.fuse(|l| {
        for i in 0..all.len() {
            lay_out_lower(l, &format!("{i}"), Kind::File);
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    copies(t, &o);
    for (i, (way, leads)) in all.iter().enumerate() {
        let (dir, f) = (format!("{i}"), format!("{i}/f"));
        last_preparations(&o.m(&dir), Kind::File);
        let before = copies(t, &o).started;
        lower.stop_first_at(&f, MIDDLE);
        let (path, at) = (o.m(&f), o.m(&dir));
        let open = || start("open", move || sys::open(path, OFlags::RDWR).map(drop));
        let run = way.run;
        let go = || start(way.name, move || run(&at));
        let first = if *leads { go() } else { open() };
        lower.wait_standing(&f, 1);
        let (path, at) = (o.m(&f), o.m(&dir));
        let second = if *leads {
            start("open", move || sys::open(path, OFlags::RDWR).map(drop))
        } else {
            start(way.name, move || run(&at))
        };
        until(&format!("{}: the second waits", way.name), || {
            copies(t, &o).waiters(&f) == Some(1)
        });
        lower.go_on(&f);
        first.finish().works();
        second.finish().works();
        assert_eq!(copies(t, &o).started - before, 1, "copies of {}", way.name);
        assert_as_plain(t, &o, &dir, Kind::File, &[way]);
    }
    upper.finish(&o);
}

fn R2_leader_killed_one_takes_over(t: &T) {
    let w = Watched::new(t);
    w.stop(MIDDLE);
    let leader = w.open_in_child("leader");
    w.wait_for_leader();
    let told = copies(t, &w.o);
    let copy = told.of(F).expect("a copy in flight");
    assert_eq!((copy.pid, copy.total), (leader.pid(), SIZE));
    assert!(copy.done <= MIDDLE, "{} bytes copied", copy.done);
    let waiters: Vec<_> = (0..50).map(|i| w.open(&format!("waiter {i}"))).collect();
    w.wait_for_waiters(50);
    leader.kill();
    assert_eq!(leader.finish(), 128 + libc::SIGKILL);
    until("one of those who waited leads", || {
        copies(t, &w.o)
            .of(F)
            .is_some_and(|c| c.pid == std::process::id() as i32 && c.waiters == 49)
    });
    w.lower.go_on(F);
    for opener in waiters {
        assert_whole(&opener.finish().works());
    }
    w.assert_copies(2, 1, 1);
    w.finish();
}

fn R2_killed_waiters_go_at_once(t: &T) {
    let all: Vec<&'static Op> = ways(Kind::File).collect();
    let w = Watched::with(t, |l| {
        lay_out_of_one(l);
        for i in 0..all.len() {
            lay_out_lower(l, &format!("{i}"), Kind::File);
        }
    });
    for (i, way) in all.iter().enumerate() {
        let (dir, f) = (format!("{i}"), format!("{i}/f"));
        last_preparations(&w.o.m(&dir), Kind::File);
        w.lower.stop_first_at(&f, MIDDLE);
        let path = w.o.m(&f);
        let mut leader = start("leader", move || sys::open(path, OFlags::RDWR).map(drop));
        w.lower.wait_standing(&f, 1);
        let at = w.o.m(&dir);
        let waiter = Process::start(way.name, || i32::from((way.run)(&at).is_err()));
        let waiting = |n| copies(t, &w.o).waiters(&f) == Some(n);
        until(&format!("{} waits", way.name), || waiting(1));
        waiter.kill();
        assert_eq!(waiter.finish(), 128 + libc::SIGKILL);
        until("nobody waits", || waiting(0));
        assert!(!leader.is_done(), "the copy-up did not stand still");
        w.lower.go_on(&f);
        leader.finish().works();
        assert_as_plain(t, &w.o, &dir, Kind::File, &[]);
    }
    w.end();
}

/// Leader and waiters are killed: nothing is left, and the next one copies.
fn R2_all_killed(t: &T) {
    let w = Watched::new(t);
    w.stop(MIDDLE);
    let leader = w.open_in_child("leader");
    w.wait_for_leader();
    let waiters: Vec<_> = (0..5)
        .map(|i| w.open_in_child(&format!("waiter {i}")))
        .collect();
    w.wait_for_waiters(5);
    waiters.iter().for_each(Process::kill);
    leader.kill();
    for killed in waiters.into_iter().chain([leader]) {
        assert_eq!(killed.finish(), 128 + libc::SIGKILL);
    }
    until("no copy is in flight", || {
        copies(t, &w.o).in_flight.is_empty()
    });
    assert!(!sys::exists(w.o.u(F)), "something was published");
    w.o.assert_no_strays();
    let started = copies(t, &w.o).started - w.before.started;
    w.lower.go_on(F);
    assert_whole(&w.open("the next one").finish().works());
    w.assert_copies(started + 1, 1, started);
    w.finish();
}

fn R2_failed_first_fails_nobody_else(t: &T) {
    let w = Watched::new(t);
    w.stop(MIDDLE);
    w.lower.fail_first_at(F, MIDDLE, Errno::IO);
    let leader = w.open("leader");
    w.wait_for_leader();
    let waiters: Vec<_> = (0..5).map(|i| w.open(&format!("waiter {i}"))).collect();
    w.wait_for_waiters(5);
    w.lower.go_on(F);
    leader.finish().fails(Errno::IO);
    for opener in waiters {
        assert_whole(&opener.finish().works());
    }
    w.assert_copies(2, 1, 1);
    w.finish();
}

/// Opens as somebody who may not use the reserved blocks.
fn open_as_user(w: &Watched<'_>) -> Task<Res<std::os::fd::OwnedFd>> {
    let path = w.o.m(F);
    start("user", move || {
        // This thread only.
        sys::become_user(1000, 1000, &[]);
        sys::open(path, OFlags::RDWR)
    })
}

/// Fills the upper file system up to the reserved blocks.
fn fill_up(w: &Watched<'_>) {
    let at = w.upper.place().expect("a file system of its own");
    let ballast = at.join("ballast");
    sys::write_file(&ballast, "").works();
    sys::lchown(&ballast, 1000, 1000).works();
    now("filling up", move || {
        let fd = sys::open(&ballast, OFlags::WRONLY).works();
        sys::become_user(1000, 1000, &[]);
        for size in [1 << 20, 1 << 16, 4096] {
            while sys::write(&fd, vec![1; size]).is_ok() {}
        }
        sys::fsync(&fd).works();
    });
    let st = sys::statfs(at).works();
    let block = st.f_bsize as u64;
    assert!(st.f_bavail * block < SIZE / 2, "not full");
    assert!(st.f_bfree * block > 4 * SIZE, "no reserve");
}

fn R2_user_without_space_and_root_behind(t: &T) {
    let w = Watched::new(t);
    fill_up(&w);
    w.stop(0);
    let user = open_as_user(&w);
    w.wait_for_leader();
    let root = w.open("root");
    w.wait_for_waiters(1);
    w.lower.go_on(F);
    user.finish().fails(Errno::NOSPC);
    assert_whole(&root.finish().works());
    w.assert_copies(2, 1, 1);
    // Now that it is there the user has it, too.
    assert_whole(&open_as_user(&w).finish().works());
    w.finish();
}

fn R2_root_and_user_without_space_behind(t: &T) {
    let w = Watched::new(t);
    fill_up(&w);
    w.stop(0);
    let root = w.open("root");
    w.wait_for_leader();
    let user = open_as_user(&w);
    w.wait_for_waiters(1);
    w.lower.go_on(F);
    assert_whole(&root.finish().works());
    assert_whole(&user.finish().works());
    w.assert_copies(1, 1, 0);
    w.finish();
}

/// Those who waited have not looked at the result yet when the file loses its
/// name.
fn R2_waiter_looks_late(t: &T) {
    pause::need(t);
    let w = Watched::new(t);
    w.stop(MIDDLE);
    let leader = w.open("leader");
    w.wait_for_leader();
    let waiters: Vec<_> = (0..5).map(|i| w.open(&format!("waiter {i}"))).collect();
    w.wait_for_waiters(5);
    let pause = Pause::all(Point::Waiter);
    w.lower.go_on(F);
    drop(leader.finish().works());
    pause.wait_standing(5);
    let path = w.o.m(F);
    now("unlink", move || sys::unlink(path)).works();
    pause.go_on();
    for waiter in waiters {
        let fd = waiter.finish().works();
        assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
        assert_whole(&fd);
    }
    w.assert_copies(1, 1, 0);
    assert_names(w.o.u("d"), &["f", "made"]);
    assert_whiteout(w.o.u(F));
    w.end();
}

/// The leader failed, and before a waiter looks somebody else comes and copies.
fn R2_waiter_looks_after_a_failure(t: &T) {
    pause::need(t);
    let w = Watched::new(t);
    w.stop(MIDDLE);
    w.lower.fail_first_at(F, MIDDLE, Errno::IO);
    let leader = w.open("leader");
    w.wait_for_leader();
    let waiter = w.open("waiter");
    w.wait_for_waiters(1);
    let pause = Pause::once(Point::Waiter);
    w.lower.go_on(F);
    leader.finish().fails(Errno::IO);
    pause.wait_standing(1);
    assert_whole(&w.open("third").finish().works());
    pause.go_on();
    assert_whole(&waiter.finish().works());
    w.assert_copies(2, 1, 1);
    w.finish();
}

/// The leader is killed at each point; the waiter gets the file, by whoever made
/// it.
fn R2_killed_at_every_point(t: &T) {
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
        let what = format!("{} killed at {point}", way.name);
        let (dir, f) = (format!("{i}"), format!("{i}/f"));
        last_preparations(&o.m(&dir), Kind::File);
        let pause = Pause::once(*point);
        let at = o.m(&dir);
        let leader = Process::start(&what, || i32::from((way.run)(&at).is_err()));
        pause.wait_standing(1);
        let path = o.m(&f);
        let waiter = start("waiter", move || sys::open(path, OFlags::RDWR));
        until(&format!("{what}: somebody waits"), || {
            copies(t, &o).waiters(&f) == Some(1)
        });
        leader.kill();
        assert_eq!(leader.finish(), 128 + libc::SIGKILL, "{what}");
        // Whoever is killed may still come to the end of what he is at: then the
        // name has gone with him, or the data is shorter by his truncate.
        let fd = waiter.finish().works();
        let got = sys::pread(&fd, 2 * SIZE as usize, 0).works();
        let whole = data("f");
        let common = got.len().min(whole.len());
        assert!(common as u64 >= SIZE - 1, "{what}: {common} bytes");
        if way.locked {
            assert!(got[..common] == whole[..common], "{what}: not the file");
        }
        drop(fd);
        drop(pause);
        assert_upper_exact(&o, &dir);
        o.assert_no_strays();
    }
    upper.finish(&o);
}

const DEEP: &str = "a/b/c/d/e";
const CREATORS: usize = 200;

/// A directory five deep, with one below it for half of the creators.
fn lay_out_deep(l: &mut crate::fuse::FuseTree, top: &str) {
    for i in 0..CREATORS / 2 {
        l.dir(&format!("{top}/{DEEP}/{i}"));
    }
    l.mode(&format!("{top}/a"), 0o711);
    l.owner(&format!("{top}/a/b"), 3, 4);
    l.xattr(&format!("{top}/a/b/c"), "user.x", "y");
}

/// Each creates a file, half of them in the deepest directory itself, the others
/// in one of their own below it.
fn creators(o: &Overlay, top: &str) -> Vec<Task<Res<()>>> {
    let gate = Arc::new(Barrier::new(CREATORS));
    (0..CREATORS)
        .map(|i| {
            let (gate, dir) = (gate.clone(), o.m(top).join(DEEP));
            let path = match i % 2 {
                0 => dir.join(format!("new{i}")),
                _ => dir.join(format!("{}/new", i / 2)),
            };
            start(format!("creator {i}"), move || {
                gate.wait();
                sys::write_file(path, format!("{i}"))
            })
        })
        .collect()
}

#[track_caller]
fn check_deep(o: &Overlay, top: &str) {
    for i in 0..CREATORS {
        let path = match i % 2 {
            0 => format!("{top}/{DEEP}/new{i}"),
            _ => format!("{top}/{DEEP}/{}/new", i / 2),
        };
        crate::tree::assert_text(o.u(&path), &i.to_string());
    }
    let at = o.u(top);
    for (dir, name) in [("a", "b"), ("a/b", "c"), ("a/b/c", "d"), ("a/b/c/d", "e")] {
        assert_names(at.join(dir), &[name]);
    }
    assert_eq!(sys::mode_of(&sys::stat(at.join("a")).works()), 0o711);
    let st = sys::stat(at.join("a/b")).works();
    assert_eq!((st.st_uid, st.st_gid), (3, 4));
    assert_eq!(sys::get_xattr(at.join("a/b/c"), "user.x").works(), b"y");
    let deepest = sys::names(at.join(DEEP)).works();
    assert_eq!(deepest.len(), CREATORS, "{deepest:?}");
    assert_upper_exact(o, top);
    o.assert_no_strays();
}

/// Copies of the five, of the half with a directory of its own, and of the top.
const COPIES_OF_DEEP: u64 = 5 + CREATORS as u64 / 2;

fn R8_two_hundred_creators(t: &T) {
    let lower = t.fuse(|l| lay_out_deep(l, "top"));
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    sys::write_file(o.m("top/made"), "made").works();
    let before = o.copies().unwrap_or_default();
    for creator in creators(&o, "top") {
        creator.finish().works();
    }
    check_deep(&o, "top");
    if let Some(now) = o.copies() {
        assert_eq!(now.started - before.started, COPIES_OF_DEEP, "copies");
        assert_eq!(now.failed, 0, "failed copies");
    }
    upper.finish(&o);
}

/// The copy-up of the topmost stands at each point until all the others wait.
fn R8_ancestors_at_every_point(t: &T) {
    pause::need(t);
    let points = Point::OF_LEADER.map(Hold::At);
    let points: Vec<_> = points
        .into_iter()
        .filter(|h| h.suits(Kind::Directory))
        .collect();
    let lower = t.fuse(|l| {
        for i in 0..points.len() {
            lay_out_deep(l, &format!("{i}"));
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    for (i, hold) in points.iter().enumerate() {
        let Hold::At(point) = *hold else { continue };
        let top = format!("{i}");
        sys::write_file(o.m(&top).join("made"), "made").works();
        for leaf in 0..CREATORS / 2 {
            sys::stat(o.m(&top).join(DEEP).join(leaf.to_string())).works();
        }
        let before = copies(t, &o);
        let pause = Pause::once(point);
        let all = creators(&o, &top);
        pause.wait_standing(1);
        // One of those in the deepest directory has it locked; the others of
        // that half wait for the lock, with which nobody looks up a name there.
        let path = Path::new(&top).join("a");
        let path = path.to_str().expect("path");
        until("all wait who can", || {
            copies(t, &o).waiters(path) == Some(CREATORS / 2)
        });
        pause.go_on();
        for creator in all {
            creator.finish().works();
        }
        check_deep(&o, &top);
        let now = copies(t, &o);
        assert_eq!(now.started - before.started, COPIES_OF_DEEP, "copies");
        assert_eq!(now.failed, before.failed, "failed copies");
    }
    upper.finish(&o);
}
