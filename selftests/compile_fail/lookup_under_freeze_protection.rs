// SPDX-License-Identifier: GPL-2.0
//
// A name is not looked up under freeze protection: in a layer that is a stack itself,
// with the same filesystem below, directories are locked before that.
//
// error: error[E0277]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount, Path};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, path: Path<'_>) -> Result {
    let mut access = ctx.want_write(mnt)?;
    path.lookup(&mut access, b"b")?;
    Ok(())
}
