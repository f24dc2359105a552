//! The form of log lines: `rr: warning: TEXT`, like every other message of rr's; and the text that chooses some of them.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// A specification as the original rr takes it (`all:warn,Session:debug`) in the form of this rr (`warn,session=debug`);
/// what is in that form already stays as it is.
pub fn directives(spec: &str) -> String {
    let directive = |part: &str| match part.split_once(':') {
        Some((name, level)) if !level.starts_with(':') => {
            let level = if level == "fatal" { "error" } else { level };
            if name == "all" {
                level.to_owned()
            } else {
                format!("{}={level}", name.to_lowercase())
            }
        }
        _ => part.to_owned(),
    };
    spec.split(',').map(directive).collect::<Vec<_>>().join(",")
}

/// Plain lines, without colours or time.
pub struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(out, "rr: {level}: ")?;
        ctx.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

#[cfg(test)]
mod tests {
    use super::directives;

    #[test]
    fn both_forms_are_understood() {
        assert_eq!(
            directives("all:warn,RecordSession:debug"),
            "warn,recordsession=debug"
        );
        assert_eq!(
            directives("warn,rr_recorder::signals=debug"),
            "warn,rr_recorder::signals=debug"
        );
        assert_eq!(directives("all:fatal"), "error");
    }
}
