//! The files of the cache: their ownership and permissions, reading and writing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use witgate_config::file;

/// Length of the key, in bytes.
const KEY: usize = 32;

/// The largest entry that is read, in bytes: slightly more than the largest code that compilation may produce.
const ENTRY: u64 = (512 << 20) + 4096;

/// Creates the folder if it does not exist, and checks that no other user has access to it.
///
/// # Errors
/// The reason why the folder cannot be trusted, as text.
pub(super) fn prepare(folder: &Path) -> Result<(), String> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) => return Err(format!("it cannot be created: {error}")),
    }
    let found = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
    if found.is_symlink() {
        return Err("it is a symbolic link; name the folder itself".to_owned());
    }
    check(&found, 0o700)
}

/// Checks that a file or folder belongs to this user and that other users have no permissions on it.
fn check(found: &fs::Metadata, mode: u32) -> Result<(), String> {
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(format!("other users have permissions on it; its mode must be 0{mode:o}"));
    }
    Ok(())
}

/// The path of the key file, which is beside the folder and not in it.
///
/// # Errors
/// The folder has no name.
pub(super) fn key_path(folder: &Path) -> Result<PathBuf, String> {
    let name = folder.file_name().ok_or("it has no name")?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".key");
    Ok(folder.with_file_name(hidden))
}

/// The key of a folder, generated at its first use.
///
/// # Errors
/// The reason why the key cannot be read or trusted, as text.
pub(super) fn key(folder: &Path) -> Result<[u8; KEY], String> {
    let path = key_path(folder)?;
    let fault = |reason: String| format!("its key {}: {reason}", path.display());
    let mut fresh = [0; KEY];
    aws_lc_rs::rand::fill(&mut fresh).map_err(|_| fault("no random numbers are available".to_owned()))?;
    match create(&path).and_then(|mut file| file.write_all(&fresh)) {
        Ok(()) => return Ok(fresh),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fault(error.to_string())),
    }
    let mut file = file::open_unlinked(&path).map_err(|error| fault(error.to_string()))?;
    check(&file.metadata().map_err(|error| fault(error.to_string()))?, 0o600).map_err(fault)?;
    let mut key = [0; KEY];
    file.read_exact(&mut key).map_err(|error| fault(error.to_string()))?;
    Ok(key)
}

/// Reads a file that belongs to this user.
///
/// # Errors
/// The file does not exist, is a symbolic link, is accessible to other users, or cannot be read.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = file::open_unlinked(path)?;
    check(&file.metadata()?, 0o600)
        .map_err(|reason| io::Error::new(io::ErrorKind::PermissionDenied, reason))?;
    file::read_opened(&file, ENTRY)
}

/// Writes a file atomically: a reader sees either no file or the whole content.
///
/// # Errors
/// The disk is full, or the process lacks the permission to write.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    // An earlier process with the same process id may have left a temporary file behind.
    let _none = fs::remove_file(&aside);
    let written = create(&aside).and_then(|mut file| file.write_all(content));
    let placed = written.and_then(|()| fs::rename(&aside, path));
    if placed.is_err() {
        let _gone = fs::remove_file(&aside);
    }
    placed
}

/// Removes the oldest files until `keep` files are left.
pub(super) fn trim(folder: &Path, keep: usize) {
    let Ok(listing) = fs::read_dir(folder) else { return };
    let age = |entry: &fs::DirEntry| entry.metadata().and_then(|found| found.modified());
    let mut files: Vec<(SystemTime, PathBuf)> = listing
        .filter_map(Result::ok)
        .map(|entry| (age(&entry).unwrap_or(SystemTime::UNIX_EPOCH), entry.path()))
        .collect();
    files.sort();
    for (_, path) in files.iter().take(files.len().saturating_sub(keep)) {
        let _gone = fs::remove_file(path);
    }
}

fn create(path: &Path) -> io::Result<File> {
    // A symbolic link at the place of the file is an error.
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)
}
