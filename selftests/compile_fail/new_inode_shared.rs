// SPDX-License-Identifier: GPL-2.0
//
// An inode that is being made is not shared: a reference could be kept, and used
// while it is still filled in.
//
// error: error[E0624]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{inode::NewInode, Inode},
};
use kernel::{prelude::*, sync::aref::ARef};

#[expect(dead_code)]
fn case(new: NewInode<Rovl>) -> ARef<Inode<Rovl>> {
    let inode = new.inode().into();
    new.publish((1, 1), 0o644, 0);
    inode
}
