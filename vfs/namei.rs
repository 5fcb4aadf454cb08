// SPDX-License-Identifier: GPL-2.0

//! Looking names up in other filesystems, without changing anything.
//!
//! C header: [`include/linux/namei.h`](srctree/include/linux/namei.h)

use super::{
    attr, bindings as b,
    cred::with_creds,
    dentry::qstr,
    flags::OpenFlags,
    inode_ops::Access,
    lock::{file_inode, MayLockDirectory},
    Dentry, Inode, Path,
};
use core::ptr::NonNull;
use kernel::{cred::Credential, error::from_err_ptr, fs::File, prelude::*, sync::aref::ARef};

impl Path<'_> {
    /// `lookup_one_positive_unlocked`: the object `name` in this directory.
    /// Locks the directory while the filesystem is asked.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `ENOTDIR` if this is no directory; what the
    /// filesystem says else.
    pub(crate) fn lookup(
        &self,
        _may_lock: &mut impl MayLockDirectory,
        name: &[u8],
    ) -> Result<ARef<Dentry>> {
        self.check_directory()?;
        let mut q = qstr(name);
        // SAFETY: the path is valid and a directory that can be looked up in (checked);
        // the name lives for the call; no directory is locked (`_may_lock`).
        let dentry = unsafe {
            b::lookup_one_positive_unlocked(self.mnt.idmap(), &mut q, self.dentry.as_ptr())
        };
        // SAFETY: an error, or a dentry counted for us.
        unsafe { Dentry::from_counted(dentry) }
    }

    /// `kernel_file_open`: the object at the path, opened with `flags` by `cred`, if
    /// those may open it so. Whoever watches may be asked for permission, so nothing is
    /// locked.
    pub(crate) fn open(
        &self,
        _may_lock: &mut impl MayLockDirectory,
        flags: OpenFlags,
        cred: &Credential,
    ) -> Result<ARef<File>> {
        self.may_open(flags, cred)?;
        let path = self.as_c();
        // SAFETY: the path is valid and positive (checked).
        let file = unsafe { b::kernel_file_open(&path, flags.raw() as i32, cred.as_ptr()) };
        let file = NonNull::new(from_err_ptr(file)?).ok_or(EIO)?;
        // SAFETY: a counted file that only we know, so no `fdget_pos` is on it.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }

    /// What `open(2)` asks, and `vfs_open` does not: whether `cred` may open the
    /// object with `flags`; and whether the file would keep the object's filesystem.
    pub(super) fn may_open(&self, flags: OpenFlags, cred: &Credential) -> Result {
        self.check_mount()?;
        let access = match flags.raw() & b::O_ACCMODE {
            b::O_RDONLY if flags.has(OpenFlags::EXECUTED) => Access::EXEC,
            b::O_RDONLY => Access::READ,
            b::O_WRONLY => Access::WRITE,
            _ => Access::READ.and(Access::WRITE),
        };
        let access = match flags.has(OpenFlags::APPEND) {
            true => access.and(Access::APPEND),
            false => access,
        };
        with_creds(cred, || attr::permission(*self, access.and(Access::OPEN)))
    }

    /// `touch_atime`: the object is being read.
    pub(crate) fn touch_atime(&self) {
        if self.inode().is_ok() {
            let path = self.as_c();
            // SAFETY: the path is valid and positive (checked).
            unsafe { b::touch_atime(&path) };
        }
    }
}

/// `vfs_llseek`: where the next data or hole is. Filesystems lock the inode for it.
///
/// # Errors
///
/// `EINVAL` for what is no regular file, or what the filesystem says.
pub(crate) fn llseek(
    _may_lock: &mut impl MayLockDirectory,
    file: &File,
    offset: i64,
    whence: u32,
) -> Result<i64> {
    // The position of a directory is that of who lists it, which takes no `f_lock`.
    if !file_inode(file).is_regular() {
        return Err(EINVAL);
    }
    // SAFETY: the file is open; the position of a regular one is changed under `f_lock`
    // or as a whole, and nothing of the VFS's relies on it.
    let at = unsafe { b::vfs_llseek(file.as_ptr(), offset, whence as i32) };
    super::from_count(at as isize).map(|at| at as i64)
}

/// `i_size` and times of a directory, to undo what a change to it did.
#[derive(Clone, Copy)]
pub(crate) struct DirTimes {
    atime: b::timespec64,
    mtime: b::timespec64,
}

impl DirTimes {
    pub(super) fn of(dir: &Inode) -> Self {
        let mut times = Self {
            atime: pin_init::zeroed(),
            mtime: pin_init::zeroed(),
        };
        // SAFETY: the inode is live, the times are ours to fill in.
        unsafe { b::rovl_inode_times(dir.as_ptr(), &mut times.atime, &mut times.mtime) };
        times
    }

    pub(super) fn get(self) -> (b::timespec64, b::timespec64) {
        (self.atime, self.mtime)
    }
}
