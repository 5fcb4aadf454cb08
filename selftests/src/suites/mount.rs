// SPDX-License-Identifier: GPL-2.0

//! Options, both mount interfaces, refusals and what they say.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, FsContext, OFlags, Res};
use crate::tree::{assert_names, assert_text, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(old_interface),
        test!(new_interface),
        test!(read_only_without_upper),
        test!(lower_list_in_one_option),
        test!(escapes_in_option_string),
        test!(strange_paths_one_by_one),
        test!(layers_by_fd),
        test!(layers_by_fd_and_path),
        test!(fd_of_a_file_is_refused),
        test!(relative_paths),
        test!(path_through_symlink),
        test!(five_hundred_layers).long(3),
        test!(five_hundred_layers_in_one_string).long(3),
        test!(five_hundred_layers_by_helper).long(3),
        test!(missing_lower),
        test!(lower_is_a_file),
        test!(missing_upper),
        test!(upper_is_a_file),
        test!(missing_work),
        test!(no_lower),
        test!(upper_without_work),
        test!(work_on_another_filesystem).needs(&[Fs::Other]),
        test!(work_is_upper),
        test!(work_inside_upper),
        test!(upper_inside_work),
        test!(upper_inside_lower),
        test!(lower_inside_upper),
        test!(upper_read_only),
        test!(upper_in_use),
        test!(work_in_use),
        test!(upper_free_after_umount),
        test!(upper_free_after_lazy_umount),
        test!(same_stack_is_one_filesystem),
        test!(same_stack_by_other_names),
        test!(same_stack_configured_twice),
        test!(same_stack_in_a_leaked_namespace),
        test!(other_stacks_are_busy),
        test!(same_stack_read_only_is_busy),
        test!(same_stack_of_another_user_is_busy),
        test!(same_stack_in_another_user_namespace_is_busy),
        test!(exclusive_means_new),
        test!(lowers_alone_are_never_busy),
        test!(mounted_again_at_once),
        test!(other_stack_at_once),
        test!(same_stack_mounted_and_unmounted_by_many),
        test!(stacks_compete_for_an_upper),
        test!(mounted_while_the_last_file_is_closed),
        test!(overlay_keeps_its_upper),
        test!(work_is_swept).matrix().not_on(&ONLY_LOWERS),
        test!(work_of_a_volatile_mount),
        test!(lower_twice),
        test!(work_without_upper),
        test!(upper_without_xattrs),
        test!(stack_too_deep),
        test!(upper_on_a_stacking_filesystem),
        test!(unknown_option),
        test!(known_option_not_built),
        test!(default_values_accepted),
        test!(too_long_and_too_many),
        test!(bad_value),
        test!(empty_values),
        test!(nothing_stays_after_a_refusal),
        test!(mountinfo_round_trip),
        test!(mountinfo_round_trip_old_interface),
        test!(mountinfo_strange_paths),
        test!(statfs_of_upper).matrix(),
        test!(statfs_without_upper),
        test!(remount_read_only),
        test!(remount_cannot_make_writable),
        test!(remount_cannot_change_layers),
        test!(remount_read_only_with_removed_files),
        test!(access_times),
        test!(freeze_is_refused),
        test!(lacks_are_reported).uppers(&[Fs::Jfs]),
        test!(lowers_shared_by_mounts),
        test!(umount_busy),
        test!(bind_mount),
        test!(mount_umount_many_times),
        test!(mount_umount_in_parallel),
        test!(lower_on_other_filesystems).needs(&[Fs::Other, Fs::Xfs, Fs::Btrfs, Fs::Tmpfs]),
        test!(sync_and_syncfs),
        test!(root_is_a_directory_like_others),
        test!(not_for_ordinary_users),
    ]
}

/// Combinations which differ from the usual one in their lower layer only.
const ONLY_LOWERS: [Fs; 3] = [Fs::Other, Fs::Erofs, Fs::Squashfs];

/// Directories for a mount by hand.
struct Dirs {
    lower: PathBuf,
    upper: PathBuf,
    work: PathBuf,
    mnt: PathBuf,
}

impl Dirs {
    fn new(t: &T) -> Dirs {
        let dirs = Dirs {
            lower: t.new_dir("lower"),
            upper: t.new_dir("upper"),
            work: t.new_dir("work"),
            mnt: t.new_dir("mnt"),
        };
        Tree::new(&dirs.lower).file("f", "lower");
        dirs
    }

    /// Gives all layers and creates the superblock.
    fn create(&self, fc: &FsContext) -> Res<()> {
        self.layers(fc)?;
        fc.create()
    }

    fn layers(&self, fc: &FsContext) -> Res<()> {
        fc.string("lowerdir+", &self.lower)?;
        fc.string("upperdir", &self.upper)?;
        fc.string("workdir", &self.work)
    }

    fn mount(&self, t: &T) -> Res<()> {
        let fc = FsContext::open(t.fstype())?;
        self.create(&fc)?;
        fc.attach(&self.mnt, false)
    }
}

/// `f` must fail with one of `errnos`; the log must have each of `words`.
/// (Overlayfs puts much of that into the kernel's log or leaves it out.)
#[track_caller]
fn refused(
    t: &T,
    errnos: &[Errno],
    words: &[&str],
    f: impl FnOnce(&FsContext) -> Res<()>,
) -> String {
    t.kernel_log();
    let fc = FsContext::open(t.fstype()).works();
    let result = f(&fc);
    let mut log = result
        .as_ref()
        .err()
        .map_or(String::new(), |e| format!("{e:?}\n"));
    // What was asked for stands in the error itself; only the log counts.
    let said = match log.split_once("log: ") {
        Some((_, said)) => said.to_string(),
        None => String::new(),
    };
    log = format!("{said}\n{}", fc.log().join("\n"));
    result.fails_any(errnos);
    if !t.is_overlay() {
        for w in words {
            assert!(log.contains(w), "the refusal does not say {w:?}: {log:?}");
        }
    }
    log
}

fn old_interface(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "lower");
        })
        .lower(|l| {
            l.file("g", "lower g");
        })
        .prepare();
    o.mount_old_api().works();
    assert_names(o.m("/"), &["f", "g"]);
    sys::write_file(o.m("f"), "new").works();
    assert_text(o.u("f"), "new");
}

fn new_interface(t: &T) {
    let d = Dirs::new(t);
    let fc = FsContext::open(t.fstype()).works();
    fc.string("source", "none").works();
    d.create(&fc).works();
    fc.attach(&d.mnt, false).works();
    assert_text(d.mnt.join("f"), "lower");
    sys::umount(&d.mnt).works();
}

fn read_only_without_upper(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "1");
        })
        .lower(|l| {
            l.file("g", "2");
        })
        .readonly()
        .mount();
    assert_names(o.m("/"), &["f", "g"]);
    sys::write_file(o.m("new"), "x").fails(Errno::ROFS);
    sys::append_file(o.m("f"), "x").fails(Errno::ROFS);
    let flags = sys::statfs(o.m("/")).works();
    assert_eq!(flags.f_flags as u64 & libc::ST_RDONLY, libc::ST_RDONLY);
}

fn lower_list_in_one_option(t: &T) {
    let (a, b) = (t.new_dir("a"), t.new_dir("b"));
    Tree::new(&a).file("f", "top");
    Tree::new(&b).file("f", "bottom").file("g", "g");
    let mnt = t.new_dir("mnt");
    let fc = FsContext::open(t.fstype()).works();
    let mut list = a.clone().into_os_string();
    list.push(":");
    list.push(&b);
    fc.string("lowerdir", &list).works();
    fc.create().works();
    fc.attach(&mnt, false).works();
    assert_text(mnt.join("f"), "top");
    assert_names(&mnt, &["f", "g"]);
    sys::umount(&mnt).works();
}

fn escapes_in_option_string(t: &T) {
    let d = t.new_dir("d");
    let names = ["co:lon", "back\\slash", "com,ma", "all:\\,of::them"];
    let mut options = String::from("lowerdir=");
    for (i, n) in names.iter().enumerate() {
        let at = d.join(n);
        sys::mkdir(&at, 0o755).works();
        Tree::new(&at).file(format!("in{i}"), "x");
        if i > 0 {
            options.push(':');
        }
        let path = at.to_str().expect("path").to_string();
        options.push_str(
            &path
                .replace('\\', "\\\\")
                .replace(':', "\\:")
                .replace(',', "\\,"),
        );
    }
    let (upper, work, mnt) = (d.join("up,:per"), d.join("wo,:rk"), d.join("mnt"));
    for at in [&upper, &work, &mnt] {
        sys::mkdir(at, 0o755).works();
    }
    for (key, at) in [("upperdir", &upper), ("workdir", &work)] {
        let path = at.to_str().expect("path").replace(',', "\\,");
        options.push_str(&format!(",{key}={path}"));
    }
    let flags = MountFlags::empty();
    sys::mount("none", &mnt, t.fstype(), flags, options.as_bytes()).works();
    assert_names(&mnt, &["in0", "in1", "in2", "in3"]);
    sys::write_file(mnt.join("new"), "n").works();
    assert_text(upper.join("new"), "n");
    sys::umount(&mnt).works();
}

