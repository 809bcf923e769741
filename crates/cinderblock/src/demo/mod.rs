//! `cinderblock demo`: the story a newcomer wants to see, with real bytes, against a service of its own or a running one.
//!
//! Two hosts share a volume; it is frozen, cloned, grown while attached, backed up twice, lost and restored; at every turn checksums must
//! agree. Whatever was made is removed again.

mod instance;
mod story;

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use client::{Auth, Client, Endpoint};
use indicatif::{ProgressBar, ProgressStyle};

use instance::Instance;

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Play against this service instead of a temporary one
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// `user:project`, where the running service takes such tokens
    #[arg(long, value_name = "TOKEN", requires = "endpoint")]
    token: Option<String>,
}

impl Demo {
    /// Plays the story to its end.
    ///
    /// # Errors
    /// The first thing that went wrong, a checksum that differs included.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.play())
    }

    async fn play(self) -> anyhow::Result<()> {
        let (instance, endpoint) = match self.endpoint {
            Some(endpoint) => (None, endpoint),
            None => {
                let instance = Instance::start().await?;
                let endpoint = instance.endpoint.clone();
                (Some(instance), endpoint)
            }
        };
        let auth = self.token.map_or(Auth::None, |token| Auth::Token(model::Secret::new(token)));
        let client = Client::connect(Endpoint::parse(&endpoint)?, auth, None).await?;
        let mut stage = Stage::new();
        let told = story::tell(&client, &mut stage).await;
        stage.close();
        if let Some(instance) = instance {
            instance.stop().await?;
        }
        told?;
        say("Every checksum agreed.\n");
        Ok(())
    }
}

/// What the audience sees: the act that is on, and at the end all of them with their times.
#[derive(Debug)]
pub struct Stage {
    bar: ProgressBar,
    started: Option<(String, Instant)>,
    acts: Vec<(String, String, Duration)>,
}

impl Stage {
    fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{spinner} {msg} {bar:30} {bytes}/{total_bytes} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, started: None, acts: Vec::new() }
    }

    /// An act begins.
    pub fn act(&mut self, name: &str) {
        self.bar.reset();
        self.bar.set_length(0);
        self.bar.set_message(name.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(100));
        self.started = Some((name.to_owned(), Instant::now()));
    }

    /// How far the act has come, in bytes.
    pub fn progress(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// The act is over; `result` is what came of it.
    pub fn done(&mut self, result: impl Into<String>) {
        if let Some((name, since)) = self.started.take() {
            let (result, took) = (result.into(), since.elapsed());
            self.bar.suspend(|| say(&format!("  {name}: {result} ({:.2} s)\n", took.as_secs_f64())));
            self.acts.push((name, result, took));
        }
    }

    fn close(&self) {
        self.bar.finish_and_clear();
        if self.acts.is_empty() {
            return;
        }
        let width = self.acts.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        let total: Duration = self.acts.iter().map(|(.., took)| *took).sum();
        let mut table = format!("\n  {:width$}  SECONDS  RESULT\n", "WHAT");
        for (name, result, took) in &self.acts {
            table.push_str(&format!("  {name:width$}  {:7.2}  {result}\n", took.as_secs_f64()));
        }
        table.push_str(&format!("  {:width$}  {:7.2}\n\n", "all", total.as_secs_f64()));
        say(&table);
    }
}

/// Prints to standard output; nobody may be reading.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}
