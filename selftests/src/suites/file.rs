// SPDX-License-Identifier: GPL-2.0

//! What is done with an open file.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::fs::{Advice, FlockOperation, SeekFrom};

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, FallocateFlags, Map, OFlags};
use crate::tree::{assert_text, pattern};

pub fn tests() -> Vec<Test> {
    vec![
        test!(read_lower_and_upper).matrix(),
        test!(read_at_the_edges),
        test!(write_and_read_back).matrix(),
        test!(positions_of_fds),
        test!(append_from_several_fds),
        test!(vectored),
        test!(truncate_and_extend).matrix(),
        test!(sparse_write),
        test!(beyond_four_gigabytes),
        test!(open_flags),
        test!(directory_is_no_file),
        test!(old_fd_sees_new_data).matrix(),
        test!(old_fd_after_truncate),
        test!(old_fd_keeps_position),
        test!(old_fd_after_rename_and_unlink),
        test!(path_fd),
        test!(mmap_private).matrix(),
        test!(mmap_shared_read).matrix(),
        test!(mmap_shared_write).matrix(),
        test!(mmap_write_visible_to_read),
        test!(mmap_needs_rights),
        test!(mmap_after_close),
        test!(mmap_old_then_new),
        test!(direct_io).needs(&[Fs::Xfs]),
        test!(direct_io_mixed),
        test!(sync_calls).matrix(),
        test!(synchronous_open_flags),
        test!(seek_hole_and_data),
        test!(seek_ends),
        test!(fallocate_modes)
            .matrix()
            .not_on(&[Fs::Btrfs, Fs::Tmpfs]),
        test!(fallocate_keep_size),
        test!(fallocate_errors),
        test!(copy_file_range_inside).matrix(),
        test!(copy_file_range_across).needs(&[Fs::Other]),
        test!(copy_file_range_same_file),
        test!(clone_on_btrfs).needs(&[Fs::Btrfs]),
        test!(clone_on_xfs).needs(&[Fs::Xfs]),
        test!(clone_not_supported),
        test!(advice_and_readahead),
        test!(sendfile),
        test!(splice),
        test!(flock_across_copy_up),
        test!(flock_shared_and_exclusive),
        test!(posix_locks_across_copy_up),
        test!(ofd_locks),
        test!(leases),
        test!(lease_break),
        test!(truncate_refused),
        test!(exec_lower).matrix(),
        test!(exec_upper),
        test!(exec_script),
        test!(text_busy),
        test!(uprobes),
        test!(fifo),
        test!(unix_socket),
        test!(read_only_fd_refuses_writes),
        test!(size_limit),
        test!(many_open_files),
        test!(fd_passes_fork),
        test!(lower_file_of_zero_bytes),
        test!(atime_of_upper),
        test!(inotify),
    ]
}

fn rw(o: &Overlay, n: &str) -> OwnedFd {
    sys::open(o.m(n), OFlags::RDWR).works()
}

fn ro(o: &Overlay, n: &str) -> OwnedFd {
    sys::open(o.m(n), OFlags::RDONLY).works()
}

const SIZE: usize = 200_000;

fn one(t: &T) -> Overlay {
    t.stack()
        .lower(|l| {
            l.file("f", pattern(SIZE, 1)).file("small", "small");
        })
        .mount()
}

fn read_lower_and_upper(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("l", pattern(SIZE, 1));
        })
        .upper(|u| {
            u.file("u", pattern(SIZE, 2));
        })
        .mount();
    for (n, seed) in [("l", 1), ("u", 2)] {
        let want = pattern(SIZE, seed);
        assert_eq!(sys::read_file(o.m(n)).works(), want, "{n}");
        let fd = ro(&o, n);
        for at in [0, 1, 4095, 4096, 100_000, SIZE - 10] {
            let end = (at + 5000).min(SIZE);
            let got = sys::pread(&fd, 5000, at as u64).works();
            assert_eq!(got, want[at..end], "{n} at {at}");
        }
    }
}

fn read_at_the_edges(t: &T) {
    let o = one(t);
    let fd = ro(&o, "small");
    assert!(sys::pread(&fd, 10, 5).works().is_empty());
    assert!(sys::pread(&fd, 10, 1 << 40).works().is_empty());
    assert!(sys::pread(&fd, 0, 0).works().is_empty());
    sys::pread(&fd, 10, u64::MAX / 2 + 10).fails(Errno::INVAL);
}

fn write_and_read_back(t: &T) {
    let o = one(t);
    let mut want = pattern(SIZE, 1);
    let fd = rw(&o, "f");
    for (i, at) in [0, 10, 4096, 99_999, SIZE - 3].into_iter().enumerate() {
        let data = pattern(6000, 50 + i as u64);
        sys::pwrite(&fd, &data, at as u64).works();
        if want.len() < at + 6000 {
            want.resize(at + 6000, 0);
        }
        want[at..at + 6000].copy_from_slice(&data);
        assert_eq!(sys::pread(&fd, 6000, at as u64).works(), data);
    }
    assert!(sys::read_file(o.m("f")).works() == want);
    drop(fd);
    assert!(sys::read_file(o.u("f")).works() == want);
    o.remount();
    assert!(sys::read_file(o.m("f")).works() == want);
}

fn positions_of_fds(t: &T) {
    let o = one(t);
    let fd = rw(&o, "small");
    let other = unsafe_dup(&fd);
    let mut b = [0; 2];
    rustix::io::read(&fd, &mut b).expect("read");
    assert_eq!(sys::read_rest(&other).works(), b"all", "dup shares it");
    assert_eq!(sys::read_rest(&ro(&o, "small")).works(), b"small");
    sys::seek(&fd, SeekFrom::Start(1)).works();
    sys::write(&fd, "MA").works();
    assert_eq!(sys::read_rest(&fd).works(), b"ll");
}

fn unsafe_dup(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().expect("dup")
}

