//! Lists: filters, order, markers, pages and counts, against a model of them in memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use db::Error;
use model::list::{Compare, Direction, Filter, ListQuery};
use model::{Time, TypeId, VolumeId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::{Value, json};

use crate::support::{Dice, Lab, make};

on_each_database!(
    lists_are_as_the_model_says,
    pages_by_marker_give_every_row_once,
    a_limit_of_nothing_still_counts,
    names_match_exactly_or_as_a_part,
    hosts_match_by_their_level,
    what_cannot_be_listed_by_is_refused,
    values_of_the_wrong_kind_match_nothing,
);

/// A volume as the model has it.
#[derive(Debug, Clone)]
struct Row {
    id: String,
    project: &'static str,
    name: Option<&'static str>,
    status: &'static str,
    size: i64,
    bootable: Option<bool>,
    host: Option<&'static str>,
    created: Time,
    updated: Option<Time>,
    metadata: BTreeMap<&'static str, &'static str>,
    deleted: bool,
}

/// Texts on which wildcards, escapes, case and order could go wrong.
const NAMES: &[&str] = &[
    "", "a", "A", "aa", "a%b", "a_b", "axb", "a!b", "a\\b", "'", "größe", "数据", "🦀", "Z", "z", "10", "9",
];
const STATUSES: &[&str] = &["available", "in-use", "error"];
const HOSTS: &[&str] = &["n", "n@b", "n@b#p", "n@b#q", "n@bb#p", "N@b#p", "n_x@b#p", "nyx@b#p", "nn@b#p"];

fn day(n: usize) -> Time {
    format!("2026-05-{:02}T00:00:00Z", n + 1).parse().expect("a time")
}

fn some<T: Copy>(dice: &mut Dice, from: &[T]) -> Option<T> {
    (dice.roll(4) > 0).then(|| dice.pick(from))
}

fn rows(dice: &mut Dice) -> Vec<Row> {
    (0..60)
        .map(|_| Row {
            id: VolumeId::new().to_string(),
            project: dice.pick(&["p", "p", "q"]),
            name: some(dice, NAMES),
            status: dice.pick(STATUSES),
            size: dice.roll(12) as i64,
            bootable: some(dice, &[true, false]),
            host: some(dice, HOSTS),
            created: day(dice.roll(4)),
            updated: some(dice, &[day(0), day(1), day(2)]),
            metadata: [("k", dice.pick(&["v", "V", "w"])), ("K", dice.pick(&["v", "w"]))]
                .into_iter()
                .filter(|_| dice.roll(2) == 0)
                .collect(),
            deleted: dice.roll(10) == 0,
        })
        .collect()
}

async fn store(lab: &Lab, rows: &[Row], kind: TypeId) {
    let mut tx = lab.db.begin().await.unwrap();
    for row in rows {
        let stmt = db::sql::sql(
            "INSERT INTO volumes (id, volume_type_id, project_id, display_name, status, size, bootable, host, created_at, \
             updated_at, deleted, use_quota) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, TRUE)",
        );
        let stmt =
            stmt.bind(&row.id).bind(kind).bind(row.project).bind(row.name).bind(row.status).bind(row.size);
        let stmt =
            stmt.bind(row.bootable).bind(row.host).bind(row.created).bind(row.updated).bind(row.deleted);
        tx.exec(stmt).await.unwrap();
        for (key, value) in &row.metadata {
            let id = row.id.parse().unwrap();
            db::volume::put_metadata(&mut tx, db::volume::Metadata::User, id, key, value).await.unwrap();
        }
    }
    tx.commit().await.unwrap();
}

/// A value of a column, unset below all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Unset,
    Bool(bool),
    Int(i64),
    Time(Time),
    Text(String),
}

impl Row {
    fn cell(&self, column: &str) -> Cell {
        let text = |text: Option<&str>| text.map_or(Cell::Unset, |text| Cell::Text(text.into()));
        match column {
            "id" => text(Some(&self.id)),
            "display_name" => text(self.name),
            "status" => text(Some(self.status)),
            "host" => text(self.host),
            "size" => Cell::Int(self.size),
            "bootable" => self.bootable.map_or(Cell::Unset, Cell::Bool),
            "created_at" => Cell::Time(self.created),
            "updated_at" => self.updated.map_or(Cell::Unset, Cell::Time),
            other => panic!("no column {other}"),
        }
    }

