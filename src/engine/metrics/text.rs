//! Prometheus' text format, version 0.0.4.

use std::fmt::Write as _;

use super::histogram::Histogram;
use crate::ganeti::text::plain;

/// Labels and their values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The samples of one family, as they are written.
#[derive(Debug)]
pub struct Samples<'a> {
    out: &'a mut String,
    name: &'a str,
}

impl<'a> Samples<'a> {
    /// Those of the family of this name, behind what has been written.
    pub fn of(out: &'a mut String, name: &'a str) -> Self {
        Self { out, name }
    }

    /// One value.
    pub fn value(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value);
    }

    /// A value if there is one.
    pub fn maybe(&mut self, labels: Labels<'_>, value: Option<f64>) {
        value.into_iter().for_each(|value| self.value(labels, value));
    }

    /// A histogram's buckets, sum and count.
    pub fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        for (bound, count) in histogram.buckets() {
            self.line("_bucket", labels, Some(&bound.to_string()), count as f64);
        }
        self.line("_bucket", labels, Some("+Inf"), histogram.count() as f64);
        self.line("_sum", labels, None, histogram.sum());
        self.line("_count", labels, None, histogram.count() as f64);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: f64) {
        let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let name = self.name;
        // Writing to a string cannot fail.
        let _ = match labels.is_empty() {
            true => writeln!(self.out, "{name}{suffix} {value}"),
            false => writeln!(self.out, "{name}{suffix}{{{}}} {value}", labels.join(",")),
        };
    }
}

/// A label's value as it may stand in quotes; control characters would speak to a terminal.
fn escaped(value: &str) -> String {
    plain(value, usize::MAX).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_line() {
        let mut text = String::new();
        let mut samples = Samples::of(&mut text, "x");
        samples.value(&[("node", "a\"} 1\nup 0 \\\u{1b}[2J")], 2.5);
        samples.maybe(&[], None);
        samples.maybe(&[], Some(1_795_366_318.594));
        assert_eq!(text, "x{node=\"a\\\"} 1\\\\nup 0 \\\\\\\\u{1b}[2J\"} 2.5\nx 1795366318.594\n");
    }

    #[test]
    fn a_histogram_is_its_buckets_sum_and_count() {
        let mut histogram = Histogram::default();
        histogram.observe(0.25);
        let mut text = String::new();
        Samples::of(&mut text, "x").histogram(&[("phase", "pre")], &histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2..4],
            ["x_bucket{phase=\"pre\",le=\"0.1\"} 0", "x_bucket{phase=\"pre\",le=\"0.5\"} 1"]
        );
        assert_eq!(
            lines[10..],
            [
                "x_bucket{phase=\"pre\",le=\"+Inf\"} 1",
                "x_sum{phase=\"pre\"} 0.25",
                "x_count{phase=\"pre\"} 1"
            ]
        );
    }
}
