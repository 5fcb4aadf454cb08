// SPDX-License-Identifier: GPL-2.0
//
// File data must not move under freeze protection: a freeze would wait for it.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, (from, to): (&File, &File)) -> Result {
    let access = ctx.want_write(mnt)?;
    ctx.copy_data(from, to, 0, 1)?;
    drop(access);
    Ok(())
}
