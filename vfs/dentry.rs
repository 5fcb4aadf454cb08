// SPDX-License-Identifier: GPL-2.0

//! Directory entries.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h)

use super::{bindings as b, Any, FileSystem, Inode, SuperBlock};
use core::{marker::PhantomData, ops::Deref, ptr::NonNull};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque,
};

/// `struct dentry`: a name in the tree of a mounted filesystem.
///
/// # Invariants
///
/// The dentry is counted, and while a `Dentry<F>` is borrowed its count is not
/// zero. With `F` other than [`Any`], it belongs to a filesystem of type `F`.
#[repr(transparent)]
pub(crate) struct Dentry<F = Any>(Opaque<b::dentry>, PhantomData<fn() -> F>);

// SAFETY: a dentry may be used and released from any task.
unsafe impl<F> Send for Dentry<F> {}
// SAFETY: what can be done through a shared reference does its own locking in C.
unsafe impl<F> Sync for Dentry<F> {}

// SAFETY: `dget` and `dput` count.
unsafe impl<F> AlwaysRefCounted for Dentry<F> {
    fn inc_ref(&self) {
        // SAFETY: the count is not zero (type invariant), so `dget` is allowed.
        unsafe { b::rovl_dget(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: the caller gives up a count of its own.
        unsafe { b::dput(obj.as_ptr().cast()) };
    }
}

impl<F> Dentry<F> {
    /// Borrows a dentry that C code handed over.
    ///
    /// # Safety
    ///
    /// `ptr` is a dentry whose count stays above zero for `'a`, and which
    /// belongs to a filesystem of type `F` unless that is [`Any`].
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut b::dentry) -> &'a Self {
        // SAFETY: per the contract; `Dentry` is transparent.
        unsafe { &*ptr.cast() }
    }

    /// Takes over a count that a C function returned, or its error.
    ///
    /// # Safety
    ///
    /// `ptr` is an error pointer, or a dentry of `F` with a count for the caller.
    pub(crate) unsafe fn from_counted(ptr: *mut b::dentry) -> Result<ARef<Self>> {
        let ptr = NonNull::new(from_err_ptr(ptr)?).ok_or(ENOENT)?;
        // SAFETY: not null and, per the contract, counted for us.
        Ok(unsafe { ARef::from_raw(ptr.cast()) })
    }

    pub(crate) fn as_ptr(&self) -> *mut b::dentry {
        self.0.get()
    }
}

impl<F: FileSystem> Deref for Dentry<F> {
    type Target = Dentry;

    fn deref(&self) -> &Dentry {
        // SAFETY: same layout, and `Any` asks for less.
        unsafe { Dentry::from_raw(self.as_ptr()) }
    }
}

impl<F: FileSystem> Dentry<F> {
    /// The inode of a positive dentry; see [`Dentry::inode`].
    pub(crate) fn node(&self) -> Result<&Inode<F>> {
        let inode = self.inode().ok_or(ENOENT)?;
        // SAFETY: the inode of a dentry belongs to the same filesystem.
        Ok(unsafe { Inode::from_raw(inode.as_ptr()) })
    }

    /// `d_sb`.
    pub(crate) fn sb(&self) -> &SuperBlock<F> {
        // SAFETY: `d_sb` never changes and outlives the dentry; the type
        // invariant says whose it is.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).d_sb) }
    }

    /// `dget_parent`: the parent as it is now.
    pub(crate) fn parent(&self) -> ARef<Dentry<F>> {
        // SAFETY: the dentry is valid; `dget_parent` returns a counted dentry
        // of the same filesystem, never null.
        unsafe { ARef::from_raw(NonNull::new_unchecked(b::dget_parent(self.as_ptr())).cast()) }
    }

    /// `d_lookup`: the dentry of a name in this directory, if the VFS has one. The
    /// filesystem is not asked.
    pub(crate) fn cached_child(&self, name: &[u8]) -> Option<ARef<Dentry<F>>> {
        let mut q = qstr(name);
        let len = u32::try_from(name.len()).ok()?;
        // SAFETY: the name has that many bytes; the parent is a number here.
        let hash = unsafe { b::full_name_hash(self.as_ptr().cast(), name.as_ptr().cast(), len) };
        q.__bindgen_anon_1.__bindgen_anon_1.hash = hash;
        // SAFETY: the dentry is valid, the name lives for the call.
        let child = unsafe { b::d_lookup(self.as_ptr(), &q) };
        // SAFETY: counted for us, of the filesystem of its parent.
        NonNull::new(child).map(|child| unsafe { ARef::from_raw(child.cast()) })
    }
}

impl Dentry {
    /// `d_inode` of a positive dentry.
    ///
    /// A dentry turns negative only when the one who unlinks it holds its last
    /// reference (`d_delete`). Whoever borrows one here has it from a reference that
    /// somebody else holds, so it stays; or from a guard of its name, by which it can be
    /// unlinked, but not while it is borrowed
    /// ([`LockedName::remove`](super::lock::LockedName::remove)).
    pub(crate) fn inode(&self) -> Option<&Inode> {
        // SAFETY: the dentry is valid; an aligned word that C reads the same way.
        let inode = unsafe { (&raw const (*self.as_ptr()).d_inode).read_volatile() };
        if inode.is_null() {
            return None;
        }
        // SAFETY: not null, and pinned by the dentry as said above.
        Some(unsafe { Inode::from_raw(inode) })
    }

