// SPDX-License-Identifier: GPL-2.0

//! The same operations on the file system under test, on the kernel's
//! overlayfs, and on a plain copy: the same results, the same upper layers,
//! and each reads the other's.

use std::path::{Path, PathBuf};

use crate::env::T;
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FileType, OFlags, RenameFlags, Res};
use crate::tree::{assert_same, Snapshot, Take, Tree, OPAQUE};

pub fn tests() -> Vec<Test> {
    vec![
        test!(whiteouts).matrix(),
        test!(directories_replaced).matrix(),
        test!(files_changed),
        test!(renames),
        test!(attributes),
        test!(special_files),
        test!(links),
        test!(types_replaced),
        test!(several_lower_layers),
        test!(deep_changes),
        test!(temporary_files),
        test!(random_operations).long(3),
        test!(random_operations_three_layers).long(3),
        test!(upper_written_by_overlay),
        test!(upper_written_by_both_in_turn),
        test!(image_of_many_files).long(3),
    ]
}

fn base(l: &Tree) {
    l.file("f", "f").file("g", "g").file("h", "h");
    l.file("d/a", "a").file("d/b", "b").file("d/sub/x", "x");
    l.file("e/a", "ea").file("e/deep/er/est", "bottom");
    l.dir("empty")
        .symlink("s", "f")
        .symlink("d/s", "../g")
        .fifo("p");
    l.node("c", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    l.xattr("f", "user.x", "y")
        .owner("g", 5, 6)
        .mode("d", 0o2750);
}

/// A stack for each of the two file systems, with equal layers.
fn two(t: &T, fill: impl Fn(&Tree)) -> (Overlay, Overlay) {
    let ours = t.stack().lower(&fill).mount();
    let theirs = t.stack().lower(&fill).prepare();
    mount_overlay(&theirs);
    (ours, theirs)
}

fn mount_overlay(o: &Overlay) {
    o.set_fstype("overlay");
    o.mount().works();
}

/// The upper layers are alike, and each file system shows the other's.
fn compare(t: &T, ours: &Overlay, theirs: &Overlay) {
    let tree = ours.snapshot(Take::OUTCOME);
    assert_same(
        "merged trees (first: ours, second: overlayfs)",
        &tree,
        &theirs.snapshot(Take::OUTCOME),
    );
    assert_same(
        "upper layers (first: ours, second: overlayfs)",
        &essential_upper(ours),
        &essential_upper(theirs),
    );
    ours.remount_as("overlay");
    assert_same(
        "our upper layer, mounted by overlayfs",
        &tree,
        &ours.snapshot(Take::OUTCOME),
    );
    theirs.remount_as(t.fstype());
    assert_same(
        "overlayfs's upper layer, mounted by us",
        &tree,
        &theirs.snapshot(Take::OUTCOME),
    );
    theirs.remount();
    assert_same(
        "mounted by us again",
        &tree,
        &theirs.snapshot(Take::OUTCOME),
    );
}

/// The upper layer without opaque marks that hide nothing: overlayfs puts
/// one on a directory moved into a merged one, whether or not a lower layer
/// has that name.
fn essential_upper(o: &Overlay) -> Snapshot {
    let mut upper = o.upper_snapshot(Take::OUTCOME);
    for (path, entry) in &mut upper.0 {
        let hides = (0..o.lower_count()).any(|i| o.l(i, path).is_dir());
        if !hides {
            entry.xattrs.remove(OPAQUE);
        }
    }
    upper
}

fn scenario(t: &T, run: impl Fn(&Path)) {
    scenario_on(t, base, run);
}

fn scenario_on(t: &T, fill: impl Fn(&Tree), run: impl Fn(&Path)) {
    let (ours, theirs) = two(t, fill);
    run(&ours.m("/"));
    run(&theirs.m("/"));
    compare(t, &ours, &theirs);
}

fn remove(at: PathBuf) {
    std::fs::remove_dir_all(&at).unwrap_or_else(|e| panic!("rm -r {at:?}: {e}"));
}

fn whiteouts(t: &T) {
    scenario(t, |m| {
        for n in ["f", "d/a", "d/sub/x", "s", "p", "c"] {
            sys::unlink(m.join(n)).works();
        }
        sys::rmdir(m.join("empty")).works();
        sys::rmdir(m.join("d/sub")).works();
        remove(m.join("e/deep"));
        sys::write_file(m.join("f"), "again").works();
        sys::write_file(m.join("new"), "n").works();
        sys::unlink(m.join("new")).works();
    });
}

fn directories_replaced(t: &T) {
    scenario(t, |m| {
        remove(m.join("d"));
        sys::mkdir(m.join("d"), 0o755).works();
        sys::write_file(m.join("d/new"), "n").works();
        remove(m.join("e"));
        sys::mkdir(m.join("e"), 0o700).works();
        sys::mkdir(m.join("e/deep"), 0o700).works();
        sys::mkdir(m.join("fresh"), 0o755).works();
        sys::mkdir(m.join("fresh/in"), 0o755).works();
        sys::rename(m.join("fresh"), m.join("empty")).works();
        sys::rmdir(m.join("empty/in")).works();
    });
}

fn files_changed(t: &T) {
    scenario(t, |m| {
        sys::append_file(m.join("f"), "+").works();
        sys::truncate(m.join("g"), 0).works();
        sys::write_file(m.join("d/a"), "other").works();
        sys::truncate(m.join("e/deep/er/est"), 1000).works();
        sys::write_file(m.join("d/sub/new"), "n").works();
        let fd = sys::open(m.join("d/b"), OFlags::RDWR).works();
        sys::pwrite(&fd, "far", 100_000).works();
    });
}

fn renames(t: &T) {
    scenario(t, |m| {
        sys::rename(m.join("f"), m.join("f2")).works();
        sys::rename(m.join("d/a"), m.join("e/a")).works();
        sys::rename(m.join("s"), m.join("d/moved")).works();
        sys::rename(m.join("g"), m.join("h")).works();
        let exchange = RenameFlags::EXCHANGE;
        sys::rename_with(m.join("d/b"), m.join("e/deep/er/est"), exchange).works();
        sys::mkdir(m.join("n1"), 0o755).works();
        sys::write_file(m.join("n1/x"), "x").works();
        sys::rename(m.join("n1"), m.join("d/n2")).works();
        sys::rename(m.join("d"), m.join("z")).fails(Errno::XDEV);
        sys::rename(m.join("f2"), m.join("f")).works();
        let noreplace = RenameFlags::NOREPLACE;
        sys::rename_with(m.join("p"), m.join("g"), noreplace).works();
    });
}

fn attributes(t: &T) {
    scenario(t, |m| {
        sys::chmod(m.join("f"), 0o4711).works();
        sys::lchown(m.join("d"), 7, 8).works();
        sys::lchown(m.join("s"), 7, 8).works();
        sys::set_xattr(m.join("d/a"), "user.new", "v").works();
        sys::remove_xattr(m.join("f"), "user.x").works();
        sys::set_xattr(m.join("e"), "trusted.t", "v").works();
        sys::set_xattr(m.join("d/sub"), "trusted.overlay.opaque", "y").works();
        sys::chmod(m.join("c"), 0o600).works();
        let acl = super::copyup::acl_for(1234);
        sys::set_xattr(m.join("g"), "system.posix_acl_access", &acl).works();
        sys::set_xattr(m.join("d"), "system.posix_acl_default", &acl).works();
        sys::write_file(m.join("d/inherits"), "x").works();
        sys::mkdir(m.join("d/inherits_too"), 0o755).works();
        sys::set_times(m.join("h"), (1, 2), (3, 4)).works();
        sys::chmod(m, 0o711).works();
    });
}

fn special_files(t: &T) {
    scenario(t, |m| {
        let dev = rustix::fs::makedev(12, 34);
        sys::mknod(m.join("d/fifo"), FileType::Fifo, 0o600, 0).works();
        sys::mknod(m.join("d/sock"), FileType::Socket, 0o600, 0).works();
        sys::mknod(m.join("d/chr"), FileType::CharacterDevice, 0o600, dev).works();
        sys::mknod(m.join("d/blk"), FileType::BlockDevice, 0o600, dev).works();
        sys::symlink("target", m.join("d/link")).works();
        sys::unlink(m.join("p")).works();
        sys::mknod(m.join("p"), FileType::Socket, 0o644, 0).works();
        sys::rename(m.join("c"), m.join("d/c")).works();
    });
}

fn links(t: &T) {
    scenario(t, |m| {
        sys::link(m.join("f"), m.join("d/link")).works();
        sys::link(m.join("s"), m.join("slink")).works();
        sys::link(m.join("d/link"), m.join("e/link")).works();
        sys::unlink(m.join("f")).works();
        sys::unlink(m.join("g")).works();
        sys::link(m.join("h"), m.join("g")).works();
    });
}

fn types_replaced(t: &T) {
    scenario(t, |m| {
        remove(m.join("d"));
        sys::write_file(m.join("d"), "a file now").works();
        sys::unlink(m.join("f")).works();
        sys::mkdir(m.join("f"), 0o755).works();
        sys::write_file(m.join("f/in"), "x").works();
        sys::unlink(m.join("g")).works();
        sys::symlink("h", m.join("g")).works();
        sys::rmdir(m.join("empty")).works();
        sys::rename(m.join("h"), m.join("empty")).works();
    });
}

fn several_lower_layers(t: &T) {
    let stack = || {
        t.stack()
            .lower(|l| {
                l.file("d/top", "t").whiteout("d/b").opaque("e");
                l.file("e/top", "t").whiteout("g");
            })
            .lower(base)
            .lower(|l| {
                l.file("d/low", "l").file("d/b", "low b").file("e/low", "l");
                l.file("g", "low g").file("only", "o");
            })
            .upper(|u| {
                u.dir("d").whiteout("d/low");
            })
    };
    let ours = stack().mount();
    let theirs = stack().prepare();
    mount_overlay(&theirs);
    for m in [ours.m("/"), theirs.m("/")] {
        sys::write_file(m.join("d/b"), "new b").works();
        sys::unlink(m.join("d/top")).works();
        sys::append_file(m.join("e/top"), "+").works();
        sys::write_file(m.join("g"), "new g").works();
        sys::unlink(m.join("only")).works();
        remove(m.join("d/sub"));
        sys::mkdir(m.join("d/sub"), 0o755).works();
        sys::write_file(m.join("d/low"), "new low").works();
    }
    compare(t, &ours, &theirs);
}

fn deep_changes(t: &T) {
    scenario_on(
        t,
        |l| {
            for i in 0..5 {
                l.file(format!("a/b{i}/c/d/f{i}"), i.to_string());
                l.mode(&format!("a/b{i}"), 0o750 + i);
            }
        },
        |m| {
            sys::append_file(m.join("a/b0/c/d/f0"), "+").works();
            sys::unlink(m.join("a/b1/c/d/f1")).works();
            remove(m.join("a/b2/c"));
            sys::rename(m.join("a/b3/c/d/f3"), m.join("a/b4/c/f3")).works();
            sys::mkdir(m.join("a/b2/c"), 0o755).works();
        },
    );
}

fn temporary_files(t: &T) {
    scenario(t, |m| {
        let flags = OFlags::TMPFILE | OFlags::RDWR;
        let fd = sys::open_mode(m.join("d/sub"), flags, 0o640).works();
        sys::write(&fd, "nameless").works();
        sys::link_fd(&fd, m.join("d/named")).works();
        sys::unlink(m.join("f")).works();
        let fd = sys::open_mode(m, flags, 0o600).works();
        sys::link_fd(&fd, m.join("f")).works();
        drop(sys::open_mode(m.join("e"), flags, 0o600).works());
    });
}

/// A small generator: the same operations from the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }

    fn path(&mut self) -> String {
        const DIRS: [&str; 6] = ["", "d/", "d/sub/", "e/", "e/deep/", "n1/"];
        const NAMES: [&str; 12] = [
            "f", "g", "h", "a", "b", "x", "d", "e", "sub", "deep", "n1", "empty",
        ];
        format!("{}{}", DIRS[self.next(6)], NAMES[self.next(12)])
    }
}

