//! The formats of `/metrics`, and the choice between them by `Accept` (RFC 9110 section 12.5.1).

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Exposition {
    /// The content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The format that a client prefers, by the values of `Accept`. OpenMetrics where both are equally welcome and where
    /// nothing is said; the format of Prometheus where the client accepts neither, because every reader of metrics knows it.
    pub fn preferred<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges: Vec<_> =
            accept.into_iter().flat_map(|value| value.split(',')).filter_map(range).collect();
        if ranges.is_empty() {
            return Exposition::OpenMetrics;
        }
        let quality = |format: Exposition| {
            let fitting = ranges.iter().filter_map(|range| Some((format.specificity(range)?, range.quality)));
            // Of several ranges that fit equally closely, the most welcoming one counts.
            fitting.max().map_or(0, |(_, quality)| quality)
        };
        let (open, text) = (quality(Exposition::OpenMetrics), quality(Exposition::Prometheus));
        if open > 0 && open >= text { Exposition::OpenMetrics } else { Exposition::Prometheus }
    }

    /// How closely a media range fits this format, from 0; `None` if it does not fit. One that names the version of the
    /// format is closer than one that names none.
    fn specificity(self, range: &Range<'_>) -> Option<u8> {
        let (exact, family, version) = match self {
            Exposition::OpenMetrics => ("application/openmetrics-text", "application/*", "1.0.0"),
            Exposition::Prometheus => ("text/plain", "text/*", "0.0.4"),
        };
        let fits = ["*/*", family, exact].into_iter().zip(0..);
        let (_, specificity) = fits.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(range.kind))?;
        match range.version {
            None => Some(specificity),
            Some(named) => (named == version).then_some(specificity + 1),
        }
    }

    /// Metrics in this format, from their OpenMetrics text.
    pub fn of(self, text: String) -> String {
        match self {
            Exposition::OpenMetrics => text,
            Exposition::Prometheus => to_prometheus(&text),
        }
    }
}

/// A media range of `Accept`.
struct Range<'a> {
    kind: &'a str,
    /// The version of the format, if the range names one.
    version: Option<&'a str>,
    /// In thousandths. One that is not valid counts as 0.
    quality: u16,
}

fn range(item: &str) -> Option<Range<'_>> {
    let mut parts = item.split(';').map(str::trim);
    let kind = parts.next().filter(|kind| !kind.is_empty())?;
    let (mut version, mut quality) = (None, 1.0);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        if name.eq_ignore_ascii_case("q") {
            quality = value.parse::<f32>().unwrap_or(0.0);
        } else if name.eq_ignore_ascii_case("version") {
            version = Some(value.trim_matches('"'));
        }
    }
    Some(Range { kind, version, quality: (quality.clamp(0.0, 1.0) * 1000.0) as u16 })
}

/// In the format of Prometheus the name of a counter includes `_total`, types that it does not know are untyped, and
/// there is neither `# UNIT` nor `# EOF`. Samples are written alike.
fn to_prometheus(text: &str) -> String {
    let mut converted = String::with_capacity(text.len() + text.len() / 16);
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some((name, sentence)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = Some((name, sentence));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "gauge" | "histogram" | "summary" => ("", kind),
                _ => ("", "untyped"),
            };
            if let Some((_, sentence)) = help.take().filter(|(of, _)| *of == name) {
                converted.push_str(&format!("# HELP {name}{suffix} {sentence}\n"));
            }
            converted.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            converted.push_str(line);
            converted.push('\n');
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_the_client_prefers() {
        use Exposition::{OpenMetrics, Prometheus};
        let prometheus_2 = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
             q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            (&[] as &[&str], OpenMetrics),
            (&[""], OpenMetrics),
            (&["*/*"], OpenMetrics),
            (&["application/openmetrics-text"], OpenMetrics),
            (&[prometheus_2], OpenMetrics),
            (&["text/plain"], Prometheus),
            (&["text/plain;version=0.0.4"], Prometheus),
            (&["Text/Plain; Q=0.9", "application/openmetrics-text; q=0.1"], Prometheus),
            (&["application/openmetrics-text;q=0, */*"], Prometheus),
            (&["text/*"], Prometheus),
            (&["text/plain;q=0, */*;q=0.1"], OpenMetrics),
            (&["text/html"], Prometheus),
            (&["application/openmetrics-text;q=x"], Prometheus),
            (&["text/plain;q=0.9, text/plain;q=0.2", "application/openmetrics-text;q=0.5"], Prometheus),
            (&["text/plain;q=0.2, text/plain;q=0.9", "application/openmetrics-text;q=0.5"], Prometheus),
            (
                &["application/openmetrics-text;q=0.8,application/openmetrics-text;q=0.1,text/plain;q=0.5"],
                OpenMetrics,
            ),
            (
                &["text/plain;version=0.0.4;q=0.1, text/plain;q=0.9, application/openmetrics-text;q=0.5"],
                OpenMetrics,
            ),
            (&["application/openmetrics-text;version=0.0.1"], Prometheus),
            (
                &["text/plain;version=1.0.0;q=0.9, application/openmetrics-text;version=\"1.0.0\";q=0.1"],
                OpenMetrics,
            ),
            (
                &[
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.7",
                ],
                Prometheus,
            ),
        ] {
            assert_eq!(Exposition::preferred(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    #[test]
    fn names_and_types_are_those_of_the_format() {
        let open = "# HELP a_requests Requests\n# TYPE a_requests counter\na_requests_total{b=\"# EOF\"} 7\n# HELP g A gauge\n\
                    # TYPE g gauge\n# UNIT g seconds\ng 1\n# TYPE u unknown\nu 2\n# EOF\n";
        let expected = "# HELP a_requests_total Requests\n# TYPE a_requests_total counter\n\
                        a_requests_total{b=\"# EOF\"} 7\n# HELP g A gauge\n# TYPE g gauge\ng 1\n# TYPE u untyped\nu 2\n";
        assert_eq!(Exposition::Prometheus.of(open.to_owned()), expected);
        assert_eq!(Exposition::OpenMetrics.of(open.to_owned()), open);
    }
}
