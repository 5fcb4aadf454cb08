// SPDX-License-Identifier: GPL-2.0

//! Rights that a mount must not give away, and layers that lie.
//!
//! One test for each known fault of this kind in overlayfs, named by it (`cves`), and
//! one for each that was found in rovl: what a copy takes along (`copies`), what marks of
//! a layer claim (`marks`), and what a mount may be made of (`mounts`).
//! `Documentation/security.rst` has the list.

mod copies;
mod cves;
mod marks;
mod mounts;

use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    [
        copies::tests(),
        cves::tests(),
        marks::tests(),
        mounts::tests(),
    ]
    .concat()
}
