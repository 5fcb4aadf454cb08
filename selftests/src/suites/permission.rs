// SPDX-License-Identifier: GPL-2.0

//! Who may do what: the caller on the overlay's inode, and the mounter on
//! the layers.

use rustix::mount::MountFlags;

use crate::env::T;
use crate::runner::Test;
use crate::stack::Overlay;
use crate::sys::{self, Access, Errno, Expect, FileType, FsContext, OFlags};
use crate::tree::{assert_names, assert_text, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(same_as_a_copy_before_and_after_copy_up),
        test!(same_as_a_copy_for_directories),
        test!(owner_only),
        test!(copy_up_by_another_user_keeps_the_owner),
        test!(new_objects_belong_to_the_caller),
        test!(layers_behind_a_closed_door),
        test!(mounter_cannot_read_a_lower_file),
        test!(mounter_cannot_search_a_lower_directory),
        test!(mounter_cannot_read_the_marks),
        test!(mounter_cannot_write_the_upper),
        test!(mounters_rights_not_the_callers),
        test!(caller_denied_where_mounter_could),
        test!(access_and_effective_ids),
        test!(sticky_directory),
        test!(setgid_directory),
        test!(group_change_by_owner),
        test!(xattr_namespaces),
        test!(trusted_xattrs_hidden_from_users),
        test!(utimes_by_writer),
        test!(noatime_open),
        test!(devices_by_users),
        test!(nodev_and_noexec),
        test!(execute_permission),
        test!(directory_search_permission),
        test!(rename_needs_both_directories),
        test!(chmod_through_fd_of_another_user),
        test!(acl_mask),
        test!(protected_lower_read_only_mount),
    ]
}

const USERS: [(u32, u32); 4] = [(0, 0), (1000, 1000), (1001, 1000), (1002, 1002)];
const MODES: [u32; 8] = [0, 0o400, 0o200, 0o640, 0o604, 0o066, 0o755, 0o7711];
const WAYS: [Access; 3] = [Access::READ_OK, Access::WRITE_OK, Access::EXEC_OK];

fn fill(at: &Tree) {
    for m in MODES {
        let n = format!("f{m:o}");
        at.file(&n, "x").owner(&n, 1000, 1000).mode(&n, m);
        let n = format!("d{m:o}");
        at.dir(&n).owner(&n, 1000, 1000).mode(&n, m);
    }
    at.mode("/", 0o777);
}

/// What every user may do to every name.
fn rights(t: &T, at: &std::path::Path, prefix: char) -> Vec<(String, u32, String)> {
    let mut out = Vec::new();
    let file = t.dir.join(t.fresh("rights"));
    for (uid, gid) in USERS {
        t.in_child(|| {
            sys::open_mode(&file, OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR, 0o666).works();
            sys::chmod(&file, 0o666).works();
            let fd = sys::open(&file, OFlags::WRONLY).works();
            sys::become_user(uid, gid, &[]);
            for m in MODES {
                let name = format!("{prefix}{m:o}");
                let p = at.join(&name);
                let mut all: Vec<String> = WAYS
                    .iter()
                    .map(|w| format!("{:?}", sys::access(&p, *w).err().map(|e| e.errno)))
                    .collect();
                let read = if prefix == 'f' {
                    sys::open(&p, OFlags::RDONLY).err()
                } else {
                    sys::dirents(&p).err()
                };
                all.push(format!("{:?}", read.map(|e| e.errno)));
                sys::write(&fd, format!("{name} {}\n", all.join(","))).works();
            }
        });
        for line in sys::text(&file).works().lines() {
            let (name, what) = line.split_once(' ').expect("line");
            out.push((name.to_string(), uid, what.to_string()));
        }
    }
    out
}

fn pair(t: &T) -> (Overlay, std::path::PathBuf) {
    let o = t.stack().lower(fill).mount();
    sys::chmod(o.m("/"), 0o777).works();
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    (o, plain)
}

