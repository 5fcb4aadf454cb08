// SPDX-License-Identifier: GPL-2.0

//! R11: `mmap` and `execve` against copy-up: no torn pages, and `ETXTBSY` where
//! a plain filesystem gives it.
//!
//! A mapping that was made before the copy-up goes on showing the lower file, as
//! with overlayfs; a mapping made later shows the copy. No page of either is
//! partly of the one and partly of the other.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::ops::UPPERS;
use super::ways::{beside, WAYS};
use crate::env::{threads, T};
use crate::pause::{self, Pause, Point};
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, Map, OFlags, Res};
use crate::tree::pattern;
use crate::watch::{start, until};

pub fn tests() -> Vec<Test> {
    let test = |name, run| Test::new(module_path!(), name, run);
    vec![
        test("R11_mapped_before_the_copy_up", mapped_before).uppers(&UPPERS),
        test("R11_mapped_at_each_pause_point", mapped_at_each_point),
        test("R11_no_torn_pages", no_torn_pages),
        test("R11_text_busy_as_on_a_plain_filesystem", text_busy),
        test("R11_text_busy_by_a_mapping", text_busy_by_a_mapping),
        test("R11_runs_on_through_copy_up", runs_on),
        test("R11_executed_during_copy_up", executed_during_copy_up),
        test("R11_executed_at_each_pause_point", executed_at_each_point),
    ]
}

const PAGE: usize = 4096;
const SIZE: usize = 16 * PAGE;

fn name(i: usize) -> String {
    format!("d/f{i}")
}

/// Each page is all of one of these.
#[track_caller]
fn not_torn(map: &Map, choices: &[&[u8]], what: &str) {
    for at in (0..SIZE).step_by(PAGE) {
        let page = map.get(at, PAGE);
        assert!(
            choices.iter().any(|c| page == c[at..at + PAGE]),
            "{what}: the page at {at} is of neither file"
        );
    }
}

fn mapped_before(t: &T) {
    let old = pattern(SIZE, 1);
    let new = pattern(SIZE, 2);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..WAYS.len() {
                l.file(name(i), &old);
            }
        })
        .mount();
    for (i, way) in WAYS.iter().enumerate() {
        let fd = sys::open(o.m(name(i)), OFlags::RDONLY).works();
        let shared = Map::new(&fd, SIZE, false, true).works();
        let private = Map::new(&fd, SIZE, true, false).works();
        // Some pages are there already and some come in later.
        assert_eq!(shared.get(0, PAGE), old[..PAGE]);
        private.put(3 * PAGE, b"PRIVATE");
        (way.run)(&o, &name(i)).works();
        way.check_done(&o, &name(i), &old);
        not_torn(&shared, &[&old], way.name);
        let at = if way.moves { beside(&name(i)) } else { name(i) };
        let writer = sys::open(o.m(at), OFlags::RDWR).works();
        let later = Map::new(&fd, SIZE, false, true).works();
        sys::pwrite(&writer, &new, 0).works();
        not_torn(&later, &[&new], way.name);
        not_torn(&shared, &[&old, &new], way.name);
        assert_eq!(private.get(3 * PAGE, 7), b"PRIVATE");
        let mut mine = old.clone();
        mine[3 * PAGE..3 * PAGE + 7].copy_from_slice(b"PRIVATE");
        not_torn(&private, &[&mine, &new], way.name);
        // A shared mapping for writing is of the copy, and seen by all.
        let wide = Map::new(&writer, SIZE, true, true).works();
        wide.put(5 * PAGE + 10, b"MAPPED");
        assert_eq!(sys::pread(&fd, 6, 5 * PAGE as u64 + 10).works(), b"MAPPED");
        assert_eq!(later.get(5 * PAGE + 10, 6), b"MAPPED");
        wide.sync().works();
    }
    o.remount();
    let mut want = new;
    want[5 * PAGE + 10..5 * PAGE + 16].copy_from_slice(b"MAPPED");
    assert!(sys::read_file(o.m(name(0))).works() == want);
}

fn mapped_at_each_point(t: &T) {
    let old = pattern(SIZE, 1);
    let new = pattern(SIZE, 2);
    pause::need(t);
    for point in Point::OF_LEADER {
        let o = t
            .stack()
            .lower(|l| {
                l.file("f", &old);
            })
            .mount();
        let armed = Pause::once(point);
        let path = o.m("f");
        let writer = start("open and write", {
            let new = new.clone();
            move || {
                let fd = sys::open(path, OFlags::RDWR).works();
                sys::pwrite(&fd, new, 0).works();
            }
        });
        armed.wait_standing(1);
        let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
        let shared = Map::new(&fd, SIZE, false, true).works();
        not_torn(&shared, &[&old], &point.to_string());
        let private = Map::new(&fd, SIZE, true, false).works();
        private.put(0, b"x");
        armed.go_on();
        writer.finish();
        not_torn(&shared, &[&old, &new], &point.to_string());
        let later = Map::new(&fd, SIZE, false, true).works();
        not_torn(&later, &[&new], &point.to_string());
        assert_eq!(private.get(0, 1), b"x");
    }
}

