//! Operational parameters: what they are, what we offer, and how a pair is agreed (RFC 7143 section 13).

use crate::pdu::text;
use crate::stream::layout::Digests;

/// The longest data segment that we take, in bytes; declared as `MaxRecvDataSegmentLength`.
pub const SEGMENT_MAX: u32 = 262_144;
/// The longest burst of solicited data, in bytes.
const BURST_MAX: u32 = 1 << 20;
/// The longest burst of unsolicited data, in bytes.
const FIRST_BURST_MAX: u32 = 262_144;
/// Bounds of the length keys (RFC 7143 13.12 to 13.14).
const LENGTHS: std::ops::RangeInclusive<u64> = 512..=(1 << 24) - 1;

/// The outcome of a negotiation, seen from the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    pub digests: Digests,
    /// The longest data segment that the peer takes.
    pub peer_segment: u32,
    pub max_burst: u32,
    pub first_burst: u32,
    pub initial_r2t: bool,
    pub immediate_data: bool,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            peer_segment: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            initial_r2t: true,
            immediate_data: true,
        }
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This is the answer.
    Value(String),
    /// A declaration: no answer is due.
    Nothing,
    /// A declaration that cannot be: it has no answer that could say so.
    Wrong,
    /// The key is not an operational parameter.
    NotOurs,
}

fn value(text: impl ToString) -> Reply {
    Reply::Value(text.to_string())
}

fn rejected() -> Reply {
    value("Reject")
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

const fn yes_no(yes: bool) -> &'static str {
    if yes { "Yes" } else { "No" }
}

impl Params {
    /// Takes one offer into account and says what to answer.
    pub fn offer(&mut self, key: &str, offered: &str) -> Reply {
        match key {
            "HeaderDigest" => digest(&mut self.digests.header, offered),
            "DataDigest" => digest(&mut self.digests.data, offered),
            "MaxRecvDataSegmentLength" => match length(offered) {
                Some(n) => {
                    self.peer_segment = n;
                    Reply::Nothing
                }
                None => Reply::Wrong,
            },
            "MaxBurstLength" => smaller(&mut self.max_burst, offered, BURST_MAX),
            "FirstBurstLength" => smaller(&mut self.first_burst, offered, FIRST_BURST_MAX),
            // OR with our No; AND with our Yes.
            "InitialR2T" => same(&mut self.initial_r2t, offered),
            "ImmediateData" => same(&mut self.immediate_data, offered),
            "DataPDUInOrder" | "DataSequenceInOrder" => match boolean(offered) {
                Some(_) => value("Yes"),
                None => rejected(),
            },
            "MaxConnections" | "MaxOutstandingR2T" => number_or_reject(offered, 1..=65535, |_| 1),
            "ErrorRecoveryLevel" => number_or_reject(offered, 0..=2, |_| 0),
            "DefaultTime2Wait" => number_or_reject(offered, 0..=3600, |n| n.max(2)),
            "DefaultTime2Retain" => number_or_reject(offered, 0..=3600, |_| 0),
            "IFMarker" | "OFMarker" => value("No"),
            "IFMarkInt" | "OFMarkInt" => rejected(),
            "TaskReporting" => {
                if offered.split(',').any(|one| one == "RFC3720") {
                    value("RFC3720")
                } else {
                    rejected()
                }
            }
            "iSCSIProtocolLevel" => number_or_reject(offered, 0..=31, |n| n.min(1)),
            _ => Reply::NotOurs,
        }
    }

    /// What must hold between the parameters when all are agreed: the first burst is no longer than any burst.
    pub fn settle(&mut self) {
        self.first_burst = self.first_burst.min(self.max_burst);
    }
}

fn digest(on: &mut bool, offered: &str) -> Reply {
    for one in offered.split(',').take(16) {
        match one {
            "CRC32C" => {
                *on = true;
                return value(one);
            }
            "None" => {
                *on = false;
                return value(one);
            }
            _ => {}
        }
    }
    rejected()
}

fn length(offered: &str) -> Option<u32> {
    text::number(offered).filter(|n| LENGTHS.contains(n)).and_then(|n| u32::try_from(n).ok())
}

fn smaller(agreed: &mut u32, offered: &str, ours: u32) -> Reply {
    match length(offered) {
        Some(n) => {
            *agreed = n.min(ours);
            value(*agreed)
        }
        None => rejected(),
    }
}

fn same(agreed: &mut bool, offered: &str) -> Reply {
    match boolean(offered) {
        Some(yes) => {
            *agreed = yes;
            value(yes_no(yes))
        }
        None => rejected(),
    }
}

fn number_or_reject(offered: &str, range: std::ops::RangeInclusive<u64>, pick: fn(u64) -> u64) -> Reply {
    match text::number(offered).filter(|n| range.contains(n)) {
        Some(n) => value(pick(n)),
        None => rejected(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offers_of_open_iscsi() {
        let mut params = Params::default();
        for (key, offered, answer) in [
            ("HeaderDigest", "None", value("None")),
            ("DataDigest", "CRC32C,None", value("CRC32C")),
            ("DefaultTime2Wait", "2", value("2")),
            ("DefaultTime2Retain", "0", value("0")),
            ("IFMarker", "No", value("No")),
            ("OFMarker", "No", value("No")),
            ("ErrorRecoveryLevel", "0", value("0")),
            ("InitialR2T", "No", value("No")),
            ("ImmediateData", "Yes", value("Yes")),
            ("MaxBurstLength", "16776192", value("1048576")),
            ("FirstBurstLength", "262144", value("262144")),
            ("MaxOutstandingR2T", "1", value("1")),
            ("MaxConnections", "1", value("1")),
            ("DataPDUInOrder", "Yes", value("Yes")),
            ("DataSequenceInOrder", "Yes", value("Yes")),
            ("MaxRecvDataSegmentLength", "262144", Reply::Nothing),
        ] {
            assert_eq!(params.offer(key, offered), answer, "{key}");
        }
        assert!(params.digests == (Digests { header: false, data: true }) && !params.initial_r2t);
        assert_eq!((params.max_burst, params.first_burst, params.peer_segment), (1 << 20, 262_144, 262_144));
    }

    #[test]
    fn bad_values_are_rejected_and_change_nothing() {
        let mut params = Params::default();
        for (key, offered) in [
            ("MaxBurstLength", "abc"),
            ("MaxBurstLength", "100000000000000000000"),
            ("InitialR2T", "yes"),
            ("HeaderDigest", "MD5"),
            ("MaxConnections", "0"),
            ("OFMarkInt", "2048~8192"),
        ] {
            assert_eq!(params.offer(key, offered), rejected(), "{key}={offered}");
        }
        assert_eq!(params.offer("MaxRecvDataSegmentLength", "1"), Reply::Wrong);
        assert_eq!(params.offer("MaxRecvDataSegmentLength", "16777216"), Reply::Wrong);
        assert_eq!(params, Params::default());
        assert_eq!(params.offer("X-com.example.key", "1"), Reply::NotOurs);
    }

    proptest! {
        #[test]
        fn any_offer_leaves_sane_parameters(offers in proptest::collection::vec(("[A-Za-z0-9]{1,30}", "\\PC{0,30}"), 0..20)) {
            let mut params = Params::default();
            for (key, offered) in &offers {
                params.offer(key, offered);
            }
            params.settle();
            prop_assert!(params.first_burst <= params.max_burst);
            prop_assert!(params.max_burst <= BURST_MAX && params.peer_segment >= 512);
        }
    }
}
