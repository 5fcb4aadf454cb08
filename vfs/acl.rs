// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists.
//!
//! C header: [`include/linux/posix_acl.h`](srctree/include/linux/posix_acl.h);
//! `fs/posix_acl.c`.

use super::compat::ENODATA;
use super::{
    bindings as b,
    idmap::Idmap,
    inode::RcuInode,
    lock::{Context, InodeLock, WriteAccess},
    to_int, to_result, Dentry, FileSystem, Inode, Path, SuperBlock,
};
use core::ptr::NonNull;
use kernel::{
    bindings::posix_acl as c_acl,
    error::from_err_ptr,
    ffi::c_int,
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque,
};

/// Which list of an inode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Who may do what with it (`ACL_TYPE_ACCESS`).
    Access,
    /// What new objects in a directory get (`ACL_TYPE_DEFAULT`).
    Default,
}

impl Kind {
    /// The name under which the list appears among the extended attributes.
    pub(crate) fn name(self) -> &'static CStr {
        match self {
            Kind::Access => c"system.posix_acl_access",
            Kind::Default => c"system.posix_acl_default",
        }
    }

    fn as_c(self) -> c_int {
        match self {
            Kind::Access => b::ACL_TYPE_ACCESS as c_int,
            Kind::Default => b::ACL_TYPE_DEFAULT as c_int,
        }
    }

    fn from_c(kind: c_int) -> Result<Self> {
        match kind as u32 {
            b::ACL_TYPE_ACCESS => Ok(Kind::Access),
            b::ACL_TYPE_DEFAULT => Ok(Kind::Default),
            _ => Err(EINVAL),
        }
    }
}

/// Whether an extended attribute of this name stands for a list
/// (`is_posix_acl_xattr`), so that it is not to be had through
/// [`super::xattr`].
pub(crate) fn is_acl_xattr(name: &CStr) -> bool {
    [Kind::Access, Kind::Default]
        .iter()
        .any(|kind| kind.name() == name)
}

/// `struct posix_acl`.
///
/// # Invariants
///
/// The list is counted while it is borrowed, and does not change.
#[repr(transparent)]
pub(crate) struct Acl(Opaque<b::posix_acl>);

// SAFETY: lists are counted, do not change, and may be released anywhere.
unsafe impl Send for Acl {}
// SAFETY: as above.
unsafe impl Sync for Acl {}

