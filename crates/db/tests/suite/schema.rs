//! The schema: the same on every database, the same as Cinder's own, made once, added to what Cinder made.

use std::collections::BTreeMap;
use std::io::Read as _;

use db::schema::{CINDER_REVISION, VERSION, migrate, migrate_quiet, version};
use db::sql::sql;
use db::{Db, Read as _};

use crate::support::catalogue::{Lines, common, differences, native};
use crate::support::{Kind, Lab, run};

on_each_database!(
    blank: a_new_database_is_made_once,
    processes_that_start_together_make_one_schema,
    another_cinder_release_is_refused,
    a_newer_schema_is_refused,
    a_column_that_a_later_version_adds_is_added,
);

/// The tables and columns that are not Cinder's.
fn is_ours(line: &str) -> bool {
    const TABLES: &[&str] = &[
        "installation",
        "jobs",
        "job_locks",
        "exports",
        "export_uses",
        "persistent_reservations",
        "pools",
        "events",
        "block_device_mapping",
        "cinderblock_schema",
    ];
    const REST: &[&str] = &[
        "workers.lock_name",
        "workers.lock_mode",
        "workers.job_id",
        "workers.job_epoch",
        "workers_lock_name_idx",
        "volume_attachment_instance_idx",
        "backups_volume_idx",
    ];
    let table = |name: &str| {
        line.starts_with(&format!("{name}."))
            || line.starts_with(&format!("{name} "))
            || line.contains(&format!(" ON {name} "))
    };
    TABLES.iter().copied().any(table) || REST.iter().any(|name| line.contains(name))
}

async fn a_new_database_is_made_once(lab: Lab) {
    migrate(&lab.db).await.unwrap();
    assert_eq!(version(&lab.db).await.unwrap(), Some(VERSION));
    let installation = db::installation::id(&mut lab.db.read()).await.unwrap();
    let first = (common(&lab).await, lab.number("SELECT COUNT(*) AS n FROM volume_types").await);
    migrate(&lab.db).await.unwrap();
    assert_eq!((common(&lab).await, lab.number("SELECT COUNT(*) AS n FROM volume_types").await), first);
    assert_eq!(db::installation::id(&mut lab.db.read()).await.unwrap(), installation);
    let limits = db::quota::class_limits(&mut lab.db.read(), "default").await.unwrap();
    assert_eq!(
        limits,
        model::quota::DEFAULTS.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect()
    );
    let kind =
        db::volume_type::by_name(&mut lab.db.read(), "__DEFAULT__").await.unwrap().expect("the default type");
    assert!(kind.is_public);
    let sentinel =
        "SELECT COUNT(*) AS n FROM workers WHERE resource_type = 'SENTINEL' AND resource_id = 'SUB-SECOND'";
    assert_eq!(lab.number(sentinel).await, 1);
    let group = "SELECT COUNT(*) AS n FROM group_types t JOIN group_type_specs s ON s.group_type_id = t.id \
                 WHERE t.name = 'default_cgsnapshot_type' AND s.value = '<is> True'";
    assert_eq!(lab.number(group).await, 1);
}

async fn processes_that_start_together_make_one_schema(lab: Lab) {
    let mut starting = Vec::new();
    for _ in 0..4 {
        let db = lab.beside().await;
        starting.push(tokio::spawn(async move { migrate(&db).await }));
    }
    for started in starting {
        started.await.unwrap().unwrap();
    }
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM volume_types").await, 1);
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM quota_classes").await, 7);
    assert_eq!(lab.number("SELECT COUNT(*) AS n FROM installation").await, 1);
}

