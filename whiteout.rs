// SPDX-License-Identifier: GPL-2.0

//! Whiteouts and opaque marks: make, recognise, remove.
//!
//! On disk, as overlayfs has them (`Documentation/filesystems/overlayfs.rst`):
//!
//! * a **whiteout** says that the name exists in no layer below. It is a
//!   character device 0/0; or, for filesystems that cannot have one, an empty
//!   regular file with the xattr `overlay.whiteout`. Its directory, of a lower
//!   layer, says by `x` for `overlay.opaque` that such files have to be looked
//!   for when it is listed;
//! * an **opaque** directory (`overlay.opaque` is `y`) hides the directories of
//!   its name below;
//! * an **impure** directory (`overlay.impure` is `y`) may hold objects that
//!   were copied up, so their inode numbers are not what `readdir` of the layer
//!   says.

use crate::vfs::compat::{ENODATA, EOPNOTSUPP};
use crate::{
    format::{
        dir::{self as marks, Opacity},
        names::Names,
    },
    layers::{self, Rovl, Upper},
    listing::List,
    vfs::{
        self,
        completion::fatal_signal_pending,
        flags::{RenameFlags, XattrFlags},
        inode::Kind,
        lock::{LockedName, MayLockDirectory, WriteAccess},
        readdir, Dentry, Inode, Path,
    },
};
use core::ops::Deref;
use kernel::{prelude::*, str::BStr, sync::atomic::Relaxed};

/// Reads the opaque mark of a directory of a layer, as the mounter.
pub(crate) fn opacity(names: &Names, dir: Path<'_>) -> Result<Option<Opacity>> {
    let mut value = [0; marks::MAX_LEN];
    let value = mark(dir, names.opaque, &mut value)?;
    Ok(value.and_then(|value| marks::parse_opaque(value).ok()))
}

/// Whether regular files in this directory of a lower layer may be whiteouts.
pub(crate) fn has_xattr_whiteouts(names: &Names, dir: Path<'_>) -> Result<bool> {
    Ok(opacity(names, dir)? == Some(Opacity::XattrWhiteouts))
}

/// Whether a directory may hold objects whose origin is elsewhere.
pub(crate) fn is_impure(names: &Names, dir: Path<'_>) -> Result<bool> {
    let mut value = [0; marks::MAX_LEN];
    let value = mark(dir, names.impure, &mut value)?;
    Ok(value.is_some_and(|value| marks::parse_impure(value).is_ok()))
}

/// Whether a directory says what it is called below.
pub(crate) fn has_redirect(names: &Names, dir: Path<'_>) -> Result<bool> {
    Ok(mark(dir, names.redirect, &mut [])?.is_some())
}

/// Whether an object of a layer is a whiteout of either kind.
pub(crate) fn is_whiteout(names: &Names, object: Path<'_>) -> Result<bool> {
    let inode = object.inode()?;
    if inode.is_whiteout() {
        return Ok(true);
    }
    if inode.kind() != Kind::Regular || inode.size() != 0 {
        return Ok(false);
    }
    Ok(mark(object, names.whiteout, &mut [])?.is_some())
}

/// A directory of a layer, with what can hide in it.
pub(crate) struct Part<'a> {
    pub(crate) path: Path<'a>,
    /// Index into [`Layers::filesystems`](crate::layers::Layers::filesystems).
    pub(crate) fs: u32,
    pub(crate) names: &'a Names,
    pub(crate) has_xattr_whiteouts: bool,
}

impl Part<'_> {
    /// Whether an entry of this type has to be looked at.
    pub(crate) fn may_be_whiteout(&self, d_type: u8) -> bool {
        match u32::from(d_type) {
            readdir::DT_CHR | readdir::DT_UNKNOWN => true,
            readdir::DT_REG => self.has_xattr_whiteouts,
            _ => false,
        }
    }

    /// Whether an entry of this directory is a whiteout. One that has gone since
    /// it was read hides as well; one that cannot be looked at is shown, as it is in
    /// the layer, and does not keep others from being listed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and `EINTR` for a fatal signal.
    pub(crate) fn is_whiteout(
        &self,
        may_lock: &mut impl MayLockDirectory,
        name: &[u8],
        d_type: u8,
    ) -> Result<bool> {
        if !self.may_be_whiteout(d_type) {
            return Ok(false);
        }
        match self.look_at(may_lock, name) {
            Err(e) if e == ENOENT => Ok(true),
            Err(_) if fatal_signal_pending() => Err(EINTR),
            // It would be shown, or not, by chance.
            Err(e) if e == ENOMEM => Err(e),
            // Something is there.
            Err(_) => Ok(false),
            found => found,
        }
    }

    fn look_at(&self, may_lock: &mut impl MayLockDirectory, name: &[u8]) -> Result<bool> {
        let dentry = self.path.lookup(may_lock, name)?;
        let object = Path::new(self.path.mnt, &dentry);
        if self.has_xattr_whiteouts {
            return is_whiteout(self.names, object);
        }
        Ok(object.inode()?.is_whiteout())
    }
}

