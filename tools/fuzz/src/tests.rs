// SPDX-License-Identifier: GPL-2.0

//! Values with what they mean, and values with what is wrong with them.

use crate::format::{
    dir::{self, Meaningless, Opacity},
    handle::{self, Handle},
    lowerdir::{self, Split},
    metacopy::{self, Metacopy},
    names,
    nlink::{self, Nlink},
    protattr::{self, Protection},
    redirect::{self, Redirect},
    uuid::Uuid,
};
use crate::targets;

/// What each target gets once, fuzzed or not.
fn samples() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..=255).map(|c| vec![c]).collect();
    for len in [0, 2, 3, 4, 12, 20, 21, 22, 25, 36, 68, 69, 255, 256, 300] {
        for fill in [0, b'/', b':', b'\\', b'a', b'+', 0xfb, 0xff] {
            all.push(vec![fill; len]);
        }
    }
    all
}

#[test]
fn whatever_it_is_given() {
    for target in targets::ALL {
        for sample in samples() {
            (target.run)(&sample);
        }
    }
}

#[test]
fn targets_are_found_by_name() {
    assert!(targets::find("handle").is_some());
    assert!(targets::find("").is_none());
}

#[test]
fn opaque_and_impure() {
    assert_eq!(dir::parse_opaque(b"y"), Ok(Opacity::Opaque));
    assert_eq!(dir::parse_opaque(b"x"), Ok(Opacity::XattrWhiteouts));
    assert_eq!(dir::parse_opaque(dir::OPAQUE), Ok(Opacity::Opaque));
    assert_eq!(dir::parse_impure(dir::IMPURE), Ok(()));
    for value in [&b""[..], b"Y", b"n", b"yy", b"y\0", b"\0"] {
        assert_eq!(dir::parse_opaque(value), Err(Meaningless), "{value:?}");
        assert_eq!(dir::parse_impure(value), Err(Meaningless), "{value:?}");
    }
    assert_eq!(dir::parse_impure(b"x"), Err(Meaningless));
}

const UUID: Uuid = Uuid(*b"0123456789abcdef");
const NATIVE: u8 = if cfg!(target_endian = "big") { 1 } else { 0 };

fn stored(version: u8, magic: u8, len: u8, flags: u8, fid: &[u8]) -> Vec<u8> {
    [&[version, magic, len, flags, 0x81][..], &UUID.0, fid].concat()
}

#[test]
fn handles() {
    let fid = [1, 2, 3, 4, 5, 6, 7, 8];
    let expected = |is_upper, fid| Handle {
        is_upper,
        kind: 0x81,
        uuid: UUID,
        fid,
    };
    let good = [
        (stored(0, 0xfb, 29, NATIVE, &fid), expected(false, &fid[..])),
        (stored(0, 0xfb, 29, NATIVE | 4, &fid), expected(true, &fid)),
        (stored(0, 0xfb, 29, 2, &fid), expected(false, &fid)),
        (stored(0, 0xfb, 29, 3, &fid), expected(false, &fid)),
        (stored(0, 0xfb, 21, NATIVE, &[]), expected(false, &[])),
        // Something after it.
        (
            stored(0, 0xfb, 25, NATIVE, &fid),
            expected(false, &fid[..4]),
        ),
    ];
    for (value, handle) in &good {
        assert_eq!(Handle::parse(value), Ok(*handle));
        let header = handle.header().expect("short enough");
        let again = [&header[..], handle.fid].concat();
        assert_eq!(Handle::parse(&again), Ok(*handle));
    }
    assert_eq!(
        good[0].0[..21],
        expected(false, &fid).header().expect("short")
    );
    let long = [0; 256];
    assert!(expected(false, &long[..232]).header().is_some());
    assert_eq!(expected(false, &long[..236]).header(), None);
}

