// SPDX-License-Identifier: GPL-2.0

//! One name through all the layers.

use crate::env::T;
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, FileType, OFlags};
use crate::tree::{assert_names, assert_opaque, assert_text, assert_whiteout, raw_name};

pub fn tests() -> Vec<Test> {
    vec![
        test!(upper_masks_lower).matrix(),
        test!(topmost_lower_wins),
        test!(merged_directories).matrix(),
        test!(whiteout_device_hides).matrix(),
        test!(whiteout_file_hides),
        test!(whiteout_file_needs_marked_directory),
        test!(whiteout_in_lower_layer),
        test!(whiteout_in_root),
        test!(opaque_directory_hides).matrix(),
        test!(opaque_in_lower_layer),
        test!(opaque_value_must_be_y),
        test!(file_over_directory),
        test!(directory_over_file),
        test!(file_between_directories_ends_the_merge),
        test!(symlinks),
        test!(symlink_to_directory_is_not_merged),
        test!(symlink_in_layer_stays_in_the_overlay),
        test!(special_files).matrix(),
        test!(long_and_strange_names).matrix(),
        test!(name_too_long),
        test!(deep_chain),
        test!(many_layers_with_holes),
        test!(hundred_layers_merged),
        test!(path_of_the_longest_names),
        test!(names_that_others_change),
        test!(names_that_appear_after_a_removal),
        test!(names_that_need_a_key),
        test!(only_names_that_change_are_asked_for),
        test!(upper_and_work_inside_lower),
        test!(layers_inside_lower_are_copied_up_empty),
        test!(layer_below_an_upper_directory),
        test!(dot_dot),
        test!(attributes_come_from_the_topmost),
        test!(negative_then_created),
        test!(lower_xattr_of_merged_directory_hidden),
        test!(case_of_names_matters),
        test!(repeated_lookup_after_drop_caches),
    ]
}

fn upper_masks_lower(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "lower").file("only_lower", "l");
        })
        .upper(|u| {
            u.file("f", "upper").file("only_upper", "u");
        })
        .mount();
    assert_text(o.m("f"), "upper");
    assert_text(o.m("only_lower"), "l");
    assert_text(o.m("only_upper"), "u");
    assert_names(o.m("/"), &["f", "only_lower", "only_upper"]);
}

fn topmost_lower_wins(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a", "1");
        })
        .lower(|l| {
            l.file("a", "2").file("b", "2");
        })
        .lower(|l| {
            l.file("a", "3").file("b", "3").file("c", "3");
        })
        .readonly()
        .mount();
    assert_text(o.m("a"), "1");
    assert_text(o.m("b"), "2");
    assert_text(o.m("c"), "3");
    assert_names(o.m("/"), &["a", "b", "c"]);
}

fn merged_directories(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/one", "1").file("d/both", "upper one");
            l.file("d/sub/x", "x");
        })
        .lower(|l| {
            l.file("d/two", "2").file("d/both", "lower one");
            l.file("d/sub/y", "y");
        })
        .upper(|u| {
            u.file("d/three", "3").dir("d/sub");
        })
        .mount();
    assert_names(o.m("d"), &["both", "one", "sub", "three", "two"]);
    assert_names(o.m("d/sub"), &["x", "y"]);
    assert_text(o.m("d/both"), "upper one");
    assert_text(o.m("d/two"), "2");
    assert_text(o.m("d/sub/y"), "y");
}

fn whiteout_device_hides(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("gone", "x").file("d/gone", "x").file("d/kept", "k");
            l.file("gone_dir/inside", "x");
        })
        .upper(|u| {
            u.whiteout("gone").whiteout("d/gone").whiteout("gone_dir");
        })
        .mount();
    sys::stat(o.m("gone")).fails(Errno::NOENT);
    sys::stat(o.m("d/gone")).fails(Errno::NOENT);
    sys::stat(o.m("gone_dir")).fails(Errno::NOENT);
    sys::stat(o.m("gone_dir/inside")).fails(Errno::NOENT);
    assert_names(o.m("/"), &["d"]);
    assert_names(o.m("d"), &["kept"]);
}

