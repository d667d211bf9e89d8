//! Tests of settings, their problems, and the JSON Pointers of these.

use std::time::Duration;

use witgate_sdk::{HeaderName, NoSettings, Period, Settings, settings, test};

#[settings]
struct Outer {
    /// What it is for.
    #[serde(default)]
    inner: Vec<Inner>,
    #[serde(default)]
    mode: Mode,
    header: Option<HeaderName>,
    period: Option<Period>,
}

#[settings]
struct Inner {
    limit: u32,
}

#[settings]
#[derive(Debug, Default, PartialEq)]
enum Mode {
    #[default]
    ByDefault,
    OnRequest,
}

fn problem<S: Settings>(json: &str) -> (String, String) {
    let mut problems = test::configure::<S>(json).err().expect("there is a problem");
    assert_eq!(problems.len(), 1);
    let problem = problems.remove(0);
    (problem.pointer, problem.message)
}

#[test]
fn a_problem_points_at_its_value() {
    let pointer = |json| problem::<Outer>(json).0;
    assert_eq!(pointer(r#"{ "inner": [{ "limit": 1 }, { "limit": "x" }] }"#), "/inner/1/limit");
    assert_eq!(pointer(r#"{ "inner": [{ "limit": 1, "lmit": 2 }] }"#), "/inner/0/lmit");
    assert_eq!(pointer(r#"{ "inner": [{}] }"#), "/inner/0");
    assert_eq!(pointer(r#"{ "a/b~c": 1 }"#), "/a~1b~0c");
    assert_eq!(pointer(r#"{ "mode": "by-default" }"#), "/mode");
    assert_eq!(pointer("[]"), "");
    assert_eq!(pointer("{"), "");
}

#[test]
fn a_message_says_nothing_of_lines_the_operator_never_wrote() {
    assert_eq!(problem::<Outer>(r#"{ "inner": [{}] }"#).1, "missing field `limit`");
}

#[test]
fn cases_are_written_in_snake_case_and_defaults_apply() {
    let settings: Outer = test::configure(r#"{ "mode": "on_request" }"#).unwrap();
    assert_eq!((settings.mode, settings.inner.len()), (Mode::OnRequest, 0));
    let settings: Outer = test::configure(r#"{ "inner": [{ "limit": 3 }] }"#).unwrap();
    assert_eq!(settings.inner[0].limit, 3);
    let settings: Outer = test::configure("").unwrap();
    assert_eq!(settings.mode, Mode::ByDefault, "no text is an empty table");
}

#[test]
fn header_names_and_periods_check_themselves() {
    let settings: Outer = test::configure(r#"{ "header": "X-Api-Key", "period": "90s" }"#).unwrap();
    assert_eq!(settings.header.as_deref(), Some("x-api-key"));
    assert_eq!(settings.period.unwrap().duration(), Duration::from_secs(90));
    for wrong in ["", "a b", "ä", "a:", "a\n"] {
        assert!(HeaderName::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
    }
    for (written, milliseconds) in
        [("1ms", 1), ("2s", 2000), ("3m", 180_000), ("1h", 3_600_000), ("1d", 86_400_000)]
    {
        let period = Period::try_from(written.to_owned()).unwrap();
        assert_eq!(period.duration(), Duration::from_millis(milliseconds), "{written}");
    }
    for wrong in ["", "5", "s", "-1s", "1.5s", "1 s", "99999999999999999999d", "18446744073709551615d"] {
        assert!(Period::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
    }
    assert_eq!(problem::<Outer>(r#"{ "period": "5" }"#).0, "/period");
}

#[test]
fn the_schema_describes_what_is_read() {
    let schema = test::schema::<Outer>();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["inner"]["description"], "What it is for.");
    assert_eq!(schema["$defs"]["Inner"]["required"][0], "limit");
    assert_eq!(schema["$defs"]["Inner"]["additionalProperties"], false);
}

#[test]
fn a_plugin_without_settings_refuses_them() {
    assert!(test::configure::<NoSettings>("{}").is_ok());
    assert_eq!(problem::<NoSettings>(r#"{ "key": 1 }"#).0, "/key");
}
