// SPDX-License-Identifier: GPL-2.0

//! Who is charged for what is in the upper layer. Who is charged while a copy is
//! made is in `copyup/failures.rs`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::env::{check_fs, mount_device, Fs, T};
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Errno, Expect, OFlags, XFlags};
use crate::tree::{assert_whiteout, pattern};

pub fn tests() -> Vec<Test> {
    vec![
        test!(follows_the_owner),
        test!(of_new_objects),
        test!(of_a_project),
        test!(of_several_projects),
    ]
}

/// An ext4 with quotas of users, groups and projects, for the upper layer.
struct Quotas {
    image: PathBuf,
    at: PathBuf,
}

impl Quotas {
    fn new(t: &T) -> Quotas {
        for program in ["setquota", "repquota"] {
            t.need_program(program);
        }
        let image = t.dir.join("quota.img");
        let at = t.dir.join("quota");
        sys::mkdir(&at, 0o755).works();
        let file = std::fs::File::create(&image).expect("image");
        file.set_len(64 << 20).expect("image size");
        let types = "quotatype=usrquota:grpquota:prjquota";
        let mut words = ["-q", "-F", "-O", "quota,project", "-E", types]
            .map(OsStr::new)
            .to_vec();
        words.push(image.as_os_str());
        sys::run("mkfs.ext4", &words);
        mount_device(Fs::Ext4, &image, &at, "usrquota,grpquota,prjquota");
        Quotas { image, at }
    }

    /// Blocks of 1 KiB and inodes that are charged to a user (`-u`), a group
    /// (`-g`) or a project (`-P`).
    fn used(&self, kind: &str, id: u32) -> (u64, u64) {
        let fd = sys::open(&self.at, OFlags::RDONLY).works();
        sys::syncfs(&fd).works();
        let words = [
            kind.as_ref(),
            "-n".as_ref(),
            "-O".as_ref(),
            "csv".as_ref(),
            self.at.as_os_str(),
        ];
        let all = sys::run("repquota", &words);
        let name = format!("#{id}");
        let Some(line) = all.lines().find(|l| l.split(',').next() == Some(&name)) else {
            return (0, 0);
        };
        // User,BlockStatus,FileStatus,BlockUsed,Soft,Hard,Grace,FileUsed,...
        let field = |i: usize| {
            let text = line.split(',').nth(i);
            text.and_then(|t| t.parse().ok())
                .unwrap_or_else(|| panic!("{line:?}"))
        };
        (field(3), field(7))
    }

    fn limit(&self, kind: &str, id: u32, limits: [&str; 4]) {
        let id = id.to_string();
        let mut words = vec![OsStr::new(kind), OsStr::new(&id)];
        words.extend(limits.map(OsStr::new));
        words.push(self.at.as_os_str());
        sys::run("setquota", &words);
    }

    fn finish(self, o: &Overlay) {
        o.finish();
        sys::umount(&self.at).works();
        check_fs(Fs::Ext4, &self.image);
        o.work_not_checked();
    }
}

const SIZE: usize = 100 * 1024;

