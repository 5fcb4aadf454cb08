// SPDX-License-Identifier: GPL-2.0

//! Inodes: those of other filesystems, and those of one written on this module.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings as b,
    idmap::Idmap,
    sget::Info,
    super_block::{self, FileSystemType},
    Any, FileSystem, Mount, SuperBlock,
};
use core::{marker::PhantomData, mem::MaybeUninit, ops::Deref, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::{
        aref::{ARef, AlwaysRefCounted},
        atomic::{Acquire, Atomic, Full, Relaxed},
    },
    types::Opaque,
};

/// `struct inode`.
///
/// # Invariants
///
/// The inode is counted, or pinned by a counted dentry, for as long as it is
/// borrowed. With `F` other than [`Any`] it belongs to a filesystem of type `F`,
/// lies in a [`Slot`] and its data is initialised.
#[repr(transparent)]
pub(crate) struct Inode<F = Any>(Opaque<b::inode>, PhantomData<fn() -> F>);

// SAFETY: an inode may be used and released from any task.
unsafe impl<F> Send for Inode<F> {}
// SAFETY: what can be done through a shared reference is atomic, or done in C under
// a lock that C takes: `i_lock` for the link count, and for the attributes and times
// taken over from below. Who reads those without, as C does, may see some of before and
// some of after.
unsafe impl<F> Sync for Inode<F> {}

// SAFETY: `ihold` and `iput` count.
unsafe impl<F> AlwaysRefCounted for Inode<F> {
    fn inc_ref(&self) {
        // SAFETY: the count is not zero (type invariant).
        unsafe { b::ihold(self.as_ptr()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: the caller gives up a count of its own.
        unsafe { b::iput(obj.as_ptr().cast()) };
    }
}

/// The type bits of `i_mode`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Symlink,
    /// A device, fifo or socket.
    Special,
}

impl Kind {
    fn of(mode: u16) -> Self {
        match u32::from(mode) & b::S_IFMT {
            b::S_IFREG => Kind::Regular,
            b::S_IFDIR => Kind::Directory,
            b::S_IFLNK => Kind::Symlink,
            _ => Kind::Special,
        }
    }
}

/// `S_ISDIR`.
pub(crate) fn is_directory(mode: u16) -> bool {
    u32::from(mode) & b::S_IFMT == b::S_IFDIR
}

/// `S_ISGID`, of a mode.
pub(crate) const SET_GID: u16 = b::S_ISGID as u16;

/// `S_ISCHR`.
pub(crate) fn is_char_device(mode: u16) -> bool {
    u32::from(mode) & b::S_IFMT == b::S_IFCHR
}

impl<F> Inode<F> {
    /// Borrows an inode that C code handed over.
    ///
    /// # Safety
    ///
    /// `ptr` is a live inode, pinned for `'a`, and of filesystem `F` with its
    /// data initialised unless `F` is [`Any`].
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut b::inode) -> &'a Self {
        // SAFETY: per the contract; `Inode` is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut b::inode {
        self.0.get()
    }
}

impl Inode {
    /// `i_mode`.
    pub(crate) fn mode(&self) -> u16 {
        // SAFETY: the inode is valid; a racing `chmod` changes permission bits
        // of an aligned 16-bit value, which C reads the same way.
        unsafe { (&raw const (*self.as_ptr()).i_mode).read_volatile() }
    }

    pub(crate) fn kind(&self) -> Kind {
        Kind::of(self.mode())
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == Kind::Directory
    }

    pub(crate) fn is_regular(&self) -> bool {
        self.kind() == Kind::Regular
    }

