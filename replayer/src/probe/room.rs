//! The memory in a task that holds a stub.

use rr_trace::event::Event;
use rr_tracee::remote::Remote;

use super::Stub;
use crate::world::World;

impl World {
    /// Maps a stub's room and writes its code. Returns `false` if there is no room.
    pub fn map_stub(&mut self, event: &Event, stub: &Stub) -> rr_tracee::Result<bool> {
        let Some(task) = self.tasks.get_mut(&event.tid) else {
            return Ok(false);
        };
        let args = [
            stub.room.start.0,
            stub.room.len(),
            (libc::PROT_READ | libc::PROT_EXEC) as u64,
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64,
            u64::MAX,
            0,
        ];
        let (remote, mapped) = Remote::ours(task.take()?)?.call(libc::SYS_mmap, args)?;
        task.give(remote.finish()?);
        if mapped != stub.room.start.0 as i64 {
            return Ok(false);
        }
        task.memory().write(stub.place, &stub.code)?;
        Ok(true)
    }

    /// Unmaps a stub's room.
    pub fn unmap_stub(&mut self, event: &Event, stub: &Stub) -> rr_tracee::Result<()> {
        let Some(task) = self.tasks.get_mut(&event.tid) else {
            return Ok(());
        };
        let stopped = Remote::ours(task.take()?)?.unmap(stub.room)?.finish()?;
        task.give(stopped);
        Ok(())
    }
}
