// SPDX-License-Identifier: GPL-2.0

//! Open files: those of a filesystem written on this module, and the backing
//! files of other filesystems that stand below them.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/backing-file.h`](srctree/include/linux/backing-file.h)

use super::{
    bindings as b,
    flags::OpenFlags,
    from_count,
    lock::{file_inode, Context, Held, LockedInode, MayLockDirectory, WriteAccess},
    to_result, Dentry, FileSystem, Inode, Path,
};
use core::{
    marker::PhantomData,
    mem::{align_of, size_of},
    ops::Deref,
    ptr::NonNull,
};
use kernel::{
    cred::Credential,
    error::from_err_ptr,
    ffi::{c_int, c_void},
    fs::File,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Full, Relaxed},
    },
    types::Opaque,
};

/// `struct file` of a filesystem of type `F`: open, or being opened.
///
/// # Invariants
///
/// The file is counted while it is borrowed, its path and its inode are set and
/// belong to a filesystem of type `F`.
#[repr(transparent)]
pub(crate) struct UserFile<F>(Opaque<b::file>, PhantomData<fn() -> F>);

// SAFETY: files may be used from any task.
unsafe impl<F> Send for UserFile<F> {}
// SAFETY: what can be done through a shared reference is atomic or locks in C.
unsafe impl<F> Sync for UserFile<F> {}

