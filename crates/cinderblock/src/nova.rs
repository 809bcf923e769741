//! Nova, asked about servers in the caller's name.

use anyhow::Context as _;
use async_trait::async_trait;
use control::compute::Compute;
use control::{Context, Error};
use keystone::{Options, Peer, Session};
use model::VolumeId;
use model::catalogue::Wanted;
use model::config::Config;

/// The first microversion whose answer names the attachment.
const MICROVERSION: &str = "compute 2.89";

/// The compute service of the callers' catalogues.
#[derive(Debug)]
pub struct Nova {
    peer: Peer,
    wanted: Wanted,
    /// Our own login, for the catalogue of callers who came without one.
    own: Session,
    /// Whose token tells Nova that a service asks, if it is to be told.
    service_user: Option<Session>,
}

impl Nova {
    /// Reads `[nova]` and `[service_user]`; `own` is the service's login of `[keystone_authtoken]`.
    ///
    /// # Errors
    /// The first option that cannot be used, with its place.
    pub fn open(config: &Config, own: Session) -> anyhow::Result<Self> {
        let section = config.section("nova");
        let interface: String = section.get("interface")?.unwrap_or_else(|| "public".into());
        let wanted = Wanted {
            service_type: "compute".into(),
            service_name: None,
            interface: interface.parse().map_err(|error| section.error("interface", format!("{error}")))?,
            region: section.get::<String>("region_name")?.filter(|region| !region.is_empty()),
        };
        Ok(Self { peer: Peer::open(config, "nova")?, wanted, own, service_user: service_user(config)? })
    }

    async fn ask(&self, context: &Context, server: &str, volume: VolumeId) -> Result<Option<String>, String> {
        let delegation = context.delegation.as_ref().ok_or("the caller came without a token")?;
        let endpoint = match delegation.catalogue.find(&self.wanted) {
            Some(url) => url.to_owned(),
            None => self.own.endpoint(&self.wanted).await.map_err(|error| error.to_string())?,
        };
        let service_token = match &self.service_user {
            Some(session) => Some(session.token().await.map_err(|error| error.to_string())?),
            None => None,
        };
        let mut headers = vec![
            ("X-Auth-Token", delegation.token.expose().as_str()),
            ("OpenStack-API-Version", MICROVERSION),
            ("X-OpenStack-Request-ID", context.request_id.as_str()),
        ];
        headers
            .extend(service_token.as_ref().map(|token| ("X-Service-Token", token.secret.expose().as_str())));
        let volume = volume.to_string();
        let path = ["servers", server, "os-volume_attachments", &volume];
        let answer = self.peer.get(&endpoint, &path, &headers).await.map_err(|error| error.to_string())?;
        let Some(answer) = answer else { return Ok(None) };
        let id = answer["volumeAttachment"]["attachment_id"].as_str();
        id.map(|id| Some(id.to_owned())).ok_or_else(|| "its answer names no attachment".to_owned())
    }
}

fn service_user(config: &Config) -> anyhow::Result<Option<Session>> {
    const SECTION: &str = "service_user";
    if !config.section(SECTION).get::<bool>("send_service_user_token")?.unwrap_or(false) {
        return Ok(None);
    }
    let options = Options::read(config, SECTION)?;
    let options =
        options.context("[service_user] send_service_user_token needs auth_url, username and password")?;
    Ok(Some(Session::new(options)?))
}

#[async_trait]
impl Compute for Nova {
    async fn attachment_of(
        &self,
        context: &Context,
        server: &str,
        volume: VolumeId,
    ) -> Result<Option<String>, Error> {
        self.ask(context, server, volume).await.map_err(|why| {
            tracing::error!(server, %volume, why, "the compute service does not say whether a server uses a volume");
            Error::Unavailable("The compute service is temporarily unavailable.".into())
        })
    }
}
