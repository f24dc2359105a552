//! Prints the pages that differ between two checkpoints of a trace.
//!
//! `cargo run -p rr-replayer --example changed_pages -- TRACE EVENT EVENT`
//!
//! Nothing is replayed: the checkpoints contain the pages. A page that a checkpoint does not contain is
//! unchanged since it was mapped (zeros, or the bytes of a file).

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use rr_checkpoint::Checkpoint;
use rr_checkpoint::restore::PageTarget;
use rr_trace::{EventNumber, TraceReader};
use rr_tracee::Addr;
use rr_tracee::ids::PAGE;

/// The pages of an address space that a checkpoint contains.
fn pages(checkpoint: &Checkpoint, target: PageTarget) -> Result<BTreeSet<u64>, Box<dyn Error>> {
    let runs = checkpoint.pages(target)?;
    Ok(runs
        .flat_map(|(range, _)| range.start.0 / PAGE..range.end.0 / PAGE)
        .collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, first, second] = &args[..] else {
        return Err("usage: changed_pages TRACE EVENT EVENT".into());
    };
    let reader = TraceReader::open(Path::new(path))?;
    let open = |event: &str| -> Result<Checkpoint, Box<dyn Error>> {
        let event = EventNumber(event.parse()?);
        Ok(Checkpoint::open_at(&reader, event, &reader.header().uuid)?)
    };
    let (first, second) = (open(first)?, open(second)?);
    let mut count = 0;
    for space in &second.image().spaces {
        let target = PageTarget::Space(space.id);
        let is_old = first.image().spaces.iter().any(|s| s.id == space.id);
        let mut all = pages(&second, target)?;
        if is_old {
            all.extend(pages(&first, target)?);
        }
        for page in all {
            let addr = Addr(page * PAGE);
            // The page has been unmapped.
            let Some(mapping) = space.space.at(addr) else {
                continue;
            };
            let before = if is_old {
                first.read_page(target, addr)?
            } else {
                None
            };
            let after = second.read_page(target, addr)?;
            if before != after {
                count += 1;
                println!("{} {:#x} {}", space.id.0, addr.0, mapping.name);
            }
        }
    }
    println!(
        "{count} pages differ between the events {} and {}",
        first.event(),
        second.event()
    );
    Ok(())
}
