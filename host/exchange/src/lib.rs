//! The vocabulary and the contracts of one exchange: a request, its body, its faults, its record, and the traits
//! of what decides about it, responds to it or counts it. Nothing in this crate opens a socket or a file. Of the
//! other crates of the host it knows only the configuration.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arrival`] | the way by which a request comes in, and its completion |
//! | [`facts`] | what is known of one request, and what stages have decided about it |
//! | [`head`], [`body`], [`replay`] | the head of a request, bodies as they stream, bodies that are kept to be sent again |
//! | [`path`], [`authority`], [`cookie`], [`maps`] | normalised paths and authorities, cookies, header maps that are used again |
//! | [`identity`], [`composed`] | identities of callers, and values that are composed for each request |
//! | [`fault`] | what can end a request, and what the client is told |
//! | [`grpc`], [`grpc_messages`] | status codes, metadata and messages of gRPC |
//! | [`contracts`], [`destination`] | what plugins, native code, states and destinations implement |
//! | [`record`], [`log_entry`], [`trace`], [`family`], [`per_core`] | what the log, the metrics and the spans say about an exchange |
//! | [`turn`], [`names`] | the clock of a turn of the runtime, tables by name |

#![forbid(unsafe_code)]

pub mod arrival;
pub mod authority;
pub mod body;
pub mod call_cost;
pub mod composed;
pub mod contracts;
pub mod cookie;
mod core_local;
pub mod credentials;
pub mod destination;
pub mod facts;
pub mod family;
pub mod fault;
pub mod grpc;
pub mod grpc_messages;
pub mod head;
pub mod identity;
pub mod informational;
pub mod log_entry;
pub mod maps;
pub mod names;
pub mod notes;
pub mod path;
pub mod per_core;
pub mod record;
pub mod replay;
pub mod settling;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod turn;
