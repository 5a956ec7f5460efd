//! The command line: one file a command. Help, completions and man pages come from the same
//! definitions.

mod args;
mod bench;
mod console;
mod convert;
mod convert_data;
mod data_args;
mod devices;
mod docs;
mod doctor;
mod eval;
mod format;
mod infer;
mod inspect;
mod interrupt;
#[cfg(feature = "hub")]
mod models;
mod onnx;
mod outputs;
mod registries;
mod segment;
mod statements;
mod tensors;
mod threads;
mod train;
mod verify;
#[cfg_attr(not(feature = "hub"), path = "no_hub.rs")]
mod weights;

use self::weights::Consent;
use crate::error::{ErrorKind, Result};
use crate::text::{printable, printable_lines};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  atrous segment cat.jpg
  atrous segment photo.jpg --weights deeplab.safetensors -o out.png
  atrous segment holiday/ --weights deeplab.safetensors -o masks/ --style mask
  atrous segment video.mp4 --weights deeplab.safetensors -o out.mp4
  atrous models
  atrous inspect deeplab.pth
  atrous doctor camvid/
  atrous train --data camvid/ --init deeplab.safetensors -o runs/camvid
  atrous eval --weights runs/camvid/best.safetensors --data camvid/

The program runs on a GPU if there is one, else on the CPU: see `atrous devices`.

Exit codes: 0 success, 1 failure, 2 invalid usage, 128 + N ended by signal N. Ctrl-C, SIGTERM and
SIGHUP finish what can be finished: a video keeps the frames so far, a training run can be resumed.
A second signal exits at once.";

/// Run and train DeepLabv3+ semantic segmentation on any GPU, without Python or CUDA.
#[derive(Debug, Parser)]
#[command(name = "atrous", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Increase verbosity (-v: progress, -vv: details)
    #[arg(short, long, global = true, display_order = 900, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    // A comment for documentation here would replace the command's own description.
    #[command(alias = "predict")]
    Segment(WithConsent<segment::Args>),
    /// Train a network on images and masks
    Train(Box<WithConsent<train::Args>>),
    /// Evaluate a network on images with masks
    #[command(alias = "val")]
    Eval(WithConsent<eval::Args>),
    /// Check a data set for faults before training on it
    Doctor(doctor::Args),
    /// Write a data set as images, PNG masks and classes.txt
    ConvertData(convert_data::Args),
    // As for `Segment`.
    #[cfg(feature = "hub")]
    Models(models::Args),
    /// Describe a weight file: network, classes, layers, cost and memory
    Inspect(WithConsent<inspect::Args>),
    /// Convert weights of any dialect to the program's own
    Import(WithConsent<convert::ImportArgs>),
    /// Convert weights to the names of another code base
    Export(WithConsent<convert::ExportArgs>),
    /// Run a network on raw tensors
    Infer(WithConsent<infer::Args>),
    /// Compare activations with a reference, node by node
    Verify(WithConsent<verify::Args>),
    /// Measure how fast a network runs on this machine
    Bench(WithConsent<bench::Args>),
    /// List devices and their limits, and show the default
    Devices(devices::Args),
    /// Print a completion script for a shell
    Completions(docs::CompletionArgs),
    /// Write man pages into a directory
    Man(docs::ManArgs),
}

// The arguments of a command that takes weights, which may be a name. A comment for documentation
// would replace the description of commands.
#[derive(Debug, clap::Args)]
struct WithConsent<A: clap::Args> {
    #[command(flatten)]
    args: A,

