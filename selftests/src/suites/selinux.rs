// SPDX-License-Identifier: GPL-2.0

//! SELinux decides, by a policy of our own (`selinux/policy.conf`): for the user by
//! the labels that the mount shows, for the mounter by those below.
//!
//! These tests have a guest of their own, whose kernel runs SELinux; a policy that
//! somebody else has loaded stays.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::env::T;
use crate::runner::Test;
use crate::stack::{Overlay, Stack};
use crate::sys::{self, Errno, Expect, FileType, OFlags};
use crate::tree::{assert_names, assert_text, assert_whiteout, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(labels_of_layers_and_copies),
        test!(user_is_asked_by_the_label_of_the_object),
        test!(mounter_is_asked_below),
        test!(mounters_of_both_are_asked),
        test!(new_objects_are_the_users),
        test!(label_asked_for),
        test!(user_changes_a_label),
        test!(one_label_for_the_mount),
        test!(policy_that_does_not_know_the_type),
    ]
}

const POLICY: &str = include_str!("selinux/policy.conf");
const SELINUXFS: &str = "/sys/fs/selinux";
const LABEL: &str = "security.selinux";
const CURRENT: &str = "/proc/self/attr/current";

/// Makes our policy the kernel's, or skips.
fn load_policy(t: &T) {
    if !Path::new(SELINUXFS).exists() {
        t.skip("the kernel does not run SELinux (security=selinux)");
    }
    let domain = sys::text(CURRENT).works();
    match domain.trim_end_matches('\0') {
        "u:r:base_t" => return,
        "kernel" => (),
        other => t.skip(&format!("a policy is loaded, and we are {other}")),
    }
    t.need_program("checkpolicy");
    make_policy(t, POLICY);
    sys::append_file(format!("{SELINUXFS}/enforce"), "1").works();
}

fn make_policy(t: &T, policy: &str) {
    if !sys::exists(format!("{SELINUXFS}/load")) {
        let none = rustix::mount::MountFlags::empty();
        sys::mount("none", Path::new(SELINUXFS), "selinuxfs", none, b"").works();
    }
    let (text, binary) = (t.dir.join("policy.conf"), t.dir.join("policy"));
    sys::write_file(&text, policy).works();
    let made = Command::new("checkpolicy")
        .args(["-U", "allow", "-c", "33", "-o"])
        .args([&binary, &text])
        .output()
        .expect("checkpolicy");
    assert!(made.status.success(), "{made:?}");
    let load = sys::open(format!("{SELINUXFS}/load"), OFlags::WRONLY).works();
    sys::write(&load, sys::read_file(&binary).works()).works();
}

/// From here on this process is in a domain.
fn enter(domain: &str) {
    sys::append_file(CURRENT, format!("u:r:{domain}")).works();
}

fn as_user(t: &T, run: impl FnOnce()) {
    t.in_child(|| {
        enter("user_t");
        run();
    });
}

fn label_of(at: impl AsRef<Path>) -> String {
    let label = sys::get_xattr(at, LABEL).works();
    let label = String::from_utf8(label).expect("a label");
    let label = label.trim_end_matches('\0');
    label.strip_prefix("u:object_r:").unwrap_or(label).into()
}

fn context(label: &str) -> String {
    format!("u:object_r:{label}\0")
}

fn label(tree: &Tree, path: &str, label: &str) {
    tree.xattr(path, LABEL, context(label));
}

/// Mounted by the mounter.
fn mount(stack: Stack<'_>) -> Overlay {
    let o = stack.prepare();
    enter("mounter_t");
    o.mount().works();
    enter("base_t");
    o
}

const KINDS: [&str; 5] = ["d/f", "d/sub", "d/link", "d/fifo", "d/sub/below"];

fn of_all_kinds(l: &Tree) {
    l.file("d/f", "x").symlink("d/link", "f").fifo("d/fifo");
    l.file("d/sub/below", "y");
    label(l, "d", "dir_t");
    for kind in KINDS {
        label(l, kind, "open_t");
    }
}

fn labels_of_layers_and_copies(t: &T) {
    load_policy(t);
    let o = mount(t.stack().lower(of_all_kinds));
    let shown = |what: &str| {
        for kind in KINDS {
            assert_eq!(label_of(o.m(kind)), "open_t", "{kind} {what}");
        }
        assert_eq!(label_of(o.m("d")), "dir_t", "{what}");
    };
    shown("in the lower layer");
    as_user(t, || {
        for kind in KINDS {
            sys::lchown(o.m(kind), 1, 1).works();
        }
    });
    for kind in KINDS {
        assert_eq!(label_of(o.u(kind)), "open_t", "copy of {kind}");
    }
    assert_eq!(label_of(o.u("d")), "dir_t", "copy of the parent");
    shown("copied up");
    o.remount();
    shown("mounted again");
}

