// SPDX-License-Identifier: GPL-2.0

//! Runs tests one by one, each in a child process with its own mount
//! namespace, and prints KTAP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::env::{self, Config, Fs, Log, Skip, Variant, PANICS, T};
use crate::{sys, tree};

/// A test as its suite names it.
#[derive(Clone)]
pub struct Test {
    suite: &'static str,
    name: &'static str,
    run: fn(&T),
    needs: &'static [Fs],
    matrix: bool,
    uppers: &'static [Fs],
    not_on: &'static [Fs],
    patience: u64,
    only_by_name: bool,
}

impl Test {
    /// A suite is a module in `suites`, with those inside it.
    pub fn new(module: &'static str, name: &'static str, run: fn(&T)) -> Test {
        let inside = module.split_once("suites::").map_or(module, |(_, m)| m);
        Test {
            suite: inside.split("::").next().unwrap_or(inside),
            name,
            run,
            needs: &[],
            matrix: false,
            uppers: &[],
            not_on: &[],
            patience: 1,
            only_by_name: false,
        }
    }

    /// Not run unless it is asked for by name.
    pub fn only_by_name(mut self) -> Test {
        self.only_by_name = true;
        self
    }

    /// File systems to be set up besides those of the variant.
    pub fn needs(mut self, needs: &'static [Fs]) -> Test {
        self.needs = needs;
        self
    }

    /// Repeated on all combinations of file systems.
    pub fn matrix(mut self) -> Test {
        self.matrix = true;
        self
    }

    /// Repeated with these as the upper file system, and the lower one unless
    /// the test makes that itself.
    pub fn uppers(mut self, uppers: &'static [Fs]) -> Test {
        self.uppers = uppers;
        self
    }

    /// Makes no sense with these file systems, for a reason said at the test.
    pub fn not_on(mut self, not_on: &'static [Fs]) -> Test {
        self.not_on = not_on;
        self
    }

    fn variants(&self) -> impl Iterator<Item = Variant> + '_ {
        let matrix = Variant::MATRIX.into_iter().filter(|_| self.matrix);
        let uppers = self.uppers.iter().map(|fs| Variant::on(*fs));
        let more = uppers.filter(|v| !(self.matrix && Variant::MATRIX.contains(v)));
        matrix
            .chain(more)
            .filter(|v| !self.not_on.contains(&v.upper) && !self.not_on.contains(&v.lower))
    }

    /// May take this many times the usual limit.
    pub fn long(mut self, times: u64) -> Test {
        self.patience = times;
        self
    }
}

/// A test on one combination of file systems.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    test: Test,
    variant: Variant,
}

impl Case {
    /// Whether it is one of those asked for.
    pub fn wanted(&self, patterns: &[String]) -> bool {
        selected(&self.name, patterns) && !(self.test.only_by_name && patterns.is_empty())
    }

    fn filesystems(&self) -> Vec<Fs> {
        let mut all = vec![self.variant.upper, self.variant.lower];
        all.extend(self.test.needs);
        all
    }
}

/// What is done next in a run.
pub enum Work {
    Case(Case),
    /// Unmounts the scratch file systems and looks at each; the last thing of a run.
    CheckLayers,
}

/// All cases, those of the matrix behind the others, by file system;
/// `ROVL_MATRIX=no` leaves the matrix out.
pub fn cases(tests: &[Test]) -> Vec<Case> {
    let case = |test: &Test, variant: Variant| Case {
        name: format!("{}.{}{}", test.suite, test.name, variant.tag()),
        test: test.clone(),
        variant,
    };
    let mut all: Vec<Case> = tests.iter().map(|t| case(t, Variant::DEFAULT)).collect();
    if std::env::var_os("ROVL_MATRIX").is_some_and(|v| v == "no") {
        return all;
    }
    let mut repeated: Vec<Case> = tests
        .iter()
        .flat_map(|t| t.variants().map(move |v| case(t, v)))
        .collect();
    repeated.sort_by_key(|c| (c.variant.upper, c.variant.lower));
    all.extend(repeated);
    all
}