fn same_as_a_copy_before_and_after_copy_up(t: &T) {
    let (o, plain) = pair(t);
    let want = rights(t, &plain, 'f');
    assert_eq!(rights(t, &o.m("/"), 'f'), want, "before copy-up");
    for m in MODES {
        sys::set_xattr(o.m(format!("f{m:o}")), "user.touched", "y").works();
    }
    assert_eq!(rights(t, &o.m("/"), 'f'), want, "after copy-up");
}

fn same_as_a_copy_for_directories(t: &T) {
    let (o, plain) = pair(t);
    let want = rights(t, &plain, 'd');
    assert_eq!(rights(t, &o.m("/"), 'd'), want, "before copy-up");
    for m in MODES {
        sys::set_times(o.m(format!("d{m:o}")), (1, 1), (1, 1)).works();
    }
    assert_eq!(rights(t, &o.m("/"), 'd'), want, "after copy-up");
}

fn owner_only(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").owner("f", 1000, 1000).mode("f", 0o666);
        })
        .mount();
    t.as_user(1001, 1001, || {
        sys::chmod(o.m("f"), 0o777).fails(Errno::PERM);
        sys::lchown(o.m("f"), 1001, 1001).fails(Errno::PERM);
        sys::set_times(o.m("f"), (1, 1), (1, 1)).fails(Errno::PERM);
        sys::set_xattr(o.m("f"), "security.x", "y").fails(Errno::PERM);
    });
    assert_names(o.u("/"), &[]);
    t.as_user(1000, 1000, || {
        sys::chmod(o.m("f"), 0o600).works();
        sys::set_times(o.m("f"), (1, 1), (1, 1)).works();
        sys::lchown(o.m("f"), 1001, 1000).fails(Errno::PERM);
    });
    assert_eq!(sys::mode_of(&sys::stat(o.u("f")).works()), 0o600);
}

fn copy_up_by_another_user_keeps_the_owner(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a/b/f", "x").mode("a/b/f", 0o666);
            l.owner("a/b", 7, 8).mode("a/b", 0o755);
        })
        .mount();
    t.as_user(1000, 1000, || sys::append_file(o.m("a/b/f"), "+").works());
    let owner = |p: &str| {
        let st = sys::stat(o.u(p)).works();
        (st.st_uid, st.st_gid)
    };
    assert_eq!(owner("a/b/f"), (0, 0));
    assert_eq!(owner("a/b"), (7, 8));
    assert_eq!(owner("a"), (0, 0));
    assert_text(o.u("a/b/f"), "x+");
}

fn new_objects_belong_to_the_caller(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").mode("d", 0o777).file("d/old", "x");
            l.mode("d/old", 0o666);
        })
        .mount();
    t.as_user(1000, 1001, || {
        sys::write_file(o.m("d/f"), "x").works();
        sys::mkdir(o.m("d/dir"), 0o755).works();
        sys::symlink("x", o.m("d/s")).works();
        sys::mknod(o.m("d/p"), FileType::Fifo, 0o644, 0).works();
        sys::unlink(o.m("d/old")).works();
        sys::write_file(o.m("d/old"), "over a whiteout").works();
    });
    for n in ["f", "dir", "s", "p", "old"] {
        let n = format!("d/{n}");
        for p in [o.m(&n), o.u(&n)] {
            let st = sys::lstat(&p).works();
            assert_eq!((st.st_uid, st.st_gid), (1000, 1001), "{p:?}");
        }
    }
}

/// The layers may lie where the caller cannot go: only the mounter must.
fn layers_behind_a_closed_door(t: &T) {
    let door = t.new_dir("door");
    Tree::new(door.join("lower"))
        .file("d/f", "x")
        .mode("d", 0o777);
    let o = t
        .stack()
        .lower_dir(door.join("lower"))
        .upper_in(&door)
        .mount();
    sys::chmod(o.m("d/f"), 0o666).works();
    sys::chmod(&door, 0o700).works();
    t.as_user(1000, 1000, || {
        sys::stat(door.join("lower")).fails(Errno::ACCESS);
        assert_text(o.m("d/f"), "x");
        sys::append_file(o.m("d/f"), "+").works();
        sys::write_file(o.m("d/new"), "n").works();
        assert_names(o.m("d"), &["f", "new"]);
    });
    sys::chmod(&door, 0o755).works();
}

