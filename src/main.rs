//! The `recall` command line.
fn main() {}