/// Whether `name` begins with or matches one of the patterns.
pub fn selected(name: &str, patterns: &[String]) -> bool {
    patterns.is_empty()
        || patterns
            .iter()
            .any(|p| name.starts_with(p.as_str()) || glob(p.as_bytes(), name.as_bytes()))
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|i| glob(rest, &name[i..])),
        (Some((b'?', p)), Some((_, n))) => glob(p, n),
        (Some((a, p)), Some((b, n))) if a == b => glob(p, n),
        _ => false,
    }
}

enum Outcome {
    Pass,
    Skip(String),
    Fail(String),
    Timeout(u64),
}

pub struct Runner {
    config: Config,
    space: PathBuf,
    devices: Vec<PathBuf>,
    on_device: BTreeMap<Fs, PathBuf>,
    limit: u64,
    verbose: bool,
    counts: [usize; 3],
    number: usize,
}

/// What the kernel prints when something is badly wrong.
const SPLATS: [&str; 15] = [
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops",
    "KASAN",
    "UBSAN",
    "general protection",
    "unable to handle",
    "possible circular locking",
    "possible recursive locking",
    "inconsistent lock state",
    "suspicious RCU usage",
    "blocked for more than",
    "rust_kernel: panicked",
    "unreferenced object",
];

impl Runner {
    pub fn new(space: PathBuf) -> Runner {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let number = |name: &str, default: u64| match var(name) {
            None => default,
            Some(v) => v
                .parse()
                .unwrap_or_else(|_| panic!("{name}={v} is no number")),
        };
        Runner {
            config: Config {
                fstype: var("ROVL_FSTYPE").unwrap_or_else(|| "rovl".into()),
                divisor: number("ROVL_DIVISOR", 1).max(1) as usize,
                module: var("ROVL_MODULE").map(PathBuf::from),
                helper: var("ROVL_HELPER").map(PathBuf::from),
                rooms: BTreeMap::new(),
            },
            space,
            devices: var("ROVL_SCRATCH")
                .unwrap_or_default()
                .split_whitespace()
                .map(PathBuf::from)
                .collect(),
            on_device: BTreeMap::new(),
            limit: number("ROVL_TIMEOUT", 60),
            verbose: var("ROVL_VERBOSE").is_some(),
            counts: [0; 3],
            number: 0,
        }
    }

    /// Without a plan it is not known before how many there will be.
    pub fn run(&mut self, plan: Option<usize>, work: impl Iterator<Item = Work>) -> i32 {
        sys::private_mounts();
        env::collect_panics();
        println!("KTAP version 1");
        if let Some(count) = plan {
            println!("1..{count}");
        }
        for next in work {
            match next {
                Work::Case(case) => self.run_case(&case),
                Work::CheckLayers => {
                    let outcome = self.check_layers();
                    self.report(LAYERS_CLEAN, outcome, &[]);
                }
            }
        }
        self.unmount_all();
        if plan.is_none() {
            println!("1..{}", self.number);
        }
        let [pass, fail, skip] = self.counts;
        println!("# Totals: pass:{pass} fail:{fail} xfail:0 xpass:0 skip:{skip} error:0");
        i32::from(fail > 0)
    }

    fn run_case(&mut self, case: &Case) {
        let started = Instant::now();
        for fs in case.filesystems().into_iter().chain([Fs::Ext4]) {
            self.set_up(fs);
        }
        let log = Log::from_now();
        let (outcome, mut notes) = self.run_child(case);
        let lines = log.take();
        let outcome = splat(&lines).map_or(outcome, |line| {
            Outcome::Fail(format!("the kernel complains: {line}"))
        });
        if matches!(outcome, Outcome::Fail(_) | Outcome::Timeout(_)) {
            notes.extend(self.describe(case, &lines));
        }
        if self.verbose {
            notes.push(format!("{} ms", started.elapsed().as_millis()));
        }
        self.clean_up(case);
        self.report(&case.name, outcome, &notes);
    }

