// SPDX-License-Identifier: GPL-2.0

//! Whiteouts as AUFS has them, and image layers as they are distributed: an empty file `.wh.NAME`
//! removes NAME of the layers below, `.wh..wh..opq` makes its directory opaque.
//!
//! containers/storage unpacks layers so when it has a `mount_program`, which it takes to be
//! fuse-overlayfs, and that reads both kinds, and writes them where it may not make device nodes.
//! The kernel's format has device nodes and attributes; they are put in the place of the others
//! before the mount. A lower layer is looked through once: the directory that holds it, which is
//! not part of the image, has an attribute then.
//!
//! The names are no proof: anybody may have files that are called so. Only directories of
//! containers/storage are looked through, as it alone unpacks like this.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    fgetxattr, fsetxattr, fstat, futimens, makedev, mknodat, openat, openat2, statat, unlinkat,
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, XattrFlags,
    CWD, UTIME_OMIT,
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
/// What is AUFS's own; containers/storage does not unpack it.
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What is to be done for a name.
#[derive(Debug, PartialEq, Eq)]
enum Mark<'a> {
    /// It is a name as any other.
    None,
    Opaque,
    Whiteout(&'a OsStr),
}

fn mark(name: &OsStr) -> Mark<'_> {
    let name = name.as_bytes();
    match name.strip_prefix(PREFIX) {
        _ if name == OPAQUE => Mark::Opaque,
        _ if name.starts_with(META) => Mark::None,
        None | Some(b"" | b"." | b"..") => Mark::None,
        Some(rest) => Mark::Whiteout(OsStr::from_bytes(rest)),
    }
}

/// Converts what is in a layer of containers/storage, unless that has been done, and returns the
/// layer, to be mounted. Other directories are left alone.
///
/// Nothing is followed out of it, also if somebody changes it meanwhile: who mounts may do more
/// than who owns the layer.
pub fn convert(layer: &Path, part: Part, names: &Names) -> Result<Option<OwnedFd>, Vec<u8>> {
    let root = match openat(CWD, layer, FLAGS - OFlags::NOFOLLOW, Mode::empty()) {
        Ok(root) => root,
        Err(e @ (Errno::MFILE | Errno::NFILE)) => return Err(failed(layer, e)),
        // What is not there, or cannot be read, is the kernel's to refuse, in its words.
        Err(_) => return Ok(None),
    };
    let holder = match holder(&root) {
        Ok(Some(holder)) => holder,
        Ok(None) | Err(Errno::ACCESS | Errno::XDEV) => return Ok(None),
        Err(e) if is_gone(e) => return Ok(None),
        Err(e) => return Err(failed(layer, e)),
    };
    // Who may not read it can look through the layer each time.
    let marked = openat(&holder, c".", FLAGS, Mode::empty()).ok();
    // Another directory may be put in the place of the layer: the mark is for this one.
    let stat = fstat(&root).map_err(|e| failed(layer, e))?;
    let done = stat.st_ino.to_string();
    // Into an upper layer others may write such files again.
    let marked = marked.filter(|_| part == Part::Lower);
    let mut value = [0; 32];
    let is_done = marked.as_ref().is_some_and(|marked| {
        fgetxattr(marked, names.done, &mut value[..])
            .is_ok_and(|len| value.get(..len) == Some(done.as_bytes()))
    });
    if is_done {
        return Ok(Some(root));
    }
    walk(&root, layer, names)?;
    if let Some(marked) = marked {
        // Without it, it is looked through again.
        let _ = fsetxattr(marked, names.done, done.as_bytes(), XattrFlags::empty());
    }
    Ok(Some(root))
}

/// What a layer is in the mount.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Lower,
    Upper,
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// One directory up.
const UP: ResolveFlags = ResolveFlags::NO_XDEV.union(ResolveFlags::NO_SYMLINKS);
const DOWN: ResolveFlags = UP.union(ResolveFlags::BENEATH);

/// Device and inode number.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The directory that holds this one, if it is a layer of containers/storage: `overlay/ID/diff`,
/// and a file `overlay/ID/link`.
fn holder(root: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let holder = openat2(root, "..", FLAGS | OFlags::PATH, Mode::empty(), UP)?;
    let store = openat2(&holder, "..", FLAGS | OFlags::PATH, Mode::empty(), UP)?;
    let is = |dir: &OwnedFd, name: &str, expected: &OwnedFd| -> Result<bool, Errno> {
        let there = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(identity(&there) == identity(&fstat(expected)?))
    };
    let link = statat(&holder, "link", AtFlags::SYMLINK_NOFOLLOW)?;
    let is_layer = is(&holder, "diff", root)?
        // Often the store is mounted on itself, so this is not by openat2.
        && is(&store, "../overlay", &store)?
        && FileType::from_raw_mode(link.st_mode).is_file();
    Ok(is_layer.then_some(holder))
}

/// What something else that changes the tree at the same time leads to.
fn is_gone(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

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
            FileType::Unknown => match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(e) if is_gone(e) => continue,
                Err(e) => return Err(e),
            },
            kind => kind,
        };
        all.push((name.to_owned(), kind.is_dir()));
    }
    Ok(all)
}

