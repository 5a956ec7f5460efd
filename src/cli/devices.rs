//! `atrous devices`.

use super::args::{mib, print, print_json, table};
use crate::error::Result;
use crate::gpu::{AdapterSummary, adapters, backend_override};

/// Lists the devices of this machine, their limits, and which one is taken by itself
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Writes the list as JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    adapters: Vec<AdapterSummary>,
    /// Index of the adapter that `--device auto` takes; null for the CPU executor.
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
        let subgroup = a.caps.subgroup.map_or("-".to_owned(), |(min, max)| {
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
        "processor".to_owned(),
        format!("{} threads", report.cpu_threads),
    ]);
    let why = match (report.auto, report.adapters.is_empty()) {
        (Some(i), _) => format!("* `--device auto` takes {i}: the first adapter that is hardware."),
        (None, true) if let Some(limit) = backend_override() => {
            format!("* `--device auto` takes the CPU executor: {limit} leaves no adapter; unset it to see them all.")
        }
        (None, true) => {
            "* `--device auto` takes the CPU executor: no GPU adapter was found (is a Vulkan driver installed?).".to_owned()
        }
        (None, false) => {
            "* `--device auto` takes the CPU executor: the adapters run in software, which is slower; name one to use it."
                .to_owned()
        }
    };
    print(&format!("{}{why}\n", table(&rows, &[5, 6])))
}
