// SPDX-License-Identifier: GPL-2.0

//! Step 4 of a copy-up: owner, mode, times, xattrs, ACLs, inode flags.

use super::Copy;
use crate::vfs::compat::{ENODATA, EOPNOTSUPP};
use crate::{
    lookup, private,
    vfs::{
        self, acl,
        attr::Attributes,
        fileattr::FileAttr,
        flags::XattrFlags,
        inode::Kind,
        lock::{Context, Held, WriteAccess},
        Dentry,
    },
    whiteout,
};
use kernel::prelude::*;

/// File capabilities.
const CAPABILITY: &CStr = c"security.capability";

impl Copy<'_> {
    /// Gives the copy everything but its data and its name. The owner comes
    /// first, since to change it strips capabilities and set-id bits; the times
    /// come last, since all else changes them.
    #[inline(never)]
    pub(super) fn copy_metadata<H: Held>(&self, ctx: &mut Context<H>, to: &Dentry) -> Result {
        let origin = self.origin(ctx)?;
        let flags = self.flags(ctx)?;
        let mut access = ctx.want_write(&self.upper.layer.mnt)?;
        access.set_attributes(to, &mut Attributes::new().owner(self.stat.owner()))?;
        self.copy_xattrs(&mut access, to)?;
        if !self.is_symlink() {
            self.copy_acls(&mut access, to)?;
            access.set_attributes(to, &mut Attributes::new().mode(self.stat.mode()))?;
        }
        if let Some(flags) = &flags {
            private::copy_up_flags(&mut access, self.layers.names, flags, to)?;
        }
        if !self.inode.data().has_lost_name() {
            let parent = self.dentry.parent();
            let dir = parent.node()?.data().upper().ok_or(EIO)?;
            private::join_project(&mut access, dir, to)?;
        }
        self.set_origin(&mut access, to, origin)?;
        if self.inode.data().is_trap() {
            // As empty as it was shown, also where the layer is no part of the stack.
            whiteout::set_opaque(&mut access, self.layers.names, to)?;
        }
        let (atime, mtime) = self.stat.times();
        access.set_attributes(to, &mut Attributes::new().times(atime, mtime).forced())
    }

    fn is_symlink(&self) -> bool {
        self.inode.kind() == Kind::Symlink
    }

    fn copy_xattrs(&self, access: &mut WriteAccess<'_>, to: &Dentry) -> Result {
        let names = match vfs::xattr::list(self.source) {
            Ok(names) => names,
            // No xattrs there, so none to lose.
            Err(e) if e == EOPNOTSUPP => return Ok(()),
            Err(e) => return Err(e),
        };
        for name in names.iter() {
            if self.layers.names.is_private(name.to_bytes()) || acl::is_acl_xattr(name) {
                continue;
            }
            if !vfs::xattr::wanted_in_copy(self.source.dentry, name)? {
                continue;
            }
            let value = match vfs::xattr::get_alloc(self.source, name) {
                Ok(value) => value,
                // Listed but not to be had: a name that the security module
                // lists for objects without a label.
                Err(e) if e == ENODATA => continue,
                // Anybody who owns the file may have stored what is none.
                Err(e) if name == CAPABILITY && (e == EINVAL || e == EOPNOTSUPP) => continue,
                Err(e) => return Err(e),
            };
            match access.set_xattr(to, name, &value, XattrFlags::NONE) {
                Err(e) if e == EOPNOTSUPP && is_optional(name) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn copy_acls(&self, access: &mut WriteAccess<'_>, to: &Dentry) -> Result {
        let kinds: &[acl::Kind] = if self.inode.is_dir() {
            &[acl::Kind::Access, acl::Kind::Default]
        } else {
            &[acl::Kind::Access]
        };
        for &kind in kinds {
            let found = match acl::get(self.source, kind) {
                Ok(found) => found,
                Err(e) if e == EOPNOTSUPP => None,
                Err(e) => return Err(e),
            };
            if let Some(found) = found {
                access.set_acl(to, kind, Some(&found))?;
            }
        }
        Ok(())
    }

    /// `chattr` flags that an object keeps when it is copied.
    fn flags<H: Held>(&self, ctx: &mut Context<H>) -> Result<Option<FileAttr>> {
        match self.inode.kind() {
            Kind::Regular | Kind::Directory => private::flags_to_copy(ctx, self.source),
            Kind::Symlink | Kind::Special => Ok(None),
        }
    }

    /// The value of `overlay.origin`, by which a later mount shows the same inode number.
    /// What becomes an object of its own has none.
    fn origin<H: Held>(&self, ctx: &mut Context<H>) -> Result<Option<KVec<u8>>> {
        if self.is_own {
            return Ok(None);
        }
        lookup::origin_value(ctx, self.layers, self.source).map(Some)
    }

    fn set_origin(
        &self,
        access: &mut WriteAccess<'_>,
        to: &Dentry,
        origin: Option<KVec<u8>>,
    ) -> Result {
        let Some(value) = origin else { return Ok(()) };
        match access.set_xattr(to, self.layers.names.origin, &value, XattrFlags::NONE) {
            // Special files cannot have one on some filesystems: the number
            // changes at the next mount, nothing else.
            Err(e) if e == EOPNOTSUPP || e == EPERM => Ok(()),
            other => other,
        }
    }
}

/// Whether a copy may go without this xattr if the upper filesystem has no
/// place for its kind: labels of security modules that are not in use there.
fn is_optional(name: &CStr) -> bool {
    !name.to_bytes().starts_with(b"user.")
}
