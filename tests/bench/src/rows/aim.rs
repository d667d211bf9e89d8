//! What a row aims at, and whether it is met.
//!
//! Aims are of the project's issue on speed. Minima are what counts as done: for plain requests and for four plugins the
//! issue names them; elsewhere the minimum is what a proxy made of hyper with one runtime a core and a pool of its own
//! cost in the measurements the project began with (November 2026, medians, ratios to nginx 1.22).

use crate::report::Line;

/// Plain HTTP/1.1 proxying, 1 and 2 workers. Named by the issue.
pub(crate) const PLAIN_MINIMUM: f64 = 1.05;
/// The same with four plugins. Named by the issue.
pub(crate) const PLUGINS_MINIMUM: f64 = 1.35;
/// 100 KiB answers. The hyper column.
pub(crate) const LARGE_MINIMUM: f64 = 0.51;
/// HTTP/2 to HTTP/1.1. The hyper column.
pub(crate) const HTTP2_MINIMUM: f64 = 0.86;
/// TLS with keep-alive. The hyper column.
pub(crate) const TLS_MINIMUM: f64 = 0.88;
/// A new connection for each request. The hyper column.
pub(crate) const CONNECT_MINIMUM: f64 = 1.21;
/// The same in TLS. The hyper column, which was measured without control of resumption.
pub(crate) const CONNECT_TLS_MINIMUM: f64 = 1.41;

/// The median below which a line is good.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// The ratio is at most this.
    Ratio(f64),
    /// The value is at most this.
    Value(f64),
    /// The ratio is below that of every peer in the row.
    AheadOfAll,
    /// The ratio is at most that of the line with this name.
    AtMostThatOf(&'static str),
}

/// An aim that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) aim: String,
    pub(crate) met: bool,
    /// The ratio that counts as done, and whether it is met.
    pub(crate) minimum: Option<(f64, bool)>,
}

/// Says of the line with this name whether it meets its aim. An aim whose peer is missing is no verdict.
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