/// A directory that has been entered further.
struct Above {
    identity: (u64, u64),
    /// What else there is to enter.
    left: Vec<CString>,
}

/// Converts in a tree. One directory is open at a time, however deep it is.
fn walk(root: &OwnedFd, layer: &Path, names: &Names) -> Result<(), Vec<u8>> {
    let mut at = layer.to_path_buf();
    let open = |from: &OwnedFd, name: &CStr, how| openat2(from, name, FLAGS, Mode::empty(), how);
    let mut dir = open(root, c".", DOWN).map_err(|e| failed(&at, e))?;
    let mut left = directory(&dir, &at, names)?;
    let mut above: Vec<Above> = Vec::new();
    loop {
        if let Some(name) = left.pop() {
            let inside = match open(&dir, &name, DOWN) {
                Ok(inside) => inside,
                // Who may not look into it cannot merge it either; what is mounted there is no
                // part of the layer.
                Err(Errno::ACCESS | Errno::XDEV) => continue,
                Err(e) if is_gone(e) => continue,
                Err(e) => return Err(failed(&at.join(OsStr::from_bytes(name.to_bytes())), e)),
            };
            at.push(OsStr::from_bytes(name.to_bytes()));
            let further = directory(&inside, &at, names)?;
            if further.is_empty() {
                at.pop();
                continue;
            }
            let stat = fstat(&dir).map_err(|e| failed(&at, e))?;
            above.push(Above {
                identity: identity(&stat),
                left: std::mem::replace(&mut left, further),
            });
            dir = inside;
        } else {
            let Some(last) = above.pop() else {
                return Ok(());
            };
            let up = open(&dir, c"..", UP).map_err(|e| failed(&at, e))?;
            let stat = fstat(&up).map_err(|e| failed(&at, e))?;
            if identity(&stat) != last.identity {
                // It has been moved, maybe out of the layer.
                return Err(failed(&at, Errno::STALE));
            }
            at.pop();
            dir = up;
            left = last.left;
        }
    }
}

/// Converts in one directory, and returns the directories in it.
fn directory(dir: &OwnedFd, at: &Path, names: &Names) -> Result<Vec<CString>, Vec<u8>> {
    let before = fstat(dir).map_err(|e| failed(at, e))?;
    let (mut inside, mut is_changed) = (Vec::new(), false);
    for (name, is_dir) in list(dir).map_err(|e| failed(at, e))? {
        if is_dir {
            inside.push(name);
            continue;
        }
        let here = OsStr::from_bytes(name.to_bytes());
        let todo = mark(here);
        if todo == Mark::None {
            continue;
        }
        let done = match is_empty_file(dir, &name) {
            Ok(true) => {
                is_changed = true;
                apply(dir, &name, todo, names)
            }
            other => other.map(drop),
        };
        if let Err(e) = done {
            restore_time(dir, &before);
            return Err(failed(&at.join(here), e));
        }
    }
    if is_changed {
        restore_time(dir, &before);
    }
    Ok(inside)
}

/// The time of a directory is that which it has in the image.
fn restore_time(dir: &OwnedFd, before: &Stat) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: before.st_mtime_nsec as _,
        },
    };
    // Who may write to it but does not own it cannot; what is in it is right all the same.
    let _ = futimens(dir, &times);
}

/// Whether a name is a file of the layer without anything in it, which a whiteout is.
fn is_empty_file(dir: &OwnedFd, name: &CStr) -> Result<bool, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(dir, name, flags, Mode::empty(), DOWN) {
        Ok(file) => {
            let stat = fstat(&file)?;
            Ok(FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_size == 0)
        }
        Err(Errno::XDEV) => Ok(false),
        Err(e) if is_gone(e) => Ok(false),
        Err(e) => Err(e),
    }
}

