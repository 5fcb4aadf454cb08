// SPDX-License-Identifier: GPL-2.0

//! Completions that can be waited for killably, which
//! [`kernel::sync::Completion`] does not offer yet.
//!
//! C header: [`include/linux/completion.h`](srctree/include/linux/completion.h)

use super::{bindings as b, to_result};
use kernel::{prelude::*, types::Opaque};

/// `struct completion`, completed once for everybody.
#[pin_data]
pub(crate) struct Completion {
    #[pin]
    inner: Opaque<b::completion>,
}

// SAFETY: a completion is made to be used from several tasks.
unsafe impl Send for Completion {}
// SAFETY: as above; it locks inside.
unsafe impl Sync for Completion {}

impl Completion {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is memory for a completion that stays in place.
                unsafe { b::init_completion(slot) }
            }),
        })
    }

    /// `complete_all`: wakes all who wait and lets through all who come later.
    pub(crate) fn complete_all(&self) {
        // SAFETY: initialised by `new`.
        unsafe { b::complete_all(self.inner.get()) };
    }

    /// `wait_for_completion_killable`.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` if a fatal signal came first.
    pub(crate) fn wait_killable(&self) -> Result {
        // SAFETY: initialised by `new`.
        to_result(unsafe { b::wait_for_completion_killable(self.inner.get()) })
    }
}

/// `signal_pending(current)`.
pub(crate) fn signal_pending() -> bool {
    // SAFETY: looks at the running task only.
    unsafe { b::rovl_signal_pending() }
}

/// `fatal_signal_pending(current)`.
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: looks at the running task only.
    unsafe { b::rovl_fatal_signal_pending() }
}
