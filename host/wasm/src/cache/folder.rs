//! The files of the cache: whose they are, and how they are read and written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use witgate_config::file;

/// Bytes of the key.
const KEY: usize = 32;

/// The largest entry that is read, in bytes: a little more than the largest code that is compiled.
const ENTRY: u64 = (512 << 20) + 4096;

/// Makes the folder if it is not there, and checks that it is ours alone.
///
/// # Errors
/// Why it cannot be trusted, in words.
pub(super) fn prepare(folder: &Path) -> Result<(), String> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) => return Err(format!("it cannot be made: {error}")),
    }
    let found = fs::symlink_metadata(folder).map_err(|error| error.to_string())?;
    if found.is_symlink() {
        return Err("it is a symbolic link; name the folder itself".to_owned());
    }
    check(&found, 0o700)
}

/// Whether a file or folder is this user's, with no rights for others.
fn check(found: &fs::Metadata, mode: u32) -> Result<(), String> {
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    if found.permissions().mode() & 0o077 != 0 {
        return Err(format!("others have rights on it; its mode must be 0{mode:o}"));
    }
    Ok(())
}

/// Where the key of a folder is: beside it, not in it.
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

/// The key of a folder, made at its first use.
///
/// # Errors
/// Why it cannot be read or trusted, in words.
pub(super) fn key(folder: &Path) -> Result<[u8; KEY], String> {
    let path = key_path(folder)?;
    let fault = |reason: String| format!("its key {}: {reason}", path.display());
    let mut fresh = [0; KEY];
    aws_lc_rs::rand::fill(&mut fresh).map_err(|_| fault("no random numbers are to be had".to_owned()))?;
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

/// Reads a file of ours.
///
/// # Errors
/// It is not there, is a symbolic link, is not ours alone, or cannot be read.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = file::open_unlinked(path)?;
    check(&file.metadata()?, 0o600)
        .map_err(|reason| io::Error::new(io::ErrorKind::PermissionDenied, reason))?;
    file::read_opened(&file, ENTRY)
}

/// Writes a file in one step: whoever reads it sees all or nothing.
///
/// # Errors
/// There is no room, or no right to write.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    // What a process of the same number left behind is in the way.
    let _none = fs::remove_file(&aside);
    let written = create(&aside).and_then(|mut file| file.write_all(content));
    let placed = written.and_then(|()| fs::rename(&aside, path));
    if placed.is_err() {
        let _gone = fs::remove_file(&aside);
    }
    placed
}

/// Removes the oldest files until so many are left.
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
    // A symbolic link in the place of a file is an error.
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)
}
