// SPDX-License-Identifier: GPL-2.0

//! `struct file_operations` of regular files.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h);
//! `Documentation/filesystems/vfs.rst`, `Documentation/filesystems/locking.rst`.

use super::{
    bindings as b,
    compat::{self, EOPNOTSUPP},
    file::{can_direct_io, knows_nowait, Backings, Owner, RegularFile, UserFile},
    from_count,
    lock::{file_inode, Context, Held, LockedInode, Nothing},
    to_count, to_int, to_result, FileSystem,
};
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    cred::Credential,
    ffi::{c_int, c_long, c_uint},
    fs::File,
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    sync::aref::ARef,
};

pub(crate) use super::bindings::{REMAP_FILE_DEDUP, SEEK_DATA, SEEK_HOLE, SEEK_SET};

/// What the VFS asks of a regular file.
///
/// No method is called with a lock of the inode held, and all may sleep; only
/// [`FileOperations::mmap`] runs under `mmap_lock`, and gets no context: with
/// one it could take locks that are ordered before that one.
pub(crate) trait FileOperations: FileSystem {
    /// `->open`. Permission has been checked, leases are broken, and a file
    /// that is opened for writing is not being executed. The file that is returned
    /// is the first of [`RegularFile::backings`].
    fn open(ctx: &mut Context<Nothing>, file: &UserFile<Self>) -> Result<ARef<File>>;

    /// `->llseek`.
    fn llseek(
        ctx: &mut Context<Nothing>,
        file: &RegularFile<Self>,
        offset: i64,
        whence: u32,
    ) -> Result<i64>;

    /// `->read_iter`. `EIOCBQUEUED` for an asynchronous read that goes on.
    fn read_iter(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        to: &mut IovIterDest<'_>,
    ) -> Result<usize>;

    /// `->write_iter`. `EIOCBQUEUED` for an asynchronous write that goes on.
    fn write_iter(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize>;

    /// `->splice_read`, from the position in `iocb`, which it moves.
    fn splice_read(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        pipe: Pipe<'_>,
    ) -> Result<usize>;

    /// `->splice_write`, to the position in `iocb`, which it moves.
    fn splice_write(
        ctx: &mut Context<Nothing>,
        iocb: Iocb<'_, Self>,
        pipe: Pipe<'_>,
    ) -> Result<usize>;

    /// `->mmap`; `mmap_lock` is held for writing: nothing may wait for somebody
    /// who looks at this address space.
    fn mmap(file: &RegularFile<Self>, area: Area<'_, Self>) -> Result;

    /// `->fsync` of the bytes from `range.0` to `range.1`, both included.
    fn fsync(
        ctx: &mut Context<Nothing>,
        file: &RegularFile<Self>,
        range: (i64, i64),
        datasync: bool,
    ) -> Result;

    /// `->flush`: one descriptor of the file is being closed.
    fn flush(ctx: &mut Context<Nothing>, file: &RegularFile<Self>, owner: Owner) -> Result;

    /// `->fallocate`; the file is open for writing.
    fn fallocate(
        ctx: &mut Context<Nothing>,
        file: &RegularFile<Self>,
        mode: i32,
        offset: i64,
        len: i64,
    ) -> Result;

    /// `->fadvise` of `range.1` bytes at `range.0`.
    fn fadvise(
        ctx: &mut Context<Nothing>,
        file: &RegularFile<Self>,
        range: (i64, i64),
        advice: i32,
    ) -> Result;

    /// `->copy_file_range` between two files of this type of filesystem;
    /// `to` is open for writing.
    fn copy_file_range(
        ctx: &mut Context<Nothing>,
        from: (&RegularFile<Self>, i64),
        to: (&RegularFile<Self>, i64),
        len: usize,
        flags: u32,
    ) -> Result<usize>;

    /// `->remap_file_range` between two files of one mounted filesystem: clone,
    /// or with `REMAP_FILE_DEDUP` share what is the same. For a clone `to` is
    /// open for writing.
    fn remap_file_range(
        ctx: &mut Context<Nothing>,
        from: (&RegularFile<Self>, i64),
        to: (&RegularFile<Self>, i64),
        len: i64,
        flags: u32,
    ) -> Result<i64>;

    /// Something has been read from the file below, or it has been mapped.
    fn accessed(file: &RegularFile<Self>);

    /// A write to the file below has ended, well or not. The inode is locked,
    /// or, at the end of an asynchronous write, it runs in a workqueue without.
    fn end_write(file: &RegularFile<Self>);
}

/// `struct kiocb`: one read or write that has not begun. What begins it takes it:
/// an asynchronous one may have completed, and be gone, when that returns.
///
/// # Invariants
///
/// It is the caller's, and its file an open regular file of `F`. Who runs the
/// operation pins the file for `'a`, also if an asynchronous one completes
/// meanwhile.
pub(crate) struct Iocb<'a, F> {
    iocb: *mut b::kiocb,
    /// Of `ki_flags`, what the file below is not told.
    untold: c_int,
    _file: PhantomData<&'a mut F>,
}

impl<'a, F: FileOperations> Iocb<'a, F> {
    /// # Safety
    ///
    /// `iocb` is the caller's until the operation is started, and its file is an
    /// open regular file of `F` that the caller pins for `'a`.
    unsafe fn from_raw(iocb: *mut b::kiocb) -> Self {
        Self {
            iocb,
            untold: 0,
            _file: PhantomData,
        }
    }

