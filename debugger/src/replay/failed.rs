//! An error of the replayer as the server tells it.

use crate::target::TargetError;

/// The error with its causes.
pub(super) fn failed(error: rr_replayer::Error) -> TargetError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    TargetError::Failed(text)
}
