// SPDX-License-Identifier: GPL-2.0
//
// Two directories are locked together or not at all.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, (one, two): (&Dentry, &Dentry)) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let first = access.lock_name(one, b"a")?;
    let second = access.lock_name(two, b"a")?;
    drop((first, second));
    Ok(())
}
