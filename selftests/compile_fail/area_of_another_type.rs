// SPDX-License-Identifier: GPL-2.0
//
// What is mapped is a file of one type of filesystem, whose functions are called for it.
//
// error: error[E0308]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::file_ops::{Area, FileOperations},
};
use kernel::{cred::Credential, fs::File, prelude::*};

#[expect(dead_code)]
fn mmap<F: FileOperations>(area: Area<'_, F>, backing: &File, cred: &Credential) -> Result {
    let area: Area<'_, Rovl> = area;
    area.map(backing, cred)
}
