// SPDX-License-Identifier: GPL-2.0

//! Mounts that map ids: of the layers, and of the overlay itself.
//!
//! What is expected is what a plain directory shows and does that is seen through
//! such a mount.

use std::path::{Path, PathBuf};

use super::copyup::acl;
use crate::env::{user_namespace, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags};
use crate::tree::{assert_text, Tree};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

pub fn tests() -> Vec<Test> {
    vec![
        test!(lower).matrix(),
        test!(lower_different_maps),
        test!(lower_without_mapping),
        test!(upper),
        test!(overlay_itself),
        test!(overlay_itself_over_idmapped_layers),
        test!(overlay_itself_permissions),
    ]
}

/// What is owned by `from` and those after it on disk is owned by `to` and so on
/// as seen through the mount.
fn bind(t: &T, dir: &Path, maps: &[(u32, u32, u32)]) -> PathBuf {
    let at = t.new_dir("mapped");
    sys::bind_idmapped(dir, &at, &user_namespace(maps)).works();
    at
}

const USUAL: [(u32, u32, u32); 1] = [(0, 100_000, 65536)];

/// rw- for the owner, r-- for a user, `perm` for a group.
fn list(user: u32, group: u32, perm: u16) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    acl(&[
        (0x01, 6, NONE),
        (0x02, 4, user),
        (0x04, 0, NONE),
        (0x08, perm, group),
        (0x10, 6, NONE),
        (0x20, 0, NONE),
    ])
}

fn fill(l: &Tree) {
    l.file("f", "f").owner("f", 1000, 1001).mode("f", 0o640);
    l.file("suid", "x")
        .owner("suid", 1000, 1000)
        .mode("suid", 0o6755);
    l.dir("d").owner("d", 1000, 1001).mode("d", 0o2775);
    l.file("d/g", "g").owner("d/g", 1002, 1003);
    l.symlink("s", "f").owner("s", 1000, 1000);
    l.fifo("p").owner("p", 1000, 1000);
    l.file("acl", "a")
        .owner("acl", 1000, 1000)
        .xattr("acl", ACCESS, list(1234, 1235, 6));
    l.xattr("d", DEFAULT, list(1234, 1235, 6));
}

fn owners(at: &Path) -> Vec<String> {
    ["", "f", "suid", "d", "d/g", "s", "p", "acl"]
        .iter()
        .map(|n| {
            let p = if n.is_empty() { at.into() } else { at.join(n) };
            let st = sys::lstat(&p).works();
            let lists = [ACCESS, DEFAULT].map(|l| sys::xattr_opt(&p, l));
            format!(
                "{n}: {:o} {}:{} {lists:?}",
                st.st_mode, st.st_uid, st.st_gid
            )
        })
        .collect()
}

/// A lower tree, seen through a mount that maps ids.
fn mapped(t: &T, maps: &[(u32, u32, u32)]) -> PathBuf {
    let dir = t.room(t.variant.lower).join(t.fresh("plain"));
    sys::mkdir(&dir, 0o755).works();
    fill(&Tree::new(&dir));
    bind(t, &dir, maps)
}

fn lower(t: &T) {
    if t.variant.lower.is_image() {
        t.skip("the layer has to be made by hand");
    }
    if t.variant.lower == crate::env::Fs::Other {
        t.skip("one ext4 is like another");
    }
    let layer = mapped(t, &USUAL);
    let o = t.stack().lower_dir(&layer).mount();
    let before = owners(&layer);
    assert!(before[1].contains("101000:101001"), "{before:?}");
    assert_eq!(owners(&o.m("/"))[1..], before[1..]);
    let rights = || {
        t.as_user(101_000, 101_000, || {
            assert_text(o.m("f"), "f");
            drop(sys::open(o.m("f"), OFlags::RDWR).works());
        });
        t.as_user(101_234, 1, || {
            assert_text(o.m("acl"), "a");
            sys::open(o.m("acl"), OFlags::RDWR).fails(Errno::ACCESS);
        });
        t.as_user(1, 101_235, || {
            drop(sys::open(o.m("acl"), OFlags::RDWR).works());
        });
        // Those who own it on disk are nobody here.
        for (uid, gid) in [(1000, 1001), (1234, 1235)] {
            t.as_user(uid, gid, || {
                sys::open(o.m("f"), OFlags::RDONLY).fails(Errno::ACCESS);
                sys::open(o.m("acl"), OFlags::RDONLY).fails(Errno::ACCESS);
            });
        }
    };
    rights();
    // Copies have the owners that were seen.
    for n in ["f", "suid", "d", "d/g", "p", "acl"] {
        sys::set_xattr(o.m(n), "trusted.copied", "y").works();
        sys::remove_xattr(o.m(n), "trusted.copied").works();
    }
    sys::set_times(o.m("s"), (1, 1), (1, 1)).works();
    sys::set_times(o.m("/"), (1, 1), (1, 1)).works();
    assert_eq!(owners(&o.m("/"))[1..], before[1..]);
    assert_eq!(owners(&o.u("/"))[1..], before[1..]);
    rights();
    o.remount();
    assert_eq!(owners(&o.m("/"))[1..], before[1..]);
    t.as_user(101_000, 101_001, || {
        sys::write_file(o.m("d/new"), "n").works();
    });
    let st = sys::stat(o.u("d/new")).works();
    assert_eq!((st.st_uid, st.st_gid), (101_000, 101_001));
    assert_eq!(
        sys::get_xattr(o.u("d/new"), ACCESS).works().len(),
        list(0, 0, 0).len()
    );
}

