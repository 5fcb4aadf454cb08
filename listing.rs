// SPDX-License-Identifier: GPL-2.0

//! A merged listing as data: names, their order, and the cache of a directory.
//!
//! The parts of a directory are read one after the other into one flat list. A name
//! hides the same name in the parts below. Names are compared after sorting, by their
//! hash and then as they are, so that no choice of names makes it slow.
//!
//! Locks: [`Cache::shared`] is held for looking at the cache only, never while a layer
//! is read.

use crate::vfs::{
    self,
    completion::fatal_signal_pending,
    iterate::{self, for_each_entry, DirFile},
    lock::MayLockDirectory,
    Path,
};
use core::cmp::Ordering;
use kernel::{
    alloc::KVVec,
    cred::Credential,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, Mutex,
    },
};

/// What an inode keeps of its listing.
#[pin_data]
pub(crate) struct Cache {
    /// Counts the changes of the directory.
    version: Atomic<u64>,
    /// See [`Cache::is_plain`]; only ever becomes true.
    plain: Atomic<bool>,
    #[pin]
    shared: Mutex<Shared>,
}

struct Shared {
    /// How many files of this directory are open.
    users: usize,
    /// The newest listing, for as long as there are users.
    listing: Option<Arc<Listing>>,
}

impl Cache {
    /// The cache of an inode that nobody has listed yet.
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                version: Atomic::new(0),
                plain: Atomic::new(false),
                shared <- new_mutex!(Shared { users: 0, listing: None }),
            }),
            GFP_KERNEL,
        )
    }

    /// The directory has changed, or a number in it.
    pub(crate) fn invalidate(&self) {
        self.version.fetch_add(1, Release);
    }

    /// Whether the lower directory, which is the whole of this one, has been seen to list
    /// the dots and then nothing that is to be shown in another way than its layer does.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain.load(Relaxed)
    }

    /// See [`Cache::is_plain`].
    pub(crate) fn set_plain(&self) {
        self.plain.store(true, Relaxed);
    }

    pub(crate) fn enter(&self) {
        let mut shared = self.shared.lock();
        shared.users = shared.users.saturating_add(1);
    }

    pub(crate) fn leave(&self) {
        let mut shared = self.shared.lock();
        shared.users = shared.users.saturating_sub(1);
        if shared.users == 0 {
            let listing = shared.listing.take();
            drop(shared);
            drop(listing);
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// The listing, if it is still what the directory holds.
    pub(crate) fn current(&self) -> Option<Arc<Listing>> {
        let version = self.version();
        let shared = self.shared.lock();
        shared
            .listing
            .as_ref()
            .filter(|listing| listing.version == version)
            .cloned()
    }

    /// Offers a listing to others that open the directory.
    pub(crate) fn share(&self, listing: &Arc<Listing>) {
        let mut shared = self.shared.lock();
        let old = shared.listing.replace(listing.clone());
        drop(shared);
        drop(old);
    }
}

/// One name in a part of a directory.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) ino: u64,
    /// Where in [`List::names`] the name starts, and how long it is.
    start: u32,
    len: u16,
    /// The place of the part: 0 is the topmost.
    pub(crate) part: u16,
    pub(crate) d_type: u8,
    pub(crate) is_hidden: bool,
    /// A part below has the name, too.
    pub(crate) has_below: bool,
}

/// The index of an entry, with the hash of its name in front.
type Hashed = u64;

fn hashed(name: &[u8], index: u32) -> Hashed {
    u64::from(vfs::dentry::hash(name)) << 32 | u64::from(index)
}

fn hash_of(entry: Hashed) -> u32 {
    (entry >> 32) as u32
}

fn index_of(entry: Hashed) -> usize {
    entry as u32 as usize
}

