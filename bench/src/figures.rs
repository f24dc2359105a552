//! Figures with goals: what was measured, what was to be reached, and whether it was.

/// One of them.
#[derive(Debug)]
struct Figure {
    what: String,
    measured: String,
    goal: String,
    passed: Option<bool>,
}

/// All of a report.
#[derive(Default, Debug)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// A figure that is to be at most this.
    pub fn at_most(&mut self, what: impl Into<String>, value: f64, goal: f64, unit: &str) {
        self.add(what, value, Some(("≤", goal, value <= goal)), unit);
    }

    /// A figure that is to be at least this.
    pub fn at_least(&mut self, what: impl Into<String>, value: f64, goal: f64, unit: &str) {
        self.add(what, value, Some(("≥", goal, value >= goal)), unit);
    }

    /// A figure without a goal.
    pub fn plain(&mut self, what: impl Into<String>, value: f64, unit: &str) {
        self.add(what, value, None, unit);
    }

    /// A figure that could not be measured, and why not.
    pub fn skipped(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.0.push(Figure {
            what: what.into(),
            measured: why.into(),
            goal: String::new(),
            passed: None,
        });
    }

    fn add(&mut self, what: impl Into<String>, value: f64, goal: Option<(&str, f64, bool)>, unit: &str) {
        self.0.push(Figure {
            what: what.into(),
            measured: amount(value, unit),
            goal: goal.map_or_else(String::new, |(sign, goal, _)| {
                format!("{sign} {}", amount(goal, unit))
            }),
            passed: goal.map(|(_, _, passed)| passed),
        });
    }

    /// Prints the table; whether all goals were reached.
    pub fn print(&self) -> bool {
        println!("\n| figure | measured | goal | |\n|---|---:|---:|---|");
        for figure in &self.0 {
            let verdict = match figure.passed {
                Some(true) => "PASS",
                Some(false) => "**MISSED**",
                None => "",
            };
            println!(
                "| {} | {} | {} | {verdict} |",
                figure.what, figure.measured, figure.goal
            );
        }
        println!();
        self.0.iter().all(|figure| figure.passed != Some(false))
    }
}

/// A number with about three digits, and its unit.
fn amount(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v == v.round() => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    match unit {
        "" | "×" => format!("{value:.digits$}{unit}"),
        _ => format!("{value:.digits$} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_judged() {
        let mut figures = Figures::default();
        figures.at_most("a", 1.0, 1.0, "s");
        figures.at_least("b", 8.5, 8.0, "×");
        figures.plain("c", 0.25, "");
        figures.skipped("d", "no such program");
        assert!(figures.print());
        figures.at_most("e", 1.01, 1.0, "s");
        assert!(!figures.print());
        assert_eq!(amount(0.0, "s"), "0 s");
        assert_eq!(amount(1.234, "×"), "1.23×");
        assert_eq!(amount(123.4, "KB"), "123 KB");
    }
}
