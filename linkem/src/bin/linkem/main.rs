//! A link between two network namespaces, which behaves as it is told.
//!
//! It makes a TUN device in each and carries packets between them, through a [`linkem::Link`] each
//! way, until its input ends or it is asked to (SIGTERM); then it prints what happened, as JSON.
//! While it runs, lines on its input change the link.

#[cfg(target_os = "linux")]
mod ceiling;
#[cfg(target_os = "linux")]
mod control;
#[cfg(target_os = "linux")]
mod forward;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod sys;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ceiling"] => ceiling::measure(),
        [] | ["--help" | "-h"] => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        _ => options::Options::parse(&arguments).and_then(|options| control::run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkem: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("linkem needs Linux: TUN devices and network namespaces");
    std::process::exit(1);
}
