// SPDX-License-Identifier: GPL-2.0

//! System calls on a name in a directory that is open: no path to walk, so
//! what is measured is the file system.

use std::os::fd::OwnedFd;

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use rustix::io::{Errno, Result};

use crate::sys::{Fail, FileType, Res};

fn told<T>(done: Result<T>, what: &str, name: &str) -> Res<T> {
    done.map_err(|errno| Fail::new(&format!("{what} {name:?}"), errno))
}

pub fn stat(dir: &OwnedFd, name: &str) -> Res<()> {
    let done = rfs::statat(dir, name, AtFlags::empty());
    told(done.map(|_| ()), "stat", name)
}

/// There is no such name.
pub fn absent(dir: &OwnedFd, name: &str) {
    match rfs::statat(dir, name, AtFlags::empty()) {
        Err(Errno::NOENT) => {}
        other => panic!("stat {name:?}: {other:?}"),
    }
}

pub fn open(dir: &OwnedFd, name: &str, flags: OFlags) -> Res<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    told(rfs::openat(dir, name, flags, mode), "open", name)
}

/// An empty regular file.
pub fn make_file(dir: &OwnedFd, name: &str) -> Res<()> {
    let (kind, mode) = (FileType::RegularFile, Mode::from_raw_mode(0o644));
    told(rfs::mknodat(dir, name, kind, mode, 0), "mknod", name)
}

pub fn mkdir(dir: &OwnedFd, name: &str) -> Res<()> {
    let mode = Mode::from_raw_mode(0o755);
    told(rfs::mkdirat(dir, name, mode), "mkdir", name)
}

pub fn rename(dir: &OwnedFd, old: &str, new: &str) -> Res<()> {
    told(rfs::renameat(dir, old, dir, new), "rename", old)
}

pub fn chmod(dir: &OwnedFd, name: &str, mode: u32) -> Res<()> {
    let mode = Mode::from_raw_mode(mode);
    told(
        rfs::chmodat(dir, name, mode, AtFlags::empty()),
        "chmod",
        name,
    )
}

pub fn unlink(dir: &OwnedFd, name: &str) -> Res<()> {
    told(rfs::unlinkat(dir, name, AtFlags::empty()), "unlink", name)
}

pub fn rmdir(dir: &OwnedFd, name: &str) -> Res<()> {
    told(rfs::unlinkat(dir, name, AtFlags::REMOVEDIR), "rmdir", name)
}
