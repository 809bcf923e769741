//! The control plane: start-up, memory at rest, creates and lists, beside Cinder's figures on the same kind of machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::Connection;
use super::service::{Service, binary};
use super::{Figure, percentile, print};
use crate::process;
use crate::workspace::Workspace;

/// Bounds that this project sets itself.
const START_BOUND_S: f64 = 0.5;
const REST_BOUND_MIB: f64 = 64.0;
const CREATE_BOUND_MS: f64 = 50.0;

const STARTS: usize = 3;
const SINGLE_SAMPLES: usize = 30;
const PARALLEL: usize = 16;
const PARALLEL_VOLUMES: usize = 200;
const READ_TIME: Duration = Duration::from_secs(4);
const WORK_LIMIT: Duration = Duration::from_secs(60);

/// Cinder's figures, as measured once.
#[derive(Debug, Deserialize)]
struct Peer {
    source: String,
    version_s: f64,
    first_available_s: f64,
    idle_rss_mib: f64,
    create_to_available_p50_ms: f64,
    delete_to_gone_p50_ms: f64,
    create_c16_available_per_s: f64,
    detail_1000_c1_p50_ms: f64,
    detail_1000_c16_rps: f64,
    detail_1000_cpu_ms_each: f64,
    detail_100_c1_p50_ms: f64,
    detail_100_c16_rps: f64,
    show_c1_p50_ms: f64,
    show_c16_rps: f64,
}

struct Options {
    binary: Option<PathBuf>,
    volumes: usize,
}

/// `cargo xtask bench api`: true when every bound is met.
///
/// # Errors
/// When the service cannot be built, started or measured.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<bool> {
    let options = Options::read(args)?;
    let peer: Peer = serde_json::from_str(include_str!("api-peer.json")).context("api-peer.json")?;
    let binary = binary(workspace, options.binary)?;
    let folder = workspace.target.join(format!("bench-api-{}", std::process::id()));
    let figures = measure(&binary, &folder, options.volumes, &peer);
    let _ = std::fs::remove_dir_all(&folder);
    println!("peer: {}", peer.source);
    Ok(print(&figures?))
}

impl Options {
    fn read(args: &[String]) -> Result<Self> {
        let mut options = Self { binary: None, volumes: 1000 };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--binary" => options.binary = Some(value.into()),
                "--volumes" => options.volumes = value.parse().context("--volumes needs a number")?,
                _ => bail!("bench api knows --binary and --volumes, not {name}"),
            }
        }
        Ok(options)
    }
}

fn measure(binary: &Path, folder: &Path, volumes: usize, peer: &Peer) -> Result<Vec<Figure>> {
    let (version, available) = first_start(binary, folder)?;
    let mut figures = vec![
        less("start on nothing until it answers", "s", version, Some(peer.version_s)),
        less("start on nothing until a volume is available", "s", available, Some(peer.first_available_s)),
    ];
    let service = Service::start(binary, &folder.join("main"))?;
    lift_quotas(&service)?;
    process::pause(Duration::from_secs(2));
    let rest = less("memory at rest", "MiB", service.resident_mib()?, Some(peer.idle_rss_mib));
    figures.push(rest.at_most(REST_BOUND_MIB));
    figures.extend(creates(&service, peer)?);
    figures.extend(lists(&service, volumes, peer)?);
    figures.push(less("memory after all this", "MiB", service.resident_mib()?, None));
    service.stop()?;
    let again = restarts(binary, &folder.join("main"))?;
    let what = format!("start with {volumes} volumes until it answers");
    figures.push(less(&what, "s", again, Some(peer.version_s)).at_most(START_BOUND_S));
    Ok(figures)
}

fn less(what: &str, unit: &'static str, ours: f64, peer: Option<f64>) -> Figure {
    Figure { what: what.to_owned(), ours, peer, unit, less_is_better: true, bound: None }
}

fn more(what: &str, ours: f64, peer: f64) -> Figure {
    Figure { what: what.to_owned(), ours, peer: Some(peer), unit: "/s", less_is_better: false, bound: None }
}

