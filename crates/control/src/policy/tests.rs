use serde_json::Value;

use super::check::Check;
use super::*;
use crate::context::Scope;

fn golden(text: &str) -> Value {
    serde_json::from_str(text).expect("a golden file is JSON")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(text).collect()
}

fn optional(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A caller as the golden files write one.
fn context(creds: &Value) -> Context {
    Context {
        user_id: text(&creds["user_id"]),
        project_id: text(&creds["project_id"]),
        roles: texts(&creds["roles"]),
        is_admin: creds["is_admin"].as_bool().expect("a bool"),
        service_roles: texts(&creds["service_roles"]),
        scope: Scope {
            system: optional(&creds["system_scope"]),
            domain_id: optional(&creds["domain_id"]),
            is_admin_project: creds["is_admin_project"].as_bool(),
            user_domain_id: optional(&creds["user_domain_id"]),
            project_domain_id: optional(&creds["project_domain_id"]),
            ..Scope::default()
        },
        ..Context::default()
    }
}

fn target(fields: &Value) -> Target<'_> {
    Target { fields: fields.as_object(), ..Target::default() }
}

fn caller(role: &str, project: &str) -> Context {
    Context {
        user_id: "u".into(),
        project_id: project.into(),
        roles: vec![role.into()],
        ..Context::default()
    }
}

fn load(text: &str) -> Result<Policy, PolicyError> {
    Policy::load(&[("policy.yaml", text)], &Options::default())
}

#[test]
fn checks_decide_as_oslo_policy_does() {
    let golden = golden(include_str!("../../tests/golden/policy-checks.json"));
    let rules: HashMap<String, Check> = golden["rules"]
        .as_object()
        .expect("rules")
        .iter()
        .map(|(name, check)| (name.clone(), Check::parse(&text(check)).expect("a good check")))
        .collect();
    let callers: Vec<Context> =
        golden["credentials"].as_array().expect("a list").iter().map(context).collect();
    let targets: Vec<Target<'_>> = golden["targets"].as_array().expect("a list").iter().map(target).collect();
    let mut compared = 0;
    for case in golden["checks"].as_array().expect("a list") {
        let check = match &case[0] {
            Value::String(text) => Check::parse(text),
            Value::Array(items) => {
                let lists: Vec<Vec<String>> = items
                    .iter()
                    .map(|item| if item.is_string() { vec![text(item)] } else { texts(item) })
                    .collect();
                Check::parse_list(&lists)
            }
            _ => panic!("not a check: {case}"),
        };
        let understood = case[2].as_bool().expect("a bool");
        let Ok(check) = check else {
            assert!(!understood, "{} should be understood", case[0]);
            continue;
        };
        assert!(understood, "{} should be refused", case[0]);
        let wanted = text(&case[1]);
        let mut wanted = wanted.chars();
        for caller in &callers {
            for target in &targets {
                let got = check.allows(caller, target, &|name| rules.get(name));
                // Where the library raises an error, the request fails: as good as denied.
                let wanted = wanted.next().expect("a result for every pair");
                assert_eq!(got, wanted == '1', "{} {caller:?} {target:?}", case[0]);
                compared += 1;
            }
        }
    }
    assert!(compared > 10_000);
}

