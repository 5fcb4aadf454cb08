// SPDX-License-Identifier: GPL-2.0

//! One name through all the layers.

use crate::vfs::compat::{ELOOP, ENAMETOOLONG, ENODATA, EOPNOTSUPP, EREMOTE};
use crate::{
    format::{
        dir::Opacity,
        handle::{self, Handle},
        metacopy::{self, Malformed, Metacopy},
        redirect::Redirect,
    },
    inode::{self, Identity, LowerObject, LowerObjects, Objects},
    layers::{self, Layer, Layers, Redirects, Rovl},
    private,
    vfs::{
        self,
        dentry_ops::{self, DentryOperations, Found},
        export::{can_decode, Handle as FileHandle, MAX_HANDLE_LEN},
        inode::Kind,
        lock::{Context, DirectoryLock, MayLockDirectory, Nothing},
        Dentry, Inode, Path,
    },
    whiteout,
};
use core::fmt;
use kernel::{alloc::KVVec, error::Error, prelude::*, str::BStr, sync::aref::ARef};

mod trail;

use trail::Trail;

/// What one layer has to say about a name.
enum Answer {
    /// Nothing: ask the next layer.
    Silent,
    /// Nothing more is to be seen of the name, here or below.
    End,
    /// An object that is merged with nothing below: no directory, or an opaque
    /// one, or the last.
    Final {
        dentry: ARef<Dentry>,
        /// As in [`Answer::Merged`].
        xattr_whiteouts: bool,
    },
    /// Nothing is above, and it is an empty directory: see [`Layers::is_trap`].
    Trap(ARef<Dentry>),
    /// A directory, to be merged with those below.
    Merged {
        dentry: ARef<Dentry>,
        /// Regular files in it may be whiteouts when it is listed.
        xattr_whiteouts: bool,
        /// What it is called below, if that is something else: [`Redirect`].
        redirect: Option<KVVec<u8>>,
    },
}

impl Answer {
    /// An object that is all there is to be seen.
    fn of_all(dentry: ARef<Dentry>) -> Self {
        Self::Final {
            dentry,
            xattr_whiteouts: false,
        }
    }
}

/// What has not been asked yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    /// Nothing, so that nothing that is said of it matters.
    Nothing,
    /// Layers that do not have the directory: there only a path leads.
    Layers,
    /// Parts of the directory.
    Parts,
}

/// What one layer is asked about a name.
struct Question<'a> {
    layers: &'a Layers,
    layer: &'a Layer,
    /// The directory of the layer.
    dir: &'a Dentry,
    name: &'a [u8],
    is_upper: bool,
    below: Below,
    /// There is a directory of this name above.
    is_directory: bool,
}

/// What has a name in a directory of a layer: a whiteout, or an object.
enum Entry {
    Whiteout,
    Object(ARef<Dentry>),
}

/// Looks a name up in a directory of a layer.
fn look(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    dir: Path<'_>,
    name: &[u8],
) -> Result<Option<Entry>> {
    let dentry = match dir.lookup(may_lock, name) {
        Ok(dentry) => dentry,
        // A name too long for this layer is a name it does not have.
        Err(e) if e == ENOENT || e == ENAMETOOLONG => return Ok(None),
        Err(e) => return Err(e),
    };
    let is_whiteout = whiteout::is_whiteout(layers.names, Path::new(dir.mnt, &dentry))?;
    Ok(Some(match is_whiteout {
        true => Entry::Whiteout,
        false => Entry::Object(dentry),
    }))
}

