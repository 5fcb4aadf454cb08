// SPDX-License-Identifier: GPL-2.0

//! `struct inode_operations` of directories.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h);
//! `Documentation/filesystems/vfs.rst`, `directory-locking.rst`.

use super::compat::ENAMETOOLONG;
use super::{
    acl, bindings as b,
    compat::Create,
    dentry,
    dentry_ops::{self, DentryOperations, Found},
    file::TmpFile,
    file_ops::{self, FileOperations},
    fileattr,
    flags::RenameFlags,
    idmap::Idmap,
    inode_ops::{InodeOperations, Table as InodeTable},
    lock::{Context, DirectoryLock, Nothing},
    to_int, to_result, xattr, Dentry, Inode,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    ffi::{c_char, c_int, c_uint},
    fs::File,
    prelude::*,
    sync::aref::ARef,
};

/// What the VFS asks of a directory.
///
/// Methods that change it get a negative dentry to fill: they return the inode
/// and the caller instantiates the dentry, so a name is never seen half made.
/// The caller has checked permissions on this filesystem, and holds write
/// access to its mount and the `i_rwsem` of the directories.
pub(crate) trait DirOperations: InodeOperations + FileOperations + DentryOperations {
    /// `->lookup`: the inode for a name, `None` if there is no such name. The
    /// directory's `i_rwsem` is held at least shared.
    fn lookup(
        ctx: &mut Context<DirectoryLock>,
        dir: &Inode<Self>,
        name: &[u8],
    ) -> Result<Option<ARef<Inode<Self>>>>;

    /// `->create`, `->mkdir`, `->mknod`, `->symlink`. `idmap` is that of the mount
    /// through which the caller makes it, and says who is its owner.
    fn make(
        ctx: &mut Context<DirectoryLock>,
        idmap: Idmap<'_>,
        dir: &Inode<Self>,
        dentry: &Dentry<Self>,
        new: New<'_>,
    ) -> Result<ARef<Inode<Self>>>;

    /// `->link`: one more name for `old`, whose `i_rwsem` is held as well.
    fn link(
        ctx: &mut Context<DirectoryLock>,
        old: &Dentry<Self>,
        dir: &Inode<Self>,
        dentry: &Dentry<Self>,
    ) -> Result<ARef<Inode<Self>>>;

    /// `->unlink` and `->rmdir`; the inode of `dentry` is locked too.
    fn remove(ctx: &mut Context<DirectoryLock>, dir: &Inode<Self>, dentry: &Dentry<Self>)
        -> Result;

    /// `->rename`. Both directories are locked, and the objects as
    /// `directory-locking.rst` says.
    fn rename(
        ctx: &mut Context<DirectoryLock>,
        old: (&Inode<Self>, &Dentry<Self>),
        new: (&Inode<Self>, &Dentry<Self>),
        flags: RenameFlags,
    ) -> Result;

    /// `->tmpfile`: a file without a name in the directory `parent`, to be
    /// opened as `file`. No lock is held, but write access to the mount is.
    fn tmpfile(
        ctx: &mut Context<Nothing>,
        idmap: Idmap<'_>,
        parent: &Dentry<Self>,
        file: TmpFile<'_, Self>,
        mode: u16,
    ) -> Result<(ARef<Inode<Self>>, ARef<File>)>;
}

/// What is to be made.
#[derive(Clone, Copy)]
pub(crate) enum New<'a> {
    Regular { mode: u16 },
    Directory { mode: u16 },
    Special { mode: u16, rdev: u32 },
    Symlink { target: &'a CStr },
}

impl New<'_> {
    /// Type and permission bits, before the umask.
    pub(crate) fn mode(self) -> u16 {
        match self {
            New::Regular { mode } => b::S_IFREG as u16 | mode,
            New::Directory { mode } => b::S_IFDIR as u16 | mode,
            New::Special { mode, .. } => mode,
            New::Symlink { .. } => (b::S_IFLNK | 0o777) as u16,
        }
    }
}

