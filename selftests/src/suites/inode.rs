// SPDX-License-Identifier: GPL-2.0

//! st_ino, st_dev, st_nlink and the other numbers of stat(2).

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FileType, OFlags, Stat};
use crate::tree::{pattern, sorted_names, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(one_device),
        test!(numbers_are_those_of_the_layer),
        test!(numbers_are_unique).matrix(),
        test!(constant_across_copy_up).matrix(),
        test!(constant_for_open_files),
        test!(constant_across_rename_and_link),
        test!(constant_across_remount),
        test!(constant_across_remount_after_move),
        test!(constant_after_cache_drop),
        test!(one_inode_for_all_names_of_a_copy),
        test!(directories_one_device_on_several_filesystems).needs(&[Fs::Other]),
        test!(several_filesystems_no_false_twins).needs(&[Fs::Other, Fs::Xfs]),
        test!(nlink_of_directories),
        test!(nlink_of_files),
        test!(nlink_of_lower_hard_links),
        test!(nlink_after_unlink_of_open_file),
        test!(new_objects_have_new_numbers),
        test!(recreated_is_another_object),
        test!(size_and_blocks),
        test!(statx_fields),
        test!(statx_attributes),
        test!(statx_of_the_layers).matrix(),
        test!(times_move_as_they_should),
        test!(ctime_changes),
        test!(stat_of_every_type).matrix(),
    ]
}

fn fill(l: &Tree) {
    l.file("f", "x").symlink("s", "f").fifo("p").dir("empty");
    l.file("d/g", "y").file("d/sub/h", "z");
}

fn walk(at: PathBuf, all: &mut BTreeMap<PathBuf, Stat>) {
    let st = sys::lstat(&at).works();
    let is_dir = sys::kind_of(&st) == FileType::Directory;
    all.insert(at.clone(), st);
    if is_dir {
        for n in sorted_names(&at) {
            walk(at.join(n), all);
        }
    }
}

fn stats(o: &Overlay) -> BTreeMap<PathBuf, Stat> {
    let mut all = BTreeMap::new();
    walk(o.m("/"), &mut all);
    all
}

fn one_device(t: &T) {
    let o = t
        .stack()
        .lower(fill)
        .upper(|u| {
            u.file("d/u", "u").file("v", "v");
        })
        .mount();
    let root = sys::stat(o.m("/")).works().st_dev;
    assert_ne!(root, sys::stat(o.u("/")).works().st_dev);
    for (p, st) in stats(&o) {
        assert_eq!(st.st_dev, root, "{p:?}");
    }
}

fn numbers_are_those_of_the_layer(t: &T) {
    let o = t
        .stack()
        .lower(fill)
        .upper(|u| {
            u.file("v", "v").file("dir/w", "w");
        })
        .mount();
    for n in ["f", "s", "p", "d/g", "d/sub/h"] {
        let (m, l) = (sys::lstat(o.m(n)).works(), sys::lstat(o.l(0, n)).works());
        assert_eq!(m.st_ino, l.st_ino, "{n}");
    }
    for n in ["v", "dir", "dir/w"] {
        let (m, u) = (sys::lstat(o.m(n)).works(), sys::lstat(o.u(n)).works());
        assert_eq!(m.st_ino, u.st_ino, "{n}");
    }
}

fn numbers_are_unique(t: &T) {
    let o = t
        .stack()
        .lower(fill)
        .lower(|l| {
            l.file("k", "k").file("d/sub/i", "i");
        })
        .upper(|u| {
            u.file("v", "v").file("d/w", "w");
        })
        .mount();
    let check = || {
        let mut seen = BTreeMap::new();
        for (p, st) in stats(&o) {
            if let Some(other) = seen.insert((st.st_dev, st.st_ino), p.clone()) {
                panic!("{p:?} and {other:?} have the same numbers");
            }
        }
    };
    check();
    sys::append_file(o.m("f"), "+").works();
    sys::append_file(o.m("d/sub/h"), "+").works();
    sys::write_file(o.m("d/sub/new"), "n").works();
    sys::mkdir(o.m("newdir"), 0o755).works();
    check();
    o.remount();
    check();
}

fn numbers(o: &Overlay) -> BTreeMap<PathBuf, (u64, u64)> {
    stats(o)
        .into_iter()
        .map(|(p, st)| (p, (st.st_dev, st.st_ino)))
        .collect()
}

