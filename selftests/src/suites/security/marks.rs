// SPDX-License-Identifier: GPL-2.0

//! Marks of a layer that claim what is not so, or what cannot be followed.
//!
//! What is refused, and how, is what overlayfs does with `redirect_dir=nofollow` and
//! `metacopy=off`: these tests pass there.

use std::path::Path;

use crate::env::{mount_device, Fs, T};
use crate::runner::Test;
use crate::stack::{Overlay, Stack};
use crate::suites::userns::rootless_child;
use crate::sys::{self, Errno, Expect, FileType, FsContext, OFlags, RenameFlags, Res};
use crate::tree::{
    assert_names, assert_text, assert_whiteout, Take, Tree, OPAQUE, ORIGIN, WHITEOUT,
};

const METACOPY: &str = "trusted.overlay.metacopy";
const REDIRECT: &str = "trusted.overlay.redirect";
const PROTATTR: &str = "trusted.overlay.protattr";

pub fn tests() -> Vec<Test> {
    vec![
        test!(metacopy_is_refused),
        test!(metacopy_that_is_malformed),
        test!(metacopy_that_is_not_looked_at),
        test!(metacopy_made_by_overlayfs),
        test!(metacopy_in_user_xattrs),
        test!(redirect_is_refused),
        test!(redirect_that_is_malformed),
        test!(redirect_that_is_not_looked_at),
        test!(redirect_that_is_moved),
        test!(redirect_made_by_overlayfs),
        test!(refused_below_is_not_in_the_way),
        test!(whiteout_files_of_the_upper_layer),
        test!(whiteout_files_of_the_last_layer),
        test!(whiteout_files_in_any_directory),
        test!(protattr_with_unknown_letters),
        test!(origin_that_is_malformed),
        test!(origin_in_an_image_that_was_replaced).needs(&[Fs::Squashfs]),
        test!(origin_in_one_of_two_with_a_uuid),
    ]
}

/// A stack that follows nothing.
fn stack(t: &T) -> Stack<'_> {
    t.stack().flag("redirect_dir=nofollow").flag("metacopy=off")
}

/// A file as a copy of metadata leaves it: as large as the one below, and a hole.
fn hole(tree: &Tree, path: &str, metacopy: impl AsRef<[u8]>) {
    tree.file(path, "");
    sys::truncate(tree.at(path), 1400).works();
    tree.xattr(path, METACOPY, metacopy);
}

/// Every way to use what is there is refused.
#[track_caller]
fn assert_refused(o: &Overlay, name: &str, errno: Errno) {
    let at = o.m(name);
    let calls: [(&str, Res<()>); 9] = [
        ("stat", sys::lstat(&at).map(drop)),
        ("read", sys::open(&at, OFlags::RDONLY).map(drop)),
        ("O_PATH", sys::open(&at, OFlags::PATH).map(drop)),
        ("append", sys::append_file(&at, "+")),
        ("truncate", sys::truncate(&at, 0)),
        ("chmod", sys::chmod(&at, 0o600)),
        ("rename", sys::rename(&at, o.m("moved"))),
        ("link", sys::link(&at, o.m("linked"))),
        ("getxattr", sys::get_xattr(&at, "user.x").map(drop)),
    ];
    for (what, call) in calls {
        match call {
            Err(e) if e.errno == errno => {}
            other => panic!("{what} {name}: {other:?}"),
        }
    }
    for (what, call) in [
        (
            "create",
            sys::open_mode(&at, OFlags::CREATE | OFlags::RDWR, 0o600).map(drop),
        ),
        ("mkdir", sys::mkdir(&at, 0o700)),
        ("remove", sys::unlink(&at)),
        ("rmdir", sys::rmdir(&at)),
    ] {
        match call {
            Err(e) if e.errno == errno => {}
            other => panic!("{what} {name}: {other:?}"),
        }
    }
}

/// What is refused is listed, and does not hide what else is in its directory. To
/// overlayfs it is an error of the listing, where that has to look at entries.
#[track_caller]
fn assert_listed(t: &T, o: &Overlay, dir: &str, names: &[&str]) {
    if !t.is_overlay() {
        assert_names(o.m(dir), names);
    }
}