fn append_from_several_fds(t: &T) {
    let o = one(t);
    let flags = OFlags::WRONLY | OFlags::APPEND;
    let fds: Vec<OwnedFd> = (0..4)
        .map(|_| sys::open(o.m("small"), flags).works())
        .collect();
    for i in 0..40 {
        sys::write(&fds[i % 4], format!("{i};")).works();
    }
    let mut want = String::from("small");
    (0..40).for_each(|i| want.push_str(&format!("{i};")));
    assert_text(o.m("small"), &want);
    // pwrite with O_APPEND appends, too.
    sys::pwrite(&fds[0], "end", 0).works();
    want.push_str("end");
    assert_text(o.m("small"), &want);
}

fn vectored(t: &T) {
    use std::io::{IoSlice, IoSliceMut};
    let o = one(t);
    let fd = rw(&o, "small");
    let parts = [IoSlice::new(b"one "), IoSlice::new(b"two ")];
    assert_eq!(rustix::io::pwritev(&fd, &parts, 5).expect("pwritev"), 8);
    let (mut a, mut b) = ([0; 5], [0; 8]);
    let mut into = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    assert_eq!(rustix::io::preadv(&fd, &mut into, 0).expect("preadv"), 13);
    assert_eq!((&a, &b), (b"small", b"one two "));
}

fn truncate_and_extend(t: &T) {
    let o = one(t);
    let fd = rw(&o, "f");
    sys::ftruncate(&fd, 5000).works();
    assert_eq!(sys::fstat(&fd).works().st_size, 5000);
    sys::ftruncate(&fd, 10_000).works();
    let got = sys::read_file(o.m("f")).works();
    assert_eq!(got[..5000], pattern(SIZE, 1)[..5000]);
    assert!(got[5000..].iter().all(|b| *b == 0), "old data came back");
    assert_eq!(got.len(), 10_000);
}

fn sparse_write(t: &T) {
    let o = one(t);
    let fd = rw(&o, "small");
    sys::pwrite(&fd, "end", 1 << 20).works();
    let got = sys::read_file(o.m("small")).works();
    assert_eq!(got.len(), (1 << 20) + 3);
    assert!(got[5..1 << 20].iter().all(|b| *b == 0));
}

fn beyond_four_gigabytes(t: &T) {
    let o = one(t);
    let at = 5 << 30;
    let fd = rw(&o, "small");
    sys::pwrite(&fd, "far", at).works();
    assert_eq!(sys::pread(&fd, 10, at).works(), b"far");
    assert_eq!(sys::stat(o.m("small")).works().st_size as u64, at + 3);
    assert_eq!(sys::seek(&fd, SeekFrom::End(0)).works(), at + 3);
}

fn open_flags(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").symlink("s", "f").symlink("loop", "loop");
            l.dir("d");
        })
        .mount();
    sys::open(o.m("f"), OFlags::RDONLY | OFlags::DIRECTORY).fails(Errno::NOTDIR);
    sys::open(o.m("s"), OFlags::RDONLY | OFlags::NOFOLLOW).fails(Errno::LOOP);
    sys::open(o.m("loop"), OFlags::RDONLY).fails(Errno::LOOP);
    sys::open(o.m("f"), OFlags::CREATE | OFlags::EXCL).fails(Errno::EXIST);
    drop(sys::open(o.m("f"), OFlags::CREATE | OFlags::RDWR).works());
    assert_text(o.m("f"), "x");
    sys::write_file(o.m("s"), "through a link").works();
    assert_text(o.m("f"), "through a link");
    sys::open(o.m("none"), OFlags::RDWR).fails(Errno::NOENT);
    sys::open(o.m("f/x"), OFlags::RDWR).fails(Errno::NOTDIR);
}

fn directory_is_no_file(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
        })
        .mount();
    sys::open(o.m("d"), OFlags::RDWR).fails(Errno::ISDIR);
    sys::open(o.m("d"), OFlags::RDONLY | OFlags::CREATE).fails(Errno::ISDIR);
    let fd = sys::open(o.m("d"), OFlags::RDONLY).works();
    sys::pread(&fd, 1, 0).fails(Errno::ISDIR);
    sys::fsync(&fd).works();
    Map::new(&fd, 4096, false, true)
        .map(drop)
        .fails(Errno::NODEV);
}

fn old_fd_sees_new_data(t: &T) {
    let o = one(t);
    let old = ro(&o, "f");
    assert_eq!(sys::pread(&old, 10, 0).works(), pattern(SIZE, 1)[..10]);
    let w = rw(&o, "f");
    sys::pwrite(&w, "NEW", 0).works();
    assert_eq!(sys::pread(&old, 3, 0).works(), b"NEW");
    sys::pwrite(&w, "LATER", SIZE as u64).works();
    assert_eq!(sys::pread(&old, 10, SIZE as u64).works(), b"LATER");
    assert_eq!(sys::fstat(&old).works().st_size as usize, SIZE + 5);
    let end = sys::seek(&old, SeekFrom::End(0)).works();
    assert_eq!(end as usize, SIZE + 5);
    drop(w);
    assert_eq!(sys::pread(&old, 3, 0).works(), b"NEW");
}

fn old_fd_after_truncate(t: &T) {
    let o = one(t);
    let old = ro(&o, "f");
    sys::truncate(o.m("f"), 3).works();
    assert_eq!(sys::read_rest(&old).works(), pattern(SIZE, 1)[..3]);
    assert_eq!(sys::fstat(&old).works().st_size, 3);
    sys::write_file(o.m("f"), "written again").works();
    assert_eq!(sys::pread(&old, 20, 0).works(), b"written again");
}

fn old_fd_keeps_position(t: &T) {
    let o = one(t);
    let old = ro(&o, "small");
    let mut b = [0; 2];
    rustix::io::read(&old, &mut b).expect("read");
    sys::append_file(o.m("small"), " and more").works();
    assert_eq!(sys::read_rest(&old).works(), b"all and more");
}

