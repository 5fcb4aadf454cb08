// SPDX-License-Identifier: GPL-2.0

//! `struct inode_operations` of files, symlinks and special files, and what all
//! inodes have in common.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h);
//! `Documentation/filesystems/locking.rst`.

use super::compat::EOPNOTSUPP;
use super::{
    acl::{self, AclOperations},
    attr::{Attributes, Stat},
    bindings as b,
    fileattr::{self, FileattrOperations},
    idmap::Idmap,
    inode::{Backing, RcuInode},
    lock::{Context, InodeLock},
    to_int, to_result,
    xattr::{self, XattrOperations},
    Dentry, FileSystem, Inode,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::from_err_ptr,
    ffi::{c_char, c_int, c_uint},
    prelude::*,
};

/// What the VFS asks about one inode.
pub(crate) trait InodeOperations:
    FileSystem + XattrOperations + AclOperations + FileattrOperations
{
    /// `->permission`: may the current task do what `access` says? The VFS has
    /// checked nothing. May be called on any path walk, with no locks.
    /// `idmap` is that of the mount of this filesystem, as in what follows.
    fn permission(inode: &Inode<Self>, idmap: Idmap<'_>, access: Access) -> Result;

    /// `->permission` in the middle of a path walk without references: must not
    /// sleep. `ECHILD` to be asked again through [`InodeOperations::permission`].
    fn permission_rcu(inode: RcuInode<'_, Self>, idmap: Idmap<'_>, access: Access) -> Result;

    /// `->getattr`. No locks held; `dentry` is positive. The owner that is filled
    /// in is the one seen through the mount.
    fn getattr(
        dentry: &Dentry<Self>,
        idmap: Idmap<'_>,
        request: Request,
        stat: &mut Stat,
    ) -> Result;

    /// `->setattr`. The inode's `i_rwsem` is held. The owner in `attr` is one as
    /// seen through the mount.
    fn setattr(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Self>,
        idmap: Idmap<'_>,
        attr: &mut Attributes,
    ) -> Result;

    /// `->get_link` where it may sleep: the target of a symlink.
    fn get_link<'a>(dentry: &'a Dentry<Self>, link: DelayedLink<'a>) -> Result<LinkText<'a>>;

    /// `->update_time` for the access time; times of writing are set by the
    /// filesystem below as it writes.
    fn update_atime(inode: &Inode<Self>) -> Result;

    /// Reads an extent map (`FS_IOC_FIEMAP`).
    fn fiemap(inode: &Inode<Self>, request: FiemapRequest<'_>) -> Result;
}

/// `MAY_*`.
#[derive(Clone, Copy)]
pub(crate) struct Access(c_int);

impl Access {
    pub(crate) const READ: Self = Self(b::MAY_READ as c_int);
    pub(crate) const WRITE: Self = Self(b::MAY_WRITE as c_int);
    pub(crate) const EXEC: Self = Self(b::MAY_EXEC as c_int);
    pub(crate) const OPEN: Self = Self(b::MAY_OPEN as c_int);
    pub(super) const APPEND: Self = Self(b::MAY_APPEND as c_int);

    pub(crate) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(crate) fn wants_write(self) -> bool {
        self.0 & b::MAY_WRITE as c_int != 0
    }

    /// The access needed below to copy an object up instead of writing to it.
    pub(crate) fn read_instead_of_write(self) -> Self {
        let write = (b::MAY_WRITE | b::MAY_APPEND) as c_int;
        Self((self.0 & !write) | b::MAY_READ as c_int)
    }

    /// For who may sleep: an inode that is counted is not asked as one of which the
    /// list may go away meanwhile.
    pub(super) fn mask(self) -> c_int {
        self.0 & !(b::MAY_NOT_BLOCK as c_int)
    }

    /// For a path walk without references, wherever this comes from.
    fn mask_rcu(self) -> c_int {
        self.0 | b::MAY_NOT_BLOCK as c_int
    }
}

impl<F: FileSystem> Inode<F> {
    /// `generic_permission`: what mode and ACL of this inode say of the current
    /// credentials.
    pub(crate) fn generic_permission(&self, idmap: Idmap<'_>, access: Access) -> Result {
        // SAFETY: the inode and the mapping are live. Without `MAY_NOT_BLOCK`, so what
        // it looks at is counted.
        to_result(unsafe { b::generic_permission(idmap.as_ptr(), self.as_ptr(), access.mask()) })
    }

    /// Takes the times of the inode below over, if they are others.
    pub(crate) fn copy_times(&self, from: &Inode) {
        // SAFETY: both inodes are live; takes the `i_lock` of this one.
        unsafe { b::rovl_copy_times(self.as_ptr(), from.as_ptr()) };
    }
}

impl<F: FileSystem> RcuInode<'_, F> {
    /// As [`Inode::generic_permission`], without sleeping.
    pub(crate) fn generic_permission(self, idmap: Idmap<'_>, access: Access) -> Result {
        // SAFETY: the memory of the inode stays (type invariant), and `MAY_NOT_BLOCK`
        // is how such an inode is asked: of ours it looks at mode, owner and flags,
        // and comes to `get_inode_acl` with `rcu`.
        to_result(unsafe {
            b::generic_permission(idmap.as_ptr(), self.as_ptr(), access.mask_rcu())
        })
    }
}

impl Backing<'_> {
    /// `inode_permission` of the backing inode during a path walk without
    /// references, with the credentials in force.
    pub(crate) fn permission(self, access: Access) -> Result {
        // SAFETY: the memory of the inode stays (type invariant), and `MAY_NOT_BLOCK`
        // is how such an inode is asked.
        to_result(unsafe {
            b::inode_permission(self.idmap().as_ptr(), self.as_ptr(), access.mask_rcu())
        })
    }
}