fn metacopy_is_refused(t: &T) {
    let o = stack(t)
        .lower(|l| {
            l.file("upper", "data").file("d/f", "data");
            hole(l, "only", "");
            hole(l, "top", "");
        })
        .lower(|l| {
            l.file("top", "data").file("d/other", "o");
            hole(l, "last", "");
        })
        .upper(|u| {
            hole(u, "upper", "");
            hole(u, "d/f", "");
        })
        .prepare();
    let before = o.upper_snapshot(Take::OUTCOME);
    o.mount().works();
    for name in ["upper", "only", "top", "last", "d/f"] {
        assert_refused(&o, name, Errno::PERM);
    }
    t.assert_logs(&["refusing to follow metacopy", "upper"], || {
        let _ = sys::stat(o.m("upper"));
    });
    assert_listed(t, &o, "", &["d", "last", "only", "top", "upper"]);
    assert_listed(t, &o, "d", &["f", "other"]);
    assert_text(o.m("d/other"), "o");
    sys::rmdir(o.m("d")).fails(Errno::NOTEMPTY);
    o.umount();
    assert_eq!(
        o.upper_snapshot(Take::OUTCOME).differences(&before),
        [""; 0]
    );
}

/// overlayfs reads no more of a value than its length before it refuses to follow it.
fn metacopy_that_is_malformed(t: &T) {
    let sha256 = |len: u8| [&[0, len, 0, 1][..], &[7; 32]].concat();
    let values: [(&str, Vec<u8>, Errno); 11] = [
        ("empty", vec![], Errno::PERM),
        ("one", vec![0], Errno::IO),
        ("two", vec![0, 4], Errno::IO),
        ("three", vec![0, 4, 0], Errno::IO),
        ("header", vec![0, 4, 0, 0], Errno::PERM),
        ("digest", sha256(36), Errno::PERM),
        ("length", sha256(35), Errno::PERM),
        ("version", vec![1, 4, 0, 0], Errno::PERM),
        ("text", b"upperdata".to_vec(), Errno::PERM),
        ("long", vec![0; 69], Errno::PERM),
        ("longer", vec![0xff; 1000], Errno::PERM),
    ];
    for in_upper in [true, false] {
        let fill = |tree: &Tree| {
            for (name, value, _) in &values {
                hole(tree, name, value);
            }
        };
        let below = |tree: &Tree| {
            for (name, ..) in &values {
                tree.file(name, "data");
            }
        };
        let o = match in_upper {
            true => stack(t).lower(below).upper(fill),
            false => stack(t).lower(fill).lower(below),
        };
        let o = o.mount();
        for (name, _, errno) in &values {
            assert_refused(&o, name, *errno);
        }
        o.umount();
    }
}

fn metacopy_that_is_not_looked_at(t: &T) {
    let o = stack(t)
        .lower(|l| {
            // Not regular files.
            l.dir("d").xattr("d", METACOPY, "");
            l.symlink("s", "d").xattr("s", METACOPY, "");
            l.fifo("p").xattr("p", METACOPY, "");
            // Hidden by others.
            hole(l, "whole", "");
            hole(l, "dir", "");
            hole(l, "gone", "");
            hole(l, "opaque/f", "");
            // Of another overlay.
            l.file("other", "o")
                .xattr("other", "user.overlay.metacopy", "");
            l.file("nested", "n");
            l.xattr("nested", "trusted.overlay.overlay.metacopy", "");
        })
        .upper(|u| {
            u.file("whole", "w")
                .dir("dir")
                .whiteout("gone")
                .opaque("opaque");
        })
        .mount();
    assert_names(
        o.m(""),
        &["d", "dir", "nested", "opaque", "other", "p", "s", "whole"],
    );
    for name in ["d", "dir", "opaque"] {
        assert_names(o.m(name), &[]);
    }
    assert_eq!(sys::readlink(o.m("s")).works(), "d");
    assert_eq!(sys::kind_of(&sys::stat(o.m("p")).works()), FileType::Fifo);
    for (name, text) in [("whole", "w"), ("other", "o"), ("nested", "n")] {
        assert_text(o.m(name), text);
    }
    assert_eq!(sys::get_xattr(o.m("nested"), METACOPY).works(), b"");
}

