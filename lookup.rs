// SPDX-License-Identifier: GPL-2.0

//! One name through all the layers.

use crate::{
    inode::{self, Identity, LowerObject, Objects},
    layers::{self, Layers, Rovl},
    vfs::{
        dentry_ops::{self, DentryOperations},
        export::Handle,
        lock::{Context, DirectoryLock, MayLockDirectory, Nothing},
        Dentry, Inode, Path,
    },
    whiteout::{self, Opacity},
};
use kernel::{prelude::*, sync::aref::ARef};

/// What one layer has to say about a name.
enum Answer {
    /// Nothing: ask the next layer.
    Silent,
    /// There is no such name, whatever is below.
    Whiteout,
    /// An object that is merged with nothing below: no directory, or an opaque
    /// one.
    Final(ARef<Dentry>),
    /// A directory, to be merged with those below.
    Merged {
        dentry: ARef<Dentry>,
        /// Regular files in it may be whiteouts.
        xattr_whiteouts: bool,
    },
}

/// Asks one layer for `name` in its part of a directory, where regular files
/// may be whiteouts or not.
fn ask(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    (dir, xattr_whiteouts): (Path<'_>, bool),
    name: &[u8],
) -> Result<Answer> {
    let dentry = match dir.lookup(may_lock, name) {
        Ok(dentry) => dentry,
        // A name too long for this layer is a name it does not have.
        Err(e) if e == ENOENT || e == ENAMETOOLONG => return Ok(Answer::Silent),
        Err(e) => return Err(e),
    };
    let object = Path::new(dir.mnt, &dentry);
    let found = object.inode()?;
    if found.is_whiteout() {
        return Ok(Answer::Whiteout);
    }
    if found.is_dir() {
        if !dentry.can_lookup() {
            return Err(EREMOTE);
        }
        if layers.is_written_to(found) {
            // An upper or work directory inside a lower layer: what is made in
            // it would be seen twice, and there is no end to it.
            return Err(ELOOP);
        }
        let opacity = whiteout::opacity(layers.names, object)?;
        return Ok(match opacity {
            Opacity::Opaque => Answer::Final(dentry),
            Opacity::Merged | Opacity::XattrWhiteouts => Answer::Merged {
                dentry,
                xattr_whiteouts: opacity == Opacity::XattrWhiteouts,
            },
        });
    }
    if xattr_whiteouts && whiteout::is_whiteout(layers.names, object)? {
        return Ok(Answer::Whiteout);
    }
    Ok(Answer::Final(dentry))
}

/// [`ask`]s the layer of a lower part.
fn ask_part(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    part: &LowerObject,
    name: &[u8],
) -> Result<Answer> {
    let dir = (part.path(layers)?, part.xattr_whiteouts);
    ask(may_lock, layers, dir, name)
}

/// Looks `name` up in all the layers of `dir`, with the mounter's credentials.
/// `None` if no layer has it.
pub(crate) fn find(
    may_lock: &mut impl MayLockDirectory,
    dir: &Inode<Rovl>,
    name: &[u8],
) -> Result<Option<Objects>> {
    let layers = layers::of(dir);
    layers.as_mounter(|| {
        let mut found = Objects {
            upper: None,
            lower: KVec::new(),
            origin: None,
            impure: false,
            xattr_whiteouts: false,
        };

        if let Some(upper_dir) = dir.data().upper() {
            let upper_dir = Path::new(layers.upper_mnt()?, upper_dir);
            let asked = (upper_dir, dir.data().xattr_whiteouts);
            match ask(may_lock, layers, asked, name)? {
                Answer::Silent => {}
                Answer::Whiteout => return Ok(None),
                Answer::Final(dentry) => {
                    return Ok(Some(upper_only(may_lock, layers, found, dentry)?));
                }
                Answer::Merged {
                    dentry,
                    xattr_whiteouts,
                } => {
                    let object = Path::new(upper_dir.mnt, &dentry);
                    found.xattr_whiteouts = xattr_whiteouts;
                    found.impure = whiteout::is_impure(layers.names, object)?;
                    found.upper = Some(dentry);
                }
            }
        }

        for part in dir.data().lower_parts() {
            let (dentry, xattr_whiteouts, last) = match ask_part(may_lock, layers, part, name)? {
                Answer::Silent => continue,
                Answer::Whiteout => break,
                Answer::Final(dentry) => (dentry, false, true),
                Answer::Merged {
                    dentry,
                    xattr_whiteouts,
                } => (dentry, xattr_whiteouts, false),
            };
            let has_dir = found.upper.is_some() || !found.lower.is_empty();
            if has_dir && !dentry.positive()?.is_dir() {
                break;
            }
            let object = LowerObject {
                layer: part.layer,
                dentry,
                xattr_whiteouts,
            };
            found.lower.push(object, GFP_KERNEL)?;
            if last {
                break;
            }
        }
        if found.upper.is_none() && found.lower.is_empty() {
            return Ok(None);
        }
        Ok(Some(found))
    })
}

/// An upper object with nothing merged below it.
fn upper_only(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    mut found: Objects,
    dentry: ARef<Dentry>,
) -> Result<Objects> {
    let object = Path::new(layers.upper_mnt()?, &dentry);
    if dentry.positive()?.is_dir() {
        found.impure = whiteout::is_impure(layers.names, object)?;
    } else {
        found.origin = origin_of(may_lock, layers, object);
    }
    found.upper = Some(dentry);
    Ok(found)
}

/// Names of lower filesystems that others may change, as FUSE and NFS: each use
/// of a name asks them again. What an object found once is made of stays: a file
/// that is open, or a directory with something open below it, is not changed.
impl DentryOperations for Rovl {
    /// A copy has all of its data from the moment it is announced.
    fn real(inode: &Inode<Rovl>) -> Option<&Dentry> {
        let data = inode.data();
        data.upper()
            .or_else(|| data.lower.first().map(|lower| &*lower.dentry))
    }

    fn revalidate(
        ctx: &mut Context<DirectoryLock>,
        dentry: &Dentry<Rovl>,
        flags: dentry_ops::Flags,
    ) -> Result<bool> {
        // Nothing of what such a filesystem does not have is remembered.
        let Ok(inode) = dentry.node() else {
            return Ok(false);
        };
        layers::of(inode).as_mounter(|| {
            for lower in in_use(inode) {
                if !lower.dentry.revalidate(ctx, flags)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn weak_revalidate(
        ctx: &mut Context<Nothing>,
        dentry: &Dentry<Rovl>,
        flags: dentry_ops::Flags,
    ) -> Result<bool> {
        let inode = dentry.node()?;
        layers::of(inode).as_mounter(|| {
            for lower in in_use(inode) {
                if !lower.dentry.weak_revalidate(ctx, flags)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// The lower objects of which something is shown.
fn in_use(inode: &Inode<Rovl>) -> &[LowerObject] {
    let data = inode.data();
    match data.upper() {
        Some(_) if !inode.is_dir() => &[],
        _ => data.lower_parts(),
    }
}

/// The object `name` of `dir`: `->lookup`.
pub(crate) fn lookup(
    may_lock: &mut impl MayLockDirectory,
    dir: &Inode<Rovl>,
    name: &[u8],
) -> Result<Option<ARef<Inode<Rovl>>>> {
    match find(may_lock, dir, name)? {
        Some(objects) => Ok(Some(inode::get(dir.sb(), objects)?)),
        None => Ok(None),
    }
}

/// Whether a layer below the upper one has `name` in this directory, so that a
/// whiteout is needed to hide it.
pub(crate) fn is_in_lower(
    may_lock: &mut impl MayLockDirectory,
    dir: &Inode<Rovl>,
    name: &[u8],
) -> Result<bool> {
    let layers = layers::of(dir);
    layers.as_mounter(|| {
        for part in dir.data().lower_parts() {
            match ask_part(may_lock, layers, part, name)? {
                Answer::Silent => {}
                Answer::Whiteout => return Ok(false),
                Answer::Final(_) | Answer::Merged { .. } => return Ok(true),
            }
        }
        Ok(false)
    })
}

/// The inode number with which `name` is shown, for `d_ino` of listings.
pub(crate) fn ino_of_entry(
    may_lock: &mut impl MayLockDirectory,
    dir: &Dentry<Rovl>,
    name: &[u8],
) -> Result<u64> {
    let dir = dir.node()?;
    let layers = layers::of(dir);
    let objects = find(may_lock, dir, name)?.ok_or(ENOENT)?;
    Ok(objects.identity(layers)?.ino)
}

/// `overlay.origin`: where an object of the upper layer was copied from. On
/// disk a version, a magic number, the length of the whole, flags, the type of
/// the handle, the UUID of its filesystem, and the handle.
struct Origin {
    uuid: [u8; 16],
    handle: Handle,
}

const ORIGIN_VERSION: u8 = 0;
const ORIGIN_MAGIC: u8 = 0xfb;
const ORIGIN_HEADER_LEN: usize = 21;
const ORIGIN_MAX_LEN: usize = ORIGIN_HEADER_LEN + crate::vfs::export::MAX_HANDLE_LEN;
/// The handle is in big-endian words.
const ORIGIN_BIG_ENDIAN: u8 = 1 << 0;
/// The handle is the same in both byte orders.
const ORIGIN_ANY_ENDIAN: u8 = 1 << 1;
/// The handle names an upper object; that is another mark's.
const ORIGIN_PATH_UPPER: u8 = 1 << 2;

impl Origin {
    fn parse(value: &[u8]) -> Option<Self> {
        let [version, magic, len, flags, kind, rest @ ..] = value else {
            return None;
        };
        let (uuid, handle) = rest.split_first_chunk::<16>()?;
        let native = if cfg!(target_endian = "big") {
            ORIGIN_BIG_ENDIAN
        } else {
            0
        };
        let known = ORIGIN_BIG_ENDIAN | ORIGIN_ANY_ENDIAN | ORIGIN_PATH_UPPER;
        if *version != ORIGIN_VERSION
            || *magic != ORIGIN_MAGIC
            || usize::from(*len) != value.len()
            || flags & !known != 0
            || (flags & ORIGIN_ANY_ENDIAN == 0 && flags & ORIGIN_BIG_ENDIAN != native)
        {
            return None;
        }
        Some(Self {
            uuid: *uuid,
            handle: Handle::from_bytes(*kind, handle).ok()?,
        })
    }
}

/// The value of `overlay.origin` for a copy of `object`; empty if its
/// filesystem has no handles, which says "a copy, of I cannot say what".
pub(crate) fn origin_value(
    may_lock: &mut impl MayLockDirectory,
    object: Path<'_>,
) -> Result<KVec<u8>> {
    let mut value = KVec::new();
    let sb = object.inode()?.super_block();
    if !crate::vfs::export::can_decode(sb) {
        return Ok(value);
    }
    let Ok(handle) = Handle::encode(may_lock, object.dentry) else {
        return Ok(value);
    };
    let Ok(len) = u8::try_from(ORIGIN_HEADER_LEN.saturating_add(handle.len_bytes())) else {
        return Ok(value);
    };
    let flags = if cfg!(target_endian = "big") {
        ORIGIN_BIG_ENDIAN
    } else {
        0
    };
    let header = [ORIGIN_VERSION, ORIGIN_MAGIC, len, flags, handle.kind()];
    value.extend_from_slice(&header, GFP_KERNEL)?;
    value.extend_from_slice(&sb.uuid(), GFP_KERNEL)?;
    for byte in handle.bytes() {
        value.push(byte, GFP_KERNEL)?;
    }
    Ok(value)
}

/// Where an upper object that is no directory was copied from, if that is
/// still there and had one name only: a file with several becomes several.
fn origin_of(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    object: Path<'_>,
) -> Option<Identity> {
    if !layers.trusts_handles {
        return None;
    }
    let mut value = [0; ORIGIN_MAX_LEN];
    let len = crate::vfs::xattr::get(object, layers.names.origin, &mut value).ok()?;
    let origin = Origin::parse(value.get(..len)?)?;
    for layer in &layers.lower {
        let sb = layer.root().super_block();
        let fs = layers.filesystems.get(layer.fs)?;
        if !fs.has_file_handles || sb.uuid() != origin.uuid {
            continue;
        }
        let Ok(dentry) = origin.handle.decode(may_lock, &layer.mnt) else {
            continue;
        };
        let inode = dentry.inode()?;
        let same_kind = inode.kind() == object.dentry.inode()?.kind();
        if same_kind && inode.nlink() == 1 {
            return Some(Identity::of(inode, layer.fs));
        }
    }
    None
}
