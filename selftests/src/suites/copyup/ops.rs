// SPDX-License-Identifier: GPL-2.0

//! What the tests of races have in common: the ways into the copy-up engine, the
//! operations that meet them, and what must hold whatever the interleaving.
//!
//! Each race has a directory of its own with the object `f`, another one of its
//! kind, `g`, and a file `other`. It is run on the overlay, with the copy-up
//! held somewhere, and on a plain directory in both orders, one after the other.
//! The results and the tree must be those of one of the two orders, and the upper
//! layer must have what this tree needs and nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::env::{Fs, OwnFs, T};
use crate::fuse::{Fuse, FuseTree, PIECE};
use crate::pause::{Pause, Point};
use crate::stack::{Copies, Overlay};
use crate::sys::{self, Errno, Expect, FileType, OFlags, Res};
use crate::tree::{is_whiteout, pattern, sorted_or_none, Snapshot, Take, Tree};
use crate::watch::{start, Task};

/// All upper file systems besides ext4.
pub const UPPERS: [Fs; 4] = [Fs::Xfs, Fs::Btrfs, Fs::Tmpfs, Fs::NoTmpfile];
/// Copies that have a temporary name before their own.
pub const NO_TMPFILE: [Fs; 1] = [Fs::NoTmpfile];

/// How large the files are, and where in them the copy is held.
pub const SIZE: u64 = 5 * PIECE + 123;
pub const MIDDLE: u64 = 3 * PIECE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Device,
}

impl Kind {
    pub const OTHERS: [Kind; 4] = [Kind::Directory, Kind::Symlink, Kind::Fifo, Kind::Device];
    pub const ALL: [Kind; 5] = [
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
        Kind::Fifo,
        Kind::Device,
    ];
}

/// An operation on `f` in a directory.
pub struct Op {
    pub name: &'static str,
    on: &'static [Kind],
    /// The VFS calls it with the object or its directory locked, and so it still
    /// copies data under that lock.
    pub locked: bool,
    /// The kernel finds the object, and then refuses if it has lost its name in
    /// between, as it may on a plain file system, too.
    needs_name: bool,
    pub run: fn(&Path) -> Res<()>,
}

impl Op {
    /// One that has nothing to do with `f`.
    pub const fn other(name: &'static str, run: fn(&Path) -> Res<()>) -> Op {
        Op {
            name,
            on: &[],
            locked: false,
            needs_name: false,
            run,
        }
    }

    pub fn is_on(&self, kind: Kind) -> bool {
        self.on.contains(&kind)
    }
}

const FILE: &[Kind] = &[Kind::File];
const NO_SYMLINK: &[Kind] = &[Kind::File, Kind::Directory, Kind::Fifo, Kind::Device];
const NO_DIRECTORY: &[Kind] = &[Kind::File, Kind::Symlink, Kind::Fifo, Kind::Device];
const ACL_ON: &[Kind] = &[Kind::File, Kind::Directory];
const DIRECTORY: &[Kind] = &[Kind::Directory];

