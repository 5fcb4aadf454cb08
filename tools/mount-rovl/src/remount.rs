// SPDX-License-Identifier: GPL-2.0

//! `-o remount`: the flags change, and the options of rovl stay as they are.

use std::os::unix::ffi::OsStrExt;

use crate::command::Command;
use crate::options::{Plan, Setting};
use crate::{mount, say};

/// Changes the flags. A change of the layers is refused, as the kernel does it, and of
/// other options it is said that they are passed over. mount(8) gives those that the
/// mount has once more; of them nothing is said.
pub fn remount(command: &Command, plan: &Plan) -> Result<(), Vec<u8>> {
    let unused = unused(&plan.settings, &current(command))?;
    mount::remount(command, plan)?;
    if !unused.is_empty() {
        let mut text = b"a remount changes no option of rovl; passed over: ".to_vec();
        text.extend_from_slice(&unused.join(&b", "[..]));
        say(&text);
    }
    Ok(())
}

/// What is asked for and not there already, as text; or why that is refused.
fn unused(asked: &[Setting], has: &[Setting]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    // These are flags of the superblock.
    let flags = [
        "ro",
        "rw",
        "sync",
        "async",
        "dirsync",
        "lazytime",
        "nolazytime",
    ];
    let is_flag = |key: &[u8]| flags.iter().any(|flag| flag.as_bytes() == key);
    let mut all = Vec::new();
    for setting in asked.iter().filter(|setting| !has.contains(setting)) {
        match setting {
            Setting::Flag(key) if is_flag(key) => {}
            Setting::Flag(key) => all.push(key.clone()),
            Setting::String(key, value) => all.push([key, &b"="[..], value].concat()),
            Setting::Directory(key, _, path) => {
                let text = [&b"a remount cannot change "[..], key, b" to '", path, b"'"];
                return Err(text.concat());
            }
        }
    }
    Ok(all)
}

/// The options that the mount has; none if that cannot be found out.
fn current(command: &Command) -> Vec<Setting> {
    let target = std::fs::canonicalize(&command.target);
    let mounts = std::fs::read("/proc/self/mountinfo");
    let (Ok(target), Ok(mounts)) = (target, mounts) else {
        return Vec::new();
    };
    let options = options_of(&mounts, target.as_os_str().as_bytes());
    Plan::new(&options).map_or(Vec::new(), |plan| plan.settings)
}

/// The options of the superblock that is mounted at TARGET; of several, of the last.
fn options_of(mounts: &[u8], target: &[u8]) -> Vec<u8> {
    for line in mounts.split(|c| *c == b'\n').rev() {
        let mut words = line.split(|c| *c == b' ');
        if words.nth(4).map(plain).as_deref() == Some(target) {
            return words.last().map(plain).unwrap_or_default();
        }
    }
    Vec::new()
}

/// A word of mountinfo, which has some characters as a backslash and three digits.
fn plain(word: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let (byte, next) = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', next @ ..] => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), next)
            }
            _ => (*first, after),
        };
        all.push(byte);
        rest = next;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(asked: &str, has: &str) -> Vec<String> {
        let settings = |text: &str| Plan::new(text.as_bytes()).unwrap().settings;
        unused(&settings(asked), &settings(has))
            .unwrap_or_else(|refused| vec![refused])
            .into_iter()
            .map(|text| String::from_utf8(text).unwrap())
            .collect()
    }

    #[test]
    fn what_it_has_is_not_said() {
        let has = "rw,lowerdir+=/a,lowerdir+=/b,upperdir=/u,workdir=/w,xino=on";
        assert!(said(has, has).is_empty());
        assert!(said("remount,ro,sync,noatime", has).is_empty());
        assert!(said("lowerdir=/a:/b,upperdir=/u", has).is_empty());
    }

    #[test]
    fn what_it_has_not_is_said() {
        let has = "rw,lowerdir=/a:/b,index=off";
        assert_eq!(
            said("lowerdir=/a:/c,ro", has),
            ["a remount cannot change lowerdir+ to '/c'"]
        );
        assert_eq!(
            said("index=on,volatile,errors=remount-ro", has),
            ["index=on", "volatile", "errors=remount-ro"]
        );
    }

    #[test]
    fn the_last_mount_there() {
        let mounts = b"30 1 0:9 / / rw - ext4 /dev/vda rw\n\
            31 30 0:40 / /m\\040n rw shared:1 - rovl none rw,lowerdir=/a\n\
            32 30 0:41 / /m\\040n rw - rovl none rw,lowerdir=/b\\040c\n";
        assert_eq!(options_of(mounts, b"/m n"), b"rw,lowerdir=/b c");
        assert_eq!(options_of(mounts, b"/m"), b"");
    }

    #[test]
    fn escapes() {
        assert_eq!(plain(b"a\\040\\134b\\9\\04"), b"a \\b\\9\\04");
    }
}
