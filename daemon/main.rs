//! Parses the command and runs it; the exit code follows sysexits.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use dropzone::cli::exit::{EX_IOERR, EX_USAGE};
use dropzone::host::control::Target;

/// An SFTP drop zone that lets in nothing but properly encrypted files.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The folder of dropzone.yaml.
    #[arg(long, value_name = "DIR", global = true, default_value = dropzone::config::DEFAULT_DIRECTORY)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new zone.
    Init {
        /// The folder to make; one that is there must be empty.
        directory: PathBuf,
    },
    /// Validate the configuration and show who may do what.
    Check {
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// The network side: serve SFTP.
    Serve(Daemon),
    /// The job side: process and deliver what arrives.
    Work(Daemon),
    /// Run both daemons, serve and work, and restart one that ends.
    Run(Daemon),
    /// Show the main job from end to end, with made-up people.
    Demo {
        /// Leave the zone running until Ctrl-C.
        #[arg(long, conflicts_with = "agreement")]
        keep: bool,
        /// Show one of the five shipped agreements instead: 1 pillar-3, 2 lists-lommel, 3 social-protection, 4 client-feedback,
        /// 5 pilot-mechelen.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
        agreement: Option<u8>,
    },
    /// Prove that the access log is as it was written, or find records in it.
    #[command(subcommand)]
    Log(dropzone::cli::log::Log),
    /// Check a changed configuration and have the daemons that run take it over.
    Reload,
    /// Show who is logged in.
    Sessions {
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Cut sessions: one, or all of an institution. Who still has a key that counts can log in again.
    #[command(arg_required_else_help = true)]
    Kick {
        /// The session's id, as `dropzone sessions` shows it.
        #[arg(required_unless_present = "institution")]
        session: Option<String>,
        /// All sessions of an institution.
        #[arg(long, value_name = "NAME", conflicts_with = "session")]
        institution: Option<String>,
    },
    /// The clock by which things are deleted: what is known of it, and confirming it after a jump.
    #[command(subcommand)]
    Clock(dropzone::cli::clock::Clock),
    /// Copy configuration, spool and access log into a new folder, while the zone runs. Keys are not copied.
    Backup(dropzone::cli::backup::Backup),
    /// Check a backup, or make a zone of it.
    Restore(dropzone::cli::restore::Restore),
    /// Look at held arrivals, and decide what becomes of them.
    #[command(subcommand)]
    Hold(dropzone::cli::hold::Hold),
    /// Have a deferred arrival tried at once; a held one is released.
    Retry(dropzone::cli::hold::Decision),
    /// Become the program of a command's job: what `work` starts, and nobody types.
    #[command(hide = true)]
    Confined {
        /// What it is confined to, as JSON.
        description: String,
    },
    /// What happened under one agreement in a span of days: a page to print, and the same as JSON, both signed.
    Report(dropzone::cli::report::Report),
    /// A folder to send to an institution: how to connect, encrypt, send, fetch and check. Nothing in it is secret.
    Kit(dropzone::cli::kit::Kit),
    /// What may have to be reported, by when and to whom.
    #[command(subcommand)]
    Incidents(dropzone::cli::incidents::Incidents),
    /// Show the passphrase of a result, once, or list those that wait to be handed out.
    #[command(arg_required_else_help = true)]
    Passphrase(dropzone::cli::passphrase::Asked),
    /// Show what lies in the spool, what is held and why.
    Status {
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Daemon {
    /// Stop when standard input, a pipe that the starting process holds, is closed.
    #[arg(long, hide = true)]
    stop_with_parent: bool,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let usage = error.use_stderr();
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return if usage { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match arguments.command {
        Command::Init { directory } => dropzone::cli::init::run(&directory),
        Command::Check { json } => dropzone::cli::check::run(&arguments.config, json),
        Command::Serve(daemon) => dropzone::cli::serve::run(&arguments.config, daemon.stop_with_parent),
        Command::Work(daemon) => dropzone::cli::work::run(&arguments.config, daemon.stop_with_parent),
        Command::Run(daemon) => dropzone::cli::run::run(&arguments.config, daemon.stop_with_parent),
        Command::Demo { agreement: Some(number), .. } => dropzone::cli::demo::agreements::run(number),
        Command::Demo { keep, agreement: None } => dropzone::cli::demo::run(keep),
        Command::Log(command) => dropzone::cli::log::run(&arguments.config, command),
        Command::Reload => dropzone::cli::control::reload(&arguments.config),
        Command::Sessions { json } => dropzone::cli::control::sessions(&arguments.config, json),
        Command::Kick { session, institution } => {
            let target = session.map(Target::Session).or(institution.map(Target::Institution));
            // The parser has seen to it that there is one.
            target.map_or(Ok(ExitCode::from(EX_USAGE)), |target| {
                dropzone::cli::control::kick(&arguments.config, target)
            })
        }
        Command::Clock(command) => dropzone::cli::clock::run(&arguments.config, command),
        Command::Backup(backup) => dropzone::cli::backup::run(&arguments.config, &backup),
        Command::Restore(restore) => dropzone::cli::restore::run(&restore),
        Command::Hold(command) => dropzone::cli::hold::run(&arguments.config, &command),
        Command::Retry(decision) => dropzone::cli::hold::retry(&arguments.config, &decision),
        Command::Confined { description } => dropzone::cli::confined::run(&description),
        Command::Report(report) => dropzone::cli::report::run(&arguments.config, &report),
        Command::Kit(kit) => dropzone::cli::kit::run(&arguments.config, &kit),
        Command::Incidents(command) => dropzone::cli::incidents::run(&arguments.config, &command),
        Command::Passphrase(asked) => dropzone::cli::passphrase::run(&arguments.config, asked),
        Command::Status { json } => dropzone::cli::status::run(&arguments.config, json),
    };
    outcome.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(std::io::stderr().lock(), "dropzone: {}", told(&error));
        ExitCode::from(EX_IOERR)
    })
}

/// The error and its causes, each once: some errors name their cause themselves.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.ends_with(&cause) {
            told = if told.is_empty() { cause } else { format!("{told}: {cause}") };
        }
    }
    told
}

/// Whoever read the output has seen enough, as in `dropzone status | head`: no error, and nothing to say.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json)
    };
    error.chain().filter_map(kind).any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_an_error_names_itself_is_told_once() {
        let cause = || anyhow::anyhow!("no such file");
        assert_eq!(
            told(&cause().context("the spool cannot be read")),
            "the spool cannot be read: no such file"
        );
        assert_eq!(told(&cause().context("cannot open /x: no such file")), "cannot open /x: no such file");
    }
}
