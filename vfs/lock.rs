// SPDX-License-Identifier: GPL-2.0

//! The lock order of a stacking filesystem, as types.
//!
//! C header: [`include/linux/namei.h`](srctree/include/linux/namei.h);
//! `Documentation/filesystems/locking.rst`,
//! `Documentation/filesystems/directory-locking.rst`.
//!
//! The VFS calls a stacking filesystem with locks of *that* filesystem held; to
//! act on the filesystem below it takes locks of the one *below*. The order
//! there, outermost first:
//!
//! 1. freeze protection (`mnt_want_write`, `file_start_write`);
//! 2. `s_vfs_rename_mutex`, then `i_rwsem` of directories;
//! 3. `i_rwsem` of other inodes;
//! 4. whatever cannot sleep.
//!
//! Each level is a guard that borrows the level above mutably:
//!
//! ```text
//! Context<H>  --want_write-->  WriteAccess  --lock_name-->  LockedName
//!                                           --lock_rename-> LockedRename
//! ```
//!
//! * [`Context`] is handed to the filesystem by the VFS entry point, and cannot
//!   be made anywhere else. `H` says what the VFS held when it called.
//! * Moving file data ([`Context::copy_data`], [`Context::clone_data`],
//!   [`Context::fsync`]) and closing a file borrow the context too: while any
//!   guard lives, they do not compile.
//! * What locks a directory for itself, as a look-up does, or waits for others, as
//!   opening a file does, asks for evidence that nothing is ([`MayLockDirectory`]):
//!   the context.
//! * A directory can be locked only through [`WriteAccess`]: a directory locked
//!   before freeze protection does not compile.
//! * A name can be made, removed or moved only through the guard of that name:
//!   `link` without it does not compile.
//! * Only one guard of each level lives at a time, so two directories cannot be
//!   locked in the wrong order: both at once is [`WriteAccess::lock_rename`],
//!   for which the VFS has the order.
//!
//! `selftests/compile_fail/` has a case for each of these.
//!
//! What this does not prove: that a guard is dropped. One that is forgotten
//! (`mem::forget`, a cycle of references) keeps its lock, while what it borrowed can be
//! used again: the task waits for itself the next time it takes that lock. Memory stays
//! safe: nothing here relies on a lock *not* being held, only on those that are. Outside
//! of `vfs/` `make check` refuses `mem::forget` and its kin.

use super::compat::ESTALE;
use super::{
    attr::Attributes,
    bindings as b,
    dentry::qstr,
    flags::{RenameFlags, XattrFlags},
    from_count,
    namei::DirTimes,
    to_result, xattr, Dentry, FileSystem, Inode, Mount, Path,
};
use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};
use kernel::{
    cred::Credential, error::from_err_ptr, fs::File, prelude::*, sync::aref::ARef,
    types::NotThreadSafe,
};

/// What the VFS holds of the *stacking* filesystem while it calls into it.
pub(crate) trait Held: sealed::Sealed {}

/// No lock: `open`, `read`, `write`, ...
pub(crate) enum Nothing {}
/// The inode's `i_rwsem`: `setattr`, `setxattr`, `fallocate`, ...
pub(crate) enum InodeLock {}
/// The `i_rwsem` of one or two directories: `create`, `unlink`, `rename`, ...
pub(crate) enum DirectoryLock {}

impl Held for Nothing {}
impl Held for InodeLock {}
impl Held for DirectoryLock {}

/// What is held of the filesystem below by this call: nothing, or whatever
/// borrows it.
///
/// # Invariants
///
/// There is one for each call of the VFS into the filesystem, so while it is
/// not borrowed, the call holds no lock of the filesystem below.
pub(crate) struct Context<H: Held> {
    _held: PhantomData<H>,
    _not_send: NotThreadSafe,
}

