// SPDX-License-Identifier: GPL-2.0

//! Ways to read and write besides read(2) and write(2), and what else is done
//! with descriptors: as on a plain file system, with files that are copied up.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::SeekFrom;
use rustix::pipe::SpliceFlags;

use crate::env::{Fs, T};
use crate::plain::{same, Notes};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, Fail, FallocateFlags, Map, OFlags, Res};
use crate::tree::{assert_text, pattern, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(flags_of_one_write),
        test!(no_waiting).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(no_waiting_before_a_write),
        test!(uring_without_workers),
        test!(aio),
        test!(aio_direct).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(uring).uppers(&[Fs::Xfs, Fs::Btrfs]),
        test!(uring_direct).uppers(&[Fs::Xfs]),
        test!(uring_with_registered_files),
        test!(direct_by_flag),
        test!(flags_set_later),
        test!(pipes),
        test!(preallocation).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(holes).uppers(&[Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(extents).uppers(&[Fs::Xfs, Fs::Btrfs]),
        test!(clone_of_ranges).needs(&[Fs::Xfs, Fs::Btrfs]),
        test!(dedupe).needs(&[Fs::Xfs, Fs::Btrfs]),
        test!(copies_between_mounts).needs(&[Fs::Other]),
        test!(path_descriptors),
        test!(descriptors_opened_again),
        test!(what_files_do_not_have),
        test!(sync_file_range),
        test!(mappings),
        test!(mapping_moved_and_grown),
        test!(maps_show_the_object),
        test!(loop_device).uppers(&[Fs::Xfs]),
        test!(swap_is_refused),
        test!(special_files_in_layers),
        test!(user_xattrs_by_kind),
    ]
}

const SIZE: usize = 100_000;

fn fill(l: &Tree) {
    l.file("f", pattern(SIZE, 1)).file("g", pattern(SIZE, 2));
    l.file("small", "small").file("empty", "").symlink("s", "f");
    l.fifo("p").dir("dir");
}

fn rw(at: impl AsRef<Path>) -> OwnedFd {
    sys::open(at, OFlags::RDWR).works()
}

fn ro(at: impl AsRef<Path>) -> OwnedFd {
    sys::open(at, OFlags::RDONLY).works()
}

fn sum(data: &[u8]) -> (usize, u64) {
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
    });
    (data.len(), hash)
}

fn contents(n: &mut Notes, at: &Path) {
    let what = at
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    n.result(
        format!("contents of {what}"),
        sys::read_file(at).map(|d| sum(&d)),
    );
}

fn last<V>(what: &str) -> Res<V> {
    let errno = std::io::Error::last_os_error().raw_os_error();
    Err(Fail::new(
        what,
        errno.map_or(Errno::IO, Errno::from_raw_os_error),
    ))
}

fn number(what: &str, r: i64) -> Res<i64> {
    if r < 0 {
        last(what)
    } else {
        Ok(r)
    }
}

fn wrote(what: &str, r: Result<usize, Errno>) -> Res<usize> {
    r.map_err(|e| Fail::new(what, e))
}

/// pwritev2(2) and preadv2(2).
fn flags_of_one_write(t: &T) {
    t.better_than_overlay("RWF_NOAPPEND does nothing there");
    same(t, fill, |dir, n| {
        for (open, flags) in [
            ("plainly", OFlags::RDWR),
            ("to append", OFlags::RDWR | OFlags::APPEND),
        ] {
            let old = ro(dir.join("small"));
            let fd = sys::open(dir.join("small"), flags).works();
            for (name, flag) in [
                ("none", 0),
                ("RWF_HIPRI", libc::RWF_HIPRI),
                ("RWF_DSYNC", libc::RWF_DSYNC),
                ("RWF_SYNC", libc::RWF_SYNC),
                ("RWF_APPEND", libc::RWF_APPEND),
                ("RWF_NOAPPEND", libc::RWF_NOAPPEND),
                ("unknown", 0x4000_0000),
            ] {
                n.at = format!("opened {open}, {name}: ");
                let data = name.as_bytes();
                let iov = libc::iovec {
                    iov_base: data.as_ptr().cast_mut().cast(),
                    iov_len: data.len(),
                };
                // SAFETY: one vector with the bytes of `data`.
                let r = unsafe { libc::pwritev2(fd.as_raw_fd(), &iov, 1, 2, flag) };
                n.result("pwritev2", number("pwritev2", r as i64));
                let mut buf = [0u8; 4];
                let iov = libc::iovec {
                    iov_base: buf.as_mut_ptr().cast(),
                    iov_len: buf.len(),
                };
                for (whose, fd) in [("its own", &fd), ("an old", &old)] {
                    // SAFETY: one vector with room for as many bytes.
                    let r = unsafe { libc::preadv2(fd.as_raw_fd(), &iov, 1, 1, flag) };
                    n.result(format!("preadv2 of {whose}"), number("preadv2", r as i64));
                    n.value("read", buf);
                }
                n.result("all", sys::text(dir.join("small")));
            }
        }
    });
}

/// A read with RWF_NOWAIT.
fn read_now(fd: &OwnedFd, buf: &mut [u8], at: i64) -> Res<i64> {
    let iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    // SAFETY: one vector with room for as many bytes.
    let r = unsafe { libc::preadv2(fd.as_raw_fd(), &iov, 1, at, libc::RWF_NOWAIT) };
    number("preadv2", r as i64)
}

/// A write with RWF_NOWAIT.
fn write_now(fd: &OwnedFd, data: &[u8], at: i64) -> Res<i64> {
    let iov = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: one vector with as many bytes.
    let r = unsafe { libc::pwritev2(fd.as_raw_fd(), &iov, 1, at, libc::RWF_NOWAIT) };
    number("pwritev2", r as i64)
}

/// RWF_NOWAIT does what the layer does with it.
fn no_waiting(t: &T) {
    t.better_than_overlay("RWF_NOWAIT gives EOPNOTSUPP there");
    let o = t.stack().lower(fill).mount();
    let mut buf = [0; 4];
    let old = ro(o.m("f"));
    let lower = sys::pread(&old, SIZE, 0).works();
    let has_reads = |fs| !matches!(fs, Fs::Tmpfs);
    if has_reads(t.variant.lower) {
        assert_eq!(read_now(&old, &mut buf, 8).works(), 4);
        assert_eq!(buf, lower[8..12]);
    } else {
        read_now(&old, &mut buf, 8)
            .map(drop)
            .fails(Errno::OPNOTSUPP);
    }
    sys::append_file(o.m("f"), "+").works();
    let fd = rw(o.m("f"));
    if has_reads(t.variant.lower) {
        // The copy has to be opened first.
        read_now(&old, &mut buf, 0).map(drop).fails(Errno::AGAIN);
    }
    sys::pwrite(&fd, "newer", 8).works();
    assert_eq!(sys::pread(&old, 5, 8).works(), b"newer");
    if has_reads(t.variant.upper) {
        for fd in [&old, &fd] {
            assert_eq!(read_now(fd, &mut buf, 8).works(), 4);
            assert_eq!(&buf, b"newe");
        }
    } else {
        read_now(&fd, &mut buf, 8).map(drop).fails(Errno::OPNOTSUPP);
        read_now(&old, &mut buf, 8)
            .map(drop)
            .fails(Errno::OPNOTSUPP);
    }
    match t.variant.upper {
        Fs::Xfs | Fs::Btrfs => match write_now(&fd, b"last", 8) {
            Ok(written) => {
                assert_eq!(written, 4);
                assert_eq!(sys::pread(&old, 5, 8).works(), b"lastr");
            }
            other => other.map(drop).fails(Errno::AGAIN),
        },
        _ => write_now(&fd, b"last", 8).map(drop).fails(Errno::OPNOTSUPP),
    }
}