    /// The write does not wait until the data is durable (`IOCB_DSYNC`, `IOCB_SYNC`), unless
    /// the file below is open so.
    pub(crate) fn without_sync(mut self) -> Self {
        self.untold = (b::IOCB_DSYNC | b::IOCB_SYNC) as c_int;
        self
    }

    /// `ki_filp`.
    pub(crate) fn file(&self) -> &'a RegularFile<F> {
        // SAFETY: the file is open and pinned for `'a` (type invariant).
        unsafe { RegularFile::<F>::from_raw((*self.iocb).ki_filp) }
    }

    fn flags(&self) -> c_int {
        // SAFETY: the iocb is valid (type invariant).
        unsafe { (*self.iocb).ki_flags & !self.untold }
    }

    /// `IOCB_NOWAIT`: `EAGAIN` instead of waiting for anything.
    pub(crate) fn is_nowait(&self) -> bool {
        self.flags() as c_uint & b::IOCB_NOWAIT != 0
    }

    /// What is asked for may have been found out with another file below.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`.
    fn check_nowait(&self, backing: &File) -> Result {
        match !self.is_nowait() || knows_nowait(backing) {
            true => Ok(()),
            false => Err(EOPNOTSUPP),
        }
    }

    /// [`Self::check_nowait`] for a write, and that none of what comes before it has to be waited
    /// for: set-id bits to be taken away, and a filesystem that is frozen.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`, `EAGAIN`.
    fn check_nowait_write(&self, backing: &File) -> Result {
        if !self.is_nowait() {
            return Ok(());
        }
        self.check_nowait(backing)?;
        // SAFETY: the file is open, so its operations stay.
        let fop_flags = unsafe { (*(*backing.as_ptr()).f_op).fop_flags };
        let is_direct = self.flags() as c_uint & b::IOCB_DIRECT != 0;
        if !is_direct && fop_flags & b::FOP_BUFFER_WASYNC == 0 {
            return Err(EOPNOTSUPP);
        }
        // SAFETY: the inode of an open file is live.
        let is_nosec = unsafe { b::rovl_inode_is_nosec(self.file().inode().as_ptr()) };
        // SAFETY: the file is open; nothing of what is taken is kept.
        match is_nosec && unsafe { b::rovl_file_may_write_now(backing.as_ptr()) } {
            true => Ok(()),
            false => Err(EAGAIN),
        }
    }

