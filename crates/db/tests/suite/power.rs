//! Every write of the embedded database, replayed to a loss of power at any of them (I1, I7).
//!
//! A writer runs under `strace`, which records what it really asks of the kernel: every write to the database's files,
//! every flush, and what it tells of. The recording is cut at any call; what was flushed by then is on the disk, of what
//! was not, any sectors may be: none, all, or a random part of them, so that writes are torn and out of order. From each
//! such disk the database is opened as the service does. Everything that was told of before the cut must be there, in
//! order and without gaps, and the files be sound.
//!
//! `durability.rs` shows the same with a real device; here the device may lose and tear whatever it is allowed to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::durability::{LIMIT, PATH, Told, WRITERS, missing};
use crate::support::{Dice, run};

const SECTOR: usize = 512;
/// Enough that the log is brought into the database's file and begins anew.
const COMMITS: usize = 600;
const AT_ONCE: usize = 2;

/// What the writer asked for, in order.
#[derive(Debug)]
enum Call {
    /// Opens a file, making it unless it is there.
    Make {
        file: String,
    },
    Write {
        file: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        file: String,
        size: usize,
    },
    Remove {
        file: String,
    },
    /// Has completed: all that was asked for before `begun` is on the disk.
    Flush {
        file: String,
        begun: usize,
    },
    Tell {
        writer: usize,
        n: usize,
    },
}

/// What a disk may hold of a file.
#[derive(Debug, Default, Clone)]
struct Disk(BTreeMap<String, Vec<u8>>);

/// What becomes of a write that nobody flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unflushed {
    Lost,
    Kept,
    /// Some sectors of it.
    Torn,
}

#[test]
fn i7_a_cut_at_any_write_keeps_what_was_acknowledged() {
    let calls = record();
    let first_told =
        calls.iter().position(|call| matches!(call, Call::Tell { .. })).expect("it told of something");
    assert!(rewrites(&calls[first_told..]) > 0, "the log is brought in while commits are told of");
    let mut dice = Dice(Dice::seed());
    let mut cuts: BTreeSet<usize> = (0..60).map(|_| dice.roll(calls.len() + 1)).collect();
    // Where it is most delicate: around the calls that make, cut, begin anew and flush the files.
    let delicate = calls.iter().enumerate().filter(|(_, call)| is_delicate(call));
    cuts.extend(delicate.flat_map(|(at, _)| [at, at + 1]));
    check(&calls, cuts, &mut dice);
}

#[test]
#[ignore = "opens a database for each of thousands of writes; run by full"]
fn i7_a_cut_at_every_write_keeps_what_was_acknowledged() {
    let calls = record();
    check(&calls, (0..=calls.len()).collect(), &mut Dice(Dice::seed()));
}

fn check(calls: &[Call], cuts: BTreeSet<usize>, dice: &mut Dice) {
    let mut checked = 0;
    for cut in cuts {
        for unflushed in [Unflushed::Lost, Unflushed::Kept, Unflushed::Torn] {
            let (disk, told) = replay(&calls[..cut], unflushed, dice);
            let folder = disk.store();
            let path = folder.path().join("cinder.sqlite");
            let lost = run_for(move || async move { missing(&path, &told).await });
            assert_eq!(lost, 0, "cut before call {cut} of {}, unflushed writes {unflushed:?}", calls.len());
            checked += 1;
        }
    }
    println!("figure: losses of power replayed = {checked}");
}

/// The same without what was flushed must lose commits, or the test would see nothing.
#[test]
fn a_cut_is_seen_when_a_flush_is_forgotten() {
    let calls: Vec<Call> = record().into_iter().filter(|call| !matches!(call, Call::Flush { .. })).collect();
    let (disk, told) = replay(&calls, Unflushed::Lost, &mut Dice(1));
    let folder = disk.store();
    let path = folder.path().join("cinder.sqlite");
    assert!(run_for(move || async move { missing(&path, &told).await }) > 0);
}

fn run_for<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    work: impl FnOnce() -> F + Send + 'static,
) -> T {
    let (tx, rx) = std::sync::mpsc::channel();
    run(async move { tx.send(work().await).expect("it is waited for") });
    rx.recv().expect("it was sent")
}

