// SPDX-License-Identifier: GPL-2.0

//! Filesystem types and superblocks.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/fs/super_types.h`](srctree/include/linux/fs/super_types.h)

use super::{
    bindings as b, compat,
    dentry_ops::{self, DentryOperations, Found},
    dir_ops::DirOperations,
    file_ops::FileOperations,
    flags::FsFlags,
    fs_context::{self, MountOperations},
    inode::Slot,
    inode_ops::InodeOperations,
    readdir::ReaddirOperations,
    sget::Info,
    to_int, to_result, Any, Dentry, PrivateMount,
};
use core::{cell::UnsafeCell, marker::PhantomData, ops::Deref, ptr::NonNull};
use kernel::{
    ffi::c_int,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        aref::ARef,
        atomic::{Atomic, Full, Relaxed},
    },
    types::{NotThreadSafe, Opaque},
};

/// What a filesystem keeps, and where.
pub(crate) trait FileSystem: Sized + Send + Sync + 'static {
    /// `FS_USERNS_MOUNT`, `FS_ALLOW_IDMAP`, ...
    const FLAGS: FsFlags;
    /// Kept by a superblock (`s_fs_info`).
    type Super: Send + Sync;
    /// Kept by an inode, next to it in memory.
    type Inode: Send + Sync;
    /// Kept by an open directory (`private_data`).
    type Directory: Send + Sync;
}

/// Everything the VFS may ask of a filesystem.
pub(crate) trait Operations:
    SuperOperations
    + MountOperations
    + DirOperations
    + ReaddirOperations
    + DentryOperations
    + InodeOperations
    + FileOperations
{
}

impl<F> Operations for F where
    F: SuperOperations
        + MountOperations
        + DirOperations
        + ReaddirOperations
        + DentryOperations
        + InodeOperations
        + FileOperations
{
}

/// `struct super_operations`.
pub(crate) trait SuperOperations: FileSystem {
    /// `statfs(2)`: fills in what the filesystem knows; `f_type` is set already.
    /// No locks held.
    fn statfs(dentry: &Dentry<Self>, out: &mut StatFs) -> Result;

    /// The options in `/proc/self/mountinfo`, each with a leading comma. May be
    /// called while the superblock is being unmounted elsewhere.
    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result;

    /// What `/proc/self/mountstats` tells after the type, lines each of which
    /// begins with a newline and a tab. As for [`Self::show_options`].
    fn show_stats(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result;

    /// `sync(2)` and `syncfs(2)`. `s_umount` is held shared. First called with
    /// `wait` false to start, then with true.
    fn sync_fs(sb: &SuperBlock<Self>, wait: bool) -> Result;

    /// The mounts that the data of a superblock holds, which has been shut down: they go
    /// together, as each by itself would wait for a grace period.
    fn mounts(data: &Self::Super) -> impl Iterator<Item = &PrivateMount>;
}

/// `struct kstatfs`.
#[repr(transparent)]
pub(crate) struct StatFs(b::kstatfs);

/// `generate_random_uuid`.
pub(crate) fn random_uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    // SAFETY: sixteen bytes of ours to fill in.
    unsafe { b::generate_random_uuid(uuid.as_mut_ptr()) };
    uuid
}

impl StatFs {
    /// `vfs_statfs` of another filesystem, then `f_type` and the longest name
    /// as this filesystem has them.
    pub(crate) fn copy_from(
        &mut self,
        path: super::Path<'_>,
        magic: usize,
        namelen: i64,
    ) -> Result {
        path.inode()?;
        let path = path.as_c();
        // SAFETY: the path is valid and positive (checked), the buffer is ours; `kstatfs` is opaque in
        // `kernel::bindings`, where the function's argument type comes from.
        to_result(unsafe { b::vfs_statfs(&path, (&raw mut self.0).cast()) })?;
        self.0.f_type = magic as isize;
        self.0.f_namelen = self.0.f_namelen.max(namelen as isize);
        Ok(())
    }