/// An access ACL that lets user 1000 read and write.
fn acl() -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0];
    let all = [
        (1u16, 6u16, u32::MAX),
        (2, 6, 1000),
        (4, 4, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 4, u32::MAX),
    ];
    for (tag, perm, id) in all {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

/// The ways into the engine, by an object of any kind.
pub const WAYS: [Op; 15] = [
    Op {
        name: "open and write",
        on: FILE,
        locked: false,
        needs_name: false,
        run: |d| sys::pwrite(&sys::open(d.join("f"), OFlags::RDWR)?, "written", 1),
    },
    Op {
        name: "append",
        on: FILE,
        locked: false,
        needs_name: false,
        run: |d| sys::append_file(d.join("f"), "appended"),
    },
    Op {
        name: "map and store",
        on: FILE,
        locked: false,
        needs_name: false,
        run: |d| {
            let fd = sys::open(d.join("f"), OFlags::RDWR)?;
            let map = sys::Map::new(&fd, SIZE as usize, true, true)?;
            map.put(4097, b"stored");
            map.sync()
        },
    },
    Op {
        name: "write by another fd of an old one",
        on: FILE,
        locked: false,
        needs_name: false,
        run: |d| {
            let old = sys::open(d.join("f"), OFlags::RDONLY)?;
            let again = sys::open(sys::fd_path(&old), OFlags::RDWR)?;
            sys::pwrite(&again, "written", 1)?;
            let seen = sys::pread(&old, 7, 1)?;
            assert_eq!(seen, b"written", "the old fd does not see the write");
            Ok(())
        },
    },
    Op {
        name: "chmod",
        on: NO_SYMLINK,
        locked: true,
        needs_name: false,
        run: |d| sys::chmod(d.join("f"), 0o606),
    },
    Op {
        name: "fchmod of an old fd",
        on: ACL_ON,
        locked: true,
        needs_name: false,
        run: |d| sys::fchmod(&sys::open(d.join("f"), OFlags::RDONLY)?, 0o606),
    },
    Op {
        name: "chown",
        on: &Kind::ALL,
        locked: true,
        needs_name: false,
        run: |d| sys::lchown(d.join("f"), 3, 4),
    },
    Op {
        name: "utimes",
        on: &Kind::ALL,
        locked: true,
        needs_name: false,
        run: |d| sys::set_times(d.join("f"), (5, 5), (6, 6)),
    },
    Op {
        name: "truncate",
        on: FILE,
        locked: true,
        needs_name: false,
        run: |d| sys::truncate(d.join("f"), SIZE - 1),
    },
    Op {
        name: "truncate to more",
        on: FILE,
        locked: true,
        needs_name: false,
        run: |d| sys::truncate(d.join("f"), SIZE + 10_000),
    },
    Op {
        name: "setxattr",
        on: &Kind::ALL,
        locked: true,
        needs_name: false,
        run: |d| sys::set_xattr(d.join("f"), "trusted.way", "y"),
    },
    Op {
        name: "set an ACL",
        on: ACL_ON,
        locked: true,
        needs_name: false,
        run: |d| sys::set_xattr(d.join("f"), "system.posix_acl_access", acl()),
    },
    Op {
        name: "link",
        on: NO_DIRECTORY,
        locked: true,
        needs_name: true,
        run: |d| sys::link(d.join("f"), d.join("k")),
    },
    Op {
        name: "rename",
        on: NO_DIRECTORY,
        locked: true,
        needs_name: false,
        run: |d| sys::rename(d.join("f"), d.join("h")),
    },
    Op {
        name: "create in it",
        on: DIRECTORY,
        locked: true,
        needs_name: true,
        run: |d| sys::write_file(d.join("f/new"), "new"),
    },
];

pub const UNLINK: Op = Op {
    name: "unlink",
    on: &Kind::ALL,
    locked: true,
    needs_name: false,
    run: |d| match sys::kind_of(&sys::lstat(d.join("f"))?) {
        FileType::Directory => sys::rmdir(d.join("f")),
        _ => sys::unlink(d.join("f")),
    },
};

pub const RENAME_OVER: Op = Op {
    name: "rename over it",
    on: &Kind::ALL,
    locked: true,
    needs_name: false,
    run: |d| sys::rename(d.join("g"), d.join("f")),
};

pub const RENAME_AWAY: Op = Op {
    name: "rename away",
    on: NO_DIRECTORY,
    locked: true,
    needs_name: false,
    run: |d| sys::rename(d.join("f"), d.join("away")),
};

/// The ways for one kind.
pub fn ways(kind: Kind) -> impl Iterator<Item = &'static Op> {
    const ALL: &[Op] = &WAYS;
    ALL.iter().filter(move |w| w.is_on(kind))
}

pub fn data(name: &str) -> Vec<u8> {
    pattern(SIZE as usize, u64::from(name.as_bytes()[0]))
}

const NULL: u64 = 0x103;

