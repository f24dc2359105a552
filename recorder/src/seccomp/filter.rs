//! A filter together with the filters installed before it: all of them are asked about each call.

use std::sync::Arc;

use crate::seccomp::allowed::Allowed;
use crate::seccomp::program::Program;
use crate::seccomp::run;
use crate::seccomp::verdict::{Asked, Verdict};

/// A filter together with the filters installed before it.
#[derive(Debug)]
pub struct Filter {
    pub(super) program: Program,
    /// The program as it was installed, for a tracer.
    pub(super) source: Vec<u8>,
    /// Its actions are to be logged (`SECCOMP_FILTER_FLAG_LOG`), which only a tracer can see.
    pub(super) logs: bool,
    pub(super) before: Option<Arc<Filter>>,
    /// Calls that this filter and all filters before it allow.
    pub(super) allowed: Allowed,
}

impl Filter {
    /// Makes a filter that follows `before`.
    pub(super) fn new(program: Program, source: Vec<u8>, before: Option<Arc<Filter>>) -> Filter {
        let mut allowed = Allowed::by(&program);
        if let Some(before) = &before {
            allowed.restrict(&before.allowed);
        }
        Filter {
            program,
            source,
            logs: false,
            before,
            allowed,
        }
    }

    /// Says whether the filter's actions are to be logged.
    pub(super) fn with_log(self, logs: bool) -> Filter {
        Filter { logs, ..self }
    }

    /// Returns this filter and those before it, newest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Filter> {
        std::iter::successors(Some(self), |filter| filter.before.as_deref())
    }

    /// Returns the verdict of all filters on a call. If several filters give the same action, the
    /// newest counts.
    pub(super) fn verdict(&self, asked: &Asked) -> Verdict {
        let words = asked.words();
        let verdicts = self
            .all()
            .map(|filter| Verdict::of(run::answer(&filter.program, &words)));
        verdicts
            .reduce(Verdict::more_restrictive)
            .unwrap_or(Verdict::Allow)
    }

    /// True if `other` is this filter, or was installed after it.
    pub(super) fn is_ancestor_of(&self, other: &Filter) -> bool {
        other.all().any(|filter| std::ptr::eq(filter, self))
    }
}
