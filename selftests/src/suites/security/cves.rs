// SPDX-License-Identifier: GPL-2.0

//! Known faults of overlayfs, by the number under which each was published, and fixes of
//! its stable versions that got none (`fix_`). `Documentation/security.rst` says which
//! cannot apply to rovl, and why.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::MountFlags;

use crate::env::{threads, Fs, T};
use crate::runner::Test;
use crate::suites::userns::{mount_in, rootless_child};
use crate::sys::{self, Errno, Expect, FileType, FsContext, IFlags, OFlags};
use crate::tree::{assert_names, assert_text, pattern, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(cve_2015_1328_directories_of_others),
        test!(cve_2015_8660_attributes_of_others),
        test!(cve_2016_1575_setgid_directory_of_others),
        test!(cve_2016_1576_setuid_on_fuse),
        test!(cve_2016_6197_rename_to_a_link_of_itself),
        test!(cve_2018_16597_truncate_without_right),
        test!(cve_2020_16120_data_that_cannot_be_read),
        test!(cve_2020_16120_names_that_cannot_be_read),
        test!(cve_2021_20321_rename_against_unlink_below),
        test!(cve_2021_3493_capabilities_from_a_namespace),
        test!(cve_2021_3732_below_locked_mounts),
        test!(cve_2021_3847_capabilities_of_a_nosuid_layer),
        test!(cve_2021_46972_nothing_left_of_refused_objects),
        test!(cve_2023_0386_setuid_copy_up),
        test!(cve_2023_0386_all_kinds),
        test!(cve_2023_1252_closed_during_aio),
        test!(cve_2023_53260_rcu_walk_against_eviction),
        test!(cve_2024_27069_lower_size_changes),
        test!(cve_2025_21654_watched_without_a_name),
        test!(cve_2025_21887_link_with_revalidation),
        test!(cve_2026_89767_casefolded_layers),
        test!(cve_2026_89768_path_of_nested_maps),
        test!(cve_2026_99418_xattr_of_another_size),
        test!(cve_2026_99419_copy_of_what_was_removed),
        test!(cve_2026_99420_work_directory_exchanged),
        test!(cve_2026_99422_upper_parent_goes),
        test!(cve_2026_99423_renamed_during_copy_up),
        test!(cve_2026_99424_listed_during_copy_up),
        test!(cve_2026_99425_listed_and_moved),
        test!(cve_2026_99640_chattr_casefold),
        test!(fix_empty_security_capability),
        test!(fix_lower_without_uuid_exchanged),
        test!(fix_permission_to_open_the_copy),
        test!(fix_inode_flags_by_others),
        test!(fix_link_by_the_owner),
        test!(fix_removed_below),
        test!(fix_tmpfile_in_a_lower_directory),
        test!(fix_ioctl_on_a_lower_directory),
        test!(fix_listxattr_against_changes),
    ]
}

const CAPABILITY: &str = "security.capability";

/// A file capability, effective; with `rootid` that of a user namespace.
fn capability(bits: u32, rootid: Option<u32>) -> Vec<u8> {
    let magic: u32 = if rootid.is_some() {
        0x0300_0001
    } else {
        0x0200_0001
    };
    let words = [magic, bits, 0, 0, 0].into_iter().chain(rootid);
    words.flat_map(u32::to_le_bytes).collect()
}

const SETUID: u32 = 1 << 7;

/// Does each of these again and again, all at once.
fn race(all: &[&(dyn Fn(usize) + Sync)]) {
    let end = Instant::now() + Duration::from_millis(1500);
    let again = |f: &'_ (dyn Fn(usize) + Sync)| {
        let mut i = 0;
        while Instant::now() < end {
            f(i);
            i += 1;
        }
    };
    let again = &again;
    threads(all.iter().map(|f| move || again(*f)).collect());
}

fn drop_caches() {
    std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
}

/// A layer that root has made and that users can see.
fn layer(t: &T, fill: impl FnOnce(&Tree)) -> PathBuf {
    let at = t.new_dir("layer");
    fill(&Tree::new(&at));
    at
}

/// Mounts the lower layers as root of a namespace, and does it there. Nothing of the
/// layers may come into the upper one.
#[track_caller]
fn rootless(t: &T, lower: &[&Path], inside: impl FnOnce(&Path)) -> PathBuf {
    rootless_child(t, |at| {
        Tree::new(at).dir("u").dir("w").dir("m");
        let lower: Vec<&str> = lower.iter().map(|l| l.to_str().expect("text")).collect();
        let fc = mount_in(t, at, &lower, &["userxattr"]).works();
        inside(at);
        drop(fc);
        sys::umount(&at.join("m")).works();
    })
}

/// Nothing was copied, and nothing is on its way.
#[track_caller]
fn assert_nothing_copied(at: &Path) {
    assert_names(at.join("u"), &[]);
    let work = at.join("w/work");
    if let Ok(names) = sys::names(&work) {
        assert!(names.is_empty(), "left in the work directory: {names:?}");
    }
}

/// Creating something was not checked against the upper directory that it needs.
fn cve_2015_1328_directories_of_others(t: &T) {
    let root = layer(t, |l| {
        l.file("etc/passwd", "p").file("etc/shadow", "s");
        l.mode("etc/shadow", 0o600).dir("etc/d");
    });
    rootless(t, &[&root], |at| {
        let m = at.join("m/etc");
        let no = [Errno::ACCESS, Errno::OVERFLOW];
        sys::write_file(m.join("new"), "x").fails_any(&no);
        sys::mkdir(m.join("new"), 0o777).fails_any(&no);
        sys::append_file(m.join("passwd"), "x").fails_any(&no);
        sys::rename(m.join("passwd"), m.join("x")).fails_any(&no);
        sys::rename(m.join("shadow"), at.join("m/x")).fails_any(&no);
        sys::unlink(m.join("shadow")).fails_any(&no);
        sys::rmdir(m.join("d")).fails_any(&no);
        sys::text(m.join("shadow")).map(drop).fails(Errno::ACCESS);
        assert_nothing_copied(at);
    });
}