fn follows_the_owner(t: &T) {
    let q = Quotas::new(t);
    let o = t
        .stack()
        .lower(|l| {
            for name in ["f", "g"] {
                l.file(name, pattern(SIZE, 1)).owner(name, 1000, 1000);
            }
        })
        .upper_in(&q.at)
        .mount();
    let (user, group) = (|id| q.used("-u", id), |id| q.used("-g", id));
    assert_eq!(
        (user(1000), group(1000)),
        ((0, 0), (0, 0)),
        "for what is in the lower layer"
    );
    drop(sys::open(o.m("f"), OFlags::RDWR).works());
    assert_eq!(
        (user(1000), group(1000)),
        ((100, 1), (100, 1)),
        "a copy is its owner's"
    );
    // A change of the owner copies up, and takes the charge along.
    sys::lchown(o.m("g"), 1001, 1002).works();
    assert_eq!((user(1000), user(1001)), ((100, 1), (100, 1)));
    assert_eq!((group(1000), group(1002)), ((100, 1), (100, 1)));
    sys::lchown(o.m("f"), 1001, u32::MAX).works();
    assert_eq!((user(1000), user(1001)), ((0, 0), (200, 2)));
    assert_eq!((group(1000), group(1002)), ((100, 1), (100, 1)));
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::pwrite(&fd, pattern(SIZE, 2), SIZE as u64).works();
    assert_eq!(user(1001), (300, 2), "written to");
    sys::truncate(o.m("g"), 0).works();
    assert_eq!(user(1001), (200, 2), "truncated");
    sys::unlink(o.m("f")).works();
    assert_eq!(user(1001), (200, 2), "removed, and still open");
    drop(fd);
    assert_eq!(user(1001), (0, 1), "closed");
    sys::unlink(o.m("g")).works();
    assert_eq!(
        (user(1001), group(1000), group(1002)),
        ((0, 0), (0, 0), (0, 0))
    );
    q.finish(&o);
}

fn of_new_objects(t: &T) {
    let q = Quotas::new(t);
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").mode("d", 0o777).file("d/gone", "x");
            l.dir("sgid").owner("sgid", 0, 2000).mode("sgid", 0o2777);
        })
        .upper_in(&q.at)
        .mount();
    q.limit("-u", 1000, ["0", "200", "0", "7"]);
    sys::unlink(o.m("d/gone")).works();
    sys::write_file(o.m("d/first"), "x").works();
    sys::write_file(o.m("sgid/first"), "x").works();
    let whiteouts_and_copies = q.used("-u", 1000);
    assert_eq!(whiteouts_and_copies, (0, 0), "nothing is his yet");
    t.as_user(1000, 1000, || {
        sys::write_file(o.m("d/f"), pattern(SIZE, 1)).works();
        sys::write_file(o.m("d/gone"), "over a whiteout").works();
        sys::mkdir(o.m("d/dir"), 0o755).works();
        sys::symlink("x", o.m("d/link")).works();
        sys::mknod(o.m("d/fifo"), sys::FileType::Fifo, 0o600, 0).works();
        sys::write_file(o.m("sgid/f"), "of the directory's group").works();
        let nameless = sys::open_mode(o.m("d"), OFlags::TMPFILE | OFlags::RDWR, 0o600).works();
        sys::mkdir(o.m("d/eighth"), 0o755).fails(Errno::DQUOT);
        sys::write_file(o.m("d/eighth"), "x").fails(Errno::DQUOT);
        drop(nameless);
        let fd = sys::open(o.m("d/f"), OFlags::WRONLY).works();
        sys::pwrite(&fd, pattern(2 * SIZE, 1), 0).fails(Errno::DQUOT);
        sys::fallocate(&fd, sys::FallocateFlags::empty(), 0, 4 * SIZE as u64).fails(Errno::DQUOT);
    });
    assert_eq!(q.used("-u", 1000).1, 6);
    assert_eq!(q.used("-g", 2000).1, 3, "the directory and two files");
    q.limit("-u", 1000, ["0", "0", "0", "0"]);
    q.finish(&o);
}

fn put_in_project(path: &Path, projid: u32) {
    let fd = sys::open(path, OFlags::RDONLY).works();
    let mut attr = sys::get_fsxattr(&fd).works();
    attr.projid = projid;
    attr.xflags |= XFlags::PROJINHERIT;
    sys::set_fsxattr(&fd, &attr).works();
}