impl<H: Held> Context<H> {
    /// # Safety
    ///
    /// Called once by the entry point of a VFS operation, which holds what `H`
    /// says and nothing of another filesystem.
    pub(super) unsafe fn enter() -> Self {
        Self {
            _held: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// `mnt_want_write`: freeze protection, and the promise that the mount and
    /// its filesystem stay writable. Waits while the filesystem is frozen.
    ///
    /// # Errors
    ///
    /// `EROFS`.
    pub(crate) fn want_write<'c>(&'c mut self, mnt: &'c Mount) -> Result<WriteAccess<'c>> {
        // SAFETY: the mount is valid. Nothing below is locked, since the
        // context is not borrowed elsewhere.
        to_result(unsafe { b::mnt_want_write(mnt.as_ptr()) })?;
        Ok(WriteAccess {
            mnt,
            _context: PhantomData,
            _not_send: NotThreadSafe,
        })
    }

    /// Shares the blocks of the whole of `from` with `to` (`FICLONE`); freeze
    /// protection is taken inside.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, `EXDEV`, `EINVAL`, ... where it cannot be done.
    pub(crate) fn clone_data(&mut self, from: &File, to: &File, len: i64) -> Result<i64> {
        // SAFETY: both files are open, and nothing of their filesystems is
        // locked by us.
        let n = unsafe { b::vfs_clone_file_range(from.as_ptr(), 0, to.as_ptr(), 0, len, 0) };
        from_count(n as isize).map(|n| n as i64)
    }

    /// Copies up to `len` bytes at `pos` of `from` to the same place in `to`,
    /// by `copy_file_range` on one filesystem and by splice between two. Freeze
    /// protection of the target is taken inside, for the writing only. A signal
    /// makes it short. Returns the number of bytes.
    pub(crate) fn copy_data(
        &mut self,
        from: &File,
        to: &File,
        pos: i64,
        len: usize,
    ) -> Result<usize> {
        if pos < 0 {
            return Err(EINVAL);
        }
        let same = file_inode(from)
            .super_block()
            .is_same(file_inode(to).super_block());
        let n = if same {
            // SAFETY: both files are open, and nothing of their filesystem is
            // locked by us.
            unsafe { b::vfs_copy_file_range(from.as_ptr(), pos, to.as_ptr(), pos, len, 0) }
        } else {
            let (mut from_pos, mut to_pos) = (pos, pos);
            // SAFETY: as above; the positions are ours.
            unsafe {
                b::do_splice_direct(
                    from.as_ptr(),
                    &mut from_pos,
                    to.as_ptr(),
                    &mut to_pos,
                    len,
                    0,
                )
            }
        };
        from_count(n)
    }

    /// `vfs_fsync`: waits until the file's data and metadata are durable.
    pub(crate) fn fsync(&mut self, file: &File) -> Result {
        // SAFETY: the file is open, and nothing of its filesystem is locked.
        to_result(unsafe { b::vfs_fsync(file.as_ptr(), 0) })
    }
}

impl Context<Nothing> {
    /// `inode_lock` of an inode of the stacking filesystem itself, which is
    /// ordered before every lock of the filesystem below.
    pub(crate) fn lock_inode<'c, F: FileSystem>(
        &'c mut self,
        inode: &'c Inode<F>,
    ) -> LockedInode<'c, F> {
        // SAFETY: the inode is live. Its lock is not held: the VFS does not
        // (`Nothing`), and a guard of ours would borrow the context.
        unsafe { b::rovl_inode_lock(inode.as_ptr()) };
        LockedInode::new(inode)
    }

    /// `inode_trylock`, as [`Context::lock_inode`]; `EAGAIN` if somebody else has it.
    pub(crate) fn try_lock_inode<'c, F: FileSystem>(
        &'c mut self,
        inode: &'c Inode<F>,
    ) -> Result<LockedInode<'c, F>> {
        // SAFETY: as in `lock_inode`.
        match unsafe { b::rovl_inode_trylock(inode.as_ptr()) } {
            true => Ok(LockedInode::new(inode)),
            false => Err(EAGAIN),
        }
    }
}

