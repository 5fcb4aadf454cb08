// SPDX-License-Identifier: GPL-2.0

//! Numbers of layers on several filesystems, by what `xino=` says: one `st_dev`, numbers that
//! last, and the same ones wherever they are told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::mount::{fsconfig_reconfigure, fspick, FsPickFlags};

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::stack::{Overlay, Stack};
use crate::sys::{self, Errno, Expect, FileType, FsContext, OFlags, Stat};
use crate::tree::{sorted_names, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(one_device_on_two).needs(&[Fs::Other]),
        test!(one_device_on_three).needs(&[Fs::Other, Fs::Xfs, Fs::Tmpfs]),
        test!(on_images).needs(&[Fs::Erofs, Fs::Squashfs]),
        test!(on_by_default).needs(&[Fs::Other]),
        test!(off).needs(&[Fs::Other]),
        test!(no_upper_layer).needs(&[Fs::Other]),
        test!(listed_as_shown).needs(&[Fs::Other, Fs::Xfs]),
        test!(fit_in_32_bits).needs(&[Fs::Other, Fs::Xfs]),
        test!(large_numbers),
        test!(overflow),
        test!(auto_wants_numbers_that_last),
        test!(find_xdev_finds_all).needs(&[Fs::Other]),
        test!(proc_tells_the_same).needs(&[Fs::Other]),
        test!(shown).needs(&[Fs::Other]),
        test!(another_value_is_another_mount).needs(&[Fs::Other]),
        test!(remount).needs(&[Fs::Other]),
    ]
}

/// The second and further layers have the same trees, and most of the numbers in them.
fn fill(l: &Tree) {
    l.file("f", "x").symlink("s", "f").fifo("p").dir("empty");
    l.file("d/g", "y").file("d/sub/h", "z");
    l.node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
}

/// All objects by their path in the mount.
fn stats(at: &Path) -> BTreeMap<PathBuf, Stat> {
    fn walk(root: &Path, at: PathBuf, all: &mut BTreeMap<PathBuf, Stat>) {
        let st = sys::lstat(root.join(&at)).works();
        let is_dir = sys::kind_of(&st) == FileType::Directory;
        if is_dir {
            for n in sorted_names(&root.join(&at)) {
                walk(root, at.join(n), all);
            }
        }
        all.insert(at, st);
    }
    let mut all = BTreeMap::new();
    walk(at, PathBuf::new(), &mut all);
    all
}

type Numbers = BTreeMap<PathBuf, (u64, u64)>;

fn numbers(o: &Overlay) -> Numbers {
    let number = |(p, st): (PathBuf, Stat)| (p, (st.st_dev, st.st_ino));
    stats(&o.m("")).into_iter().map(number).collect()
}

/// No two objects have the same numbers.
#[track_caller]
fn assert_unique(all: &Numbers) {
    let mut seen = BTreeMap::new();
    for (p, number) in all {
        if let Some(other) = seen.insert(number, p) {
            panic!("{p:?} and {other:?} have the same numbers: {number:?}");
        }
    }
}

/// The device number of the mount, as mountinfo has it.
fn device_of_mount(o: &Overlay) -> u64 {
    let name = o.m("").display().to_string();
    let name = name.trim_end_matches('/');
    let info = sys::text("/proc/self/mountinfo").works();
    let line = info.lines().find(|l| l.split(' ').nth(4) == Some(name));
    let dev = line.expect("mountinfo").split(' ').nth(2).expect("device");
    let (major, minor) = dev.split_once(':').expect("major:minor");
    rustix::fs::makedev(major.parse().expect("major"), minor.parse().expect("minor"))
}

/// One device, which is that of the mount, and no false twins.
#[track_caller]
fn check_one_device(o: &Overlay) {
    let (all, dev) = (numbers(o), device_of_mount(o));
    for (p, number) in &all {
        assert_eq!(number.0, dev, "{p:?}");
    }
    // But for hard links.
    let all = stats(&o.m("")).into_iter();
    let all = all.filter(|(_, st)| st.st_nlink == 1 || sys::kind_of(st) == FileType::Directory);
    assert_unique(&all.map(|(p, st)| (p, (st.st_dev, st.st_ino))).collect());
}

