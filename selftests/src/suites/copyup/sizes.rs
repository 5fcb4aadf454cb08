// SPDX-License-Identifier: GPL-2.0

//! R10: `truncate`, `O_TRUNC` and `fallocate` against copy-up: the file gets the
//! size that was asked for, and no more data is copied than that needs.

use super::kills::{in_process, kill};
use super::links::{second, SIZE, STOP};
use super::ops::UPPERS;
use super::CAPABILITY;
use crate::env::{check_fs, mount_device, Fs, T};
use crate::fuse::PIECE;
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FallocateFlags, OFlags, Res};
use crate::tree::pattern;
use crate::watch::{now, start};

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R10_only_what_is_kept_is_copied", only_what_is_kept).uppers(&UPPERS),
        test(
            "R10_size_changed_while_data_is_copied",
            while_data_is_copied,
        )
        .uppers(&UPPERS),
        test("R10_truncate_with_capabilities", with_capabilities),
        test("R10_open_while_it_is_truncated", open_while_it_is_truncated),
        test("R10_truncate_that_fails_cuts_nothing", truncate_fails),
        test("R10_truncate_refused_by_the_disk", refused_by_the_disk),
        test("R10_size_refused_by_the_upper_fs", refused_by_the_upper_fs),
        test("R10_truncate_that_is_killed_cuts_nothing", truncate_killed),
        test("R10_size_changed_at_each_pause_point", at_each_point).long(2),
        test(
            "R10_truncate_stands_at_each_pause_point",
            truncate_at_each_point,
        ),
    ]
}

/// A way to change the size of a file, and what it is then.
struct Change {
    name: &'static str,
    run: fn(&Overlay, &str) -> Res<()>,
    size: usize,
    /// How much of the old data is left.
    kept: usize,
}

static CHANGES: [Change; 9] = [
    Change {
        name: "truncate to nothing",
        run: |o, p| sys::truncate(o.m(p), 0),
        size: 0,
        kept: 0,
    },
    Change {
        name: "open with O_TRUNC",
        run: |o, p| sys::open(o.m(p), OFlags::WRONLY | OFlags::TRUNC).map(drop),
        size: 0,
        kept: 0,
    },
    Change {
        name: "open for reading with O_TRUNC",
        run: |o, p| sys::open(o.m(p), OFlags::RDONLY | OFlags::TRUNC).map(drop),
        size: 0,
        kept: 0,
    },
    Change {
        name: "open with O_CREAT and O_TRUNC, and a write",
        run: |o, p| sys::write_file(o.m(p), "new"),
        size: 3,
        kept: 0,
    },
    Change {
        name: "truncate to an odd size",
        run: |o, p| sys::truncate(o.m(p), 5001),
        size: 5001,
        kept: 5001,
    },
    Change {
        name: "truncate to where data stops",
        run: |o, p| sys::truncate(o.m(p), STOP),
        size: STOP as usize,
        kept: STOP as usize,
    },
    Change {
        name: "truncate to a larger size",
        run: |o, p| sys::truncate(o.m(p), SIZE as u64 + 5000),
        size: SIZE + 5000,
        kept: SIZE,
    },
    Change {
        name: "fallocate behind the end",
        run: |o, p| {
            let fd = sys::open(o.m(p), OFlags::RDWR)?;
            sys::fallocate(&fd, FallocateFlags::empty(), SIZE as u64, 9000)
        },
        size: SIZE + 9000,
        kept: SIZE,
    },
    Change {
        name: "ftruncate",
        run: |o, p| sys::ftruncate(&sys::open(o.m(p), OFlags::RDWR)?, 7000),
        size: 7000,
        kept: 7000,
    },
];

fn name(i: usize) -> String {
    format!("d/f{i}")
}

impl Change {
    /// Whether it may be done without the data behind what is kept.
    fn is_lazy(&self) -> bool {
        self.kept as u64 <= STOP && self.name != "ftruncate"
    }

    fn want(&self, old: &[u8]) -> Vec<u8> {
        let mut data = old[..self.kept].to_vec();
        if self.size == 3 {
            data = b"new".to_vec();
        }
        data.resize(self.size, 0);
        data
    }

