// SPDX-License-Identifier: GPL-2.0

//! `struct file_operations` of directories.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h) (`struct
//! dir_context`); `Documentation/filesystems/locking.rst`.

use super::{
    bindings as b, compat,
    file::{DirectoryFile, UserFile},
    lock::{Context, DirectoryLock, Nothing},
    to_int, FileSystem,
};
use core::marker::PhantomData;
use kernel::{
    ffi::{c_int, c_uint},
    prelude::*,
};

pub(crate) use super::bindings::{DT_CHR, DT_DIR, DT_REG, DT_UNKNOWN};

/// What the VFS asks of a directory that is open.
pub(crate) trait ReaddirOperations: FileSystem {
    /// `->open`; no locks are held. What is returned stays with the file until
    /// the last reference to it has gone.
    fn open(ctx: &mut Context<Nothing>, dir: &UserFile<Self>) -> Result<Self::Directory>;

    /// `->iterate_shared`: emits entries from the position in `out` until there
    /// are no more or there is no room for the next.
    ///
    /// The `i_rwsem` of the directory is held shared, and the position of the
    /// file is locked: several files of one directory may be read at a time,
    /// but each by one task.
    fn iterate_shared(
        ctx: &mut Context<DirectoryLock>,
        dir: &DirectoryFile<Self>,
        out: &mut DirContext<'_>,
    ) -> Result;

    /// `->fsync`; no locks are held.
    fn fsync(ctx: &mut Context<Nothing>, dir: &DirectoryFile<Self>) -> Result;
}

/// `struct dir_context`: where the entries go.
pub(crate) struct DirContext<'a>(&'a mut b::dir_context);

impl DirContext<'_> {
    /// The position of the next entry. It may be anything that a user has
    /// seeked to, but is not negative.
    pub(crate) fn pos(&self) -> i64 {
        self.0.pos
    }

    /// Moves on to the entry at `pos`.
    pub(crate) fn set_pos(&mut self, pos: i64) {
        self.0.pos = pos;
    }

    pub(super) fn as_c(&mut self) -> *mut b::dir_context {
        self.0
    }

    /// How many bytes there may be room for, as the user of the entries says.
    pub(super) fn count(&self) -> c_int {
        self.0.count
    }

    /// `dir_emit`: passes the entry at the position on. False if there was no
    /// room for it: it comes first next time.
    #[must_use]
    pub(crate) fn emit(&mut self, name: &[u8], ino: u64, d_type: u8) -> bool {
        let (Some(actor), Ok(len)) = (self.0.actor, c_int::try_from(name.len())) else {
            return false;
        };
        let (ctx, pos) = (&raw mut *self.0, self.0.pos);
        // SAFETY: the actor of this context; the name lives for the call.
        unsafe {
            actor(
                ctx,
                name.as_ptr().cast(),
                len,
                pos,
                ino,
                c_uint::from(d_type),
            )
        }
    }
}

/// The `file_operations` for directories of `F`.
pub(super) fn operations<F: ReaddirOperations>() -> *const b::file_operations {
    Table::<F>::OPERATIONS
}

struct Table<F>(PhantomData<F>);

impl<F: ReaddirOperations> Table<F> {
    const OPERATIONS: &'static b::file_operations = &b::file_operations {
        owner: compat::THIS_MODULE,
        open: Some(Self::open),
        release: Some(Self::release),
        read: Some(b::generic_read_dir),
        llseek: Some(Self::llseek),
        iterate_shared: Some(Self::iterate_shared),
        fsync: Some(Self::fsync),
        setlease: Some(b::generic_setlease),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Only for the VFS to call, with a file that is being opened.
    unsafe extern "C" fn open(_inode: *mut b::inode, file: *mut b::file) -> c_int {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: path and inode were set before this is called.
        let dir = unsafe { UserFile::<F>::from_raw(file) };
        let private =
            F::open(&mut ctx, dir).and_then(|private| Ok(KBox::new(private, GFP_KERNEL)?));
        to_int(private.map(|private| {
            // SAFETY: the file is being opened, and nobody else uses it.
            unsafe { (*file).private_data = KBox::into_raw(private).cast() };
        }))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, when the last reference to the file goes.
    unsafe extern "C" fn release(_inode: *mut b::inode, file: *mut b::file) -> c_int {
        // SAFETY: still valid, and nobody else uses it.
        let private = unsafe { (*file).private_data };
        // SAFETY: the box that `open` stored; this runs once.
        drop(unsafe { KBox::from_raw(private.cast::<F::Directory>()) });
        0
    }

    /// Positions are cookies of the filesystem: one can go back to one that was
    /// there, and to the start.
    ///
    /// # Safety
    ///
    /// Only for the VFS to call, on an open directory.
    unsafe extern "C" fn llseek(file: *mut b::file, offset: b::loff_t, whence: c_int) -> b::loff_t {
        if !matches!(whence as u32, b::SEEK_SET | b::SEEK_CUR) {
            return EINVAL.to_errno().into();
        }
        // SAFETY: open, pinned by the caller.
        let dir = unsafe { UserFile::<F>::from_raw(file) };
        match dir.seek(offset, whence as u32, i64::MAX, 0) {
            Ok(at) => at,
            Err(e) => e.to_errno().into(),
        }
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open directory that is locked.
    unsafe extern "C" fn iterate_shared(file: *mut b::file, out: *mut b::dir_context) -> c_int {
        // SAFETY: the entry point of the operation, with the directory locked.
        let mut ctx = unsafe { Context::<DirectoryLock>::enter() };
        // SAFETY: open, so `open` has run; pinned by the caller.
        let dir = unsafe { DirectoryFile::<F>::from_raw(file) };
        // SAFETY: the caller's, for us until this returns.
        let mut out = DirContext(unsafe { &mut *out });
        to_int(F::iterate_shared(&mut ctx, dir, &mut out))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open directory.
    unsafe extern "C" fn fsync(
        file: *mut b::file,
        _start: b::loff_t,
        _end: b::loff_t,
        _datasync: c_int,
    ) -> c_int {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: open, so `open` has run; pinned by the caller.
        let dir = unsafe { DirectoryFile::<F>::from_raw(file) };
        to_int(F::fsync(&mut ctx, dir))
    }
}
