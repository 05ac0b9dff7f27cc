//! Signals that ask the program to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::exit;

/// Set once a signal asks for the end.
#[derive(Debug)]
pub(super) struct Interrupt {
    asked: Arc<AtomicBool>,
    code: Arc<AtomicUsize>,
}

impl Interrupt {
    /// From now on the first SIGINT or SIGTERM only asks for the end; the second ends the program
    /// at once, which loses no finished trial either.
    ///
    /// # Errors
    /// If the system refuses to register a signal.
    pub(super) fn listen() -> io::Result<Self> {
        let this = Interrupt {
            asked: Arc::default(),
            code: Arc::default(),
        };
        for (signal, code) in [(SIGINT, exit::INTERRUPTED), (SIGTERM, exit::TERMINATED)] {
            // The order matters: the flag is looked at before it is set.
            flag::register_conditional_shutdown(signal, i32::from(code), this.asked.clone())?;
            flag::register_usize(signal, this.code.clone(), usize::from(code))?;
            flag::register(signal, this.asked.clone())?;
        }
        // A file that outgrows its limit is an error of the write, as a full disk is, not the end.
        #[cfg(unix)]
        flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        Ok(this)
    }

    /// The flag, for [`crate::runner::RunOptions::stop`].
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// Exit code that the signal stands for.
    pub(super) fn code(&self) -> u8 {
        u8::try_from(self.code.load(Ordering::Relaxed)).unwrap_or(exit::INTERRUPTED)
    }
}
