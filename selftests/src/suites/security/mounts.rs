// SPDX-License-Identifier: GPL-2.0

//! What a mount may be made of, by whom, and what it tells.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use crate::env::T;
use crate::process::{exit_now, fork, pipe, wait_for};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::suites::userns::{become_root_alone, mount_in, rootless_child};
use crate::sys::{self, Errno, Expect, FileType, FsContext, OFlags, Res};
use crate::tree::{assert_names, assert_same, assert_text, Snapshot, Take, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(configuration_of_a_user_mounted_by_root),
        test!(configuration_of_a_namespace_mounted_by_its_parent),
        test!(work_of_somebody_stays),
        test!(work_that_cannot_go),
        test!(leftovers_of_mounts_go),
        test!(users_mark_directories_of_all),
        test!(layer_root_inside_upper),
        test!(layer_root_inside_lower),
        test!(work_directory_inside_a_layer),
        test!(busy_tells_no_names),
    ]
}

/// A process that lets us have what it has opened.
struct Giver {
    pid: i32,
    number: i32,
    _go: File,
}

impl Giver {
    /// `f` runs in a child process, and gives what it returns.
    fn start(f: impl FnOnce() -> OwnedFd) -> Giver {
        let ((mut ready, mut tell), (mut wait, go)) = (pipe(), pipe());
        let pid = fork();
        if pid == 0 {
            drop((ready, go));
            let fd = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
            if let Ok(fd) = fd {
                let _ = tell.write_all(&fd.as_raw_fd().to_ne_bytes());
                let _ = wait.read(&mut [0]);
            }
            exit_now(0);
        }
        drop((tell, wait));
        let mut number = [0; 4];
        ready.read_exact(&mut number).expect("a child that gives");
        Giver {
            pid,
            number: i32::from_ne_bytes(number),
            _go: go,
        }
    }

    fn take(&self) -> OwnedFd {
        use rustix::process::{pidfd_getfd, pidfd_open, Pid, PidfdFlags, PidfdGetfdFlags};
        let pid = Pid::from_raw(self.pid).expect("pid");
        let process = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open");
        pidfd_getfd(&process, self.number, PidfdGetfdFlags::empty()).expect("pidfd_getfd")
    }

    fn end(self) {
        let Giver { pid, _go, .. } = self;
        drop(_go);
        assert_eq!(wait_for(pid), 0);
    }
}

fn configure(t: &T, at: &Path) -> OwnedFd {
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", at.join("l")).works();
    fc.string("upperdir", at.join("u")).works();
    fc.string("workdir", at.join("w")).works();
    fc.flag("userxattr").works();
    fc.fd
}

/// The one who creates the superblock lends it his credentials, and that it is one of the user's
/// namespace lets the user write to it what he likes (capabilities that count outside).
fn configuration_of_a_user_mounted_by_root(t: &T) {
    let at = t.new_dir("of_the_user");
    sys::lchown(&at, 1000, 1000).works();
    sys::chmod(&t.dir, 0o755).works();
    let user = Giver::start(|| {
        sys::become_user(1000, 1000, &[]);
        become_root_alone(1000, 1000);
        Tree::new(&at).dir("l").dir("u").dir("w");
        configure(t, &at)
    });
    let fc = FsContext { fd: user.take() };
    fc.create().fails(Errno::INVAL);
    if !t.is_overlay() {
        let log = fc.log().join("\n");
        assert!(log.is_empty() || log.contains("namespace"), "{log}");
    }
    drop(fc);
    assert_names(at.join("w"), &[]);
    user.end();
}

