//! Quotas of projects and classes, and limits.

use control::Error;
use control::policy::{Action, Target};
use control::request::QuotaChange;
use model::quota::QuotaLine;
use serde_json::Value;
use wire::microversion::Resource;
use wire::{Object, quota as shape, wrap};

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;
use crate::query::integer;

/// The largest limit.
const DB_MAX_INT: i64 = 0x7FFF_FFFF;
/// Keys that clients may send along, and that mean nothing.
const IGNORED: [&str; 2] = ["tenant_id", "id"];

/// `GET /os-quota-sets/{id}`.
pub async fn show(call: Call) -> Outcome {
    let project = call.param("id");
    let usage = call.query.flag("usage")?;
    let lines = call.edge.cloud.quota_show(&call.context, project).await?;
    let shape = if usage { shape::usage(&lines, project) } else { shape::limits(&lines, Some(project)) };
    Ok(Answer::json(wrap("quota_set", shape)))
}

/// `GET /os-quota-sets/{id}/defaults`.
pub async fn defaults(call: Call) -> Outcome {
    let project = call.param("id");
    let lines = call.edge.cloud.quota_defaults(&call.context, project).await?;
    Ok(Answer::json(wrap("quota_set", shape::limits(&lines, Some(project)))))
}

/// `PUT /os-quota-sets/{id}`.
pub async fn update(call: Call) -> Outcome {
    let project = call.param("id");
    let known = call.edge.cloud.quota_resources().await?;
    let change = change(call.object("quota_set"), &known)?;
    if project.chars().count() > 255 {
        let length = project.chars().count();
        let text = format!("quota_set_name has {length} characters, more than 255.");
        return Err(Error::InvalidInput(text).into());
    }
    let lines = call.edge.cloud.quota_update(&call.context, project, change).await?;
    Ok(Answer::json(wrap("quota_set", shape::limits(&lines, None))))
}

/// New limits from a request: unknown names are refused all at once, limits one by one.
fn change(body: &Object, known: &[String]) -> Result<QuotaChange, Fault> {
    let mut limits = QuotaChange::new();
    let mut unknown = Vec::new();
    for (name, value) in body {
        if IGNORED.contains(&name.as_str()) {
            continue;
        }
        if !known.iter().any(|one| one == name) {
            unknown.push(name.as_str());
            continue;
        }
        limits.push((name.clone(), limit(name, value)?));
    }
    if unknown.is_empty() {
        return Ok(limits);
    }
    Err(Error::InvalidInput(format!("Bad key(s) in quota set: {}", unknown.join(", "))).into())
}

fn limit(name: &str, value: &Value) -> Result<i64, Fault> {
    integer(&crate::schema::repr::display(value), name, -1, DB_MAX_INT)
}

/// `DELETE /os-quota-sets/{id}`.
pub async fn delete(call: Call) -> Outcome {
    call.edge.cloud.quota_delete(&call.context, call.param("id")).await?;
    Ok(Answer::none())
}

/// `GET /os-quota-class-sets/{id}`.
pub async fn class_show(call: Call) -> Outcome {
    let class = call.param("id");
    let lines = call.edge.cloud.quota_class_show(&call.context, class).await?;
    Ok(Answer::json(wrap("quota_class_set", shape::limits(&lines, Some(class)))))
}

/// `PUT /os-quota-class-sets/{id}`.
pub async fn class_update(call: Call) -> Outcome {
    let known = call.edge.cloud.quota_resources().await?;
    let body = call.object("quota_class_set");
    let unknown: Vec<&str> =
        body.keys().map(String::as_str).filter(|name| !known.iter().any(|one| one == name)).collect();
    if !unknown.is_empty() {
        return Err(
            Error::InvalidInput(format!("Bad key(s) in quota class set: {}", unknown.join(", "))).into()
        );
    }
    let change = body.iter().map(|(name, value)| Ok((name.clone(), limit(name, value)?)));
    let change = change.collect::<Result<QuotaChange, Fault>>()?;
    let lines = call.edge.cloud.quota_class_update(&call.context, call.param("id"), change).await?;
    Ok(Answer::json(wrap("quota_class_set", shape::limits(&lines, None))))
}

/// `GET /limits`.
pub async fn limits(call: Call) -> Outcome {
    let foreign = call.context.is_admin && call.version.takes(Resource::Limits, "project_id");
    let asked = call.query.get("project_id").or_else(|| call.query.get("tenant_id")).filter(|_| foreign);
    let project = asked.unwrap_or(&call.context.project_id);
    let lines: Vec<QuotaLine> = call.edge.cloud.quota_of(project).await?;
    let used = call.edge.cloud.policy.allows(Action::UsedLimits, &call.context, &Target::own(&call.context));
    Ok(Answer::json(wrap("limits", shape::absolute(&lines, used))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(body: Value) -> Result<QuotaChange, String> {
        let known = ["volumes".to_owned(), "gigabytes".to_owned()];
        change(body.as_object().expect("an object"), &known).map_err(|fault| fault.message)
    }

    #[test]
    fn limits_are_numbers_of_known_resources() {
        let wanted = vec![("volumes".to_owned(), 1), ("gigabytes".to_owned(), -1)];
        assert_eq!(changed(json!({"volumes": "1", "tenant_id": "x", "gigabytes": -1})), Ok(wanted));
        assert_eq!(changed(json!({"volumes": "x"})), Err("volumes must be an integer".into()));
        assert_eq!(changed(json!({"volumes": -2})), Err("volumes must be >= -1".into()));
        assert_eq!(changed(json!({"volumes": 2147483648u32})), Err("volumes must be <= 2147483647".into()));
        assert_eq!(changed(json!({"volumes": null})), Err("volumes must be an integer".into()));
        assert_eq!(
            changed(json!({"nope": 0, "volumes": 1, "force": true})),
            Err("Invalid input received: Bad key(s) in quota set: nope, force".into())
        );
    }
}
