// SPDX-License-Identifier: GPL-2.0

//! What a copy-up, an open file or a descriptor of a layer may take along.

use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    vec![]
}
