// SPDX-License-Identifier: GPL-2.0
//
// The buffer for an attribute is memory that need not be initialised: it is not read.
//
// error: error[E0608]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{
        xattr::{self, Buffer},
        Inode,
    },
};
use kernel::prelude::*;

#[expect(dead_code)]
fn get(_inode: &Inode<Rovl>, _name: &CStr, value: &mut Buffer<'_>) -> u8 {
    value[0]
}
