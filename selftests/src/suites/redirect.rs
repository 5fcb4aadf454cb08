// SPDX-License-Identifier: GPL-2.0

//! Directories that were renamed: what they say that they are called below, and `rename`,
//! which makes them say so (`redirect_dir`).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mount::{fsconfig_reconfigure, fspick, FsPickFlags};

use crate::differential::random::Random;
use crate::env::T;
use crate::runner::Test;
use crate::stack::{Overlay, Stack};
use crate::suites::permission::mount_as;
use crate::sys::{self, Errno, Expect, FileType, FsContext, OFlags, RenameFlags};
use crate::tree::{
    assert_names, assert_opaque, assert_same, assert_text, assert_whiteout, is_whiteout, Snapshot,
    Take, Tree, OPAQUE,
};

const REDIRECT: &str = "trusted.overlay.redirect";
const PARAMETERS: &str = "/sys/module/rovl/parameters";

pub fn tests() -> Vec<Test> {
    vec![
        test!(followed_to_a_name),
        test!(followed_to_a_path),
        test!(followed_through_layers),
        test!(followed_on_the_way),
        test!(followed_in_what_has_no_parts),
        test!(leads_nowhere),
        test!(malformed),
        test!(random_layers_as_overlay_shows_them),
        test!(many_in_a_path),
        test!(path_that_grows),
        test!(two_ways_to_one_directory),
        test!(two_ways_through_a_layer),
        test!(searched_by_the_mounter),
        test!(not_in_user_xattrs),
        test!(renamed_in_its_directory).matrix(),
        test!(renamed_to_another_directory).matrix(),
        test!(renamed_again),
        test!(renamed_by_ancestors),
        test!(exchanged),
        test!(renamed_over),
        test!(pure_directories_hide_what_is_below),
        test!(removed),
        test!(path_that_is_too_long),
        test!(only_where_it_is_on),
        test!(chosen_by_the_module),
        test!(shown_and_kept),
        test!(handed_to_overlay_and_back),
        test!(ancestors_renamed_meanwhile),
        test!(children_copied_meanwhile),
    ]
}

fn on(t: &T) -> Stack<'_> {
    t.stack().flag("redirect_dir=on")
}

fn follow(t: &T) -> Stack<'_> {
    t.stack().flag("redirect_dir=follow")
}

#[track_caller]
fn assert_redirect(at: impl AsRef<Path>, value: &str) {
    let found = sys::get_xattr(at.as_ref(), REDIRECT).works();
    assert_eq!(String::from_utf8_lossy(&found), value, "{:?}", at.as_ref());
}

#[track_caller]
fn assert_no_redirect(at: impl AsRef<Path>) {
    assert_eq!(sys::xattr_opt(at.as_ref(), REDIRECT), None);
}

#[track_caller]
fn assert_gone(at: impl AsRef<Path>) {
    sys::lstat(at).map(drop).fails(Errno::NOENT);
}

/// The tree is the same after a new mount, and the kernel's overlay shows it as well.
#[track_caller]
fn assert_stays(t: &T, o: &Overlay) {
    let now = o.snapshot(Take::ALL);
    o.remount();
    assert_same("after a remount", &now, &o.snapshot(Take::ALL));
    if !t.is_overlay() {
        let own = o.fstype();
        o.remount_as("overlay");
        assert_same("shown by overlay", &now, &o.snapshot(Take::ALL));
        o.remount_as(&own);
        assert_same("and back", &now, &o.snapshot(Take::ALL));
    }
}

fn followed_to_a_name(t: &T) {
    let o = follow(t)
        .lower(|l| {
            l.file("was/a", "a").file("was/deleted", "d");
            l.file("now/hidden", "h").file("d/was/sub/x", "x");
        })
        .upper(|u| {
            u.file("now/b", "b").whiteout("now/deleted").whiteout("was");
            u.xattr("now", REDIRECT, "was");
            u.file("d/now/y", "y").xattr("d/now", REDIRECT, "was");
            u.whiteout("d/was");
        })
        .mount();
    assert_names(o.m(""), &["d", "now"]);
    assert_names(o.m("now"), &["a", "b"]);
    assert_text(o.m("now/a"), "a");
    assert_names(o.m("d/now"), &["sub", "y"]);
    assert_text(o.m("d/now/sub/x"), "x");
    sys::append_file(o.m("now/a"), "+").works();
    assert_text(o.u("now/a"), "a+");
    sys::unlink(o.m("d/now/sub/x")).works();
    assert_whiteout(o.u("d/now/sub/x"));
    assert_eq!(
        sys::stat(o.m("now")).works().st_ino,
        sys::dirents(o.m(""))
            .works()
            .iter()
            .find(|e| e.name == "now")
            .expect("now")
            .ino
    );
    sys::mkdir(o.m("was"), 0o755).works();
    assert_names(o.m("was"), &[]);
    assert_stays(t, &o);
}

