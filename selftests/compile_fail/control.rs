// SPDX-License-Identifier: GPL-2.0
//
// The control: what the other cases do wrong, done right. Must compile.
//
// error: none
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
    ctx.copy_data(from, to, 0, 1)?;
    ctx.fsync(to)?;
    let mut access = ctx.want_write(mnt)?;
    let mut name = access.lock_name(dir, b"a")?;
    name.link(file_dentry(to))?;
    drop(name);
    access.lock_name(dir, b"b")?.remove()?;
    drop(access);
    ctx.copy_data(from, to, 0, 1)?;
    Ok(())
}
