// SPDX-License-Identifier: GPL-2.0

//! Copies in flight: one record for each object that is being copied.
//!
//! Whoever wants an object copied up enters the table. The first becomes the
//! leader and copies; the others wait for the record to end and then look at the
//! object themselves. The record says nothing of success: that is the upper
//! object, set before the record ends. So a leader that fails or is killed
//! hands over by ending its record, and one of those who waited leads next.
//!
//! The key is the overlay inode. For all but lower files with several names
//! that is the lower object; those become one file for each name, so each name
//! is an object of its own.
//!
//! The table can be seen from outside, in `/proc/self/mountstats`: who copies
//! what, how far he is, and how many wait for him. To the mount's administrators only:
//! the names of files are nobody's business who cannot list their directories.

use crate::{
    layers::Rovl,
    vfs::{self, completion::Completion, seq, Dentry, Inode},
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    seq_file::SeqFile,
    seq_print,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
    task::Task,
};

/// The table of a mount.
#[pin_data]
pub(crate) struct InFlight {
    #[pin]
    table: Mutex<RBTree<usize, Arc<Record>>>,
    counters: Counters,
}

/// What has been copied up since the mount. An object that is copied twice,
/// since the first copy failed, counts twice.
struct Counters {
    started: Atomic<u64>,
    done: Atomic<u64>,
    failed: Atomic<u64>,
    /// Of data.
    bytes: Atomic<u64>,
}

/// One copy, for those who wait for it or ask how far it is.
#[pin_data]
pub(crate) struct Record {
    #[pin]
    ended: Completion,
    /// The object.
    dentry: ARef<Dentry<Rovl>>,
    /// Who copies.
    leader: ARef<Task>,
    /// Bytes of data copied so far, and to copy in all.
    done: Atomic<u64>,
    total: Atomic<u64>,
    waiters: Atomic<u32>,
}

/// What [`InFlight::enter`] made of the caller.
pub(crate) enum Role<'a> {
    Leader(Leadership<'a>),
    Waiter(Arc<Record>),
    /// There is nothing to do: another was done just now.
    Done,
}

/// The right, and the duty, to copy an object. Ends the record when dropped,
/// whatever came of it.
pub(crate) struct Leadership<'a> {
    in_flight: &'a InFlight,
    key: usize,
    record: Arc<Record>,
    result: Result,
    /// Keeps the key from being another inode's.
    _inode: ARef<Inode<Rovl>>,
}

impl InFlight {
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                table <- new_mutex!(RBTree::new(), "rovl::in_flight"),
                counters: Counters {
                    started: Atomic::new(0),
                    done: Atomic::new(0),
                    failed: Atomic::new(0),
                    bytes: Atomic::new(0),
                },
            }),
            GFP_KERNEL,
        )
    }

    /// Step 1 of a copy-up: finds the record of the object at `dentry`, or makes
    /// one.
    pub(crate) fn enter(&self, dentry: &Dentry<Rovl>) -> Result<Role<'_>> {
        let inode = dentry.node()?;
        let key = inode.as_ptr().addr();
        if let Some(record) = self.table.lock().get(&key) {
            return Ok(Role::Waiter(record.clone()));
        }
        let record = Arc::pin_init(
            pin_init!(Record {
                ended <- Completion::new(),
                dentry: dentry.into(),
                leader: vfs::task::current(),
                done: Atomic::new(0),
                total: Atomic::new(0),
                waiters: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        let node = RBTreeNode::new(key, record.clone(), GFP_KERNEL)?;
        let mut table = self.table.lock();
        if let Some(record) = table.get(&key) {
            return Ok(Role::Waiter(record.clone()));
        }
        // Who ended a record since the caller's look has announced the copy before.
        if inode.data().upper().is_some() {
            return Ok(Role::Done);
        }
        table.insert(node);
        drop(table);
        self.counters.started.fetch_add(1, Relaxed);
        record.trace(vfs::trace::copy_up_begin);
        Ok(Role::Leader(Leadership {
            in_flight: self,
            key,
            record,
            result: Err(EINTR),
            _inode: inode.into(),
        }))
    }

    /// What `/proc/self/mountstats` tells of the mount: the counters, and if it is for
    /// somebody who may look into all directories, what is being copied.
    pub(crate) fn show(&self, seq: &SeqFile, in_full: bool) {
        let counters = &self.counters;
        seq_print!(
            seq,
            "\n\tcopies: started {} done {} failed {} bytes {}",
            counters.started.load(Relaxed),
            counters.done.load(Relaxed),
            counters.failed.load(Relaxed),
            counters.bytes.load(Relaxed)
        );
        if in_full {
            for record in self.table.lock().values() {
                record.show(seq);
            }
        }
    }
}

impl Leadership<'_> {
    /// So many bytes of data are to be copied.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.record.total.store(bytes, Relaxed);
    }

    /// `len` bytes at `pos` have been copied.
    pub(crate) fn add_done(&self, pos: i64, len: u64) {
        self.record.done.fetch_add(len, Relaxed);
        self.in_flight.counters.bytes.fetch_add(len, Relaxed);
        self.record
            .trace(|source| vfs::trace::copy_up_chunk(source, pos, len));
    }

    /// The copy is whole and gets its name next.
    pub(crate) fn publishes(&self) {
        self.record.trace(vfs::trace::copy_up_publish);
    }

    /// What came of it.
    pub(crate) fn end<T>(mut self, result: Result<T>) -> Result<T> {
        self.result = result.as_ref().map(|_| ()).map_err(|&error| error);
        result
    }
}

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        let counters = &self.in_flight.counters;
        match self.result {
            Ok(()) => counters.done.fetch_add(1, Relaxed),
            Err(_) => counters.failed.fetch_add(1, Relaxed),
        };
        let record = &self.record;
        let done = record.done.load(Relaxed);
        record.trace(|source| vfs::trace::copy_up_end(source, self.result, done));
        // The table's reference goes after the table is unlocked.
        let entry = self.in_flight.table.lock().remove(&self.key);
        record.ended.complete_all();
        drop(entry);
    }
}

impl Record {
    /// Waits until the copy has ended, well or not.
    ///
    /// # Errors
    ///
    /// `EINTR` for a fatal signal; the copy goes on without us.
    pub(crate) fn wait(&self) -> Result {
        self.trace(vfs::trace::copy_up_wait);
        self.waiters.fetch_add(1, Relaxed);
        let waited = self.ended.wait_killable();
        self.waiters.fetch_sub(1, Relaxed);
        waited.map_err(|_| EINTR)
    }

    /// Calls a tracepoint with what is copied.
    fn trace(&self, point: impl FnOnce(&Inode)) {
        let object = self.dentry.node().ok().map(|inode| inode.data());
        let source = object.and_then(|data| data.lower.first());
        if let Some(inode) = source.and_then(|source| source.dentry.inode()) {
            point(inode);
        }
    }

    fn show(&self, seq: &SeqFile) {
        seq_print!(seq, "\n\tcopy: ");
        seq::show_path(seq, &self.dentry);
        seq_print!(
            seq,
            " bytes {} of {} by {} (",
            self.done.load(Relaxed),
            self.total.load(Relaxed),
            vfs::task::process_id(&self.leader)
        );
        seq::show_escaped(seq, vfs::task::Comm::of(&self.leader).to_bytes());
        seq_print!(seq, ") waiters {}", self.waiters.load(Relaxed));
    }
}