/// `f` and `g` of a kind, and `other`, below `dir` of the lower layer.
pub fn lay_out_lower(l: &mut FuseTree, dir: &str, kind: Kind) {
    l.file(&format!("{dir}/other"), "other");
    for name in ["f", "g"] {
        let at = format!("{dir}/{name}");
        match kind {
            Kind::File => drop(l.file(&at, data(name))),
            // A directory of a lower layer cannot be renamed, so `g` comes later.
            Kind::Directory if name == "g" => {}
            Kind::Directory => drop(l.dir(&at)),
            Kind::Symlink => drop(l.symlink(&at, &format!("target of {name}"))),
            Kind::Fifo => drop(l.node(&at, FileType::Fifo, 0)),
            Kind::Device => drop(l.node(&at, FileType::CharacterDevice, NULL)),
        }
    }
}

/// The same in a plain directory.
fn lay_out_plain(at: &Path, kind: Kind) {
    let l = Tree::new(at);
    l.file("other", "other");
    for name in ["f", "g"] {
        match kind {
            Kind::File => drop(l.file(name, data(name))),
            Kind::Directory if name == "g" => {}
            Kind::Directory => drop(l.dir(name)),
            Kind::Symlink => drop(l.symlink(name, &format!("target of {name}"))),
            Kind::Fifo => drop(l.fifo(name)),
            Kind::Device => drop(l.node(name, FileType::CharacterDevice, NULL)),
        }
    }
    last_preparations(at, kind);
}

/// What cannot be in a lower layer, and the copy-up of the directory itself.
pub fn last_preparations(at: &Path, kind: Kind) {
    sys::write_file(at.join("made"), "made").works();
    if kind == Kind::Directory {
        sys::mkdir(at.join("g"), 0o755).works();
    }
}

/// What is seen of a tree, with link counts.
#[derive(Clone, PartialEq)]
struct Seen {
    tree: Snapshot,
    links: BTreeMap<PathBuf, u64>,
}

impl Seen {
    #[track_caller]
    fn of(at: &Path) -> Seen {
        let mut tree = Snapshot::of(at, Take::OUTCOME);
        let mut links = BTreeMap::new();
        for (path, entry) in &mut tree.0 {
            if entry.kind != "Directory" {
                let st = sys::lstat(at.join(path)).works();
                links.insert(path.clone(), st.st_nlink);
            }
        }
        Seen { tree, links }
    }

    fn differences(&self, other: &Seen) -> Vec<String> {
        let mut out = self.tree.differences(&other.tree);
        if self.links != other.links {
            out.push(format!(
                "link counts {:?} against {:?}",
                self.links, other.links
            ));
        }
        out
    }
}

fn errno(r: &Res<()>) -> Option<Errno> {
    r.as_ref().err().map(|e| e.errno)
}

/// What came of two operations, and of the tree.
type Outcome = ([Option<Errno>; 2], Seen);

/// What comes of operations in a plain directory. It is the same wherever the
/// copy-up was held, and found out once.
pub struct Models<'a> {
    t: &'a T,
    known: RefCell<HashMap<Question, Outcome>>,
}