/// The `i_rwsem` of an inode of the stacking filesystem, taken by itself where
/// the VFS does not. What follows runs in its context.
pub(crate) struct LockedInode<'c, F: FileSystem> {
    inode: &'c Inode<F>,
    /// In place of the one that is borrowed.
    context: Context<InodeLock>,
    _outer: PhantomData<&'c mut Context<Nothing>>,
}

impl<'c, F: FileSystem> LockedInode<'c, F> {
    /// For who has just locked it, and has the context borrowed.
    fn new(inode: &'c Inode<F>) -> Self {
        Self {
            inode,
            context: Context {
                _held: PhantomData,
                _not_send: NotThreadSafe,
            },
            _outer: PhantomData,
        }
    }

    /// That this is the inode which is locked.
    ///
    /// # Errors
    ///
    /// `EIO`.
    pub(super) fn check(&self, inode: &Inode<F>) -> Result {
        match self.inode.is_same(inode) {
            true => Ok(()),
            false => Err(EIO),
        }
    }
}

impl<F: FileSystem> Deref for LockedInode<'_, F> {
    type Target = Context<InodeLock>;

    fn deref(&self) -> &Context<InodeLock> {
        &self.context
    }
}

impl<F: FileSystem> DerefMut for LockedInode<'_, F> {
    fn deref_mut(&mut self) -> &mut Context<InodeLock> {
        &mut self.context
    }
}

impl<F: FileSystem> Drop for LockedInode<'_, F> {
    fn drop(&mut self) {
        // SAFETY: locked by `lock_inode` or `try_lock_inode`, on this task.
        unsafe { b::rovl_inode_unlock(self.inode.as_ptr()) };
    }
}

/// Evidence that this call holds nothing of the filesystems below: a directory of one
/// may be locked next, or somebody waited for who takes locks or write access himself.
///
/// Freeze protection is no such evidence. A layer below the writable one may be a
/// stacking filesystem itself, with the same filesystem at its bottom: there it is the
/// directory that is locked first.
pub(crate) trait MayLockDirectory: sealed::Sealed {}

impl<H: Held> MayLockDirectory for Context<H> {}

/// What is said of locks is said here: another type cannot claim to be evidence.
mod sealed {
    pub(crate) trait Sealed {}

    impl Sealed for super::Nothing {}
    impl Sealed for super::InodeLock {}
    impl Sealed for super::DirectoryLock {}
    impl<H: super::Held> Sealed for super::Context<H> {}
}

/// `file_inode`.
pub(crate) fn file_inode(file: &File) -> &Inode {
    // SAFETY: the inode of an open file does not change and is pinned by it.
    unsafe { Inode::from_raw((*file.as_ptr()).f_inode) }
}

/// The dentry of an open file.
pub(crate) fn file_dentry(file: &File) -> &Dentry {
    // SAFETY: the path of an open file does not change and is pinned by it.
    unsafe { Dentry::from_raw((*file.as_ptr()).__bindgen_anon_1.f_path.dentry) }
}

/// Level 1: freeze protection of the filesystem below.
pub(crate) struct WriteAccess<'c> {
    mnt: &'c Mount,
    _context: PhantomData<&'c mut ()>,
    _not_send: NotThreadSafe,
}

impl Drop for WriteAccess<'_> {
    fn drop(&mut self) {
        // SAFETY: pairs with `mnt_want_write` in `Context::want_write`.
        unsafe { b::mnt_drop_write(self.mnt.as_ptr()) };
    }
}

