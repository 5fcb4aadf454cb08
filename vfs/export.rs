// SPDX-License-Identifier: GPL-2.0

//! File handles: names of inodes that last longer than the inode cache.
//!
//! C header: [`include/linux/exportfs.h`](srctree/include/linux/exportfs.h)

use super::{bindings as b, lock::MayLockDirectory, Dentry, Mount, SuperBlock};
use core::ffi::{c_int, c_void};
use kernel::{prelude::*, sync::aref::ARef};

/// The longest handle, in bytes (`MAX_HANDLE_SZ`).
pub(crate) const MAX_HANDLE_LEN: usize = 128;

const WORD: usize = 4;

/// `struct fid` with its type and length.
pub(crate) struct Handle {
    kind: u8,
    words: [u32; MAX_HANDLE_LEN / WORD],
    /// In words.
    len: usize,
}

/// Whether the filesystem can find an inode by its handle again.
pub(crate) fn can_decode(sb: &SuperBlock) -> bool {
    // SAFETY: the superblock is active, its export operations are static.
    unsafe { b::rovl_can_decode_fh(sb.as_ptr()) }
}

impl Handle {
    /// `exportfs_encode_fh`, not connectable: names the inode, not its place. A
    /// stacking filesystem may copy up what it is to find again.
    ///
    /// # Errors
    ///
    /// `EOVERFLOW` if the filesystem has none, or one too long; `ENOENT` for a negative
    /// dentry.
    pub(crate) fn encode(_may_lock: &mut impl MayLockDirectory, dentry: &Dentry) -> Result<Self> {
        dentry.positive()?;
        let mut words = [0; MAX_HANDLE_LEN / WORD];
        let mut len = words.len() as c_int;
        // SAFETY: the dentry is positive (checked), and the buffer is `len` words.
        let kind = unsafe {
            b::exportfs_encode_fh(dentry.as_ptr(), words.as_mut_ptr().cast(), &mut len, 0)
        };
        let kind = u8::try_from(kind).map_err(|_| EOVERFLOW)?;
        let len = usize::try_from(len).map_err(|_| EOVERFLOW)?;
        if i32::from(kind) == b::FILEID_INVALID || len > words.len() {
            return Err(EOVERFLOW);
        }
        Ok(Self { kind, words, len })
    }

    /// A handle as it was stored.
    pub(crate) fn from_bytes(kind: u8, bytes: &[u8]) -> Result<Self> {
        let mut words = [0; MAX_HANDLE_LEN / WORD];
        if bytes.len() > MAX_HANDLE_LEN {
            return Err(EINVAL);
        }
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(WORD)) {
            let mut padded = [0; WORD];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            *word = u32::from_ne_bytes(padded);
        }
        Ok(Self {
            kind,
            words,
            len: bytes.len().div_ceil(WORD),
        })
    }

    pub(crate) fn kind(&self) -> u8 {
        self.kind
    }

    /// The bytes to store, in the byte order of this machine, and zeros behind them.
    pub(crate) fn to_bytes(&self) -> [u8; MAX_HANDLE_LEN] {
        let mut bytes = [0; MAX_HANDLE_LEN];
        for (to, word) in bytes.chunks_exact_mut(WORD).zip(self.words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// The number of bytes to store.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len * WORD
    }

    /// `exportfs_decode_fh`: any dentry of the inode, connected or not. Locks
    /// directories to connect one.
    ///
    /// # Errors
    ///
    /// `ESTALE` if it is gone.
    pub(crate) fn decode(
        &self,
        _may_lock: &mut impl MayLockDirectory,
        mnt: &Mount,
    ) -> Result<ARef<Dentry>> {
        let mut words = self.words;
        // SAFETY: the mount is valid, the handle is `len` words of ours, and
        // `accept` takes any dentry; no directory is locked (`_may_lock`).
        let dentry = unsafe {
            b::exportfs_decode_fh(
                mnt.as_ptr(),
                words.as_mut_ptr().cast(),
                self.len as c_int,
                self.kind.into(),
                Some(accept),
                core::ptr::null_mut(),
            )
        };
        // SAFETY: an error, or a dentry counted for us.
        unsafe { Dentry::from_counted(dentry) }
    }
}

/// # Safety
///
/// Only for `exportfs_decode_fh` to call.
unsafe extern "C" fn accept(_context: *mut c_void, _dentry: *mut b::dentry) -> c_int {
    1
}
