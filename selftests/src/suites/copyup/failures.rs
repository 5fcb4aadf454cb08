// SPDX-License-Identifier: GPL-2.0

//! R12: a copy-up that fails at any step says so cleanly, leaves nothing behind,
//! and the lower file is still served; when the cause is gone the next try works.

use std::path::Path;

use rustix::mount::MountFlags;

use super::super::failure::prepare_fault_injection;
use super::ops::NO_TMPFILE;
use super::ways::{beside, lay_out_others, OTHERS, WAYS};
use crate::device::{sectors, Loop, Mapped};
use crate::env::{check_fs, make_fs, mount_device, Fs, T};
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FallocateFlags, OFlags};
use crate::tree::{assert_names, assert_same, assert_text, pattern, Take, Tree};
use crate::watch::{start, until};

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R12_no_space_ext4", |t| no_space(t, Fs::Ext4, 16)).uppers(&NO_TMPFILE),
        test("R12_no_space_xfs", |t| no_space(t, Fs::Xfs, 320)),
        test("R12_no_space_btrfs", |t| no_space(t, Fs::Btrfs, 128)),
        test("R12_no_space_tmpfs", |t| no_space(t, Fs::Tmpfs, 16)),
        test("R12_no_inodes_for_others", no_inodes_for_others).uppers(&NO_TMPFILE),
        test("R12_reserved_blocks", reserved_blocks),
        test("R12_quota_of_blocks", quota_of_blocks),
        test("R12_quota_of_inodes", quota_of_inodes),
        test("R12_upper_write_error_ext4", |t| {
            upper_write_error(t, Fs::Ext4, 32)
        })
        .long(2)
        .uppers(&NO_TMPFILE),
        test("R12_upper_write_error_xfs", |t| {
            upper_write_error(t, Fs::Xfs, 320)
        })
        .long(2),
        test("R12_lower_read_error", lower_read_error),
        test("R12_name_taken_below", name_taken_below).uppers(&NO_TMPFILE),
        test("R12_each_allocation_fails", each_allocation_fails)
            .long(5)
            .uppers(&NO_TMPFILE),
    ]
}

const SIZE: usize = 2 << 20;

/// A file with a name for each way; below, all of them are one.
fn a_name_for_each_way(l: &Tree, size: usize) {
    l.file("d/f0", pattern(size, 1));
    for i in 1..=WAYS.len() {
        l.link("d/f0", &format!("d/f{i}"));
    }
    l.file("e/small", "small")
        .symlink("e/link", "small")
        .dir("e/sub");
}

fn name(i: usize) -> String {
    format!("d/f{i}")
}

/// The rest of the tree works as ever.
#[track_caller]
fn others_work(o: &Overlay) {
    assert_text(o.m("e/small"), "small");
    assert_eq!(sys::readlink(o.m("e/link")).works(), "small");
    sys::names(o.m("e")).works();
}

fn free(at: &Path) -> u64 {
    let fd = sys::open(at, OFlags::RDONLY).works();
    sys::syncfs(&fd).works();
    let st = sys::statfs(at).works();
    st.f_bfree * st.f_bsize as u64
}

/// Takes all space but about `leave` bytes. Gives the file that has it.
fn ballast(at: &Path, leave: u64) -> std::path::PathBuf {
    let file = at.join("ballast");
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
    let fd = sys::open_mode(&file, flags, 0o600).works();
    let mut size = 0;
    let mut step: u64 = 64 << 20;
    while step >= 64 << 10 {
        let st = sys::statfs(at).works();
        let left = st.f_bavail * st.f_bsize as u64;
        let none = FallocateFlags::empty();
        let taken = left >= leave + step
            && match sys::fallocate(&fd, none, size, step) {
                Err(e) if e.errno == Errno::OPNOTSUPP => {
                    sys::pwrite(&fd, vec![1; step as usize], size).is_ok()
                }
                other => other.is_ok(),
            };
        if !taken {
            step /= 2;
            continue;
        }
        size += step;
        sys::fsync(&fd).works();
    }
    file
}

