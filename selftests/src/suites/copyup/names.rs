// SPDX-License-Identifier: GPL-2.0

//! R1, R3 and R4: the object loses or changes its name while it is copied up.

use std::os::fd::OwnedFd;
use std::path::Path;

use super::ops::{
    assert_as_plain, assert_upper_exact, copies, data, last_preparations, lay_out_lower, ways,
    Hold, Kind, Models, Op, Race, Upper, MIDDLE, NO_TMPFILE, RENAME_AWAY, RENAME_OVER, UNLINK,
    UPPERS,
};
use crate::env::{Fs, T};
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags};
use crate::tree::{assert_names, assert_text, assert_whiteout};
use crate::watch::{now, start, until};

pub fn tests() -> Vec<Test> {
    vec![
        test!(R1_directory_is_free_while_data_stands)
            .uppers(&UPPERS)
            .long(5),
        test!(R1_every_way_against_unlink).uppers(&UPPERS).long(5),
        test!(R1_every_kind_against_unlink)
            .uppers(&NO_TMPFILE)
            .long(5),
        test!(R1_unlink_at_every_point).uppers(&NO_TMPFILE).long(10),
        test!(R1_open_chmod_and_unlink).uppers(&UPPERS).long(5),
        test!(R1_name_taken_again_while_data_stands)
            .uppers(&UPPERS)
            .long(5),
        test!(R1_unlink_is_not_quite_done)
            .uppers(&NO_TMPFILE)
            .long(2),
        test!(R1_directory_goes_while_data_stands)
            .uppers(&UPPERS)
            .long(5),
        test!(R3_directory_is_free_while_data_stands)
            .uppers(&UPPERS)
            .long(5),
        test!(R3_every_way_against_rename_over)
            .uppers(&UPPERS)
            .long(5),
        test!(R3_every_kind_against_rename_over)
            .uppers(&NO_TMPFILE)
            .long(5),
        test!(R3_rename_over_is_not_quite_done)
            .uppers(&NO_TMPFILE)
            .long(2),
        test!(R3_rename_over_at_every_point)
            .uppers(&NO_TMPFILE)
            .long(10),
        test!(R4_every_way_against_rename_away)
            .uppers(&UPPERS)
            .long(5),
        test!(R4_every_kind_against_rename_away)
            .uppers(&NO_TMPFILE)
            .long(5),
        test!(R4_rename_away_at_every_point)
            .uppers(&NO_TMPFILE)
            .long(10),
    ]
}

