// SPDX-License-Identifier: GPL-2.0

//! What `chattr` and its kin set, and what it does.

use std::os::fd::OwnedFd;
use std::path::Path;

use crate::env::{Fs, T};
use crate::plain::{same, same_from, Notes, Start};
use crate::runner::Test;
use crate::sys::{self, AtFlags, Errno, Expect, IFlags, OFlags, XFlags};
use crate::tree::{assert_text, pattern, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(as_on_a_plain_filesystem).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(effect_on_files).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(effect_on_directories).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(as_users).uppers(&[Fs::Xfs]),
        test!(of_symlinks_and_special_files),
        test!(not_known_to_the_upper).needs(&[Fs::Tmpfs]),
        test!(below_an_immutable_directory),
        test!(extended).uppers(&[Fs::Xfs]),
        test!(project_of_the_directory).needs(&[Fs::Xfs]),
        test!(by_system_call).uppers(&[Fs::Xfs]),
        test!(generation),
        test!(after_remount).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
    ]
}

/// Flags that mean the same on all file systems, and those that they set by
/// themselves left out.
const KNOWN: IFlags = IFlags::APPEND
    .union(IFlags::IMMUTABLE)
    .union(IFlags::NOATIME)
    .union(IFlags::NODUMP)
    .union(IFlags::SYNC);

const EACH: [(&str, IFlags); 5] = [
    ("a", IFlags::APPEND),
    ("i", IFlags::IMMUTABLE),
    ("A", IFlags::NOATIME),
    ("d", IFlags::NODUMP),
    ("S", IFlags::SYNC),
];

fn open(path: impl AsRef<Path>) -> OwnedFd {
    sys::open(path, OFlags::RDONLY | OFlags::NONBLOCK).works()
}

fn get(path: &Path) -> sys::Res<IFlags> {
    Ok(sys::get_flags(&open(path))? & KNOWN)
}

/// Sets these of the known flags and no others.
fn set(path: &Path, flags: IFlags) -> sys::Res<()> {
    let fd = open(path);
    let old = sys::get_flags(&fd)?;
    sys::set_flags(&fd, (old - KNOWN) | flags)
}

/// Files and directories, one for each flag, with the flag and without.
fn fill(l: &Tree) {
    for (letter, flag) in EACH {
        for name in [format!("set{letter}"), format!("not{letter}")] {
            l.file(format!("f-{name}"), "contents");
            l.file(format!("d-{name}/inside"), "inside");
            l.dir(format!("d-{name}/sub"));
        }
        for kind in ["f", "d"] {
            // What a file system does not have it does not have anywhere.
            let _ = set(&l.at(format!("{kind}-set{letter}")), flag);
        }
    }
}

fn attributes(path: &Path) -> String {
    use rustix::fs::{statx, StatxFlags, CWD};
    let x = statx(
        CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    )
    .expect("statx");
    // STATX_ATTR_IMMUTABLE, _APPEND, _NODUMP
    let known = 0x10 | 0x20 | 0x40;
    format!(
        "{:#x} of {:#x}",
        x.stx_attributes.bits() & known,
        x.stx_attributes_mask.bits() & known
    )
}

fn look(path: &Path, n: &mut Notes, what: &str) {
    n.result(format!("flags {what}"), get(path));
    n.value(format!("statx {what}"), attributes(path));
}

