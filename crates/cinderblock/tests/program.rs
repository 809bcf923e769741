//! The program as a user starts it: its command line, what it prints, how it begins and ends.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The program with a clean environment.
fn cinderblock(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinderblock"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CINDERBLOCK_") || text.starts_with("OS_") {
            command.env_remove(&name);
        }
    }
    command.args(words).stdin(Stdio::null());
    command
}

fn output(words: &[&str]) -> Output {
    cinderblock(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running `serve`; killed when a test ends early.
struct Serving {
    child: Child,
    /// What it has printed on standard output up to the address of its API.
    banner: String,
    endpoint: String,
}

impl Serving {
    fn start(data_dir: &Path, words: &[&str]) -> Self {
        Self::start_while(data_dir, words, |_| {})
    }

    /// Starts it, and lets something happen to the process before the banner is waited for.
    fn start_while(data_dir: &Path, words: &[&str], meanwhile: impl FnOnce(&Child)) -> Self {
        let ports: Vec<_> = (0..2).map(|_| free_address()).collect();
        let data_dir = data_dir.to_str().unwrap();
        let mut command = cinderblock(&["serve", "--data-dir", data_dir]);
        command.args(["--api-listen", &ports[0], "--iscsi-listen", &ports[1]]).args(words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        meanwhile(&child);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        let endpoint = format!("http://{}/v3", ports[0]);
        while !banner.contains("openstack") {
            let line = lines.next().expect("the banner tells of the stock client").unwrap();
            banner.push_str(&line);
            banner.push('\n');
        }
        // The pipe stays open, so that nothing it prints later fails.
        std::thread::spawn(move || lines.count());
        Self { child, banner, endpoint }
    }

    fn client(&self, words: &[&str]) -> Output {
        cinderblock(words).env("CINDERBLOCK_ENDPOINT", &self.endpoint).output().unwrap()
    }

    fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    fn end(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    // The shell's own `kill`: a bare machine has no other.
    let script = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn help_and_version_name_the_program_and_its_commands() {
    let help = text(&output(&["--help"]).stdout);
    for command in ["serve", "volume", "snapshot", "backup", "attachment", "type", "job", "completion"] {
        assert!(help.contains(command), "{command} is not in\n{help}");
    }
    assert!(text(&output(&["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")));
    let unknown = output(&["no-such-command"]);
    assert_eq!(unknown.status.code(), Some(2));
}

#[test]
fn completion_scripts_are_written_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completion", shell]);
        assert!(script.status.success());
        assert!(text(&script.stdout).contains("attachment"), "{shell}");
    }
}

#[test]
fn the_banner_tells_where_it_listens_and_its_commands_work() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &[]);
    assert!(serving.banner.contains(&serving.endpoint), "{}", serving.banner);
    // The program as it was called: a newcomer's is not on the path.
    let program = concat!(env!("CARGO_BIN_EXE_cinderblock"), " ");
    let tried: Vec<_> = serving.banner.lines().filter_map(|line| line.trim().strip_prefix(program)).collect();
    assert!(tried.len() >= 2, "{}", serving.banner);
    for line in tried.iter().filter(|line| !line.starts_with("demo")) {
        let done = serving.client(&line.split_whitespace().collect::<Vec<_>>());
        assert!(done.status.success(), "{line}: {}", text(&done.stderr));
    }
    assert!(serving.end().success());
}

#[test]
fn a_second_start_takes_up_what_the_first_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &[]);
    let created = serving.client(&["volume", "create", "kept", "--size", "1", "--wait"]);
    assert!(created.status.success(), "{}", text(&created.stderr));
    assert!(serving.end().success(), "SIGTERM ends it cleanly");
    let again = Serving::start(folder.path(), &[]);
    let shown = again.client(&["volume", "show", "kept", "--json"]);
    let volume: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(volume["status"], "available");
    again.signal("KILL");
    drop(again);
    let killed = Serving::start(folder.path(), &[]);
    assert!(killed.client(&["volume", "delete", "kept", "--wait"]).status.success());
    assert_eq!(killed.client(&["volume", "show", "kept"]).status.code(), Some(3));
    assert!(killed.end().success());
}

