use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn read(text: &str) -> Config {
    Config::parse(&[("cinder.conf", text)], []).expect("a good file")
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../../tests/golden/config.json")).expect("the golden file is JSON")
}

#[test]
fn files_read_as_oslo_config_reads_them() {
    let golden = golden();
    let files = golden["files"].as_array().expect("a list");
    assert!(files.len() > 200);
    for case in files {
        let text = case[0].as_str().expect("a text");
        let got = ini::read(text).ok().map(|items| {
            let assignments = items.into_iter().filter_map(|item| match item {
                ini::Item::Assignment { section, option, text, .. } => {
                    Some(serde_json::json!([section, option, text]))
                }
                ini::Item::Section { .. } => None,
            });
            Value::Array(assignments.collect())
        });
        assert_eq!(got.unwrap_or(Value::Null), case[1], "{text:?}");
    }
}

#[test]
fn values_mean_what_they_mean_to_oslo_config() {
    fn json<T: FromOption + serde::Serialize>(section: &Section<'_>) -> Result<Value, ConfigError> {
        Ok(serde_json::json!(section.get::<T>("o")?))
    }
    let golden = golden();
    let values = golden["values"].as_array().expect("a list");
    assert!(values.len() > 90);
    for case in values {
        let (kind, text) = (case[0].as_str().expect("a kind"), case[1].as_str().expect("a text"));
        let config = read(text);
        let section = config.default_section();
        let got = match kind {
            "bool" => json::<bool>(&section),
            "int" => json::<i64>(&section),
            "port" => json::<u16>(&section),
            "float" => json::<f64>(&section),
            "list" => json::<Vec<String>>(&section),
            "dict" => json::<BTreeMap<String, String>>(&section),
            "str" => json::<String>(&section),
            "multi" => section.multi::<String>("o").map(|all| match all.as_slice() {
                [] => Value::Null,
                all => serde_json::json!(all),
            }),
            other => panic!("unknown kind {other}"),
        };
        match case[2].get("ok") {
            Some(wanted) => assert_eq!(&got.expect("oslo.config takes it"), wanted, "{kind} {text:?}"),
            None => assert!(got.is_err(), "{kind} {text:?} gave {got:?}"),
        }
    }
}

#[test]
fn later_files_win_and_multi_valued_options_add_up() {
    let files = [
        (
            "one.conf",
            "[DEFAULT]\ndebug = true\nhost = a\nosapi_volume_extension = x\nosapi_volume_extension = y\n",
        ),
        ("two.conf", "[DEFAULT]\nhost = b\nhost = c\nosapi_volume_extension = z\n"),
    ];
    let config = Config::parse(&files, []).expect("good files");
    let section = config.default_section();
    assert_eq!(section.get::<String>("host").expect("text").as_deref(), Some("c"));
    assert_eq!(section.get::<bool>("debug").expect("a bool"), Some(true));
    assert_eq!(section.multi::<String>("osapi_volume_extension").expect("texts"), ["x", "y", "z"]);
    assert_eq!(section.origin("host"), Some(Origin::File { name: "two.conf".into(), line: 3 }));
}

#[test]
fn a_directory_is_read_in_order_of_names() {
    let names = ["b.conf", "a.conf", ".hidden.conf", "a.conf.bak", "README"].map(str::to_owned);
    assert_eq!(directory_order(names), ["a.conf", "b.conf"]);
}

