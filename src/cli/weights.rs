//! Weights by name: where the argument of a command becomes the path of a file.

use super::console::{byte_progress, say};
use crate::error::{Error, Result, error};
use crate::hub::{self, Client, DEFAULT_NETWORK, Event, KnownNetwork, Reference, Source};
use crate::text;
use crate::weights::format_bytes;
use indicatif::ProgressBar;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Size in bytes from which on a download is announced.
const WORTH_A_LINE: u64 = 64 << 10;

/// What to do where nobody has agreed to a download.
const ADD_YES: &str = "add --yes to download";

/// How weights are obtained by name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Consent {
    /// Whether a download needs no question: `--yes`.
    pub yes: bool,
    /// Whether standard error reports nothing but questions and warnings.
    pub quiet: bool,
}

impl Consent {
    /// Whether there is somebody to ask.
    fn can_ask(self) -> bool {
        !self.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }
}

/// Replaces a name, `hf:OWNER/NAME` or a short one, by the path of its file. Any other text is a
/// path, and stays. Returns the network that a short name means.
///
/// # Errors
/// Those of [`Client::fetch`], weights of this repository that are not on this machine, a download
/// that was declined, and what can only be a mistyped name.
pub(super) fn resolve(
    weights: &mut PathBuf,
    consent: Consent,
) -> Result<Option<&'static KnownNetwork>> {
    let Some(name) = weights.to_str() else { return Ok(None) };
    if Reference::is_reference(name) {
        *weights = fetch(&Client::from_env()?, &Reference::parse(name)?, consent.quiet)?;
        return Ok(None);
    }
    let Some(network) = hub::network(name) else { return refuse_mistyped(name).map(|()| None) };
    // A directory of this name, such as a data set, is no weight file.
    if weights.is_file() {
        let meant = match &network.source {
            Source::Hub(reference) => reference.to_string(),
            Source::Shipped { file, .. } => (*file).to_owned(),
        };
        say(&format!("note: `{name}` is a file here; for the network of that name pass {meant}"));
        return Ok(None);
    }
    *weights = known(network, false, consent)?;
    Ok(Some(network))
}

/// Returns the network for general photos and the path of its weights, after asking whether to
/// download them.
///
/// # Errors
/// Returns an error of kind `Usage` if they are not in the cache and cannot be downloaded, or nobody
/// agrees to it: `--yes` does, or whoever sits at the terminal.
pub(super) fn default_network(consent: Consent) -> Result<(PathBuf, &'static KnownNetwork)> {
    let network =
        hub::network(DEFAULT_NETWORK).expect("invariant: the registry has the default network");
    Ok((known(network, true, consent)?, network))
}

/// Returns the path of a public network's weights, from the cache if they are there. Whoever names
/// a network (it is not the default) agrees to its download where nobody can be asked.
fn known(network: &'static KnownNetwork, is_default: bool, consent: Consent) -> Result<PathBuf> {
    let reference = match &network.source {
        Source::Hub(reference) => reference,
        Source::Shipped { .. } => {
            let path = network.shipped()?;
            announce(network, is_default, consent);
            return Ok(path);
        }
    };
    let client = Client::from_env()?;
    if let Some(path) = client.cached(reference)? {
        announce(network, is_default, consent);
        return Ok(path);
    }
    let missing = Missing { client: &client, network, is_default };
    if client.settings().offline {
        return Err(missing.error("HF_HUB_OFFLINE is set", Some("unset the variable to download")));
    }
    if is_default && !consent.yes && !consent.can_ask() {
        return Err(missing.error("there is no terminal to ask on", Some(ADD_YES)));
    }
    let shows = !consent.quiet || consent.can_ask();
    if shows {
        say(&missing.introduction());
    }
    let mut reporter = Reporter::new(consent.quiet);
    let remote = client.describe(reference, &mut |event| reporter.on(&event));
    let remote = remote.map_err(|e| missing.error("it could not be downloaded", None).source(e))?;
    if shows {
        let size = remote.size.map_or_else(|| "of unknown size".to_owned(), format_bytes);
        say(&format!("  file     {}, {size}", text::printable(&remote.file)));
    }
    if consent.can_ask() && !ask("Download it? [y/N] ") {
        return Err(missing.error("the download was declined", Some(ADD_YES)));
    }
    fetch(&client, reference, consent.quiet)
}

