// SPDX-License-Identifier: GPL-2.0

//! Random layers and operations, the same for the same seed.

use super::object::{Kind, Object};
use super::op::{At, Op, Slot, Step, SLOTS};
use super::random::Random;
use super::word::{Name, Octal, Time};
use super::worker::USERS;
use super::{Plan, OPTIONS};
use crate::sys::{Access, FallocateFlags, FileType, IFlags, OFlags, RenameFlags, XattrFlags};

const DIRS: [&str; 8] = ["", "d", "d/d", "d/e", "e", "e/d", "n", "d/d/d"];
const NAMES: [&str; 10] = ["a", "b", "c", "f", "g", "h", "d", "e", "n", "s"];
const ODD_NAMES: [&[u8]; 8] = [
    b"sp ace",
    b"new\nline",
    b"\xff\xfe",
    b"-dash",
    b".wh.a",
    b"#1",
    b"...",
    b"%41@",
];
const ATTRIBUTES: [&str; 9] = [
    "user.a",
    "user.b",
    "user.overlay.opaque",
    "trusted.t",
    "trusted.overlay.opaque",
    "trusted.overlay.x",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "security.capability",
];
const MODES: [u32; 12] = [
    0o644, 0o755, 0o600, 0o700, 0o666, 0o777, 0o4755, 0o2755, 0o2770, 0o1777, 0o000, 0o6711,
];
const IDS: [u32; 4] = [0, 1000, 1001, 2000];
const SIZES: [usize; 9] = [0, 1, 10, 100, 4095, 4096, 5000, 20_000, 70_000];
const OFFSETS: [u64; 8] = [0, 1, 100, 4096, 6000, 16_384, 65_536, 1 << 20];

pub fn plan(seed: u64, steps: usize) -> Plan {
    let mut g = Generator {
        r: Random::new(seed),
        known: Vec::new(),
        tag: 0,
        worker: 0,
        open: Default::default(),
        burst: None,
    };
    let lowers = 1 + g.r.below(4);
    let objects = g.objects(lowers);
    let steps = (0..steps).map(|_| g.step()).collect();
    Plan {
        options: OPTIONS[seed as usize % OPTIONS.len()],
        lowers,
        objects,
        steps,
    }
}

struct Generator {
    r: Random,
    /// Paths that there are, or were, or may be.
    known: Vec<Vec<u8>>,
    tag: u64,
    /// Who does the next step.
    worker: usize,
    /// Which slots of whom have been opened.
    open: [[bool; SLOTS]; USERS.len()],
    /// The slot that has just been opened, for some steps by the same worker.
    burst: Option<Slot>,
}

impl Generator {
    fn next_tag(&mut self) -> u64 {
        self.tag += 1;
        self.tag
    }

    fn name(&mut self) -> Vec<u8> {
        match self.r.below(40) {
            0 => b"x".repeat(255),
            1..=3 => self.r.pick(&ODD_NAMES).to_vec(),
            _ => self.r.pick(&NAMES).as_bytes().to_vec(),
        }
    }

    fn new_path(&mut self) -> Vec<u8> {
        let dir = self.r.pick(&DIRS).as_bytes().to_vec();
        let mut path = dir;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(self.name());
        path
    }

    fn remember(&mut self, path: &[u8]) {
        if !self.known.iter().any(|p| p == path) {
            self.known.push(path.to_vec());
        }
    }

    // --- Layers ---

    fn objects(&mut self, lowers: usize) -> Vec<Object> {
        let mut objects: Vec<Object> = Vec::new();
        let with_upper = self.r.one_in(3);
        for layer in (usize::from(!with_upper)..=lowers).rev() {
            for _ in 0..6 + self.r.below(24) {
                let path = match self.r.below(3) {
                    0 if !self.known.is_empty() => self.r.pick(&self.known).clone(),
                    _ => self.new_path(),
                };
                let kind = self.kind(layer, lowers, &objects);
                self.remember(&path);
                objects.push(Object {
                    layer,
                    path: Name(path),
                    mode: self.mode_of(&kind),
                    owner: (self.id(), self.id()),
                    xattrs: self.xattrs(),
                    kind,
                });
            }
        }
        objects
    }