    /// `backing_file_read_iter`: reads from `backing`, as `cred`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where it is not to wait, and the filesystem below does not know that; what
    /// that one says else.
    pub(crate) fn read<H: Held>(
        self,
        _context: &mut Context<H>,
        backing: &File,
        cred: &Credential,
        to: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        self.check_nowait(backing)?;
        let mut ctx = backing_ctx::<F>(cred);
        // SAFETY: the iterator is valid and ours; file, iocb and credentials
        // live for the call. An asynchronous read keeps references of its own,
        // and no pointer to `ctx`.
        from_count(unsafe {
            b::backing_file_read_iter(
                backing.as_ptr(),
                to.as_raw(),
                self.iocb,
                self.flags(),
                &mut ctx,
            )
        })
    }

    /// `backing_file_write_iter`: writes to `backing`, as `cred`; set-id bits
    /// go as for the caller. Freeze protection is taken inside.
    ///
    /// # Errors
    ///
    /// `EIO` if `locked` is not the inode of the file; `EOPNOTSUPP` as for [`Self::read`]; what
    /// the filesystem below says else.
    pub(crate) fn write(
        self,
        locked: &mut LockedInode<'_, F>,
        backing: &File,
        cred: &Credential,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        locked.check(self.file().inode())?;
        self.check_nowait_write(backing)?;
        let mut ctx = backing_ctx::<F>(cred);
        // SAFETY: as for `read`; the inode of the user file is locked (checked).
        from_count(unsafe {
            b::backing_file_write_iter(
                backing.as_ptr(),
                from.as_raw(),
                self.iocb,
                self.flags(),
                &mut ctx,
            )
        })
    }

    /// `backing_file_splice_read`.
    pub(crate) fn splice_from<H: Held>(
        self,
        _context: &mut Context<H>,
        backing: &File,
        cred: &Credential,
        pipe: Pipe<'_>,
    ) -> Result<usize> {
        let mut ctx = backing_ctx::<F>(cred);
        // SAFETY: file, pipe, iocb and credentials live for the call.
        from_count(unsafe {
            b::backing_file_splice_read(
                backing.as_ptr(),
                self.iocb,
                pipe.pipe,
                pipe.len,
                pipe.flags,
                &mut ctx,
            )
        })
    }

    /// `backing_file_splice_write`; freeze protection is taken inside.
    ///
    /// # Errors
    ///
    /// As for [`Self::write`].
    pub(crate) fn splice_to(
        self,
        locked: &mut LockedInode<'_, F>,
        backing: &File,
        cred: &Credential,
        pipe: Pipe<'_>,
    ) -> Result<usize> {
        locked.check(self.file().inode())?;
        let mut ctx = backing_ctx::<F>(cred);
        // SAFETY: file, pipe, iocb and credentials live for the call; the inode
        // of the user file is locked (checked).
        from_count(unsafe {
            b::backing_file_splice_write(
                pipe.pipe,
                backing.as_ptr(),
                self.iocb,
                pipe.len,
                pipe.flags,
                &mut ctx,
            )
        })
    }
}

/// The pipe end of a splice: at most `len` bytes.
pub(crate) struct Pipe<'a> {
    pipe: *mut b::pipe_inode_info,
    len: usize,
    flags: c_uint,
    _pipe: PhantomData<&'a mut ()>,
}

/// `struct vm_area_struct` in `->mmap`: part of an address space that is being
/// set up, for the file that it is passed with.
///
/// # Invariants
///
/// It is the caller's for `'a`, and its file an open regular file of `F`.
pub(crate) struct Area<'a, F>(*mut b::vm_area_struct, PhantomData<&'a mut F>);

impl<F: FileOperations> Area<'_, F> {
    /// `backing_file_mmap`: maps `backing` in place of the user file.
    pub(crate) fn map(self, backing: &File, cred: &Credential) -> Result {
        let mut ctx = backing_ctx::<F>(cred);
        // SAFETY: the area is ours to set up, and its file, which `ctx` is called
        // with, is one of `F` (type invariant).
        to_result(unsafe { b::backing_file_mmap(backing.as_ptr(), self.0, &mut ctx) })
    }
}

