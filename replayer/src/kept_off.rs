//! Memory that a condition evaluated in the task must not read. If it would, the task stops, and the
//! replayer evaluates the condition.
//!
//! Keeps I8: a condition sees the program's own bytes. At patches and rewritten sites, our code lies
//! over the program's. And the condition must not be noticed: a watchpoint for reads would take it for
//! the program.
//!
//! The task compares each address with [`RANGES`] ranges. So the closest ranges are joined. The memory
//! between them then stops the task, too, which is only slower. (rr's own pages are in none of the
//! ranges: nothing of the program is there, and any result of reading them is right.)

use rr_trace::event::Event;
use rr_tracee::AddrRange;
use rr_tracee::task::WatchKind;

use crate::error::Result;
use crate::session::ReplaySession;
use crate::words::RANGES;

/// Joins these ranges into at most `most` ranges, split at the widest gaps.
pub(crate) fn together(mut ranges: Vec<AddrRange>, most: usize) -> Vec<AddrRange> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<AddrRange> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    let gap = |n: usize| joined[n].start - joined[n - 1].end;
    let mut splits: Vec<usize> = (1..joined.len()).collect();
    splits.sort_by_key(|n| std::cmp::Reverse(gap(*n)));
    splits.truncate(most.saturating_sub(1));
    splits.sort_unstable();
    let starts = std::iter::once(0).chain(splits.iter().copied());
    let ends = splits.iter().copied().chain([joined.len()]);
    let parts = starts.zip(ends).map(|(from, to)| &joined[from..to]);
    let whole = |part: &[AddrRange]| Some(AddrRange::new(part.first()?.start, part.last()?.end));
    parts.filter_map(whole).collect()
}

/// The ranges for the event's task as it is about to run.
pub(crate) fn kept_off(session: &mut ReplaySession, event: &Event) -> Result<Vec<AddrRange>> {
    let space = session.world.task(event)?.space;
    let mut ranges = session.stoppoints.breakpoints.passes.sites.clone();
    ranges.extend(
        session
            .code
            .overlays
            .get(&space)
            .into_iter()
            .flat_map(|o| o.ranges()),
    );
    let watches = session
        .watches()
        .iter()
        .filter(|watch| watch.kind == WatchKind::Access);
    ranges.extend(watches.map(|watch| AddrRange::sized(watch.addr, u64::from(watch.len))));
    Ok(together(ranges, RANGES))
}

#[cfg(test)]
mod tests {
    use rr_tracee::Addr;

    use super::*;

    #[test]
    fn the_widest_gaps_stay() {
        let range = |start, end| AddrRange::new(Addr(start), Addr(end));
        let all = vec![
            range(500, 510),
            range(10, 20),
            range(15, 30),
            range(32, 40),
            range(90, 91),
        ];
        assert_eq!(together(all.clone(), 9).len(), 4);
        assert_eq!(
            together(all.clone(), 3),
            [range(10, 40), range(90, 91), range(500, 510)]
        );
        assert_eq!(together(all.clone(), 2), [range(10, 91), range(500, 510)]);
        assert_eq!(together(all, 1), [range(10, 510)]);
        assert_eq!(together(vec![], 4), []);
    }
}