    /// `i_ino`.
    pub(crate) fn ino(&self) -> u64 {
        // SAFETY: the inode is valid and `i_ino` does not change once it is live.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// `i_generation`.
    pub(crate) fn generation(&self) -> u32 {
        // SAFETY: the inode is valid; filesystems set it before it is live.
        unsafe { (*self.as_ptr()).i_generation }
    }

    /// `i_rdev`, the device that a device node names.
    pub(crate) fn rdev(&self) -> u32 {
        // SAFETY: the inode is valid.
        unsafe { b::rovl_inode_rdev(self.as_ptr()) }
    }

    /// `i_nlink`.
    pub(crate) fn nlink(&self) -> u32 {
        // SAFETY: the inode is valid; an aligned word that C reads the same way.
        unsafe { (&raw const (*self.as_ptr()).__bindgen_anon_1.i_nlink).read_volatile() }
    }

    /// `i_size_read`, in bytes.
    pub(crate) fn size(&self) -> i64 {
        // SAFETY: the inode is valid.
        unsafe { b::rovl_i_size_read(self.as_ptr()) }
    }

    /// `i_flags` (`S_IMMUTABLE`, `S_APPEND`, ...).
    pub(crate) fn flags(&self) -> u32 {
        // SAFETY: the inode is valid; C reads the word without a lock too.
        unsafe { (&raw const (*self.as_ptr()).i_flags).read_volatile() }
    }

    /// `i_uid` and `i_gid`, as the filesystem has them.
    pub(crate) fn owner(&self) -> (b::kuid_t, b::kgid_t) {
        let inode = self.as_ptr();
        // SAFETY: the inode is valid; aligned words that C reads the same way.
        let uid = unsafe { (&raw const (*inode).i_uid).read_volatile() };
        // SAFETY: as above.
        let gid = unsafe { (&raw const (*inode).i_gid).read_volatile() };
        (uid, gid)
    }

    /// `inode_is_open_for_write`: a file or a mapping may write to it.
    pub(crate) fn is_open_for_write(&self) -> bool {
        // SAFETY: the inode is valid; the counter is read in one go.
        unsafe { b::rovl_inode_is_open_for_write(self.as_ptr()) }
    }

    /// `I_LINKABLE`: a file without a name (`O_TMPFILE`) that may get one.
    pub(crate) fn is_linkable(&self) -> bool {
        // SAFETY: the inode is live.
        unsafe { b::rovl_inode_test_state(self.as_ptr(), b::I_LINKABLE) }
    }

    /// Whether this is a whiteout: a character device 0/0.
    pub(crate) fn is_whiteout(&self) -> bool {
        u32::from(self.mode()) & b::S_IFMT == b::S_IFCHR && self.rdev() == 0
    }

    /// `i_sb`.
    pub(crate) fn super_block(&self) -> &SuperBlock {
        // SAFETY: `i_sb` never changes and outlives the inode.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    pub(crate) fn is_same(&self, other: &Inode) -> bool {
        core::ptr::eq(self.as_ptr(), other.as_ptr())
    }

    /// Whether the directory's filesystem offers `->tmpfile`.
    pub(crate) fn has_tmpfile(&self) -> bool {
        // SAFETY: the inode is valid, and its operations never change.
        unsafe { b::rovl_sb_can_tmpfile(self.as_ptr()) }
    }

    /// `IS_ENCRYPTED`: its names and data need a key.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.flags() & b::S_ENCRYPTED != 0
    }

    /// `IS_CASEFOLDED`: a directory that ignores the case of names.
    pub(crate) fn is_casefolded(&self) -> bool {
        self.flags() & b::S_CASEFOLD != 0
    }
}

/// By what an inode is found: two numbers, both of which must be the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) u64, pub(crate) u64);

impl Key {
    /// Where to look for it.
    fn hash(self) -> u64 {
        self.0.wrapping_add(self.1 << 8)
    }
}

/// What one inode of `F` is allocated as.
///
/// # Invariants
///
/// `live` is set once `data` is initialised, and only then. `backing` and `idmaps`
/// are counted for the slot: an inode until `destroy`, after which its memory stays
/// for a grace period, and the mappings until `free`.
#[repr(C)]
pub(super) struct Slot<F: FileSystem> {
    vfs: Opaque<b::inode>,
    /// See [`Inode::set_backing`].
    backing: Atomic<*mut b::inode>,
    /// See [`NewInode::set_idmaps`].
    idmaps: Idmaps,
    /// The [`Key`] by which [`SuperBlock::find_inode`] finds it.
    key: (Atomic<u64>, Atomic<u64>),
    live: bool,
    data: MaybeUninit<F::Inode>,
}

impl<F: FileSystem> Slot<F> {
    /// # Safety
    ///
    /// `inode` was allocated by [`Slot::alloc`] for the same `F`.
    unsafe fn of(inode: *mut b::inode) -> *mut Self {
        // The inode is the first field.
        inode.cast()
    }

