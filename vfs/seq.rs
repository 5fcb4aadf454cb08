// SPDX-License-Identifier: GPL-2.0

//! What `/proc/self/mountinfo` and `/proc/self/mountstats` tell of a mount, in a
//! [`SeqFile`].
//!
//! C header: [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)

use super::{bindings as b, Dentry, SuperBlock};
use kernel::{prelude::*, seq_file::SeqFile};

fn as_ptr(seq: &SeqFile) -> *mut b::seq_file {
    // `SeqFile` is transparent, and what it wraps may change while borrowed.
    core::ptr::from_ref(seq).cast_mut().cast()
}

/// Whether who has opened the file has `CAP_SYS_ADMIN` in the user namespace of a mount
/// (`file_ns_capable`).
pub(crate) fn opener_is_admin<F>(seq: &SeqFile, sb: &SuperBlock<F>) -> bool {
    // SAFETY: the file is open while it is borrowed, and the superblock is live.
    unsafe { b::rovl_seq_opener_is_admin(as_ptr(seq), sb.as_ptr()) }
}

/// `seq_puts`.
pub(crate) fn show_raw(seq: &SeqFile, text: &CStr) {
    // SAFETY: the file is ours while it is borrowed, the text ends in NUL.
    unsafe { b::seq_write(as_ptr(seq), text.as_char_ptr().cast(), text.count_bytes()) };
}

/// `seq_escape`: separators of options and of fields become octal escapes.
pub(crate) fn show_escaped(seq: &SeqFile, bytes: &[u8]) {
    // SAFETY: the file is ours while it is borrowed, the bytes and the list of
    // what to escape live for the call.
    unsafe {
        b::seq_escape_mem(
            as_ptr(seq),
            bytes.as_ptr().cast(),
            bytes.len(),
            b::ESCAPE_OCTAL,
            c", \t\n\\".as_char_ptr(),
        )
    };
}

/// `seq_show_option`: a comma, the name, and the escaped value.
pub(crate) fn show_option(seq: &SeqFile, name: &CStr, value: &CStr) {
    show_raw(seq, c",");
    show_escaped(seq, name.to_bytes());
    show_raw(seq, c"=");
    show_escaped(seq, value.to_bytes());
}

/// `seq_dentry`: the path of a dentry in its own filesystem, escaped as the
/// paths in `/proc/self/mountinfo` are.
pub(crate) fn show_path<F>(seq: &SeqFile, dentry: &Dentry<F>) {
    // SAFETY: the file is ours while it is borrowed; the dentry is valid, and
    // the function takes the locks that it needs to follow it to the root.
    unsafe { b::seq_dentry(as_ptr(seq), dentry.as_ptr(), c" \t\n\\".as_char_ptr()) };
}
