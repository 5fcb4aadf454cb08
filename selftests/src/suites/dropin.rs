// SPDX-License-Identifier: GPL-2.0

//! rovl by the name of `overlay`, and the module's parameters.
//!
//! What a mount shows is compared with what the kernel's own overlay shows for the same
//! options, which is unloaded in between.

use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;

use super::module::{load, load_with, module, unload_named_soon, unload_soon};
use super::userns::rootless_child;
use crate::env::{Fs, T};
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, FsContext, Res};
use crate::tree::{assert_names, assert_same, assert_text, Snapshot, Take, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(shown_as_overlay_shows_it).long(2),
        test!(xino_on_several_filesystems)
            .needs(&[Fs::Other])
            .long(2),
        test!(kernels_own_keeps_the_name),
        test!(names_keep_off_each_other),
        test!(overlay_in_a_user_namespace),
        test!(overlay_by_the_helper),
        test!(mount_program),
        test!(mount_program_rootless),
        test!(mount_program_converts_whiteouts),
        test!(mount_program_leaves_others_alone),
        test!(parameters),
    ]
}

const MAGIC: u64 = 0x794c_7630;

/// rovl is `overlay`, until this is dropped; then all is as it was.
struct Taken<'a>(&'a T);

impl Taken<'_> {
    #[track_caller]
    fn new(t: &T) -> Taken<'_> {
        module(t);
        let is_loaded = overlay_is_loaded(t);
        unload_soon(t);
        let taken = Taken(t);
        if is_loaded {
            unload_named_soon("overlay");
        }
        load_with(t, c"overlay=1").works();
        taken
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let again = || {
            if sys::exists("/sys/module/rovl") {
                unload_soon(self.0);
            }
            sys::run("modprobe", &["overlay".as_ref()]);
            load(self.0).works();
        };
        // A panic while there is one already would end the test without a word.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(again)).is_err() {
            eprintln!("the modules are not as they were");
        }
    }
}

/// Whether the kernel's own is there, as a module, which can go.
fn overlay_is_loaded(t: &T) -> bool {
    // What is built in has parameters, but no state.
    let is_loaded = sys::exists("/sys/module/overlay/initstate");
    if is_registered("overlay") && !is_loaded {
        t.skip("the kernel's own overlay is built in");
    }
    is_loaded
}

fn is_registered(name: &str) -> bool {
    let line = format!("nodev\t{name}");
    let types = sys::text("/proc/filesystems").works();
    types.lines().any(|l| l == line)
}

/// Directories of a stack, which is made afresh for each mount: what is mounted may leave
/// something there.
struct Dirs {
    at: PathBuf,
}

impl Dirs {
    fn new(t: &T) -> Dirs {
        let at = t.new_dir("dropin");
        Tree::new(&at).dir("l1").dir("l2").dir("m");
        let dirs = Dirs { at };
        dirs.fresh();
        dirs
    }

    fn fresh(&self) {
        for name in ["u", "w"] {
            let at = self.at.join(name);
            if at.exists() {
                crate::tree::remove_all(&at).expect("rm -r");
            }
            sys::mkdir(&at, 0o755).works();
        }
    }

    fn mnt(&self) -> PathBuf {
        self.at.join("m")
    }

    /// By the old interface, with one list of layers.
    fn mount_list(&self, fstype: &str, options: &[&str]) -> Res<()> {
        let at = self.at.display();
        let mut all = format!("lowerdir={at}/l1:{at}/l2,upperdir={at}/u,workdir={at}/w");
        for option in options {
            all.push(',');
            all.push_str(option);
        }
        let flags = MountFlags::empty();
        sys::mount("none", &self.mnt(), fstype, flags, all.as_bytes())
    }

    /// A configuration with the lower layers, one by one, and options.
    fn lowers(&self, fstype: &str, options: &[&str]) -> Res<FsContext> {
        let fc = FsContext::open(fstype)?;
        for name in ["l1", "l2"] {
            fc.string("lowerdir+", self.at.join(name))?;
        }
        for option in options {
            match option.split_once('=') {
                Some((key, value)) => fc.string(key, value)?,
                None => fc.flag(option)?,
            }
        }
        Ok(fc)
    }

