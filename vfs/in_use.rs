// SPDX-License-Identifier: GPL-2.0

//! The mark by which stacking filesystems keep off each other's directories.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)
//! (`I_OVL_INUSE`)

use super::{bindings as b, Dentry, Inode};
use kernel::{prelude::*, sync::aref::ARef};

/// A directory that is marked as in use as a writable layer, until this is
/// dropped.
///
/// The kernel has one such mark for each inode, in `i_state`, so whoever looks
/// at it sees all stacking filesystems, of whatever type.
///
/// # Invariants
///
/// The mark was not set before, and nobody else clears it.
pub(crate) struct InUseMark(ARef<Inode>);

impl InUseMark {
    /// Marks the inode of a directory; `None` if it is marked already.
    ///
    /// # Errors
    ///
    /// `ENOENT` for a negative dentry.
    pub(crate) fn set(dentry: &Dentry) -> Result<Option<Self>> {
        let inode = dentry.positive()?;
        // SAFETY: the inode is live; takes and releases `i_lock`.
        let was_set = unsafe { b::rovl_inode_test_and_set_state(inode.as_ptr(), b::I_OVL_INUSE) };
        // INVARIANT: it was not set, so it is ours.
        Ok((!was_set).then(|| Self(inode.into())))
    }
}

impl Drop for InUseMark {
    fn drop(&mut self) {
        // SAFETY: we hold a reference; the mark is ours (type invariant).
        unsafe { b::rovl_inode_clear_state(self.0.as_ptr(), b::I_OVL_INUSE) };
    }
}

/// Whether a directory is marked now.
pub(crate) fn is_in_use(dentry: &Dentry) -> bool {
    let Some(inode) = dentry.inode() else {
        return false;
    };
    // SAFETY: the inode is live.
    unsafe { b::rovl_inode_test_state(inode.as_ptr(), b::I_OVL_INUSE) }
}
