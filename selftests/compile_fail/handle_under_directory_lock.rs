// SPDX-License-Identifier: GPL-2.0
//
// To find an object by its handle may lock directories: not while one is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{export::Handle, lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, handle: &Handle) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    handle.decode(ctx, mnt)?;
    drop(name);
    Ok(())
}
