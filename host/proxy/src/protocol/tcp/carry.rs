//! Carries bytes between the two connections of a session until both sides have closed theirs.
//!
//! A session that waits holds no buffer: what is read goes through a buffer of the core, and only what the other side does not
//! take at once is kept, until it is taken. Meanwhile nothing more is read, so that a side that does not read slows the other
//! one down instead of filling memory.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep_until;

use crate::core_local::FORWARDED;

/// Size of the buffer of the core, in bytes: the most that a session keeps of each direction.
const BUFFER: usize = 64 * 1024;

/// How a session ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides have closed it.
    Closed,
    /// The connection to the client failed.
    Client,
    /// The connection to the endpoint failed.
    Upstream,
    /// Nothing was transferred for too long.
    Idle,
    /// It was open for too long.
    TimedOut,
}

/// Bytes on their way in one direction.
#[derive(Default)]
struct Direction {
    /// What the other side has not taken yet, and how much of it it has.
    kept: Vec<u8>,
    taken: usize,
    carried: u64,
    /// Whether something written may still have to be flushed.
    dirty: bool,
    stage: Stage,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The source has ended; its end is to be passed on.
    Ended,
    /// Its end has been passed on.
    Closed,
}

/// The side that failed.
enum Broken {
    Source,
    Target,
}

impl Direction {
    /// Carries what can be carried now. Ready once the end of the source has been passed on.
    fn poll<S, T>(
        &mut self,
        context: &mut Context<'_>,
        source: &mut S,
        target: &mut T,
        buffer: &mut [u8],
    ) -> Poll<Result<(), Broken>>
    where
        S: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_kept(context, target))?;
            match self.stage {
                Stage::Open => {}
                Stage::Ended => {
                    ready!(Pin::new(&mut *target).poll_shutdown(context)).map_err(|_| Broken::Target)?;
                    self.stage = Stage::Closed;
                    return Poll::Ready(Ok(()));
                }
                Stage::Closed => return Poll::Ready(Ok(())),
            }
            let mut room = ReadBuf::new(&mut *buffer);
            match Pin::new(&mut *source).poll_read(context, &mut room) {
                Poll::Ready(Ok(())) => {}
                // TLS that ends without `close_notify`. Many peers do so, and a reset could cost what the other side has not
                // received yet.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
                Poll::Pending => {
                    if self.dirty {
                        ready!(Pin::new(&mut *target).poll_flush(context)).map_err(|_| Broken::Target)?;
                        self.dirty = false;
                    }
                    return Poll::Pending;
                }
            }
            let read = room.filled();
            if read.is_empty() {
                self.stage = Stage::Ended;
                continue;
            }
            self.carried += read.len() as u64;
            self.dirty = true;
            let written = match Pin::new(&mut *target).poll_write(context, read) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Target)),
                Poll::Pending => 0,
            };
            if written < read.len() {
                self.kept = read[written..].to_vec();
                self.taken = 0;
            }
        }
    }

    /// Writes what is kept, and gives its memory back.
    fn poll_kept<T: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        target: &mut T,
    ) -> Poll<Result<(), Broken>> {
        while self.taken < self.kept.len() {
            let written = ready!(Pin::new(&mut *target).poll_write(context, &self.kept[self.taken..]));
            match written {
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Target)),
                Ok(written) => self.taken += written,
            }
        }
        if self.taken > 0 {
            (self.kept, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

/// Carries in both directions until the session ends. `told` gets the bytes that came from
/// the client and from the endpoint so far, whenever there are more.
pub(crate) async fn carry<C, U>(
    client: &mut C,
    upstream: &mut U,
    idle: Option<Duration>,
    deadline: Option<Instant>,
    mut told: impl FnMut(u64, u64),
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let (mut last, mut before) = (Instant::now(), 0);
    let due = |last: Instant| idle.map(|idle| last + idle).into_iter().chain(deadline).min();
    let mut timer = std::pin::pin!(due(last).map(|due| sleep_until(due.into())));
    poll_fn(|context| {
        let polled = poll_both(context, client, upstream, &mut up, &mut down);
        if up.carried + down.carried != before {
            (before, last) = (up.carried + down.carried, Instant::now());
            told(up.carried, down.carried);
        }
        if let Poll::Ready(end) = polled {
            return Poll::Ready(end);
        }
        let Some(mut timer) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(End::TimedOut);
            }
            // The timer is not moved with every piece of data: it is set again when it runs out too early.
            match due(last) {
                Some(due) if due > now => timer.as_mut().reset(due.into()),
                _ => return Poll::Ready(End::Idle),
            }
        }
        Poll::Pending
    })
    .await
}

