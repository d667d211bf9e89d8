//! Generates the reference manual of the plugin border from the WIT.

use std::fmt::Write;

use wit_parser::{
    Docs, Function, FunctionKind, Handle, InterfaceId, PackageId, Resolve, SourceMap, Type, TypeDef,
    TypeDefKind, TypeId, World, WorldItem,
};

/// A version of the border.
struct Version {
    /// Its files. They may use types of the versions before it.
    files: &'static [(&'static str, &'static str)],
    /// Its chapters with their interfaces, in reading order.
    chapters: &'static [(&'static str, &'static [&'static str])],
}

/// The file of this name in the folder of a version.
macro_rules! file {
    ($version:literal, $name:literal) => {
        ($name, include_str!(concat!("../../../../../../wit/", $version, "/", $name)))
    };
}

/// The versions that the gateway serves, from the oldest.
const VERSIONS: [Version; 2] = [
    Version {
        files: &[
            file!("0.1.0", "types.wit"),
            file!("0.1.0", "imports.wit"),
            file!("0.1.0", "lifecycle.wit"),
            file!("0.1.0", "contracts.wit"),
            file!("0.1.0", "worlds.wit"),
        ],
        chapters: &[
            ("The contracts", &["authentication", "rate-limiting", "routing", "transformation"]),
            ("Setting up", &["lifecycle"]),
            ("What a plugin may import", &["log", "metrics", "store", "fetch", "crypto"]),
            ("Shared types", &["types"]),
        ],
    },
    Version {
        files: &[
            file!("0.2.0", "package.wit"),
            file!("0.2.0", "gate.wit"),
            file!("0.2.0", "request-body.wit"),
            file!("0.2.0", "authentication-by-body.wit"),
            file!("0.2.0", "refusal-by-body.wit"),
            file!("0.2.0", "routing-by-body.wit"),
            file!("0.2.0", "observe.wit"),
            file!("0.2.0", "tick.wit"),
            file!("0.2.0", "data.wit"),
            file!("0.2.0", "crypto.wit"),
            file!("0.2.0", "password.wit"),
            file!("0.2.0", "store.wit"),
            file!("0.2.0", "calendar.wit"),
            file!("0.2.0", "notes.wit"),
            file!("0.2.0", "span.wit"),
            file!("0.2.0", "facts.wit"),
            file!("0.2.0", "response-body.wit"),
            file!("0.2.0", "ending.wit"),
            file!("0.2.0", "upstream-host.wit"),
            file!("0.2.0", "settlement.wit"),
            file!("0.2.0", "observed.wit"),
            file!("0.2.0", "worlds.wit"),
        ],
        chapters: &[
            ("The contracts", &["gate", "authentication-by-body", "refusal-by-body", "routing-by-body"]),
            ("Called by no request", &["observe", "tick"]),
            ("What a plugin may import", &["data", "crypto", "password", "store", "calendar"]),
            (
                "What a call may say and ask about its exchange",
                &[
                    "notes",
                    "facts",
                    "span",
                    "upstream-host",
                    "settlement",
                    "response-body",
                    "ending",
                    "observed",
                ],
            ),
            ("Shared types", &["request-body"]),
        ],
    },
];

/// The manual, as Markdown.
///
/// # Errors
/// The WIT does not parse.
pub(super) fn manual() -> anyhow::Result<String> {
    let mut text = String::from(
        "# Reference of the plugin border\n\nWritten from the WIT by `witgate plugin reference`; do not edit.\n",
    );
    let (resolve, packages) = parse()?;
    for (version, package) in VERSIONS.iter().zip(packages) {
        Manual { resolve: &resolve, text: &mut text }.package(package, version.chapters);
    }
    Ok(text)
}

/// All versions, with the package of each.
fn parse() -> anyhow::Result<(Resolve, Vec<PackageId>)> {
    let mut resolve = Resolve::default();
    let mut packages = Vec::new();
    for version in &VERSIONS {
        let mut sources = SourceMap::default();
        for (name, content) in version.files {
            sources.push_str(name, *content);
        }
        let group =
            sources.parse().map_err(|(sources, error)| anyhow::anyhow!("{}", error.render(&sources)))?;
        packages.push(resolve.push_group(group)?);
    }
    Ok((resolve, packages))
}

struct Manual<'a> {
    resolve: &'a Resolve,
    text: &'a mut String,
}

