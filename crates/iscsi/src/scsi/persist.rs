//! PERSISTENT RESERVE IN and OUT: CDBs and parameter lists. The rules are in [`super::reservation`].

use std::sync::Arc;

use super::reservation::{Effects, Kind, ReservationState};
use super::sense::Sense;
use super::unit::Nexus;
use super::{Answer, Job, Plan, Request, be16, be32, be64};

/// A PERSISTENT RESERVE OUT command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Out {
    action: u8,
    kind: Option<Kind>,
    /// The scope is that of a logical unit.
    unit_scope: bool,
}

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const REGISTER_AND_MOVE: u8 = 7;

/// The parameter list of all service actions but one.
const BASIC_LIST: u32 = 24;
/// The longest list accepted: REGISTER AND MOVE with the longest name.
const LIST_MAX: u32 = 512;

fn with_header(generation: u32, body: &[u8], request: &Request<'_>) -> Plan {
    let mut data = generation.to_be_bytes().to_vec();
    data.extend_from_slice(&(body.len() as u32).to_be_bytes());
    data.extend_from_slice(body);
    Plan::Answer(Answer::data(data, usize::from(be16(request.cdb, 7))))
}

fn state(request: &Request<'_>) -> ReservationState {
    request.nexus.unit.reservations.state()
}

pub fn read_keys(request: &Request<'_>) -> Result<Plan, Answer> {
    let state = state(request);
    let keys: Vec<u8> = state.registrants.iter().flat_map(|one| one.key.to_be_bytes()).collect();
    Ok(with_header(state.generation, &keys, request))
}

pub fn read_reservation(request: &Request<'_>) -> Result<Plan, Answer> {
    let state = state(request);
    let mut body = Vec::new();
    if let Some(held) = &state.reservation {
        let holder = state.registrants.iter().find(|one| one.port == held.holder);
        let key = if held.kind.all_registrants() { 0 } else { holder.map_or(0, |one| one.key) };
        body.extend_from_slice(&key.to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 0, 0, held.kind.code(), 0, 0]);
    }
    Ok(with_header(state.generation, &body, request))
}

pub fn report_capabilities(request: &Request<'_>) -> Result<Plan, Answer> {
    let reservations = &request.nexus.unit.reservations;
    // PTPL_C: reservations can be kept through power loss; ATP_C: ALL_TG_PT is accepted.
    let keeps = u8::from(reservations.store.is_some());
    let kept = u8::from(reservations.state().persistent);
    // TMV and the six types.
    let data = vec![0, 8, 0x04 | keeps, 0x80 | kept, 0xea, 0x01, 0, 0];
    Ok(Plan::Answer(Answer::data(data, usize::from(be16(request.cdb, 7)))))
}

pub fn read_full_status(request: &Request<'_>) -> Result<Plan, Answer> {
    let state = state(request);
    let mut body = Vec::new();
    for one in &state.registrants {
        let held = state.reservation.as_ref().filter(|_| state.holds(&one.port));
        let transport_id = transport_id(&one.port);
        body.extend_from_slice(&one.key.to_be_bytes());
        body.extend_from_slice(&[0; 4]);
        body.push(u8::from(one.all_target_ports) << 1 | u8::from(held.is_some()));
        body.push(held.map_or(0, |held| held.kind.code()));
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(&1u16.to_be_bytes());
        body.extend_from_slice(&(transport_id.len() as u32).to_be_bytes());
        body.extend_from_slice(&transport_id);
    }
    Ok(with_header(state.generation, &body, request))
}

/// An iSCSI TransportID with name and ISID (SPC-4 7.6.4.6).
fn transport_id(port: &str) -> Vec<u8> {
    let mut name = port.as_bytes().to_vec();
    name.push(0);
    name.resize(name.len().next_multiple_of(4), 0);
    let mut id = vec![0x45, 0];
    id.extend_from_slice(&(name.len() as u16).to_be_bytes());
    id.extend_from_slice(&name);
    id
}

/// Reads a TransportID that names an initiator port.
fn port_of(id: &[u8]) -> Option<String> {
    let name = id.get(4..)?.split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?;
    let (initiator, isid) = name.split_once(",i,0x")?;
    let proper = id[0] == 0x45 && !initiator.is_empty() && initiator.len() <= 223 && isid.len() == 12;
    (proper && isid.bytes().all(|b| b.is_ascii_hexdigit())).then(|| name.to_ascii_lowercase())
}

