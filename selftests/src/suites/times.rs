// SPDX-License-Identifier: GPL-2.0

//! Which times an operation changes, of the object and of its directory.

use std::path::Path;

use crate::env::{Fs, T};
use crate::plain::{same_from, Notes, Start};
use crate::runner::Test;
use crate::sys::{self, Expect, FallocateFlags, Map, OFlags, Res, Stat};
use crate::tree::{pattern, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(of_files).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(of_directories).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(access_times),
        test!(access_times_by_mount_options),
        test!(to_the_nanosecond_by_every_way),
    ]
}

const ATIME: (i64, i64) = (1_000_000_000, 123_456_789);
const MTIME: (i64, i64) = (1_100_000_000, 987_654_321);

type Op = fn(&Path) -> Res<()>;

fn rw(at: &Path) -> Res<std::os::fd::OwnedFd> {
    sys::open(at, OFlags::RDWR)
}

const OF_FILES: [(&str, Op); 26] = [
    ("stat", |p| sys::stat(p).map(drop)),
    ("open", |p| rw(p).map(drop)),
    ("write", |p| sys::pwrite(&rw(p)?, "x", 0)),
    ("write-nothing", |p| sys::pwrite(&rw(p)?, "", 0)),
    ("append", |p| sys::append_file(p, "x")),
    ("truncate", |p| sys::truncate(p, 2)),
    ("truncate-same", |p| sys::truncate(p, 5000)),
    ("truncate-grow", |p| sys::truncate(p, 9000)),
    ("ftruncate-same", |p| sys::ftruncate(&rw(p)?, 5000)),
    ("open-truncate", |p| {
        sys::open(p, OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    ("truncate-empty", |p| {
        sys::truncate(p, 0)?;
        sys::set_times(p, ATIME, MTIME)?;
        sys::open(p, OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    ("fallocate", |p| {
        sys::fallocate(&rw(p)?, FallocateFlags::empty(), 0, 8192)
    }),
    ("fallocate-keep", |p| {
        sys::fallocate(&rw(p)?, FallocateFlags::KEEP_SIZE, 0, 16384)
    }),
    ("mapping", |p| {
        let map = Map::new(&rw(p)?, 4096, true, true)?;
        map.put(0, b"mm");
        map.sync()
    }),
    ("mapping-unsynced", |p| {
        let map = Map::new(&rw(p)?, 4096, true, true)?;
        map.put(0, b"mm");
        Ok(())
    }),
    ("mapping-unused", |p| {
        Map::new(&rw(p)?, 4096, true, true).map(drop)
    }),
    ("chmod", |p| sys::chmod(p, 0o640)),
    ("chmod-same", |p| sys::chmod(p, 0o644)),
    ("chown", |p| sys::lchown(p, 1, 1)),
    ("chown-nothing", |p| sys::lchown(p, u32::MAX, u32::MAX)),
    ("times", |p| sys::set_times(p, (5, 5), (6, 6))),
    ("times-omit", |p| {
        let omit = rustix::fs::UTIME_OMIT;
        sys::utimens(p, &sys::times((7, 7), (0, omit)))
    }),
    ("xattr", |p| sys::set_xattr(p, "user.x", "y")),
    ("link", |p| sys::link(p, p.with_extension("linked"))),
    ("rename", |p| {
        sys::rename(p, p.with_extension("moved"))?;
        sys::rename(p.with_extension("moved"), p)
    }),
    ("fsync", |p| sys::fsync(&rw(p)?)),
];

fn time(sec: i64, nsec: u64) -> (i64, i64) {
    (sec, nsec as i64)
}

/// How a time is described: what it was set to, or that it is of today.
fn about(found: (i64, i64)) -> String {
    match found {
        ATIME => "as set (atime)".into(),
        MTIME => "as set (mtime)".into(),
        (sec, _) if sec > 1_700_000_000 => "now".into(),
        other => format!("{other:?}"),
    }
}

fn mtime(st: &Stat) -> String {
    about(time(st.st_mtime, st.st_mtime_nsec))
}

fn atime(st: &Stat) -> String {
    about(time(st.st_atime, st.st_atime_nsec))
}

fn ctime(st: &Stat) -> (i64, i64) {
    time(st.st_ctime, st.st_ctime_nsec)
}

fn fill(l: &Tree) {
    for (name, _) in OF_FILES {
        let path = format!("{name}/f");
        l.file(&path, pattern(5000, 1)).times(&path, ATIME, MTIME);
        l.times(name, ATIME, MTIME);
    }
}

/// A copy has a change time of its own, so that of what begins in a lower layer
/// tells nothing.
const STARTS: [(Start, bool); 3] = [
    (Start::Upper, true),
    (Start::Lower, false),
    (Start::Merged, false),
];

fn settle() {
    // So that "later" shows also where times are no finer than the clock tick.
    std::thread::sleep(std::time::Duration::from_millis(20));
}

fn of_files(t: &T) {
    for (start, with_ctime) in STARTS {
        same_from(t, &[start], fill, |dir, n| {
            for (name, run) in OF_FILES {
                let parent = dir.join(name);
                let at = parent.join("f");
                n.at = format!("{name}: ");
                let before = [sys::stat(&at).works(), sys::stat(&parent).works()];
                settle();
                n.call("result", run(&at));
                let after = [sys::stat(&at).works(), sys::stat(&parent).works()];
                for (i, whose) in ["file", "directory"].into_iter().enumerate() {
                    n.value(format!("mtime of the {whose}"), mtime(&after[i]));
                    // Which a mapping changes, too; that of a lower file stays.
                    if with_ctime {
                        n.value(format!("atime of the {whose}"), atime(&after[i]));
                        let later = ctime(&after[i]) > ctime(&before[i]);
                        n.value(format!("ctime of the {whose} moved"), later);
                    }
                }
            }
        });
    }
}

const OF_DIRECTORIES: [(&str, Op); 17] = [
    ("list", |p| sys::names(p).map(drop)),
    ("create", |p| sys::write_file(p.join("new"), "")),
    ("mkdir", |p| sys::mkdir(p.join("new"), 0o755)),
    ("symlink", |p| sys::symlink("x", p.join("new"))),
    ("mknod", |p| {
        sys::mknod(p.join("new"), sys::FileType::Fifo, 0o600, 0)
    }),
    ("link", |p| sys::link(p.join("f"), p.join("new"))),
    ("unlink", |p| sys::unlink(p.join("f"))),
    ("rmdir", |p| sys::rmdir(p.join("sub"))),
    ("rename", |p| sys::rename(p.join("f"), p.join("new"))),
    ("rename-over", |p| sys::rename(p.join("f"), p.join("g"))),
    ("rename-out", |p| sys::rename(p.join("f"), p.join("../out"))),
    ("nameless", |p| {
        sys::open_mode(p, OFlags::TMPFILE | OFlags::RDWR, 0o600).map(drop)
    }),
    ("nameless-linked", |p| {
        let fd = sys::open_mode(p, OFlags::TMPFILE | OFlags::RDWR, 0o600)?;
        sys::link_fd(&fd, p.join("new"))
    }),
    ("change-inside", |p| sys::append_file(p.join("f"), "+")),
    ("chmod-inside", |p| sys::chmod(p.join("f"), 0o600)),
    ("chmod", |p| sys::chmod(p, 0o711)),
    ("xattr", |p| sys::set_xattr(p, "user.x", "y")),
];

fn of_directories(t: &T) {
    let fill = |l: &Tree| {
        for (name, _) in OF_DIRECTORIES {
            l.file(format!("{name}/f"), "f")
                .file(format!("{name}/g"), "g");
            l.dir(format!("{name}/sub"));
            l.times(name, ATIME, MTIME);
        }
    };
    for (start, with_ctime) in STARTS {
        same_from(t, &[start], fill, |dir, n| {
            for (name, run) in OF_DIRECTORIES {
                let at = dir.join(name);
                n.at = format!("{name}: ");
                let before = sys::stat(&at).works();
                settle();
                n.call("result", run(&at));
                let after = sys::stat(&at).works();
                n.value("mtime", mtime(&after));
                if with_ctime {
                    n.value("atime", atime(&after));
                    n.value("ctime moved", ctime(&after) > ctime(&before));
                }
            }
        });
    }
}

/// Ways to read, which the access time of an upper object tells; that of a lower
/// one does not change.
fn reads(dir: &Path, n: &mut Notes) {
    let f = dir.join("f");
    let reset = |mtime: (i64, i64)| {
        sys::set_times(&f, ATIME, mtime).works();
    };
    let mut look = |what: &str, f: &dyn Fn()| {
        // As relatime has it: older than the last change, and then not.
        for mtime in [MTIME, (900_000_000, 0)] {
            reset(mtime);
            settle();
            f();
            n.value(what, atime(&sys::stat(dir.join("f")).works()));
        }
    };
    let ro = || sys::open(&f, OFlags::RDONLY).works();
    look("read", &|| drop(sys::pread(&ro(), 10, 0).works()));
    look("read of nothing", &|| drop(sys::pread(&ro(), 0, 0).works()));
    look("read behind the end", &|| {
        drop(sys::pread(&ro(), 10, 1 << 20).works())
    });
    look("open", &|| drop(ro()));
    look("stat", &|| {
        sys::stat(&f).works();
    });
    look("mapping", &|| {
        let map = Map::new(&ro(), 4096, false, true).works();
        map.get(0, 10);
    });
    look("O_NOATIME", &|| {
        let fd = sys::open(&f, OFlags::RDONLY | OFlags::NOATIME).works();
        drop(sys::pread(&fd, 10, 0).works());
    });
    look("O_DIRECT", &|| {
        let fd = sys::open(&f, OFlags::RDONLY | OFlags::DIRECT).works();
        drop(sys::direct_read(&fd, 4096, 0).works());
    });
    look("sendfile", &|| {
        let (_r, w) = crate::env::pipe();
        rustix::fs::sendfile(&w, ro(), None, 100).expect("sendfile");
    });
    look("splice", &|| {
        let (_r, w) = crate::env::pipe();
        let none = rustix::pipe::SpliceFlags::empty();
        rustix::pipe::splice(ro(), None, &w, None, 100, none).expect("splice");
    });
    look("copy_file_range", &|| {
        sys::write_file(dir.join("to"), "").works();
        let to = rw(&dir.join("to")).works();
        sys::copy_file_range(&ro(), 0, &to, 0, 100).works();
    });
    look("write through a mapping, then read", &|| {
        let map = Map::new(&rw(&f).works(), 4096, true, true).works();
        map.put(0, b"new");
        map.sync().works();
        settle();
        // Older than the change again, which is known below only.
        sys::pread(&ro(), 10, 0).works();
    });
    look("executing", &|| {
        let _ = std::process::Command::new(&f).arg("0").status();
    });
    for (what, path) in [("list", "."), ("read a symlink", "s")] {
        let at = dir.join(path);
        sys::set_times(&at, ATIME, MTIME).works();
        settle();
        let _ = sys::names(dir);
        let _ = sys::readlink(dir.join("s"));
        n.value(what, atime(&sys::lstat(&at).works()));
    }
}

fn lay_out_reads(l: &Tree) {
    l.file("f", std::fs::read("/bin/sleep").expect("/bin/sleep"));
    l.mode("f", 0o755).symlink("s", "f");
}

fn access_times(t: &T) {
    t.better_than_overlay("copy_file_range does not move the access time of its source");
    same_from(
        t,
        &[Start::Upper, Start::Lower, Start::Merged],
        lay_out_reads,
        reads,
    );
}

/// noatime, strictatime, nodiratime of the mount; its layers' do not matter.
fn access_times_by_mount_options(t: &T) {
    t.better_than_overlay("as above");
    for option in ["noatime", "strictatime", "nodiratime", "relatime"] {
        same_from(t, &[Start::Upper, Start::Lower], lay_out_reads, |dir, n| {
            n.at = format!("{option}: ");
            // A mount of its own of this tree.
            sys::bind_mount(dir, dir).works();
            let options = format!("remount,bind,{option}");
            sys::run("mount", &["-o".as_ref(), options.as_ref(), dir.as_os_str()]);
            reads(dir, n);
            sys::umount(dir).works();
        });
    }
}

/// A time that is set is the time that is there: at once, below, and later.
fn to_the_nanosecond_by_every_way(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").dir("d").symlink("s", "f").fifo("p");
        })
        .mount();
    let names = ["f", "d", "s", "p"];
    let check = |what: &str| {
        for name in names {
            let st = sys::lstat(o.m(name)).works();
            let found = [
                time(st.st_atime, st.st_atime_nsec),
                time(st.st_mtime, st.st_mtime_nsec),
            ];
            assert_eq!(found, [ATIME, MTIME], "{name} {what}");
        }
    };
    for name in names {
        sys::set_times(o.m(name), ATIME, MTIME).works();
    }
    check("at once");
    sys::chmod(o.m("f"), 0o600).works();
    sys::lchown(o.m("s"), 1, 1).works();
    sys::set_xattr(o.m("d"), "user.x", "y").works();
    sys::rename(o.m("p"), o.m("q")).works();
    sys::rename(o.m("q"), o.m("p")).works();
    check("after changes of other things");
    o.remount();
    check("when mounted again");
}