    /// By the new one, layer by layer.
    fn mount_each(&self, fstype: &str, options: &[&str]) -> Res<()> {
        let fc = self.lowers(fstype, options)?;
        fc.string("upperdir", self.at.join("u"))?;
        fc.string("workdir", self.at.join("w"))?;
        fc.create()?;
        fc.attach(&self.mnt(), false)
    }

    /// Layers that are only read; `workdir` all the same.
    fn mount_lowers(&self, fstype: &str, options: &[&str]) -> Res<()> {
        let fc = self.lowers(fstype, options)?;
        fc.string("workdir", self.at.join("w"))?;
        fc.create()?;
        fc.attach(&self.mnt(), false)
    }
}

/// What programs see of a mount: type and options in mountinfo, the same by statmount,
/// `f_type`, and the line in /proc/mounts.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    fstype: String,
    options: String,
    mounts: String,
    statmount: Option<(u64, String, String)>,
    magic: u64,
}

fn see(at: &Path) -> Seen {
    let name = at.display().to_string();
    let info = sys::text("/proc/self/mountinfo").works();
    let line = info
        .lines()
        .find(|l| l.split(' ').nth(4) == Some(&name))
        .unwrap_or_else(|| panic!("{name} is not in mountinfo"));
    let (_, after) = line.split_once(" - ").expect("mountinfo");
    let words: Vec<&str> = after.split(' ').collect();
    let mounts = sys::text("/proc/self/mounts").works();
    let mounts = mounts
        .lines()
        .find(|l| l.split(' ').nth(1) == Some(&name))
        .expect("/proc/mounts");
    Seen {
        fstype: words[0].to_string(),
        options: words[2].to_string(),
        mounts: mounts.to_string(),
        statmount: sys::statmount(at),
        magic: sys::statfs(at).works().f_type as u64,
    }
}

/// Each option alone, with a value that rovl takes, and those that go together.
const OPTIONS: [&[&str]; 34] = [
    &[],
    &["default_permissions"],
    &["redirect_dir=off"],
    &["redirect_dir=follow"],
    &["redirect_dir=nofollow"],
    &["redirect_dir=on"],
    &["redirect_dir=on", "default_permissions", "volatile"],
    &["redirect_dir=on", "redirect_dir=off"],
    &["index=off"],
    &["uuid=null"],
    &["uuid=auto"],
    &["uuid=on"],
    &["uuid=off"],
    &["uuid=off", "volatile"],
    &["nfs_export=off"],
    &["xino=off"],
    &["xino=auto"],
    &["xino=on"],
    &["metacopy=off"],
    &["verity=off"],
    &["fsync=auto"],
    &["fsync=volatile"],
    &["fsync=strict"],
    &["fsync=strict", "volatile"],
    &["volatile"],
    &["volatile", "fsync=auto"],
    &["fsync=auto", "volatile"],
    &["nooverride_creds"],
    &["userxattr"],
    &["userxattr", "redirect_dir=nofollow", "metacopy=off"],
    &["userxattr", "volatile", "default_permissions"],
    &["userxattr", "redirect_dir=follow"],
    &["userxattr", "redirect_dir=on"],
    &["volatile", "index=off", "xino=off", "redirect_dir=off"],
];

fn errno(result: Res<()>) -> String {
    match result {
        Ok(()) => "works".to_string(),
        Err(e) => sys::errno_name(e.errno),
    }
}

