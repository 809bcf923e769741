//! `cinderblock target serve FILE`: the target alone, one file as LUN 0, no database.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use drivers::OpenMode;
use iscsi::{Access, Chap, Export, Lun, Target, TargetConfig};
use model::Secret;

use crate::serve::Orders;

/// The embedded iSCSI target by itself.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve one file or block device as LUN 0 until stopped
    Serve(Serve),
}

/// Options of `target serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The file or block device; its size is a multiple of 512 bytes
    file: PathBuf,
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:3260", value_name = "ADDR:PORT")]
    portal: SocketAddr,
    /// The target's name
    #[arg(long, default_value = "iqn.2010-10.org.openstack:file", value_name = "IQN")]
    iqn: String,
    /// Admit whoever proves to know this secret (12 bytes at least)
    #[arg(long, value_name = "USER:SECRET", env = "CINDERBLOCK_CHAP", hide_env_values = true)]
    #[arg(conflicts_with = "open", required_unless_present = "open")]
    chap: Option<String>,
    /// Admit everybody; on loopback only
    #[arg(long)]
    open: bool,
    /// Refuse writes
    #[arg(long)]
    read_only: bool,
}

impl Command {
    /// Runs until told to stop.
    ///
    /// # Errors
    /// What kept it from serving.
    pub fn run(self) -> anyhow::Result<()> {
        let Self::Serve(serve) = self;
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve.run())
    }
}

impl Serve {
    async fn run(self) -> anyhow::Result<()> {
        let access = match &self.chap {
            Some(text) => {
                let (user, secret) = text.split_once(':').context("--chap takes USER:SECRET")?;
                Access::Chap(Chap {
                    user: user.to_owned(),
                    secret: Secret::new(secret.to_owned()),
                    mutual: None,
                })
            }
            None => Access::Open,
        };
        if self.open && !self.portal.ip().is_loopback() {
            bail!(
                "--open admits everybody and is for loopback only; use --chap to listen on {}",
                self.portal
            );
        }
        let mode = if self.read_only { OpenMode::Read } else { OpenMode::Write };
        let file = self.file.clone();
        let device = tokio::task::spawn_blocking(move || drivers::raw::open(&file, mode))
            .await?
            .with_context(|| format!("cannot open {}", self.file.display()))?;
        let size = device.size();
        if size == 0 || !size.is_multiple_of(512) {
            bail!("{} has {size} bytes, which are no whole blocks of 512", self.file.display());
        }
        let mut lun = Lun::new(0, device.clone(), uuid_of(&self.file)?);
        lun.read_only = self.read_only;
        let target = Target::bind(TargetConfig::new(vec![self.portal]))
            .await
            .with_context(|| format!("cannot listen on {}", self.portal))?;
        target.put(Export { iqn: self.iqn.clone(), luns: vec![lun], access }).await?;
        target.start();
        let mut orders = Orders::listen()?;
        let mut text = String::new();
        for portal in target.portals() {
            text.push_str(&self.tell(size, portal));
        }
        // Nobody may be reading; it serves all the same.
        let _ = std::io::stdout().write_all(text.as_bytes());
        let _ = std::io::stdout().flush();
        orders.ordered().await;
        target.shutdown().await;
        // Who stops it may pull the plug next.
        device.flush().await.with_context(|| format!("cannot write back {}", self.file.display()))
    }

    /// What is served where, and what to give to an initiator.
    fn tell(&self, size: u64, portal: SocketAddr) -> String {
        let user = self.chap.as_ref().and_then(|text| text.split_once(':')).map(|(user, _)| user);
        let url = url(user, portal, &self.iqn);
        let (file, iqn) = (self.file.display(), &self.iqn);
        let mut text = format!(
            "serving {file} ({size} bytes) as {iqn} LUN 0 on {portal}\n\n\
             \x20 portal  {portal}\n\
             \x20 target  {iqn}\n\
             \x20 URL     {url}\n\n"
        );
        if portal.ip().is_unspecified() {
            text.push_str("HOST stands for an address of this machine.\n");
        }
        if user.is_some() {
            text.push_str("SECRET stands for the secret of --chap.\n");
        }
        text.push_str(&format!("Try:\n  qemu-img info '{url}'\n  iscsi-inq '{url}'\n"));
        text
    }
}

/// The address that QEMU's and libiscsi's tools take. The secret is not shown: screens are read by others.
fn url(user: Option<&str>, portal: SocketAddr, iqn: &str) -> String {
    let login = user.map_or_else(String::new, |user| format!("{user}%SECRET@"));
    let portal = match portal.ip().is_unspecified() {
        true => format!("HOST:{}", portal.port()),
        false => portal.to_string(),
    };
    format!("iscsi://{login}{portal}/{iqn}/0")
}

/// An identity that stays with the file, for the unit's world-wide names.
fn uuid_of(file: &std::path::Path) -> anyhow::Result<uuid::Uuid> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = file.canonicalize()?;
    Ok(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, path.as_os_str().as_bytes()))
}
