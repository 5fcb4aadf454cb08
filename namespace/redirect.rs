// SPDX-License-Identifier: GPL-2.0

//! Redirects that a rename leaves: what a directory with lower parts is called below.
//!
//! It is stored where the directory still is, and says what is so there already; so whether
//! the rename then comes, or a crash, the directory is merged with its parts.

use crate::vfs::compat::{EDQUOT, ENODATA, EOPNOTSUPP};
use crate::{
    format::redirect::Redirect,
    layers::{self, Layers, Redirects, Rovl},
    vfs::{self, flags::XattrFlags, lock::WriteAccess, params, Dentry, Inode, Path},
};
use kernel::{alloc::KVVec, prelude::*, sync::aref::ARef};

/// Whether an object has parts in lower layers, which stay where they are.
pub(super) fn has_parts_below(inode: &Inode<Rovl>) -> bool {
    inode.is_dir() && !inode.data().lower_parts().is_empty()
}

/// Refuses a directory that cannot be moved, as its parts would stay behind. Programs know
/// `EXDEV` and copy instead.
pub(super) fn check_movable(inode: &Inode<Rovl>) -> Result {
    match layers::of(inode).redirects {
        Redirects::Made => Ok(()),
        _ if has_parts_below(inode) => Err(EXDEV),
        _ => Ok(()),
    }
}

/// The redirect that the object at `dentry` needs before it is renamed, in the same
/// directory (`stays`) or to another one; `None` if it needs none, or has it. Called as the
/// mounter, with the directory locked and, if it does not stay, `s_vfs_rename_mutex`.
///
/// # Errors
///
/// `EXDEV` if it would be too long.
#[inline(never)]
pub(super) fn needed(
    layers: &Layers,
    dentry: &Dentry<Rovl>,
    stays: bool,
) -> Result<Option<KVVec<u8>>> {
    if !has_parts_below(dentry.node()?) {
        return Ok(None);
    }
    match of(layers, dentry)? {
        Some(path) if path.starts_with(b"/") => Ok(None),
        Some(_) if stays => Ok(None),
        None if stays => {
            let mut name = KVVec::new();
            name.extend_from_slice(&dentry.name(), GFP_KERNEL)?;
            Ok(Some(name))
        }
        _ => path_of(layers, dentry).map(Some),
    }
}

/// What the directory at `dentry`, which has been copied up, says that it is called below.
fn of(layers: &Layers, dentry: &Dentry<Rovl>) -> Result<Option<KVVec<u8>>> {
    let upper = dentry.node()?.data().upper().ok_or(EIO)?;
    let there = Path::new(layers.upper_mnt()?, upper);
    let value = match vfs::xattr::get_alloc(there, layers.names.redirect) {
        Ok(value) => value,
        Err(e) if e == ENODATA || e == EOPNOTSUPP => return Ok(None),
        Err(e) => return Err(e),
    };
    // Somebody changes the upper layer.
    Redirect::parse(&value).map_err(|_| EINVAL)?;
    Ok(Some(value))
}

/// Where the lower layers have the directory at `dentry`, from their root.
///
/// Directories above it may be renamed meanwhile, in the same directory each. Before one
/// is it says what it is called below; so who asks for its name first, and for what it says
/// then, knows what it is called below.
fn path_of(layers: &Layers, dentry: &Dentry<Rovl>) -> Result<KVVec<u8>> {
    let max = usize::from(params::redirect_max());
    let mut reversed = KVVec::new();
    let mut push = |part: &[u8]| {
        for &c in part.iter().rev() {
            reversed.push(c, GFP_KERNEL)?;
        }
        match reversed.len() > max {
            true => Err(EXDEV),
            false => Ok(()),
        }
    };
    let mut at: ARef<Dentry<Rovl>> = dentry.into();
    while !at.is_root() {
        let name = at.name();
        match of(layers, &at)? {
            Some(path) if path.starts_with(b"/") => {
                push(&path)?;
                break;
            }
            Some(below) => push(&below)?,
            None => push(&name)?,
        }
        push(b"/")?;
        at = at.parent();
    }
    reversed.reverse();
    Ok(reversed)
}

/// Stores a redirect that is [`needed`].
///
/// # Errors
///
/// `EXDEV` if there is no place for it; else what the upper filesystem says.
pub(super) fn store(
    access: &mut WriteAccess<'_>,
    layers: &Layers,
    dir: &Inode<Rovl>,
    redirect: &[u8],
) -> Result {
    let upper = dir.data().upper().ok_or(EIO)?;
    access
        .set_xattr(upper, layers.names.redirect, redirect, XattrFlags::NONE)
        .map_err(|e| match e {
            e if [EOPNOTSUPP, ENOSPC, EDQUOT, EPERM, ERANGE, E2BIG].contains(&e) => EXDEV,
            e => e,
        })
}
