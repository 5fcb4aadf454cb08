// SPDX-License-Identifier: GPL-2.0

//! What a test is given: its place on the scratch file systems, helpers to
//! run code as another user or process, and the kernel's log.

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::fuse::{Fuse, FuseTree};
pub use crate::process::{exit_now, fork, pipe, try_wait, wait_for};
use crate::sys::{self, Expect, OFlags};

/// A kind of scratch file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fs {
    Ext4,
    /// A second ext4, so that layers are on different file systems.
    Other,
    Xfs,
    Btrfs,
    Tmpfs,
    /// Has no ->tmpfile: a copy gets a temporary name in the work directory. It
    /// has no RENAME_WHITEOUT either, so lower objects cannot be renamed.
    Jfs,
    /// An ext4 of which the module is told not to use its ->tmpfile.
    NoTmpfile,
    /// Read-only images, made from a staging directory.
    Erofs,
    Squashfs,
}

impl Fs {
    pub fn name(self) -> &'static str {
        match self {
            Fs::Ext4 => "ext4",
            Fs::Other => "other",
            Fs::Xfs => "xfs",
            Fs::Btrfs => "btrfs",
            Fs::Tmpfs => "tmpfs",
            Fs::Jfs => "jfs",
            Fs::NoTmpfile => "notmpfile",
            Fs::Erofs => "erofs",
            Fs::Squashfs => "squashfs",
        }
    }

    pub fn is_image(self) -> bool {
        matches!(self, Fs::Erofs | Fs::Squashfs)
    }

    /// The type mount(2) knows.
    pub fn fstype(self) -> &'static str {
        match self {
            Fs::Other | Fs::NoTmpfile => "ext4",
            fs => fs.name(),
        }
    }
}

/// On which file systems the layers of a test are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub upper: Fs,
    pub lower: Fs,
}

impl Variant {
    pub const DEFAULT: Variant = Variant {
        upper: Fs::Ext4,
        lower: Fs::Ext4,
    };

    /// The combinations on which the tests marked so are repeated.
    pub const MATRIX: [Variant; 7] = [
        Variant {
            upper: Fs::Xfs,
            lower: Fs::Xfs,
        },
        Variant {
            upper: Fs::Btrfs,
            lower: Fs::Btrfs,
        },
        Variant {
            upper: Fs::Tmpfs,
            lower: Fs::Tmpfs,
        },
        Variant {
            upper: Fs::Ext4,
            lower: Fs::Other,
        },
        Variant {
            upper: Fs::Ext4,
            lower: Fs::Erofs,
        },
        Variant {
            upper: Fs::Ext4,
            lower: Fs::Squashfs,
        },
        Variant {
            upper: Fs::Xfs,
            lower: Fs::Ext4,
        },
    ];

    /// Both layers, or all that is not said otherwise, on one file system.
    pub const fn on(fs: Fs) -> Variant {
        Variant {
            upper: fs,
            lower: fs,
        }
    }

    pub fn tag(self) -> String {
        if self == Variant::DEFAULT {
            String::new()
        } else if self.upper == self.lower {
            format!("@{}", self.upper.name())
        } else {
            format!("@{}_over_{}", self.upper.name(), self.lower.name())
        }
    }

    pub fn one_fs(self) -> bool {
        self.upper == self.lower
    }
}

/// What is the same for all tests of a run.
#[derive(Clone)]
pub struct Config {
    pub fstype: String,
    /// Sizes and counts of the long tests are divided by this.
    pub divisor: usize,
    /// Where the module is, for the tests which load and unload it.
    pub module: Option<PathBuf>,
    /// The helper that mount(8) is to call, if it is not installed.
    pub helper: Option<PathBuf>,
    /// Mount points of the scratch file systems.
    pub rooms: BTreeMap<Fs, PathBuf>,
}

/// A test's way out when it cannot say anything.
pub struct Skip(pub String);