/// What has to be waited for before a write begins.
fn no_waiting_before_a_write(t: &T) {
    t.better_than_overlay("RWF_NOWAIT gives EOPNOTSUPP there");
    let own = t.own_fs(Fs::Ext4, 64);
    let o = t.stack().lower(fill).upper_in(&own.at).mount();
    let data = sys::Aligned::new(4096, 7);
    let fd = sys::open(o.m("f"), OFlags::RDWR | OFlags::DIRECT).works();
    sys::direct_write(&fd, 1, 4096, 0).works();
    let frozen = sys::Frozen::freeze(&own.at).works();
    write_now(&fd, &data, 0).map(drop).fails(Errno::AGAIN);
    frozen.thaw();
    // A set-id bit goes first, for whoever has no right to leave it.
    sys::chmod(o.m("f"), 0o4777).works();
    t.as_user(1000, 1000, || {
        write_now(&fd, &data, 0).map(drop).fails(Errno::AGAIN);
    });
    assert_eq!(sys::mode_of(&sys::stat(o.m("f")).works()), 0o4777);
    t.as_user(1000, 1000, || {
        sys::direct_write(&fd, 2, 4096, 0).works();
    });
    assert_eq!(sys::mode_of(&sys::stat(o.m("f")).works()), 0o777);
    assert_eq!(sys::pread(&ro(o.m("f")), 2, 0).works(), [2, 2]);
    // What the times are told may have to wait: as a plain file, it says so.
    for _ in 0..100 {
        match write_now(&fd, &data, 0) {
            Ok(written) => {
                assert_eq!(written, 4096);
                assert_eq!(sys::pread(&ro(o.m("f")), 2, 0).works(), [7, 7]);
            }
            other => other.map(drop).fails(Errno::AGAIN),
        }
    }
    drop(fd);
    o.umount();
    own.umount_and_check();
    own.mount();
}

/// Threads of io_uring that work for this process.
fn uring_workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.starts_with("iou-wrk"))
        .count()
}

/// What is to be had at once is read without a helper thread.
fn uring_without_workers(t: &T) {
    use io_uring::{opcode, squeue::Flags, types};
    t.better_than_overlay("each read is given to a helper thread there");
    let o = t.stack().lower(fill).mount();
    let lower = ro(o.m("f"));
    sys::append_file(o.m("g"), "+").works();
    let upper = ro(o.m("g"));
    for fd in [&lower, &upper] {
        sys::pread(fd, SIZE, 0).works();
    }
    // Threads belong to the process that has been waited for.
    t.in_child(|| {
        let mut ring = ring(t);
        let mut buf = [0; 4096];
        let mut read = |fd: &OwnedFd| {
            opcode::Read::new(types::Fd(fd.as_raw_fd()), buf.as_mut_ptr(), 4096)
                .offset(4096)
                .build()
        };
        for fd in [&lower, &upper] {
            let entry = read(fd);
            assert_eq!(submit(&mut ring, vec![entry]), [4096]);
        }
        assert_eq!(
            uring_workers(),
            0,
            "a helper thread has read what was there"
        );
        let entry = read(&lower).flags(Flags::ASYNC);
        assert_eq!(submit(&mut ring, vec![entry]), [4096]);
        assert!(uring_workers() > 0, "this does not see helper threads");
        // What goes over to a copy is read all the same.
        sys::append_file(o.m("f"), "+").works();
        let entry = read(&lower);
        assert_eq!(submit(&mut ring, vec![entry]), [4096]);
    });
}

/// `struct iocb` of io_submit(2).
#[repr(C)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct IoEvent {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

struct Aio(u64);

const AIO_PREAD: u16 = 0;
const AIO_PWRITE: u16 = 1;
const AIO_FSYNC: u16 = 2;
const AIO_FDSYNC: u16 = 3;

impl Aio {
    fn new(t: &T) -> Aio {
        let mut ctx = 0u64;
        // SAFETY: `ctx` is what the call writes.
        let r = unsafe { libc::syscall(libc::SYS_io_setup, 64, &mut ctx) };
        if r != 0 {
            t.skip("the kernel has no AIO");
        }
        Aio(ctx)
    }

    /// Submits all at once and waits for all; results in order of submission.
    fn run(&self, requests: Vec<(u16, &OwnedFd, &mut [u8], i64)>) -> Vec<i64> {
        let mut iocbs: Vec<Iocb> = requests
            .into_iter()
            .enumerate()
            .map(|(i, (opcode, fd, buf, offset))| Iocb {
                data: i as u64,
                key: 0,
                rw_flags: 0,
                opcode,
                reqprio: 0,
                fildes: fd.as_raw_fd() as u32,
                buf: if opcode < 2 {
                    buf.as_mut_ptr() as u64
                } else {
                    0
                },
                nbytes: if opcode < 2 { buf.len() as u64 } else { 0 },
                offset: if opcode < 2 { offset } else { 0 },
                reserved: 0,
                flags: 0,
                resfd: 0,
            })
            .collect();
        let list: Vec<*mut Iocb> = iocbs.iter_mut().map(|i| &raw mut *i).collect();
        let mut results = vec![i64::MIN; list.len()];
        let mut submitted = 0;
        while submitted < list.len() {
            let left = &list[submitted..];
            // SAFETY: valid iocbs whose buffers live until all have completed.
            let r =
                unsafe { libc::syscall(libc::SYS_io_submit, self.0, left.len(), left.as_ptr()) };
            if r < 0 {
                results[submitted] =
                    -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
                submitted += 1;
            }
            submitted += r.max(0) as usize;
        }
        while results.contains(&i64::MIN) {
            let mut events = [IoEvent::default(); 16];
            // SAFETY: room for as many events as are asked for.
            let r = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.0,
                    1,
                    events.len(),
                    events.as_mut_ptr(),
                    std::ptr::null::<libc::timespec>(),
                )
            };
            assert!(r > 0, "io_getevents: {}", std::io::Error::last_os_error());
            for e in &events[..r as usize] {
                results[e.data as usize] = e.res;
            }
        }
        results
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: the context of `new`; nothing is in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

