//! The misbehaviours, which guests of several contracts share.

use witgate_sdk::{Request, log, settings};

#[settings]
#[derive(Clone, Copy, PartialEq)]
pub enum Deed {
    /// Panics.
    Trap,
    /// Never returns.
    Loop,
    /// Allocates memory until there is none left.
    Memory,
    /// Writes a million log lines.
    LogStorm,
    /// Makes a million host calls that do nothing.
    HostCalls,
    /// Returns a result that exceeds every budget.
    HugeOutput,
    /// Returns a header value with control bytes.
    ControlBytes,
    /// Returns a header that only the gateway may write.
    ForbiddenHeader,
}

impl Deed {
    /// Misbehaves. A misbehaviour that consists of a result is left to the caller.
    pub fn commit(self, request: &Request) {
        match self {
            Deed::Trap => panic!("told to"),
            Deed::Loop => loop {
                std::hint::spin_loop();
            },
            Deed::Memory => {
                let mut taken = Vec::new();
                loop {
                    taken.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Deed::LogStorm => {
                for number in 0..1_000_000 {
                    log::info(&format!("line {number}"));
                }
            }
            Deed::HostCalls => {
                for _ in 0..1_000_000 {
                    std::hint::black_box(request.scheme());
                }
            }
            Deed::HugeOutput | Deed::ControlBytes | Deed::ForbiddenHeader => {}
        }
    }
}

/// A header for misbehaviours that consist of a header.
pub fn header(deed: Option<Deed>) -> Option<(&'static str, Vec<u8>)> {
    match deed? {
        Deed::HugeOutput => Some(("x-huge", vec![b'x'; 8 << 20])),
        Deed::ControlBytes => Some(("x-split", b"a\r\nx-smuggled: 1".to_vec())),
        Deed::ForbiddenHeader => Some(("transfer-encoding", b"chunked".to_vec())),
        _ => None,
    }
}