fn followed_to_a_path(t: &T) {
    let o = follow(t)
        .lower(|l| {
            l.file("was/in/a", "a").file("to/now/hidden", "h");
        })
        .lower(|l| {
            l.file("was/in/below", "b").file("was/in/a", "hidden");
            l.file("to/now/hidden_too", "h");
        })
        .upper(|u| {
            u.file("to/now/b", "b").xattr("to/now", REDIRECT, "/was/in");
            u.whiteout("was/in");
        })
        .mount();
    assert_names(o.m("to/now"), &["a", "b", "below"]);
    assert_text(o.m("to/now/a"), "a");
    assert_text(o.m("to/now/below"), "b");
    assert_names(o.m("was"), &[]);
    assert_stays(t, &o);
}

/// What an upper layer said stays said when it is a lower one: for the layers below it.
fn followed_through_layers(t: &T) {
    let o = follow(t)
        .lower(|l| {
            l.file("second/2", "2").xattr("second", REDIRECT, "/third");
            l.file("first/not", "no").whiteout("third");
        })
        .lower(|l| {
            l.file("third/3", "3").xattr("third", REDIRECT, "fourth");
            l.file("second/not", "no").file("first/not", "no");
            l.whiteout("fourth");
        })
        .lower(|l| {
            l.file("fourth/4", "4").file("third/not", "no");
            l.file("second/not", "no").file("first/not", "no");
        })
        .upper(|u| {
            u.file("first/1", "1").xattr("first", REDIRECT, "second");
            u.whiteout("second");
        })
        .mount();
    assert_names(o.m(""), &["first"]);
    assert_names(o.m("first"), &["1", "2", "3", "4"]);
    assert_stays(t, &o);
}

/// Directories on a path are what they are in each layer: opaque, redirected, or none.
fn followed_on_the_way(t: &T) {
    let o = follow(t)
        .lower(|l| {
            l.file("opaque/d/1", "1").xattr("opaque", OPAQUE, "y");
            l.file("renamed/d/1", "1").xattr("renamed", REDIRECT, "was");
            l.file("moved/d/1", "1").xattr("moved", REDIRECT, "/x/y");
            l.file("file", "f").dir("no").whiteout("no/d");
            l.file("out/d/1", "1").xattr("out/d", REDIRECT, "/x/y/d");
            l.xattr("out", OPAQUE, "y");
            l.dir("part/other");
        })
        .lower(|l| {
            for dir in ["opaque", "renamed", "moved", "file", "no", "out", "part"] {
                l.file(format!("{dir}/d/2"), "2");
            }
            l.file("was/d/was", "w").file("x/y/d/xy", "xy");
        })
        .upper(|u| {
            let to = ["opaque", "renamed", "moved", "file", "no", "out", "part"];
            for dir in to {
                let at = format!("to/{dir}");
                u.file(format!("{at}/u"), "u")
                    .xattr(&at, REDIRECT, format!("/{dir}/d"));
            }
        })
        .mount();
    assert_names(o.m("to/opaque"), &["1", "u"]);
    assert_names(o.m("to/renamed"), &["1", "u", "was"]);
    assert_names(o.m("to/moved"), &["1", "u", "xy"]);
    assert_names(o.m("to/file"), &["u"]);
    assert_names(o.m("to/no"), &["u"]);
    assert_names(o.m("to/out"), &["1", "u", "xy"]);
    assert_names(o.m("to/part"), &["2", "u"]);
    // Overlayfs shows one of two that are called the same below.
    if t.is_overlay() {
        return;
    }
    for dir in ["opaque", "renamed", "moved", "out", "part"] {
        let names = sys::names(o.m("to").join(dir)).works();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let names: Vec<&str> = names.into_iter().filter(|n| *n != "u").collect();
        assert_names(o.m(dir).join("d"), &names);
    }
}

/// A path leads out of a directory that hides all below it, and of a new one; a name does not.
fn followed_in_what_has_no_parts(t: &T) {
    let o = follow(t)
        .lower(|l| {
            l.file("was/a", "a").file("opaque/was/no", "n");
            l.file("was3/a", "a");
            l.file("half/path/1", "1")
                .xattr("half/path", REDIRECT, "/was2");
        })
        .lower(|l| {
            l.file("was2/2", "2").file("half_/x", "x");
        })
        .upper(|u| {
            for (dir, path) in [("opaque", "/was"), ("new", "/was3")] {
                for (name, value) in [("path", path), ("name", "was")] {
                    let at = format!("{dir}/{name}");
                    u.file(format!("{at}/u"), "u").xattr(&at, REDIRECT, value);
                }
            }
            u.xattr("opaque", OPAQUE, "y");
            u.opaque("new/both").xattr("new/both", REDIRECT, "/was");
        })
        .mount();
    for dir in ["opaque", "new"] {
        assert_names(o.m(dir).join("path"), &["a", "u"]);
        assert_names(o.m(dir).join("name"), &["u"]);
    }
    assert_names(o.m("new/both"), &[]);
    assert_names(o.m("half/path"), &["1", "2"]);
    if !t.is_overlay() {
        o.remount();
    }
    assert_names(o.m("half/path"), &["1", "2"]);
}

