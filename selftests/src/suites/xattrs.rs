// SPDX-License-Identifier: GPL-2.0

//! Extended attributes and access control lists: sizes and limits, stacks on
//! stacks, what new objects inherit. Held against a plain directory.

use std::path::{Path, PathBuf};

use super::copyup::acl;
use crate::env::T;
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, FileType, OFlags, XattrFlags};
use crate::tree::{assert_names, assert_text, Tree, OPAQUE};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

pub fn tests() -> Vec<Test> {
    vec![
        test!(sizes_and_limits).matrix(),
        test!(many_names),
        test!(create_and_replace),
        test!(kinds_of_objects),
        test!(nested_rovl_on_rovl),
        test!(nested_rovl_on_overlay),
        test!(nested_overlay_on_rovl),
        test!(nested_twice),
        test!(inherited_lists).matrix().not_on(&NO_LISTS),
        test!(umask_and_lists),
        test!(sticky_and_setgid_inherited),
    ]
}

/// File systems on which user xattrs or lists are not to be had as here.
const NO_LISTS: [crate::env::Fs; 2] = [crate::env::Fs::Erofs, crate::env::Fs::Squashfs];

fn how<V>(r: sys::Res<V>) -> Option<String> {
    r.err().map(|e| sys::errno_name(e.errno))
}

fn fill(l: &Tree) {
    l.file("f", "x").xattr("f", "user.a", "value");
    l.xattr("f", "trusted.b", "0123456789")
        .xattr("f", "security.c", "c");
    l.dir("d").xattr("d", "user.a", "");
}

/// A lower object, the same copied up, and in a plain directory.
fn sizes_and_limits(t: &T) {
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    let o = t.stack().lower(fill).mount();
    let copied = t.stack().lower(fill).mount();
    for n in ["f", "d"] {
        sys::chmod(copied.m(n), 0o755).works();
    }
    let read = |at: &Path| {
        let f = at.join("f");
        let long = format!("user.{}", "n".repeat(251));
        let mut done = Vec::new();
        for (name, size) in [
            ("user.a", 0),
            ("user.a", 4),
            ("user.a", 5),
            ("user.a", 6),
            ("trusted.b", 9),
            ("trusted.b", 10),
            ("user.none", 10),
            ("user.", 10),
            ("nonsense.x", 10),
            (long.as_str(), 10),
        ] {
            let r = sys::get_xattr_into(&f, name, size);
            done.push(format!(
                "get {name} {size}: {:?} {:?}",
                r.clone().ok(),
                how(r)
            ));
        }
        let full = sys::list_xattr_into(&f, 0).works();
        for size in [1, full - 1, full, full + 1] {
            let r = sys::list_xattr_into(&f, size);
            done.push(format!("list {size}: {:?} {:?}", r.clone().ok(), how(r)));
        }
        done.push(format!("{:?}", sys::list_xattr(&f).works()));
        done.push(format!("{:?}", sys::list_xattr(at.join("d")).works()));
        done
    };
    let expected = read(&plain);
    assert_eq!(read(&o.m("/")), expected, "lower");
    assert_eq!(read(&copied.m("/")), expected, "copied up");
    let write = |at: &Path| {
        let f = at.join("f");
        let mut done = Vec::new();
        for (name, len) in [
            ("user.empty", 0),
            ("user.big", 1000),
            ("user.too_big", 65537),
            ("user.", 1),
            ("", 1),
            ("nonsense.x", 1),
            ("trusted.big", 1000),
        ] {
            let value = vec![b'v'; len];
            let r = sys::set_xattr(&f, name, &value);
            done.push(format!("set {name} {len}: {:?}", how(r)));
        }
        for len in [250, 251] {
            let name = format!("user.{}", "n".repeat(len));
            done.push(format!("{len}: {:?}", how(sys::set_xattr(&f, &name, "v"))));
            done.push(format!("{len}: {:?}", how(sys::remove_xattr(&f, &name))));
        }
        done.push(format!("{:?}", how(sys::remove_xattr(&f, "user.none"))));
        done.push(format!("{:?}", how(sys::remove_xattr(&f, "user.a"))));
        done.push(format!("{:?}", sys::list_xattr(&f).works()));
        done
    };
    let expected = write(&plain);
    assert_eq!(write(&o.m("/")), expected, "lower");
    assert_eq!(write(&copied.m("/")), expected, "copied up");
    // A private name gets longer on disk.
    let name = format!("trusted.overlay.{}", "n".repeat(239));
    sys::set_xattr(o.m("f"), &name, "v").fails(Errno::OPNOTSUPP);
    sys::remove_xattr(o.m("f"), &name).fails(Errno::OPNOTSUPP);
    sys::get_xattr(o.m("f"), &name).fails(Errno::OPNOTSUPP);
    let name = format!("trusted.overlay.{}", "n".repeat(231));
    sys::set_xattr(o.m("f"), &name, "v").works();
    assert_eq!(sys::get_xattr(o.m("f"), &name).works(), b"v");
}