fn whiteout_file_hides(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.xwhiteout("d/gone").file("d/mine", "m");
        })
        .lower(|l| {
            l.file("d/gone", "x").file("d/kept", "k");
        })
        .upper(|u| {
            u.dir("d");
        })
        .mount();
    sys::stat(o.m("d/gone")).fails(Errno::NOENT);
    assert_names(o.m("d"), &["kept", "mine"]);
    assert_text(o.m("d/kept"), "k");
}

/// Without the `x` mark on the directory the file is an ordinary one when
/// the directory is listed; the mark must not hide anything else.
fn whiteout_file_needs_marked_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.xwhiteout("d/gone").file("d/empty", "");
        })
        .lower(|l| {
            l.file("d/gone", "x").file("d/empty", "not empty");
        })
        .readonly()
        .mount();
    assert_names(o.m("d"), &["empty"]);
    assert_text(o.m("d/empty"), "");
}

fn whiteout_in_lower_layer(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
        })
        .lower(|l| {
            l.whiteout("d/f").whiteout("g");
        })
        .lower(|l| {
            l.file("d/f", "hidden").file("g", "hidden").file("h", "h");
        })
        .mount();
    sys::stat(o.m("d/f")).fails(Errno::NOENT);
    sys::stat(o.m("g")).fails(Errno::NOENT);
    assert_names(o.m("d"), &[]);
    assert_names(o.m("/"), &["d", "h"]);
}

fn whiteout_in_root(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.whiteout("f");
        })
        .lower(|l| {
            l.file("f", "x");
        })
        .readonly()
        .mount();
    sys::stat(o.m("f")).fails(Errno::NOENT);
    assert_names(o.m("/"), &[]);
}

fn opaque_directory_hides(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/old", "x").file("d/sub/deep", "x");
        })
        .upper(|u| {
            u.opaque("d").file("d/new", "n").dir("d/sub");
        })
        .mount();
    assert_names(o.m("d"), &["new", "sub"]);
    assert_names(o.m("d/sub"), &[]);
    sys::stat(o.m("d/old")).fails(Errno::NOENT);
    sys::stat(o.m("d/sub/deep")).fails(Errno::NOENT);
}

fn opaque_in_lower_layer(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/top", "t");
        })
        .lower(|l| {
            l.opaque("d").file("d/middle", "m");
        })
        .lower(|l| {
            l.file("d/bottom", "b");
        })
        .upper(|u| {
            u.dir("d");
        })
        .mount();
    assert_names(o.m("d"), &["middle", "top"]);
    sys::stat(o.m("d/bottom")).fails(Errno::NOENT);
}

fn opaque_value_must_be_y(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/old", "x").file("e/old", "x");
        })
        .upper(|u| {
            u.dir("d").xattr("d", crate::tree::OPAQUE, "n");
            u.dir("e").xattr("e", crate::tree::OPAQUE, "x");
        })
        .mount();
    assert_names(o.m("d"), &["old"]);
    assert_names(o.m("e"), &["old"]);
}

fn file_over_directory(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("x/inside", "i");
        })
        .upper(|u| {
            u.file("x", "a file");
        })
        .mount();
    assert_text(o.m("x"), "a file");
    sys::stat(o.m("x/inside")).fails(Errno::NOTDIR);
}

fn directory_over_file(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("x", "a file");
        })
        .upper(|u| {
            u.file("x/inside", "i");
        })
        .mount();
    assert_names(o.m("x"), &["inside"]);
    assert_text(o.m("x/inside"), "i");
}

fn file_between_directories_ends_the_merge(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("x/top", "t");
        })
        .lower(|l| {
            l.file("x", "a file");
        })
        .lower(|l| {
            l.file("x/bottom", "b");
        })
        .mount();
    assert_names(o.m("x"), &["top"]);
    sys::stat(o.m("x/bottom")).fails(Errno::NOENT);
}

