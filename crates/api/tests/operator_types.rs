//! What operators attach to types: QoS specs, encryption, defaults of projects; and group types.

mod common;

use api::Auth;
use common::{PROJECT, Service};
use serde_json::{Value, json};

const DEAD: &str = "00000000-0000-0000-0000-00000000dead";

struct Api(Service);

impl Api {
    async fn start() -> Self {
        Self(Service::start(Auth::Open).await)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, Value::Null).await
    }

    /// Status and body; null when there is none.
    async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let reply = self.0.call(71, method, path, body).await;
        let body = if reply.text.is_empty() { Value::Null } else { reply.json() };
        (reply.status.as_u16(), body)
    }

    async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        self.0.call(71, method, path, body).await.fault()
    }

    async fn volume_type(&self, name: &str) -> String {
        let (_, made) = self.send("POST", "/v3/types", json!({"volume_type": {"name": name}})).await;
        made["volume_type"]["id"].as_str().expect("an id").to_owned()
    }
}

#[tokio::test]
async fn qos_specs_live_and_die() {
    let api = Api::start().await;
    let wanted =
        json!({"qos_specs": {"name": " q ", "consumer": "both", "total_iops_sec": "100", "x": null}});
    let (status, made) = api.send("POST", "/v3/qos-specs", wanted).await;
    let shown = json!({"total_iops_sec": "100", "x": null});
    assert_eq!((status, &made["qos_specs"]["name"], &made["qos_specs"]["specs"]), (200, &json!("q"), &shown));
    let path = format!("/v3/qos-specs/{}", made["qos_specs"]["id"].as_str().expect("an id"));
    assert_eq!(api.get(&path).await, (200, made.clone()));

    let again = json!({"qos_specs": {"name": "q"}});
    let exists = (409, "QoS Specs q already exists.".to_owned());
    assert_eq!(api.refused("POST", "/v3/qos-specs", again).await, exists);
    let change = json!({"qos_specs": {"consumer": "front-end", "y": "2"}});
    assert_eq!(api.send("PUT", &path, change.clone()).await, (200, change));
    let keys = json!({"keys": ["y", "nosuch"]});
    assert_eq!(api.refused("PUT", &format!("{path}/delete_keys"), keys).await.0, 404);
    assert_eq!(api.send("PUT", &format!("{path}/delete_keys"), json!({"keys": ["x"]})).await.0, 202);
    let (_, now) = api.get(&path).await;
    assert_eq!(now["qos_specs"]["consumer"], "front-end");
    assert_eq!(now["qos_specs"]["specs"], json!({"total_iops_sec": "100", "y": "2"}), "all keys or none");

    let (_, listed) = api.get("/v3/qos-specs?name=q&limit=1").await;
    assert_eq!(listed["qos_specs"], json!([now["qos_specs"]]));
    assert!(listed["qos_specs_links"][0]["href"].is_string());
    assert_eq!(api.get("/v3/qos-specs?consumer=back-end").await.1, json!({"qos_specs": []}));
    assert_eq!(api.send("DELETE", &path, Value::Null).await, (202, Value::Null));
    assert_eq!(api.get(&path).await.0, 404);
}

#[tokio::test]
async fn bad_qos_specs_are_refused() {
    let api = Api::start().await;
    let refused = async |specs: Value| {
        let (status, text) = api.refused("POST", "/v3/qos-specs", json!({ "qos_specs": specs })).await;
        assert_eq!(status, 400, "{text}");
        text
    };
    let long = "x".repeat(256);
    let cases = [
        (json!({"name": ""}), "An invalid 'name' value was provided. The 'name' can not be None."),
        (json!({"name": "  "}), "An invalid 'name' value was provided. The 'name' can not be empty."),
        (
            json!({"name": long}),
            "An invalid 'name' value was provided. The 'name' can not be greater than 255 characters.",
        ),
        (json!({"name": "q", "": "v"}), "Invalid input received: Key \"\" has 0 characters, less than 1."),
        (
            json!({"name": "q", "k": 7}),
            "Invalid input received: Value for key \"k\" is not a string or unicode",
        ),
        (
            json!({"name": "q", "consumer": "nobody"}),
            "Invalid qos specs: Valid consumer of QoS specs are: ['back-end', 'front-end', 'both']",
        ),
    ];
    for (specs, text) in cases {
        assert_eq!(refused(specs).await, text);
    }
    assert_eq!(api.get("/v3/qos-specs").await.1, json!({"qos_specs": []}));
}

