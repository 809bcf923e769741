//! A volume in memory, images made by `qemu-img`, and a peer that answers as it is told.
#![allow(dead_code)] // each test executable uses its part

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use image::glance::Http;
use image::{Converter, Glance, Image, Options};
use model::block::{Device, check_range};
use model::{BlockDevice, Extent, ExtentKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A volume in memory, full of what an earlier owner might have left.
#[derive(Debug)]
pub struct Memory(Mutex<Vec<u8>>);

impl Memory {
    pub fn dirty(size: usize) -> (Arc<Self>, Device) {
        Self::of(vec![0xa5; size])
    }

    pub fn of(bytes: Vec<u8>) -> (Arc<Self>, Device) {
        let memory = Arc::new(Self(Mutex::new(bytes)));
        let device: Device = memory.clone();
        (memory, device)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl BlockDevice for Memory {
    fn size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(offset, buf.len() as u64, self.size())?;
        let start = offset as usize;
        buf.copy_from_slice(&self.0.lock().unwrap()[start..start + buf.len()]);
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size())?;
        let start = offset as usize;
        self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    async fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        check_range(offset, length, self.size())?;
        self.0.lock().unwrap()[offset as usize..(offset + length) as usize].fill(0);
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, length: u64) -> io::Result<()> {
        self.discard(offset, length).await
    }

    async fn block_status(&self, offset: u64, length: u64) -> io::Result<Extent> {
        check_range(offset, length, self.size())?;
        Ok(Extent { length: self.size() - offset, kind: ExtentKind::Data })
    }
}

/// Bytes with stretches of zeros among them; the same each time.
pub fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for (number, block) in bytes.chunks_mut(4096).enumerate() {
        if number % 3 == 1 {
            continue;
        }
        for byte in block {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
    }
    bytes
}

pub fn options(folder: &Path) -> Options {
    Options {
        servers: Vec::new(),
        catalog_info: String::new(),
        retries: 2,
        timeout: Duration::from_secs(5),
        cafile: None,
        insecure: false,
        conversion_dir: folder.to_owned(),
        conversion_disabled: false,
        cpu_limit: 60,
        address_space_limit: 1,
        vmdk_types: vec!["streamOptimized".into(), "monolithicSparse".into()],
        direct_url_schemes: Vec::new(),
        compression: false,
    }
}

pub fn converter(folder: &Path) -> Converter {
    Converter::new(&options(folder))
}

/// Runs `qemu-img` in `folder`.
pub fn qemu_img(folder: &Path, words: &[&str]) {
    let output = Command::new("qemu-img").args(words).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "qemu-img {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `bytes` as an image of `format`, made with `more` options.
pub fn packed(folder: &Path, bytes: &[u8], format: &str, more: &[&str]) -> PathBuf {
    let raw = folder.join("source.raw");
    std::fs::write(&raw, bytes).unwrap();
    let mut words = vec!["convert", "-f", "raw", "-O", format];
    words.extend(more);
    words.extend(["source.raw", "packed"]);
    qemu_img(folder, &words);
    folder.join("packed")
}

/// A peer that answers each connection's request with the next of `answers`, verbatim, and closes.
pub async fn peer(answers: Vec<Vec<u8>>, options: &Options) -> Glance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                match stream.read(&mut piece).await.unwrap() {
                    0 => break,
                    length => request.extend_from_slice(&piece[..length]),
                }
            }
            stream.write_all(&answer).await.unwrap();
            let _ = stream.shutdown().await;
        }
        // Whoever comes after that waits in vain.
        std::future::pending::<()>().await;
    });
    Glance::new(&Http::new(options).unwrap(), &[address], options).unwrap()
}

/// An answer with `promised` as its length, whatever `body` has.
pub fn answer(status: u16, promised: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} Some\r\nContent-Length: {promised}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The record of an active raw image without digests.
pub fn record(size: usize) -> Image {
    Image {
        id: "5f0c8a52-9d6c-4c8e-8a5e-0d4d1c3b2a10".into(),
        status: "active".into(),
        disk_format: Some("raw".into()),
        container_format: Some("bare".into()),
        size: Some(size as u64),
        ..Image::default()
    }
}
