//! Files that appear whole or not at all.

use std::io::{self, Write as _};
use std::path::Path;

/// Writes a temporary file into `dir`, complete and synced but under a hidden name; `persist` it to
/// make it appear. Dropped, it leaves nothing behind.
///
/// # Errors
/// What the system says.
pub(crate) fn stage(dir: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".recall-").suffix(".tmp");
    #[cfg(unix)]
    {
        // Ordinary permissions, less the umask, instead of a temporary file's private ones.
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Replaces a file in one step.
///
/// # Errors
/// What the system says; the old contents are then untouched.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    stage(dir, bytes)?.persist(path).map_err(|e| e.error)?;
    Ok(())
}
