// SPDX-License-Identifier: GPL-2.0

//! What the VFS asks of names: which object of another filesystem stands behind
//! one, and whether one still holds that may change behind the back of the VFS.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h) (`struct
//! dentry_operations`); `Documentation/filesystems/vfs.rst`, `locking.rst`.

use super::{
    bindings as b,
    dentry::{qstr, Name},
    lock::{Context, DirectoryLock, MayLockDirectory, Nothing},
    Dentry, FileSystem, Inode,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    error::Error,
    ffi::{c_int, c_uint},
    prelude::*,
    sync::aref::ARef,
};

/// `LOOKUP_*`, what the name is wanted for.
#[derive(Clone, Copy)]
pub(crate) struct Flags(c_uint);

impl Dentry {
    /// Asks the filesystem whether the name still stands for this object
    /// (`->d_revalidate`), and makes the VFS forget it if not. May sleep, and lock
    /// directories.
    ///
    /// # Errors
    ///
    /// What the filesystem says, where it cannot tell.
    pub(crate) fn revalidate(
        &self,
        _may_lock: &mut impl MayLockDirectory,
        flags: Flags,
    ) -> Result<bool> {
        if self.flags() & b::DCACHE_OP_REVALIDATE == 0 {
            return Ok(true);
        }
        let Some(revalidate) = self.operations().and_then(|ops| ops.d_revalidate) else {
            return Ok(true);
        };
        let name: Name = self.name();
        let name = qstr(&name);
        // SAFETY: the dentry is valid; returns a counted one, never null.
        let parent: ARef<Dentry> =
            unsafe { ARef::from_raw(NonNull::new_unchecked(b::dget_parent(self.as_ptr())).cast()) };
        let dir = parent.positive()?;
        // SAFETY: as the VFS calls it outside of an RCU walk: the directory is
        // pinned by its dentry, and the name lives for the call.
        let holds = answer(unsafe { revalidate(dir.as_ptr(), &name, self.as_ptr(), flags.0) })?;
        if !holds {
            // SAFETY: the dentry is valid and counted.
            unsafe { b::d_invalidate(self.as_ptr()) };
        }
        Ok(holds)
    }

    /// Asks the filesystem whether the object is still there, under whatever
    /// name (`->d_weak_revalidate`). As [`Dentry::revalidate`] else.
    pub(crate) fn weak_revalidate(
        &self,
        _may_lock: &mut impl MayLockDirectory,
        flags: Flags,
    ) -> Result<bool> {
        if self.flags() & b::DCACHE_OP_WEAK_REVALIDATE == 0 {
            return Ok(true);
        }
        match self.operations().and_then(|ops| ops.d_weak_revalidate) {
            // SAFETY: as the VFS calls it; the dentry is counted.
            Some(weak) => answer(unsafe { weak(self.as_ptr(), flags.0) }),
            None => Ok(true),
        }
    }

    fn operations(&self) -> Option<&b::dentry_operations> {
        // SAFETY: the dentry is valid; set when it was made.
        let ops = unsafe { (*self.as_ptr()).d_op };
        // SAFETY: null, or a table that outlives the filesystem.
        unsafe { ops.as_ref() }
    }
}

/// Positive, zero or a negative errno.
fn answer(r: c_int) -> Result<bool> {
    if r < 0 {
        return Err(Error::from_errno(r));
    }
    Ok(r > 0)
}

/// `struct dentry_operations`.
pub(crate) trait DentryOperations: FileSystem {
    /// `->d_real`: the object of another filesystem that has the data of a regular
    /// file, and its attributes. It stays as long as the inode does. No locks are
    /// held.
    fn real<'a>(inode: &'a Inode<Self>) -> Option<&'a Dentry>;

    /// Whether what stands behind a name may change without the VFS, so that it has to ask:
    /// of a name that was looked up, what has been found, or none in this directory. A name is
    /// not asked for again unless this was true then.
    fn may_change(found: Found<'_, Self>) -> bool;

    /// `->d_revalidate`: whether the VFS may go on using what it knows of a name: this object,
    /// or that there is none. No locks are needed, that of the directory may be held.
    fn revalidate(
        ctx: &mut Context<DirectoryLock>,
        dentry: &Dentry<Self>,
        flags: Flags,
    ) -> Result<bool>;

    /// `->d_weak_revalidate`, of the same: whether the object, which was not come to by its
    /// name, is still there. No locks are held.
    fn weak_revalidate(
        ctx: &mut Context<Nothing>,
        dentry: &Dentry<Self>,
        flags: Flags,
    ) -> Result<bool>;
}