    /// `->alloc_inode`.
    ///
    /// # Safety
    ///
    /// Only for the VFS to call, on a superblock of `F`.
    pub(super) unsafe extern "C" fn alloc(sb: *mut b::super_block) -> *mut b::inode {
        // SAFETY: the superblock is of `F`, so its type is a `FileSystemType<F>`.
        let cache = unsafe { FileSystemType::<F>::inode_cache(sb) };
        // SAFETY: the cache was made by `create_cache` and lives as long as the
        // type is registered.
        let slot = unsafe { b::rovl_alloc_inode_sb(sb, cache) }.cast::<Self>();
        if slot.is_null() {
            return core::ptr::null_mut();
        }
        // SAFETY: freshly allocated; `vfs` was set up by the constructor.
        unsafe { (&raw mut (*slot).backing).write(Atomic::new(core::ptr::null_mut())) };
        // SAFETY: as above.
        unsafe { (&raw mut (*slot).idmaps).write(Idmaps::default()) };
        // SAFETY: as above.
        unsafe { (&raw mut (*slot).key).write((Atomic::new(0), Atomic::new(0))) };
        // SAFETY: as above.
        unsafe { (&raw mut (*slot).live).write(false) };
        slot.cast()
    }

    /// What stands behind the inode now.
    ///
    /// # Safety
    ///
    /// `inode` lies in a slot of `F` which is not freed for `'a`, and whose `idmaps` do
    /// not change any more. What is returned is used under an RCU read lock that was
    /// taken before, or only its mapping is.
    unsafe fn backing_of<'a>(inode: *mut b::inode) -> Option<Backing<'a>> {
        // SAFETY: per the contract.
        let slot = unsafe { Self::of(inode) };
        // SAFETY: the field is atomic.
        let tagged = unsafe { &(*slot).backing }.load(Acquire);
        let inode = tagged.map_addr(|a| a & !1);
        let writable = tagged.addr() & 1 != 0;
        // SAFETY: they do not change any more, per the contract.
        let idmaps = unsafe { &(*slot).idmaps };
        let idmap = match writable {
            true => idmaps.writable.0,
            false => idmaps.read_only.0,
        };
        // INVARIANT: per the contract; the slot holds the mapping until it is freed.
        (!inode.is_null()).then_some(Backing {
            inode,
            idmap,
            writable,
            _rcu: PhantomData,
        })
    }

    /// `->destroy_inode`: the last user is gone, and it may sleep. Drops what
    /// the data owns; the memory stays for lockless readers until `free`.
    ///
    /// # Safety
    ///
    /// Only for the VFS to call.
    pub(super) unsafe extern "C" fn destroy(inode: *mut b::inode) {
        // SAFETY: allocated by `alloc`.
        let slot = unsafe { Self::of(inode) };
        // SAFETY: the field is atomic.
        let backing = unsafe { &(*slot).backing }.xchg(core::ptr::null_mut(), Full);
        // SAFETY: counted for the slot, which has it no more.
        drop(unsafe { tagged_inode(backing) });
        // SAFETY: nobody else uses the inode any more; lockless path walks only
        // look at `backing` and `idmaps`.
        if unsafe { (*slot).live } {
            // SAFETY: as above.
            unsafe { (*slot).live = false };
            // SAFETY: `live` said that it is initialised, and this runs once.
            unsafe { (*slot).data.assume_init_drop() };
        }
    }

    /// `->free_inode`, after a grace period.
    ///
    /// # Safety
    ///
    /// Only for the VFS to call.
    pub(super) unsafe extern "C" fn free(inode: *mut b::inode) {
        // SAFETY: allocated by `alloc`.
        let slot = unsafe { Self::of(inode) };
        // SAFETY: no lockless path walk looks at the slot any more.
        drop(unsafe { core::mem::take(&mut (*slot).idmaps) });
        // SAFETY: `alloc` took it from a cache, which `kmem_cache_free` finds;
        // the cache is destroyed after an `rcu_barrier` only.
        unsafe { b::kfree(inode.cast()) };
    }

    /// Runs once for each object of the slab.
    ///
    /// # Safety
    ///
    /// Only for the slab to call.
    unsafe extern "C" fn construct(obj: *mut core::ffi::c_void) {
        // SAFETY: the slab passes an object of the size of `Slot`.
        unsafe { b::inode_init_once(obj.cast()) };
    }

    /// Makes the slab cache for the inodes of `F`.
    pub(super) fn create_cache(name: &'static CStr) -> Result<NonNull<b::kmem_cache>> {
        // SAFETY: the name is static, the constructor fits the size.
        let cache = unsafe {
            b::rovl_kmem_cache_create(
                name.as_char_ptr(),
                core::mem::size_of::<Self>() as u32,
                Some(Self::construct),
            )
        };
        NonNull::new(cache).ok_or(ENOMEM)
    }
}

