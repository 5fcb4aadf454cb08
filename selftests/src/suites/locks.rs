// SPDX-License-Identifier: GPL-2.0

//! Locks, leases and delegations: they belong to the object of the merged tree,
//! whichever layer it is in.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::env::T;
use crate::plain::{same, Notes};
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, Fail, OFlags, Res};
use crate::tree::{assert_text, Tree};
use crate::watch::start;

pub fn tests() -> Vec<Test> {
    vec![
        test!(flock_before_and_after),
        test!(ranges_before_and_after),
        test!(who_waits_gets_it),
        test!(closing_a_descriptor_drops_them),
        test!(leases_before_and_after),
        test!(lease_broken_by_every_change),
        test!(delegations_of_directories),
        test!(delegations_of_files),
        test!(shown_as_the_objects),
    ]
}

fn fill(l: &Tree) {
    l.file("f", "contents").file("g", "other").dir("dir/sub");
    l.file("dir/inside", "x");
}

fn ro(at: &Path) -> OwnedFd {
    sys::open(at, OFlags::RDONLY).works()
}

fn rw(at: &Path) -> OwnedFd {
    sys::open(at, OFlags::RDWR).works()
}

fn flock_before_and_after(t: &T) {
    same(t, fill, |dir, n| {
        let at = dir.join("f");
        let old = ro(&at);
        n.call(
            "exclusive",
            sys::flock(&old, FlockOperation::NonBlockingLockExclusive),
        );
        let look = |n: &mut Notes, what: &str| {
            n.at = format!("{what}: ");
            for (name, fd) in [("read-only", ro(&at)), ("writable", rw(&at))] {
                let shared = sys::flock(&fd, FlockOperation::NonBlockingLockShared);
                n.call(format!("{name} shared"), shared);
                let exclusive = sys::flock(&fd, FlockOperation::NonBlockingLockExclusive);
                n.call(format!("{name} exclusive"), exclusive);
            }
        };
        n.call(
            "lock before",
            sys::flock(&ro(&at), FlockOperation::NonBlockingLockShared),
        );
        look(n, "locked before");
        sys::append_file(&at, "+").works();
        look(n, "locked before, written");
        sys::rename(&at, dir.join("moved")).works();
        sys::rename(dir.join("moved"), &at).works();
        look(n, "locked before, moved");
        n.call(
            "downgrade",
            sys::flock(&old, FlockOperation::NonBlockingLockShared),
        );
        look(n, "shared");
        drop(old);
        look(n, "closed");
    });
}

type Change = fn(&Path) -> Res<()>;
type Lock = fn(&OwnedFd, i32, i64, i64) -> Res<()>;

/// As [`sys::posix_lock_range`], in another process.
fn from_child(t: &T, at: &Path, flags: OFlags, lock: Lock, kind: i32, range: (i64, i64)) -> bool {
    let (mut r, w) = crate::env::pipe();
    t.in_child(|| {
        let fd = sys::open(at, flags).works();
        let got = lock(&fd, kind, range.0, range.1).is_ok();
        std::io::Write::write_all(&mut (&w), &[u8::from(got)]).expect("pipe");
    });
    let mut got = [0];
    std::io::Read::read_exact(&mut r, &mut got).expect("pipe");
    got[0] != 0
}

fn ranges_before_and_after(t: &T) {
    for (kind, lock) in [
        ("POSIX", sys::posix_lock_range as Lock),
        ("OFD", sys::ofd_lock as Lock),
    ] {
        same(t, fill, |dir, n| {
            let at = dir.join("f");
            let old = ro(&at);
            n.call("read lock", lock(&old, libc::F_RDLCK, 0, 10));
            let look = |n: &mut Notes, what: &str| {
                n.at = format!("{kind} {what}: ");
                for range in [(0, 5), (5, 10), (10, 5), (100, 0)] {
                    for (name, flags, wanted) in [
                        ("read", OFlags::RDONLY, libc::F_RDLCK),
                        ("write", OFlags::RDWR, libc::F_WRLCK),
                    ] {
                        let got = from_child(t, &at, flags, lock, wanted, range);
                        n.value(format!("{name} lock of {range:?}"), got);
                    }
                }
            };
            look(n, "read-locked before");
            let new = rw(&at);
            look(n, "read-locked, open for writing");
            n.call("write lock", lock(&new, libc::F_WRLCK, 20, 100));
            look(n, "write-locked after");
            n.call("unlock by the other", lock(&new, libc::F_UNLCK, 0, 0));
            look(n, "unlocked through the new one");
            n.call("unlock", lock(&old, libc::F_UNLCK, 0, 0));
            look(n, "unlocked through the old one");
        });
    }
}

