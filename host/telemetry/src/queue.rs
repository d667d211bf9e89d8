//! Writes lines to a file or stream: a bounded queue that never makes the caller wait, and the thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::fs::{Access, OFlags};
use rustix::io::Errno;
use witgate_config::model::LogTarget;

/// How long the writer waits for more lines after the first, which bounds how often it is woken.
const GATHER: Duration = Duration::from_millis(5);
/// The most bytes of one write.
const BATCH_BYTES: usize = 256 * 1024;

/// Something that becomes a line, on the writer's thread.
pub trait Line: Send + Sync + 'static {
    /// Appends the line and a line feed.
    fn render(&self, out: &mut Vec<u8>);
}

/// A queue of lines with its writer.
#[derive(Debug)]
pub struct LineQueue<L> {
    sender: SyncSender<L>,
    target: LogTarget,
    capacity: usize,
    shared: Arc<Shared>,
}

/// Shared by the queue and its writer.
#[derive(Debug, Default)]
struct Shared {
    reopen: AtomicBool,
    queued: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
}

impl<L: Line> LineQueue<L> {
    /// Opens the target and starts the writer, which ends when the queue is dropped and empty.
    ///
    /// # Errors
    /// The file cannot be opened, or the system refuses a thread.
    pub fn start(name: &str, target: LogTarget, capacity: usize) -> io::Result<Self> {
        let capacity = capacity.max(1);
        let (sender, receiver) = sync_channel(capacity);
        let shared = Arc::new(Shared::default());
        let writer =
            Writer { output: Output::open(&target)?, target: target.clone(), shared: Arc::clone(&shared) };
        std::thread::Builder::new().name(name.into()).spawn(move || writer.run(&receiver))?;
        Ok(LineQueue { sender, target, capacity, shared })
    }

    /// Whether this queue has the configured settings.
    pub fn serves(&self, target: &LogTarget, capacity: usize) -> bool {
        self.target == *target && self.capacity == capacity.max(1)
    }

    /// Queues a line. Never waits; false: the queue is full and the line was dropped.
    pub fn push(&self, line: L) -> bool {
        // Counted before it is sent, so that `is_idle` never overlooks a line.
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        let taken = self.sender.try_send(line).is_ok();
        if !taken {
            self.shared.queued.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Has the file reopened before the next line, for log rotation.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
    }

    /// Lines that were queued but could not be written.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Whether every line so far was written.
    pub fn is_idle(&self) -> bool {
        self.shared.done.load(Ordering::Acquire) >= self.shared.queued.load(Ordering::Relaxed)
    }
}

/// The writing thread.
struct Writer {
    output: Output,
    target: LogTarget,
    shared: Arc<Shared>,
}

impl Writer {
    fn run<L: Line>(mut self, lines: &Receiver<L>) {
        let mut batch = Vec::new();
        while let Ok(first) = lines.recv() {
            first.render(&mut batch);
            let mut count = 1;
            // The thread belongs to the writer; an early wake-up only makes a smaller batch.
            std::thread::park_timeout(GATHER);
            while batch.len() < BATCH_BYTES
                && let Ok(line) = lines.try_recv()
            {
                line.render(&mut batch);
                count += 1;
            }
            self.write(&batch, count);
            batch.clear();
        }
    }

    /// Writes a batch. A target that fails is reopened for the next batch; the failure is reported only by the
    /// metric.
    fn write(&mut self, batch: &[u8], count: u64) {
        if self.shared.reopen.swap(false, Ordering::Relaxed)
            && let Ok(output) = Output::open(&self.target)
        {
            self.output = output;
        }
        if self.output.write_all(batch).is_err() {
            self.shared.failed.fetch_add(count, Ordering::Relaxed);
            self.shared.reopen.store(true, Ordering::Relaxed);
        }
        self.shared.done.fetch_add(count, Ordering::Release);
    }
}

/// The target of the bytes.
enum Output {
    Stdout,
    Stderr,
    File(File),
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Output::Stdout,
            LogTarget::Stderr => Output::Stderr,
            LogTarget::File(path) => Output::File(open_log(path)?),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Output::Stderr => io::stderr().lock().write_all(bytes),
            Output::File(file) => file.write_all(bytes),
        }
    }
}

