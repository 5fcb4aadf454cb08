// SPDX-License-Identifier: GPL-2.0

//! inotify and fanotify: who watches the merged tree is told what he would be
//! told of a plain one, also of objects that are copied up meanwhile.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::env::{Fs, T};
use crate::plain::{same, Notes};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, Fail, FallocateFlags, Map, OFlags, Res};
use crate::tree::{assert_names, pattern, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(inotify_on_a_directory),
        test!(inotify_on_files),
        test!(inotify_after_the_cache_is_dropped),
        test!(inotify_one_of_several_links),
        test!(inotify_and_descriptors_from_before),
        test!(fanotify_on_inodes),
        test!(fanotify_on_the_mount),
        test!(fanotify_on_the_filesystem),
        test!(fanotify_with_file_ids),
        test!(file_ids_of_the_whole_are_refused),
        test!(fanotify_permission),
        test!(placeholders_are_filled_before_they_are_copied).uppers(&[Fs::Xfs]),
        test!(maps_of_old_descriptors_ask_nobody),
        test!(nobody_is_asked_under_freeze_protection),
        test!(fsync_of_a_directory_opens_it_once),
        test!(file_ids).needs(&[Fs::Other]),
        test!(file_ids_are_not_used_again),
        test!(layers_tell_nothing_twice),
    ]
}

fn fill(l: &Tree) {
    for name in ["f", "g", "h", "sub/k"] {
        l.file(name, pattern(20_000, 3));
    }
    l.symlink("s", "f").dir("empty");
}

type Op<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Operations on what [`fill`] made, of every kind that tells somebody
/// something; those that begin with a lower object copy it up.
fn operations<'a>(dir: &'a Path) -> Vec<Op<'a>> {
    let at = |name: &str| dir.join(name);
    let rw = move |name: &str| sys::open(dir.join(name), OFlags::RDWR).works();
    let mut all: Vec<Op<'a>> = Vec::new();
    let mut op = |name, f: Box<dyn Fn() + 'a>| all.push((name, f));
    op(
        "read",
        Box::new(move || drop(sys::read_file(at("f")).works())),
    );
    op("open and close", Box::new(move || drop(rw("f"))));
    op(
        "write",
        Box::new(move || sys::pwrite(&rw("f"), "x", 3).works()),
    );
    op(
        "read again",
        Box::new(move || drop(sys::read_file(at("f")).works())),
    );
    op(
        "chmod",
        Box::new(move || sys::chmod(at("g"), 0o600).works()),
    );
    op(
        "truncate",
        Box::new(move || sys::truncate(at("g"), 10).works()),
    );
    op(
        "open and truncate",
        Box::new(move || sys::write_file(at("g"), "new").works()),
    );
    op(
        "set an xattr",
        Box::new(move || sys::set_xattr(at("h"), "user.x", "y").works()),
    );
    op(
        "set times",
        Box::new(move || sys::set_times(at("h"), (1, 1), (2, 2)).works()),
    );
    op(
        "fallocate",
        Box::new(move || {
            sys::fallocate(&rw("h"), FallocateFlags::empty(), 0, 40_000).works();
        }),
    );
    op(
        "write through a mapping",
        Box::new(move || {
            let map = Map::new(&rw("h"), 4096, true, true).works();
            map.put(0, b"mapped");
            map.sync().works();
        }),
    );
    op(
        "create",
        Box::new(move || sys::write_file(at("new"), "n").works()),
    );
    op(
        "link",
        Box::new(move || sys::link(at("h"), at("linked")).works()),
    );
    op(
        "rename",
        Box::new(move || sys::rename(at("g"), at("moved")).works()),
    );
    op(
        "rename over",
        Box::new(move || sys::rename(at("moved"), at("new")).works()),
    );
    op(
        "rename into",
        Box::new(move || sys::rename(at("new"), at("sub/new")).works()),
    );
    op(
        "change in sub",
        Box::new(move || sys::append_file(at("sub/k"), "+").works()),
    );
    op(
        "list",
        Box::new(move || drop(sys::names(at("sub")).works())),
    );
    op(
        "mkdir",
        Box::new(move || sys::mkdir(at("made"), 0o755).works()),
    );
    op("rmdir", Box::new(move || sys::rmdir(at("made")).works()));
    op(
        "rmdir of a lower one",
        Box::new(move || sys::rmdir(at("empty")).works()),
    );
    op(
        "symlink",
        Box::new(move || sys::symlink("f", at("t")).works()),
    );
    op(
        "chown of a symlink",
        Box::new(move || sys::lchown(at("s"), 1, 1).works()),
    );
    op("unlink", Box::new(move || sys::unlink(at("h")).works()));
    op(
        "unlink of a lower one",
        Box::new(move || sys::unlink(at("s")).works()),
    );
    op(
        "copy_file_range",
        Box::new(move || {
            sys::copy_file_range(&rw("f"), 0, &rw("linked"), 0, 100).works();
        }),
    );
    all
}

