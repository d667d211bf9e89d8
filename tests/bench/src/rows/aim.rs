//! The aims of the rows, and whether they are met.
//!
//! An aim is what the project wants to reach; a minimum is what counts as done. The sources of the minima are in
//! `tests/bench/NOTES.md`.

use crate::report::Line;

/// Plain HTTP/1.1 proxying with 1 and 2 workers.
pub(crate) const PLAIN_MINIMUM: f64 = 1.05;
/// The same with four plugins.
pub(crate) const PLUGINS_MINIMUM: f64 = 1.35;
/// Responses of 100 KiB.
pub(crate) const LARGE_MINIMUM: f64 = 0.51;
/// HTTP/2 clients, HTTP/1.1 origin.
pub(crate) const HTTP2_MINIMUM: f64 = 0.86;
/// TLS with keep-alive.
pub(crate) const TLS_MINIMUM: f64 = 0.88;
/// A new connection for each request.
pub(crate) const CONNECT_MINIMUM: f64 = 1.21;
/// A new TLS connection for each request.
pub(crate) const CONNECT_TLS_MINIMUM: f64 = 1.41;

/// What a line has to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// The median ratio is at most this.
    Ratio(f64),
    /// The median value is at most this.
    Value(f64),
    /// The ratio is lower than that of every peer in the row.
    AheadOfAll,
    /// The ratio is at most that of the line with this name.
    AtMostThatOf(&'static str),
}

/// The result of comparing a line with its aim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) aim: String,
    pub(crate) met: bool,
    /// The minimum, and whether it is met.
    pub(crate) minimum: Option<(f64, bool)>,
}

/// Compares the line with this name with its aim. If the peer of the aim is missing, there is no verdict.
pub(crate) fn judge(lines: &mut [Line], subject: &str, aim: Aim, minimum: Option<f64>) {
    let Some(index) = lines.iter().position(|line| line.subject == subject) else { return };
    let ratio = lines[index].ratio().median;
    let aimed = match aim {
        Aim::Ratio(most) => Some((format!("<= {most:.2}"), ratio <= most)),
        Aim::Value(most) => Some((format!("<= {most:.0} KiB"), lines[index].value().median <= most)),
        Aim::AheadOfAll => {
            let peers = lines.iter().filter(|line| !line.ours);
            let best = peers.min_by(|one, other| one.ratio().median.total_cmp(&other.ratio().median));
            best.map(|best| {
                (
                    format!("ahead of all ({} {:.2})", best.subject, best.ratio().median),
                    ratio < best.ratio().median,
                )
            })
        }
        Aim::AtMostThatOf(name) => {
            let other = lines.iter().find(|line| line.subject == name);
            other.map(|other| {
                (format!("<= {name} ({:.2})", other.ratio().median), ratio <= other.ratio().median)
            })
        }
    };
    if let Some((aim, met)) = aimed {
        let minimum = minimum.map(|minimum| (minimum, ratio <= minimum));
        lines[index].verdict = Some(Verdict { aim, met, minimum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Line> {
        let line = |subject: &str, ratio: f64| Line {
            values: vec![10.0 * ratio],
            ratios: vec![ratio],
            ..Line::new(subject, subject == "witgate", "nginx")
        };
        vec![line("nginx", 1.0), line("haproxy", 0.9), line("witgate", 0.95)]
    }

    fn verdict(aim: Aim, minimum: Option<f64>) -> Option<Verdict> {
        let mut lines = lines();
        judge(&mut lines, "witgate", aim, minimum);
        lines.pop().unwrap().verdict
    }

    #[test]
    fn an_aim_and_its_minimum_are_judged_apart() {
        let looked_at = verdict(Aim::Ratio(0.9), Some(1.05)).unwrap();
        assert_eq!((looked_at.met, looked_at.minimum), (false, Some((1.05, true))));
        assert!(verdict(Aim::Value(9.5), None).unwrap().met);
        let behind = verdict(Aim::AheadOfAll, Some(0.9)).unwrap();
        assert_eq!(behind.aim, "ahead of all (haproxy 0.90)");
        assert_eq!((behind.met, behind.minimum), (false, Some((0.9, false))));
        assert!(verdict(Aim::AtMostThatOf("nginx"), None).unwrap().met);
    }

    #[test]
    fn a_missing_peer_gives_no_verdict() {
        assert_eq!(verdict(Aim::AtMostThatOf("caddy"), Some(1.0)), None);
    }
}