/// A lock that is waited for while the object is copied up.
fn who_waits_gets_it(t: &T) {
    for mode in ["flock", "range"] {
        same(t, fill, |dir, n| {
            let at = dir.join("f");
            let old = ro(&at);
            sys::flock(&old, FlockOperation::LockExclusive).works();
            sys::ofd_lock(&old, libc::F_RDLCK, 0, 0).works();
            let path = at.clone();
            let mut waiter = start("lock", move || {
                // For writing: it copies the object up, and then waits.
                let fd = rw(&path);
                match mode {
                    "flock" => sys::flock(&fd, FlockOperation::LockExclusive),
                    _ => ofd_lock_wait(&fd, libc::F_WRLCK),
                }
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            n.value("waits", !waiter.is_done());
            sys::append_file(&at, "+").works();
            n.value("still waits", !waiter.is_done());
            drop(old);
            n.call("gets it", waiter.finish());
        });
    }
}

fn ofd_lock_wait(fd: &OwnedFd, kind: i32) -> Res<()> {
    // SAFETY: `flock` is plain integers, for which zero is a value.
    let mut arg: libc::flock = unsafe { std::mem::zeroed() };
    arg.l_type = kind as i16;
    // SAFETY: `arg` is a valid flock for the time of the call.
    match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLKW, &arg) } {
        0 => Ok(()),
        _ => Err(last("F_OFD_SETLKW")),
    }
}

fn last(what: &str) -> Fail {
    let errno = std::io::Error::last_os_error().raw_os_error();
    Fail::new(what, errno.map_or(Errno::IO, Errno::from_raw_os_error))
}

/// A process loses its POSIX locks of a file with any descriptor of it.
fn closing_a_descriptor_drops_them(t: &T) {
    same(t, fill, |dir, n| {
        let at = dir.join("f");
        let old = ro(&at);
        let other = ro(&at);
        sys::posix_lock_range(&old, libc::F_RDLCK, 0, 0).works();
        let free = |t: &T| {
            from_child(
                t,
                &at,
                OFlags::RDWR,
                sys::posix_lock_range,
                libc::F_WRLCK,
                (0, 0),
            )
        };
        n.value("free while it is locked", free(t));
        drop(other);
        n.value("free after another one was closed", free(t));
    });
}

fn leases_before_and_after(t: &T) {
    // SAFETY: ignoring a signal whose handler nobody else sets.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    same(t, fill, |dir, n| {
        let at = dir.join("f");
        let look = |n: &mut Notes, what: &str| {
            n.at = format!("{what}: ");
            for (name, flags) in [("read-only", OFlags::RDONLY), ("writable", OFlags::RDWR)] {
                let fd = sys::open(&at, flags).works();
                for (kind, lease) in [("read", libc::F_RDLCK), ("write", libc::F_WRLCK)] {
                    n.call(format!("{kind} lease, {name}"), sys::set_lease(&fd, lease));
                    n.result("it is", sys::get_lease(&fd));
                    n.call("given back", sys::set_lease(&fd, libc::F_UNLCK));
                }
            }
        };
        look(n, "at first");
        let old = ro(&at);
        look(n, "open for reading");
        let new = rw(&at);
        look(n, "open for writing");
        drop(new);
        look(n, "written");
        n.call("lease of an old one", sys::set_lease(&old, libc::F_RDLCK));
        n.result("it is", sys::get_lease(&old));
        let nonblock = OFlags::RDWR | OFlags::NONBLOCK;
        n.call("open against it", sys::open(&at, nonblock));
        n.result("it is now", sys::get_lease(&old));
        n.call("given back", sys::set_lease(&old, libc::F_UNLCK));
        n.call("open then", sys::open(&at, nonblock));
    });
}

/// Changes that end a read lease: they wait until it is given back.
fn lease_broken_by_every_change(t: &T) {
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    let changes: [(&str, Change); 5] = [
        ("open for writing", |p| sys::open(p, OFlags::RDWR).map(drop)),
        ("open and truncate", |p| {
            sys::open(p, OFlags::WRONLY | OFlags::TRUNC).map(drop)
        }),
        ("truncate", |p| sys::truncate(p, 2)),
        ("chmod", |p| sys::chmod(p, 0o600)),
        ("read", |p| sys::read_file(p).map(drop)),
    ];
    for (name, change) in changes {
        same(t, fill, |dir, n| {
            let at = dir.join("f");
            let held = ro(&at);
            n.call("lease", sys::set_lease(&held, libc::F_RDLCK));
            let path = at.clone();
            let mut changer = start(name, move || change(&path));
            // It is being broken, or the change did not mind.
            while sys::get_lease(&held).works() == libc::F_RDLCK && !changer.is_done() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            n.at = format!("{name}: ");
            let broken = sys::get_lease(&held).works() != libc::F_RDLCK;
            n.value("broken", broken);
            n.call("given back", sys::set_lease(&held, libc::F_UNLCK));
            n.call("result", changer.finish());
        });
    }
}

