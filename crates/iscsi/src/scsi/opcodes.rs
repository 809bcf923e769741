//! The table of supported commands: the dispatcher, REPORT SUPPORTED OPERATION CODES and the reservation rules all
//! read it.

use std::sync::LazyLock;

use super::sense::Sense;
use super::unit::LogicalUnit;
use super::{Answer, Plan, Request, be16, be32};
use super::{block, capacity, copy, inquiry, legacy, mode, persist, sanitize, thin};

/// How a command stands to persistent reservations (SPC-4 table 67, SBC-3 table 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Allowed for everybody, or the command decides for itself.
    Always,
    /// Reads the medium: refused by exclusive access.
    Read,
    /// Changes the medium or the unit: refused by write exclusive too.
    Write,
}

/// A supported command.
#[derive(Debug)]
pub struct Command {
    /// Service action, where the operation code has several.
    pub action: Option<u16>,
    /// The bits of the CDB that mean something; its length is the CDB's. The first byte is the operation code.
    pub usage: &'static [u8],
    pub access: Access,
    /// Refused on a write-protected unit.
    pub writes: bool,
    /// A pending unit attention waits for the next command.
    pub attention_exempt: bool,
    /// Allowed while another nexus holds RESERVE(6).
    pub legacy_exempt: bool,
    pub run: fn(&Request<'_>) -> Result<Plan, Answer>,
}

type Run = fn(&Request<'_>) -> Result<Plan, Answer>;

const fn any(usage: &'static [u8], run: Run) -> Command {
    Command {
        action: None,
        usage,
        access: Access::Always,
        writes: false,
        attention_exempt: false,
        legacy_exempt: false,
        run,
    }
}

const fn read(usage: &'static [u8], run: Run) -> Command {
    Command { access: Access::Read, ..any(usage, run) }
}

const fn write(usage: &'static [u8], run: Run) -> Command {
    Command { access: Access::Write, writes: true, ..any(usage, run) }
}

/// Changes the unit, not the medium.
const fn control(usage: &'static [u8], run: Run) -> Command {
    Command { access: Access::Write, ..any(usage, run) }
}

const fn exempt(mut command: Command) -> Command {
    command.attention_exempt = true;
    command.legacy_exempt = true;
    command
}

const fn shared(mut command: Command) -> Command {
    command.legacy_exempt = true;
    command
}

const fn action(number: u16, mut command: Command) -> Command {
    command.action = Some(number);
    command
}

/// Control byte: no vendor bits, no NACA.
const C: u8 = 0x00;
/// A whole byte counts.
const F: u8 = 0xff;

/// WRITE ATOMIC (16): there only on units that can do it.
const ATOMIC: u8 = 0x9c;

/// The commands that a unit offers.
fn offered(unit: &LogicalUnit) -> impl Iterator<Item = &'static Command> {
    let atomic = unit.atomic_blocks > 0;
    COMMANDS.iter().filter(move |command| atomic || command.usage[0] != ATOMIC)
}

/// Every supported command, by operation code and service action.
#[rustfmt::skip] // a table reads best as a table
static COMMANDS: &[Command] = &[
    any(&[0x00, 0, 0, 0, 0, C], legacy::test_unit_ready),
    exempt(any(&[0x03, 0x01, 0, 0, F, C], legacy::request_sense)),
    read(&[0x08, 0x1f, F, F, F, C], block::read),
    write(&[0x0a, 0x1f, F, F, F, C], block::write),
    exempt(any(&[0x12, 0x01, F, F, F, C], inquiry::inquiry)),
    control(&[0x15, 0x11, 0, 0, F, C], mode::select6),
    any(&[0x16, 0, 0, 0, 0, C], legacy::reserve),
    shared(any(&[0x17, 0, 0, 0, 0, C], legacy::release)),
    control(&[0x1a, 0x08, F, F, F, C], mode::sense6),
    any(&[0x1b, 0x01, 0, 0x0f, 0xf7, C], legacy::start_stop),
    control(&[0x1d, 0xff, 0, F, F, C], legacy::send_diagnostic),
    shared(any(&[0x1e, 0, 0, 0, 0x03, C], legacy::prevent_allow)),
    any(&[0x25, 0, F, F, F, F, 0, 0, 0x01, C], capacity::read_capacity10),
    read(&[0x28, 0xfa, F, F, F, F, 0x1f, F, F, C], block::read),
    write(&[0x2a, 0xfa, F, F, F, F, 0x1f, F, F, C], block::write),
    write(&[0x2e, 0xf6, F, F, F, F, 0x1f, F, F, C], block::write_verify),
    read(&[0x2f, 0xf6, F, F, F, F, 0x1f, F, F, C], block::verify),
    read(&[0x34, 0x02, F, F, F, F, 0x1f, F, F, C], block::prefetch),
    control(&[0x35, 0x02, F, F, F, F, 0x1f, F, F, C], block::synchronize),
    read(&[0x37, 0, 0x1f, 0, 0, 0, 0, F, F, C], legacy::defects10),
    write(&[0x41, 0xfb, F, F, F, F, 0x1f, F, F, C], thin::write_same10),
    write(&[0x42, 0x01, 0, 0, 0, 0, 0x1f, F, F, C], thin::unmap_plan),
    action(0x02, write(&[0x48, 0xa2, 0, 0, 0, 0, 0, F, F, C], sanitize::erase_plan)),
    action(0x03, write(&[0x48, 0xa3, 0, 0, 0, 0, 0, F, F, C], sanitize::erase_plan)),
    action(0x1f, write(&[0x48, 0xbf, 0, 0, 0, 0, 0, F, F, C], sanitize::exit_failure_mode)),
    any(&[0x4d, 0x01, F, F, 0, F, F, F, F, C], legacy::log_sense),
    control(&[0x55, 0x11, 0, 0, 0, 0, 0, F, F, C], mode::select10),
    any(&[0x56, 0, 0, 0, 0, 0, 0, 0, 0, C], legacy::reserve),
    shared(any(&[0x57, 0, 0, 0, 0, 0, 0, 0, 0, C], legacy::release)),
    control(&[0x5a, 0x18, F, F, 0, 0, 0, F, F, C], mode::sense10),
    action(0x00, any(&[0x5e, 0x00, 0, 0, 0, 0, 0, F, F, C], persist::read_keys)),
    action(0x01, any(&[0x5e, 0x01, 0, 0, 0, 0, 0, F, F, C], persist::read_reservation)),
    action(0x02, any(&[0x5e, 0x02, 0, 0, 0, 0, 0, F, F, C], persist::report_capabilities)),
    action(0x03, any(&[0x5e, 0x03, 0, 0, 0, 0, 0, F, F, C], persist::read_full_status)),
    action(0x00, any(&[0x5f, 0x00, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x01, any(&[0x5f, 0x01, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x02, any(&[0x5f, 0x02, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x03, any(&[0x5f, 0x03, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x04, any(&[0x5f, 0x04, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x05, any(&[0x5f, 0x05, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x06, any(&[0x5f, 0x06, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x07, any(&[0x5f, 0x07, F, 0, 0, F, F, F, F, C], persist::plan)),
    action(0x00, write(&[0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, C], copy::plan)),
    action(0x00, any(&[0x84, 0x00, F, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, C], copy::status)),
    action(0x03, any(&[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, F, F, F, F, 0, C], copy::parameters)),
    read(&[0x88, 0xfa, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::read),
    write(&[0x89, 0xfa, F, F, F, F, F, F, F, F, 0, 0, 0, F, 0x1f, C], block::compare_and_write_plan),
    write(&[0x8a, 0xfa, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::write),
    write(&[0x8b, 0xfa, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::orwrite),
    write(&[0x8e, 0xf6, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::write_verify),
    read(&[0x8f, 0xf6, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::verify),
    read(&[0x90, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::prefetch),
    control(&[0x91, 0x02, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::synchronize),
    write(&[0x93, 0xfb, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], thin::write_same16),
    write(&[ATOMIC, 0xf8, F, F, F, F, F, F, F, F, F, F, F, F, 0x1f, C], block::atomic_write_plan),
    action(0x10, any(&[0x9e, 0x10, F, F, F, F, F, F, F, F, F, F, F, F, 0x01, C], capacity::read_capacity16)),
    action(0x12, read(&[0x9e, 0x12, F, F, F, F, F, F, F, F, F, F, F, F, 0, C], thin::lba_status_plan)),
    exempt(any(&[0xa0, 0, F, 0, 0, 0, F, F, F, F, 0, C], capacity::report_luns)),
    action(0x0a, any(&[0xa3, 0x0a, 0, 0, 0, 0, F, F, F, F, 0, C], capacity::report_target_port_groups)),
    action(0x0c, any(&[0xa3, 0x0c, 0x87, F, F, F, F, F, F, F, 0, C], report_supported)),
    action(0x0d, any(&[0xa3, 0x0d, 0x80, 0, 0, 0, F, F, F, F, 0, C], report_task_management)),
    read(&[0xa8, 0xfa, F, F, F, F, F, F, F, F, 0x1f, C], block::read),
    write(&[0xaa, 0xfa, F, F, F, F, F, F, F, F, 0x1f, C], block::write),
    write(&[0xae, 0xf6, F, F, F, F, F, F, F, F, 0x1f, C], block::write_verify),
    read(&[0xaf, 0xf6, F, F, F, F, F, F, F, F, 0x1f, C], block::verify),
    read(&[0xb7, 0x1f, F, F, F, F, F, F, F, F, 0, C], legacy::defects12),
];

/// The place of each operation code's first entry.
static INDEX: LazyLock<[Option<u8>; 256]> = LazyLock::new(|| {
    let mut index = [None; 256];
    for (at, command) in COMMANDS.iter().enumerate().rev() {
        index[usize::from(command.usage[0])] = u8::try_from(at).ok();
    }
    index
});

/// Finds the entry of a CDB.
///
/// # Errors
/// Invalid operation code; invalid field for a service action that is not supported.
pub fn find(cdb: &[u8; 16]) -> Result<&'static Command, Answer> {
    let first = INDEX[usize::from(cdb[0])].ok_or_else(Sense::invalid_opcode)?;
    let entries = COMMANDS[usize::from(first)..].iter();
    let mut same = entries.take_while(|command| command.usage[0] == cdb[0]);
    let wanted = u16::from(cdb[1] & 0x1f);
    same.find(|command| command.action.is_none_or(|action| action == wanted))
        .ok_or_else(|| Sense::invalid_cdb(1).into())
}

/// REPORT SUPPORTED OPERATION CODES.
fn report_supported(request: &Request<'_>) -> Result<Plan, Answer> {
    let cdb = request.cdb;
    let (timeouts, options) = (cdb[2] & 0x80 != 0, cdb[2] & 0x07);
    let (opcode, wanted) = (cdb[3], be16(cdb, 4));
    let allocation = be32(cdb, 6) as usize;
    let unit = &request.nexus.unit;
    if options == 0 {
        return Ok(Plan::Answer(Answer::data(list_all(unit, timeouts), allocation)));
    }
    let mut same = offered(unit).filter(|command| command.usage[0] == opcode);
    let found = match options {
        1 => {
            if COMMANDS.iter().any(|command| command.usage[0] == opcode && command.action.is_some()) {
                return Err(Sense::invalid_cdb(2).into());
            }
            same.next()
        }
        2 => {
            if COMMANDS.iter().any(|command| command.usage[0] == opcode && command.action.is_none()) {
                return Err(Sense::invalid_cdb(2).into());
            }
            same.find(|command| command.action == Some(wanted))
        }
        3 => same.find(|command| command.action.unwrap_or(0) == wanted),
        _ => return Err(Sense::invalid_cdb(2).into()),
    };
    Ok(Plan::Answer(Answer::data(describe_one(found, timeouts), allocation)))
}

fn list_all(unit: &LogicalUnit, timeouts: bool) -> Vec<u8> {
    let mut list = vec![0; 4];
    for command in offered(unit) {
        let length = command.usage.len() as u16;
        list.extend_from_slice(&[command.usage[0], 0]);
        list.extend_from_slice(&command.action.unwrap_or(0).to_be_bytes());
        let flags = if timeouts { 0x02 } else { 0 } | u8::from(command.action.is_some());
        list.extend_from_slice(&[0, flags]);
        list.extend_from_slice(&length.to_be_bytes());
        if timeouts {
            list.extend_from_slice(&TIMEOUTS);
        }
    }
    let length = (list.len() - 4) as u32;
    list[..4].copy_from_slice(&length.to_be_bytes());
    list
}

/// A command timeouts descriptor that names no time-outs.
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn describe_one(found: Option<&Command>, timeouts: bool) -> Vec<u8> {
    let Some(command) = found else {
        return vec![0, 0x01, 0, 0];
    };
    let mut one = vec![0, 0x03 | if timeouts { 0x80 } else { 0 }];
    one.extend_from_slice(&(command.usage.len() as u16).to_be_bytes());
    one.extend_from_slice(command.usage);
    if timeouts {
        one.extend_from_slice(&TIMEOUTS);
    }
    one
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
fn report_task_management(request: &Request<'_>) -> Result<Plan, Answer> {
    let allocation = be32(request.cdb, 6) as usize;
    if allocation < 4 {
        return Err(Sense::invalid_cdb(6).into());
    }
    // Abort task, abort task set, clear task set, LUN reset; target (warm) reset. No clear ACA, no query.
    let mut data = vec![0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0x00, 0x00, 0x00];
    if request.cdb[2] & 0x80 != 0 {
        data[3] = 0x0c;
        data.resize(16, 0);
    }
    Ok(Plan::Answer(Answer::data(data, allocation)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_well_formed() {
        let keys: Vec<_> = COMMANDS.iter().map(|c| (c.usage[0], c.action)).collect();
        assert!(keys.is_sorted(), "entries of one operation code must stand together");
        for pair in keys.windows(2) {
            assert_ne!(pair[0], pair[1], "twice");
        }
        for command in COMMANDS {
            let opcode = command.usage[0];
            let length = match opcode >> 5 {
                0 => 6,
                1 | 2 => 10,
                4 => 16,
                5 => 12,
                group => panic!("group {group} has no fixed length"),
            };
            assert_eq!(command.usage.len(), length, "{opcode:#x}");
            if let Some(action) = command.action {
                assert_eq!(u16::from(command.usage[1] & 0x1f), action);
            }
        }
    }

    #[test]
    fn every_command_is_found_by_its_cdb() {
        for command in COMMANDS {
            let mut cdb = [0; 16];
            cdb[0] = command.usage[0];
            cdb[1] = command.action.unwrap_or(0) as u8;
            assert!(std::ptr::eq(find(&cdb).unwrap(), command));
        }
        assert!(find(&[0xff; 16]).is_err());
        let mut unknown_action = [0; 16];
        unknown_action[..2].copy_from_slice(&[0x9e, 0x1f]);
        assert!(find(&unknown_action).is_err());
    }
}
