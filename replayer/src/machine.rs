//! Compares the processor that a trace was recorded on with the one here, before the first event.
//!
//! The program's instructions run here as they ran there. So all features that the program was shown must be here, and the
//! same components of extended state in the same places, whose size and number programs read without `CPUID` (`XGETBV`).
//! Nothing else of the processor has to be the same: the answers of `CPUID` are the trace's.
//!
//! A trace that was recorded to be portable has answers of `XGETBV`, too, and no state beyond its level. Other components may be
//! here, if those of the level are.

use std::sync::OnceLock;

use rr_trace::TraceReader;
use rr_tracee::cpuid::{Level, Table};

use crate::affinity::runs_anywhere;
use crate::error::{Error, Result};

/// Checks that a trace can be replayed on this processor, and warns of what may be different.
pub(crate) fn check(reader: &TraceReader) -> Result<()> {
    static HERE: OnceLock<Table> = OnceLock::new();
    let header = reader.header();
    let recorded = &header.cpuid;
    if recorded.entries().is_empty() {
        // The recorder did not answer any CPUID, and older traces do not say what their processor has.
        return Ok(());
    }
    let here = HERE.get_or_init(processor);
    let has_no_state =
        || (!Table::of_this_cpu().has_extended_state()).then(|| "it has no XSAVE, which rr needs".into());
    if let Some(why) = obstacle(recorded, header.portable, here).or_else(has_no_state) {
        return Err(Error::Machine {
            why,
            model: header.cpu_model.clone(),
        });
    }
    if recorded.vendor() != here.vendor() {
        tracing::warn!(
            "this was recorded on a processor of another make ({}): instructions that only approximate (rcpps, rsqrtps) may give \
             other values here",
            header.cpu_model
        );
    }
    let signature = |table: &Table| table.get(1, 0).map(|[eax, ..]| eax);
    if !runs_anywhere(reader) && signature(recorded) != signature(here) {
        tracing::warn!(
            "this was recorded on another processor ({}): code that asks for the processor, in files that rr could not search or made \
             by the program itself, will diverge",
            header.cpu_model
        );
    }
    // With other components, all of them have another size.
    let size = |table: &Table| table.get(0xd, 0).map(|[_, size, ..]| size);
    if header.portable.is_some() && recorded.state_components() != Some(0) && size(recorded) != size(here) {
        tracing::warn!(
            "this was recorded on a processor with other components of extended state: code in files that rr could not search that \
             asks for them (xgetbv), and code that saves all of them (xsave; glibc's lazy binding), may diverge"
        );
    }
    Ok(())
}

/// The processor here; or, for tests, what an older one would have of its features.
fn processor() -> Table {
    /// A level that this processor is not to exceed.
    const PRETENDED: &str = "RR_TEST_REPLAY_LEVEL";
    let mut table = Table::of_this_cpu();
    let pretended = std::env::var(PRETENDED).ok();
    if let Some(level) = pretended.and_then(|level| level.parse::<Level>().ok()) {
        table.restrict(level);
    }
    table
}

/// The reason why a program that was shown one processor cannot run on another one.
fn obstacle(recorded: &Table, portable: Option<Level>, here: &Table) -> Option<String> {
    let missing = recorded.features_beyond(here);
    if !missing.is_empty() {
        let names = missing.join(", ");
        return Some(format!(
            "it has not the features that the program was shown: {names} (rr record --portable shows only those of a level, \
             --disable-cpuid-features and its like hide single ones)"
        ));
    }
    let components = [recorded, here].map(|table| table.state_components().unwrap_or(0));
    let others = |hint: &str| {
        let [recorded, here] = components;
        format!("it has other components of extended state (XCR0): {here:#x}, and not {recorded:#x}{hint}")
    };
    let [recorded_components, here_components] = components;
    match portable {
        Some(_) => (recorded_components & !here_components != 0).then(|| others("")),
        None if recorded_components != here_components => {
            Some(others(" (a trace of rr record --portable can be replayed here)"))
        }
        None if recorded.state_places() != here.state_places() => Some(
            "it has components of extended state in other places (a trace of rr record --portable can be replayed here)".into(),
        ),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use rr_preload::layout::{ANY_SUBLEAF, CpuidEntry};

    use super::*;

    fn table(ecx: u32, components: u32) -> Table {
        let entry = |leaf, sub, answer| CpuidEntry { leaf, sub, answer };
        let entries = vec![
            entry(1, ANY_SUBLEAF, [0, 0, ecx, 0]),
            entry(0xd, 0, [components, 0, 0, 0]),
        ];
        Table::from_entries(entries).unwrap()
    }

    #[test]
    fn what_is_missing_is_named() {
        const SSE3_AND_AVX: u32 = 1 << 28 | 1;
        assert_eq!(obstacle(&table(1, 7), None, &table(SSE3_AND_AVX, 7)), None);
        let missing = obstacle(&table(SSE3_AND_AVX, 7), None, &table(1, 7)).unwrap();
        assert!(missing.contains("was shown: avx ("), "{missing}");
        let other = obstacle(&table(1, 0xe7), None, &table(1, 7)).unwrap();
        assert!(other.contains("0x7, and not 0xe7"), "{other}");
    }

    #[test]
    fn a_portable_trace_needs_the_components_of_its_level() {
        let v3 = Some(Level::V3);
        assert_eq!(obstacle(&table(1, 7), v3, &table(1, 7)), None);
        assert_eq!(obstacle(&table(1, 7), v3, &table(1, 0x2e7)), None);
        let lost = obstacle(&table(1, 7), v3, &table(1, 3)).unwrap();
        assert!(lost.contains("0x3, and not 0x7"), "{lost}");
        assert_eq!(obstacle(&table(1, 0), Some(Level::V2), &table(1, 0xe7)), None);
    }

    #[test]
    fn components_must_be_in_the_same_places() {
        let with = |offset| {
            let mut entries = table(1, 0xe7).entries().to_vec();
            entries.push(CpuidEntry {
                leaf: 0xd,
                sub: 5,
                answer: [64, offset, 0, 0],
            });
            Table::from_entries(entries).unwrap()
        };
        assert_eq!(obstacle(&with(1088), None, &with(1088)), None);
        let other = obstacle(&with(1088), None, &with(832)).unwrap();
        assert!(other.contains("in other places"), "{other}");
    }
}