fn aio_on(t: &T, dir: &Path, n: &mut Notes, direct: OFlags) {
    let aio = Aio::new(t);
    let at = dir.join("f");
    let old = sys::open(&at, OFlags::RDONLY | direct).works();
    let mut buf = sys::Aligned::new(8192, 0);
    let r = aio.run(vec![(AIO_PREAD, &old, &mut buf[..], 4096)]);
    n.value("read of a file", (r, sum(&buf)));
    let fd = sys::open(&at, OFlags::RDWR | direct).works();
    let mut blocks: Vec<sys::Aligned> = (0..16).map(|i| sys::Aligned::new(4096, i)).collect();
    let writes = blocks
        .iter_mut()
        .enumerate()
        .map(|(i, b)| (AIO_PWRITE, &fd, &mut b[..], 4096 * (2 * i as i64)))
        .collect();
    n.value("writes", aio.run(writes));
    n.value("fsync", aio.run(vec![(AIO_FSYNC, &fd, &mut [][..], 0)]));
    n.value("fdsync", aio.run(vec![(AIO_FDSYNC, &fd, &mut [][..], 0)]));
    n.value("size", sys::fstat(&fd).works().st_size);
    // Beyond the end, and through the descriptor from before.
    let mut more = sys::Aligned::new(4096, 77);
    n.value(
        "extends",
        aio.run(vec![(AIO_PWRITE, &fd, &mut more[..], 1 << 20)]),
    );
    n.value("size then", sys::stat(&at).works().st_size);
    let r = aio.run(vec![(AIO_PREAD, &old, &mut buf[..], 0)]);
    n.value("read of an old one", (r, sum(&buf)));
    n.value(
        "write to an old one",
        aio.run(vec![(AIO_PWRITE, &old, &mut more[..], 0)]),
    );
    contents(n, &at);
}

fn aio(t: &T) {
    same(t, fill, |dir, n| aio_on(t, dir, n, OFlags::empty()));
}

fn aio_direct(t: &T) {
    same(t, fill, |dir, n| aio_on(t, dir, n, OFlags::DIRECT));
}

fn ring(t: &T) -> io_uring::IoUring {
    match io_uring::IoUring::new(32) {
        Ok(ring) => ring,
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => t.skip("the kernel has no io_uring"),
        Err(e) => panic!("io_uring_setup: {e}"),
    }
}

/// Runs entries one after the other, or all at once; what came of each.
fn submit(ring: &mut io_uring::IoUring, entries: Vec<io_uring::squeue::Entry>) -> Vec<i32> {
    let count = entries.len();
    let mut results = vec![i32::MIN; count];
    for (i, e) in entries.into_iter().enumerate() {
        // SAFETY: the buffers and descriptors of the entries outlive this call,
        // which waits for all of them.
        unsafe { ring.submission().push(&e.user_data(i as u64)) }.expect("ring");
    }
    ring.submit_and_wait(count).expect("io_uring_enter");
    while results.contains(&i32::MIN) {
        let done: Vec<_> = ring
            .completion()
            .map(|c| (c.user_data(), c.result()))
            .collect();
        if done.is_empty() {
            ring.submit_and_wait(1).expect("io_uring_enter");
        }
        for (i, result) in done {
            results[i as usize] = result;
        }
    }
    results
}

fn uring_on(t: &T, dir: &Path, n: &mut Notes, direct: OFlags) {
    use io_uring::{opcode, types};
    let mut ring = ring(t);
    let at = dir.join("f");
    let old = sys::open(&at, OFlags::RDONLY | direct).works();
    let old_fd = types::Fd(old.as_raw_fd());
    let mut buf = sys::Aligned::new(8192, 0);
    let read = |buf: &mut [u8], at: u64| {
        opcode::Read::new(old_fd, buf.as_mut_ptr(), buf.len() as u32)
            .offset(at)
            .build()
    };
    let r = submit(&mut ring, vec![read(&mut buf, 4096)]);
    n.value("read", (r, sum(&buf)));
    let fd = sys::open(&at, OFlags::RDWR | direct).works();
    let raw = types::Fd(fd.as_raw_fd());
    let blocks: Vec<sys::Aligned> = (0..16).map(|i| sys::Aligned::new(4096, i)).collect();
    let writes = blocks
        .iter()
        .enumerate()
        .map(|(i, b)| {
            opcode::Write::new(raw, b.as_ptr(), b.len() as u32)
                .offset(8192 * i as u64)
                .build()
        })
        .collect();
    n.value("writes", submit(&mut ring, writes));
    n.value(
        "fsync",
        submit(&mut ring, vec![opcode::Fsync::new(raw).build()]),
    );
    n.value(
        "fallocate",
        submit(
            &mut ring,
            vec![opcode::Fallocate::new(raw, 400_000).build()],
        ),
    );
    n.value(
        "sync_file_range",
        submit(
            &mut ring,
            vec![opcode::SyncFileRange::new(raw, 4096).build()],
        ),
    );
    n.value(
        "fadvise",
        submit(
            &mut ring,
            vec![opcode::Fadvise::new(raw, 4096, libc::POSIX_FADV_WILLNEED).build()],
        ),
    );
    n.value(
        "ftruncate",
        submit(
            &mut ring,
            vec![opcode::Ftruncate::new(raw, 300_000).build()],
        ),
    );
    let r = submit(&mut ring, vec![read(&mut buf, 0)]);
    n.value("read of an old one", (r, sum(&buf)));
    let write = opcode::Write::new(old_fd, blocks[0].as_ptr(), 4096).build();
    n.value("write to an old one", submit(&mut ring, vec![write]));
    // By name: everything is done by the ring.
    let here = types::Fd(libc::AT_FDCWD);
    let c = |name: &str| sys::cpath(&dir.join(name));
    let (g, h, k, new) = (c("g"), c("h"), c("k"), c("newdir"));
    let open = opcode::OpenAt::new(here, g.as_ptr())
        .flags(libc::O_RDWR)
        .build();
    let opened = submit(&mut ring, vec![open])[0];
    n.value("open", opened >= 0);
    if opened >= 0 {
        n.value(
            "close",
            submit(
                &mut ring,
                vec![opcode::Close::new(types::Fd(opened)).build()],
            ),
        );
    }
    for (what, entry) in [
        (
            "link",
            opcode::LinkAt::new(here, g.as_ptr(), here, h.as_ptr()).build(),
        ),
        (
            "rename",
            opcode::RenameAt::new(here, h.as_ptr(), here, k.as_ptr()).build(),
        ),
        ("unlink", opcode::UnlinkAt::new(here, g.as_ptr()).build()),
        (
            "mkdir",
            opcode::MkDirAt::new(here, new.as_ptr()).mode(0o755).build(),
        ),
    ] {
        n.value(what, submit(&mut ring, vec![entry]));
    }
    n.result("names", sys::names(dir));
    contents(n, &at);
    contents(n, &dir.join("k"));
}