/// One operation, the same for equal states of the generator. Gives what is
/// to be compared: what was done, and how it ended.
fn operate(m: &Path, r: &mut Random) -> (String, Option<Errno>) {
    let (a, b) = (r.path(), r.path());
    let (pa, pb) = (m.join(&a), m.join(&b));
    let number = r.next(1000);
    let which = r.next(20);
    let rw = |flags| sys::open(&pa, OFlags::RDWR | flags);
    let (what, result): (&str, Res<()>) = match which {
        0 | 1 => ("create", {
            rw(OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK).map(drop)
        }),
        2 => ("exclusive", rw(OFlags::CREATE | OFlags::EXCL).map(drop)),
        3 | 4 => ("write", {
            rw(OFlags::NOFOLLOW | OFlags::NONBLOCK)
                .and_then(|fd| sys::pwrite(&fd, number.to_string(), number as u64))
        }),
        5 => ("truncate", {
            sys::lstat(&pa).and_then(|st| match sys::kind_of(&st) {
                FileType::RegularFile => sys::truncate(&pa, number as u64),
                _ => Ok(()),
            })
        }),
        6 | 7 => ("unlink", sys::unlink(&pa)),
        8 | 9 => ("mkdir", sys::mkdir(&pa, 0o755)),
        10 | 11 => ("rmdir", sys::rmdir(&pa)),
        12 | 13 => ("rename", sys::rename(&pa, &pb)),
        14 => (
            "exchange",
            sys::rename_with(&pa, &pb, RenameFlags::EXCHANGE),
        ),
        15 => (
            "noreplace",
            sys::rename_with(&pa, &pb, RenameFlags::NOREPLACE),
        ),
        16 => ("link", sys::link(&pa, &pb)),
        17 => ("symlink", sys::symlink("target", &pa)),
        18 => ("chmod", {
            sys::lstat(&pa).and_then(|st| match sys::kind_of(&st) {
                FileType::Symlink => Ok(()),
                _ => sys::chmod(&pa, 0o700 + number as u32 % 0o100),
            })
        }),
        _ => ("setxattr", {
            sys::set_xattr(&pa, "trusted.number", number.to_string())
        }),
    };
    (
        format!("{what} {a} {b} {number}"),
        result.err().map(|e| e.errno),
    )
}

