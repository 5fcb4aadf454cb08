// SPDX-License-Identifier: GPL-2.0

//! Merged listings: what is in them, and positions in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::OwnedFd;

use rustix::fs::SeekFrom;

use crate::env::T;
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Dirent, Errno, Expect, FileType, OFlags};
use crate::tree::{assert_names, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(merged_without_duplicates).matrix(),
        test!(dots_once),
        test!(empty_directories),
        test!(hidden_files_are_listed),
        test!(types),
        test!(inode_numbers_match_stat).matrix(),
        test!(inode_numbers_after_copy_up),
        test!(inode_numbers_of_broken_links),
        test!(inode_numbers_after_moves),
        test!(dot_dot_inode_number),
        test!(positions_are_stable).matrix(),
        test!(every_position_can_be_resumed),
        test!(rewind_sees_changes),
        test!(seek_errors),
        test!(small_buffers),
        test!(buffer_too_small),
        test!(created_while_open),
        test!(removed_while_open),
        test!(renamed_while_open),
        test!(copied_up_while_open),
        test!(two_readers),
        test!(remove_while_reading).matrix(),
        test!(ten_thousand_entries).long(3),
        test!(many_in_each_layer),
        test!(hundred_thousand_entries)
            .needs(&[crate::env::Fs::Tmpfs])
            .long(6),
        test!(longest_names),
        test!(seek_while_names_change),
        test!(removed_directory),
        test!(unreadable_directory),
        test!(fd_survives_many_changes),
        test!(sorted_order_is_the_same_each_time),
        test!(symlink_and_file_of_one_name),
        test!(deep_whiteouts),
        test!(whiteouts_in_the_only_part),
        test!(only_part_seen_in_pieces),
        test!(only_part_that_was_plain),
        test!(only_part_becomes_merged),
        test!(entries_that_cannot_be_looked_up),
    ]
}

fn open_dir(o: &Overlay, path: &str) -> OwnedFd {
    sys::open(o.m(path), OFlags::RDONLY | OFlags::DIRECTORY).works()
}

fn all(fd: &OwnedFd) -> Vec<Dirent> {
    sys::read_dirents(fd, usize::MAX, 1024).works()
}

fn name_set(entries: &[Dirent]) -> BTreeSet<OsString> {
    let set: BTreeSet<OsString> = entries.iter().map(|e| e.name.clone()).collect();
    assert_eq!(set.len(), entries.len(), "a name comes twice");
    set
}

fn merged(t: &T) -> Overlay {
    t.stack()
        .lower(|l| {
            for i in 0..30 {
                l.file(format!("d/mid{i:02}"), "m");
            }
            l.file("d/both", "m").whiteout("d/hidden");
        })
        .lower(|l| {
            for i in 0..30 {
                l.file(format!("d/low{i:02}"), "l");
            }
            l.file("d/both", "l").file("d/hidden", "h").dir("d/sub");
        })
        .upper(|u| {
            for i in 0..30 {
                u.file(format!("d/up{i:02}"), "u");
            }
            u.file("d/both", "u").dir("d/sub").whiteout("d/low00");
        })
        .mount()
}

const MERGED: usize = 30 + 30 + 29 + 2 + 2;

fn merged_without_duplicates(t: &T) {
    let o = merged(t);
    let entries = sys::dirents(o.m("d")).works();
    let names = name_set(&entries);
    assert_eq!(names.len(), MERGED);
    for gone in ["hidden", "low00"] {
        assert!(!names.contains(&OsString::from(gone)), "{gone} is listed");
    }
    for e in &entries {
        sys::lstat(o.m("d").join(&e.name)).works();
    }
}

fn dots_once(t: &T) {
    let o = merged(t);
    for dir in ["/", "d", "d/sub"] {
        let entries = sys::dirents(o.m(dir)).works();
        for dot in [".", ".."] {
            let count = entries.iter().filter(|e| e.name == dot).count();
            assert_eq!(count, 1, "{dot} in {dir}");
        }
        assert!(entries
            .iter()
            .filter(|e| e.name == "." || e.name == "..")
            .all(|e| e.kind == FileType::Directory));
    }
}

