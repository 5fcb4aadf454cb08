// SPDX-License-Identifier: GPL-2.0
//
// A name is made through the guard of that name only.
//
// error: error[E0599]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, from: &Dentry) -> Result {
    let mut access = ctx.want_write(mnt)?;
    access.link(from)
}
