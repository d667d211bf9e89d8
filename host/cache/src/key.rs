//! The key under which a response is stored, and who may share it.
//!
//! Two requests share a response only if they agree in everything on which the response may depend without saying so:
//! route, scheme, host, the path and query that are sent to the upstream, the upstream, the header fields that the gateway
//! itself has added or changed, and the rights of the caller. On what else it depends, the response says in `Vary`.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use http::uri::PathAndQuery;
use witgate_config::model::{RouteCache, Share};
use witgate_exchange::facts::Facts;
use witgate_exchange::head::RequestHead;
use witgate_exchange::identity::Identity;
use witgate_exchange::trace::REQUEST_ID;

/// Request headers by which frameworks are told another target, host, scheme or method. Responses to requests with them are
/// stored for themselves, because hardly any origin names them in `Vary`.
const ALTERING: [&str; 8] = [
    "x-forwarded-host",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Headers of the gateway that are different for every client or request, and on which no response may depend.
const PERSONAL: [&str; 2] = ["x-forwarded-for", "x-real-ip"];

/// Claims that differ between two tokens of the same identity with the same rights (RFC 7519 section 4.1).
const OF_TOKENS: [&str; 4] = ["exp", "iat", "nbf", "jti"];

/// A key. Clones share its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(Arc<[u8]>);

impl Key {
    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        self.0.len() + size_of::<Key>() + 2 * size_of::<usize>()
    }
}

/// The parts of a key. Each is written with its length, so that no part can pass for several.
#[derive(Default)]
struct Parts(Vec<u8>);

impl Parts {
    fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
    }

    fn add_header(&mut self, head: &RequestHead, name: &HeaderName) {
        self.add(name);
        for value in head.headers.get_all(name) {
            self.add(value);
        }
        // Ends the values, because the next name could pass for one of them.
        self.0.extend_from_slice(&u64::MAX.to_le_bytes());
    }
}

/// Whose responses a request may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Those for anybody: the request has neither an identity nor credentials.
    Anybody,
    /// Only those that say that they are for all, whoever asks (RFC 9111 section 3.5).
    Restricted,
    /// Those of the callers that the route lets share, which the key tells apart.
    Shared,
}

/// What the responses of a route depend on.
#[derive(Debug, Clone)]
pub(crate) struct KeyRules {
    share: Share,
    query: Option<Vec<String>>,
    headers: Vec<HeaderName>,
    /// The headers that tell upstreams about the identity.
    identity_headers: Vec<HeaderName>,
}

impl KeyRules {
    pub(crate) fn new(settings: &RouteCache, identity_headers: &[HeaderName]) -> KeyRules {
        KeyRules {
            share: settings.share.clone(),
            query: settings.query.clone(),
            headers: settings.headers.iter().filter_map(|name| name.parse().ok()).collect(),
            identity_headers: identity_headers.to_vec(),
        }
    }

    /// Removes the query parameters that are not listed from what is sent to the upstream, and sorts the others by name.
    /// What is sent and what the key has are the same, so no parameter can change a response unnoticed.
    pub(crate) fn choose_query(&self, facts: &mut Facts) {
        let Some(listed) = &self.query else { return };
        let sent = facts.head.upstream_target.as_ref().unwrap_or(&facts.head.target);
        let Some(query) = sent.query() else { return };
        let mut kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let name = pair.split('=').next().unwrap_or_default();
                listed.iter().any(|listed| listed == name)
            })
            .collect();
        kept.sort_by_key(|pair| pair.split('=').next());
        let kept = kept.join("&");
        if kept == query {
            return;
        }
        let target = if kept.is_empty() { sent.path().to_owned() } else { format!("{}?{kept}", sent.path()) };
        // A part of a valid query is valid.
        if let Ok(target) = PathAndQuery::try_from(target) {
            Arc::make_mut(&mut facts.head).upstream_target = Some(target);
        }
    }

    /// The key of a request, and whose responses it may share. `received` is its head before any stage has changed it. `None`
    /// if it shares nothing: the claim by which the route shares is missing.
    pub(crate) fn key(&self, facts: &Facts, received: &RequestHead) -> Option<(Key, Rights)> {
        let head = &*facts.head;
        let mut parts = Parts(Vec::with_capacity(256));
        parts.add(head.route_name());
        parts.add(head.scheme.as_str());
        parts.add(&*head.authority);
        parts.add(head.upstream_target.as_ref().unwrap_or(&head.target).as_str());
        parts.add(facts.upstream.as_deref().unwrap_or_default());
        let rights = self.rights(head, &mut parts)?;
        let mut names: Vec<&HeaderName> =
            head.headers.keys().filter(|name| self.is_part(name, head, received)).collect();
        names.sort_unstable_by_key(|name| name.as_str());
        for name in names {
            parts.add_header(head, name);
        }
        Some((Key(parts.0.into()), rights))
    }

    /// Whether the values of a header are part of the key.
    fn is_part(&self, name: &HeaderName, head: &RequestHead, received: &RequestHead) -> bool {
        if PERSONAL.contains(&name.as_str()) || *name == REQUEST_ID {
            return false;
        }
        if matches!(self.share, Share::Claim(_)) && self.identity_headers.contains(name) {
            // The route says that the responses depend on the claim, and on nothing else of the identity.
            return false;
        }
        let is_changed = || {
            let (now, before) = (head.headers.get_all(name), received.headers.get_all(name));
            !now.iter().eq(before.iter())
        };
        self.headers.contains(name) || is_altering(name) || is_changed()
    }

    /// Who may share the responses to a request, and what of its caller is part of the key.
    fn rights(&self, head: &RequestHead, parts: &mut Parts) -> Option<Rights> {
        let certificate = head.client.certificate.as_ref();
        let has_credentials =
            [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION].iter().any(|name| head.headers.contains_key(name));
        match (&self.share, &head.identity) {
            (Share::Identity, Some(identity)) => {
                parts.add("identity");
                add_identity(identity, parts);
                parts.add(certificate.map_or("", |certificate| &certificate.fingerprint));
                Some(Rights::Shared)
            }
            (Share::Identity, None) if certificate.is_some() && !has_credentials => {
                parts.add("certificate");
                parts.add(certificate.map_or("", |certificate| &certificate.fingerprint));
                Some(Rights::Shared)
            }
            (Share::Claim(name), Some(identity)) => {
                parts.add("claim");
                parts.add(&*identity.binding);
                parts.add(identity.claim("iss").unwrap_or_default());
                parts.add(identity.claim(name)?);
                Some(Rights::Shared)
            }
            (_, identity) => {
                parts.add("");
                let known = identity.is_some() || certificate.is_some() || has_credentials;
                Some(if known { Rights::Restricted } else { Rights::Anybody })
            }
        }
    }
}

/// An identity is the same if binding, issuer, subject and what is claimed of it are.
fn add_identity(identity: &Identity, parts: &mut Parts) {
    parts.add(&*identity.binding);
    parts.add(&identity.subject);
    let mut claims: Vec<_> =
        identity.claims.iter().filter(|(name, _)| !OF_TOKENS.contains(&name.as_str())).collect();
    claims.sort_unstable();
    for (name, value) in claims {
        parts.add(name);
        parts.add(value);
    }
    parts.0.extend_from_slice(&u64::MAX.to_le_bytes());
}

/// Whether a header may tell the upstream another target. `X-Forwarded-*` comes only from trusted proxies.
fn is_altering(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-") && (name.starts_with("x-forwarded-") || ALTERING.contains(&name))
}
