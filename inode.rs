// SPDX-License-Identifier: GPL-2.0

//! The overlay inode: its upper and lower objects.

use crate::vfs::compat::ESTALE;
use crate::{
    layers::{self, Layers, Rovl},
    private,
    vfs::{
        self,
        inode::{Found, Key},
        Dentry, Inode, Path, SuperBlock,
    },
};
use core::ops::Deref;
use kernel::{
    new_spinlock,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, SetOnce, SpinLock,
    },
};

/// An object in a lower layer.
pub(crate) struct LowerObject {
    /// Index into [`Layers::lower`].
    pub(crate) layer: u32,
    pub(crate) dentry: ARef<Dentry>,
    /// For a directory: regular files in it may be whiteouts when it is listed.
    pub(crate) xattr_whiteouts: bool,
    /// A directory that is shown empty, whatever is in it, and is the only one of an object:
    /// see [`Layers::is_trap`].
    pub(crate) is_trap: bool,
}

impl LowerObject {
    pub(crate) fn path<'a>(&'a self, layers: &'a Layers) -> Result<Path<'a>> {
        Ok(layers.lower(self.layer)?.path(&self.dentry))
    }
}

/// Lower objects, topmost first. Most often there is one, which needs no memory of its
/// own.
pub(crate) enum LowerObjects {
    None,
    One(LowerObject),
    Any(KVec<LowerObject>),
}

impl LowerObjects {
    pub(crate) const fn new() -> Self {
        Self::None
    }

    /// Whether this is a directory that is shown empty.
    pub(crate) fn is_trap(&self) -> bool {
        self.first().is_some_and(|object| object.is_trap)
    }

    /// Adds one below the others.
    pub(crate) fn push(&mut self, object: LowerObject) -> Result {
        match self {
            Self::None => *self = Self::One(object),
            Self::Any(all) => all.push(object, GFP_KERNEL)?,
            Self::One(_) => {
                let mut all = KVec::with_capacity(2, GFP_KERNEL)?;
                if let Self::One(first) = core::mem::replace(self, Self::new()) {
                    all.push(first, GFP_KERNEL)?;
                }
                all.push(object, GFP_KERNEL)?;
                *self = Self::Any(all);
            }
        }
        Ok(())
    }
}

impl Deref for LowerObjects {
    type Target = [LowerObject];

    fn deref(&self) -> &[LowerObject] {
        match self {
            Self::None => &[],
            Self::One(object) => core::slice::from_ref(object),
            Self::Any(objects) => objects,
        }
    }
}

/// Which inode number an object is shown with: it stays the same when the
/// object is copied up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Index into [`Layers::filesystems`].
    pub(crate) fs: u32,
    pub(crate) ino: u64,
    /// `i_generation`: tells the object from others that have had its number.
    pub(crate) generation: u32,
}

impl Identity {
    pub(crate) fn of(inode: &Inode, fs: u32) -> Self {
        Self {
            fs,
            ino: inode.ino(),
            generation: inode.generation(),
        }
    }

    /// The generation of the overlay inode. With the number it makes the file id
    /// that fanotify reports, so it tells the filesystems apart, too.
    fn overlay_generation(self) -> u32 {
        self.generation ^ self.fs.rotate_right(8)
    }
}

/// What one lookup found, and what an overlay inode is made of.
pub(crate) struct Objects {
    pub(crate) upper: Option<ARef<Dentry>>,
    /// Topmost first. A directory has all that are merged; anything else at
    /// most one, and none below an upper object.
    pub(crate) lower: LowerObjects,
    /// Where an upper object was copied from, if that is known.
    pub(crate) origin: Option<Identity>,
    /// For an upper directory: it may hold objects whose origin is elsewhere.
    pub(crate) impure: bool,
    /// By which redirects it has been found.
    pub(crate) way: Way,
    /// For a directory: by which what is in it is found.
    pub(crate) way_below: Way,
}

