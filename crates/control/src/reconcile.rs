//! The reconciler: compares what rows demand with what is there, and mends what it may (I3, I5, I6).
//!
//! It takes no input and may run any number of times. It removes only what this very database has deleted (a tombstone) or what an
//! ended claim has left half-made; a thing that no row of ours ever named is reported and left alone, so that a restored
//! dump of the database destroys nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use db::job::Wanted;
use drivers::Found;
use model::job::JobState;
use model::{JobId, VolumeStatus};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cloud::Cloud;
use crate::engine::Failure;
use crate::node::Node;

/// How long a job can be looked at after its end, in microseconds: 30 days, as Cinder keeps user messages.
const JOBS_KEPT_US: i64 = 30 * 86_400 * 1_000_000;
/// Jobs that are removed by one transaction.
const JOBS_AT_ONCE: u32 = 500;
/// How often what is too old is looked for.
const PURGE_PERIOD: Duration = Duration::from_secs(3600);

/// Whether to mend or only to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    DryRun,
    Repair,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// What it is about: a backend's thing, a row's id, a counter.
    pub subject: String,
    pub detail: String,
    /// Whether it has been mended.
    pub repaired: bool,
}

/// The kinds of difference there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Deleted here, still on the backend.
    Leaked,
    /// Half-made by a claim that is over.
    HalfMade,
    /// On the backend, unknown to this database: never touched.
    Unknown,
    /// In the database, not on the backend.
    Missing,
    /// An export that nobody needs.
    OrphanExport,
    /// A service-owned status without a job that would end it.
    Stuck,
    /// A counter that differs from a recount.
    Miscounted,
}

/// What a run found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
}

impl FindingKind {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Leaked,
        Self::HalfMade,
        Self::Unknown,
        Self::Missing,
        Self::OrphanExport,
        Self::Stuck,
        Self::Miscounted,
    ];

    /// As reports and measures spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Leaked => "leaked",
            Self::HalfMade => "half-made",
            Self::Unknown => "unknown",
            Self::Missing => "missing",
            Self::OrphanExport => "orphan-export",
            Self::Stuck => "stuck",
            Self::Miscounted => "miscounted",
        }
    }
}

impl Report {
    fn add(
        &mut self,
        kind: FindingKind,
        subject: impl Into<String>,
        detail: impl Into<String>,
        repaired: bool,
    ) {
        self.findings.push(Finding { kind, subject: subject.into(), detail: detail.into(), repaired });
    }

    /// Findings by kind.
    pub fn counts(&self) -> BTreeMap<FindingKind, usize> {
        let mut counts = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.kind).or_insert(0) += 1;
        }
        counts
    }

    fn tell(&self) {
        let counts = self.counts();
        for kind in FindingKind::ALL {
            let found = counts.get(&kind).copied().unwrap_or(0);
            metrics::gauge!("cinderblock_reconcile_findings", "kind" => kind.name()).set(found as f64);
        }
        for finding in &self.findings {
            tracing::warn!(kind = ?finding.kind, subject = finding.subject, detail = finding.detail,
                repaired = finding.repaired, "reconciler");
        }
    }
}

impl Cloud {
    /// One run over everything this process can reach.
    ///
    /// # Errors
    /// The database or a backend does not answer.
    pub async fn reconcile(&self, node: &Node, how: How) -> Result<Report, Failure> {
        let mut report = Report::default();
        for host in node.backends.keys() {
            self.reconcile_backend(node, host, how, &mut report).await?;
        }
        self.reconcile_exports(how, &mut report).await?;
        self.reconcile_states(how, &mut report).await?;
        self.reconcile_counts(&mut report).await?;
        if how == How::Repair {
            db::job::purge_gates(&self.db).await?;
        }
        Ok(report)
    }