/// Flags that are there, set, and taken away, before and after a change that
/// copies the object up.
fn as_on_a_plain_filesystem(t: &T) {
    t.better_than_overlay("its copies lose nodump, and it keeps flags of the upper layer");
    same(t, fill, |dir, n| {
        for kind in ["f", "d"] {
            for (letter, flag) in EACH {
                for name in [format!("{kind}-set{letter}"), format!("{kind}-not{letter}")] {
                    let at = dir.join(&name);
                    n.at = format!("{name}: ");
                    look(&at, n, "at first");
                    n.call("chmod", sys::chmod(&at, 0o750));
                    look(&at, n, "after chmod");
                    n.call("set", set(&at, flag));
                    look(&at, n, "after it is set");
                    if flag != IFlags::IMMUTABLE {
                        // Of what is immutable ext4 changes nothing else; others do.
                        let more = IFlags::NOATIME | IFlags::NODUMP;
                        n.call("all set", set(&at, more | flag));
                    }
                    look(&at, n, "after more are set");
                    n.call("clear", set(&at, IFlags::empty()));
                    look(&at, n, "after all are cleared");
                    n.call("chmod", sys::chmod(&at, 0o700));
                }
            }
        }
    });
}

/// As [`same`]. Flags that objects of the upper layer have on the disk overlayfs
/// does not take away.
fn lower_first(t: &T, fill: impl Fn(&Tree), steps: impl Fn(&Path, &mut Notes)) {
    same_from(t, &[Start::Lower, Start::Merged], &fill, &steps);
    t.better_than_overlay("it keeps the flags of upper objects");
    same_from(t, &[Start::Upper], fill, steps);
}

/// What can be done to a file with a flag.
fn use_file(dir: &Path, at: &Path, n: &mut Notes) {
    let other = dir.join("other");
    let open = |flags| sys::open(at, flags).map(drop);
    n.call("open for reading", open(OFlags::RDONLY));
    n.call("open for writing", open(OFlags::RDWR));
    n.call("open and truncate", open(OFlags::WRONLY | OFlags::TRUNC));
    n.call("open to append", open(OFlags::WRONLY | OFlags::APPEND));
    n.call("truncate", sys::truncate(at, 3));
    n.call("append", sys::append_file(at, "+"));
    n.call("chmod", sys::chmod(at, 0o640));
    n.call("chown", sys::lchown(at, 1, 1));
    n.call("set times", sys::set_times(at, (1, 1), (2, 2)));
    let now = sys::Timespec {
        tv_sec: 0,
        tv_nsec: rustix::fs::UTIME_NOW,
    };
    let now = sys::Timestamps {
        last_access: now,
        last_modification: now,
    };
    n.call("set times to now", sys::utimens(at, &now));
    n.call("set an xattr", sys::set_xattr(at, "user.x", "y"));
    n.call("set an xattr of root", sys::set_xattr(at, "trusted.x", "y"));
    n.call("remove an xattr", sys::remove_xattr(at, "user.x"));
    n.call("link", sys::link(at, &other));
    n.call("unlink the link", sys::unlink(&other));
    n.call("rename", sys::rename(at, &other));
    n.call("rename back", sys::rename(&other, at));
    n.call("rename over it", {
        sys::write_file(&other, "other").and_then(|()| sys::rename(&other, at))
    });
    n.call("unlink", sys::unlink(at));
    let _ = sys::unlink(&other);
    let left = sys::open(at, OFlags::RDONLY).is_ok();
    n.value("is there", left);
    if left {
        n.result("contents", sys::text(at));
        n.call("clear", set(at, IFlags::empty()));
        n.call("write when cleared", sys::write_file(at, "new"));
        n.call("unlink when cleared", sys::unlink(at));
    }
}

fn effect_on_files(t: &T) {
    lower_first(t, fill, |dir, n| {
        for (letter, flag) in EACH {
            let at = dir.join(format!("f-set{letter}"));
            n.at = format!("has {letter}: ");
            use_file(dir, &at, n);
            let at = dir.join(format!("f-not{letter}"));
            n.at = format!("gets {letter}: ");
            n.call("set", set(&at, flag));
            use_file(dir, &at, n);
        }
    });
}

