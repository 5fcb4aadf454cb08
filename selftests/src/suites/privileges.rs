// SPDX-License-Identifier: GPL-2.0

//! Set-id bits and file capabilities: what takes them away, and who.

use std::io::{Read, Write};
use std::path::Path;

use crate::env::{pipe, Fs, T};
use crate::plain::same;
use crate::runner::Test;
use crate::sys::{self, Expect, FallocateFlags, Map, OFlags, Res};
use crate::tree::Tree;

pub fn tests() -> Vec<Test> {
    vec![
        test!(taken_by_changes).uppers(&[Fs::Xfs]).long(4),
        test!(taken_by_clone).needs(&[Fs::Xfs]),
        test!(capability_of_a_copy),
        test!(given_after_a_write),
    ]
}

/// CAP_NET_RAW, effective and permitted, as `setcap` stores it.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
const NAME: &str = "security.capability";

const MODES: [u32; 4] = [0o6755, 0o6777, 0o2767, 0o4766];

/// uid, gid: root, the owner, one of the group, another.
const USERS: [(u32, u32); 4] = [(0, 0), (1000, 1000), (1001, 1000), (1002, 1002)];

/// Longer than what it is copied over: only then a file that ends within a block
/// can be cloned.
const SOURCE: &str = "the source";

type Change = fn(&Path) -> Res<()>;

fn rw(at: &Path) -> Res<std::os::fd::OwnedFd> {
    sys::open(at, OFlags::RDWR)
}

fn own(at: &Path) -> Res<std::os::fd::OwnedFd> {
    // Something to copy from that everybody may read.
    sys::open(at.with_file_name("source"), OFlags::RDONLY)
}

