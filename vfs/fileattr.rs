// SPDX-License-Identifier: GPL-2.0

//! Inode flags and the like: what `chattr`, `FS_IOC_SETFLAGS`,
//! `FS_IOC_FSSETXATTR` and `file_setattr(2)` change.
//!
//! C header: [`include/linux/fileattr.h`](srctree/include/linux/fileattr.h);
//! `fs/file_attr.c`.

use super::compat::EOPNOTSUPP;
use super::{
    bindings as b,
    lock::{Context, InodeLock, MayLockDirectory, WriteAccess},
    to_int, to_result, Dentry, FileSystem, Inode, Path,
};
use kernel::{bindings::file_kattr as c_attr, error::from_err_ptr, ffi::c_int, prelude::*};

/// `struct file_kattr`: one set of attributes in the two forms in which it is
/// asked for, as `FS_*_FL` and as `FS_XFLAG_*`.
#[repr(transparent)]
pub(crate) struct FileAttr(b::file_kattr);

impl Clone for FileAttr {
    fn clone(&self) -> Self {
        // SAFETY: a valid reference to numbers and bits.
        Self(unsafe { core::ptr::read(&self.0) })
    }
}

/// Attributes that are in both forms, and that a stacking filesystem treats
/// differently from others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `chattr +a`.
    Append,
    /// `chattr +i`.
    Immutable,
    /// `chattr +A`.
    NoAtime,
    /// `chattr +d`.
    NoDump,
    /// `chattr +P`: what is made in the directory belongs to its project.
    ProjectInherit,
    /// `chattr +S`.
    Sync,
}

impl Flag {
    /// As `FS_*_FL` and as `FS_XFLAG_*`.
    fn bits(self) -> (u32, u32) {
        match self {
            Flag::Append => (b::FS_APPEND_FL, b::FS_XFLAG_APPEND),
            Flag::Immutable => (b::FS_IMMUTABLE_FL, b::FS_XFLAG_IMMUTABLE),
            Flag::NoAtime => (b::FS_NOATIME_FL, b::FS_XFLAG_NOATIME),
            Flag::NoDump => (b::FS_NODUMP_FL, b::FS_XFLAG_NODUMP),
            Flag::ProjectInherit => (b::FS_PROJINHERIT_FL, b::FS_XFLAG_PROJINHERIT),
            Flag::Sync => (b::FS_SYNC_FL, b::FS_XFLAG_SYNC),
        }
    }

    /// As it is in `i_flags` (`S_*`); zero for those the VFS does not know.
    pub(crate) fn inode_flag(self) -> u32 {
        match self {
            Flag::Append => b::S_APPEND,
            Flag::Immutable => b::S_IMMUTABLE,
            Flag::NoAtime => b::S_NOATIME,
            Flag::NoDump | Flag::ProjectInherit => 0,
            Flag::Sync => b::S_SYNC,
        }
    }
}

impl FileAttr {
    /// Nothing set; to be read as `FS_*_FL`.
    pub(crate) fn new() -> Self {
        let mut attr: b::file_kattr = pin_init::zeroed();
        attr.set_flags_valid(true);
        Self(attr)
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.0.flags & flag.bits().0 != 0
    }

    pub(crate) fn set(&mut self, flag: Flag, on: bool) {
        let (flags, xflags) = flag.bits();
        if on {
            self.0.flags |= flags;
            self.0.fsx_xflags |= xflags;
        } else {
            self.0.flags &= !flags;
            self.0.fsx_xflags &= !xflags;
        }
    }

    /// The project that the object belongs to, for quotas.
    pub(crate) fn project(&self) -> u32 {
        self.0.fsx_projid
    }

    /// Gives the object to a project. From here on the attributes are in the
    /// form of `FS_IOC_FSSETXATTR`: in the other one that is not set.
    pub(crate) fn set_project(&mut self, project: u32) {
        self.0.set_flags_valid(false);
        self.0.set_fsx_valid(true);
        self.0.fsx_projid = project;
    }

    /// Whether the names in the directory are to be the same in upper and lower case
    /// (`chattr +F`).
    pub(crate) fn has_casefold(&self) -> bool {
        self.0.flags & b::FS_CASEFOLD_FL != 0
    }

    /// Whether the security modules let those with the credentials in force read what
    /// is asked for of the object at `path`.
    pub(crate) fn may_get(&self, may_lock: &mut impl MayLockDirectory, path: Path<'_>) -> Result {
        may_ioctl(
            may_lock,
            path,
            match self.0.fsx_valid() {
                true => b::FS_IOC_FSGETXATTR,
                false => b::FS_IOC_GETFLAGS,
            },
        )
    }

    /// As [`FileAttr::may_get`], to set these.
    pub(crate) fn may_set(&self, may_lock: &mut impl MayLockDirectory, path: Path<'_>) -> Result {
        may_ioctl(
            may_lock,
            path,
            match self.0.fsx_valid() {
                true => b::FS_IOC_FSSETXATTR,
                false => b::FS_IOC_SETFLAGS,
            },
        )
    }

    /// `vfs_fileattr_get`: asks the filesystem of `path`, with the credentials
    /// in force. Which form was asked for is a hint to some filesystems, which
    /// is why this fills in what is there. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOIOCTLCMD`, `ENOTTY` or `EINVAL` where there are none.
    pub(crate) fn read(&mut self, path: Path<'_>) -> Result {
        path.inode()?;
        // SAFETY: the dentry is positive, and the attributes are ours.
        to_result(unsafe { b::vfs_fileattr_get(path.dentry.as_ptr(), &mut self.0) })
    }
}

