// SPDX-License-Identifier: GPL-2.0

//! A lower filesystem that the test controls.
//!
//! A FUSE server in the test's own process serves a small tree from memory.
//! For each file the test may say that reads stand still before an offset until
//! told to go on, that they fail with an errno, or that each takes a while; and
//! it may ask how many reads stand there and how much has been served. So a
//! copy-up can be held in mid-data for as long as the test wants.
//!
//! Two paths of the kernel read a file: `read(2)` of an open file, which is one
//! request each and goes by the page cache, and splice, by which a copy-up
//! reads. That goes through the page cache, in requests of at most [`PIECE`]
//! bytes: a stop at a multiple of that is exact. What is cached stays cached, so
//! a second copy-up asks only for what the first did not get.
//!
//! The device is open in the threads of the server only, which have a table of
//! descriptors of their own. So when the test is killed the server goes first,
//! the kernel ends the connection, and no reader is left hanging.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{mpsc, Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    Config, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyXattr, Request, Session, SessionACL,
};

use crate::sys::{self, Errno, Expect, FileType};
use crate::watch::limit;

/// The most that one request of the page cache asks for.
pub const PIECE: u64 = 16 << 10;

/// How long the kernel may keep what it knows of a name: nothing ever changes.
const FOREVER: Duration = Duration::from_secs(3600);

/// An object of the tree.
struct Node {
    kind: FileType,
    mode: u32,
    uid: u32,
    gid: u32,
    rdev: u64,
    nlink: u32,
    mtime: SystemTime,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// What is told to who asks for the size of an xattr and not for its value.
    claims: BTreeMap<String, u32>,
    /// Of a regular file, or the target of a symlink.
    data: Vec<u8>,
    /// Of a directory: the names, and which nodes they are.
    names: BTreeMap<Vec<u8>, usize>,
    parent: usize,
}

/// Collects the tree. Parents come by themselves.
pub struct FuseTree {
    nodes: Vec<Node>,
    /// See [`FuseTree::numbers_above`].
    base: u64,
}

impl FuseTree {
    fn new() -> FuseTree {
        let mut tree = FuseTree {
            nodes: Vec::new(),
            base: 0,
        };
        tree.push(FileType::Directory, 0o755, 0);
        tree
    }

    /// All inode numbers are above `base`, but for that of the root, which is fixed.
    pub fn numbers_above(&mut self, base: u64) -> &mut FuseTree {
        self.base = base;
        self
    }

    fn number(&self, index: usize) -> INodeNo {
        match index {
            0 => INodeNo(1),
            _ => INodeNo(self.base + index as u64 + 1),
        }
    }

