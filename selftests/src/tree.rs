// SPDX-License-Identifier: GPL-2.0

//! Building directory trees and comparing them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys::{self, Expect, FileType, OFlags};

/// The xattr by which a directory hides those below it.
pub const OPAQUE: &str = "trusted.overlay.opaque";
/// The xattr which makes an empty regular file a whiteout.
pub const WHITEOUT: &str = "trusted.overlay.whiteout";
pub const ORIGIN: &str = "trusted.overlay.origin";
pub const IMPURE: &str = "trusted.overlay.impure";
pub const UUID: &str = "trusted.overlay.uuid";

/// A directory in which a test lays out a layer. Parents come by themselves.
pub struct Tree {
    pub root: PathBuf,
}

impl Tree {
    pub fn new(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    #[track_caller]
    fn make_room(&self, path: &Path) -> PathBuf {
        let at = self.at(path);
        let parent = at.parent().expect("a path below the root");
        if !parent.exists() {
            std::fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{parent:?}: {e}"));
        }
        at
    }

    #[track_caller]
    pub fn file(&self, path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> &Tree {
        sys::write_file(self.make_room(path.as_ref()), data).works();
        self
    }

    #[track_caller]
    pub fn dir(&self, path: impl AsRef<Path>) -> &Tree {
        let at = self.make_room(path.as_ref());
        if !at.is_dir() {
            sys::mkdir(at, 0o755).works();
        }
        self
    }

    #[track_caller]
    pub fn symlink(&self, path: impl AsRef<Path>, target: &str) -> &Tree {
        sys::symlink(target, self.make_room(path.as_ref())).works();
        self
    }

    #[track_caller]
    pub fn link(&self, old: &str, new: &str) -> &Tree {
        sys::link(self.at(old), self.make_room(new.as_ref())).works();
        self
    }

    #[track_caller]
    pub fn node(&self, path: &str, kind: FileType, dev: u64) -> &Tree {
        sys::mknod(self.make_room(path.as_ref()), kind, 0o644, dev).works();
        self
    }

    #[track_caller]
    pub fn fifo(&self, path: &str) -> &Tree {
        self.node(path, FileType::Fifo, 0)
    }

    #[track_caller]
    pub fn socket(&self, path: &str) -> &Tree {
        self.node(path, FileType::Socket, 0)
    }

    /// A whiteout as overlayfs makes it: a character device 0/0.
    #[track_caller]
    pub fn whiteout(&self, path: &str) -> &Tree {
        self.node(path, FileType::CharacterDevice, 0)
    }

    /// A whiteout as tools make it: an empty file with an xattr, in a
    /// directory which says that it has such files.
    #[track_caller]
    pub fn xwhiteout(&self, path: &str) -> &Tree {
        self.file(path, "");
        let at = self.at(path);
        sys::set_xattr(&at, WHITEOUT, "y").works();
        sys::set_xattr(at.parent().expect("parent"), OPAQUE, "x").works();
        self
    }

    #[track_caller]
    pub fn opaque(&self, path: &str) -> &Tree {
        self.dir(path).xattr(path, OPAQUE, "y")
    }

    #[track_caller]
    pub fn xattr(&self, path: &str, name: &str, value: impl AsRef<[u8]>) -> &Tree {
        sys::set_xattr(self.at(path), name, value).works();
        self
    }

    #[track_caller]
    pub fn mode(&self, path: &str, mode: u32) -> &Tree {
        sys::chmod(self.at(path), mode).works();
        self
    }

    #[track_caller]
    pub fn owner(&self, path: &str, uid: u32, gid: u32) -> &Tree {
        sys::lchown(self.at(path), uid, gid).works();
        self
    }

    #[track_caller]
    pub fn times(&self, path: &str, atime: (i64, i64), mtime: (i64, i64)) -> &Tree {
        sys::set_times(self.at(path), atime, mtime).works();
        self
    }
}

/// What is known of one object of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Entry {
    pub kind: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub mtime: (i64, u64),
    pub link: OsString,
    pub hash: u64,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// A whole tree, by path relative to its root (the root is the empty path).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snapshot(pub BTreeMap<PathBuf, Entry>);

/// What a snapshot leaves out.
#[derive(Clone, Copy, Default)]
pub struct Take {
    pub mtime: bool,
    /// Not the xattrs in which overlayfs keeps its own state and which two
    /// implementations need not write alike.
    pub private_state: bool,
}

impl Take {
    /// Everything, for trees which must not have been touched.
    pub const ALL: Take = Take {
        mtime: true,
        private_state: true,
    };
    /// What two runs of the same operations must have in common.
    pub const OUTCOME: Take = Take {
        mtime: false,
        private_state: false,
    };
}

/// The xattrs that overlayfs may write and another implementation may leave
/// out, or fill differently (file handles, random ids), without any
/// difference to the tree that either of them shows:
///
/// - `origin`: file handle of the lower object, for constant inode numbers;
/// - `impure`: a hint that a directory has entries with an origin;
/// - `uuid`: random identity of the mount;
/// - `upper`, `nlink`: state of the index, which is off here.
const IGNORED_STATE: [&str; 5] = [
    ORIGIN,
    IMPURE,
    UUID,
    "trusted.overlay.upper",
    "trusted.overlay.nlink",
];

fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3)
    })
}