/// setattr went to the upper filesystem without the checks of the VFS.
fn cve_2015_8660_attributes_of_others(t: &T) {
    let fill = |l: &Tree| {
        l.file("suid", "x").mode("suid", 0o4755);
        l.file("open", "x").mode("open", 0o666);
    };
    let o = t.stack().lower(fill).mount();
    let tries = |m: &Path, errno: &[Errno]| {
        for f in ["suid", "open"] {
            sys::chmod(m.join(f), 0o4777).fails_any(errno);
            sys::lchown(m.join(f), 1000, 1000).fails_any(errno);
            sys::set_times(m.join(f), (1, 1), (1, 1)).fails_any(errno);
        }
        sys::truncate(m.join("suid"), 0).fails_any(&[Errno::ACCESS, Errno::OVERFLOW]);
    };
    t.as_user(1000, 1000, || tries(&o.m("/"), &[Errno::PERM]));
    assert_names(o.u("/"), &[]);
    rootless(t, &[&layer(t, fill)], |at| {
        // The number has no mapping there.
        tries(&at.join("m"), &[Errno::PERM, Errno::OVERFLOW, Errno::INVAL]);
        assert_nothing_copied(at);
    });
}

/// A directory whose group is not the mounter's, and gives it to what is made in it.
fn cve_2016_1575_setgid_directory_of_others(t: &T) {
    let root = layer(t, |l| {
        l.dir("d").owner("d", 0, 50).mode("d", 0o2777);
        l.dir("mine").owner("mine", 1000, 50).mode("mine", 0o2777);
    });
    rootless(t, &[&root], |at| {
        for dir in ["d", "mine"] {
            let d = at.join("m").join(dir);
            sys::write_file(d.join("f"), "x").fails(Errno::OVERFLOW);
            sys::mkdir(d.join("sub"), 0o777).fails(Errno::OVERFLOW);
        }
        assert_nothing_copied(at);
    });
}

/// A set-uid file of root's on a filesystem that a user serves himself.
fn cve_2016_1576_setuid_on_fuse(t: &T) {
    let fuse = t.fuse(|f| {
        f.file("open", "x").mode("open", 0o4777);
        f.file("two", "x").mode("two", 0o4755).link("two", "names");
        f.file("group", "x").owner("group", 1000, 50);
        f.mode("group", 0o2777);
        f.mode("/", 0o777);
    });
    rootless(t, &[&fuse.at], |at| {
        let m = at.join("m");
        for f in ["open", "group"] {
            sys::open(m.join(f), OFlags::WRONLY)
                .map(drop)
                .fails(Errno::OVERFLOW);
            sys::rename(m.join(f), m.join("x")).fails(Errno::OVERFLOW);
        }
        sys::rename(m.join("two"), m.join("x")).fails(Errno::OVERFLOW);
        assert_nothing_copied(at);
    });
}

/// The upper names were compared and found different, though they are one file.
fn cve_2016_6197_rename_to_a_link_of_itself(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "f").file("a", "low").link("a", "b");
        })
        .mount();
    sys::link(o.m("f"), o.m("g")).works();
    for _ in 0..2 {
        sys::rename(o.m("f"), o.m("g")).works();
        sys::rename(o.m("f"), o.m("f")).works();
        for n in ["f", "g"] {
            assert_text(o.m(n), "f");
        }
        o.remount();
    }
    sys::rename(o.m("a"), o.m("b")).works();
    assert_text(o.m("b"), "low");
}

/// truncate(2) of a file that only others may write to.
fn cve_2018_16597_truncate_without_right(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "data").file("w", "data").mode("w", 0o222);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::truncate(o.m("f"), 0).fails(Errno::ACCESS);
        let opened = sys::open(o.m("f"), OFlags::RDONLY | OFlags::TRUNC);
        opened.map(drop).fails(Errno::ACCESS);
        let opened = sys::open(o.m("w"), OFlags::RDONLY | OFlags::TRUNC);
        opened.map(drop).fails(Errno::ACCESS);
    });
    assert_names(o.u("/"), &[]);
    assert_text(o.m("f"), "data");
}

/// Copy-up read what the mounter may not read. See `security.unreadable_data` on what comes
/// first.
fn cve_2020_16120_data_that_cannot_be_read(t: &T) {
    let root = layer(t, |l| {
        l.file("secret", "topsecret").mode("secret", 0o600);
        l.link("secret", "again").mode("/", 0o777);
        l.file("one", "topsecret").mode("one", 0o200);
    });
    let at = rootless(t, &[&root], |at| {
        let m = at.join("m");
        for f in ["secret", "one"] {
            let no = [Errno::ACCESS, Errno::OVERFLOW];
            sys::text(m.join(f)).map(drop).fails(Errno::ACCESS);
            sys::rename(m.join(f), m.join("x")).fails_any(&no);
            let link = sys::link(m.join(f), m.join("x"));
            link.fails_any(&[Errno::ACCESS, Errno::OVERFLOW, Errno::PERM]);
        }
        assert_nothing_copied(at);
    });
    assert_names(at.join("u"), &[]);
}

/// A merged directory was opened below without asking.
fn cve_2020_16120_names_that_cannot_be_read(t: &T) {
    let root = layer(t, |l| {
        l.file("door/hidden", "x").mode("door", 0o700);
    });
    rootless_child(t, |at| {
        Tree::new(at).dir("u/door").dir("w").dir("m");
        Tree::new(at.join("l")).file("door/own", "x");
        let lower = [at.join("l"), root.clone()];
        let lower: Vec<&str> = lower.iter().map(|l| l.to_str().expect("text")).collect();
        let fc = mount_in(t, at, &lower, &["userxattr"]).works();
        sys::names(at.join("m/door")).map(drop).fails(Errno::ACCESS);
        drop(fc);
        sys::umount(&at.join("m")).works();
    });
}