/// Whole pages are written while others look, through mappings of all ages.
fn no_torn_pages(t: &T) {
    let rounds = t.scaled(30, 6);
    let (old, new) = (vec![b'o'; SIZE], vec![b'n'; SIZE]);
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..rounds {
                l.file(name(i), &old);
            }
        })
        .mount();
    for i in 0..rounds {
        let done = AtomicBool::new(false);
        let path = o.m(name(i));
        let fd = sys::open(&path, OFlags::RDONLY).works();
        let early = Map::new(&fd, SIZE, false, true).works();
        let reader = || {
            let mut last = false;
            while !last {
                last = done.load(Ordering::Relaxed);
                let fd = sys::open(&path, OFlags::RDONLY).works();
                let map = Map::new(&fd, SIZE, false, true).works();
                for at in (0..SIZE).step_by(PAGE) {
                    let page = map.get(at, PAGE);
                    // Bytes of a page may be of two moments, not of two files.
                    assert!(page.iter().all(|b| *b == b'o' || *b == b'n'), "page {at}");
                }
                drop(map);
            }
            let map = Map::new(&fd, SIZE, false, true).works();
            not_torn(&map, &[&new], "after the last write");
        };
        let writer = || {
            let fd = sys::open(&path, OFlags::RDWR);
            if let Ok(fd) = &fd {
                sys::pwrite(fd, &new, 0).works();
            }
            done.store(true, Ordering::Relaxed);
            fd.works();
        };
        let all: [Box<dyn FnOnce() + Send>; 3] =
            [Box::new(writer), Box::new(reader), Box::new(reader)];
        threads(all.into_iter().collect());
        not_torn(&early, &[&old, &new], "the first mapping");
        assert!(sys::read_file(o.u(name(i))).works() == new);
    }
}

/// A program in the given place.
fn install(at: &Path) {
    let data = std::fs::read("/bin/sleep").expect("/bin/sleep");
    sys::write_file(at, data).works();
    sys::chmod(at, 0o755).works();
}

fn spawn(at: &Path) -> Result<Child, Errno> {
    let mut command = Command::new(at);
    let spawned = command.arg("1000").stdin(Stdio::null()).spawn();
    spawned.map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
}

/// Runs until it is stopped.
struct Running(Child);

impl Running {
    #[track_caller]
    fn start(at: &Path) -> Running {
        Running(spawn(at).unwrap_or_else(|e| panic!("exec of {at:?}: {}", sys::errno_name(e))))
    }

