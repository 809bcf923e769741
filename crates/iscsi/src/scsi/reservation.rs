//! Reservations: the persistent ones of SPC-4 section 5.12 and the old RESERVE and RELEASE.
//!
//! [`ReservationState`] is pure data with one function per service action; [`Reservations`] holds it for a unit and
//! answers the question that every command asks. Registrants are initiator ports (name and ISID); there is one target
//! port, so that ALL_TG_PT changes nothing but what is reported.

use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Answer;
use super::attention::Attention;
use super::opcodes::Access;
use super::sense::Sense;

/// The most registrants of a unit.
pub const REGISTRANTS_MAX: usize = 64;

/// Keeps a unit's reservations through power loss (APTPL). One store per unit.
#[async_trait]
pub trait ReservationStore: Send + Sync + Debug {
    /// What was stored last; `None` when there is nothing.
    ///
    /// # Errors
    /// It cannot be read: the export is refused rather than served without its reservations.
    async fn load(&self) -> io::Result<Option<ReservationState>>;

    /// Replaces what is stored; durable when this returns.
    ///
    /// # Errors
    /// It cannot be stored: the command that changed it fails and changes nothing.
    async fn store(&self, state: &ReservationState) -> io::Result<()>;
}

/// Reservation types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrants,
    ExclusiveAccessRegistrants,
    WriteExclusiveAll,
    ExclusiveAccessAll,
}

impl Kind {
    /// Reads the type field of a CDB.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::WriteExclusive,
            3 => Self::ExclusiveAccess,
            5 => Self::WriteExclusiveRegistrants,
            6 => Self::ExclusiveAccessRegistrants,
            7 => Self::WriteExclusiveAll,
            8 => Self::ExclusiveAccessAll,
            _ => return None,
        })
    }

    /// Its code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::WriteExclusive => 1,
            Self::ExclusiveAccess => 3,
            Self::WriteExclusiveRegistrants => 5,
            Self::ExclusiveAccessRegistrants => 6,
            Self::WriteExclusiveAll => 7,
            Self::ExclusiveAccessAll => 8,
        }
    }

    /// Every registrant holds it.
    pub const fn all_registrants(self) -> bool {
        matches!(self, Self::WriteExclusiveAll | Self::ExclusiveAccessAll)
    }

    /// Registrants have access beside the holder.
    const fn registrants_only(self) -> bool {
        !matches!(self, Self::WriteExclusive | Self::ExclusiveAccess)
    }

    const fn write_exclusive(self) -> bool {
        matches!(self, Self::WriteExclusive | Self::WriteExclusiveRegistrants | Self::WriteExclusiveAll)
    }
}

/// An initiator port that has registered a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrant {
    /// Name and ISID: `iqn.2000-01.com.example:host,i,0x400001370000`.
    pub port: String,
    pub key: u64,
    pub all_target_ports: bool,
}

/// A reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub kind: Kind,
    /// The port that reserved; with an all-registrants type it is one of many.
    pub holder: String,
}

/// A unit's persistent reservations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationState {
    /// Counts changes of the registrants; starts at 0 after power loss.
    pub generation: u32,
    /// The last registration asked to keep all this through power loss.
    pub persistent: bool,
    pub registrants: Vec<Registrant>,
    pub reservation: Option<Held>,
}

/// What a change does to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Who is to be told what.
    pub tell: Vec<(String, Attention)>,
    /// Whose tasks are to be aborted.
    pub abort: Vec<String>,
}

type Changed = Result<Effects, Answer>;

impl ReservationState {
    fn find(&self, port: &str) -> Option<&Registrant> {
        self.registrants.iter().find(|registrant| registrant.port == port)
    }

    /// Whether a port holds the reservation.
    pub fn holds(&self, port: &str) -> bool {
        self.reservation.as_ref().is_some_and(|held| {
            if held.kind.all_registrants() { self.find(port).is_some() } else { held.holder == port }
        })
    }

    fn allow(&self, port: &str, access: Access) -> bool {
        let Some(held) = &self.reservation else { return true };
        if access == Access::Always || self.holds(port) {
            return true;
        }
        if held.kind.registrants_only() && self.find(port).is_some() {
            return true;
        }
        access == Access::Read && held.kind.write_exclusive()
    }

    /// The port must be registered with this key.
    fn check_key(&self, port: &str, key: u64) -> Result<(), Answer> {
        match self.find(port) {
            Some(registrant) if registrant.key == key => Ok(()),
            _ => Err(Answer::conflict()),
        }
    }

