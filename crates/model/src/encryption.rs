//! How volumes of a type are encrypted.

use crate::{EncryptionId, Time, TypeId};

text_enum! {
    /// Where encryption happens.
    ControlLocation {
        FrontEnd = "front-end",
        BackEnd = "back-end",
    }
}

/// The encryption of a volume type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    pub id: EncryptionId,
    pub type_id: TypeId,
    /// `luks`, ...
    pub provider: String,
    pub control_location: ControlLocation,
    pub cipher: Option<String>,
    /// Bits.
    pub key_size: Option<u32>,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
}
