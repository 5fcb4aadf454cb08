// SPDX-License-Identifier: GPL-2.0

//! The syntax of `lowerdir=`: layers between colons, and what a backslash does.
//!
//! `tools/mount-rovl` reads a list of layers by this, too.

/// What is wrong with a list of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Nothing between two colons, or before the first, or after the last.
    Empty,
    /// `::`, which begins a data-only layer.
    DataOnly,
    /// A backslash with nothing after it.
    Backslash,
}

/// The layers of a `lowerdir=` value, topmost first, each as it is written:
/// with its backslashes. Nothing comes after an error.
pub(crate) struct Split<'a> {
    rest: Option<&'a [u8]>,
    first: bool,
}

impl<'a> Split<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self {
            rest: Some(value),
            first: true,
        }
    }
}

impl<'a> Iterator for Split<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = self.rest.take()?;
        let first = core::mem::replace(&mut self.first, false);
        let mut escaped = false;
        let mut colon = None;
        for (i, &c) in value.iter().enumerate() {
            if c == b':' && !escaped {
                colon = Some(i);
                break;
            }
            escaped = c == b'\\' && !escaped;
        }
        let (layer, rest) = match colon.map(|i| value.split_at(i)) {
            Some((layer, rest)) => (layer, rest.get(1..)),
            None if escaped => return Some(Err(Malformed::Backslash)),
            None => (value, None),
        };
        if layer.is_empty() {
            // `a::b`, and not `:b`, `a:` or nothing at all.
            let data_only = !first && rest.is_some_and(|rest| !rest.is_empty());
            return Some(Err(if data_only {
                Malformed::DataOnly
            } else {
                Malformed::Empty
            }));
        }
        self.rest = rest;
        Some(Ok(layer))
    }
}

/// The bytes of a name as it is written, each backslash taken away that takes
/// the meaning from the byte after it.
pub(crate) fn unescape(written: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut escaped = false;
    written.iter().filter_map(move |&c| {
        escaped = c == b'\\' && !escaped;
        (!escaped).then_some(c)
    })
}
