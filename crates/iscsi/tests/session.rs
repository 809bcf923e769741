//! Sessions byte by byte: what is negotiated is kept to, task management waits for the device, unit attentions and
//! reservations reach whom they concern.

#![allow(clippy::unwrap_used)] // test code

mod support;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use iscsi::pdu::{Bhs, NO_TAG, flag, op};
use iscsi::{Access, Limits, ReservationState, ReservationStore, Target, TargetError};
use model::BlockDevice;
use support::device::Memory;
use support::gated::Gated;
use support::raw::*;
use support::*;

const MIB: usize = 1 << 20;
const GOOD: u8 = 0;
const CONFLICT: u8 = 0x18;

const ONE: [u8; 6] = [0x80, 0, 0, 0, 0, 1];
const TWO: [u8; 6] = [0x80, 0, 0, 0, 0, 2];

/// The bytes of a login answer, every one of them.
#[tokio::test]
async fn the_login_answer_to_the_byte() {
    let target = serving(Memory::new(MIB)).await;
    let mut raw = Raw::connect(&target).await;
    let mut text = names();
    text.extend_from_slice(&keys(&[
        ("HeaderDigest", "None"),
        ("MaxBurstLength", "16776192"),
        ("InitialR2T", "No"),
    ]));
    let mut request = login(1, Some(3));
    request.set_exp_sn(55);
    raw.send(request, &text).await;
    let answer = raw.receive().await;
    let expected_text: &[u8] =
        b"TargetPortalGroupTag=1\0HeaderDigest=None\0MaxBurstLength=1048576\0InitialR2T=No\0\
MaxRecvDataSegmentLength=262144\0";
    assert_eq!(answer.data, expected_text);
    let mut expected = Bhs([0; 48]);
    expected.0[0] = 0x23;
    expected.0[1] = 0x87;
    expected.set_data_len(expected_text.len());
    expected.0[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 9]);
    expected.set_u16(14, 1);
    expected.set_itt(7);
    expected.set_sn(55);
    expected.set_window(100, 100 + 127);
    assert_eq!(answer.bhs, expected);
    // The login request was immediate: its CmdSN is the first command's.
    raw.cmd_sn = 100;
    let first = raw.command(&[0x00], 0, &[]).await;
    assert_eq!(first.sense(), (6, 0x29, 0));
    assert_eq!((first.bhs.sn(), first.bhs.exp_sn(), first.bhs.u32_at(32)), (56, 101, 101 + 127));
    target.shutdown().await;
}

#[tokio::test]
async fn a_login_in_steps() {
    let target = serving(Memory::new(MIB)).await;
    let mut raw = Raw::connect(&target).await;
    // Security first, its text in two pieces.
    let text = [names(), keys(&[("AuthMethod", "CHAP,None")])].concat();
    let (head, tail) = text.split_at(40);
    let mut request = login(0, None);
    request.0[1] |= flag::CONTINUE;
    raw.send(request, head).await;
    let answer = raw.receive().await;
    assert_eq!((answer.bhs.flags(), answer.data.len()), (0, 0));
    raw.send(login(0, Some(1)), tail).await;
    let answer = raw.receive().await;
    assert_eq!((answer.bhs.flags(), answer.value("AuthMethod").as_deref()), (0x81, Some("None")));
    // Nothing to say, not yet.
    raw.send(login(1, None), &[]).await;
    assert_eq!(raw.receive().await.bhs.flags(), 0x04);
    raw.send(login(1, Some(3)), &keys(&[("DataDigest", "None")])).await;
    let answer = raw.receive().await;
    assert_eq!((answer.bhs.flags(), answer.login_status()), (0x87, (0, 0)));
    assert_ne!(answer.bhs.u16_at(14), 0);
    // A tag that changes in the middle ends it.
    let mut raw = Raw::connect(&target).await;
    raw.send(login(0, None), &names()).await;
    assert_eq!(raw.receive().await.login_status(), (0, 0));
    let mut other = login(0, Some(1));
    other.set_itt(8);
    raw.send(other, &[]).await;
    assert_eq!(raw.receive().await.login_status(), (2, 0));
    raw.closed().await;
    target.shutdown().await;
}

