// SPDX-License-Identifier: GPL-2.0

//! The overlay inode: its upper and lower objects.

use crate::{
    layers::{self, Layers, Rovl},
    private,
    vfs::{self, inode::Found, Dentry, Inode, Path, SuperBlock},
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        SetOnce,
    },
};

/// An object in a lower layer.
pub(crate) struct LowerObject {
    /// Index into [`Layers::lower`].
    pub(crate) layer: usize,
    pub(crate) dentry: ARef<Dentry>,
    /// For a directory: regular files in it may be whiteouts when it is listed.
    pub(crate) xattr_whiteouts: bool,
}

impl LowerObject {
    pub(crate) fn path<'a>(&'a self, layers: &'a Layers) -> Result<Path<'a>> {
        Ok(layers.lower(self.layer)?.path(&self.dentry))
    }
}

/// Which inode number an object is shown with: it stays the same when the
/// object is copied up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Index into [`Layers::filesystems`].
    pub(crate) fs: usize,
    pub(crate) ino: u64,
    /// `i_generation`: tells the object from others that have had its number.
    pub(crate) generation: u32,
}

impl Identity {
    pub(crate) fn of(inode: &Inode, fs: usize) -> Self {
        Self {
            fs,
            ino: inode.ino(),
            generation: inode.generation(),
        }
    }

    /// The generation of the overlay inode. With the number it makes the file id
    /// that fanotify reports, so it tells the filesystems apart, too.
    fn overlay_generation(self) -> u32 {
        self.generation ^ (self.fs as u32).rotate_right(8)
    }
}

/// What one lookup found, and what an overlay inode is made of.
pub(crate) struct Objects {
    pub(crate) upper: Option<ARef<Dentry>>,
    /// Topmost first. A directory has all that are merged; anything else at
    /// most one, and none below an upper object.
    pub(crate) lower: KVec<LowerObject>,
    /// Where an upper object was copied from, if that is known.
    pub(crate) origin: Option<Identity>,
    /// For an upper directory: it may hold objects whose origin is elsewhere.
    pub(crate) impure: bool,
}

impl Objects {
    /// Which inode number an object made of these is shown with.
    pub(crate) fn identity(&self, layers: &Layers) -> Result<Identity> {
        identity(layers, self.origin, self.upper.as_deref(), &self.lower)
    }
}

/// Whether this object of a lower layer has several names, which become several
/// files when they are copied up (`index=off`), with numbers of their own.
pub(crate) fn becomes_own_file(lower: &Inode) -> bool {
    !lower.is_dir() && lower.nlink() > 1
}

/// An object keeps the number of what it was copied from, unless it becomes a
/// file of its own.
fn identity(
    layers: &Layers,
    origin: Option<Identity>,
    upper: Option<&Dentry>,
    lower: &[LowerObject],
) -> Result<Identity> {
    if let Some(origin) = origin {
        return Ok(origin);
    }
    if let Some(lower) = lower.first() {
        let inode = lower.dentry.positive()?;
        if upper.is_none() || !becomes_own_file(inode) {
            return Ok(Identity::of(inode, layers.lower(lower.layer)?.fs));
        }
    }
    let inode = upper.ok_or(EIO)?.positive()?;
    Ok(Identity::of(inode, layers.upper()?.layer.fs))
}

/// What rovl keeps for an inode.
pub(crate) struct OverlayInode {
    /// The object in the upper layer. Set once, by the lookup that finds it or
    /// by the copy-up that makes it; whoever sees it sees a whole object.
    upper: SetOnce<ARef<Dentry>>,
    pub(crate) lower: KVec<LowerObject>,
    pub(crate) origin: Option<Identity>,
    /// See [`Objects::impure`]; only ever becomes true.
    pub(crate) impure: Atomic<bool>,
    /// A directory whose upper one has been made opaque since it was found: its
    /// lower parts are not to be seen any more.
    opaque: Atomic<bool>,
    /// The merged listing of a directory; see `readdir.rs`. Nothing else has
    /// one.
    pub(crate) listing: Option<Pin<KBox<crate::listing::Cache>>>,
}

/// The object that stands for the whole now.
pub(crate) struct Real<'a> {
    pub(crate) path: Path<'a>,
    /// Whether it is in the upper layer.
    pub(crate) is_upper: bool,
}

impl OverlayInode {
    /// The upper object, once there is one.
    pub(crate) fn upper(&self) -> Option<&Dentry> {
        self.upper.as_ref().map(|d| &**d)
    }

    /// Whether this is a directory with parts in more than one layer, or in the
    /// upper layer with lower parts.
    pub(crate) fn is_merged(&self) -> bool {
        self.lower_parts().len() + usize::from(self.upper().is_some()) > 1
    }

    /// The lower parts of a directory, topmost first.
    pub(crate) fn lower_parts(&self) -> &[LowerObject] {
        match self.opaque.load(Relaxed) {
            true => &[],
            false => &self.lower,
        }
    }