fn shown_as_overlay_shows_it(t: &T) {
    t.better_than_overlay("it is what is compared with");
    overlay_is_loaded(t);
    type Way = fn(&Dirs, &str, &[&str]) -> Res<()>;
    let ways: [(&str, Way); 3] = [
        ("list", Dirs::mount_list),
        ("each", Dirs::mount_each),
        ("lowers", Dirs::mount_lowers),
    ];
    let d = Dirs::new(t);
    let all = || {
        let mut seen = Vec::new();
        for (how, mount) in ways {
            for options in OPTIONS {
                d.fresh();
                let mounted = mount(&d, "overlay", options);
                let shows = mounted.is_ok().then(|| see(&d.mnt()));
                if shows.is_some() {
                    sys::umount(&d.mnt()).works();
                }
                seen.push((how, options, errno(mounted), shows));
            }
        }
        seen
    };
    let overlay = all();
    let _taken = Taken::new(t);
    let rovl = all();
    for ((how, options, theirs, overlay), (_, _, ours, rovl)) in overlay.iter().zip(&rovl) {
        let what = format!("{how} {}", options.join(","));
        assert_eq!(ours, theirs, "{what}");
        let (Some(overlay), Some(rovl)) = (overlay, rovl) else {
            continue;
        };
        assert_eq!(rovl.fstype, "overlay", "{what}");
        assert_eq!((rovl.magic, overlay.magic), (MAGIC, MAGIC), "{what}");
        assert_eq!(rovl.options, overlay.options, "{what}");
        assert_eq!(rovl.mounts, overlay.mounts, "{what}");
        let theirs = overlay.statmount.as_ref();
        assert_eq!(rovl.statmount.as_ref(), theirs, "{what}");
    }
    // The name of its own is there as well, and has a number of its own.
    d.fresh();
    d.mount_list("rovl", &[]).works();
    let seen = see(&d.mnt());
    assert_eq!(seen.fstype, "rovl");
    assert_ne!(seen.magic, MAGIC);
    sys::umount(&d.mnt()).works();
}

/// The defaults of overlay, what is shown of them, and what comes of it.
fn xino_on_several_filesystems(t: &T) {
    t.better_than_overlay("it is what is compared with");
    overlay_is_loaded(t);
    let d = Dirs::new(t);
    let other = t.room(Fs::Other).join(t.fresh("other"));
    sys::mkdir(&other, 0o755).works();
    Tree::new(&other).file("d/f", "x");
    Tree::new(d.at.join("l1")).file("d/g", "x");
    sys::bind_mount(&other, &d.at.join("l2")).works();
    let all = |module: &str| {
        let mut seen = Vec::new();
        for by_default in ["N", "Y"] {
            let parameter = format!("/sys/module/{module}/parameters/xino_auto");
            sys::write_file(parameter, by_default).works();
            for options in [&[][..], &["xino=off"], &["xino=auto"], &["xino=on"]] {
                d.fresh();
                d.mount_list("overlay", options).works();
                let device = |name: &str| sys::stat(d.mnt().join(name)).works().st_dev;
                let is_one = device("d/f") == device("") && device("d/g") == device("d/f");
                let xino: Vec<String> = see(&d.mnt())
                    .options
                    .split(',')
                    .filter(|o| o.starts_with("xino"))
                    .map(str::to_string)
                    .collect();
                sys::umount(&d.mnt()).works();
                seen.push((by_default, options, xino, is_one));
            }
        }
        let parameter = format!("/sys/module/{module}/parameters/xino_auto");
        sys::write_file(parameter, "N").works();
        seen
    };
    let overlay = all("overlay");
    {
        let _taken = Taken::new(t);
        assert_eq!(all("rovl"), overlay);
    }
    sys::umount(&d.at.join("l2")).works();
}

fn kernels_own_keeps_the_name(t: &T) {
    t.better_than_overlay("it is what keeps its name");
    module(t);
    if !is_registered("overlay") {
        t.skip("this kernel has no overlay");
    }
    t.kernel_log();
    unload_soon(t);
    load_with(t, c"overlay=1").works();
    let log = t.kernel_log().join("\n");
    assert!(log.contains("rovl: the kernel's own 'overlay'"), "{log}");
    let d = Dirs::new(t);
    d.mount_list("rovl", &[]).works();
    sys::umount(&d.mnt()).works();
    d.mount_list("overlay", &[]).works();
    let options = see(&d.mnt()).options;
    assert!(!options.contains("uuid=null"), "that was rovl: {options}");
    sys::umount(&d.mnt()).works();
    unload_soon(t);
    load(t).works();
}

