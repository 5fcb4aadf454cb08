// SPDX-License-Identifier: GPL-2.0

//! Create, remove and rename: what the merged tree shows, and what is left
//! in the upper layer.

use std::os::fd::OwnedFd;

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FileType, IFlags, OFlags, RenameFlags};
use crate::tree::{assert_names, assert_opaque, assert_text, assert_whiteout, Tree, OPAQUE};

pub fn tests() -> Vec<Test> {
    vec![
        test!(create).matrix(),
        test!(create_in_lower_directory),
        test!(create_respects_umask_and_flags),
        test!(create_over_whiteout).matrix(),
        test!(mkdir_over_whiteout_is_opaque).matrix(),
        test!(mkdir_over_whiteout_of_file),
        test!(other_types_over_whiteout),
        test!(create_exclusive),
        test!(mkdir_existing),
        test!(mknod_all_types).matrix(),
        test!(mknod_whiteout_device_is_refused),
        test!(symlink_create),
        test!(unlink_upper_only).matrix(),
        test!(unlink_lower).matrix(),
        test!(unlink_copied_up),
        test!(unlink_all_types),
        test!(unlink_directory),
        test!(unlink_twice),
        test!(unlink_open_file).matrix(),
        test!(unlink_open_lower_file),
        test!(rmdir_upper_only),
        test!(rmdir_lower).matrix(),
        test!(rmdir_merged),
        test!(rmdir_with_only_whiteouts).matrix(),
        test!(rmdir_not_empty),
        test!(rmdir_file),
        test!(rmdir_then_lower_contents_stay_hidden),
        test!(rmdir_open_directory),
        test!(remove_recursively).matrix(),
        test!(link_upper),
        test!(link_over_whiteout),
        test!(link_errors),
        test!(link_symlink_and_special),
        test!(rename_upper_file).matrix(),
        test!(rename_lower_file).matrix(),
        test!(rename_over_upper),
        test!(rename_over_lower).matrix(),
        test!(rename_over_whiteout),
        test!(rename_to_itself),
        test!(rename_hard_links_of_each_other),
        test!(rename_types_against_each_other),
        test!(rename_noreplace).matrix(),
        test!(rename_exchange).matrix(),
        test!(rename_exchange_lower_and_upper),
        test!(rename_exchange_directories),
        test!(rename_whiteout),
        test!(rename_flags_that_conflict),
        test!(rename_upper_directory).matrix(),
        test!(rename_lower_directory_is_exdev).matrix(),
        test!(rename_directory_over_directory),
        test!(rename_directory_over_removed_one),
        test!(rename_directory_over_only_whiteouts),
        test!(rename_directory_into_merged_makes_opaque),
        test!(rename_into_own_child),
        test!(rename_across_directories_both_lower),
        test!(rename_back_and_forth),
        test!(tmpfile_and_link).matrix(),
        test!(tmpfile_in_lower_directory),
        test!(tmpfile_exclusive),
        test!(tmpfile_link_over_whiteout),
        test!(tmpfile_link_again_after_an_error).matrix(),
        test!(tmpfile_attributes),
        test!(dot_names),
        test!(read_only_names),
        test!(directory_mtime_changes),
        test!(many_whiteouts),
        test!(recreate_many_times),
        test!(removed_directory_refuses),
        test!(removed_objects_can_be_changed).matrix(),
        test!(removed_objects_can_be_changed_replaced),
        test!(rename_whiteout_missing).uppers(&[Fs::Jfs]),
        test!(tmpfile_not_supported).uppers(&[Fs::Jfs]),
        test!(working_directory),
        test!(no_whiteout_is_held),
        test!(no_removed_directory_is_held),
        test!(whiteouts_are_shared_or_not_but_right).matrix(),
        test!(after_remount_the_same).matrix(),
    ]
}

fn basic(l: &Tree) {
    l.file("f", "lower f").file("g", "lower g");
    l.file("d/a", "a").file("d/b", "b").file("d/sub/x", "x");
    l.dir("empty").symlink("s", "f").fifo("p");
}

fn lower(t: &T) -> Overlay {
    t.stack().lower(basic).mount()
}

fn create(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("new"), "n").works();
    sys::mkdir(o.m("newdir"), 0o755).works();
    sys::write_file(o.m("newdir/in"), "i").works();
    assert_text(o.u("new"), "n");
    assert_text(o.u("newdir/in"), "i");
    assert_text(o.m("newdir/in"), "i");
    sys::get_xattr(o.u("new"), OPAQUE).fails(Errno::NODATA);
}

fn create_in_lower_directory(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("d/sub/new"), "n").works();
    assert_names(o.m("d/sub"), &["new", "x"]);
    assert_names(o.u("d/sub"), &["new"]);
    assert_names(o.u("d"), &["sub"]);
    for d in ["d", "d/sub"] {
        assert_ne!(
            sys::xattr_opt(o.u(d), OPAQUE).as_deref(),
            Some(&b"y"[..]),
            "a merged directory became opaque"
        );
    }
}

fn create_respects_umask_and_flags(t: &T) {
    let o = lower(t);
    sys::umask(0o027);
    let fd = sys::open_mode(o.m("d/f"), OFlags::CREATE | OFlags::RDWR, 0o6777).works();
    sys::mkdir(o.m("d/dir"), 0o1777).works();
    sys::mknod(o.m("d/fifo"), FileType::Fifo, 0o666, 0).works();
    assert_eq!(sys::mode_of(&sys::fstat(&fd).works()), 0o6750);
    let mode = |n: &str| sys::mode_of(&sys::stat(o.m(n)).works());
    assert_eq!(mode("d/f"), 0o6750);
    assert_eq!(mode("d/dir"), 0o1750);
    assert_eq!(mode("d/fifo"), 0o640);
    t.as_user(1000, 1001, || {
        sys::open_mode(o.m("new"), OFlags::CREATE | OFlags::RDWR, 0o666).fails(Errno::ACCESS);
    });
    sys::umask(0);
    sys::mkdir(o.m("public"), 0o777).works();
    t.as_user(1000, 1001, || {
        sys::write_file(o.m("public/mine"), "m").works();
        sys::mkdir(o.m("public/dir"), 0o777).works();
    });
    for n in ["public/mine", "public/dir"] {
        for p in [o.m(n), o.u(n)] {
            let st = sys::stat(p).works();
            assert_eq!((st.st_uid, st.st_gid), (1000, 1001), "{n}");
        }
    }
}

fn create_over_whiteout(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("f")).works();
    assert_whiteout(o.u("f"));
    sys::write_file(o.m("f"), "new").works();
    assert_text(o.m("f"), "new");
    assert_text(o.u("f"), "new");
    assert_eq!(sys::stat(o.m("f")).works().st_nlink, 1);
    let names = sys::names(o.m("/")).works();
    assert_eq!(names.iter().filter(|n| *n == "f").count(), 1);
}