/// What `statx` asked for.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    /// `STATX_*`.
    pub(crate) mask: u32,
    /// `AT_STATX_*`.
    pub(crate) flags: u32,
}

/// Where the text of a link is kept until the VFS is done with it.
pub(crate) struct DelayedLink<'a>(&'a mut b::delayed_call);

/// The text of a link.
///
/// # Invariants
///
/// It ends in NUL, and is valid until the VFS runs the delayed call, or for as long as
/// what has been borrowed for `'a`: it may lie in the inode of the link.
pub(crate) struct LinkText<'a>(*const c_char, PhantomData<&'a Dentry>);

impl<'a> DelayedLink<'a> {
    /// `vfs_get_link`: the target of a symlink of another filesystem, which stays as
    /// long as the one that the VFS asks about.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what is no symlink, for a magic link, which has no text, and for a
    /// negative dentry.
    pub(crate) fn read(self, dentry: &'a Dentry) -> Result<LinkText<'a>> {
        // SAFETY: the dentry is valid, and asked only if it is a symlink with a text,
        // which takes no path walk; the delayed call is the VFS's, which runs it when it
        // is done with the text.
        let text = unsafe { b::rovl_get_link(dentry.as_ptr(), self.0) };
        // INVARIANT: what `->get_link` returns is kept by the delayed call or by the
        // inode, which the dentry pins.
        Ok(LinkText(from_err_ptr(text.cast_mut())?, PhantomData))
    }
}

/// An extent map that is being filled in.
///
/// # Invariants
///
/// `info` is the caller's for `'a`.
pub(crate) struct FiemapRequest<'a> {
    info: *mut b::fiemap_extent_info,
    start: u64,
    len: u64,
    _info: PhantomData<&'a mut b::fiemap_extent_info>,
}

impl FiemapRequest<'_> {
    /// Passes the question on to the inode below.
    pub(crate) fn ask(self, below: &Inode) -> Result {
        // SAFETY: the inode is live, its operations are static.
        let Some(fiemap) = (unsafe { (*(*below.as_ptr()).i_op).fiemap }) else {
            return Err(EOPNOTSUPP);
        };
        // SAFETY: as the VFS itself would call it; `info` lives (type invariant).
        to_result(unsafe { fiemap(below.as_ptr(), self.info, self.start, self.len) })
    }
}

