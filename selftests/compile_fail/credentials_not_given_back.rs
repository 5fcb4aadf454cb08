// SPDX-License-Identifier: GPL-2.0
//
// Other credentials than the caller's last as long as a closure runs, and give
// nothing that could be forgotten, to leave the task with credentials that go.
//
// error: error[E0061]
#![allow(unused_imports)]

use crate::{layers::Layers, vfs};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(layers: &Layers) {
    core::mem::forget(layers.as_mounter());
}
