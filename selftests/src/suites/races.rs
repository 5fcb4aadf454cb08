// SPDX-License-Identifier: GPL-2.0

//! Many threads at once. Not yet proofs of each interleaving: whatever
//! happens, the tree is right at the end and nothing is left over.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Barrier;

use crate::env::{threads, Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags, Res};
use crate::tree::{assert_names, assert_text, assert_whiteout, is_whiteout, pattern, Tree};
use crate::watch::{now, start};

pub fn tests() -> Vec<Test> {
    vec![
        test!(one_file_opened_by_many).matrix().not_on(&IMAGES),
        test!(one_file_changed_by_every_way),
        test!(many_files_below_the_same_directories).matrix(),
        test!(unlink_against_open).matrix(),
        test!(unlink_against_chmod),
        test!(rename_over_against_open),
        test!(rename_away_against_open),
        test!(link_against_unlink),
        test!(two_names_of_one_lower_file),
        test!(readers_during_copy_up).matrix().not_on(&IMAGES),
        test!(stat_during_copy_up),
        test!(truncate_during_copy_up),
        test!(mapped_during_copy_up),
        test!(killed_copier)
            .matrix()
            .not_on(&[Fs::Erofs, Fs::Squashfs]),
        test!(killed_waiter),
        test!(mkdir_against_rmdir),
        test!(create_against_unlink),
        test!(rename_in_circles),
        test!(exchange_against_lookup),
        test!(remove_tree_twice_at_once),
        test!(listing_against_changes),
        test!(copy_up_of_siblings),
        test!(caches_dropped_all_the_time),
        test!(syncfs_against_copy_up),
        test!(everything_at_once).long(2),
        test!(nested_stacks_frozen_in_the_middle).long(2),
    ]
}

/// To make an image of large files takes longer than the test.
const IMAGES: [Fs; 2] = [Fs::Erofs, Fs::Squashfs];

fn run_all(n: usize, f: impl Fn(usize) + Sync) {
    let start = Barrier::new(n);
    threads(
        (0..n)
            .map(|i| {
                let (f, start) = (&f, &start);
                move || {
                    start.wait();
                    f(i);
                }
            })
            .collect(),
    );
}

fn two(a: impl Fn() + Send + Sync, b: impl Fn() + Send + Sync) {
    run_all(2, |i| if i == 0 { a() } else { b() });
}

/// The result must be one of these errors, or success.
#[track_caller]
fn may_fail<X>(r: Res<X>, errnos: &[Errno]) -> bool {
    match r {
        Ok(_) => true,
        Err(e) if errnos.contains(&e.errno) => false,
        Err(e) => panic!("{e:?}"),
    }
}

fn one_file_opened_by_many(t: &T) {
    let size = t.scaled(4 << 20, 1 << 20);
    let rounds = t.scaled(5, 2);
    let o = t
        .stack()
        .lower(|l| {
            for r in 0..rounds {
                l.file(format!("d/f{r}"), pattern(size, 1));
            }
        })
        .mount();
    for r in 0..rounds {
        let p = o.m(format!("d/f{r}"));
        let ino = sys::stat(&p).works().st_ino;
        run_all(8, |i| {
            let fd = sys::open(&p, OFlags::RDWR).works();
            sys::pwrite(&fd, [i as u8; 100], 1000 * i as u64).works();
            if t.variant.one_fs() || !t.is_overlay() {
                assert_eq!(sys::fstat(&fd).works().st_ino, ino);
            }
        });
        let mut want = pattern(size, 1);
        for i in 0..8 {
            want[1000 * i..1000 * i + 100].fill(i as u8);
        }
        assert!(sys::read_file(&p).works() == want, "a write was lost");
        let upper = sys::read_file(o.u(format!("d/f{r}"))).works();
        assert!(upper == want, "a write went to another copy");
        o.assert_no_strays();
    }
    assert_eq!(sys::names(o.u("d")).works().len(), rounds);
}

