// SPDX-License-Identifier: GPL-2.0

//! Does an operation, and says what it gave in words that can be compared.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self as rfs, AtFlags, CWD};

use super::listing::Listing;
use super::op::{data, At, Op, Outcome, Slot, SLOTS};
use super::seen::{self, Uncounted};
use super::word::{Name, Octal, Time, Word};
use crate::sys::{
    self, Errno, Fail, FallocateFlags, FileType, Mode, OFlags, Res, Timespec, Timestamps,
};

#[derive(Default)]
struct Open {
    fd: Option<OwnedFd>,
    listing: Listing,
}

pub struct Actor {
    slots: [Open; SLOTS],
    uncounted: Uncounted,
}

fn follow_flag(follow: bool) -> AtFlags {
    match follow {
        true => AtFlags::empty(),
        false => AtFlags::SYMLINK_NOFOLLOW,
    }
}

/// What `check` takes from a call of `sys`, which says more.
fn errno<X>(r: Res<X>) -> Result<X, Errno> {
    r.map_err(|e: Fail| e.errno)
}

fn raw(r: libc::c_int) -> Result<(), Errno> {
    if r >= 0 {
        return Ok(());
    }
    let code = std::io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(code.unwrap_or(libc::EIO)))
}

fn timestamps(atime: Time, mtime: Time) -> Timestamps {
    let one = |time| match time {
        Time::Now => (0, rfs::UTIME_NOW),
        Time::Omit => (0, rfs::UTIME_OMIT),
        Time::At(seconds) => (seconds, 0),
    };
    let timespec = |(tv_sec, tv_nsec): (i64, _)| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: timespec(one(atime)),
        last_modification: timespec(one(mtime)),
    }
}

fn owner(uid: Option<u32>, gid: Option<u32>) -> (Option<rfs::Uid>, Option<rfs::Gid>) {
    let uid = uid.map(rfs::Uid::from_raw);
    (uid, gid.map(rfs::Gid::from_raw))
}

fn is_dir(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(sys::kind_of(&rfs::fstat(fd)?) == FileType::Directory)
}

/// Does not ask for what ext4 lacks where set-id bits or capabilities would go; see
/// `explained`.
fn fallocate(fd: &OwnedFd, mode: FallocateFlags, off: u64, len: u64) -> Result<(), Errno> {
    if mode.contains(FallocateFlags::UNSHARE_RANGE) {
        let has_set_id = rfs::fstat(fd)?.st_mode & 0o6000 != 0;
        let capability = rfs::fgetxattr(fd, "security.capability", &mut [0u8; 64][..]);
        if has_set_id || capability.is_ok() {
            return Err(Errno::OPNOTSUPP);
        }
    }
    rfs::fallocate(fd, mode, off, len)
}

/// Nothing to tell but that it worked.
fn done(_: ()) -> String {
    String::new()
}

fn name_list(buf: &[u8]) -> String {
    let mut names: Vec<String> = buf
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .map(|n| Name::new(n).text())
        .collect();
    names.sort();
    names.join(",")
}

impl Actor {
    pub fn new(uncounted: Uncounted) -> Actor {
        Actor {
            slots: Default::default(),
            uncounted,
        }
    }

    fn fd(&self, slot: Slot) -> Result<&OwnedFd, Errno> {
        let open = self.slots.get(usize::from(slot)).ok_or(Errno::BADF)?;
        open.fd.as_ref().ok_or(Errno::BADF)
    }