/// What overlayfs leaves behind when only metadata has been changed.
fn metacopy_made_by_overlayfs(t: &T) {
    let data = "precious".repeat(1000);
    let made = t
        .stack()
        .flag("redirect_dir=on")
        .flag("metacopy=on")
        .lower(|l| {
            l.file("f", &data).file("d/g", &data).file("plain", "p");
        })
        .prepare();
    made.set_fstype("overlay");
    made.mount().works();
    sys::chmod(made.m("f"), 0o600).works();
    sys::rename(made.m("d/g"), made.m("h")).works();
    made.umount();
    let o = stack(t)
        .lower_dir(made.l(0, ""))
        .upper_in(made.u("").parent().expect("upper"))
        .mount();
    for name in ["f", "h"] {
        assert_refused(&o, name, Errno::PERM);
    }
    assert_listed(t, &o, "", &["d", "f", "h", "plain"]);
    assert_names(o.m("d"), &[]);
    sys::append_file(o.m("plain"), "+").works();
    o.umount();
    // Nothing of it is lost.
    made.mount().works();
    assert_text(made.m("f"), &data);
    assert_text(made.m("h"), &data);
    assert_text(made.m("plain"), "p+");
    made.umount();
}

fn metacopy_in_user_xattrs(t: &T) {
    let layer = t.new_dir("layer");
    let tree = Tree::new(&layer);
    for name in ["marked", "secret", "trusted"] {
        tree.file(name, name);
    }
    tree.xattr("marked", "user.overlay.metacopy", "");
    tree.xattr("secret", "user.overlay.metacopy", "")
        .mode("secret", 0o600);
    tree.xattr("trusted", METACOPY, "");
    tree.dir("closed").mode("closed", 0o711);
    let below = t.new_dir("below");
    Tree::new(&below).file("closed/f", "f");
    rootless_child(t, |at| {
        sys::mkdir(at.join("m"), 0o755).works();
        let fc = FsContext::open(t.fstype()).works();
        fc.string("lowerdir+", &layer).works();
        fc.string("lowerdir+", &below).works();
        fc.flag("userxattr").works();
        fc.create().works();
        let m = at.join("m");
        fc.attach(&m, false).works();
        sys::stat(m.join("marked")).fails(Errno::PERM);
        assert_text(m.join("trusted"), "trusted");
        // Who may not read the file may not read that of its attributes either: it counts
        // as none, and nothing of the file is given away.
        assert_eq!(sys::stat(m.join("secret")).works().st_size, 6);
        sys::open(m.join("secret"), OFlags::RDONLY).fails(Errno::ACCESS);
        // Nor that of a directory, which he may go through. (overlayfs: EACCES)
        if !t.is_overlay() {
            assert_text(m.join("closed/f"), "f");
        }
        drop(fc);
        sys::umount(&m).works();
    });
}

fn redirect_is_refused(t: &T) {
    let o = stack(t)
        .lower(|l| {
            l.file("was/a", "a").file("now/deleted", "d");
            l.dir("in_lower").xattr("in_lower", REDIRECT, "/was");
            l.file("d/sub/f", "f").dir("pure");
        })
        .lower(|l| {
            l.file("in_lower/deleted", "d");
        })
        .upper(|u| {
            u.file("now/b", "b").xattr("now", REDIRECT, "was");
            u.dir("only_upper").xattr("only_upper", REDIRECT, "/was");
            u.dir("d/sub").xattr("d/sub", REDIRECT, "/was");
        })
        .prepare();
    let before = o.upper_snapshot(Take::OUTCOME);
    o.mount().works();
    for name in ["now", "only_upper", "in_lower", "d/sub"] {
        assert_refused(&o, name, Errno::PERM);
        sys::names(o.m(name)).map(drop).fails(Errno::PERM);
    }
    t.assert_logs(&["refusing to follow redirect", "now"], || {
        let _ = sys::stat(o.m("now"));
    });
    sys::stat(o.m("now/deleted")).fails(Errno::PERM);
    assert_listed(
        t,
        &o,
        "",
        &["d", "in_lower", "now", "only_upper", "pure", "was"],
    );
    o.umount();
    assert_eq!(
        o.upper_snapshot(Take::OUTCOME).differences(&before),
        [""; 0]
    );
}