fn one_file_changed_by_every_way(t: &T) {
    let rounds = t.scaled(30, 6);
    let size = 100_000;
    let o = t
        .stack()
        .lower(|l| {
            for r in 0..rounds {
                l.file(format!("f{r}"), pattern(size, 1));
            }
        })
        .mount();
    for r in 0..rounds {
        let p = o.m(format!("f{r}"));
        run_all(6, |i| match i {
            0 => sys::chmod(&p, 0o600).works(),
            1 => sys::lchown(&p, 5, 6).works(),
            2 => sys::set_xattr(&p, "user.x", "y").works(),
            3 => sys::append_file(&p, "+").works(),
            4 => sys::link(&p, o.m(format!("link{r}"))).works(),
            _ => sys::set_times(&p, (5, 5), (6, 6)).works(),
        });
        let st = sys::stat(&p).works();
        assert_eq!((st.st_uid, st.st_gid, st.st_nlink), (5, 6, 2));
        assert_eq!(sys::get_xattr(&p, "user.x").works(), b"y");
        let mut want = pattern(size, 1);
        want.push(b'+');
        assert!(sys::read_file(&p).works() == want);
        assert!(sys::read_file(o.m(format!("link{r}"))).works() == want);
    }
}

fn many_files_below_the_same_directories(t: &T) {
    let rounds = t.scaled(10, 3);
    let o = t
        .stack()
        .lower(|l| {
            for r in 0..rounds {
                for i in 0..8 {
                    l.file(format!("r{r}/a/b/c/f{i}"), i.to_string());
                }
                l.mode(&format!("r{r}/a"), 0o711)
                    .owner(&format!("r{r}/a/b"), 3, 4);
            }
        })
        .mount();
    for r in 0..rounds {
        run_all(8, |i| {
            let dir = o.m(format!("r{r}/a/b/c"));
            if i % 2 == 0 {
                sys::append_file(dir.join(format!("f{i}")), "+").works();
            } else {
                sys::write_file(dir.join(format!("new{i}")), "n").works();
            }
        });
        let upper = sys::names(o.u(format!("r{r}/a/b/c"))).works();
        assert_eq!(upper.len(), 8, "{upper:?}");
        assert_names(o.u(format!("r{r}/a")), &["b"]);
        let st = sys::stat(o.u(format!("r{r}/a/b"))).works();
        assert_eq!((st.st_uid, st.st_gid), (3, 4));
        let st = sys::stat(o.u(format!("r{r}/a"))).works();
        assert_eq!(sys::mode_of(&st), 0o711);
        o.assert_no_strays();
    }
}

/// A file in each round; both run at once; then the check.
fn rounds(
    t: &T,
    count: usize,
    size: usize,
    a: impl Fn(&Overlay, &str) + Sync,
    b: impl Fn(&Overlay, &str) + Sync,
    check: impl Fn(&Overlay, &str),
) {
    let count = t.scaled(count, 10);
    let o = t
        .stack()
        .lower(|l| {
            for r in 0..count {
                l.file(format!("d/f{r}"), pattern(size, r as u64));
            }
        })
        .mount();
    for r in 0..count {
        let n = format!("d/f{r}");
        run_all(2, |i| if i == 0 { a(&o, &n) } else { b(&o, &n) });
        check(&o, &n);
        o.assert_no_strays();
    }
}

#[track_caller]
fn only_a_whiteout(o: &Overlay, n: &str) {
    sys::stat(o.m(n)).fails(Errno::NOENT);
    assert_whiteout(o.u(n));
}

fn unlink_against_open(t: &T) {
    rounds(
        t,
        40,
        200_000,
        |o, n| sys::unlink(o.m(n)).works(),
        |o, n| {
            if let Ok(fd) = sys::open(o.m(n), OFlags::RDWR) {
                sys::pwrite(&fd, "written", 0).works();
                assert_eq!(sys::pread(&fd, 7, 0).works(), b"written");
            }
        },
        only_a_whiteout,
    );
}

fn unlink_against_chmod(t: &T) {
    rounds(
        t,
        60,
        200_000,
        |o, n| sys::unlink(o.m(n)).works(),
        |o, n| {
            let errnos = [Errno::NOENT, Errno::EXIST];
            // Overlayfs says EEXIST when its copy finds the whiteout.
            let allowed = if t.is_overlay() { 2 } else { 1 };
            may_fail(sys::chmod(o.m(n), 0o600), &errnos[..allowed]);
        },
        only_a_whiteout,
    );
}