fn no_space(t: &T, fs: Fs, megabytes: u64) {
    let (at, own) = if fs == Fs::Tmpfs {
        let at = t.new_dir("small");
        let size = format!("size={megabytes}m");
        sys::mount("none", &at, "tmpfs", MountFlags::empty(), size.as_bytes()).works();
        (at, None)
    } else {
        let own = t.own_fs(fs, megabytes);
        (own.at.clone(), Some(own))
    };
    let o = t
        .stack()
        .lower(|l| a_name_for_each_way(l, SIZE))
        .upper_in(&at)
        .mount();
    // The directory is there, so that no copy but that of the file can fail.
    sys::chmod(o.m("d"), 0o755).works();
    let full = ballast(&at, SIZE as u64 / 2);
    let before = free(&at);
    for (i, way) in WAYS.iter().enumerate() {
        (way.run)(&o, &name(i)).fails(Errno::NOSPC);
        way.check_failed(&o, &name(i), &pattern(SIZE, 1));
    }
    others_work(&o);
    // Some give it back a while later, and keep a little for themselves.
    until("the space of copies which failed is free again", || {
        before.saturating_sub(free(&at)) < SIZE as u64 / 4
    });
    // Truncating it takes no space for what is cut off.
    sys::truncate(o.m(name(WAYS.len())), 100).works();
    assert!(sys::read_file(o.m(name(WAYS.len()))).works() == pattern(SIZE, 1)[..100]);
    sys::unlink(&full).works();
    free(&at);
    // The cause is gone, for as many as there is space for now.
    for (i, way) in WAYS.iter().enumerate() {
        (way.run)(&o, &name(i)).works();
        way.check_done(&o, &name(i), &pattern(SIZE, 1));
        let at = if way.moves { beside(&name(i)) } else { name(i) };
        sys::truncate(o.m(at), 0).works();
        free(&o.u("/"));
    }
    o.finish();
    match own {
        Some(own) => {
            own.umount_and_check();
            own.mount();
        }
        None => sys::umount(&at).works(),
    }
    o.work_not_checked();
}

/// Directories, symlinks and special files, for which there is no inode left.
fn no_inodes_for_others(t: &T) {
    let at = t.new_dir("few");
    let options = b"size=8m,nr_inodes=40";
    sys::mount("none", &at, "tmpfs", MountFlags::empty(), options).works();
    let o = t.stack().lower(lay_out_others).upper_in(&at).mount();
    let before = o.snapshot(Take::OUTCOME);
    let take_all = || {
        let more = |i: &usize| sys::write_file(at.join(format!("i{i}")), "").is_ok();
        (0..100).take_while(more).count()
    };
    for (top, run) in OTHERS {
        let taken = take_all();
        run(&o).fails(Errno::NOSPC);
        o.assert_no_strays();
        assert!(!sys::exists(o.u(top)), "{top}: something was published");
        sys::lstat(o.m(top)).works();
        // Room for the object and its temporary name, and for all ancestors.
        (0..taken).for_each(|i| sys::unlink(at.join(format!("i{i}"))).works());
        assert_eq!(o.upper_snapshot(Take::OUTCOME).0.len(), 1, "{top}");
        assert_same(top, &before, &o.snapshot(Take::OUTCOME));
        run(&o).works();
        sys::lstat(o.u(top)).works();
        o.assert_no_strays();
        o.umount();
        std::fs::remove_dir_all(o.u("/")).expect("rm -r");
        sys::mkdir(o.u("/"), 0o755).works();
        o.mount().works();
    }
    o.finish();
    o.work_not_checked();
    sys::umount(&at).works();
}

