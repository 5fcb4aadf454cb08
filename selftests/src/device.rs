// SPDX-License-Identifier: GPL-2.0

//! Block devices of a test's own: loop devices over files, and device-mapper
//! devices over those. They go when they are dropped, or when their last user
//! does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::env::T;
use crate::sys;

/// A loop device over a file.
pub struct Loop {
    pub path: PathBuf,
}

impl Loop {
    #[track_caller]
    pub fn new(image: &Path) -> Loop {
        let said = sys::run(
            "losetup",
            &["--find".as_ref(), "--show".as_ref(), image.as_os_str()],
        );
        Loop {
            path: PathBuf::from(said.trim()),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = quietly(Command::new("losetup").arg("--detach").arg(&self.path));
    }
}

/// A device-mapper device.
pub struct Mapped {
    name: String,
    pub path: PathBuf,
}

impl Mapped {
    /// Makes a device of this table; skips the test if the kernel does not have
    /// the target in its first line.
    #[track_caller]
    pub fn new(t: &T, table: &str) -> Mapped {
        t.need_program("dmsetup");
        let name = format!("rovl-{}-{}", std::process::id(), t.fresh("dm"));
        if let Err(said) = dmsetup(&["create", &name, "--table", table]) {
            let target = table.split_whitespace().nth(2).unwrap_or("");
            let targets = dmsetup(&["targets"]).unwrap_or_default();
            if !targets.lines().any(|l| l.split(' ').next() == Some(target)) {
                t.skip(&format!("this kernel has no dm-{target}"));
            }
            panic!("dmsetup create {table:?}: {said}");
        }
        // The kernel makes this node; the one in /dev/mapper takes udev.
        let node = dmsetup(&["info", "-c", "--noheadings", "-o", "blkdevname", &name]);
        let node = node.unwrap_or_else(|e| panic!("dmsetup info {name}: {e}"));
        Mapped {
            path: Path::new("/dev").join(node.trim()),
            name,
        }
    }

    /// Puts another table in place of the one there is.
    #[track_caller]
    pub fn change(&self, table: &str) {
        self.must(&["suspend", "--nolockfs", "--noflush", &self.name]);
        self.must(&["load", &self.name, "--table", table]);
        self.must(&["resume", &self.name]);
    }

    #[track_caller]
    pub fn message(&self, text: &str) {
        let mut args = vec!["message", &self.name, "0"];
        args.extend(text.split(' '));
        self.must(&args);
    }

    #[track_caller]
    fn must(&self, args: &[&str]) {
        if let Err(said) = dmsetup(args) {
            panic!("dmsetup {args:?}: {said}");
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = dmsetup(&["remove", "--deferred", &self.name]);
    }
}

/// The size of a file or device in sectors of 512 bytes.
pub fn sectors(path: &Path) -> u64 {
    use std::io::Seek;
    let mut file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let end = file.seek(std::io::SeekFrom::End(0));
    end.unwrap_or_else(|e| panic!("{path:?}: {e}")) / 512
}

fn dmsetup(args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("dmsetup");
    // There may be no udev to wait for.
    quietly(command.env("DM_DISABLE_UDEV", "1").args(args))
}

/// Runs a program: what it printed, or what it said if it failed.
fn quietly(command: &mut Command) -> Result<String, String> {
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if out.status.success() {
        Ok(text(&out.stdout))
    } else {
        Err(text(&out.stderr))
    }
}
