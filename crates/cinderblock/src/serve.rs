//! `cinderblock serve`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use api::Auth;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::{self, LogFormat, Telemetry};
use crate::{config, roles, wiring};

/// A part of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Role {
    Api,
    Scheduler,
    Volume,
    Backup,
    Target,
    Compute,
}

impl Role {
    /// All that exist.
    pub const ALL: [Self; 6] =
        [Self::Api, Self::Scheduler, Self::Volume, Self::Backup, Self::Target, Self::Compute];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Scheduler => "scheduler",
            Self::Volume => "volume",
            Self::Backup => "backup",
            Self::Target => "target",
            Self::Compute => "compute",
        }
    }
}

/// Options of `serve`. What is not given comes from the configuration files, else from the embedded defaults.
#[derive(Debug, Args)]
pub struct Serve {
    /// Where everything of this installation is kept [default: cinderblock under the user's data directory]
    #[arg(long, env = "CINDERBLOCK_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where the API listens [default: 127.0.0.1:8776]
    #[arg(long, value_name = "ADDR:PORT")]
    pub api_listen: Option<SocketAddr>,
    /// Where the iSCSI target listens [default: 127.0.0.1:3260]
    #[arg(long, value_name = "ADDR:PORT")]
    pub iscsi_listen: Option<SocketAddr>,
    /// A file in the format of cinder.conf; later ones win (repeatable). Its auth_strategy says how callers are known: keystone (the
    /// default of a file), http_basic, noauth or none
    #[arg(long, value_name = "FILE")]
    pub config_file: Vec<PathBuf>,
    /// A part to run; all if none is named (repeatable)
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<Role>,
    /// Where /metrics and /healthcheck are answered too, for a process without the API
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// How log lines look [default: text; json with use_json in a configuration file]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log more
    #[arg(long)]
    pub debug: bool,
}

impl Serve {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// What kept it from starting, and what to do about it.
    pub fn run(self) -> anyhow::Result<()> {
        // Volumes, database and backups are nobody's but the service's; what must be readable says so by itself.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        // From here on a signal is an order to end cleanly, however far the start has come.
        let mut orders = runtime.block_on(async { Orders::listen() })?;
        let boot = config::Boot::read(&self)?;
        let format = if boot.json_logs { LogFormat::Json } else { LogFormat::Text };
        let format = self.log_format.unwrap_or(format);
        let logs = telemetry::start_logging(format, self.debug || boot.debug);
        let telemetry = Telemetry { metrics: telemetry::start_metrics()?, logs };
        boot.tell_oddities();
        runtime.block_on(async {
            let service = tokio::select! {
                service = wiring::build(boot) => service?,
                () = orders.ordered() => {
                    tracing::info!("stopped before it was ready");
                    return Ok(());
                }
            };
            roles::run(service, telemetry, orders).await
        })
    }
}

/// The signals that end a process cleanly; one that comes before it is waited for is kept.
#[derive(Debug)]
pub struct Orders {
    terminate: Signal,
    interrupt: Signal,
}

impl Orders {
    /// Listens from now on. Within a runtime.
    ///
    /// # Errors
    /// The signals cannot be listened to.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the first one.
    pub async fn ordered(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a client must say to be let in: flags of our own command line, and of `openstack`.
#[derive(Debug, Clone, Copy)]
pub struct WaysIn {
    own: &'static str,
    openstack: &'static str,
}

impl WaysIn {
    /// As `auth` wants it.
    pub fn of(auth: &Auth) -> Self {
        let (own, openstack) = match auth {
            Auth::Open => ("", "--os-auth-type none"),
            Auth::NoAuth => (" --token admin:admin", "--os-auth-type admin_token --os-token admin:admin"),
            Auth::Basic(_) => (
                " --user USER:PASSWORD",
                "--os-auth-type http_basic --os-username USER --os-password PASSWORD",
            ),
            Auth::Keystone(_) => (" --token \"$(openstack token issue -f value -c id)\"", ""),
        };
        Self { own, openstack }
    }

    /// The `openstack` command; Keystone's catalogue says where the API is.
    fn openstack(self, endpoint: &str) -> String {
        match self.openstack {
            "" => "openstack volume list".to_owned(),
            flags => format!("openstack {flags} --os-endpoint {endpoint} volume list"),
        }
    }
}

/// Tells on standard output where the service listens and what to try.
pub fn say_ready(
    api: Option<SocketAddr>,
    iscsi: Option<SocketAddr>,
    data_dir: &std::path::Path,
    ways: WaysIn,
) {
    let mut text =
        format!("cinderblock {} is ready, data in {}\n", env!("CARGO_PKG_VERSION"), data_dir.display());
    if let Some(iscsi) = iscsi {
        text.push_str(&format!("  iSCSI  {iscsi}\n"));
    }
    if let Some(api) = api {
        let endpoint = format!("http://{api}/v3");
        // As it was called: a newcomer's binary is in target/release, not on the path.
        let program = std::env::args().next().unwrap_or_else(|| "cinderblock".into());
        let flag = if api.port() == 8776 { String::new() } else { format!(" --endpoint {endpoint}") };
        let own = ways.own;
        text.push_str(&format!(
            "  API    {endpoint}\n\nTry:\n\
             \x20 {program} volume create --name first --size 1 --wait{flag}{own}\n\
             \x20 {program} volume list{flag}{own}\n\
             \x20 {}\n",
            ways.openstack(&endpoint)
        ));
    }
    // Nobody may be reading; the service runs all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