async fn another_cinder_release_is_refused(lab: Lab) {
    migrate(&lab.db).await.unwrap();
    lab.exec("DROP TABLE cinderblock_schema").await;
    lab.exec("UPDATE alembic_version SET version_num = 'b7b88f50aab5'").await;
    let error = migrate(&lab.db).await.unwrap_err().to_string();
    assert!(error.contains("b7b88f50aab5") && error.contains(CINDER_REVISION), "{error}");
    assert!(error.contains("cinder-manage db sync"), "{error}");
    assert_eq!(version(&lab.db).await.unwrap(), None, "nothing was touched");
    // Before alembic there was another table of versions.
    lab.exec("DELETE FROM alembic_version").await;
    lab.exec("CREATE TABLE migrate_version (version INTEGER)").await;
    assert!(migrate(&lab.db).await.unwrap_err().to_string().contains("cinder-manage db sync"));
}

async fn a_newer_schema_is_refused(lab: Lab) {
    migrate(&lab.db).await.unwrap();
    lab.exec("INSERT INTO cinderblock_schema (version, applied_at) VALUES (999, 0)").await;
    let error = migrate(&lab.db).await.unwrap_err().to_string();
    assert!(error.contains("999") && error.contains("newer"), "{error}");
}

async fn a_column_that_a_later_version_adds_is_added(lab: Lab) {
    migrate(&lab.db).await.unwrap();
    let before = common(&lab).await;
    lab.exec("ALTER TABLE jobs DROP COLUMN started_at").await;
    lab.exec("ALTER TABLE workers DROP COLUMN job_epoch").await;
    migrate(&lab.db).await.unwrap();
    assert_eq!(differences(&common(&lab).await, &before), "");
}

#[test]
fn all_databases_get_the_same_schema() {
    run(async {
        let sqlite = common(&Lab::fresh(Kind::Sqlite).await).await;
        assert!(sqlite.contains("volumes.size int YES"), "{sqlite:?}");
        assert!(sqlite.contains("workers unique (resource_type,resource_id)"), "{sqlite:?}");
        for kind in [Kind::Postgres, Kind::MariaDb].into_iter().filter(|kind| kind.is_here()) {
            let mut other = common(&Lab::fresh(kind).await).await;
            // MySQL makes an index for every foreign key that has none.
            // SQLite has one kind of integer for keys that count up.
            let widened = |table: &str| (format!("{table}.id bigint NO"), format!("{table}.id int NO"));
            for (wide, narrow) in [widened("events"), widened("block_device_mapping")] {
                assert!(other.remove(&wide), "{wide}");
                other.insert(narrow);
            }
            other.retain(|line| kind != Kind::MariaDb || sqlite.contains(line) || !line.contains(" index ("));
            assert_eq!(differences(&sqlite, &other), "", "{kind:?}");
        }
    });
}

/// A dump of a database that Cinder 29 made and used.
fn dump(kind: Kind) -> Vec<u8> {
    let packed: &[u8] = match kind {
        Kind::Sqlite => include_bytes!("../data/sqlite.sql.gz"),
        Kind::Postgres => include_bytes!("../data/postgresql.sql.gz"),
        Kind::MariaDb => include_bytes!("../data/mariadb.sql.gz"),
    };
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut text).expect("unpacks");
    text
}

/// A database that Cinder made, its services gone for as long as the dump is old.
async fn cinders(kind: Kind) -> Lab {
    let lab = Lab::blank(kind).await;
    lab.load(&dump(kind)).await;
    lab
}

