// SPDX-License-Identifier: GPL-2.0
//
// Flags are of the call that knows them.
//
// error: error[E0308]
#![allow(unused_imports)]

use crate::vfs::{flags::*, lock::*, Dentry};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(access: &mut WriteAccess<'_>, dir: &Dentry) -> Result {
    access.lock_rename((dir, b"a"), (dir, b"b"), XattrFlags::CREATE)?;
    Ok(())
}
