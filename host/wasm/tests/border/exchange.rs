//! What version 0.2.0 lets a call say and ask about its exchange: notes, attributes of its span, facts, keys by their beginning,
//! windows of the calendar, and that the body of the response is not wanted.

use std::sync::Arc;
use std::time::Duration;

use witgate_exchange::call_cost;
use witgate_exchange::contracts::{
    Call, CallFailure, RateLimiting as _, RequestOutcome, ResponseHead, ResponseOrigin, ResponseOutcome,
    Transformation as _,
};
use witgate_exchange::fault::FaultKind;
use witgate_exchange::head::{ClientCertificate, RequestHead, TlsSession};
use witgate_exchange::notes::Notes;
use witgate_exchange::trace::TraceContext;
use witgate_tests::guest;
use witgate_wasm::{Loaded, Reason, Refusal};

use crate::scene::{Scene, config, on_core, request, response, snapshot, tell};

const GRANTS: &str =
    "grants = { store = [\"space\"], notes = { read = [\"a\", \"b\"], write = [\"a\", \"b\", \"c\"] } }\n";

fn bind(scene: &Scene, binding: &str) -> Result<Arc<Loaded>, Refusal> {
    let text = format!("budget = {{ cpu = \"300ms\", wall = \"20s\" }}\nquarantine = \"off\"\n{binding}");
    let mut config = config(&text, "");
    config.plugins.get_mut("p").unwrap().unstable = true;
    scene.prepare(&std::fs::read(guest("exchange")).unwrap(), &config)
}

/// A request that says what to do, in an exchange that takes notes.
fn head(deed: &str, with: &str, notes: &Arc<Notes>) -> RequestHead {
    RequestHead { notes: Some(Arc::clone(notes)), ..(*request(&[("x-do", deed), ("x-with", with)])).clone() }
}

/// What the guest tells of this request. What it leaves is applied as the pipeline does.
fn told(loaded: &Loaded, head: RequestHead) -> Result<String, CallFailure> {
    let (head, snapshot) = (Arc::new(head), snapshot());
    let answer = on_core(async {
        let answer = loaded.draw(Call { head: &head, fetch: &snapshot }).await;
        if let Some(left) = call_cost::take_left()
            && let Some((notes, collected)) = left.notes
            && answer.is_ok()
        {
            notes.leave(collected);
        }
        answer
    })?;
    Ok(answer.content.into_iter().next().expect("one bucket").key)
}

#[test]
fn a_note_is_read_by_later_calls_of_its_exchange_and_of_no_other() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let (one, other) = (Arc::<Notes>::default(), Arc::<Notes>::default());
    assert_eq!(told(&loaded, head("read", "a", &one)), Ok("None".into()));
    assert_eq!(told(&loaded, head("leave", "a first", &one)), Ok("Ok(())".into()));
    assert_eq!(told(&loaded, head("read", "a", &one)), Ok("Some(\"first\")".into()));
    assert_eq!(told(&loaded, head("leave", "a second", &one)), Ok("Ok(())".into()));
    assert_eq!(told(&loaded, head("read", "a", &one)), Ok("Some(\"second\")".into()));
    assert_eq!(told(&loaded, head("read", "a", &other)), Ok("None".into()));
    assert_eq!(told(&loaded, head("own", "b", &other)), Ok("Ok(()) Some(\"own\")".into()));
    let outside = RequestHead { notes: None, ..head("leave", "a x", &one) };
    assert!(told(&loaded, outside).unwrap().contains("denied"), "the route takes no notes");
}

#[test]
fn a_note_that_is_not_granted_is_neither_left_nor_read() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let notes = Arc::<Notes>::default();
    assert!(told(&loaded, head("leave", "d x", &notes)).unwrap().contains("denied"));
    assert_eq!(told(&loaded, head("leave", "c x", &notes)), Ok("Ok(())".into()));
    assert_eq!(told(&loaded, head("read", "c", &notes)), Ok("None".into()), "it may only be left");
    assert_eq!(loaded.meter().read().grants_refused, 2);
    let refusal = bind(&scene, "grants = { store = [] }\n").err().expect("it is refused");
    assert_eq!(refusal.reason, Reason::Grant);
    assert!(refusal.to_string().contains("grants.notes"), "{refusal}");
    let denied = bind(&scene, "grants = { store = [], notes = {} }\n").unwrap();
    assert!(told(&denied, head("leave", "a x", &notes)).unwrap().contains("denied"));
}

#[test]
fn a_call_that_fails_leaves_no_note_and_bounds_hold() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let notes = Arc::<Notes>::default();
    assert_eq!(told(&loaded, head("leave-panic", "a x", &notes)), Err(CallFailure::Trap));
    assert_eq!(told(&loaded, head("read", "a", &notes)), Ok("None".into()));
    assert_eq!(told(&loaded, head("leave-long", "a 1023", &notes)), Ok("Ok(())".into()));
    assert!(told(&loaded, head("leave-long", "a 1024", &notes)).unwrap().contains("full"));
    // Notes of one name replace each other, so a plugin that leaves without end is ended by its budget of host calls only.
    assert_eq!(told(&loaded, head("leave-many", "a 500", &notes)), Ok("500".into()));
    assert_eq!(told(&loaded, head("read", "a", &notes)), Ok("Some(\"499\")".into()));
    assert_eq!(told(&loaded, head("leave-many", "a 100000000", &notes)), Err(CallFailure::HostCalls));
    assert_eq!(told(&loaded, head("read", "a", &notes)), Ok("Some(\"499\")".into()));
}