impl<F: FileSystem> UserFile<F> {
    /// # Safety
    ///
    /// `ptr` is a counted file for `'a` with path and inode on a filesystem of
    /// type `F`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut b::file) -> &'a Self {
        // SAFETY: per the contract; `UserFile` is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_ptr(&self) -> *mut b::file {
        self.0.get()
    }

    /// `file_inode`.
    pub(crate) fn inode(&self) -> &Inode<F> {
        // SAFETY: the inode of a file does not change, is pinned by it, and is
        // of `F` (type invariant).
        unsafe { Inode::from_raw((*self.as_ptr()).f_inode) }
    }

    /// `f_path.dentry`.
    pub(crate) fn dentry(&self) -> &Dentry<F> {
        // SAFETY: the path of a file does not change, is pinned by it, and is
        // of `F` (type invariant).
        unsafe { Dentry::from_raw((*self.as_ptr()).__bindgen_anon_1.f_path.dentry) }
    }

    /// `f_flags`: `O_*`, as they are now; `F_SETFL` changes some of them.
    pub(crate) fn flags(&self) -> OpenFlags {
        // SAFETY: the file is valid; an aligned word that C reads the same way.
        OpenFlags::from_raw(unsafe { (&raw const (*self.as_ptr()).f_flags).read_volatile() })
    }

    /// `FMODE_WRITE`: opened for writing.
    pub(crate) fn is_writable(&self) -> bool {
        // SAFETY: the file is valid; the bit is set before `->open` and stays.
        unsafe { (*self.as_ptr()).f_mode & b::FMODE_WRITE != 0 }
    }

    /// `__FMODE_EXEC`: opened to be executed.
    pub(crate) fn is_executed(&self) -> bool {
        self.flags().has(OpenFlags::EXECUTED)
    }

    /// Whether reading from the file may change its access time: the one question
    /// of `touch_atime` that needs no look at the inode.
    pub(crate) fn updates_atime(&self) -> bool {
        // SAFETY: the path of a file does not change, and is pinned by it.
        let mnt = unsafe { (*self.as_ptr()).__bindgen_anon_1.f_path.mnt };
        // SAFETY: the mount is valid; an aligned word that C reads the same way.
        let mnt_flags = unsafe { (&raw const (*mnt).mnt_flags).read_volatile() };
        !self.flags().has(OpenFlags::NO_ATIME) && mnt_flags as u32 & b::MNT_NOATIME == 0
    }

    /// `file_accessed`: the file has been read from.
    pub(crate) fn accessed(&self) {
        if self.updates_atime() {
            // SAFETY: the file pins its path.
            unsafe { b::touch_atime(&(*self.as_ptr()).__bindgen_anon_1.f_path) };
        }
    }

    /// `backing_file_open`: opens `path`, of another filesystem, as the file
    /// that stands below this one, if `cred` may open it so. Whoever watches that
    /// filesystem is told, and may be asked for permission (`FAN_OPEN_PERM`): what he
    /// looks at first may not be locked. So this takes a context, which `->mmap` has
    /// not.
    ///
    /// # Errors
    ///
    /// `EACCES` if `cred` may not, `EPERM` for an immutable file and writing; what the
    /// filesystem says else.
    pub(crate) fn open_backing<H: Held>(
        &self,
        _context: &mut Context<H>,
        path: Path<'_>,
        flags: OpenFlags,
        cred: &Credential,
    ) -> Result<ARef<File>> {
        path.may_open(flags, cred)?;
        let path = path.as_c();
        let flags = flags.raw();
        // SAFETY: the file has its path, `path` is positive (checked), and the callee
        // takes references of its own.
        let file =
            unsafe { b::backing_file_open(self.as_ptr(), flags as c_int, &path, cred.as_ptr()) };
        // SAFETY: as `backing_file_open` returns it.
        unsafe { own_file(file) }
    }

    /// As [`UserFile::open_backing`], with nobody told, asked or waited for
    /// (`FMODE_NONOTIFY`, `O_NONBLOCK`), for `->mmap`: a listener, or who holds a
    /// lease, that looks at the address space before he answers would wait for
    /// `mmap_lock`, and we for him.
    ///
    /// # Errors
    ///
    /// As there, and `EAGAIN` while somebody has still to give a lease up.
    pub(crate) fn open_backing_unnoticed(
        &self,
        path: Path<'_>,
        flags: OpenFlags,
        cred: &Credential,
    ) -> Result<ARef<File>> {
        path.may_open(flags, cred)?;
        let below = path.inode()?.flags();
        let may_change = below & b::S_IMMUTABLE == 0;
        let may_overwrite = below & b::S_APPEND == 0 || flags.has(OpenFlags::APPEND);
        if flags.has(OpenFlags::ACCESS_MODE) && !(may_change && may_overwrite) {
            return Err(EPERM);
        }
        let flags = flags.raw();
        let path = path.as_c();
        let how = (flags | b::O_NONBLOCK) as c_int;
        // SAFETY: the user file is valid; the result is ours alone.
        let file = unsafe { b::alloc_empty_backing_file(how, cred.as_ptr(), self.as_ptr()) };
        let file = NonNull::new(from_err_ptr(file)?).ok_or(EIO)?;
        let file = Unopened(file);
        // SAFETY: the file is ours alone and not open yet.
        unsafe { b::rovl_file_set_nonotify(file.as_ptr()) };
        // SAFETY: the user file is valid, and its path does not change.
        let user_path = unsafe { b::rovl_file_user_path(self.as_ptr()) };
        // SAFETY: the user file pins its path.
        unsafe { b::path_get(user_path) };
        // SAFETY: ours alone and without a path; it takes over the references
        // taken above, and drops them in the end.
        unsafe { b::backing_file_set_user_path(file.as_ptr(), user_path) };
        // SAFETY: ours alone and not open; opening it takes a reference.
        unsafe { (*file.as_ptr()).__bindgen_anon_1.__f_path.mnt = path.mnt };
        // SAFETY: not open, with its mount set; the dentry is positive, since
        // `inode` found one, and pinned by `path`.
        to_result(unsafe { b::finish_open(file.as_ptr(), path.dentry, None) })?;
        // SAFETY: counted for us, and open.
        let file = unsafe { own_file(file.into_raw()) }?;
        // SAFETY: the file is open; takes its `f_lock`.
        unsafe { b::rovl_file_set_flags(file.as_ptr(), b::O_NONBLOCK, flags) };
        Ok(file)
    }

    /// `file_remove_privs`: a write is about to take set-id bits and file
    /// capabilities away. Runs `->setattr` of this filesystem, as the caller.
    ///
    /// # Errors
    ///
    /// `EIO` if `locked` is not the inode of this file.
    pub(crate) fn remove_privileges(&self, locked: &mut LockedInode<'_, F>) -> Result {
        locked.check(self.inode())?;
        // SAFETY: the file is open, its inode locked (checked).
        to_result(unsafe { b::file_remove_privs(self.as_ptr()) })
    }

    /// `generic_file_llseek_size`: sets the position, for all but `SEEK_DATA`
    /// and `SEEK_HOLE`.
    pub(crate) fn seek(&self, offset: i64, whence: u32, max: i64, eof: i64) -> Result<i64> {
        // SAFETY: the file is open.
        let at = unsafe {
            b::generic_file_llseek_size(self.as_ptr(), offset, whence as c_int, max, eof)
        };
        from_offset(at)
    }
}