fn old_fd_after_rename_and_unlink(t: &T) {
    let o = one(t);
    let old = ro(&o, "small");
    sys::rename(o.m("small"), o.m("moved")).works();
    sys::append_file(o.m("moved"), "+").works();
    assert_eq!(sys::pread(&old, 10, 0).works(), b"small+");
    sys::unlink(o.m("moved")).works();
    assert_eq!(sys::pread(&old, 10, 0).works(), b"small+");
}

fn path_fd(t: &T) {
    let o = one(t);
    let fd = sys::open(o.m("small"), OFlags::PATH).works();
    sys::pread(&fd, 1, 0).fails(Errno::BADF);
    assert_eq!(sys::fstat(&fd).works().st_size, 5);
    assert!(!sys::exists(o.u("small")));
    sys::chmod(sys::fd_path(&fd), 0o600).works();
    assert_eq!(sys::mode_of(&sys::fstat(&fd).works()), 0o600);
    let w = sys::open(sys::fd_path(&fd), OFlags::RDWR).works();
    sys::pwrite(&w, "S", 0).works();
    assert_text(o.m("small"), "Small");
    assert_eq!(
        std::fs::read_link(sys::fd_path(&fd)).expect("readlink"),
        o.m("small")
    );
}

fn mmap_private(t: &T) {
    let o = one(t);
    let fd = ro(&o, "f");
    let map = Map::new(&fd, SIZE, true, false).works();
    assert_eq!(map.get(0, SIZE), pattern(SIZE, 1));
    map.put(100, b"private");
    assert_eq!(map.get(100, 7), b"private");
    assert_eq!(sys::pread(&fd, 7, 100).works(), pattern(SIZE, 1)[100..107]);
    assert!(!sys::exists(o.u("f")), "copied up by a private mapping");
}

fn mmap_shared_read(t: &T) {
    let o = one(t);
    let fd = ro(&o, "f");
    let map = Map::new(&fd, SIZE, false, true).works();
    assert_eq!(map.get(0, SIZE), pattern(SIZE, 1));
    drop(fd);
    assert_eq!(map.get(SIZE - 5, 5), pattern(SIZE, 1)[SIZE - 5..]);
}

fn mmap_shared_write(t: &T) {
    let o = one(t);
    let fd = rw(&o, "f");
    let map = Map::new(&fd, SIZE, true, true).works();
    map.put(0, b"begin");
    map.put(SIZE - 3, b"end");
    map.put(70_000, &pattern(5000, 9));
    map.sync().works();
    drop((map, fd));
    let mut want = pattern(SIZE, 1);
    want[..5].copy_from_slice(b"begin");
    want[SIZE - 3..].copy_from_slice(b"end");
    want[70_000..75_000].copy_from_slice(&pattern(5000, 9));
    assert!(sys::read_file(o.m("f")).works() == want);
    assert!(sys::read_file(o.u("f")).works() == want);
    o.remount();
    assert!(sys::read_file(o.m("f")).works() == want);
}

fn mmap_write_visible_to_read(t: &T) {
    let o = one(t);
    let fd = rw(&o, "f");
    let map = Map::new(&fd, SIZE, true, true).works();
    map.put(10, b"by mmap");
    assert_eq!(sys::pread(&fd, 7, 10).works(), b"by mmap");
    assert_eq!(sys::pread(&ro(&o, "f"), 7, 10).works(), b"by mmap");
    sys::pwrite(&fd, "by write", 10).works();
    assert_eq!(map.get(10, 8), b"by write");
    let second = Map::new(&ro(&o, "f"), SIZE, false, true).works();
    map.put(4096, b"both");
    assert_eq!(second.get(4096, 4), b"both");
}

fn mmap_needs_rights(t: &T) {
    let o = one(t);
    Map::new(&ro(&o, "f"), 4096, true, true)
        .map(drop)
        .fails(Errno::ACCESS);
    let w = sys::open(o.m("f"), OFlags::WRONLY).works();
    Map::new(&w, 4096, false, true)
        .map(drop)
        .fails(Errno::ACCESS);
}

fn mmap_after_close(t: &T) {
    let o = one(t);
    let fd = rw(&o, "f");
    let map = Map::new(&fd, SIZE, true, true).works();
    drop(fd);
    sys::umount(&o.m("/")).fails(Errno::BUSY);
    sys::unlink(o.m("f")).works();
    map.put(0, b"still here");
    assert_eq!(map.get(0, 10), b"still here");
}

/// A mapping from before the copy-up may show the old data, or the new, but
/// nothing else; one made after it shows the new.
fn mmap_old_then_new(t: &T) {
    let o = one(t);
    let old = ro(&o, "f");
    let before = Map::new(&old, SIZE, false, true).works();
    before.get(0, 4096);
    let fd = rw(&o, "f");
    sys::pwrite(&fd, "NEW", 8).works();
    let seen = before.get(8, 3);
    assert!(
        seen == b"NEW" || seen == pattern(SIZE, 1)[8..11],
        "neither old nor new: {seen:?}"
    );
    let after = Map::new(&ro(&o, "f"), SIZE, false, true).works();
    assert_eq!(after.get(8, 3), b"NEW");
    t.better_than_overlay("an old fd is mapped from the lower file forever");
    let through_old = Map::new(&old, SIZE, false, true).works();
    assert_eq!(through_old.get(8, 3), b"NEW", "new mapping of an old fd");
}

