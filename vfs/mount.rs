// SPDX-License-Identifier: GPL-2.0

//! Mounts and paths.
//!
//! C headers: [`include/linux/mount.h`](srctree/include/linux/mount.h),
//! [`include/linux/path.h`](srctree/include/linux/path.h)

use super::{bindings as b, lock::MayLockDirectory, to_result, Dentry, Inode, SuperBlock};
use core::{marker::PhantomData, ops::Deref, ptr::NonNull};
use kernel::{
    error::from_err_ptr,
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque,
};

/// `struct vfsmount`.
///
/// # Invariants
///
/// The mount is counted while it is borrowed.
#[repr(transparent)]
pub(crate) struct Mount(Opaque<b::vfsmount>);

// SAFETY: mounts are counted and may be used from any task.
unsafe impl Send for Mount {}
// SAFETY: as above.
unsafe impl Sync for Mount {}

impl Mount {
    /// # Safety
    ///
    /// `ptr` is a mount whose count stays above zero for `'a`.
    pub(crate) unsafe fn from_raw<'a>(ptr: *mut b::vfsmount) -> &'a Self {
        // SAFETY: per the contract; `Mount` is transparent.
        unsafe { &*ptr.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut b::vfsmount {
        self.0.get()
    }

    /// `mnt_root`.
    pub(crate) fn root(&self) -> &Dentry {
        // SAFETY: the root does not change and is pinned by the mount.
        unsafe { Dentry::from_raw((*self.as_ptr()).mnt_root) }
    }

    /// `mnt_sb`.
    pub(crate) fn super_block(&self) -> &SuperBlock {
        // SAFETY: it does not change, and is active while it is mounted.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).mnt_sb) }
    }

    /// `mnt_idmap`.
    pub(super) fn idmap(&self) -> *mut b::mnt_idmap {
        // SAFETY: the mount is valid.
        unsafe { b::rovl_mnt_idmap(self.as_ptr()) }
    }

    /// `is_idmapped_mnt`.
    pub(crate) fn is_idmapped(&self) -> bool {
        // SAFETY: the mount is valid.
        unsafe { b::rovl_is_idmapped_mnt(self.as_ptr()) }
    }

    pub(crate) fn is_same(&self, other: &Mount) -> bool {
        core::ptr::eq(self.as_ptr(), other.as_ptr())
    }

    /// `__mnt_is_readonly`: the mount or its filesystem.
    pub(crate) fn is_readonly(&self) -> bool {
        // SAFETY: the mount is valid.
        unsafe { b::rovl_mnt_readonly(self.as_ptr()) }
    }
}

/// `struct path`: a dentry and the mount it is seen through, both borrowed. The dentry
/// may be negative. What asks its object finds that out first, by looking at a word of
/// the dentry which it reads next anyway: as long as the dentry is borrowed, it keeps
/// the object that it has ([`Dentry::inode`]).
///
/// That they belong together is for the one who makes it: one that goes through the
/// wrong mount is seen with its id mapping and its flags. What keeps a path beyond the
/// call asks [`Path::check_mount`]: a mount of another filesystem would not keep this.
#[derive(Clone, Copy)]
pub(crate) struct Path<'a> {
    pub(crate) mnt: &'a Mount,
    pub(crate) dentry: &'a Dentry,
}

impl<'a> Path<'a> {
    pub(crate) fn new(mnt: &'a Mount, dentry: &'a Dentry) -> Self {
        Self { mnt, dentry }
    }

    /// Whether the mount is one of the filesystem of the dentry, and so keeps it.
    ///
    /// # Errors
    ///
    /// `EXDEV`.
    pub(super) fn check_mount(&self) -> Result {
        match self.mnt.super_block().is_same(self.dentry.super_block()) {
            true => Ok(()),
            false => Err(EXDEV),
        }
    }

    /// For the duration of a call into C, which takes references of its own.
    pub(super) fn as_c(&self) -> b::path {
        b::path {
            mnt: self.mnt.as_ptr(),
            dentry: self.dentry.as_ptr(),
        }
    }

    /// `d_path`: the path as text, as the current task would name it.
    ///
    /// # Errors
    ///
    /// `ENAMETOOLONG` if it is longer than `PATH_MAX`.
    pub(crate) fn to_text(self) -> Result<CString> {
        let mut buffer = KVec::<u8>::from_elem(0, b::PATH_MAX as usize, GFP_KERNEL)?;
        let path = self.as_c();
        // SAFETY: the path is valid, the buffer is ours and of that size.
        let text = from_err_ptr(unsafe {
            b::d_path(
                &path,
                buffer.as_mut_ptr(),
                b::PATH_MAX as kernel::ffi::c_int,
            )
        })?;
        // SAFETY: `d_path` returns a pointer into the buffer, to text that ends
        // in NUL.
        let text = unsafe { CStr::from_char_ptr(text) };
        Ok(CString::try_from(text)?)
    }

    /// The inode at the path; `ENOENT` if the dentry is negative.
    pub(crate) fn inode(&self) -> Result<&'a Inode> {
        self.dentry.positive()
    }

    /// [`Dentry::check_directory`].
    pub(super) fn check_directory(&self) -> Result {
        self.dentry.check_directory()
    }
}

/// A path with references of its own (`path_get`, `path_put`).
pub(crate) struct OwnedPath(b::path, PhantomData<*mut ()>);

// SAFETY: a path may be used and released from any task.
unsafe impl Send for OwnedPath {}
// SAFETY: as above.
unsafe impl Sync for OwnedPath {}

