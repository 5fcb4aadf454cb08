// SPDX-License-Identifier: GPL-2.0

//! A stack of layers, mounted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::env::{mount_device, Fs, T};
use crate::fuse::Fuse;
use crate::pause::{self, NoTmpfile};
use crate::sys::{self, Expect, FsContext, Res};
use crate::tree::{is_whiteout, Snapshot, Take, Tree};

/// Collects the layers. The first `lower` is the topmost of the lower ones.
pub struct Stack<'a> {
    t: &'a T,
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    mnt: PathBuf,
    writable: bool,
    watch_lowers: bool,
    flags: Vec<&'static str>,
    kept: bool,
}

impl T {
    /// A new stack of layers.
    pub fn stack(&self) -> Stack<'_> {
        Stack::new(self)
    }
}

impl<'a> Stack<'a> {
    fn new(t: &'a T) -> Stack<'a> {
        if t.variant.upper == Fs::NoTmpfile {
            pause::need_no_tmpfile(t);
        }
        let room = t.room(t.variant.upper).join(t.fresh("stack"));
        sys::mkdir(&room, 0o755).works();
        let made = |name: &str| {
            let at = room.join(name);
            sys::mkdir(&at, 0o755).works();
            at
        };
        Stack {
            t,
            lowers: Vec::new(),
            upper: made("upper"),
            work: made("work"),
            mnt: made("mnt"),
            writable: true,
            watch_lowers: true,
            flags: Vec::new(),
            kept: true,
        }
    }

    /// Adds a lower layer below those already there.
    pub fn lower(self, fill: impl FnOnce(&Tree)) -> Self {
        let fs = self.t.variant.lower;
        self.lower_on(fs, fill)
    }

    /// Adds a lower layer on a given file system.
    pub fn lower_on(mut self, fs: Fs, fill: impl FnOnce(&Tree)) -> Self {
        let stage = if fs.is_image() { Fs::Ext4 } else { fs };
        let at = self.t.room(stage).join(self.t.fresh("lower"));
        sys::mkdir(&at, 0o755).works();
        fill(&Tree::new(&at));
        let at = if fs.is_image() {
            self.image(fs, &at)
        } else {
            at
        };
        self.lowers.push(at);
        self
    }

    /// Adds a directory which is there already.
    pub fn lower_dir(mut self, at: impl Into<PathBuf>) -> Self {
        self.lowers.push(at.into());
        self
    }

    fn image(&self, fs: Fs, stage: &Path) -> PathBuf {
        let image = stage.with_extension("img");
        let at = stage.with_extension("mnt");
        sys::mkdir(&at, 0o755).works();
        match fs {
            Fs::Erofs => sys::run("mkfs.erofs", &[image.as_os_str(), stage.as_os_str()]),
            _ => sys::run(
                "mksquashfs",
                &[
                    stage.as_os_str(),
                    image.as_os_str(),
                    "-noappend".as_ref(),
                    "-no-progress".as_ref(),
                    "-quiet".as_ref(),
                ],
            ),
        };
        mount_device(fs, &image, &at, "");
        at
    }

    pub fn upper(self, fill: impl FnOnce(&Tree)) -> Self {
        fill(&Tree::new(&self.upper));
        self
    }

    /// A lower layer of which only the test itself can change anything: its server has
    /// no such operation. It is not compared.
    pub fn lower_fuse(self, fuse: &Fuse) -> Self {
        self.lowers_not_compared().lower_dir(&fuse.at)
    }

    /// Takes upper and work directory from somewhere else.
    pub fn upper_in(mut self, dir: &Path) -> Self {
        self.upper = dir.join("upper");
        self.work = dir.join("work");
        for at in [&self.upper, &self.work] {
            if !at.exists() {
                sys::mkdir(at, 0o755).works();
            }
        }
        self
    }

    /// An option, with its value if it has one: `userxattr`, `metacopy=off`.
    pub fn flag(mut self, flag: &'static str) -> Self {
        self.flags.push(flag);
        self
    }

    /// No upper layer.
    pub fn readonly(mut self) -> Self {
        self.writable = false;
        self
    }

    /// The lower layers are too large to compare, or change on purpose.
    pub fn lowers_not_compared(mut self) -> Self {
        self.watch_lowers = false;
        self
    }

    /// One of many in a test, which looks after its end itself.
    pub fn of_a_round(mut self) -> Self {
        self.kept = false;
        self
    }

    /// Mounts, or panics with what the file system had to say.
    #[track_caller]
    pub fn mount(self) -> Overlay {
        let o = self.prepare();
        o.mount().works();
        o
    }

    /// Everything but the mount.
    pub fn prepare(self) -> Overlay {
        let before = if self.watch_lowers {
            self.lowers
                .iter()
                .map(|l| Snapshot::of(l, Take::ALL))
                .collect()
        } else {
            Vec::new()
        };
        let o = Overlay(Arc::new(Inner {
            fstype: Mutex::new(self.t.config.fstype.clone()),
            lowers: self.lowers,
            upper: self.upper,
            work: self.work,
            mnt: self.mnt,
            writable: self.writable,
            flags: self.flags,
            no_tmpfile: self.t.variant.upper == Fs::NoTmpfile,
            before,
            mounted: AtomicBool::new(false),
            work_checked: AtomicBool::new(true),
        }));
        if self.kept {
            let o = o.clone();
            self.t.at_end(move || o.finish());
        }
        o
    }
}

/// The copies of a mount, from `/proc/self/mountstats`.
#[derive(Clone, Debug, Default)]
pub struct Copies {
    pub started: u64,
    pub done: u64,
    pub failed: u64,
    /// Of data.
    pub bytes: u64,
    pub in_flight: Vec<InFlight>,
}

/// A copy that is being made.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// In the tree of the mount.
    pub path: String,
    pub done: u64,
    pub total: u64,
    pub pid: i32,
    pub waiters: usize,
}