/// The kind, the two operations by their names, each of which has only one, and
/// their order.
type Question = (Kind, [&'static str; 2], &'static [usize]);

impl<'a> Models<'a> {
    pub fn new(t: &'a T) -> Models<'a> {
        let known = RefCell::default();
        Models { t, known }
    }

    /// What comes of doing those of two operations that `order` names, one after
    /// the other. One that is left out did not find the name.
    #[track_caller]
    fn in_order(&self, kind: Kind, ops: [&Op; 2], order: &'static [usize]) -> Outcome {
        let question = (kind, ops.map(|op| op.name), order);
        if let Some(known) = self.known.borrow().get(&question) {
            return known.clone();
        }
        let at = self.t.new_dir("plain");
        lay_out_plain(&at, kind);
        let mut results = [Some(Errno::NOENT); 2];
        for i in order {
            results[*i] = errno(&(ops[*i].run)(&at));
        }
        let outcome = (results, Seen::of(&at));
        crate::tree::remove_all(&at).expect("rm -r");
        self.known.borrow_mut().insert(question, outcome.clone());
        outcome
    }
}

/// The tree in `dir` is what `ops`, which all worked, make of a plain directory;
/// and the upper layer has what it needs and nothing else.
#[track_caller]
pub fn assert_as_plain(t: &T, o: &Overlay, dir: &str, kind: Kind, ops: &[&Op]) {
    let at = t.new_dir("plain");
    lay_out_plain(&at, kind);
    for op in ops {
        (op.run)(&at).works();
    }
    let diff = Seen::of(&o.m(dir)).differences(&Seen::of(&at));
    crate::tree::remove_all(&at).expect("rm -r");
    let names: Vec<_> = ops.iter().map(|op| op.name).collect();
    assert!(
        diff.is_empty(),
        "{dir} after {names:?}: {}",
        diff.join("; ")
    );
    assert_upper_exact(o, dir);
    o.assert_no_strays();
}

/// Nothing is in the upper layer but what the tree needs: objects that are seen,
/// with the same link count, and whiteouts of lower ones.
#[track_caller]
pub fn assert_upper_exact(o: &Overlay, dir: &str) {
    for name in sorted_or_none(&o.u(dir)) {
        let path = Path::new(dir).join(&name);
        if is_whiteout(o.u(&path)) {
            assert!(!sys::exists(o.m(&path)), "{path:?} is seen and whited out");
            assert!(sys::exists(o.l(0, &path)), "{path:?}: whiteout of nothing");
            continue;
        }
        let (u, m) = (sys::lstat(o.u(&path)).works(), sys::lstat(o.m(&path)));
        let m = m.unwrap_or_else(|e| panic!("{path:?} is in the upper layer only: {e:?}"));
        assert_eq!(sys::kind_of(&u), sys::kind_of(&m), "kind of {path:?}");
        if sys::kind_of(&u) == FileType::Directory {
            assert_upper_exact(o, path.to_str().expect("path"));
        } else {
            assert_eq!(u.st_nlink, m.st_nlink, "links of {path:?}");
        }
    }
    for name in sorted_or_none(&o.m(dir)) {
        let path = Path::new(dir).join(&name);
        let there = sys::exists(o.u(&path)) || sys::exists(o.l(0, &path));
        assert!(there, "{path:?} is in no layer");
    }
}

/// Where the copy-up is held while the other operation comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nowhere: both start at once.
    No,
    /// Its reading of the lower file.
    Data,
    At(Point),
}

impl Hold {
    /// Whether the way ever comes there.
    pub fn suits(self, kind: Kind) -> bool {
        match self {
            Hold::Data | Hold::At(Point::Chunk) => kind == Kind::File,
            Hold::At(Point::Waiter) => false,
            _ => true,
        }
    }
}

/// A file system for the upper layer, to be checked afterwards.
pub struct Upper<'a> {
    t: &'a T,
    own: Option<OwnFs>,
}

impl<'a> Upper<'a> {
    pub fn new(t: &'a T) -> Upper<'a> {
        let megabytes = match t.variant.upper {
            Fs::Xfs => 320,
            Fs::Btrfs => 192,
            _ => 64,
        };
        // There is no fsck of tmpfs.
        let own = (t.variant.upper != Fs::Tmpfs).then(|| t.own_fs(t.variant.upper, megabytes));
        Upper { t, own }
    }

    #[track_caller]
    pub fn mount(&self, lower: &Fuse) -> Overlay {
        let stack = self.t.stack().lower_fuse(lower);
        match &self.own {
            Some(own) => stack.upper_in(&own.at).mount(),
            None => stack.mount(),
        }
    }

    /// Where the file system is mounted, if it is the test's own.
    pub fn place(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.at.as_path())
    }

