//! `atrous models`: public networks that this program reads.

use super::console::{print, print_json};
use super::format::table;
use super::weights::address;
use crate::error::Result;
use crate::files::json_path;
use crate::hub::{Client, DEFAULT_NETWORK, KnownNetwork, Source, networks};
use crate::weights::format_bytes;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  atrous models
  atrous models --online
  atrous segment cat.jpg --weights voc
  atrous segment street.jpg --weights street
  atrous inspect hf:timm/xception65.tf_in1k";

/// List public networks of supported code bases, by name
///
/// Pass the name or the reference in the first column as the weights of any command. Except for
/// `street` the networks are third-party: not part of this program, under the license that their
/// source states, and downloaded from there on first use, into the cache of Python's
/// huggingface_hub. Any other repository works as hf:OWNER/NAME[@REVISION][/FILE] if its network is
/// of a known dialect.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Ask the hub for the sizes of networks that are not in the cache
    #[arg(long)]
    online: bool,

    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Row {
    /// Short name.
    name: Option<&'static str>,
    /// What to pass as weights.
    weights: String,
    source: String,
    third_party: bool,
    network: &'static str,
    dialect: &'static str,
    classes: Option<&'static str>,
    /// `None` if neither the cache nor the hub was asked successfully.
    bytes: Option<u64>,
    license: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    /// Path of the file, if it is on this machine.
    #[serde(serialize_with = "json_path::optional::serialize")]
    path: Option<PathBuf>,
    /// Whether it is used where no weights are named.
    default: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let client = Client::from_env()?;
    let mut asks = args.online;
    if asks && client.settings().offline {
        log::warn!("HF_HUB_OFFLINE is set, so the hub is not asked for sizes");
        asks = false;
    }
    let rows: Vec<Row> =
        networks().iter().map(|network| row(&client, network, &mut asks)).collect();
    if args.json {
        return print_json(&rows);
    }
    let head = ["weights", "network", "classes", "dialect", "size", "license"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let size = row.bytes.map_or_else(|| "-".to_owned(), format_bytes);
        let classes = row.classes.unwrap_or("-").to_owned();
        let (network, dialect) = (row.network.to_owned(), row.dialect.to_owned());
        vec![row.weights.clone(), network, classes, dialect, size, row.license.to_owned()]
    }));
    let columns = table(&lines, &[4]);
    let mut text = String::new();
    for (i, line) in columns.lines().enumerate() {
        text += &format!("{line}\n");
        if let Some(row) = i.checked_sub(1).and_then(|i| rows.get(i)) {
            text += &format!("  {}\n  {}\n", row.purpose, place(row));
        }
    }
    text += "\nAll but `street` are third-party: see the source for terms and quality.";
    if rows.iter().any(|row| row.bytes.is_none()) && !args.online {
        text += " Sizes are those of files on this machine; --online asks the hub for the others.";
    }
    print(&format!("{text}\n"))
}

fn place(row: &Row) -> String {
    let state = if row.path.is_some() { "on this machine" } else { "not downloaded" };
    let default = if row.default { "; used without --weights" } else { "" };
    format!("{} ({state}{default})", row.source)
}

/// Describes a network. `asks` is whether the hub is asked for its size; not again once it is out of
/// reach.
fn row(client: &Client, network: &'static KnownNetwork, asks: &mut bool) -> Row {
    let path = network.local(client).unwrap_or_else(|e| {
        log::warn!("{e}");
        None
    });
    let local = path.as_ref().and_then(|path| path.metadata().ok()).map(|meta| meta.len());
    let mut remote = || match &network.source {
        Source::Hub(reference) if *asks => match client.describe(reference, &mut |_| {}) {
            Ok(remote) => remote.size,
            Err(e) => {
                log::warn!("{e}");
                // Without an address the error is about the hub, the same for all its networks.
                *asks = e.has_address();
                None
            }
        },
        _ => None,
    };
    Row {
        name: network.name,
        weights: network.weights(),
        source: address(client, &network.source),
        third_party: matches!(network.source, Source::Hub(_)),
        network: network.title,
        dialect: network.dialect,
        classes: network.classes,
        bytes: local.or_else(&mut remote),
        license: network.license,
        purpose: network.purpose,
        default: network.name == Some(DEFAULT_NETWORK),
        path,
    }
}
