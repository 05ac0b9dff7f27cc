//! A short run of the fuzzer; the long one is `cargo run --release --example fuzz_inputs`.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

mod fuzz;

use fuzz::{TARGETS, fuzz};

#[test]
fn no_input_makes_the_program_panic() {
    const EXECUTIONS: u64 = 20_000;
    let scratch = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let scratch = scratch.unwrap();
    for (target, tenths) in TARGETS {
        let found = fuzz(target, EXECUTIONS * tenths / 10, 11, scratch.path()).unwrap();
        let name = target.name();
        assert!(found.panics.is_empty(), "{name}: {:#?}", found.panics);
        // The fuzzer itself works: it gets through, and it is refused in many ways.
        assert!(found.accepted > found.executions / 100, "{name}: {found:?}");
        assert!(found.answers >= 5, "{name}: {found:?}");
    }
}