/// An inode that a dentry is to get whose parent is `dir`: of the same superblock.
///
/// # Errors
///
/// `EIO`.
fn of_same<F: DirOperations>(dir: &Inode<F>, inode: ARef<Inode<F>>) -> Result<ARef<Inode<F>>> {
    match inode.super_block().is_same(dir.super_block()) {
        true => Ok(inode),
        false => Err(EIO),
    }
}

struct Table<F>(PhantomData<F>);

pub(super) fn operations<F: DirOperations>() -> *const b::inode_operations {
    Table::<F>::DIRECTORY
}

impl<F: DirOperations> Table<F> {
    const DIRECTORY: &'static b::inode_operations = &b::inode_operations {
        lookup: Some(Self::lookup),
        create: Some(<_ as Create<F>>::CREATE),
        link: Some(Self::link),
        unlink: Some(Self::remove),
        symlink: Some(Self::symlink),
        mkdir: Some(Self::mkdir),
        rmdir: Some(Self::remove),
        mknod: Some(Self::mknod),
        rename: Some(Self::rename),
        tmpfile: Some(Self::tmpfile),
        permission: Some(InodeTable::<F>::permission),
        getattr: Some(InodeTable::<F>::getattr),
        setattr: Some(InodeTable::<F>::setattr),
        update_time: Some(InodeTable::<F>::update_time),
        listxattr: Some(xattr::listxattr::<F>),
        get_inode_acl: Some(acl::get_inode_acl::<F>),
        get_acl: Some(acl::get_acl::<F>),
        set_acl: Some(acl::set_acl::<F>),
        fileattr_get: Some(fileattr::fileattr_get::<F>),
        fileattr_set: Some(fileattr::fileattr_set::<F>),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only for the VFS to call, with `dir` locked and `dentry` in lookup.
    unsafe extern "C" fn lookup(
        dir: *mut b::inode,
        dentry: *mut b::dentry,
        _flags: c_uint,
    ) -> *mut b::dentry {
        // SAFETY: pinned by the caller.
        let dir = unsafe { Inode::<F>::from_raw(dir) };
        // SAFETY: pinned by the caller.
        let dentry_in_lookup = unsafe { Dentry::<F>::from_raw(dentry) };
        // SAFETY: the entry point of the operation, with the directory locked.
        let mut ctx = unsafe { Context::<DirectoryLock>::enter() };
        // SAFETY: in lookup until we make it something else below.
        let name = unsafe { dentry_in_lookup.stable_name() };
        // The VFS lets longer ones come as far as this.
        if name.len() > dentry::NAME_MAX {
            return ENAMETOOLONG.to_ptr();
        }
        let found = F::lookup(&mut ctx, dir, name);
        let inode = match found.and_then(|inode| inode.map(|i| of_same(dir, i)).transpose()) {
            Ok(Some(inode)) => {
                dentry_ops::ask_if_needed(dentry_in_lookup, Found::Object(&inode));
                ARef::into_raw(inode).as_ptr().cast()
            }
            Ok(None) => {
                dentry_ops::ask_if_needed(dentry_in_lookup, Found::Nothing(dir));
                core::ptr::null_mut()
            }
            Err(e) => return e.to_ptr(),
        };
        // SAFETY: takes over the reference, to an inode of this superblock; the dentry
        // is in lookup.
        unsafe { b::d_splice_alias(inode, dentry) }
    }