    /// `uuid_to_fsid`: `f_fsid` of a filesystem with a UUID of its own.
    pub(crate) fn set_fsid_from(&mut self, uuid: &[u8; 16]) {
        // SAFETY: both are valid for the call, the buffer is ours; `kstatfs` is opaque in
        // `kernel::bindings`.
        unsafe { b::rovl_set_fsid((&raw mut self.0).cast(), uuid.as_ptr()) };
    }
}

impl StatFs {
    /// `vfs_statfs` of another filesystem.
    pub(crate) fn of(path: super::Path<'_>) -> Result<Self> {
        let mut out = Self(pin_init::zeroed());
        path.inode()?;
        let path = path.as_c();
        // SAFETY: as in `copy_from`.
        to_result(unsafe { b::vfs_statfs(&path, (&raw mut out.0).cast()) })?;
        Ok(out)
    }

    /// `f_namelen`: the longest name, in bytes.
    pub(crate) fn namelen(&self) -> i64 {
        self.0.f_namelen as i64
    }
}

/// `struct super_block`.
///
/// # Invariants
///
/// The superblock is active while it is borrowed. With `F` other than [`Any`]
/// it is of type `F`, and once it is mounted its [`Info`] is filled.
#[repr(transparent)]
pub(crate) struct SuperBlock<F = Any>(Opaque<b::super_block>, PhantomData<fn() -> F>);

// SAFETY: a superblock may be used from any task.
unsafe impl<F> Send for SuperBlock<F> {}
// SAFETY: what can be done through a shared reference is atomic or locks in C.
unsafe impl<F> Sync for SuperBlock<F> {}

impl<F> SuperBlock<F> {
    /// # Safety
    ///
    /// `ptr` is an active superblock for `'a`, of type `F` unless that is
    /// [`Any`].
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut b::super_block) -> &'a Self {
        // SAFETY: per the contract; `SuperBlock` is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut b::super_block {
        self.0.get()
    }
}

impl<F: FileSystem> Deref for SuperBlock<F> {
    type Target = SuperBlock;

    fn deref(&self) -> &SuperBlock {
        // SAFETY: same layout, and `Any` asks for less.
        unsafe { SuperBlock::from_raw(self.as_ptr()) }
    }
}

impl SuperBlock {
    pub(crate) fn is_same(&self, other: &SuperBlock) -> bool {
        core::ptr::eq(self.as_ptr(), other.as_ptr())
    }

    /// Whether both are of one filesystem type.
    pub(crate) fn is_same_type(&self, other: &SuperBlock) -> bool {
        // SAFETY: both superblocks are active; `s_type` does not change.
        unsafe { core::ptr::eq((*self.as_ptr()).s_type, (*other.as_ptr()).s_type) }
    }

    /// An address that names the filesystem as long as it is mounted.
    pub(crate) fn address(&self) -> usize {
        self.as_ptr().addr()
    }

    /// `s_dev`.
    pub(crate) fn dev(&self) -> u32 {
        // SAFETY: the superblock is active; `s_dev` does not change.
        unsafe { (*self.as_ptr()).s_dev }
    }

    /// `sb_rdonly`.
    pub(crate) fn is_readonly(&self) -> bool {
        // SAFETY: the superblock is active.
        unsafe { b::rovl_sb_rdonly(self.as_ptr()) }
    }

    /// `s_magic`.
    pub(crate) fn magic(&self) -> usize {
        // SAFETY: the superblock is active; does not change once mounted.
        unsafe { (*self.as_ptr()).s_magic }
    }

    /// `s_stack_depth`.
    pub(crate) fn stack_depth(&self) -> i32 {
        // SAFETY: the superblock is active; does not change once mounted.
        unsafe { (*self.as_ptr()).s_stack_depth }
    }

    /// `s_maxbytes`.
    pub(crate) fn max_bytes(&self) -> i64 {
        // SAFETY: as for `magic`.
        unsafe { (*self.as_ptr()).s_maxbytes }
    }

    /// The name of the filesystem type (`s_type->name`).
    pub(crate) fn type_name(&self) -> &CStr {
        // SAFETY: the type outlives its superblocks, its name is static.
        unsafe { CStr::from_char_ptr((*(*self.as_ptr()).s_type).name) }
    }

