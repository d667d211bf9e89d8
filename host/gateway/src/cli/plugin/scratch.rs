//! A configuration for trying one plugin, used by `plugin call` and `plugin dev`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value, json};
use witgate_config::file;

use crate::control::source::{Refusal, Source};
use crate::exit::{Exit, Failure};

/// The file in a plugin's folder with the settings to try it with.
pub(super) const SETTINGS: &str = "settings.json";

/// Name of the only plugin and of its binding.
const NAME: &str = "plugin";

/// The options of the binding.
#[derive(Args, Debug, Clone)]
pub(super) struct Binding {
    /// Settings, as a JSON object [default: those in settings.json in the plugin's folder, or none]
    #[arg(long, value_name = "JSON", value_parser = object)]
    settings: Option<Map<String, Value>>,
    /// Grant a space of the store; may be repeated
    #[arg(long = "store", value_name = "SPACE")]
    store: Vec<String>,
    /// Grant an upstream for `fetch`, e.g. `idp=https://idp.example`; may be repeated
    #[arg(long = "fetch", value_name = "NAME=URL", value_parser = upstream)]
    fetch: Vec<(String, String)>,
    /// Grant a file to read, e.g. `networks=networks.csv`; may be repeated
    #[arg(long = "data", value_name = "NAME=FILE", value_parser = data_file)]
    data: Vec<(String, PathBuf)>,
    /// Grant a note, to leave and to read; may be repeated
    #[arg(long = "note", value_name = "NAME")]
    note: Vec<String>,
    /// Grant an upstream to route to; may be repeated
    #[arg(long = "route-to", value_name = "NAME=URL", value_parser = upstream)]
    route_to: Vec<(String, String)>,
}

/// What a scratch gateway has besides the plugin.
pub(super) struct Surroundings {
    /// The address to listen on.
    pub(super) listen: String,
    /// The URL to forward to.
    pub(super) origin: String,
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("the settings are a JSON object: {error}"))
}

/// The settings in the folder of the plugin that a component was built from; empty if there are none. The folder is
/// that around `target`.
fn settings_beside(component: &Path) -> Result<Map<String, Value>, Failure> {
    let target = component.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "target"));
    let Some(path) = target.and_then(Path::parent).map(|folder| folder.join(SETTINGS)) else {
        return Ok(Map::new());
    };
    match file::read_text(&path, file::CONFIGURATION) {
        Ok(text) => {
            object(&text).map_err(|why| Failure::new(Exit::Usage, format!("{}: {why}", path.display())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(Failure::new(Exit::Usage, format!("{}: {error}", path.display()))),
    }
}

fn upstream(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').ok_or("an upstream is written as NAME=URL")?;
    Ok((name.to_owned(), url.to_owned()))
}

fn data_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("a file is written as NAME=FILE")?;
    let file = std::path::absolute(file).map_err(|error| format!("{file}: {error}"))?;
    Ok((name.to_owned(), file))
}

impl Binding {
    /// The configuration as TOML.
    ///
    /// # Errors
    /// The settings contain a value that TOML does not have, such as null, or their file cannot be read.
    pub(super) fn toml(
        &self,
        component: &Path,
        surroundings: Option<&Surroundings>,
    ) -> Result<String, Failure> {
        let settings = match &self.settings {
            Some(settings) => settings.clone(),
            None => settings_beside(component)?,
        };
        let names = |upstreams: &[(String, String)]| -> Vec<String> {
            upstreams.iter().map(|(name, _)| name.clone()).collect()
        };
        let mut upstreams: BTreeMap<String, Value> = BTreeMap::new();
        for (name, url) in self.fetch.iter().chain(&self.route_to) {
            upstreams.insert(name.clone(), json!({ "endpoints": [url] }));
        }
        let mut route = json!({ "path": "/*", "plugins": [NAME] });
        match surroundings {
            Some(Surroundings { origin, .. }) => {
                upstreams.insert("echo".to_owned(), json!({ "endpoints": [origin] }));
                route["upstream"] = "echo".into();
            }
            None => route["respond"] = json!({}),
        }
        let data: BTreeMap<&str, Value> =
            self.data.iter().map(|(name, file)| (name.as_str(), json!({ "file": file }))).collect();
        let granted: Vec<&&str> = data.keys().collect();
        let listen = surroundings.map_or("127.0.0.1:0", |surroundings| &surroundings.listen);
        let config = json!({
            "admin": { "address": "off" },
            "telemetry": { "access_log": "stdout" },
            "listeners": [{ "name": "scratch", "address": listen }],
            "routes": [route],
            "upstreams": upstreams,
            "data": data,
            // Whoever tries a plugin may try one that uses a draft of the contracts.
            "plugins": { NAME: { "file": component, "unstable": true } },
            "bindings": { NAME: {
                "settings": settings,
                "grants": {
                    "store": self.store,
                    "fetch": names(&self.fetch),
                    "data": granted,
                    "notes": { "read": self.note, "write": self.note },
                    "route_to": names(&self.route_to),
                },
            }},
        });
        toml::to_string(&config)
            .map_err(|error| Failure::new(Exit::Usage, format!("the settings cannot be used: {error}")))
    }

    /// The configuration, ready to be built.
    ///
    /// # Errors
    /// The component's path, the settings or the upstreams are invalid.
    pub(super) fn source(
        &self,
        component: &Path,
        surroundings: Option<&Surroundings>,
    ) -> Result<Source, Failure> {
        let component = absolute(component)?;
        let loaded = witgate_config::parse_str(&self.toml(&component, surroundings)?)
            .map_err(|failure| Refusal::without_files(Exit::Usage, failure.problems, failure.sources))?;
        Ok(Source::Made(Arc::new(loaded.config)))
    }
}

/// The absolute form of a path.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    path.canonicalize().map_err(|error| Failure::new(Exit::Failure, format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_from_the_folder_of_the_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("target/wasm32-wasip2/release/x.wasm");
        assert_eq!(settings_beside(&built).unwrap(), Map::new());
        std::fs::write(folder.path().join(SETTINGS), r#"{ "key": "open-sesame" }"#).unwrap();
        for component in [built, folder.path().join("target/x.wasm")] {
            assert_eq!(settings_beside(&component).unwrap()["key"], "open-sesame");
        }
        assert_eq!(settings_beside(&folder.path().join("plugins/x.wasm")).unwrap(), Map::new());
        std::fs::write(folder.path().join(SETTINGS), "[]").unwrap();
        let failure = settings_beside(&folder.path().join("target/x.wasm")).unwrap_err();
        assert!(failure.message.contains(SETTINGS) && failure.exit == Exit::Usage, "{}", failure.message);
    }
}
