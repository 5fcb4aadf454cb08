// SPDX-License-Identifier: GPL-2.0
//
// The text of a link may lie in its inode, and go with it.
//
// error: error[E0597]
#![allow(unused_imports)]

use crate::vfs::{inode_ops::Link, lock::*, Path};
use kernel::prelude::*;

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, dir: Path<'_>) -> Result<usize> {
    let link = {
        let dentry = dir.lookup(ctx, b"a")?;
        Link::read(&dentry)?
    };
    Ok(link.text().count_bytes())
}
