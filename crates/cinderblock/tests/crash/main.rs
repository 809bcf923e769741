//! The crash suite (I3, I4, I5, I6): the real process is killed at every moment of every step of every operation, started again, and
//! must come to a good end by itself.
//!
//! The kill points come from the step tables. A scenario says, per operation, what must be there before, what sets the
//! operation off and what must hold afterwards; an operation without a scenario and a point that was never reached fail the suite.
//! `CINDERBLOCK_CRASH=<text>` restricts a run to points that contain the text.

mod group;
mod managing;
mod scenario;
mod site;
mod stopped;

use control::engine::kill_points;
use control::operations;
use group::GROUPS;
use scenario::{SCENARIOS, Scenario};
use site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn i3_every_step_of_every_operation_survives_a_kill() {
    let only = std::env::var("CINDERBLOCK_CRASH").unwrap_or_default();
    let (mut operations, mut steps, mut kills) = (0, 0, 0);
    let mut failures = Vec::new();
    for operation in operations::ALL {
        let all = SCENARIOS.iter().chain(managing::SCENARIOS).chain(GROUPS);
        let scenarios: Vec<&Scenario> = all.filter(|s| s.operation == operation.name).collect();
        assert!(!scenarios.is_empty(), "{} has no scenario", operation.name);
        operations += 1;
        steps += operation.steps.len();
        for point in kill_points(operation).into_iter().filter(|point| point.contains(&only)) {
            let mut reached = false;
            for scenario in &scenarios {
                let task = tokio::spawn(killed(scenario, point.clone()));
                match task.await {
                    Ok(here) => {
                        reached |= here;
                        kills += usize::from(here);
                    }
                    Err(error) => {
                        eprintln!("{point} ({}): FAILED: {error}", scenario.name);
                        failures.push(format!("{point} ({})", scenario.name));
                        reached = true;
                    }
                }
            }
            if !reached {
                failures.push(format!("{point} was never reached"));
            }
        }
    }
    println!(
        "crash suite: {operations} operations, {steps} steps, {kills} kills, {} failures",
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Runs one scenario with one kill; whether the point was reached.
async fn killed(scenario: &'static Scenario, point: String) -> bool {
    let mut site = Site::new();
    site.start(None, None).await;
    let ids = (scenario.prepare)(&mut site).await;
    site.stop().await;
    // The undo of a step runs when the step fails.
    let undo = point.strip_suffix("/undo");
    site.start(Some(&point), undo).await;
    (scenario.trigger)(&site, ids.clone()).await;
    if !site.dies().await {
        site.stop().await;
        return false;
    }
    site.start(None, None).await;
    site.settle().await;
    (scenario.after)(&mut site, ids, undo.is_none()).await;
    site.stop().await;
    let report = site.report().await;
    assert!(report.findings.is_empty(), "{point}: {:#?}\n{}", report.findings, site.log());
    true
}