pub struct T {
    pub config: Config,
    pub name: String,
    pub variant: Variant,
    /// The test's own directory on ext4.
    pub dir: PathBuf,
    at_end: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    fuses: Mutex<Vec<Arc<Fuse>>>,
    count: AtomicUsize,
    log: Log,
}

impl T {
    pub fn new(config: Config, name: String, variant: Variant) -> T {
        let dir = config.rooms[&Fs::Ext4].join(&name);
        T {
            config,
            name,
            variant,
            dir,
            at_end: Mutex::default(),
            fuses: Mutex::default(),
            count: AtomicUsize::new(0),
            log: Log::from_now(),
        }
    }

    pub fn fstype(&self) -> &str {
        &self.config.fstype
    }

    /// The kernel's own overlayfs is under test, to prove the tests.
    pub fn is_overlay(&self) -> bool {
        self.fstype() == "overlay"
    }

    /// From here on the test asserts what rovl does better on purpose.
    pub fn better_than_overlay(&self, why: &str) {
        if self.is_overlay() {
            self.skip(&format!("overlay differs as expected: {why}"));
        }
    }

    pub fn skip(&self, why: &str) -> ! {
        std::panic::panic_any(Skip(why.to_string()))
    }

    pub fn need_program(&self, program: &str) {
        if !sys::have(program) {
            self.skip(&format!("{program} is not installed"));
        }
    }

    /// A count or size made smaller where the machine is slow.
    pub fn scaled(&self, full: usize, least: usize) -> usize {
        (full / self.config.divisor).max(least)
    }

    /// The test's directory on the given file system.
    pub fn room(&self, fs: Fs) -> PathBuf {
        let root = self
            .config
            .rooms
            .get(&fs)
            .unwrap_or_else(|| panic!("{} was not set up for this test", fs.name()));
        let dir = root.join(&self.name);
        std::fs::create_dir_all(&dir).expect("room");
        dir
    }

    /// A name which this test has not used yet.
    pub fn fresh(&self, stem: &str) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{stem}{count}")
    }

    /// A new empty directory on the upper file system of the variant.
    pub fn new_dir(&self, stem: &str) -> PathBuf {
        let at = self.room(self.variant.upper).join(self.fresh(stem));
        sys::mkdir(&at, 0o755).works();
        at
    }

    /// A lower filesystem that the test controls, for `Stack::lower_dir`.
    #[track_caller]
    pub fn fuse(&self, fill: impl FnOnce(&mut FuseTree)) -> Arc<Fuse> {
        let at = self.dir.join(self.fresh("fuse"));
        sys::mkdir(&at, 0o755).works();
        let fuse = Arc::new(Fuse::mount(&at, fill));
        self.fuses.lock().expect("fuses").push(fuse.clone());
        fuse
    }

    /// What comes last is looked at first in the end.
    pub fn at_end(&self, look: impl Fn() + Send + Sync + 'static) {
        self.at_end.lock().expect("at_end").push(Box::new(look));
    }

    /// What must hold at the end of every test.
    #[track_caller]
    pub fn finish(&self) {
        for look in self.at_end.lock().expect("at_end").iter().rev() {
            look();
        }
        for fuse in self.fuses.lock().expect("fuses").drain(..) {
            fuse.umount();
        }
    }

    /// Kernel messages since the last call.
    pub fn kernel_log(&self) -> Vec<String> {
        self.log.take()
    }

    /// `call` leaves a line in the log that has all of these words. There are not more than
    /// ten in five seconds.
    #[track_caller]
    pub fn assert_logs(&self, words: &[&str], call: impl Fn()) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            call();
            let log = self.kernel_log();
            if log.iter().any(|l| words.iter().all(|w| l.contains(w))) {
                return;
            }
            assert!(Instant::now() < end, "no line with {words:?} in {log:#?}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// Runs `f` in a child process; its panic becomes ours.
    #[track_caller]
    pub fn in_child(&self, f: impl FnOnce()) {
        let (mut r, w) = pipe();
        match fork() {
            0 => {
                drop(r);
                let text = match catch_unwind(AssertUnwindSafe(f)) {
                    Ok(()) => String::new(),
                    Err(e) => match e.downcast::<Skip>() {
                        Ok(s) => format!("S{}", s.0),
                        Err(e) => format!("F{}", panic_text(&*e)),
                    },
                };
                let _ = (&w).write_all(text.as_bytes());
                exit_now(0);
            }
            pid => {
                drop(w);
                let mut text = String::new();
                let _ = r.read_to_string(&mut text);
                let status = wait_for(pid);
                match text.split_at_checked(1) {
                    Some(("S", why)) => self.skip(why),
                    Some((_, why)) => panic!("in a child process: {why}"),
                    None => assert_eq!(status, 0, "child process died"),
                }
            }
        }
    }

    /// Runs `f` as an unprivileged user.
    #[track_caller]
    pub fn as_user(&self, uid: u32, gid: u32, f: impl FnOnce()) {
        self.in_child(|| {
            sys::become_user(uid, gid, &[]);
            f();
        });
    }

    /// A file system of its own for a test, on a loop device.
    pub fn own_fs(&self, fs: Fs, megabytes: u64) -> OwnFs {
        OwnFs::new(&self.dir, &self.fresh("own"), fs, megabytes)
    }
}