fn number<N: std::str::FromStr>(words: &[&str], at: usize) -> Option<N> {
    words.get(at)?.parse().ok()
}

impl Copies {
    /// How many wait for the copy of `path`, if there is one.
    pub fn waiters(&self, path: &str) -> Option<usize> {
        self.of(path).map(|c| c.waiters)
    }

    /// The copy of `path`, if there is one.
    pub fn of(&self, path: &str) -> Option<&InFlight> {
        self.in_flight
            .iter()
            .find(|c| c.path.trim_start_matches('/') == path.trim_start_matches('/'))
    }
}

struct Inner {
    fstype: Mutex<String>,
    lowers: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    mnt: PathBuf,
    writable: bool,
    flags: Vec<&'static str>,
    no_tmpfile: bool,
    before: Vec<Snapshot>,
    mounted: AtomicBool,
    work_checked: AtomicBool,
}

/// A stack which is, was or will be mounted.
#[derive(Clone)]
pub struct Overlay(Arc<Inner>);

fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let rel = path.strip_prefix("/").unwrap_or(path);
    if rel.as_os_str().is_empty() {
        root.to_path_buf()
    } else {
        root.join(rel)
    }
}

impl Overlay {
    /// The file system that mounts it, now.
    pub fn fstype(&self) -> String {
        self.0.fstype.lock().expect("fstype").clone()
    }

