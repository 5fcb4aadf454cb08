// SPDX-License-Identifier: GPL-2.0

//! Random layers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::marks;
use crate::differential::random::Random;
use crate::sys::{self, Expect, FileType, FsContext, Res};
use crate::tree::{pattern, Snapshot, Take};

/// What a stack is made of.
pub struct Layers {
    at: PathBuf,
    /// As the mount gets them, the topmost first.
    pub lower: Vec<PathBuf>,
    pub upper: Option<(PathBuf, PathBuf)>,
    pub userxattr: bool,
    /// The layers of a stack that is a lower layer itself.
    inner: Option<Inner>,
    /// A damaged image, with its bytes.
    image: Option<(PathBuf, Vec<u8>)>,
}

struct Inner {
    lower: Vec<PathBuf>,
    upper: Option<(PathBuf, PathBuf)>,
    userxattr: bool,
}

/// What a file may hold, and what names it has.
#[derive(Default)]
pub struct Contents {
    /// By path in the tree: what the layers have there, as long as nothing was changed.
    pub at: Option<BTreeMap<PathBuf, BTreeSet<Vec<u8>>>>,
    /// What files have been seen to hold, and what was written.
    pub all: BTreeSet<Vec<u8>>,
}

/// One mount of layers.
pub fn mount(
    fstype: &str,
    lower: &[PathBuf],
    upper: Option<(&Path, &Path)>,
    userxattr: bool,
    at: &Path,
) -> Res<()> {
    let fc = FsContext::open(fstype)?;
    for l in lower {
        fc.string("lowerdir+", l)?;
    }
    if let Some((upper, work)) = upper {
        fc.string("upperdir", upper)?;
        fc.string("workdir", work)?;
    }
    if userxattr {
        fc.flag("userxattr")?;
    }
    fc.create()?;
    fc.attach(at, false)
}

/// Names are few, so that layers meet.
pub fn name(random: &mut Random) -> OsString {
    match random.below(16) {
        0 => "n".repeat(255).into(),
        1 => OsStr::from_bytes(b"\xff\n\"\\").into(),
        2 => "#1".into(),
        3 => "work".into(),
        n => ["a", "b", "c", "d"][n % 4].into(),
    }
}

struct Maker<'a> {
    random: &'a mut Random,
    handle: &'a [u8],
    budget: usize,
}

impl Maker<'_> {
    fn mark(&mut self, at: &Path) {
        while !self.random.one_in(2) {
            let (mark, value) = marks::mark(self.random, self.handle);
            let prefix = ["trusted", "user"][self.random.below(2)];
            // Where it does not belong the filesystem may refuse it.
            let _ = sys::set_xattr(at, &format!("{prefix}.overlay.{mark}"), value);
        }
        if self.random.one_in(8) {
            let _ = sys::set_xattr(at, "user.x", "y");
        }
        if self.random.one_in(10) {
            let value = [2, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            let _ = sys::set_xattr(at, "security.capability", value);
        }
    }

    fn object(&mut self, at: &Path, depth: usize) {
        let device = |kind, dev| sys::mknod(at, kind, 0o644, dev).works();
        match self.random.below(16) {
            0..6 => return self.directory(at, depth),
            6..11 => self.file(at),
            11 => sys::symlink(["a", "../b", "/x", "missing"][self.random.below(4)], at).works(),
            12 | 13 => device(FileType::CharacterDevice, 0),
            14 => device(FileType::Fifo, 0),
            _ if self.random.one_in(2) => device(FileType::Socket, 0),
            _ => device(FileType::CharacterDevice, 0x103),
        }
        self.mark(at);
        if self.random.one_in(6) {
            let mode = [0, 0o4755, 0o2777, 0o600][self.random.below(4)];
            let _ = sys::chmod(at, mode);
        }
    }

    fn file(&mut self, at: &Path) {
        // None of it is zeroes at the beginning, and no two are the same.
        let sizes = [0, 0, 1, 100, 4096, 4097, 70_000];
        let mut data = pattern(*self.random.pick(&sizes), self.random.below(1 << 30) as u64);
        if self.random.one_in(4) && data.len() > 4096 {
            data[4096..].fill(0);
        }
        let fd = sys::open_mode(at, sys::OFlags::WRONLY | sys::OFlags::CREATE, 0o644).works();
        sys::write(&fd, &data[..data.len().min(4096)]).works();
        if data.len() > 4096 && data[4096..].iter().all(|b| *b == 0) {
            sys::ftruncate(&fd, data.len() as u64).works();
        } else if data.len() > 4096 {
            sys::write(&fd, &data[4096..]).works();
        }
    }

    fn directory(&mut self, at: &Path, depth: usize) {
        sys::mkdir(at, 0o755).works();
        self.fill(at, depth);
        self.mark(at);
    }

    fn fill(&mut self, at: &Path, depth: usize) {
        for _ in 0..self.random.below(6) {
            let path = at.join(name(self.random));
            if self.budget == 0 || depth == 0 || sys::exists(&path) {
                continue;
            }
            self.budget -= 1;
            self.object(&path, depth - 1);
        }
        if depth == 5 && self.random.one_in(8) {
            let mut deep = at.join("deep");
            for _ in 0..40 + self.random.below(30) {
                if sys::mkdir(&deep, 0o755).is_err() {
                    return;
                }
                if self.random.one_in(6) {
                    self.mark(&deep);
                }
                deep.push(["a", "b"][self.random.below(2)]);
            }
        }
    }

    fn layer(&mut self, at: &Path) {
        sys::mkdir(at, 0o755).works();
        self.budget = 40;
        self.fill(at, 5);
        if self.random.one_in(3) {
            self.mark(at);
        }
    }
}

