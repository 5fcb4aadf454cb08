// SPDX-License-Identifier: GPL-2.0

//! Operations as text: a line of words without blanks, to be read by people and
//! to be played again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A part of a line.
pub trait Word: Sized {
    fn text(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// A path or name as the kernel is given it. As text, what is no plain character
/// is `%` and two hexadecimal digits, and nothing at all is `%`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub Vec<u8>);

impl Name {
    pub fn new(bytes: impl AsRef<[u8]>) -> Name {
        Name(bytes.as_ref().to_vec())
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-#+:".contains(&byte)
}

impl Word for Name {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "%".into();
        }
        let one = |b: &u8| match is_plain(*b) {
            true => char::from(*b).to_string(),
            false => format!("%{b:02x}"),
        };
        self.0.iter().map(one).collect()
    }

    fn read(text: &str) -> Option<Name> {
        let mut parts = text.split('%');
        let mut bytes = parts.next()?.as_bytes().to_vec();
        for part in parts.filter(|p| !p.is_empty()) {
            let (hex, rest) = part.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            bytes.extend_from_slice(rest.as_bytes());
        }
        Some(Name(bytes))
    }
}

impl Word for String {
    fn text(&self) -> String {
        Name::new(self).text()
    }

    fn read(text: &str) -> Option<String> {
        String::from_utf8(Name::read(text)?.0).ok()
    }
}

macro_rules! number {
    ($($t:ty),*) => { $(
        impl Word for $t {
            fn text(&self) -> String {
                self.to_string()
            }

            fn read(text: &str) -> Option<$t> {
                text.parse().ok()
            }
        }
    )* };
}
number!(u8, i32, u32, u64, i64, usize);

/// Permission bits, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Octal(pub u32);

impl Word for Octal {
    fn text(&self) -> String {
        format!("0{:o}", self.0)
    }

    fn read(text: &str) -> Option<Octal> {
        u32::from_str_radix(text, 8).ok().map(Octal)
    }
}

/// A user or group: `-` for one that is not to be changed.
impl Word for Option<u32> {
    fn text(&self) -> String {
        self.map_or("-".into(), |n| n.to_string())
    }

    fn read(text: &str) -> Option<Option<u32>> {
        match text {
            "-" => Some(None),
            text => text.parse().ok().map(Some),
        }
    }
}

impl Word for bool {
    fn text(&self) -> String {
        if *self { "yes" } else { "no" }.into()
    }

    fn read(text: &str) -> Option<bool> {
        match text {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }
}

/// Flags, by the names that rustix has for them.
macro_rules! flags {
    ($($t:ty),*) => { $(
        impl Word for $t {
            fn text(&self) -> String {
                let mut text = String::new();
                match bitflags::parser::to_writer(self, &mut text) {
                    Ok(()) if !text.is_empty() => text.replace(' ', ""),
                    _ => "0".into(),
                }
            }

            fn read(text: &str) -> Option<$t> {
                match text {
                    "0" => Some(<$t>::empty()),
                    text => bitflags::parser::from_str(&text.replace('|', " | ")).ok(),
                }
            }
        }
    )* };
}
flags!(
    rustix::fs::OFlags,
    rustix::fs::RenameFlags,
    rustix::fs::FallocateFlags,
    rustix::fs::XattrFlags,
    rustix::fs::Access,
    rustix::fs::IFlags
);

/// A time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Now,
    Omit,
    At(i64),
}

impl Word for Time {
    fn text(&self) -> String {
        match self {
            Time::Now => "now".into(),
            Time::Omit => "omit".into(),
            Time::At(seconds) => seconds.to_string(),
        }
    }

    fn read(text: &str) -> Option<Time> {
        match text {
            "now" => Some(Time::Now),
            "omit" => Some(Time::Omit),
            text => text.parse().ok().map(Time::At),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;

    #[test]
    fn names_with_any_byte_are_read_back() {
        let all: Vec<u8> = (1..=255).collect();
        for bytes in [&b""[..], b"plain/name", b"%41", b"a b\n", &all] {
            let name = Name::new(bytes);
            assert_eq!(Name::read(&name.text()), Some(name));
        }
    }

    #[test]
    fn flags_are_read_back() {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        assert!(!flags.text().contains(' '));
        assert_eq!(OFlags::read(&flags.text()), Some(flags));
        assert_eq!(OFlags::read(&OFlags::empty().text()), Some(OFlags::empty()));
    }
}
