//! Reads files within bounds of kind, size and time.
//!
//! Everything that a gateway loads goes through here: configurations, secrets, certificates, plugins, compiled
//! code. A path may lead to anything: a named pipe, on which opening waits for a writer; a device that never ends;
//! a sparse file of a terabyte. Only regular files are read, and of each only as much as its purpose can need.

pub mod private;

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// The largest file of a configuration, in bytes.
pub const CONFIGURATION: u64 = 16 << 20;

/// The largest secret, key, certificate or list of certificates, in bytes.
pub const SECRET: u64 = 1 << 20;

/// The largest component of a plugin, in bytes. A Python program with its interpreter takes about 15 MiB.
pub const PLUGIN: u64 = 64 << 20;

/// The largest file that is read for plugins (`[data.NAME]`), in bytes.
pub const DATA: u64 = 1 << 30;

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// The file cannot be opened or read, is not a regular file, or is larger. The message says which, as the end of a
/// sentence.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_opened(&open(path)?, limit)
}

/// Reads a regular file of at most `limit` bytes that must be text (UTF-8).
///
/// # Errors
/// As [`read`], or the file is not text.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| {
        let text = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let begin = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let line = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        let byte = text.len() - begin + 1;
        Error::new(
            ErrorKind::InvalidData,
            format!("it is not text in UTF-8 (line {line}, byte {byte} of it)"),
        )
    })
}

/// Opens a regular file for reading. Never waits for the other end of a pipe.
///
/// # Errors
/// The file cannot be opened, or is not a regular file.
pub fn open(path: &Path) -> Result<File> {
    open_with(path, OFlags::empty())
}

/// Opens a regular file for reading, unless the last part of its path is a symbolic link.
///
/// # Errors
/// As [`open`], or it is a symbolic link.
pub fn open_unlinked(path: &Path) -> Result<File> {
    open_with(path, OFlags::NOFOLLOW)
}

fn open_with(path: &Path, flags: OFlags) -> Result<File> {
    // Opening alone can have effects (a device may start to work), so the kind of file is checked first. It may
    // change in between, so it is checked again on the opened file.
    regular(&std::fs::metadata(path)?)?;
    let flags = (OFlags::NONBLOCK | flags).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads an opened regular file of at most `limit` bytes from its current position.
///
/// # Errors
/// It is not a regular file, is larger, grows past the limit while it is read, or cannot be read.
pub fn read_opened(file: &File, limit: u64) -> Result<Vec<u8>> {
    let metadata = file.metadata()?;
    regular(&metadata)?;
    if metadata.len() > limit {
        return Err(too_large(&format!("it has {} bytes", metadata.len()), limit));
    }
    let mut content = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // The size in the metadata is only a first check: files of /proc report 0, and others grow while they are
    // read.
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(too_large("it has more bytes than that", limit));
    }
    Ok(content)
}

fn too_large(found: &str, limit: u64) -> Error {
    Error::new(
        ErrorKind::FileTooLarge,
        format!("it is too large: at most {} are read, {found}", amount(limit)),
    )
}

/// A number of bytes in the largest unit that gives a whole number.
fn amount(bytes: u64) -> String {
    match bytes {
        _ if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

fn regular(metadata: &std::fs::Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () => "something else",
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("it must be a regular file, but it is {what}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// The message with which reading a path fails. It must fail at once; the test gives up after ten seconds.
    fn refused(path: &Path, limit: u64) -> String {
        let (sender, result) = channel();
        let path = path.to_owned();
        std::thread::spawn(move || sender.send(read(&path, limit)));
        let result = result.recv_timeout(Duration::from_secs(10)).expect("reading does not wait");
        result.expect_err("it is refused").to_string()
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let looped = folder.path().join("loop");
        std::os::unix::fs::symlink(&looped, &looped).unwrap();
        let linked = folder.path().join("linked");
        std::os::unix::fs::symlink(&pipe, &linked).unwrap();
        let cases = [
            (pipe.as_path(), "a named pipe"),
            (&linked, "a named pipe"),
            (&socket, "a socket"),
            (folder.path(), "a folder"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/null"), "a device"),
            (&looped, "symbolic links"),
            (&folder.path().join("missing"), "No such file"),
        ];
        for (path, expected) in cases {
            let told = refused(path, 100);
            assert!(told.contains(expected), "{}: {told}", path.display());
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_refused_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [7; 1024]).unwrap();
        assert_eq!(read(&path, 1024).unwrap(), [7; 1024]);
        let told = refused(&path, 1023);
        assert_eq!(told, "it is too large: at most 1023 bytes are read, it has 1024 bytes");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let told = refused(&path, PLUGIN);
        assert!(told.contains("at most 64 MiB are read, it has 1099511627776 bytes"), "{told}");
    }

    #[test]
    fn a_file_that_hides_its_size_or_grows_is_bounded_all_the_same() {
        assert!(!read(Path::new("/proc/self/status"), SECRET).unwrap().is_empty());
        assert!(refused(Path::new("/proc/self/status"), 16).contains("more bytes than that"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        let opened = open(&path).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0; 100]).unwrap();
        assert!(read_opened(&opened, 4).is_err());
    }

    #[test]
    fn text_that_is_none_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (content, place) in [
            (&b"ab\xff"[..], "line 1, byte 3"),
            (b"\xff", "line 1, byte 1"),
            (b"a\n\xc3\xa4\r\n\xc3\xa4b\xc3\n", "line 3, byte 4"),
            (b"a\n\n\xe4", "line 3, byte 1"),
        ] {
            std::fs::write(&path, content).unwrap();
            let told = read_text(&path, 100).unwrap_err().to_string();
            assert_eq!(told, format!("it is not text in UTF-8 ({place} of it)"));
        }
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        assert!(open_unlinked(&folder.path().join("link")).is_err());
    }
}
