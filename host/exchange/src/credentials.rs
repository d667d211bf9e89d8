//! Which credentials of a request or response a binding may see.
//!
//! A credential that a binding may not see is invisible to it: every view of the request and of the response is as if
//! the client, or the upstream, had not sent it. What the binding returns leaves it as it is.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use witgate_config::model;

use crate::head::RequestHead;

/// The headers that are credentials for every binding.
pub const CREDENTIAL_HEADERS: [HeaderName; 4] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE];

/// A version of the plugin border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Border {
    /// 0.1: plugins see every credential, unless the binding says `credentials`.
    V0_1,
    /// 0.2: plugins see only the credentials that are granted.
    V0_2,
}

/// What is a credential for one binding, and which of them it may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    hidden_headers: Vec<HeaderName>,
    hidden_parameters: Vec<String>,
    listed_headers: Vec<HeaderName>,
    lists_parameters: bool,
    ungranted: Vec<String>,
}

impl Credentials {
    /// Every credential is visible, and none is listed.
    pub const VISIBLE: Credentials = Credentials {
        hidden_headers: Vec::new(),
        hidden_parameters: Vec::new(),
        listed_headers: Vec::new(),
        lists_parameters: false,
        ungranted: Vec::new(),
    };

    /// Every credential is visible, as for native code.
    pub fn visible() -> &'static Credentials {
        static VISIBLE: Credentials = Credentials::VISIBLE;
        &VISIBLE
    }

    /// Decides what a binding of a plugin of this border may see. This is the only place where that is decided.
    pub fn of(binding: &model::Binding, border: Border) -> Credentials {
        let granted = |name: &str| binding.grants.credentials.iter().flatten().any(|granted| granted == name);
        let listed = binding.credentials.as_ref();
        let listed_headers: Vec<HeaderName> = listed
            .iter()
            .flat_map(|listed| &listed.headers)
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .collect();
        let parameters = listed.iter().flat_map(|listed| &listed.query);
        let lists_parameters = parameters.clone().next().is_some();
        let headers = CREDENTIAL_HEADERS.iter().chain(&listed_headers).filter(|name| !granted(name.as_str()));
        let parameters = parameters.filter(|name| !granted(name));
        if listed.is_some() || border >= Border::V0_2 {
            let (hidden_headers, hidden_parameters) =
                (headers.cloned().collect(), parameters.cloned().collect());
            let ungranted = Vec::new();
            return Credentials {
                hidden_headers,
                hidden_parameters,
                listed_headers,
                lists_parameters,
                ungranted,
            };
        }
        let ungranted = headers.map(|name| name.as_str().to_owned()).collect();
        Credentials { ungranted, ..Credentials::VISIBLE }
    }

    /// The names of the credentials that the binding sees although none of its grants names them.
    pub fn ungranted(&self) -> &[String] {
        &self.ungranted
    }

    /// Whether the binding may not see this header.
    pub fn hide(&self, name: &HeaderName) -> bool {
        self.hidden_headers.contains(name)
    }

    /// As [`hide`](Credentials::hide), for a name as a plugin writes it.
    pub fn hide_name(&self, name: &str) -> bool {
        self.hidden_headers.iter().any(|hidden| hidden.as_str().eq_ignore_ascii_case(name))
    }

    /// Whether this header is a credential, visible or not.
    pub fn include(&self, name: &HeaderName) -> bool {
        CREDENTIAL_HEADERS.contains(name) || self.listed_headers.contains(name)
    }

    /// Whether parameters of the query are listed as credentials.
    pub fn are_in_query(&self) -> bool {
        self.lists_parameters
    }

    /// The headers that the binding may see.
    pub fn visible_among<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a http::HeaderValue)> {
        headers.iter().filter(|(name, _)| !self.hide(name))
    }

    /// The query as the binding may see it; `None` if nothing of it is left.
    pub fn query<'a>(&self, head: &'a RequestHead) -> Option<Cow<'a, str>> {
        let query = head.query()?;
        if !self.hides_in(query) {
            return Some(Cow::Borrowed(query));
        }
        let mut seen = String::with_capacity(query.len());
        for part in parts(query).filter(|part| !self.hides_part(part)) {
            if !seen.is_empty() {
                seen.push(part.separator);
            }
            seen.push_str(part.text);
        }
        (!seen.is_empty()).then_some(Cow::Owned(seen))
    }

    /// Whether a query has a parameter that the binding may not see.
    pub fn hides_in(&self, query: &str) -> bool {
        !self.hidden_parameters.is_empty() && parts(query).any(|part| self.hides_part(&part))
    }

    /// The target that a binding chose in place of `before`: with the parameters that it could not see, at the end.
    pub fn restore(&self, target: PathAndQuery, before: &PathAndQuery) -> PathAndQuery {
        let unseen = before.query().filter(|query| self.hides_in(query));
        let Some(unseen) = unseen else { return target };
        let mut text = target.as_str().to_owned();
        for part in parts(unseen).filter(|part| self.hides_part(part)) {
            let separator = match text.rfind('?') {
                None => Some('?'),
                Some(at) if at + 1 == text.len() => None,
                // What stood behind a semicolon stays there if it may belong to the value of the parameter before it.
                Some(_) if part.separator == ';' && self.hides_name_of(part.pair) => Some(';'),
                Some(_) => Some('&'),
            };
            text.extend(separator);
            text.push_str(part.text);
        }
        // Both were valid, so their parts are; if not, the credential is lost, and the upstream refuses the request.
        text.parse().unwrap_or(target)
    }

    /// Whether a part belongs to a hidden parameter, if only `&` separates parameters or if `;` does as well.
    fn hides_part(&self, part: &Part<'_>) -> bool {
        self.hides_name_of(part.pair) || self.hides_name_of(part.text)
    }

    /// Whether the name of this pair is hidden. Some origins ignore the case of names.
    fn hides_name_of(&self, pair: &str) -> bool {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let name = name.replace('+', " ");
        let name = percent_decode_str(&name).decode_utf8_lossy();
        self.hidden_parameters.iter().any(|hidden| hidden.eq_ignore_ascii_case(&name))
    }
}

