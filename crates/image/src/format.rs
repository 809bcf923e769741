//! Disk formats by their names in Glance.

use std::fmt;
use std::str::FromStr;

/// A `disk_format` that volumes are made from or uploaded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// The volume's bytes as they are.
    Raw,
    /// A CD or DVD: bytes as they are, and it must be one.
    Iso,
    Qcow2,
    Vmdk,
}

impl DiskFormat {
    /// Its name in Glance and in `qemu-img`'s `-f` and `-O`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Iso => "iso",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }

    /// Whether the image's bytes are the volume's.
    pub const fn is_verbatim(self) -> bool {
        matches!(self, Self::Raw | Self::Iso)
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DiskFormat {
    type Err = ();

    /// A format that is handled here.
    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Raw, Self::Iso, Self::Qcow2, Self::Vmdk]
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or(())
    }
}