struct Inotify {
    fd: OwnedFd,
    names: BTreeMap<i32, &'static str>,
}

impl Inotify {
    fn new() -> Inotify {
        use rustix::fs::inotify::{init, CreateFlags};
        let fd = init(CreateFlags::NONBLOCK).expect("inotify");
        Inotify {
            fd,
            names: BTreeMap::new(),
        }
    }

    fn watch(&mut self, name: &'static str, path: &Path) {
        use rustix::fs::inotify::{add_watch, WatchFlags};
        let all = WatchFlags::ALL_EVENTS | WatchFlags::DONT_FOLLOW;
        let wd = add_watch(&self.fd, path, all).expect("watch");
        self.names.insert(wd, name);
    }

    /// What has happened, in order: which watch, what, to which name. Two
    /// objects that are renamed have a number in common, which says no more.
    fn events(&self) -> Vec<String> {
        use rustix::fs::inotify::Reader;
        use std::mem::MaybeUninit;
        let mut space = [MaybeUninit::uninit(); 65536];
        let mut events = Reader::new(&self.fd, &mut space);
        let mut all = Vec::new();
        while let Ok(e) = events.next() {
            let name = e.file_name().map(|n| n.to_string_lossy().into_owned());
            all.push(format!(
                "{}: {:?} {}",
                self.names.get(&e.wd()).unwrap_or(&"?"),
                e.events(),
                name.unwrap_or_default()
            ));
        }
        all
    }
}

fn run_watched(dir: &Path, n: &mut Notes, events: &dyn Fn() -> Vec<String>) {
    let _ = events();
    for (name, run) in operations(dir) {
        run();
        n.value(name, events());
    }
}

fn inotify_on_a_directory(t: &T) {
    same(t, fill, |dir, n| {
        let mut i = Inotify::new();
        i.watch("dir", dir);
        i.watch("sub", &dir.join("sub"));
        run_watched(dir, n, &|| i.events());
    });
}

fn inotify_on_files(t: &T) {
    same(t, fill, |dir, n| {
        let mut i = Inotify::new();
        for name in ["f", "g", "h", "s", "sub/k", "empty"] {
            i.watch(name, &dir.join(name));
        }
        run_watched(dir, n, &|| i.events());
    });
}

/// A watch stays with its object though nothing else keeps that in memory.
fn inotify_after_the_cache_is_dropped(t: &T) {
    same(t, fill, |dir, n| {
        let mut i = Inotify::new();
        for name in ["f", "g", "h", "s", "sub/k", "empty"] {
            i.watch(name, &dir.join(name));
        }
        let _ = i.events();
        for (name, run) in operations(dir) {
            std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
            run();
            n.value(name, i.events());
        }
    });
}

/// A name of a file with several, copied up, is a file of its own: it is the
/// one that is watched, now and later.
fn inotify_one_of_several_links(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "x").link("a", "b");
        })
        .mount();
    let mut i = Inotify::new();
    i.watch("a", &o.m("a"));
    sys::append_file(o.m("a"), "+").works();
    let first = i.events();
    assert_eq!(first.len(), 3, "open, write, close: {first:?}");
    std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
    sys::append_file(o.m("a"), "+").works();
    t.better_than_overlay("it has forgotten which inode that was");
    assert_eq!(i.events(), first, "after the dentry has gone");
    sys::append_file(o.m("b"), "+").works();
    assert_eq!(i.events(), [""; 0], "of the other name");
}