impl Layers {
    pub fn make(at: &Path, random: &mut Random, handle: &[u8]) -> Layers {
        let mut layers = Layers {
            at: at.to_path_buf(),
            lower: Vec::new(),
            upper: None,
            userxattr: random.one_in(3),
            inner: None,
            image: None,
        };
        let (nested, broken, writable) = (random.one_in(4), random.one_in(8), !random.one_in(10));
        let mut maker = Maker {
            random,
            handle,
            budget: 0,
        };
        for i in 0..1 + maker.random.below(3) {
            let l = at.join(format!("l{i}"));
            maker.layer(&l);
            layers.lower.push(l);
        }
        if nested {
            let userxattr = maker.random.one_in(3);
            let mut inner = Inner {
                lower: vec![at.join("il0"), at.join("il1")],
                upper: None,
                userxattr,
            };
            for l in &inner.lower {
                maker.layer(l);
            }
            if maker.random.one_in(2) {
                inner.upper = Some(maker.writable(at, "iu", "iw"));
            }
            layers.inner = Some(inner);
        }
        if broken {
            layers.image = maker.image(at);
        }
        if writable {
            layers.upper = Some(maker.writable(at, "u", "w"));
        } else if layers.lower.len() == 1 {
            let l = at.join("l9");
            maker.layer(&l);
            layers.lower.push(l);
        }
        if layers.image.is_some() {
            layers.lower.push(at.join("image"));
        }
        layers
    }

    /// Mounts the stack that is a lower layer of the other one; whether it could be.
    pub fn mount_inner(&mut self, fstype: &str) -> Result<bool, String> {
        let Some(inner) = &self.inner else {
            return Ok(false);
        };
        let at = self.at.join("inner");
        sys::mkdir(&at, 0o755).works();
        let upper = inner.upper.as_ref();
        let upper = upper.map(|(u, w)| (u.as_path(), w.as_path()));
        let mounted = mount(fstype, &inner.lower, upper, inner.userxattr, &at).is_ok();
        if mounted {
            self.lower.push(at);
        }
        Ok(mounted)
    }

    /// The directories that nothing may be written to.
    fn read_only(&self) -> impl Iterator<Item = &PathBuf> {
        let mounts = [self.at.join("inner"), self.at.join("image")];
        let own = self.lower.iter().filter(move |l| !mounts.contains(l));
        let inner = self.inner.iter();
        own.chain(inner.flat_map(|i| i.lower.iter().chain(i.upper.iter().map(|(u, _)| u))))
    }

    pub fn snapshots(&self) -> Vec<(PathBuf, Snapshot)> {
        if let Some((image, bytes)) = &self.image {
            assert!(sys::read_file(image).works() == *bytes, "the image changed");
        }
        let all = self.read_only();
        all.map(|l| (l.clone(), Snapshot::of(l, Take::ALL)))
            .collect()
    }

    /// The upper layer of the stack that is a lower layer.
    pub fn inner_upper(&self) -> Option<&Path> {
        let inner = self.inner.as_ref()?;
        inner.upper.as_ref().map(|(upper, _)| upper.as_path())
    }

    pub fn works(&self) -> Vec<PathBuf> {
        let inner = self.inner.iter().filter_map(|i| i.upper.as_ref());
        let all = self.upper.iter().chain(inner);
        all.map(|(_, w)| w.clone()).collect()
    }

