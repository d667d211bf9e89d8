//! What version 0.2.0 adds to the imports: files, sealing, random bytes, ES512, passwords.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use witgate_exchange::contracts::CallFailure;
use witgate_tests::guest;
use witgate_wasm::{Data, Loaded, Reason, Refusal};

use crate::scene::{Scene, config, tell};

const BUDGET: &str = "budget = { cpu = \"300ms\", wall = \"20s\" }\nquarantine = \"off\"\n\
                      grants = { store = [\"space\"], fetch = [], data = [\"table\"] }\n";

/// Binds the guest `background`; `more` is added to its binding, or comes after it.
pub(crate) fn bind(scene: &Scene, binding: &str, more: &str) -> Result<Arc<Loaded>, Refusal> {
    let text = format!("[data.table]\nfile = \"t\"\n[data.other]\nfile = \"o\"\n{more}");
    let mut config = config(binding, &text);
    config.plugins.get_mut("p").unwrap().unstable = true;
    scene.prepare(&std::fs::read(guest("background")).unwrap(), &config)
}

fn scene_with(content: impl Into<Box<[u8]>>) -> Scene {
    let mut scene = Scene::new();
    scene.data.insert("table".into(), Arc::new(Data::new(content)));
    scene.data.insert("other".into(), Arc::new(Data::new(*b"secret")));
    scene
}

#[test]
fn a_granted_file_is_read_by_ranges_and_no_other_is() {
    let mut content = b"0123456789".repeat(300_000);
    content.extend(b"the end");
    let size = content.len();
    let scene = scene_with(content);
    let loaded = bind(&scene, BUDGET, "").unwrap();
    let ask = |deed, with: &str| tell(&loaded, deed, with).unwrap();
    assert_eq!(ask("size", "table"), format!("Ok({size})"));
    assert_eq!(ask("read", "table 3 4"), "4 3456");
    assert_eq!(ask("read", &format!("table {} 100", size - 7)), "7 the end");
    assert_eq!(ask("read", &format!("table {size} 1")), "0 ");
    assert_eq!(ask("read", "table 18446744073709551615 4"), "0 ");
    // More than the gateway gives at once.
    assert_eq!(ask("read", "table 0 2500000"), "2500000 01234567890123456789");
    for other in ["other", "nothing", "../table", ""] {
        let answer = ask("size", other);
        assert!(answer.contains("Denied"), "{other}: {answer}");
    }
    assert_eq!(loaded.meter().read().grants_refused, 4);
}

#[test]
fn a_plugin_that_imports_data_needs_a_grant() {
    let scene = scene_with(*b"x");
    let refusal = bind(&scene, "grants = { store = [], fetch = [] }", "").err().expect("it is refused");
    assert_eq!(refusal.reason, Reason::Grant);
    assert!(refusal.to_string().contains("grants.data"), "{refusal}");
    let loaded = bind(&scene, "grants = { store = [], fetch = [], data = [] }", "").unwrap();
    assert!(tell(&loaded, "size", "table").unwrap().contains("Denied"));
}

#[test]
fn configure_reads_a_file_and_may_refuse_it() {
    let settings = format!("{BUDGET}settings = {{ checks = \"table\" }}\n");
    let loaded = bind(&scene_with(*b"good table"), &settings, "").unwrap();
    assert_eq!(tell(&loaded, "checked", ""), Ok("Some(10)".into()));
    let refusal = bind(&scene_with(*b"bad"), &settings, "").err().expect("it is refused");
    assert_eq!(refusal.reason, Reason::Settings);
    assert!(refusal.to_string().contains("the table is malformed"), "{refusal}");
}

