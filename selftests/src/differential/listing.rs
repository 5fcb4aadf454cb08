// SPDX-License-Identifier: GPL-2.0

//! Listing a directory in steps while others change it.
//!
//! The order of the entries is the filesystem's own, and whether a name that comes
//! or goes meanwhile is listed is undefined. What is defined: a name that was there
//! all the time is listed, once; positions lead back to where they were taken.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::SeekFrom;

use super::op::Outcome;
use super::word::{Name, Word};
use crate::sys::{self, Dirent, Errno, FileType, OFlags, Res};

/// What an open directory has given since its start.
#[derive(Default)]
pub struct Listing {
    given: Vec<Dirent>,
    /// What was there at the start.
    before: BTreeSet<OsString>,
    started: bool,
}

fn errno<X>(r: Res<X>) -> Result<X, Errno> {
    r.map_err(|e| e.errno)
}

/// All that the directory holds now, by another open file.
fn all_now(fd: &OwnedFd) -> Result<BTreeMap<OsString, FileType>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let other = rustix::fs::openat(fd, ".", flags, sys::Mode::empty())?;
    let all = errno(sys::read_dirents(&other, usize::MAX, 4096))?;
    Ok(all.into_iter().map(|e| (e.name, e.kind)).collect())
}

fn text(all: &BTreeMap<OsString, FileType>) -> String {
    let one = |(name, kind): (&OsString, &FileType)| {
        format!("{}:{kind:?}", Name::new(name.as_bytes()).text())
    };
    all.iter().map(one).collect::<Vec<_>>().join(",")
}

impl Listing {
    /// Reads `count` more entries; at the end, tells what is to be told of all.
    pub fn next(&mut self, fd: &OwnedFd, count: usize, rewind: bool) -> Outcome {
        if rewind || !self.started {
            errno(sys::seek(fd, SeekFrom::Start(0)))?;
            self.given.clear();
            // A directory that may be listed need not be one that may be searched.
            self.before = all_now(fd).unwrap_or_default().into_keys().collect();
            self.started = true;
        }
        let from = self.given.last().map_or(0, |e| e.next);
        let some = errno(sys::read_dirents(fd, count, 512))?;
        // The last call may have given more than were taken.
        if let Some(last) = some.last() {
            errno(sys::seek(fd, SeekFrom::Start(last.next)))?;
        }
        let at_end = some.len() < count;
        if !at_end {
            let again = self.again(fd, from, &some)?;
            self.given.extend(some);
            return Ok(format!("some{again}"));
        }
        self.given.extend(some);
        self.end(fd)
    }

    /// Goes back to where `some` were read.
    fn again(&self, fd: &OwnedFd, from: u64, some: &[Dirent]) -> Result<&'static str, Errno> {
        errno(sys::seek(fd, SeekFrom::Start(from)))?;
        let again = errno(sys::read_dirents(fd, some.len(), 512))?;
        if let Some(last) = some.last() {
            errno(sys::seek(fd, SeekFrom::Start(last.next)))?;
        }
        // A plain filesystem does not list what has gone, so nothing is asked of
        // names that went. At the start there is a new listing.
        let there: Vec<_> = again.iter().map(|e| &e.name).collect();
        let all = all_now(fd).unwrap_or_default();
        let lost = some
            .iter()
            .any(|e| all.contains_key(&e.name) && !there.contains(&&e.name));
        Ok(match from != 0 && lost && self.unchanged(&all) {
            true => ", other ones at the same position",
            false => "",
        })
    }

    fn unchanged(&self, all: &BTreeMap<OsString, FileType>) -> bool {
        self.before.iter().eq(all.keys())
    }

    fn end(&mut self, fd: &OwnedFd) -> Outcome {
        let now = match all_now(fd) {
            // Removed, or not to be searched.
            Err(_) => {
                let count = self.given.len();
                self.started = false;
                return Ok(format!(
                    "end, of {}",
                    if count == 0 { "nothing" } else { "some" }
                ));
            }
            Ok(now) => now,
        };
        let mut names: Vec<&OsString> = self.given.iter().map(|e| &e.name).collect();
        let total = names.len();
        names.sort();
        names.dedup();
        let twice = match names.len() < total {
            true => ", names came twice",
            false => "",
        };
        let always = self.before.iter().filter(|n| now.contains_key(*n));
        let missing: Vec<String> = always
            .filter(|n| names.binary_search(n).is_err())
            .map(|n| Name::new(n.as_bytes()).text())
            .collect();
        self.started = false;
        Ok(format!("end, now {}{twice}, missing {missing:?}", text(&now)).replace('"', ""))
    }
}