    /// What there is in each layer at a path.
    pub fn tell(&self, path: &Path) -> String {
        let upper = self.upper.iter().map(|(u, _)| u);
        let all = upper.chain(&self.lower).map(|layer| {
            let at = layer.join(path);
            let size = sys::lstat(&at).map(|st| st.st_size);
            let names = sys::list_xattr(&at).unwrap_or_default();
            format!("{:?} {size:?} {names:?}", layer.file_name())
        });
        all.collect::<Vec<_>>().join(", ")
    }

    /// What each file has in each layer, but not of those whose data is elsewhere.
    pub fn contents(&self) -> Contents {
        let mut contents = Contents {
            at: Some(BTreeMap::new()),
            ..Contents::default()
        };
        let prefix = |user: bool| if user { "user" } else { "trusted" };
        let own = format!("{}.overlay.metacopy", prefix(self.userxattr));
        let upper = self.upper.iter().map(|(u, _)| u);
        for layer in self.lower.iter().chain(upper) {
            if *layer != self.at.join("inner") {
                contents.read(layer, layer, std::slice::from_ref(&own));
            }
        }
        if let Some(inner) = &self.inner {
            let its = prefix(inner.userxattr);
            let mut all = vec![format!("{its}.overlay.metacopy")];
            if its == prefix(self.userxattr) {
                all.push(format!("{its}.overlay.overlay.metacopy"));
            } else {
                all.push(own);
            }
            let upper = inner.upper.iter().map(|(u, _)| u);
            for layer in inner.lower.iter().chain(upper) {
                contents.read(layer, layer, &all);
            }
        }
        contents
    }
}

impl Maker<'_> {
    fn writable(&mut self, at: &Path, upper: &str, work: &str) -> (PathBuf, PathBuf) {
        let (upper, work) = (at.join(upper), at.join(work));
        if self.random.one_in(3) {
            sys::mkdir(&upper, 0o755).works();
        } else {
            self.layer(&upper);
        }
        sys::mkdir(&work, 0o755).works();
        (upper, work)
    }

    /// An image of a layer, of which some bytes near its marks are not what they were.
    fn image(&mut self, at: &Path) -> Option<(PathBuf, Vec<u8>)> {
        let (stage, image) = (at.join("stage"), at.join("layer.erofs"));
        self.layer(&stage);
        sys::mkdir(at.join("image"), 0o755).works();
        let made = std::process::Command::new("mkfs.erofs")
            .args([&image, &stage])
            .output();
        if !made.is_ok_and(|o| o.status.success()) {
            return None;
        }
        let mut bytes = sys::read_file(&image).works();
        // The checksum of the superblock's block is not to be looked at.
        if let Some(features) = bytes.get_mut(1024 + 8) {
            *features &= !1;
        }
        let near: Vec<usize> = bytes
            .windows(8)
            .enumerate()
            .filter(|(_, w)| w.starts_with(b"overlay."))
            .map(|(i, _)| i)
            .collect();
        for _ in 0..self.random.below(6) {
            if near.is_empty() {
                break;
            }
            let at = self.random.pick(&near) + self.random.below(48);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << self.random.below(8);
            }
        }
        sys::write_file(&image, &bytes).works();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "erofs", "-o", "loop,ro"])
            .args([&image, &at.join("image")])
            .output();
        mounted.ok()?.status.success().then_some((image, bytes))
    }
}

impl Contents {
    fn read(&mut self, layer: &Path, dir: &Path, elsewhere: &[String]) {
        for entry in sys::dirents(dir).unwrap_or_default() {
            let at = dir.join(&entry.name);
            if entry.name == "." || entry.name == ".." {
                continue;
            }
            let Ok(st) = sys::lstat(&at) else { continue };
            match sys::kind_of(&st) {
                FileType::Directory => self.read(layer, &at, elsewhere),
                FileType::RegularFile => {
                    let marked = |name: &String| sys::get_xattr(&at, name).is_ok();
                    if elsewhere.iter().any(marked) {
                        continue;
                    }
                    let Ok(data) = sys::read_file(&at) else {
                        continue;
                    };
                    let path = at.strip_prefix(layer).expect("below it").to_path_buf();
                    let at = self.at.get_or_insert_default();
                    at.entry(path).or_default().insert(data.clone());
                    self.all.insert(data);
                }
                _ => {}
            }
        }
    }
}
