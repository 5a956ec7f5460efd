//! The command line: one file a command. Help, completions and man pages come from the same
//! definitions.

mod args;
mod bench;
mod convert;
mod devices;
mod docs;
mod doctor;
mod eval;
mod infer;
mod inspect;
mod interrupt;
mod outputs;
mod segment;
mod tensors;
mod threads;
mod train;
mod verify;

use crate::error::{ErrorKind, Result};
use crate::text::{printable, printable_lines};
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  atrous segment photo.jpg --weights deeplab.safetensors -o out.png
  atrous segment holiday/ --weights deeplab.safetensors -o masks/ --style mask
  atrous segment video.mp4 --weights deeplab.safetensors -o out.mp4
  ffmpeg -i video.mp4 -f yuv4mpegpipe - | atrous segment - --weights deeplab.safetensors -o - | ffplay -
  atrous inspect deeplab.pth --ops
  atrous eval --weights deeplab.safetensors --data VOC2012 --part val
  atrous bench --network mobilenet_v2 --tune on
  atrous devices

A GPU is used where there is one, else the processor: see `atrous devices`.

Ctrl-C, SIGTERM and SIGHUP stop `segment` and `train` in good order: a video is finished with the frames so far, a training run can be
resumed. The exit code is 0 then, and 128 plus the signal's number where something is missing. A second signal ends the program at
once and removes temporary files.";

/// DeepLabv3+ semantic segmentation on any GPU, without Python and without CUDA.
#[derive(Debug, Parser)]
#[command(name = "atrous", version, propagate_version = true, after_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Says more: once for progress of the work, twice for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finds what is in images and videos and writes masks, overlays or cut-outs
    Segment(segment::Args),
    /// Trains a network on images and masks
    Train(Box<train::Args>),
    /// Lists the devices of this machine, their limits, and which one is taken by itself
    Devices(devices::Args),
    /// Shows what a weight file holds: network, classes, layers, costs, memory
    Inspect(inspect::Args),
    /// Reads weights of any dialect and writes them in the program's own
    Import(convert::ImportArgs),
    /// Writes weights under the names of another code base
    Export(convert::ExportArgs),
    /// Runs a network on raw tensors
    Infer(infer::Args),
    /// Compares activations with a reference, node by node, and names the first that differs
    Verify(verify::Args),
    /// Measures how fast a network runs on this machine
    Bench(bench::Args),
    /// Scores a network on images with masks
    Eval(eval::Args),
    /// Finds what is wrong with a data set before it is trained on
    Doctor(doctor::Args),
    /// Writes a completion script for a shell to standard output
    Completions(docs::CompletionArgs),
    /// Writes man pages into a directory
    Man(docs::ManArgs),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|e| refuse(&e));
    let level = ["warn", "info", "debug"][usize::from(cli.verbose.min(2))];
    let filter = if cli.verbose > 2 { "debug".to_owned() } else { format!("error,atrous={level}") };
    let env = env_logger::Env::default().filter_or("ATROUS_LOG", filter);
    let logger =
        env_logger::Builder::from_env(env).format_timestamp(None).format_target(false).build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(Printable(logger))).expect("invariant: this is the only logger");
    let done = interrupt::install().and_then(|()| run(cli.command));
    // A source that hangs is left on a thread of its own, and what it began is ended here.
    interrupt::clean_up();
    match (done, interrupt::caught()) {
        (Ok(()), _) => ExitCode::SUCCESS,
        // A reader that went away (`atrous devices | head -1`) is no failure.
        (Err(e), _) if e.is_broken_pipe() => ExitCode::SUCCESS,
        (Err(e), caught) => {
            let style = anstyle::AnsiColor::Red.on_default().bold();
            args::say(&format!("{style}error{style:#}: {e}"));
            match caught.and_then(|signal| u8::try_from(128 + signal).ok()) {
                Some(code) => ExitCode::from(code),
                None => ExitCode::from(if e.kind() == ErrorKind::Usage { 2 } else { 1 }),
            }
        }
    }
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

/// A logger that lets nothing through that a terminal obeys: messages hold names of files, and
/// names out of files.
///
/// Line breaks stay, since messages of drivers have them; the logger inside indents what follows,
/// so that no line can pass for another message.
struct Printable(env_logger::Logger);

impl log::Log for Printable {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record) {
        if self.0.matches(record) {
            let text = record.args().to_string();
            let mut shown = log::Record::builder();
            shown
                .metadata(record.metadata().clone())
                .module_path(record.module_path())
                .file(record.file())
                .line(record.line());
            self.0.log(&shown.args(format_args!("{}", printable_lines(&text))).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn run(command: Command) -> Result<()> {
    // Reading weights shares work among the threads too, and where none can be started the pool
    // would panic.
    if !matches!(command, Command::Completions(_) | Command::Man(_)) {
        threads::start()?;
    }
    match command {
        Command::Segment(args) => segment::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Import(args) => convert::import(&args),
        Command::Export(args) => convert::export(&args),
        Command::Infer(args) => infer::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => docs::completions(&args, Cli::command()),
        Command::Man(args) => docs::man(&args, Cli::command()),
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
