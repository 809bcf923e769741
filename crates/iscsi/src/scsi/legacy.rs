//! The small commands: TEST UNIT READY, REQUEST SENSE, RESERVE and RELEASE, START STOP UNIT, and those that have little
//! to say on a disk without mechanics.

use std::sync::atomic::Ordering;

use super::sense::{Sense, key};
use super::unit::LogicalUnit;
use super::{Answer, Job, Plan, Request, be16, be32, write_failure};

const REMOVAL_PREVENTED: Sense = Sense::new(key::ILLEGAL_REQUEST, 0x53, 0x02);

const fn good() -> Result<Plan, Answer> {
    Ok(Plan::Answer(Answer::good()))
}

pub fn test_unit_ready(request: &Request<'_>) -> Result<Plan, Answer> {
    request.nexus.unit.check_medium()?;
    good()
}

/// REQUEST SENSE: a pending unit attention is told and gone.
pub fn request_sense(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    let pending = request.nexus.attentions.take().map(super::attention::Attention::sense);
    let sense = pending.unwrap_or(Sense::new(key::NO_SENSE, 0, 0));
    Ok(Plan::Answer(Answer::data(sense.encode(cdb[1] & 0x01 != 0), usize::from(cdb[4]))))
}

/// REQUEST SENSE of a LUN that does not exist.
pub fn request_sense_absent(cdb: &[u8; 16]) -> Answer {
    Answer::data(Sense::no_such_lun().encode(cdb[1] & 0x01 != 0), usize::from(cdb[4]))
}

/// RESERVE(6) and (10).
pub fn reserve(request: &Request<'_>) -> Result<Plan, Answer> {
    if request.nexus.unit.reservations.reserve_legacy(&request.nexus.port) {
        good()
    } else {
        Err(Answer::conflict())
    }
}

/// RELEASE(6) and (10): of what another holds, nothing happens.
pub fn release(request: &Request<'_>) -> Result<Plan, Answer> {
    if request.nexus.unit.reservations.has_registrants() {
        return Err(Answer::conflict());
    }
    request.nexus.unit.reservations.release_legacy(&request.nexus.port);
    good()
}

/// START STOP UNIT: power conditions and plain start and stop change nothing; LOEJ needs a removable medium.
pub fn start_stop(request: &Request<'_>) -> Result<Plan, Answer> {
    let (cdb, unit) = (request.cdb, &request.nexus.unit);
    let (start, load_eject, power) = (cdb[4] & 0x01 != 0, cdb[4] & 0x02 != 0, cdb[4] >> 4);
    if power != 0 || !load_eject {
        return good();
    }
    if !unit.removable {
        return Err(Sense::invalid_cdb(4).into());
    }
    if unit.nexuses().iter().any(|nexus| nexus.prevents_removal.load(Ordering::Relaxed)) {
        return Err(REMOVAL_PREVENTED.into());
    }
    if start {
        if unit.ejected.swap(false, Ordering::Relaxed) {
            unit.raise(super::attention::Attention::MEDIUM_MAY_HAVE_CHANGED, Some(request.nexus));
        }
        return good();
    }
    Ok(Plan::Run(Job::Eject))
}

/// Makes what was written durable, then takes the medium away.
pub async fn eject(unit: &LogicalUnit) -> Result<Answer, Answer> {
    unit.flushes.flush().await.map_err(|e| write_failure(&e))?;
    unit.ejected.store(true, Ordering::Relaxed);
    Ok(Answer::good())
}

pub fn prevent_allow(request: &Request<'_>) -> Result<Plan, Answer> {
    let prevent = request.cdb[4] & 0x03 != 0;
    request.nexus.prevents_removal.store(prevent, Ordering::Relaxed);
    good()
}

/// SEND DIAGNOSTIC: the default self-test passes; there are no others.
pub fn send_diagnostic(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    if cdb[1] & 0xe0 != 0 || be16(cdb, 3) != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    good()
}

/// LOG SENSE: the list of pages, which has only itself.
pub fn log_sense(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    let (page, subpage) = (cdb[2] & 0x3f, cdb[3]);
    if cdb[1] & 0x01 != 0 || page != 0 || subpage != 0 {
        return Err(Sense::invalid_cdb(2).into());
    }
    Ok(Plan::Answer(Answer::data(vec![0x00, 0x00, 0x00, 0x01, 0x00], usize::from(be16(cdb, 7)))))
}

/// READ DEFECT DATA (10): both lists are empty.
pub fn defects10(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    Ok(Plan::Answer(Answer::data(vec![0, cdb[2] & 0x1f, 0, 0], usize::from(be16(cdb, 7)))))
}

/// READ DEFECT DATA (12).
pub fn defects12(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    Ok(Plan::Answer(Answer::data(vec![0, cdb[1] & 0x1f, 0, 0, 0, 0, 0, 0], be32(cdb, 6) as usize)))
}