/// An open directory.
///
/// # Invariants
///
/// As [`UserFile`], and the file is open: `private_data` is a `KBox<F::Directory>`
/// which `->release` frees.
#[repr(transparent)]
pub(crate) struct DirectoryFile<F>(UserFile<F>);

impl<F: FileSystem> DirectoryFile<F> {
    /// # Safety
    ///
    /// `ptr` is an open directory for `'a` on a filesystem of type `F`, whose
    /// `->open` stored a `KBox<F::Directory>` in `private_data`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut b::file) -> &'a Self {
        // SAFETY: per the contract; both types are transparent.
        unsafe { &*ptr.cast() }
    }

    /// What the filesystem keeps for this open directory.
    pub(crate) fn data(&self) -> &F::Directory {
        // SAFETY: a box that lives until `->release` (type invariant), which
        // runs when nobody borrows the file any more.
        unsafe { &*(*self.as_ptr()).private_data.cast::<F::Directory>() }
    }
}

impl<F> Deref for DirectoryFile<F> {
    type Target = UserFile<F>;

    fn deref(&self) -> &UserFile<F> {
        &self.0
    }
}

/// An open regular file.
///
/// # Invariants
///
/// As [`UserFile`], and the file is open: `private_data` is a [`Backings`] which
/// `->release` drops.
#[repr(transparent)]
pub(crate) struct RegularFile<F>(UserFile<F>);

impl<F: FileSystem> RegularFile<F> {
    /// # Safety
    ///
    /// `ptr` is an open regular file for `'a` on a filesystem of type `F`, whose
    /// `->open` has stored a [`Backings`] in `private_data`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut b::file) -> &'a Self {
        // SAFETY: per the contract; both types are transparent.
        unsafe { &*ptr.cast() }
    }

    /// The files on which this one stands.
    pub(crate) fn backings(&self) -> &Backings {
        // SAFETY: the field of a valid file.
        let place = unsafe { &raw const (*self.as_ptr()).private_data };
        // SAFETY: it is that until `->release` (type invariant), which runs when nobody
        // borrows the file any more, and all use of it is atomic till then.
        unsafe { &*place.cast::<Backings>() }
    }
}

impl<F> Deref for RegularFile<F> {
    type Target = UserFile<F>;

    fn deref(&self) -> &UserFile<F> {
        &self.0
    }
}

/// The files on which an open file stands: the one it was opened with, and perhaps
/// another that has been opened since. It is `private_data` itself: most files never
/// have a second one, and take no memory for it.
///
/// # Invariants
///
/// Either a counted `struct file`, or with the lowest bit set a `KBox<TwoFiles>`. The one
/// may become the other, once and atomically, and the first file stays.
#[repr(transparent)]
pub(crate) struct Backings(Atomic<*mut c_void>);

struct TwoFiles {
    first: ARef<File>,
    later: ARef<File>,
}

// A file has fields that are larger than a byte, and so has a pair of pointers.
static_assert!(align_of::<b::file>() > 1 && align_of::<TwoFiles>() > 1);
static_assert!(size_of::<Backings>() == size_of::<*mut c_void>());

impl Backings {
    const TWO: usize = 1;

    pub(super) fn new(first: ARef<File>) -> Self {
        // INVARIANT: the reference is counted, and an aligned address.
        Self(Atomic::new(ARef::into_raw(first).as_ptr().cast()))
    }

    /// # Safety
    ///
    /// `raw` is from [`Backings::into_raw`], and is not used again.
    pub(super) unsafe fn from_raw(raw: NonNull<c_void>) -> Self {
        // INVARIANT: per the contract.
        Self(Atomic::new(raw.as_ptr()))
    }

    /// What is to be in `private_data`.
    pub(super) fn into_raw(self) -> *mut c_void {
        let raw = self.0.load(Relaxed);
        core::mem::forget(self);
        raw
    }

    /// The file it was opened with, and the one that has been opened since, if there is
    /// one.
    pub(crate) fn get(&self) -> (&File, Option<&File>) {
        let place = self.0.load(Acquire);
        if place.addr() & Self::TWO == 0 {
            // SAFETY: a file (type invariant), to which this has a reference.
            return (unsafe { &*place.cast::<File>() }, None);
        }
        let two = place.map_addr(|a| a & !Self::TWO).cast::<TwoFiles>();
        // SAFETY: two files (type invariant), which stay, and were written before.
        let two = unsafe { &*two };
        (&two.first, Some(&two.later))
    }

