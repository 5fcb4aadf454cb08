// SPDX-License-Identifier: GPL-2.0

//! R12, the signals that are not fatal: a copy-up goes on through them, and they come
//! when it is done. Those that end the process end the copy. What makes a process stand
//! still without a signal (a debugger, the freezer of its cgroup) finds no copy in its
//! way; the operation begins again when the process goes on.

use super::kills::in_process;
use super::links::{SIZE, STOP};
use super::ops::{copies, UPPERS};
use super::ways::{Way, WAYS};
use crate::env::T;
use crate::fuse::Fuse;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Expect, OFlags};
use crate::tree::pattern;
use crate::watch::{until, Process};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R12_handled_signals_do_not_end_a_copy", handled).uppers(&UPPERS),
        test("R12_handled_signal_between_two_chunks", between_chunks),
        test("R12_ignored_signals_that_another_thread_blocks", ignored),
        test("R12_timer_faster_than_the_copy", timer).uppers(&UPPERS),
        test("R12_stopped_process_finishes_its_copy", stopped),
        test("R12_fatal_by_default_ends_a_copy", fatal_by_default),
        test("R12_debugger_interrupts_a_copy", interrupted_by_debugger),
        test("R12_frozen_cgroup_copies_when_it_is_thawed", frozen),
    ]
}

/// How many signals this process has got.
static SEEN: AtomicU32 = AtomicU32::new(0);

/// Counts `signal`; system calls that it interrupts are not begun again.
fn count(signal: i32) {
    extern "C" fn handler(_: i32) {
        SEEN.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the structure is filled in, and the handler does what a handler may.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    assert_eq!(set, 0, "sigaction");
}

fn send(process: &Process, signal: i32) {
    // SAFETY: no memory is touched; the process is ours and not waited for yet.
    let sent = unsafe { libc::kill(process.pid(), signal) };
    assert_eq!(sent, 0, "kill");
}

fn name(i: usize) -> String {
    format!("d/f{i}")
}

fn files_that_stop(t: &T) -> (Arc<Fuse>, Overlay) {
    let f = t.fuse(|f| {
        for i in 0..WAYS.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    (f, o)
}

/// Goes a way in a process that counts `SIGUSR1`; its status is 0 if the way works and
/// a signal has come.
fn counting(o: &Overlay, way: &'static Way, p: &str) -> Process {
    in_process(|| {
        count(libc::SIGUSR1);
        (way.run)(o, p)?;
        assert!(SEEN.load(Ordering::Relaxed) > 0, "the signal got lost");
        Ok(())
    })
}

fn handled(t: &T) {
    t.better_than_overlay("any signal ends its copy-up");
    let (f, o) = files_that_stop(t);
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        let before = copies(t, &o);
        f.stop_all_at(&p, STOP);
        let process = counting(&o, way, &p);
        f.wait_standing(&p, 1);
        send(&process, libc::SIGUSR1);
        f.go_on(&p);
        assert_eq!(process.finish(), 0, "{}", way.name);
        way.check_done(&o, &p, &pattern(SIZE, 1));
        let after = copies(t, &o);
        assert_eq!(after.failed, before.failed, "{}: begun again", way.name);
    }
}

fn between_chunks(t: &T) {
    pause::need(t);
    let (_f, o) = files_that_stop(t);
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        let pause = Pause::once(Point::Chunk);
        let process = counting(&o, way, &p);
        pause.wait_standing(1);
        send(&process, libc::SIGUSR1);
        pause.go_on();
        assert_eq!(process.finish(), 0, "{}", way.name);
        way.check_done(&o, &p, &pattern(SIZE, 1));
    }
    assert_eq!(copies(t, &o).failed, 0, "a copy was begun again");
}

/// What `waitpid` and `posix_spawn` in another thread do to one that copies: a signal
/// that is ignored is kept for who has blocked it, and wakes who has not.
fn ignored(t: &T) {
    t.better_than_overlay("any signal ends its copy-up");
    let (f, o) = files_that_stop(t);
    let signals = [libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGCONT];
    for (i, (way, signal)) in WAYS.iter().zip(signals.iter().cycle()).enumerate() {
        let p = name(i);
        let before = copies(t, &o);
        f.stop_all_at(&p, STOP);
        let process = in_process(|| {
            block(*signal);
            std::thread::scope(|threads| {
                let copier = threads.spawn(|| {
                    unblock(*signal);
                    (way.run)(&o, &p)
                });
                copier.join().expect("the copier")
            })
        });
        f.wait_standing(&p, 1);
        send(&process, *signal);
        f.go_on(&p);
        assert_eq!(process.finish(), 0, "{}", way.name);
        way.check_done(&o, &p, &pattern(SIZE, 1));
        let after = copies(t, &o);
        assert_eq!(after.failed, before.failed, "{}: begun again", way.name);
    }
}

/// Blocks a signal in this thread.
fn block(signal: i32) {
    set_mask(libc::SIG_BLOCK, signal);
}

fn unblock(signal: i32) {
    set_mask(libc::SIG_UNBLOCK, signal);
}

fn set_mask(how: i32, signal: i32) {
    // SAFETY: the set is filled in; the old one is not asked for.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(how, &set, std::ptr::null_mut())
    };
    assert_eq!(set, 0, "pthread_sigmask");
}

