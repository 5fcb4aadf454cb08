// SPDX-License-Identifier: GPL-2.0

//! The module's parsers of what is on disk, compiled for the host.
//!
//! `cargo test` runs tables of values. Built for fuzzing (`tools/fuzz.py`), this is a
//! libFuzzer program for the target that `ROVL_FUZZ_TARGET` names; built otherwise, it
//! prints the names of the targets.

#![cfg_attr(fuzzing, no_main)]

#[path = "../../../format/mod.rs"]
#[allow(dead_code, reason = "the module uses what is not used here")]
mod format;
#[cfg_attr(not(any(fuzzing, test)), allow(dead_code))]
mod targets;
#[cfg(test)]
mod tests;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    use std::sync::OnceLock;

    static TARGET: OnceLock<targets::Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("ROVL_FUZZ_TARGET").expect("ROVL_FUZZ_TARGET");
        targets::find(&name).expect("no such target")
    });
    (target.run)(data);
});

#[cfg(not(fuzzing))]
fn main() {
    for target in targets::ALL {
        println!("{}", target.name);
    }
}
