//! Gathers changes: a set is built and reported once for many of them.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The time for which further changes are waited for after the first one.
const SOON: Duration = Duration::from_millis(50);
/// The shortest time between two reports. A set in service changes no more often.
const PACE: Duration = Duration::from_secs(1);

/// When the set is to be reported.
#[derive(Default)]
pub(crate) struct Gathering {
    due: Option<Instant>,
    reported: Option<Instant>,
}

impl Gathering {
    /// Notes a change.
    pub(crate) fn changed(&mut self) {
        self.changed_at(Instant::now());
    }

    fn changed_at(&mut self, now: Instant) {
        let soon = now + SOON;
        let paced = self.reported.map_or(soon, |at| soon.max(at + PACE));
        self.due.get_or_insert(paced);
    }

    /// Notes that the set was reported.
    pub(crate) fn reported(&mut self) {
        self.reported_at(Instant::now());
    }

    fn reported_at(&mut self, now: Instant) {
        *self = Gathering { due: None, reported: Some(now) };
    }

    /// Whether a change was not reported yet.
    pub(crate) fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Waits until the set has to be reported.
    pub(crate) async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_change_is_reported_at_once_and_many_once_a_second() {
        let (mut gathering, begun) = (Gathering::default(), Instant::now());
        let mut reports = Vec::new();
        for millis in 0..3000 {
            let now = begun + Duration::from_millis(millis);
            gathering.changed_at(now);
            if gathering.due.is_some_and(|due| due <= now) {
                reports.push(millis);
                gathering.reported_at(now);
            }
        }
        assert_eq!(reports, [50, 1050, 2050]);
        assert!(gathering.is_due());
    }
}
