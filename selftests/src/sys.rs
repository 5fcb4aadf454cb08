// SPDX-License-Identifier: GPL-2.0

//! System calls with errors which say what was done to which file.
//!
//! A test writes `mkdir(p, 0o755).works()` when the call must work and
//! `mkdir(p, 0o755).fails(Errno::EXIST)` when it must not; both report the
//! call, the path and the place in the test.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub use rustix::fs::{
    Access, AtFlags, FallocateFlags, FileType, IFlags, Mode, OFlags, RenameFlags, Stat, Timespec,
    Timestamps, XattrFlags,
};
pub use rustix::io::Errno;

use rustix::fs as rfs;
use rustix::fs::CWD;

/// A failed system call.
#[derive(Clone)]
pub struct Fail {
    what: String,
    pub errno: Errno,
}

impl Fail {
    pub fn new(what: &str, errno: Errno) -> Fail {
        Fail {
            what: what.to_string(),
            errno,
        }
    }
}

impl fmt::Debug for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, errno_name(self.errno))
    }
}

pub type Res<T> = Result<T, Fail>;

/// The symbolic name of an errno, for messages.
pub fn errno_name(e: Errno) -> String {
    let debug = format!("{e:?}");
    let text = std::io::Error::from_raw_os_error(e.raw_os_error()).to_string();
    if debug.chars().all(|c| c.is_ascii_uppercase()) {
        format!("E{debug} ({text})")
    } else {
        text
    }
}

/// What a test expects of a call.
pub trait Expect<T> {
    /// The call must have worked.
    fn works(self) -> T;
    /// The call must have failed with this error.
    fn fails(self, errno: Errno);
    /// The call must have failed with one of these errors.
    fn fails_any(self, errnos: &[Errno]);
}

impl<T> Expect<T> for Res<T> {
    #[track_caller]
    fn works(self) -> T {
        match self {
            Ok(v) => v,
            Err(e) => panic!("{e:?}"),
        }
    }

    #[track_caller]
    fn fails(self, errno: Errno) {
        self.fails_any(&[errno]);
    }

    #[track_caller]
    fn fails_any(self, errnos: &[Errno]) {
        let names: Vec<String> = errnos.iter().map(|e| errno_name(*e)).collect();
        match self {
            Ok(_) => panic!("call worked, expected {}", names.join(" or ")),
            Err(e) if errnos.contains(&e.errno) => {}
            Err(e) => panic!("{e:?}, expected {}", names.join(" or ")),
        }
    }
}

fn wrap<T>(r: rustix::io::Result<T>, what: impl FnOnce() -> String) -> Res<T> {
    r.map_err(|errno| Fail {
        what: what(),
        errno,
    })
}

fn wrap_raw(r: i64, what: impl FnOnce() -> String) -> Res<i64> {
    if r >= 0 {
        return Ok(r);
    }
    let errno = std::io::Error::last_os_error()
        .raw_os_error()
        .map_or(Errno::IO, Errno::from_raw_os_error);
    Err(Fail {
        what: what(),
        errno,
    })
}