    #[track_caller]
    fn check(&self, o: &Overlay, path: &str, old: &[u8], when: &str) {
        let what = format!("{}, {when}", self.name);
        let size = sys::stat(o.m(path)).works().st_size as usize;
        assert_eq!(size, self.size, "{what}: size");
        assert!(
            sys::read_file(o.m(path)).works() == self.want(old),
            "{what}: data"
        );
        assert!(
            sys::read_file(o.u(path)).works() == self.want(old),
            "{what}: above"
        );
        o.assert_no_strays();
    }
}

fn only_what_is_kept(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..CHANGES.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for (i, change) in CHANGES.iter().enumerate() {
        if !change.is_lazy() {
            continue;
        }
        let p = name(i);
        f.reset_counts(&p);
        // It ends although not a byte behind what is kept is to be had.
        f.stop_all_at(&p, (change.kept as u64).next_multiple_of(PIECE));
        let (at, path) = (o.clone(), p.clone());
        now(change.name, move || (change.run)(&at, &path)).works();
        let read = f.bytes(&p);
        let most = (change.kept as u64).next_multiple_of(PIECE);
        assert!(read <= most, "{}: {read} bytes were copied", change.name);
        f.go_on(&p);
        change.check(&o, &p, &pattern(SIZE, 1), "nobody else there");
    }
}

fn while_data_is_copied(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        for i in 0..CHANGES.len() {
            f.file(&name(i), pattern(SIZE, 1));
        }
    });
    let o = t.stack().lower_fuse(&f).mount();
    for (i, change) in CHANGES.iter().enumerate() {
        let p = name(i);
        f.reset_counts(&p);
        f.stop_all_at(&p, STOP);
        let path = o.m(&p);
        let opener = start("open", move || sys::open(path, OFlags::RDWR));
        f.wait_standing(&p, 1);
        let (at, path) = (o.clone(), p.clone());
        let changer = second(change.name, move || (change.run)(&at, &path));
        f.go_on(&p);
        let fd = opener.finish().works();
        changer.finish().works();
        assert!(f.bytes(&p) <= SIZE as u64, "{}: copied twice", change.name);
        change.check(&o, &p, &pattern(SIZE, 1), "while it is copied");
        assert_eq!(sys::fstat(&fd).works().st_size as usize, change.size);
        assert!(sys::pread(&fd, 2 * SIZE, 0).works() == change.want(&pattern(SIZE, 1)));
    }
}

/// The one who truncates makes the copy, and of a part; who opens it meanwhile
/// gets that, as if he had come later.
fn open_while_it_is_truncated(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        f.file("f", pattern(SIZE, 1));
    });
    let o = t.stack().lower_fuse(&f).mount();
    f.stop_all_at("f", PIECE);
    let path = o.m("f");
    let cutter = start("truncate", move || sys::truncate(path, STOP));
    f.wait_standing("f", 1);
    let path = o.m("f");
    let opener = second("open", move || sys::open(path, OFlags::RDWR));
    // Nothing is cut off before the truncation is done.
    assert_eq!(sys::stat(o.m("f")).works().st_size as usize, SIZE);
    f.go_on("f");
    cutter.finish().works();
    let fd = opener.finish().works();
    assert!(sys::pread(&fd, SIZE, 0).works() == pattern(SIZE, 1)[..STOP as usize]);
    assert!(sys::read_file(o.u("f")).works() == pattern(SIZE, 1)[..STOP as usize]);
}

/// An error on the way: the file is as long as it was.
fn truncate_fails(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        f.file("d/f", pattern(SIZE, 1));
    });
    let o = t.stack().lower_fuse(&f).mount();
    f.fail_at("d/f", PIECE, Errno::IO, None);
    sys::truncate(o.m("d/f"), STOP).fails(Errno::IO);
    assert!(!sys::exists(o.u("d/f")));
    o.assert_no_strays();
    f.fail_no_more("d/f");
    assert!(sys::read_file(o.m("d/f")).works() == pattern(SIZE, 1));
    drop(sys::open(o.m("d/f"), OFlags::RDWR).works());
    assert!(sys::read_file(o.u("d/f")).works() == pattern(SIZE, 1));
}