fn mkdir_over_whiteout_is_opaque(t: &T) {
    let o = lower(t);
    std::fs::remove_dir_all(o.m("d")).expect("rm -r d");
    assert_whiteout(o.u("d"));
    sys::mkdir(o.m("d"), 0o750).works();
    assert_opaque(o.u("d"));
    assert_names(o.m("d"), &[]);
    sys::stat(o.m("d/a")).fails(Errno::NOENT);
    assert_eq!(sys::mode_of(&sys::stat(o.m("d")).works()), 0o750);
    sys::write_file(o.m("d/a"), "new").works();
    o.remount();
    assert_names(o.m("d"), &["a"]);
    assert_text(o.m("d/a"), "new");
}

fn mkdir_over_whiteout_of_file(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("f")).works();
    sys::mkdir(o.m("f"), 0o755).works();
    sys::write_file(o.m("f/in"), "x").works();
    o.remount();
    assert_names(o.m("f"), &["in"]);
}

fn other_types_over_whiteout(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for n in ["sym", "fifo", "sock", "chr", "file"] {
                l.file(n, "lower");
            }
        })
        .mount();
    for n in ["sym", "fifo", "sock", "chr", "file"] {
        sys::unlink(o.m(n)).works();
    }
    sys::symlink("t", o.m("sym")).works();
    sys::mknod(o.m("fifo"), FileType::Fifo, 0o600, 0).works();
    sys::mknod(o.m("sock"), FileType::Socket, 0o600, 0).works();
    let null = rustix::fs::makedev(1, 3);
    sys::mknod(o.m("chr"), FileType::CharacterDevice, 0o600, null).works();
    sys::mknod(o.m("file"), FileType::RegularFile, 0o600, 0).works();
    let check = || {
        let kind = |n: &str| sys::kind_of(&sys::lstat(o.m(n)).works());
        assert_eq!(kind("sym"), FileType::Symlink);
        assert_eq!(kind("fifo"), FileType::Fifo);
        assert_eq!(kind("sock"), FileType::Socket);
        assert_eq!(kind("chr"), FileType::CharacterDevice);
        assert_eq!(kind("file"), FileType::RegularFile);
        assert_eq!(sys::lstat(o.m("chr")).works().st_rdev, null);
    };
    check();
    o.remount();
    check();
}

fn create_exclusive(t: &T) {
    let o = lower(t);
    let excl = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    sys::open(o.m("f"), excl).fails(Errno::EXIST);
    sys::open(o.m("s"), excl).fails(Errno::EXIST);
    sys::open(o.m("d"), excl).fails(Errno::EXIST);
    sys::unlink(o.m("f")).works();
    drop(sys::open(o.m("f"), excl).works());
    sys::open(o.m("f"), excl).fails(Errno::EXIST);
    assert_eq!(sys::stat(o.m("f")).works().st_size, 0);
}

fn mkdir_existing(t: &T) {
    let o = lower(t);
    for n in ["f", "d", "s", "p", "empty"] {
        sys::mkdir(o.m(n), 0o755).fails(Errno::EXIST);
    }
    sys::mkdir(o.m("none/x"), 0o755).fails(Errno::NOENT);
    sys::mkdir(o.m("f/x"), 0o755).fails(Errno::NOTDIR);
    assert_names(o.u("/"), &[]);
}

fn mknod_all_types(t: &T) {
    let o = lower(t);
    let dev = rustix::fs::makedev(12, 34);
    let kinds = [
        ("reg", FileType::RegularFile, 0),
        ("fifo", FileType::Fifo, 0),
        ("sock", FileType::Socket, 0),
        ("chr", FileType::CharacterDevice, dev),
        ("blk", FileType::BlockDevice, dev),
    ];
    for (n, kind, dev) in kinds {
        let n = format!("d/{n}");
        sys::mknod(o.m(&n), kind, 0o640, dev).works();
        for p in [o.m(&n), o.u(&n)] {
            let st = sys::lstat(p).works();
            assert_eq!(sys::kind_of(&st), kind);
            assert_eq!(st.st_rdev, dev);
            assert_eq!(sys::mode_of(&st), 0o640);
        }
    }
}

/// It would be a whiteout in the upper layer.
fn mknod_whiteout_device_is_refused(t: &T) {
    let o = lower(t);
    sys::mknod(o.m("w"), FileType::CharacterDevice, 0o600, 0).fails(Errno::PERM);
    sys::stat(o.m("w")).fails(Errno::NOENT);
    assert!(!sys::exists(o.u("w")));
}

fn symlink_create(t: &T) {
    let o = lower(t);
    sys::symlink("../f", o.m("d/link")).works();
    assert_text(o.m("d/link"), "lower f");
    assert_eq!(sys::readlink(o.u("d/link")).works(), "../f");
    sys::symlink("x", o.m("f")).fails(Errno::EXIST);
}

fn unlink_upper_only(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("new"), "n").works();
    sys::write_file(o.m("d/new"), "n").works();
    sys::unlink(o.m("new")).works();
    sys::unlink(o.m("d/new")).works();
    assert!(!sys::exists(o.u("new")), "a whiteout over nothing");
    assert!(!sys::exists(o.u("d/new")), "a whiteout over nothing");
    sys::stat(o.m("new")).fails(Errno::NOENT);
}

fn unlink_lower(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("f")).works();
    sys::unlink(o.m("d/sub/x")).works();
    for n in ["f", "d/sub/x"] {
        assert_whiteout(o.u(n));
        sys::stat(o.m(n)).fails(Errno::NOENT);
        sys::open(o.m(n), OFlags::RDONLY).fails(Errno::NOENT);
    }
    assert_names(o.m("d/sub"), &[]);
    o.remount();
    sys::stat(o.m("f")).fails(Errno::NOENT);
    assert_names(o.m("d/sub"), &[]);
}

fn unlink_copied_up(t: &T) {
    let o = lower(t);
    sys::append_file(o.m("f"), "+").works();
    sys::unlink(o.m("f")).works();
    assert_whiteout(o.u("f"));
    sys::stat(o.m("f")).fails(Errno::NOENT);
}

fn unlink_all_types(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").symlink("s", "f").fifo("p").socket("k");
            l.node("c", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        })
        .mount();
    for n in ["f", "s", "p", "k", "c"] {
        sys::unlink(o.m(n)).works();
        assert_whiteout(o.u(n));
    }
    assert_names(o.m("/"), &[]);
}

fn unlink_directory(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("empty")).fails(Errno::ISDIR);
    sys::unlink(o.m("d")).fails(Errno::ISDIR);
    assert_names(o.u("/"), &[]);
}

