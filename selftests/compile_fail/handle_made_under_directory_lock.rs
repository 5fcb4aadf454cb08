// SPDX-License-Identifier: GPL-2.0
//
// A stacking filesystem may copy up what it gives a handle of: not while a directory is
// locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{export::Handle, lock::*, Dentry, Mount};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    Handle::encode(ctx, dir)?;
    drop(name);
    Ok(())
}