    /// The one that was opened last.
    pub(crate) fn latest(&self) -> &File {
        let (first, later) = self.get();
        later.unwrap_or(first)
    }

    /// Keeps a later file, unless there is one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn set_later(&self, later: ARef<File>) -> Result {
        let memory = KBox::new_uninit(GFP_KERNEL)?;
        let place = self.0.load(Acquire);
        if place.addr() & Self::TWO != 0 {
            return Ok(());
        }
        // SAFETY: a file (type invariant), so not null.
        let first = unsafe { NonNull::new_unchecked(place.cast::<File>()) };
        // SAFETY: the reference of `self`, until the exchange below; nothing drops this one
        // before that.
        let first = unsafe { ARef::from_raw(first) };
        let two = KBox::into_raw(KBox::write(memory, TwoFiles { first, later }));
        let tagged = two.map_addr(|a| a | Self::TWO).cast::<c_void>();
        // INVARIANT: two files, with the bit set, of which the first is what was here.
        // Full: they are written before.
        if self.0.cmpxchg(place, tagged, Full).is_err() {
            // SAFETY: made above, and seen by nobody.
            let two = KBox::into_inner(unsafe { KBox::from_raw(two) });
            // The reference is that of whoever was faster.
            core::mem::forget(two.first);
        }
        Ok(())
    }
}

impl Drop for Backings {
    fn drop(&mut self) {
        let place = self.0.load(Relaxed);
        if place.addr() & Self::TWO != 0 {
            let two = place.map_addr(|a| a & !Self::TWO).cast::<TwoFiles>();
            // SAFETY: the box (type invariant), which nobody uses any more.
            drop(unsafe { KBox::from_raw(two) });
        } else {
            // SAFETY: a file (type invariant), so not null.
            let file = unsafe { NonNull::new_unchecked(place.cast::<File>()) };
            // SAFETY: the reference of `self`.
            drop(unsafe { ARef::from_raw(file) });
        }
    }
}

/// Takes over a file that a C function returned, or its error.
///
/// # Safety
///
/// `file` is an error pointer, or counted for the caller and known to nobody
/// else.
unsafe fn own_file(file: *mut b::file) -> Result<ARef<File>> {
    let file = NonNull::new(from_err_ptr(file)?).ok_or(EIO)?;
    // SAFETY: counted for us; nobody else knows it, so no `fdget_pos` is on it.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}

/// A file that has been allocated and is not open.
///
/// # Invariants
///
/// It is counted for us, and known to nobody else.
struct Unopened(NonNull<b::file>);

impl Unopened {
    fn as_ptr(&self) -> *mut b::file {
        self.0.as_ptr()
    }

    /// The file, which has been opened, and the reference to it.
    fn into_raw(self) -> *mut b::file {
        let file = self.0.as_ptr();
        core::mem::forget(self);
        file
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        // SAFETY: the reference is ours (type invariant). `fput` takes files that
        // could not be opened.
        unsafe { b::fput(self.0.as_ptr()) };
    }
}

/// The flags with which the backing file of a file with `flags` is opened:
/// without those that make or empty a file.
pub(crate) fn backing_flags(flags: OpenFlags) -> OpenFlags {
    flags.without(
        OpenFlags::CREATE | OpenFlags::EXCLUSIVE | OpenFlags::NO_CTTY | OpenFlags::TRUNCATE,
    )
}

/// A file of `F` that `->tmpfile` is to open: it has a path, to a dentry that is
/// negative yet, and nothing else. So it is no [`File`], which has an inode and
/// operations.
///
/// # Invariants
///
/// It is the caller's for `'a`, with its flags and path set, and not open.
pub(crate) struct TmpFile<'a, F>(NonNull<b::file>, PhantomData<&'a F>);

impl<'a, F: FileSystem> TmpFile<'a, F> {
    /// # Safety
    ///
    /// `file` is what `->tmpfile` of `F` was called with, which does not return in `'a`.
    pub(super) unsafe fn from_raw(file: NonNull<b::file>) -> Self {
        Self(file, PhantomData)
    }