/// Runs the races of `combinations` with one mount.
fn races(t: &T, against: &'static Op, combinations: &[(Kind, &'static Op, Hold)]) {
    if combinations.iter().any(|c| matches!(c.2, Hold::At(_))) {
        pause::need(t);
    }
    let lower = t.fuse(|l| {
        for (i, (kind, ..)) in combinations.iter().enumerate() {
            lay_out_lower(l, &format!("{i}"), *kind);
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    let models = Models::new(t);
    for (i, (kind, way, hold)) in combinations.iter().enumerate() {
        // Where the upper directory is locked, and to be renamed, which is
        // itself a copy-up, is to wait.
        let waits = way.locked
            || *kind != Kind::File
            || matches!(hold, Hold::No | Hold::At(Point::Linked))
            || against.name == RENAME_AWAY.name
            || t.is_overlay();
        Race {
            models: &models,
            o: &o,
            lower: &lower,
            dir: format!("{i}"),
            kind: *kind,
            way,
            against,
            hold: *hold,
            must_return: !waits,
        }
        .run();
    }
    upper.finish(&o);
}

fn while_data_stands(t: &T, against: &'static Op) {
    t.better_than_overlay("nothing waits for data but who needs the copy");
    let all: Vec<_> = ways(Kind::File)
        .map(|w| (Kind::File, w, Hold::Data))
        .collect();
    races(t, against, &all);
}

fn of_every_kind(t: &T, against: &'static Op) {
    t.better_than_overlay("its copy-up of an object without a name fails");
    let mut all = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|k| against.is_on(*k)) {
        for way in ways(kind) {
            all.push((kind, way, Hold::No));
        }
    }
    races(t, against, &all);
}

fn at_every_point(t: &T, against: &'static Op) {
    let mut all = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|k| against.is_on(*k)) {
        for way in ways(kind) {
            for hold in Point::OF_LEADER.map(Hold::At) {
                all.push((kind, way, hold));
            }
        }
    }
    all.retain(|(kind, _, hold)| hold.suits(*kind));
    races(t, against, &all);
}

fn R1_every_way_against_unlink(t: &T) {
    while_data_stands(t, &UNLINK);
}

fn R1_every_kind_against_unlink(t: &T) {
    of_every_kind(t, &UNLINK);
}

fn R1_unlink_at_every_point(t: &T) {
    at_every_point(t, &UNLINK);
}

fn R3_every_way_against_rename_over(t: &T) {
    while_data_stands(t, &RENAME_OVER);
}

fn R3_every_kind_against_rename_over(t: &T) {
    of_every_kind(t, &RENAME_OVER);
}

fn R3_rename_over_at_every_point(t: &T) {
    at_every_point(t, &RENAME_OVER);
}

fn R4_every_way_against_rename_away(t: &T) {
    while_data_stands(t, &RENAME_AWAY);
}

fn R4_every_kind_against_rename_away(t: &T) {
    of_every_kind(t, &RENAME_AWAY);
}

fn R4_rename_away_at_every_point(t: &T) {
    at_every_point(t, &RENAME_AWAY);
}

/// What is done with other names of the directory.
const OTHER_NAMES: [Op; 9] = [
    Op::other("stat", |d| sys::stat(d.join("other")).map(drop)),
    Op::other("open for reading", |d| {
        sys::read_file(d.join("other")).map(drop)
    }),
    Op::other("copy-up", |d| sys::append_file(d.join("other"), "+")),
    Op::other("create", |d| sys::write_file(d.join("new"), "new")),
    Op::other("mkdir", |d| sys::mkdir(d.join("dir"), 0o755)),
    Op::other("link", |d| sys::link(d.join("other"), d.join("link"))),
    Op::other("rename", |d| sys::rename(d.join("new"), d.join("renamed"))),
    Op::other("unlink", |d| sys::unlink(d.join("other"))),
    Op::other("readdir", |d| {
        let names = sys::names(d)?;
        assert!(names.iter().any(|n| n == "f"), "{names:?}");
        Ok(())
    }),
];

/// While a copy-up by open stands in mid-data everything else in the directory
/// goes on, and so does what takes the file's name. The opener then gets its
/// file, without a name.
fn directory_is_free(t: &T, against: &'static Op) {
    t.better_than_overlay("it holds locks while it copies data");
    let lower = t.fuse(|l| lay_out_lower(l, "d", Kind::File));
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    let at = o.m("d");
    last_preparations(&at, Kind::File);
    lower.stop_first_at("d/f", MIDDLE);
    let path = at.join("f");
    let mut opener = start("open", move || sys::open(path, OFlags::RDWR));
    lower.wait_standing("d/f", 1);
    for op in &OTHER_NAMES {
        let at = at.clone();
        now(op.name, move || (op.run)(&at)).works();
    }
    let dir = at.clone();
    now("stat of it", move || sys::stat(dir.join("f"))).works();
    let dir = at.clone();
    now(against.name, move || (against.run)(&dir)).works();
    let dir = at.clone();
    let names = now("readdir", move || sys::names(dir)).works();
    let replaced = against.name == RENAME_OVER.name;
    assert_eq!(names.iter().any(|n| n == "f"), replaced, "{names:?}");
    assert!(!opener.is_done(), "the copy-up did not stand still");
    lower.go_on("d/f");
    let fd = opener.finish().works();
    nameless_but_whole(&fd);
    drop(fd);
    let mut expected = vec!["dir", "link", "made", "renamed"];
    if replaced {
        expected.push("f");
    } else {
        expected.push("g");
    }
    expected.sort_unstable();
    assert_names(&at, &expected);
    only_what_is_expected(&o, replaced);
    upper.finish(&o);
}

#[track_caller]
fn nameless_but_whole(fd: &OwnedFd) {
    assert_eq!(sys::fstat(fd).works().st_nlink, 0);
    let mut want = data("f");
    assert!(sys::read_rest(fd).works() == want, "not the whole file");
    sys::pwrite(fd, "written", 100).works();
    want[100..107].copy_from_slice(b"written");
    let now = sys::pread(fd, want.len() + 1, 0).works();
    assert!(now == want, "what was written is not there");
}

#[track_caller]
fn only_what_is_expected(o: &Overlay, replaced: bool) {
    assert_upper_exact(o, "");
    o.assert_no_strays();
    assert_whiteout(o.u("d/other"));
    if replaced {
        assert_names(
            o.u("d"),
            &["dir", "f", "g", "link", "made", "other", "renamed"],
        );
        assert_whiteout(o.u("d/g"));
        assert!(sys::read_file(o.m("d/f")).works() == data("g"));
    } else {
        assert_names(o.u("d"), &["dir", "f", "link", "made", "other", "renamed"]);
        assert_whiteout(o.u("d/f"));
        sys::stat(o.m("d/f")).fails(Errno::NOENT);
    }
    assert_text(o.m("d/link"), "other+");
}

fn R1_directory_is_free_while_data_stands(t: &T) {
    directory_is_free(t, &UNLINK);
}

fn R3_directory_is_free_while_data_stands(t: &T) {
    directory_is_free(t, &RENAME_OVER);
}

/// How a copy-up of a file is begun with no lock held.
const UNLOCKED: [fn(&Path) -> sys::Res<OwnedFd>; 3] = [
    |d| sys::open(d.join("f"), OFlags::RDWR),
    |d| sys::open(d.join("f"), OFlags::RDWR | OFlags::APPEND),
    |d| {
        let fd = sys::open(d.join("f"), OFlags::RDONLY)?;
        sys::open(sys::fd_path(&fd), OFlags::RDWR)
    },
];

/// What is done with a file that is open, while its name goes.
const ON_FD: [fn(&OwnedFd) -> sys::Res<()>; 2] = [
    |fd| sys::fchmod(fd, 0o606),
    |fd| sys::fset_xattr(fd, "trusted.x", b"y"),
];

/// The name has gone from the upper layer, and the VFS does not know yet: a copy
/// that comes then to take the name has none, and is no error.
fn not_quite_done(t: &T, against: &'static Op, point: Point) {
    pause::need(t);
    let rounds = UNLOCKED.len();
    let lower = t.fuse(|l| {
        for i in 0..=rounds {
            lay_out_lower(l, &format!("{i}"), Kind::File);
        }
        lay_out_lower(l, "dir", Kind::Directory);
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    let run = |op: &'static Op, at: &Path| {
        let at = at.to_path_buf();
        start(op.name, move || (op.run)(&at))
    };
    for i in 0..=rounds {
        let at = o.m(format!("{i}"));
        last_preparations(&at, Kind::File);
        let fd = sys::open(at.join("f"), OFlags::RDONLY).works();
        let publish = Pause::once(Point::Publish);
        let open = UNLOCKED.get(i).unwrap_or(&UNLOCKED[0]);
        let path = at.clone();
        let copier = start("open", move || open(&path));
        publish.wait_standing(1);
        let gone = Pause::once(point);
        let mut remover = run(against, &at);
        gone.wait_standing(1);
        let mut late = Vec::new();
        if i == rounds {
            for run in ON_FD {
                let fd = fd.try_clone().expect("dup");
                let mut task = start("change by fd", move || run(&fd));
                task.settle();
                late.push(task);
            }
        }
        publish.go_on();
        let opened = copier.finish().works();
        assert!(!remover.is_done(), "it did not stand still");
        gone.go_on();
        remover.finish().works();
        for task in late {
            task.finish().works();
        }
        assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
        sys::pwrite(&opened, "written", 1).works();
        sys::pread(&fd, 7, 1).works();
        if against.name == UNLINK.name {
            assert_names(&at, &["g", "made", "other"]);
            assert_names(o.u(format!("{i}")), &["f", "made"]);
            assert_whiteout(o.u(format!("{i}/f")));
        } else {
            assert_names(&at, &["f", "made", "other"]);
            assert!(sys::read_file(at.join("f")).works() == data("g"));
        }
        assert_upper_exact(&o, "");
        o.assert_no_strays();
    }
    if t.variant.upper != Fs::NoTmpfile {
        // A directory, in which a file without a name is to be made.
        let at = o.m("dir");
        last_preparations(&at, Kind::Directory);
        let publish = Pause::once(Point::Publish);
        let path = at.join("f");
        let flags = OFlags::RDWR | OFlags::TMPFILE;
        let maker = start("O_TMPFILE", move || sys::open(path, flags));
        publish.wait_standing(1);
        let gone = Pause::once(point);
        let remover = run(against, &at);
        gone.wait_standing(1);
        publish.go_on();
        if let Err(e) = maker.finish() {
            // In a directory that has been removed ext4 says EPERM, and it is asked.
            let right = [Errno::NOENT, Errno::PERM].contains(&e.errno);
            assert!(right, "O_TMPFILE: {e:?}");
        }
        gone.go_on();
        remover.finish().works();
        let replaced = against.name == RENAME_OVER.name;
        assert_eq!(sys::exists(at.join("f")), replaced);
        assert_upper_exact(&o, "");
    }
    upper.finish(&o);
}

fn R1_unlink_is_not_quite_done(t: &T) {
    not_quite_done(t, &UNLINK, Point::Removed);
}

fn R3_rename_over_is_not_quite_done(t: &T) {
    not_quite_done(t, &RENAME_OVER, Point::Renamed);
}

/// A copy-up led by open, for which chmod waits, and then unlink comes.
fn R1_open_chmod_and_unlink(t: &T) {
    let lower = t.fuse(|l| lay_out_lower(l, "d", Kind::File));
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    copies(t, &o);
    last_preparations(&o.m("d"), Kind::File);
    lower.stop_first_at("d/f", MIDDLE);
    let (open, chmod, unlink) = (o.m("d/f"), o.m("d/f"), o.m("d/f"));
    let mut opener = start("open", move || sys::open(open, OFlags::RDWR));
    lower.wait_standing("d/f", 1);
    let chmod = start("chmod", move || sys::chmod(chmod, 0o606));
    until("chmod waits for the copy", || {
        copies(t, &o).waiters("d/f") == Some(1)
    });
    let mut unlink = start("unlink", move || sys::unlink(unlink));
    unlink.settle();
    assert!(!opener.is_done(), "the copy-up did not stand still");
    lower.go_on("d/f");
    nameless_or_named(&opener.finish().works());
    if let Err(e) = chmod.finish() {
        assert_eq!(e.errno, Errno::NOENT);
    }
    unlink.finish().works();
    assert_names(o.m("d"), &["g", "made", "other"]);
    assert_names(o.u("d"), &["f", "made"]);
    assert_whiteout(o.u("d/f"));
    upper.finish(&o);
}

#[track_caller]
fn nameless_or_named(fd: &OwnedFd) {
    assert!(
        sys::read_rest(fd).works() == data("f"),
        "not the whole file"
    );
    sys::pwrite(fd, "written", 100).works();
}

/// What takes the name after the unlink.
const TAKE_AGAIN: [Op; 6] = [
    Op::other("create", |d| sys::write_file(d.join("f"), "new")),
    Op::other("mkdir", |d| sys::mkdir(d.join("f"), 0o755)),
    Op::other("symlink", |d| sys::symlink("new", d.join("f"))),
    Op::other("link", |d| sys::link(d.join("other"), d.join("f"))),
    Op::other("rename", |d| sys::rename(d.join("g"), d.join("f"))),
    Op::other("create and unlink", |d| {
        sys::write_file(d.join("f"), "new")?;
        sys::unlink(d.join("f"))
    }),
];

/// While a copy-up by open stands in mid-data the file is unlinked and its name
/// taken by another: the copy must not come between.
fn R1_name_taken_again_while_data_stands(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let lower = t.fuse(|l| {
        for i in 0..TAKE_AGAIN.len() {
            lay_out_lower(l, &format!("{i}"), Kind::File);
        }
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    for (i, take) in TAKE_AGAIN.iter().enumerate() {
        let (dir, f) = (format!("{i}"), format!("{i}/f"));
        last_preparations(&o.m(&dir), Kind::File);
        lower.stop_first_at(&f, MIDDLE);
        let path = o.m(&f);
        let mut opener = start("open", move || sys::open(path, OFlags::RDWR));
        lower.wait_standing(&f, 1);
        for op in [&UNLINK, take] {
            let at = o.m(&dir);
            now(op.name, move || (op.run)(&at)).works();
        }
        assert!(!opener.is_done(), "the copy-up did not stand still");
        lower.go_on(&f);
        nameless_but_whole(&opener.finish().works());
        assert_as_plain(t, &o, &dir, Kind::File, &[&UNLINK, take]);
    }
    upper.finish(&o);
}

/// The same with the whole directory, which is made anew with the same names.
fn R1_directory_goes_while_data_stands(t: &T) {
    t.better_than_overlay("it holds locks while it copies data");
    let lower = t.fuse(|l| {
        l.file("gone/f", data("f")).file("again/f", data("f"));
    });
    let upper = Upper::new(t);
    let o = upper.mount(&lower);
    for (dir, again) in [("gone", false), ("again", true)] {
        let f = format!("{dir}/f");
        sys::write_file(o.m(dir).join("made"), "made").works();
        lower.stop_first_at(&f, MIDDLE);
        let path = o.m(&f);
        let mut opener = start("open", move || sys::open(path, OFlags::RDWR));
        lower.wait_standing(&f, 1);
        let at = o.m(dir);
        now(format!("rm -r {dir}"), move || {
            sys::unlink(at.join("f")).works();
            sys::unlink(at.join("made")).works();
            sys::rmdir(&at).works();
            if again {
                sys::mkdir(&at, 0o755).works();
                sys::write_file(at.join("f"), "new").works();
            }
        });
        assert!(!opener.is_done(), "the copy-up did not stand still");
        lower.go_on(&f);
        nameless_but_whole(&opener.finish().works());
        assert_upper_exact(&o, "");
        o.assert_no_strays();
    }
    assert_names(o.m("/"), &["again"]);
    assert_names(o.u("/"), &["again", "gone"]);
    assert_whiteout(o.u("gone"));
    assert_text(o.m("again/f"), "new");
    assert_names(o.m("again"), &["f"]);
    upper.finish(&o);
}
