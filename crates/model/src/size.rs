//! Sizes with their unit in the type.

use std::fmt;

/// A volume's size in GiB (2^30 bytes), as Cinder counts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct GiB(pub u32);

impl GiB {
    /// The same size in bytes.
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 30
    }

    /// The smallest whole number of GiB that holds `bytes`; `None` above the largest size Cinder knows.
    pub fn holding(bytes: u64) -> Option<Self> {
        let whole = bytes.div_ceil(1 << 30);
        u32::try_from(whole).ok().filter(|n| *n <= i32::MAX as u32).map(Self)
    }
}

impl fmt::Display for GiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB", self.0)
    }
}
