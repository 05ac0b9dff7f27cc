//! The clock: how long things took, for progress, provenance and the pace of flushing. Nothing
//! that is measured depends on it.
//!
//! This program reads it here and nowhere else, so that a test can put a clock in its place that
//! jumps (`tests/clock.rs`); the progress bar of a terminal, a library's, has its own. The time of
//! day is never read.

use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Time since the first reading, on the system's monotonic clock.
fn monotonic() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

static CLOCK: RwLock<fn() -> Duration> = RwLock::new(monotonic);

/// Puts another clock in place of the system's, for the whole process; for tests.
pub fn replace(clock: fn() -> Duration) {
    *CLOCK.write().unwrap_or_else(PoisonError::into_inner) = clock;
}

/// A reading of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Reads the clock.
    #[must_use]
    pub fn now() -> Self {
        let clock = *CLOCK.read().unwrap_or_else(PoisonError::into_inner);
        Moment(clock())
    }

    /// Time since this reading; zero if the clock has jumped back beyond it.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Moment::now().0.saturating_sub(self.0)
    }
}
