// SPDX-License-Identifier: GPL-2.0

//! A layer, the stack of layers, and what each can do.

use crate::{
    format::{
        names::{self, Names},
        uuid::Uuid,
    },
    vfs::{
        self, in_use::InUseMark, super_block::ErrorsSince, Dentry, Inode, Mount, Path,
        PrivateMount, SuperBlock,
    },
};
use kernel::{
    cred::Credential,
    new_spinlock,
    prelude::*,
    str::{BStr, CString},
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        SpinLock,
    },
};

/// The filesystem type. What its objects keep is said at the top, in
/// `super_block.rs`; the rooms between name no more of it than this.
pub(crate) struct Rovl;

/// What is done with directories that say what they are called below (`redirect_dir`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// They are refused (`nofollow`).
    Refused,
    /// They are merged with what they name (`follow`).
    Followed,
    /// And `rename` makes them (`on`).
    Made,
}

/// The stack.
pub(crate) struct Layers {
    /// The writable layer, if there is one.
    pub(crate) upper: Option<Upper>,
    /// The read-only layers, topmost first.
    pub(crate) lower: KVec<Layer>,
    /// The distinct filesystems the layers are on; that of the upper layer is
    /// the first, or without one that of the topmost lower layer.
    pub(crate) filesystems: KVec<LayerFs>,
    /// Which numbers their objects are shown with.
    pub(crate) numbers: Numbers,
    /// It has been said that a number did not fit; see [`Layers::warn_of_overflow`].
    pub(crate) has_overflowed: Atomic<bool>,
    /// How the attributes are called that the mount keeps with objects.
    pub(crate) names: &'static Names,
    /// Whether handles found in the upper layer may be followed: the mounter may
    /// open files by them, and they are not in `user.*`, where users write.
    pub(crate) trusts_handles: bool,
    pub(crate) redirects: Redirects,
    /// File handles are stored, and understood, without the UUID of their filesystem.
    pub(crate) ignores_uuids: bool,
    /// As whom the layers are accessed: the mounter, without the right to
    /// reserved blocks.
    pub(crate) cred: ARef<Credential>,
    /// Addresses of the inodes of [`Layers::is_trap`], sorted; the layers hold them.
    pub(crate) traps: KVec<usize>,
    /// The longest name that any layer may have, in bytes.
    pub(crate) namelen: i64,
}

impl Drop for Layers {
    /// All mounts go together: each by itself would wait for a grace period.
    fn drop(&mut self) {
        if self.mounts().any(|mnt| !mnt.is_retired()) {
            // Without memory they are unmounted one by one.
            let _ = PrivateMount::retire(self.mounts());
        }
    }
}

/// One layer: a directory tree seen through a private mount of ours.
pub(crate) struct Layer {
    pub(crate) mnt: PrivateMount,
    /// As the user named it, for messages and `show_options`.
    pub(crate) name: CString,
    /// Index into [`Layers::filesystems`].
    pub(crate) fs: u32,
}

impl Layer {
    pub(crate) fn root(&self) -> &Dentry {
        self.mnt.root()
    }

    pub(crate) fn path<'a>(&'a self, dentry: &'a Dentry) -> Path<'a> {
        Path::new(&self.mnt, dentry)
    }
}

/// A filesystem that holds layers.
pub(crate) struct LayerFs {
    /// [`SuperBlock::address`] of it.
    pub(crate) sb: usize,
    /// What `st_dev` says for its files when the layers are on several
    /// filesystems.
    pub(crate) pseudo_dev: vfs::attr::AnonDev,
    /// Whether a file handle with its UUID leads to a file of it, so that the origin of
    /// a copied-up file can be found again: it can decode them (NFS export), and no
    /// other can be meant.
    pub(crate) is_found_by_uuid: bool,
}

/// Which inode and device numbers objects are shown with.
#[derive(Clone, Copy)]
pub(crate) enum Numbers {
    /// All layers are on one filesystem: its inode numbers, and the `st_dev` of the mount.
    OfOne,
    /// They are on several (`xino=off`). Directories have numbers of the mount, and other
    /// objects their own with the [`LayerFs::pseudo_dev`] of their filesystem.
    OfEach,
    /// They are on several, whose numbers are made one range (`xino=on`), with the `st_dev` of
    /// the mount. Where one does not fit it is as with [`Numbers::OfEach`].
    Composed(Composed),
}

/// The inode numbers of several filesystems, made one range: where a number stays below
/// 2^`narrow`, as most do, the index of its filesystem is put above that, and the outcome is
/// one of 32 bits, for programs that know no others. If not, it goes above 2^`wide`.
///
/// It is made of the number and the index alone, so it stays the same over mounts of the same
/// layers.
#[derive(Clone, Copy)]
pub(crate) struct Composed {
    narrow: u32,
    wide: u32,
    /// What is above 2^`wide` in numbers that are of no filesystem: more than any index, and
    /// 0 is that of narrow ones.
    of_none: u64,
}

