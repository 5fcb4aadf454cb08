// SPDX-License-Identifier: GPL-2.0

//! `volatile`: nothing is written out for a crash's sake, and no mount is made of what a crash
//! may have damaged.

use std::path::Path;

use crate::device::{sectors, Loop, Mapped};
use crate::env::{check_fs, make_fs, mount_device, Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags};
use crate::tree::{assert_names, assert_text, pattern, Tree};
use rustix::mount::MountFlags;

pub fn tests() -> Vec<Test> {
    vec![
        test!(marked_until_somebody_looks),
        test!(last_one_counts),
        test!(nothing_without_upper),
        test!(other_stack_without_it),
        test!(strict_flushes_every_copy),
        test!(nothing_is_flushed),
        test!(errors_are_told),
        test!(remount_does_not_end_it),
        test!(failed_mount_leaves_no_mark),
    ]
}

/// What stays of it does not belong to the test's end.
fn volatile(t: &T, option: &'static str) -> Overlay {
    let o = t
        .stack()
        .flag(option)
        .lower(|l| {
            l.file("f", "lower").dir("d");
        })
        .prepare();
    o.work_not_checked();
    o
}

fn marked_until_somebody_looks(t: &T) {
    for option in ["volatile", "fsync=volatile"] {
        let o = volatile(t, option);
        o.mount().works();
        let shown = sys::text("/proc/self/mountinfo").works();
        let at = o.m("/").display().to_string();
        let line = shown.lines().find(|l| l.contains(&at)).expect("mount");
        assert!(line.contains(",fsync=volatile"), "{line}");
        sys::append_file(o.m("f"), "+").works();
        assert_names(o.w("work/incompat/volatile"), &["dirty"]);
        o.umount();
        for _ in 0..2 {
            o.mount().fails(Errno::INVAL);
            assert_names(o.w("work/incompat/volatile"), &["dirty"]);
        }
        // As engines do that know their container has ended well.
        crate::tree::remove_all(&o.w("work/incompat/volatile")).expect("rm -r");
        o.mount().works();
        assert_text(o.m("f"), "lower+");
        o.umount();
    }
}

fn last_one_counts(t: &T) {
    let o = t
        .stack()
        .flag("volatile")
        .flag("fsync=auto")
        .lower(|l| {
            l.file("f", "lower");
        })
        .mount();
    sys::append_file(o.m("f"), "+").works();
    o.remount();
    assert_text(o.m("f"), "lower+");
    if !t.is_overlay() {
        assert_names(o.w("work"), &[]);
    }
}

fn nothing_without_upper(t: &T) {
    let o = t
        .stack()
        .flag("volatile")
        .lower(|l| {
            l.file("f", "1");
        })
        .lower(|l| {
            l.file("g", "2");
        })
        .readonly()
        .mount();
    o.remount();
    let shown = sys::text("/proc/self/mountinfo").works();
    let at = o.m("/").display().to_string();
    let line = shown.lines().find(|l| l.contains(&at)).expect("mount");
    assert!(!line.contains(",fsync="), "{line}");
}

/// One stack can be mounted twice, but not as one that is durable and one that is not.
fn other_stack_without_it(t: &T) {
    t.better_than_overlay("it mounts the stack again as another one");
    let o = volatile(t, "volatile");
    o.mount().works();
    let at = t.new_dir("second");
    o.mount_at(&at).works();
    sys::write_file(at.join("f"), "x").works();
    assert_text(o.m("f"), "x");
    sys::umount(&at).works();
    let fc = sys::FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", o.l(0, "/")).works();
    fc.string("upperdir", o.u("/")).works();
    fc.string("workdir", o.w("/")).works();
    fc.create().fails(Errno::BUSY);
}

/// It stays what it is.
fn remount_does_not_end_it(t: &T) {
    use rustix::mount::{fsconfig_reconfigure, fspick, FsPickFlags};
    t.better_than_overlay("overlayfs refuses every option");
    for option in ["fsync=auto", "fsync=volatile"] {
        let o = volatile(t, option);
        o.mount().works();
        for value in ["auto", "volatile"] {
            let fc = sys::FsContext {
                fd: fspick(rustix::fs::CWD, o.m("/"), FsPickFlags::FSPICK_CLOEXEC).expect("fspick"),
            };
            fc.string("fsync", value).works();
            let expected = match option.ends_with(value) {
                true => Ok(()),
                false => Err(sys::Errno::INVAL),
            };
            assert_eq!(
                fsconfig_reconfigure(&fc.fd),
                expected,
                "{option} to {value}"
            );
        }
        o.umount();
    }
}

