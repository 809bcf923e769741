//! Builds what the roles of a process share: database, bus, drivers, the service itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use control::backup::Keeper;
use control::bus::LocalBus;
use control::node::Node;
use control::target::{TargetRole, TargetSettings};
use control::{Cloud, Parts, service};
use drivers::SharedDriver;
use drivers::file::{FileConfig, FileDriver, Installation};

use crate::config::Boot;
use crate::nova::Nova;
use crate::serve::Role;

/// A process that is ready to run its roles.
#[derive(Debug)]
pub struct Service {
    pub boot: Boot,
    pub cloud: Cloud,
    pub node: Arc<Node>,
}

/// Class paths of Cinder's that mean one of our drivers.
const DRIVERS: &[(&str, &str)] = &[("file", "file")];

/// Opens the database (and brings it up to date), starts the drivers.
///
/// # Errors
/// What cannot be reached or used.
pub async fn build(boot: Boot) -> anyhow::Result<Service> {
    let connections = boot.config.section("database").get::<u32>("max_pool_size")?.unwrap_or(5).max(2);
    let db = open_database(&boot.database, connections).await?;
    db::schema::migrate_quiet(&db, boot.settings.service_down)
        .await
        .context("cannot bring the database up to date")?;
    let installation = Installation {
        id: db::installation::id(&mut db.read()).await?,
        place: format!("{}, data in {}", boot.settings.host, boot.data_dir.path.display()),
    };
    let cloud = Cloud::new(Parts {
        db,
        bus: Arc::new(LocalBus::default()),
        policy: boot.policy.clone(),
        settings: boot.settings.clone(),
        scheduler: control::scheduler::Options::from_config(&boot.config)?,
        sealer: boot.data_dir.sealer()?,
    });
    let cloud = match &boot.auth {
        api::Auth::Keystone(authenticator) => {
            let nova = Nova::open(&boot.config, authenticator.session().clone())?;
            cloud.with_compute(Arc::new(nova))
        }
        _ => cloud,
    };
    let mut node = Node { host: boot.settings.host.clone(), ..Node::default() };
    let mut directories = Vec::new();
    if boot.runs(Role::Volume) || boot.runs(Role::Target) || boot.runs(Role::Backup) {
        for section in boot.config.backends()? {
            let host = format!("{}@{}", boot.settings.host, section.name());
            let driver = open_driver(&section, &installation)
                .with_context(|| format!("backend [{}]", section.name()))?;
            driver.start().await.with_context(|| format!("backend [{}]", section.name()))?;
            refuse_shared_directory(&section, &mut directories)?;
            if boot.runs(Role::Volume) {
                let zone = section.get::<String>("backend_availability_zone")?;
                let zone = zone.unwrap_or_else(|| boot.settings.zone.clone());
                let id = cloud.register(service::VOLUME, &host, &zone).await?;
                node.services.insert(host.clone(), id);
            }
            node.backends.insert(host, driver);
        }
    }
    if boot.runs(Role::Backup) {
        node.backup = Some(open_keeper(&boot)?);
    }
    if boot.runs(Role::Target) {
        node.target = Some(start_target(&boot, &cloud, &node).await?);
    }
    Ok(Service { boot, cloud, node: Arc::new(node) })
}

/// Opens the database. A server that is away, or does not let us in yet, is told of and tried again: whatever started this
/// process would only start it anew.
async fn open_database(url: &str, connections: u32) -> anyhow::Result<db::Db> {
    let mut pause = Duration::from_secs(1);
    loop {
        match db::Db::connect(url, connections).await {
            Err(error @ db::Error::Unreachable { .. }) => {
                tracing::warn!(%error, "cannot open the database, trying again in {} s", pause.as_secs());
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            result => return result.context("cannot open the database"),
        }
    }
}

/// Two backends in one directory would each take the other's volumes for strays, and one inside the other leaves no directory
/// that can be moved or filled by itself. Asked once the directory is there, so that no two spellings of it pass.
fn refuse_shared_directory(
    section: &model::config::Section<'_>,
    taken: &mut Vec<(PathBuf, String)>,
) -> anyhow::Result<()> {
    let Some(directory) = section.get::<String>("file_directory")? else { return Ok(()) };
    let Ok(path) = PathBuf::from(directory).canonicalize() else { return Ok(()) };
    let name = section.name();
    for (other_path, other) in taken.iter() {
        if *other_path == path {
            bail!("backends [{other}] and [{name}] have the same file_directory: each needs one of its own");
        }
        if other_path.starts_with(&path) || path.starts_with(other_path) {
            bail!(
                "file_directory of the backends [{other}] ({}) and [{name}] ({}) lie one inside the other: each needs one of \
                 its own, outside of the other's",
                other_path.display(),
                path.display()
            );
        }
    }
    taken.push((path, name.to_owned()));
    Ok(())
}

fn open_driver(
    section: &model::config::Section<'_>,
    installation: &Installation,
) -> anyhow::Result<SharedDriver> {
    let wanted: String = section.require("volume_driver")?;
    match DRIVERS.iter().find(|(name, _)| *name == wanted).map(|(_, driver)| *driver) {
        Some("file") => {
            let text = |option: &str| section.get::<String>(option).ok().flatten();
            let mut config = FileConfig::from_options(section.name(), text).map_err(anyhow::Error::msg)?;
            config.installation = Some(installation.clone());
            Ok(Arc::new(FileDriver::new(config)))
        }
        _ => bail!("volume_driver = {wanted} is not available in this release; available: file"),
    }
}

async fn start_target(boot: &Boot, cloud: &Cloud, node: &Node) -> anyhow::Result<Arc<TargetRole>> {
    let portals = boot.iscsi_listen.clone();
    let mut advertised = Vec::new();
    if portals.iter().any(|portal| portal.ip().is_unspecified()) {
        let section = boot.config.default_section();
        let text: String = section.require("target_ip_address")?;
        let address: std::net::IpAddr = text
            .parse()
            .map_err(|_| section.error("target_ip_address", format!("{text:?} is not an IP address")))?;
        advertised.extend(portals.iter().map(|portal| match portal.ip().is_unspecified() {
            true => std::net::SocketAddr::new(address, portal.port()),
            false => *portal,
        }));
    }
    let names: Vec<String> = portals.iter().map(ToString::to_string).collect();
    let settings = TargetSettings { portals, advertised };
    TargetRole::start(cloud.clone(), &node.host, node.backends.clone(), settings).await.with_context(|| {
        format!(
            "the target cannot use {} (--iscsi-listen chooses another, target_ip_address in a backend's section)",
            names.join(", ")
        )
    })
}

/// Class paths of Cinder's backup drivers that we have.
const BACKUP_DRIVERS: &[&str] = &[backup::POSIX_SERVICE, "posix"];

fn open_keeper(boot: &Boot) -> anyhow::Result<Keeper> {
    let section = boot.config.default_section();
    let wanted: String = section.require("backup_driver")?;
    if !BACKUP_DRIVERS.contains(&wanted.as_str()) {
        bail!(
            "backup_driver = {wanted} is not available in this release; available: {}",
            backup::POSIX_SERVICE
        );
    }
    let text = |option: &str| section.get::<String>(option).ok().flatten();
    let posix = backup::PosixConfig::from_options(text, &boot.data_dir.path.join("backup"))?;
    Ok(Keeper {
        store: Arc::new(backup::store::PosixStore::from_config(&posix)),
        naming: backup::Naming::Posix { container: posix.container },
        pipeline: backup::PipelineConfig::from_options(text)?,
        service: backup::POSIX_SERVICE.into(),
        zone: boot.settings.zone.clone(),
    })
}