/// The text of a symlink, while this and the symlink live (`vfs_get_link`).
pub(crate) struct Link<'a> {
    text: *const c_char,
    done: b::delayed_call,
    /// It may lie in the inode.
    _dentry: PhantomData<&'a Dentry>,
}

impl<'a> Link<'a> {
    /// Reads the symlink at `dentry`, of any filesystem.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what is no symlink, for a magic link, which has no text, and for a
    /// negative dentry.
    pub(crate) fn read(dentry: &'a Dentry) -> Result<Self> {
        let mut done: b::delayed_call = pin_init::zeroed();
        // SAFETY: the dentry is valid, and asked only if it is a symlink with a text,
        // which takes no path walk; `done` is run by the drop.
        let text = unsafe { b::rovl_get_link(dentry.as_ptr(), &mut done) };
        let text = from_err_ptr(text.cast_mut())?;
        if text.is_null() {
            return Err(EINVAL);
        }
        Ok(Self {
            text,
            done,
            _dentry: PhantomData,
        })
    }

    pub(crate) fn text(&self) -> &CStr {
        // SAFETY: NUL-terminated, and valid until `done` is run, if that keeps it, or
        // as long as the inode, which the dentry pins for `'a`.
        unsafe { CStr::from_char_ptr(self.text) }
    }
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        // SAFETY: filled in by `rovl_get_link`, and run once.
        unsafe { b::rovl_do_delayed_call(&mut self.done) };
    }
}

pub(super) struct Table<F>(PhantomData<F>);

pub(super) fn file_operations<F: InodeOperations>() -> *const b::inode_operations {
    Table::<F>::FILE
}

pub(super) fn symlink_operations<F: InodeOperations>() -> *const b::inode_operations {
    Table::<F>::SYMLINK
}

pub(super) fn special_operations<F: InodeOperations>() -> *const b::inode_operations {
    Table::<F>::SPECIAL
}

