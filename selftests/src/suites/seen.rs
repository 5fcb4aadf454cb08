// SPDX-License-Identifier: GPL-2.0

//! Copy-up seen from outside: the counters in mountstats, and the tracepoints.

use std::path::Path;

use crate::env::T;
use crate::runner::Test;
use crate::stack::Overlay;
use rustix::mount::MountFlags;

use crate::sys::{self, Errno, Expect, OFlags};
use crate::tree::pattern;

pub fn tests() -> Vec<Test> {
    vec![test!(counters), test!(tracepoints)]
}

/// What mountstats tells of a mount, without the leading white space.
fn stats(o: &Overlay) -> Vec<String> {
    let mountstats = sys::text("/proc/self/mountstats").works();
    let head = format!(" mounted on {} with fstype rovl ", o.m("").display());
    let mut lines = mountstats.lines().skip_while(|l| !l.contains(&head));
    assert!(lines.next().is_some(), "no {head:?} in {mountstats}");
    lines
        .take_while(|l| l.starts_with('\t'))
        .map(|l| l.trim().to_string())
        .collect()
}

fn counters(t: &T) {
    t.better_than_overlay("it does not count");
    let o = t
        .stack()
        .lower(|l| {
            l.file("d/f", pattern(5000, 1)).symlink("d/s", "f");
            l.file("d/g", pattern(300, 1)).file("read", "x");
        })
        .mount();
    assert_eq!(stats(&o), ["copies: started 0 done 0 failed 0 bytes 0"]);
    sys::read_file(o.m("read")).works();
    sys::stat(o.m("d/f")).works();
    sys::write_file(o.m("new"), "made in the upper layer").works();
    assert_eq!(stats(&o), ["copies: started 0 done 0 failed 0 bytes 0"]);
    // The directory and the file.
    sys::append_file(o.m("d/f"), "+").works();
    assert_eq!(stats(&o), ["copies: started 2 done 2 failed 0 bytes 5000"]);
    sys::append_file(o.m("d/f"), "+").works();
    assert_eq!(stats(&o), ["copies: started 2 done 2 failed 0 bytes 5000"]);
    sys::lchown(o.m("d/s"), 1, 1).works();
    sys::unlink(o.m("read")).works();
    // What is truncated is not copied.
    drop(sys::open(o.m("d/g"), OFlags::WRONLY | OFlags::TRUNC).works());
    assert_eq!(stats(&o), ["copies: started 4 done 4 failed 0 bytes 5000"]);
    o.remount();
    assert_eq!(stats(&o), ["copies: started 0 done 0 failed 0 bytes 0"]);
}

/// Where the events are, mounted if need be.
pub fn tracefs(t: &T) -> std::path::PathBuf {
    let usual = Path::new("/sys/kernel/tracing");
    if usual.join("events").exists() {
        return usual.to_path_buf();
    }
    let at = t.new_dir("tracefs");
    let none = MountFlags::empty();
    match sys::mount("none", &at, "tracefs", none, b"") {
        Err(e) if e.errno == Errno::NODEV => t.skip("the kernel has no tracefs"),
        r => r.works(),
    }
    at
}

fn tracepoints(t: &T) {
    t.better_than_overlay("it has no tracepoints");
    let tracing = tracefs(t);
    let events = tracing.join("events/rovl");
    if !events.exists() {
        t.skip("the kernel has no events of modules");
    }
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", pattern(5000, 1)).file("g", "x");
        })
        .mount();
    let ino = sys::stat(o.l(0, "f")).works().st_ino;
    sys::write_file(tracing.join("trace"), "").works();
    sys::write_file(events.join("enable"), "1").works();
    sys::append_file(o.m("f"), "+").works();
    sys::append_file(o.m("f"), "+").works();
    sys::write_file(events.join("enable"), "0").works();
    sys::append_file(o.m("g"), "+").works();
    let trace = sys::text(tracing.join("trace")).works();
    let seen: Vec<&str> = trace
        .lines()
        .filter_map(|l| l.split_once("rovl_copy_up_").map(|(_, event)| event))
        .filter(|event| event.contains(&format!(" ino {ino}")))
        .collect();
    let names: Vec<&str> = seen
        .iter()
        .filter_map(|event| event.split_once(':').map(|(name, _)| name))
        .collect();
    assert_eq!(names, ["begin", "chunk", "publish", "end"], "{trace}");
    assert!(seen[1].ends_with(" pos 0 len 5000"), "{}", seen[1]);
    assert!(seen[3].ends_with(" result 0 bytes 5000"), "{}", seen[3]);
}
