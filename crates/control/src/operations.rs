//! All operations, by name: what jobs can be.

use crate::engine::Operation;

/// Every operation there is. The crash suite kills each at each of its steps.
pub const ALL: &[&Operation] = &[
    &crate::volume::create::OPERATION,
    &crate::volume::delete::OPERATION,
    &crate::backup::create::OPERATION,
    &crate::backup::restore::OPERATION,
    &crate::backup::delete::OPERATION,
    &crate::export::connect::OPERATION,
    &crate::export::disconnect::OPERATION,
];

/// The operation of a job.
pub fn find(name: &str) -> Option<&'static Operation> {
    ALL.iter().copied().find(|operation| operation.name == name)
}
