//! What both ends of a connection need to move bytes: buffers, queues, and the layout of PDUs.

pub mod buffer;
pub mod inbox;
pub mod layout;
pub mod outbox;
