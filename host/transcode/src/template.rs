//! Path templates ("Path template syntax" of `google.api.HttpRule`): segments, `*`, `**`, variables and a verb.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

/// A segment of a template. The order is from the most specific to the least.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    /// `*`: one segment.
    One,
    /// `**`: the rest, which may be empty. Only the last segment.
    Rest,
}

/// A field that is set from segments of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The names of the field and of those that contain it.
    pub(crate) path: Vec<String>,
    /// The segments of the template from `begin` on, before `end`.
    begin: usize,
    end: usize,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut template = Template { segments: Vec::new(), verb: None, variables: Vec::new() };
        let mut rest = text.strip_prefix('/').ok_or("it does not begin with `/`")?;
        loop {
            rest = match rest.strip_prefix('{') {
                Some(variable) => {
                    let (variable, after) = variable.split_once('}').ok_or("a `{` is not closed")?;
                    template.variable(variable)?;
                    after
                }
                None => {
                    let end = rest.find(['/', ':']).unwrap_or(rest.len());
                    template.segment(&rest[..end])?;
                    &rest[end..]
                }
            };
            match rest.chars().next() {
                None => break,
                Some('/') => rest = &rest[1..],
                Some(':') if rest.len() > 1 && !rest.contains(['/', '{', '}', '*']) => {
                    template.verb = Some(rest[1..].to_owned());
                    break;
                }
                Some(_) => return Err(format!("`{rest}` cannot follow a segment")),
            }
        }
        let last = template.segments.len() - 1;
        match template.segments.iter().position(|segment| *segment == Segment::Rest) {
            Some(rest) if rest != last => Err("only the last segment can be `**`".to_owned()),
            _ => Ok(template),
        }
    }

    fn segment(&mut self, text: &str) -> Result<(), String> {
        self.segments.push(match text {
            "*" => Segment::One,
            "**" => Segment::Rest,
            "" => return Err("a segment is empty".to_owned()),
            literal if literal.contains(['*', '{', '}', '=']) => {
                return Err(format!("`{literal}` is no segment"));
            }
            literal => Segment::Literal(decode(literal).into_owned()),
        });
        Ok(())
    }

    fn variable(&mut self, text: &str) -> Result<(), String> {
        let (path, segments) = text.split_once('=').unwrap_or((text, "*"));
        let begin = self.segments.len();
        segments.split('/').try_for_each(|segment| self.segment(segment))?;
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("`{text}` names no field"));
        }
        self.variables.push(Variable { path, begin, end: self.segments.len() });
        Ok(())
    }

    /// The variables with their texts, if a path matches. The path is normalised and percent-encoded.
    pub(crate) fn matches<'t>(&'t self, path: &str) -> Option<Vec<(&'t Variable, String)>> {
        let path = path.strip_prefix('/')?;
        let path = match &self.verb {
            Some(verb) => path.strip_suffix(verb.as_str())?.strip_suffix(':')?,
            None => path,
        };
        let parts: Vec<&str> = path.split('/').collect();
        let fixed = self.segments.iter().filter(|segment| **segment != Segment::Rest).count();
        let has_rest = fixed < self.segments.len();
        let fits = if has_rest { parts.len() >= fixed } else { parts.len() == fixed };
        let same = self.segments.iter().zip(&parts).all(|(segment, part)| match segment {
            Segment::Literal(literal) => decode(part) == literal.as_str(),
            Segment::One => !part.is_empty(),
            Segment::Rest => true,
        });
        (fits && same).then(|| {
            let text = |variable: &Variable| {
                let end = if variable.end == self.segments.len() { parts.len() } else { variable.end };
                let captured = &parts[variable.begin.min(parts.len())..end];
                match captured {
                    [one] if self.segments[variable.begin] != Segment::Rest => decode(one).into_owned(),
                    several => {
                        several.iter().map(|part| decode_but_slashes(part)).collect::<Vec<_>>().join("/")
                    }
                }
            };
            self.variables.iter().map(|variable| (variable, text(variable))).collect()
        })
    }

    /// What templates are sorted by: the first that matches is the most specific one.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (self.verb.is_none(), self.segments.clone())
    }

    /// The variables.
    pub(crate) fn variables(&self) -> &[Variable] {
        &self.variables
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// Decodes a segment of several, in which an encoded slash stays, so that it is told from those between segments.
fn decode_but_slashes(text: &str) -> String {
    let parts = text.split_inclusive("%2F").flat_map(|part| part.split_inclusive("%2f"));
    let decoded =
        parts.map(|part| match part.len().checked_sub(3).and_then(|at| part.split_at_checked(at)) {
            Some((before, slash)) if slash.eq_ignore_ascii_case("%2f") => {
                format!("{}{slash}", decode(before))
            }
            _ => decode(part).into_owned(),
        });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of the variables of a template for a path.
    fn values(template: &str, path: &str) -> Option<Vec<String>> {
        let template = Template::read(template).unwrap();
        Some(template.matches(path)?.into_iter().map(|(_, value)| value).collect())
    }

    fn some(values: &[&str]) -> Option<Vec<String>> {
        Some(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn templates_match_as_google_api_http_says() {
        for (template, path, expected) in [
            ("/v1/orders", "/v1/orders", some(&[])),
            ("/v1/orders", "/v1/orders/", None),
            ("/v1/orders/{id}", "/v1/orders/7", some(&["7"])),
            ("/v1/orders/{id}", "/v1/orders/", None),
            ("/v1/orders/{id}", "/v1/orders/7/8", None),
            ("/v1/orders/{id}", "/v1/orders/a%2Fb%20c", some(&["a/b c"])),
            ("/v1/{name=orders/*}", "/v1/orders/7", some(&["orders/7"])),
            ("/v1/{name=orders/*}/items/{item}", "/v1/orders/7/items/8", some(&["orders/7", "8"])),
            ("/v1/{name=files/**}", "/v1/files/a/b%2Fc/d%20e", some(&["files/a/b%2Fc/d e"])),
            ("/v1/{name=**}", "/v1/", some(&[""])),
            ("/v1/**", "/v1/a/b", some(&[])),
            ("/v1/{name=**}:archive", "/v1/a/b:archive", some(&["a/b"])),
            ("/v1/{name}:archive", "/v1/a", None),
            ("/v1/{name}", "/v1/a:b", some(&["a:b"])),
            ("/v1/*/x", "/v1/a/x", some(&[])),
            ("/v1/{order.id}", "/v1/7", some(&["7"])),
        ] {
            assert_eq!(values(template, path), expected, "{template} {path}");
        }
    }

    #[test]
    fn malformed_templates_are_refused() {
        for wrong in [
            "", "v1", "/", "//", "/{", "/{}", "/{a=}", "/**/a", "/a}b", "/{a}b", "/a:", "/a:b/c", "/{a..b}",
            "/a*",
        ] {
            assert!(Template::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_more_specific_template_comes_first() {
        let texts = ["/v1/{name=**}", "/v1/{id}", "/v1/special", "/v1/{id}:cancel"];
        let mut templates: Vec<_> =
            texts.iter().map(|text| (Template::read(text).unwrap().rank(), *text)).collect();
        templates.sort_by(|one, other| one.0.cmp(&other.0));
        let sorted: Vec<_> = templates.iter().map(|(_, text)| *text).collect();
        assert_eq!(sorted, ["/v1/{id}:cancel", "/v1/special", "/v1/{id}", "/v1/{name=**}"]);
    }
}