/// A copy that takes much longer than the time from one signal to the next.
fn timer(t: &T) {
    t.better_than_overlay("any signal ends its copy-up");
    let size = t.scaled(16 << 20, 4 << 20);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", pattern(size, 1));
        })
        .mount();
    let process = in_process(|| {
        count(libc::SIGALRM);
        let interval = libc::timeval {
            tv_sec: 0,
            tv_usec: 500,
        };
        let timer = libc::itimerval {
            it_interval: interval,
            it_value: interval,
        };
        // SAFETY: the structure is filled in; the old value is not asked for.
        let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
        assert_eq!(set, 0, "setitimer");
        sys::open(o.m("f"), OFlags::RDWR).map(drop)
    });
    assert_eq!(process.finish(), 0, "open for writing");
    assert!(sys::read_file(o.u("f")).works() == pattern(size, 1));
    assert_eq!(copies(t, &o).failed, 0, "the copy was begun again");
}

/// Others who want the file do not have to wait until somebody lets it go on.
fn stopped(t: &T) {
    t.better_than_overlay("any signal ends its copy-up");
    let (f, o) = files_that_stop(t);
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        let before = copies(t, &o);
        f.stop_all_at(&p, STOP);
        let process = in_process(|| (way.run)(&o, &p));
        f.wait_standing(&p, 1);
        send(&process, libc::SIGSTOP);
        f.go_on(&p);
        until("the copy is done", || {
            copies(t, &o).done > before.done && copies(t, &o).in_flight.is_empty()
        });
        assert_eq!(copies(t, &o).failed, before.failed, "{}", way.name);
        send(&process, libc::SIGCONT);
        assert_eq!(process.finish(), 0, "{}", way.name);
        way.check_done(&o, &p, &pattern(SIZE, 1));
    }
}

fn fatal_by_default(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = files_that_stop(t);
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGHUP];
    for (i, (way, signal)) in WAYS.iter().zip(signals.iter().cycle()).enumerate() {
        let p = name(i);
        f.stop_all_at(&p, STOP);
        let process = in_process(|| (way.run)(&o, &p));
        f.wait_standing(&p, 1);
        // While the data stands still.
        send(&process, *signal);
        assert_eq!(process.finish(), 128 + signal, "{}", way.name);
        f.go_on(&p);
        way.check_failed(&o, &p, &pattern(SIZE, 1));
        o.assert_no_strays();
    }
}

