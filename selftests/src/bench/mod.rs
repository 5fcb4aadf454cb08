// SPDX-License-Identifier: GPL-2.0

//! `rovl_tests bench [--quick] [--list] [ROW...]`: the same work on the bare
//! upper file system, on the kernel's overlay and on rovl.
//!
//! A row is a struct which implements [`Row`] and stands in [`rows`]. Every
//! sample has a [`Site`] of its own: fresh upper layer, fresh mount, cold
//! caches. The file systems take turns, and the rows do, so that a change of
//! the machine's load is shared by all.
//!
//! No time is judged here. The output is lines of fields separated by tabs,
//! of which `tools/bench.py` makes the table and the JSON file:
//!
//! ```text
//! bench   1
//! meta    KEY VALUE
//! missing FILESYSTEM
//! row     NAME FIGURE UNIT HEADING LABEL IDLE-ROW
//! sample  NAME FIGURE FILESYSTEM ROUND VALUE
//! note    NAME FILESYSTEM ROUND TEXT
//! fail    NAME FILESYSTEM ROUND TEXT
//! end     FAILED
//! ```

mod again;
mod at;
mod calls;
mod data;
mod first_write;
mod listing;
mod lookup;
mod memory;
mod names;
mod site;
mod threads;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::env::{self, Config, Fs, PANICS};
use crate::sys::{self, Expect, OFlags};
use crate::tree::{self, Tree};
use site::{Kind, Site};

/// What the figures of a row are. Less is better, except of a rate.
#[derive(Clone, Copy)]
pub enum Unit {
    Milliseconds,
    Microseconds,
    Bytes,
    PerSecond,
}

impl Unit {
    /// As `tools/bench.py` knows it.
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "us",
            Unit::Bytes => "B",
            Unit::PerSecond => "1/s",
        }
    }
}

