// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: reading those of other filesystems, and serving those
//! of one written on this module.
//!
//! Changing them on another filesystem takes
//! [`WriteAccess`](super::lock::WriteAccess), see there. POSIX ACLs have names
//! that look like extended attributes (`system.posix_acl_*`): they are listed
//! here with the others, but read and set through [`super::acl`] only.
//!
//! C header: [`include/linux/xattr.h`](srctree/include/linux/xattr.h);
//! `Documentation/filesystems/vfs.rst`, "struct xattr_handler".

use super::compat::{ECANCELED, EOPNOTSUPP};
use super::{
    bindings as b,
    flags::XattrFlags,
    from_count,
    lock::{Context, InodeLock},
    to_count, to_int, to_result, Dentry, FileSystem, Inode, Path,
};
use core::{marker::PhantomData, mem::MaybeUninit};
use kernel::{
    ffi::{c_char, c_int, c_void},
    prelude::*,
};

/// The longest name, in bytes without the NUL (`XATTR_NAME_MAX`).
pub(crate) const NAME_MAX: usize = b::XATTR_NAME_MAX as usize;
/// The longest value, in bytes (`XATTR_SIZE_MAX`).
pub(crate) const SIZE_MAX: usize = b::XATTR_SIZE_MAX as usize;
/// The longest list of names, in bytes (`XATTR_LIST_MAX`).
pub(crate) const LIST_MAX: usize = b::XATTR_LIST_MAX as usize;

/// How often a size may change between asking for it and reading.
const TRIES: usize = 8;

/// `vfs_getxattr`: reads the value into `value` and returns its size, with the
/// credentials in force. An empty buffer only asks for the size.
///
/// May sleep; no lock is needed.
///
/// # Errors
///
/// `ENODATA` without such an attribute, `EOPNOTSUPP` where there are none,
/// `ERANGE` if the buffer is too small, `ENOENT` for a negative dentry.
pub(crate) fn get(path: Path<'_>, name: &CStr, value: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer is ours and of that size.
    unsafe { get_raw(path, name, or_null(value), value.len()) }
}

/// As [`get`], into the buffer of who asks us for an attribute.
pub(crate) fn get_into(path: Path<'_>, name: &CStr, value: &mut Buffer<'_>) -> Result {
    // SAFETY: the buffer is ours as long as it is borrowed, and of that size.
    value.len = unsafe { get_raw(path, name, value.to, value.size) }?;
    Ok(())
}

/// # Safety
///
/// `size` bytes at `value` may be written, or that is null.
unsafe fn get_raw(path: Path<'_>, name: &CStr, value: *mut u8, size: usize) -> Result<usize> {
    path.inode()?;
    // SAFETY: mount and dentry are valid, the dentry is positive (checked), the name ends
    // in NUL, and the buffer is as it has to be, per the contract.
    from_count(unsafe {
        b::vfs_getxattr(
            path.mnt.idmap(),
            path.dentry.as_ptr(),
            name.as_char_ptr(),
            value.cast(),
            size,
        )
    })
}

/// Where an answer goes: memory of who asks, which need not be initialised, so that
/// it is written and not read. Or nowhere: then only the size is asked for.
///
/// # Invariants
///
/// `size` bytes at `to` are ours for `'a`, or it is null and `size` zero. The first `len`
/// are initialised, if there are any.
pub(crate) struct Buffer<'a> {
    to: *mut u8,
    size: usize,
    len: usize,
    _memory: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

impl Buffer<'_> {
    /// # Safety
    ///
    /// `to` is null, or `size` bytes there are for the caller to write for the time that
    /// this lives.
    unsafe fn new(to: *mut u8, size: usize) -> Self {
        let size = if to.is_null() { 0 } else { size };
        Self {
            to: if size == 0 { core::ptr::null_mut() } else { to },
            size,
            len: 0,
            _memory: PhantomData,
        }
    }

    /// Adds to the answer.
    ///
    /// # Errors
    ///
    /// `ERANGE` if there is no room for it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result {
        let end = self.len.checked_add(bytes.len()).ok_or(ERANGE)?;
        if !self.to.is_null() {
            if end > self.size {
                return Err(ERANGE);
            }
            // SAFETY: `len` is at most `size`: bytes that are ours (type invariant).
            let to = unsafe { self.to.add(self.len) };
            // SAFETY: as many bytes are ours there (checked), and `bytes` is another
            // borrow, so they do not overlap.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        self.len = end;
        Ok(())
    }
}