const STRANGE: [&str; 7] = [
    "co:lon::two",
    "back\\slash",
    "com,ma=equals",
    "spa ce\ttab",
    "new\nline",
    "\\:",
    "hash#quote\"'",
];

fn strange_stack(t: &T) -> (crate::stack::Overlay, PathBuf) {
    let d = t.new_dir("d");
    let mut stack = t.stack();
    for (i, n) in STRANGE.iter().enumerate() {
        let at = d.join(n);
        sys::mkdir(&at, 0o755).works();
        Tree::new(&at).file(format!("in{i}"), "x");
        stack = stack.lower_dir(at);
    }
    let home = d.join("up,: per");
    sys::mkdir(&home, 0o755).works();
    (stack.upper_in(&home).prepare(), d)
}

fn strange_paths_one_by_one(t: &T) {
    let (o, _) = strange_stack(t);
    o.mount().works();
    assert_eq!(sys::names(o.m("/")).works().len(), STRANGE.len());
    sys::write_file(o.m("new"), "n").works();
    assert_text(o.u("new"), "n");
}

fn layers_by_fd(t: &T) {
    let d = Dirs::new(t);
    let second = t.new_dir("second");
    Tree::new(&second).file("g", "second");
    let path = |p: &Path| sys::open(p, OFlags::PATH | OFlags::DIRECTORY).works();
    let fc = FsContext::open(t.fstype()).works();
    fc.fd("lowerdir+", &path(&d.lower)).works();
    fc.fd("lowerdir+", &path(&second)).works();
    fc.fd("upperdir", &path(&d.upper)).works();
    fc.fd("workdir", &path(&d.work)).works();
    fc.create().works();
    fc.attach(&d.mnt, false).works();
    assert_names(&d.mnt, &["f", "g"]);
    sys::write_file(d.mnt.join("new"), "n").works();
    assert_text(d.upper.join("new"), "n");
    sys::umount(&d.mnt).works();
}

fn layers_by_fd_and_path(t: &T) {
    let d = Dirs::new(t);
    let second = t.new_dir("second");
    Tree::new(&second).file("f", "second");
    let fd = |p: &Path| sys::open(p, OFlags::RDONLY | OFlags::DIRECTORY).works();
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", &d.lower).works();
    fc.fd("lowerdir+", &fd(&second)).works();
    fc.string("upperdir", &d.upper).works();
    fc.fd("workdir", &fd(&d.work)).works();
    fc.create().works();
    fc.attach(&d.mnt, false).works();
    assert_text(d.mnt.join("f"), "lower");
    sys::umount(&d.mnt).works();
}

fn fd_of_a_file_is_refused(t: &T) {
    let d = Dirs::new(t);
    let fd = sys::open(d.lower.join("f"), OFlags::RDONLY).works();
    let errnos = [Errno::INVAL, Errno::NOTDIR];
    for key in ["lowerdir+", "upperdir", "workdir"] {
        refused(t, &errnos, &["not a directory"], |fc| fc.fd(key, &fd));
    }
}

fn relative_paths(t: &T) {
    let d = t.new_dir("d");
    for n in ["l", "u", "w", "m"] {
        sys::mkdir(d.join(n), 0o755).works();
    }
    Tree::new(d.join("l")).file("f", "lower");
    std::env::set_current_dir(&d).expect("chdir");
    let options = b"lowerdir=l,upperdir=./u,workdir=../d1/w";
    let mnt = d.join("m");
    sys::mount("none", &mnt, t.fstype(), MountFlags::empty(), options).works();
    std::env::set_current_dir("/").expect("chdir");
    assert_text(mnt.join("f"), "lower");
    sys::umount(&mnt).works();
}

fn path_through_symlink(t: &T) {
    let d = Dirs::new(t);
    let link = t.new_dir("links").join("to_lower");
    sys::symlink(&d.lower, &link).works();
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", &link).works();
    fc.string("upperdir", &d.upper).works();
    fc.string("workdir", &d.work).works();
    fc.create().works();
    fc.attach(&d.mnt, false).works();
    assert_text(d.mnt.join("f"), "lower");
    sys::umount(&d.mnt).works();
}

const MANY: usize = 500;

/// Directories 0 to 499, each with a file of its own and one that all have.
fn many_layers(t: &T) -> PathBuf {
    let d = t.new_dir("layers");
    for i in 0..MANY {
        let l = Tree::new(d.join(i.to_string()));
        l.file(format!("own{i}"), i.to_string());
        l.file("all", i.to_string());
    }
    d
}

fn check_many(mnt: &Path) {
    assert_text(mnt.join("all"), "0");
    assert_text(mnt.join("own0"), "0");
    assert_text(mnt.join("own250"), "250");
    assert_text(
        mnt.join(format!("own{}", MANY - 1)),
        &(MANY - 1).to_string(),
    );
    assert_eq!(sys::names(mnt).works().len(), MANY + 1);
}

fn five_hundred_layers(t: &T) {
    let d = many_layers(t);
    let mut stack = t.stack().lowers_not_compared();
    for i in 0..MANY {
        stack = stack.lower_dir(d.join(i.to_string()));
    }
    let o = stack.mount();
    check_many(&o.m("/"));
    sys::append_file(o.m(format!("own{}", MANY - 1)), "+").works();
    assert_text(o.u(format!("own{}", MANY - 1)), "499+");
    sys::unlink(o.m("all")).works();
    sys::stat(o.m("all")).fails(Errno::NOENT);
}

/// One page holds that much with short names.
fn five_hundred_layers_in_one_string(t: &T) {
    let d = many_layers(t);
    let mnt = t.new_dir("mnt");
    let list: Vec<String> = (0..MANY).map(|i| i.to_string()).collect();
    std::env::set_current_dir(&d).expect("chdir");
    let options = format!("lowerdir={}", list.join(":"));
    let flags = MountFlags::RDONLY;
    let mounted = sys::mount("none", &mnt, t.fstype(), flags, options.as_bytes());
    std::env::set_current_dir("/").expect("chdir");
    mounted.works();
    check_many(&mnt);
    sys::umount(&mnt).works();
}

/// mount(8) with a list of any length: it calls /sbin/mount.TYPE, which
/// gives the layers one by one.
fn five_hundred_layers_by_helper(t: &T) {
    t.better_than_overlay("mount -t overlay takes at most 255 bytes of lowerdir=");
    install_helper(t);
    let d = many_layers(t);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower_dir(d.join("0"))
        .prepare();
    let mut options = OsString::from("lowerdir=");
    for i in 0..MANY {
        if i > 0 {
            options.push(":");
        }
        options.push(d.join(i.to_string()));
    }
    options.push(",upperdir=");
    options.push(o.u("/"));
    options.push(",workdir=");
    options.push(o.w("/"));
    assert!(options.len() > 8192, "too short to prove anything");
    let mnt = o.m("/");
    let args: [&OsStr; 6] = [
        "-t".as_ref(),
        t.fstype().as_ref(),
        "-o".as_ref(),
        &options,
        "none".as_ref(),
        mnt.as_os_str(),
    ];
    sys::run("mount", &args);
    check_many(&mnt);
    sys::write_file(mnt.join("new"), "n").works();
    assert_text(o.u("new"), "n");
    sys::run("umount", &[mnt.as_os_str()]);
    // A refusal comes through with what is wrong.
    let bad = format!("lowerdir={}", d.join("missing").display());
    let out = std::process::Command::new("mount")
        .args(["-t", t.fstype(), "-o", &bad, "none"])
        .arg(&mnt)
        .output()
        .expect("mount");
    assert!(!out.status.success(), "mounted a missing layer");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("missing"), "mount says only {said:?}");
}

/// Makes the helper the test was given appear as /sbin/mount.TYPE, in the
/// mount namespace of this test.
fn install_helper(t: &T) {
    let name = format!("mount.{}", t.fstype());
    let sbin = std::fs::canonicalize("/sbin").expect("/sbin");
    if sbin.join(&name).exists() {
        return;
    }
    let helper = t
        .config
        .helper
        .clone()
        .unwrap_or_else(|| panic!("no {name}: neither installed nor in ROVL_HELPER"));
    let (old, new) = (t.new_dir("sbin-old"), t.new_dir("sbin-new"));
    sys::bind_mount(&sbin, &old).works();
    for entry in std::fs::read_dir(&old).expect("sbin").flatten() {
        sys::symlink(entry.path(), new.join(entry.file_name())).works();
    }
    std::fs::copy(&helper, new.join(&name)).expect("copy of the helper");
    sys::chmod(new.join(&name), 0o755).works();
    sys::bind_mount(&new, &sbin).works();
}

fn as_str(p: &Path) -> &str {
    p.to_str().expect("path")
}

