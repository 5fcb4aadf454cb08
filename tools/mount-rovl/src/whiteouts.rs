// SPDX-License-Identifier: GPL-2.0

//! Whiteouts as AUFS has them, and image layers as they are distributed: a file `.wh.NAME` removes
//! NAME of the layers below, `.wh..wh..opq` makes its directory opaque.
//!
//! containers/storage unpacks layers so when it has a `mount_program`, which it takes to be
//! fuse-overlayfs, and that reads both kinds. The kernel's format has device nodes and attributes;
//! they are put in the place of the others before a layer is mounted for the first time. A layer
//! that has been looked through has an attribute of its root, which no mount shows.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    fgetxattr, fsetxattr, makedev, mknodat, openat, statat, unlinkat, AtFlags, Dir, FileType, Mode,
    OFlags, XattrFlags, CWD,
};
use rustix::io::Errno;

/// How attributes are called.
pub struct Names {
    opaque: &'static str,
    done: &'static str,
}

impl Names {
    pub const TRUSTED: Names = Names {
        opaque: "trusted.overlay.opaque",
        done: "trusted.overlay.converted",
    };
    pub const USER: Names = Names {
        opaque: "user.overlay.opaque",
        done: "user.overlay.converted",
    };
}

const PREFIX: &[u8] = b".wh.";
/// What is AUFS's own.
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What is to be done for a name.
#[derive(Debug, PartialEq, Eq)]
enum Mark<'a> {
    /// It is a name as any other.
    None,
    /// Nothing but to remove it.
    Meta,
    Opaque,
    Whiteout(&'a OsStr),
}

fn mark(name: &OsStr) -> Mark<'_> {
    let name = name.as_bytes();
    match name.strip_prefix(PREFIX) {
        _ if name == OPAQUE => Mark::Opaque,
        _ if name.starts_with(META) => Mark::Meta,
        None | Some(b"" | b"." | b"..") => Mark::None,
        Some(rest) => Mark::Whiteout(OsStr::from_bytes(rest)),
    }
}

/// Converts what is in a layer, unless that has been done.
///
/// Nothing is followed out of it, also if somebody changes it meanwhile: who mounts may do more
/// than who owns the layer.
pub fn convert(layer: &Path, names: &Names) -> Result<(), Vec<u8>> {
    // What is not there, or cannot be read, is the kernel's to refuse, in its words.
    let Ok(root) = openat(CWD, layer, FLAGS - OFlags::NOFOLLOW, Mode::empty()) else {
        return Ok(());
    };
    if fgetxattr(&root, names.done, &mut [0; 0][..]).is_ok() {
        return Ok(());
    }
    directory(&root, layer, names)?;
    // Without it, it is looked through again.
    let _ = fsetxattr(&root, names.done, b"y", XattrFlags::empty());
    Ok(())
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The names in a directory, and whether each is one.
fn list(dir: &OwnedFd) -> Result<Vec<(CString, bool)>, Errno> {
    let mut all = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        all.push((name.to_owned(), kind.is_dir()));
    }
    Ok(all)
}

fn directory(dir: &OwnedFd, at: &Path, names: &Names) -> Result<(), Vec<u8>> {
    for (name, is_dir) in list(dir).map_err(|e| failed(at, e))? {
        let here = || at.join(OsStr::from_bytes(name.to_bytes()));
        let todo = mark(OsStr::from_bytes(name.to_bytes()));
        if todo != Mark::None {
            apply(dir, &name, todo, names).map_err(|e| failed(&here(), e))?;
        } else if is_dir {
            match openat(dir, &name, FLAGS, Mode::empty()) {
                Ok(inside) => directory(&inside, &here(), names)?,
                // Who may not look into it cannot merge it either.
                Err(Errno::ACCESS) => {}
                Err(e) => return Err(failed(&here(), e)),
            }
        }
    }
    Ok(())
}

fn apply(dir: &OwnedFd, name: &CStr, todo: Mark<'_>, names: &Names) -> Result<(), Errno> {
    let opaque = |at: &OwnedFd| fsetxattr(at, names.opaque, b"y", XattrFlags::empty());
    match todo {
        Mark::None => return Ok(()),
        Mark::Meta => {}
        Mark::Opaque => opaque(dir)?,
        Mark::Whiteout(hidden) => match openat(dir, hidden, FLAGS, Mode::empty()) {
            // A directory made anew in place of the one below.
            Ok(anew) => opaque(&anew)?,
            Err(Errno::NOENT) => {
                let device = FileType::CharacterDevice;
                match mknodat(dir, hidden, device, Mode::empty(), makedev(0, 0)) {
                    // Others may convert the layer at the same time, for a mount of their own.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
            }
            // What is there hides what is below by itself.
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(e),
        },
    }
    remove(dir, name)
}

/// Removes a name, and what is in it.
fn remove(dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(e) => return Err(e),
    }
    let inside = openat(dir, name, FLAGS, Mode::empty())?;
    for (name, _) in list(&inside)? {
        remove(&inside, &name)?;
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

fn failed(at: &Path, e: Errno) -> Vec<u8> {
    let mut text = b"whiteouts of the layer cannot be converted: '".to_vec();
    text.extend_from_slice(at.as_os_str().as_bytes());
    text.extend_from_slice(format!("': {e}").as_bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks() {
        let of = |name: &'static str| mark(OsStr::new(name));
        assert_eq!(of(".wh.a"), Mark::Whiteout(OsStr::new("a")));
        assert_eq!(of(".wh..hidden"), Mark::Whiteout(OsStr::new(".hidden")));
        assert_eq!(of(".wh..wh..opq"), Mark::Opaque);
        assert_eq!(of(".wh..wh.plnk"), Mark::Meta);
        for none in ["a", ".wh", ".wh.", ".wh..", ".wh...", "wh.a", "a.wh.b"] {
            assert_eq!(of(none), Mark::None, "{none}");
        }
    }
}