fn symlinks(t: &T) {
    let long = "x/".repeat(1000);
    let o = t
        .stack()
        .lower(|l| {
            l.file("target", "t").symlink("rel", "target");
            l.symlink("dangling", "nowhere").symlink("long", &long);
            l.symlink("masked", "old");
        })
        .upper(|u| {
            u.symlink("masked", "new").symlink("up", "rel");
        })
        .mount();
    assert_eq!(sys::readlink(o.m("rel")).works(), "target");
    assert_eq!(sys::readlink(o.m("long")).works(), long.as_str());
    assert_eq!(sys::readlink(o.m("masked")).works(), "new");
    assert_text(o.m("up"), "t");
    sys::stat(o.m("dangling")).fails(Errno::NOENT);
    assert_eq!(
        sys::lstat(o.m("long")).works().st_size as usize,
        long.len(),
        "st_size of a symlink"
    );
}

fn symlink_to_directory_is_not_merged(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("real/a", "a").file("name/b", "b");
        })
        .upper(|u| {
            u.symlink("name", "real");
        })
        .mount();
    assert_names(o.m("name"), &["a"]);
    assert_names(o.m("real"), &["a"]);
}

/// A path in a layer resolves in the overlay: the target is looked up there.
fn symlink_in_layer_stays_in_the_overlay(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.symlink("s", "target").file("target", "lower");
        })
        .upper(|u| {
            u.file("target", "upper");
        })
        .mount();
    assert_text(o.m("s"), "upper");
}

fn special_files(t: &T) {
    let dev = rustix::fs::makedev(1, 3);
    let o = t
        .stack()
        .lower(|l| {
            l.fifo("fifo").socket("sock");
            l.node("null", FileType::CharacterDevice, dev);
            l.node("blk", FileType::BlockDevice, rustix::fs::makedev(7, 200));
        })
        .mount();
    let kind = |n: &str| sys::kind_of(&sys::lstat(o.m(n)).works());
    assert_eq!(kind("fifo"), FileType::Fifo);
    assert_eq!(kind("sock"), FileType::Socket);
    assert_eq!(kind("null"), FileType::CharacterDevice);
    assert_eq!(kind("blk"), FileType::BlockDevice);
    assert_eq!(sys::lstat(o.m("null")).works().st_rdev, dev);
    assert!(sys::read_file(o.m("null")).works().is_empty());
    let fd = sys::open(o.m("null"), sys::OFlags::WRONLY).works();
    sys::write(&fd, "nothing").works();
    assert!(!sys::exists(o.u("null")), "a device was copied up by open");
}

fn long_and_strange_names(t: &T) {
    let long = "n".repeat(255);
    let names: Vec<Vec<u8>> = vec![
        long.into_bytes(),
        b"\xff\xfe not utf8 \x80".to_vec(),
        b"new\nline\ttab".to_vec(),
        b" lead and trail ".to_vec(),
        b"...".to_vec(),
        b"#work".to_vec(),
        b"a:b,c\\d=e".to_vec(),
        "\u{65e5}\u{672c}\u{8a9e}".as_bytes().to_vec(),
    ];
    let o = t
        .stack()
        .lower(|l| {
            for n in &names {
                l.file(raw_name(n), n);
            }
        })
        .mount();
    for n in &names {
        let name = raw_name(n);
        assert_eq!(&sys::read_file(o.m(name)).works(), n);
        sys::append_file(o.m(name), "+").works();
        assert_eq!(sys::read_file(o.u(name)).works().len(), n.len() + 1);
        sys::unlink(o.m(name)).works();
        crate::tree::assert_whiteout(o.u(name));
    }
    assert_names(o.m("/"), &[]);
}

fn name_too_long(t: &T) {
    let o = t.stack().lower(|_| {}).mount();
    let name = "n".repeat(256);
    sys::stat(o.m(&name)).fails(Errno::NAMETOOLONG);
    sys::write_file(o.m(&name), "x").fails(Errno::NAMETOOLONG);
    sys::mkdir(o.m(&name), 0o755).fails(Errno::NAMETOOLONG);
}

