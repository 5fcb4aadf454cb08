// SPDX-License-Identifier: GPL-2.0
//
// In a path walk without references none can be taken: the last may be gone.
//
// error: error[E0277]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{inode::RcuInode, Inode},
};
use kernel::{prelude::*, sync::aref::ARef};

#[expect(dead_code)]
fn permission_rcu(inode: RcuInode<'_, Rovl>) -> ARef<Inode<Rovl>> {
    inode.into()
}