/// Which redirects led to an object of a lower layer. By several ways there may be several
/// objects of the mount that are made of one: what is done to one of them is not done to the
/// others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way(u64);

impl Way {
    /// By none.
    pub(crate) const STRAIGHT: Self = Self(0);

    /// And then by that of `object`. What is found so may outlive it (a watch keeps an inode
    /// and no more), and is found again by the same way: so not by its address.
    pub(crate) fn by(self, object: &Inode) -> Self {
        let told_by = [
            object.super_block().address() as u64,
            object.ino(),
            object.generation().into(),
        ];
        let mixed = told_by
            .into_iter()
            .fold(self.0, |way, word| mix(way ^ word));
        // Zero is no way.
        Self(mixed.max(1))
    }
}

/// The last steps of splitmix64: each bit of `word` changes about half of those that come out.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
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
        if lower.is_trap {
            return identity_of_trap(layers, lower);
        }
        if upper.is_none() || !becomes_own_file(inode) {
            return Ok(Identity::of(inode, layers.lower(lower.layer)?.fs));
        }
    }
    let inode = upper.ok_or(EIO)?.positive()?;
    Ok(Identity::of(inode, layers.upper()?.layer.fs))
}

/// The upper directory itself has the number with which the root is shown, and who finds a
/// directory below itself gives up. With the number of `work` nothing is shown.
#[cold]
fn identity_of_trap(layers: &Layers, lower: &LowerObject) -> Result<Identity> {
    let inode = lower.dentry.positive()?;
    match &layers.upper {
        Some(upper) if upper.layer.root().positive()?.is_same(inode) => {
            Ok(Identity::of(upper.work.positive()?, upper.layer.fs))
        }
        _ => Ok(Identity::of(inode, layers.lower(lower.layer)?.fs)),
    }
}

struct UpperObject {
    /// A copy of one of several names of a lower file: its number is its own.
    is_own: bool,
    /// Of what has been copied up by us.
    _copy_of: Option<KBox<CopyOf>>,
    dentry: ARef<Dentry>,
}

/// What rovl keeps for an inode.
pub(crate) struct OverlayInode {
    /// The object in the upper layer. Set once, by the lookup that finds it or
    /// by the copy-up that makes it; whoever sees it sees a whole object.
    upper: SetOnce<UpperObject>,
    pub(crate) lower: LowerObjects,
    /// The number it was found with.
    found_as: Identity,
    /// That is the number of an object from which the one in the upper layer was copied,
    /// before it was found.
    had_origin: bool,
    way: Way,
    /// See [`Objects::way_below`].
    pub(crate) way_below: Way,
    /// See [`Objects::impure`]; only ever becomes true.
    pub(crate) impure: Atomic<bool>,
    /// A directory of whose lower parts nothing is to be seen: its upper one has been
    /// made opaque since it was found, or it is a trap.
    opaque: Atomic<bool>,
    /// See [`OverlayInode::has_lost_name`].
    lost_name: Atomic<bool>,
    /// The merged listing of a directory; see `readdir.rs`. Nothing else has
    /// one.
    pub(crate) listing: Option<Pin<KBox<crate::listing::Cache>>>,
}

/// The object that stands for the whole now.
pub(crate) struct Real<'a> {
    pub(crate) path: Path<'a>,
    /// Whether it is in the upper layer.
    pub(crate) is_upper: bool,
    /// Whether it is shown with its own number, whatever it was found with.
    is_own: bool,
}

