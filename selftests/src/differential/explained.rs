// SPDX-License-Identifier: GPL-2.0

//! Where rovl does not do what a plain filesystem does, and why.
//!
//! All of these are overlayfs's ways, too, and none is more than the on-disk format
//! or a documented option makes it. `Documentation/development.rst` has the same
//! table; what is not in it is a bug.
//!
//! Besides, where a plain tree cannot be made to say the same:
//!
//! - a directory that is merged has an `st_nlink` of 1, which says that its
//!   subdirectories are not counted (`seen::stat`);
//! - a lower file with several names becomes several files, so the plain copy has
//!   several files from the start, and how many names they have is not compared
//!   (`index=off`);
//! - data that goes through a named pipe leaves its times as they are: nothing of it
//!   goes to the layers, and a pipe of a lower one is not copied up for it. So where
//!   the plain pipe has been written to, ours may have any modification time;
//! - a mode of `fallocate` that the upper filesystem does not have is refused after
//!   set-id bits and capabilities have gone: they go before the filesystem is asked.
//!   Such a mode is not asked for where there are any;
//! - what is mapped into memory before a copy-up does not see what is written after
//!   it: maps live no longer than an operation here.
//!
//! What overlayfs writes to the upper layer, and rovl does not:
//!
//! - the marks of a copy (`overlay.origin`, and `overlay.impure` on the directory that
//!   it is in) on a directory of the upper layer that it finds merged without them,
//!   which then was made there by something else than a copy-up. It writes them when
//!   the directory is looked up; rovl writes nothing for who only looks, and does not
//!   need them: a merged directory has the number of its lower one, marked or not.

use super::op::{Op, Outcome};
use crate::sys::{Errno, RenameFlags};

/// A refusal that a plain filesystem would not make. What is refused is not done on
/// the plain copy either.
pub struct Refusal {
    pub what: &'static str,
    pub why: &'static str,
    applies: fn(&Op, Errno) -> bool,
}

pub const REFUSALS: [Refusal; 3] = [
    Refusal {
        what: "rename of a directory with lower parts: EXDEV",
        why: "the parts would stay behind; redirect_dir=off",
        applies: |op, e| matches!(op, Op::Rename { .. }) && e == Errno::XDEV,
    },
    Refusal {
        what: "RENAME_WHITEOUT: EINVAL",
        why: "a whiteout that a program makes would hide what is below",
        applies: |op, e| match op {
            Op::Rename { flags, .. } => flags.contains(RenameFlags::WHITEOUT) && e == Errno::INVAL,
            _ => false,
        },
    },
    Refusal {
        what: "mknod of a character device 0/0: EPERM",
        why: "it would be a whiteout",
        applies: |op, e| match op {
            Op::Mknod {
                mode,
                major: 0,
                minor: 0,
                ..
            } => mode.0 & libc::S_IFMT == libc::S_IFCHR && e == Errno::PERM,
            _ => false,
        },
    },
];

/// Whether overlayfs copies up before it finds that an operation cannot be done:
/// an xattr must be there and is not, or must not be there and is, or there can be
/// none of that name; a size is more than the upper filesystem can have. Its upper
/// layer would have a copy that neither we nor anything documented has, so it is not
/// asked.
pub fn copies_up_in_vain(op: &Op, outcome: &Outcome) -> bool {
    let Err(errno) = *outcome else { return false };
    match op {
        Op::Setxattr { flags, .. } | Op::Fsetxattr { flags, .. } => {
            let none = [Errno::NODATA, Errno::EXIST, Errno::OPNOTSUPP, Errno::INVAL];
            !flags.is_empty() && none.contains(&errno)
        }
        Op::Truncate { .. } => errno == Errno::FBIG,
        _ => false,
    }
}

/// The refusal that explains an outcome, on a mount with these options.
pub fn refusal(options: &[&str], op: &Op, outcome: &Outcome) -> Option<&'static Refusal> {
    let errno = *outcome.as_ref().err()?;
    if errno == Errno::XDEV && options.contains(&"redirect_dir=on") {
        return None;
    }
    REFUSALS.iter().find(|r| (r.applies)(op, errno))
}
