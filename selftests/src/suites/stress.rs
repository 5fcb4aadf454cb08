// SPDX-License-Identifier: GPL-2.0

//! All of it at once, for as long as asked: `make check-stress MINUTES=10`.
//!
//! The time is cut into rounds, each with a fresh overlay. In a round, some
//! threads own files, do anything to them in directories that all share, and
//! know what each must be: a model. Others disturb: they open the same files for
//! writing and write nothing, read them, list, freeze the upper filesystem, drop
//! caches, kill processes which copy, slow down or stop the lower filesystem, and
//! arm pause points if there are any. Then all is compared with the model: the
//! merged tree, that after another mount, and the upper filesystem's fsck.
//!
//! `ROVL_MINUTES` says how long (1 by default), `ROVL_SEED` repeats a run as far
//! as the scheduler allows.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::copyup::kills::in_process;
use super::copyup::ways::{beside, WAYS};
use crate::env::{Fs, OwnFs, T};
use crate::fuse::Fuse;
use crate::pause::Point;
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags};
use crate::tree::pattern;

pub fn tests() -> Vec<Test> {
    vec![test!(copyup).only_by_name().long(3)]
}

/// Owners of files, files of each, and directories that all share.
const OWNERS: usize = 4;
const FILES: usize = 40;
const DIRS: usize = 4;
/// How many different lower files there are; each has many names.
const KINDS: usize = 8;
/// Files for processes that are killed.
const KILLED: usize = 300;
const BLOCK: usize = 4096;
/// The beginning of a block is what writes change, the rest tells whose it is.
const TAG: usize = 16;

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % limit as u64) as usize
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name).ok().filter(|v| !v.is_empty()) {
        None => default,
        Some(v) => v
            .parse()
            .unwrap_or_else(|_| panic!("{name}={v} is no number")),
    }
}

fn block(kind: usize, tag: u64) -> Vec<u8> {
    let mut block = pattern(BLOCK, 1000 + kind as u64);
    block[..TAG].copy_from_slice(&[tag.to_le_bytes(), tag.to_le_bytes()].concat());
    block
}

fn blocks_of(kind: usize) -> usize {
    [0, 1, 3, 16, 40, 100, 200, 300][kind % KINDS]
}

fn lower_data(kind: usize) -> Vec<u8> {
    (0..blocks_of(kind)).flat_map(|_| block(kind, 0)).collect()
}

/// What a file must be.
#[derive(Clone)]
struct File {
    kind: usize,
    /// The tag of each block, `None` where it is a hole.
    blocks: Vec<Option<u64>>,
    mode: u32,
    owner: (u32, u32),
    mtime: Option<i64>,
    xattr: Option<u64>,
}

impl File {
    fn lower(kind: usize) -> File {
        File {
            kind,
            blocks: vec![Some(0); blocks_of(kind)],
            mode: 0o644,
            owner: (0, 0),
            mtime: None,
            xattr: None,
        }
    }

    fn data(&self) -> Vec<u8> {
        let one = |tag: &Option<u64>| tag.map_or_else(|| vec![0; BLOCK], |t| block(self.kind, t));
        self.blocks.iter().flat_map(one).collect()
    }

    fn set_size(&mut self, blocks: usize) {
        self.blocks.resize(blocks, None);
        self.mtime = None;
    }

    #[track_caller]
    fn check(&self, path: &Path) {
        let st = sys::stat(path).works();
        assert_eq!(sys::mode_of(&st), self.mode, "mode of {path:?}");
        assert_eq!((st.st_uid, st.st_gid), self.owner, "owner of {path:?}");
        assert_eq!(
            st.st_size as usize,
            self.blocks.len() * BLOCK,
            "size of {path:?}"
        );
        if let Some(mtime) = self.mtime {
            assert_eq!(st.st_mtime, mtime, "mtime of {path:?}");
        }
        let xattr = sys::xattr_opt(path, "user.stress");
        assert_eq!(
            xattr,
            self.xattr.map(|x| x.to_string().into_bytes()),
            "xattr of {path:?}"
        );
        assert!(
            sys::read_file(path).works() == self.data(),
            "data of {path:?}"
        );
    }
}