/// The upper name goes between look-up and rename.
fn cve_2021_20321_rename_against_unlink_below(t: &T) {
    let o = t.stack().lower(|l| _ = l.file("f", "f")).mount();
    sys::write_file(o.m("a"), "a").works();
    let (a, b) = (o.m("a"), o.m("b"));
    race(&[
        &|_| {
            let _ = sys::rename(&a, &b);
            let _ = sys::rename(&b, &a);
            let _ = sys::write_file(&a, "a");
        },
        &|_| {
            let _ = sys::unlink(o.u("a"));
            let _ = sys::unlink(o.u("b"));
        },
    ]);
    o.remount();
    assert_text(o.m("f"), "f");
}

/// `security.capability` was written for the namespace of the upper filesystem: also
/// CVE-2023-2640 and CVE-2023-32629.
fn cve_2021_3493_capabilities_from_a_namespace(t: &T) {
    let at = rootless_child(t, |at| {
        Tree::new(at).dir("u").dir("w").dir("m");
        Tree::new(at.join("l")).file("f", "f").file("g", "g");
        sys::set_xattr(at.join("l/g"), CAPABILITY, capability(SETUID, None)).works();
        let fc = mount_in(t, at, &["l"], &["userxattr"]).works();
        let m = at.join("m");
        sys::set_xattr(m.join("f"), CAPABILITY, capability(SETUID, None)).works();
        sys::write_file(m.join("new"), "n").works();
        sys::set_xattr(m.join("new"), CAPABILITY, capability(SETUID, None)).works();
        let foreign = capability(SETUID, Some(7));
        sys::set_xattr(m.join("new"), CAPABILITY, foreign).fails_any(&[Errno::PERM, Errno::INVAL]);
        sys::chmod(m.join("g"), 0o700).works();
        drop(fc);
        sys::umount(&m).works();
    });
    // As seen from outside.
    for f in ["f", "new", "g"] {
        let value = sys::get_xattr(at.join("u").join(f), CAPABILITY).works();
        assert_eq!(value, capability(SETUID, Some(1000)), "{f}");
    }
}

/// What is mounted over a part of a layer must go on hiding it.
fn cve_2021_3732_below_locked_mounts(t: &T) {
    let root = layer(t, |l| _ = l.file("hidden/secret", "s"));
    let hidden = root.join("hidden");
    sys::mount("none", &hidden, "tmpfs", MountFlags::empty(), b"").works();
    rootless_child(t, |at| {
        Tree::new(at).dir("u").dir("w").dir("m");
        let lower = root.to_str().expect("text");
        let mounted = mount_in(t, at, &[lower], &["userxattr"]);
        mounted.map(drop).fails(Errno::INVAL);
    });
    sys::umount(&hidden).works();
}

/// Capabilities that mean nothing where a file is would mean something in its copy.
fn cve_2021_3847_capabilities_of_a_nosuid_layer(t: &T) {
    let root = layer(t, |l| {
        l.file("f", "x").owner("f", 1000, 1000);
        l.xattr("f", CAPABILITY, capability(SETUID, None));
        l.mode("/", 0o777).owner("/", 1000, 1000);
    });
    let nosuid = t.new_dir("nosuid");
    sys::bind_mount(&root, &nosuid).works();
    sys::remount(&nosuid, MountFlags::BIND | MountFlags::NOSUID, "").works();
    let at = rootless(t, &[&nosuid], |at| {
        let f = at.join("m/f");
        let _ = sys::chmod(&f, 0o777);
        let _ = sys::append_file(&f, "");
        let _ = sys::rename(&f, at.join("m/g"));
    });
    for name in sys::names(at.join("u")).works() {
        let copied = sys::xattr_opt(at.join("u").join(&name), CAPABILITY);
        assert_ne!(copied, Some(capability(SETUID, None)), "{name}");
    }
    sys::umount(&nosuid).works();
}

/// A reference was kept for each object that was refused. Had it been, the unmount at the
/// end would say so.
fn cve_2021_46972_nothing_left_of_refused_objects(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "").file("d/x", "x");
            l.xattr("f", "trusted.overlay.metacopy", "\0\x02\0\0");
            l.xattr("f", "trusted.overlay.redirect", "/../..");
            l.xattr("d", "trusted.overlay.redirect", "a//b");
        })
        .lower(|l| _ = l.file("f", "below").file("d/y", "y"))
        .mount();
    for _ in 0..30 {
        let _ = sys::stat(o.m("f"));
        let _ = sys::text(o.m("f"));
        let _ = sys::names(o.m("d"));
        let _ = sys::names(o.m("/"));
        drop_caches();
    }
}

/// Owners without a mapping got set-id files in the upper layer.
fn cve_2023_0386_setuid_copy_up(t: &T) {
    let root = layer(t, |l| {
        l.file("suid", "x").mode("suid", 0o4777);
        l.file("two", "x").link("two", "names").mode("two", 0o4755);
        l.file("user", "x").owner("user", 1000, 0);
        l.file("group", "x").owner("group", 0, 1000);
        for f in ["user", "group"] {
            l.mode(f, 0o6777);
        }
        l.mode("/", 0o777);
    });
    let at = rootless(t, &[&root], |at| {
        let m = at.join("m");
        for f in ["suid", "user", "group"] {
            let file = m.join(f);
            sys::open(&file, OFlags::WRONLY)
                .map(drop)
                .fails(Errno::OVERFLOW);
            sys::append_file(&file, "x").fails(Errno::OVERFLOW);
            sys::truncate(&file, 0).fails(Errno::OVERFLOW);
            let opened = sys::open(&file, OFlags::WRONLY | OFlags::TRUNC);
            opened.map(drop).fails(Errno::OVERFLOW);
            sys::rename(&file, m.join("x")).fails(Errno::OVERFLOW);
            sys::link(&file, m.join("x")).fails_any(&[Errno::OVERFLOW, Errno::PERM]);
            // Of him who may write to it, this is no change of an attribute.
            sys::set_xattr(&file, "user.x", "y").fails(Errno::OVERFLOW);
        }
        sys::rename(m.join("two"), m.join("x")).fails(Errno::OVERFLOW);
        assert_nothing_copied(at);
    });
    assert_names(at.join("u"), &[]);
}

