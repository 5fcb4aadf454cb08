// SPDX-License-Identifier: GPL-2.0

//! Copy-up of everything, by every way in: what the copy is like.

// Tests of the races have the names of their rows in the table: `R1_...`.
#[allow(non_snake_case)]
mod copiers;
mod detached;
mod failures;
#[allow(non_snake_case)]
mod freeze;
pub mod kills;
mod links;
mod mapped;
#[allow(non_snake_case)]
mod names;
mod old_fds;
mod ops;
mod power;
#[allow(non_snake_case)]
mod readers;
mod signals;
mod sizes;
pub mod ways;

use std::os::fd::OwnedFd;

use rustix::fs::SeekFrom;

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FallocateFlags, FileType, IFlags, OFlags, Stat};
use crate::tree::{assert_names, assert_same, assert_text, pattern, Take};

pub fn tests() -> Vec<Test> {
    [
        of_the_copy(),
        names::tests(),
        copiers::tests(),
        readers::tests(),
        freeze::tests(),
        links::tests(),
        sizes::tests(),
        mapped::tests(),
        failures::tests(),
        kills::tests(),
        signals::tests(),
        power::tests(),
        detached::tests(),
        old_fds::tests(),
    ]
    .concat()
}

fn of_the_copy() -> Vec<Test> {
    vec![
        test!(sizes).matrix().uppers(&NO_TMPFILE),
        test!(large_file).matrix().uppers(&NO_TMPFILE),
        test!(holes_stay_holes).matrix().uppers(&NO_TMPFILE),
        test!(big_sparse_file)
            .matrix()
            .uppers(&NO_TMPFILE)
            .not_on(&NOT_SPARSE),
        test!(hole_at_either_end),
        test!(preallocated_space_is_no_data),
        test!(open_for_write_copies),
        test!(open_truncate_keeps_owner_and_mode),
        test!(open_read_only_does_not_copy),
        test!(open_for_write_that_fails_does_not_copy),
        test!(append),
        test!(chmod_copies).matrix().uppers(&NO_TMPFILE),
        test!(chown_copies),
        test!(chown_drops_suid),
        test!(utimens_copies),
        test!(truncate_copies),
        test!(truncate_grows),
        test!(setxattr_and_removexattr_copy)
            .matrix()
            .uppers(&NO_TMPFILE),
        test!(setxattr_that_fails),
        test!(acl_on_file)
            .matrix()
            .uppers(&NO_TMPFILE)
            .not_on(&NO_ACL),
        test!(acl_default_of_directory)
            .matrix()
            .uppers(&NO_TMPFILE)
            .not_on(&NO_ACL),
        test!(acl_set_copies),
        test!(link_copies),
        test!(rename_copies),
        test!(fd_fchmod_copies),
        test!(times_to_the_nanosecond).matrix().uppers(&NO_TMPFILE),
        test!(write_changes_mtime_and_clears_suid),
        test!(mode_bits).matrix().uppers(&NO_TMPFILE),
        test!(owner).matrix().uppers(&NO_TMPFILE),
        test!(xattrs_of_all_kinds).matrix().uppers(&NO_TMPFILE),
        test!(large_xattr),
        test!(capabilities_survive_metadata_changes),
        test!(inode_flags),
        test!(immutable_and_append_refuse),
        test!(immutable_refuses_what_was_open_before),
        test!(set_inode_flags_through_the_overlay),
        test!(directory_with_everything)
            .matrix()
            .uppers(&NO_TMPFILE),
        test!(ancestors_first).matrix().uppers(&NO_TMPFILE),
        test!(ancestors_across_layers),
        test!(symlink_with_owner_and_xattr)
            .matrix()
            .uppers(&NO_TMPFILE),
        test!(long_symlink),
        test!(special_files).matrix().uppers(&NO_TMPFILE),
        test!(special_file_chmod),
        test!(hard_links_are_broken),
        test!(private_xattrs_hidden),
        test!(private_xattrs_escaped),
        test!(private_xattrs_of_lower_not_copied),
        test!(lower_kept_after_many_changes),
        test!(copies_only_once),
        test!(copy_of_file_in_opaque_directory),
        test!(shared_subdirectory_keeps_merging),
        test!(copy_then_remount).matrix().uppers(&NO_TMPFILE),
        test!(setgid_directory_ancestor),
        test!(unreadable_mode_still_copied),
        test!(root_attributes),
        test!(nested_overlay),
    ]
}

/// Upper file systems on which a copy has a temporary name before its own.
const NO_TMPFILE: [Fs; 2] = [Fs::Jfs, Fs::NoTmpfile];
/// The makers of images would write out a huge sparse file.
/// And jfs does not tell where its holes are.
const NOT_SPARSE: [Fs; 3] = [Fs::Erofs, Fs::Squashfs, Fs::Jfs];
/// Squashfs stores no POSIX ACLs.
const NO_ACL: [Fs; 1] = [Fs::Squashfs];

fn rw(path: impl AsRef<std::path::Path>) -> OwnedFd {
    sys::open(path, OFlags::RDWR).works()
}

fn sizes(t: &T) {
    let sizes = [0, 1, 4095, 4096, 4097, 65536, 100_000];
    let o = t
        .stack()
        .lower(|l| {
            for s in sizes {
                l.file(format!("f{s}"), pattern(s, s as u64));
            }
        })
        .mount();
    for s in sizes {
        let name = format!("f{s}");
        let fd = rw(o.m(&name));
        let want = pattern(s, s as u64);
        assert_eq!(sys::read_file(o.u(&name)).works(), want, "upper {name}");
        assert_eq!(sys::read_rest(&fd).works(), want, "merged {name}");
        sys::pwrite(&fd, "!", s as u64).works();
        assert_eq!(sys::lstat(o.u(&name)).works().st_size as usize, s + 1);
    }
}

fn large_file(t: &T) {
    let size = t.scaled(16 << 20, 1 << 20) + 1;
    let data = pattern(size, 7);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", &data);
        })
        .mount();
    let fd = rw(o.m("f"));
    sys::pwrite(&fd, "X", size as u64 / 2).works();
    drop(fd);
    let mut want = data;
    want[size / 2] = b'X';
    assert!(sys::read_file(o.u("f")).works() == want, "upper differs");
    assert!(sys::read_file(o.m("f")).works() == want, "merged differs");
}