/// Mounts as a mounter who has CAP_SYS_ADMIN but on files only the rights of
/// an ordinary user.
pub fn mount_as(uid: u32, o: &Overlay) -> sys::Res<()> {
    let fc = o.context()?;
    sys::set_fsuid(uid);
    let created = fc.create();
    sys::set_fsuid(0);
    created?;
    fc.attach(&o.m("/"), false)
}

fn weak_layers(l: &Tree) {
    l.file("open", "o")
        .file("closed", "c")
        .mode("closed", 0o600);
    l.file("door/f", "x").mode("door", 0o700);
}

/// root may, by the overlay's inode; the mounter may not.
fn mounter_cannot_read_a_lower_file(t: &T) {
    let o = t
        .stack()
        .lower(weak_layers)
        .lower(|_| {})
        .readonly()
        .prepare();
    mount_as(1000, &o).works();
    assert_text(o.m("open"), "o");
    assert_eq!(sys::stat(o.m("closed")).works().st_size, 1);
    sys::open(o.m("closed"), OFlags::RDONLY).fails(Errno::ACCESS);
    sys::umount(&o.m("/")).works();
    // The same with a mounter who may.
    o.mount().works();
    assert_text(o.m("closed"), "c");
}

fn mounter_cannot_search_a_lower_directory(t: &T) {
    let o = t
        .stack()
        .lower(weak_layers)
        .lower(|_| {})
        .readonly()
        .prepare();
    mount_as(1000, &o).works();
    sys::stat(o.m("door/f")).fails(Errno::ACCESS);
    sys::names(o.m("door")).fails(Errno::ACCESS);
    sys::umount(&o.m("/")).works();
    o.mount().works();
    assert_text(o.m("door/f"), "x");
}

/// With marks in `user.*`, which only who may read an object can see: he still goes
/// through directories that he cannot list, the roots too.
fn mounter_cannot_read_the_marks(t: &T) {
    t.better_than_overlay("without the right to read redirects it refuses such directories");
    let o = t
        .stack()
        .lower(|l| {
            l.file("shut/open", "below").mode("shut", 0o711);
            l.mode("/", 0o711);
        })
        .lower(|l| {
            l.file("shut/other", "o").mode("shut", 0o711);
        })
        .flag("userxattr")
        .readonly()
        .prepare();
    mount_as(1000, &o).works();
    assert_text(o.m("shut/open"), "below");
    assert_text(o.m("shut/other"), "o");
    sys::names(o.m("shut")).fails(Errno::ACCESS);
    sys::umount(&o.m("/")).works();
}

fn mounter_cannot_write_the_upper(t: &T) {
    let o = t.stack().lower(weak_layers).prepare();
    o.work_not_checked();
    sys::lchown(o.w("/"), 1000, 1000).works();
    sys::chmod(o.u("/"), 0o755).works();
    match mount_as(1000, &o) {
        // Refusing at once is good, too.
        Err(e) => {
            let errnos = [Errno::ACCESS, Errno::PERM, Errno::INVAL];
            assert!(errnos.contains(&e.errno), "{e:?}");
        }
        Ok(()) => {
            assert_text(o.m("open"), "o");
            let errnos = [Errno::ACCESS, Errno::PERM, Errno::ROFS];
            sys::write_file(o.m("new"), "x").fails_any(&errnos);
            sys::append_file(o.m("open"), "x").fails_any(&errnos);
            sys::unlink(o.m("open")).fails_any(&errnos);
            assert_text(o.m("open"), "o");
            sys::umount(&o.m("/")).works();
            assert_names(o.u("/"), &[]);
        }
    }
}

