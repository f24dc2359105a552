//! Captures: the data for a stored checkpoint, taken from a replay at an event.
//!
//! [`ReplaySession::capture`] returns what the recorder captures at the same event
//! (`rr_recorder::Capture`). Keeps I4: image and pages are those of the recording, so nothing of rr is
//! in them. Breakpoints and probes are lifted meanwhile (I8), and rr's own pages are not part of a
//! snapshot.
//!
//! | data | source |
//! |---|---|
//! | private memory | a frozen fork of one task of each address space. The writer kills it as soon as it is read |
//! | memory that a fork omits or wipes (madvise(2)) | a copy that is made at once |
//! | shared memory objects | a copy of the mapped parts that is made at once. Objects that are files of the trace need none |

use std::time::Duration;

use rr_checkpoint::{CaptureRequest, Changes, ObjectSource, SharedSource, SpaceSource, copy_unforkable};
use rr_tracee::{SpaceId, tsc};

use crate::affinity::Beside;
use crate::error::{Error, Result};
use crate::frozen;
use crate::own_code::{lift_code, put_code_back};
use crate::position::Position;
use crate::session::ReplaySession;

impl ReplaySession {
    /// Captures everything for a stored checkpoint of this place. The session can continue at once. Its
    /// forks live until the writer has read them, or the request is dropped.
    ///
    /// Only at an event ([`Error::InsideInterval`]), and if there is a task ([`Error::NoTask`]).
    pub fn capture(&mut self) -> Result<CaptureRequest> {
        frozen::reap();
        let (here, event) = (self.position(), self.events.last);
        if here != Position::at_event(event) {
            return Err(Error::InsideInterval { here: Box::new(here) });
        }
        if self.world.tasks.is_empty() {
            return Err(Error::NoTask { event });
        }
        let _beside = Beside::cpu(self.world.backings.family.cpu());
        let began = tsc::now();
        // Not only in the forks: memory that they share with the session is copied, too.
        lift_code(self)?;
        let captured = capture_own(self);
        put_code_back(self)?;
        let mut request = captured?;
        request.pause_us = micros(tsc::now().saturating_sub(began));
        Ok(request)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Same as [`ReplaySession::capture`], while all memory has the program's own bytes.
fn capture_own(session: &mut ReplaySession) -> Result<CaptureRequest> {
    let event = session.events.last;
    let failed = |source| Error::Tracee { event, source };
    let mut request = CaptureRequest {
        image: session.image()?,
        spaces: Vec::new(),
        objects: Vec::new(),
        pause_us: 0,
    };
    let ids: Vec<SpaceId> = session.world.spaces.keys().copied().collect();
    for space in ids {
        let Some(leader) = session.world.tasks.values().find(|t| t.space == space) else {
            continue;
        };
        let (leader, real) = (leader.tid, leader.real);
        let extra = match session.world.spaces.get(&space) {
            Some(model) => copy_unforkable(real, model)?,
            None => Vec::new(),
        };
        let fork = session.world.fork_frozen(leader).map_err(failed)?;
        let source = SharedSource::frozen(fork);
        let changes = Changes::Unknown;
        request.spaces.push(SpaceSource {
            space,
            source,
            extra,
            changes,
        });
    }
    for object in request.image.objects.iter().filter(|o| o.content.is_none()) {
        let Some(made) = session.world.backings.objects.get(&object.id) else {
            continue;
        };
        let parts = request.image.mapped_parts(object.id);
        let copied = ObjectSource::from_file(object.id, &made.file, &parts);
        request.objects.push(copied.map_err(|source| Error::Os {
            what: format!("copying shared memory object {}", object.id.0),
            source,
        })?);
    }
    Ok(request)
}
