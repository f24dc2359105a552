use super::*;
use crate::event::{EventKind, EventNumber, MemWrite};
use crate::test_events::noise;
use proptest::prelude::*;
use rr_tracee::{Addr, SpaceId, Tid};

/// An event with records of buffered calls and writes.
fn event(buffered: Vec<u8>, writes: Vec<Vec<u8>>) -> Event {
    let write = |data| MemWrite {
        space: SpaceId(1),
        addr: Addr(0x1000),
        data,
    };
    Event {
        number: EventNumber(1),
        time_ns: 0,
        tid: Tid(1),
        kind: EventKind::Exit { status: 0 },
        buffered: buffered.into(),
        ops: vec![],
        others: vec![],
        writes: writes.into_iter().map(write).collect(),
        object_writes: vec![],
    }
}

/// The record of a buffered call with these outputs.
fn record(outputs: &[u8]) -> Vec<u8> {
    let mut record = (outputs.len() as u64).wrapping_shl(12).to_le_bytes().to_vec();
    record.extend((outputs.len() as u64).to_le_bytes());
    record.extend(outputs);
    record.resize(record.len().next_multiple_of(8), 0);
    record
}

/// The number of bytes that are stored for these events. Also checks that the bytes read are those written.
fn stored(events: &[Event]) -> usize {
    let plan = plan(events);
    let stored = plan.stored.concat();
    let data: Vec<&[u8]> = events.iter().flat_map(message::blobs).collect();
    let total = data.iter().map(|b| b.len() as u64).sum();
    match plan.payload() {
        None => assert_eq!(stored, data.concat()),
        Some(payload) => {
            let extents = Extents::read(&payload, stored.len() as u64, total).unwrap();
            let block = Arc::new(stored.clone());
            let again = || Extents(extents.0.clone());
            let mut taken = Assembly::new(&block, stored.len(), Some(again()));
            let mut shared = Assembly::new(&block, stored.len(), Some(again()));
            for blob in data {
                assert!(taken.take(blob.len() as u64).unwrap() == blob);
                assert!(shared.share(blob.len() as u64).unwrap().to_vec() == blob);
            }
            assert!(taken.take(1).unwrap().is_empty());
        }
    }
    stored.len()
}

#[test]
fn what_goes_through_a_pipe_is_stored_once() {
    let file = noise(1, 1 << 20);
    // Read in large extents, buffered; written into a pipe; read from there in small ones, some of them traced.
    let mut events = Vec::new();
    for large in file.chunks(128 << 10) {
        events.push(event(record(large), vec![]));
        for (n, small) in large.chunks(16 << 10).enumerate() {
            events.push(match n % 3 {
                0 => event(vec![], vec![small.to_vec()]),
                _ => event(record(small), vec![]),
            });
        }
    }
    let len = stored(&events);
    assert!(len < file.len() + 100 * 16, "{len}");
}

#[test]
fn the_reader_need_not_read_as_the_writer_wrote() {
    let file = noise(1, 300_000);
    let mut events: Vec<Event> = file
        .chunks(50_000)
        .map(|c| event(vec![], vec![c.to_vec()]))
        .collect();
    for size in [10_007, 300_000, 4097] {
        events.extend(file.chunks(size).map(|c| event(record(c), vec![])));
    }
    let len = stored(&events);
    // Every record has a head, and up to seven bytes that fill it up.
    assert!(len < file.len() + 23 * 105, "{len}");
}

#[test]
fn zeros_are_not_stored() {
    let mut sparse = vec![0; 100_000];
    sparse[50_000] = 1;
    let len = stored(&[
        event(vec![], vec![sparse, vec![0; 70_000]]),
        event(vec![0; 9000], vec![]),
    ]);
    assert!(len < 2 * 4096 + 9000, "{len}");
}

#[test]
fn what_saves_nothing_costs_nothing() {
    let events = [event(noise(1, 50_000), vec![noise(2, 100), noise(3, 100_000)])];
    assert!(plan(&events).payload().is_none());
    assert_eq!(stored(&events), 150_100);
    // Too little, and too much, to be looked at.
    assert!(plan(&[event(vec![], vec![vec![0; 8000]])]).payload().is_none());
    assert!(plan(&[event(vec![], vec![vec![0; 9 << 20]])]).payload().is_none());
}

#[test]
fn damaged_pieces_are_refused() {
    let entry = |at: u32, len: u32| [at.to_le_bytes(), len.to_le_bytes()].concat();
    let read = |payload: &[u8], stored, total| Extents::read(payload, stored, total).map(|p| p.0.len());
    assert_eq!(read(&[entry(0, 100), entry(ZEROS, 50)].concat(), 100, 150), Ok(2));
    for (payload, stored, total) in [
        // Beyond what is stored, by one and by all that fits into the numbers.
        (entry(1, 100), 100, 100),
        (entry(u32::MAX - 1, u32::MAX), 100, u64::from(u32::MAX)),
        (entry(0, u32::MAX), 100, u64::from(u32::MAX)),
        // Other lengths than the events say.
        (entry(0, 100), 100, 99),
        (entry(0, 100), 100, 1 << 63),
        (vec![], 100, 1),
        (entry(0, 0), 100, 0),
        // Much from little.
        (entry(ZEROS, 9 << 20), 0, 9 << 20),
        (entry(0, 9 << 20), 9 << 20, 9 << 20),
        // Half an entry.
        (entry(0, 100)[..7].to_vec(), 100, 0),
        ([entry(0, 100), vec![0]].concat(), 100, 100),
    ] {
        let e = read(&payload, stored, total).unwrap_err();
        assert!(e.to_string().contains("bytes"), "{e}");
    }
}

/// Strings made of parts of one text, zeros and noise.
fn strings() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
    let text = noise(7, 64 << 10);
    let part = prop_oneof![
        4 => (0..60_000usize, 0..20_000usize).prop_map(move |(from, len)| text[from..(from + len).min(text.len())].to_vec()),
        2 => (0..16usize, 0..5usize).prop_map(|(page, pages)| noise(7, 64 << 10)[page * 4096..].iter().take(pages * 4096).copied().collect()),
        1 => (0..20_000usize).prop_map(|n| vec![0; n]),
        1 => (any::<u16>(), 0..9000usize).prop_map(|(seed, len)| noise(seed.into(), len)),
    ];
    let string = proptest::collection::vec(part, 0..4).prop_map(|parts| parts.concat());
    proptest::collection::vec((any::<bool>(), string), 0..20)
}

proptest! {
    #[test]
    fn what_was_written_is_read(strings in strings()) {
        let events: Vec<Event> = strings
            .into_iter()
            .map(|(buffered, bytes)| if buffered { event(record(&bytes), vec![]) } else { event(vec![], vec![bytes]) })
            .collect();
        stored(&events);
    }

    #[test]
    fn records_need_not_be_records(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), repeat in 1..4usize) {
        stored(&[event(bytes.repeat(repeat), vec![bytes])]);
    }

    #[test]
    fn no_payload_takes_it_by_surprise(
        payload in proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..100),
        stored in 0..3000u64,
        total in 0..3000u64,
    ) {
        if let Ok(extents) = Extents::read(&payload, stored, total) {
            let block = Arc::new(vec![1; stored as usize]);
            let mut assembly = Assembly::new(&block, block.len(), Some(extents));
            prop_assert_eq!(assembly.take(total).unwrap().len() as u64, total);
        }
    }
}