/// What is done through descriptors that were opened before the copy-up.
fn inotify_and_descriptors_from_before(t: &T) {
    same(t, fill, |dir, n| {
        let old = sys::open(dir.join("f"), OFlags::RDONLY).works();
        let mut i = Inotify::new();
        i.watch("f", &dir.join("f"));
        let w = sys::open(dir.join("f"), OFlags::RDWR).works();
        let _ = i.events();
        n.result("read", sys::pread(&old, 3, 0));
        n.value("of a read through the old one", i.events());
        sys::pwrite(&w, "new", 0).works();
        n.value("of a write", i.events());
        n.result("read", sys::pread(&old, 3, 0));
        n.value("of another read", i.events());
        n.call("fchmod", sys::fchmod(&old, 0o640));
        n.value("of fchmod", i.events());
        drop(old);
        n.value("of closing it", i.events());
        drop(w);
        n.value("of closing the other", i.events());
    });
}

/// A fanotify group.
struct Fanotify {
    fd: OwnedFd,
    dir: PathBuf,
}

const EVENTS: u64 =
    libc::FAN_ACCESS | libc::FAN_MODIFY | libc::FAN_OPEN | libc::FAN_CLOSE | libc::FAN_OPEN_EXEC;
/// Only with file ids.
const NAME_EVENTS: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVE
    | libc::FAN_ATTRIB
    | libc::FAN_DELETE_SELF
    | libc::FAN_MOVE_SELF;

/// One event: what, which object by its descriptor's path, and what follows.
struct Event {
    mask: u64,
    fd: Option<OwnedFd>,
    info: Vec<u8>,
}

impl Fanotify {
    fn new(t: &T, dir: &Path, flags: u32) -> Fanotify {
        let more = libc::FAN_NONBLOCK | libc::FAN_CLOEXEC | flags;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::fanotify_init(more, (libc::O_RDONLY | libc::O_CLOEXEC) as u32) };
        if fd < 0 {
            let e = std::io::Error::last_os_error();
            match e.raw_os_error() {
                Some(libc::ENOSYS) => t.skip("the kernel has no fanotify"),
                _ => panic!("fanotify_init: {e}"),
            }
        }
        Fanotify {
            // SAFETY: a new descriptor that nobody else knows.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            dir: dir.into(),
        }
    }

    fn mark(&self, kind: u32, mask: u64, path: &Path) -> Res<()> {
        let c = sys::cpath(path);
        // SAFETY: a NUL-terminated path which outlives the call.
        let r = unsafe {
            libc::fanotify_mark(
                self.fd.as_raw_fd(),
                libc::FAN_MARK_ADD | kind,
                mask,
                libc::AT_FDCWD,
                c.as_ptr(),
            )
        };
        if r == 0 {
            return Ok(());
        }
        let errno = std::io::Error::last_os_error().raw_os_error();
        Err(Fail::new(
            &format!("fanotify_mark {path:?} {kind:#x} {mask:#x}"),
            errno.map_or(Errno::IO, Errno::from_raw_os_error),
        ))
    }

    /// Says whether what was asked about `fd` may be done.
    #[track_caller]
    fn answer(&self, fd: &OwnedFd, allow: bool) {
        let response = libc::fanotify_response {
            fd: fd.as_raw_fd(),
            response: if allow {
                libc::FAN_ALLOW
            } else {
                libc::FAN_DENY
            },
        };
        // SAFETY: plain numbers, of which the bytes are read.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const response).cast::<u8>(), size_of_val(&response))
        };
        sys::write(&self.fd, bytes).works();
    }

    fn read(&self) -> Vec<Event> {
        let mut all = Vec::new();
        let mut buf = vec![0u8; 65536];
        while let Ok(len) = rustix::io::read(&self.fd, &mut buf[..]) {
            let mut rest = &buf[..len];
            while rest.len() >= size_of::<libc::fanotify_event_metadata>() {
                // SAFETY: that many bytes are there, and any are a value.
                let head: libc::fanotify_event_metadata =
                    unsafe { std::ptr::read_unaligned(rest.as_ptr().cast()) };
                let (event, more) = rest.split_at(head.event_len as usize);
                // SAFETY: the kernel opened it for us.
                let fd = (head.fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(head.fd) });
                all.push(Event {
                    mask: head.mask,
                    fd,
                    info: event[head.metadata_len as usize..].to_vec(),
                });
                rest = more;
            }
        }
        all
    }

    /// Events as text, with paths below `dir`; others are of other processes.
    fn events(&self) -> Vec<String> {
        let mut all = Vec::new();
        for event in self.read() {
            let path = event
                .fd
                .and_then(|fd| std::fs::read_link(sys::fd_path(&fd)).ok())
                .unwrap_or_default();
            if let Ok(below) = path.strip_prefix(&self.dir) {
                all.push(format!("{:#x} {below:?}", event.mask));
            }
        }
        all
    }
}

