//! The registry of public networks: `networks.txt`, one line each.

use super::client::Client;
use super::reference::Reference;
use super::shipped;
use crate::error::{Result, error};
use std::path::PathBuf;
use std::sync::LazyLock;

/// Short name of the network for general photos, which is used where none is named.
pub const DEFAULT_NETWORK: &str = "voc";

const REGISTRY: &str = include_str!("networks.txt");

/// A public network that this program reads. Unless it is shipped, it is a third party's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownNetwork {
    /// Short name, such as `voc`.
    pub name: Option<&'static str>,
    /// Where the weights are.
    pub source: Source,
    /// Head and backbone.
    pub title: &'static str,
    /// Name of the dialect of the weights.
    pub dialect: &'static str,
    /// Number of classes and the data set that they are of; `None` for a backbone.
    pub classes: Option<&'static str>,
    /// Approximate size of the file, if it is known without asking the source.
    pub size: Option<&'static str>,
    /// License that the source states.
    pub license: &'static str,
    /// What the network is good for.
    pub purpose: &'static str,
}

/// Where the weights of a network are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// On a hub.
    Hub(Reference),
    /// In the repository of this program, trained by the project.
    Shipped {
        /// Path in the repository.
        file: &'static str,
        /// SHA-256 of the file.
        sha256: &'static str,
    },
}

impl KnownNetwork {
    /// Returns what to pass as weights: the short name, else the reference.
    pub fn weights(&self) -> String {
        match (self.name, &self.source) {
            (Some(name), _) => name.to_owned(),
            (None, Source::Hub(reference)) => reference.to_string(),
            (None, Source::Shipped { file, .. }) => (*file).to_owned(),
        }
    }

    /// Returns the path of the weights if they are on this machine: shipped, or in the cache.
    ///
    /// # Errors
    /// As for [`Client::cached`].
    pub fn local(&self, client: &Client) -> Result<Option<PathBuf>> {
        match &self.source {
            Source::Hub(reference) => client.cached(reference),
            Source::Shipped { file, sha256 } => Ok(shipped::find(file, sha256).ok()),
        }
    }

    /// Returns the path of weights that come with this program.
    ///
    /// # Errors
    /// Returns an error that lists where they were looked for, if they are in none of the places;
    /// or an error of kind `Usage` if the network is on a hub.
    pub fn shipped(&self) -> Result<PathBuf> {
        match &self.source {
            Source::Hub(reference) => Err(error!(Usage, "is on a hub").at(reference.to_string())),
            Source::Shipped { file, sha256 } => shipped::find(file, sha256),
        }
    }

    /// Parses a line of the registry.
    fn parse(line: &'static str) -> Option<Self> {
        let mut fields = line.split('|').map(str::trim);
        let mut next = || fields.next().filter(|field| !field.is_empty());
        let optional = |field: &'static str| Some(field).filter(|field| *field != "-");
        let (name, weights) = (next()?, next()?);
        let source = match weights.split_once(' ') {
            Some((file, sha256)) => Source::Shipped { file, sha256: sha256.trim() },
            None => Source::Hub(Reference::parse(weights).ok()?),
        };
        let network = Self {
            name: optional(name),
            source,
            title: next()?,
            dialect: next()?,
            classes: optional(next()?),
            size: optional(next()?),
            license: next()?,
            purpose: next()?,
        };
        next().is_none().then_some(network)
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    REGISTRY.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Returns the public networks that this program reads.
pub fn networks() -> &'static [KnownNetwork] {
    static NETWORKS: LazyLock<Vec<KnownNetwork>> =
        LazyLock::new(|| lines().filter_map(KnownNetwork::parse).collect());
    &NETWORKS
}

/// Returns the network with a short name.
///
/// ```
/// let network = atrous::hub::network("voc").expect("the registry has it");
/// assert_eq!(network.dialect, "huggingface");
/// assert!(atrous::hub::network("no-such-network").is_none());
/// ```
pub fn network(name: &str) -> Option<&'static KnownNetwork> {
    networks().iter().find(|network| network.name == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::dialects;

    #[test]
    fn every_line_of_the_registry_is_a_network_of_a_known_dialect() {
        for line in lines() {
            let network = KnownNetwork::parse(line).unwrap_or_else(|| panic!("{line}"));
            dialects::find(network.dialect).unwrap();
        }
        assert_eq!(networks().len(), lines().count());
        let names: Vec<&str> = networks().iter().filter_map(|network| network.name).collect();
        assert_eq!(names, ["voc", "person", "street"]);
        assert!(network(DEFAULT_NETWORK).is_some());
    }

    #[test]
    fn a_line_that_lacks_a_field_is_none() {
        let [short, long] =
            ["a | hf:b/c | d | e | f | g | h", "a | hf:b/c | d | e | f | g | h | i | j"];
        for line in ["", "a", short, long] {
            assert_eq!(KnownNetwork::parse(line), None, "{line}");
        }
    }
}