/// Where the data is: (start, end) of each extent.
fn extents(path: impl AsRef<std::path::Path>) -> Vec<(u64, u64)> {
    let fd = sys::open(path, OFlags::RDONLY).works();
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let start = match sys::seek(&fd, SeekFrom::Data(at)) {
            Ok(s) => s,
            Err(e) if e.errno == Errno::NXIO => return out,
            Err(e) => panic!("{e:?}"),
        };
        at = sys::seek(&fd, SeekFrom::Hole(start)).works();
        out.push((start, at));
    }
}

const MIB: u64 = 1 << 20;

fn sparse(l: &crate::tree::Tree, name: &str, size: u64, data: &[u64]) {
    l.file(name, "");
    let fd = rw(l.at(name));
    sys::ftruncate(&fd, size).works();
    for at in data {
        sys::pwrite(&fd, pattern(65536, *at), *at).works();
    }
    sys::fsync(&fd).works();
}

/// The copy has no more data than the original has, as far as the original's
/// file system tells where its holes are.
fn assert_as_sparse(t: &T, o: &Overlay, name: &str) {
    let fd = sys::open(o.u(name), OFlags::RDONLY).works();
    sys::fsync(&fd).works();
    let total = |e: &[(u64, u64)]| e.iter().map(|(a, b)| b - a).sum::<u64>();
    let (lower, upper) = (extents(o.l(0, name)), extents(o.u(name)));
    // Overlayfs looks for holes once in a MiB.
    let unit = if t.is_overlay() { MIB } else { 65536 };
    let limit = total(&lower) + lower.len() as u64 * unit;
    assert!(
        total(&upper) <= limit,
        "{name}: data at {upper:?}, in the original at {lower:?}"
    );
    // Space allocated ahead is no data, and xfs does much of that.
    if t.variant.upper != Fs::Xfs {
        let blocks = sys::lstat(o.u(name)).works().st_blocks as u64;
        assert!(
            blocks * 512 <= limit,
            "{name}: {blocks} blocks, data in the original at {lower:?}"
        );
    }
}

fn holes_stay_holes(t: &T) {
    let o = t
        .stack()
        .lower(|l| sparse(l, "f", 8 * MIB, &[0, 3 * MIB, 6 * MIB]))
        .mount();
    drop(rw(o.m("f")));
    assert_as_sparse(t, &o, "f");
    let fd = sys::open(o.u("f"), OFlags::RDONLY).works();
    assert_eq!(sys::fstat(&fd).works().st_size as u64, 8 * MIB);
    for at in [0, 3 * MIB, 6 * MIB] {
        assert_eq!(sys::pread(&fd, 65536, at).works(), pattern(65536, at));
    }
    let holes = sys::pread(&fd, MIB as usize, MIB).works();
    assert!(holes.iter().all(|b| *b == 0), "the hole has data");
    let (a, b) = (
        sys::read_file(o.l(0, "f")).works(),
        sys::read_file(o.u("f")).works(),
    );
    assert!(a == b, "contents differ");
}

fn big_sparse_file(t: &T) {
    let size = 40 << 30;
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| sparse(l, "f", size, &[20 << 30]))
        .mount();
    sys::chmod(o.m("f"), 0o600).works();
    assert_as_sparse(t, &o, "f");
    assert_eq!(sys::lstat(o.u("f")).works().st_size as u64, size);
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    assert_eq!(
        sys::pread(&fd, 65536, 20 << 30).works(),
        pattern(65536, 20 << 30)
    );
}

fn hole_at_either_end(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            sparse(l, "front", 4 * MIB, &[4 * MIB - 65536]);
            sparse(l, "back", 4 * MIB + 123, &[0]);
            sparse(l, "empty", 4 * MIB + 1, &[]);
        })
        .mount();
    for name in ["front", "back", "empty"] {
        sys::chmod(o.m(name), 0o600).works();
        let (l, u) = (o.l(0, name), o.u(name));
        let (a, b) = (sys::read_file(l).works(), sys::read_file(u).works());
        assert!(a == b, "{name} differs");
        assert_as_sparse(t, &o, name);
    }
}

fn preallocated_space_is_no_data(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "");
            let fd = rw(l.at("f"));
            sys::fallocate(&fd, FallocateFlags::empty(), 0, 4 * MIB).works();
            sys::pwrite(&fd, "data", MIB).works();
            sys::fsync(&fd).works();
        })
        .mount();
    sys::chmod(o.m("f"), 0o600).works();
    let (a, b) = (
        sys::read_file(o.l(0, "f")).works(),
        sys::read_file(o.u("f")).works(),
    );
    assert!(a == b, "contents differ");
}

fn open_for_write_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for n in ["w", "rw", "a"] {
                l.file(n, "old");
            }
        })
        .mount();
    for (n, flags) in [
        ("w", OFlags::WRONLY),
        ("rw", OFlags::RDWR),
        ("a", OFlags::WRONLY | OFlags::APPEND),
    ] {
        let fd = sys::open(o.m(n), flags).works();
        sys::write(&fd, "new").works();
        drop(fd);
        let want = if n == "a" { "oldnew" } else { "new" };
        assert_text(o.u(n), want);
        assert_text(o.m(n), want);
        assert_text(o.l(0, n), "old");
    }
}

fn open_truncate_keeps_owner_and_mode(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "old contents")
                .owner("f", 7, 8)
                .mode("f", 0o640);
            l.xattr("f", "user.x", "y");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::WRONLY | OFlags::TRUNC).works();
    assert_eq!(sys::fstat(&fd).works().st_size, 0);
    drop(fd);
    let st = sys::lstat(o.u("f")).works();
    assert_eq!(st.st_size, 0);
    assert_eq!((st.st_uid, st.st_gid), (7, 8));
    assert_eq!(sys::mode_of(&st), 0o640);
    assert_eq!(sys::get_xattr(o.m("f"), "user.x").works(), b"y");
}

fn open_read_only_does_not_copy(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "x");
        })
        .mount();
    sys::read_file(o.m("d/f")).works();
    drop(sys::open(o.m("d/f"), OFlags::PATH).works());
    sys::access(o.m("d/f"), sys::Access::WRITE_OK).works();
    sys::names(o.m("d")).works();
    let fd = sys::open(o.m("d/f"), OFlags::RDONLY).works();
    sys::fsync(&fd).works();
    assert_names(o.u("/"), &[]);
}