fn names_keep_off_each_other(t: &T) {
    t.better_than_overlay("it has one name");
    let d = Dirs::new(t);
    let _taken = Taken::new(t);
    Tree::new(d.at.join("l1")).file("f", "lower");
    for (first, second) in [("overlay", "rovl"), ("rovl", "overlay")] {
        d.mount_each(first, &[]).works();
        let at = t.new_dir("second");
        let fc = FsContext::open(second).works();
        fc.string("lowerdir+", d.at.join("l1")).works();
        fc.string("upperdir", d.at.join("u")).works();
        fc.string("workdir", d.at.join("w")).works();
        let refused = fc.create();
        assert!(format!("{refused:?}").contains("in use"), "{refused:?}");
        refused.fails(Errno::BUSY);
        // The same stack by the same name is the same mount.
        let fc = FsContext::open(first).works();
        fc.string("lowerdir+", d.at.join("l1")).works();
        fc.string("lowerdir+", d.at.join("l2")).works();
        fc.string("upperdir", d.at.join("u")).works();
        fc.string("workdir", d.at.join("w")).works();
        fc.create().works();
        fc.attach(&at, false).works();
        sys::write_file(at.join("f"), first).works();
        assert_text(d.mnt().join("f"), first);
        sys::umount(&at).works();
        sys::umount(&d.mnt()).works();
    }
}

/// The rules are those of the other name.
fn overlay_in_a_user_namespace(t: &T) {
    t.better_than_overlay("it mounts without userxattr, and does not see marks");
    let _taken = Taken::new(t);
    rootless_child(t, |at| {
        Tree::new(at).dir("l1").dir("l2").dir("u").dir("w").dir("m");
        let d = Dirs {
            at: at.to_path_buf(),
        };
        d.mount_each("overlay", &[]).fails(Errno::PERM);
        d.mount_each("overlay", &["userxattr", "redirect_dir=follow"])
            .fails(Errno::INVAL);
        d.mount_each("overlay", &["userxattr"]).works();
        sys::write_file(d.mnt().join("new"), "x").works();
        assert!(see(&d.mnt()).options.ends_with(",userxattr"));
        sys::umount(&d.mnt()).works();
        assert_names(at.join("u"), &["new"]);
    });
}

/// A list of layers that mount(8) cannot hand over by itself, with relative names.
fn overlay_by_the_helper(t: &T) {
    t.better_than_overlay("the helper is tried with it as well, below");
    let helper = helper(t);
    let names: Vec<String> = (0..40).map(|i| format!("layer-{i}-{:x<40}", "")).collect();
    let d = Dirs::new(t);
    for name in &names {
        Tree::new(d.at.join(name)).file(format!("in-{name}"), name);
    }
    let as_overlay = d.at.join("mount.overlay");
    sys::symlink(&helper, &as_overlay).works();
    let list = names.join(":");
    let options = format!("lowerdir={list},upperdir=u,workdir=w");
    assert!(options.len() > 1024);
    let mount = || {
        d.fresh();
        let out = std::process::Command::new(&as_overlay)
            .args(["none", "m", "-o", &options])
            .current_dir(&d.at)
            .output()
            .expect("the helper");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{said}");
        assert_eq!(sys::names(d.mnt()).works().len(), names.len());
        sys::write_file(d.mnt().join("new"), "n").works();
        assert_text(d.at.join("u/new"), "n");
        let seen = see(&d.mnt());
        assert_eq!(seen.fstype, "overlay");
        sys::umount(&d.mnt()).works();
    };
    // A short one is shown as it was given.
    let mount_short = |list: &str| {
        d.fresh();
        let out = std::process::Command::new(&as_overlay)
            .args(["none", "m", "-o", &format!("lowerdir={list}")])
            .current_dir(&d.at)
            .output()
            .expect("the helper");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            let options = see(&d.mnt()).options;
            assert!(options.contains(&format!("lowerdir={list}")), "{options}");
            sys::umount(&d.mnt()).works();
        }
        (out.status.success(), said)
    };
    mount();
    for list in ["l1:l2", "l1::l2"] {
        let (works, said) = mount_short(list);
        assert!(works, "{said}");
    }
    let _taken = Taken::new(t);
    mount();
    let (works, said) = mount_short("l1:l2");
    assert!(works, "{said}");
    let (works, said) = mount_short("l1::l2");
    assert!(!works && said.contains("data-only"), "{said}");
}

fn helper(t: &T) -> PathBuf {
    match &t.config.helper {
        Some(helper) => helper.clone(),
        None => t.skip("no mount helper: ROVL_HELPER is not set"),
    }
}