    /// A path in the merged tree.
    pub fn m(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.0.mnt, path)
    }

    /// A path in the upper layer.
    pub fn u(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.0.upper, path)
    }

    /// A path in a lower layer, the topmost being 0.
    pub fn l(&self, layer: usize, path: impl AsRef<Path>) -> PathBuf {
        below(&self.0.lowers[layer], path)
    }

    pub fn lower_count(&self) -> usize {
        self.0.lowers.len()
    }

    /// A path in the work directory.
    pub fn w(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.0.work, path)
    }

    /// The options as one string, for mount(2).
    pub fn option_string(&self) -> OsString {
        let mut s = OsString::from("lowerdir=");
        for (i, l) in self.0.lowers.iter().enumerate() {
            if i > 0 {
                s.push(":");
            }
            s.push(l);
        }
        if self.0.writable {
            s.push(",upperdir=");
            s.push(&self.0.upper);
            s.push(",workdir=");
            s.push(&self.0.work);
        }
        for flag in &self.0.flags {
            s.push(",");
            s.push(flag);
        }
        s
    }

    /// A file system context with all layers given, not yet created.
    pub fn context(&self) -> Res<FsContext> {
        let fc = FsContext::open(&self.fstype())?;
        for l in &self.0.lowers {
            fc.string("lowerdir+", l)?;
        }
        if self.0.writable {
            fc.string("upperdir", &self.0.upper)?;
            fc.string("workdir", &self.0.work)?;
        }
        for flag in &self.0.flags {
            match flag.split_once('=') {
                Some((key, value)) => fc.string(key, value)?,
                None => fc.flag(flag)?,
            }
        }
        Ok(fc)
    }

    pub fn mount(&self) -> Res<()> {
        self.mount_at(&self.0.mnt)?;
        self.0.mounted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Mounts the same layers at another place as well.
    pub fn mount_at(&self, at: &Path) -> Res<()> {
        let fc = self.context()?;
        let _no_tmpfile = self.0.no_tmpfile.then(NoTmpfile::set);
        fc.create()?;
        fc.attach(at, false)
    }

    /// Mounts by mount(2), as old programs do.
    pub fn mount_old_api(&self) -> Res<()> {
        use std::os::unix::ffi::OsStrExt;
        sys::mount(
            "none",
            &self.0.mnt,
            &self.fstype(),
            rustix::mount::MountFlags::empty(),
            self.option_string().as_bytes(),
        )?;
        self.0.mounted.store(true, Ordering::Relaxed);
        Ok(())
    }

    #[track_caller]
    pub fn umount(&self) {
        sys::umount(&self.0.mnt).works();
        self.0.mounted.store(false, Ordering::Relaxed);
    }

    /// Unmounts, and mounts again: all that was cached is gone.
    #[track_caller]
    pub fn remount(&self) {
        self.umount();
        self.mount().works();
    }

    /// Unmounts, and lets another file system mount the same layers.
    #[track_caller]
    pub fn remount_as(&self, fstype: &str) {
        self.umount();
        self.set_fstype(fstype);
        self.mount().works();
    }

    /// Which file system is to mount it from now on.
    pub fn set_fstype(&self, fstype: &str) {
        *self.0.fstype.lock().expect("fstype") = fstype.to_string();
    }

    /// Leftovers in the work directory belong to this test.
    pub fn work_not_checked(&self) {
        self.0.work_checked.store(false, Ordering::Relaxed);
    }

    /// What the mount tells of its copies; `None` if it tells nothing.
    pub fn copies(&self) -> Option<Copies> {
        let all = std::fs::read_to_string("/proc/self/mountstats").ok()?;
        let head = format!(" mounted on {} with fstype ", self.0.mnt.display());
        let mut lines = all.lines().skip_while(|l| !l.contains(&head));
        lines.next()?;
        let mut copies = None;
        for line in lines.take_while(|l| !l.starts_with("device ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.first() {
                Some(&"copies:") => {
                    copies = Some(Copies {
                        started: number(&words, 2)?,
                        done: number(&words, 4)?,
                        failed: number(&words, 6)?,
                        bytes: number(&words, 8)?,
                        in_flight: Vec::new(),
                    });
                }
                Some(&"copy:") => copies.as_mut()?.in_flight.push(InFlight {
                    path: words.get(1)?.to_string(),
                    done: number(&words, 3)?,
                    total: number(&words, 5)?,
                    pid: number(&words, 7)?,
                    waiters: number(&words, words.len() - 1)?,
                }),
                _ => {}
            }
        }
        copies
    }

    /// The merged tree.
    #[track_caller]
    pub fn snapshot(&self, take: Take) -> Snapshot {
        Snapshot::of(&self.0.mnt, take)
    }

    #[track_caller]
    pub fn upper_snapshot(&self, take: Take) -> Snapshot {
        Snapshot::of(&self.0.upper, take)
    }

    /// Nothing of an interrupted or finished operation is left over.
    #[track_caller]
    pub fn assert_no_strays(&self) {
        for name in sys::names(&self.0.work).works() {
            assert!(
                name == "work" || name == "index",
                "stray {name:?} in the work directory"
            );
            let dir = self.0.work.join(&name);
            let mut left = sys::names(&dir).works();
            // Overlayfs keeps one whiteout there, to link others to it.
            if self.fstype() == "overlay" {
                if let Some(i) = left.iter().position(|n| is_whiteout(dir.join(n))) {
                    left.remove(i);
                }
            }
            assert!(left.is_empty(), "left in work directory: {left:?}");
        }
    }

    /// Unmounts if needed; the lower layers are untouched, no strays.
    #[track_caller]
    pub fn finish(&self) {
        if self.0.mounted.load(Ordering::Relaxed) {
            self.umount();
        }
        for (l, before) in self.0.lowers.iter().zip(&self.0.before) {
            let now = Snapshot::of(l, Take::ALL);
            crate::tree::assert_same(&format!("lower layer {l:?} changed"), before, &now);
        }
        if self.0.writable && self.0.work_checked.load(Ordering::Relaxed) {
            self.assert_no_strays();
        }
    }
}
