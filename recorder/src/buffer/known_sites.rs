//! Knowledge about the system call sites of files, kept from one program to the next.
//!
//! Short programs make most of their calls once, from the same few places of the same libraries. So at
//! such a site there is never a second call in the same address space. Therefore sites are remembered
//! by file and offset, and sites that most programs use are rewritten as soon as the file is mapped, as
//! part of that event.
//!
//! A file here is one content, as the trace keeps it. Memory is compared all the same.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use rr_tracee::FileId;

use crate::policy::stats::Obstacle;

/// A place in a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FilePlace {
    pub file: FileId,
    pub offset: u64,
}

/// Result of examining a site.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The site cannot be rewritten, for this reason.
    Unfit(Obstacle),
    /// The instructions before the call that the jump overwrites.
    Window(Vec<u8>),
}

#[derive(Debug, Default)]
struct KnownSite {
    verdict: Option<Verdict>,
    /// Number of programs that made a call there.
    programs: u32,
    /// True if the site is rewritten in advance.
    ahead: bool,
}

#[derive(Debug, Default)]
struct KnownFile {
    /// Number of programs that mapped code of the file.
    programs: u32,
    sites: BTreeMap<u64, KnownSite>,
}

/// The sites of all files.
#[derive(Debug, Default)]
pub(crate) struct KnownSites {
    files: HashMap<FileId, KnownFile>,
}

impl KnownSites {
    /// Notes that a program has mapped this part of a file as code. Returns the sites there to be
    /// rewritten now, by the offsets of their calls.
    pub fn mapped(&mut self, file: FileId, part: Range<u64>) -> Vec<(u64, Vec<u8>)> {
        let known = self.files.entry(file).or_default();
        known.programs += 1;
        let sites = known.sites.range(part).filter(|(_, site)| site.ahead);
        let windows = sites.filter_map(|(offset, site)| match &site.verdict {
            Some(Verdict::Window(window)) => Some((*offset, window.clone())),
            _ => None,
        });
        windows.collect()
    }

    /// Notes a program's first call at a site. Returns whether the site must now be examined: when half
    /// of the programs, and at least two, use it.
    pub fn called(&mut self, place: FilePlace) -> bool {
        let file = self.files.entry(place.file).or_default();
        let site = file.sites.entry(place.offset).or_default();
        site.programs += 1;
        let often = site.programs >= 2 && site.programs * 2 >= file.programs;
        often && !std::mem::replace(&mut site.ahead, true)
    }

    /// The known result of examining a site.
    pub fn verdict(&self, place: FilePlace) -> Option<&Verdict> {
        self.files
            .get(&place.file)?
            .sites
            .get(&place.offset)?
            .verdict
            .as_ref()
    }

    /// Remembers the result of examining a site.
    pub fn learn(&mut self, place: FilePlace, verdict: Verdict) {
        let sites = &mut self.files.entry(place.file).or_default().sites;
        sites.entry(place.offset).or_default().verdict = Some(verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId(7);

    fn place(offset: u64) -> FilePlace {
        FilePlace { file: FILE, offset }
    }

    #[test]
    fn what_two_programs_call_the_third_gets_in_advance() {
        let mut known = KnownSites::default();
        let window = Verdict::Window(vec![1, 2, 3, 4, 5]);
        assert!(known.mapped(FILE, 0..100).is_empty());
        assert!(!known.called(place(20)));
        assert!(known.mapped(FILE, 0..100).is_empty());
        assert!(known.called(place(20)), "worth a look");
        known.learn(place(20), window.clone());
        assert!(!known.called(place(20)), "only once");
        assert_eq!(known.mapped(FILE, 0..100), [(20, vec![1, 2, 3, 4, 5])]);
        assert!(known.mapped(FILE, 0..20).is_empty(), "in another part");
        assert_eq!(known.verdict(place(20)), Some(&window));
    }

    #[test]
    fn what_few_programs_call_is_left_alone() {
        let mut known = KnownSites::default();
        for _ in 0..10 {
            known.mapped(FILE, 0..100);
        }
        assert!((0..4).all(|_| !known.called(place(30))));
        assert!(known.called(place(30)));
    }

    #[test]
    fn what_is_unfit_is_never_rewritten() {
        let mut known = KnownSites::default();
        known.called(place(40));
        known.called(place(40));
        known.learn(place(40), Verdict::Unfit(Obstacle::NoWindow));
        assert!(known.mapped(FILE, 0..100).is_empty());
    }
}