    fn matches(&self, filter: &Filter) -> bool {
        if filter.field == "metadata" {
            let wanted = filter.value.as_object().expect("an object");
            return wanted
                .iter()
                .all(|(key, value)| self.metadata.get(key.as_str()).copied() == value.as_str());
        }
        let cell = self.cell(&filter.field);
        match (&filter.value, filter.compare) {
            (Value::Null, Compare::NotEqual) => cell != Cell::Unset,
            (Value::Null, _) => cell == Cell::Unset,
            (Value::Array(any), Compare::Equal) => any.iter().any(|value| cell == as_cell(value, &cell)),
            (value, compare) => {
                let wanted = as_cell(value, &cell);
                match compare {
                    _ if cell == Cell::Unset => false,
                    Compare::Equal if filter.field == "host" => host_matches(&cell, &wanted),
                    Compare::Equal => cell == wanted,
                    Compare::NotEqual => cell != wanted,
                    Compare::Greater => cell > wanted,
                    Compare::GreaterOrEqual => cell >= wanted,
                    Compare::Less => cell < wanted,
                    Compare::LessOrEqual => cell <= wanted,
                    Compare::Like => {
                        let text = match &cell {
                            Cell::Text(text) => text.to_ascii_lowercase(),
                            Cell::Int(n) => n.to_string(),
                            other => panic!("{other:?}"),
                        };
                        text.contains(&value.as_str().expect("a text").to_ascii_lowercase())
                    }
                }
            }
        }
    }
}

/// A filter's value as the kind that a cell is of.
fn as_cell(value: &Value, like: &Cell) -> Cell {
    match (value, like) {
        (Value::Number(n), _) => Cell::Int(n.as_i64().expect("an integer")),
        (Value::Bool(b), _) => Cell::Bool(*b),
        (Value::String(text), Cell::Time(_)) => Cell::Time(text.parse().expect("a time")),
        (Value::String(text), _) => Cell::Text(text.clone()),
        other => panic!("{other:?}"),
    }
}

fn host_matches(cell: &Cell, wanted: &Cell) -> bool {
    let (Cell::Text(host), Cell::Text(wanted)) = (cell, wanted) else { panic!("texts") };
    let rest = host.strip_prefix(wanted.as_str());
    let mark = rest.and_then(|rest| rest.chars().next());
    match mark {
        None => rest.is_some(),
        Some('#') => !wanted.contains('#'),
        Some('@') => !wanted.contains('#') && !wanted.contains('@'),
        Some(_) => false,
    }
}

fn order(sort: &[(String, Direction)], a: &Row, b: &Row) -> Ordering {
    let last = sort.last().map_or(Direction::Descending, |(_, direction)| *direction);
    let tie = ("id".to_owned(), last);
    let mut keys = sort.iter().chain(Some(&tie));
    keys.find_map(|(column, direction)| {
        let order = a.cell(column).cmp(&b.cell(column));
        let order = if *direction == Direction::Ascending { order } else { order.reverse() };
        (order != Ordering::Equal).then_some(order)
    })
    .unwrap_or(Ordering::Equal)
}

/// The ids of a page and the count, as they must be.
fn expected(rows: &[Row], query: &ListQuery) -> Result<(Vec<String>, u64), ()> {
    let visible =
        |row: &&Row| !row.deleted && query.project_id.as_deref().is_none_or(|project| row.project == project);
    let mut found: Vec<&Row> = rows.iter().filter(visible).collect();
    let marker = match &query.marker {
        Some(marker) => Some(*found.iter().find(|row| row.id == *marker).ok_or(())?),
        None => None,
    };
    found.retain(|row| query.filters.iter().all(|filter| row.matches(filter)));
    let count = found.len() as u64;
    found.sort_by(|a, b| order(&query.sort, a, b));
    if let Some(marker) = marker {
        found.retain(|row| order(&query.sort, row, marker) == Ordering::Greater);
    }
    let page = found.into_iter().skip(query.offset as usize).take(query.limit as usize);
    Ok((page.map(|row| row.id.clone()).collect(), count))
}