/// The same without root: he is root in both.
fn configuration_of_a_namespace_mounted_by_its_parent(t: &T) {
    rootless_child(t, |at| {
        Tree::new(at).dir("l").dir("u").dir("w").dir("m");
        let inner = Giver::start(|| {
            become_root_alone(0, 0);
            configure(t, at)
        });
        let fc = FsContext { fd: inner.take() };
        fc.create().fails(Errno::INVAL);
        drop(fc);
        inner.end();
        // In one namespace it does not matter which process goes on.
        let same = Giver::start(|| configure(t, at));
        let fc = FsContext { fd: same.take() };
        fc.create().works();
        fc.attach(&at.join("m"), false).works();
        drop(fc);
        same.end();
        sys::umount(&at.join("m")).works();
    });
}

fn stack(t: &T) -> Overlay {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "lower");
        })
        .prepare();
    o.work_not_checked();
    o
}

/// The mount is refused, says why, and nothing in the work directory has changed.
#[track_caller]
fn refused_and_kept(o: &Overlay, words: &[&str]) {
    let before = Snapshot::of(&o.w("/"), Take::ALL);
    let refused: Res<()> = o.mount();
    let said = format!("{refused:?}");
    assert!(refused.is_err(), "mounted, with {words:?} in the way");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    let after = Snapshot::of(&o.w("/"), Take::ALL);
    assert_same("what is in the work directory", &before, &after);
}

/// Case B15: workdir=/home/me, where `work` is mine.
fn work_of_somebody_stays(t: &T) {
    t.better_than_overlay("it removes what lies up to two levels deep");
    for (path, named) in [
        ("work/thesis.txt", "work/thesis.txt"),
        ("work/d0/thesis.txt", "work/d0"),
        ("work/d0/d1/d2/d3/thesis.txt", "work/d0"),
        ("work/#d0/thesis.txt", "work/#d0"),
        ("work/#d0/d1/d2/thesis.txt", "work/#d0"),
        ("work/incompatible", "work/incompatible"),
        ("work/.#lock", "work/.#lock"),
        ("work/#thesis.txt#", "work/#thesis.txt#"),
        ("work/#", "'work/#'"),
        ("work", "'work'"),
    ] {
        let o = stack(t);
        // Leftovers beside it do not go either.
        let w = Tree::new(o.w("/"));
        w.file(path, "three years");
        if path != "work" {
            w.file("work/#a", "half a copy").file("work/#ff", "another");
        }
        refused_and_kept(&o, &[named, "workdir"]);
    }
    let o = stack(t);
    Tree::new(o.w("/")).symlink("work", "elsewhere");
    refused_and_kept(&o, &["'work'"]);
    let o = stack(t);
    Tree::new(o.w("/")).file("work/new\nline\u{1b}[31m", "");
    refused_and_kept(&o, &["new\\nline\\u{1b}[31m"]);
    // No mount leaves a directory in one of its own, nor a file beside whiteouts.
    let o = stack(t);
    Tree::new(o.w("/")).dir("work/#d0/empty");
    refused_and_kept(&o, &["work/#d0"]);
    let o = stack(t);
    let w = Tree::new(o.w("/"));
    w.whiteout("work/#d0/w").file("work/#d0/f", "x");
    w.opaque("work/#d0");
    refused_and_kept(&o, &["work/#d0"]);
    // Neither is what looks like a whiteout at the top ours.
    let o = stack(t);
    Tree::new(o.w("/")).whiteout("work/gone");
    refused_and_kept(&o, &["work/gone"]);
}

/// What cannot be removed is found before anything is.
fn work_that_cannot_go(t: &T) {
    t.better_than_overlay("it lets leftovers stay, and the mount become read-only");
    let o = stack(t);
    Tree::new(o.w("/"))
        .file("work/#1", "")
        .file("work/#2", "")
        .file("work/#3", "");
    sys::run("chattr", &["+i".as_ref(), o.w("work/#2").as_os_str()]);
    refused_and_kept(&o, &["work/#2", "immutable"]);
    sys::run("chattr", &["-i".as_ref(), o.w("work/#2").as_os_str()]);
    o.mount().works();
    o.umount();
    let o = stack(t);
    Tree::new(o.w("/")).file("work/#1", "").dir("work/#2");
    sys::bind_mount(&o.l(0, "/"), &o.w("work/#2")).works();
    refused_and_kept(&o, &["work/#2", "mounted"]);
    sys::umount(&o.w("work/#2")).works();
    o.mount().works();
}

