//! `docs/states.md` is drawn from the transition tables; `BLESS=1 cargo test -p model --test states_doc` draws it anew.

use std::fmt::Write as _;

use model::transition::{After, BackupOp, GroupOp, GroupSnapshotOp, Guard, Rule, SnapshotOp, VolumeOp};

fn after<S: ToString>(after: After<S>) -> String {
    match after {
        After::Be(status) => status.to_string(),
        After::Back => "the status before".into(),
        After::ByAttachments => "what its attachments say".into(),
        After::Gone => "gone".into(),
    }
}

fn guard(guard: &Guard) -> &'static str {
    match guard {
        Guard::NotAttached => "not attached",
        Guard::Attached => "attached",
        Guard::Multiattach => "multi-attach",
        Guard::NotMigrating => "not migrating",
        Guard::NoSnapshots => "no snapshots",
        Guard::NoGroup => "in no group",
        Guard::NoDependents => "no backup builds on it",
        Guard::NoGroupSnapshots => "no snapshot of the group",
        Guard::NoVolumes => "no volume in it",
        Guard::NotASource => "no group is being made from it",
    }
}

fn table<S: ToString + Copy>(title: &str, rules: Vec<(String, Rule<S>)>, all: usize) -> String {
    let mut out = format!(
        "## {title}\n\n| Operation | From | Shows | When done | When failed | Needs |\n|---|---|---|---|---|---|\n"
    );
    for (name, rule) in rules {
        let from = match rule.from.len() {
            0 => "(new)".to_owned(),
            n if n == all => "any".to_owned(),
            _ => rule.from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let shows = rule.shows.map_or_else(|| "(unchanged)".to_owned(), |status| status.to_string());
        let needs = rule.needs.iter().map(guard).collect::<Vec<_>>().join(", ");
        let (done, failed) = (after(rule.done), after(rule.failed));
        let _ = writeln!(out, "| {name} | {from} | {shows} | {done} | {failed} | {needs} |");
    }
    out
}

fn drawn() -> String {
    let mut out = String::from(
        "# States\n\nWhere an operation may start, what the resource shows while its job runs, and where it ends. Drawn from \
         `model::transition` by a test; every change is one conditional update (I2), and a status in the column *Shows* exists only \
         while a job does (I3).\n\n",
    );
    let volumes = VolumeOp::ALL.iter().map(|op| (format!("{op:?}"), op.rule())).collect();
    let snapshots = SnapshotOp::ALL.iter().map(|op| (format!("{op:?}"), op.rule())).collect();
    let backups = BackupOp::ALL.iter().map(|op| (format!("{op:?}"), op.rule())).collect();
    out.push_str(&table("Volumes", volumes, model::VolumeStatus::ALL.len()));
    out.push('\n');
    out.push_str(&table("Snapshots", snapshots, model::SnapshotStatus::ALL.len()));
    out.push('\n');
    out.push_str(&table("Backups", backups, model::BackupStatus::ALL.len()));
    let groups = GroupOp::ALL.iter().map(|op| (format!("{op:?}"), op.rule())).collect();
    let group_snapshots = GroupSnapshotOp::ALL.iter().map(|op| (format!("{op:?}"), op.rule())).collect();
    out.push('\n');
    out.push_str(&table("Groups", groups, model::GroupStatus::ALL.len()));
    out.push('\n');
    out.push_str(&table("Group snapshots", group_snapshots, model::GroupSnapshotStatus::ALL.len()));
    out
}

#[test]
fn the_document_shows_the_tables() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/states.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, drawn()).expect("can be written");
    }
    let written = std::fs::read_to_string(path).expect("is there");
    assert_eq!(written, drawn(), "draw it anew: BLESS=1 cargo test -p model --test states_doc");
}