fn uring(t: &T) {
    same(t, fill, |dir, n| uring_on(t, dir, n, OFlags::empty()));
}

fn uring_direct(t: &T) {
    same(t, fill, |dir, n| uring_on(t, dir, n, OFlags::DIRECT));
}

/// Files and buffers that the ring knows, and writes that hang on each other.
fn uring_with_registered_files(t: &T) {
    use io_uring::{opcode, squeue::Flags, types};
    same(t, fill, |dir, n| {
        let mut ring = ring(t);
        let fd = rw(dir.join("f"));
        ring.submitter()
            .register_files(&[fd.as_raw_fd()])
            .expect("files");
        let mut buf = sys::Aligned::new(4096, 9);
        let iov = libc::iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        // SAFETY: the buffer lives as long as the ring uses it.
        unsafe { ring.submitter().register_buffers(&[iov]) }.expect("buffers");
        let file = types::Fixed(0);
        let write = |at| {
            opcode::WriteFixed::new(file, buf.as_ptr(), 4096, 0)
                .offset(at)
                .build()
                .flags(Flags::IO_LINK)
        };
        let fsync = opcode::Fsync::new(file).build();
        n.value(
            "linked",
            submit(
                &mut ring,
                vec![write(0), write(50_000), write(200_000), fsync],
            ),
        );
        let read = opcode::ReadFixed::new(file, buf.as_mut_ptr(), 4096, 0)
            .offset(4096)
            .build();
        n.value("read", submit(&mut ring, vec![read]));
        n.value("buffer", sum(&buf));
        // The ring goes later than its descriptor, and the file is to go now.
        ring.submitter().unregister_files().expect("files");
        contents(n, &dir.join("f"));
    });
}

/// O_DIRECT that comes and goes with F_SETFL.
fn direct_by_flag(t: &T) {
    same(t, fill, |dir, n| {
        for name in ["f", "g"] {
            let fd = if name == "f" {
                ro(dir.join(name))
            } else {
                rw(dir.join(name))
            };
            n.at = format!("{name}: ");
            n.call("set", set_flags(&fd, OFlags::DIRECT));
            n.result(
                "aligned read",
                sys::direct_read(&fd, 4096, 0).map(|d| sum(&d)),
            );
            sys::append_file(dir.join(name), "+").works();
            n.result(
                "aligned read of a copy",
                sys::direct_read(&fd, 4096, 4096).map(|d| sum(&d)),
            );
            n.call("cleared", set_flags(&fd, OFlags::empty()));
            n.result("unaligned read", sys::pread(&fd, 100, 7).map(|d| sum(&d)));
        }
    });
}

fn set_flags(fd: &OwnedFd, flags: OFlags) -> Res<()> {
    // SAFETY: F_SETFL takes a number.
    let r = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags.bits()) };
    number("F_SETFL", r.into()).map(drop)
}

fn get_flags(fd: &OwnedFd) -> i32 {
    // SAFETY: F_GETFL takes nothing.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) }
}

fn flags_set_later(t: &T) {
    same(t, fill, |dir, n| {
        let fd = rw(dir.join("small"));
        for (name, flags) in [
            ("append", OFlags::APPEND),
            ("nonblock", OFlags::NONBLOCK),
            ("noatime", OFlags::NOATIME),
            ("all", OFlags::APPEND | OFlags::NOATIME | OFlags::NONBLOCK),
            ("none", OFlags::empty()),
        ] {
            n.at = format!("{name}: ");
            n.call("set", set_flags(&fd, flags));
            n.value("flags", format!("{:o}", get_flags(&fd)));
            n.result("position", sys::seek(&fd, SeekFrom::Start(1)));
            n.call("write", sys::write(&fd, "W"));
            n.call("pwrite", sys::pwrite(&fd, "P", 2));
            n.result("position", sys::seek(&fd, SeekFrom::Current(0)));
            n.result("contents", sys::text(dir.join("small")));
        }
    });
}

/// splice, tee, vmsplice and sendfile, from and to files of both layers.
fn pipes(t: &T) {
    use rustix::pipe::{splice, tee};
    let none = SpliceFlags::empty();
    same(t, fill, |dir, n| {
        let old = ro(dir.join("f"));
        let w = rw(dir.join("f"));
        sys::pwrite(&w, "new", 0).works();
        let (r1, w1) = crate::env::pipe();
        let (r2, w2) = crate::env::pipe();
        let mut at = 1;
        n.result(
            "from an old one",
            wrote("splice", splice(&old, Some(&mut at), &w1, None, 3000, none)),
        );
        n.value("its position", at);
        n.result("tee", wrote("tee", tee(&r1, &w2, 3000, none)));
        let mut to = 70_000;
        n.result(
            "to the file",
            wrote("splice", splice(&r1, None, &w, Some(&mut to), 3000, none)),
        );
        n.value("position", to);
        n.result("to its end", sys::seek(&w, SeekFrom::End(0)));
        n.result(
            "without an offset",
            wrote("splice", splice(&r2, None, &w, None, 3000, none)),
        );
        n.result("position", sys::seek(&w, SeekFrom::Current(0)));
        let appending = sys::open(dir.join("g"), OFlags::WRONLY | OFlags::APPEND).works();
        sys::write(&OwnedFd::from(w1.try_clone().expect("dup")), "piped").works();
        n.result(
            "to one that appends",
            wrote("splice", splice(&r1, None, &appending, None, 5, none)),
        );
        let page = sys::Aligned::new(4096, 5);
        let iov = libc::iovec {
            iov_base: page.as_ptr().cast_mut().cast(),
            iov_len: 4096,
        };
        // SAFETY: one vector, whose bytes stay until the pipe is read.
        let r = unsafe { libc::vmsplice(w2.as_raw_fd(), &iov, 1, 0) };
        n.result("vmsplice", number("vmsplice", r as i64));
        let g = rw(dir.join("g"));
        n.result(
            "pages to the file",
            wrote("splice", splice(&r2, None, &g, None, 4096, none)),
        );
        n.result(
            "sendfile",
            wrote(
                "sendfile",
                rustix::fs::sendfile(&g, &old, Some(&mut 5), 9000),
            ),
        );
        n.result(
            "to a read-only one",
            wrote("sendfile", rustix::fs::sendfile(&old, &g, Some(&mut 0), 10)),
        );
        for name in ["f", "g"] {
            contents(n, &dir.join(name));
        }
    });
}

