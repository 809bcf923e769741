//! A store in any service that `opendal` speaks: containers are directories (key prefixes) below the operator's root.
//!
//! Objects appear whole when the service publishes an upload at its end, as S3, GCS, Azure and Swift do. A plain
//! directory is [`PosixStore`](super::PosixStore)'s business: opendal's `fs` neither syncs directories nor sets
//! Cinder's modes, and without a staging directory it writes in place.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use opendal::{ErrorKind, Lister, Operator, Writer};

use super::{Download, Listing, READ_SIZE, Store, Upload, Wanted, check_container, check_object};
use crate::error::{Error, Result};

/// Bytes of one part of an upload in parts: 10,000 of them, S3's limit, hold an object of 78 GiB.
const PART_SIZE: usize = 8 << 20;

/// Names listed at a time.
const LIST_BATCH: usize = 512;

/// Containers below an operator's root.
#[derive(Debug, Clone)]
pub struct RemoteStore {
    operator: Operator,
}

impl RemoteStore {
    /// A store that `operator` reaches; retries and time-outs are its layers.
    pub fn new(operator: Operator) -> Self {
        Self { operator }
    }
}

fn path(container: &str, name: &str) -> Result<String> {
    check_container(container)?;
    check_object(name)?;
    Ok(format!("{container}/{name}"))
}

fn failed(action: &'static str, name: &str, error: opendal::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound(name.to_owned()),
        // opendal has no kind of its own for a full service: the cause of a file service says it.
        _ => match std::error::Error::source(&error).and_then(|e| e.downcast_ref::<std::io::Error>()) {
            Some(io)
                if matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                ) =>
            {
                Error::NoSpace(format!("the backup store is full: cannot {action} {name}"))
            }
            _ => Error::Store { action, name: name.to_owned(), source: error.into() },
        },
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn start(&self) -> Result<()> {
        self.operator.check().await.map_err(|e| failed("reach", "the root", e))
    }

    async fn prepare(&self, container: &str) -> Result<()> {
        check_container(container) // directories come and go with their objects
    }

    async fn create(&self, container: &str, name: &str, _run: &str) -> Result<Box<dyn Upload>> {
        let path = path(container, name)?;
        let writing = self.operator.writer_with(&path).chunk(PART_SIZE);
        let writer = writing.await.map_err(|e| failed("create", name, e))?;
        Ok(Box::new(RemoteUpload { writer, name: name.to_owned() }))
    }

    async fn open(&self, container: &str, name: &str) -> Result<Box<dyn Download>> {
        let path = path(container, name)?;
        self.operator.stat(&path).await.map_err(|e| failed("open", name, e))?;
        let reading = self.operator.reader_with(&path).chunk(READ_SIZE);
        let reader = reading.await.map_err(|e| failed("open", name, e))?;
        let stream = reader.into_bytes_stream(..).await.map_err(|e| failed("open", name, e))?;
        Ok(Box::new(RemoteDownload { stream, name: name.to_owned() }))
    }

    async fn list(&self, container: &str, prefix: &str) -> Result<Box<dyn Listing>> {
        check_container(container)?;
        let (root, path) = (format!("{container}/"), format!("{container}/{prefix}"));
        let listing = self.operator.lister_with(&path).recursive(true);
        let lister = match listing.await {
            Ok(lister) => Some(lister),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(failed("list", container, e)),
        };
        Ok(Box::new(RemoteListing { lister, root }))
    }

    async fn delete(&self, container: &str, name: &str) -> Result<()> {
        self.operator.delete(&path(container, name)?).await.map_err(|e| failed("delete", name, e))
    }

    async fn drop_unfinished(&self, _container: &str, _wanted: &Wanted<'_>) -> Result<()> {
        Ok(()) // services drop unfinished uploads by their own rules
    }

    async fn settle(&self, _container: &str) -> Result<()> {
        Ok(()) // a service's answer means durable
    }

    async fn tidy(&self, _container: &str) -> Result<()> {
        Ok(())
    }
}

struct RemoteUpload {
    writer: Writer,
    name: String,
}

impl std::fmt::Debug for RemoteUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteUpload").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Upload for RemoteUpload {
    async fn write(&mut self, data: Bytes) -> Result<()> {
        self.writer.write(data).await.map_err(|e| failed("write", &self.name, e))
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.writer.close().await.map(drop).map_err(|e| failed("write", &self.name, e))
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        self.writer.abort().await.map_err(|e| failed("abort", &self.name, e))
    }
}

struct RemoteDownload {
    stream: opendal::FuturesBytesStream,
    name: String,
}

impl std::fmt::Debug for RemoteDownload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteDownload").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Download for RemoteDownload {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.stream.next().await {
                None => return Ok(None),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(e)) => return Err(Error::file("read", &self.name, e)),
            }
        }
    }
}

struct RemoteListing {
    /// `None` when there is nothing to list.
    lister: Option<Lister>,
    root: String,
}

impl std::fmt::Debug for RemoteListing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteListing").field("root", &self.root).finish_non_exhaustive()
    }
}

#[async_trait]
impl Listing for RemoteListing {
    async fn next(&mut self) -> Result<Option<Vec<String>>> {
        let Some(lister) = &mut self.lister else { return Ok(None) };
        let mut batch = Vec::new();
        while batch.len() < LIST_BATCH {
            match lister.next().await {
                None => break,
                Some(Err(e)) if e.kind() == ErrorKind::NotFound => break,
                Some(Err(e)) => return Err(failed("list", &self.root, e)),
                Some(Ok(entry)) => {
                    let name = entry.path().strip_prefix(&self.root);
                    batch.extend(
                        name.filter(|name| !name.is_empty() && !name.ends_with('/')).map(str::to_owned),
                    );
                }
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}