    fn push(&mut self, kind: FileType, mode: u32, parent: usize) -> usize {
        let directory = kind == FileType::Directory;
        self.nodes.push(Node {
            kind,
            mode,
            uid: 0,
            gid: 0,
            rdev: 0,
            nlink: if directory { 2 } else { 1 },
            mtime: SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789),
            xattrs: BTreeMap::new(),
            claims: BTreeMap::new(),
            data: Vec::new(),
            names: BTreeMap::new(),
            parent,
        });
        if directory && self.nodes.len() > 1 {
            self.nodes[parent].nlink += 1;
        }
        self.nodes.len() - 1
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut at = 0;
        for part in path.strip_prefix("/").unwrap_or(path) {
            at = *self.nodes[at].names.get(part.as_bytes())?;
        }
        Some(at)
    }

    #[track_caller]
    fn existing(&self, path: &str) -> usize {
        self.find(Path::new(path))
            .unwrap_or_else(|| panic!("{path} is not in the tree"))
    }

    /// The directory in which `path` is, made if needed, and its last part.
    fn room<'a>(&mut self, path: &'a str) -> (usize, &'a str) {
        let path = path.trim_start_matches('/');
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = 0;
        for part in parents.split('/').filter(|p| !p.is_empty()) {
            at = match self.nodes[at].names.get(part.as_bytes()) {
                Some(next) => *next,
                None => self.add(at, part, FileType::Directory, 0o755),
            };
        }
        (at, name)
    }

    #[track_caller]
    fn add(&mut self, dir: usize, name: &str, kind: FileType, mode: u32) -> usize {
        let node = self.push(kind, mode, dir);
        let old = self.nodes[dir].names.insert(name.as_bytes().into(), node);
        assert!(old.is_none(), "{name} is there twice");
        node
    }

    #[track_caller]
    fn make(&mut self, path: &str, kind: FileType, mode: u32) -> &mut Node {
        let (dir, name) = self.room(path);
        let node = self.add(dir, name, kind, mode);
        &mut self.nodes[node]
    }

    #[track_caller]
    pub fn file(&mut self, path: &str, data: impl AsRef<[u8]>) -> &mut FuseTree {
        self.make(path, FileType::RegularFile, 0o644).data = data.as_ref().to_vec();
        self
    }

    pub fn dir(&mut self, path: &str) -> &mut FuseTree {
        if self.find(Path::new(path)).is_none() {
            self.make(path, FileType::Directory, 0o755);
        }
        self
    }

    #[track_caller]
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut FuseTree {
        self.make(path, FileType::Symlink, 0o777).data = target.into();
        self
    }

    /// A device, fifo or socket.
    #[track_caller]
    pub fn node(&mut self, path: &str, kind: FileType, rdev: u64) -> &mut FuseTree {
        self.make(path, kind, 0o644).rdev = rdev;
        self
    }

    /// Another name of the file `old`.
    #[track_caller]
    pub fn link(&mut self, old: &str, new: &str) -> &mut FuseTree {
        let node = self.existing(old);
        let (dir, name) = self.room(new);
        self.nodes[dir].names.insert(name.as_bytes().into(), node);
        self.nodes[node].nlink += 1;
        self
    }

    #[track_caller]
    fn at(&mut self, path: &str) -> &mut Node {
        let node = self.existing(path);
        &mut self.nodes[node]
    }

    #[track_caller]
    pub fn xattr(&mut self, path: &str, name: &str, value: impl AsRef<[u8]>) -> &mut FuseTree {
        let value = value.as_ref().to_vec();
        self.at(path).xattrs.insert(name.into(), value);
        self
    }

    /// An xattr of which the server claims another size than it has.
    #[track_caller]
    pub fn xattr_claims(&mut self, path: &str, name: &str, size: u32) -> &mut FuseTree {
        self.at(path).claims.insert(name.into(), size);
        self
    }

    #[track_caller]
    pub fn mode(&mut self, path: &str, mode: u32) -> &mut FuseTree {
        self.at(path).mode = mode;
        self
    }

    #[track_caller]
    pub fn owner(&mut self, path: &str, uid: u32, gid: u32) -> &mut FuseTree {
        let node = self.at(path);
        (node.uid, node.gid) = (uid, gid);
        self
    }

    #[track_caller]
    pub fn mtime(&mut self, path: &str, seconds: u64) -> &mut FuseTree {
        self.at(path).mtime = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        self
    }
}

/// Whose reads stand still, or fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Those through the open file that comes to the offset first.
    First(Option<u64>),
    All,
}

impl Who {
    /// Whether `fh`, which has come there, is one of them.
    fn takes(&mut self, fh: u64) -> bool {
        if *self == Who::First(None) {
            *self = Who::First(Some(fh));
        }
        *self == Who::All || *self == Who::First(Some(fh))
    }
}

#[derive(Clone, Copy)]
struct Stop {
    at: u64,
    who: Who,
}

#[derive(Clone, Copy)]
struct Failure {
    at: u64,
    who: Who,
    errno: Errno,
    /// How often; for ever if `None`.
    left: Option<usize>,
}

/// What a server that lies says of a file when it is asked for its attributes. To who
/// looks the name up it says what is in the tree.
#[derive(Clone, Copy)]
pub struct Lie {
    pub uid: u32,
    pub mode: u32,
    pub nlink: u32,
}

/// What is asked of one file, and what happened to it.
#[derive(Default)]
struct Control {
    lie: Option<Lie>,
    /// How many names it has, if that has changed.
    nlink: Option<u32>,
    /// How `lseek` fails, where it is asked for at all.
    lseek: Option<Errno>,
    stop: Option<Stop>,
    failure: Option<Failure>,
    delay: Option<Duration>,
    standing: usize,
    /// The open files through which it was read.
    readers: BTreeSet<u64>,
    bytes: u64,
}

impl Control {
    /// Whether a read of bytes before `end` has to stand still.
    fn stands(&mut self, fh: u64, end: u64) -> bool {
        let Some(stop) = &mut self.stop else {
            return false;
        };
        end > stop.at && stop.who.takes(fh)
    }

    /// Whether a read of bytes before `end` has to fail.
    fn fails(&mut self, fh: u64, end: u64) -> Option<Errno> {
        let failure = self.failure.as_mut().filter(|f| end > f.at)?;
        if !failure.who.takes(fh) {
            return None;
        }
        let errno = failure.errno;
        if let Some(left) = &mut failure.left {
            *left -= 1;
            if *left == 0 {
                self.failure = None;
            }
        }
        Some(errno)
    }
}

