// SPDX-License-Identifier: GPL-2.0
//
// Opening a file may wait for who is asked whether it may be: not while a directory is
// locked.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{flags::OpenFlags, lock::*, Dentry, Mount, Path};
use kernel::{cred::Credential, prelude::*};

#[expect(dead_code)]
fn case(
    ctx: &mut Context<Nothing>,
    mnt: &Mount,
    dir: &Dentry,
    (path, cred): (Path<'_>, &Credential),
) -> Result {
    let mut access = ctx.want_write(mnt)?;
    let name = access.lock_name(dir, b"a")?;
    path.open(ctx, OpenFlags::READ_ONLY, cred)?;
    drop(name);
    Ok(())
}
