// SPDX-License-Identifier: GPL-2.0
//
// A write wants the lock of the inode that is written to, not one of any inode: which
// one it is can be seen of the guard, and is compared.
//
// error: error[E0308]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{file_ops::Iocb, lock::*},
};
use kernel::{cred::Credential, fs::File, iov::IovIterSource, prelude::*};

#[expect(dead_code)]
fn case(
    ctx: &mut Context<InodeLock>,
    iocb: Iocb<'_, Rovl>,
    (backing, cred): (&File, &Credential),
    from: &mut IovIterSource<'_>,
) -> Result<usize> {
    iocb.write(ctx, backing, cred, from)
}
