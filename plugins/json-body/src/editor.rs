//! Edits JSON text in one pass and copies everything else unchanged.
//!
//! A parsed tree would lose the digits of numbers, the order of members, and duplicate members, of which another
//! reader might use the one that was not redacted.

use std::borrow::Cow;
use std::ops::Range;

use crate::path::{Pattern, Step};

/// Maximum nesting of a body. A body that nests deeper is not read, so that the recursion does not exhaust the stack.
pub(crate) const DEEPEST: usize = 128;

/// Why a text could not be edited. The offset is in bytes.
#[derive(Debug, PartialEq)]
pub(crate) enum Unedited {
    /// The text is not JSON (RFC 8259) at this offset.
    NotJson(usize),
    /// The text nests deeper than [`DEEPEST`] at this offset. It may be JSON, and a field may be anywhere in it.
    TooDeep(usize),
}

/// The edits; new names and values are already quoted.
pub(crate) struct Edits {
    pub(crate) remove: Vec<Pattern>,
    pub(crate) redact: Vec<Pattern>,
    pub(crate) rename: Vec<(Pattern, Vec<u8>)>,
    pub(crate) redacted: Vec<u8>,
}

impl Edits {
    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.redact.is_empty() && self.rename.is_empty()
    }
}

/// The edited text; `None` if nothing was edited.
///
/// # Errors
/// The text is not JSON, or nests deeper than it is read.
pub(crate) fn edited(text: &[u8], edits: &Edits) -> Result<Option<Vec<u8>>, Unedited> {
    let text = std::str::from_utf8(text).map_err(|error| Unedited::NotJson(error.valid_up_to()))?;
    let output = Vec::with_capacity(text.len());
    let mut editor = Editor {
        text,
        at: 0,
        copied: 0,
        output,
        edits,
        steps: Vec::new(),
        has_edits: false,
        is_too_deep: false,
    };
    editor.space();
    if editor.value().is_none() {
        return Err(editor.unedited());
    }
    editor.space();
    if editor.at < text.len() {
        return Err(editor.unedited());
    }
    editor.copy();
    Ok(editor.has_edits.then_some(editor.output))
}

/// Each step returns `None` if the text cannot be edited; [`Editor::unedited`] says why.
struct Editor<'a> {
    text: &'a str,
    at: usize,
    /// Offset up to which the text is copied or removed.
    copied: usize,
    output: Vec<u8>,
    edits: &'a Edits,
    /// The path to the current value.
    steps: Vec<Step<'a>>,
    has_edits: bool,
    /// Whether reading ended at a value that nests deeper than [`DEEPEST`].
    is_too_deep: bool,
}

impl<'a> Editor<'a> {
    /// Why reading ended at offset `self.at`.
    fn unedited(&self) -> Unedited {
        if self.is_too_deep { Unedited::TooDeep(self.at) } else { Unedited::NotJson(self.at) }
    }

    fn value(&mut self) -> Option<()> {
        match self.peek()? {
            b'{' => self.container(b'}', Self::member),
            b'[' => self.container(b']', Self::element),
            b'"' => self.string().map(drop),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => self.number(),
        }
    }

    /// Copies members or elements, with a comma between those that are kept.
    fn container(&mut self, end: u8, entry: fn(&mut Self, usize, bool) -> Option<bool>) -> Option<()> {
        if self.steps.len() == DEEPEST {
            self.is_too_deep = true;
            return None;
        }
        self.at += 1;
        self.copy();
        let mut has_kept = false;
        for index in 0.. {
            self.space();
            if index == 0 && self.peek()? == end {
                break;
            }
            has_kept |= entry(self, index, has_kept)?;
            self.space();
            match self.peek()? {
                b',' => {
                    self.copy();
                    self.at += 1;
                    self.copied = self.at;
                }
                last if last == end => break,
                _ => return None,
            }
        }
        self.at += 1;
        Some(())
    }

