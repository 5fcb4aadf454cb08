// SPDX-License-Identifier: GPL-2.0
//
// Whoever is asked whether a directory may be opened may wait for a thaw: it is not
// opened under freeze protection.
//
// error: error[E0499]
#![allow(unused_imports)]

use crate::vfs::{iterate::DirFile, lock::*, Dentry, Mount, Path};
use kernel::{cred::Credential, prelude::*};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, mnt: &Mount, dir: &Dentry, cred: &Credential) -> Result {
    let access = ctx.want_write(mnt)?;
    DirFile::open(ctx, Path::new(mnt, dir), cred)?;
    drop(access);
    Ok(())
}
