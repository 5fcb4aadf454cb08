// SPDX-License-Identifier: GPL-2.0

//! Tracepoints. [`kernel::tracepoint`] finds those of the kernel's own crates
//! only, so each is called through a C function of its own.
//!
//! C header: `rovl_trace.h`

use super::{bindings as b, Inode};
use kernel::prelude::*;

/// `rovl_copy_up_begin`: the caller copies `source`.
pub(crate) fn copy_up_begin(source: &Inode) {
    // SAFETY: the inode is counted, and is only read.
    unsafe { b::rovl_trace_copy_up_begin(source.as_ptr()) };
}

/// `rovl_copy_up_wait`: the caller waits for the copy of `source`.
pub(crate) fn copy_up_wait(source: &Inode) {
    // SAFETY: as in `copy_up_begin`.
    unsafe { b::rovl_trace_copy_up_wait(source.as_ptr()) };
}

/// `rovl_copy_up_chunk`: `len` bytes at `pos` have been copied.
pub(crate) fn copy_up_chunk(source: &Inode, pos: i64, len: u64) {
    // SAFETY: as in `copy_up_begin`.
    unsafe { b::rovl_trace_copy_up_chunk(source.as_ptr(), pos, len) };
}

/// `rovl_copy_up_publish`: the copy is whole and gets its name next.
pub(crate) fn copy_up_publish(source: &Inode) {
    // SAFETY: as in `copy_up_begin`.
    unsafe { b::rovl_trace_copy_up_publish(source.as_ptr()) };
}

/// `rovl_copy_up_end`: what came of it, and how many bytes were copied.
pub(crate) fn copy_up_end(source: &Inode, result: Result, done: u64) {
    let errno = result.err().map_or(0, |e| e.to_errno());
    // SAFETY: as in `copy_up_begin`.
    unsafe { b::rovl_trace_copy_up_end(source.as_ptr(), errno, done) };
}
