// SPDX-License-Identifier: GPL-2.0

//! Extended attributes of the merged tree: the private namespace, access
//! control lists, inode flags.
//!
//! What rovl keeps with objects of the upper layer has names that begin with
//! `trusted.overlay.`; these are not seen in the merged tree. An attribute that
//! is called so in the merged tree, as an overlay that has this one for a layer
//! would, is stored with one `overlay.` more: `trusted.overlay.opaque` there is
//! `trusted.overlay.overlay.opaque` below. See
//! `Documentation/filesystems/overlayfs.rst`, "Nesting overlayfs mounts".
//!
//! Immutable and append-only files and directories of the upper layer are not
//! so on disk, since then nothing below such a directory could be copied up,
//! and such a file could not be linked into place: the upper object has the
//! attribute `trusted.overlay.protattr` instead, with one letter for each of
//! the two flags as `chattr` names them, and the overlay inode has the flag.

use crate::{
    copyup, inode,
    layers::{self, Rovl},
    vfs::{
        acl::{self, Acl, AclOperations},
        attr::Attributes,
        bindings::{S_ISGID, XATTR_CREATE, XATTR_REPLACE},
        fileattr::{self, FileAttr, FileattrOperations, Flag},
        lock::{Context, InodeLock, WriteAccess},
        xattr::{self, XattrOperations},
        Dentry, Inode, Path,
    },
};
use kernel::{prelude::*, sync::aref::ARef};

/// What only the privileged may see begins with this.
const TRUSTED: &[u8] = b"trusted.";
/// What belongs to this overlay begins with this, on disk.
const PRIVATE: &[u8] = b"trusted.overlay.";
/// What is called [`PRIVATE`] in the merged tree begins with this, on disk.
const ESCAPED: &[u8] = b"trusted.overlay.overlay.";
/// Which of [`PROTECTION`] an upper object has.
const PROTATTR: &CStr = c"trusted.overlay.protattr";

/// The flags that upper objects have in [`PROTATTR`] only, with their letters,
/// in the order in which they are written.
const PROTECTION: [(u8, Flag); 2] = [(b'a', Flag::Append), (b'i', Flag::Immutable)];
/// The flags that a copy takes over.
const COPIED: [Flag; 2] = [Flag::Sync, Flag::NoAtime];

/// Whether an attribute of this name, on disk, belongs to this overlay, so that
/// it is not copied with an object. All others are copied under the name they
/// have, escaped ones too.
pub(crate) fn is_private(name: &[u8]) -> bool {
    name.starts_with(PRIVATE) && !name.starts_with(ESCAPED)
}

/// Hands `f` the name on disk of what is called `name` in the merged tree.
///
/// # Errors
///
/// `ERANGE` if that is too long.
fn with_stored_name<T>(name: &CStr, f: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
    let Some(rest) = name.to_bytes_with_nul().strip_prefix(PRIVATE) else {
        return f(name);
    };
    let mut buffer = [0; xattr::NAME_MAX + 1];
    let (prefix, suffix) = buffer.split_at_mut(ESCAPED.len());
    prefix.copy_from_slice(ESCAPED);
    suffix
        .get_mut(..rest.len())
        .ok_or(ERANGE)?
        .copy_from_slice(rest);
    f(CStr::from_bytes_until_nul(&buffer).map_err(|_| ERANGE)?)
}

/// What is called `stored` on disk, in the merged tree: the name in two parts,
/// or `None` if it is not for the caller to see.
fn shown_name(stored: &CStr, sees_trusted: bool) -> Option<(&[u8], &[u8])> {
    let name = stored.to_bytes_with_nul();
    if is_private(name) || (name.starts_with(TRUSTED) && !sees_trusted) {
        return None;
    }
    Some(match name.strip_prefix(ESCAPED) {
        Some(rest) => (PRIVATE, rest),
        None => (name, &[]),
    })
}

