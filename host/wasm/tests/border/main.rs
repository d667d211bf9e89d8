//! The plugin border, with real guests compiled from source.

mod contracts;
mod fetch;
mod imports;
mod loading;
mod misbehaving;
mod pools;
mod scene;
