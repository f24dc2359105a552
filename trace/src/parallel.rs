//! Work on many pieces by several threads, with the results in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Maximum number of bytes of pieces that are in memory at once.
const AT_ONCE: u64 = 48 << 20;

/// Asks whether somebody wants an end.
pub type Asked<'a> = &'a (dyn Fn() -> bool + Sync);

/// A piece, and about how many bytes of memory it takes.
pub type Piece<T, E> = Result<(T, u64), E>;

/// Does `work` with all `pieces`, on `threads` threads, and hands the results to `sink` in the order of the pieces. The first error ends it.
pub fn in_order<T: Send, R: Send, E: Send>(
    mut pieces: impl Iterator<Item = Piece<T, E>>,
    threads: usize,
    work: impl Fn(T) -> Result<R, E> + Sync,
    mut sink: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < AT_ONCE {
            let Some(piece) = pieces.next() else { break };
            let (piece, weight) = piece?;
            bytes += weight.max(1);
            batch.push(Mutex::new((Some(piece), None)));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let next = AtomicUsize::new(0);
        let run = || {
            while let Some(slot) = batch.get(next.fetch_add(1, Ordering::Relaxed)) {
                // Each slot belongs to the thread that has got its number.
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                slot.1 = slot.0.take().map(&work);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(batch.len()) {
                // A thread less is only slower.
                let _ = std::thread::Builder::new().spawn_scoped(scope, run);
            }
            run();
        });
        for slot in batch {
            let (_, result) = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
            if let Some(result) = result {
                sink(result?)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_the_first_error_ends_it() {
        let pieces = || (0..100).map(|n| Ok((n, AT_ONCE / 10)));
        let mut seen = Vec::new();
        let double = |n: i32| Ok::<i32, i32>(2 * n);
        in_order(pieces(), 3, double, |n| {
            seen.push(n);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (0..100).map(|n| 2 * n).collect::<Vec<_>>());
        let fails = |n: i32| if n == 41 { Err(n) } else { Ok(n) };
        let mut count = 0;
        let end = in_order(pieces(), 3, fails, |_| {
            count += 1;
            Ok(())
        });
        assert_eq!((end, count), (Err(41), 41));
    }
}