/// The files of one owner: by name, which file it is.
struct Owner<'a> {
    o: &'a Overlay,
    me: usize,
    random: Random,
    names: BTreeMap<String, usize>,
    files: Vec<File>,
    tag: u64,
    done: usize,
}

fn lower_name(owner: usize, i: usize) -> String {
    format!("d{}/o{owner}-{i}", i % DIRS)
}

fn kind_of(owner: usize, i: usize) -> usize {
    (owner + i) % KINDS
}

impl Owner<'_> {
    fn new(o: &Overlay, me: usize, seed: u64) -> Owner<'_> {
        let mut owner = Owner {
            o,
            me,
            random: Random::new(seed),
            names: BTreeMap::new(),
            files: Vec::new(),
            tag: 0,
            done: 0,
        };
        for i in 0..FILES {
            owner.names.insert(lower_name(me, i), i);
            owner.files.push(File::lower(kind_of(me, i)));
        }
        owner
    }

    fn pick(&mut self) -> Option<(String, usize)> {
        let count = self.names.len().max(1);
        let at = self.random.below(count);
        self.names.iter().nth(at).map(|(n, f)| (n.clone(), *f))
    }

    fn new_name(&mut self) -> String {
        let (dir, i) = (self.random.below(DIRS), self.random.below(2 * FILES));
        format!("d{dir}/o{}-{i}", self.me)
    }

    fn next_tag(&mut self) -> u64 {
        self.tag += 1;
        self.tag
    }

    /// One random operation, done to the tree and to the model.
    fn step(&mut self) {
        self.done += 1;
        let Some((name, file)) = self.pick() else {
            return self.create();
        };
        let path = self.o.m(&name);
        match self.random.below(16) {
            0..=3 => self.write(&path, file),
            4 => {
                let mode = [0o644, 0o600, 0o640][self.random.below(3)];
                sys::chmod(&path, mode).works();
                self.files[file].mode = mode;
            }
            5 => {
                let owner = (self.random.below(5) as u32, self.random.below(5) as u32);
                sys::lchown(&path, owner.0, owner.1).works();
                self.files[file].owner = owner;
            }
            6 => {
                let time = self.random.below(1 << 30) as i64;
                sys::set_times(&path, (time, 0), (time, 0)).works();
                self.files[file].mtime = Some(time);
            }
            7 => {
                let value = self.next_tag();
                sys::set_xattr(&path, "user.stress", value.to_string()).works();
                self.files[file].xattr = Some(value);
            }
            8 => {
                let size = self.random.below(self.files[file].blocks.len() + 2);
                sys::truncate(&path, (size * BLOCK) as u64).works();
                self.files[file].set_size(size);
            }
            9 => {
                drop(sys::open(&path, OFlags::WRONLY | OFlags::TRUNC).works());
                self.files[file].set_size(0);
            }
            10 | 11 => self.rename(&name, file),
            12 => {
                let new = self.new_name();
                match sys::link(&path, self.o.m(&new)) {
                    Ok(()) => drop(self.names.insert(new, file)),
                    Err(e) => {
                        assert_eq!(e.errno, Errno::EXIST, "{e:?}");
                        assert!(self.names.contains_key(&new), "{new} should not exist");
                    }
                }
            }
            13 => {
                sys::unlink(&path).works();
                self.names.remove(&name);
            }
            14 => self.create(),
            _ => self.files[file].check(&path),
        }
    }

    fn write(&mut self, path: &Path, file: usize) {
        let fd = sys::open(path, OFlags::RDWR).works();
        let tag = self.next_tag();
        let f = &mut self.files[file];
        f.mtime = None;
        let at = self.random.below(f.blocks.len() + 1);
        let data = block(f.kind, tag);
        if at == f.blocks.len() {
            f.blocks.push(None);
        }
        // Within a block that is there the tag is enough.
        let len = if f.blocks[at].is_some() { TAG } else { BLOCK };
        f.blocks[at] = Some(tag);
        sys::pwrite(&fd, &data[..len], (at * BLOCK) as u64).works();
        let found = sys::pread(&fd, BLOCK, (at * BLOCK) as u64).works();
        assert!(found == data, "what was written to {path:?} is not read");
        if self.random.below(8) == 0 {
            sys::fsync(&fd).works();
        }
    }

    fn rename(&mut self, name: &str, file: usize) {
        let new = self.new_name();
        let there = self.names.get(&new).copied();
        sys::rename(self.o.m(name), self.o.m(&new)).works();
        // Between two names of one file it does nothing.
        if there != Some(file) {
            self.names.remove(name);
            self.names.insert(new, file);
        }
    }

    fn create(&mut self) {
        let (name, kind) = (self.new_name(), self.random.below(KINDS));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
        match sys::open_mode(self.o.m(&name), flags, 0o644) {
            Ok(fd) => {
                assert!(!self.names.contains_key(&name), "{name} should exist");
                sys::pwrite(&fd, block(kind, 7), 0).works();
                self.files.push(File {
                    blocks: vec![Some(7)],
                    ..File::lower(kind)
                });
                self.names.insert(name, self.files.len() - 1);
            }
            Err(e) => {
                assert_eq!(e.errno, Errno::EXIST, "{e:?}");
                assert!(self.names.contains_key(&name), "{name} should not exist");
            }
        }
    }

    /// All of them, and that names of one file are one inode.
    fn check_all(&self) {
        let mut inodes = BTreeMap::new();
        for (name, file) in &self.names {
            let path = self.o.m(name);
            self.files[*file].check(&path);
            let ino = sys::stat(&path).works().st_ino;
            let links = self.names.values().filter(|f| *f == file).count();
            if links > 1 {
                let first = *inodes.entry(*file).or_insert(ino);
                assert_eq!(first, ino, "{path:?} is another file than its other name");
                let nlink = sys::stat(self.o.u(name)).works().st_nlink as usize;
                assert_eq!(nlink, links, "links of {path:?}");
            }
        }
    }
}