fn direct_io(t: &T) {
    for fs in [Fs::Ext4, Fs::Xfs] {
        let o = t
            .stack()
            .upper_in(&t.room(fs))
            .lower_on(fs, |l| {
                l.file("f", pattern(65536, 1));
                let fd = sys::open(l.at("f"), OFlags::RDWR).works();
                sys::fsync(&fd).works();
            })
            .mount();
        let fd = sys::open(o.m("f"), OFlags::RDONLY | OFlags::DIRECT).works();
        let got = sys::direct_read(&fd, 8192, 4096).works();
        assert_eq!(got, pattern(65536, 1)[4096..12288], "lower, {fs:?}");
        let fd = sys::open(o.m("f"), OFlags::RDWR | OFlags::DIRECT).works();
        sys::direct_write(&fd, b'D', 4096, 8192).works();
        assert_eq!(sys::direct_read(&fd, 4096, 8192).works(), [b'D'; 4096]);
        assert_eq!(
            sys::pread(&ro(&o, "f"), 4096, 8192).works(),
            [b'D'; 4096],
            "buffered read of it"
        );
        drop(fd);
        assert_eq!(sys::read_file(o.u("f")).works().len(), 65536);
    }
}

fn direct_io_mixed(t: &T) {
    let o = one(t);
    let buffered = rw(&o, "f");
    let direct = sys::open(o.m("f"), OFlags::RDWR | OFlags::DIRECT).works();
    for i in 0..10 {
        sys::pwrite(&buffered, vec![i; 4096], 4096 * u64::from(i)).works();
        let got = sys::direct_read(&direct, 4096, 4096 * u64::from(i)).works();
        assert_eq!(got, [i; 4096]);
        sys::direct_write(&direct, i + 100, 4096, 4096 * u64::from(i)).works();
        let got = sys::pread(&buffered, 4096, 4096 * u64::from(i)).works();
        assert_eq!(got, [i + 100; 4096]);
    }
}

fn sync_calls(t: &T) {
    let o = one(t);
    let old = ro(&o, "f");
    sys::fsync(&old).works();
    sys::fdatasync(&old).works();
    let fd = rw(&o, "f");
    sys::pwrite(&fd, "x", 0).works();
    sys::fdatasync(&fd).works();
    sys::fsync(&fd).works();
    sys::fsync(&old).works();
    sys::syncfs(&fd).works();
}

fn synchronous_open_flags(t: &T) {
    let o = one(t);
    for flag in [OFlags::SYNC, OFlags::DSYNC] {
        let fd = sys::open(o.m("f"), OFlags::RDWR | flag).works();
        sys::pwrite(&fd, "synchronous", 0).works();
        assert_eq!(sys::pread(&fd, 11, 0).works(), b"synchronous");
    }
}

fn seek_hole_and_data(t: &T) {
    let make = |fd: &OwnedFd| {
        sys::ftruncate(fd, 4 << 20).works();
        sys::pwrite(fd, [1; 4096], 1 << 20).works();
        sys::pwrite(fd, [1; 4096], 3 << 20).works();
        sys::fsync(fd).works();
    };
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "");
            make(&sys::open(l.at("f"), OFlags::RDWR).works());
        })
        .upper(|u| {
            u.file("u", "");
            make(&sys::open(u.at("u"), OFlags::RDWR).works());
        })
        .mount();
    for n in ["f", "u"] {
        let fd = ro(&o, n);
        assert_eq!(sys::seek(&fd, SeekFrom::Data(0)).works(), 1 << 20);
        assert_eq!(sys::seek(&fd, SeekFrom::Hole(0)).works(), 0);
        assert_eq!(
            sys::seek(&fd, SeekFrom::Hole(1 << 20)).works(),
            (1 << 20) + 4096
        );
        assert_eq!(sys::seek(&fd, SeekFrom::Data(2 << 20)).works(), 3 << 20);
        sys::seek(&fd, SeekFrom::Data(4 << 20)).fails(Errno::NXIO);
        let tail = (3 << 20) + 4096;
        sys::seek(&fd, SeekFrom::Data(tail)).fails(Errno::NXIO);
    }
}

fn seek_ends(t: &T) {
    let o = one(t);
    let fd = ro(&o, "small");
    assert_eq!(sys::seek(&fd, SeekFrom::End(0)).works(), 5);
    assert_eq!(sys::seek(&fd, SeekFrom::End(-2)).works(), 3);
    assert_eq!(sys::seek(&fd, SeekFrom::Current(-3)).works(), 0);
    sys::seek(&fd, SeekFrom::Current(-1)).fails(Errno::INVAL);
    assert_eq!(sys::seek(&fd, SeekFrom::Start(1 << 40)).works(), 1 << 40);
    assert!(sys::read_rest(&fd).works().is_empty());
}

fn fallocate_modes(t: &T) {
    let o = one(t);
    let fd = rw(&o, "f");
    let keep = FallocateFlags::KEEP_SIZE;
    let mut want = pattern(SIZE, 1);
    sys::fallocate(&fd, FallocateFlags::PUNCH_HOLE | keep, 8192, 16384).works();
    want[8192..8192 + 16384].fill(0);
    assert!(sys::read_file(o.m("f")).works() == want, "punch hole");
    sys::fallocate(&fd, FallocateFlags::ZERO_RANGE, 65536, 4096).works();
    want[65536..69632].fill(0);
    assert!(sys::read_file(o.m("f")).works() == want, "zero range");
    sys::fallocate(&fd, FallocateFlags::empty(), 0, 400_000).works();
    want.resize(400_000, 0);
    assert!(sys::read_file(o.m("f")).works() == want, "allocate");
    assert!(sys::read_file(o.u("f")).works() == want, "upper");
    sys::fallocate(&fd, FallocateFlags::COLLAPSE_RANGE, 4096, 4096).works();
    want.drain(4096..8192);
    assert!(sys::read_file(o.m("f")).works() == want, "collapse");
    assert_eq!(sys::fstat(&fd).works().st_size as usize, want.len());
}

fn fallocate_keep_size(t: &T) {
    let o = one(t);
    let fd = rw(&o, "small");
    sys::fallocate(&fd, FallocateFlags::KEEP_SIZE, 0, 1 << 20).works();
    assert_eq!(sys::fstat(&fd).works().st_size, 5);
    assert_text(o.m("small"), "small");
    assert!(sys::stat(o.m("small")).works().st_blocks >= 2048);
}