#[test]
fn attributes_are_bounded_and_kept_only_where_the_trace_is_sampled() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let attributes = |sampled: bool, number: &str| {
        let notes = Arc::<Notes>::default();
        let trace = sampled.then(|| TraceContext::start(1.0));
        let (head, snapshot) =
            (Arc::new(RequestHead { trace, ..head("attributes", number, &notes) }), snapshot());
        on_core(async {
            let answer = loaded.draw(Call { head: &head, fetch: &snapshot }).await.unwrap();
            let left = call_cost::take_left().map(|left| left.attributes).unwrap_or_default();
            (answer.content[0].key.clone(), left)
        })
    };
    assert_eq!(attributes(false, "3"), ("false".into(), Vec::new()));
    let (told, left) = attributes(true, "3");
    assert_eq!((&*told, left.len()), ("true", 4));
    assert_eq!(left[3], ("tokens".into(), "18".into()));
    assert!(left[0].1.len() == 256 && &*left[0].0 == "a0");
    let (_, left) = attributes(true, "40");
    assert_eq!(left.len(), 16);
}

#[test]
fn facts_are_those_of_the_connection_and_of_the_response() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let notes = Arc::<Notes>::default();
    for deed in ["tls", "certificate", "origin"] {
        assert_eq!(told(&loaded, head(deed, "", &notes)), Ok("None".into()), "{deed}");
    }
    let secure = |deed: &str| {
        let mut head = head(deed, "", &notes);
        head.client.tls = Some(Arc::new(TlsSession {
            version: "TLSv1.3",
            server_name: Some("a.example".into()),
            protocol: Some("h2".into()),
        }));
        head.client.certificate = Some(Arc::new(ClientCertificate {
            subject: "CN=api".into(),
            names: vec!["dns:api".into(), "uri:spiffe://td/api".into()],
            fingerprint: "00".into(),
            ..Default::default()
        }));
        told(&loaded, head).unwrap()
    };
    assert_eq!(secure("tls"), "Some((\"TLSv1.3\", Some(\"a.example\"), Some(\"h2\")))");
    assert_eq!(secure("certificate"), "Some((\"CN=api\", [\"api\"], Some(\"spiffe://td/api\")))");

    let origin = ResponseOrigin {
        upstream: Some("users".into()),
        endpoint: Some("10.0.0.1:80".into()),
        attempts: 2,
        time: Some(Duration::from_millis(3)),
        fault: Some(FaultKind::UpstreamReset),
    };
    let view = ResponseHead { origin, local: true, ..(*response(&[])).clone() };
    let (head, snapshot) = (Arc::new(head("", "", &notes)), snapshot());
    let call = Call { head: &head, fetch: &snapshot };
    let answer = on_core(loaded.transform_response(call, Arc::new(view), bytes::Bytes::new())).unwrap();
    let ResponseOutcome::Proceed(changes) = answer.content else { panic!("it goes on") };
    assert!(
        format!("{:?}", changes.headers).contains("users true 2 true true upstream-reset"),
        "{changes:?}"
    );
    assert!(!changes.declines_body && !answer.pure);
}

#[test]
fn a_call_may_decline_the_body_and_the_next_call_of_its_instance_does_not() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let snapshot = snapshot();
    for (decline, on_request, on_response) in
        [("request", true, false), ("response", false, true), ("no", false, false)]
    {
        let head = request(&[("x-decline", decline)]);
        let call = Call { head: &head, fetch: &snapshot };
        let answer = on_core(loaded.transform_request(call)).unwrap();
        let RequestOutcome::Proceed(changes) = answer.content else { panic!("it goes on") };
        assert_eq!(changes.declines_body, on_request, "{decline}");
        let answer = on_core(loaded.transform_response(call, response(&[]), bytes::Bytes::new())).unwrap();
        let ResponseOutcome::Proceed(changes) = answer.content else { panic!("it goes on") };
        assert_eq!(changes.declines_body, on_response, "{decline}");
    }
}

#[test]
fn keys_of_a_granted_space_are_listed_and_removed_by_their_beginning() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let ask = |deed: &str, with: &str| tell(&loaded, deed, with).unwrap();
    for key in ["u:1", "u:2", "v:1"] {
        assert_eq!(ask("set", key), "Ok(())");
    }
    assert_eq!(ask("all-keys", "u:"), "u:1 u:2");
    assert_eq!(ask("all-keys", ""), "u:1 u:2 v:1");
    assert!(ask("other-space", "").contains("Denied"));
    assert_eq!(ask("remove-keys", "u:"), "2");
    assert_eq!(ask("all-keys", ""), "v:1");
    let long = "k".repeat(5000);
    assert_eq!(ask("all-keys", &long), "");
}

#[test]
fn windows_are_those_of_the_zone_and_counters_are_apart_by_them() {
    let scene = Scene::new();
    let loaded = bind(&scene, GRANTS).unwrap();
    let ask = |deed: &str, with: &str| tell(&loaded, deed, with).unwrap();
    assert_eq!(ask("window", "Europe/Berlin 1774744200"), "2026-03-29 1774738800 1774821600");
    assert_eq!(ask("window", "Europe/Nowhere 1774744200"), "none");
    assert_eq!(ask("window", "../../etc/passwd 0"), "none");
    assert_eq!(ask("day", ""), "true");
    let first = ask("count", "alice Europe/Berlin");
    assert!(first.starts_with("Ok(1) 20"), "{first}");
    assert!(ask("count", "alice Europe/Berlin").starts_with("Ok(2) "));
    assert!(ask("count", "bob Europe/Berlin").starts_with("Ok(1) "));
    let month = &first["Ok(1) ".len()..];
    assert_eq!(ask("all-keys", "alice/"), format!("alice/{month}"));
    assert_eq!(ask("count", "alice Mars"), "no zone");
}
