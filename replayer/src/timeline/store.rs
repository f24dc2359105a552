//! Stores a checkpoint of the user's place.

use rr_checkpoint::{CheckpointWriter, Maker, Options};

use super::Timeline;
use crate::error::Result;
use crate::frozen;

impl Timeline {
    /// Stores a checkpoint of the user's place in the trace, and uses it from now on. `false` means
    /// that there is one already.
    ///
    /// Only at an event ([`crate::Error::InsideInterval`]).
    pub fn write_checkpoint(&mut self) -> Result<bool> {
        let request = self.session.capture()?;
        let event = request.image.event;
        if self.stored.events().binary_search(&event).is_ok() {
            return Ok(false);
        }
        // A checkpoint that another rr has stored meanwhile stays, because later ones may refer to it.
        let is_new = self.stored.open(event).is_err();
        if is_new {
            let (dir, uuid) = (self.reader.checkpoint_dir()?, self.reader.header().uuid);
            let options = Options {
                cpus: Some(self.stored.cpus()),
                maker: Maker::Debugger,
                ..Options::default()
            };
            let mut writer = CheckpointWriter::start(dir, uuid, options)?;
            let is_taken = writer.submit(request);
            let outcome = writer.finish()?.outcomes.pop().filter(|_| is_taken);
            frozen::reap();
            let refused = || rr_checkpoint::Error::Writer("it did not take the checkpoint".into());
            outcome.ok_or_else(refused)?.result?;
        }
        self.stored.add(event);
        Ok(is_new)
    }
}