fn leads_nowhere(t: &T) {
    let long = format!("/{}", ["n"; 500].join("/"));
    let values = ["missing", "/missing/x", "/file", "file", "/file/x", &long];
    let o = follow(t)
        .lower(|l| {
            l.file("file", "f").file("d0/hidden", "h");
        })
        .upper(|u| {
            for (i, value) in values.iter().enumerate() {
                let at = format!("d{i}");
                u.file(format!("{at}/u"), "u").xattr(&at, REDIRECT, value);
            }
        })
        .mount();
    for i in 0..values.len() {
        let at = o.m(format!("d{i}"));
        assert_names(&at, &["u"]);
        sys::write_file(at.join("new"), "n").works();
        sys::rename(&at, o.m(format!("r{i}"))).works();
    }
    assert_stays(t, &o);
}

fn malformed(t: &T) {
    t.better_than_overlay("it looks dots up, and takes what comes before a NUL");
    let values = [
        "", "/", "//", "a/b", "a/", "//was", "/was/", "/was//x", ".", "..", "/../..", "/was/.",
        "was\0", "\0",
    ];
    let o = follow(t)
        .lower(|l| {
            l.file("was/a", "a").dir("d0");
        })
        .upper(|u| {
            for (i, value) in values.iter().enumerate() {
                let at = format!("d{i}");
                u.dir(&at).xattr(&at, REDIRECT, value);
            }
        })
        .mount();
    for i in 0..values.len() {
        sys::stat(o.m(format!("d{i}")))
            .map(drop)
            .fails(Errno::INVAL);
    }
    let log = t.kernel_log().join("\n");
    assert!(log.contains("malformed redirect"), "{log}");
    assert_text(o.m("was/a"), "a");
}

/// Layers as no mount makes them, of marks that are well-formed.
fn random_layers_as_overlay_shows_them(t: &T) {
    t.better_than_overlay("it is what is compared with");
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    fn path(random: &mut Random, depth: usize) -> String {
        let names: Vec<&str> = (0..=random.below(depth))
            .map(|_| *random.pick(&NAMES))
            .collect();
        names.join("/")
    }
    for seed in 0..t.scaled(60, 15) as u64 {
        let random = &mut Random::new(seed);
        let fill = |random: &mut Random, layer: usize, tree: &Tree| {
            for i in 0..16 {
                let at = path(random, 3);
                let full = tree.at(&at);
                let is_there = |p: &Path| p.symlink_metadata().is_ok();
                let parents = full.ancestors().skip(1);
                let is_free = parents
                    .take_while(|p| *p != tree.root)
                    .all(|p| p.is_dir() || !is_there(p));
                if !is_free || is_there(&full) {
                    continue;
                }
                match random.below(8) {
                    0 => tree.whiteout(&at),
                    1 => tree.file(&at, format!("{layer}")),
                    kind => {
                        tree.file(format!("{at}/{layer}-{i}"), "f");
                        match kind {
                            2 => tree.opaque(&at),
                            3 | 4 => {
                                let to = format!("/{}", path(random, 3));
                                tree.xattr(&at, REDIRECT, to)
                            }
                            5 => tree.xattr(&at, REDIRECT, *random.pick(&NAMES)),
                            _ => tree,
                        }
                    }
                };
            }
        };
        let mut stack = follow(t);
        for layer in 0..4 {
            stack = stack.lower(|l| fill(random, layer, l));
        }
        let o = match seed % 2 {
            0 => stack.readonly(),
            _ => stack.upper(|u| fill(random, 9, u)),
        };
        let o = o.of_a_round().prepare();
        let own = o.fstype();
        o.set_fstype("overlay");
        o.mount().works();
        let mut theirs = Vec::new();
        shown(&o.m(""), "", &mut theirs);
        o.remount_as(&own);
        for (path, theirs) in theirs {
            let at = o.m(&path);
            let ours = sys::names(&at).or_else(|_| sys::text(&at).map(|text| vec![text]));
            assert_eq!(ours.works(), theirs, "seed {seed}: {path}");
        }
        o.finish();
    }
}

/// The tree as overlay shows it: names of directories, contents of files. Of two directories that
/// are called the same below it shows one; the other is `ESTALE`. And it lists whiteouts of
/// directories that are in one layer only.
fn shown(at: &Path, path: &str, all: &mut Vec<(String, Vec<String>)>) {
    let st = match sys::lstat(at) {
        Err(e) if e.errno == Errno::STALE => return,
        st => st.works(),
    };
    if sys::kind_of(&st) != FileType::Directory {
        return all.push((path.into(), vec![sys::text(at).works()]));
    }
    let mut names = sys::names(at).works();
    names.retain(|name| match sys::lstat(at.join(name)) {
        Ok(_) => true,
        Err(e) => e.errno != Errno::NOENT,
    });
    all.push((path.into(), names.clone()));
    for name in names {
        shown(&at.join(&name), &format!("{path}/{name}"), all);
    }
}

