// SPDX-License-Identifier: GPL-2.0
//
// Filesystems lock the inode to find data and holes: not while a directory is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, namei, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, file: &File) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    namei::llseek(ctx, file, 0, 0)?;
    drop(name);
    Ok(())
}