    fn report(&mut self, name: &str, outcome: Outcome, notes: &[String]) {
        self.number += 1;
        let n = self.number;
        for line in notes.iter().flat_map(|n| n.lines()) {
            println!("# {line}");
        }
        match outcome {
            Outcome::Pass => {
                self.counts[0] += 1;
                println!("ok {n} {name}");
            }
            Outcome::Skip(why) => {
                self.counts[2] += 1;
                println!("ok {n} {name} # SKIP {why}");
            }
            Outcome::Fail(why) => {
                self.counts[1] += 1;
                for line in why.lines() {
                    println!("# {name}: {line}");
                }
                println!("not ok {n} {name} # {}", why.lines().next().unwrap_or(""));
            }
            Outcome::Timeout(seconds) => {
                self.counts[1] += 1;
                println!("not ok {n} {name} # TIMEOUT {seconds} seconds");
            }
        }
        let _ = std::io::stdout().flush();
    }

    /// Makes and mounts a scratch file system if it is not there yet.
    fn set_up(&mut self, fs: Fs) {
        if fs.is_image() || self.config.rooms.contains_key(&fs) {
            return;
        }
        if fs != Fs::Ext4 {
            self.set_up(Fs::Ext4);
        }
        let at = self.space.join(fs.name());
        std::fs::create_dir(&at).expect("room");
        if fs == Fs::Tmpfs {
            let flags = rustix::mount::MountFlags::empty();
            sys::mount("none", &at, "tmpfs", flags, b"size=512m").expect("tmpfs");
        } else {
            let device = self.device(fs);
            env::make_fs(fs, &device);
            env::mount_device(fs, &device, &at, "");
            self.on_device.insert(fs, device);
        }
        self.config.rooms.insert(fs, at);
    }

    /// A scratch device if there is one left, or a sparse image.
    fn device(&mut self, fs: Fs) -> PathBuf {
        if !self.devices.is_empty() {
            return self.devices.remove(0);
        }
        let place = self.config.rooms.get(&Fs::Ext4).unwrap_or(&self.space);
        let image = place.join(format!("{}.img", fs.name()));
        let file = std::fs::File::create(&image).expect("image");
        let size: u64 = if fs == Fs::Ext4 { 4 << 30 } else { 512 << 20 };
        file.set_len(size).expect("image size");
        image
    }