impl Snapshot {
    #[track_caller]
    pub fn of(root: &Path, take: Take) -> Snapshot {
        let mut all = BTreeMap::new();
        Snapshot::walk(root, Path::new(""), take, &mut all);
        Snapshot(all)
    }

    #[track_caller]
    fn walk(root: &Path, rel: &Path, take: Take, all: &mut BTreeMap<PathBuf, Entry>) {
        let at = if rel.as_os_str().is_empty() {
            root.to_path_buf()
        } else {
            root.join(rel)
        };
        let st = sys::lstat(&at).works();
        let kind = sys::kind_of(&st);
        let mut entry = Entry {
            kind: format!("{kind:?}"),
            mode: sys::mode_of(&st),
            uid: st.st_uid,
            gid: st.st_gid,
            ..Entry::default()
        };
        if take.mtime {
            entry.mtime = (st.st_mtime, st.st_mtime_nsec);
        }
        for name in sys::list_xattr(&at).unwrap_or_default() {
            if !take.private_state && IGNORED_STATE.contains(&name.as_str()) {
                continue;
            }
            let value = sys::get_xattr(&at, &name).works();
            entry.xattrs.insert(name, value);
        }
        match kind {
            FileType::RegularFile => {
                let data = sys::read_file(&at).works();
                entry.size = data.len() as u64;
                entry.hash = hash(&data);
            }
            FileType::Symlink => entry.link = sys::readlink(&at).works(),
            FileType::CharacterDevice | FileType::BlockDevice => entry.rdev = st.st_rdev,
            _ => {}
        }
        all.insert(rel.to_path_buf(), entry);
        if kind == FileType::Directory {
            for name in sorted_names(&at) {
                Snapshot::walk(root, &rel.join(name), take, all);
            }
        }
    }

    /// What is different from `other`, a line each.
    pub fn differences(&self, other: &Snapshot) -> Vec<String> {
        let mut out = Vec::new();
        for (path, a) in &self.0 {
            match other.0.get(path) {
                None => out.push(format!("{path:?}: only in the first ({})", a.kind)),
                Some(b) if a != b => out.push(format!("{path:?}: {}", differing(a, b))),
                Some(_) => {}
            }
        }
        for (path, b) in &other.0 {
            if !self.0.contains_key(path) {
                out.push(format!("{path:?}: only in the second ({})", b.kind));
            }
        }
        out
    }
}