    /// `f_path.dentry`: negative, in the directory that is its parent.
    pub(crate) fn dentry(&self) -> &'a Dentry<F> {
        // SAFETY: set (type invariant), and pinned by the file.
        unsafe { Dentry::from_raw((*self.0.as_ptr()).__bindgen_anon_1.f_path.dentry) }
    }

    /// `backing_tmpfile_open`: makes a file without a name in `parent` as the file that
    /// stands below this one, without the `unwanted` of its flags. `mode` is that of a
    /// regular file.
    ///
    /// # Errors
    ///
    /// Those of [`WriteAccess::check_directory`]; what the filesystem says else.
    pub(crate) fn open_backing(
        &self,
        access: &mut WriteAccess<'_>,
        parent: &Dentry,
        mode: u16,
        unwanted: OpenFlags,
        cred: &Credential,
    ) -> Result<ARef<File>> {
        access.check_directory(parent)?;
        let parent = Path::new(access.mnt(), parent);
        parent.check_mount()?;
        let parent = parent.as_c();
        // SAFETY: the file is the caller's, its flags are set (type invariant).
        let flags = OpenFlags::from_raw(unsafe { (*self.0.as_ptr()).f_flags });
        let flags = backing_flags(flags).without(unwanted).raw();
        // SAFETY: the file has its path, the parent is a directory (checked) of the
        // mount that may be written to, and the callee takes references of its own.
        let file = unsafe {
            b::backing_tmpfile_open(
                self.0.as_ptr(),
                flags as c_int,
                &parent,
                b::S_IFREG as u16 | (mode & 0o7777),
                cred.as_ptr(),
            )
        };
        // SAFETY: as `backing_tmpfile_open` returns it.
        unsafe { own_file(file) }
    }
}

/// Whether the current credentials may open the file without updating its
/// access time (`inode_owner_or_capable`).
pub(crate) fn may_open_noatime(path: Path<'_>) -> Result<bool> {
    let inode = path.inode()?;
    // SAFETY: mount and inode are valid.
    Ok(unsafe { b::inode_owner_or_capable(path.mnt.idmap(), inode.as_ptr()) })
}

/// `FMODE_CAN_ODIRECT`: the filesystem of an open file offers direct I/O.
pub(super) fn can_direct_io(file: &File) -> bool {
    // SAFETY: the file is open, so its mode does not change any more.
    unsafe { (*file.as_ptr()).f_mode & b::FMODE_CAN_ODIRECT != 0 }
}

/// `FMODE_NOWAIT`: the filesystem of an open file knows `IOCB_NOWAIT`.
pub(super) fn knows_nowait(file: &File) -> bool {
    // SAFETY: the file is open, so its mode does not change any more.
    unsafe { (*file.as_ptr()).f_mode & b::FMODE_NOWAIT != 0 }
}

/// Gives an open file the `O_DIRECT` and `O_APPEND` of `flags`, as `F_SETFL` does:
/// `O_DIRECT` only where there is direct I/O, and `O_APPEND` stays with a file that may
/// be written to in no other way (`IS_APPEND`).
pub(crate) fn set_flags(file: &File, flags: OpenFlags) {
    let flags = flags.raw();
    let mut mask = 0;
    if can_direct_io(file) {
        mask |= b::O_DIRECT;
    }
    if file_inode(file).flags() & b::S_APPEND == 0 {
        mask |= b::O_APPEND;
    }
    if (file.flags() ^ flags) & mask != 0 {
        // SAFETY: the file is open, and could have been opened with these flags; takes
        // its `f_lock`.
        unsafe { b::rovl_file_set_flags(file.as_ptr(), mask, flags) };
    }
}

/// `->flush` of a file, if its filesystem has one: a descriptor of it is being
/// closed by `owner`. It may write data out, as FUSE and NFS do.
pub(crate) fn flush(_may_lock: &mut impl MayLockDirectory, file: &File, owner: Owner) -> Result {
    // SAFETY: the file is open, its operations stay while it is.
    let Some(flush) = (unsafe { (*(*file.as_ptr()).f_op).flush }) else {
        return Ok(());
    };
    // SAFETY: called as `filp_close` would.
    to_result(unsafe { flush(file.as_ptr(), owner.0) })
}

/// `fl_owner_t`: on whose behalf locks of a file are held.
#[derive(Clone, Copy)]
pub(crate) struct Owner(b::fl_owner_t);

