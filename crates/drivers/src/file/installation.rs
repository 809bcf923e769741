//! Whose the directory is. Two installations in one directory would each take the other's volumes for strays, so that the
//! first one leaves its mark there, and another is refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::job::Claim;
use model::{InstallationId, JobId};

use super::dir::Dir;
use super::names::INSTALLATION;
use crate::error::{DriverError, ErrorKind, Result};

/// An installation: what shares a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The database's identity.
    pub id: InstallationId,
    /// For operators: one place where it runs.
    pub place: String,
}

impl Installation {
    /// What the mark holds.
    fn text(&self) -> String {
        format!("installation {}\nmarked by {}\n", self.id, self.place)
    }

    /// Reads a mark.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let id = lines.next()?.strip_prefix("installation ")?.trim().parse().ok()?;
        let place = lines.next().and_then(|line| line.strip_prefix("marked by ")).unwrap_or("somebody");
        Some(Self { id, place: place.trim().to_owned() })
    }

    /// Marks the directory at `path` as this installation's, unless it is that already.
    ///
    /// # Errors
    /// `Invalid` when it is another's; the mark can be neither read nor made.
    pub(super) fn take(&self, dir: &Arc<Dir>, path: &Path) -> Result<()> {
        if dir.text(INSTALLATION)?.is_none() {
            let claim = Claim::new(JobId::new(), 1, Duration::from_secs(60));
            let mark = dir.make(INSTALLATION, &claim)?;
            mark.write_text(&self.text())?;
            // Another that starts at the same time may be first: what is there then decides for both.
            mark.publish_new(&claim)?;
            dir.sync()?;
        }
        let found = dir.text(INSTALLATION)?.unwrap_or_default();
        match Self::parse(&found) {
            Some(owner) if owner.id == self.id => Ok(()),
            owner => Err(DriverError::new(ErrorKind::Invalid, self.refusal(owner.as_ref(), path))),
        }
    }

    fn refusal(&self, owner: Option<&Self>, path: &Path) -> String {
        let owner = owner.map_or_else(
            || "an unknown installation".to_owned(),
            |owner| format!("installation {} ({})", owner.id, owner.place),
        );
        format!(
            "the directory {} belongs to {owner}, and this is installation {} ({}): each needs a directory of its own. If \
             the other one is gone, remove {} to take the directory over",
            path.display(),
            self.id,
            self.place,
            path.join(INSTALLATION).display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let one = Installation { id: InstallationId::new(), place: "h, data in /x y".into() };
        assert_eq!(Installation::parse(&one.text()), Some(one));
        assert_eq!(Installation::parse(""), None);
        assert_eq!(Installation::parse("something else"), None);
    }
}