    /// Download weights that are given by name without asking
    #[arg(short, long, display_order = 890)]
    yes: bool,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|e| refuse(&e));
    let level = ["warn", "info", "debug"][usize::from(cli.verbose.min(2))];
    let filter = if cli.verbose > 2 { "debug".to_owned() } else { format!("error,atrous={level}") };
    let env = env_logger::Env::default().filter_or("ATROUS_LOG", filter);
    let logger = env_logger::Builder::from_env(env).format(log_line).build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(logger)).expect("invariant: this is the only logger");
    let done = interrupt::install().and_then(|()| run(cli.command));
    // A source that hangs was left behind on its own thread; end its child processes here.
    interrupt::clean_up();
    match (done, interrupt::caught()) {
        (Ok(()), _) => ExitCode::SUCCESS,
        // A reader that exits early (`atrous devices | head -1`) is not a failure.
        (Err(e), _) if e.is_broken_pipe() => ExitCode::SUCCESS,
        (Err(e), caught) => {
            console::say_error(&e);
            match caught.and_then(|signal| u8::try_from(128 + signal).ok()) {
                Some(code) => ExitCode::from(code),
                None => ExitCode::from(if e.kind() == ErrorKind::Usage { 2 } else { 1 }),
            }
        }
    }
}

/// Writes a log line as cargo does: `warning: ...`. Control characters are escaped, since messages
/// quote file names and names from files.
fn log_line(out: &mut env_logger::fmt::Formatter, record: &log::Record) -> std::io::Result<()> {
    use std::io::Write;
    let name = match record.level() {
        log::Level::Error => "error",
        log::Level::Warn => "warning",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    };
    let style = out.default_level_style(record.level());
    // Messages of drivers have several lines. Indented, none of them passes for another message.
    let text = record.args().to_string();
    let text = printable_lines(&text).replace('\n', "\n  ");
    writeln!(out, "{style}{name}{style:#}: {text}")
}

/// Ends the program with clap's words about the arguments. They quote the arguments, and
/// `atrous segment *` makes arguments of names of files.
fn refuse(error: &clap::Error) -> ! {
    let arguments: Vec<String> =
        std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    if arguments.iter().any(|a| printable(a) != *a)
        && let Err(shown) = Cli::try_parse_from(arguments.iter().map(|a| printable(a).into_owned()))
    {
        shown.exit()
    }
    error.exit()
}

fn run(mut command: Command) -> Result<()> {
    // Reading weights uses the thread pool too, which panics if it cannot start its threads.
    if !matches!(command, Command::Completions(_) | Command::Man(_)) {
        threads::start()?;
    }
    resolve_weights(&mut command)?;
    match command {
        Command::Segment(command) => segment::run(&command.args),
        Command::Train(command) => train::run(&command.args),
        Command::Devices(args) => devices::run(&args),
        #[cfg(feature = "hub")]
        Command::Models(args) => models::run(&args),
        Command::Inspect(command) => inspect::run(&command.args),
        Command::Import(command) => convert::import(&command.args),
        Command::Export(command) => convert::export(&command.args),
        Command::Infer(command) => infer::run(&command.args),
        Command::Verify(command) => verify::run(&command.args),
        Command::Bench(command) => bench::run(&command.args),
        Command::Eval(command) => eval::run(&command.args),
        Command::Doctor(args) => doctor::run(&args),
        Command::ConvertData(args) => convert_data::run(&args),
        Command::Completions(args) => docs::completions(&args, Cli::command()),
        Command::Man(args) => docs::man(&args, Cli::command()),
    }
}

/// Replaces the names of networks in the arguments of a command by the paths of their files, before
/// the command sees them.
fn resolve_weights(command: &mut Command) -> Result<()> {
    let (yes, (weights, quiet)) = match command {
        Command::Segment(command) => return command.args.resolve_weights(command.yes),
        Command::Train(command) => (command.yes, command.args.weights()),
        Command::Eval(command) => (command.yes, command.args.weights()),
        Command::Inspect(command) => (command.yes, command.args.weights()),
        Command::Import(command) => (command.yes, command.args.weights()),
        Command::Export(command) => (command.yes, command.args.weights()),
        Command::Infer(command) => (command.yes, command.args.weights()),
        Command::Verify(command) => (command.yes, command.args.weights()),
        Command::Bench(command) => (command.yes, command.args.weights()),
        _ => return Ok(()),
    };
    match weights {
        Some(weights) => weights::resolve(weights, Consent { yes, quiet }).map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }
}
