// SPDX-License-Identifier: GPL-2.0

//! A whole tree in words that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::seen::{self, Uncounted, ANY_NLINK, WRITTEN_PIPE};
use super::word::{Name, Word};
use crate::sys::{self, Errno, FileType, OFlags, Res, Stat};
use crate::tree::{self, IMPURE, OPAQUE, ORIGIN, UUID};

/// How much of a file is read at its beginning and at its end.
const READ: usize = 128 << 10;

/// What is at each path; the root is the empty one.
#[derive(Default)]
pub struct State {
    at: BTreeMap<PathBuf, String>,
    /// Whether numbers of entries must be those of the objects.
    numbers: bool,
}

/// Whether two texts say the same, the second being that of a plain tree if one is.
pub fn same(a: &str, b: &str) -> bool {
    let one = |(a, b): (&str, &str)| {
        let are = |what| a.starts_with(what) && b.starts_with(what);
        a == b
            || [a, b].contains(&ANY_NLINK) && are("nlink=")
            || b == WRITTEN_PIPE && are("pipe_mtime=")
    };
    a.split(' ').count() == b.split(' ').count() && a.split(' ').zip(b.split(' ')).all(one)
}

impl State {
    /// `as_overlay` says that how names are listed does not count: overlayfs lists
    /// the whiteouts of a directory that is in one layer only, and directories that
    /// are merged with numbers which are not theirs.
    pub fn of(root: &Path, uncounted: &Uncounted, as_overlay: bool) -> State {
        let mut state = State {
            numbers: !as_overlay,
            ..State::default()
        };
        state.walk(root, Path::new(""), &|at| match describe(at, uncounted) {
            Ok(text) => Some(text),
            Err(e) if e.errno == Errno::NOENT && as_overlay => None,
            Err(e) => Some(format!("{:?}", e.errno)),
        });
        state
    }

    fn walk(&mut self, root: &Path, rel: &Path, describe: &dyn Fn(&Path) -> Option<String>) {
        let at = join(root, rel);
        let Some(text) = describe(&at) else { return };
        let is_dir = text.starts_with("Directory");
        self.at.insert(rel.to_path_buf(), text);
        if !is_dir {
            return;
        }
        let entries = match sys::dirents(&at) {
            Ok(entries) => entries,
            Err(e) => {
                self.note(rel, &format!("readdir {:?}", e.errno));
                return;
            }
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            if entry.name == "." || entry.name == ".." {
                continue;
            }
            let path = rel.join(&entry.name);
            let (name, ino, kind) = (entry.name, entry.ino, entry.kind);
            if !names.insert(name) {
                self.note(rel, "a name listed twice");
                continue;
            }
            self.walk(root, &path, describe);
            if let Ok(st) = sys::lstat(join(root, &path)) {
                if sys::kind_of(&st) != kind {
                    self.note(&path, &format!("listed as {kind:?}"));
                }
                if st.st_ino != ino && self.numbers {
                    self.note(&path, "listed with another number");
                }
            }
        }
    }

    fn note(&mut self, path: &Path, text: &str) {
        let entry = self.at.entry(path.to_path_buf()).or_default();
        entry.push_str(", ");
        entry.push_str(text);
    }

    /// For each path at which the two differ, what they say, and in short what about it
    /// is different.
    pub fn differences(&self, other: &State) -> Vec<(String, String)> {
        let nothing = String::from("nothing");
        let paths: BTreeSet<&PathBuf> = self.at.keys().chain(other.at.keys()).collect();
        let mut out = Vec::new();
        for path in paths {
            let a = self.at.get(path).unwrap_or(&nothing);
            let b = other.at.get(path).unwrap_or(&nothing);
            if !same(a, b) {
                let name = Name::new(path.as_os_str().as_bytes()).text();
                out.push((format!("/{name}:\n    {a}\n    {b}"), in_short(a, b)));
            }
        }
        out
    }
}