impl OwnedPath {
    /// `kern_path`: looks up `name` as the current task sees it, following
    /// symbolic links. May sleep, calls into other filesystems.
    pub(crate) fn lookup(_may_lock: &mut impl MayLockDirectory, name: &CStr) -> Result<Self> {
        let mut path: b::path = pin_init::zeroed();
        // SAFETY: the name ends in NUL, and `path` is ours to fill in.
        to_result(unsafe { b::kern_path(name.as_char_ptr(), b::LOOKUP_FOLLOW, &mut path) })?;
        Ok(Self(path, PhantomData))
    }

    /// The path that an open file stands for.
    ///
    /// # Safety
    ///
    /// `file` is an open file with a positive count.
    pub(super) unsafe fn of_file(file: *mut b::file) -> Self {
        // SAFETY: per the contract; `f_path` does not change while it is open.
        let path = unsafe { (*file).__bindgen_anon_1.f_path };
        // SAFETY: the file pins its path.
        unsafe { b::path_get(&path) };
        Self(path, PhantomData)
    }

    pub(crate) fn borrow(&self) -> Path<'_> {
        Path {
            // SAFETY: we hold a reference.
            mnt: unsafe { Mount::from_raw(self.0.mnt) },
            // SAFETY: we hold a reference.
            dentry: unsafe { Dentry::from_raw(self.0.dentry) },
        }
    }

    /// `clone_private_mount`: a mount of this path that no one else can reach,
    /// with nothing mounted below it.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a path that may not be cloned (an unbindable mount, or not
    /// in the caller's mount namespace).
    pub(crate) fn clone_private(&self) -> Result<PrivateMount> {
        // SAFETY: the path is valid.
        let mnt = from_err_ptr(unsafe { b::clone_private_mount(&self.0) })?;
        // SAFETY: the reference is ours, a long-term one.
        Ok(unsafe { PrivateMount::from_raw(NonNull::new(mnt).ok_or(EINVAL)?) })
    }
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        // SAFETY: we hold the references.
        unsafe { b::path_put(&self.0) };
    }
}

/// A mount made by [`OwnedPath::clone_private`]; unmounted on drop, which may
/// sleep and waits for a grace period unless [`PrivateMount::retire`] has done so.
pub(crate) struct PrivateMount {
    mnt: NonNull<b::vfsmount>,
    /// `kern_unmount_array` has been called, so its references are counted like those of any
    /// other mount, and we hold one.
    retired: Atomic<bool>,
}

// SAFETY: as for `Mount`.
unsafe impl Send for PrivateMount {}
// SAFETY: as for `Mount`.
unsafe impl Sync for PrivateMount {}

impl PrivateMount {
    /// # Safety
    ///
    /// `mnt` is a mount that nobody else knows, with a long-term reference for the caller, who
    /// gives it up.
    pub(super) unsafe fn from_raw(mnt: NonNull<b::vfsmount>) -> Self {
        Self {
            mnt,
            retired: Atomic::new(false),
        }
    }

    /// For a layer that is only read: nothing can be written through this
    /// mount, and reading leaves no trace in the access times.
    pub(crate) fn make_readonly(&mut self) {
        self.set_flags(0, b::MNT_READONLY | b::MNT_NOATIME);
    }

    /// For a layer that is written to: access times as its filesystem keeps
    /// them, whatever the mount it was cloned from says.
    pub(crate) fn reset_atime(&mut self) {
        self.set_flags(b::MNT_NOATIME | b::MNT_NODIRATIME | b::MNT_RELATIME, 0);
    }

    /// Sets mount flags (`MNT_NOATIME`, ...). Only before the mount is used.
    fn set_flags(&mut self, clear: u32, set: u32) {
        // SAFETY: nobody else knows the mount yet.
        let flags = unsafe { &mut (*self.mnt.as_ptr()).mnt_flags };
        *flags = (*flags & !(clear as i32)) | set as i32;
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    /// Waits for one grace period, after which these mounts can be dropped without one. They
    /// can be used as before until then.
    pub(crate) fn retire<'a>(mounts: impl Iterator<Item = &'a PrivateMount>) -> Result {
        let mut array = KVec::new();
        let mut retired = KVec::new();
        for mount in mounts.filter(|mount| !mount.retired.load(Relaxed)) {
            array.push(mount.mnt.as_ptr(), GFP_KERNEL)?;
            retired.push(mount, GFP_KERNEL)?;
        }
        for mnt in &array {
            // SAFETY: we hold a reference. This one is the one that is dropped below.
            unsafe { b::mntget(*mnt) };
        }
        let count = u32::try_from(array.len())?;
        // SAFETY: an array of so many mounts, each with a reference to drop.
        unsafe { b::kern_unmount_array(array.as_mut_ptr(), count) };
        for mount in retired {
            mount.retired.store(true, Relaxed);
        }
        Ok(())
    }
}

impl Deref for PrivateMount {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        // SAFETY: we hold a reference.
        unsafe { Mount::from_raw(self.mnt.as_ptr()) }
    }
}

impl Drop for PrivateMount {
    fn drop(&mut self) {
        if self.retired.load(Relaxed) {
            // SAFETY: the reference that `clone_private_mount` gave us.
            unsafe { b::mntput(self.mnt.as_ptr()) };
        } else {
            // SAFETY: as above, and it is a long term one.
            unsafe { b::kern_unmount(self.mnt.as_ptr()) };
        }
    }
}