fn redirect_that_is_malformed(t: &T) {
    let long = "n".repeat(1000);
    let values = [
        ("", Errno::INVAL),
        ("/", Errno::INVAL),
        ("//", Errno::INVAL),
        ("a/b", Errno::INVAL),
        ("a/", Errno::INVAL),
        ("//was", Errno::INVAL),
        ("/was/", Errno::INVAL),
        ("/was//x", Errno::INVAL),
        ("was", Errno::PERM),
        ("/was", Errno::PERM),
        ("/was/not/there", Errno::PERM),
        (".", Errno::PERM),
        ("..", Errno::PERM),
        ("/../..", Errno::PERM),
        ("/was/.", Errno::PERM),
        ("\0", Errno::PERM),
        ("\u{1b}[2J\n", Errno::PERM),
        (&long, Errno::PERM),
    ];
    let name = |i: usize| format!("d{i}");
    for in_upper in [true, false] {
        let fill = |tree: &Tree| {
            for (i, (value, _)) in values.iter().enumerate() {
                tree.dir(name(i)).xattr(&name(i), REDIRECT, value);
            }
        };
        let below = |tree: &Tree| {
            tree.file("was/a", "a");
        };
        let o = match in_upper {
            true => stack(t).lower(below).upper(fill),
            false => stack(t).lower(fill).lower(below),
        };
        let o = o.mount();
        for (i, (value, errno)) in values.iter().enumerate() {
            match sys::stat(o.m(name(i))) {
                Err(e) if e.errno == *errno => {}
                other => panic!("{value:?}: {:?}", other.map(drop)),
            }
        }
        o.umount();
    }
}

/// It says what a directory is merged with: nothing, where there is nothing below.
fn redirect_that_is_not_looked_at(t: &T) {
    let o = stack(t)
        .lower(|l| {
            l.file("was/a", "a").dir("opaque");
            l.file("file", "f").xattr("file", REDIRECT, "/was");
            l.symlink("s", "was").xattr("s", REDIRECT, "/was");
            l.file("hidden/x", "x").xattr("hidden", REDIRECT, "/was");
            l.xattr("", REDIRECT, "/was");
        })
        .lower(|l| {
            l.file("last/l", "l").xattr("last", REDIRECT, "/was");
            l.xattr("", REDIRECT, "/was");
        })
        .upper(|u| {
            u.file("opaque/o", "o").xattr("opaque", REDIRECT, "/was");
            u.xattr("opaque", OPAQUE, "y");
            u.file("pure/sub/p", "p")
                .xattr("pure/sub", REDIRECT, "/was");
            u.xattr("pure", OPAQUE, "y");
            u.file("hidden", "h").xattr("", REDIRECT, "/was");
        })
        .mount();
    assert_names(
        o.m(""),
        &["file", "hidden", "last", "opaque", "pure", "s", "was"],
    );
    assert_text(o.m("file"), "f");
    assert_text(o.m("hidden"), "h");
    assert_eq!(sys::readlink(o.m("s")).works(), "was");
    for (dir, name) in [("last", "l"), ("opaque", "o"), ("pure/sub", "p")] {
        assert_names(o.m(dir), &[name]);
        assert_text(o.m(dir).join(name), name);
        sys::append_file(o.m(dir).join(name), "+").works();
        assert_text(o.m(dir).join(name), &format!("{name}+"));
    }
}

/// Where there is something to be merged with it would say something, from the next mount on.
fn redirect_that_is_moved(t: &T) {
    let o = stack(t)
        .lower(|l| {
            l.file("was/a", "a").dir("to");
        })
        .upper(|u| {
            for (name, value) in [("valid", "/was"), ("malformed", "a/b")] {
                u.file(format!("new/{name}/f"), name);
                u.xattr(&format!("new/{name}"), REDIRECT, value);
            }
            u.dir("new/other");
        })
        .mount();
    for name in ["valid", "malformed", "other"] {
        sys::rename(o.m("new").join(name), o.m("to").join(name)).works();
    }
    o.remount();
    for name in ["valid", "malformed"] {
        assert_names(o.m("to").join(name), &["f"]);
        assert_text(o.m("to").join(name).join("f"), name);
    }
    sys::rename_with(o.m("to/valid"), o.m("new"), RenameFlags::EXCHANGE).works();
    o.remount();
    assert_names(o.m("new"), &["f"]);
    assert_names(o.m("to/valid"), &[]);
}

