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

use crate::{
    layers::Rovl,
    vfs::{completion::Completion, Inode},
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};

/// The table of a mount.
#[pin_data]
pub(crate) struct InFlight {
    #[pin]
    table: Mutex<RBTree<usize, Arc<Record>>>,
}

/// One copy, for those who wait for it or ask how far it is.
#[pin_data]
pub(crate) struct Record {
    #[pin]
    ended: Completion,
    /// Bytes of data copied so far.
    done: Atomic<u64>,
}

/// What [`InFlight::enter`] made of the caller.
pub(crate) enum Role<'a> {
    Leader(Leadership<'a>),
    Waiter(Arc<Record>),
}

/// The right, and the duty, to copy an object. Ends the record when dropped,
/// whatever came of it.
pub(crate) struct Leadership<'a> {
    in_flight: &'a InFlight,
    key: usize,
    record: Arc<Record>,
    /// Keeps the key from being another inode's.
    _inode: ARef<Inode<Rovl>>,
}

impl InFlight {
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                table <- new_mutex!(RBTree::new(), "rovl::in_flight"),
            }),
            GFP_KERNEL,
        )
    }

    /// Step 1 of a copy-up: finds the record of `inode`, or makes one.
    pub(crate) fn enter(&self, inode: &Inode<Rovl>) -> Result<Role<'_>> {
        let key = inode.as_ptr().addr();
        if let Some(record) = self.table.lock().get(&key) {
            return Ok(Role::Waiter(record.clone()));
        }
        let record = Arc::pin_init(
            pin_init!(Record {
                ended <- Completion::new(),
                done: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        let node = RBTreeNode::new(key, record.clone(), GFP_KERNEL)?;
        let mut table = self.table.lock();
        if let Some(record) = table.get(&key) {
            return Ok(Role::Waiter(record.clone()));
        }
        table.insert(node);
        drop(table);
        Ok(Role::Leader(Leadership {
            in_flight: self,
            key,
            record,
            _inode: inode.into(),
        }))
    }
}

impl Leadership<'_> {
    /// More data has been copied.
    pub(crate) fn add_done(&self, bytes: u64) {
        self.record.done.fetch_add(bytes, Relaxed);
    }
}

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        let record = self.in_flight.table.lock().remove(&self.key);
        if let Some(record) = record {
            record.ended.complete_all();
        }
    }
}

impl Record {
    /// Waits until the copy has ended, well or not.
    ///
    /// # Errors
    ///
    /// `EINTR` for a fatal signal; the copy goes on without us.
    pub(crate) fn wait(&self) -> Result {
        self.ended.wait_killable().map_err(|_| EINTR)
    }
}
