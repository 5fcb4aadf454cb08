// SPDX-License-Identifier: GPL-2.0

//! Where one sample is taken: a writable tree, bare or over a lower layer.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::env::{Config, Variant, T};
use crate::stack::Overlay;
use crate::sys::{self, Expect, OFlags, Res};

/// On what the work is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The upper file system itself: no layers.
    Bare,
    Overlay,
    Rovl,
}

impl Kind {
    /// Where it is mounted, the type mount(2) knows.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Overlay => "overlay",
            Kind::Rovl => "rovl",
        }
    }
}

pub struct Site {
    pub kind: Kind,
    t: T,
    /// The topmost first.
    lowers: Vec<PathBuf>,
    mounted: Option<Overlay>,
    notes: Mutex<Vec<String>>,
}

impl Site {
    pub fn new(config: &Config, kind: Kind, place: &str, lowers: Vec<PathBuf>) -> Site {
        let config = Config {
            fstype: kind.name().to_string(),
            ..config.clone()
        };
        let t = T::new(config, place.to_string(), Variant::DEFAULT);
        sys::mkdir(&t.dir, 0o755).works();
        let mounted = match kind {
            Kind::Bare => None,
            Kind::Overlay | Kind::Rovl => {
                let stack = t.stack().lowers_not_compared();
                Some(lowers.iter().fold(stack, |s, l| s.lower_dir(l)).mount())
            }
        };
        Site {
            kind,
            t,
            lowers,
            mounted,
            notes: Mutex::default(),
        }
    }

    /// A path in the tree under test. On the bare file system that is an empty
    /// directory: what lies in the lower layer has to be copied there.
    pub fn at(&self, path: &str) -> PathBuf {
        match &self.mounted {
            None => self.t.dir.join(path),
            Some(o) => o.m(path),
        }
    }

    /// A path in the lower layer, the topmost if there are several.
    pub fn lower(&self, path: &str) -> PathBuf {
        self.lowers[0].join(path)
    }

    /// Where what lies in the lower layers is to be seen: for those who only
    /// read, the bare file system is the layers themselves.
    pub fn seen(&self, path: &str) -> Vec<PathBuf> {
        match &self.mounted {
            None => self.lowers.iter().map(|l| l.join(path)).collect(),
            Some(o) => vec![o.m(path)],
        }
    }

    /// As [`Site::seen`], for what lies in the topmost lower layer: a directory
    /// to look names up in.
    pub fn seen_dir(&self, path: &str) -> OwnedFd {
        sys::open(&self.seen(path)[0], OFlags::PATH | OFlags::DIRECTORY).works()
    }

    /// A directory of the tree under test, to look names up in.
    pub fn dir(&self, path: &str) -> OwnedFd {
        sys::open(self.at(path), OFlags::PATH | OFlags::DIRECTORY).works()
    }

    /// A path on the file system that is written to in the end.
    pub fn upper_fs(&self) -> &Path {
        &self.t.dir
    }

    /// Makes a directory of the lower layer writable, that is, copies it up.
    pub fn writable_dir(&self, path: &str) {
        match self.kind {
            Kind::Bare => std::fs::create_dir_all(self.at(path)).expect("directory"),
            Kind::Overlay | Kind::Rovl => sys::chmod(self.at(path), 0o755).works(),
        }
    }

    /// Opens a file of the lower layer for writing: a copy-up.
    ///
    /// On the bare file system: copies it to a new name and opens that.
    pub fn open_lower(&self, path: &str) -> Res<OwnedFd> {
        if self.kind == Kind::Bare {
            copy(&self.lower(path), &self.at(path))?;
        }
        sys::open(self.at(path), OFlags::RDWR)
    }

    /// The first write to a file of the lower layer.
    pub fn first_write(&self, path: &str) {
        let fd = self.open_lower(path).works();
        sys::pwrite(&fd, b"x", 0).works();
    }

    /// Something that whoever reads the figures should know.
    pub fn note(&self, text: String) {
        self.notes.lock().expect("notes").push(text);
    }

    /// Unmounts, with the checks of any selftest; gives the notes.
    pub fn finish(self) -> Vec<String> {
        self.t.finish();
        std::mem::take(&mut *self.notes.lock().expect("notes"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Only a sample that failed has something mounted here.
        if let (Some(o), true) = (&self.mounted, std::thread::panicking()) {
            sys::umount_detach(&o.m(""));
        }
    }
}

/// What a copy-up does to a file's data, done by hand: copied to a nameless
/// file, which is synced and then gets its name.
pub fn copy(from: &Path, to: &Path) -> Res<()> {
    let dir = to.parent().expect("a path in a directory");
    let from = sys::open(from, OFlags::RDONLY)?;
    let size = sys::fstat(&from)?.st_size as usize;
    let copy = sys::open(dir, OFlags::WRONLY | OFlags::TMPFILE)?;
    let done = sys::copy_file_range(&from, 0, &copy, 0, size)?;
    assert_eq!(done, size, "bytes copied");
    sys::fsync(&copy)?;
    sys::link_fd(&copy, to)
}