#[derive(Default)]
struct State {
    /// Names that are not what they were, by directory: now another node, or none.
    renamed: BTreeMap<(usize, Vec<u8>), Option<usize>>,
    /// Nothing may be remembered by the kernel.
    forgetful: bool,
    /// Names that cannot be looked up, by directory: how often, or ever.
    unknowable: BTreeMap<(usize, Vec<u8>), (Errno, Option<usize>)>,
    files: BTreeMap<usize, Control>,
    handles: u64,
    /// Nobody stands, fails or waits any more.
    closing: bool,
    ended: bool,
}

impl State {
    fn fails_lookup(&mut self, at: &(usize, Vec<u8>)) -> Option<Errno> {
        let (errno, left) = self.unknowable.get_mut(at)?;
        let errno = *errno;
        if let Some(left) = left {
            *left -= 1;
            if *left == 0 {
                self.unknowable.remove(at);
            }
        }
        Some(errno)
    }
}

/// What the test and the server share.
struct Shared {
    tree: FuseTree,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let r = f(&mut self.lock());
        self.changed.notify_all();
        r
    }

    /// Waits for `done`; false if it does not come about within the limit.
    fn wait_for(&self, mut done: impl FnMut(&mut State) -> bool) -> bool {
        let end = Instant::now() + limit();
        let mut state = self.lock();
        while !done(&mut state) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner())
                .0;
        }
        true
    }
}

/// A mounted FUSE filesystem. It goes when dropped, whatever stands in it.
pub struct Fuse {
    pub at: PathBuf,
    shared: Arc<Shared>,
    mounted: Mutex<bool>,
}