/// A file system of a test's own, to fill it up, unmount it, check it.
pub struct OwnFs {
    pub fs: Fs,
    pub image: PathBuf,
    pub at: PathBuf,
}

impl OwnFs {
    pub fn new(dir: &Path, name: &str, fs: Fs, megabytes: u64) -> OwnFs {
        let image = dir.join(format!("{name}.img"));
        let at = dir.join(name);
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(megabytes << 20).expect("image size");
        sys::mkdir(&at, 0o755).works();
        make_fs(fs, &image);
        let own = OwnFs { fs, image, at };
        own.mount();
        own
    }

    pub fn mount(&self) {
        mount_device(self.fs, &self.image, &self.at, "");
    }

    /// Unmounts at once (nothing may still hold it) and checks it.
    #[track_caller]
    pub fn umount_and_check(&self) {
        sys::umount(&self.at).works();
        check_fs(self.fs, &self.image);
    }
}

impl OwnFs {
    /// As [`OwnFs::umount_and_check`], after it was shut down: its journal is
    /// replayed first.
    #[track_caller]
    pub fn umount_and_check_replayed(&self) {
        sys::umount(&self.at).works();
        self.mount();
        self.umount_and_check();
    }
}

/// mkfs.
#[track_caller]
pub fn make_fs(fs: Fs, device: &Path) {
    let d = device.as_os_str();
    let o = |s: &'static str| std::ffi::OsStr::new(s);
    match fs.fstype() {
        "ext4" => sys::run("mkfs.ext4", &[o("-q"), o("-F"), o("-E"), o("nodiscard"), d]),
        "xfs" => sys::run("mkfs.xfs", &[o("-q"), o("-f"), o("-K"), d]),
        "btrfs" => sys::run("mkfs.btrfs", &[o("-q"), o("-f"), o("-K"), d]),
        "jfs" => sys::run("mkfs.jfs", &[o("-q"), d]),
        other => panic!("no mkfs for {other}"),
    };
}

/// fsck, changing nothing; complains about anything.
#[track_caller]
pub fn check_fs(fs: Fs, device: &Path) {
    let d = device.as_os_str();
    let o = |s: &'static str| std::ffi::OsStr::new(s);
    match fs.fstype() {
        "ext4" => sys::run("e2fsck", &[o("-f"), o("-n"), d]),
        "xfs" => sys::run("xfs_repair", &[o("-n"), o("-f"), d]),
        "btrfs" => sys::run("btrfs", &[o("check"), d]),
        "jfs" => sys::run("fsck.jfs", &[o("-f"), o("-n"), d]),
        other => panic!("no fsck for {other}"),
    };
}

