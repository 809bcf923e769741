//! Accepts connections, bounds how many may be in login, and waits for them at the end.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::registry::Registry;
use crate::conn;

/// After a failed accept (no more file descriptors) wait this long before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is in login.
#[derive(Debug, Default)]
struct Waiting {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among those in login; given back when the login is over.
#[derive(Debug)]
pub struct LoginPlace {
    waiting: Arc<Mutex<Waiting>>,
    address: IpAddr,
}

impl LoginPlace {
    fn take(waiting: &Arc<Mutex<Waiting>>, address: IpAddr, registry: &Registry) -> Option<Self> {
        let limits = registry.limits();
        let mut inside = waiting.lock().expect("no code panics while it holds this lock");
        let here = inside.by_address.get(&address).copied().unwrap_or(0);
        // Loopback is this machine itself: one address may be many users.
        let crowded = here >= limits.logins_per_address && !address.is_loopback();
        if inside.total >= limits.logins || crowded {
            return None;
        }
        inside.total += 1;
        inside.by_address.insert(address, here + 1);
        drop(inside);
        Some(Self { waiting: waiting.clone(), address })
    }
}

impl Drop for LoginPlace {
    fn drop(&mut self) {
        let mut inside = self.waiting.lock().expect("no code panics while it holds this lock");
        inside.total -= 1;
        match inside.by_address.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(inside.by_address.remove(&self.address)),
        }
    }
}

/// Serves a portal until the target stops; then waits for its connections.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>) {
    let waiting = Arc::new(Mutex::new(Waiting::default()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = registry.stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = LoginPlace::take(&waiting, peer.ip(), &registry) {
                        admit(stream, peer, place, &registry, &mut connections);
                    } else {
                        tracing::warn!(%peer, "too many connections in login: closed");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    place: LoginPlace,
    registry: &Arc<Registry>,
    connections: &mut JoinSet<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::info!(%peer, %error, "connection lost before login");
        return;
    }
    connections.spawn(conn::serve(stream, peer, registry.clone(), place));
}
