// SPDX-License-Identifier: GPL-2.0

//! Merged listing: one directory out of many.
//!
//! The parts of a directory are read one after the other, the upper one first,
//! into one flat list. A name hides the same name in the parts below; if what
//! comes first is a whiteout, the name is not there at all. Names are compared
//! after sorting, by their hash and then as they are, so that no choice of names
//! makes it slow.
//!
//! A listing never changes once it is made: the position of an entry is its
//! place in the list, and stays right for as long as the directory is open,
//! whatever is made or removed meanwhile. Going back to the start takes a new
//! listing if the directory has changed. Files of one directory share the
//! listing; it goes when the last of them is closed.
//!
//! A directory that is one directory of a layer, with nothing in it to correct,
//! needs no list: the entries of that one are passed on, with its positions.

use crate::vfs::compat::ENOTEMPTY;
use crate::{
    layers::{self, Layer, Layers, Rovl},
    listing::{Cache, List, Listing},
    lookup,
    vfs::{
        completion::fatal_signal_pending,
        file::{DirectoryFile, UserFile},
        iterate::{self, DirFile, Pass},
        lock::{Context, DirectoryLock, MayLockDirectory, Nothing},
        readdir::{self, DirContext, ReaddirOperations},
        Dentry, Inode, Path,
    },
    whiteout::Part,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{aref::ARef, atomic::Relaxed, Arc, Mutex},
};

/// The cache of a directory.
fn cache_of(dir: &Inode<Rovl>) -> Result<&Cache> {
    dir.data().listing.as_deref().ok_or(ENOTDIR)
}

/// To be called after each change of what a directory holds: the next reader
/// that starts at the beginning sees it.
pub(crate) fn invalidate(dir: &Inode<Rovl>) {
    dir.data().listing_changes();
}

/// The parts of a directory, topmost first.
fn parts<'a>(dir: &'a Inode<Rovl>, layers: &'a Layers) -> Result<KVec<Part<'a>>> {
    let mut parts = KVec::new();
    if let Some(upper) = dir.data().upper() {
        let upper = Part {
            path: Path::new(layers.upper_mnt()?, upper),
            fs: layers.upper()?.layer.fs,
            names: layers.names,
            has_xattr_whiteouts: false,
        };
        parts.push(upper, GFP_KERNEL)?;
    }
    for lower in dir.data().lower_parts() {
        let lower = Part {
            path: lower.path(layers)?,
            fs: layers.lower(lower.layer)?.fs,
            names: layers.names,
            has_xattr_whiteouts: lower.xattr_whiteouts,
        };
        parts.push(lower, GFP_KERNEL)?;
    }
    Ok(parts)
}

/// All names that a directory holds, with the inode numbers that their layers give them.
fn merge(may_lock: &mut impl MayLockDirectory, dir: &Inode<Rovl>) -> Result<List> {
    let layers = layers::of(dir);
    layers.as_mounter(|| {
        let parts = parts(dir, layers)?;
        let mut list = read_all(may_lock, &parts, layers)?;
        hide(may_lock, &mut list, &parts)?;
        list.compact();
        if !layers.numbers.are_of_layers() {
            compose_numbers(&mut list, &parts, layers)?;
        }
        Ok(list)
    })
}