fn deep_chain(t: &T) {
    let depth = t.scaled(120, 40);
    let path = vec!["d"; depth].join("/");
    let o = t
        .stack()
        .lower(|l| {
            l.file(format!("{path}/one"), "1");
        })
        .lower(|l| {
            l.file(format!("{path}/two"), "2");
        })
        .mount();
    assert_names(o.m(&path), &["one", "two"]);
    sys::append_file(o.m(format!("{path}/two")), "+").works();
    assert_text(o.u(format!("{path}/two")), "2+");
    assert_names(o.m(&path), &["one", "two"]);
}

fn many_layers_with_holes(t: &T) {
    let mut stack = t.stack();
    for i in 0..40 {
        stack = stack.lower(|l| {
            l.file(format!("own{i:02}"), i.to_string());
            if i % 3 == 0 {
                l.file(format!("d/f{i:02}"), i.to_string());
            }
            if i % 7 == 0 {
                l.file("shared", i.to_string());
            }
        });
    }
    let o = stack.mount();
    assert_text(o.m("shared"), "0");
    assert_eq!(sys::names(o.m("/")).works().len(), 42);
    assert_eq!(sys::names(o.m("d")).works().len(), 14);
    for i in 0..40 {
        assert_text(o.m(format!("own{i:02}")), &i.to_string());
    }
}

/// One directory that is in all of a hundred layers.
fn hundred_layers_merged(t: &T) {
    let mut stack = t.stack();
    for i in 0..100 {
        stack = stack.lower(|l| {
            l.file(format!("a/b/own{i:02}"), i.to_string());
            l.file("a/b/all", i.to_string());
            if i > 0 {
                l.file(format!("a/b/hidden{}", i - 1), "x");
            }
            if i < 99 {
                l.whiteout(&format!("a/b/hidden{i}"));
            }
        });
    }
    let o = stack.mount();
    assert_eq!(sys::names(o.m("a/b")).works().len(), 101);
    assert_text(o.m("a/b/all"), "0");
    for i in 0..100 {
        assert_text(o.m(format!("a/b/own{i:02}")), &i.to_string());
        sys::append_file(o.m(format!("a/b/own{i:02}")), "+").works();
    }
    sys::unlink(o.m("a/b/all")).works();
    assert_eq!(sys::names(o.m("a/b")).works().len(), 100);
    o.remount();
    assert_eq!(sys::names(o.m("a/b")).works().len(), 100);
    std::fs::remove_dir_all(o.m("a")).expect("rm -r a");
    assert_names(o.m("/"), &[]);
    assert_whiteout(o.u("a"));
    sys::mkdir(o.m("a"), 0o755).works();
    assert_names(o.m("a"), &[]);
}

/// As deep as one path can say.
fn path_of_the_longest_names(t: &T) {
    let name = "x".repeat(255);
    let path = vec![name.as_str(); 14].join("/");
    let o = t
        .stack()
        .lower(|l| {
            std::env::set_current_dir(&l.root).expect("chdir");
            sys::run("mkdir", &["-p".as_ref(), path.as_ref()]);
            sys::write_file(format!("{path}/f"), "deep").works();
        })
        .mount();
    std::env::set_current_dir(o.m("/")).expect("chdir");
    assert_text(format!("{path}/f"), "deep");
    sys::append_file(format!("{path}/f"), "+").works();
    sys::link(format!("{path}/f"), format!("{path}/g")).works();
    assert_names(&path, &["f", "g"]);
    std::env::set_current_dir(o.u("/")).expect("chdir");
    assert_text(format!("{path}/g"), "deep+");
    std::env::set_current_dir("/").expect("chdir");
}