/// Reports which network is used, and its license, which no weight file of these states.
fn announce(network: &KnownNetwork, is_default: bool, consent: Consent) {
    if !consent.quiet {
        let source = match &network.source {
            Source::Hub(reference) => reference.to_string(),
            Source::Shipped { file, .. } => (*file).to_owned(),
        };
        let others = if is_default { "; others: `atrous models`" } else { "" };
        let (name, license) = (network.weights(), network.license);
        say(&format!("weights: {name} ({source}), license: {license}{others}"));
    }
}

/// A public network that is not in the cache.
struct Missing<'m> {
    client: &'m Client,
    network: &'m KnownNetwork,
    is_default: bool,
}

impl Missing<'_> {
    /// Returns what is known about the network without asking its source.
    fn introduction(&self) -> String {
        let Self { client, network, is_default } = self;
        let (name, title) = (network.weights(), network.title);
        let first = if *is_default {
            format!("No --weights, so the network for general photos is used: `{name}`, {title}")
        } else {
            format!("`{name}` is not in the cache: {title}")
        };
        let size =
            network.size.map_or_else(String::new, |size| format!("\n  size     about {size}"));
        format!(
            "{first}\n  source   {}, third-party{size}\n  license  {}\n  cache    {}",
            address(client, &network.source),
            network.license,
            text::path(&client.settings().cache)
        )
    }

    /// Returns the error about weights that are not here, with everything that can be done instead.
    /// `remedy` precedes the address, if they can be downloaded.
    fn error(&self, reason: &str, remedy: Option<&str>) -> Error {
        let (name, address) = (self.network.weights(), address(self.client, &self.network.source));
        let error = if self.is_default {
            error!(
                Usage,
                "no --weights, and the network for general photos (`{name}`) is not in the cache; \
                 {reason}"
            )
        } else {
            error!(Io, "the network `{name}` is not in the cache; {reason}")
        };
        let download = match remedy {
            Some(remedy) => {
                format!("{remedy} it from {address} (license: {}); or ", self.network.license)
            }
            None => String::new(),
        };
        let shipped = hub::networks().iter().find(|network| network.shipped().is_ok());
        let shipped = shipped.map_or_else(String::new, |network| {
            let purpose = network.purpose.split(';').next().unwrap_or_default();
            let (name, license) = (network.weights(), network.license);
            format!("`{name}`, which is on this machine ({purpose}; license: {license}), ")
        });
        // Commands have other options for weights.
        let pass = if self.is_default { "pass --weights with" } else { "name" };
        error.advice(format!(
            "{download}{pass} {shipped}a file, hf:OWNER/NAME, or a network that `atrous models` lists"
        ))
    }
}

/// Refuses a name that can be neither a file nor a network: the error about a missing file would
/// not mention the names.
fn refuse_mistyped(name: &str) -> Result<()> {
    let is_plain = !name.is_empty() && !name.contains(['/', '\\', '.', ':']);
    // TensorFlow's checkpoints are named without the extension of their files.
    if !is_plain || Path::new(name).exists() || Path::new(&format!("{name}.index")).exists() {
        return Ok(());
    }
    let names: Vec<&str> = hub::networks().iter().filter_map(|network| network.name).collect();
    let nearest = names.iter().map(|known| (distance(&name.to_lowercase(), known), known)).min();
    let nearest = nearest.filter(|(edits, known)| 2 * edits < known.len());
    let meant = nearest.map_or_else(String::new, |(_, known)| format!("did you mean `{known}`? "));
    Err(error!(Usage, "`{name}` is neither a file nor the short name of a network").advice(
        format!("{meant}the short names are {}; `atrous models` describes them", names.join(", ")),
    ))
}

