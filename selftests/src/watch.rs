// SPDX-License-Identifier: GPL-2.0

//! Operations that run beside the test, with a limit to how long.
//!
//! The limit is no measure of speed: it is so generous that only what waits for
//! ever meets it. To show that an operation does not wait for another one, the
//! other one stands still until the test lets it go on, and the operation ends.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

/// Whatever takes longer than this never ends.
pub const LIMIT: Duration = Duration::from_secs(40);

/// An operation in a thread of its own. Not joined when dropped, so that a test
/// which fails does not wait for what hangs.
pub struct Task<R> {
    what: String,
    tid: i32,
    result: Receiver<thread::Result<R>>,
    early: Option<thread::Result<R>>,
}

/// Starts an operation.
pub fn start<R: Send + 'static>(
    what: impl Into<String>,
    f: impl FnOnce() -> R + Send + 'static,
) -> Task<R> {
    let (say, result) = mpsc::channel();
    let (say_tid, tid) = mpsc::channel();
    thread::spawn(move || {
        let _ = say_tid.send(rustix::thread::gettid().as_raw_nonzero().get());
        let _ = say.send(catch_unwind(AssertUnwindSafe(f)));
    });
    Task {
        what: what.into(),
        tid: tid.recv().expect("thread"),
        result,
        early: None,
    }
}

impl<R> Task<R> {
    /// Waits for its end. What it panicked with becomes ours.
    #[track_caller]
    pub fn finish(mut self) -> R {
        let result = match self.early.take() {
            Some(result) => result,
            None => match self.result.recv_timeout(LIMIT) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) => {
                    let stack = self.stack();
                    panic!("{} does not return; it is in\n{stack}", self.what)
                }
                Err(RecvTimeoutError::Disconnected) => panic!("{}: no result", self.what),
            },
        };
        result.unwrap_or_else(|e| resume_unwind(e))
    }

    /// Whether it has returned.
    pub fn is_done(&mut self) -> bool {
        if self.early.is_none() {
            self.early = match self.result.try_recv() {
                Ok(result) => Some(result),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => panic!("{}: no result", self.what),
            };
        }
        self.early.is_some()
    }

    /// Where it is in the kernel.
    pub fn stack(&self) -> String {
        let path = format!("/proc/self/task/{}/stack", self.tid);
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Its thread, as the kernel numbers it.
    pub fn tid(&self) -> i32 {
        self.tid
    }
}

/// Does something that must not wait for what stands still meanwhile.
#[track_caller]
pub fn now<R: Send + 'static>(
    what: impl Into<String>,
    f: impl FnOnce() -> R + Send + 'static,
) -> R {
    start(what, f).finish()
}

/// Waits until `done` says so.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "it never happened that {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