fn missing_lower(t: &T) {
    let d = Dirs::new(t);
    let missing = d.lower.join("missing");
    refused(t, &[Errno::NOENT], &[as_str(&missing)], |fc| {
        fc.string("lowerdir+", &d.lower)?;
        fc.string("lowerdir+", &missing)?;
        fc.create()
    });
    refused(t, &[Errno::NOENT], &[as_str(&missing)], |fc| {
        let mut list = d.lower.clone().into_os_string();
        list.push(":");
        list.push(&missing);
        fc.string("lowerdir", &list)?;
        fc.create()
    });
}

fn lower_is_a_file(t: &T) {
    let d = Dirs::new(t);
    let file = d.lower.join("f");
    let errnos = [Errno::INVAL, Errno::NOTDIR];
    refused(t, &errnos, &[as_str(&file), "not a directory"], |fc| {
        fc.string("lowerdir+", &file)?;
        fc.create()
    });
}

fn missing_upper(t: &T) {
    let mut d = Dirs::new(t);
    d.upper = d.upper.join("missing");
    refused(t, &[Errno::NOENT], &[as_str(&d.upper)], |fc| d.create(fc));
}

fn upper_is_a_file(t: &T) {
    let mut d = Dirs::new(t);
    d.upper = d.upper.join("f");
    sys::write_file(&d.upper, "x").works();
    let errnos = [Errno::INVAL, Errno::NOTDIR];
    let words = [as_str(&d.upper), "not a directory"];
    refused(t, &errnos, &words, |fc| d.create(fc));
}

fn missing_work(t: &T) {
    let mut d = Dirs::new(t);
    d.work = d.work.join("missing");
    refused(t, &[Errno::NOENT], &[as_str(&d.work)], |fc| d.create(fc));
}

fn no_lower(t: &T) {
    let d = Dirs::new(t);
    refused(t, &[Errno::INVAL], &["lowerdir"], |fc| {
        fc.string("upperdir", &d.upper)?;
        fc.string("workdir", &d.work)?;
        fc.create()
    });
    refused(t, &[Errno::INVAL], &["lowerdir"], FsContext::create);
}

fn upper_without_work(t: &T) {
    let d = Dirs::new(t);
    refused(t, &[Errno::INVAL], &["workdir"], |fc| {
        fc.string("lowerdir+", &d.lower)?;
        fc.string("upperdir", &d.upper)?;
        fc.create()
    });
}

fn work_on_another_filesystem(t: &T) {
    let mut d = Dirs::new(t);
    d.work = t.room(Fs::Other).join("work");
    sys::mkdir(&d.work, 0o755).works();
    let errnos = [Errno::INVAL, Errno::XDEV];
    refused(t, &errnos, &[as_str(&d.work)], |fc| d.create(fc));
}

fn work_is_upper(t: &T) {
    let mut d = Dirs::new(t);
    d.work = d.upper.clone();
    refused(t, &OVERLAPPING, &[as_str(&d.work)], |fc| d.create(fc));
}

const OVERLAPPING: [Errno; 3] = [Errno::INVAL, Errno::LOOP, Errno::BUSY];

fn work_inside_upper(t: &T) {
    let mut d = Dirs::new(t);
    d.work = d.upper.join("work");
    sys::mkdir(&d.work, 0o755).works();
    refused(t, &OVERLAPPING, &[as_str(&d.work)], |fc| d.create(fc));
}

fn upper_inside_work(t: &T) {
    let mut d = Dirs::new(t);
    d.upper = d.work.join("upper");
    sys::mkdir(&d.upper, 0o755).works();
    refused(t, &OVERLAPPING, &[as_str(&d.work)], |fc| d.create(fc));
}

/// Programs mount `lowerdir=/` with an upper somewhere in it. If that is
/// refused, then by name; if not, what is written does not come back as lower.
fn upper_inside_lower(t: &T) {
    let mut d = Dirs::new(t);
    d.upper = d.lower.join("upper");
    sys::mkdir(&d.upper, 0o755).works();
    let fc = FsContext::open(t.fstype()).works();
    if d.create(&fc).is_err() {
        refused(t, &OVERLAPPING, &[as_str(&d.upper)], |fc| d.create(fc));
        return;
    }
    fc.attach(&d.mnt, false).works();
    drop(fc);
    sys::write_file(d.mnt.join("f"), "new").works();
    assert_text(d.mnt.join("f"), "new");
    assert_text(d.lower.join("f"), "lower");
    assert_text(d.upper.join("f"), "new");
    sys::umount(&d.mnt).works();
}

fn lower_inside_upper(t: &T) {
    let mut d = Dirs::new(t);
    d.lower = d.upper.join("lower");
    sys::mkdir(&d.lower, 0o755).works();
    refused(t, &OVERLAPPING, &[as_str(&d.lower)], |fc| d.create(fc));
    d.lower = d.upper.clone();
    refused(t, &OVERLAPPING, &[as_str(&d.lower)], |fc| d.create(fc));
}

fn upper_read_only(t: &T) {
    let mut d = Dirs::new(t);
    let own = t.own_fs(Fs::Ext4, 32);
    Tree::new(&own.at).dir("u").dir("w");
    sys::umount(&own.at).works();
    crate::env::mount_device(Fs::Ext4, &own.image, &own.at, "ro");
    d.upper = own.at.join("u");
    d.work = own.at.join("w");
    let errnos = [Errno::INVAL, Errno::ROFS];
    let words = [as_str(&d.upper), "read-only"];
    refused(t, &errnos, &words, |fc| d.create(fc));
    sys::umount(&own.at).works();
}

fn upper_in_use(t: &T) {
    let first = Dirs::new(t);
    first.mount(t).works();
    let mut second = Dirs::new(t);
    second.upper = first.upper.clone();
    t.better_than_overlay("with index=off overlayfs only warns of an upper in use");
    let words = [as_str(&first.upper), "in use"];
    refused(t, &[Errno::BUSY], &words, |fc| second.create(fc));
    // As somebody else's work directory, too.
    let mut third = Dirs::new(t);
    third.work = first.upper.clone();
    refused(t, &[Errno::BUSY], &[as_str(&first.upper)], |fc| {
        third.create(fc)
    });
    sys::write_file(first.mnt.join("f"), "still works").works();
    sys::umount(&first.mnt).works();
}

fn work_in_use(t: &T) {
    let first = Dirs::new(t);
    first.mount(t).works();
    let mut second = Dirs::new(t);
    second.work = first.work.clone();
    t.better_than_overlay("with index=off overlayfs only warns of a workdir in use");
    let words = [as_str(&first.work), "in use"];
    refused(t, &[Errno::BUSY], &words, |fc| second.create(fc));
    sys::umount(&first.mnt).works();
}

fn upper_free_after_umount(t: &T) {
    let d = Dirs::new(t);
    for i in 0..3 {
        d.mount(t).works();
        sys::write_file(d.mnt.join(format!("n{i}")), "x").works();
        sys::umount(&d.mnt).works();
    }
    let mut other = Dirs::new(t);
    other.upper = d.upper.clone();
    other.work = d.work.clone();
    other.mount(t).works();
    assert_names(&other.mnt, &["f", "n0", "n1", "n2"]);
    sys::umount(&other.mnt).works();
}

/// While something is open in it, it is the same filesystem that is mounted again; after that a new
/// one.
fn upper_free_after_lazy_umount(t: &T) {
    let d = Dirs::new(t);
    d.mount(t).works();
    let fd = sys::open(d.mnt.join("f"), OFlags::RDWR).works();
    sys::umount_detach(&d.mnt);
    sys::pwrite(&fd, "LOWER", 0).works();
    d.mount(t).works();
    assert_text(d.mnt.join("f"), "LOWER");
    if !t.is_overlay() {
        let (held, seen) = (sys::fstat(&fd).works(), sys::stat(d.mnt.join("f")).works());
        assert_eq!((held.st_dev, held.st_ino), (seen.st_dev, seen.st_ino));
        sys::pwrite(&fd, "Low", 0).works();
        assert_text(d.mnt.join("f"), "LowER");
        sys::write_file(d.mnt.join("f"), "new").works();
        assert_eq!(sys::pread(&fd, 10, 0).works(), b"new");
    }
    drop(fd);
    sys::umount(&d.mnt).works();
    d.mount(t).works();
    sys::umount(&d.mnt).works();
}

fn dev(at: &Path) -> u64 {
    sys::stat(at).works().st_dev
}

const ONE_SUPERBLOCK: &str = "it makes a second mount of the layers, and only warns";

