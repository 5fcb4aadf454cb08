// SPDX-License-Identifier: GPL-2.0

//! R14: unmount against copy-up. While a copy is in flight the mount is busy; if
//! it is detached the copy goes on to its end; and after the last user nothing of
//! it is held.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::module::{load, module, unload_soon};
use super::kills::{in_process, kill};
use super::links::{SIZE, STOP};
use super::ways::{beside, Way, WAYS};
use crate::env::{Fs, OwnFs, T};
use crate::fuse::Fuse;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags};
use crate::tree::{assert_names, pattern};
use crate::watch::{start, until, Task};

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R14_busy_while_data_is_copied", busy),
        test("R14_detached_while_data_is_copied", |t| {
            detached(t, Fs::Ext4, 64)
        }),
        test("R14_detached_while_data_is_copied_xfs", |t| {
            detached(t, Fs::Xfs, 320)
        }),
        test("R14_detached_and_killed", detached_and_killed),
        test("R14_detached_at_each_pause_point", detached_at_each_point),
        test("R14_unloaded_after_a_detached_copy", unloaded).long(2),
        test("R14_unmounted_again_and_again", again_and_again),
    ]
}

fn name(i: usize) -> String {
    format!("d/f{i}")
}

/// An upper file system of its own, over a lower one that stops.
struct Setup {
    own: OwnFs,
    f: Arc<Fuse>,
    o: Overlay,
}

impl Setup {
    fn new(t: &T, fs: Fs, megabytes: u64) -> Setup {
        let own = t.own_fs(fs, megabytes);
        let f = t.fuse(|f| {
            for i in 0..WAYS.len() {
                f.file(&name(i), pattern(SIZE, i as u64));
            }
        });
        let o = t.stack().lower_fuse(&f).upper_in(&own.at).mount();
        Setup { own, f, o }
    }

    /// Starts a way, which stands in mid-data.
    fn stand(&self, way: &'static Way, p: &str) -> Task<sys::Res<()>> {
        self.f.stop_all_at(p, STOP);
        let (at, path) = (self.o.clone(), p.to_string());
        let leader = start(way.name, move || (way.run)(&at, &path));
        self.f.wait_standing(p, 1);
        leader
    }

    /// The upper file system can be unmounted, soon: the last reference to a
    /// mount that was detached goes from a work item of the kernel.
    #[track_caller]
    fn upper_is_free(&self) {
        let at = &self.own.at;
        until("the upper file system is free", || match sys::umount(at) {
            Ok(()) => true,
            Err(e) => {
                assert_eq!(e.errno, Errno::BUSY, "{e:?}");
                false
            }
        });
        crate::env::check_fs(self.own.fs, &self.own.image);
        self.own.mount();
    }
}

fn busy(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let s = Setup::new(t, Fs::Ext4, 64);
    let root = s.o.m("/");
    for (i, way) in WAYS.iter().enumerate() {
        let leader = s.stand(way, &name(i));
        for _ in 0..3 {
            sys::umount(&root).fails(Errno::BUSY);
        }
        s.f.go_on(&name(i));
        leader.finish().works();
        way.check_done(&s.o, &name(i), &pattern(SIZE, i as u64));
    }
    s.o.umount();
    s.own.umount_and_check();
    s.own.mount();
    s.o.mount().works();
}

fn end_of(way: &Way, i: usize) -> String {
    if way.moves {
        beside(&name(i))
    } else {
        name(i)
    }
}

fn detached(t: &T, fs: Fs, megabytes: u64) {
    t.better_than_overlay("it holds locks while it copies data");
    let s = Setup::new(t, fs, megabytes);
    for (i, way) in WAYS.iter().enumerate() {
        let leader = s.stand(way, &name(i));
        let kept = sys::open(s.o.m("d"), OFlags::PATH).works();
        sys::umount_detach(&s.o.m("/"));
        s.f.go_on(&name(i));
        // What it was asked for is done, in a tree that nobody sees any more.
        leader.finish().works();
        let inside = sys::fd_path(&kept).join(format!("f{i}"));
        let inside = if way.moves {
            PathBuf::from(beside(&inside.to_string_lossy()))
        } else {
            inside
        };
        assert!(
            sys::read_file(&inside).works() == pattern(SIZE, i as u64),
            "{}",
            way.name
        );
        let fd = sys::open(&inside, OFlags::RDWR).works();
        sys::pwrite(&fd, "PROMISED", 100).works();
        sys::fsync(&fd).works();
        drop((fd, kept));
        s.upper_is_free();
        let mut want = pattern(SIZE, i as u64);
        want[100..108].copy_from_slice(b"PROMISED");
        let upper = s.o.u(end_of(way, i));
        assert!(sys::read_file(upper).works() == want, "{}", way.name);
        s.o.assert_no_strays();
        s.o.mount().works();
        assert!(
            sys::read_file(s.o.m(end_of(way, i))).works() == want,
            "{}",
            way.name
        );
    }
}