impl Composed {
    /// For as many filesystems.
    pub(crate) fn new(filesystems: u32) -> Self {
        let bits_of = |n: u32| u32::BITS - n.leading_zeros();
        let of_none = filesystems.saturating_add(1);
        Self {
            narrow: u32::BITS.saturating_sub(bits_of(filesystems.saturating_sub(1))),
            wide: u64::BITS.saturating_sub(bits_of(of_none)),
            of_none: of_none.into(),
        }
    }

    /// The number of an object of a filesystem, by the index of that; `None` if there is no
    /// room for it.
    #[inline(never)]
    fn number(self, fs: u32, ino: u64) -> Option<u64> {
        let fs = u64::from(fs);
        if ino >> self.narrow == 0 {
            Some(fs << self.narrow | ino)
        } else if ino >> self.wide == 0 {
            Some((fs + 1) << self.wide | ino)
        } else {
            None
        }
    }

    /// A number that no object of a filesystem has.
    fn of_mount(self, n: u64) -> u64 {
        self.of_none << self.wide | n
    }
}

impl Numbers {
    /// The inode number of an object that is shown with the `st_dev` of the mount. `None` for
    /// one that is not, and for a directory that has a number of the mount.
    #[inline]
    pub(crate) fn of_object(self, fs: u32, ino: u64) -> Option<u64> {
        match self {
            Self::OfOne => Some(ino),
            Self::OfEach => None,
            Self::Composed(composed) => composed.number(fs, ino),
        }
    }

    /// What `d_ino` says of an object of which a layer lists `ino`.
    pub(crate) fn listed(self, fs: u32, ino: u64) -> u64 {
        self.of_object(fs, ino).unwrap_or(ino)
    }

    /// A number of the mount, for a directory that has no other.
    pub(crate) fn of_mount(self) -> u64 {
        let ino = vfs::attr::next_ino();
        match self {
            Self::Composed(composed) => composed.of_mount(ino),
            Self::OfOne | Self::OfEach => ino,
        }
    }

    /// Whether a layer lists the numbers that are shown.
    pub(crate) fn are_of_layers(self) -> bool {
        !matches!(self, Self::Composed(_))
    }
}

/// The writable layer and its work directory.
///
/// Dentries and marked inodes must go before their mount does, so it comes last.
pub(crate) struct Upper {
    /// `work/` in the directory given as `workdir`: empty but for what is being
    /// made.
    pub(crate) work: ARef<Dentry>,
    /// The directory given as `workdir`.
    pub(crate) workdir: ARef<Dentry>,
    pub(crate) workdir_name: CString,
    /// Whether its filesystem has `->tmpfile`.
    pub(crate) tmpfile: bool,
    /// Whether its filesystem has `RENAME_WHITEOUT`.
    pub(crate) rename_whiteout: bool,
    /// Nothing is written out for a crash's sake; since when errors are told instead.
    pub(crate) volatile: Option<ErrorsSince>,
    /// Every copy is written out before it gets its name (`fsync=strict`).
    pub(crate) strict: bool,
    /// Holds others off the upper and work directories.
    pub(crate) _in_use: InUse,
    /// Makes names in `work/` unique within this mount.
    pub(crate) serial: Atomic<u64>,
    pub(crate) last_whiteout: LastWhiteout,
    pub(crate) layer: Layer,
}

/// Holds other mounts, of rovl and of overlayfs, off an upper and a work
/// directory (`I_OVL_INUSE`).
pub(crate) struct InUse {
    _upper: InUseMark,
    _work: InUseMark,
}

impl InUse {
    pub(crate) fn new(upper: InUseMark, work: InUseMark) -> Self {
        Self {
            _upper: upper,
            _work: work,
        }
    }
}

/// The whiteout that was made last. The next one is another name of it, which takes no
/// inode, now and when something takes its place. Nothing is kept in `work/` for that,
/// and nothing of a name that has gone.
///
/// Whoever makes one takes it for as long: others who do so at the same time do not
/// wait at its inode, but make one of their own.
pub(crate) struct LastWhiteout(Pin<KBox<SpinLock<Option<ARef<Dentry>>>>>);

impl LastWhiteout {
    pub(crate) fn new() -> Result<Self> {
        let none = new_spinlock!(None, "rovl::last_whiteout");
        Ok(Self(KBox::pin_init(none, GFP_KERNEL)?))
    }

    pub(crate) fn take(&self) -> Option<ARef<Dentry>> {
        self.0.lock().take()
    }

    pub(crate) fn keep(&self, whiteout: ARef<Dentry>) {
        let old = self.0.lock().replace(whiteout);
        drop(old);
    }

    /// Called after names have been removed. A file without a name that is held would
    /// keep the upper filesystem from being remounted read-only, and so would the directory
    /// of a name that has gone, though the file has others.
    pub(crate) fn let_go(&self) {
        let gone = self.0.lock().take_if(|last| last.is_unhashed());
        drop(gone);
    }
}