/// The same for what is no file, and for what is on the way to one.
fn cve_2023_0386_all_kinds(t: &T) {
    let root = layer(t, |l| {
        l.dir("open").mode("open", 0o777);
        l.file("open/mine", "x").owner("open/mine", 1000, 1000);
        l.fifo("p").symlink("s", "x").socket("k");
        l.node("null", FileType::CharacterDevice, 0x103);
        l.mode("/", 0o777);
    });
    rootless(t, &[&root], |at| {
        let m = at.join("m");
        for n in ["p", "s", "k", "null"] {
            sys::rename(m.join(n), m.join("x")).fails(Errno::OVERFLOW);
        }
        sys::write_file(m.join("open/new"), "x").fails(Errno::OVERFLOW);
        sys::unlink(m.join("open/mine")).fails(Errno::OVERFLOW);
        // His own file, below a directory that is not.
        sys::append_file(m.join("open/mine"), "x").fails(Errno::OVERFLOW);
        sys::chmod(m.join("open/mine"), 0o700).fails(Errno::OVERFLOW);
        assert_nothing_copied(at);
        // What hides it is his.
        sys::unlink(m.join("p")).works();
        crate::tree::assert_whiteout(at.join("u/p"));
    });
}

/// The last reference to the file went before the request was done.
fn cve_2023_1252_closed_during_aio(t: &T) {
    use io_uring::{opcode, types, IoUring};
    use std::os::fd::AsRawFd;
    let o = t
        .stack()
        .lower(|l| _ = l.file("f", pattern(1 << 16, 1)))
        .mount();
    let mut ring = match IoUring::new(8) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => t.skip("the kernel has no io_uring"),
        ring => ring.expect("io_uring_setup"),
    };
    let mut data = sys::Aligned::new(1 << 16, b'x');
    for i in 0..40u8 {
        data.fill(i);
        let flags = if i % 2 == 0 {
            OFlags::RDWR | OFlags::DIRECT
        } else {
            OFlags::RDWR
        };
        let fd = sys::open(o.m("f"), flags).works();
        let at = types::Fd(fd.as_raw_fd());
        let write = opcode::Write::new(at, data.as_ptr(), data.len() as u32).build();
        // SAFETY: the buffer lives until the request has been waited for, below.
        unsafe { ring.submission().push(&write) }.expect("a free entry");
        ring.submit().expect("io_uring_enter");
        drop(fd);
        ring.submit_and_wait(1).expect("io_uring_enter");
        let done = ring.completion().next().expect("a completion");
        assert_eq!(done.result(), 1 << 16);
        assert!(sys::read_file(o.m("f")).works() == data[..]);
    }
}

/// A walk without references meets an inode that goes: also CVE-2023-54313.
fn cve_2023_53260_rcu_walk_against_eviction(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..8 {
                l.file(format!("d{i}/s/f"), "f");
            }
            l.mode("/", 0o777);
        })
        .mount();
    let path = |i: usize| o.m(format!("d{}/s/f", i % 8));
    race(&[
        &|i| drop(sys::access(path(i), sys::Access::WRITE_OK)),
        &|i| drop(sys::get_xattr(path(i), "system.posix_acl_access")),
        &|i| {
            let new = o.m(format!("d{}/s/n", i % 8));
            let _ = sys::write_file(&new, "n");
            let _ = sys::access(&new, sys::Access::EXEC_OK);
            let _ = sys::unlink(&new);
        },
        &|_| drop_caches(),
    ]);
    for i in 0..8 {
        assert_names(o.m(format!("d{i}/s")), &["f"]);
    }
}

/// The lower file is not as long as it was said to be.
fn cve_2024_27069_lower_size_changes(t: &T) {
    let size = 1 << 16;
    let stack = t.stack().lowers_not_compared().lower(|l| {
        for i in 0..100 {
            l.file(format!("f{i}"), vec![b'x'; size]);
        }
    });
    let o = stack.mount();
    race(&[
        &|i| {
            for n in 0..100 {
                let long = (i + n) % 2 * size + size / 2;
                let _ = sys::truncate(o.l(0, format!("f{n}")), long as u64);
            }
        },
        &|i| drop(sys::chmod(o.m(format!("f{}", i % 100)), 0o600)),
        &|i| drop(sys::append_file(o.m(format!("f{}", 99 - i % 100)), "y")),
    ]);
}

/// The file handle of a watched inode is asked for when it has no name.
fn cve_2025_21654_watched_without_a_name(t: &T) {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "f").file("d/g", "g").file("gone", "x");
        })
        .mount();
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
    assert!(fd >= 0, "inotify_init1");
    // SAFETY: a new descriptor that nobody else knows.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    sys::write_file(o.m("new"), "n").works();
    for n in ["f", "d", "d/g", "new", "gone"] {
        let path = sys::cpath(&o.m(n));
        // SAFETY: a string that ends in NUL.
        let wd = unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), libc::IN_OPEN) };
        assert!(wd >= 0, "inotify_add_watch {n}");
    }
    let held = sys::open(o.m("gone"), OFlags::RDONLY).works();
    sys::unlink(o.m("gone")).works();
    for _ in 0..3 {
        drop_caches();
        let info = sys::text(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).works();
        let watches = info.lines().filter(|l| l.starts_with("inotify")).count();
        assert_eq!(watches, 5, "{info}");
        sys::append_file(o.m("f"), "").works();
    }
    drop(held);
}

