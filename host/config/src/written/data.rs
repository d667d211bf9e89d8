//! `[data.NAME]`: read-only files for plugins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, Section};
use crate::file;
use crate::model;
use crate::pointer::child;
use crate::scalar::{Size, Text};

/// A read-only file for plugins, such as a table of networks or a list of words. The gateway holds its bytes once, for
/// all bindings that `grants.data` names it in.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Data {
    /// The file. It must be a regular file that is not empty. When it changes, the bindings that use it are configured
    /// anew with the new contents; if the new file cannot be read, or a plugin refuses it, the last good contents stay
    /// in use.
    #[schemars(length(min = 1))]
    file: String,
    /// The largest file that is read, from 1 byte to 1 GiB. The whole file is held in memory, and while it is
    /// replaced, both the old and the new contents are.
    #[serde(default = "max_size")]
    max_size: Text<Size>,
}

fn max_size() -> Text<Size> {
    Text::of("64MiB")
}

impl Section for Data {
    type Meant = model::Data;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Data> {
        let max_size = self.max_size.value.0;
        scope.check_size(at, "max_size", max_size, (1, file::DATA));
        // Whether the file can be read is not checked here: at a reload, its last good contents stay in use.
        Some(model::Data { file: scope.path(&child(at, "file"), &self.file), max_size })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::{Config, parse_str};

    fn config(text: &str) -> Config {
        parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config
    }

    fn problem(text: &str) -> String {
        let Err(failure) = parse_str(text) else { panic!("it is refused") };
        failure.render(false)
    }

    #[test]
    fn a_binding_is_granted_files_by_their_names() {
        let text = "[data.geo]\nfile = \"geo.csv\"\n[data.words]\nfile = \"/w\"\nmax_size = \"1KiB\"\n\
                    [plugins.p]\n[bindings.b]\nplugin = \"p\"\ngrants.data = [\"geo\"]\n";
        let config = config(text);
        assert_eq!(config.bindings["b"].grants.data.as_deref(), Some(&["geo".to_owned()][..]));
        assert_eq!(config.data["geo"].max_size, 64 << 20);
        assert_eq!((config.data["words"].max_size, &config.data["words"].file), (1024, &PathBuf::from("/w")));
        assert_eq!(self::config("[plugins.p]\n[bindings.p]\n").bindings["p"].grants.data, None);
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        for (text, expected) in [
            ("[data.a]\n", "`file`"),
            ("[data.a]\nfile = \"\"\n", "file"),
            ("[data.a]\nfile = \"a\"\nmax_size = \"0\"\n", "from 1 to 1073741824 bytes"),
            ("[data.a]\nfile = \"a\"\nmax_size = \"2GiB\"\n", "from 1 to 1073741824 bytes"),
            ("[data.a]\nfile = \"a\"\nreload = true\n", "reload"),
            (
                "[data.geo]\nfile = \"a\"\n[plugins.p]\n[bindings.p]\ngrants.data = [\"goe\"]\n",
                "there is no data file `goe`",
            ),
        ] {
            let told = problem(text);
            assert!(told.contains(expected), "{text}: {told}");
        }
    }
}
