//! What the bytes of an HTTP/1.1 connection and its requests tell each other.
//!
//! hyper stands between the two and passes neither on: the wire must know whether a request is under way (then silence
//! is no idleness), and the service must know why the wire refused a head. Everything lives on one core; atomics are here
//! only because hyper wants a connection it may hand over to be `Send`.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

use crate::fault::Fault;

/// What became of a request to switch protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Switch {
    /// Not decided: what the client sends now belongs to nobody yet.
    Open = 0,
    /// Switched: bytes pass unread.
    Tunnel = 1,
    /// Not switched: the next bytes are the next request.
    Declined = 2,
}

/// The state of one HTTP/1.1 connection.
pub(crate) struct Activity {
    opened: Instant,
    busy: AtomicBool,
    requests: AtomicU64,
    /// When the last request ended, in milliseconds since the connection was opened.
    idle_since: AtomicU64,
    reading_head: AtomicBool,
    abort: AtomicBool,
    switch: AtomicU8,
    waiting: Mutex<Option<Waker>>,
    verdict: Mutex<Option<Fault>>,
}

impl Activity {
    /// A fresh connection.
    pub(crate) fn new() -> Self {
        Activity {
            opened: Instant::now(),
            busy: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            reading_head: AtomicBool::new(false),
            abort: AtomicBool::new(false),
            switch: AtomicU8::new(Switch::Open as u8),
            waiting: Mutex::new(None),
            verdict: Mutex::new(None),
        }
    }

    /// A request begins. Whatever the wire has against it comes along.
    pub(crate) fn begin(&self) -> Option<Fault> {
        self.busy.store(true, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.switch.store(Switch::Open as u8, Relaxed);
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The last byte of an answer was handed on. An answer that was not complete aborts the connection: a client that
    /// reads until the end must not take this end for the right one.
    pub(crate) fn end(&self, complete: bool) {
        self.idle_since.store(self.opened.elapsed().as_millis() as u64, Relaxed);
        self.busy.store(false, Relaxed);
        if !complete {
            self.abort();
        }
        self.wake();
    }

    /// The connection must end visibly broken.
    pub(crate) fn abort(&self) {
        self.abort.store(true, Relaxed);
    }

    /// Whether the connection is a tunnel now.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.switch.load(Relaxed) == Switch::Tunnel as u8
    }

    /// Wakes whoever reads once the request under way is over, or its switch decided.
    pub(crate) fn wake_reader(&self, waker: &Waker) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Whether no request has come yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.requests.load(Relaxed) == 0
    }

    /// Since when nothing has been under way.
    pub(crate) fn idle_since(&self) -> Instant {
        self.opened + std::time::Duration::from_millis(self.idle_since.load(Relaxed))
    }

    /// Notes whether part of a head has arrived.
    pub(crate) fn set_reading_head(&self, reading: bool) {
        self.reading_head.store(reading, Relaxed);
    }

    /// Whether part of a head has arrived.
    pub(crate) fn is_reading_head(&self) -> bool {
        self.reading_head.load(Relaxed)
    }

    /// Whether the connection must end visibly broken.
    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.load(Relaxed)
    }

    /// Gives the reason for refusing the request that comes next.
    pub(crate) fn refuse(&self, fault: Fault) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    /// What became of the last request to switch protocols; if that is open, `waker` is woken once it is not.
    pub(crate) fn switch(&self, waker: &Waker) -> Switch {
        match self.switch.load(Relaxed) {
            1 => Switch::Tunnel,
            2 => Switch::Declined,
            _ => {
                self.wake_reader(waker);
                Switch::Open
            }
        }
    }

    /// Decides a request to switch protocols.
    pub(crate) fn decide(&self, switch: Switch) {
        self.switch.store(switch as u8, Relaxed);
        self.wake();
    }
}