/// How often the database's own file is flushed.
fn rewrites(calls: &[Call]) -> usize {
    calls.iter().filter(|call| matches!(call, Call::Flush { file, .. } if file == "cinder.sqlite")).count()
}

fn is_delicate(call: &Call) -> bool {
    match call {
        Call::Make { .. } | Call::Cut { .. } | Call::Remove { .. } => true,
        // A log that begins anew overwrites its first bytes.
        Call::Write { file, at, .. } => *at == 0 && file.ends_with("-wal"),
        Call::Flush { file, .. } => file == "cinder.sqlite",
        Call::Tell { .. } => false,
    }
}

/// The disk after these calls, and what had been told of.
fn replay(calls: &[Call], unflushed: Unflushed, dice: &mut Dice) -> (Disk, Told) {
    // Which calls had certainly reached the disk: those before the last flush of their file began.
    let mut flushed: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        if let Call::Flush { file, begun } = call {
            flushed.insert(file, *begun);
        }
    }
    let is_safe = |file: &str, at: usize| flushed.get(file).is_some_and(|begun| at < *begun);
    let (mut disk, mut told) = (Disk::default(), Told::new());
    for (at, call) in calls.iter().enumerate() {
        let fate = |file: &str, dice: &mut Dice| match (is_safe(file, at), unflushed) {
            (true, _) | (false, Unflushed::Kept) => Unflushed::Kept,
            (false, Unflushed::Torn) if dice.roll(3) > 0 => Unflushed::Torn,
            (false, _) => Unflushed::Lost,
        };
        match call {
            // Names are the directory's: it is flushed for itself.
            Call::Make { file } => {
                if fate("", dice) != Unflushed::Lost {
                    disk.0.entry(file.clone()).or_default();
                }
            }
            Call::Remove { file } => {
                if fate("", dice) != Unflushed::Lost {
                    disk.0.remove(file);
                }
            }
            Call::Write { file, at, bytes } => {
                let fate = fate(file, dice);
                disk.write(file, *at, bytes, |_| {
                    fate == Unflushed::Kept || fate == Unflushed::Torn && dice.roll(2) > 0
                });
            }
            Call::Cut { file, size } => {
                if fate(file, dice) != Unflushed::Lost
                    && let Some(content) = disk.0.get_mut(file)
                {
                    content.resize(*size, 0);
                }
            }
            Call::Flush { .. } => {}
            Call::Tell { writer, n } => drop(told.insert(*writer, *n)),
        }
    }
    (disk, told)
}

impl Disk {
    /// Writes those sectors that `reaches` says; a file whose name is not on the disk is lost as a whole.
    fn write(&mut self, file: &str, at: usize, bytes: &[u8], mut reaches: impl FnMut(usize) -> bool) {
        let Some(content) = self.0.get_mut(file) else { return };
        let mut from = 0;
        while from < bytes.len() {
            let sector = (at + from) / SECTOR;
            let until = ((sector + 1) * SECTOR - at).min(bytes.len());
            if reaches(sector) {
                if content.len() < at + until {
                    content.resize(at + until, 0);
                }
                content[at + from..at + until].copy_from_slice(&bytes[from..until]);
            }
            from = until;
        }
    }

    fn store(&self) -> tempfile::TempDir {
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        for (name, content) in &self.0 {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }
}

/// Runs a writer and reads what it asked for.
fn record() -> Vec<Call> {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("calls");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-xx", "-qq", "--seccomp-bpf", "-s", "1000000", "-e", "signal=none"]);
    command.args([
        "-e",
        "trace=openat,pwrite64,pwritev,write,fsync,fdatasync,ftruncate,fallocate,unlink,unlinkat,rename",
    ]);
    command.arg("-o").arg(&log).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "durability::writer_process", "--nocapture"]);
    command
        .env(PATH, data.join("cinder.sqlite"))
        .env(WRITERS, AT_ONCE.to_string())
        .env(LIMIT, (COMMITS / AT_ONCE).to_string());
    let ended = command.stdin(Stdio::null()).stdout(Stdio::piped()).output();
    let ended = ended.unwrap_or_else(|error| panic!("this suite needs the Debian package strace: {error}"));
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let text = std::fs::read_to_string(&log).unwrap();
    Recording { data, ..Recording::default() }.read(&text)
}

