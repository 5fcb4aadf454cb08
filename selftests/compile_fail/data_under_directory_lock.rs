// SPDX-License-Identifier: GPL-2.0
//
// File data must not move while a directory is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(
    ctx: &mut Context<Nothing>,
    mnt: &Mount,
    dir: &Dentry,
    (from, to): (&File, &File),
) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    ctx.copy_data(from, to, 0, 1)?;
    drop(name);
    Ok(())
}