/// What directories list, dots and all, is what stat says. They are read to the end twice,
/// and in small pieces.
#[track_caller]
fn check_listed(o: &Overlay) {
    for (p, st) in stats(&o.m("")) {
        if sys::kind_of(&st) != FileType::Directory {
            continue;
        }
        for size in [4096, 4096, 64] {
            let dir = sys::open(o.m(&p), OFlags::RDONLY | OFlags::DIRECTORY).works();
            for e in sys::read_dirents(&dir, usize::MAX, size).works() {
                if p.as_os_str().is_empty() && e.name == ".." {
                    continue;
                }
                let st = sys::lstat(o.m(&p).join(&e.name)).works();
                assert_eq!(e.ino, st.st_ino, "{p:?} lists {:?}", e.name);
            }
        }
    }
}

/// Copies everything up, by all ways, and makes something new.
fn change_all(o: &Overlay) {
    for (p, st) in stats(&o.m("")) {
        match sys::kind_of(&st) {
            FileType::Symlink => sys::lchown(o.m(&p), 1, 1).works(),
            FileType::RegularFile => sys::append_file(o.m(&p), "+").works(),
            _ => sys::chmod(o.m(&p), 0o700).works(),
        }
    }
    sys::write_file(o.m("d/sub/new"), "n").works();
    sys::mkdir(o.m("d/newdir"), 0o755).works();
}

/// That what was there before has the same numbers.
#[track_caller]
fn assert_kept(o: &Overlay, before: &Numbers) {
    let now = numbers(o);
    for (p, number) in before {
        assert_eq!(now.get(p), Some(number), "{p:?}");
    }
}

/// All that xino promises.
#[track_caller]
fn check_all(o: &Overlay, lasts: bool) {
    check_one_device(o);
    check_listed(o);
    let before = numbers(o);
    change_all(o);
    assert_kept(o, &before);
    check_one_device(o);
    check_listed(o);
    if !lasts {
        return;
    }
    let ino = |all: Numbers| -> BTreeMap<PathBuf, u64> {
        all.into_iter().map(|(p, n)| (p, n.1)).collect()
    };
    let before = ino(numbers(o));
    o.remount();
    assert_eq!(ino(numbers(o)), before);
    check_one_device(o);
    check_listed(o);
}

const BOTH: [&str; 2] = ["xino=on", "xino=auto"];

fn two(t: &T) -> Stack<'_> {
    t.stack().lower_on(Fs::Other, fill).upper(|u| {
        u.file("u", "u").file("d/w", "w").dir("d/only");
    })
}

fn one_device_on_two(t: &T) {
    for xino in BOTH {
        check_all(&two(t).flag(xino).mount(), true);
    }
}

fn one_device_on_three(t: &T) {
    for xino in BOTH {
        let o = t
            .stack()
            .lower_on(Fs::Other, fill)
            .lower_on(Fs::Xfs, |l| fill(&Tree::new(l.at("third"))))
            .lower_on(Fs::Tmpfs, |l| {
                fill(&Tree::new(l.at("d/fourth")));
                l.file("d/t", "t");
            })
            .lower_on(Fs::Ext4, |l| fill(&Tree::new(l.at("d/fifth"))))
            .upper(|u| {
                u.file("u", "u").file("d/w", "w");
            })
            .flag(xino)
            .mount();
        check_all(&o, true);
    }
}

/// Which have file handles, but perhaps no UUID.
fn on_images(t: &T) {
    for fs in [Fs::Erofs, Fs::Squashfs] {
        let o = t.stack().lower_on(fs, fill).flag("xino=on").mount();
        check_all(&o, false);
    }
}

fn on_by_default(t: &T) {
    t.better_than_overlay("it is off there");
    check_all(&two(t).mount(), true);
}

fn off(t: &T) {
    let o = two(t).flag("xino=off").mount();
    let dev = device_of_mount(&o);
    let mut devices = BTreeMap::new();
    for (p, st) in stats(&o.m("")) {
        let is_dir = sys::kind_of(&st) == FileType::Directory;
        assert_eq!(st.st_dev == dev, is_dir, "{p:?}");
        if !is_dir {
            let is_upper = o.u(&p).exists();
            let of_layer = *devices.entry(is_upper).or_insert(st.st_dev);
            assert_eq!(st.st_dev, of_layer, "{p:?}");
            let layer = if is_upper { o.u(&p) } else { o.l(0, &p) };
            assert_eq!(st.st_ino, sys::lstat(layer).works().st_ino, "{p:?}");
        }
    }
    assert_eq!(devices.len(), 2);
    assert_unique(&numbers(&o));
}

