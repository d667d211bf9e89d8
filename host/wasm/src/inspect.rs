//! Inspection of a component without compiling it.

use std::fmt::{self, Write};

use wasmparser::{BinaryReaderError, Parser, Payload, Validator};
use witgate_exchange::contracts::Contracts;
use witgate_exchange::credentials::Border;

use crate::bindings::name;
use crate::imports::wasi;
use crate::refusal::{Reason, Refusal, problem};

/// What the name of every interface of the border begins with.
const PACKAGE: &str = "witgate:plugin/";

/// What was found in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// Size of the file in bytes.
    pub size: usize,
    /// The contracts it exports.
    pub contracts: Contracts,
    /// Names of all interfaces it imports, sorted.
    pub imports: Vec<String>,
    /// Names of all interfaces it exports, sorted.
    pub exports: Vec<String>,
    /// The JSON Schema of its settings; `None` unless it was requested, see
    /// [`Runtime::inspect`](crate::Runtime::inspect).
    pub settings_schema: Option<serde_json::Value>,
}

impl Inspection {
    /// Whether a binding must grant upstreams to `fetch`.
    pub fn needs_fetch(&self) -> bool {
        self.imports.iter().any(|import| import == name::FETCH)
    }

    /// Whether a binding must grant spaces of the store.
    pub fn needs_store(&self) -> bool {
        self.imports.iter().any(|import| import == name::STORE || import == name::STORE_ADDITIONS)
    }

    /// Whether a binding must grant data files.
    pub fn needs_data(&self) -> bool {
        self.imports.iter().any(|import| import == name::DATA)
    }

    /// Whether a binding must grant notes.
    pub fn needs_notes(&self) -> bool {
        self.imports.iter().any(|import| import == name::NOTES)
    }

    /// Whether it may say after a request what its draws have cost.
    pub(crate) fn settles(&self) -> bool {
        self.contracts.rate_limiting && self.imports.iter().any(|import| import == name::SETTLEMENT)
    }

    /// Whether its calls may wait until a password is verified.
    pub(crate) fn verifies_passwords(&self) -> bool {
        self.imports.iter().any(|import| import == name::PASSWORD)
    }

    /// Whether a binding may grant upstreams to route to.
    pub fn may_route(&self) -> bool {
        self.contracts.routing || self.contracts.routing_by_body
    }

    /// The version of the border that it is made for.
    pub fn border(&self) -> Border {
        if self.drafts().is_empty() { Border::V0_1 } else { Border::V0_2 }
    }

    /// The interfaces of a draft version of the border that it imports or exports, sorted.
    pub fn drafts(&self) -> Vec<&str> {
        let both = self.imports.iter().chain(&self.exports).map(String::as_str);
        let mut drafts: Vec<&str> = both
            .filter(|interface| interface.starts_with(PACKAGE) && interface.ends_with(name::DRAFT))
            .collect();
        drafts.sort_unstable();
        drafts.dedup();
        drafts
    }

    /// The digest as the configuration writes it: lower-case hexadecimal.
    pub fn digest_text(&self) -> String {
        hexadecimal(&self.digest)
    }
}

/// Formats bytes as lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// Lists the exports and imports of a component, and refuses excessive numbers of parts. Reads only its outline,
/// in linear time; the component is validated when it is compiled.
///
/// # Errors
/// The bytes are not a component, are truncated, export no contract of this gateway, or import an interface that
/// plugins may not use.
pub fn look(bytes: &[u8]) -> Result<Inspection, Refusal> {
    check_magic(bytes)?;
    let (mut imports, mut exports) = outline(bytes)?;
    imports.sort();
    exports.sort();
    let inspection = Inspection {
        digest: digest(bytes),
        size: bytes.len(),
        contracts: contracts(&exports),
        imports,
        exports,
        settings_schema: None,
    };
    check_exports(&inspection)?;
    check_imports(&inspection)?;
    Ok(inspection)
}

/// Validates a component. Time and memory are limited only by the limits of the process.
///
/// # Errors
/// Where the component is damaged, and why.
pub(crate) fn check_validity(bytes: &[u8]) -> Result<(), String> {
    Validator::new().validate_all(bytes).map(drop).map_err(|error| at_byte(&error))
}