impl Question<'_> {
    fn ask(&self, may_lock: &mut impl MayLockDirectory) -> Result<Answer> {
        let dir = self.layer.path(self.dir);
        let dentry = match look(may_lock, self.layers, dir, self.name)? {
            None => return Ok(Answer::Silent),
            Some(Entry::Whiteout) => return Ok(Answer::End),
            Some(Entry::Object(dentry)) => dentry,
        };
        let object = self.layer.path(&dentry);
        let found = object.inode()?;
        if !found.is_dir() {
            if self.is_directory {
                return Ok(Answer::End);
            }
            self.check_has_data(object)?;
            return Ok(Answer::of_all(dentry));
        }
        if !dentry.can_lookup() {
            return Err(EREMOTE);
        }
        if self.layers.is_trap(found) {
            if self.is_upper {
                // Only by a rename behind our back. What is done to an upper directory is
                // done to the directory that is found there.
                return Err(ELOOP);
            }
            return Ok(match self.is_directory {
                true => Answer::End,
                false => Answer::Trap(dentry),
            });
        }
        if self.below == Below::Nothing {
            return Ok(Answer::of_all(dentry));
        }
        let mut redirect = None;
        if self.below == Below::Layers {
            redirect = self.redirect(object)?.filter(|to| to.starts_with(b"/"));
            if self.is_upper && redirect.is_none() {
                return Ok(Answer::of_all(dentry));
            }
        }
        let opacity = whiteout::opacity(self.layers.names, object)?;
        let xattr_whiteouts = !self.is_upper && opacity == Some(Opacity::XattrWhiteouts);
        if opacity == Some(Opacity::Opaque) {
            return Ok(Answer::of_all(dentry));
        }
        if self.below == Below::Parts {
            redirect = self.redirect(object)?;
        } else if redirect.is_none() {
            return Ok(Answer::Final {
                dentry,
                xattr_whiteouts,
            });
        }
        Ok(Answer::Merged {
            dentry,
            xattr_whiteouts,
            redirect,
        })
    }

    /// Whether an error says that there is no such mark. One of `user.*` may be on an
    /// object that the mounter may not read: he still goes through a directory that he
    /// cannot list.
    fn is_none(&self, error: Error) -> bool {
        let is_unreadable = error == EACCES && self.layers.is_userxattr();
        error == ENODATA || error == EOPNOTSUPP || is_unreadable
    }

    /// Refuses a file whose data is in a layer below: without following it there, a hole
    /// would be shown, and what is written would be lost.
    fn check_has_data(&self, file: Path<'_>) -> Result {
        if file.inode()?.kind() != Kind::Regular {
            return Ok(());
        }
        let name = self.layers.names.metacopy;
        let len = match vfs::xattr::get(file, name, &mut []) {
            Ok(len) => len,
            Err(e) if self.is_none(e) => return Ok(()),
            Err(e) => return Err(e),
        };
        self.refuse_metacopy(file, len)
    }

    /// As overlayfs, which looks at the value only when it follows it.
    #[cold]
    fn refuse_metacopy(&self, file: Path<'_>, len: usize) -> Result {
        let mut value = [0; metacopy::MAX_LEN];
        let value = match vfs::xattr::get(file, self.layers.names.metacopy, &mut value) {
            Ok(len) => Metacopy::parse(value.get(..len).unwrap_or_default()),
            Err(_) => Err(Malformed::Long(len)),
        };
        match value {
            Err(why @ Malformed::Short(_)) => {
                return Err(self.refuse(EIO, format_args!("malformed metacopy, {why}")));
            }
            _ if self.below != Below::Nothing => {
                self.value_of_redirect(file)?;
            }
            _ => {}
        }
        Err(match value {
            Ok(_) => self.refuse(EPERM, format_args!("refusing to follow metacopy")),
            Err(why) => self.refuse(
                EPERM,
                format_args!("refusing to follow metacopy, which is malformed, {why}"),
            ),
        })
    }

    /// What a directory is called below, if that is not as here.
    ///
    /// # Errors
    ///
    /// `EPERM` if that is not to be followed: what would be merged would not be its parts,
    /// and what was deleted would be seen again. `EINVAL` if it leads nowhere.
    fn redirect(&self, dir: Path<'_>) -> Result<Option<KVVec<u8>>> {
        let value = self.value_of_redirect(dir)?;
        match value {
            Some(_) if self.layers.redirects == Redirects::Refused => {
                Err(self.refuse(EPERM, format_args!("refusing to follow redirect")))
            }
            value => Ok(value),
        }
    }

    /// The redirect of an object, which may lead anywhere.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it cannot be one.
    fn value_of_redirect(&self, object: Path<'_>) -> Result<Option<KVVec<u8>>> {
        let name = self.layers.names.redirect;
        let value = match vfs::xattr::get_alloc(object, name) {
            Ok(value) => value,
            Err(e) if self.is_none(e) => return Ok(None),
            Err(e) => return Err(e),
        };
        match Redirect::parse(&value) {
            // Where none is followed, that is what there is to say.
            Err(why) if why.is_of_overlayfs() || self.layers.redirects != Redirects::Refused => {
                Err(self.refuse(EINVAL, format_args!("malformed redirect, {why}")))
            }
            _ => Ok(Some(value)),
        }
    }

    /// Says why there is nothing to be seen of what has been found.
    #[cold]
    fn refuse(&self, error: Error, why: fmt::Arguments<'_>) -> Error {
        if vfs::may_warn() {
            let (layer, name) = (BStr::from_bytes(self.layer.name.to_bytes()), self.name);
            pr_warn!("{}: {} in layer {}\n", BStr::from_bytes(name), why, layer);
        }
        error
    }
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
            lower: LowerObjects::new(),
            origin: None,
            impure: false,
            way: dir.data().way_below,
            way_below: dir.data().way_below,
        };
        let parts = dir.data().lower_parts();
        let mut trail = Trail::new(name);

        if let Some(upper_dir) = dir.data().upper() {
            let question = Question {
                layers,
                layer: &layers.upper()?.layer,
                dir: upper_dir,
                name,
                is_upper: true,
                below: match parts {
                    [] => layers.below(0),
                    _ => Below::Parts,
                },
                is_directory: false,
            };
            match question.ask(may_lock)? {
                Answer::Silent => {}
                Answer::End => return Ok(None),
                Answer::Final { dentry, .. } | Answer::Trap(dentry) => {
                    return Ok(Some(upper_only(may_lock, layers, found, dentry)?));
                }
                Answer::Merged {
                    dentry, redirect, ..
                } => {
                    let object = question.layer.path(&dentry);
                    found.impure = whiteout::is_impure(layers.names, object)?;
                    if redirect.is_some() {
                        found.way_below = found.way.by(object.inode()?);
                    }
                    found.upper = Some(dentry);
                    if let Some(redirect) = redirect {
                        trail = Trail::Redirected(redirect);
                    }
                }
            }
        }
        find_lower(may_lock, layers, parts, trail, &mut found)?;
        if found.upper.is_none() && found.lower.is_empty() {
            return Ok(None);
        }
        Ok(Some(found))
    })
}

