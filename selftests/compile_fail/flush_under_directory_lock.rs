// SPDX-License-Identifier: GPL-2.0
//
// A file that is flushed may be written out: not while a directory is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{file, lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(
    ctx: &mut Context<Nothing>,
    mnt: &Mount,
    dir: &Dentry,
    (file, owner): (&File, file::Owner),
) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    file::flush(ctx, file, owner)?;
    drop(name);
    Ok(())
}
