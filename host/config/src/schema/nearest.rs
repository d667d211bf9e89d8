//! "Did you mean": finds the known word nearest to a written one.

/// The candidate that was most likely meant, if one is near enough: at most a third of its letters may differ.
pub(crate) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let folded = fold(written);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count() / 3).max(1) && *distance < folded.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A word without the differences that do not count: case and separators.
fn fold(word: &str) -> Vec<char> {
    // Longer words are never near to a key; the cut bounds the work for hostile input.
    word.chars()
        .take(64)
        .map(|letter| if letter == '-' { '_' } else { letter.to_ascii_lowercase() })
        .collect()
}

/// The distance of two words: insertions, deletions, substitutions and swaps of neighbours (optimal string
/// alignment).
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let substituted = last[column] + usize::from(a != b);
            let mut best = substituted.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *a == right[column - 1] && left[row - 1] == *b {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = ["timeout", "upstream", "upstreams", "body_limit", "path"];
        let cases = [
            ("tiemout", Some("timeout")),
            ("Timeout", Some("timeout")),
            ("body-limit", Some("body_limit")),
            ("upstrem", Some("upstream")),
            ("upstreamss", Some("upstreams")),
            ("pth", Some("path")),
            ("colour", None),
            ("x", None),
            ("", None),
        ];
        for (written, meant) in cases {
            assert_eq!(nearest(written, keys), meant, "{written}");
        }
    }
}