    #[track_caller]
    fn stop(mut self) {
        let early = self.0.try_wait().expect("wait");
        assert!(early.is_none(), "the program died: {early:?}");
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
        std::mem::forget(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn errno<X>(r: Res<X>) -> Option<Errno> {
    r.err().map(|e| e.errno)
}

/// What comes of each step with programs that are being executed or written.
/// There are ten programs, `p0` to `p9`, in `dir`.
fn busy_steps(dir: &Path) -> Vec<(&'static str, Option<Errno>)> {
    let p = |i: usize| dir.join(format!("p{i}"));
    let mut out = Vec::new();
    let mut note = |what, e| out.push((what, e));

    let run = Running::start(&p(0));
    note("open for writing", errno(sys::open(p(0), OFlags::RDWR)));
    note(
        "open with O_TRUNC",
        errno(sys::open(p(0), OFlags::WRONLY | OFlags::TRUNC)),
    );
    let flags = OFlags::RDONLY | OFlags::TRUNC;
    note(
        "open for reading with O_TRUNC",
        errno(sys::open(p(0), flags)),
    );
    note("truncate", errno(sys::truncate(p(0), 10)));
    note("open for reading", errno(sys::open(p(0), OFlags::RDONLY)));
    note("chmod", errno(sys::chmod(p(0), 0o700)));
    note(
        "open for writing after chmod",
        errno(sys::open(p(0), OFlags::RDWR)),
    );
    note("truncate after chmod", errno(sys::truncate(p(0), 10)));
    note("link", errno(sys::link(p(0), dir.join("link"))));
    note(
        "open of the link",
        errno(sys::open(dir.join("link"), OFlags::RDWR)),
    );
    note("rename", errno(sys::rename(p(0), dir.join("moved"))));
    note(
        "open after rename",
        errno(sys::open(dir.join("moved"), OFlags::RDWR)),
    );
    note(
        "exec after all",
        spawn(&dir.join("moved")).map(|c| Running(c).stop()).err(),
    );
    run.stop();
    note(
        "open when it has ended",
        errno(sys::open(dir.join("moved"), OFlags::RDWR)),
    );

    let fd = sys::open(p(1), OFlags::RDWR).works();
    note(
        "exec of what is open for writing",
        spawn(&p(1)).map(|c| Running(c).stop()).err(),
    );
    drop(fd);
    note(
        "exec when it is closed",
        spawn(&p(1)).map(|c| Running(c).stop()).err(),
    );

    let fd = sys::open(p(2), OFlags::RDONLY).works();
    note(
        "exec of what is open for reading",
        spawn(&p(2)).map(|c| Running(c).stop()).err(),
    );
    drop(fd);

    let run = Running::start(&p(4));
    note("unlink", errno(sys::unlink(p(4))));
    run.stop();

    let run = Running::start(&p(5));
    note("rename of another over it", errno(sys::rename(p(6), p(5))));
    note("open of the other", errno(sys::open(p(5), OFlags::RDWR)));
    run.stop();
    out
}

/// The same with a mapping for writing that outlives its descriptor.
fn mapped_steps(dir: &Path) -> Vec<(&'static str, Option<Errno>)> {
    let p = |i: usize| dir.join(format!("p{i}"));
    let mut out = Vec::new();
    let mut note = |what, e| out.push((what, e));
    let fd = sys::open(p(3), OFlags::RDWR).works();
    let map = Map::new(&fd, 4096, true, true).works();
    drop(fd);
    note(
        "exec of what is mapped for writing",
        spawn(&p(3)).map(|c| Running(c).stop()).err(),
    );
    drop(map);
    note(
        "exec when it is unmapped",
        spawn(&p(3)).map(|c| Running(c).stop()).err(),
    );
    out
}

type Steps = fn(&Path) -> Vec<(&'static str, Option<Errno>)>;

fn text_busy(t: &T) {
    as_on_a_plain_filesystem(t, busy_steps);
}

fn text_busy_by_a_mapping(t: &T) {
    as_on_a_plain_filesystem(t, mapped_steps);
}

fn as_on_a_plain_filesystem(t: &T, steps: Steps) {
    let plain = t.new_dir("plain");
    (0..10).for_each(|i| install(&plain.join(format!("p{i}"))));
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
            (0..10).for_each(|i| install(&l.at(format!("d/p{i}"))));
        })
        .mount();
    let want = steps(&plain);
    let found = steps(&o.m("d"));
    for (w, f) in want.iter().zip(&found) {
        assert_eq!(w, f, "on a plain file system, and here");
    }
    assert!(want.iter().any(|(_, e)| *e == Some(Errno::TXTBSY)));
}

fn program(o: &crate::stack::Overlay, i: usize) -> PathBuf {
    o.m(format!("d/p{i}"))
}

/// A program that is executed goes on while its file is copied up, by all ways
/// that do not open it for writing.
fn runs_on(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
            (0..WAYS.len()).for_each(|i| install(&l.at(format!("d/p{i}"))));
        })
        .mount();
    let data = std::fs::read("/bin/sleep").expect("/bin/sleep");
    for (i, way) in WAYS.iter().enumerate() {
        let path = format!("d/p{i}");
        let run = Running::start(&program(&o, i));
        match (way.run)(&o, &path) {
            Ok(()) => way.check_done(&o, &path, &data),
            Err(e) => {
                assert_eq!(e.errno, Errno::TXTBSY, "{}: {e:?}", way.name);
                // Nothing is copied for that.
                assert!(!sys::exists(o.u(&path)), "{}", way.name);
            }
        }
        std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
        run.stop();
    }
}

/// Started again and again while it is copied up, it runs or is busy.
fn executed_during_copy_up(t: &T) {
    let rounds = t.scaled(10, 3);
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
            (0..rounds).for_each(|i| install(&l.at(format!("d/p{i}"))));
        })
        .mount();
    for i in 0..rounds {
        let path = program(&o, i);
        let at = path.clone();
        let mut copier = start("chmod, open for writing", move || {
            sys::chmod(&at, 0o711).works();
            let opened = sys::open(&at, OFlags::RDWR).map(drop);
            if let Err(e) = opened {
                assert_eq!(e.errno, Errno::TXTBSY);
            }
        });
        until("it was copied up", || {
            match spawn(&path) {
                Ok(child) => Running(child).stop(),
                Err(e) => assert_eq!(e, Errno::TXTBSY),
            }
            copier.is_done()
        });
        copier.finish();
        Running::start(&path).stop();
    }
}

fn executed_at_each_point(t: &T) {
    pause::need(t);
    for point in Point::OF_LEADER {
        let o = t
            .stack()
            .lower(|l| {
                l.dir("d");
                (0..2).for_each(|i| install(&l.at(format!("d/p{i}"))));
            })
            .mount();
        // A copy-up for chmod is no writing: it can be executed meanwhile, but
        // the chmod holds the inode, and to execute takes no lock of it.
        let armed = Pause::once(point);
        let path = program(&o, 0);
        let at = path.clone();
        let chmod = start("chmod", move || sys::chmod(at, 0o711));
        armed.wait_standing(1);
        let run = Running::start(&path);
        armed.go_on();
        chmod.finish().works();
        run.stop();
        // Who opens it for writing has it busy from the beginning.
        let armed = Pause::once(point);
        let path = program(&o, 1);
        let at = path.clone();
        let open = start("open", move || sys::open(at, OFlags::RDWR));
        armed.wait_standing(1);
        assert_eq!(
            spawn(&path).map(|c| Running(c).stop()).err(),
            Some(Errno::TXTBSY)
        );
        armed.go_on();
        drop(open.finish().works());
        Running::start(&path).stop();
    }
}