#[test]
fn a_role_runs_once_on_a_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    let first = Serving::start(folder.path(), &[]);
    let second =
        output(&["serve", "--data-dir", folder.path().to_str().unwrap(), "--api-listen", &free_address()]);
    assert!(!second.status.success());
    let said = text(&second.stderr);
    assert!(said.contains("already running") && said.contains("--data-dir"), "{said}");
    assert!(first.end().success());
}

/// A killed process has its locks until the kernel has taken it apart: whoever starts it again need not wait for that.
#[test]
fn a_start_waits_for_the_locks_of_a_process_that_is_just_ending() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().canonicalize().unwrap();
    std::fs::create_dir(data_dir.join("run")).unwrap();
    let path = data_dir.join("run/volume.lock");
    let dying = std::fs::File::create(&path).unwrap();
    dying.lock().unwrap();
    let mut serving = Serving::start_while(&data_dir, &[], |child| {
        let opened = || {
            let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
            files.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|file| file == path)
        };
        wait_until(opened);
        // It has the file open and asks for the lock now; nothing shows that it was refused once.
        std::thread::sleep(Duration::from_millis(100));
        dying.unlock().unwrap();
    });
    assert!(serving.client(&["volume", "list"]).status.success());
    for _ in 0..3 {
        serving.signal("KILL");
        // Nobody has waited for its end.
        serving = Serving::start(&data_dir, &[]);
    }
    assert!(serving.end().success());
}

fn wait_until(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A service that waits for its database can be stopped like any other.
#[test]
fn sigterm_ends_a_start_that_waits_for_its_database() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cinder.conf");
    let nobody = free_address();
    let text = format!(
        "[DEFAULT]\nauth_strategy = noauth\ntransport_url = none://\nenabled_backends = local\n\
         [database]\nconnection = postgresql://u:p@{nobody}/cinder\n\
         [local]\nvolume_driver = file\nfile_directory = {}\n",
        folder.path().join("volumes").display()
    );
    std::fs::write(&config, text).unwrap();
    for name in ["TERM", "INT"] {
        let mut command = cinderblock(&["serve", "--api-listen", &free_address(), "--data-dir"]);
        command.arg(folder.path().join("data")).arg("--config-file").arg(&config);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
        assert!(log.any(|line| line.contains("trying again")), "it waits");
        signal(&child, name);
        assert!(log.any(|line| line.contains("stopped before it was ready")), "it says so");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
    }
}

#[test]
fn options_of_the_client_may_stand_before_the_resource() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &[]);
    let nowhere = format!("http://{}/v3", free_address());
    let here = serving.endpoint.as_str();
    for words in [
        vec!["--endpoint", here, "--json", "volume", "list"],
        vec!["--endpoint", here, "volume", "list", "--json"],
        vec!["--json", "--token", "me:p", "volume", "--endpoint", here, "list"],
        // The one nearer to the command wins.
        vec!["--endpoint", &nowhere, "volume", "list", "--endpoint", here, "--json"],
    ] {
        // And each wins over the variable.
        let listed = cinderblock(&words).env("CINDERBLOCK_ENDPOINT", &nowhere).output().unwrap();
        assert!(listed.status.success(), "{words:?}: {}", text(&listed.stderr));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&listed.stdout).unwrap(),
            serde_json::json!([])
        );
    }
    assert_eq!(output(&["--endpoint", &nowhere, "volume", "list"]).status.code(), Some(6));
    // Whoever is named later is another caller, and not the same one with a token as well.
    let both = cinderblock(&["--user", "a:b", "volume", "list", "--token", "me:p"]);
    assert!({ both }.env("CINDERBLOCK_ENDPOINT", here).output().unwrap().status.success());
    let misplaced = output(&["--endpoint", here, "serve"]);
    assert_eq!(misplaced.status.code(), Some(2), "{}", text(&misplaced.stderr));
    for words in [&["--help"][..], &["volume", "list", "--help"]] {
        let help = text(&output(words).stdout);
        assert!(help.contains("--endpoint") && help.contains("CINDERBLOCK_TOKEN"), "{help}");
    }
    assert!(!text(&output(&["serve", "--help"]).stdout).contains("--endpoint"));
}

