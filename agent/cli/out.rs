//! Output for users and pipes, written by a thread of its own. A terminal that is gone (a dropped SSH) or
//! blocked (Ctrl-S, a pipe that is not read) must not delay a run while an instance is drained. Write errors
//! are ignored.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A message to the writer thread.
enum Order {
    Out(String),
    Err(String),
    /// To standard error; without a trailing newline it is a status line that the next output overwrites.
    Progress(String),
    /// Acknowledged when everything before it is written.
    Tell(Sender<()>),
}

static WRITER: OnceLock<Sender<Order>> = OnceLock::new();

fn order(order: Order) {
    let writer = WRITER.get_or_init(|| {
        let (give, take) = channel();
        std::thread::spawn(|| write(take));
        give
    });
    let _ = writer.send(order);
}

fn write(orders: Receiver<Order>) {
    let mut changing = false;
    let put = |stream: &mut dyn Write, text: String| {
        let _ = stream.write_all(text.as_bytes());
        let _ = stream.flush();
    };
    for order in orders {
        if changing && matches!(order, Order::Out(_) | Order::Err(_)) {
            put(&mut std::io::stderr().lock(), "\r\x1b[K".to_owned());
            changing = false;
        }
        match order {
            Order::Out(text) => put(&mut std::io::stdout().lock(), text),
            Order::Progress(text) => {
                changing = !text.ends_with('\n');
                put(&mut std::io::stderr().lock(), text);
            }
            Order::Err(text) => put(&mut std::io::stderr().lock(), text),
            Order::Tell(written) => _ = written.send(()),
        }
    }
}

/// Waits until everything is written; after `at_most` the rest is dropped.
pub fn finish(at_most: Duration) {
    let (written, all) = channel();
    if WRITER.get().is_some() {
        order(Order::Tell(written));
        let _ = all.recv_timeout(at_most);
    }
}

/// Writes a line of the answer to standard output.
pub fn line(text: &str) {
    order(Order::Out(format!("{text}\n")));
}

/// Writes progress to standard error, unchanged.
pub fn progress(text: String) {
    order(Order::Progress(text));
}

/// Current width of the terminal on standard error.
pub fn width() -> usize {
    let size = terminal_size::terminal_size_of(std::io::stderr());
    size.map(|(columns, _)| usize::from(columns.0)).filter(|columns| *columns > 0).unwrap_or(80)
}

/// Writes a line to standard error, after `error:`.
pub fn error(text: &str) {
    stderr_line(RED, "error:", text);
}

/// Writes a line to standard error, after `warning:`.
pub fn warning(text: &str) {
    stderr_line(YELLOW, "warning:", text);
}

/// Writes a line to standard error while a run may show a spinner there: it replaces the spinner's line.
pub fn aside(text: &str) {
    let terminal = std::io::stderr().is_terminal();
    let clear = if terminal { "\r\x1b[K" } else { "" };
    order(Order::Err(format!("{clear}{} {text}\n", paint(YELLOW, "--", terminal))));
}

fn stderr_line(style: &str, mark: &str, text: &str) {
    let mark = paint(style, mark, std::io::stderr().is_terminal());
    order(Order::Err(format!("{mark} {text}\n")));
}

/// Version of every JSON answer: increased when a field is removed or changes its meaning.
const SCHEMA: u32 = 1;

/// A JSON answer: the fields of `value`, and `schema`.
#[derive(serde::Serialize)]
struct Answer<'a, T> {
    schema: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// Writes a value with fields as JSON to standard output.
pub fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(&Answer { schema: SCHEMA, value }) {
        Ok(text) => line(&text),
        Err(e) => error(&format!("encoding the answer: {e}")),
    }
}

/// SGR code of a failure (ECMA-48, 8.3.117).
pub const RED: &str = "31";
/// SGR code of a success.
pub const GREEN: &str = "32";
/// SGR code of a warning.
pub const YELLOW: &str = "33";
/// SGR code of less important text.
pub const DIM: &str = "2";
/// SGR code of a heading.
pub const BOLD: &str = "1";

/// `text` in an ANSI style if `styled` (a terminal, and no `NO_COLOR`: no-color.org).
pub fn paint(style: &str, text: &str, styled: bool) -> String {
    if styled && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// Milliseconds since 1970 as `2026-11-21T04:05:06.007Z`.
pub fn time(millis: u64) -> String {
    crate::host::facts::rfc3339(std::time::UNIX_EPOCH + Duration::from_millis(millis))
}

/// The summary line of a long error; the journal has the rest.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