#[test]
fn malformed_handles() {
    use handle::Malformed::*;

    let fid = [1, 2, 3, 4];
    let whole = stored(0, 0xfb, 25, NATIVE, &fid);
    for len in 0..handle::HEADER_LEN {
        assert_eq!(Handle::parse(&whole[..len]), Err(Short(len)));
    }
    for len in handle::HEADER_LEN..whole.len() {
        let wrong = Length { said: 25, got: len };
        assert_eq!(Handle::parse(&whole[..len]), Err(wrong));
    }
    let bad = [
        (stored(0, 0xfa, 25, NATIVE, &fid), Magic(0xfa)),
        (stored(1, 0xfb, 25, NATIVE, &fid), Version(1)),
        (stored(0, 0xfb, 25, NATIVE | 8, &fid), Flags(NATIVE | 8)),
        (stored(0, 0xfb, 25, 1 - NATIVE, &fid), ByteOrder),
        (
            stored(0, 0xfb, 20, NATIVE, &fid),
            Length { said: 20, got: 25 },
        ),
        (
            stored(0, 0xfb, 0, NATIVE, &fid),
            Length { said: 0, got: 25 },
        ),
        (
            stored(0, 0xfb, 255, NATIVE, &fid),
            Length { said: 255, got: 25 },
        ),
        (
            stored(0, 0xfb, 23, NATIVE, &fid),
            Length { said: 23, got: 25 },
        ),
    ];
    for (value, why) in bad {
        assert_eq!(Handle::parse(&value), Err(why));
        let foreign = matches!(why, Version(_) | Flags(_) | ByteOrder);
        assert_eq!(why.is_foreign(), foreign, "{why}");
    }
}

#[test]
fn metacopies() {
    let none = Metacopy {
        flags: 0,
        algorithm: 0,
        digest: &[],
    };
    assert_eq!(Metacopy::parse(&[]), Ok(none));
    assert_eq!(Metacopy::parse(&[0, 4, 0, 0]), Ok(none));
    for (len, algorithm) in [(32, 1), (64, 2)] {
        let digest = vec![7; len];
        let value = [&[0, len as u8 + 4, 0, algorithm][..], &digest].concat();
        let expected = Metacopy {
            flags: 0,
            algorithm,
            digest: &digest,
        };
        assert_eq!(Metacopy::parse(&value), Ok(expected));
    }
    use metacopy::Malformed::*;
    for (value, why) in [
        (vec![0], Short(1)),
        (vec![0, 4, 0], Short(3)),
        (vec![1, 4, 0, 0], Version(1)),
        (vec![0, 5, 0, 0], Length { said: 5, got: 4 }),
        (vec![0, 4, 0, 0, 0], Length { said: 4, got: 5 }),
        (vec![0; 69], Long(69)),
    ] {
        assert_eq!(Metacopy::parse(&value), Err(why));
    }
}

#[test]
fn redirects() {
    for name in [&b"a"[..], b"...", b".a", b"a b", b"\xff\n"] {
        assert_eq!(Redirect::parse(name), Ok(Redirect::Name(name)));
    }
    for path in [&b"/a"[..], b"/a/b", b"/.../c"] {
        assert_eq!(Redirect::parse(path), Ok(Redirect::Path(path)));
    }
    use redirect::Malformed::*;
    for (value, why) in [
        (&b""[..], Empty),
        (b"/", Empty),
        (b"a/b", Slash),
        (b"a/", Slash),
        (b"//", EmptyName),
        (b"//a", EmptyName),
        (b"/a/", EmptyName),
        (b"/a//b", EmptyName),
        (b".", Dots),
        (b"..", Dots),
        (b"/..", Dots),
        (b"/a/./b", Dots),
        (b"\0", Nul),
        (b"/a\0", Nul),
    ] {
        assert_eq!(Redirect::parse(value), Err(why), "{value:?}");
        assert_eq!(why.is_of_overlayfs(), !matches!(why, Dots | Nul));
    }
}

