// SPDX-License-Identifier: GPL-2.0

//! Every mark on disk, parsed and written.
//!
//! Nothing here knows the kernel: these files use `core` alone, allocate nothing, and
//! are compiled for the host as well, by the tools and by the fuzzers. A parser takes
//! bytes, which a user may have written, and gives a value or an error that says what is
//! wrong with them.
//!
//! The form is overlayfs's (`Documentation/filesystems/overlayfs.rst`).

pub(crate) mod names;