fn many_names(t: &T) {
    let name = |i: usize| format!("user.name_number_{i:03}");
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
            for i in 0..60 {
                l.xattr("f", &name(i), i.to_string());
            }
        })
        .mount();
    let all: Vec<String> = (0..60).map(name).collect();
    assert_eq!(sys::list_xattr(o.m("f")).works(), all);
    sys::append_file(o.m("f"), "+").works();
    assert_eq!(sys::list_xattr(o.m("f")).works(), all);
    for i in 0..60 {
        let value = sys::get_xattr(o.m("f"), &name(i)).works();
        assert_eq!(value, i.to_string().as_bytes());
        if i % 2 == 0 {
            sys::remove_xattr(o.m("f"), &name(i)).works();
        }
    }
    assert_eq!(sys::list_xattr(o.m("f")).works().len(), 30);
}

fn create_and_replace(t: &T) {
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    let o = t.stack().lower(fill).mount();
    let run = |at: &Path| {
        let mut done = Vec::new();
        for n in ["f", "d"] {
            for (name, flags) in [
                ("user.a", XattrFlags::CREATE),
                ("user.new", XattrFlags::REPLACE),
                ("user.a", XattrFlags::REPLACE),
                ("user.new", XattrFlags::CREATE),
                ("user.new", XattrFlags::CREATE),
                ("user.new", XattrFlags::REPLACE),
            ] {
                let r = sys::set_xattr_flags(at.join(n), name, b"v", flags);
                done.push(format!("{n} {name} {flags:?}: {:?}", how(r)));
            }
            let all = sys::list_xattr(at.join(n)).works();
            done.push(format!("{all:?}"));
        }
        done
    };
    assert_eq!(run(&o.m("/")), run(&plain));
}

/// Which kinds of objects have which kinds of attributes.
fn kinds_of_objects(t: &T) {
    let make = |l: &Tree| {
        l.file("f", "x").dir("d").symlink("s", "f").fifo("p");
        l.socket("sock");
        l.node("null", FileType::CharacterDevice, 0x103);
    };
    let plain = t.new_dir("plain");
    make(&Tree::new(&plain));
    let o = t.stack().lower(make).mount();
    let run = |at: &Path| {
        let mut done = Vec::new();
        for n in ["f", "d", "s", "p", "sock", "null"] {
            for name in [
                "user.x",
                "trusted.x",
                "security.x",
                "system.x",
                ACCESS,
                DEFAULT,
            ] {
                let r = sys::set_xattr(at.join(n), name, "v");
                done.push(format!("set {n} {name}: {:?}", how(r)));
                let r = sys::get_xattr(at.join(n), name);
                done.push(format!("get {n} {name}: {:?}", how(r)));
            }
            let r = sys::list_xattr(at.join(n)).works();
            done.push(format!("{n}: {r:?}"));
        }
        done
    };
    assert_eq!(run(&o.m("/")), run(&plain));
}