fn open_for_write_that_fails_does_not_copy(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "x").file("d/g", "x");
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::open(o.m("d/f"), OFlags::RDWR).fails(Errno::ACCESS);
        sys::chmod(o.m("d/f"), 0o777).fails(Errno::PERM);
        sys::truncate(o.m("d/f"), 0).fails(Errno::ACCESS);
        sys::set_xattr(o.m("d/f"), "user.x", "y").fails(Errno::ACCESS);
        sys::rename(o.m("d/f"), o.m("d/h")).fails(Errno::ACCESS);
        sys::unlink(o.m("d/f")).fails(Errno::ACCESS);
    });
    sys::open(o.m("d/f"), OFlags::RDWR | OFlags::DIRECTORY).fails(Errno::NOTDIR);
    let excl = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    sys::open(o.m("d/g"), excl).fails(Errno::EXIST);
    assert_names(o.u("/"), &[]);
}

fn append(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("log", "one\n");
        })
        .mount();
    let a = sys::open(o.m("log"), OFlags::WRONLY | OFlags::APPEND).works();
    let b = sys::open(o.m("log"), OFlags::WRONLY | OFlags::APPEND).works();
    sys::write(&a, "two\n").works();
    sys::write(&b, "three\n").works();
    sys::write(&a, "four\n").works();
    assert_text(o.m("log"), "one\ntwo\nthree\nfour\n");
}

fn chmod_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "contents");
        })
        .mount();
    sys::chmod(o.m("d/f"), 0o4711).works();
    assert_eq!(sys::mode_of(&sys::stat(o.m("d/f")).works()), 0o4711);
    assert_eq!(sys::mode_of(&sys::stat(o.u("d/f")).works()), 0o4711);
    assert_text(o.u("d/f"), "contents");
    sys::chmod(o.m("d"), 0o1777).works();
    assert_eq!(sys::mode_of(&sys::stat(o.m("d")).works()), 0o1777);
    assert_names(o.m("d"), &["f"]);
}

fn chown_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "contents").dir("d").symlink("s", "f");
        })
        .mount();
    for n in ["f", "d", "s"] {
        sys::lchown(o.m(n), 5, 6).works();
        for p in [o.m(n), o.u(n)] {
            let st = sys::lstat(p).works();
            assert_eq!((st.st_uid, st.st_gid), (5, 6), "{n}");
        }
    }
    assert_text(o.u("f"), "contents");
    assert_eq!(sys::readlink(o.u("s")).works(), "f");
}

fn chown_drops_suid(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").mode("f", 0o6755);
            l.file("noexec_group", "x").mode("noexec_group", 0o2644);
        })
        .mount();
    sys::lchown(o.m("f"), 5, 6).works();
    assert_eq!(sys::mode_of(&sys::stat(o.m("f")).works()), 0o755);
    assert_eq!(sys::mode_of(&sys::stat(o.u("f")).works()), 0o755);
    sys::lchown(o.m("noexec_group"), 5, 6).works();
    // What a plain file system does is right here, too.
    let plain = t.new_dir("plain").join("f");
    sys::write_file(&plain, "x").works();
    sys::chmod(&plain, 0o2644).works();
    sys::lchown(&plain, 5, 6).works();
    assert_eq!(
        sys::mode_of(&sys::stat(o.m("noexec_group")).works()),
        sys::mode_of(&sys::stat(&plain).works())
    );
}

fn utimens_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").symlink("s", "nowhere").dir("d");
        })
        .mount();
    for n in ["f", "s", "d"] {
        sys::set_times(o.m(n), (111, 222_333_444), (555, 666_777_888)).works();
        let st = sys::lstat(o.u(n)).works();
        assert_eq!((st.st_mtime, st.st_mtime_nsec), (555, 666_777_888), "{n}");
        assert_eq!((st.st_atime, st.st_atime_nsec), (111, 222_333_444), "{n}");
        let st = sys::lstat(o.m(n)).works();
        assert_eq!((st.st_mtime, st.st_mtime_nsec), (555, 666_777_888), "{n}");
    }
}

fn truncate_copies(t: &T) {
    let data = pattern(100_000, 3);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", &data).file("zero", &data).file("same", &data);
        })
        .mount();
    sys::truncate(o.m("f"), 5000).works();
    assert_eq!(sys::read_file(o.m("f")).works(), data[..5000]);
    assert_eq!(sys::read_file(o.u("f")).works(), data[..5000]);
    sys::truncate(o.m("zero"), 0).works();
    assert_eq!(sys::stat(o.m("zero")).works().st_size, 0);
    sys::truncate(o.m("same"), 100_000).works();
    assert_eq!(sys::read_file(o.u("same")).works(), data);
    sys::truncate(o.m("/"), 0).fails(Errno::ISDIR);
}

fn truncate_grows(t: &T) {
    let data = pattern(5000, 3);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", &data);
        })
        .mount();
    sys::truncate(o.m("f"), 20_000).works();
    let mut want = data;
    want.resize(20_000, 0);
    assert_eq!(sys::read_file(o.m("f")).works(), want);
    assert_eq!(sys::read_file(o.u("f")).works(), want);
}

fn setxattr_and_removexattr_copy(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("set", "data").file("remove", "data").dir("d");
            l.xattr("remove", "user.a", "1")
                .xattr("remove", "user.b", "2");
        })
        .mount();
    sys::set_xattr(o.m("set"), "user.new", "value").works();
    assert_eq!(sys::get_xattr(o.u("set"), "user.new").works(), b"value");
    assert_text(o.u("set"), "data");
    sys::remove_xattr(o.m("remove"), "user.a").works();
    sys::get_xattr(o.m("remove"), "user.a").fails(Errno::NODATA);
    sys::get_xattr(o.u("remove"), "user.a").fails(Errno::NODATA);
    assert_eq!(sys::get_xattr(o.m("remove"), "user.b").works(), b"2");
    assert_text(o.u("remove"), "data");
    sys::set_xattr(o.m("d"), "trusted.t", "t").works();
    assert_eq!(sys::get_xattr(o.u("d"), "trusted.t").works(), b"t");
    assert_eq!(
        sys::get_xattr(o.l(0, "remove"), "user.a").works(),
        b"1",
        "lower"
    );
}

