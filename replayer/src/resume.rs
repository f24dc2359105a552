//! Makes images of a replay, and starts a replay from one.

use std::sync::Arc;

use rr_checkpoint::{Checkpoint, ObjectImage, PageTarget, SessionImage, SpaceImage, TaskImage};
use rr_trace::{EventSource, TraceReader};
use rr_tracee::{ObjectState, SpaceOp};

use crate::affinity::Beside;
use crate::error::{Error, Result};
use crate::family::Family;
use crate::far_bases::set_first_regs;
use crate::session::ReplaySession;
use crate::space::{hits_our_code, perform};

impl ReplaySession {
    /// A replay that begins at a checkpoint (I6), with the replayed tasks bound to `cpu`. Pages are
    /// read on the CPUs of the checkpoint's threads ([`Checkpoint::set_cpus`]). The calling thread is
    /// bound to `cpu` meanwhile.
    pub fn resume(
        reader: Arc<TraceReader>,
        checkpoint: &Checkpoint,
        cpu: Option<usize>,
    ) -> Result<ReplaySession> {
        let image = checkpoint.image();
        let event = image.event;
        let cursor = EventSource::new(Arc::clone(&reader)).from(event.next())?;
        // Only now, because the thread that reads the events must not be bound.
        let _beside = Beside::cpu(cpu);
        let family = Family::new(&reader, cpu)?;
        let mut session = ReplaySession::empty(reader, cursor, family);
        session.events.last = event;
        session.events.time_ns = image.time_ns;
        for space in &image.spaces {
            restore_space(&mut session, image, space, checkpoint)?;
        }
        for object in image.objects.iter().filter(|o| o.content.is_none()) {
            if let Some(made) = session.world.backings.objects.get(&object.id) {
                checkpoint.restore_pages(PageTarget::Object(object.id), |offset, bytes| {
                    std::os::unix::fs::FileExt::write_all_at(&*made.file, bytes, offset.0)
                })?;
            }
        }
        Ok(session)
    }

    /// The image of the session after its last event.
    pub fn image(&self) -> Result<SessionImage> {
        let failed = |source| Error::Tracee {
            event: self.events.last,
            source,
        };
        let mut tasks = Vec::new();
        for task in self.world.tasks.values() {
            tasks.push(TaskImage {
                tid: task.tid,
                tgid: task.tgid,
                space: task.space,
                exe: task.exe.clone(),
                in_syscall: task.in_syscall,
                regs: task.regs().map_err(failed)?,
                xstate: task.xstate().map_err(failed)?,
            });
        }
        let spaces = self.world.spaces.iter().map(|(id, space)| (*id, space));
        Ok(SessionImage::new(
            self.events.last,
            self.events.time_ns,
            spaces,
            tasks,
            &self.world.objects,
        ))
    }
}

fn restore_space(
    session: &mut ReplaySession,
    image: &SessionImage,
    space: &SpaceImage,
    checkpoint: &Checkpoint,
) -> Result<()> {
    let event = image.event;
    let failed = |source| Error::Tracee { event, source };
    let mut tasks = image.tasks.iter().filter(|t| t.space == space.id);
    let Some(first) = tasks.next() else { return Ok(()) };
    session
        .world
        .new_process(event, first.tid, first.tgid, space.id, &first.exe)?;
    // Creates the objects that the space maps, and the mappings.
    let mut ops = Vec::new();
    for (object, ..) in space.space.objects() {
        if session.world.objects.get(object).is_some() {
            continue;
        }
        let Some(found) = image.objects.iter().find(|o| o.id == object) else {
            continue;
        };
        let ObjectImage { size, content, .. } = *found;
        session
            .world
            .objects
            .insert(object, ObjectState { size, content });
        ops.push(SpaceOp::CreateObject {
            object,
            size,
            content,
        });
    }
    ops.extend(space.space.iter().cloned().map(SpaceOp::Map));
    let missing = || Error::BadTrace {
        event,
        what: format!("no task {}", first.tid),
    };
    let task = session.world.tasks.get_mut(&first.tid).ok_or_else(missing)?;
    let stopped = task.take().map_err(failed)?;
    let stopped = perform(stopped, &ops, &mut session.world.backings, &session.events.reader)
        .map_err(|f| f.at(event))?;
    task.give(stopped);
    let memory = task.memory();
    // Restores the contents of the pages.
    checkpoint.restore_parts(PageTarget::Space(space.id), |parts| {
        match parts
            .iter()
            .find(|(addr, bytes)| hits_our_code(*addr, bytes.len()))
        {
            Some((addr, bytes)) => Err(rr_tracee::Error::Memory {
                tid: memory.tid(),
                what: "restoring rr's own code from a checkpoint:",
                addr: *addr,
                len: bytes.len(),
                errno: nix::errno::Errno::EACCES,
            }),
            None => memory.write_places(parts),
        }
    })?;
    session.world.spaces.insert(space.id, space.space.clone());
    // Creates the other threads, and restores the state of all.
    for other in tasks {
        session.world.new_thread(
            event,
            first.tid,
            (other.tid, other.tgid),
            &other.exe,
            true,
            space.id,
        )?;
    }
    for from in image.tasks.iter().filter(|t| t.space == space.id) {
        let Some(task) = session.world.tasks.get_mut(&from.tid) else {
            continue;
        };
        task.in_syscall = from.in_syscall;
        let stopped = task.stopped().map_err(failed)?;
        stopped.set_xstate(&from.xstate).map_err(failed)?;
        set_first_regs(task, &from.regs).map_err(failed)?;
    }
    Ok(())
}