fn fanotify_on_inodes(t: &T) {
    same(t, fill, |dir, n| {
        let group = Fanotify::new(t, dir, libc::FAN_CLASS_NOTIF);
        for name in ["f", "g", "h", "sub/k"] {
            group.mark(0, EVENTS, &dir.join(name)).works();
        }
        let children = EVENTS | libc::FAN_EVENT_ON_CHILD | libc::FAN_ONDIR;
        group.mark(0, children, &dir.join("sub")).works();
        run_watched(dir, n, &|| group.events());
    });
}

/// The plain tree is a mount of its own here, as the merged one is.
fn on_a_mount(t: &T, kind: u32) {
    same(t, fill, |dir, n| {
        let bound = dir.file_name().is_some_and(|n| n != "d");
        if bound {
            sys::bind_mount(dir, dir).works();
        }
        let group = Fanotify::new(t, dir, libc::FAN_CLASS_NOTIF);
        group.mark(kind, EVENTS | libc::FAN_ONDIR, dir).works();
        run_watched(dir, n, &|| group.events());
        drop(group);
        if bound {
            sys::umount(dir).works();
        }
    });
}

fn fanotify_on_the_mount(t: &T) {
    on_a_mount(t, libc::FAN_MARK_MOUNT);
}

fn fanotify_on_the_filesystem(t: &T) {
    on_a_mount(t, libc::FAN_MARK_FILESYSTEM);
}

/// The handle of an object, as far as it is one to compare with
/// (`AT_HANDLE_FID`): its type and bytes.
fn file_id(path: &Path) -> Res<(i32, Vec<u8>)> {
    const AT_HANDLE_FID: i32 = 0x200;
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0;
    let c = sys::cpath(path);
    // SAFETY: a NUL-terminated path, and a handle with as much room as it says.
    let r = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            c.as_ptr(),
            &mut handle,
            &mut mount,
            AT_HANDLE_FID,
        )
    };
    if r != 0 {
        let errno = std::io::Error::last_os_error().raw_os_error();
        let errno = errno.map_or(Errno::IO, Errno::from_raw_os_error);
        return Err(Fail::new(&format!("name_to_handle_at {path:?}"), errno));
    }
    Ok((handle.kind, handle.data[..handle.bytes as usize].to_vec()))
}

/// The records behind an event that name objects: the kind of the record, the
/// handle, and the name behind it.
fn records(info: &[u8]) -> Vec<(u8, (i32, Vec<u8>), String)> {
    let mut all = Vec::new();
    let mut rest = info;
    let word = |b: &[u8], at: usize| u32::from_ne_bytes(b[at..at + 4].try_into().expect("word"));
    while rest.len() >= 4 {
        let (kind, len) = (rest[0], usize::from(u16::from_ne_bytes([rest[2], rest[3]])));
        let (record, more) = rest.split_at(len);
        // Header, fsid, handle: length, type, bytes; then a name.
        let bytes = word(record, 12) as usize;
        let handle = (word(record, 16) as i32, record[20..20 + bytes].to_vec());
        let name = &record[20 + bytes..];
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        all.push((kind, handle, String::from_utf8_lossy(name).into_owned()));
        rest = more;
    }
    all
}

/// Groups that are told file ids instead of descriptors: the ids are those that
/// name_to_handle_at gives, before and after a copy-up.
fn fanotify_with_file_ids(t: &T) {
    same(t, fill, |dir, n| {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_FID | libc::FAN_REPORT_DFID_NAME;
        let group = Fanotify::new(t, dir, flags);
        let mut ids = BTreeMap::new();
        for name in [".", "f", "g", "h", "s", "sub", "sub/k", "empty"] {
            let id = file_id(&dir.join(name)).works();
            if let Some(other) = ids.insert(id, name.to_string()) {
                panic!("{name} has the file id of {other}");
            }
        }
        let mask = EVENTS | NAME_EVENTS | libc::FAN_ONDIR;
        group.mark(0, mask | libc::FAN_EVENT_ON_CHILD, dir).works();
        for name in ["f", "g", "h", "sub/k"] {
            group.mark(0, mask, &dir.join(name)).works();
        }
        run_watched(dir, n, &|| {
            let mut all = Vec::new();
            for event in group.read() {
                let mut text = format!("{:#x}", event.mask);
                for (kind, id, name) in records(&event.info) {
                    let whose = ids.get(&id).map_or("?", String::as_str);
                    text.push_str(&format!(" [{kind} {whose:?} {name:?}]"));
                }
                all.push(text);
            }
            all
        });
        for (id, name) in &ids {
            let now = file_id(&dir.join(name)).ok();
            n.value(format!("id of {name}"), now.map(|now| now == *id));
        }
    });
}

