// SPDX-License-Identifier: GPL-2.0
//
// The guard of a directory is the last lock: an inode is locked without it.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{flags::XattrFlags, lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    access.set_xattr(dir, c"trusted.a", b"y", XattrFlags::NONE)?;
    drop(name);
    Ok(())
}