    fn kind(&mut self, layer: usize, lowers: usize, objects: &[Object]) -> Kind {
        let in_layer = |o: &&Object| o.layer == layer && matches!(o.kind, Kind::File { .. });
        match self.r.below(24) {
            0..=8 => Kind::File {
                len: *self.r.pick(&SIZES),
                tag: self.next_tag(),
            },
            9 => Kind::Sparse {
                len: *self.r.pick(&OFFSETS),
                tag: self.next_tag(),
            },
            10..=13 => Kind::Dir,
            14 | 15 => Kind::Symlink {
                target: self.target(),
            },
            16 => self.special(),
            // Those of the upper layer stay one file, which no plain copy shows.
            17 | 18 if layer > 0 => match objects.iter().filter(in_layer).last() {
                Some(file) => Kind::Link {
                    to: file.path.clone(),
                },
                None => Kind::Dir,
            },
            19 | 20 if layer < lowers => Kind::Whiteout,
            21 if layer < lowers && layer > 0 => Kind::XattrWhiteout,
            22 | 23 if layer < lowers => Kind::Opaque,
            _ => Kind::Dir,
        }
    }

    fn special(&mut self) -> Kind {
        let (kind, major, minor) = *self.r.pick(&[
            (FileType::Fifo, 0, 0),
            (FileType::Socket, 0, 0),
            (FileType::CharacterDevice, 1, 3),
            (FileType::BlockDevice, 250, 34),
        ]);
        Kind::Special { kind, major, minor }
    }

    fn target(&mut self) -> Name {
        match self.r.below(6) {
            0 => Name::new("nowhere"),
            1 => Name::new("../d"),
            2 => Name([b"/", &self.path_inside()[..]].concat()),
            _ => Name(self.name()),
        }
    }

    fn id(&mut self) -> u32 {
        match self.r.below(2) {
            0 => 0,
            _ => *self.r.pick(&IDS),
        }
    }

    fn mode_of(&mut self, kind: &Kind) -> Octal {
        let is_dir = matches!(kind, Kind::Dir | Kind::Opaque);
        Octal(match self.r.below(3) {
            0 => *self.r.pick(&MODES),
            1 if is_dir => 0o777,
            _ if is_dir => 0o755,
            1 => 0o666,
            _ => 0o644,
        })
    }

    fn xattrs(&mut self) -> Vec<(String, Name)> {
        if !self.r.one_in(4) {
            return Vec::new();
        }
        let name = match *self.r.pick(&ATTRIBUTES) {
            // They would be the layer's own.
            name if name.starts_with("trusted.overlay.") => "trusted.t",
            name => name,
        };
        vec![(name.into(), self.value_of(name))]
    }

    fn value_of(&mut self, name: &str) -> Name {
        match name {
            "system.posix_acl_access" | "system.posix_acl_default" => Name(self.acl()),
            // VFS_CAP_REVISION_2 with the effective bit, and CAP_NET_RAW.
            "security.capability" => {
                let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
                Name(words.iter().flat_map(|w| w.to_le_bytes()).collect())
            }
            _ => {
                let len = *self.r.pick(&[0, 1, 5, 40, 200]);
                Name(super::op::data(len, self.r.below(9) as u64))
            }
        }
    }

    /// An ACL with an entry for user 1000 and one for group 2000, as it is stored;
    /// now and then one that is not valid.
    fn acl(&mut self) -> Vec<u8> {
        const ANY: u32 = u32::MAX;
        let mut bits = || *self.r.pick(&[0u16, 4, 5, 6, 7]);
        let entries = [
            (0x01u16, bits(), ANY),
            (0x02, bits(), 1000),
            (0x04, bits(), ANY),
            (0x08, bits(), 2000),
            (0x10, bits(), ANY),
            (0x20, bits(), ANY),
        ];
        let keep = if self.r.one_in(10) { 4 } else { 6 };
        let mut acl = 2u32.to_le_bytes().to_vec();
        for (tag, bits, id) in &entries[..keep] {
            acl.extend(tag.to_le_bytes());
            acl.extend(bits.to_le_bytes());
            acl.extend(id.to_le_bytes());
        }
        acl
    }

    // --- Operations ---

    fn path_inside(&mut self) -> Vec<u8> {
        if !self.known.is_empty() && !self.r.one_in(8) {
            return self.r.pick(&self.known).clone();
        }
        self.new_path()
    }

