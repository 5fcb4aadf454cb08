// SPDX-License-Identifier: GPL-2.0

//! rovl: a stacking (union) filesystem that copies up without holding locks.
//!
//! The rooms, from the top; a room knows those below it and never those above
//! (`make check` reads the order from here):
//!
//! * [`super_block`]: what one mount is: its types, sync, statfs, options shown;
//! * [`mount`]: options to a checked configuration to a stack of layers, with errors
//!   that name the layer;
//! * [`namespace`]: create, link, unlink, rename, tmpfile;
//! * [`readdir`]: reading a merged directory;
//! * [`file`]: open and I/O;
//! * [`xattr`]: extended attributes, ACLs, inode flags;
//! * [`attributes`]: permission, `stat`, `chmod` and their kin;
//! * [`copyup`]: the copy-up engine;
//! * [`lookup`]: one name through all the layers;
//! * [`whiteout`]: whiteouts and opaque marks: make, recognise, remove;
//! * [`inode`]: the overlay inode, its upper and lower objects;
//! * [`private`]: what is kept with upper objects, in private attributes;
//! * [`listing`]: a merged listing as data: names, order, cache;
//! * [`layers`]: the stack of layers and what each can do;
//! * [`mod@format`]: every mark on disk, parsed and written: `core` only;
//! * [`vfs`]: safe wrappers over the kernel's VFS, the only place with `unsafe`.

#![deny(unsafe_code)]

use kernel::prelude::*;

mod attributes;
mod copyup;
mod file;
mod format;
mod inode;
mod layers;
mod listing;
mod lookup;
mod mount;
mod namespace;
mod private;
mod readdir;
mod super_block;
mod vfs;
mod whiteout;
mod xattr;

use layers::Rovl;
use vfs::super_block::Registration;

module! {
    type: RovlModule,
    name: "rovl",
    authors: ["The rovl authors"],
    description: "Stacking filesystem with lock-free copy-up",
    license: "GPL",
    alias: ["fs-rovl"],
}

struct RovlModule {
    /// Last to be made and first to go: once they are there others may mount.
    _overlay: Option<Registration<Rovl>>,
    _rovl: Registration<Rovl>,
    #[cfg(CONFIG_ROVL_DEBUG)]
    _pause: copyup::pause::Files,
}

impl kernel::Module for RovlModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        vfs::layout::check()?;
        Ok(Self {
            #[cfg(CONFIG_ROVL_DEBUG)]
            _pause: copyup::pause::Files::new()?,
            _rovl: Registration::new(&super_block::ROVL)?,
            _overlay: register_overlay(),
        })
    }
}

/// Registers the name that the programs know which mount overlays, if the module's parameter asks
/// for it.
///
/// Never an error: the other name is there already, and may be in use.
fn register_overlay() -> Option<Registration<Rovl>> {
    if !vfs::params::overlay() {
        return None;
    }
    match Registration::new(&super_block::OVERLAY) {
        Ok(registration) => Some(registration),
        Err(e) if e == EBUSY => {
            pr_err!(
                "the kernel's own 'overlay' is there, so 'overlay=1' does nothing, and mounts of \
                 that type are not of rovl: unload both ('rmmod overlay', 'rmmod rovl') and \
                 load rovl first\n"
            );
            None
        }
        Err(e) => {
            pr_err!("cannot be 'overlay' too: error {}\n", e.to_errno());
            None
        }
    }
}