/// The caller has no rights on the layers at all.
fn mounters_rights_not_the_callers(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "x").mode("d/f", 0o666);
        })
        .prepare();
    sys::chmod(o.l(0, "/"), 0o755).works();
    o.mount().works();
    sys::chmod(o.u("/"), 0o755).works();
    t.as_user(1000, 1000, || {
        // The layer itself, its upper directory, cannot be written by him.
        sys::write_file(o.u("direct"), "x").fails(Errno::ACCESS);
        sys::append_file(o.m("d/f"), "+").works();
    });
    assert_text(o.u("d/f"), "x+");
}

fn caller_denied_where_mounter_could(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("secret", "s").mode("secret", 0o600);
            l.file("dir/f", "x").mode("dir", 0o700);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::open(o.m("secret"), OFlags::RDONLY).fails(Errno::ACCESS);
        sys::open(o.m("secret"), OFlags::RDWR).fails(Errno::ACCESS);
        sys::truncate(o.m("secret"), 0).fails(Errno::ACCESS);
        sys::stat(o.m("dir/f")).fails(Errno::ACCESS);
        sys::names(o.m("dir")).fails(Errno::ACCESS);
        sys::write_file(o.m("new"), "x").fails(Errno::ACCESS);
        sys::mkdir(o.m("new"), 0o755).fails(Errno::ACCESS);
        sys::unlink(o.m("secret")).fails(Errno::ACCESS);
        sys::link(o.m("secret"), o.m("new")).fails_any(&[Errno::ACCESS, Errno::PERM]);
    });
    assert_names(o.u("/"), &[]);
}

fn access_and_effective_ids(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").mode("f", 0o600);
        })
        .mount();
    t.in_child(|| {
        let id = |u| Some(rustix::fs::Uid::from_raw(u));
        rustix::thread::set_thread_res_uid(id(1000), id(0), id(0)).expect("setresuid");
        sys::access(o.m("f"), Access::READ_OK).fails(Errno::ACCESS);
        sys::eaccess(o.m("f"), Access::READ_OK).works();
        sys::read_file(o.m("f")).works();
    });
}

fn sticky_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("tmp/mine", "m").file("tmp/yours", "y");
            l.owner("tmp/mine", 1000, 1000)
                .owner("tmp/yours", 1001, 1001);
            l.mode("tmp", 0o1777);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::unlink(o.m("tmp/yours")).fails(Errno::PERM);
        sys::rename(o.m("tmp/yours"), o.m("tmp/x")).fails(Errno::PERM);
        sys::rename(o.m("tmp/mine"), o.m("tmp/yours")).fails(Errno::PERM);
        sys::rename(o.m("tmp/mine"), o.m("tmp/mine2")).works();
        sys::unlink(o.m("tmp/mine2")).works();
        sys::write_file(o.m("tmp/new"), "n").works();
    });
    assert_eq!(sys::mode_of(&sys::stat(o.u("tmp")).works()), 0o1777);
    assert_names(o.m("tmp"), &["new", "yours"]);
}

fn setgid_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").owner("d", 0, 50).mode("d", 0o2777);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::write_file(o.m("d/f"), "x").works();
        sys::mkdir(o.m("d/sub"), 0o755).works();
        let exec = OFlags::CREATE | OFlags::RDWR;
        drop(sys::open_mode(o.m("d/sgid"), exec, 0o2775).works());
    });
    let st = |n: &str| sys::stat(o.u(n)).works();
    assert_eq!(st("d/f").st_gid, 50);
    assert_eq!(st("d/sub").st_gid, 50);
    assert_eq!(sys::mode_of(&st("d/sub")), 0o2755);
    assert_eq!(
        sys::mode_of(&st("d/sgid")) & 0o2000,
        0,
        "setgid for a group the creator is not in"
    );
}