/// Adds what the lower layers have of a name: in the parts of its directory, and from where
/// one of them says that it is elsewhere, there.
fn find_lower(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    parts: &[LowerObject],
    mut trail: Trail<'_>,
    found: &mut Objects,
) -> Result {
    // The first layer in which a path has to be walked.
    let mut first = 0;
    for (i, part) in parts.iter().enumerate() {
        let Some(name) = trail.name() else { break };
        let question = Question {
            layers,
            layer: layers.lower(part.layer)?,
            dir: &part.dentry,
            name,
            is_upper: false,
            below: match i.saturating_add(1) == parts.len() {
                true => layers.below(part.layer.saturating_add(1)),
                false => Below::Parts,
            },
            is_directory: found.upper.is_some() || !found.lower.is_empty(),
        };
        let (dentry, xattr_whiteouts, redirect, last) = match question.ask(may_lock)? {
            Answer::Silent => continue,
            Answer::End => return Ok(()),
            Answer::Trap(dentry) => {
                return found.lower.push(LowerObject {
                    layer: part.layer,
                    dentry,
                    xattr_whiteouts: false,
                    is_trap: true,
                });
            }
            Answer::Final {
                dentry,
                xattr_whiteouts,
            } => (dentry, xattr_whiteouts, None, true),
            Answer::Merged {
                dentry,
                xattr_whiteouts,
                redirect,
            } => (dentry, xattr_whiteouts, redirect, false),
        };
        if redirect.is_some() && found.way_below == found.way {
            found.way_below = found.way.by(dentry.positive()?);
        }
        let object = LowerObject {
            layer: part.layer,
            dentry,
            xattr_whiteouts,
            is_trap: false,
        };
        found.lower.push(object)?;
        if last {
            return Ok(());
        }
        if let Some(redirect) = redirect {
            first = part.layer.saturating_add(1);
            trail = Trail::Redirected(redirect);
        }
    }
    match trail.into_path() {
        Some(path) => trail::follow(may_lock, layers, first, path, found),
        None => Ok(()),
    }
}