fn setxattr_that_fails(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "data").xattr("f", "user.a", "1");
            l.symlink("s", "f");
        })
        .mount();
    let create = sys::XattrFlags::CREATE;
    let replace = sys::XattrFlags::REPLACE;
    sys::set_xattr_flags(o.m("f"), "user.a", b"2", create).fails(Errno::EXIST);
    sys::set_xattr_flags(o.m("f"), "user.b", b"2", replace).fails(Errno::NODATA);
    sys::remove_xattr(o.m("f"), "user.none").fails(Errno::NODATA);
    sys::set_xattr(o.m("s"), "user.x", "1").fails(Errno::PERM);
    sys::get_xattr(o.m("f"), "user.none").fails(Errno::NODATA);
    sys::set_xattr(o.m("f"), "nonsense.x", "1").fails(Errno::OPNOTSUPP);
    assert_eq!(sys::get_xattr(o.m("f"), "user.a").works(), b"1");
    assert_text(o.m("f"), "data");
}

const ACCESS_ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

/// An ACL as the xattr has it: version 2, then (tag, permissions, id).
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

/// rw- for the owner and user `uid`, nothing for the others.
pub fn acl_for(uid: u32) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    acl(&[
        (0x01, 6, NONE),
        (0x02, 6, uid),
        (0x04, 0, NONE),
        (0x10, 6, NONE),
        (0x20, 0, NONE),
    ])
}

fn acl_on_file(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "data").xattr("f", ACCESS_ACL, acl_for(1234));
        })
        .mount();
    let check = |p| assert_eq!(sys::get_xattr(p, ACCESS_ACL).works(), acl_for(1234));
    check(o.m("f"));
    t.as_user(1234, 1234, || assert_text(o.m("f"), "data"));
    t.as_user(1235, 1235, || {
        sys::read_file(o.m("f")).fails(Errno::ACCESS);
    });
    sys::append_file(o.m("f"), "+").works();
    check(o.m("f"));
    check(o.u("f"));
    t.as_user(1234, 1234, || sys::append_file(o.m("f"), "u").works());
    t.as_user(1235, 1235, || {
        sys::read_file(o.m("f")).fails(Errno::ACCESS);
    });
    assert_text(o.u("f"), "data+u");
    sys::chmod(o.m("f"), 0o600).works();
    t.as_user(1234, 1234, || {
        sys::read_file(o.m("f")).fails(Errno::ACCESS);
    });
}

fn acl_default_of_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/old", "x").xattr("d", DEFAULT_ACL, acl_for(1234));
        })
        .mount();
    sys::write_file(o.m("d/new"), "x").works();
    sys::mkdir(o.m("d/sub"), 0o777).works();
    assert_eq!(sys::get_xattr(o.u("d"), DEFAULT_ACL).works(), acl_for(1234));
    assert_eq!(
        sys::get_xattr(o.m("d/sub"), DEFAULT_ACL).works(),
        acl_for(1234)
    );
    sys::get_xattr(o.m("d/new"), ACCESS_ACL).works();
    t.as_user(1234, 1234, || assert_text(o.m("d/new"), "x"));
    t.as_user(1235, 1235, || {
        sys::read_file(o.m("d/new")).fails(Errno::ACCESS);
    });
    // What was there before gets nothing from the directory.
    sys::append_file(o.m("d/old"), "+").works();
    sys::get_xattr(o.u("d/old"), ACCESS_ACL).fails(Errno::NODATA);
    let st = sys::stat(o.u("d/old")).works();
    assert_eq!(sys::mode_of(&st), 0o644);
}

fn acl_set_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "data").mode("f", 0o600);
            l.dir("d");
        })
        .mount();
    t.as_user(1234, 1234, || {
        sys::read_file(o.m("f")).fails(Errno::ACCESS);
    });
    sys::set_xattr(o.m("f"), ACCESS_ACL, acl_for(1234)).works();
    t.as_user(1234, 1234, || assert_text(o.m("f"), "data"));
    assert_eq!(sys::get_xattr(o.u("f"), ACCESS_ACL).works(), acl_for(1234));
    assert_text(o.u("f"), "data");
    sys::set_xattr(o.m("d"), DEFAULT_ACL, acl_for(1234)).works();
    assert_eq!(sys::get_xattr(o.u("d"), DEFAULT_ACL).works(), acl_for(1234));
    sys::remove_xattr(o.m("f"), ACCESS_ACL).works();
    sys::get_xattr(o.m("f"), ACCESS_ACL).fails(Errno::NODATA);
    t.as_user(1234, 1234, || {
        sys::set_xattr(o.m("f"), ACCESS_ACL, acl_for(1234)).fails(Errno::PERM);
    });
}

fn link_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "data");
        })
        .mount();
    sys::link(o.m("d/f"), o.m("new")).works();
    let (a, b) = (sys::stat(o.m("d/f")).works(), sys::stat(o.m("new")).works());
    assert_eq!(a.st_ino, b.st_ino);
    assert_eq!((a.st_nlink, b.st_nlink), (2, 2));
    let (a, b) = (sys::stat(o.u("d/f")).works(), sys::stat(o.u("new")).works());
    assert_eq!(a.st_ino, b.st_ino, "two copies instead of a link");
    sys::append_file(o.m("new"), "+").works();
    assert_text(o.m("d/f"), "data+");
}

fn rename_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "data").owner("d/f", 3, 4).dir("e");
        })
        .mount();
    sys::rename(o.m("d/f"), o.m("e/g")).works();
    sys::stat(o.m("d/f")).fails(Errno::NOENT);
    assert_text(o.u("e/g"), "data");
    let st = sys::stat(o.m("e/g")).works();
    assert_eq!((st.st_uid, st.st_gid), (3, 4));
    crate::tree::assert_whiteout(o.u("d/f"));
    o.remount();
    assert_text(o.m("e/g"), "data");
    sys::stat(o.m("d/f")).fails(Errno::NOENT);
}

fn fd_fchmod_copies(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "data");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::fchmod(&fd, 0o600).works();
    assert_eq!(sys::mode_of(&sys::fstat(&fd).works()), 0o600);
    assert_eq!(sys::mode_of(&sys::stat(o.u("f")).works()), 0o600);
    assert_eq!(sys::read_rest(&fd).works(), b"data");
}

fn times_of(st: &Stat) -> [(i64, u64); 2] {
    [
        (st.st_atime, st.st_atime_nsec),
        (st.st_mtime, st.st_mtime_nsec),
    ]
}

