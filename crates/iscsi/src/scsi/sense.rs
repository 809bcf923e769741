//! Status and sense data (SPC-4 section 4.5).

/// SCSI status codes.
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const CONDITION_MET: u8 = 0x04;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
}

/// Sense keys.
pub mod key {
    pub const NO_SENSE: u8 = 0x0;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const COPY_ABORTED: u8 = 0xa;
    pub const ABORTED_COMMAND: u8 = 0xb;
    pub const MISCOMPARE: u8 = 0xe;
}

/// Where in the CDB or the parameter list the fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pointer {
    in_cdb: bool,
    byte: u16,
}

/// Why a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense {
    pub key: u8,
    pub asc: u8,
    pub ascq: u8,
    information: Option<u64>,
    pointer: Option<Pointer>,
}

impl Sense {
    /// A sense key with its additional code and qualifier.
    pub const fn new(key: u8, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq, information: None, pointer: None }
    }

    pub const fn invalid_opcode() -> Self {
        Self::new(key::ILLEGAL_REQUEST, 0x20, 0x00).at_cdb(0)
    }

    /// Invalid field in CDB, at byte `byte` of it.
    pub const fn invalid_cdb(byte: u16) -> Self {
        Self::new(key::ILLEGAL_REQUEST, 0x24, 0x00).at_cdb(byte)
    }

    /// Invalid field in parameter list, at byte `byte` of it.
    pub const fn invalid_parameter(byte: u16) -> Self {
        let mut sense = Self::new(key::ILLEGAL_REQUEST, 0x26, 0x00);
        sense.pointer = Some(Pointer { in_cdb: false, byte });
        sense
    }

    pub const fn parameter_list_length() -> Self {
        Self::new(key::ILLEGAL_REQUEST, 0x1a, 0x00)
    }

    pub const fn lba_out_of_range() -> Self {
        Self::new(key::ILLEGAL_REQUEST, 0x21, 0x00)
    }

    pub const fn no_such_lun() -> Self {
        Self::new(key::ILLEGAL_REQUEST, 0x25, 0x00)
    }

    pub const fn invalid_release() -> Self {
        Self::new(key::ILLEGAL_REQUEST, 0x26, 0x04)
    }

    pub const fn no_registration_room() -> Self {
        Self::new(key::ILLEGAL_REQUEST, 0x55, 0x04)
    }

    pub const fn write_protected() -> Self {
        Self::new(key::DATA_PROTECT, 0x27, 0x00)
    }

    /// The pool behind a thin unit is full.
    pub const fn space_exhausted() -> Self {
        Self::new(key::DATA_PROTECT, 0x27, 0x07)
    }

    pub const fn read_error() -> Self {
        Self::new(key::MEDIUM_ERROR, 0x11, 0x00)
    }

    pub const fn write_error() -> Self {
        Self::new(key::MEDIUM_ERROR, 0x0c, 0x00)
    }

    pub const fn internal() -> Self {
        Self::new(key::HARDWARE_ERROR, 0x44, 0x00)
    }

    /// Bytes of the data-out buffer differ from the medium, the first at `offset`.
    pub const fn miscompare(offset: u64) -> Self {
        let mut sense = Self::new(key::MISCOMPARE, 0x1d, 0x00);
        sense.information = Some(offset);
        sense
    }

    /// The initiator sent less unsolicited data than it announced, or more than it may.
    pub const fn unsolicited_amount() -> Self {
        Self::new(key::ABORTED_COMMAND, 0x0c, 0x0d)
    }

    /// Data came out of sequence.
    pub const fn data_phase_error() -> Self {
        Self::new(key::ABORTED_COMMAND, 0x4b, 0x00)
    }

    const fn at_cdb(mut self, byte: u16) -> Self {
        self.pointer = Some(Pointer { in_cdb: true, byte });
        self
    }

    /// Whether it is a unit attention.
    pub const fn is_unit_attention(&self) -> bool {
        self.key == key::UNIT_ATTENTION
    }

    /// As sense data, in fixed format or (D_SENSE) in descriptor format.
    pub fn encode(&self, descriptor: bool) -> Vec<u8> {
        if descriptor { self.encode_descriptors() } else { self.encode_fixed() }
    }

    fn encode_fixed(&self) -> Vec<u8> {
        let mut bytes = vec![0; 18];
        bytes[0] = 0x70;
        bytes[2] = self.key;
        bytes[7] = 10;
        bytes[12] = self.asc;
        bytes[13] = self.ascq;
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        if let Some(pointer) = self.pointer {
            bytes[15..18].copy_from_slice(&pointer.encode());
        }
        bytes
    }

    fn encode_descriptors(&self) -> Vec<u8> {
        let mut bytes = vec![0x72, self.key, self.asc, self.ascq, 0, 0, 0, 0];
        if let Some(information) = self.information {
            bytes.extend_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(pointer) = self.pointer {
            bytes.extend_from_slice(&[0x02, 0x06, 0x00, 0x00]);
            bytes.extend_from_slice(&pointer.encode());
            bytes.push(0);
        }
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }

    /// Reads sense data of either format: key, additional code and qualifier. For the initiator.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7f {
            0x70 | 0x71 if bytes.len() >= 14 => Some(Self::new(bytes[2] & 0x0f, bytes[12], bytes[13])),
            0x72 | 0x73 if bytes.len() >= 4 => Some(Self::new(bytes[1] & 0x0f, bytes[2], bytes[3])),
            _ => None,
        }
    }
}

impl Pointer {
    /// The three bytes of the sense-key specific field.
    fn encode(self) -> [u8; 3] {
        let [high, low] = self.byte.to_be_bytes();
        [0x80 | if self.in_cdb { 0x40 } else { 0 }, high, low]
    }
}

impl std::fmt::Display for Sense {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sense {:x}/{:02x}.{:02x}", self.key, self.asc, self.ascq)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fixed_format_has_18_bytes_and_points_at_the_field() {
        let bytes = Sense::invalid_cdb(2).encode(false);
        assert_eq!(bytes, [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 2]);
        let bytes = Sense::miscompare(0x1234).encode(false);
        assert_eq!((bytes[0], &bytes[3..7]), (0xf0, &[0, 0, 0x12, 0x34][..]));
    }

    #[test]
    fn descriptor_format_carries_the_same() {
        let bytes = Sense::miscompare(7).encode(true);
        assert_eq!(bytes, [0x72, 0xe, 0x1d, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(Sense::invalid_parameter(4).encode(true)[8..], [2, 6, 0, 0, 0x80, 0, 4, 0]);
    }

    proptest! {
        #[test]
        fn both_formats_can_be_read_back(k in 0u8..16, asc: u8, ascq: u8, descriptor: bool) {
            let sense = Sense::new(k, asc, ascq);
            prop_assert_eq!(Sense::decode(&sense.encode(descriptor)), Some(sense));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Sense::decode(&bytes);
        }
    }
}