/// `splice_file_range`: copies between two files through a pipe, where
/// `->copy_file_range` knows nothing better.
pub(crate) fn splice_file_range<F: FileOperations>(
    _context: &mut Context<Nothing>,
    (from, mut from_pos): (&RegularFile<F>, i64),
    (to, mut to_pos): (&RegularFile<F>, i64),
    len: usize,
) -> Result<usize> {
    if from_pos < 0 || to_pos < 0 {
        return Err(EINVAL);
    }
    // SAFETY: both files are open and no inode is locked; called within
    // `->copy_file_range`, where freeze protection of `to` is held.
    from_count(unsafe {
        b::splice_file_range(from.as_ptr(), &mut from_pos, to.as_ptr(), &mut to_pos, len)
    })
}

/// What `backing_file_*` call back.
fn backing_ctx<F: FileOperations>(cred: &Credential) -> b::backing_file_ctx {
    b::backing_file_ctx {
        cred: cred.as_ptr(),
        accessed: Some(Table::<F>::accessed),
        end_write: Some(Table::<F>::end_write),
    }
}

/// Gives a file that is being opened the file on which it stands. It may be used with
/// `O_DIRECT` and `RWF_NOWAIT` if that one may.
///
/// # Safety
///
/// `file` is being opened by the caller alone, with the operations of this file, and
/// has nothing yet. If it is not opened in the end, [`drop_backings`] must follow.
pub(super) unsafe fn set_backing(file: *mut b::file, backing: ARef<File>) {
    if can_direct_io(&backing) {
        // SAFETY: per the contract the file is the caller's alone.
        unsafe { (*file).f_mode |= b::FMODE_CAN_ODIRECT };
    }
    if knows_nowait(&backing) {
        // SAFETY: as above.
        unsafe { (*file).f_mode |= b::FMODE_NOWAIT };
    }
    // SAFETY: as above.
    unsafe { (*file).private_data = Backings::new(backing).into_raw() };
}

/// Takes back what [`set_backing`] gave to a file.
///
/// # Safety
///
/// `file` has the operations of this file, nobody else uses it, and what it may have in
/// `private_data` is from [`set_backing`].
pub(super) unsafe fn drop_backings(file: *mut b::file) {
    // SAFETY: per the contract nobody else uses the file.
    let private = unsafe { core::mem::replace(&mut (*file).private_data, core::ptr::null_mut()) };
    if let Some(place) = NonNull::new(private) {
        // SAFETY: what `set_backing` wrote there, which is not used again.
        drop(unsafe { Backings::from_raw(place) });
    }
}

/// The `file_operations` for regular files of `F`.
pub(super) fn operations<F: FileOperations>() -> *const b::file_operations {
    Table::<F>::OPERATIONS
}

struct Table<F>(PhantomData<F>);

