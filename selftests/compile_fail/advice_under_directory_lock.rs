// SPDX-License-Identifier: GPL-2.0
//
// Pages may be read or written for advice: not while a directory is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{file, lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, file: &File) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    file::fadvise(ctx, file, (0, 0), 0)?;
    drop(name);
    Ok(())
}
