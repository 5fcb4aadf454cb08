// SPDX-License-Identifier: GPL-2.0

//! Permission, `stat`, and changes of attributes.
//!
//! overlayfs's permission model, as its documentation gives it: an access is
//! allowed if the *caller* may make it by the attributes of the overlay inode,
//! and the *mounter* may make it to the object below. A write to a lower object
//! becomes a copy, for which the mounter must be able to read it.

use crate::{
    copyup,
    layers::{self, Rovl},
    vfs::{
        self,
        attr::{Attributes, NotExecuted, Stat},
        idmap::Idmap,
        inode::{Kind, RcuInode},
        inode_ops::{Access, DelayedLink, FiemapRequest, InodeOperations, LinkText, Request},
        lock::{Context, InodeLock},
        Dentry, Inode,
    },
};
use kernel::prelude::*;

/// What the mounter must be allowed below for `access` to an object above.
fn access_below(kind: Kind, access: Access, is_upper: bool) -> Access {
    if !is_upper && access.wants_write() && kind != Kind::Special {
        access.read_instead_of_write()
    } else {
        access
    }
}

impl InodeOperations for Rovl {
    fn permission(inode: &Inode<Self>, idmap: Idmap<'_>, access: Access) -> Result {
        inode.generic_permission(idmap, access)?;
        let real = crate::inode::real(inode)?;
        layers::of(inode).as_mounter(|| {
            let below = access_below(inode.kind(), access, real.is_upper);
            vfs::attr::permission(real.path, below)
        })
    }

    fn permission_rcu(inode: RcuInode<'_, Self>, idmap: Idmap<'_>, access: Access) -> Result {
        inode.generic_permission(idmap, access)?;
        let backing = inode.backing().ok_or(ECHILD)?;
        inode.super_data().layers.as_mounter(|| {
            let below = access_below(inode.kind(), access, backing.is_writable());
            backing.permission(below)
        })
    }

    fn getattr(
        dentry: &Dentry<Self>,
        idmap: Idmap<'_>,
        request: Request,
        stat: &mut Stat,
    ) -> Result {
        let inode = dentry.node()?;
        let layers = layers::of(inode);
        let real = inode.data().real(layers)?;
        layers.as_mounter(|| stat.read(real.path, request.mask, request.flags))?;
        stat.show_owner(inode.sb(), idmap);
        stat.set_enforced_attributes(inode);
        let identity = inode.data().identity(layers, &real)?;
        let dev = inode.sb().dev();
        if let Some(ino) = layers.numbers.of_object(identity.fs, identity.ino) {
            stat.set_identity(dev, ino);
        } else if inode.is_dir() {
            stat.set_identity(dev, inode.ino());
        } else {
            let fs = layers.filesystems.get(identity.fs as usize).ok_or(EIO)?;
            stat.set_identity(fs.pseudo_dev.get(), identity.ino);
        }
        if !inode.is_dir() || inode.nlink() == 0 {
            stat.set_nlink(inode.nlink());
        } else if inode.data().is_merged() || inode.data().is_trap() {
            // The subdirectories that are shown are not counted; 1 says so.
            stat.set_nlink(1);
        }
        stat.set_change_cookie_unsupported();
        Ok(())
    }

    fn setattr(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Self>,
        idmap: Idmap<'_>,
        attr: &mut Attributes,
    ) -> Result {
        let inode = dentry.node()?;
        let layers = layers::of(inode);
        attr.prepare(dentry, idmap)?;
        let is_done = match attr.new_size() {
            Some(size) => {
                crate::inode::check_mutable(inode)?;
                if inode.data().upper().is_none() && inode.size() != size {
                    // The copy has the new size already, and filesystems leave
                    // the times alone where that does not change.
                    attr.touch();
                }
                copyup::copy_up_truncated(ctx, dentry, size, attr)?
            }
            None => {
                copyup::copy_up(ctx, dentry)?;
                false
            }
        };
        let upper = inode.data().upper().ok_or(EIO)?;
        let below = upper.positive()?;
        let changed = match is_done {
            true => Ok(()),
            false => layers.as_mounter(|| {
                // A program that is run from the upper directory is one that runs.
                let size = attr.new_size();
                let _not_executed = size.map(|_| NotExecuted::new(below)).transpose()?;
                ctx.want_write(layers.upper_mnt()?)?
                    .set_attributes(upper, attr)
            }),
        };
        inode.copy_attributes(below);
        changed
    }

    fn get_link<'a>(dentry: &'a Dentry<Self>, link: DelayedLink<'a>) -> Result<LinkText<'a>> {
        let inode = dentry.node()?;
        layers::of(inode).as_mounter(|| link.read(crate::inode::real(inode)?.path.dentry))
    }

    fn update_atime(inode: &Inode<Self>) -> Result {
        let real = crate::inode::real(inode)?;
        if real.is_upper {
            real.path.touch_atime();
            inode.copy_times(real.path.inode()?);
        }
        Ok(())
    }

    fn fiemap(inode: &Inode<Self>, request: FiemapRequest<'_>) -> Result {
        layers::of(inode).as_mounter(|| request.ask(crate::inode::real(inode)?.path.inode()?))
    }
}
