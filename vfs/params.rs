// SPDX-License-Identifier: GPL-2.0

//! Parameters of the module.
//!
//! C header: [`include/linux/moduleparam.h`](srctree/include/linux/moduleparam.h)

use super::bindings as b;

/// `xino_auto`, which may change at any time.
pub(crate) fn xino_auto() -> bool {
    // SAFETY: no requirements.
    unsafe { b::rovl_param_xino_auto() }
}

/// `overlay`, which does not change after the module was loaded.
pub(crate) fn overlay() -> bool {
    // SAFETY: no requirements.
    unsafe { b::rovl_param_overlay() }
}

/// `redirect_dir`, as it is now: whether renames make redirects by default.
pub(crate) fn redirect_dir() -> bool {
    // SAFETY: no requirements.
    unsafe { b::rovl_param_redirect_dir() }
}

/// `redirect_always_follow`, as it is now: whether redirects are followed where they are not made.
pub(crate) fn redirect_always_follow() -> bool {
    // SAFETY: no requirements.
    unsafe { b::rovl_param_redirect_always_follow() }
}

/// `redirect_max`, as it is now: how long a path in a redirect may be, in bytes.
pub(crate) fn redirect_max() -> u16 {
    // SAFETY: no requirements.
    unsafe { b::rovl_param_redirect_max() }
}