/// Reads `strace`'s lines.
#[derive(Default)]
struct Recording {
    data: PathBuf,
    calls: Vec<Call>,
    /// Calls that others came between, by thread: how they began, and where.
    begun: BTreeMap<String, (String, usize)>,
}

impl Recording {
    fn read(mut self, text: &str) -> Vec<Call> {
        for line in text.lines() {
            let (thread, rest) = line.split_once(char::is_whitespace).expect("a thread's number");
            let rest = rest.trim_start();
            if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
                // Writes count from here on; flushes when they have come back.
                self.begun.insert(thread.to_owned(), (first.to_owned(), self.calls.len()));
                if !first.contains("sync(") {
                    self.call(first, None);
                }
            } else if rest.starts_with("<... ") {
                let Some((first, at)) = self.begun.remove(thread) else { continue };
                if first.contains("sync(") && rest.ends_with("= 0") {
                    self.call(&first, Some(at));
                }
            } else if !rest.contains(" = -1 ") {
                self.call(rest, None);
            }
        }
        self.calls
    }

    /// `begun`: for a flush, how many calls came before it.
    fn call(&mut self, text: &str, begun: Option<usize>) {
        let Some((name, args)) = text.split_once('(') else { return };
        if name == "write" {
            return self.told(args);
        }
        // A file descriptor shows its path in angle brackets; a path that is an argument is quoted.
        let path = match name {
            "openat" | "unlink" | "unlinkat" | "rename" => {
                unquoted(args).and_then(|(path, _)| String::from_utf8(path).ok())
            }
            _ => args
                .split_once('<')
                .and_then(|(_, rest)| rest.split_once('>'))
                .map(|(path, _)| unescaped(path)),
        };
        let Some(file) = path.and_then(|path| self.name_of(&path)) else { return };
        // The index that processes share is made anew by the first of them.
        if file.ends_with("-shm") {
            return;
        }
        let last_number =
            || args.split(')').next().and_then(|a| a.rsplit(", ").next()).and_then(|n| n.parse().ok());
        let call = match name {
            "openat" if args.contains("O_CREAT") => Call::Make { file },
            "openat" => return,
            "pwrite64" => {
                let (bytes, _) = unquoted(args).expect("what is written");
                Call::Write { file, at: last_number().expect("an offset"), bytes }
            }
            "ftruncate" => Call::Cut { file, size: last_number().expect("a size") },
            "unlink" => Call::Remove { file },
            "fsync" | "fdatasync" => Call::Flush { file, begun: begun.unwrap_or(self.calls.len()) },
            other => panic!("{other} on {file}: this test does not know what that does to a disk"),
        };
        self.calls.push(call);
    }

    /// Relative to the data; the folder itself has no name.
    fn name_of(&self, path: &str) -> Option<String> {
        let rest = Path::new(path).strip_prefix(&self.data).ok()?;
        rest.to_str().map(str::to_owned)
    }

    fn told(&mut self, args: &str) {
        if !args.starts_with("1<") {
            return;
        }
        let Some((bytes, _)) = unquoted(args) else { return };
        let text = String::from_utf8_lossy(&bytes);
        let Some((_, numbers)) = text.split_once("ack ") else { return };
        if let Some((writer, n)) = numbers.trim().split_once(' ')
            && let (Ok(writer), Ok(n)) = (writer.parse(), n.parse())
        {
            self.calls.push(Call::Tell { writer, n });
        }
    }
}

/// The first quoted text, whose bytes are all spelled `\xNN`, and what follows.
fn unquoted(args: &str) -> Option<(Vec<u8>, &str)> {
    let (text, rest) = args.split_once('"')?.1.split_once('"')?;
    assert!(!rest.starts_with("..."), "the recording is cut short");
    Some((bytes_of(text), rest))
}

fn unescaped(text: &str) -> String {
    if text.contains("\\x") { String::from_utf8_lossy(&bytes_of(text)).into_owned() } else { text.to_owned() }
}

fn bytes_of(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect()
}