const CHANGES: [(&str, Change); 24] = [
    ("nothing", |_| Ok(())),
    ("open", |p| rw(p).map(drop)),
    ("write", |p| sys::pwrite(&rw(p)?, "x", 0)),
    ("write-nothing", |p| sys::pwrite(&rw(p)?, "", 0)),
    ("append", |p| sys::append_file(p, "x")),
    ("truncate", |p| sys::truncate(p, 2)),
    ("truncate-same", |p| sys::truncate(p, 8)),
    ("ftruncate", |p| sys::ftruncate(&rw(p)?, 100)),
    ("open-truncate", |p| {
        sys::open(p, OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    ("fallocate", |p| {
        sys::fallocate(&rw(p)?, FallocateFlags::empty(), 0, 8192)
    }),
    ("punch", |p| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        sys::fallocate(&rw(p)?, flags, 0, 4)
    }),
    ("copy-range", |p| {
        sys::copy_file_range(&own(p)?, 0, &rw(p)?, 0, 3).map(drop)
    }),
    ("sendfile", |p| {
        let sent = rustix::fs::sendfile(&rw(p)?, &own(p)?, None, 3);
        sent.map(drop).map_err(|e| sys::Fail::new("sendfile", e))
    }),
    ("splice", |p| {
        let (r, mut w) = pipe();
        w.write_all(b"xyz").expect("pipe");
        let none = rustix::pipe::SpliceFlags::empty();
        let done = rustix::pipe::splice(&r, None, &rw(p)?, None, 3, none);
        done.map(drop).map_err(|e| sys::Fail::new("splice", e))
    }),
    ("mapping", |p| {
        let map = Map::new(&rw(p)?, 8, true, true)?;
        map.put(0, b"mm");
        map.sync()
    }),
    ("chmod", |p| {
        let mode = sys::mode_of(&sys::stat(p)?);
        sys::chmod(p, mode)
    }),
    ("chown-same", |p| {
        let st = sys::stat(p)?;
        sys::lchown(p, st.st_uid, st.st_gid)
    }),
    ("chown-nothing", |p| sys::lchown(p, u32::MAX, u32::MAX)),
    ("chown-other", |p| sys::lchown(p, 1001, u32::MAX)),
    ("chgrp-own", |p| sys::lchown(p, u32::MAX, 1000)),
    ("times", |p| sys::set_times(p, (1, 1), (2, 2))),
    ("xattr", |p| sys::set_xattr(p, "user.x", "y")),
    ("link", |p| sys::link(p, p.with_extension("linked"))),
    ("capability-away", |p| sys::remove_xattr(p, NAME)),
];

fn name(change: &str, mode: u32, (uid, _): (u32, u32)) -> String {
    format!("{change}-{mode:o}-{uid}")
}

fn fill(l: &Tree, changes: &[(&str, Change)]) {
    l.mode(".", 0o777).file("source", SOURCE);
    for (change, _) in changes {
        for mode in MODES {
            for user in USERS {
                let name = name(change, mode, user);
                l.file(&name, "contents").owner(&name, 1000, 1000);
                l.mode(&name, mode).xattr(&name, NAME, CAPABILITY);
            }
        }
    }
}

fn compare(t: &T, changes: &[(&str, Change)]) {
    same(
        t,
        |l| fill(l, changes),
        |dir, n| {
            for mode in MODES {
                for user in USERS {
                    // One child for all changes; it says what they returned.
                    let (mut r, w) = pipe();
                    let all = || {
                        for (change, run) in changes {
                            let path = dir.join(name(change, mode, user));
                            let errno = run(&path).err().map_or(0, |e| e.errno.raw_os_error());
                            (&w).write_all(&errno.to_ne_bytes()).expect("pipe");
                        }
                    };
                    match user {
                        (0, 0) => all(),
                        (uid, gid) => t.as_user(uid, gid, all),
                    }
                    for (change, _) in changes {
                        let mut errno = [0; 4];
                        r.read_exact(&mut errno).expect("pipe");
                        let path = dir.join(name(change, mode, user));
                        let st = sys::stat(&path).works();
                        n.value(
                            format!("{change} of {mode:o} by {}", user.0),
                            (
                                i32::from_ne_bytes(errno),
                                format!("{:o}", sys::mode_of(&st)),
                                (st.st_uid, st.st_gid, st.st_size),
                                sys::xattr_opt(&path, NAME).is_some(),
                            ),
                        );
                    }
                }
            }
        },
    );
}

fn taken_by_changes(t: &T) {
    compare(t, &CHANGES);
}

/// The same of a clone, where there is such a thing.
fn taken_by_clone(t: &T) {
    const CLONE: [(&str, Change); 1] = [("clone", |p| sys::clone_file(&own(p)?, &rw(p)?))];
    let room = t.room(Fs::Xfs);
    for upper in [false, true] {
        let room = room.join(if upper { "a" } else { "b" });
        sys::mkdir(&room, 0o755).works();
        let stack = t.stack().upper_in(&room);
        let stack = if upper {
            stack.lower_on(Fs::Xfs, |_| {}).upper(|u| {
                fill(&Tree::new(u.dir("d").at("d")), &CLONE);
            })
        } else {
            stack.lower_on(Fs::Xfs, |l| {
                fill(&Tree::new(l.dir("d").at("d")), &CLONE);
            })
        };
        let o = stack.mount();
        for mode in MODES {
            for user in USERS {
                let path = o.m("d").join(name("clone", mode, user));
                let run = || (CLONE[0].1)(&path).works();
                match user {
                    (0, 0) => run(),
                    // Who may not write does not clone.
                    (1001, _) | (1002, _) if mode & 0o022 == 0 => continue,
                    (1002, _) if mode & 0o002 == 0 => continue,
                    (1001, _) if mode & 0o020 == 0 => continue,
                    (uid, gid) => t.as_user(uid, gid, run),
                }
                assert_eq!(sys::read_file(&path).works(), SOURCE.as_bytes());
                let what = format!("{mode:o} by {}", user.0);
                let now = sys::mode_of(&sys::stat(&path).works());
                if user.0 != 0 {
                    assert_eq!(now & 0o4000, 0, "set-user-id of {what}");
                }
                assert!(
                    sys::xattr_opt(&path, NAME).is_none(),
                    "capability of {what}"
                );
            }
        }
    }
}

/// What does not take the capability away keeps it over a copy-up, and the copy
/// is executed with it.
fn capability_of_a_copy(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", std::fs::read("/bin/cat").expect("/bin/cat"));
            l.mode("f", 0o755).xattr("f", NAME, CAPABILITY);
        })
        .mount();
    // setpriv, for std does not become another user without a socket, which the debug
    // kernel has none of.
    let effective = || {
        let run = std::process::Command::new("setpriv")
            .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
            .arg(o.m("f"))
            .arg("/proc/self/status")
            .output()
            .expect("setpriv");
        assert!(run.status.success(), "{run:?}");
        let status = String::from_utf8_lossy(&run.stdout).into_owned();
        let line = status.lines().find(|l| l.starts_with("CapEff:"));
        line.unwrap_or_default().to_string()
    };
    let before = effective();
    assert!(before.ends_with("2000"), "CAP_NET_RAW: {before}");
    sys::set_times(o.m("f"), (1, 1), (2, 2)).works();
    assert_eq!(sys::get_xattr(o.u("f"), NAME).works(), CAPABILITY);
    assert_eq!(effective(), before);
    o.remount();
    assert_eq!(effective(), before);
    sys::append_file(o.m("f"), "+").works();
    assert!(sys::xattr_opt(o.m("f"), NAME).is_none());
    assert!(effective().ends_with("0000000000000000"));
}

/// That a file has nothing that a write takes away is remembered, until it has.
fn given_after_a_write(t: &T) {
    let fill = |l: &Tree| {
        l.file("f", "12345678").mode("f", 0o666);
    };
    same(t, fill, |dir, n| {
        let p = dir.join("f");
        let write = || {
            t.as_user(1000, 1000, || {
                sys::pwrite(&sys::open(&p, OFlags::RDWR).works(), "x", 0).works();
            });
            let mode = sys::mode_of(&sys::stat(&p).works());
            (format!("{mode:o}"), sys::xattr_opt(&p, NAME).is_some())
        };
        n.value("first", write());
        sys::set_xattr(&p, NAME, CAPABILITY).works();
        n.value("with a capability", write());
        n.value("again", write());
        sys::chmod(&p, 0o6777).works();
        n.value("with set-id bits", write());
        let hard = dir.join("hard");
        sys::link(&p, &hard).works();
        sys::set_xattr(&hard, NAME, CAPABILITY).works();
        sys::chmod(&hard, 0o4777).works();
        n.value("both, by another name", write());
    });
}
