//! Progress of a run on standard error. On a terminal: a spinner, then one line a step. Elsewhere: plain
//! lines.

use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::fit::fit;
use super::step_line::{Files, done, short};
use crate::cli::out::{self, DIM, GREEN, RED, YELLOW, paint};
use crate::converge::{Event, Watch};

const FRAMES: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇", "⠏", "⠛"];
const TICK: Duration = Duration::from_millis(100);
/// Column at which a line's text begins, after four columns for the mark and those for the seconds.
const TEXT: usize = 15;

/// The content of the screen, or the next update of it.
#[derive(Default)]
struct Screen {
    terminal: bool,
    now: Option<Now>,
    files: Files,
}

/// The current step, as the spinner draws it.
struct Now {
    text: String,
    /// `step 3 of 18`; empty for undo steps, which are not counted.
    number: String,
    detail: String,
    undoing: bool,
    /// Not a step but work before it: resolving a tag, waiting for the lock.
    note: bool,
    begun: Instant,
}

/// Receives what the current step waits for.
pub type Detail = Rc<dyn Fn(&str)>;

/// Progress for `--json` (none), a terminal, or a pipe.
pub fn watch(json: bool) -> (Watch, Detail) {
    if json {
        return (Rc::new(|_| ()), Rc::new(|_| ()));
    }
    let dumb = std::env::var("TERM").is_ok_and(|t| t == "dumb");
    let terminal = std::io::stderr().is_terminal() && !dumb;
    let screen = Arc::new(Mutex::new(Screen { terminal, ..Screen::default() }));
    if terminal {
        tokio::spawn(spin(screen.clone()));
    }
    let detail = {
        let screen = screen.clone();
        Rc::new(move |text: &str| {
            if let Ok(mut screen) = screen.lock()
                && let Some(now) = screen.now.as_mut()
            {
                text.clone_into(&mut now.detail);
            }
        })
    };
    let watch = Rc::new(move |event: &Event<'_>| {
        if let Ok(mut screen) = screen.lock() {
            screen.show(event);
        }
    });
    (watch, detail)
}

impl Screen {
    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Step { text, undoing, number, of } => {
                let number = if *undoing { String::new() } else { format!("  step {number} of {of}") };
                self.begin(short(text), number, *undoing, false);
            }
            Event::Done { told, elapsed } => {
                let Some(now) = self.now.take() else { return };
                if !now.undoing && told.text.is_none() && self.files.add(&now.text, *elapsed) {
                    return;
                }
                let note = told.text.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
                let (style, mark) = match (now.undoing, told.warning) {
                    (true, _) => (YELLOW, "undo"),
                    (false, true) => (YELLOW, "warn"),
                    (false, false) => (GREEN, "ok"),
                };
                self.line(style, mark, Some(*elapsed), &format!("{}{note}", done(&now.text)));
            }
            Event::Stopped { told, elapsed } => {
                let Some(now) = self.now.take() else { return };
                self.line(YELLOW, "stop", Some(*elapsed), &format!("{}: {told}", done(&now.text)));
            }
            Event::Failed { error, elapsed } => {
                let Some(now) = self.now.take() else { return };
                let way = if now.undoing { "undo: " } else { "" };
                self.line(RED, "FAIL", Some(*elapsed), &format!("{way}{}\n{error}", done(&now.text)));
            }
            Event::Warning(text) => {
                self.note_line();
                self.line(YELLOW, "warn", None, text);
            }
            Event::Note(text) => self.begin(short(text), String::new(), false, true),
            Event::Detail(text) => {
                if let Some(now) = self.now.as_mut() {
                    (*text).clone_into(&mut now.detail);
                }
            }
            Event::Ended => {
                self.note_line();
                self.files_line();
            }
        }
    }

    fn begin(&mut self, text: String, number: String, undoing: bool, note: bool) {
        self.note_line();
        // A pipe has no spinner, so the note is written at once.
        if note && !self.terminal {
            return self.line(DIM, "--", None, &text);
        }
        self.now = Some(Now { text, number, detail: String::new(), undoing, note, begun: Instant::now() });
    }

    /// Keeps a note on the screen when the next step begins.
    fn note_line(&mut self) {
        if let Some(now) = self.now.take_if(|now| now.note) {
            self.line(DIM, "--", Some(now.begun.elapsed()), &now.text);
        }
    }

    /// Writes a finished line, after the lines of earlier files.
    fn line(&mut self, style: &str, mark: &str, elapsed: Option<Duration>, text: &str) {
        self.files_line();
        self.write(style, mark, elapsed, text);
    }

    fn files_line(&mut self) {
        if let Some((text, elapsed)) = self.files.take() {
            self.write(GREEN, "ok", Some(elapsed), &text);
        }
    }

    /// Replaces the spinner's line; further lines are aligned with the first one's text.
    fn write(&self, style: &str, mark: &str, elapsed: Option<Duration>, text: &str) {
        if self.terminal {
            out::progress("\r\x1b[K".to_owned());
        }
        let mark = paint(style, &format!("{mark:<4}"), self.terminal);
        let time = elapsed.map_or_else(|| " ".repeat(seconds(TICK).len()), seconds);
        let text = text.trim_end().replace('\n', &format!("\n{}", " ".repeat(TEXT)));
        out::progress(format!("{mark}  {}  {text}\n", paint(DIM, &time, self.terminal)));
    }
}

async fn spin(screen: Arc<Mutex<Screen>>) {
    for frame in FRAMES.iter().cycle() {
        tokio::time::sleep(TICK).await;
        let Ok(screen) = screen.lock() else { return };
        let Some(now) = screen.now.as_ref() else { continue };
        let mark = if now.undoing { format!("{frame}<  ") } else { format!("{frame}   ") };
        // The last column stays free, because a terminal may break the line there.
        let room = out::width().saturating_sub(TEXT + 1);
        let text = fit(&now.text, &now.number, &now.detail, room).replace(['\n', '\r'], " ");
        // Automatic wrapping is off: a terminal that became narrower breaks no line.
        let line = format!("{mark}  {}  {text}", seconds(now.begun.elapsed()));
        out::progress(format!("\r\x1b[K\x1b[?7l{line}\x1b[?7h"));
    }
}

fn seconds(elapsed: Duration) -> String {
    format!("{:>5.1} s", elapsed.as_secs_f64())
}
