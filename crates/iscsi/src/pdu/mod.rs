//! iSCSI protocol data units (RFC 7143 section 11): the 48-byte basic header segment and its fields.
//!
//! ```text
//!  0 |.I opcode | F flags  | opcode specific    |
//!  4 | AHS words| data segment length (24 bits) |
//!  8 | LUN, or ISID and TSIH                    |
//! 16 | initiator task tag                       |
//! 20 | opcode specific, 28 bytes                |
//! ```
//!
//! A header is kept as its bytes and read through accessors: nothing is decoded that nobody asks for, and no header
//! can fail to parse. What a field means, and whether it is legal, is for the caller.

pub mod digest;
pub mod text;

/// Length of a basic header segment in bytes.
pub const BHS_LEN: usize = 48;

/// A task tag or transfer tag that stands for none.
pub const NO_TAG: u32 = 0xffff_ffff;

/// Operation codes. Bit 6 of the first byte (immediate delivery) is not part of them.
pub mod op {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN: u8 = 0x03;
    pub const TEXT: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// Bits of the second byte.
pub mod flag {
    /// The last PDU of a sequence.
    pub const FINAL: u8 = 0x80;
    /// SCSI command: data flows to the initiator.
    pub const READ: u8 = 0x40;
    /// SCSI command: data flows to the target.
    pub const WRITE: u8 = 0x20;
    /// Login: a move to the next stage is asked for or granted.
    pub const TRANSIT: u8 = 0x80;
    /// Login, text: the text goes on in the next PDU.
    pub const CONTINUE: u8 = 0x40;
    /// Response, Data-In: more data than the initiator expected.
    pub const OVERFLOW: u8 = 0x04;
    /// Response, Data-In: less data than the initiator expected.
    pub const UNDERFLOW: u8 = 0x02;
    /// Data-In: carries the command's status.
    pub const STATUS: u8 = 0x01;
}

/// Reasons of a Reject (RFC 7143 11.17.1).
pub mod reject {
    pub const DATA_DIGEST: u8 = 0x02;
    pub const SNACK: u8 = 0x03;
    pub const PROTOCOL: u8 = 0x04;
    pub const NOT_SUPPORTED: u8 = 0x05;
    pub const TOO_MANY_IMMEDIATE: u8 = 0x06;
    pub const INVALID_FIELD: u8 = 0x09;
    pub const OUT_OF_RESOURCES: u8 = 0x0a;
}

/// A basic header segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bhs(pub [u8; BHS_LEN]);

impl Bhs {
    /// A header with this operation code, the final bit and nothing else set.
    pub const fn new(opcode: u8) -> Self {
        let mut bytes = [0; BHS_LEN];
        bytes[0] = opcode;
        bytes[1] = flag::FINAL;
        Self(bytes)
    }

    /// The operation code, without the immediate bit.
    pub const fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// Whether it is for immediate delivery.
    pub const fn immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// Marks it for immediate delivery.
    pub const fn set_immediate(&mut self) {
        self.0[0] |= 0x40;
    }

    /// The second byte.
    pub const fn flags(&self) -> u8 {
        self.0[1]
    }

    /// Whether a flag of [`flag`] is set.
    pub const fn has(&self, bit: u8) -> bool {
        self.0[1] & bit != 0
    }

    /// The length of the additional header segments in bytes, at most 1020.
    pub const fn ahs_len(&self) -> usize {
        self.0[4] as usize * 4
    }

    /// The length of the data segment in bytes, without padding; below 2^24.
    pub const fn data_len(&self) -> usize {
        (self.0[5] as usize) << 16 | (self.0[6] as usize) << 8 | self.0[7] as usize
    }

    /// Sets the length of the data segment.
    pub fn set_data_len(&mut self, len: usize) {
        debug_assert!(len < 1 << 24, "a data segment has a 24-bit length");
        self.0[5..8].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
    }

    /// The eight bytes of the LUN field.
    pub fn lun(&self) -> [u8; 8] {
        let mut lun = [0; 8];
        lun.copy_from_slice(&self.0[8..16]);
        lun
    }

    /// Sets the LUN field.
    pub fn set_lun(&mut self, lun: [u8; 8]) {
        self.0[8..16].copy_from_slice(&lun);
    }

