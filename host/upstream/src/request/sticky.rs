//! Sticky sessions: a signed cookie leads a client to the endpoint that responded to it before.
//!
//! The cookie consists of hexadecimal digits for: its expiry (seconds since 1970, 8 bytes; 0: never), a tag that
//! identifies the endpoint (16 bytes), and an HMAC-SHA256 of the upstream's name and both. The tag is made with
//! the same key from upstream, host and port. It reveals nothing about them, and is the same after reloads and on
//! every gateway that has the key.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue};
use witgate_config::model::{self, SameSite};
use witgate_exchange::cookie;
use witgate_exchange::head::Scheme;
use witgate_exchange::names::Numbered;

use crate::set::Member;

const TAG: usize = 16;
const SIGNED: usize = 8 + TAG;
const COOKIE: usize = SIGNED + 32;

type Tag = [u8; TAG];

/// The sticky sessions of one upstream.
pub(crate) struct Sticky {
    settings: model::Sticky,
    upstream: Arc<str>,
    key: hmac::Key,
}

/// The members of a set by the tags in cookies.
pub(crate) struct Sessions {
    members: HashMap<Tag, Arc<Member>>,
    /// By the number of the endpoint.
    tags: Numbered<Tag>,
}

/// The session of a request, from its cookie.
#[derive(Clone)]
pub(crate) struct Session {
    /// The endpoint of the session.
    pub(crate) member: Arc<Member>,
    /// Whether more than half of its lifetime has passed, so that the cookie should be renewed.
    pub(crate) is_ageing: bool,
}

/// The random key of this process, for upstreams whose configuration has no key.
static OF_THE_PROCESS: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let mut key = [0; 32];
    // The system either has random bytes or not, and without them TLS could not have started.
    aws_lc_rs::rand::fill(&mut key).expect("the system has random bytes");
    key
});

impl Sticky {
    /// The sticky sessions of the upstream of this name.
    pub(crate) fn new(settings: &model::Sticky, upstream: &Arc<str>) -> Sticky {
        let key = settings.key.as_ref().map_or(OF_THE_PROCESS.as_slice(), |key| key.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        Sticky { settings: settings.clone(), upstream: upstream.clone(), key }
    }

    /// The members of a set by their tags. Tags of the previous set are reused; they must be made with the same
    /// key.
    pub(crate) fn sessions(&self, members: &[Arc<Member>], before: Option<&Sessions>) -> Sessions {
        let mut sessions = Sessions { members: HashMap::new(), tags: Numbered::default() };
        for member in members {
            let endpoint = member.endpoint();
            let known = before.and_then(|before| before.tags.get(&endpoint.id)).copied();
            let tag = known.unwrap_or_else(|| self.tag(&endpoint.name));
            sessions.members.insert(tag, member.clone());
            sessions.tags.insert(endpoint.id, tag);
        }
        sessions
    }

    /// The session of a request's cookie. `None` if there is no cookie that is valid and has not expired.
    pub(crate) fn session(
        &self,
        sessions: &Sessions,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Option<Session> {
        let cookie: [u8; COOKIE] = decode(cookie::find(headers, &self.settings.cookie)?)?;
        let (signed, signature) = cookie.split_at(SIGNED);
        // Compares in constant time.
        hmac::verify(&self.key, &self.message(signed), signature).ok()?;
        let (ends, tag) = signed.split_first_chunk::<8>()?;
        let member = sessions.members.get(tag)?.clone();
        let left = match (u64::from_be_bytes(*ends), self.settings.ttl) {
            (0, None) => return Some(Session { member, is_ageing: false }),
            // A cookie from before a lifetime was configured. It is still valid, and is replaced.
            (0, Some(_)) => return Some(Session { member, is_ageing: true }),
            (ends, _) => ends.checked_sub(seconds(now)).filter(|left| *left > 0)?,
        };
        let is_ageing = self.settings.ttl.is_none_or(|ttl| left < ttl.as_secs() / 2);
        Some(Session { member, is_ageing })
    }

    /// `Set-Cookie` for a client that got a response from an endpoint.
    pub(crate) fn set_cookie(&self, endpoint: &str, scheme: Scheme, now: SystemTime) -> Option<HeaderValue> {
        let model::Sticky { cookie, path, ttl, same_site, .. } = &self.settings;
        let ttl = ttl.map(|ttl| ttl.max(Duration::from_secs(1)).as_secs());
        let ends = ttl.map_or(0, |ttl| seconds(now) + ttl);
        let signed = [ends.to_be_bytes().as_slice(), &self.tag(endpoint)].concat();
        let signature = hmac::sign(&self.key, &self.message(&signed));
        let value = encode(&[&signed, signature.as_ref()].concat());
        let age = ttl.map_or_else(String::new, |ttl| format!("; Max-Age={ttl}"));
        // Browsers refuse `SameSite=None` without `Secure`.
        let (secure, same_site) = match (scheme, same_site) {
            (Scheme::Https, SameSite::None) => ("; Secure", "None"),
            (Scheme::Https, SameSite::Lax) => ("; Secure", "Lax"),
            (Scheme::Https, SameSite::Strict) => ("; Secure", "Strict"),
            (Scheme::Http, SameSite::Strict) => ("", "Strict"),
            (Scheme::Http, SameSite::Lax | SameSite::None) => ("", "Lax"),
        };
        let text = format!("{cookie}={value}; Path={path}{age}; HttpOnly{secure}; SameSite={same_site}");
        HeaderValue::try_from(text).ok()
    }

    fn tag(&self, endpoint: &str) -> Tag {
        let message = [b"endpoint\0", self.upstream.as_bytes(), b"\0", endpoint.as_bytes()].concat();
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.key, &message).as_ref()[..TAG]);
        tag
    }

