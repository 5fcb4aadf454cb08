// SPDX-License-Identifier: GPL-2.0

//! Id mappings of mounts: as whom the owners of a filesystem are seen through
//! one of its mounts.
//!
//! C header: [`include/linux/mnt_idmapping.h`](srctree/include/linux/mnt_idmapping.h);
//! `Documentation/filesystems/idmappings.rst`.

use super::{
    attr::{kgid_t, kuid_t},
    bindings as b, Mount, SuperBlock,
};
use core::marker::PhantomData;

/// `struct mnt_idmap`.
///
/// # Invariants
///
/// The mapping is that of a mount which lives for `'a`, or the one that maps
/// nothing, which is static.
#[derive(Clone, Copy)]
pub(crate) struct Idmap<'a>(*mut b::mnt_idmap, PhantomData<&'a Mount>);

impl<'a> Idmap<'a> {
    /// # Safety
    ///
    /// `idmap` is a mapping that lives for `'a`.
    pub(super) unsafe fn from_raw(idmap: *mut b::mnt_idmap) -> Self {
        // INVARIANT: per the contract.
        Self(idmap, PhantomData)
    }

    /// `nop_mnt_idmap`: owners are seen as they are.
    pub(super) fn nop() -> Self {
        // INVARIANT: a static.
        Self(&raw mut b::nop_mnt_idmap, PhantomData)
    }

    pub(super) fn as_ptr(self) -> *mut b::mnt_idmap {
        self.0
    }

    /// Whether owners are seen as they are.
    pub(super) fn is_nop(self) -> bool {
        core::ptr::eq(self.0, Self::nop().0)
    }

    /// `make_vfsuid`, `make_vfsgid`: an owner of `sb` as seen through the mount;
    /// what has no mapping is the invalid id.
    pub(crate) fn seen(self, sb: &SuperBlock, owner: (kuid_t, kgid_t)) -> (kuid_t, kgid_t) {
        if self.is_nop() {
            return owner;
        }
        let (mut uid, mut gid) = owner;
        // SAFETY: the mapping lives (type invariant), `sb` is active, the ids
        // are ours.
        unsafe { b::rovl_idmap_seen(self.0, sb.as_ptr(), &mut uid, &mut gid) };
        (uid, gid)
    }

    /// `from_vfsuid`, `from_vfsgid`: the owner in `sb` of what is seen through
    /// the mount as that of `owner`.
    pub(crate) fn stored(self, sb: &SuperBlock, owner: (kuid_t, kgid_t)) -> (kuid_t, kgid_t) {
        if self.is_nop() {
            return owner;
        }
        let (mut uid, mut gid) = owner;
        // SAFETY: as in `seen`.
        unsafe { b::rovl_idmap_stored(self.0, sb.as_ptr(), &mut uid, &mut gid) };
        (uid, gid)
    }
}

impl Mount {
    /// `mnt_idmap`. It does not change any more once the mount is in use.
    pub(crate) fn id_mapping(&self) -> Idmap<'_> {
        // SAFETY: it lives as long as the mount.
        unsafe { Idmap::from_raw(self.idmap()) }
    }
}