fn copy_tree(from: &Path, to: &Path) {
    let from = from.join(".");
    sys::run("cp", &["-a".as_ref(), from.as_os_str(), to.as_os_str()]);
}

fn random_run(t: &T, seed: u64, count: usize, stack: impl Fn() -> (Overlay, Overlay)) {
    let (ours, theirs) = stack();
    let plain = t.new_dir("plain");
    copy_tree(&ours.m("/"), &plain);
    let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut history = Vec::new();
    let mut worked = 0;
    for step in 0..count {
        let start = r.0;
        let (what, got) = operate(&ours.m("/"), &mut r);
        history.push(format!("{what}: {got:?}"));
        worked += usize::from(got.is_none());
        let tail = || history[history.len().saturating_sub(12)..].join("\n");
        let (_, other) = operate(&theirs.m("/"), &mut Random(start));
        assert_eq!(
            got,
            other,
            "seed {seed} step {step}: {what}: we (left), overlayfs (right)\n{}",
            tail()
        );
        // A lower directory does not move: documented, so not on the copy.
        if got == Some(Errno::XDEV) {
            continue;
        }
        let (_, want) = operate(&plain, &mut Random(start));
        assert_eq!(
            got,
            want,
            "seed {seed} step {step}: {what}: we (left), a plain file system (right)\n{}",
            tail()
        );
        if step % 50 == 49 {
            same_as_plain(
                &ours,
                &plain,
                &format!("seed {seed} step {step}\n{}", tail()),
            );
        }
    }
    same_as_plain(&ours, &plain, &format!("seed {seed}, at the end"));
    assert!(
        worked > count / 5,
        "only {worked} of {count} operations worked"
    );
    compare(t, &ours, &theirs);
}