fn times_to_the_nanosecond(t: &T) {
    // Images keep whole seconds of mtime, and no atime of their own.
    let image = t.variant.lower.is_image();
    let (a, m) = if image {
        ((2000, 0), (2000, 0))
    } else {
        ((1_000_000_001, 123_456_789), (2_000_000_002, 987_654_321))
    };
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "data").symlink("d/s", "x").fifo("d/p");
            for n in ["d/f", "d/s", "d/p", "d"] {
                l.times(n, a, m);
            }
        })
        .mount();
    let names = ["d/f", "d/s", "d/p"];
    for n in names {
        let before = sys::lstat(o.m(n)).works();
        sys::lchown(o.m(n), 1, 1).works();
        let copy = sys::lstat(o.u(n)).works();
        assert_eq!(times_of(&copy), times_of(&before), "{n}");
        let want = (m.0, m.1 as u64);
        assert_eq!((copy.st_mtime, copy.st_mtime_nsec), want, "{n}");
    }
    // The directory had been copied before its entries were.
    let d = sys::lstat(o.u("d")).works();
    assert_eq!(
        (d.st_mtime, d.st_mtime_nsec),
        (m.0, m.1 as u64),
        "mtime of d"
    );
}

fn write_changes_mtime_and_clears_suid(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "data").times("f", (1000, 0), (1000, 0));
            l.mode("f", 0o6777);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::append_file(o.m("f"), "+").works();
    });
    let st = sys::stat(o.m("f")).works();
    assert!(st.st_mtime > 1000, "mtime did not change");
    assert_eq!(sys::mode_of(&st), 0o777, "suid and sgid after a write");
    assert_eq!(sys::mode_of(&sys::stat(o.u("f")).works()), 0o777);
}

fn mode_bits(t: &T) {
    let modes = [0, 0o400, 0o4755, 0o2755, 0o1777, 0o7777, 0o644];
    let o = t
        .stack()
        .lower(|l| {
            for m in modes {
                l.file(format!("f{m:o}"), "x").mode(&format!("f{m:o}"), m);
                l.file(format!("d{m:o}/x"), "x").mode(&format!("d{m:o}"), m);
            }
        })
        .mount();
    for m in modes {
        let (f, d) = (format!("f{m:o}"), format!("d{m:o}"));
        sys::set_xattr(o.m(&f), "user.touch", "1").works();
        sys::set_xattr(o.m(&d), "user.touch", "1").works();
        for n in [f, d] {
            assert_eq!(sys::mode_of(&sys::stat(o.u(&n)).works()), m, "{n}");
            assert_eq!(sys::mode_of(&sys::stat(o.m(&n)).works()), m, "{n}");
        }
    }
}

fn owner(t: &T) {
    let owners = [(0, 0), (1, 2), (65534, 65534), (100_000, 200_000)];
    let o = t
        .stack()
        .lower(|l| {
            for (u, g) in owners {
                let n = format!("f{u}");
                l.file(&n, "x").owner(&n, u, g).mode(&n, 0o6755);
            }
        })
        .mount();
    for (u, g) in owners {
        let n = format!("f{u}");
        sys::set_times(o.m(&n), (1, 1), (1, 1)).works();
        for p in [o.m(&n), o.u(&n)] {
            let st = sys::stat(p).works();
            assert_eq!((st.st_uid, st.st_gid), (u, g));
            assert_eq!(sys::mode_of(&st), 0o6755, "chown cleared bits");
        }
    }
}

/// cap_net_raw+ep, as the xattr has it.
pub const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn xattrs_of_all_kinds(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
            l.xattr("f", "user.text", "value")
                .xattr("f", "user.empty", "");
            l.xattr("f", "user.binary", [0, 1, 2, 255]);
            l.xattr("f", "trusted.own", "t");
            l.xattr("f", "security.capability", CAPABILITY);
            l.dir("d")
                .xattr("d", "user.d", "d")
                .xattr("d", "trusted.d", "d");
        })
        .mount();
    let before = sys::list_xattr(o.m("f")).works();
    sys::chmod(o.m("f"), 0o755).works();
    sys::chmod(o.m("d"), 0o700).works();
    assert_eq!(sys::list_xattr(o.m("f")).works(), before);
    for p in [o.m("f"), o.u("f")] {
        assert_eq!(sys::get_xattr(&p, "user.text").works(), b"value");
        assert_eq!(sys::get_xattr(&p, "user.empty").works(), b"");
        assert_eq!(sys::get_xattr(&p, "user.binary").works(), [0, 1, 2, 255]);
        assert_eq!(sys::get_xattr(&p, "trusted.own").works(), b"t");
        assert_eq!(
            sys::get_xattr(&p, "security.capability").works(),
            CAPABILITY
        );
    }
    for p in [o.m("d"), o.u("d")] {
        assert_eq!(sys::get_xattr(&p, "user.d").works(), b"d");
        assert_eq!(sys::get_xattr(&p, "trusted.d").works(), b"d");
    }
}

fn large_xattr(t: &T) {
    let value = pattern(3000, 1);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").xattr("f", "user.large", &value);
            for i in 0..20 {
                l.xattr("f", &format!("user.{}{i}", "n".repeat(20)), "v");
            }
        })
        .mount();
    sys::append_file(o.m("f"), "+").works();
    assert_eq!(sys::get_xattr(o.u("f"), "user.large").works(), value);
    assert_eq!(sys::list_xattr(o.m("f")).works().len(), 21);
}

fn capabilities_survive_metadata_changes(t: &T) {
    const NAME: &str = "security.capability";
    let o = t
        .stack()
        .lower(|l| {
            for n in ["chmod", "write", "link"] {
                l.file(n, "x").xattr(n, NAME, CAPABILITY);
            }
        })
        .mount();
    sys::chmod(o.m("chmod"), 0o755).works();
    assert_eq!(sys::get_xattr(o.u("chmod"), NAME).works(), CAPABILITY);
    sys::link(o.m("link"), o.m("link2")).works();
    assert_eq!(sys::get_xattr(o.u("link2"), NAME).works(), CAPABILITY);
    // A write takes capabilities away, as on every file system.
    sys::append_file(o.m("write"), "+").works();
    sys::get_xattr(o.m("write"), NAME).fails(Errno::NODATA);
}