impl XattrOperations for Rovl {
    fn get(inode: &Inode<Rovl>, name: &CStr, value: &mut [u8]) -> Result<usize> {
        let real = inode::real(inode)?;
        with_stored_name(name, |name| {
            let _mounter = layers::of(inode).as_mounter();
            xattr::get(real.path, name, value)
        })
    }

    fn set(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Rovl>,
        inode: &Inode<Rovl>,
        name: &CStr,
        value: Option<&[u8]>,
        flags: i32,
    ) -> Result {
        with_stored_name(name, |name| {
            check_presence(inode, name, flags)?;
            change_upper(ctx, dentry, inode, |access, upper| match value {
                Some(value) => access.set_xattr(upper, name, value, flags),
                None => access.remove_xattr(upper, name),
            })
        })
    }

    fn list(dentry: &Dentry<Rovl>, names: &mut [u8]) -> Result<usize> {
        let inode = dentry.node()?;
        let real = inode::real(inode)?;
        let stored = {
            let _mounter = layers::of(inode).as_mounter();
            xattr::list(real.path)?
        };
        let sees_trusted = xattr::may_see_trusted();
        let mut len = 0usize;
        for (first, second) in stored.iter().filter_map(|n| shown_name(n, sees_trusted)) {
            for part in [first, second] {
                let end = len.checked_add(part.len()).ok_or(ERANGE)?;
                if !names.is_empty() {
                    let place = names.get_mut(len..end).ok_or(ERANGE)?;
                    place.copy_from_slice(part);
                }
                len = end;
            }
        }
        Ok(len)
    }
}

/// Refuses a change of an attribute of a lower object that the upper filesystem
/// would refuse after the copy-up: one that must be there and is not, or must
/// not be there and is.
fn check_presence(inode: &Inode<Rovl>, name: &CStr, flags: i32) -> Result {
    let must_be_new = flags & XATTR_CREATE as i32 != 0;
    let must_be_there = flags & XATTR_REPLACE as i32 != 0;
    let real = inode::real(inode)?;
    if real.is_upper || !(must_be_new || must_be_there) {
        return Ok(());
    }
    let _mounter = layers::of(inode).as_mounter();
    match xattr::get(real.path, name, &mut []) {
        Ok(_) if must_be_new => Err(EEXIST),
        Err(e) if e == ENODATA && must_be_new => Ok(()),
        r => r.map(|_| ()),
    }
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
    let result = {
        let _mounter = layers.as_mounter();
        change(&mut access, upper)
    };
    drop(access);
    inode.copy_attributes(upper.positive()?);
    result
}

impl AclOperations for Rovl {
    fn get_inode_acl(inode: &Inode<Rovl>, kind: acl::Kind) -> Result<Option<ARef<Acl>>> {
        let real = inode::real(inode)?;
        let _mounter = layers::of(inode).as_mounter();
        acl::get_inode(real.path.inode()?, kind)
    }

    fn get_acl(dentry: &Dentry<Rovl>, kind: acl::Kind) -> Result<Option<ARef<Acl>>> {
        let inode = dentry.node()?;
        let real = inode::real(inode)?;
        let _mounter = layers::of(inode).as_mounter();
        acl::get(real.path, kind)
    }

    fn set_acl(
        ctx: &mut Context<InodeLock>,
        dentry: &Dentry<Rovl>,
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
            && u32::from(inode.mode()) & S_ISGID != 0
            && !acl::may_keep_setgid(inode);
        change_upper(ctx, dentry, inode, |access, upper| {
            if drops_setgid {
                let mode = upper.positive()?.mode() & !(S_ISGID as u16);
                access.set_attributes(upper, &mut Attributes::new().mode(mode).forced())?;
            }
            access.set_acl(upper, kind, acl)
        })
    }
}