impl<'c> WriteAccess<'c> {
    /// The mount that may be written to.
    pub(crate) fn mnt(&self) -> &'c Mount {
        self.mnt
    }

    fn idmap(&self) -> *mut b::mnt_idmap {
        self.mnt.idmap()
    }

    /// The inode of what is to be changed: the dentry is positive, and of the filesystem
    /// to which this is the access.
    ///
    /// # Errors
    ///
    /// `ENOENT`, `EXDEV`.
    pub(super) fn inode_of<'d>(&self, dentry: &'d Dentry) -> Result<&'d Inode> {
        if !dentry.super_block().is_same(self.mnt.super_block()) {
            return Err(EXDEV);
        }
        dentry.positive()
    }

    /// That names can be changed in `dir`.
    ///
    /// # Errors
    ///
    /// Those of [`Self::inode_of`], and `ENOTDIR`.
    pub(super) fn check_directory(&self, dir: &Dentry) -> Result {
        self.inode_of(dir)?;
        dir.check_directory()
    }

    /// Locks `parent` and looks `name` up afresh in it; the name may or may not
    /// exist (`start_creating`).
    pub(crate) fn lock_name<'w>(
        &'w mut self,
        parent: &Dentry,
        name: &[u8],
    ) -> Result<LockedName<'w>> {
        self.check_directory(parent)?;
        let mut q = qstr(name);
        // SAFETY: the parent is a positive directory dentry of this mount's
        // filesystem (checked), on which we hold no other lock, since `self` is borrowed
        // mutably; `q` lives for the call.
        let dentry = unsafe { b::start_creating(self.idmap(), parent.as_ptr(), &mut q) };
        let dentry = from_err_ptr(dentry)?;
        Ok(LockedName {
            dentry,
            idmap: self.idmap(),
            _access: PhantomData,
        })
    }

    /// Locks both directories in the order of the kernel and looks both names
    /// up afresh (`start_renaming`). `flags` are those of `renameat2`.
    ///
    /// # Errors
    ///
    /// `ENOENT` without the old name, `EEXIST` with the new one and
    /// `RENAME_NOREPLACE`, `EINVAL` or `ENOTEMPTY` if one is above the other, `EINVAL` for
    /// flags that exclude each other; those of [`Self::lock_name`].
    pub(crate) fn lock_rename<'w>(
        &'w mut self,
        (old_parent, old_name): (&Dentry, &[u8]),
        (new_parent, new_name): (&Dentry, &[u8]),
        flags: RenameFlags,
    ) -> Result<LockedRename<'w>> {
        self.check_directory(old_parent)?;
        self.check_directory(new_parent)?;
        check_rename_flags(flags)?;
        let mut rd: b::renamedata = pin_init::zeroed();
        rd.mnt_idmap = self.idmap();
        rd.old_parent = old_parent.as_ptr();
        rd.new_parent = new_parent.as_ptr();
        rd.flags = flags.raw();
        let (mut old, mut new) = (qstr(old_name), qstr(new_name));
        // SAFETY: both parents are positive directory dentries of this mount's
        // filesystem (checked), none of it is locked by us, and `rd` is filled in as
        // `start_renaming` asks.
        to_result(unsafe { b::start_renaming(&mut rd, 0, &mut old, &mut new) })?;
        Ok(LockedRename {
            rd,
            new_parent: new_parent.into(),
            done: false,
            _access: PhantomData,
        })
    }

    /// A regular file without a name (`->tmpfile`), open for reading and
    /// writing, that may be linked later.
    pub(crate) fn tmpfile(
        &mut self,
        dir: &Dentry,
        mode: u16,
        cred: &Credential,
    ) -> Result<ARef<File>> {
        self.check_directory(dir)?;
        let path = Path::new(self.mnt, dir);
        path.check_mount()?;
        let path = path.as_c();
        // SAFETY: the path is valid for the call, and a directory (checked); the mode
        // says that it is to be a regular file.
        let file = from_err_ptr(unsafe {
            b::kernel_tmpfile_open(
                self.idmap(),
                &path,
                b::S_IFREG as u16 | (mode & 0o7777),
                (b::O_RDWR | b::O_LARGEFILE) as i32,
                cred.as_ptr(),
            )
        })?;
        let file = NonNull::new(file).ok_or(EIO)?;
        // SAFETY: a counted file that only we know, so no `fdget_pos` is on it.
        Ok(unsafe { ARef::from_raw(file.cast()) })
    }

    /// `notify_change`, with the inode locked for the call. `attr` may be what the VFS
    /// asks of another inode: see [`Attributes::fit`].
    pub(crate) fn set_attributes(&mut self, dentry: &Dentry, attr: &mut Attributes) -> Result {
        let inode = self.inode_of(dentry)?;
        attr.fit(inode)?;
        // SAFETY: the inode is live, and we hold no lock of its filesystem: a
        // guard of this access would borrow `self`.
        unsafe { b::rovl_inode_lock(inode.as_ptr()) };
        // SAFETY: the dentry is positive and its inode locked.
        let r = unsafe {
            b::notify_change(
                self.idmap(),
                dentry.as_ptr(),
                attr.as_c(),
                core::ptr::null_mut(),
            )
        };
        // SAFETY: locked above.
        unsafe { b::rovl_inode_unlock(inode.as_ptr()) };
        to_result(r)
    }

    /// `vfs_setxattr`.
    ///
    /// # Errors
    ///
    /// `ERANGE` and `E2BIG` for a name and a value that are too long for any filesystem;
    /// what this one says else.
    pub(crate) fn set_xattr(
        &mut self,
        dentry: &Dentry,
        name: &CStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result {
        self.inode_of(dentry)?;
        if name.count_bytes() > xattr::NAME_MAX {
            return Err(ERANGE);
        }
        if value.len() > xattr::SIZE_MAX {
            return Err(E2BIG);
        }
        // SAFETY: the dentry is positive (checked), name and value live for the call,
        // which locks the inode.
        to_result(unsafe {
            b::vfs_setxattr(
                self.idmap(),
                dentry.as_ptr(),
                name.as_char_ptr(),
                value.as_ptr().cast(),
                value.len(),
                flags.raw() as i32,
            )
        })
    }

    /// `vfs_removexattr`.
    pub(crate) fn remove_xattr(&mut self, dentry: &Dentry, name: &CStr) -> Result {
        self.inode_of(dentry)?;
        // SAFETY: as for `set_xattr`.
        to_result(unsafe { b::vfs_removexattr(self.idmap(), dentry.as_ptr(), name.as_char_ptr()) })
    }
}