/// The last blocks of the disk are for root: a user fails where root goes on.
fn reserved_blocks(t: &T) {
    let image = t.dir.join("reserved.img");
    let at = t.dir.join("reserved");
    sys::mkdir(&at, 0o755).works();
    let file = std::fs::File::create(&image).expect("image");
    file.set_len(32 << 20).expect("image size");
    sys::run(
        "mkfs.ext4",
        &[
            "-q".as_ref(),
            "-F".as_ref(),
            "-m".as_ref(),
            "50".as_ref(),
            image.as_os_str(),
        ],
    );
    mount_device(Fs::Ext4, &image, &at, "");
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", pattern(SIZE, 1)).mode("f", 0o666);
            l.file("mine", pattern(SIZE, 2)).owner("mine", 1000, 1000);
        })
        .upper_in(&at)
        .mount();
    let full = ballast(&at, 256 << 10);
    t.as_user(1000, 1000, || {
        for path in ["f", "mine"] {
            sys::open(o.m(path), OFlags::RDWR).fails(Errno::NOSPC);
        }
        sys::chmod(o.m("mine"), 0o600).fails(Errno::NOSPC);
        sys::link(o.m("mine"), o.m("k"))
            .map(drop)
            .fails_any(&[Errno::NOSPC, Errno::ACCESS]);
    });
    assert_names(o.u("/"), &[]);
    o.assert_no_strays();
    assert!(sys::read_file(o.m("f")).works() == pattern(SIZE, 1));
    for path in ["f", "mine"] {
        drop(sys::open(o.m(path), OFlags::RDWR).works());
    }
    assert!(sys::read_file(o.u("mine")).works() == pattern(SIZE, 2));
    // He has it now, and writes where it needs no more space.
    t.as_user(1000, 1000, || {
        let fd = sys::open(o.m("mine"), OFlags::RDWR).works();
        sys::pwrite(&fd, "written", 0).works();
    });
    sys::unlink(full).works();
    o.finish();
    sys::umount(&at).works();
    check_fs(Fs::Ext4, &image);
    o.work_not_checked();
}

/// An upper ext4 with quotas of users; the limits of user 1000.
fn with_quota(t: &T, limits: [&str; 4], run: impl FnOnce(&Overlay, &dyn Fn() -> String)) {
    for program in ["setquota", "repquota"] {
        t.need_program(program);
    }
    let image = t.dir.join("quota.img");
    let at = t.dir.join("quota");
    sys::mkdir(&at, 0o755).works();
    let file = std::fs::File::create(&image).expect("image");
    file.set_len(32 << 20).expect("image size");
    let mut words = ["-q", "-F", "-O", "quota", "-E", "quotatype=usrquota"]
        .map(std::ffi::OsStr::new)
        .to_vec();
    words.push(image.as_os_str());
    sys::run("mkfs.ext4", &words);
    mount_device(Fs::Ext4, &image, &at, "usrquota");
    let mut words = ["-u", "1000"].map(std::ffi::OsStr::new).to_vec();
    words.extend(limits.map(std::ffi::OsStr::new));
    words.push(at.as_os_str());
    sys::run("setquota", &words);
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", pattern(SIZE, 1)).mode("d/f", 0o666);
            l.file("d/mine", pattern(SIZE, 2))
                .owner("d/mine", 1000, 1000);
            l.file("d/small", "s").owner("d/small", 1000, 1000);
            l.mode("d", 0o777);
        })
        .upper_in(&at)
        .mount();
    sys::chmod(o.m("d"), 0o777).works();
    let used = || {
        let fd = sys::open(&at, OFlags::RDONLY).works();
        sys::syncfs(&fd).works();
        let all = sys::run("repquota", &["-u".as_ref(), "-n".as_ref(), at.as_os_str()]);
        let of = |user: &str| {
            let line = all
                .lines()
                .find(|l| l.split_whitespace().next() == Some(user));
            let fields: Vec<&str> = line.unwrap_or("").split_whitespace().collect();
            let inodes = if fields.len() > 6 {
                fields[fields.len() - 3]
            } else {
                ""
            };
            format!("{} {inodes}", fields.get(2).unwrap_or(&"0"))
        };
        of("#1000")
    };
    run(&o, &used);
    o.finish();
    sys::umount(&at).works();
    check_fs(Fs::Ext4, &image);
    o.work_not_checked();
}

