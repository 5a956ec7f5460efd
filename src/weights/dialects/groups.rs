//! The choice of the network in a file: the group of tensors below a prefix that fits a dialect.
//!
//! Training programs wrap networks: `module.` (`DataParallel`), `_orig_mod.` (`torch.compile`),
//! `model.` (Lightning), `module.` beside `n_averaged` (`AveragedModel`). A file can have several
//! networks, and tensors that belong to none: metrics, weights of the loss, statistics.
//!
//! Groups are searched from the shortest prefix on, and not inside a group that is a network. So no
//! tensor inside the network's own group is ever left out, except for a further network there,
//! complete with its head.

use super::matching::MatchedTensors;
use super::{ReadOptions, Source, Tensors, averaged, detect, encoders, left_out};
use crate::error::{Error, Result, error};
use crate::models::CONFIG_KEY;
use crate::text::excerpt;
use std::collections::{HashSet, VecDeque};

/// Maximum number of components of a prefix. Real files have up to five; a crafted one can have a
/// thousand dots in each name.
const MAX_COMPONENTS: usize = 8;
/// Minimum number of tensors of a group below a prefix. The smallest networks have more.
const MIN_TENSORS: usize = 16;
/// Maximum number of networks that are compared. Each is built to compare it.
const MAX_NETWORKS: usize = 16;

/// The network to read.
pub(super) struct Chosen {
    /// Prefix of its tensors, with the dot at its end.
    pub prefix: String,
    pub matched: MatchedTensors,
    pub notes: Vec<String>,
}

/// A group of tensors whose names a dialect recognizes.
struct Network {
    prefix: String,
    /// Tensors of the group, by the rest of their names.
    tensors: Tensors,
    /// The match with the dialect's network, or why it does not match.
    matched: Result<MatchedTensors>,
}

impl Network {
    fn has_head(&self) -> bool {
        self.matched.as_ref().is_ok_and(|matched| matched.config.head.is_some())
    }

    /// Returns the prefix as people see it.
    fn shown(&self) -> String {
        shown(&self.prefix)
    }
}

fn shown(prefix: &str) -> String {
    match prefix.strip_suffix('.') {
        Some(name) => format!("`{}`", excerpt(name)),
        None => "the top level".to_owned(),
    }
}

/// Chooses the network to read.
///
/// # Errors
/// Returns an error if no group fits a dialect, or if several do and it is not clear which is
/// meant.
pub(super) fn choose(
    tensors: &Tensors,
    source: &dyn Source,
    options: &ReadOptions,
) -> Result<Chosen> {
    let start = match &options.prefix {
        Some(prefix) => existing_prefix(tensors, prefix)?,
        None => String::new(),
    };
    let mut networks = Vec::new();
    search(tensors, &start, options, true, &mut networks)?;
    if networks.is_empty() {
        let group = tensors.below(&start).with_metadata_of(tensors);
        // Without a match the given dialect explains what is missing.
        let matched = MatchedTensors::new(&group, options)?;
        matched.check(&group)?;
        networks.push(Network { prefix: start, tensors: group, matched: Ok(matched) });
    }
    match pick(tensors, source, &networks)? {
        Some(chosen) => finish(tensors, networks, chosen, options),
        None => Err(mismatch(networks)),
    }
}

/// Returns a prefix with its dot, if the file has tensors below it.
fn existing_prefix(tensors: &Tensors, prefix: &str) -> Result<String> {
    let prefix = format!("{}.", prefix.trim_end_matches('.'));
    if tensors.any(&prefix) {
        return Ok(prefix);
    }
    /// Maximum number of prefixes in the message.
    const MAX_LISTED: usize = 8;
    let components = tensors.components();
    let listed: Vec<String> =
        components.keys().take(MAX_LISTED).map(|name| format!("`{}`", excerpt(name))).collect();
    let more = if components.len() > MAX_LISTED { ", ..." } else { "" };
    Err(error!(Usage, "no tensor is below the prefix `{}`", excerpt(&prefix))
        .advice(format!("names begin with {}{more}", listed.join(", "))))
}