impl Layers {
    /// What is left of a directory that no part is left of, where the lower layers from
    /// `first` on have not been asked.
    fn below(&self, first: u32) -> Below {
        match self.redirects {
            Redirects::Refused => Below::Nothing,
            _ if first as usize >= self.lower.len() => Below::Nothing,
            _ => Below::Layers,
        }
    }
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

/// Names of layers that others may change, as with FUSE and NFS, or that a key changes: each
/// use of such a name asks the layers again, and of no other name. What an object found once
/// is made of stays: a file that is open, or a directory with something open below it, is
/// not changed.
impl DentryOperations for Rovl {
    /// A copy has all of its data from the moment it is announced.
    fn real(inode: &Inode<Rovl>) -> Option<&Dentry> {
        let data = inode.data();
        data.upper()
            .or_else(|| data.lower.first().map(|lower| &*lower.dentry))
    }

    fn may_change(found: Found<'_, Rovl>) -> bool {
        match found {
            Found::Object(inode) => in_use(inode).any(|real| real.needs_revalidation()),
            Found::Nothing(dir) => in_use(dir).any(|real| real.has_names_that_come()),
        }
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
            for real in in_use(inode) {
                if !real.revalidate(ctx, flags)? {
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
            for real in in_use(inode) {
                if !real.weak_revalidate(ctx, flags)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

/// The objects of which something is shown.
fn in_use(inode: &Inode<Rovl>) -> impl Iterator<Item = &Dentry> {
    let data = inode.data();
    let upper = data.upper();
    let lower = match upper {
        Some(_) if !inode.is_dir() => &[],
        _ => data.lower_parts(),
    };
    Iterator::chain(upper.into_iter(), lower.iter().map(|lower| &*lower.dentry))
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
            match look(may_lock, layers, part.path(layers)?, name)? {
                None => {}
                Some(Entry::Whiteout) => return Ok(false),
                Some(Entry::Object(_)) => return Ok(true),
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
    let layers = layers::of(dir.node()?);
    let child = dir.cached_child(name);
    let identity = match child.as_ref().map(|child| child.node()) {
        // What is in use keeps its number, also where the layers do not tell it.
        Some(Ok(inode)) => inode.data().identity(layers, &inode.data().real(layers)?)?,
        _ => {
            let objects = find(may_lock, dir.node()?, name)?.ok_or(ENOENT)?;
            objects.identity(layers)?
        }
    };
    Ok(layers.numbers.listed(identity.fs, identity.ino))
}

/// The value of `overlay.origin` for a copy of `object`; empty if its
/// filesystem has no handles, which says "a copy, of I cannot say what".
pub(crate) fn origin_value(
    may_lock: &mut impl MayLockDirectory,
    layers: &Layers,
    object: Path<'_>,
) -> Result<KVec<u8>> {
    let mut value = KVec::new();
    let sb = object.inode()?.super_block();
    if !can_decode(sb) {
        return Ok(value);
    }
    let Ok(found) = FileHandle::encode(may_lock, object.dentry) else {
        return Ok(value);
    };
    let fid = found.to_bytes();
    let handle = Handle {
        is_upper: false,
        kind: found.kind(),
        uuid: layers.uuid_of(sb),
        fid: fid.get(..found.len_bytes()).ok_or(EOVERFLOW)?,
    };
    if let Some(header) = handle.header() {
        value.extend_from_slice(&header, GFP_KERNEL)?;
        value.extend_from_slice(handle.fid, GFP_KERNEL)?;
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
    let mut value = [0; handle::HEADER_LEN + MAX_HANDLE_LEN];
    let len = vfs::xattr::get(object, layers.names.origin, &mut value).ok()?;
    let origin = match Handle::parse(value.get(..len)?) {
        Ok(origin) => origin,
        // Copied up from who knows where.
        Err(_) if len == 0 => return None,
        Err(why) => {
            if !why.is_foreign() {
                private::warn_of_mark(object.dentry, "origin", format_args!("{why}"));
            }
            return None;
        }
    };
    let file = FileHandle::from_bytes(origin.kind, origin.fid).ok()?;
    for layer in &layers.lower {
        let fs = layers.filesystems.get(layer.fs as usize)?;
        if !fs.is_found_by_uuid || layers.uuid_of(layer.root().super_block()) != origin.uuid {
            continue;
        }
        let Ok(dentry) = file.decode(may_lock, &layer.mnt) else {
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
