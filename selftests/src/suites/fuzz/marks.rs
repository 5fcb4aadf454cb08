// SPDX-License-Identifier: GPL-2.0

//! Values of marks: right ones, nearly right ones, and none at all.

use crate::differential::random::Random;
use crate::env::T;
use crate::sys::{self, Expect};
use crate::tree::ORIGIN;

/// All marks there are, and one that is not.
const MARKS: [&str; 13] = [
    "opaque", "whiteout", "origin", "protattr", "impure", "uuid", "redirect", "metacopy", "nlink",
    "upper", "verity", "", "none",
];

/// The handle of a file, in a mark as a mount makes it.
pub fn real_handle(t: &T) -> Vec<u8> {
    let o = t
        .stack()
        .lower(|l| {
            l.file("f", "f");
        })
        .mount();
    sys::chmod(o.m("f"), 0o600).works();
    let handle = sys::get_xattr(o.u("f"), ORIGIN).works();
    o.umount();
    handle
}

/// A mark: which, without the prefix, and its value.
pub fn mark(random: &mut Random, handle: &[u8]) -> (String, Vec<u8>) {
    let mark = *random.pick(&MARKS);
    let mut value = value(mark, random, handle);
    match random.below(12) {
        0 => {
            let len = random.below(64);
            value = bytes(random, len);
        }
        1 => {
            let len = 200 + random.below(1800);
            value = bytes(random, len);
        }
        2 => value.clear(),
        3 => value.truncate(random.below(value.len() + 1)),
        4 => {
            let len = random.below(8);
            value.extend(bytes(random, len));
        }
        5 | 6 if !value.is_empty() => {
            let at = random.below(value.len());
            value[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    // For the mount on a mount.
    let mark = if random.one_in(6) {
        format!("overlay.{mark}")
    } else {
        mark.into()
    };
    (mark, value)
}

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn value(mark: &str, random: &mut Random, handle: &[u8]) -> Vec<u8> {
    let text = |random: &mut Random, of: &[&str]| random.pick(of).as_bytes().to_vec();
    match mark {
        "opaque" => text(random, &["y", "y", "x", "x", "n", "yy", "Y", "0"]),
        "impure" => text(random, &["y", "n", "yy"]),
        "protattr" => text(random, &["i", "a", "ai", "ia", "iz", "aaaa", "\0", "i\0"]),
        "redirect" => text(
            random,
            &[
                "a",
                "b",
                "/a",
                "/a/b",
                "/",
                "..",
                "../..",
                "/../..",
                "a/b",
                "//a",
                "/a/",
                ".",
                "/a/./b",
                "a\0b",
                "missing",
                "/missing/x",
            ],
        ),
        "metacopy" => match random.below(4) {
            0 => Vec::new(),
            1 => vec![0, 4, 0, 0],
            2 => [&[0, 36, 0, 1][..], &bytes(random, 32)].concat(),
            _ => [&[0, 68, 0, 2][..], &bytes(random, 64)].concat(),
        },
        "nlink" => text(
            random,
            &[
                "U+0",
                "L+1",
                "U-1",
                "L-2147483648",
                "U+99999999999",
                "U",
                "+1",
            ],
        ),
        "uuid" => bytes(random, 16),
        "origin" | "upper" => match random.below(5) {
            0 => Vec::new(),
            1 => forged(random, handle),
            _ => handle.to_vec(),
        },
        _ => bytes(random, 4),
    }
}

/// A header with a length that is not so, or of another filesystem, or of bytes that
/// mean something else.
fn forged(random: &mut Random, handle: &[u8]) -> Vec<u8> {
    let mut value = handle.to_vec();
    let wrong = [0, 1, 20, 21, 22, 127, 128, 255];
    for at in 0..5 {
        if at < value.len() && random.one_in(3) {
            value[at] = *random.pick(&wrong);
        }
    }
    for byte in value.iter_mut().skip(21) {
        if random.one_in(2) {
            *byte = random.below(256) as u8;
        }
    }
    value
}
