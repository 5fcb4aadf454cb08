// SPDX-License-Identifier: GPL-2.0
//
// What `->tmpfile` is to open has no inode and no operations yet.
//
// error: error[E0308]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{file::TmpFile, lock::*},
};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn tmpfile(ctx: &mut Context<Nothing>, file: TmpFile<'_, Rovl>) -> Result {
    ctx.fsync(&file)
}