fn user_is_asked_by_the_label_of_the_object(t: &T) {
    load_policy(t);
    let o = mount(t.stack().lower(|l| {
        l.file("d/f", "text").mode("d/f", 0o666);
        label(l, "d", "dir_t");
        label(l, "d/f", "user_reads_t");
    }));
    as_user(t, || {
        let f = o.m("d/f");
        assert_text(&f, "text");
        let denied = Errno::ACCESS;
        sys::open(&f, OFlags::WRONLY).fails(denied);
        sys::open(&f, OFlags::RDWR | OFlags::TRUNC).fails(denied);
        sys::truncate(&f, 1).fails(denied);
        sys::chmod(&f, 0o600).fails(denied);
        sys::set_times(&f, (1, 1), (2, 2)).fails(denied);
        sys::set_xattr(&f, "user.x", "y").fails(denied);
        sys::set_xattr(&f, LABEL, context("changed_t")).fails(denied);
        sys::link(&f, o.m("d/g")).fails(denied);
        sys::rename(&f, o.m("d/g")).fails(denied);
        sys::unlink(&f).fails(denied);
    });
    assert_names(o.u("/"), &[]);
    o.assert_no_strays();
}

fn mounter_is_asked_below(t: &T) {
    load_policy(t);
    let o = mount(t.stack().lower(|l| {
        for (name, is) in [("d/f", "mounter_reads_t"), ("d/none", "mounter_not_t")] {
            l.file(name, "text").mode(name, 0o666);
            label(l, name, is);
        }
        label(l, "d", "dir_t");
    }));
    as_user(t, || {
        let f = o.m("d/f");
        assert_text(&f, "text");
        let denied = Errno::ACCESS;
        sys::open(&f, OFlags::RDWR).fails(denied);
        sys::truncate(&f, 1).fails(denied);
        sys::chmod(&f, 0o600).fails(denied);
        sys::link(&f, o.m("d/g")).fails(denied);
        sys::rename(&f, o.m("d/g")).fails(denied);
        assert_text(&f, "text");
        sys::open(o.m("d/none"), OFlags::RDONLY).fails(denied);
        sys::open(o.m("d/none"), OFlags::RDWR).fails(denied);
        sys::rename(o.m("d/none"), o.m("d/g")).fails(denied);
        sys::set_xattr(o.m("d/none"), "user.x", "y").fails(denied);
    });
    assert!(!sys::exists(o.u("d/f")), "a part of a copy");
    assert!(!sys::exists(o.u("d/none")), "a part of a copy");
    o.assert_no_strays();
}

/// From one mount to another: the mounter of the first may read the file no more that
/// was opened there, and the mounter of the second may.
fn mounters_of_both_are_asked(t: &T) {
    load_policy(t);
    let from = mount(t.stack().lowers_not_compared().lower(|l| {
        l.file("f", "text");
        label(l, "f", "open_t");
    }));
    let to = t.stack().lower(|_| {}).mount();
    let f = sys::open(from.m("f"), OFlags::RDONLY).works();
    let open = |name: &str| {
        let new = OFlags::CREATE | OFlags::RDWR;
        sys::open_mode(to.m(name), new, 0o600).works()
    };
    let copied = sys::copy_file_range(&f, 0, &open("a"), 0, 4).works();
    assert_eq!(copied, 4);
    label(&Tree::new(from.l(0, "/")), "f", "mounter_not_t");
    let denied = sys::copy_file_range(&f, 0, &open("b"), 0, 4).map(drop);
    denied.fails(Errno::ACCESS);
    assert_text(to.m("a"), "text");
    assert_text(to.m("b"), "");
}

/// Where something new of each kind is made, and how.
fn make_all_kinds(d: &Path) -> Vec<PathBuf> {
    let all = ["file", "dir", "symlink", "fifo", "over"].map(|n| d.join(n));
    let [file, dir, symlink, fifo, over] = &all;
    sys::write_file(file, "x").works();
    sys::mkdir(dir, 0o755).works();
    sys::symlink("x", symlink).works();
    sys::mknod(fifo, FileType::Fifo, 0o600, 0).works();
    // In the place of a whiteout.
    sys::write_file(over, "x").works();
    all.into()
}

fn with_a_name_hidden(t: &T) -> Overlay {
    let o = mount(t.stack().lower(|l| {
        l.file("d/over", "lower").file("d/kept", "k");
        label(l, "d", "dir_t");
        label(l, "d/over", "open_t");
        label(l, "d/kept", "open_t");
    }));
    as_user(t, || sys::unlink(o.m("d/over")).works());
    assert_whiteout(o.u("d/over"));
    o
}