/// Calls the helper as containers/storage calls its `mount_program`, in the directory of the
/// layers. Returns whether it worked and what it said.
fn call_as_program(helper: &Path, at: &Path, options: &str) -> (bool, String) {
    call_as_program_with(helper, at, &[], options)
}

fn call_as_program_with(
    helper: &Path,
    at: &Path,
    arguments: &[&str],
    options: &str,
) -> (bool, String) {
    let out = std::process::Command::new(helper)
        .args(arguments)
        .args(["-o", options])
        .arg(at.join("m"))
        .current_dir(at)
        .output()
        .expect("the helper");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.success(), said)
}

/// Puts directories where containers/storage has layers, with symbolic links to them, as it has
/// them as well.
fn as_layers(at: &Path, names: &[&str]) {
    for name in names {
        let id = at.join("overlay").join(name);
        Tree::new(&id).file("link", name);
        sys::rename(at.join(name), id.join("diff")).works();
        sys::symlink(format!("overlay/{name}/diff"), at.join(name)).works();
    }
}

fn mount_program(t: &T) {
    t.better_than_overlay("the helper mounts rovl");
    let helper = helper(t);
    let d = Dirs::new(t);
    Tree::new(d.at.join("l1")).file("f", "top");
    Tree::new(d.at.join("l2"))
        .file("f", "bottom")
        .file("g", "g");
    let layers = "lowerdir=l1:l2,upperdir=u,workdir=w";
    // What fuse-overlayfs has and the kernel has not; what cannot be yet; what is known.
    let options = format!(
        "{layers},fsync=0,noacl,static_nlink,xattr_permissions=0,metacopy=on,nodev,volatile"
    );
    let (works, said) = call_as_program(&helper, &d.at, &options);
    assert!(works, "{said}");
    for key in [
        "fsync",
        "noacl",
        "static_nlink",
        "xattr_permissions",
        "metacopy",
    ] {
        let line = format!("option '{key}' is left out");
        assert!(said.contains(&line), "{key}: {said}");
    }
    assert_eq!(said.matches("is left out").count(), 5, "{said}");
    let seen = see(&d.mnt());
    assert_eq!(seen.fstype, "rovl");
    assert!(seen.options.contains(",fsync=volatile"), "{seen:?}");
    assert!(!seen.options.contains("userxattr"), "{seen:?}");
    assert!(seen.mounts.contains(",nodev"), "{seen:?}");
    assert_text(d.mnt().join("f"), "top");
    assert_names(d.mnt(), &["f", "g"]);
    sys::umount(&d.mnt()).works();
    // Others' files must not be shown as somebody's else.
    d.fresh();
    for option in [
        "uidmapping=0:1000:1",
        "squash_to_uid=5",
        "squash_to_root",
        "xattr_permissions=2",
        "xattr_permissions=1",
        "verity=require",
        "smackfsroot=_",
        "whatever",
        "context=nonsense",
    ] {
        let (works, said) = call_as_program(&helper, &d.at, &format!("{layers},{option}"));
        assert!(!works, "{option}: {said}");
        let key = option.split('=').next().expect("a key");
        assert!(said.contains(key), "{option}: {said}");
        assert_names(d.mnt(), &[]);
    }
    let version = std::process::Command::new(&helper)
        .arg("--version")
        .output()
        .expect("the helper");
    assert!(version.status.success() && version.stdout.starts_with(b"mount.rovl "));
    let (works, said) = call_as_program(&helper, &d.at, "lowerdir=l1:missing,upperdir=u,workdir=w");
    assert!(!works && said.contains("missing"), "{said}");
}