/// Who is told file ids of everything has to open objects by them, and that
/// takes handles which can be decoded.
fn file_ids_of_the_whole_are_refused(t: &T) {
    let o = t.stack().lower(fill).mount();
    let group = Fanotify::new(t, &o.m("/"), libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_FID);
    for kind in [libc::FAN_MARK_FILESYSTEM, libc::FAN_MARK_MOUNT] {
        group.mark(kind, EVENTS, &o.m("/")).fails(Errno::OPNOTSUPP);
    }
}

/// A group that is asked for permission: to open and to read, once each.
fn fanotify_permission(t: &T) {
    same(t, fill, |dir, n| {
        let group = Fanotify::new(t, dir, libc::FAN_CLASS_CONTENT);
        let mask = libc::FAN_OPEN_PERM | libc::FAN_ACCESS_PERM;
        if let Err(e) = group.mark(0, mask, &dir.join("f")) {
            assert_eq!(e.errno, Errno::INVAL);
            t.skip("the kernel has no permission events");
        }
        group.mark(0, mask, &dir.join("g")).works();
        for (name, allow) in [("f", true), ("g", false)] {
            let path = dir.join(name);
            let mut asked = crate::watch::start("open and read", move || -> Res<Vec<u8>> {
                let fd = sys::open(&path, OFlags::RDWR)?;
                sys::pread(&fd, 3, 0)
            });
            let mut questions = Vec::new();
            while !asked.is_done() {
                for event in group.read() {
                    let Some(fd) = event.fd else { continue };
                    let path = std::fs::read_link(sys::fd_path(&fd)).expect("path");
                    questions.push(format!("{:#x} {:?}", event.mask, path.strip_prefix(dir)));
                    // The listener may look at the file itself.
                    n.result("what the listener reads", sys::pread(&fd, 3, 0));
                    group.answer(&fd, allow);
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            n.result(format!("{name} is read"), asked.finish());
            n.value(format!("asked for {name}"), questions);
        }
    });
}

/// Whoever is asked for permission to open something in the upper layer may have to
/// write there before he answers, and wait for a thaw: the freeze must not wait for the
/// one who asked.
fn nobody_is_asked_under_freeze_protection(t: &T) {
    type Step = fn(&Overlay) -> Res<()>;
    let steps: [(&str, &str, Step); 5] = [
        ("rmdir of an upper directory with whiteouts", "u/own", |o| {
            sys::rmdir(o.m("own"))
        }),
        ("rmdir of a merged directory", "u/merged", |o| {
            sys::rmdir(o.m("merged"))
        }),
        ("rename over a merged directory", "u/target", |o| {
            sys::rename(o.m("made"), o.m("target"))
        }),
        ("list", "u/listed", |o| sys::names(o.m("listed")).map(drop)),
        ("mount", "w/work", |o| {
            o.umount();
            Tree::new(o.w("work")).whiteout("#1/gone");
            o.mount()
        }),
    ];
    let own = t.own_fs(Fs::Ext4, 32);
    let o = t
        .stack()
        .lower(|l| {
            l.file("merged/f", "f").file("target/f", "f");
            l.file("listed/f", "f").file("listed/g", "g");
        })
        .upper_in(&own.at)
        .mount();
    Tree::new(o.u("own")).whiteout("a").whiteout("b");
    for n in ["merged/f", "target/f", "listed/g"] {
        sys::unlink(o.m(n)).works();
    }
    sys::mkdir(o.m("made"), 0o755).works();
    for (name, watched, run) in steps {
        let at = match watched.split_once('/') {
            Some(("u", path)) => o.u(path),
            _ => o.w("work"),
        };
        let group = Fanotify::new(t, &own.at, libc::FAN_CLASS_CONTENT);
        let mask = libc::FAN_OPEN_PERM | libc::FAN_ONDIR;
        if let Err(e) = group.mark(0, mask, &at) {
            assert_eq!(e.errno, Errno::INVAL);
            t.skip("the kernel has no permission events");
        }
        assert_asked_unfrozen(name, &group, &own.at, {
            let o = o.clone();
            move || run(&o)
        });
    }
    assert!(!sys::exists(o.m("own")) && !sys::exists(o.m("merged")));
    assert_names(o.m("target"), &[]);
    o.umount();
    // A file that is made under a name is opened afterwards.
    let jfs = t.own_fs(Fs::Jfs, 32);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "f");
        })
        .upper_in(&jfs.at)
        .mount();
    let group = Fanotify::new(t, &jfs.at, libc::FAN_CLASS_CONTENT);
    let mask = libc::FAN_OPEN_PERM;
    group.mark(libc::FAN_MARK_FILESYSTEM, mask, &jfs.at).works();
    assert_asked_unfrozen("copy-up", &group, &jfs.at, {
        let o = o.clone();
        move || sys::chmod(o.m("f"), 0o600)
    });
    drop(group);
    assert_eq!(sys::mode_of(&sys::stat(o.u("f")).works()), 0o600);
    o.umount();
}

