//! Every call is cut off at each of its changes, by an instance that dies there; then a new instance repeats or undoes it.

use model::GiB;
use model::job::Claim;

use super::content::{expect_snapshot, expect_volume, open, put};
use super::{Broken, Check, Factory, claim, ensure, manage, next, snapshot, volume};
use crate::fault::Faults;
use crate::{Found, Openable, SharedDriver, SnapshotRef, Source, VolumeRef};

/// More changes than any call makes.
const CALLS_MAX: u64 = 4000;

/// The calls that are cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Create,
    Clone,
    FromSnapshot,
    Extend,
    Snapshot,
    DeleteOldSnapshot,
    DeleteLatestSnapshot,
    Revert,
    Delete,
    Adopt,
    Release,
    AdoptSnapshot,
    ReleaseSnapshot,
}

const CALLS: [Call; 13] = [
    Call::Create,
    Call::Clone,
    Call::FromSnapshot,
    Call::Extend,
    Call::Snapshot,
    Call::DeleteOldSnapshot,
    Call::DeleteLatestSnapshot,
    Call::Revert,
    Call::Delete,
    Call::Adopt,
    Call::Release,
    Call::AdoptSnapshot,
    Call::ReleaseSnapshot,
];

const MANAGING: [Call; 4] = [Call::Adopt, Call::Release, Call::AdoptSnapshot, Call::ReleaseSnapshot];
/// The name of what is given up or taken over.
const GIVEN: &str = "given";

/// What each call works on: a volume at version 3 with snapshots of versions 1 and 2, and things yet to be made.
struct Scene {
    volume: VolumeRef,
    snapshots: [SnapshotRef; 2],
    new_volume: VolumeRef,
    new_snapshot: SnapshotRef,
}

impl Scene {
    async fn set(driver: &SharedDriver, call: Call) -> Check<Self> {
        let v = volume(1);
        driver.create_volume(&v, Source::Blank, &claim()).await?;
        let device = open(driver, &v).await?;
        let snapshots = [snapshot(&v), snapshot(&v)];
        for (version, s) in (1..).zip(&snapshots) {
            put(&device, version).await?;
            if !matches!(call, Call::Delete | Call::Release) {
                driver.create_snapshot(s, &claim()).await?;
            }
        }
        put(&device, 3).await?;
        drop(device);
        let scene = Self { new_volume: volume(2), new_snapshot: snapshot(&v), snapshots, volume: v };
        scene.give_up(driver, call).await?;
        Ok(scene)
    }