macro_rules! path_call {
    ($(#[$doc:meta])* $name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:ty = |$p:ident| $call:expr) => {
        $(#[$doc])*
        pub fn $name(path: impl AsRef<Path> $(, $arg: $ty)*) -> Res<$ret> {
            let $p = path.as_ref();
            wrap($call, || {
                let what = format!("{} {:?}", stringify!($name), $p);
                $( let what = format!("{what} {:?}", $arg); )*
                what
            })
        }
    };
}

path_call!(mkdir(mode: u32) -> () = |p| rfs::mkdir(p, Mode::from_raw_mode(mode)));
path_call!(rmdir() -> () = |p| rfs::rmdir(p));
path_call!(unlink() -> () = |p| rfs::unlink(p));
path_call!(stat() -> Stat = |p| rfs::stat(p));
path_call!(lstat() -> Stat = |p| rfs::lstat(p));
path_call!(chmod(mode: u32) -> () = |p| rfs::chmod(p, Mode::from_raw_mode(mode)));
path_call!(access(mode: Access) -> () = |p| rfs::access(p, mode));
path_call!(eaccess(mode: Access) -> () = |p| rfs::accessat(CWD, p, mode, AtFlags::EACCESS));
path_call!(statfs() -> rfs::StatFs = |p| rfs::statfs(p));
path_call!(open_mode(flags: OFlags, mode: u32) -> OwnedFd = |p| rfs::open(p, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode)));
path_call!(mknod(kind: FileType, mode: u32, dev: u64) -> () = |p| rfs::mknodat(CWD, p, kind, Mode::from_raw_mode(mode), dev));
path_call!(
    /// chown(2), not following a last symbolic link.
    lchown(uid: u32, gid: u32) -> () = |p| rfs::chownat(CWD, p, Some(rfs::Uid::from_raw(uid)), Some(rfs::Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
);
path_call!(
    /// utimensat(2), not following a last symbolic link.
    utimens(times: &Timestamps) -> () = |p| rfs::utimensat(CWD, p, times, AtFlags::SYMLINK_NOFOLLOW)
);
path_call!(set_xattr_flags(name: &str, value: &[u8], flags: XattrFlags) -> () = |p| rfs::lsetxattr(p, name, value, flags));
path_call!(remove_xattr(name: &str) -> () = |p| rfs::lremovexattr(p, name));

pub fn set_xattr(path: impl AsRef<Path>, name: &str, value: impl AsRef<[u8]>) -> Res<()> {
    set_xattr_flags(path, name, value.as_ref(), XattrFlags::empty())
}

pub fn open(path: impl AsRef<Path>, flags: OFlags) -> Res<OwnedFd> {
    open_mode(path, flags, 0o644)
}

/// Of an object of any kind, by an O_PATH descriptor.
pub fn chown_opath(fd: &OwnedFd, uid: u32, gid: u32) -> Res<()> {
    let owner = (rfs::Uid::from_raw(uid), rfs::Gid::from_raw(gid));
    let r = rfs::chownat(fd, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH);
    wrap(r, || format!("fchownat of {:?} {uid} {gid}", fd_path(fd)))
}

/// getxattr(2) into a buffer of this size; with none only the size is asked for.
pub fn get_xattr_into(path: impl AsRef<Path>, name: &str, size: usize) -> Res<usize> {
    let (path, mut buf) = (path.as_ref(), vec![0u8; size]);
    let (at, key) = (cpath(path), CString::new(name).expect("name without NUL"));
    // SAFETY: two strings that end in NUL, and a buffer of that size.
    let n = unsafe { libc::lgetxattr(at.as_ptr(), key.as_ptr(), buf.as_mut_ptr().cast(), size) };
    wrap_raw(n as i64, || {
        format!("getxattr {path:?} {name} into {size} bytes")
    })
    .map(|n| n as usize)
}

/// listxattr(2) into a buffer of this size; with none only the size is asked for.
pub fn list_xattr_into(path: impl AsRef<Path>, size: usize) -> Res<usize> {
    let (path, mut buf) = (path.as_ref(), vec![0u8; size]);
    let at = cpath(path);
    // SAFETY: a string that ends in NUL, and a buffer of that size.
    let n = unsafe { libc::llistxattr(at.as_ptr(), buf.as_mut_ptr().cast(), size) };
    wrap_raw(n as i64, || format!("listxattr {path:?} into {size} bytes")).map(|n| n as usize)
}

pub fn get_xattr(path: impl AsRef<Path>, name: &str) -> Res<Vec<u8>> {
    let path = path.as_ref();
    let mut buf = vec![0; 65536];
    let n = wrap(rfs::lgetxattr(path, name, &mut buf[..]), || {
        format!("getxattr {path:?} {name}")
    })?;
    buf.truncate(n);
    Ok(buf)
}

/// The value of an xattr, or None where there is none.
pub fn xattr_opt(path: impl AsRef<Path>, name: &str) -> Option<Vec<u8>> {
    match get_xattr(path, name) {
        Ok(v) => Some(v),
        Err(e) if e.errno == Errno::NODATA || e.errno == Errno::OPNOTSUPP => None,
        Err(e) => panic!("{e:?}"),
    }
}

/// The names of the xattrs, sorted.
pub fn list_xattr(path: impl AsRef<Path>) -> Res<Vec<String>> {
    let path = path.as_ref();
    let mut buf = vec![0u8; 65536];
    let n = wrap(rfs::llistxattr(path, &mut buf[..]), || {
        format!("listxattr {path:?}")
    })?;
    let mut names: Vec<String> = buf[..n]
        .split(|b| *b == 0)
        .filter(|s| !s.is_empty())
        .map(|s| String::from_utf8_lossy(s).into_owned())
        .collect();
    names.sort();
    Ok(names)
}

pub fn readlink(path: impl AsRef<Path>) -> Res<OsString> {
    let path = path.as_ref();
    wrap(rfs::readlink(path, Vec::new()), || {
        format!("readlink {path:?}")
    })
    .map(|c| OsString::from_vec(c.into_bytes()))
}

pub fn symlink(target: impl AsRef<Path>, path: impl AsRef<Path>) -> Res<()> {
    let (target, path) = (target.as_ref(), path.as_ref());
    wrap(rfs::symlink(target, path), || {
        format!("symlink {target:?} {path:?}")
    })
}

pub fn link(old: impl AsRef<Path>, new: impl AsRef<Path>) -> Res<()> {
    let (old, new) = (old.as_ref(), new.as_ref());
    wrap(rfs::link(old, new), || format!("link {old:?} {new:?}"))
}

pub fn rename(old: impl AsRef<Path>, new: impl AsRef<Path>) -> Res<()> {
    rename_with(old, new, RenameFlags::empty())
}

pub fn rename_with(old: impl AsRef<Path>, new: impl AsRef<Path>, flags: RenameFlags) -> Res<()> {
    let (old, new) = (old.as_ref(), new.as_ref());
    wrap(rfs::renameat_with(CWD, old, CWD, new, flags), || {
        format!("rename {old:?} {new:?} {flags:?}")
    })
}

pub fn truncate(path: impl AsRef<Path>, size: u64) -> Res<()> {
    let path = path.as_ref();
    let c = cpath(path);
    // SAFETY: `c` is a NUL-terminated string which outlives the call.
    let r = unsafe { libc::truncate(c.as_ptr(), size as i64) };
    wrap_raw(r.into(), || format!("truncate {path:?} {size}")).map(drop)
}

/// Gives the nameless file `fd` a name, as O_TMPFILE documents it.
pub fn link_fd(fd: &OwnedFd, new: impl AsRef<Path>) -> Res<()> {
    let new = new.as_ref();
    let old = fd_path(fd);
    wrap(
        rfs::linkat(CWD, &old, CWD, new, AtFlags::SYMLINK_FOLLOW),
        || format!("link {old:?} {new:?}"),
    )
}

pub fn fd_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

pub fn cpath(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("path without NUL")
}

macro_rules! fd_call {
    ($name:ident ( $($arg:ident : $ty:ty),* ) -> $ret:ty = |$fd:ident| $call:expr) => {
        pub fn $name($fd: &OwnedFd $(, $arg: $ty)*) -> Res<$ret> {
            wrap($call, || {
                let name = std::fs::read_link(fd_path($fd)).unwrap_or_default();
                let what = format!("{} {:?}", stringify!($name), name);
                $( let what = format!("{what} {:?}", $arg); )*
                what
            })
        }
    };
}

fd_call!(fstat() -> Stat = |fd| rfs::fstat(fd));
fd_call!(fchmod(mode: u32) -> () = |fd| rfs::fchmod(fd, Mode::from_raw_mode(mode)));
fd_call!(ftruncate(size: u64) -> () = |fd| rfs::ftruncate(fd, size));
fd_call!(fchown(uid: u32, gid: u32) -> () = |fd| rfs::fchown(fd, Some(rfs::Uid::from_raw(uid)), Some(rfs::Gid::from_raw(gid))));
fd_call!(futimens(times: &Timestamps) -> () = |fd| rfs::futimens(fd, times));
fd_call!(fset_xattr(name: &str, value: &[u8]) -> () = |fd| rfs::fsetxattr(fd, name, value, XattrFlags::empty()));
fd_call!(fsync() -> () = |fd| rfs::fsync(fd));
fd_call!(fdatasync() -> () = |fd| rfs::fdatasync(fd));
fd_call!(syncfs() -> () = |fd| rfs::syncfs(fd));
fd_call!(fallocate(mode: FallocateFlags, off: u64, len: u64) -> () = |fd| rfs::fallocate(fd, mode, off, len));
fd_call!(seek(pos: rfs::SeekFrom) -> u64 = |fd| rfs::seek(fd, pos));
fd_call!(get_flags() -> IFlags = |fd| rfs::ioctl_getflags(fd));
fd_call!(set_flags(flags: IFlags) -> () = |fd| rfs::ioctl_setflags(fd, flags));
fd_call!(flock(op: rfs::FlockOperation) -> () = |fd| rfs::flock(fd, op));
fd_call!(posix_lock(op: rfs::FlockOperation) -> () = |fd| rfs::fcntl_lock(fd, op));

pub fn pread(fd: &OwnedFd, len: usize, off: u64) -> Res<Vec<u8>> {
    let mut buf = vec![0; len];
    let mut done = 0;
    while done < len {
        let n = wrap(
            rustix::io::pread(fd, &mut buf[done..], off + done as u64),
            || format!("pread {:?} {len} at {off}", fd_path(fd)),
        )?;
        if n == 0 {
            break;
        }
        done += n;
    }
    buf.truncate(done);
    Ok(buf)
}

pub fn pwrite(fd: &OwnedFd, data: impl AsRef<[u8]>, off: u64) -> Res<()> {
    let data = data.as_ref();
    let mut done = 0;
    while done < data.len() {
        done += wrap(
            rustix::io::pwrite(fd, &data[done..], off + done as u64),
            || format!("pwrite {} bytes at {off}", data.len()),
        )?;
    }
    Ok(())
}

pub fn write(fd: &OwnedFd, data: impl AsRef<[u8]>) -> Res<()> {
    let mut data = data.as_ref();
    while !data.is_empty() {
        let n = wrap(rustix::io::write(fd, data), || {
            format!("write {} bytes", data.len())
        })?;
        data = &data[n..];
    }
    Ok(())
}

/// Reads from the position of `fd` to the end of the file.
pub fn read_rest(fd: &OwnedFd) -> Res<Vec<u8>> {
    let mut all = Vec::new();
    let mut buf = vec![0; 65536];
    loop {
        let n = wrap(rustix::io::read(fd, &mut buf[..]), || {
            format!("read {:?}", fd_path(fd))
        })?;
        if n == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&buf[..n]);
    }
}

pub fn read_file(path: impl AsRef<Path>) -> Res<Vec<u8>> {
    read_rest(&open(path, OFlags::RDONLY)?)
}

/// Reads a file which holds text.
pub fn text(path: impl AsRef<Path>) -> Res<String> {
    Ok(String::from_utf8_lossy(&read_file(path)?).into_owned())
}

/// open(O_WRONLY|O_CREAT|O_TRUNC) and write.
pub fn write_file(path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Res<()> {
    let fd = open_mode(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, 0o644)?;
    write(&fd, data)
}

pub fn append_file(path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Res<()> {
    write(&open(path, OFlags::WRONLY | OFlags::APPEND)?, data)
}

pub fn exists(path: impl AsRef<Path>) -> bool {
    match lstat(path) {
        Ok(_) => true,
        Err(e) if e.errno == Errno::NOENT => false,
        Err(e) => panic!("{e:?}"),
    }
}

/// One entry as getdents64(2) gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dirent {
    pub name: OsString,
    pub ino: u64,
    pub kind: FileType,
    pub next: u64,
}

/// Reads directory entries from the position of `fd` on, at most `max`.
///
/// Fewer bytes are asked for than a C library would, so that a directory is
/// read in several calls.
pub fn read_dirents(fd: &OwnedFd, max: usize, buffer: usize) -> Res<Vec<Dirent>> {
    let mut out: Vec<Dirent> = Vec::new();
    let mut space = Vec::with_capacity(buffer);
    let mut dir = rfs::RawDir::new(fd, space.spare_capacity_mut());
    while let Some(entry) = dir.next() {
        let e = wrap(entry, || format!("getdents64 {:?}", fd_path(fd)))?;
        out.push(Dirent {
            name: OsStr::from_bytes(e.file_name().to_bytes()).to_os_string(),
            ino: e.ino(),
            kind: e.file_type(),
            next: e.next_entry_cookie(),
        });
        if out.len() == max {
            break;
        }
    }
    Ok(out)
}

/// All entries of a directory, `.` and `..` included, in its own order.
pub fn dirents(path: impl AsRef<Path>) -> Res<Vec<Dirent>> {
    let fd = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    read_dirents(&fd, usize::MAX, 4096)
}

/// The names in a directory, sorted, without `.` and `..`.
pub fn names(path: impl AsRef<Path>) -> Res<Vec<String>> {
    let mut names: Vec<String> = dirents(path)?
        .into_iter()
        .filter(|e| e.name != "." && e.name != "..")
        .map(|e| e.name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

pub fn copy_file_range(
    from: &OwnedFd,
    mut from_off: u64,
    to: &OwnedFd,
    mut to_off: u64,
    len: usize,
) -> Res<usize> {
    let mut done = 0;
    while done < len {
        let n = wrap(
            rfs::copy_file_range(from, Some(&mut from_off), to, Some(&mut to_off), len - done),
            || format!("copy_file_range {len}"),
        )?;
        if n == 0 {
            break;
        }
        done += n;
    }
    Ok(done)
}

pub fn clone_file(from: &OwnedFd, to: &OwnedFd) -> Res<()> {
    wrap(rfs::ioctl_ficlone(to, from), || "FICLONE".into())
}

pub fn set_times(path: impl AsRef<Path>, atime: (i64, i64), mtime: (i64, i64)) -> Res<()> {
    utimens(path, &times(atime, mtime))
}

pub fn times(atime: (i64, i64), mtime: (i64, i64)) -> Timestamps {
    let ts = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: ts(atime),
        last_modification: ts(mtime),
    }
}

pub fn mode_of(st: &Stat) -> u32 {
    st.st_mode & 0o7777
}

pub fn kind_of(st: &Stat) -> FileType {
    FileType::from_raw_mode(st.st_mode)
}

pub fn umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()
}

fn flock_arg(kind: i32, start: i64, len: i64) -> libc::flock {
    // SAFETY: `flock` is plain integers, for which zero is a value.
    let mut arg: libc::flock = unsafe { std::mem::zeroed() };
    arg.l_type = kind as i16;
    arg.l_whence = libc::SEEK_SET as i16;
    arg.l_start = start;
    arg.l_len = len;
    arg
}

/// F_OFD_SETLK: a lock owned by the open file.
pub fn ofd_lock(fd: &OwnedFd, kind: i32, start: i64, len: i64) -> Res<()> {
    let arg = flock_arg(kind, start, len);
    // SAFETY: `arg` is a valid flock for the time of the call.
    let r = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &arg) };
    wrap_raw(r.into(), || format!("F_OFD_SETLK {kind}")).map(drop)
}

/// F_SETLK on a range: a lock owned by the process.
pub fn posix_lock_range(fd: &OwnedFd, kind: i32, start: i64, len: i64) -> Res<()> {
    let arg = flock_arg(kind, start, len);
    // SAFETY: `arg` is a valid flock for the time of the call.
    let r = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLK, &arg) };
    wrap_raw(r.into(), || format!("F_SETLK {kind}")).map(drop)
}

