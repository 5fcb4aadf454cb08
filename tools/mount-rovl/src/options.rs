// SPDX-License-Identifier: GPL-2.0

//! The option string, and what is to be done with each option.

use crate::lowerdir::{unescape, Malformed, Split};
use rustix::mount::{MountAttrFlags, MountFlags, MountPropagationFlags};

/// The longest value of an option that the kernel takes, in bytes.
pub const LONGEST: usize = 255;

/// An option for the filesystem or its superblock.
#[derive(Debug, PartialEq, Eq)]
pub enum Setting {
    Flag(Vec<u8>),
    /// A value that the kernel takes as it is written.
    String(Vec<u8>, Vec<u8>),
    /// A directory: the key, the value for the kernel, and the bare path.
    Directory(Vec<u8>, Vec<u8>, Vec<u8>),
}

/// What the options ask for.
#[derive(Debug)]
pub struct Plan {
    /// In the order in which they were given.
    pub settings: Vec<Setting>,
    /// The value of `lowerdir`, if all lower layers are of it and the kernel takes it at once.
    pub list: Option<Vec<u8>>,
    /// Attributes of the new mount.
    pub attributes: MountAttrFlags,
    /// The same, and the superblock's, for mount(2).
    pub flags: MountFlags,
    pub remount: bool,
    /// To be set after the mount, in this order.
    pub propagation: Vec<MountPropagationFlags>,
}

/// Splits at commas that no backslash and no quotes of a security context
/// protect.
fn split_options(options: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    let (mut start, mut escaped, mut quoted) = (0, false, false);
    for (i, &c) in options.iter().enumerate() {
        match c {
            b',' if !escaped && !quoted => {
                all.push(&options[start..i]);
                start = i + 1;
            }
            b'"' if !escaped => {
                let before = &options[start..i];
                quoted = !quoted && before.ends_with(b"context=");
            }
            _ => {}
        }
        escaped = c == b'\\' && !escaped;
    }
    all.push(&options[start..]);
    all.retain(|option| !option.is_empty());
    all
}

impl Setting {
    pub fn key(&self) -> &[u8] {
        match self {
            Setting::Flag(key) | Setting::String(key, _) | Setting::Directory(key, ..) => key,
        }
    }

    /// Whether files are shown with the same names, contents, owners, modes and labels without
    /// it, so that it can be left out: how it is done, or what is to be kept in new objects.
    /// What is not known is not harmless.
    pub fn is_harmless(&self) -> bool {
        const KEYS: [&str; 16] = [
            "fsync",
            "noacl",
            "static_nlink",
            "fast_ino",
            "writeback",
            "timeout",
            "threaded",
            "max_idle_threads",
            "allow_other",
            "allow_root",
            "fsname",
            "metacopy",
            "redirect_dir",
            "index",
            "nfs_export",
            "xino",
        ];
        match self {
            Setting::Directory(..) => false,
            // Owners and modes are not those of the files, but in an attribute.
            Setting::String(key, value) if key == b"xattr_permissions" => value == b"0",
            Setting::Flag(key) | Setting::String(key, _) => {
                KEYS.iter().any(|k| k.as_bytes() == key)
            }
        }
    }
}

/// Options that are for mount(8) or for fstab.
fn is_for_others(key: &[u8]) -> bool {
    const KEYS: [&str; 15] = [
        "defaults", "auto", "noauto", "user", "nouser", "users", "nousers", "owner", "noowner",
        "group", "nogroup", "_netdev", "nofail", "silent", "loud",
    ];
    KEYS.iter().any(|k| k.as_bytes() == key)
        || key.starts_with(b"x-")
        || key.starts_with(b"X-")
        || key == b"comment"
}

impl Plan {
    pub fn new(options: &[u8]) -> Result<Self, Vec<u8>> {
        let mut plan = Plan {
            settings: Vec::new(),
            list: None,
            attributes: MountAttrFlags::empty(),
            flags: MountFlags::empty(),
            remount: false,
            propagation: Vec::new(),
        };
        for option in split_options(options) {
            match option.iter().position(|c| *c == b'=') {
                Some(i) => plan.add_value(&option[..i], &option[i + 1..])?,
                None => plan.add_flag(option),
            }
        }
        Ok(plan)
    }