    /// Where something may be made: beside or below what there is, mostly.
    fn new_at(&mut self) -> At {
        if self.known.is_empty() || self.r.one_in(3) {
            return self.at();
        }
        let mut path = self.r.pick(&self.known).clone();
        if !self.r.one_in(4) {
            let slash = path.iter().rposition(|b| *b == b'/');
            path.truncate(slash.unwrap_or(0));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(self.name());
        self.remember(&path);
        path.insert(0, b'/');
        At {
            base: None,
            path: Name(path),
        }
    }

    /// A path as a program may write it.
    fn path(&mut self) -> Name {
        let mut path = match self.r.below(100) {
            0 => return Name::new(""),
            1 => return Name::new("/"),
            2 => return Name::new("."),
            3 => return Name::new(".."),
            4 => b"y".repeat(256),
            5..=7 => self.r.pick(&DIRS).as_bytes().to_vec(),
            8 | 9 => [&self.path_inside()[..], b"/", &self.name()].concat(),
            _ => self.path_inside(),
        };
        match self.r.below(100) {
            0 => path.push(b'/'),
            1 => path.extend_from_slice(b"/."),
            2 => path.extend_from_slice(b"/.."),
            3 => path = [b"d/../", &path[..]].concat(),
            _ => {}
        }
        if !self.r.one_in(10) {
            path.insert(0, b'/');
        }
        Name(path)
    }

    fn at(&mut self) -> At {
        if self.r.one_in(20) {
            let base = Some(self.slot());
            let path = match self.r.below(4) {
                0 => self.path_inside(),
                _ => self.name(),
            };
            return At {
                base,
                path: Name(path),
            };
        }
        At {
            base: None,
            path: self.path(),
        }
    }

    /// One that has been opened, mostly.
    fn slot(&mut self) -> Slot {
        if let Some(slot) = self.burst.filter(|_| !self.r.one_in(8)) {
            return slot;
        }
        let open = self.open[self.worker];
        let slot = self.r.below(SLOTS);
        match (0..SLOTS).map(|i| (slot + i) % SLOTS).find(|i| open[*i]) {
            Some(slot) if !self.r.one_in(10) => slot as Slot,
            _ => slot as Slot,
        }
    }

    fn mode(&mut self) -> Octal {
        Octal(*self.r.pick(&MODES))
    }

    fn some_id(&mut self) -> Option<u32> {
        match self.r.below(4) {
            0 => None,
            _ => Some(*self.r.pick(&IDS)),
        }
    }

    fn len(&mut self) -> usize {
        *self.r.pick(&SIZES)
    }

    fn off(&mut self) -> u64 {
        *self.r.pick(&OFFSETS)
    }

    /// A size or position that may not be possible.
    fn any_len(&mut self) -> i64 {
        match self.r.below(20) {
            0 => -1,
            1 => 1 << 40,
            2 => i64::MAX,
            _ => self.len() as i64,
        }
    }

    fn time(&mut self) -> Time {
        match self.r.below(5) {
            0 => Time::Now,
            1 => Time::Omit,
            2 => Time::At(-5),
            n => Time::At(1_100_000_000 + n as i64),
        }
    }

    fn attribute(&mut self) -> String {
        match self.r.below(30) {
            0 => "unknown.x".into(),
            1 => "user.".into(),
            2 => format!("user.{}", "n".repeat(250)),
            3..=12 => ATTRIBUTES[0].into(),
            _ => self.r.pick(&ATTRIBUTES).to_string(),
        }
    }

    fn follow(&mut self) -> bool {
        self.r.one_in(2)
    }

    fn step(&mut self) -> Step {
        if self.r.one_in(3) {
            self.burst = None;
        }
        if self.burst.is_none() {
            self.worker = self.r.weighted([6usize, 3, 1].into_iter());
        }
        let op = match self.r.below(100) {
            _ if self.burst.is_some() && !self.r.one_in(4) => self.on_files(),
            0..=40 => self.on_names(),
            41..=75 => self.on_files(),
            76..=97 => self.on_attributes(),
            98 => Op::DropCaches {},
            _ if self.r.one_in(4) => self.remount(),
            _ => Op::Umask {
                mask: *self
                    .r
                    .pick(&[Octal(0o022), Octal(0), Octal(0o077), Octal(0o002)]),
            },
        };
        let worker = self
            .r
            .weighted([6usize, 3, 1].into_iter().take(USERS.len()));
        Step { worker, op }
    }

    fn remount(&mut self) -> Op {
        self.open = Default::default();
        self.burst = None;
        Op::Remount {}
    }

    fn open_flags(&mut self) -> OFlags {
        let mut flags = *self
            .r
            .pick(&[OFlags::RDONLY, OFlags::RDWR, OFlags::RDWR, OFlags::WRONLY]);
        let more = [
            (OFlags::CREATE, 6),
            (OFlags::EXCL, 12),
            (OFlags::TRUNC, 8),
            (OFlags::APPEND, 8),
            (OFlags::NOFOLLOW, 6),
            (OFlags::DIRECTORY, 20),
            (OFlags::PATH, 20),
            (OFlags::NOATIME, 20),
            (OFlags::SYNC, 20),
            (OFlags::DIRECT, 30),
        ];
        for (flag, n) in more {
            if self.r.one_in(n) {
                flags |= flag;
            }
        }
        flags
    }

    fn open(&mut self) -> Op {
        let (slot, mode) = (self.r.below(SLOTS) as Slot, self.mode());
        self.open[self.worker][usize::from(slot)] = true;
        self.burst = Some(slot);
        match self.r.below(12) {
            0 => Op::Open {
                slot,
                at: self.directory(),
                flags: OFlags::TMPFILE
                    | *self.r.pick(&[
                        OFlags::RDWR,
                        OFlags::EXCL,
                        OFlags::WRONLY | OFlags::EXCL,
                        OFlags::RDWR,
                    ]),
                mode,
            },
            1 | 2 => Op::Open {
                slot,
                at: self.directory(),
                flags: OFlags::RDONLY | OFlags::DIRECTORY,
                mode,
            },
            3..=5 => Op::Open {
                slot,
                at: self.new_at(),
                flags: self.open_flags() | OFlags::CREATE,
                mode,
            },
            _ => Op::Open {
                slot,
                at: self.at(),
                flags: self.open_flags(),
                mode,
            },
        }
    }

    fn directory(&mut self) -> At {
        if self.r.one_in(3) {
            return self.at();
        }
        let path = [b"/", self.r.pick(&DIRS).as_bytes()].concat();
        At {
            base: None,
            path: Name(path),
        }
    }

    fn on_names(&mut self) -> Op {
        match self.r.below(28) {
            0..=3 => Op::Mkdir {
                at: self.new_at(),
                mode: self.mode(),
            },
            4..=5 => Op::Rmdir { at: self.at() },
            6..=8 => Op::Unlink { at: self.at() },
            9..=16 => Op::Rename {
                old: self.at(),
                new: self.new_at(),
                flags: match self.r.below(20) {
                    0..=8 => RenameFlags::empty(),
                    9..=13 => RenameFlags::EXCHANGE,
                    14..=17 => RenameFlags::NOREPLACE,
                    18 => RenameFlags::WHITEOUT,
                    _ => RenameFlags::EXCHANGE.union(RenameFlags::NOREPLACE),
                },
            },
            17..=19 => Op::Link {
                old: self.at(),
                new: self.new_at(),
                follow: self.r.one_in(4),
            },
            20 => Op::LinkFd {
                slot: self.slot(),
                new: self.new_at(),
            },
            21 => Op::Symlink {
                target: self.target(),
                at: self.new_at(),
            },
            22 => self.mknod(),
            23 => Op::Readlink { at: self.at() },
            24 | 25 => Op::Readdir {
                at: self.directory(),
            },
            26 => Op::Getdents {
                slot: self.slot(),
                count: *self.r.pick(&[1, 2, 3, 1000]),
                rewind: self.r.one_in(4),
            },
            _ => Op::Chdir {
                path: self.directory().path,
            },
        }
    }

    fn mknod(&mut self) -> Op {
        let (kind, major, minor) = *self.r.pick(&[
            (libc::S_IFIFO, 0, 0),
            (libc::S_IFSOCK, 0, 0),
            (libc::S_IFREG, 0, 0),
            (libc::S_IFCHR, 1, 3),
            (libc::S_IFBLK, 250, 34),
            (libc::S_IFCHR, 0, 0),
            (libc::S_IFDIR, 0, 0),
        ]);
        Op::Mknod {
            at: self.new_at(),
            mode: Octal(kind | self.mode().0),
            major,
            minor,
        }
    }

    fn on_files(&mut self) -> Op {
        let slot = self.slot();
        match self.r.below(34) {
            _ if self.burst.is_none() && !self.r.one_in(3) => self.open(),
            0..=9 => self.open(),
            10 => Op::Close { slot },
            11 | 12 => Op::Read {
                slot,
                len: self.len(),
            },
            13 | 14 => Op::Pread {
                slot,
                len: self.len(),
                off: self.off(),
            },
            15 | 16 => Op::Write {
                slot,
                len: self.len(),
                tag: self.next_tag(),
            },
            17 | 18 => Op::Pwrite {
                slot,
                len: self.len(),
                off: self.off(),
                tag: self.next_tag(),
            },
            19 => Op::Seek {
                slot,
                off: self.any_len(),
                whence: self.r.below(3) as i32,
            },
            20 | 21 => Op::Ftruncate {
                slot,
                len: self.any_len(),
            },
            22 | 23 => self.fallocate(slot),
            24 => Op::Fsync { slot },
            25 => Op::Fdatasync { slot },
            26 | 27 => Op::CopyRange {
                from: slot,
                from_off: self.off(),
                to: self.slot(),
                to_off: self.off(),
                len: self.len(),
            },
            28 => Op::MapRead {
                slot,
                off: self.len(),
            },
            29 | 30 => Op::MapWrite {
                slot,
                off: self.len(),
                tag: self.next_tag(),
            },
            31 => Op::Flock {
                slot,
                how: *self.r.pick(&[libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN]),
            },
            _ => Op::Truncate {
                path: self.path(),
                len: self.any_len(),
            },
        }
    }

    /// Most modes that the upper filesystem has, and one that it has not.
    fn fallocate(&mut self, slot: Slot) -> Op {
        let keep = FallocateFlags::KEEP_SIZE;
        let mode = *self.r.pick(&[
            FallocateFlags::empty(),
            keep,
            keep.union(FallocateFlags::PUNCH_HOLE),
            FallocateFlags::ZERO_RANGE,
            keep.union(FallocateFlags::ZERO_RANGE),
            FallocateFlags::COLLAPSE_RANGE,
            FallocateFlags::INSERT_RANGE,
            FallocateFlags::PUNCH_HOLE,
            FallocateFlags::UNSHARE_RANGE,
        ]);
        Op::Fallocate {
            slot,
            mode,
            off: self.off(),
            len: *self.r.pick(&[4096, 8192, 100, 0, 70_000]),
        }
    }

    fn on_attributes(&mut self) -> Op {
        let slot = self.slot();
        match self.r.below(34) {
            0..=2 => Op::Chmod {
                at: self.at(),
                mode: self.mode(),
            },
            3 => Op::Fchmod {
                slot,
                mode: self.mode(),
            },
            4 | 5 => Op::Chown {
                at: self.at(),
                uid: self.some_id(),
                gid: self.some_id(),
                follow: self.follow(),
            },
            6 => Op::Fchown {
                slot,
                uid: self.some_id(),
                gid: self.some_id(),
            },
            7 | 8 => Op::Utimens {
                at: self.at(),
                atime: self.time(),
                mtime: self.time(),
                follow: self.follow(),
            },
            9 => Op::Futimens {
                slot,
                atime: self.time(),
                mtime: self.time(),
            },
            10..=13 => self.setxattr(slot),
            14 | 15 => Op::Getxattr {
                path: self.path(),
                name: self.attribute(),
                follow: self.follow(),
            },
            16 | 17 => Op::Removexattr {
                path: self.path(),
                name: self.attribute(),
                follow: self.follow(),
            },
            18 => Op::Fremovexattr {
                slot,
                name: self.attribute(),
            },
            19 | 20 => Op::Listxattr {
                path: self.path(),
                follow: self.follow(),
            },
            21 => Op::Flistxattr { slot },
            22 => Op::Getflags { slot },
            23 => Op::Setflags {
                slot,
                flags: *self.r.pick(&[
                    IFlags::empty(),
                    IFlags::empty(),
                    IFlags::APPEND,
                    IFlags::IMMUTABLE,
                    IFlags::NODUMP,
                    IFlags::NOATIME,
                ]),
            },
            24..=28 => Op::Stat {
                at: self.at(),
                follow: self.follow(),
            },
            29 | 30 => Op::Fstat { slot },
            _ => Op::Access {
                at: self.at(),
                mode: *self.r.pick(&[
                    Access::EXISTS,
                    Access::READ_OK,
                    Access::WRITE_OK,
                    Access::EXEC_OK,
                    Access::READ_OK.union(Access::WRITE_OK),
                ]),
            },
        }
    }

    fn setxattr(&mut self, slot: Slot) -> Op {
        let name = self.attribute();
        let value = self.value_of(&name);
        let flags = *self.r.pick(&[
            XattrFlags::empty(),
            XattrFlags::empty(),
            XattrFlags::CREATE,
            XattrFlags::REPLACE,
        ]);
        match self.r.one_in(4) {
            true => Op::Fsetxattr {
                slot,
                name,
                value,
                flags,
            },
            false => Op::Setxattr {
                path: self.path(),
                name,
                value,
                flags,
                follow: self.follow(),
            },
        }
    }
}
