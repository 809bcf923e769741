//! `cinderblock target serve FILE` with each of its options, before initiators that are not ours: libiscsi's tools and QEMU's.
//!
//! Needs Debian's `libiscsi-bin`, `qemu-utils` and `qemu-block-extra`.
#![allow(clippy::unwrap_used)] // a test

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

const MIB: u64 = 1 << 20;
const IQN: &str = "iqn.2026-01.test:file";

fn target(file: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cinderblock"));
    command.args(["target", "serve"]).arg(file).args(words).stdin(Stdio::null());
    command
}

/// What a start that must fail says.
fn refused(file: &Path, words: &[&str]) -> String {
    let mut command = target(file, words);
    if !words.contains(&"--portal") {
        command.args(["--portal", "127.0.0.1:0"]);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // One that serves says so; it would not end by itself.
    if !line.is_empty() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(line.is_empty() && !output.status.success(), "{words:?}: {line}");
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tool(name: &str, words: &[&str]) -> Output {
    let output = Command::new(name).args(words).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("{name} does not run: {error}"))
}

/// Runs qemu-io with these commands; its output, or what went wrong.
fn qemu_io(url: &str, commands: &[&str]) -> Result<String, String> {
    let mut words = vec!["-f", "raw"];
    for command in commands {
        words.extend(["-c", command]);
    }
    words.push(url);
    let output = tool("qemu-io", &words);
    let said = text(&output.stdout) + &text(&output.stderr);
    // A pattern that does not match, and a request that fails, are only told.
    let bad = ["verification failed", "failed:", "can't open"].iter().any(|word| said.contains(word));
    if output.status.success() && !bad { Ok(said) } else { Err(said) }
}

/// A running target; killed when a test ends early.
struct Serving {
    child: Child,
    /// What it printed first.
    line: String,
    /// What it printed after that.
    told: String,
    portal: String,
}

impl Serving {
    fn start(file: &Path, words: &[&str]) -> Self {
        let mut command = target(file, words);
        command.args(["--portal", "127.0.0.1:0", "--iqn", IQN]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        printed.read_line(&mut line).unwrap();
        let mut told = String::new();
        while !told.contains("iscsi-inq") {
            assert_ne!(printed.read_line(&mut told).unwrap(), 0, "{told}");
        }
        let portal = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        assert!(portal.starts_with("127.0.0.1:"), "{line}");
        Self { child, line, told, portal }
    }

    fn url(&self, user: &str) -> String {
        format!("iscsi://{user}{}/{IQN}/0", self.portal)
    }

    fn stop(mut self, signal: &str) -> ExitStatus {
        // The shell's own `kill`: a bare machine has no other.
        let script = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(folder: &Path, bytes: u64) -> PathBuf {
    let path = folder.join("disk");
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

#[test]
fn one_file_is_served_until_the_program_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let disk = file(folder.path(), 64 * MIB);
    let serving = Serving::start(&disk, &["--open"]);
    assert!(serving.line.contains(IQN) && serving.line.contains("67108864"), "{}", serving.line);
    let listed = text(&tool("iscsi-ls", &["-s", &format!("iscsi://{}", serving.portal)]).stdout);
    assert!(listed.contains(&format!("Target:{IQN} Portal:{},1", serving.portal)), "{listed}");
    assert!(listed.contains("Lun:0 ") && listed.contains("Size:63M"), "{listed}");
    let inquired = text(&tool("iscsi-inq", &[&serving.url("")]).stdout);
    assert!(inquired.contains("Vendor:CINDER"), "{inquired}");
    let image = folder.path().join("image");
    let content: Vec<u8> = (0..64 * MIB).map(|n| (n / 4096 * 31 + n % 251) as u8).collect();
    std::fs::write(&image, &content).unwrap();
    let image = image.to_str().unwrap();
    let convert =
        tool("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", "-W", image, &serving.url("")]);
    assert!(convert.status.success(), "{}", text(&convert.stderr));
    let compare = tool("qemu-img", &["compare", "-f", "raw", "-F", "raw", image, &serving.url("")]);
    assert!(compare.status.success(), "{}", text(&compare.stdout));
    qemu_io(&serving.url(""), &["write -P 0x5a 1M 3M", "discard 2M 1M", "flush", "read -P 0x5a 1M 1M"])
        .unwrap();
    assert!(serving.stop("TERM").success());
    let kept = std::fs::read(&disk).unwrap();
    assert!(kept[MIB as usize..2 * MIB as usize].iter().all(|byte| *byte == 0x5a));
    assert!(kept[2 * MIB as usize..3 * MIB as usize].iter().all(|byte| *byte == 0));
    assert!(kept[4 * MIB as usize..] == content[4 * MIB as usize..]);
    // The same file again, with what it had, under the same name.
    let again = Serving::start(&disk, &["--open"]);
    let inquired_again = text(&tool("iscsi-inq", &["-e", "1", "-c", "131", &again.url("")]).stdout);
    qemu_io(&again.url(""), &["read -P 0x5a 3M 1M"]).unwrap();
    assert!(again.stop("INT").success());
    assert!(inquired_again.contains("Designator"), "{inquired_again}");
}

/// A newcomer has an initiator and no idea of names: what is printed works as it stands.
#[test]
fn the_address_that_is_told_is_one_that_initiators_take() {
    let folder = tempfile::tempdir().unwrap();
    let disk = file(folder.path(), 16 * MIB);
    let serving = Serving::start(&disk, &["--open"]);
    let told = serving.told.as_str();
    assert!(told.contains(&format!("portal  {}\n", serving.portal)), "{told}");
    assert!(told.contains(&format!("target  {IQN}\n")), "{told}");
    let url = told.lines().find_map(|line| line.trim().strip_prefix("URL ")).unwrap().trim();
    qemu_io(url, &["read -P 0 0 1M"]).unwrap();
    let commands: Vec<_> = told.lines().skip_while(|line| *line != "Try:").skip(1).collect();
    assert_eq!(commands.len(), 2, "{told}");
    for line in commands {
        let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    }
    drop(serving);
    let closed = Serving::start(&disk, &["--chap", "user:a secret of 20 bytes"]);
    let told = closed.told.as_str();
    assert!(told.contains(&format!("iscsi://user%SECRET@{}/{IQN}/0", closed.portal)), "{told}");
    assert!(told.contains("--chap") && !told.contains("20 bytes"), "the secret is shown: {told}");
}

/// I8: nobody but who knows the secret.
#[test]
fn i8_chap_admits_who_knows_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(&file(folder.path(), 16 * MIB), &["--chap", "user:a secret: with 25 bytes"]);
    qemu_io(&serving.url("user%a%20secret%3A%20with%2025%20bytes@"), &["read -P 0 0 1M"])
        .or_else(|_| qemu_io(&serving.url("user%a secret: with 25 bytes@"), &["read -P 0 0 1M"]))
        .unwrap();
    for wrong in ["", "user%a secret: with 26 bytes@", "else%a secret: with 25 bytes@"] {
        assert!(qemu_io(&serving.url(wrong), &["read 0 512"]).is_err(), "{wrong:?} got in");
    }
    assert!(serving.stop("TERM").success());
}

/// I8: a target that admits everybody is not seen from elsewhere.
#[test]
fn i8_open_is_for_loopback_only() {
    let folder = tempfile::tempdir().unwrap();
    let disk = file(folder.path(), MIB);
    for portal in ["0.0.0.0:0", "[::]:0"] {
        let said = refused(&disk, &["--open", "--portal", portal]);
        assert!(said.contains("loopback"), "{said}");
    }
    let neither = refused(&disk, &[]);
    assert!(neither.contains("--chap"), "{neither}");
    assert!(refused(&disk, &["--open", "--chap", "user:a secret of 20 bytes"]).contains("cannot be used"));
    assert!(refused(&disk, &["--chap", "user:short"]).contains("12 to 255 bytes"));
    assert!(refused(&disk, &["--chap", "no colon"]).contains("USER:SECRET"));
}

#[test]
fn what_cannot_be_served_is_said() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(&file(folder.path(), 1000), &["--open"]).contains("1000 bytes"));
    assert!(refused(&file(folder.path(), 0), &["--open"]).contains("0 bytes"));
    assert!(refused(folder.path(), &["--open"]).contains("cannot open"));
    assert!(refused(&folder.path().join("nothing"), &["--open"]).contains("No such file"));
    let disk = file(folder.path(), MIB);
    assert!(refused(&disk, &["--open", "--iqn", "not a name"]).contains("not an iSCSI name"));
    let serving = Serving::start(&disk, &["--open"]);
    assert!(refused(&disk, &["--open"]).contains("open elsewhere"), "two writers of one file");
    let other = folder.path().join("other");
    std::fs::copy(&disk, &other).unwrap();
    assert!(refused(&other, &["--open", "--portal", &serving.portal]).contains("cannot listen"));
    assert!(serving.stop("TERM").success());
}

#[test]
fn a_read_only_unit_takes_no_writes() {
    let folder = tempfile::tempdir().unwrap();
    let disk = file(folder.path(), 16 * MIB);
    let serving = Serving::start(&disk, &["--open", "--read-only"]);
    // Read-only servers share a file.
    let second = Serving::start(&disk, &["--open", "--read-only"]);
    for one in [serving, second] {
        let words = ["-r", "-f", "raw", "-c", "read -P 0 0 1M", &one.url("")];
        let read = tool("qemu-io", &words);
        assert!(text(&read.stdout).contains("read 1048576/1048576"), "{}", text(&read.stderr));
        assert!(qemu_io(&one.url(""), &["write 0 512"]).is_err());
        assert!(one.stop("TERM").success());
    }
}
