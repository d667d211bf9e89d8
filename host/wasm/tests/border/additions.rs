//! What version 0.2.0 adds: its contracts, and that a component which uses the draft has to be declared.

use std::sync::Arc;
use std::time::Duration;

use witgate_exchange::contracts::{
    AuthenticationByBody as _, Binding, BodyContent, BodyForm, Call, Contracts, Decision, Extent, Function,
    Gate as _, Input, Reading, RefusalByBody as _, RoutingByBody as _,
};
use witgate_exchange::head::RequestHead;
use witgate_tests::guest;
use witgate_wasm::{Loaded, Reason, Refusal};

use crate::scene::{Scene, bytes, config, on_core, request, snapshot};

const BUDGET: &str = "budget = { cpu = \"300ms\", wall = \"20s\", body_limit = \"64B\" }\n";

/// Binds the guest `by-body`, with this setting, as a plugin that may use the draft.
fn bind(scene: &Scene, reads: &str) -> Result<Arc<Loaded>, Refusal> {
    let mut config = config(&format!("{BUDGET}settings = {{ reads = \"{reads}\" }}\n"), "");
    config.plugins.get_mut("p").unwrap().unstable = true;
    scene.prepare(&std::fs::read(guest("by-body")).unwrap(), &config)
}

fn content(text: &'static str) -> BodyContent {
    BodyContent { bytes: bytes(text), complete: true }
}

#[test]
fn a_guest_built_against_version_0_1_0_needs_nothing_of_the_draft() {
    let scene = Scene::new();
    let probe = std::fs::read(guest("probe")).unwrap();
    let inspection = scene.runtime.inspect(&probe).unwrap();
    let own =
        inspection.imports.iter().chain(&inspection.exports).filter(|name| name.starts_with("witgate:"));
    assert!(own.clone().count() > 5 && own.clone().all(|name| name.ends_with("@0.1.0")), "{inspection:?}");
    assert!(inspection.drafts().is_empty());
    let loaded = scene.prepare(&probe, &config("grants.store = [\"space\"]", "")).unwrap();
    let contracts = Contracts::of(&(loaded as Arc<dyn Binding>)).names();
    assert_eq!(contracts, ["authentication", "rate-limiting", "routing", "transformation"]);
}

#[test]
fn a_component_that_uses_the_draft_is_refused_unless_its_plugin_says_so() {
    let scene = Scene::new();
    let component = std::fs::read(guest("by-body")).unwrap();
    let refusal = scene.prepare(&component, &config(BUDGET, "")).err().expect("it is refused");
    assert_eq!(refusal.reason, Reason::Contract);
    let text = refusal.to_string();
    assert!(text.contains("witgate:plugin/gate@0.2.0") && text.contains("draft"), "{text}");
    assert!(text.contains("[plugins.p]: unstable = true"), "{text}");
    let loaded = bind(&scene, "raw whole 10").unwrap();
    let contracts = Contracts::of(&(loaded as Arc<dyn Binding>)).names();
    assert_eq!(contracts, ["gate", "authentication-by-body", "refusal-by-body", "routing-by-body"]);
}

#[test]
fn the_declarations_of_each_interface_are_read_and_checked() {
    let scene = Scene::new();
    let loaded = bind(&scene, "raw whole 10").unwrap();
    let interest = loaded.interest();
    let whole = Some(Reading { form: BodyForm::Raw, extent: Extent::Whole(10) });
    assert_eq!((interest.authenticates_by_body, interest.routes_by_body), (whole, whole));
    let names = interest.inputs(Function::Admit).unwrap();
    assert!(matches!(names, [Input::Header(name)] if name == "x-do"));
    let loaded = bind(&scene, "decoded whole 1000").unwrap();
    let limited = Some(Reading { form: BodyForm::Decoded, extent: Extent::Whole(64) });
    assert_eq!(loaded.interest().refuses_by_body, limited, "`body_limit` is a limit, too");
    let loaded = bind(&scene, "decoded peek 64").unwrap();
    let first = Some(Reading { form: BodyForm::Decoded, extent: Extent::Peek(64) });
    assert_eq!(loaded.interest().refuses_by_body, first);
    for (reads, word) in [("raw peek 65", "body_limit"), ("identity raw whole 10", "before authentication")] {
        let refusal = bind(&scene, reads).err().expect("it is refused");
        assert_eq!(refusal.reason, Reason::Interest);
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
}

#[test]
fn a_gate_lets_go_on_or_answers_and_may_be_remembered() {
    let scene = Scene::new();
    let loaded = bind(&scene, "raw whole 10").unwrap();
    let snapshot = snapshot();
    let admit = |told: &str| {
        let head = request(&[("x-do", told)]);
        on_core(loaded.admit(Call { head: &head, fetch: &snapshot })).unwrap()
    };
    let answer = admit("");
    assert!(answer.content.is_none() && answer.pure);
    let answer = admit("close");
    let response = answer.content.expect("it answers");
    assert_eq!((response.status, &response.body[..], answer.pure), (503, &b"closed"[..], true));
    let answer = admit("look");
    assert_eq!(&answer.content.unwrap().body[..], b"192.0.2.7");
    assert!(!answer.pure, "it looked at more than it declares");
    assert_eq!(loaded.meter().read().refusals, 2);
}

#[test]
fn decisions_on_a_body_get_its_bytes_and_whether_these_are_all() {
    let scene = Scene::new();
    let loaded = bind(&scene, "raw whole 10").unwrap();
    let snapshot = snapshot();
    let head = |told: &str| request(&[("x-do", told)]);
    let call = |head: &Arc<RequestHead>, read: BodyContent| {
        on_core(loaded.authenticate_by_body(Call { head, fetch: &snapshot }, read)).unwrap()
    };
    let Decision::Accepted(accepted) = call(&head("accept"), content("hello")) else { panic!("accepted") };
    assert_eq!((accepted.subject.as_str(), accepted.cacheable_for), ("5 true hello", Duration::ZERO));
    let part = BodyContent { complete: false, ..content("hel") };
    let Decision::Accepted(accepted) = call(&head("accept"), part) else { panic!("accepted") };
    assert_eq!(accepted.subject, "3 false hel");
    let Decision::Refused(refusal) = call(&head("deny"), content("")) else { panic!("refused") };
    assert_eq!(refusal.status, 403);
    let Decision::NotMine(challenges) = call(&head(""), content("")) else { panic!("not mine") };
    assert_eq!(challenges, ["Body"]);

    let (head, call) = (head(""), |head| Call { head, fetch: &snapshot });
    assert!(on_core(loaded.refuse_by_body(call(&head), content("good"))).unwrap().is_none());
    let refusal = on_core(loaded.refuse_by_body(call(&head), content("bad"))).unwrap().unwrap();
    assert_eq!((refusal.status, &refusal.body[..]), (422, &b"3 true bad"[..]));
    assert!(on_core(loaded.route_by_body(call(&head), content("alpha"))).unwrap().is_none());
    let chosen = on_core(loaded.route_by_body(call(&head), content("beta"))).unwrap().unwrap();
    assert_eq!((chosen.path.as_deref(), chosen.upstream), (Some("/beta"), None));
    assert_eq!(
        (chosen.hash_key.as_deref(), chosen.timeout),
        (Some(&b"key"[..]), Some(Duration::from_millis(1500)))
    );
}
