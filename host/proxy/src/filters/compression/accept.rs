//! Chooses the content coding that a client prefers, by `Accept-Encoding` (RFC 9110 section 12.5.3).

use http::HeaderValue;

use super::Coding;

/// The offered coding of the highest weight; among equals the first offered. `None` leaves the body as it is, also
/// where the client prefers `identity`.
pub(super) fn choose<'a>(
    values: impl Iterator<Item = &'a HeaderValue>,
    offered: &[Coding],
) -> Option<Coding> {
    let mut weights = Weights::default();
    for value in values {
        // A value that is not text offers nothing.
        value.to_str().ok()?.split(',').for_each(|member| weights.note(member));
    }
    let mut best: Option<(Coding, u16)> = None;
    for coding in offered {
        let weight = weights.of(*coding);
        if weight > best.map_or(0, |(_, weight)| weight) {
            best = Some((*coding, weight));
        }
    }
    best.filter(|(_, weight)| *weight >= weights.identity.unwrap_or(0)).map(|(coding, _)| coding)
}

/// Weights of the codings, in thousandths.
#[derive(Default)]
struct Weights {
    zstd: Option<u16>,
    br: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    others: Option<u16>,
}

impl Weights {
    fn note(&mut self, member: &str) {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = match parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
        {
            Some(text) => thousandths(text),
            None => 1000,
        };
        let place = match name.as_str() {
            "zstd" => &mut self.zstd,
            "br" => &mut self.br,
            "gzip" | "x-gzip" => &mut self.gzip,
            "identity" => &mut self.identity,
            "*" => &mut self.others,
            _ => return,
        };
        // If a coding is named twice, the more welcoming weight counts.
        *place = (*place).max(Some(weight));
    }

    fn of(&self, coding: Coding) -> u16 {
        let own = match coding {
            Coding::Zstd => self.zstd,
            Coding::Br => self.br,
            Coding::Gzip => self.gzip,
        };
        own.or(self.others).unwrap_or(0)
    }
}

/// Parses `0` to `1` with at most three digits after the point (RFC 9110 section 12.4.2); anything else counts as
/// 0.
fn thousandths(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1000.0).round() as u16,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_and_we_break_ties() {
        use Coding::{Br, Gzip, Zstd};
        for (text, coding) in [
            ("gzip", Some(Gzip)),
            ("gzip, br", Some(Br)),
            ("gzip, deflate, br, zstd", Some(Zstd)),
            ("gzip;q=1.0, br;q=0.5", Some(Gzip)),
            ("br;q=0, gzip;q=0.1", Some(Gzip)),
            ("*", Some(Zstd)),
            ("*;q=0.5, gzip", Some(Gzip)),
            ("zstd;q=0, *", Some(Br)),
            ("GZIP ; q=0.3", Some(Gzip)),
            ("identity, gzip;q=0.5", None),
            ("gzip;q=0", None),
            ("gzip;q=2", None),
            ("br;q=0.9, gzip;q=0.5, br;q=0.2", Some(Br)),
            ("br;q=0.2, gzip;q=0.5, br;q=0.9", Some(Br)),
            ("x-gzip;q=0.9, br;q=0.5, gzip;q=0.1", Some(Gzip)),
            ("deflate", None),
            ("identity", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(text);
            assert_eq!(choose([&value].into_iter(), &[Zstd, Br, Gzip]), coding, "{text}");
        }
        assert_eq!(choose(std::iter::empty(), &[Gzip]), None);
    }
}
