//! What the tests share: targets on loopback and devices to serve.
#![allow(dead_code)] // each test binary uses its part
#![allow(clippy::unwrap_used)] // test code

pub mod bench;
pub mod device;
pub mod gated;
pub mod raw;

use std::sync::Arc;

use iscsi::{
    Access, Chap, Export, Grant, InitiatorConfig, InitiatorError, Limits, Lun, RemoteLun, Target,
    TargetConfig,
};
use model::Secret;
use model::block::Device;
use uuid::Uuid;

pub const IQN: &str = "iqn.2010-10.org.openstack:volume-test";
pub const HOST: &str = "iqn.1993-08.org.debian:01:host";

/// A target on a free port of loopback, serving.
pub async fn target() -> Target {
    target_with(Limits::default()).await
}

pub async fn target_with(limits: Limits) -> Target {
    let config = TargetConfig { limits, ..TargetConfig::new(vec!["127.0.0.1:0".parse().unwrap()]) };
    let target = Target::bind(config).await.unwrap();
    target.start();
    target
}

/// One unit, open to all.
pub fn open(device: Device) -> Export {
    export(device, Access::Open)
}

pub fn export(device: Device, access: Access) -> Export {
    Export { iqn: IQN.to_owned(), luns: vec![Lun::new(0, device, Uuid::from_u128(7))], access }
}

/// A target that serves one device to all.
pub async fn serving(device: Device) -> Target {
    let target = target().await;
    target.put(open(device)).await.unwrap();
    target
}

pub fn portal(target: &Target) -> String {
    target.portals()[0].to_string()
}

pub fn config(target: &Target) -> InitiatorConfig {
    InitiatorConfig::new(portal(target), IQN, 0, HOST)
}

pub async fn connect(target: &Target) -> Arc<RemoteLun> {
    RemoteLun::connect(config(target)).await.unwrap()
}

pub async fn try_connect(
    target: &Target,
    initiator: &str,
    chap: Option<Chap>,
) -> Result<Arc<RemoteLun>, InitiatorError> {
    let config = InitiatorConfig { initiator: initiator.to_owned(), chap, ..config(target) };
    RemoteLun::connect(config).await
}

pub fn chap(user: &str, secret: &str) -> Chap {
    Chap { user: user.to_owned(), secret: Secret::new(secret.to_owned()), mutual: None }
}

pub fn grant(initiator: &str, chap: Option<Chap>) -> Grant {
    Grant { initiator: initiator.to_owned(), chap, read_only: false }
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Waits until something has come true; at most ten seconds.
pub async fn until(mut true_now: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !true_now() {
        assert!(tokio::time::Instant::now() < deadline, "it did not come true");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