/// Two mounts of one stack see each other's changes at once, as two of a block device do.
fn same_stack_is_one_filesystem(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "lower").file("d/g", "g").file("d/h", "h");
        })
        .mount();
    let again = t.new_dir("again");
    o.mount_at(&again).works();
    assert_eq!(dev(&o.m("/")), dev(&again));
    // Whatever is cached of the one is cached of the other.
    for p in ["f", "d/g", "d/h", "d/new"] {
        let _ = (sys::stat(o.m(p)), sys::stat(again.join(p)));
    }
    let fd = sys::open(again.join("f"), OFlags::RDONLY).works();
    sys::append_file(o.m("f"), "+").works();
    assert_eq!(sys::pread(&fd, 10, 0).works(), b"lower+");
    sys::unlink(o.m("d/g")).works();
    sys::stat(again.join("d/g")).fails(Errno::NOENT);
    sys::write_file(again.join("d/new"), "n").works();
    assert_text(o.m("d/new"), "n");
    sys::rename(o.m("d/h"), o.m("moved")).works();
    assert_names(again.join("d"), &["new"]);
    assert_text(again.join("moved"), "h");
    // Between mounts there are no links, as between two of a block device.
    sys::link(o.m("f"), again.join("l")).fails(Errno::XDEV);
    drop(fd);
    sys::umount(&again).works();
    assert_text(o.m("moved"), "h");
}

/// The same directories are the same stack, whatever they are called.
fn same_stack_by_other_names(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let d = Dirs::new(t);
    d.mount(t).works();
    let again = t.new_dir("again");
    let link = t.new_dir("links").join("to_lower");
    sys::symlink(&d.lower, &link).works();
    let bound = t.new_dir("bound");
    sys::bind_mount(&d.lower, &bound).works();
    for lower in [&d.lower, &link, &bound, &d.lower.join("../").join(&d.lower)] {
        let options = format!(
            "lowerdir={},upperdir={}/.,workdir={}//",
            lower.display(),
            d.upper.display(),
            d.work.display()
        );
        let none = MountFlags::empty();
        sys::mount("other", &again, t.fstype(), none, options.as_bytes()).works();
        assert_eq!(dev(&d.mnt), dev(&again));
        sys::umount(&again).works();
    }
    // By a mount that may not be cloned nobody comes to what others have mounted.
    let change = rustix::mount::MountPropagationFlags::UNBINDABLE;
    rustix::mount::mount_change(&bound, change).expect("unbindable");
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", &bound).works();
    fc.string("upperdir", &d.upper).works();
    fc.string("workdir", &d.work).works();
    fc.create().fails(Errno::INVAL);
    drop(fc);
    let open = |p: &Path| sys::open(p, OFlags::PATH | OFlags::DIRECTORY).works();
    let fc = FsContext::open(t.fstype()).works();
    fc.fd("lowerdir+", &open(&d.lower)).works();
    fc.fd("upperdir", &open(&d.upper)).works();
    fc.fd("workdir", &open(&d.work)).works();
    fc.create().works();
    fc.attach(&again, false).works();
    drop(fc);
    assert_eq!(dev(&d.mnt), dev(&again));
    sys::umount(&again).works();
    sys::umount(&bound).works();
    // What has taken the place of a directory is another one.
    let old = d.lower.with_extension("old");
    sys::rename(&d.lower, &old).works();
    Tree::new(&d.lower).file("f", "other");
    d.mount(t).fails(Errno::BUSY);
    sys::umount(&d.mnt).works();
    d.mount(t).works();
    assert_text(d.mnt.join("f"), "other");
    sys::umount(&d.mnt).works();
}

/// Two configurations, neither of which is mounted when the other is made.
fn same_stack_configured_twice(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let d = Dirs::new(t);
    let again = t.new_dir("again");
    let (a, b) = (FsContext::open(t.fstype()), FsContext::open(t.fstype()));
    let (a, b) = (a.works(), b.works());
    d.layers(&a).works();
    d.layers(&b).works();
    a.create().works();
    b.create().works();
    a.attach(&d.mnt, false).works();
    drop(a);
    sys::write_file(d.mnt.join("new"), "n").works();
    sys::umount(&d.mnt).works();
    // It lives in the other configuration.
    b.attach(&again, false).works();
    drop(b);
    assert_text(again.join("new"), "n");
    d.mount(t).works();
    assert_eq!(dev(&d.mnt), dev(&again));
    sys::umount(&again).works();
    sys::umount(&d.mnt).works();
}

/// Case 19: a container is started again while its old mount is still to be seen in a namespace
/// that somebody has made meanwhile.
fn same_stack_in_a_leaked_namespace(t: &T) {
    use crate::process::{exit_now, fork, pipe, wait_for};
    use std::io::{Read, Write};
    let d = Dirs::new(t);
    d.mount(t).works();
    sys::write_file(d.mnt.join("one"), "1").works();
    let ((mut ready, mut tell), (mut wait, go)) = (pipe(), pipe());
    let pid = fork();
    if pid == 0 {
        drop((ready, go));
        let flags = rustix::thread::UnshareFlags::NEWNS;
        // SAFETY: namespaces have nothing to do with memory or descriptors.
        let made = unsafe { rustix::thread::unshare_unsafe(flags) };
        sys::private_mounts();
        let _ = tell.write_all(&[u8::from(made.is_ok())]);
        let _ = wait.read(&mut [0]);
        // The leaked one is of the new filesystem, too.
        let seen = sys::text(d.mnt.join("two"));
        exit_now(i32::from(t.is_overlay() || seen.is_ok_and(|t| t == "2")) - 1);
    }
    drop((tell, wait));
    ready.read_exact(&mut [0]).expect("a child that tells");
    sys::umount(&d.mnt).works();
    d.mount(t).works();
    assert_text(d.mnt.join("one"), "1");
    sys::write_file(d.mnt.join("two"), "2").works();
    // Its upper layer as a lower one of another mount.
    let other = t.new_dir("other");
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir+", &d.upper).works();
    fc.string("lowerdir+", &d.lower).works();
    fc.create().works();
    fc.attach(&other, false).works();
    drop(fc);
    assert_names(&other, &["f", "one", "two"]);
    sys::umount(&other).works();
    drop(go);
    assert_eq!(wait_for(pid), 0, "what the leaked mount shows");
    sys::umount(&d.mnt).works();
    d.mount(t).works();
    assert_text(d.mnt.join("two"), "2");
    sys::umount(&d.mnt).works();
}

/// Whatever is different makes it another stack, and of these there can be only one.
fn other_stacks_are_busy(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let d = Dirs::new(t);
    let (low, other) = (t.new_dir("low"), t.new_dir("other"));
    let other_work = t.new_dir("other_work");
    let make = |lower: &[&Path], upper: &Path, work: &Path, flags: &[&str]| {
        let fc = FsContext::open(t.fstype()).works();
        for l in lower {
            fc.string("lowerdir+", l).works();
        }
        fc.string("upperdir", upper).works();
        fc.string("workdir", work).works();
        for flag in flags {
            fc.flag(flag).works();
        }
        fc.create().map(|()| fc)
    };
    let (l, u, w) = (d.lower.as_path(), d.upper.as_path(), d.work.as_path());
    let first = make(&[l, &low], u, w, &[]).works();
    first.attach(&d.mnt, false).works();
    let device = dev(&d.mnt);
    let device = format!("{}:{}", libc::major(device), libc::minor(device));
    let cases: [(&[&Path], &Path, &Path, &[&str]); 11] = [
        (&[l], u, w, &[]),
        (&[&low], u, w, &[]),
        (&[&low, l], u, w, &[]),
        (&[l, &low, &other], u, w, &[]),
        (&[l, &other], u, w, &[]),
        (&[l, &low], u, w, &["userxattr"]),
        (&[l, &low], u, w, &["default_permissions"]),
        (&[l, &low], u, w, &["sync"]),
        (&[l, &low], u, &other_work, &[]),
        (&[l, &low], &other, w, &[]),
        (&[l, &low], w, u, &[]),
    ];
    for (lower, upper, work, flags) in cases {
        let refused = make(lower, upper, work, flags);
        let said = format!("{:?}", refused.as_ref().err());
        assert!(
            said.contains("in use") && said.contains(&device),
            "{lower:?} {upper:?} {work:?} {flags:?}: {said}"
        );
        refused.map(drop).fails(Errno::BUSY);
    }
    drop(first);
    // All of that has changed nothing.
    drop(make(&[l, &low], u, w, &[]).works());
    sys::write_file(d.mnt.join("f"), "still works").works();
    assert_names(&other, &[]);
    assert_names(&other_work, &[]);
    sys::umount(&d.mnt).works();
    drop(make(&[&low], u, w, &[]).works());
}

/// As for a block device.
fn same_stack_read_only_is_busy(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let d = Dirs::new(t);
    d.mount(t).works();
    let ro = |fc: &FsContext| {
        fc.flag("ro")?;
        d.create(fc)
    };
    let words = [as_str(&d.upper), "read-only", "writable"];
    refused(t, &[Errno::BUSY], &words, ro);
    // The mount may be read-only, of a filesystem that is not.
    let again = t.new_dir("again");
    let fc = FsContext::open(t.fstype()).works();
    d.create(&fc).works();
    fc.attach(&again, true).works();
    drop(fc);
    sys::write_file(again.join("f"), "x").fails(Errno::ROFS);
    sys::write_file(d.mnt.join("f"), "x").works();
    sys::umount(&again).works();
    sys::remount(&d.mnt, MountFlags::RDONLY, "").works();
    refused(t, &[Errno::BUSY], &words, |fc| d.create(fc));
    let fc = FsContext::open(t.fstype()).works();
    ro(&fc).works();
    drop(fc);
    sys::umount(&d.mnt).works();
    d.mount(t).works();
    sys::umount(&d.mnt).works();
}