/// A stack of `outer` whose lower layer is in a mount of `inner`, which has
/// marks for it that are escaped.
fn nested(t: &T, inner_type: &str, outer_type: &str) {
    let inner = t
        .stack()
        .lower(|l| {
            l.file("d/keep", "k").file("d/gone", "").file("d/empty", "");
            l.xattr("d/gone", "trusted.overlay.overlay.whiteout", "y");
            l.xattr("d", "trusted.overlay.overlay.opaque", "x");
            l.file("o/top", "t");
            l.xattr("o", "trusted.overlay.overlay.opaque", "y");
            l.file("x", "x")
                .xattr("x", "trusted.overlay.overlay.mine", "deep");
            l.xattr("x", "user.x", "u").xattr("x", "trusted.x", "t");
        })
        .prepare();
    inner.set_fstype(inner_type);
    inner.mount().works();
    // Made through the mount, they are as good.
    sys::mkdir(inner.m("made"), 0o755).works();
    sys::set_xattr(inner.m("made"), OPAQUE, "y").works();
    sys::write_file(inner.m("made/top"), "t").works();
    assert_names(inner.m("d"), &["empty", "gone", "keep"]);
    assert_eq!(sys::get_xattr(inner.m("o"), OPAQUE).works(), b"y");
    let bottom = |l: &Tree| {
        l.file("d/gone", "below").file("d/below", "b");
        l.file("o/below", "b").file("made/below", "b");
    };
    let outer = t
        .stack()
        .lowers_not_compared()
        .lower_dir(inner.m("/"))
        .lower(bottom)
        .prepare();
    outer.set_fstype(outer_type);
    outer.mount().works();
    let check = |outer: &crate::stack::Overlay| {
        assert_names(outer.m("d"), &["below", "empty", "keep"]);
        sys::stat(outer.m("d/gone")).fails(Errno::NOENT);
        assert_names(outer.m("o"), &["top"]);
        assert_names(outer.m("made"), &["top"]);
        for n in ["d", "o", "made"] {
            let shown = sys::list_xattr(outer.m(n)).works();
            assert!(shown.is_empty(), "{n} shows {shown:?}");
        }
        assert_eq!(
            sys::list_xattr(outer.m("x")).works(),
            ["trusted.x", "user.x"]
        );
    };
    check(&outer);
    sys::append_file(outer.m("d/keep"), "+").works();
    sys::append_file(outer.m("x"), "+").works();
    sys::unlink(outer.m("d/below")).works();
    sys::write_file(outer.m("d/below"), "again").works();
    sys::chmod(outer.m("o"), 0o700).works();
    check(&outer);
    outer.remount();
    check(&outer);
    assert_text(outer.m("d/keep"), "k+");
    assert_text(inner.m("d/keep"), "k");
    outer.umount();
}

fn nested_rovl_on_rovl(t: &T) {
    nested(t, t.fstype(), t.fstype());
}

fn nested_rovl_on_overlay(t: &T) {
    nested(t, "overlay", t.fstype());
}

fn nested_overlay_on_rovl(t: &T) {
    nested(t, t.fstype(), "overlay");
}

/// One prefix goes with each mount.
fn nested_twice(t: &T) {
    let inner = t
        .stack()
        .lower(|l| {
            l.dir("d")
                .xattr("d", "trusted.overlay.overlay.overlay.opaque", "y");
        })
        .mount();
    let name = "trusted.overlay.overlay.opaque";
    assert_eq!(sys::list_xattr(inner.m("d")).works(), [name]);
    let outer = t
        .stack()
        .lowers_not_compared()
        .lower_dir(inner.m("/"))
        .mount();
    assert_eq!(sys::list_xattr(outer.m("d")).works(), [OPAQUE]);
    assert_eq!(sys::get_xattr(outer.m("d"), OPAQUE).works(), b"y");
    sys::set_xattr(outer.m("d"), name, "z").works();
    let deep = "trusted.overlay.overlay.overlay.opaque";
    assert_eq!(sys::get_xattr(outer.u("d"), deep).works(), b"z");
    outer.umount();
}

/// rwx for the owner and user 1234, r-x for the group, nothing for others.
fn list() -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    acl(&[
        (0x01, 7, NONE),
        (0x02, 7, 1234),
        (0x04, 5, NONE),
        (0x10, 7, NONE),
        (0x20, 0, NONE),
    ])
}

