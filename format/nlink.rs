// SPDX-License-Identifier: GPL-2.0

//! `overlay.nlink` of an entry of the index: how many names its object has in the merged
//! tree, as a difference to the number of one of its layers.

use core::fmt::{self, Write};

/// Whose number of links is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Upper,
    Lower,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nlink {
    pub(crate) base: Base,
    pub(crate) difference: i32,
}

/// The longest value: `U-2147483648`.
pub(crate) const MAX_LEN: usize = 12;

/// Why a value has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It begins with neither `U` nor `L`.
    Base,
    /// What follows is no number, or too large a one.
    Number,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "it begins with neither U nor L",
            Self::Number => "no number",
        })
    }
}

impl Nlink {
    pub(crate) fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let (base, number) = match value {
            [b'U', number @ ..] => (Base::Upper, number),
            [b'L', number @ ..] => (Base::Lower, number),
            _ => return Err(Malformed::Base),
        };
        let difference = core::str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse().ok())
            .ok_or(Malformed::Number)?;
        Ok(Self { base, difference })
    }

    /// What is stored, in `buffer`.
    pub(crate) fn write(self, buffer: &mut [u8; MAX_LEN]) -> &[u8] {
        let base = match self.base {
            Base::Upper => 'U',
            Base::Lower => 'L',
        };
        let mut out = Out { buffer, len: 0 };
        // It has room for any number.
        let _ = write!(out, "{base}{:+}", self.difference);
        let Out { buffer, len } = out;
        buffer.get(..len).unwrap_or_default()
    }
}

struct Out<'a> {
    buffer: &'a mut [u8; MAX_LEN],
    len: usize,
}

impl Write for Out<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.len.checked_add(s.len()).ok_or(fmt::Error)?;
        self.buffer
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}
