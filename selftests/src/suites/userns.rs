// SPDX-License-Identifier: GPL-2.0

//! Private xattrs in the `user.` namespace, and mounts by those who are root in
//! a user namespace of their own only.

use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use rustix::thread::{unshare_unsafe, UnshareFlags};

use crate::env::T;
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, FsContext, OFlags, RenameFlags, Res};
use crate::tree::{assert_names, assert_text, assert_whiteout, Tree};

const OPAQUE: &str = "user.overlay.opaque";

pub fn tests() -> Vec<Test> {
    vec![
        test!(marks_are_user_xattrs),
        test!(marks_of_the_other_kind_mean_nothing),
        test!(with_overlay_in_turns),
        test!(rootless),
        test!(rootless_needs_userxattr),
        test!(rootless_layers_of_others),
    ]
}

fn marks_are_user_xattrs(t: &T) {
    let o = t
        .stack()
        .flag("userxattr")
        .lower(|l| {
            l.file("d/f", "x").file("e/f", "x").file("x/gone", "");
            l.xattr("x/gone", "user.overlay.whiteout", "y");
            l.xattr("x", OPAQUE, "x").file("x/there", "");
            l.symlink("s", "d/f").fifo("p");
            l.dir("low")
                .xattr("low", "user.overlay.overlay.opaque", "y");
        })
        .lower(|l| {
            l.file("x/gone", "below");
        })
        .mount();
    assert_names(o.m("x"), &["there"]);
    sys::stat(o.m("x/gone")).fails(Errno::NOENT);
    std::fs::remove_dir_all(o.m("e")).expect("rm -r e");
    sys::mkdir(o.m("e"), 0o755).works();
    assert_eq!(sys::get_xattr(o.u("e"), OPAQUE).works(), b"y");
    sys::get_xattr(o.u("e"), crate::tree::OPAQUE).fails(Errno::NODATA);
    assert_names(o.m("e"), &[]);
    for n in ["d/f", "p"] {
        sys::chmod(o.m(n), 0o600).works();
    }
    sys::lchown(o.m("s"), 1, 1).works();
    sys::rename(o.m("p"), o.m("e/p")).works();
    for n in ["/", "d", "d/f", "e", "e/p", "s"] {
        let names = sys::list_xattr(o.m(n)).works();
        assert!(names.is_empty(), "{n} shows {names:?}");
        let names = sys::list_xattr(o.u(n)).works();
        let trusted = names.iter().any(|n| n.starts_with("trusted."));
        assert!(!trusted, "{n} has {names:?}");
    }
    // Escaped for a stack on this one.
    assert_eq!(sys::get_xattr(o.m("low"), OPAQUE).works(), b"y");
    sys::set_xattr(o.m("d"), OPAQUE, "y").works();
    assert_eq!(sys::list_xattr(o.m("d")).works(), [OPAQUE]);
    let stored = sys::get_xattr(o.u("d"), "user.overlay.overlay.opaque").works();
    assert_eq!(stored, b"y");
    o.remount();
    assert_names(o.m("/"), &["d", "e", "low", "s", "x"]);
    assert_names(o.m("e"), &["p"]);
    assert_names(o.m("d"), &["f"]);
    let mountinfo = sys::text("/proc/self/mountinfo").works();
    let at = o.m("/").display().to_string();
    let line = mountinfo.lines().find(|l| l.contains(&at)).expect("mount");
    assert!(line.contains(",userxattr"), "{line}");
}

/// Marks of the one kind are seen as what they are in mounts of the other.
fn marks_of_the_other_kind_mean_nothing(t: &T) {
    let o = t
        .stack()
        .flag("userxattr")
        .lower(|l| {
            l.opaque("d").file("d/a", "a");
        })
        .lower(|l| {
            l.file("d/b", "b");
        })
        .mount();
    assert_names(o.m("d"), &["a", "b"]);
    let shown = sys::get_xattr(o.m("d"), crate::tree::OPAQUE).works();
    assert_eq!(shown, b"y");
    o.umount();
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").xattr("d", OPAQUE, "y").file("d/a", "a");
        })
        .lower(|l| {
            l.file("d/b", "b");
        })
        .mount();
    assert_names(o.m("d"), &["a", "b"]);
    assert_eq!(sys::get_xattr(o.m("d"), OPAQUE).works(), b"y");
}

