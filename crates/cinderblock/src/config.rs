//! From flags, files and environment to what a process is to run: checked in full before anything starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use api::Auth;
use control::policy::Policy;
use control::settings::Settings;
use model::config::Config;

use crate::data_dir::{self, DataDir};
use crate::serve::{Role, Serve};

/// The backend that runs when no configuration file names any.
const LOCAL: &str = "local";

/// What a process is to run.
#[derive(Debug)]
pub struct Boot {
    pub config: Config,
    pub data_dir: DataDir,
    pub roles: Vec<Role>,
    pub settings: Settings,
    pub api_listen: SocketAddr,
    /// Where the target listens: the first one is told first.
    pub iscsi_listen: Vec<SocketAddr>,
    pub database: String,
    /// How the API knows its callers; means nothing to a process without it.
    pub auth: Auth,
    pub policy: Policy,
    pub debug: bool,
    /// `use_json`.
    pub json_logs: bool,
    pub metrics_listen: Option<SocketAddr>,
}

impl Boot {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, where it stands, and what to do.
    pub fn read(serve: &Serve) -> anyhow::Result<Self> {
        let embedded = serve.config_file.is_empty();
        let mut config = read_files(&serve.config_file)?;
        let state = match &serve.data_dir {
            Some(path) => path.clone(),
            None if embedded => data_dir::default_path(),
            None => PathBuf::from(config.default_section().require::<String>("state_path")?),
        };
        let roles = if serve.role.is_empty() { Role::ALL.to_vec() } else { serve.role.clone() };
        let data_dir = DataDir::open(&state, &roles)?;
        set_defaults(&mut config, &data_dir.path, embedded);
        if !embedded {
            refuse_unbuilt(&config)?;
        }
        let host = match config.default_section().get::<String>("host")? {
            Some(host) if config.default_section().is_set("host") => host,
            _ if embedded => data_dir.kept_text("host", host_name)?,
            _ => host_name()?,
        };
        let settings = Settings::read(&config, &host)?;
        let auth = if roles.contains(&Role::Api) { read_auth(&config)? } else { Auth::Open };
        let (api_listen, iscsi_listen) = listeners(serve, &config, embedded)?;
        if roles.contains(&Role::Api) && !auth.keeps_strangers_out() && !api_listen.ip().is_loopback() {
            bail!(
                "auth_strategy lets everybody be the administrator, so the API listens on loopback only, not on \
                 {api_listen}; set auth_strategy to keystone, or to http_basic with [oslo_middleware] http_basic_auth_user_file, or listen \
                 on 127.0.0.1"
            );
        }
        let database = config.section("database").require::<String>("connection")?;
        let policy = read_policy(&config, &data_dir.path, &serve.config_file)?;
        let debug = config.default_section().get::<bool>("debug")?.unwrap_or(false);
        let json_logs = config.default_section().get::<bool>("use_json")?.unwrap_or(false);
        Ok(Self {
            config,
            data_dir,
            roles,
            settings,
            api_listen,
            iscsi_listen,
            database,
            auth,
            policy,
            debug,
            json_logs,
            metrics_listen: serve.metrics_listen,
        })
    }

