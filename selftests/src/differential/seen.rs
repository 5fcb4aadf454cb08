// SPDX-License-Identifier: GPL-2.0

//! What is seen of an object, in words that mean the same on every filesystem.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::word::{Octal, Word};
use crate::sys::{self, FileType, IFlags, Stat};

/// Inodes of which nobody can say how many names they have; see `explained`.
pub type Uncounted = Rc<BTreeSet<u64>>;

/// Times from here on are "now": nothing that the tests set is so late.
pub const NOW: i64 = 1_600_000_000;

/// The inode flags that are set and compared.
pub const OUR_FLAGS: IFlags = IFlags::APPEND
    .union(IFlags::IMMUTABLE)
    .union(IFlags::NOATIME)
    .union(IFlags::NODUMP);

/// How many names there are, where that cannot be said.
pub const ANY_NLINK: &str = "nlink=*";

/// The modification time of a pipe that has been written to, which the pipe of an
/// overlay does not have; see `explained`.
pub const WRITTEN_PIPE: &str = "pipe_mtime=now";

pub fn flags(flags: IFlags) -> String {
    flags.intersection(OUR_FLAGS).text()
}

fn time(seconds: i64, nanoseconds: u64) -> String {
    if seconds >= NOW {
        return "now".into();
    }
    format!("{seconds}.{nanoseconds:09}")
}

pub fn times(st: &Stat) -> String {
    let mtime = time(st.st_mtime, st.st_mtime_nsec);
    format!(
        "atime={} mtime={mtime}",
        time(st.st_atime, st.st_atime_nsec)
    )
}

/// Numbers of names are those of the filesystem, but for directories that say 1:
/// they do not count. See `explained`.
pub fn stat(st: &Stat, uncounted: &Uncounted) -> String {
    let kind = sys::kind_of(st);
    let is_dir = kind == FileType::Directory;
    let nlink = match st.st_nlink {
        1 if is_dir => ANY_NLINK.into(),
        _ if uncounted.contains(&st.st_ino) => ANY_NLINK.into(),
        n => format!("nlink={n}"),
    };
    let size = match kind {
        FileType::RegularFile | FileType::Symlink => format!(" size={}", st.st_size),
        _ => String::new(),
    };
    let rdev = match kind {
        FileType::CharacterDevice | FileType::BlockDevice => format!(" rdev={:x}", st.st_rdev),
        _ => String::new(),
    };
    let pipe = match kind {
        FileType::Fifo => "pipe_",
        _ => "",
    };
    format!(
        "{kind:?} {} {}:{}{size}{rdev} {pipe}mtime={} {nlink}",
        Octal(sys::mode_of(st)).text(),
        st.st_uid,
        st.st_gid,
        time(st.st_mtime, st.st_mtime_nsec),
    )
}

/// How much there is, how it begins, and a hash of it.
pub fn data(data: &[u8]) -> String {
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
    });
    let start: Vec<u8> = data.iter().take(12).copied().collect();
    let start = super::word::Name(start).text();
    format!("{} bytes {start} {:08x}", data.len(), hash as u32)
}
