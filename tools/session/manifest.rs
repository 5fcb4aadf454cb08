// SPDX-License-Identifier: GPL-2.0

//! Writes down a tree, one line per name, for comparison with another one.
//!
//! `manifest DIR >FILE` lists everything below DIR on the same mount, sorted by name:
//!
//! ```text
//! path  type  mode  uid:gid  links  size  content  group  xattrs  mtime
//! ```
//!
//! separated by tabs.  *content* is a hash of a file's data, the target of a link or
//! the number of a device.  *group* is the first name of the same inode, so that two
//! trees agree about hard links whatever their inode numbers are.  What is no property
//! of the object itself is "-": the link count and size of a directory, which differ
//! between file systems.  `d_type` must agree with what `lstat` says; if it does not,
//! the type says so.

use std::collections::HashMap;
use std::ffi::{c_char, c_void, CString, OsStr};
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::ExitCode;

extern "C" {
    fn llistxattr(path: *const c_char, list: *mut c_char, size: usize) -> isize;
    fn lgetxattr(
        path: *const c_char,
        name: *const c_char,
        value: *mut c_void,
        size: usize,
    ) -> isize;
}

/// A multiple of eight, and at least as large as the largest xattr, which has 64 KiB.
const BUFFER: usize = 1 << 17;

struct Walk<W: Write> {
    root: Vec<u8>,
    device: u64,
    /// For data and xattrs, made once: fresh pages for each file cost more than reading it.
    buffer: Vec<u8>,
    /// The first name of each inode with more than one link.
    groups: HashMap<u64, String>,
    out: W,
}

impl<W: Write> Walk<W> {
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let mut children: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
        children.sort_by_key(|child| child.file_name());
        for child in children {
            let path = child.path();
            let meta = fs::symlink_metadata(&path)?;
            let mut kind = kind(&meta).to_owned();
            if child.file_type()? != meta.file_type() {
                kind.push_str("(d_type differs)");
            }
            self.entry(&path, &kind, &meta)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
            if meta.is_dir() && meta.dev() == self.device {
                self.directory(&path)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, kind: &str, meta: &Metadata) -> io::Result<()> {
        let name = &path.as_os_str().as_bytes()[self.root.len()..];
        let name = if name.is_empty() { b"/" } else { name };
        let name = name.escape_ascii().to_string();
        let (links, size) = if meta.is_dir() {
            ("-".into(), "-".into())
        } else {
            (meta.nlink().to_string(), meta.size().to_string())
        };
        let content = if meta.is_file() {
            format!("{:016x}", hash(&mut File::open(path)?, &mut self.buffer)?)
        } else if meta.is_symlink() {
            fs::read_link(path)?
                .as_os_str()
                .as_bytes()
                .escape_ascii()
                .to_string()
        } else if meta.file_type().is_char_device() || meta.file_type().is_block_device() {
            format!("{:x}", meta.rdev())
        } else {
            "-".into()
        };
        let group = if meta.is_dir() || meta.nlink() == 1 {
            "-".into()
        } else {
            self.groups
                .entry(meta.ino())
                .or_insert_with(|| name.clone())
                .clone()
        };
        let xattrs = xattrs(path, &mut self.buffer)?;
        writeln!(
            self.out,
            "{name}\t{kind}\t{:04o}\t{}:{}\t{links}\t{size}\t{content}\t{group}\t{xattrs}\t{}.{:09}",
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
        )
    }
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        _ if kind.is_file() => "file",
        _ if kind.is_dir() => "dir",
        _ if kind.is_symlink() => "link",
        _ if kind.is_fifo() => "fifo",
        _ if kind.is_socket() => "socket",
        _ if kind.is_char_device() => "char",
        _ if kind.is_block_device() => "block",
        _ => "unknown",
    }
}

/// Tells contents apart that differ by accident; eight bytes a step, because a guest
/// without KVM reads faster than it calculates.
fn hash(file: &mut File, buffer: &mut [u8]) -> io::Result<u64> {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    let mut length: u64 = 0;
    loop {
        let filled = fill(file, buffer)?;
        let words = filled.next_multiple_of(8);
        length += filled as u64;
        buffer[filled..words].fill(0);
        for word in buffer[..words].chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            state = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            state ^= state >> 29;
        }
        if filled < buffer.len() {
            return Ok(state ^ length);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// The extended attributes, sorted by name.
fn xattrs(path: &Path, buffer: &mut [u8]) -> io::Result<String> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a null byte, `buffer` has the size that is given.
    let size = unsafe { llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let mut names: Vec<Vec<u8>> = buffer[..length(size)?]
        .split_inclusive(|byte| *byte == 0)
        .map(<[u8]>::to_vec)
        .collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        // SAFETY: As above; the kernel ends each name in the list with a null byte.
        let size = unsafe {
            lgetxattr(
                path.as_ptr(),
                name.as_ptr().cast(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        let value = &buffer[..length(size)?];
        let name = name[..name.len() - 1].escape_ascii();
        text.push_str(&format!("{name}={} ", value.escape_ascii()));
    }
    Ok(if text.is_empty() {
        "-".into()
    } else {
        text.trim_end().into()
    })
}

fn length(size: isize) -> io::Result<usize> {
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

fn run(root: &OsStr) -> io::Result<()> {
    let meta = fs::symlink_metadata(root)?;
    let mut walk = Walk {
        root: root.as_bytes().to_vec(),
        device: meta.dev(),
        buffer: vec![0; BUFFER],
        groups: HashMap::new(),
        out: BufWriter::new(io::stdout().lock()),
    };
    walk.entry(Path::new(root), "dir", &meta)?;
    walk.directory(Path::new(root))?;
    walk.out.flush()
}

fn main() -> ExitCode {
    let Some(root) = std::env::args_os().nth(1) else {
        eprintln!("usage: manifest DIR");
        return ExitCode::from(2);
    };
    match run(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manifest: {error}");
            ExitCode::FAILURE
        }
    }
}