fn lower_different_maps(t: &T) {
    let a = mapped(t, &USUAL);
    let b = mapped(t, &[(0, 200_000, 65536)]);
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    Tree::new(&plain).file("only", "o").owner("only", 7, 8);
    sys::unlink(a.join("f")).works();
    sys::unlink(a.join("d/g")).works();
    sys::unlink(b.join("d/g")).works();
    let o = t
        .stack()
        .lower_dir(&a)
        .lower_dir(&b)
        .lower_dir(&plain)
        .mount();
    let owner = |n: &str| {
        let st = sys::stat(o.m(n)).works();
        (st.st_uid, st.st_gid)
    };
    for _ in 0..2 {
        assert_eq!(owner("acl"), (101_000, 101_000));
        assert_eq!(owner("d"), (101_000, 101_001));
        assert_eq!(owner("f"), (201_000, 201_001));
        assert_eq!(owner("d/g"), (1002, 1003));
        assert_eq!(owner("only"), (7, 8));
        for n in ["acl", "f", "d/g", "only"] {
            sys::append_file(o.m(n), "").works();
        }
    }
}

/// Owners that have no mapping are nobody, and what is theirs is not copied up.
fn lower_without_mapping(t: &T) {
    let layer = mapped(t, &[(0, 0, 1001)]);
    let o = t.stack().lowers_not_compared().lower_dir(&layer).mount();
    assert_eq!(owners(&o.m("/")), owners(&layer));
    assert_eq!(sys::stat(o.m("d/g")).works().st_uid, 65534);
    let tries = |at: &Path| {
        let how = |r: sys::Res<()>| r.err().map(|e| sys::errno_name(e.errno));
        [
            how(sys::read_file(at.join("d/g")).map(drop)),
            how(sys::read_file(at.join("f")).map(drop)),
            how(sys::chmod(at.join("d/g"), 0o600)),
            how(sys::open(at.join("d/g"), OFlags::RDWR).map(drop)),
            how(sys::set_xattr(at.join("d/g"), "user.x", "y")),
            how(sys::rename(at.join("d/g"), at.join("d/h"))),
            how(sys::unlink(at.join("d/g"))),
        ]
    };
    assert_eq!(tries(&o.m("/")), tries(&layer));
    // Where a plain tree takes a new owner: here it has to be copied up before.
    sys::lchown(o.m("d/g"), 0, 0).fails(Errno::OVERFLOW);
    assert!(!sys::exists(o.u("d")));
}