fn quota_of_blocks(t: &T) {
    with_quota(t, ["0", "512", "0", "0"], |o, used| {
        let before = used();
        t.as_user(1000, 1000, || {
            // The space is the caller's while the copy is made, whoever owns it.
            for path in ["d/f", "d/mine"] {
                sys::open(o.m(path), OFlags::RDWR).fails(Errno::DQUOT);
            }
            sys::chmod(o.m("d/mine"), 0o600).fails(Errno::DQUOT);
            sys::rename(o.m("d/mine"), o.m("d/k")).fails(Errno::DQUOT);
            sys::set_xattr(o.m("d/mine"), "user.x", "y").fails(Errno::DQUOT);
        });
        assert_names(o.u("d"), &[]);
        o.assert_no_strays();
        assert_eq!(used(), before, "charged for copies which failed");
        assert!(sys::read_file(o.m("d/mine")).works() == pattern(SIZE, 2));
        t.as_user(1000, 1000, || {
            sys::truncate(o.m("d/mine"), 4096).works();
            sys::append_file(o.m("d/small"), "+").works();
        });
        assert_text(o.m("d/small"), "s+");
        // Root may, for him and for itself.
        drop(sys::open(o.m("d/f"), OFlags::RDWR).works());
        assert!(sys::read_file(o.u("d/f")).works() == pattern(SIZE, 1));
        assert!(sys::read_file(o.m("d/mine")).works() == pattern(SIZE, 2)[..4096]);
    });
}

fn quota_of_inodes(t: &T) {
    with_quota(t, ["0", "0", "0", "1"], |o, used| {
        t.as_user(1000, 1000, || {
            drop(sys::open(o.m("d/small"), OFlags::RDWR).works());
        });
        let before = used();
        t.as_user(1000, 1000, || {
            sys::open(o.m("d/mine"), OFlags::RDWR).fails(Errno::DQUOT);
            sys::open(o.m("d/f"), OFlags::RDWR).fails(Errno::DQUOT);
            sys::chmod(o.m("d/mine"), 0o600).fails(Errno::DQUOT);
            sys::rename(o.m("d/mine"), o.m("d/k")).fails(Errno::DQUOT);
        });
        assert_names(o.u("d"), &["small"]);
        o.assert_no_strays();
        assert_eq!(used(), before, "charged for copies which failed");
        sys::unlink(o.m("d/small")).works();
        t.as_user(1000, 1000, || {
            drop(sys::open(o.m("d/mine"), OFlags::RDWR).works());
        });
        assert!(sys::read_file(o.u("d/mine")).works() == pattern(SIZE, 2));
    });
}

/// The upper disk takes no more writes. Each way is tried on a file system that
/// does not know it yet.
fn upper_write_error(t: &T, fs: Fs, megabytes: u64) {
    let ram = t.new_dir("ram");
    sys::mount("none", &ram, "tmpfs", MountFlags::empty(), b"size=400m").works();
    let image = ram.join("disk");
    let file = std::fs::File::create(&image).expect("image");
    file.set_len(megabytes << 20).expect("image size");
    make_fs(fs, &image);
    let below = Loop::new(&image);
    let end = sectors(&image);
    let good = format!("0 {end} linear {} 0", below.path.display());
    // Never up, always down.
    let bad = format!(
        "0 {end} flakey {} 0 0 60 1 error_writes",
        below.path.display()
    );
    // Which of the two targets the kernel lacks shows here.
    drop(Mapped::new(t, &bad));
    let device = Mapped::new(t, &good);
    let at = ram.join("fs");
    sys::mkdir(&at, 0o755).works();
    mount_device(fs, &device.path, &at, "");
    let o = t
        .stack()
        .lower(|l| a_name_for_each_way(l, SIZE))
        .upper_in(&at)
        .mount();
    o.work_not_checked();
    sys::chmod(o.m("d"), 0o755).works();
    for (i, way) in WAYS.iter().enumerate() {
        let dir = sys::open(&at, OFlags::RDONLY).works();
        sys::syncfs(&dir).works();
        drop(dir);
        device.change(&bad);
        // The first error stops the file system, the others find it so.
        let errnos = [Errno::IO, Errno::ROFS, Errno::NODEV];
        (way.run)(&o, &name(i)).fails_any(&errnos);
        (way.run)(&o, &name(i)).fails_any(&errnos);
        assert!(sys::read_file(o.m(name(i))).works() == pattern(SIZE, 1));
        others_work(&o);
        o.umount();
        sys::umount(&at).works();
        device.change(&good);
        // Replays its journal.
        mount_device(fs, &device.path, &at, "");
        sys::umount(&at).works();
        repair(fs, &device);
        mount_device(fs, &device.path, &at, "");
        o.mount().works();
        o.assert_no_strays();
        way.check_failed(&o, &name(i), &pattern(SIZE, 1));
        (way.run)(&o, &name(i)).works();
        way.check_done(&o, &name(i), &pattern(SIZE, 1));
        // There is not space for all of them.
        let done = if way.moves { beside(&name(i)) } else { name(i) };
        sys::truncate(o.m(done), 0).works();
    }
    o.finish();
    sys::umount(&at).works();
    check_fs(fs, &device.path);
    drop(device);
    drop(below);
    sys::umount_detach(&ram);
}