/// What is walked grows with the length of a path and the number of layers, and no faster.
fn many_in_a_path(t: &T) {
    let depth = 40;
    let path = |name: &str| ["/", &vec![name; depth].join("/")].concat();
    let mut stack = follow(t);
    for layer in 0..24 {
        stack = stack.lower(|l| {
            l.file(format!("{}/{layer}", path("a")), "f");
            l.dir(path("b"));
            let mut at = String::new();
            for i in 1..=depth {
                at.push_str("/a");
                // Up to here, by another way.
                let to = format!("/{}", vec!["a"; i].join("/"));
                l.xattr(&at, REDIRECT, to);
            }
        });
    }
    let o = stack
        .upper(|u| {
            u.dir("all").xattr("all", REDIRECT, path("a"));
        })
        .mount();
    let mut names: Vec<String> = (0..24).map(|i| i.to_string()).collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_names(o.m("all"), &names);
}

/// Each directory on the way makes what is walked below longer: not without end.
fn path_that_grows(t: &T) {
    t.better_than_overlay("it ends where the kernel gives it no more memory");
    let long = "n".repeat(4000);
    let o = follow(t)
        .lower(|l| {
            let mut at = String::new();
            for _ in 0..40 {
                at.push_str("/a");
                l.dir(&at).xattr(&at, REDIRECT, &long);
            }
        })
        .lower(|l| _ = l.dir("x"))
        .upper(|u| {
            u.dir("d")
                .xattr("d", REDIRECT, format!("/{}", ["a"; 40].join("/")));
            u.dir("e").xattr("e", REDIRECT, "/a/a/a");
        })
        .mount();
    sys::stat(o.m("d")).map(drop).fails(Errno::INVAL);
    let log = t.kernel_log().join("\n");
    assert!(log.contains("redirects to a path of more than"), "{log}");
    assert_names(o.m("e"), &["a"]);
}