/// Layers are accessed as who made the mount, so somebody else's is another one.
fn same_stack_of_another_user_is_busy(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let d = Dirs::new(t);
    d.mount(t).works();
    let words = [as_str(&d.upper), "in use", "credentials"];
    let groups = |gids: &[u32]| {
        // SAFETY: an array of so many groups.
        let r = unsafe { libc::setgroups(gids.len(), gids.as_ptr()) };
        assert_eq!(r, 0, "setgroups");
    };
    t.in_child(|| {
        groups(&[7, 9]);
        refused(t, &[Errno::BUSY], &words, |fc| d.create(fc));
        // His own group once more makes him nobody else.
        groups(&[0]);
        d.create(&FsContext::open(t.fstype()).works()).works();
        groups(&[]);
        d.create(&FsContext::open(t.fstype()).works()).works();
        // SAFETY: takes only numbers.
        unsafe { libc::setfsgid(7) };
        refused(t, &[Errno::BUSY], &words, |fc| d.create(fc));
    });
    t.in_child(|| {
        // SAFETY: takes only numbers.
        unsafe { libc::prctl(libc::PR_SET_SECUREBITS, 1, 0, 0, 0) };
        refused(t, &[Errno::BUSY], &words, |fc| d.create(fc));
    });
    d.create(&FsContext::open(t.fstype()).works()).works();
    sys::umount(&d.mnt).works();
}

fn same_stack_in_another_user_namespace_is_busy(t: &T) {
    use super::userns::{mount_in, rootless_child};
    t.better_than_overlay(ONE_SUPERBLOCK);
    rootless_child(t, |at| {
        Tree::new(at).dir("l").dir("u").dir("w").dir("m").dir("m2");
        let fc = mount_in(t, at, &["l"], &["userxattr"]).works();
        t.in_child(|| {
            super::userns::become_root_alone(0, 0);
            let refused = mount_in(t, at, &["l"], &["userxattr"]).map(drop);
            let said = format!("{refused:?}");
            refused.fails(Errno::BUSY);
            assert!(said.contains("in use"), "{said}");
            // Lower layers alone are each one's own.
            for n in ["u", "w"] {
                sys::rename(at.join(n), at.join(format!("{n}-away"))).works();
            }
            let fc = mount_in(t, at, &["l"], &["userxattr"]).works();
            drop(fc);
            sys::umount(&at.join("m")).works();
        });
        drop(fc);
        sys::umount(&at.join("m")).works();
    });
}

/// Who asks for a new filesystem (FSCONFIG_CMD_CREATE_EXCL) does not get one that is there.
fn exclusive_means_new(t: &T) {
    t.better_than_overlay("each of its mounts is a new one");
    let d = Dirs::new(t);
    d.mount(t).works();
    let excl = |fc: &FsContext| {
        d.layers(fc).works();
        rustix::mount::fsconfig_create_exclusive(&fc.fd)
    };
    let fc = FsContext::open(t.fstype()).works();
    assert_eq!(excl(&fc), Err(Errno::BUSY));
    sys::umount(&d.mnt).works();
    let fc = FsContext::open(t.fstype()).works();
    assert_eq!(excl(&fc), Ok(()));
    fc.attach(&d.mnt, false).works();
    drop(fc);
    sys::umount(&d.mnt).works();
}

/// Nobody writes to them: one filesystem where all is the same, and another one where not.
fn lowers_alone_are_never_busy(t: &T) {
    let (a, b) = (t.new_dir("a"), t.new_dir("b"));
    Tree::new(&a).file("a", "a");
    Tree::new(&b).file("b", "b");
    let made = |lower: &[&Path], flags: &[&str]| {
        let at = t.new_dir("at");
        let fc = FsContext::open(t.fstype()).works();
        for l in lower {
            fc.string("lowerdir+", l).works();
        }
        for flag in flags {
            fc.flag(flag).works();
        }
        fc.create().works();
        fc.attach(&at, false).works();
        at
    };
    let first = made(&[&a, &b], &[]);
    let all = [
        (made(&[&a, &b], &[]), true),
        (made(&[&a, &b], &["ro"]), true),
        (made(&[&b, &a], &[]), false),
        (made(&[&a, &b], &["userxattr"]), false),
        (made(&[&a, &b], &["sync"]), false),
    ];
    for (at, same) in &all {
        assert_names(at, &["a", "b"]);
        if !t.is_overlay() {
            assert_eq!(dev(at) == dev(&first), *same, "{at:?}");
        }
    }
    sys::umount(&first).works();
    for (at, _) in &all {
        assert_names(at, &["a", "b"]);
        sys::umount(at).works();
    }
}

/// An unmount that is not over yet is waited for.
fn mounted_again_at_once(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            for i in 0..50 {
                l.file(format!("d/f{i}"), "x");
            }
        })
        .prepare();
    for i in 0..t.scaled(200, 30) {
        o.mount().works();
        for n in 0..10 {
            sys::append_file(o.m(format!("d/f{n}")), "+").works();
        }
        sys::names(o.m("d")).works();
        if i % 2 == 0 {
            sys::umount_detach(&o.m("/"));
        } else {
            sys::umount(&o.m("/")).works();
        }
    }
    o.mount().works();
}

/// The same for another stack with this upper directory.
fn other_stack_at_once(t: &T) {
    let d = Dirs::new(t);
    let mut other = Dirs::new(t);
    other.upper = d.upper.clone();
    other.work = d.work.clone();
    for i in 0..t.scaled(100, 20) {
        let now = if i % 2 == 0 { &d } else { &other };
        now.mount(t).works();
        sys::write_file(now.mnt.join("f"), i.to_string()).works();
        sys::umount(&now.mnt).works();
        assert_text(d.upper.join("f"), &i.to_string());
    }
}

/// Mounts and unmounts of one stack in any order give mounts that work.
fn same_stack_mounted_and_unmounted_by_many(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let rounds = t.scaled(150, 25);
    let d = Dirs::new(t);
    let at: Vec<PathBuf> = (0..4).map(|_| t.new_dir("at")).collect();
    crate::env::threads(
        at.iter()
            .enumerate()
            .map(|(who, at)| {
                let d = &d;
                move || {
                    for i in 0..rounds {
                        let fc = FsContext::open(t.fstype()).works();
                        d.create(&fc).works();
                        fc.attach(at, false).works();
                        drop(fc);
                        let file = at.join(format!("own{who}"));
                        sys::write_file(&file, i.to_string()).works();
                        sys::append_file(at.join("f"), "+").works();
                        assert_text(&file, &i.to_string());
                        match (i + who) % 3 {
                            0 => sys::umount_detach(at),
                            _ => sys::umount(at).works(),
                        }
                    }
                }
            })
            .collect(),
    );
    let all = sys::read_file(d.upper.join("f")).works();
    assert_eq!(all.len(), "lower".len() + 4 * rounds);
    assert_names(d.work.join("work"), &[]);
    d.mount(t).works();
    sys::umount(&d.mnt).works();
}

/// At any time at most one of two stacks has the upper directory; nobody else is refused, and
/// not for anything else.
fn stacks_compete_for_an_upper(t: &T) {
    t.better_than_overlay(ONE_SUPERBLOCK);
    let rounds = t.scaled(150, 25);
    let first = Dirs::new(t);
    let all: Vec<Dirs> = (0..4)
        .map(|i| {
            let mut d = Dirs::new(t);
            if i % 2 == 0 {
                d.lower = first.lower.clone();
            }
            d.upper = first.upper.clone();
            d.work = first.work.clone();
            d
        })
        .collect();
    let mounted = std::sync::atomic::AtomicUsize::new(0);
    crate::env::threads(
        all.iter()
            .enumerate()
            .map(|(who, d)| {
                let mounted = &mounted;
                move || {
                    for i in 0..rounds {
                        match d.mount(t) {
                            Err(e) => assert_eq!(e.errno, Errno::BUSY, "{e:?}"),
                            Ok(()) => {
                                mounted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                let file = d.mnt.join(format!("own{who}"));
                                sys::write_file(&file, i.to_string()).works();
                                sys::unlink(&file).works();
                                sys::umount(&d.mnt).works();
                            }
                        }
                    }
                }
            })
            .collect(),
    );
    assert!(mounted.into_inner() > 0, "nobody ever had it");
    assert_names(&first.upper, &[]);
    assert_names(first.work.join("work"), &[]);
}