/// A configuration with a `file` backend for each of these directories, and its own database and data directory.
fn installation(folder: &Path, directories: &[&Path]) -> PathBuf {
    let names: Vec<String> = (0..directories.len()).map(|n| format!("b{n}")).collect();
    let mut text = format!(
        "[DEFAULT]\nauth_strategy = noauth\ntransport_url = none://\nbackup_driver = posix\nenabled_backends = {}\n",
        names.join(",")
    );
    for (name, directory) in names.iter().zip(directories) {
        let directory = directory.display();
        text.push_str(&format!("[{name}]\nvolume_driver = file\nfile_directory = {directory}\n"));
    }
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join("cinder.conf");
    std::fs::write(&path, text).unwrap();
    path
}

/// What a start with this configuration, which must fail, says.
fn refused(folder: &Path, config: &Path) -> String {
    let mut command =
        cinderblock(&["serve", "--api-listen", &free_address(), "--iscsi-listen", &free_address()]);
    command.arg("--data-dir").arg(folder.join("data")).arg("--config-file").arg(config);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // One that serves says so; it would not end by itself.
    if !line.is_empty() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(line.is_empty() && !output.status.success(), "it started: {line}");
    text(&output.stderr)
}

#[test]
fn two_backends_do_not_share_a_directory_however_it_is_spelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (one, other) = (path("one"), path("other"));
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(&one, path("link")).unwrap();
    for same in [path("link"), path("other/../one"), path("one/."), path("other/../link/../one")] {
        let said = refused(folder.path(), &installation(folder.path(), &[&one, &same]));
        assert!(said.contains("[b0] and [b1]") && said.contains("same file_directory"), "{said}");
    }
    for inside in [path("one/deep/er"), path("link/deep")] {
        for pair in [[one.as_path(), &inside], [&inside, &one]] {
            let said = refused(folder.path(), &installation(folder.path(), &pair));
            assert!(said.contains("one inside the other") && said.contains("deep"), "{said}");
        }
    }
    // A name that begins alike is no place inside.
    let config = installation(folder.path(), &[&one, &path("one-more"), &other]);
    let serving = Serving::start(&path("data"), &["--config-file", config.to_str().unwrap()]);
    assert!(serving.end().success());
}

#[test]
fn a_directory_belongs_to_one_installation_until_it_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let volumes = path("volumes");
    let first_config = installation(&path("first"), &[&volumes]);
    let first_words = ["--config-file", first_config.to_str().unwrap()];
    assert!(Serving::start(&path("first/data"), &first_words).end().success());
    let second = path("second");
    let second_config = installation(&second, &[&volumes]);
    let said = refused(&second, &second_config);
    let mark = volumes.join(".installation");
    for wanted in [&volumes, &mark, &path("first/data"), &path("second/data")] {
        assert!(said.contains(wanted.to_str().unwrap()), "{} is not in {said}", wanted.display());
    }
    // The first one, with its database, has moved: it is the same installation.
    std::fs::rename(path("first/data"), path("first/moved")).unwrap();
    assert!(Serving::start(&path("first/moved"), &first_words).end().success());
    std::fs::remove_file(mark).unwrap();
    let second_words = ["--config-file", second_config.to_str().unwrap()];
    assert!(Serving::start(&second.join("data"), &second_words).end().success());
    let said = refused(&path("first"), &first_config);
    assert!(said.contains("belongs to installation"), "{said}");
}

#[test]
fn strangers_are_kept_out_unless_there_is_authentication() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let refused = output(&["serve", "--data-dir", data_dir, "--api-listen", "0.0.0.0:0"]);
    assert!(!refused.status.success());
    let said = text(&refused.stderr);
    assert!(said.contains("loopback") && said.contains("auth_strategy"), "{said}");
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut child =
        cinderblock(&["serve", "--data-dir", folder.path().to_str().unwrap(), "--api-listen", &address])
            .args(["--iscsi-listen", &free_address()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(said.contains(&address) && said.contains("--api-listen"), "{said}");
}
