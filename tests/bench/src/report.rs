//! Ratios with their spread.

use serde_json::json;

use crate::setup::Subject;

/// All rounds of one subject.
pub(crate) struct Row {
    name: &'static str,
    pub(crate) baseline: usize,
    pub(crate) microseconds: Vec<f64>,
    pub(crate) ratios: Vec<f64>,
}

impl Row {
    pub(crate) fn new(subject: &Subject) -> Self {
        Row { name: subject.name, baseline: subject.baseline, microseconds: Vec::new(), ratios: Vec::new() }
    }
}

/// Least, middle and greatest of some values.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}

/// One table on standard output.
pub(crate) fn print(rows: &[Row]) {
    println!("CPU of the proxy process for each request, as a ratio to nginx in the same round\n");
    println!("{:46} {:>6} {:>6} {:>6}   {:>8}", "", "min", "median", "max", "us");
    for row in rows {
        let (least, middle, greatest) = spread(&row.ratios);
        let (_, microseconds, _) = spread(&row.microseconds);
        println!("{:46} {least:6.2} {middle:6.2} {greatest:6.2}   {microseconds:8.1}", row.name);
    }
}

/// The same for machines.
pub(crate) fn json(rows: &[Row], workers: usize) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (least, middle, greatest) = spread(&row.ratios);
            json!({
                "name": row.name,
                "baseline": rows[row.baseline].name,
                "ratio": { "min": least, "median": middle, "max": greatest },
                "microseconds": row.microseconds,
                "ratios": row.ratios,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "unit": "CPU microseconds per request", "workers": workers, "rows": rows }))
}
