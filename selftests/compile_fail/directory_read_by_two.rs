// SPDX-License-Identifier: GPL-2.0
//
// Where a reader is in a directory is kept in its file, without a lock: whoever reads
// has the file to himself.
//
// error: error[E0596]
#![allow(unused_imports)]

use crate::vfs::{
    iterate::{for_each_entry, DirFile},
    lock::*,
};
use kernel::{prelude::*, sync::Arc};

#[expect(dead_code)]
fn case(ctx: &mut Context<Nothing>, shared: &Arc<DirFile>) -> Result {
    for_each_entry(ctx, &mut **shared, &mut |_| true)
}
