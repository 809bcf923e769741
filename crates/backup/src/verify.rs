//! Checking a backup where it is: everything that a restore checks, and that the data matches the hash file, on which
//! later incremental backups rely.

use bytes::Bytes;
use model::job::Claim;
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::hashes::{self, Hash, HashStream, HashSummary};
use crate::format::metadata::{self, MetadataSummary, ObjectEntry};
use crate::format::name;
use crate::restore::Source;
use crate::run::{HashStage, Md5Stage, Piece, Run, zero_hash};
use crate::store::{Store, check_container, check_object};

/// Objects in work at once.
const CONCURRENCY: usize = 4;
/// Problems that are described; more are only counted.
pub const MAX_PROBLEMS: usize = 100;

/// One thing wrong with a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object's name.
    pub object: String,
    pub what: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Data objects looked at.
    pub objects: u64,
    /// Bytes of uncompressed data in them.
    pub bytes: u64,
    /// The first hundred problems.
    pub problems: Vec<Problem>,
    /// How many problems there are.
    pub problem_count: u64,
}

impl Verified {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    fn add(&mut self, object: String, what: String) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { object, what });
        }
    }
}

/// Checks one backup (not its parents) without changing anything. Progress counts bytes of uncompressed data.
///
/// # Errors
/// `NotFound` when there is no such backup; `Stopped`; `Store` when the store cannot be read. What is wrong with the
/// backup itself is in the result.
pub async fn verify(store: &dyn Store, container: &str, prefix: &str, claim: &Claim) -> Result<Verified> {
    check_container(container)?;
    check_object(prefix)?;
    claim.set_done(0);
    claim.check()?;
    let mut found = Verified::default();
    let checked = async {
        let hashes = hashes::summarize(store, container, prefix).await;
        // Without hashes there is no telling the volume's size; the objects can be checked all the same.
        let limit = hashes.as_ref().map_or(u64::MAX, |h| h.count.saturating_mul(h.block_size));
        let metadata = metadata::summarize(store, container, prefix, limit).await?;
        metadata::check_listing(store, container, prefix, metadata.objects).await?;
        Ok((metadata, hashes))
    };
    let (metadata, hashes) = match checked.await {
        Err(Error::Corrupt(what)) => {
            found.add(name::metadata(prefix), what);
            return Ok(found);
        }
        other => other?,
    };
    let hashes = match hashes.and_then(|hashes| match_files(&metadata, hashes)) {
        Ok(hashes) => Some(hashes),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            found.add(name::hashes(prefix), e.to_string());
            None
        }
        Err(e) => return Err(e),
    };
    if metadata.parent_id.is_none() && !metadata.gapless {
        found.add(name::metadata(prefix), "a full backup with gaps".into());
    }
    claim.set_total(metadata.bytes);
    let run = Run::new(claim);
    let check = Check { run: &run, source: Source { run: &run, store, container, prefix }, hashes };
    check.objects(&mut found).await?;
    Ok(found)
}

/// Whether the two control files describe one backup.
fn match_files(metadata: &MetadataSummary, hashes: HashSummary) -> Result<HashSummary> {
    if hashes.backup_id != metadata.backup_id {
        return Err(Error::Corrupt(format!("it is that of backup {}", hashes.backup_id)));
    }
    if metadata.parent_id.is_none() && hashes.count != metadata.end.div_ceil(hashes.block_size) {
        return Err(Error::Corrupt(format!("{} hashes for {} bytes", hashes.count, metadata.end)));
    }
    Ok(hashes)
}

struct Check<'a> {
    run: &'a Run,
    source: Source<'a>,
    hashes: Option<HashSummary>,
}

/// An object, and the hashes that its blocks should have, where they are known.
type Expected = (ObjectEntry, Option<Vec<Hash>>);

