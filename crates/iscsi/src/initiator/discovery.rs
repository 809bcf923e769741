//! SendTargets discovery.

use std::io;
use std::time::Duration;

use super::InitiatorError;
use super::login::{Agreed, Wish, login};
use crate::chap::Chap;
use crate::login::params::SEGMENT_MAX;
use crate::pdu::digest::{DIGEST_LEN, crc32c};
use crate::pdu::{BHS_LEN, Bhs, NO_TAG, flag, op, padding};
use crate::stream::buffer::Pool;
use crate::stream::layout::{lay_out, wire_length};
use crate::stream::outbox::Outbox;

/// The longest list that is read, in bytes.
const LIST_MAX: usize = 4 << 20;
/// How long the whole may take.
const TIME: Duration = Duration::from_secs(30);
/// How long the end of the session may take.
const LOGOUT: Duration = Duration::from_secs(2);

/// A target that discovery found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    pub target: String,
    /// `host:port` of each portal, with its group.
    pub portals: Vec<(String, u16)>,
}

/// Asks a portal for the targets that `initiator` may see there.
///
/// # Errors
/// The portal cannot be reached, refuses us, or does not answer properly.
pub async fn send_targets(
    portal: &str,
    initiator: &str,
    chap: Option<&Chap>,
) -> Result<Vec<Discovered>, InitiatorError> {
    let wish = Wish { initiator, isid: [0x80, 0, 0, 0, 0, 1], target: None, chap, digests: false };
    let mut agreed = login(portal, &wish, TIME).await?;
    let late = |_| InitiatorError::Lost(io::ErrorKind::TimedOut.into());
    let list = tokio::time::timeout(TIME, ask(&mut agreed)).await.map_err(late)??;
    Ok(read_list(&list))
}

async fn ask(agreed: &mut Agreed) -> Result<Vec<u8>, InitiatorError> {
    let mut list = Vec::new();
    let mut ttt = NO_TAG;
    let mut question: &[u8] = b"SendTargets=All\0";
    loop {
        let mut bhs = Bhs::new(op::TEXT);
        bhs.set_itt(1);
        bhs.set_ttt(ttt);
        bhs.set_sn(agreed.cmd_sn);
        agreed.cmd_sn = agreed.cmd_sn.wrapping_add(1);
        bhs.set_exp_sn(agreed.exp_stat_sn);
        send(agreed, bhs, question).await.map_err(InitiatorError::Lost)?;
        let (answer, data) = loop {
            let (answer, data) = read(agreed).await.map_err(InitiatorError::Lost)?;
            match answer.opcode() {
                op::TEXT_RESPONSE => break (answer, data),
                // A ping can wait until the list is here.
                op::NOP_IN => {}
                _ => return Err(InitiatorError::Protocol("it does not answer SendTargets")),
            }
        };
        agreed.exp_stat_sn = answer.sn().wrapping_add(1);
        list.extend_from_slice(&data);
        if list.len() > LIST_MAX {
            return Err(InitiatorError::Protocol("the list of targets is too long"));
        }
        if answer.has(flag::FINAL) || answer.ttt() == NO_TAG {
            break;
        }
        (ttt, question) = (answer.ttt(), &[]);
    }
    // The list is here: whether the target answers the logout does not matter any more.
    let _ = tokio::time::timeout(LOGOUT, log_out(agreed)).await;
    Ok(list)
}

async fn log_out(agreed: &mut Agreed) -> io::Result<()> {
    let mut bhs = Bhs::new(op::LOGOUT);
    bhs.set_immediate();
    bhs.set_itt(2);
    bhs.set_sn(agreed.cmd_sn);
    bhs.set_exp_sn(agreed.exp_stat_sn);
    send(agreed, bhs, &[]).await?;
    while read(agreed).await?.0.opcode() != op::LOGOUT_RESPONSE {}
    Ok(())
}

async fn send(agreed: &Agreed, mut bhs: Bhs, data: &[u8]) -> io::Result<()> {
    let (mut pool, mut outbox) = (Pool::default(), Outbox::default());
    bhs.set_data_len(data.len());
    lay_out(agreed.digests, outbox.append(wire_length(agreed.digests, data.len()), &mut pool), &bhs, data);
    while !outbox.is_empty() {
        agreed.stream.writable().await?;
        outbox.send(&agreed.stream, &mut pool)?;
    }
    Ok(())
}

/// Reads one PDU. A target that wants digests although we did not offer them is not understood.
async fn read(agreed: &mut Agreed) -> io::Result<(Bhs, Vec<u8>)> {
    loop {
        if let Some(header) = agreed.inbox.bytes().first_chunk::<BHS_LEN>() {
            let bhs = Bhs(*header);
            let header_digest = if agreed.digests.header { DIGEST_LEN } else { 0 };
            let (covered, len) = (BHS_LEN + bhs.ahs_len(), bhs.data_len());
            if len > SEGMENT_MAX as usize {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a data segment is too long"));
            }
            let data_digest = if agreed.digests.data && len > 0 { DIGEST_LEN } else { 0 };
            let start = covered + header_digest;
            let whole = start + len + padding(len) + data_digest;
            agreed.inbox.grow(whole);
            if agreed.inbox.bytes().len() >= whole {
                let bytes = agreed.inbox.bytes();
                if header_digest > 0 && bytes[covered..start] != crc32c(&bytes[..covered]) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a header digest is wrong"));
                }
                let data = bytes[start..start + len].to_vec();
                agreed.inbox.consume(whole);
                return Ok((bhs, data));
            }
        }
        agreed.stream.readable().await?;
        agreed.inbox.receive(&agreed.stream, &mut [])?;
    }
}

/// Names with their addresses: here, unlike in all other text, keys come again and again.
fn read_list(list: &[u8]) -> Vec<Discovered> {
    let mut found: Vec<Discovered> = Vec::new();
    for pair in String::from_utf8_lossy(list).split('\0') {
        match (pair.split_once('='), found.last_mut()) {
            (Some(("TargetName", name)), _) => {
                found.push(Discovered { target: name.to_owned(), portals: Vec::new() });
            }
            (Some(("TargetAddress", address)), Some(last)) => {
                let (address, group) = address.rsplit_once(',').unwrap_or((address, "1"));
                last.portals.push((address.to_owned(), group.parse().unwrap_or(1)));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_belong_to_the_name_before_them() {
        let list = b"TargetName=iqn.a:1\0TargetAddress=10.0.0.1:3260,1\0TargetAddress=[fe80::1]:3260,2\0TargetName=iqn.a:2\0";
        let found = read_list(list);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].portals, [("10.0.0.1:3260".to_owned(), 1), ("[fe80::1]:3260".to_owned(), 2)]);
        assert!(found[1].portals.is_empty());
        assert!(read_list(b"TargetAddress=1,x\0\xff\xff").is_empty());
    }
}