#[test]
fn a_sealed_message_is_opened_by_the_fleet_and_by_nobody_else() {
    let scene = scene_with(*b"x");
    let secret = |secret: &str| format!("[gateway]\nsecret = [\"{}\"]\n", secret.repeat(32));
    let loaded = bind(&scene, BUDGET, &secret("a")).unwrap();
    let sealed = tell(&loaded, "seal", "session alice").unwrap();
    assert_ne!(sealed, tell(&loaded, "seal", "session alice").unwrap());
    let open = |loaded: &Loaded, context: &str, sealed: &str| {
        tell(loaded, "open", &format!("{context} {sealed}")).unwrap()
    };
    let alice = "Some(\"alice\")";
    assert_eq!(open(&loaded, "session", &sealed), alice);
    assert_eq!(open(&loaded, "other", &sealed), "None");
    assert_eq!(open(&loaded, "session", &sealed[2..]), "None");
    assert_eq!(open(&loaded, "session", ""), "None");
    let other_gateway = bind(&scene_with(*b"x"), BUDGET, &secret("a")).unwrap();
    assert_eq!(open(&other_gateway, "session", &sealed), alice);
    let other_fleet = bind(&scene_with(*b"x"), BUDGET, &secret("b")).unwrap();
    assert_eq!(open(&other_fleet, "session", &sealed), "None");
}

#[test]
fn random_bytes_are_given_up_to_a_bound() {
    let loaded = bind(&scene_with(*b"x"), BUDGET, "").unwrap();
    let one = tell(&loaded, "random", "16").unwrap();
    assert_eq!(one.len(), 32);
    assert_ne!(one, tell(&loaded, "random", "16").unwrap());
    assert_eq!(tell(&loaded, "random", "0"), Ok(String::new()));
    assert_eq!(tell(&loaded, "random", "65537"), Err(CallFailure::Trap));
}

#[test]
fn es512_is_verified_with_the_key_of_its_signer() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let point = hex(pair.public_key().as_ref());
    let signature = hex(pair.sign(&SystemRandom::new(), b"message").unwrap().as_ref());
    let loaded = bind(&scene_with(*b"x"), BUDGET, "").unwrap();
    let ask = |with: String| tell(&loaded, "es512", &with).unwrap();
    assert_eq!(ask(format!("{point} message {signature}")), "Ok(true)");
    assert_eq!(ask(format!("{point} other {signature}")), "Ok(false)");
    let short = ask(format!("{} message {signature}", &point[2..]));
    assert!(short.starts_with("Err(") && short.contains("133 bytes"), "{short}");
}

#[test]
fn passwords_are_verified_while_the_call_waits() {
    let loaded = bind(&scene_with(*b"x"), BUDGET, "").unwrap();
    let ask = |with: &str| tell(&loaded, "password", with).unwrap();
    let bcrypt = "$2b$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW";
    assert_eq!(ask(&format!("myPassword {bcrypt}")), "Ok(true)");
    assert_eq!(ask(&format!("mypassword {bcrypt}")), "Ok(false)");
    assert_eq!(ask("myPassword $apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"), "Ok(true)");
    assert_eq!(ask("myPassword {SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="), "Ok(true)");
    let refused = ask("myPassword plain");
    assert!(refused.contains("unknown-form"), "{refused}");
    let refused = ask(&format!("x $2y$31${}", ".".repeat(53)));
    assert!(refused.contains("too-costly"), "{refused}");
}

#[test]
fn a_verification_is_none_of_the_cpu_time_of_a_call_and_ends_with_its_wall_time() {
    let small = BUDGET.replace("cpu = \"300ms\", wall = \"20s\"", "cpu = \"20ms\", wall = \"20s\"");
    let scene = scene_with(*b"x");
    let loaded = bind(&scene, &small, "").unwrap();
    // Some hundred milliseconds of work, of which the guest does none.
    let slow = format!("x $2y$10${}", ".".repeat(53));
    assert_eq!(tell(&loaded, "password", &slow), Ok("Ok(false)".into()));
    assert_eq!(loaded.meter().read().failures.iter().sum::<u64>(), 0);

    let short = BUDGET.replace("wall = \"20s\"", "wall = \"300ms\"");
    let loaded = bind(&scene, &short, "").unwrap();
    let begun = Instant::now();
    let slower = format!("x $2y$14${}", ".".repeat(53));
    let late = tell(&loaded, "password", &slower).unwrap();
    assert!(late.contains("busy"), "{late} after {:?}", begun.elapsed());
}