fn unlink_twice(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("f")).works();
    sys::unlink(o.m("f")).fails(Errno::NOENT);
    sys::unlink(o.m("none")).fails(Errno::NOENT);
    sys::rmdir(o.m("none")).fails(Errno::NOENT);
    assert_names(o.u("/"), &["f"]);
}

fn unlink_open_file(t: &T) {
    let o = lower(t);
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::unlink(o.m("f")).works();
    sys::pwrite(&fd, "still", 0).works();
    assert_eq!(sys::pread(&fd, 5, 0).works(), b"still");
    sys::ftruncate(&fd, 3).works();
    assert_eq!(sys::fstat(&fd).works().st_size, 3);
    assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
    sys::fchmod(&fd, 0o600).works();
    sys::write_file(o.m("f"), "another").works();
    assert_eq!(sys::pread(&fd, 10, 0).works(), b"sti");
    assert_text(o.m("f"), "another");
}

fn unlink_open_lower_file(t: &T) {
    let o = lower(t);
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::unlink(o.m("f")).works();
    assert_eq!(sys::pread(&fd, 20, 0).works(), b"lower f");
    assert_eq!(sys::fstat(&fd).works().st_size, 7);
    // The name is gone: writing again through the open file's own name in
    // /proc must not bring it back.
    match sys::open(sys::fd_path(&fd), OFlags::RDWR) {
        Ok(w) => {
            sys::pwrite(&w, "L", 0).works();
            assert_eq!(sys::pread(&w, 20, 0).works(), b"Lower f");
        }
        Err(e) => assert!(
            [Errno::NOENT, Errno::STALE].contains(&e.errno) || t.is_overlay(),
            "reopen for write: {e:?}"
        ),
    }
    sys::stat(o.m("f")).fails(Errno::NOENT);
    assert_whiteout(o.u("f"));
    drop(fd);
    assert_text(o.l(0, "f"), "lower f");
}

fn rmdir_upper_only(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("new"), 0o755).works();
    sys::rmdir(o.m("new")).works();
    assert!(!sys::exists(o.u("new")));
}

fn rmdir_lower(t: &T) {
    let o = lower(t);
    sys::rmdir(o.m("empty")).works();
    assert_whiteout(o.u("empty"));
    sys::stat(o.m("empty")).fails(Errno::NOENT);
    o.remount();
    sys::stat(o.m("empty")).fails(Errno::NOENT);
}

fn rmdir_merged(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
        })
        .lower(|l| {
            l.dir("d");
        })
        .upper(|u| {
            u.dir("d");
        })
        .mount();
    sys::rmdir(o.m("d")).works();
    assert_whiteout(o.u("d"));
    sys::stat(o.m("d")).fails(Errno::NOENT);
}

fn rmdir_with_only_whiteouts(t: &T) {
    let o = lower(t);
    for n in ["d/a", "d/b", "d/sub/x"] {
        sys::unlink(o.m(n)).works();
    }
    sys::rmdir(o.m("d")).fails(Errno::NOTEMPTY);
    sys::rmdir(o.m("d/sub")).works();
    assert_names(o.m("d"), &[]);
    sys::rmdir(o.m("d")).works();
    assert_whiteout(o.u("d"));
    sys::stat(o.m("d")).fails(Errno::NOENT);
}

fn rmdir_not_empty(t: &T) {
    let o = lower(t);
    sys::rmdir(o.m("d")).fails(Errno::NOTEMPTY);
    sys::mkdir(o.m("new"), 0o755).works();
    sys::write_file(o.m("new/f"), "x").works();
    sys::rmdir(o.m("new")).fails(Errno::NOTEMPTY);
    sys::write_file(o.m("empty/f"), "x").works();
    sys::rmdir(o.m("empty")).fails(Errno::NOTEMPTY);
    assert_text(o.m("empty/f"), "x");
    assert_names(o.m("d"), &["a", "b", "sub"]);
}

fn rmdir_file(t: &T) {
    let o = lower(t);
    for n in ["f", "s", "p"] {
        sys::rmdir(o.m(n)).fails(Errno::NOTDIR);
    }
    sys::rmdir(o.m("d/.")).fails(Errno::INVAL);
    sys::rmdir(o.m("d/..")).fails(Errno::NOTEMPTY);
    sys::rmdir(o.m("/")).fails(Errno::BUSY);
    assert_names(o.u("/"), &[]);
}

fn rmdir_then_lower_contents_stay_hidden(t: &T) {
    let o = lower(t);
    std::fs::remove_dir_all(o.m("d")).expect("rm -r d");
    for i in 0..3 {
        sys::mkdir(o.m("d"), 0o755).works();
        assert_names(o.m("d"), &[]);
        sys::mkdir(o.m("d/sub"), 0o755).works();
        assert_names(o.m("d/sub"), &[]);
        sys::write_file(o.m("d/sub/x"), i.to_string()).works();
        sys::unlink(o.m("d/sub/x")).works();
        sys::rmdir(o.m("d/sub")).works();
        sys::rmdir(o.m("d")).works();
        assert_whiteout(o.u("d"));
    }
}

fn rmdir_open_directory(t: &T) {
    let o = lower(t);
    let fd = sys::open(o.m("empty"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    sys::rmdir(o.m("empty")).works();
    let rest = sys::read_dirents(&fd, 10, 4096);
    if let Ok(rest) = rest {
        assert!(rest.len() <= 2, "{rest:?}");
    }
    let through_fd = sys::fd_path(&fd).join("x");
    sys::write_file(through_fd, "x").fails(Errno::NOENT);
    assert_whiteout(o.u("empty"));
}

fn remove_recursively(t: &T) {
    let o = lower(t);
    sys::append_file(o.m("d/a"), "+").works();
    sys::write_file(o.m("d/sub/new"), "n").works();
    std::fs::remove_dir_all(o.m("d")).expect("rm -r d");
    assert_whiteout(o.u("d"));
    sys::stat(o.m("d")).fails(Errno::NOENT);
    for n in ["f", "g", "s", "p"] {
        sys::unlink(o.m(n)).works();
    }
    sys::rmdir(o.m("empty")).works();
    assert_names(o.m("/"), &[]);
    o.remount();
    assert_names(o.m("/"), &[]);
}

fn link_upper(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("new"), "n").works();
    sys::link(o.m("new"), o.m("d/link")).works();
    let (a, b) = (
        sys::stat(o.m("new")).works(),
        sys::stat(o.m("d/link")).works(),
    );
    assert_eq!((a.st_ino, a.st_nlink), (b.st_ino, 2));
    sys::append_file(o.m("d/link"), "+").works();
    assert_text(o.m("new"), "n+");
    sys::unlink(o.m("new")).works();
    assert_text(o.m("d/link"), "n+");
    assert_eq!(sys::stat(o.m("d/link")).works().st_nlink, 1);
}

fn link_over_whiteout(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("g")).works();
    sys::link(o.m("f"), o.m("g")).works();
    assert_text(o.m("g"), "lower f");
    assert_eq!(
        sys::stat(o.u("f")).works().st_ino,
        sys::stat(o.u("g")).works().st_ino
    );
    o.remount();
    assert_text(o.m("g"), "lower f");
    assert_eq!(sys::stat(o.m("g")).works().st_nlink, 2);
}

