// SPDX-License-Identifier: GPL-2.0

//! Every mark on disk, parsed and written.
//!
//! Nothing here knows the kernel: these files use `core` alone, allocate nothing, and
//! are compiled for the host as well, with their tests and by the fuzzer
//! (`tools/fuzz`). A parser takes bytes, which a user may have written, and gives a value
//! or an error that says what is wrong with them.
//!
//! The form is overlayfs's; `Documentation/format.rst` describes it, and what rovl does
//! with a mark that is not as it should be.

pub(crate) mod dir;
pub(crate) mod handle;
pub(crate) mod lowerdir;
pub(crate) mod metacopy;
pub(crate) mod names;
pub(crate) mod protattr;
pub(crate) mod redirect;
pub(crate) mod uuid;

// What only an index has.
#[allow(dead_code, reason = "there is no index yet")]
pub(crate) mod nlink;