// SAFETY: `posix_acl_dup` and `posix_acl_release` count.
unsafe impl AlwaysRefCounted for Acl {
    fn inc_ref(&self) {
        // SAFETY: the count is not zero (type invariant).
        unsafe { b::rovl_posix_acl_dup(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: the caller gives up a count of its own.
        unsafe { b::rovl_posix_acl_release(obj.as_ptr().cast()) };
    }
}

impl Acl {
    fn as_ptr(&self) -> *mut b::posix_acl {
        self.0.get()
    }

    /// # Safety
    ///
    /// `ptr` is null, an error pointer, or a list counted for the caller, which
    /// gives that count up.
    unsafe fn from_counted(ptr: *mut b::posix_acl) -> Result<Option<ARef<Self>>> {
        // SAFETY: per the contract, what is neither error nor null is counted.
        Ok(NonNull::new(from_err_ptr(ptr)?).map(|acl| unsafe { ARef::from_raw(acl.cast()) }))
    }

    /// `posix_acl_clone`: a copy that nobody else sees.
    fn try_clone(&self) -> Result<ARef<Self>> {
        // SAFETY: the list is valid.
        let copy = unsafe { b::posix_acl_clone(self.as_ptr(), b::GFP_KERNEL) };
        // SAFETY: null, or counted for us.
        unsafe { Self::from_counted(copy) }?.ok_or(ENOMEM)
    }

    /// The list with its users and groups as seen through a mount of `sb`.
    fn seen_through(this: ARef<Self>, sb: &SuperBlock, idmap: Idmap<'_>) -> Result<ARef<Self>> {
        if idmap.is_nop() {
            return Ok(this);
        }
        let seen = this.try_clone()?;
        // SAFETY: the copy is ours alone; mapping and superblock are live.
        unsafe { b::rovl_posix_acl_seen(idmap.as_ptr(), sb.as_ptr(), seen.as_ptr()) };
        Ok(seen)
    }
}

/// `vfs_get_acl`: a list as `getxattr(2)` would see it, with the credentials in
/// force, with users and groups as seen through the mount. May sleep; no lock
/// is needed.
///
/// # Errors
///
/// `EOPNOTSUPP` where there are none (by filesystem or by kind of inode).
pub(crate) fn get(path: Path<'_>, kind: Kind) -> Result<Option<ARef<Acl>>> {
    let sb = path.inode()?.super_block();
    // SAFETY: mount and dentry are valid, the dentry is positive, the name is
    // static.
    let acl = unsafe {
        b::vfs_get_acl(
            path.mnt.idmap(),
            path.dentry.as_ptr(),
            kind.name().as_char_ptr(),
        )
    };
    // SAFETY: an error or counted for us.
    match unsafe { Acl::from_counted(acl) } {
        Err(e) if e == ENODATA => Ok(None),
        Ok(Some(acl)) => Acl::seen_through(acl, sb, path.mnt.id_mapping()).map(Some),
        r => r,
    }
}

/// `get_inode_acl`: a list as permission checks see it: no security module is
/// asked, and no list is `None` also where there can be none. May sleep; no
/// lock is needed.
pub(crate) fn get_inode(path: Path<'_>, kind: Kind) -> Result<Option<ARef<Acl>>> {
    let inode = path.inode()?;
    // SAFETY: the inode is live.
    let acl = unsafe { b::get_inode_acl(inode.as_ptr(), kind.as_c()) };
    // SAFETY: null, an error or counted for us.
    match unsafe { Acl::from_counted(acl) }? {
        Some(acl) => Acl::seen_through(acl, inode.super_block(), path.mnt.id_mapping()).map(Some),
        None => Ok(None),
    }
}

impl WriteAccess<'_> {
    /// `vfs_set_acl`, and without a list `vfs_remove_acl`; the inode is locked
    /// for the call. An access list changes the mode.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where there are no lists, `EPERM` if the credentials in
    /// force are not the owner's, `EACCES` for a default list of what is no
    /// directory.
    pub(crate) fn set_acl(&mut self, dentry: &Dentry, kind: Kind, acl: Option<&Acl>) -> Result {
        self.inode_of(dentry)?;
        let idmap = self.mnt().idmap();
        let name = kind.name().as_char_ptr();
        let Some(acl) = acl else {
            // SAFETY: the dentry is positive, and we hold no lock of its
            // filesystem: a guard of this access would borrow `self`.
            return to_result(unsafe { b::vfs_remove_acl(idmap, dentry.as_ptr(), name) });
        };
        // With an idmap the function translates the list in place.
        let own = if self.mnt().is_idmapped() {
            acl.try_clone()?
        } else {
            acl.into()
        };
        // SAFETY: as above; the list is valid, and ours alone if it is written.
        to_result(unsafe { b::vfs_set_acl(idmap, dentry.as_ptr(), name, own.as_ptr()) })
    }
}

/// What the VFS asks about access control lists.
///
/// Lists of a stacking filesystem's inodes are not cached: those of the inodes
/// below are, where they are changed.
pub(crate) trait AclOperations: FileSystem {
    /// `->get_inode_acl`, for permission checks. No locks held; may sleep.
    fn get_inode_acl(inode: &Inode<Self>, kind: Kind) -> Result<Option<ARef<Acl>>>;

    /// `->get_acl`, for `getxattr(2)`. No locks held.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where there are none.
    fn get_acl(dentry: &Dentry<Self>, kind: Kind) -> Result<Option<ARef<Acl>>>;

