// SPDX-License-Identifier: GPL-2.0

//! `mount.rovl`, which mount(8) runs for `mount -t rovl` when it is installed
//! as `/sbin/mount.rovl`.
//!
//! The kernel takes at most 255 bytes as the value of one option, so mount(8)
//! by itself cannot give a long list of layers. This gives them one by one. It
//! also prints what the kernel says of a mount that it refuses. As `/sbin/mount.overlay`
//! it does so for `mount -t overlay`.
//!
//! Without a SPEC it stands in for fuse-overlayfs, as `mount_program` of
//! containers/storage (podman, buildah).

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};

mod command;
mod mount;
mod options;
mod remount;
mod whiteouts;

#[path = "../../../format/lowerdir.rs"]
mod lowerdir;

use command::Command;
use options::{Plan, Setting};
use whiteouts::Part;

/// Exit codes of mount(8).
const USAGE: u8 = 1;
const FAILED: u8 = 32;

fn main() -> ExitCode {
    let arguments = std::env::args_os().collect();
    let outcome = match Command::parse(arguments) {
        Ok(command) => run(&command).map_err(|said| (FAILED, said)),
        Err(said) => Err((USAGE, said)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, said)) => {
            say(&said);
            ExitCode::from(code)
        }
    }
}

/// Prints each line with the name of the program before it.
fn say(text: &[u8]) {
    let mut all = Vec::new();
    for line in text.split(|c| *c == b'\n').filter(|line| !line.is_empty()) {
        all.extend_from_slice(b"mount.rovl: ");
        all.extend_from_slice(line);
        all.push(b'\n');
    }
    // There is no one to tell if this fails.
    let _ = std::io::stderr().write_all(&all);
}

fn run(command: &Command) -> Result<(), Vec<u8>> {
    if let Some(answer) = command.answer {
        return writeln!(std::io::stdout(), "{answer}").map_err(|e| e.to_string().into_bytes());
    }
    if let Some(namespace) = &command.namespace {
        enter(namespace)?;
    }
    let mut plan = Plan::new(&command.options)?;
    if command.fake {
        return Ok(());
    }
    if plan.remount {
        return remount::remount(command, &plan);
    }
    let held = match command.as_program {
        true => stand_in(&mut plan)?,
        false => Vec::new(),
    };
    mount::mount(command, &plan, &held)?;
    if command.verbose {
        let mut text = b"mounted on ".to_vec();
        text.extend_from_slice(command.target.as_bytes());
        say(&text);
    }
    Ok(())
}

/// What fuse-overlayfs does without being asked. Returns what is to be mounted where a path alone
/// would not say it: one for each setting.
fn stand_in(plan: &mut Plan) -> Result<Vec<Option<OwnedFd>>, Vec<u8>> {
    // Where trusted.* cannot be read, or written, marks are kept in user.*.
    if in_user_namespace() && !plan.has_flag(b"userxattr") {
        plan.settings.push(Setting::Flag(b"userxattr".to_vec()));
    }
    let names = match plan.has_flag(b"userxattr") {
        true => whiteouts::Names::USER,
        false => whiteouts::Names::TRUSTED,
    };
    let convert = |setting: &Setting| match setting {
        Setting::Directory(key, _, path) => {
            let part = match &key[..] {
                b"lowerdir+" => Part::Lower,
                b"upperdir" => Part::Upper,
                _ => return Ok(None),
            };
            whiteouts::convert(Path::new(OsStr::from_bytes(path)), part, &names)
        }
        _ => Ok(None),
    };
    plan.settings.iter().map(convert).collect()
}

/// Whether this is not the first user namespace, which has a number that is known
/// (`PROC_USER_INIT_INO`).
fn in_user_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/user")
        .is_ok_and(|name| name.as_os_str() != "user:[4026531837]")
}

/// `-N`: the mount namespace in which to mount.
fn enter(namespace: &OsStr) -> Result<(), Vec<u8>> {
    let all_digits = namespace.as_bytes().iter().all(u8::is_ascii_digit);
    let path = if all_digits {
        let mut path = b"/proc/".to_vec();
        path.extend_from_slice(namespace.as_bytes());
        path.extend_from_slice(b"/ns/mnt");
        path
    } else {
        namespace.as_bytes().to_vec()
    };
    let failed = |e: rustix::io::Errno| {
        let mut text = b"cannot enter the namespace ".to_vec();
        text.extend_from_slice(namespace.as_bytes());
        text.extend_from_slice(format!(": {e}").as_bytes());
        text
    };
    let fd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Mount);
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&fd), kind).map_err(failed)
}