/// The names of the values that only one of two descriptions has.
fn in_short(a: &str, b: &str) -> String {
    let of = |text: &str| -> BTreeSet<String> {
        let words = text.split(' ').filter(|word| !word.starts_with("nlink=*"));
        words.map(String::from).collect()
    };
    let (a, b) = (of(a), of(b));
    let names = a
        .symmetric_difference(&b)
        .map(|word| match word.split_once('=') {
            Some((name, _)) => name,
            None if word.bytes().all(|b| b.is_ascii_alphabetic()) => word,
            None => "value",
        });
    let names: BTreeSet<&str> = names.collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

fn join(root: &Path, rel: &Path) -> PathBuf {
    match rel.as_os_str().is_empty() {
        true => root.to_path_buf(),
        false => root.join(rel),
    }
}

fn describe(at: &Path, uncounted: &Uncounted) -> Res<String> {
    let st = sys::lstat(at)?;
    let mut text = seen::stat(&st, uncounted);
    match sys::kind_of(&st) {
        FileType::RegularFile => {
            text.push(' ');
            text.push_str(&contents(at, &st)?);
        }
        FileType::Symlink => {
            text.push_str(" -> ");
            text.push_str(&Name::new(sys::readlink(at)?.as_bytes()).text());
        }
        _ => {}
    }
    text.push_str(&xattrs(at, &[])?);
    Ok(text)
}

fn contents(at: &Path, st: &Stat) -> Res<String> {
    let fd = sys::open(at, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let mut all = sys::pread(&fd, READ, 0)?;
    let size = u64::try_from(st.st_size).unwrap_or(0);
    if size > READ as u64 {
        all.extend(sys::pread(&fd, READ, size - READ as u64)?);
    }
    let flags = sys::get_flags(&fd)?;
    Ok(format!("{} flags={}", seen::data(&all), seen::flags(flags)))
}

fn xattrs(at: &Path, without: &[&str]) -> Res<String> {
    let mut text = String::new();
    for name in sys::list_xattr(at).unwrap_or_default() {
        if !without.contains(&name.as_str()) {
            let value = Name(sys::get_xattr(at, &name)?).text();
            text.push_str(&format!(" {name}={value}"));
        }
    }
    Ok(text)
}

/// The directories of a tree.
pub fn directories(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut next = vec![PathBuf::new()];
    while let Some(rel) = next.pop() {
        let at = join(root, &rel);
        if sys::lstat(&at).is_ok_and(|st| sys::kind_of(&st) == FileType::Directory) {
            next.extend(tree::sorted_names(&at).iter().map(|name| rel.join(name)));
            found.insert(rel);
        }
    }
    found
}

/// The upper layer of a stack.
pub struct UpperLayer<'a> {
    pub root: PathBuf,
    pub lowers: Vec<PathBuf>,
    /// The directories that it had before anything was mounted.
    pub old: &'a BTreeSet<PathBuf>,
}

impl UpperLayer<'_> {
    /// As it is on disk, as far as the format says what it must be.
    pub fn state(&self) -> State {
        let mut state = State::default();
        self.walk(Path::new(""), &self.lowers, &mut state);
        state
    }

    /// Whether overlayfs may mark a directory as a copy when it is looked up; see
    /// `explained`.
    fn is_taken_for_a_copy(&self, rel: &Path, below: &[PathBuf]) -> bool {
        rel != Path::new("") && self.old.contains(rel) && !below.is_empty()
    }

    /// `below` are the directories of lower layers that are merged with this one, or
    /// would be if it were not opaque.
    fn walk(&self, rel: &Path, below: &[PathBuf], state: &mut State) {
        let at = join(&self.root, rel);
        let Ok(st) = sys::lstat(&at) else { return };
        if tree::is_whiteout(&at) {
            state.at.insert(rel.to_path_buf(), "whiteout".into());
            return;
        }
        let mut without = vec![ORIGIN, IMPURE, UUID];
        // overlayfs marks every directory that comes into a merged one, and we those
        // that hide something.
        if below.is_empty() {
            without.push(OPAQUE);
        }
        let mut text = seen::stat(&st, &Uncounted::default());
        text.push_str(&xattrs(&at, &without).unwrap_or_default());
        let is_copy = sys::xattr_opt(&at, ORIGIN).is_some();
        if is_copy && !self.is_taken_for_a_copy(rel, below) {
            text.push_str(" origin");
        }
        let mut inside = Vec::new();
        if sys::kind_of(&st) == FileType::Directory {
            let parts = if is_opaque(&at) { &[] } else { below };
            for name in tree::sorted_names(&at) {
                inside.push((rel.join(&name), merged(parts, &name)));
            }
        }
        let mut copies = inside.iter();
        let has_mark = sys::xattr_opt(&at, IMPURE).is_some();
        if has_mark && !copies.any(|(rel, below)| self.is_taken_for_a_copy(rel, below)) {
            text.push_str(" impure");
        }
        state.at.insert(rel.to_path_buf(), text);
        for (rel, below) in &inside {
            self.walk(rel, below, state);
        }
    }
}

fn is_opaque(dir: &Path) -> bool {
    sys::xattr_opt(dir, OPAQUE).is_some_and(|value| value == b"y")
}

/// The directories `name` in parts of lower layers that are merged.
fn merged(parts: &[PathBuf], name: &OsStr) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for part in parts {
        let at = part.join(name);
        match sys::lstat(&at) {
            Err(_) => continue,
            Ok(st) if sys::kind_of(&st) != FileType::Directory => break,
            Ok(_) => out.push(at),
        }
        if out.last().is_some_and(|at| is_opaque(at)) {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_by_what_differs() {
        let a = "Fifo 0644 0:0 mtime=1.0 nlink=1";
        assert_eq!(in_short(a, "Fifo 0644 0:0 mtime=2.0 nlink=1"), "mtime");
        assert_eq!(in_short(a, "Fifo 0600 0:0 mtime=1.0 nlink=1"), "value");
        assert_eq!(in_short("a nlink=*", "a nlink=1 impure"), "impure nlink");
    }

    #[test]
    fn a_number_of_names_that_is_not_known_is_no_difference() {
        assert!(same("Directory 0755 nlink=*", "Directory 0755 nlink=3"));
        assert!(!same("Directory 0755 nlink=2", "Directory 0755 nlink=3"));
        assert!(!same("Directory 0755 nlink=*", "Directory 0755"));
        assert!(!same("a nlink=*", "a nlink=* b"));
    }

    #[test]
    fn only_a_plain_pipe_may_have_been_written_to() {
        assert!(same("Fifo pipe_mtime=5.0", "Fifo pipe_mtime=now"));
        assert!(!same("Fifo pipe_mtime=now", "Fifo pipe_mtime=5.0"));
        assert!(!same("Fifo pipe_mtime=4.0", "Fifo pipe_mtime=5.0"));
        assert!(!same("File mtime=5.0", "File mtime=now"));
    }
}
