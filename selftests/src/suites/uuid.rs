// SPDX-License-Identifier: GPL-2.0

//! The UUID of a mount, and its number in `statfs` (`uuid=`).

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Expect};
use crate::tree::{ORIGIN, UUID};

pub fn tests() -> Vec<Test> {
    vec![
        test!(new_mount_gets_one).matrix(),
        test!(used_mount_gets_none),
        test!(asked_for),
        test!(none),
        test!(without_upper),
        test!(what_is_stored_and_is_none),
        test!(off_ignores_those_of_layers),
        test!(off_needs_one_filesystem).needs(&[Fs::Tmpfs]),
        test!(as_overlay),
    ]
}

/// `f_fsid`.
fn fsid(o: &Overlay) -> u64 {
    rustix::fs::statvfs(o.m("")).expect("statvfs").f_fsid
}

fn fsid_of_upper(o: &Overlay) -> u64 {
    rustix::fs::statvfs(o.u("")).expect("statvfs").f_fsid
}

fn shown(o: &Overlay) -> String {
    let text = sys::text("/proc/self/mountinfo").works();
    let at = o.m("").display().to_string();
    let line = text.lines().find(|l| l.split(' ').nth(4) == Some(&at));
    let line = line.expect("mountinfo");
    let option = line.split([' ', ',']).find(|o| o.starts_with("uuid="));
    option.unwrap_or("").to_string()
}

fn new_mount_gets_one(t: &T) {
    let make = || t.stack().lower(|l| _ = l.file("f", "f")).mount();
    let (a, b) = (make(), make());
    let id = sys::get_xattr(a.u(""), UUID).works();
    assert_eq!(id.len(), 16);
    assert_ne!(id, sys::get_xattr(b.u(""), UUID).works());
    assert_ne!(fsid(&a), fsid(&b));
    assert_ne!(fsid(&a), fsid_of_upper(&a));
    assert_eq!(shown(&a), "uuid=on");
    // It is not to be seen, and stays.
    assert_eq!(sys::xattr_opt(a.m(""), UUID), None);
    let before = fsid(&a);
    sys::chmod(a.m("f"), 0o600).works();
    a.remount();
    assert_eq!(fsid(&a), before);
    assert_eq!(sys::get_xattr(a.u(""), UUID).works(), id);
}

/// Its number would change under those who know it.
fn used_mount_gets_none(t: &T) {
    let lower = t.new_dir("lower");
    sys::write_file(lower.join("f"), "f").works();
    let used = t.stack().flag("uuid=null").lower_dir(&lower).mount();
    sys::chmod(used.m("f"), 0o600).works();
    used.umount();
    let upper = used.u("");
    let o = t
        .stack()
        .lower_dir(&lower)
        .upper_in(upper.parent().expect("upper"))
        .mount();
    assert_eq!(shown(&o), "uuid=null");
    assert_eq!(fsid(&o), fsid_of_upper(&o));
    assert_eq!(sys::xattr_opt(o.u(""), UUID), None);
    o.umount();
    let o = t
        .stack()
        .flag("uuid=on")
        .lower_dir(&lower)
        .upper_in(upper.parent().expect("upper"))
        .mount();
    assert_eq!(shown(&o), "uuid=on");
    let id = fsid(&o);
    assert_ne!(id, fsid_of_upper(&o));
    o.umount();
    // Now there is one, and it is what `auto` takes.
    let o = t
        .stack()
        .lower_dir(&lower)
        .upper_in(upper.parent().expect("upper"))
        .mount();
    assert_eq!((shown(&o), fsid(&o)), (String::new(), id));
}

fn asked_for(t: &T) {
    let o = t.stack().flag("uuid=on").lower(|_| {}).mount();
    assert_eq!(sys::get_xattr(o.u(""), UUID).works().len(), 16);
    assert_eq!(shown(&o), "uuid=on");
}

fn none(t: &T) {
    for (flag, shows) in [("uuid=null", "uuid=null"), ("uuid=off", "uuid=off")] {
        let o = t
            .stack()
            .flag(flag)
            .lower(|_| {})
            .upper(|u| _ = u.xattr("", UUID, "0123456789abcdef"))
            .mount();
        assert_eq!(fsid(&o), fsid_of_upper(&o));
        assert_eq!(shown(&o), shows);
    }
}

fn without_upper(t: &T) {
    for (flag, shows) in [
        ("uuid=auto", ""),
        ("uuid=null", "uuid=null"),
        ("uuid=on", "uuid=null"),
    ] {
        let o = t
            .stack()
            .flag(flag)
            .lower(|_| {})
            .lower(|_| {})
            .readonly()
            .mount();
        assert_eq!(shown(&o), shows, "{flag}");
    }
}

/// A value of another size is none, and stays.
fn what_is_stored_and_is_none(t: &T) {
    for value in ["", "short", "0123456789abcdef0"] {
        let o = t
            .stack()
            .lower(|_| {})
            .upper(|u| _ = u.xattr("", UUID, value))
            .mount();
        assert_eq!(fsid(&o), fsid_of_upper(&o));
        assert_eq!(sys::get_xattr(o.u(""), UUID).works(), value.as_bytes());
        assert_eq!(shown(&o), "uuid=null");
    }
}

/// So an upper layer goes on to know its files when both are copied to another filesystem,
/// byte by byte.
fn off_ignores_those_of_layers(t: &T) {
    for (flag, is_null) in [("uuid=off", true), ("uuid=null", false)] {
        let o = t.stack().flag(flag).lower(|l| _ = l.file("f", "f")).mount();
        let number = sys::stat(o.m("f")).works().st_ino;
        sys::chmod(o.m("f"), 0o600).works();
        let origin = sys::get_xattr(o.u("f"), ORIGIN).works();
        let uuid = origin.get(5..21).expect("a handle");
        assert_eq!(uuid == [0; 16], is_null, "{flag}");
        o.remount();
        assert_eq!(sys::stat(o.m("f")).works().st_ino, number);
        if !t.is_overlay() {
            o.remount_as("overlay");
            assert_eq!(sys::stat(o.m("f")).works().st_ino, number);
            o.remount_as(t.fstype());
        }
    }
}

fn off_needs_one_filesystem(t: &T) {
    let o = t
        .stack()
        .flag("uuid=off")
        .lower_on(Fs::Tmpfs, |l| _ = l.file("f", "f"))
        .mount();
    assert_eq!(shown(&o), "uuid=null");
}

/// Each knows the number that the other gave.
fn as_overlay(t: &T) {
    t.better_than_overlay("it is the other");
    let o = t.stack().lower(|_| {}).mount();
    let (own, id) = (o.fstype(), fsid(&o));
    o.remount_as("overlay");
    assert_eq!(fsid(&o), id);
    let theirs = shown(&o);
    o.remount_as(&own);
    assert_eq!(shown(&o), theirs);
    let o = t.stack().lower(|_| {}).prepare();
    o.set_fstype("overlay");
    o.mount().works();
    let id = fsid(&o);
    o.remount_as(&own);
    assert_eq!(fsid(&o), id);
}