fn poll_both<C, U>(
    context: &mut Context<'_>,
    client: &mut C,
    upstream: &mut U,
    up: &mut Direction,
    down: &mut Direction,
) -> Poll<End>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = FORWARDED.take();
    buffer.resize(BUFFER, 0);
    let upward = up.poll(context, client, upstream, &mut buffer);
    let downward = down.poll(context, upstream, client, &mut buffer);
    FORWARDED.set(buffer);
    match (upward, downward) {
        (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Target))) => {
            Poll::Ready(End::Client)
        }
        (Poll::Ready(Err(Broken::Target)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
            Poll::Ready(End::Upstream)
        }
        (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(End::Closed),
        _ => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use witgate_exchange::testing;

    use super::*;

    /// A session in progress: how it ends, and what came from the client and from the endpoint.
    type Carrying = tokio::task::JoinHandle<(End, (u64, u64))>;

    /// A session between two pipes that hold this many bytes, and its two ends.
    fn session(
        room: usize,
        idle: Option<Duration>,
        deadline: Option<Duration>,
    ) -> (DuplexStream, DuplexStream, Carrying) {
        let (client, mut near) = duplex(room);
        let (upstream, mut far) = duplex(room);
        let carrying = tokio::task::spawn_local(async move {
            let mut carried = (0, 0);
            let deadline = deadline.map(|time| Instant::now() + time);
            let told = |received, sent| carried = (received, sent);
            let end = carry(&mut near, &mut far, idle, deadline, told).await;
            (end, carried)
        });
        (client, upstream, carrying)
    }

    #[test]
    fn bytes_and_half_closes_pass_both_ways() {
        testing::run(async {
            let (mut client, mut upstream, carrying) = session(7, None, None);
            let sent: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
            let expected = sent.clone();
            let sending = tokio::task::spawn_local(async move {
                client.write_all(&sent).await.expect("room");
                client.shutdown().await.expect("a half-close");
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.expect("an answer");
                answer
            });
            let mut came = Vec::new();
            upstream.read_to_end(&mut came).await.expect("the end of the client");
            assert!(came == expected);
            upstream.write_all(b"thanks").await.expect("the other direction is open");
            drop(upstream);
            assert_eq!(sending.await.expect("a task"), b"thanks");
            let (end, carried) = carrying.await.expect("a task");
            assert!(matches!(end, End::Closed), "{end:?}");
            assert_eq!(carried, (200_000, 6));
        });
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_too_old() {
        testing::run(async {
            let (mut client, mut upstream, carrying) = session(64, Some(Duration::from_millis(120)), None);
            let begun = Instant::now();
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                client.write_all(b"x").await.expect("room");
                upstream.read_exact(&mut [0]).await.expect("a byte");
            }
            assert!(matches!(carrying.await.expect("a task").0, End::Idle));
            assert!(begun.elapsed() >= Duration::from_millis(320));
            let (mut client, _upstream, carrying) =
                session(64, Some(Duration::from_secs(60)), Some(Duration::from_millis(50)));
            client.write_all(b"x").await.expect("room");
            assert!(matches!(carrying.await.expect("a task").0, End::TimedOut));
        });
    }
}
