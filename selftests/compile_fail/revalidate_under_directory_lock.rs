// SPDX-License-Identifier: GPL-2.0
//
// To ask whether a name still holds may lock directories: not while one is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{dentry_ops::Flags, lock::*, Dentry, Mount};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, flags: Flags) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    dir.revalidate(ctx, flags)?;
    drop(name);
    Ok(())
}
