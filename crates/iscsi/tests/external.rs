//! Initiators that are not ours: libiscsi's conformance suite and tools, and QEMU's.
//!
//! Needs Debian's `libiscsi-bin`, `qemu-utils` and `qemu-block-extra` (the last two of the same build). A test whose tool is
//! missing fails and names the package.

#![allow(clippy::unwrap_used)] // test code

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use iscsi::{Access, Chap, Lun, Target, TargetConfig};
use model::BlockDevice;
use support::device::{Memory, SparseFile};
use support::*;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use uuid::Uuid;

const MIB: u64 = 1 << 20;
/// No test of the suite takes longer, except by hanging.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a tool to its end.
async fn run(tool: &str, package: &str, args: &[&str]) -> Output {
    let mut command = Command::new(tool);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => panic!("{tool} does not run ({error}): apt-get install {package}"),
        Err(_) => panic!("{tool} {args:?} does not end"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        !complaint.contains("Unknown protocol") && !complaint.contains("Failed to open module"),
        "{tool} has no iSCSI: apt-get install qemu-block-extra of the same build as qemu-utils\n{complaint}"
    );
    output
}

/// What a tool said, on either stream.
fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn libiscsi(tool: &str, args: &[&str]) -> Output {
    run(tool, "libiscsi-bin", args).await
}

/// Runs qemu-io with these commands; its output.
async fn qemu_io(url: &str, commands: &[&str]) -> Result<String, String> {
    let mut args = vec!["-f", "raw"];
    for command in commands {
        args.extend(["-c", command]);
    }
    args.push(url);
    let output = run("qemu-io", "qemu-utils qemu-block-extra", &args).await;
    let text = words(&output);
    // A pattern that does not match is only told.
    if output.status.success() && !text.contains("verification failed") { Ok(text) } else { Err(text) }
}

fn sparse(dir: &Path, name: &str, bytes: u64, block_size: u32) -> Arc<SparseFile> {
    let path = dir.join(name);
    std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
    SparseFile::with_block_size(&path, block_size).unwrap()
}

fn url(target: &Target, chap: Option<&Chap>) -> String {
    let user = chap.map_or_else(String::new, |c| format!("{}%{}@", c.user, c.secret.expose()));
    format!("iscsi://{user}{}/{IQN}/0", portal(target))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped,
    Failed(String),
}

/// Runs one test of libiscsi's suite.
async fn conformance(test: &str, url: &str) -> Verdict {
    let mut args = vec!["--dataloss", "--allow-sanitize", "-v", "-t", test, url];
    if test.contains(".MultipathIO.") {
        args.push(url);
    }
    let output = libiscsi("iscsi-test-cu", &args).await;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let Some((head, summary)) = text.split_once("Run Summary") else { return Verdict::Failed(text) };
    // What is printed before the test begins is about the tool's own preparations.
    let body = head.split_once("Test: ").map_or(head, |(_, body)| body);
    let asserts: Vec<&str> =
        summary.lines().find(|l| l.contains("tests ")).unwrap_or("").split_whitespace().collect();
    if body.trim_end().ends_with("FAILED") || asserts.get(4) != Some(&"0") {
        return Verdict::Failed(body.to_owned());
    }
    if body.contains("[SKIPPED]") { Verdict::Skipped } else { Verdict::Passed }
}