fn fallocate_errors(t: &T) {
    let o = one(t);
    let none = FallocateFlags::empty();
    sys::fallocate(&ro(&o, "small"), none, 0, 10).fails(Errno::BADF);
    assert!(!sys::exists(o.u("small")));
    let fd = rw(&o, "small");
    sys::fallocate(&fd, none, 0, 0).fails(Errno::INVAL);
    sys::fallocate(&fd, FallocateFlags::PUNCH_HOLE, 0, 10).fails(Errno::OPNOTSUPP);
    assert_text(o.m("small"), "small");
}

fn copy_file_range_inside(t: &T) {
    let o = one(t);
    sys::write_file(o.m("new"), "").works();
    let to = rw(&o, "new");
    match sys::copy_file_range(&ro(&o, "f"), 1000, &to, 50, 100_000) {
        Ok(n) => assert_eq!(n, 100_000),
        // As between the file systems below; programs copy by themselves then.
        Err(e) if e.errno == Errno::XDEV && !t.variant.one_fs() => return,
        Err(e) => panic!("{e:?}"),
    }
    let got = sys::read_file(o.m("new")).works();
    assert_eq!(got.len(), 100_050);
    assert!(got[50..] == pattern(SIZE, 1)[1000..101_000]);
    let n = sys::copy_file_range(&to, 0, &rw(&o, "f"), 0, 50).works();
    assert_eq!(n, 50);
    assert_eq!(sys::pread(&ro(&o, "f"), 50, 0).works(), [0; 50]);
}

fn copy_file_range_across(t: &T) {
    let o = one(t);
    let outside = t.room(Fs::Other).join("out");
    sys::write_file(&outside, "").works();
    let out = sys::open(&outside, OFlags::RDWR).works();
    // Between file systems of different type the kernel may refuse.
    match sys::copy_file_range(&ro(&o, "f"), 0, &out, 0, SIZE) {
        Ok(n) => {
            assert_eq!(n, SIZE);
            assert!(sys::read_file(&outside).works() == pattern(SIZE, 1));
        }
        Err(e) => assert_eq!(e.errno, Errno::XDEV),
    }
    // To a file in a layer's own file system.
    let direct = t.new_dir("direct").join("f");
    sys::write_file(&direct, "").works();
    let to = sys::open(&direct, OFlags::RDWR).works();
    match sys::copy_file_range(&ro(&o, "f"), 0, &to, 0, SIZE) {
        Ok(n) => {
            assert_eq!(n, SIZE);
            assert!(sys::read_file(&direct).works() == pattern(SIZE, 1));
        }
        Err(e) => assert_eq!(e.errno, Errno::XDEV),
    }
}

fn copy_file_range_same_file(t: &T) {
    let o = one(t);
    let fd = rw(&o, "f");
    let n = sys::copy_file_range(&fd, 0, &fd, SIZE as u64, 5000).works();
    assert_eq!(n, 5000);
    let got = sys::pread(&fd, 5000, SIZE as u64).works();
    assert_eq!(got, pattern(SIZE, 1)[..5000]);
    sys::copy_file_range(&fd, 0, &fd, 100, 5000)
        .map(drop)
        .fails(Errno::INVAL);
}

fn clone_on(t: &T, fs: Fs) {
    let o = t
        .stack()
        .upper_in(&t.room(fs))
        .lower_on(fs, |l| {
            l.file("f", pattern(SIZE, 1));
        })
        .mount();
    sys::write_file(o.m("new"), "").works();
    let to = rw(&o, "new");
    sys::clone_file(&ro(&o, "f"), &to).works();
    assert!(sys::read_file(o.m("new")).works() == pattern(SIZE, 1));
    assert!(
        !sys::exists(o.u("f")),
        "the source of a clone was copied up"
    );
    sys::pwrite(&to, "NEW", 0).works();
    assert_eq!(
        sys::pread(&ro(&o, "f"), 3, 0).works(),
        pattern(SIZE, 1)[..3]
    );
    let from = sys::open(o.m("new"), OFlags::RDONLY).works();
    sys::clone_file(&from, &rw(&o, "f")).works();
    assert_eq!(sys::pread(&ro(&o, "f"), 3, 0).works(), b"NEW");
}

fn clone_on_btrfs(t: &T) {
    clone_on(t, Fs::Btrfs);
}

fn clone_on_xfs(t: &T) {
    clone_on(t, Fs::Xfs);
}

fn clone_not_supported(t: &T) {
    let o = one(t);
    sys::write_file(o.m("new"), "").works();
    sys::clone_file(&ro(&o, "f"), &rw(&o, "new")).fails_any(&[
        Errno::OPNOTSUPP,
        Errno::XDEV,
        Errno::INVAL,
    ]);
    assert_text(o.m("new"), "");
}

fn advice_and_readahead(t: &T) {
    let o = one(t);
    for fd in [ro(&o, "f"), rw(&o, "f"), ro(&o, "f")] {
        for advice in [
            Advice::Sequential,
            Advice::Random,
            Advice::WillNeed,
            Advice::DontNeed,
            Advice::Normal,
        ] {
            sys::fadvise(&fd, advice).works();
        }
        sys::readahead(&fd, 0, SIZE).works();
        assert!(sys::pread(&fd, SIZE, 0).works() == pattern(SIZE, 1));
    }
}

fn sendfile(t: &T) {
    let o = one(t);
    sys::write_file(o.m("new"), "").works();
    let (from, to) = (ro(&o, "f"), rw(&o, "new"));
    let mut off = 100;
    let mut done = 0;
    while done < 100_000 {
        let n = rustix::fs::sendfile(&to, &from, Some(&mut off), 100_000 - done);
        done += n.expect("sendfile");
    }
    let got = sys::read_file(o.m("new")).works();
    assert!(got == pattern(SIZE, 1)[100..100_100]);
}

