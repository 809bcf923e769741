//! All operations, by name: what jobs can be. What they lock: [`crate::locks`].

use crate::engine::Operation;

/// Every operation there is. The crash suite kills each at each of its steps.
pub const ALL: &[&Operation] = &[
    &crate::volume::create::OPERATION,
    &crate::volume::delete::OPERATION,
    &crate::volume::extend::OPERATION,
    &crate::volume::revert::OPERATION,
    &crate::volume::migrate::OPERATION,
    &crate::volume::retype::OPERATION,
    &crate::volume::manage::OPERATION,
    &crate::volume::unmanage::OPERATION,
    &crate::snapshot::create::OPERATION,
    &crate::snapshot::delete::OPERATION,
    &crate::snapshot::manage::OPERATION,
    &crate::snapshot::unmanage::OPERATION,
    &crate::manageable::OPERATION,
    &crate::backup::create::OPERATION,
    &crate::backup::restore::OPERATION,
    &crate::backup::delete::OPERATION,
    &crate::backup::record::OPERATION,
    &crate::group::create::OPERATION,
    &crate::group::create_from::OPERATION,
    &crate::group::delete::OPERATION,
    &crate::group_snapshot::create::OPERATION,
    &crate::group_snapshot::delete::OPERATION,
    &crate::export::connect::OPERATION,
    &crate::export::disconnect::OPERATION,
];

/// The operation of a job.
pub fn find(name: &str) -> Option<&'static Operation> {
    ALL.iter().copied().find(|operation| operation.name == name)
}

/// Whether an operation may be stopped half-way on request: what it makes or fills is the caller's to give up. A deletion or a growth
/// that has begun on a backend cannot be taken back.
pub fn can_be_cancelled(name: &str) -> bool {
    name.ends_with(".create")
        || name.ends_with(".manage")
        || ["backup.restore", "volume.migrate", "volume.retype", "group.create_from_src"].contains(&name)
}