impl OverlayInode {
    /// The upper object, once there is one.
    pub(crate) fn upper(&self) -> Option<&Dentry> {
        self.upper.as_ref().map(|upper| &*upper.dentry)
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

    /// Whether this is a layer, or a work directory, that was found in a lower layer, and has
    /// not been copied up: an empty directory.
    pub(crate) fn is_trap(&self) -> bool {
        self.lower.is_trap() && self.upper().is_none()
    }

    /// The upper directory has been made opaque.
    pub(crate) fn set_opaque(&self) {
        self.opaque.store(true, Relaxed);
    }

    /// Whether an object that was not in the upper layer has been removed, or
    /// another has taken its place: a copy of it gets no name.
    ///
    /// Who takes the name away says so while he has the upper directory locked in
    /// which a copy would get it. What the dentries say is no answer: they change
    /// after the upper directory has been unlocked, and the VFS forgets a name that
    /// is still there when a lower filesystem does not answer.
    pub(crate) fn has_lost_name(&self) -> bool {
        self.lost_name.load(Acquire)
    }

    /// See [`OverlayInode::has_lost_name`].
    pub(crate) fn lose_name(&self) {
        self.lost_name.store(true, Release);
    }

    /// What the directory holds is not what it was listed as.
    pub(crate) fn listing_changes(&self) {
        if let Some(listing) = &self.listing {
            listing.invalidate();
        }
    }

    /// The topmost object.
    pub(crate) fn real<'a>(&'a self, layers: &'a Layers) -> Result<Real<'a>> {
        if let Some(upper) = self.upper.as_ref() {
            return Ok(Real {
                path: Path::new(layers.upper_mnt()?, &upper.dentry),
                is_upper: true,
                is_own: upper.is_own,
            });
        }
        Ok(Real {
            path: self.lower.first().ok_or(EIO)?.path(layers)?,
            is_upper: false,
            is_own: false,
        })
    }

    /// Whether the number is that of a lower object, which the listing of the upper layer
    /// does not know; for what is in the upper layer.
    pub(crate) fn has_origin(&self) -> bool {
        let is_own = self.upper.as_ref().is_some_and(|upper| upper.is_own);
        self.had_origin || (!self.lower.is_empty() && !is_own)
    }

    /// Which inode number the object is shown with, where `real` stands for it.
    pub(crate) fn identity(&self, layers: &Layers, real: &Real<'_>) -> Result<Identity> {
        match real.is_own {
            true => Ok(Identity::of(real.path.inode()?, layers.upper()?.layer.fs)),
            false => Ok(self.found_as),
        }
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

/// Copies, and of which inodes they are: by this an inode that was made when its object
/// was in a lower layer is found by the object in the upper layer as well. All others
/// are found by the one object that they have been given as a key.
///
/// An inode keeps its key and stays where it is hashed, since lookups in the inode hash
/// of the kernel, by whatever filesystem, go through it without a lock. And it must be
/// found there after it has been copied up: by a lookup that has looked at the upper
/// layer just before.
#[pin_data]
pub(crate) struct Copied {
    /// By the address of the inode of the copy.
    #[pin]
    table: SpinLock<RBTree<usize, Original>>,
    /// There has been one.
    any: Atomic<bool>,
    /// For keys that are no address.
    serial: Atomic<u64>,
}

/// The inode of which something is the copy.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Original {
    key: Key,
    /// Where its [`OverlayInode`] is: another may get the key when this one goes.
    data: usize,
}

impl Copied {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                table <- new_spinlock!(RBTree::new(), "rovl::copied"),
                any: Atomic::new(false),
                serial: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// The inode of which `upper` is the copy. It may not have been announced yet.
    fn find(&self, sb: &SuperBlock<Rovl>, upper: &Inode) -> Option<ARef<Inode<Rovl>>> {
        // Whoever sees a copy sees what was stored before it got its name.
        if !self.any.load(Relaxed) {
            return None;
        }
        let original = self.original_of(upper)?;
        let found = sb.find_inode(original.key)?;
        // The one that was meant may have gone since, and this may have its key and its
        // place. While it is kept, nothing else has them.
        let is_meant = data_address(found.data()) == original.data
            && self.original_of(upper) == Some(original);
        is_meant.then_some(found)
    }

    fn original_of(&self, upper: &Inode) -> Option<Original> {
        self.table.lock().get(&address(upper)).copied()
    }

    /// A key by which no lookup finds an inode, unless it is copied up. Addresses are
    /// even.
    fn own_key(&self) -> Key {
        Key(self.serial.fetch_add(2, Relaxed) | 1, 0)
    }
}

fn address(inode: &Inode) -> usize {
    inode.as_ptr().addr()
}

fn data_address(data: &OverlayInode) -> usize {
    core::ptr::from_ref(data).addr()
}

/// A copy that is known to be that of an inode, for as long as this lives.
pub(crate) struct CopyOf {
    copied: Arc<Copied>,
    upper: usize,
    /// Keeps the address from being another inode's.
    _upper: ARef<Dentry>,
}

impl CopyOf {
    /// Makes it known that `upper` is the copy of `inode`. That is to be done before it
    /// gets its name: who finds it there looks for its inode at once.
    pub(crate) fn register(inode: &Inode<Rovl>, upper: &Dentry) -> Result<KBox<Self>> {
        let copied = &inode.sb().data().copied;
        let key = address(upper.positive()?);
        let original = Original {
            key: inode.key(),
            data: data_address(inode.data()),
        };
        let node = RBTreeNode::new(key, original, GFP_KERNEL)?;
        let made = KBox::new(
            Self {
                copied: copied.clone(),
                upper: key,
                _upper: upper.into(),
            },
            GFP_KERNEL,
        )?;
        copied.any.store(true, Relaxed);
        copied.table.lock().insert(node);
        Ok(made)
    }
}

impl Drop for CopyOf {
    fn drop(&mut self) {
        let node = self.copied.table.lock().remove_node(&self.upper);
        // Freed with the lock given back.
        drop(node);
    }
}

/// Step 6 of a copy-up, and the one moment at which an object changes layers:
/// from here on everybody uses the upper object. Returns false if somebody has
/// done so before. Called with the upper directory locked that the object is in.
///
/// All else about the inode is put right first: who sees the upper object may
/// link, change or remove it at once, and what he stores in the inode then must
/// not be overwritten.
pub(crate) fn set_upper(
    inode: &Inode<Rovl>,
    upper: ARef<Dentry>,
    is_own: bool,
    copy_of: KBox<CopyOf>,
) -> Result<bool> {
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
    Ok(data.upper.populate(UpperObject {
        is_own,
        _copy_of: Some(copy_of),
        dentry: upper,
    }))
}

/// Which inode is the one of what a lookup found: that of the upper object if there is
/// one, else that of the topmost lower one.
///
/// A lower file with several names becomes several files when it is copied up (there
/// is no index yet), so each name has an inode of its own.
struct Sought<'a> {
    object: &'a Dentry,
    below: &'a Inode,
    is_upper: bool,
    is_name: bool,
    way: Way,
}

impl<'a> Sought<'a> {
    fn new(object: &'a Dentry, is_upper: bool, way: Way) -> Result<Self> {
        let below = object.positive()?;
        Ok(Self {
            object,
            below,
            way,
            is_upper,
            is_name: !is_upper && becomes_own_file(below),
        })
    }

