// SPDX-License-Identifier: GPL-2.0
//
// A read or write is run once: an asynchronous one may be gone when it has been.
//
// error: error[E0382]
#![allow(unused_imports)]

use crate::{
    layers::Rovl,
    vfs::{file_ops::Iocb, lock::*},
};
use kernel::{cred::Credential, fs::File, iov::IovIterDest, prelude::*};

#[expect(dead_code)]
fn case(
    ctx: &mut Context<Nothing>,
    iocb: Iocb<'_, Rovl>,
    (backing, cred): (&File, &Credential),
    to: &mut IovIterDest<'_>,
) -> Result<usize> {
    iocb.read(ctx, backing, cred, to)?;
    iocb.read(ctx, backing, cred, to)
}