fn rename_over_against_open(t: &T) {
    rounds(
        t,
        40,
        200_000,
        |o, n| {
            let new = o.m(format!("{n}.new"));
            sys::write_file(&new, "new").works();
            sys::rename(&new, o.m(n)).works();
        },
        |o, n| {
            let opened = sys::open(o.m(n), OFlags::RDWR);
            // Overlayfs says EEXIST when its copy finds the new file.
            let allowed = if t.is_overlay() { 1 } else { 0 };
            may_fail(opened, &[Errno::EXIST][..allowed]);
        },
        |o, n| {
            assert_text(o.m(n), "new");
            assert_text(o.u(n), "new");
            assert!(!sys::exists(o.u(format!("{n}.new"))));
        },
    );
}

fn rename_away_against_open(t: &T) {
    rounds(
        t,
        40,
        200_000,
        |o, n| sys::rename(o.m(n), o.m(format!("{n}.moved"))).works(),
        |o, n| {
            may_fail(sys::open(o.m(n), OFlags::RDWR), &[Errno::NOENT]);
        },
        |o, n| {
            sys::stat(o.m(n)).fails(Errno::NOENT);
            assert_whiteout(o.u(n));
            let moved = o.m(format!("{n}.moved"));
            assert_eq!(sys::stat(moved).works().st_size, 200_000);
        },
    );
}

fn link_against_unlink(t: &T) {
    rounds(
        t,
        60,
        50_000,
        |o, n| sys::unlink(o.m(n)).works(),
        |o, n| {
            let linked = sys::link(o.m(n), o.m(format!("{n}.link")));
            may_fail(linked, &[Errno::NOENT]);
        },
        |o, n| {
            sys::stat(o.m(n)).fails(Errno::NOENT);
            assert!(is_whiteout(o.u(n)));
            if let Ok(st) = sys::stat(o.m(format!("{n}.link"))) {
                assert_eq!((st.st_nlink, st.st_size), (1, 50_000));
            }
        },
    );
}

fn two_names_of_one_lower_file(t: &T) {
    let count = t.scaled(30, 8);
    let o = t
        .stack()
        .lower(|l| {
            for r in 0..count {
                l.file(format!("a{r}"), pattern(50_000, 1));
                l.link(&format!("a{r}"), &format!("b{r}"));
            }
        })
        .mount();
    for r in 0..count {
        let (a, b) = (o.m(format!("a{r}")), o.m(format!("b{r}")));
        two(
            || sys::append_file(&a, "A").works(),
            || sys::append_file(&b, "B").works(),
        );
        for (p, end) in [(&a, b'A'), (&b, b'B')] {
            let data = sys::read_file(p).works();
            assert_eq!(data.len(), 50_001, "{p:?}");
            assert_eq!(data[50_000], end, "{p:?}");
            assert_eq!(data[..50_000], pattern(50_000, 1));
        }
    }
}

/// A reader sees the whole file at any time, never a part.
fn readers_during_copy_up(t: &T) {
    let size = t.scaled(8 << 20, 1 << 20);
    let count = t.scaled(6, 2);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            for r in 0..count {
                l.file(format!("f{r}"), pattern(size, r as u64));
            }
        })
        .mount();
    for r in 0..count {
        let p = o.m(format!("f{r}"));
        let want = pattern(size, r as u64);
        let done = AtomicBool::new(false);
        run_all(4, |i| {
            if i == 0 {
                drop(sys::open(&p, OFlags::RDWR).works());
                done.store(true, Ordering::Relaxed);
                return;
            }
            loop {
                let last = done.load(Ordering::Relaxed);
                let fd = sys::open(&p, OFlags::RDONLY).works();
                assert_eq!(sys::fstat(&fd).works().st_size as usize, size);
                let at = size - 4096 * i;
                let got = sys::pread(&fd, 4096, at as u64).works();
                assert!(got == want[at..at + 4096], "half a copy was seen");
                if last {
                    break;
                }
            }
        });
        assert!(sys::read_file(&p).works() == want);
    }
}

