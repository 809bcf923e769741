//! `POST /volumes/{id}/action`: one handler per action.

use control::policy::Action;
use control::request::DeleteVolume;
use wire::read::Read;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::volume::id;

/// `os-set_bootable`.
pub async fn set_bootable(call: Call) -> Outcome {
    let bootable = call.object("os-set_bootable").flag("bootable").unwrap_or_default();
    call.edge.cloud.volume_set_bootable(&call.context, id(&call)?, bootable).await?;
    Ok(Answer::none())
}

/// `os-update_readonly_flag`.
pub async fn set_readonly(call: Call) -> Outcome {
    let readonly = call.object("os-update_readonly_flag").flag("readonly").unwrap_or_default();
    call.edge.cloud.volume_set_readonly(&call.context, id(&call)?, readonly).await?;
    Ok(Answer::none())
}

/// `os-force_delete`.
pub async fn force_delete(call: Call) -> Outcome {
    let id = id(&call)?;
    // The action has a rule of its own beside that of the deletion.
    call.edge.cloud.volume_for(&call.context, id, Action::VolumeForceDelete).await?;
    call.edge.cloud.volume_delete(&call.context, id, DeleteVolume { cascade: false, force: true }).await?;
    Ok(Answer::none())
}
