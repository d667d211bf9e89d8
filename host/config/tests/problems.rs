//! One file for each kind of mistake, and how it is told: `problems/NAME.toml`, `problems/NAME.txt`.
//!
//! `WITGATE_BLESS=1 cargo test -p witgate-config` writes the texts anew; read the difference before you land it.

use std::path::Path;

use witgate_config::parse_str;

#[test]
fn mistakes_are_told_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/problems");
    let mut cases: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("a case").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() > 10, "the cases are there");
    let mut wrong = Vec::new();
    for case in cases {
        let text = std::fs::read_to_string(&case).expect("a case");
        let told = match parse_str(&text) {
            Ok(_) => "nothing is wrong\n".to_owned(),
            Err(failure) => failure.render(false) + "\n",
        };
        let golden = case.with_extension("txt");
        if std::env::var_os("WITGATE_BLESS").is_some() {
            std::fs::write(&golden, &told).expect("written");
        }
        if std::fs::read_to_string(&golden).unwrap_or_default() != told {
            wrong.push(format!("{}:\n{told}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "told otherwise than written down:\n\n{}", wrong.join("\n"));
}
