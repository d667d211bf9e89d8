//! A JSON Schema, prepared: every part of it that is a schema is a node, and references are numbers of nodes.
//!
//! The assertions of the drafts 6 to 2020-12 and those of OpenAPI 3.0. What asserts and is not known here is refused rather than
//! ignored: a schema that is not applied as a whole would let pass what it forbids.

use std::collections::{BTreeMap, HashMap, HashSet};

use regex_lite::Regex;
use serde_json::{Map, Number, Value};

use crate::value::{canonical, resolve};

/// The number of a node.
pub(crate) type Id = usize;

/// The most nodes of a schema, and the longest regular expression in bytes.
const MOST: (usize, usize) = (20_000, 1_000);

/// All schemas of a document that are used.
#[derive(Default)]
pub(crate) struct Schemas {
    pub(crate) nodes: Vec<Node>,
    known: HashMap<String, Id>,
}

/// One schema.
#[derive(Default)]
pub(crate) struct Node {
    /// `false`: nothing fits.
    pub(crate) never: bool,
    pub(crate) reference: Option<Id>,
    pub(crate) types: Option<Vec<Type>>,
    /// The canonical texts of the values of `enum` or `const`.
    pub(crate) values: Option<HashSet<String>>,
    pub(crate) minimum: Option<(Number, bool)>,
    pub(crate) maximum: Option<(Number, bool)>,
    pub(crate) multiple_of: Option<Number>,
    pub(crate) length: (u64, Option<u64>),
    pub(crate) pattern: Option<Regex>,
    pub(crate) count: (u64, Option<u64>),
    pub(crate) unique: bool,
    pub(crate) first_items: Vec<Id>,
    pub(crate) items: Option<Id>,
    pub(crate) contains: Option<(Id, u64, Option<u64>)>,
    pub(crate) size: (u64, Option<u64>),
    pub(crate) properties: BTreeMap<String, Id>,
    pub(crate) patterns: Vec<(Regex, Id)>,
    pub(crate) others: Option<Id>,
    pub(crate) names: Option<Id>,
    pub(crate) required: Vec<String>,
    pub(crate) dependent_required: Vec<(String, Vec<String>)>,
    pub(crate) dependent_schemas: Vec<(String, Id)>,
    pub(crate) all_of: Vec<Id>,
    pub(crate) any_of: Vec<Id>,
    pub(crate) one_of: Vec<Id>,
    pub(crate) not: Option<Id>,
    pub(crate) condition: Option<(Id, Option<Id>, Option<Id>)>,
}

/// A type of JSON, or whole numbers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Number,
    Integer,
    String,
    Array,
    Object,
}

impl Type {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::Null => "null",
            Type::Boolean => "a boolean",
            Type::Number => "a number",
            Type::Integer => "a whole number",
            Type::String => "a string",
            Type::Array => "a list",
            Type::Object => "an object",
        }
    }

    fn read(name: &str) -> Option<Type> {
        Some(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "number" => Type::Number,
            "integer" => Type::Integer,
            "string" => Type::String,
            "array" => Type::Array,
            "object" => Type::Object,
            _ => return None,
        })
    }
}

/// Keywords that assert something and are not known here.
const UNKNOWN: [&str; 8] = [
    "$dynamicRef",
    "$recursiveRef",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$anchor",
    "$dynamicAnchor",
    "contentSchema",
    "extends",
];

impl Schemas {
    /// Prepares the schema at a place of a document, with everything that it refers to.
    ///
    /// # Errors
    /// It is not a schema, or one that cannot be applied as a whole; the text says where and why.
    pub(crate) fn prepare(&mut self, document: &Value, pointer: &str) -> Result<Id, String> {
        if let Some(id) = self.known.get(pointer) {
            return Ok(*id);
        }
        if self.nodes.len() >= MOST.0 {
            return Err(format!("the document has more than {} schemas", MOST.0));
        }
        let schema = resolve(document, pointer).ok_or_else(|| format!("there is nothing at `{pointer}`"))?;
        // Known before its parts are, which may refer back to it.
        let id = self.nodes.len();
        self.nodes.push(Node::default());
        self.known.insert(pointer.to_owned(), id);
        self.nodes[id] = match schema {
            Value::Bool(anything) => Node { never: !anything, ..Node::default() },
            Value::Object(members) => Reader { schemas: self, document, at: pointer, members }.node()?,
            _ => return Err(format!("`{pointer}` is not a schema: an object, or true or false")),
        };
        Ok(id)
    }
}