/// The upper layer, too; the mounter has a mapping.
fn upper(t: &T) {
    let maps = [(0, 0, 1), (1000, 5000, 100)];
    let on_disk = t.new_dir("disk");
    Tree::new(&on_disk).dir("upper").dir("work").dir("plain");
    let seen = bind(t, &on_disk, &maps);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "f").owner("f", 5001, 5002).mode("f", 0o600);
            l.xattr("f", ACCESS, list(5003, 5004, 4));
            l.dir("d").mode("d", 0o777);
            l.file("root", "r").file("other", "o").owner("other", 9, 9);
        })
        .upper_in(&seen)
        .mount();
    t.as_user(5001, 5001, || {
        sys::append_file(o.m("f"), "+").works();
        sys::write_file(o.m("d/new"), "n").works();
        sys::mkdir(o.m("d/sub"), 0o755).works();
        sys::symlink("x", o.m("d/link")).works();
    });
    t.as_user(6000, 6000, || {
        sys::write_file(o.m("d/nobody"), "n").fails(Errno::OVERFLOW);
    });
    let on = |n: &str| {
        let st = sys::lstat(on_disk.join("upper").join(n)).works();
        (st.st_uid, st.st_gid)
    };
    let shown = |n: &str| {
        let st = sys::lstat(o.m(n)).works();
        (st.st_uid, st.st_gid)
    };
    for _ in 0..2 {
        assert_eq!((on("f"), shown("f")), ((1001, 1002), (5001, 5002)));
        assert_eq!(
            sys::get_xattr(on_disk.join("upper/f"), ACCESS).works(),
            list(1003, 1004, 4)
        );
        assert_eq!(
            sys::get_xattr(o.m("f"), ACCESS).works(),
            list(5003, 5004, 4)
        );
        for n in ["d/new", "d/sub", "d/link"] {
            assert_eq!((on(n), shown(n)), ((1001, 1001), (5001, 5001)), "{n}");
        }
        t.as_user(5003, 1, || assert_text(o.m("f"), "f+"));
        o.remount();
    }
    sys::lchown(o.m("f"), 5010, 5011).works();
    assert_eq!(on("f"), (1010, 1011));
    sys::lchown(o.m("f"), 1010, 1011).fails(Errno::OVERFLOW);
    sys::chmod(o.m("root"), 0o600).works();
    assert_eq!(on("root"), (0, 0));
    sys::chmod(o.m("other"), 0o600).fails(Errno::OVERFLOW);
}

/// Mounts the stack at a place of its own, mapped.
fn mount_mapped(t: &T, o: &Overlay, maps: &[(u32, u32, u32)]) -> PathBuf {
    let at = t.new_dir("overlay");
    let fc = o.context().works();
    fc.create().works();
    fc.attach_idmapped(&at, &user_namespace(maps)).works();
    at
}

/// All that names an owner, in `at`; what each call gave, and what is there.
fn operate(t: &T, at: &Path) -> Vec<String> {
    let mut done = owners(at);
    let results = std::sync::Mutex::new(Vec::new());
    let tell = |what: &str, r: sys::Res<()>| {
        let how = r.err().map(|e| sys::errno_name(e.errno));
        results
            .lock()
            .expect("results")
            .push(format!("{what}: {how:?}"));
    };
    tell("chown", sys::lchown(at.join("f"), 101_010, 101_011));
    tell("chown outside", sys::lchown(at.join("f"), 1010, 1011));
    tell("chown link", sys::lchown(at.join("s"), 101_010, 101_011));
    tell("chmod", sys::chmod(at.join("suid"), 0o4711));
    tell(
        "acl",
        sys::set_xattr(at.join("p"), ACCESS, list(101_001, 101_002, 4)),
    );
    tell(
        "acl outside",
        sys::set_xattr(at.join("p"), ACCESS, list(1001, 1002, 4)),
    );
    tell("root creates", sys::mkdir(at.join("root"), 0o755));
    let as_user = |uid: u32, gid: u32, f: &dyn Fn()| {
        t.as_user(uid, gid, f);
    };
    as_user(101_000, 101_001, &|| {
        sys::write_file(at.join("d/new"), "n").works();
        sys::mkdir(at.join("d/sub"), 0o755).works();
        sys::symlink("x", at.join("d/link")).works();
        sys::chmod(at.join("suid"), 0o6755).works();
        sys::link(at.join("acl"), at.join("d/acl2")).works();
        let tmp = OFlags::TMPFILE | OFlags::RDWR;
        let fd = sys::open_mode(at.join("d"), tmp, 0o640).works();
        sys::link_fd(&fd, at.join("d/tmp")).works();
        sys::rename(at.join("d/g"), at.join("d/h")).works();
        sys::set_xattr(at.join("d/new"), ACCESS, list(101_020, 101_021, 4)).works();
    });
    as_user(1000, 1001, &|| {
        sys::write_file(at.join("d/nobody"), "n").fails(Errno::OVERFLOW);
        sys::chmod(at.join("suid"), 0o755).fails(Errno::PERM);
        sys::open(at.join("acl"), OFlags::RDONLY).fails(Errno::ACCESS);
    });
    done.extend(results.into_inner().expect("results"));
    done.extend(owners_after(at));
    done
}