fn stat_during_copy_up(t: &T) {
    let size = t.scaled(8 << 20, 1 << 20);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            l.file("d/f", pattern(size, 1)).times("d/f", (5, 0), (6, 0));
        })
        .mount();
    let before = sys::stat(o.m("d/f")).works();
    let done = AtomicBool::new(false);
    two(
        || {
            sys::chmod(o.m("d/f"), 0o600).works();
            done.store(true, Ordering::Relaxed);
        },
        || {
            while !done.load(Ordering::Relaxed) {
                let st = sys::stat(o.m("d/f")).works();
                assert_eq!((st.st_ino, st.st_dev), (before.st_ino, before.st_dev));
                assert_eq!((st.st_size, st.st_mtime), (before.st_size, 6));
                assert_names(o.m("d"), &["f"]);
            }
        },
    );
}

fn truncate_during_copy_up(t: &T) {
    rounds(
        t,
        30,
        300_000,
        |o, n| sys::truncate(o.m(n), 1000).works(),
        |o, n| drop(sys::open(o.m(n), OFlags::RDWR).works()),
        |o, n| {
            assert_eq!(sys::stat(o.m(n)).works().st_size, 1000);
            assert_eq!(sys::read_file(o.u(n)).works().len(), 1000);
        },
    );
}

fn mapped_during_copy_up(t: &T) {
    let size = t.scaled(4 << 20, 1 << 20);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            l.file("f", pattern(size, 1));
        })
        .mount();
    let want = pattern(size, 1);
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    let map = sys::Map::new(&fd, size, false, true).works();
    run_all(1, |_| drop(sys::open(o.m("f"), OFlags::RDWR).works()));
    let got = map.get(0, size);
    assert!(got == want, "a torn page");
}

/// A process is killed in the middle of its copy; the next one succeeds.
fn killed_copier(t: &T) {
    let size = t.scaled(64 << 20, 8 << 20);
    let rounds = t.scaled(6, 3);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            l.file("d/f", pattern(size, 1));
            for r in 1..rounds {
                l.file(format!("d/f{r}"), pattern(size / 8, 1));
            }
        })
        .mount();
    for r in 0..rounds {
        let n = if r == 0 {
            "d/f".into()
        } else {
            format!("d/f{r}")
        };
        let pid = crate::env::fork();
        if pid == 0 {
            drop(sys::open(o.m(&n), OFlags::RDWR));
            crate::env::exit_now(0);
        }
        std::thread::sleep(std::time::Duration::from_millis(1 + 3 * r as u64));
        // SAFETY: a child of ours which has not been waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        crate::env::wait_for(pid);
        assert_eq!(sys::stat(o.m(&n)).works().st_size as usize % (1 << 10), 0);
        if sys::exists(o.u(&n)) {
            let st = sys::stat(o.u(&n)).works();
            assert_eq!(st.st_size, sys::stat(o.l(0, &n)).works().st_size);
        }
        o.assert_no_strays();
        sys::append_file(o.m(&n), "+").works();
        let len = sys::read_file(o.m(&n)).works().len();
        assert_eq!(len as i64, sys::stat(o.l(0, &n)).works().st_size + 1);
    }
}

/// One that only waits for another's copy is killed and disturbs nobody.
fn killed_waiter(t: &T) {
    let size = t.scaled(48 << 20, 8 << 20);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            l.file("f", pattern(size, 1));
        })
        .mount();
    let open = || {
        let pid = crate::env::fork();
        if pid == 0 {
            let ok = sys::open(o.m("f"), OFlags::RDWR).is_ok();
            crate::env::exit_now(i32::from(!ok));
        }
        pid
    };
    let first = open();
    let waiters: Vec<i32> = (0..3).map(|_| open()).collect();
    std::thread::sleep(std::time::Duration::from_millis(5));
    for pid in &waiters[..2] {
        // SAFETY: children of ours which have not been waited for.
        unsafe { libc::kill(*pid, libc::SIGKILL) };
    }
    assert_eq!(crate::env::wait_for(first), 0, "the copier");
    assert_eq!(crate::env::wait_for(waiters[2]), 0, "the other waiter");
    for pid in &waiters[..2] {
        crate::env::wait_for(*pid);
    }
    assert!(sys::read_file(o.u("f")).works() == pattern(size, 1));
}