/// What a lookup has found.
pub(crate) enum Found<'a, F: FileSystem> {
    Object(&'a Inode<F>),
    /// None in this directory.
    Nothing(&'a Inode<F>),
}

const REVALIDATED: c_uint = b::DCACHE_OP_REVALIDATE | b::DCACHE_OP_WEAK_REVALIDATE;

/// Makes `operations` those of all dentries of a superblock, of which none is asked for
/// unless [`ask_if_needed`] says so.
///
/// # Safety
///
/// `sb` is being filled, and has no dentry yet.
pub(super) unsafe fn set_default<F: DentryOperations>(sb: *mut b::super_block) {
    // SAFETY: per the contract; the table is static.
    unsafe { b::set_default_d_op(sb, Table::<F>::OPERATIONS) };
    // SAFETY: per the contract.
    unsafe { (*sb).s_d_flags &= !REVALIDATED };
}

/// Lets the VFS ask for a name from now on, if it may change. It never stops: a name that is
/// removed meanwhile would not be asked for, though it may come back.
pub(super) fn ask_if_needed<F: DentryOperations>(dentry: &Dentry<F>, found: Found<'_, F>) {
    if F::may_change(found) {
        // SAFETY: the dentry is valid; takes and releases `d_lock`, which is not held here.
        unsafe { b::rovl_d_set_flags(dentry.as_ptr(), REVALIDATED) };
    }
}

struct Table<F>(PhantomData<F>);

impl<F: DentryOperations> Table<F> {
    const OPERATIONS: &'static b::dentry_operations = &b::dentry_operations {
        d_real: Some(Self::real),
        d_revalidate: Some(Self::revalidate),
        d_weak_revalidate: Some(Self::weak_revalidate),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only for `d_real` to call, on a dentry of `F`.
    unsafe extern "C" fn real(dentry: *mut b::dentry, kind: b::d_real_type) -> *mut b::dentry {
        // SAFETY: counted by the caller.
        let name = unsafe { Dentry::<F>::from_raw(dentry) };
        let Ok(inode) = name.node() else {
            return dentry;
        };
        if !inode.is_regular() {
            return dentry;
        }
        match F::real(inode) {
            // SAFETY: pinned by the inode. It may itself be of such a filesystem.
            Some(real) => unsafe { b::rovl_d_real(real.as_ptr(), kind) },
            None => dentry,
        }
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a dentry of `F`.
    unsafe extern "C" fn revalidate(
        _dir: *mut b::inode,
        _name: *const b::qstr,
        dentry: *mut b::dentry,
        flags: c_uint,
    ) -> c_int {
        if flags & b::LOOKUP_RCU != 0 {
            return ECHILD.to_errno();
        }
        // SAFETY: counted by the caller, who is not in an RCU walk.
        let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
        // SAFETY: the entry point of the operation; at most the directory is locked.
        let mut ctx = unsafe { Context::<DirectoryLock>::enter() };
        as_c(F::revalidate(&mut ctx, dentry, Flags(flags)))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a dentry of `F`.
    unsafe extern "C" fn weak_revalidate(dentry: *mut b::dentry, flags: c_uint) -> c_int {
        // SAFETY: counted by the caller; never called in an RCU walk.
        let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        as_c(F::weak_revalidate(&mut ctx, dentry, Flags(flags)))
    }
}

fn as_c(r: Result<bool>) -> c_int {
    r.map_or_else(Error::to_errno, c_int::from)
}
