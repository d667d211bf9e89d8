//! Which components are loaded and which are refused, and the messages.

use std::time::Instant;

use witgate_tests::guest;
use witgate_wasm::Reason;

use crate::scene::{Scene, config, probe, tell};

fn refused(scene: &Scene, bytes: &[u8], binding: &str) -> (Reason, String) {
    let refusal = scene.prepare(bytes, &config(binding, "")).err().expect("it is refused");
    (refusal.reason, refusal.to_string())
}

#[test]
fn damaged_files_are_refused_at_every_length() {
    let scene = Scene::new();
    let whole = std::fs::read(guest("probe")).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        let (reason, text) = refused(&scene, &whole[..length], "");
        // A cut between two sections leaves a valid component without its contracts.
        assert!(matches!(reason, Reason::Malformed | Reason::Contract), "{length}: {text}");
    }
    // Changing one byte could change a constant of the code, which gives another valid program.
    let mut corrupt = whole.clone();
    corrupt[whole.len() / 3..][..64].iter_mut().for_each(|byte| *byte ^= 0xff);
    let (reason, text) = refused(&scene, &corrupt, "grants.store = [\"space\"]");
    assert!(matches!(reason, Reason::Malformed | Reason::Compile | Reason::Failed), "{text}");
    let (reason, text) = refused(&scene, b"\0asm\x01\0\0\0", "");
    assert_eq!(reason, Reason::Malformed);
    assert!(text.contains("core module") && text.contains("wasm32-wasip2"), "{text}");
}

#[test]
fn a_missing_grant_names_the_import_and_the_line_to_add() {
    let scene = Scene::new();
    let (reason, text) = refused(&scene, &std::fs::read(guest("probe")).unwrap(), "");
    assert_eq!(reason, Reason::Grant);
    assert!(text.contains("`store`") && text.contains("[bindings.b]: grants.store = "), "{text}");
    let (_, text) = refused(&scene, &std::fs::read(guest("fetcher")).unwrap(), "");
    assert!(text.contains("`fetch`") && text.contains("grants.fetch = "), "{text}");
}

#[test]
fn a_pinned_digest_must_be_the_files() {
    let scene = Scene::new();
    let bytes = std::fs::read(guest("probe")).unwrap();
    let mut config = config("grants.store = [\"space\"]", "");
    let plugin = config.plugins.get_mut("p").unwrap();
    plugin.digest = Some([7; 32]);
    let refusal = scene.prepare(&bytes, &config).err().expect("it is refused");
    assert_eq!(refusal.reason, Reason::Digest);
    let inspection = scene.runtime.inspect(&bytes).unwrap();
    assert!(refusal.to_string().contains(&inspection.digest_text()), "{refusal}");
    config.plugins.get_mut("p").unwrap().digest = Some(inspection.digest);
    assert!(scene.prepare(&bytes, &config).is_ok());
}

#[test]
fn settings_are_checked_by_schema_and_by_the_plugin() {
    let scene = Scene::new();
    let bytes = std::fs::read(guest("probe")).unwrap();
    let (reason, text) = refused(&scene, &bytes, "grants.store = [\"space\"]\nsettings.dead = \"x\"");
    assert_eq!(reason, Reason::Settings);
    assert!(text.contains("dead"), "{text}");
    let refusal = scene
        .prepare(&bytes, &config("grants.store = [\"space\"]\nsettings.deed = \"refuse\"", ""))
        .err()
        .expect("it is refused");
    assert_eq!(refusal.reason, Reason::Settings);
    let problem = &refusal.problems[0];
    assert_eq!(
        (problem.message.as_str(), problem.key.as_str()),
        ("not this deed", "bindings.b.settings.deed")
    );
    assert!(problem.span.is_some(), "the place it was written at");
    let (reason, text) =
        refused(&scene, &bytes, "grants.store = [\"space\"]\nsettings.deed = \"upper-case\"");
    assert_eq!(reason, Reason::Interest);
    assert!(text.contains("X-Do"), "{text}");
}

#[test]
fn an_inspection_tells_what_a_binding_will_need() {
    let scene = Scene::new();
    let inspection = scene.runtime.inspect(&std::fs::read(guest("probe")).unwrap()).unwrap();
    assert!(inspection.needs_store() && !inspection.needs_fetch() && inspection.may_route());
    assert!(inspection.imports.iter().any(|import| import == "witgate:plugin/crypto@0.1.0"));
    assert_eq!(inspection.settings_schema.unwrap()["type"], "object");
    assert!(scene.runtime.inspect(&std::fs::read(guest("fetcher")).unwrap()).unwrap().needs_fetch());
}

#[test]
fn a_component_is_compiled_once_for_all_its_bindings() {
    let scene = Scene::new();
    let bytes = std::fs::read(guest("probe")).unwrap();
    let timed = || {
        let begun = Instant::now();
        (scene.runtime.compile(&bytes).unwrap(), begun.elapsed())
    };
    let (first, compiled) = timed();
    let (_second, found) = timed();
    assert!(found < compiled / 2, "{found:?} after {compiled:?}: code in use is not compiled again");
    drop(first);
    let (scene, loaded) = probe("");
    let other = scene.bind("probe", "grants.store = [\"space\"]").expect("it loads again");
    let answers = (tell(&loaded, "keep", "mine"), tell(&other, "kept", ""));
    assert_eq!(answers, (Ok("kept".into()), Ok(String::new())), "bindings share code, not instances");
}

#[test]
fn compiled_code_is_found_again_after_a_restart() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("code");
    let bytes = std::fs::read(guest("probe")).unwrap();
    let timed = || {
        let scene = Scene::with_cache(Some(folder.clone()));
        let begun = Instant::now();
        let component = scene.runtime.compile(&bytes).unwrap();
        (component, begun.elapsed())
    };
    let (_, compiled) = timed();
    let (_, loaded) = timed();
    assert!(loaded < compiled / 2, "{loaded:?} after {compiled:?}: the cache was used");
    let entry = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut forged = std::fs::read(&entry).unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    std::fs::write(&entry, forged).unwrap();
    let (component, _) = timed();
    assert!(
        component.contracts().authentication,
        "a forged entry is not loaded; the plugin is compiled again"
    );
}
