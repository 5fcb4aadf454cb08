// SPDX-License-Identifier: GPL-2.0

//! A plan as a shell script, to be run by hand.

use super::object::{mtime, Kind, Object};
use super::word::Name;
use super::Plan;
use crate::sys::FileType;

/// For a shell: quoted, with `printf` where there is more than plain text.
fn quoted(bytes: &[u8]) -> String {
    if bytes
        .iter()
        .all(|b| b.is_ascii_graphic() && *b != b'\'' || *b == b' ')
    {
        return format!("'{}'", String::from_utf8_lossy(bytes));
    }
    let octal = bytes.iter().map(|b| format!("\\{b:03o}"));
    let octal = octal.collect::<Vec<_>>().concat();
    format!("\"$(printf '{octal}')\"")
}

fn at(layer: usize, path: &Name) -> String {
    quoted(&[dir_of(layer).as_bytes(), b"/", &path.0].concat())
}

fn dir_of(layer: usize) -> String {
    match layer {
        0 => "upper".into(),
        n => format!("lower{n}"),
    }
}

/// The commands that lay out one object; `layer` for a plan's `object::build`.
fn make(object: &Object) -> String {
    let path = at(object.layer, &object.path);
    let write = |len: usize, tag: u64| format!("seq -f '{tag} %g' 100000 | head -c {len}");
    let mut lines = Vec::new();
    if let Some(slash) = object.path.0.iter().rposition(|b| *b == b'/') {
        let parent = Name::new(&object.path.0[..slash]);
        lines.push(format!("mkdir -p {}", at(object.layer, &parent)));
    }
    let mut owned = true;
    match &object.kind {
        Kind::File { len, tag } => lines.push(format!("{} > {path}", write(*len, *tag))),
        Kind::Sparse { len, tag } => {
            lines.push(format!("truncate -s {len} {path}"));
            lines.push(format!("{} >> {path}", write(100, *tag)));
        }
        Kind::Dir => lines.push(format!("mkdir {path}")),
        Kind::Symlink { target } => {
            lines.push(format!("ln -s -- {} {path}", quoted(&target.0)));
        }
        Kind::Special { kind, major, minor } => lines.push(match kind {
            FileType::Fifo => format!("mkfifo {path}"),
            FileType::CharacterDevice => format!("mknod {path} c {major} {minor}"),
            FileType::BlockDevice => format!("mknod {path} b {major} {minor}"),
            _ => format!("python3 -c 'import os,sys;os.mknod(sys.argv[1],0o140644)' {path}"),
        }),
        Kind::Link { to } => {
            owned = false;
            lines.push(format!("ln {} {path}", at(object.layer, to)));
        }
        Kind::Whiteout => {
            owned = false;
            lines.push(format!("mknod {path} c 0 0"));
        }
        Kind::XattrWhiteout => {
            owned = false;
            let layer = dir_of(object.layer);
            lines.push(format!(
                "touch {path}; setfattr -n trusted.overlay.whiteout -v y {path}"
            ));
            lines.push(format!(
                "setfattr -n trusted.overlay.opaque -v x \"$(dirname {path})\" {layer}"
            ));
        }
        Kind::Opaque => lines.push(format!(
            "mkdir -p {path}; setfattr -n trusted.overlay.opaque -v y {path}"
        )),
    }
    if owned {
        let (uid, gid) = object.owner;
        lines.push(format!("chown -h {uid}:{gid} {path}"));
        if !matches!(object.kind, Kind::Symlink { .. }) {
            lines.push(format!("chmod {:04o} {path}", object.mode.0));
        }
        for (name, value) in &object.xattrs {
            let hex = value.0.iter().map(|b| format!("{b:02x}"));
            let hex = hex.collect::<Vec<_>>().concat();
            lines.push(format!("setfattr -n {name} -v 0x{hex} {path}"));
        }
    }
    lines.join("\n")
}

pub fn script(plan: &Plan) -> String {
    let mut lines = vec![
        "#!/bin/sh".to_string(),
        "# In an empty directory of an ext4, as root. FSTYPE is rovl, overlay, or plain".into(),
        "# for a plain copy of the merged tree; ROVL_TESTS is the program of selftests.".into(),
        "FSTYPE=${FSTYPE:-rovl}".into(),
        "mkdir upper work m plain".into(),
    ];
    for layer in 1..=plan.lowers {
        lines.push(format!("mkdir {}", dir_of(layer)));
    }
    for object in &plan.objects {
        lines.push(make(object));
    }
    for layer in 0..=plan.lowers {
        let time = mtime(layer);
        lines.push(format!(
            "find {} -depth -exec touch -h -d @{time} {{}} +",
            dir_of(layer)
        ));
    }
    let lowers: Vec<String> = (1..=plan.lowers).map(dir_of).collect();
    let mut options = format!("lowerdir={},upperdir=upper,workdir=work", lowers.join(":"));
    for option in plan.options {
        options.push_str(&format!(",{option}"));
    }
    lines.push("mounted=$FSTYPE root=m; [ $FSTYPE = plain ] && mounted=overlay root=plain".into());
    lines.push(format!(
        "export REMOUNT=\"umount m; mount -t $mounted -o {options} none m\""
    ));
    lines.push(format!("mount -t $mounted -o {options} none m"));
    lines.push("[ $FSTYPE = plain ] && cp -a --no-preserve=links m/. plain".into());
    lines.push("${ROVL_TESTS:-rovl_tests} play $root <<'END'".into());
    lines.extend(plan.steps.iter().map(|step| step.to_string()));
    lines.push("END".into());
    lines.push("find $root | sort".into());
    lines.push("umount m".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_read_otherwise_is_quoted() {
        assert_eq!(quoted(b"a b"), "'a b'");
        assert_eq!(quoted(b"it's"), "\"$(printf '\\151\\164\\047\\163')\"");
        assert_eq!(quoted(b"\xff"), "\"$(printf '\\377')\"");
    }
}
