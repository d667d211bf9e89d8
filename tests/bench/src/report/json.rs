//! The report as JSON, with the values of every round.

use serde_json::{Value, json};

use super::{Line, Report, Section};

/// A document with the machine, the peers, the rows and the failures.
pub(crate) fn text(report: &Report) -> String {
    let machine = &report.machine;
    let peers: Vec<_> = report
        .peers
        .iter()
        .map(|(name, version)| json!({ "name": name, "version": version.as_ref().ok() }))
        .collect();
    let failures: Vec<_> =
        report.failures.iter().map(|(row, reason)| json!({ "row": row.name, "reason": reason })).collect();
    let document = json!({
        "date": machine.date,
        "machine": {
            "cores": machine.cores, "processor": machine.processor, "kernel": machine.kernel,
        },
        "rounds": report.rounds,
        "seconds": report.seconds,
        "build": report.build,
        "peers": peers,
        "rows": report.sections.iter().map(section).collect::<Vec<_>>(),
        "failures": failures,
    });
    format!("{document:#}\n")
}

fn section(section: &Section) -> Value {
    json!({
        "name": section.row.name,
        "about": section.row.about,
        "unit": section.row.unit,
        "lines": section.lines.iter().map(line).collect::<Vec<_>>(),
    })
}

fn line(line: &Line) -> Value {
    let ratio = line.ratio();
    let aim = line.verdict.as_ref().map(|verdict| {
        json!({
            "text": verdict.aim,
            "met": verdict.met,
            "minimum": verdict.minimum.map(|(ratio, met)| json!({ "ratio": ratio, "met": met })),
        })
    });
    json!({
        "subject": line.subject,
        "relative_to": line.to,
        "ratio": { "min": ratio.least, "median": ratio.median, "max": ratio.greatest },
        "ratios": line.ratios,
        "values": line.values,
        "aim": aim,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_holds_rounds_spread_and_what_is_missing() {
        let document: Value = serde_json::from_str(&text(&super::super::tests::report())).unwrap();
        let ours = &document["rows"][0]["lines"][1];
        assert_eq!(ours["ratio"], json!({ "min": 1.0, "median": 1.1, "max": 1.2 }));
        assert_eq!(ours["ratios"], json!([1.2, 1.0, 1.1]));
        assert_eq!(ours["aim"]["minimum"]["met"], json!(false));
        assert_eq!(document["peers"][1], json!({ "name": "envoy", "version": null }));
        assert_eq!(document["failures"][0]["reason"], json!("no luck"));
    }
}