pub fn set_lease(fd: &OwnedFd, kind: i32) -> Res<()> {
    // SAFETY: F_SETLEASE takes an integer.
    let r = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETLEASE, kind) };
    wrap_raw(r.into(), || format!("F_SETLEASE {kind}")).map(drop)
}

pub fn get_lease(fd: &OwnedFd) -> Res<i32> {
    // SAFETY: F_GETLEASE takes no argument.
    let r = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETLEASE) };
    wrap_raw(r.into(), || "F_GETLEASE".into()).map(|v| v as i32)
}

pub fn readahead(fd: &OwnedFd, off: i64, len: usize) -> Res<()> {
    // SAFETY: readahead takes integers.
    let r = unsafe { libc::readahead(fd.as_raw_fd(), off, len) };
    wrap_raw(r as i64, || "readahead".into()).map(drop)
}

pub fn fadvise(fd: &OwnedFd, advice: rfs::Advice) -> Res<()> {
    wrap(rfs::fadvise(fd, 0, None, advice), || {
        format!("fadvise {advice:?}")
    })
}

/// The file system user id: what a mounter uses for its layers.
pub fn set_fsuid(uid: u32) {
    // SAFETY: setfsuid takes an integer and cannot fail visibly.
    unsafe { libc::setfsuid(uid) };
}