fn link_errors(t: &T) {
    let o = lower(t);
    sys::link(o.m("f"), o.m("g")).fails(Errno::EXIST);
    sys::link(o.m("d"), o.m("new")).fails(Errno::PERM);
    sys::link(o.m("none"), o.m("new")).fails(Errno::NOENT);
    sys::link(o.m("f"), o.m("none/new")).fails(Errno::NOENT);
    let outside = t.new_dir("outside").join("f");
    sys::link(o.m("f"), &outside).fails(Errno::XDEV);
    sys::link(o.l(0, "f"), o.m("new")).fails(Errno::XDEV);
    assert_names(o.u("/"), &[]);
}

fn link_symlink_and_special(t: &T) {
    let o = lower(t);
    sys::link(o.m("s"), o.m("s2")).works();
    sys::link(o.m("p"), o.m("p2")).works();
    assert_eq!(sys::readlink(o.m("s2")).works(), "f");
    let st = sys::lstat(o.m("p2")).works();
    assert_eq!(sys::kind_of(&st), FileType::Fifo);
    assert_eq!(st.st_ino, sys::lstat(o.m("p")).works().st_ino);
}

fn rename_upper_file(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("new"), "n").works();
    sys::rename(o.m("new"), o.m("d/moved")).works();
    assert_text(o.m("d/moved"), "n");
    assert!(!sys::exists(o.u("new")), "a whiteout over nothing");
}

fn rename_lower_file(t: &T) {
    let o = lower(t);
    sys::rename(o.m("f"), o.m("h")).works();
    assert_whiteout(o.u("f"));
    assert_text(o.u("h"), "lower f");
    sys::stat(o.m("f")).fails(Errno::NOENT);
    assert_text(o.m("h"), "lower f");
    sys::rename(o.m("s"), o.m("s2")).works();
    sys::rename(o.m("p"), o.m("d/p2")).works();
    assert_whiteout(o.u("s"));
    assert_whiteout(o.u("p"));
    assert_eq!(sys::readlink(o.m("s2")).works(), "f");
    o.remount();
    assert_names(o.m("/"), &["d", "empty", "g", "h", "s2"]);
    assert_names(o.m("d"), &["a", "b", "p2", "sub"]);
}

fn rename_over_upper(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("one"), "1").works();
    sys::write_file(o.m("two"), "2").works();
    sys::rename(o.m("one"), o.m("two")).works();
    assert_text(o.m("two"), "1");
    sys::stat(o.m("one")).fails(Errno::NOENT);
    assert_names(o.u("/"), &["two"]);
}

fn rename_over_lower(t: &T) {
    let o = lower(t);
    let g = sys::open(o.m("g"), OFlags::RDONLY).works();
    sys::rename(o.m("f"), o.m("g")).works();
    assert_text(o.m("g"), "lower f");
    assert_text(o.u("g"), "lower f");
    assert_whiteout(o.u("f"));
    assert_eq!(sys::pread(&g, 20, 0).works(), b"lower g");
    drop(g);
    sys::write_file(o.m("new"), "n").works();
    sys::rename(o.m("new"), o.m("d/a")).works();
    assert_text(o.m("d/a"), "n");
    o.remount();
    assert_text(o.m("g"), "lower f");
    assert_text(o.m("d/a"), "n");
}

fn rename_over_whiteout(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("g")).works();
    sys::rename(o.m("f"), o.m("g")).works();
    assert_text(o.m("g"), "lower f");
    assert_whiteout(o.u("f"));
    sys::write_file(o.m("new"), "n").works();
    sys::rename(o.m("new"), o.m("f")).works();
    assert_text(o.m("f"), "n");
    assert!(!sys::exists(o.u("new")), "a whiteout left at the old name");
    o.remount();
    assert_text(o.m("f"), "n");
    assert_text(o.m("g"), "lower f");
}

fn rename_to_itself(t: &T) {
    let o = lower(t);
    sys::rename(o.m("f"), o.m("f")).works();
    sys::rename(o.m("d"), o.m("d")).works();
    assert_text(o.m("f"), "lower f");
    assert_names(o.m("d"), &["a", "b", "sub"]);
    sys::rename(o.m("none"), o.m("none")).fails(Errno::NOENT);
}

fn rename_hard_links_of_each_other(t: &T) {
    let o = lower(t);
    sys::link(o.m("f"), o.m("f2")).works();
    // POSIX: nothing happens.
    sys::rename(o.m("f"), o.m("f2")).works();
    assert_text(o.m("f"), "lower f");
    assert_text(o.m("f2"), "lower f");
}

fn rename_types_against_each_other(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("new"), 0o755).works();
    sys::rename(o.m("f"), o.m("empty")).fails(Errno::ISDIR);
    sys::rename(o.m("new"), o.m("f")).fails(Errno::NOTDIR);
    sys::rename(o.m("f"), o.m("none/x")).fails(Errno::NOENT);
    sys::rename(o.m("f"), o.m("g/x")).fails(Errno::NOTDIR);
    sys::rename(o.m("new"), o.m("d")).fails(Errno::NOTEMPTY);
    sys::rename(o.m("f"), t.new_dir("out").join("f")).fails(Errno::XDEV);
    assert_text(o.m("f"), "lower f");
}

fn rename_noreplace(t: &T) {
    let o = lower(t);
    let flag = RenameFlags::NOREPLACE;
    sys::rename_with(o.m("f"), o.m("g"), flag).fails(Errno::EXIST);
    sys::rename_with(o.m("f"), o.m("d/a"), flag).fails(Errno::EXIST);
    assert_text(o.m("g"), "lower g");
    sys::unlink(o.m("g")).works();
    sys::rename_with(o.m("f"), o.m("g"), flag).works();
    assert_text(o.m("g"), "lower f");
    sys::rename_with(o.m("d/a"), o.m("new"), flag).works();
    assert_text(o.m("new"), "a");
    assert_whiteout(o.u("d/a"));
    o.remount();
    assert_text(o.m("g"), "lower f");
}