    /// The overlay can be unmounted, and then the file system at once: nothing
    /// in it is still open. Its fsck finds nothing.
    #[track_caller]
    pub fn finish(self, o: &Overlay) {
        let tree = o.snapshot(Take::ALL);
        o.remount();
        crate::tree::assert_same(
            "before and after mounting again",
            &tree,
            &o.snapshot(Take::ALL),
        );
        o.umount();
        o.assert_no_strays();
        if let Some(own) = &self.own {
            o.work_not_checked();
            own.umount_and_check();
        }
    }
}

/// One way meets one operation.
pub struct Race<'a> {
    pub models: &'a Models<'a>,
    pub o: &'a Overlay,
    pub lower: &'a Arc<Fuse>,
    /// Where they meet, prepared by `lay_out_lower`.
    pub dir: String,
    pub kind: Kind,
    pub way: &'static Op,
    pub against: &'static Op,
    pub hold: Hold,
    /// The operation must return while the copy-up is held.
    pub must_return: bool,
}

impl Race<'_> {
    fn start(&self, op: &'static Op) -> Task<Res<()>> {
        let at = self.o.m(&self.dir);
        start(format!("{}: {}", self.dir, op.name), move || (op.run)(&at))
    }

    #[track_caller]
    pub fn run(&self) {
        let what = format!(
            "{:?}: {} held at {:?} against {}",
            self.kind, self.way.name, self.hold, self.against.name
        );
        let f = format!("{}/f", self.dir);
        last_preparations(&self.o.m(&self.dir), self.kind);
        let pause = match self.hold {
            Hold::At(point) => Some(Pause::once(point)),
            _ => None,
        };
        if self.hold == Hold::Data {
            self.lower.stop_first_at(&f, MIDDLE);
        }
        let mut way = self.start(self.way);
        match &pause {
            Some(pause) => pause.wait_standing(1),
            None if self.hold == Hold::Data => self.lower.wait_standing(&f, 1),
            None => {}
        }
        let mut against = self.start(self.against);
        let stood = |way: &mut Task<_>| {
            assert!(!way.is_done(), "{what}: the copy-up did not stand still");
        };
        let results = if self.must_return {
            let second = against.finish();
            stood(&mut way);
            self.let_go(pause, &f);
            [way.finish(), second]
        } else {
            if self.hold != Hold::No {
                against.settle();
                stood(&mut way);
            }
            self.let_go(pause, &f);
            [way.finish(), against.finish()]
        };
        self.check(&what, results);
    }

    fn let_go(&self, pause: Option<Pause>, f: &str) {
        drop(pause);
        if self.hold == Hold::Data {
            self.lower.go_on(f);
        }
    }

    #[track_caller]
    fn check(&self, what: &str, results: [Res<()>; 2]) {
        let errnos = [errno(&results[0]), errno(&results[1])];
        let seen = Seen::of(&self.o.m(&self.dir));
        let ops = [self.way, self.against];
        let mut orders: Vec<&'static [usize]> = vec![&[0, 1], &[1, 0]];
        // A copy that is not a file's cannot be kept without a name.
        if self.way.needs_name || self.kind != Kind::File {
            orders.push(&[1]);
        }
        let mut complaints = Vec::new();
        let good = orders.into_iter().any(|order| {
            let (expected, tree) = self.models.in_order(self.kind, ops, order);
            let diff = seen.differences(&tree);
            complaints.push(format!(
                "order {order:?} gives {expected:?}; {}",
                diff.join("; ")
            ));
            errnos == expected && diff.is_empty()
        });
        assert!(
            good,
            "{what}: {results:?} and a tree of no order\n{}",
            complaints.join("\n")
        );
        assert_upper_exact(self.o, &self.dir);
        self.o.assert_no_strays();
    }
}

/// The copies of a mount; skips the test where it does not tell.
#[track_caller]
pub fn copies(t: &T, o: &Overlay) -> Copies {
    if t.is_overlay() {
        t.skip("overlay does not tell of its copies");
    }
    o.copies()
        .unwrap_or_else(|| t.skip("the module does not tell of its copies in mountstats"))
}
