//! The reference manual of the plugin border, `wit/REFERENCE.md`, is generated from the WIT by this test.
//!
//! It fails while the file in the repository is not what the WIT says. `WITGATE_WRITE_REFERENCE=1 cargo test -p witgate
//! --test reference` writes it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use wit_parser::{
    Docs, Function, FunctionKind, Handle, InterfaceId, Resolve, Type, TypeDef, TypeDefKind, TypeId, World,
    WorldItem,
};

/// What the border is made of, in the order in which a reader wants it.
const CHAPTERS: [(&str, &[&str]); 4] = [
    ("The contracts", &["authentication", "rate-limiting", "routing", "transformation"]),
    ("Setting up", &["lifecycle"]),
    ("What a plugin may import", &["log", "metrics", "store", "fetch", "crypto"]),
    ("Shared types", &["types"]),
];

#[test]
fn the_reference_manual_says_what_the_wit_says() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut manual = String::from(
        "# Reference of the plugin border\n\n\
         Generated from the WIT files by `WITGATE_WRITE_REFERENCE=1 cargo test -p witgate --test reference`; \
         do not edit.\n",
    );
    for folder in versions(&wit) {
        let mut resolve = Resolve::default();
        let (package, _) =
            resolve.push_dir(&folder).unwrap_or_else(|error| panic!("{}: {error:#}", folder.display()));
        Manual { resolve: &resolve, text: &mut manual }.package(package);
    }
    let place = wit.join("REFERENCE.md");
    if std::env::var_os("WITGATE_WRITE_REFERENCE").is_some() {
        std::fs::write(&place, &manual).expect("the manual can be written");
    }
    let committed = std::fs::read_to_string(&place).unwrap_or_default();
    assert!(
        committed == manual,
        "wit/REFERENCE.md is out of date: run WITGATE_WRITE_REFERENCE=1 cargo test -p witgate --test reference"
    );
}

/// Every published version has a folder of its own.
fn versions(wit: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(wit).expect("the WIT folder").map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

struct Manual<'a> {
    resolve: &'a Resolve,
    text: &'a mut String,
}

impl Manual<'_> {
    fn package(&mut self, id: wit_parser::PackageId) {
        let package = &self.resolve.packages[id];
        let _ = write!(self.text, "\n# `{}`\n", package.name);
        self.docs(&package.docs);
        let mut told = 0;
        for (title, interfaces) in CHAPTERS {
            let _ = write!(self.text, "\n## {title}\n");
            for name in interfaces {
                let id = package.interfaces.get(*name).unwrap_or_else(|| panic!("no interface `{name}`"));
                self.interface(name, *id);
                told += 1;
            }
        }
        assert_eq!(told, package.interfaces.len(), "an interface has no place in CHAPTERS");
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
            let _ = write!(self.text, "Exports {exports}.\n");
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

    /// A type as it is written in WIT.
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