fn empty_directories(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("lower").dir("merged").file("only_whiteouts/x", "");
        })
        .upper(|u| {
            u.dir("upper").dir("merged").whiteout("only_whiteouts/x");
        })
        .mount();
    for dir in ["lower", "upper", "merged", "only_whiteouts"] {
        let entries = sys::dirents(o.m(dir)).works();
        assert_eq!(entries.len(), 2, "{dir}: {entries:?}");
    }
}

fn hidden_files_are_listed(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file(".lower", "").file("..lower", "").file("#l", "");
            l.file(".wh.aufs", "").file("work", "").file("index", "");
        })
        .upper(|u| {
            u.file(".upper", "").file("#u", "");
        })
        .mount();
    assert_names(
        o.m("/"),
        &[
            "#l", "#u", "..lower", ".lower", ".upper", ".wh.aufs", "index", "work",
        ],
    );
}

fn types(t: &T) {
    let dev = rustix::fs::makedev(1, 3);
    let fill = |l: &crate::tree::Tree| {
        l.file("file", "").dir("dir").symlink("link", "x");
        l.fifo("fifo").socket("sock");
        l.node("chr", FileType::CharacterDevice, dev);
        l.node("blk", FileType::BlockDevice, dev);
    };
    let o = t
        .stack()
        .lower(|l| fill(&crate::tree::Tree::new(l.at("a"))))
        .upper(|u| fill(&crate::tree::Tree::new(u.at("a/up"))))
        .mount();
    for dir in ["a", "a/up"] {
        for e in sys::dirents(o.m(dir)).works() {
            let st = sys::lstat(o.m(dir).join(&e.name)).works();
            assert_eq!(e.kind, sys::kind_of(&st), "{:?}", e.name);
        }
    }
}

/// `d_ino` against `st_ino` for every entry of the tree.
fn check_inode_numbers(t: &T, o: &Overlay, dir: &str) {
    for e in sys::dirents(o.m(dir)).works() {
        let st = sys::lstat(o.m(dir).join(&e.name)).works();
        let is_dir = sys::kind_of(&st) == FileType::Directory;
        // Documented: on several file systems only non-directories match, without xino.
        if t.variant.one_fs() || !t.is_overlay() || !is_dir {
            assert_eq!(e.ino, st.st_ino, "{dir}/{:?}", e.name);
        }
        if is_dir && e.name != "." && e.name != ".." {
            let name = e.name.to_str().expect("name");
            check_inode_numbers(t, o, &format!("{dir}/{name}"));
        }
    }
}

fn inode_numbers_match_stat(t: &T) {
    let o = merged(t);
    if t.is_overlay() {
        // It marks an upper directory which it did not make when it first
        // looks it up, and lists the right number of it only after that.
        sys::stat(o.m("d/sub")).works();
        o.remount();
    }
    check_inode_numbers(t, &o, "d");
}

fn inode_numbers_after_copy_up(t: &T) {
    let o = merged(t);
    for n in ["d/low05", "d/mid05", "d/both"] {
        sys::append_file(o.m(n), "+").works();
    }
    sys::write_file(o.m("d/sub/new"), "n").works();
    check_inode_numbers(t, &o, "d");
    o.remount();
    check_inode_numbers(t, &o, "d");
}

/// One of several names of a lower file has another number when it is copied up,
/// also for those who have the directory open.
fn inode_numbers_of_broken_links(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/a", "data").link("d/a", "d/b");
        })
        .upper(|u| {
            u.dir("d");
        })
        .mount();
    let fd = open_dir(&o, "d");
    all(&fd);
    check_inode_numbers(t, &o, "d");
    sys::append_file(o.m("d/a"), "+").works();
    check_inode_numbers(t, &o, "d");
    sys::unlink(o.m("d/a")).works();
    sys::append_file(o.m("d/b"), "-").works();
    check_inode_numbers(t, &o, "d");
}

fn inode_numbers_after_moves(t: &T) {
    let o = merged(t);
    sys::mkdir(o.m("fresh"), 0o755).works();
    sys::rename(o.m("d/low05"), o.m("fresh/moved")).works();
    sys::rename(o.m("d/mid05"), o.m("d/moved")).works();
    sys::link(o.m("d/mid06"), o.m("fresh/link")).works();
    check_inode_numbers(t, &o, "d");
    check_inode_numbers(t, &o, "fresh");
    sys::rename(o.m("fresh"), o.m("d/fresh")).works();
    check_inode_numbers(t, &o, "d");
    o.remount();
    check_inode_numbers(t, &o, "d");
}