/// A mount that did not come about has written nothing, and keeps no other one off.
fn failed_mount_leaves_no_mark(t: &T) {
    let o = volatile(t, "volatile");
    let fc = sys::FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", o.l(0, "/")).works();
    let (other, held) = (t.new_dir("other"), t.new_dir("held"));
    sys::bind_mount(&other, &held).works();
    fc.string("lowerdir+", &held).works();
    let change = rustix::mount::MountPropagationFlags::UNBINDABLE;
    rustix::mount::mount_change(&held, change).expect("unbindable");
    fc.string("upperdir", o.u("/")).works();
    fc.string("workdir", o.w("/")).works();
    fc.flag("volatile").works();
    fc.create().fails(Errno::INVAL);
    drop(fc);
    sys::umount(&held).works();
    if !t.is_overlay() {
        assert!(!o.w("work/incompat").exists(), "it is marked");
    }
    o.mount().works();
}

/// A file system of the test's own on a device that counts.
struct Disk {
    ram: std::path::PathBuf,
    at: std::path::PathBuf,
    below: Loop,
}

impl Disk {
    fn new(t: &T, megabytes: u64) -> Disk {
        let ram = t.new_dir("ram");
        sys::mount("none", &ram, "tmpfs", MountFlags::empty(), b"size=300m").works();
        let image = ram.join("disk");
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(megabytes << 20).expect("image size");
        make_fs(Fs::Ext4, &image);
        let at = ram.join("fs");
        sys::mkdir(&at, 0o755).works();
        Disk {
            below: Loop::new(&image),
            at,
            ram,
        }
    }
}

/// How many flushes a device has had (`Documentation/block/stat.rst`).
fn flushes(device: &Path) -> u64 {
    let name = device.file_name().expect("device").to_string_lossy();
    let stat = sys::text(format!("/sys/block/{name}/stat")).works();
    let field = stat.split_whitespace().nth(15).expect("flushes");
    field.parse().expect("a number")
}

