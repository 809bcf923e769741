//! Removing backups, and what unfinished runs left.

use futures::future::try_join_all;
use model::{BackupId, VolumeId};

use crate::error::Result;
use crate::format::name::{self, Kind};
use crate::store::{Store, check_container, check_object};

/// Deletions in flight at once.
const CONCURRENCY: usize = 8;

/// Removes the backup whose objects start with `prefix` (`service_metadata`). What is gone already is no error, so that a
/// deletion may be repeated. Only names that the format knows are touched, whatever else starts the same; the metadata
/// file goes first, so that what remains of a deletion cut short is no backup.
///
/// # Errors
/// `Invalid` for a container or prefix that cannot be; `Store`.
pub async fn delete(store: &dyn Store, container: &str, prefix: &str) -> Result<()> {
    check_container(container)?;
    check_object(prefix)?;
    store.delete(container, &name::metadata(prefix)).await?;
    store.settle(container).await?;
    remove(store, container, prefix, |name| name::kind(prefix, name) != Kind::Other).await?;
    if let Some((volume, backup)) = name::owner_of(prefix) {
        clear(store, container, volume, &|name| name::belongs_to(backup, name)).await?; // dead runs' remains
    }
    store.settle(container).await?;
    store.tidy(container).await
}

/// Removes everything that any run of a backup has put or begun: for a backup that failed, was cancelled, or whose
/// owner died. Idempotent.
///
/// # Errors
/// `Store`. A container that cannot be holds nothing: an undo must not stumble over what the work stumbled over.
pub async fn discard(store: &dyn Store, container: &str, volume: VolumeId, backup: BackupId) -> Result<()> {
    if check_container(container).is_err() {
        return Ok(()); // nothing can have been put there
    }
    clear(store, container, volume, &|name| name::belongs_to(backup, name)).await?;
    store.settle(container).await?;
    store.tidy(container).await
}

/// Removes what the run that writes under `prefix` and earlier ones of the same backup have put or begun. It spares
/// newer runs: an old owner that wakes up in here must not harm the one that has replaced it.
pub(crate) async fn clear_until(
    store: &dyn Store,
    container: &str,
    prefix: &str,
    volume: VolumeId,
    backup: BackupId,
) -> Result<()> {
    clear(store, container, volume, &|name| name::is_of_run_until(prefix, volume, backup, name)).await
}

async fn clear(
    store: &dyn Store,
    container: &str,
    volume: VolumeId,
    wanted: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<()> {
    check_container(container)?;
    // First: after this, an owner that was stopped in the middle of an object cannot publish it.
    store.drop_unfinished(container, wanted).await?;
    remove(store, container, &name::volume_prefix(volume), wanted).await
}

async fn remove(
    store: &dyn Store,
    container: &str,
    prefix: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<()> {
    let mut listing = store.list(container, prefix).await?;
    while let Some(names) = listing.next().await? {
        let names: Vec<String> = names.into_iter().filter(|name| wanted(name)).collect();
        for some in names.chunks(CONCURRENCY) {
            try_join_all(some.iter().map(|name| store.delete(container, name))).await?;
        }
    }
    Ok(())
}