/// Level 2: a directory is locked, and one name in it is ours.
///
/// # Invariants
///
/// `dentry` is what `start_creating` returned, its parent is locked by us; or
/// it is an error pointer, and nothing is locked.
pub(crate) struct LockedName<'w> {
    dentry: *mut b::dentry,
    idmap: *mut b::mnt_idmap,
    _access: PhantomData<&'w mut ()>,
}

impl Drop for LockedName<'_> {
    fn drop(&mut self) {
        // SAFETY: pairs with `start_creating`; takes error pointers as well.
        unsafe { b::rovl_end_creating(self.dentry) };
    }
}

impl LockedName<'_> {
    /// The name, positive or negative.
    pub(crate) fn dentry(&self) -> &Dentry {
        // SAFETY: valid and counted until the drop (type invariant; methods
        // that leave an error pointer consume the guard).
        unsafe { Dentry::from_raw(self.dentry) }
    }

    /// The inode at the name, if there is one.
    pub(crate) fn inode(&self) -> Option<&Inode> {
        self.dentry().inode()
    }

    fn dir(&self) -> *mut b::inode {
        // SAFETY: the parent is locked, so the name stays in it.
        let parent = unsafe { (*self.dentry).d_parent };
        // SAFETY: a locked parent is positive, and stays it.
        unsafe { (*parent).d_inode }
    }

    /// `vfs_create`.
    pub(crate) fn create(&mut self, mode: u16) -> Result {
        // SAFETY: the parent is locked (type invariant).
        to_result(unsafe { b::vfs_create(self.idmap, self.dentry, mode, core::ptr::null_mut()) })
    }

    /// `vfs_mkdir`. On success the name stays locked.
    pub(crate) fn mkdir(mut self, mode: u16) -> Result<Self> {
        // SAFETY: the parent is locked. On error this unlocks it and drops the
        // dentry, which is why the error pointer replaces it.
        self.dentry = unsafe {
            b::vfs_mkdir(
                self.idmap,
                self.dir(),
                self.dentry,
                mode,
                core::ptr::null_mut(),
            )
        };
        from_err_ptr(self.dentry)?;
        Ok(self)
    }

    /// `vfs_mknod`: a device, fifo or socket, by the type in `mode`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another type, of which the filesystem would make something else;
    /// what that says else.
    pub(crate) fn mknod(&mut self, mode: u16, rdev: u32) -> Result {
        let kind = u32::from(mode) & b::S_IFMT;
        if !matches!(kind, b::S_IFCHR | b::S_IFBLK | b::S_IFIFO | b::S_IFSOCK) {
            return Err(EINVAL);
        }
        // SAFETY: the parent is locked (type invariant).
        to_result(unsafe {
            b::vfs_mknod(
                self.idmap,
                self.dir(),
                self.dentry,
                mode,
                rdev,
                core::ptr::null_mut(),
            )
        })
    }

    /// `vfs_whiteout`: a character device 0/0.
    pub(crate) fn whiteout(&mut self) -> Result {
        // SAFETY: the parent is locked (type invariant).
        to_result(unsafe { b::rovl_vfs_whiteout(self.idmap, self.dir(), self.dentry) })
    }

    /// `vfs_symlink`.
    pub(crate) fn symlink(&mut self, target: &CStr) -> Result {
        // SAFETY: the parent is locked, the target lives for the call.
        to_result(unsafe {
            b::vfs_symlink(
                self.idmap,
                self.dir(),
                self.dentry,
                target.as_char_ptr(),
                core::ptr::null_mut(),
            )
        })
    }

    /// `vfs_link`: one more name for `from`.
    pub(crate) fn link(&mut self, from: &Dentry) -> Result {
        // SAFETY: the parent is locked; `from` is positive or the call fails.
        to_result(unsafe {
            b::vfs_link(
                from.as_ptr(),
                self.idmap,
                self.dir(),
                self.dentry,
                core::ptr::null_mut(),
            )
        })
    }

    /// Takes back a [`LockedName::link`] of what was [`Inode::is_linkable`] before:
    /// removes the name, and what has none again may get another one, as if it had
    /// never had this.
    pub(crate) fn unlink_linkable(&mut self) -> Result {
        let inode: ARef<Inode> = self.dentry().positive()?.into();
        self.remove()?;
        if !inode.is_dir() && inode.nlink() == 0 {
            // SAFETY: the inode is live; the callee takes its `i_lock`. To the
            // filesystem a file that lost its last name is one that was made
            // without: its next name is its first.
            unsafe { b::rovl_inode_test_and_set_state(inode.as_ptr(), b::I_LINKABLE) };
        }
        Ok(())
    }

    /// `vfs_unlink` or `vfs_rmdir`, by what the name is.
    ///
    /// If nobody else holds a reference to the dentry it becomes negative (`d_delete`).
    /// Nothing that was borrowed from the guard lives then, as this takes it mutably.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a name that is not there, or has been removed.
    pub(crate) fn remove(&mut self) -> Result {
        if self.dentry().is_unhashed() {
            return Err(ENOENT);
        }
        let is_dir = self.dentry().positive()?.is_dir();
        let dir = self.dir();
        to_result(if is_dir {
            // SAFETY: the parent is locked (type invariant), the dentry positive.
            unsafe { b::vfs_rmdir(self.idmap, dir, self.dentry, core::ptr::null_mut()) }
        } else {
            // SAFETY: as above; the dentry is positive.
            unsafe { b::vfs_unlink(self.idmap, dir, self.dentry, core::ptr::null_mut()) }
        })
    }

    /// The times of the locked directory, for [`LockedName::set_dir_times`].
    pub(crate) fn dir_times(&self) -> DirTimes {
        // SAFETY: the locked parent is positive and pinned by the name.
        DirTimes::of(unsafe { Inode::from_raw(self.dir()) })
    }

    /// Gives the locked directory back the times it had: what was made in it
    /// must not show (`notify_change`).
    pub(crate) fn set_dir_times(&mut self, times: DirTimes) -> Result {
        // SAFETY: the parent is locked, so the name stays in it.
        let parent = unsafe { (*self.dentry).d_parent };
        // SAFETY: positive and locked.
        unsafe { set_locked_times(self.idmap, parent, times) }
    }

    /// Unlocks and keeps a reference to the name.
    pub(crate) fn keep(self) -> ARef<Dentry> {
        self.dentry().into()
    }
}

