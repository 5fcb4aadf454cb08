// SPDX-License-Identifier: GPL-2.0

//! What rovl keeps with objects of the upper layer.
//!
//! The names of these attributes begin with `trusted.overlay.`, or with
//! `user.overlay.` in a mount with the option `userxattr`, and are not seen in
//! the merged tree. An attribute that is called so in the merged tree, as an
//! overlay that has this one for a layer would, is stored with one `overlay.`
//! more: `trusted.overlay.opaque` there is `trusted.overlay.overlay.opaque`
//! below. See `Documentation/filesystems/overlayfs.rst`, "Nesting overlayfs
//! mounts".
//!
//! Immutable and append-only files and directories of the upper layer are not
//! so on disk, since then nothing below such a directory could be copied up,
//! and such a file could not be linked into place: the upper object has the
//! attribute `trusted.overlay.protattr` instead, with one letter for each of
//! the two flags as `chattr` names them, and the overlay inode has the flag.

use crate::vfs::compat::{ENODATA, EOPNOTSUPP};
use crate::{
    format::{
        names::Names,
        protattr::{self, Protection},
    },
    layers::Layers,
    vfs::{
        self,
        fileattr::{self, FileAttr, Flag},
        flags::XattrFlags,
        lock::{MayLockDirectory, WriteAccess},
        xattr, Dentry, Inode, Path,
    },
};
use core::fmt;
use kernel::{prelude::*, str::BStr};

/// The flags that upper objects have in [`Names::protattr`] only.
pub(crate) const PROTECTION: [Flag; 2] = [Flag::Append, Flag::Immutable];
/// The flags that a copy takes over, as far as its filesystem has them.
const COPIED: [Flag; 3] = [Flag::Sync, Flag::NoAtime, Flag::NoDump];

/// Which of [`PROTECTION`] are in `attr`.
pub(crate) fn protection_of(attr: &FileAttr) -> Protection {
    Protection {
        append: attr.has(Flag::Append),
        immutable: attr.has(Flag::Immutable),
    }
}

/// A protection as it is in `i_flags`.
pub(crate) fn inode_flags(protection: Protection) -> u32 {
    let flag = |is_set, flag: Flag| if is_set { flag.inode_flag() } else { 0 };
    flag(protection.append, Flag::Append) | flag(protection.immutable, Flag::Immutable)
}

/// Makes [`Names::protattr`] of an upper object say what `attr` says.
pub(crate) fn write_protection(
    access: &mut WriteAccess<'_>,
    names: &Names,
    upper: &Dentry,
    attr: &FileAttr,
) -> Result {
    let value = protection_of(attr).value();
    if !value.is_empty() {
        return access.set_xattr(upper, names.protattr, value, XattrFlags::NONE);
    }
    match access.remove_xattr(upper, names.protattr) {
        Err(e) if e == ENODATA || e == EOPNOTSUPP => Ok(()),
        r => r,
    }
}

/// What [`Names::protattr`] of an upper object says. One that cannot be read, or has no
/// meaning, protects nothing.
fn read_protection(names: &Names, upper: Path<'_>) -> Protection {
    let mut value = [0; protattr::MAX_LEN];
    let Ok(len) = xattr::get(upper, names.protattr, &mut value) else {
        return Protection::default();
    };
    Protection::parse(value.get(..len).unwrap_or_default()).unwrap_or_else(|why| {
        warn_of_mark(upper.dentry, "protattr", format_args!("{why}"));
        Protection::default()
    })
}

/// Tells of a mark of an object of the upper layer that has no meaning.
#[cold]
#[inline(never)]
pub(crate) fn warn_of_mark(upper: &Dentry, mark: &str, why: fmt::Arguments<'_>) {
    if vfs::may_warn() {
        let name = upper.name();
        pr_warn!("{}: malformed {}, {}\n", BStr::from_bytes(&name), mark, why);
    }
}