    async fn reconcile_backend(
        &self,
        node: &Node,
        host: &str,
        how: How,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let Some(driver) = node.backends.get(host) else { return Ok(()) };
        // Rows first: what is made after this is not missing.
        let rows = db::volume::on_backend(&mut self.db.read(), host).await?;
        let found = driver.list().await?;
        for volume in rows.iter().filter(|volume| SETTLED.contains(&volume.status)) {
            let id = volume.name_id.unwrap_or(volume.id);
            let there =
                found.iter().any(|found| matches!(found, Found::Volume { id: other, .. } if *other == id));
            if !there {
                report.add(FindingKind::Missing, format!("volume {id}"), format!("not on {host}"), false);
            }
        }
        for thing in found {
            match thing {
                Found::Volume { id, .. } => match db::volume::tombstone(&mut self.db.read(), id).await? {
                    Some(false) => {}
                    None => {
                        report.add(FindingKind::Unknown, format!("volume {id}"), format!("on {host}"), false)
                    }
                    Some(true) => {
                        let repaired = how == How::Repair && self.remove_volume(node, host, id).await;
                        report.add(
                            FindingKind::Leaked,
                            format!("volume {id}"),
                            format!("on {host}"),
                            repaired,
                        );
                    }
                },
                Found::Snapshot { id, .. } => match db::snapshot::tombstone(&mut self.db.read(), id).await? {
                    None if db::backup::froze(&mut self.db.read(), id).await? => {}
                    None => report.add(
                        FindingKind::Unknown,
                        format!("snapshot {id}"),
                        format!("on {host}"),
                        false,
                    ),
                    // A volume's deletion takes what is left of its snapshots.
                    Some(_) => {}
                },
                Found::Intermediate { name, job, epoch } => {
                    self.reconcile_intermediate(node, host, (name, job, epoch), how, report).await?;
                }
                Found::Foreign { .. } => {}
            }
        }
        Ok(())
    }