fn apply(dir: &OwnedFd, name: &CStr, todo: Mark<'_>, names: &Names) -> Result<(), Errno> {
    let opaque = |at: &OwnedFd| fsetxattr(at, names.opaque, b"y", XattrFlags::empty());
    match todo {
        Mark::None => return Ok(()),
        Mark::Opaque => opaque(dir)?,
        Mark::Whiteout(hidden) => match openat2(dir, hidden, FLAGS, Mode::empty(), DOWN) {
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
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(e) if is_gone(e) => Ok(()),
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
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    #[test]
    fn marks() {
        let of = |name: &'static str| mark(OsStr::new(name));
        assert_eq!(of(".wh.a"), Mark::Whiteout(OsStr::new("a")));
        assert_eq!(of(".wh..hidden"), Mark::Whiteout(OsStr::new(".hidden")));
        assert_eq!(of(".wh..wh..opq"), Mark::Opaque);
        for none in [
            ".wh..wh.plnk",
            "a",
            ".wh",
            ".wh.",
            ".wh..",
            ".wh...",
            "wh.a",
            "a.wh.b",
        ] {
            assert_eq!(of(none), Mark::None, "{none}");
        }
    }

    /// A directory that goes with it.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let id = std::process::id();
            let at = std::env::temp_dir().join(format!("mount-rovl-{id}-{name}"));
            fs::create_dir(&at).unwrap();
            Place(at)
        }

        /// A layer as containers/storage has it.
        fn layer(&self, store: &str) -> PathBuf {
            let at = self.0.join(store).join("id");
            fs::create_dir_all(at.join("diff/d/e")).unwrap();
            fs::write(at.join("link"), "ABC").unwrap();
            at.join("diff")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn is_layer(at: &Path) -> bool {
        let root = openat(CWD, at, FLAGS - OFlags::NOFOLLOW, Mode::empty()).unwrap();
        matches!(holder(&root), Ok(Some(_)))
    }

    #[test]
    fn what_is_a_layer() {
        let place = Place::new("layer");
        let diff = place.layer("overlay");
        assert!(is_layer(&diff));
        symlink("../overlay/id/diff", place.0.join("overlay/short")).unwrap();
        assert!(is_layer(&place.0.join("overlay/short")));
        for other in [diff.join("d"), diff.join("d/e"), place.0.clone()] {
            assert!(!is_layer(&other), "{other:?}");
        }
        assert!(!is_layer(&place.layer("mine")));
        let link = diff.with_file_name("link");
        fs::remove_file(&link).unwrap();
        assert!(!is_layer(&diff));
        fs::create_dir(&link).unwrap();
        assert!(!is_layer(&diff));
        fs::remove_dir(&link).unwrap();
        symlink("/etc/passwd", &link).unwrap();
        assert!(!is_layer(&diff));
        fs::remove_file(&link).unwrap();
        fs::write(&link, "").unwrap();
        fs::rename(&diff, diff.with_file_name("other")).unwrap();
        assert!(!is_layer(&diff.with_file_name("other")));
    }

    #[test]
    fn others_are_left_alone() {
        let place = Place::new("others");
        for (store, is_converted) in [("mine", false), ("overlay", true)] {
            let diff = place.layer(store);
            fs::write(diff.join(".wh.d"), "").unwrap();
            fs::write(diff.join("d/.wh..wh..opq"), "").unwrap();
            let held = convert(&diff, Part::Upper, &Names::USER).unwrap();
            assert_eq!(held.is_some(), is_converted);
            assert_eq!(diff.join(".wh.d").exists(), !is_converted);
            assert_eq!(diff.join("d/.wh..wh..opq").exists(), !is_converted);
        }
    }

    #[test]
    fn only_empty_files() {
        let place = Place::new("empty");
        let diff = place.layer("overlay");
        fs::write(diff.join("d/.wh.full"), "text").unwrap();
        fs::create_dir_all(diff.join("d/.wh.dir/.wh.in")).unwrap();
        fs::write(diff.join("d/.wh.dir/.wh.in/f"), "").unwrap();
        fs::create_dir(diff.join("d/.wh..wh.plnk")).unwrap();
        fs::write(diff.join("d/.wh..wh.aufs"), "").unwrap();
        symlink("nowhere", diff.join("d/.wh.link")).unwrap();
        let before = fs::metadata(diff.join("d")).unwrap().modified().unwrap();
        fs::write(diff.join("d/e/.wh.e"), "").unwrap();
        fs::create_dir(diff.join("d/e/e")).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(5, 7);
        let e = fs::File::open(diff.join("d/e")).unwrap();
        e.set_modified(time).unwrap();
        convert(&diff, Part::Lower, &Names::USER).unwrap();
        assert_eq!(fs::read(diff.join("d/.wh.full")).unwrap(), b"text");
        assert!(diff.join("d/.wh.dir/.wh.in/f").exists());
        assert!(diff.join("d/.wh..wh.plnk").exists());
        assert!(diff.join("d/.wh..wh.aufs").exists());
        assert!(fs::symlink_metadata(diff.join("d/.wh.link")).is_ok());
        assert_eq!(
            fs::metadata(diff.join("d")).unwrap().modified().unwrap(),
            before
        );
        // That was one.
        assert!(!diff.join("d/e/.wh.e").exists());
        assert_eq!(
            fs::metadata(diff.join("d/e")).unwrap().modified().unwrap(),
            time
        );
        // It is known to be done.
        fs::write(diff.join("d/e/.wh.e"), "").unwrap();
        convert(&diff, Part::Lower, &Names::USER).unwrap();
        assert!(diff.join("d/e/.wh.e").exists());
        convert(&diff, Part::Upper, &Names::USER).unwrap();
        assert!(!diff.join("d/e/.wh.e").exists());
    }

    #[test]
    fn deeper_than_a_path_can_say() {
        let place = Place::new("deep");
        let diff = place.layer("overlay");
        let name = "x".repeat(250);
        let mut dir = openat(CWD, &diff, FLAGS, Mode::empty()).unwrap();
        for _ in 0..40 {
            rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
            dir = openat(&dir, &name, FLAGS, Mode::empty()).unwrap();
        }
        let flags = OFlags::CREATE | OFlags::WRONLY;
        drop(openat(&dir, ".wh..wh..opq", flags, Mode::RUSR).unwrap());
        convert(&diff, Part::Upper, &Names::USER).unwrap();
        assert!(list(&dir).unwrap().is_empty());
    }
}