fn rename_exchange(t: &T) {
    let o = lower(t);
    let flag = RenameFlags::EXCHANGE;
    sys::rename_with(o.m("f"), o.m("g"), flag).works();
    assert_text(o.m("f"), "lower g");
    assert_text(o.m("g"), "lower f");
    sys::rename_with(o.m("f"), o.m("d/a"), flag).works();
    assert_text(o.m("d/a"), "lower g");
    assert_text(o.m("f"), "a");
    sys::rename_with(o.m("f"), o.m("none"), flag).fails(Errno::NOENT);
    o.remount();
    assert_text(o.m("d/a"), "lower g");
    assert_text(o.m("f"), "a");
    assert_text(o.m("g"), "lower f");
}

fn rename_exchange_lower_and_upper(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("new"), "n").works();
    sys::rename_with(o.m("new"), o.m("f"), RenameFlags::EXCHANGE).works();
    assert_text(o.m("f"), "n");
    assert_text(o.m("new"), "lower f");
    sys::unlink(o.m("f")).works();
    sys::unlink(o.m("new")).works();
    sys::stat(o.m("f")).fails(Errno::NOENT);
    assert_whiteout(o.u("f"));
    o.remount();
    sys::stat(o.m("new")).fails(Errno::NOENT);
}

fn rename_exchange_directories(t: &T) {
    let o = lower(t);
    let flag = RenameFlags::EXCHANGE;
    sys::mkdir(o.m("one"), 0o755).works();
    sys::write_file(o.m("one/x"), "1").works();
    sys::mkdir(o.m("two"), 0o755).works();
    sys::rename_with(o.m("one"), o.m("two"), flag).works();
    assert_names(o.m("one"), &[]);
    assert_names(o.m("two"), &["x"]);
    sys::rename_with(o.m("two"), o.m("f"), flag).works();
    assert_names(o.m("f"), &["x"]);
    assert_text(o.m("two"), "lower f");
    sys::rename_with(o.m("one"), o.m("d"), flag).fails(Errno::XDEV);
    sys::rename_with(o.m("d"), o.m("one"), flag).fails(Errno::XDEV);
    o.remount();
    assert_names(o.m("f"), &["x"]);
    assert_names(o.m("d"), &["a", "b", "sub"]);
}

/// The flag leaves a whiteout behind. In the merged tree there is nothing
/// to be seen of it either way.
fn rename_whiteout(t: &T) {
    let o = lower(t);
    sys::write_file(o.m("new"), "n").works();
    let r = sys::rename_with(o.m("new"), o.m("moved"), RenameFlags::WHITEOUT);
    if r.is_ok() {
        assert_text(o.m("moved"), "n");
        sys::stat(o.m("new")).fails(Errno::NOENT);
    } else {
        r.fails(Errno::INVAL);
        assert_text(o.m("new"), "n");
        sys::stat(o.m("moved")).fails(Errno::NOENT);
    }
}

fn rename_flags_that_conflict(t: &T) {
    let o = lower(t);
    let both = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    sys::rename_with(o.m("f"), o.m("g"), both).fails(Errno::INVAL);
    let unknown = RenameFlags::from_bits_retain(1 << 9);
    sys::rename_with(o.m("f"), o.m("new"), unknown).fails(Errno::INVAL);
    assert_names(o.u("/"), &[]);
}

fn rename_upper_directory(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("new"), 0o755).works();
    sys::write_file(o.m("new/f"), "n").works();
    sys::rename(o.m("new"), o.m("d/moved")).works();
    assert_text(o.m("d/moved/f"), "n");
    sys::stat(o.m("new")).fails(Errno::NOENT);
    assert!(!sys::exists(o.u("new")), "a whiteout over nothing");
    assert_eq!(
        sys::stat(o.m("d/moved/..")).works().st_ino,
        sys::stat(o.m("d")).works().st_ino
    );
    o.remount();
    assert_text(o.m("d/moved/f"), "n");
}

fn rename_lower_directory_is_exdev(t: &T) {
    let o = lower(t);
    sys::rename(o.m("d"), o.m("moved")).fails(Errno::XDEV);
    sys::rename(o.m("empty"), o.m("moved")).fails(Errno::XDEV);
    sys::write_file(o.m("d/new"), "n").works();
    sys::rename(o.m("d"), o.m("moved")).fails(Errno::XDEV);
    assert_names(o.m("d"), &["a", "b", "new", "sub"]);
    sys::stat(o.m("moved")).fails(Errno::NOENT);
    assert!(!sys::exists(o.u("moved")));
    // What mv(1) does then: copy and remove.
    sys::mkdir(o.m("moved"), 0o755).works();
    for n in ["a", "b", "new"] {
        sys::rename(o.m("d").join(n), o.m("moved").join(n)).works();
    }
    assert_names(o.m("moved"), &["a", "b", "new"]);
    assert_names(o.m("d"), &["sub"]);
}

fn rename_directory_over_directory(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("one"), 0o755).works();
    sys::write_file(o.m("one/x"), "1").works();
    sys::mkdir(o.m("two"), 0o755).works();
    sys::rename(o.m("one"), o.m("two")).works();
    assert_names(o.m("two"), &["x"]);
    sys::mkdir(o.m("three"), 0o755).works();
    sys::rename(o.m("three"), o.m("two")).fails(Errno::NOTEMPTY);
    // Over an empty lower directory: the new one hides it.
    sys::rename(o.m("two"), o.m("empty")).works();
    assert_names(o.m("empty"), &["x"]);
    sys::stat(o.m("two")).fails(Errno::NOENT);
    assert_opaque(o.u("empty"));
    o.remount();
    assert_names(o.m("empty"), &["x"]);
}

fn rename_directory_over_removed_one(t: &T) {
    let o = lower(t);
    std::fs::remove_dir_all(o.m("d")).expect("rm -r d");
    sys::mkdir(o.m("new"), 0o755).works();
    sys::write_file(o.m("new/n"), "n").works();
    sys::rename(o.m("new"), o.m("d")).works();
    assert_names(o.m("d"), &["n"]);
    assert_opaque(o.u("d"));
    assert!(!sys::exists(o.u("new")), "a whiteout over nothing");
    o.remount();
    assert_names(o.m("d"), &["n"]);
}

fn rename_directory_over_only_whiteouts(t: &T) {
    let o = lower(t);
    for n in ["d/a", "d/b", "d/sub/x"] {
        sys::unlink(o.m(n)).works();
    }
    sys::rmdir(o.m("d/sub")).works();
    sys::mkdir(o.m("new"), 0o755).works();
    sys::write_file(o.m("new/a"), "mine").works();
    sys::rename(o.m("new"), o.m("d")).works();
    assert_names(o.m("d"), &["a"]);
    assert_text(o.m("d/a"), "mine");
    assert_opaque(o.u("d"));
    assert_names(o.u("d"), &["a"]);
    o.remount();
    assert_names(o.m("d"), &["a"]);
}

