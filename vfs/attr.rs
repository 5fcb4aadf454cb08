// SPDX-License-Identifier: GPL-2.0

//! Attributes of inodes: reading (`struct kstat`) and changing (`struct iattr`).
//!
//! C headers: [`include/linux/stat.h`](srctree/include/linux/stat.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings as b, idmap::Idmap, inode_ops::Access, to_result, Dentry, Inode, Path, SuperBlock,
};
use kernel::prelude::*;

pub(crate) use super::bindings::{kgid_t, kuid_t, timespec64};

/// `struct iattr`: what is to change, and to what.
#[derive(Clone)]
#[repr(transparent)]
pub(crate) struct Attributes(b::iattr);

impl Attributes {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self(pin_init::zeroed())
    }

    /// # Safety
    ///
    /// `ptr` is valid and not used by others for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut b::iattr) -> &'a mut Self {
        // SAFETY: per the contract; `Attributes` is transparent.
        unsafe { &mut *ptr.cast() }
    }

    pub(super) fn as_c(&mut self) -> *mut b::iattr {
        &mut self.0
    }

    /// Whether one of these `ATTR_*` is set.
    pub(crate) fn has(&self, valid: u32) -> bool {
        self.0.ia_valid & valid != 0
    }

    /// The change is made by the filesystem itself, not asked for by a user, so
    /// that no permission is checked (`ATTR_FORCE`).
    pub(crate) fn forced(mut self) -> Self {
        self.0.ia_valid |= b::ATTR_FORCE;
        self
    }

    pub(crate) fn mode(mut self, mode: u16) -> Self {
        self.0.ia_valid |= b::ATTR_MODE;
        self.0.ia_mode = mode;
        self
    }

    pub(crate) fn owner(mut self, (uid, gid): (kuid_t, kgid_t)) -> Self {
        self.0.ia_valid |= b::ATTR_UID | b::ATTR_GID;
        self.0.__bindgen_anon_1.ia_uid = uid;
        self.0.__bindgen_anon_2.ia_gid = gid;
        self
    }

    pub(crate) fn times(mut self, atime: timespec64, mtime: timespec64) -> Self {
        self.0.ia_valid |= b::ATTR_ATIME | b::ATTR_ATIME_SET | b::ATTR_MTIME | b::ATTR_MTIME_SET;
        self.0.ia_atime = atime;
        self.0.ia_mtime = mtime;
        self
    }

    pub(crate) fn size(mut self, bytes: i64) -> Self {
        self.0.ia_valid |= b::ATTR_SIZE;
        self.0.ia_size = bytes;
        self
    }

    /// Sets the times of a change of the data to now, as it would by itself.
    pub(crate) fn touch(&mut self) {
        self.0.ia_valid |= b::ATTR_MTIME | b::ATTR_CTIME;
    }

    /// The size asked for, in bytes, if it is to change.
    pub(crate) fn new_size(&self) -> Option<i64> {
        self.has(b::ATTR_SIZE).then_some(self.0.ia_size)
    }

    /// Makes of it what may be asked of `inode`, whatever this has been made for:
    ///
    /// * no file of the caller's (`ATTR_FILE`, `ATTR_OPEN`): it is one of another
    ///   filesystem, or closed by now;
    /// * the mode left to the filesystem where the change only says that set-id bits
    ///   must go (`ATTR_KILL_SUID`, `ATTR_KILL_SGID`), which may not be asked at once;
    /// * else the type in the mode that of the inode: filesystems store what they get.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a size, if it is no regular file.
    pub(super) fn fit(&mut self, inode: &Inode) -> Result {
        if self.has(b::ATTR_SIZE) && !inode.is_regular() {
            return Err(EINVAL);
        }
        self.0.ia_valid &= !(b::ATTR_FILE | b::ATTR_OPEN);
        if self.has(b::ATTR_KILL_SUID | b::ATTR_KILL_SGID) {
            self.0.ia_valid &= !b::ATTR_MODE;
        }
        let kind = b::S_IFMT as u16;
        self.0.ia_mode = (self.0.ia_mode & !kind) | (inode.mode() & kind);
        Ok(())
    }

    /// `setattr_prepare`: may the caller make this change to this inode? It changes
    /// nothing: capabilities of a file (`ATTR_KILL_PRIV`) are left to the `setattr`
    /// of the filesystem below. The owner is one as seen through the mount with
    /// `idmap`, and afterwards as `sb`, the filesystem of the inode, has it.
    pub(crate) fn prepare(&mut self, dentry: &Dentry, idmap: Idmap<'_>) -> Result {
        dentry.positive()?;
        let kill = self.0.ia_valid & b::ATTR_KILL_PRIV;
        self.0.ia_valid &= !b::ATTR_KILL_PRIV;
        let attr = self.as_c();
        // SAFETY: the dentry is positive (checked). Without `ATTR_KILL_PRIV` it changes
        // nothing but `attr`, so what it reads need not be locked.
        let allowed = unsafe { b::setattr_prepare(idmap.as_ptr(), dentry.as_ptr(), attr) };
        self.0.ia_valid |= kill;
        to_result(allowed)?;
        let sb = dentry.super_block();
        // SAFETY: the arms of the union are of one type but for the name, and
        // plain data, set or not.
        let seen = unsafe {
            (
                self.0.__bindgen_anon_1.ia_uid,
                self.0.__bindgen_anon_2.ia_gid,
            )
        };
        let (uid, gid) = idmap.stored(sb, seen);
        if self.has(b::ATTR_UID) {
            self.0.__bindgen_anon_1.ia_uid = uid;
        }
        if self.has(b::ATTR_GID) {
            self.0.__bindgen_anon_2.ia_gid = gid;
        }
        Ok(())
    }
}