impl Fuse {
    /// Mounts it at `at`, which is there.
    #[track_caller]
    pub fn mount(at: &Path, fill: impl FnOnce(&mut FuseTree)) -> Fuse {
        let mut tree = FuseTree::new();
        fill(&mut tree);
        let shared = Arc::new(Shared {
            tree,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (say, said) = mpsc::channel();
        let (server, place) = (shared.clone(), at.to_path_buf());
        std::thread::spawn(move || {
            // The test must not see the end before the device is closed.
            match serve(&server, &place, &say) {
                Ok(session) => drop(session.run()),
                Err(e) => drop(say.send(Err(e))),
            }
            server.change(|s| s.ended = true);
        });
        let mounted = said.recv().unwrap_or_else(|_| {
            let gone = io::Error::other("the server ended");
            Err(gone)
        });
        mounted.unwrap_or_else(|e| panic!("FUSE server: {e}"));
        Fuse {
            at: at.to_path_buf(),
            shared,
            mounted: Mutex::new(true),
        }
    }

    #[track_caller]
    fn node(&self, path: &str) -> usize {
        self.shared.tree.existing(path)
    }

    #[track_caller]
    fn control<R>(&self, path: &str, f: impl FnOnce(&mut Control) -> R) -> R {
        let node = self.node(path);
        self.shared.change(|s| f(s.files.entry(node).or_default()))
    }

    /// From now on the kernel has to ask for each name again.
    pub fn remember_nothing(&self) {
        self.shared.change(|s| s.forgetful = true);
    }

    /// `path` is from now on what `of` was at the beginning, or nothing.
    #[track_caller]
    pub fn is_now(&self, path: &str, of: Option<&str>) {
        let at = self.entry(path);
        let node = of.map(|of| self.node(of));
        self.shared.change(|s| s.renamed.insert(at, node));
    }

    /// The directory of `path`, and its name there.
    #[track_caller]
    fn entry(&self, path: &str) -> (usize, Vec<u8>) {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.node(dir), name.as_bytes().into())
    }

    /// The kernel is told `errno` the next time it asks for the name, once.
    #[track_caller]
    pub fn fail_lookup_once(&self, path: &str, errno: Errno) {
        self.fail_next_lookups(path, errno, 1);
    }

    /// The same, so many times.
    #[track_caller]
    pub fn fail_next_lookups(&self, path: &str, errno: Errno, times: usize) {
        let at = self.entry(path);
        let failure = (errno, Some(times));
        self.shared.change(|s| s.unknowable.insert(at, failure));
    }

    /// Whether the kernel has been told all of them.
    #[track_caller]
    pub fn lookups_failed(&self, path: &str) -> bool {
        let at = self.entry(path);
        self.shared.change(|s| !s.unknowable.contains_key(&at))
    }

    /// From now on looking `path` up fails; it is listed as before.
    #[track_caller]
    pub fn fail_lookups(&self, path: &str, errno: Errno) {
        let at = self.entry(path);
        self.shared
            .change(|s| s.unknowable.insert(at, (errno, None)));
    }

    /// See [`Lie`]. The kernel has to ask for the attributes each time.
    #[track_caller]
    pub fn lies(&self, path: &str, lie: Lie) {
        self.remember_nothing();
        self.control(path, |c| c.lie = Some(lie));
    }

    /// From now on the file has so many names, somewhere.
    #[track_caller]
    pub fn has_links(&self, path: &str, nlink: u32) {
        self.control(path, |c| c.nlink = Some(nlink));
    }

    /// `SEEK_DATA` and `SEEK_HOLE` fail.
    #[track_caller]
    pub fn lseek_fails(&self, path: &str, errno: Errno) {
        self.control(path, |c| c.lseek = Some(errno));
    }

    /// From now on no byte of `path` at or after `offset` is served to the open
    /// file that asks for one first. Others get what they ask for, if they do
    /// not read through the page cache.
    #[track_caller]
    pub fn stop_first_at(&self, path: &str, offset: u64) {
        let who = Who::First(None);
        self.control(path, |c| c.stop = Some(Stop { at: offset, who }));
    }

    /// The same for whoever asks.
    #[track_caller]
    pub fn stop_all_at(&self, path: &str, offset: u64) {
        let who = Who::All;
        self.control(path, |c| c.stop = Some(Stop { at: offset, who }));
    }

    /// Lets everybody go on.
    #[track_caller]
    pub fn go_on(&self, path: &str) {
        self.control(path, |c| c.stop = None);
    }

    /// Reads of bytes at or after `offset` fail, the next `times` or all.
    #[track_caller]
    pub fn fail_at(&self, path: &str, offset: u64, errno: Errno, times: Option<usize>) {
        let failure = Failure {
            at: offset,
            who: Who::All,
            errno,
            left: times,
        };
        self.control(path, |c| c.failure = Some(failure));
    }

    /// Reads by the open file that comes to `offset` first fail there, always.
    #[track_caller]
    pub fn fail_first_at(&self, path: &str, offset: u64, errno: Errno) {
        let failure = Failure {
            at: offset,
            who: Who::First(None),
            errno,
            left: None,
        };
        self.control(path, |c| c.failure = Some(failure));
    }

    #[track_caller]
    pub fn fail_no_more(&self, path: &str) {
        self.control(path, |c| c.failure = None);
    }

    /// Each read, of at most [`PIECE`] bytes if it is a copy-up's, takes so
    /// long. Holds for those under way, too.
    #[track_caller]
    pub fn delay(&self, path: &str, each: Option<Duration>) {
        self.control(path, |c| c.delay = each);
    }

    /// How many reads stand at the stop now; by readahead a copy-up has several.
    #[track_caller]
    pub fn standing(&self, path: &str) -> usize {
        self.control(path, |c| c.standing)
    }

    /// Waits until at least `count` reads stand there.
    #[track_caller]
    pub fn wait_standing(&self, path: &str, count: usize) {
        let node = self.node(path);
        let came = self
            .shared
            .wait_for(|s| s.files.entry(node).or_default().standing >= count);
        assert!(came, "no {count} readers of {path} came to the stop");
    }

    /// Through how many open files it has been read: one for each copy-up that
    /// found something not cached, and one for each reader.
    #[track_caller]
    pub fn readers(&self, path: &str) -> usize {
        self.control(path, |c| c.readers.len())
    }

    /// Bytes of its data that have been served.
    #[track_caller]
    pub fn bytes(&self, path: &str) -> u64 {
        self.control(path, |c| c.bytes)
    }

    /// Counts from nothing again.
    #[track_caller]
    pub fn reset_counts(&self, path: &str) {
        self.control(path, |c| {
            c.readers.clear();
            c.bytes = 0;
        });
    }

    /// Lets all go on and unmounts. Nothing may use it any more.
    #[track_caller]
    pub fn umount(&self) {
        self.shared.change(|s| s.closing = true);
        let mut mounted = self.mounted.lock().expect("mounted");
        if !std::mem::replace(&mut *mounted, false) {
            return;
        }
        sys::umount(&self.at).works();
        let ended = self.shared.wait_for(|s| s.ended);
        assert!(ended, "something still uses the FUSE lower layer");
    }
}

impl Drop for Fuse {
    /// After a failure it may be in use. Then it goes with the process.
    fn drop(&mut self) {
        self.shared.change(|s| s.closing = true);
        if self.mounted.get_mut().is_ok_and(|m| *m) {
            sys::umount_detach(&self.at);
        }
    }
}

/// Mounts, and says so; the session is ready to run.
fn serve(
    shared: &Arc<Shared>,
    at: &Path,
    say: &mpsc::Sender<io::Result<()>>,
) -> io::Result<Session<Server>> {
    // This thread and those it starts have descriptors of their own, none of
    // them the test's.
    // SAFETY: closes copies of descriptors that no object of this thread owns.
    let r = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    };
    if r != 0 {
        return Err(io::Error::last_os_error());
    }
    let device = rustix::fs::open(
        "/dev/fuse",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read={PIECE}",
        std::os::fd::AsRawFd::as_raw_fd(&device)
    );
    sys::mount(
        "rovl-selftests",
        at,
        "fuse",
        rustix::mount::MountFlags::RDONLY,
        options.as_bytes(),
    )
    .map_err(|e| io::Error::other(format!("{e:?}")))?;
    let server = Server {
        shared: shared.clone(),
    };
    let session = Session::from_fd(server, device, SessionACL::All, Config::default())?;
    let _ = say.send(Ok(()));
    Ok(session)
}

