// SPDX-License-Identifier: GPL-2.0

//! The ways into the copy-up engine, for tests which must hold for all of them.

use crate::stack::Overlay;
use crate::sys::{self, Expect, OFlags, Res};
use crate::tree::Tree;

/// How large files are that are to stand still on their way up,
pub const SIZE: usize = 256 << 10;
/// and where they do.
pub const STOP: u64 = 128 << 10;

/// One way to make the file at a path be copied up.
pub struct Way {
    pub name: &'static str,
    pub run: fn(&Overlay, &str) -> Res<()>,
    /// Where the object is afterwards, besides its old name.
    pub moves: bool,
}

/// An ACL that lets user 1000 read, as `system.posix_acl_access` has it.
pub const ACL: [u8; 44] = {
    let mut acl = [0; 44];
    let entries: [(u8, u8, [u8; 4]); 5] = [
        (0x01, 6, [0xff; 4]),
        (0x02, 4, [0xe8, 3, 0, 0]),
        (0x04, 4, [0xff; 4]),
        (0x10, 4, [0xff; 4]),
        (0x20, 0, [0xff; 4]),
    ];
    acl[0] = 2;
    let mut i = 0;
    while i < 5 {
        let at = 4 + 8 * i;
        acl[at] = entries[i].0;
        acl[at + 2] = entries[i].1;
        let mut k = 0;
        while k < 4 {
            acl[at + 4 + k] = entries[i].2[k];
            k += 1;
        }
        i += 1;
    }
    acl
};

/// A name next to `path` to which it is renamed or linked.
pub fn beside(path: &str) -> String {
    format!("{path}.new")
}

/// The ways for a regular file that copy all of its data.
pub const WAYS: [Way; 11] = [
    Way {
        name: "open for reading and writing",
        run: |o, p| sys::open(o.m(p), OFlags::RDWR).map(drop),
        moves: false,
    },
    Way {
        name: "open for appending",
        run: |o, p| sys::open(o.m(p), OFlags::WRONLY | OFlags::APPEND).map(drop),
        moves: false,
    },
    Way {
        name: "reopen of a file that is open for reading",
        run: |o, p| {
            let old = sys::open(o.m(p), OFlags::RDONLY)?;
            sys::open(sys::fd_path(&old), OFlags::RDWR).map(drop)
        },
        moves: false,
    },
    Way {
        name: "chmod",
        run: |o, p| sys::chmod(o.m(p), 0o606),
        moves: false,
    },
    Way {
        name: "fchmod of a file that is open for reading",
        run: |o, p| sys::fchmod(&sys::open(o.m(p), OFlags::RDONLY)?, 0o606),
        moves: false,
    },
    Way {
        name: "chown",
        run: |o, p| sys::lchown(o.m(p), 3, 4),
        moves: false,
    },
    Way {
        name: "utimes",
        run: |o, p| sys::set_times(o.m(p), (5, 5), (6, 6)),
        moves: false,
    },
    Way {
        name: "setxattr",
        run: |o, p| sys::set_xattr(o.m(p), "user.way", "value"),
        moves: false,
    },
    Way {
        name: "setting an ACL",
        run: |o, p| sys::set_xattr(o.m(p), "system.posix_acl_access", ACL),
        moves: false,
    },
    Way {
        name: "link",
        run: |o, p| sys::link(o.m(p), o.m(beside(p))),
        moves: false,
    },
    Way {
        name: "rename",
        run: |o, p| sys::rename(o.m(p), o.m(beside(p))),
        moves: true,
    },
];

type Run = fn(&Overlay) -> Res<()>;

/// Ways for objects that are not regular files, and for the ancestors of a new
/// name; with the topmost object that is copied.
pub const OTHERS: [(&str, Run); 6] = [
    ("dir", |o| sys::chmod(o.m("dir"), 0o700)),
    ("symlink", |o| sys::lchown(o.m("symlink"), 3, 4)),
    ("fifo", |o| sys::chmod(o.m("fifo"), 0o600)),
    ("device", |o| sys::lchown(o.m("device"), 3, 4)),
    ("a", |o| sys::mkdir(o.m("a/b/c/new"), 0o755)),
    ("second", |o| {
        sys::set_xattr(o.m("second"), "trusted.x", "y")
    }),
];

/// What `OTHERS` are for.
pub fn lay_out_others(l: &Tree) {
    let null = rustix::fs::makedev(1, 3);
    l.file("dir/f", "x")
        .file("second/f", "x")
        .file("a/b/c/f", "x");
    l.symlink("symlink", "dir").fifo("fifo");
    l.node("device", sys::FileType::CharacterDevice, null);
}

impl Way {
    /// What must hold after the way was gone to its end.
    #[track_caller]
    pub fn check_done(&self, o: &Overlay, path: &str, data: &[u8]) {
        let at = if self.moves {
            assert!(!sys::exists(o.m(path)), "{}", self.name);
            beside(path)
        } else {
            path.to_string()
        };
        assert!(sys::read_file(o.m(&at)).works() == data, "{}", self.name);
        assert!(sys::read_file(o.u(&at)).works() == data, "{}", self.name);
        let links = if self.name == "link" { 2 } else { 1 };
        let st = sys::stat(o.m(&at)).works();
        assert_eq!(
            u64::from(st.st_nlink as u32),
            links,
            "{}: link count",
            self.name
        );
        o.assert_no_strays();
    }

    /// What must hold after it failed: all is as it was.
    #[track_caller]
    pub fn check_failed(&self, o: &Overlay, path: &str, data: &[u8]) {
        assert!(
            !sys::exists(o.u(path)),
            "{}: something was published",
            self.name
        );
        assert!(!sys::exists(o.u(beside(path))), "{}", self.name);
        assert!(!sys::exists(o.m(beside(path))), "{}", self.name);
        o.assert_no_strays();
        let st = sys::stat(o.m(path)).works();
        let now = (sys::mode_of(&st), st.st_uid, st.st_gid, st.st_size as usize);
        assert_eq!(now, (0o644, 0, 0, data.len()), "{}: attributes", self.name);
        let xattrs = sys::list_xattr(o.m(path)).works();
        assert!(xattrs.is_empty(), "{}: {xattrs:?}", self.name);
        assert!(
            sys::read_file(o.m(path)).works() == data,
            "{}: contents",
            self.name
        );
    }
}