/// Becomes another, unprivileged user for good.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) {
    let groups: Vec<rfs::Gid> = groups.iter().map(|g| rfs::Gid::from_raw(*g)).collect();
    let (u, g) = (rfs::Uid::from_raw(uid), rfs::Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&groups).expect("setgroups");
    rustix::thread::set_thread_res_gid(g, g, g).expect("setresgid");
    rustix::thread::set_thread_res_uid(u, u, u).expect("setresuid");
}

/// A memory mapping of a file.
pub struct Map {
    ptr: *mut u8,
    len: usize,
}

impl Map {
    pub fn new(fd: &OwnedFd, len: usize, write: bool, shared: bool) -> Res<Map> {
        use rustix::mm::{mmap, MapFlags, ProtFlags};
        let mut prot = ProtFlags::READ;
        if write {
            prot |= ProtFlags::WRITE;
        }
        let flags = if shared {
            MapFlags::SHARED
        } else {
            MapFlags::PRIVATE
        };
        // SAFETY: a new mapping at an address of the kernel's choice.
        let ptr = unsafe { mmap(std::ptr::null_mut(), len, prot, flags, fd, 0) };
        let ptr = wrap(ptr, || format!("mmap {len} write={write} shared={shared}"))?;
        Ok(Map {
            ptr: ptr.cast(),
            len,
        })
    }

