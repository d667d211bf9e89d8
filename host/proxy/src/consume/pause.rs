//! Why and until when a consumer begins no request.

use std::time::Instant;

use tokio::sync::watch;

/// Holds the messages of a consumer back while something that concerns all of them is wrong. No message is lost or counted
/// as failed meanwhile, and the broker delivers no further ones once `prefetch` are held.
pub(super) struct Pause(watch::Sender<State>);

#[derive(Debug, Clone, Default)]
struct State {
    /// No request begins before this time.
    until: Option<Instant>,
    /// Dead letters that cannot be stored at the moment. No request begins while there is one.
    stuck: usize,
    /// The code of the last reason, for the status.
    code: &'static str,
    /// Whether the consumer ends.
    stopped: bool,
}

impl Default for Pause {
    fn default() -> Self {
        Pause(watch::Sender::new(State::default()))
    }
}

impl Pause {
    /// No request begins before `until`.
    pub(super) fn until(&self, until: Instant, code: &'static str) {
        self.0.send_modify(|state| {
            state.until = Some(state.until.map_or(until, |before| before.max(until)));
            state.code = code;
        });
    }

    /// No request begins until the returned guard is dropped.
    pub(super) fn stuck(&self, code: &'static str) -> Stuck<'_> {
        self.0.send_modify(|state| {
            state.stuck += 1;
            state.code = code;
        });
        Stuck(self)
    }

    /// The consumer ends: what waits gives its message back.
    pub(super) fn stop(&self) {
        self.0.send_modify(|state| state.stopped = true);
    }

    /// Waits until a request may begin. False: the consumer ends.
    pub(super) async fn is_over(&self) -> bool {
        let mut seen = self.0.subscribe();
        loop {
            let State { until, stuck, stopped, .. } = seen.borrow_and_update().clone();
            let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
            match (stopped, stuck, left) {
                (true, ..) => return false,
                (false, 0, None) => return true,
                (false, 0, Some(left)) => {
                    // Either the time is over, or the state has changed.
                    let _ = tokio::time::timeout(left, seen.changed()).await;
                }
                (false, ..) => {
                    let _ = seen.changed().await;
                }
            }
        }
    }

    /// Ends when the consumer ends.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|state| state.stopped).await;
    }

    /// The code of why no request begins at the moment.
    pub(super) fn code(&self) -> Option<&'static str> {
        let state = self.0.borrow();
        let paused = state.stuck > 0 || state.until.is_some_and(|until| until > Instant::now());
        paused.then_some(state.code)
    }
}

/// Guard: a dead letter cannot be stored.
pub(super) struct Stuck<'p>(&'p Pause);

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.stuck -= 1);
    }
}