/// One sample: its figures by name. A row with one figure names it "".
pub type Sample = Vec<(&'static str, f64)>;

/// Something to be measured on each of the file systems.
pub trait Row {
    /// The name in the JSON file, which selects the row as well.
    fn name(&self) -> String;
    /// What is measured; rows with the same heading stand together.
    fn heading(&self) -> String;
    /// Which of the rows with this heading it is.
    fn label(&self) -> String;
    fn unit(&self) -> Unit;
    /// How many samples are taken on each file system.
    fn rounds(&self) -> usize;
    /// The name of the row which does the same with nothing going on, if there
    /// is one: this one should show no more.
    fn idle(&self) -> Option<String> {
        None
    }
    /// How many lower layers there are.
    fn layers(&self) -> usize {
        1
    }
    /// Lays out what the row needs in the topmost lower layer, which all rows
    /// and samples share. Called once.
    fn lower(&self, _: &Tree) {}
    /// The same for each of the others, the second being 1.
    fn lower_at(&self, _layer: usize, _: &Tree) {}
    /// What is to be done before a sample, with no clock running. Caches are
    /// dropped behind it.
    fn prepare(&self, _: &Site) {}
    /// The work, which takes its own time.
    fn work(&self, site: &Site) -> Sample;
}

/// All rows. `quick` shows that they work; it is too little to compare.
fn rows(quick: bool) -> Vec<Box<dyn Row>> {
    let mut all: Vec<Box<dyn Row>> = Vec::new();
    let rounds = if quick { 1 } else { 5 };
    all.push(Box::new(calls::Stat { rounds }));
    all.push(Box::new(calls::Open { rounds }));
    for size in [4 << 10, 64 << 10] {
        all.push(Box::new(data::Data { size, rounds }));
    }
    all.push(Box::new(data::Faults { rounds }));
    for layers in [1, 2] {
        for entries in [1_000, 100_000] {
            all.push(Box::new(listing::Listing {
                entries: if quick { entries / 10 } else { entries },
                layers,
                rounds: if quick { 1 } else { 3 },
            }));
        }
    }
    all.push(Box::new(names::Names { rounds }));
    for layers in [2, 20, 100, 500] {
        all.push(Box::new(lookup::Lookup { layers, rounds }));
    }
    all.push(Box::new(lookup::Deep { rounds }));
    for directories in [false, true] {
        all.push(Box::new(memory::Memory {
            directories,
            count: if quick { 500 } else { 5_000 },
            rounds: if quick { 1 } else { 3 },
        }));
    }
    for (size, files, rounds) in [
        (4 << 10, 32, 7),
        (1 << 20, 8, 7),
        (64 << 20, 1, 7),
        (1 << 30, 1, 5),
    ] {
        if quick && size > 64 << 20 {
            continue;
        }
        all.push(Box::new(first_write::FirstWrite {
            size,
            files,
            rounds: if quick { 2 } else { rounds },
        }));
    }
    all.push(Box::new(again::Again {
        files: 64,
        rounds: if quick { 2 } else { 7 },
    }));
    for apart in [false, true] {
        for threads in [2, 4, 8] {
            all.push(Box::new(threads::Threads {
                threads,
                apart,
                files: if quick { 32 } else { 128 },
                rounds: if quick { 1 } else { 5 },
            }));
        }
    }
    let (size, rounds) = if quick { (64 << 20, 2) } else { (256 << 20, 5) };
    all.extend(
        wait::all(size, rounds)
            .into_iter()
            .map(|w| Box::new(w) as Box<dyn Row>),
    );
    all
}

/// The command. Its exit status is 1 if an operation failed.
pub fn main(args: &[String]) -> i32 {
    let quick = args.iter().any(|a| a == "--quick");
    let patterns: Vec<String> = args
        .iter()
        .filter(|a| !a.starts_with("--"))
        .cloned()
        .collect();
    let mut rows = rows(quick);
    rows.retain(|r| crate::runner::selected(&r.name(), &patterns));
    if args.iter().any(|a| a == "--list") {
        for row in &rows {
            println!("{}", row.name());
        }
        return 0;
    }
    let base = std::env::var_os("ROVL_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let space = base.join(format!("rovl-bench.{}", std::process::id()));
    std::fs::create_dir_all(&space).expect("place for the bench");
    sys::private_mounts();
    env::collect_panics();
    sys::umask(0o022);
    let mut bench = Bench::new(&space, quick);
    bench.run(&rows);
    sys::umount_detach(&bench.room);
    let _ = tree::remove_all(&space);
    emit(&["end", &bench.failed.len().to_string()]);
    i32::from(!bench.failed.is_empty())
}

/// Prints a line of the output.
fn emit(fields: &[&str]) {
    let clean: Vec<String> = fields
        .iter()
        .map(|f| f.replace(['\t', '\n', '\r'], " "))
        .collect();
    println!("{}", clean.join("\t"));
    let _ = std::io::stdout().flush();
}

struct Bench {
    config: Config,
    /// Where the scratch file system is mounted.
    room: PathBuf,
    kinds: Vec<Kind>,
    announced: BTreeSet<(String, &'static str)>,
    /// Rows which are not tried again, by file system.
    failed: BTreeSet<(String, Kind)>,
}

impl Bench {
    fn new(space: &Path, quick: bool) -> Bench {
        emit(&["bench", "1"]);
        let uname = rustix::system::uname();
        emit(&["meta", "kernel", &uname.release().to_string_lossy()]);
        let cpus = std::thread::available_parallelism().map_or(0, |n| n.get());
        emit(&["meta", "cpus", &cpus.to_string()]);
        let memory = rustix::system::sysinfo();
        let megabytes = (memory.totalram * u64::from(memory.mem_unit)) >> 20;
        emit(&["meta", "memory_mb", &megabytes.to_string()]);
        emit(&["meta", "filesystem", Fs::Ext4.fstype()]);
        emit(&["meta", "quick", if quick { "yes" } else { "no" }]);
        let room = scratch(space);
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let mut kinds = vec![Kind::Bare];
        for kind in [Kind::Overlay, Kind::Rovl] {
            if known.split_whitespace().any(|w| w == kind.name()) {
                kinds.push(kind);
            } else {
                emit(&["missing", kind.name()]);
            }
        }
        let config = Config {
            fstype: String::new(),
            divisor: 1,
            module: None,
            helper: None,
            rooms: BTreeMap::from([(Fs::Ext4, room.clone())]),
        };
        Bench {
            config,
            room,
            kinds,
            announced: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }

    /// Where a lower layer is; the topmost is 0.
    fn lower(&self, layer: usize) -> PathBuf {
        self.room.join(format!("lower{layer}"))
    }

    fn run(&mut self, rows: &[Box<dyn Row>]) {
        let layers = rows.iter().map(|r| r.layers()).max().unwrap_or(0);
        for layer in 0..layers {
            let tree = Tree::new(self.lower(layer));
            sys::mkdir(&tree.root, 0o755).works();
            for row in rows.iter().filter(|r| layer < r.layers()) {
                match layer {
                    0 => row.lower(&tree),
                    _ => row.lower_at(layer, &tree),
                }
            }
        }
        let rounds = rows.iter().map(|r| r.rounds()).max().unwrap_or(0);
        for round in 0..rounds {
            for row in rows.iter().filter(|r| round < r.rounds()) {
                for kind in self.kinds.clone() {
                    self.sample(row.as_ref(), kind, round);
                }
            }
        }
    }

    fn sample(&mut self, row: &dyn Row, kind: Kind, round: usize) {
        let key = (row.name(), kind);
        if self.failed.contains(&key) {
            return;
        }
        let (name, round) = (row.name(), round.to_string());
        let place = format!("{name}.{}.{round}", kind.name());
        let taken = catch_unwind(AssertUnwindSafe(|| {
            let lowers = (0..row.layers()).map(|l| self.lower(l)).collect();
            let site = Site::new(&self.config, kind, &place, lowers);
            row.prepare(&site);
            drop_caches();
            let sample = row.work(&site);
            let notes = site.finish();
            (sample, notes)
        }));
        match taken {
            Ok((sample, notes)) => {
                for text in notes {
                    emit(&["note", &name, kind.name(), &round, &text]);
                }
                for (figure, value) in sample {
                    self.announce(row, figure);
                    let value = format!("{value:.4}");
                    emit(&["sample", &name, figure, kind.name(), &round, &value]);
                }
            }
            Err(e) => {
                // The panic of a thread tells more than the one it causes here.
                let mut all = std::mem::take(&mut *PANICS.lock().expect("panics"));
                if all.is_empty() {
                    all.push(env::panic_text(&*e));
                }
                emit(&["fail", &name, kind.name(), &round, &all.join("; ")]);
                self.failed.insert(key);
            }
        }
        let _ = tree::remove_all(&self.room.join(&place));
    }

    fn announce(&mut self, row: &dyn Row, figure: &'static str) {
        if self.announced.insert((row.name(), figure)) {
            let label = match (row.label().as_str(), figure) {
                (label, "") => label.to_string(),
                ("", figure) => figure.to_string(),
                (label, figure) => format!("{label}, {figure}"),
            };
            emit(&[
                "row",
                &row.name(),
                figure,
                row.unit().name(),
                &row.heading(),
                &label,
                row.idle().as_deref().unwrap_or(""),
            ]);
        }
    }
}

/// The file system of all layers: ext4, which has nothing to clone with.
fn scratch(space: &Path) -> PathBuf {
    let room = space.join("ext4");
    sys::mkdir(&room, 0o755).works();
    let devices = std::env::var("ROVL_SCRATCH").unwrap_or_default();
    let device = match devices.split_whitespace().next() {
        Some(device) => PathBuf::from(device),
        None => {
            let image = space.join("ext4.img");
            let file = std::fs::File::create(&image).expect("image");
            file.set_len(4 << 30).expect("image size");
            image
        }
    };
    env::make_fs(Fs::Ext4, &device);
    // No thread that initialises inode tables while others are measured.
    env::mount_device(Fs::Ext4, &device, &room, "noinit_itable");
    room
}

/// Writes back all that is dirty and forgets all that is clean.
fn drop_caches() {
    rustix::fs::sync();
    sys::write_file("/proc/sys/vm/drop_caches", "3").works();
}

/// How long each of `count` calls takes, in microseconds. What is called gets
/// the number of the call.
fn each(count: usize, mut call: impl FnMut(usize)) -> f64 {
    let start = Instant::now();
    for i in 0..count {
        call(i);
    }
    start.elapsed().as_secs_f64() * 1e6 / count as f64
}

/// Makes empty files in a directory of a lower layer.
fn empty_files(lower: &Tree, dir: &str, names: impl Iterator<Item = String>) {
    lower.dir(dir);
    let dir = sys::open(lower.at(dir), OFlags::PATH | OFlags::DIRECTORY).works();
    for name in names {
        at::make_file(&dir, &name).works();
    }
}

/// A size as a person writes it.
fn in_words(size: u64) -> String {
    match size {
        s if s >= 1 << 30 => format!("{} GiB", s >> 30),
        s if s >= 1 << 20 => format!("{} MiB", s >> 20),
        s => format!("{} KiB", s >> 10),
    }
}

/// Writes a file of this size, none of it a hole, unless it is there.
fn lower_file(lower: &Tree, path: &str, size: u64) {
    const PIECE: u64 = 1 << 20;
    if lower.at(path).exists() {
        return;
    }
    lower.file(path, b"");
    let fd = sys::open(lower.at(path), OFlags::WRONLY).works();
    for piece in 0..size.div_ceil(PIECE) {
        let len = (size - piece * PIECE).min(PIECE) as usize;
        sys::write(&fd, tree::pattern(len, piece)).works();
    }
}
