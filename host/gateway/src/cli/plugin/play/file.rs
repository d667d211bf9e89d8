//! The file that describes an exchange: TOML, or JSON of the same form.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use witgate_config::{Problem, SourceMap, Span, file};

use crate::control::source::Refusal;
use crate::exit::Exit;

/// Name of the plugin and of its binding in the configuration that is made from the file.
pub(super) const NAME: &str = "plugin";

/// Name of the upstream that gets the request unless the plugin chooses another one.
pub(super) const ORIGIN: &str = "origin";

/// An exchange, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Play {
    /// The component; relative to the folder of this file.
    pub(super) plugin: PathBuf,
    /// The binding, as under `[bindings.NAME]`.
    #[serde(default)]
    pub(super) binding: Map<String, Value>,
    /// Files to grant, by the name under which the plugin reads them; relative to the folder of this file.
    #[serde(default)]
    pub(super) data: BTreeMap<String, PathBuf>,
    /// What the spaces of the store hold at first: text, or an integer for a counter.
    #[serde(default)]
    pub(super) store: BTreeMap<String, BTreeMap<String, Stored>>,
    /// What the client sends.
    #[serde(default)]
    pub(super) request: WrittenRequest,
    /// What the upstream that gets the request responds.
    #[serde(default)]
    pub(super) response: WrittenResponse,
    /// Further upstreams, for `fetch` and routing, with their responses in order; the last one is repeated.
    #[serde(default)]
    pub(super) upstreams: BTreeMap<String, Responses>,
}

/// A value in the store.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Stored {
    Counter(i64),
    Text(String),
}

/// One response, or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Responses {
    Several(Vec<WrittenResponse>),
    One(WrittenResponse),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WrittenRequest {
    method: String,
    target: String,
    authority: String,
    headers: BTreeMap<String, Values>,
    pub(super) client: Option<IpAddr>,
    pub(super) subject: Option<String>,
    pub(super) claims: BTreeMap<String, String>,
    body: Option<String>,
    body_file: Option<PathBuf>,
    chunks: Vec<String>,
}

impl Default for WrittenRequest {
    fn default() -> Self {
        WrittenRequest {
            method: "GET".to_owned(),
            target: "/".to_owned(),
            authority: "localhost".to_owned(),
            headers: BTreeMap::new(),
            client: None,
            subject: None,
            claims: BTreeMap::new(),
            body: None,
            body_file: None,
            chunks: Vec::new(),
        }
    }
}

#[derive(Deserialize, Clone)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WrittenResponse {
    status: u16,
    headers: BTreeMap<String, Values>,
    body: Option<String>,
    body_file: Option<PathBuf>,
    chunks: Vec<String>,
}

impl Default for WrittenResponse {
    fn default() -> Self {
        WrittenResponse {
            status: 200,
            headers: BTreeMap::new(),
            body: None,
            body_file: None,
            chunks: Vec::new(),
        }
    }
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

/// A message in the form in which it is sent.
#[derive(Clone)]
pub(super) struct Message<H> {
    pub(super) head: H,
    pub(super) headers: HeaderMap,
    pub(super) body: Pieces,
}

/// A body: as a whole, or in chunks.
#[derive(Clone)]
pub(super) enum Pieces {
    Whole(Bytes),
    Chunks(Vec<Bytes>),
}

/// Method, target and authority.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) authority: String,
}

/// A file that was read, with the places of its keys.
pub(super) struct Script {
    pub(super) play: Play,
    pub(super) sources: SourceMap,
    folder: PathBuf,
}

