//! Attachments: the only record of who uses a volume.

use crate::{
    AttachmentId, ConnectionInfo, Connector, Time, VolumeId, volume::VolumeAttachStatus, volume::VolumeStatus,
};

text_enum! {
    /// `volume_attachment.attach_status`.
    AttachStatus {
        Reserved = "reserved",
        Attaching = "attaching",
        Attached = "attached",
        Detached = "detached",
        ErrorAttaching = "error_attaching",
        ErrorDetaching = "error_detaching",
        Deleted = "deleted",
    }
}

text_enum! {
    /// `volume_attachment.attach_mode`. Before a mode is known Cinder stores the text `null`.
    AttachMode { ReadWrite = "rw", ReadOnly = "ro", Unset = "null" }
}

/// One connection of a volume to one host or instance.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub id: AttachmentId,
    pub volume_id: VolumeId,
    pub instance_uuid: Option<String>,
    pub attached_host: Option<String>,
    pub mountpoint: Option<String>,
    pub attach_time: Option<Time>,
    pub detach_time: Option<Time>,
    pub mode: Option<AttachMode>,
    pub status: AttachStatus,
    pub connector: Option<Connector>,
    /// Without secrets: those are joined from `exports` when it is handed out.
    pub connection_info: Option<ConnectionInfo>,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
}

/// What a volume's status follows from its remaining attachments, in falling precedence (states.md 3: Cinder sorts the
/// texts; we say the order).
const PRECEDENCE: [(AttachStatus, VolumeStatus, VolumeAttachStatus); 4] = [
    (AttachStatus::Attached, VolumeStatus::InUse, VolumeAttachStatus::Attached),
    (AttachStatus::Attaching, VolumeStatus::Attaching, VolumeAttachStatus::Attaching),
    (AttachStatus::Detached, VolumeStatus::Available, VolumeAttachStatus::Detached),
    (AttachStatus::Reserved, VolumeStatus::Reserved, VolumeAttachStatus::Reserved),
];

/// The status and attach status of a volume with these live attachments; failed ones do not count.
pub fn derive(live: impl IntoIterator<Item = AttachStatus>) -> (VolumeStatus, VolumeAttachStatus) {
    let live: Vec<AttachStatus> = live.into_iter().collect();
    PRECEDENCE
        .iter()
        .find(|(status, ..)| live.contains(status))
        .map_or((VolumeStatus::Available, VolumeAttachStatus::Detached), |(_, volume, attach)| {
            (*volume, *attach)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_attachment_decides() {
        use AttachStatus::{Attached, Attaching, ErrorAttaching, Reserved};
        assert_eq!(derive([]).0, VolumeStatus::Available);
        assert_eq!(derive([ErrorAttaching]).0, VolumeStatus::Available);
        assert_eq!(derive([Reserved, Attached]).0, VolumeStatus::InUse);
        assert_eq!(derive([Reserved, Attaching]).0, VolumeStatus::Attaching);
        assert_eq!(derive([Reserved]), (VolumeStatus::Reserved, VolumeAttachStatus::Reserved));
    }
}
