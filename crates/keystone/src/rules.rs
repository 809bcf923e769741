//! Access rules: the only requests that the token of an application credential with such rules may be used for.

use serde::Deserialize;

/// The longest path that a rule is held against, bytes.
const LONGEST_PATH: usize = 4096;

/// One kind of request that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AccessRule {
    /// The type of the service.
    service: String,
    method: String,
    /// `{name}` and `*` stand for text without `/`, `**` for any.
    path: String,
}

impl AccessRule {
    /// Whether a request to a service of this type is meant.
    pub(crate) fn allows(&self, service_type: &str, method: &str, path: &str) -> bool {
        self.service == service_type && self.method == method && matches(&self.path, path)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    /// One byte or more, none of them `/`.
    Segment,
    Anything,
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let tag = (first == b'{').then(|| after.iter().position(|byte| *byte == b'}')).flatten();
        let (piece, left) = match (first, tag) {
            (_, Some(end)) => (Piece::Segment, &after[end + 1..]),
            (b'*', _) if after.first() == Some(&b'*') => (Piece::Anything, &after[1..]),
            (b'*', _) => (Piece::Segment, after),
            (byte, _) => (Piece::Byte(byte), after),
        };
        pieces.push(piece);
        rest = left;
    }
    pieces
}

/// Whether a path is of a pattern. Takes time in proportion to the product of both lengths, whatever they hold.
fn matches(pattern: &str, path: &str) -> bool {
    if path.len() > LONGEST_PATH {
        return false;
    }
    // Which prefixes of the path the pieces so far stand for.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for piece in pieces(pattern) {
        let mut next = vec![false; path.len() + 1];
        if piece == Piece::Anything {
            next[0] = reached[0];
        }
        for (at, byte) in path.bytes().enumerate() {
            next[at + 1] = match piece {
                Piece::Byte(wanted) => reached[at] && byte == wanted,
                Piece::Segment => byte != b'/' && (reached[at] || next[at]),
                Piece::Anything => reached[at + 1] || next[at],
            };
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_whole_paths() {
        for (pattern, path, fits) in [
            ("/v3/volumes", "/v3/volumes", true),
            ("/v3/volumes", "/v3/volumes/1", false),
            ("/v3/volumes", "/v3/volume", false),
            ("/v3/volumes/{volume_id}", "/v3/volumes/1", true),
            ("/v3/volumes/{volume_id}", "/v3/volumes/", false),
            ("/v3/volumes/{volume_id}", "/v3/volumes/1/action", false),
            ("/v3/*/volumes", "/v3/p/volumes", true),
            ("/v3/*/volumes", "/v3/p/q/volumes", false),
            ("/v3/**", "/v3/p/q/volumes", true),
            ("/v3/**", "/v3/", true),
            ("/v3/**", "/v2/x", false),
            ("/v3/**/action", "/v3/volumes/1/action", true),
            ("/v3/v.lumes", "/v3/volumes", false),
            ("**", "", true),
            ("", "", true),
            ("", "/", false),
            ("/{", "/{", true),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let pattern = "**a".repeat(80);
        let path = "/".to_owned() + &"a".repeat(3000) + "/";
        assert!(!matches(&pattern, &path));
        assert!(!matches("**", &"/".repeat(LONGEST_PATH + 1)));
    }

    #[test]
    fn service_and_method_count() {
        let rule: AccessRule =
            serde_json::from_str(r#"{"id": "r", "service": "volumev3", "method": "GET", "path": "/v3/**"}"#)
                .unwrap();
        assert!(rule.allows("volumev3", "GET", "/v3/volumes"));
        assert!(!rule.allows("volumev3", "POST", "/v3/volumes"));
        assert!(!rule.allows("compute", "GET", "/v3/volumes"));
    }
}