#[tokio::test]
async fn a_type_refers_to_one_set_of_qos_specs() {
    let api = Api::start().await;
    let make = async |name: &str| {
        let (_, made) = api.send("POST", "/v3/qos-specs", json!({"qos_specs": {"name": name}})).await;
        format!("/v3/qos-specs/{}", made["qos_specs"]["id"].as_str().expect("an id"))
    };
    let (one, other, kind) = (make("one").await, make("other").await, api.volume_type("gold").await);
    assert_eq!(api.get(&format!("{one}/associate?vol_type_id={kind}")).await, (202, Value::Null));
    assert_eq!(api.get(&format!("{one}/associate?vol_type_id={kind}")).await.0, 202, "again");
    let id = one.rsplit('/').next().expect("an id");
    let text = format!("Invalid volume type: Type {kind} is already associated with another qos specs: {id}");
    let taken = api.refused("GET", &format!("{other}/associate?vol_type_id={kind}"), Value::Null).await;
    assert_eq!(taken, (400, text));
    let associations =
        json!({"qos_associations": [{"association_type": "volume_type", "name": "gold", "id": kind}]});
    assert_eq!(api.get(&format!("{one}/associations")).await, (200, associations));
    assert_eq!(api.get(&format!("/v3/types/{kind}")).await.1["volume_type"]["qos_specs_id"], id);

    let used = (400, "Qos specs still in use.".to_owned());
    assert_eq!(api.refused("DELETE", &one, Value::Null).await, used);
    assert_eq!(api.get(&format!("{one}/disassociate?vol_type_id={kind}")).await.0, 202);
    assert_eq!(api.get(&format!("{one}/associations")).await.1, json!({"qos_associations": []}));
    assert_eq!(api.get(&format!("{one}/associate?vol_type_id={kind}")).await.0, 202);
    assert_eq!(api.get(&format!("{one}/disassociate_all")).await.0, 202);
    assert_eq!(api.get(&format!("{one}/associate?vol_type_id={kind}")).await.0, 202);
    assert_eq!(api.send("DELETE", &format!("{one}?force=true"), Value::Null).await.0, 202);
    assert_eq!(api.get(&format!("/v3/types/{kind}")).await.1["volume_type"]["qos_specs_id"], Value::Null);

    let none = (400, "Volume Type id must not be None.".to_owned());
    assert_eq!(api.refused("GET", &format!("{other}/associate"), Value::Null).await, none);
    for path in ["associate", "disassociate"] {
        let unknown = api.refused("GET", &format!("{other}/{path}?vol_type_id={DEAD}"), Value::Null).await;
        assert_eq!(unknown, (404, format!("Volume type {DEAD} could not be found.")));
    }
}

#[tokio::test]
async fn volumes_of_an_encrypted_type_are_never_made_plain() {
    let api = Api::start().await;
    let kind = api.volume_type("secret").await;
    let path = format!("/v3/types/{kind}/encryption");
    assert_eq!(api.get(&path).await, (200, json!({})));
    let wanted =
        json!({"encryption": {"provider": "luks", "control_location": "front-end", "key_size": "256"}});
    let (status, made) = api.send("POST", &path, wanted.clone()).await;
    assert_eq!((status, &made["encryption"]["key_size"]), (200, &json!(256)));
    let id = made["encryption"]["encryption_id"].clone();
    let exists = (400, format!("Volume type encryption for type {kind} already exists."));
    assert_eq!(api.refused("POST", &path, wanted).await, exists);
    let (_, shown) = api.get(&path).await;
    assert_eq!(
        (&shown["encryption_id"], &shown["cipher"], &shown["deleted"]),
        (&id, &Value::Null, &json!(false))
    );
    let one = format!("{path}/{}", id.as_str().expect("an id"));
    let change = json!({"encryption": {"cipher": "aes-xts-plain64"}});
    assert_eq!(api.send("PUT", &one, change.clone()).await, (200, change));
    assert_eq!(api.get(&format!("{path}/cipher")).await, (200, json!({"cipher": "aes-xts-plain64"})));
    assert_eq!(api.get(&format!("{path}/nosuch")).await.0, 404);

    let volume = json!({"volume": {"size": 1, "volume_type": "secret"}});
    assert_eq!(api.refused("POST", "/v3/volumes", volume.clone()).await, (400, "Key manager error".into()));
    assert_eq!(api.get("/v3/volumes").await.1, json!({"volumes": []}));
    assert_eq!(api.send("DELETE", &one, Value::Null).await.0, 202);
    assert_eq!(api.send("DELETE", &one, Value::Null).await.0, 404);

    let (_, made) = api.send("POST", "/v3/volumes", volume).await;
    let volume = made["volume"]["id"].as_str().expect("an id");
    let again = json!({"encryption": {"provider": "luks", "control_location": "front-end"}});
    let used = (400, "Cannot create encryption specs. Volume type in use.".to_owned());
    assert_eq!(api.refused("POST", &path, again).await, used);
    let plain = api.get(&format!("/v3/volumes/{volume}/encryption")).await;
    assert_eq!(plain, (200, json!({"encryption_key_id": null})));
    let key = format!("/v3/volumes/{volume}/encryption/encryption_key_id");
    assert_eq!(api.send("GET", &key, Value::Null).await, (200, Value::Null));
    assert_eq!(api.get(&format!("/v3/volumes/{volume}/encryption/nosuch")).await.0, 404);
}

