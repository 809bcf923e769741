use std::collections::BTreeMap;

use model::config::Config;
use serde_json::{Map, Value, json};

use super::expression::{Datum, Variables, evaluate};
use super::*;

fn formulas() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/scheduler-formulas.json")).expect("golden JSON")
}

fn decisions() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/scheduler.json")).expect("golden JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn optional(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn variables(of: &Value) -> Variables {
    Variables {
        stats: object(&of["stats"]),
        capabilities: object(&of["capabilities"]),
        volume: object(&of["volume"]),
        extra: object(&of["extra"]),
        qos: object(&of["qos"]),
    }
}

/// Whether a value is what the golden file says, type and all.
fn is(value: &Datum, kind: &str, wanted: &Value) -> bool {
    match (value, kind) {
        (Datum::Int(int), "int") => wanted.as_f64() == Some(*int as f64),
        (Datum::Float(float), "float") => match wanted {
            Value::String(word) => float.to_string().eq_ignore_ascii_case(word),
            number => (*float - number.as_f64().expect("a number")).abs() <= float.abs() * 1e-12,
        },
        (Datum::Bool(yes), "bool") => wanted == &json!(yes),
        (Datum::Text(text), "str") => wanted == &json!(text),
        (Datum::List(items), "list") => {
            items.len() == list(wanted).len()
                && items.iter().zip(list(wanted)).all(|(item, wanted)| match wanted {
                    Value::Array(_) => is(item, "list", wanted),
                    Value::String(_) => is(item, "str", wanted),
                    Value::Bool(_) => is(item, "bool", wanted),
                    Value::Number(number) => is(item, if number.is_f64() { "float" } else { "int" }, wanted),
                    _ => false,
                })
        }
        _ => false,
    }
}

#[test]
fn expressions_come_to_what_they_come_to_for_cinder() {
    let golden = formulas();
    let of = variables(&golden["evaluator_vars"]);
    for case in list(&golden["evaluator"]) {
        let got = evaluate(case["expr"].as_str().expect("a text"), &of);
        match case.get("error") {
            Some(_) => assert!(got.is_err(), "{case}: {got:?}"),
            None => {
                let value = got.unwrap_or_else(|problem| panic!("{case}: {problem}"));
                assert!(
                    is(&value, case["type"].as_str().expect("a text"), &case["result"]),
                    "{case}: {value:?}"
                );
            }
        }
    }
    let golden = decisions();
    let of = variables(&golden["variables"]);
    assert!(list(&golden["expressions"]).len() > 400);
    for case in list(&golden["expressions"]) {
        let kind = case[1].as_str().expect("a text");
        let got = evaluate(case[0].as_str().expect("a text"), &of);
        match kind {
            // Nothing that a filter or a weight could be.
            "error" | "complex" => assert!(got.is_err(), "{case}: {got:?}"),
            _ => {
                let value = got.unwrap_or_else(|problem| panic!("{case}: {problem}"));
                assert!(is(&value, kind, &case[2]), "{case}: {value:?}");
            }
        }
    }
}

#[test]
fn extra_specs_match_as_for_cinder() {
    let golden = formulas();
    for case in list(&golden["extra_spec_match"]) {
        // A spec without a value is none: the database has no such thing.
        let Some(required) = case["required"].as_str() else { continue };
        assert_eq!(json!(matches(&case["value"], required)), case["match"], "{case}");
    }
    let golden = decisions();
    assert!(list(&golden["extra_specs"]).len() > 1000);
    for case in list(&golden["extra_specs"]) {
        let got = matches(&case[0], case[1].as_str().expect("a text"));
        // What raises an error in Cinder cannot be compared, so it does not match.
        assert_eq!(got, case[2] == json!(true), "{case}");
    }
}

/// Whether two values are the same but for rounding and for how whole numbers are spelled.
fn same(got: &Value, wanted: &Value) -> bool {
    match (got.as_f64(), wanted.as_f64()) {
        (Some(got), Some(wanted)) => (got - wanted).abs() < 1e-9,
        _ => got == wanted,
    }
}

#[test]
fn capacity_factors_are_cinders() {
    for case in list(&formulas()["capacity_factors"]) {
        let args = &case["args"];
        let number = |name: &str| args[name].as_f64().expect("a number");
        let got = factors(Figures {
            total: number("total"),
            free: number("free"),
            provisioned: number("provisioned"),
            thin_support: args["thin_support"] == json!(true),
            ratio: number("mosr"),
            reserved_percentage: number("reserved_percentage"),
            thin: args["thin"] == json!(true),
        });
        let got = serde_json::to_value(got).expect("plain data");
        for (name, wanted) in case["result"].as_object().expect("fields") {
            assert!(same(&got[name], wanted), "{name} is {} in {case}", got[name]);
        }
    }
}

#[test]
fn over_subscription_ratios_are_cinders() {
    for case in list(&formulas()["max_over_subscription"]) {
        let global = match &case["global"] {
            Value::String(text) => Ratio::read(text).expect("a ratio"),
            number => Ratio::Fixed(number.as_f64().expect("a number")),
        };
        let got = over_subscription(&object(&case["capability"]), global);
        // A ratio of 0 is "not set" to Cinder, for a number; texts are taken as they are.
        assert!(same(&json!(got), &case["result"]), "{case}: {got}");
    }
}

#[test]
fn the_capacity_filter_passes_what_it_passes_for_cinder() {
    let golden = formulas();
    for case in list(&golden["capacity_filter"]) {
        let mut capabilities = object(&golden["capacity_filter_pool_defaults"]);
        capabilities.extend(object(&case["pool"]));
        let wanted = &case["request"];
        let request = Request {
            size: wanted["size"].as_u64().expect("a size"),
            new_size: wanted["new_size"].as_u64(),
            exists_on: optional(&wanted["vol_exists_on"]),
            extra_specs: specs(&wanted["volume_type"]["extra_specs"]),
            ..Request::default()
        };
        let filters = FILTERS.iter().filter(|filter| filter.name == "CapacityFilter").collect();
        let options = Options { filters, ..Options::default() };
        let decision = pick(&[PoolState::new("h@b#p", capabilities)], &request, &options);
        assert_eq!(json!(decision.chosen.is_some()), case["passes"], "{case}: {decision:?}");
    }
}

fn specs(value: &Value) -> BTreeMap<String, String> {
    object(value).into_iter().map(|(key, value)| (key, text(&value))).collect()
}

fn golden_pool(pool: &Value) -> PoolState {
    let host = text(&pool["host"]);
    let mut capabilities = object(&pool["capabilities"]);
    let (service, _) = host.split_once('#').expect("a pool");
    let (_, backend) = service.split_once('@').expect("a backend");
    capabilities.insert("volume_backend_name".into(), backend.into());
    capabilities.insert("vendor_name".into(), "V".into());
    capabilities.insert("driver_version".into(), "1.0".into());
    capabilities.insert("storage_protocol".into(), pool["protocol"].clone());
    PoolState {
        cluster_name: optional(&pool["cluster"]),
        availability_zone: optional(&pool["zone"]),
        volumes: pool["volumes"].as_u64().expect("a count"),
        ..PoolState::new(host, capabilities)
    }
}

fn golden_request(case: &Value) -> Request {
    let of = &case["request"];
    let places = object(&case["places"])
        .into_iter()
        .map(|(id, place)| (id, Place { host: text(&place[0]), cluster_name: optional(&place[1]) }));
    let size = of["size"].as_u64().expect("a size");
    Request {
        operation: match of["operation"].as_str() {
            Some("extend_volume") => Operation::ExtendVolume,
            _ => Operation::CreateVolume,
        },
        size,
        new_size: of["new_size"].as_u64(),
        availability_zones: list(&of["availability_zones"]).iter().map(text).collect(),
        availability_zone: optional(&of["availability_zone"]),
        attached: of["attach_status"] == json!("attached"),
        extra_specs: specs(&of["extra_specs"]),
        volume: object(&json!({"size": size, "attach_status": of["attach_status"]})),
        attempted: list(&of["retry"]).iter().map(text).collect(),
        hints: object(&of["hints"]),
        places: places.collect(),
        exists_on: optional(&of["vol_exists_on"]),
        bound_to: optional(&of["resource_backend"]),
        ..Request::default()
    }
}

fn golden_options(case: &Value) -> Options {
    let list_of = |name: &str| list(&case[name]).iter().map(text).collect::<Vec<_>>().join(",");
    let mut conf = format!(
        "[DEFAULT]\nscheduler_default_filters = {}\nscheduler_default_weighers = {}\nmax_over_subscription_ratio = {}\n",
        list_of("filters"),
        list_of("weighers"),
        text(&case["max_over_subscription_ratio"])
    );
    for (name, value) in object(&case["multipliers"]) {
        conf.push_str(&format!("{name} = {value}\n"));
    }
    Options::from_config(&Config::parse(&[("c", conf)], []).expect("a good file")).expect("good options")
}

#[test]
fn whole_decisions_are_cinders() {
    let golden = decisions();
    let cases = list(&golden["picks"]);
    assert!(cases.len() >= 240);
    for case in cases {
        let pools: Vec<PoolState> = list(&case["pools"]).iter().map(golden_pool).collect();
        let id = |host: &str| {
            let pool = pools.iter().find(|pool| pool.host == host);
            pool.expect("a pool of the case").id().to_owned()
        };
        let decision = pick(&pools, &golden_request(case), &golden_options(case));
        let refused: BTreeMap<String, &str> = decision
            .verdicts
            .iter()
            .filter_map(|verdict| match &verdict.outcome {
                Outcome::Refused { filter, .. } => Some((verdict.pool.clone(), filter.as_str())),
                _ => None,
            })
            .collect();
        let wanted = object(&case["refused"]);
        // A filter that raises an error in Cinder fails the request; here it refuses the pool.
        let wanted: BTreeMap<String, &str> = wanted
            .iter()
            .map(|(host, filter)| (id(host), filter.as_str().expect("a text").trim_end_matches('!')))
            .collect();
        assert_eq!(refused, wanted, "{case}");
        // Cinder cannot weigh pools that are all of unknown capacity by a negative multiplier.
        let Some(order) = case["order"].as_array() else { continue };
        assert_eq!(decision.chosen, optional(&case["chosen"]).map(|host| id(&host)), "{case}");
        let mut totals: Vec<(String, f64)> = decision
            .verdicts
            .iter()
            .filter_map(|verdict| match &verdict.outcome {
                Outcome::Weighed { total, .. } | Outcome::SetAside { total, .. } => {
                    Some((verdict.pool.clone(), *total))
                }
                Outcome::Refused { .. } => None,
            })
            .collect();
        totals.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_eq!(totals.len(), order.len(), "{case}");
        for (name, total) in &totals {
            let wanted = order.iter().find(|entry| id(entry[0].as_str().expect("a text")) == *name);
            let wanted = wanted.expect("weighed by Cinder")[1].as_f64().expect("a number");
            assert!((total - wanted).abs() < 1e-9, "{name} weighs {total}, not {wanted}: {case}");
        }
        if case["request"]["resource_backend"].is_null() {
            let order: Vec<String> =
                order.iter().map(|entry| id(entry[0].as_str().expect("a text"))).collect();
            assert_eq!(decision.ranked().collect::<Vec<_>>(), order, "{case}");
        }
    }
}

fn pool(name: &str, total: u64, free: u64, volumes: u64) -> PoolState {
    let capabilities = json!({
        "total_capacity_gb": total, "free_capacity_gb": free, "provisioned_capacity_gb": total - free,
        "volume_backend_name": "b", "storage_protocol": "iSCSI",
    });
    PoolState { volumes, ..PoolState::new(format!("h@b#{name}"), object(&capabilities)) }
}

fn volume(size: u64) -> Request {
    Request { size, attempt: 1, resource_id: "v".into(), ..Request::default() }
}

#[test]
fn a_decision_tells_all_its_reasons_and_survives_storage() {
    let mut down = pool("down", 100, 100, 0);
    down.service.up = false;
    let pools = [pool("a", 100, 50, 1), pool("b", 100, 80, 1), pool("small", 10, 5, 0), down];
    let decision = pick(&pools, &volume(20), &Options::default());
    assert_eq!(decision.chosen.as_deref(), Some("h@b#b"));
    assert_eq!(decision.ranked().collect::<Vec<_>>(), ["h@b#b", "h@b#a"]);
    let stored = serde_json::to_string(&decision).expect("plain data");
    assert_eq!(serde_json::from_str::<Decision>(&stored).expect("as stored"), decision);
    let shown: Value = serde_json::from_str(&stored).expect("JSON");
    assert_eq!(
        shown["verdicts"][0],
        json!({"pool": "h@b#b", "outcome": "weighed", "rank": 1, "total": 1.0, "weights": [
            {"weigher": "CapacityWeigher", "raw": 80.0, "normalised": 1.0, "multiplier": 1.0}]})
    );
    assert_eq!(
        shown["verdicts"][2],
        json!({"pool": "h@b#small", "outcome": "refused", "filter": "CapacityFilter",
               "reason": "it has room for 5 GiB, of 20 needed"})
    );
    assert_eq!(shown["verdicts"][3]["reason"], "its service is down");
    let none = pick(&pools, &volume(90), &Options::default());
    assert_eq!(none.reason.as_deref(), Some("no pool of 4 will do: CapacityFilter 3, service 1"));
    assert_eq!(pick(&[], &volume(1), &Options::default()).reason.as_deref(), Some("there is no pool"));
}

#[test]
fn the_simple_mode_takes_the_pool_with_the_fewest_volumes() {
    let pools = [pool("a", 100, 90, 3), pool("b", 100, 20, 1), pool("c", 100, 10, 1), pool("full", 10, 0, 0)];
    let options = Options { order: Order::FewestVolumes, ..Options::default() };
    let decision = pick(&pools, &volume(5), &options);
    assert_eq!(decision.ranked().collect::<Vec<_>>(), ["h@b#b", "h@b#c", "h@b#a"]);
}

#[test]
fn what_is_promised_counts_at_once() {
    let mut state = pool("a", 100, 50, 0);
    assert!(pick(std::slice::from_ref(&state), &volume(30), &Options::default()).chosen.is_some());
    state.allocated_now(30.0);
    assert_eq!((state.allocated_gb, state.provisioned_gb, state.free), (30.0, 80.0, Some(Space::Gb(20.0))));
    assert!(pick(std::slice::from_ref(&state), &volume(30), &Options::default()).chosen.is_none());
    state.allocated_now(30.0);
    assert_eq!(state.free, Some(Space::Gb(20.0)), "the same count consumes nothing more");
}

#[test]
fn a_bound_volume_stays_on_its_backend() {
    let mut other = pool("b", 100, 90, 0);
    other.host = "h2@b#b".into();
    let pools = [pool("a", 100, 50, 0), other];
    let to = |backend: &str| Request { bound_to: Some(backend.into()), ..volume(10) };
    let chosen = |request: &Request| pick(&pools, request, &Options::default()).chosen;
    assert_eq!(chosen(&to("h@b")).as_deref(), Some("h@b#a"));
    assert_eq!(chosen(&to("h@b#a")).as_deref(), Some("h@b#a"));
    assert_eq!(chosen(&to("h@b#b")), None);
    let decision = pick(&pools, &to("h@b#b"), &Options::default());
    assert_eq!(decision.reason.as_deref(), Some("no pool of 2 will do: elsewhere 2"));
}

#[test]
fn a_retype_stays_where_it_is_if_it_can() {
    let mut fast = pool("fast", 100, 90, 0);
    fast.capabilities.insert("media".into(), "ssd".into());
    let pools = [pool("a", 100, 0, 0), fast];
    let mut request = volume(10);
    let options = Options::default();
    let retype =
        |request: &Request, migration| pick_for_retype(&pools, request, &options, "h@b#a", migration);
    let stays = retype(&request, Migration::OnDemand);
    assert_eq!(stays.chosen.as_deref(), Some("h@b#a"), "it needs no room where it is: {stays:?}");
    request.extra_specs.insert("media".into(), "ssd".into());
    assert_eq!(retype(&request, Migration::Never).chosen, None);
    assert_eq!(retype(&request, Migration::OnDemand).chosen.as_deref(), Some("h@b#fast"));
}

#[test]
fn attempts_run_out() {
    let pools = [pool("a", 100, 50, 0)];
    let mut request = volume(10);
    request.attempt = 4;
    let decision = pick(&pools, &request, &Options::default());
    assert_eq!(decision.chosen, None);
    assert_eq!(decision.reason.as_deref(), Some("Exceeded max scheduling attempts 3 for resource v"));
    let once = Options { max_attempts: 1, ..Options::default() };
    assert!(pick(&pools, &request, &once).chosen.is_some(), "not counted where there is no second attempt");
}

#[test]
fn chance_follows_the_seed_and_the_weights() {
    let pools = [pool("a", 100, 10, 0), pool("b", 100, 90, 0)];
    let options = Options { order: Order::Lottery, ..Options::default() };
    let mut wins = [0_u32; 2];
    for seed in 0..1000 {
        let request = Request { seed, ..volume(5) };
        let decision = pick(&pools, &request, &options);
        assert_eq!(decision, pick(&pools, &request, &options), "the same seed, the same decision");
        wins[usize::from(decision.chosen.as_deref() == Some("h@b#b"))] += 1;
    }
    // By weights of 10 and 90 GiB: one in ten, give or take five standard deviations.
    assert!((50..=150).contains(&wins[0]), "{wins:?}");
}

#[test]
fn a_volume_can_follow_a_server() {
    let pools = [pool("a", 100, 50, 0)];
    let filters = FILTERS.iter().filter(|filter| filter.name == "InstanceLocalityFilter").collect();
    let options = Options { filters, ..Options::default() };
    let mut request = volume(10);
    request.hints.insert("local_to_instance".into(), "s1".into());
    assert!(pick(&pools, &request, &options).chosen.is_none(), "the server is not known");
    request.instance_hosts.insert("s1".into(), "h".into());
    assert!(pick(&pools, &request, &options).chosen.is_some());
    request.instance_hosts.insert("s1".into(), "h2".into());
    assert!(pick(&pools, &request, &options).chosen.is_none());
}

#[test]
fn options_that_do_not_exist_are_refused() {
    let options = |text: &str| {
        let config = Config::parse(&[("c", format!("[DEFAULT]\n{text}\n"))], []).expect("a good file");
        Options::from_config(&config).map_err(|error| error.to_string())
    };
    assert_eq!(options("").expect("the defaults").order, Order::Weighed);
    assert_eq!(options("scheduler_driver = simple").expect("simple").order, Order::FewestVolumes);
    let lottery =
        "scheduler_weight_handler = cinder.scheduler.weights.stochastic.StochasticHostWeightHandler";
    assert_eq!(options(lottery).expect("a lottery").order, Order::Lottery);
    for (text, complaint) in [
        ("scheduler_default_filters = CapacityFilter, Nope", "there is no filter Nope"),
        ("scheduler_default_weighers = Nope", "there is no weigher Nope"),
        ("scheduler_driver = cinder.scheduler.Other", "there is no scheduler Other"),
        ("scheduler_weight_handler = Other", "there is no weight handler Other"),
        ("max_over_subscription_ratio = much", "must be a number or auto"),
        ("scheduler_max_attempts = 0", "0 is not between 1 and 1000"),
        ("capacity_weight_multiplier = inf", "is not between"),
    ] {
        let error = options(text).expect_err(text);
        assert!(error.starts_with("c:2: [DEFAULT] ") && error.contains(complaint), "{error}");
    }
}

#[test]
fn pools_are_found_by_capability() {
    let capabilities =
        object(&json!({"multiattach": true, "name": "x", "size": 100, "tags": ["a", 1], "none": null}));
    for (name, wanted, found) in [
        ("multiattach", "yes", true),
        ("multiattach", "no", false),
        ("name", "x", true),
        ("size", "100", true),
        ("tags", "['a', 1]", true),
        ("none", "None", false),
        ("missing", "x", false),
    ] {
        assert_eq!(has_capability(&capabilities, name, wanted), found, "{name}={wanted}");
    }
}

#[test]
fn a_backup_goes_to_a_service_that_can_make_it() {
    let service = |host: &str, zone: &str| BackupService {
        host: host.into(),
        availability_zone: Some(zone.into()),
        up: true,
        disabled: false,
        working: true,
    };
    let mut services = vec![
        service("a", "z1"),
        service("b", "z1"),
        service("c", "z2"),
        service("d", "z1"),
        service("e", "z1"),
    ];
    services[3].up = false;
    services[4].working = false;
    let request = BackupRequest {
        volume_host: Some("b@lvm#p".into()),
        volume_zone: Some("z1".into()),
        ..BackupRequest::default()
    };
    let mut chosen: Vec<String> = (0..50)
        .filter_map(|seed| pick_backup_host(&services, &BackupRequest { seed, ..request.clone() }).chosen)
        .collect();
    chosen.sort();
    chosen.dedup();
    assert_eq!(chosen, ["a", "b"]);
    let same = BackupRequest { same_host: true, ..request.clone() };
    assert_eq!(pick_backup_host(&services, &same).chosen.as_deref(), Some("b"));
    let asked = BackupRequest { availability_zone: Some("z2".into()), ..request.clone() };
    assert_eq!(pick_backup_host(&services, &asked).chosen.as_deref(), Some("c"));
    let nowhere = BackupRequest { availability_zone: Some("z3".into()), ..request };
    let decision = pick_backup_host(&services, &nowhere);
    assert_eq!(decision.reason.as_deref(), Some("no backup service of 5 will do: service 2, zone 3"));
}

#[test]
fn expressions_are_bounded() {
    let nothing = Variables::default();
    for (text, complaint) in [
        ("(".repeat(1000), "nests deeper"),
        ("not(".repeat(22), "too intricate"),
        ("- ".repeat(1000), "nests deeper"),
        ("2^999999".to_owned(), "too large"),
        ("'a' * 999999999".to_owned(), "too long"),
        ("1+".repeat(10_000), "longer than"),
    ] {
        let error = evaluate(&text, &nothing).expect_err("out of bounds");
        assert!(error.contains(complaint), "{}: {error}", &text[..20.min(text.len())]);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn no_expression_panics(text in "(stats\\.a|volume\\.b|'[a\"\\\\x0]{0,4}'|[0-9]{1,40}|\\.|[-+*/^(),?:<>=!&| a]|and|or|not|max|abs){0,24}|\\PC{0,24}") {
        let of = variables(&json!({"stats": {"a": 1.5e300}, "volume": {"b": null}}));
        let _ = evaluate(&text, &of).is_ok();
    }

    #[test]
    fn the_choice_passes_and_is_ranked_first(
        frees in proptest::collection::vec((1_u64..200, 0_u64..10), 0..8),
        size in 1_u64..150,
        seed in proptest::num::u64::ANY,
        order in proptest::sample::select(vec![Order::Weighed, Order::Lottery, Order::FewestVolumes]),
    ) {
        let pools: Vec<PoolState> = frees
            .iter()
            .enumerate()
            .map(|(at, (free, volumes))| pool(&format!("p{at}"), 200, *free, *volumes))
            .collect();
        let options = Options { order, ..Options::default() };
        let decision = pick(&pools, &Request { seed, ..volume(size) }, &options);
        let fits = frees.iter().filter(|(free, _)| *free >= size).count();
        proptest::prop_assert_eq!(decision.ranked().count(), fits);
        proptest::prop_assert_eq!(decision.verdicts.len(), pools.len());
        proptest::prop_assert_eq!(decision.chosen.as_deref(), decision.ranked().next());
        proptest::prop_assert_eq!(decision.chosen.is_none(), decision.reason.is_some());
    }
}
