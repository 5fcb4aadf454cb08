// SPDX-License-Identifier: GPL-2.0
//
// A file that is closed may be removed with that: not while a directory is locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Dentry, Mount};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, file: ARef<File>) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    ctx.close(file);
    drop(name);
    Ok(())
}