    /// The big-endian 32-bit field at byte `at`.
    pub fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Sets the big-endian 32-bit field at byte `at`.
    pub fn set_u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// The big-endian 16-bit field at byte `at`.
    pub fn u16_at(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    /// Sets the big-endian 16-bit field at byte `at`.
    pub fn set_u16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// The initiator task tag.
    pub fn itt(&self) -> u32 {
        self.u32_at(16)
    }

    /// Sets the initiator task tag.
    pub fn set_itt(&mut self, itt: u32) {
        self.set_u32(16, itt);
    }

    /// The target transfer tag (NOP, text, Data-Out, R2T, Data-In); the expected data length of a SCSI command.
    pub fn ttt(&self) -> u32 {
        self.u32_at(20)
    }

    /// Sets the target transfer tag.
    pub fn set_ttt(&mut self, ttt: u32) {
        self.set_u32(20, ttt);
    }

    /// CmdSN of a request, StatSN of an answer.
    pub fn sn(&self) -> u32 {
        self.u32_at(24)
    }

    /// Sets CmdSN of a request, StatSN of an answer.
    pub fn set_sn(&mut self, sn: u32) {
        self.set_u32(24, sn);
    }

    /// ExpStatSN of a request, ExpCmdSN of an answer.
    pub fn exp_sn(&self) -> u32 {
        self.u32_at(28)
    }

    /// Sets ExpStatSN of a request, ExpCmdSN of an answer.
    pub fn set_exp_sn(&mut self, sn: u32) {
        self.set_u32(28, sn);
    }

    /// Sets ExpCmdSN and MaxCmdSN of an answer.
    pub fn set_window(&mut self, exp_cmd_sn: u32, max_cmd_sn: u32) {
        self.set_u32(28, exp_cmd_sn);
        self.set_u32(32, max_cmd_sn);
    }

    /// DataSN of Data-In and Data-Out, R2TSN of R2T.
    pub fn data_sn(&self) -> u32 {
        self.u32_at(36)
    }

    /// The buffer offset of Data-In, Data-Out and R2T.
    pub fn offset(&self) -> u32 {
        self.u32_at(40)
    }

    /// The 16 bytes of a SCSI command's CDB.
    pub fn cdb(&self) -> [u8; 16] {
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&self.0[32..48]);
        cdb
    }

    /// Sets U or O and the residual count of a SCSI response or a Data-In with status. `wanted` is the length that the
    /// initiator expected, `length` what the command moves by itself.
    pub fn set_residual(&mut self, wanted: u32, length: u64) {
        let wanted_wide = u64::from(wanted);
        if length < wanted_wide {
            self.0[1] |= flag::UNDERFLOW;
            self.set_u32(44, wanted - length as u32);
        } else if length > wanted_wide {
            self.0[1] |= flag::OVERFLOW;
            self.set_u32(44, u32::try_from(length - wanted_wide).unwrap_or(u32::MAX));
        }
    }
}

/// The bytes of padding that bring `len` to a multiple of four.
pub const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Whether `a` comes before `b` in 32-bit serial arithmetic (RFC 1982).
pub const fn sn_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let mut bhs = Bhs::new(op::SCSI_RESPONSE);
        bhs.set_data_len(0x0a_0b0c);
        bhs.set_itt(0x0102_0304);
        bhs.set_ttt(0x0506_0708);
        bhs.set_sn(9);
        bhs.set_window(10, 11);
        assert_eq!(bhs.data_len(), 0x0a_0b0c);
        assert_eq!((bhs.itt(), bhs.ttt(), bhs.sn(), bhs.exp_sn()), (0x0102_0304, 0x0506_0708, 9, 10));
        assert_eq!(bhs.ahs_len(), 0);
        assert_eq!((bhs.opcode(), bhs.immediate()), (op::SCSI_RESPONSE, false));
    }

    #[test]
    fn residuals_follow_the_shorter_side() {
        let residual = |wanted, length| {
            let mut bhs = Bhs::new(op::SCSI_RESPONSE);
            bhs.set_residual(wanted, length);
            (bhs.flags() & 0x06, bhs.u32_at(44))
        };
        assert_eq!(residual(512, 512), (0, 0));
        assert_eq!(residual(10_000, 512), (flag::UNDERFLOW, 9488));
        assert_eq!(residual(200, 512), (flag::OVERFLOW, 312));
        assert_eq!(residual(0, u64::MAX), (flag::OVERFLOW, u32::MAX));
    }

    #[test]
    fn serial_numbers_wrap() {
        assert!(sn_before(0xffff_ffff, 0));
        assert!(!sn_before(0, 0xffff_ffff));
        assert!(!sn_before(7, 7));
    }

    proptest! {
        #[test]
        fn any_header_can_be_read(bytes in proptest::collection::vec(any::<u8>(), BHS_LEN)) {
            let mut raw = [0; BHS_LEN];
            raw.copy_from_slice(&bytes);
            let bhs = Bhs(raw);
            prop_assert!(bhs.opcode() < 0x40);
            prop_assert!(bhs.data_len() < 1 << 24);
            prop_assert!(bhs.ahs_len() <= 1020);
            let mut copy = bhs;
            copy.set_data_len(bhs.data_len());
            copy.set_itt(bhs.itt());
            copy.set_lun(bhs.lun());
            prop_assert_eq!(copy, bhs);
        }

        #[test]
        fn padding_rounds_up_to_four(len in 0usize..1 << 24) {
            prop_assert_eq!((len + padding(len)) % 4, 0);
            prop_assert!(padding(len) < 4);
        }
    }
}
