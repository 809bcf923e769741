//! Several processes on one directory: who has a volume, what the death of one leaves (I4, I7), and what one that was
//! stopped past its lease may still do (nothing, I4).
//!
//! The children are this very program, told by `ROLE` to be something else than a test.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use common::{Rng, claim, driver, seed, snapshot, volume};
use drivers::file::FileDriver;
use drivers::{Driver, ErrorKind, Found, OpenMode, Openable, Provider, SnapshotRef, Source, VolumeRef};
use model::block::Device;
use model::job::Claim;
use model::{GiB, JobId, SnapshotId, VolumeId};
use rustix::process::{Pid, Signal, kill_process};

const MIB: u64 = 1 << 20;
/// Where a writing child puts its numbers.
const PLACES: [u64; 2] = [5 * MIB, 900 * MIB];

/// A child in a role, spoken to by lines.
struct Actor {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Actor {
    fn start(role: &str, args: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env("ROLE", role)
            .env("ROLE_ARGS", args.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, lines }
    }

    /// The next line it says to us; `None` when it has ended.
    fn hear(&mut self) -> Option<String> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|l| l.split_once("=> ").map(|(_, said)| said.to_owned()))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it the hard way, and returns what it had said until then.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // After a line break, because the test harness may have begun a line of its own.
    let _ = writeln!(out, "\n=> {text}");
    let _ = out.flush();
}

/// Not a test: what a child does. Without a role there is nothing to do.
#[test]
fn child() {
    let Ok(role) = std::env::var("ROLE") else { return };
    let args: Vec<String> = std::env::var("ROLE_ARGS").unwrap().split(' ').map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let driver = driver(Path::new(&args[0])).await;
        match role.as_str() {
            "hold" => hold(&driver, &known(&args[1])).await,
            "write" => write(&driver, &known(&args[1])).await,
            "snapshots" => snapshots(&driver, &known(&args[1]), &args[2..]).await,
            "clone" => clone(driver, &known(&args[1]), &known(&args[2]), &args[3]).await,
            other => panic!("no role {other}"),
        }
    });
}

/// A volume by its id, of 1 GiB.
fn known(id: &str) -> VolumeRef {
    let id = VolumeId::from_str(id).unwrap();
    VolumeRef { id, ..volume(1) }.named()
}

trait Named {
    fn named(self) -> Self;
}

impl Named for VolumeRef {
    fn named(self) -> Self {
        Self { name: format!("volume-{}", self.id), ..self }
    }
}

fn known_snapshot(id: &str, volume: &VolumeRef) -> SnapshotRef {
    let id = SnapshotId::from_str(id).unwrap();
    SnapshotRef {
        id,
        name: format!("snapshot-{id}"),
        size: GiB(1),
        provider: Provider::default(),
        volume: volume.clone(),
    }
}

async fn open(driver: &FileDriver, volume: &VolumeRef) -> Device {
    driver.open(Openable::Volume(volume), OpenMode::Write).await.unwrap()
}

/// Has a volume open until it is told to go on.
async fn hold(driver: &FileDriver, volume: &VolumeRef) {
    let device = open(driver, volume).await;
    device.write(0, &[42; 512]).await.unwrap();
    say("open");
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(device);
    say("closed");
}

/// Writes one number after the other to both places, and says which are acknowledged.
async fn write(driver: &FileDriver, volume: &VolumeRef) {
    let device = open(driver, volume).await;
    for number in 1u64.. {
        let data = number.to_le_bytes().repeat(64);
        for (i, place) in (0..).zip(PLACES) {
            device.write(place, &data).await.unwrap();
            device.write(place + MIB + number % 8192 * 4096 + i * 512, &data).await.unwrap();
        }
        say(&number.to_string());
        if number.is_multiple_of(64) {
            device.flush().await.unwrap();
        }
    }
}