    pub fn get(&self, off: usize, len: usize) -> Vec<u8> {
        assert!(off + len <= self.len);
        (0..len)
            // SAFETY: inside the mapping; volatile, since others write there.
            .map(|i| unsafe { self.ptr.add(off + i).read_volatile() })
            .collect()
    }

    pub fn put(&self, off: usize, data: &[u8]) {
        assert!(off + data.len() <= self.len);
        for (i, b) in data.iter().enumerate() {
            // SAFETY: inside the mapping; the tests write only to writable ones.
            unsafe { self.ptr.add(off + i).write_volatile(*b) };
        }
    }

    pub fn sync(&self) -> Res<()> {
        // SAFETY: the whole of a mapping which lives.
        let r =
            unsafe { rustix::mm::msync(self.ptr.cast(), self.len, rustix::mm::MsyncFlags::SYNC) };
        wrap(r, || "msync".into())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the whole of a mapping of which no reference is left.
        let _ = unsafe { rustix::mm::munmap(self.ptr.cast(), self.len) };
    }
}

/// A direct write or read needs an aligned buffer.
pub struct Aligned {
    space: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    pub fn new(len: usize, fill: u8) -> Aligned {
        let space = vec![fill; len + 4096];
        let start = space.as_ptr().align_offset(4096);
        Aligned { space, start, len }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.space[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.space[self.start..self.start + self.len]
    }
}

pub fn direct_read(fd: &OwnedFd, len: usize, off: u64) -> Res<Vec<u8>> {
    let mut buf = Aligned::new(len, 0);
    let n = wrap(rustix::io::pread(fd, &mut buf[..], off), || {
        format!("O_DIRECT pread {len} at {off}")
    })?;
    Ok(buf[..n].to_vec())
}

pub fn direct_write(fd: &OwnedFd, fill: u8, len: usize, off: u64) -> Res<()> {
    let buf = Aligned::new(len, fill);
    let n = wrap(rustix::io::pwrite(fd, &buf[..], off), || {
        format!("O_DIRECT pwrite {len} at {off}")
    })?;
    assert_eq!(n, len, "short O_DIRECT write");
    Ok(())
}

/// File system context: fsopen(2) and what follows it.
pub struct FsContext {
    pub fd: OwnedFd,
}

impl FsContext {
    pub fn open(fstype: &str) -> Res<FsContext> {
        use rustix::mount::{fsopen, FsOpenFlags};
        let fd = wrap(fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC), || {
            format!("fsopen {fstype}")
        })?;
        Ok(FsContext { fd })
    }

