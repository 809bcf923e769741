//! Files of `user:bcrypt-hash` lines, as `htpasswd -B` writes them.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use model::Secret;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// How many passwords are checked at a time: bcrypt is slow on purpose.
const CHECKS: usize = 2;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    #[error("cannot read it")]
    Io(#[from] std::io::Error),
    #[error("line {0} is not user:hash with a bcrypt hash")]
    Line(usize),
    #[error("it names nobody")]
    Empty,
}

/// Users and their hashes.
pub struct Htpasswd {
    users: HashMap<String, String>,
    /// What was found right before, by user: a digest that means nothing outside this process.
    known: Mutex<HashMap<String, [u8; 32]>>,
    salt: [u8; 16],
    checks: Arc<Semaphore>,
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Htpasswd {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or has a line that is no bcrypt entry.
    pub fn open(path: &Path) -> Result<Self, HtpasswdError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn parse(text: &str) -> Result<Self, HtpasswdError> {
        let mut users = HashMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or(HtpasswdError::Line(n + 1))?;
            let bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|kind| hash.starts_with(kind));
            if user.is_empty() || !bcrypt || hash.len() != 60 {
                return Err(HtpasswdError::Line(n + 1));
            }
            users.insert(user.to_owned(), hash.to_owned());
        }
        if users.is_empty() {
            return Err(HtpasswdError::Empty);
        }
        let salt = uuid::Uuid::new_v4().into_bytes();
        Ok(Self { users, known: Mutex::default(), salt, checks: Arc::new(Semaphore::new(CHECKS)) })
    }

    /// Whether this is the user's password. Slow the first time, on a thread for such work; quick afterwards.
    pub async fn verify(&self, user: &str, password: Secret<String>) -> bool {
        let digest: [u8; 32] =
            Sha256::new().chain_update(self.salt).chain_update(password.expose()).finalize().into();
        let recall = || self.known.lock().unwrap_or_else(PoisonError::into_inner).get(user) == Some(&digest);
        if recall() {
            return true;
        }
        // A stranger costs as much time as a wrong password.
        let any = self.users.values().next().cloned().unwrap_or_default();
        let (hash, exists) = self.users.get(user).map_or((any, false), |hash| (hash.clone(), true));
        let Ok(permit) = Arc::clone(&self.checks).acquire_owned().await else { return false };
        let check = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(password.expose(), &hash).unwrap_or(false);
            drop(permit);
            right
        });
        let right = check.await.unwrap_or(false) && exists;
        if right {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(user.to_owned(), digest);
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bcrypt_lines_are_taken() {
        let line = |text: &str| {
            Htpasswd::parse(text).map(|file| file.users.len()).map_err(|error| error.to_string())
        };
        assert!(line("me:$apr1$x$y").is_err());
        assert!(line("me:plain").is_err());
        assert!(line("nobody").is_err());
        assert!(line("# nothing\n\n").is_err());
        let hash = bcrypt::hash("x", 4).expect("a hash");
        assert_eq!(line(&format!("a:{hash}\n\n#c\nb:{hash}\n")), Ok(2));
    }
}