fn group_change_by_owner(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").owner("f", 1000, 1000).mode("f", 0o6755);
        })
        .mount();
    t.in_child(|| {
        sys::become_user(1000, 1000, &[1000, 2000]);
        sys::lchown(o.m("f"), 1000, 3000).fails(Errno::PERM);
        sys::lchown(o.m("f"), 1000, 2000).works();
    });
    let st = sys::stat(o.u("f")).works();
    assert_eq!((st.st_uid, st.st_gid), (1000, 2000));
    assert_eq!(sys::mode_of(&st), 0o755);
}

fn xattr_namespaces(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").owner("f", 1000, 1000);
            l.file("ro", "x").xattr("ro", "user.x", "y");
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::set_xattr(o.m("f"), "user.x", "y").works();
        sys::set_xattr(o.m("f"), "trusted.x", "y").fails(Errno::PERM);
        sys::set_xattr(o.m("f"), "security.capability", "y")
            .fails_any(&[Errno::PERM, Errno::INVAL]);
        assert_eq!(sys::get_xattr(o.m("ro"), "user.x").works(), b"y");
        sys::set_xattr(o.m("ro"), "user.x", "z").fails(Errno::ACCESS);
        sys::remove_xattr(o.m("ro"), "user.x").fails(Errno::ACCESS);
    });
    assert!(!sys::exists(o.u("ro")));
}

fn trusted_xattrs_hidden_from_users(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").xattr("f", "trusted.x", "y");
            l.xattr("f", "user.x", "y");
        })
        .mount();
    let check = || {
        t.as_user(1000, 1000, || {
            assert_eq!(sys::list_xattr(o.m("f")).works(), ["user.x"]);
            sys::get_xattr(o.m("f"), "trusted.x").fails_any(&[Errno::NODATA, Errno::PERM]);
        });
        assert_eq!(sys::list_xattr(o.m("f")).works(), ["trusted.x", "user.x"]);
    };
    check();
    sys::chmod(o.m("f"), 0o600).works();
    sys::chmod(o.m("f"), 0o644).works();
    check();
}

fn utimes_by_writer(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").mode("f", 0o666).times("f", (5, 5), (5, 5));
        })
        .mount();
    let now = (0, rustix::fs::UTIME_NOW);
    t.as_user(1000, 1000, || {
        sys::set_times(o.m("f"), (1, 1), (1, 1)).fails(Errno::PERM);
        sys::set_times(o.m("f"), now, now).works();
    });
    assert!(sys::stat(o.m("f")).works().st_mtime > 5);
}

fn noatime_open(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("mine", "x")
                .owner("mine", 1000, 1000)
                .file("not", "x");
        })
        .mount();
    t.as_user(1000, 1000, || {
        let flags = OFlags::RDONLY | OFlags::NOATIME;
        drop(sys::open(o.m("mine"), flags).works());
        sys::open(o.m("not"), flags).fails(Errno::PERM);
    });
}

fn devices_by_users(t: &T) {
    let dev = rustix::fs::makedev(1, 3);
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").mode("d", 0o777);
            l.node("d/null", FileType::CharacterDevice, dev);
            l.mode("d/null", 0o600);
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::open(o.m("d/null"), OFlags::RDONLY).fails(Errno::ACCESS);
        sys::mknod(o.m("d/new"), FileType::CharacterDevice, 0o600, dev).fails(Errno::PERM);
    });
    drop(sys::open(o.m("d/null"), OFlags::RDWR).works());
}

fn nodev_and_noexec(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
            l.file("script", "#!/bin/sh\nexit 0\n")
                .mode("script", 0o755);
        })
        .prepare();
    o.mount_old_api().works();
    let flags = MountFlags::NODEV | MountFlags::NOEXEC;
    sys::remount(&o.m("/"), flags | MountFlags::BIND, "").works();
    sys::open(o.m("null"), OFlags::RDONLY).fails(Errno::ACCESS);
    let run = std::process::Command::new(o.m("script")).status();
    assert_eq!(
        run.err().and_then(|e| e.raw_os_error()),
        Some(libc::EACCES),
        "executed on noexec"
    );
}