    pub fn string(&self, key: &str, value: impl AsRef<OsStr>) -> Res<()> {
        let value = value.as_ref();
        wrap(
            rustix::mount::fsconfig_set_string(&self.fd, key, value),
            || format!("fsconfig {key}={value:?}"),
        )
    }

    pub fn flag(&self, key: &str) -> Res<()> {
        wrap(rustix::mount::fsconfig_set_flag(&self.fd, key), || {
            format!("fsconfig {key}")
        })
    }

    pub fn fd(&self, key: &str, fd: &OwnedFd) -> Res<()> {
        wrap(rustix::mount::fsconfig_set_fd(&self.fd, key, fd), || {
            format!("fsconfig {key}=<fd>")
        })
    }

    pub fn create(&self) -> Res<()> {
        wrap(rustix::mount::fsconfig_create(&self.fd), || {
            format!("fsconfig create; log: {}", self.log().join("; "))
        })
    }

    /// Makes the mount, with ids mapped as in the namespace, and attaches it.
    pub fn attach_idmapped(&self, at: &Path, userns: &OwnedFd) -> Res<()> {
        use rustix::mount::{fsmount, FsMountFlags, MountAttrFlags};
        let attr = MountAttrFlags::empty();
        let mnt = wrap(
            fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attr),
            || format!("fsmount; log: {}", self.log().join("; ")),
        )?;
        attach_idmapped(&mnt, at, userns)
    }

    /// Makes the mount and attaches it.
    pub fn attach(&self, at: &Path, readonly: bool) -> Res<()> {
        use rustix::mount::{fsmount, move_mount, FsMountFlags, MountAttrFlags, MoveMountFlags};
        let mut attr = MountAttrFlags::empty();
        if readonly {
            attr |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        let mnt = wrap(
            fsmount(&self.fd, FsMountFlags::FSMOUNT_CLOEXEC, attr),
            || format!("fsmount; log: {}", self.log().join("; ")),
        )?;
        wrap(
            move_mount(&mnt, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH),
            || format!("move_mount to {at:?}"),
        )
    }

    /// The messages the file system left for the caller.
    pub fn log(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut buf = vec![0; 8192];
        while let Ok(n) = rustix::io::read(&self.fd, &mut buf[..]) {
            out.push(String::from_utf8_lossy(&buf[..n]).trim().to_string());
        }
        out
    }
}