/// What makes a process stand still without a signal to it, and lets it go on.
struct Hold<'a> {
    begin: &'a dyn Fn(&Process),
    wait: &'a dyn Fn(&Process),
    end: &'a dyn Fn(&Process),
}

/// Holds each way in the middle of its copy. While it stands still there is nothing of
/// the copy, and others may make it: who goes on finds it, or makes it.
fn held(t: &T, hold: &Hold) {
    t.better_than_overlay("it holds locks while it copies data");
    let (f, o) = files_that_stop(t);
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        f.stop_all_at(&p, STOP);
        let process = in_process(|| (way.run)(&o, &p));
        f.wait_standing(&p, 1);
        (hold.begin)(&process);
        f.go_on(&p);
        (hold.wait)(&process);
        until("its copy has ended", || copies(t, &o).in_flight.is_empty());
        assert!(
            sys::stat(o.u(&p)).is_err(),
            "{}: a part of a copy",
            way.name
        );
        o.assert_no_strays();
        assert!(sys::read_file(o.m(&p)).works() == pattern(SIZE, 1));
        if i % 2 == 0 {
            sys::open(o.m(&p), OFlags::RDWR).map(drop).works();
        }
        (hold.end)(&process);
        assert_eq!(process.finish(), 0, "{}", way.name);
        way.check_done(&o, &p, &pattern(SIZE, 1));
    }
}

fn ptrace(request: libc::c_uint, process: &Process) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: these requests touch no memory of ours.
    let done = unsafe { libc::ptrace(request, process.pid(), none, none) };
    assert_eq!(done, 0, "ptrace: {}", std::io::Error::last_os_error());
}

/// Waits until the process has stopped for us.
fn wait_stopped(process: &Process) {
    let mut status = 0;
    // SAFETY: `status` is there; the process is ours.
    let pid = unsafe { libc::waitpid(process.pid(), &mut status, libc::__WALL) };
    assert_eq!(pid, process.pid(), "waitpid");
    assert!(libc::WIFSTOPPED(status), "status {status:#x}");
}

fn interrupted_by_debugger(t: &T) {
    held(
        t,
        &Hold {
            begin: &|process| {
                ptrace(libc::PTRACE_SEIZE, process);
                ptrace(libc::PTRACE_INTERRUPT, process);
            },
            wait: &wait_stopped,
            end: &|process| ptrace(libc::PTRACE_DETACH, process),
        },
    );
}

/// A control group, and what is in it is frozen.
struct Cgroup(std::path::PathBuf);

impl Cgroup {
    fn new(t: &T) -> Cgroup {
        let at = t.new_dir("cgroup");
        let none = rustix::mount::MountFlags::empty();
        if let Err(e) = sys::mount("none", &at, "cgroup2", none, b"") {
            t.skip(&format!("no cgroups: {e:?}"));
        }
        let group = at.join(format!("rovl-{}", std::process::id()));
        sys::mkdir(&group, 0o755).works();
        Cgroup(group)
    }

    fn add(&self, process: &Process) {
        sys::append_file(self.0.join("cgroup.procs"), process.pid().to_string()).works();
    }

    fn freeze(&self, yes: bool) {
        let text = if yes { "1" } else { "0" };
        sys::append_file(self.0.join("cgroup.freeze"), text).works();
    }

    fn is_frozen(&self) -> bool {
        let events = sys::text(self.0.join("cgroup.events")).works();
        events.lines().any(|l| l == "frozen 1")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = sys::append_file(self.0.join("cgroup.freeze"), "0");
        let _ = sys::rmdir(&self.0);
    }
}

fn frozen(t: &T) {
    let group = Cgroup::new(t);
    held(
        t,
        &Hold {
            begin: &|process| {
                group.add(process);
                group.freeze(true);
            },
            wait: &|_| until("it is frozen", || group.is_frozen()),
            end: &|_| group.freeze(false),
        },
    );
}
