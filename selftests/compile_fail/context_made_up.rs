// SPDX-License-Identifier: GPL-2.0
//
// A context comes from the VFS and cannot be made up.
//
// error: error[E0624]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
#[allow(unsafe_code)]
fn case() {
    // SAFETY: none, which is the point.
    let _ctx = unsafe { Context::<Nothing>::enter() };
}