/// Reads all Data-In of the last command; checks every PDU against what was negotiated.
async fn data_in(raw: &mut Raw, segment: usize, burst: usize) -> Vec<u8> {
    let mut data = Vec::new();
    for data_sn in 0.. {
        let pdu = raw.receive().await;
        assert_eq!(pdu.bhs.opcode(), op::DATA_IN, "{:?}", pdu.bhs);
        assert!(pdu.data.len() <= segment);
        assert_eq!((pdu.bhs.data_sn(), pdu.bhs.offset() as usize), (data_sn, data.len()));
        data.extend_from_slice(&pdu.data);
        let last = pdu.bhs.has(flag::STATUS);
        assert!(
            data.len().div_ceil(burst) == (data.len() - pdu.data.len()) / burst + 1,
            "a PDU crosses a burst"
        );
        assert_eq!(pdu.bhs.has(flag::FINAL), last || data.len() % burst == 0);
        if last {
            return data;
        }
    }
    unreachable!("the last PDU carries status")
}

/// Sends the data of the last command as R2Ts ask for it; the answer.
async fn send_asked(raw: &mut Raw, data: &[u8], segment: usize, burst: usize, from: usize) -> Pdu {
    let mut at = from;
    loop {
        let pdu = raw.receive().await;
        if pdu.bhs.opcode() != op::R2T {
            return pdu;
        }
        let length = pdu.bhs.u32_at(44) as usize;
        assert_eq!(pdu.bhs.offset() as usize, at);
        assert!(length <= burst);
        for (n, piece) in data[at..at + length].chunks(segment).enumerate() {
            let offset = at + n * segment;
            let last = offset + piece.len() == at + length;
            let bhs = raw.data_out(pdu.bhs.ttt(), n as u32, offset as u32, last);
            raw.send(bhs, piece).await;
        }
        at += length;
    }
}

/// Whatever sizes are agreed, the bytes arrive.
#[tokio::test]
async fn every_negotiated_size_is_kept_to() {
    let device = Memory::new(8 * MIB);
    let target = serving(device.clone()).await;
    for (segment, burst, first, digests) in [
        (512, 512, 512, "None"),
        (513, 4096, 1000, "CRC32C"),
        (1021, 5000, 4096, "None"),
        (8192, 262_144, 65_536, "CRC32C"),
        (4096, 1000, 600, "None"),
        (262_144, 300_001, 262_144, "CRC32C"),
        (65_536, 1 << 20, 8192, "None"),
    ] {
        for (initial, immediate) in [("Yes", "No"), ("Yes", "Yes"), ("No", "No"), ("No", "Yes")] {
            let (s, b, f) = (segment.to_string(), burst.to_string(), first.to_string());
            let parameters = [
                ("MaxRecvDataSegmentLength", s.as_str()),
                ("MaxBurstLength", &b),
                ("FirstBurstLength", &f),
                ("InitialR2T", initial),
                ("ImmediateData", immediate),
                ("HeaderDigest", digests),
                ("DataDigest", digests),
            ];
            let mut raw = Raw::full(&target, &parameters).await;
            let first = usize::min(first, burst);
            for blocks in [1u16, 3, 40, 700, 3000] {
                let data = pattern(usize::from(blocks) * 512, u64::from(blocks) + segment as u64);
                let mut bhs = raw.request(&write10(8, blocks), 0, &data);
                // Unsolicited as much as is allowed.
                let mut sent = 0;
                if immediate == "Yes" {
                    sent = data.len().min(first).min(segment);
                }
                let burst_out = initial == "No" && sent < data.len().min(first);
                if burst_out {
                    bhs.0[1] &= !flag::FINAL;
                }
                raw.send(bhs, &data[..sent]).await;
                if burst_out {
                    let end = data.len().min(first);
                    for (n, piece) in data[sent..end].chunks(segment).enumerate() {
                        let offset = sent + n * segment;
                        let last = offset + piece.len() == end;
                        let bhs = raw.data_out(NO_TAG, n as u32, offset as u32, last);
                        raw.send(bhs, piece).await;
                    }
                    sent = end;
                }
                let answer = send_asked(&mut raw, &data, segment, burst, sent).await;
                assert_eq!(answer.bhs.0[3], GOOD, "{answer:?}");
                assert!(device.bytes(8 * 512, data.len()) == data, "{parameters:?}, {blocks} blocks");
                let bhs = raw.request(&read10(8, blocks), data.len() as u32, &[]);
                raw.send(bhs, &[]).await;
                assert!(data_in(&mut raw, segment, burst).await == data, "{parameters:?}, {blocks} blocks");
            }
        }
    }
    target.shutdown().await;
}