fn differing(a: &Entry, b: &Entry) -> String {
    let mut out = Vec::new();
    let mut field = |name: &str, a: String, b: String| {
        if a != b {
            out.push(format!("{name} {a} against {b}"));
        }
    };
    field("kind", a.kind.clone(), b.kind.clone());
    field("mode", format!("{:o}", a.mode), format!("{:o}", b.mode));
    field("uid", a.uid.to_string(), b.uid.to_string());
    field("gid", a.gid.to_string(), b.gid.to_string());
    field("rdev", a.rdev.to_string(), b.rdev.to_string());
    field("size", a.size.to_string(), b.size.to_string());
    field("mtime", format!("{:?}", a.mtime), format!("{:?}", b.mtime));
    field("target", format!("{:?}", a.link), format!("{:?}", b.link));
    field("contents", a.hash.to_string(), b.hash.to_string());
    field(
        "xattrs",
        format!("{:?}", printable(&a.xattrs)),
        format!("{:?}", printable(&b.xattrs)),
    );
    out.join(", ")
}

fn printable(xattrs: &BTreeMap<String, Vec<u8>>) -> BTreeMap<&String, String> {
    xattrs
        .iter()
        .map(|(k, v)| (k, v.escape_ascii().to_string()))
        .collect()
}

pub fn sorted_names(at: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = sys::dirents(at)
        .works()
        .into_iter()
        .map(|e| e.name)
        .filter(|n| n != "." && n != "..")
        .collect();
    names.sort();
    names
}

#[track_caller]
pub fn assert_same(what: &str, a: &Snapshot, b: &Snapshot) {
    let diff = a.differences(b);
    assert!(
        diff.is_empty(),
        "{what}: {} differences\n{}",
        diff.len(),
        diff[..diff.len().min(20)].join("\n")
    );
}

pub fn is_whiteout(at: impl AsRef<Path>) -> bool {
    match sys::lstat(at.as_ref()) {
        Ok(st) => sys::kind_of(&st) == FileType::CharacterDevice && st.st_rdev == 0,
        Err(_) => false,
    }
}

#[track_caller]
pub fn assert_whiteout(at: impl AsRef<Path>) {
    let at = at.as_ref();
    sys::lstat(at).works();
    assert!(is_whiteout(at), "{at:?} is no whiteout");
}

#[track_caller]
pub fn assert_opaque(at: impl AsRef<Path>) {
    let at = at.as_ref();
    assert_eq!(
        sys::xattr_opt(at, OPAQUE).as_deref(),
        Some(&b"y"[..]),
        "{at:?} is not opaque"
    );
}

#[track_caller]
pub fn assert_names(at: impl AsRef<Path>, names: &[&str]) {
    let at = at.as_ref();
    assert_eq!(sys::names(at).works(), names, "names in {at:?}");
}

#[track_caller]
pub fn assert_text(at: impl AsRef<Path>, text: &str) {
    let at = at.as_ref();
    assert_eq!(sys::text(at).works(), text, "contents of {at:?}");
}

/// Bytes which differ by position and by seed, so that a page in the wrong
/// place shows.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Removes a tree whatever its modes and flags.
pub fn remove_all(at: &Path) -> std::io::Result<()> {
    if std::fs::remove_dir_all(at).is_ok() {
        return Ok(());
    }
    clear_flags(at);
    match std::fs::remove_dir_all(at) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn clear_flags(at: &Path) {
    let Ok(st) = sys::lstat(at) else { return };
    let kind = sys::kind_of(&st);
    if kind == FileType::Directory || kind == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        if let Ok(fd) = sys::open(at, flags) {
            let _ = sys::set_flags(&fd, sys::IFlags::empty());
        }
    }
    if kind == FileType::Directory {
        for name in sys::dirents(at).unwrap_or_default() {
            if name.name != "." && name.name != ".." {
                clear_flags(&at.join(name.name));
            }
        }
    }
}

/// A name of bytes that are no UTF-8.
pub fn raw_name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// The same as `sorted_names` for a place which may not be there.
pub fn sorted_or_none(at: &Path) -> Vec<OsString> {
    if at.is_dir() {
        sorted_names(at)
    } else {
        Vec::new()
    }
}