    /// A file that may have very many names has an inode for each of them. A name never
    /// has the key of an object.
    fn key(&self) -> Key {
        let name = match self.is_name {
            true => 1 << 32 | u64::from(self.object.name_hash()),
            false => 0,
        };
        let way = match self.is_upper {
            true => Way::STRAIGHT,
            false => self.way,
        };
        Key(address(self.below) as u64, name ^ way.0)
    }

    /// Whether this is the inode, which has been found by its key. The key tells one
    /// name of a lower file, and one way to it, from the others only most of the time.
    /// And what has been removed is not it: who finds the lower object again has looked
    /// at an upper layer that somebody else has changed.
    fn is(&self, found: &OverlayInode) -> bool {
        if self.is_upper {
            return found.upper().is_some_and(|upper| self.is_of(upper));
        }
        let lower = found.lower.first().map(|lower| &*lower.dentry);
        lower.is_some_and(|lower| {
            self.is_of(lower) && (!self.is_name || lower.is_same_name(self.object))
        }) && found.way == self.way
            && !found.has_lost_name()
    }

    fn is_of(&self, object: &Dentry) -> bool {
        object.inode().is_some_and(|it| it.is_same(self.below))
    }
}

/// The overlay inode for what a lookup found: one that is in use, or a new one.
pub(crate) fn get(sb: &SuperBlock<Rovl>, objects: Objects) -> Result<ARef<Inode<Rovl>>> {
    let copied = &sb.data().copied;
    let (top, is_upper): (ARef<Dentry>, _) = match (&objects.upper, objects.lower.first()) {
        (Some(upper), _) => (upper.clone(), true),
        (None, Some(lower)) => (lower.dentry.clone(), false),
        (None, None) => return Err(ENOENT),
    };
    let sought = Sought::new(&top, is_upper, objects.way)?;
    if is_upper {
        if let Some(inode) = copied.find(sb, sought.below) {
            return Ok(inode);
        }
    }
    if objects.lower.is_trap() {
        // It may be a part of another inode, such as that of the root.
        return new(sb, objects, &sought, copied.own_key());
    }
    let mut key = sought.key();
    if let Some(inode) = sb.find_inode(key) {
        if sought.is(inode.data()) {
            return Ok(inode);
        }
        key = copied.own_key();
    }
    new(sb, objects, &sought, key)
}

/// The inode for what has been found to have none.
fn new(
    sb: &SuperBlock<Rovl>,
    objects: Objects,
    sought: &Sought<'_>,
    key: Key,
) -> Result<ARef<Inode<Rovl>>> {
    let layers = layers::of_sb(sb);
    let (below, is_upper) = (sought.below, sought.is_upper);
    let lower_mnt = match objects.lower.first() {
        Some(lower) => Some(&*layers.lower(lower.layer)?.mnt),
        None => None,
    };
    let identity = objects.identity(layers)?;
    let is_trap = objects.lower.is_trap();
    let data = OverlayInode {
        upper: SetOnce::new(),
        lower: objects.lower,
        found_as: identity,
        had_origin: objects.origin.is_some(),
        way: objects.way,
        way_below: objects.way_below,
        impure: Atomic::new(objects.impure),
        opaque: Atomic::new(is_trap),
        lost_name: Atomic::new(false),
        listing: below
            .is_dir()
            .then(crate::listing::Cache::new)
            .transpose()?,
    };
    if let Some(dentry) = objects.upper {
        data.upper.populate(UpperObject {
            is_own: false,
            _copy_of: None,
            dentry,
        });
    }
    let mut new = match sb.insert_inode(key, data)? {
        Found::New(new) => new,
        Found::Cached(inode) if sought.is(inode.data()) => return Ok(inode),
        // Two names that have one key, both looked up just now. The VFS tries again.
        Found::Cached(_) => return Err(ESTALE),
    };

    new.set_idmaps(lower_mnt, layers.upper_mnt().ok());
    new.set_backing(below.into(), is_upper);
    new.copy_attributes(below);
    let path = new.data().real(layers)?.path;
    let flags = private::flags_of(layers, path, is_upper)?;
    new.set_flags_from(below, flags);
    new.set_nlink(if below.is_dir() { 1 } else { below.nlink() });
    let ino = layers.numbers.of_object(identity.fs, identity.ino);
    let ino = ino.unwrap_or_else(|| number_of_unfit(layers, identity, below.is_dir()));
    let number = (ino, identity.overlay_generation());
    Ok(new.publish(number, below.mode(), below.rdev()))
}

/// `i_ino` of what is not shown with a number made of the one below. Numbers of several
/// filesystems could be equal in one mount, but directories are told apart by `i_ino` alone.
fn number_of_unfit(layers: &Layers, identity: Identity, is_dir: bool) -> u64 {
    if !layers.numbers.are_of_layers() {
        layers.warn_of_overflow(identity.fs, identity.ino);
    }
    match is_dir {
        true => layers.numbers.of_mount(),
        false => identity.ino,
    }
}