/// Sorts by merging runs, shorter ones first: what `core` has for this calls itself, and
/// how deep is for the names to say.
fn sorted(
    mut from: KVVec<Hashed>,
    compare: impl Fn(Hashed, Hashed) -> Ordering,
) -> Result<KVVec<Hashed>> {
    let len = from.len();
    let mut to = KVVec::from_elem(0, len, GFP_KERNEL)?;
    let mut width = 1;
    while width < len {
        let pairs = width.saturating_mul(2);
        for (from, to) in from.chunks(pairs).zip(to.chunks_mut(pairs)) {
            let (mut left, mut right) = from.split_at(width.min(from.len()));
            for to in to {
                let run = match (left.first(), right.first()) {
                    (Some(&a), Some(&b)) if compare(a, b).is_gt() => &mut right,
                    (None, _) => &mut right,
                    _ => &mut left,
                };
                if let Some((&first, rest)) = run.split_first() {
                    *to = first;
                    *run = rest;
                }
            }
        }
        core::mem::swap(&mut from, &mut to);
        width = pairs;
    }
    Ok(from)
}

/// Names, in the order in which they were read.
pub(crate) struct List {
    names: KVVec<u8>,
    pub(crate) entries: KVVec<Entry>,
}

/// A directory in which nothing is.
pub(crate) static NOTHING: List = List::new();

impl List {
    pub(crate) const fn new() -> Self {
        Self {
            names: KVVec::new(),
            entries: KVVec::new(),
        }
    }

    pub(crate) fn name(&self, entry: &Entry) -> &[u8] {
        let start = entry.start as usize;
        let end = start.saturating_add(entry.len.into());
        self.names.get(start..end).unwrap_or_default()
    }

    fn add(&mut self, part: u16, entry: &iterate::Entry<'_>) -> Result {
        let start = u32::try_from(self.names.len()).map_err(|_| ENOMEM)?;
        let len = u16::try_from(entry.name.len()).map_err(|_| EIO)?;
        self.names.extend_from_slice(entry.name, GFP_KERNEL)?;
        let entry = Entry {
            ino: entry.ino,
            start,
            len,
            part,
            d_type: entry.d_type,
            is_hidden: false,
            has_below: false,
        };
        Ok(self.entries.push(entry, GFP_KERNEL)?)
    }

    /// Adds all that one part of a directory holds, opened by `cred`.
    pub(crate) fn read(
        &mut self,
        may_lock: &mut impl MayLockDirectory,
        part: u16,
        dir: Path<'_>,
        cred: &Credential,
    ) -> Result {
        let mut file = DirFile::open(may_lock, dir, cred)?;
        let mut added = Ok(());
        for_each_entry(may_lock, &mut file, &mut |entry| {
            if entry.is_dot() {
                return true;
            }
            added = if fatal_signal_pending() {
                Err(EINTR)
            } else {
                self.add(part, &entry)
            };
            added.is_ok()
        })?;
        added
    }

    /// The name of an entry.
    fn name_at(&self, entry: Hashed) -> &[u8] {
        self.entries
            .get(index_of(entry))
            .map(|entry| self.name(entry))
            .unwrap_or_default()
    }

    /// Hides each name that an earlier entry has, and tells that one.
    pub(crate) fn hide_duplicates(&mut self) -> Result {
        let mut order = KVVec::with_capacity(self.entries.len(), GFP_KERNEL)?;
        for (index, entry) in self.entries.iter().enumerate() {
            let index = u32::try_from(index).map_err(|_| ENOMEM)?;
            order.push(hashed(self.name(entry), index), GFP_KERNEL)?;
        }
        // Most names are told apart by their hash.
        let order = sorted(order, |a, b| {
            hash_of(a)
                .cmp(&hash_of(b))
                .then_with(|| self.name_at(a).cmp(self.name_at(b)))
                .then(a.cmp(&b))
        })?;
        for pair in order.windows(2) {
            let &[above, below] = pair else { continue };
            if hash_of(above) != hash_of(below) || self.name_at(above) != self.name_at(below) {
                continue;
            }
            if let Some(entry) = self.entries.get_mut(index_of(above)) {
                entry.has_below = true;
            }
            if let Some(entry) = self.entries.get_mut(index_of(below)) {
                entry.is_hidden = true;
            }
        }
        Ok(())
    }

    /// Drops what is hidden.
    pub(crate) fn compact(&mut self) {
        self.entries.retain(|entry| !entry.is_hidden);
    }

    /// All the names.
    pub(crate) fn all_names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| self.name(entry))
    }
}

/// What a directory held at one time.
pub(crate) struct Listing {
    /// [`Cache::version`] before it was read.
    pub(crate) version: u64,
    pub(crate) list: List,
}