#[test]
fn the_environment_wins_over_files() {
    let text =
        "[DEFAULT]\nenabled_backends = lvm1\n[lvm1]\ntarget_port = 1\n[database]\nconnection = sqlite:///x\n";
    let environment = [
        ("OS_LVM1__TARGET_PORT", "2"),
        ("OS_DATABASE__CONNECTION", "sqlite:///y"),
        ("OS_BACKEND_DEFAULTS__VOLUME_CLEAR", "none"),
        ("OS_AUTH_URL", "http://not-ours"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse(&[("f", text)], environment).expect("a good file");
    let backends = config.backends().expect("good backends");
    assert_eq!(backends[0].require::<u16>("target_port").expect("a port"), 2);
    assert_eq!(backends[0].require::<String>("volume_clear").expect("text"), "none");
    assert_eq!(config.section("database").require::<String>("connection").expect("text"), "sqlite:///y");
}

#[test]
fn a_backend_falls_back_to_backend_defaults_then_to_the_default() {
    let text = "[DEFAULT]\nenabled_backends = One, two\nmy_ip = 10.0.0.1\ntarget_prefix = iqn.not-read:\n\
                [one]\nvolume_driver = file\nvolume_group = vg1\n\
                [two]\nvolume_driver = lvm\n\
                [backend_defaults]\nvolume_group = vg\ntarget_helper = lioadm\n";
    let config = read(text);
    let backends = config.backends().expect("good backends");
    let names: Vec<&str> = backends.iter().map(Section::name).collect();
    assert_eq!(names, ["One", "two"]);
    let text = |at: usize, option: &str| backends[at].require::<String>(option).expect("text");
    assert_eq!((text(0, "volume_group"), text(1, "volume_group")), ("vg1".into(), "vg".into()));
    assert_eq!(text(0, "target_helper"), "lioadm");
    assert_eq!(text(0, "target_prefix"), "iqn.2010-10.org.openstack:");
    assert_eq!(text(0, "target_ip_address"), "10.0.0.1", "$my_ip is looked up in [DEFAULT]");
    assert_eq!(backends[1].require::<u16>("target_port").expect("a port"), 3260);
    assert_eq!(backends[0].raw()["volume_group"], "vg1");
    assert_eq!(backends[0].raw()["target_helper"], "lioadm");
}

#[test]
fn backends_must_make_sense() {
    for (text, complaint) in [
        ("enabled_backends = a, a\n[a]\n", "f:2: [DEFAULT] enabled_backends: backend a is listed twice"),
        ("enabled_backends = a\n", "f:2: [DEFAULT] enabled_backends: backend a has no section [a]"),
        (
            "enabled_backends = nova\n[nova]\n",
            "f:2: [DEFAULT] enabled_backends: a backend cannot be called nova: that section has another meaning",
        ),
    ] {
        let config = Config::parse(&[("f", format!("[DEFAULT]\n{text}"))], []).expect("a good file");
        assert_eq!(config.backends().expect_err("refused").to_string(), complaint);
    }
    assert!(read("").backends().expect("none").is_empty());
}

#[test]
fn old_names_hold_and_are_told() {
    let text = "[DEFAULT]\nenabled_backends = lvm1\nlock_path = /run/locks\n[lvm1]\niscsi_helper = lioadm\n\
                iscsi_ip_address = 10.0.0.9\niscsi_port = 3261\niscsi_target_prefix = iqn.x:\n";
    let config = read(text);
    let backends = config.backends().expect("good backends");
    let text = |option: &str| backends[0].require::<String>(option).expect("text");
    assert_eq!(text("target_helper"), "lioadm");
    assert_eq!(text("target_ip_address"), "10.0.0.9");
    assert_eq!(text("target_port"), "3261");
    assert_eq!(text("target_prefix"), "iqn.x:");
    let locks = config.section("oslo_concurrency");
    assert_eq!(locks.require::<String>("lock_path").expect("text"), "/run/locks");
    let told: Vec<String> = config.old_names().iter().map(OldName::to_string).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.contains(&"cinder.conf:5: iscsi_helper in [lvm1] is now called target_helper".to_owned()));
    assert!(told.contains(
        &"cinder.conf:3: lock_path in [DEFAULT] is now called lock_path in [oslo_concurrency]".to_owned()
    ));
    assert!(config.unknown_options().is_empty());
    let both = read("[lvm1]\niscsi_port = 1\ntarget_port = 2\n");
    assert_eq!(both.backend("lvm1").get::<u16>("target_port").expect("a port"), Some(2));
}

#[test]
fn what_nobody_knows_is_listed_once_by_name() {
    let text = "[DEFAULT]\nenabled_backends = a\nvolume_drivr = x\nvolume_drivr = y\ndebug = true\n\
                [default]\ndebug = true\n[a]\nvolume_group = vg\nsan_ip = 1\nsan_pi = 1\n[off]\nvolume_driver = lvm\nbogus = 1\n";
    let told: Vec<String> = read(text).unknown_options().iter().map(Unknown::to_string).collect();
    assert_eq!(
        told,
        [
            "cinder.conf:3: unknown option volume_drivr in [DEFAULT]",
            "cinder.conf:11: unknown option san_pi in [a]",
            "cinder.conf:6: unknown section [default]",
            "cinder.conf:14: unknown option bogus in [off]",
        ]
    );
}

#[test]
fn errors_name_file_line_and_option_and_keep_secrets() {
    let text = "[DEFAULT]\nbackup_workers = 0\nreport_interval = soon\nosapi_volume_listen_port = 70000\n\
                [database]\nconnection = mysql://u:hunter2@$nowhere/c\n";
    let config = read(text);
    let section = config.default_section();
    let complaint = |result: Result<Option<i64>, ConfigError>| result.expect_err("refused").to_string();
    assert_eq!(
        complaint(section.get("backup_workers")),
        "cinder.conf:2: [DEFAULT] backup_workers: \"0\" is less than 1"
    );
    assert_eq!(
        complaint(section.get("report_interval")),
        "cinder.conf:3: [DEFAULT] report_interval: \"soon\" is not a whole number"
    );
    assert_eq!(
        section.get::<u16>("osapi_volume_listen_port").expect_err("refused").to_string(),
        "cinder.conf:4: [DEFAULT] osapi_volume_listen_port: \"70000\" is not between 0 and 65535"
    );
    assert_eq!(
        section.int_in("osapi_volume_listen_port", 1..=1023).expect_err("refused").to_string(),
        "cinder.conf:4: [DEFAULT] osapi_volume_listen_port: 70000 is not between 1 and 1023"
    );
    assert_eq!(
        section.choice("auth_strategy", &["noauth"]).expect_err("refused").to_string(),
        "default: [DEFAULT] auth_strategy: \"keystone\" is none of: noauth"
    );
    assert_eq!(
        section.require::<String>("host").expect_err("refused").to_string(),
        "[DEFAULT] host is required"
    );
    let database = config.section("database");
    for problem in [
        database.get::<String>("connection").map(|_| ()).expect_err("an unknown reference").to_string(),
        format!("{config:?}"),
        format!("{database:?}"),
    ] {
        assert!(!problem.contains("hunter2"), "{problem}");
    }
    let secret = read("[database]\nconnection = hunter2\n");
    let complaint = secret.section("database").get::<i64>("connection").expect_err("no number").to_string();
    assert_eq!(complaint, "cinder.conf:2: [database] connection: its value is not a whole number");
    let syntax = Config::parse(&[("c", "[a]\nx = 1\n\n  lost\n")], []).expect_err("refused").to_string();
    assert_eq!(syntax, "c:4: an indented line continues a value, and there is none above it");
}

#[test]
fn defaults_of_the_machine_are_supplied() {
    let mut config = read("[DEFAULT]\nenabled_backends = a\n[a]\n");
    config.set_default(DEFAULT, "my_ip", "192.0.2.7");
    config.set_default(DEFAULT, "state_path", "/data");
    config.set_default(BACKEND_DEFAULTS, "target_helper", "embedded");
    let backends = config.backends().expect("good backends");
    let text = |option: &str| backends[0].require::<String>(option).expect("text");
    assert_eq!(text("target_ip_address"), "192.0.2.7");
    assert_eq!(text("target_helper"), "embedded");
    assert_eq!(text("volumes_dir"), "/data/volumes");
    assert!(!backends[0].is_set("target_helper"));
    assert_eq!(
        config.default_section().get::<i64>("reservation_clean_interval").expect("an int"),
        Some(86400)
    );
}

#[test]
fn references_that_loop_or_explode_are_refused() {
    let mut text = String::from("[DEFAULT]\na = $b\nb = $a\nc0 = x\n");
    for level in 1..15 {
        text.push_str(&format!("c{level} = {}\n", format!("$c{} ", level - 1).repeat(10)));
    }
    let config = read(&text);
    for option in ["a", "c14"] {
        let problem = config.default_section().get::<String>(option).expect_err("refused").to_string();
        assert!(problem.contains("is there a loop?"), "{problem}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(lines in proptest::collection::vec("(\\[[a-c]?\\]?|[a-c \\t$=:{}.,#;\"'\\\\\r0-9]{0,12}|\\PC{0,8})", 0..20)) {
        let text = lines.join("\n");
        for text in [text.clone(), format!("[DEFAULT]\nenabled_backends=a,b\n{text}")] {
            let Ok(config) = Config::parse(&[("f", text)], []) else { continue };
            let _ = (config.unknown_options(), config.old_names(), config.backends().is_ok());
            let names: Vec<String> = config.section_names().map(str::to_owned).collect();
            for name in names {
                for section in [config.section(&name), config.backend(&name)] {
                    for option in section.raw().keys() {
                        let _ = (
                            section.get::<String>(option).is_ok(),
                            section.get::<i64>(option).is_ok(),
                            section.get::<f64>(option).is_ok(),
                            section.get::<bool>(option).is_ok(),
                            section.get::<BTreeMap<String, String>>(option).is_ok(),
                            section.multi::<Vec<String>>(option).is_ok(),
                        );
                    }
                }
            }
        }
    }
}