/// `notify_change` of access and modification time.
///
/// # Safety
///
/// `dentry` is positive, and its inode is locked by the caller.
unsafe fn set_locked_times(
    idmap: *mut b::mnt_idmap,
    dentry: *mut b::dentry,
    times: DirTimes,
) -> Result {
    let (atime, mtime) = times.get();
    let mut attr = Attributes::new().times(atime, mtime).forced();
    // SAFETY: per the contract.
    to_result(unsafe { b::notify_change(idmap, dentry, attr.as_c(), core::ptr::null_mut()) })
}

/// As `renameat2` checks its flags: an exchange is nothing else as well.
fn check_rename_flags(flags: RenameFlags) -> Result {
    let known = RenameFlags::NO_REPLACE | RenameFlags::EXCHANGE | RenameFlags::WHITEOUT;
    let exchange = flags.has(RenameFlags::EXCHANGE);
    if flags.without(known) != RenameFlags::NONE || (exchange && flags != RenameFlags::EXCHANGE) {
        return Err(EINVAL);
    }
    Ok(())
}

/// Level 2, for two names in one or two directories.
///
/// # Invariants
///
/// `rd` is what `start_renaming` filled in, and its locks are held. Until it is `done`
/// both dentries are the names they were looked up as.
pub(crate) struct LockedRename<'w> {
    rd: b::renamedata,
    /// `end_renaming` keeps only the old parent alive by itself.
    new_parent: ARef<Dentry>,
    done: bool,
    _access: PhantomData<&'w mut ()>,
}