/// Each reads what the other has written.
fn with_overlay_in_turns(t: &T) {
    let o = t
        .stack()
        .flag("userxattr")
        .lower(|l| {
            for n in ["a", "b", "c"] {
                l.file(format!("{n}/f"), n).file(format!("{n}/g"), n);
            }
        })
        .mount();
    for (n, fstype) in [("a", "overlay"), ("b", t.fstype()), ("c", "overlay")] {
        std::fs::remove_dir_all(o.m(n)).expect("rm -r");
        sys::mkdir(o.m(n), 0o755).works();
        sys::write_file(o.m(n).join("new"), n).works();
        o.remount_as(fstype);
        for n in ["a", "b", "c"] {
            if sys::exists(o.m(n).join("new")) {
                assert_names(o.m(n), &["new"]);
            } else {
                assert_names(o.m(n), &["f", "g"]);
            }
        }
    }
}

/// Makes the user root of a namespace with nobody else in it.
pub(super) fn become_root_alone(uid: u32, gid: u32) {
    // Who changes ids is no longer the owner of his files in /proc.
    // SAFETY: takes only numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
    // SAFETY: namespaces have nothing to do with memory or descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }
        .expect("a user namespace");
    sys::write_file("/proc/self/setgroups", "deny").works();
    sys::write_file("/proc/self/uid_map", format!("0 {uid} 1")).works();
    sys::write_file("/proc/self/gid_map", format!("0 {gid} 1")).works();
}

/// As the user 1000, who is root in a namespace. Returns the directory that was his.
pub(super) fn rootless_child(t: &T, f: impl FnOnce(&Path)) -> PathBuf {
    if sys::text("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() == "0") {
        t.skip("the kernel allows no user namespaces");
    }
    let at = t.new_dir("rootless");
    sys::lchown(&at, 1000, 1000).works();
    sys::chmod(&t.dir, 0o755).works();
    t.as_user(1000, 1000, || {
        become_root_alone(1000, 1000);
        f(&at);
    });
    at
}

pub(super) fn mount_in(t: &T, at: &Path, lower: &[&str], flags: &[&str]) -> Res<FsContext> {
    let fc = FsContext::open(t.fstype())?;
    for l in lower {
        fc.string("lowerdir+", at.join(l))?;
    }
    if at.join("u").exists() {
        fc.string("upperdir", at.join("u"))?;
        fc.string("workdir", at.join("w"))?;
    }
    for flag in flags {
        fc.flag(flag)?;
    }
    fc.create()?;
    fc.attach(&at.join("m"), false)?;
    Ok(fc)
}

fn rootless(t: &T) {
    for on_tmpfs in [true, false] {
        rootless_child(t, |at| {
            if on_tmpfs {
                sys::mount("none", at, "tmpfs", MountFlags::empty(), b"").works();
            }
            Tree::new(at).dir("u").dir("w").dir("m");
            Tree::new(at.join("l1"))
                .file("d/a", "a")
                .file("d/b", "b")
                .symlink("s", "d/a")
                .fifo("p");
            Tree::new(at.join("l2")).file("d/c", "c").file("e/f", "f");
            let fc = mount_in(t, at, &["l1", "l2"], &["userxattr"]).works();
            let m = at.join("m");
            assert_names(m.join("d"), &["a", "b", "c"]);
            assert_eq!(sys::stat(m.join("d/a")).works().st_uid, 0);
            sys::append_file(m.join("d/a"), "+").works();
            sys::unlink(m.join("d/b")).works();
            assert_whiteout(at.join("u/d/b"));
            std::fs::remove_dir_all(m.join("e")).expect("rm -r e");
            sys::mkdir(m.join("e"), 0o755).works();
            assert_eq!(sys::get_xattr(at.join("u/e"), OPAQUE).works(), b"y");
            sys::rename(m.join("d/c"), m.join("e/c")).works();
            sys::rename_with(m.join("s"), m.join("p"), RenameFlags::EXCHANGE).works();
            sys::set_xattr(m.join("d/a"), "user.x", "y").works();
            sys::set_xattr(m.join("d/a"), "trusted.x", "y").fails(Errno::PERM);
            // Others have no mapping here.
            sys::lchown(m.join("d/a"), 1, 1).fails(Errno::INVAL);
            let null = sys::mknod(m.join("null"), sys::FileType::CharacterDevice, 0o666, 0x103);
            null.fails(Errno::PERM);
            let tmp = OFlags::TMPFILE | OFlags::RDWR;
            let fd = sys::open_mode(m.join("d"), tmp, 0o600).works();
            sys::link_fd(&fd, m.join("d/b")).works();
            drop((fd, fc));
            sys::umount(&m).works();
            let fc = mount_in(t, at, &["l1", "l2"], &["userxattr"]).works();
            assert_names(m.join("d"), &["a", "b"]);
            assert_text(m.join("d/a"), "a+");
            assert_names(m.join("e"), &["c"]);
            drop(fc);
            sys::umount(&m).works();
            if on_tmpfs {
                sys::umount(at).works();
            }
        });
    }
}

