// SPDX-License-Identifier: GPL-2.0
//
// A path is not looked up while a directory is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, mount::OwnedPath, Dentry, Mount};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    OwnedPath::lookup(ctx, c"/")?;
    drop(name);
    Ok(())
}