fn use_directory(at: &Path, n: &mut Notes) {
    let inside = |name: &str| at.join(name);
    n.result("names", sys::names(at));
    n.call("create", sys::write_file(inside("new"), "x"));
    n.call("mkdir", sys::mkdir(inside("newdir"), 0o755));
    n.call("symlink", sys::symlink("x", inside("newlink")));
    n.call("change inside", sys::append_file(inside("inside"), "+"));
    n.call("chmod inside", sys::chmod(inside("inside"), 0o600));
    n.call("create in sub", sys::write_file(inside("sub/new"), "x"));
    n.call("link inside", sys::link(inside("inside"), inside("link")));
    n.call(
        "rename inside",
        sys::rename(inside("inside"), inside("moved")),
    );
    n.call("unlink inside", sys::unlink(inside("inside")));
    n.call("unlink what was moved", sys::unlink(inside("moved")));
    n.call(
        "nameless",
        sys::open_mode(at, OFlags::TMPFILE | OFlags::RDWR, 0o600),
    );
    n.call("chmod", sys::chmod(at, 0o711));
    n.call("set times", sys::set_times(at, (1, 1), (2, 2)));
    n.call("set an xattr", sys::set_xattr(at, "user.x", "y"));
    n.call("rmdir", sys::rmdir(at));
    n.call("remove sub", sys::rmdir(inside("sub")));
    n.result("names left", sys::names(at));
    n.call("clear", set(at, IFlags::empty()));
    n.call("create when cleared", sys::write_file(inside("after"), "x"));
    let _ = sys::unlink(inside("after"));
}

fn effect_on_directories(t: &T) {
    lower_first(t, fill, |dir, n| {
        for (letter, flag) in EACH {
            let at = dir.join(format!("d-set{letter}"));
            n.at = format!("has {letter}: ");
            use_directory(&at, n);
            let at = dir.join(format!("d-not{letter}"));
            n.at = format!("gets {letter}: ");
            n.call("set", set(&at, flag));
            use_directory(&at, n);
        }
    });
}

/// Who does not own an object sets nothing, and its owner only what takes no
/// capability.
fn as_users(t: &T) {
    let fill = |l: &Tree| {
        l.mode(".", 0o777);
        for (letter, _) in EACH {
            l.file(format!("mine{letter}"), "x");
            l.owner(&format!("mine{letter}"), 1000, 1000);
            l.file(format!("roots{letter}"), "x");
        }
    };
    same(t, fill, |dir, n| {
        for (letter, flag) in EACH {
            for who in ["mine", "roots"] {
                let at = dir.join(format!("{who}{letter}"));
                // Through a pipe: the child has notes of its own.
                let result = as_user(t, || set(&at, flag));
                n.value(format!("{who} {letter}"), result);
                n.result("then", get(&at));
                let _ = set(&at, IFlags::empty());
            }
        }
    });
}

/// What a call returns to user 1000: its errno, 0 if it works.
fn as_user(t: &T, call: impl FnOnce() -> sys::Res<()>) -> i32 {
    let (mut r, w) = crate::env::pipe();
    t.as_user(1000, 1000, || {
        use std::io::Write;
        let errno = call().err().map_or(0, |e| e.errno.raw_os_error());
        (&w).write_all(&errno.to_ne_bytes()).expect("pipe");
    });
    let mut errno = [0; 4];
    std::io::Read::read_exact(&mut r, &mut errno).expect("pipe");
    i32::from_ne_bytes(errno)
}

fn of_symlinks_and_special_files(t: &T) {
    let fill = |l: &Tree| {
        l.fifo("fifo").symlink("link", "fifo");
    };
    same(t, fill, |dir, n| {
        let fd = open(dir.join("fifo"));
        n.result("flags of a fifo", sys::get_flags(&fd).map(drop));
        n.call("set flags of a fifo", sys::set_flags(&fd, IFlags::NODUMP));
    });
}

