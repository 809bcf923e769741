//! What the embedded database has acknowledged survives (I1, I7): a killed process, and the loss of power.
//!
//! - A writer process is killed at random moments; every commit that it told of must be there, in order and without gaps.
//! - Loss of power: the database lies on an ext4 on a loop device whose backing file lies on XFS, where a reflink copies
//!   it in one instant. Such a copy is the disk as the power fails: it has what was written to the device, and nothing of
//!   what was only in the page cache above it. The copy is mounted (the journal replays), and again every commit that was
//!   told of before must be there. The same with `synchronous = OFF` must lose commits, or the test would see nothing.
//! - A device may lose what it has not been told to flush; the copies cannot show that. Instead the flushes that reach
//!   the device are counted: at least one for each commit that is told of alone.
//!
//! Not shown: a device that lies about its flushes, and damage that a failing disk does to other sectors.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db::event::{By, Change};
use db::sql::sql;
use db::{Db, Read as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Executor as _};

use crate::support::{Dice, Kind, Lab, run};

/// Tells the writer where its database is, and how many write at once.
pub const PATH: &str = "CINDERBLOCK_WRITER_DATABASE";
pub const WRITERS: &str = "CINDERBLOCK_WRITERS";
/// How much each writes; without it they write until they are killed.
pub const LIMIT: &str = "CINDERBLOCK_WRITER_LIMIT";
const UNSAFE: &str = "CINDERBLOCK_WRITER_UNSAFE";

#[test]
fn every_connection_flushes_before_it_acknowledges() {
    run(async {
        let lab = Lab::fresh(Kind::Sqlite).await;
        let mut tx = lab.db.begin().await.unwrap();
        for (pragma, wanted) in [("journal_mode", "wal"), ("synchronous", "2"), ("foreign_keys", "1")] {
            let text = format!("SELECT CAST({pragma} AS TEXT) AS v FROM pragma_{pragma}");
            let row = tx.row(sql(text)).await.unwrap().unwrap();
            assert_eq!(row.get::<String>("v").unwrap(), wanted, "{pragma} of the writer");
        }
        drop(tx);
        let mut reading = Vec::new();
        for _ in 0..8 {
            let db = lab.db.clone();
            reading.push(tokio::spawn(async move {
                let row =
                    db.read().row(sql("SELECT synchronous AS v FROM pragma_synchronous")).await.unwrap();
                row.unwrap().get::<i64>("v").unwrap()
            }));
        }
        for read in reading {
            assert_eq!(read.await.unwrap(), 2, "a reader may be the one that recovers the log");
        }
    });
}

/// Not a test by itself: the process that the tests below kill. It writes until then, and tells what is committed.
#[test]
fn writer_process() {
    let Some(path) = std::env::var_os(PATH) else { return };
    let writers: usize = std::env::var(WRITERS).ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    run(async move {
        if std::env::var_os(UNSAFE).is_some() {
            return write_carelessly(Path::new(&path)).await;
        }
        let db = open(Path::new(&path)).await;
        let mut writing = Vec::new();
        for writer in 0..writers {
            let db = db.clone();
            writing.push(tokio::spawn(async move { write(db, writer).await }));
        }
        for written in writing {
            written.await.unwrap();
        }
    });
}

async fn open(path: &Path) -> Db {
    let db = Db::connect(&format!("sqlite:///{}", path.display()), 2).await.expect("opens");
    db::schema::migrate(&db).await.expect("has its schema");
    db
}

async fn write(db: Db, writer: usize) {
    let id = format!("w{writer}");
    let limit = std::env::var(LIMIT).ok().and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let before = stored(&db).await.get(&writer).map_or(0, Vec::len);
    for n in before + 1..=limit {
        let to = n.to_string();
        let mut tx = db.begin().await.unwrap();
        let change =
            Change { kind: "volume", id: &id, from: None, to: Some(&to), by: By::default(), detail: None };
        db::event::append(&mut tx, change).await.unwrap();
        tx.commit().await.unwrap();
        tell(writer, n);
    }
}

fn tell(writer: usize, n: usize) {
    // One write a line, past the test harness's own buffers.
    let line = format!("ack {writer} {n}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush()).unwrap();
}

/// As above, but without flushing: what the tests must be able to see.
async fn write_carelessly(path: &Path) {
    open(path).await.close().await;
    let options = SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Wal);
    let mut conn = options.synchronous(SqliteSynchronous::Off).connect().await.unwrap();
    for n in 1.. {
        let text = format!(
            "INSERT INTO events (at, kind, resource_id, to_status) VALUES (0, 'volume', 'w0', '{n}')"
        );
        conn.execute(sqlx::AssertSqlSafe(text)).await.unwrap();
        tell(0, n);
    }
}