fn a_filter() -> impl Strategy<Value = Filter> {
    use Compare::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Like, NotEqual};
    let compare = prop::sample::select(vec![Equal, NotEqual, Greater, GreaterOrEqual, Less, LessOrEqual]);
    let text = |field: &'static str, values: &'static [&'static str]| {
        (prop::sample::select(values), compare.clone())
            .prop_map(move |(value, compare)| filter(field, compare, json!(value)))
    };
    let dates = (prop::sample::select(&["created_at", "updated_at"][..]), 0..5_usize, compare.clone());
    let many = prop::collection::vec(prop::sample::select(NAMES), 0..4);
    prop_oneof![
        text("display_name", NAMES),
        text("status", STATUSES),
        prop::sample::select(NAMES).prop_map(|part| filter("display_name", Like, json!(part))),
        (0..12_i64).prop_map(|n| filter("size", Like, json!(n.to_string()))),
        (0..12_i64, compare.clone()).prop_map(|(n, compare)| filter("size", compare, json!(n))),
        prop::sample::select(HOSTS).prop_map(|host| filter("host", Equal, json!(host))),
        any::<bool>().prop_map(|value| filter("bootable", Equal, json!(value))),
        dates.prop_map(|(field, n, compare)| filter(field, compare, json!(day(n).to_rfc3339()))),
        many.prop_map(|names| filter("display_name", Equal, json!(names))),
        prop::sample::select(&["display_name", "host", "updated_at", "bootable"][..]).prop_flat_map(
            |field| prop::sample::select(vec![Equal, NotEqual]).prop_map(move |c| filter(
                field,
                c,
                Value::Null
            ))
        ),
        prop::sample::select(&["v", "V", "w"][..]).prop_map(|value| filter(
            "metadata",
            Equal,
            json!({"k": value})
        )),
        Just(filter("metadata", Equal, json!({"k": "v", "K": "v"}))),
        Just(filter("metadata", Equal, json!({}))),
    ]
}

fn filter(field: &str, compare: Compare, value: Value) -> Filter {
    Filter { field: field.into(), compare, value }
}

fn a_query(ids: Vec<String>) -> impl Strategy<Value = ListQuery> {
    let column = prop::sample::select(
        &["display_name", "status", "size", "bootable", "host", "created_at", "updated_at", "id"][..],
    );
    let direction = prop::sample::select(vec![Direction::Ascending, Direction::Descending]);
    (
        prop::sample::select(vec![None, Some("p".to_owned())]),
        prop::collection::vec(a_filter(), 0..3),
        prop::collection::vec((column.prop_map(str::to_owned), direction), 0..4),
        prop::option::of(prop::sample::select(ids)),
        0..6_u32,
        0..20_u32,
    )
        .prop_map(|(project_id, filters, sort, marker, offset, limit)| ListQuery {
            project_id,
            filters,
            sort,
            marker,
            offset,
            limit,
            with_count: true,
        })
}