#[test]
fn the_authorisation_matrix_is_cinders() {
    let person = |user: &str, project: &str, roles: &[&str], scope: Scope| Context {
        user_id: user.into(),
        project_id: project.into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        scope,
        ..Context::default()
    };
    let admin = ["admin", "manager", "member", "reader"];
    let system = Scope { system: Some("all".into()), ..Scope::default() };
    let domain = Scope { domain_id: Some("d1".into()), ..Scope::default() };
    let elsewhere = Scope { is_admin_project: Some(false), ..Scope::default() };
    let personas = [
        person("sa", "", &admin, system),
        person("da", "", &admin, domain),
        person("pa", "p1", &admin, Scope::default()),
        person("oa", "p2", &admin, elsewhere),
        person("pm", "p1", &["member", "reader"], Scope::default()),
        person("pr", "p1", &["reader"], Scope::default()),
        person("sv", "p1", &["service"], Scope::default()),
        person("pn", "p1", &["other"], Scope::default()),
    ];
    let policies = [true, false].map(|enforce_new_defaults| {
        Policy::load::<&str, &str>(&[], &Options { enforce_new_defaults, ..Options::default() })
            .expect("the defaults")
    });
    let mut rules = 0;
    for line in include_str!("../../tests/golden/policy-matrix.txt").lines() {
        let mut columns = line.split_whitespace();
        let Some(rule) = columns.next().filter(|rule| !rule.starts_with('#')) else { continue };
        if line.starts_with('#') || rule.ends_with(':') {
            continue;
        }
        assert!(registered(rule).is_some(), "{rule} is not in the table");
        rules += 1;
        for (persona, wanted) in personas.iter().zip(columns) {
            let mut got = String::new();
            for policy in &policies {
                let mut caller = persona.clone();
                caller.is_admin = policy.is_admin(&caller);
                for target in [Target::of("p1", "pm"), Target::of("p3", "x")] {
                    got.push(if policy.allows_rule(rule, &caller, &target) { 'Y' } else { '-' });
                }
            }
            assert_eq!(got, wanted, "{rule} for {}", persona.user_id);
        }
    }
    assert_eq!(rules, BASE.len() + Action::ALL.len());
    assert_eq!(Action::ALL.len(), 161);
}

#[test]
fn policy_files_change_what_they_change_for_cinder() {
    let golden = golden(include_str!("../../tests/golden/policy-files.json"));
    let roles = texts(&golden["roles"]);
    for case in golden["cases"].as_array().expect("a list") {
        let files: Vec<(String, String)> = texts(&case["files"])
            .into_iter()
            .enumerate()
            .map(|(at, text)| (format!("{at}.yaml"), text))
            .collect();
        let enforce_new_defaults = case["enforce_new_defaults"].as_bool().expect("a bool");
        let options = Options { enforce_new_defaults, ..Options::default() };
        let policy = Policy::load(&files, &options).expect("oslo.policy takes it");
        for (rule, wanted) in case["results"].as_object().expect("results") {
            let mut got = String::new();
            for role in &roles {
                let mut caller = caller(role, "p1");
                caller.is_admin = policy.is_admin(&caller);
                for target in [Target::of("p1", "u"), Target::of("p2", "v")] {
                    got.push(if policy.allows_rule(rule, &caller, &target) { '1' } else { '0' });
                }
            }
            assert_eq!(got, text(wanted), "{rule} under {files:?}, {enforce_new_defaults}");
        }
    }
}

#[test]
fn what_is_denied_names_its_rule() {
    let policy = Policy::default();
    let caller = caller("reader", "p1");
    let target = Target::own(&caller);
    assert!(policy.require(Action::VolumeList, &caller, &target).is_ok());
    let error = policy.require(Action::VolumeCreate, &caller, &target).expect_err("readers create nothing");
    assert_eq!(error.to_string(), "Policy doesn't allow volume:create to be performed.");
    assert!(!policy.allows_rule("volume:no_such_rule", &caller, &target));
}