/// A lower file system on which others change names asks them again.
fn names_that_others_change(t: &T) {
    let fuse = t.fuse(|l| {
        l.file("a", "first").file("b", "second").file("d/x", "x");
        l.file("e/y", "y").file("kept", "kept");
    });
    fuse.remember_nothing();
    let o = t.stack().lower_fuse(&fuse).mount();
    assert_text(o.m("a"), "first");
    assert_names(o.m("d"), &["x"]);
    sys::append_file(o.m("kept"), "+").works();
    let open = sys::open(o.m("a"), OFlags::RDONLY).works();
    sys::stat(o.m("c")).fails(Errno::NOENT);
    sys::stat(o.m("d/y")).fails(Errno::NOENT);
    fuse.is_now("a", Some("b"));
    fuse.is_now("d", Some("e"));
    fuse.is_now("kept", None);
    assert_text(o.m("a"), "second");
    sys::stat(o.m("d/x")).fails(Errno::NOENT);
    assert_text(o.m("d/y"), "y");
    // What was open is what it was, and what is ours stays.
    assert_eq!(sys::read_rest(&open).works(), b"first");
    assert_text(o.m("kept"), "kept+");
    fuse.is_now("a", None);
    sys::stat(o.m("a")).fails(Errno::NOENT);
    t.better_than_overlay("it remembers that there was no such name");
    fuse.is_now("c", Some("b"));
    assert_text(o.m("c"), "second");
    fuse.is_now("a", Some("b"));
    assert_text(o.m("a"), "second");
    // A directory in which something has been copied up is another case: what
    // it was merged of stays as long as it is in use.
    sys::append_file(o.m("d/y"), "+").works();
    assert_text(o.m("d/y"), "y+");
    drop(open);
}

/// A name that is removed from the upper layer may come in such a lower one.
fn names_that_appear_after_a_removal(t: &T) {
    t.better_than_overlay("it remembers that there was no such name");
    let fuse = t.fuse(|l| {
        l.file("d/b", "second");
    });
    fuse.remember_nothing();
    let o = t
        .stack()
        .lower(|l| {
            l.file("local/f", "f");
        })
        .lower_fuse(&fuse)
        .mount();
    sys::write_file(o.m("d/c"), "mine").works();
    sys::unlink(o.m("d/c")).works();
    sys::stat(o.m("d/c")).fails(Errno::NOENT);
    fuse.is_now("d/c", Some("d/b"));
    assert_text(o.m("d/c"), "second");
    // Where it has no directory its names do not count.
    sys::stat(o.m("local/g")).fails(Errno::NOENT);
    sys::write_file(o.m("local/g"), "g").works();
    sys::unlink(o.m("local/g")).works();
    sys::stat(o.m("local/g")).fails(Errno::NOENT);
    assert_names(o.m("local"), &["f"]);
}

/// One layer on which others change names does not end the path walks under RCU that lead
/// through other objects, nor does what is not there have to be looked up each time.
fn only_names_that_change_are_asked_for(t: &T) {
    use rustix::fs::{openat2, Mode, ResolveFlags, CWD};
    let fuse = t.fuse(|l| {
        l.file("d/b", "second");
    });
    fuse.remember_nothing();
    let o = t
        .stack()
        .lower(|l| {
            l.file("local/sub/f", "f");
        })
        .lower_fuse(&fuse)
        .mount();
    let cached = |path| {
        // Twice: the first walk may have to look things up.
        let walked: [_; 2] = std::array::from_fn(|_| {
            let _ = sys::stat(o.m(path));
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            openat2(CWD, o.m(path), flags, Mode::empty(), ResolveFlags::CACHED)
                .map(drop)
                .map_err(Errno::raw_os_error)
        });
        walked[1]
    };
    assert_eq!(cached("local/sub/f"), Ok(()));
    assert_eq!(cached("local/none"), Err(libc::ENOENT));
    assert_eq!(cached("d/b"), Err(libc::EAGAIN));
    assert_eq!(cached("d/none"), Err(libc::EAGAIN));
    assert_eq!(cached("none"), Err(libc::EAGAIN));
    // Of a copy nothing below is shown, and what is made is the upper layer's.
    sys::append_file(o.m("local/sub/f"), "+").works();
    sys::write_file(o.m("d/c"), "mine").works();
    assert_eq!(cached("local/sub/f"), Ok(()));
    assert_text(o.m("d/c"), "mine");
}

