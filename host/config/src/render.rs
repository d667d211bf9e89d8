//! Renders problems for people: file, line, caret, and hint.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::load::Failure;
use crate::problem::{Problem, SourceMap, Span, floor};

/// Renders problems as compilers do, one paragraph each. `color` is for terminals.
pub fn render(problems: &[Problem], sources: &SourceMap, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let rendered = problems.iter().map(|problem| renderer.render(&report(problem, sources)));
    rendered.collect::<Vec<_>>().join("\n\n")
}

/// Renders a problem for log and status: with its place, but without the line that is there, which may have a secret.
pub fn render_for_log(problem: &Problem, sources: &SourceMap) -> String {
    let span = sources.place(problem);
    let mut rendered = match span {
        None if !problem.key.is_empty() => format!("error: {}: ", problem.key),
        _ => "error: ".to_owned(),
    };
    rendered.push_str(&sources.publishable(problem, &problem.message));
    if let Some(span) = span {
        rendered.push_str(&format!("\n --> {}", sources.position(span)));
    }
    if let Some(hint) = &problem.hint {
        rendered.push_str(&format!("\n  = help: {}", sources.publishable(problem, hint)));
    }
    rendered
}

impl Failure {
    /// All problems, rendered, with a line that counts them.
    pub fn render(&self, color: bool) -> String {
        let count = match self.problems.len() {
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        format!("{}\n\nThe configuration has {count}.", render(&self.problems, &self.sources, color))
    }
}

fn report<'p>(problem: &'p Problem, sources: &'p SourceMap) -> Vec<Group<'p>> {
    // The key is named if neither the message nor a quoted line shows it.
    let span = sources.place(problem);
    let title = match span {
        None if !problem.key.is_empty() => format!("{}: {}", problem.key, problem.message),
        _ => problem.message.clone(),
    };
    let title = sources.without_inserted(&title).into_owned();
    let mut group = Level::ERROR.primary_title(title).elements(Vec::<Snippet<Annotation>>::new());
    if let Some(span) = span
        && let Some(snippet) = snippet(span, sources)
    {
        group = group.element(snippet);
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(sources.without_inserted(hint)));
    }
    vec![group]
}

fn snippet<'p>(span: &Span, sources: &'p SourceMap) -> Option<Snippet<'p, Annotation<'p>>> {
    let (path, text) = sources.files.get(span.file)?;
    // Only the first line is marked: a table or a long string would fill the screen.
    let start = floor(text, span.range.start);
    let line_end = text[start..].find('\n').map_or(text.len(), |end| start + end);
    let end = floor(text, span.range.end.clamp(start, line_end));
    let annotation = AnnotationKind::Primary.span(start..end);
    Some(Snippet::source(text.as_str()).path(path.to_string_lossy()).annotation(annotation))
}