#[test]
fn broken_files_are_refused_with_the_reason() {
    for (text, reason) in [
        ("volume:create: [", "policy.yaml: not a policy file"),
        ("- volume:create\n", "policy.yaml: not a policy file"),
        ("just a text\n", "policy.yaml: not a policy file"),
        ("volume:create: @\n", "policy.yaml: not a policy file"),
        ("volume:create: \n", "rule \"volume:create\": it has no check"),
        ("volume:create: !\n", "its check is read as the YAML tag ! (put it in quotes)"),
        ("volume:create: true\n", "rule \"volume:create\": its check must be a text"),
        ("volume:create: {a: b}\n", "its check must be a text"),
        ("volume:create: [[1]]\n", "something that is not a text"),
        ("volume:create: [[role:x], 2]\n", "neither a text nor a list"),
        ("volume:create: rol\n", "\"rol\" is not a check: KIND:MATCH, @ or !"),
        ("volume:create: role:a and\n", "ends where a check should follow"),
        ("volume:create: (role:a or role:b\n", "a \")\" is missing"),
        ("volume:create: role:a role:b\n", "unexpected check, expected \"and\", \"or\" or the end"),
        ("volume:create: project_id:%(project_id)\n", "after % comes (FIELD)s"),
        ("volume:create: http://policy.example/x\n", "not supported"),
        ("volume:create: rule:a\na: rule:b or role:x\nb: not rule:a\n", "refers to itself"),
        ("default: rule:nowhere\n", "refers to itself"),
    ] {
        let error = load(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn decisions_are_bounded() {
    let deep = format!("volume:create: {}role:a{}\n", "(".repeat(1000), ")".repeat(1000));
    assert!(load(&deep).expect_err("too deep").to_string().contains("nested more than"));
    let nots = format!("volume:create: {}role:a\n", "not ".repeat(1000));
    assert!(load(&nots).expect_err("too deep").to_string().contains("nested more than"));
    let long = format!("volume:create: role:{}\n", "a".repeat(70_000));
    assert!(load(&long).expect_err("too long").to_string().contains("longer than"));
    let chain: String = (0..100).map(|at| format!("r{at}: rule:r{}\n", at + 1)).collect();
    assert!(matches!(load(&chain), Err(PolicyError::Chain(_))));
    let wide: String = (0..20)
        .map(|at| format!("r{at}: {}\n", ["rule:r"; 4].map(|r| format!("{r}{}", at + 1)).join(" or ")))
        .collect();
    assert!(matches!(load(&wide), Err(PolicyError::Cost(_))));
}

#[test]
fn strangers_and_old_names_are_told() {
    let text = "volume:craete: role:x\nhelper: role:x\nvolume:delete: rule:helper or rule:gone\n\
                volume_extension:types_manage: role:x\n";
    let policy = load(text).expect("a good file");
    let told = policy.warnings().join("\n");
    assert!(told.contains("unknown policy rule \"volume:craete\": nothing asks for it"), "{told}");
    assert!(!told.contains("\"helper\""), "{told}");
    assert!(
        told.contains("policy rule \"volume:delete\" refers to \"gone\", which does not exist"),
        "{told}"
    );
    assert!(
        told.contains("\"volume_extension:types_manage\" is an old name of \"volume_extension:type_create\"")
    );
    assert!(Policy::default().warnings().is_empty());
}

#[test]
fn the_sample_says_what_holds_anyway() {
    let sample = sample();
    assert!(load(&sample).expect("only comments").warnings().is_empty());
    let taken: String = sample
        .lines()
        .filter_map(|line| line.strip_prefix("#\""))
        .map(|line| format!("\"{line}\n"))
        .collect();
    let policy = load(&taken).expect("a good file");
    assert!(policy.warnings().is_empty());
    assert_eq!(policy.rules, Policy::default().rules);
}

#[test]
fn names_are_unique_and_found() {
    let names: BTreeSet<&str> = Action::ALL.iter().map(|action| action.rule().name).collect();
    assert_eq!(names.len(), Action::ALL.len());
    for action in Action::ALL {
        assert_eq!(Action::named(action.rule().name), Some(*action));
    }
}

proptest::proptest! {
    #[test]
    fn no_check_panics(text in "[@!()%:'\" a-d]{0,24}|(@|!|\\(|\\)|and|or|not|role:a|'x'|%\\(x\\)s| ){0,20}|\\PC{0,24}") {
        if let Ok(check) = Check::parse(&text) {
            check.allows(&caller("a", "p"), &Target::default(), &|_| None);
        }
        let _ = load(&text).is_ok();
    }
}
