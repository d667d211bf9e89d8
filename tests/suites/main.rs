//! All suites in one binary, which is linked once and shares the programs that are built.

mod architecture;
mod book;
mod data_path;
mod dependencies;
mod discovery;
mod documents;
mod drain;
mod first_party;
mod framing;
mod hot_swap;
mod leaving;
mod loading;
mod loads;
mod misbehaving;
mod names;
mod observability;
mod pages;
mod real_clients;
mod real_upstreams;
mod remembered;
mod retired;
mod retries;
mod starting;
mod state;
mod tls;