fn dot_dot_inode_number(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a/lower/f", "").file("a/both/f", "");
        })
        .upper(|u| {
            u.file("a/both/g", "").file("a/upper/f", "");
        })
        .mount();
    let parent = sys::stat(o.m("a")).works().st_ino;
    for d in ["a/lower", "a/both", "a/upper"] {
        let entries = sys::dirents(o.m(d)).works();
        let find = |n: &str| entries.iter().find(|e| e.name == n).expect(n).ino;
        assert_eq!(find(".."), parent, ".. in {d}");
        assert_eq!(find("."), sys::stat(o.m(d)).works().st_ino, ". in {d}");
    }
}

fn positions_are_stable(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    let first = all(&fd);
    sys::seek(&fd, SeekFrom::Start(0)).works();
    assert_eq!(all(&fd), first, "second time");
    for i in [0, 1, 5, MERGED / 2, MERGED - 2] {
        sys::seek(&fd, SeekFrom::Start(first[i].next)).works();
        assert_eq!(all(&fd), first[i + 1..], "from entry {i}");
    }
    let positions: BTreeSet<u64> = first.iter().map(|e| e.next).collect();
    assert_eq!(positions.len(), first.len(), "a position comes twice");
}

fn every_position_can_be_resumed(t: &T) {
    let o = merged(t);
    for dir in ["d", "d/sub", "/"] {
        let fd = open_dir(&o, dir);
        let list = all(&fd);
        for (i, e) in list.iter().enumerate() {
            sys::seek(&fd, SeekFrom::Start(e.next)).works();
            assert_eq!(all(&fd), list[i + 1..], "{dir} from {:?}", e.name);
        }
    }
}

fn rewind_sees_changes(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    let before = name_set(&all(&fd));
    sys::write_file(o.m("d/new"), "n").works();
    sys::unlink(o.m("d/mid01")).works();
    sys::seek(&fd, SeekFrom::Start(0)).works();
    let after = name_set(&all(&fd));
    assert!(after.contains(&OsString::from("new")), "new is not listed");
    assert!(!after.contains(&OsString::from("mid01")), "mid01 is listed");
    assert_eq!(after.len(), before.len());
}

fn seek_errors(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    sys::seek(&fd, SeekFrom::Current(-5)).fails(Errno::INVAL);
    assert_eq!(all(&fd).len(), MERGED);
    assert!(all(&fd).is_empty(), "entries behind the end");
    sys::pread(&fd, 10, 0).fails(Errno::ISDIR);
    let file = sys::open(o.m("d/both"), OFlags::RDONLY).works();
    sys::read_dirents(&file, 1, 1024).fails(Errno::NOTDIR);
}

fn small_buffers(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    let list = sys::read_dirents(&fd, usize::MAX, 64).works();
    assert_eq!(name_set(&list).len(), MERGED);
}

fn buffer_too_small(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file(format!("d/{}", "n".repeat(200)), "");
        })
        .upper(|u| {
            u.dir("d");
        })
        .mount();
    let fd = open_dir(&o, "d");
    sys::read_dirents(&fd, usize::MAX, 64).fails(Errno::INVAL);
    assert_eq!(all(&open_dir(&o, "d")).len(), 3);
}

fn created_while_open(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    let some = sys::read_dirents(&fd, 5, 256).works();
    for i in 0..50 {
        sys::write_file(o.m(format!("d/new{i}")), "").works();
    }
    sys::seek(&fd, SeekFrom::Start(some[4].next)).works();
    let rest = all(&fd);
    let mut names: Vec<&OsString> = some.iter().chain(&rest).map(|e| &e.name).collect();
    names.sort();
    let old = names
        .iter()
        .filter(|n| !n.to_string_lossy().starts_with("new"))
        .count();
    assert_eq!(old, MERGED, "an old entry was lost or came twice");
    names.dedup();
    assert_eq!(names.len(), some.len() + rest.len(), "a name came twice");
}