impl Check<'_> {
    async fn objects(&self, found: &mut Verified) -> Result<()> {
        let Source { store, container, prefix, .. } = self.source;
        let (objects, take_objects) = mpsc::channel(4);
        let (known, take_known) = mpsc::channel(4);
        let (jobs, take_jobs) = mpsc::channel(1);
        let (results, mut take_results) = mpsc::channel(4);
        let reading = async {
            let sent = metadata::send(store, container, prefix, u64::MAX, objects).await;
            sent.unwrap_or_else(|e| self.run.fail(e));
        };
        let hashing = async {
            if self.hashes.is_some() {
                let sent = hashes::send(store, container, prefix, known).await;
                sent.unwrap_or_else(|e| self.run.fail(e));
            }
        };
        let pairing = self.pair(take_objects, HashStream::new(take_known), jobs);
        let checking = self.run.in_order(take_jobs, CONCURRENCY, |job| self.object(job), results);
        let gathering = async {
            while let Some((entry, problem)) = take_results.recv().await {
                let entry: ObjectEntry = entry;
                found.objects += 1;
                found.bytes += entry.length;
                if let Some(what) = problem {
                    found.add(name::data(prefix, entry.number), what);
                }
            }
        };
        tokio::join!(reading, hashing, pairing, checking, gathering);
        self.run.outcome()
    }

    /// Joins each object with the hashes of its blocks.
    async fn pair(
        &self,
        mut objects: mpsc::Receiver<ObjectEntry>,
        mut known: HashStream,
        jobs: mpsc::Sender<Expected>,
    ) {
        let mut position = 0; // of the next hash
        while let Some(entry) = objects.recv().await {
            let mut expected = None;
            if let Some(HashSummary { block_size, count, .. }) = self.hashes
                && entry.offset.is_multiple_of(block_size)
            {
                let (first, end) =
                    (entry.offset / block_size, (entry.offset + entry.length).div_ceil(block_size));
                if end > count || first < position || !known.skip(first - position).await {
                    return self.run.fail(hashes::missing_hashes(self.source.prefix));
                }
                let mut blocks = Vec::with_capacity((end - first) as usize);
                while blocks.len() < (end - first) as usize {
                    let Some(hash) = known.next().await else {
                        return self.run.fail(hashes::missing_hashes(self.source.prefix));
                    };
                    blocks.push(hash);
                }
                position = end;
                expected = Some(blocks);
            }
            if jobs.send((entry, expected)).await.is_err() {
                return;
            }
        }
    }

    /// Reads an object through; answers what is wrong with it.
    async fn object(&self, (entry, expected): Expected) -> Result<(ObjectEntry, Option<String>)> {
        self.run.check()?;
        let (pieces, take) = mpsc::channel(2);
        let (unpacked, digests) = tokio::join!(self.source.unpack(&entry, pieces), self.digest(take));
        let problem = match unpacked {
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Some(e.to_string()),
            Err(e) => return Err(e),
            Ok(()) => {
                let (md5, hashes) = digests;
                let misplaced = self.hashes.is_some() && expected.is_none();
                if md5 != entry.md5 {
                    Some("its MD5 is not the one in the metadata".into())
                } else if misplaced || expected.is_some_and(|expected| expected != hashes) {
                    Some("it does not match the hash file".into())
                } else {
                    None
                }
            }
        };
        Ok((entry, problem))
    }

    async fn digest(&self, mut pieces: mpsc::Receiver<Bytes>) -> ([u8; 16], Vec<Hash>) {
        let block_size = self.hashes.as_ref().map_or(u64::MAX, |hashes| hashes.block_size);
        let zero = match self.hashes {
            Some(_) => zero_hash(block_size),
            None => [0; 32], // a block that never fills needs none
        };
        let (mut md5, mut hashes) = (Md5Stage::new(), HashStage::new(block_size, zero));
        while let Some(piece) = pieces.recv().await {
            self.run.claim.add_done(piece.len() as u64);
            let piece = Piece::Data(piece);
            tokio::join!(md5.update(self.run, piece.clone()), hashes.update(self.run, piece));
        }
        (md5.finish(), hashes.finish())
    }
}