/// The last reference to a filesystem that is not mounted any more goes at any moment.
fn mounted_while_the_last_file_is_closed(t: &T) {
    let d = Dirs::new(t);
    for i in 0..t.scaled(150, 25) {
        d.mount(t).works();
        let fd = sys::open(d.mnt.join("f"), OFlags::RDWR).works();
        sys::umount_detach(&d.mnt);
        sys::pwrite(&fd, format!("{i:05}"), 0).works();
        crate::env::threads(vec![
            Box::new(|| drop(fd)) as Box<dyn FnOnce() + Send>,
            Box::new(|| d.mount(t).works()),
        ]);
        assert_text(d.mnt.join("f"), &format!("{i:05}"));
        sys::umount(&d.mnt).works();
    }
}

/// The kernel's overlay and rovl keep off each other's upper directories.
fn overlay_keeps_its_upper(t: &T) {
    t.better_than_overlay("with index=off overlayfs only warns of an upper in use");
    let d = Dirs::new(t);
    let at = t.new_dir("overlay");
    let fc = FsContext::open("overlay").works();
    d.create(&fc).works();
    fc.attach(&at, false).works();
    drop(fc);
    let words = [as_str(&d.upper), "in use"];
    refused(t, &[Errno::BUSY], &words, |fc| d.create(fc));
    sys::umount(&at).works();
    d.mount(t).works();
    let fc = FsContext::open("overlay").works();
    fc.string("index", "on").works();
    d.create(&fc).fails(Errno::BUSY);
    sys::umount(&d.mnt).works();
}

/// What a crash has left in the work directory goes at the next mount.
fn work_is_swept(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .prepare();
    let left = Tree::new(o.w("work"));
    for i in 0..200 {
        left.file(format!("#{i}"), "half a copy");
    }
    left.dir("#d/deeper")
        .symlink("#e", "nowhere")
        .file("#from", "")
        .whiteout("#whiteout");
    // More than are looked at in one go.
    for i in 0..600 {
        left.whiteout(&format!("#d/gone{i}"));
    }
    sys::rmdir(o.w("work/#d/deeper")).works();
    o.mount().works();
    if !t.is_overlay() {
        assert_names(o.w("work"), &[]);
    }
    assert_text(o.m("f"), "x");
}

fn work_of_a_volatile_mount(t: &T) {
    let d = Dirs::new(t);
    Tree::new(&d.work).file("work/incompat/volatile/dirty", "");
    let words = [as_str(&d.work), "incompat"];
    refused(t, &[Errno::INVAL], &words, |fc| d.create(fc));
    assert_names(d.work.join("work/incompat/volatile"), &["dirty"]);
}

fn lower_twice(t: &T) {
    let d = Dirs::new(t);
    Tree::new(&d.lower).dir("sub");
    for second in [d.lower.clone(), d.lower.join("sub")] {
        refused(t, &OVERLAPPING, &[as_str(&second)], |fc| {
            fc.string("lowerdir+", &d.lower)?;
            fc.string("lowerdir+", &second)?;
            fc.create()
        });
    }
}

fn work_without_upper(t: &T) {
    t.better_than_overlay("overlayfs ignores the workdir");
    let d = Dirs::new(t);
    refused(t, &[Errno::INVAL], &[as_str(&d.work), "upperdir"], |fc| {
        fc.string("lowerdir+", &d.lower)?;
        fc.string("workdir", &d.work)?;
        fc.create()
    });
}

fn upper_without_xattrs(t: &T) {
    t.better_than_overlay("it mounts and fails later, when it needs an xattr");
    let mut d = Dirs::new(t);
    let at = t.new_dir("ramfs");
    sys::mount("none", &at, "ramfs", MountFlags::empty(), b"").works();
    Tree::new(&at).dir("u").dir("w");
    d.upper = at.join("u");
    d.work = at.join("w");
    let errnos = [Errno::INVAL, Errno::OPNOTSUPP];
    refused(t, &errnos, &[as_str(&d.upper), "xattr"], |fc| d.create(fc));
    sys::umount(&at).works();
}

fn stack_too_deep(t: &T) {
    let inner = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let middle = t
        .stack()
        .lowers_not_compared()
        .lower_dir(inner.m("/"))
        .mount();
    assert_text(middle.m("f"), "x");
    let top = middle.m("/");
    let errnos = [Errno::INVAL, Errno::LOOP];
    refused(t, &errnos, &[as_str(&top)], |fc| {
        fc.string("lowerdir+", &top)?;
        fc.string("lowerdir+", inner.m("/"))?;
        fc.create()
    });
}

/// The merged tree can keep no whiteouts, so it is no upper layer: neither for
/// this file system nor for the kernel's overlay, nor that for this one.
fn upper_on_a_stacking_filesystem(t: &T) {
    for (inner, outer) in [
        (t.fstype(), t.fstype()),
        (t.fstype(), "overlay"),
        ("overlay", t.fstype()),
    ] {
        let below = t
            .stack()
            .lower(|l| {
                l.dir("u").dir("w");
            })
            .prepare();
        below.set_fstype(inner);
        below.mount().works();
        let d = Dirs::new(t);
        let fc = FsContext::open(outer).works();
        fc.string("lowerdir+", &d.lower).works();
        let refused = fc
            .string("upperdir", below.m("u"))
            .and_then(|()| fc.string("workdir", below.m("w")))
            .and_then(|()| fc.create());
        let errnos = [Errno::INVAL, Errno::LOOP];
        refused.fails_any(&errnos);
        drop(fc);
        below.umount();
    }
}

fn unknown_option(t: &T) {
    let d = Dirs::new(t);
    refused(t, &[Errno::INVAL], &["nonsense"], |fc| {
        fc.string("nonsense", "1")
    });
    refused(t, &[Errno::INVAL], &["gibberish"], |fc| {
        fc.flag("gibberish")
    });
    let options = format!("lowerdir={},nonsense=1", d.lower.display());
    let flags = MountFlags::empty();
    sys::mount("none", &d.mnt, t.fstype(), flags, options.as_bytes()).fails(Errno::INVAL);
}

/// Named as it was written, so that nobody has to guess.
fn known_option_not_built(t: &T) {
    t.better_than_overlay("overlayfs has these");
    let d = Dirs::new(t);
    let errnos = [Errno::INVAL, Errno::OPNOTSUPP];
    for option in [
        "index=on",
        "metacopy=on",
        "nfs_export=on",
        "verity=on",
        "verity=require",
    ] {
        let (key, value) = option.split_once('=').expect("key=value");
        refused(t, &errnos, &[option], |fc| {
            fc.string(key, value)?;
            d.create(fc)
        });
    }
    refused(t, &errnos, &["datadir+"], |fc| {
        fc.string("lowerdir+", &d.lower)?;
        fc.string("datadir+", &d.upper)?;
        fc.create()
    });
}

fn default_values_accepted(t: &T) {
    let d = Dirs::new(t);
    let fc = FsContext::open(t.fstype()).works();
    for option in [
        "redirect_dir=off",
        "redirect_dir=nofollow",
        "redirect_dir=follow",
        "redirect_dir=on",
        "index=off",
        "metacopy=off",
        "xino=off",
        "xino=auto",
        "xino=on",
        "nfs_export=off",
        "verity=off",
        "uuid=null",
        "uuid=off",
        "uuid=on",
        "uuid=auto",
        "fsync=strict",
        "fsync=auto",
    ] {
        let (key, value) = option.split_once('=').expect("key=value");
        fc.string(key, value).works();
    }
    fc.flag("default_permissions").works();
    fc.flag("nooverride_creds").works();
    d.create(&fc).works();
    fc.attach(&d.mnt, false).works();
    sys::write_file(d.mnt.join("f"), "x").works();
    sys::umount(&d.mnt).works();
}

/// What is too long for `fsconfig(2)` the kernel refuses by itself, and there is nobody to say
/// why.
fn too_long_and_too_many(t: &T) {
    let d = Dirs::new(t);
    let dots = |len: usize| "/.".repeat(len / 2) + &"/".repeat(len % 2);
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir", dots(255)).works();
    let fc = FsContext::open(t.fstype()).works();
    fc.string("lowerdir", dots(256)).fails(Errno::INVAL);
    assert_eq!(fc.log(), [""; 0]);
    // A part of a name is too long where a symbolic link leads.
    let link = d.lower.join("link");
    sys::symlink("x".repeat(256), &link).works();
    refused(t, &[Errno::NAMETOOLONG], &["lowerdir", "too long"], |fc| {
        fc.string("lowerdir", &link)
    });
    if !t.is_overlay() {
        // overlayfs counts them where the mount is made.
        refused(t, &[Errno::INVAL], &["lowerdir", "500"], |fc| {
            (0..=500).try_for_each(|_| fc.string("lowerdir+", &d.lower))
        });
    }
}

fn bad_value(t: &T) {
    for key in ["index", "redirect_dir", "metacopy", "xino"] {
        refused(t, &[Errno::INVAL], &[key], |fc| fc.string(key, "maybe"));
    }
}