fn removed_while_open(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    let some = sys::read_dirents(&fd, 5, 256).works();
    for i in 10..30 {
        sys::unlink(o.m(format!("d/low{i}"))).works();
        sys::unlink(o.m(format!("d/up{i}"))).works();
    }
    sys::seek(&fd, SeekFrom::Start(some[4].next)).works();
    let rest = all(&fd);
    let mut names: BTreeSet<OsString> = some.iter().map(|e| e.name.clone()).collect();
    for e in &rest {
        assert!(names.insert(e.name.clone()), "{:?} comes twice", e.name);
    }
    // Those that were not touched are all there.
    for i in 0..30 {
        assert!(names.contains(&OsString::from(format!("mid{i:02}"))));
    }
}

fn renamed_while_open(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    let some = sys::read_dirents(&fd, 5, 256).works();
    for i in 0..30 {
        sys::rename(o.m(format!("d/mid{i:02}")), o.m(format!("d/moved{i:02}"))).works();
    }
    sys::seek(&fd, SeekFrom::Start(some[4].next)).works();
    all(&fd);
    sys::seek(&fd, SeekFrom::Start(0)).works();
    let names = name_set(&all(&fd));
    assert_eq!(names.len(), MERGED);
    assert!(names.contains(&OsString::from("moved29")));
    assert!(!names.contains(&OsString::from("mid29")));
}

fn copied_up_while_open(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..40 {
                l.file(format!("d/f{i:02}"), "x");
            }
        })
        .mount();
    // A lower directory, read directly so far, becomes a merged one.
    let fd = open_dir(&o, "d");
    let some = sys::read_dirents(&fd, 10, 400).works();
    for i in 0..40 {
        sys::chmod(o.m(format!("d/f{i:02}")), 0o600).works();
    }
    sys::write_file(o.m("d/new"), "n").works();
    sys::seek(&fd, SeekFrom::Start(some[9].next)).works();
    all(&fd);
    sys::seek(&fd, SeekFrom::Start(0)).works();
    assert_eq!(name_set(&all(&fd)).len(), 43);
    check_inode_numbers(t, &o, "d");
}

fn two_readers(t: &T) {
    let o = merged(t);
    let (a, b) = (open_dir(&o, "d"), open_dir(&o, "d"));
    let first = sys::read_dirents(&a, 3, 256).works();
    assert_eq!(all(&b).len(), MERGED);
    sys::seek(&a, SeekFrom::Start(first[2].next)).works();
    assert_eq!(all(&a).len(), MERGED - 3);
}

/// What rm -r does: read some, remove them, read on.
fn remove_while_reading(t: &T) {
    let n = t.scaled(600, 200);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("d/low{i}"), "");
            }
        })
        .upper(|u| {
            for i in 0..n {
                u.file(format!("d/up{i}"), "");
            }
        })
        .mount();
    let fd = open_dir(&o, "d");
    let mut removed = 0;
    loop {
        let mut space = Vec::with_capacity(2048);
        let mut dir = rustix::fs::RawDir::new(&fd, space.spare_capacity_mut());
        let mut batch = Vec::new();
        while let Some(e) = dir.next() {
            let e = e.expect("getdents");
            batch.push(e.file_name().to_str().expect("name").to_string());
            if dir.is_buffer_empty() {
                break;
            }
        }
        if batch.is_empty() {
            break;
        }
        for name in batch.iter().filter(|n| *n != "." && *n != "..") {
            sys::unlink(o.m("d").join(name)).works();
            removed += 1;
        }
    }
    assert_eq!(removed, 2 * n);
    assert_names(o.m("d"), &[]);
    sys::rmdir(o.m("d")).works();
}

fn ten_thousand_entries(t: &T) {
    let n = t.scaled(10_000, 2_000);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            for i in 0..n / 2 {
                l.file(format!("d/low{i:05}"), "");
            }
            for i in 0..100 {
                l.file(format!("d/both{i:05}"), "");
            }
        })
        .upper(|u| {
            for i in 0..n / 2 {
                u.file(format!("d/up{i:05}"), "");
            }
            for i in 0..100 {
                u.file(format!("d/both{i:05}"), "");
                u.whiteout(&format!("d/low{i:05}"));
            }
        })
        .mount();
    let fd = open_dir(&o, "d");
    let list = sys::read_dirents(&fd, usize::MAX, 32768).works();
    assert_eq!(name_set(&list).len(), n + 2);
    for i in [0, 1, n / 3, n / 2, n] {
        sys::seek(&fd, SeekFrom::Start(list[i].next)).works();
        let rest = sys::read_dirents(&fd, usize::MAX, 32768).works();
        assert_eq!(rest.len(), n + 1 - i);
        assert_eq!(rest.first(), list.get(i + 1));
    }
}

