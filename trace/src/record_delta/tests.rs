use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::test_events::noise;

/// A record as the library writes it.
fn record_of(number: u64, hash: u32, result: i64, outputs: &[u64]) -> Vec<u8> {
    let head = number | (outputs.len() as u64 * 8) << 12 | u64::from(hash) << 32;
    let words = [head, result as u64].into_iter().chain(outputs.iter().copied());
    words.flat_map(u64::to_le_bytes).collect()
}

/// Records of `clock_gettime`: some 30 ns pass from one to the next, once in a while a switch to somebody else.
fn clock(calls: u64) -> Vec<u8> {
    let mut ns = 999_990_000;
    let call = |n: u64| {
        ns += 25 + n * n % 13 + if n % 1000 == 999 { 40_000 } else { 0 };
        let time = [1_795_000_000 + ns / 1_000_000_000, ns % 1_000_000_000];
        record_of(228, 0x9f27_1234, 0, &time)
    };
    (0..calls).flat_map(call).collect()
}

fn whole(raw: &[u8]) -> Option<Vec<u8>> {
    encode(raw, [raw.len()])
}

fn decoded(deltas: &[u8], len: usize) -> Result<Vec<u8>, Malformed> {
    // Bytes that were there before must not matter.
    let mut out = noise(7, len);
    decode(deltas, &mut out).map(|()| out)
}

/// The deltas are shorter than that part of `raw`, and give it back.
#[track_caller]
fn expect_shorter(raw: &[u8], deltas: &[u8], part: usize) {
    assert!(
        deltas.len() < raw.len() / part,
        "{} of {}",
        deltas.len(),
        raw.len()
    );
    assert_eq!(decoded(deltas, raw.len()).unwrap(), raw);
}

#[test]
fn times_become_an_eighth_at_most() {
    let all = clock(32768);
    // A frame begins anywhere, in whole words.
    for cut in [0, 8, 16, 24] {
        let raw = &all[cut..];
        let deltas = whole(raw).unwrap();
        expect_shorter(raw, &deltas, 8);
    }
}

#[test]
fn a_loop_of_different_calls_is_followed() {
    // The calls that `cp -r` makes for every file.
    let file = |n: u64| {
        let mut stat = [0x8a4; 18];
        (stat[1], stat[9], stat[11]) = (n + 0x9000, n * 37 % 1000, 1_795_000_000 + n / 100);
        [
            record_of(257, 0xd131_0000, 3, &[]),
            record_of(262, 0x314c_0000, 0, &stat),
            record_of(257, 0x1ab9_0000, 4, &[]),
            record_of(326, 0x860e_0000, n as i64 % 400, &[]),
            record_of(326, 0x860e_0000, 0, &[]),
            record_of(3, 0x9f32_0000, 0, &[]),
        ]
        .concat()
    };
    let raw: Vec<u8> = (0..1000).flat_map(file).collect();
    let deltas = whole(&raw).unwrap();
    expect_shorter(&raw, &deltas, 15);
}

#[test]
fn bytes_of_odd_lengths_between_records_do_no_harm() {
    let (mut raw, mut ends) = (Vec::new(), Vec::new());
    for n in 0..40 {
        raw.extend(clock(100));
        ends.push(raw.len());
        raw.extend(noise(n, n as usize));
        ends.push(raw.len());
    }
    let deltas = encode(&raw, ends).unwrap();
    expect_shorter(&raw, &deltas, 8);
}

#[test]
fn what_is_no_records_is_left_alone() {
    let text = "what has no records in it, line after line\n".repeat(20_000);
    let mixed: Vec<u8> = [noise(1, 1 << 19), clock(1000), noise(2, 1 << 19)].concat();
    for raw in [
        text.as_bytes(),
        &noise(0, 1 << 20),
        &mixed,
        &[0; 300],
        &[],
        &clock(10),
    ] {
        assert!(whole(raw).is_none(), "{} bytes", raw.len());
    }
}

/// Deltas of these parts.
fn deltas(steps: &[u8], differences: &[u8], literals: &[u8]) -> Vec<u8> {
    let lengths = [steps, differences].map(|stream| (stream.len() as u32).to_le_bytes());
    [&lengths[0], &lengths[1], steps, differences, literals].concat()
}

