// SPDX-License-Identifier: GPL-2.0
//
// What C declares is used in vfs/, behind types, and nowhere else.
//
// error: error[E0603]
#![allow(unused_imports)]

use crate::vfs::bindings;