/// Takes and deletes snapshots, some of them over and over, under its own writes.
async fn snapshots(driver: &FileDriver, volume: &VolumeRef, ids: &[String]) {
    let device = open(driver, volume).await;
    let loaded = device.clone();
    let load = tokio::spawn(async move {
        for number in 1u64.. {
            for place in PLACES {
                let at = place + MIB + number % 8192 * 4096;
                loaded.write(at, &number.to_le_bytes().repeat(512)).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    });
    say("begun");
    for round in 0.. {
        let s = known_snapshot(&ids[round % ids.len()], volume);
        driver.create_snapshot(&s, &claim()).await.unwrap();
        let s = known_snapshot(&ids[(round * 7 + 3) % ids.len()], volume);
        driver.delete_snapshot(&s, &claim()).await.unwrap();
    }
    load.abort();
}

/// Clones a volume under a short lease that nobody renews.
async fn clone(driver: FileDriver, source: &VolumeRef, copy: &VolumeRef, job: &str) {
    let claim = Claim::new(JobId::from_str(job).unwrap(), 1, Duration::from_secs(2));
    let (source, copy, running) = (source.clone(), copy.clone(), claim.clone());
    let work =
        tokio::spawn(async move { driver.create_volume(&copy, Source::Volume(&source), &running).await });
    while claim.progress().0 < 8 * MIB && !work.is_finished() {
        tokio::task::yield_now().await;
    }
    say("copying");
    match work.await.unwrap() {
        Ok(_) => say("made"),
        Err(e) => say(&format!("{:?}", e.kind)),
    }
}

async fn numbers(device: &Device) -> [u64; 2] {
    let mut found = [0; 2];
    for (number, place) in found.iter_mut().zip(PLACES) {
        let mut buf = [0; 512];
        device.read(place, &mut buf).await.unwrap();
        *number = u64::from_le_bytes(buf[..8].try_into().unwrap());
        assert!(buf.chunks(8).all(|c| c == number.to_le_bytes()), "a write is torn");
    }
    found
}

#[tokio::test]
async fn i7_a_volume_has_one_owner_and_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    let args = [dir.path().display().to_string(), v.id.to_string()];
    let mut actor = Actor::start("hold", &args);
    assert_eq!(actor.hear().as_deref(), Some("open"));
    let busy = |e: drivers::DriverError| assert_eq!(e.kind, ErrorKind::Busy, "{e}");
    busy(here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap_err());
    busy(here.create_snapshot(&snapshot(&v), &claim()).await.unwrap_err());
    busy(here.delete_volume(&v, &claim()).await.unwrap_err());
    // A stopped process has it still; a dead one has not.
    actor.signal(Signal::STOP);
    busy(here.open(Openable::Volume(&v), OpenMode::Write).await.unwrap_err());
    actor.kill();
    let device = open(&here, &v).await;
    let mut first = [0; 512];
    device.read(0, &mut first).await.unwrap();
    assert_eq!(first, [42; 512]);
    drop(device);
    // One that closes it gives it back while it lives.
    let mut actor = Actor::start("hold", &args);
    assert_eq!(actor.hear().as_deref(), Some("open"));
    actor.input.write_all(b"go on\n").unwrap();
    assert_eq!(actor.hear().as_deref(), Some("closed"));
    drop(open(&here, &v).await);
}

#[tokio::test]
async fn i7_no_acknowledged_write_dies_with_its_process() {
    let mut rng = Rng::new(seed(11));
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    for round in 0..6 {
        // Raw at first, then over ever more overlays.
        if round > 1 {
            here.create_snapshot(&snapshot(&v), &claim()).await.unwrap();
        }
        let mut actor = Actor::start("write", &[dir.path().display().to_string(), v.id.to_string()]);
        for _ in 0..100 + rng.below(400) {
            actor.hear().unwrap();
        }
        let last: u64 = actor.kill().last().map_or(1, |n| n.parse().unwrap());
        let device = open(&here, &v).await;
        let [a, b] = numbers(&device).await;
        assert!(a >= last && b >= last && a - b <= 1, "{last} was acknowledged, {a} and {b} are there");
    }
}

#[tokio::test]
async fn i4_snapshots_survive_the_death_of_their_owner() {
    let mut rng = Rng::new(seed(5));
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let v = volume(1);
    here.create_volume(&v, Source::Blank, &claim()).await.unwrap();
    let device = open(&here, &v).await;
    device.write(0, &[1; 65536]).await.unwrap();
    let kept = snapshot(&v);
    here.create_snapshot(&kept, &claim()).await.unwrap();
    device.write(0, &[2; 65536]).await.unwrap();
    device.flush().await.unwrap();
    drop(device);
    let ids: Vec<String> = (0..5).map(|_| SnapshotId::new().to_string()).collect();
    let args = [&[dir.path().display().to_string(), v.id.to_string()][..], &ids].concat();
    for round in 0..12 {
        let mut actor = Actor::start("snapshots", &args);
        assert_eq!(actor.hear().as_deref(), Some("begun"));
        tokio::time::sleep(Duration::from_millis(rng.below(150))).await;
        actor.kill();
        // Whatever was cut off is done again, or the other way round.
        for id in &ids {
            let s = known_snapshot(id, &v);
            if rng.once_in(2) {
                // Also where a deletion of the same was cut off.
                here.create_snapshot(&s, &claim()).await.unwrap();
                here.open(Openable::Snapshot(&s), OpenMode::Read).await.unwrap();
            } else {
                here.delete_snapshot(&s, &claim()).await.unwrap();
            }
        }
        let mut buf = vec![0; 65536];
        let reader = here.open(Openable::Snapshot(&kept), OpenMode::Read).await.unwrap();
        reader.read(0, &mut buf).await.unwrap();
        assert!(buf.iter().all(|b| *b == 1), "round {round}: the kept snapshot has changed");
        let device = open(&here, &v).await;
        device.read(0, &mut buf).await.unwrap();
        assert!(buf.iter().all(|b| *b == 2), "round {round}: the volume has changed");
    }
    for id in &ids {
        here.delete_snapshot(&known_snapshot(id, &v), &claim()).await.unwrap();
    }
    for found in here.list().await.unwrap() {
        match found {
            Found::Intermediate { name, .. } => here.discard_intermediate(&name).await.unwrap(),
            Found::Volume { id, .. } => assert_eq!(id, v.id),
            Found::Snapshot { id, .. } => assert_eq!(id, kept.id),
            Found::Foreign { name } => panic!("{name} is left"),
        }
    }
    here.delete_snapshot(&kept, &claim()).await.unwrap();
    here.delete_volume(&v, &claim()).await.unwrap();
    assert_eq!(here.list().await.unwrap(), []);
}

/// One try to stop a clone while it copies. `None` when it was too quick.
async fn stopped_clone(here: &FileDriver, dir: &Path, source: &VolumeRef) -> Option<()> {
    let (copy, job) = (volume(1), JobId::new());
    let ids = [source.id.to_string(), copy.id.to_string(), job.to_string()];
    let mut actor = Actor::start("clone", &[&[dir.display().to_string()][..], &ids].concat());
    let leased = Claim::new(job, 1, Duration::from_secs(2));
    assert_eq!(actor.hear().as_deref(), Some("copying"));
    actor.signal(Signal::STOP);
    tokio::time::sleep(leased.left()).await;
    // Another takes the job over, finishes it, and the volume is used.
    let claim = Claim::new(job, 2, Duration::from_secs(3600));
    here.create_volume(&copy, Source::Volume(source), &claim).await.unwrap();
    let device = open(here, &copy).await;
    device.write(0, &[99; MIB as usize]).await.unwrap();
    device.flush().await.unwrap();
    drop(device);
    actor.signal(Signal::CONT);
    let said = actor.hear().unwrap();
    let device = open(here, &copy).await;
    let mut buf = vec![0; MIB as usize];
    device.read(0, &mut buf).await.unwrap();
    assert!(buf.iter().all(|b| *b == 99), "the stopped owner has overwritten what another made");
    device.read(100 * MIB, &mut buf).await.unwrap();
    assert!(buf.iter().all(|b| *b == 100), "the copy is not whole");
    drop(device);
    here.delete_volume(&copy, &claim).await.unwrap();
    (said != "made").then(|| assert_eq!(said, "Stopped(LeaseLost)"))
}

#[tokio::test]
async fn i4_a_stopped_owner_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let here = driver(dir.path()).await;
    let source = volume(1);
    here.create_volume(&source, Source::Blank, &claim()).await.unwrap();
    let device = open(&here, &source).await;
    for i in 0..400u64 {
        device.write(i * MIB, &vec![i as u8; MIB as usize]).await.unwrap();
    }
    device.flush().await.unwrap();
    drop(device);
    let mut met = false;
    for _ in 0..5 {
        met = stopped_clone(&here, dir.path(), &source).await.is_some();
        if met {
            break;
        }
    }
    assert!(met, "the clone was never stopped while it copied");
    for found in here.list().await.unwrap() {
        if let Found::Intermediate { name, .. } = found {
            here.discard_intermediate(&name).await.unwrap();
        }
    }
    here.delete_volume(&source, &claim()).await.unwrap();
    assert_eq!(here.list().await.unwrap(), []);
}