#[test]
fn every_damage_is_noticed() {
    let first = record_of(228, 1, 0, &[5, 6]);
    let stat = record_of(262, 1, 0, &[1; 18]);
    let second = record_of(228, 1, 0, &[5, 7]);
    let good = deltas(&[1, 0, 32, 1 << 3 | 1, 32], &[2], &first);
    assert_eq!(decoded(&good, 64).unwrap(), [&first[..], &second].concat());
    let zeros = record_of(228, 0, 0, &[5, 6]);
    let long = record_of(228, 1, 0, &[0; 40]);
    for (what, bytes, len) in [
        ("ends", vec![], 8),
        ("ends", good[..7].to_vec(), 64),
        ("ends", deltas(&[1, 0, 33], &[], &first), 33),
        ("ends", deltas(&[1, 0, 32], &[], &first), 64),
        ("ends", deltas(&[1, 0, 32, 8 | 1], &[2], &first), 64),
        ("ends", deltas(&[1, 0, 32, 8 | 1, 32], &[], &first), 64),
        ("ends", deltas(&[1, 0, 32, 8 | 1, 32], &[0x80], &first), 64),
        ("ends", deltas(&[1, 0, 160, 1, 1, 160, 1], &[], &stat), 320),
        ("ends", u32::MAX.to_le_bytes().repeat(3), 64),
        ("left", deltas(&[1, 0, 32, 8 | 1, 32, 0], &[2], &first), 64),
        ("left", deltas(&[1, 0, 32, 8 | 1, 32], &[2, 2], &first), 64),
        ("left", deltas(&[1, 0, 32], &[], &[&*first, &[1]].concat()), 32),
        ("left", deltas(&[], &[], &[1]), 0),
        ("a run", deltas(&[1, 0, 0], &[], &[]), 8),
        ("a run", deltas(&[1, 0, 33], &[], &[0; 33]), 32),
        ("a run", deltas(&[9, 0, 32], &[], &first), 32),
        ("no record", deltas(&[0], &[], &[]), 32),
        ("no record", deltas(&[1, 0, 32, 0], &[], &first), 64),
        ("no record", deltas(&[1, 0, 32, 1, 33], &[], &first), 64),
        ("no record", deltas(&[1, 0, 32, 1, 7], &[], &first), 64),
        ("no record", deltas(&[1, 0, 32, 1, 32], &[], &zeros), 64),
        ("no record", deltas(&[1, 0, 0xd0, 2, 1, 0xd0, 2], &[], &long), 672),
        ("does not fit", deltas(&[1, 0, 32, 1, 32], &[], &first), 63),
        (
            "does not fit",
            deltas(&[1, 0, 40, 1, 8], &[], &[&*first, &first[..8]].concat()),
            100,
        ),
        ("beyond", deltas(&[1, 0, 32, 16 | 1, 32], &[2], &first), 64),
        (
            "beyond",
            deltas(&[1, 0, 160, 1, 1, 160, 1, 0, 16], &[2], &stat),
            320,
        ),
        ("64 bits", deltas(&[1, 0, 32, 8 | 1, 32], &[0xff; 11], &first), 64),
        (
            "64 bits",
            deltas(&[[1].as_slice(), &[0xff; 11]].concat(), &[], &first),
            64,
        ),
    ] {
        let e = decoded(&bytes, len).unwrap_err().to_string();
        assert!(e.contains(what), "{what}: {e} ({bytes:?})");
    }
}

fn bytes_between() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![]),
        vec(any::<u8>(), 0..100),
        (0..100usize).prop_map(|len| vec![0; len])
    ]
}

/// Few first words, so that they come again; few lengths; values that are often the same.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![Just(0), 0..300u64, any::<u64>()];
    let record = (0..3u64, 0..3u32, any::<i64>(), vec(value, 0..21));
    let record = record.prop_map(|(number, hash, result, outputs)| record_of(number, hash, result, &outputs));
    vec(record, 0..40).prop_map(|all| all.concat())
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(
        parts in vec((records(), bytes_between()), 1..5),
        cut in 0..5usize,
    ) {
        let mut parts: Vec<Vec<u8>> = parts.into_iter().flat_map(|(a, b)| [a, b]).collect();
        // Enough that can be left out for the rest to be half at most, and that from the beginning.
        let all: usize = parts.iter().map(Vec::len).sum();
        parts.insert(0, clock(30 + all as u64 / 8));
        let cut = cut * WORD;
        let mut raw = parts.concat();
        let ends = parts.iter().scan(0, |end, part| { *end += part.len(); Some(*end) });
        let ends: Vec<usize> = ends.map(|end| end.saturating_sub(cut)).collect();
        raw.drain(..cut);
        let deltas = encode(&raw, ends).unwrap();
        prop_assert!(deltas.len() <= raw.len() / 2);
        prop_assert!(decoded(&deltas, raw.len()).unwrap() == raw);
        if let Some(deltas) = whole(&raw) {
            prop_assert!(decoded(&deltas, raw.len()).unwrap() == raw);
        }
    }

    #[test]
    fn wrong_ends_do_no_harm(records in records(), ends in vec(0..9000usize, 0..6)) {
        let raw = [clock(30 + records.len() as u64 / 8), records].concat();
        if let Some(deltas) = encode(&raw, ends) {
            prop_assert!(decoded(&deltas, raw.len()).unwrap() == raw);
        }
    }

    #[test]
    fn arbitrary_bytes_come_back(raw in vec(any::<u8>(), 0..2000)) {
        if let Some(deltas) = whole(&raw) {
            prop_assert!(decoded(&deltas, raw.len()).unwrap() == raw);
        }
    }

    #[test]
    fn damaged_columns_are_decoded_to_something_or_refused(
        records in records(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        len in 0..3000usize,
    ) {
        let raw = [records.clone(), clock(50), records.clone(), clock(50 + records.len() as u64 / 8)].concat();
        let mut deltas = whole(&raw).unwrap();
        for (place, byte) in damage {
            *place.get_mut(&mut deltas) = byte;
        }
        let _ = decoded(&deltas, raw.len());
        let _ = decoded(&deltas, len);
    }

    #[test]
    fn arbitrary_columns_are_decoded_to_something_or_refused(
        steps in vec(prop_oneof![0..4u8, any::<u8>()], 0..60),
        rest in vec(any::<u8>(), 0..200),
        differences in 0..100usize,
    ) {
        let (differences, literals) = rest.split_at(differences.min(rest.len()));
        let _ = decoded(&deltas(&steps, differences, literals), 200);
        let _ = decoded(&rest, 100);
    }
}
