//! Interface `types`: the borrowed views of request and response.

use std::borrow::Cow;

use http::HeaderMap;
use wasmtime::component::Resource;
use witgate_exchange::credentials::Credentials;

use crate::bindings::witgate::plugin::types::{Header, Host, HostRequest, HostResponseView, Identity};
use crate::bindings::{RequestView, ResponseView};
use crate::input_tracker::Mark;
use crate::state::HostState;

type Answer<T> = wasmtime::Result<T>;

impl Host for HostState {}

impl HostRequest for HostState {
    fn header(&mut self, _view: Resource<RequestView>, name: String) -> Answer<Vec<Vec<u8>>> {
        let hidden = self.rights.credentials.hide_name(&name);
        let values = if hidden {
            self.charge().map(|()| Vec::new())?
        } else {
            values(&self.request()?.headers, &name)
        };
        self.tracker.header(name);
        Ok(values)
    }

    fn headers(&mut self, _view: Resource<RequestView>) -> Answer<Vec<Header>> {
        let head = self.look(Mark::AllHeaders)?.clone();
        Ok(fields(&head.headers, &self.rights.credentials))
    }

    fn method(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::Method)?.method.as_str().to_owned())
    }

    fn path(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::Path)?.path().to_owned())
    }

    fn query(&mut self, _view: Resource<RequestView>) -> Answer<Option<String>> {
        let head = self.look(Mark::Query)?.clone();
        Ok(self.rights.credentials.query(&head).map(Cow::into_owned))
    }

    fn authority(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::Authority)?.authority.as_ref().to_owned())
    }

    fn scheme(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::Scheme)?.scheme.as_str().to_owned())
    }

    fn client_address(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::ClientAddress)?.client.address.to_string())
    }

    fn identity(&mut self, _view: Resource<RequestView>) -> Answer<Option<Identity>> {
        let identity = self.look(Mark::Identity)?.identity.as_ref();
        Ok(identity.map(|known| Identity { subject: known.subject.clone(), claims: known.claims.clone() }))
    }

    fn client_certificate(&mut self, _view: Resource<RequestView>) -> Answer<Vec<(String, String)>> {
        let Some(certificate) = &self.look(Mark::ClientCertificate)?.client.certificate else {
            return Ok(Vec::new());
        };
        let mut fields = vec![("subject".to_owned(), certificate.subject.clone())];
        fields.extend(certificate.names.iter().map(|name| ("san".to_owned(), name.clone())));
        fields.push(("fingerprint".to_owned(), certificate.fingerprint.clone()));
        Ok(fields)
    }

    fn route(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::Route)?.route_name().to_owned())
    }

    fn path_parameter(&mut self, _view: Resource<RequestView>, name: String) -> Answer<Option<String>> {
        let parameters = &self.request()?.parameters;
        let found = parameters.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.clone());
        self.tracker.path_parameter(name);
        Ok(found)
    }

    fn original_path(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::OriginalPath)?.received_target().path().to_owned())
    }

    fn request_id(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::RequestId)?.request_id.as_ref().to_owned())
    }

    fn trace_parent(&mut self, _view: Resource<RequestView>) -> Answer<String> {
        Ok(self.look(Mark::TraceParent)?.traceparent().unwrap_or_default())
    }

    fn trailers(&mut self, _view: Resource<RequestView>) -> Answer<Vec<Header>> {
        let head = self.look(Mark::Trailers)?.clone();
        let credentials = &self.rights.credentials;
        Ok(head.trailers.as_ref().map(|trailers| fields(trailers, credentials)).unwrap_or_default())
    }

    fn drop(&mut self, _view: Resource<RequestView>) -> Answer<()> {
        // A guest only borrows the view, so there is nothing to free.
        Ok(())
    }
}

impl HostResponseView for HostState {
    fn header(&mut self, _view: Resource<ResponseView>, name: String) -> Answer<Vec<Vec<u8>>> {
        self.tracker.mark(Mark::ResponseHeaders);
        if self.rights.credentials.hide_name(&name) {
            return self.charge().map(|()| Vec::new());
        }
        Ok(values(&self.response()?.headers, &name))
    }

    fn headers(&mut self, _view: Resource<ResponseView>) -> Answer<Vec<Header>> {
        self.tracker.mark(Mark::ResponseHeaders);
        let head = self.response()?.clone();
        Ok(fields(&head.headers, &self.rights.credentials))
    }

    fn status(&mut self, _view: Resource<ResponseView>) -> Answer<u16> {
        Ok(self.response()?.status)
    }

    fn is_local(&mut self, _view: Resource<ResponseView>) -> Answer<bool> {
        Ok(self.response()?.local)
    }

    fn trailers(&mut self, _view: Resource<ResponseView>) -> Answer<Vec<Header>> {
        self.tracker.mark(Mark::Trailers);
        let head = self.response()?.clone();
        let credentials = &self.rights.credentials;
        Ok(head.trailers.as_ref().map(|trailers| fields(trailers, credentials)).unwrap_or_default())
    }

    fn drop(&mut self, _view: Resource<ResponseView>) -> Answer<()> {
        Ok(())
    }
}

fn values(headers: &HeaderMap, name: &str) -> Vec<Vec<u8>> {
    headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect()
}

fn fields(headers: &HeaderMap, credentials: &Credentials) -> Vec<Header> {
    credentials
        .visible_among(headers)
        .map(|(name, value)| Header { name: name.as_str().to_owned(), value: value.as_bytes().to_vec() })
        .collect()
}
