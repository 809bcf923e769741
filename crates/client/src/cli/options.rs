//! The options that all commands share. They may stand before the resource's name and after it.

use clap::Args;
use model::Secret;

use crate::{Auth, Endpoint, Error, Result};

/// Where the service is, as whom to speak to it, and how to print.
///
/// The variables are read here and not by clap, which could not tell one of them from an option: what stands in the
/// command line wins, wherever it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Connection and output")]
pub struct Options {
    /// Address of the Block Storage API [env: CINDERBLOCK_ENDPOINT] [default: http://127.0.0.1:8776/v3]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Token; USER:PROJECT where the service does not authenticate [env: CINDERBLOCK_TOKEN]
    #[arg(long, value_parser = secret)]
    token: Option<Secret<String>>,
    /// User and password for HTTP basic authentication [env: CINDERBLOCK_USER]
    #[arg(long, value_name = "USER:PASSWORD", value_parser = secret, conflicts_with = "token")]
    user: Option<Secret<String>>,
    /// Project to work in, when the credentials do not say [env: CINDERBLOCK_PROJECT]
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

fn secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// A variable of the environment; one that is set to nothing is not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Options {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and from `before` what they leave open. Token and user are one thing: as whom.
    pub(super) fn over(self, before: Self) -> Self {
        let names_somebody = self.token.is_some() || self.user.is_some();
        let (token, user) =
            if names_somebody { (self.token, self.user) } else { (before.token, before.user) };
        Self {
            endpoint: self.endpoint.or(before.endpoint),
            token,
            user,
            project: self.project.or(before.project),
            json: self.json || before.json,
        }
    }

    pub(super) fn endpoint(&self) -> Result<Endpoint> {
        let given = self.endpoint.clone().or_else(|| variable("CINDERBLOCK_ENDPOINT"));
        Endpoint::parse(given.as_deref().unwrap_or(Endpoint::DEFAULT))
    }

    pub(super) fn project(&self) -> Option<String> {
        self.project.clone().or_else(|| variable("CINDERBLOCK_PROJECT"))
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn auth(&self) -> Result<Auth> {
        if let Some(user) = &self.user {
            return basic(user.expose());
        }
        if let Some(token) = &self.token {
            return Ok(Auth::Token(token.clone()));
        }
        if let Some(user) = variable("CINDERBLOCK_USER") {
            return basic(&user);
        }
        Ok(variable("CINDERBLOCK_TOKEN").map_or(Auth::None, |token| Auth::Token(Secret::new(token))))
    }
}

fn basic(text: &str) -> Result<Auth> {
    let (user, password) = text
        .split_once(':')
        .ok_or_else(|| Error::Usage("--user (CINDERBLOCK_USER) needs the form USER:PASSWORD".to_owned()))?;
    Ok(Auth::Basic { user: user.to_owned(), password: Secret::new(password.to_owned()) })
}
