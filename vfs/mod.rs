// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers over the kernel's VFS, and the only place with `unsafe`.
//!
//! This module knows nothing of overlays. It mirrors the C interfaces, one Rust
//! type for each C object and the kernel's own names, and puts the rules which
//! C states in comments into types:
//!
//! * **who owns what**: a counted reference is an [`ARef`](kernel::sync::aref::ARef),
//!   a private mount unmounts on drop, a superblock that is being filled is
//!   another type than a mounted one;
//! * **who holds which lock**: [`lock::Context`] says what the VFS held when it
//!   called, and every lock of the other filesystem is a guard that borrows it;
//!   see [`lock`] for the order and how the compiler checks it.
//!
//! What it does not see to: a counted dentry or inode of another filesystem does not
//! keep the superblock. That a mount of it lives as long is for the one who keeps them:
//! `layers.rs` does by the order of its fields.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/namei.h`](srctree/include/linux/namei.h),
//! [`include/linux/dcache.h`](srctree/include/linux/dcache.h).

#![allow(unsafe_code)]

pub(crate) mod acl;
pub(crate) mod attr;
mod bindings;
pub(crate) mod compat;
pub(crate) mod completion;
pub(crate) mod cred;
pub(crate) mod dentry;
pub(crate) mod dentry_ops;
pub(crate) mod dir_ops;
pub(crate) mod export;
pub(crate) mod file;
pub(crate) mod file_ops;
pub(crate) mod fileattr;
pub(crate) mod flags;
pub(crate) mod fs_context;
pub(crate) mod idmap;
pub(crate) mod in_use;
pub(crate) mod inode;
pub(crate) mod inode_ops;
pub(crate) mod iterate;
pub(crate) mod layout;
pub(crate) mod lock;
pub(crate) mod mount;
pub(crate) mod namei;
pub(crate) mod params;
pub(crate) mod readdir;
pub(crate) mod seq;
pub(crate) mod sget;
pub(crate) mod super_block;
pub(crate) mod task;
mod tests;
pub(crate) mod trace;
pub(crate) mod xattr;

pub(crate) use dentry::Dentry;
pub(crate) use inode::Inode;
pub(crate) use mount::{Mount, Path, PrivateMount};
pub(crate) use super_block::{FileSystem, SuperBlock};

use kernel::{
    error::{Error, Result},
    ffi::c_int,
};

/// A filesystem that this code does not know: the default for [`Dentry`],
/// [`Inode`] and [`SuperBlock`], whose methods work on any of them.
pub(crate) struct Any;

/// `0` or a negative errno, as C callers want it.
pub(crate) fn to_int(r: Result) -> c_int {
    match r {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// What [`kernel::error::to_result`] makes of `0` or a negative errno. That is a call of
/// its own also where there is no error.
#[inline]
fn to_result(r: c_int) -> Result {
    match r {
        0 => Ok(()),
        r => kernel::error::to_result(r),
    }
}

/// A count or a negative errno (`ssize_t`, `loff_t`), as C callers want it.
pub(crate) fn to_count<T: TryInto<isize>>(r: Result<T>) -> isize {
    match r {
        Ok(n) => n.try_into().unwrap_or(isize::MAX),
        Err(e) => e.to_errno() as isize,
    }
}

/// The value of a C function that returns a count or a negative errno.
pub(crate) fn from_count(n: isize) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::from_errno(n as c_int))
}

/// Whether a warning may be printed that others can cause at will, as often as they like
/// (`printk_ratelimited`): at most ten in five seconds, of all of them.
pub(crate) fn may_warn() -> bool {
    // SAFETY: no requirements.
    unsafe { bindings::rovl_may_warn() }
}