    fn bump(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Everybody registered but `port`.
    fn others(&self, port: &str) -> impl Iterator<Item = String> {
        self.registrants.iter().map(|r| r.port.clone()).filter(move |other| other != port)
    }

    /// REGISTER, and REGISTER AND IGNORE EXISTING KEY when `key` is `None`.
    pub fn register(&mut self, port: &str, key: Option<u64>, new: u64, all_target_ports: bool) -> Changed {
        let registered = self.find(port).is_some();
        match key {
            Some(key) if registered => self.check_key(port, key)?,
            Some(key) if key != 0 => return Err(Answer::conflict()),
            _ => {}
        }
        if !registered {
            if new == 0 {
                return Ok(Effects::default());
            }
            if self.registrants.len() >= REGISTRANTS_MAX {
                return Err(Sense::no_registration_room().into());
            }
            self.registrants.push(Registrant { port: port.to_owned(), key: new, all_target_ports });
            self.bump();
            return Ok(Effects::default());
        }
        self.bump();
        if new == 0 {
            return Ok(self.unregister(port));
        }
        for registrant in self.registrants.iter_mut().filter(|registrant| registrant.port == port) {
            registrant.key = new;
            registrant.all_target_ports = all_target_ports;
        }
        Ok(Effects::default())
    }

    /// Removes a registrant, and the reservation when it was the last to hold it.
    fn unregister(&mut self, port: &str) -> Effects {
        let held = self.holds(port);
        self.registrants.retain(|registrant| registrant.port != port);
        let Some(kind) = self.reservation.as_ref().filter(|_| held).map(|held| held.kind) else {
            return Effects::default();
        };
        if kind.all_registrants() {
            match self.registrants.first() {
                Some(next) => {
                    self.reservation = Some(Held { kind, holder: next.port.clone() });
                    return Effects::default();
                }
                None => self.reservation = None,
            }
        }
        self.reservation = None;
        self.released(kind, port)
    }

    /// Tells the other registrants that a reservation which gave them access is gone.
    fn released(&self, kind: Kind, by: &str) -> Effects {
        if !kind.registrants_only() {
            return Effects::default();
        }
        let tell = self.others(by).map(|port| (port, Attention::RESERVATIONS_RELEASED)).collect();
        Effects { tell, abort: Vec::new() }
    }

    /// RESERVE.
    pub fn reserve(&mut self, port: &str, key: u64, kind: Kind) -> Changed {
        self.check_key(port, key)?;
        match &self.reservation {
            Some(held) if self.holds(port) && held.kind == kind => {}
            Some(_) => return Err(Answer::conflict()),
            None => self.reservation = Some(Held { kind, holder: port.to_owned() }),
        }
        Ok(Effects::default())
    }

    /// RELEASE.
    pub fn release(&mut self, port: &str, key: u64, kind: Kind) -> Changed {
        self.check_key(port, key)?;
        let Some(held) = self.reservation.as_ref().filter(|_| self.holds(port)) else {
            return Ok(Effects::default());
        };
        if held.kind != kind {
            return Err(Sense::invalid_release().into());
        }
        self.reservation = None;
        Ok(self.released(kind, port))
    }

    /// CLEAR.
    pub fn clear(&mut self, port: &str, key: u64) -> Changed {
        self.check_key(port, key)?;
        let tell = self.others(port).map(|port| (port, Attention::RESERVATIONS_PREEMPTED)).collect();
        self.registrants.clear();
        self.reservation = None;
        self.bump();
        Ok(Effects { tell, abort: Vec::new() })
    }

    /// PREEMPT, and PREEMPT AND ABORT when `abort`.
    pub fn preempt(&mut self, port: &str, key: u64, victim: u64, kind: Option<Kind>, abort: bool) -> Changed {
        self.check_key(port, key)?;
        let held = self.reservation.clone();
        let takes_over = match &held {
            None => false,
            Some(held) if held.kind.all_registrants() => victim == 0,
            Some(held) => self.find(&held.holder).is_some_and(|holder| holder.key == victim),
        };
        if victim == 0 && !takes_over {
            return Err(Sense::invalid_parameter(8).into());
        }
        let everybody = takes_over && victim == 0;
        let gone: Vec<String> = self
            .registrants
            .iter()
            .filter(|registrant| everybody || registrant.key == victim)
            .map(|registrant| registrant.port.clone())
            .collect();
        if gone.is_empty() {
            return Err(Answer::conflict());
        }
        let mut effects = Effects::default();
        if takes_over {
            let kind = kind.ok_or_else(|| Answer::from(Sense::invalid_cdb(2)))?;
            self.remove(&gone, port, &mut effects);
            if let Some(old) = held.filter(|old| old.kind != kind) {
                effects.tell.extend(self.released(old.kind, port).tell);
            }
            self.reservation = Some(Held { kind, holder: port.to_owned() });
        } else {
            self.remove_with_self(&gone, port, &mut effects);
        }
        self.bump();
        if abort {
            effects.abort = gone.into_iter().filter(|victim| victim != port).collect();
        }
        Ok(effects)
    }

    /// Removes registrants but the one who asks.
    fn remove(&mut self, gone: &[String], by: &str, effects: &mut Effects) {
        self.registrants.retain(|registrant| registrant.port == by || !gone.contains(&registrant.port));
        let victims = gone.iter().filter(|port| *port != by);
        effects.tell.extend(victims.map(|port| (port.clone(), Attention::REGISTRATIONS_PREEMPTED)));
    }

    /// Removes registrants, the one who asks among them when it named its own key.
    fn remove_with_self(&mut self, gone: &[String], by: &str, effects: &mut Effects) {
        self.remove(gone, by, effects);
        if gone.iter().any(|port| port == by) {
            let released = self.unregister(by);
            effects.tell.extend(released.tell);
        }
        // An all-registrants reservation needs a registrant to be named by.
        if let Some(held) = self.reservation.clone().filter(|held| held.kind.all_registrants())
            && self.find(&held.holder).is_none()
        {
            let next = self.registrants.first().map(|next| next.port.clone());
            self.reservation = next.map(|holder| Held { kind: held.kind, holder });
        }
    }

    /// REGISTER AND MOVE: hands the reservation to another port.
    pub fn register_and_move(
        &mut self,
        port: &str,
        key: u64,
        new: u64,
        to: &str,
        unregister: bool,
    ) -> Changed {
        self.check_key(port, key)?;
        let held = self.reservation.clone().ok_or_else(Answer::conflict)?;
        if held.holder != port || held.kind.all_registrants() {
            return Err(Answer::conflict());
        }
        if new == 0 || to == port {
            return Err(Sense::invalid_parameter(8).into());
        }
        let full = self.registrants.len() >= REGISTRANTS_MAX;
        match self.registrants.iter_mut().find(|registrant| registrant.port == to) {
            Some(registrant) => registrant.key = new,
            None if full => return Err(Sense::no_registration_room().into()),
            None => {
                self.registrants.push(Registrant { port: to.to_owned(), key: new, all_target_ports: false })
            }
        }
        self.reservation = Some(Held { kind: held.kind, holder: to.to_owned() });
        if unregister {
            self.registrants.retain(|registrant| registrant.port != port);
        }
        self.bump();
        Ok(Effects::default())
    }
}

#[derive(Debug, Default)]
struct Inner {
    persistent: ReservationState,
    /// The port that holds RESERVE(6).
    legacy: Option<Arc<str>>,
}

/// The reservations of a unit.
#[derive(Debug, Default)]
pub struct Reservations {
    /// Somebody holds something: only then does a command take the lock.
    active: AtomicBool,
    inner: Mutex<Inner>,
    /// Where persistent ones are kept.
    pub store: Option<Arc<dyn ReservationStore>>,
    /// One change at a time, from the first check to the durable record.
    pub changing: tokio::sync::Mutex<()>,
}

impl Reservations {
    /// Reservations kept in `store`, as it has them.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(store: Option<Arc<dyn ReservationStore>>) -> io::Result<Self> {
        let mut loaded = Self { store, ..Self::default() };
        if let Some(store) = &loaded.store
            && let Some(mut state) = store.load().await?
        {
            state.generation = 0;
            state.registrants.truncate(REGISTRANTS_MAX);
            loaded.active = AtomicBool::new(state.reservation.is_some());
            loaded.inner = Mutex::new(Inner { persistent: state, legacy: None });
        }
        Ok(loaded)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no code panics while it holds this lock")
    }