fn preallocation(t: &T) {
    same(t, fill, |dir, n| {
        let keep = FallocateFlags::KEEP_SIZE;
        for (what, flags, at, len) in [
            ("allocate", FallocateFlags::empty(), 0, 200_000),
            ("allocate, size kept", keep, 300_000, 100_000),
            (
                "punch a hole",
                FallocateFlags::PUNCH_HOLE | keep,
                4096,
                8192,
            ),
            (
                "punch a hole, unaligned",
                FallocateFlags::PUNCH_HOLE | keep,
                20_001,
                3000,
            ),
            ("punch, size not kept", FallocateFlags::PUNCH_HOLE, 0, 10),
            ("zeros", FallocateFlags::ZERO_RANGE, 40_000, 5000),
            (
                "zeros, size kept",
                FallocateFlags::ZERO_RANGE | keep,
                390_000,
                50_000,
            ),
            ("insert", FallocateFlags::INSERT_RANGE, 16_384, 16_384),
            ("insert, unaligned", FallocateFlags::INSERT_RANGE, 1, 16_384),
            ("collapse", FallocateFlags::COLLAPSE_RANGE, 8192, 4096),
            (
                "collapse behind the end",
                FallocateFlags::COLLAPSE_RANGE,
                1 << 30,
                4096,
            ),
            ("unshare", FallocateFlags::UNSHARE_RANGE, 0, 100_000),
            ("nothing", FallocateFlags::empty(), 0, 0),
            ("too much", FallocateFlags::empty(), 1 << 62, 1 << 61),
        ] {
            n.at = format!("{what}: ");
            let fd = rw(dir.join("f"));
            n.call("result", sys::fallocate(&fd, flags, at, len));
            n.value("size", sys::fstat(&fd).works().st_size);
            contents(n, &dir.join("f"));
        }
        n.at = String::new();
        n.call(
            "of a directory",
            sys::fallocate(&ro(dir.join("dir")), FallocateFlags::empty(), 0, 1),
        );
        let p = sys::open(dir.join("p"), OFlags::RDWR).works();
        n.call(
            "of a fifo",
            sys::fallocate(&p, FallocateFlags::empty(), 0, 1),
        );
    });
}

fn holes(t: &T) {
    t.better_than_overlay("its copies have blocks where the lower file has holes");
    let fill = |l: &Tree| {
        l.file("f", "");
        let fd = rw(l.at("f"));
        for i in 0..6 {
            sys::pwrite(&fd, [1; 65536], i * 262_144 + 65536).works();
        }
        sys::ftruncate(&fd, 2_000_000).works();
        sys::fsync(&fd).works();
    };
    same(t, fill, |dir, n| {
        let look = |n: &mut Notes, fd: &OwnedFd| {
            for at in (0..2_100_000).step_by(65536) {
                n.result(format!("data from {at}"), sys::seek(fd, SeekFrom::Data(at)));
                n.result(format!("hole from {at}"), sys::seek(fd, SeekFrom::Hole(at)));
            }
            n.result("position", sys::seek(fd, SeekFrom::Current(0)));
        };
        let old = ro(dir.join("f"));
        n.at = "at first: ".into();
        look(n, &old);
        let w = rw(dir.join("f"));
        n.at = "copied up, old descriptor: ".into();
        look(n, &old);
        sys::pwrite(&w, [2; 65536], 0).works();
        sys::fsync(&w).works();
        n.at = "written: ".into();
        look(n, &old);
        look(n, &w);
    });
}

/// One extent of FS_IOC_FIEMAP.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; 32],
}

const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
const FIEMAP_FLAG_SYNC: u32 = 1;

fn fiemap(fd: &OwnedFd, flags: u32) -> Res<Vec<(u64, u64, u64)>> {
    let mut map = Fiemap {
        start: 0,
        length: u64::MAX,
        flags,
        mapped: 0,
        count: 32,
        reserved: 0,
        extents: [Extent::default(); 32],
    };
    // SAFETY: a map with room for as many extents as it says.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &mut map) };
    number("FS_IOC_FIEMAP", r.into())?;
    let all = map.extents[..map.mapped as usize].iter();
    Ok(all.map(|e| (e.logical, e.physical, e.length)).collect())
}

/// The extents are those of the object below, on the disk when they are asked
/// for so.
fn extents(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", pattern(SIZE, 1));
            sys::fsync(&rw(l.at("f"))).works();
        })
        .mount();
    let of = |path: &Path| fiemap(&ro(path), FIEMAP_FLAG_SYNC).works();
    assert!(!of(&o.m("f")).is_empty());
    assert_eq!(of(&o.m("f")), of(&o.l(0, "f")), "of a lower file");
    let old = ro(o.m("f"));
    let fd = rw(o.m("f"));
    sys::pwrite(&fd, "end", 1 << 20).works();
    let seen = of(&o.m("f"));
    assert_eq!(seen, of(&o.u("f")), "of its copy");
    assert!(
        seen.iter().any(|(logical, _, _)| *logical >= 983_040),
        "not written out: {seen:?}"
    );
    assert_eq!(fiemap(&old, 0).works(), seen, "by a descriptor from before");
    assert_eq!(fiemap(&ro(o.m("/")), 0).err().map(|e| e.errno), {
        // Directories have extents on some file systems; here they are of many.
        Some(Errno::OPNOTSUPP)
    });
}

#[repr(C)]
struct CloneRange {
    fd: i64,
    from: u64,
    len: u64,
    to: u64,
}

const FICLONERANGE: libc::Ioctl = 0x4020_940d_u32 as libc::Ioctl;
const FIDEDUPERANGE: libc::Ioctl = 0xc018_9436_u32 as libc::Ioctl;

fn clone_range(from: &OwnedFd, at: u64, len: u64, to: &OwnedFd, to_at: u64) -> Res<()> {
    let range = CloneRange {
        fd: from.as_raw_fd().into(),
        from: at,
        len,
        to: to_at,
    };
    // SAFETY: `range` is what the ioctl reads.
    let r = unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE, &range) };
    number("FICLONERANGE", r.into()).map(drop)
}

#[repr(C)]
struct Dedupe {
    at: u64,
    len: u64,
    count: u16,
    reserved1: u16,
    reserved2: u32,
    fd: i64,
    to: u64,
    deduped: u64,
    status: i32,
    reserved: u32,
}

fn dedupe_range(from: &OwnedFd, at: u64, len: u64, to: &OwnedFd, to_at: u64) -> Res<(i32, u64)> {
    let mut all = Dedupe {
        at,
        len,
        count: 1,
        reserved1: 0,
        reserved2: 0,
        fd: to.as_raw_fd().into(),
        to: to_at,
        deduped: 0,
        status: 0,
        reserved: 0,
    };
    // SAFETY: `all` is one request with one target, which the ioctl changes.
    let r = unsafe { libc::ioctl(from.as_raw_fd(), FIDEDUPERANGE, &mut all) };
    number("FIDEDUPERANGE", r.into()).map(|_| (all.status, all.deduped))
}

fn on(t: &T, fs: Fs, fill: impl Fn(&Tree)) -> Overlay {
    let room = t.room(fs).join(t.fresh("stack"));
    sys::mkdir(&room, 0o755).works();
    t.stack().upper_in(&room).lower_on(fs, fill).mount()
}

