//! The requests that a binding is for: `when` and `unless` of `[bindings.NAME]`, with the conditions of routes.
//!
//! They are judged once for each request. What they say of the request itself is judged on what the client sent,
//! before any filter or plugin has changed it. What they say of the identity is judged when authentication is
//! through.

use std::borrow::Cow;
use std::ops::ControlFlow;

use ipnet::IpNet;
use witgate_config::model::EncodedSlashes;
use witgate_config::{Problem, Problems, model};
use witgate_exchange::head::RequestHead;
use witgate_exchange::identity::Identity;
use witgate_exchange::path;

use super::condition::{Conditions, Question, Unmet, Value, compile_fields, compile_value};
use super::host_trees::HostTrees;
use super::overlap;
use super::pattern::Pattern;

/// The compiled `when` and `unless` of one binding.
pub struct When {
    when: Vec<Case>,
    unless: Vec<Case>,
    by_identity: bool,
}

/// The spellings of a path that an upstream may take for the same. No spelling of a path may lead around a binding, so a
/// table of `when` holds if it holds for one of them, and a table of `unless` only if it holds for all.
pub struct Spellings<'a> {
    /// With its slashes merged, also on a route that keeps them apart, because routes are chosen by this path.
    merged: Cow<'a, str>,
    /// Without the parameters that follow a `;` in its segments, which some servers remove (RFC 3986 section 3.3);
    /// `None` if there are none.
    bare: Option<String>,
}

impl<'a> Spellings<'a> {
    /// The spellings of a path in normal form, with or without its slashes merged.
    pub fn of(path: &'a str) -> Self {
        let without_parameters = |segment: &'a str| segment.split(';').next().unwrap_or_default();
        let bare = path.contains(';').then(|| {
            let segments: Vec<&str> = path.split('/').map(without_parameters).collect();
            merged(&segments.join("/")).into_owned()
        });
        Spellings { merged: merged(path), bare }
    }
}

/// A path with its slashes merged. Encoded slashes were accepted or refused before.
fn merged(path: &str) -> Cow<'_, str> {
    match path.contains("//").then(|| path::normalise(path, EncodedSlashes::Opaque)) {
        Some(Ok(normal)) => Cow::Owned(normal.path().to_owned()),
        Some(Err(_)) | None => Cow::Borrowed(path),
    }
}

/// Whether a binding is called for a request, as far as the request alone decides it.
pub(crate) enum Judgement {
    /// It is called.
    Applies,
    /// It is not called.
    LeftOut,
    /// The identity decides.
    ByIdentity(Met),
}

/// The tables whose conditions on the request itself hold, one bit for each. A list has at most 32 tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Met {
    when: u32,
    unless: u32,
}

/// One table of conditions.
struct Case {
    /// The hosts and paths; `None`: any.
    places: Option<HostTrees<()>>,
    conditions: Conditions,
    clients: Vec<IpNet>,
    subject: Option<Value>,
    claims: Vec<(String, Value)>,
}

impl When {
    /// Compiles the conditions of a binding; `None` if it has none.
    ///
    /// # Errors
    /// Conditions that cannot be compiled, and tables that can never hold.
    pub(crate) fn compile(name: &str, binding: &model::Binding) -> Result<Option<When>, Problems> {
        if binding.when.is_empty() && binding.unless.is_empty() {
            return Ok(None);
        }
        let mut problems = Problems::new();
        let when = compile_list(&format!("bindings.{name}.when"), &binding.when, &mut problems);
        let unless = compile_list(&format!("bindings.{name}.unless"), &binding.unless, &mut problems);
        for (index, table) in binding.when.iter().enumerate() {
            if binding.unless.iter().any(|unless| overlap::implies(&[table], unless)) {
                problems.push(Problem {
                    message: format!(
                        "this `when` of binding `{name}` can never hold: every request that meets it meets `unless` too"
                    ),
                    span: None,
                    key: key_of(&format!("bindings.{name}.when"), &binding.when, index),
                    hint: Some("remove the table, or make `unless` narrower".into()),
                });
            }
        }
        let by_identity = binding.when.iter().chain(&binding.unless).any(model::Conditions::names_identity);
        if problems.is_empty() { Ok(Some(When { when, unless, by_identity })) } else { Err(problems) }
    }

    /// Judges a request as its client sent it, with the spellings of its path.
    pub(crate) fn judge(&self, head: &RequestHead, paths: &Spellings<'_>) -> Judgement {
        let question = Question::of(head);
        let bits = |cases: &[Case], is_met: &dyn Fn(&Case) -> bool| {
            let met = cases.iter().enumerate().filter(|(_, case)| is_met(case));
            met.fold(0, |bits, (index, _)| bits | 1 << index)
        };
        // A client announces in a preflight whatever method it likes. That may add a call, but leaves no binding out.
        let is_excepted = |case: &Case| {
            case.conditions.admits_own_method(&question)
                && case.is_at_all(question.host, paths)
                && case.unmet(&question, head).is_none()
        };
        let is_met =
            |case: &Case| case.is_at_any(question.host, paths) && case.unmet(&question, head).is_none();
        let met = Met { when: bits(&self.when, &is_met), unless: bits(&self.unless, &is_excepted) };
        let surely_unless = || {
            let mut cases = self.unless.iter().enumerate();
            cases.any(|(index, case)| met.unless & 1 << index != 0 && !case.names_identity())
        };
        if (!self.when.is_empty() && met.when == 0) || surely_unless() {
            return Judgement::LeftOut;
        }
        if self.by_identity { Judgement::ByIdentity(met) } else { Judgement::Applies }
    }