/// A private xattr, in `value` (an empty one asks only whether it is there): `None` if
/// it is not there, is longer than any value with a meaning, or is one of `user.*` and
/// the mounter may not read the object: he may still go through a directory that he
/// cannot list.
fn mark<'a>(object: Path<'_>, name: &CStr, value: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
    match vfs::xattr::get(object, name, value) {
        Ok(len) => Ok(Some(value.get(..len).unwrap_or_default())),
        Err(e) if [ENODATA, EOPNOTSUPP, ERANGE, EACCES].contains(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Marks a new directory opaque.
pub(crate) fn set_opaque(access: &mut WriteAccess<'_>, names: &Names, dir: &Dentry) -> Result {
    access.set_xattr(dir, names.opaque, marks::OPAQUE, XattrFlags::NONE)
}

/// Marks an upper directory impure, once.
pub(crate) fn set_impure(access: &mut WriteAccess<'_>, dir: &Inode<Rovl>) -> Result {
    if dir.data().impure.load(Relaxed) {
        return Ok(());
    }
    let upper = dir.data().upper().ok_or(EIO)?;
    access.set_xattr(
        upper,
        layers::of(dir).names.impure,
        marks::IMPURE,
        XattrFlags::NONE,
    )?;
    dir.data().impure.store(true, Relaxed);
    Ok(())
}

/// A name in `work/`: `#` and a number.
pub(crate) struct TempName {
    bytes: [u8; Self::MAX_LEN],
    len: usize,
}

impl TempName {
    const MAX_LEN: usize = 1 + 2 * size_of::<u64>();

    fn new(serial: u64) -> Self {
        let mut name = Self {
            bytes: [b'#'; Self::MAX_LEN],
            len: 1,
        };
        let digits = (u64::BITS - serial.leading_zeros()).div_ceil(4).max(1);
        for (at, byte) in (0..digits).rev().zip(name.bytes.iter_mut().skip(1)) {
            let digit = (serial >> (4 * at)) as u8 & 0xf;
            *byte = digit + if digit < 10 { b'0' } else { b'a' - 10 };
            name.len += 1;
        }
        name
    }
}

impl Deref for TempName {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Upper {
    /// A name in `work/` that nobody else uses.
    pub(crate) fn temp_name(&self) -> TempName {
        TempName::new(self.serial.fetch_add(1, Relaxed))
    }

    /// Tells of what could not be done after all, and is no error of who asked: with the name
    /// that it was about, and the layer by which the mount is known.
    #[cold]
    #[inline(never)]
    pub(crate) fn warn(&self, name: &[u8], what: &str, why: Error) {
        if vfs::may_warn() {
            let [name, layer] = [name, self.layer.name.to_bytes()].map(BStr::from_bytes);
            let errno = why.to_errno();
            pr_warn!("{}: {}, error {} in layer {}\n", name, what, errno, layer);
        }
    }

    /// Removes what was made under a temporary name and came to nothing. There
    /// is nobody to tell if that fails; the next mount sweeps it.
    pub(crate) fn remove_temp(&self, access: &mut WriteAccess<'_>, name: &[u8]) {
        self.remove_temp_by(access, name, |temp| temp.remove());
    }

    /// As [`Upper::remove_temp`], for a name of a file that had none before, and may
    /// get one yet.
    pub(crate) fn remove_temp_link(&self, access: &mut WriteAccess<'_>, name: &[u8]) {
        self.remove_temp_by(access, name, |temp| temp.unlink_linkable());
    }

    fn remove_temp_by(
        &self,
        access: &mut WriteAccess<'_>,
        name: &[u8],
        remove: impl FnOnce(&mut LockedName<'_>) -> Result,
    ) {
        let removed = access
            .lock_name(&self.work, name)
            .and_then(|mut temp| match temp.inode() {
                Some(_) => remove(&mut temp),
                None => Ok(()),
            });
        if let Err(e) = removed {
            self.warn(name, "cannot remove a leftover in work/", e);
        }
    }

    /// Makes a whiteout where there is no upper object.
    pub(crate) fn make_whiteout(&self, name: &mut LockedName<'_>) -> Result {
        let last = self.last_whiteout.take();
        // It may have names enough, or be in another project; it may have none any more.
        let linked = last.is_some_and(|last| name.link(&last).is_ok());
        if !linked {
            name.whiteout()?;
        }
        self.last_whiteout.keep(name.dentry().into());
        Ok(())
    }

    /// Names of the upper layer have been removed, whiteouts maybe. Called when all is done,
    /// well or not.
    pub(crate) fn let_whiteout_go(&self) {
        self.last_whiteout.let_go();
    }
}

/// An upper directory that is to go, and the whiteouts in it: all there is.
#[derive(Clone, Copy)]
pub(crate) struct Emptied<'a> {
    pub(crate) dir: &'a Dentry,
    pub(crate) whiteouts: &'a List,
}

/// Puts a whiteout in the place of an upper object, in one step: at no time is
/// what lies below to be seen. If it is a directory, that is `emptied`.
pub(crate) fn replace(
    upper: &Upper,
    access: &mut WriteAccess<'_>,
    names: &Names,
    (parent, name): (&Dentry, &[u8]),
    emptied: Option<Emptied<'_>>,
) -> Result {
    let flags = match emptied {
        Some(_) => RenameFlags::EXCHANGE,
        None => RenameFlags::NONE,
    };
    let temp = upper.temp_name();
    upper.make_whiteout(&mut access.lock_name(&upper.work, &temp)?)?;
    let moved = access
        .lock_rename((&upper.work, &temp), (parent, name), flags)
        .and_then(|mut rename| rename.rename());
    match (moved, emptied) {
        // The whiteout is in place, and the directory in `work/`.
        (Ok(()), Some(emptied)) => remove_dir(upper, access, names, (&temp, name), emptied),
        (Ok(()), None) => {}
        (Err(e), _) => {
            upper.remove_temp(access, &temp);
            if e != EXDEV || !upper.rename_whiteout {
                return Err(e);
            }
            move_away(upper, access, names, (parent, name), emptied)?;
        }
    }
    Ok(())
}

/// The same by moving the object to `work/`, where the filesystem itself puts a whiteout in
/// its place: into the directory of a project none may be moved that is not of it (ext4).
fn move_away(
    upper: &Upper,
    access: &mut WriteAccess<'_>,
    names: &Names,
    (parent, name): (&Dentry, &[u8]),
    emptied: Option<Emptied<'_>>,
) -> Result {
    let temp = upper.temp_name();
    access
        .lock_rename((parent, name), (&upper.work, &temp), RenameFlags::WHITEOUT)?
        .rename()?;
    match emptied {
        Some(emptied) => remove_dir(upper, access, names, (&temp, name), emptied),
        None => upper.remove_temp(access, &temp),
    }
    Ok(())
}

/// Removes a directory under a temporary name, which was `name` before, and the whiteouts
/// in it.
fn remove_dir(
    upper: &Upper,
    access: &mut WriteAccess<'_>,
    names: &Names,
    (temp, name): (&[u8], &[u8]),
    emptied: Emptied<'_>,
) {
    if let Err(e) = clear(access, names, emptied) {
        upper.warn(name, "cannot clear this directory in work/", e);
    }
    upper.remove_temp(access, temp);
}

/// Removes the whiteouts in an upper directory that is merged with nothing. They
/// were found before write access was taken: to read a directory is to open it,
/// and whoever is asked for permission to do that may wait for a thaw himself.
pub(crate) fn clear(access: &mut WriteAccess<'_>, names: &Names, emptied: Emptied<'_>) -> Result {
    let mnt = access.mnt();
    for name in emptied.whiteouts.all_names() {
        let mut name = access.lock_name(emptied.dir, name)?;
        if name.inode().is_some() && is_whiteout(names, Path::new(mnt, name.dentry()))? {
            name.remove()?;
        }
    }
    Ok(())
}
