//! SANITIZE: block erase and cryptographic erase, both of which give every block back to the backend. Overwriting is not
//! offered: over a sparse or cloned file it destroys nothing that giving back does not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ranges::Hold;
use super::sense::Sense;
use super::unit::LogicalUnit;
use super::{Answer, Job, Plan, Request, be16, write_failure};

/// How much is given back at a time, in bytes.
const STEP: u64 = 4 << 30;

fn check(request: &Request<'_>) -> Result<(), Answer> {
    let cdb = request.cdb;
    let reserved = cdb[1] & 0x40 != 0 || cdb[2..7].iter().any(|byte| *byte != 0);
    if reserved || be16(cdb, 7) != 0 {
        return Err(Sense::invalid_cdb(1).into());
    }
    Ok(())
}

/// BLOCK ERASE and CRYPTOGRAPHIC ERASE.
pub fn erase_plan(request: &Request<'_>) -> Result<Plan, Answer> {
    check(request)?;
    Ok(Plan::Run(Job::Erase))
}

/// EXIT FAILURE MODE: there is none.
pub fn exit_failure_mode(request: &Request<'_>) -> Result<Plan, Answer> {
    check(request)?;
    Ok(Plan::Answer(Answer::good()))
}

/// Gives every block back; other commands are refused meanwhile.
pub async fn erase(unit: &Arc<LogicalUnit>) -> Result<Answer, Answer> {
    let _alone = unit.ranges.hold(0..u64::MAX, Hold::Exclusive).await;
    unit.sanitizing.store(true, Ordering::SeqCst);
    let outcome = erase_all(unit).await;
    unit.sanitizing.store(false, Ordering::SeqCst);
    outcome
}

async fn erase_all(unit: &LogicalUnit) -> Result<Answer, Answer> {
    let size = unit.blocks() * u64::from(unit.block_size);
    let mut at = 0;
    while at < size {
        let length = STEP.min(size - at);
        unit.device.discard(at, length).await.map_err(|e| write_failure(&e))?;
        at += length;
    }
    unit.flushes.flush().await.map_err(|e| write_failure(&e))?;
    Ok(Answer::good())
}
