//! INQUIRY: standard data.

use super::sense::Sense;
use super::unit::Identity;
use super::{Answer, Plan, Request, be16, vpd};

/// The product revision: the crate's version in four characters.
const REVISION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// SAM-5, SPC-4, SBC-3, iSCSI.
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, 0x0460, 0x04c0, 0x0960];

pub fn inquiry(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    let (vital, page, allocation) = (cdb[1] & 0x01 != 0, cdb[2], usize::from(be16(cdb, 3)));
    // CMDDT is obsolete.
    if cdb[1] & 0x02 != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    if !vital {
        if page != 0 {
            return Err(Sense::invalid_cdb(2).into());
        }
        let unit = &request.nexus.unit;
        return Ok(Plan::Answer(Answer::data(standard(&unit.identity, unit.removable), allocation)));
    }
    let data = vpd::page(request.nexus, page).ok_or_else(|| Sense::invalid_cdb(2))?;
    Ok(Plan::Answer(Answer::data(data, allocation)))
}

/// INQUIRY of a LUN that does not exist: qualifier 3, type 1f.
pub fn absent(cdb: &[u8; 16]) -> Answer {
    if cdb[1] & 0x03 != 0 || cdb[2] != 0 {
        return Sense::invalid_cdb(1).into();
    }
    let nobody = Identity {
        uuid: uuid::Uuid::nil(),
        serial: String::new(),
        vendor: String::new(),
        product: String::new(),
    };
    let mut data = standard(&nobody, false);
    data[0] = 0x7f;
    Answer::data(data, usize::from(be16(cdb, 3)))
}

fn standard(identity: &Identity, removable: bool) -> Vec<u8> {
    let mut data = vec![0; 96];
    data[1] = if removable { 0x80 } else { 0 };
    // SPC-4.
    data[2] = 0x06;
    // HISUP, response data format 2.
    data[3] = 0x12;
    data[4] = (data.len() - 5) as u8;
    // TPGS: implicit asymmetric access; 3PC: third-party copy.
    data[5] = 0x18;
    // CMDQUE.
    data[7] = 0x02;
    padded(&mut data[8..16], &identity.vendor);
    padded(&mut data[16..32], &identity.product);
    padded(&mut data[32..36], REVISION);
    for (n, descriptor) in VERSION_DESCRIPTORS.iter().enumerate() {
        data[58 + 2 * n..60 + 2 * n].copy_from_slice(&descriptor.to_be_bytes());
    }
    data
}

/// Fills a field with printable ASCII, blanks behind it.
pub fn padded(field: &mut [u8], text: &str) {
    field.fill(b' ');
    let printable = text.bytes().filter(|byte| (0x20..0x7f).contains(byte));
    for (place, byte) in field.iter_mut().zip(printable) {
        *place = byte;
    }
}