/// Finds the networks below `start`, from the shortest prefix on. `nested` allows one more search
/// among the tensors that a network does not use.
fn search(
    tensors: &Tensors,
    start: &str,
    options: &ReadOptions,
    nested: bool,
    out: &mut Vec<Network>,
) -> Result<()> {
    let mut queue = VecDeque::from([(start.to_owned(), 0)]);
    while let Some((prefix, components)) = queue.pop_front() {
        let group = tensors.below(&prefix);
        let dialect = match options.dialect {
            Some(dialect) => Some(dialect).filter(|dialect| dialect.detect(&group)),
            None => detect(&group),
        };
        if let Some(dialect) = dialect {
            if out.len() == MAX_NETWORKS {
                return Err(error!(Weights, "the file has more than {MAX_NETWORKS} networks")
                    .advice("choose one with `--prefix`"));
            }
            let group = group.with_metadata_of(tensors);
            add(
                tensors,
                prefix,
                group,
                &ReadOptions { dialect: Some(dialect), ..options.clone() },
                nested,
                out,
            )?;
        } else if components < MAX_COMPONENTS {
            let large = group.components().into_iter().filter(|&(_, count)| count >= MIN_TENSORS);
            queue.extend(large.map(|(name, _)| (format!("{prefix}{name}."), components + 1)));
        }
    }
    Ok(())
}

/// Adds the network of a group, and the further networks among the tensors that it does not use.
fn add(
    all: &Tensors,
    prefix: String,
    group: Tensors,
    options: &ReadOptions,
    nested: bool,
    out: &mut Vec<Network>,
) -> Result<()> {
    let matched = match MatchedTensors::new(&group, options) {
        Ok(matched) => matched,
        Err(e) => {
            out.push(Network { prefix, tensors: group, matched: Err(e) });
            return Ok(());
        }
    };
    let unused: HashSet<String> =
        matched.unexpected(&group).into_iter().map(|name| format!("{prefix}{name}")).collect();
    let mut further = Vec::new();
    if nested && unused.len() >= MIN_TENSORS {
        let rest = all.filter(|name| unused.contains(name));
        let components: Vec<String> = rest
            .below(&prefix)
            .components()
            .keys()
            .map(|name| format!("{prefix}{name}."))
            .collect();
        for start in components {
            search(&rest, &start, options, false, &mut further)?;
        }
        // A second encoder beside the network would be part of another architecture.
        further.retain(|network| network.matched.is_ok() && network.has_head());
    }
    let in_further = |name: &str| {
        let name = format!("{prefix}{name}");
        further.iter().any(|network| {
            // With the counter beside `module.`.
            let parent = network.prefix.strip_suffix("module.").filter(|p| p.len() > prefix.len());
            let is_counter = |parent: &str| name.starts_with(parent) && left_out::is_counter(&name);
            name.starts_with(&network.prefix) || parent.is_some_and(is_counter)
        })
    };
    let group = group.filter(|name| !in_further(name));
    let matched = matched.check(&group).map(|()| matched);
    out.push(Network { prefix, tensors: group, matched });
    out.extend(further);
    if out.len() > MAX_NETWORKS {
        return Err(error!(Weights, "the file has more than {MAX_NETWORKS} networks")
            .advice("choose one with `--prefix`"));
    }
    Ok(())
}

/// Returns the index of the network to read: the only complete one, or else the only averaged one
/// among those with a head. `None` if none is complete.
fn pick(tensors: &Tensors, source: &dyn Source, networks: &[Network]) -> Result<Option<usize>> {
    let indices = |keep: &dyn Fn(&Network) -> bool| -> Vec<usize> {
        (0..networks.len()).filter(|&i| keep(&networks[i])).collect()
    };
    let mut complete = indices(&|network| network.matched.is_ok());
    let headed = indices(&|network| network.has_head());
    if !headed.is_empty() {
        complete = headed;
    }
    match complete[..] {
        [] => return Ok(None),
        [single] => return Ok(Some(single)),
        _ => {}
    }
    let averages: Vec<usize> = complete
        .iter()
        .copied()
        .filter(|&i| averaged::is_averaged(tensors, &networks[i].prefix))
        .collect();
    match averages[..] {
        [single] => return Ok(Some(single)),
        [] if are_equal(source, networks, &complete) => return Ok(Some(complete[0])),
        _ => {}
    }
    let listed: Vec<String> = complete.iter().map(|&i| networks[i].shown()).collect();
    let mut prefixes = complete.iter().map(|&i| networks[i].prefix.trim_end_matches('.'));
    let example = excerpt(prefixes.rfind(|prefix| !prefix.is_empty()).unwrap_or_default());
    Err(error!(Weights, "the file has {} networks: {}", complete.len(), listed.join(", "))
        .advice(format!("choose one with `--prefix`, for example `--prefix {example}`")))
}