/// What rovl and overlayfs leave after a crash, and their empty `incompat`.
fn leftovers_of_mounts_go(t: &T) {
    let o = stack(t);
    let w = Tree::new(o.w("work"));
    for i in 0..100 {
        w.file(format!("#{i:x}"), "half a copy");
    }
    w.dir("#d0").whiteout("#d1").symlink("#d2", "nowhere");
    w.whiteout("#d3/a").whiteout("#d3/b");
    w.fifo("#d4").file("#from", "").dir("incompat");
    o.mount().works();
    assert_text(o.m("f"), "lower");
    if !t.is_overlay() {
        assert_names(o.w("work"), &[]);
    }
    assert_names(o.u("/"), &[]);
    if !t.is_overlay() {
        o.umount();
        // Whiteouts that are files, as they can come from a lower layer by an older overlayfs.
        let w = Tree::new(o.w("work"));
        w.dir("#e").xattr("#e", crate::tree::OPAQUE, "x");
        w.file("#e/gone", "")
            .xattr("#e/gone", "trusted.overlay.whiteout", "");
        o.mount().works();
        assert_names(o.w("work"), &[]);
    }
}

/// Case D01: an upper directory in use keeps nobody off what is below it.
fn users_mark_directories_of_all(t: &T) {
    let all = t.new_dir("tmp");
    sys::chmod(&all, 0o1777).works();
    sys::chmod(&t.dir, 0o755).works();
    let at = t.new_dir("of_the_user");
    sys::lchown(&at, 1000, 1000).works();
    let user = Giver::start(|| {
        sys::become_user(1000, 1000, &[]);
        become_root_alone(1000, 1000);
        Tree::new(&at).dir("l").dir("w");
        let fc = FsContext::open(t.fstype()).works();
        fc.string("lowerdir+", at.join("l")).works();
        fc.string("upperdir", &all).works();
        fc.string("workdir", at.join("w")).works();
        fc.flag("userxattr").works();
        // The superblock lives as long as this is open.
        fc.create().works();
        fc.fd
    });
    let build = all.join("build");
    Tree::new(&build)
        .dir("u")
        .dir("w")
        .dir("m")
        .file("l/f", "x");
    for _ in 0..2 {
        let fc = FsContext::open(t.fstype()).works();
        fc.string("lowerdir+", build.join("l")).works();
        fc.string("upperdir", build.join("u")).works();
        fc.string("workdir", build.join("w")).works();
        fc.create().works();
        fc.attach(&build.join("m"), false).works();
        drop(fc);
        sys::append_file(build.join("m/f"), "+").works();
        sys::umount(&build.join("m")).works();
    }
    user.end();
    assert_text(build.join("u/f"), "x++");
}

/// Case C07b: what is moved into the upper directory behind our back.
fn layer_root_inside_upper(t: &T) {
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            l.file("top", "x").dir("d");
        })
        .lower(|l| {
            l.file("low", "low");
        })
        .mount();
    // All are on one filesystem.
    for (layer, name) in [(0, "in0"), (1, "in1")] {
        let back = o.l(layer, "/");
        sys::rename(&back, o.u(name)).works();
        sys::stat(o.m(name)).fails(Errno::LOOP);
        sys::names(o.m(name)).map(drop).fails(Errno::LOOP);
        sys::write_file(o.m(name).join("new"), "x").fails(Errno::LOOP);
        sys::append_file(o.m(name).join("low"), "+").fails(Errno::LOOP);
        assert!(std::fs::remove_dir_all(o.m(name)).is_err());
        sys::rename(o.u(name), &back).works();
    }
    o.umount();
    assert_text(o.l(1, "low"), "low");
    assert_names(o.l(0, "/"), &["d", "top"]);
    assert_names(o.l(1, "/"), &["low"]);
    assert_names(o.u("/"), &[]);
}

