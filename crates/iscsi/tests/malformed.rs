//! Malformed and hostile input: after each, the guard block is untouched, a fresh login works, and where the standard lets
//! the connection live it lives.

#![allow(clippy::unwrap_used)] // test code

mod support;

use std::time::Duration;

use iscsi::pdu::{Bhs, NO_TAG, flag, op, reject, text};
use iscsi::{Access, Limits};
use support::bench::{BLOCKS, Bench, GUARD, MIB};
use support::device::Memory;
use support::raw::*;
use support::*;

const INITIATOR_ERROR: (u8, u8) = (2, 0);
const ILLEGAL_FIELD: (u8, u8, u8) = (5, 0x24, 0);
const OUT_OF_RANGE: (u8, u8, u8) = (5, 0x21, 0);

/// Makes an answer to a CHAP challenge.
type Reply = Box<dyn Fn(&str) -> Vec<(&'static str, String)> + Send>;

// 1 to 6: before and around the first login request.

#[tokio::test]
async fn m01_random_bytes() {
    let bench = Bench::new().await;
    for seed in 0..20 {
        let mut raw = bench.raw().await;
        // Whatever is claimed, no more is waited for than a login may be long.
        raw.bytes(&pattern(20_000, seed)).await;
        raw.closed().await;
    }
    bench.unharmed().await;
}

#[tokio::test]
async fn m02_a_command_before_login() {
    let bench = Bench::new().await;
    for opcode in [op::SCSI_COMMAND, op::NOP_OUT, op::TEXT, op::TASK_MANAGEMENT, op::LOGOUT, op::DATA_OUT] {
        let mut raw = bench.raw().await;
        raw.send(Bhs::new(opcode), &[]).await;
        raw.closed().await;
    }
    bench.unharmed().await;
}

#[tokio::test]
async fn m03_m04_idle_before_and_inside_a_header() {
    let limits = Limits { login_time: Duration::from_millis(300), ..Limits::default() };
    let bench = Bench::with(Access::Open, limits).await;
    let (mut idle, mut half) = (bench.raw().await, bench.raw().await);
    half.bytes(&login(1, Some(3)).0[..24]).await;
    idle.closed().await;
    half.closed().await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m05_a_login_that_announces_16_mib() {
    let bench = Bench::new().await;
    let mut raw = bench.raw().await;
    let mut request = login(1, Some(3));
    request.set_data_len((1 << 24) - 1);
    raw.send_as_is(&request, &[]).await;
    raw.closed().await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m06_too_much_text() {
    let bench = Bench::new().await;
    let mut raw = bench.raw().await;
    let value = "x".repeat(70_000);
    raw.send(login(0, Some(1)), &keys(&[("X-long", &value)])).await;
    raw.closed().await;
    // In many pieces, each of them short enough.
    let mut raw = bench.raw().await;
    let mut request = login(0, None);
    request.0[1] |= flag::CONTINUE;
    let piece = [b'x'; 2000];
    for _ in 0..4 {
        raw.send(request, &piece).await;
        assert_eq!(raw.receive().await.login_status(), (0, 0));
    }
    raw.send(request, &piece).await;
    assert_eq!(raw.receive().await.login_status(), INITIATOR_ERROR);
    raw.closed().await;
    bench.unharmed().await;
}

// 7 to 24: the login phase.

#[tokio::test]
async fn m07_to_m12_first_requests_that_lack_or_lie() {
    let bench = Bench::new().await;
    let first = || login(1, Some(3));
    assert_eq!(bench.login(first(), b"nothing here\0").await, INITIATOR_ERROR);
    assert_eq!(bench.login(first(), &keys(&[("TargetName", IQN)])).await, (2, 7));
    assert_eq!(bench.login(first(), &keys(&[("InitiatorName", HOST)])).await, (2, 7));
    let unknown = keys(&[("InitiatorName", HOST), ("TargetName", "iqn.nobody:1")]);
    assert_eq!(bench.login(first(), &unknown).await, (2, 3));
    let mut version = first();
    version.0[3] = 1;
    assert_eq!(bench.login(version, &names()).await, (2, 5));
    let junk = keys(&[("InitiatorName", HOST), ("TargetName", IQN), ("SessionType", "Junk")]);
    assert_eq!(bench.login(first(), &junk).await, (2, 9));
    bench.unharmed().await;
}

#[tokio::test]
async fn m13_m14_stages_that_do_not_exist() {
    let bench = Bench::new().await;
    for (stage, next) in [(2, Some(3)), (3, None), (0, Some(2)), (1, Some(1)), (1, Some(0)), (1, Some(2))] {
        assert_eq!(bench.login(login(stage, next), &names()).await, INITIATOR_ERROR, "{stage} to {next:?}");
    }
    let mut both = login(0, Some(1));
    both.0[1] |= flag::CONTINUE;
    assert_eq!(bench.login(both, &names()).await, INITIATOR_ERROR);
    bench.unharmed().await;
}

#[tokio::test]
async fn m15_an_unknown_session() {
    let bench = Bench::new().await;
    let mut request = login(1, Some(3));
    request.set_u16(14, 4711);
    assert_eq!(bench.login(request, &names()).await, (2, 0x0a));
    bench.unharmed().await;
}

#[tokio::test]
async fn m16_a_name_of_5_kb() {
    let bench = Bench::new().await;
    let name = format!("iqn.{}", "x".repeat(5000));
    let text = keys(&[("InitiatorName", &name), ("TargetName", IQN)]);
    assert_eq!(bench.login(login(1, Some(3)), &text).await, INITIATOR_ERROR);
    let text = keys(&[("InitiatorName", "iqn.with\nnewline"), ("TargetName", IQN)]);
    assert_eq!(bench.login(login(1, Some(3)), &text).await, INITIATOR_ERROR);
    bench.unharmed().await;
}

#[tokio::test]
async fn m17_m18_unknown_keys_and_bad_numbers() {
    let bench = Bench::new().await;
    let mut raw = bench.raw().await;
    let mut text = names();
    text.extend_from_slice(&keys(&[
        ("X-com.example.surprise", "1"),
        ("MaxBurstLength", "abc"),
        ("FirstBurstLength", "100000000000000000000"),
    ]));
    raw.send(login(1, Some(3)), &text).await;
    let answer = raw.receive().await;
    assert_eq!(answer.login_status(), (0, 0));
    assert_eq!(answer.value("X-com.example.surprise").as_deref(), Some("NotUnderstood"));
    assert_eq!(answer.value("MaxBurstLength").as_deref(), Some("Reject"));
    assert_eq!(answer.value("FirstBurstLength").as_deref(), Some("Reject"));
    let mut text = names();
    text.extend_from_slice(&keys(&[("MaxRecvDataSegmentLength", "1")]));
    assert_eq!(bench.login(login(1, Some(3)), &text).await, INITIATOR_ERROR);
    bench.unharmed().await;
}

#[tokio::test]
async fn m19_a_key_twice() {
    let bench = Bench::new().await;
    let mut text = names();
    text.extend_from_slice(&keys(&[("MaxBurstLength", "65536"), ("MaxBurstLength", "65536")]));
    assert_eq!(bench.login(login(1, Some(3)), &text).await, INITIATOR_ERROR);
    // In two requests.
    let mut raw = bench.raw().await;
    let mut text = names();
    text.extend_from_slice(&keys(&[("MaxBurstLength", "65536")]));
    raw.send(login(1, None), &text).await;
    assert_eq!(raw.receive().await.login_status(), (0, 0));
    raw.send(login(1, Some(3)), &keys(&[("MaxBurstLength", "65536")])).await;
    assert_eq!(raw.receive().await.login_status(), INITIATOR_ERROR);
    raw.closed().await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m20_m21_logins_that_do_not_end() {
    let bench = Bench::new().await;
    let mut endless = login(0, None);
    endless.0[1] |= flag::CONTINUE;
    for request in [login(0, None), endless] {
        let mut raw = bench.raw().await;
        raw.send(request, &names()).await;
        let mut answers = 0;
        while let Some(answer) = raw.next().await {
            answers += 1;
            if answer.login_status() != (0, 0) {
                break;
            }
            assert!(answers < 2000, "it goes on for ever");
            raw.send(request, &[]).await;
        }
        raw.closed().await;
    }
    bench.unharmed().await;
}

#[tokio::test]
async fn m22_m23_m24_ways_around_chap() {
    let secret = chap("user", "a secret of 20 bytes");
    let bench = Bench::with(Access::Chap(secret.clone()), Limits::default()).await;
    assert_eq!(bench.login(login(1, Some(3)), &names()).await, (2, 1));
    let mut none = names();
    none.extend_from_slice(&keys(&[("AuthMethod", "None")]));
    assert_eq!(bench.login(login(0, Some(1)), &none).await, (2, 1));
    assert_eq!(bench.login(login(0, Some(3)), &names()).await, (2, 1));
    // Up to the challenge, then an answer made of it.
    let answer = |make: Reply| {
        let bench = &bench;
        async move {
            let mut raw = bench.raw().await;
            let mut text = names();
            text.extend_from_slice(&keys(&[("AuthMethod", "CHAP")]));
            raw.send(login(0, None), &text).await;
            assert_eq!(raw.receive().await.value("AuthMethod").as_deref(), Some("CHAP"));
            raw.send(login(0, None), &keys(&[("CHAP_A", "5")])).await;
            let challenge = raw.receive().await.value("CHAP_C").unwrap();
            let pairs = make(&challenge);
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (*k, v.as_str())).collect();
            raw.send(login(0, Some(1)), &keys(&pairs)).await;
            let status = raw.receive().await.login_status();
            raw.closed().await;
            status
        }
    };
    let digest = || format!("0x{}", "00".repeat(16));
    let named = |response: String| vec![("CHAP_N", "user".to_owned()), ("CHAP_R", response)];
    // The challenge reflected, with a response that would be right for nobody.
    let reflected = answer(Box::new(move |challenge| {
        let mut pairs = named(digest());
        pairs.extend([("CHAP_I", "1".to_owned()), ("CHAP_C", challenge.to_owned())]);
        pairs
    }));
    assert_eq!(reflected.await, (2, 1));
    for response in
        ["0x00".to_owned(), "0xzz".to_owned(), "nothing".to_owned(), format!("0x{}", "00".repeat(3000))]
    {
        let status = answer(Box::new(move |_| named(response.clone()))).await;
        assert_eq!(status, (2, 1));
    }
    assert_eq!(answer(Box::new(|_| vec![("CHAP_N", "user".to_owned())])).await, (2, 1));
    assert_eq!(answer(Box::new(|_| vec![("AuthMethod", "None".to_owned())])).await, (2, 1));
    // The guard, through a proper login.
    assert!(bench.device.bytes(GUARD, MIB).iter().all(|byte| *byte == 0xa5));
    try_connect(&bench.target, HOST, Some(secret)).await.unwrap();
}

// 25 to 37: full feature phase.

#[tokio::test]
async fn m25_opcodes_that_have_no_place() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    for opcode in [0x1c, 0x1f, op::SNACK, op::SCSI_RESPONSE, op::R2T, op::REJECT, op::NOP_IN] {
        let mut bhs = Bhs::new(opcode);
        bhs.set_immediate();
        raw.send(bhs, b"some data").await;
        raw.rejected().await;
        raw.alive().await;
    }
    raw.send(login(1, Some(3)), &names()).await;
    raw.closed().await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m26_command_numbers_outside_the_window() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let good = raw.cmd_sn;
    for wrong in
        [good.wrapping_sub(1), good.wrapping_add(5000), good.wrapping_sub(0x8000_0000), good.wrapping_add(3)]
    {
        let mut bhs = raw.request(&write10(BLOCKS - 1, 1), 0, &[1; 512]);
        bhs.set_sn(wrong);
        raw.send(bhs, &[1; 512]).await;
        raw.cmd_sn = good;
        raw.silent().await;
    }
    assert_eq!(raw.command(&[0x00], 0, &[]).await.bhs.0[3], 0);
    bench.unharmed().await;
}

#[tokio::test]
async fn m27_data_for_nobody() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    raw.itt = 4711;
    let unsolicited = raw.data_out(NO_TAG, 0, 0, true);
    raw.send(unsolicited, &[1; 512]).await;
    raw.alive().await;
    raw.itt = 4711;
    let solicited = raw.data_out(3, 0, 0, true);
    raw.send(solicited, &[1; 512]).await;
    assert_eq!(raw.rejected().await, reject::PROTOCOL);
    raw.alive().await;
    bench.unharmed().await;
}

/// A write of the last but one block before the guard, whose data was asked for: its R2T.
async fn asked(bench: &Bench, blocks: u16) -> (Raw, Bhs) {
    let mut raw = Raw::full(&bench.target, &[("InitialR2T", "Yes"), ("ImmediateData", "No")]).await;
    let lba = (GUARD / 512) as u32 - u32::from(blocks);
    let data = vec![0; usize::from(blocks) * 512];
    let bhs = raw.request(&write10(lba, blocks), 0, &data);
    raw.send(bhs, &[]).await;
    let r2t = raw.receive().await.bhs;
    assert_eq!((r2t.opcode(), r2t.u32_at(44)), (op::R2T, u32::from(blocks) * 512));
    (raw, r2t)
}

#[tokio::test]
async fn m28_m29_m30_data_out_that_lies() {
    let bench = Bench::new().await;
    // (tag, DataSN, offset, length, last)
    let lies: [(u32, u32, u32, usize, bool); 10] = [
        (0, 0, 0x8000_0000, 512, true),
        (0, 0, u32::MAX, 512, true),
        (0, 0, 1024, 512, true),
        (0, 0, 512, 1024, true),
        (0, 0, 0, 4096, true),
        (1, 0, 0, 1024, true),
        (NO_TAG, 0, 0, 1024, true),
        (0, 27, 0, 1024, true),
        (0, 0, 0, 512, true),
        (0, 0, 0, 1024, false),
    ];
    for (tag, data_sn, offset, length, last) in lies {
        let (mut raw, r2t) = asked(&bench, 2).await;
        let tag = if tag == NO_TAG { NO_TAG } else { r2t.ttt().wrapping_add(tag) };
        let bhs = raw.data_out(tag, data_sn, offset, last);
        raw.send(bhs, &vec![0xee; length]).await;
        let answer = raw.receive().await;
        match answer.bhs.opcode() {
            op::REJECT => raw.closed().await,
            _ => assert_eq!(answer.sense().0, 0x0b, "never GOOD"),
        }
        bench.unharmed().await;
    }
    // The same without a lie, for comparison.
    let (mut raw, r2t) = asked(&bench, 2).await;
    let first = raw.data_out(r2t.ttt(), 0, 0, false);
    raw.send(first, &[0xee; 512]).await;
    let second = raw.data_out(r2t.ttt(), 1, 512, true);
    raw.send(second, &[0xee; 512]).await;
    assert_eq!(raw.receive().await.bhs.0[3], 0);
    bench.unharmed().await;
}

#[tokio::test]
async fn m31_immediate_data_that_is_too_long() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let mut bhs = raw.request(&write10(0, 1), 0, &[1; 1024]);
    bhs.set_ttt(512);
    raw.send(bhs, &[1; 1024]).await;
    assert_eq!(raw.receive().await.sense(), (0x0b, 0x0c, 0x0d));
    raw.alive().await;
    let mut raw = Raw::full(
        &bench.target,
        &[("InitialR2T", "No"), ("ImmediateData", "Yes"), ("FirstBurstLength", "512")],
    )
    .await;
    let bhs = raw.request(&write10(0, 4), 0, &[1; 2048]);
    raw.send(bhs, &[1; 2048]).await;
    assert_eq!(raw.receive().await.sense(), (0x0b, 0x0c, 0x0d));
    let mut raw = Raw::full(&bench.target, &[("ImmediateData", "No")]).await;
    let bhs = raw.request(&write10(0, 1), 0, &[1; 512]);
    raw.send(bhs, &[1; 512]).await;
    assert_eq!(raw.receive().await.sense(), (0x0b, 0x0c, 0x0d));
    assert_eq!(bench.device.bytes(0, 4096), vec![0; 4096]);
    bench.unharmed().await;
}