/// Every row of Cinder's tables, by table: a count and the sum of a hash of each row's text.
async fn contents(lab: &Lab) -> BTreeMap<String, String> {
    let tables = match lab.kind {
        Kind::Sqlite => {
            "SELECT name AS t FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        }
        Kind::Postgres => "SELECT CAST(tablename AS TEXT) AS t FROM pg_tables WHERE schemaname = 'public'",
        _ => "SELECT table_name AS t FROM information_schema.tables WHERE table_schema = DATABASE()",
    };
    let mut out = BTreeMap::new();
    for row in lab.db.read().rows(sql(tables)).await.unwrap() {
        let table: String = row.get("t").unwrap();
        let stmt = match lab.kind {
            Kind::Sqlite => rows_of(lab, &table).await,
            Kind::Postgres => format!(
                "SELECT concat(count(*), ' ', string_agg(md5(CAST(r AS TEXT)), ',' ORDER BY CAST(r AS TEXT))) AS s FROM \"{table}\" r"
            ),
            _ => format!("CHECKSUM TABLE \"{table}\""),
        };
        let row = lab.db.read().row(sql(stmt)).await.unwrap().expect("a sum");
        let sum = match lab.kind {
            Kind::Sqlite | Kind::Postgres => row.get::<String>("s").unwrap(),
            Kind::MariaDb => row.get::<i64>("Checksum").unwrap().to_string(),
        };
        out.insert(table, sum);
    }
    out
}

/// A query for all rows of a SQLite table as one text.
async fn rows_of(lab: &Lab, table: &str) -> String {
    let columns = format!("SELECT name AS n FROM pragma_table_info('{table}') ORDER BY cid");
    let columns = lab.db.read().rows(sql(columns)).await.unwrap();
    let columns: Vec<String> =
        columns.iter().map(|row| format!("quote(\"{}\")", row.get::<String>("n").unwrap())).collect();
    let line = columns.join(" || ',' || ");
    format!(
        "SELECT COALESCE(group_concat(line, char(10)), '') AS s FROM (SELECT {line} AS line FROM \"{table}\" ORDER BY 1)"
    )
}

/// The same as Cinder's migrations make it, and nothing of theirs is changed when we open it.
fn cinders_database_is_opened_in_place(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    run(async move {
        let lab = cinders(kind).await;
        let (schema, rows) = (native(&lab).await, contents(&lab).await);
        migrate(&lab.db).await.unwrap();
        let added: Lines = native(&lab).await;
        assert_eq!(
            schema.difference(&added).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "nothing of Cinder's is gone"
        );
        let foreign: Vec<&String> = added.difference(&schema).filter(|line| !is_ours(line)).collect();
        assert_eq!(foreign, Vec::<&String>::new(), "only ours is added");
        let after = contents(&lab).await;
        for (table, sum) in rows.iter().filter(|(table, _)| *table != "workers") {
            assert_eq!(after.get(table), Some(sum), "{table}");
        }
        assert_eq!(lab.number("SELECT COUNT(*) AS n FROM workers WHERE lock_name IS NOT NULL").await, 0);
        migrate(&lab.db).await.unwrap();
        assert_eq!(contents(&lab).await, after);
        reads_everything(&lab.db).await;
    });
}

/// Every row that Cinder wrote is one we understand.
async fn reads_everything(db: &Db) {
    let all = model::list::ListQuery::all(None);
    let from = &mut db.read();
    let volumes = db::volume::list(from, &all).await.unwrap().items;
    assert_eq!(volumes.len(), 23);
    assert!(volumes.iter().any(|volume| !volume.attachments.is_empty()));
    assert!(volumes.iter().any(|volume| !volume.image_metadata.is_empty()));
    assert!(!db::snapshot::list(from, &all).await.unwrap().items.is_empty());
    assert!(!db::backup::list(from, &all).await.unwrap().items.is_empty());
    assert!(!db::attachment::list(from, &all).await.unwrap().items.is_empty());
    assert!(!db::message::list(from, &all).await.unwrap().items.is_empty());
    assert!(!db::service::list(from, 60_000_000).await.unwrap().is_empty());
    assert!(
        db::volume_type::list(from, &all, None)
            .await
            .unwrap()
            .items
            .iter()
            .any(|kind| !kind.extra_specs.is_empty())
    );
    let project = volumes[0].project_id.clone().unwrap();
    db::volume_type::list(from, &all, Some(&project)).await.unwrap();
    db::attachment::list(from, &model::list::ListQuery::all(Some(project.clone()))).await.unwrap();
    db::transition::unowned(from).await.unwrap();
    db::export::orphans(from).await.unwrap();
    for project in db::quota::projects(from).await.unwrap() {
        let usages = db::quota::usages(from, &project).await.unwrap();
        for (resource, n) in db::quota::recount(from, &project, true).await.unwrap() {
            let used = usages.get(&resource).copied().unwrap_or_default();
            assert_eq!(used.in_use, n, "{resource} of {project}");
        }
    }
}

#[test]
fn cinders_database_is_opened_in_place_sqlite() {
    cinders_database_is_opened_in_place(Kind::Sqlite);
}

#[test]
fn cinders_database_is_opened_in_place_postgresql() {
    cinders_database_is_opened_in_place(Kind::Postgres);
}

#[test]
fn cinders_database_is_opened_in_place_mariadb() {
    cinders_database_is_opened_in_place(Kind::MariaDb);
}

/// What we make is what Cinder's own migrations make, to the type, the default and the name of each index.
/// On SQLite it is the same but for the spelling of types and keys, which means nothing there.
fn a_new_database_is_as_cinder_makes_it(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    run(async move {
        let theirs = native(&cinders(kind).await).await;
        let mut ours = native(&Lab::fresh(kind).await).await;
        ours.retain(|line| !is_ours(line));
        assert_eq!(differences(&ours, &theirs), "");
    });
}

#[test]
fn a_new_database_is_as_cinder_makes_it_postgresql() {
    a_new_database_is_as_cinder_makes_it(Kind::Postgres);
}

#[test]
fn a_new_database_is_as_cinder_makes_it_mariadb() {
    a_new_database_is_as_cinder_makes_it(Kind::MariaDb);
}

/// Two services of different minds on one database would lose data.
fn a_database_that_cinder_still_uses_is_refused(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    run(async move {
        let lab = cinders(kind).await;
        lab.exec("UPDATE services SET updated_at = {utc} WHERE \"binary\" = 'cinder-scheduler'").await;
        let before = native(&lab).await;
        let error = migrate_quiet(&lab.db, std::time::Duration::from_secs(60)).await.unwrap_err().to_string();
        assert!(error.contains("cinder-scheduler") && error.contains("stop Cinder's services"), "{error}");
        assert_eq!(differences(&native(&lab).await, &before), "", "nothing was touched");
        // Once it is quiet it is opened; from then on services that report are ours.
        lab.exec("UPDATE services SET updated_at = created_at").await;
        migrate(&lab.db).await.unwrap();
        lab.exec("UPDATE services SET updated_at = {utc}").await;
        migrate(&lab.db).await.unwrap();
    });
}

#[test]
fn a_database_that_cinder_still_uses_is_refused_sqlite() {
    a_database_that_cinder_still_uses_is_refused(Kind::Sqlite);
}

#[test]
fn a_database_that_cinder_still_uses_is_refused_postgresql() {
    a_database_that_cinder_still_uses_is_refused(Kind::Postgres);
}

#[test]
fn a_database_that_cinder_still_uses_is_refused_mariadb() {
    a_database_that_cinder_still_uses_is_refused(Kind::MariaDb);
}

/// A project that Cinder never counted something for is counted when its database is opened, once.
fn what_was_never_counted_is_counted(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    run(async move {
        let lab = cinders(kind).await;
        lab.exec("DELETE FROM reservations").await;
        let gone = lab
            .exec("DELETE FROM quota_usages WHERE resource = 'gigabytes___DEFAULT__' AND reserved = 0")
            .await;
        assert!(gone > 0);
        migrate(&lab.db).await.unwrap();
        reads_everything(&lab.db).await;
        lab.exec("UPDATE quota_usages SET in_use = 77 WHERE resource = 'gigabytes___DEFAULT__'").await;
        migrate(&lab.db).await.unwrap();
        assert!(
            lab.number("SELECT COUNT(*) AS n FROM quota_usages WHERE in_use = 77").await > 0,
            "only once"
        );
    });
}

#[test]
fn what_was_never_counted_is_counted_sqlite() {
    what_was_never_counted_is_counted(Kind::Sqlite);
}

#[test]
fn what_was_never_counted_is_counted_postgresql() {
    what_was_never_counted_is_counted(Kind::Postgres);
}

#[test]
fn what_was_never_counted_is_counted_mariadb() {
    what_was_never_counted_is_counted(Kind::MariaDb);
}
