//! What a person sees while a run lasts: on a terminal a spinner, then a line a step; elsewhere plain lines.

use std::io::{IsTerminal, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::cli::out::{self, DIM, GREEN, RED, YELLOW, paint};
use crate::converge::{Event, Watch};

const FRAMES: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇", "⠏", "⠛"];
const TICK: Duration = Duration::from_millis(100);

/// Takes what a step waits for.
pub type Detail = Rc<dyn Fn(&str)>;

/// The step under way, as the spinner draws it.
struct Now {
    text: String,
    detail: String,
    begun: Instant,
}

/// Progress for `--json` (nothing), a terminal, or a pipe.
pub fn watch(json: bool) -> (Watch, Detail) {
    if json {
        return (Rc::new(|_| ()), Rc::new(|_| ()));
    }
    let terminal = std::io::stdout().is_terminal();
    let now: Arc<Mutex<Option<Now>>> = Arc::default();
    if terminal {
        tokio::spawn(spin(now.clone()));
    }
    let detail = {
        let now = now.clone();
        Rc::new(move |text: &str| {
            if let Ok(mut now) = now.lock()
                && let Some(now) = now.as_mut()
            {
                text.clone_into(&mut now.detail);
            }
        })
    };
    let watch = Rc::new(move |event: &Event<'_>| show(event, &now, terminal));
    (watch, detail)
}

fn show(event: &Event<'_>, now: &Mutex<Option<Now>>, terminal: bool) {
    let Ok(mut now) = now.lock() else { return };
    match event {
        Event::Step { text, undoing, .. } => {
            let text = if *undoing { format!("undo: {text}") } else { (*text).to_owned() };
            *now = Some(Now { text, detail: String::new(), begun: Instant::now() });
        }
        Event::Done { note, elapsed } => {
            let text = now.take().map(|n| n.text).unwrap_or_default();
            let note = note.map(|n| format!("  {n}")).unwrap_or_default();
            let time = paint(DIM, &seconds(*elapsed), terminal);
            finish(terminal, &format!("{} {time}  {text}{note}", paint(GREEN, "ok", terminal)));
        }
        Event::Failed { error, elapsed } => {
            let text = now.take().map(|n| n.text).unwrap_or_default();
            let time = paint(DIM, &seconds(*elapsed), terminal);
            finish(terminal, &format!("{} {time}  {text}\n     {error}", paint(RED, "no", terminal)));
        }
        Event::Warning(text) => finish(terminal, &format!("{} {text}", paint(YELLOW, "warning:", terminal))),
        Event::Note(text) => finish(terminal, &format!("-- {text}")),
        Event::Detail(_) | Event::Plan { .. } => {}
    }
}

/// A finished line, in the place of the spinner's.
fn finish(terminal: bool, text: &str) {
    if terminal {
        let _ = write!(std::io::stdout().lock(), "\r\x1b[K");
    }
    out::line(text);
}

async fn spin(now: Arc<Mutex<Option<Now>>>) {
    let width = usize::from(columns());
    for frame in FRAMES.iter().cycle() {
        tokio::time::sleep(TICK).await;
        let Ok(now) = now.lock() else { return };
        let Some(now) = now.as_ref() else { continue };
        let detail = if now.detail.is_empty() { String::new() } else { format!("  ({})", now.detail) };
        let text: String = format!("{frame}  {}  {}{detail}", seconds(now.begun.elapsed()), now.text)
            .replace(['\n', '\r'], " ")
            .chars()
            .take(width.saturating_sub(1))
            .collect();
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "\r\x1b[K{text}");
        let _ = out.flush();
    }
}

fn seconds(elapsed: Duration) -> String {
    format!("{:>6.2} s", elapsed.as_secs_f64())
}

/// Columns of the terminal; the caller's shell says so in `COLUMNS`, which the run's unit is handed.
fn columns() -> u16 {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(100)
}
