//! Metadata of volumes, with the entity tags that keep updates from being lost.

use std::collections::BTreeMap;

use control::request::MetadataWrite;
use http::header;
use md5::{Digest, Md5};
use model::VolumeId;
use serde_json::json;
use wire::microversion::Behaviour;
use wire::read::texts;

use crate::answer::{Answer, Outcome};
use crate::call::Call;
use crate::fault::Fault;
use crate::volume::{id, metadata_answer};

type Metadata = BTreeMap<String, String>;

/// `GET .../metadata`.
pub async fn list(call: Call) -> Outcome {
    let metadata = call.edge.cloud.volume_metadata(&call.context, id(&call)?).await?;
    if !call.version.has(Behaviour::MetadataEtag) {
        return Ok(metadata_answer(&metadata));
    }
    let (body, etag) = tagged(&metadata);
    Ok(Answer::tagged(body, &etag))
}

/// `POST .../metadata`: added to what is there.
pub async fn merge(call: Call) -> Outcome {
    write(&call, MetadataWrite::Merge).await
}

/// `PUT .../metadata`: in place of what is there.
pub async fn replace(call: Call) -> Outcome {
    if !unchanged(&call, id(&call)?).await? {
        return Ok(Answer::precondition_failed());
    }
    write(&call, MetadataWrite::Replace).await
}

async fn write(call: &Call, how: MetadataWrite) -> Outcome {
    let wanted = texts(call.object("metadata"));
    let metadata = call.edge.cloud.volume_metadata_write(&call.context, id(call)?, &wanted, how).await?;
    Ok(metadata_answer(&metadata))
}

/// `GET .../metadata/{key}`.
pub async fn show(call: Call) -> Outcome {
    let id = id(&call)?;
    let key = call.param("key");
    let mut metadata = call.edge.cloud.volume_metadata(&call.context, id).await?;
    let value = metadata.remove(key).ok_or_else(|| missing(id, key))?;
    Ok(Answer::json(json!({"meta": {key: value}})))
}

/// `PUT .../metadata/{key}`.
pub async fn set(call: Call) -> Outcome {
    let id = id(&call)?;
    if !unchanged(&call, id).await? {
        return Ok(Answer::precondition_failed());
    }
    let pair = call.object("meta");
    let key = call.param("key");
    let Some(value) = pair.get(key).and_then(|value| value.as_str()) else {
        return Err(Fault::bad_request("Request body and URI mismatch"));
    };
    call.edge.cloud.volume_metadata_set(&call.context, id, key, value).await?;
    Ok(Answer::json(json!({"meta": pair})))
}

/// `DELETE .../metadata/{key}`.
pub async fn unset(call: Call) -> Outcome {
    call.edge.cloud.volume_metadata_unset(&call.context, id(&call)?, call.param("key")).await?;
    Ok(Answer::bare())
}

fn missing(id: VolumeId, key: &str) -> Fault {
    Fault::not_found(format!("Volume {id} has no metadata with key {key}."))
}

/// The body that lists the metadata, and its digest.
fn tagged(metadata: &Metadata) -> (Vec<u8>, String) {
    let body = json!({"metadata": metadata}).to_string().into_bytes();
    let digest = Md5::digest(&body);
    let etag = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    (body, etag)
}

/// Whether the metadata still is what the caller has seen, when they say what that was.
async fn unchanged(call: &Call, id: VolumeId) -> Result<bool, Fault> {
    let seen = call.headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    let Some(seen) = seen.filter(|_| call.version.has(Behaviour::MetadataEtag)) else { return Ok(true) };
    let (_, etag) = tagged(&call.edge.cloud.volume_metadata(&call.context, id).await?);
    Ok(matches(seen, &etag))
}

/// Whether an `If-Match` list holds the tag.
fn matches(list: &str, etag: &str) -> bool {
    let mut tags = list.split(',').map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'));
    list.trim() == "*" || tags.any(|tag| tag == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_digests_of_the_body_and_match_in_any_dress() {
        let (body, etag) = tagged(&Metadata::from([("k".into(), "v".into())]));
        assert_eq!(body, br#"{"metadata":{"k":"v"}}"#);
        assert_eq!(etag.len(), 32);
        assert_ne!(etag, tagged(&Metadata::new()).1);
        for good in [
            etag.clone(),
            format!("\"{etag}\""),
            format!("W/\"{etag}\""),
            format!("\"x\", \"{etag}\""),
            "*".into(),
        ] {
            assert!(matches(&good, &etag), "{good}");
        }
        assert!(!matches("deadbeef", &etag));
    }
}
