//! The task behind a remote LUN: keeps a connection, and gets every command answered or failed.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::link::{Command, Link};
use super::login::{Wish, login};
use super::{InitiatorConfig, InitiatorError};

/// Pauses between attempts to connect: doubled from the first to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(2);
/// How often the clocks are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long the end of a session may take.
const LOGOUT: Duration = Duration::from_secs(2);

/// How a connection ended.
enum End {
    /// Nobody needs the LUN any more.
    Unneeded,
    Lost(io::Error),
}

/// The engine of one LUN.
pub struct Engine {
    config: InitiatorConfig,
    isid: [u8; 6],
    requests: mpsc::Receiver<Command>,
    /// What was not sent yet, or has to be sent again.
    queue: VecDeque<Command>,
}

impl Engine {
    /// An engine that takes commands from `requests` until all senders are gone.
    pub fn new(config: InitiatorConfig, isid: [u8; 6], requests: mpsc::Receiver<Command>) -> Self {
        Self { config, isid, requests, queue: VecDeque::new() }
    }

    /// One attempt at every portal.
    ///
    /// # Errors
    /// The last portal's.
    pub async fn connect(&self) -> Result<Link, InitiatorError> {
        let wish = Wish {
            initiator: &self.config.initiator,
            isid: self.isid,
            target: Some(&self.config.target),
            chap: self.config.chap.as_ref(),
            digests: self.config.digests,
        };
        let mut failure = InitiatorError::NoPortal;
        for portal in &self.config.portals {
            match login(portal, &wish, self.config.limits.connect).await {
                Ok(agreed) => return Ok(Link::new(agreed, self.config.lun)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Serves until nobody needs the LUN any more.
    pub async fn run(mut self, mut link: Link) {
        loop {
            let error = match self.serve(&mut link).await {
                End::Unneeded => return,
                End::Lost(error) => error,
            };
            tracing::warn!(target = %self.config.target, %error, "iSCSI connection lost");
            self.take_back(link, &error);
            link = loop {
                match self.reconnect().await {
                    Ok(link) => break link,
                    Err(error) => {
                        tracing::error!(target = %self.config.target, %error, "cannot get back to the iSCSI target");
                        self.fail_all(&error);
                    }
                }
                // Another attempt when somebody wants something.
                match self.requests.recv().await {
                    Some(command) => self.queue.push_back(command),
                    None => return,
                }
            };
        }
    }

    /// Puts what was in flight back to the head of the queue; fails what was lost too often.
    fn take_back(&mut self, link: Link, error: &io::Error) {
        for mut command in link.give_up().into_iter().rev() {
            command.losses += 1;
            if command.losses > self.config.limits.resends {
                let _ = command.reply.send(Err(again(error)));
            } else {
                self.queue.push_front(command);
            }
        }
    }

    fn fail_all(&mut self, error: &io::Error) {
        for command in self.queue.drain(..) {
            let _ = command.reply.send(Err(again(error)));
        }
    }

    /// Tries to connect until it works or the time for it is over.
    async fn reconnect(&mut self) -> io::Result<Link> {
        let began = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            match self.connect().await {
                Ok(link) => {
                    tracing::info!(target = %self.config.target, "iSCSI connection is back");
                    return Ok(link);
                }
                Err(error) if !error.is_transient() => return Err(error.into()),
                Err(error) if began.elapsed() + pause > self.config.limits.reconnect => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    /// Serves on one connection.
    async fn serve(&mut self, link: &mut Link) -> End {
        let mut tick = tokio::time::interval(TICK);
        let depth = self.config.limits.queue_depth;
        loop {
            while link.window_open() && link.in_flight() < depth {
                match self.queue.pop_front() {
                    // Nobody waits for it any more, and it was not sent.
                    Some(command) if command.reply.is_closed() => {}
                    Some(command) => link.start(command),
                    None => break,
                }
            }
            if let Err(error) = link.transmit() {
                return End::Lost(error);
            }
            let outcome = tokio::select! {
                biased;
                ready = link.stream.readable() => match ready {
                    Ok(()) => link.receive(),
                    Err(error) => Err(error),
                },
                ready = link.stream.writable(), if link.has_output() => ready,
                command = self.requests.recv(), if self.queue.len() < depth => match command {
                    Some(command) => {
                        self.queue.push_back(command);
                        Ok(())
                    }
                    None => {
                        let _ = tokio::time::timeout(LOGOUT, leave(link)).await;
                        return End::Unneeded;
                    }
                },
                _ = tick.tick() => self.check_clocks(link),
            };
            if let Err(error) = outcome {
                return End::Lost(error);
            }
        }
    }

    fn check_clocks(&self, link: &mut Link) -> io::Result<()> {
        let limits = &self.config.limits;
        if link.oldest().is_some_and(|at| at.elapsed() > limits.command) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a command was not answered in time"));
        }
        let silent = link.last_received.elapsed();
        if link.pinged && silent > limits.idle * 2 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the target does not answer"));
        }
        if silent > limits.idle && !link.pinged {
            link.ping();
        }
        Ok(())
    }
}

/// Ends a session in good order: commands in flight first, then logout.
async fn leave(link: &mut Link) -> io::Result<()> {
    let mut asked = false;
    while !link.logged_out {
        if !asked && link.in_flight() == 0 {
            asked = true;
            link.log_out();
        }
        link.transmit()?;
        tokio::select! {
            ready = link.stream.readable() => {
                ready?;
                link.receive()?;
            }
            ready = link.stream.writable(), if link.has_output() => ready?,
        }
    }
    Ok(())
}

/// The same error for one more receiver.
fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