fn splice(t: &T) {
    use rustix::pipe::{splice, SpliceFlags};
    let o = one(t);
    sys::write_file(o.m("new"), "").works();
    let (from, to) = (ro(&o, "f"), rw(&o, "new"));
    let (r, w) = crate::env::pipe();
    let (mut a, mut b) = (0, 0);
    let none = SpliceFlags::empty();
    while (a as usize) < SIZE {
        let want = (SIZE - a as usize).min(4096);
        let n = splice(&from, Some(&mut a), &w, None, want, none).expect("splice in");
        assert!(n > 0, "end of file at {a}");
        let mut left = n;
        while left > 0 {
            left -= splice(&r, None, &to, Some(&mut b), left, none).expect("splice out");
        }
    }
    assert!(sys::read_file(o.m("new")).works() == pattern(SIZE, 1));
}

fn flock_across_copy_up(t: &T) {
    let o = one(t);
    let a = ro(&o, "f");
    sys::flock(&a, FlockOperation::LockExclusive).works();
    let b = rw(&o, "f");
    sys::flock(&b, FlockOperation::NonBlockingLockShared).fails(Errno::AGAIN);
    let c = ro(&o, "f");
    sys::flock(&c, FlockOperation::NonBlockingLockExclusive).fails(Errno::AGAIN);
    sys::flock(&a, FlockOperation::Unlock).works();
    sys::flock(&b, FlockOperation::NonBlockingLockExclusive).works();
    sys::flock(&a, FlockOperation::NonBlockingLockShared).fails(Errno::AGAIN);
}

fn flock_shared_and_exclusive(t: &T) {
    let o = one(t);
    let (a, b) = (ro(&o, "f"), ro(&o, "f"));
    sys::flock(&a, FlockOperation::NonBlockingLockShared).works();
    sys::flock(&b, FlockOperation::NonBlockingLockShared).works();
    sys::flock(&a, FlockOperation::NonBlockingLockExclusive).fails(Errno::AGAIN);
    drop(b);
    sys::flock(&a, FlockOperation::NonBlockingLockExclusive).works();
    let dir = sys::open(o.m("/"), OFlags::RDONLY).works();
    sys::flock(&dir, FlockOperation::NonBlockingLockExclusive).works();
}

fn posix_locks_across_copy_up(t: &T) {
    let o = one(t);
    let a = ro(&o, "f");
    sys::posix_lock_range(&a, libc::F_RDLCK, 0, 100).works();
    let b = rw(&o, "f");
    t.in_child(|| {
        let c = rw(&o, "f");
        let errnos = [Errno::AGAIN, Errno::ACCESS];
        sys::posix_lock_range(&c, libc::F_WRLCK, 50, 10).fails_any(&errnos);
        sys::posix_lock_range(&c, libc::F_RDLCK, 50, 10).works();
        sys::posix_lock_range(&c, libc::F_WRLCK, 200, 10).works();
    });
    sys::posix_lock_range(&b, libc::F_WRLCK, 0, 100).works();
    t.in_child(|| {
        let c = ro(&o, "f");
        let errnos = [Errno::AGAIN, Errno::ACCESS];
        sys::posix_lock_range(&c, libc::F_RDLCK, 0, 1).fails_any(&errnos);
    });
    sys::posix_lock(&b, FlockOperation::Unlock).works();
    t.in_child(|| {
        sys::posix_lock_range(&rw(&o, "f"), libc::F_WRLCK, 0, 0).works();
    });
}

fn ofd_locks(t: &T) {
    let o = one(t);
    let (a, b) = (rw(&o, "f"), rw(&o, "f"));
    sys::ofd_lock(&a, libc::F_WRLCK, 0, 10).works();
    sys::ofd_lock(&b, libc::F_WRLCK, 5, 10).fails_any(&[Errno::AGAIN, Errno::ACCESS]);
    sys::ofd_lock(&b, libc::F_WRLCK, 10, 10).works();
    drop(a);
    sys::ofd_lock(&b, libc::F_WRLCK, 0, 10).works();
}

fn ignore_lease_signal() {
    // SAFETY: ignoring a signal whose handler nobody else sets.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

fn leases(t: &T) {
    ignore_lease_signal();
    let o = one(t);
    let fd = ro(&o, "small");
    sys::set_lease(&fd, libc::F_RDLCK).works();
    assert_eq!(sys::get_lease(&fd).works(), libc::F_RDLCK);
    sys::set_lease(&fd, libc::F_UNLCK).works();
    assert_eq!(sys::get_lease(&fd).works(), libc::F_UNLCK);
    let w = rw(&o, "small");
    sys::set_lease(&fd, libc::F_RDLCK).fails(Errno::AGAIN);
    drop((w, fd));
    let w = rw(&o, "small");
    sys::set_lease(&w, libc::F_WRLCK).works();
    assert_eq!(sys::get_lease(&w).works(), libc::F_WRLCK);
    sys::open(o.m("small"), OFlags::RDONLY | OFlags::NONBLOCK).fails(Errno::AGAIN);
}

fn lease_break(t: &T) {
    let o = one(t);
    let fd = ro(&o, "small");
    ignore_lease_signal();
    sys::set_lease(&fd, libc::F_RDLCK).works();
    let flags = OFlags::RDWR | OFlags::NONBLOCK;
    sys::open(o.m("small"), flags).fails(Errno::AGAIN);
    sys::set_lease(&fd, libc::F_UNLCK).works();
    sys::open(o.m("small"), flags).works();
}

fn true_program() -> Vec<u8> {
    let path = std::env::current_exe().expect("own path");
    std::fs::read(path).expect("own program")
}

/// Runs a copy of this program, which must list at least one test.
#[track_caller]
fn run_copy(o: &Overlay, n: &str) {
    let out = Command::new(o.m(n)).arg("--list").output();
    let out = out.unwrap_or_else(|e| panic!("{n}: {e}"));
    assert!(out.status.success(), "{n}: {}", out.status);
    assert!(out.stdout.len() > 100, "{n} printed too little");
}

fn with_program(t: &T) -> Overlay {
    t.stack()
        .lower(|l| {
            l.file("prog", true_program()).mode("prog", 0o755);
        })
        .mount()
}

fn exec_lower(t: &T) {
    let o = with_program(t);
    run_copy(&o, "prog");
    assert!(!sys::exists(o.u("prog")), "copied up by exec");
    sys::chmod(o.m("prog"), 0o700).works();
    run_copy(&o, "prog");
}

fn exec_upper(t: &T) {
    let o = with_program(t);
    std::fs::copy(o.m("prog"), o.m("copy")).expect("copy");
    run_copy(&o, "copy");
    sys::rename(o.m("copy"), o.m("renamed")).works();
    run_copy(&o, "renamed");
    o.remount();
    run_copy(&o, "renamed");
}

fn exec_script(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("script", "#!/bin/sh\necho said \"$1\"\n")
                .mode("script", 0o755);
        })
        .mount();
    let run = || {
        let out = Command::new(o.m("script"))
            .arg("it")
            .output()
            .expect("script");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert_eq!(run(), "said it\n");
    sys::append_file(o.m("script"), "echo more\n").works();
    assert_eq!(run(), "said it\nmore\n");
}

