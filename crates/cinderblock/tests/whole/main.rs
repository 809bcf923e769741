//! The whole service as it is run, when things go wrong around it, and as whoever runs it sees it: the real binary, over HTTP and
//! iSCSI. What a kill at every step does is the crash suite's.

#[path = "../crash/site.rs"]
mod site;

mod database_full;
mod disk_full;
mod killed;
mod managing;
mod roles;
mod running;
mod seen;
mod small;