fn no_upper_layer(t: &T) {
    let o = t
        .stack()
        .lower_on(Fs::Ext4, fill)
        .lower_on(Fs::Other, |l| {
            fill(&Tree::new(l.at("other")));
            l.file("d/o", "o").file("d/sub/o", "o");
        })
        .readonly()
        .flag("xino=auto")
        .mount();
    check_one_device(&o);
    check_listed(&o);
}

/// Merged directories, pure ones of each layer, and upper ones that hold what has come from
/// elsewhere, by a rename, a link or a copy.
fn listed_as_shown(t: &T) {
    let o = t
        .stack()
        .lower_on(Fs::Other, |l| {
            fill(l);
            for i in 0..200 {
                l.file(format!("pure/{i}"), "");
            }
        })
        .lower_on(Fs::Xfs, |l| {
            l.file("d/third", "3").file("d/sub/third", "3");
            l.dir("other/a").file("other/b", "b");
        })
        .upper(|u| {
            u.file("d/w", "w").file("up/a", "a").dir("up/b");
        })
        .flag("xino=on")
        .mount();
    check_listed(&o);
    sys::mkdir(o.m("fresh"), 0o755).works();
    sys::rename(o.m("f"), o.m("fresh/moved")).works();
    sys::rename(o.m("d/third"), o.m("fresh/third")).works();
    sys::link(o.m("d/g"), o.m("fresh/link")).works();
    sys::rename(o.m("pure/7"), o.m("up/7")).works();
    sys::unlink(o.m("pure/8")).works();
    check_listed(&o);
    check_one_device(&o);
    o.remount();
    check_listed(&o);
    check_one_device(&o);
}

/// Programs of 32 bits can read them, where those of the layers are as small.
fn fit_in_32_bits(t: &T) {
    t.better_than_overlay("it takes the highest bits");
    let o = t
        .stack()
        .lower_on(Fs::Other, fill)
        .lower_on(Fs::Xfs, |l| fill(&Tree::new(l.at("third"))))
        .upper(|u| {
            u.file("u", "u");
        })
        .mount();
    for (p, st) in stats(&o.m("")) {
        let third = o.l(1, &p);
        if third.symlink_metadata().is_ok() && sys::lstat(third).works().st_ino >= 1 << 30 {
            continue;
        }
        assert!(st.st_ino < 1 << 32, "{p:?}: {:#x}", st.st_ino);
    }
    assert_eq!(
        sys::stat(o.m("u")).works().st_ino,
        sys::stat(o.u("u")).works().st_ino
    );
}

/// A lower filesystem whose numbers are all above `base`, but for the root's.
fn above(t: &T, base: u64) -> std::sync::Arc<crate::fuse::Fuse> {
    t.fuse(|f| {
        f.numbers_above(base);
        f.file("f", "x").file("d/g", "y").file("d/sub/h", "z");
        f.dir("merged").file("merged/low", "l").symlink("s", "f");
    })
}

fn over(t: &T, fuse: &crate::fuse::Fuse, xino: &'static str) -> Overlay {
    t.stack()
        .lower_fuse(fuse)
        .upper(|u| {
            u.file("u", "u").file("merged/w", "w");
        })
        .flag(xino)
        .mount()
}

/// Of more than 32 bits, with room above.
fn large_numbers(t: &T) {
    for base in [1 << 31, 1 << 32, 1 << 40, 1 << 60] {
        let fuse = above(t, base);
        let o = over(t, &fuse, "xino=on");
        check_all(&o, false);
        o.umount();
    }
}