/// Copies, writes of all kinds that ask to be durable, syncfs, remount and unmount.
fn use_it(o: &Overlay) {
    for i in 0..20 {
        sys::append_file(o.m(format!("d/f{i}")), "+").works();
    }
    let files = [OFlags::empty(), OFlags::SYNC, OFlags::DSYNC].map(|flags| {
        let fd = sys::open(o.m("d/f0"), OFlags::RDWR | flags).works();
        sys::pwrite(&fd, "new", 0).works();
        fd
    });
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::SYNC;
    let nameless = sys::open(o.m("d"), flags).works();
    sys::pwrite(&nameless, "new", 0).works();
    sys::fsync(&files[0]).works();
    sys::fdatasync(&files[0]).works();
    let dir = sys::open(o.m("d"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    sys::fsync(&dir).works();
    sys::syncfs(&dir).works();
    drop((files, dir, nameless));
    sys::remount(&o.m("/"), MountFlags::RDONLY, "").works();
    o.umount();
}

fn nothing_is_flushed(t: &T) {
    let disk = Disk::new(t, 64);
    // Nothing is to be committed because time has passed.
    mount_device(Fs::Ext4, &disk.below.path, &disk.at, "commit=3000");
    for (option, is_flushed) in [("fsync=auto", true), ("volatile", false)] {
        let home = disk.at.join(option);
        sys::mkdir(&home, 0o755).works();
        let o = t
            .stack()
            .flag(option)
            .lower(|l| {
                for i in 0..20 {
                    l.file(format!("d/f{i}"), pattern(5000, i));
                }
            })
            .upper_in(&home)
            .mount();
        o.work_not_checked();
        let before = flushes(&disk.below.path);
        use_it(&o);
        let count = flushes(&disk.below.path) - before;
        match is_flushed {
            true => assert!(count >= 20, "{option}: {count} flushes"),
            false => assert_eq!(count, 0, "{option}"),
        }
    }
    sys::umount(&disk.at).works();
    check_fs(Fs::Ext4, &disk.below.path);
    drop(disk.below);
    sys::umount_detach(&disk.ram);
}

/// With `fsync=strict` what has no data is written out as well before it gets its name.
fn strict_flushes_every_copy(t: &T) {
    let disk = Disk::new(t, 64);
    mount_device(Fs::Ext4, &disk.below.path, &disk.at, "commit=3000");
    for (option, is_strict) in [("fsync=auto", false), ("fsync=strict", true)] {
        let home = disk.at.join(option);
        sys::mkdir(&home, 0o755).works();
        let o = t
            .stack()
            .flag(option)
            .lower(|l| {
                for i in 0..10 {
                    l.dir(format!("d{i}")).file(format!("empty{i}"), "");
                }
            })
            .upper_in(&home)
            .of_a_round()
            .mount();
        for name in ["d", "empty"] {
            let before = flushes(&disk.below.path);
            for i in 0..10 {
                sys::chmod(o.m(format!("{name}{i}")), 0o700).works();
            }
            let count = flushes(&disk.below.path) - before;
            match is_strict {
                true => assert!(count >= 10, "{option} {name}: {count} flushes"),
                false => assert!(count < 5, "{option} {name}: {count} flushes"),
            }
        }
        o.umount();
    }
    sys::umount(&disk.at).works();
    check_fs(Fs::Ext4, &disk.below.path);
    drop(disk.below);
    sys::umount_detach(&disk.ram);
}

/// After a write error of the upper file system a volatile mount says so to whoever asks, and
/// none is made until somebody has been told.
fn errors_are_told(t: &T) {
    let disk = Disk::new(t, 64);
    let end = sectors(&disk.below.path);
    let below = disk.below.path.display().to_string();
    let good = format!("0 {end} linear {below} 0");
    let bad = format!("0 {end} flakey {below} 0 0 60 1 error_writes");
    drop(Mapped::new(t, &bad));
    let device = Mapped::new(t, &good);
    mount_device(
        Fs::Ext4,
        &device.path,
        &disk.at,
        "commit=3000,errors=continue",
    );
    let stack = |name: &str| {
        let home = disk.at.join(name);
        sys::mkdir(&home, 0o755).works();
        let o = t
            .stack()
            .flag("volatile")
            .lower(|l| {
                l.file("f", "lower");
            })
            .upper_in(&home)
            .prepare();
        o.work_not_checked();
        o
    };
    let (o, other) = (stack("one"), stack("two"));
    Tree::new(&disk.at).file("plain", vec![0; 4096]);
    let outside = sys::open(disk.at.join("plain"), OFlags::RDWR).works();
    sys::syncfs(&outside).works();
    o.mount().works();
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::pwrite(&fd, "new", 0).works();
    sys::fsync(&fd).works();
    sys::syncfs(&fd).works();
    device.change(&bad);
    // Somebody else's loss: of the data of a file, not of the file system's own.
    sys::pwrite(&outside, vec![1; 4096], 0).works();
    sys::fdatasync(&outside).fails(Errno::IO);
    device.change(&good);
    for _ in 0..2 {
        sys::syncfs(&fd).fails(Errno::IO);
        sys::fsync(&fd).fails(Errno::IO);
        let dir = sys::open(o.m("/"), OFlags::RDONLY | OFlags::DIRECTORY).works();
        sys::fsync(&dir).fails(Errno::IO);
    }
    // Nobody has been told by syncfs of the file system itself.
    other.mount().fails(Errno::IO);
    sys::syncfs(&outside).fails(Errno::IO);
    other.mount().works();
    other.umount();
    drop(fd);
    o.umount();
    drop(outside);
    // A file system that met errors says so until somebody has looked at it.
    sys::umount(&disk.at).works();
    let _ = std::process::Command::new("e2fsck")
        .args(["-f".as_ref(), "-p".as_ref(), device.path.as_os_str()])
        .stdout(std::process::Stdio::null())
        .status();
    drop(device);
    drop(disk.below);
    sys::umount_detach(&disk.ram);
}