/// Upper and work directory in one project, as container engines limit the space
/// of a container.
fn of_a_project(t: &T) {
    let q = Quotas::new(t);
    for name in ["upper", "work"] {
        sys::mkdir(q.at.join(name), 0o755).works();
        put_in_project(&q.at.join(name), 5);
    }
    q.limit("-P", 5, ["0", "300", "0", "0"]);
    let o = t
        .stack()
        .lower(|l| {
            for name in ["d/f", "d/g", "d/h"] {
                l.file(name, pattern(SIZE, 1));
            }
        })
        .upper_in(&q.at)
        .mount();
    sys::append_file(o.m("d/f"), "").works();
    drop(sys::open(o.m("d/f"), OFlags::RDWR).works());
    drop(sys::open(o.m("d/g"), OFlags::RDWR).works());
    let (blocks, _) = q.used("-P", 5);
    assert!(
        (200..300).contains(&blocks),
        "{blocks} KiB are charged to the project"
    );
    // Root is held to it as well.
    sys::open(o.m("d/h"), OFlags::RDWR).fails_any(&[Errno::DQUOT, Errno::NOSPC]);
    assert!(!sys::exists(o.u("d/h")), "a copy that failed");
    o.assert_no_strays();
    assert_eq!(q.used("-P", 5).0, blocks, "charged for a copy that failed");
    sys::write_file(o.m("d/new"), pattern(SIZE, 2)).fails_any(&[Errno::DQUOT, Errno::NOSPC]);
    sys::unlink(o.m("d/new")).works();
    sys::unlink(o.m("d/g")).works();
    drop(sys::open(o.m("d/h"), OFlags::RDWR).works());
    assert!(sys::read_file(o.m("d/h")).works() == pattern(SIZE, 1));
    for name in ["d/f", "d/h"] {
        let attr = sys::get_fsxattr(&sys::open(o.u(name), OFlags::RDONLY).works()).works();
        assert_eq!(attr.projid, 5, "{name}");
    }
    q.finish(&o);
}

/// Directories of the merged tree that are given to projects.
fn of_several_projects(t: &T) {
    t.better_than_overlay("it cannot copy up into a directory of a project");
    let q = Quotas::new(t);
    let o = t
        .stack()
        .lower(|l| {
            for dir in ["a", "b"] {
                l.file(format!("{dir}/f"), pattern(SIZE, 1))
                    .file(format!("{dir}/sub/g"), "g");
                l.file(format!("{dir}/gone"), "x");
            }
        })
        .upper_in(&q.at)
        .mount();
    for (dir, projid) in [("a", 10), ("b", 20)] {
        put_in_project(&o.m(dir), projid);
        sys::append_file(o.m(format!("{dir}/sub/g")), "+").works();
        drop(sys::open(o.m(format!("{dir}/f")), OFlags::RDWR).works());
        sys::unlink(o.m(format!("{dir}/gone"))).works();
        sys::mkdir(o.m(format!("{dir}/gone")), 0o755).works();
        sys::write_file(o.m(format!("{dir}/gone/new")), "n").works();
        // The directory, f, sub, sub/g, gone, gone/new.
        let (blocks, inodes) = q.used("-P", projid);
        assert_eq!(inodes, 6, "of project {projid}");
        assert!(blocks >= 100, "{blocks} KiB of project {projid}");
    }
    // As everywhere: between projects files are copied.
    sys::rename(o.m("a/sub/g"), o.m("b/sub/moved")).fails(Errno::XDEV);
    sys::link(o.m("a/f"), o.m("b/linked")).fails(Errno::XDEV);
    sys::rename(o.m("a/f"), o.m("a/sub/f")).works();
    assert_eq!(q.used("-P", 10).1, 7, "and a whiteout");
    // What is put in the place of an object is of its project.
    for name in ["a/sub/g", "b/sub/g", "b/f"] {
        sys::unlink(o.m(name)).works();
        assert_whiteout(o.u(name));
        o.assert_no_strays();
    }
    std::fs::remove_dir_all(o.m("a/sub")).expect("rm -r");
    assert_whiteout(o.u("a/sub"));
    // The directory, gone and gone/new, and the whiteouts f and sub.
    assert_eq!(q.used("-P", 10).1, 5, "of project 10 in the end");
    q.finish(&o);
}
