//! Which request is a call of which method: the annotations `google.api.http`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, MethodDescriptor, Value,
};
use witgate_config::model::Transcode;

use crate::field;
use crate::template::{Template, Variable};

/// The name of the annotation.
const ANNOTATION: &str = "google.api.http";
/// The most bindings of one method.
const MOST: usize = 64;

/// All bindings.
pub(crate) struct Bindings {
    /// By template, the most specific one first.
    annotated: Vec<Binding>,
    /// By path, `/package.Service/Method`; only unary methods and streams of the server.
    by_name: BTreeMap<String, Binding>,
    /// Whether the methods can be called by their names.
    auto: bool,
}

/// A way to call a method.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    method: Method,
    template: Option<Template>,
    /// The method of gRPC.
    pub(crate) call: MethodDescriptor,
    /// `package.Service/Method`.
    pub(crate) name: Arc<str>,
    pub(crate) body: BodyField,
    /// The field of the answer that is the response's body; `None`: the whole answer.
    pub(crate) response_body: Option<FieldDescriptor>,
}

/// What the body of a request is.
#[derive(Debug, Clone)]
pub(crate) enum BodyField {
    /// There is none.
    Nothing,
    /// The whole message.
    Message,
    /// One field of it.
    Field(FieldDescriptor),
}

/// What was found for a request.
pub(crate) enum Found<'b> {
    /// A call, with the variables of the path.
    Call(&'b Binding, Vec<(&'b Variable, String)>),
    /// Bindings for other methods of HTTP.
    OtherMethods(Vec<&'b str>),
    /// Nothing.
    Nothing,
}

impl Bindings {
    /// The bindings of the methods in a pool.
    ///
    /// # Errors
    /// A service that does not exist, or an annotation that cannot be meant.
    pub(crate) fn of(pool: &DescriptorPool, settings: &Transcode) -> Result<Self, (&'static str, String)> {
        if let Some(unknown) = settings.services.iter().find(|name| pool.get_service_by_name(name).is_none())
        {
            let known: Vec<String> = pool.services().map(|service| service.full_name().to_owned()).collect();
            return Err((
                "services",
                format!("there is no service `{unknown}`; the files have {}", known.join(", ")),
            ));
        }
        let mut bindings = Bindings { annotated: Vec::new(), by_name: BTreeMap::new(), auto: settings.auto };
        for service in pool.services() {
            if !settings.services.is_empty()
                && !settings.services.iter().any(|name| name == service.full_name())
            {
                continue;
            }
            for call in service.methods().filter(|call| !call.is_client_streaming()) {
                let key = if settings.descriptors.is_empty() { "protos" } else { "descriptors" };
                bindings
                    .add(pool, &call)
                    .map_err(|why| (key, format!("the annotation of `{}`: {why}", call.full_name())))?;
            }
        }
        if bindings.annotated.is_empty() && !settings.auto {
            let hint = "no method of these services has an annotation `google.api.http`; `auto = true` binds methods by name";
            return Err(("services", hint.to_owned()));
        }
        bindings.annotated.sort_by_key(|binding| binding.template.as_ref().map(Template::rank));
        Ok(bindings)
    }

    fn add(&mut self, pool: &DescriptorPool, call: &MethodDescriptor) -> Result<(), String> {
        let name: Arc<str> = format!("{}/{}", call.parent_service().full_name(), call.name()).into();
        let by_name = Binding {
            method: Method::POST,
            template: None,
            call: call.clone(),
            name: name.clone(),
            body: BodyField::Message,
            response_body: None,
        };
        self.by_name.insert(format!("/{name}"), by_name.clone());
        let Some(annotation) = pool.get_extension_by_name(ANNOTATION) else { return Ok(()) };
        let options = call.options();
        if !options.has_extension(&annotation) {
            return Ok(());
        }
        let rule = options.get_extension(&annotation);
        let rule = rule.as_message().ok_or("it is no message")?;
        self.annotated.push(by_name.clone().annotated(rule)?);
        let more = rule.get_field_by_name("additional_bindings");
        let more = more.as_deref().and_then(Value::as_list).unwrap_or_default();
        if more.len() > MOST {
            return Err(format!("it has more than {MOST} additional bindings"));
        }
        for rule in more.iter().filter_map(Value::as_message) {
            self.annotated.push(by_name.clone().annotated(rule)?);
        }
        Ok(())
    }

    /// The binding for a request with this method and path.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found<'_> {
        // As everywhere, HEAD is a GET whose body is not sent.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let mut others = Vec::new();
        for binding in &self.annotated {
            let Some(variables) = binding.template.as_ref().and_then(|template| template.matches(path))
            else {
                continue;
            };
            if binding.method == *method {
                return Found::Call(binding, variables);
            }
            others.push(binding.method.as_str());
        }
        match self.by_name.get(path).filter(|_| self.auto) {
            Some(binding) if *method == Method::POST => Found::Call(binding, Vec::new()),
            Some(_) => Found::OtherMethods([others, vec!["POST"]].concat()),
            None if others.is_empty() => Found::Nothing,
            None => Found::OtherMethods(others),
        }
    }

    /// The method with this path, `/package.Service/Method`.
    pub(crate) fn named(&self, path: &str) -> Option<&Binding> {
        self.by_name.get(path)
    }
}

impl Binding {
    /// The binding of a rule.
    fn annotated(mut self, rule: &DynamicMessage) -> Result<Self, String> {
        let text = |message: &DynamicMessage, name: &str| {
            let value = message.get_field_by_name(name);
            value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let verbs = ["get", "put", "post", "delete", "patch"];
        let plain = verbs.into_iter().find(|verb| rule.has_field_by_name(verb));
        let (method, path) = match (plain, rule.get_field_by_name("custom")) {
            (Some(verb), _) => (verb.to_ascii_uppercase(), text(rule, verb)),
            (None, Some(custom)) if rule.has_field_by_name("custom") => {
                let custom = custom.as_message().ok_or("its pattern is no message")?;
                (text(custom, "kind"), text(custom, "path"))
            }
            _ => return Err("it has no pattern".to_owned()),
        };
        self.method =
            Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no method of HTTP"))?;
        let template = Template::read(&path).map_err(|why| format!("the path `{path}`: {why}"))?;
        let input = self.call.input();
        for variable in template.variables() {
            let field =
                field::find(&input, &variable.path).map_err(|why| format!("the path `{path}`: {why}"))?;
            if field.is_list() || field.is_map() {
                return Err(format!(
                    "the path `{path}`: the field `{}` has several values",
                    variable.path.join(".")
                ));
            }
        }
        let named = |message: &MessageDescriptor, name: &str| {
            message
                .get_field_by_name(name)
                .ok_or_else(|| format!("`{}` has no field `{name}`", message.full_name()))
        };
        self.body = match text(rule, "body").as_str() {
            "" => BodyField::Nothing,
            "*" => BodyField::Message,
            name => BodyField::Field(named(&input, name)?),
        };
        self.response_body = match text(rule, "response_body").as_str() {
            "" => None,
            name => Some(named(&self.call.output(), name)?),
        };
        self.template = Some(template);
        Ok(self)
    }

    /// The name of the method that is called, as the path of the call.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }
}