/// The names of the suite's tests.
async fn conformance_tests() -> Vec<String> {
    let output = libiscsi("iscsi-test-cu", &["--list"]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tests = text.lines().map(str::trim).filter(|l| l.starts_with("ALL.") && l.matches('.').count() == 2);
    tests.map(str::to_owned).collect()
}

/// Runs tests one after the other, each on a unit of zeros.
async fn conformance_shard(
    tests: Vec<String>,
    dir: &Path,
    name: String,
    prepare: fn(&mut Lun),
) -> Vec<(String, Verdict)> {
    let device = sparse(dir, &name, 256 * MIB, 512);
    let mut lun = Lun::new(0, device.clone(), Uuid::from_u128(9));
    prepare(&mut lun);
    let target = target().await;
    let mut export = open(device.clone());
    export.luns = vec![lun];
    target.put(export).await.unwrap();
    let url = url(&target, None);
    let mut verdicts = Vec::new();
    for test in tests {
        device.discard(0, device.size()).await.unwrap();
        let verdict = conformance(&test, &url).await;
        verdicts.push((test, verdict));
    }
    target.shutdown().await;
    verdicts
}

/// Tests that cannot pass on any target, with the reason.
const BROKEN: &[(&str, &str)] = &[(
    "ALL.iSCSITMF.LUNResetSimpleAsync",
    "libiscsi 1.19 asserts the reset's outcome before it has read the answer (fixed in its commit 5553d6b)",
)];

/// libiscsi's suite on a plain thin unit: nothing fails, and hardly anything is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn conformance_suite() {
    const SHARDS: usize = 6;
    let dir = tempfile::tempdir().unwrap();
    let tests = conformance_tests().await;
    assert!(tests.len() >= 230, "the suite has {} tests", tests.len());
    // The slow ones (some wait for seconds) are spread by taking turns.
    let mut shards = vec![Vec::new(); SHARDS];
    for (n, test) in tests.into_iter().enumerate() {
        shards[n % SHARDS].push(test);
    }
    let runs = shards.into_iter().enumerate().map(|(n, tests)| {
        conformance_shard(tests, dir.path(), format!("shard-{n}"), |lun| lun.atomic_write = 1 << 20)
    });
    let verdicts: BTreeMap<String, Verdict> =
        futures::future::join_all(runs).await.into_iter().flatten().collect();
    let count = |wanted: fn(&Verdict) -> bool| verdicts.values().filter(|v| wanted(v)).count();
    let passed = count(|v| *v == Verdict::Passed);
    let skipped = count(|v| *v == Verdict::Skipped);
    let failed: Vec<_> = verdicts
        .iter()
        .filter(|(test, v)| matches!(v, Verdict::Failed(_)) && !BROKEN.iter().any(|(name, _)| name == test))
        .collect();
    println!("{passed} passed, {} failed, {skipped} skipped", failed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(passed >= 210, "only {passed} passed");
}

/// What the suite skips on a plain unit: it wants a removable one, and a read-only one.
#[tokio::test(flavor = "multi_thread")]
async fn conformance_of_other_units() {
    let dir = tempfile::tempdir().unwrap();
    let (mut removable, mut protected) = (Vec::new(), Vec::new());
    for test in conformance_tests().await {
        match test.split('.').nth(1) {
            Some("PreventAllow" | "StartStopUnit" | "NoMedia") => removable.push(test),
            Some("ReadOnly") => protected.push(test),
            _ => {}
        }
    }
    assert_eq!((removable.len(), protected.len()), (12, 1));
    let (removable, protected) = tokio::join!(
        conformance_shard(removable, dir.path(), "removable".into(), |lun| lun.removable = true),
        conformance_shard(protected, dir.path(), "protected".into(), |lun| lun.read_only = true),
    );
    for (test, verdict) in removable.into_iter().chain(protected) {
        assert_eq!(verdict, Verdict::Passed, "{test}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libiscsi_lists_and_identifies() {
    let target = target().await;
    let secret = chap("lister", "a secret of 20 bytes");
    let mut export = export(Memory::new(64 << 20), Access::Chap(secret.clone()));
    export.luns[0].serial = "serial-0001".into();
    export.luns.push(Lun::new(5, Memory::new(1 << 20), Uuid::from_u128(5)));
    target.put(export).await.unwrap();
    let server = format!("iscsi://{}%{}@{}", secret.user, secret.secret.expose(), portal(&target));
    let output = libiscsi("iscsi-ls", &["-s", &server]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("Target:{IQN} Portal:{},1", portal(&target))), "{text}");
    assert!(text.contains("Lun:0 ") && text.contains("Lun:5 "), "{text}");
    let output = libiscsi("iscsi-inq", &[&url(&target, Some(&secret))]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Vendor:CINDER") && text.contains("Product:cinderblock"), "{text}");
    let output = libiscsi("iscsi-inq", &["-e", "1", "-c", "128", &url(&target, Some(&secret))]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("serial-0001"), "{text}");
    target.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_keeps_its_data_behind_chap() {
    let dir = tempfile::tempdir().unwrap();
    let device = sparse(dir.path(), "volume", 64 * MIB, 4096);
    let target = target().await;
    let secret = chap("qemu", "a secret of 20 bytes");
    target.put(export(device.clone(), Access::Chap(secret.clone()))).await.unwrap();
    let address = url(&target, Some(&secret));
    qemu_io(
        &address,
        &[
            "write -P 0x5a 1M 4M",
            "write -P 0x11 33k 3k",
            "write -z 2M 1M",
            "discard 3M 1M",
            "flush",
            "read -P 0x5a 1M 1M",
        ],
    )
    .await
    .unwrap();
    // A second connection sees the same, and the medium has it.
    qemu_io(&address, &["read -P 0x11 33k 3k", "read -P 0 2M 2M", "read -P 0x5a 4M 1M", "read -P 0 5M 59M"])
        .await
        .unwrap();
    let mut medium = vec![0; 4096];
    device.read(MIB, &mut medium).await.unwrap();
    assert_eq!(medium, vec![0x5a; 4096]);
    assert!(qemu_io(&address, &["read -P 0x5b 1M 1M"]).await.is_err(), "a wrong pattern must be noticed");
    let wrong = chap("qemu", "not the secret, 20 b");
    let refused = qemu_io(&url(&target, Some(&wrong)), &["read 0 512"]).await.unwrap_err();
    assert!(refused.contains("Authentication failure"), "{refused}");
    assert!(qemu_io(&url(&target, None), &["read 0 512"]).await.is_err());
    target.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_converts_an_image_onto_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.raw");
    std::fs::write(&image, pattern(24 << 20, 5)).unwrap();
    let device = sparse(dir.path(), "volume", 24 * MIB, 512);
    let target = serving(device.clone()).await;
    let (image, address) = (image.to_str().unwrap(), url(&target, None));
    let args = ["convert", "-n", "-f", "raw", "-O", "raw", "-m", "8", "-W", image, &address];
    let output = run("qemu-img", "qemu-utils qemu-block-extra", &args).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let args = ["compare", "-f", "raw", "-F", "raw", image, &address];
    let output = run("qemu-img", "qemu-utils qemu-block-extra", &args).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(std::fs::read(dir.path().join("volume")).unwrap() == pattern(24 << 20, 5));
    target.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_initiators_work_side_by_side() {
    let target = serving(Memory::new(64 << 20)).await;
    let address = url(&target, None);
    let writes = |pattern: u8, base: u64| {
        let address = address.clone();
        async move {
            let mut commands = Vec::new();
            for n in 0..16 {
                commands.push(format!("aio_write -q -P {pattern} {}k 256k", base + n * 1024));
            }
            commands.push("aio_flush".into());
            for n in 0..16 {
                commands.push(format!("read -q -P {pattern} {}k 256k", base + n * 1024));
            }
            let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
            qemu_io(&address, &commands).await
        }
    };
    let (one, two) = tokio::join!(writes(0xaa, 0), writes(0xbb, 512));
    one.unwrap();
    two.unwrap();
    qemu_io(&address, &["read -P 0xaa 15M 256k", "read -P 0xbb 15872k 256k"]).await.unwrap();
    target.shutdown().await;
}

/// A connected qemu-io that takes commands one by one.
struct Qemu {
    child: tokio::process::Child,
    input: tokio::process::ChildStdin,
}

impl Qemu {
    fn connect(target: &Target) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", "raw", &url(target, None)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("qemu-io runs: apt-get install qemu-utils qemu-block-extra");
        let input = child.stdin.take().unwrap();
        Self { child, input }
    }

    async fn say(&mut self, commands: &str) {
        self.input.write_all(commands.as_bytes()).await.unwrap();
    }

    /// Waits until it has ended; all that it said.
    async fn leave(self) -> String {
        drop(self.input);
        let output = tokio::time::timeout(LIMIT, self.child.wait_with_output()).await.unwrap().unwrap();
        words(&output)
    }
}

/// A connected QEMU sees the size change without connecting again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connected_qemu_sees_the_unit_grow() {
    let device = Memory::new(16 << 20);
    let target = serving(device.clone()).await;
    let mut qemu = Qemu::connect(&target);
    until(|| target.sessions().len() == 1).await;
    let before = target.sessions()[0].tsih;
    device.grow(32 << 20);
    target.capacity_changed(IQN, 0).unwrap();
    // The first request meets the unit attention; `truncate` makes QEMU look at the size again.
    qemu.say("read 0 512\ntruncate 33554432\nlength\nwrite -P 0x77 31M 1M\nquit\n").await;
    let text = qemu.leave().await;
    assert!(text.contains("32 MiB") && text.contains("wrote 1048576/1048576"), "{text}");
    assert_eq!(device.bytes(31 << 20, 4), [0x77; 4]);
    assert_eq!(before, 1, "one session all the time");
    target.shutdown().await;
}

/// A target that goes away and comes back is found again by a connected libiscsi.
#[tokio::test(flavor = "multi_thread")]
async fn a_connected_qemu_survives_a_restart_of_the_target() {
    let device = Memory::new(16 << 20);
    let first = serving(device.clone()).await;
    let address = first.portals()[0];
    let mut qemu = Qemu::connect(&first);
    qemu.say("write -P 0x21 0 1M\nflush\n").await;
    until(|| first.sessions().first().is_some_and(|s| s.bytes_written >= MIB)).await;
    first.shutdown().await;
    let second = Target::bind(TargetConfig::new(vec![address])).await.unwrap();
    second.put(open(device.clone())).await.unwrap();
    second.start();
    qemu.say("read -P 0x21 0 1M\nwrite -P 0x22 1M 1M\nquit\n").await;
    let text = qemu.leave().await;
    assert!(
        text.contains("read 1048576/1048576") && text.matches("wrote 1048576/1048576").count() == 2,
        "{text}"
    );
    assert!(!text.contains("verification failed"), "{text}");
    assert_eq!(device.bytes(1 << 20, 4), [0x22; 4]);
    second.shutdown().await;
}