/// A flag that the upper file system does not have is no reason not to copy.
fn not_known_to_the_upper(t: &T) {
    t.better_than_overlay("it cannot copy such a file up");
    let o = t
        .stack()
        .upper_in(&t.room(Fs::Tmpfs))
        .lower(|l| {
            l.file("f", "contents").file("d/g", "inside");
            for name in ["f", "d"] {
                set(&l.at(name), IFlags::SYNC | IFlags::NOATIME | IFlags::NODUMP).works();
            }
        })
        .mount();
    sys::append_file(o.m("f"), "+").works();
    sys::append_file(o.m("d/g"), "+").works();
    assert_text(o.m("f"), "contents+");
    assert_text(o.m("d/g"), "inside+");
    for name in ["f", "d"] {
        let flags = get(&o.m(name)).works();
        assert_eq!(flags, IFlags::NOATIME | IFlags::NODUMP, "{name}");
    }
}

/// What is in an immutable directory can be changed, and so copied up.
fn below_an_immutable_directory(t: &T) {
    let fill = |l: &Tree| {
        l.file("i/f", "contents").dir("i/sub").file("i/sub/g", "g");
        set(&l.at("i"), IFlags::IMMUTABLE).works();
    };
    lower_first(t, fill, |dir, n| {
        n.call("append", sys::append_file(dir.join("i/f"), "+"));
        n.call("create", sys::write_file(dir.join("i/new"), "x"));
        n.call("create below", sys::write_file(dir.join("i/sub/new"), "x"));
        n.call("unlink below", sys::unlink(dir.join("i/sub/g")));
        n.call("unlink", sys::unlink(dir.join("i/f")));
        n.result("contents", sys::text(dir.join("i/f")));
        n.result("flags", get(&dir.join("i")));
        set(&dir.join("i"), IFlags::empty()).works();
        n.call("unlink when cleared", sys::unlink(dir.join("i/f")));
    });
}

/// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR: flags in their other form, projects.
fn extended(t: &T) {
    t.better_than_overlay("its copies lose nodump");
    let fill = |l: &Tree| {
        l.file("f", "x").file("d/g", "y").file("flags", "x");
        set(&l.at("flags"), IFlags::NODUMP | IFlags::NOATIME).works();
    };
    same(t, fill, |dir, n| {
        for name in ["f", "d", "flags"] {
            let at = dir.join(name);
            n.at = format!("{name}: ");
            let look = |n: &mut Notes, what| {
                let all = sys::get_fsxattr(&open(&at));
                n.result(what, all.map(|a| (a.xflags & XFlags::KNOWN, a.projid)));
            };
            look(n, "at first");
            n.call("chmod", sys::chmod(&at, 0o711));
            look(n, "after chmod");
            n.call("set a project", sys::set_project(&open(&at), 42));
            look(n, "after a project is set");
            n.call("unknown flags", {
                let mut all = sys::get_fsxattr(&open(&at)).works();
                all.xflags |= 0x4000_0000;
                sys::set_fsxattr(&open(&at), &all)
            });
            n.call("immutable", {
                let mut all = sys::get_fsxattr(&open(&at)).works();
                all.xflags |= XFlags::IMMUTABLE;
                sys::set_fsxattr(&open(&at), &all)
            });
            look(n, "after it is immutable");
            n.call("chmod of it", sys::chmod(&at, 0o755));
            n.result("as chattr has it", get(&at));
            n.call("mutable", {
                let mut all = sys::get_fsxattr(&open(&at)).works();
                all.xflags &= !XFlags::IMMUTABLE;
                sys::set_fsxattr(&open(&at), &all)
            });
            look(n, "after it is mutable");
            n.call("chmod at last", sys::chmod(&at, 0o755));
        }
    });
}