/// Checks that a log file can be opened, without creating it. A named pipe that nobody reads yet is no mistake: it is
/// opened again with later lines.
///
/// # Errors
/// It cannot be opened, or its folder does not exist or must not be written to.
pub fn check(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => {
            return match open_log(path) {
                Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(()),
                outcome => outcome.map(drop),
            };
        }
        // It is to be made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // For example a name that is too long.
        Err(error) => return Err(error),
    }
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !std::fs::metadata(folder)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Opens a log file for appending. A named pipe without a reader is an error, because opening it would wait for
/// one.
fn open_log(path: &Path) -> io::Result<File> {
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().create(true).append(true).custom_flags(without_waiting).open(path)?;
    // Blocking writes are wanted: only the writer's thread waits.
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    struct Text(String);

    impl Line for Text {
        fn render(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0.as_bytes());
            out.push(b'\n');
        }
    }

    fn idle(queue: &LineQueue<Text>) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !queue.is_idle() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        queue.is_idle()
    }

    #[test]
    fn a_log_file_is_checked_without_being_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        check(&path).expect("it can be made");
        assert!(!path.exists());
        std::fs::write(&path, "kept").expect("written");
        check(&path).expect("it can be appended to");
        assert_eq!(std::fs::read_to_string(&path).expect("the log"), "kept");
        let kind = |path: &Path| check(path).expect_err("it cannot be opened").kind();
        assert_eq!(kind(&folder.path().join("missing/access.log")), io::ErrorKind::NotFound);
        assert_eq!(kind(folder.path()), io::ErrorKind::IsADirectory);
        assert_eq!(kind(&path.join("below")), io::ErrorKind::NotADirectory);
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        check(&pipe).expect("it may get a reader");
    }

    #[test]
    fn lines_are_written_in_order_and_a_rotated_file_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let queue = LineQueue::start("test", LogTarget::File(path.clone()), 100).expect("a queue");
        assert!(queue.push(Text("one".into())) && queue.push(Text("two".into())));
        assert!(idle(&queue));
        assert_eq!(std::fs::read_to_string(&path).expect("the log"), "one\ntwo\n");

        std::fs::rename(&path, folder.path().join("access.log.1")).expect("rotated");
        queue.reopen();
        assert!(queue.push(Text("three".into())));
        assert!(idle(&queue));
        assert_eq!(std::fs::read_to_string(&path).expect("the new log"), "three\n");
    }

    /// A FIFO that nobody reads blocks the writer, but not the callers, and no lost line goes uncounted.
    #[test]
    fn a_blocked_writer_makes_nobody_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        // Opened for reading and writing, so that opening it does not wait for another end.
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).expect("the reading end");

        let queue = LineQueue::start("test", LogTarget::File(path), 16).expect("a queue");
        let line = "x".repeat(1023);
        let (mut taken, mut dropped, mut slowest) = (0_usize, 0_usize, Duration::ZERO);
        while dropped < 100 {
            let begun = Instant::now();
            if queue.push(Text(line.clone())) {
                taken += 1;
            } else {
                dropped += 1;
            }
            slowest = slowest.max(begun.elapsed());
        }
        assert!(slowest < Duration::from_secs(1), "a push took {slowest:?}");

        let mut read = vec![0; taken * 1024];
        reader.read_exact(&mut read).expect("every line that was taken");
        assert!(idle(&queue));
        assert_eq!(queue.failed(), 0);
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
        let (sender, opened) = sync_channel(1);
        std::thread::spawn(move || {
            sender.send(LineQueue::<Text>::start("test", LogTarget::File(path), 1).is_err())
        });
        assert_eq!(opened.recv_timeout(Duration::from_secs(10)), Ok(true));
    }
}