impl Owner {
    pub(super) fn from_raw(owner: b::fl_owner_t) -> Self {
        Self(owner)
    }
}

/// `vfs_fadvise`. It may read pages in, or write them out.
pub(crate) fn fadvise(
    _may_lock: &mut impl MayLockDirectory,
    file: &File,
    (offset, len): (i64, i64),
    advice: i32,
) -> Result {
    // SAFETY: the file is open.
    to_result(unsafe { b::vfs_fadvise(file.as_ptr(), offset, len, advice) })
}

/// An offset or a negative errno.
fn from_offset(n: i64) -> Result<i64> {
    if n < 0 {
        return Err(Error::from_errno(n as c_int));
    }
    Ok(n)
}

/// A place in a file.
pub(crate) type Place<'a> = (&'a File, i64);

impl<H: Held> Context<H> {
    /// `__fput_sync`: closes a file at once, and not when the task goes back to
    /// user space. With the last reference a file that has no name goes, for which
    /// its filesystem takes locks of all levels.
    pub(crate) fn close(&mut self, file: ARef<File>) {
        // SAFETY: the reference is counted and given away, and nothing of its
        // filesystem is locked by us, since the context is not borrowed.
        unsafe { b::__fput_sync(ARef::into_raw(file).as_ptr().cast()) };
    }

    /// `vfs_fsync_range`: waits until this part of the data is durable, and the
    /// metadata needed to find it again; all metadata unless `datasync`.
    pub(crate) fn fsync_range(
        &mut self,
        file: &File,
        (start, end): (i64, i64),
        datasync: bool,
    ) -> Result {
        // SAFETY: the file is open, and nothing of its filesystem is locked by
        // us, since the context is not borrowed.
        to_result(unsafe { b::vfs_fsync_range(file.as_ptr(), start, end, datasync.into()) })
    }

    /// `rw_verify_area`: whether the credentials in force may read these bytes of an
    /// open file. Whoever is asked before (`FAN_PRE_ACCESS`, `FAN_ACCESS_PERM`) may
    /// put them there only now.
    pub(crate) fn verify_read(&mut self, file: &File, pos: i64, len: usize) -> Result {
        // SAFETY: the file is open, and nothing of its filesystem is locked by us,
        // since the context is not borrowed.
        to_result(unsafe { b::rovl_verify_read(file.as_ptr(), pos, len) })
    }

    /// As [`Context::verify_read`], for writing.
    pub(crate) fn verify_write(&mut self, file: &File, pos: i64, len: usize) -> Result {
        // SAFETY: as there.
        to_result(unsafe { b::rovl_verify_write(file.as_ptr(), pos, len) })
    }

    /// `vfs_fallocate`; freeze protection is taken inside.
    pub(crate) fn fallocate(&mut self, file: &File, mode: i32, offset: i64, len: i64) -> Result {
        // SAFETY: as for `fsync_range`.
        to_result(unsafe { b::vfs_fallocate(file.as_ptr(), mode, offset, len) })
    }

    /// `vfs_copy_file_range`; freeze protection is taken inside.
    pub(crate) fn copy_range(
        &mut self,
        (from, from_pos): Place<'_>,
        (to, to_pos): Place<'_>,
        len: usize,
        flags: u32,
    ) -> Result<usize> {
        // SAFETY: both files are open, and nothing of their filesystems is
        // locked by us, since the context is not borrowed.
        from_count(unsafe {
            b::vfs_copy_file_range(from.as_ptr(), from_pos, to.as_ptr(), to_pos, len, flags)
        })
    }

    /// `vfs_clone_file_range`, or with `REMAP_FILE_DEDUP` in `flags`
    /// `vfs_dedupe_file_range_one`; freeze protection is taken inside.
    pub(crate) fn remap_range(
        &mut self,
        (from, from_pos): Place<'_>,
        (to, to_pos): Place<'_>,
        len: i64,
        flags: u32,
    ) -> Result<i64> {
        let (from, to) = (from.as_ptr(), to.as_ptr());
        from_offset(if flags & b::REMAP_FILE_DEDUP != 0 {
            // SAFETY: as for `copy_range`.
            unsafe { b::vfs_dedupe_file_range_one(from, from_pos, to, to_pos, len, flags) }
        } else {
            // SAFETY: as for `copy_range`.
            unsafe { b::vfs_clone_file_range(from, from_pos, to, to_pos, len, flags) }
        })
    }
}