/// Half of them below, some of those hidden, the others made in the mount.
/// Names of two files, which are made faster than as many files.
fn hundred_thousand_entries(t: &T) {
    let n = t.scaled(100_000, 10_000);
    let gone = n / 10;
    let o = t
        .stack()
        .lowers_not_compared()
        .lower_on(crate::env::Fs::Tmpfs, |l| {
            l.file("d/low000000", "");
            for i in 1..n / 2 + gone {
                l.link("d/low000000", &format!("d/low{i:06}"));
            }
        })
        .mount();
    for i in 0..gone {
        sys::unlink(o.m(format!("d/low{i:06}"))).works();
    }
    let first = o.m("d/up000000");
    sys::write_file(&first, "").works();
    for i in 1..n / 2 {
        sys::link(&first, o.m(format!("d/up{i:06}"))).works();
    }
    let fd = open_dir(&o, "d");
    let list = sys::read_dirents(&fd, usize::MAX, 65536).works();
    assert_eq!(list.len(), n + 2);
    let names = name_set(&list);
    assert_eq!(names.len(), n + 2, "a name came twice");
    assert!(!names.contains(&OsString::from("low000000")));
    for i in [1, n / 7, n / 2, n] {
        sys::seek(&fd, SeekFrom::Start(list[i].next)).works();
        let rest = sys::read_dirents(&fd, usize::MAX, 65536).works();
        assert_eq!(rest.len(), n + 1 - i);
        assert_eq!(rest.first(), list.get(i + 1));
    }
    drop(fd);
    o.remount();
    assert_eq!(name_set(&all(&open_dir(&o, "d"))), names);
}

/// 255 bytes, of any value but the two that no name has.
fn longest_names(t: &T) {
    use std::os::unix::ffi::OsStringExt;
    let name = |seed: usize| {
        let bytes = (0..255usize).map(|i| match ((i * seed) % 256) as u8 {
            0 | b'/' => b'_',
            byte => byte,
        });
        OsString::from_vec(bytes.collect())
    };
    let o = t
        .stack()
        .lower(|l| {
            for seed in 1..40 {
                l.file(std::path::Path::new("d").join(name(seed)), "low");
            }
        })
        .upper(|u| {
            for seed in 30..60 {
                u.file(std::path::Path::new("d").join(name(seed)), "up");
            }
        })
        .mount();
    let mut expected: BTreeSet<OsString> = (1..60).map(name).collect();
    expected.extend([".".into(), "..".into()]);
    assert_eq!(name_set(&all(&open_dir(&o, "d"))), expected);
    for seed in [1, 35, 59] {
        let at = o.m("d").join(name(seed));
        sys::rename(&at, o.m("d").join(name(60 + seed))).works();
        sys::stat(&at).fails(Errno::NOENT);
        expected.remove(&name(seed));
        expected.insert(name(60 + seed));
    }
    assert_eq!(name_set(&all(&open_dir(&o, "d"))), expected);
    o.remount();
    assert_eq!(name_set(&all(&open_dir(&o, "d"))), expected);
}

