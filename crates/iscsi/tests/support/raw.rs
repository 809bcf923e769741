//! An initiator made of bytes, which does what it is told, right or wrong.

use std::time::Duration;

use iscsi::Target;
use iscsi::pdu::digest::crc32c;
use iscsi::pdu::{BHS_LEN, Bhs, NO_TAG, flag, op, padding, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{HOST, IQN};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a silence has to last.
pub const SILENCE: Duration = Duration::from_millis(150);

/// A PDU with its data.
#[derive(Debug, Clone)]
pub struct Pdu {
    pub bhs: Bhs,
    pub data: Vec<u8>,
}

impl Pdu {
    /// The sense data of a SCSI response: key, additional code, qualifier.
    pub fn sense(&self) -> (u8, u8, u8) {
        assert_eq!(
            (self.bhs.opcode(), self.bhs.0[3]),
            (op::SCSI_RESPONSE, 2),
            "no CHECK CONDITION: {self:?}"
        );
        (self.data[4] & 0x0f, self.data[14], self.data[15])
    }

    /// The login status: class and detail.
    pub fn login_status(&self) -> (u8, u8) {
        assert_eq!(self.bhs.opcode(), op::LOGIN_RESPONSE);
        (self.bhs.0[36], self.bhs.0[37])
    }

    pub fn value(&self, key: &str) -> Option<String> {
        let pairs = text::parse(&self.data).unwrap();
        text::value(&pairs, key).map(str::to_owned)
    }
}

/// A connection.
pub struct Raw {
    pub stream: TcpStream,
    pub cmd_sn: u32,
    pub stat_sn: u32,
    pub itt: u32,
    pub digests: bool,
}

/// Text of pairs.
pub fn keys(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        text::push(&mut out, key, value);
    }
    out
}

/// A login request: stage, and the next one when it is to end.
pub fn login(stage: u8, next: Option<u8>) -> Bhs {
    let mut bhs = Bhs::new(op::LOGIN);
    bhs.set_immediate();
    bhs.0[1] = stage << 2 | next.map_or(0, |next| flag::TRANSIT | next);
    bhs.0[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 9]);
    bhs.set_itt(7);
    bhs.set_sn(100);
    bhs
}

/// What every normal login begins with.
pub fn names() -> Vec<u8> {
    keys(&[("InitiatorName", HOST), ("TargetName", IQN), ("SessionType", "Normal")])
}

