//! Holds a request's admission until the body of its response has ended.

use witgate_exchange::body::BodyError;
use witgate_exchange::fault::Fault;

use super::Admission;
use crate::response::observed_body::BodyObserver;

/// Observes the body of a response.
pub(crate) struct Watch(Option<Admission>);

impl Watch {
    pub(crate) fn new(admission: Admission) -> Watch {
        Watch(Some(admission))
    }
}

impl BodyObserver for Watch {
    fn ended(&mut self) {
        if let Some(admission) = self.0.take() {
            admission.completed();
        }
    }

    fn broken(&mut self, error: &BodyError) {
        if let (Some(admission), Some(fault)) = (self.0.take(), error.downcast_ref::<Fault>()) {
            admission.failed(fault);
        }
    }
}
