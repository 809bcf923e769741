//! Points where the crash suite kills the process. Their names come from the step tables, so that a new step is killed
//! without anyone naming it. Without the feature `faults` there is nothing here to reach.

use super::Operation;

/// The moments around a step at which a crash must do no harm.
pub(super) const MOMENTS: [&str; 3] = ["before", "after", "recorded"];

/// Every kill point of an operation: `volume.create/build/after`.
pub fn kill_points(operation: &Operation) -> Vec<String> {
    let mut points = Vec::new();
    for step in operation.steps {
        for moment in MOMENTS {
            points.push(format!("{}/{}/{moment}", operation.name, step.name));
        }
        if step.undo.is_some() {
            points.push(format!("{}/{}/undo", operation.name, step.name));
        }
    }
    points.push(format!("{}/finish/before", operation.name));
    points.push(format!("{}/finish/after", operation.name));
    points
}

/// Dies here, as by `kill -9`, if `CINDERBLOCK_KILL` names this point.
#[cfg(feature = "faults")]
pub(super) fn point(operation: &str, step: &str, moment: &str) {
    if std::env::var("CINDERBLOCK_KILL").is_ok_and(|wanted| wanted == format!("{operation}/{step}/{moment}"))
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(feature = "faults"))]
pub(super) fn point(_operation: &str, _step: &str, _moment: &str) {}

/// Whether `CINDERBLOCK_FAIL` names this step: it is to fail for good.
#[cfg(feature = "faults")]
pub(super) fn fails(operation: &str, step: &str) -> bool {
    std::env::var("CINDERBLOCK_FAIL").is_ok_and(|wanted| wanted == format!("{operation}/{step}"))
}

#[cfg(not(feature = "faults"))]
pub(super) fn fails(_operation: &str, _step: &str) -> bool {
    false
}