const F_GETDELEG: i32 = 1024 + 15;
const F_SETDELEG: i32 = 1024 + 16;

#[repr(C)]
struct Delegation {
    flags: u32,
    kind: u16,
    pad: u16,
}

fn delegate(fd: &OwnedFd, kind: i32) -> Res<()> {
    let mut arg = Delegation {
        flags: 0,
        kind: kind as u16,
        pad: 0,
    };
    // SAFETY: `arg` is what the call reads.
    match unsafe { libc::fcntl(fd.as_raw_fd(), F_SETDELEG, &mut arg) } {
        0 => Ok(()),
        _ => Err(last("F_SETDELEG")),
    }
}

fn delegated(fd: &OwnedFd) -> Res<u16> {
    let mut arg = Delegation {
        flags: 0,
        kind: 0,
        pad: 0,
    };
    // SAFETY: `arg` is what the call writes.
    match unsafe { libc::fcntl(fd.as_raw_fd(), F_GETDELEG, &mut arg) } {
        0 => Ok(arg.kind),
        _ => Err(last("F_GETDELEG")),
    }
}

/// Delegates an object for reading, and makes each change to it.
fn delegated_and(t: &T, object: &str, changes: &[(&'static str, Change)]) {
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    for &(name, change) in changes {
        same(t, fill, |dir, n| {
            let at = dir.join(object);
            let held = ro(&at);
            n.at = format!("{name}: ");
            n.call("delegation", delegate(&held, libc::F_RDLCK));
            n.result("it is", delegated(&held));
            let path = at.clone();
            let mut changer = start(name, move || change(&path));
            while delegated(&held).is_ok_and(|k| k == libc::F_RDLCK as u16) && !changer.is_done() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let left = delegated(&held);
            n.value("recalled", left.is_ok_and(|k| k != libc::F_RDLCK as u16));
            n.call("given back", delegate(&held, libc::F_UNLCK));
            n.call("result", changer.finish());
        });
    }
}

/// A delegation of a directory ends when a name in it changes.
fn delegations_of_directories(t: &T) {
    let changes: [(&str, Change); 7] = [
        ("create", |p| sys::write_file(p.join("new"), "x")),
        ("unlink", |p| sys::unlink(p.join("inside"))),
        ("mkdir", |p| sys::mkdir(p.join("newdir"), 0o755)),
        ("rmdir", |p| sys::rmdir(p.join("sub"))),
        ("rename", |p| sys::rename(p.join("inside"), p.join("moved"))),
        ("change inside", |p| sys::append_file(p.join("inside"), "+")),
        ("list", |p| sys::names(p).map(drop)),
    ];
    delegated_and(t, "dir", &changes);
}

fn delegations_of_files(t: &T) {
    let changes: [(&str, Change); 6] = [
        ("open for writing", |p| sys::open(p, OFlags::RDWR).map(drop)),
        ("chmod", |p| sys::chmod(p, 0o600)),
        ("unlink", |p| sys::unlink(p)),
        ("link", |p| sys::link(p, p.with_extension("linked"))),
        ("rename", |p| sys::rename(p, p.with_extension("moved"))),
        ("set an xattr", |p| sys::set_xattr(p, "user.x", "y")),
    ];
    delegated_and(t, "f", &changes);
}

/// /proc/locks names the object that the user sees.
fn shown_as_the_objects(t: &T) {
    let o = t.stack().lower(fill).mount();
    let fd = ro(&o.m("f"));
    sys::posix_lock_range(&fd, libc::F_RDLCK, 3, 4).works();
    let st = sys::fstat(&fd).works();
    let want = format!(
        "{:02x}:{:02x}:{} 3 6",
        rustix::fs::major(st.st_dev),
        rustix::fs::minor(st.st_dev),
        st.st_ino
    );
    let shown = || std::fs::read_to_string("/proc/locks").expect("/proc/locks");
    assert!(shown().contains(&want), "no {want} in\n{}", shown());
    let w = rw(&o.m("f"));
    sys::pwrite(&w, "C", 0).works();
    assert!(
        shown().contains(&want),
        "no {want} after copy-up in\n{}",
        shown()
    );
    assert_text(o.m("f"), "Contents");
}