/// A directory moved to where a lower one of that name could show through
/// must hide it.
fn rename_directory_into_merged_makes_opaque(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/name/old", "x").file("e/keep", "k");
        })
        .mount();
    sys::unlink(o.m("d/name/old")).works();
    sys::rmdir(o.m("d/name")).works();
    sys::mkdir(o.m("e/name"), 0o755).works();
    sys::write_file(o.m("e/name/new"), "n").works();
    sys::rename(o.m("e/name"), o.m("d/name")).works();
    assert_names(o.m("d/name"), &["new"]);
    assert_opaque(o.u("d/name"));
    assert_names(o.m("e"), &["keep"]);
    o.remount();
    assert_names(o.m("d/name"), &["new"]);
}

fn rename_into_own_child(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("new"), 0o755).works();
    sys::mkdir(o.m("new/sub"), 0o755).works();
    sys::rename(o.m("new"), o.m("new/sub/x")).fails(Errno::INVAL);
    sys::rename(o.m("new/sub"), o.m("new")).fails(Errno::NOTEMPTY);
    let flag = RenameFlags::EXCHANGE;
    sys::rename_with(o.m("new"), o.m("new/sub"), flag).fails(Errno::INVAL);
}

fn rename_across_directories_both_lower(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a/b/f", "f").file("c/d/g", "g");
        })
        .mount();
    sys::rename(o.m("a/b/f"), o.m("c/d/g")).works();
    assert_text(o.m("c/d/g"), "f");
    assert_names(o.m("a/b"), &[]);
    assert_whiteout(o.u("a/b/f"));
    o.remount();
    assert_text(o.m("c/d/g"), "f");
    assert_names(o.m("a/b"), &[]);
}

fn rename_back_and_forth(t: &T) {
    let o = lower(t);
    for _ in 0..5 {
        sys::rename(o.m("f"), o.m("x")).works();
        sys::rename(o.m("x"), o.m("f")).works();
    }
    assert_text(o.m("f"), "lower f");
    sys::stat(o.m("x")).fails(Errno::NOENT);
    assert!(!sys::exists(o.u("x")), "a whiteout over nothing");
    o.remount();
    assert_text(o.m("f"), "lower f");
}

fn tmpfile(o: &Overlay, dir: &str, flags: OFlags) -> sys::Res<OwnedFd> {
    sys::open_mode(o.m(dir), OFlags::TMPFILE | OFlags::RDWR | flags, 0o640)
}

fn tmpfile_and_link(t: &T) {
    let o = lower(t);
    let fd = tmpfile(&o, "/", OFlags::empty()).works();
    sys::write(&fd, "nameless").works();
    assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
    assert_names(o.m("/"), &["d", "empty", "f", "g", "p", "s"]);
    sys::link_fd(&fd, o.m("named")).works();
    assert_text(o.m("named"), "nameless");
    assert_text(o.u("named"), "nameless");
    assert_eq!(sys::fstat(&fd).works().st_nlink, 1);
    sys::pwrite(&fd, "N", 0).works();
    assert_text(o.m("named"), "Nameless");
    let st = sys::stat(o.m("named")).works();
    assert_eq!(st.st_ino, sys::fstat(&fd).works().st_ino);
}

fn tmpfile_in_lower_directory(t: &T) {
    let o = lower(t);
    let fd = tmpfile(&o, "d/sub", OFlags::empty()).works();
    sys::write(&fd, "x").works();
    sys::link_fd(&fd, o.m("d/sub/new")).works();
    assert_names(o.m("d/sub"), &["new", "x"]);
    sys::link_fd(&fd, o.m("f")).fails(Errno::EXIST);
    drop(tmpfile(&o, "d", OFlags::empty()).works());
    assert_names(o.m("d"), &["a", "b", "sub"]);
}

fn tmpfile_exclusive(t: &T) {
    let o = lower(t);
    let fd = tmpfile(&o, "/", OFlags::EXCL).works();
    sys::link_fd(&fd, o.m("new")).fails(Errno::NOENT);
}

/// The file has got a name already, in the work directory, when the whiteout turns
/// out to be one that cannot be replaced.
fn tmpfile_link_again_after_an_error(t: &T) {
    t.better_than_overlay("it has no second chance");
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/gone", "lower");
        })
        .upper(|u| {
            u.xwhiteout("d/gone");
        })
        .mount();
    let whiteout = sys::open(o.u("d/gone"), OFlags::RDONLY).works();
    let flags = sys::get_flags(&whiteout).works();
    sys::set_flags(&whiteout, flags | IFlags::IMMUTABLE).works();
    let fd = sys::open_mode(o.m("d"), OFlags::TMPFILE | OFlags::RDWR, 0o600).works();
    sys::pwrite(&fd, "contents", 0).works();
    for _ in 0..2 {
        sys::link_fd(&fd, o.m("d/gone")).fails(Errno::PERM);
        assert_eq!(sys::fstat(&fd).works().st_nlink, 0);
        sys::stat(o.m("d/gone")).fails(Errno::NOENT);
        o.assert_no_strays();
    }
    sys::set_flags(&whiteout, flags).works();
    drop(whiteout);
    sys::link_fd(&fd, o.m("d/gone")).works();
    assert_eq!(sys::fstat(&fd).works().st_nlink, 1);
    drop(fd);
    o.remount();
    assert_text(o.m("d/gone"), "contents");
    assert_names(o.m("d"), &["gone"]);
}

fn tmpfile_link_over_whiteout(t: &T) {
    let o = lower(t);
    sys::unlink(o.m("f")).works();
    let fd = tmpfile(&o, "/", OFlags::empty()).works();
    sys::write(&fd, "new f").works();
    sys::link_fd(&fd, o.m("f")).works();
    assert_text(o.m("f"), "new f");
    drop(fd);
    o.remount();
    assert_text(o.m("f"), "new f");
}

fn tmpfile_attributes(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("public"), 0o2777).works();
    sys::chmod(o.m("public"), 0o2777).works();
    sys::lchown(o.m("public"), 0, 77).works();
    t.as_user(1000, 1000, || {
        let fd = tmpfile(&o, "public", OFlags::empty()).works();
        let st = sys::fstat(&fd).works();
        assert_eq!((st.st_uid, st.st_gid), (1000, 77));
        assert_eq!(sys::mode_of(&st), 0o640);
    });
    t.as_user(1000, 1000, || {
        tmpfile(&o, "d", OFlags::empty()).fails(Errno::ACCESS);
    });
}

fn dot_names(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("."), 0o755).fails(Errno::EXIST);
    sys::mkdir(o.m(".."), 0o755).fails(Errno::EXIST);
    sys::unlink(o.m("d/.")).fails_any(&[Errno::ISDIR, Errno::INVAL]);
    sys::rename(o.m("d/."), o.m("x")).fails(Errno::BUSY);
    sys::rename(o.m("f"), o.m("d/..")).fails(Errno::BUSY);
    sys::stat(o.m("f/.")).fails(Errno::NOTDIR);
}