fn empty_values(t: &T) {
    let d = Dirs::new(t);
    refused(t, &[Errno::INVAL, Errno::NOENT], &["lowerdir"], |fc| {
        fc.string("lowerdir+", "")?;
        fc.create()
    });
    refused(t, &[Errno::INVAL, Errno::NOENT], &["upperdir"], |fc| {
        fc.string("lowerdir+", &d.lower)?;
        fc.string("upperdir", "")?;
        fc.create()
    });
    for list in [":a", "a:", ":", "a:::b"] {
        refused(t, &[Errno::INVAL, Errno::NOENT], &["lowerdir"], |fc| {
            fc.string("lowerdir", list)?;
            fc.create()
        });
    }
}

/// A failed mount holds nothing: the file systems of the layers can be
/// unmounted at once, and the upper directory is free.
fn nothing_stays_after_a_refusal(t: &T) {
    let own = t.own_fs(Fs::Ext4, 32);
    Tree::new(&own.at)
        .file("l/f", "x")
        .dir("u")
        .dir("w")
        .dir("u/w");
    let mut d = Dirs::new(t);
    d.lower = own.at.join("l");
    d.upper = own.at.join("u");
    d.work = own.at.join("u/w");
    for _ in 0..5 {
        let fc = FsContext::open(t.fstype()).works();
        d.create(&fc).fails_any(&OVERLAPPING);
        let fc = FsContext::open(t.fstype()).works();
        d.layers(&fc).works();
    }
    d.work = own.at.join("w");
    d.mount(t).works();
    sys::umount(&d.mnt).works();
    own.umount_and_check();
}

/// The options of the super block at `mnt`, as /proc/self/mountinfo has them.
fn shown_options(mnt: &Path) -> Vec<u8> {
    let info = sys::read_file("/proc/self/mountinfo").works();
    let wanted = escape(mnt.as_os_str().as_bytes());
    for line in info.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        if fields.len() > 6 && fields[4] == wanted {
            return fields[fields.len() - 1].to_vec();
        }
    }
    panic!("{mnt:?} is not in mountinfo");
}

fn escape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for b in path {
        match b {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend(format!("\\{b:03o}").bytes()),
            _ => out.push(*b),
        }
    }
    out
}

/// Undoes \ooo.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < text.len() {
        let digits = text.get(i + 1..i + 4).unwrap_or_default();
        if text[i] == b'\\' && digits.len() == 3 && digits.iter().all(u8::is_ascii_digit) {
            let value = digits.iter().fold(0, |v, d| v * 8 + u32::from(d - b'0'));
            out.push(value as u8);
            i += 4;
        } else {
            out.push(text[i]);
            i += 1;
        }
    }
    out
}

/// What mountinfo shows can be given to fsconfig and makes the same mount.
fn round_trip(t: &T, o: &crate::stack::Overlay) {
    let before = o.snapshot(crate::tree::Take::ALL);
    let shown = shown_options(&o.m("/"));
    o.umount();
    let fc = FsContext::open(t.fstype()).works();
    for option in shown.split(|b| *b == b',') {
        let (key, value) = match option.iter().position(|b| *b == b'=') {
            Some(i) => (&option[..i], Some(&option[i + 1..])),
            None => (option, None),
        };
        let key = String::from_utf8_lossy(key).into_owned();
        match value {
            None if key == "rw" || key == "ro" => {}
            None => fc.flag(&key).works(),
            Some(v) => fc.string(&key, OsString::from_vec(unescape(v))).works(),
        }
    }
    fc.create().works();
    let at = t.new_dir("again");
    fc.attach(&at, false).works();
    let after = crate::tree::Snapshot::of(&at, crate::tree::Take::ALL);
    crate::tree::assert_same("mounted again by what mountinfo shows", &before, &after);
    assert_eq!(
        String::from_utf8_lossy(&shown_options(&at)),
        String::from_utf8_lossy(&shown),
        "options shown the second time"
    );
    sys::write_file(at.join("written_again"), "x").works();
    assert_text(o.u("written_again"), "x");
    sys::umount(&at).works();
}

fn mountinfo_round_trip(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "1");
        })
        .lower(|l| {
            l.file("b", "2");
        })
        .mount();
    let shown = String::from_utf8(shown_options(&o.m("/"))).expect("utf8");
    for (key, path) in [
        ("lowerdir", o.l(0, "/")),
        ("lowerdir", o.l(1, "/")),
        ("upperdir=", o.u("/")),
        ("workdir=", o.w("/")),
    ] {
        assert!(shown.contains(key), "no {key} in {shown:?}");
        assert!(shown.contains(as_str(&path)), "no {path:?} in {shown:?}");
    }
    round_trip(t, &o);
}

fn mountinfo_round_trip_old_interface(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "1");
        })
        .lower(|l| {
            l.file("b", "2");
        })
        .prepare();
    o.mount_old_api().works();
    round_trip(t, &o);
}

fn mountinfo_strange_paths(t: &T) {
    let (o, _) = strange_stack(t);
    o.mount().works();
    round_trip(t, &o);
}

fn statfs_of_upper(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let (m, u) = (sys::statfs(o.m("/")).works(), sys::statfs(o.u("/")).works());
    assert_eq!(m.f_blocks, u.f_blocks);
    assert_eq!(m.f_bsize, u.f_bsize);
    assert_eq!(m.f_files, u.f_files);
    assert!(m.f_namelen >= u.f_namelen);
    let m = sys::statfs(o.m("f")).works();
    assert_eq!(m.f_blocks, u.f_blocks, "through a lower file");
}

fn statfs_without_upper(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .lower(|_| {})
        .readonly()
        .mount();
    let (m, l) = (
        sys::statfs(o.m("/")).works(),
        sys::statfs(o.l(0, "/")).works(),
    );
    assert_eq!(m.f_blocks, l.f_blocks);
    assert_eq!(m.f_bsize, l.f_bsize);
}

fn remount_read_only(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::remount(&o.m("/"), MountFlags::RDONLY, "").works();
    sys::append_file(o.m("f"), "+").fails(Errno::ROFS);
    sys::write_file(o.m("new"), "+").fails(Errno::ROFS);
    assert_eq!(sys::read_rest(&fd).works(), b"x");
    sys::remount(&o.m("/"), MountFlags::empty(), "").works();
    sys::append_file(o.m("f"), "+").works();
    assert_text(o.m("f"), "x+");
    let w = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::remount(&o.m("/"), MountFlags::RDONLY, "").fails(Errno::BUSY);
    drop(w);
}

fn remount_cannot_make_writable(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .lower(|_| {})
        .readonly()
        .mount();
    // mount(2) also drops the flag from the mount itself before asking.
    let _ = sys::remount(&o.m("/"), MountFlags::empty(), "");
    sys::append_file(o.m("f"), "+").fails(Errno::ROFS);
    sys::write_file(o.m("new"), "+").fails(Errno::ROFS);
}

/// By the new interface a remount may repeat what is mounted, as mount(8)
/// does, but not ask for something else.
fn remount_cannot_change_layers(t: &T) {
    use rustix::mount::{fsconfig_reconfigure, fspick, FsPickFlags};
    t.better_than_overlay("overlayfs refuses every option");
    let d = Dirs::new(t);
    let other = t.new_dir("other");
    d.mount(t).works();
    let pick = || FsContext {
        fd: fspick(rustix::fs::CWD, &d.mnt, FsPickFlags::FSPICK_CLOEXEC).expect("fspick"),
    };
    let fc = pick();
    d.layers(&fc).works();
    fc.flag("ro").works();
    fsconfig_reconfigure(&fc.fd).expect("remount with the same layers");
    sys::write_file(d.mnt.join("f"), "x").fails(Errno::ROFS);
    for key in ["lowerdir+", "upperdir", "workdir"] {
        let fc = pick();
        fc.string(key, &other).works();
        let result = fsconfig_reconfigure(&fc.fd);
        assert_eq!(result, Err(Errno::INVAL), "another {key}");
        assert!(fc.log().join(" ").contains("cannot be changed"));
    }
    // By the name that was given, not by another one of the same thing.
    for (key, value) in [("volatile", ""), ("fsync", "volatile")] {
        let fc = pick();
        match value {
            "" => fc.flag(key).works(),
            value => fc.string(key, value).works(),
        }
        let result = fsconfig_reconfigure(&fc.fd);
        assert_eq!(result, Err(Errno::INVAL), "{key} at a remount");
        let told = format!("option '{key}' cannot be changed");
        assert!(fc.log().join(" ").contains(&told), "{told}");
    }
    sys::umount(&d.mnt).works();
}

