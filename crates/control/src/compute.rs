//! The compute service, as far as volumes need it.

use std::fmt;

use async_trait::async_trait;
use model::VolumeId;

use crate::context::Context;
use crate::error::Result;

/// Asks the compute service, in the name of whoever makes a request.
#[async_trait]
pub trait Compute: Send + Sync + fmt::Debug {
    /// The id of the attachment by which a server uses a volume; `None` when it does not use it, or when the caller has no such
    /// server.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the service does not say.
    async fn attachment_of(
        &self,
        context: &Context,
        server: &str,
        volume: VolumeId,
    ) -> Result<Option<String>>;
}
