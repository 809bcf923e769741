//! A target with a device whose second half nothing may touch.

use std::sync::Arc;

use iscsi::pdu::{Bhs, op};
use iscsi::{Access, Limits, Target};

use super::device::Memory;
use super::raw::*;
use super::*;

pub const MIB: usize = 1 << 20;
pub const BLOCKS: u32 = 8 * MIB as u32 / 512;
/// The guard: the second half of the device, which nothing may touch.
pub const GUARD: usize = 4 * MIB;

pub struct Bench {
    pub device: Arc<Memory>,
    pub target: Target,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Access::Open, Limits::default()).await
    }

    pub async fn with(access: Access, limits: Limits) -> Self {
        let device = Memory::new(8 * MIB);
        device.fill(GUARD, 4 * MIB, 0xa5);
        let target = target_with(limits).await;
        target.put(export(device.clone(), access)).await.unwrap();
        Self { device, target }
    }

    pub async fn raw(&self) -> Raw {
        Raw::connect(&self.target).await
    }

    pub async fn full(&self) -> Raw {
        Raw::full(&self.target, &[("InitialR2T", "No"), ("ImmediateData", "Yes")]).await
    }

    /// The status that a login ends with, given its first request.
    pub async fn login(&self, request: Bhs, data: &[u8]) -> (u8, u8) {
        let mut raw = self.raw().await;
        raw.send(request, data).await;
        let status = raw.receive().await.login_status();
        if status.0 != 0 {
            raw.closed().await;
        }
        status
    }

    /// The guard is untouched and others are served.
    pub async fn unharmed(&self) {
        assert!(
            self.device.bytes(GUARD, 4 * MIB).iter().all(|byte| *byte == 0xa5),
            "the guard was written to"
        );
        let mut raw = Raw::full_as(&self.target, [0x80, 1, 1, 1, 1, 1], &[]).await;
        let answer = raw.command(&read10(BLOCKS - 1, 1), 512, &[]).await;
        assert_eq!((answer.bhs.opcode(), answer.data), (op::DATA_IN, vec![0xa5; 512]));
    }
}