/// The flags of a dentry were taken from one that had gone.
fn cve_2025_21887_link_with_revalidation(t: &T) {
    let fuse = t.fuse(|f| {
        for i in 0..20 {
            f.file(&format!("f{i}"), "f");
        }
    });
    fuse.remember_nothing();
    let o = t.stack().lower_fuse(&fuse).mount();
    for i in 0..20 {
        sys::link(o.m(format!("f{i}")), o.m(format!("g{i}"))).works();
        if i % 5 == 0 {
            drop_caches();
        }
        sys::append_file(o.m(format!("g{i}")), "+").works();
        assert_text(o.m(format!("f{i}")), "f+");
    }
}

/// An ext4 of which directories can ignore the case of names.
fn casefolding(t: &T) -> PathBuf {
    let image = t.dir.join("casefold.img");
    let at = t.dir.join("casefold");
    sys::mkdir(&at, 0o755).works();
    let file = std::fs::File::create(&image).expect("image");
    file.set_len(32 << 20).expect("image size");
    let options = ["-q", "-F", "-O", "casefold"].map(std::ffi::OsStr::new);
    sys::run("mkfs.ext4", &[&options[..], &[image.as_os_str()]].concat());
    let mounted = std::process::Command::new("mount")
        .args(["-t", "ext4", "-o", "loop"])
        .args([&image, &at])
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        t.skip("the kernel's ext4 knows no casefolding");
    }
    at
}

fn fold(dir: &Path) -> sys::Res<()> {
    let fd = sys::open(dir, OFlags::RDONLY)?;
    let flags = sys::get_flags(&fd)?;
    sys::set_flags(&fd, flags | IFlags::from_bits_retain(0x4000_0000))
}

/// Also CVE-2026-99639 and CVE-2026-99641: rovl takes no such layers.
fn cve_2026_89767_casefolded_layers(t: &T) {
    t.better_than_overlay("it takes casefolded layers");
    let at = casefolding(t);
    Tree::new(&at)
        .dir("l")
        .dir("u")
        .dir("w")
        .dir("m")
        .dir("plain");
    fold(&at.join("l")).works();
    let create = |lower: &str, upper: &str| {
        let fc = FsContext::open(t.fstype()).works();
        fc.string("lowerdir+", at.join(lower)).works();
        fc.string("upperdir", at.join(upper)).works();
        fc.string("workdir", at.join("w")).works();
        fc.create()
    };
    // As soon as the option is given, or when all are.
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", at.join("l")).fails(Errno::INVAL);
    drop(fc);
    create("plain", "u").works();
    fold(&at.join("u")).works();
    let fc = FsContext::open(t.fstype()).works();
    fc.string("upperdir", at.join("u")).fails(Errno::INVAL);
    drop(fc);
    sys::umount(&at).works();
}

/// The owner of a directory lets its names change their meaning.
fn cve_2026_99640_chattr_casefold(t: &T) {
    t.better_than_overlay("CVE-2026-99640 is not fixed in 7.3.4");
    let at = casefolding(t);
    let o = t
        .stack()
        .lower(|l| {
            l.dir("low").file("both/f", "f");
        })
        .upper_in(&at)
        .mount();
    sys::mkdir(o.m("new"), 0o755).works();
    for dir in ["low", "both", "new"] {
        fold(&o.m(dir)).fails(Errno::OPNOTSUPP);
        assert!(!sys::exists(o.u("low")), "copied up for nothing");
    }
    sys::write_file(o.m("new/File"), "1").works();
    sys::write_file(o.m("new/FILE"), "2").works();
    assert_names(o.m("new"), &["FILE", "File"]);
    o.umount();
    sys::umount(&at).works();
    o.work_not_checked();
}

/// /proc/PID/maps and the LSMs are to be told of the file that was opened.
fn cve_2026_89768_path_of_nested_maps(t: &T) {
    let one = t
        .stack()
        .lower(|l| _ = l.file("f", pattern(4096, 1)))
        .mount();
    let two = t.stack().lower_dir(one.m("/")).mount();
    for copied in [false, true] {
        let fd = sys::open(two.m("f"), OFlags::RDONLY).works();
        let map = sys::Map::new(&fd, 4096, false, true).works();
        let maps = sys::text("/proc/self/maps").works();
        let path = two.m("f").display().to_string();
        let lines = maps.lines().filter(|l| l.ends_with(&path)).count();
        assert_eq!(lines, 1, "copied: {copied}\n{maps}");
        drop(map);
        sys::chmod(two.m("f"), 0o600).works();
    }
}

/// The size of a value and the value itself are two questions.
fn cve_2026_99418_xattr_of_another_size(t: &T) {
    let fuse = t.fuse(|f| {
        for n in ["long", "short", "exact"] {
            f.file(n, "f").xattr(n, "user.x", vec![b'v'; 100]);
        }
        f.xattr_claims("long", "user.x", 4);
        f.xattr_claims("short", "user.x", 60_000);
        f.file("none", "f").xattr("none", "user.x", "v");
        f.xattr_claims("none", "user.x", 0);
    });
    let o = t.stack().lower_fuse(&fuse).mount();
    sys::chmod(o.m("long"), 0o600).fails_any(&[Errno::RANGE, Errno::IO]);
    sys::append_file(o.m("long"), "+").fails_any(&[Errno::RANGE, Errno::IO]);
    assert!(!sys::exists(o.u("long")));
    assert_text(o.m("long"), "f");
    // Nothing that was never read.
    if sys::chmod(o.m("none"), 0o600).is_ok() {
        let value = sys::get_xattr(o.u("none"), "user.x").works();
        assert!(value.is_empty() || value == b"v", "{value:?}");
    }
    for n in ["short", "exact"] {
        sys::chmod(o.m(n), 0o600).works();
        assert_eq!(
            sys::get_xattr(o.u(n), "user.x").works(),
            vec![b'v'; 100],
            "{n}"
        );
    }
}

