//! Mock of the interface `facts`: what a test says.

use super::gateway::with_state;
use crate::bindings::additions::witgate::plugin0_2_0::facts::{
    ClientCertificate, ResponseOrigin, TlsSession,
};

#[derive(Default)]
pub(super) struct Facts {
    pub(super) tls: Option<TlsSession>,
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) origin: Option<ResponseOrigin>,
}

pub(crate) fn tls() -> Option<TlsSession> {
    with_state(|state| state.facts.tls.clone())
}

pub(crate) fn certificate() -> Option<ClientCertificate> {
    with_state(|state| state.facts.certificate.clone())
}

pub(crate) fn origin() -> Option<ResponseOrigin> {
    with_state(|state| state.facts.origin.clone())
}