fn clone_of_ranges(t: &T) {
    for fs in [Fs::Xfs, Fs::Btrfs] {
        let o = on(t, fs, fill);
        let (f, g) = (pattern(SIZE, 1), pattern(SIZE, 2));
        let to = rw(o.m("g"));
        // From a lower file, which stays there.
        clone_range(&ro(o.m("f")), 8192, 16_384, &to, 4096).works();
        assert!(!sys::exists(o.u("f")), "the source was copied up");
        let mut want = g.clone();
        want[4096..20_480].copy_from_slice(&f[8192..24_576]);
        assert!(sys::read_file(o.m("g")).works() == want, "{fs:?}");
        // Within one file, to behind its end, to the end of the source.
        clone_range(&to, 0, 4096, &to, 131_072).works();
        assert_eq!(sys::fstat(&to).works().st_size, 135_168);
        clone_range(&ro(o.m("f")), 98_304, 0, &to, 135_168).works();
        assert_eq!(sys::fstat(&to).works().st_size, 136_864);
        clone_range(&ro(o.m("f")), 1, 4096, &to, 0).fails(Errno::INVAL);
        clone_range(&to, 0, 8192, &to, 4096).fails(Errno::INVAL);
        clone_range(&to, 0, 4096, &ro(o.m("g")), 4096).fails(Errno::BADF);
        // What is cloned is shared until it is written to.
        sys::pwrite(&to, "own", 4096).works();
        assert!(
            sys::read_file(o.m("f")).works() == f,
            "{fs:?}: the source changed"
        );
        // Another file system has nothing to share.
        let outside = t.room(Fs::Ext4).join(t.fresh("outside"));
        sys::write_file(&outside, "x").works();
        clone_range(&ro(&outside), 0, 0, &to, 0).fails(Errno::XDEV);
        clone_range(&to, 0, 4096, &rw(&outside), 0).fails(Errno::XDEV);
    }
}

/// Nothing is copied up in order to save space.
fn dedupe(t: &T) {
    for fs in [Fs::Xfs, Fs::Btrfs] {
        let o = on(t, fs, |l| {
            l.file("a", pattern(65536, 1)).file("b", pattern(65536, 1));
        });
        let differ = 1;
        let status = |from: &str, at, to: &str| {
            dedupe_range(&ro(o.m(from)), at, 16_384, &rw_or_ro(&o, to), at)
                .works()
                .0
        };
        assert_eq!(status("a", 0, "b"), -libc::EPERM, "both in a lower layer");
        assert!(!sys::exists(o.u("a")) && !sys::exists(o.u("b")));
        for name in ["a", "b"] {
            drop(rw(o.m(name)));
        }
        let (a, b) = (ro(o.m("a")), rw(o.m("b")));
        assert_eq!(
            dedupe_range(&a, 0, 16_384, &b, 0).works(),
            (0, 16_384),
            "{fs:?}"
        );
        sys::pwrite(&b, "else", 20_000).works();
        assert_eq!(
            dedupe_range(&a, 16_384, 16_384, &b, 16_384).works().0,
            differ
        );
        assert!(sys::read_file(o.m("a")).works() == pattern(65536, 1));
    }
}

fn rw_or_ro(o: &Overlay, name: &str) -> OwnedFd {
    ro(o.m(name))
}

/// copy_file_range between two mounts, and with a file system outside.
fn copies_between_mounts(t: &T) {
    const LEN: usize = 40_000;
    let o = t.stack().lower(fill).mount();
    let p = t.stack().lower(fill).mount();
    let outside = t.room(Fs::Other).join("out");
    sys::write_file(&outside, pattern(SIZE, 9)).works();
    let cases = [
        ("mount to mount", o.m("f"), p.m("g")),
        ("lower to outside", o.m("g"), outside.clone()),
        ("outside to lower", outside.clone(), o.m("small")),
        ("upper to mount", o.m("small"), p.m("empty")),
    ];
    for (what, from, to) in cases {
        let data = sys::read_file(&from).works();
        match sys::copy_file_range(&ro(&from), 10, &rw(&to), 10, LEN) {
            Ok(copied) => {
                assert_eq!(copied, LEN, "{what}");
                let got = sys::read_file(&to).works();
                assert!(got[10..10 + LEN] == data[10..10 + LEN], "{what}");
            }
            // Between types of file systems the kernel lets programs copy.
            Err(e) => {
                assert_eq!(e.errno, Errno::XDEV, "{what}");
                let (mut off, mut done) = (10, 0);
                let to_fd = rw(&to);
                sys::seek(&to_fd, SeekFrom::Start(10)).works();
                while done < LEN {
                    let n = rustix::fs::sendfile(&to_fd, ro(&from), Some(&mut off), LEN - done);
                    done += n.expect("sendfile");
                }
                let got = sys::read_file(&to).works();
                assert!(got[10..10 + LEN] == data[10..10 + LEN], "{what}");
            }
        }
    }
}

fn path_descriptors(t: &T) {
    same(t, fill, |dir, n| {
        for name in ["f", "s", "p", "dir"] {
            let fd = sys::open(dir.join(name), OFlags::PATH | OFlags::NOFOLLOW).works();
            n.at = format!("{name}: ");
            n.result("mode", sys::fstat(&fd).map(|s| s.st_mode));
            n.value("flags", format!("{:o}", get_flags(&fd)));
            n.call("read", sys::pread(&fd, 1, 0));
            n.call("fchmod", sys::fchmod(&fd, 0o600));
            n.call("flags of the inode", sys::get_flags(&fd));
            n.call("fsync", sys::fsync(&fd));
            n.call("mapping", Map::new(&fd, 4096, false, true));
            n.call(
                "flock",
                sys::flock(&fd, rustix::fs::FlockOperation::LockShared),
            );
            n.call(
                "link",
                sys::link_fd(&fd, dir.join(format!("{name}-linked"))),
            );
            let nonblock = OFlags::RDWR | OFlags::NONBLOCK;
            n.call("opened again", sys::open(sys::fd_path(&fd), nonblock));
            n.result("mode then", sys::fstat(&fd).map(|s| s.st_mode));
        }
    });
}

/// Descriptors opened again by /proc/self/fd have the rights they ask for, of
/// the same file: also when it has no name any more.
fn descriptors_opened_again(t: &T) {
    t.better_than_overlay("it cannot copy up a file without a name that was found by one");
    same(t, fill, |dir, n| {
        let old = ro(dir.join("f"));
        sys::unlink(dir.join("f")).works();
        let again = sys::open(sys::fd_path(&old), OFlags::RDWR);
        n.result(
            "for writing",
            again.as_ref().map(|_| ()).map_err(Clone::clone),
        );
        if let Ok(again) = again {
            n.call("write", sys::pwrite(&again, "new", 0));
            n.result("seen by the old one", sys::pread(&old, 3, 0));
            n.call("truncate", sys::ftruncate(&again, 10));
            n.result("size", sys::fstat(&old).map(|s| s.st_size));
        }
        let truncated = sys::open(sys::fd_path(&old), OFlags::WRONLY | OFlags::TRUNC);
        n.call("truncated", truncated);
        n.result("size then", sys::fstat(&old).map(|s| s.st_size));
        n.result("links", sys::fstat(&old).map(|s| s.st_nlink));
        let listed = std::fs::read_link(sys::fd_path(&old)).expect("link");
        let listed = listed.strip_prefix(dir).map(Path::to_path_buf);
        n.value("shown as", listed);
        n.result("names", sys::names(dir));
    });
}

