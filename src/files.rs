//! Files that appear whole or not at all, with no more permissions than needed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Temporary files bear this prefix and suffix.
const PREFIX: &str = ".recall-";
const SUFFIX: &str = ".tmp";

/// Whatever the umask: nobody but the owner writes, nobody executes.
#[cfg(unix)]
const FILE_MODE: u32 = 0o644;
#[cfg(unix)]
const DIRECTORY_MODE: u32 = 0o755;

/// Options that open a file for writing with minimal permissions, if it is made now.
pub(crate) fn options() -> OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(FILE_MODE);
    }
    options
}

/// Makes a directory and those above it, where absent.
///
/// # Errors
/// What the system says.
pub(crate) fn create_dir_all(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(DIRECTORY_MODE);
    }
    builder.create(dir)
}

/// Writes a temporary file into `dir`, complete and synced but under a hidden name; `persist` it to
/// make it appear. Dropped, it leaves nothing behind; killed, it leaves a file that [`sweep`]
/// removes.
///
/// # Errors
/// What the system says.
pub(crate) fn stage(dir: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // Those of an ordinary file instead of a temporary file's private ones.
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(FILE_MODE));
    }
    let mut file = builder.tempfile_in(dir)?;
    // Tells `sweep` that somebody still writes; where locks do not exist, nothing is swept.
    let _ = file.as_file().try_lock();
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Removes temporary files that killed processes have left in a directory: those that no process
/// holds locked. Best effort: what stays is in nobody's way.
pub(crate) fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        let regular = entry.file_type().is_ok_and(|t| t.is_file());
        if ours
            && regular
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
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
