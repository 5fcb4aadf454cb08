// SPDX-License-Identifier: GPL-2.0

//! What a mount may be made of, by whom, and what it tells.

use crate::runner::Test;

pub fn tests() -> Vec<Test> {
    vec![]
}