    async fn remove_volume(&self, node: &Node, host: &str, id: model::VolumeId) -> bool {
        let Some(driver) = node.backends.get(host) else { return false };
        let volume = drivers::VolumeRef {
            id,
            name: format!("volume-{id}"),
            size: model::GiB(0),
            provider: drivers::Provider::default(),
        };
        match driver.delete_volume(&volume, &model::job::Claim::unbounded()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(volume.id = %id, %error, "removing a leaked volume");
                false
            }
        }
    }

    async fn reconcile_intermediate(
        &self,
        node: &Node,
        host: &str,
        (name, job, epoch): (String, JobId, i64),
        how: How,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let Some(row) = db::job::get(&mut self.db.read(), job).await? else {
            report.add(
                FindingKind::Unknown,
                name,
                format!("half-made on {host} by a job that is not here"),
                false,
            );
            return Ok(());
        };
        let active = matches!(row.state, JobState::Running | JobState::Undoing | JobState::Queued);
        if active && row.epoch <= epoch {
            return Ok(());
        }
        let mut repaired = false;
        if how == How::Repair
            && let Some(driver) = node.backends.get(host)
        {
            repaired = driver.discard_intermediate(&name).await.is_ok();
        }
        report.add(FindingKind::HalfMade, name, format!("on {host}, epoch {epoch} of job {job}"), repaired);
        Ok(())
    }

    async fn reconcile_exports(&self, how: How, report: &mut Report) -> Result<(), Failure> {
        let orphans = db::export::orphans(&mut self.db.read()).await?;
        if orphans.is_empty() {
            return Ok(());
        }
        if how == How::Repair {
            // Their targets cut them and then remove the rows.
            let mut tx = self.db.begin().await?;
            for export in &orphans {
                db::export::end_orphan(&mut tx, export).await?;
            }
            self.commit(tx).await?;
        }
        for export in orphans {
            let detail = format!("volume {} for {}", export.volume_id, export.initiator);
            report.add(FindingKind::OrphanExport, export.id, detail, how == How::Repair);
        }
        Ok(())
    }

    /// A service-owned status has a job (I3); one without could only come from another program's writes.
    async fn reconcile_states(&self, how: How, report: &mut Report) -> Result<(), Failure> {
        for stuck in db::transition::unowned(&mut self.db.read()).await? {
            let mut repaired = false;
            if how == How::Repair {
                let mut tx = self.db.begin().await?;
                repaired = db::transition::settle_unowned(&mut tx, &stuck).await?;
                self.commit(tx).await?;
            }
            report.add(
                FindingKind::Stuck,
                format!("{} {}", stuck.kind, stuck.id),
                format!("{} without a job", stuck.status),
                repaired,
            );
        }
        Ok(())
    }

    async fn reconcile_counts(&self, report: &mut Report) -> Result<(), Failure> {
        let active =
            db::job::list(&mut self.db.read(), &Wanted { active: true, limit: 1, ..Wanted::default() })
                .await?;
        if !active.is_empty() {
            // A recount while work is under way compares two moments; it waits for a quiet one.
            return Ok(());
        }
        for project in db::quota::projects(&mut self.db.read()).await? {
            let counted = db::quota::usages(&mut self.db.read(), &project).await?;
            let recount =
                db::quota::recount(&mut self.db.read(), &project, !self.settings.snapshot_gb_free).await?;
            for (resource, usage) in counted {
                let real = recount.get(&resource).copied().unwrap_or(0);
                if KNOWN.iter().any(|known| resource.starts_with(known))
                    && (usage.in_use != real || usage.reserved != 0)
                {
                    let detail =
                        format!("in use {} reserved {}, recount {real}", usage.in_use, usage.reserved);
                    report.add(FindingKind::Miscounted, format!("{project}/{resource}"), detail, false);
                }
            }
        }
        for pool in db::pool::list(&mut self.db.read()).await? {
            let real = db::pool::recount(&mut self.db.read(), &pool.name).await?;
            if real != pool.allocated_gb || pool.promised_gb != 0 {
                let detail = format!(
                    "allocated {} GiB, promised {} GiB, recount {real} GiB",
                    pool.allocated_gb, pool.promised_gb
                );
                report.add(FindingKind::Miscounted, pool.name, detail, false);
            }
        }
        Ok(())
    }

    /// Removes what was kept for a time that is over: user messages, and jobs that have ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn purge(&self) -> Result<(), Failure> {
        let mut tx = self.db.begin().await?;
        db::message::expire(&mut tx).await?;
        self.commit(tx).await?;
        while db::job::purge(&self.db, JOBS_KEPT_US, JOBS_AT_ONCE).await? >= u64::from(JOBS_AT_ONCE) {}
        Ok(())
    }

    /// Runs now and every `period` until stopped; tells of what it finds in the log and in metrics.
    pub async fn keep_reconciling(
        self,
        node: std::sync::Arc<Node>,
        period: Duration,
        stop: CancellationToken,
    ) {
        let mut purged: Option<Instant> = None;
        loop {
            match self.reconcile(&node, How::Repair).await {
                Ok(report) => report.tell(),
                Err(failure) => tracing::warn!(error = failure.message, "the reconciler could not look"),
            }
            if purged.is_none_or(|at| at.elapsed() >= PURGE_PERIOD) {
                match self.purge().await {
                    Ok(()) => purged = Some(Instant::now()),
                    Err(failure) => tracing::warn!(error = failure.message, "removing what is too old"),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(period) => {}
            }
        }
    }
}

/// Statuses in which a volume is on its backend and nothing is being done to it.
const SETTLED: [VolumeStatus; 4] =
    [VolumeStatus::Available, VolumeStatus::InUse, VolumeStatus::Reserved, VolumeStatus::Attaching];

/// Resources that this service counts.
const KNOWN: [&str; 5] = ["volumes", "gigabytes", "snapshots", "backups", "backup_gigabytes"];