fn mkdir_against_rmdir(t: &T) {
    let n = t.scaled(200, 40);
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/old", "x");
        })
        .mount();
    sys::unlink(o.m("d/old")).works();
    two(
        || {
            for _ in 0..n {
                may_fail(sys::mkdir(o.m("d"), 0o755), &[Errno::EXIST]);
                let made = sys::write_file(o.m("d/f"), "x");
                may_fail(made, &[Errno::NOENT]);
            }
        },
        || {
            for _ in 0..n {
                let gone = &[Errno::NOENT];
                may_fail(sys::unlink(o.m("d/f")), gone);
                may_fail(sys::rmdir(o.m("d")), &[Errno::NOENT, Errno::NOTEMPTY]);
            }
        },
    );
    if sys::exists(o.m("d")) {
        let names = sys::names(o.m("d")).works();
        assert!(!names.contains(&"old".to_string()), "lower came back");
    }
}

fn create_against_unlink(t: &T) {
    let n = t.scaled(300, 60);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "lower");
        })
        .mount();
    two(
        || {
            for i in 0..n {
                let made = sys::write_file(o.m("f"), i.to_string());
                may_fail(made, &[Errno::NOENT]);
            }
        },
        || {
            for _ in 0..n {
                may_fail(sys::unlink(o.m("f")), &[Errno::NOENT]);
            }
        },
    );
    may_fail(sys::unlink(o.m("f")), &[Errno::NOENT]);
    only_a_whiteout(&o, "f");
    o.remount();
    only_a_whiteout(&o, "f");
}

fn rename_in_circles(t: &T) {
    let n = t.scaled(200, 40);
    let names = ["a", "b", "d/c", "d/e"];
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "lower a").file("d/c", "lower c");
        })
        .mount();
    run_all(4, |i| {
        for k in 0..n {
            let (from, to) = (names[(i + k) % 4], names[(i * 3 + k + 1) % 4]);
            may_fail(sys::rename(o.m(from), o.m(to)), &[Errno::NOENT]);
        }
    });
    let left: Vec<String> = names
        .iter()
        .filter_map(|n| sys::text(o.m(n)).ok())
        .collect();
    assert!((1..=2).contains(&left.len()), "{left:?}");
    for text in &left {
        assert!(["lower a", "lower c"].contains(&text.as_str()), "{text}");
    }
    let before = o.snapshot(crate::tree::Take::ALL);
    o.remount();
    let after = o.snapshot(crate::tree::Take::ALL);
    crate::tree::assert_same("before and after", &before, &after);
}

fn exchange_against_lookup(t: &T) {
    let n = t.scaled(300, 60);
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "A").file("b", "B");
        })
        .mount();
    let done = AtomicBool::new(false);
    two(
        || {
            for _ in 0..n {
                let flag = sys::RenameFlags::EXCHANGE;
                sys::rename_with(o.m("a"), o.m("b"), flag).works();
            }
            done.store(true, Ordering::Relaxed);
        },
        || {
            while !done.load(Ordering::Relaxed) {
                for n in ["a", "b"] {
                    let text = sys::text(o.m(n)).works();
                    assert!(text == "A" || text == "B", "{text:?}");
                }
            }
        },
    );
    let (a, b) = (sys::text(o.m("a")).works(), sys::text(o.m("b")).works());
    assert_ne!(a, b, "both names are one file");
}