impl<F: FileSystem> Deref for Inode<F> {
    type Target = Inode;

    fn deref(&self) -> &Inode {
        // SAFETY: same layout, and `Any` asks for less.
        unsafe { Inode::from_raw(self.as_ptr()) }
    }
}

/// An inode in a path walk without references (`LOOKUP_RCU`), which holds
/// `rcu_read_lock` for longer than `'rcu`: its last reference may be gone, and its
/// data with it, so it is no [`Inode`], and none can be had from it.
///
/// # Invariants
///
/// It lies in a [`Slot`] of `F` that has been shown to others and is not freed
/// for `'rcu`, and neither is its superblock or what that keeps. It stays in the task
/// that walks.
pub(crate) struct RcuInode<'rcu, F>(*mut b::inode, PhantomData<&'rcu F>);

impl<F> Clone for RcuInode<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for RcuInode<'_, F> {}

impl<'rcu, F: FileSystem> RcuInode<'rcu, F> {
    /// # Safety
    ///
    /// Called by the entry point of a VFS operation in such a walk, which the VFS
    /// does not end in `'rcu`, with the inode it has come to, of `F`.
    pub(super) unsafe fn from_raw(inode: *mut b::inode) -> Self {
        // INVARIANT: the VFS has found the inode in a dentry. `->free_inode` runs a
        // grace period after the last reference has gone, and `put_super` waits for
        // one before it drops what the superblock keeps.
        Self(inode, PhantomData)
    }

    pub(super) fn as_ptr(self) -> *mut b::inode {
        self.0
    }

    /// The type, which does not change.
    pub(crate) fn kind(self) -> Kind {
        // SAFETY: the memory stays (type invariant); an aligned 16-bit value, which C
        // reads the same way.
        Kind::of(unsafe { (&raw const (*self.0).i_mode).read_volatile() })
    }

    /// What the filesystem keeps for its superblock.
    pub(crate) fn super_data(self) -> &'rcu F::Super {
        // SAFETY: the memory stays, and `i_sb` does not change.
        let sb = unsafe { (*self.0).i_sb };
        // SAFETY: a superblock whose inodes are seen has been filled, and what it keeps
        // stays (type invariant).
        unsafe { Info::<F>::data(sb) }
    }

    /// The inode on which it stands; see [`Inode::set_backing`]. Its memory, too, is
    /// freed after a grace period only, so it can be looked at even while its last
    /// reference goes away. None if that of this inode has gone.
    pub(crate) fn backing(self) -> Option<Backing<'rcu>> {
        // SAFETY: in a slot that stays for `'rcu` (type invariant). A backing inode
        // that is there was counted when `'rcu` had begun.
        unsafe { Slot::<F>::backing_of(self.0) }
    }
}

/// The inode on which another one stands, as a path walk without references
/// may see it; see [`RcuInode::backing`].
///
/// # Invariants
///
/// Its memory, and the mapping, stay for `'rcu`, in the task that walks.
#[derive(Clone, Copy)]
pub(crate) struct Backing<'rcu> {
    inode: *mut b::inode,
    idmap: *mut b::mnt_idmap,
    writable: bool,
    _rcu: PhantomData<&'rcu ()>,
}

/// The reference to an inode of which the lowest bit of the address may be set.
///
/// # Safety
///
/// `tagged` is such a pointer or null, counted for the caller, who gives it up.
unsafe fn tagged_inode(tagged: *mut b::inode) -> Option<ARef<Inode>> {
    let inode = NonNull::new(tagged.map_addr(|a| a & !1))?;
    // SAFETY: per the contract.
    Some(unsafe { ARef::from_raw(inode.cast()) })
}

/// Through which mounts backing inodes are seen.
#[derive(Default)]
struct Idmaps {
    read_only: CountedIdmap,
    writable: CountedIdmap,
}

/// A mapping that is counted (`mnt_idmap_get`); null for a mount that maps no ids.
struct CountedIdmap(*mut b::mnt_idmap);

impl CountedIdmap {
    fn of(mnt: Option<&Mount>) -> Self {
        let Some(mnt) = mnt.filter(|mnt| mnt.is_idmapped()) else {
            return Self::default();
        };
        // SAFETY: the mapping lives as long as the mount.
        Self(unsafe { b::mnt_idmap_get(mnt.id_mapping().as_ptr()) })
    }
}