    /// Whether this process runs a role.
    pub fn runs(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Warns, once each, of what an operator should know of the files.
    pub fn tell_oddities(&self) {
        for unknown in self.config.unknown_options() {
            tracing::warn!("{unknown}");
        }
        for old in self.config.old_names() {
            tracing::warn!("{old}");
        }
        for warning in self.policy.warnings() {
            tracing::warn!("{warning}");
        }
        for warning in self.auth.warnings() {
            tracing::warn!("{warning}");
        }
    }
}

fn read_files(paths: &[PathBuf]) -> anyhow::Result<Config> {
    let mut files = Vec::new();
    for path in paths {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((path.display().to_string(), text));
    }
    let environment = std::env::vars().filter(|(name, _)| name.starts_with("OS_"));
    Ok(Config::parse(&files, environment)?)
}

/// What holds when neither file nor environment says otherwise. Without any file that is the whole embedded service; with one, Cinder's
/// defaults hold and only paths move into the data directory.
fn set_defaults(config: &mut Config, data_dir: &Path, embedded: bool) {
    let path = |name: &str| data_dir.join(name).display().to_string();
    config.set_default("DEFAULT", "state_path", data_dir.display().to_string());
    config.set_default("database", "connection", format!("sqlite:///{}", path("cinderblock.db")));
    config.set_default("DEFAULT", "my_ip", own_address().to_string());
    if !embedded {
        return;
    }
    config.set_default("DEFAULT", "auth_strategy", "none");
    config.set_default("DEFAULT", "transport_url", "none://");
    config.set_default("DEFAULT", "enabled_backends", LOCAL);
    config.set_default("DEFAULT", "backup_driver", "cinder.backup.drivers.posix.PosixBackupDriver");
    config.set_default("DEFAULT", "backup_posix_path", path("backup"));
    config.set_default(LOCAL, "volume_driver", "file");
    config.set_default(LOCAL, "volume_backend_name", LOCAL);
    config.set_default(LOCAL, "file_directory", path("volumes"));
}

/// What a configuration asks for and this release does not have yet fails here, by name.
fn refuse_unbuilt(config: &Config) -> anyhow::Result<()> {
    let section = config.default_section();
    let transport: String = section.require("transport_url")?;
    if !transport.starts_with("none:") {
        let scheme = transport.split(':').next().unwrap_or_default();
        bail!(
            "transport_url = {scheme}://... is not available in this release; set transport_url = none:// in [DEFAULT]: \
             work then travels through the database alone"
        );
    }
    Ok(())
}

fn read_auth(config: &Config) -> anyhow::Result<Auth> {
    let section = config.default_section();
    let strategy: String = section.require("auth_strategy")?;
    Ok(match strategy.as_str() {
        "none" => Auth::Open,
        "noauth" | "noauth_include_project_id" => Auth::NoAuth,
        "http_basic" => {
            let file: String = config.section("oslo_middleware").require("http_basic_auth_user_file")?;
            let file = PathBuf::from(file);
            Auth::Basic(
                api::auth::Htpasswd::open(&file)
                    .with_context(|| format!("http_basic_auth_user_file {}", file.display()))?,
            )
        }
        "keystone" => {
            let options = keystone::AuthenticatorOptions::read(config)?;
            Auth::Keystone(Box::new(keystone::Authenticator::new(options)?))
        }
        other => {
            return Err(section
                .error("auth_strategy", format!("{other:?} is none of keystone, http_basic, noauth, none"))
                .into());
        }
    })
}

fn listeners(
    serve: &Serve,
    config: &Config,
    embedded: bool,
) -> anyhow::Result<(SocketAddr, Vec<SocketAddr>)> {
    let section = config.default_section();
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let address = |option: &str| -> anyhow::Result<IpAddr> {
        let text: String = section.get(option)?.unwrap_or_else(|| loopback.to_string());
        text.parse().map_err(|_| section.error(option, format!("{text:?} is not an IP address")).into())
    };
    let api = match serve.api_listen {
        Some(listen) => listen,
        None if embedded => SocketAddr::new(loopback, 8776),
        None => SocketAddr::new(
            address("osapi_volume_listen")?,
            section.get::<u16>("osapi_volume_listen_port")?.unwrap_or(8776),
        ),
    };
    let iscsi = match serve.iscsi_listen {
        Some(listen) => vec![listen],
        None if embedded => vec![SocketAddr::new(loopback, 3260)],
        None => portals(config)?,
    };
    Ok((api, iscsi))
}

/// Where the backends say that their volumes are to be reached: `target_ip_address` (`$my_ip` if it is not set) with `target_port`, then
/// `target_secondary_ip_addresses` with the same port. One target serves all backends of a node.
fn portals(config: &Config) -> anyhow::Result<Vec<SocketAddr>> {
    let mut portals: Vec<SocketAddr> = Vec::new();
    for section in config.backends()? {
        let port = section.get::<u16>("target_port")?.unwrap_or(3260);
        let first: String = section.require("target_ip_address")?;
        let more = section.get::<Vec<String>>("target_secondary_ip_addresses")?.unwrap_or_default();
        let options = [("target_ip_address", vec![first]), ("target_secondary_ip_addresses", more)];
        for (option, texts) in options {
            for text in texts {
                let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
                let address: IpAddr = bare
                    .parse()
                    .map_err(|_| section.error(option, format!("{text:?} is not an IP address")))?;
                let portal = SocketAddr::new(address, port);
                if !portals.contains(&portal) {
                    portals.push(portal);
                }
            }
        }
    }
    Ok(portals)
}

/// What `my_ip` is when nobody says: the address from which this host would reach the world. Nothing is sent.
fn own_address() -> IpAddr {
    let route = || -> std::io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address for documentation (RFC 5737): only the route to it is asked for.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    route().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn read_policy(config: &Config, data_dir: &Path, files: &[PathBuf]) -> anyhow::Result<Policy> {
    let section = config.section("oslo_policy");
    let name: String = section.get("policy_file")?.unwrap_or_else(|| "policy.yaml".into());
    // Relative names are looked for beside the configuration files, then in the data directory.
    let beside =
        files.iter().filter_map(|file| file.parent()).map(Path::to_path_buf).chain([data_dir.to_path_buf()]);
    let found = beside.map(|folder| folder.join(&name)).find(|path| path.exists());
    let mut texts = Vec::new();
    if let Some(path) = found {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        texts.push((path.display().to_string(), text));
    }
    let options = control::policy::Options {
        enforce_new_defaults: section.get("enforce_new_defaults")?.unwrap_or(true),
        ..control::policy::Options::default()
    };
    Ok(Policy::load(&texts, &options)?)
}

fn host_name() -> anyhow::Result<String> {
    let name = rustix::system::uname();
    let name = name.nodename().to_str().context("the host's name is not text")?;
    Ok(name.to_owned())
}
