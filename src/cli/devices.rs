//! `atrous devices`.

use super::console::{print, print_json};
use super::format::{mib, table};
use crate::error::Result;
use crate::gpu::{AdapterSummary, adapters, backend_override};
use crate::graph::kernel::SubgroupSizes;
use crate::text;

/// List devices and their limits, and show the default
///
/// The asterisk marks the device that `--device auto` uses.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    adapters: Vec<AdapterSummary>,
    /// Index of the adapter that `--device auto` selects; null for the CPU executor.
    auto: Option<usize>,
    cpu_threads: usize,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let adapters = adapters();
    let auto = adapters.iter().position(AdapterSummary::is_hardware);
    let report = Report { adapters, auto, cpu_threads: rayon::current_num_threads() };
    if args.json {
        return print_json(&report);
    }
    let mut rows = vec![
        ["", "device", "backend", "kind", "driver", "largest binding", "subgroup", "f16"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mark = |auto: bool, index: &str| format!("{} {index}", if auto { "*" } else { " " });
    for a in &report.adapters {
        let subgroup = a.caps.subgroup.map_or("-".to_owned(), |SubgroupSizes { min, max }| {
            if min == max { min.to_string() } else { format!("{min}-{max}") }
        });
        rows.push(vec![
            mark(report.auto == Some(a.index), &a.index.to_string()),
            a.name.clone(),
            a.backend.clone(),
            a.kind.clone(),
            a.driver.clone(),
            mib(a.caps.max_binding),
            subgroup,
            if a.caps.f16 { "yes" } else { "no" }.to_owned(),
        ]);
    }
    rows.push(vec![
        mark(report.auto.is_none(), "cpu"),
        "CPU executor".to_owned(),
        "-".to_owned(),
        "CPU".to_owned(),
        text::count(report.cpu_threads, "thread"),
    ]);
    let why = match (report.auto, report.adapters.is_empty()) {
        (Some(i), _) => format!("* default (`--device auto`): {i}, the first hardware adapter"),
        (None, true) if let Some(limit) = backend_override() => {
            format!("* default (`--device auto`): the CPU, because {limit} hides all adapters; unset it to list them")
        }
        (None, true) => {
            "* default (`--device auto`): the CPU, because no GPU was found (is a Vulkan driver installed?)".to_owned()
        }
        (None, false) => {
            "* default (`--device auto`): the CPU, because the adapters above are software and slower; select one by its index"
                .to_owned()
        }
    };
    print(&format!("{}{why}\n", table(&rows, &[5, 6])))
}
