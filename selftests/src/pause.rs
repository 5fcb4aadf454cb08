// SPDX-License-Identifier: GPL-2.0

//! The engine's pause points: places in a copy-up where it stands still if a
//! test says so. A module built without `CONFIG_ROVL_DEBUG` has none.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::env::T;
use crate::sys;
use crate::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The record is in the table.
    Entered,
    /// The copy exists, without its name.
    Nameless,
    /// A chunk of data has been copied.
    Chunk,
    /// The copy of a file that is truncated gets its size.
    Change,
    /// All is copied, and no directory locked yet.
    Publish,
    /// The copy has its name, and the upper directory is locked.
    Linked,
    /// The record that was waited for has ended.
    Waiter,
    /// A name is removed, and the VFS has not heard of it.
    Removed,
    /// An object is renamed, likewise.
    Renamed,
}

impl Point {
    /// Where the leader can stand, for a file with data.
    pub const OF_LEADER: [Point; 5] = [
        Point::Entered,
        Point::Nameless,
        Point::Chunk,
        Point::Publish,
        Point::Linked,
    ];

    fn name(self) -> &'static str {
        match self {
            Point::Entered => "entered",
            Point::Nameless => "nameless",
            Point::Chunk => "chunk",
            Point::Change => "change",
            Point::Publish => "publish",
            Point::Linked => "linked",
            Point::Waiter => "waiter",
            Point::Removed => "removed",
            Point::Renamed => "renamed",
        }
    }

    fn file(self) -> PathBuf {
        PathBuf::from("/sys/kernel/debug/rovl/pause").join(self.name())
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A point at which threads stand until this is dropped.
pub struct Pause(Point);

fn write(point: Point, text: &str) {
    std::fs::write(point.file(), text).unwrap_or_else(|e| panic!("pause point {point}: {e}"));
}

/// Skips the test if the module has no pause points.
pub fn need(t: &T) {
    need_file(t, &Point::Entered.file());
}

/// Skips the test if the module cannot be told to do without `->tmpfile`.
pub fn need_no_tmpfile(t: &T) {
    need_file(t, Path::new(NO_TMPFILE));
}

const NO_TMPFILE: &str = "/sys/kernel/debug/rovl/no_tmpfile";

/// While this lives, mounts do without the `->tmpfile` of the upper file system.
pub struct NoTmpfile;

impl NoTmpfile {
    #[track_caller]
    pub fn set() -> NoTmpfile {
        std::fs::write(NO_TMPFILE, "1").unwrap_or_else(|e| panic!("{NO_TMPFILE}: {e}"));
        NoTmpfile
    }
}

impl Drop for NoTmpfile {
    fn drop(&mut self) {
        let _ = std::fs::write(NO_TMPFILE, "0");
    }
}

fn need_file(t: &T, file: &Path) {
    if t.is_overlay() {
        t.skip("overlay cannot be held at a point");
    }
    let debugfs = Path::new("/sys/kernel/debug");
    if !debugfs.join("rovl").exists() {
        let flags = rustix::mount::MountFlags::empty();
        let _ = sys::mount("none", debugfs, "debugfs", flags, b"");
    }
    if !file.exists() {
        t.skip("the module is built without pause points (CONFIG_ROVL_DEBUG)");
    }
}

impl Pause {
    /// Who comes first stands there.
    #[track_caller]
    pub fn once(point: Point) -> Pause {
        write(point, "once");
        Pause(point)
    }

    /// Whoever comes stands there.
    #[track_caller]
    pub fn all(point: Point) -> Pause {
        write(point, "1");
        Pause(point)
    }

    /// How many stand there.
    #[track_caller]
    pub fn standing(&self) -> usize {
        let file = self.0.file();
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        let count = text.split_whitespace().nth(1).and_then(|n| n.parse().ok());
        count.unwrap_or_else(|| panic!("{file:?} says {text:?}"))
    }

    #[track_caller]
    pub fn wait_standing(&self, count: usize) {
        watch::until(&format!("{count} stand at {}", self.0), || {
            self.standing() >= count
        });
    }

    /// Lets all go on.
    pub fn go_on(self) {}
}

impl Drop for Pause {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.file(), "0");
    }
}