fn constant_across_copy_up(t: &T) {
    if !t.variant.one_fs() {
        t.better_than_overlay("xino is off there, unless one says so");
    }
    let o = t.stack().lower(fill).mount();
    let before = numbers(&o);
    for n in ["f", "p", "d/g", "d/sub/h"] {
        sys::chmod(o.m(n), 0o600).works();
    }
    sys::lchown(o.m("s"), 1, 1).works();
    sys::set_times(o.m("empty"), (1, 1), (1, 1)).works();
    assert_eq!(numbers(&o), before);
    sys::write_file(o.m("f"), "other contents").works();
    sys::truncate(o.m("d/g"), 0).works();
    assert_eq!(numbers(&o), before);
}

fn constant_for_open_files(t: &T) {
    let o = t.stack().lower(fill).mount();
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    let path = sys::open(o.m("f"), OFlags::PATH).works();
    let dir = sys::open(o.m("d/sub"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    let before = (
        sys::fstat(&fd).works().st_ino,
        sys::fstat(&path).works().st_ino,
        sys::fstat(&dir).works().st_ino,
    );
    let w = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::pwrite(&w, "new", 0).works();
    sys::write_file(o.m("d/sub/new"), "n").works();
    let after = (
        sys::fstat(&fd).works().st_ino,
        sys::fstat(&path).works().st_ino,
        sys::fstat(&dir).works().st_ino,
    );
    assert_eq!(before, after);
    assert_eq!(sys::fstat(&w).works().st_ino, before.0);
    assert_eq!(sys::fstat(&path).works().st_size, 3);
}

fn constant_across_rename_and_link(t: &T) {
    let o = t.stack().lower(fill).mount();
    let before = sys::stat(o.m("f")).works().st_ino;
    sys::rename(o.m("f"), o.m("d/moved")).works();
    assert_eq!(sys::stat(o.m("d/moved")).works().st_ino, before);
    sys::link(o.m("d/moved"), o.m("d/sub/link")).works();
    assert_eq!(sys::stat(o.m("d/sub/link")).works().st_ino, before);
    sys::unlink(o.m("d/moved")).works();
    assert_eq!(sys::stat(o.m("d/sub/link")).works().st_ino, before);
}

fn constant_across_remount(t: &T) {
    let o = t
        .stack()
        .lower(fill)
        .upper(|u| {
            u.file("v", "v").file("d/w", "w");
        })
        .mount();
    for n in ["f", "d/g"] {
        sys::append_file(o.m(n), "+").works();
    }
    sys::write_file(o.m("d/sub/new"), "n").works();
    let ino = |o: &Overlay| -> BTreeMap<PathBuf, u64> {
        stats(o).into_iter().map(|(p, s)| (p, s.st_ino)).collect()
    };
    let before = ino(&o);
    o.remount();
    assert_eq!(ino(&o), before);
}

fn constant_across_remount_after_move(t: &T) {
    let o = t.stack().lower(fill).mount();
    let before = sys::stat(o.m("f")).works().st_ino;
    sys::rename(o.m("f"), o.m("d/moved")).works();
    o.remount();
    assert_eq!(sys::stat(o.m("d/moved")).works().st_ino, before);
}

fn constant_after_cache_drop(t: &T) {
    let o = t.stack().lower(fill).mount();
    sys::chmod(o.m("f"), 0o600).works();
    let before = numbers(&o);
    for _ in 0..3 {
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        assert_eq!(numbers(&o), before);
    }
}

/// All names of a copy are one inode, also those that are looked up only after it
/// has been copied up: locks show which inode it is.
fn one_inode_for_all_names_of_a_copy(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").file("a", "y").link("a", "b");
        })
        .mount();
    for name in ["f", "a"] {
        let old = sys::open(o.m(name), OFlags::RDONLY).works();
        sys::append_file(o.m(name), "+").works();
        let link = o.m(format!("{name}.link"));
        sys::link(o.m(name), &link).works();
        sys::flock(&old, FlockOperation::LockExclusive).works();
        let is_locked = |path: PathBuf| {
            std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
            let fd = sys::open(path, OFlags::RDONLY).works();
            match sys::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => false,
                Err(e) if e.errno == Errno::AGAIN => true,
                Err(e) => panic!("{e:?}"),
            }
        };
        assert!(is_locked(link.clone()), "{name}: the link is another inode");
        sys::unlink(o.m(name)).works();
        assert!(is_locked(link), "{name}: after it is the only name");
        assert!(!is_locked(o.m("b")), "{name}: and b is another");
        assert_eq!(sys::fstat(&old).works().st_nlink, 1);
    }
}