fn flags_of(path: impl AsRef<std::path::Path>) -> IFlags {
    let fd = sys::open(path, OFlags::RDONLY | OFlags::NONBLOCK).works();
    sys::get_flags(&fd).works()
}

fn inode_flags(t: &T) {
    let want = IFlags::NOATIME | IFlags::SYNC;
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").dir("d");
            for n in ["f", "d"] {
                let fd = sys::open(l.at(n), OFlags::RDONLY).works();
                let flags = sys::get_flags(&fd).works();
                sys::set_flags(&fd, flags | want).works();
            }
        })
        .mount();
    for n in ["f", "d"] {
        assert!(flags_of(o.m(n)).contains(want), "{n} before copy-up");
        sys::chmod(o.m(n), 0o700).works();
        assert!(flags_of(o.u(n)).contains(want), "copy of {n}");
        assert!(flags_of(o.m(n)).contains(want), "{n} after copy-up");
    }
}

fn set_lower_flags(o: &Overlay, name: &str, flags: IFlags) {
    let fd = sys::open(o.l(0, name), OFlags::RDONLY).works();
    let old = sys::get_flags(&fd).works() - (IFlags::IMMUTABLE | IFlags::APPEND);
    sys::set_flags(&fd, old | flags).works();
}

fn immutable_and_append_refuse(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("imm", "x").file("app", "x");
        })
        .prepare();
    set_lower_flags(&o, "imm", IFlags::IMMUTABLE);
    set_lower_flags(&o, "app", IFlags::APPEND);
    o.mount().works();
    sys::open(o.m("imm"), OFlags::RDWR).fails(Errno::PERM);
    sys::chmod(o.m("imm"), 0o600).fails(Errno::PERM);
    sys::unlink(o.m("imm")).fails(Errno::PERM);
    sys::rename(o.m("imm"), o.m("other")).fails(Errno::PERM);
    sys::link(o.m("imm"), o.m("other")).fails(Errno::PERM);
    sys::open(o.m("app"), OFlags::RDWR | OFlags::TRUNC).fails(Errno::PERM);
    sys::open(o.m("app"), OFlags::RDWR).fails(Errno::PERM);
    assert_text(o.m("imm"), "x");
    assert_text(o.m("app"), "x");
    sys::append_file(o.m("app"), "+").works();
    assert_text(o.m("app"), "x+");
    sys::unlink(o.m("app")).fails(Errno::PERM);
    o.umount();
    set_lower_flags(&o, "imm", IFlags::empty());
    set_lower_flags(&o, "app", IFlags::empty());
}

/// As on ext4. The upper file is not immutable itself, so nobody else refuses.
fn immutable_refuses_what_was_open_before(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "text");
        })
        .mount();
    t.better_than_overlay("it writes on");
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    let old = sys::get_flags(&fd).works();
    sys::set_flags(&fd, old | IFlags::IMMUTABLE).works();
    sys::pwrite(&fd, "x", 0).fails(Errno::PERM);
    sys::ftruncate(&fd, 0).fails(Errno::PERM);
    sys::fallocate(&fd, sys::FallocateFlags::empty(), 0, 100).fails(Errno::PERM);
    assert_text(o.m("f"), "text");
    sys::set_flags(&fd, old).works();
    sys::pwrite(&fd, "n", 0).works();
    assert_text(o.m("f"), "next");
}

fn set_inode_flags_through_the_overlay(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    let old = sys::get_flags(&fd).works();
    sys::set_flags(&fd, old | IFlags::IMMUTABLE).works();
    assert!(flags_of(o.m("f")).contains(IFlags::IMMUTABLE));
    sys::open(o.m("f"), OFlags::RDWR).fails(Errno::PERM);
    sys::unlink(o.m("f")).fails(Errno::PERM);
    drop(fd);
    o.remount();
    assert!(flags_of(o.m("f")).contains(IFlags::IMMUTABLE), "remounted");
    sys::open(o.m("f"), OFlags::RDWR).fails(Errno::PERM);
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::set_flags(&fd, old).works();
    sys::append_file(o.m("f"), "+").works();
    assert_text(o.m("f"), "x+");
}

fn directory_with_everything(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").mode("d", 0o2750).owner("d", 3, 4);
            l.xattr("d", "user.x", "y");
            l.times("d", (1000, 0), (2000, 0));
        })
        .mount();
    let before = sys::lstat(o.m("d")).works();
    sys::mkdir(o.m("d/new"), 0o755).works();
    let st = sys::lstat(o.u("d")).works();
    assert_eq!(sys::mode_of(&st), 0o2750);
    assert_eq!((st.st_uid, st.st_gid), (3, 4));
    assert_eq!(sys::get_xattr(o.u("d"), "user.x").works(), b"y");
    let after = sys::lstat(o.m("d")).works();
    assert_eq!(before.st_ino, after.st_ino);
    assert!(after.st_mtime > before.st_mtime);
    assert_eq!(sys::lstat(o.m("d/new")).works().st_gid, 4, "setgid");
    assert_eq!(sys::mode_of(&sys::lstat(o.m("d/new")).works()), 0o2755);
}

fn ancestors_first(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a/b/c/f", "data").file("a/b/other", "o");
            for (i, d) in ["a", "a/b", "a/b/c"].into_iter().enumerate() {
                let i = i as u32;
                l.mode(d, 0o701 + i).owner(d, 10 + i, 20 + i);
                l.xattr(d, "user.level", i.to_string());
                l.times(d, (100, 0), (1000 + i64::from(i), 0));
            }
        })
        .mount();
    sys::append_file(o.m("a/b/c/f"), "+").works();
    for (i, d) in ["a", "a/b", "a/b/c"].into_iter().enumerate() {
        let st = sys::lstat(o.u(d)).works();
        let n = i as u32;
        assert_eq!(sys::mode_of(&st), 0o701 + n, "{d}");
        assert_eq!((st.st_uid, st.st_gid), (10 + n, 20 + n), "{d}");
        assert_eq!(st.st_mtime, 1000 + i as i64, "mtime of {d}");
        let level = sys::get_xattr(o.u(d), "user.level").works();
        assert_eq!(level, i.to_string().into_bytes());
    }
    assert_names(o.u("a/b"), &["c"]);
    assert_names(o.m("a/b"), &["c", "other"]);
    assert_text(o.m("a/b/c/f"), "data+");
}