/// Mounts a device or an image file.
#[track_caller]
pub fn mount_device(fs: Fs, device: &Path, at: &Path, options: &str) {
    let is_device = std::fs::metadata(device)
        .map(|m| std::os::unix::fs::FileTypeExt::is_block_device(&m.file_type()))
        .unwrap_or(false);
    let mut all = String::from(if is_device { "rw" } else { "loop" });
    if fs.is_image() {
        all.push_str(",ro");
    }
    if !options.is_empty() {
        all.push(',');
        all.push_str(options);
    }
    sys::run(
        "mount",
        &[
            "-t".as_ref(),
            fs.fstype().as_ref(),
            "-o".as_ref(),
            all.as_ref(),
            device.as_os_str(),
            at.as_os_str(),
        ],
    );
}

/// The kernel's log from some point on.
pub struct Log {
    fd: Option<OwnedFd>,
}

impl Log {
    pub fn from_now() -> Log {
        let fd = sys::open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK).ok();
        if let Some(fd) = &fd {
            let _ = sys::seek(fd, rustix::fs::SeekFrom::End(0));
        }
        Log { fd }
    }

    pub fn take(&self) -> Vec<String> {
        let mut out = Vec::new();
        let Some(fd) = &self.fd else { return out };
        let mut buf = vec![0; 8192];
        loop {
            match rustix::io::read(fd, &mut buf[..]) {
                Ok(0) => return out,
                Ok(n) => {
                    let record = String::from_utf8_lossy(&buf[..n]).into_owned();
                    let text = record.split_once(';').map_or("", |(_, t)| t);
                    out.push(text.lines().next().unwrap_or("").to_string());
                }
                // Records were overwritten before we came to read them.
                Err(rustix::io::Errno::PIPE) => {}
                Err(_) => return out,
            }
        }
    }
}

/// Panics of all threads, with the place where they happened.
pub static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

pub fn collect_panics() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().is::<Skip>() {
            return;
        }
        let place = info
            .location()
            .map_or(String::new(), |l| format!("{}:{}", l.file(), l.line()));
        let text = format!("{place}: {}", panic_text(info.payload()));
        if let Ok(mut panics) = PANICS.lock() {
            panics.push(text);
        }
    }));
}

pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = if let Some(s) = payload.downcast_ref::<&str>() {
        (*s).to_string()
    } else if let Some(s) = payload.downcast_ref::<String>() {
        s.clone()
    } else {
        "panic".to_string()
    };
    text
}

/// A user namespace in which `from` and those after it are `to` and so on outside.
#[track_caller]
pub fn user_namespace(maps: &[(u32, u32, u32)]) -> OwnedFd {
    use rustix::thread::{unshare_unsafe, UnshareFlags};
    let ((mut ready, tell), (wait, go)) = (pipe(), pipe());
    let pid = fork();
    if pid == 0 {
        drop((ready, go));
        // SAFETY: namespaces have nothing to do with memory or descriptors.
        let made = unsafe { unshare_unsafe(UnshareFlags::NEWUSER) };
        let _ = (&tell).write_all(&[u8::from(made.is_ok())]);
        let _ = (&wait).read(&mut [0]);
        exit_now(0);
    }
    drop((tell, wait));
    let mut made = [0];
    ready.read_exact(&mut made).expect("a child that tells");
    assert_eq!(made, [1], "no user namespace could be made");
    let lines: Vec<String> = maps
        .iter()
        .map(|(from, to, count)| format!("{from} {to} {count}"))
        .collect();
    let lines = lines.join("\n");
    for map in ["uid_map", "gid_map"] {
        sys::write_file(format!("/proc/{pid}/{map}"), &lines).works();
    }
    let ns = sys::open(format!("/proc/{pid}/ns/user"), OFlags::RDONLY).works();
    drop(go);
    assert_eq!(wait_for(pid), 0);
    ns
}

/// Runs threads and lets a panic of one of them be ours.
#[track_caller]
pub fn threads<F: FnOnce() + Send>(all: Vec<F>) {
    std::thread::scope(|s| {
        let handles: Vec<_> = all.into_iter().map(|f| s.spawn(f)).collect();
        for h in handles {
            if let Err(e) = h.join() {
                resume_unwind(e);
            }
        }
    });
}