/// Ways to make a file shorter and no more: the data of what is cut off is not copied,
/// so there is no way back once it is gone.
fn shorter() -> impl Iterator<Item = &'static Change> {
    CHANGES.iter().filter(|c| c.is_lazy() && c.kept == c.size)
}

/// The copy is there, with what is wanted of the data, and its disk fails when it
/// gets its size: an error, and the old file.
fn refused_by_the_disk(t: &T) {
    pause::need(t);
    let data = pattern(SIZE, 1);
    for change in shorter() {
        let own = t.own_fs(Fs::Ext4, 32);
        let o = t
            .stack()
            .lower(|l| {
                l.file("d/f", &data).owner("d/f", 1000, 1000);
            })
            .upper_in(&own.at)
            .of_a_round()
            .mount();
        // Or there would be no directories for the layer afterwards.
        sys::syncfs(&sys::open(&own.at, OFlags::RDONLY).works()).works();
        let old = sys::open(o.m("d/f"), OFlags::RDONLY).works();
        let armed = Pause::once(Point::Change);
        let (at, run) = (o.clone(), change.run);
        let cutter = start(change.name, move || run(&at, "d/f"));
        armed.wait_standing(1);
        sys::shut_down(&own.at).works();
        armed.go_on();
        cutter.finish().fails(Errno::IO);
        let what = change.name;
        assert_eq!(sys::fstat(&old).works().st_size as usize, SIZE, "{what}");
        assert!(sys::pread(&old, SIZE, 0).works() == data, "{what}");
        drop(old);
        let there = sys::open(o.m("d/f"), OFlags::RDONLY).works();
        assert!(sys::pread(&there, SIZE, 0).works() == data, "{what}");
        drop(there);
        o.umount();
        own.umount_and_check_replayed();
        own.mount();
        o.mount().works();
        assert!(sys::read_file(o.m("d/f")).works() == data, "{what}");
        (change.run)(&o, "d/f").works();
        change.check(&o, "d/f", &data, "after that");
        o.finish();
        own.umount_and_check();
    }
}

/// An ext4 whose files are shorter than it says: it refuses the size when all else
/// of the copy is there.
fn refused_by_the_upper_fs(t: &T) {
    t.better_than_overlay("it keeps the copy");
    let (image, at) = (t.dir.join("small.img"), t.dir.join("small"));
    sys::mkdir(&at, 0o755).works();
    let file = std::fs::File::create(&image).expect("image");
    file.set_len(32 << 20).expect("image size");
    let words = ["-q", "-F", "-O", "^extents,^64bit", "-b", "1024"];
    let mut words = words.map(std::ffi::OsStr::new).to_vec();
    words.push(image.as_os_str());
    sys::run("mkfs.ext4", &words);
    mount_device(Fs::Ext4, &image, &at, "");
    let data = pattern(SIZE, 1);
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", &data);
        })
        .upper_in(&at)
        .mount();
    // More than blocks in three levels of 256 can hold.
    sys::truncate(o.m("d/f"), 20 << 30).fails(Errno::FBIG);
    assert!(!sys::exists(o.u("d/f")), "the copy was kept");
    o.assert_no_strays();
    assert!(sys::read_file(o.m("d/f")).works() == data);
    sys::truncate(o.m("d/f"), 10 << 30).works();
    assert_eq!(sys::stat(o.u("d/f")).works().st_size, 10 << 30);
    sys::truncate(o.m("d/f"), SIZE as u64).works();
    assert!(sys::read_file(o.u("d/f")).works() == data);
    o.finish();
    sys::umount(&at).works();
    check_fs(Fs::Ext4, &image);
    o.work_not_checked();
}

