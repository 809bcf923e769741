//! The road to a server, which can be closed: to whom comes from there it is as if the server were gone.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to a server while it is open; closing it cuts them.
pub struct Road {
    pub address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
}

impl Road {
    /// An open one.
    pub async fn to(server: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let open = Arc::new(watch::Sender::new(true));
        let is_open = open.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, mut open) = (server.clone(), is_open.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        _ = open.wait_for(|open| !open) => {}
                        () = pass(client, server) => {}
                    }
                });
            }
        });
        Self { address, open }
    }

    pub fn close(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn pass(mut client: TcpStream, server: String) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