    /// Gives up what the call then takes over: it looks as if somebody else had made it.
    async fn give_up(&self, driver: &SharedDriver, call: Call) -> Check {
        match call {
            Call::Adopt => {
                let given = volume(1);
                driver.create_volume(&given, Source::Blank, &claim()).await?;
                put(&open(driver, &given).await?, 1).await?;
                driver.release(Openable::Volume(&given), Some(GIVEN), &claim()).await?;
            }
            Call::AdoptSnapshot => {
                driver.create_snapshot(&self.new_snapshot, &claim()).await?;
                driver.release(Openable::Snapshot(&self.new_snapshot), None, &claim()).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn make(&self, driver: &SharedDriver, call: Call, claim: &Claim) -> crate::Result<()> {
        match call {
            Call::Create => driver.create_volume(&self.new_volume, Source::Blank, claim).await.map(drop),
            Call::Clone => {
                driver.create_volume(&self.new_volume, Source::Volume(&self.volume), claim).await.map(drop)
            }
            Call::FromSnapshot => driver
                .create_volume(&self.new_volume, Source::Snapshot(&self.snapshots[0]), claim)
                .await
                .map(drop),
            Call::Extend => driver.extend_volume(&self.volume, GiB(3), claim).await,
            Call::Snapshot => driver.create_snapshot(&self.new_snapshot, claim).await.map(drop),
            Call::DeleteOldSnapshot => driver.delete_snapshot(&self.snapshots[0], claim).await,
            Call::DeleteLatestSnapshot => driver.delete_snapshot(&self.snapshots[1], claim).await,
            Call::Revert => driver.revert(&self.snapshots[1], claim).await,
            Call::Delete => driver.delete_volume(&self.volume, claim).await,
            Call::Adopt => driver.adopt(Openable::Volume(&self.new_volume), GIVEN, claim).await.map(drop),
            Call::Release => driver.release(Openable::Volume(&self.volume), Some(GIVEN), claim).await,
            Call::AdoptSnapshot => {
                let what = Openable::Snapshot(&self.new_snapshot);
                driver.adopt(what, &self.new_snapshot.name, claim).await.map(drop)
            }
            Call::ReleaseSnapshot => {
                driver.release(Openable::Snapshot(&self.snapshots[1]), None, claim).await
            }
        }
    }

    /// Takes back what the call may have made, as a job's undo does.
    async fn undo(&self, driver: &SharedDriver, call: Call) -> Check {
        match call {
            Call::Create | Call::Clone | Call::FromSnapshot => {
                driver.delete_volume(&self.new_volume, &claim()).await?
            }
            Call::Snapshot => driver.delete_snapshot(&self.new_snapshot, &claim()).await?,
            Call::Adopt => {
                driver.release(Openable::Volume(&self.new_volume), Some(GIVEN), &claim()).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks everything that the call does not change.
    async fn check_rest(&self, driver: &SharedDriver, call: Call, what: &str) -> Check {
        for (index, s) in self.snapshots.iter().enumerate() {
            let gone = match call {
                Call::Delete | Call::Release => true,
                Call::DeleteOldSnapshot => index == 0,
                Call::DeleteLatestSnapshot | Call::ReleaseSnapshot => index == 1,
                _ => false,
            };
            if !gone {
                expect_snapshot(driver, s, index as u64 + 1, what).await?;
            }
        }
        if !matches!(call, Call::Extend | Call::Revert | Call::Delete | Call::Release) {
            expect_volume(driver, &self.volume, 3, what).await?;
        }
        Ok(())
    }

    /// Checks what the call has made, once it has succeeded.
    async fn check_done(&self, driver: &SharedDriver, call: Call, what: &str) -> Check {
        let grown = VolumeRef { size: GiB(3), ..self.volume.clone() };
        match call {
            Call::Create => expect_volume(driver, &self.new_volume, 0, what).await?,
            Call::Clone => expect_volume(driver, &self.new_volume, 3, what).await?,
            Call::FromSnapshot => expect_volume(driver, &self.new_volume, 1, what).await?,
            Call::Extend => expect_volume(driver, &grown, 3, what).await?,
            Call::Snapshot => expect_snapshot(driver, &self.new_snapshot, 3, what).await?,
            Call::Revert => expect_volume(driver, &self.volume, 2, what).await?,
            Call::Adopt => expect_volume(driver, &self.new_volume, 1, what).await?,
            Call::AdoptSnapshot => expect_snapshot(driver, &self.new_snapshot, 3, what).await?,
            Call::Release | Call::ReleaseSnapshot => self.check_given_up(driver, call, what).await?,
            Call::DeleteOldSnapshot | Call::DeleteLatestSnapshot | Call::Delete => {}
        }
        self.check_rest(driver, call, what).await
    }

    /// Checks what was given up by taking it over.
    async fn check_given_up(&self, driver: &SharedDriver, call: Call, what: &str) -> Check {
        let found = driver.manageable().await?;
        let given = found.iter().find(|one| match call {
            Call::Release => one.name == GIVEN,
            _ => one.of.as_ref() == Some(&self.volume.name),
        });
        let given = given.ok_or_else(|| Broken(format!("{what}: not in {found:?}")))?;
        // It stays as it is, so that this can be checked once more.
        if call == Call::Release {
            let again = volume(1);
            driver.adopt(Openable::Volume(&again), &given.name, &claim()).await?;
            expect_volume(driver, &again, 3, what).await?;
            driver.release(Openable::Volume(&again), Some(&given.name), &claim()).await?;
        } else {
            let again = snapshot(&self.volume);
            driver.adopt(Openable::Snapshot(&again), &given.name, &claim()).await?;
            expect_snapshot(driver, &again, 2, what).await?;
            driver.release(Openable::Snapshot(&again), Some(&given.name), &claim()).await?;
        }
        Ok(())
    }

    /// Removes everything.
    async fn clear(&self, driver: &SharedDriver) -> Check {
        for s in self.snapshots.iter().chain([&self.new_snapshot]) {
            driver.delete_snapshot(s, &claim()).await?;
        }
        driver.delete_volume(&self.new_volume, &claim()).await?;
        driver.delete_volume(&self.volume, &claim()).await?;
        if driver.capabilities().manage {
            manage::remove_foreign(driver).await?;
        }
        Ok(())
    }
}

/// Removes what a dead run left, as the reconciler does.
async fn housekeep(driver: &SharedDriver) -> Check<usize> {
    let mut found = 0;
    for thing in driver.list().await? {
        if let Found::Intermediate { name, .. } = thing {
            driver.discard_intermediate(&name).await?;
            driver.discard_intermediate(&name).await?;
            found += 1;
        }
    }
    Ok(found)
}

async fn no_intermediates(driver: &SharedDriver, what: &str) -> Check {
    let left: Vec<Found> =
        driver.list().await?.into_iter().filter(|f| matches!(f, Found::Intermediate { .. })).collect();
    ensure(left.is_empty(), || format!("{what}: {left:?} is left"))
}

/// Cuts `call` off after `cut` changes. `None` when it cannot be cut off, or had fewer.
async fn cut_off(factory: &dyn Factory, call: Call, cut: u64) -> Check<Option<(Scene, Claim)>> {
    let driver = factory.driver().await;
    let can = driver.capabilities();
    if (call == Call::Revert && !can.revert) || (MANAGING.contains(&call) && !can.manage) {
        return Ok(None);
    }
    let scene = Scene::set(&driver, call).await?;
    drop(driver);
    let faults = Faults::after(cut);
    let first = claim();
    let result = match factory.dying(faults.clone()).await {
        Some(dying) if !faults.dead() => scene.make(&dying, call, &first).await,
        Some(_) => Ok(()),
        None => {
            scene.clear(&factory.driver().await).await?;
            return Ok(None);
        }
    };
    match (result, faults.dead()) {
        (_, true) => Ok(Some((scene, first))),
        (Ok(()), false) => {
            scene.check_done(&factory.driver().await, call, &format!("{call:?}, not cut off")).await?;
            scene.clear(&factory.driver().await).await?;
            Ok(None)
        }
        (Err(e), false) => Err(e.into()),
    }
}

/// Changes that a call makes: cuts go up in single steps, later in larger ones, because copies repeat themselves.
fn cuts() -> impl Iterator<Item = u64> {
    let mut cut = 0;
    std::iter::from_fn(move || {
        let now = cut;
        cut += if cut < 48 { 1 } else { 7 };
        (now < CALLS_MAX).then_some(now)
    })
}

pub async fn repeated(factory: &dyn Factory) -> Check {
    for call in CALLS {
        for (done, cut) in (0..).zip(cuts()) {
            let what = format!("{call:?} cut off at {cut}");
            let Some((scene, first)) =
                cut_off(factory, call, cut).await.map_err(|e| Broken(format!("{what}: {e}")))?
            else {
                factory.note(&format!("{call:?} cut off and repeated"), done);
                break;
            };
            let driver = factory.driver().await;
            let again = async {
                scene.check_rest(&driver, call, &what).await?;
                scene.make(&driver, call, &next(&first)).await?;
                scene.check_done(&driver, call, &format!("{what}, repeated")).await?;
                housekeep(&driver).await?;
                scene.check_done(&driver, call, &format!("{what}, repeated, housekept")).await?;
                scene.clear(&driver).await?;
                no_intermediates(&driver, &what).await
            };
            again.await.map_err(|e| Broken(format!("{what}: {e}")))?;
        }
    }
    Ok(())
}

pub async fn undone(factory: &dyn Factory) -> Check {
    for call in [Call::Create, Call::Clone, Call::FromSnapshot, Call::Snapshot, Call::Adopt] {
        for (done, cut) in (0..).zip(cuts()) {
            let what = format!("{call:?} cut off at {cut}");
            let Some((scene, _)) =
                cut_off(factory, call, cut).await.map_err(|e| Broken(format!("{what}: {e}")))?
            else {
                factory.note(&format!("{call:?} cut off and undone"), done);
                break;
            };
            let driver = factory.driver().await;
            let back = async {
                scene.undo(&driver, call).await?;
                housekeep(&driver).await?;
                no_intermediates(&driver, &what).await?;
                scene.check_rest(&driver, call, &format!("{what}, undone")).await?;
                let found = driver.list().await?;
                let there = 3 + usize::from(call == Call::Adopt);
                ensure(found.len() == there, || format!("undone, there is {found:?}"))?;
                scene.clear(&driver).await
            };
            back.await.map_err(|e| Broken(format!("{what}: {e}")))?;
        }
    }
    Ok(())
}
