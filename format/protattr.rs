// SPDX-License-Identifier: GPL-2.0

//! `overlay.protattr`: the protections (`chattr +a`, `+i`) that an object of the upper
//! layer has in the merged tree, and not on disk: a letter for each.

use core::fmt;

/// Which protections an object has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protection {
    pub(crate) append: bool,
    pub(crate) immutable: bool,
}

/// There is nothing longer.
pub(crate) const MAX_LEN: usize = 32;

/// Why a value has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    Empty,
    /// A letter that is not known here.
    Unknown(u8),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Unknown(letter) => write!(f, "letter {:?}", char::from(*letter)),
        }
    }
}

impl Protection {
    pub(crate) fn parse(value: &[u8]) -> Result<Self, Malformed> {
        if value.is_empty() {
            return Err(Malformed::Empty);
        }
        let mut protection = Self::default();
        for &letter in value {
            match letter {
                b'a' => protection.append = true,
                b'i' => protection.immutable = true,
                _ => return Err(Malformed::Unknown(letter)),
            }
        }
        Ok(protection)
    }

    /// What is stored; nothing is, where it is empty.
    pub(crate) fn value(self) -> &'static [u8] {
        match (self.append, self.immutable) {
            (false, false) => b"",
            (true, false) => b"a",
            (false, true) => b"i",
            (true, true) => b"ai",
        }
    }
}