impl Default for CountedIdmap {
    fn default() -> Self {
        Self(core::ptr::null_mut())
    }
}

impl Drop for CountedIdmap {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: counted by `of`. May be called in atomic context.
            unsafe { b::mnt_idmap_put(self.0) };
        }
    }
}

impl Backing<'_> {
    /// Whether the backing inode may be written to.
    pub(crate) fn is_writable(self) -> bool {
        self.writable
    }

    pub(super) fn as_ptr(self) -> *mut b::inode {
        self.inode
    }

    /// The mapping of the mount through which the backing inode is seen.
    pub(super) fn idmap(&self) -> Idmap<'_> {
        if self.idmap.is_null() {
            return Idmap::nop();
        }
        // SAFETY: stays as long as this does (type invariant).
        unsafe { Idmap::from_raw(self.idmap) }
    }
}

impl<F: FileSystem> Inode<F> {
    /// What the filesystem keeps for this inode.
    pub(crate) fn data(&self) -> &F::Inode {
        // SAFETY: it lies in a slot whose data is initialised (type invariant),
        // and is dropped when nobody can borrow the inode any more.
        unsafe { (*Slot::<F>::of(self.as_ptr())).data.assume_init_ref() }
    }

    fn slot_backing(&self) -> &Atomic<*mut b::inode> {
        // SAFETY: it lies in a slot (type invariant); the field is atomic.
        unsafe { &(*Slot::<F>::of(self.as_ptr())).backing }
    }

    /// Publishes the inode of another filesystem on which this one stands, for
    /// [`RcuInode::backing`], and keeps it.
    pub(crate) fn set_backing(&self, inode: ARef<Inode>, writable: bool) {
        let inode: *mut b::inode = ARef::into_raw(inode).as_ptr().cast();
        let tagged = inode.map_addr(|a| a | usize::from(writable));
        let before = self.slot_backing().xchg(tagged, Full);
        // SAFETY: counted for the slot, which has it no more. Who walks a path
        // meanwhile may look at its memory for a grace period.
        drop(unsafe { tagged_inode(before) });
    }