/// A waiter takes over from one who was to truncate and was killed: he did not
/// want anything cut off.
fn truncate_killed(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let f = t.fuse(|f| {
        f.file("d/f", pattern(SIZE, 1));
    });
    let o = t.stack().lower_fuse(&f).mount();
    f.stop_all_at("d/f", PIECE);
    let cutter = in_process(|| sys::truncate(o.m("d/f"), STOP));
    f.wait_standing("d/f", 1);
    let path = o.m("d/f");
    let opener = second("open", move || sys::open(path, OFlags::RDWR));
    kill(cutter);
    f.go_on("d/f");
    let fd = opener.finish().works();
    assert!(sys::pread(&fd, SIZE, 0).works() == pattern(SIZE, 1));
    assert!(sys::read_file(o.u("d/f")).works() == pattern(SIZE, 1));
    assert_eq!(sys::stat(o.m("d/f")).works().st_size as usize, SIZE);
}

fn at_each_point(t: &T) {
    pause::need(t);
    for point in Point::OF_LEADER {
        // Large enough to have chunks.
        let data = pattern(2 * SIZE + (1 << 20), 2);
        let o = t
            .stack()
            .lowers_not_compared()
            .lower(|l| {
                l.file("d/f0", &data);
                for i in 1..CHANGES.len() {
                    l.link("d/f0", &name(i));
                }
            })
            .mount();
        for (i, change) in CHANGES.iter().enumerate().filter(|(_, c)| c.size <= SIZE) {
            let p = name(i);
            let armed = Pause::once(point);
            let path = o.m(&p);
            let opener = start("open", move || sys::open(path, OFlags::RDWR));
            armed.wait_standing(1);
            let (at, path) = (o.clone(), p.clone());
            let changer = second(change.name, move || (change.run)(&at, &path));
            armed.go_on();
            let fd = opener.finish().works();
            changer.finish().works();
            change.check(&o, &p, &data, &point.to_string());
            assert_eq!(sys::fstat(&fd).works().st_size as usize, change.size);
        }
    }
}

/// The other way round; and killed there, the file is cut off or is not.
fn truncate_at_each_point(t: &T) {
    pause::need(t);
    for point in Point::OF_LEADER {
        let data = pattern(2 << 20, 2);
        let size = (1 << 20) + 5000;
        let o = t
            .stack()
            .lower(|l| {
                l.file("d/f", &data).file("d/g", &data);
            })
            .mount();
        let armed = Pause::once(point);
        let path = o.m("d/f");
        let cutter = start("truncate", move || sys::truncate(path, size as u64));
        armed.wait_standing(1);
        let path = o.m("d/f");
        let opener = second("open", move || sys::open(path, OFlags::RDWR));
        armed.go_on();
        cutter.finish().works();
        let fd = opener.finish().works();
        assert!(
            sys::pread(&fd, data.len(), 0).works() == data[..size],
            "{point}"
        );
        drop(fd);

        let armed = Pause::once(point);
        let cutter = in_process(|| sys::truncate(o.m("d/g"), size as u64));
        armed.wait_standing(1);
        kill(cutter);
        armed.go_on();
        let left = sys::read_file(o.m("d/g")).works();
        assert!(
            left == data || left == data[..size],
            "{point}: {} bytes",
            left.len()
        );
        o.assert_no_strays();
        drop(sys::open(o.m("d/g"), OFlags::RDWR).works());
        assert!(sys::read_file(o.u("d/g")).works() == left, "{point}");
    }
}

/// That a file loses its capabilities is no reason to copy data that is cut off.
fn with_capabilities(t: &T) {
    t.better_than_overlay("it copies the file up to remove the xattr");
    let f = t.fuse(|f| {
        f.file("f", pattern(SIZE, 1))
            .xattr("f", "security.capability", CAPABILITY);
    });
    let o = t.stack().lower_fuse(&f).mount();
    f.reset_counts("f");
    f.stop_all_at("f", 0);
    let path = o.m("f");
    now("truncate", move || sys::truncate(path, 0)).works();
    assert_eq!(f.bytes("f"), 0, "data was copied");
    f.go_on("f");
    assert_eq!(sys::lstat(o.m("f")).works().st_size, 0);
    sys::get_xattr(o.m("f"), "security.capability").fails(Errno::NODATA);
    sys::get_xattr(o.u("f"), "security.capability").fails(Errno::NODATA);
}