    /// Makes `new` at the negative `dentry` and instantiates it.
    ///
    /// # Safety
    ///
    /// As the VFS calls `->create` and its kin: `dir` is locked, `dentry` is
    /// negative and hashed in it, `idmap` is that of the caller's mount.
    unsafe fn make(
        idmap: *mut b::mnt_idmap,
        dir: *mut b::inode,
        dentry: *mut b::dentry,
        new: New<'_>,
    ) -> Result {
        // SAFETY: the caller's mount lives for the call.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: the entry point of the operation, with `dir` locked.
        let mut ctx = unsafe { Context::<DirectoryLock>::enter() };
        // SAFETY: pinned by the caller.
        let dir = unsafe { Inode::<F>::from_raw(dir) };
        // SAFETY: pinned by the caller.
        let name = unsafe { Dentry::<F>::from_raw(dentry) };
        let inode = of_same(dir, F::make(&mut ctx, idmap, dir, name, new)?)?;
        // SAFETY: the dentry is negative; takes over the reference, to an inode of the
        // same superblock.
        unsafe { b::d_instantiate(dentry, ARef::into_raw(inode).as_ptr().cast()) };
        Ok(())
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    unsafe extern "C" fn mknod(
        idmap: *mut b::mnt_idmap,
        dir: *mut b::inode,
        dentry: *mut b::dentry,
        mode: b::umode_t,
        rdev: b::dev_t,
    ) -> c_int {
        // SAFETY: called as `make` asks.
        to_int(unsafe { Self::make(idmap, dir, dentry, New::Special { mode, rdev }) })
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    unsafe extern "C" fn symlink(
        idmap: *mut b::mnt_idmap,
        dir: *mut b::inode,
        dentry: *mut b::dentry,
        target: *const c_char,
    ) -> c_int {
        // SAFETY: a NUL-terminated string for the duration of the call.
        let target = unsafe { CStr::from_char_ptr(target) };
        // SAFETY: called as `make` asks.
        to_int(unsafe { Self::make(idmap, dir, dentry, New::Symlink { target }) })
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    unsafe extern "C" fn mkdir(
        idmap: *mut b::mnt_idmap,
        dir: *mut b::inode,
        dentry: *mut b::dentry,
        mode: b::umode_t,
    ) -> *mut b::dentry {
        // SAFETY: called as `make` asks.
        match unsafe {
            Self::make(
                idmap,
                dir,
                dentry,
                New::Directory {
                    mode: mode & 0o7777,
                },
            )
        } {
            // The dentry that was passed in has been used.
            Ok(()) => core::ptr::null_mut(),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    unsafe extern "C" fn link(
        old: *mut b::dentry,
        dir: *mut b::inode,
        dentry: *mut b::dentry,
    ) -> c_int {
        // SAFETY: the entry point of the operation, with `dir` locked.
        let mut ctx = unsafe { Context::<DirectoryLock>::enter() };
        // SAFETY: pinned by the caller.
        let old = unsafe { Dentry::<F>::from_raw(old) };
        // SAFETY: pinned by the caller.
        let dir = unsafe { Inode::<F>::from_raw(dir) };
        // SAFETY: pinned by the caller.
        let name = unsafe { Dentry::<F>::from_raw(dentry) };
        let linked = F::link(&mut ctx, old, dir, name);
        to_int(linked.and_then(|inode| of_same(dir, inode)).map(|inode| {
            // SAFETY: the dentry is negative; takes over the reference, to an inode of
            // the same superblock.
            unsafe { b::d_instantiate(dentry, ARef::into_raw(inode).as_ptr().cast()) }
        }))
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    unsafe extern "C" fn remove(dir: *mut b::inode, dentry: *mut b::dentry) -> c_int {
        // SAFETY: the entry point of the operation, with `dir` locked.
        let mut ctx = unsafe { Context::<DirectoryLock>::enter() };
        // SAFETY: pinned by the caller.
        let dir = unsafe { Inode::<F>::from_raw(dir) };
        // SAFETY: pinned by the caller.
        let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
        to_int(F::remove(&mut ctx, dir, dentry).map(|()| {
            // The dentry may stay as one of a name that is not there.
            dentry_ops::ask_if_needed(dentry, Found::Nothing(dir));
        }))
    }

    /// # Safety
    ///
    /// Only for the VFS to call.
    unsafe extern "C" fn rename(
        _idmap: *mut b::mnt_idmap,
        old_dir: *mut b::inode,
        old: *mut b::dentry,
        new_dir: *mut b::inode,
        new: *mut b::dentry,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: the entry point of the operation, with the directories locked.
        let mut ctx = unsafe { Context::<DirectoryLock>::enter() };
        // SAFETY: pinned by the caller.
        let old_dir = unsafe { Inode::<F>::from_raw(old_dir) };
        // SAFETY: pinned by the caller.
        let new_dir = unsafe { Inode::<F>::from_raw(new_dir) };
        // SAFETY: pinned by the caller.
        let old = unsafe { Dentry::<F>::from_raw(old) };
        // SAFETY: pinned by the caller.
        let new = unsafe { Dentry::<F>::from_raw(new) };
        to_int(F::rename(
            &mut ctx,
            (old_dir, old),
            (new_dir, new),
            RenameFlags::from_raw(flags),
        ))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, with a file that is not open yet.
    unsafe extern "C" fn tmpfile(
        idmap: *mut b::mnt_idmap,
        _dir: *mut b::inode,
        file: *mut b::file,
        mode: b::umode_t,
    ) -> c_int {
        // SAFETY: that of the caller's mount.
        let idmap = unsafe { Idmap::from_raw(idmap) };
        // SAFETY: the entry point of the operation, which holds no lock.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: the path of the file was set by the caller: a nameless dentry
        // in the directory.
        let dentry = unsafe { (*file).__bindgen_anon_1.f_path.dentry };
        // SAFETY: pinned by the file.
        let parent = unsafe { Dentry::<F>::from_raw(dentry) }.parent();
        let Some(tmpfile) = NonNull::new(file) else {
            return EINVAL.to_errno();
        };
        // SAFETY: the caller's until we return, with its path set and not open.
        let tmpfile = unsafe { TmpFile::from_raw(tmpfile) };
        let made = F::tmpfile(&mut ctx, idmap, &parent, tmpfile, mode & 0o7777);
        let (inode, backing) = match made {
            Ok(made) => made,
            Err(e) => return e.to_errno(),
        };
        // What `private_data` is depends on the operations of the inode.
        let same = inode.super_block().is_same(parent.super_block());
        if !same || !inode.is_regular() {
            return EIO.to_errno();
        }
        // SAFETY: being opened by us, as a regular file of `F`, and has nothing yet.
        unsafe { file_ops::set_backing(file, backing) };
        // SAFETY: the file is not open, its dentry is unhashed and negative.
        unsafe { b::d_mark_tmpfile(file, inode.as_ptr()) };
        // SAFETY: negative; takes over the reference.
        unsafe { b::d_instantiate(dentry, ARef::into_raw(inode).as_ptr().cast()) };
        // SAFETY: positive now, and the private data stands: nothing to do in
        // `opened`.
        let r = to_result(unsafe { b::finish_open(file, dentry, Some(Self::opened)) });
        // Once the file is open, closing it releases what it has.
        // SAFETY: the file is the caller's, who does not use it meanwhile.
        let opened = unsafe { (*file).f_mode } & b::FMODE_OPENED != 0;
        if r.is_err() && !opened {
            // SAFETY: set above, and the file is still ours alone.
            unsafe { file_ops::drop_backings(file) };
        }
        to_int(r)
    }

    /// # Safety
    ///
    /// Only for `finish_open` to call.
    unsafe extern "C" fn opened(_inode: *mut b::inode, _file: *mut b::file) -> c_int {
        0
    }
}

/// # Safety
///
/// Only for the VFS to call.
pub(super) unsafe extern "C" fn create<F: DirOperations>(
    idmap: *mut b::mnt_idmap,
    dir: *mut b::inode,
    dentry: *mut b::dentry,
    mode: b::umode_t,
) -> c_int {
    // SAFETY: called as `make` asks.
    to_int(unsafe {
        Table::<F>::make(
            idmap,
            dir,
            dentry,
            New::Regular {
                mode: mode & 0o7777,
            },
        )
    })
}