/// Whether each block of a file is one of its kind. Who reads while another
/// writes may see any tag.
fn is_of_its_kind(data: &[u8], kinds: &[Vec<u8>]) -> bool {
    data.chunks(BLOCK).all(|b| {
        let rest = &b[TAG.min(b.len())..];
        rest.iter().all(|x| *x == 0) || kinds.iter().any(|k| rest == &k[TAG.min(b.len())..b.len()])
    })
}

struct Round<'a> {
    own: &'a OwnFs,
    f: Arc<Fuse>,
    o: Overlay,
    end: AtomicBool,
    failed: AtomicBool,
    killed: AtomicUsize,
}

fn pause(random: &mut Random, most: usize) {
    std::thread::sleep(Duration::from_millis(random.below(most) as u64));
}

impl Round<'_> {
    fn goes_on(&self) -> bool {
        !self.end.load(Ordering::Relaxed) && !self.failed.load(Ordering::Relaxed)
    }

    /// Opens files for writing and writes nothing; what it finds may be gone.
    fn opener(&self, random: &mut Random) {
        let name = lower_name(random.below(OWNERS), random.below(FILES));
        match sys::open(self.o.m(name), OFlags::RDWR) {
            Ok(fd) => drop(sys::fstat(&fd).works()),
            Err(e) => assert_eq!(e.errno, Errno::NOENT, "{e:?}"),
        }
    }

    fn reader(&self, random: &mut Random, kinds: &[Vec<u8>]) {
        let dir = self.o.m(format!("d{}", random.below(DIRS)));
        let mut names = sys::names(&dir).works();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{dir:?} lists a name twice");
        for _ in 0..3 {
            let name = &names[random.below(count)];
            let path = dir.join(name);
            match sys::read_file(&path) {
                Ok(data) => assert!(is_of_its_kind(&data, kinds), "{path:?} is a mixture"),
                // The lower ones of these fail now and then.
                Err(e) if e.errno == Errno::IO && name.starts_with('k') => {}
                Err(e) => assert_eq!(e.errno, Errno::NOENT, "{e:?}"),
            }
        }
    }

    fn freezer(&self, random: &mut Random) {
        pause(random, 300);
        let frozen = sys::Frozen::freeze(&self.own.at);
        pause(random, 40);
        drop(frozen);
    }

    fn slower(&self, random: &mut Random) {
        let kind = random.below(KINDS);
        let path = format!("kinds/{kind}");
        match random.below(3) {
            0 => {
                self.f
                    .stop_all_at(&path, random.below(blocks_of(kind) + 1) as u64 * 4096);
                pause(random, 100);
                self.f.go_on(&path);
            }
            1 => {
                self.f
                    .delay(&path, Some(Duration::from_millis(random.below(4) as u64)));
                pause(random, 200);
                self.f.delay(&path, None);
            }
            _ => {
                self.f.fail_at(
                    &format!("killed/{}", random.below(KINDS)),
                    4096,
                    Errno::IO,
                    Some(1),
                );
            }
        }
    }

    /// A process goes one of the ways with a file of its own and is killed, or
    /// not; the file is whole.
    fn killer(&self, random: &mut Random, kinds: &[Vec<u8>], i: usize) {
        let kind = random.below(KINDS);
        let path = format!("d{}/k{}", i % DIRS, i);
        let way = &WAYS[random.below(WAYS.len())];
        let process = in_process(|| (way.run)(&self.o, &path));
        pause(random, 20);
        if random.below(4) > 0 {
            process.kill();
            self.killed.fetch_add(1, Ordering::Relaxed);
        }
        process.finish();
        let moved = self.o.m(beside(&path));
        let found: Vec<Vec<u8>> = [self.o.m(&path), moved]
            .iter()
            .filter_map(|p| read_or_error(p))
            .collect();
        assert!(!found.is_empty(), "{path} is lost");
        for data in found {
            let whole = data.len() == blocks_of(i % KINDS) * BLOCK;
            assert!(
                whole && is_of_its_kind(&data, kinds),
                "{path} is not whole ({kind})"
            );
        }
    }

    fn points(&self, random: &mut Random) {
        let dir = Path::new("/sys/kernel/debug/rovl/pause");
        let all: Vec<Point> = Point::OF_LEADER
            .into_iter()
            .chain([Point::Waiter])
            .collect();
        let file = dir.join(all[random.below(all.len())].to_string());
        if dir.is_dir() {
            let how = ["once", "1"][random.below(2)];
            let _ = std::fs::write(&file, how);
            pause(random, 30);
            let _ = std::fs::write(&file, "0");
        }
        pause(random, 50);
    }
}

