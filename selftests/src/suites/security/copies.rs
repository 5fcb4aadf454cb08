// SPDX-License-Identifier: GPL-2.0

//! What a copy-up, an open file or a descriptor of a layer may take along.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::env::{Fs, T};
use crate::fuse::{Fuse, Lie};
use crate::runner::Test;
use crate::suites::copyup::acl_for;
use crate::suites::userns::{mount_in, rootless_child};
use crate::sys::{self, Errno, Expect, FsContext, IFlags, Map, OFlags, RenameFlags, Res};
use crate::tree::{assert_names, assert_text, pattern, Tree};
use crate::watch::{now, start, until, Task};

pub fn tests() -> Vec<Test> {
    vec![
        test!(owner_without_a_mapping),
        test!(owner_without_a_mapping_served_by_fuse),
        test!(owner_that_is_another_when_copied),
        test!(owners_with_a_mapping_keep_their_rights).uppers(&[Fs::Xfs, Fs::Tmpfs]),
        test!(unreadable_data),
        test!(copied_by_who_has_no_mapping),
        test!(old_descriptor_of_a_copy_that_is_closed),
        test!(names_of_copies_are_not_told),
        test!(file_capabilities_that_are_none),
        test!(program_that_runs_is_not_truncated),
        test!(lower_file_that_cannot_seek),
        test!(casefolding_is_not_begun).needs(&[Fs::Ext4]),
        test!(names_of_xattrs),
        test!(map_does_not_wait_for_a_lease),
        test!(magic_link_of_a_layer),
    ]
}

/// What the user 1000, root in a namespace, mounts over a layer of somebody else's, with
/// an upper layer of his own.
fn mount_over(t: &T, at: &Path, lower: &Path) {
    Tree::new(at).dir("u").dir("w").dir("m");
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", lower).works();
    fc.string("upperdir", at.join("u")).works();
    fc.string("workdir", at.join("w")).works();
    fc.flag("userxattr").works();
    fc.create().works();
    fc.attach(&at.join("m"), false).works();
}

/// Nothing has come into the user's upper layer, nor been left on its way there.
#[track_caller]
fn assert_nothing_taken(at: &Path) {
    assert_names(at.join("u"), &[]);
    // To look into it takes rights that nobody has given himself.
    sys::chmod(at.join("w/work"), 0o700).works();
    assert_names(at.join("w/work"), &[]);
}