/// As [`get`], into memory of the right size.
///
/// # Errors
///
/// Those of [`get`], and `ENOMEM`.
pub(crate) fn get_alloc(path: Path<'_>, name: &CStr) -> Result<KVVec<u8>> {
    read_all(SIZE_MAX, |value| get(path, name, value))
}

/// `vfs_listxattr`: the names of all attributes, with the credentials in force.
///
/// May sleep; no lock is needed.
///
/// # Errors
///
/// `ENOENT` for a negative dentry, `ENOMEM`, those of the filesystem. One that
/// has no attributes may say so by `EOPNOTSUPP` or by an empty list.
pub(crate) fn list(path: Path<'_>) -> Result<Names> {
    path.inode()?;
    let names = read_all(LIST_MAX, |list| {
        // SAFETY: the dentry is valid and positive, and the buffer is ours and
        // of that size.
        from_count(unsafe {
            b::vfs_listxattr(path.dentry.as_ptr(), or_null(list).cast(), list.len())
        })
    })?;
    Ok(Names(names))
}

/// `security_inode_copy_up_xattr`: whether a copy of the object at `source` is
/// to have its attribute `name`, or gets one of its own from a security module.
///
/// # Errors
///
/// Those of the security module, if it forbids to copy the object at all.
pub(crate) fn wanted_in_copy(source: &Dentry, name: &CStr) -> Result<bool> {
    source.positive()?;
    // SAFETY: the dentry is valid and positive, the name ends in NUL.
    match to_result(unsafe { b::security_inode_copy_up_xattr(source.as_ptr(), name.as_char_ptr()) })
    {
        Err(e) if e == ECANCELED => Ok(false),
        // No module knows the name.
        Err(e) if e == EOPNOTSUPP => Ok(true),
        r => r.map(|()| true),
    }
}

/// The C functions take no buffer to mean that only the size is asked for.
fn or_null(buffer: &mut [u8]) -> *mut u8 {
    if buffer.is_empty() {
        core::ptr::null_mut()
    } else {
        buffer.as_mut_ptr()
    }
}