/// What is done to one of two directories that are called the same below is not done to the
/// other. To overlayfs the second is an error.
fn two_ways_to_one_directory(t: &T) {
    t.better_than_overlay("it shows the first one only");
    let o = follow(t)
        .lower(|l| {
            for name in ["f", "g", "h", "sub/x", "sub/y"] {
                l.file(format!("one/{name}"), "old");
            }
            l.link("one/h", "one/h2");
        })
        .upper(|u| _ = u.dir("two").xattr("two", REDIRECT, "/one"))
        .mount();
    let both = |name: &str| {
        for dir in ["one", "two"] {
            let at = o.m(dir).join(name);
            assert!(sys::exists(&at), "{at:?}");
        }
    };
    for name in ["f", "g", "h", "h2", "sub", "sub/x", "sub/y"] {
        both(name);
    }
    // Removed here, written there; and the other way round.
    sys::unlink(o.m("two/f")).works();
    sys::append_file(o.m("one/f"), "+").works();
    sys::chmod(o.m("one/f"), 0o600).works();
    sys::chmod(o.m("two/g"), 0o640).works();
    sys::append_file(o.m("one/g"), "+").works();
    sys::rename(o.m("one/h"), o.m("one/f2")).works();
    sys::append_file(o.m("two/h"), "2").works();
    // A directory, with somebody in it.
    let held = sys::open(o.m("one/sub"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    sys::unlink(o.m("two/sub/x")).works();
    sys::append_file(o.m("one/sub/x"), "+").works();
    sys::unlink(o.m("two/sub/y")).works();
    sys::rmdir(o.m("two/sub")).works();
    sys::write_file(sys::fd_path(&held).join("new"), "n").works();
    drop(held);
    for _ in 0..2 {
        assert_names(o.m("one"), &["f", "f2", "g", "h2", "sub"]);
        assert_names(o.m("two"), &["g", "h", "h2"]);
        assert_text(o.m("one/f"), "old+");
        assert_eq!(
            sys::mode_of(&sys::stat(o.m("one/f")).works()) & 0o777,
            0o600
        );
        assert_text(o.m("one/g"), "old+");
        assert_text(o.m("two/g"), "old");
        assert_text(o.m("one/f2"), "old");
        assert_text(o.m("two/h"), "old2");
        assert_names(o.m("one/sub"), &["new", "x", "y"]);
        assert_text(o.m("one/sub/x"), "old+");
        o.remount();
    }
}

/// The same where a lower layer has the redirects, and below one of them another.
fn two_ways_through_a_layer(t: &T) {
    t.better_than_overlay("what is in both is one object");
    let o = follow(t)
        .lower(|l| {
            for name in ["a", "b", "a/in"] {
                l.dir(name);
            }
            l.xattr("a", REDIRECT, "/one").xattr("b", REDIRECT, "/one");
            l.xattr("a/in", REDIRECT, "/one/sub");
        })
        .lower(|l| {
            l.file("one/f", "old").file("one/sub/x", "old");
        })
        .mount();
    let ways = ["one/sub", "a/sub", "b/sub", "a/in"];
    for (i, way) in ways.iter().enumerate() {
        assert_names(o.m(way), &["x"]);
        sys::append_file(o.m(way).join("x"), i.to_string()).works();
    }
    for _ in 0..2 {
        for (i, way) in ways.iter().enumerate() {
            assert_text(o.m(way).join("x"), &format!("old{i}"));
        }
        o.remount();
    }
}

/// What the mounter may not search is not to be had by a redirect.
fn searched_by_the_mounter(t: &T) {
    let o = t
        .stack()
        .flag("redirect_dir=follow")
        .lower(|l| _ = l.dir("door").xattr("door", REDIRECT, "/shut/in"))
        .lower(|l| {
            l.file("shut/in/secret", "s").mode("shut", 0o700);
        })
        .readonly()
        .prepare();
    mount_as(1000, &o).works();
    // Whoever asks.
    sys::stat(o.m("door")).map(drop).fails(Errno::ACCESS);
    sys::umount(&o.m("/")).works();
    // Root may search it.
    o.mount().works();
    assert_names(o.m("door"), &["secret"]);
}

fn not_in_user_xattrs(t: &T) {
    let redirect = "user.overlay.redirect";
    let o = t
        .stack()
        .flag("userxattr")
        .lower(|l| {
            l.file("was/a", "a").file("now/n", "n");
        })
        .upper(|u| {
            u.dir("now").xattr("now", redirect, "was");
        })
        .mount();
    sys::stat(o.m("now")).map(drop).fails(Errno::PERM);
    sys::rename(o.m("was"), o.m("moved")).fails(Errno::XDEV);
    o.umount();
    for value in ["redirect_dir=on", "redirect_dir=follow"] {
        let o = t
            .stack()
            .flag("userxattr")
            .flag(value)
            .lower(|_| {})
            .prepare();
        o.mount().fails(Errno::INVAL);
    }
}

fn lower_tree(l: &Tree) {
    l.file("d/a", "a").file("d/sub/b", "b").symlink("d/s", "a");
    l.file("e/x", "x").dir("empty").file("p/q/r/deep", "deep");
}

fn renamed_in_its_directory(t: &T) {
    let o = on(t).lower(lower_tree).mount();
    let before = Snapshot::of(&o.m("d"), Take::ALL);
    let number = sys::stat(o.m("d")).works().st_ino;
    sys::rename(o.m("d"), o.m("now")).works();
    assert_gone(o.m("d"));
    assert_same("renamed", &before, &Snapshot::of(&o.m("now"), Take::ALL));
    assert_eq!(sys::stat(o.m("now")).works().st_ino, number);
    assert_redirect(o.u("now"), "d");
    assert_whiteout(o.u("d"));
    // Nothing of it was copied.
    assert_names(o.u("now"), &[]);
    sys::append_file(o.m("now/sub/b"), "+").works();
    sys::unlink(o.m("now/a")).works();
    assert_text(o.u("now/sub/b"), "b+");
    assert_whiteout(o.u("now/a"));
    assert_names(o.m("now"), &["s", "sub"]);
    assert_stays(t, &o);
    // On several filesystems numbers stay with `xino` only, which is rovl's default.
    if !t.is_overlay() {
        assert_eq!(sys::stat(o.m("now")).works().st_ino, number);
    }
    // The old name is free, for something else.
    sys::mkdir(o.m("d"), 0o755).works();
    assert_opaque(o.u("d"));
    assert_names(o.m("d"), &[]);
    assert_stays(t, &o);
}

fn renamed_to_another_directory(t: &T) {
    let o = on(t).lower(lower_tree).mount();
    let before = Snapshot::of(&o.m("p/q"), Take::ALL);
    sys::rename(o.m("p/q"), o.m("e/now")).works();
    assert_same("moved", &before, &Snapshot::of(&o.m("e/now"), Take::ALL));
    assert_redirect(o.u("e/now"), "/p/q");
    assert_whiteout(o.u("p/q"));
    assert_names(o.m("p"), &[]);
    // Into a new directory, and one of a directory that was moved.
    sys::mkdir(o.m("new"), 0o755).works();
    sys::rename(o.m("e/now/r"), o.m("new/r")).works();
    assert_redirect(o.u("new/r"), "/p/q/r");
    assert_text(o.m("new/r/deep"), "deep");
    sys::rename(o.m("new"), o.m("d/new")).works();
    assert_text(o.m("d/new/r/deep"), "deep");
    assert_stays(t, &o);
}

fn renamed_again(t: &T) {
    let o = on(t).lower(lower_tree).mount();
    sys::rename(o.m("d"), o.m("d2")).works();
    sys::rename(o.m("d2"), o.m("d3")).works();
    assert_redirect(o.u("d3"), "d");
    assert_gone(o.u("d2"));
    sys::rename(o.m("d3"), o.m("e/d4")).works();
    assert_redirect(o.u("e/d4"), "/d");
    sys::rename(o.m("e/d4"), o.m("e/d5")).works();
    assert_redirect(o.u("e/d5"), "/d");
    assert_text(o.m("e/d5/sub/b"), "b");
    assert_stays(t, &o);
    // And home.
    sys::rename(o.m("e/d5"), o.m("d")).works();
    assert_text(o.m("d/sub/b"), "b");
    assert_names(o.m(""), &["d", "e", "empty", "p"]);
    assert_stays(t, &o);
}

fn renamed_by_ancestors(t: &T) {
    let o = on(t).lower(lower_tree).mount();
    sys::rename(o.m("p"), o.m("p2")).works();
    sys::rename(o.m("p2/q"), o.m("p2/q2")).works();
    sys::rename(o.m("p2/q2/r"), o.m("r")).works();
    assert_redirect(o.u("r"), "/p/q/r");
    sys::rename(o.m("p2/q2"), o.m("d/q3")).works();
    assert_redirect(o.u("d/q3"), "/p/q");
    sys::rename(o.m("d"), o.m("e/d")).works();
    sys::rename(o.m("e/d/sub"), o.m("sub")).works();
    assert_redirect(o.u("sub"), "/d/sub");
    assert_text(o.m("sub/b"), "b");
    assert_text(o.m("r/deep"), "deep");
    assert_names(o.m("e/d/q3"), &[]);
    assert_stays(t, &o);
}

fn exchanged(t: &T) {
    let o = on(t).lower(lower_tree).mount();
    let swap = |a: &str, b: &str| sys::rename_with(o.m(a), o.m(b), RenameFlags::EXCHANGE).works();
    swap("d", "e");
    assert_names(o.m("d"), &["x"]);
    assert_names(o.m("e"), &["a", "s", "sub"]);
    assert_redirect(o.u("d"), "e");
    assert_redirect(o.u("e"), "d");
    assert_stays(t, &o);
    swap("d", "p/q");
    assert_names(o.m("p/q"), &["x"]);
    assert_names(o.m("d"), &["r"]);
    assert_redirect(o.u("p/q"), "/e");
    assert_redirect(o.u("d"), "/p/q");
    assert_stays(t, &o);
    // With a new directory, and with a file.
    sys::mkdir(o.m("new"), 0o755).works();
    sys::write_file(o.m("new/n"), "n").works();
    swap("empty", "new");
    assert_names(o.m("empty"), &["n"]);
    assert_names(o.m("new"), &[]);
    assert_opaque(o.u("empty"));
    assert_redirect(o.u("new"), "empty");
    swap("d", "e/a");
    assert_text(o.m("d"), "a");
    assert_text(o.m("e/a/r/deep"), "deep");
    assert_redirect(o.u("e/a"), "/p/q");
    assert_stays(t, &o);
}

fn renamed_over(t: &T) {
    let o = on(t)
        .lower(|l| {
            lower_tree(l);
            l.file("cleared/c", "c").dir("d/target");
        })
        .mount();
    sys::rename(o.m("d"), o.m("e")).fails(Errno::NOTEMPTY);
    assert_text(o.m("e/x"), "x");
    // A lower directory over an empty lower one.
    sys::rename(o.m("e"), o.m("empty")).works();
    assert_names(o.m("empty"), &["x"]);
    assert_redirect(o.u("empty"), "e");
    // Over one in which all was removed.
    sys::unlink(o.m("cleared/c")).works();
    sys::rename(o.m("empty"), o.m("cleared")).works();
    assert_names(o.m("cleared"), &["x"]);
    assert_redirect(o.u("cleared"), "e");
    // Over a new one; and to the name of what has gone.
    sys::mkdir(o.m("new"), 0o755).works();
    sys::rename(o.m("cleared"), o.m("new")).works();
    sys::rename(o.m("d"), o.m("cleared")).works();
    assert_names(o.m("cleared"), &["a", "s", "sub", "target"]);
    sys::rename(o.m("p"), o.m("cleared/target")).works();
    assert_text(o.m("cleared/target/q/r/deep"), "deep");
    assert_names(o.m(""), &["cleared", "new"]);
    assert_stays(t, &o);
}

fn pure_directories_hide_what_is_below(t: &T) {
    let o = on(t).lower(lower_tree).mount();
    sys::mkdir(o.m("new"), 0o755).works();
    sys::write_file(o.m("new/n"), "n").works();
    sys::rename(o.m("d"), o.m("moved")).works();
    sys::rename(o.m("new"), o.m("d")).works();
    assert_opaque(o.u("d"));
    assert_no_redirect(o.u("d"));
    assert_names(o.m("d"), &["n"]);
    sys::rename(o.m("d"), o.m("moved/sub2")).works();
    assert_names(o.m("moved/sub2"), &["n"]);
    assert_stays(t, &o);
}

fn removed(t: &T) {
    let o = on(t).lower(lower_tree).mount();
    sys::rename(o.m("d"), o.m("now")).works();
    sys::rmdir(o.m("now")).fails(Errno::NOTEMPTY);
    std::fs::remove_dir_all(o.m("now/sub")).expect("rm -r");
    for name in ["a", "s"] {
        sys::unlink(o.m("now").join(name)).works();
    }
    assert_whiteout(o.u("now/a"));
    sys::rmdir(o.m("now")).works();
    assert_gone(o.u("now"));
    assert_whiteout(o.u("d"));
    sys::rename(o.m("empty"), o.m("e/now")).works();
    sys::rmdir(o.m("e/now")).works();
    assert_gone(o.u("e/now"));
    assert_stays(t, &o);
}

fn path_that_is_too_long(t: &T) {
    let long = "n".repeat(100);
    let path = format!("{long}/{long}/{long}");
    let o = on(t)
        .lower(|l| {
            l.file(format!("{path}/f"), "f");
        })
        .mount();
    sys::rename(o.m(&path), o.m("moved")).fails(Errno::XDEV);
    assert_no_redirect(o.u(&path));
    assert_text(o.m(&path).join("f"), "f");
    // In its own directory it needs a name only, and one that is shorter may go anywhere.
    sys::rename(o.m(&path), o.m(format!("{long}/{long}/now"))).works();
    sys::rename(o.m(format!("{long}/{long}")), o.m("moved")).works();
    assert_redirect(o.u("moved"), &format!("/{long}/{long}"));
    assert_text(o.m("moved/now/f"), "f");
    assert_stays(t, &o);
}

fn only_where_it_is_on(t: &T) {
    for flag in [
        "redirect_dir=off",
        "redirect_dir=follow",
        "redirect_dir=nofollow",
    ] {
        let o = t.stack().flag(flag).lower(lower_tree).mount();
        let before = o.upper_snapshot(Take::OUTCOME);
        sys::rename(o.m("d"), o.m("now")).fails(Errno::XDEV);
        sys::rename(o.m("p/q"), o.m("now")).fails(Errno::XDEV);
        sys::rename_with(o.m("d"), o.m("e"), RenameFlags::EXCHANGE).fails(Errno::XDEV);
        assert_names(o.m(""), &["d", "e", "empty", "p"]);
        if !t.is_overlay() {
            assert_eq!(
                o.upper_snapshot(Take::OUTCOME).differences(&before),
                [""; 0]
            );
        }
    }
}

/// A parameter of the module, until this goes.
struct Put(&'static str, String);

impl Put {
    fn new(name: &'static str, value: &str) -> Put {
        let at = Path::new(PARAMETERS).join(name);
        let was = sys::text(&at).works();
        sys::write_file(&at, value).works();
        Put(name, was)
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        let _ = std::fs::write(Path::new(PARAMETERS).join(self.0), self.1.trim());
    }
}

/// The defaults of the module are what an option that is not given comes to.
fn chosen_by_the_module(t: &T) {
    t.better_than_overlay("its parameters are its own");
    let lower = |l: &Tree| {
        lower_tree(l);
    };
    let upper = |u: &Tree| {
        u.dir("now").xattr("now", REDIRECT, "d");
    };
    {
        let o = t.stack().lower(lower).upper(upper).mount();
        assert_names(o.m("now"), &["a", "s", "sub"]);
        sys::rename(o.m("e"), o.m("e2")).fails(Errno::XDEV);
    }
    {
        let _put = Put::new("redirect_dir", "Y");
        let o = t.stack().lower(lower).upper(upper).mount();
        sys::rename(o.m("e"), o.m("e2")).works();
        let o = t.stack().flag("redirect_dir=off").lower(lower).mount();
        sys::rename(o.m("e"), o.m("e2")).fails(Errno::XDEV);
    }
    {
        let _put = Put::new("redirect_always_follow", "N");
        for flag in ["default_permissions", "redirect_dir=off"] {
            let o = t.stack().flag(flag).lower(lower).upper(upper).mount();
            sys::stat(o.m("now")).map(drop).fails(Errno::PERM);
        }
        let o = follow(t).lower(lower).upper(upper).mount();
        assert_names(o.m("now"), &["a", "s", "sub"]);
    }
    let _put = Put::new("redirect_max", "5");
    let o = on(t).lower(lower).mount();
    sys::rename(o.m("p/q/r"), o.m("r")).fails(Errno::XDEV);
    sys::rename(o.m("p/q"), o.m("q")).works();
}

/// Part of what makes two mounts the same, and not to be changed.
fn shown_and_kept(t: &T) {
    let options = |o: &Overlay| {
        let text = sys::text("/proc/self/mountinfo").works();
        let at = o.m("").display().to_string();
        let line = text.lines().find(|l| l.split(' ').nth(4) == Some(&at));
        line.expect("mountinfo").to_string()
    };
    for (flag, shown) in [
        ("redirect_dir=on", Some("redirect_dir=on")),
        ("redirect_dir=nofollow", Some("redirect_dir=nofollow")),
        ("redirect_dir=follow", None),
        ("redirect_dir=off", None),
        ("userxattr", Some("redirect_dir=nofollow")),
    ] {
        let o = t.stack().flag(flag).lower(lower_tree).mount();
        let line = options(&o);
        match shown {
            Some(shown) => assert!(line.contains(shown), "{flag}: {line}"),
            None => assert!(!line.contains("redirect_dir"), "{flag}: {line}"),
        }
        if t.is_overlay() {
            continue;
        }
        let again = t.new_dir("again");
        o.mount_at(&again).works();
        sys::umount(&again).works();
    }
    if t.is_overlay() {
        return;
    }
    let remount = |o: &Overlay, value: &str| {
        let at = fspick(rustix::fs::CWD, o.m(""), FsPickFlags::FSPICK_CLOEXEC);
        let fc = FsContext {
            fd: at.expect("fspick"),
        };
        fc.string("redirect_dir", value).works();
        fsconfig_reconfigure(&fc.fd)
    };
    let off = t.stack().flag("redirect_dir=off").lower(lower_tree).mount();
    {
        let _put = Put::new("redirect_always_follow", "N");
        assert_eq!(remount(&off, "off"), Ok(()));
    }
    assert_eq!(remount(&off, "on"), Err(Errno::INVAL));
    let o = on(t).lower(lower_tree).mount();
    assert_eq!(remount(&o, "off"), Err(Errno::INVAL));
    for (value, result) in [("nofollow", Err(Errno::INVAL)), ("on", Ok(()))] {
        assert_eq!(remount(&o, value), result, "{value}");
    }
    sys::rename(o.m("d"), o.m("now")).works();
}

/// Each goes on where the other stopped.
fn handed_to_overlay_and_back(t: &T) {
    t.better_than_overlay("it is one of the two");
    let o = on(t).lower(lower_tree).lower(lower_tree).mount();
    let own = o.fstype();
    sys::rename(o.m("d"), o.m("d2")).works();
    sys::rename(o.m("p/q"), o.m("q")).works();
    o.remount_as("overlay");
    sys::rename(o.m("d2"), o.m("e/d3")).works();
    assert_redirect(o.u("e/d3"), "/d");
    sys::rename(o.m("q/r"), o.m("r")).works();
    assert_redirect(o.u("r"), "/p/q/r");
    o.remount_as(&own);
    sys::rename(o.m("e/d3"), o.m("q/d4")).works();
    sys::rename(o.m("e"), o.m("r/e")).works();
    assert_redirect(o.u("r/e"), "/e");
    assert_text(o.m("q/d4/sub/b"), "b");
    o.remount_as("overlay");
    assert_text(o.m("q/d4/sub/b"), "b");
    assert_names(o.m("r"), &["deep", "e"]);
    o.remount_as(&own);
    assert_stays(t, &o);
}

/// The path of a directory is what it is called below, whatever its ancestors are called
/// while that is found out.
fn ancestors_renamed_meanwhile(t: &T) {
    let rounds = t.scaled(300, 60);
    let o = on(t)
        .lower(|l| {
            for i in 0..rounds {
                l.file(format!("p/q/r/d{i}/f"), i.to_string());
            }
        })
        .mount();
    let end = AtomicBool::new(false);
    std::thread::scope(|s| {
        for (a, b) in [("p", "p_"), ("p/q", "p/q_"), ("p_/q", "p_/q_")] {
            let (o, end) = (&o, &end);
            s.spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    let _ = sys::rename(o.m(a), o.m(b));
                    let _ = sys::rename(o.m(b), o.m(a));
                }
            });
        }
        for i in 0..rounds {
            'moved: loop {
                for p in ["p", "p_"] {
                    for q in ["q", "q_"] {
                        let from = o.m(format!("{p}/{q}/r/d{i}"));
                        match sys::rename(from, o.m(format!("d{i}"))) {
                            Ok(()) => break 'moved,
                            Err(e) => assert_eq!(e.errno, Errno::NOENT, "{e:?}"),
                        }
                    }
                }
            }
        }
        end.store(true, Ordering::Relaxed);
    });
    for i in 0..rounds {
        assert_redirect(o.u(format!("d{i}")), &format!("/p/q/r/d{i}"));
    }
    for _ in 0..2 {
        for i in 0..rounds {
            assert_text(o.m(format!("d{i}/f")), &i.to_string());
        }
        o.remount();
    }
}