#[test]
fn protections() {
    for append in [false, true] {
        for immutable in [false, true] {
            let protection = Protection { append, immutable };
            if protection == Protection::default() {
                assert_eq!(protection.value(), b"");
                continue;
            }
            assert_eq!(Protection::parse(protection.value()), Ok(protection));
        }
    }
    let both = Protection {
        append: true,
        immutable: true,
    };
    assert_eq!(both.value(), b"ai");
    assert_eq!(Protection::parse(b"iai"), Ok(both));
    assert_eq!(Protection::parse(b""), Err(protattr::Malformed::Empty));
    for (value, letter) in [
        (&b"iz"[..], b'z'),
        (b"A", b'A'),
        (b"i\n", b'\n'),
        (b"\0i", 0),
    ] {
        let why = protattr::Malformed::Unknown(letter);
        assert_eq!(Protection::parse(value), Err(why));
    }
}

#[test]
fn numbers_of_links() {
    use nlink::Base;

    for (value, base, difference) in [
        (&b"U+0"[..], Base::Upper, 0),
        (b"U+1", Base::Upper, 1),
        (b"L-12", Base::Lower, -12),
        (b"U-2147483648", Base::Upper, i32::MIN),
        (b"L+2147483647", Base::Lower, i32::MAX),
    ] {
        let nlink = Nlink { base, difference };
        assert_eq!(Nlink::parse(value), Ok(nlink));
        assert_eq!(nlink.write(&mut [0; nlink::MAX_LEN]), value);
    }
    // Without a sign it is understood, and not written.
    assert_eq!(Nlink::parse(b"U7").map(|n| n.difference), Ok(7));
    use nlink::Malformed::{Base as NoBase, Number};
    for (value, why) in [
        (&b""[..], NoBase),
        (b"+1", NoBase),
        (b"u+1", NoBase),
        (b"U", Number),
        (b"U+", Number),
        (b"U+1 ", Number),
        (b"U 1", Number),
        (b"U+-1", Number),
        (b"U+2147483648", Number),
        (b"L\xff", Number),
    ] {
        assert_eq!(Nlink::parse(value), Err(why), "{value:?}");
    }
}

#[test]
fn names_that_are_private() {
    for (name, trusted, user) in [
        (&b"trusted.overlay.opaque"[..], true, false),
        (b"trusted.overlay.", true, false),
        (b"trusted.overlay.overlay.opaque", false, false),
        (b"trusted.overlay", false, false),
        (b"user.overlay.origin", false, true),
        (b"user.overlay.overlay.origin", false, false),
        (b"user.x", false, false),
        (b"", false, false),
    ] {
        assert_eq!(names::TRUSTED.is_private(name), trusted, "{name:?}");
        assert_eq!(names::USER.is_private(name), user, "{name:?}");
    }
}

fn layers(value: &[u8]) -> Result<Vec<Vec<u8>>, lowerdir::Malformed> {
    Split::new(value)
        .map(|layer| Ok(lowerdir::unescape(layer?).collect()))
        .collect()
}

#[test]
fn lists_of_layers() {
    for (value, expected) in [
        (&b"/a"[..], vec![&b"/a"[..]]),
        (b"a:b", vec![b"a", b"b"]),
        (b"a\\:b:c", vec![b"a:b", b"c"]),
        (b"a\\\\:b", vec![b"a\\", b"b"]),
        (b"\\a", vec![b"a"]),
    ] {
        let expected = expected.into_iter().map(<[u8]>::to_vec).collect();
        assert_eq!(layers(value), Ok(expected), "{value:?}");
    }
    use lowerdir::Malformed::*;
    for (value, why) in [
        (&b""[..], Empty),
        (b":a", Empty),
        (b"a:", Empty),
        (b"a::b", DataOnly),
        (b"a::", Empty),
        (b"a\\", Backslash),
        (b"a:b\\", Backslash),
    ] {
        assert_eq!(layers(value), Err(why), "{value:?}");
    }
}

#[test]
fn uuids() {
    assert!(Uuid([0; 16]).is_null());
    assert!(!UUID.is_null());
}
