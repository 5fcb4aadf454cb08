// SPDX-License-Identifier: GPL-2.0

//! Extended attributes of the merged tree, access control lists, inode flags.
//!
//! What [`crate::private`] keeps with objects of the upper layer is not seen in
//! the merged tree.

use crate::vfs::compat::{ENODATA, EOPNOTSUPP};
use crate::{
    copyup,
    format::{names::Names, protattr::Protection},
    inode,
    layers::{self, Rovl},
    private::{self, PROTECTION},
    vfs::{
        acl::{self, Acl, AclOperations},
        attr::Attributes,
        fileattr::{FileAttr, FileattrOperations},
        flags::XattrFlags,
        idmap::Idmap,
        inode::SET_GID,
        lock::{Context, InodeLock, MayLockDirectory, WriteAccess},
        xattr::{self, Buffer, XattrOperations},
        Dentry, Inode,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// What only the privileged may see begins with this.
const TRUSTED: &[u8] = b"trusted.";

/// Hands `f` the name on disk of what is called `name` in the merged tree.
///
/// # Errors
///
/// Those of overlayfs: `EOPNOTSUPP` if that is too long, `EINVAL` if there is nothing
/// after the prefix.
fn with_stored_name<T>(
    names: &Names,
    name: &CStr,
    f: impl FnOnce(&CStr) -> Result<T>,
) -> Result<T> {
    let Some(rest) = name.to_bytes_with_nul().strip_prefix(names.prefix) else {
        return f(name);
    };
    if rest == b"\0" {
        return Err(EINVAL);
    }
    let mut buffer = [0; xattr::NAME_MAX + 1];
    let (prefix, suffix) = buffer.split_at_mut(names.escaped.len());
    prefix.copy_from_slice(names.escaped);
    suffix
        .get_mut(..rest.len())
        .ok_or(EOPNOTSUPP)?
        .copy_from_slice(rest);
    f(CStr::from_bytes_until_nul(&buffer).map_err(|_| EOPNOTSUPP)?)
}

/// What is called `stored` on disk, in the merged tree: the name in two parts,
/// or `None` if it is not for the caller to see.
fn shown_name<'a>(
    names: &Names,
    stored: &'a CStr,
    sees_trusted: bool,
) -> Option<(&'a [u8], &'a [u8])> {
    let name = stored.to_bytes_with_nul();
    if names.is_private(name) || (name.starts_with(TRUSTED) && !sees_trusted) {
        return None;
    }
    Some(match name.strip_prefix(names.escaped) {
        Some(rest) => (names.prefix, rest),
        None => (name, &[]),
    })
}

impl XattrOperations for Rovl {
    fn get(inode: &Inode<Rovl>, name: &CStr, value: &mut Buffer<'_>) -> Result {
        let real = inode::real(inode)?;
        with_stored_name(layers::of(inode).names, name, |name| {
            layers::of(inode).as_mounter(|| xattr::get_into(real.path, name, value))
        })
    }

    fn set(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Rovl>,
        inode: &Inode<Rovl>,
        name: &CStr,
        value: Option<&[u8]>,
        flags: XattrFlags,
    ) -> Result {
        with_stored_name(layers::of(inode).names, name, |name| {
            check_presence(inode, name, flags)?;
            change_upper(ctx, dentry, inode, |access, upper| match value {
                Some(value) => access.set_xattr(upper, name, value, flags),
                None => access.remove_xattr(upper, name),
            })
        })
    }

    fn list(dentry: &Dentry<Rovl>, names: &mut Buffer<'_>) -> Result {
        let inode = dentry.node()?;
        let real = inode::real(inode)?;
        let stored = layers::of(inode).as_mounter(|| xattr::list(real.path))?;
        let sees_trusted = xattr::may_see_trusted();
        let private = layers::of(inode).names;
        let shown = stored
            .iter()
            .filter_map(|name| shown_name(private, name, sees_trusted));
        for (first, second) in shown {
            names.push(first)?;
            names.push(second)?;
        }
        Ok(())
    }
}

/// Refuses a change of an attribute of a lower object that the upper filesystem
/// would refuse after the copy-up: one that must be there and is not, or must
/// not be there and is.
fn check_presence(inode: &Inode<Rovl>, name: &CStr, flags: XattrFlags) -> Result {
    let must_be_new = flags.has(XattrFlags::CREATE);
    let must_be_there = flags.has(XattrFlags::REPLACE);
    let real = inode::real(inode)?;
    if real.is_upper || !(must_be_new || must_be_there) {
        return Ok(());
    }
    layers::of(inode).as_mounter(|| match xattr::get(real.path, name, &mut []) {
        Ok(_) if must_be_new => Err(EEXIST),
        Err(e) if e == ENODATA && must_be_new => Ok(()),
        r => r.map(|_| ()),
    })
}

/// Copies the object up, makes a change to the upper one as the mounter, and
/// takes over what has changed of its attributes.
fn change_upper(
    ctx: &mut Context<InodeLock>,
    dentry: &Dentry<Rovl>,
    inode: &Inode<Rovl>,
    change: impl FnOnce(&mut WriteAccess<'_>, &Dentry) -> Result,
) -> Result {
    // A security module may set a label on an inode to which no dentry leads
    // yet: one that was made in the upper layer right before.
    if inode.data().upper().is_none() {
        copyup::copy_up(ctx, dentry)?;
    }
    let layers = layers::of(inode);
    let upper = inode.data().upper().ok_or(EIO)?;
    let mut access = ctx.want_write(layers.upper_mnt()?)?;
    let result = layers.as_mounter(|| change(&mut access, upper));
    drop(access);
    inode.copy_attributes(upper.positive()?);
    result
}

impl AclOperations for Rovl {
    fn get_inode_acl(inode: &Inode<Rovl>, kind: acl::Kind) -> Result<Option<ARef<Acl>>> {
        let real = inode::real(inode)?;
        layers::of(inode).as_mounter(|| acl::get_inode(real.path, kind))
    }

    fn get_acl(dentry: &Dentry<Rovl>, kind: acl::Kind) -> Result<Option<ARef<Acl>>> {
        let inode = dentry.node()?;
        let real = inode::real(inode)?;
        layers::of(inode).as_mounter(|| acl::get(real.path, kind))
    }

    fn set_acl(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Rovl>,
        idmap: Idmap<'_>,
        kind: acl::Kind,
        acl: Option<&Acl>,
    ) -> Result {
        let inode = dentry.node()?;
        let layers = layers::of(inode);
        if !acl::are_supported(layers.upper_mnt()?.root().positive()?) {
            return Err(EOPNOTSUPP);
        }
        // To remove what is not there succeeds, and is no reason to copy up.
        if acl.is_none() && Self::get_inode_acl(inode, kind)?.is_none() {
            return Ok(());
        }
        // The upper filesystem will ask this about the mounter, who may.
        let drops_setgid = kind == acl::Kind::Access
            && acl.is_some()
            && inode.mode() & SET_GID != 0
            && !acl::may_keep_setgid(inode, idmap);
        change_upper(ctx, dentry, inode, |access, upper| {
            if drops_setgid {
                let mode = upper.positive()?.mode() & !SET_GID;
                access.set_attributes(upper, &mut Attributes::new().mode(mode))?;
            }
            access.set_acl(upper, kind, acl)
        })
    }
}

impl FileattrOperations for Rovl {
    fn fileattr_get(
        may_lock: &mut impl MayLockDirectory,
        dentry: &Dentry<Rovl>,
        attr: &mut FileAttr,
    ) -> Result {
        let inode = dentry.node()?;
        let real = inode::real(inode)?;
        layers::of(inode).as_mounter(|| {
            attr.may_get(may_lock, real.path)?;
            attr.read(real.path)
        })?;
        for flag in PROTECTION {
            if inode.flags() & flag.inode_flag() != 0 {
                attr.set(flag, true);
            }
        }
        Ok(())
    }

    fn fileattr_set(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Rovl>,
        attr: &FileAttr,
    ) -> Result {
        let inode = dentry.node()?;
        let protection = private::protection_of(attr);
        if protection != Protection::default() && !private::can_be_protected(inode) {
            return Err(EOPNOTSUPP);
        }
        // A directory of a layer in which two names are one would have to be known as
        // such by all who look names up.
        if attr.has_casefold() {
            return Err(EOPNOTSUPP);
        }
        copyup::copy_up(ctx, dentry)?;
        let real = inode::real(inode)?;
        layers::of(inode).as_mounter(|| attr.may_set(ctx, real.path))?;
        change_upper(ctx, dentry, inode, |access, upper| {
            let mut below = attr.clone();
            for flag in PROTECTION {
                below.set(flag, false);
            }
            // First, since it ends a protection that was not made by us and
            // would keep us from changing attributes.
            access.set_fileattr(upper, &below)?;
            private::write_protection(access, layers::of(inode).names, upper, attr)?;
            inode.set_flags_from(upper.positive()?, private::inode_flags(protection));
            Ok(())
        })
    }
}
