// SPDX-License-Identifier: GPL-2.0
//
// A name is not looked up while a directory is locked: that locks one.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount, Path};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, path: Path<'_>) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    path.lookup(ctx, b"b")?;
    drop(name);
    Ok(())
}
