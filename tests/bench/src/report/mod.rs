//! The results, and the formats of the report.

pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod svg;
pub(crate) mod table;

use crate::bench::Bench;
use crate::machine::Machine;
use crate::rows::Row;
use crate::rows::aim::Verdict;
use crate::spread::Spread;

/// All rounds of one subject of a row.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) subject: String,
    /// Whether it is Witgate.
    pub(crate) ours: bool,
    /// What the ratios are relative to.
    pub(crate) to: String,
    /// Values in the unit of the row. They show the magnitude and are not compared.
    pub(crate) values: Vec<f64>,
    /// The value of each round as a ratio within the round.
    pub(crate) ratios: Vec<f64>,
    pub(crate) verdict: Option<Verdict>,
}

impl Line {
    /// A line without rounds.
    pub(crate) fn new(subject: &str, ours: bool, to: &str) -> Line {
        Line {
            subject: subject.into(),
            ours,
            to: to.into(),
            values: Vec::new(),
            ratios: Vec::new(),
            verdict: None,
        }
    }

    /// The spread of the ratios; there must be at least one round.
    pub(crate) fn ratio(&self) -> Spread {
        Spread::of(&self.ratios)
    }

    /// The spread of the values; there must be at least one round.
    pub(crate) fn value(&self) -> Spread {
        Spread::of(&self.values)
    }
}

/// The lines of one row.
pub(crate) struct Section {
    pub(crate) row: &'static Row,
    pub(crate) lines: Vec<Line>,
}

/// A whole run.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: usize,
    pub(crate) seconds: u32,
    /// How Witgate was built.
    pub(crate) build: &'static str,
    /// Names and versions; for a peer that is not installed, the package to install.
    pub(crate) peers: Vec<(&'static str, Result<String, &'static str>)>,
    pub(crate) sections: Vec<Section>,
    /// Rows that could not be measured, and the reasons.
    pub(crate) failures: Vec<(&'static Row, String)>,
}

impl Report {
    /// A report without rows.
    pub(crate) fn begin(bench: &Bench) -> Report {
        let peers =
            bench.peers().map(|(peer, version)| (peer.name, version.map(String::from).ok_or(peer.package)));
        Report {
            machine: Machine::read(),
            rounds: bench.rounds,
            seconds: bench.seconds,
            build: bench.build,
            peers: peers.collect(),
            sections: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: &'static Row, mut lines: Vec<Line>) {
        lines.retain(|line| !line.ratios.is_empty());
        self.sections.push(Section { row, lines });
    }

    /// Records a row that failed. The other rows are still measured, and the run ends with an error.
    pub(crate) fn fail(&mut self, row: &'static Row, error: &anyhow::Error) {
        eprintln!("{}: {error:#}", row.name);
        self.failures.push((row, format!("{error:#}")));
    }

    /// Whether a line misses its minimum.
    pub(crate) fn misses_a_minimum(&self) -> bool {
        let lines = self.sections.iter().flat_map(|section| &section.lines);
        lines.filter_map(|line| line.verdict.as_ref()?.minimum).any(|(_, met)| !met)
    }

    /// Each peer with its version, or a note that it is missing.
    pub(crate) fn describe_peers(&self) -> String {
        let one = |(name, version): &(&str, Result<String, &str>)| match version {
            Ok(version) => format!("{name} {version}"),
            Err(_) => format!("{name} missing"),
        };
        self.peers.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// How the ratios were measured.
    pub(crate) fn describe_run(&self) -> String {
        format!("Witgate: {}; {} interleaved rounds of {} s", self.build, self.rounds, self.seconds)
    }
}

/// A short text about an aim and whether it is met.
fn say(verdict: &Verdict) -> String {
    let met = |met| if met { "met" } else { "missed" };
    let minimum = verdict
        .minimum
        .map_or_else(String::new, |(minimum, ok)| format!("; at least <= {minimum:.2}: {}", met(ok)));
    format!("{}: {}{minimum}", verdict.aim, met(verdict.met))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    /// A report of two rows that contains every kind of entry.
    pub(super) fn report() -> Report {
        let line = |subject: &str, ratios: &[f64]| Line {
            values: ratios.iter().map(|ratio| ratio * 20.0).collect(),
            ratios: ratios.into(),
            ..Line::new(subject, subject.starts_with("witgate"), "nginx")
        };
        let mut ours = line("witgate, <a & \"b\" | c>", &[1.2, 1.0, 1.1]);
        ours.verdict = Some(Verdict { aim: "<= 0.95".into(), met: false, minimum: Some((1.05, false)) });
        let mut report = Report {
            machine: Machine {
                date: "2026-11-25".into(),
                cores: 2,
                processor: "A <CPU>".into(),
                kernel: "6.1".into(),
            },
            rounds: 3,
            seconds: 2,
            build: "trained build",
            peers: vec![("nginx", Ok("1.22.1".into())), ("envoy", Err("envoy"))],
            sections: Vec::new(),
            failures: Vec::new(),
        };
        report.add(&ROWS[0], vec![line("nginx", &[1.0, 1.0, 1.0]), ours, line("missing", &[])]);
        report.add(&ROWS[1], vec![line("nginx", &[1.0])]);
        report.fail(&ROWS[2], &anyhow::anyhow!("no luck"));
        report
    }

    #[test]
    fn peers_that_are_missing_are_named() {
        assert_eq!(report().describe_peers(), "nginx 1.22.1, envoy missing");
    }

    #[test]
    fn only_a_missed_minimum_counts() {
        let mut report = report();
        assert!(report.misses_a_minimum());
        for section in &mut report.sections {
            for line in &mut section.lines {
                if let Some(verdict) = &mut line.verdict {
                    verdict.minimum = Some((1.05, true));
                }
            }
        }
        assert!(!report.misses_a_minimum());
    }

    #[test]
    fn a_verdict_says_both_aims() {
        let verdict = Verdict { aim: "<= 0.95".into(), met: false, minimum: Some((1.05, true)) };
        assert_eq!(say(&verdict), "<= 0.95: missed; at least <= 1.05: met");
    }
}
