//! The folder of the file. It must belong to the gateway's user alone, like the cache of compiled code.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// The name of the file in the folder.
const NAME: &str = "state.redb";

/// Creates the folder if it does not exist, and opens the file in it.
///
/// # Errors
/// The reason why the folder or the file cannot be trusted or opened, as a sentence.
pub(super) fn open(folder: &Path) -> Result<File, String> {
    let told = |what: &str, reason: String| format!("{what} {}: {reason}", folder.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| told("cannot create", error.to_string()))?;
    let found = fs::symlink_metadata(folder).map_err(|error| told("cannot look at", error.to_string()))?;
    if found.is_symlink() {
        return Err(told("cannot use", "it is a symbolic link; name the folder itself".to_owned()));
    }
    check(&found, 0o700).map_err(|reason| told("cannot use", reason))?;
    // A symbolic link in place of the file is an error, and opening a pipe does not block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options
        .open(folder.join(NAME))
        .map_err(|error| told("cannot open the file in", error.to_string()))?;
    let found = file.metadata().map_err(|error| told("cannot look at the file in", error.to_string()))?;
    if !found.is_file() {
        return Err(told("cannot use the file in", "it is not a regular file".to_owned()));
    }
    check(&found, 0o600).map_err(|reason| told("cannot use the file in", reason))?;
    Ok(file)
}

/// Checks that a file or folder belongs to this user and that other users have no permissions on it.
fn check(found: &Metadata, mode: u32) -> Result<(), String> {
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(format!("other users have permissions on it; its mode must be 0{mode:o}"));
    }
    Ok(())
}