impl Raw {
    pub async fn connect(target: &Target) -> Self {
        let stream = TcpStream::connect(target.portals()[0]).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, cmd_sn: 100, stat_sn: 0, itt: 1000, digests: false }
    }

    /// A session in full feature phase with these parameters.
    pub async fn full(target: &Target, parameters: &[(&str, &str)]) -> Self {
        Self::full_as(target, [0x80, 0, 0, 0, 0, 9], parameters).await
    }

    pub async fn full_as(target: &Target, isid: [u8; 6], parameters: &[(&str, &str)]) -> Self {
        let mut raw = Self::connect(target).await;
        let mut request = login(1, Some(3));
        request.0[8..14].copy_from_slice(&isid);
        let mut text = names();
        text.extend_from_slice(&keys(parameters));
        raw.send(request, &text).await;
        let answer = raw.receive().await;
        assert_eq!(answer.login_status(), (0, 0));
        assert_eq!(answer.bhs.flags() & 0x83, 0x83);
        raw.digests = answer.value("HeaderDigest").as_deref() == Some("CRC32C");
        // The unit attention of a new nexus is out of the way.
        let first = raw.command(&[0x00], 0, &[]).await;
        assert_eq!(first.sense().0, 6);
        raw
    }

    /// Sends a PDU with its lengths right.
    pub async fn send(&mut self, mut bhs: Bhs, data: &[u8]) {
        bhs.set_data_len(data.len());
        self.send_as_is(&bhs, data).await;
    }

    /// Sends a PDU whose header says what it says.
    pub async fn send_as_is(&mut self, bhs: &Bhs, data: &[u8]) {
        let mut bytes = bhs.0.to_vec();
        if self.digests {
            bytes.extend_from_slice(&crc32c(&bhs.0));
        }
        let mut segment = data.to_vec();
        segment.resize(data.len() + padding(data.len()), 0);
        bytes.extend_from_slice(&segment);
        if self.digests && !data.is_empty() {
            bytes.extend_from_slice(&crc32c(&segment));
        }
        self.bytes(&bytes).await;
    }

    /// Sends bytes. That the other side has closed is found out by reading.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    async fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut bytes)).await;
        read.expect("an answer comes in time").ok().map(|_| bytes)
    }

    /// The next PDU; `None` when the connection is closed.
    pub async fn next(&mut self) -> Option<Pdu> {
        let bytes = self.read(BHS_LEN).await?;
        let mut raw = [0; BHS_LEN];
        raw.copy_from_slice(&bytes);
        let bhs = Bhs(raw);
        if self.digests {
            assert_eq!(self.read(4).await?, crc32c(&raw));
        }
        let len = bhs.data_len();
        let mut data = self.read(len + padding(len)).await?;
        if self.digests && len > 0 {
            assert_eq!(self.read(4).await?, crc32c(&data));
        }
        data.truncate(len);
        if !matches!(bhs.opcode(), op::R2T | op::DATA_IN) {
            self.stat_sn = bhs.sn().wrapping_add(1);
        }
        Some(Pdu { bhs, data })
    }

    pub async fn receive(&mut self) -> Pdu {
        self.next().await.expect("the connection is open")
    }

    /// Nothing more comes, and the connection is closed; a Reject may come first.
    pub async fn closed(&mut self) {
        while let Some(pdu) = self.next().await {
            assert_eq!(pdu.bhs.opcode(), op::REJECT, "{pdu:?}");
        }
    }

    /// A Reject comes; the connection stays open or not.
    pub async fn rejected(&mut self) -> u8 {
        let pdu = self.receive().await;
        assert_eq!(pdu.bhs.opcode(), op::REJECT, "{pdu:?}");
        pdu.bhs.0[2]
    }

    /// Nothing comes.
    pub async fn silent(&mut self) {
        let mut byte = [0];
        let read = tokio::time::timeout(SILENCE, self.stream.read(&mut byte)).await;
        assert!(read.is_err(), "something came: {read:?}");
    }

    /// A SCSI command that expects `expected` bytes, or sends `data` and announces its length.
    pub fn request(&mut self, cdb: &[u8], expected: u32, data: &[u8]) -> Bhs {
        let mut bhs = Bhs::new(op::SCSI_COMMAND);
        bhs.0[1] |= 1;
        if !data.is_empty() {
            bhs.0[1] |= flag::WRITE;
            bhs.set_ttt(data.len() as u32);
        } else if expected > 0 {
            bhs.0[1] |= flag::READ;
            bhs.set_ttt(expected);
        }
        self.itt += 1;
        bhs.set_itt(self.itt);
        bhs.set_sn(self.cmd_sn);
        bhs.set_exp_sn(self.stat_sn);
        bhs.0[32..32 + cdb.len()].copy_from_slice(cdb);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        bhs
    }

    /// Sends a command with all its data as immediate data; its answer.
    pub async fn command(&mut self, cdb: &[u8], expected: u32, data: &[u8]) -> Pdu {
        let bhs = self.request(cdb, expected, data);
        self.send(bhs, data).await;
        self.receive().await
    }

    /// A Data-Out of the last command.
    pub fn data_out(&self, ttt: u32, data_sn: u32, offset: u32, last: bool) -> Bhs {
        let mut bhs = Bhs::new(op::DATA_OUT);
        bhs.0[1] = if last { flag::FINAL } else { 0 };
        bhs.set_itt(self.itt);
        bhs.set_ttt(ttt);
        bhs.set_u32(36, data_sn);
        bhs.set_u32(40, offset);
        bhs
    }

    /// A task management request for LUN 0.
    pub fn management(&mut self, function: u8, task: u32) -> Bhs {
        let mut bhs = Bhs::new(op::TASK_MANAGEMENT);
        bhs.set_immediate();
        bhs.0[1] = flag::FINAL | function;
        self.itt += 1;
        bhs.set_itt(self.itt);
        bhs.set_ttt(task);
        bhs.set_sn(self.cmd_sn);
        bhs
    }

    /// A NOP-Out that wants an answer comes back.
    pub async fn alive(&mut self) {
        let mut bhs = Bhs::new(op::NOP_OUT);
        bhs.set_immediate();
        self.itt += 1;
        bhs.set_itt(self.itt);
        bhs.set_ttt(NO_TAG);
        bhs.set_sn(self.cmd_sn);
        self.send(bhs, b"are you there").await;
        let answer = self.receive().await;
        assert_eq!((answer.bhs.opcode(), answer.data.as_slice()), (op::NOP_IN, &b"are you there"[..]));
    }
}

/// WRITE (10).
pub fn write10(lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// READ (10).
pub fn read10(lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = write10(lba, blocks);
    cdb[0] = 0x28;
    cdb
}

/// A CDB of 16 bytes with address and length in their usual places.
pub fn long(opcode: u8, flags: u8, lba: u64, count: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&count.to_be_bytes());
    cdb
}
