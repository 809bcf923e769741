//! PDUs as they go on the wire: header, digest, data, padding, digest.

use crate::pdu::digest::{DIGEST_LEN, crc32c};
use crate::pdu::{BHS_LEN, Bhs, padding};

/// Which digests a connection uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    pub header: bool,
    pub data: bool,
}

/// The length of a PDU on the wire.
pub const fn wire_length(digests: Digests, data_len: usize) -> usize {
    let header = BHS_LEN + if digests.header { DIGEST_LEN } else { 0 };
    let digest = if digests.data && data_len > 0 { DIGEST_LEN } else { 0 };
    header + data_len + padding(data_len) + digest
}

/// Writes a PDU as it goes on the wire.
pub fn lay_out(digests: Digests, to: &mut [u8], bhs: &Bhs, data: &[u8]) {
    let start = write_header(digests, to, bhs);
    to[start..start + data.len()].copy_from_slice(data);
    finish_data(digests, &mut to[start..], data.len());
}

/// Writes a header, with its digest; returns where the data begins.
pub fn write_header(digests: Digests, to: &mut [u8], bhs: &Bhs) -> usize {
    to[..BHS_LEN].copy_from_slice(&bhs.0);
    if !digests.header {
        return BHS_LEN;
    }
    to[BHS_LEN..BHS_LEN + DIGEST_LEN].copy_from_slice(&crc32c(&bhs.0));
    BHS_LEN + DIGEST_LEN
}

/// Pads a data segment that is in its place, and writes its digest; returns the length of all three.
pub fn finish_data(digests: Digests, to: &mut [u8], data_len: usize) -> usize {
    let padded = data_len + padding(data_len);
    to[data_len..padded].fill(0);
    if !digests.data || data_len == 0 {
        return padded;
    }
    let digest = crc32c(&to[..padded]);
    to[padded..padded + DIGEST_LEN].copy_from_slice(&digest);
    padded + DIGEST_LEN
}
