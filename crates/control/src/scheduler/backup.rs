//! Which backup service makes a backup.

use super::chance::Chance;
use super::decision::{Decision, Outcome, Verdict};
use super::pool::host_part;

/// A backup service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupService {
    pub host: String,
    pub availability_zone: Option<String>,
    /// Its heartbeat is young.
    pub up: bool,
    pub disabled: bool,
    /// Whether its store answered last.
    pub working: bool,
}

/// What a backup service is sought for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupRequest {
    /// Where the volume is: `host@backend#pool`.
    pub volume_host: Option<String>,
    /// As asked for.
    pub availability_zone: Option<String>,
    /// The volume's: counts where none is asked for.
    pub volume_zone: Option<String>,
    /// `backup_use_same_host`.
    pub same_host: bool,
    /// What chance goes by.
    pub seed: u64,
}

/// Chooses a backup service by lot among those that can do it.
pub fn pick_backup_host(services: &[BackupService], request: &BackupRequest) -> Decision {
    let zone = [&request.availability_zone, &request.volume_zone]
        .into_iter()
        .flatten()
        .find(|zone| !zone.is_empty())
        .map(String::as_str);
    let host = request.volume_host.as_deref().filter(|_| request.same_host).map(host_part);
    let mut able = Vec::new();
    let mut refused = Vec::new();
    for service in services {
        match refusal(service, zone, host) {
            None => able.push(service.host.clone()),
            Some((filter, reason)) => {
                let outcome = Outcome::Refused { filter: filter.into(), reason };
                refused.push(Verdict { pool: service.host.clone(), outcome });
            }
        }
    }
    if !able.is_empty() {
        let winner = Chance::new(request.seed).index(able.len());
        able.rotate_left(winner);
    }
    let ranked = able.iter().enumerate().map(|(at, host)| Verdict {
        pool: host.clone(),
        outcome: Outcome::Weighed { rank: at + 1, total: 0.0, weights: Vec::new() },
    });
    let verdicts = ranked.chain(refused).collect();
    Decision::new(able.first().cloned(), verdicts, "backup service")
}

fn refusal(
    service: &BackupService,
    zone: Option<&str>,
    host: Option<&str>,
) -> Option<(&'static str, String)> {
    if !service.up {
        return Some(("service", "it is down".into()));
    }
    if service.disabled {
        return Some(("service", "it is disabled".into()));
    }
    if !service.working {
        return Some(("service", "its store does not answer".into()));
    }
    if let Some(zone) = zone.filter(|zone| service.availability_zone.as_deref() != Some(zone)) {
        let own = service.availability_zone.as_deref().unwrap_or_default();
        return Some(("zone", format!("it is in zone {own:?}, not in {zone:?}")));
    }
    match host {
        Some(host) if host != service.host => Some(("host", format!("the volume is on host {host:?}"))),
        _ => None,
    }
}