/// What POSIX asks of a listing during which names come and go: those that
/// were there all the time come once.
fn seek_while_names_change(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..200 {
                l.file(format!("d/stay{i:03}"), "")
                    .file(format!("d/go{i:03}"), "");
            }
        })
        .mount();
    let fd = open_dir(&o, "d");
    let mut seen: Vec<OsString> = Vec::new();
    let mut cookies = Vec::new();
    for round in 0.. {
        let part = sys::read_dirents(&fd, 20, 4096).works();
        let Some(last) = part.last() else { break };
        cookies.push((last.next, part[0].name.clone()));
        seen.extend(part.iter().map(|e| e.name.clone()));
        sys::seek(&fd, SeekFrom::Start(last.next)).works();
        for i in 0..5 {
            let n = round * 5 + i;
            if n < 200 {
                sys::unlink(o.m(format!("d/go{n:03}"))).works();
                sys::write_file(o.m(format!("d/new{n:03}")), "").works();
            }
        }
    }
    for i in 0..200 {
        let name = OsString::from(format!("stay{i:03}"));
        assert_eq!(seen.iter().filter(|n| **n == name).count(), 1, "{name:?}");
    }
    let unique: BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "a name came twice");
    // Back to each place that was remembered, in any order.
    for (at, _) in cookies.iter().rev() {
        sys::seek(&fd, SeekFrom::Start(*at)).works();
        let rest = sys::read_dirents(&fd, usize::MAX, 4096).works();
        let from = seen.len() - rest.len();
        let names: Vec<_> = rest.iter().map(|e| e.name.clone()).collect();
        assert_eq!(names, seen[from..]);
    }
}

fn many_in_each_layer(t: &T) {
    let mut stack = t.stack();
    for layer in 0..10 {
        stack = stack.lower(|l| {
            for i in 0..20 {
                l.file(format!("d/own{layer}_{i}"), "");
                l.file(format!("d/shared{i}"), layer.to_string());
            }
            if layer < 9 {
                l.whiteout(&format!("d/gone{layer}"));
            }
            l.file(format!("d/gone{}", (layer + 9) % 10), "x");
        });
    }
    let o = stack.mount();
    let names = name_set(&sys::dirents(o.m("d")).works());
    // Layer 0 has gone9 in plain sight; gone0 to gone8 are whited out above
    // the layers which have them.
    assert!(names.contains(&OsString::from("gone9")));
    assert_eq!(names.len(), 200 + 20 + 1 + 2);
    for i in 0..20 {
        crate::tree::assert_text(o.m(format!("d/shared{i}")), "0");
    }
}

fn removed_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
        })
        .upper(|u| {
            u.dir("d").dir("e");
        })
        .mount();
    for d in ["d", "e"] {
        let fd = open_dir(&o, d);
        sys::rmdir(o.m(d)).works();
        if let Ok(list) = sys::read_dirents(&fd, 10, 1024) {
            assert!(list.iter().all(|e| e.name == "." || e.name == ".."));
        }
    }
}

fn unreadable_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "").mode("d", 0o711);
        })
        .upper(|u| {
            u.file("d/g", "").mode("d", 0o711);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::dirents(o.m("d")).fails(Errno::ACCESS);
        sys::stat(o.m("d/f")).works();
    });
}

fn fd_survives_many_changes(t: &T) {
    let o = merged(t);
    let fd = open_dir(&o, "d");
    for round in 0..t.scaled(20, 5) {
        let name = o.m(format!("d/round{round}"));
        sys::write_file(&name, "").works();
        sys::seek(&fd, SeekFrom::Start(0)).works();
        assert_eq!(name_set(&all(&fd)).len(), MERGED + 1);
        sys::unlink(&name).works();
        sys::seek(&fd, SeekFrom::Start(0)).works();
        assert_eq!(name_set(&all(&fd)).len(), MERGED);
    }
}

fn sorted_order_is_the_same_each_time(t: &T) {
    let o = merged(t);
    let order = |o: &Overlay| -> Vec<OsString> {
        all(&open_dir(o, "d")).into_iter().map(|e| e.name).collect()
    };
    let first = order(&o);
    assert_eq!(order(&o), first);
    let by_name: BTreeMap<OsString, u64> = all(&open_dir(&o, "d"))
        .into_iter()
        .map(|e| (e.name, e.ino))
        .collect();
    let again: BTreeMap<OsString, u64> = all(&open_dir(&o, "d"))
        .into_iter()
        .map(|e| (e.name, e.ino))
        .collect();
    assert_eq!(by_name, again);
}