fn owners_after(at: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for n in [
        "f", "suid", "s", "p", "d/new", "d/sub", "d/link", "d/acl2", "d/tmp", "d/h",
    ] {
        let st = sys::lstat(at.join(n)).works();
        let lists = [ACCESS, DEFAULT].map(|l| sys::xattr_opt(at.join(n), l));
        all.push(format!(
            "{n}: {:o} {}:{} {lists:?}",
            st.st_mode, st.st_uid, st.st_gid
        ));
    }
    all
}

fn overlay_itself(t: &T) {
    let disk = t.new_dir("disk");
    fill(&Tree::new(&disk));
    let plain = bind(t, &disk, &USUAL);
    let o = t.stack().lower(fill).prepare();
    let at = mount_mapped(t, &o, &USUAL);
    assert_eq!(operate(t, &at), operate(t, &plain));
    // The layer has the owners as they are on disk.
    assert_eq!(owners_after(&o.u("/")), owners_after(&disk));
    sys::umount(&at).works();
    sys::umount(&plain).works();
    o.mount().works();
    assert_eq!(owners_after(&o.m("/")), owners_after(&disk));
}

/// First by the layer's map, then by that of the overlay.
fn overlay_itself_over_idmapped_layers(t: &T) {
    let disk = t.new_dir("disk");
    fill(&Tree::new(&disk));
    let layer = bind(t, &disk, &[(0, 300_000, 65536)]);
    let o = t.stack().lower_dir(&layer).prepare();
    let at = mount_mapped(t, &o, &[(0, 0, 1), (300_000, 100_000, 65536)]);
    let through = owners(&at);
    assert!(through[1].contains("101000:101001"), "{through:?}");
    assert!(through[7].contains("101000:101000"), "{through:?}");
    assert_eq!(
        sys::get_xattr(at.join("acl"), ACCESS).works(),
        list(101_234, 101_235, 6)
    );
    t.as_user(101_234, 1, || assert_text(at.join("acl"), "a"));
    t.as_user(101_000, 101_001, || {
        sys::append_file(at.join("f"), "+").works();
        sys::write_file(at.join("d/new"), "n").works();
    });
    let st = sys::stat(o.u("f")).works();
    assert_eq!((st.st_uid, st.st_gid), (301_000, 301_001));
    let st = sys::stat(o.u("d/new")).works();
    assert_eq!((st.st_uid, st.st_gid), (301_000, 301_001));
    assert_eq!(owners(&at)[1..], through[1..]);
    sys::umount(&at).works();
}

/// Set-id bits, sticky directories and groups, seen through the map.
fn overlay_itself_permissions(t: &T) {
    let fill = |l: &Tree| {
        l.dir("tmp").mode("tmp", 0o1777);
        l.file("tmp/mine", "m").owner("tmp/mine", 1000, 1000);
        l.file("tmp/yours", "y").owner("tmp/yours", 1001, 1001);
        l.dir("group").owner("group", 0, 50).mode("group", 0o2777);
        l.file("w", "x").owner("w", 1000, 50).mode("w", 0o6777);
    };
    let disk = t.new_dir("disk");
    fill(&Tree::new(&disk));
    let plain = bind(t, &disk, &USUAL);
    let o = t.stack().lower(fill).prepare();
    let at = mount_mapped(t, &o, &USUAL);
    let run = |at: &Path| {
        t.as_user(101_000, 101_000, || {
            sys::unlink(at.join("tmp/yours")).fails(Errno::PERM);
            sys::rename(at.join("tmp/mine"), at.join("tmp/yours")).fails(Errno::PERM);
            sys::rename(at.join("tmp/mine"), at.join("tmp/mine2")).works();
            sys::write_file(at.join("group/f"), "x").works();
            sys::mkdir(at.join("group/sub"), 0o755).works();
            let create = OFlags::CREATE | OFlags::RDWR;
            drop(sys::open_mode(at.join("group/sgid"), create, 0o2775).works());
            sys::chmod(at.join("group/f"), 0o2755).works();
        });
        t.as_user(101_002, 101_002, || {
            sys::append_file(at.join("w"), "+").works();
            sys::chmod(at.join("w"), 0o777).fails(Errno::PERM);
        });
        let all = ["tmp/mine2", "group/f", "group/sub", "group/sgid", "w"];
        all.map(|n| {
            let st = sys::stat(at.join(n)).works();
            format!("{n} {:o} {}:{}", st.st_mode, st.st_uid, st.st_gid)
        })
    };
    assert_eq!(run(&at), run(&plain));
    sys::umount(&at).works();
    sys::umount(&plain).works();
}