/// `struct kstat`.
#[derive(pin_init::Zeroable)]
#[repr(transparent)]
pub(crate) struct Stat(b::kstat);

impl Stat {
    /// # Safety
    ///
    /// `ptr` is valid and not used by others for `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut b::kstat) -> &'a mut Self {
        // SAFETY: per the contract; `Stat` is transparent.
        unsafe { &mut *ptr.cast() }
    }

    /// `vfs_getattr`: asks the security modules, then the filesystem of `path` for
    /// `STATX_BASIC_STATS`, with
    /// the credentials in force. It is too large for the stack of whoever goes on to do
    /// something long.
    pub(crate) fn boxed(path: Path<'_>) -> Result<KBox<Self>> {
        path.inode()?;
        let mut stat: KBox<Self> = KBox::init(pin_init::init_zeroed(), GFP_KERNEL)?;
        let path = path.as_c();
        // SAFETY: the path is valid and positive, the buffer is ours.
        to_result(unsafe { b::vfs_getattr(&path, &mut stat.0, b::STATX_BASIC_STATS, 0) })?;
        Ok(stat)
    }

    /// `vfs_getattr_nosec`: asks the filesystem of `path` only, for a question that
    /// the security modules have answered.
    pub(crate) fn read(&mut self, path: Path<'_>, request_mask: u32, flags: u32) -> Result {
        path.inode()?;
        let path = path.as_c();
        // SAFETY: the path is valid and positive (checked), the buffer is ours.
        to_result(unsafe { b::vfs_getattr_nosec(&path, &mut self.0, request_mask, flags) })
    }

    pub(crate) fn mode(&self) -> u16 {
        self.0.mode
    }

    pub(crate) fn rdev(&self) -> u32 {
        self.0.rdev
    }

    /// In bytes.
    pub(crate) fn size(&self) -> i64 {
        self.0.size
    }

    pub(crate) fn owner(&self) -> (kuid_t, kgid_t) {
        (self.0.uid, self.0.gid)
    }

    /// Shows the owner as seen through a mount of `sb`.
    pub(crate) fn show_owner(&mut self, sb: &SuperBlock, idmap: Idmap<'_>) {
        (self.0.uid, self.0.gid) = idmap.seen(sb, self.owner());
    }

    pub(crate) fn times(&self) -> (timespec64, timespec64) {
        (self.0.atime, self.0.mtime)
    }

    pub(crate) fn set_identity(&mut self, dev: u32, ino: u64) {
        self.0.dev = dev;
        self.0.ino = ino;
    }

    pub(crate) fn set_nlink(&mut self, nlink: u32) {
        self.0.nlink = nlink;
    }

    /// `generic_fill_statx_attr`: takes the `STATX_ATTR_*` bits that the VFS
    /// enforces from the flags of `inode`, and from no other.
    pub(crate) fn set_enforced_attributes(&mut self, inode: &Inode) {
        let enforced = b::STATX_ATTR_IMMUTABLE | b::STATX_ATTR_APPEND;
        self.0.attributes &= !u64::from(enforced);
        // SAFETY: the inode is live, the buffer is ours.
        unsafe { b::generic_fill_statx_attr(inode.as_ptr(), &mut self.0) };
    }

    /// The version of the inode below is not one of this filesystem's: it goes
    /// another way when the object is copied up.
    pub(crate) fn set_change_cookie_unsupported(&mut self) {
        self.0.result_mask &= !(b::STATX_CHANGE_COOKIE);
    }
}

/// `get_write_access`: the file is being changed, and may not be executed as long as
/// this lives.
pub(crate) struct NotExecuted<'a>(&'a Inode);

impl<'a> NotExecuted<'a> {
    /// # Errors
    ///
    /// `ETXTBSY` if it is being executed.
    pub(crate) fn new(inode: &'a Inode) -> Result<Self> {
        // SAFETY: the inode is live; the counter is changed atomically.
        to_result(unsafe { b::rovl_get_write_access(inode.as_ptr()) })?;
        Ok(Self(inode))
    }
}

impl Drop for NotExecuted<'_> {
    fn drop(&mut self) {
        // SAFETY: counted by `new`.
        unsafe { b::rovl_put_write_access(self.0.as_ptr()) };
    }
}

/// A device number for files that have none of their own (`get_anon_bdev`).
pub(crate) struct AnonDev(u32);

impl AnonDev {
    pub(crate) fn new() -> Result<Self> {
        let mut dev = 0;
        // SAFETY: writes to `dev` only.
        to_result(unsafe { b::get_anon_bdev(&mut dev) })?;
        Ok(Self(dev))
    }

    pub(crate) fn get(&self) -> u32 {
        self.0
    }
}

impl Drop for AnonDev {
    fn drop(&mut self) {
        // SAFETY: taken by `new`.
        unsafe { b::free_anon_bdev(self.0) };
    }
}

/// `get_next_ino`: a number no other inode of this kind has had lately.
pub(crate) fn next_ino() -> u64 {
    // SAFETY: no requirements.
    unsafe { b::get_next_ino() }.into()
}

/// `inode_permission` on the filesystem below, with the credentials in force.
pub(crate) fn permission(path: Path<'_>, access: Access) -> Result {
    let inode: &Inode = path.inode()?;
    // SAFETY: mount and inode are valid; the caller may sleep.
    to_result(unsafe { b::inode_permission(path.mnt.idmap(), inode.as_ptr(), access.mask()) })
}
