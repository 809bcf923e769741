//! Every route asks its own rule: where a rule says no, the route says no, and names the rule that the table names.

mod common;

use api::Auth;
use api::route::{Gate, V3};
use common::Service;
use common::things::{body, path, things};
use control::policy::{Action, Options, Policy};

#[tokio::test]
async fn every_route_asks_its_own_rule() {
    let service = Service::start(Auth::Open).await;
    let things = things(&service).await;
    let mut judged = 0;
    for entry in V3.entries() {
        let route = entry.route;
        let Some(action) = route.gate.action() else { continue };
        // Only this rule says no.
        let rule = action.rule().name;
        let text = format!("\"{rule}\": \"!\"\n");
        let policy = Policy::load(&[("policy.yaml", text)], &Options::default()).expect("a rule");
        let denied = service.under(policy);
        let body = body(route.method, route.path, route.action, &things);
        let reply = denied.call(71, route.method, &path(route.path, &things), body).await;
        let name = format!("{} {} {:?}", route.method, route.path, route.action);
        let wanted = match (route.gate, action) {
            // Whoever may not see a volume is told that it is not there.
            (Gate::Resource(_), Action::VolumeShow) => {
                (404, format!("Volume {} could not be found.", things.volume))
            }
            // Told without the rule's name.
            (
                _,
                Action::DefaultTypeList
                | Action::DefaultTypeShow
                | Action::DefaultTypeSet
                | Action::DefaultTypeUnset,
            ) => (403, "You are not authorized to perform this operation.".into()),
            _ => (403, format!("Policy doesn't allow {rule} to be performed.")),
        };
        assert_eq!(reply.fault(), wanted, "{name}");
        judged += 1;
    }
    assert!(judged > 80, "only {judged} routes were judged");
}