fn creates(service: &Service, peer: &Peer) -> Result<Vec<Figure>> {
    let (create, delete) = singles(service)?;
    let rate = parallel_creates(service, PARALLEL_VOLUMES)?;
    let create = less("create until available, p50", "ms", create, Some(peer.create_to_available_p50_ms));
    Ok(vec![
        create.at_most(CREATE_BOUND_MS),
        less("delete until gone, p50", "ms", delete, Some(peer.delete_to_gone_p50_ms)),
        more("creates until available, 16 at a time", rate, peer.create_c16_available_per_s),
    ])
}

fn lists(service: &Service, volumes: usize, peer: &Peer) -> Result<Vec<Figure>> {
    let mut connection = Connection::open(service.address)?;
    let missing = volumes.saturating_sub(list(&mut connection)?.len());
    parallel_creates(service, missing)?;
    let id = list(&mut connection)?.first().cloned().context("no volume to show")?;
    let whole = reads(service, "/v3/volumes/detail")?;
    let page = reads(service, "/v3/volumes/detail?limit=100")?;
    let show = reads(service, &format!("/v3/volumes/{id}"))?;
    let what = |of: &str| format!("list of {volumes} with detail, {of}");
    Ok(vec![
        less(&what("p50"), "ms", whole.p50_ms, Some(peer.detail_1000_c1_p50_ms)),
        less(&what("CPU each"), "ms", whole.cpu_ms, Some(peer.detail_1000_cpu_ms_each)),
        more(&what("16 at a time"), whole.per_s, peer.detail_1000_c16_rps),
        less("page of 100 with detail, p50", "ms", page.p50_ms, Some(peer.detail_100_c1_p50_ms)),
        more("page of 100 with detail, 16 at a time", page.per_s, peer.detail_100_c16_rps),
        less("show of a volume, p50", "ms", show.p50_ms, Some(peer.show_c1_p50_ms)),
        more("show of a volume, 16 at a time", show.per_s, peer.show_c16_rps),
    ])
}

/// Median seconds from the start of the process, on an empty directory, to the first answer and the first volume.
fn first_start(binary: &Path, folder: &Path) -> Result<(f64, f64)> {
    let (mut versions, mut firsts) = (Vec::new(), Vec::new());
    for run in 0..STARTS {
        let service = Service::start(binary, &folder.join(format!("empty-{run}")))?;
        versions.push(service.started.elapsed().as_secs_f64());
        let mut connection = Connection::open(service.address)?;
        create_until_available(&mut connection)?;
        firsts.push(service.started.elapsed().as_secs_f64());
        service.stop()?;
    }
    Ok((percentile(&versions, 0.5), percentile(&firsts, 0.5)))
}

fn restarts(binary: &Path, folder: &Path) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let service = Service::start(binary, folder)?;
        times.push(service.started.elapsed().as_secs_f64());
        service.stop()?;
    }
    Ok(percentile(&times, 0.5))
}

/// No limits for the default project, whose id a volume tells.
fn lift_quotas(service: &Service) -> Result<()> {
    let mut connection = Connection::open(service.address)?;
    let (id, _) = create_until_available(&mut connection)?;
    let volume = connection.request("GET", &format!("/v3/volumes/{id}"), None)?.json()?;
    let project = volume.pointer("/volume/os-vol-tenant-attr:tenant_id").and_then(Value::as_str);
    let project = project.context("a volume without its project")?;
    let body = json!({"quota_set": {"volumes": -1, "gigabytes": -1}});
    connection.request("PUT", &format!("/v3/os-quota-sets/{project}"), Some(&body))?.json()?;
    delete_until_gone(&mut connection, &id).map(drop)
}

/// Creates a volume and asks until it is available; its id and the milliseconds that took.
fn create_until_available(connection: &mut Connection) -> Result<(String, f64)> {
    let start = Instant::now();
    let id = create(connection)?;
    loop {
        let volume = connection.request("GET", &format!("/v3/volumes/{id}"), None)?.json()?;
        match volume.pointer("/volume/status").and_then(Value::as_str) {
            Some("available") => return Ok((id, start.elapsed().as_secs_f64() * 1000.0)),
            Some("creating") if start.elapsed() < WORK_LIMIT => process::pause(Duration::from_millis(1)),
            other => bail!("a new volume is {other:?}"),
        }
    }
}