/// Makes the numbers of the layers those that are shown (`xino`).
fn compose_numbers(list: &mut List, parts: &[Part<'_>], layers: &Layers) -> Result {
    for entry in &mut *list.entries {
        let part = parts.get(usize::from(entry.part)).ok_or(EIO)?;
        entry.ino = layers.numbers.listed(part.fs, entry.ino);
    }
    Ok(())
}

/// What the parts hold, with the inode numbers of the layers.
fn read_all(
    may_lock: &mut impl MayLockDirectory,
    parts: &[Part<'_>],
    layers: &Layers,
) -> Result<List> {
    let mut list = List::new();
    for (index, part) in parts.iter().enumerate() {
        let index = u16::try_from(index).map_err(|_| EOVERFLOW)?;
        list.read(may_lock, index, part.path, &layers.cred)?;
    }
    Ok(list)
}

/// Marks what is hidden by other entries, and these.
fn hide(may_lock: &mut impl MayLockDirectory, list: &mut List, parts: &[Part<'_>]) -> Result {
    if parts.len() > 1 {
        list.hide_duplicates()?;
    }
    hide_whiteouts(may_lock, list, parts)
}

fn hide_whiteouts(
    may_lock: &mut impl MayLockDirectory,
    list: &mut List,
    parts: &[Part<'_>],
) -> Result {
    for index in 0..list.entries.len() {
        let Some(&entry) = list.entries.get(index) else {
            break;
        };
        if entry.is_hidden {
            continue;
        }
        let part = parts.get(usize::from(entry.part)).ok_or(EIO)?;
        if part.is_whiteout(may_lock, list.name(&entry), entry.d_type)? {
            if let Some(entry) = list.entries.get_mut(index) {
                entry.is_hidden = true;
            }
        }
    }
    Ok(())
}

/// Reads what a directory holds now.
fn read_listing(
    may_lock: &mut impl MayLockDirectory,
    dentry: &Dentry<Rovl>,
) -> Result<Arc<Listing>> {
    let dir = dentry.node()?;
    let version = cache_of(dir)?.version();
    let mut list = merge(may_lock, dir)?;
    correct_inode_numbers(may_lock, &mut list, dentry, dir)?;
    Ok(Arc::new(Listing { version, list }, GFP_KERNEL)?)
}

/// Gives entries of the upper layer the inode numbers that `stat` shows, where
/// they may be copies of what was or is in a lower one.
fn correct_inode_numbers(
    may_lock: &mut impl MayLockDirectory,
    list: &mut List,
    dentry: &Dentry<Rovl>,
    dir: &Inode<Rovl>,
) -> Result {
    let data = dir.data();
    let is_impure = data.impure.load(Relaxed);
    if data.upper().is_none() || !(data.is_merged() || is_impure) {
        return Ok(());
    }
    for index in 0..list.entries.len() {
        // Those of the upper part come first.
        let Some(&entry) = list.entries.get(index).filter(|entry| entry.part == 0) else {
            break;
        };
        // Where nothing was copied up only a directory has another number: that
        // of the one it is merged with.
        let may_be_dir = matches!(
            u32::from(entry.d_type),
            readdir::DT_DIR | readdir::DT_UNKNOWN
        );
        let may_differ = is_impure || (entry.has_below && may_be_dir);
        if !may_differ {
            continue;
        }
        if fatal_signal_pending() {
            return Err(EINTR);
        }
        // What cannot be looked up keeps the number that its layer lists.
        if let Ok(ino) = lookup::ino_of_entry(may_lock, dentry, list.name(&entry)) {
            if let Some(entry) = list.entries.get_mut(index) {
                entry.ino = ino;
            }
        }
    }
    Ok(())
}

/// What an open directory keeps.
pub(crate) struct OpenDirectory {
    /// Whose cache counts this file as a user.
    dir: ARef<Inode<Rovl>>,
    kept: Pin<KBox<Mutex<Kept>>>,
}

#[derive(Default)]
struct Kept {
    /// What positions of this file belong to. Who reads the directory takes it, and
    /// puts it back.
    view: Option<View>,
    /// The upper directory, open since the first `fsync`: an error in writing it
    /// back is told each open file once.
    synced: Option<Arc<DirFile>>,
}

/// What an open directory is read from.
enum View {
    Listing(Arc<Listing>),
    Only(OnlyPart),
}

/// The only part of a directory, open. It is listed as it is, and with the
/// positions of its filesystem.
struct OnlyPart {
    file: DirFile,
    /// Index into [`Layers::lower`]; `None` in the upper layer.
    layer: Option<u32>,
    /// What was seen from the start on, if none of it has to be looked at: the dots, and
    /// then names that are no whiteouts.
    seen: Option<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The position behind it.
    until: i64,
    /// There was a name behind the dots.
    names: bool,
}

impl OpenDirectory {
    fn new(dir: &Inode<Rovl>) -> Result<Self> {
        let kept = KBox::pin_init(new_mutex!(Kept::default()), GFP_KERNEL)?;
        cache_of(dir)?.enter();
        Ok(Self {
            dir: dir.into(),
            kept,
        })
    }

    fn take_view(&self) -> Option<View> {
        self.kept.lock().view.take()
    }

    fn keep_view(&self, view: View) {
        let old = self.kept.lock().view.replace(view);
        drop(old);
    }

    /// The upper directory, to be made durable.
    fn synced(
        &self,
        ctx: &mut Context<Nothing>,
        layers: &Layers,
        upper: &Dentry,
    ) -> Result<Arc<DirFile>> {
        if let Some(file) = self.kept.lock().synced.clone() {
            return Ok(file);
        }
        let file = DirFile::open(ctx, Path::new(layers.upper_mnt()?, upper), &layers.cred)?;
        let file = Arc::new(file, GFP_KERNEL)?;
        // If somebody was faster it is his.
        Ok(self.kept.lock().synced.get_or_insert(file).clone())
    }
}

impl Drop for OpenDirectory {
    fn drop(&mut self) {
        if let Ok(cache) = cache_of(&self.dir) {
            cache.leave();
        }
    }
}

/// What to read from at `pos`: at the start what the directory is now, later
/// what the position was found in. It is taken from the file.
fn view_at(
    may_lock: &mut impl MayLockDirectory,
    file: &DirectoryFile<Rovl>,
    pos: i64,
) -> Result<View> {
    if pos != 0 {
        if let Some(view) = file.data().take_view() {
            return Ok(view);
        }
    }
    Ok(match OnlyPart::open(may_lock, file.inode())? {
        Some(part) => View::Only(part),
        None => View::Listing(current_listing(may_lock, file)?),
    })
}

fn current_listing(
    may_lock: &mut impl MayLockDirectory,
    file: &DirectoryFile<Rovl>,
) -> Result<Arc<Listing>> {
    let cache = cache_of(file.inode())?;
    if let Some(listing) = cache.current() {
        return Ok(listing);
    }
    let listing = read_listing(may_lock, file.dentry())?;
    cache.share(&listing);
    Ok(listing)
}

impl OnlyPart {
    /// `None` for a directory that cannot be listed as it is in a layer: there
    /// are other parts, numbers to correct, or files to look at.
    fn open(may_lock: &mut impl MayLockDirectory, dir: &Inode<Rovl>) -> Result<Option<Self>> {
        let (data, layers) = (dir.data(), layers::of(dir));
        let (path, layer) = match (data.upper(), data.lower_parts()) {
            (Some(upper), []) if !data.impure.load(Relaxed) => {
                (Path::new(layers.upper_mnt()?, upper), None)
            }
            (None, [part]) if !part.xattr_whiteouts => (part.path(layers)?, Some(part.layer)),
            _ => return Ok(None),
        };
        layers.as_mounter(|| {
            let file = DirFile::open(may_lock, path, &layers.cred)?;
            Ok(Some(Self {
                file,
                layer,
                seen: None,
            }))
        })
    }

    fn layer<'a>(&self, layers: &'a Layers) -> Result<&'a Layer> {
        match self.layer {
            Some(layer) => layers.lower(layer),
            None => Ok(&layers.upper()?.layer),
        }
    }

    /// Emits entries from the position of `out` on.
    fn list(
        &mut self,
        may_lock: &mut impl MayLockDirectory,
        file: &DirectoryFile<Rovl>,
        out: &mut DirContext<'_>,
    ) -> Result {
        let layers = layers::of(file.inode());
        layers.as_mounter(|| {
            let (own, parent) = (file.inode().ino(), file.dentry().parent().node()?.ino());
            let cache = cache_of(file.inode())?;
            let layer = self.layer(layers)?;
            let shown = |entry: &iterate::Entry<'_>| layers.numbers.listed(layer.fs, entry.ino);
            // A lower layer does not change, but where names may come by way of a server.
            let stays = self.layer.is_some() && !self.file.dentry().has_names_that_come();
            if stays && cache.is_plain() && file.inode().data().upper().is_none() {
                let as_listed = layers.numbers.are_of_layers();
                iterate::pass_entries(
                    may_lock,
                    &mut self.file,
                    out,
                    &mut |entry| match entry.name {
                        b"." => Pass::As(own),
                        b".." => Pass::As(parent),
                        _ if as_listed => Pass::Stop,
                        _ => Pass::As(shown(entry)),
                    },
                )?;
                return match as_listed {
                    true => iterate::pass_all(may_lock, &mut self.file, out),
                    false => Ok(()),
                };
            }
            let dir: ARef<Dentry> = self.file.dentry().into();
            let part = Part {
                path: layer.path(&dir),
                fs: layer.fs,
                names: layers.names,
                has_xattr_whiteouts: false,
            };
            let mut seen = match out.pos() {
                0 => Some(Seen::default()),
                pos => self.seen.take().filter(|seen| seen.until == pos),
            };
            let mut doubt = Doubt::default();
            loop {
                let at_end =
                    iterate::pass_entries(may_lock, &mut self.file, out, &mut |entry| match entry
                        .name
                    {
                        b"." | b".." => {
                            seen = seen.take().filter(|seen| !seen.names);
                            Pass::As(if entry.name == b"." { own } else { parent })
                        }
                        _ if !part.may_be_whiteout(entry.d_type) => {
                            if let Some(seen) = &mut seen {
                                seen.names = true;
                            }
                            Pass::As(shown(entry))
                        }
                        _ => {
                            seen = None;
                            doubt.settle(entry, shown(entry))
                        }
                    })?;
                let Some((name, d_type)) = doubt.unknown.take() else {
                    if stays && at_end && seen.is_some() {
                        cache.set_plain();
                    }
                    self.seen = seen.map(|seen| Seen {
                        until: out.pos(),
                        ..seen
                    });
                    return Ok(());
                };
                if fatal_signal_pending() {
                    return Err(EINTR);
                }
                let name = name?;
                let is_whiteout = part.is_whiteout(may_lock, &name, d_type)?;
                doubt.known = Some((name, is_whiteout));
            }
        })
    }
}

/// An entry that may be a whiteout. None can be looked at while the directory is read.
#[derive(Default)]
struct Doubt {
    /// Whether it is one, as a look at it has shown.
    known: Option<(KVec<u8>, bool)>,
    /// One that has not been looked at, and its type.
    unknown: Option<(Result<KVec<u8>>, u8)>,
}

impl Doubt {
    /// Out of the way of all the others, which are passed on as they come.
    #[cold]
    #[inline(never)]
    fn settle(&mut self, entry: &iterate::Entry<'_>, ino: u64) -> Pass {
        match &self.known {
            Some((looked_at, is_whiteout)) if looked_at.as_slice() == entry.name => {
                match is_whiteout {
                    true => Pass::Skip,
                    false => Pass::As(ino),
                }
            }
            _ => {
                self.unknown = Some((copy_of(entry.name), entry.d_type));
                Pass::Stop
            }
        }
    }
}

fn copy_of(name: &[u8]) -> Result<KVec<u8>> {
    let mut copy = KVec::with_capacity(name.len(), GFP_KERNEL)?;
    copy.extend_from_slice(name, GFP_KERNEL)?;
    Ok(copy)
}

/// Emits the entries from the position of `out` on, until there is no room for one: that
/// comes first next time.
fn emit_all(file: &DirectoryFile<Rovl>, list: &List, out: &mut DirContext<'_>) -> Result {
    const DIRECTORY: u8 = readdir::DT_DIR as u8;
    if out.pos() == 0 {
        if !out.emit(b".", file.inode().ino(), DIRECTORY) {
            return Ok(());
        }
        out.set_pos(1);
    }
    if out.pos() == 1 {
        if !out.emit(b"..", file.dentry().parent().node()?.ino(), DIRECTORY) {
            return Ok(());
        }
        out.set_pos(2);
    }
    let mut pos = out.pos();
    let first = usize::try_from(pos.saturating_sub(2)).unwrap_or(usize::MAX);
    for entry in list.entries.get(first..).unwrap_or_default() {
        if !out.emit(list.name(entry), entry.ino, entry.d_type) {
            break;
        }
        // No more than the entries there are.
        pos = pos.wrapping_add(1);
        out.set_pos(pos);
    }
    Ok(())
}

impl ReaddirOperations for Rovl {
    fn open(_ctx: &mut Context<Nothing>, file: &UserFile<Self>) -> Result<OpenDirectory> {
        OpenDirectory::new(file.inode())
    }

    fn iterate_shared(
        ctx: &mut Context<DirectoryLock>,
        file: &DirectoryFile<Self>,
        out: &mut DirContext<'_>,
    ) -> Result {
        let mut view = view_at(ctx, file, out.pos())?;
        let listed = match &mut view {
            View::Listing(listing) => emit_all(file, &listing.list, out),
            View::Only(part) => part.list(ctx, file, out),
        };
        file.data().keep_view(view);
        listed
    }

    fn fsync(ctx: &mut Context<Nothing>, file: &DirectoryFile<Self>) -> Result {
        let dir = file.inode();
        let layers = layers::of(dir);
        if !layers.must_sync()? {
            return Ok(());
        }
        // Nothing that is ours to write is in a lower directory.
        let Some(upper) = dir.data().upper() else {
            return Ok(());
        };
        layers.as_mounter(|| {
            let upper = file.data().synced(ctx, layers, upper)?;
            upper.fsync(ctx)
        })
    }
}

/// `ENOTEMPTY` unless all that is left in a directory is whiteouts; else those in the
/// upper part. The caller holds its `i_rwsem`, so it stays so.
pub(crate) fn check_empty(may_lock: &mut impl MayLockDirectory, dir: &Inode<Rovl>) -> Result<List> {
    let layers = layers::of(dir);
    layers.as_mounter(|| {
        let parts = parts(dir, layers)?;
        let mut list = read_all(may_lock, &parts, layers)?;
        hide(may_lock, &mut list, &parts)?;
        if list.entries.iter().any(|entry| !entry.is_hidden) {
            return Err(ENOTEMPTY);
        }
        let has_upper = dir.data().upper().is_some();
        list.entries.retain(|entry| has_upper && entry.part == 0);
        Ok(list)
    })
}