#[tokio::test]
async fn little_memory_slows_down_but_stops_nothing() {
    let limits = Limits { connection_memory: 300_000, ..Limits::default() };
    let target = target_with(limits).await;
    let device = Memory::new(64 * MIB);
    target.put(open(device.clone())).await.unwrap();
    let lun = connect(&target).await;
    let mut work = tokio::task::JoinSet::new();
    for n in 0..32u64 {
        let lun = lun.clone();
        work.spawn(async move {
            let data = pattern(2 * MIB, n);
            lun.write(n * 2 * MIB as u64, &data).await.unwrap();
            let mut back = vec![0; data.len()];
            lun.read(n * 2 * MIB as u64, &mut back).await.unwrap();
            assert!(back == data);
        });
    }
    // Room is noticed when it is made, not when a clock ticks: that took minutes.
    let all = async {
        while let Some(done) = work.join_next().await {
            done.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(40), all).await.unwrap();
    target.shutdown().await;
}

#[tokio::test]
async fn without_memory_the_initiator_is_told_to_wait() {
    let target = target_with(Limits { memory: 0, ..Limits::default() }).await;
    target.put(open(Memory::new(MIB))).await.unwrap();
    let mut raw = Raw::full(&target, &[("InitialR2T", "Yes"), ("ImmediateData", "No")]).await;
    // The first write waits for its data: from now on the target holds memory.
    let first = raw.request(&write10(0, 8), 0, &[0; 4096]);
    raw.send(first, &[]).await;
    let r2t = raw.receive().await.bhs;
    let bhs = raw.request(&read10(0, 1), 512, &[]);
    let itt = bhs.itt();
    raw.send(bhs, &[]).await;
    let answer = raw.receive().await.bhs;
    assert_eq!(answer.itt(), itt);
    assert_eq!((answer.opcode(), answer.0[3]), (op::SCSI_RESPONSE, 0x28), "TASK SET FULL");
    raw.itt = r2t.itt();
    let data = raw.data_out(r2t.ttt(), 0, 0, true);
    raw.send(data, &[1; 4096]).await;
    assert_eq!(raw.receive().await.bhs.0[3], GOOD);
    target.shutdown().await;
}

/// An aborted write is answered as aborted only when the device is through with it, and not at all by itself.
#[tokio::test]
async fn aborts_wait_for_the_device() {
    for function in [1, 2, 4, 5, 6] {
        let device = Gated::new(MIB);
        let target = serving(device.clone()).await;
        let mut raw = Raw::full(&target, &[]).await;
        let write = raw.request(&write10(0, 1), 0, &[1; 512]);
        raw.send(write, &[1; 512]).await;
        device.entered(1).await;
        let abort = raw.management(function, write.itt());
        raw.send(abort, &[]).await;
        raw.silent().await;
        device.gate.add_permits(1);
        let answer = raw.receive().await.bhs;
        assert_eq!((answer.opcode(), answer.0[2]), (op::TASK_MANAGEMENT_RESPONSE, 0), "function {function}");
        raw.silent().await;
        target.shutdown().await;
    }
}

#[tokio::test]
async fn a_write_that_waits_for_its_data_is_aborted_at_once() {
    let target = serving(Memory::new(MIB)).await;
    let mut raw = Raw::full(&target, &[("ImmediateData", "No")]).await;
    let write = raw.request(&write10(0, 1), 0, &[1; 512]);
    raw.send(write, &[]).await;
    let r2t = raw.receive().await.bhs;
    let abort = raw.management(1, write.itt());
    raw.send(abort, &[]).await;
    assert_eq!(raw.receive().await.bhs.0[2], 0);
    // Its data, already on its way, goes nowhere.
    raw.itt = write.itt();
    let data = raw.data_out(r2t.ttt(), 0, 0, true);
    raw.send(data, &[1; 512]).await;
    raw.itt += 1;
    raw.alive().await;
    target.shutdown().await;
}

#[tokio::test]
async fn an_abort_that_overtakes_its_command_counts_as_done() {
    let device = Memory::new(MIB);
    let target = serving(device.clone()).await;
    let mut raw = Raw::full(&target, &[]).await;
    let write = raw.request(&write10(0, 1), 0, &[1; 512]);
    let mut abort = raw.management(1, write.itt());
    abort.set_u32(32, write.sn());
    raw.send(abort, &[]).await;
    let answer = raw.receive().await.bhs;
    assert_eq!((answer.0[2], answer.exp_sn()), (0, write.sn().wrapping_add(1)));
    raw.send(write, &[1; 512]).await;
    raw.silent().await;
    assert_eq!(raw.command(&[0x00], 0, &[]).await.bhs.0[3], GOOD);
    assert_eq!(device.bytes(0, 512), vec![0; 512]);
    target.shutdown().await;
}

/// A reset ends the commands of other sessions too, and waits for them.
#[tokio::test]
async fn a_reset_reaches_every_session() {
    let device = Gated::new(MIB);
    let target = serving(device.clone()).await;
    let mut one = Raw::full_as(&target, ONE, &[]).await;
    let mut two = Raw::full_as(&target, TWO, &[]).await;
    let write = one.request(&write10(0, 1), 0, &[1; 512]);
    one.send(write, &[1; 512]).await;
    device.entered(1).await;
    let reset = two.management(5, NO_TAG);
    two.send(reset, &[]).await;
    two.silent().await;
    device.gate.add_permits(1);
    assert_eq!(two.receive().await.bhs.0[2], 0);
    one.silent().await;
    for raw in [&mut one, &mut two] {
        assert_eq!(raw.command(&[0x00], 0, &[]).await.sense(), (6, 0x29, 0x03));
        assert_eq!(raw.command(&[0x00], 0, &[]).await.bhs.0[3], GOOD);
    }
    target.shutdown().await;
}

/// Two sessions that reset each other's commands and end at once do not wait for each other for ever.
#[tokio::test]
async fn crossing_resets_come_to_an_end() {
    let device = Gated::new(MIB);
    let target = serving(device.clone()).await;
    let mut sessions = Vec::new();
    for n in 0..4u8 {
        let mut raw = Raw::full_as(&target, [0x80, 0, 0, 0, 1, n], &[]).await;
        let write = raw.request(&write10(u32::from(n), 1), 0, &[1; 512]);
        raw.send(write, &[1; 512]).await;
        sessions.push(raw);
    }
    device.entered(4).await;
    for raw in &mut sessions {
        let reset = raw.management(5, NO_TAG);
        raw.send(reset, &[]).await;
    }
    drop(sessions);
    device.gate.add_permits(4);
    until(|| target.sessions().is_empty()).await;
    tokio::time::timeout(Duration::from_secs(5), target.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_cold_reset_ends_every_session() {
    let target = serving(Memory::new(MIB)).await;
    let mut one = Raw::full_as(&target, ONE, &[]).await;
    let mut two = Raw::full_as(&target, TWO, &[]).await;
    let reset = two.management(7, NO_TAG);
    two.send(reset, &[]).await;
    assert_eq!(two.receive().await.bhs.0[2], 0);
    two.closed().await;
    one.closed().await;
    until(|| target.sessions().is_empty()).await;
    target.shutdown().await;
}

#[tokio::test]
async fn a_silent_peer_is_asked_and_then_left() {
    let limits = Limits { idle: Duration::from_millis(500), ..Limits::default() };
    let target = target_with(limits).await;
    target.put(open(Memory::new(MIB))).await.unwrap();
    let mut raw = Raw::full(&target, &[]).await;
    let ping = raw.receive().await.bhs;
    assert_eq!((ping.opcode(), ping.itt()), (op::NOP_IN, NO_TAG));
    assert_ne!(ping.ttt(), NO_TAG);
    raw.closed().await;
    // One who answers stays.
    let lun = connect(&target).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(target.sessions().len(), 1);
    lun.read(0, &mut [0; 512]).await.unwrap();
    target.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_owes_data_is_cut_off() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let target = target_with(limits).await;
    target.put(open(Memory::new(MIB))).await.unwrap();
    let mut raw = Raw::full(&target, &[("ImmediateData", "No")]).await;
    let write = raw.request(&write10(0, 1), 0, &[1; 512]);
    raw.send(write, &[]).await;
    assert_eq!(raw.receive().await.bhs.opcode(), op::R2T);
    raw.closed().await;
    // The same in the middle of a PDU.
    let mut raw = Raw::full(&target, &[]).await;
    let mut write = raw.request(&write10(0, 1), 0, &[1; 512]);
    write.set_data_len(512);
    raw.send_as_is(&write, &[1; 100]).await;
    raw.closed().await;
    target.shutdown().await;
}

#[tokio::test]
async fn logout_ends_the_session() {
    let target = serving(Memory::new(MIB)).await;
    for reason in [0, 1] {
        let mut raw = Raw::full(&target, &[]).await;
        let mut bhs = Bhs::new(op::LOGOUT);
        bhs.0[1] |= reason;
        bhs.set_itt(99);
        bhs.set_sn(raw.cmd_sn);
        raw.send(bhs, &[]).await;
        let answer = raw.receive().await.bhs;
        assert_eq!((answer.opcode(), answer.0[2], answer.itt()), (op::LOGOUT_RESPONSE, 0, 99));
        raw.closed().await;
    }
    until(|| target.sessions().is_empty()).await;
    target.shutdown().await;
}

/// COMPARE AND WRITE is atomic against all others: four sessions count one number up together.
#[tokio::test(flavor = "multi_thread")]
async fn compare_and_write_loses_no_count() {
    let target = Arc::new(serving(Memory::new(MIB)).await);
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..4u8 {
        let target = target.clone();
        workers.spawn(async move {
            let mut raw = Raw::full_as(&target, [0x80, 0, 0, 0, 0, n], &[]).await;
            let mut counted = 0;
            while counted < 50 {
                let read = raw.request(&read10(0, 1), 512, &[]);
                raw.send(read, &[]).await;
                let old = raw.receive().await.data;
                let value = u64::from_le_bytes(old[..8].try_into().unwrap());
                let mut new = old.clone();
                new[..8].copy_from_slice(&(value + 1).to_le_bytes());
                let mut cdb = long(0x89, 0, 0, 0);
                cdb[13] = 1;
                let answer = raw.command(&cdb, 0, &[old, new].concat()).await;
                match answer.bhs.0[3] {
                    GOOD => counted += 1,
                    _ => assert_eq!(answer.sense(), (0x0e, 0x1d, 0)),
                }
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    let mut raw = Raw::full(&target, &[]).await;
    let answer = raw.command(&read10(0, 1), 512, &[]).await;
    assert_eq!(u64::from_le_bytes(answer.data[..8].try_into().unwrap()), 200);
    target.shutdown().await;
}

#[tokio::test]
async fn a_growing_unit_tells_every_nexus_once() {
    let device = Memory::new(MIB);
    let target = serving(device.clone()).await;
    let mut one = Raw::full_as(&target, ONE, &[]).await;
    let mut two = Raw::full_as(&target, TWO, &[]).await;
    device.grow(2 * MIB);
    target.capacity_changed(IQN, 0).unwrap();
    // READ CAPACITY follows at once; INQUIRY passes by.
    let inquiry = one.command(&[0x12, 0, 0, 0, 36, 0], 36, &[]).await;
    assert_eq!(inquiry.bhs.opcode(), op::DATA_IN);
    for raw in [&mut one, &mut two] {
        assert_eq!(raw.command(&[0x00], 0, &[]).await.sense(), (6, 0x2a, 0x09));
        let capacity = raw.command(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8, &[]).await;
        assert_eq!(u32::from_be_bytes(capacity.data[..4].try_into().unwrap()), (2 * MIB / 512) as u32 - 1);
    }
    target.shutdown().await;
}

// Persistent reservations.

const KEY_ONE: u64 = 0x1111;
const KEY_TWO: u64 = 0x2222;

/// PERSISTENT RESERVE OUT with its basic parameter list; the status.
async fn reserve_out(raw: &mut Raw, action: u8, kind: u8, key: u64, action_key: u64, keep: bool) -> u8 {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&action_key.to_be_bytes());
    list[20] = u8::from(keep);
    raw.command(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], 0, &list).await.bhs.0[3]
}

/// PERSISTENT RESERVE IN.
async fn reserve_in(raw: &mut Raw, action: u8) -> Vec<u8> {
    raw.command(&[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], 256, &[]).await.data
}

#[tokio::test]
async fn a_reservation_keeps_others_from_writing() {
    let target = serving(Memory::new(MIB)).await;
    let mut one = Raw::full_as(&target, ONE, &[]).await;
    let mut two = Raw::full_as(&target, TWO, &[]).await;
    assert_eq!(reserve_out(&mut one, 0, 0, 0, KEY_ONE, false).await, GOOD);
    assert_eq!(reserve_out(&mut one, 1, 1, KEY_ONE, 0, false).await, GOOD);
    // Write exclusive: every kind of write of others is refused, reads are not.
    let unmap = [vec![0, 22, 0, 16, 0, 0, 0, 0], vec![0; 16]].concat();
    assert_eq!(two.command(&write10(0, 1), 0, &[1; 512]).await.bhs.0[3], CONFLICT);
    assert_eq!(two.command(&long(0x93, 0, 0, 1), 0, &[1; 512]).await.bhs.0[3], CONFLICT);
    assert_eq!(two.command(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 0, &unmap).await.bhs.0[3], CONFLICT);
    assert_eq!(two.command(&long(0x91, 0, 0, 0), 0, &[]).await.bhs.0[3], CONFLICT);
    assert_eq!(two.command(&read10(0, 1), 512, &[]).await.data, vec![0; 512]);
    assert_eq!(one.command(&write10(0, 1), 0, &[1; 512]).await.bhs.0[3], GOOD);
    // The other one registers and takes it over.
    assert_eq!(reserve_out(&mut two, 0, 0, 0, KEY_TWO, false).await, GOOD);
    assert_eq!(reserve_out(&mut two, 4, 3, KEY_TWO, KEY_ONE, false).await, GOOD);
    assert_eq!(one.command(&read10(0, 1), 512, &[]).await.sense(), (6, 0x2a, 0x05));
    assert_eq!(one.command(&read10(0, 1), 512, &[]).await.bhs.0[3], CONFLICT);
    let held = reserve_in(&mut one, 1).await;
    assert_eq!((&held[8..16], held[21]), (&KEY_TWO.to_be_bytes()[..], 3));
    // A lost session keeps its reservation.
    drop(two);
    until(|| target.sessions().len() == 1).await;
    assert_eq!(one.command(&read10(0, 1), 512, &[]).await.bhs.0[3], CONFLICT);
    target.shutdown().await;
}

/// Preempt and abort ends what the loser has in the device before it is answered.
#[tokio::test]
async fn preempt_and_abort_waits_for_the_losers_writes() {
    let device = Gated::new(MIB);
    let target = serving(device.clone()).await;
    let mut one = Raw::full_as(&target, ONE, &[]).await;
    let mut two = Raw::full_as(&target, TWO, &[]).await;
    assert_eq!(reserve_out(&mut one, 0, 0, 0, KEY_ONE, false).await, GOOD);
    assert_eq!(reserve_out(&mut one, 1, 5, KEY_ONE, 0, false).await, GOOD);
    assert_eq!(reserve_out(&mut two, 0, 0, 0, KEY_TWO, false).await, GOOD);
    let write = one.request(&write10(0, 1), 0, &[1; 512]);
    one.send(write, &[1; 512]).await;
    device.entered(1).await;
    let mut list = [0; 24];
    list[..8].copy_from_slice(&KEY_TWO.to_be_bytes());
    list[8..16].copy_from_slice(&KEY_ONE.to_be_bytes());
    let preempt = two.request(&[0x5f, 5, 5, 0, 0, 0, 0, 0, 24, 0], 0, &list);
    two.send(preempt, &list).await;
    two.silent().await;
    device.gate.add_permits(1);
    assert_eq!(two.receive().await.bhs.0[3], GOOD);
    one.silent().await;
    target.shutdown().await;
}

/// A store that keeps what it is given, and can fail.
#[derive(Debug, Default)]
struct Shelf {
    kept: Mutex<VecDeque<ReservationState>>,
    fails: AtomicBool,
}

#[async_trait]
impl ReservationStore for Shelf {
    async fn load(&self) -> io::Result<Option<ReservationState>> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("unreadable"));
        }
        Ok(self.kept.lock().unwrap().back().cloned())
    }

    async fn store(&self, state: &ReservationState) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("full"));
        }
        self.kept.lock().unwrap().push_back(state.clone());
        Ok(())
    }
}

