//! Knowledge about the system call sites of files, kept from one program to the next, and from one
//! recording to the next.
//!
//! Short programs make most of their calls once, from the same few places of the same libraries. So at
//! such a site there is never a second call in the same address space. Therefore sites are remembered
//! by file and offset, and sites that most programs use are rewritten as soon as the file is mapped, as
//! part of that event.
//!
//! A file here is one content, as the trace keeps it. Memory is compared all the same. What is known of a
//! content stands as a note beside it in the store of mapped files ([`note`]), so that a runner of many
//! short tests learns only once.

mod file;
mod note;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use rr_trace::FileStore;
use rr_tracee::FileId;
use rr_tracee::site::SiteWindow;

pub(crate) use file::Verdict;
use file::{KnownFile, is_often};

/// The kind of our notes. It names the version of what they say, too.
const KIND: &str = "sites2";

/// After so many programs, one more alone is no news.
const PROGRAMS_ENOUGH: u32 = 4;

/// A place in a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FilePlace {
    pub file: FileId,
    pub offset: u64,
}

/// The sites of all files.
#[derive(Debug, Default)]
pub(crate) struct KnownSites {
    files: HashMap<FileId, KnownFile>,
    /// The place of notes. `None` in tests.
    notes: Option<Arc<FileStore>>,
}

impl KnownSites {
    /// The sites that these notes know, and those that will be learnt.
    pub fn of(notes: Arc<FileStore>) -> KnownSites {
        KnownSites {
            files: HashMap::new(),
            notes: Some(notes),
        }
    }

    fn file(&mut self, id: FileId) -> &mut KnownFile {
        let notes = self.notes.as_ref();
        self.files.entry(id).or_insert_with(|| {
            let note = notes.and_then(|notes| notes.note(id, KIND));
            note.and_then(|note| note::read(&note)).unwrap_or_default()
        })
    }

    /// Leaves notes about what was learnt.
    pub fn save(&self) {
        let Some(notes) = &self.notes else { return };
        for (id, file) in self.files.iter().filter(|(_, file)| file.news) {
            notes.set_note(*id, KIND, &note::write(file));
        }
    }

    /// Notes that a program has mapped this part of a file as code. Returns the sites there to be
    /// rewritten now, by the offsets of their calls.
    pub fn mapped(&mut self, file: FileId, part: Range<u64>) -> Vec<(u64, SiteWindow)> {
        let known = self.file(file);
        known.programs = known.programs.saturating_add(1);
        known.news |= known.programs <= PROGRAMS_ENOUGH;
        let sites = known.sites.range_mut(part).filter(|(_, site)| site.ahead);
        let windows = sites.filter_map(|(offset, site)| match &site.verdict {
            Some(Verdict::Window(window)) => {
                // Its calls are not traced any more: it counts as used.
                site.programs = site.programs.saturating_add(1);
                Some((*offset, window.clone()))
            }
            _ => None,
        });
        windows.collect()
    }

    /// Notes a program's first call at a site. Returns whether the site must now be examined: when half
    /// of the programs, and at least two, use it.
    pub fn called(&mut self, place: FilePlace) -> bool {
        let file = self.file(place.file);
        let all = file.programs;
        let site = file.sites.entry(place.offset).or_default();
        site.programs = site.programs.saturating_add(1);
        // A site that cannot be rewritten stays so: another call there is no news.
        file.news |= !matches!(site.verdict, Some(Verdict::Unfit(_)));
        is_often(site.programs, all) && !std::mem::replace(&mut site.ahead, true) && site.verdict.is_none()
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
        let file = self.file(place.file);
        file.news = true;
        file.sites.entry(place.offset).or_default().verdict = Some(verdict);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::stats::Obstacle;

    const FILE: FileId = FileId(7);

    fn place(offset: u64) -> FilePlace {
        FilePlace { file: FILE, offset }
    }

    #[test]
    fn what_two_programs_call_the_third_gets_in_advance() {
        let mut known = KnownSites::default();
        let window = SiteWindow::decode(&[0xb8, 1, 0, 0, 0]).unwrap();
        assert!(known.mapped(FILE, 0..100).is_empty());
        assert!(!known.called(place(20)));
        assert!(known.mapped(FILE, 0..100).is_empty());
        assert!(known.called(place(20)), "worth a look");
        known.learn(place(20), Verdict::Window(window.clone()));
        assert!(!known.called(place(20)), "only once");
        assert_eq!(known.mapped(FILE, 0..100), [(20, window.clone())]);
        assert!(known.mapped(FILE, 0..20).is_empty(), "in another part");
        assert_eq!(known.verdict(place(20)), Some(&Verdict::Window(window)));
        // It is called without us from now on, however many programs map the file.
        for _ in 0..100 {
            assert_eq!(known.mapped(FILE, 0..100).len(), 1);
        }
        let note = note::read(&note::write(&known.files[&FILE])).unwrap();
        assert!(note.sites[&20].ahead);
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
