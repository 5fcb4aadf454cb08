// SPDX-License-Identifier: GPL-2.0

//! R12, the fatal signals and the errors in mid-data: whoever copies, whoever
//! waits, or both are killed. Nothing is left over, and nobody else is disturbed.

use super::ops::{NO_TMPFILE, UPPERS};
use super::ways::{beside, lay_out_others, Way, OTHERS, SIZE, STOP, WAYS};
use crate::env::T;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags, Res};
use crate::tree::{assert_names, is_whiteout, pattern};
use crate::watch::{start, until, Process};

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R12_kill_leader_in_mid_data", leader_in_mid_data).uppers(&UPPERS),
        test("R12_kill_waiter", waiter),
        test("R12_kill_leader_and_waiter", leader_and_waiter),
        test("R12_kill_leader_at_each_pause_point", leader_at_each_point)
            .long(2)
            .uppers(&NO_TMPFILE),
        test(
            "R12_kill_leader_of_others_at_each_pause_point",
            others_at_each_point,
        ),
        test("R12_kill_waiter_at_its_pause_point", waiter_at_its_point),
        test("R12_lower_read_error_in_mid_data", read_error_in_mid_data).uppers(&UPPERS),
    ]
}

/// Does something in a process of its own, whose exit status is the errno.
pub fn in_process(run: impl FnOnce() -> Res<()>) -> Process {
    Process::start("the process", || {
        run().map_or_else(|e| e.errno.raw_os_error(), |()| 0)
    })
}

/// Kills a process, which must not have ended by itself.
#[track_caller]
pub fn kill(process: Process) {
    process.kill();
    assert_eq!(process.finish(), 128 + libc::SIGKILL, "it was not killed");
}

/// Kills one that goes on to the end of what it stands in, or does not.
fn kill_on_its_way(process: Process) {
    process.kill();
    process.finish();
}

fn name(i: usize) -> String {
    format!("d/f{i}")
}

/// It goes as if nobody had tried before.
#[track_caller]
fn try_again(o: &Overlay, way: &Way, path: &str, data: &[u8]) {
    way.check_failed(o, path, data);
    (way.run)(o, path).works();
    way.check_done(o, path, data);
}

fn leader_in_mid_data(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..WAYS.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        f.stop_all_at(&p, STOP);
        let leader = in_process(|| (way.run)(&o, &p));
        f.wait_standing(&p, 1);
        // It ends while the data stands still.
        kill(leader);
        o.assert_no_strays();
        assert!(!sys::exists(o.u(&p)), "{}", way.name);
        f.go_on(&p);
        try_again(&o, way, &p, &pattern(SIZE, 1));
    }
}

fn waiter(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..WAYS.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        f.stop_all_at(&p, STOP);
        let path = o.m(&p);
        let mut leader = start("open", move || sys::open(path, OFlags::RDWR));
        f.wait_standing(&p, 1);
        let waiter = in_process(|| (way.run)(&o, &p));
        until("the second waits", || sleeps(&waiter));
        kill(waiter);
        assert!(!leader.is_done(), "the copy did not stand still");
        f.go_on(&p);
        let fd = leader.finish().works();
        assert!(sys::pread(&fd, SIZE, 0).works() == pattern(SIZE, 1));
        assert!(sys::read_file(o.u(&p)).works() == pattern(SIZE, 1));
        // The one who was killed did nothing of what he came for.
        let st = sys::stat(o.m(&p)).works();
        assert_eq!((sys::mode_of(&st), st.st_uid, st.st_nlink), (0o644, 0, 1));
        assert_names(o.m("d"), &sorted(WAYS.len()).each());
    }
}

fn sorted(count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|i| format!("f{i}")).collect();
    names.sort();
    names
}

trait Each {
    fn each(&self) -> Vec<&str>;
}

impl Each for Vec<String> {
    fn each(&self) -> Vec<&str> {
        self.iter().map(String::as_str).collect()
    }
}

/// The state of a process as the kernel names it, `Z` for one that has ended.
fn state(process: &Process) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn sleeps(process: &Process) -> bool {
    matches!(state(process), Some('S' | 'D'))
}

fn leader_and_waiter(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..WAYS.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        f.stop_all_at(&p, STOP);
        let leader = in_process(|| (way.run)(&o, &p));
        f.wait_standing(&p, 1);
        let open = || sys::open(o.m(&p), OFlags::RDWR).map(drop);
        let waiters = [(); 3].map(|()| in_process(open));
        for w in &waiters {
            until("it waits", || sleeps(w));
        }
        let [first, second, third] = waiters;
        kill(first);
        kill(leader);
        kill(second);
        // The last of them has taken over, and is killed as well.
        kill(third);
        o.assert_no_strays();
        f.go_on(&p);
        try_again(&o, way, &p, &pattern(SIZE, 1));
    }
}