/// A part of a query between separators. Most origins separate parameters by `&` only, and some by `;` as well.
struct Part<'a> {
    /// What stands before it.
    separator: char,
    text: &'a str,
    /// Everything between the `&` around it.
    pair: &'a str,
}

fn parts(query: &str) -> impl Iterator<Item = Part<'_>> {
    query.split('&').flat_map(|pair| {
        pair.split(';').enumerate().map(move |(index, text)| {
            let separator = if index == 0 { '&' } else { ';' };
            Part { separator, text, pair }
        })
    })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::testing;

    fn binding(text: &str) -> model::Binding {
        let text = format!("[plugins.p]\n[bindings.p]\n{text}\n[[routes]]\nrespond = {{ status = 200 }}\n");
        let loaded = witgate_config::parse_str(&text);
        let mut config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
        config.bindings.remove("p").expect("declared")
    }

    const LISTED: &str = "credentials = { headers = [\"X-Key\"], query = [\"apikey\"] }\n";

    #[test]
    fn the_border_decides_what_is_visible_without_a_grant() {
        let plain = binding("");
        let old = Credentials::of(&plain, Border::V0_1);
        assert!(!old.hide(&COOKIE) && old.ungranted().len() == 4);
        let new = Credentials::of(&plain, Border::V0_2);
        assert!(CREDENTIAL_HEADERS.iter().all(|name| new.hide(name)) && new.ungranted().is_empty());
        for border in [Border::V0_1, Border::V0_2] {
            let granted = binding("credentials = \"granted\"\ngrants = { credentials = [\"cookie\"] }");
            let some = Credentials::of(&granted, border);
            assert!(some.hide(&AUTHORIZATION) && some.hide_name("Set-Cookie") && !some.hide(&COOKIE));
            assert!(some.ungranted().is_empty());
            let listed = Credentials::of(&binding(LISTED), border);
            assert!(listed.hide_name("x-key") && listed.include(&"x-key".parse().unwrap()));
        }
        let named = binding("grants = { credentials = [\"authorization\", \"cookie\"] }");
        assert_eq!(Credentials::of(&named, Border::V0_1).ungranted(), ["proxy-authorization", "set-cookie"]);
    }

    #[test]
    fn a_hidden_parameter_is_left_out_in_every_form_and_put_back() {
        let hidden = Credentials::of(&binding(LISTED), Border::V0_1);
        let seen = |target: &str| {
            let head = testing::head(Method::GET, target, &[]);
            hidden.query(&head).map(Cow::into_owned)
        };
        assert_eq!(seen("/a?apikey=1"), None);
        assert_eq!(seen("/a?x=1&apikey=1&y&apikey=2").as_deref(), Some("x=1&y"));
        assert_eq!(seen("/a?%61pi%6bey=1&Apikey=2"), None, "some origins ignore the case of names");
        assert_eq!(seen("/a?x=1;apikey=2;y&API%4BEY=3").as_deref(), Some("x=1;y"));
        assert_eq!(seen("/a?apikey=1;2&x").as_deref(), Some("x"), "the rest may belong to the value");
        assert_eq!(seen("/a?x=1;2&y=;").as_deref(), Some("x=1;2&y=;"));
        assert_eq!(seen("/a?apikey").as_deref(), None);
        assert_eq!(seen("/a?apikeys=1").as_deref(), Some("apikeys=1"));
        let restored = |target: &str, before: &str| {
            hidden.restore(target.parse().unwrap(), &before.parse().unwrap()).to_string()
        };
        assert_eq!(restored("/b", "/a?apikey=1&x=2&%61pikey=3"), "/b?apikey=1&%61pikey=3");
        assert_eq!(restored("/b?y=1", "/a?apikey=1"), "/b?y=1&apikey=1");
        assert_eq!(restored("/b?", "/a?apikey=1"), "/b?apikey=1");
        assert_eq!(restored("/b?y=1", "/a?x=1"), "/b?y=1");
        assert_eq!(restored("/b?y=1", "/a?apikey=1;2&x=3"), "/b?y=1&apikey=1;2");
        assert_eq!(restored("/b?y=1", "/a?x=3;apikey=1"), "/b?y=1&apikey=1");
    }
}
