// SPDX-License-Identifier: GPL-2.0

//! The command line, as mount(8) makes it (`EXTERNAL HELPERS` in its manual), or as
//! containers/storage does for what is called `mount_program` in storage.conf(5): options and a
//! directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const USAGE: &str =
    "usage: mount.rovl [SPEC] DIRECTORY [-sfnv] [-o OPTIONS] [-t TYPE] [-N NAMESPACE]";

const VERSION: &str = concat!("mount.rovl ", env!("CARGO_PKG_VERSION"));

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// What the mount is shown to be of; any text.
    pub source: OsString,
    pub target: OsString,
    pub options: Vec<u8>,
    /// The filesystem type.
    pub fstype: OsString,
    pub namespace: Option<OsString>,
    /// In place of fuse-overlayfs, which has no SPEC: what is not known to the kernel is said and
    /// left out, and what it knows by other means is done here.
    pub as_program: bool,
    /// Ignore options that the kernel does not know.
    pub sloppy: bool,
    /// Do all but mount.
    pub fake: bool,
    pub verbose: bool,
    /// Nothing but to say this.
    pub answer: Option<&'static str>,
}

impl Command {
    /// `arguments` begins with the name by which the program was called: `mount.TYPE` says what
    /// is mounted.
    pub fn parse(arguments: Vec<OsString>) -> Result<Self, Vec<u8>> {
        let usage = || USAGE.as_bytes().to_vec();
        let mut rest = arguments.into_iter();
        let called = rest.next().unwrap_or_default();
        let mut command = Command {
            fstype: match Path::new(&called).file_name() {
                Some(name) if name == "mount.overlay" => "overlay".into(),
                _ => "rovl".into(),
            },
            ..Command::default()
        };
        let mut places = Vec::new();
        while let Some(argument) = rest.next() {
            let Some(letters) = argument.as_bytes().strip_prefix(b"-") else {
                places.push(argument);
                continue;
            };
            command.answer = match letters {
                b"" => return Err(usage()),
                // podman shows what its mount_program says to this.
                b"-version" | b"V" => Some(VERSION),
                b"-help" | b"h" => Some(USAGE),
                _ => None,
            };
            if command.answer.is_some() {
                return Ok(command);
            }
            for (i, letter) in letters.iter().enumerate() {
                match letter {
                    b's' => command.sloppy = true,
                    b'f' => command.fake = true,
                    b'v' => command.verbose = true,
                    b'n' => {}
                    b'o' | b't' | b'N' => {
                        // The value is the rest of this argument, or the next.
                        let value = match letters.get(i + 1..) {
                            Some([]) | None => rest.next().ok_or_else(usage)?,
                            Some(value) => OsStr::from_bytes(value).to_owned(),
                        };
                        command.set(*letter, value);
                        break;
                    }
                    _ => return Err(usage()),
                }
            }
        }
        let mut places = places.into_iter();
        match (places.next(), places.next(), places.next()) {
            (Some(source), Some(target), None) => {
                command.source = source;
                command.target = target;
            }
            (Some(target), None, None) => {
                command.source = command.fstype.clone();
                command.target = target;
                command.as_program = true;
            }
            _ => return Err(usage()),
        }
        Ok(command)
    }

    fn set(&mut self, letter: u8, value: OsString) {
        match letter {
            b'o' => {
                if !self.options.is_empty() {
                    self.options.push(b',');
                }
                self.options.extend(value.into_vec());
            }
            b't' => self.fstype = value,
            _ => self.namespace = Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, Vec<u8>> {
        parse_called("/sbin/mount.rovl", arguments)
    }

    fn parse_called(name: &str, arguments: &[&str]) -> Result<Command, Vec<u8>> {
        let all = [&[name], arguments].concat();
        Command::parse(all.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_name_says_the_type() {
        for (name, fstype) in [
            ("mount.rovl", "rovl"),
            ("/usr/sbin/mount.overlay", "overlay"),
            ("./mount.rovl", "rovl"),
            ("anything", "rovl"),
        ] {
            let command = parse_called(name, &["none", "/m"]).unwrap();
            assert_eq!(command.fstype, fstype, "{name}");
            assert!(!command.as_program);
        }
        let command = parse_called("mount.overlay", &["none", "/m", "-t", "rovl"]).unwrap();
        assert_eq!(command.fstype, "rovl");
    }

    #[test]
    fn as_containers_storage_calls_it() {
        let command = parse(&["-o", "lowerdir=l/A:l/B,upperdir=/u,workdir=/w", "/m"]).unwrap();
        assert!(command.as_program);
        assert_eq!(command.target, "/m");
        assert_eq!(command.source, "rovl");
        assert_eq!(command.fstype, "rovl");
    }

    #[test]
    fn as_mount_calls_it() {
        let command = parse(&["none", "/m", "-o", "rw,lowerdir=/a"]).unwrap();
        assert_eq!(command.source, "none");
        assert_eq!(command.target, "/m");
        assert_eq!(command.options, b"rw,lowerdir=/a");
        assert_eq!(command.fstype, "rovl");
        assert!(!command.fake);
    }

    #[test]
    fn letters_together_and_apart() {
        let command = parse(&["-sfv", "a", "-n", "b", "-oro", "-o", "x=1", "-N12"]).unwrap();
        assert!(command.sloppy && command.fake && command.verbose);
        assert_eq!(command.options, b"ro,x=1");
        assert_eq!(command.namespace, Some("12".into()));
    }

    #[test]
    fn answers() {
        for arguments in [&["--version"][..], &["-V"], &["a", "b", "--version"]] {
            let said = parse(arguments).unwrap().answer.unwrap();
            assert!(said.starts_with("mount.rovl 0."), "{said}");
        }
        for arguments in [["-h"], ["--help"]] {
            assert_eq!(parse(&arguments).unwrap().answer, Some(USAGE));
        }
        assert_eq!(parse(&["none", "/m", "-o", "-h"]).unwrap().answer, None);
    }

    #[test]
    fn refused() {
        for wrong in [
            &["a", "b", "c"][..],
            &["a", "b", "-o"],
            &["a", "b", "-x"],
            &["a", "b", "-"],
            &["a", "b", "--v"],
            &[],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
