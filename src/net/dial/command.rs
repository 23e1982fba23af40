//! A command that prints the proxy's credentials, for proxies that change them.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The command must be done within this.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause between looks at it.
const POLL: Duration = Duration::from_millis(10);
/// It prints no more than this.
const MAX_BYTES: u64 = 4096;

/// Why the command gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It cannot be run.
    #[error("PILOT_PROXY_COMMAND cannot be run: {0}")]
    Start(String),
    /// It takes too long.
    #[error("PILOT_PROXY_COMMAND did not end within {0:?}")]
    TimedOut(Duration),
    /// It failed. What it printed is not shown, for it may be secret.
    #[error("PILOT_PROXY_COMMAND failed ({0}); run it by hand to see why")]
    Failed(String),
    /// It printed nothing.
    #[error("PILOT_PROXY_COMMAND printed nothing; it must print a proxy URL or user:password")]
    Empty,
}

/// Runs `command` by the shell and returns the first line it prints.
pub(super) async fn run(command: String) -> Result<String, CommandError> {
    tokio::task::spawn_blocking(move || run_blocking(&command, LIMIT))
        .await
        .map_err(|panicked| CommandError::Start(panicked.to_string()))?
}

fn run_blocking(command: &str, limit: Duration) -> Result<String, CommandError> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut child = Command::new(shell)
        .args([flag, command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| CommandError::Start(error.to_string()))?;
    let result = collect(&mut child, limit);
    if result.is_err() {
        // It may have ended by itself.
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

fn collect(child: &mut Child, limit: Duration) -> Result<String, CommandError> {
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(|error| CommandError::Start(error.to_string()))? {
            Some(status) => break status,
            None if Instant::now() >= deadline => return Err(CommandError::TimedOut(limit)),
            None => std::thread::sleep(POLL),
        }
    };
    if !status.success() {
        return Err(CommandError::Failed(status.to_string()));
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // A child of its own may hold the pipe open, so not until its end.
        let mut buffer = [0; MAX_BYTES as usize];
        let mut stdout = stdout.take(MAX_BYTES);
        let read = stdout.read(&mut buffer).unwrap_or(0);
        output.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    let text = String::from_utf8_lossy(&output);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.map(str::to_owned).ok_or(CommandError::Empty)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_taken_and_failures_are_told_apart() {
        let run = |command| run_blocking(command, Duration::from_secs(5));
        assert_eq!(run("echo; echo ' me:secret '; echo more"), Ok("me:secret".into()));
        assert_eq!(run("true"), Err(CommandError::Empty));
        let failed = run("echo secret; exit 3").unwrap_err();
        assert!(failed.to_string().contains("3") && !failed.to_string().contains("secret"));
        let limit = Duration::from_millis(50);
        assert_eq!(run_blocking("sleep 60", limit), Err(CommandError::TimedOut(limit)));
    }
}