/// The refusal of a component that is invalid.
pub(crate) fn damaged(reason: &str) -> Refusal {
    Refusal::new(
        Reason::Malformed,
        format!("the component is damaged {reason}"),
        "it may have been copied only in part; build or copy it again",
    )
}

fn at_byte(error: &BinaryReaderError) -> String {
    format!("at byte {}: {}", error.offset(), error.message())
}

/// Computes SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    digest
}

fn check_magic(bytes: &[u8]) -> Result<(), Refusal> {
    let malformed = |message: &str, hint: &str| Err(Refusal::new(Reason::Malformed, message, hint));
    if bytes.is_empty() {
        return malformed("the file is empty", "build or copy it again");
    }
    if Parser::is_component(bytes) {
        return Ok(());
    }
    if Parser::is_core_wasm(bytes) {
        return malformed(
            "the file is a WebAssembly core module, not a component",
            "build it for the target wasm32-wasip2, e.g. with `witgate plugin build`",
        );
    }
    malformed(
        "the file is not WebAssembly",
        "a plugin is a component in binary form, e.g. from `witgate plugin build`",
    )
}

/// Maximum nesting depth of components and modules. Composing two components adds one level.
const NESTING: usize = 32;

/// Maximum number of components and modules in a file. A Python program with its libraries has a few dozen.
const PARTS: usize = 1_000;

/// Maximum number of functions in a file, over all its modules. A Python program has tens of thousands.
const FUNCTIONS: u64 = 500_000;

/// Maximum number of imports, and of exports, of a component.
const NAMES: u32 = 1_000;

