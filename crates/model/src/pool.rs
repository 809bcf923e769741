//! Where a volume lives: `host@backend#pool`.

use std::fmt;
use std::str::FromStr;

/// A pool of a backend, or a backend when `pool` is `None`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolRef {
    /// The host (or cluster) part, before `@`.
    pub host: String,
    /// The backend's section name, between `@` and `#`.
    pub backend: Option<String>,
    /// The pool's name, after `#`.
    pub pool: Option<String>,
}

impl PoolRef {
    /// `host@backend`, the service's host name, without the pool.
    pub fn service_host(&self) -> String {
        match &self.backend {
            Some(backend) => format!("{}@{backend}", self.host),
            None => self.host.clone(),
        }
    }
}

impl FromStr for PoolRef {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, pool) = match text.split_once('#') {
            Some((service, pool)) => (service, Some(pool.to_owned())),
            None => (text, None),
        };
        let (host, backend) = match service.split_once('@') {
            Some((host, backend)) => (host.to_owned(), Some(backend.to_owned())),
            None => (service.to_owned(), None),
        };
        Ok(Self { host, backend, pool })
    }
}

impl fmt::Display for PoolRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if let Some(backend) = &self.backend {
            write!(f, "@{backend}")?;
        }
        if let Some(pool) = &self.pool {
            write!(f, "#{pool}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_every_form() {
        for text in ["h", "h@b", "h@b#p", "h#p", "h@b#p#q"] {
            assert_eq!(text.parse::<PoolRef>().unwrap_or_else(|e| match e {}).to_string(), text);
        }
        let pool: PoolRef = "node1@fast#ssd".parse().unwrap_or_else(|e| match e {});
        assert_eq!(pool.service_host(), "node1@fast");
    }
}