/// A program that is being executed cannot be written, one that is open for
/// writing cannot be executed. (Of a lower file that is executed overlayfs
/// documents that it can be written.)
/// Where a program begins, in its file.
fn entry_offset(elf: &[u8]) -> u64 {
    let word = |at: usize, len: usize| {
        let bytes = &elf[at..at + len];
        bytes.iter().rev().fold(0, |n, b| (n << 8) | u64::from(*b))
    };
    let entry = word(24, 8);
    let (table, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    for header in (0..count).map(|i| (table + i * size) as usize) {
        let (offset, start, len) = (
            word(header + 8, 8),
            word(header + 16, 8),
            word(header + 32, 8),
        );
        if word(header, 4) == 1 && (start..start + len).contains(&entry) {
            return entry - start + offset;
        }
    }
    panic!("no segment holds the entry {entry:#x}");
}

/// A probe in a program is one in the file that is mapped when it runs.
fn uprobes(t: &T) {
    let program = sys::read_file("/bin/true").works();
    let tracing = super::seen::tracefs(t);
    let events = tracing.join("uprobe_events");
    if !events.exists() {
        t.skip("the kernel has no uprobe events");
    }
    let o = t
        .stack()
        .lower(|l| {
            l.file("low", &program).mode("low", 0o755);
            l.file("copied", &program).mode("copied", 0o755);
        })
        .mount();
    sys::chmod(o.m("copied"), 0o700).works();
    for n in ["low", "copied"] {
        let at = o.m(n).display().to_string();
        let probe = format!("p:rovl_test/{n} {at}:{:#x}", entry_offset(&program));
        sys::append_file(&events, probe).works();
        let enable = tracing.join("events/rovl_test").join(n).join("enable");
        sys::write_file(&enable, "1").works();
        sys::run(&at, &[]);
        sys::write_file(&enable, "0").works();
        let profile = sys::text(tracing.join("uprobe_profile")).works();
        sys::append_file(&events, format!("-:rovl_test/{n}")).works();
        let line = profile.lines().find(|l| l.contains(&at)).expect("probe");
        assert_eq!(line.split_whitespace().last(), Some("1"), "{n}: {line}");
    }
}

fn text_busy(t: &T) {
    let o = t.stack().lower(|_| {}).mount();
    std::fs::copy("/bin/sleep", o.m("sleep")).expect("copy of /bin/sleep");
    sys::chmod(o.m("sleep"), 0o755).works();
    let mut child = Command::new(o.m("sleep"))
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep");
    let busy = sys::open(o.m("sleep"), OFlags::RDWR);
    let trunc = sys::truncate(o.m("sleep"), 0);
    let _ = child.kill();
    let _ = child.wait();
    busy.map(drop).fails(Errno::TXTBSY);
    trunc.fails(Errno::TXTBSY);
    let w = sys::open(o.m("sleep"), OFlags::RDWR).works();
    let err = Command::new(o.m("sleep")).arg("0").status().err();
    assert_eq!(err.and_then(|e| e.raw_os_error()), Some(libc::ETXTBSY));
    drop(w);
    let status = Command::new(o.m("sleep")).arg("0").status();
    assert!(status.expect("sleep").success());
}

fn fifo(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.fifo("lower");
        })
        .mount();
    sys::mknod(o.m("upper"), sys::FileType::Fifo, 0o600, 0).works();
    for n in ["lower", "upper"] {
        let r = sys::open(o.m(n), OFlags::RDONLY | OFlags::NONBLOCK).works();
        let w = sys::open(o.m(n), OFlags::WRONLY).works();
        sys::write(&w, "through").works();
        drop(w);
        assert_eq!(sys::read_rest(&r).works(), b"through", "{n}");
    }
    assert!(!sys::exists(o.u("lower")), "a fifo was copied up by open");
}

fn unix_socket(t: &T) {
    use std::os::unix::net::{UnixListener, UnixStream};
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").socket("d/old");
        })
        .mount();
    std::env::set_current_dir(o.m("d")).expect("chdir");
    let listener = match UnixListener::bind("sock") {
        // ENOSYS: no sockets of any kind, as on the debug kernel.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::ENOSYS)) => {
            std::env::set_current_dir("/").expect("chdir");
            t.skip("the kernel has no unix sockets")
        }
        other => other.expect("bind"),
    };
    let mut a = UnixStream::connect("sock").expect("connect");
    let (b, _) = listener.accept().expect("accept");
    drop(b);
    a.read_to_end(&mut Vec::new()).expect("read");
    let err = UnixStream::connect("old").err();
    assert_eq!(err.and_then(|e| e.raw_os_error()), Some(libc::ECONNREFUSED));
    std::env::set_current_dir("/").expect("chdir");
    let st = sys::lstat(o.u("d/sock")).works();
    assert_eq!(sys::kind_of(&st), sys::FileType::Socket);
}