/// Names of the imports and exports of the outermost component.
fn outline(bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), Refusal> {
    let broken = |error: BinaryReaderError| damaged(&at_byte(&error));
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let (mut depth, mut parts, mut functions) = (0_usize, 0_usize, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(broken)? {
            Payload::Version { .. } => {
                depth += 1;
                parts += 1;
                at_most("components and modules inside each other", depth, NESTING)?;
                at_most("components and modules", parts, PARTS)?;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::FunctionSection(section) => {
                functions += u64::from(section.count());
                at_most("functions", functions, FUNCTIONS)?;
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                at_most("imports", section.count(), NAMES)?;
                for import in section {
                    imports.push(import.map_err(broken)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                at_most("exports", section.count(), NAMES)?;
                for export in section {
                    exports.push(export.map_err(broken)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    at_most("imports", imports.len(), NAMES as usize)?;
    at_most("exports", exports.len(), NAMES as usize)?;
    Ok((imports, exports))
}

/// Refuses a component that exceeds a maximum.
fn at_most<N: PartialOrd + fmt::Display>(what: &str, found: N, most: N) -> Result<(), Refusal> {
    if found <= most {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::Malformed,
        format!("it has more than {most} {what}"),
        "no plugin needs this many; ask its author",
    ))
}

fn contracts(exports: &[String]) -> Contracts {
    let exported = |contract: &str| exports.iter().any(|export| export == contract);
    Contracts {
        gate: exported(name::GATE),
        authentication: exported(name::AUTHENTICATION),
        authentication_by_body: exported(name::AUTHENTICATION_BY_BODY),
        rate_limiting: exported(name::RATE_LIMITING),
        refusal_by_body: exported(name::REFUSAL_BY_BODY),
        routing: exported(name::ROUTING),
        routing_by_body: exported(name::ROUTING_BY_BODY),
        transformation: exported(name::TRANSFORMATION),
        observe: exported(name::OBSERVE),
        tick: exported(name::TICK),
    }
}

fn check_exports(inspection: &Inspection) -> Result<(), Refusal> {
    if let Some(other) = inspection.exports.iter().find(|export| is_other_version(export)) {
        return Err(Refusal::new(
            Reason::Contract,
            format!("it exports `{other}`, a version of the contracts that this gateway does not know"),
            "this gateway serves witgate:plugin@0.1.0 and the draft 0.2.0; build the plugin for it, or update the gateway",
        ));
    }
    if inspection.contracts == Contracts::default() {
        return Err(Refusal::new(
            Reason::Contract,
            "it exports none of the contracts: gate, authentication, authentication-by-body, rate-limiting, \
             refusal-by-body, routing, routing-by-body, transformation, observe, tick",
            "a plugin is made for one of the worlds of witgate:plugin",
        ));
    }
    if !inspection.exports.iter().any(|export| export == name::LIFECYCLE) {
        return Err(Refusal::new(
            Reason::Contract,
            format!("it does not export `{}`, which every plugin must", name::LIFECYCLE),
            "the SDK exports it by itself; without it, export `settings-schema` and `configure`",
        ));
    }
    Ok(())
}

/// Whether a name belongs to a contract in a version that this gateway does not serve.
fn is_other_version(export: &str) -> bool {
    let served = [
        name::LIFECYCLE,
        name::AUTHENTICATION,
        name::RATE_LIMITING,
        name::ROUTING,
        name::TRANSFORMATION,
        name::TYPES,
        name::GATE,
        name::AUTHENTICATION_BY_BODY,
        name::REFUSAL_BY_BODY,
        name::ROUTING_BY_BODY,
        name::REQUEST_BODY,
        name::OBSERVE,
        name::TICK,
    ];
    export.starts_with(PACKAGE) && !served.contains(&export)
}

fn check_imports(inspection: &Inspection) -> Result<(), Refusal> {
    let problems = inspection.imports.iter().filter(|import| !is_offered(import)).map(|import| {
        problem(format!("it imports `{import}`, which plugins may not use"), instead_of(import))
    });
    Refusal::of(Reason::Import, problems.collect())
}

fn is_offered(import: &str) -> bool {
    let own = [
        name::TYPES,
        name::LOG,
        name::METRICS,
        name::STORE,
        name::FETCH,
        name::CRYPTO,
        name::LIFECYCLE,
        name::REQUEST_BODY,
        name::DATA,
        name::PASSWORD,
        name::CRYPTO_ADDITIONS,
        name::STORE_ADDITIONS,
        name::CALENDAR,
        name::NOTES,
        name::SPAN,
        name::FACTS,
        name::RESPONSE_BODY,
        name::ENDING,
        name::OBSERVED,
        name::UPSTREAM_HOST,
        name::SETTLEMENT,
    ];
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    own.contains(&import) || (wasi::INTERFACES.contains(&interface) && version.starts_with("0.2."))
}

/// What to use instead of an import that is not offered.
fn instead_of(import: &str) -> &'static str {
    let families = [
        ("wasi:filesystem/", "there are no files; pass what the plugin needs in its settings"),
        ("wasi:sockets/", "there are no sockets; use `fetch` and a named upstream"),
        ("wasi:http/", "use `fetch` of witgate:plugin and a named upstream"),
        ("wasi:", "plugins have the clocks, random numbers and standard streams of WASI 0.2, nothing else"),
        (PACKAGE, "this gateway serves witgate:plugin@0.1.0 and the draft 0.2.0"),
    ];
    families
        .iter()
        .find(|(prefix, _)| import.starts_with(prefix))
        .map_or("plugins have the imports of witgate:plugin, nothing else", |(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8]) -> (Reason, String) {
        let refusal = look(bytes).unwrap_err();
        (refusal.reason, refusal.to_string())
    }

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert!(reason(b"").1.contains("empty"));
        assert!(reason(b"#!/bin/sh").1.contains("not WebAssembly"));
        assert!(reason(b"\0asm\x01\0\0\0").1.contains("core module"));
        let (kind, text) = reason(b"\0asm\x0d\0\x01\0");
        assert_eq!(kind, Reason::Contract, "{text}");
        assert_eq!(reason(b"\0asm\x0d\0\x01\0\x07\xff").0, Reason::Malformed);
    }

    #[test]
    fn later_patches_of_wasi_are_offered_and_files_are_not() {
        assert!(is_offered("wasi:cli/stdout@0.2.12"));
        assert!(!is_offered("wasi:cli/stdout@0.3.0"));
        assert!(!is_offered("wasi:filesystem/types@0.2.6"));
        assert!(instead_of("wasi:sockets/tcp@0.2.0").contains("fetch"));
    }
}