    /// `s_uuid`.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        // SAFETY: the superblock is active; set while it was mounted.
        unsafe { (*self.as_ptr()).s_uuid.b }
    }

    /// `sb_has_encoding`: directories may ignore the case of names.
    pub(crate) fn has_encoding(&self) -> bool {
        // SAFETY: the superblock is active; set while it was mounted.
        unsafe { b::rovl_sb_has_encoding(self.as_ptr()) }
    }

    /// `errseq_sample` of `s_wb_err`: what is told of errors from here on.
    pub(crate) fn sample_errors(&self) -> ErrorsSince {
        // SAFETY: the superblock is active; the counter is atomic.
        ErrorsSince(unsafe { b::errseq_sample(&raw mut (*self.as_ptr()).s_wb_err) })
    }

    /// `errseq_check` of `s_wb_err`: the last error in writing something out, if there was one
    /// since then, or one that nobody had been told of by then. Tells nobody else.
    ///
    /// # Errors
    ///
    /// That error.
    pub(crate) fn check_errors(&self, since: &ErrorsSince) -> Result {
        // SAFETY: as for `sample_errors`.
        to_result(unsafe { b::errseq_check(&raw mut (*self.as_ptr()).s_wb_err, since.0) })
    }

    /// `sync_filesystem`, for which `s_umount` must be held.
    pub(crate) fn sync_filesystem(&self) -> Result {
        // SAFETY: the superblock is active; takes and releases `s_umount`.
        to_result(unsafe { b::rovl_sync_filesystem(self.as_ptr()) })
    }
}

/// `errseq_t`: a moment in the history of a filesystem's write errors.
pub(crate) struct ErrorsSince(b::errseq_t);

impl<F: FileSystem> SuperBlock<F> {
    /// What the filesystem keeps for this superblock.
    pub(crate) fn data(&self) -> &F::Super {
        // SAFETY: a mounted superblock has one (type invariant). It lives until
        // `put_super`, when nobody holds the superblock any more, and after that
        // until path walks under RCU have ended.
        unsafe { Info::<F>::data(self.as_ptr()) }
    }
}

/// A superblock while it is being filled; only its maker sees it.
pub(crate) struct NewSuperBlock<F: FileSystem>(*mut b::super_block, PhantomData<F>);

impl<F: Operations> NewSuperBlock<F> {
    /// # Safety
    ///
    /// `sb` is a superblock from `sget_fc` that nobody has filled yet.
    pub(super) unsafe fn from_raw(sb: *mut b::super_block) -> Self {
        // SAFETY: only we use the superblock, and it has no dentry yet.
        unsafe { dentry_ops::set_default::<F>(sb) };
        Self(sb, PhantomData)
    }

    /// How deep this stack is: one more than the deepest filesystem below.
    ///
    /// # Errors
    ///
    /// `EINVAL` above `FILESYSTEM_MAX_STACK_DEPTH`.
    pub(crate) fn set_stack_depth(&mut self, below: i32) -> Result {
        let depth = below.checked_add(1).ok_or(EINVAL)?;
        if depth > b::FILESYSTEM_MAX_STACK_DEPTH as i32 {
            return Err(EINVAL);
        }
        // SAFETY: only we use the superblock.
        unsafe { (*self.0).s_stack_depth = depth };
        Ok(())
    }

    /// `super_set_uuid`.
    pub(crate) fn set_uuid(&mut self, uuid: &[u8; 16]) {
        // SAFETY: only we use the superblock, and it has no UUID yet or one of ours.
        unsafe { b::rovl_super_set_uuid(self.0, uuid.as_ptr()) };
    }

    /// `SB_RDONLY`.
    pub(crate) fn set_readonly(&mut self) {
        // SAFETY: only we use the superblock.
        unsafe { (*self.0).s_flags |= b::SB_RDONLY };
    }

