// SPDX-License-Identifier: GPL-2.0
//
// What the VFS holds is what its entry points say: the trait is sealed.
//
// error: error[E0277]
#![allow(unused_imports)]

use crate::vfs::lock::*;
use kernel::prelude::*;

enum Claim {}

impl Held for Claim {}