    fn base(&self, at: &At) -> Result<BorrowedFd<'_>, Errno> {
        match at.base {
            Some(slot) => Ok(self.fd(slot)?.as_fd()),
            None => Ok(CWD),
        }
    }

    fn put(&mut self, slot: Slot, fd: Option<OwnedFd>) -> Result<(), Errno> {
        let open = self.slots.get_mut(usize::from(slot)).ok_or(Errno::BADF)?;
        *open = Open {
            fd,
            listing: Listing::default(),
        };
        Ok(())
    }

    pub fn act(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Open {
                slot,
                at,
                flags,
                mode,
            } => self.open(*slot, at, *flags, *mode),
            Op::Close { slot } => {
                self.fd(*slot)?;
                self.put(*slot, None).map(done)
            }
            Op::Getdents {
                slot,
                count,
                rewind,
            } => {
                let open = &mut self.slots[usize::from(*slot) % SLOTS];
                let fd = open.fd.as_ref().ok_or(Errno::BADF)?;
                open.listing.next(fd, *count, *rewind)
            }
            Op::Umask { mask } => Ok(Octal(sys::umask(mask.0)).text()),
            Op::Chdir { path } => rustix::process::chdir(path.as_path()).map(done),
            Op::DropCaches {} | Op::Remount {} => Err(Errno::NOSYS),
            op => match self.on_file(op) {
                Some(outcome) => outcome,
                None => self.on_tree(op),
            },
        }
    }

    fn open(&mut self, slot: Slot, at: &At, flags: OFlags, mode: Octal) -> Outcome {
        // No operation waits, for there is nobody who would do the next one.
        let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode.0);
        let fd = rfs::openat(self.base(at)?, at.path.as_path(), flags, mode)?;
        let text = seen::stat(&rfs::fstat(&fd)?, &self.uncounted);
        self.put(slot, Some(fd))?;
        Ok(text)
    }

    /// Operations on an open file.
    fn on_file(&self, op: &Op) -> Option<Outcome> {
        Some(match op {
            Op::Read { slot, len } => self.read(*slot, *len, None),
            Op::Pread { slot, len, off } => self.read(*slot, *len, Some(*off)),
            Op::Write { slot, len, tag } => self.fd(*slot).and_then(|fd| {
                let n = rustix::io::write(fd, &data(*len, *tag))?;
                Ok(format!("{n} at {}", rfs::tell(fd).unwrap_or(0)))
            }),
            Op::Pwrite {
                slot,
                len,
                off,
                tag,
            } => self.fd(*slot).and_then(|fd| {
                rustix::io::pwrite(fd, &data(*len, *tag), *off).map(|n| n.to_string())
            }),
            Op::Seek { slot, off, whence } => self.fd(*slot).and_then(|fd| {
                // Directories have positions of their own; `getdents` goes to them.
                if is_dir(fd)? {
                    return Ok(String::new());
                }
                // SAFETY: takes integers.
                let at = unsafe { libc::lseek(fd.as_raw_fd(), *off, *whence) };
                raw(if at < 0 { -1 } else { 0 })?;
                Ok(at.to_string())
            }),
            Op::Ftruncate { slot, len } => self.fd(*slot).and_then(|fd| {
                // SAFETY: takes integers.
                raw(unsafe { libc::ftruncate(fd.as_raw_fd(), *len) }).map(done)
            }),
            Op::Fallocate {
                slot,
                mode,
                off,
                len,
            } => {
                let fd = self.fd(*slot);
                fd.and_then(|fd| fallocate(fd, *mode, *off, *len).map(done))
            }
            Op::Fsync { slot } => self.fd(*slot).and_then(|fd| rfs::fsync(fd).map(done)),
            Op::Fdatasync { slot } => self.fd(*slot).and_then(|fd| rfs::fdatasync(fd).map(done)),
            Op::CopyRange {
                from,
                from_off,
                to,
                to_off,
                len,
            } => self.copy_range((*from, *from_off), (*to, *to_off), *len),
            Op::MapRead { slot, off } => self.map(*slot, *off, None),
            Op::MapWrite { slot, off, tag } => self.map(*slot, *off, Some(*tag)),
            Op::Flock { slot, how } => self.fd(*slot).and_then(|fd| {
                // SAFETY: takes integers.
                raw(unsafe { libc::flock(fd.as_raw_fd(), how | libc::LOCK_NB) }).map(done)
            }),
            Op::Fchmod { slot, mode } => self
                .fd(*slot)
                .and_then(|fd| rfs::fchmod(fd, Mode::from_raw_mode(mode.0)).map(done)),
            Op::Fchown { slot, uid, gid } => self.fd(*slot).and_then(|fd| {
                let (uid, gid) = owner(*uid, *gid);
                rfs::fchown(fd, uid, gid).map(done)
            }),
            Op::Futimens { slot, atime, mtime } => self.fd(*slot).and_then(|fd| {
                rfs::futimens(fd, &timestamps(*atime, *mtime))?;
                Ok(seen::times(&rfs::fstat(fd)?))
            }),
            Op::Fsetxattr {
                slot,
                name,
                value,
                flags,
            } => {
                let fd = self.fd(*slot);
                fd.and_then(|fd| rfs::fsetxattr(fd, name.as_str(), &value.0, *flags).map(done))
            }
            Op::Fremovexattr { slot, name } => {
                let fd = self.fd(*slot);
                fd.and_then(|fd| rfs::fremovexattr(fd, name.as_str()).map(done))
            }
            Op::Flistxattr { slot } => self.fd(*slot).and_then(|fd| {
                let mut buf = [0u8; 8192];
                let n = rfs::flistxattr(fd, &mut buf[..])?;
                Ok(name_list(&buf[..n]))
            }),
            Op::Getflags { slot } => {
                let fd = self.fd(*slot);
                fd.and_then(|fd| rfs::ioctl_getflags(fd).map(seen::flags))
            }
            Op::Setflags { slot, flags } => {
                let fd = self.fd(*slot);
                fd.and_then(|fd| {
                    // What the filesystem keeps in them for itself stays.
                    let kept = rfs::ioctl_getflags(fd)?.difference(seen::OUR_FLAGS);
                    rfs::ioctl_setflags(fd, kept | *flags).map(done)
                })
            }
            Op::Fstat { slot } => {
                let fd = self.fd(*slot);
                fd.and_then(|fd| Ok(seen::stat(&rfs::fstat(fd)?, &self.uncounted)))
            }
            _ => return None,
        })
    }

    fn read(&self, slot: Slot, len: usize, off: Option<u64>) -> Outcome {
        let fd = self.fd(slot)?;
        let mut buf = vec![0; len];
        let n = match off {
            Some(off) => rustix::io::pread(fd, &mut buf[..], off)?,
            // Where ext4 has the end of a directory, nothing can be read from.
            None if is_dir(fd)? => rustix::io::pread(fd, &mut buf[..], 0)?,
            None => rustix::io::read(fd, &mut buf[..])?,
        };
        Ok(seen::data(&buf[..n]))
    }

    fn copy_range(&self, from: (Slot, u64), to: (Slot, u64), len: usize) -> Outcome {
        let (source, target) = (self.fd(from.0)?, self.fd(to.0)?);
        let (mut from_off, mut to_off) = (from.1, to.1);
        let (source_off, target_off) = (Some(&mut from_off), Some(&mut to_off));
        let n = rfs::copy_file_range(source, source_off, target, target_off, len)?;
        Ok(n.to_string())
    }

    /// Within the size of the file, since behind its last page there is a signal.
    fn map(&self, slot: Slot, off: usize, tag: Option<u64>) -> Outcome {
        const LEN: usize = 16384;
        let fd = self.fd(slot)?;
        let map = errno(sys::Map::new(fd, LEN, tag.is_some(), true))?;
        let size = usize::try_from(rfs::fstat(fd)?.st_size).unwrap_or(0);
        let end = size.min(LEN);
        let off = off.min(end);
        match tag {
            None => Ok(seen::data(&map.get(off, (end - off).min(1000)))),
            Some(tag) => {
                map.put(off, &data((end - off).min(50), tag));
                errno(map.sync()).map(done)
            }
        }
    }

    /// Operations on names.
    fn on_tree(&self, op: &Op) -> Outcome {
        match op {
            Op::Truncate { path, len } => {
                let path = sys::cpath(path.as_path());
                // SAFETY: `path` is a NUL-terminated string which outlives the call.
                raw(unsafe { libc::truncate(path.as_ptr(), *len) }).map(done)
            }
            Op::Mkdir { at, mode } => {
                let mode = Mode::from_raw_mode(mode.0);
                rfs::mkdirat(self.base(at)?, at.path.as_path(), mode).map(done)
            }
            Op::Rmdir { at } => {
                let flags = AtFlags::REMOVEDIR;
                rfs::unlinkat(self.base(at)?, at.path.as_path(), flags).map(done)
            }
            Op::Unlink { at } => {
                let flags = AtFlags::empty();
                rfs::unlinkat(self.base(at)?, at.path.as_path(), flags).map(done)
            }
            Op::Mknod {
                at,
                mode,
                major,
                minor,
            } => {
                let kind = FileType::from_raw_mode(mode.0);
                let dev = rfs::makedev(*major, *minor);
                let bits = Mode::from_raw_mode(mode.0 & 0o7777);
                rfs::mknodat(self.base(at)?, at.path.as_path(), kind, bits, dev).map(done)
            }
            Op::Symlink { target, at } => {
                rfs::symlinkat(target.as_path(), self.base(at)?, at.path.as_path()).map(done)
            }
            Op::Link { old, new, follow } => {
                let flags = match follow {
                    true => AtFlags::SYMLINK_FOLLOW,
                    false => AtFlags::empty(),
                };
                let (from, to) = (self.base(old)?, self.base(new)?);
                rfs::linkat(from, old.path.as_path(), to, new.path.as_path(), flags).map(done)
            }
            Op::LinkFd { slot, new } => {
                let (fd, to) = (self.fd(*slot)?, self.base(new)?);
                rfs::linkat(fd, "", to, new.path.as_path(), AtFlags::EMPTY_PATH).map(done)
            }
            Op::Rename { old, new, flags } => {
                let (from, to) = (self.base(old)?, self.base(new)?);
                let (old, new) = (old.path.as_path(), new.path.as_path());
                rfs::renameat_with(from, old, to, new, *flags).map(done)
            }
            Op::Readdir { at } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let base = self.base(at)?;
                let fd = rfs::openat(base, at.path.as_path(), flags, Mode::empty())?;
                Listing::default().next(&fd, usize::MAX, true)
            }
            Op::Readlink { at } => {
                let text = rfs::readlinkat(self.base(at)?, at.path.as_path(), Vec::new())?;
                Ok(Name::new(text.to_bytes()).text())
            }
            op => self.on_attributes(op),
        }
    }

    /// Operations on the attributes of what has a name.
    fn on_attributes(&self, op: &Op) -> Outcome {
        match op {
            Op::Chmod { at, mode } => {
                let (base, path) = (self.base(at)?, at.path.as_path());
                let mode = Mode::from_raw_mode(mode.0);
                rfs::chmodat(base, path, mode, AtFlags::empty()).map(done)
            }
            Op::Chown {
                at,
                uid,
                gid,
                follow,
            } => {
                let (uid, gid) = owner(*uid, *gid);
                let (base, path) = (self.base(at)?, at.path.as_path());
                rfs::chownat(base, path, uid, gid, follow_flag(*follow)).map(done)
            }
            Op::Utimens {
                at,
                atime,
                mtime,
                follow,
            } => {
                let (base, path) = (self.base(at)?, at.path.as_path());
                let (times, flags) = (timestamps(*atime, *mtime), follow_flag(*follow));
                rfs::utimensat(base, path, &times, flags)?;
                Ok(seen::times(&rfs::statat(base, path, flags)?))
            }
            Op::Setxattr {
                path,
                name,
                value,
                flags,
                follow,
            } => {
                let (path, name) = (path.as_path(), name.as_str());
                match follow {
                    true => rfs::setxattr(path, name, &value.0, *flags).map(done),
                    false => rfs::lsetxattr(path, name, &value.0, *flags).map(done),
                }
            }
            Op::Getxattr { path, name, follow } => {
                let (path, name) = (path.as_path(), name.as_str());
                let mut buf = [0u8; 8192];
                let n = match follow {
                    true => rfs::getxattr(path, name, &mut buf[..])?,
                    false => rfs::lgetxattr(path, name, &mut buf[..])?,
                };
                Ok(Name::new(&buf[..n]).text())
            }
            Op::Removexattr { path, name, follow } => {
                let (path, name) = (path.as_path(), name.as_str());
                match follow {
                    true => rfs::removexattr(path, name).map(done),
                    false => rfs::lremovexattr(path, name).map(done),
                }
            }
            Op::Listxattr { path, follow } => {
                let mut buf = [0u8; 8192];
                let n = match follow {
                    true => rfs::listxattr(path.as_path(), &mut buf[..])?,
                    false => rfs::llistxattr(path.as_path(), &mut buf[..])?,
                };
                Ok(name_list(&buf[..n]))
            }
            Op::Stat { at, follow } => {
                let (base, path) = (self.base(at)?, at.path.as_path());
                let st = rfs::statat(base, path, follow_flag(*follow))?;
                Ok(seen::stat(&st, &self.uncounted))
            }
            Op::Access { at, mode } => {
                let (base, path) = (self.base(at)?, at.path.as_path());
                rfs::accessat(base, path, *mode, AtFlags::empty()).map(done)
            }
            _ => Err(Errno::NOSYS),
        }
    }
}
