//! The note about the sites of a file.
//!
//! ```text
//! <programs> <number of sites>
//! <offset of the call> <programs> <verdict>      for each site
//! ```
//!
//! Numbers are hexadecimal. A verdict is `?` (not examined), the window ([`SiteWindow`]), or the obstacle. Keeps:
//! a note that is not exactly so is none.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::file::{KnownFile, KnownSite, Verdict, is_often};
use crate::policy::stats::Obstacle;

/// The programs that a note counts at most: what programs did long ago counts less and less.
const PROGRAMS_MOST: u32 = 16;
/// The obstacles that a file's content decides.
const OBSTACLES: [(&str, Obstacle); 3] = [
    ("no-window", Obstacle::NoWindow),
    ("branch-target", Obstacle::BranchTarget),
    ("too-large", Obstacle::TooLarge),
];

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

pub(super) fn write(file: &KnownFile) -> Vec<u8> {
    let counted = file.programs.min(PROGRAMS_MOST);
    // A site keeps its part of the programs, rounded up.
    let part = |programs: u32| match file.programs {
        0 => 0,
        all => (u64::from(programs) * u64::from(counted)).div_ceil(all.into()),
    };
    let mut text = format!("{counted:x} {:x}\n", file.sites.len());
    for (offset, site) in &file.sites {
        let verdict = match &site.verdict {
            Some(Verdict::Window(window)) => window.to_string(),
            Some(Verdict::Unfit(obstacle)) => {
                let named = OBSTACLES.iter().find(|(_, known)| known == obstacle);
                named.map_or("?", |(name, _)| name).to_owned()
            }
            None => "?".to_owned(),
        };
        // Writing into a string does not fail.
        let _ = writeln!(text, "{offset:x} {:x} {verdict}", part(site.programs));
    }
    text.into_bytes()
}

pub(super) fn read(note: &[u8]) -> Option<KnownFile> {
    let mut lines = std::str::from_utf8(note).ok()?.strip_suffix('\n')?.split('\n');
    let (programs, count) = lines.next()?.split_once(' ')?;
    let mut file = KnownFile {
        programs: u32::try_from(hex(programs)?).ok()?,
        sites: BTreeMap::new(),
        news: false,
    };
    for line in lines {
        let mut words = line.split(' ');
        let (offset, programs, verdict) = (words.next()?, words.next()?, words.next()?);
        let (programs, verdict) = (u32::try_from(hex(programs)?).ok()?, read_verdict(verdict)?);
        let site = KnownSite {
            ahead: verdict.is_some() && is_often(programs, file.programs),
            verdict,
            programs,
        };
        file.sites.insert(hex(offset)?, site);
        words.next().is_none().then_some(())?;
    }
    (hex(count)? == file.sites.len() as u64).then_some(file)
}

fn read_verdict(word: &str) -> Option<Option<Verdict>> {
    if word == "?" {
        return Some(None);
    }
    if let Some((_, obstacle)) = OBSTACLES.iter().find(|(name, _)| *name == word) {
        return Some(Some(Verdict::Unfit(*obstacle)));
    }
    Some(Some(Verdict::Window(word.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use rr_tracee::site::{SiteWindow, WINDOW_MOST};

    use super::*;

    fn file(programs: u32) -> KnownFile {
        let site = |programs, ahead, verdict| KnownSite {
            verdict,
            programs,
            ahead,
        };
        let window = Verdict::Window(SiteWindow::decode(&[0xb8, 1, 0, 0, 0]).unwrap());
        let sites = [
            (0x1000, site(programs, true, Some(window.clone()))),
            (0x1010, site(1, false, Some(window))),
            (
                0x1020,
                site(2, true, Some(Verdict::Unfit(Obstacle::BranchTarget))),
            ),
            (0x1030, site(programs, false, None)),
        ];
        KnownFile {
            programs,
            sites: sites.into(),
            news: false,
        }
    }

    #[test]
    fn a_note_says_what_was_known() {
        let known = file(4);
        let note = write(&known);
        assert_eq!(
            String::from_utf8_lossy(&note),
            "4 4\n1000 4 pb801000000\n1010 1 pb801000000\n1020 2 branch-target\n1030 4 ?\n"
        );
        assert_eq!(read(&note), Some(known));
    }

    #[test]
    fn old_programs_count_less() {
        let read = read(&write(&file(1000))).unwrap();
        assert_eq!(read.programs, PROGRAMS_MOST);
        let programs: Vec<u32> = read.sites.values().map(|site| site.programs).collect();
        assert_eq!(programs, [PROGRAMS_MOST, 1, 1, PROGRAMS_MOST]);
        let ahead: Vec<bool> = read.sites.values().map(|site| site.ahead).collect();
        assert_eq!(ahead, [true, false, false, false]);
    }

    #[test]
    fn half_a_note_is_none() {
        let note = write(&file(4));
        for len in 0..note.len() {
            assert_eq!(read(&note[..len]), None, "{len}");
        }
        for bad in [
            "4 1\n1000 4 pb8010000000\n",
            "4 1\n1000 4 \n",
            "4 1\n1000 4 ? ?\n",
            "4 1\n-1 4 ?\n",
            "4 1\n1000 100000000 ?\n",
            "4 1\n1000 4 other\n",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        let long = format!("4 1\n1000 4 {}\n", "p90".repeat(WINDOW_MOST + 1));
        assert_eq!(read(long.as_bytes()), None);
    }
}
