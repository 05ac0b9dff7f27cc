//! The command line: arguments in, a printed answer and an exit code out.
//!
//! One file per sub-command. Answers go to standard output, everything else (errors, progress,
//! comparisons) to standard error. Exit codes are in [`exit`].

mod annotations;
mod baseline;
pub mod claims;
pub mod exit;
mod interrupt;
pub mod mutate;
pub mod output;
pub mod predict;
pub mod replay;
pub mod reproduce;
pub mod setting;
pub mod simulate;
pub mod study;
pub mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// Arguments of the program.
#[derive(Debug, Parser)]
#[command(
    name = "recall",
    version,
    about = "Factual recall in one-layer transformers: simulation beside theory",
    after_help = "Exit codes: 0 done; 1 operational error; 2 wrong usage; 10 claim refuted; 11 inconclusive under --strict; 12 incomplete run; 13 drift from the baseline; 14 a wrong formula supported; 130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train by gradient descent and measure attention, recall and noise, averaged over trials.
    Simulate(simulate::Args),
    /// Print what the theory says about a setting; simulates nothing.
    Predict(predict::Args),
    /// Run exact gradient descent on the literal inputs of a case file.
    Replay(replay::Args),
    /// Run all experiments of a profile and write the report; a killed run resumes.
    Reproduce(reproduce::Args),
    /// Compare formulas and simulation on random configurations.
    Study(Box<study::Args>),
    /// Judge the stored records of a report again; simulates nothing.
    Verify(verify::Args),
    /// List the claims, what tests them and within which margin, as a Markdown table.
    Claims(claims::Args),
    /// Judge wrong formulas by the stored records: what is refuted, what is not; simulates nothing.
    Mutate(mutate::Args),
}

/// Why a sub-command gave up.
#[derive(Debug)]
pub enum Failure {
    /// Options that contradict each other or are out of range: exit code 2.
    Usage(String),
    /// Anything that went wrong with good options: exit code 1.
    Error(String),
}

/// Result of a sub-command: an exit code of [`exit`].
pub type Answer = Result<u8, Failure>;

/// Runs the program on its own arguments.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors of kind zero; a closed stream is not worth a panic.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let (name, answer) = match cli.command {
        Command::Simulate(args) => ("simulate", simulate::run(&args)),
        Command::Predict(args) => ("predict", predict::run(&args)),
        Command::Replay(args) => ("replay", replay::run(&args)),
        Command::Reproduce(args) => ("reproduce", reproduce::run(&args)),
        Command::Study(args) => ("study", study::run(&args)),
        Command::Verify(args) => ("verify", verify::run(&args)),
        Command::Claims(args) => ("claims", claims::run(&args)),
        Command::Mutate(args) => ("mutate", mutate::run(&args)),
    };
    match answer {
        Ok(code) => ExitCode::from(code),
        Err(Failure::Error(text)) => {
            output::note(&format!("error: {text}"));
            ExitCode::from(exit::ERROR)
        }
        Err(Failure::Usage(text)) => {
            let mut command = Cli::command();
            command.build();
            let mut command = command
                .find_subcommand(name)
                .cloned()
                .unwrap_or_else(Cli::command);
            let _ = command.error(ErrorKind::ValueValidation, text).print();
            ExitCode::from(exit::USAGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Cli::command().debug_assert();
        // What clap itself checks in builds with debug assertions alone.
        for command in Cli::command().get_subcommands() {
            let mut names = std::collections::BTreeSet::new();
            for group in command.get_groups() {
                assert!(names.insert(group.get_id()), "{}", command.get_name());
            }
        }
    }
}