    /// `i_sb`.
    pub(crate) fn sb(&self) -> &SuperBlock<F> {
        // SAFETY: `i_sb` never changes, outlives the inode, and is of `F`.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// Where the inode is in the inode hash, for as long as it is.
    pub(crate) fn key(&self) -> Key {
        // SAFETY: it lies in a slot (type invariant); the fields are atomic.
        let key = unsafe { &(*Slot::<F>::of(self.as_ptr())).key };
        Key(key.0.load(Relaxed), key.1.load(Relaxed))
    }

    /// `set_nlink`.
    pub(crate) fn set_nlink(&self, nlink: u32) {
        // SAFETY: the inode is live. The count changes under `i_lock` only.
        unsafe { b::rovl_set_nlink(self.as_ptr(), nlink) };
    }

    /// `drop_nlink`, unless it is zero already.
    pub(crate) fn drop_nlink(&self) {
        // SAFETY: as for `set_nlink`.
        unsafe { b::rovl_drop_nlink(self.as_ptr()) };
    }

    /// Takes permissions, owner and times over from the inode below, and the size of a
    /// regular file (`fsstack_copy_*`): attributes that the VFS reads from this
    /// inode without asking the filesystem. Not the type, which stays what the inode's
    /// operations are for, and not the flags: see
    /// [`Inode::set_flags_from`]. `from` is the backing inode: the owner is the
    /// one seen through its mount.
    pub(crate) fn copy_attributes(&self, from: &Inode) {
        // SAFETY: it lies in a slot (type invariant). Only the mapping is used, which
        // stays as long as the slot.
        let backing = unsafe { Slot::<F>::backing_of(self.as_ptr()) };
        let idmap = backing.as_ref().map_or(Idmap::nop(), Backing::idmap);
        let (to, from) = (self.as_ptr(), from.as_ptr());
        // SAFETY: both inodes are live; the values are words that may be read
        // while they change, as every `stat` does.
        unsafe { b::rovl_copy_attributes(to, from, idmap.as_ptr()) };
    }
}

/// An inode that nobody else uses yet: who finds it in the inode hash waits until it
/// is published or dropped.
///
/// # Invariants
///
/// It is counted for us, in the state `I_NEW` if it is hashed, of `F`, and its data is
/// initialised. There is no other reference that is used.
pub(crate) struct NewInode<F: FileSystem>(NonNull<b::inode>, PhantomData<F>);

impl<F: FileSystem> Drop for NewInode<F> {
    fn drop(&mut self) {
        let inode = self.0.as_ptr();
        // SAFETY: the inode is live.
        if unsafe { b::rovl_inode_is_new(inode) } {
            // Who waits for it finds it unhashed, and looks again.
            // SAFETY: new, and ours alone; takes over the reference.
            unsafe { b::iget_failed(inode) };
        } else {
            // SAFETY: never hashed; takes over the reference.
            unsafe { b::iput(inode) };
        }
    }
}

/// What [`SuperBlock::insert_inode`] came to.
pub(crate) enum Found<F: FileSystem> {
    /// One that has the key.
    Cached(ARef<Inode<F>>),
    /// A new one, to be filled in.
    New(NewInode<F>),
}

/// # Safety
///
/// Only for the inode hash to call, with a key.
unsafe extern "C" fn test<F: FileSystem>(
    inode: *mut b::inode,
    wanted: *mut core::ffi::c_void,
) -> core::ffi::c_int {
    // SAFETY: an inode of this superblock, whose type is `F`.
    let slot = unsafe { Slot::<F>::of(inode) };
    // SAFETY: an inode that is hashed stays for a grace period, and this runs under
    // `rcu_read_lock`; the fields are atomic. The data may be gone.
    let key = unsafe { &(*slot).key };
    // SAFETY: the pointer that was passed in, by one who waits for us.
    let wanted = unsafe { *wanted.cast::<Key>() };
    (Key(key.0.load(Relaxed), key.1.load(Relaxed)) == wanted).into()
}

/// # Safety
///
/// `inode` was allocated by [`Slot::alloc`], its data is not initialised, and
/// nobody else uses it.
unsafe fn init_data<F: FileSystem>(inode: *mut b::inode, data: F::Inode) {
    // SAFETY: per the contract.
    let slot = unsafe { Slot::<F>::of(inode) };
    // SAFETY: per the contract nobody else uses it.
    unsafe { (*slot).data.write(data) };
    // SAFETY: as above; initialised right before.
    unsafe { (*slot).live = true };
}

impl<F: FileSystem> SuperBlock<F> {
    /// `ilookup5`: the inode with this key. Who has it from somewhere else than the
    /// object that he looks for has to see whether it is that object's.
    pub(crate) fn find_inode(&self, key: Key) -> Option<ARef<Inode<F>>> {
        let mut wanted = key;
        let wanted = (&raw mut wanted).cast();
        // SAFETY: the superblock is live, and the callback takes a key.
        let inode = unsafe { b::ilookup5(self.as_ptr(), key.hash(), Some(test::<F>), wanted) };
        // SAFETY: counted for us, of this superblock, and its data was set before it
        // was hashed.
        NonNull::new(inode).map(|inode| unsafe { ARef::from_raw(inode.cast()) })
    }

    /// `inode_insert5`: a new inode with this key, which it keeps; or the one that has
    /// it, if somebody else was faster.
    pub(crate) fn insert_inode(&self, key: Key, data: F::Inode) -> Result<Found<F>> {
        // SAFETY: the superblock is live.
        let new = NonNull::new(unsafe { b::new_inode(self.as_ptr()) }).ok_or(ENOMEM)?;
        // SAFETY: `new_inode` allocated it through `Slot::alloc` for us alone.
        unsafe { init_data::<F>(new.as_ptr(), data) };
        // SAFETY: as above, so in a slot; the fields are atomic.
        let slot_key = unsafe { &(*Slot::<F>::of(new.as_ptr())).key };
        slot_key.0.store(key.0, Relaxed);
        slot_key.1.store(key.1, Relaxed);
        // INVARIANT: counted for us, of this superblock, data initialised.
        let new = NewInode(new, PhantomData);
        let inode = new.0.as_ptr();
        let mut wanted = key;
        let wanted = (&raw mut wanted).cast();
        // SAFETY: the inode is ours alone and not hashed, the callback takes a key.
        let there = unsafe { b::inode_insert5(inode, key.hash(), Some(test::<F>), None, wanted) };
        if core::ptr::eq(there, inode) {
            return Ok(Found::New(new));
        }
        let there = NonNull::new(there).ok_or(ENOMEM)?;
        // SAFETY: counted for us, of this superblock, and its data was set before it
        // was hashed.
        Ok(Found::Cached(unsafe { ARef::from_raw(there.cast()) }))
    }
}

impl<F: super_block::Operations> NewInode<F> {
    /// Not for others: a reference to it could be taken and kept.
    fn inode(&self) -> &Inode<F> {
        // SAFETY: counted for us, of `F`, with its data (type invariant).
        unsafe { Inode::from_raw(self.0.as_ptr()) }
    }

