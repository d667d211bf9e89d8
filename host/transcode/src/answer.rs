//! The JSON of an answer, of a stream of answers, or of an error.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;
use http_body::{Body as HttpBody, Frame};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, SerializeOptions};
use serde_json::json;
use witgate_config::model::{JsonForm, StreamForm};
use witgate_exchange::body::BodyError;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc::details::{Detail, TYPE_PREFIX, encode_padded};
use witgate_exchange::grpc::message::{CallStatus, Message, MessageReader};
use witgate_exchange::grpc::{BridgedCall, Code};

/// How the answers of a method are written.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    pub(crate) output: MessageDescriptor,
    /// The field that is written in place of the whole message.
    pub(crate) field: Option<FieldDescriptor>,
    pub(crate) form: JsonForm,
}

impl Answers {
    /// The JSON of an answer.
    ///
    /// # Errors
    /// `UpstreamProtocol` if the message is compressed, which was not asked for, or is none of the method's.
    pub(crate) fn json(&self, message: &Message) -> Result<Bytes, Fault> {
        if message.compressed {
            return Err(malformed("a message of the answer is compressed, which was not asked for"));
        }
        let decoded = DynamicMessage::decode(self.output.clone(), message.bytes.clone());
        let decoded =
            decoded.map_err(|_| malformed("a message of the answer is not of the method's type"))?;
        let json = match &self.field {
            Some(field) => self.of_field(&decoded, field)?,
            None => {
                let mut json = BytesMut::with_capacity(2 * message.bytes.len() + 16);
                let mut serializer = serde_json::Serializer::new((&mut json).writer());
                let written =
                    decoded.serialize_with_options(&mut serializer, &self.options(!self.form.defaults));
                written.map_err(unwritable)?;
                json.freeze()
            }
        };
        Ok(json)
    }

    fn of_field(&self, message: &DynamicMessage, field: &FieldDescriptor) -> Result<Bytes, Fault> {
        let mut alone = DynamicMessage::new(self.output.clone());
        if message.has_field(field) {
            alone.set_field(field, message.get_field(field).into_owned());
        }
        // A field that is not set has its default value as the body.
        let whole = alone.serialize_with_options(serde_json::value::Serializer, &self.options(false));
        let whole = whole.map_err(unwritable)?;
        let name = if self.form.proto_names { field.name() } else { field.json_name() };
        let value = whole.get(name).cloned().unwrap_or(serde_json::Value::Null);
        if self.form.defaults {
            return Ok(Bytes::from(value.to_string()));
        }
        // The defaults within the field are left out like everywhere.
        let brief = alone.serialize_with_options(serde_json::value::Serializer, &self.options(true));
        let brief = brief.map_err(unwritable)?.get(name).cloned();
        Ok(Bytes::from(brief.unwrap_or(value).to_string()))
    }

    fn options(&self, skip_defaults: bool) -> SerializeOptions {
        SerializeOptions::new()
            .stringify_64_bit_integers(true)
            .use_enum_numbers(self.form.enum_numbers)
            .use_proto_field_name(self.form.proto_names)
            .skip_default_fields(skip_defaults)
    }

    /// A status as `google.rpc.Status`. Details of types that the files do not declare have their bytes in base64.
    pub(crate) fn error(&self, status: &CallStatus) -> serde_json::Value {
        let pool = self.output.parent_pool();
        let details: Vec<_> = status.details.iter().map(|detail| self.detail(pool, detail)).collect();
        json!({ "code": status.code.number(), "message": status.message, "details": details })
    }

    fn detail(&self, pool: &DescriptorPool, detail: &Detail) -> serde_json::Value {
        let kind = format!("{TYPE_PREFIX}{}", detail.kind);
        let known = pool.get_message_by_name(&detail.kind);
        let decoded = known.and_then(|known| DynamicMessage::decode(known, &detail.value[..]).ok());
        let options = self.options(!self.form.defaults);
        let json = decoded
            .and_then(|message| message.serialize_with_options(serde_json::value::Serializer, &options).ok());
        match json {
            Some(serde_json::Value::Object(mut fields)) => {
                fields.insert("@type".to_owned(), kind.into());
                fields.into()
            }
            Some(value) => json!({ "@type": kind, "value": value }),
            None => json!({ "@type": kind, "value": encode_padded(&detail.value) }),
        }
    }
}

