//! Templates of paths and locations, filled in from the undecoded path of a request.

use super::pattern::Pattern;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    /// The segment of the request's path with this index.
    Segment(usize),
    /// Everything from the segment with this index on.
    Tail(usize),
    Path,
    Query,
    Host,
}

impl Template {
    /// Parses a template. `{name}` stands for a parameter of the pattern, `{path}` for the request's path,
    /// `{query}` for `?` and the query (nothing if there is none), `{host}` for the host.
    ///
    /// # Errors
    /// A message and a hint.
    pub(crate) fn parse(text: &str, pattern: &Pattern) -> Result<Template, (String, String)> {
        if let Some(wrong) = text.chars().find(|character| !character.is_ascii_graphic()) {
            let hint = "percent-encode spaces and everything that is not ASCII".into();
            return Err((format!("`{text}` contains {wrong:?}"), hint));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(open);
            let Some((name, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
                return Err((
                    format!("`{text}` has a brace without its partner"),
                    "write a literal brace as `%7B` or `%7D`".into(),
                ));
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(placeholder(name, text, pattern)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Template { pieces })
    }

    /// Fills in the template.
    pub(crate) fn fill(&self, path: &str, query: Option<&str>, host: &str) -> String {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Segment(index) => filled.push_str(path.split('/').nth(index + 1).unwrap_or_default()),
                Piece::Tail(index) => {
                    filled.push_str(path.splitn(index + 2, '/').nth(index + 1).unwrap_or_default())
                }
                Piece::Path => filled.push_str(path),
                Piece::Query => query.into_iter().for_each(|query| {
                    filled.push('?');
                    filled.push_str(query);
                }),
                Piece::Host => filled.push_str(host),
            }
        }
        filled
    }
}

fn placeholder(name: &str, text: &str, pattern: &Pattern) -> Result<Piece, (String, String)> {
    match (pattern.place_of(name), name) {
        (Some((index, true)), _) => Ok(Piece::Tail(index)),
        (Some((index, false)), _) => Ok(Piece::Segment(index)),
        (None, "path") => Ok(Piece::Path),
        (None, "query") => Ok(Piece::Query),
        (None, "host") => Ok(Piece::Host),
        (None, _) => {
            let mut known: Vec<String> =
                pattern.parameters().iter().map(|name| format!("`{{{name}}}`")).collect();
            known.extend(["`{path}`", "`{query}`", "`{host}`"].map(String::from));
            Err((
                format!("`{{{name}}}` in `{text}` is not a placeholder"),
                format!("there is {}", known.join(", ")),
            ))
        }
    }
}

/// Replaces several slashes at the beginning by one: in a `Location`, two slashes would be followed by a host
/// name.
pub(crate) fn single_slash(path: &str) -> &str {
    let slashes = path.len() - path.trim_start_matches('/').len();
    match slashes {
        0 if path.is_empty() => "/",
        0 => path,
        slashes => &path[slashes - 1..],
    }
}
