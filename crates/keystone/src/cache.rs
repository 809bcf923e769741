//! Answers that are remembered for a while, up to a number of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::token::Token;

/// A token's digest: what the cache knows instead of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

/// What is known of tokens. All entries live equally long, so that the oldest is the first to go.
#[derive(Debug)]
pub(crate) struct Cache {
    known: HashMap<Key, Arc<Token>>,
    /// When each entry ends, the earliest first.
    ends: VecDeque<(Instant, Key)>,
    time: Duration,
    capacity: usize,
}

impl Cache {
    /// An empty cache; no `time` or no `capacity` remembers nothing.
    pub(crate) fn new(time: Duration, capacity: usize) -> Self {
        Self { known: HashMap::new(), ends: VecDeque::new(), time, capacity }
    }

    pub(crate) fn get(&mut self, key: &Key, now: Instant) -> Option<Arc<Token>> {
        self.drop_ended(now);
        self.known.get(key).cloned()
    }

    pub(crate) fn insert(&mut self, key: Key, token: Arc<Token>, now: Instant) {
        self.drop_ended(now);
        if self.time.is_zero() || self.capacity == 0 {
            return;
        }
        if let Some(known) = self.known.get_mut(&key) {
            // Two kinds of question about one token: the first answer decides when to ask again.
            *known = token;
            return;
        }
        if self.known.len() >= self.capacity
            && let Some((_, oldest)) = self.ends.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.insert(key, token);
        self.ends.push_back((now + self.time, key));
    }

    fn drop_ended(&mut self, now: Instant) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, key)) = self.ends.pop_front() {
                self.known.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(user: &str) -> Arc<Token> {
        let body =
            serde_json::json!({"token": {"user": {"id": user}, "expires_at": "2026-11-22T01:00:00.000000Z"}});
        Arc::new(Token::read(body, |_| true).unwrap())
    }

    #[test]
    fn entries_end_in_time_and_the_oldest_makes_room() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut cache = Cache::new(10 * second, 2);
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            cache.insert(Key::of(name), token(name), start + second * n as u32);
        }
        let mut known = |name: &str, at: u32| cache.get(&Key::of(name), start + second * at).is_some();
        assert!(!known("a", 3) && known("b", 3) && known("c", 3));
        assert!(known("b", 10) && !known("b", 11) && known("c", 11) && !known("c", 12));
        assert_eq!((cache.known.len(), cache.ends.len()), (0, 0));
    }

    #[test]
    fn an_entry_that_is_there_keeps_its_end() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut cache = Cache::new(10 * second, 2);
        cache.insert(Key::of("a"), token("a"), start);
        cache.insert(Key::of("a"), token("b"), start + 5 * second);
        assert_eq!(cache.get(&Key::of("a"), start + 9 * second).unwrap().user.id, "b");
        assert!(cache.get(&Key::of("a"), start + 10 * second).is_none());
        assert_eq!(cache.ends.len(), 0);
    }

    #[test]
    fn nothing_is_remembered_when_nothing_is_to_be() {
        let now = Instant::now();
        for (time, capacity) in [(Duration::ZERO, 9), (Duration::from_secs(9), 0)] {
            let mut cache = Cache::new(time, capacity);
            cache.insert(Key::of("a"), token("a"), now);
            assert!(cache.get(&Key::of("a"), now).is_none());
        }
    }
}
