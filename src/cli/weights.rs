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

/// Replaces a name, `hf:OWNER/NAME` or a short one, by the path of its file. Any other text is a
/// path, and stays. Unless `quiet`, standard error reports what happens.
///
/// # Errors
/// Those of [`Client::fetch`], and weights of this repository that are not on this machine.
pub(super) fn resolve(weights: &mut PathBuf, quiet: bool) -> Result<()> {
    let Some(name) = weights.to_str() else { return Ok(()) };
    if Reference::is_reference(name) {
        *weights = fetch(&Client::from_env()?, &Reference::parse(name)?, quiet)?;
        return Ok(());
    }
    let Some(network) = hub::network(name) else { return Ok(()) };
    // A directory of this name, such as a data set, is no weight file.
    if weights.is_file() {
        let meant = match &network.source {
            Source::Hub(reference) => reference.to_string(),
            Source::Shipped { file, .. } => (*file).to_owned(),
        };
        say(&format!("note: `{name}` is a file here; for the network of that name pass {meant}"));
        return Ok(());
    }
    *weights = known(network, quiet)?;
    Ok(())
}

/// Returns the path of a public network's weights, from the cache if they are there.
fn known(network: &KnownNetwork, quiet: bool) -> Result<PathBuf> {
    let reference = match &network.source {
        Source::Hub(reference) => reference,
        Source::Shipped { .. } => return network.shipped(),
    };
    let client = Client::from_env()?;
    if let Some(path) = client.cached(reference)? {
        return Ok(path);
    }
    if !quiet {
        say(&format!(
            "{}: {}, third-party, license: {}",
            network.weights(),
            address(&client, &network.source),
            network.license
        ));
    }
    fetch(&client, reference, quiet)
}

/// Returns the path of the weights for general photos, after asking whether to download them.
///
/// # Errors
/// Returns an error of kind `Usage` if they are not in the cache and nobody agrees to a download:
/// `yes` does, or whoever sits at the terminal.
pub(super) fn default_network(yes: bool, quiet: bool) -> Result<PathBuf> {
    let network =
        hub::network(DEFAULT_NETWORK).expect("invariant: the registry has the default network");
    let Source::Hub(reference) = &network.source else { return network.shipped() };
    let client = Client::from_env()?;
    if let Some(path) = client.cached(reference)? {
        if !quiet {
            say(&format!("weights: {DEFAULT_NETWORK} ({reference}); others: `atrous models`"));
        }
        return Ok(path);
    }
    if client.settings().offline {
        return Err(without_consent(&client, network, "HF_HUB_OFFLINE is set"));
    }
    let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !yes && !can_ask {
        return Err(without_consent(&client, network, "there is no terminal to ask on"));
    }
    let mut reporter = Reporter::new(quiet);
    let remote = client.describe(reference, &mut |event| reporter.on(&event))?;
    if !quiet || !yes {
        let size = remote.size.map_or_else(|| "of unknown size".to_owned(), format_bytes);
        say(&format!(
            "No --weights, so the network for general photos is used: `{DEFAULT_NETWORK}`, {}.\n  \
             source   {}, third-party\n  file     {}, {size}\n  license  {}\n  cache    {}",
            network.title,
            address(&client, &network.source),
            text::printable(&remote.file),
            network.license,
            text::path(&client.settings().cache)
        ));
    }
    if !yes && !ask("Download it? [y/N] ") {
        return Err(without_consent(&client, network, "the download was declined"));
    }
    fetch(&client, reference, quiet)
}

/// Returns the error about weights that were neither named nor agreed to.
fn without_consent(client: &Client, network: &KnownNetwork, reason: &str) -> Error {
    error!(
        Usage,
        "no --weights, and the network for general photos (`{DEFAULT_NETWORK}`) is not in the \
         cache; {reason}"
    )
    .advice(format!(
        "{} it from {} (license: {}); or pass --weights with a file, hf:OWNER/NAME, or a network \
         that `atrous models` lists",
        if client.settings().offline {
            "unset the variable to download"
        } else {
            "add --yes to download"
        },
        address(client, &network.source),
        network.license
    ))
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
    fn a_path_stays_a_path() {
        let mut path = PathBuf::from("some/dir/deeplab.safetensors");
        resolve(&mut path, true).unwrap();
        assert_eq!(path, PathBuf::from("some/dir/deeplab.safetensors"));
    }
}