/// The form of a stream for a request that accepts this.
pub(crate) fn stream_form(accept: Option<&HeaderValue>, default: StreamForm) -> StreamForm {
    let accepted = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let accepts =
        |kind: &str| accepted.split(',').any(|one| one.split(';').next().unwrap_or_default().trim() == kind);
    if accepts("text/event-stream") {
        StreamForm::Sse
    } else if accepts("application/x-ndjson") {
        StreamForm::Ndjson
    } else if accepted.trim() == "application/json" {
        StreamForm::Array
    } else {
        default
    }
}

/// The content type of a stream.
pub(crate) fn content_type(form: StreamForm) -> HeaderValue {
    HeaderValue::from_static(match form {
        StreamForm::Ndjson => "application/x-ndjson",
        StreamForm::Sse => "text/event-stream",
        StreamForm::Array => "application/json",
    })
}

/// A stream of answers. Each is passed on as it comes. An error is the last element of the stream, because its head has been
/// sent long before.
pub(crate) struct Stream {
    pub(crate) reader: MessageReader,
    pub(crate) answers: Answers,
    pub(crate) form: StreamForm,
    pub(crate) call: BridgedCall,
    /// The number of answers so far.
    pub(crate) count: u64,
    pub(crate) ended: bool,
    /// The fault with which the stream broke off, once the client was told of it.
    pub(crate) fault: Option<Fault>,
}

impl Stream {
    /// An element with what separates it from others.
    fn element(&mut self, json: &[u8], event: Option<&str>) -> BytesMut {
        let mut out = BytesMut::with_capacity(json.len() + 32);
        match self.form {
            StreamForm::Ndjson => {
                out.extend_from_slice(json);
                out.extend_from_slice(b"\n");
            }
            StreamForm::Sse => {
                if let Some(event) = event {
                    out.extend_from_slice(format!("event: {event}\n").as_bytes());
                }
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(json);
                out.extend_from_slice(b"\n\n");
            }
            StreamForm::Array => {
                out.extend_from_slice(if self.count == 0 { b"[" } else { b"," });
                out.extend_from_slice(json);
            }
        }
        self.count += 1;
        out
    }

    /// The end of the stream with this status.
    fn end(&mut self, status: &CallStatus) -> Bytes {
        self.ended = true;
        self.call.end(status.code);
        let mut out = match status.code {
            Code::OK => BytesMut::new(),
            _ => {
                let error = json!({ "error": self.answers.error(status) }).to_string();
                self.element(error.as_bytes(), Some("error"))
            }
        };
        if self.form == StreamForm::Array {
            out.extend_from_slice(if self.count == 0 { b"[]" } else { b"]" });
        }
        out.freeze()
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(fault) = this.fault.take() {
            return Poll::Ready(Some(Err(Box::new(fault))));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let next = ready!(this.reader.poll_next(context));
        let json = next.and_then(|message| message.map(|message| this.answers.json(&message)).transpose());
        let bytes = match json {
            Ok(Some(json)) => this.element(&json, None).freeze(),
            Ok(None) => {
                let status = this.reader.status();
                this.end(&status)
            }
            // The client is told in the stream, which then breaks off for the record's sake.
            Err(fault) => {
                let status = CallStatus::new(fault.kind.grpc_code(), fault.kind.describe().title);
                this.fault = Some(fault);
                this.end(&status)
            }
        };
        match bytes.is_empty() {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.fault.is_none()
    }
}

fn unwritable(error: serde_json::Error) -> Fault {
    Fault::new(FaultKind::UpstreamProtocol)
        .cause(format!("a message of the answer cannot be written as JSON: {error}"))
}

fn malformed(cause: &'static str) -> Fault {
    Fault::new(FaultKind::UpstreamProtocol).cause(cause)
}