impl Layers {
    /// The writable layer; `EROFS` without one.
    pub(crate) fn upper(&self) -> Result<&Upper> {
        self.upper.as_ref().ok_or(EROFS)
    }

    /// The mount through which upper objects are seen; `EROFS` without one.
    pub(crate) fn upper_mnt(&self) -> Result<&Mount> {
        Ok(&self.upper()?.layer.mnt)
    }

    /// Whether a copy is written out before it gets its name though it has no data.
    pub(crate) fn is_strict(&self) -> bool {
        self.upper.as_ref().is_some_and(|u| u.strict)
    }

    pub(crate) fn is_volatile(&self) -> bool {
        self.upper.as_ref().is_some_and(|u| u.volatile.is_some())
    }

    /// Whether what has to be durable is to be written out, and waited for. A volatile mount
    /// does not, and what a sync says there is whether all has gone well so far.
    ///
    /// # Errors
    ///
    /// Those of the upper filesystem since a volatile mount was made, of whatever file: what is
    /// not known to be whole is not to be used, so this does not end.
    pub(crate) fn must_sync(&self) -> Result<bool> {
        let Some(upper) = &self.upper else {
            return Ok(true);
        };
        match &upper.volatile {
            None => Ok(true),
            Some(since) => {
                let sb = upper.layer.root().super_block();
                sb.check_errors(since).map(|()| false)
            }
        }
    }

    /// The lower layer with this index.
    pub(crate) fn lower(&self, index: u32) -> Result<&Layer> {
        self.lower.get(index as usize).ok_or(EIO)
    }

    /// The private mounts of all layers.
    pub(crate) fn mounts(&self) -> impl Iterator<Item = &PrivateMount> {
        let upper = self.upper.iter().map(|upper| &upper.layer);
        Iterator::chain(self.lower.iter(), upper).map(|layer| &layer.mnt)
    }

    /// Takes down which directories are not shown where they are found, now that all are there.
    pub(crate) fn set_traps(&mut self) -> Result {
        let roots = self.mounts().map(|mnt| mnt.root());
        let written = self.upper.iter().flat_map(|u| [&*u.workdir, &*u.work]);
        let mut traps = KVec::new();
        for dir in Iterator::chain(roots, written) {
            let address = dir.positive()?.as_ptr().addr();
            if let Err(at) = traps.binary_search(&address) {
                traps.reserve(1, GFP_KERNEL)?;
                traps
                    .insert_within_capacity(at, address)
                    .map_err(|_| ENOMEM)?;
            }
        }
        self.traps = traps;
        Ok(())
    }

    /// Whether a directory that was found in a layer is the root of a layer, or belongs to the
    /// work directory: one layer is inside of another (`lowerdir=/`), or it has come there by
    /// a rename behind our back. What is made in it would be seen twice, or written to a lower
    /// layer. So in a lower layer it is an empty directory, and in the upper one `ELOOP`.
    pub(crate) fn is_trap(&self, dir: &Inode) -> bool {
        self.traps.binary_search(&dir.as_ptr().addr()).is_ok()
    }

    /// Whether all layers are on one filesystem.
    pub(crate) fn on_one_filesystem(&self) -> bool {
        self.filesystems.len() == 1
    }

    /// Says once that a number did not fit.
    #[cold]
    pub(crate) fn warn_of_overflow(&self, fs: u32, ino: u64) {
        if self.has_overflowed.load(Relaxed) || !vfs::may_warn() {
            return;
        }
        let upper = self.upper.iter().map(|upper| &upper.layer);
        let layer = Iterator::chain(upper, &self.lower).find(|layer| layer.fs == fs);
        if let (Some(layer), false) = (layer, self.has_overflowed.xchg(true, Relaxed)) {
            pr_warn!(
                "inode number {} of layer {} leaves no bits for xino: such objects are shown as \
                 with xino=off\n",
                ino,
                BStr::from_bytes(layer.name.to_bytes())
            );
        }
    }

    /// Whether marks are `user.*` attributes, which the mounter needs the right to read.
    pub(crate) fn is_userxattr(&self) -> bool {
        core::ptr::eq(self.names, &names::USER)
    }

    /// The UUID of the filesystem of an object, in a file handle.
    pub(crate) fn uuid_of(&self, sb: &SuperBlock) -> Uuid {
        match self.ignores_uuids {
            true => Uuid::NULL,
            false => Uuid(sb.uuid()),
        }
    }

    /// Acts as the mounter while `f` runs.
    pub(crate) fn as_mounter<R>(&self, f: impl FnOnce() -> R) -> R {
        vfs::cred::with_creds(&self.cred, f)
    }
}

/// The layers of the mount an inode belongs to.
pub(crate) fn of(inode: &Inode<Rovl>) -> &Layers {
    of_sb(inode.sb())
}

/// The layers of a mount.
pub(crate) fn of_sb(sb: &SuperBlock<Rovl>) -> &Layers {
    &sb.data().layers
}