/// A change through a descriptor of what was removed must not meet what has its name now.
fn cve_2026_99419_copy_of_what_was_removed(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "old").fifo("p").dir("d").file("o", "old");
        })
        .mount();
    for (n, flags) in [
        ("f", OFlags::RDONLY),
        ("p", OFlags::RDONLY | OFlags::NONBLOCK),
        ("d", OFlags::RDONLY),
        ("o", OFlags::RDONLY),
    ] {
        let fd = sys::open(o.m(n), flags).works();
        if n == "d" {
            sys::rmdir(o.m(n)).works();
        } else {
            sys::unlink(o.m(n)).works();
        }
        if n == "o" {
            sys::mkdir(o.m(n), 0o711).works();
        } else {
            sys::write_file(o.m(n), "new").works();
            sys::chmod(o.m(n), 0o640).works();
        }
        let before = sys::stat(o.m(n)).works();
        // Overlayfs refuses; without a name it can be done.
        let wrong = |r: sys::Res<()>| {
            if let Err(e) = r {
                let refused = [Errno::EXIST, Errno::NOENT, Errno::STALE];
                assert!(t.is_overlay() && refused.contains(&e.errno), "{n}: {e:?}");
            }
        };
        wrong(sys::fchmod(&fd, 0o600));
        wrong(sys::futimens(&fd, &sys::times((1, 1), (1, 1))));
        wrong(sys::fchown(&fd, 5, 6));
        let after = sys::stat(o.m(n)).works();
        assert_eq!(
            (
                before.st_mode,
                before.st_uid,
                before.st_ino,
                before.st_mtime
            ),
            (after.st_mode, after.st_uid, after.st_ino, after.st_mtime),
            "{n}"
        );
        if n != "o" {
            assert_text(o.m(n), "new");
        }
    }
    o.remount();
    assert_names(o.m("/"), &["d", "f", "o", "p"]);
}

/// Who owns the work directory changes what is in it while the mount looks.
fn cve_2026_99420_work_directory_exchanged(t: &T) {
    // A volatile mount also makes something there.
    for option in ["fsync=auto", "volatile"] {
        exchange_work_directory(t, option);
    }
}

fn exchange_work_directory(t: &T, option: &'static str) {
    let victim = t.new_dir("victim");
    let keep = Tree::new(&victim);
    keep.file("thesis", "t").file("#1", "1").file("d/#2", "2");
    let stack = t.stack().flag(option);
    let o = stack.lower(|l| _ = l.file("f", "f")).prepare();
    o.work_not_checked();
    let (work, aside) = (o.w("work"), o.w("aside"));
    race(&[
        &|_| {
            if o.mount().is_ok() {
                assert_text(o.m("f"), "f");
                let _ = sys::append_file(o.m("f"), "");
                let _ = sys::unlink(o.u("f"));
                o.umount();
            }
            // What keeps the next volatile mount off, wherever it is.
            if option == "volatile" {
                for at in [&work, &aside] {
                    let _ = std::fs::remove_dir_all(at);
                }
            }
        },
        &|_| {
            let _ = sys::rename(&work, &aside);
            let _ = sys::symlink(&victim, &work);
            let _ = sys::unlink(&work);
            let _ = sys::rename(&aside, &work);
        },
        &|_| {
            let _ = sys::rmdir(&work);
            let _ = sys::write_file(&work, "");
            let _ = sys::unlink(&work);
        },
    ]);
    assert_names(&victim, &["#1", "d", "thesis"]);
    assert_names(victim.join("d"), &["#2"]);
    let _ = sys::unlink(&work);
    let _ = std::fs::remove_dir_all(&aside);
}

/// The parent in the upper layer goes while something in it is looked up.
fn cve_2026_99422_upper_parent_goes(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/e/f", "f").file("d/e/g", "g");
        })
        .mount();
    sys::append_file(o.m("d/e/f"), "").works();
    race(&[
        &|_| {
            let _ = sys::lstat(o.m("d/e/f"));
            let _ = sys::names(o.m("d/e"));
            let _ = sys::chmod(o.m("d/e/g"), 0o600);
        },
        &|_| {
            let _ = sys::rename(o.u("d/e"), o.u("away"));
            let _ = std::fs::remove_dir_all(o.u("away"));
            let _ = sys::mkdir(o.u("d/e"), 0o755);
        },
        &|_| drop_caches(),
    ]);
    let _ = std::fs::remove_dir_all(o.u("away"));
    o.remount();
    assert_names(o.m("d/e"), &["f", "g"]);
}

/// The name of a dentry was read without holding it.
fn cve_2026_99423_renamed_during_copy_up(t: &T) {
    const FILES: usize = 60;
    let name = |i: usize, to: &str| format!("{to}-{}-{i}", "long".repeat(i % 3 * 15));
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..FILES {
                l.file(name(i, "a"), format!("{i}"));
            }
        })
        .mount();
    threads(vec![
        Box::new(|| {
            for i in 0..FILES {
                let copied = sys::append_file(o.m(name(i, "a")), "+");
                if let Err(e) = copied {
                    assert_eq!(e.errno, Errno::NOENT, "{e:?}");
                }
            }
        }) as Box<dyn FnOnce() + Send + '_>,
        Box::new(|| {
            for i in 0..FILES {
                sys::rename(o.m(name(i, "a")), o.m(name(i, "b"))).works();
            }
        }),
    ]);
    for _ in 0..2 {
        for i in 0..FILES {
            let text = sys::text(o.m(name(i, "b"))).works();
            assert_eq!(text.trim_end_matches('+'), format!("{i}"));
            sys::stat(o.m(name(i, "a"))).map(drop).fails(Errno::NOENT);
        }
        o.remount();
    }
}

