// SPDX-License-Identifier: GPL-2.0

//! What lies in the layers before the first operation.

use std::path::Path;

use super::op::data;
use super::word::{Name, Octal};
use crate::sys::{self, FileType, Res};
use crate::tree::{OPAQUE, WHITEOUT};

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    File {
        len: usize,
        tag: u64,
    },
    /// A file of this size with some data at its end.
    Sparse {
        len: u64,
        tag: u64,
    },
    Dir,
    Symlink {
        target: Name,
    },
    Special {
        kind: FileType,
        major: u32,
        minor: u32,
    },
    /// Another name of a file in the same layer.
    Link {
        to: Name,
    },
    Whiteout,
    /// The other form: a file with an xattr, in a directory that is marked `x`. In
    /// another one it is a name that is listed and not found, so there is none.
    XattrWhiteout,
    /// A directory that hides those below.
    Opaque,
}

/// An object of a layer; 0 is the upper one.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub layer: usize,
    pub path: Name,
    pub kind: Kind,
    pub mode: Octal,
    pub owner: (u32, u32),
    pub xattrs: Vec<(String, Name)>,
}

/// The modification time of all that is in a layer.
pub fn mtime(layer: usize) -> i64 {
    1_000_000_000 + layer as i64
}

/// Lays out a layer. What has no place, because another object is in the way, is
/// left out: so any part of a list of objects can be built, too.
pub fn build(root: &Path, layer: usize, objects: &[Object]) {
    for object in objects.iter().filter(|o| o.layer == layer) {
        let _ = object.make(root);
    }
    set_times(root, layer);
}

fn set_times(at: &Path, layer: usize) {
    let is_dir = sys::lstat(at).is_ok_and(|st| sys::kind_of(&st) == FileType::Directory);
    if is_dir {
        for name in crate::tree::sorted_names(at) {
            set_times(&at.join(name), layer);
        }
    }
    let _ = sys::set_times(at, (mtime(layer), 0), (mtime(layer), 0));
}

impl Object {
    fn make(&self, root: &Path) -> Res<()> {
        let path = root.join(self.path.as_path());
        if let Some(parent) = path.parent() {
            let _ = std::fs::create_dir_all(parent);
        }
        match &self.kind {
            Kind::File { len, tag } => new_file(&path, 0, &data(*len, *tag))?,
            Kind::Sparse { len, tag } => new_file(&path, *len, &data(100, *tag))?,
            Kind::Dir => sys::mkdir(&path, 0o755)?,
            Kind::Symlink { target } => sys::symlink(target.as_path(), &path)?,
            Kind::Special { kind, major, minor } => {
                sys::mknod(&path, *kind, 0o644, rustix::fs::makedev(*major, *minor))?;
            }
            Kind::Link { to } => {
                let to = root.join(to.as_path());
                // See `Kind::XattrWhiteout`.
                if sys::get_xattr(&to, WHITEOUT).is_ok() {
                    return Ok(());
                }
                return sys::link(to, &path);
            }
            Kind::Whiteout => return sys::mknod(&path, FileType::CharacterDevice, 0o644, 0),
            Kind::XattrWhiteout => {
                // The directory and the layer are marked, too, so neither is opaque.
                let marked = [path.parent().unwrap_or(root), root];
                if marked.iter().any(|dir| is_marked(dir, b"y")) {
                    return Ok(());
                }
                new_file(&path, 0, b"")?;
                sys::set_xattr(&path, WHITEOUT, "y")?;
                for dir in marked {
                    sys::set_xattr(dir, OPAQUE, "x")?;
                }
                return Ok(());
            }
            Kind::Opaque if is_marked(&path, b"x") => return Ok(()),
            Kind::Opaque => {
                if !path.is_dir() {
                    sys::mkdir(&path, 0o755)?;
                }
                sys::set_xattr(&path, OPAQUE, "y")?;
            }
        }
        sys::lchown(&path, self.owner.0, self.owner.1)?;
        if !matches!(self.kind, Kind::Symlink { .. }) {
            sys::chmod(&path, self.mode.0)?;
        }
        for (name, value) in &self.xattrs {
            let _ = sys::set_xattr(&path, name, &value.0);
        }
        Ok(())
    }
}

fn is_marked(dir: &Path, how: &[u8]) -> bool {
    sys::get_xattr(dir, OPAQUE).is_ok_and(|value| value == how)
}

fn new_file(path: &Path, at: u64, data: &[u8]) -> Res<()> {
    use sys::OFlags;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    sys::pwrite(&sys::open_mode(path, flags, 0o644)?, data, at)
}