/// A directory of a project gives it to what is made in it, and takes nothing of
/// another: what is copied up into it belongs to it.
fn project_of_the_directory(t: &T) {
    t.better_than_overlay("it cannot copy up into a directory of a project");
    // A copy is made anew where it is: not in the project of the lower file.
    let o = t
        .stack()
        .upper_in(&t.room(Fs::Xfs))
        .lower(|l| {
            l.file("d/f", pattern(20_000, 1)).file("d/sub/g", "g");
            l.symlink("d/s", "f").fifo("d/p").file("d/gone", "x");
        })
        .mount();
    let dir = open(o.m("d"));
    let mut all = sys::get_fsxattr(&dir).works();
    all.projid = 42;
    all.xflags |= XFlags::PROJINHERIT;
    sys::set_fsxattr(&dir, &all).works();
    sys::append_file(o.m("d/f"), "+").works();
    sys::append_file(o.m("d/sub/g"), "+").works();
    sys::lchown(o.m("d/s"), 1, 1).works();
    sys::chmod(o.m("d/p"), 0o600).works();
    sys::unlink(o.m("d/gone")).works();
    sys::write_file(o.m("d/gone"), "made again").works();
    sys::mkdir(o.m("d/made"), 0o755).works();
    sys::write_file(o.m("d/made/new"), "n").works();
    for name in ["d/f", "d/sub", "d/sub/g", "d/gone", "d/made", "d/made/new"] {
        let all = sys::get_fsxattr(&open(o.m(name))).works();
        assert_eq!(all.projid, 42, "{name}");
        let inherits = all.xflags & XFlags::PROJINHERIT != 0;
        assert_eq!(inherits, o.m(name).is_dir(), "{name}");
    }
    assert_text(o.m("d/sub/g"), "g+");
}

/// file_getattr(2) and file_setattr(2), which need no descriptor.
fn by_system_call(t: &T) {
    t.better_than_overlay("it knows files and directories only");
    let fill = |l: &Tree| {
        l.file("f", "x").dir("d").symlink("s", "f").fifo("p");
    };
    if let Err(e) = sys::file_getattr(&t.dir) {
        if e.errno == Errno::NOSYS {
            t.skip("the kernel has no file_getattr");
        }
    }
    same(t, fill, |dir, n| {
        for name in ["f", "d", "s", "p"] {
            let at = dir.join(name);
            n.at = format!("{name}: ");
            let flags = |a: sys::FileAttr| a.xflags & u64::from(XFlags::KNOWN);
            n.result("attributes", sys::file_getattr(&at).map(flags));
            let changed = sys::FileAttr {
                xflags: u64::from(XFlags::NODUMP),
                ..Default::default()
            };
            n.call("set", sys::file_setattr(&at, &changed));
            n.result("attributes then", sys::file_getattr(&at).map(flags));
        }
    });
}

/// FS_IOC_GETVERSION is an ioctl of some file systems; of a stacked one it is
/// not.
fn generation(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    for path in [o.m("f"), o.m("/")] {
        sys::get_version(&open(path)).map(drop).fails(Errno::NOTTY);
    }
}

/// Flags are the object's, and are there when it is mounted again.
fn after_remount(t: &T) {
    t.better_than_overlay("it keeps the flags of upper objects");
    for start in [Start::Lower, Start::Upper] {
        let lay_out = |l: &Tree| fill(&Tree::new(l.at("d")));
        let stack = t.stack();
        let o = match start {
            Start::Upper => stack.lower(|_| {}).upper(lay_out),
            _ => stack.lower(lay_out),
        }
        .mount();
        let mut wanted = Vec::new();
        for kind in ["f", "d"] {
            for (letter, flag) in EACH {
                for name in [
                    format!("d/{kind}-set{letter}"),
                    format!("d/{kind}-not{letter}"),
                ] {
                    if sys::chmod(o.m(&name), 0o750).is_ok() {
                        let _ = set(&o.m(&name), flag);
                    }
                    wanted.push((get(&o.m(&name)).works(), name));
                }
            }
        }
        o.remount();
        for (flags, name) in &wanted {
            assert_eq!(get(&o.m(name)).works(), *flags, "{name}");
            set(&o.m(name), IFlags::empty()).works();
        }
        o.remount();
        for (_, name) in &wanted {
            assert_eq!(get(&o.m(name)).works(), IFlags::empty(), "{name}");
            sys::chmod(o.m(name), 0o700).works();
        }
    }
}