/// Reads one schema.
struct Reader<'a> {
    schemas: &'a mut Schemas,
    document: &'a Value,
    at: &'a str,
    members: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn node(mut self) -> Result<Node, String> {
        if let Some(keyword) = UNKNOWN.iter().find(|keyword| self.members.contains_key(**keyword)) {
            return Err(format!("`{}` has `{keyword}`, which this plugin cannot apply", self.at));
        }
        let (minimum, maximum) =
            (self.bound("minimum", "exclusiveMinimum")?, self.bound("maximum", "exclusiveMaximum")?);
        let (first_items, items) = self.items()?;
        Ok(Node {
            never: false,
            reference: self.reference()?,
            types: self.types()?,
            values: self.values()?,
            minimum,
            maximum,
            multiple_of: self.number("multipleOf")?,
            length: (self.size("minLength")?.unwrap_or(0), self.size("maxLength")?),
            pattern: self.members.get("pattern").map(|pattern| self.regex(pattern.as_str())).transpose()?,
            count: (self.size("minItems")?.unwrap_or(0), self.size("maxItems")?),
            unique: self.members.get("uniqueItems") == Some(&Value::Bool(true)),
            first_items,
            items,
            contains: self.contains()?,
            size: (self.size("minProperties")?.unwrap_or(0), self.size("maxProperties")?),
            properties: self.map("properties")?.into_iter().collect(),
            patterns: self.patterns()?,
            others: self.part("additionalProperties")?,
            names: self.part("propertyNames")?,
            required: self.required()?,
            dependent_required: self.dependent_required()?,
            dependent_schemas: self.dependent_schemas()?,
            all_of: self.list("allOf")?,
            any_of: self.list("anyOf")?,
            one_of: self.list("oneOf")?,
            not: self.part("not")?,
            condition: match self.part("if")? {
                Some(condition) => Some((condition, self.part("then")?, self.part("else")?)),
                None => None,
            },
        })
    }

    fn wrong<T>(&self, keyword: &str, expected: &str) -> Result<T, String> {
        Err(format!("`{keyword}` in `{}` is not {expected}", self.at))
    }

    /// The schema under a keyword.
    fn part(&mut self, keyword: &str) -> Result<Option<Id>, String> {
        if !self.members.contains_key(keyword) {
            return Ok(None);
        }
        self.schemas.prepare(self.document, &format!("{}/{}", self.at, escaped(keyword))).map(Some)
    }

    /// The schemas in a list.
    fn list(&mut self, keyword: &str) -> Result<Vec<Id>, String> {
        match self.members.get(keyword) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) if !list.is_empty() => {
                (0..list.len()).map(|index| self.child(&format!("{keyword}/{index}"))).collect()
            }
            Some(_) => self.wrong(keyword, "a list of schemas"),
        }
    }

    /// The schemas in an object, by name.
    fn map(&mut self, keyword: &str) -> Result<Vec<(String, Id)>, String> {
        match self.members.get(keyword) {
            None => Ok(Vec::new()),
            Some(Value::Object(members)) => members
                .keys()
                .map(|name| {
                    Ok((name.clone(), self.child(&format!("{}/{}", escaped(keyword), escaped(name)))?))
                })
                .collect(),
            Some(_) => self.wrong(keyword, "an object with schemas"),
        }
    }

    fn child(&mut self, path: &str) -> Result<Id, String> {
        self.schemas.prepare(self.document, &format!("{}/{path}", self.at))
    }

    fn reference(&mut self) -> Result<Option<Id>, String> {
        let pointer = match self.members.get("$ref") {
            None => return Ok(None),
            Some(Value::String(reference)) => reference.strip_prefix('#').map(decoded),
            Some(_) => return self.wrong("$ref", "text"),
        };
        let pointer = pointer.filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let Some(pointer) = pointer else {
            return self.wrong("$ref", "a place in the same document, e.g. `#/$defs/name`");
        };
        self.schemas.prepare(self.document, &pointer).map(Some)
    }

    fn types(&self) -> Result<Option<Vec<Type>>, String> {
        let names: Vec<&str> = match self.members.get("type") {
            None => return Ok(None),
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(_) => Vec::new(),
        };
        let types: Option<Vec<Type>> = names.into_iter().map(Type::read).collect();
        let Some(mut types) = types.filter(|types| !types.is_empty()) else {
            return self.wrong("type", "a type of JSON, or a list of them");
        };
        // OpenAPI 3.0.
        if self.members.get("nullable") == Some(&Value::Bool(true)) {
            types.push(Type::Null);
        }
        Ok(Some(types))
    }

    fn values(&self) -> Result<Option<HashSet<String>>, String> {
        let of_enum = match self.members.get("enum") {
            None => None,
            Some(Value::Array(values)) => Some(values.iter().map(canonical).collect::<HashSet<_>>()),
            Some(_) => return self.wrong("enum", "a list"),
        };
        let constant = self.members.get("const").map(canonical);
        Ok(match (of_enum, constant) {
            (Some(values), Some(constant)) => {
                Some(values.into_iter().filter(|value| *value == constant).collect())
            }
            (None, Some(constant)) => Some(HashSet::from([constant])),
            (values, None) => values,
        })
    }

    fn number(&self, keyword: &str) -> Result<Option<Number>, String> {
        match self.members.get(keyword) {
            None => Ok(None),
            Some(Value::Number(number)) if keyword != "multipleOf" || number.as_f64() > Some(0.0) => {
                Ok(Some(number.clone()))
            }
            Some(_) => self.wrong(keyword, "a number that it can be"),
        }
    }

    /// A bound, and whether it is itself excluded: a number of its own or, in draft 4 and OpenAPI 3.0, a word beside it.
    fn bound(&self, keyword: &str, exclusive: &str) -> Result<Option<(Number, bool)>, String> {
        let included = self.number(keyword)?;
        if let Some(Value::Bool(excluded)) = self.members.get(exclusive) {
            return Ok(included.map(|number| (number, *excluded)));
        }
        let excluded = self.number(exclusive)?;
        Ok(match (included, excluded) {
            (Some(_), Some(_)) => return self.wrong(exclusive, "alone: write it or the bound that includes"),
            (None, Some(number)) => Some((number, true)),
            (included, None) => included.map(|number| (number, false)),
        })
    }

    fn size(&self, keyword: &str) -> Result<Option<u64>, String> {
        match self.members.get(keyword) {
            None => Ok(None),
            Some(value) => match whole(value) {
                Some(size) => Ok(Some(size)),
                None => self.wrong(keyword, "a whole number"),
            },
        }
    }

    fn regex(&self, pattern: Option<&str>) -> Result<Regex, String> {
        let Some(pattern) = pattern.filter(|pattern| pattern.len() <= MOST.1) else {
            return self.wrong("pattern", "a regular expression of at most 1000 bytes");
        };
        Regex::new(pattern).map_err(|error| {
            format!("the regular expression `{pattern}` in `{}` cannot be applied: {error}", self.at)
        })
    }

    fn patterns(&mut self) -> Result<Vec<(Regex, Id)>, String> {
        let parts = self.map("patternProperties")?;
        parts.into_iter().map(|(pattern, id)| Ok((self.regex(Some(&pattern))?, id))).collect()
    }

    /// The schemas of the first items, and that of the others: `prefixItems` and `items`, before 2020-12 `items` and
    /// `additionalItems`.
    fn items(&mut self) -> Result<(Vec<Id>, Option<Id>), String> {
        if matches!(self.members.get("items"), Some(Value::Array(_))) {
            return Ok((self.list("items")?, self.part("additionalItems")?));
        }
        Ok((self.list("prefixItems")?, self.part("items")?))
    }

    fn contains(&mut self) -> Result<Option<(Id, u64, Option<u64>)>, String> {
        let Some(id) = self.part("contains")? else { return Ok(None) };
        Ok(Some((id, self.size("minContains")?.unwrap_or(1), self.size("maxContains")?)))
    }

    fn required(&self) -> Result<Vec<String>, String> {
        match self.members.get("required") {
            // Draft 3 and some documents of OpenAPI say it beside a property, where it asserts nothing any more.
            None | Some(Value::Bool(_)) => Ok(Vec::new()),
            Some(value) => self.texts("required", value),
        }
    }

    fn texts(&self, keyword: &str, value: &Value) -> Result<Vec<String>, String> {
        let texts =
            value.as_array().map(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        match texts {
            Some(Some(texts)) => Ok(texts),
            _ => self.wrong(keyword, "a list of names"),
        }
    }

    fn dependent_required(&self) -> Result<Vec<(String, Vec<String>)>, String> {
        let mut all = Vec::new();
        for keyword in ["dependentRequired", "dependencies"] {
            let members = self.members.get(keyword).and_then(Value::as_object).into_iter().flatten();
            for (name, names) in members.filter(|(_, names)| names.is_array()) {
                all.push((name.clone(), self.texts(keyword, names)?));
            }
        }
        Ok(all)
    }

    fn dependent_schemas(&mut self) -> Result<Vec<(String, Id)>, String> {
        let mut all = self.map("dependentSchemas")?;
        if let Some(Value::Object(members)) = self.members.get("dependencies") {
            for name in members.iter().filter(|(_, part)| !part.is_array()).map(|(name, _)| name) {
                all.push((name.clone(), self.child(&format!("dependencies/{}", escaped(name)))?));
            }
        }
        Ok(all)
    }
}

/// A name in a JSON Pointer (RFC 6901).
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The pointer in a fragment of a URI.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%').and_then(witgate_sdk::encoding::from_hex);
        rest = if digits.is_some() { &after[2..] } else { after };
        bytes.push(digits.map_or(byte, |digits| digits[0]));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn whole(value: &Value) -> Option<u64> {
    let of_float =
        |number: f64| (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64);
    value.as_u64().or_else(|| value.as_f64().and_then(of_float))
}