impl FileattrOperations for Rovl {
    fn fileattr_get(dentry: &Dentry<Rovl>, attr: &mut FileAttr) -> Result {
        let inode = dentry.node()?;
        let real = inode::real(inode)?;
        {
            let _mounter = layers::of(inode).as_mounter();
            attr.read(real.path)?;
        }
        for (_, flag) in PROTECTION {
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
        change_upper(ctx, dentry, inode, |access, upper| {
            let mut below = attr.clone();
            for (_, flag) in PROTECTION {
                below.set(flag, false);
            }
            // First, since it ends a protection that was not made by us and
            // would keep us from changing attributes.
            access.set_fileattr(upper, &below)?;
            write_protection(access, upper, attr)?;
            inode.set_flags_from(upper.positive()?, protection_of(attr));
            Ok(())
        })
    }
}

/// The flags of [`PROTECTION`] in `attr`, as they are in `i_flags`.
fn protection_of(attr: &FileAttr) -> u32 {
    PROTECTION
        .iter()
        .filter(|(_, flag)| attr.has(*flag))
        .fold(0, |flags, (_, flag)| flags | flag.inode_flag())
}

/// Makes [`PROTATTR`] of an upper object say what `attr` says.
fn write_protection(access: &mut WriteAccess<'_>, upper: &Dentry, attr: &FileAttr) -> Result {
    let mut value = KVec::with_capacity(PROTECTION.len(), GFP_KERNEL)?;
    for (letter, flag) in PROTECTION {
        if attr.has(flag) {
            value.push(letter, GFP_KERNEL)?;
        }
    }
    if !value.is_empty() {
        return access.set_xattr(upper, PROTATTR, &value, 0);
    }
    match access.remove_xattr(upper, PROTATTR) {
        Err(e) if e == ENODATA || e == EOPNOTSUPP => Ok(()),
        r => r,
    }
}

/// What [`PROTATTR`] of an upper object says, as it is in `i_flags`. One that
/// cannot be read protects nothing.
fn read_protection(upper: Path<'_>) -> u32 {
    // What does not fit was not written by an overlay that we know.
    let mut value = [0; 32];
    let len = xattr::get(upper, PROTATTR, &mut value).unwrap_or(0);
    let letters = value.get(..len).unwrap_or_default();
    PROTECTION
        .iter()
        .filter(|(letter, _)| letters.contains(letter))
        .fold(0, |flags, (_, flag)| flags | flag.inode_flag())
}

/// Gives a new overlay inode its flags: those of the inode below, and those
/// that an upper object has in [`PROTATTR`]. Called before the inode is
/// published.
pub(crate) fn init_flags(inode: &Inode<Rovl>) {
    let Ok(real) = inode::real(inode) else {
        return;
    };
    let Ok(below) = real.path.inode() else {
        return;
    };
    let mut flags = below.flags();
    // Symlinks and special files cannot be protected.
    if real.is_upper && (below.is_dir() || below.is_regular()) {
        let _mounter = layers::of(inode).as_mounter();
        flags |= read_protection(real.path);
    }
    inode.set_flags_from(below, flags);
}

/// The part of a copy-up that copies inode flags: `from` is the lower object,
/// `to` its copy in the upper layer, which may have no name yet. Called with
/// the mounter's credentials in force, after all other xattrs are copied.
pub(crate) fn copy_up_flags(access: &mut WriteAccess<'_>, from: Path<'_>, to: &Dentry) -> Result {
    let Some(old) = fileattr::get(from)? else {
        return Ok(());
    };
    if protection_of(&old) != 0 {
        match write_protection(access, to, &old) {
            // It stays protected until it is evicted, and then is not.
            Err(e) if e == EOPNOTSUPP => {}
            r => r?,
        }
    }
    if !COPIED.iter().any(|flag| old.has(*flag)) {
        return Ok(());
    }
    let Some(mut new) = fileattr::get(Path::new(access.mnt(), to))? else {
        return Ok(());
    };
    for flag in COPIED {
        new.set(flag, old.has(flag));
    }
    access.set_fileattr(to, &new)
}
