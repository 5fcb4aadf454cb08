// SPDX-License-Identifier: GPL-2.0

//! Child processes, and pipes to talk with them.

use std::io::Write;

/// A pipe: the end to read from and the end to write to.
pub fn pipe() -> (std::fs::File, std::fs::File) {
    let (r, w) = rustix::pipe::pipe().expect("pipe");
    (r.into(), w.into())
}

/// fork(2). The child has one thread; where the parent has several, it may only
/// make system calls and allocate.
pub fn fork() -> i32 {
    let _ = std::io::stdout().flush();
    // SAFETY: with one thread the child may go on with everything the parent
    // could; with several it does what the C library allows, as said above.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    pid
}

pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process at once; nothing of ours needs destructors.
    unsafe { libc::_exit(code) }
}

/// Waits for a child; its exit status, or 128 + the signal which ended it.
pub fn wait_for(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    decode(status)
}

/// The same if it has ended already.
pub fn try_wait(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    let r = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
    (r == pid).then(|| decode(status))
}

fn decode(status: i32) -> i32 {
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    }
}