#[tokio::test]
async fn m32_unsolicited_data_although_asked_not_to() {
    let bench = Bench::new().await;
    let mut raw = Raw::full(&bench.target, &[("InitialR2T", "Yes"), ("ImmediateData", "Yes")]).await;
    let mut bhs = raw.request(&write10(0, 2), 0, &[1; 1024]);
    bhs.0[1] &= !flag::FINAL;
    raw.send(bhs, &[]).await;
    assert_eq!(raw.receive().await.sense(), (0x0b, 0x0c, 0x0d));
    let data = raw.data_out(NO_TAG, 0, 0, true);
    raw.send(data, &[1; 1024]).await;
    raw.alive().await;
    assert_eq!(bench.device.bytes(0, 1024), vec![0; 1024]);
    bench.unharmed().await;
}

#[tokio::test]
async fn m33_4_gib_announced_for_one_block() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let mut bhs = raw.request(&write10(0, 1), 0, &[1; 512]);
    bhs.set_ttt(u32::MAX);
    raw.send(bhs, &[]).await;
    let r2t = raw.receive().await.bhs;
    assert_eq!((r2t.opcode(), r2t.u32_at(44)), (op::R2T, 512));
    let data = raw.data_out(r2t.ttt(), 0, 0, true);
    raw.send(data, &[7; 512]).await;
    let answer = raw.receive().await.bhs;
    assert_eq!((answer.0[3], answer.flags() & 0x06, answer.u32_at(44)), (0, flag::UNDERFLOW, u32::MAX - 512));
    assert_eq!(bench.device.bytes(0, 512), vec![7; 512]);
    bench.unharmed().await;
}