impl<F: FileOperations> Table<F> {
    const OPERATIONS: &'static b::file_operations = &b::file_operations {
        owner: compat::THIS_MODULE,
        // Not `FOP_BUFFER_RASYNC`: `backing_file_read_iter` does not hand `ki_waitq` on.
        fop_flags: b::FOP_BUFFER_WASYNC,
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(Self::llseek),
        read_iter: Some(Self::read_iter),
        write_iter: Some(Self::write_iter),
        splice_read: Some(Self::splice_read),
        splice_write: Some(Self::splice_write),
        mmap: Some(Self::mmap),
        fsync: Some(Self::fsync),
        flush: Some(Self::flush),
        fallocate: Some(Self::fallocate),
        fadvise: Some(Self::fadvise),
        copy_file_range: Some(Self::copy_file_range),
        remap_file_range: Some(Self::remap_file_range),
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
        let user_file = unsafe { UserFile::<F>::from_raw(file) };
        to_int(F::open(&mut ctx, user_file).map(|backing| {
            // SAFETY: being opened, has nothing yet; `->release` follows.
            unsafe { set_backing(file, backing) }
        }))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, when the last reference to the file goes.
    unsafe extern "C" fn release(_inode: *mut b::inode, file: *mut b::file) -> c_int {
        // SAFETY: nobody else uses it; set by `open` or for a `->tmpfile`.
        unsafe { drop_backings(file) };
        0
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open file.
    unsafe extern "C" fn llseek(file: *mut b::file, offset: b::loff_t, whence: c_int) -> b::loff_t {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: open, so `open` has run; pinned by the caller.
        let file = unsafe { RegularFile::<F>::from_raw(file) };
        to_count(F::llseek(&mut ctx, file, offset, whence as u32)) as b::loff_t
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open file.
    unsafe extern "C" fn read_iter(iocb: *mut b::kiocb, to: *mut b::iov_iter) -> isize {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: the caller's, for us until this returns or completes.
        let iocb = unsafe { Iocb::<F>::from_raw(iocb) };
        // SAFETY: the caller's, a destination, for us until this returns.
        let to = unsafe { IovIterDest::from_raw(to) };
        to_count(F::read_iter(&mut ctx, iocb, to))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a file that is open for writing.
    unsafe extern "C" fn write_iter(iocb: *mut b::kiocb, from: *mut b::iov_iter) -> isize {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: the caller's, for us until this returns or completes.
        let iocb = unsafe { Iocb::<F>::from_raw(iocb) };
        // SAFETY: the caller's, a source, for us until this returns.
        let from = unsafe { IovIterSource::from_raw(from) };
        to_count(F::write_iter(&mut ctx, iocb, from))
    }

    /// Runs one splice with a synchronous iocb for the file at `*pos`.
    ///
    /// # Safety
    ///
    /// `file` is an open regular file of `F`, `pos` is valid and the caller's.
    unsafe fn splice(
        file: *mut b::file,
        pos: *mut b::loff_t,
        run: impl FnOnce(&mut Context<Nothing>, Iocb<'_, F>) -> Result<usize>,
    ) -> isize {
        let mut kiocb: b::kiocb = pin_init::zeroed();
        // SAFETY: the file is open, and pinned for the call.
        unsafe { b::rovl_init_sync_kiocb(&mut kiocb, file) };
        // SAFETY: per the contract.
        kiocb.ki_pos = unsafe { *pos };
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: ours, for an open file, and synchronous.
        let iocb = unsafe { Iocb::<F>::from_raw(&mut kiocb) };
        let spliced = run(&mut ctx, iocb);
        // SAFETY: per the contract.
        unsafe { *pos = kiocb.ki_pos };
        to_count(spliced)
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open file.
    unsafe extern "C" fn splice_read(
        file: *mut b::file,
        pos: *mut b::loff_t,
        pipe: *mut b::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        let pipe = Pipe {
            pipe,
            len,
            flags,
            _pipe: PhantomData,
        };
        // SAFETY: an open file and the caller's position.
        unsafe { Self::splice(file, pos, |ctx, iocb| F::splice_read(ctx, iocb, pipe)) }
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a file that is open for writing.
    unsafe extern "C" fn splice_write(
        pipe: *mut b::pipe_inode_info,
        file: *mut b::file,
        pos: *mut b::loff_t,
        len: usize,
        flags: c_uint,
    ) -> isize {
        let pipe = Pipe {
            pipe,
            len,
            flags,
            _pipe: PhantomData,
        };
        // SAFETY: an open file and the caller's position.
        unsafe { Self::splice(file, pos, |ctx, iocb| F::splice_write(ctx, iocb, pipe)) }
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open file.
    unsafe extern "C" fn mmap(file: *mut b::file, vma: *mut b::vm_area_struct) -> c_int {
        // SAFETY: open, so `open` has run; pinned by the caller.
        let file = unsafe { RegularFile::<F>::from_raw(file) };
        to_int(F::mmap(file, Area(vma, PhantomData)))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open file.
    unsafe extern "C" fn fsync(
        file: *mut b::file,
        start: b::loff_t,
        end: b::loff_t,
        datasync: c_int,
    ) -> c_int {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: open, so `open` has run; pinned by the caller.
        let file = unsafe { RegularFile::<F>::from_raw(file) };
        to_int(F::fsync(&mut ctx, file, (start, end), datasync != 0))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open file.
    unsafe extern "C" fn flush(file: *mut b::file, owner: b::fl_owner_t) -> c_int {
        // SAFETY: open, so `open` has run; pinned by the caller.
        let file = unsafe { RegularFile::<F>::from_raw(file) };
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        to_int(F::flush(&mut ctx, file, Owner::from_raw(owner)))
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on a file that is open for writing.
    unsafe extern "C" fn fallocate(
        file: *mut b::file,
        mode: c_int,
        offset: b::loff_t,
        len: b::loff_t,
    ) -> c_long {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: open, so `open` has run; pinned by the caller.
        let file = unsafe { RegularFile::<F>::from_raw(file) };
        to_int(F::fallocate(&mut ctx, file, mode, offset, len)) as c_long
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on an open file.
    unsafe extern "C" fn fadvise(
        file: *mut b::file,
        offset: b::loff_t,
        len: b::loff_t,
        advice: c_int,
    ) -> c_int {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: open, so `open` has run; pinned by the caller.
        let file = unsafe { RegularFile::<F>::from_raw(file) };
        to_int(F::fadvise(&mut ctx, file, (offset, len), advice))
    }

    /// The other file of an operation on two, if it is a regular file of `F` as
    /// `known` is.
    ///
    /// # Safety
    ///
    /// `file` is open and pinned for `'a`.
    unsafe fn other<'a>(file: *mut b::file, known: &RegularFile<F>) -> Result<&'a RegularFile<F>> {
        // SAFETY: open per the contract.
        let inode = file_inode(unsafe { File::from_raw_file(file) });
        let same_type = inode
            .super_block()
            .is_same_type(known.inode().super_block());
        // SAFETY: both are open, so their operations stay.
        let same_operations = unsafe { core::ptr::eq((*file).f_op, (*known.as_ptr()).f_op) };
        if !same_type || !same_operations {
            return Err(EXDEV);
        }
        // SAFETY: of the type of a file that is of `F`, with the operations of its
        // regular files, so our `open` has run on it.
        Ok(unsafe { RegularFile::from_raw(file) })
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on two open files, `out` for writing.
    unsafe extern "C" fn copy_file_range(
        file: *mut b::file,
        pos: b::loff_t,
        out: *mut b::file,
        out_pos: b::loff_t,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // SAFETY: open, so `open` has run; pinned by the caller.
        let to = unsafe { RegularFile::<F>::from_raw(out) };
        // SAFETY: open, pinned by the caller.
        let from = unsafe { Self::other(file, to) };
        to_count(
            from.and_then(|from| {
                F::copy_file_range(&mut ctx, (from, pos), (to, out_pos), len, flags)
            }),
        )
    }

    /// # Safety
    ///
    /// Only for the VFS to call, on two open files of one mounted filesystem.
    unsafe extern "C" fn remap_file_range(
        file: *mut b::file,
        pos: b::loff_t,
        out: *mut b::file,
        out_pos: b::loff_t,
        len: b::loff_t,
        flags: c_uint,
    ) -> b::loff_t {
        // SAFETY: the entry point of the operation; no locks are held.
        let mut ctx = unsafe { Context::<Nothing>::enter() };
        // To clone, the VFS calls the operation of the source, and to dedupe that
        // of the target. It has found both to be regular files of one filesystem.
        // SAFETY: open, so `open` has run; pinned by the caller.
        let from = unsafe { RegularFile::<F>::from_raw(file) };
        // SAFETY: open, pinned by the caller.
        let to = unsafe { Self::other(out, from) };
        to_count(
            to.and_then(|to| F::remap_file_range(&mut ctx, (from, pos), (to, out_pos), len, flags)),
        ) as b::loff_t
    }

    /// # Safety
    ///
    /// Only for `backing_file_*` to call, with the user file of the operation.
    unsafe extern "C" fn accessed(file: *mut b::file) {
        // SAFETY: open, pinned by the operation that has called us.
        F::accessed(unsafe { RegularFile::from_raw(file) });
    }

    /// # Safety
    ///
    /// Only for `backing_file_*` to call, with the iocb of the operation.
    unsafe extern "C" fn end_write(iocb: *mut b::kiocb, _res: isize) {
        // SAFETY: the iocb is valid until it completes, and pins its file.
        let file = unsafe { RegularFile::from_raw((*iocb).ki_filp) };
        F::end_write(file);
    }
}