fn ancestors_across_layers(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("a").mode("a", 0o711);
        })
        .lower(|l| {
            l.file("a/b/f", "2").mode("a", 0o755).mode("a/b", 0o750);
        })
        .lower(|l| {
            l.file("a/b/g", "3").mode("a/b", 0o700);
        })
        .mount();
    sys::append_file(o.m("a/b/g"), "+").works();
    assert_eq!(sys::mode_of(&sys::lstat(o.u("a")).works()), 0o711);
    assert_eq!(sys::mode_of(&sys::lstat(o.u("a/b")).works()), 0o750);
    assert_names(o.m("a/b"), &["f", "g"]);
    assert_text(o.m("a/b/g"), "3+");
}

fn symlink_with_owner_and_xattr(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.symlink("s", "to/nowhere").owner("s", 5, 6);
            l.xattr("s", "trusted.x", "y")
                .times("s", (100, 0), (200, 0));
        })
        .mount();
    sys::link(o.m("s"), o.m("s2")).works();
    for n in ["s", "s2"] {
        let st = sys::lstat(o.u(n)).works();
        assert_eq!(sys::kind_of(&st), FileType::Symlink);
        assert_eq!((st.st_uid, st.st_gid), (5, 6));
        assert_eq!(st.st_mtime, 200);
        assert_eq!(sys::readlink(o.u(n)).works(), "to/nowhere");
        assert_eq!(sys::get_xattr(o.m(n), "trusted.x").works(), b"y");
    }
}

fn long_symlink(t: &T) {
    let target = "t".repeat(4095);
    let o = t
        .stack()
        .lower(|l| {
            l.symlink("s", &target[..2000]);
        })
        .mount();
    sys::lchown(o.m("s"), 1, 1).works();
    assert_eq!(sys::readlink(o.u("s")).works(), target[..2000]);
    // The rest is what the upper file system allows.
    let plain = t.new_dir("plain").join("s");
    let direct = sys::symlink(&target, &plain).is_ok();
    assert_eq!(sys::symlink(&target, o.m("new")).is_ok(), direct);
}

fn special_files(t: &T) {
    let dev = rustix::fs::makedev(250, 77);
    let o = t
        .stack()
        .lower(|l| {
            l.fifo("fifo").socket("sock");
            l.node("chr", FileType::CharacterDevice, dev);
            l.node("blk", FileType::BlockDevice, dev);
            for n in ["fifo", "sock", "chr", "blk"] {
                l.mode(n, 0o640).owner(n, 5, 6).xattr(n, "trusted.n", n);
                l.times(n, (100, 0), (200, 0));
            }
        })
        .mount();
    for n in ["fifo", "sock", "chr", "blk"] {
        let before = sys::lstat(o.m(n)).works();
        sys::link(o.m(n), o.m(format!("{n}2"))).works();
        let st = sys::lstat(o.u(n)).works();
        assert_eq!(st.st_mode, before.st_mode, "{n}");
        assert_eq!(st.st_rdev, before.st_rdev, "{n}");
        assert_eq!((st.st_uid, st.st_gid, st.st_mtime), (5, 6, 200), "{n}");
        assert_eq!(sys::get_xattr(o.u(n), "trusted.n").works(), n.as_bytes());
        assert_eq!(sys::lstat(o.m(n)).works().st_rdev, before.st_rdev);
    }
}

fn special_file_chmod(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.fifo("fifo").socket("sock");
            l.node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        })
        .mount();
    for n in ["fifo", "sock", "null"] {
        sys::chmod(o.m(n), 0o600).works();
        let (u, m) = (sys::lstat(o.u(n)).works(), sys::lstat(o.m(n)).works());
        assert_eq!(sys::mode_of(&u), 0o600);
        assert_eq!(sys::kind_of(&u), sys::kind_of(&m));
        assert_eq!(u.st_rdev, m.st_rdev);
    }
}

/// As overlayfs documents for `index=off`.
fn hard_links_are_broken(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "data").link("a", "b");
        })
        .mount();
    assert_eq!(sys::stat(o.m("a")).works().st_nlink, 2);
    sys::append_file(o.m("a"), "+").works();
    assert_text(o.m("a"), "data+");
    assert_text(o.m("b"), "data");
    assert_eq!(sys::stat(o.m("a")).works().st_nlink, 1);
    sys::append_file(o.m("b"), "-").works();
    assert_text(o.m("a"), "data+");
    assert_text(o.m("b"), "data-");
    // On disk, neither says that it is a copy of the other's original.
    for name in ["a", "b"] {
        assert_eq!(
            sys::xattr_opt(o.u(name), crate::tree::ORIGIN),
            None,
            "{name}"
        );
    }
}

fn private_xattrs_hidden(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "x").file("e/f", "x");
        })
        .mount();
    sys::append_file(o.m("d/f"), "+").works();
    std::fs::remove_dir_all(o.m("e")).expect("rm -r e");
    sys::mkdir(o.m("e"), 0o755).works();
    crate::tree::assert_opaque(o.u("e"));
    for n in ["/", "d", "d/f", "e"] {
        let names = sys::list_xattr(o.m(n)).works();
        assert!(names.is_empty(), "{n} shows {names:?}");
    }
    sys::get_xattr(o.m("e"), crate::tree::OPAQUE).fails(Errno::NODATA);
}

/// What a program stores under a private name is kept, under another name,
/// so that layers for another overlay can be made in this one.
fn private_xattrs_escaped(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("low")
                .xattr("low", "trusted.overlay.overlay.opaque", "y");
        })
        .mount();
    sys::mkdir(o.m("d"), 0o755).works();
    sys::set_xattr(o.m("d"), "trusted.overlay.opaque", "y").works();
    assert_eq!(
        sys::get_xattr(o.m("d"), "trusted.overlay.opaque").works(),
        b"y"
    );
    assert_eq!(
        sys::list_xattr(o.m("d")).works(),
        ["trusted.overlay.opaque"]
    );
    assert_eq!(
        sys::get_xattr(o.u("d"), "trusted.overlay.overlay.opaque").works(),
        b"y"
    );
    sys::get_xattr(o.u("d"), "trusted.overlay.opaque").fails(Errno::NODATA);
    assert_eq!(
        sys::get_xattr(o.m("low"), "trusted.overlay.opaque").works(),
        b"y"
    );
    sys::chmod(o.m("low"), 0o700).works();
    assert_eq!(
        sys::get_xattr(o.u("low"), "trusted.overlay.overlay.opaque").works(),
        b"y"
    );
    sys::remove_xattr(o.m("d"), "trusted.overlay.opaque").works();
    sys::get_xattr(o.u("d"), "trusted.overlay.overlay.opaque").fails(Errno::NODATA);
}

