// SPDX-License-Identifier: GPL-2.0

//! R13: the power is cut at any point of a run of copy-ups. After the next mount
//! there is the old object or the whole new one, and the work directory is empty.
//!
//! The upper filesystem lies on a dm-log-writes device. Each state that a disk
//! could have had is made from the log on another disk and looked at: that of
//! each flush and each forced write, and between two flushes with a random part
//! of the writes. The tree must be the one after some operation that was begun,
//! and not older than the last `sync` that returned.

use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::ops::NO_TMPFILE;
use crate::device::{sectors, Loop, Mapped};
use crate::env::{check_fs, make_fs, mount_device, Fs, T};
use crate::log_writes::{self, Cut, Disk, Entry};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Expect, OFlags, RenameFlags};
use crate::tree::{is_whiteout, pattern, Snapshot, Take, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(module_path!(), "R13_power_cut_ext4", |t| {
            power_cut(t, Fs::Ext4, 48)
        })
        .long(8)
        .uppers(&NO_TMPFILE),
        Test::new(module_path!(), "R13_power_cut_xfs", |t| {
            power_cut(t, Fs::Xfs, 320)
        })
        .long(8),
    ]
}

const PAGE: usize = 4096;

fn fill_lower(l: &Tree) {
    for (i, size) in [0, 1, PAGE, 9000, 70_000, (1 << 20) + 1].iter().enumerate() {
        for way in ["open", "chmod", "over"] {
            l.file(format!("{way}/f{i}"), pattern(*size, i as u64));
        }
    }
    l.file("cut/whole", pattern(70_000, 1))
        .file("cut/part", pattern(70_000, 2))
        .file("cut/open", pattern(70_000, 3));
    l.file("away/f", pattern(9000, 1))
        .file("away/g", pattern(9000, 2));
    l.file("gone/f", "x").file("gone/g", "y").dir("gone/sub");
    l.file("link/a", pattern(30_000, 4))
        .link("link/a", "link/b")
        .file("link/c", pattern(9000, 5));
    l.file("attr/f", pattern(9000, 6))
        .xattr("attr/f", "user.old", "value");
    l.symlink("attr/s", "f").fifo("attr/p");
    l.file("dirs/one/f", "1").file("dirs/one/sub/g", "2");
    l.file("dirs/two/h", "3").file("dirs/three/i", "4");
    l.dir("dirs/empty").file("dirs/shown/away", "5");
    l.dir("deep/a/b/c")
        .mode("deep/a", 0o711)
        .owner("deep/a/b", 3, 4);
    l.file("deep/a/b/c/f", pattern(5000, 7));
    let sparse = sys::open_mode(l.at("open/sparse"), OFlags::CREATE | OFlags::WRONLY, 0o640);
    let sparse = sparse.works();
    sys::pwrite(&sparse, pattern(PAGE, 8), 1 << 20).works();
    sys::ftruncate(&sparse, 3 << 20).works();
}