/// Calls that plain files refuse.
fn what_files_do_not_have(t: &T) {
    same(t, fill, |dir, n| {
        let fd = rw(dir.join("f"));
        let fcntl = |what: &str, cmd: i32, arg: u64| {
            // SAFETY: a number, or an address of a number that outlives the call.
            number(
                what,
                unsafe { libc::fcntl(fd.as_raw_fd(), cmd, arg) }.into(),
            )
        };
        n.result("seals", fcntl("F_GET_SEALS", libc::F_GET_SEALS, 0));
        n.result("to seal", fcntl("F_ADD_SEALS", libc::F_ADD_SEALS, 8));
        n.result("pipe size", fcntl("F_GETPIPE_SZ", libc::F_GETPIPE_SZ, 0));
        let hint = 3u64;
        n.result(
            "write hint",
            fcntl("F_SET_RW_HINT", 1036, (&raw const hint) as u64),
        );
        let got = 0u64;
        n.result(
            "its value",
            fcntl("F_GET_RW_HINT", 1035, (&raw const got) as u64),
        );
        n.value("hint", got);
        let ioctl = |what: &str, cmd: u32| {
            let mut arg = 0i64;
            // SAFETY: none of these writes more than a long.
            let r = unsafe { libc::ioctl(fd.as_raw_fd(), cmd as libc::Ioctl, &mut arg) };
            number(what, r.into())
        };
        n.result("FIONREAD", ioctl("FIONREAD", 0x541b));
        n.result("FIOQSIZE", ioctl("FIOQSIZE", 0x5460));
        n.result("FIONBIO", ioctl("FIONBIO", 0x5421));
        n.result("TCGETS", ioctl("TCGETS", 0x5401));
        n.result("unknown", ioctl("unknown", 0xdead_beef));
    });
}

fn sync_file_range(t: &T) {
    same(t, fill, |dir, n| {
        let old = ro(dir.join("f"));
        let fd = rw(dir.join("f"));
        sys::pwrite(&fd, "x", 0).works();
        for (flags, at, len) in [(7, 0, 0), (2, 4096, 8192), (0, 0, 0), (8, 0, 0), (7, -1, 0)] {
            for (whose, fd) in [("own", &fd), ("old", &old)] {
                // SAFETY: takes numbers.
                let r = unsafe { libc::sync_file_range(fd.as_raw_fd(), at, len, flags) };
                n.result(
                    format!("{whose} {flags} {at} {len}"),
                    number("sync_file_range", r.into()),
                );
            }
        }
    });
}

/// Shared and private mappings, of descriptors from before and after.
fn mappings(t: &T) {
    same(t, fill, |dir, n| {
        let at = dir.join("f");
        let private = Map::new(&ro(&at), SIZE, true, false).works();
        private.put(10, b"mine");
        let fd = rw(&at);
        let shared = Map::new(&fd, SIZE, true, true).works();
        shared.put(20, b"ours");
        n.result("read", sys::pread(&fd, 10, 16));
        n.result("read by name", sys::pread(&ro(&at), 10, 16));
        sys::pwrite(&fd, "write", 30).works();
        n.value("mapped", shared.get(28, 10));
        n.value("private", private.get(10, 4));
        let second = Map::new(&ro(&at), SIZE, false, true).works();
        n.value("another mapping", second.get(16, 20));
        n.call("msync", shared.sync());
        sys::ftruncate(&fd, 50_000).works();
        n.value("before the new end", shared.get(49_990, 10));
        n.value("behind it, in the page", shared.get(50_001, 10));
        sys::ftruncate(&fd, SIZE as u64).works();
        n.value("grown", shared.get(60_000, 10));
        shared.put(60_000, b"again");
        n.result("read again", sys::pread(&fd, 10, 59_998));
        sys::fallocate(
            &fd,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            0,
            4096,
        )
        .works();
        n.value("a hole", shared.get(20, 4));
        sys::unlink(&at).works();
        shared.put(0, b"unlinked");
        n.result("of an unlinked one", sys::pread(&fd, 10, 0));
        let before = ro(dir.join("g"));
        let w = rw(dir.join("g"));
        sys::pwrite(&w, "copied", 0).works();
        n.call(
            "writable, of a read-only one",
            Map::new(&before, 4096, true, true),
        );
        n.call(
            "private, of a read-only one",
            Map::new(&before, 4096, true, false),
        );
        n.call("of nothing", Map::new(&w, 0, false, true));
    });
}

fn mapping_moved_and_grown(t: &T) {
    same(t, fill, |dir, n| {
        let fd = rw(dir.join("f"));
        // SAFETY: a new mapping, which is moved and unmapped as a whole, and
        // read and written inside.
        unsafe {
            let shared = libc::MAP_SHARED;
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let map = libc::mmap(
                std::ptr::null_mut(),
                8192,
                prot,
                shared,
                fd.as_raw_fd(),
                4096,
            );
            assert_ne!(map, libc::MAP_FAILED);
            let grown = libc::mremap(map, 8192, 65536, libc::MREMAP_MAYMOVE);
            assert_ne!(grown, libc::MAP_FAILED);
            let bytes = grown.cast::<u8>();
            bytes.add(20_000).write_volatile(b'G');
            n.result("grown", sys::pread(&fd, 3, 24_095));
            n.value("msync", libc::msync(grown, 65536, libc::MS_SYNC));
            n.value(
                "invalidate",
                libc::msync(grown, 65536, libc::MS_SYNC | libc::MS_INVALIDATE),
            );
            n.value("willneed", libc::madvise(grown, 65536, libc::MADV_WILLNEED));
            n.value("dontneed", libc::madvise(grown, 65536, libc::MADV_DONTNEED));
            n.value("then", bytes.add(20_000).read_volatile());
            n.value("locked", libc::mlock(grown, 4096));
            n.value("hole", libc::madvise(grown, 4096, libc::MADV_REMOVE));
            n.result("read", sys::pread(&fd, 3, 4096));
            let less = libc::mprotect(grown, 65536, libc::PROT_READ);
            n.value("read only", less);
            n.value("writable again", libc::mprotect(grown, 65536, prot));
            libc::munmap(grown, 65536);
            let old = ro(dir.join("f"));
            let map = libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ,
                shared,
                old.as_raw_fd(),
                0,
            );
            assert_ne!(map, libc::MAP_FAILED);
            n.value("may not be made writable", libc::mprotect(map, 4096, prot));
            libc::munmap(map, 4096);
        }
        contents(n, &dir.join("f"));
    });
}