impl Script {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or has not the form of an exchange; the refusal shows the line.
    pub(super) fn read(path: &Path) -> Result<Script, Refusal> {
        let text = file::read_text(path, file::CONFIGURATION).map_err(|error| {
            let problem = Problem::new(format!("{}: {error}", path.display())).with_hint(
                "name a file with [request] and `plugin`; `witgate plugin play --help` has an example",
            );
            Refusal::without_files(Exit::Usage, vec![problem], SourceMap::default())
        })?;
        let mut sources = SourceMap { files: vec![(path.to_owned(), text)], ..SourceMap::default() };
        let text = &sources.files[0].1;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let parsed = if is_json { from_json(text) } else { from_toml(text) };
        if !is_json && let Ok(table) = DeTable::parse(text) {
            let mut keys = BTreeMap::new();
            note_table(table.get_ref(), "", &mut keys);
            sources.keys = keys;
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        match parsed {
            Ok(play) => Ok(Script { play, sources, folder }),
            Err(problem) => Err(Refusal::without_files(Exit::Usage, vec![problem], sources)),
        }
    }

    /// A mistake at a key of the file.
    pub(super) fn refusal(&self, key: &str, message: String, hint: &str) -> Refusal {
        let problem = Problem { key: key.to_owned(), ..Problem::new(message) }.with_hint(hint);
        Refusal::without_files(Exit::Usage, vec![problem], self.sources.clone())
    }

    /// The refusal of the configuration that was made from this file, with the places in this file.
    pub(super) fn placed(&self, refusal: Refusal) -> Refusal {
        let mut problems = refusal.problems;
        for problem in &mut problems {
            problem.span = None;
            let binding = format!("bindings.{NAME}");
            if let Some(rest) = problem.key.strip_prefix(&binding) {
                problem.key = format!("binding{rest}");
            } else if problem.key.starts_with(&format!("plugins.{NAME}")) {
                problem.key = "plugin".to_owned();
            }
            problem.hint = problem.hint.take().map(|hint| hint.replace(&binding, "binding"));
        }
        Refusal::without_files(refusal.exit, problems, self.sources.clone())
    }

    /// A path that the file names.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        let path = self.folder.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// What the client sends.
    ///
    /// # Errors
    /// No client can send it.
    pub(super) fn request(&self) -> Result<Message<Line>, Refusal> {
        let written = &self.play.request;
        let method = Method::from_bytes(written.method.as_bytes()).map_err(|_| {
            let message = format!("`{}` is not a method", written.method);
            self.refusal("request.method", message, "write e.g. method = \"POST\"")
        })?;
        let target = written.target.parse::<PathAndQuery>().ok().filter(|_| written.target.starts_with('/'));
        let target = target.ok_or_else(|| {
            let message = format!("`{}` is not a path", written.target);
            self.refusal(
                "request.target",
                message,
                "a target begins with `/`, e.g. target = \"/orders?page=2\"",
            )
        })?;
        let is_authority = written.authority.parse::<http::uri::Authority>().is_ok();
        if !is_authority {
            let message = format!("`{}` is not an authority", written.authority);
            return Err(self.refusal("request.authority", message, "write a host, with a port if you like"));
        }
        let headers = self.headers("request", &written.headers)?;
        let body = self.body("request", &written.body, written.body_file.as_deref(), &written.chunks)?;
        let head = Line { method, target, authority: written.authority.clone() };
        Ok(Message { head, headers, body })
    }

    /// What upstreams respond, by their names.
    ///
    /// # Errors
    /// No server can send one of them.
    pub(super) fn responses(&self) -> Result<BTreeMap<String, Vec<Message<StatusCode>>>, Refusal> {
        let mut responses = BTreeMap::new();
        responses.insert(ORIGIN.to_owned(), vec![self.response("response", &self.play.response)?]);
        for (name, written) in &self.play.upstreams {
            let key = format!("upstreams.{name}");
            if name == ORIGIN {
                let hint = "what the upstream of the route responds is written under [response]";
                return Err(self.refusal(&key, format!("`{ORIGIN}` is the upstream of the route"), hint));
            }
            let list = match written {
                Responses::One(one) => vec![self.response(&key, one)?],
                Responses::Several(several) if several.is_empty() => {
                    let hint = "write at least one response";
                    return Err(self.refusal(&key, "this upstream has no response".to_owned(), hint));
                }
                Responses::Several(several) => {
                    let one = |(index, one)| self.response(&format!("{key}[{index}]"), one);
                    several.iter().enumerate().map(one).collect::<Result<_, _>>()?
                }
            };
            responses.insert(name.clone(), list);
        }
        Ok(responses)
    }

    fn response(&self, key: &str, written: &WrittenResponse) -> Result<Message<StatusCode>, Refusal> {
        let status =
            StatusCode::from_u16(written.status).ok().filter(|status| (200..600).contains(&status.as_u16()));
        let status = status.ok_or_else(|| {
            let message = format!("{} is not the status of a response", written.status);
            self.refusal(&format!("{key}.status"), message, "a status is a number from 200 to 599")
        })?;
        let headers = self.headers(key, &written.headers)?;
        let body = self.body(key, &written.body, written.body_file.as_deref(), &written.chunks)?;
        Ok(Message { head: status, headers, body })
    }

    fn headers(&self, key: &str, written: &BTreeMap<String, Values>) -> Result<HeaderMap, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, values) in written {
            let at = format!("{key}.headers.{name}");
            let parsed = name.parse::<HeaderName>().map_err(|_| {
                self.refusal(&at, format!("`{name}` is not a header name"), "use letters, digits and hyphens")
            })?;
            if [http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING].contains(&parsed) {
                let hint = "leave it out: it follows from `body` or `chunks`";
                return Err(self.refusal(&at, format!("`{name}` cannot be chosen"), hint));
            }
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Several(values) => values,
            };
            for value in values {
                let value = value.parse::<HeaderValue>().map_err(|_| {
                    let hint = "a value has no control characters";
                    self.refusal(&at, format!("the value of `{name}` is not a header value"), hint)
                })?;
                headers.append(&parsed, value);
            }
        }
        Ok(headers)
    }

    fn body(
        &self,
        key: &str,
        text: &Option<String>,
        path: Option<&Path>,
        chunks: &[String],
    ) -> Result<Pieces, Refusal> {
        let said = [text.is_some(), path.is_some(), !chunks.is_empty()];
        if said.into_iter().filter(|said| *said).count() > 1 {
            let hint = "write one of `body`, `body_file` and `chunks`";
            return Err(self.refusal(key, "the body is said more than once".to_owned(), hint));
        }
        if let Some(path) = path {
            let path = self.path(path);
            let read = file::read(&path, file::PLUGIN).map_err(|error| {
                let at = format!("{key}.body_file");
                self.refusal(&at, format!("{}: {error}", path.display()), "paths are relative to this file")
            });
            return read.map(|bytes| Pieces::Whole(bytes.into()));
        }
        if chunks.is_empty() {
            return Ok(Pieces::Whole(text.clone().unwrap_or_default().into()));
        }
        // An empty chunk would end the body.
        let chunks = chunks.iter().filter(|chunk| !chunk.is_empty());
        Ok(Pieces::Chunks(chunks.map(|chunk| Bytes::from(chunk.clone())).collect()))
    }
}

