//! A failure of an operation that does not know its event.

use rr_trace::event::EventNumber;

use crate::error::Error;

/// The reason why an operation failed. The caller adds the event.
#[derive(Debug)]
pub(crate) enum Failure {
    Tracee(rr_tracee::Error),
    /// The trace contains something impossible.
    Bad(String),
    Other(Box<Error>),
}

impl From<rr_tracee::Error> for Failure {
    fn from(e: rr_tracee::Error) -> Self {
        Failure::Tracee(e)
    }
}

impl From<rr_trace::Error> for Failure {
    fn from(e: rr_trace::Error) -> Self {
        Failure::Other(Box::new(e.into()))
    }
}

impl Failure {
    pub fn at(self, event: EventNumber) -> Error {
        match self {
            Failure::Tracee(source) => Error::Tracee { event, source },
            Failure::Bad(what) => Error::BadTrace { event, what },
            Failure::Other(error) => match *error {
                Error::BadTrace { what, .. } => Error::BadTrace { event, what },
                other => other,
            },
        }
    }
}
