// SPDX-License-Identifier: GPL-2.0

//! After the last unmount nothing is held, and nothing is lost.

use crate::env::{Fs, T};
use crate::runner::Test;
use crate::sys::{self, Expect, OFlags};
use crate::tree::{assert_same, assert_text, pattern, Take, Tree};

pub fn tests() -> Vec<Test> {
    vec![
        test!(upper_ext4_is_free_and_clean),
        test!(upper_xfs_is_free_and_clean),
        test!(upper_btrfs_is_free_and_clean),
        test!(lower_is_free_and_clean),
        test!(data_is_there_after_umount),
        test!(mapped_data_is_there_after_umount),
        test!(nothing_held_after_failed_operations),
    ]
}

fn use_it(t: &T, m: &std::path::Path) {
    let n = t.scaled(60, 20);
    for i in 0..n {
        let p = m.join(format!("d{}/f{i}", i % 5));
        match i % 6 {
            0 => sys::append_file(p, "+").works(),
            1 => sys::unlink(p).works(),
            2 => sys::rename(p, m.join(format!("moved{i}"))).works(),
            3 => sys::link(p, m.join(format!("link{i}"))).works(),
            4 => sys::truncate(p, 10).works(),
            _ => drop(sys::read_file(p).works()),
        }
    }
    std::fs::remove_dir_all(m.join("d3")).expect("rm -r");
    sys::mkdir(m.join("d3"), 0o755).works();
    let fd = sys::open(m.join("d0"), OFlags::TMPFILE | OFlags::RDWR).works();
    sys::write(&fd, pattern(10_000, 1)).works();
}

fn fill(t: &T, l: &Tree) {
    for i in 0..t.scaled(60, 20) {
        l.file(format!("d{}/f{i}", i % 5), pattern(3000, i as u64));
    }
}

fn upper_on(t: &T, fs: Fs, megabytes: u64) {
    let own = t.own_fs(fs, megabytes);
    let o = t.stack().lower(|l| fill(t, l)).upper_in(&own.at).mount();
    use_it(t, &o.m("/"));
    let tree = o.snapshot(Take::ALL);
    o.umount();
    own.umount_and_check();
    own.mount();
    o.mount().works();
    assert_same("after all", &tree, &o.snapshot(Take::ALL));
}

fn upper_ext4_is_free_and_clean(t: &T) {
    upper_on(t, Fs::Ext4, 64);
}

fn upper_xfs_is_free_and_clean(t: &T) {
    upper_on(t, Fs::Xfs, 320);
}

fn upper_btrfs_is_free_and_clean(t: &T) {
    upper_on(t, Fs::Btrfs, 192);
}

fn lower_is_free_and_clean(t: &T) {
    let own = t.own_fs(Fs::Ext4, 64);
    fill(t, &Tree::new(&own.at));
    let o = t.stack().lowers_not_compared().lower_dir(&own.at).mount();
    use_it(t, &o.m("/"));
    o.umount();
    own.umount_and_check();
    own.mount();
    o.mount().works();
}

fn data_is_there_after_umount(t: &T) {
    let own = t.own_fs(Fs::Ext4, 64);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", pattern(500_000, 1));
        })
        .upper_in(&own.at)
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    sys::pwrite(&fd, "CHANGED", 250_000).works();
    drop(fd);
    sys::write_file(o.m("new"), "new").works();
    o.umount();
    own.umount_and_check();
    own.mount();
    let mut want = pattern(500_000, 1);
    want[250_000..250_007].copy_from_slice(b"CHANGED");
    assert!(sys::read_file(own.at.join("upper/f")).works() == want);
    assert_text(own.at.join("upper/new"), "new");
    o.mount().works();
}

fn mapped_data_is_there_after_umount(t: &T) {
    let own = t.own_fs(Fs::Ext4, 64);
    let size = 100_000;
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", pattern(size, 1));
        })
        .upper_in(&own.at)
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    let map = sys::Map::new(&fd, size, true, true).works();
    map.put(50_000, b"MAPPED");
    drop((map, fd));
    o.umount();
    own.umount_and_check();
    own.mount();
    let mut want = pattern(size, 1);
    want[50_000..50_006].copy_from_slice(b"MAPPED");
    assert!(sys::read_file(own.at.join("upper/f")).works() == want);
    o.mount().works();
}

fn nothing_held_after_failed_operations(t: &T) {
    let own = t.own_fs(Fs::Ext4, 64);
    let o = t.stack().lower(|l| fill(t, l)).upper_in(&own.at).mount();
    for _ in 0..5 {
        assert!(sys::rename(o.m("d0"), o.m("x")).is_err());
        assert!(sys::rmdir(o.m("d0")).is_err());
        assert!(sys::link(o.m("d0"), o.m("x")).is_err());
        assert!(sys::mkdir(o.m("d0"), 0o755).is_err());
        assert!(sys::write_file(o.m("none/x"), "").is_err());
        assert!(sys::open(o.m("d0"), OFlags::RDWR).is_err());
        assert!(sys::get_xattr(o.m("d0"), "user.none").is_err());
        t.as_user(1000, 1000, || {
            assert!(sys::chmod(o.m("d0/f0"), 0o777).is_err());
            assert!(sys::unlink(o.m("d0/f0")).is_err());
        });
    }
    o.umount();
    own.umount_and_check();
    own.mount();
    o.mount().works();
}
