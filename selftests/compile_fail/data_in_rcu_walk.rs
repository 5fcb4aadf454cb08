// SPDX-License-Identifier: GPL-2.0
//
// In a path walk without references the data of an inode may be gone.
//
// error: error[E0599]
#![allow(unused_imports)]

use crate::{layers::Rovl, vfs::inode::RcuInode};
use kernel::prelude::*;

#[expect(dead_code)]
fn permission_rcu(inode: RcuInode<'_, Rovl>) -> bool {
    inode.data().is_merged()
}
