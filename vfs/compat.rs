// SPDX-License-Identifier: GPL-2.0

//! What is not the same in all kernels that the module is built for.
//!
//! The types of the bindings say what the kernel has, and choose; `compat.h` does the same
//! for C.

use super::{
    bindings as b,
    dir_ops::{self, DirOperations},
};
use core::mem::transmute;
use kernel::{error::Error, ffi::c_int};

/// Error codes that `kernel::error::code` has from 7.3 on.
macro_rules! codes {
    ($($name:ident)*) => {
        $(pub(crate) const $name: Error = error(b::$name);)*
    };
}

codes! { ECANCELED EDQUOT ELOOP ENAMETOOLONG ENODATA ENOTEMPTY EOPNOTSUPP EREMOTE ESTALE }

/// Nothing that the kernel crate exports makes an [`Error`] of a number in a constant.
const fn error(code: u32) -> Error {
    assert!(0 < code && code <= b::MAX_ERRNO);
    // SAFETY: an `Error` is a `NonZeroI32` and nothing else, and as large; the number is
    // negative and in the range of errors.
    unsafe { transmute::<i32, Error>(-(code as i32)) }
}

/// The module, for the tables that it owns. From 7.3 on it is a constant of the type that
/// `module!` gives it, and a static of the crate before.
pub(super) const THIS_MODULE: *mut b::module = this_module();

#[cfg(MODULE)]
const fn this_module() -> *mut b::module {
    #[allow(improper_ctypes)] // only its address is taken
    extern "C" {
        static __this_module: kernel::types::Opaque<b::module>;
    }
    (&raw const __this_module).cast_mut().cast()
}

#[cfg(not(MODULE))]
const fn this_module() -> *mut b::module {
    core::ptr::null_mut()
}

/// A table entry that makes a regular file.
pub(super) trait Create<F> {
    /// The function of the type that the kernel has.
    const CREATE: Self;
}

type CreateNew =
    unsafe extern "C" fn(*mut b::mnt_idmap, *mut b::inode, *mut b::dentry, b::umode_t) -> c_int;

impl<F: DirOperations> Create<F> for CreateNew {
    const CREATE: Self = dir_ops::create::<F>;
}

/// Before 7.3 it is also told whether the name has to be new, which it always is.
type CreateOrNot = unsafe extern "C" fn(
    *mut b::mnt_idmap,
    *mut b::inode,
    *mut b::dentry,
    b::umode_t,
    bool,
) -> c_int;

impl<F: DirOperations> Create<F> for CreateOrNot {
    const CREATE: Self = create_or_not::<F>;
}

/// # Safety
///
/// Only for the VFS to call.
unsafe extern "C" fn create_or_not<F: DirOperations>(
    idmap: *mut b::mnt_idmap,
    dir: *mut b::inode,
    dentry: *mut b::dentry,
    mode: b::umode_t,
    _exclusive: bool,
) -> c_int {
    // SAFETY: called as the VFS calls it.
    unsafe { dir_ops::create::<F>(idmap, dir, dentry, mode) }
}