/// A file system that met errors says so until somebody has looked at it.
fn repair(fs: Fs, device: &Mapped) {
    if fs == Fs::Ext4 {
        let path = device.path.as_os_str();
        let _ = std::process::Command::new("e2fsck")
            .args(["-f".as_ref(), "-p".as_ref(), path])
            .stdout(std::process::Stdio::null())
            .status();
    }
    check_fs(fs, &device.path);
}

/// The lower disk cannot be read in the middle of the file, and then it can.
fn lower_read_error(t: &T) {
    let ram = t.new_dir("ram");
    sys::mount("none", &ram, "tmpfs", MountFlags::empty(), b"size=100m").works();
    let image = ram.join("disk");
    let file = std::fs::File::create(&image).expect("image");
    file.set_len(32 << 20).expect("image size");
    make_fs(Fs::Ext4, &image);
    let below = Loop::new(&image);
    let end = sectors(&image);
    let good = format!("0 {end} linear {} 0", below.path.display());
    let device = Mapped::new(t, &good);
    let at = ram.join("fs");
    sys::mkdir(&at, 0o755).works();
    mount_device(Fs::Ext4, &device.path, &at, "");
    let layer = at.join("l");
    sys::mkdir(&layer, 0o755).works();
    a_name_for_each_way(&Tree::new(&layer), SIZE);
    sys::umount(&at).works();
    let data = pattern(SIZE, 1);
    let middle = &data[SIZE / 2..SIZE / 2 + 512];
    let whole = sys::read_file(&image).works();
    let place = whole.chunks(512).position(|c| c == middle);
    let place = place.expect("the data in the image") as u64;
    let bad = format!(
        "0 {place} linear {0} 0\n{place} 1 error\n{1} {2} linear {0} {1}",
        below.path.display(),
        place + 1,
        end - place - 1
    );
    mount_device(Fs::Ext4, &device.path, &at, "ro,noload");
    let o = t.stack().lowers_not_compared().lower_dir(&layer).mount();
    sys::chmod(o.m("d"), 0o755).works();
    device.change(&bad);
    let drop_caches = || std::fs::write("/proc/sys/vm/drop_caches", "1").expect("drop_caches");
    drop_caches();
    for (i, way) in WAYS.iter().enumerate() {
        (way.run)(&o, &name(i)).fails(Errno::IO);
        assert_names(o.u("d"), &[]);
        o.assert_no_strays();
        assert_eq!(sys::mode_of(&sys::stat(o.m(name(i))).works()), 0o644);
        let fd = sys::open(o.m(name(i)), OFlags::RDONLY).works();
        assert_eq!(sys::pread(&fd, 4096, 0).works(), data[..4096]);
        let tail = SIZE - 4096;
        assert_eq!(sys::pread(&fd, 4096, tail as u64).works(), data[tail..]);
    }
    others_work(&o);
    // What is cut off need not be read.
    let cut = name(WAYS.len());
    sys::truncate(o.m(&cut), 10_000).works();
    assert!(sys::read_file(o.m(&cut)).works() == data[..10_000]);
    device.change(&good);
    drop_caches();
    for (i, way) in WAYS.iter().enumerate() {
        (way.run)(&o, &name(i)).works();
        way.check_done(&o, &name(i), &data);
    }
    o.umount();
    sys::umount(&at).works();
    drop(device);
    drop(below);
    o.assert_no_strays();
    o.work_not_checked();
    sys::umount_detach(&ram);
}