/// Encrypted names are others with the key than without: what is known of them is asked again.
fn names_that_need_a_key(t: &T) {
    use std::os::fd::AsRawFd;
    const SET_POLICY: libc::Ioctl = 0x800c_6613_u32 as libc::Ioctl;
    const ADD_KEY: libc::Ioctl = 0xc050_6617_u32 as libc::Ioctl;
    const REMOVE_KEY: libc::Ioctl = 0xc040_6618_u32 as libc::Ioctl;
    let own = t.own_fs(crate::env::Fs::Ext4, 32);
    sys::umount(&own.at).works();
    let image = own.image.as_os_str();
    sys::run("tune2fs", &["-O".as_ref(), "encrypt".as_ref(), image]);
    own.mount();
    crate::tree::Tree::new(&own.at).dir("l/d").dir("u").dir("w");
    // What is open keeps the key it has: keys come and go by way of the root.
    let ioctl = |dir: &str, what: libc::Ioctl, arg: &mut [u8]| {
        let dir = sys::open(own.at.join(dir), OFlags::RDONLY).works();
        // SAFETY: the argument is as large as the number of the ioctl says.
        match unsafe { libc::ioctl(dir.as_raw_fd(), what, arg.as_mut_ptr()) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // struct fscrypt_add_key_arg: an identifier, and 64 bytes of key.
    let add = || {
        let mut arg = [0_u8; 80 + 64];
        arg[0] = 2;
        arg[40] = 64;
        arg[80..].fill(7);
        ioctl("", ADD_KEY, &mut arg).map(|()| arg[8..24].to_vec())
    };
    let id = match add() {
        Ok(id) => id,
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            t.skip("the kernel has no encrypted directories")
        }
        Err(e) => panic!("FS_IOC_ADD_ENCRYPTION_KEY: {e}"),
    };
    // struct fscrypt_policy_v2.
    let mut policy = [0_u8; 24];
    policy[..4].copy_from_slice(&[2, 1, 4, 3]);
    policy[8..].copy_from_slice(&id);
    ioctl("l/d", SET_POLICY, &mut policy).expect("FS_IOC_SET_ENCRYPTION_POLICY");
    match sys::write_file(own.at.join("l/d/secret"), "text") {
        Err(e) if e.errno == Errno::NOPKG => t.skip("the kernel has no cts(cbc(aes))"),
        written => written.works(),
    }
    sys::mkdir(own.at.join("l/d/dir"), 0o755).works();
    let remove = || {
        rustix::fs::sync();
        let mut arg = [0_u8; 64];
        arg[0] = 2;
        arg[8..24].copy_from_slice(&id);
        ioctl("", REMOVE_KEY, &mut arg).expect("FS_IOC_REMOVE_ENCRYPTION_KEY");
    };
    remove();
    let o = t
        .stack()
        .lowers_not_compared()
        .lower_dir(own.at.join("l"))
        .lower(|l| {
            l.file("plain/f", "f");
        })
        .mount();
    let locked = sys::names(o.m("d")).works();
    assert_eq!(locked.len(), 2);
    for n in &locked {
        assert_ne!(n, "secret");
        sys::stat(o.m("d").join(n)).works();
    }
    sys::stat(o.m("d/secret")).fails(Errno::NOENT);
    sys::stat(o.m("d/dir")).fails(Errno::NOENT);
    add().expect("the key again");
    assert_text(o.m("d/secret"), "text");
    sys::stat(o.m("d/dir")).works();
    for n in &locked {
        sys::stat(o.m("d").join(n)).fails(Errno::NOENT);
    }
    assert_names(o.m("d"), &["dir", "secret"]);
    sys::append_file(o.m("d/secret"), "+").works();
    assert_text(o.m("d/secret"), "text+");
    o.umount();
    own.umount_and_check();
}

/// Upper and work directory lie in the lower layer: `lowerdir=/`. They are empty directories
/// there, and nothing of what is in them is seen again, or changed.
fn upper_and_work_inside_lower(t: &T) {
    t.better_than_overlay("ELOOP for the names of layers in the merged tree");
    let o = inside_lower(t);
    sys::write_file(o.m("new"), "n").works();
    sys::append_file(o.m("f"), "+").works();
    assert_names(o.m("/"), &["f", "new", "run"]);
    assert_names(o.m("run"), &["upper", "work"]);
    let root = sys::stat(o.m("/")).works().st_ino;
    let mut numbers = vec![root];
    for n in ["run/upper", "run/work"] {
        assert_names(o.m(n), &[]);
        let st = sys::stat(o.m(n)).works();
        // `find` takes a directory with the number of one above it for a loop.
        assert!(
            !numbers.contains(&st.st_ino),
            "{n} has a number that is taken"
        );
        numbers.push(st.st_ino);
        assert_eq!(st.st_nlink, 1, "{n}");
        for below in ["f", "new", "run", "work"] {
            sys::stat(o.m(n).join(below)).fails(Errno::NOENT);
        }
    }
    let found = sys::run("find", &[o.m("/").as_os_str()]);
    assert_eq!(found.lines().count(), 6, "{found}");
    sys::rmdir(o.m("run/work")).works();
    assert_names(o.m("run"), &["upper"]);
    sys::rmdir(o.m("run/upper")).works();
    sys::rmdir(o.m("run")).works();
    sys::mkdir(o.m("run"), 0o755).works();
    assert_names(o.m("run"), &[]);
    sys::stat(o.m("run/upper")).fails(Errno::NOENT);
    assert_text(lower_of(&o).join("f"), "lower");
    assert_names(lower_of(&o).join("run"), &["upper", "work"]);
    assert_text(o.u("f"), "lower+");
    sys::stat(o.u("run/upper")).fails(Errno::NOENT);
}

/// What is made in such a directory goes to the upper layer, and to nobody else; where it is
/// shown next time it is as empty as it was.
fn layers_inside_lower_are_copied_up_empty(t: &T) {
    t.better_than_overlay("ELOOP for the names of layers in the merged tree");
    let o = inside_lower(t);
    sys::write_file(o.m("hidden"), "h").works();
    sys::chmod(o.m("run/work"), 0o711).works();
    assert_names(o.m("run/work"), &[]);
    sys::write_file(o.m("run/upper/x"), "x").works();
    sys::mkdir(o.m("run/upper/d"), 0o755).works();
    assert_names(o.m("run/upper"), &["d", "x"]);
    assert_names(o.u("/"), &["hidden", "run"]);
    assert_names(o.u("run/upper"), &["d", "x"]);
    for n in ["run/upper", "run/work"] {
        assert_opaque(o.u(n));
        let number = sys::stat(o.m(n)).works().st_ino;
        assert_eq!(number, sys::stat(o.u(n)).works().st_ino, "{n}");
        assert_ne!(number, sys::stat(o.m("/")).works().st_ino, "{n}");
    }
    sys::rename(o.m("run/upper"), o.m("moved")).works();
    assert_names(o.m("moved"), &["d", "x"]);
    assert_names(o.m("run"), &["work"]);
    drop_caches();
    sys::stat(o.m("run/upper")).fails(Errno::NOENT);
    assert_names(o.m("run/work"), &[]);
    sys::mkdir(o.m("run/upper"), 0o755).works();
    assert_names(o.m("run/upper"), &[]);
    // One that has not been copied up is as good as any other.
    sys::rmdir(o.m("run/work")).works();
    sys::rename(o.m("moved"), o.m("run/work")).works();
    assert_names(o.m("run/work"), &["d", "x"]);
    assert_text(lower_of(&o).join("f"), "lower");
    sys::stat(lower_of(&o).join("hidden")).fails(Errno::NOENT);
}

/// A directory of the upper layer is merged with nothing where a layer is below it.
fn layer_below_an_upper_directory(t: &T) {
    t.better_than_overlay("ELOOP for the names of layers in the merged tree");
    let o = inside_lower(t);
    o.umount();
    crate::tree::Tree::new(o.u("/"))
        .file("run/upper/own", "x")
        .file("seen/x", "x")
        .dir("led_there")
        .xattr("led_there", "trusted.overlay.redirect", "/run/upper/seen");
    o.mount().works();
    assert_names(o.m("run/upper"), &["own"]);
    sys::stat(o.m("run/upper/seen")).fails(Errno::NOENT);
    assert_names(o.m("led_there"), &[]);
    sys::rename(o.m("run/upper"), o.m("other")).works();
    assert_names(o.m("run"), &["work"]);
    assert_names(o.m("other"), &["own"]);
    sys::stat(o.m("run/upper")).fails(Errno::NOENT);
}

/// A mount whose upper and work directory are in `run` of its lower layer.
fn inside_lower(t: &T) -> crate::stack::Overlay {
    let lower = t.new_dir("lower");
    crate::tree::Tree::new(&lower)
        .file("f", "lower")
        .dir("run/upper")
        .dir("run/work");
    t.stack()
        .lowers_not_compared()
        .lower_dir(&lower)
        .upper_in(&lower.join("run"))
        .mount()
}

fn lower_of(o: &crate::stack::Overlay) -> std::path::PathBuf {
    o.l(0, "/")
}

fn dot_dot(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("a/b/c/f", "f").file("a/g", "g");
        })
        .mount();
    assert_text(o.m("a/b/c/../../g"), "g");
    let up = sys::stat(o.m("a/b/..")).works();
    assert_eq!(up.st_ino, sys::stat(o.m("a")).works().st_ino);
    let above_root = sys::stat(o.m("..")).works();
    let parent = sys::stat(o.m("/").parent().expect("parent")).works();
    assert_eq!(above_root.st_ino, parent.st_ino);
}