fn remove_tree_twice_at_once(t: &T) {
    let n = t.scaled(100, 30);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("d/s{}/f{i}", i % 5), "x");
            }
        })
        .mount();
    let removed = AtomicUsize::new(0);
    run_all(3, |_| {
        for i in 0..n {
            let gone = sys::unlink(o.m(format!("d/s{}/f{i}", i % 5)));
            if may_fail(gone, &[Errno::NOENT]) {
                removed.fetch_add(1, Ordering::Relaxed);
            }
        }
        for s in 0..5 {
            may_fail(sys::rmdir(o.m(format!("d/s{s}"))), &[Errno::NOENT]);
        }
        may_fail(sys::rmdir(o.m("d")), &[Errno::NOENT, Errno::NOTEMPTY]);
    });
    assert_eq!(removed.load(Ordering::Relaxed), n, "a file removed twice");
    only_a_whiteout(&o, "d");
}

fn listing_against_changes(t: &T) {
    let n = t.scaled(200, 40);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..50 {
                l.file(format!("d/keep{i}"), "k")
                    .file(format!("d/go{i}"), "g");
            }
        })
        .upper(|u| {
            u.dir("d");
        })
        .mount();
    let done = AtomicBool::new(false);
    run_all(3, |i| {
        if i == 0 {
            for k in 0..n {
                sys::write_file(o.m(format!("d/new{k}")), "n").works();
                if k < 50 {
                    sys::unlink(o.m(format!("d/go{k}"))).works();
                    sys::chmod(o.m(format!("d/keep{k}")), 0o600).works();
                }
            }
            done.store(true, Ordering::Relaxed);
            return;
        }
        while !done.load(Ordering::Relaxed) {
            let mut names = sys::names(o.m("d")).works();
            let keep = names.iter().filter(|n| n.starts_with("keep")).count();
            assert_eq!(keep, 50, "an untouched entry was not listed");
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "an entry was listed twice");
        }
    });
    assert_eq!(
        sys::names(o.m("d")).works().len(),
        50 + n + 50usize.saturating_sub(n)
    );
}

fn copy_up_of_siblings(t: &T) {
    let n = t.scaled(80, 24);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("d/f{i}"), pattern(20_000, i as u64));
            }
        })
        .mount();
    run_all(4, |k| {
        for i in (k..n).step_by(2) {
            sys::append_file(o.m(format!("d/f{i}")), "+").works();
        }
    });
    for i in 0..n {
        let len = sys::read_file(o.m(format!("d/f{i}"))).works().len();
        let writers = (0..4).filter(|k| i >= *k && (i - k) % 2 == 0).count();
        assert_eq!(len, 20_000 + writers, "f{i}");
    }
}

fn caches_dropped_all_the_time(t: &T) {
    let n = t.scaled(100, 20);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("d{}/f{i}", i % 4), i.to_string());
            }
        })
        .mount();
    let done = AtomicBool::new(false);
    run_all(3, |k| {
        if k == 0 {
            while !done.load(Ordering::Relaxed) {
                std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            return;
        }
        for i in 0..n {
            let p = o.m(format!("d{}/f{i}", i % 4));
            if k == 1 {
                sys::append_file(&p, "+").works();
            } else {
                let text = sys::text(&p).works();
                assert!(text.starts_with(&i.to_string()));
            }
            if k == 1 && i == n - 1 {
                done.store(true, Ordering::Relaxed);
            }
        }
    });
    for i in 0..n {
        assert_text(o.m(format!("d{}/f{i}", i % 4)), &format!("{i}+"));
    }
}

