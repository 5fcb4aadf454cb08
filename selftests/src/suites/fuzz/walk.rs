// SPDX-License-Identifier: GPL-2.0

//! All that can be seen of a merged tree, errors included.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::layers::{Contents, Layers};
use crate::sys::{self, FileType, OFlags, Res};

/// One object, as far as it could be looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub kind: Option<FileType>,
    /// Everything but the data, to be compared.
    text: String,
    pub data: Option<Vec<u8>>,
}

/// A tree, by path.
pub struct Walk {
    pub objects: BTreeMap<PathBuf, Seen>,
}

fn said<T>(r: Res<T>) -> Result<T, String> {
    r.map_err(|e| sys::errno_name(e.errno))
}

impl Seen {
    pub fn is_error(&self) -> bool {
        self.kind.is_none()
    }

    fn of(at: &Path) -> Seen {
        let st = match sys::lstat(at) {
            Ok(st) => st,
            Err(e) => {
                return Seen {
                    kind: None,
                    text: sys::errno_name(e.errno),
                    data: None,
                }
            }
        };
        let kind = sys::kind_of(&st);
        let mut data = None;
        let more = match kind {
            FileType::Symlink => format!("{:?}", said(sys::readlink(at))),
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
                match said(sys::open(at, flags).and_then(|fd| sys::read_rest(&fd))) {
                    Ok(read) => {
                        data = Some(read);
                        String::new()
                    }
                    Err(e) => e,
                }
            }
            _ => String::new(),
        };
        let names = said(sys::list_xattr(at));
        let xattrs: Vec<_> = names
            .iter()
            .flatten()
            .map(|n| (n.clone(), said(sys::get_xattr(at, n))))
            .collect();
        // That of a directory is no property of what is in it.
        let size = if kind == FileType::Directory {
            0
        } else {
            st.st_size
        };
        let text = format!(
            "{kind:?} {:o} {}:{} {:x} {size} {more} {:?} {xattrs:?}",
            st.st_mode,
            st.st_uid,
            st.st_gid,
            st.st_rdev,
            names.as_ref().err()
        );
        Seen {
            kind: Some(kind),
            text,
            data,
        }
    }
}

impl Walk {
    pub fn of(root: &Path) -> Walk {
        let mut walk = Walk {
            objects: BTreeMap::new(),
        };
        walk.go(root, root);
        walk
    }

    fn go(&mut self, root: &Path, at: &Path) {
        let path = at.strip_prefix(root).expect("below it").to_path_buf();
        let mut seen = Seen::of(at);
        let kind = seen.kind;
        let names = (kind == Some(FileType::Directory)).then(|| sys::dirents(at));
        if let Some(Err(e)) = &names {
            seen.text.push_str(&sys::errno_name(e.errno));
        }
        self.objects.insert(path, seen);
        for entry in names.and_then(Result::ok).unwrap_or_default() {
            if entry.name != "." && entry.name != ".." && self.objects.len() < 5000 {
                self.go(root, &at.join(entry.name));
            }
        }
    }

    /// No data that nobody has put there.
    pub fn check(&self, layers: &Layers, known: &Contents) -> Result<(), String> {
        for (path, seen) in &self.objects {
            let Some(data) = &seen.data else { continue };
            let right = match &known.at {
                Some(at) => at.get(path).is_some_and(|here| here.contains(data)),
                None => known.all.contains(data),
            };
            if !right {
                let zeroes = data.iter().filter(|b| **b == 0).count();
                return Err(format!(
                    "{path:?} shows {} bytes, {zeroes} of them zero, that are not its own: {}; \
                     below: {}",
                    data.len(),
                    seen.text,
                    layers.tell(path)
                ));
            }
        }
        Ok(())
    }

    pub fn differences(&self, before: &Walk) -> Vec<String> {
        let mut all = Vec::new();
        for (path, seen) in &self.objects {
            match before.objects.get(path) {
                None => all.push(format!("{path:?}: new: {}", seen.text)),
                Some(old) if old.text != seen.text => {
                    all.push(format!("{path:?}: {} was {}", seen.text, old.text));
                }
                Some(old) if old.data != seen.data => all.push(format!("{path:?}: other data")),
                Some(_) => {}
            }
        }
        let gone = before.objects.iter();
        let gone = gone.filter(|(path, _)| !self.objects.contains_key(*path));
        all.extend(gone.map(|(path, old)| format!("{path:?}: gone, was {}", old.text)));
        all.truncate(8);
        all
    }
}
