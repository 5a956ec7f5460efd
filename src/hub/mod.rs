//! Weight files by name: from a hub that speaks the protocol of huggingface.co, into the cache that
//! Python's `huggingface_hub` uses, so that each program finds the files of the other.
//!
//! A [`Reference`] names a file (`hf:OWNER/NAME@REVISION/FILE`), a [`Client`] returns its path and
//! downloads it if necessary, and [`networks`] lists public networks that this program reads.
//!
//! ```no_run
//! use atrous::Model;
//! use atrous::hub::{Client, Reference};
//!
//! let reference = Reference::parse("hf:google/deeplabv3_mobilenet_v2_1.0_513")?;
//! let path = Client::from_env()?.fetch(&reference, &mut |_| {})?;
//! let model = Model::open(path)?;
//! # Ok::<(), atrous::Error>(())
//! ```
//!
//! The environment configures the client as it does Python's: `HF_ENDPOINT`, `HF_HOME`,
//! `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_TOKEN`; see [`Settings::from_env`].

mod cache;
mod checksum;
mod client;
mod download;
mod errors;
mod http;
mod known;
mod listing;
mod lock;
mod origin;
mod progress;
mod reference;
mod settings;
mod shipped;

pub use client::{Client, RemoteFile};
pub use known::{DEFAULT_NETWORK, KnownNetwork, Source, network, networks};
pub use progress::{Event, Progress};
pub use reference::Reference;
pub use settings::Settings;