impl<F: InodeOperations> Table<F> {
    const SPECIAL: &'static b::inode_operations = &b::inode_operations {
        permission: Some(Self::permission),
        getattr: Some(Self::getattr),
        setattr: Some(Self::setattr),
        listxattr: Some(xattr::listxattr::<F>),
        get_inode_acl: Some(acl::get_inode_acl::<F>),
        get_acl: Some(acl::get_acl::<F>),
        set_acl: Some(acl::set_acl::<F>),
        update_time: Some(Self::update_time),
        fileattr_get: Some(fileattr::fileattr_get::<F>),
        fileattr_set: Some(fileattr::fileattr_set::<F>),
        ..pin_init::zeroed()
    };

    const FILE: &'static b::inode_operations = &b::inode_operations {
        permission: Some(Self::permission),
        getattr: Some(Self::getattr),
        setattr: Some(Self::setattr),
        listxattr: Some(xattr::listxattr::<F>),
        get_inode_acl: Some(acl::get_inode_acl::<F>),
        get_acl: Some(acl::get_acl::<F>),
        set_acl: Some(acl::set_acl::<F>),
        update_time: Some(Self::update_time),
        fiemap: Some(Self::fiemap),
        fileattr_get: Some(fileattr::fileattr_get::<F>),
        fileattr_set: Some(fileattr::fileattr_set::<F>),
        ..pin_init::zeroed()
    };

    const SYMLINK: &'static b::inode_operations = &b::inode_operations {
        permission: Some(Self::permission),
        getattr: Some(Self::getattr),
        setattr: Some(Self::setattr),
        get_link: Some(Self::get_link),
        listxattr: Some(xattr::listxattr::<F>),
        update_time: Some(Self::update_time),
        fileattr_get: Some(fileattr::fileattr_get::<F>),
        fileattr_set: Some(fileattr::fileattr_set::<F>),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only for the VFS to call, on an inode of `F`, with or without a
    /// reference as `mask` says.
    pub(super) unsafe extern "C" fn permission(
        idmap: *mut b::mnt_idmap,
        inode: *mut b::inode,
        mask: c_int,
    ) -> c_int {
        // SAFETY: that of the caller's mount.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        let access = Access(mask);
        if mask & b::MAY_NOT_BLOCK as c_int != 0 {
            // SAFETY: what the VFS says by `MAY_NOT_BLOCK`.
            let inode = unsafe { RcuInode::<F>::from_raw(inode) };
            return to_int(F::permission_rcu(inode, idmap, access));
        }
        // SAFETY: the VFS pins the inode where it does not say that.
        let inode = unsafe { Inode::<F>::from_raw(inode) };
        to_int(F::permission(inode, idmap, access))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a path of `F`.
    pub(super) unsafe extern "C" fn getattr(
        idmap: *mut b::mnt_idmap,
        path: *const b::path,
        stat: *mut b::kstat,
        mask: u32,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: that of the caller's mount.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: the path is pinned by the caller.
        let dentry = unsafe { Dentry::<F>::from_raw((*path).dentry) };
        // SAFETY: the caller's buffer.
        let stat = unsafe { Stat::from_raw(stat) };
        to_int(F::getattr(dentry, idmap, Request { mask, flags }, stat))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, with the inode of `dentry` locked.
    pub(super) unsafe extern "C" fn setattr(
        idmap: *mut b::mnt_idmap,
        dentry: *mut b::dentry,
        attr: *mut b::iattr,
    ) -> c_int {
        // SAFETY: that of the caller's mount.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: pinned by the caller.
        let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
        // SAFETY: the caller's, for us to change.
        let attr = unsafe { Attributes::from_raw(attr) };
        // SAFETY: the entry point of the operation, which holds `i_rwsem`.
        let mut ctx = unsafe { Context::<InodeLock>::enter() };
        to_int(F::setattr(&mut ctx, dentry, idmap, attr))
    }

    /// # Safety
    ///
    /// Only for the VFS to call; without a dentry during a walk under RCU.
    unsafe extern "C" fn get_link(
        dentry: *mut b::dentry,
        _inode: *mut b::inode,
        done: *mut b::delayed_call,
    ) -> *const c_char {
        let Some(dentry) = NonNull::new(dentry) else {
            return ECHILD.to_ptr::<c_char>();
        };
        // SAFETY: pinned by the caller.
        let dentry = unsafe { Dentry::<F>::from_raw(dentry.as_ptr()) };
        // SAFETY: the caller's, who runs it when done with the text.
        let link = DelayedLink(unsafe { &mut *done });
        match F::get_link(dentry, link) {
            Ok(text) => text.0,
            Err(e) => e.to_ptr::<c_char>(),
        }
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    pub(super) unsafe extern "C" fn update_time(
        inode: *mut b::inode,
        kind: b::fs_update_time,
        flags: c_uint,
    ) -> c_int {
        if kind != b::fs_update_time_FS_UPD_ATIME {
            return 0;
        }
        if flags & b::IOCB_NOWAIT != 0 {
            return EAGAIN.to_errno();
        }
        // SAFETY: pinned by the caller.
        let inode = unsafe { Inode::<F>::from_raw(inode) };
        to_int(F::update_atime(inode))
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    unsafe extern "C" fn fiemap(
        inode: *mut b::inode,
        info: *mut b::fiemap_extent_info,
        start: u64,
        len: u64,
    ) -> c_int {
        // SAFETY: pinned by the caller.
        let inode = unsafe { Inode::<F>::from_raw(inode) };
        let request = FiemapRequest {
            info,
            start,
            len,
            _info: PhantomData,
        };
        to_int(F::fiemap(inode, request))
    }
}
