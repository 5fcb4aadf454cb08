// SPDX-License-Identifier: GPL-2.0

//! Known faults of overlayfs, by the number under which each was published.

use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    vec![]
}