fn syncfs_against_copy_up(t: &T) {
    let n = t.scaled(20, 6);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("f{i}"), pattern(200_000, 1));
            }
        })
        .mount();
    let dir = sys::open(o.m("/"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    let done = AtomicBool::new(false);
    two(
        || {
            for i in 0..n {
                sys::append_file(o.m(format!("f{i}")), "+").works();
            }
            done.store(true, Ordering::Relaxed);
        },
        || {
            while !done.load(Ordering::Relaxed) {
                sys::syncfs(&dir).works();
            }
        },
    );
}

/// Threads do anything to a few names; what they leave is read the same way
/// by a new mount.
fn everything_at_once(t: &T) {
    let n = t.scaled(400, 80);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..6 {
                l.file(format!("d/f{i}"), pattern(30_000, i))
                    .dir(format!("d/s{i}"));
            }
        })
        .mount();
    run_all(4, |k| {
        let mut seed = 12_345 + 7 * k as u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..n {
            let a = o.m(format!("d/f{}", next(6)));
            let b = o.m(format!("d/f{}", next(6)));
            let dir = o.m(format!("d/s{}", next(6)));
            let gone = [
                Errno::NOENT,
                Errno::EXIST,
                Errno::NOTEMPTY,
                Errno::STALE,
                Errno::XDEV,
            ];
            match next(10) {
                0 => may_fail(sys::unlink(&a), &gone),
                1 => may_fail(sys::write_file(&a, "written"), &gone),
                2 => may_fail(sys::append_file(&a, "+"), &gone),
                3 => may_fail(sys::rename(&a, &b), &gone),
                4 => may_fail(sys::link(&a, &b), &gone),
                5 => may_fail(sys::chmod(&a, 0o600), &gone),
                6 => may_fail(sys::mkdir(&dir, 0o755), &gone),
                7 => may_fail(sys::rmdir(&dir), &gone),
                8 => may_fail(sys::read_file(&a), &gone),
                _ => may_fail(sys::names(o.m("d")), &gone),
            };
        }
    });
    let before = o.snapshot(crate::tree::Take::ALL);
    o.remount();
    let after = o.snapshot(crate::tree::Take::ALL);
    crate::tree::assert_same("before and after a new mount", &before, &after);
}

/// A stack on a stack, both with one file system at the bottom, which is frozen again and
/// again. What holds a directory of the lower stack may wait for the thaw, so what waits
/// for that directory may not keep the freeze waiting. Lockdep looks on, where it is.
fn nested_stacks_frozen_in_the_middle(t: &T) {
    let rounds = t.scaled(40, 8);
    let own = t.own_fs(Fs::Ext4, 64);
    Tree::new(&own.at).dir("inner").dir("outer");
    let inner = t
        .stack()
        .lower(|l| {
            l.dir("d/sub");
            for i in 0..rounds {
                l.file(format!("d/file{i}"), "f")
                    .file(format!("d/low{i}"), "l");
                l.file(format!("d/emptied{i}/x"), "x");
            }
        })
        .upper_in(&own.at.join("inner"))
        .mount();
    let outer = t
        .stack()
        .lowers_not_compared()
        .lower_dir(inner.m("/"))
        .upper_in(&own.at.join("outer"))
        .mount();
    let above = start("the upper stack", {
        let outer = outer.clone();
        move || {
            for i in 0..rounds {
                let at = |name: &str| outer.m(format!("d/{name}{i}"));
                sys::write_file(at("new"), "n").works();
                sys::rename(at("new"), at("moved")).works();
                sys::unlink(at("low")).works();
                sys::mkdir(at("low"), 0o755).works();
                sys::unlink(at("emptied").join("x")).works();
                sys::rename(at("low"), at("emptied")).works();
                sys::chmod(at("file"), 0o600).works();
                assert_names(at("emptied"), &[]);
                sys::rmdir(at("emptied")).works();
            }
        }
    });
    let below = start("the lower stack", {
        let inner = inner.clone();
        move || {
            for i in 0..rounds {
                let at = |name: &str| inner.m(format!("d/{name}{i}"));
                sys::write_file(at("inner"), "i").works();
                sys::rename(at("inner"), inner.m(format!("d/sub/{i}"))).works();
                sys::mkdir(at("inner"), 0o755).works();
                sys::rmdir(at("inner")).works();
            }
        }
    });
    let (mut above, mut below) = (above, below);
    while !above.is_done() || !below.is_done() {
        let at = own.at.clone();
        let frozen = now("freeze", move || sys::Frozen::freeze(&at)).works();
        std::thread::sleep(std::time::Duration::from_millis(5));
        frozen.thaw();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    above.finish();
    below.finish();
    let mut names: Vec<String> = (0..rounds)
        .flat_map(|i| [format!("file{i}"), format!("moved{i}")])
        .chain(["sub".to_string()])
        .collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_names(outer.m("d"), &names);
    outer.finish();
    inner.finish();
    own.umount_and_check();
    for o in [&outer, &inner] {
        o.work_not_checked();
    }
}