    /// Whether the filesystem is to be given this flag.
    pub fn has_flag(&self, key: &[u8]) -> bool {
        let is_it = |s: &Setting| matches!(s, Setting::Flag(k) if k == key);
        self.settings.iter().any(is_it)
    }

    fn add_value(&mut self, key: &[u8], value: &[u8]) -> Result<(), Vec<u8>> {
        if is_for_others(key) {
            return Ok(());
        }
        let directory = |key: &[u8], for_kernel: &[u8], written: &[u8]| {
            let bare = unescape(written).collect();
            Setting::Directory(key.to_vec(), for_kernel.to_vec(), bare)
        };
        match key {
            b"lowerdir" => {
                self.settings
                    .retain(|s| !matches!(s.key(), b"lowerdir" | b"lowerdir+"));
                // The value as a whole, where the kernel takes it.
                self.list = (value.len() <= LONGEST).then(|| value.to_vec());
                let mut layers = Vec::new();
                for layer in Split::new(value) {
                    match layer {
                        Ok(layer) => {
                            let bare: Vec<u8> = unescape(layer).collect();
                            layers.push(directory(b"lowerdir+", &bare, layer));
                        }
                        // The kernel's own overlay has them.
                        Err(Malformed::DataOnly) if value.len() <= LONGEST => {
                            layers = vec![directory(key, value, value)];
                            break;
                        }
                        Err(e) => return Err(malformed(e, value)),
                    }
                }
                self.settings.append(&mut layers);
            }
            b"lowerdir+" | b"datadir+" => {
                self.list = None;
                let bare: Vec<u8> = unescape(value).collect();
                self.settings.push(directory(key, &bare, value));
            }
            // These the kernel unescapes.
            b"upperdir" | b"workdir" => self.settings.push(directory(key, value, value)),
            _ => {
                let value = match value {
                    [b'"', inner @ .., b'"'] if key.ends_with(b"context") => inner,
                    value => value,
                };
                self.settings
                    .push(Setting::String(key.to_vec(), value.to_vec()));
            }
        }
        Ok(())
    }

    fn add_flag(&mut self, key: &[u8]) {
        use MountAttrFlags as A;
        use MountFlags as F;
        let text = std::str::from_utf8(key).unwrap_or("");
        // Attributes of the mount: what to clear, and what to set.
        let change = match text {
            "ro" => (A::empty(), A::MOUNT_ATTR_RDONLY, F::RDONLY),
            "rw" => (A::MOUNT_ATTR_RDONLY, A::empty(), F::RDONLY),
            "nosuid" => (A::empty(), A::MOUNT_ATTR_NOSUID, F::NOSUID),
            "suid" => (A::MOUNT_ATTR_NOSUID, A::empty(), F::NOSUID),
            "nodev" => (A::empty(), A::MOUNT_ATTR_NODEV, F::NODEV),
            "dev" => (A::MOUNT_ATTR_NODEV, A::empty(), F::NODEV),
            "noexec" => (A::empty(), A::MOUNT_ATTR_NOEXEC, F::NOEXEC),
            "exec" => (A::MOUNT_ATTR_NOEXEC, A::empty(), F::NOEXEC),
            "noatime" => (A::MOUNT_ATTR_STRICTATIME, A::MOUNT_ATTR_NOATIME, F::NOATIME),
            "atime" => (A::MOUNT_ATTR_NOATIME, A::empty(), F::NOATIME),
            "strictatime" => (
                A::MOUNT_ATTR_NOATIME,
                A::MOUNT_ATTR_STRICTATIME,
                F::STRICTATIME,
            ),
            "nostrictatime" => (A::MOUNT_ATTR_STRICTATIME, A::empty(), F::STRICTATIME),
            "nodiratime" => (A::empty(), A::MOUNT_ATTR_NODIRATIME, F::NODIRATIME),
            "diratime" => (A::MOUNT_ATTR_NODIRATIME, A::empty(), F::NODIRATIME),
            // The kernel's default.
            "relatime" => {
                let others = A::MOUNT_ATTR_NOATIME | A::MOUNT_ATTR_STRICTATIME;
                (others, A::empty(), F::empty())
            }
            "norelatime" => (A::empty(), A::empty(), F::empty()),
            "nosymfollow" => (
                A::empty(),
                A::MOUNT_ATTR_NOSYMFOLLOW,
                F::from_bits_retain(256),
            ),
            "symfollow" => (
                A::MOUNT_ATTR_NOSYMFOLLOW,
                A::empty(),
                F::from_bits_retain(256),
            ),
            "remount" => return self.remount = true,
            _ => return self.add_other_flag(key, text),
        };
        let (clear, set, flag) = change;
        self.attributes = (self.attributes - clear) | set;
        self.flags.set(flag, !set.is_empty());
        if matches!(text, "ro" | "rw") {
            self.settings.push(Setting::Flag(key.to_vec()));
        }
    }

