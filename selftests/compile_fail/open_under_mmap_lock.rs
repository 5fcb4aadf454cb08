// SPDX-License-Identifier: GPL-2.0
//
// A file is not opened where there is no context: in `->mmap`, under `mmap_lock`,
// who is asked for permission could wait for us.
//
// error: error[E0061]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{file::RegularFile, file_ops::Area, Path},
};
use kernel::{cred::Credential, prelude::*};

#[expect(dead_code)]
fn mmap(file: &RegularFile<Rovl>, area: Area<'_, Rovl>, path: Path<'_>, cred: &Credential) -> Result {
    let backing = file.open_backing(path, 0, cred)?;
    area.map(&backing, cred)
}