/// mount(2) with an option string.
pub fn mount(
    source: &str,
    at: &Path,
    fstype: &str,
    flags: rustix::mount::MountFlags,
    data: &[u8],
) -> Res<()> {
    let data = CString::new(data).expect("options without NUL");
    wrap(
        rustix::mount::mount(source, at, fstype, flags, data.as_c_str()),
        || format!("mount -t {fstype} {at:?} -o {data:?}"),
    )
}

/// Gives a mount that is nowhere yet the ids of a user namespace, and a place.
fn attach_idmapped(mnt: &OwnedFd, at: &Path, userns: &OwnedFd) -> Res<()> {
    use rustix::mount::{move_mount, MoveMountFlags};
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.as_raw_fd() as u64,
    };
    // SAFETY: an empty path, and attributes of the size that is given.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mnt.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attr,
            std::mem::size_of_val(&attr),
        )
    };
    wrap_raw(r, || "mount_setattr with an idmap".into())?;
    wrap(
        move_mount(mnt, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH),
        || format!("move_mount to {at:?}"),
    )
}

/// The directory at another place, with ids mapped as in the namespace.
pub fn bind_idmapped(from: &Path, at: &Path, userns: &OwnedFd) -> Res<()> {
    use rustix::mount::{open_tree, OpenTreeFlags};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = wrap(open_tree(CWD, from, flags), || {
        format!("open_tree {from:?}")
    })?;
    attach_idmapped(&tree, at, userns)
}

pub fn bind_mount(from: &Path, at: &Path) -> Res<()> {
    wrap(rustix::mount::mount_bind(from, at), || {
        format!("bind mount {from:?} {at:?}")
    })
}

pub fn remount(at: &Path, flags: rustix::mount::MountFlags, data: &str) -> Res<()> {
    wrap(rustix::mount::mount_remount(at, flags, data), || {
        format!("remount {at:?} {data}")
    })
}

pub fn umount(at: &Path) -> Res<()> {
    wrap(
        rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty()),
        || format!("umount {at:?}"),
    )
}

pub fn umount_detach(at: &Path) {
    let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
}

/// A file system that is frozen until this is dropped.
pub struct Frozen(OwnedFd);

const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

impl Frozen {
    /// Freezes the file system that has `at`.
    pub fn freeze(at: &Path) -> Res<Frozen> {
        let fd = open(at, OFlags::RDONLY)?;
        // SAFETY: takes no memory of ours.
        let r = unsafe { libc::ioctl(fd.as_raw_fd(), FIFREEZE, 0) };
        wrap_raw(i64::from(r), || format!("freeze of {at:?}"))?;
        Ok(Frozen(fd))
    }

    pub fn thaw(self) {}
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::ioctl(self.0.as_raw_fd(), FITHAW, 0) };
    }
}

/// Shuts the file system that has `at` down, as after an error of the disk: what is
/// not on the disk is lost, and all that would change something fails.
pub fn shut_down(at: &Path) -> Res<()> {
    const FS_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
    const NO_LOG_FLUSH: u32 = 2;
    let fd = open(at, OFlags::RDONLY)?;
    // SAFETY: reads a number.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_SHUTDOWN, &NO_LOG_FLUSH) };
    wrap_raw(i64::from(r), || format!("shutdown of {at:?}")).map(drop)
}

/// A directory on which a test mounts things of its own.
pub fn private_mounts() {
    use rustix::mount::{mount_change, MountPropagationFlags};
    use rustix::thread::{unshare_unsafe, UnshareFlags};
    // SAFETY: a mount namespace has nothing to do with memory or descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .expect("unshare of the mount namespace: run as root");
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .expect("make / private");
}

/// Runs a program, which must work; gives what it printed.
#[track_caller]
pub fn run(program: &str, args: &[&OsStr]) -> String {
    let out = std::process::Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let all = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(
        out.status.success(),
        "{program} {args:?}: {}\n{}",
        out.status,
        all.trim_end()
    );
    all
}

/// Whether a program is on the PATH or in the usual sbin directories.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|d| d.join(program).exists())
}

/// `struct fsxattr`, of FS_IOC_FSGETXATTR.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FsXattr {
    pub xflags: u32,
    pub extsize: u32,
    pub nextents: u32,
    pub projid: u32,
    pub cowextsize: u32,
    pad: [u8; 8],
}

/// FS_XFLAG_*.
pub struct XFlags;

impl XFlags {
    pub const IMMUTABLE: u32 = 0x8;
    pub const APPEND: u32 = 0x10;
    pub const SYNC: u32 = 0x20;
    pub const NOATIME: u32 = 0x40;
    pub const NODUMP: u32 = 0x80;
    pub const PROJINHERIT: u32 = 0x200;
    /// Those that mean the same everywhere.
    pub const KNOWN: u32 = Self::IMMUTABLE
        | Self::APPEND
        | Self::SYNC
        | Self::NOATIME
        | Self::NODUMP
        | Self::PROJINHERIT;
}

