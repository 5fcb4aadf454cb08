// SPDX-License-Identifier: GPL-2.0

//! The system calls.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{
    fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount_change, mount_remount, move_mount, FsMountFlags, FsOpenFlags, MoveMountFlags,
};

use crate::command::Command;
use crate::options::{Plan, Setting, LONGEST};
use crate::say;

/// What the kernel has said since it was last asked, without its marks.
fn log(context: &OwnedFd) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut buffer = vec![0; 16384];
    while let Ok(len @ 1..) = rustix::io::read(context, &mut buffer[..]) {
        let line = buffer[..len].trim_ascii_end();
        // "e rovl: text": the level, and who says it.
        let line = match line {
            [b'e' | b'w' | b'i', b' ', rest @ ..] => rest,
            line => line,
        };
        let names: [&[u8]; 2] = [b"rovl: ", b"overlay: "];
        let bare = names.iter().find_map(|name| line.strip_prefix(*name));
        lines.push(bare.unwrap_or(line).to_vec());
    }
    lines
}

/// A failed step, in the kernel's words, or else in ours.
fn failed(context: &OwnedFd, step: &[u8], e: Errno) -> Vec<u8> {
    let said = log(context);
    if !said.is_empty() {
        return said.join(&b'\n');
    }
    let mut text = step.to_vec();
    text.extend_from_slice(format!(": {e}").as_bytes());
    text
}

fn configure(context: &OwnedFd, setting: &Setting, held: Option<&OwnedFd>) -> Result<(), Vec<u8>> {
    let (key, result) = match (setting, held) {
        (Setting::Flag(key), _) => (key, fsconfig_set_flag(context.as_fd(), &key[..])),
        (Setting::String(key, value), _) => (
            key,
            fsconfig_set_string(context.as_fd(), &key[..], &value[..]),
        ),
        (Setting::Directory(key, ..), Some(held)) => (
            key,
            fsconfig_set_fd(context.as_fd(), &key[..], held.as_fd()),
        ),
        (Setting::Directory(key, value, _), None) if value.len() <= LONGEST => (
            key,
            fsconfig_set_string(context.as_fd(), &key[..], &value[..]),
        ),
        (Setting::Directory(key, _, path), None) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&path[..], flags, Mode::empty()).map_err(|e| {
                let mut text = [&key[..], b" '", path].concat();
                text.extend_from_slice(format!("': {e}").as_bytes());
                text
            })?;
            (key, fsconfig_set_fd(context.as_fd(), &key[..], fd.as_fd()))
        }
    };
    result.map_err(|e| failed(context, &[b"option ", &key[..]].concat(), e))
}

/// Makes the mount and attaches it. `held` has for each setting the directory, if it is open.
pub fn mount(command: &Command, plan: &Plan, held: &[Option<OwnedFd>]) -> Result<(), Vec<u8>> {
    let context = fsopen(&command.fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| {
        let why = match e {
            Errno::NODEV => "the kernel does not know it (is the module loaded?)".into(),
            e => e.to_string(),
        };
        format!("filesystem type {:?}: {why}", command.fstype).into_bytes()
    })?;
    fsconfig_set_string(context.as_fd(), "source", &command.source)
        .map_err(|e| failed(&context, b"source", e))?;
    // What the kernel's own overlay is given at once, it shows so.
    let as_list = command.fstype == "overlay" && !command.as_program;
    let mut list = plan.list.as_ref().filter(|_| as_list);
    let is_listed = list.is_some();
    for (i, setting) in plan.settings.iter().enumerate() {
        let is_lower = matches!(setting.key(), b"lowerdir" | b"lowerdir+");
        if is_listed && is_lower {
            if let Some(list) = list.take() {
                let set = fsconfig_set_string(context.as_fd(), "lowerdir", &list[..]);
                set.map_err(|e| failed(&context, b"option lowerdir", e))?;
            }
            continue;
        }
        let held = held.get(i).and_then(Option::as_ref);
        match configure(&context, setting, held) {
            Err(said) if command.as_program => {
                say(&said);
                let key = setting.key();
                if !setting.is_harmless() {
                    return Err([b"option '", key, b"' cannot be left out"].concat());
                }
                say(&[b"option '", key, b"' is left out"].concat());
            }
            Err(said) if command.sloppy && is_unknown(setting, &said) => say(&said),
            done => done?,
        }
    }
    fsconfig_create(context.as_fd()).map_err(|e| failed(&context, b"mount", e))?;
    let mnt = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        plan.attributes,
    )
    .map_err(|e| failed(&context, b"mount", e))?;
    // Warnings.
    for line in log(&context) {
        say(&line);
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(mnt.as_fd(), "", CWD, &command.target, flags)
        .map_err(|e| at_target(&command.target, e))?;
    for kind in &plan.propagation {
        mount_change(&command.target, *kind).map_err(|e| at_target(&command.target, e))?;
    }
    Ok(())
}

/// Whether the kernel has refused an option because it does not know it.
fn is_unknown(setting: &Setting, said: &[u8]) -> bool {
    let unknown = b"Unknown parameter";
    !matches!(setting, Setting::Directory(..)) && said.windows(unknown.len()).any(|w| w == unknown)
}

fn at_target(target: &OsStr, e: Errno) -> Vec<u8> {
    let mut text = b"mount point ".to_vec();
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(format!(": {e}").as_bytes());
    text
}

/// Changes the flags of a mount and its superblock. The layers stay.
pub fn remount(command: &Command, plan: &Plan) -> Result<(), Vec<u8>> {
    mount_remount(&command.target, plan.flags, "").map_err(|e| at_target(&command.target, e))
}