fn leader_at_each_point(t: &T) {
    let data = pattern(2 << 20, 1);
    pause::need(t);
    for point in Point::OF_LEADER {
        let o = t
            .stack()
            .lowers_not_compared()
            .lower(|l| {
                l.file("d/f0", &data);
                for i in 1..WAYS.len() {
                    l.link("d/f0", &name(i));
                }
            })
            .mount();
        sys::chmod(o.m("d"), 0o755).works();
        for (i, way) in WAYS.iter().enumerate() {
            let p = name(i);
            let armed = Pause::once(point);
            let leader = in_process(|| (way.run)(&o, &p));
            armed.wait_standing(1);
            kill_on_its_way(leader);
            armed.go_on();
            o.assert_no_strays();
            let what = format!("{} at {point}", way.name);
            // The copy is there and whole, or it is not; and then it goes on.
            if sys::exists(o.u(&p)) && !is_whiteout(o.u(&p)) {
                assert!(sys::read_file(o.u(&p)).works() == data, "{what}");
            }
            if sys::exists(o.m(&p)) {
                if let Err(e) = (way.run)(&o, &p) {
                    assert_eq!(e.errno, Errno::EXIST, "{what}: it was linked before");
                }
            }
            let at = if way.moves { beside(&p) } else { p };
            assert!(sys::read_file(o.m(&at)).works() == data, "{what}");
            assert!(sys::read_file(o.u(&at)).works() == data, "{what}");
        }
        o.umount();
        o.mount().works();
        o.assert_no_strays();
    }
}

/// Objects that are not regular files, and the ancestors of a new name.
fn others_at_each_point(t: &T) {
    pause::need(t);
    for point in [
        Point::Entered,
        Point::Nameless,
        Point::Publish,
        Point::Linked,
    ] {
        for (top, run) in OTHERS {
            let o = t.stack().lower(lay_out_others).mount();
            let armed = Pause::once(point);
            let leader = in_process(|| run(&o));
            until("it comes to the point or ends", || {
                armed.standing() > 0 || state(&leader) == Some('Z')
            });
            // Not every kind of object comes by every point.
            let stands = armed.standing() > 0;
            kill_on_its_way(leader);
            armed.go_on();
            if !stands {
                o.finish();
                continue;
            }
            o.assert_no_strays();
            sys::lstat(o.m(top)).works();
            if let Err(e) = run(&o) {
                assert_eq!(e.errno, Errno::EXIST, "{top} at {point}");
            }
            sys::lstat(o.u(top)).works();
            o.finish();
        }
    }
}

fn waiter_at_its_point(t: &T) {
    pause::need(t);
    let f = t.fuse(|f| {
        f.file("d/f", pattern(SIZE, 1));
    });
    let o = t.stack().lower_fuse(&f).mount();
    f.stop_all_at("d/f", STOP);
    let path = o.m("d/f");
    let leader = start("open", move || sys::open(path, OFlags::RDWR));
    f.wait_standing("d/f", 1);
    let pause = Pause::all(Point::Waiter);
    let waiters = [(); 3].map(|()| in_process(|| sys::chmod(o.m("d/f"), 0o600)));
    for w in &waiters {
        until("it waits", || sleeps(w));
    }
    f.go_on("d/f");
    drop(leader.finish().works());
    // One of them holds the inode, and the others are behind it.
    pause.wait_standing(1);
    for w in &waiters {
        w.kill();
    }
    pause.go_on();
    for w in waiters {
        w.finish();
    }
    o.assert_no_strays();
    assert!(sys::read_file(o.m("d/f")).works() == pattern(SIZE, 1));
    sys::chmod(o.m("d/f"), 0o640).works();
    assert_eq!(sys::mode_of(&sys::stat(o.u("d/f")).works()), 0o640);
}

fn read_error_in_mid_data(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..WAYS.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        // A waiter tries himself, and fails himself.
        f.stop_all_at(&p, STOP);
        f.fail_at(&p, STOP, Errno::IO, None);
        let (at, path) = (o.clone(), p.clone());
        let leader = start(way.name, move || (way.run)(&at, &path));
        f.wait_standing(&p, 1);
        let path = o.m(&p);
        let waiter = start("open", move || sys::open(path, OFlags::RDWR).map(drop));
        f.go_on(&p);
        leader.finish().fails(Errno::IO);
        waiter.finish().fails(Errno::IO);
        o.assert_no_strays();
        assert!(!sys::exists(o.u(&p)), "{}", way.name);
        let fd = sys::open(o.m(&p), OFlags::RDONLY).works();
        assert_eq!(sys::pread(&fd, 100, 0).works(), pattern(SIZE, 1)[..100]);
        f.fail_no_more(&p);
        try_again(&o, way, &p, &pattern(SIZE, 1));
    }
}
