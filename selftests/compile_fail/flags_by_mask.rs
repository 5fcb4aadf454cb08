// SPDX-License-Identifier: GPL-2.0
//
// Which flags of an open file may change is not for the caller to say: direct I/O on a
// file that has none is a call of NULL.
//
// error: error[E0061]
#![allow(unused_imports)]

use crate::vfs::{file, flags::OpenFlags};
use kernel::{fs::File, prelude::*};

#[expect(dead_code)]
fn case(file: &File, (mask, flags): (OpenFlags, OpenFlags)) {
    file::set_flags(file, mask, flags);
}