#[tokio::test]
async fn m34_m35_addresses_and_lengths_that_wrap() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    for (lba, count) in
        [(0, u32::MAX), (u64::MAX, 2), (u64::MAX - 1, 2), (1 << 63, 1), (u64::from(BLOCKS), 1)]
    {
        for opcode in [0x88, 0x8f, 0x90, 0x91] {
            assert_eq!(raw.command(&long(opcode, 0, lba, count), 512, &[]).await.sense(), OUT_OF_RANGE);
        }
        for opcode in [0x8a, 0x8e, 0x8b, 0x93] {
            let answer = raw.command(&long(opcode, 0, lba, count), 0, &[1; 512]).await;
            assert_eq!(answer.sense(), OUT_OF_RANGE, "{opcode:#x} of {count} at {lba}");
        }
        if lba >= u64::from(BLOCKS) {
            let status = raw.command(&long(0x9e, 0x12, lba, 24), 24, &[]).await;
            assert_eq!(status.sense(), OUT_OF_RANGE);
            let mut compare = long(0x89, 0, lba, 0);
            compare[13] = 1;
            assert_eq!(raw.command(&compare, 0, &[0; 1024]).await.sense(), OUT_OF_RANGE);
        }
        let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&count.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
        let answer = raw.command(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 0, &list).await;
        assert_eq!(answer.sense(), OUT_OF_RANGE);
    }
    bench.unharmed().await;
}