/// What leaves no room is shown as with xino=off, and all else as without that.
fn overflow(t: &T) {
    let fuse = above(t, 1 << 63);
    t.kernel_log();
    let o = over(t, &fuse, "xino=on");
    let dev = device_of_mount(&o);
    let check = || {
        let all = numbers(&o);
        assert_unique(&all);
        let number = |p: &str| all[Path::new(p)];
        for p in ["", "d", "d/sub", "merged", "u", "merged/w"] {
            assert_eq!(number(p).0, dev, "{p:?}");
        }
        let (_, ino) = number("f");
        assert_eq!(ino, sys::stat(o.l(0, "f")).works().st_ino);
        for p in ["f", "s", "d/g", "d/sub/h", "merged/low"] {
            let (its_dev, ino) = number(p);
            assert_eq!(its_dev, number("f").0, "{p}");
            assert_ne!(its_dev, dev, "{p}");
            assert_eq!(ino, sys::lstat(o.l(0, p)).works().st_ino, "{p}");
        }
    };
    check();
    for p in ["d", "merged"] {
        for e in sys::dirents(o.m(p)).works() {
            let st = sys::lstat(o.m(p).join(&e.name)).works();
            if sys::kind_of(&st) != FileType::Directory {
                assert_eq!(e.ino, st.st_ino, "{p:?} lists {:?}", e.name);
            }
        }
    }
    sys::append_file(o.m("f"), "+").works();
    sys::append_file(o.m("d/sub/h"), "+").works();
    check();
    let log = t.kernel_log().join("\n");
    if !t.is_overlay() {
        let said = log.matches("leaves no bits for xino").count();
        assert_eq!(said, 1, "{log}");
    }
}

/// `auto` is off, and says why, where it cannot be told from what a file was copied.
fn auto_wants_numbers_that_last(t: &T) {
    t.better_than_overlay("it takes one filesystem without a UUID");
    let fuse = above(t, 0);
    let inner = two(t).mount();
    let stack = |at: &Path| t.stack().lowers_not_compared().lower_dir(at);
    let lowers = [
        (fuse.at.clone(), "(fuse) has no UUID of its own"),
        (inner.m(""), "(rovl) has no file handles"),
    ];
    for (lower, why) in lowers {
        let o = stack(&lower).flag("xino=auto").mount();
        assert_ne!(
            sys::stat(o.m("f")).works().st_dev,
            device_of_mount(&o),
            "{why}"
        );
        assert_eq!(shown_option(&o).as_deref(), Some("xino=off"));
        o.umount();
        let fc = o.context().works();
        fc.create().works();
        let log = fc.log().join("\n");
        assert!(log.contains(&format!("{why}, xino=auto is off")), "{log}");
        drop(fc);
        let o = stack(&lower).mount();
        assert_eq!(shown_option(&o), None);
        check_all(&o, false);
        o.umount();
    }
}

fn find_xdev_finds_all(t: &T) {
    let o = two(t).flag("xino=on").mount();
    sys::append_file(o.m("d/g"), "+").works();
    let at = o.m("");
    let xdev = sys::run("find", &[at.as_os_str(), "-xdev".as_ref()]);
    let all = sys::run("find", &[at.as_os_str()]);
    assert_eq!(xdev, all);
    // As tar --one-file-system, systemd's copy_tree() and others have it: what is on
    // another device than its directory is left out.
    let copy = t.new_dir("copy");
    let args = ["-ax".as_ref(), at.as_os_str(), copy.as_os_str()];
    sys::run("cp", &args);
    let copied = copy.join(at.file_name().expect("name"));
    let names = |at: &Path| stats(at).into_keys().collect::<Vec<_>>();
    assert_eq!(names(&copied), names(&at));
}