fn from_toml(text: &str) -> Result<Play, Problem> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().map(|range| Span { file: 0, range });
        Problem { span, ..Problem::new(error.message()) }.with_hint(FORM)
    })
}

fn from_json(text: &str) -> Result<Play, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let start = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
        let span = Some(Span { file: 0, range: start..start + 1 });
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        Problem { span, ..Problem::new(message) }.with_hint(FORM)
    })
}

/// What a file may have, for messages.
const FORM: &str = "a file has `plugin`, and the tables `binding`, `request`, `response`, `upstreams`, `store`, `data`; \
     `witgate plugin play --help` has an example";

fn note_table(table: &DeTable<'_>, at: &str, keys: &mut BTreeMap<String, Span>) {
    for (name, value) in table {
        let key = if at.is_empty() { name.get_ref().to_string() } else { format!("{at}.{}", name.get_ref()) };
        keys.insert(
            key.clone(),
            Span { file: 0, range: name.span().start..value.span().end.max(name.span().end) },
        );
        note_value(value, &key, keys);
    }
}

fn note_value(value: &Spanned<DeValue<'_>>, at: &str, keys: &mut BTreeMap<String, Span>) {
    match value.get_ref() {
        DeValue::Table(table) => note_table(table, at, keys),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let key = format!("{at}[{index}]");
                keys.insert(key.clone(), Span { file: 0, range: item.span() });
                note_value(item, &key, keys);
            }
        }
        _ => {}
    }
}