/// Asks for the size, then for the content, again if it has grown meanwhile.
fn read_all(max: usize, read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<KVVec<u8>> {
    for _ in 0..TRIES {
        let size = read(&mut [])?;
        if size > max {
            return Err(E2BIG);
        }
        let mut content = KVVec::from_elem(0u8, size, GFP_KERNEL)?;
        if size == 0 {
            return Ok(content);
        }
        match read(&mut content) {
            Ok(size) => {
                content.truncate(size);
                return Ok(content);
            }
            Err(e) if e == ERANGE => {}
            Err(e) => return Err(e),
        }
    }
    Err(ERANGE)
}

/// A list of names, each ending in NUL.
pub(crate) struct Names(KVVec<u8>);

impl Names {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CStr> {
        // What does not end in NUL is no name.
        self.0
            .split_inclusive(|&byte| byte == 0)
            .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
            .filter(|name| !name.is_empty())
    }
}

/// Whether the caller may see that there are `trusted.*` attributes. Asks for
/// the credentials in force.
pub(crate) fn may_see_trusted() -> bool {
    // SAFETY: no requirements.
    let init_user_ns = unsafe { b::rovl_init_user_ns() };
    // SAFETY: that namespace is always there.
    unsafe { b::ns_capable_noaudit(init_user_ns, b::CAP_SYS_ADMIN as c_int) }
}

/// What the VFS asks about extended attributes. Names are whole, with their
/// prefix (`user.`, `trusted.`, ...), and never those of POSIX ACLs.
///
/// The VFS has checked what it knows of the namespaces, and asked the security
/// modules.
pub(crate) trait XattrOperations: FileSystem {
    /// `getxattr(2)`: reads a value. No locks are needed, some may be held: security
    /// modules read labels in the middle of a lookup, when no dentry leads to
    /// the inode yet.
    ///
    /// # Errors
    ///
    /// `ENODATA`, `EOPNOTSUPP`, `ERANGE` if the buffer is too small.
    fn get(inode: &Inode<Self>, name: &CStr, value: &mut Buffer<'_>) -> Result;

    /// `setxattr(2)`, and with no value `removexattr(2)`. The inode's `i_rwsem`
    /// and write access to the mount are held. `flags` has `XATTR_CREATE` or
    /// `XATTR_REPLACE`; to remove is always to replace.
    ///
    /// # Errors
    ///
    /// `EEXIST` if it is to be created and is there, `ENODATA` if it is to be
    /// replaced and is not.
    fn set(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Self>,
        inode: &Inode<Self>,
        name: &CStr,
        value: Option<&[u8]>,
        flags: XattrFlags,
    ) -> Result;

    /// `listxattr(2)`: the names one after the other, each with its NUL, those
    /// of POSIX ACLs among them. No locks held.
    ///
    /// # Errors
    ///
    /// `ERANGE` if the buffer is too small.
    fn list(dentry: &Dentry<Self>, names: &mut Buffer<'_>) -> Result;
}

/// `s_xattr`: one handler for all names.
pub(super) fn handlers<F: XattrOperations>() -> *const *const b::xattr_handler {
    Handlers::<F>::TABLE.0.as_ptr()
}

struct Handlers<F>(PhantomData<F>);

/// A table that ends in null.
struct Table([*const b::xattr_handler; 2]);

impl<F: XattrOperations> Handlers<F> {
    const ALL: &'static b::xattr_handler = &b::xattr_handler {
        // Every name begins with the empty prefix, so this gets them whole.
        prefix: kernel::str::as_char_ptr_in_const_context(c""),
        get: Some(Self::get),
        set: Some(Self::set),
        ..pin_init::zeroed()
    };
    const TABLE: &'static Table = &Table([Self::ALL, core::ptr::null()]);

    /// # Safety
    ///
    /// Only for the VFS to call, with an inode of `F`.
    unsafe extern "C" fn get(
        _handler: *const b::xattr_handler,
        _dentry: *mut b::dentry,
        inode: *mut b::inode,
        name: *const c_char,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        // SAFETY: the caller holds a reference to the inode, whose superblock
        // has this table, so it is of `F`.
        let inode = unsafe { Inode::<F>::from_raw(inode) };
        // SAFETY: the caller's name, ends in NUL and outlives the call.
        let name = unsafe { CStr::from_char_ptr(name) };
        // SAFETY: the caller's buffer of that size, if it is not null.
        let mut value = unsafe { Buffer::new(buffer.cast(), size) };
        match F::get(inode, name, &mut value) {
            Ok(()) => c_int::try_from(value.len).unwrap_or(c_int::MAX),
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Only for the VFS to call, with an inode of `F` that is locked.
    unsafe extern "C" fn set(
        _handler: *const b::xattr_handler,
        _idmap: *mut b::mnt_idmap,
        dentry: *mut b::dentry,
        inode: *mut b::inode,
        name: *const c_char,
        buffer: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int {
        // SAFETY: the caller holds a reference; the dentry is of the
        // superblock that has this table.
        let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
        // SAFETY: the caller holds a reference to the inode of the same.
        let inode = unsafe { Inode::<F>::from_raw(inode) };
        // SAFETY: the caller's name, ends in NUL and outlives the call.
        let name = unsafe { CStr::from_char_ptr(name) };
        let value = if buffer.is_null() {
            None
        } else {
            // SAFETY: not null, so the caller's value, of that size.
            Some(unsafe { core::slice::from_raw_parts(buffer.cast::<u8>(), size) })
        };
        // SAFETY: an entry point of the VFS, which holds the inode's lock
        // (`locking.rst`, "xattr_handler operations").
        let mut ctx = unsafe { Context::<InodeLock>::enter() };
        to_int(F::set(
            &mut ctx,
            dentry,
            inode,
            name,
            value,
            XattrFlags::from_raw(flags as u32),
        ))
    }
}

/// `->listxattr`.
///
/// # Safety
///
/// Only for the VFS to call, on a positive dentry of `F`.
pub(super) unsafe extern "C" fn listxattr<F: XattrOperations>(
    dentry: *mut b::dentry,
    list: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: the caller holds a reference.
    let dentry = unsafe { Dentry::<F>::from_raw(dentry) };
    // SAFETY: the caller's buffer of that size, if it is not null.
    let mut names = unsafe { Buffer::new(list.cast(), size) };
    to_count(F::list(dentry, &mut names).map(|()| names.len))
}