fn read_or_error(path: &Path) -> Option<Vec<u8>> {
    loop {
        match sys::read_file(path) {
            Ok(data) => return Some(data),
            Err(e) if e.errno == Errno::NOENT => return None,
            // The lower file fails now and then; the next one goes on.
            Err(e) => assert_eq!(e.errno, Errno::IO, "{e:?}"),
        }
    }
}

fn copyup(t: &T) {
    let minutes = number("ROVL_MINUTES", 1);
    let seed = number("ROVL_SEED", std::process::id().into());
    let start = Instant::now();
    let end = start + Duration::from_secs(60 * minutes);
    println!("# {minutes} minutes, ROVL_SEED={seed}");
    let mut round = 0;
    while round == 0 || Instant::now() < end {
        let fs = [Fs::Ext4, Fs::Xfs, Fs::Ext4, Fs::Btrfs][round % 4];
        one_round(t, fs, seed.wrapping_add(1000 * round as u64), end);
        round += 1;
    }
    println!("# {round} rounds");
}

fn one_round(t: &T, fs: Fs, seed: u64, last: Instant) {
    let own = t.own_fs(fs, 512);
    let f = t.fuse(|f| {
        for kind in 0..KINDS {
            f.file(&format!("kinds/{kind}"), lower_data(kind));
            f.file(&format!("killed/{kind}"), lower_data(kind));
        }
        for owner in 0..OWNERS {
            for i in 0..FILES {
                let kind = format!("kinds/{}", kind_of(owner, i));
                f.link(&kind, &lower_name(owner, i));
            }
        }
        for i in 0..KILLED {
            f.link(
                &format!("killed/{}", i % KINDS),
                &format!("d{}/k{i}", i % DIRS),
            );
        }
    });
    let o = t.stack().lower_fuse(&f).upper_in(&own.at).mount();
    let round = Round {
        own: &own,
        f,
        o: o.clone(),
        end: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        killed: AtomicUsize::new(0),
    };
    let kinds: Vec<Vec<u8>> = (0..KINDS).map(|k| block(k, 0)).collect();
    let mut owners: Vec<Owner<'_>> = (0..OWNERS)
        .map(|i| Owner::new(&o, i, seed + i as u64))
        .collect();
    let until = (Instant::now() + Duration::from_secs(20)).min(last + Duration::from_secs(5));
    let (r, kinds) = (&round, &kinds);
    std::thread::scope(|s| {
        let mut all = Vec::new();
        for owner in &mut owners {
            all.push(s.spawn(move || {
                run(r, &mut || owner.step());
            }));
        }
        let mut disturb = |number: u64, f: fn(&Round<'_>, &mut Random, &[Vec<u8>], usize)| {
            let mut random = Random::new(seed + 100 + number);
            all.push(s.spawn(move || {
                let mut i = 0;
                run(r, &mut || {
                    f(r, &mut random, kinds, i);
                    i += 1;
                });
            }));
        };
        disturb(0, |r, random, _, _| r.opener(random));
        disturb(1, |r, random, _, _| r.opener(random));
        disturb(2, |r, random, kinds, _| r.reader(random, kinds));
        disturb(3, |r, random, _, _| r.freezer(random));
        disturb(4, |r, random, _, _| r.slower(random));
        disturb(5, |r, random, _, _| r.points(random));
        disturb(6, |r, random, kinds, i| {
            if i < KILLED {
                r.killer(random, kinds, i);
            } else {
                pause(random, 100);
            }
        });
        disturb(7, |_, random, _, _| {
            let what = ["1", "2", "3"][random.below(3)];
            std::fs::write("/proc/sys/vm/drop_caches", what).expect("drop_caches");
            pause(random, 200);
        });
        while Instant::now() < until && r.goes_on() {
            std::thread::sleep(Duration::from_millis(50));
        }
        r.end.store(true, Ordering::Relaxed);
        for handle in all {
            if let Err(e) = handle.join() {
                std::panic::resume_unwind(e);
            }
        }
    });
    for kind in 0..KINDS {
        round.f.go_on(&format!("kinds/{kind}"));
        round.f.delay(&format!("kinds/{kind}"), None);
        round.f.fail_no_more(&format!("killed/{kind}"));
    }
    compare(&owners, &o, kinds);
    o.assert_no_strays();
    o.remount();
    compare(&owners, &o, kinds);
    let done: usize = owners.iter().map(|w| w.done).sum();
    println!(
        "# {}, seed {seed}: {done} operations, {} killed",
        fs.name(),
        round.killed.load(Ordering::Relaxed)
    );
    o.finish();
    o.work_not_checked();
    own.umount_and_check();
    std::fs::remove_file(&own.image).expect("image");
}