/// The side of the kernel's requests.
struct Server {
    shared: Arc<Shared>,
}

impl Server {
    fn node(&self, ino: INodeNo) -> Option<(usize, &Node)> {
        let index = match ino {
            INodeNo(1) => 0,
            INodeNo(n) => {
                let above = n.checked_sub(self.shared.tree.base)?;
                usize::try_from(above).ok()?.checked_sub(1)?
            }
        };
        Some((index, self.shared.tree.nodes.get(index)?))
    }

    fn attr(&self, index: usize) -> FileAttr {
        let node = &self.shared.tree.nodes[index];
        let changed = |s: &mut State| s.files.get(&index).and_then(|control| control.nlink);
        let nlink = self.shared.change(changed).unwrap_or(node.nlink);
        FileAttr {
            ino: self.shared.tree.number(index),
            size: node.data.len() as u64,
            blocks: node.data.len().div_ceil(512) as u64,
            atime: node.mtime,
            mtime: node.mtime,
            ctime: node.mtime,
            crtime: node.mtime,
            kind: kind(node.kind),
            perm: (node.mode & 0o7777) as u16,
            nlink,
            uid: node.uid,
            gid: node.gid,
            rdev: node.rdev as u32,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn kind(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::Socket => fuser::FileType::Socket,
        FileType::CharacterDevice => fuser::FileType::CharDevice,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        _ => fuser::FileType::RegularFile,
    }
}

/// One read, answered when the test lets it.
fn answer(shared: &Shared, index: usize, fh: u64, offset: u64, size: u32, reply: ReplyData) {
    let data = &shared.tree.nodes[index].data;
    let start = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(data.len());
    let end = start.saturating_add(size as usize).min(data.len());
    let began = Instant::now();
    let mut state = shared.lock();
    let mut counted = false;
    loop {
        let closing = state.closing;
        let control = state.files.entry(index).or_default();
        if control.stands(fh, end as u64) && !closing {
            if !counted {
                counted = true;
                control.standing += 1;
                shared.changed.notify_all();
            }
            // It looks again by itself: once a read stood for ever after it had been let
            // go, and whether a wakeup was lost is not known.
            state = shared
                .changed
                .wait_timeout(state, Duration::from_secs(1))
                .unwrap_or_else(|e| e.into_inner())
                .0;
            continue;
        }
        let left = control.delay.map(|d| d.saturating_sub(began.elapsed()));
        match left {
            Some(left) if !left.is_zero() && !closing => {
                state = shared
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(|e| e.into_inner())
                    .0;
            }
            _ => break,
        }
    }
    let control = state.files.entry(index).or_default();
    if counted {
        control.standing -= 1;
    }
    let failure = control.fails(fh, end as u64);
    if failure.is_none() {
        control.bytes += (end - start) as u64;
    }
    drop(state);
    match failure {
        Some(errno) => reply.error(fuser::Errno::from_i32(errno.raw_os_error())),
        None => reply.data(&data[start..end]),
    }
}

/// Answers a question for an xattr, or its size.
fn xattr(value: &[u8], size: u32, reply: ReplyXattr) {
    if size == 0 {
        reply.size(value.len() as u32);
    } else if value.len() > size as usize {
        reply.error(fuser::Errno::ERANGE);
    } else {
        reply.data(value);
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |e: &dyn Debug| io::Error::other(format!("FUSE settings: {e:?}"));
        // Reads that stand must not keep others from being sent.
        config.set_max_background(1000).map_err(|e| refused(&e))?;
        config
            .set_max_readahead(PIECE as u32)
            .map_err(|e| refused(&e))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (now, forgetful, failure) = self.shared.change(|s| {
            let parent = self.node(parent).map_or(0, |(index, _)| index);
            let at = (parent, name.as_bytes().into());
            (
                s.renamed.get(&at).copied(),
                s.forgetful,
                s.fails_lookup(&at),
            )
        });
        if let Some(errno) = failure {
            return reply.error(fuser::Errno::from_i32(errno.raw_os_error()));
        }
        let found = now.unwrap_or_else(|| {
            let (_, node) = self.node(parent)?;
            node.names.get(name.as_bytes()).copied()
        });
        let time = if forgetful { Duration::ZERO } else { FOREVER };
        match found {
            Some(index) => reply.entry(&time, &self.attr(index), Generation(1)),
            None => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let Some((index, _)) = self.node(ino) else {
            return reply.error(fuser::Errno::ENOENT);
        };
        let (forgetful, lie) = self.shared.change(|s| {
            let lie = s.files.get(&index).and_then(|control| control.lie);
            (s.forgetful, lie)
        });
        let mut attr = self.attr(index);
        if let Some(lie) = lie {
            (attr.uid, attr.perm, attr.nlink) = (lie.uid, lie.mode as u16, lie.nlink);
        }
        let time = if forgetful { Duration::ZERO } else { FOREVER };
        reply.attr(&time, &attr);
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        let errno = self.node(ino).and_then(|(index, _)| {
            let state = self.shared.lock();
            state.files.get(&index).and_then(|control| control.lseek)
        });
        let errno = errno.unwrap_or(Errno::NOSYS);
        reply.error(fuser::Errno::from_i32(errno.raw_os_error()));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.node(ino) {
            Some((_, node)) => reply.data(&node.data),
            None => reply.error(fuser::Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.node(ino).is_none() {
            return reply.error(fuser::Errno::ENOENT);
        }
        let fh = self.shared.change(|s| {
            s.handles += 1;
            s.handles
        });
        // Without the second, to open the file would wait for the pages which
        // a read that stands has locked.
        let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(FileHandle(fh), flags);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some((index, _)) = self.node(ino) else {
            return reply.error(fuser::Errno::ENOENT);
        };
        let shared = self.shared.clone();
        let controlled = shared.change(|s| {
            let c = s.files.entry(index).or_default();
            c.readers.insert(fh.0);
            c.stop.is_some() || c.delay.is_some()
        });
        if controlled {
            // Its own thread, so that other requests are served meanwhile.
            std::thread::spawn(move || answer(&shared, index, fh.0, offset, size, reply));
        } else {
            answer(&shared, index, fh.0, offset, size, reply);
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // What is listed never changes, even where `renamed` has others found.
        let flags = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        reply.opened(FileHandle(0), flags);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some((index, node)) = self.node(ino) else {
            return reply.error(fuser::Errno::ENOENT);
        };
        let own = [(&b"."[..], index), (&b".."[..], node.parent)];
        let names = node.names.iter().map(|(n, i)| (n.as_slice(), *i));
        let all = own.into_iter().chain(names).enumerate();
        for (place, (name, i)) in all.skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let kind = kind(self.shared.tree.nodes[i].kind);
            if reply.add(
                self.shared.tree.number(i),
                place as u64 + 1,
                kind,
                OsStr::from_bytes(name),
            ) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.node(ino).and_then(|(_, n)| {
            let name = name.to_str()?;
            Some((n.xattrs.get(name)?, n.claims.get(name)))
        });
        match value {
            Some((_, Some(claim))) if size == 0 => reply.size(*claim),
            Some((value, _)) => xattr(value, size, reply),
            None => reply.error(fuser::Errno::ENODATA),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let mut all = Vec::new();
        for name in self.node(ino).iter().flat_map(|(_, n)| n.xattrs.keys()) {
            all.extend_from_slice(name.as_bytes());
            all.push(0);
        }
        xattr(&all, size, reply);
    }
}