    /// What the filesystem keeps for this inode.
    pub(crate) fn data(&self) -> &F::Inode {
        self.inode().data()
    }

    /// See [`Inode::set_backing`].
    pub(crate) fn set_backing(&mut self, inode: ARef<Inode>, writable: bool) {
        self.inode().set_backing(inode, writable);
    }

    /// See [`Inode::copy_attributes`].
    pub(crate) fn copy_attributes(&mut self, from: &Inode) {
        self.inode().copy_attributes(from);
    }

    /// See [`Inode::set_flags_from`].
    pub(crate) fn set_flags_from(&mut self, below: &Inode, protection: u32) {
        self.inode().set_flags_from(below, protection);
    }

    /// See [`Inode::set_nlink`].
    pub(crate) fn set_nlink(&mut self, nlink: u32) {
        self.inode().set_nlink(nlink);
    }

    /// Says through which mounts backing inodes are seen, one that is only read
    /// and one that may be written to, and keeps their mappings.
    pub(crate) fn set_idmaps(&mut self, read_only: Option<&Mount>, writable: Option<&Mount>) {
        let idmaps = Idmaps {
            read_only: CountedIdmap::of(read_only),
            writable: CountedIdmap::of(writable),
        };
        // SAFETY: it lies in a slot, and nobody else uses the inode yet (type
        // invariant).
        unsafe { (*Slot::<F>::of(self.0.as_ptr())).idmaps = idmaps };
    }

    /// Gives the inode its number and generation, its mode and the operations that go
    /// with the type in it, and shows it to others. `rdev` is the number of a device.
    pub(crate) fn publish(
        self,
        (ino, generation): (u64, u32),
        mode: u16,
        rdev: u32,
    ) -> ARef<Inode<F>> {
        let inode = self.0.as_ptr();
        // SAFETY: ours alone until it is unlocked below.
        unsafe { (*inode).i_ino = ino };
        // SAFETY: as above.
        unsafe { (*inode).i_generation = generation };
        // SAFETY: as above.
        unsafe { (*inode).i_mode = mode };
        // Who has an open file of a type knows by that what it keeps: nothing changes
        // the type of an inode after this.
        // As an inode is made: what cannot be opened.
        // SAFETY: as above.
        let no_open = unsafe { (*inode).__bindgen_anon_3.i_fop };
        let (i_op, i_fop) = match Kind::of(mode) {
            Kind::Directory => (
                super::dir_ops::operations::<F>(),
                super::readdir::operations::<F>(),
            ),
            Kind::Regular => (
                super::inode_ops::file_operations::<F>(),
                super::file_ops::operations::<F>(),
            ),
            Kind::Symlink => (super::inode_ops::symlink_operations::<F>(), no_open),
            Kind::Special => {
                // SAFETY: as above; sets `i_fop` by the type in `mode`.
                unsafe { b::init_special_inode(inode, mode, rdev) };
                // SAFETY: as above.
                let i_fop = unsafe { (*inode).__bindgen_anon_3.i_fop };
                (super::inode_ops::special_operations::<F>(), i_fop)
            }
        };
        // SAFETY: as above; the tables are static.
        unsafe { (*inode).i_op = i_op };
        // SAFETY: as above.
        unsafe { (*inode).__bindgen_anon_3.i_fop = i_fop };
        // SAFETY: ours alone.
        unsafe { super::acl::dont_cache(inode) };
        // SAFETY: ours alone, so its locks are not in use.
        unsafe { b::rovl_lockdep_annotate(inode) };
        // SAFETY: the inode is live.
        if unsafe { b::rovl_inode_is_new(inode) } {
            // SAFETY: it is new and locked by us.
            unsafe { b::unlock_new_inode(inode) };
        }
        let inode = self.0;
        core::mem::forget(self);
        // SAFETY: counted for us, which we are no more; of `F` with its data.
        unsafe { ARef::from_raw(inode.cast()) }
    }
}