/// Renamed and deleted with overlayfs: what was deleted does not come back.
fn redirect_made_by_overlayfs(t: &T) {
    let made = t
        .stack()
        .flag("redirect_dir=on")
        .lower(|l| {
            l.file("d1/a", "a").file("d1/b", "b").file("p/new", "n");
            l.file("e/old1", "deleted").file("e/old2", "deleted");
        })
        .prepare();
    made.set_fstype("overlay");
    made.mount().works();
    sys::rename(made.m("d1"), made.m("d2")).works();
    sys::write_file(made.m("d2/c"), "c").works();
    std::fs::remove_dir_all(made.m("e")).expect("rm -r e");
    sys::rename(made.m("p"), made.m("e")).works();
    made.umount();
    let o = stack(t)
        .lower_dir(made.l(0, ""))
        .upper_in(made.u("").parent().expect("upper"))
        .mount();
    for name in ["d2", "e"] {
        assert_refused(&o, name, Errno::PERM);
    }
    sys::text(o.m("e/old1")).map(drop).fails(Errno::PERM);
    assert_listed(t, &o, "", &["d2", "e"]);
    sys::write_file(o.m("new"), "n").works();
    o.umount();
    made.mount().works();
    assert_names(made.m("d2"), &["a", "b", "c"]);
    assert_names(made.m("e"), &["new"]);
    assert_text(made.m("d2/a"), "a");
    made.umount();
}

/// A name whose lower object would be refused can be taken from the upper one, and a
/// whiteout keeps the lower one hidden.
fn refused_below_is_not_in_the_way(t: &T) {
    let o = stack(t)
        .lower(|l| {
            for name in ["removed", "renamed", "over"] {
                hole(l, name, "");
            }
            hole(l, "bad", "x");
            l.dir("dir").xattr("dir", REDIRECT, "/x").file("dir/f", "");
        })
        .lower(|l| {
            l.dir("dir");
        })
        .upper(|u| {
            for name in ["removed", "renamed", "over", "bad", "free"] {
                u.file(name, name);
            }
            u.opaque("dir");
        })
        .mount();
    sys::unlink(o.m("removed")).works();
    sys::unlink(o.m("bad")).works();
    sys::rename(o.m("renamed"), o.m("elsewhere")).works();
    sys::rename(o.m("free"), o.m("over")).works();
    sys::rmdir(o.m("dir")).works();
    for name in ["removed", "bad", "renamed", "dir"] {
        sys::stat(o.m(name)).fails(Errno::NOENT);
        assert_whiteout(o.u(name));
    }
    assert_names(o.m(""), &["elsewhere", "over"]);
    assert_text(o.m("elsewhere"), "renamed");
    assert_text(o.m("over"), "free");
    sys::write_file(o.m("removed"), "again").works();
    sys::mkdir(o.m("dir"), 0o755).works();
    assert_names(o.m("dir"), &[]);
    o.remount();
    assert_text(o.m("removed"), "again");
    assert_names(o.m("dir"), &[]);
}

/// An empty file with the mark is a whiteout for lookups whatever its directory says.
fn marked_file(tree: &Tree, path: &str) {
    tree.file(path, "").xattr(path, WHITEOUT, "y");
}