/// Returns the error of the group with the most tensors, which is most likely the network.
fn mismatch(networks: Vec<Network>) -> Error {
    let largest = networks.into_iter().max_by_key(|network| network.tensors.len());
    let largest = largest.expect("invariant: the search found a network");
    let shown = largest.shown();
    match largest.matched {
        Err(e) if largest.prefix.is_empty() => e,
        Err(e) => e.at(format!("network at {shown}")),
        Ok(_) => error!(Weights, "the file has no network"),
    }
}

/// Returns whether networks have the same weights: a module under two names is stored twice.
fn are_equal(source: &dyn Source, networks: &[Network], indices: &[usize]) -> bool {
    let Some((&first, others)) = indices.split_first() else { return false };
    let Ok(reference) = &networks[first].matched else { return false };
    others.iter().all(|&i| {
        let Ok(other) = &networks[i].matched else { return false };
        other.config == reference.config
            && other.dialect == reference.dialect
            && reference.parameters.iter().all(|p| {
                let read = |i: usize| source.read(&format!("{}{}", networks[i].prefix, p.name));
                read(first).is_ok_and(|a| read(i).is_ok_and(|b| a == b))
            })
    })
}

/// Composes the notes, and refuses a backbone whose head is of no known dialect.
fn finish(
    tensors: &Tensors,
    mut networks: Vec<Network>,
    chosen: usize,
    options: &ReadOptions,
) -> Result<Chosen> {
    let Network { prefix, matched, .. } = networks.swap_remove(chosen);
    let matched = matched?;
    let complete: Vec<&Network> = networks.iter().filter(|n| n.matched.is_ok()).collect();
    let mut notes = Vec::new();
    let start =
        options.prefix.as_ref().map_or(String::new(), |p| format!("{}.", p.trim_end_matches('.')));
    if !networks.is_empty() {
        let average = averaged::is_averaged(tensors, &prefix);
        notes.push(others(&prefix, average, &networks));
    }
    let rest: Vec<&str> = tensors
        .iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(&start) && !name.starts_with(&prefix))
        .filter(|name| !complete.iter().any(|other| name.starts_with(&other.prefix)))
        .collect();
    if options.dialect.is_none() && options.prefix.is_none() && matched.config.head.is_none() {
        check_head(tensors, &prefix, &matched, &rest)?;
    }
    notes.extend(left_out::note(&prefix, &rest));
    if tensors.metadata(CONFIG_KEY).is_none() {
        notes.extend(matched.dialect.doubt(&matched.config).map(str::to_owned));
    }
    Ok(Chosen { prefix, matched, notes })
}

/// Refuses a backbone beside convolutions: they are its head.
fn check_head(
    tensors: &Tensors,
    prefix: &str,
    matched: &MatchedTensors,
    rest: &[&str],
) -> Result<()> {
    let is_kernel = |name: &str| tensors.dims(name).is_some_and(|dims| dims.len() == 4);
    let kernels: Vec<&str> = rest.iter().copied().filter(|name| is_kernel(name)).collect();
    if kernels.is_empty() {
        return Ok(());
    }
    let title = matched.config.backbone.title();
    Err(error!(
        Weights,
        "the head of the network is of no known dialect: {}; only its backbone {title} at {} is",
        left_out::list(prefix, &kernels),
        shown(prefix)
    )
    .advice(format!("`--dialect {}` reads the backbone alone", matched.dialect)))
}

/// Describes the other networks of a file.
fn others(prefix: &str, is_average: bool, networks: &[Network]) -> String {
    let listed: Vec<String> = networks
        .iter()
        .map(|network| match &network.matched {
            Ok(_) => network.shown(),
            Err(_) => format!("{} (incomplete)", network.shown()),
        })
        .collect();
    let kind = if is_average { "the averaged network" } else { "the network" };
    format!(
        "read {kind} at {}; the file also has {}, which `--prefix` chooses",
        shown(prefix),
        listed.join(", ")
    )
}

/// Returns the error for names of no dialect, which names the encoder if it is known.
pub(super) fn unknown(tensors: &Tensors) -> Error {
    let examples: Vec<String> =
        tensors.iter().take(3).map(|(name, _)| format!("`{}`", excerpt(name))).collect();
    let unknown =
        error!(Weights, "tensor names match no known dialect: {}, ...", examples.join(", "));
    match encoders::recognize(tensors) {
        Some(name) => unknown.advice(encoders::looks_like(&name)),
        None => unknown.advice("specify the dialect if you know it"),
    }
}