    fn run_child(&self, case: &Case) -> (Outcome, Vec<String>) {
        let (mut r, w) = env::pipe();
        let pid = env::fork();
        if pid == 0 {
            drop(r);
            let text = self.in_child(case);
            let _ = (&w).write_all(text.as_bytes());
            let _ = (&w).write_all(b"\0");
            env::exit_now(0);
        }
        drop(w);
        let seconds = self.limit * case.test.patience;
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let mut text = Vec::new();
        let mut buf = [0; 4096];
        let mut late = false;
        while text.last() != Some(&0) {
            let left = deadline.saturating_duration_since(Instant::now());
            let time = rustix::event::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut fds = [rustix::event::PollFd::from_borrowed_fd(
                r.as_fd(),
                rustix::event::PollFlags::IN,
            )];
            match rustix::event::poll(&mut fds, Some(&time)) {
                Ok(0) => {
                    late = true;
                    break;
                }
                Ok(_) => match r.read(&mut buf) {
                    Ok(n) if n > 0 => text.extend_from_slice(&buf[..n]),
                    _ => break,
                },
                Err(_) => {}
            }
        }
        let mut notes = Vec::new();
        if late {
            notes.push(format!("where it is stuck:\n{}", stack_of(pid)));
        }
        // SAFETY: the child made itself the leader of this process group.
        unsafe { libc::kill(-pid, libc::SIGKILL) };
        let status = reap(pid);
        if status.is_none() {
            notes.push(format!(
                "process {pid} cannot be killed:\n{}",
                stack_of(pid)
            ));
        }
        if late {
            return (Outcome::Timeout(seconds), notes);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let text = text.trim_end_matches('\0');
        let outcome = match text.split_at_checked(1) {
            Some(("P", _)) => Outcome::Pass,
            Some(("S", why)) => Outcome::Skip(why.to_string()),
            Some((_, why)) => Outcome::Fail(why.to_string()),
            None => Outcome::Fail(format!("the test died, status {status:?}")),
        };
        (outcome, notes)
    }

    fn in_child(&self, case: &Case) -> String {
        // SAFETY: makes this process a session leader; no memory involved.
        unsafe { libc::setsid() };
        sys::private_mounts();
        sys::umask(0o022);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let t = T::new(self.config.clone(), case.name.clone(), case.variant);
            std::fs::create_dir(&t.dir).expect("test directory");
            (case.test.run)(&t);
            t.finish();
        }));
        match result {
            Ok(()) => "P".into(),
            Err(e) => match e.downcast::<Skip>() {
                Ok(s) => format!("S{}", s.0),
                Err(_) => {
                    let panics = PANICS.lock().map(|p| p.join("\n")).unwrap_or_default();
                    format!("F{panics}")
                }
            },
        }
    }

    /// For a failed test: the kernel's messages, and its upper layers.
    fn describe(&self, case: &Case, log: &[String]) -> Vec<String> {
        let mut out: Vec<String> = log
            .iter()
            .rev()
            .take(25)
            .rev()
            .map(|l| format!("kernel: {l}"))
            .collect();
        let Some(room) = self.config.rooms.get(&case.variant.upper) else {
            return out;
        };
        for stack in tree::sorted_or_none(&room.join(&case.name)) {
            for part in ["upper", "work"] {
                let root = room.join(&case.name).join(&stack).join(part);
                listing(&root, &root, &mut out, 25);
            }
        }
        out
    }

    fn clean_up(&self, case: &Case) {
        for room in self.config.rooms.values() {
            let at = room.join(&case.name);
            // The mounts of the child go when its last process is gone.
            for _ in 0..1000 {
                if !at.exists() || tree::remove_all(&at).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn unmount_all(&mut self) -> Vec<String> {
        let mut failed = Vec::new();
        let mut rooms: Vec<_> = std::mem::take(&mut self.config.rooms).into_iter().collect();
        // The images of the others are on the first one.
        rooms.reverse();
        for (fs, at) in rooms {
            if let Err(e) = sys::umount(&at) {
                failed.push(format!("{}: {e:?}", fs.name()));
                sys::umount_detach(&at);
            }
        }
        failed
    }

    /// The file systems below survived all tests undamaged.
    fn check_layers(&mut self) -> Outcome {
        let base = self.on_device.remove(&Fs::Ext4);
        let mut failed = Vec::new();
        for (fs, device) in std::mem::take(&mut self.on_device) {
            if let Some(at) = self.config.rooms.remove(&fs) {
                failed.extend(sys::umount(&at).err().map(|e| format!("{e:?}")));
            }
            failed.extend(check(fs, &device));
        }
        failed.extend(self.unmount_all());
        failed.extend(base.and_then(|device| check(Fs::Ext4, &device)));
        if failed.is_empty() {
            Outcome::Pass
        } else {
            Outcome::Fail(failed.join("\n"))
        }
    }
}

/// The name of the last case of a run.
pub const LAYERS_CLEAN: &str = "unmount.fsck_of_all_scratch";

fn check(fs: Fs, device: &Path) -> Option<String> {
    catch_unwind(|| env::check_fs(fs, device))
        .err()
        .map(|e| env::panic_text(&*e))
}

fn splat(lines: &[String]) -> Option<&String> {
    lines.iter().find(|l| SPLATS.iter().any(|s| l.contains(s)))
}

fn reap(pid: i32) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = env::try_wait(pid) {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    None
}

fn stack_of(pid: i32) -> String {
    let mut out = String::new();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let stack = std::fs::read_to_string(task.path().join("stack")).unwrap_or_default();
        out.push_str(&stack);
    }
    out
}

fn listing(root: &Path, at: &Path, out: &mut Vec<String>, max: usize) {
    for name in tree::sorted_or_none(at) {
        if out.len() >= max {
            return;
        }
        let path = at.join(&name);
        let Ok(st) = sys::lstat(&path) else { continue };
        let xattrs = sys::list_xattr(&path).unwrap_or_default();
        out.push(format!(
            "{}: {:?} {:o} {}:{} size {} rdev {} {:?}",
            root.file_name().unwrap_or_default().to_string_lossy(),
            path.strip_prefix(root).unwrap_or(&path),
            st.st_mode,
            st.st_uid,
            st.st_gid,
            st.st_size,
            st.st_rdev,
            xattrs,
        ));
        if sys::kind_of(&st) == sys::FileType::Directory {
            listing(root, &path, out, max);
        }
    }
}
