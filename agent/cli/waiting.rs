//! Shows on standard error what a read-only verb waits for; standard output holds only the answer. Shown
//! after a short delay; on a terminal as one line, which is erased when the answer comes.

use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::out;
use super::progress::Detail;
use crate::cli::step_line::short;
use crate::converge::{Event, Watch};

/// Shorter waits are not shown.
const MOMENT: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(250);

/// Ends the display when it is dropped.
pub struct Waiting(Arc<Mutex<Line>>);

struct Line {
    text: String,
    begun: Instant,
    /// The line on the terminal, or the last one written to a pipe.
    shown: Option<String>,
    ended: bool,
    terminal: bool,
}

/// `quiet`: for `--json`, which shows nothing.
pub fn begin(what: &str, quiet: bool) -> Waiting {
    let terminal = std::io::stderr().is_terminal();
    let line = Line { text: what.to_owned(), begun: Instant::now(), shown: None, ended: quiet, terminal };
    let line = Arc::new(Mutex::new(line));
    if !quiet {
        tokio::spawn(tick(line.clone()));
    }
    Waiting(line)
}

impl Waiting {
    /// For the reconciler: its notes name what it waits for.
    pub fn watch(&self) -> Watch {
        let line = self.0.clone();
        Rc::new(move |event: &Event<'_>| {
            if let Event::Note(text) | Event::Detail(text) = event {
                set(&line, text);
            }
        })
    }

    /// For the host's adapters.
    pub fn detail(&self) -> Detail {
        let line = self.0.clone();
        Rc::new(move |text: &str| set(&line, text))
    }
}

fn set(line: &Mutex<Line>, text: &str) {
    if let Ok(mut line) = line.lock() {
        (line.text, line.begun) = (short(text), Instant::now());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Ok(mut line) = self.0.lock() {
            line.ended = true;
            if line.terminal && line.shown.is_some() {
                out::progress("\r\x1b[K".to_owned());
            }
        }
    }
}

async fn tick(line: Arc<Mutex<Line>>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Ok(mut line) = line.lock() else { return };
        if line.ended {
            return;
        }
        if let Some(text) = line.next() {
            out::progress(text);
        }
    }
}

impl Line {
    /// The line to write now, if any: on a terminal with the seconds waited, on a pipe each text once.
    fn next(&mut self) -> Option<String> {
        let elapsed = self.begun.elapsed();
        if elapsed < MOMENT && (self.shown.is_none() || !self.terminal) {
            return None;
        }
        let text = match self.terminal {
            true => format!("\r\x1b[K\x1b[?7l{} ({} s)\x1b[?7h", self.text, elapsed.as_secs()),
            false => format!("{} …\n", self.text),
        };
        if self.shown.as_ref() == Some(&text) {
            return None;
        }
        self.shown = Some(text.clone());
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_silent_and_a_pipe_gets_each_text_once() {
        let text = "resolving r/a:latest".to_owned();
        let mut line = Line { text, begun: Instant::now(), shown: None, ended: false, terminal: false };
        assert_eq!(line.next(), None);
        line.begun -= MOMENT;
        assert_eq!(line.next().as_deref(), Some("resolving r/a:latest …\n"));
        assert_eq!(line.next(), None);
        line.terminal = true;
        assert!(line.next().unwrap().contains("resolving r/a:latest (1 s)"));
    }
}