#[tokio::test]
async fn m36_a_read_that_takes_no_data() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let answer = raw.command(&read10(0, 8), 0, &[]).await.bhs;
    assert_eq!((answer.opcode(), answer.0[3]), (op::SCSI_RESPONSE, 0));
    assert_eq!((answer.flags() & 0x06, answer.u32_at(44)), (flag::OVERFLOW, 4096));
    // And a write that sends none.
    let mut bhs = raw.request(&write10(0, 1), 512, &[]);
    bhs.0[1] &= !flag::READ;
    raw.send(bhs, &[]).await;
    assert_eq!(raw.receive().await.bhs.0[3], 0);
    assert_eq!(bench.device.bytes(0, 512), vec![0; 512]);
    bench.unharmed().await;
}

#[tokio::test]
async fn m37_a_segment_over_our_limit() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let mut bhs = raw.request(&write10(0, 1), 0, &[1; 512]);
    bhs.set_data_len(262_145);
    raw.send_as_is(&bhs, &[]).await;
    raw.closed().await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m38_additional_headers() {
    let bench = Bench::new().await;
    for words in [255u8, 1] {
        let mut raw = bench.full().await;
        let mut bhs = raw.request(&[0x00], 0, &[]);
        bhs.0[4] = words;
        raw.bytes(&bhs.0).await;
        // All zeros: a segment of length zero and type zero.
        raw.bytes(&vec![0; usize::from(words) * 4]).await;
        assert_eq!(raw.receive().await.bhs.opcode(), op::SCSI_RESPONSE);
        raw.alive().await;
    }
    bench.unharmed().await;
}

