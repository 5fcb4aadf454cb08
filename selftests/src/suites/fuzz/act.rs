// SPDX-License-Identifier: GPL-2.0

//! Random operations on what a walk has found, each of which may fail.

use std::path::{Path, PathBuf};

use super::layers::{self, Contents};
use super::walk::Walk;
use crate::differential::random::Random;
use crate::sys::{self, FileType, OFlags, RenameFlags, Res};

/// Operations on one stack.
const OPERATIONS: usize = 60;

/// Returns how many there were, and how many failed.
pub fn act(
    m: &Path,
    found: &Walk,
    random: &mut Random,
    known: &mut Contents,
) -> Result<(usize, usize), String> {
    let mut failed = 0;
    let mut paths: Vec<PathBuf> = found.objects.keys().map(|p| m.join(p)).collect();
    for i in 0..OPERATIONS {
        let path = random.pick(&paths).clone();
        let parent = random.pick(&paths).clone();
        let to = parent.join(layers::name(random));
        let other = random.pick(&paths).clone();
        let result = one(&path, &to, &other, i, random, known);
        match result {
            Ok(()) => {
                if sys::lstat(&to).is_ok() && paths.len() < 500 {
                    paths.push(to);
                }
            }
            Err(Wrong::Failed) => failed += 1,
            Err(Wrong::Bad(what)) => return Err(what),
        }
    }
    Ok((OPERATIONS, failed))
}

enum Wrong {
    /// As it may.
    Failed,
    Bad(String),
}

impl From<sys::Fail> for Wrong {
    fn from(_: sys::Fail) -> Wrong {
        Wrong::Failed
    }
}

fn one(
    path: &Path,
    to: &Path,
    other: &Path,
    i: usize,
    random: &mut Random,
    known: &mut Contents,
) -> Result<(), Wrong> {
    match random.below(24) {
        0 => sys::chmod(path, [0o755, 0o600, 0o4711, 0][random.below(4)])?,
        1..5 => append(path, i, known)?,
        5 => cut(path, random, known)?,
        6 | 7 => sys::rename(path, to)?,
        8 => sys::rename(path, other)?,
        9 => sys::rename_with(path, other, RenameFlags::EXCHANGE)?,
        10 => sys::rename_with(path, to, RenameFlags::NOREPLACE)?,
        11 => sys::link(path, to)?,
        12 | 13 => sys::unlink(path)?,
        14 => sys::rmdir(path)?,
        15 => sys::mkdir(to, 0o755)?,
        16 => create(to, i, known)?,
        17 => sys::set_xattr(path, "user.f", "y")?,
        18 => {
            let name = ["trusted", "user"][random.below(2)];
            let mark = ["opaque", "metacopy", "origin", "overlay.x"][random.below(4)];
            sys::set_xattr(path, &format!("{name}.overlay.{mark}"), "y")?;
        }
        19 => {
            let names = sys::list_xattr(path)?;
            if !names.is_empty() {
                let name: &String = random.pick(&names);
                sys::remove_xattr(path, name)?;
            }
        }
        20 => sys::lchown(path, 1000, 1000)?,
        21 => sys::set_times(path, (1, 1), (2, 2))?,
        22 => sys::symlink("a", to)?,
        _ => sys::mknod(to, FileType::Fifo, 0o644, 0)?,
    }
    Ok(())
}

/// Reads a file that may be anything.
fn read(path: &Path) -> Res<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    sys::open(path, flags).and_then(|fd| sys::read_rest(&fd))
}

fn is_file(path: &Path) -> bool {
    sys::lstat(path).is_ok_and(|st| sys::kind_of(&st) == FileType::RegularFile)
}

/// What was there has to be there still, and what was added behind it.
fn append(path: &Path, i: usize, known: &mut Contents) -> Result<(), Wrong> {
    if !is_file(path) {
        return Err(Wrong::Failed);
    }
    let before = read(path).ok();
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let fd = sys::open(path, flags)?;
    let more = format!("+{i}");
    sys::write(&fd, &more)?;
    drop(fd);
    let Some(before) = before else {
        return Err(Wrong::Bad(format!("{path:?} can be written to, not read")));
    };
    let now = read(path)?;
    let want = [&before[..], more.as_bytes()].concat();
    if now != want {
        let (now, before) = (now.len(), before.len());
        let text = format!("{path:?}: {now} bytes after a write behind {before}");
        return Err(Wrong::Bad(text));
    }
    known.all.insert(want);
    Ok(())
}

fn cut(path: &Path, random: &mut Random, known: &mut Contents) -> Result<(), Wrong> {
    if !is_file(path) {
        return Err(Wrong::Failed);
    }
    let before = read(path).ok();
    let size = *random.pick(&[0, 0, 1, 50, 5000]);
    sys::truncate(path, size)?;
    let Some(mut want) = before else {
        // Nothing of what could not be read is left.
        if size == 0 {
            known.all.insert(Vec::new());
            return Ok(());
        }
        return Err(Wrong::Bad(format!("{path:?} can be cut, not read")));
    };
    want.resize(size as usize, 0);
    if read(path)? != want {
        return Err(Wrong::Bad(format!(
            "{path:?}: wrong data when cut to {size}"
        )));
    }
    known.all.insert(want);
    Ok(())
}

fn create(to: &Path, i: usize, known: &mut Contents) -> Result<(), Wrong> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let fd = sys::open_mode(to, flags, 0o644)?;
    let data = format!("new {i}").into_bytes();
    known.all.insert(Vec::new());
    sys::write(&fd, &data)?;
    known.all.insert(data);
    Ok(())
}
