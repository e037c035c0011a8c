//! `towline`: the operator's and the protected host's one command.
//!
//! Arguments become validated settings, a command module in [`commands`] does the work, and this file alone prints
//! failures and chooses the exit code. Results go to stdout, everything else to stderr.

mod capture;
mod commands;
mod cores;
mod exit;
#[cfg(test)]
mod named_commands;
mod output;
mod secret_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use exit::{Failure, Outcome};

/// Bare-metal recovery of Linux machines over the network, from a generic boot medium.
#[derive(Parser)]
#[command(name = "towline", version, max_term_width = 80)]
struct Cli {
    /// Say nothing but results, warnings and failures
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(commands::init::InitArgs),
    Key(commands::key::KeyArgs),
    Publish(commands::publish::PublishArgs),
    Catalogue(commands::catalogue::CatalogueArgs),
    Serve(commands::serve::ServeArgs),
    /// The boot medium: build it, and stamp, show and clear a site's settings on it.
    Media(commands::media::MediaArgs),
    Layer(commands::layer::LayerArgs),
    Host(commands::host::HostArgs),
    Session(commands::session::SessionArgs),
    Capture(commands::capture::CaptureArgs),
    Recovery(commands::recovery::RecoveryArgs),
    Chain(commands::chain::ChainArgs),
    Doctor(commands::doctor::DoctorArgs),
    Drill(commands::drill::DrillArgs),
    #[command(hide = true)]
    DrillPipe(commands::drill::PipeArgs),
    /// The whole story on this machine, in QEMU: site, layers, medium, boot.
    Demo(commands::demo::DemoArgs),
}

impl Command {
    /// Whether it speaks with other machines or guests, and so must outlive their hanging up.
    fn has_peers(&self) -> bool {
        match self {
            Self::Init(_)
            | Self::Key(_)
            | Self::Publish(_)
            | Self::Catalogue(_)
            | Self::Media(_)
            | Self::Session(_)
            | Self::Recovery(_)
            | Self::Chain(_)
            | Self::Doctor(_) => false,
            Self::Layer(args) => args.has_peers(),
            Self::Serve(_)
            | Self::Host(_)
            | Self::Capture(_)
            | Self::Drill(_)
            | Self::DrillPipe(_)
            | Self::Demo(_) => true,
        }
    }

    /// Whether it builds layers or runs machines in namespaces of its own, which a process whose memory is closed cannot make.
    fn makes_namespaces(&self) -> bool {
        matches!(
            self,
            Self::Layer(_) | Self::Drill(_) | Self::DrillPipe(_) | Self::Demo(_)
        )
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let private = match cli.command.makes_namespaces() {
        true => cores::off(),
        false => cores::off().and_then(|()| cores::close_memory()),
    };
    if let Err(error) = private {
        eprintln!("towline: a crash may leave this process's memory in a core: {error}");
    }
    if !cli.command.has_peers() {
        output::closed_pipe_ends_this_process();
        output::other_faults_end_it();
    }
    match run(cli.command, cli.quiet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let failure = failure.advised();
            print_failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(command: Command, quiet: bool) -> Outcome {
    match command {
        Command::Init(args) => commands::init::run(&args, quiet),
        Command::Key(args) => commands::key::run(&args, quiet),
        Command::Publish(args) => commands::publish::run(&args, quiet),
        Command::Catalogue(args) => commands::catalogue::run(&args, quiet),
        Command::Serve(args) => commands::serve::run(&args, quiet),
        Command::Media(args) => commands::media::run(args, quiet),
        Command::Layer(args) => commands::layer::run(&args, quiet),
        Command::Host(args) => commands::host::run(&args),
        Command::Session(args) => commands::session::run(&args),
        Command::Capture(args) => commands::capture::run(&args),
        Command::Recovery(args) => commands::recovery::run(&args, quiet),
        Command::Chain(args) => commands::chain::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Drill(args) => commands::drill::run(&args, quiet),
        Command::DrillPipe(args) => commands::drill::run_pipe(&args),
        Command::Demo(args) => commands::demo::run(&args),
    }
}

/// Prints what happened, each cause on its own line, and the next step. Foreign text is escaped.
pub(crate) fn print_failure(failure: &Failure) {
    let mut causes = failure.error.chain();
    if let Some(first) = causes.next() {
        eprintln!("towline: {}", printable(&first.to_string()));
    }
    for cause in causes {
        eprintln!("  because: {}", printable(&cause.to_string()));
    }
    if let Some(next) = &failure.next {
        eprintln!("  next: {}", printable(next));
    }
}

/// `text` without control characters that a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() && c != '\n' {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// `text` of someone else, as a part of one line.
fn one_line(text: &str) -> String {
    printable(&text.replace('\n', " "))
}