/// The kernel's files name an object by the same numbers as stat.
fn proc_tells_the_same(t: &T) {
    let o = two(t).flag("xino=on").mount();
    let dir = sys::open(o.m("d"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    sys::flock(&dir, rustix::fs::FlockOperation::LockShared).works();
    let watch =
        rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).expect("inotify");
    for name in ["f", "u"] {
        let fd = sys::open(o.m(name), OFlags::RDONLY).works();
        sys::posix_lock_range(&fd, libc::F_RDLCK, 3, 4).works();
        let map = sys::Map::new(&fd, 4096, false, true).works();
        let path = o.m(name);
        let all = rustix::fs::inotify::WatchFlags::ALL_EVENTS;
        rustix::fs::inotify::add_watch(&watch, &path, all).expect("a watch");
        let check = |what: &str| {
            let locks = sys::text("/proc/locks").works();
            for (fd, range) in [(&fd, "3 6"), (&dir, "0 EOF")] {
                let st = sys::fstat(fd).works();
                let (major, minor) = device(&st);
                let want = format!("{major:02x}:{minor:02x}:{} {range}", st.st_ino);
                assert!(locks.contains(&want), "{what}: no {want} in\n{locks}");
            }
            let st = sys::fstat(&fd).works();
            let (major, minor) = device(&st);
            let want = format!("{major:02x}:{minor:02x} {} ", st.st_ino);
            let maps = sys::text("/proc/self/maps").works();
            let end = path.display().to_string();
            let line = maps.lines().find(|l| l.ends_with(&end)).expect("a map");
            assert!(line.contains(&want), "{what}: no {want} in {line}");
            let info = format!(
                "/proc/self/fdinfo/{}",
                std::os::fd::AsRawFd::as_raw_fd(&watch)
            );
            let info = sys::text(&info).works();
            let want = format!("ino:{:x} ", st.st_ino);
            assert!(info.contains(&want), "{what}: no {want} in {info}");
        };
        check("at first");
        // Not opened, as a close would end the lock.
        sys::truncate(&path, 1).works();
        check("written");
        drop(map);
    }
}

fn device(st: &Stat) -> (u32, u32) {
    (rustix::fs::major(st.st_dev), rustix::fs::minor(st.st_dev))
}

/// What mountinfo says of it.
fn shown_option(o: &Overlay) -> Option<String> {
    let name = o.m("").display().to_string();
    let name = name.trim_end_matches('/').to_string();
    let info = sys::text("/proc/self/mountinfo").works();
    let line = info.lines().find(|l| l.split(' ').nth(4) == Some(&name));
    let options = line.expect("mountinfo").rsplit(' ').next()?;
    let xino = options.split(',').find(|o| o.starts_with("xino="));
    xino.map(str::to_string)
}

/// What is not the default, where it makes a difference.
fn shown(t: &T) {
    t.better_than_overlay("its default is another; see the suite dropin");
    let shown = |flag: Option<&'static str>, lower: Fs| {
        let stack = t.stack().lower_on(lower, fill);
        let o = match flag {
            Some(flag) => stack.flag(flag).mount(),
            None => stack.mount(),
        };
        shown_option(&o)
    };
    for flag in [None, Some("xino=on")] {
        assert_eq!(shown(flag, Fs::Other), None, "{flag:?}");
    }
    for flag in ["xino=off", "xino=auto"] {
        assert_eq!(shown(Some(flag), Fs::Other).as_deref(), Some(flag));
        assert_eq!(shown(Some(flag), Fs::Ext4), None);
    }
}

/// On several filesystems; on one it is the same whatever is said.
fn another_value_is_another_mount(t: &T) {
    t.better_than_overlay("each mount is another there");
    for (lower, same) in [(Fs::Other, false), (Fs::Ext4, true)] {
        let o = t.stack().lower_on(lower, fill).mount();
        for xino in ["on", "off"] {
            let fc = o.context().works();
            fc.string("xino", xino).works();
            let made = fc.create();
            match same || xino == "on" {
                true => made.works(),
                false => made.fails(Errno::BUSY),
            }
        }
    }
}

/// What is mounted may be said again.
fn remount(t: &T) {
    t.better_than_overlay("overlayfs refuses every option");
    let says = |o: &Overlay, xino: &str| {
        let at = o.m("");
        let fc = FsContext {
            fd: fspick(rustix::fs::CWD, &at, FsPickFlags::FSPICK_CLOEXEC).expect("fspick"),
        };
        fc.string("xino", xino).works();
        let done = fsconfig_reconfigure(&fc.fd);
        if done.is_err() {
            let log = fc.log().join(" ");
            assert!(log.contains("option 'xino' cannot be changed"), "{log}");
        }
        done
    };
    let o = two(t).mount();
    assert_eq!(says(&o, "on"), Ok(()));
    assert_eq!(says(&o, "auto"), Ok(()));
    assert_eq!(says(&o, "off"), Err(Errno::INVAL));
    let o = two(t).flag("xino=off").mount();
    assert_eq!(says(&o, "off"), Ok(()));
    assert_eq!(says(&o, "auto"), Ok(()));
    assert_eq!(says(&o, "on"), Err(Errno::INVAL));
    let o = t.stack().lower_on(Fs::Ext4, fill).mount();
    for xino in ["on", "auto", "off"] {
        assert_eq!(says(&o, xino), Ok(()));
    }
}