    /// One member of an object. Returns whether it was kept.
    fn member(&mut self, _: usize, has_kept: bool) -> Option<bool> {
        let begin = self.at;
        let name = self.string()?;
        let named = self.at;
        self.space();
        self.literal(":")?;
        self.space();
        self.steps.push(Step::Member(name));
        let edits = self.edits;
        let renamed = edits.rename.iter().find(|(pattern, _)| pattern.matches(&self.steps));
        self.entry(has_kept, renamed.map(|(_, name)| (begin..named, name.as_slice())))
    }

    /// One element of an array. Returns whether it was kept.
    fn element(&mut self, index: usize, has_kept: bool) -> Option<bool> {
        self.steps.push(Step::Element(index));
        self.entry(has_kept, None)
    }

    /// Processes the value at `self.at` of a member or element: removes it, redacts it, or descends into it.
    fn entry(&mut self, has_kept: bool, renamed: Option<(Range<usize>, &[u8])>) -> Option<bool> {
        let is_meant = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&self.steps));
        let (removed, redacted) = (is_meant(&self.edits.remove), is_meant(&self.edits.redact));
        let before = self.output.len();
        if has_kept {
            self.output.push(b',');
        }
        if let Some((place, name)) = renamed {
            self.output.extend_from_slice(&self.text.as_bytes()[self.copied..place.start]);
            self.output.extend_from_slice(name);
            self.copied = place.end;
            self.has_edits = true;
        }
        self.copy();
        let shown = self.output.len();
        // A value that is removed is parsed too: it must be JSON, and its end must be found.
        self.value()?;
        if removed || redacted {
            self.output.truncate(if removed { before } else { shown });
            self.copied = self.at;
            self.has_edits = true;
        }
        if redacted && !removed {
            self.output.extend_from_slice(&self.edits.redacted);
        }
        self.steps.pop();
        Some(!removed)
    }

    /// A string (RFC 8259 section 7), with its escapes decoded.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let begin = self.at;
        self.literal("\"")?;
        let mut has_escapes = false;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    self.at += 2;
                }
                byte if byte < 0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = self.text.get(begin..self.at)?;
        let content = &quoted[1..quoted.len() - 1];
        // A name may be escaped in different ways that all mean the same field.
        if has_escapes { unescaped(content).map(Cow::Owned) } else { Some(Cow::Borrowed(content)) }
    }

    /// A number (RFC 8259 section 6).
    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        let begin = self.at;
        self.digits()?;
        if self.at > begin + 1 && self.text.as_bytes()[begin] == b'0' {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        (count > 0).then_some(())
    }

    fn literal(&mut self, literal: &str) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()).then(|| self.at += literal.len())
    }

    fn space(&mut self) {
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.text.as_bytes()[self.at..].iter().take_while(is_space).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Copies the text that was passed since the last copy.
    fn copy(&mut self) {
        self.output.extend_from_slice(&self.text.as_bytes()[self.copied..self.at]);
        self.copied = self.at;
    }
}

/// The content of a JSON string with its escapes decoded; `None` if an escape is not one of RFC 8259 section 7. Half
/// of a surrogate pair, which that grammar allows, is decoded as U+FFFD, as most readers do.
fn unescaped(content: &str) -> Option<String> {
    let mut units = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        units.extend(rest[..at].encode_utf16());
        let (kind, after) = rest[at + 1..].split_at_checked(1)?;
        rest = after;
        let unit = match kind {
            "\"" | "\\" | "/" => u16::from(kind.as_bytes()[0]),
            "b" => 0x08,
            "f" => 0x0c,
            "n" => 0x0a,
            "r" => 0x0d,
            "t" => 0x09,
            "u" => {
                let (digits, after) = rest.split_at_checked(4)?;
                rest = after;
                // `from_str_radix` accepts a sign.
                let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                u16::from_str_radix(digits, 16).ok().filter(|_| are_digits)?
            }
            _ => return None,
        };
        units.push(unit);
    }
    units.extend(rest.encode_utf16());
    Some(String::from_utf16_lossy(&units))
}