#[tokio::test]
async fn projects_have_default_types_of_their_own() {
    let api = Api::start().await;
    let kind = api.volume_type("gold").await;
    let path = format!("/v3/default-types/{PROJECT}");
    let none = (404, format!("Default type for project {PROJECT} not found."));
    assert_eq!(api.refused("GET", &path, Value::Null).await, none);
    let shape = json!({"project_id": PROJECT, "volume_type_id": kind});
    let set = |name: &str| json!({"default_type": {"volume_type": name}});
    assert_eq!(api.send("PUT", &path, set("gold")).await, (200, json!({"default_type": shape})));
    assert_eq!(api.get(&path).await, (200, json!({"default_type": shape})));
    assert_eq!(api.get("/v3/default-types").await, (200, json!({"default_types": [shape]})));
    let unknown = (400, "Volume type with name nosuch could not be found.".to_owned());
    assert_eq!(api.refused("PUT", &path, set("nosuch")).await, unknown);

    assert_eq!(api.get("/v3/types/default").await.1["volume_type"]["id"], kind);
    let (_, made) = api.send("POST", "/v3/volumes", json!({"volume": {"size": 1}})).await;
    assert_eq!(made["volume"]["volume_type"], "gold");
    let kept = format!("The volume type {kind} is a default volume type and cannot be deleted.");
    assert_eq!(api.refused("DELETE", &format!("/v3/types/{kind}"), Value::Null).await, (400, kept));
    assert_eq!(api.send("DELETE", &path, Value::Null).await, (204, Value::Null));
    assert_eq!(api.send("DELETE", &path, Value::Null).await.0, 204, "again");
    assert_eq!(api.get("/v3/types/default").await.1["volume_type"]["name"], "__DEFAULT__");
    assert_eq!(api.send("PUT", &path, set(&kind)).await.0, 200, "a row that was deleted comes back");
}

#[tokio::test]
async fn group_types_have_specs() {
    let api = Api::start().await;
    let wanted = json!({"group_type": {"name": "g", "is_public": false, "group_specs": {"a": "b"}}});
    let (status, made) = api.send("POST", "/v3/group_types", wanted.clone()).await;
    assert_eq!((status, &made["group_type"]["group_specs"]), (202, &json!({"a": "b"})));
    let exists = (409, "Group Type g already exists.".to_owned());
    assert_eq!(api.refused("POST", "/v3/group_types", wanted).await, exists);
    let path = format!("/v3/group_types/{}", made["group_type"]["id"].as_str().expect("an id"));
    let names = async |query: &str| {
        let (_, listed) = api.get(&format!("/v3/group_types?sort=name:asc&is_public={query}")).await;
        let types = listed["group_types"].as_array().cloned().unwrap_or_default();
        types.iter().map(|kind| kind["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names("True").await, ["default_cgsnapshot_type"]);
    assert_eq!(names("False").await, ["g"]);
    assert_eq!(names("None").await, ["default_cgsnapshot_type", "g"]);
    let (_, updated) = api.send("PUT", &path, json!({"group_type": {"name": "h"}})).await;
    assert_eq!(
        (&updated["group_type"]["name"], &updated["group_type"]["is_public"]),
        (&json!("h"), &json!(false))
    );
    let nothing = api.refused("PUT", &path, json!({"group_type": {}})).await;
    assert_eq!(nothing, (400, "Specify group type name, description or a combination thereof.".into()));

    let specs = json!({"group_specs": {"c": "d"}});
    assert_eq!(api.send("POST", &format!("{path}/group_specs"), specs.clone()).await, (202, specs));
    assert_eq!(api.send("PUT", &format!("{path}/group_specs/c"), json!({"c": null})).await.0, 200);
    assert_eq!(api.refused("PUT", &format!("{path}/group_specs/c"), json!({"x": "y"})).await.0, 400);
    assert_eq!(
        api.get(&format!("{path}/group_specs")).await.1,
        json!({"group_specs": {"a": "b", "c": null}})
    );
    assert_eq!(api.send("DELETE", &format!("{path}/group_specs/c"), Value::Null).await.0, 202);
    assert_eq!(api.get(&format!("{path}/group_specs/c")).await.0, 404);
    assert_eq!(api.send("DELETE", &path, Value::Null).await.0, 202);
    assert_eq!(api.refused("GET", &path, Value::Null).await.0, 404);
}
