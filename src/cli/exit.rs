//! Exit codes of the program. They are part of its interface: scripts branch on them.

/// Done; where something was checked, it held.
pub const OK: u8 = 0;
/// Operational error: a file cannot be read or written, its contents are wrong, the machine has
/// too little memory, training overflows, or a replay deviates from its reference.
pub const ERROR: u8 = 1;
/// Wrong usage: an unknown option, a missing one, or a value out of range. Nothing has run.
pub const USAGE: u8 = 2;
/// A claim was refuted.
pub const REFUTED: u8 = 10;
/// A claim stayed open although `--strict` asks for a decision.
pub const INCONCLUSIVE: u8 = 11;
/// The run ended before its last job; what is finished is kept.
pub const INCOMPLETE: u8 = 12;
/// The run differs from the baseline by more than chance.
pub const DRIFT: u8 = 13;
/// A wrong formula was supported.
pub const MUTANT: u8 = 14;
/// Interrupted from the keyboard (SIGINT); finished jobs are kept.
pub const INTERRUPTED: u8 = 130;
/// Asked to end (SIGTERM); finished jobs are kept.
pub const TERMINATED: u8 = 143;
