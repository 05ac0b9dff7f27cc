//! Writing: a reader that closes its pipe ends the output, not the program; files appear whole
//! or not at all.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Failure;

/// Prints to standard output. A closed pipe counts as success: the reader has seen enough.
///
/// # Errors
/// If standard output cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Error(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard error, come what may of it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes a file by way of a temporary one beside it, so that readers see the old contents or
/// the new ones. Anything but a regular file (a device, a pipe) is written to directly.
///
/// # Errors
/// Names the file and what the system says.
pub fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    write("--out", path, text.as_bytes())
}

/// The same for the file of another option.
///
/// # Errors
/// Names the option, the file and what the system says.
pub fn write(option: &str, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    atomically(path, bytes).map_err(|e| Failure::Error(format!("{option} {}: {e}", path.display())))
}

fn atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = match path.metadata() {
        Ok(meta) if meta.is_file() => path.canonicalize()?, // a link keeps pointing where it did
        Ok(meta) if meta.is_dir() => return Err(io::Error::other("is a directory")),
        Ok(_) => return std::fs::write(path, bytes),
        Err(e) if e.kind() == ErrorKind::NotFound => path.to_path_buf(),
        Err(e) => return Err(e),
    };
    let parent = match target.parent() {
        Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
        _ => PathBuf::from("."),
    };
    if !parent.is_dir() {
        let text = format!("the directory {} does not exist", parent.display());
        return Err(io::Error::new(ErrorKind::NotFound, text));
    }
    crate::files::write(&target, bytes)
}
