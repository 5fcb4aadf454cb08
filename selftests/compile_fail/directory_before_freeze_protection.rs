// SPDX-License-Identifier: GPL-2.0
//
// A directory can be locked only under freeze protection.
//
// error: error[E0599]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, dir: &Dentry) -> Result {
    ctx.lock_name(dir, b"a")?;
    Ok(())
}
