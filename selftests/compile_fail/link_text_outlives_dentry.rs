// SPDX-License-Identifier: GPL-2.0
//
// The VFS gets the text of a link that stays as long as what it asked about.
//
// error: error[E0515]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{
        inode_ops::{DelayedLink, LinkText},
        Dentry,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

#[expect(dead_code)]
fn get_link<'a>(dentry: &'a Dentry<Rovl>, link: DelayedLink<'a>) -> Result<LinkText<'a>> {
    let parent = dentry.parent();
    link.read(&parent)
}