fn symlink_and_file_of_one_name(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/x", "").symlink("d/y", "x").dir("d/z");
        })
        .upper(|u| {
            u.symlink("d/x", "y").dir("d/y").file("d/z", "");
        })
        .mount();
    let kinds: BTreeMap<OsString, FileType> = sys::dirents(o.m("d"))
        .works()
        .into_iter()
        .map(|e| (e.name, e.kind))
        .collect();
    assert_eq!(kinds[&OsString::from("x")], FileType::Symlink);
    assert_eq!(kinds[&OsString::from("y")], FileType::Directory);
    assert_eq!(kinds[&OsString::from("z")], FileType::RegularFile);
}

fn deep_whiteouts(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.whiteout("d/a").file("d/b", "");
        })
        .lower(|l| {
            l.file("d/a", "back again").whiteout("d/b");
        })
        .lower(|l| {
            l.file("d/a", "").file("d/b", "").file("d/c", "");
        })
        .readonly()
        .mount();
    assert_names(o.m("d"), &["b", "c"]);
}

/// A directory that only one layer has is listed as it is there, but for the
/// whiteouts in it: character devices, of which not all are whiteouts.
fn whiteouts_in_the_only_part(t: &T) {
    const DEVICES: usize = 20;
    let fill = |tree: &Tree, dir: &str| {
        for i in 0..DEVICES {
            let null = rustix::fs::makedev(1, 3);
            tree.whiteout(&format!("{dir}/hidden{i:02}"));
            tree.file(format!("{dir}/file{i:02}"), "");
            tree.node(
                &format!("{dir}/null{i:02}"),
                FileType::CharacterDevice,
                null,
            );
        }
        tree.dir(format!("{dir}/sub"));
    };
    let o = t
        .stack()
        .lower(|l| fill(l, "lower"))
        .upper(|u| fill(u, "upper"))
        .mount();
    t.better_than_overlay("whiteouts that hide nothing are not listed");
    for dir in ["lower", "upper"] {
        let fd = open_dir(&o, dir);
        let list = all(&fd);
        let names = name_set(&list);
        assert_eq!(names.len(), 2 * DEVICES + 3, "{dir}");
        let hidden = |n: &OsString| n.to_string_lossy().starts_with("hidden");
        assert!(!names.iter().any(hidden), "{names:?}");
        for (i, e) in list.iter().enumerate() {
            sys::seek(&fd, SeekFrom::Start(e.next)).works();
            assert_eq!(all(&fd), list[i + 1..], "{dir} from {:?}", e.name);
        }
        sys::seek(&fd, SeekFrom::Start(0)).works();
        let little = sys::read_dirents(&fd, usize::MAX, 64).works();
        assert_eq!(name_set(&little), names, "{dir} with a small buffer");
        check_inode_numbers(t, &o, dir);
    }
}

/// A directory in which nothing is hidden is passed on as it is once that is known, which
/// takes one who has seen all of it.
fn only_part_seen_in_pieces(t: &T) {
    let fill = |l: &Tree| {
        for i in 0..30 {
            l.file(format!("d/file{i:02}"), "");
        }
        l.whiteout("d/hidden").whiteout("d/hidden, too");
    };
    let o = t.stack().lower(fill).mount();
    t.better_than_overlay("whiteouts that hide nothing are not listed");
    let list = all(&open_dir(&o, "d"));
    assert_eq!(name_set(&list).len(), 32);
    for i in 1..list.len() {
        let fd = open_dir(&o, "d");
        let first = sys::read_dirents(&fd, i, 40).works();
        assert_eq!(first, list[..i], "the first {i}");
        sys::seek(&fd, SeekFrom::Start(list[i].next)).works();
        assert_eq!(all(&fd), list[i + 1..], "all after {i}");
        sys::seek(&fd, SeekFrom::Start(0)).works();
        assert_eq!(all(&fd), list, "after pieces with {i} left out");
    }
}