/// An open file without a name has still to be removed, which writes.
fn remount_read_only_with_removed_files(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").file("g", "x");
        })
        .mount();
    let plain = t.own_fs(Fs::Ext4, 32);
    Tree::new(&plain.at).file("f", "x").file("g", "x");
    let results = |at: &Path| {
        let ro = |what: &str| {
            let r = sys::remount(at, MountFlags::RDONLY, "");
            let back = sys::remount(at, MountFlags::empty(), "");
            let name = |r: Res<()>| r.err().map(|e| sys::errno_name(e.errno));
            format!("{what}: {:?} {:?}", name(r), name(back))
        };
        let mut all = vec![ro("nothing open")];
        let w = sys::open(at.join("f"), OFlags::RDWR).works();
        all.push(ro("open for writing"));
        drop(w);
        let r = sys::open(at.join("f"), OFlags::RDONLY).works();
        all.push(ro("open for reading"));
        sys::append_file(at.join("f"), "+").works();
        drop(r);
        all.push(ro("closed"));
        sys::append_file(at.join("f"), "+").works();
        all
    };
    assert_eq!(results(&o.m("/")), results(&plain.at));
    sys::remount(&o.m("/"), MountFlags::RDONLY, "").works();
    assert_text(o.m("f"), "x++");
    sys::unlink(o.m("f")).fails(Errno::ROFS);
    sys::chmod(o.m("g"), 0o600).fails(Errno::ROFS);
    sys::remount(&o.m("/"), MountFlags::empty(), "").works();
    sys::chmod(o.m("g"), 0o600).works();
    plain.umount_and_check();
}

/// The access times of upper objects move as the flags of the mount say, like
/// those of a plain file system that is mounted so.
fn access_times(t: &T) {
    let old = ((1_000_000_000, 0), (1_000_000_000, 0));
    let fill = |l: &Tree| {
        l.file("f", "x").file("d/g", "x").symlink("s", "f");
    };
    let o = t.stack().lower(|_| {}).upper(fill).mount();
    let plain = t.new_dir("plain");
    fill(&Tree::new(&plain));
    let bind = t.new_dir("bind");
    sys::bind_mount(&plain, &bind).works();
    let moved = |at: &Path, flags: MountFlags| {
        sys::remount(at, flags | MountFlags::BIND, "").works();
        let mut all = Vec::new();
        for n in ["f", "d", "s"] {
            // Older than the times of change: relatime moves it. And newer.
            for at_time in [old, ((4_000_000_000, 0), (1_000_000_000, 0))] {
                sys::set_times(at.join(n), at_time.0, at_time.1).works();
                match n {
                    "f" => drop(sys::read_file(at.join(n)).works()),
                    "d" => drop(sys::names(at.join(n)).works()),
                    _ => drop(sys::readlink(at.join(n)).works()),
                }
                all.push((n, sys::lstat(at.join(n)).works().st_atime != at_time.0 .0));
            }
        }
        all
    };
    for flags in [
        MountFlags::NOATIME,
        MountFlags::NODIRATIME | MountFlags::RELATIME,
        MountFlags::RELATIME,
        MountFlags::STRICTATIME,
        MountFlags::STRICTATIME | MountFlags::NODIRATIME,
    ] {
        let plain = moved(&bind, flags);
        let ours = moved(&o.m("/"), flags);
        assert_eq!(ours, plain, "{flags:?}");
    }
    sys::umount(&bind).works();
}

/// What is mapped is written to the upper file system without asking the
/// overlay, so it cannot promise what a freeze does. The upper one can.
fn freeze_is_refused(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let refusal = sys::Frozen::freeze(&o.m("/")).err().map(|e| e.errno);
    assert_eq!(refusal, Some(Errno::OPNOTSUPP));
    sys::append_file(o.m("f"), "+").works();
}

/// What the upper file system cannot do is told who mounts, each with what it
/// means for him; where it can do all there is nothing to tell.
fn lacks_are_reported(t: &T) {
    t.better_than_overlay("it tells the kernel log");
    let d = Dirs::new(t);
    let fc = FsContext::open(t.fstype()).works();
    d.create(&fc).works();
    let log = fc.log().join("\n");
    if t.variant.upper == Fs::Jfs {
        for what in ["O_TMPFILE", "RENAME_WHITEOUT", "RENAME_EXCHANGE", "jfs"] {
            assert!(log.contains(what), "{what} in {log}");
        }
    } else {
        assert_eq!(log, "");
    }
}

fn lowers_shared_by_mounts(t: &T) {
    let a = t
        .stack()
        .lower(|l| {
            l.file("f", "shared").file("sub/g", "g");
        })
        .mount();
    let b = t.stack().lower_dir(a.l(0, "/")).mount();
    let c = t.stack().lower_dir(a.l(0, "sub")).mount();
    sys::write_file(a.m("f"), "a's").works();
    sys::unlink(b.m("sub/g")).works();
    sys::write_file(c.m("g"), "c's").works();
    assert_text(b.m("f"), "shared");
    assert_text(a.m("sub/g"), "g");
    assert_text(a.l(0, "sub/g"), "g");
}

fn umount_busy(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDONLY).works();
    sys::umount(&o.m("/")).fails(Errno::BUSY);
    drop(fd);
    std::env::set_current_dir(o.m("/")).expect("chdir");
    sys::umount(&o.m("/")).fails(Errno::BUSY);
    std::env::set_current_dir("/").expect("chdir");
}

fn bind_mount(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "x");
        })
        .mount();
    let at = t.new_dir("bind");
    sys::bind_mount(&o.m("d"), &at).works();
    sys::append_file(at.join("f"), "+").works();
    assert_text(o.m("d/f"), "x+");
    sys::link(o.m("d/f"), at.join("g")).fails(Errno::XDEV);
    sys::umount(&at).works();
}

fn mount_umount_many_times(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", "x");
        })
        .mount();
    for i in 0..t.scaled(100, 15) {
        sys::write_file(o.m("d/n"), i.to_string()).works();
        o.remount();
        assert_text(o.m("d/n"), &i.to_string());
    }
}

fn mount_umount_in_parallel(t: &T) {
    let rounds = t.scaled(40, 6);
    let lower = t.new_dir("shared");
    Tree::new(&lower).file("d/f", "x");
    let all: Vec<Dirs> = (0..4)
        .map(|_| {
            let mut d = Dirs::new(t);
            d.lower = lower.clone();
            d
        })
        .collect();
    crate::env::threads(
        all.iter()
            .map(|d| {
                move || {
                    for i in 0..rounds {
                        d.mount(t).works();
                        sys::write_file(d.mnt.join("d/f"), i.to_string()).works();
                        assert_text(d.mnt.join("d/f"), &i.to_string());
                        sys::umount(&d.mnt).works();
                    }
                }
            })
            .collect(),
    );
    assert_text(lower.join("d/f"), "x");
}

fn lower_on_other_filesystems(t: &T) {
    let fs = [
        Fs::Other,
        Fs::Xfs,
        Fs::Btrfs,
        Fs::Tmpfs,
        Fs::Erofs,
        Fs::Squashfs,
    ];
    let mut stack = t.stack();
    for fs in fs {
        stack = stack.lower_on(fs, |l| {
            l.file(format!("d/{}", fs.name()), fs.name());
            l.file("d/all", fs.name());
        });
    }
    let o = stack.mount();
    assert_eq!(sys::names(o.m("d")).works().len(), fs.len() + 1);
    assert_text(o.m("d/all"), "other");
    for fs in fs {
        let p = format!("d/{}", fs.name());
        assert_text(o.m(&p), fs.name());
        sys::append_file(o.m(&p), "+").works();
        assert_text(o.u(&p), &format!("{}+", fs.name()));
    }
    for n in sys::names(o.m("d")).works() {
        sys::unlink(o.m("d").join(n)).works();
    }
    sys::rmdir(o.m("d")).works();
    assert_names(o.m("/"), &[]);
}

fn sync_and_syncfs(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::pwrite(&fd, "y", 0).works();
    sys::syncfs(&fd).works();
    rustix::fs::sync();
    let dir = sys::open(o.m("/"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    sys::fsync(&dir).works();
    sys::syncfs(&dir).works();
    assert_text(o.u("f"), "y");
}

fn root_is_a_directory_like_others(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    let st = sys::stat(o.m("/")).works();
    assert_eq!(sys::kind_of(&st), sys::FileType::Directory);
    assert_ne!(st.st_dev, sys::stat(o.u("/")).works().st_dev);
    sys::rmdir(o.m("/")).fails(Errno::BUSY);
    sys::set_times(o.m("/"), (5, 5), (6, 6)).works();
    assert_eq!(sys::stat(o.u("/")).works().st_mtime, 6);
}

fn not_for_ordinary_users(t: &T) {
    let d = Dirs::new(t);
    let options = format!("lowerdir={}", d.lower.display());
    t.as_user(1000, 1000, || {
        let flags = MountFlags::empty();
        sys::mount("none", &d.mnt, t.fstype(), flags, options.as_bytes()).fails(Errno::PERM);
        assert_eq!(
            FsContext::open(t.fstype()).err().map(|e| e.errno),
            Some(Errno::PERM)
        );
    });
}
