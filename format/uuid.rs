// SPDX-License-Identifier: GPL-2.0

//! The UUID of a filesystem, in a file handle, or that of an overlay, in
//! `overlay.uuid` of its upper root: sixteen bytes.

/// `uuid_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uuid(pub(crate) [u8; 16]);

impl Uuid {
    /// What a filesystem has that has none.
    pub(crate) const NULL: Self = Self([0; 16]);

    pub(crate) fn is_null(self) -> bool {
        self == Self::NULL
    }
}