fn execute_permission(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("no", "#!/bin/sh\nexit 0\n").mode("no", 0o644);
            l.file("root", "#!/bin/sh\nexit 0\n").mode("root", 0o744);
            l.file("all", "#!/bin/sh\nexit 0\n").mode("all", 0o755);
        })
        .mount();
    let run = |n: &str| {
        std::process::Command::new(o.m(n))
            .status()
            .map_err(|e| e.raw_os_error())
    };
    assert_eq!(run("no").err(), Some(Some(libc::EACCES)));
    assert!(run("root").expect("root").success());
    t.as_user(1000, 1000, || {
        assert_eq!(run("root").err(), Some(Some(libc::EACCES)));
        assert!(run("all").expect("all").success());
    });
}

fn directory_search_permission(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("x_only/f", "x").mode("x_only", 0o711);
            l.file("r_only/f", "x").mode("r_only", 0o744);
        })
        .upper(|u| {
            u.file("x_only/g", "x").mode("x_only", 0o711);
            u.file("r_only/g", "x").mode("r_only", 0o744);
        })
        .mount();
    t.as_user(1000, 1000, || {
        assert_text(o.m("x_only/f"), "x");
        sys::names(o.m("x_only")).fails(Errno::ACCESS);
        assert_names(o.m("r_only"), &["f", "g"]);
        sys::stat(o.m("r_only/f")).fails(Errno::ACCESS);
    });
}

fn rename_needs_both_directories(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("mine/f", "x").owner("mine", 1000, 1000).dir("not");
        })
        .mount();
    t.as_user(1000, 1000, || {
        sys::rename(o.m("mine/f"), o.m("not/f")).fails(Errno::ACCESS);
        sys::link(o.m("mine/f"), o.m("not/f")).fails_any(&[Errno::ACCESS, Errno::PERM]);
        sys::rename(o.m("mine/f"), o.m("mine/g")).works();
    });
    assert_names(o.m("mine"), &["g"]);
    assert_names(o.m("not"), &[]);
}

fn chmod_through_fd_of_another_user(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    t.as_user(1000, 1000, || {
        sys::fchmod(&fd, 0o777).fails(Errno::PERM);
    });
    assert!(!sys::exists(o.u("f")));
}

fn acl_mask(t: &T) {
    use super::copyup::acl;
    const NONE: u32 = u32::MAX;
    let masked = acl(&[
        (0x01, 6, NONE),
        (0x02, 6, 1234),
        (0x04, 4, NONE),
        (0x10, 4, NONE),
        (0x20, 0, NONE),
    ]);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x")
                .xattr("f", "system.posix_acl_access", &masked);
        })
        .mount();
    for _ in 0..2 {
        t.as_user(1234, 1234, || {
            sys::read_file(o.m("f")).works();
            sys::open(o.m("f"), OFlags::WRONLY).fails(Errno::ACCESS);
        });
        sys::set_xattr(o.m("f"), "user.copied", "y").works();
    }
    assert_eq!(
        sys::get_xattr(o.u("f"), "system.posix_acl_access").works(),
        masked
    );
}

fn protected_lower_read_only_mount(t: &T) {
    let lower = t.new_dir("lower");
    Tree::new(&lower).file("f", "x");
    sys::bind_mount(&lower, &lower).works();
    let flags = MountFlags::RDONLY | MountFlags::BIND;
    sys::remount(&lower, flags, "").works();
    let o = t.stack().lower_dir(&lower).mount();
    sys::append_file(o.m("f"), "+").works();
    assert_text(o.m("f"), "x+");
    assert_text(lower.join("f"), "x");
    o.umount();
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", &lower).works();
    drop(fc);
    sys::umount(&lower).works();
}
