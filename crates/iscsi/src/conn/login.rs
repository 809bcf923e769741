//! The login phase of a connection: reads whole requests, lets [`crate::login`] judge them, sends its answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::login::{self, Granted, Login, Pdu, Purpose, Status, Step, TEXT_MAX};
use crate::pdu::op;
use crate::stream::buffer::Pool;
use crate::stream::inbox::Inbox;
use crate::stream::layout::{Digests, lay_out, wire_length};
use crate::stream::outbox::Outbox;
use crate::target::registry::{Registry, Seat};

/// What a login came to: nothing when it was refused.
type Entered = Option<(Box<Granted>, Option<Seat>)>;

/// Logs a connection in. The caller bounds the time that it takes.
///
/// # Errors
/// The connection is gone, or what came is not iSCSI.
pub async fn login(
    stream: &TcpStream,
    peer: SocketAddr,
    registry: &Arc<Registry>,
    inbox: &mut Inbox,
) -> io::Result<Entered> {
    let mut machine = Login::new(registry, peer);
    loop {
        let (request, data) = inbox.login_pdu(stream, TEXT_MAX).await?;
        if request.opcode() != op::LOGIN || !request.immediate() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a request before login"));
        }
        match machine.step(&request, &data) {
            Step::Answer(pdu) => send(stream, &pdu).await?,
            Step::Refuse(pdu) => {
                send(stream, &pdu).await?;
                return Ok(None);
            }
            Step::Granted(mut granted) => {
                let seat = match enter(&granted, peer, registry).await {
                    Ok(seat) => seat,
                    Err(status) => {
                        tracing::info!(%peer, ?status, "login refused");
                        let stat_sn = granted.stat_sn.wrapping_sub(1);
                        send(stream, &login::refusal(&request, stat_sn, status)).await?;
                        return Ok(None);
                    }
                };
                // A discovery session has a TSIH too, but nobody can come back to it.
                let tsih = seat.as_ref().map_or(u16::MAX, |seat| seat.session.tsih);
                let window = registry.limits().commands;
                granted.answer.bhs.set_u16(14, tsih);
                granted.answer.bhs.set_window(granted.cmd_sn, granted.cmd_sn.wrapping_add(window - 1));
                send(stream, &granted.answer).await?;
                announce(&granted, peer);
                return Ok(Some((granted, seat)));
            }
        }
    }
}

async fn enter(
    granted: &Granted,
    peer: SocketAddr,
    registry: &Arc<Registry>,
) -> Result<Option<Seat>, Status> {
    match granted.purpose {
        Purpose::Discovery => Ok(None),
        Purpose::Normal { .. } => registry.enter(granted, peer).await.map(Some),
    }
}

fn announce(granted: &Granted, peer: SocketAddr) {
    let target = match &granted.purpose {
        Purpose::Discovery => "discovery",
        Purpose::Normal { export, .. } => &export.iqn,
    };
    let digests = granted.params.digests;
    tracing::info!(%peer, initiator = %granted.initiator, target, ?digests, "session begins");
}

async fn send(stream: &TcpStream, pdu: &Pdu) -> io::Result<()> {
    let (mut pool, mut outbox) = (Pool::default(), Outbox::default());
    // There are no digests before the end of login.
    let none = Digests::default();
    let place = outbox.append(wire_length(none, pdu.data.len()), &mut pool);
    lay_out(none, place, &pdu.bhs, &pdu.data);
    while !outbox.is_empty() {
        stream.writable().await?;
        outbox.send(stream, &mut pool)?;
    }
    Ok(())
}
