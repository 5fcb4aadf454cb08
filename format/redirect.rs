// SPDX-License-Identifier: GPL-2.0

//! `overlay.redirect`: what a directory, or a file with `overlay.metacopy`, is called in
//! the layers below. A name, if it is in the same directory there, or a path from the root
//! of the layers that begins with `/`.

use core::fmt;

/// Where to look below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirect<'a> {
    /// In the same directory.
    Name(&'a [u8]),
    /// From the root, which the path begins with: `/`, and names with a `/` between two.
    Path(&'a [u8]),
}

/// Why a value leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Nothing, or only the root.
    Empty,
    /// A name with a `/` in it.
    Slash,
    /// Nothing between two `/`, or after the last.
    EmptyName,
    /// A name that is `.` or `..`.
    Dots,
    /// A NUL.
    Nul,
}

impl Malformed {
    /// Whether overlayfs calls the value malformed. It takes what comes before a NUL, and
    /// looks `.` and `..` up, for which there is another error.
    pub(crate) fn is_of_overlayfs(self) -> bool {
        !matches!(self, Self::Dots | Self::Nul)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::Slash => "a name with a slash",
            Self::EmptyName => "a path with an empty name",
            Self::Dots => "dots for a name",
            Self::Nul => "a NUL",
        })
    }
}

impl<'a> Redirect<'a> {
    pub(crate) fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let (names, redirect) = match *value {
            [] | [b'/'] => return Err(Malformed::Empty),
            [b'/', ref path @ ..] => (path, Self::Path(value)),
            _ if value.contains(&b'/') => return Err(Malformed::Slash),
            _ => (value, Self::Name(value)),
        };
        let has = |name: &[u8]| names.split(|&c| c == b'/').any(|found| found == name);
        if has(b"") {
            Err(Malformed::EmptyName)
        } else if value.contains(&0) {
            Err(Malformed::Nul)
        } else if has(b".") || has(b"..") {
            Err(Malformed::Dots)
        } else {
            Ok(redirect)
        }
    }
}