/// The rule: marks that the mounter cannot read would hide nothing.
fn rootless_needs_userxattr(t: &T) {
    t.better_than_overlay("it mounts, and does not see trusted.overlay.* marks");
    rootless_child(t, |at| {
        Tree::new(at).dir("l1").dir("l2").dir("m");
        let refused = mount_in(t, at, &["l1", "l2"], &[]).map(drop);
        let said = format!("{refused:?}");
        refused.fails(Errno::PERM);
        assert!(said.contains("userxattr"), "{said}");
        Tree::new(at).dir("u").dir("w");
        mount_in(t, at, &["l1"], &[]).map(drop).fails(Errno::PERM);
        drop(mount_in(t, at, &["l1"], &["userxattr"]).works());
        sys::umount(&at.join("m")).works();
    });
}

/// Nobody gets more rights to a layer than he has.
fn rootless_layers_of_others(t: &T) {
    let layer = t.new_dir("layer");
    Tree::new(&layer)
        .file("open", "o")
        .file("secret", "s")
        .mode("secret", 0o600)
        .file("door/f", "f")
        .mode("door", 0o700)
        .file("hatch/hidden", "f")
        .mode("hatch", 0o700)
        .dir("hollow")
        .mode("hollow", 0o700)
        .file("look/f", "f")
        .node("look/null", sys::FileType::CharacterDevice, 0x103)
        .mode("look", 0o744)
        .file("suid", "x")
        .mode("suid", 0o4755)
        .link("suid", "suid-too")
        .file("suid2", "x")
        .mode("suid2", 0o4777);
    rootless_child(t, |at| {
        // What is his own is merged with what he may not list.
        let own = ["hatch", "hollow"];
        Tree::new(at)
            .dir("u/hatch")
            .dir("u/hollow")
            .dir("w")
            .dir("m");
        let fc = FsContext::open(t.fstype()).works();
        fc.string("lowerdir+", &layer).works();
        fc.string("upperdir", at.join("u")).works();
        fc.string("workdir", at.join("w")).works();
        fc.flag("userxattr").works();
        fc.create().works();
        let m = at.join("m");
        fc.attach(&m, false).works();
        assert_text(m.join("open"), "o");
        sys::open(m.join("secret"), OFlags::RDONLY).fails(Errno::ACCESS);
        sys::names(m.join("door")).map(drop).fails(Errno::ACCESS);
        for n in own {
            sys::names(m.join(n)).map(drop).fails(Errno::ACCESS);
            // Nor whether there is anything in it.
            sys::rmdir(m.join(n)).fails(Errno::ACCESS);
            sys::mkdir(m.join("made"), 0o755).works();
            sys::rename(m.join("made"), m.join(n)).fails(Errno::ACCESS);
            sys::rmdir(m.join("made")).works();
        }
        // What cannot be looked at is shown, and the rest with it.
        assert_names(m.join("look"), &["f", "null"]);
        // They are nobody's here: to copy them up is to give them an owner.
        let copied = sys::append_file(m.join("open"), "+");
        copied.fails_any(&[Errno::ACCESS, Errno::OVERFLOW]);
        sys::chmod(m.join("suid"), 0o777).fails_any(&[Errno::PERM, Errno::OVERFLOW]);
        let write = sys::open(m.join("suid2"), OFlags::WRONLY).map(drop);
        write.fails(Errno::OVERFLOW);
        sys::rename(m.join("suid"), m.join("x")).fails(Errno::OVERFLOW);
        assert_names(at.join("u"), &own);
        drop(fc);
        sys::umount(&m).works();
        // A work directory of somebody else is none.
        let fc = FsContext::open(t.fstype()).works();
        fc.string("lowerdir+", &layer).works();
        fc.string("upperdir", &layer).works();
        fc.string("workdir", at.join("w")).works();
        fc.flag("userxattr").works();
        let refused = fc.create();
        assert!(refused.is_err(), "a layer of others is written to");
    });
}
