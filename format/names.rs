// SPDX-License-Identifier: GPL-2.0

//! How marks are called.

use core::ffi::CStr;

/// How the attributes of a mount are called on disk.
pub(crate) struct Names {
    /// What belongs to this overlay begins with this.
    pub(crate) prefix: &'static [u8],
    /// What begins with [`Names::prefix`] in the merged tree begins with this.
    pub(crate) escaped: &'static [u8],
    pub(crate) opaque: &'static CStr,
    pub(crate) whiteout: &'static CStr,
    pub(crate) impure: &'static CStr,
    pub(crate) origin: &'static CStr,
    pub(crate) redirect: &'static CStr,
    pub(crate) metacopy: &'static CStr,
    /// Which protections (`chattr +a`, `+i`) an upper object has.
    pub(crate) protattr: &'static CStr,
    /// The UUID of the overlay, at its upper root.
    pub(crate) uuid: &'static CStr,
}

/// As a privileged mount has them.
pub(crate) static TRUSTED: Names = Names {
    prefix: b"trusted.overlay.",
    escaped: b"trusted.overlay.overlay.",
    opaque: c"trusted.overlay.opaque",
    whiteout: c"trusted.overlay.whiteout",
    impure: c"trusted.overlay.impure",
    origin: c"trusted.overlay.origin",
    redirect: c"trusted.overlay.redirect",
    metacopy: c"trusted.overlay.metacopy",
    protattr: c"trusted.overlay.protattr",
    uuid: c"trusted.overlay.uuid",
};

/// As a mount with `userxattr` has them.
pub(crate) static USER: Names = Names {
    prefix: b"user.overlay.",
    escaped: b"user.overlay.overlay.",
    opaque: c"user.overlay.opaque",
    whiteout: c"user.overlay.whiteout",
    impure: c"user.overlay.impure",
    origin: c"user.overlay.origin",
    redirect: c"user.overlay.redirect",
    metacopy: c"user.overlay.metacopy",
    protattr: c"user.overlay.protattr",
    uuid: c"user.overlay.uuid",
};

impl Names {
    /// Whether an attribute of this name, on disk, belongs to this overlay, so
    /// that it is not copied with an object. All others are copied under the name
    /// they have, escaped ones too.
    pub(crate) fn is_private(&self, name: &[u8]) -> bool {
        name.starts_with(self.prefix) && !name.starts_with(self.escaped)
    }
}