/// In the upper layer no directory says that it holds such files: they are listed.
fn whiteout_files_of_the_upper_layer(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "below")
                .file("d/f", "below")
                .file("d/kept", "k");
        })
        .upper(|u| {
            marked_file(u, "f");
            u.xwhiteout("d/f");
            u.xwhiteout("pure/f");
            u.file("not_empty", "x").xattr("not_empty", WHITEOUT, "y");
        })
        .mount();
    for name in ["f", "d/f", "pure/f"] {
        let at = o.m(name);
        sys::stat(&at).fails(Errno::NOENT);
        sys::open(&at, OFlags::RDONLY).map(drop).fails(Errno::NOENT);
        sys::append_file(&at, "+").map(drop).fails(Errno::NOENT);
        sys::rename(&at, o.m("moved")).fails(Errno::NOENT);
    }
    assert_text(o.m("not_empty"), "x");
    assert_names(o.m("d"), &["f", "kept"]);
    assert_names(o.m("pure"), &["f"]);
    // The name is free, and what is made there replaces it.
    sys::write_file(o.m("f"), "new").works();
    sys::mkdir(o.m("d/f"), 0o755).works();
    assert_text(o.m("f"), "new");
    assert_names(o.m("d/f"), &[]);
    o.remount();
    assert_text(o.m("f"), "new");
    assert_names(o.m("d"), &["f", "kept"]);
    assert_names(o.m("d/f"), &[]);
}

/// Below the last layer there is nothing to hide, so its directories say nothing.
fn whiteout_files_of_the_last_layer(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.xwhiteout("f").xwhiteout("d/f").file("d/kept", "k");
        })
        .mount();
    for name in ["f", "d/f"] {
        sys::stat(o.m(name)).fails(Errno::NOENT);
    }
    assert_names(o.m(""), &["d", "f"]);
    assert_names(o.m("d"), &["f", "kept"]);
}

fn whiteout_files_in_any_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            marked_file(l, "root");
            marked_file(l, "plain/f");
            l.xwhiteout("marked/f").file("marked/full", "x");
            l.xattr("marked/full", WHITEOUT, "y");
            marked_file(l, "opaque/f");
            l.opaque("opaque");
        })
        .lower(|l| {
            for name in ["root", "plain/f", "marked/f", "opaque/f"] {
                l.file(name, "below");
            }
        })
        .mount();
    for name in ["root", "plain/f", "marked/f", "opaque/f"] {
        sys::stat(o.m(name)).fails(Errno::NOENT);
        sys::append_file(o.m(name), "+")
            .map(drop)
            .fails(Errno::NOENT);
    }
    assert_text(o.m("marked/full"), "x");
    assert_names(o.m(""), &["marked", "opaque", "plain", "root"]);
    assert_names(o.m("plain"), &["f"]);
    assert_names(o.m("opaque"), &["f"]);
    assert_names(o.m("marked"), &["full"]);
    sys::write_file(o.m("plain/f"), "new").works();
    assert_text(o.m("plain/f"), "new");
    o.remount();
    assert_text(o.m("plain/f"), "new");
    assert_names(o.m("plain"), &["f"]);
}

fn protattr_with_unknown_letters(t: &T) {
    let long = "i".repeat(33);
    let values: [(&str, &[u8], bool); 10] = [
        ("immutable", b"i", true),
        ("both", b"ai", true),
        ("turned", b"ia", true),
        ("twice", b"ii", true),
        ("empty", b"", false),
        ("unknown", b"iz", false),
        ("first", b"zi", false),
        ("newline", b"i\n", false),
        ("nul", b"i\0", false),
        ("long", long.as_bytes(), false),
    ];
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
        })
        .upper(|u| {
            for (name, value, _) in &values {
                u.file(name, "x").xattr(name, PROTATTR, value);
            }
        })
        .mount();
    for (name, _, is_immutable) in &values {
        let opened = sys::open(o.m(name), OFlags::WRONLY).map(drop);
        match is_immutable {
            true => opened.fails(Errno::PERM),
            false => opened.works(),
        }
    }
    t.assert_logs(&["protattr", "unknown"], || {
        o.remount();
        sys::stat(o.m("unknown")).works();
    });
}

