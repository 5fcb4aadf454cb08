// SPDX-License-Identifier: GPL-2.0

//! Operations that run beside the test, with a limit to how long.
//!
//! The limit is no measure of speed: it is so generous that only what waits for
//! ever meets it. To show that an operation does not wait for another one, the
//! other one stands still until the test lets it go on, and the operation ends.

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{exit_now, fork, try_wait};

/// Whatever takes longer than this never ends: two thirds of what a test may
/// take, so that the test says what hangs before it is ended itself.
pub fn limit() -> Duration {
    static LIMIT: OnceLock<Duration> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let seconds = std::env::var("ROVL_TIMEOUT").ok();
        let seconds = seconds.and_then(|s| s.parse().ok()).unwrap_or(60);
        Duration::from_secs(seconds) * 2 / 3
    })
}

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
            None => match self.result.recv_timeout(limit()) {
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

    /// Waits until it has returned, or sleeps in the kernel for what others
    /// hold. Only that the interleaving is the one meant depends on it.
    pub fn settle(&mut self) {
        let mut before = None;
        let mut same = 0;
        until(&format!("{} returns or sleeps", self.what), || {
            let now = self.asleep();
            same = if now.is_some() && now == before {
                same + 1
            } else {
                0
            };
            before = now;
            same == 3 || self.is_done()
        });
    }

    /// How often it went to sleep, if it sleeps.
    fn asleep(&self) -> Option<String> {
        let path = format!("/proc/self/task/{}/status", self.tid);
        let text = std::fs::read_to_string(path).ok()?;
        let sleeps = |l: &&str| l.starts_with("State:\tS") || l.starts_with("State:\tD");
        text.lines().find(sleeps)?;
        let switches = text.lines().find(|l| l.starts_with("voluntary_"))?;
        Some(switches.to_string())
    }
}

/// A child process, to be killed.
pub struct Process {
    what: String,
    pid: i32,
}

impl Process {
    /// Starts one, which runs `f` and ends with what it returns.
    pub fn start(what: &str, f: impl FnOnce() -> i32) -> Process {
        // The C library's allocator is in order in the child of a process with
        // several threads; and nothing else of ours is used there.
        let pid = fork();
        if pid == 0 {
            exit_now(f());
        }
        let what = what.to_string();
        Process { what, pid }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn kill(&self) {
        // SAFETY: a child of ours that has not been waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }

    /// Waits for its end; its exit status, or 128 + the signal.
    #[track_caller]
    pub fn finish(self) -> i32 {
        let mut status = None;
        until(&format!("{} ends", self.what), || {
            status = try_wait(self.pid);
            status.is_some()
        });
        status.unwrap_or(-1)
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
    let end = Instant::now() + limit();
    while !done() {
        assert!(Instant::now() < end, "it never happened that {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