    /// `s_maxbytes` and `s_time_gran`, as the filesystem below has them.
    pub(crate) fn set_limits_from(&mut self, below: &SuperBlock) {
        // SAFETY: only we use this superblock, `below` is active.
        unsafe { (*self.0).s_maxbytes = (*below.as_ptr()).s_maxbytes };
        // SAFETY: as above.
        unsafe { (*self.0).s_time_gran = (*below.as_ptr()).s_time_gran };
        // SAFETY: as above.
        unsafe { (*self.0).s_time_min = (*below.as_ptr()).s_time_min };
        // SAFETY: as above.
        unsafe { (*self.0).s_time_max = (*below.as_ptr()).s_time_max };
    }

    /// `SB_NOSEC`, as the filesystem below has it, to which all files are written: the
    /// VFS may remember that a file has no privileges which a write takes away. It
    /// forgets that when they are given to the file through this filesystem, and
    /// nobody may change what is below.
    pub(crate) fn set_nosec_from(&mut self, below: &SuperBlock) {
        // SAFETY: `below` is active; a flag that is set when it is mounted.
        let flags = unsafe { (*below.as_ptr()).s_flags };
        // SAFETY: only we use this superblock.
        unsafe { (*self.0).s_flags |= flags & b::SB_NOSEC };
    }

    /// Hands the superblock its data; its inodes can be made from here on.
    pub(crate) fn set_data(self, data: KBox<F::Super>) -> FilledSuperBlock<F> {
        let sb = self.0;
        // From here on `kill_sb` drops it, also if filling fails later.
        // SAFETY: only we use the superblock, and it is given away here.
        unsafe { Info::<F>::fill(sb, data) };
        // SAFETY: as above. The tables are static.
        unsafe { (*sb).s_op = SuperTable::<F>::OPERATIONS };
        // SAFETY: as above.
        unsafe { (*sb).s_xattr = super::xattr::handlers::<F>() };
        // SAFETY: as above.
        let fs_type = unsafe { FileSystemType::<F>::of(sb) };
        // SAFETY: as above.
        unsafe { (*sb).s_magic = fs_type.magic };
        // SAFETY: as above.
        unsafe { (*sb).s_flags |= b::SB_POSIXACL };
        // A stacking filesystem's own inodes are never dirty, and the umask is
        // applied by the filesystem below.
        // SAFETY: as above.
        unsafe { (*sb).s_iflags |= b::SB_I_SKIP_SYNC | b::SB_I_NOUMASK };
        // What EVM would seal are the attributes of the file below, not those seen here.
        // SAFETY: as above.
        unsafe { (*sb).s_iflags |= b::SB_I_EVM_HMAC_UNSUPPORTED };
        FilledSuperBlock(sb, PhantomData)
    }
}

/// A superblock with data and without a root yet.
pub(crate) struct FilledSuperBlock<F: FileSystem>(*mut b::super_block, PhantomData<F>);

impl<F: Operations> FilledSuperBlock<F> {
    pub(crate) fn sb(&self) -> &SuperBlock<F> {
        // SAFETY: ours while it is being filled; `s_fs_info` is set.
        unsafe { SuperBlock::from_raw(self.0) }
    }

    /// `d_make_root`: the last step.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an inode of another superblock, or that is no directory.
    pub(crate) fn set_root(self, root: ARef<super::Inode<F>>) -> Result<Rooted> {
        if !root.super_block().is_same(self.sb()) || !root.is_dir() {
            return Err(EINVAL);
        }
        // SAFETY: hands over the reference, also on failure.
        let dentry = unsafe { b::d_make_root(ARef::into_raw(root).as_ptr().cast()) };
        let dentry = NonNull::new(dentry).ok_or(ENOMEM)?;
        // SAFETY: only we use the superblock.
        unsafe { (*self.0).s_root = dentry.as_ptr() };
        // SAFETY: the superblock holds it.
        let root = unsafe { Dentry::<F>::from_raw(dentry.as_ptr()) };
        dentry_ops::ask_if_needed(root, Found::Object(root.node()?));
        Ok(Rooted(NotThreadSafe))
    }
}

/// Says that a superblock has got its root, which is when it may be mounted. It stays in
/// the task, so it is for the one that is being filled.
#[must_use]
pub(crate) struct Rooted(NotThreadSafe);

struct SuperTable<F>(PhantomData<F>);