fn read_only_names(t: &T) {
    let o = t
        .stack()
        .lower(basic)
        .lower(|l| {
            l.dir("d");
        })
        .readonly()
        .mount();
    sys::write_file(o.m("new"), "x").fails(Errno::ROFS);
    sys::open(o.m("f"), OFlags::RDWR).fails(Errno::ROFS);
    sys::mkdir(o.m("new"), 0o755).fails(Errno::ROFS);
    sys::symlink("x", o.m("new")).fails(Errno::ROFS);
    sys::mknod(o.m("new"), FileType::Fifo, 0o600, 0).fails(Errno::ROFS);
    sys::link(o.m("f"), o.m("new")).fails(Errno::ROFS);
    sys::unlink(o.m("f")).fails(Errno::ROFS);
    sys::rmdir(o.m("empty")).fails(Errno::ROFS);
    sys::rename(o.m("f"), o.m("new")).fails(Errno::ROFS);
    sys::chmod(o.m("f"), 0o600).fails(Errno::ROFS);
    sys::lchown(o.m("f"), 1, 1).fails(Errno::ROFS);
    sys::truncate(o.m("f"), 0).fails(Errno::ROFS);
    sys::set_times(o.m("f"), (1, 1), (1, 1)).fails(Errno::ROFS);
    sys::set_xattr(o.m("f"), "user.x", "y").fails(Errno::ROFS);
    sys::access(o.m("f"), sys::Access::WRITE_OK).fails(Errno::ROFS);
    tmpfile(&o, "/", OFlags::empty()).fails(Errno::ROFS);
    assert_text(o.m("f"), "lower f");
}

fn directory_mtime_changes(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/a", "a").times("d", (1000, 0), (1000, 0));
        })
        .mount();
    let mtime = || sys::stat(o.m("d")).works().st_mtime;
    assert_eq!(mtime(), 1000);
    sys::write_file(o.m("d/new"), "n").works();
    assert!(mtime() > 1000, "create left mtime");
    sys::set_times(o.m("d"), (1000, 0), (1000, 0)).works();
    sys::unlink(o.m("d/a")).works();
    assert!(mtime() > 1000, "unlink left mtime");
}

fn many_whiteouts(t: &T) {
    let n = t.scaled(1000, 200);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("d/f{i:04}"), "");
            }
        })
        .mount();
    for i in (0..n).step_by(2) {
        sys::unlink(o.m(format!("d/f{i:04}"))).works();
    }
    assert_eq!(sys::names(o.m("d")).works().len(), n / 2);
    for i in (1..n).step_by(2) {
        sys::unlink(o.m(format!("d/f{i:04}"))).works();
    }
    assert_names(o.m("d"), &[]);
    sys::rmdir(o.m("d")).works();
    assert_whiteout(o.u("d"));
}

fn recreate_many_times(t: &T) {
    let o = lower(t);
    for i in 0..t.scaled(100, 20) {
        sys::unlink(o.m("f")).works();
        sys::stat(o.m("f")).fails(Errno::NOENT);
        sys::write_file(o.m("f"), i.to_string()).works();
        assert_text(o.m("f"), &i.to_string());
    }
}

fn removed_directory_refuses(t: &T) {
    let o = lower(t);
    sys::mkdir(o.m("new"), 0o755).works();
    for n in ["new", "empty"] {
        let fd = sys::open(o.m(n), OFlags::PATH | OFlags::DIRECTORY).works();
        sys::rmdir(o.m(n)).works();
        let at = sys::fd_path(&fd);
        sys::mkdir(at.join("x"), 0o755).fails(Errno::NOENT);
        sys::write_file(at.join("x"), "x").fails(Errno::NOENT);
        sys::stat(at.join("x")).fails(Errno::NOENT);
    }
}

/// What can be done with open objects that have lost their names.
fn change_removed(fd: &OwnedFd) -> Vec<String> {
    let mut done = Vec::new();
    let mut tell = |what: &str, r: sys::Res<()>| {
        let how = r.err().map(|e| sys::errno_name(e.errno));
        done.push(format!("{what}: {how:?}"));
    };
    tell("chmod", sys::fchmod(fd, 0o700));
    tell("chown", sys::fchown(fd, 12, 34));
    tell("times", sys::futimens(fd, &sys::times((5, 50), (6, 60))));
    tell("xattr", sys::fset_xattr(fd, "trusted.x", b"y"));
    done.push(remains(fd));
    done
}

fn remains(fd: &OwnedFd) -> String {
    let st = sys::fstat(fd).works();
    format!(
        "mode {:o} owner {}:{} atime {}.{:09} mtime {}.{:09} nlink {}",
        st.st_mode,
        st.st_uid,
        st.st_gid,
        st.st_atime,
        st.st_atime_nsec,
        st.st_mtime,
        st.st_mtime_nsec,
        st.st_nlink
    )
}

/// Opens, removes and changes an object of each kind in `at`.
fn remove_and_change(at: &std::path::Path) -> Vec<String> {
    let mut done = Vec::new();
    let open = |n: &str, flags: OFlags| {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        sys::open(at.join(n), flags).works()
    };
    let dir = open("empty", OFlags::RDONLY | OFlags::DIRECTORY);
    let fifo = open("p", OFlags::RDWR);
    let link = open("s", OFlags::PATH);
    sys::rmdir(at.join("empty")).works();
    sys::unlink(at.join("p")).works();
    sys::unlink(at.join("s")).works();
    done.extend(change_removed(&dir));
    done.extend(change_removed(&fifo));
    let chown = sys::chown_opath(&link, 12, 34);
    done.push(format!(
        "{:?}",
        chown.err().map(|e| sys::errno_name(e.errno))
    ));
    let st = sys::fstat(&link).works();
    done.push(format!("{}:{} nlink {}", st.st_uid, st.st_gid, st.st_nlink));
    done
}

fn removed_objects_can_be_changed(t: &T) {
    t.better_than_overlay("it has ENOENT for what was never copied up");
    let fill = |l: &Tree| {
        l.dir("empty").fifo("p").symlink("s", "f");
    };
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    let o = t.stack().lower(fill).mount();
    assert_eq!(remove_and_change(&o.m("/")), remove_and_change(&plain));
    for n in ["empty", "p", "s"] {
        assert_whiteout(o.u(n));
    }
    assert_names(o.m("/"), &[]);
}