/// What a listing was made of went when its directory was copied up.
fn cve_2026_99424_listed_during_copy_up(t: &T) {
    const DIRS: usize = 30;
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..DIRS {
                l.file(format!("d{i}/a"), "a").file(format!("d{i}/b"), "b");
            }
        })
        .lower(|l| {
            for i in 0..DIRS {
                l.file(format!("d{i}/c"), "c");
            }
        })
        .mount();
    let all: Vec<_> = (0..DIRS)
        .map(|i| sys::open(o.m(format!("d{i}")), OFlags::RDONLY).works())
        .collect();
    let list = |i: usize| {
        let fd = &all[i % DIRS];
        let _ = sys::seek(fd, rustix::fs::SeekFrom::Start(0));
        let names = sys::read_dirents(fd, usize::MAX, 128).works();
        let lower = names.iter().filter(|n| {
            let name = n.name.to_string_lossy();
            ["a", "b", "c"].contains(&&*name)
        });
        assert_eq!(lower.count(), 3);
    };
    race(&[&list, &|i| {
        let dir = o.m(format!("d{}", (i / 4) % DIRS));
        let _ = sys::chmod(&dir, 0o700 + (i % 4) as u32);
        let _ = sys::write_file(dir.join(format!("new{}", i % 4)), "");
        let _ = sys::unlink(dir.join(format!("new{}", (i + 1) % 4)));
    }]);
}

/// The parent of a directory that is being listed is another one.
fn cve_2026_99425_listed_and_moved(t: &T) {
    let o = t.stack().lower(|l| _ = l.file("x/f", "f")).mount();
    for d in ["a", "b", "a/d", "a/d/sub"] {
        sys::mkdir(o.m(d), 0o755).works();
    }
    let fd = sys::open(o.m("a/d"), OFlags::RDONLY).works();
    race(&[
        &|_| {
            let _ = sys::seek(&fd, rustix::fs::SeekFrom::Start(0));
            let names = sys::read_dirents(&fd, usize::MAX, 4096).works();
            assert_eq!(names.len(), 3, "{names:?}");
        },
        &|_| {
            let _ = sys::rename(o.m("a/d"), o.m("b/d"));
            let _ = sys::rmdir(o.m("a"));
            let _ = sys::mkdir(o.m("a"), 0o755);
            let _ = sys::rename(o.m("b/d"), o.m("a/d"));
        },
    ]);
}

/// An attribute that means nothing is none.
fn fix_empty_security_capability(t: &T) {
    let fuse = t.fuse(|f| {
        for (n, value) in [("empty", ""), ("junk", "junk"), ("long", "0123456789")] {
            f.file(n, "f").xattr(n, CAPABILITY, value);
        }
        f.dir("d").xattr("d", CAPABILITY, "").file("d/f", "f");
    });
    let o = t.stack().lower_fuse(&fuse).mount();
    for n in ["empty", "junk", "d/f"] {
        sys::chmod(o.m(n), 0o600).works();
        sys::append_file(o.m(n), "+").works();
        assert_text(o.m(n), "f+");
        assert_eq!(sys::xattr_opt(o.u(n), CAPABILITY), None, "{n}");
    }
}

/// Numbers of a filesystem that was replaced, where nothing tells the two apart.
fn fix_lower_without_uuid_exchanged(t: &T) {
    let at = t.dir.join("squash");
    sys::mkdir(&at, 0o755).works();
    let image = |name: &str, file: &str| {
        let stage = t.dir.join(format!("stage-{name}"));
        sys::mkdir(&stage, 0o755).works();
        Tree::new(&stage).file(file, name);
        let image = t.dir.join(format!("{name}.img"));
        let options = ["-noappend", "-no-progress", "-quiet"].map(std::ffi::OsStr::new);
        let paths = [stage.as_os_str(), image.as_os_str()];
        sys::run("mksquashfs", &[&paths[..], &options[..]].concat());
        image
    };
    let (old, new) = (image("old", "x"), image("new", "y"));
    crate::env::mount_device(Fs::Squashfs, &old, &at, "");
    let o = t.stack().lowers_not_compared().lower_dir(&at).mount();
    sys::append_file(o.m("x"), "+").works();
    o.umount();
    sys::umount(&at).works();
    crate::env::mount_device(Fs::Squashfs, &new, &at, "");
    o.mount().works();
    let number = |n: &str| {
        let st = sys::stat(o.m(n)).works();
        (st.st_dev, st.st_ino)
    };
    assert_ne!(number("x"), number("y"), "two files, one number");
    assert_text(o.m("x"), "old+");
    assert_text(o.m("y"), "new");
    o.umount();
    sys::umount(&at).works();
}

/// A descriptor from before the copy-up goes over to a copy that the mounter may not open.
fn fix_permission_to_open_the_copy(t: &T) {
    let signs = t.new_dir("signs");
    sys::chmod(&signs, 0o777).works();
    let (asked, done) = (signs.join("asked"), signs.join("done"));
    let root = {
        let (asked, done) = (asked.clone(), done.clone());
        crate::watch::start("root takes the copy away", move || {
            crate::watch::until("he is asked to", || asked.exists());
            let copy = sys::text(&asked).works();
            sys::lchown(&copy, 0, 0).works();
            sys::chmod(&copy, 0o600).works();
            sys::write_file(&done, "").works();
        })
    };
    rootless_child(t, |at| {
        Tree::new(at).dir("u").dir("w").dir("m");
        Tree::new(at.join("l")).file("f", "data");
        let fc = mount_in(t, at, &["l"], &["userxattr"]).works();
        let f = at.join("m/f");
        let fd = sys::open(&f, OFlags::RDONLY).works();
        assert_eq!(sys::pread(&fd, 4, 0).works(), b"data");
        sys::chmod(&f, 0o644).works();
        sys::append_file(&f, "+").works();
        let note = signs.join("note");
        let copy = at.join("u/f");
        sys::write_file(&note, copy.to_str().expect("text")).works();
        sys::rename(&note, &asked).works();
        crate::watch::until("root has taken it away", || done.exists());
        sys::pread(&fd, 4, 0).map(drop).fails(Errno::ACCESS);
        drop((fd, fc));
        sys::umount(&at.join("m")).works();
    });
    root.finish();
}