/// What is known of a directory of one layer does not hold any more when it gets a part
/// in another.
fn only_part_that_was_plain(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..300 {
                l.file(format!("d/e/file{i:03}"), "");
            }
        })
        .mount();
    let held = open_dir(&o, "d/e");
    let list = all(&held);
    assert_eq!(name_set(&list).len(), 302);
    for time in 0..3 {
        let fd = open_dir(&o, "d/e");
        assert_eq!(all(&fd), list, "time {time}");
        for i in [0, 100, 200] {
            sys::seek(&fd, SeekFrom::Start(list[i].next)).works();
            assert_eq!(all(&fd), list[i + 1..], "from {:?}", list[i].name);
        }
    }
    check_inode_numbers(t, &o, "d/e");
    let between = open_dir(&o, "d/e");
    let first = sys::read_dirents(&between, 150, 1024).works();
    assert_eq!(first, list[..150]);
    sys::seek(&between, SeekFrom::Start(first[149].next)).works();
    sys::write_file(o.m("d/e/new"), "n").works();
    let rest = all(&between);
    let rest: Vec<&OsString> = rest.iter().map(|e| &e.name).collect();
    for entry in &list[150..] {
        let times = rest.iter().filter(|name| ***name == entry.name).count();
        assert_eq!(times, 1, "{:?} after a copy-up between", entry.name);
    }
    sys::unlink(o.m("d/e/file007")).works();
    for fd in [held, open_dir(&o, "d/e")] {
        sys::seek(&fd, SeekFrom::Start(0)).works();
        let names = name_set(&all(&fd));
        assert_eq!(names.len(), 302);
        assert!(names.contains(&OsString::from("new")));
        assert!(!names.contains(&OsString::from("file007")));
    }
    check_inode_numbers(t, &o, "d/e");
}

/// A directory of one layer gets a part in another while it is being read: what
/// is not touched is listed once, and from the start everything is.
fn only_part_becomes_merged(t: &T) {
    const FILES: usize = 200;
    let name = |i: usize| OsString::from(format!("f{i:03}"));
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..FILES {
                l.file(format!("d/f{i:03}"), "");
            }
        })
        .mount();
    let fd = open_dir(&o, "d");
    let mut list = sys::read_dirents(&fd, 20, 512).works();
    let read = name_set(&list);
    let victim = (0..FILES).find(|i| !read.contains(&name(*i)));
    let victim = victim.expect("a name that has not been read");
    sys::write_file(o.m("d/new"), "n").works();
    sys::unlink(o.m("d").join(name(victim))).works();
    sys::seek(&fd, SeekFrom::Start(list[list.len() - 1].next)).works();
    list.extend(all(&fd));
    let names = name_set(&list);
    for i in (0..FILES).filter(|i| *i != victim) {
        assert!(names.contains(&name(i)), "{:?} is not listed", name(i));
    }
    sys::seek(&fd, SeekFrom::Start(0)).works();
    let names = name_set(&all(&fd));
    assert_eq!(names.len(), FILES + 2, "names from the start");
    assert!(names.contains(&OsString::from("new")));
    assert!(!names.contains(&name(victim)));
    check_inode_numbers(t, &o, "d");
}

/// It is no whiteout, and no reason to show nothing.
fn entries_that_cannot_be_looked_up(t: &T) {
    for errno in [Errno::IO, Errno::STALE, Errno::ACCESS, Errno::NOTCONN] {
        let lower = t.fuse(|f| {
            for dir in ["alone", "merged"] {
                f.file(&format!("{dir}/good"), "g");
                for name in ["bad", "null"] {
                    f.node(&format!("{dir}/{name}"), FileType::CharacterDevice, 0x103);
                }
            }
            f.node("merged/gone", FileType::CharacterDevice, 0);
        });
        for dir in ["alone", "merged"] {
            lower.fail_lookups(&format!("{dir}/bad"), errno);
        }
        let o = t
            .stack()
            .lower_fuse(&lower)
            .lower(|l| {
                l.file("merged/gone", "g").file("merged/below", "b");
            })
            .mount();
        assert_names(o.m("alone"), &["bad", "good", "null"]);
        assert_names(o.m("merged"), &["bad", "below", "good", "null"]);
        sys::stat(o.m("alone/bad")).fails(errno);
        // Nobody can say that it is not there.
        for dir in ["alone", "merged"] {
            sys::unlink(o.m(dir).join("good")).works();
            sys::unlink(o.m(dir).join("null")).works();
        }
        sys::unlink(o.m("merged/below")).works();
        for dir in ["alone", "merged"] {
            assert_names(o.m(dir), &["bad"]);
            sys::rmdir(o.m(dir)).fails(Errno::NOTEMPTY);
        }
        o.umount();
        lower.umount();
    }
}