    /// Whether a command from `port` may run. `exempt` are those that RESERVE(6) does not stop.
    pub fn allow(&self, port: &str, access: Access, exempt: bool) -> bool {
        if !self.active.load(Ordering::Acquire) {
            return true;
        }
        let inner = self.lock();
        let legacy = exempt || inner.legacy.as_deref().is_none_or(|holder| holder == port);
        legacy && inner.persistent.allow(port, access)
    }

    /// A copy of the persistent state.
    pub fn state(&self) -> ReservationState {
        self.lock().persistent.clone()
    }

    /// Whether anybody has registered.
    pub fn has_registrants(&self) -> bool {
        !self.lock().persistent.registrants.is_empty()
    }

    /// Replaces the persistent state.
    pub fn set(&self, state: ReservationState) {
        let mut inner = self.lock();
        inner.persistent = state;
        self.refresh(&inner);
    }

    /// Takes RESERVE(6) for a port; refused while another holds it or persistent registrations exist.
    pub fn reserve_legacy(&self, port: &Arc<str>) -> bool {
        let mut inner = self.lock();
        if !inner.persistent.registrants.is_empty() || inner.legacy.as_ref().is_some_and(|h| h != port) {
            return false;
        }
        inner.legacy = Some(port.clone());
        self.refresh(&inner);
        true
    }