fn read_only_fd_refuses_writes(t: &T) {
    let o = one(t);
    let fd = ro(&o, "f");
    sys::pwrite(&fd, "x", 0).fails(Errno::BADF);
    sys::ftruncate(&fd, 0).fails(Errno::INVAL);
    let w = sys::open(o.m("f"), OFlags::WRONLY).works();
    sys::pread(&w, 1, 0).fails(Errno::BADF);
    sys::pwrite(&fd, "x", 0).fails(Errno::BADF);
}

fn size_limit(t: &T) {
    let o = one(t);
    t.in_child(|| {
        // SAFETY: ignoring a signal; and a limit for this process only.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let limit = libc::rlimit {
            rlim_cur: 1_000_000,
            rlim_max: 1_000_000,
        };
        // SAFETY: `limit` is valid for the call.
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) };
        let fd = rw(&o, "small");
        sys::pwrite(&fd, "x", 2_000_000).fails(Errno::FBIG);
        sys::ftruncate(&fd, 2_000_000).fails(Errno::FBIG);
        sys::pwrite(&fd, "S", 0).works();
    });
    assert_text(o.m("small"), "Small");
}

fn many_open_files(t: &T) {
    let n = t.scaled(400, 100);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("f{i}"), i.to_string());
            }
        })
        .mount();
    let fds: Vec<OwnedFd> = (0..n)
        .map(|i| {
            if i % 2 == 0 {
                ro(&o, &format!("f{i}"))
            } else {
                rw(&o, &format!("f{i}"))
            }
        })
        .collect();
    for (i, fd) in fds.iter().enumerate() {
        assert_eq!(sys::pread(fd, 10, 0).works(), i.to_string().into_bytes());
    }
}

fn fd_passes_fork(t: &T) {
    let o = one(t);
    let fd = rw(&o, "small");
    let raw = fd.as_raw_fd();
    t.in_child(|| {
        assert_eq!(fd.as_raw_fd(), raw);
        sys::pwrite(&fd, "CHILD", 0).works();
    });
    assert_eq!(sys::pread(&fd, 5, 0).works(), b"CHILD");
}

fn lower_file_of_zero_bytes(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "");
        })
        .mount();
    let old = ro(&o, "f");
    assert!(sys::read_rest(&old).works().is_empty());
    sys::append_file(o.m("f"), "now").works();
    assert_eq!(sys::read_rest(&old).works(), b"now");
}

fn atime_of_upper(t: &T) {
    let o = one(t);
    sys::set_times(o.m("small"), (1000, 0), (2000, 0)).works();
    sys::read_file(o.m("small")).works();
    let st = sys::stat(o.m("small")).works();
    assert!(st.st_atime > 1000, "relatime updates an atime before mtime");
    assert_eq!(st.st_mtime, 2000);
    let fd = sys::open(o.m("small"), OFlags::RDONLY | OFlags::NOATIME).works();
    sys::set_times(o.m("small"), (1000, 0), (2000, 0)).works();
    sys::read_rest(&fd).works();
    assert_eq!(sys::stat(o.m("small")).works().st_atime, 1000, "O_NOATIME");
}

fn inotify(t: &T) {
    use rustix::fs::inotify::{add_watch, init, CreateFlags, Reader, WatchFlags};
    use std::mem::MaybeUninit;
    let o = one(t);
    let fd = init(CreateFlags::NONBLOCK).expect("inotify");
    let want = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
    add_watch(&fd, o.m("/"), want).expect("watch");
    let file = add_watch(&fd, o.m("small"), WatchFlags::MODIFY).expect("watch");
    sys::write_file(o.m("new"), "n").works();
    sys::append_file(o.m("small"), "+").works();
    sys::rename(o.m("small"), o.m("moved")).works();
    sys::unlink(o.m("f")).works();
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut events = Reader::new(&fd, &mut space);
    let (mut names, mut modified) = (Vec::new(), false);
    while let Ok(e) = events.next() {
        modified |= e.wd() == file;
        if let Some(n) = e.file_name() {
            names.push(n.to_string_lossy().into_owned());
        }
    }
    assert!(modified, "no event for the watched file");
    assert_eq!(names, ["new", "small", "moved", "f"]);
}

/// From here on this process may truncate nothing (Landlock).
fn refuse_truncation(t: &T) {
    const TRUNCATE: u64 = 1 << 14;
    let handled = [TRUNCATE];
    // SAFETY: the attribute is as long as it says.
    let ruleset = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            handled.as_ptr(),
            size_of_val(&handled),
            0,
        )
    };
    if ruleset < 0 {
        t.skip("the kernel has no Landlock that knows truncation");
    }
    // SAFETY: only numbers are passed.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0),
            0
        );
    }
}

/// The VFS asks whether a file may be truncated after it has opened it.
fn truncate_refused(t: &T) {
    t.better_than_overlay("it empties the file before it is asked");
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "kept");
        })
        .mount();
    t.in_child(|| {
        refuse_truncation(t);
        for access in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY] {
            sys::open(o.m("f"), access | OFlags::TRUNC).fails(Errno::ACCESS);
        }
        sys::truncate(o.m("f"), 1).fails(Errno::ACCESS);
    });
    assert_text(o.m("f"), "kept");
    assert!(!sys::exists(o.u("f")), "a refused truncation copied up");
    // And one that is allowed: every way to use the file it opens.
    let flags = OFlags::RDWR | OFlags::TRUNC;
    let fd = sys::open(o.m("f"), flags).works();
    assert_text(o.u("f"), "");
    sys::write(&fd, "new").works();
    sys::fallocate(&fd, FallocateFlags::empty(), 0, 10).works();
    sys::ftruncate(&fd, 4096).works();
    let map = Map::new(&fd, 4096, true, true).works();
    map.put(0, b"mapped");
    drop(map);
    sys::fsync(&fd).works();
    assert_eq!(&sys::read_file(o.u("f")).works()[..6], b"mapped");
}