fn mount_program_rootless(t: &T) {
    t.better_than_overlay("the helper mounts rovl");
    let helper = helper(t);
    rootless_child(t, |at| {
        Tree::new(at).dir("l1").dir("l2").dir("u").dir("w").dir("m");
        Tree::new(at.join("l2"))
            .file("f", "lower")
            .file("gone", "x");
        // What the user has in his own image.
        Tree::new(at.join("l1")).file(".wh.gone", "");
        as_layers(at, &["l1", "l2"]);
        for options in ["", ",userxattr"] {
            let all = format!("lowerdir=l1:l2,upperdir=u,workdir=w{options}");
            let (works, said) = call_as_program(&helper, at, &all);
            assert!(works, "{said}");
            let m = at.join("m");
            let seen = see(&m);
            assert_eq!(seen.options.matches(",userxattr").count(), 1, "{seen:?}");
            assert_names(&m, &["f"]);
            sys::append_file(m.join("f"), "+").works();
            sys::umount(&m).works();
        }
        assert_text(at.join("u/f"), "lower++");
        crate::tree::assert_whiteout(at.join("l1/gone"));
    });
}

/// Image layers as containers/storage unpacks them for a `mount_program`.
fn mount_program_converts_whiteouts(t: &T) {
    t.better_than_overlay("the helper mounts rovl");
    let helper = helper(t);
    let d = Dirs::new(t);
    Tree::new(d.at.join("l2"))
        .file("gone", "x")
        .file("stays", "x")
        .file("d/gone", "x")
        .file("d/stays", "x")
        .file("opaque/below", "x")
        .file("anew/below", "x")
        .file("replaced", "below")
        .file(".hidden", "x");
    Tree::new(d.at.join("l1"))
        .file(".wh.gone", "")
        .file("d/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/above", "y")
        .file("anew/above", "y")
        .file(".wh.anew", "")
        .file("replaced", "above")
        .file(".wh.replaced", "")
        .file(".wh..hidden", "")
        .times("d", (1, 0), (1234, 5));
    as_layers(&d.at, &["l1", "l2"]);
    let look = || {
        assert_names(d.mnt(), &["anew", "d", "opaque", "replaced", "stays"]);
        assert_names(d.mnt().join("d"), &["stays"]);
        assert_names(d.mnt().join("opaque"), &["above"]);
        assert_names(d.mnt().join("anew"), &["above"]);
        assert_text(d.mnt().join("replaced"), "above");
        assert_eq!(sys::stat(d.mnt().join("d")).works().st_mtime, 1234);
        assert!(sys::list_xattr(d.mnt()).works().is_empty());
    };
    let layers = "lowerdir=l1:l2,upperdir=u,workdir=w";
    for _ in 0..2 {
        let (works, said) = call_as_program(&helper, &d.at, layers);
        assert!(works && said.is_empty(), "{said}");
        look();
        sys::umount(&d.mnt()).works();
    }
    // fuse-overlayfs leaves some in an upper directory.
    d.fresh();
    Tree::new(d.at.join("u")).file(".wh.stays", "");
    as_layers(&d.at, &["u"]);
    let (works, said) = call_as_program(&helper, &d.at, layers);
    assert!(works && said.is_empty(), "{said}");
    assert_names(d.mnt(), &["anew", "d", "opaque", "replaced"]);
    sys::umount(&d.mnt()).works();
    crate::tree::assert_whiteout(d.at.join("overlay/u/diff/stays"));
    sys::unlink(d.at.join("u")).works();
    // For all that read the kernel's format.
    d.fresh();
    d.mount_each("overlay", &[]).works();
    look();
    sys::umount(&d.mnt()).works();
}