/// What each writer has in the database, in order.
async fn stored(db: &Db) -> BTreeMap<usize, Vec<usize>> {
    let mut out: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let rows = "SELECT resource_id AS w, to_status AS n FROM events WHERE resource_id LIKE 'w%' ORDER BY id";
    for row in db.read().rows(sql(rows)).await.unwrap() {
        let (writer, n) = (row.get::<String>("w").unwrap(), row.get::<String>("n").unwrap());
        out.entry(writer[1..].parse().unwrap()).or_default().push(n.parse().unwrap());
    }
    out
}

pub type Told = BTreeMap<usize, usize>;

/// A running writer and what it has told of so far.
struct Writer {
    child: Child,
    told: Arc<Mutex<Told>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    fn start(path: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("ourselves"));
        command.args(["--exact", "durability::writer_process", "--nocapture"]).env(PATH, path);
        command
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("a writer");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let told = Arc::new(Mutex::new(Told::new()));
        let hears = told.clone();
        let listener = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The harness begins the first line with the test's name.
                let Some((_, numbers)) = line.split_once("ack ") else { continue };
                let Some((writer, n)) = numbers.split_once(' ') else { continue };
                if let (Ok(writer), Ok(n)) = (writer.parse(), n.parse()) {
                    hears.lock().unwrap().insert(writer, n);
                }
            }
        });
        Self { child, told, listener: Some(listener) }
    }

    /// Waits until it has told of `more` further commits.
    fn wait_for(&mut self, more: usize) {
        let sum = |told: &Told| told.values().sum::<usize>();
        let until = sum(&self.told.lock().unwrap()) + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        while sum(&self.told.lock().unwrap()) < until {
            assert!(Instant::now() < deadline, "the writer stands still");
            assert!(self.child.try_wait().unwrap().is_none(), "the writer has ended");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// Kills it; answers with everything that it has told, to the last.
    fn kill(&mut self) -> Told {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            listener.join().unwrap();
        }
        self.told()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How many commits that were told of are not there. Whatever is there must be whole, in order and without gaps.
pub async fn missing(path: &Path, told: &Told) -> usize {
    let db = open(path).await;
    let row = db.read().row(sql("SELECT integrity_check AS v FROM pragma_integrity_check")).await.unwrap();
    assert_eq!(row.unwrap().get::<String>("v").unwrap(), "ok");
    let stored = stored(&db).await;
    for (writer, numbers) in &stored {
        assert!(numbers.iter().copied().eq(1..=numbers.len()), "writer {writer}: {numbers:?}");
    }
    db.close().await;
    told.iter().map(|(writer, n)| n.saturating_sub(stored.get(writer).map_or(0, Vec::len))).sum()
}

#[test]
#[ignore = "measures for seconds; run by full"]
fn durable_commits_a_second() {
    const SECONDS: u64 = 3;
    for writers in ["1", "4", "16"] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::start(&folder.path().join("cinder.sqlite"), &[(WRITERS, writers)]);
        writer.wait_for(100);
        let (begun, before) = (Instant::now(), writer.told().values().sum::<usize>());
        std::thread::sleep(Duration::from_secs(SECONDS));
        let commits = writer.told().values().sum::<usize>() - before;
        let rate = commits as f64 / begun.elapsed().as_secs_f64();
        println!("figure: durable commits a second, {writers} writers, debug build = {rate:.0}");
        assert!(commits > 0);
    }
}

#[test]
fn i1_what_was_acknowledged_survives_a_killed_process() {
    const KILLS: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cinder.sqlite");
    let mut dice = Dice(Dice::seed());
    let mut told = Told::new();
    for _ in 0..KILLS {
        let mut writer = Writer::start(&path, &[]);
        writer.wait_for(1 + dice.roll(120));
        told.extend(writer.kill());
        run(async { assert_eq!(missing(&path, &told).await, 0, "{told:?}") });
    }
    println!("figure: commits of a killed writer checked = {}", told.values().sum::<usize>());
}

/// A mount, gone with this value.
struct Mount(PathBuf);

impl Mount {
    fn of(image: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        tool("mount", &["-o", "loop", &image.to_string_lossy(), &at.to_string_lossy()]);
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Runs a program that must succeed.
fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output().unwrap_or_else(|error| {
        panic!("{name}: {error}; this suite needs root and the Debian packages xfsprogs and e2fsprogs")
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{name} {args:?}: {said}{} (loop mounts need root)",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

fn image(path: &Path, size: u64, make: &str, args: &[&str]) {
    std::fs::File::create(path).unwrap().set_len(size).unwrap();
    tool(make, &[args, &[&*path.to_string_lossy()]].concat());
}

/// An ext4 on a loop device whose backing file can be copied in one instant. The fields go in the order of unmounting.
struct Disk {
    ext4: Mount,
    _xfs: Mount,
    folder: tempfile::TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (outer, store) = (folder.path().join("outer.img"), folder.path().join("store"));
        image(&outer, 512 << 20, "mkfs.xfs", &["-q", "-m", "reflink=1"]);
        let xfs = Mount::of(&outer, &store);
        image(&store.join("disk.img"), 128 << 20, "mkfs.ext4", &["-q", "-F"]);
        let ext4 = Mount::of(&store.join("disk.img"), &folder.path().join("disk"));
        Self { ext4, _xfs: xfs, folder }
    }

    fn database(&self) -> PathBuf {
        self.ext4.0.join("cinder.sqlite")
    }

    /// What a start after a loss of power at this instant would find: how many commits of `told` are missing.
    fn missing_after_power_loss(&self, told: &Told) -> usize {
        let store = self.folder.path().join("store");
        let (disk, copy) = (store.join("disk.img"), store.join("copy.img"));
        tool("cp", &["--reflink=always", &disk.to_string_lossy(), &copy.to_string_lossy()]);
        let mount = Mount::of(&copy, &self.folder.path().join("copy"));
        let path = mount.0.join("cinder.sqlite");
        let lost = Arc::new(Mutex::new(0));
        let found = lost.clone();
        let told = told.clone();
        run(async move { *found.lock().unwrap() = missing(&path, &told).await });
        drop(mount);
        std::fs::remove_file(copy).unwrap();
        let lost = lost.lock().unwrap();
        *lost
    }

    /// How many flushes the device has completed.
    fn flushes(&self) -> u64 {
        let source = tool("findmnt", &["-n", "-o", "SOURCE", &self.ext4.0.to_string_lossy()]);
        let name = source.trim().rsplit('/').next().unwrap().to_owned();
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        // The sixteenth field: flush requests (Linux's Documentation/block/stat.rst).
        stat.split_whitespace().nth(15).expect("a kernel that counts flushes").parse().unwrap()
    }
}

#[test]
fn i7_what_was_acknowledged_survives_the_loss_of_power() {
    const LOSSES: usize = 10;
    let disk = Disk::new();
    let mut dice = Dice(Dice::seed());
    let mut writer = Writer::start(&disk.database(), &[]);
    let mut checked = 0;
    for _ in 0..LOSSES {
        writer.wait_for(1 + dice.roll(200));
        let told = writer.told();
        assert_eq!(disk.missing_after_power_loss(&told), 0, "{told:?}");
        checked = told.values().sum();
    }
    println!("figure: commits before a loss of power checked = {checked}");
}

#[test]
fn the_loss_of_power_is_seen_when_nothing_is_flushed() {
    let disk = Disk::new();
    let mut writer = Writer::start(&disk.database(), &[(UNSAFE, "1")]);
    let mut lost = 0;
    for _ in 0..3 {
        writer.wait_for(200);
        lost += disk.missing_after_power_loss(&writer.told());
    }
    assert!(lost > 0, "commits that were not flushed survived: the test shows nothing");
}

/// Commits that wait for one another are flushed together.
#[test]
fn commits_that_come_together_share_a_flush() {
    let disk = Disk::new();
    let mut writer = Writer::start(&disk.database(), &[(WRITERS, "16")]);
    writer.wait_for(100);
    let sum = |told: Told| told.values().sum::<usize>();
    let (flushes, told) = (disk.flushes(), sum(writer.told()));
    writer.wait_for(1000);
    let (commits, flushed) = (sum(writer.told()) - told, disk.flushes() - flushes);
    println!("figure: flushes for {commits} commits of 16 writers = {flushed}");
    assert!(flushed < commits as u64, "{flushed} flushes for {commits} commits");
}

#[test]
fn i7_every_acknowledged_commit_is_flushed() {
    let disk = Disk::new();
    let mut writer = Writer::start(&disk.database(), &[(WRITERS, "1")]);
    writer.wait_for(1);
    let (told, flushes) = (writer.told(), disk.flushes());
    writer.wait_for(100);
    // In this order: what is told of by then has been flushed by then.
    let (told_then, flushes_then) = (writer.told(), disk.flushes());
    let (commits, flushed) = (told_then[&0] - told[&0], flushes_then - flushes);
    assert!(flushed as usize + 1 >= commits, "{flushed} flushes for {commits} commits");
    println!("figure: flushes for {commits} commits = {flushed}");
}