fn create(connection: &mut Connection) -> Result<String> {
    let body = json!({"volume": {"size": 1, "name": "bench"}});
    let volume = connection.request("POST", "/v3/volumes", Some(&body))?.json()?;
    let id = volume.pointer("/volume/id").and_then(Value::as_str).context("a volume without an id")?;
    Ok(id.to_owned())
}

fn delete_until_gone(connection: &mut Connection, id: &str) -> Result<f64> {
    let start = Instant::now();
    let path = format!("/v3/volumes/{id}");
    connection.request("DELETE", &path, None)?;
    while connection.request("GET", &path, None)?.status != 404 {
        if start.elapsed() > WORK_LIMIT {
            bail!("volume {id} is not gone after {} s", WORK_LIMIT.as_secs());
        }
        process::pause(Duration::from_millis(1));
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0)
}

/// Median milliseconds of one create and one delete at a time.
fn singles(service: &Service) -> Result<(f64, f64)> {
    let mut connection = Connection::open(service.address)?;
    let (mut creates, mut deletes) = (Vec::new(), Vec::new());
    for _ in 0..SINGLE_SAMPLES {
        let (id, time) = create_until_available(&mut connection)?;
        creates.push(time);
        deletes.push(delete_until_gone(&mut connection, &id)?);
    }
    Ok((percentile(&creates, 0.5), percentile(&deletes, 0.5)))
}

/// Creates `count` volumes, many at a time; how many became available a second.
fn parallel_creates(service: &Service, count: usize) -> Result<f64> {
    let start = Instant::now();
    let made = in_parallel(service, |worker, connection| {
        let share = count / PARALLEL + usize::from(worker < count % PARALLEL);
        (0..share).map(|_| create_until_available(connection)).collect::<Result<Vec<_>>>()
    })?;
    let total: usize = made.iter().map(Vec::len).sum();
    Ok(total as f64 / start.elapsed().as_secs_f64())
}

/// Runs `work` on as many connections as the peer was measured with.
fn in_parallel<T: Send>(
    service: &Service,
    work: impl Fn(usize, &mut Connection) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let address = service.address;
    let work = &work;
    std::thread::scope(|scope| {
        let start = |worker| scope.spawn(move || work(worker, &mut Connection::open(address)?));
        let workers: Vec<_> = (0..PARALLEL).map(start).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker returns its errors")).collect()
    })
}

fn list(connection: &mut Connection) -> Result<Vec<String>> {
    let list = connection.request("GET", "/v3/volumes", None)?.json()?;
    let volumes = list.get("volumes").and_then(Value::as_array).context("no list of volumes")?;
    Ok(volumes.iter().filter_map(|volume| Some(volume.get("id")?.as_str()?.to_owned())).collect())
}

struct Reads {
    p50_ms: f64,
    cpu_ms: f64,
    per_s: f64,
}

/// Repeats a GET on one connection, then on many.
fn reads(service: &Service, path: &str) -> Result<Reads> {
    let until = |connection: &mut Connection| -> Result<Vec<f64>> {
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < READ_TIME {
            let one = Instant::now();
            let answer = connection.request("GET", path, None)?;
            if answer.status != 200 {
                bail!("{path} answers {}", answer.status);
            }
            times.push(one.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(times)
    };
    let cpu = service.cpu_ms()?;
    let times = until(&mut Connection::open(service.address)?)?;
    let cpu_ms = (service.cpu_ms()? - cpu) / times.len() as f64;
    let start = Instant::now();
    let many: usize = in_parallel(service, |_, connection| until(connection))?.iter().map(Vec::len).sum();
    let per_s = many as f64 / start.elapsed().as_secs_f64();
    Ok(Reads { p50_ms: percentile(&times, 0.5), cpu_ms, per_s })
}