type Step = (&'static str, Box<dyn Fn(&Overlay)>);

/// What is done to the overlay. Each step is one that the upper filesystem does
/// in one piece or whose parts do not change what the overlay shows.
fn steps() -> Vec<Step> {
    fn step(name: &'static str, run: impl Fn(&Overlay) + 'static) -> Step {
        (name, Box::new(run))
    }
    fn put(o: &Overlay, path: &str, data: &[u8], at: u64) {
        let fd = sys::open(o.m(path), OFlags::RDWR).works();
        sys::pwrite(&fd, data, at).works();
        sys::fsync(&fd).works();
    }
    let mut all = Vec::new();
    for i in 0..6 {
        let path = format!("open/f{i}");
        all.push(step("open for writing", move |o| {
            sys::open(o.m(&path), OFlags::RDWR).map(drop).works();
        }));
    }
    all.push(step("open a sparse file", |o| {
        sys::open(o.m("open/sparse"), OFlags::RDWR)
            .map(drop)
            .works();
    }));
    all.push(step("write", |o| put(o, "open/f3", b"WRITTEN", 100)));
    all.push(step("append", |o| put(o, "open/f4", b"MORE", 70_000)));
    for i in 0..6 {
        let path = format!("chmod/f{i}");
        all.push(step("chmod", move |o| {
            sys::chmod(o.m(&path), 0o600).works()
        }));
    }
    for i in 0..6 {
        let (from, to) = (format!("chmod/f{i}"), format!("over/f{i}"));
        all.push(step("rename over a lower file", move |o| {
            sys::rename(o.m(&from), o.m(&to)).works();
        }));
    }
    all.extend([
        step("truncate to nothing", |o| {
            sys::truncate(o.m("cut/whole"), 0).works();
        }),
        step("truncate to a part", |o| {
            sys::truncate(o.m("cut/part"), 20_000).works();
        }),
        step("open with O_TRUNC", |o| {
            let flags = OFlags::WRONLY | OFlags::TRUNC;
            sys::open(o.m("cut/open"), flags).map(drop).works();
        }),
        step("rename within the directory", |o| {
            sys::rename(o.m("away/f"), o.m("away/h")).works();
        }),
        step("rename into another directory", |o| {
            sys::rename(o.m("away/g"), o.m("gone/h")).works();
        }),
        step("unlink", |o| sys::unlink(o.m("gone/f")).works()),
        step("rmdir", |o| sys::rmdir(o.m("gone/sub")).works()),
        step("unlink what was copied up", |o| {
            sys::unlink(o.m("open/f5")).works();
        }),
        step("mkdir in the place of a whiteout", |o| {
            sys::mkdir(o.m("gone/sub"), 0o750).works();
        }),
        step("mknod in the place of a whiteout", |o| {
            sys::mknod(o.m("gone/f"), sys::FileType::Fifo, 0o644, 0).works();
        }),
        step("link", |o| sys::link(o.m("link/c"), o.m("link/k")).works()),
        step("one name of a lower hard link", |o| {
            sys::chmod(o.m("link/a"), 0o604).works();
        }),
        step("the other name", |o| {
            sys::chmod(o.m("link/b"), 0o640).works()
        }),
        step("chown", |o| sys::lchown(o.m("attr/f"), 5, 6).works()),
        step("setxattr", |o| {
            sys::set_xattr(o.m("attr/f"), "user.new", "1").works();
        }),
        step("utimes", |o| {
            sys::set_times(o.m("attr/f"), (5, 5), (6, 6)).works();
        }),
        step("chown of a symlink", |o| {
            sys::lchown(o.m("attr/s"), 7, 8).works()
        }),
        step("chmod of a fifo", |o| {
            sys::chmod(o.m("attr/p"), 0o600).works()
        }),
        step("mkdir below lower directories", |o| {
            sys::mkdir(o.m("deep/a/b/c/new"), 0o700).works();
        }),
        step("symlink", |o| {
            sys::symlink("target", o.m("deep/a/b/c/new/s")).works();
        }),
        step("rename of a new directory", |o| {
            sys::rename(o.m("deep/a/b/c/new"), o.m("deep/moved")).works();
        }),
        step("rename of a lower directory", |o| {
            sys::rename(o.m("dirs/one"), o.m("dirs/now")).works();
        }),
        step("rename of a part of it into another one", |o| {
            sys::rename(o.m("dirs/now/sub"), o.m("dirs/two/sub")).works();
        }),
        step("chmod in it", |o| {
            sys::chmod(o.m("dirs/two/sub/g"), 0o600).works();
        }),
        step("exchange of two lower directories", |o| {
            let flags = RenameFlags::EXCHANGE;
            sys::rename_with(o.m("dirs/two"), o.m("dirs/three"), flags).works();
        }),
        step("rename of a directory over an empty lower one", |o| {
            sys::rename(o.m("dirs/now"), o.m("dirs/empty")).works();
        }),
        step("mkdir in the place of one that was renamed", |o| {
            sys::mkdir(o.m("dirs/one"), 0o755).works();
        }),
        step("rename of a directory that will be empty", |o| {
            sys::rename(o.m("dirs/shown"), o.m("dirs/moved")).works();
        }),
        step("unlink in it", |o| {
            sys::unlink(o.m("dirs/moved/away")).works()
        }),
        step("rmdir of it", |o| sys::rmdir(o.m("dirs/moved")).works()),
        step("the last file", |o| put(o, "deep/a/b/c/f", b"END", 10)),
    ]);
    all
}

/// What was recorded.
struct Run {
    start: Disk,
    log: Vec<Entry>,
    /// The tree after each step; the first is that before all.
    trees: Vec<Snapshot>,
}

fn power_cut(t: &T, fs: Fs, megabytes: u64) {
    let ram = t.new_dir("ram");
    let none = MountFlags::empty();
    sys::mount("none", &ram, "tmpfs", none, b"size=600m").works();
    let lower = t.dir.join("lower");
    sys::mkdir(&lower, 0o755).works();
    fill_lower(&Tree::new(&lower));
    let run = record(t, fs, &ram, &lower, megabytes);

    let mut count = 0;
    log_writes::cuts(run.start.clone(), &run.log, 1, |_| count += 1);
    let most = t.scaled(120, 24);
    let after = After::new(t, fs, &ram, &lower);
    let mut number = 0;
    let mut checked = 0;
    log_writes::cuts(run.start.clone(), &run.log, 1, |cut| {
        number += 1;
        if count <= most || number * most / count != (number - 1) * most / count {
            checked += usize::from(after.check(&run, &cut));
        }
    });
    println!(
        "# {checked} power cuts of {count} in {} steps",
        run.trees.len() - 1
    );
    assert!(
        checked > 10,
        "only {checked} of {count} states were looked at"
    );
    sys::umount_detach(&ram);
}

/// Does all steps on a logged disk.
fn record(t: &T, fs: Fs, ram: &Path, lower: &Path, megabytes: u64) -> Run {
    let image = |name: &str, megabytes: u64| {
        let image = ram.join(name);
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(megabytes << 20).expect("image size");
        image
    };
    let disk = image("disk", megabytes);
    make_fs(fs, &disk);
    let start = Disk::read(&disk);
    let log = image("log", 400);
    let mut trees = Vec::new();
    {
        let (below, beside) = (Loop::new(&disk), Loop::new(&log));
        let table = format!(
            "0 {} log-writes {} {}",
            sectors(&disk),
            below.path.display(),
            beside.path.display()
        );
        let device = Mapped::new(t, &table);
        let at = ram.join("fs");
        sys::mkdir(&at, 0o755).works();
        mount_device(fs, &device.path, &at, "");
        let stack = t.stack().flag("redirect_dir=on");
        let o = stack.lower_dir(lower).upper_in(&at).mount();
        // There is no work directory to look at when its disk is gone.
        o.work_not_checked();
        let sync = || {
            let fd = sys::open(&at, OFlags::RDONLY).works();
            sys::syncfs(&fd).works();
        };
        trees.push(o.snapshot(Take::OUTCOME));
        sync();
        device.message("mark synced-0");
        for (i, (_, step)) in steps().iter().enumerate() {
            device.message(&format!("mark begun-{}", i + 1));
            step(&o);
            trees.push(o.snapshot(Take::OUTCOME));
            if i % 7 == 6 {
                sync();
                device.message(&format!("mark synced-{}", i + 1));
            }
        }
        sync();
        device.message(&format!("mark synced-{}", trees.len() - 1));
        o.umount();
        sys::umount(&at).works();
    }
    check_fs(fs, &disk);
    let entries = log_writes::read(&log);
    std::fs::remove_file(&log).expect("log");
    std::fs::remove_file(&disk).expect("disk");
    Run {
        start,
        log: entries,
        trees,
    }
}

/// What is mounted after a power cut.
struct After {
    fs: Fs,
    image: PathBuf,
    at: PathBuf,
    o: Overlay,
}

impl After {
    fn new(t: &T, fs: Fs, ram: &Path, lower: &Path) -> After {
        let at = ram.join("after");
        sys::mkdir(&at, 0o755).works();
        let o = t
            .stack()
            .flag("redirect_dir=on")
            .lowers_not_compared()
            .lower_dir(lower)
            .upper_in(&at)
            .prepare();
        o.work_not_checked();
        let image = ram.join("cut");
        After { fs, image, at, o }
    }

    /// Whether there was anything to check at this point.
    fn check(&self, run: &Run, cut: &Cut) -> bool {
        let (mut synced, mut begun) = (None, 0);
        for mark in run.log[..cut.entries]
            .iter()
            .filter_map(|e| e.mark.as_ref())
        {
            match mark.split_once('-') {
                Some(("synced", n)) => synced = n.parse().ok(),
                Some(("begun", n)) => begun = n.parse().expect("number of a step"),
                _ => {}
            }
        }
        let Some(synced) = synced else { return false };
        let allowed = &run.trees[synced..=begun];
        let steps = steps();
        let last = begun.checked_sub(1).map_or("none", |i| steps[i].0);
        let what = format!("{}: steps {synced} to {begun} ({last})", cut.what);

        cut.disk.write(&self.image);
        mount_device(self.fs, &self.image, &self.at, "");
        self.upper_is_whole(allowed, &what);
        self.o.mount().works();
        is_one_of(allowed, &self.o.snapshot(Take::OUTCOME), &what);
        self.o.assert_no_strays();
        self.o.umount();
        sys::umount(&self.at).works();
        check_fs(self.fs, &self.image);
        true
    }

    /// What lies in the upper layer before anybody mounts the overlay: nothing
    /// but what one of the trees has, and whiteouts.
    fn upper_is_whole(&self, allowed: &[Snapshot], what: &str) {
        let upper = Snapshot::of(&self.o.u("/"), Take::OUTCOME);
        for (path, entry) in &upper.0 {
            let fits = allowed.iter().any(|tree| match tree.0.get(path) {
                None => is_whiteout(self.o.u(path)),
                Some(e) => {
                    (&e.kind, e.mode, e.uid, e.gid)
                        == (&entry.kind, entry.mode, entry.uid, entry.gid)
                        && (e.size, e.hash) == (entry.size, entry.hash)
                        && e.link == entry.link
                }
            });
            assert!(fits, "{what}: in the upper layer, {path:?} is {entry:?}");
        }
    }
}

/// The tree is one of `allowed`. Data that was written is not ordered with what
/// was done to names; each file may have that of any of the trees.
fn is_one_of(allowed: &[Snapshot], tree: &Snapshot, what: &str) {
    let mut tree = tree.clone();
    let mut best: Option<Vec<String>> = None;
    for one in allowed {
        for (path, entry) in &mut tree.0 {
            let Some(want) = one.0.get(path) else {
                continue;
            };
            let same_data = |e: &&crate::tree::Entry| (e.size, e.hash) == (entry.size, entry.hash);
            if allowed
                .iter()
                .filter_map(|a| a.0.get(path))
                .any(|e| same_data(&e))
            {
                (entry.size, entry.hash) = (want.size, want.hash);
            }
        }
        let diff = tree.differences(one);
        if diff.is_empty() {
            return;
        }
        if best.as_ref().is_none_or(|b| diff.len() < b.len()) {
            best = Some(diff);
        }
    }
    panic!(
        "{what}: none of {} trees; the nearest differs:\n{}",
        allowed.len(),
        best.unwrap_or_default().join("\n")
    );
}