impl Drop for LockedRename<'_> {
    fn drop(&mut self) {
        let _ = &self.new_parent;
        // SAFETY: pairs with `start_renaming`.
        unsafe { b::end_renaming(&mut self.rd) };
    }
}

impl LockedRename<'_> {
    /// The old name; positive.
    pub(crate) fn old(&self) -> &Dentry {
        // SAFETY: counted by `start_renaming` until the drop.
        unsafe { Dentry::from_raw(self.rd.old_dentry) }
    }

    /// The new name, positive or negative.
    pub(crate) fn new_name(&self) -> &Dentry {
        // SAFETY: counted by `start_renaming` until the drop.
        unsafe { Dentry::from_raw(self.rd.new_dentry) }
    }

    /// The times of the new directory, for [`LockedRename::set_dir_times`].
    pub(crate) fn new_dir_times(&self) -> Result<DirTimes> {
        Ok(DirTimes::of(self.new_parent.positive()?))
    }

    /// As [`LockedName::set_dir_times`], for the directory of the new name.
    pub(crate) fn set_new_dir_times(&mut self, times: DirTimes) -> Result {
        // SAFETY: positive and locked (type invariant).
        unsafe { set_locked_times(self.rd.mnt_idmap, self.rd.new_parent, times) }
    }

    /// Changes the flags of the `rename` to come. Only flags under which the
    /// names that were found stay right.
    ///
    /// # Errors
    ///
    /// `ENOENT` for `RENAME_EXCHANGE` without something at the new name.
    pub(crate) fn set_flags(&mut self, flags: RenameFlags) -> Result {
        check_rename_flags(flags)?;
        if flags.has(RenameFlags::EXCHANGE) && self.new_name().is_negative() {
            return Err(ENOENT);
        }
        self.rd.flags = flags.raw();
        Ok(())
    }

    /// `vfs_rename`.
    ///
    /// # Errors
    ///
    /// `ESTALE` once it has been done; what the filesystem says else.
    pub(crate) fn rename(&mut self) -> Result {
        if self.done {
            return Err(ESTALE);
        }
        // SAFETY: the locks are held, and both names are where they were found (type
        // invariant).
        to_result(unsafe { b::vfs_rename(&mut self.rd) })?;
        self.done = true;
        Ok(())
    }
}