/// Somebody is asked at least once in `run`; each time the file system can be frozen
/// before he answers.
#[track_caller]
fn assert_asked_unfrozen(
    name: &str,
    group: &Fanotify,
    upper: &Path,
    run: impl FnOnce() -> Res<()> + Send + 'static,
) {
    let mut task = crate::watch::start(name, run);
    let (mut asked, mut stuck) = (0, 0);
    while !task.is_done() {
        for event in group.read() {
            let Some(fd) = event.fd else { continue };
            asked += 1;
            let at = upper.to_path_buf();
            let mut freeze = crate::watch::start("freeze", move || sys::Frozen::freeze(&at));
            let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while !freeze.is_done() && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            if freeze.is_done() {
                freeze.finish().works().thaw();
                group.answer(&fd, true);
            } else {
                stuck += 1;
                group.answer(&fd, true);
                freeze.finish().works().thaw();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    task.finish().works();
    assert!(asked > 0, "{name}: nobody was asked");
    assert_eq!(stuck, 0, "{name}: a freeze waits for the listener");
}

/// An error in writing a directory back is told each descriptor once, so it stays open.
fn fsync_of_a_directory_opens_it_once(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("below");
        })
        .mount();
    sys::mkdir(o.m("d"), 0o755).works();
    let fd = sys::open(o.m("d"), OFlags::RDONLY).works();
    let group = Fanotify::new(t, &o.u("/"), libc::FAN_CLASS_NOTIF);
    let mask = libc::FAN_OPEN | libc::FAN_ONDIR;
    group.mark(0, mask, &o.u("d")).works();
    for i in 0..3 {
        sys::write_file(o.m(format!("d/{i}")), "x").works();
        sys::fsync(&fd).works();
    }
    let opened = group.read().len();
    assert!(opened <= 1, "{opened} times");
    // Another one has seen no error yet.
    let other = sys::open(o.m("d"), OFlags::RDONLY).works();
    sys::fsync(&other).works();
    sys::fsync(&fd).works();
    assert!(group.read().len() <= 1);
}

/// A file whose data somebody puts there when it is asked for (`FAN_PRE_ACCESS`): it is
/// all hole until then. On the filesystem of the copy and on another one.
fn placeholders_are_filled_before_they_are_copied(t: &T) {
    const FAN_PRE_ACCESS: u64 = 0x0010_0000;
    type Change = fn(&Path) -> Res<()>;
    let changes: [(&str, Change); 3] = [
        ("opened", |at| sys::open(at, OFlags::RDWR).map(drop)),
        ("chmod", |at| sys::chmod(at, 0o600)),
        ("cut", |at| sys::truncate(at, 200_000)),
    ];
    let data = pattern(300_000, 7);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower_on(Fs::Ext4, |l| {
            for (name, _) in changes {
                l.file(name, "");
                sys::truncate(l.at(name), data.len() as u64).works();
            }
        })
        .mount();
    let group = Fanotify::new(t, &o.l(0, "/"), libc::FAN_CLASS_PRE_CONTENT);
    for (name, change) in changes {
        // Opened before it is marked, so that nobody is asked about what is put there.
        let store = sys::open(o.l(0, name), OFlags::RDWR).works();
        if let Err(e) = group.mark(0, FAN_PRE_ACCESS, &o.l(0, name)) {
            assert_eq!(e.errno, Errno::INVAL);
            t.skip("the kernel has no FAN_PRE_ACCESS");
        }
        let at = o.m(name);
        let mut changed = crate::watch::start(name, move || change(&at));
        let mut asked = 0;
        while !changed.is_done() {
            for fd in group.read().iter().filter_map(|event| event.fd.as_ref()) {
                asked += 1;
                sys::pwrite(&store, &data, 0).works();
                group.answer(fd, true);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        changed.finish().works();
        assert_ne!(asked, 0, "{name}: nobody asked for the data");
        let copy = sys::read_file(o.u(name)).works();
        let size = if name == "cut" { 200_000 } else { data.len() };
        assert!(copy == data[..size], "{name}: not the data");
    }
    // Who says no is obeyed.
    sys::write_file(o.l(0, "no"), "").works();
    sys::truncate(o.l(0, "no"), 5000).works();
    group.mark(0, FAN_PRE_ACCESS, &o.l(0, "no")).works();
    let at = o.m("no");
    let mut refused = crate::watch::start("no", move || sys::chmod(&at, 0o600));
    while !refused.is_done() {
        for fd in group.read().iter().filter_map(|event| event.fd.as_ref()) {
            group.answer(fd, false);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    refused.finish().fails(Errno::PERM);
    assert!(!sys::exists(o.u("no")));
}

/// A descriptor from before the copy-up, of which a map is the first use after it:
/// the map is made with the address space locked, and who has to be asked for
/// permission to open the copy may look at that address space before he answers.
fn maps_of_old_descriptors_ask_nobody(t: &T) {
    t.better_than_overlay("an old descriptor is mapped from the lower file forever");
    const NAMES: [&str; 2] = ["f", "g"];
    let own = t.own_fs(Fs::Ext4, 32);
    let o = t
        .stack()
        .lower(|l| {
            for name in NAMES {
                l.file(name, pattern(8192, 1));
            }
        })
        .upper_in(&own.at)
        .mount();
    let read_only = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::pwrite(&sys::open(o.m("f"), OFlags::RDWR).works(), "NEW", 0).works();
    // That one goes over to the copy, too: it is made when this has been opened.
    let writable = sys::open(o.m("g"), OFlags::RDWR | OFlags::TRUNC).works();
    sys::truncate(o.m("g"), 4096).works();
    let group = Fanotify::new(t, &own.at, libc::FAN_CLASS_CONTENT);
    let mask = libc::FAN_OPEN_PERM;
    if let Err(e) = group.mark(libc::FAN_MARK_FILESYSTEM, mask, &own.at) {
        assert_eq!(e.errno, Errno::INVAL);
        t.skip("the kernel has no permission events");
    }
    for (name, fd) in NAMES.iter().zip([&read_only, &writable]) {
        let mapper = crate::watch::Process::start("map", || {
            let write = *name == "g";
            let map = Map::new(fd, 4096, write, true).works();
            if write {
                map.put(0, b"NEW");
            }
            i32::from(map.get(0, 3) != b"NEW")
        });
        let pid = mapper.pid();
        let mut asked = 0;
        let mut status = None;
        crate::watch::until("the map is made", || {
            for fd in group.read().iter().filter_map(|event| event.fd.as_ref()) {
                asked += 1;
                let path = format!("/proc/{pid}/smaps_rollup");
                let look = crate::watch::start("a look at the address space", move || {
                    std::fs::read(path).is_ok()
                });
                assert!(look.finish());
                group.answer(fd, true);
            }
            status = crate::env::try_wait(pid);
            status.is_some()
        });
        assert_eq!((status, asked), (Some(0), 0), "{name}");
    }
    // Who is asked for all else is asked as before.
    let fd = read_only.try_clone().expect("dup");
    let mut reader = crate::watch::start("read", move || sys::pread(&fd, 3, 0));
    let mut asked = 0;
    while !reader.is_done() {
        for fd in group.read().iter().filter_map(|event| event.fd.as_ref()) {
            asked += 1;
            group.answer(fd, true);
        }
    }
    assert_eq!(reader.finish().works(), b"NEW");
    assert_eq!(asked, 1, "to read");
    drop(group);
    drop((read_only, writable));
    assert_eq!(sys::read_file(o.u("g")).works()[..3], *b"NEW");
    o.umount();
    own.umount_and_check();
    own.mount();
    o.mount().works();
}

/// File ids tell objects apart, and stay with them: over a copy-up, and while
/// nothing of them is in memory.
fn file_ids(t: &T) {
    for other in [false, true] {
        let many = |l: &Tree| {
            for i in 0..20 {
                l.file(format!("{}{i}", if other { "f" } else { "g" }), "x");
            }
        };
        let stack = t.stack().lower(|l| {
            fill(l);
            many(l);
        });
        let stack = if other {
            stack.lower_on(Fs::Other, |l| {
                for i in 0..20 {
                    l.file(format!("other/h{i}"), "x");
                }
            })
        } else {
            stack
        };
        let o = stack.mount();
        let ids = || -> BTreeMap<PathBuf, (i32, Vec<u8>)> {
            let mut all = BTreeMap::new();
            let mut dirs = vec![o.m("/")];
            while let Some(dir) = dirs.pop() {
                for name in sys::names(&dir).works() {
                    let at = dir.join(name);
                    all.insert(at.clone(), file_id(&at).works());
                    if at.is_dir() && !at.is_symlink() {
                        dirs.push(at);
                    }
                }
            }
            all
        };
        let before = ids();
        let mut seen = BTreeMap::new();
        for (path, id) in &before {
            if let Some(twin) = seen.insert(id.clone(), path) {
                panic!("{path:?} and {twin:?} have the same file id");
            }
        }
        for name in ["f", "sub/k"] {
            sys::append_file(o.m(name), "+").works();
        }
        sys::lchown(o.m("s"), 1, 1).works();
        assert_eq!(ids(), before, "after copy-up");
        std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
        let after = ids();
        for (path, id) in &before {
            // Directories of several file systems have a number of the mount
            // while they are in memory.
            if !other || !path.is_dir() {
                assert_eq!(
                    after.get(path),
                    Some(id),
                    "{path:?} after the cache was dropped"
                );
            }
        }
    }
}

/// A new file in the place of another on the disk is another file.
fn file_ids_are_not_used_again(t: &T) {
    let o = t.stack().lower(|_| {}).mount();
    let mut seen = BTreeMap::new();
    for i in 0..50 {
        sys::write_file(o.m("f"), "x").works();
        let id = file_id(&o.m("f")).works();
        assert_eq!(seen.insert(id, i), None, "file id used again");
        sys::unlink(o.m("f")).works();
    }
}

/// Who watches a layer is told what is done there, and who watches the merged
/// tree nothing of it; what is done to the merged tree is told there once.
fn layers_tell_nothing_twice(t: &T) {
    let o = t
        .stack()
        .lower(fill)
        .upper(|u| {
            u.file("u", "upper");
        })
        .mount();
    let mut merged = Inotify::new();
    merged.watch("merged", &o.m("/"));
    merged.watch("f", &o.m("f"));
    merged.watch("u", &o.m("u"));
    let mut layers = Inotify::new();
    layers.watch("lower", &o.l(0, "/"));
    layers.watch("upper", &o.u("/"));
    let _ = (merged.events(), layers.events());
    // Somebody looks into the layers.
    sys::read_file(o.l(0, "f")).works();
    sys::read_file(o.u("u")).works();
    assert_eq!(merged.events(), [""; 0], "of the layers");
    let seen = layers.events();
    assert!(
        seen.iter()
            .any(|e| e.starts_with("upper: ") && e.ends_with(" u")),
        "{seen:?}"
    );
    assert!(
        seen.iter()
            .any(|e| e.starts_with("lower: ") && e.ends_with(" f")),
        "{seen:?}"
    );
    sys::append_file(o.m("u"), "+").works();
    let events = merged.events();
    let modified = |events: &[String], whose: &str| {
        let head = format!("{whose}: ");
        let of = events.iter().filter(|e| e.starts_with(&head));
        of.filter(|e| e.contains("MODIFY")).count()
    };
    assert_eq!(modified(&events, "merged"), 1, "{events:?}");
    assert_eq!(modified(&events, "u"), 1, "{events:?}");
}
