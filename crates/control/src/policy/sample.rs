//! A `policy.yaml` that says what holds anyway, for operators to edit.

use super::{Action, BASE, Rule};

/// Every rule with its default check, commented out.
pub fn sample() -> String {
    let mut text = String::from(
        "# Who may do what. Every rule below is as it is without this file: take the # away from a rule's last line to \
         change it.\n# \"\" allows everybody, \"!\" nobody.\n",
    );
    for rule in BASE.iter().chain(Action::ALL.iter().map(|action| action.rule())) {
        text.push_str(&entry(rule));
    }
    text
}

fn entry(rule: &Rule) -> String {
    let mut text = format!("\n# {}.\n", rule.description);
    for request in rule.requests {
        text.push_str(&format!("# {request}\n"));
    }
    if let Some(old) = rule.old {
        let name = old.name.unwrap_or(rule.name);
        text.push_str(&format!("# Before: \"{name}\": \"{}\"\n", old.check));
    }
    text.push_str(&format!("#\"{}\": \"{}\"\n", rule.name, rule.check));
    text
}