/// The same where another object has taken the name.
fn removed_objects_can_be_changed_replaced(t: &T) {
    t.better_than_overlay("it has ENOENT for what was never copied up");
    let fill = |l: &Tree| {
        l.dir("d").dir("e").fifo("p").file("g", "g");
    };
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").fifo("p").file("g", "g");
        })
        .upper(|u| {
            u.dir("e");
        })
        .mount();
    let run = |at: &std::path::Path| {
        let dir = sys::open(at.join("d"), OFlags::RDONLY | OFlags::DIRECTORY).works();
        let fifo = sys::open(at.join("p"), OFlags::RDWR | OFlags::NONBLOCK).works();
        sys::rename(at.join("e"), at.join("d")).works();
        sys::rename(at.join("g"), at.join("p")).works();
        let mut done = change_removed(&dir);
        done.extend(change_removed(&fifo));
        done
    };
    assert_eq!(run(&o.m("/")), run(&plain));
    assert_text(o.m("p"), "g");
    assert_names(o.m("d"), &[]);
    assert_eq!(sys::mode_of(&sys::stat(o.m("d")).works()), 0o755);
}

/// An upper file system without RENAME_WHITEOUT: programs copy instead.
fn rename_whiteout_missing(t: &T) {
    if t.variant.upper != Fs::Jfs {
        t.skip("this file system has RENAME_WHITEOUT");
    }
    let o = lower(t);
    let fc = o.context().works();
    o.umount();
    fc.create().works();
    let log = fc.log().join("\n");
    drop(fc);
    o.mount().works();
    sys::append_file(o.m("g"), "+").works();
    sys::rename(o.m("g"), o.m("h")).fails_any(&[Errno::XDEV, Errno::INVAL]);
    t.better_than_overlay("it fails with EINVAL");
    assert!(log.contains("RENAME_WHITEOUT"), "{log}");
    sys::rename(o.m("f"), o.m("h")).fails(Errno::XDEV);
    assert!(!sys::exists(o.u("f")), "copied up for a rename that fails");
    sys::run("mv", &[o.m("f").as_os_str(), o.m("h").as_os_str()]);
    assert_text(o.m("h"), "lower f");
    assert_whiteout(o.u("f"));
    sys::write_file(o.m("new"), "n").works();
    sys::rename(o.m("new"), o.m("h")).works();
    assert_text(o.m("h"), "n");
}

fn tmpfile_not_supported(t: &T) {
    if t.variant.upper != Fs::Jfs {
        t.skip("this file system has ->tmpfile");
    }
    let o = lower(t);
    tmpfile(&o, "/", OFlags::empty()).fails(Errno::OPNOTSUPP);
    tmpfile(&o, "d", OFlags::empty()).fails(Errno::OPNOTSUPP);
    assert!(!sys::exists(o.u("d")), "copied up for nothing");
}

fn working_directory(t: &T) {
    let o = lower(t);
    std::env::set_current_dir(o.m("d/sub")).expect("chdir");
    sys::write_file("new", "n").works();
    sys::unlink("x").works();
    assert_names(".", &["new"]);
    assert_text("../a", "a");
    assert_eq!(std::env::current_dir().expect("getcwd"), o.m("d/sub"));
    std::env::set_current_dir("/").expect("chdir");
}

/// However whiteouts are made (one inode with many names, or one each):
/// removing one name leaves the others.
fn whiteouts_are_shared_or_not_but_right(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..10 {
                l.file(format!("f{i}"), "x");
            }
        })
        .mount();
    for i in 0..10 {
        sys::unlink(o.m(format!("f{i}"))).works();
    }
    for i in 0..5 {
        sys::write_file(o.m(format!("f{i}")), "new").works();
    }
    for i in 5..10 {
        assert_whiteout(o.u(format!("f{i}")));
    }
    assert_names(o.m("/"), &["f0", "f1", "f2", "f3", "f4"]);
}

/// The last name of the last whiteout goes, and with it its inode: a file without a name
/// that is held keeps a filesystem from being remounted read-only.
fn no_whiteout_is_held(t: &T) {
    t.better_than_overlay("it keeps one in the work directory");
    let o = lower(t);
    let free = || rustix::fs::statvfs(o.u("/")).expect("statvfs").f_ffree;
    let before = free();
    sys::unlink(o.m("f")).works();
    assert_eq!(before - free(), 1, "a whiteout");
    sys::unlink(o.m("g")).works();
    assert_eq!(before - free(), 1, "another name of it");
    assert_eq!(sys::stat(o.u("f")).works().st_nlink, 2);
    sys::write_file(o.m("f"), "new").works();
    assert_eq!(before - free(), 2, "a file over one");
    sys::write_file(o.m("g"), "new").works();
    assert_eq!(before - free(), 2, "and one over the other");
    o.assert_no_strays();
    sys::unlink(o.m("f")).works();
    assert_eq!(before - free(), 2, "a whiteout over the file");
    sys::rename(o.m("g"), o.m("f")).works();
    assert_whiteout(o.u("g"));
    assert_eq!(before - free(), 2, "a file and a whiteout");
}

/// A directory that has been removed, with the whiteouts in it, is not held either.
fn no_removed_directory_is_held(t: &T) {
    let own = t.own_fs(crate::env::Fs::Ext4, 32);
    let o = t
        .stack()
        .lower(|l| {
            for name in ["d/a", "d/b", "d/sub/c", "e/a", "e/b", "f"] {
                l.file(name, "x");
            }
        })
        .upper_in(&own.at)
        .mount();
    let flip = || {
        use rustix::mount::MountFlags;
        sys::remount(&own.at, MountFlags::RDONLY, "").works();
        sys::remount(&own.at, MountFlags::empty(), "").works();
    };
    sys::unlink(o.m("f")).works();
    flip();
    std::fs::remove_dir_all(o.m("d")).expect("rm -r");
    flip();
    assert_whiteout(o.u("d"));
    // Whiteouts in a directory that another takes the place of.
    for name in ["e/a", "e/b"] {
        sys::unlink(o.m(name)).works();
    }
    sys::mkdir(o.m("new"), 0o755).works();
    sys::rename(o.m("new"), o.m("e")).works();
    flip();
    sys::write_file(o.m("f"), "over a whiteout").works();
    flip();
    o.finish();
    own.umount_and_check();
    o.work_not_checked();
}

fn after_remount_the_same(t: &T) {
    use crate::tree::{assert_same, Take};
    let o = lower(t);
    sys::rename(o.m("f"), o.m("d/f")).works();
    sys::unlink(o.m("d/a")).works();
    std::fs::remove_dir_all(o.m("d/sub")).expect("rm -r");
    sys::mkdir(o.m("d/sub"), 0o700).works();
    sys::symlink("y", o.m("d/sub/x")).works();
    sys::rmdir(o.m("empty")).works();
    sys::write_file(o.m("empty"), "now a file").works();
    sys::link(o.m("g"), o.m("d/g")).works();
    let before = o.snapshot(Take::ALL);
    o.remount();
    assert_same("before and after", &before, &o.snapshot(Take::ALL));
}