async fn lists_are_as_the_model_says(lab: Lab) {
    let rows = rows(&mut Dice(Dice::seed()));
    store(&lab, &rows, make::default_type(&lab.db).await).await;
    let ids = rows.iter().map(|row| row.id.clone()).collect();
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let (db, handle) = (lab.db.clone(), tokio::runtime::Handle::current());
    let mut result = Ok(());
    tokio::task::block_in_place(|| {
        result = runner.run(&a_query(ids), |query| {
            let listed = handle.block_on(async { db::volume::list(&mut db.read(), &query).await });
            let found = match listed {
                Ok(listed) => {
                    let ids: Vec<String> = listed.items.iter().map(|volume| volume.id.to_string()).collect();
                    Ok((ids, listed.count.expect("it was asked for")))
                }
                Err(Error::BadMarker(_)) => Err(()),
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            prop_assert_eq!(found, expected(&rows, &query));
            Ok(())
        });
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, query)) => panic!("{why}\n{query:#?}"),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

/// Ties everywhere: only the id tells the rows apart.
async fn pages_by_marker_give_every_row_once(lab: Lab) {
    let rows = rows(&mut Dice(Dice::seed()));
    store(&lab, &rows, make::default_type(&lab.db).await).await;
    for column in ["created_at", "updated_at", "display_name", "bootable", "size"] {
        for direction in [Direction::Ascending, Direction::Descending] {
            let sort = vec![(column.to_owned(), direction)];
            let mut query = ListQuery { sort, limit: 7, ..ListQuery::all(Some("p".into())) };
            let (all, _) = expected(&rows, &ListQuery { limit: 1000, ..query.clone() }).unwrap();
            let mut seen = Vec::new();
            loop {
                let page = db::volume::list(&mut lab.db.read(), &query).await.unwrap().items;
                let Some(last) = page.last() else { break };
                query.marker = Some(last.id.to_string());
                seen.extend(page.iter().map(|volume| volume.id.to_string()));
            }
            assert_eq!(seen, all, "{column} {direction:?}");
        }
    }
}

async fn a_limit_of_nothing_still_counts(lab: Lab) {
    for _ in 0..3 {
        make::volume(&lab.db).await;
    }
    let query = ListQuery { limit: 0, with_count: true, ..ListQuery::all(None) };
    let listed = db::volume::list(&mut lab.db.read(), &query).await.unwrap();
    assert_eq!((listed.items.len(), listed.count), (0, Some(3)));
    let listed =
        db::volume::list(&mut lab.db.read(), &ListQuery { with_count: false, ..query }).await.unwrap();
    assert_eq!(listed.count, None);
}

async fn names_of(lab: &Lab, filter: Filter) -> Vec<String> {
    let query = ListQuery { filters: vec![filter], ..ListQuery::all(None) };
    let mut names: Vec<String> = db::volume::list(&mut lab.db.read(), &query)
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|v| v.name)
        .collect();
    names.sort_unstable();
    names
}

async fn names_match_exactly_or_as_a_part(lab: Lab) {
    let kind = make::default_type(&lab.db).await;
    for name in
        ["CaseTest", "casetest", "Straße", "STRASSE", "50%", "50x", "a_b", "axb", "wow!", "back\\slash"]
    {
        make::volume_of(&lab.db, db::volume::NewVolume { name: Some(name.into()), ..make::a_volume(kind) })
            .await;
    }
    let cases: &[(Compare, &str, &[&str])] = &[
        (Compare::Equal, "casetest", &["casetest"]),
        (Compare::Equal, "straße", &[]),
        (Compare::Equal, "Straße", &["Straße"]),
        (Compare::Like, "SETES", &["CaseTest", "casetest"]),
        (Compare::Like, "traß", &["Straße"]),
        (Compare::Like, "50%", &["50%"]),
        (Compare::Like, "a_b", &["a_b"]),
        (Compare::Like, "!", &["wow!"]),
        (Compare::Like, "k\\s", &["back\\slash"]),
        (Compare::Like, "'", &[]),
    ];
    for (compare, value, expected) in cases {
        assert_eq!(
            names_of(&lab, filter("display_name", *compare, json!(value))).await,
            *expected,
            "{compare:?} {value}"
        );
    }
    assert_eq!(names_of(&lab, filter("display_name", Compare::Like, json!(50))).await, ["50%", "50x"]);
}

async fn hosts_match_by_their_level(lab: Lab) {
    for host in ["n@b#p", "n@b#q", "n@c#p", "nn@b#p", "n_@b#p", "N@b#p"] {
        make::placed_volume(&lab.db, host, 1).await;
    }
    for (wanted, count) in [("n", 3), ("n@b", 2), ("n@b#p", 1), ("n_", 1), ("n@", 0), ("", 0), ("n@b#", 0)] {
        assert_eq!(
            names_of(&lab, filter("host", Compare::Equal, json!(wanted))).await.len(),
            count,
            "{wanted}"
        );
    }
}

async fn what_cannot_be_listed_by_is_refused(lab: Lab) {
    let id = make::volume(&lab.db).await;
    let by = |column: &str| ListQuery {
        sort: vec![(column.into(), Direction::Ascending)],
        ..ListQuery::all(None)
    };
    for column in ["provider_auth", "id; DROP TABLE volumes", "", "DISPLAY_NAME"] {
        let refused = db::volume::list(&mut lab.db.read(), &by(column)).await;
        assert!(matches!(refused, Err(Error::BadSortKey(key)) if key == column), "{column}");
    }
    let after = |marker: &str| ListQuery { marker: Some(marker.into()), ..ListQuery::all(Some("q".into())) };
    for marker in [id.to_string().as_str(), "no-uuid", "", "'"] {
        let refused = db::volume::list(&mut lab.db.read(), &after(marker)).await;
        assert!(matches!(refused, Err(Error::BadMarker(_))), "{marker}: another project's, or nobody's");
    }
}

async fn values_of_the_wrong_kind_match_nothing(lab: Lab) {
    make::volume(&lab.db).await;
    for (field, value) in [
        ("size", json!("many")),
        ("size", json!({})),
        ("size", json!(1.5)),
        ("created_at", json!("yesterday")),
        ("display_name", json!({"a": 1})),
        ("bootable", json!([[]])),
        ("no_such_field", json!("x")),
        ("metadata", json!("x")),
        ("display_name", json!("nul\0byte")),
        ("size", json!(9_000_000_000_000_000_000_u64)),
    ] {
        for compare in [Compare::Equal, Compare::Less, Compare::Like] {
            let query = ListQuery {
                filters: vec![filter(field, compare, value.clone())],
                with_count: true,
                ..ListQuery::all(None)
            };
            let listed = db::volume::list(&mut lab.db.read(), &query).await.unwrap();
            let found = (listed.items.len(), listed.count);
            // Less than a number that is too large is everything; that is right, too.
            let all = compare == Compare::Less && value.is_u64();
            assert_eq!(found, if all { (1, Some(1)) } else { (0, Some(0)) }, "{field} {compare:?} {value}");
        }
    }
}