/// Whether an object may have the flags of [`PROTECTION`]. Symlinks and special
/// files of some filesystems have attributes, but these are for files and
/// directories.
pub(crate) fn can_be_protected(inode: &Inode) -> bool {
    inode.is_dir() || inode.is_regular()
}

/// The flags of a new overlay inode: those of the inode below, `real`, and those that
/// an upper object has in [`Names::protattr`].
pub(crate) fn flags_of(layers: &Layers, real: Path<'_>, is_upper: bool) -> Result<u32> {
    let below = real.inode()?;
    let mut flags = below.flags();
    if is_upper && can_be_protected(below) {
        flags |= inode_flags(layers.as_mounter(|| read_protection(layers.names, real)));
    }
    Ok(flags)
}

/// The flags of a lower object, if it has some that a copy takes over. Called with the
/// mounter's credentials in force.
pub(crate) fn flags_to_copy(
    may_lock: &mut impl MayLockDirectory,
    from: Path<'_>,
) -> Result<Option<FileAttr>> {
    let is_copied = |attr: &FileAttr| {
        protection_of(attr) != Protection::default()
            || COPIED.into_iter().any(|flag| attr.has(flag))
    };
    let found = fileattr::get(from)?.filter(is_copied);
    if let Some(attr) = &found {
        attr.may_get(may_lock, from)?;
    }
    Ok(found)
}

/// The part of a copy-up that copies inode flags: `old` are those of the lower object,
/// `to` its copy in the upper layer, which may have no name yet. Called with
/// the mounter's credentials in force, after all other xattrs are copied.
pub(crate) fn copy_up_flags(
    access: &mut WriteAccess<'_>,
    names: &Names,
    old: &FileAttr,
    to: &Dentry,
) -> Result {
    if protection_of(old) != Protection::default() {
        match write_protection(access, names, to, old) {
            // It stays protected until it is evicted, and then is not.
            Err(e) if e == EOPNOTSUPP => {}
            r => r?,
        }
    }
    let wanted = || COPIED.into_iter().filter(|flag| old.has(*flag));
    if wanted().next().is_none() || set_flags(access, to, wanted())? {
        return Ok(());
    }
    for flag in wanted() {
        set_flags(access, to, core::iter::once(flag))?;
    }
    Ok(())
}

/// Sets flags of an object of the upper layer; false if its filesystem does not
/// have all of them, and nothing was set.
fn set_flags(
    access: &mut WriteAccess<'_>,
    upper: &Dentry,
    flags: impl Iterator<Item = Flag>,
) -> Result<bool> {
    let Some(mut attr) = fileattr::get(Path::new(access.mnt(), upper))? else {
        return Ok(true);
    };
    for flag in flags {
        attr.set(flag, true);
    }
    match access.set_fileattr(upper, &attr) {
        Err(e) if fileattr::is_unknown(e) => Ok(false),
        r => r.map(|()| true),
    }
}

/// Gives an object that was made elsewhere, and is about to be moved or linked
/// into the upper directory `dir`, to the project of that directory, as if it
/// had been made there: the filesystem refuses it otherwise. Called with the
/// mounter's credentials in force.
pub(crate) fn join_project(access: &mut WriteAccess<'_>, dir: &Dentry, upper: &Dentry) -> Result {
    let get = |dentry: &Dentry| fileattr::get(Path::new(access.mnt(), dentry));
    let Some(of_dir) = get(dir)?.filter(|attr| attr.has(Flag::ProjectInherit)) else {
        return Ok(());
    };
    // Symlinks and special files may have no attributes, and no project.
    let Some(mut attr) = get(upper)? else {
        return Ok(());
    };
    let inherits = upper.positive()?.is_dir();
    if attr.project() == of_dir.project() && attr.has(Flag::ProjectInherit) == inherits {
        return Ok(());
    }
    attr.set_project(of_dir.project());
    attr.set(Flag::ProjectInherit, inherits);
    access.set_fileattr(upper, &attr)
}