/// Names are no proof: what is not as containers/storage makes it stays as it is, and so does all
/// that is not a part of its layers.
fn mount_program_leaves_others_alone(t: &T) {
    t.better_than_overlay("the helper mounts rovl");
    let helper = helper(t);
    let d = Dirs::new(t);
    // As for `-v DIRECTORY:/x:O`.
    let options = "lowerdir=l1:l2,upperdir=u,workdir=w";
    Tree::new(d.at.join("l2")).file("a", "x").file("o/a", "x");
    Tree::new(d.at.join("l1"))
        .file(".wh.a", "")
        .file("o/.wh..wh..opq", "")
        .file("d/.wh.x/mine", "text");
    let all = Snapshot::of(&d.at.join("l1"), Take::ALL);
    let (works, said) = call_as_program(&helper, &d.at, options);
    assert!(works && said.is_empty(), "{said}");
    assert_names(d.mnt(), &[".wh.a", "a", "d", "o"]);
    assert_names(d.mnt().join("o"), &[".wh..wh..opq", "a"]);
    sys::umount(&d.mnt()).works();
    assert_same("l1", &all, &Snapshot::of(&d.at.join("l1"), Take::ALL));
    // Neither a fake mount nor a remount changes a layer.
    d.fresh();
    Tree::new(d.at.join("l2")).dir("mounted").file("b", "x");
    as_layers(&d.at, &["l1", "l2"]);
    let (works, said) = call_as_program(&helper, &d.at, &format!("remount,{options}"));
    assert!(!works, "{said}");
    let (works, said) = call_as_program_with(&helper, &d.at, &["-f"], options);
    assert!(works, "{said}");
    let l1 = d.at.join("overlay/l1/diff");
    assert_same("l1", &all, &Snapshot::of(&l1, Take::ALL));
    // What is not a whiteout in a layer, what is mounted there, and what a link leads to.
    Tree::new(&l1)
        .file("d/.wh.full", "text")
        .symlink("d/.wh.link", "nowhere")
        .symlink("d/out", "../../../../outside")
        .dir("mounted");
    Tree::new(d.at.join("outside"))
        .file(".wh.b", "")
        .file("b", "x");
    sys::bind_mount(&d.at.join("outside"), &l1.join("mounted")).works();
    let (works, said) = call_as_program(&helper, &d.at, options);
    sys::umount(&l1.join("mounted")).works();
    assert!(works && said.is_empty(), "{said}");
    assert_names(d.mnt(), &["b", "d", "mounted", "o"]);
    assert_names(d.mnt().join("o"), &[]);
    assert_names(d.mnt().join("d"), &[".wh.full", ".wh.link", ".wh.x", "out"]);
    assert_text(d.mnt().join("d/.wh.x/mine"), "text");
    assert_text(d.mnt().join("d/.wh.full"), "text");
    sys::umount(&d.mnt()).works();
    assert_names(d.at.join("outside"), &[".wh.b", "b"]);
    crate::tree::assert_whiteout(l1.join("a"));
}

/// Those of overlayfs, with what they are in it by default where that is off.
fn parameters(t: &T) {
    t.better_than_overlay("it has more");
    module(t);
    let at = Path::new("/sys/module/rovl/parameters");
    let switches = [
        ("redirect_dir", "N\n"),
        ("redirect_always_follow", "Y\n"),
        ("xino_auto", "N\n"),
    ];
    for (name, default) in switches {
        let path = at.join(name);
        assert_text(&path, default);
        for (written, shown) in [("1", "Y\n"), ("off", "N\n"), (default, default)] {
            sys::write_file(&path, written).works();
            assert_text(&path, shown);
        }
        sys::write_file(&path, "maybe").fails(Errno::INVAL);
    }
    let off = ["index", "nfs_export", "metacopy"];
    for name in off {
        let path = at.join(name);
        assert_text(&path, "N\n");
        t.kernel_log();
        sys::write_file(&path, "Y").fails(Errno::OPNOTSUPP);
        let log = t.kernel_log().join("\n");
        assert!(log.contains(&format!("'{name}'")), "{log}");
        sys::write_file(&path, "maybe").fails(Errno::INVAL);
        sys::write_file(&path, "N").works();
        sys::write_file(&path, "0").works();
        assert_text(&path, "N\n");
    }
    sys::write_file(at.join("check_copy_up"), "Y").works();
    assert_text(at.join("check_copy_up"), "N\n");
    assert_text(at.join("redirect_max"), "256\n");
    assert_text(at.join("overlay"), "N\n");
    // None that overlayfs has is missing.
    if let Ok(theirs) = sys::names("/sys/module/overlay/parameters") {
        for name in theirs {
            assert!(at.join(&name).exists(), "there is no {name}");
        }
    }
    unload_soon(t);
    // As modprobe.d has it for overlay: no reason to have neither. It is said.
    t.kernel_log();
    load_with(t, c"metacopy=Y").works();
    let log = t.kernel_log().join("\n");
    assert!(log.contains("'metacopy'"), "{log}");
    assert_text(at.join("metacopy"), "N\n");
    sys::write_file(at.join("metacopy"), "Y").fails(Errno::OPNOTSUPP);
    unload_soon(t);
    load_with(t, c"metacopy=N index=0 overlay=0").works();
}