/// What is copied up in a directory that is renamed is where the directory then is.
fn children_copied_meanwhile(t: &T) {
    let files = t.scaled(200, 40);
    let o = on(t)
        .lower(|l| {
            for i in 0..files {
                l.file(format!("d/sub/f{i}"), vec![b'x'; 5000]);
            }
        })
        .mount();
    let end = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                for (from, to) in [("d/sub", "moved"), ("moved", "d/sub"), ("d/sub", "d/s2")] {
                    let _ = sys::rename(o.m(from), o.m(to));
                }
                let _ = sys::rename(o.m("d/s2"), o.m("d/sub"));
            }
        });
        for i in 0..files {
            loop {
                let names = ["d/sub", "moved", "d/s2"];
                let done = names.iter().any(|dir| {
                    let at = o.m(dir).join(format!("f{i}"));
                    match sys::append_file(at, "+") {
                        Ok(()) => true,
                        Err(e) => {
                            assert_eq!(e.errno, Errno::NOENT, "{e:?}");
                            false
                        }
                    }
                });
                if done {
                    break;
                }
            }
        }
        end.store(true, Ordering::Relaxed);
    });
    let at = ["d/sub", "moved", "d/s2"]
        .into_iter()
        .find(|at| sys::exists(o.m(at)))
        .expect("somewhere");
    for _ in 0..2 {
        assert_eq!(sys::names(o.m(at)).works().len(), files);
        for i in 0..files {
            assert_eq!(
                sys::read_file(o.m(at).join(format!("f{i}"))).works().len(),
                5001
            );
        }
        o.remount();
    }
    assert!(sys::names(o.u(at))
        .works()
        .iter()
        .all(|n| !is_whiteout(o.u(at).join(n))));
}