    /// Names have no zero byte, so different names or contents always give different messages.
    fn message(&self, signed: &[u8]) -> Vec<u8> {
        [b"session\0", self.upstream.as_bytes(), b"\0", signed].concat()
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes only what [`encode`] produces.
fn decode<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::EndpointSpec;

    /// The sticky sessions of an upstream, and its set.
    struct Running(Sticky, Sessions);

    impl Running {
        /// The port of the endpoint that the cookie leads to, and whether it is ageing.
        fn session(&self, headers: &HeaderMap, now: SystemTime) -> Option<(u16, bool)> {
            let session = self.0.session(&self.1, headers, now)?;
            Some((session.member.spec.port, session.is_ageing))
        }

        fn set_cookie(&self, endpoint: &str, scheme: Scheme, now: SystemTime) -> Option<HeaderValue> {
            self.0.set_cookie(endpoint, scheme, now)
        }
    }

    fn sticky(upstream: &str, ports: &[u16], settings: &model::Sticky) -> Running {
        let member = |port: &u16| Member::alone(EndpointSpec::at("a.example", *port), None);
        let sticky = Sticky::new(settings, &upstream.into());
        let sessions = sticky.sessions(&ports.iter().map(member).collect::<Vec<_>>(), None);
        Running(sticky, sessions)
    }

    fn settings(ttl: Option<u64>) -> model::Sticky {
        model::Sticky {
            cookie: "witgate".into(),
            path: "/".into(),
            ttl: ttl.map(Duration::from_secs),
            same_site: SameSite::Lax,
            key: Some("0123456789abcdef0123456789abcdef".into()),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    /// The request of a browser that was given this.
    fn sent_back(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(http::header::COOKIE, HeaderValue::try_from(format!("a=1; {pair}")).unwrap())])
    }

    #[test]
    fn a_cookie_leads_back_until_its_time_is_over() {
        let sticky = sticky("users", &[1, 2], &settings(Some(100)));
        let set = sticky.set_cookie("a.example:2", Scheme::Http, at(0)).unwrap();
        assert!(set.to_str().unwrap().ends_with("; Path=/; Max-Age=100; HttpOnly; SameSite=Lax"), "{set:?}");
        assert!(!set.to_str().unwrap().contains("example"), "it tells nothing about the endpoint");
        let session = |seconds| sticky.session(&sent_back(&set), at(seconds));
        assert_eq!(session(1), Some((2, false)));
        assert_eq!(session(60), Some((2, true)));
        assert_eq!(session(100), None);
    }

    #[test]
    fn it_leads_to_the_same_endpoint_wherever_that_stands_and_nowhere_if_it_is_gone() {
        let set = sticky("users", &[1, 2], &settings(None)).set_cookie("a.example:2", Scheme::Http, at(0));
        let headers = sent_back(&set.unwrap());
        let endpoint =
            |ports| sticky("users", ports, &settings(None)).session(&headers, at(9)).map(|session| session.0);
        assert_eq!((endpoint(&[2, 1]), endpoint(&[7, 8, 2]), endpoint(&[1])), (Some(2), Some(2), None));
    }

    #[test]
    fn what_is_forged_or_of_another_upstream_or_key_leads_nowhere() {
        let ours = sticky("users", &[1, 2], &settings(None));
        let set = ours.set_cookie("a.example:1", Scheme::Http, at(0)).unwrap();
        let headers = sent_back(&set);
        assert!(ours.session(&headers, at(0)).is_some());
        let other_key = model::Sticky { key: Some("f".repeat(32)), ..settings(None) };
        for other in [sticky("orders", &[1, 2], &settings(None)), sticky("users", &[1, 2], &other_key)] {
            assert_eq!(other.session(&headers, at(0)), None);
        }
        let value = cookie::find(&headers, "witgate").unwrap();
        for position in 0..value.len() {
            let mut forged = value.to_vec();
            forged[position] = if forged[position] == b'0' { b'1' } else { b'0' };
            let field = HeaderValue::try_from([b"witgate=", forged.as_slice()].concat()).unwrap();
            let forged = HeaderMap::from_iter([(http::header::COOKIE, field)]);
            assert_eq!(ours.session(&forged, at(0)), None, "digit {position}");
        }
        for short in ["", "00", "zz"] {
            let field = HeaderValue::try_from(format!("witgate={short}")).unwrap();
            assert_eq!(ours.session(&HeaderMap::from_iter([(http::header::COOKIE, field)]), at(0)), None);
        }
    }

    #[test]
    fn it_is_secure_over_tls_only() {
        let none = model::Sticky { same_site: SameSite::None, ..settings(None) };
        let sticky = sticky("users", &[1], &none);
        let end = |scheme| {
            let set = sticky.set_cookie("a.example:1", scheme, at(0)).unwrap();
            set.to_str().unwrap().split_once("HttpOnly").unwrap().1.to_owned()
        };
        assert_eq!(end(Scheme::Https), "; Secure; SameSite=None");
        assert_eq!(end(Scheme::Http), "; SameSite=Lax");
    }
}
