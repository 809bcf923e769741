//! Child processes with a time limit, their output kept in a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How a child ended.
#[derive(Debug)]
pub enum Ended {
    Exited(ExitStatus),
    TimedOut,
}

impl Ended {
    /// Whether it exited with status 0.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }
}

/// Runs `command` with standard output and error appended to the file `log`; copies the log to our own output while
/// it grows when `echo` is set. After `limit` the child and everything it started in its process group is killed.
///
/// # Errors
/// When it cannot be started or its log not be written.
pub fn run(command: &mut Command, log: &Path, limit: Duration, echo: bool) -> Result<Ended> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    let mut from = file.metadata()?.len();
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
    let ended = wait(&mut child, limit, || {
        if echo {
            from = copy_new(log, from);
        }
    })?;
    if echo {
        copy_new(log, from);
    }
    Ok(ended)
}

fn wait(child: &mut Child, limit: Duration, mut on_tick: impl FnMut()) -> Result<Ended> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Exited(status));
        }
        if start.elapsed() > limit {
            kill_group(child);
            return Ok(Ended::TimedOut);
        }
        on_tick();
        pause(Duration::from_millis(20));
    }
}

/// Ends a child started with a process group of its own, and the group.
pub fn kill_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    // The shell's own `kill`: a bare machine has no other.
    let _ = Command::new("sh").args(["-c", "kill -KILL -- \"$1\" 2>/dev/null", "kill", &group]).status();
    let _ = child.kill();
    let _ = child.wait();
}

/// Sleeps; for polling what offers no event to a program without an event loop.
#[allow(clippy::disallowed_methods)] // see above
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Copies what `log` holds beyond `from` to our output; returns the new end.
fn copy_new(log: &Path, from: u64) -> u64 {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut text)
    });
    if read.is_ok() {
        let _ = std::io::stdout().write_all(&text);
    }
    from + text.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_over_its_limit_is_ended_with_all_it_started() {
        let folder = std::env::temp_dir().join(format!("xtask-process-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("log");
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "echo begun; sleep 60 & wait"]);
        let ended = run(&mut command, &log, Duration::from_millis(300), false).unwrap();
        assert!(matches!(ended, Ended::TimedOut), "{ended:?}");
        assert!(start.elapsed() < Duration::from_secs(30));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "begun\n");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