    /// `->set_acl`: sets a list, or with `None` removes it. The VFS has checked
    /// that the caller owns the inode and that the list is well-formed, and
    /// holds the inode's `i_rwsem`. The filesystem sees to it that the mode
    /// follows an access list, and that the set-group-id bit goes where the
    /// caller may not keep it ([`may_keep_setgid`]). `idmap` is that of the mount;
    /// the list has been translated by it.
    fn set_acl(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Self>,
        idmap: Idmap<'_>,
        kind: Kind,
        acl: Option<&Acl>,
    ) -> Result;
}

/// Whether the filesystem of an inode has access control lists, as it is
/// mounted (`IS_POSIXACL`).
pub(crate) fn are_supported(inode: &Inode) -> bool {
    // SAFETY: the inode is live.
    unsafe { b::rovl_is_posixacl(inode.as_ptr()) }
}

/// Whether a caller who changes the mode may leave the set-group-id bit: who is
/// in the inode's group, or has `CAP_FSETID` (`in_group_or_capable`). Asks for
/// the credentials in force.
pub(crate) fn may_keep_setgid(inode: &Inode, idmap: Idmap<'_>) -> bool {
    // SAFETY: the inode and the mapping are live.
    unsafe { b::rovl_in_group_or_capable(idmap.as_ptr(), inode.as_ptr()) }
}

/// Keeps the VFS from caching lists with this inode, which would hide changes
/// of those below (`ACL_DONT_CACHE`).
///
/// # Safety
///
/// `inode` is new, nobody else sees it.
pub(super) unsafe fn dont_cache(inode: *mut b::inode) {
    // SAFETY: per the contract.
    unsafe { b::rovl_acl_dont_cache(inode) };
}

/// A list, or none, or an error, as C callers want it.
fn to_ptr(r: Result<Option<ARef<Acl>>>) -> *mut c_acl {
    match r {
        Ok(Some(acl)) => ARef::into_raw(acl).as_ptr().cast(),
        Ok(None) => core::ptr::null_mut(),
        Err(e) => e.to_ptr(),
    }
}

/// `->get_inode_acl`.
///
/// # Safety
///
/// Only for the VFS to call, on an inode of `F`. With `rcu` it may lack a
/// reference, and the list that is returned is not counted.
pub(super) unsafe extern "C" fn get_inode_acl<F: AclOperations>(
    inode: *mut b::inode,
    kind: c_int,
    rcu: bool,
) -> *mut c_acl {
    if rcu {
        // SAFETY: what the VFS says by `rcu`.
        return cached(unsafe { RcuInode::<F>::from_raw(inode) }, kind);
    }
    // SAFETY: the caller holds a reference where it does not say that.
    let inode = unsafe { Inode::<F>::from_raw(inode) };
    to_ptr(Kind::from_c(kind).and_then(|kind| F::get_inode_acl(inode, kind)))
}

/// The list that the inode below has cached, or an error pointer that sends the
/// path walk to where it may sleep. Called under `rcu_read_lock`, under which
/// the list stays valid for the caller.
fn cached<F: AclOperations>(inode: RcuInode<'_, F>, kind: c_int) -> *mut c_acl {
    let Some(below) = inode.backing() else {
        return ECHILD.to_ptr();
    };
    // SAFETY: the backing inode is valid under RCU.
    if !unsafe { b::rovl_is_posixacl(below.as_ptr()) } {
        return core::ptr::null_mut();
    }
    if !below.idmap().is_nop() {
        // To translate a list takes memory.
        return ECHILD.to_ptr();
    }
    if Kind::from_c(kind).is_err() {
        return EINVAL.to_ptr();
    }
    // SAFETY: as above; the kind is one of the two.
    unsafe { b::get_cached_acl_rcu(below.as_ptr(), kind) }.cast()
}

/// `->get_acl`.
///
/// # Safety
///
/// Only for the VFS to call, on a positive dentry of `F`.
pub(super) unsafe extern "C" fn get_acl<F: AclOperations>(
    _idmap: *mut b::mnt_idmap,
    dentry: *mut b::dentry,
    kind: c_int,
) -> *mut c_acl {
    // SAFETY: the caller holds a reference.
    let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
    to_ptr(Kind::from_c(kind).and_then(|kind| F::get_acl(dentry, kind)))
}

/// `->set_acl`.
///
/// # Safety
///
/// Only for the VFS to call, on a positive dentry of `F` with its inode locked.
pub(super) unsafe extern "C" fn set_acl<F: AclOperations>(
    idmap: *mut b::mnt_idmap,
    dentry: *mut b::dentry,
    acl: *mut c_acl,
    kind: c_int,
) -> c_int {
    // SAFETY: the caller holds a reference.
    let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
    let acl = NonNull::new(acl.cast::<Acl>());
    // SAFETY: not null, so a list on which the caller has a reference; `Acl` is
    // transparent.
    let acl = acl.map(|acl| unsafe { acl.as_ref() });
    // SAFETY: an entry point of the VFS, which holds the inode's lock.
    let mut ctx = unsafe { Context::<InodeLock>::enter() };
    // SAFETY: that of the caller's mount.
    let idmap = unsafe { Idmap::from_raw(idmap) };
    to_int(Kind::from_c(kind).and_then(|kind| F::set_acl(&mut ctx, dentry, idmap, kind, acl)))
}

/// What a new object gets from the directory it is made in.
pub(crate) struct Inherited {
    /// Its mode, after the directory's default list or the umask.
    pub(crate) mode: u16,
    pub(crate) access: Option<ARef<Acl>>,
    pub(crate) default: Option<ARef<Acl>>,
}

/// `posix_acl_create`: what an object with `mode` (type bits included) gets that
/// the current task makes in `dir`.
pub(crate) fn inherit(dir: &Inode, mut mode: u16) -> Result<Inherited> {
    let (mut default, mut access) = (core::ptr::null_mut(), core::ptr::null_mut());
    // SAFETY: the directory is live; the rest is ours to fill in.
    to_result(unsafe { b::posix_acl_create(dir.as_ptr(), &mut mode, &mut default, &mut access) })?;
    // SAFETY: null, or counted for us.
    let default = unsafe { Acl::from_counted(default) }?;
    // SAFETY: null, or counted for us.
    let access = unsafe { Acl::from_counted(access) }?;
    Ok(Inherited {
        mode,
        access,
        default,
    })
}
