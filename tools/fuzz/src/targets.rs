// SPDX-License-Identifier: GPL-2.0

//! What must hold of each parser, whatever bytes it is given.

use crate::format::{
    dir, handle::Handle, lowerdir, metacopy, names, nlink, protattr::Protection, redirect,
};

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const ALL: [Target; 8] = [
    Target {
        name: "dir",
        run: dir,
    },
    Target {
        name: "handle",
        run: handle,
    },
    Target {
        name: "lowerdir",
        run: lowerdir,
    },
    Target {
        name: "metacopy",
        run: metacopy,
    },
    Target {
        name: "names",
        run: names,
    },
    Target {
        name: "nlink",
        run: nlink,
    },
    Target {
        name: "protattr",
        run: protattr,
    },
    Target {
        name: "redirect",
        run: redirect,
    },
];

pub fn find(name: &str) -> Option<Target> {
    ALL.into_iter().find(|target| target.name == name)
}

fn dir(value: &[u8]) {
    let meant = [
        dir::parse_opaque(value).is_ok(),
        dir::parse_impure(value).is_ok(),
    ];
    assert!(value.len() <= dir::MAX_LEN || meant == [false, false]);
}

fn handle(value: &[u8]) {
    let handle = match Handle::parse(value) {
        Ok(handle) => handle,
        Err(why) => {
            assert!(!why.to_string().is_empty());
            return;
        }
    };
    assert_eq!(handle.fid.len() % 4, 0);
    let header = handle.header().expect("it was stored");
    let stored = [&header[..], handle.fid].concat();
    assert!(stored.len() <= value.len());
    assert_eq!(Handle::parse(&stored), Ok(handle));
    // But for a byte order that makes no difference, it is written as it was.
    assert_eq!(stored[4..], value[4..stored.len()]);
}

fn lowerdir(value: &[u8]) {
    let mut split = lowerdir::Split::new(value);
    let mut again: Vec<u8> = Vec::new();
    let mut failed = false;
    for (i, layer) in split.by_ref().enumerate() {
        assert!(!failed, "something after an error");
        let Ok(layer) = layer else {
            failed = true;
            continue;
        };
        assert!(!layer.is_empty());
        if i > 0 {
            again.push(b':');
        }
        again.extend_from_slice(layer);
        let name: Vec<u8> = lowerdir::unescape(layer).collect();
        assert!(!name.is_empty() && name.len() <= layer.len());
        assert!(name.len() == layer.len() || layer.contains(&b'\\'));
        // A colon is part of a name only behind a backslash.
        let colons = |bytes: &[u8]| bytes.iter().filter(|c| **c == b':').count();
        assert_eq!(
            colons(&name),
            layer.windows(2).filter(|w| w == b"\\:").count()
        );
    }
    assert!(value.starts_with(&again));
    assert!(failed || again == value);
    assert!(split.next().is_none());
}

fn metacopy(value: &[u8]) {
    match metacopy::Metacopy::parse(value) {
        Ok(found) if value.is_empty() => assert_eq!((found.flags, found.digest), (0, value)),
        Ok(found) => {
            assert!(value.len() <= metacopy::MAX_LEN);
            assert_eq!(usize::from(value[1]), value.len());
            assert_eq!([value[2], value[3]], [found.flags, found.algorithm]);
            assert_eq!(value[4..], *found.digest);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

fn names(name: &[u8]) {
    for names in [&names::TRUSTED, &names::USER] {
        if names.is_private(name) {
            assert!(name.starts_with(names.prefix));
            // Called so in the merged tree, it would be stored under a name that is not.
            let stored = [names.escaped, &name[names.prefix.len()..]].concat();
            assert!(!names.is_private(&stored));
        }
    }
}

fn nlink(value: &[u8]) {
    match nlink::Nlink::parse(value) {
        Ok(found) => {
            let mut buffer = [0; nlink::MAX_LEN];
            let stored = found.write(&mut buffer);
            assert_eq!(nlink::Nlink::parse(stored), Ok(found));
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

fn protattr(value: &[u8]) {
    match Protection::parse(value) {
        Ok(found) => {
            assert_eq!(found.append, value.contains(&b'a'));
            assert_eq!(found.immutable, value.contains(&b'i'));
            assert_eq!(Protection::parse(found.value()), Ok(found));
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

/// What overlayfs checks, in the way it does.
fn is_good_for_overlayfs(value: &[u8]) -> bool {
    let value = value.split(|c| *c == 0).next().unwrap_or_default();
    match value.strip_prefix(b"/") {
        Some(rest) => rest.split(|c| *c == b'/').all(|name| !name.is_empty()),
        None => !value.contains(&b'/'),
    }
}

fn redirect(value: &[u8]) {
    use redirect::Redirect;

    match Redirect::parse(value) {
        Ok(found) => {
            let names = match found {
                Redirect::Name(name) => name,
                Redirect::Path(path) => path.strip_prefix(b"/").expect("a path"),
            };
            assert!(is_good_for_overlayfs(value) && !value.contains(&0));
            for name in names.split(|c| *c == b'/') {
                assert!(!name.is_empty() && name != b"." && name != b"..");
            }
        }
        Err(why) => {
            assert!(!why.to_string().is_empty());
            if why.is_of_overlayfs() && !value.is_empty() && !value.contains(&0) {
                assert!(!is_good_for_overlayfs(value));
            }
        }
    }
}