fn detached_and_killed(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let s = Setup::new(t, Fs::Ext4, 64);
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        s.f.stop_all_at(&p, STOP);
        let leader = in_process(|| (way.run)(&s.o, &p));
        s.f.wait_standing(&p, 1);
        sys::umount_detach(&s.o.m("/"));
        kill(leader);
        s.f.go_on(&p);
        s.upper_is_free();
        assert!(!sys::exists(s.o.u(&p)), "{}", way.name);
        s.o.assert_no_strays();
        s.o.mount().works();
        way.check_failed(&s.o, &p, &pattern(SIZE, i as u64));
        (way.run)(&s.o, &p).works();
        way.check_done(&s.o, &p, &pattern(SIZE, i as u64));
    }
}

fn detached_at_each_point(t: &T) {
    let s = Setup::new(t, Fs::Ext4, 64);
    pause::need(t);
    for (i, point) in Point::OF_LEADER.iter().enumerate() {
        let pause = Pause::once(*point);
        let path = s.o.m(name(i));
        let leader = start("open", move || sys::open(path, OFlags::RDWR));
        pause.wait_standing(1);
        sys::umount(&s.o.m("/")).fails(Errno::BUSY);
        sys::umount_detach(&s.o.m("/"));
        pause.go_on();
        let fd = leader.finish().works();
        sys::pwrite(&fd, "PROMISED", 0).works();
        drop(fd);
        s.upper_is_free();
        assert_eq!(sys::read_file(s.o.u(name(i))).works()[..8], *b"PROMISED");
        s.o.assert_no_strays();
        s.o.mount().works();
    }
}

fn unloaded(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    module(t);
    let s = Setup::new(t, Fs::Ext4, 64);
    for (i, way) in WAYS.iter().enumerate().take(4) {
        let leader = s.stand(way, &name(i));
        sys::umount_detach(&s.o.m("/"));
        s.f.go_on(&name(i));
        leader.finish().works();
        unload_soon(t);
        load(t).works();
        assert!(sys::read_file(s.o.u(name(i))).works() == pattern(SIZE, i as u64));
        s.upper_is_free();
        s.o.mount().works();
    }
}

/// Mounted and unmounted while others copy: busy or not, and never half.
fn again_and_again(t: &T) {
    let rounds = t.scaled(60, 12);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..rounds {
                l.file(name(i), pattern(50_000, i as u64));
            }
        })
        .mount();
    let root = o.m("/");
    let at = o.clone();
    let mut user = start("open and write", move || {
        let mut done = Vec::new();
        for i in 0..rounds {
            match sys::open(at.m(name(i)), OFlags::RDWR) {
                Ok(fd) => {
                    sys::pwrite(&fd, "WRITTEN", 0).works();
                    done.push(i);
                }
                // Unmounted just now.
                Err(e) => assert_eq!(e.errno, Errno::NOENT, "{e:?}"),
            }
        }
        done
    });
    let mut unmounted = 0;
    while !user.is_done() {
        match sys::umount(&root) {
            Ok(()) => {
                unmounted += 1;
                remounted(&o);
            }
            Err(e) => assert_eq!(e.errno, Errno::BUSY, "{e:?}"),
        }
    }
    let done = user.finish();
    println!(
        "# unmounted {unmounted} times, {} of {rounds} opened",
        done.len()
    );
    assert_names(o.u("/"), if done.is_empty() { &[] } else { &["d"] });
    for i in done {
        let mut want = pattern(50_000, i as u64);
        want[..7].copy_from_slice(b"WRITTEN");
        assert!(sys::read_file(o.u(name(i))).works() == want, "{i}");
    }
}

fn remounted(o: &Overlay) {
    // The layers are in use until the last mount of them has quite gone.
    until("the layers can be mounted again", || match o.mount() {
        Ok(()) => true,
        Err(e) => {
            assert_eq!(e.errno, Errno::BUSY, "{e:?}");
            false
        }
    });
}
