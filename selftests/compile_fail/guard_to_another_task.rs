// SPDX-License-Identifier: GPL-2.0
//
// Locks belong to the task that took them.
//
// error: error[E0277]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

fn to_another_task<T: Send>(_: T) {}

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount) -> Result {
    to_another_task(ctx.want_write(mnt)?);
    Ok(())
}
