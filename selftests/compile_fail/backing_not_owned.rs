// SPDX-License-Identifier: GPL-2.0
//
// An inode owns the one it stands on: a borrowed one could go first.
//
// error: error[E0308]
#![allow(unused_imports)]

use crate::{layers::Rovl, vfs::Inode};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(inode: &Inode<Rovl>, below: &Inode) {
    inode.set_backing(below, true);
}
