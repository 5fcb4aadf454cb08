// SPDX-License-Identifier: GPL-2.0
//
// That nothing is locked cannot be claimed: the trait is sealed.
//
// error: error[E0277]
#![allow(unused_imports)]

use crate::vfs::{lock::*, Path};
use kernel::prelude::*;

struct Claim;

impl MayLockDirectory for Claim {}
