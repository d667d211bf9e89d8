//! Names of the code are the field's own words, which the glossary of the architecture page explains.

use witgate_tests::repository;

use crate::architecture::sources;

/// Words that once named things of this project, some of them several things, and that told a reader nothing. The
/// glossary has the words that are used instead, for example *permit*, *waiter*, *replay body*, *observation*.
const PRIVATE: [&str; 30] = [
    "Asked",
    "Company",
    "Crowd",
    "Door",
    "Doors",
    "Ending",
    "Given",
    "Passport",
    "Place",
    "Placed",
    "Places",
    "Plane",
    "Presence",
    "Recording",
    "Shelf",
    "Shown",
    "Sign",
    "Soon",
    "Standing",
    "Standings",
    "Story",
    "Supply",
    "Ticket",
    "Told",
    "Wish",
    "Wishes",
    "Witness",
    "Witnessed",
    "crowds",
    "passport",
];

/// A source without its comments and string literals.
fn code(source: &str) -> String {
    let mut code = String::new();
    for line in source.lines() {
        let mut in_string = false;
        let mut before = '\0';
        for (at, character) in line.char_indices() {
            match character {
                '"' if before != '\\' => in_string = !in_string,
                '/' if !in_string && line[at..].starts_with("//") => break,
                _ if !in_string => code.push(character),
                _ => {}
            }
            before = character;
        }
        code.push('\n');
    }
    code
}

#[test]
fn private_words_are_no_identifiers() {
    let mut files = Vec::new();
    for folder in ["host", "sdk", "plugins", "tests", "examples"] {
        sources(&repository().join(folder), &mut files);
    }
    assert!(files.len() > 500, "the sources are found");
    let mut found = Vec::new();
    for path in files {
        let source = std::fs::read_to_string(&path).expect("a source file");
        let code = code(&source);
        let identifiers = code.split(|character: char| !character.is_alphanumeric() && character != '_');
        for word in identifiers.filter(|word| PRIVATE.contains(word)) {
            found.push(format!("{}: {word}", path.display()));
        }
    }
    assert!(found.is_empty(), "use the words of the glossary: {found:#?}");
}

#[test]
fn comments_and_strings_are_not_code() {
    let source = "let told = \"a Story // of \\\" Doors\"; // a Wish\nPermit";
    assert_eq!(code(source), "let told = ; \nPermit\n");
}
