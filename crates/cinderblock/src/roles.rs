//! Runs the roles of a process until it is told to stop, then lets work under way come to a safe end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use control::engine::{Runner, RunnerConfig};
use control::target::TargetRole;
use control::{Cloud, service};
use model::config::Config;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Boot;
use crate::serve::{Orders, Role, WaysIn, say_ready};
use crate::telemetry::Telemetry;
use crate::wiring::Service;

/// How often a runner looks for work without having been rung: the price of a lost ring.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the reconciler looks.
const RECONCILE: Duration = Duration::from_secs(60);
/// Jobs at the same time in one process.
const SLOTS: usize = 64;
/// How long a stopping process waits for requests and steps.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs a process until `orders` come.
///
/// # Errors
/// What kept a role from starting.
pub async fn run(service: Service, telemetry: Telemetry, mut orders: Orders) -> anyhow::Result<()> {
    let Service { boot, cloud, node } = service;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let host = boot.settings.host.clone();
    let mut services: Vec<model::ServiceId> = node.services.values().copied().collect();
    let mut queues = Vec::new();
    if boot.runs(Role::Scheduler) {
        services.push(cloud.register(service::SCHEDULER, &host, &boot.settings.zone).await?);
        queues.push(control::cloud::SCHEDULER.to_owned());
    }
    if boot.runs(Role::Volume) {
        queues.extend(node.services.keys().map(|host| Cloud::volume_queue(host)));
        for host in node.services.keys() {
            cloud
                .report_stats(&node, host)
                .await
                .map_err(|failure| anyhow::anyhow!("{host}: {}", failure.message))?;
        }
        tasks.spawn(cloud.clone().keep_reporting(node.clone(), stop.clone()));
        tasks.spawn(cloud.clone().keep_reconciling(node.clone(), RECONCILE, stop.clone()));
    }
    if boot.runs(Role::Backup) {
        services.push(cloud.register(service::BACKUP, &host, &boot.settings.zone).await?);
        queues.push(Cloud::backup_queue(&host));
    }
    if let Some(target) = &node.target {
        queues.push(Cloud::target_queue(&host));
        tasks.spawn(target.clone().run(stop.clone()));
    }
    tasks.spawn(cloud.clone().beat(services, stop.clone()));
    if !queues.is_empty() {
        let names: Vec<&str> = boot.roles.iter().map(|role| role.name()).collect();
        let config = RunnerConfig {
            queues,
            owner: format!("{host}/{}", names.join("+")),
            lease: boot.settings.lease,
            slots: SLOTS,
            sweep: SWEEP,
        };
        tasks.spawn(Runner::new(cloud.clone(), node.clone(), config).run(stop.clone()));
    }
    let serves_api = boot.runs(Role::Api);
    // The data directory's locks are held until the end.
    let Boot { config, data_dir, auth, api_listen, metrics_listen, .. } = boot;
    let settings = api_settings(&config, telemetry, node.target.clone())?;
    let ways = WaysIn::of(&auth);
    let edge = Arc::new(api::Edge { cloud: cloud.clone(), auth, settings });
    let api_listen = serves_api.then_some(api_listen);
    let api = serve_edge(edge, api_listen, metrics_listen, &tasks, &stop).await?;
    let iscsi = node.target.as_ref().and_then(|target| target.portals().first().copied());
    say_ready(api, iscsi, &data_dir.path, ways);
    orders.ordered().await;
    tracing::info!("stopping");
    stop.cancel();
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!("some work did not come to an end; it goes on at the next start");
    }
    cloud.db.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Serves the API, and what watches over a process, where they are wanted; says where the API is.
async fn serve_edge(
    edge: Arc<api::Edge>,
    api_listen: Option<SocketAddr>,
    metrics_listen: Option<SocketAddr>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    if let Some(address) = metrics_listen {
        let listener = listen(address, "--metrics-listen").await?;
        tasks.spawn(serve_http(listener, api::observer(edge.clone()), stop.clone()));
    }
    let Some(address) = api_listen else { return Ok(None) };
    let listener = listen(address, "--api-listen").await?;
    let address = listener.local_addr()?;
    tasks.spawn(serve_http(listener, api::router(edge), stop.clone()));
    Ok(Some(address))
}

async fn listen(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({option} chooses another)"))
}

fn api_settings(
    config: &Config,
    telemetry: Telemetry,
    target: Option<Arc<TargetRole>>,
) -> anyhow::Result<api::Settings> {
    let Telemetry { metrics, logs } = telemetry;
    let (section, middleware) = (config.default_section(), config.section("oslo_middleware"));
    let filters = match section.get::<String>("resource_query_filters_file")? {
        Some(file) if section.is_set("resource_query_filters_file") => {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
            api::list::ResourceFilters::parse(&text).with_context(|| file)?
        }
        _ => api::list::ResourceFilters::default(),
    };
    Ok(api::Settings {
        public_endpoint: section.get("public_endpoint")?,
        max_limit: section.get::<u32>("osapi_max_limit")?.unwrap_or(1000),
        max_body: middleware.get::<usize>("max_request_body_size")?.unwrap_or(114_688),
        proxy_headers: middleware.get::<bool>("enable_proxy_headers_parsing")?.unwrap_or(false),
        disable_file: config.section("healthcheck").get::<String>("disable_by_file_path")?.map(PathBuf::from),
        filters,
        metrics: Some(Arc::new(move || {
            if let Some(target) = &target {
                target.measure();
            }
            metrics.render()
        })),
        logs: Some(logs),
        told: control::measure::Told::default(),
    })
}

async fn serve_http(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let served =
        axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await;
    if let Err(error) = served {
        tracing::error!(%error, "the API stopped");
    }
}