/// Makes one object of each kind in `at`, each with two modes, and tells what
/// they have got.
fn make_all(at: &Path) -> Vec<String> {
    let mut made: Vec<PathBuf> = Vec::new();
    for mode in [0o777, 0o644] {
        let name = |kind: &str| at.join(format!("{kind}{mode:o}"));
        let create = OFlags::CREATE | OFlags::RDWR;
        drop(sys::open_mode(name("file"), create, mode).works());
        sys::mkdir(name("dir"), mode).works();
        sys::mknod(name("fifo"), FileType::Fifo, mode, 0).works();
        let tmp = OFlags::TMPFILE | OFlags::RDWR;
        let fd = sys::open_mode(at, tmp, mode).works();
        sys::link_fd(&fd, name("tmp")).works();
        made.extend(["file", "dir", "fifo", "tmp"].map(name));
    }
    sys::symlink("x", at.join("link")).works();
    made.push(at.join("link"));
    made.iter()
        .map(|p| {
            let st = sys::lstat(p).works();
            let lists = [ACCESS, DEFAULT].map(|name| sys::xattr_opt(p, name));
            let name = p.file_name();
            format!(
                "{name:?} {:o} {}:{} {lists:?}",
                st.st_mode, st.st_uid, st.st_gid
            )
        })
        .collect()
}

/// Directories with a default list: in a lower layer, in the upper one, in both,
/// and over a whiteout.
fn inherited(t: &T, mask: u32, with_list: bool) {
    let dir = |l: &Tree, n: &str| {
        l.dir(n);
        if with_list {
            l.xattr(n, DEFAULT, list());
        }
    };
    let plain = t.new_dir("plain");
    dir(&Tree::new(&plain), "d");
    let o = t
        .stack()
        .lower(|l| {
            dir(l, "low");
            dir(l, "both");
            dir(l, "whiteouts");
            for kind in ["file", "dir", "fifo", "tmp"] {
                for mode in ["777", "644"] {
                    l.file(format!("whiteouts/{kind}{mode}"), "old");
                }
            }
            l.file("whiteouts/link", "old");
        })
        .upper(|u| {
            dir(u, "up");
            dir(u, "both");
        })
        .mount();
    for n in sys::names(o.m("whiteouts")).works() {
        sys::unlink(o.m("whiteouts").join(n)).works();
    }
    sys::umask(mask);
    let expected = make_all(&plain.join("d"));
    for n in ["low", "up", "both", "whiteouts"] {
        assert_eq!(make_all(&o.m(n)), expected, "{n}, umask {mask:o}");
    }
    sys::umask(0o022);
}

fn inherited_lists(t: &T) {
    inherited(t, 0o022, true);
}

fn umask_and_lists(t: &T) {
    for mask in [0, 0o027, 0o077, 0o777] {
        for with_list in [false, true] {
            inherited(t, mask, with_list);
        }
    }
}

fn sticky_and_setgid_inherited(t: &T) {
    let fill = |l: &Tree| {
        for (n, mode) in [("sgid", 0o2777), ("sticky", 0o1777), ("both", 0o3777)] {
            l.dir(n).owner(n, 0, 77).mode(n, mode);
        }
    };
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    let o = t.stack().lower(fill).mount();
    sys::chmod(plain.parent().expect("parent"), 0o755).works();
    for n in ["sgid", "sticky", "both"] {
        let run = |at: &Path| {
            let shown = std::sync::Mutex::new(Vec::new());
            t.as_user(1000, 1000, || {
                make_all(&at.join(n));
            });
            for name in sys::names(at.join(n)).works() {
                let st = sys::lstat(at.join(n).join(&name)).works();
                let line = format!("{name} {:o} {}:{}", st.st_mode, st.st_uid, st.st_gid);
                shown.lock().expect("lines").push(line);
            }
            shown.into_inner().expect("lines")
        };
        assert_eq!(run(&o.m("/")), run(&plain), "{n}");
    }
}