/// Their labels are those that the user's would be anywhere, not the mounter's.
fn new_objects_are_the_users(t: &T) {
    load_policy(t);
    let o = with_a_name_hidden(t);
    as_user(t, || {
        for at in make_all_kinds(&o.m("d")) {
            assert_eq!(label_of(&at), "made_by_user_t", "{at:?}");
        }
        let nameless = OFlags::TMPFILE | OFlags::RDWR;
        let fd = sys::open_mode(o.m("d"), nameless, 0o600).works();
        sys::link_fd(&fd, o.m("d/nameless")).works();
        sys::link(o.m("d/file"), o.m("d/linked")).works();
        sys::rename(o.m("d/fifo"), o.m("d/moved")).works();
    });
    for name in [
        "file", "dir", "symlink", "moved", "over", "nameless", "linked",
    ] {
        let path = format!("d/{name}");
        assert_eq!(label_of(o.u(&path)), "made_by_user_t", "{name} below");
        assert_eq!(label_of(o.m(&path)), "made_by_user_t", "{name}");
    }
    o.remount();
    assert_eq!(label_of(o.m("d/over")), "made_by_user_t");
}

/// `setfscreatecon`: for what is made, not for what is copied.
fn label_asked_for(t: &T) {
    load_policy(t);
    let o = with_a_name_hidden(t);
    as_user(t, || {
        sys::append_file("/proc/self/attr/fscreate", context("asked_for_t")).works();
        for at in make_all_kinds(&o.m("d")) {
            assert_eq!(label_of(&at), "asked_for_t", "{at:?}");
        }
        sys::append_file(o.m("d/kept"), "+").works();
    });
    assert_eq!(label_of(o.u("d/over")), "asked_for_t");
    assert_eq!(label_of(o.u("d/kept")), "open_t", "copied up");
    assert_eq!(label_of(o.u("d")), "dir_t", "copied up");
    assert_text(o.m("d/kept"), "k+");
}

fn user_changes_a_label(t: &T) {
    load_policy(t);
    let o = mount(t.stack().lower(of_all_kinds));
    as_user(t, || {
        for kind in KINDS {
            sys::set_xattr(o.m(kind), LABEL, context("changed_t")).works();
            assert_eq!(label_of(o.m(kind)), "changed_t", "{kind}");
        }
    });
    for kind in KINDS {
        assert_eq!(label_of(o.u(kind)), "changed_t", "{kind} above");
        assert_eq!(label_of(o.l(0, kind)), "open_t", "{kind} below");
    }
    o.remount();
    for kind in KINDS {
        assert_eq!(label_of(o.m(kind)), "changed_t", "{kind} mounted again");
    }
}

/// `context=`: what lies below keeps its own labels, and they do not count above.
fn one_label_for_the_mount(t: &T) {
    load_policy(t);
    let o = t
        .stack()
        .lower(|l| {
            of_all_kinds(l);
            label(l, "d/f", "user_reads_t");
        })
        .prepare();
    let fc = o.context().works();
    fc.string("context", "u:object_r:context_t").works();
    fc.create().works();
    fc.attach(&o.m("/"), false).works();
    for kind in KINDS {
        assert_eq!(label_of(o.m(kind)), "context_t", "{kind}");
    }
    as_user(t, || {
        sys::append_file(o.m("d/f"), "+").works();
        assert_text(o.m("d/f"), "x+");
        sys::write_file(o.m("d/new"), "new").works();
        sys::set_xattr(o.m("d/new"), LABEL, context("changed_t")).fails(Errno::OPNOTSUPP);
    });
    assert_eq!(label_of(o.m("d/new")), "context_t");
    assert_eq!(label_of(o.l(0, "d/f")), "user_reads_t", "below");
    for above in ["d", "d/f", "d/new"] {
        assert_eq!(label_of(o.u(above)), "context_t", "{above} above");
    }
    let shown = sys::text("/proc/self/mounts").works();
    assert!(shown.contains("context=u:object_r:context_t"), "{shown}");
    sys::umount(&o.m("/")).works();
}

fn policy_that_does_not_know_the_type(t: &T) {
    load_policy(t);
    let o = t.stack().lower(of_all_kinds).prepare();
    let known = format!("fs_use_xattr {} ", t.fstype());
    let (without, rule): (Vec<_>, Vec<_>) = POLICY.lines().partition(|l| !l.starts_with(&known));
    assert_eq!(rule.len(), 1);
    make_policy(t, &format!("{}\n", without.join("\n")));
    let mounted = o.mount();
    // The other tests need it.
    make_policy(t, POLICY);
    mounted.works();
    for kind in KINDS {
        assert_eq!(label_of(o.m(kind)), "unlabeled_t", "{kind}");
        assert_eq!(label_of(o.l(0, kind)), "open_t", "{kind} below");
    }
}