/// Returns the number of characters to insert, delete or replace to get from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

/// Asks a question on the terminal. Anything but yes is no.
fn ask(question: &str) -> bool {
    use std::io::Write;
    let mut answer = String::new();
    let mut err = anstream::stderr();
    let asked = err.write_all(question.as_bytes()).and_then(|()| err.flush());
    asked.is_ok() && std::io::stdin().read_line(&mut answer).is_ok() && is_yes(&answer)
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes))
}

/// Returns where weights come from, which is also where people find out more about them.
pub(super) fn address(client: &Client, source: &Source) -> String {
    match source {
        Source::Hub(reference) => {
            format!("{}/{}", client.settings().endpoint, reference.repository())
        }
        Source::Shipped { file, .. } => format!("{file} in this program's repository"),
    }
}

/// Fetches a file, and reports on it.
fn fetch(client: &Client, reference: &Reference, quiet: bool) -> Result<PathBuf> {
    let mut reporter = Reporter::new(quiet);
    client.fetch(reference, &mut |event| reporter.on(&event))
}

/// Shows the events of a client: a progress bar on a terminal, else lines.
struct Reporter {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Reporter {
    fn new(quiet: bool) -> Self {
        Self { quiet, bar: None }
    }

    fn on(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { file, source, resumed, size } => {
                self.started(file, source, *resumed, *size);
            }
            Event::Advanced { bytes } => {
                self.bar.iter().for_each(|bar| bar.set_position(*bytes));
            }
            Event::Finished { path } => self.finished(path),
            Event::Waiting { file, lock } => self.say(&format!(
                "waiting for another process that downloads {} (lock: {})",
                text::printable(file),
                text::path(lock)
            )),
            Event::Retrying { reason, pause } => self.say(&format!(
                "{}; trying again in {:.0} s",
                text::printable(reason),
                pause.as_secs_f64().ceil()
            )),
            // A warning, which `--quiet` does not suppress: the file may be outdated.
            Event::Offline { reason, path } => log::warn!(
                "{reason}; using the cached {}, of which there may be a newer version",
                text::path(path)
            ),
        }
    }

    fn started(&mut self, file: &str, source: &str, resumed: u64, size: Option<u64>) {
        let size_text = size.map_or_else(|| "size unknown".to_owned(), format_bytes);
        let resumed_text = match resumed {
            0 => String::new(),
            bytes => format!(", resumed after {}", format_bytes(bytes)),
        };
        // The small files beside the weights are not worth a line each.
        if size.is_none_or(|size| size >= WORTH_A_LINE) {
            let file = text::printable(file);
            self.say(&format!("downloading {file} ({size_text}{resumed_text}) from {source}"));
        }
        let bar = byte_progress(size, self.quiet);
        bar.set_position(resumed);
        bar.reset_eta();
        self.bar = Some(bar);
    }

    fn finished(&mut self, path: &Path) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        log::info!("in the cache: {}", text::path(path));
    }

    fn say(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // After a failure the bar would stay between the lines.
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_consent() {
        assert!(["y\n", "Y", "yes\r\n", " Yes "].iter().all(|a| is_yes(a)));
        assert!(["", "\n", "n", "no", "yep", "y y"].iter().all(|a| !is_yes(a)));
    }

    #[test]
    fn a_distance_is_the_number_of_edits() {
        for (from, to, edits) in [("", "voc", 3), ("stret", "street", 1), ("street", "street", 0)] {
            assert_eq!((distance(from, to), distance(to, from)), (edits, edits), "{from}");
        }
        assert_eq!(distance("preson", "person"), 2);
    }

    #[test]
    fn a_path_stays_a_path() {
        let mut path = PathBuf::from("some/dir/deeplab.safetensors");
        let network = resolve(&mut path, Consent { yes: false, quiet: true }).unwrap();
        assert!(network.is_none());
        assert_eq!(path, PathBuf::from("some/dir/deeplab.safetensors"));
    }
}
