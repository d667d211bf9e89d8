//! `witgate plugin new`

use std::path::{Path, PathBuf};

use clap::Args;

use super::scratch::SETTINGS;
use crate::cli::output::say;
use crate::exit::{Exit, ExitResult, Failure};

/// The template of a new plugin. `{{name}}`, `{{component}}` and `{{sdk}}` are replaced.
const TEMPLATE: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../../../../sdk/template/Cargo.toml")),
    ("README.md", include_str!("../../../../../sdk/template/README.md")),
    (".gitignore", include_str!("../../../../../sdk/template/gitignore")),
    (SETTINGS, include_str!("../../../../../sdk/template/settings.json")),
    ("play.toml", include_str!("../../../../../sdk/template/play.toml")),
    ("src/lib.rs", include_str!("../../../../../sdk/template/src/lib.rs")),
];

/// The sources of the SDK: paths and contents, as packed when this binary was built.
const SDK_FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk_files.rs"));

/// The folder beside the manifest of a plugin that the sources are written to.
const SDK_FOLDER: &str = ".witgate-sdk";

/// Create a plugin: a crate with settings, a decision and tests, which builds without changes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Its name, e.g. `require-key`; also the folder
    #[arg(value_parser = name)]
    name: String,
    /// Where the SDK is: a folder or a version [default: the sources in this binary, written to .witgate-sdk]
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
    if arguments.sdk.is_none() {
        for (file, text) in SDK_FILES {
            write(&folder.join(SDK_FOLDER).join(file), text)?;
        }
    }
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

/// The SDK as a dependency in `Cargo.toml`: what the author named, or the sources beside it.
fn dependency(sdk: Option<&str>) -> Result<String, Failure> {
    let Some(wanted) = sdk else { return Ok(format!("{{ path = \"{SDK_FOLDER}/sdk\" }}")) };
    if wanted.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok(toml::Value::from(wanted).to_string());
    }
    let folder = Path::new(wanted).canonicalize().ok().filter(|folder| folder.join("Cargo.toml").is_file());
    let folder = folder.ok_or_else(|| {
        let message = format!(
            "there is no SDK in `{wanted}`: name the folder `sdk` of a checkout of Witgate, or a version, with --sdk (or \
             WITGATE_SDK); without it, the sources in this binary are used"
        );
        Failure::new(Exit::Failure, message)
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
    fn the_packed_sources_are_whole_and_name_no_folder_of_the_build() {
        let packed = |name: &str| SDK_FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text);
        for name in ["sdk/src/lib.rs", "sdk/macros/src/lib.rs", "sdk/rules/src/lib.rs", "wit/0.1.0/types.wit"]
        {
            assert!(packed(name).is_some(), "{name} is missing");
        }
        let workspace = packed("Cargo.toml").expect("a manifest");
        let workspace: toml::Table = workspace.parse().expect("TOML");
        let dependencies = &workspace["workspace"]["dependencies"];
        assert!(dependencies.get("serde").is_some() && dependencies.get("tokio").is_none(), "{dependencies}");
        let checkout = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        assert!(SDK_FILES.iter().all(|(_, text)| !text.contains(checkout)));
    }

    #[test]
    fn the_sdk_is_a_folder_or_a_version_or_in_the_binary() {
        assert_eq!(dependency(Some("0.1")).unwrap(), "\"0.1\"");
        assert_eq!(dependency(None).unwrap(), "{ path = \".witgate-sdk/sdk\" }");
        let gone = dependency(Some("/nowhere")).unwrap_err();
        assert!(gone.message.contains("--sdk"), "{}", gone.message);
    }
}