#[tokio::test]
async fn m39_parameter_lists_whose_lengths_lie() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let unmap = |length: u8| [0x42, 0, 0, 0, 0, 0, 0, 0, length, 0];
    let mut list = vec![0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0];
    list.resize(24, 0);
    assert_eq!(raw.command(&unmap(24), 0, &list).await.sense(), (5, 0x1a, 0));
    assert_eq!(raw.command(&unmap(7), 0, &[0; 8]).await.sense(), (5, 0x1a, 0));
    assert_eq!(raw.command(&unmap(200), 0, &list).await.sense(), (5, 0x1a, 0));
    let persist = |length: u8| [0x5f, 0, 0, 0, 0, 0, 0, 0, length, 0];
    assert_eq!(raw.command(&persist(23), 0, &[0; 24]).await.sense(), (5, 0x1a, 0));
    assert_eq!(raw.command(&persist(24), 0, &[0; 8]).await.sense(), (5, 0x1a, 0));
    let mut moves = vec![0; 24];
    moves[19] = 1;
    moves[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
    let answer = raw.command(&[0x5f, 7, 0, 0, 0, 0, 0, 0, 24, 0], 0, &moves).await;
    assert_eq!(answer.sense(), (5, 0x1a, 0));
    let select = |length: u8| [0x15, 0x10, 0, 0, length, 0];
    assert_eq!(raw.command(&select(4), 0, &[0, 0, 0, 0xff]).await.sense(), (5, 0x1a, 0));
    assert_eq!(raw.command(&select(6), 0, &[0, 0, 0, 0, 0x0a, 0xff]).await.sense(), (5, 0x1a, 0));
    assert_eq!(raw.command(&select(3), 0, &[0; 3]).await.sense(), (5, 0x1a, 0));
    let answer = raw.command(&select(8), 0, &[0, 0, 0, 0, 0x3b, 2, 0, 0]).await;
    assert_eq!(answer.sense(), (5, 0x26, 0));
    let copy = |length: u8| {
        let mut cdb = [0; 16];
        (cdb[0], cdb[13]) = (0x83, length);
        cdb
    };
    let mut lie = [0; 16];
    lie[2..4].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(raw.command(&copy(16), 0, &lie).await.sense(), (5, 0x1a, 0));
    let mut lie = [0; 16];
    lie[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(raw.command(&copy(16), 0, &lie).await.sense(), (5, 0x1a, 0));
    raw.alive().await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m40_units_that_are_not_there() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    for lun in [[0, 1], [0x40, 1], [0x80, 0], [0xc0, 0], [0x01, 0]] {
        let mut bhs = raw.request(&write10(BLOCKS - 1, 1), 0, &[1; 512]);
        bhs.0[8..10].copy_from_slice(&lun);
        raw.send(bhs, &[1; 512]).await;
        assert_eq!(raw.receive().await.sense(), (5, 0x25, 0), "{lun:?}");
    }
    let mut bhs = raw.request(&[0x12, 0, 0, 0, 36, 0], 36, &[]);
    bhs.0[9] = 1;
    raw.send(bhs, &[]).await;
    assert_eq!(raw.receive().await.data[0], 0x7f);
    bench.unharmed().await;
}

#[tokio::test]
async fn m41_m42_task_management_for_nothing() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let mut answers = Vec::new();
    for (function, lun) in [(1, 0), (3, 0), (8, 0), (0, 0), (9, 0), (0x7f, 0), (5, 3), (2, 3)] {
        let mut bhs = raw.management(function, 4711);
        bhs.0[9] = lun;
        // The command that is meant came long ago.
        bhs.set_u32(32, raw.cmd_sn.wrapping_sub(50));
        raw.send(bhs, &[]).await;
        let answer = raw.receive().await.bhs;
        assert_eq!(answer.opcode(), op::TASK_MANAGEMENT_RESPONSE);
        answers.push(answer.0[2]);
    }
    assert_eq!(answers, [1, 5, 4, 255, 255, 255, 2, 2]);
    bench.unharmed().await;
}