fn directories_one_device_on_several_filesystems(t: &T) {
    let o = t
        .stack()
        .lower(fill)
        .lower_on(Fs::Other, |l| {
            l.file("other/f", "x").file("d/o", "x");
        })
        .mount();
    let root = sys::stat(o.m("/")).works().st_dev;
    for (p, st) in stats(&o) {
        if sys::kind_of(&st) == FileType::Directory {
            assert_eq!(st.st_dev, root, "{p:?}");
        }
    }
}

/// Two file systems use the same inode numbers for different files: nobody
/// may take those for hard links of each other.
fn several_filesystems_no_false_twins(t: &T) {
    let many = |l: &Tree| {
        for i in 0..40 {
            l.file(format!("f{i}"), "x");
        }
    };
    let o = t
        .stack()
        .lower_on(Fs::Ext4, |l| many(&Tree::new(l.at("a"))))
        .lower_on(Fs::Other, |l| many(&Tree::new(l.at("b"))))
        .lower_on(Fs::Xfs, |l| many(&Tree::new(l.at("c"))))
        .mount();
    let mut seen = BTreeMap::new();
    for (p, st) in stats(&o) {
        if let Some(other) = seen.insert((st.st_dev, st.st_ino), p.clone()) {
            panic!("{p:?} and {other:?} look like one file");
        }
    }
}

fn nlink_of_directories(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("merged/a").dir("merged/b").dir("lower/x");
        })
        .upper(|u| {
            u.dir("merged/c").dir("upper/y");
        })
        .mount();
    let nlink = |n: &str| sys::stat(o.m(n)).works().st_nlink;
    // 1 says: do not count on it. Programs know that of other file systems.
    assert_eq!(nlink("merged"), 1, "a merged directory");
    for n in ["lower", "upper"] {
        assert!([1, 3].contains(&nlink(n)), "{n}: {}", nlink(n));
    }
    let out = sys::run(
        "find",
        &[o.m("/").as_os_str(), "-type".as_ref(), "d".as_ref()],
    );
    assert_eq!(out.lines().count(), 9, "{out}");
}

fn nlink_of_files(t: &T) {
    let o = t.stack().lower(fill).mount();
    let nlink = |n: &str| sys::stat(o.m(n)).works().st_nlink;
    assert_eq!(nlink("f"), 1);
    sys::link(o.m("f"), o.m("f2")).works();
    sys::link(o.m("f2"), o.m("d/f3")).works();
    assert_eq!([nlink("f"), nlink("f2"), nlink("d/f3")], [3, 3, 3]);
    sys::unlink(o.m("f")).works();
    assert_eq!([nlink("f2"), nlink("d/f3")], [2, 2]);
    sys::rename(o.m("d/f3"), o.m("d/f4")).works();
    assert_eq!(nlink("f2"), 2);
    sys::write_file(o.m("new"), "n").works();
    sys::rename(o.m("new"), o.m("f2")).works();
    assert_eq!([nlink("f2"), nlink("d/f4")], [1, 1]);
}

fn nlink_of_lower_hard_links(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "x").link("a", "b").link("a", "c");
        })
        .mount();
    let st = |n: &str| sys::stat(o.m(n)).works();
    assert_eq!(st("a").st_ino, st("b").st_ino);
    assert_eq!(st("a").st_nlink, 3);
    sys::append_file(o.m("a"), "+").works();
    assert_eq!(st("a").st_nlink, 1, "a copy is a file of its own");
    sys::unlink(o.m("b")).works();
    sys::unlink(o.m("c")).works();
    assert_eq!(st("a").st_nlink, 1);
    crate::tree::assert_text(o.m("a"), "x+");
}