/// `security_file_ioctl`, which takes an open file: one that is opened and closed for
/// the question. What cannot be opened without consequences has no such call.
///
/// Whoever watches may be asked, and who holds a lease to write is waited for, as where a
/// copy-up opens the file for its data: so nothing is locked below. The lock of the inode
/// that asks may be held, by the VFS.
fn may_ioctl(_may_lock: &mut impl MayLockDirectory, path: Path<'_>, command: u32) -> Result {
    let inode = path.inode()?;
    if !inode.is_dir() && !inode.is_regular() {
        return Ok(());
    }
    path.check_mount()?;
    let path = path.as_c();
    let flags = b::O_RDONLY | b::O_LARGEFILE;
    // SAFETY: the path is valid and positive, and so are the credentials of the
    // running task.
    let file = unsafe { b::kernel_file_open(&path, flags as c_int, b::rovl_current_cred()) };
    let file = from_err_ptr(file)?;
    // SAFETY: the file is open.
    let allowed = to_result(unsafe { b::security_file_ioctl(file, command, 0) });
    // SAFETY: the reference is ours.
    unsafe { b::fput(file) };
    allowed
}

/// As [`FileAttr::read`]; `None` where there are none.
pub(crate) fn get(path: Path<'_>) -> Result<Option<FileAttr>> {
    let mut attr = FileAttr::new();
    match attr.read(path) {
        Ok(()) => Ok(Some(attr)),
        Err(e) if is_unknown(e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether an error of [`FileAttr::read`] or of [`WriteAccess::set_fileattr`]
/// says that the filesystem has no such attributes.
pub(crate) fn is_unknown(e: Error) -> bool {
    [ENOIOCTLCMD, ENOTTY, EOPNOTSUPP, EINVAL].contains(&e)
}

impl WriteAccess<'_> {
    /// `vfs_fileattr_set`, with the credentials in force; the inode is locked
    /// for the call.
    ///
    /// # Errors
    ///
    /// `EPERM` if they may not; `ENOIOCTLCMD` where there are none.
    pub(crate) fn set_fileattr(&mut self, dentry: &Dentry, attr: &FileAttr) -> Result {
        self.inode_of(dentry)?;
        let mut attr = attr.clone();
        // SAFETY: the dentry is positive, and we hold no lock of its
        // filesystem: a guard of this access would borrow `self`. The
        // attributes, which the function completes, are our copy.
        to_result(unsafe { b::vfs_fileattr_set(self.mnt().idmap(), dentry.as_ptr(), &mut attr.0) })
    }
}

impl<F: FileSystem> Inode<F> {
    /// Gives the inode the `S_SYNC` and `S_NOATIME` of the one below, and those
    /// of `S_APPEND` and `S_IMMUTABLE` that are in `protection`.
    pub(crate) fn set_flags_from(&self, below: &Inode, protection: u32) {
        let protected = b::S_APPEND | b::S_IMMUTABLE;
        let copied = b::S_SYNC | b::S_NOATIME;
        let flags = (below.flags() & copied) | (protection & protected);
        // SAFETY: the inode is live, and `i_flags` is changed atomically.
        unsafe { b::inode_set_flags(self.as_ptr(), flags, copied | protected) };
    }
}

/// What the VFS asks about inode flags.
pub(crate) trait FileattrOperations: FileSystem {
    /// `->fileattr_get`. The inode's `i_rwsem` is held, or nothing.
    fn fileattr_get(
        may_lock: &mut impl MayLockDirectory,
        dentry: &Dentry<Self>,
        attr: &mut FileAttr,
    ) -> Result;

    /// `->fileattr_set`. The VFS has checked that the caller owns the inode and
    /// may change the flags that take a capability, has completed `attr` with
    /// what stays as it is, and holds the inode's `i_rwsem`.
    fn fileattr_set(ctx: &mut Context<InodeLock>, dentry: &Dentry<Self>, attr: &FileAttr)
        -> Result;
}

/// `->fileattr_get`.
///
/// # Safety
///
/// Only for the VFS to call, on a positive dentry of `F`.
pub(super) unsafe extern "C" fn fileattr_get<F: FileattrOperations>(
    dentry: *mut b::dentry,
    attr: *mut c_attr,
) -> c_int {
    // SAFETY: the caller holds a reference.
    let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
    // SAFETY: the caller's, filled in by us; the type is opaque in
    // `kernel::bindings`, and `FileAttr` is transparent over the whole one.
    let attr = unsafe { &mut *attr.cast::<FileAttr>() };
    // SAFETY: an entry point of the VFS, which holds the inode's lock or nothing: `F`
    // sees of this only that nothing is held below.
    let mut ctx = unsafe { Context::<InodeLock>::enter() };
    to_int(F::fileattr_get(&mut ctx, dentry, attr))
}

/// `->fileattr_set`.
///
/// # Safety
///
/// Only for the VFS to call, on a positive dentry of `F` with its inode locked.
pub(super) unsafe extern "C" fn fileattr_set<F: FileattrOperations>(
    _idmap: *mut b::mnt_idmap,
    dentry: *mut b::dentry,
    attr: *mut c_attr,
) -> c_int {
    // SAFETY: the caller holds a reference.
    let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
    // SAFETY: as in `fileattr_get`.
    let attr = unsafe { &*attr.cast::<FileAttr>() };
    // SAFETY: an entry point of the VFS, which holds the inode's lock.
    let mut ctx = unsafe { Context::<InodeLock>::enter() };
    to_int(F::fileattr_set(&mut ctx, dentry, attr))
}
