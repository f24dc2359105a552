//! A write that fails in the middle, as on a full disk: that checkpoint is dropped, the next one comes.
//! Alone in its process, because the limit is the process's.

mod common;

use common::*;
use rr_checkpoint::{Error, SharedSource, list};
use rr_trace::event::EventNumber;

fn limit(bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid rlimit; ignoring a signal has no handler that could be unsafe.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

#[test]
fn a_full_disk_costs_one_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = Region::anonymous(1000);
    (0..1000).for_each(|p| region.write(p, &content(2 * p + 1)));
    let mut writer = writer(dir.path());
    limit(1 << 20);
    let child = Child::fork();
    assert!(writer.submit(request(1, region.space(), SharedSource::frozen(child.0))));
    let error = wait(&mut writer).result.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Io {
                what: "writing a checkpoint",
                ..
            }
        ),
        "{error}"
    );
    assert!(child.is_killed());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing half-written stays"
    );
    // Several at once: those that are read before the first has failed refer to it.
    let children: Vec<Child> = (2..8).map(|_| Child::fork()).collect();
    for (event, child) in (2..8).zip(&children) {
        assert!(writer.submit(request(event, region.space(), SharedSource::frozen(child.0))));
    }
    let mut outcomes = Outcomes::default();
    for event in 2..8 {
        let outcome = outcomes.next(&mut writer);
        assert_eq!(outcome.event, EventNumber(event), "in order");
        assert!(outcome.result.is_err(), "there was no room for it: {outcome:?}");
    }
    assert!(children.iter().all(Child::is_killed));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    limit(libc::RLIM_INFINITY);
    let stats = take(&mut writer, 8, region.space());
    assert_eq!(
        (stats.pages_stored, stats.pages_referenced),
        (1000, 0),
        "nothing refers to what was dropped"
    );
    assert_eq!(list(dir.path()).unwrap(), [EventNumber(8)]);
    assert_eq!(pages(&open(dir.path(), 8), TARGET).unwrap().len(), 1000);
}