fn nlink_after_unlink_of_open_file(t: &T) {
    let o = t.stack().lower(fill).mount();
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::link(o.m("f"), o.m("f2")).works();
    assert_eq!(sys::fstat(&fd).works().st_nlink, 2);
    sys::unlink(o.m("f")).works();
    assert_eq!(sys::fstat(&fd).works().st_nlink, 1);
    sys::unlink(o.m("f2")).works();
    assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
}

fn new_objects_have_new_numbers(t: &T) {
    let o = t.stack().lower(fill).mount();
    let old: Vec<u64> = stats(&o).values().map(|s| s.st_ino).collect();
    for i in 0..20 {
        let p = o.m(format!("new{i}"));
        sys::write_file(&p, "n").works();
        let ino = sys::stat(&p).works().st_ino;
        assert!(!old.contains(&ino), "new{i} has the number of another");
    }
}

fn recreated_is_another_object(t: &T) {
    let o = t.stack().lower(fill).mount();
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    let before = sys::fstat(&fd).works();
    sys::unlink(o.m("f")).works();
    sys::write_file(o.m("f"), "another").works();
    let after = sys::stat(o.m("f")).works();
    assert_ne!(before.st_ino, after.st_ino);
    assert_eq!(sys::fstat(&fd).works().st_ino, before.st_ino);
}

fn size_and_blocks(t: &T) {
    let data = pattern(100_000, 1);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", &data);
            sys::fsync(&sys::open(l.at("f"), OFlags::RDWR).works()).works();
        })
        .mount();
    let l = sys::stat(o.l(0, "f")).works();
    let m = sys::stat(o.m("f")).works();
    assert_eq!((m.st_size, m.st_blocks), (l.st_size, l.st_blocks));
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::pwrite(&fd, "end", 300_000).works();
    sys::fsync(&fd).works();
    let (m, u) = (sys::stat(o.m("f")).works(), sys::stat(o.u("f")).works());
    assert_eq!(m.st_size, 300_003);
    assert_eq!((m.st_size, m.st_blocks), (u.st_size, u.st_blocks));
    assert_eq!(m.st_blksize, u.st_blksize);
}

fn statx_fields(t: &T) {
    use rustix::fs::{statx, AtFlags, StatxFlags, CWD};
    let o = t.stack().lower(fill).mount();
    let ask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    for n in ["f", "d", "s"] {
        for changed in [false, true] {
            if changed {
                sys::lchown(o.m(n), 1, 1).works();
            }
            let x = statx(CWD, o.m(n), AtFlags::SYMLINK_NOFOLLOW, ask).expect("statx");
            let st = sys::lstat(o.m(n)).works();
            assert_eq!(x.stx_ino, st.st_ino, "{n}");
            assert_eq!(u32::from(x.stx_mode), st.st_mode, "{n}");
            assert_eq!(
                rustix::fs::makedev(x.stx_dev_major, x.stx_dev_minor),
                st.st_dev,
                "{n}"
            );
            let got = StatxFlags::from_bits_retain(x.stx_mask);
            assert!(got.contains(StatxFlags::BASIC_STATS), "{n}: {got:?}");
        }
    }
}

/// The flags that are enforced are shown, and are where overlayfs has them.
fn statx_attributes(t: &T) {
    use rustix::fs::{statx, AtFlags, StatxAttributes, StatxFlags, CWD};
    let o = t.stack().lower(fill).mount();
    let attributes = |n: &str| {
        let x = statx(CWD, o.m(n), AtFlags::empty(), StatxFlags::BASIC_STATS).expect("statx");
        assert!(x.stx_attributes_mask.contains(
            StatxAttributes::IMMUTABLE | StatxAttributes::APPEND | StatxAttributes::MOUNT_ROOT
        ));
        x.stx_attributes
    };
    assert!(attributes("/").contains(StatxAttributes::MOUNT_ROOT));
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    for (flag, attribute) in [
        (sys::IFlags::IMMUTABLE, StatxAttributes::IMMUTABLE),
        (sys::IFlags::APPEND, StatxAttributes::APPEND),
    ] {
        assert!(!attributes("f").contains(attribute));
        sys::set_flags(&fd, flag).works();
        assert!(attributes("f").contains(attribute), "{flag:?}");
        sys::set_flags(&fd, sys::IFlags::empty()).works();
        assert!(!attributes("f").contains(attribute), "{flag:?}");
    }
}