async fn serving_with(shelf: &Arc<Shelf>, device: &Arc<Memory>) -> Target {
    let target = target().await;
    let mut export = export(device.clone(), Access::Open);
    export.luns[0].reservations = Some(shelf.clone());
    target.put(export).await.unwrap();
    target
}

/// I7, for reservations: what was to outlive power loss does, and is recorded before it is acknowledged.
#[tokio::test]
async fn reservations_outlive_the_target_when_asked_to() {
    let (shelf, device) = (Arc::new(Shelf::default()), Memory::new(MIB));
    let first = serving_with(&shelf, &device).await;
    let mut one = Raw::full_as(&first, ONE, &[]).await;
    assert_eq!(reserve_in(&mut one, 2).await[2] & 0x01, 1, "persistence is offered");
    assert_eq!(reserve_out(&mut one, 0, 0, 0, KEY_ONE, true).await, GOOD);
    assert_eq!(reserve_out(&mut one, 1, 3, KEY_ONE, 0, false).await, GOOD);
    // What cannot be recorded does not happen.
    shelf.fails.store(true, Ordering::SeqCst);
    assert_eq!(reserve_out(&mut one, 2, 3, KEY_ONE, 0, false).await, 2);
    shelf.fails.store(false, Ordering::SeqCst);
    let text = serde_json::to_string(shelf.kept.lock().unwrap().back().unwrap()).unwrap();
    assert!(text.contains("ExclusiveAccess") && serde_json::from_str::<ReservationState>(&text).is_ok());
    first.shutdown().await;
    let second = serving_with(&shelf, &device).await;
    let mut two = Raw::full_as(&second, TWO, &[]).await;
    assert_eq!(two.command(&read10(0, 1), 512, &[]).await.bhs.0[3], CONFLICT);
    let mut one = Raw::full_as(&second, ONE, &[]).await;
    assert_eq!(one.command(&write10(0, 1), 0, &[1; 512]).await.bhs.0[3], GOOD);
    assert_eq!(reserve_in(&mut one, 0).await[8..16], KEY_ONE.to_be_bytes());
    // Registered again without the wish, it is forgotten.
    assert_eq!(reserve_out(&mut one, 6, 0, 0, KEY_ONE, false).await, GOOD);
    second.shutdown().await;
    assert_eq!(*shelf.kept.lock().unwrap().back().unwrap(), ReservationState::default());
    shelf.fails.store(true, Ordering::SeqCst);
    let third = target().await;
    let mut unreadable = export(device, Access::Open);
    unreadable.luns[0].reservations = Some(shelf);
    assert!(matches!(third.put(unreadable).await, Err(TargetError::Reservations(0, _))));
}
