//! The `recall` command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    recall_capacity::cli::run()
}