    /// The inode, or `ENOENT` for a negative dentry.
    pub(crate) fn positive(&self) -> Result<&Inode> {
        self.inode().ok_or(ENOENT)
    }

    /// That the dentry is that of a directory which can be looked up in: it is positive,
    /// and its inode has `->lookup`. It stays so while it is borrowed; see
    /// [`Dentry::inode`].
    ///
    /// # Errors
    ///
    /// `ENOENT` for a negative dentry, `ENOTDIR`.
    pub(super) fn check_directory(&self) -> Result {
        match self.can_lookup() {
            true => Ok(()),
            false => self.positive().and(Err(ENOTDIR)),
        }
    }

    /// `d_is_negative`.
    pub(crate) fn is_negative(&self) -> bool {
        // SAFETY: the dentry is valid.
        unsafe { b::rovl_d_is_negative(self.as_ptr()) }
    }

    /// `d_unhashed`: the name is gone from the tree, or not yet in it.
    pub(crate) fn is_unhashed(&self) -> bool {
        // SAFETY: the dentry is valid.
        unsafe { b::rovl_d_unhashed(self.as_ptr()) }
    }

    /// `d_drop`: the VFS looks for the name again when it needs it.
    pub(crate) fn forget(&self) {
        // SAFETY: the dentry is valid; who uses it goes on with it.
        unsafe { b::d_drop(self.as_ptr()) };
    }

    /// `d_name.hash`: the same for the same name of the same directory.
    pub(crate) fn name_hash(&self) -> u32 {
        // SAFETY: the dentry is valid.
        unsafe { b::rovl_d_name_hash(self.as_ptr()) }
    }

    /// Whether both are, or were until they were removed, the same name of the same
    /// directory. Does not sleep.
    pub(crate) fn is_same_name(&self, other: &Dentry) -> bool {
        // SAFETY: both are valid.
        self.is_same(other) || unsafe { b::rovl_d_same_name(self.as_ptr(), other.as_ptr()) }
    }

    /// `d_can_lookup`: a directory that can be looked up in.
    pub(crate) fn can_lookup(&self) -> bool {
        // SAFETY: the dentry is valid.
        unsafe { b::rovl_d_can_lookup(self.as_ptr()) }
    }

    /// `IS_ROOT`.
    pub(crate) fn is_root(&self) -> bool {
        // SAFETY: the dentry is valid; `d_parent` may change but is never null
        // and only compared.
        unsafe { (*self.as_ptr()).d_parent == self.as_ptr() }
    }

    /// The name as it is now. Whoever needs it to stay must hold the parent's
    /// `i_rwsem`, or look again once it does.
    pub(crate) fn name(&self) -> Name {
        let mut name = Name(pin_init::zeroed());
        // SAFETY: the dentry is valid, and the function fills the snapshot in.
        unsafe { b::take_dentry_name_snapshot(&mut name.0, self.as_ptr()) };
        // SAFETY: only the address is taken.
        let within = unsafe { name.0.inline_name.string.as_ptr() };
        if name.0.name.name == within {
            name.0.name.name = core::ptr::null();
        }
        name
    }

    /// The name, where it stands.
    ///
    /// # Safety
    ///
    /// The name does not change for as long as it is borrowed: the dentry is in
    /// lookup, or its parent is locked.
    pub(super) unsafe fn stable_name(&self) -> &[u8] {
        // SAFETY: the dentry is valid, and the name stays per the contract.
        let name = unsafe { (*self.as_ptr()).__bindgen_anon_1.d_name };
        // SAFETY: the union's other arm has the same layout, both are plain data.
        let len = unsafe { name.__bindgen_anon_1.__bindgen_anon_1.len } as usize;
        // SAFETY: a name of that length, which stays.
        unsafe { core::slice::from_raw_parts(name.name, len) }
    }

    /// `is_subdir`: whether this dentry is `ancestor` or below it.
    pub(crate) fn is_subdir_of(&self, ancestor: &Dentry) -> bool {
        // SAFETY: both are valid.
        unsafe { b::is_subdir(self.as_ptr(), ancestor.as_ptr()) }
    }

    /// Whether `check` holds for a directory above this one, as the tree is
    /// now; this one is not asked.
    pub(crate) fn any_ancestor(&self, check: impl Fn(&Dentry) -> bool) -> bool {
        let mut at: ARef<Dentry> = self.into();
        while !at.is_root() {
            // SAFETY: the dentry is valid.
            let parent = unsafe { b::dget_parent(at.as_ptr()) };
            let Some(parent) = NonNull::new(parent) else {
                break;
            };
            // SAFETY: counted for us.
            at = unsafe { ARef::from_raw(parent.cast()) };
            if check(&at) {
                return true;
            }
        }
        false
    }

