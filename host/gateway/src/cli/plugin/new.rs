//! `witgate plugin new`

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::output::say;
use crate::exit::{Exit, ExitResult, Failure};

/// The template of a new plugin. `{{name}}`, `{{component}}` and `{{sdk}}` are replaced.
const TEMPLATE: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../../../../../sdk/template/Cargo.toml")),
    ("README.md", include_str!("../../../../../sdk/template/README.md")),
    (".gitignore", include_str!("../../../../../sdk/template/gitignore")),
    ("src/lib.rs", include_str!("../../../../../sdk/template/src/lib.rs")),
];

/// The SDK of the checkout that this binary was built from, if it still exists.
const BUILT_WITH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk");

/// Create a plugin: a crate with settings, a decision and tests, which builds without changes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Its name, e.g. `require-key`; also the folder
    #[arg(value_parser = name)]
    name: String,
    /// Where the SDK is: a folder or a version [default: the one this binary was built with]
    #[arg(long, env = "WITGATE_SDK", value_name = "PATH|VERSION")]
    sdk: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitResult {
    let folder = PathBuf::from(&arguments.name);
    if folder.exists() {
        return Err(Failure::new(Exit::Failure, format!("{} already exists", folder.display())));
    }
    let sdk = dependency(arguments.sdk.as_deref())?;
    for (file, text) in TEMPLATE {
        write(&folder.join(file), &fill(text, &arguments.name, &sdk))?;
    }
    say(&format!(
        "made {name}\n\n  cd {name}\n  cargo test            # natively, in seconds\n  witgate plugin dev    # in a gateway; \
         builds again on every save\n  witgate plugin build  # target/{file}.wasm\n",
        name = arguments.name,
        file = file_name(&arguments.name)
    ))
}

/// Checks a name: Cargo's rules, and no capitals, because the name becomes part of file names and of the
/// configuration.
fn name(text: &str) -> Result<String, String> {
    let letters = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || "-_".contains(character)
    };
    if text.starts_with(|first: char| first.is_ascii_lowercase()) && text.chars().all(letters) {
        return Ok(text.to_owned());
    }
    Err("a name is made of lower-case letters, digits and hyphens, and begins with a letter".to_owned())
}

/// The name that Cargo gives to the library of a crate, and so to the component.
fn file_name(name: &str) -> String {
    name.replace('-', "_")
}

fn fill(text: &str, name: &str, sdk: &str) -> String {
    text.replace("{{name}}", name).replace("{{component}}", &file_name(name)).replace("{{sdk}}", sdk)
}

/// The SDK as a dependency in `Cargo.toml`.
fn dependency(sdk: Option<&str>) -> Result<String, Failure> {
    let wanted = sdk.unwrap_or(BUILT_WITH);
    if wanted.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(toml::Value::from(wanted).to_string());
    }
    let folder = Path::new(wanted).canonicalize().ok().filter(|folder| folder.join("Cargo.toml").is_file());
    let folder = folder.ok_or_else(|| {
        let message = match sdk {
            Some(path) => format!("there is no SDK in `{path}`"),
            None => "the SDK that this binary was built with does not exist any more".to_owned(),
        };
        let hint =
            "give it with --sdk (or WITGATE_SDK): the folder `sdk` of a checkout of Witgate, or a version";
        Failure::new(Exit::Failure, format!("{message}: {hint}"))
    })?;
    Ok(format!("{{ path = {} }}", toml::Value::from(folder.to_string_lossy().as_ref())))
}

fn write(path: &Path, text: &str) -> ExitResult {
    let folder = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, text)).map_err(|error| {
        Failure::new(Exit::Failure, format!("{} cannot be written: {error}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_cargo_and_configuration_take() {
        assert!(name("require-key2").is_ok());
        for bad in ["", "2keys", "Key", "a b", "../a", "a.b", "-a"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_in_the_template_is_left_open() {
        for (file, text) in TEMPLATE {
            let filled = fill(text, "a-b", "\"0.1\"");
            assert!(!filled.contains("{{") && !filled.contains("}}"), "{file}:\n{filled}");
        }
    }

    #[test]
    fn the_sdk_is_a_folder_or_a_version() {
        assert_eq!(dependency(Some("0.1")).unwrap(), "\"0.1\"");
        assert!(dependency(None).unwrap().contains("sdk"));
        let gone = dependency(Some("/nowhere")).unwrap_err();
        assert!(gone.message.contains("--sdk"), "{}", gone.message);
    }
}
