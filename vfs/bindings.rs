// SPDX-License-Identifier: GPL-2.0

//! C declarations that `kernel::bindings` lacks.
//!
//! What the generated file defines shadows the glob import; every other type it
//! names resolves to `kernel::bindings`, so `inode`, `super_block`, ... are the
//! same types as everywhere else in the kernel.

#![allow(
    clippy::all,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    improper_ctypes,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]
#![allow(
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks
)]

use kernel::ffi;
use pin_init::{MaybeZeroable, Zeroable};

#[doc(no_inline)]
pub use kernel::bindings::*;

type __kernel_size_t = usize;
type __kernel_ssize_t = isize;
type __kernel_ptrdiff_t = isize;

// SAFETY: newtype around `Storage`, which is zeroable.
unsafe impl<Storage> Zeroable for __BindgenBitfieldUnit<Storage> where Storage: Zeroable {}

include!(concat!(env!("ROVL_OBJDIR"), "/bindings_generated.rs"));