    /// Whether the binding is called for a request that met these tables and has this identity.
    pub(crate) fn admits(&self, met: Met, identity: Option<&Identity>) -> bool {
        let holds = |cases: &[Case], bits: u32| {
            let mut cases = cases.iter().enumerate();
            cases.any(|(index, case)| bits & 1 << index != 0 && case.admits(identity))
        };
        (self.when.is_empty() || holds(&self.when, met.when)) && !holds(&self.unless, met.unless)
    }

    /// What is to be said about a request for which the binding is or may be left out; `None` if it is called.
    pub fn explain(&self, head: &RequestHead, paths: &Spellings<'_>) -> Option<String> {
        match self.judge(head, paths) {
            Judgement::Applies => None,
            Judgement::ByIdentity(_) => Some("depends on the caller's identity".to_owned()),
            Judgement::LeftOut => Some(self.why_left_out(head, paths)),
        }
    }

    fn why_left_out(&self, head: &RequestHead, paths: &Spellings<'_>) -> String {
        let question = Question::of(head);
        let why = |case: &Case| match case.is_at_any(question.host, paths) {
            true => case.unmet(&question, head),
            false => Some("the condition on host and path".to_owned()),
        };
        let unmet: Vec<String> = self.when.iter().filter_map(why).collect();
        if !self.when.is_empty() && unmet.len() == self.when.len() {
            return format!("left out: {} of its `when` does not hold", unmet.join(", and "));
        }
        "left out: its `unless` holds".to_owned()
    }
}

impl Case {
    fn compile(conditions: &model::Conditions) -> Result<Case, Vec<(String, String, String)>> {
        let mut wrong = Vec::new();
        let request = &conditions.request;
        let pattern = Pattern::parse(request.path.as_ref());
        let pattern = pattern.map_err(|(message, hint)| wrong.push(("path".to_owned(), message, hint))).ok();
        let compiled = Conditions::compile(request).map_err(|more| wrong.extend(more)).ok();
        let claims = compile_fields("claims", &conditions.claims, &mut wrong, |name| Some(name.to_owned()));
        let subject = conditions.subject.as_ref().map(compile_value).transpose();
        let subject = subject.map_err(|error| {
            let message = format!("the regular expression cannot be used: {error}");
            wrong.push(("subject".to_owned(), message, "matching takes linear time".to_owned()));
        });
        let (Some(pattern), Some(compiled), Ok(subject), true) =
            (pattern, compiled, subject, wrong.is_empty())
        else {
            return Err(wrong);
        };
        let anywhere = request.hosts.is_empty() && request.path.is_none();
        let places = (!anywhere).then(|| {
            let mut places = HostTrees::default();
            places.place(&request.hosts, &pattern, |()| ());
            places
        });
        Ok(Case { places, conditions: compiled, clients: conditions.clients.clone(), subject, claims })
    }

    fn names_identity(&self) -> bool {
        self.subject.is_some() || !self.claims.is_empty()
    }

    fn is_at(&self, host: &str, path: &str) -> bool {
        self.places
            .as_ref()
            .is_none_or(|places| places.visit(host, path, &mut |(), _| ControlFlow::Break(())).is_break())
    }

    /// Whether the condition on host and path holds for some spelling of the path.
    fn is_at_any(&self, host: &str, paths: &Spellings<'_>) -> bool {
        self.is_at(host, &paths.merged) || paths.bare.as_ref().is_some_and(|bare| self.is_at(host, bare))
    }

    /// Whether the condition on host and path holds for every spelling of the path.
    fn is_at_all(&self, host: &str, paths: &Spellings<'_>) -> bool {
        self.is_at(host, &paths.merged) && paths.bare.as_ref().is_none_or(|bare| self.is_at(host, bare))
    }

    /// The first condition on the request itself, apart from host and path, that does not hold, in words.
    fn unmet(&self, question: &Question<'_>, head: &RequestHead) -> Option<String> {
        if !self.conditions.admits_method(question) {
            return Some("the condition on the method".to_owned());
        }
        // An IPv6 socket that also accepts IPv4 reports the client 192.0.2.1 as `::ffff:192.0.2.1`.
        let client = head.client.address.to_canonical();
        if !self.clients.is_empty() && !model::contains(&self.clients, client) {
            return Some("the condition on the client's address".to_owned());
        }
        self.conditions.unmet(question).map(|unmet| match unmet {
            Unmet::Header(name) => format!("the condition on the header `{name}`"),
            Unmet::Query(name) => format!("the condition on the query parameter `{name}`"),
            Unmet::Method => "the condition on service and method of gRPC".to_owned(),
        })
    }

    /// Whether the conditions on the identity hold.
    fn admits(&self, identity: Option<&Identity>) -> bool {
        let bytes = |text: &'_ String| Cow::Owned::<[u8]>(text.as_bytes().to_vec());
        let subject = identity.map(|identity| &identity.subject).into_iter();
        self.subject.as_ref().is_none_or(|condition| condition.holds(subject.map(bytes)))
            && self.claims.iter().all(|(wanted, condition)| {
                let claims = identity.into_iter().flat_map(|identity| &identity.claims);
                condition.holds(claims.filter(|(name, _)| name == wanted).map(|(_, value)| bytes(value)))
            })
    }
}

fn compile_list(key: &str, list: &[model::Conditions], problems: &mut Problems) -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, conditions) in list.iter().enumerate() {
        match Case::compile(conditions) {
            Ok(case) => cases.push(case),
            Err(wrong) => problems.extend(wrong.into_iter().map(|(below, message, hint)| Problem {
                message,
                span: None,
                key: format!("{}.{below}", key_of(key, list, index)),
                hint: Some(hint),
            })),
        }
    }
    cases
}

/// The key of one table: with its index if there are several.
fn key_of(key: &str, list: &[model::Conditions], index: usize) -> String {
    if list.len() == 1 { key.to_owned() } else { format!("{key}[{index}]") }
}