fn attributes_come_from_the_topmost(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").mode("d", 0o750).owner("d", 11, 12);
            l.times("d", (1000, 1), (2000, 2));
        })
        .lower(|l| {
            l.dir("d").mode("d", 0o711).owner("d", 21, 22);
        })
        .mount();
    let st = sys::stat(o.m("d")).works();
    assert_eq!(sys::mode_of(&st), 0o750);
    assert_eq!((st.st_uid, st.st_gid), (11, 12));
    assert_eq!((st.st_mtime, st.st_mtime_nsec), (2000, 2));
}

fn negative_then_created(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d");
        })
        .mount();
    for _ in 0..3 {
        sys::stat(o.m("d/f")).fails(Errno::NOENT);
    }
    sys::write_file(o.m("d/f"), "now").works();
    assert_text(o.m("d/f"), "now");
    sys::unlink(o.m("d/f")).works();
    sys::stat(o.m("d/f")).fails(Errno::NOENT);
    assert!(!sys::exists(o.u("d/f")), "whiteout without a lower file");
}

fn lower_xattr_of_merged_directory_hidden(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.dir("d").xattr("d", "user.both", "lower");
            l.xattr("d", "user.lower", "l");
        })
        .upper(|u| {
            u.dir("d").xattr("d", "user.both", "upper");
        })
        .mount();
    assert_eq!(sys::get_xattr(o.m("d"), "user.both").works(), b"upper");
    sys::get_xattr(o.m("d"), "user.lower").fails(Errno::NODATA);
    assert_eq!(sys::list_xattr(o.m("d")).works(), ["user.both"]);
}

fn case_of_names_matters(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("Name", "1").file("name", "2");
        })
        .mount();
    sys::unlink(o.m("Name")).works();
    assert_text(o.m("name"), "2");
    assert_names(o.m("/"), &["name"]);
}

fn repeated_lookup_after_drop_caches(t: &T) {
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/a", "a").file("d/b", "b");
        })
        .mount();
    for i in 0..5 {
        sys::unlink(o.m("d/b")).works();
        drop_caches();
        sys::stat(o.m("d/b")).fails(Errno::NOENT);
        sys::write_file(o.m("d/b"), i.to_string()).works();
        drop_caches();
        assert_text(o.m("d/b"), &i.to_string());
        assert_names(o.m("d"), &["a", "b"]);
    }
}

fn drop_caches() {
    std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
}