/// In a lower layer it is an empty directory, and what is made there is made in the upper one.
fn layer_root_inside_lower(t: &T) {
    t.better_than_overlay("ELOOP");
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            l.dir("d");
        })
        .lower(|l| {
            l.file("low", "low");
        })
        .mount();
    let back = o.l(1, "/");
    sys::rename(&back, o.l(0, "d/in")).works();
    assert_names(o.m("d/in"), &[]);
    sys::stat(o.m("d/in/low")).fails(Errno::NOENT);
    sys::write_file(o.m("d/in/new"), "x").works();
    assert_names(o.m("d/in"), &["new"]);
    assert_names(o.l(0, "d/in"), &["low"]);
    sys::rename(o.l(0, "d/in"), &back).works();
    assert_names(o.m("d/in"), &["new"]);
    sys::rename(o.u("/"), o.l(0, "up")).works();
    assert_names(o.m("up"), &[]);
    sys::rename(o.l(0, "up"), o.u("/")).works();
    // Another directory of that name is nothing special.
    sys::mkdir(o.l(0, "other"), 0o755).works();
    assert_names(o.m("other"), &[]);
}

fn work_directory_inside_a_layer(t: &T) {
    t.better_than_overlay("ELOOP");
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            l.dir("d").dir("e");
        })
        .mount();
    sys::rename(o.w("work"), o.l(0, "d/work")).works();
    assert_names(o.m("d/work"), &[]);
    sys::rename(o.l(0, "d/work"), o.w("work")).works();
    sys::rename(o.w("work"), o.u("work")).works();
    sys::stat(o.m("work")).fails(Errno::LOOP);
    sys::rename(o.u("work"), o.w("work")).works();
    let back = o.w("/");
    sys::rename(&back, o.u("all")).works();
    sys::stat(o.m("all")).fails(Errno::LOOP);
    sys::rename(o.u("all"), &back).works();
    sys::write_file(o.m("d/f"), "works again").works();
    sys::write_file(o.m("e/f"), "works again").works();
}

/// Who is refused a directory learns which device has it, and no names of others.
fn busy_tells_no_names(t: &T) {
    t.better_than_overlay("with index=off overlayfs only warns of an upper in use");
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let secret = o.m("/").display().to_string();
    let other = t.new_dir("other");
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", &other).works();
    fc.string("upperdir", o.u("/")).works();
    fc.string("workdir", o.w("/")).works();
    let refused = fc.create();
    let said = format!("{refused:?}");
    refused.fails(Errno::BUSY);
    let st = sys::stat(o.m("/")).works();
    let (major, minor) = (libc::major(st.st_dev), libc::minor(st.st_dev));
    assert!(said.contains(&format!("{major}:{minor}")), "{said}");
    assert!(!said.contains(&secret), "{said}");
    // Who may not write there is not even told that.
    rootless_child(t, |at| {
        Tree::new(at).dir("l").dir("m");
        let fc = FsContext::open(t.fstype()).works();
        fc.string("lowerdir+", at.join("l")).works();
        fc.string("upperdir", o.u("/")).works();
        fc.string("workdir", o.w("/")).works();
        fc.flag("userxattr").works();
        fc.create().fails(Errno::ACCESS);
        // Nor does he keep anybody off.
        drop(mount_in(t, at, &["l"], &["userxattr"]).works());
        let fd = sys::open(at.join("m"), OFlags::RDONLY | OFlags::DIRECTORY).works();
        let st = sys::stat(at.join("m")).works();
        assert_eq!(sys::kind_of(&st), FileType::Directory);
        drop(fd);
        sys::umount(&at.join("m")).works();
    });
}