#[tokio::test]
async fn m43_m44_logout_of_others_and_pings_nobody_sent() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    for (reason, cid, answer) in [(1, 99, 1), (2, 0, 2)] {
        let mut bhs = Bhs::new(op::LOGOUT);
        bhs.set_immediate();
        bhs.0[1] |= reason;
        bhs.set_u16(20, cid);
        bhs.set_sn(raw.cmd_sn);
        raw.send(bhs, &[]).await;
        let response = raw.receive().await.bhs;
        assert_eq!((response.opcode(), response.0[2]), (op::LOGOUT_RESPONSE, answer));
    }
    let mut nop = Bhs::new(op::NOP_OUT);
    nop.set_immediate();
    nop.set_itt(NO_TAG);
    nop.set_ttt(4711);
    nop.set_sn(raw.cmd_sn);
    raw.send(nop, b"?").await;
    raw.alive().await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m45_a_tag_in_use() {
    let bench = Bench::new().await;
    let (mut raw, r2t) = asked(&bench, 1).await;
    let mut again = raw.request(&[0x00], 0, &[]);
    raw.itt -= 1;
    again.set_itt(raw.itt);
    raw.send(again, &[]).await;
    assert_eq!(raw.rejected().await, reject::PROTOCOL);
    let data = raw.data_out(r2t.ttt(), 0, 0, true);
    raw.send(data, &[1; 512]).await;
    assert_eq!(raw.receive().await.bhs.0[3], 0);
    bench.unharmed().await;
}

