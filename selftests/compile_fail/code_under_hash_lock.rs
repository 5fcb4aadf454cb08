// SPDX-License-Identifier: GPL-2.0
//
// The inode hash is searched under a spinlock: for a key, not by code that could
// sleep, or search it again.
//
// error: error[E0308]
#![allow(unused_imports)]

use crate::{inode::OverlayInode, layers::Rovl, vfs::SuperBlock};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(sb: &SuperBlock<Rovl>, data: OverlayInode) -> Result {
    sb.insert_inode(|other: &OverlayInode| other.is_merged(), data)?;
    Ok(())
}
