// SPDX-License-Identifier: GPL-2.0

//! A whole tree in words that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::seen::{self, ANY_NLINK};
use super::word::{Name, Word};
use super::worker::Uncounted;
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

/// Whether two texts say the same.
pub fn same(a: &str, b: &str) -> bool {
    let one = |(a, b): (&str, &str)| {
        a == b || [a, b].contains(&ANY_NLINK) && a.starts_with("nlink=") && b.starts_with("nlink=")
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

    /// A line for each path at which the two differ.
    pub fn differences(&self, other: &State) -> Vec<String> {
        let nothing = String::from("nothing");
        let paths: BTreeSet<&PathBuf> = self.at.keys().chain(other.at.keys()).collect();
        let mut out = Vec::new();
        for path in paths {
            let a = self.at.get(path).unwrap_or(&nothing);
            let b = other.at.get(path).unwrap_or(&nothing);
            if !same(a, b) {
                let name = Name::new(path.as_os_str().as_bytes()).text();
                out.push(format!("/{name}:\n    {a}\n    {b}"));
            }
        }
        out
    }
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

/// An upper layer as it is on disk, as far as the format says what it must be.
pub fn upper(root: &Path, lowers: &[PathBuf]) -> State {
    let mut state = State::default();
    walk_upper(root, lowers, Path::new(""), &mut state);
    state
}

fn walk_upper(root: &Path, lowers: &[PathBuf], rel: &Path, state: &mut State) {
    let at = join(root, rel);
    let Ok(st) = sys::lstat(&at) else { return };
    let is_dir = sys::kind_of(&st) == FileType::Directory;
    let mut text = if tree::is_whiteout(&at) {
        "whiteout".into()
    } else {
        let mut without = vec![ORIGIN, IMPURE, UUID];
        // overlayfs marks every directory that comes into a merged one, and we
        // those that hide something.
        if is_dir && !lowers.iter().any(|l| join(l, rel).is_dir()) {
            without.push(OPAQUE);
        }
        let uncounted = Uncounted::default();
        let origin = match sys::xattr_opt(&at, ORIGIN) {
            Some(_) => " origin",
            None => "",
        };
        seen::stat(&st, &uncounted) + &xattrs(&at, &without).unwrap_or_default() + origin
    };
    if is_dir && sys::xattr_opt(&at, IMPURE).is_some() {
        text.push_str(" impure");
    }
    state.at.insert(rel.to_path_buf(), text);
    if is_dir {
        for name in tree::sorted_names(&at) {
            let name: OsString = name;
            walk_upper(root, lowers, &rel.join(name), state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_names_that_is_not_known_is_no_difference() {
        assert!(same("Directory 0755 nlink=*", "Directory 0755 nlink=3"));
        assert!(!same("Directory 0755 nlink=2", "Directory 0755 nlink=3"));
        assert!(!same("Directory 0755 nlink=*", "Directory 0755"));
        assert!(!same("a nlink=*", "a nlink=* b"));
    }
}