impl<F: Operations> SuperTable<F> {
    const OPERATIONS: &'static b::super_operations = &b::super_operations {
        alloc_inode: Some(Slot::<F>::alloc),
        destroy_inode: Some(Slot::<F>::destroy),
        free_inode: Some(Slot::<F>::free),
        drop_inode: Some(b::inode_just_drop),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        show_stats: Some(Self::show_stats),
        sync_fs: Some(Self::sync_fs),
        put_super: Some(Self::put_super),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only for the VFS to call, when the last inode of a superblock of `F` has gone.
    unsafe extern "C" fn put_super(sb: *mut b::super_block) {
        // SAFETY: being shut down.
        unsafe { Info::<F>::empty(sb) };
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a mounted superblock of `F`.
    unsafe extern "C" fn statfs(dentry: *mut b::dentry, buf: *mut bindings_kstatfs) -> c_int {
        // SAFETY: the VFS holds a reference to the dentry.
        let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
        // SAFETY: the VFS's buffer, ours for the call.
        let out = unsafe { &mut *buf.cast::<StatFs>() };
        to_int(F::statfs(dentry, out))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a mounted superblock of `F`.
    unsafe extern "C" fn show_options(m: *mut b::seq_file, root: *mut b::dentry) -> c_int {
        // SAFETY: the VFS passes a seq_file it holds locked.
        let seq = unsafe { SeqFile::from_raw(m) };
        // SAFETY: the root is pinned by the mount that is being shown.
        let root = unsafe { Dentry::<F>::from_raw(root) };
        to_int(F::show_options(root.sb(), seq))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a mounted superblock of `F`.
    unsafe extern "C" fn show_stats(m: *mut b::seq_file, root: *mut b::dentry) -> c_int {
        // SAFETY: the VFS passes a seq_file it holds locked.
        let seq = unsafe { SeqFile::from_raw(m) };
        // SAFETY: the root is pinned by the mount that is being shown.
        let root = unsafe { Dentry::<F>::from_raw(root) };
        to_int(F::show_stats(root.sb(), seq))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a mounted superblock of `F`.
    unsafe extern "C" fn sync_fs(sb: *mut b::super_block, wait: c_int) -> c_int {
        // SAFETY: active while the VFS syncs it.
        let sb = unsafe { SuperBlock::<F>::from_raw(sb) };
        to_int(F::sync_fs(sb, wait != 0))
    }
}

/// The type in the signatures of `kernel::bindings`, where it is opaque.
#[allow(non_camel_case_types)]
type bindings_kstatfs = kernel::bindings::kstatfs;

/// A filesystem type as the kernel registers it: a `static` of the module.
///
/// It must be a static, since lockdep takes the addresses of lock classes in
/// it, and in memory that can be written to, since the kernel links it into a
/// list: both by the cell.
#[repr(C)]
pub(crate) struct FileSystemType<F: FileSystem> {
    fs_type: UnsafeCell<b::file_system_type>,
    /// Not null while there is a [`Registration`].
    cache: Atomic<*mut b::kmem_cache>,
    /// What that is called in `/proc/slabinfo`.
    cache_name: &'static CStr,
    /// `s_magic`, what `statfs` reports as the type.
    magic: usize,
    _fs: PhantomData<F>,
}

// SAFETY: `fs_type` is used by C, which locks, and by the one [`Registration`];
// `cache` is atomic.
unsafe impl<F: FileSystem> Sync for FileSystemType<F> {}

impl<F: FileSystem> FileSystemType<F> {
    /// # Safety
    ///
    /// `sb` is of a type that was registered through [`Registration`].
    pub(super) unsafe fn inode_cache(sb: *mut b::super_block) -> *mut b::kmem_cache {
        // What is in it was made before the type was registered, and stays until no
        // superblock is left.
        // SAFETY: per the contract.
        unsafe { Self::of(sb) }.cache.load(Relaxed)
    }

    /// # Safety
    ///
    /// `sb` is of a type that was registered through [`Registration`].
    unsafe fn of(sb: *mut b::super_block) -> &'static Self {
        // SAFETY: the superblock is live, its type is the first field of `Self`.
        let this = unsafe { (*sb).s_type }.cast::<Self>();
        // SAFETY: a static.
        unsafe { &*this }
    }
}

impl<F: Operations> FileSystemType<F> {
    /// `name` is the one in `/proc/filesystems`.
    pub(crate) const fn new(name: &'static CStr, magic: usize, cache_name: &'static CStr) -> Self {
        Self {
            fs_type: UnsafeCell::new(b::file_system_type {
                name: kernel::str::as_char_ptr_in_const_context(name),
                fs_flags: F::FLAGS.raw() as c_int,
                owner: compat::THIS_MODULE,
                init_fs_context: Some(fs_context::init::<F>),
                parameters: F::PARAMETERS.as_ptr().cast(),
                kill_sb: Some(Self::kill_sb),
                ..pin_init::zeroed()
            }),
            cache: Atomic::new(core::ptr::null_mut()),
            cache_name,
            magic,
            _fs: PhantomData,
        }
    }

    /// # Safety
    ///
    /// Only for the VFS to call, once for each superblock of `F`.
    unsafe extern "C" fn kill_sb(sb: *mut b::super_block) {
        // `put_super` is not called for a superblock without a root.
        // SAFETY: we have the last reference.
        if unsafe { (*sb).s_root }.is_null() {
            // SAFETY: what has no root has no dentry, and no inode that anybody holds.
            unsafe { Info::<F>::empty(sb) };
        }
        // SAFETY: it was made by `set_anon_super_fc`.
        unsafe { b::kill_anon_super(sb) };
        // SAFETY: `SB_DEAD` is set, and it is empty.
        unsafe { Info::<F>::free(sb) };
    }
}

/// Keeps a filesystem type registered.
///
/// Superblocks use what its drop frees, and are counted with the module only: the one
/// who makes it keeps it in the module's own struct, and makes it last in `init`. Then
/// it goes when the module does, so with no superblock left. The compiler does not check
/// that: it is outside of what the types of this room promise.
///
/// # Invariants
///
/// There is one for each type, and the type's cache is its.
pub(crate) struct Registration<F: Operations>(&'static FileSystemType<F>);

impl<F: Operations> Registration<F> {
    /// `register_filesystem`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one of the name, or of this type.
    pub(crate) fn new(fs_type: &'static FileSystemType<F>) -> Result<Self> {
        if !fs_type.cache.load(Relaxed).is_null() {
            // Nor is there a second cache of the name, which the slab would warn of.
            return Err(EBUSY);
        }
        let cache = Slot::<F>::create_cache(fs_type.cache_name)?.as_ptr();
        if fs_type
            .cache
            .cmpxchg(core::ptr::null_mut(), cache, Full)
            .is_err()
        {
            // SAFETY: made above, and no inode was.
            unsafe { b::kmem_cache_destroy(cache) };
            return Err(EBUSY);
        }
        // SAFETY: a static, so it lives as long as the module, and not registered.
        let r = to_result(unsafe { b::register_filesystem(fs_type.fs_type.get()) });
        if let Err(e) = r {
            Self::destroy_cache(fs_type);
            return Err(e);
        }
        // INVARIANT: nobody else gets as far until the cache is taken back.
        Ok(Self(fs_type))
    }

    /// Called for the one registration of the type, when no inode is left.
    fn destroy_cache(fs_type: &FileSystemType<F>) {
        let cache = fs_type.cache.xchg(core::ptr::null_mut(), Full);
        // SAFETY: made by `new`, taken back once; no inode is left, or was made.
        unsafe { b::kmem_cache_destroy(cache) };
    }
}

impl<F: Operations> Drop for Registration<F> {
    fn drop(&mut self) {
        // SAFETY: registered by `new`. No superblock is left: each holds a
        // reference to the module, with which this goes (said above).
        unsafe { b::unregister_filesystem(self.0.fs_type.get()) };
        // Inodes are freed after a grace period, by code of this module.
        // SAFETY: no requirements.
        unsafe { b::rcu_barrier() };
        Self::destroy_cache(self.0);
    }
}
