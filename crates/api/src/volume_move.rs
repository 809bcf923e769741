//! `POST /volumes/{id}/action` of volumes that move: retype, migrate.

use control::Error;
use control::request::{CompleteMigration, MigrateVolume, MoveTo, RetypeVolume};
use model::VolumeId;
use serde_json::{Value, json};
use wire::microversion::Behaviour;
use wire::read::Read;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;
use crate::volume::id;

/// `os-retype`.
pub async fn retype(call: Call) -> Outcome {
    let body = call.object("os-retype");
    let wanted = RetypeVolume {
        new_type: body.text("new_type").unwrap_or_default(),
        on_demand: body.text("migration_policy").as_deref() == Some("on-demand"),
    };
    call.edge.cloud.volume_retype(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::none())
}

/// `os-migrate_volume`.
pub async fn migrate(call: Call) -> Outcome {
    let body = call.object("os-migrate_volume");
    let wanted =
        MigrateVolume { to: destination(&call)?, lock: body.flag("lock_volume").unwrap_or_default() };
    call.edge.cloud.volume_migrate(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::none())
}

fn destination(call: &Call) -> Result<MoveTo, Fault> {
    let body = call.object("os-migrate_volume");
    let given = |key: &str| body.text(key).filter(|text| !text.is_empty());
    let clusters = call.version.has(Behaviour::MigrateToCluster);
    match (given("host"), given("cluster").filter(|_| clusters)) {
        (Some(host), None) => Ok(MoveTo::Host(host)),
        (None, Some(cluster)) => Ok(MoveTo::Cluster(cluster)),
        _ if clusters => {
            Err(Error::InvalidInput("One and only one of cluster and host must be set.".into()).into())
        }
        _ => Err(Error::InvalidInput("Host field is missing.".into()).into()),
    }
}

/// `os-migrate_volume_completion`.
pub async fn complete(call: Call) -> Outcome {
    let body = call.object("os-migrate_volume_completion");
    let new_volume = body.id("new_volume").unwrap_or_else(VolumeId::new);
    let error = match body.get("error") {
        Some(Value::Bool(error)) => *error,
        // As Cinder reads texts: only what clearly says yes.
        Some(Value::String(text)) => {
            ["1", "t", "true", "on", "y", "yes"].contains(&text.trim().to_lowercase().as_str())
        }
        _ => false,
    };
    let wanted = CompleteMigration { new_volume, error };
    let goes_on = call.edge.cloud.volume_migrate_completion(&call.context, id(&call)?, wanted).await?;
    Ok(Answer::json(json!({ "save_volume_id": goes_on })))
}
