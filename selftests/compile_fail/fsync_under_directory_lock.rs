// SPDX-License-Identifier: GPL-2.0
//
// To wait for a disk while a directory is locked makes everybody wait.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, file: &File) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    ctx.fsync(file)?;
    drop(name);
    Ok(())
}