    /// The upper directory has been made opaque.
    pub(crate) fn set_opaque(&self) {
        self.opaque.store(true, Relaxed);
    }

    /// What the directory holds is not what it was listed as.
    pub(crate) fn listing_changes(&self) {
        if let Some(listing) = &self.listing {
            listing.invalidate();
        }
    }

    /// The topmost object.
    pub(crate) fn real<'a>(&'a self, layers: &'a Layers) -> Result<Real<'a>> {
        if let Some(upper) = self.upper() {
            return Ok(Real {
                path: Path::new(layers.upper_mnt()?, upper),
                is_upper: true,
            });
        }
        Ok(Real {
            path: self.lower.first().ok_or(EIO)?.path(layers)?,
            is_upper: false,
        })
    }

    /// Which inode number the object is shown with.
    pub(crate) fn identity(&self, layers: &Layers) -> Result<Identity> {
        identity(layers, self.origin, self.upper(), &self.lower)
    }
}

/// The topmost object of an inode.
pub(crate) fn real(inode: &Inode<Rovl>) -> Result<Real<'_>> {
    inode.data().real(layers::of(inode))
}

/// `EPERM` for an immutable file, whose upper object does not know that it is one:
/// it can still be written to through what was open before.
pub(crate) fn check_mutable(inode: &Inode<Rovl>) -> Result {
    match inode.flags() & vfs::fileattr::Flag::Immutable.inode_flag() {
        0 => Ok(()),
        _ => Err(EPERM),
    }
}

/// Step 6 of a copy-up, and the one moment at which an object changes layers:
/// from here on everybody uses the upper object. Returns false if somebody has
/// done so before. Called with the upper directory locked that the object is in.
///
/// All else about the inode is put right first: who sees the upper object may
/// link, change or remove it at once, and what he stores in the inode then must
/// not be overwritten.
pub(crate) fn set_upper(inode: &Inode<Rovl>, upper: ARef<Dentry>) -> Result<bool> {
    let data = inode.data();
    let below: ARef<Inode> = upper.positive()?.into();
    if data.upper().is_some() {
        return Ok(false);
    }
    inode.set_backing(below.clone(), true);
    inode.copy_attributes(&below);
    if !below.is_dir() && inode.nlink() > below.nlink() {
        // One of several names of a lower file is a file of its own now.
        inode.set_nlink(below.nlink());
    }
    // The upper object may get more names at once, and each must find this inode.
    inode.rehash(hash_of(&below));
    Ok(data.upper.populate(upper))
}

/// By what lookups find the inode of an object: the upper one if there is one, the
/// lower one else.
fn hash_of(below: &Inode) -> u64 {
    below.as_ptr().addr() as u64
}

/// The overlay inode for what a lookup found: one that is in use, or a new one.
pub(crate) fn get(sb: &SuperBlock<Rovl>, objects: Objects) -> Result<ARef<Inode<Rovl>>> {
    let layers = layers::of_sb(sb);
    let top: ARef<Dentry> = match (&objects.upper, objects.lower.first()) {
        (Some(upper), _) => upper.clone(),
        (None, Some(lower)) => lower.dentry.clone(),
        (None, None) => return Err(ENOENT),
    };
    let below = top.positive()?;
    let is_upper = objects.upper.is_some();
    // A lower file with several names becomes several files when it is copied
    // up (there is no index yet), so each name has an inode of its own.
    let is_shared = is_upper || below.is_dir() || below.nlink() <= 1;

    let lower_mnt = match objects.lower.first() {
        Some(lower) => Some(&*layers.lower(lower.layer)?.mnt),
        None => None,
    };
    let data = OverlayInode {
        upper: SetOnce::new(),
        lower: objects.lower,
        origin: objects.origin,
        impure: Atomic::new(objects.impure),
        opaque: Atomic::new(false),
        listing: below
            .is_dir()
            .then(crate::listing::Cache::new)
            .transpose()?,
    };
    if let Some(upper) = objects.upper {
        data.upper.populate(upper);
    }
    let identity = data.identity(layers)?;
    let mut new = if is_shared {
        match sb.get_inode(hash_of(below), data)? {
            Found::Cached(inode) => return Ok(inode),
            Found::New(new) => new,
        }
    } else {
        sb.new_unhashed_inode(data)?
    };

    new.set_idmaps(lower_mnt, layers.upper_mnt().ok());
    new.set_backing(below.into(), is_upper);
    new.copy_attributes(below);
    let path = new.data().real(layers)?.path;
    let flags = private::flags_of(layers, path, is_upper)?;
    new.set_flags_from(below, flags);
    new.set_nlink(if below.is_dir() { 1 } else { below.nlink() });
    // Inode numbers of several filesystems could be equal in one mount, but
    // directories are told apart by `i_ino` alone.
    let ino = if layers.on_one_filesystem() || !below.is_dir() {
        identity.ino
    } else {
        vfs::attr::next_ino()
    };
    let number = (ino, identity.overlay_generation());
    Ok(new.publish(number, below.mode(), below.rdev()))
}