/// It is no origin: the file is what it is, with a number of its own.
fn origin_that_is_malformed(t: &T) {
    let header =
        |version, magic, len, flags| [&[version, magic, len, flags, 1][..], &[1; 16]].concat();
    let values: [(&str, Vec<u8>); 11] = [
        ("empty", vec![]),
        ("short", vec![0, 0xfb, 21]),
        ("header", header(0, 0xfb, 21, 0)),
        ("no_length", header(0, 0xfb, 0, 0)),
        ("too_long", header(0, 0xfb, 255, 0)),
        ("magic", header(0, 0xfa, 21, 0)),
        ("version", header(1, 0xfb, 21, 0)),
        ("flags", header(0, 0xfb, 21, 0xf8)),
        (
            "order",
            header(0, 0xfb, 21, u8::from(!cfg!(target_endian = "big"))),
        ),
        ("half", [header(0, 0xfb, 23, 2), vec![1, 2]].concat()),
        ("large", vec![0xfb; 1000]),
    ];
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "a");
        })
        .upper(|u| {
            for (name, value) in &values {
                u.file(name, name).xattr(name, ORIGIN, value);
            }
        })
        .prepare();
    o.mount().works();
    for (name, _) in &values {
        let ino = sys::stat(o.u(name)).works().st_ino;
        assert_eq!(sys::stat(o.m(name)).works().st_ino, ino, "{name}");
        assert_text(o.m(name), name);
    }
    t.assert_logs(&["origin"], || {
        o.remount();
        sys::stat(o.m("magic")).works();
    });
    for (name, _) in &values {
        sys::append_file(o.m(name), "+").works();
        sys::rename(o.m(name), o.m(format!("{name}_moved"))).works();
    }
}

fn identity(at: impl AsRef<Path>) -> (u64, u64) {
    let st = sys::stat(at).works();
    (st.st_dev, st.st_ino)
}

#[track_caller]
fn assert_all_differ(o: &Overlay, what: &str) {
    let names = sys::names(o.m("")).works();
    let mut seen: Vec<(u64, u64)> = names.iter().map(|n| identity(o.m(n))).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), names.len(), "{what}: files that seem to be one");
}

/// Squashfs has no UUID: a copy from one image is not a file of that in its place.
fn origin_in_an_image_that_was_replaced(t: &T) {
    let (first, second) = (t.new_dir("first"), t.new_dir("second"));
    for i in 0..5 {
        Tree::new(&first).file(format!("x{i}"), "x");
        Tree::new(&second).file(format!("y{i}"), "y");
    }
    let at = t.new_dir("image");
    let put = |from: &Path| {
        let image = from.with_extension("img");
        let words = [from.as_os_str(), image.as_os_str(), "-quiet".as_ref()];
        sys::run(
            "mksquashfs",
            &[&words[..], &["-no-progress".as_ref()]].concat(),
        );
        mount_device(Fs::Squashfs, &image, &at, "");
    };
    put(&first);
    let o = t.stack().lowers_not_compared().lower_dir(&at).mount();
    for i in 0..5 {
        sys::append_file(o.m(format!("x{i}")), "+").works();
    }
    assert_all_differ(&o, "first image");
    o.umount();
    sys::umount(&at).works();
    put(&second);
    o.mount().works();
    assert_eq!(sys::names(o.m("")).works().len(), 10);
    assert_all_differ(&o, "second image");
    o.umount();
    sys::umount(&at).works();
}

/// Two filesystems with one UUID, as an image and its copy.
fn origin_in_one_of_two_with_a_uuid(t: &T) {
    let first = t.own_fs(Fs::Ext4, 16);
    let tree = Tree::new(first.at.join("l"));
    for i in 0..5 {
        tree.file(format!("x{i}"), "x");
    }
    first.umount_and_check();
    let copy = first.image.with_extension("copy");
    std::fs::copy(&first.image, &copy).expect("copy of the image");
    let at = t.new_dir("copy");
    mount_device(Fs::Ext4, &copy, &at, "");
    for i in 0..5 {
        let (from, to) = (format!("l/x{i}"), format!("l/y{i}"));
        sys::rename(at.join(from), at.join(to)).works();
    }
    first.mount();
    let o = t
        .stack()
        .lowers_not_compared()
        .lower_dir(first.at.join("l"))
        .lower_dir(at.join("l"))
        .mount();
    assert_all_differ(&o, "as it was");
    for i in 0..5 {
        sys::append_file(o.m(format!("y{i}")), "+").works();
    }
    o.remount();
    assert_eq!(sys::names(o.m("")).works().len(), 10);
    assert_all_differ(&o, "with copies");
    o.umount();
    sys::umount(&at).works();
    sys::umount(&first.at).works();
}