    /// `d_flags`, for bits that do not change while the dentry is in use, or of which an old
    /// value is as good.
    pub(super) fn flags(&self) -> u32 {
        // SAFETY: the dentry is valid; C reads the word without a lock too.
        unsafe { (&raw const (*self.as_ptr()).d_flags).read_volatile() }
    }

    /// Whether something may be mounted here by looking (`DCACHE_MANAGE_TRANSIT`,
    /// `DCACHE_NEED_AUTOMOUNT`).
    pub(crate) fn is_automount(&self) -> bool {
        self.flags() & (b::DCACHE_NEED_AUTOMOUNT | b::DCACHE_MANAGE_TRANSIT) != 0
    }

    /// `d_mountpoint`: whether something is mounted here, in whatever namespace.
    pub(crate) fn is_mountpoint(&self) -> bool {
        self.flags() & b::DCACHE_MOUNTED != 0
    }

    /// Whether the filesystem compares names in its own way (`->d_hash`,
    /// `->d_compare`).
    pub(crate) fn has_own_names(&self) -> bool {
        self.flags() & (b::DCACHE_OP_HASH | b::DCACHE_OP_COMPARE) != 0
    }

    /// Whether the filesystem must be asked if a name still holds
    /// (`->d_revalidate`, `->d_weak_revalidate`).
    pub(crate) fn needs_revalidation(&self) -> bool {
        self.flags() & (b::DCACHE_OP_REVALIDATE | b::DCACHE_OP_WEAK_REVALIDATE) != 0
    }

    /// Whether in this directory names may come that the VFS does not hear of: its filesystem
    /// must be asked for names, or they are encrypted, so that the key decides what is there.
    ///
    /// Where nothing but keys is asked for (`fscrypt_d_revalidate`), as by any ext4, the
    /// root has the flag of [`Dentry::needs_revalidation`] whether there is a key to it or not.
    pub(crate) fn has_names_that_come(&self) -> bool {
        // SAFETY: the dentry is valid, and `d_op` was set when it was made.
        let keys_only = || unsafe { b::rovl_d_revalidates_keys_only(self.as_ptr()) };
        self.inode().is_some_and(Inode::is_encrypted) || (self.needs_revalidation() && !keys_only())
    }

    /// Whether it stands for an object of another filesystem (`->d_real`).
    pub(crate) fn has_real(&self) -> bool {
        self.flags() & b::DCACHE_OP_REAL != 0
    }

    pub(crate) fn is_same(&self, other: &Dentry) -> bool {
        core::ptr::eq(self.as_ptr(), other.as_ptr())
    }

    /// `d_sb`.
    pub(crate) fn super_block(&self) -> &SuperBlock {
        // SAFETY: `d_sb` never changes and outlives the dentry.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).d_sb) }
    }
}

/// Equality is identity.
impl<F> PartialEq for Dentry<F> {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self.as_ptr(), other.as_ptr())
    }
}

/// The longest name of one component, in bytes (`NAME_MAX`).
pub(crate) const NAME_MAX: usize = 255;

/// The name that a dentry had (`struct name_snapshot`): a short one is copied, a long one
/// counted.
///
/// # Invariants
///
/// What `take_dentry_name_snapshot` filled in, but for a short name, which is within and
/// moves with it: that has a null pointer.
pub(crate) struct Name(b::name_snapshot);

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the union's other arm has the same layout, both are plain data.
        let len = unsafe { self.0.name.__bindgen_anon_1.__bindgen_anon_1.len } as usize;
        let mut bytes = self.0.name.name;
        if bytes.is_null() {
            // SAFETY: a short name is in this arm, of bytes (type invariant).
            bytes = unsafe { self.0.inline_name.string.as_ptr() };
        }
        // SAFETY: the name has `len` bytes and does not change: it is ours or counted
        // for us (type invariant).
        unsafe { core::slice::from_raw_parts(bytes, len) }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.0.name.name.is_null() {
            // SAFETY: counted by `take_dentry_name_snapshot` (type invariant).
            unsafe { b::release_dentry_name_snapshot(&mut self.0) };
        }
    }
}

/// `QSTR_LEN`: a name as the lookup functions take it.
pub(super) fn qstr(name: &[u8]) -> b::qstr {
    let mut q: b::qstr = pin_init::zeroed();
    q.name = name.as_ptr();
    // At most `PATH_MAX` by what made the slices; a longer one is refused by
    // the lookup as `ENAMETOOLONG` would be.
    q.__bindgen_anon_1.__bindgen_anon_1.len = u32::try_from(name.len()).unwrap_or(u32::MAX);
    q
}

/// `full_name_hash`, without a salt: names that are the same have the same.
pub(crate) fn hash(name: &[u8]) -> u32 {
    let len = u32::try_from(name.len()).unwrap_or(u32::MAX);
    // SAFETY: the name has that many bytes.
    unsafe { b::full_name_hash(core::ptr::null(), name.as_ptr().cast(), len) }
}