/// Gathers the parameter list.
pub fn plan(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    let action = cdb[1] & 0x1f;
    let length = be32(cdb, 5);
    let right = if action == REGISTER_AND_MOVE {
        (BASIC_LIST..=LIST_MAX).contains(&length)
    } else {
        length == BASIC_LIST
    };
    if !right || request.data_out < length {
        return Err(Sense::parameter_list_length().into());
    }
    let out = Out { action, kind: Kind::from_code(cdb[2] & 0x0f), unit_scope: cdb[2] >> 4 == 0 };
    let typed = matches!(action, RESERVE | RELEASE | PREEMPT | PREEMPT_AND_ABORT);
    // Which types PREEMPT needs is known only when it takes a reservation over.
    if typed && (!out.unit_scope || (out.kind.is_none() && matches!(action, RESERVE | RELEASE))) {
        return Err(Sense::invalid_cdb(2).into());
    }
    Ok(Plan::Collect { length, job: Job::PersistOut(out) })
}

/// Does a PERSISTENT RESERVE OUT: decides, records when it is to outlive power, then makes it so.
pub async fn out(nexus: &Arc<Nexus>, out: &Out, list: &[u8]) -> Result<Answer, Answer> {
    let reservations = &nexus.unit.reservations;
    let one_at_a_time = reservations.changing.lock().await;
    let old = reservations.state();
    let mut new = old.clone();
    let effects = apply(&mut new, nexus, out, list)?;
    if (old.persistent || new.persistent)
        && old != new
        && let Some(store) = &reservations.store
    {
        // What is not to be kept is recorded as nothing.
        let kept = if new.persistent { new.clone() } else { ReservationState::default() };
        if let Err(error) = store.store(&kept).await {
            tracing::error!(lun = nexus.unit.number, %error, "cannot record reservations");
            return Err(Sense::internal().into());
        }
    }
    reservations.set(new);
    // An aborted task may itself be waiting for this lock.
    drop(one_at_a_time);
    spread(nexus, effects).await;
    Ok(Answer::good())
}

fn apply(state: &mut ReservationState, nexus: &Nexus, out: &Out, list: &[u8]) -> Result<Effects, Answer> {
    if list.len() < BASIC_LIST as usize {
        return Err(Sense::parameter_list_length().into());
    }
    let (port, key, action_key) = (&*nexus.port, be64(list, 0), be64(list, 8));
    if out.action == REGISTER_AND_MOVE {
        return register_and_move(state, nexus, list);
    }
    let registers = matches!(out.action, REGISTER | REGISTER_AND_IGNORE);
    let keep = list[20] & 0x01 != 0;
    // SPEC_I_PT is not supported, and APTPL only where there is a store.
    if registers && (list[20] & 0x08 != 0 || (keep && nexus.unit.reservations.store.is_none())) {
        return Err(Sense::invalid_parameter(20).into());
    }
    let all_ports = list[20] & 0x04 != 0;
    let effects = match (out.action, out.kind) {
        (REGISTER, _) => state.register(port, Some(key), action_key, all_ports)?,
        (REGISTER_AND_IGNORE, _) => state.register(port, None, action_key, all_ports)?,
        (RESERVE, Some(kind)) => state.reserve(port, key, kind)?,
        (RELEASE, Some(kind)) => state.release(port, key, kind)?,
        (CLEAR, _) => state.clear(port, key)?,
        (PREEMPT, kind) => state.preempt(port, key, action_key, kind, false)?,
        (PREEMPT_AND_ABORT, kind) => state.preempt(port, key, action_key, kind, true)?,
        _ => return Err(Sense::invalid_cdb(1).into()),
    };
    if registers {
        state.persistent = keep;
    }
    Ok(effects)
}

fn register_and_move(state: &mut ReservationState, nexus: &Nexus, list: &[u8]) -> Result<Effects, Answer> {
    let (key, new) = (be64(list, 0), be64(list, 8));
    let (unregister, keep) = (list[17] & 0x02 != 0, list[17] & 0x01 != 0);
    let length = be32(list, 20) as usize;
    if list.len() != BASIC_LIST as usize + length || length < 24 {
        return Err(Sense::parameter_list_length().into());
    }
    if be16(list, 18) != 1 {
        return Err(Sense::invalid_parameter(18).into());
    }
    if keep && nexus.unit.reservations.store.is_none() {
        return Err(Sense::invalid_parameter(17).into());
    }
    let to = port_of(&list[24..]).ok_or_else(|| Answer::from(Sense::invalid_parameter(24)))?;
    let effects = state.register_and_move(&nexus.port, key, new, &to, unregister)?;
    state.persistent = keep;
    Ok(effects)
}

/// Tells the nexuses concerned, and aborts tasks where that was asked for.
async fn spread(nexus: &Arc<Nexus>, effects: Effects) {
    let nexuses = nexus.unit.nexuses();
    for (port, attention) in &effects.tell {
        for other in nexuses.iter().filter(|other| *other.port == **port && !Arc::ptr_eq(other, nexus)) {
            other.attentions.raise(*attention);
        }
    }
    let aborted: Vec<_> =
        nexuses.into_iter().filter(|other| effects.abort.contains(&other.port.to_string())).collect();
    nexus.unit.abort(aborted).await;
}