// 46 to 50: sessions and connections.

#[tokio::test]
async fn m46_reinstatement_in_the_middle_of_a_write() {
    let bench = Bench::new().await;
    let (mut old, r2t) = asked(&bench, 1).await;
    let mut new = bench.full().await;
    old.closed().await;
    let data = old.data_out(r2t.ttt(), 0, 0, true);
    old.send(data, &[1; 512]).await;
    assert_eq!(new.command(&[0x00], 0, &[]).await.bhs.0[3], 0);
    assert_eq!(bench.device.bytes(GUARD - 512, 512), vec![0; 512]);
    assert_eq!(bench.target.sessions().len(), 1);
    bench.unharmed().await;
}

#[tokio::test]
async fn m47_500_idle_connections() {
    let limits = Limits { logins: 600, ..Limits::default() };
    let bench = Bench::with(Access::Open, limits).await;
    let mut idle = Vec::new();
    for _ in 0..500 {
        idle.push(bench.raw().await);
    }
    bench.unharmed().await;
    // One too many is turned away, and the others stay.
    let limits = Limits { logins: 10, ..Limits::default() };
    let bench = Bench::with(Access::Open, limits).await;
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(bench.raw().await);
    }
    let mut one_more = bench.raw().await;
    one_more.closed().await;
    idle.clear();
    until_served(&bench).await;
}

