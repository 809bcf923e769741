//! The encryption of types and volumes as answers show it (api-routes-admin.md, api-routes-volumes.md).

use model::{Encryption, Volume};

use crate::{Object, object, time};

/// A type's encryption.
pub fn of_type(encryption: &Encryption) -> Object {
    object! {
        "encryption_id": encryption.id,
        "volume_type_id": encryption.type_id,
        "provider": encryption.provider,
        "control_location": encryption.control_location,
        "cipher": encryption.cipher,
        "key_size": encryption.key_size,
        "created_at": time::or_null(encryption.created_at),
        "updated_at": time::or_null(encryption.updated_at),
        "deleted_at": Option::<String>::None,
        "deleted": false,
    }
}

/// What a host needs to know of a volume's encryption.
pub fn of_volume(volume: &Volume, encryption: Option<&Encryption>) -> Object {
    let mut shape = object! { "encryption_key_id": volume.encryption_key_id };
    if let Some(encryption) = encryption {
        shape.extend(object! {
            "control_location": encryption.control_location,
            "cipher": encryption.cipher,
            "key_size": encryption.key_size,
            "provider": encryption.provider,
        });
    }
    shape
}
