// SPDX-License-Identifier: GPL-2.0
//
// Freeze protection comes before directories: not a second time under one.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    let again = ctx.want_write(mnt)?;
    drop((name, again));
    Ok(())
}
