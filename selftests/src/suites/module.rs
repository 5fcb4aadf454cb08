// SPDX-License-Identifier: GPL-2.0

//! Loading and unloading the module.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use crate::env::T;
use crate::runner::Test;
use crate::sys::{self, Errno, Expect, Fail, OFlags, Res};
use crate::tree::assert_text;

pub fn tests() -> Vec<Test> {
    vec![
        test!(says_what_it_is),
        test!(kunit),
        test!(not_unloaded_while_mounted),
        test!(not_unloaded_while_a_file_is_open),
        test!(not_unloaded_while_being_configured),
        test!(loaded_twice),
        test!(loaded_and_unloaded_many_times).long(2),
        test!(unloaded_after_much_use),
    ]
}

/// The module, if there is one to be unloaded.
pub(super) fn module(t: &T) -> PathBuf {
    match &t.config.module {
        Some(path) => path.clone(),
        None => t.skip("no module to load and unload: ROVL_MODULE is not set"),
    }
}

pub(super) fn load(t: &T) -> Res<()> {
    load_with(t, c"")
}

/// With parameters.
pub(super) fn load_with(t: &T, parameters: &CStr) -> Res<()> {
    let file = sys::open(module(t), OFlags::RDONLY)?;
    rustix::system::finit_module(&file, parameters, 0).map_err(|e| Fail::new("finit_module", e))
}

fn unload(t: &T) -> Res<()> {
    unload_named(t.fstype())
}

fn unload_named(name: &str) -> Res<()> {
    let name = CString::new(name).expect("name");
    let flags = libc::O_NONBLOCK;
    rustix::system::delete_module(&name, flags).map_err(|e| Fail::new("delete_module", e))
}

/// The last mount goes from a work item of the kernel, a moment later.
#[track_caller]
pub(super) fn unload_soon(t: &T) {
    unload_named_soon(t.fstype());
}

/// Another module.
#[track_caller]
pub(super) fn unload_named_soon(name: &str) {
    for _ in 0..500 {
        match unload_named(name) {
            Err(e) if e.errno == Errno::AGAIN || e.errno == Errno::BUSY => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            other => return other.works(),
        }
    }
    panic!("still in use after all mounts are gone");
}

/// What `vfs/tests.rs` has found out when the module was loaded.
fn kunit(t: &T) {
    let kunit = Path::new("/sys/kernel/debug/kunit");
    if !kunit.exists() {
        t.skip("the kernel has no KUnit, or shows no results in debugfs");
    }
    let text = std::fs::read_to_string(kunit.join("rovl_vfs/results")).expect("results");
    let passed = text
        .lines()
        .filter(|line| line.trim_start().starts_with("ok "))
        .count();
    assert!(passed > 1 && !text.contains("not ok"), "{text}");
}

const IN_USE: [Errno; 2] = [Errno::AGAIN, Errno::BUSY];

fn says_what_it_is(t: &T) {
    let image = std::fs::read(module(t)).expect("module");
    for tag in ["license=GPL", "alias=fs-rovl", "description="] {
        let found = image.windows(tag.len()).any(|w| w == tag.as_bytes());
        assert!(found, "no {tag} in the module");
    }
    assert!(registered(t));
}

fn registered(t: &T) -> bool {
    let line = format!("nodev\t{}", t.fstype());
    let types = sys::text("/proc/filesystems").works();
    types.lines().any(|l| l == line)
}

fn not_unloaded_while_mounted(t: &T) {
    module(t);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .mount();
    for _ in 0..3 {
        unload(t).fails_any(&IN_USE);
    }
    sys::append_file(o.m("f"), "+").works();
    assert_text(o.m("f"), "x+");
}

fn not_unloaded_while_a_file_is_open(t: &T) {
    module(t);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x").dir("d");
        })
        .mount();
    let fd = sys::open(o.m("f"), OFlags::RDWR).works();
    let dir = sys::open(o.m("d"), OFlags::RDONLY | OFlags::DIRECTORY).works();
    sys::umount_detach(&o.m("/"));
    unload(t).fails_any(&IN_USE);
    drop(dir);
    unload(t).fails_any(&IN_USE);
    sys::pwrite(&fd, "y", 0).works();
    assert_eq!(sys::pread(&fd, 1, 0).works(), b"y");
    drop(fd);
    unload_soon(t);
    load(t).works();
    o.mount().works();
}

fn not_unloaded_while_being_configured(t: &T) {
    module(t);
    let o = t.stack().lower(|_| {}).prepare();
    let fc = o.context().works();
    unload(t).fails_any(&IN_USE);
    drop(fc);
    let fc = o.context().works();
    fc.create().works();
    unload(t).fails_any(&IN_USE);
    drop(fc);
    unload_soon(t);
    load(t).works();
}

fn loaded_twice(t: &T) {
    load(t).fails(Errno::EXIST);
}

fn loaded_and_unloaded_many_times(t: &T) {
    module(t);
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "x");
        })
        .prepare();
    for i in 0..t.scaled(30, 5) {
        unload_soon(t);
        // Not by an attempt to mount: that would load it again.
        assert!(!registered(t), "still registered after its unload");
        load(t).works();
        assert!(registered(t), "not registered after its load");
        o.mount().works();
        sys::write_file(o.m("f"), i.to_string()).works();
        o.umount();
    }
}

/// Caches are full of its inodes and dentries when the mounts go.
fn unloaded_after_much_use(t: &T) {
    module(t);
    let n = t.scaled(500, 100);
    let o = t
        .stack()
        .lowers_not_compared()
        .lower(|l| {
            for i in 0..n {
                l.file(format!("d{}/f{i}", i % 10), "x");
            }
        })
        .mount();
    for i in 0..n {
        let p = o.m(format!("d{}/f{i}", i % 10));
        match i % 4 {
            0 => sys::append_file(p, "+").works(),
            1 => sys::unlink(p).works(),
            _ => drop(sys::stat(p).works()),
        }
    }
    for d in 0..10 {
        sys::names(o.m(format!("d{d}"))).works();
    }
    o.umount();
    unload_soon(t);
    load(t).works();
}
