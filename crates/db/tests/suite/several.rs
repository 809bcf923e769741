//! Locks and leases among several processes, some of which are killed while they hold what others want.
//!
//! What each lock admits is shown by something else than the database: a holder also takes the kernel's lock of a file
//! of that name, which never waits, and goes with the process.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use db::job::{Claimed, Held, Next, Renewed};
use db::{Db, Error};
use model::job::{Job, JobState, Lock, LockMode};

use crate::job::{a_job, insert};
use crate::support::{Dice, Lab};

on_each_database!(i3_the_work_of_killed_processes_is_done_under_their_locks_by_others);

/// Tells a process where the database is, and where the files are.
const URL: &str = "CINDERBLOCK_SEVERAL_DATABASE";
const FILES: &str = "CINDERBLOCK_SEVERAL_FILES";
const SEED: &str = "CINDERBLOCK_SEVERAL_SEED";
const SHORT: i64 = 1_500_000;
const NAMES: [&str; 3] = ["a", "b", "c"];
/// A process that met another in its lock ends with this.
const MET: i32 = 77;

/// Not a test by itself: one of the processes of the test below. Ends when no job is left.
#[test]
fn working_process() {
    let (Ok(url), Ok(files), Ok(seed)) = (std::env::var(URL), std::env::var(FILES), std::env::var(SEED))
    else {
        return;
    };
    crate::support::run(async move {
        let db = Db::connect(&url, 4).await.unwrap();
        let mut dice = Dice(seed.parse().unwrap());
        let owner = format!("process {}", std::process::id());
        let queues = ["q".to_owned(), "r".to_owned()];
        loop {
            db::job::want(&db, &queues, SHORT).await.unwrap();
            let left = db::job::of_resource(&mut db.read(), &a_job(vec![]).resource.id).await.unwrap();
            if left.is_empty() {
                return;
            }
            for id in db::job::claimable(&db, &queues, 2, SHORT).await.unwrap() {
                match db::job::claim(&db, id, &owner, SHORT).await {
                    Ok(Claimed::Yes(job)) => work(&db, &job, Path::new(&files), &mut dice).await,
                    Ok(Claimed::Waits { .. } | Claimed::No) => {}
                    Err(error) => assert!(error.is_conflict(), "{error}"),
                }
            }
        }
    });
}

/// Holds the job's locks for a while, then ends the claim. A claim that was lost meanwhile (the machine is slow) is
/// let go of as such.
async fn work(db: &Db, job: &Job, files: &Path, dice: &mut Dice) {
    let mut held = Vec::new();
    for lock in &job.locks {
        let file = File::options().create(true).append(true).open(files.join(&lock.name)).unwrap();
        let taken = match lock.mode {
            LockMode::Shared => file.try_lock_shared(),
            LockMode::Exclusive => file.try_lock(),
        };
        if taken.is_err() {
            // One whose lease has ended may be slow to learn of it; one that is counted among the holders may not be there.
            let holders = db::job::held(&mut db.read()).await.unwrap();
            let conflicts =
                |held: &Held| lock.mode == LockMode::Exclusive || held.mode == LockMode::Exclusive;
            if holders.iter().any(|held| held.name == lock.name && held.job != job.id && conflicts(held)) {
                std::process::exit(MET);
            }
            file.lock().unwrap();
        }
        held.push(file);
    }
    let until = Instant::now() + Duration::from_millis(dice.roll(120) as u64);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match db::job::renew(db, job.id, job.epoch, SHORT, (0, 0)).await {
            Ok(Renewed::Yes { .. }) => {}
            Ok(Renewed::Lost) => return,
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
    drop(held);
    let is_handed_on = job.epoch < 3 && dice.roll(3) == 0;
    loop {
        let mut tx = db.begin().await.unwrap();
        let ended = if is_handed_on {
            db::job::advance(&mut tx, job, Next::Queue("r".into())).await
        } else {
            db::job::finish(&mut tx, job, JobState::Done, None).await
        };
        let ended = match ended {
            Ok(()) => tx.commit().await.map(drop),
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) | Err(Error::Fenced(_)) => return,
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
}

/// A process, killed when the test ends early.
struct Process(Child);

impl Process {
    fn start(url: &str, files: &Path, seed: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("ourselves"));
        command.args(["--exact", "several::working_process", "--nocapture"]);
        command
            .env(URL, url)
            .env(FILES, files)
            .env(SEED, seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(command.spawn().expect("a process"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn i3_the_work_of_killed_processes_is_done_under_their_locks_by_others(lab: Lab) {
    const JOBS: i64 = 24;
    const KILLS: usize = 3;
    let mut dice = Dice(Dice::seed());
    for _ in 0..JOBS {
        let mut locks = Vec::new();
        for name in NAMES {
            match dice.roll(4) {
                0 => locks.push(Lock::exclusive(name)),
                1 => locks.push(Lock::shared(name)),
                _ => {}
            }
        }
        insert(&lab.db, a_job(locks)).await;
    }
    let files = tempfile::tempdir().unwrap();
    let start = |dice: &mut Dice| Process::start(&lab.url, files.path(), dice.roll(1 << 20));
    let mut processes: Vec<Process> = (0..3).map(|_| start(&mut dice)).collect();
    for _ in 0..KILLS {
        // One is killed while it holds something, and started again.
        let victim = dice.roll(processes.len());
        let own = format!(
            "SELECT COUNT(*) AS n FROM jobs WHERE state = 'running' AND owner = 'process {}'",
            processes[victim].0.id()
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        while lab.number(&own).await == 0 && active(&lab).await > 0 {
            assert!(Instant::now() < deadline, "nobody works");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        processes[victim] = start(&mut dice);
    }
    for mut process in processes {
        let deadline = Instant::now() + Duration::from_secs(90);
        let status = loop {
            if let Some(status) = process.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{} jobs are never done", active(&lab).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_ne!(status.code(), Some(MET), "two held what only one may");
        assert!(status.success(), "{status}");
    }
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM jobs WHERE state = 'done'").await, JOBS);
    assert!(db::job::held(&mut lab.db.read()).await.unwrap().is_empty());
    let taken_over = "SELECT COUNT(*) AS n FROM jobs WHERE epoch > 1";
    println!("figure: jobs claimed more than once, {:?} = {}", lab.kind, lab.number(taken_over).await);
}

async fn active(lab: &Lab) -> i64 {
    lab.number("SELECT COUNT(*) AS n FROM jobs WHERE state IN ('queued', 'running', 'undoing')").await
}
