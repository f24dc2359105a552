//! The sites of one file.

use std::collections::BTreeMap;

use rr_tracee::site::SiteWindow;

use crate::policy::stats::Obstacle;

/// Result of examining a site.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The site cannot be rewritten, for this reason.
    Unfit(Obstacle),
    /// The instructions before the call that the jump overwrites.
    Window(SiteWindow),
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct KnownSite {
    pub verdict: Option<Verdict>,
    /// Number of programs that made a call there.
    pub programs: u32,
    /// True if the site is rewritten in advance.
    pub ahead: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct KnownFile {
    /// Number of programs that mapped code of the file.
    pub programs: u32,
    pub sites: BTreeMap<u64, KnownSite>,
    /// True if a later recorder should know what was learnt.
    pub news: bool,
}

/// Returns whether half of `all` programs, and at least two, make calls at a site.
pub(super) fn is_often(programs: u32, all: u32) -> bool {
    programs >= 2 && programs.saturating_mul(2) >= all
}