impl Manual<'_> {
    fn package(&mut self, id: PackageId, chapters: &[(&str, &[&str])]) {
        let package = &self.resolve.packages[id];
        let _ = write!(self.text, "\n# `{}`\n", package.name);
        self.docs(&package.docs);
        for (title, interfaces) in chapters {
            let _ = write!(self.text, "\n## {title}\n");
            for name in *interfaces {
                if let Some(id) = package.interfaces.get(*name) {
                    self.interface(name, *id);
                }
            }
        }
        self.text.push_str("\n## Worlds\n");
        for id in package.worlds.values() {
            self.world(&self.resolve.worlds[*id]);
        }
    }

    fn interface(&mut self, name: &str, id: InterfaceId) {
        let interface = &self.resolve.interfaces[id];
        let _ = write!(self.text, "\n### `{name}`\n");
        self.docs(&interface.docs);
        for (name, function) in &interface.functions {
            if matches!(function.kind, FunctionKind::Freestanding) {
                self.function(name, function);
            }
        }
        for (name, id) in &interface.types {
            self.definition(name, *id, interface.functions.values());
        }
    }

    fn function(&mut self, name: &str, function: &Function) {
        let _ = write!(self.text, "\n#### `{name}: {}`\n", self.signature(function));
        self.docs(&function.docs);
    }

    fn definition<'f>(&mut self, name: &str, id: TypeId, functions: impl Iterator<Item = &'f Function>) {
        let definition = &self.resolve.types[id];
        match &definition.kind {
            // `use types.{…}`: the type is described where it is defined.
            TypeDefKind::Type(Type::Id(_)) => return,
            kind => drop(write!(self.text, "\n#### {} `{name}`\n", kind.as_str())),
        }
        self.docs(&definition.docs);
        self.members(definition);
        for function in functions.filter(|function| function.kind == FunctionKind::Method(id)) {
            let signature = self.signature(function);
            self.row(function.item_name(), &signature, &function.docs);
        }
    }

    fn members(&mut self, definition: &TypeDef) {
        self.text.push('\n');
        match &definition.kind {
            TypeDefKind::Record(record) => {
                for field in &record.fields {
                    self.row(&field.name, &self.of(&field.ty), &field.docs);
                }
            }
            TypeDefKind::Variant(variant) => {
                for case in &variant.cases {
                    let payload = case.ty.as_ref().map(|payload| self.of(payload)).unwrap_or_default();
                    self.row(&case.name, &payload, &case.docs);
                }
            }
            TypeDefKind::Enum(cases) => {
                for case in &cases.cases {
                    self.row(&case.name, "", &case.docs);
                }
            }
            _ => {}
        }
    }

    fn row(&mut self, name: &str, of: &str, docs: &Docs) {
        let separator = if of.is_empty() { "" } else { ": " };
        let docs = docs.contents.as_deref().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let docs = docs.map(|docs| format!(" — {docs}")).unwrap_or_default();
        let _ = writeln!(self.text, "- `{name}{separator}{of}`{docs}");
    }

    fn world(&mut self, world: &World) {
        let _ = write!(self.text, "\n### `{}`\n", world.name);
        self.docs(&world.docs);
        let names = |items: &mut dyn Iterator<Item = &WorldItem>| {
            let named = items.filter_map(|item| match item {
                WorldItem::Interface { id, .. } => self.resolve.interfaces[*id].name.clone(),
                _ => None,
            });
            named.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        let (imports, exports) = (names(&mut world.imports.values()), names(&mut world.exports.values()));
        let _ = write!(self.text, "\nImports {imports}.\n");
        if !exports.is_empty() {
            let _ = writeln!(self.text, "Exports {exports}.");
        }
    }

    fn docs(&mut self, docs: &Docs) {
        if let Some(text) = &docs.contents {
            let _ = write!(self.text, "\n{}\n", text.trim());
        }
    }

    fn signature(&self, function: &Function) -> String {
        let receiver = usize::from(matches!(function.kind, FunctionKind::Method(_)));
        let parameters = function.params.iter().skip(receiver);
        let parameters: Vec<String> =
            parameters.map(|parameter| format!("{}: {}", parameter.name, self.of(&parameter.ty))).collect();
        let result =
            function.result.as_ref().map(|result| format!(" -> {}", self.of(result))).unwrap_or_default();
        format!("func({}){result}", parameters.join(", "))
    }

    /// A type in WIT notation.
    fn of(&self, of: &Type) -> String {
        let Type::Id(id) = of else { return format!("{of:?}").to_lowercase() };
        let definition = &self.resolve.types[*id];
        if let Some(name) = &definition.name {
            return name.clone();
        }
        let optional = |of: &Option<Type>| of.as_ref().map_or("_".to_owned(), |of| self.of(of));
        match &definition.kind {
            TypeDefKind::List(of) => format!("list<{}>", self.of(of)),
            TypeDefKind::Option(of) => format!("option<{}>", self.of(of)),
            TypeDefKind::Result(result) => match (&result.ok, &result.err) {
                (None, None) => "result".to_owned(),
                (ok, None) => format!("result<{}>", optional(ok)),
                (ok, err) => format!("result<{}, {}>", optional(ok), optional(err)),
            },
            TypeDefKind::Tuple(tuple) => {
                let parts: Vec<String> = tuple.types.iter().map(|of| self.of(of)).collect();
                format!("tuple<{}>", parts.join(", "))
            }
            TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", self.of(&Type::Id(*id))),
            TypeDefKind::Handle(Handle::Own(id)) => self.of(&Type::Id(*id)),
            other => {
                panic!("the border uses a kind of type that the manual cannot write: {}", other.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_has_its_place() {
        let (resolve, packages) = parse().unwrap();
        for (version, package) in VERSIONS.iter().zip(packages) {
            let mut told: Vec<&str> =
                version.chapters.iter().flat_map(|(_, interfaces)| *interfaces).copied().collect();
            let mut there: Vec<&str> =
                resolve.packages[package].interfaces.keys().map(String::as_str).collect();
            told.sort_unstable();
            there.sort_unstable();
            assert_eq!(told, there);
        }
    }

    #[test]
    fn types_are_written_as_in_wit() {
        let manual = manual().unwrap();
        for part in [
            "#### `authenticate: func(head: request-head, request: borrow<request>) -> decision`",
            "- `header: func(name: string) -> list<list<u8>>` — All values of a header",
            "#### variant `decision`",
            "- `not-mine: list<string>`",
        ] {
            assert!(manual.contains(part), "`{part}` is missing");
        }
    }
}
