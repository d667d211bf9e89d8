//! Interface `facts`: what the views of version 0.1.0 do not show of an exchange.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;
use witgate_exchange::contracts::ResponseHead;
use witgate_exchange::head::{ClientCertificate, TlsSession};

use crate::bindings::draft::witgate::plugin0_2_0::facts::{
    ClientCertificate as Certificate, ResponseOrigin as Origin, TlsSession as Tls,
};
use crate::bindings::name;
use crate::input_tracker::Mark;
use crate::state::HostState;

/// Defines the interface.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut facts = linker.instance(name::FACTS)?;
    facts.func_wrap("tls", |mut store: StoreContextMut<'_, HostState>, (): ()| {
        let state = store.data_mut();
        state.marked(Mark::Facts)?;
        Ok((state.head().and_then(|head| head.client.tls.as_deref()).map(tls),))
    })?;
    facts.func_wrap("certificate", |mut store: StoreContextMut<'_, HostState>, (): ()| {
        let state = store.data_mut();
        state.marked(Mark::Facts)?;
        Ok((state.head().and_then(|head| head.client.certificate.as_deref()).map(certificate),))
    })?;
    facts.func_wrap("origin", |mut store: StoreContextMut<'_, HostState>, (): ()| {
        let state = store.data_mut();
        state.marked(Mark::Facts)?;
        Ok((state.response_head().map(|head| origin(head)),))
    })
}

fn tls(session: &TlsSession) -> Tls {
    Tls {
        version: session.version.to_owned(),
        server_name: session.server_name.as_deref().map(str::to_owned),
        protocol: session.protocol.as_deref().map(str::to_owned),
    }
}

fn certificate(known: &ClientCertificate) -> Certificate {
    let of = |kind: &str| -> Vec<String> {
        known.names.iter().filter_map(|name| name.strip_prefix(kind)).map(str::to_owned).collect()
    };
    let uris = of("uri:");
    // The SPIFFE X.509-SVID standard, section 2: exactly one URI.
    let spiffe_id = match &uris[..] {
        [id] if id.starts_with("spiffe://") => Some(id.clone()),
        _ => None,
    };
    Certificate {
        subject: known.subject.clone(),
        fingerprint: known.fingerprint.clone(),
        dns_names: of("dns:"),
        emails: of("email:"),
        addresses: of("ip:"),
        uris,
        spiffe_id,
    }
}

fn origin(head: &ResponseHead) -> Origin {
    let origin = &head.origin;
    Origin {
        upstream: origin.upstream.as_deref().map(str::to_owned),
        endpoint: origin.endpoint.as_deref().map(str::to_owned),
        attempts: origin.attempts,
        microseconds: origin.time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        local: head.local,
        fault: origin.fault.map(|kind| kind.describe().code.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_sorted_by_kind_and_one_spiffe_uri_is_an_id() {
        let known = |names: &[&str]| ClientCertificate {
            subject: "CN=a".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            fingerprint: "00".into(),
            ..Default::default()
        };
        let shown = certificate(&known(&[
            "dns:a.example",
            "uri:spiffe://td/a",
            "ip:192.0.2.1",
            "email:a@b",
            "dns:b",
        ]));
        assert_eq!(shown.dns_names, ["a.example", "b"]);
        assert_eq!((shown.addresses, shown.emails), (vec!["192.0.2.1".to_owned()], vec!["a@b".to_owned()]));
        assert_eq!(shown.spiffe_id.as_deref(), Some("spiffe://td/a"));
        assert_eq!(certificate(&known(&["uri:spiffe://td/a", "uri:spiffe://td/b"])).spiffe_id, None);
        assert_eq!(certificate(&known(&["uri:https://td/a"])).spiffe_id, None);
    }
}