const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;
const FS_IOC_GETVERSION: libc::Ioctl = 0x8008_7601_u32 as libc::Ioctl;

pub fn get_fsxattr(fd: &OwnedFd) -> Res<FsXattr> {
    let mut attr = FsXattr::default();
    // SAFETY: `attr` is what the ioctl writes.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSGETXATTR, &mut attr) };
    wrap_raw(r.into(), || "FS_IOC_FSGETXATTR".into()).map(|_| attr)
}

pub fn set_fsxattr(fd: &OwnedFd, attr: &FsXattr) -> Res<()> {
    // SAFETY: `attr` is what the ioctl reads.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSSETXATTR, attr) };
    wrap_raw(r.into(), || "FS_IOC_FSSETXATTR".into()).map(drop)
}

/// Gives an object to a project.
pub fn set_project(fd: &OwnedFd, projid: u32) -> Res<()> {
    let attr = get_fsxattr(fd)?;
    set_fsxattr(fd, &FsXattr { projid, ..attr })
}

pub fn get_version(fd: &OwnedFd) -> Res<libc::c_long> {
    let mut version = 0;
    // SAFETY: `version` is what the ioctl writes.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GETVERSION, &mut version) };
    wrap_raw(r.into(), || "FS_IOC_GETVERSION".into()).map(|_| version)
}

/// `struct file_attr`, of file_getattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FileAttr {
    pub xflags: u64,
    pub extsize: u32,
    pub nextents: u32,
    pub projid: u32,
    pub cowextsize: u32,
}

const SYS_FILE_GETATTR: libc::c_long = 468;
const SYS_FILE_SETATTR: libc::c_long = 469;

/// file_getattr(2), not following a last symbolic link.
pub fn file_getattr(path: impl AsRef<Path>) -> Res<FileAttr> {
    let path = path.as_ref();
    let c = cpath(path);
    let mut attr = FileAttr::default();
    // SAFETY: a NUL-terminated path, and room for as many bytes as are said.
    let r = unsafe {
        libc::syscall(
            SYS_FILE_GETATTR,
            libc::AT_FDCWD,
            c.as_ptr(),
            &mut attr,
            size_of::<FileAttr>(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    wrap_raw(r, || format!("file_getattr {path:?}")).map(|_| attr)
}

/// file_setattr(2), not following a last symbolic link.
pub fn file_setattr(path: impl AsRef<Path>, attr: &FileAttr) -> Res<()> {
    let path = path.as_ref();
    let c = cpath(path);
    // SAFETY: a NUL-terminated path, and as many bytes as are said.
    let r = unsafe {
        libc::syscall(
            SYS_FILE_SETATTR,
            libc::AT_FDCWD,
            c.as_ptr(),
            attr,
            size_of::<FileAttr>(),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    wrap_raw(r, || format!("file_setattr {path:?}")).map(drop)
}

/// statmount(2) of what is mounted there: `s_magic`, the name of the type, and its options.
/// `None` where the kernel does not have it.
pub fn statmount(at: &Path) -> Option<(u64, String, String)> {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    const SYS_STATMOUNT: libc::c_long = 457;
    /// The superblock's numbers, the type, the options.
    const MASK: u64 = 0x1 | 0x20 | 0x80;
    /// `struct statmount` without its strings.
    const HEAD: usize = 512;
    let path = cpath(at);
    // SAFETY: plain data, for which zero is a value.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in NUL, the buffer is of that type.
    let r = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            0,
            STATX_MNT_ID_UNIQUE,
            &mut stat,
        )
    };
    if r != 0 || stat.stx_mask & STATX_MNT_ID_UNIQUE == 0 {
        return None;
    }
    // `struct mnt_id_req`: its size, the mount, what is asked for.
    let request: [u64; 3] = [24, stat.stx_mnt_id, MASK];
    let mut buffer = [0_u64; 1024];
    let size = std::mem::size_of_val(&buffer);
    // SAFETY: the request is of the size that it says, the buffer of the one that is said.
    let r = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            request.as_ptr(),
            buffer.as_mut_ptr(),
            size,
            0,
        )
    };
    if r != 0 {
        return None;
    }
    let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four"));
    let text = |at: usize| {
        let from = HEAD + number(at) as usize;
        let rest = &bytes[from..];
        let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    };
    Some((buffer[3], text(36), text(4)))
}