/// Flags that only root may set, asked for by the owner: refused before anything is copied.
fn fix_inode_flags_by_others(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "f").owner("f", 1000, 1000);
            l.dir("d").owner("d", 1000, 1000).file("root", "r");
        })
        .mount();
    t.as_user(1000, 1000, || {
        for n in ["f", "d", "root"] {
            let fd = sys::open(o.m(n), OFlags::RDONLY).works();
            for flag in [IFlags::IMMUTABLE, IFlags::APPEND] {
                sys::set_flags(&fd, flag).fails_any(&[Errno::PERM, Errno::ACCESS]);
            }
        }
        let fd = sys::open(o.m("root"), OFlags::RDONLY).works();
        sys::set_flags(&fd, IFlags::NOATIME).fails_any(&[Errno::PERM, Errno::ACCESS]);
    });
    // The copy is made by a call that may be made; what it has is not more.
    for n in sys::names(o.u("/")).works() {
        let fd = sys::open(o.u(&n), OFlags::RDONLY).works();
        let flags = sys::get_flags(&fd).works();
        assert!(!flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND), "{n}");
    }
    assert!(!sys::exists(o.u("root")));
}

/// A further name of one's own file, in a layer that is root's.
fn fix_link_by_the_owner(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "f").owner("f", 1000, 1000).mode("f", 0o600);
            l.dir("d").mode("d", 0o1777);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::link(o.m("f"), o.m("d/g")).works();
    });
    assert_eq!(sys::stat(o.u("d/g")).works().st_uid, 1000);
    assert_names(o.m("d"), &["g"]);
}

/// What is in the upper layer goes, or is something else, behind the mount's back. It may
/// be an error to use it. It may not be one of the kernel's.
fn fix_removed_below(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("keep");
        })
        .mount();
    let uses: [fn(&Path, &Path) -> sys::Res<()>; 8] = [
        |p, _| sys::unlink(p),
        |p, _| sys::rmdir(p),
        |p, to| sys::rename(p, to),
        |p, to| sys::rename(to, p),
        |p, to| sys::link(p, to),
        |p, _| sys::chmod(p, 0o700),
        |p, _| sys::write_file(p.join("in"), ""),
        |p, _| sys::append_file(p, "x"),
    ];
    for (i, use_it) in uses.iter().enumerate() {
        for as_dir in [false, true] {
            for now in ["gone", "other"] {
                let (name, to) = (format!("{i}{as_dir}{now}"), format!("to{i}{as_dir}{now}"));
                if as_dir {
                    sys::mkdir(o.m(&name), 0o755).works();
                    sys::mkdir(o.m(&to), 0o755).works();
                    sys::rmdir(o.u(&name)).works();
                } else {
                    sys::write_file(o.m(&name), "x").works();
                    sys::write_file(o.m(&to), "x").works();
                    sys::unlink(o.u(&name)).works();
                }
                if now == "other" {
                    if as_dir {
                        sys::write_file(o.u(&name), "x").works();
                    } else {
                        sys::mkdir(o.u(&name), 0o755).works();
                    }
                }
                let _ = use_it(&o.m(&name), &o.m(&to));
            }
        }
    }
    o.remount();
    sys::write_file(o.m("keep/new"), "n").works();
}

/// The directory was copied up with the upper filesystem already held for writing.
fn fix_tmpfile_in_a_lower_directory(t: &T) {
    let o = t.stack().lower(|l| _ = l.dir("a/b/c")).mount();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let fd = sys::open_mode(o.m("a/b/c"), flags, 0o600).works();
    sys::write(&fd, "nameless").works();
    sys::link_fd(&fd, o.m("a/b/c/f")).works();
    assert_text(o.u("a/b/c/f"), "nameless");
}

fn fix_ioctl_on_a_lower_directory(t: &T) {
    let o = t.stack().lower(|l| _ = l.dir("a/b/c")).mount();
    let fd = sys::open(o.m("a/b/c"), OFlags::RDONLY).works();
    let flags = sys::get_flags(&fd).works();
    sys::set_flags(&fd, flags | IFlags::NOATIME).works();
    assert!(sys::get_flags(&fd).works().contains(IFlags::NOATIME));
    let upper = sys::open(o.u("a/b/c"), OFlags::RDONLY).works();
    assert!(sys::get_flags(&upper).works().contains(IFlags::NOATIME));
    sys::set_flags(&fd, flags).works();
}

/// The list of names is longer, or shorter, than it was a moment ago.
fn fix_listxattr_against_changes(t: &T) {
    let o = t.stack().lower(|l| _ = l.file("f", "f")).mount();
    sys::set_xattr(o.m("f"), "user.a", "y").works();
    let names: Vec<String> = (0..8)
        .map(|i| format!("trusted.{}", "n".repeat(i * 25 + 1)))
        .collect();
    race(&[
        &|_| {
            // An error is possible, a wrong name is not.
            for n in sys::list_xattr(o.m("f")).unwrap_or_default() {
                assert!(n == "user.a" || n.starts_with("trusted.n"), "{n:?}");
            }
            let _ = sys::list_xattr_into(o.m("f"), 10);
        },
        &|i| {
            let name = &names[i % names.len()];
            let _ = sys::set_xattr(o.u("f"), name, "y");
            let _ = sys::remove_xattr(o.u("f"), &names[(i * 3) % names.len()]);
        },
    ]);
}
