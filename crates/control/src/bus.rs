//! The doorbell: topics that ring. The database is the truth; a lost, doubled or late ring costs latency only.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::broadcast;

/// A bus.
pub trait Bus: Send + Sync + Debug {
    /// Rings a topic.
    fn ring(&self, topic: &str);
    /// Hears all topics from now on.
    fn listen(&self) -> Listener;
}

/// What is heard.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Arc<str>>);

impl Listener {
    /// Waits until something rings for which `mine` holds, or until rings were missed, which may have been ours.
    pub async fn heard(&mut self, mine: impl Fn(&str) -> bool) {
        loop {
            match self.0.recv().await {
                Ok(topic) if mine(&topic) => return,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                Err(broadcast::error::RecvError::Closed) => std::future::pending::<()>().await,
            }
        }
    }
}

/// The bus within one process.
#[derive(Debug)]
pub struct LocalBus(broadcast::Sender<Arc<str>>);

impl Default for LocalBus {
    fn default() -> Self {
        Self(broadcast::channel(1024).0)
    }
}

impl Bus for LocalBus {
    fn ring(&self, topic: &str) {
        // Nobody listening is no error: the work waits in the database.
        drop(self.0.send(topic.into()));
    }

    fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}
