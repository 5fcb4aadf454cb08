// SPDX-License-Identifier: GPL-2.0

//! Parameters of the module.
//!
//! C header: [`include/linux/moduleparam.h`](srctree/include/linux/moduleparam.h)

use super::bindings as b;

/// `overlay`, which does not change after the module was loaded.
pub(crate) fn overlay() -> bool {
    // SAFETY: no requirements.
    unsafe { b::rovl_param_overlay() }
}