type Way = (&'static str, fn(&Path) -> Res<()>);

const TOUCH: (i64, i64) = (0, rustix::fs::UTIME_NOW);

/// What copies an object up, where everybody may write to it and to its directory.
const WAYS: [Way; 8] = [
    ("open", |at| sys::open(at, OFlags::WRONLY).map(drop)),
    ("open and truncate", |at| {
        sys::open(at, OFlags::WRONLY | OFlags::TRUNC).map(drop)
    }),
    ("truncate", |at| sys::truncate(at, 1)),
    ("touch", |at| sys::set_times(at, TOUCH, TOUCH)),
    ("xattr", |at| sys::set_xattr(at, "user.x", "y")),
    ("rename", |at| sys::rename(at, at.with_extension("new"))),
    ("exchange", |at| {
        sys::rename_with(at, at.with_file_name("other"), RenameFlags::EXCHANGE)
    }),
    ("link", |at| sys::link(at, at.with_extension("new"))),
];

/// CVE-2023-0386: a copy belongs to whom the lower object does, who may be root.
fn owner_without_a_mapping(t: &T) {
    const OWNERS: [(&str, u32, u32); 3] = [("both", 0, 0), ("uid", 0, 1000), ("gid", 1000, 50)];
    let layer = t.new_dir("layer");
    let l = Tree::new(&layer);
    l.owner("/", 1000, 1000);
    for (name, uid, gid) in OWNERS {
        let own = |n: &str, mode: u32| {
            l.owner(n, uid, gid).mode(n, mode);
        };
        for kind in ["file", "links", "other"] {
            let n = format!("{name}/{kind}");
            l.file(&n, "x");
            own(&n, 0o6777);
        }
        l.link(&format!("{name}/links"), &format!("{name}/links-too"));
        l.fifo(&format!("{name}/fifo"));
        own(&format!("{name}/fifo"), 0o666);
        l.symlink(format!("{name}/symlink"), "file");
        l.owner(&format!("{name}/symlink"), uid, gid);
        l.file(format!("{name}/dir/f"), "x");
        l.owner(&format!("{name}/dir/f"), 1000, 1000);
        own(&format!("{name}/dir"), 0o2777);
        l.owner(name, 1000, 1000);
    }
    rootless_child(t, |at| {
        mount_over(t, at, &layer);
        for (name, _, _) in OWNERS {
            let m = at.join("m").join(name);
            let refused = |what: String, r: Res<()>| {
                let errno = r.err().map(|e| e.errno);
                // `protected_hardlinks`, and owners only, come first.
                let first = [Some(Errno::PERM), Some(Errno::OVERFLOW)];
                let is_asked_first = !what.starts_with("open of") && !what.starts_with("rename of");
                match what.contains("link of") || (name == "gid" && is_asked_first) {
                    true => assert!(first.contains(&errno), "{what}: {errno:?}"),
                    false => assert_eq!(errno, Some(Errno::OVERFLOW), "{what}"),
                }
            };
            for kind in ["file", "links"] {
                for (way, run) in WAYS {
                    refused(format!("{way} of {name}/{kind}"), run(&m.join(kind)));
                }
            }
            let moved = |n: &str| sys::rename(m.join(n), m.join("new"));
            for n in ["fifo", "symlink"] {
                refused(format!("rename of {name}/{n}"), moved(n));
            }
            // And what is in a directory takes the directory along.
            let d = m.join("dir");
            refused(
                format!("touch of {name}/dir"),
                sys::set_times(&d, TOUCH, TOUCH),
            );
            refused(
                format!("new in {name}/dir"),
                sys::mkdir(d.join("new"), 0o755),
            );
            refused(format!("in {name}/dir"), sys::append_file(d.join("f"), "+"));
            refused(format!("unlink in {name}/dir"), sys::unlink(d.join("f")));
        }
        // Those directories are the user's, and were copied up before what is in them.
        let made = sys::names(at.join("u")).works();
        for name in made {
            assert_names(at.join("u").join(name), &[]);
        }
        sys::chmod(at.join("w/work"), 0o700).works();
        assert_names(at.join("w/work"), &[]);
        sys::umount(&at.join("m")).works();
    });
}

/// The same on a filesystem on which the user himself makes owners up.
fn owner_without_a_mapping_served_by_fuse(t: &T) {
    let f = t.fuse(|f| {
        f.file("su", "#!").mode("su", 0o4777);
        f.file("links", "#!").link("links", "too");
        f.mode("links", 0o4755);
    });
    rootless_child(t, |at| {
        mount_over(t, at, &f.at);
        let m = at.join("m");
        let write = sys::open(m.join("su"), OFlags::WRONLY).map(drop);
        write.fails(Errno::OVERFLOW);
        sys::rename(m.join("links"), m.join("x")).fails(Errno::OVERFLOW);
        assert_nothing_taken(at);
        sys::umount(&m).works();
    });
}

/// The server says one thing to who asks for permission, and another to who copies:
/// what is copied is what was looked at last.
fn owner_that_is_another_when_copied(t: &T) {
    let f = t.fuse(|f| {
        f.owner("/", 1000, 1000);
        f.file("f", "#!").owner("f", 1000, 1000).mode("f", 0o777);
    });
    let lie = Lie {
        uid: 0,
        mode: 0o4755,
        nlink: 2,
    };
    f.lies("f", lie);
    rootless_child(t, |at| {
        mount_over(t, at, &f.at);
        let m = at.join("m");
        let refused = [Errno::OVERFLOW, Errno::ACCESS];
        let write = sys::open(m.join("f"), OFlags::WRONLY).map(drop);
        write.fails_any(&refused);
        sys::rename(m.join("f"), m.join("x")).fails_any(&refused);
        assert_nothing_taken(at);
        sys::umount(&m).works();
    });
}

/// Who may give the copy to its owner gives it all that the owner has: nothing is lost
/// because it is asked whether he may.
fn owners_with_a_mapping_keep_their_rights(t: &T) {
    let fill = |l: &Tree| {
        for (name, uid, gid, mode) in [
            ("suid", 7, 8, 0o4755),
            ("sgid", 7, 8, 0o2755),
            ("both", 1000, 1000, 0o6711),
            ("none", 9, 9, 0),
        ] {
            l.file(name, "x").owner(name, uid, gid).mode(name, mode);
            l.fifo(&format!("p-{name}"));
            l.owner(&format!("p-{name}"), uid, gid);
        }
        l.file("listed", "x").owner("listed", 7, 8);
        l.xattr("listed", "system.posix_acl_access", acl_for(1234));
        l.mode("listed", 0o2775);
        l.dir("d").owner("d", 7, 8).mode("d", 0o3777);
    };
    let o = t.stack().lower(fill).mount();
    for name in sys::names(o.m("/")).works() {
        let keep = (0, rustix::fs::UTIME_OMIT);
        sys::set_times(o.m(&name), (5, 5), keep).works();
        let (below, above) = (
            sys::lstat(o.l(0, &name)).works(),
            sys::lstat(o.u(&name)).works(),
        );
        assert_eq!(
            (below.st_uid, below.st_gid, below.st_mode, below.st_mtime),
            (above.st_uid, above.st_gid, above.st_mode, above.st_mtime),
            "{name}"
        );
    }
    let list = |at: PathBuf| sys::get_xattr(at, "system.posix_acl_access").works();
    assert_eq!(list(o.l(0, "listed")), list(o.u("listed")));
}

/// CVE-2020-16120: `rename` asks for rights to directories only, and copies data.
///
/// That the owner has no mapping comes first, here and in each case that there is: a mounter
/// reads all files of owners with a mapping (`CAP_DAC_OVERRIDE`), and one who has given up
/// that right cannot write to his own `work/`, which has mode 0. So this would pass without
/// the question whether he may read the file; `owner_without_a_mapping` would not do without
/// the other.
fn unreadable_data(t: &T) {
    let layer = t.new_dir("layer");
    Tree::new(&layer)
        .owner("/", 1000, 1000)
        .file("secret", "top secret")
        .mode("secret", 0o600)
        .file("two", "top secret")
        .mode("two", 0o600)
        .link("two", "names");
    rootless_child(t, |at| {
        mount_over(t, at, &layer);
        let m = at.join("m");
        for (name, other) in [("secret", "two"), ("two", "secret")] {
            let (from, to) = (m.join(name), m.join("x"));
            let refused = [Errno::OVERFLOW, Errno::ACCESS];
            sys::rename(&from, &to).fails_any(&refused);
            sys::link(&from, &to).fails_any(&[Errno::PERM, Errno::OVERFLOW]);
            let exchange = RenameFlags::EXCHANGE;
            sys::rename_with(&from, m.join(other), exchange).fails_any(&refused);
        }
        assert_nothing_taken(at);
        sys::umount(&m).works();
    });
}

/// Somebody who is root outside of the namespaces, and is asked by who is in one.
struct Outside {
    at: PathBuf,
}

impl Outside {
    /// He does `run` with each path that he is given.
    fn new(t: &T, run: impl Fn(&Path) + Send + 'static) -> (Outside, Task<()>) {
        let at = t.new_dir("outside");
        sys::chmod(&at, 0o777).works();
        let (asked, done) = (at.join("asked"), at.join("done"));
        let task = start("root outside", move || {
            until("somebody asks", || sys::lstat(&asked).is_ok());
            run(Path::new(&sys::readlink(&asked).works()));
            sys::write_file(&done, "").works();
        });
        (Outside { at }, task)
    }

    #[track_caller]
    fn ask(&self, path: &Path) {
        sys::symlink(path, self.at.join("asked")).works();
        let done = self.at.join("done");
        until("it is done", || done.exists());
    }
}

/// He is charged for what he copies only where the mounter could give it to him.
fn copied_by_who_has_no_mapping(t: &T) {
    let (outside, task) = Outside::new(t, |m| {
        sys::append_file(m.join("d/f"), "+").works();
        sys::chmod(m.join("d/g"), 0o4711).works();
        sys::write_file(m.join("new"), "n").fails_any(&[Errno::OVERFLOW, Errno::ACCESS]);
    });
    rootless_child(t, |at| {
        Tree::new(at).dir("u").dir("w").dir("m");
        Tree::new(at.join("l")).file("d/f", "f").file("d/g", "g");
        let fc = mount_in(t, at, &["l"], &["userxattr"]).works();
        let root = PathBuf::from(format!("/proc/{}/root", std::process::id()));
        let m = at.join("m");
        outside.ask(&root.join(m.strip_prefix("/").expect("a whole path")));
        assert_text(m.join("d/f"), "f+");
        for name in ["f", "g"] {
            let st = sys::stat(at.join("u/d").join(name)).works();
            assert_eq!((st.st_uid, st.st_gid), (0, 0), "ours: {name}");
        }
        drop(fc);
        sys::umount(&m).works();
    });
    task.finish();
}

/// What was opened before the copy-up is opened anew below, and the copy may be one that
/// the mounter may not read.
fn old_descriptor_of_a_copy_that_is_closed(t: &T) {
    let (outside, task) = Outside::new(t, |upper| {
        sys::lchown(upper, 0, 0).works();
        sys::chmod(upper, 0o600).works();
    });
    rootless_child(t, |at| {
        Tree::new(at).dir("u").dir("w").dir("m");
        Tree::new(at.join("l")).file("f", "data");
        let fc = mount_in(t, at, &["l"], &["userxattr"]).works();
        let open = || sys::open(at.join("m/f"), OFlags::RDONLY).works();
        let (old, mapped) = (open(), open());
        sys::append_file(at.join("m/f"), "+").works();
        outside.ask(&at.join("u/f"));
        sys::pread(&old, 4, 0).map(drop).fails(Errno::ACCESS);
        sys::open(at.join("m/f"), OFlags::RDONLY)
            .map(drop)
            .fails(Errno::ACCESS);
        if !t.is_overlay() {
            // It maps the lower file for ever.
            let map = Map::new(&mapped, 4096, false, true).map(drop);
            map.fails(Errno::ACCESS);
        }
        drop((fc, old, mapped));
        sys::umount(&at.join("m")).works();
    });
    task.finish();
}

/// Who has changed ids is the owner of his files in /proc again.
fn own_proc_files() {
    // SAFETY: takes only numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
}

/// `/proc/self/mountstats` can be read by everybody; the names of files in closed
/// directories cannot.
fn names_of_copies_are_not_told(t: &T) {
    t.better_than_overlay("it does not tell of its copies");
    let f = t.fuse(|f| {
        f.file("closed/secret", pattern(200_000, 1));
        f.mode("closed", 0o700);
    });
    let o = t.stack().lower_fuse(&f).mount();
    f.stop_first_at("closed/secret", 100_000);
    let at = o.m("closed/secret");
    let copy = start("copy", move || sys::append_file(at, "+"));
    f.wait_standing("closed/secret", 1);
    let told = |fd: &OwnedFd| {
        let all = sys::read_rest(fd).works();
        String::from_utf8_lossy(&all).contains("copy: ")
    };
    let open = || sys::open("/proc/self/mountstats", OFlags::RDONLY).works();
    assert!(told(&open()), "to root");
    let copies = o.copies().expect("mountstats");
    assert_eq!(copies.in_flight.len(), 1);
    t.as_user(1000, 1000, || {
        own_proc_files();
        let all = sys::text("/proc/self/mountstats").works();
        assert!(all.contains("copies: started 2 done 1"), "{all}");
        assert!(!all.contains("copy: ") && !all.contains("secret"), "{all}");
    });
    // Who has opened it counts, and not the program that he hands it to.
    t.in_child(|| {
        let id = |u| Some(rustix::fs::Uid::from_raw(u));
        rustix::thread::set_thread_res_uid(id(0), id(1000), id(0)).expect("setresuid");
        own_proc_files();
        let fd = open();
        rustix::thread::set_thread_res_uid(id(0), id(0), id(0)).expect("setresuid");
        assert!(!told(&fd), "to who opened it as a user");
    });
    f.go_on("closed/secret");
    copy.finish().works();
}

/// Who owns a file can store an empty value, and a server may say anything.
fn file_capabilities_that_are_none(t: &T) {
    const CAPABILITY: &str = "security.capability";
    let f: Arc<Fuse> = t.fuse(|f| {
        for (name, value) in [("empty", &b""[..]), ("junk", b"junk")] {
            f.file(name, "x").xattr(name, CAPABILITY, value);
            f.xattr(name, "user.x", "y");
            f.file(&format!("{name}2"), "x");
            f.xattr(&format!("{name}2"), CAPABILITY, value);
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for name in ["empty", "junk"] {
        sys::chmod(o.m(name), 0o600).works();
        let appended = format!("{name}2");
        sys::append_file(o.m(&appended), "+").works();
        assert_text(o.u(&appended), "x+");
        for copy in [name, &appended] {
            assert_eq!(sys::xattr_opt(o.u(copy), CAPABILITY), None, "{copy}");
        }
        assert_eq!(sys::get_xattr(o.u(name), "user.x").works(), b"y");
    }
}

/// One that is run from the upper directory, past the mount.
fn program_that_runs_is_not_truncated(t: &T) {
    let o = t
        .stack()
        .upper(|u| {
            let sleep = sys::read_file("/bin/sleep").works();
            u.file("sleep", sleep).mode("sleep", 0o755);
        })
        .lower(|_| {})
        .mount();
    let size = sys::stat(o.u("sleep")).works().st_size;
    let mut child = Command::new(o.u("sleep"))
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep");
    let truncated = sys::truncate(o.m("sleep"), 0);
    let opened = sys::open(o.m("sleep"), OFlags::WRONLY | OFlags::TRUNC).map(drop);
    let _ = child.kill();
    let _ = child.wait();
    truncated.fails(Errno::TXTBSY);
    opened.fails(Errno::TXTBSY);
    assert_eq!(sys::stat(o.u("sleep")).works().st_size, size);
    sys::truncate(o.m("sleep"), 0).works();
}

/// To know of no holes is no reason not to read.
fn lower_file_that_cannot_seek(t: &T) {
    let data = pattern(100_000, 1);
    const ERRORS: [Errno; 4] = [Errno::IO, Errno::SPIPE, Errno::PERM, Errno::OVERFLOW];
    let name = |errno: Errno| format!("f{}", errno.raw_os_error());
    let f = t.fuse(|f| {
        for errno in ERRORS {
            f.file(&name(errno), &data);
        }
    });
    for errno in ERRORS {
        f.lseek_fails(&name(errno), errno);
    }
    let o = t.stack().lower_fuse(&f).mount();
    for errno in ERRORS {
        sys::chmod(o.m(name(errno)), 0o600).works();
        let copy = sys::read_file(o.u(name(errno))).works();
        assert!(copy == data, "{errno:?}");
    }
}

/// `chattr +F`: a directory in which two names are one may not come about below.
fn casefolding_is_not_begun(t: &T) {
    t.better_than_overlay("it goes on with a directory that it would refuse to mount");
    if !sys::exists("/sys/fs/ext4/features/casefold") {
        t.skip("the kernel's ext4 knows no casefolding (CONFIG_UNICODE)");
    }
    let own = t.own_fs(Fs::Ext4, 32);
    own.umount_and_check();
    let arguments = ["-q", "-F", "-O", "casefold"].map(std::ffi::OsStr::new);
    sys::run(
        "mkfs.ext4",
        &[&arguments[..], &[own.image.as_os_str()]].concat(),
    );
    own.mount();
    let fold = |at: &Path, on: bool| {
        let fd = sys::open(at, OFlags::RDONLY).works();
        let old = sys::get_flags(&fd).works();
        let new = match on {
            true => old | IFlags::from_bits_retain(0x4000_0000),
            false => old,
        };
        sys::set_flags(&fd, new)
    };
    let plain = own.at.join("plain");
    sys::mkdir(&plain, 0o755).works();
    fold(&plain, true).works();
    let o = t
        .stack()
        .lower(|l| {
            l.dir("low");
        })
        .upper_in(&own.at)
        .mount();
    sys::mkdir(o.m("up"), 0o755).works();
    for name in ["low", "up"] {
        fold(&o.m(name), true).fails(Errno::OPNOTSUPP);
        fold(&o.m(name), false).works();
    }
    sys::write_file(o.m("up/File"), "x").works();
    sys::stat(o.m("up/FILE")).fails(Errno::NOENT);
    o.umount();
    own.umount_and_check();
    own.mount();
    o.mount().works();
}

/// Of those that an overlay keeps to itself, as its documentation has them: escaped.
fn names_of_xattrs(t: &T) {
    for (flag, prefix) in [
        (None, "trusted.overlay."),
        (Some("userxattr"), "user.overlay."),
    ] {
        let stack = t.stack().lower(|l| {
            l.file("f", "x");
        });
        let o = match flag {
            Some(flag) => stack.flag(flag),
            None => stack,
        }
        .mount();
        for (name, errno) in [
            (prefix.to_string(), Errno::INVAL),
            (
                format!("{prefix}{}", "x".repeat(255 - prefix.len())),
                Errno::OPNOTSUPP,
            ),
        ] {
            sys::set_xattr(o.m("f"), &name, "y").fails(errno);
            sys::get_xattr(o.m("f"), &name).map(drop).fails(errno);
            sys::remove_xattr(o.m("f"), &name).fails(errno);
        }
        assert!(!sys::exists(o.u("f")), "copied up for nothing");
        let longest = format!(
            "{prefix}{}",
            "x".repeat(255 - prefix.len() - "overlay.".len())
        );
        sys::set_xattr(o.m("f"), &longest, "y").works();
        assert_eq!(sys::list_xattr(o.m("f")).works(), [longest]);
        o.umount();
    }
}

/// A map is made with the address space locked. Who holds a lease of the copy may look
/// at that before he gives it up.
fn map_does_not_wait_for_a_lease(t: &T) {
    t.better_than_overlay("it maps the lower file for ever");
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "old");
        })
        .mount();
    let old = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::write_file(o.m("f"), "new").works();
    let holder = sys::open(o.u("f"), OFlags::RDWR).works();
    // SAFETY: only says what is done with a signal.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    sys::set_lease(&holder, libc::F_WRLCK).works();
    let fd = old.try_clone().expect("dup");
    let map = now("map", move || Map::new(&fd, 4096, false, true).map(drop));
    map.fails(Errno::AGAIN);
    sys::set_lease(&holder, libc::F_UNLCK).works();
    let map = Map::new(&old, 4096, false, true).works();
    assert_eq!(map.get(0, 3), b"new");
}

/// A magic link has no text: it jumps, with the path walk that asks. That would be one of
/// another link, or none. The only ones that a layer can have are AppArmor's: procfs is
/// no layer, it counts as stacked as deep as can be.
fn magic_link_of_a_layer(t: &T) {
    t.better_than_overlay("the kernel oopses");
    let none = rustix::mount::MountFlags::empty();
    let at = t.new_dir("securityfs");
    if sys::mount("none", &at, "securityfs", none, b"").is_err() {
        t.skip("the kernel has no securityfs");
    }
    if sys::readlink(at.join("apparmor/policy")).is_err() {
        sys::umount(&at).works();
        t.skip("the kernel does not run AppArmor");
    }
    let o = t.stack().lower_dir(at.join("apparmor"));
    // Not all of its files can be read.
    let o = o.lowers_not_compared().mount();
    sys::readlink(o.m("policy")).fails(Errno::INVAL);
    sys::open(o.m("policy"), OFlags::RDONLY).fails(Errno::INVAL);
    sys::open(o.m("policy/profiles"), OFlags::RDONLY).fails(Errno::INVAL);
    sys::rename(o.m("policy"), o.m("other")).fails(Errno::INVAL);
    o.umount();
    sys::umount(&at).works();
}
