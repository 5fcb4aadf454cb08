// SPDX-License-Identifier: GPL-2.0

//! The tests, a file for each concern.

use crate::runner::Test;

/// A test function of the module in which this stands.
macro_rules! test {
    ($name:ident) => {
        crate::runner::Test::new(module_path!(), stringify!($name), $name)
    };
}

mod compat;
mod copyup;
mod differential;
mod dropin;
mod events;
mod failure;
mod file;
mod flags;
mod fuse;
mod fuzz;
mod idmapped;
mod inode;
mod io;
mod labels;
mod locks;
mod lookup;
mod module;
mod mount;
mod names;
mod permission;
mod privileges;
mod quota;
mod races;
mod readdir;
mod redirect;
mod security;
mod seen;
mod selinux;
mod stress;
mod times;
mod unmount;
mod userns;
mod uuid;
mod volatile;
mod xattrs;
mod xino;

pub fn all() -> Vec<Test> {
    [
        mount::tests(),
        lookup::tests(),
        copyup::tests(),
        names::tests(),
        readdir::tests(),
        redirect::tests(),
        inode::tests(),
        xino::tests(),
        permission::tests(),
        xattrs::tests(),
        idmapped::tests(),
        security::tests(),
        userns::tests(),
        events::tests(),
        file::tests(),
        io::tests(),
        labels::tests(),
        selinux::tests(),
        locks::tests(),
        privileges::tests(),
        quota::tests(),
        times::tests(),
        flags::tests(),
        compat::tests(),
        differential::tests(),
        races::tests(),
        failure::tests(),
        volatile::tests(),
        uuid::tests(),
        seen::tests(),
        unmount::tests(),
        stress::tests(),
        module::tests(),
        dropin::tests(),
        fuse::tests(),
        fuzz::tests(),
    ]
    .concat()
}