fn same_as_plain(o: &Overlay, plain: &Path, what: &str) {
    assert_same(
        &format!("merged tree against a plain one, {what}"),
        &o.snapshot(Take::OUTCOME),
        &Snapshot::of(plain, Take::OUTCOME),
    );
}

fn random_operations(t: &T) {
    for seed in 1..=t.scaled(8, 2) as u64 {
        random_run(t, seed, t.scaled(300, 150), || two(t, base));
    }
}

fn random_operations_three_layers(t: &T) {
    let top = |l: &Tree| {
        l.file("d/x", "top").whiteout("d/a").opaque("e");
        l.file("e/x", "top").file("n1/f", "top").whiteout("h");
    };
    let bottom = |l: &Tree| {
        l.file("d/sub/b", "bottom").file("e/b", "bottom");
        l.file("n1/g", "bottom")
            .file("x", "bottom")
            .file("a/f", "a");
    };
    let upper = |u: &Tree| {
        u.file("d/b", "upper").whiteout("d/x").dir("n1");
    };
    for seed in 100..100 + t.scaled(6, 2) as u64 {
        random_run(t, seed, t.scaled(300, 150), || {
            let stack = || {
                let s = t.stack().lower(top).lower(base).lower(bottom);
                s.upper(upper)
            };
            let theirs = stack().prepare();
            mount_overlay(&theirs);
            (stack().mount(), theirs)
        });
    }
}