const ATTEMPTS: usize = 200;

/// In attempt `i` the i-th allocation of each way fails, with a file of its own,
/// until one gets through.
fn each_allocation_fails(t: &T) {
    prepare_fault_injection(t);
    let data = pattern(9000, 1);
    for way in &WAYS {
        // Not on ext4: it stops working when its own journal cannot allocate.
        let at = t.new_dir("tmpfs");
        sys::mount("none", &at, "tmpfs", MountFlags::empty(), b"size=64m").works();
        let o = t
            .stack()
            .lower(|l| {
                l.file(name(0), &data);
                for i in 1..ATTEMPTS {
                    l.link(&name(0), &name(i));
                }
            })
            .upper_in(&at)
            .mount();
        let nth = sys::open("/proc/thread-self/fail-nth", OFlags::RDWR).works();
        for attempt in 1.. {
            assert!(attempt < ATTEMPTS, "{}: it never got through", way.name);
            let p = name(attempt);
            sys::pwrite(&nth, attempt.to_string(), 0).works();
            let result = (way.run)(&o, &p);
            // These copy to and from us, and that may be what fails, too.
            let left = sys::pread(&nth, 20, 0).unwrap_or_else(|_| b"unused".to_vec());
            while sys::pwrite(&nth, "0", 0).is_err() {}
            o.assert_no_strays();
            let what = format!("{}, allocation {attempt}: {result:?}", way.name);
            if let Err(e) = &result {
                // tmpfs says ENOSPC where it has no memory for an inode.
                let errnos = [Errno::NOMEM, Errno::FAULT, Errno::IO, Errno::NOSPC];
                assert!(errnos.contains(&e.errno), "{what}");
                // It may have been copied up before, and is whole then.
                if sys::exists(o.u(&p)) {
                    assert!(sys::read_file(o.u(&p)).works() == data, "{what}");
                }
                assert!(sys::read_file(o.m(&p)).works() == data, "{what}");
                let st = sys::stat(o.m(&p)).works();
                let now = (sys::mode_of(&st), st.st_uid, st.st_gid);
                assert_eq!(now, (0o644, 0, 0), "{what}");
                assert!(!sys::exists(o.m(beside(&p))), "{what}");
                (way.run)(&o, &p).works();
            }
            way.check_done(&o, &p, &data);
            if left.first() != Some(&b'0') {
                assert!(attempt > 3, "{}: nothing was injected", way.name);
                break;
            }
        }
        let before = o.snapshot(Take::ALL);
        o.remount();
        assert_same(way.name, &before, &o.snapshot(Take::ALL));
        o.finish();
        o.work_not_checked();
        sys::umount(&at).works();
    }
}

/// Somebody makes the name in the upper directory itself. That is not allowed, but what
/// is written must not go to a copy that nobody can reach: who comes by a path finds what
/// is there now, who has the file open is told.
fn name_taken_below(t: &T) {
    pause::need(t);
    let o = t.stack().lower(|l| a_name_for_each_way(l, 10_000)).mount();
    // So that it is the file that comes to the point, and not its directory.
    sys::chmod(o.m("d"), 0o755).works();
    for (i, way) in WAYS.iter().enumerate() {
        let p = name(i);
        let pause = Pause::once(Point::Publish);
        let (at, path) = (o.clone(), p.clone());
        let task = start(way.name, move || (way.run)(&at, &path));
        pause.wait_standing(1);
        sys::write_file(o.u(&p), "by hand").works();
        pause.go_on();
        if way.name.contains("that is open") {
            task.finish().fails(Errno::STALE);
            assert_text(o.u(&p), "by hand");
            o.assert_no_strays();
        } else {
            task.finish().works();
            way.check_done(&o, &p, b"by hand");
        }
        o.umount();
        for p in [p.clone(), beside(&p)] {
            if sys::exists(o.u(&p)) {
                sys::unlink(o.u(&p)).works();
            }
        }
        o.mount().works();
        way.check_failed(&o, &p, &pattern(10_000, 1));
        (way.run)(&o, &p).works();
        way.check_done(&o, &p, &pattern(10_000, 1));
    }
}
