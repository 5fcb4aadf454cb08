// SPDX-License-Identifier: GPL-2.0

//! What can be done to a tree.

use std::fmt;

use super::word::{Name, Octal, Time, Word};
use crate::sys::{Access, Errno, FallocateFlags, IFlags, OFlags, RenameFlags, XattrFlags};

/// What came of an operation: what it gave, or why it did not work.
pub type Outcome = Result<String, Errno>;

/// One of the files that a worker can have open at a time.
pub type Slot = u8;
pub const SLOTS: usize = 4;

/// A path: from the directory that is open in a slot, if one is named (`2:a/b`),
/// and otherwise from the root of the tree or the working directory.
#[derive(Clone, Debug, PartialEq)]
pub struct At {
    pub base: Option<Slot>,
    pub path: Name,
}

impl Word for At {
    fn text(&self) -> String {
        let base = self.base.map_or(String::new(), |slot| format!("{slot}@"));
        base + &self.path.text()
    }

    fn read(text: &str) -> Option<At> {
        let (base, path) = match text.split_once('@') {
            Some((base, path)) => (Some(base.parse().ok()?), path),
            None => (None, text),
        };
        let path = Name::read(path)?;
        Some(At { base, path })
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident $text:literal { $($field:ident : $type:ty),* };)*) => {
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {
            $($(#[$doc])* $name { $($field: $type),* },)*
        }

        impl Op {
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$name { .. } => $text,)*
                }
            }

            fn words(&self) -> Vec<String> {
                match self {
                    $(Op::$name { $($field),* } => vec![$($field.text()),*],)*
                }
            }

            fn read<'a>(name: &str, words: &mut impl Iterator<Item = &'a str>) -> Option<Op> {
                Some(match name {
                    $($text => Op::$name { $($field: Word::read(words.next()?)?),* },)*
                    _ => return None,
                })
            }
        }
    };
}

operations! {
    Open "open" { slot: Slot, at: At, flags: OFlags, mode: Octal };
    Close "close" { slot: Slot };
    Read "read" { slot: Slot, len: usize };
    Pread "pread" { slot: Slot, len: usize, off: u64 };
    /// The data is told by a tag; see `data`.
    Write "write" { slot: Slot, len: usize, tag: u64 };
    Pwrite "pwrite" { slot: Slot, len: usize, off: u64, tag: u64 };
    Seek "lseek" { slot: Slot, off: i64, whence: i32 };
    Ftruncate "ftruncate" { slot: Slot, len: i64 };
    Fallocate "fallocate" { slot: Slot, mode: FallocateFlags, off: u64, len: u64 };
    Fsync "fsync" { slot: Slot };
    Fdatasync "fdatasync" { slot: Slot };
    CopyRange "copy_file_range" { from: Slot, from_off: u64, to: Slot, to_off: u64, len: usize };
    /// Maps the file of a slot for reading or writing, shared, does so, unmaps it.
    MapRead "mmap_read" { slot: Slot, off: usize };
    MapWrite "mmap_write" { slot: Slot, off: usize, tag: u64 };
    Flock "flock" { slot: Slot, how: i32 };
    Truncate "truncate" { path: Name, len: i64 };
    Mkdir "mkdir" { at: At, mode: Octal };
    Rmdir "rmdir" { at: At };
    /// Of any kind, as in `st_mode`.
    Mknod "mknod" { at: At, mode: Octal, major: u32, minor: u32 };
    Symlink "symlink" { target: Name, at: At };
    Link "link" { old: At, new: At, follow: bool };
    /// Gives the file of a slot a name.
    LinkFd "link_fd" { slot: Slot, new: At };
    Unlink "unlink" { at: At };
    Rename "rename" { old: At, new: At, flags: RenameFlags };
    Chmod "chmod" { at: At, mode: Octal };
    Fchmod "fchmod" { slot: Slot, mode: Octal };
    Chown "chown" { at: At, uid: Option<u32>, gid: Option<u32>, follow: bool };
    Fchown "fchown" { slot: Slot, uid: Option<u32>, gid: Option<u32> };
    Utimens "utimens" { at: At, atime: Time, mtime: Time, follow: bool };
    Futimens "futimens" { slot: Slot, atime: Time, mtime: Time };
    Setxattr "setxattr" { path: Name, name: String, value: Name, flags: XattrFlags, follow: bool };
    Fsetxattr "fsetxattr" { slot: Slot, name: String, value: Name, flags: XattrFlags };
    Getxattr "getxattr" { path: Name, name: String, follow: bool };
    Removexattr "removexattr" { path: Name, name: String, follow: bool };
    Fremovexattr "fremovexattr" { slot: Slot, name: String };
    Listxattr "listxattr" { path: Name, follow: bool };
    Flistxattr "flistxattr" { slot: Slot };
    Getflags "getflags" { slot: Slot };
    Setflags "setflags" { slot: Slot, flags: IFlags };
    /// The whole of a directory, opened for it.
    Readdir "readdir" { at: At };
    /// The next entries of the directory of a slot, from the start if it is to be.
    Getdents "getdents" { slot: Slot, count: usize, rewind: bool };
    Stat "stat" { at: At, follow: bool };
    Fstat "fstat" { slot: Slot };
    Access "access" { at: At, mode: Access };
    Readlink "readlink" { at: At };
    Chdir "chdir" { path: Name };
    Umask "umask" { mask: Octal };
    /// Not by a worker: everything that can be forgotten is.
    DropCaches "drop_caches" {};
    /// Not by a worker: all files are closed, the tree is mounted again.
    Remount "remount" {};
}

/// An operation and who does it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub worker: usize,
    pub op: Op,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.worker, self.op.name())?;
        for word in self.op.words() {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}

impl Step {
    pub fn read(line: &str) -> Option<Step> {
        let mut words = line.split_whitespace();
        let worker = words.next()?.parse().ok()?;
        let op = Op::read(words.next()?, &mut words)?;
        words.next().is_none().then_some(Step { worker, op })
    }
}

/// What is written: lines that begin with the tag and say their number, so that
/// `seq -f 'TAG %g' 100000 | head -c LEN` makes the same.
pub fn data(len: usize, tag: u64) -> Vec<u8> {
    let mut data = Vec::with_capacity(len + 16);
    for line in 1.. {
        if data.len() >= len {
            break;
        }
        data.extend_from_slice(format!("{tag} {line}\n").as_bytes());
    }
    data.truncate(len);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_read_back() {
        let at = |base, path: &str| At {
            base,
            path: Name::new(path),
        };
        let rename = Op::Rename {
            old: at(Some(2), "a b"),
            new: at(None, ""),
            flags: RenameFlags::NOREPLACE,
        };
        let setxattr = Op::Setxattr {
            path: Name::new(b"\xff"),
            name: "user.x".into(),
            value: Name::new(b"\0\x01"),
            flags: XattrFlags::empty(),
            follow: true,
        };
        for op in [rename, setxattr, Op::DropCaches {}] {
            let step = Step { worker: 1, op };
            assert_eq!(Step::read(&step.to_string()), Some(step));
        }
        assert_eq!(Step::read("0 mkdir a"), None);
        assert_eq!(Step::read("0 rmdir a 0755"), None);
    }

    #[test]
    fn data_is_what_the_scripts_make() {
        assert_eq!(data(9, 7), b"7 1\n7 2\n7");
    }
}