fn upper_written_by_overlay(t: &T) {
    let o = t.stack().lower(base).prepare();
    mount_overlay(&o);
    let m = o.m("/");
    sys::append_file(m.join("f"), "+").works();
    sys::unlink(m.join("g")).works();
    remove(m.join("d"));
    sys::mkdir(m.join("d"), 0o755).works();
    sys::rename(m.join("e/a"), m.join("d/a")).works();
    let tree = o.snapshot(Take::ALL);
    o.remount_as(t.fstype());
    assert_same("what overlayfs wrote", &tree, &o.snapshot(Take::ALL));
    // And can be worked on.
    sys::append_file(m.join("f"), "+").works();
    crate::tree::assert_text(m.join("f"), "f++");
    sys::write_file(m.join("g"), "again").works();
    sys::unlink(m.join("d/a")).works();
    crate::tree::assert_names(m.join("d"), &[]);
}

fn upper_written_by_both_in_turn(t: &T) {
    let o = t.stack().lower(base).mount();
    let plain = t.new_dir("plain");
    copy_tree(&o.m("/"), &plain);
    let mut r = Random(77);
    for turn in 0..t.scaled(12, 4) {
        let fstype = if turn % 2 == 0 { "overlay" } else { t.fstype() };
        o.remount_as(fstype);
        for _ in 0..30 {
            let start = r.0;
            let (what, got) = operate(&o.m("/"), &mut r);
            if got == Some(Errno::XDEV) {
                continue;
            }
            let (_, want) = operate(&plain, &mut Random(start));
            assert_eq!(got, want, "turn {turn}, {fstype}: {what}");
        }
        same_as_plain(&o, &plain, &format!("turn {turn}, {fstype}"));
    }
}

/// Unpacks, changes and removes many files, as a package manager does.
fn image_of_many_files(t: &T) {
    let n = t.scaled(300, 60);
    scenario_on(
        t,
        |l| {
            for i in 0..n {
                l.file(format!("usr/d{}/f{i}", i % 7), i.to_string());
            }
        },
        |m| {
            for i in 0..n {
                let f = m.join(format!("usr/d{}/f{i}", i % 7));
                let new = m.join(format!("usr/d{}/f{i}.new", i % 7));
                match i % 4 {
                    0 => {
                        sys::write_file(&new, format!("new {i}")).works();
                        sys::rename(&new, &f).works();
                    }
                    1 => sys::unlink(&f).works(),
                    2 => {
                        sys::link(&f, &new).works();
                        sys::append_file(&f, "+").works();
                    }
                    _ => {}
                }
            }
            remove(m.join("usr/d3"));
        },
    );
}
