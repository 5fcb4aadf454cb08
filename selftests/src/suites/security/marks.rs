// SPDX-License-Identifier: GPL-2.0

//! Marks of a layer that claim what is not so, or what cannot be followed.

use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    vec![]
}
