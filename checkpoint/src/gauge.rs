//! The bytes that wait somewhere between two threads, so that the first of them can stop before they are too many.
//!
//! Keeps: what is held counts as long as its [`Held`] lives, wherever it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that both ends see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Counts these bytes until the guard is dropped.
    pub fn hold(&self, bytes: u64) -> Held {
        self.0.fetch_add(bytes, Ordering::AcqRel);
        Held {
            bytes,
            gauge: self.clone(),
        }
    }

    /// The bytes that are held now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Returns whether something may be added. Something is always taken where nothing is held, however large it is.
    pub fn has_room(&self, max: u64) -> bool {
        let held = self.bytes();
        held == 0 || held < max
    }
}

/// Bytes that are counted in a [`Gauge`].
#[derive(Debug)]
pub(crate) struct Held {
    bytes: u64,
    gauge: Gauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_while_they_are_held() {
        let gauge = Gauge::default();
        assert!(gauge.has_room(0), "one is always taken");
        let first = gauge.hold(7);
        assert!(!gauge.has_room(7) && gauge.has_room(8));
        let second = std::thread::spawn({
            let gauge = gauge.clone();
            move || gauge.hold(5)
        });
        let second = second.join().unwrap();
        assert_eq!(gauge.bytes(), 12);
        drop(first);
        assert_eq!(gauge.bytes(), 5);
        drop(second);
        assert_eq!(gauge.bytes(), 0);
    }
}