/// /proc/self/maps names the object of the merged tree.
fn maps_show_the_object(t: &T) {
    let o = t
        .stack()
        .lower(fill)
        .upper(|u| {
            u.file("u", pattern(8192, 1));
        })
        .mount();
    for name in ["f", "u"] {
        let fd = ro(o.m(name));
        let map = Map::new(&fd, 4096, false, true).works();
        map.get(0, 1);
        let path = o.m(name).display().to_string();
        let check = |what: &str| {
            let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
            let line = maps.lines().find(|l| l.ends_with(&path));
            let line = line.unwrap_or_else(|| panic!("{name} {what}: not in\n{maps}"));
            let words: Vec<&str> = line.split_whitespace().collect();
            let st = sys::stat(o.m(name)).works();
            let dev = format!(
                "{:02x}:{:02x}",
                rustix::fs::major(st.st_dev),
                rustix::fs::minor(st.st_dev)
            );
            assert_eq!(
                (words[3], words[4]),
                (dev.as_str(), st.st_ino.to_string().as_str()),
                "{what}"
            );
        };
        check("at first");
        sys::append_file(o.m(name), "+").works();
        check("written");
    }
}

/// An image of a disk in the merged tree: a file system in it is used like any
/// other, and what it holds is there when it is mounted again.
fn loop_device(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("disk", "");
            sys::truncate(l.at("disk"), 16 << 20).works();
            crate::env::make_fs(Fs::Ext4, &l.at("disk"));
        })
        .mount();
    let at = t.dir.join("inside");
    sys::mkdir(&at, 0o755).works();
    for direct in ["off", "on"] {
        let device = crate::device::Loop::new(&o.m("disk"));
        let option = format!("--direct-io={direct}");
        // Not every file system takes direct I/O of this block size.
        let _ = std::process::Command::new("losetup")
            .arg(&option)
            .arg(&device.path)
            .output();
        crate::env::mount_device(Fs::Ext4, &device.path, &at, "");
        for i in 0..20 {
            let name = at.join(format!("{direct}{i}"));
            sys::write_file(&name, pattern(50_000, i)).works();
            assert!(sys::read_file(&name).works() == pattern(50_000, i));
        }
        sys::umount(&at).works();
        std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
        crate::env::mount_device(Fs::Ext4, &device.path, &at, "");
        for i in 0..20 {
            let name = at.join(format!("{direct}{i}"));
            assert!(
                sys::read_file(&name).works() == pattern(50_000, i),
                "{name:?}"
            );
        }
        for i in 0..10 {
            sys::unlink(at.join(format!("{direct}{i}"))).works();
        }
        // Blocks that are given up become holes of the image.
        let _ = std::process::Command::new("fstrim").arg(&at).output();
        sys::umount(&at).works();
        drop(device);
        crate::env::check_fs(Fs::Ext4, &o.m("disk"));
    }
}

/// Neither a lower nor an upper file is swapped to.
fn swap_is_refused(t: &T) {
    t.need_program("mkswap");
    let o = t
        .stack()
        .lower(|l| {
            l.file("swap", vec![0; 1 << 20]).mode("swap", 0o600);
            sys::run("mkswap", &[l.at("swap").as_os_str()]);
        })
        .mount();
    let swapon = || {
        let c = sys::cpath(&o.m("swap"));
        // SAFETY: a NUL-terminated path.
        number("swapon", unsafe { libc::swapon(c.as_ptr(), 0) }.into())
    };
    let before = sys::read_file(o.m("swap")).works();
    // ENOSYS: a kernel without swap.
    swapon().map(drop).fails_any(&[Errno::INVAL, Errno::NOSYS]);
    sys::chmod(o.m("swap"), 0o640).works();
    sys::chmod(o.m("swap"), 0o600).works();
    swapon().map(drop).fails_any(&[Errno::INVAL, Errno::NOSYS]);
    assert!(sys::read_file(o.m("swap")).works() == before);
    sys::append_file(o.m("swap"), "+").works();
}

fn special_files_in_layers(t: &T) {
    let fill = |l: &Tree| {
        l.node(
            "null",
            sys::FileType::CharacterDevice,
            rustix::fs::makedev(1, 3),
        );
        l.node(
            "zero",
            sys::FileType::CharacterDevice,
            rustix::fs::makedev(1, 5),
        );
        l.node(
            "none",
            sys::FileType::CharacterDevice,
            rustix::fs::makedev(250, 250),
        );
        l.fifo("p").socket("sock");
    };
    same(t, fill, |dir, n| {
        for round in ["first", "copied up"] {
            n.at = format!("{round}: ");
            n.call(
                "write to null",
                sys::pwrite(&rw(dir.join("null")), "gone", 0),
            );
            n.result("read of null", sys::pread(&ro(dir.join("null")), 4, 0));
            n.result("read of zero", sys::pread(&ro(dir.join("zero")), 4, 0));
            n.call(
                "a device that is not there",
                sys::open(dir.join("none"), OFlags::RDONLY),
            );
            n.call("a socket", sys::open(dir.join("sock"), OFlags::RDONLY));
            let nonblock = OFlags::WRONLY | OFlags::NONBLOCK;
            n.call(
                "a fifo without a reader",
                sys::open(dir.join("p"), nonblock),
            );
            let both = rw(dir.join("p"));
            sys::write(&both, "through").works();
            let reader = ro(dir.join("p"));
            let mut got = [0; 7];
            n.result(
                "through the fifo",
                wrote("read", rustix::io::read(&reader, &mut got)),
            );
            n.value("what", got);
            let map = Map::new(&rw(dir.join("zero")), 4096, true, false).works();
            map.put(0, b"x");
            n.value("mapping of zero", map.get(0, 2));
            for name in ["null", "zero", "none", "p", "sock"] {
                n.call(
                    format!("chmod of {name}"),
                    sys::chmod(dir.join(name), 0o660),
                );
                n.result(
                    name,
                    sys::stat(dir.join(name)).map(|s| (s.st_mode, s.st_rdev)),
                );
            }
        }
    });
}

fn user_xattrs_by_kind(t: &T) {
    same(t, fill, |dir, n| {
        for name in ["f", "s", "p", "dir"] {
            for xattr in [
                "user.x",
                "trusted.x",
                "security.x",
                "system.x",
                "nonsense.x",
                "user.",
            ] {
                n.at = format!("{xattr} of {name}: ");
                n.call("set", sys::set_xattr(dir.join(name), xattr, "value"));
                n.result("get", sys::get_xattr(dir.join(name), xattr));
                n.call("remove", sys::remove_xattr(dir.join(name), xattr));
                n.call("remove again", sys::remove_xattr(dir.join(name), xattr));
            }
        }
    });
    let o = t.stack().lower(fill).mount();
    sys::set_xattr(o.m("s"), "user.x", "y").fails(Errno::PERM);
    assert!(!sys::exists(o.u("s")), "copied up for nothing");
    assert_text(o.m("small"), "small");
}