/// Does something again and again until the round ends or somebody fails.
fn run(round: &Round<'_>, step: &mut dyn FnMut()) {
    struct Failing<'a>(&'a Round<'a>);
    impl Drop for Failing<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.failed.store(true, Ordering::Relaxed);
            }
        }
    }
    let _failing = Failing(round);
    while round.goes_on() {
        step();
    }
}

/// The merged tree is what the owners say, and nothing else.
fn compare(owners: &[Owner<'_>], o: &Overlay, kinds: &[Vec<u8>]) {
    for owner in owners {
        owner.check_all();
    }
    for dir in 0..DIRS {
        let dir = format!("d{dir}");
        for name in sys::names(o.m(&dir)).works() {
            let path = format!("{dir}/{name}");
            if let Some(rest) = name.strip_prefix('k') {
                let i: usize = rest.trim_end_matches(".new").parse().expect("number");
                assert!(i < KILLED, "{path}");
                let data = sys::read_file(o.m(&path)).works();
                assert!(is_of_its_kind(&data, kinds), "{path}");
                assert_eq!(data.len(), blocks_of(i % KINDS) * BLOCK, "{path}");
                continue;
            }
            let known = owners.iter().any(|w| w.names.contains_key(&path));
            assert!(known, "{path} should not exist");
        }
    }
}
