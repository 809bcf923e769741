//! Serves a file as LUN 0, for conformance suites and measurements:
//! `serve_file FILE [ADDR:PORT] [IQN] [USER:SECRET] [ro|removable|4k|atomic]`.

#[path = "../tests/support/device.rs"]
#[allow(dead_code)]
mod device;

use std::path::Path;

use iscsi::{Access, Chap, Export, Lun, Target, TargetConfig};
use model::Secret;
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("which file?")?;
    let portal = args.next().unwrap_or_else(|| "127.0.0.1:3260".to_owned());
    let iqn = args.next().unwrap_or_else(|| "iqn.2010-10.org.openstack:example".to_owned());
    let mut access = Access::Open;
    let unopened = device::Memory::new(0);
    let mut lun = Lun::new(0, unopened, Uuid::from_u128(1));
    let mut physical = 512;
    let config = TargetConfig::new(vec![portal.parse()?]);
    for arg in args {
        match arg.as_str() {
            "ro" => lun.read_only = true,
            "removable" => lun.removable = true,
            "4k" => physical = 4096,
            "atomic" => lun.atomic_write = 1 << 20,
            other => {
                let (user, secret) = other.split_once(':').ok_or_else(|| format!("what is {other:?}?"))?;
                let secret = Secret::new(secret.to_owned());
                access = Access::Chap(Chap { user: user.to_owned(), secret, mutual: None });
            }
        }
    }
    lun.device = device::SparseFile::with_block_size(Path::new(&file), physical)?;
    let target = Target::bind(config).await?;
    target.put(Export { iqn: iqn.clone(), luns: vec![lun], access }).await?;
    target.start();
    println!("iscsi://{}/{iqn}/0", target.portals()[0]);
    tokio::signal::ctrl_c().await?;
    target.shutdown().await;
    Ok(())
}
