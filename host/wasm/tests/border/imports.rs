//! The functions that a guest may call.

use witgate_exchange::contracts::Binding as _;

use crate::scene::{Scene, on_core, probe, tell, told};

#[test]
fn the_standard_library_works_without_waiting() {
    let (_scene, loaded) = probe("");
    // On the runtime of a core, on which blocking would panic.
    assert_eq!(on_core(told(&loaded, "std", "")), Ok("1 true true 0".into()));
    assert_eq!(on_core(told(&loaded, "print", "a line")), Ok("printed".into()));
}

#[test]
fn keys_are_shared_by_cores_and_versions_and_need_a_grant() {
    let (scene, loaded) = probe("");
    assert_eq!(tell(&loaded, "store", "set space name alice"), Ok("Ok(())".into()));
    let elsewhere =
        std::thread::scope(|scope| scope.spawn(|| tell(&loaded, "store", "get space name")).join().unwrap());
    assert_eq!(elsewhere, Ok("Ok(Some(\"alice\"))".into()));
    assert_eq!(tell(&loaded, "store", "get other name"), Ok("Err(Error::Denied)".into()));
    assert_eq!(loaded.meter().read().grants_refused, 1);
    assert_eq!(tell(&loaded, "store", "increment space hits"), Ok("Ok(1)".into()));
    assert_eq!(tell(&loaded, "store", "increment space name"), Ok("Err(Error::NotANumber)".into()));
    assert_eq!(tell(&loaded, "store", "swap space name bob"), Ok("Ok(false)".into()));
    assert_eq!(tell(&loaded, "store", "big space name"), Ok("Err(Error::Full)".into()));
    assert_eq!(tell(&loaded, "store", "remove space name"), Ok("Ok(true)".into()));

    let next = scene.bind("probe", "grants.store = [\"space\"]").expect("the next version loads");
    assert_ne!(next.version(), loaded.version());
    assert_eq!(tell(&next, "store", "increment space hits"), Ok("Ok(2)".into()), "keys outlive a version");
    assert_eq!(
        tell(&Scene::new().bind("probe", "grants.store = [\"space\"]").unwrap(), "store", "get space hits"),
        Ok("Ok(None)".into())
    );
}

#[test]
fn metrics_of_the_plugin_are_shown() {
    let (scene, loaded) = probe("");
    assert_eq!(tell(&loaded, "metrics", ""), Ok("counted".into()));
    let shown = scene.telemetry.metrics().expose();
    for line in [
        "witgate_plugin_custom_total{binding=\"b\",name=\"seen\"} 2",
        "witgate_plugin_custom_gauge{binding=\"b\",name=\"level\"} 1.5",
        "witgate_plugin_custom_histogram_count{binding=\"b\",name=\"size\"} 1",
        "witgate_plugin_calls_total{binding=\"b\",phase=\"rate-limiting\"} 1",
        "witgate_plugin_failures_total{binding=\"b\",kind=\"trap\"} 0",
        "witgate_plugin_quarantine{binding=\"b\"} 0",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
}

/// Vectors of RFC 4231 (case 2), RFC 8032 (test 2), RFC 7515 (appendix A.3) and FIPS 180.
#[test]
fn cryptography_agrees_with_the_published_vectors() {
    let (_scene, loaded) = probe("quarantine = \"off\"");
    let ask = |with: &str| tell(&loaded, "crypto", with).unwrap();
    assert_eq!(
        ask("digest sha256 616263"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let hmac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let (key, data) = ("4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f");
    assert_eq!(ask(&format!("hmac sha256 {key} {data}")), hmac);
    assert_eq!(ask(&format!("hmac-verify sha256 {key} {data} {hmac}")), "true");
    assert_eq!(ask(&format!("hmac-verify sha256 {key} {data}00 {hmac}")), "false");
    assert_eq!(ask("equal 0102 0102"), "true");
    assert_eq!(ask("equal 0102 0103"), "false");

    let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                     085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    assert_eq!(ask(&format!("verify eddsa ed25519 {public} 72 {signature}")), "Ok(true)");
    assert_eq!(ask(&format!("verify eddsa ed25519 {public} 73 {signature}")), "Ok(false)");
}

#[test]
fn keys_that_do_not_fit_are_told_apart_from_bad_signatures() {
    let (_scene, loaded) = probe("quarantine = \"off\"");
    let ask = |with: &str| tell(&loaded, "crypto", with).unwrap();
    let short = "11".repeat(32);
    for (with, text) in [
        (format!("verify es256 ed25519 {short} 00 00"), "cannot be verified"),
        ("verify eddsa ed25519 0011 00 00".to_owned(), "32 bytes"),
        (format!("verify es256 ec {short} 00 00"), "uncompressed P-256"),
        (format!("verify rs256 rsa {} 00 00", "ff".repeat(128)), "2048 to 8192 bits"),
        (format!("verify rs256 rsa 00{} 00 00", "ff".repeat(256)), "zero bytes"),
        (format!("verify rs256 ec {short} 00 00"), "cannot be verified"),
        ("verify es384 spki 300300 00 00".to_owned(), "malformed"),
    ] {
        let answer = ask(&with);
        assert!(answer.starts_with("Err(") && answer.contains(text), "{with}: {answer}");
    }
    let point = format!("04{}", "11".repeat(64));
    assert!(
        ask(&format!("verify es256 ec {point} 00 00")).starts_with("Err("),
        "a point that is not on the curve"
    );
}
