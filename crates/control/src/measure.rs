//! Measures: what `/metrics` tells beside the counters that are kept where things happen. Read when somebody asks, so that they
//! cost nothing while nobody does.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use model::job::JobState;
use serde_json::Value;

use crate::cloud::Cloud;
use crate::operations;
use crate::target::TargetRole;

/// How many waiting jobs are looked at for what they wait for.
const LOOKED_AT: u32 = 1000;
const ACTIVE: [JobState; 3] = [JobState::Queued, JobState::Running, JobState::Undoing];
const GIB: f64 = (1u64 << 30) as f64;

/// Duration buckets in seconds: from a fast request to a backup of a night.
pub const BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0,
];

/// Says what each measure is. Once, at start.
pub fn describe() {
    let seconds = Unit::Seconds;
    describe_histogram!("cinderblock_api_request_seconds", seconds, "Time to answer a request");
    describe_histogram!("cinderblock_job_seconds", seconds, "Time from a job's creation to its end");
    describe_histogram!(
        "cinderblock_job_wait_seconds",
        seconds,
        "Time from a job's creation to its first claim"
    );
    describe_histogram!("cinderblock_job_step_seconds", seconds, "Time of a step that succeeded");
    describe_counter!("cinderblock_job_retries_total", "Steps that met something that may pass");
    describe_counter!("cinderblock_lock_waits_total", "Claims that a lock held up");
    describe_gauge!("cinderblock_jobs", "Jobs that have not ended");
    describe_gauge!("cinderblock_job_oldest_seconds", seconds, "Age of the oldest job that has not ended");
    describe_gauge!("cinderblock_locks_held", "Locks that jobs have now");
    describe_gauge!("cinderblock_jobs_waiting_for_locks", "Jobs that wait for a lock now");
    describe_gauge!(
        "cinderblock_pool_bytes",
        Unit::Bytes,
        "Capacity of a pool: total, free, allocated, promised"
    );
    describe_gauge!("cinderblock_service_up", "Whether a service has told lately that it is alive");
    describe_gauge!(
        "cinderblock_reconcile_findings",
        "Differences that the reconciler found at its last run"
    );
    describe_gauge!("cinderblock_target_sessions", "iSCSI sessions now");
    describe_gauge!("cinderblock_target_volumes", "Volumes that the target has open now");
    describe_counter!("cinderblock_target_sessions_total", "iSCSI sessions that began");
    describe_counter!("cinderblock_target_commands_total", "SCSI commands of all sessions");
    describe_counter!("cinderblock_target_read_bytes_total", Unit::Bytes, "Bytes sent to initiators");
    describe_counter!(
        "cinderblock_target_written_bytes_total",
        Unit::Bytes,
        "Bytes received from initiators"
    );
}

/// Names that were told once and are told as zero when they are gone.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeSet<(String, String)>>);

impl Told {
    fn exchange(&self, now: BTreeSet<(String, String)>) -> Vec<(String, String)> {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = before.difference(&now).cloned().collect();
        *before = now;
        gone
    }
}

impl Cloud {
    /// Brings the measures of the whole installation up to date, from the database.
    ///
    /// # Errors
    /// The database is away; what was told before stays.
    pub async fn measure(&self, told: &Told) -> db::Result<()> {
        self.measure_jobs().await?;
        self.measure_pools(told).await?;
        let down_us = self.settings.service_down.as_micros() as i64;
        for service in db::service::list(&mut self.db.read(), down_us).await? {
            let up = if service.up { 1.0 } else { 0.0 };
            gauge!("cinderblock_service_up", "binary" => service.binary, "host" => service.host).set(up);
        }
        Ok(())
    }

    async fn measure_jobs(&self) -> db::Result<()> {
        let read = &mut self.db.read();
        let counts = db::job::counts(read).await?;
        for operation in operations::ALL {
            for state in ACTIVE {
                let jobs: i64 = counts
                    .iter()
                    .filter(|count| count.operation == operation.name && count.state == state)
                    .map(|count| count.jobs)
                    .sum();
                gauge!("cinderblock_jobs", "operation" => operation.name, "state" => state.as_str())
                    .set(jobs as f64);
            }
        }
        let oldest = counts.iter().map(|count| count.oldest_us).max().unwrap_or(0);
        gauge!("cinderblock_job_oldest_seconds").set(oldest as f64 / 1e6);
        gauge!("cinderblock_locks_held").set(db::job::held(read).await?.len() as f64);
        let ready = db::job::unclaimed_with_locks(read, LOOKED_AT).await?;
        let lease_us = self.settings.lease.as_micros() as i64;
        let blocked = db::job::blocked(read, &ready, lease_us).await?;
        let waiting: BTreeSet<_> = blocked.iter().map(|one| one.job).collect();
        gauge!("cinderblock_jobs_waiting_for_locks").set(waiting.len() as f64);
        Ok(())
    }

    async fn measure_pools(&self, told: &Told) -> db::Result<()> {
        let mut now = BTreeSet::new();
        for pool in db::pool::list(&mut self.db.read()).await? {
            let of = |key: &str| pool.stats.get(key).and_then(Value::as_f64).map(|gb| gb * GIB);
            let known = [
                ("total", of("total_capacity_gb")),
                ("free", of("free_capacity_gb")),
                ("allocated", Some(pool.allocated_gb as f64 * GIB)),
                ("promised", Some(pool.promised_gb as f64 * GIB)),
            ];
            for (kind, bytes) in known {
                // What a backend cannot tell ("unknown", "infinite") is left out.
                let Some(bytes) = bytes else { continue };
                gauge!("cinderblock_pool_bytes", "pool" => pool.name.clone(), "kind" => kind).set(bytes);
                now.insert((pool.name.clone(), kind.to_owned()));
            }
        }
        for (pool, kind) in told.exchange(now) {
            gauge!("cinderblock_pool_bytes", "pool" => pool, "kind" => kind).set(0.0);
        }
        Ok(())
    }
}

impl TargetRole {
    /// Brings the measures of this process's target up to date.
    pub fn measure(&self) {
        gauge!("cinderblock_target_sessions").set(self.sessions().len() as f64);
        gauge!("cinderblock_target_volumes").set(self.volumes().len() as f64);
        let totals = self.totals();
        counter!("cinderblock_target_sessions_total").absolute(totals.sessions);
        counter!("cinderblock_target_commands_total").absolute(totals.commands);
        counter!("cinderblock_target_read_bytes_total").absolute(totals.bytes_read);
        counter!("cinderblock_target_written_bytes_total").absolute(totals.bytes_written);
    }
}
