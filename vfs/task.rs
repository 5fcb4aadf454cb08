// SPDX-License-Identifier: GPL-2.0

//! What [`kernel::task::Task`] does not tell yet.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use super::bindings as b;
use core::ffi::c_uint;
use kernel::{
    sync::aref::ARef,
    task::{Pid, Task},
    types::NotThreadSafe,
};

/// `TASK_COMM_LEN`, in bytes with the NUL.
const COMM_LEN: usize = 16;

/// The name of a task, as `ps` shows it.
pub(crate) struct Comm([u8; COMM_LEN]);

impl Comm {
    /// `get_task_comm`.
    pub(crate) fn of(task: &Task) -> Self {
        let mut comm = [0; COMM_LEN];
        // SAFETY: the task is counted, the buffer is as long as it has to be.
        unsafe { b::rovl_get_task_comm(comm.as_mut_ptr().cast(), task.as_ptr().cast()) };
        Self(comm)
    }

    pub(crate) fn to_bytes(&self) -> &[u8] {
        self.0.split(|c| *c == 0).next().unwrap_or_default()
    }
}

/// The running task, counted.
pub(crate) fn current() -> ARef<Task> {
    let task: &Task = kernel::current!();
    task.into()
}

/// `task_tgid_nr_ns`: the process of `task` as the running task sees it; 0 if it
/// does not see it.
pub(crate) fn process_id(task: &Task) -> Pid {
    task.tgid_nr_ns(kernel::current!().active_pid_ns())
}

/// Holds back from the running task, as long as it lives, what makes
/// `signal_pending` true and does not kill the task: all signals but those that are
/// `sig_fatal`, and task work (`sigprocmask`, `no_notify_signal_save`). They come
/// when it goes. A signal that is ignored is held as well: one that another thread
/// of the process has blocked wakes this one. A signal whose action is to end the
/// process does so as ever, as `SIGKILL`.
///
/// For work that would be lost by an interruption, and that looks for fatal
/// signals itself.
pub(crate) struct SignalsHeld {
    blocked: b::sigset_t,
    flags: c_uint,
    _not_send: NotThreadSafe,
}

impl SignalsHeld {
    #[must_use]
    pub(crate) fn new() -> Self {
        let mut blocked = pin_init::zeroed();
        // SAFETY: `blocked` is ours to fill in. The task is the running one, so its
        // signal handlers do not go away.
        let flags = unsafe { b::rovl_hold_signals(&mut blocked) };
        Self {
            blocked,
            flags,
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // SAFETY: both are what `rovl_hold_signals` saved of this same task.
        unsafe { b::rovl_release_signals(&mut self.blocked, self.flags) };
    }
}