/// Places in login come free when their connections are gone.
async fn until_served(bench: &Bench) {
    for _ in 0..100 {
        if try_connect(&bench.target, HOST, None).await.is_ok() {
            return bench.unharmed().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody is served any more");
}

#[tokio::test]
async fn m48_a_reader_that_never_reads() {
    let limits = Limits { stall: Duration::from_millis(500), ..Limits::default() };
    let bench = Bench::with(Access::Open, limits).await;
    let mut raw = bench.full().await;
    let mut sent = 0u64;
    // The target stops taking commands long before all of this.
    while sent < 4000 {
        let bhs = raw.request(&read10(0, 2048), 1 << 20, &[]);
        let write = tokio::time::timeout(Duration::from_millis(200), raw.send(bhs, &[])).await;
        if write.is_err() {
            break;
        }
        sent += 1;
        if bench.target.sessions().is_empty() {
            break;
        }
    }
    until(|| bench.target.sessions().is_empty()).await;
    bench.unharmed().await;
}

#[tokio::test]
async fn m49_wrong_digests() {
    let bench = Bench::new().await;
    let digests = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("ImmediateData", "Yes")];
    let mut raw = Raw::full(&bench.target, &digests).await;
    let bhs = raw.request(&[0x00], 0, &[]);
    raw.bytes(&bhs.0).await;
    raw.bytes(&[1, 2, 3, 4]).await;
    assert!(raw.next().await.is_none(), "closed without a word");
    let mut raw = Raw::full(&bench.target, &digests).await;
    let mut bhs = raw.request(&write10(0, 1), 0, &[1; 512]);
    bhs.set_data_len(512);
    raw.bytes(&bhs.0).await;
    raw.bytes(&iscsi::pdu::digest::crc32c(&bhs.0)).await;
    raw.bytes(&[1; 512]).await;
    raw.bytes(&[1, 2, 3, 4]).await;
    assert_eq!(raw.rejected().await, reject::DATA_DIGEST);
    raw.closed().await;
    assert_eq!(bench.device.bytes(0, 512), vec![0; 512], "data that was not proved must not be written");
    bench.unharmed().await;
}

#[tokio::test]
async fn m50_negotiation_where_it_is_over() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let ask = |raw: &mut Raw, pairs: &[(&str, &str)]| {
        let mut bhs = Bhs::new(op::TEXT);
        bhs.set_immediate();
        raw.itt += 1;
        bhs.set_itt(raw.itt);
        bhs.set_ttt(NO_TAG);
        bhs.set_sn(raw.cmd_sn);
        (bhs, keys(pairs))
    };
    let (bhs, data) = ask(&mut raw, &[("MaxBurstLength", "512")]);
    raw.send(bhs, &data).await;
    assert_eq!(raw.rejected().await, reject::PROTOCOL);
    let (bhs, data) = ask(&mut raw, &[("SendTargets", "All")]);
    raw.send(bhs, &data).await;
    assert_eq!(raw.rejected().await, reject::PROTOCOL);
    let (bhs, data) = ask(&mut raw, &[("SendTargets", ""), ("X-surprise", "1")]);
    raw.send(bhs, &data).await;
    let answer = raw.receive().await;
    assert_eq!(answer.bhs.opcode(), op::TEXT_RESPONSE);
    assert!(String::from_utf8_lossy(&answer.data).contains(&format!("TargetName={IQN}\0")));
    assert!(String::from_utf8_lossy(&answer.data).contains("X-surprise=NotUnderstood"));
    assert!(text::parse(&answer.data).is_ok());
    bench.unharmed().await;
}

// Beyond the corpus.

/// CDBs of random bytes: whatever they are, they are answered, and protected blocks stay as they are.
#[tokio::test]
async fn random_cdbs_are_answered() {
    let device = Memory::new(8 * MIB);
    let mut fixed = open(device.clone());
    fixed.luns[0].read_only = true;
    let target = target().await;
    target.put(fixed).await.unwrap();
    let mut raw = Raw::full(&target, &[("InitialR2T", "Yes"), ("ImmediateData", "Yes")]).await;
    let noise = pattern(17 * 20_000, 99);
    for cdb in noise.chunks_exact(17) {
        let mut bhs = raw.request(&cdb[..16], 512, &[]);
        // Reserving, resetting and the like would get in the way of what follows.
        if matches!(cdb[0], 0x16 | 0x56 | 0x5f) {
            bhs.0[32] = 0;
        }
        if cdb[16] & 1 == 0 {
            bhs.0[1] &= !flag::READ;
        }
        raw.send(bhs, &[]).await;
        let answer = raw.receive().await;
        assert_eq!(answer.bhs.itt(), raw.itt, "{cdb:02x?}: {answer:?}");
    }
    assert!(device.bytes(0, 8 * MIB).iter().all(|byte| *byte == 0));
    target.shutdown().await;
}

#[tokio::test]
async fn a_field_error_points_at_its_byte() {
    let bench = Bench::new().await;
    let mut raw = bench.full().await;
    let mut cdb = read10(0, 1);
    cdb[1] = 0x20;
    let answer = raw.command(&cdb, 512, &[]).await;
    assert_eq!(answer.sense(), ILLEGAL_FIELD);
    assert_eq!(answer.data[2 + 15..2 + 18], [0xc0, 0, 1]);
}
