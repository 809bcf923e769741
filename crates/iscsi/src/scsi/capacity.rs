//! What there is: READ CAPACITY, REPORT LUNS, REPORT TARGET PORT GROUPS.

use super::attention::Attention;
use super::sense::Sense;
use super::{Answer, Plan, Request, be32};

pub fn read_capacity10(request: &Request<'_>) -> Result<Plan, Answer> {
    let (cdb, unit) = (request.cdb, &request.nexus.unit);
    unit.check_medium()?;
    // Without PMI the address must be zero.
    if cdb[8] & 0x01 == 0 && be32(cdb, 2) != 0 {
        return Err(Sense::invalid_cdb(2).into());
    }
    request.nexus.attentions.forget(Attention::CAPACITY_CHANGED);
    let last = u32::try_from(unit.blocks().saturating_sub(1)).unwrap_or(u32::MAX);
    let mut data = last.to_be_bytes().to_vec();
    data.extend_from_slice(&unit.block_size.to_be_bytes());
    Ok(Plan::Answer(Answer::data(data, 8)))
}

pub fn read_capacity16(request: &Request<'_>) -> Result<Plan, Answer> {
    let unit = &request.nexus.unit;
    unit.check_medium()?;
    let mut data = vec![0; 32];
    data[..8].copy_from_slice(&unit.blocks().saturating_sub(1).to_be_bytes());
    data[8..12].copy_from_slice(&unit.block_size.to_be_bytes());
    data[13] = unit.physical_exponent();
    // LBPME and LBPRZ: thin, and what is given back reads as zeros.
    data[14] = 0xc0;
    Ok(Plan::Answer(Answer::data(data, be32(request.cdb, 10) as usize)))
}

pub fn report_luns(request: &Request<'_>) -> Result<Plan, Answer> {
    request.nexus.attentions.forget(Attention::LUNS_CHANGED);
    report_luns_of(request.cdb, request.luns).map(Plan::Answer)
}

/// REPORT LUNS of these numbers.
pub fn report_luns_of(cdb: &[u8; 16], luns: &[u16]) -> Result<Answer, Answer> {
    let allocation = be32(cdb, 6) as usize;
    if allocation < 16 {
        return Err(Sense::invalid_cdb(6).into());
    }
    let listed: &[u16] = match cdb[2] {
        // All without and with well known units: there are none of those.
        0x00 | 0x02 => luns,
        0x01 => &[],
        _ => return Err(Sense::invalid_cdb(2).into()),
    };
    let mut data = vec![0; 8];
    for lun in listed {
        data.extend_from_slice(&lun_field(*lun));
    }
    let length = (data.len() - 8) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(Answer::data(data, allocation))
}

/// A LUN as eight bytes: peripheral addressing below 256, flat space above (SAM-5 section 4.7).
pub const fn lun_field(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    if lun < 256 { [0, low, 0, 0, 0, 0, 0, 0] } else { [0x40 | high & 0x3f, low, 0, 0, 0, 0, 0, 0] }
}

/// Reads a LUN field; `None` when it names no unit of ours, whatever the addressing method.
pub fn lun_number(field: [u8; 8]) -> Option<u16> {
    if field[2..] != [0; 6] {
        return None;
    }
    match field[0] >> 6 {
        // Peripheral addressing on bus 0, and flat space.
        0 if field[0] == 0 => Some(u16::from(field[1])),
        1 => Some(u16::from_be_bytes([field[0] & 0x3f, field[1]])),
        _ => None,
    }
}

/// REPORT TARGET PORT GROUPS: one group, active and optimized, with one port.
pub fn report_target_port_groups(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    let allocation = be32(cdb, 6) as usize;
    let group = [0x00, 0x01, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
    let mut data = match cdb[1] >> 5 {
        0 => vec![0; 4],
        1 => vec![0, 0, 0, 0, 0x10, 0, 0, 0],
        _ => return Err(Sense::invalid_cdb(1).into()),
    };
    data.extend_from_slice(&group);
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(Plan::Answer(Answer::data(data, allocation)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addressing_methods() {
        assert_eq!(lun_number([0; 8]), Some(0));
        assert_eq!(lun_number([0x41, 2, 0, 0, 0, 0, 0, 0]), Some(258));
        assert_eq!(lun_number([0x40, 2, 0, 0, 0, 0, 0, 0]), Some(2));
        for absent in [[1, 0, 0, 0, 0, 0, 0, 0], [0x80, 0, 0, 0, 0, 0, 0, 0], [0xc1, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(lun_number(absent), None);
        }
        assert_eq!(lun_number([0, 0, 0, 1, 0, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn lun_fields_survive_a_round_trip(lun in 0u16..0x4000) {
            prop_assert_eq!(lun_number(lun_field(lun)), Some(lun));
        }
    }
}