fn private_xattrs_of_lower_not_copied(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.opaque("d").xattr("d", "user.x", "y");
            l.file("d/f", "x");
        })
        .lower(|l| {
            l.file("d/hidden", "x");
        })
        .mount();
    sys::chmod(o.m("d"), 0o700).works();
    sys::get_xattr(o.u("d"), crate::tree::OPAQUE).fails(Errno::NODATA);
    assert_eq!(sys::get_xattr(o.u("d"), "user.x").works(), b"y");
    assert_names(o.m("d"), &["f"]);
    o.remount();
    assert_names(o.m("d"), &["f"]);
}

fn lower_kept_after_many_changes(t: &T) {
    // The comparison of the lower layer is done for each test at its end.
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..20 {
                l.file(format!("d{}/f{i}", i % 3), pattern(1000 + i, i as u64));
            }
        })
        .mount();
    for i in 0..20 {
        let p = o.m(format!("d{}/f{i}", i % 3));
        match i % 5 {
            0 => sys::append_file(p, "x").works(),
            1 => sys::unlink(p).works(),
            2 => sys::chmod(p, 0o600).works(),
            3 => sys::rename(p, o.m(format!("r{i}"))).works(),
            _ => sys::truncate(p, 10).works(),
        }
    }
}

fn copies_only_once(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "data");
        })
        .mount();
    sys::chmod(o.m("f"), 0o600).works();
    let first = sys::stat(o.u("f")).works().st_ino;
    sys::append_file(o.m("f"), "+").works();
    sys::lchown(o.m("f"), 1, 1).works();
    sys::truncate(o.m("f"), 3).works();
    sys::set_xattr(o.m("f"), "user.x", "y").works();
    assert_eq!(sys::stat(o.u("f")).works().st_ino, first);
    o.remount();
    sys::append_file(o.m("f"), "!").works();
    assert_eq!(sys::stat(o.u("f")).works().st_ino, first);
    assert_text(o.m("f"), "dat!");
}

fn copy_of_file_in_opaque_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.opaque("d").file("d/f", "middle");
        })
        .lower(|l| {
            l.file("d/f", "bottom").file("d/g", "bottom");
        })
        .mount();
    sys::append_file(o.m("d/f"), "+").works();
    assert_text(o.m("d/f"), "middle+");
    assert_names(o.m("d"), &["f"]);
    o.remount();
    assert_names(o.m("d"), &["f"]);
    sys::stat(o.m("d/g")).fails(Errno::NOENT);
}

fn shared_subdirectory_keeps_merging(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/s/a", "a");
        })
        .lower(|l| {
            l.file("d/s/b", "b");
        })
        .mount();
    let dir = sys::open(o.m("d/s"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    sys::append_file(o.m("d/s/b"), "+").works();
    let names = sys::read_dirents(&dir, 100, 4096).works().len();
    assert_eq!(names, 4, "listing through an fd from before the copy-up");
    assert_names(o.m("d/s"), &["a", "b"]);
    sys::write_file(o.m("d/s/c"), "c").works();
    assert_names(o.m("d/s"), &["a", "b", "c"]);
}

fn copy_then_remount(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "f").file("d/g", "g").file("h", "h");
            l.symlink("d/s", "f").fifo("d/p");
        })
        .mount();
    sys::append_file(o.m("d/f"), "+").works();
    sys::chmod(o.m("h"), 0o600).works();
    sys::lchown(o.m("d/s"), 1, 1).works();
    sys::unlink(o.m("d/g")).works();
    sys::chmod(o.m("d/p"), 0o600).works();
    let before = o.snapshot(Take::ALL);
    o.remount();
    assert_same("before and after", &before, &o.snapshot(Take::ALL));
}

fn setgid_directory_ancestor(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "x").owner("d", 0, 50).mode("d", 0o2775);
            l.owner("d/f", 7, 7);
        })
        .mount();
    sys::chmod(o.m("d/f"), 0o600).works();
    let st = sys::lstat(o.u("d/f")).works();
    assert_eq!(
        (st.st_uid, st.st_gid),
        (7, 7),
        "group from setgid directory"
    );
    assert_eq!(sys::mode_of(&sys::lstat(o.u("d")).works()), 0o2775);
}

fn unreadable_mode_still_copied(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "secret").mode("f", 0).owner("f", 1000, 1000);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::read_file(o.m("f")).fails(Errno::ACCESS);
        sys::chmod(o.m("f"), 0o600).works();
        assert_text(o.m("f"), "secret");
    });
    assert_text(o.u("f"), "secret");
}

fn root_attributes(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").mode("/", 0o700);
        })
        .upper(|u| {
            u.mode("/", 0o1755).owner("/", 9, 9);
        })
        .mount();
    let st = sys::stat(o.m("/")).works();
    assert_eq!(sys::mode_of(&st), 0o1755);
    assert_eq!((st.st_uid, st.st_gid), (9, 9));
    sys::chmod(o.m("/"), 0o711).works();
    assert_eq!(sys::mode_of(&sys::stat(o.u("/")).works()), 0o711);
    sys::set_xattr(o.m("/"), "user.root", "r").works();
    assert_eq!(sys::get_xattr(o.u("/"), "user.root").works(), b"r");
}

/// An overlay as the lower layer of another.
fn nested_overlay(t: &T) {
    let inner = t
        .stack()
        .lower(|l| {
            l.file("d/a", "a").file("d/b", "b").file("d/c", "c");
        })
        .mount();
    sys::unlink(inner.m("d/b")).works();
    sys::append_file(inner.m("d/a"), "1").works();
    let outer = t
        .stack()
        .lowers_not_compared()
        .lower_dir(inner.m("/"))
        .mount();
    assert_names(outer.m("d"), &["a", "c"]);
    assert_text(outer.m("d/a"), "a1");
    sys::append_file(outer.m("d/a"), "2").works();
    sys::unlink(outer.m("d/c")).works();
    assert_text(outer.m("d/a"), "a12");
    assert_text(inner.m("d/a"), "a1");
    assert_names(outer.m("d"), &["a"]);
    assert_names(inner.m("d"), &["a", "c"]);
}
