// SPDX-License-Identifier: GPL-2.0

//! What [`kernel::task::Task`] does not tell yet.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings as b;
use kernel::{
    sync::aref::ARef,
    task::{Pid, Task},
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