/// What else statx tells is that of the object, from before and after it is
/// copied up.
fn statx_of_the_layers(t: &T) {
    use rustix::fs::{statx, AtFlags, StatxFlags, CWD};
    let o = t.stack().lower(fill).mount();
    let dio = StatxFlags::from_bits_retain(0x2000);
    let ask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID | dio;
    let of = |p: std::path::PathBuf| statx(CWD, p, AtFlags::SYMLINK_NOFOLLOW, ask).expect("statx");
    let mount = of(o.m("/")).stx_mnt_id;
    for n in ["f", "d", "s", "p", "d/g"] {
        for copied in [false, true] {
            if copied {
                sys::lchown(o.m(n), 1, 1).works();
            }
            let below = if copied { o.u(n) } else { o.l(0, n) };
            let (m, l) = (of(o.m(n)), of(below));
            let has = |x: &rustix::fs::Statx, flag: StatxFlags| x.stx_mask & flag.bits() != 0;
            assert_eq!(
                has(&m, StatxFlags::BTIME),
                has(&l, StatxFlags::BTIME),
                "{n}"
            );
            let time = |x: &rustix::fs::Statx| (x.stx_btime.tv_sec, x.stx_btime.tv_nsec);
            assert_eq!(time(&m), time(&l), "btime of {n}, copied up: {copied}");
            let change = |x: &rustix::fs::Statx| (x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec);
            assert_eq!(change(&m), change(&l), "ctime of {n}, copied up: {copied}");
            assert_eq!(
                (m.stx_blksize, m.stx_blocks),
                (l.stx_blksize, l.stx_blocks),
                "{n}"
            );
            assert_eq!(
                (m.stx_dio_mem_align, m.stx_dio_offset_align),
                (l.stx_dio_mem_align, l.stx_dio_offset_align),
                "{n}"
            );
            assert_eq!(
                (m.stx_rdev_major, m.stx_rdev_minor),
                (l.stx_rdev_major, l.stx_rdev_minor)
            );
            assert_eq!(m.stx_mnt_id, mount, "{n}");
        }
    }
}

fn times_move_as_they_should(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            fill(l);
            l.times("f", (1000, 0), (1000, 0));
        })
        .mount();
    let mtime = || sys::stat(o.m("f")).works().st_mtime;
    sys::chmod(o.m("f"), 0o600).works();
    sys::link(o.m("f"), o.m("f2")).works();
    sys::rename(o.m("f2"), o.m("f3")).works();
    sys::set_xattr(o.m("f"), "user.x", "y").works();
    assert_eq!(mtime(), 1000, "mtime moved without a write");
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    assert_eq!(mtime(), 1000, "mtime moved by open");
    sys::pwrite(&fd, "w", 0).works();
    assert!(mtime() > 1000, "mtime did not move by a write");
    sys::set_times(o.m("f"), (1000, 0), (1000, 0)).works();
    sys::ftruncate(&fd, 0).works();
    assert!(mtime() > 1000, "mtime did not move by truncate");
}

fn ctime_changes(t: &T) {
    let o = t.stack().lower(fill).mount();
    let ctime = |n: &str| {
        let st = sys::stat(o.m(n)).works();
        (st.st_ctime, st.st_ctime_nsec)
    };
    for n in ["f", "d"] {
        let before = ctime(n);
        std::thread::sleep(std::time::Duration::from_millis(20));
        sys::chmod(o.m(n), 0o701).works();
        assert!(ctime(n) > before, "ctime of {n} after chmod");
    }
}

fn stat_of_every_type(t: &T) {
    let o = t.stack().lower(fill).mount();
    for n in ["f", "s", "p", "d", "empty"] {
        let (m, l) = (sys::lstat(o.m(n)).works(), sys::lstat(o.l(0, n)).works());
        assert_eq!(m.st_mode, l.st_mode, "{n}");
        assert_eq!((m.st_uid, m.st_gid), (l.st_uid, l.st_gid), "{n}");
        assert_eq!(m.st_mtime, l.st_mtime, "{n}");
        assert_eq!(m.st_mtime_nsec, l.st_mtime_nsec, "{n}");
        if n != "d" && n != "empty" {
            assert_eq!(m.st_size, l.st_size, "{n}");
        }
    }
}