    /// Gives RESERVE(6) back if `port` holds it.
    pub fn release_legacy(&self, port: &str) {
        let mut inner = self.lock();
        if inner.legacy.as_deref() == Some(port) {
            inner.legacy = None;
            self.refresh(&inner);
        }
    }

    /// A reset drops RESERVE(6), whoever holds it; persistent reservations stay.
    pub fn reset(&self) {
        let mut inner = self.lock();
        inner.legacy = None;
        self.refresh(&inner);
    }

    fn refresh(&self, inner: &Inner) {
        let active = inner.legacy.is_some() || inner.persistent.reservation.is_some();
        self.active.store(active, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "iqn.a,i,0x1";
    const B: &str = "iqn.b,i,0x1";
    const C: &str = "iqn.c,i,0x1";

    fn registered(ports: &[(&str, u64)]) -> ReservationState {
        let mut state = ReservationState::default();
        for (port, key) in ports {
            state.register(port, Some(0), *key, false).unwrap();
        }
        state
    }

    #[test]
    fn types_decide_who_may_do_what() {
        use Kind::*;
        // What a registrant and a stranger may do beside the holder.
        for (kind, registrant, stranger) in [
            (WriteExclusive, [true, false], [true, false]),
            (ExclusiveAccess, [false, false], [false, false]),
            (WriteExclusiveRegistrants, [true, true], [true, false]),
            (ExclusiveAccessRegistrants, [true, true], [false, false]),
            (WriteExclusiveAll, [true, true], [true, false]),
            (ExclusiveAccessAll, [true, true], [false, false]),
        ] {
            let mut state = registered(&[(A, 1), (B, 2)]);
            state.reserve(A, 1, kind).unwrap();
            let allowed = |port| [state.allow(port, Access::Read), state.allow(port, Access::Write)];
            assert_eq!(allowed(A), [true, true], "{kind:?}");
            assert_eq!(allowed(B), registrant, "{kind:?}");
            assert_eq!(allowed(C), stranger, "{kind:?}");
            assert!(state.allow(C, Access::Always));
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
        assert_eq!(Kind::from_code(2), None);
    }

    #[test]
    fn only_the_right_key_does_anything() {
        let mut state = registered(&[(A, 1)]);
        let before = state.clone();
        assert_eq!(state.register(A, Some(9), 5, false), Err(Answer::conflict()));
        assert_eq!(state.register(B, Some(9), 5, false), Err(Answer::conflict()));
        assert_eq!(state.reserve(A, 9, Kind::WriteExclusive), Err(Answer::conflict()));
        assert_eq!(state.reserve(B, 1, Kind::WriteExclusive), Err(Answer::conflict()));
        assert_eq!(state.clear(A, 9), Err(Answer::conflict()));
        assert_eq!(state.preempt(B, 0, 1, None, false), Err(Answer::conflict()));
        assert_eq!(state, before);
        state.register(A, None, 7, false).unwrap();
        assert_eq!(state.registrants[0].key, 7);
    }

    #[test]
    fn the_last_of_all_registrants_takes_the_reservation_along() {
        let mut state = registered(&[(A, 1), (B, 2)]);
        state.reserve(A, 1, Kind::ExclusiveAccessAll).unwrap();
        state.register(A, Some(1), 0, false).unwrap();
        assert!(state.holds(B));
        state.register(B, Some(2), 0, false).unwrap();
        assert_eq!(state.reservation, None);
    }

    #[test]
    fn a_release_is_told_where_it_gave_access() {
        for (kind, told) in [(Kind::WriteExclusive, false), (Kind::ExclusiveAccessRegistrants, true)] {
            let mut state = registered(&[(A, 1), (B, 2)]);
            state.reserve(A, 1, kind).unwrap();
            assert_eq!(state.release(B, 2, kind), Ok(Effects::default()), "not its own: nothing happens");
            assert_eq!(state.release(A, 1, Kind::WriteExclusiveAll), Err(Sense::invalid_release().into()));
            let effects = state.release(A, 1, kind).unwrap();
            let expected =
                if told { vec![(B.to_owned(), Attention::RESERVATIONS_RELEASED)] } else { Vec::new() };
            assert_eq!(effects.tell, expected);
        }
    }

    #[test]
    fn preempting_moves_the_reservation_or_only_registrations() {
        let mut state = registered(&[(A, 1), (B, 2), (C, 3)]);
        state.reserve(A, 1, Kind::WriteExclusiveRegistrants).unwrap();
        // Not the holder's key: only the registration goes.
        let effects = state.preempt(B, 2, 3, Some(Kind::WriteExclusive), true).unwrap();
        assert_eq!(effects.abort, [C]);
        assert!(state.holds(A));
        assert_eq!(state.preempt(B, 2, 3, None, false), Err(Answer::conflict()), "nobody has that key");
        assert_eq!(state.preempt(B, 2, 0, None, false), Err(Sense::invalid_parameter(8).into()));
        let effects = state.preempt(B, 2, 1, Some(Kind::ExclusiveAccess), false).unwrap();
        assert!(state.holds(B));
        assert_eq!(effects.tell, [(A.to_owned(), Attention::REGISTRATIONS_PREEMPTED)]);
        assert_eq!(state.registrants.len(), 1);
    }

    #[test]
    fn registrants_are_bounded() {
        let mut state = ReservationState::default();
        for n in 0..REGISTRANTS_MAX {
            state.register(&format!("iqn.{n},i,0x1"), Some(0), 1, false).unwrap();
        }
        assert_eq!(state.register(A, Some(0), 1, false), Err(Sense::no_registration_room().into()));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Register(u64, u64),
        Ignore(u64),
        Reserve(u64, u8),
        Release(u64, u8),
        Clear(u64),
        Preempt(u64, u64, u8),
        Move(u64, u64, usize, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let (key, kind, port) = (0u64..4, 0u8..9, 0usize..4);
        let step = prop_oneof![
            (key.clone(), key.clone()).prop_map(|(a, b)| Step::Register(a, b)),
            key.clone().prop_map(Step::Ignore),
            (key.clone(), kind.clone()).prop_map(|(a, k)| Step::Reserve(a, k)),
            (key.clone(), kind.clone()).prop_map(|(a, k)| Step::Release(a, k)),
            key.clone().prop_map(Step::Clear),
            (key.clone(), key.clone(), kind).prop_map(|(a, b, k)| Step::Preempt(a, b, k)),
            (key.clone(), key, port.clone(), any::<bool>()).prop_map(|(a, b, p, u)| Step::Move(a, b, p, u)),
        ];
        proptest::collection::vec((port, step), 0..60)
    }

    proptest! {
        /// Whatever initiators do: a reservation has a registered holder, nobody registers twice or with key zero, and what is
        /// refused changes nothing.
        #[test]
        fn the_state_stays_sound(steps in steps()) {
            let ports = [A, B, C, "iqn.d,i,0x1"];
            let mut state = ReservationState::default();
            for (port, step) in steps {
                let (port, before) = (ports[port], state.clone());
                let outcome = match step {
                    Step::Register(key, new) => state.register(port, Some(key), new, false),
                    Step::Ignore(new) => state.register(port, None, new, false),
                    Step::Reserve(key, kind) => match Kind::from_code(kind) {
                        Some(kind) => state.reserve(port, key, kind),
                        None => continue,
                    },
                    Step::Release(key, kind) => match Kind::from_code(kind) {
                        Some(kind) => state.release(port, key, kind),
                        None => continue,
                    },
                    Step::Clear(key) => state.clear(port, key),
                    Step::Preempt(key, victim, kind) => {
                        state.preempt(port, key, victim, Kind::from_code(kind), true)
                    }
                    Step::Move(key, new, to, unregister) => {
                        state.register_and_move(port, key, new, ports[to], unregister)
                    }
                };
                if outcome.is_err() {
                    prop_assert_eq!(&state, &before);
                }
                if let Some(held) = &state.reservation {
                    prop_assert!(state.find(&held.holder).is_some(), "{:?}", state);
                }
                for (n, one) in state.registrants.iter().enumerate() {
                    prop_assert_ne!(one.key, 0);
                    prop_assert!(state.registrants[..n].iter().all(|other| other.port != one.port));
                }
                if let Ok(effects) = outcome {
                    prop_assert!(effects.tell.iter().all(|(told, _)| told != port || before.find(port).is_some()));
                    prop_assert!(effects.abort.iter().all(|victim| victim != port));
                }
            }
        }
    }
}