    /// Propagation, and what the superblock or the filesystem knows.
    fn add_other_flag(&mut self, key: &[u8], text: &str) {
        use MountPropagationFlags as P;
        let (kind, recursive) = match text.strip_prefix('r') {
            Some(kind) => (kind, P::REC),
            None => (text, P::empty()),
        };
        let kind = match kind {
            "private" => P::PRIVATE,
            "shared" => P::SHARED,
            "slave" => P::DOWNSTREAM,
            "unbindable" => P::UNBINDABLE,
            _ => {
                match text {
                    "sync" => self.flags |= MountFlags::SYNCHRONOUS,
                    "dirsync" => self.flags |= MountFlags::DIRSYNC,
                    "lazytime" => self.flags |= MountFlags::LAZYTIME,
                    _ => {}
                }
                if !is_for_others(key) {
                    self.settings.push(Setting::Flag(key.to_vec()));
                }
                return;
            }
        };
        self.propagation.push(kind | recursive);
    }
}

fn malformed(what: Malformed, list: &[u8]) -> Vec<u8> {
    let what = match what {
        Malformed::Empty => "the name of a layer is empty",
        Malformed::DataOnly => {
            "data-only layers ('::') in a list of more than 255 bytes are not supported"
        }
        Malformed::Backslash => "nothing follows the last backslash",
    };
    let mut text = format!("lowerdir: {what}: ").into_bytes();
    text.extend_from_slice(list);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(options: &str) -> Plan {
        Plan::new(options.as_bytes()).unwrap()
    }

    fn lower(options: &str) -> Vec<String> {
        plan(options)
            .settings
            .into_iter()
            .filter_map(|s| match s {
                Setting::Directory(key, value, bare) if key == b"lowerdir+" => {
                    assert_eq!(value, bare);
                    Some(String::from_utf8(bare).unwrap())
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn layers_one_by_one() {
        assert_eq!(lower("lowerdir=/a:/b:c"), ["/a", "/b", "c"]);
        assert_eq!(lower("rw,lowerdir=/a,upperdir=/u"), ["/a"]);
        let many: Vec<String> = (0..500).map(|i| format!("/some/where/{i}")).collect();
        assert_eq!(lower(&format!("lowerdir={}", many.join(":"))), many);
    }

    #[test]
    fn escapes() {
        assert_eq!(
            lower(r"lowerdir=/a\:b:/c\,d:/e\\f"),
            ["/a:b", "/c,d", r"/e\f"]
        );
        assert_eq!(lower(r"lowerdir=/\\\::/x\\:/y"), [r"/\:", r"/x\", "/y"]);
        assert_eq!(lower(r"lowerdir+=/a:b\,c"), ["/a:b,c"]);
    }

    #[test]
    fn the_last_list_counts() {
        assert_eq!(lower("lowerdir=/a:/b,lowerdir=/c"), ["/c"]);
        assert_eq!(lower("lowerdir+=/a,lowerdir+=/b"), ["/a", "/b"]);
    }

    #[test]
    fn malformed_lists() {
        for list in ["", ":", ":/a", "/a:", "/a\\"] {
            let options = format!("lowerdir={list}");
            assert!(Plan::new(options.as_bytes()).is_err(), "{list:?}");
        }
        let long = format!("lowerdir=/a::/{}", "x".repeat(LONGEST));
        let said = Plan::new(long.as_bytes()).unwrap_err();
        assert!(String::from_utf8(said).unwrap().contains("data-only"));
    }

    #[test]
    fn lists_as_they_are() {
        let list = |options: &str| plan(options).list.map(|l| String::from_utf8(l).unwrap());
        assert_eq!(list(r"lowerdir=/a\:b:/c").as_deref(), Some(r"/a\:b:/c"));
        assert_eq!(list("lowerdir=/a,lowerdir=/b").as_deref(), Some("/b"));
        assert_eq!(list("lowerdir=/a,lowerdir+=/b"), None);
        assert_eq!(list("lowerdir=/a,datadir+=/b"), None);
        assert_eq!(list(&format!("lowerdir=/{}", "x".repeat(LONGEST))), None);
        // Data-only layers are the kernel's to take or to refuse.
        let value = b"/a::/data".to_vec();
        let whole = Setting::Directory(b"lowerdir".into(), value.clone(), value);
        assert_eq!(plan("lowerdir=/x,lowerdir=/a::/data").settings, [whole]);
    }

    #[test]
    fn upper_and_work_keep_their_escapes() {
        let plan = plan(r"upperdir=/u\,v,workdir=/w:x");
        let expected = [
            Setting::Directory(b"upperdir".into(), br"/u\,v".into(), b"/u,v".into()),
            Setting::Directory(b"workdir".into(), b"/w:x".into(), b"/w:x".into()),
        ];
        assert_eq!(plan.settings, expected);
    }

    #[test]
    fn generic_options() {
        use MountAttrFlags as A;
        let p = plan("ro,nosuid,nodev,noatime,defaults,x-foo=1,nofail,private");
        let all = A::MOUNT_ATTR_RDONLY
            | A::MOUNT_ATTR_NOSUID
            | A::MOUNT_ATTR_NODEV
            | A::MOUNT_ATTR_NOATIME;
        assert_eq!(p.attributes, all);
        assert_eq!(p.settings, [Setting::Flag(b"ro".into())]);
        assert_eq!(p.propagation, [MountPropagationFlags::PRIVATE]);
        let p = plan("ro,noexec,noatime,relatime,exec,rw,rshared");
        assert_eq!(p.attributes, A::empty());
        assert!(!p.flags.contains(MountFlags::RDONLY));
        let both = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
        assert_eq!(p.propagation, [both]);
    }

    #[test]
    fn others_go_to_the_kernel() {
        let plan = plan("index=off,volatile,lazytime,,context=\"a,b\"");
        let expected = [
            Setting::String(b"index".into(), b"off".into()),
            Setting::Flag(b"volatile".into()),
            Setting::Flag(b"lazytime".into()),
            Setting::String(b"context".into(), b"a,b".into()),
        ];
        assert_eq!(plan.settings, expected);
        assert!(!plan.remount);
    }

    #[test]
    fn what_cannot_be_left_out() {
        let harmless = |options: &str| plan(options).settings.iter().all(Setting::is_harmless);
        for option in [
            "fsync=0",
            "noacl",
            "static_nlink",
            "metacopy=on",
            "xattr_permissions=0",
            "timeout=5",
        ] {
            assert!(harmless(option), "{option}");
        }
        for option in [
            "lowerdir=/a",
            "upperdir=/u",
            "workdir=/w",
            "ro",
            "userxattr",
            "context=x",
            "uidmapping=0:1:2",
            "gidmapping=0:1:2",
            "squash_to_root",
            "squash_to_uid=1",
            "xattr_permissions=1",
            "xattr_permissions=2",
            "xattr_permissions",
            "verity=require",
            "smackfsroot=x",
            "noxattrs=1",
            "anything",
        ] {
            assert!(!harmless(option), "{option}");
        }
        let plan = plan("userxattr,noacl,context=x");
        assert!(plan.has_flag(b"userxattr") && plan.has_flag(b"noacl"));
        assert!(!plan.has_flag(b"context"));
    }

    #[test]
    fn remount() {
        let plan = plan("remount,ro,lowerdir=/a");
        assert!(plan.remount);
        assert!(plan.flags.contains(MountFlags::RDONLY));
    }
}
