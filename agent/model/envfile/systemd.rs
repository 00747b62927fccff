//! How systemd reads an env file and splits a variable into arguments, and the quoting for both. The reader
//! follows `parse_env_file_internal` (systemd, src/basic/env-file.c), the splitter `extract_first_word` with
//! `EXTRACT_RELAX|EXTRACT_UNQUOTE` (src/basic/extract-word.c), which applies to `$NAME` as a word of its own
//! (`replace_env_argv`, src/basic/env-util.c). Called by envfile.rs alone.

/// The effect of a backslash at the end of a comment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Comments {
    /// The comment ends with its line: systemd 254 and later.
    End,
    /// The next line is part of the comment: systemd before 254.
    Continue,
}

/// One variable as systemd sets it; the caller checks whether its name is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// The state of the reader. A line is complete if the next one begins in `Key`, `Comment` or `Start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Start,
    Key,
    BeforeValue,
    Value,
    ValueEscape,
    Single,
    Double,
    DoubleEscape,
    Comment,
    CommentEscape,
}

#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    /// Start of trailing whitespace.
    blanks: Option<usize>,
}

impl Text {
    fn push(&mut self, byte: u8) {
        match is_white(byte) {
            true => self.blanks = self.blanks.or(Some(self.bytes.len())),
            false => self.blanks = None,
        }
        self.bytes.push(byte);
    }

    /// Quoted or escaped: never trimmed, but only plain text clears the whitespace before it.
    fn push_quoted(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn take(&mut self, trim: bool) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        if let Some(at) = self.blanks.take().filter(|_| trim) {
            bytes.truncate(at);
        }
        bytes
    }
}

fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// All assignments in order, and the final state of the reader.
pub(super) fn read(text: &[u8], comments: Comments) -> (Vec<Assignment>, State) {
    let mut reader = Reader { comments, key: Text::default(), value: Text::default(), found: Vec::new() };
    let state = text.iter().fold(State::Start, |state, &c| reader.next(state, c));
    if !matches!(state, State::Start | State::Key | State::Comment | State::CommentEscape) {
        reader.end(state == State::Value);
    }
    (reader.found, state)
}

/// The texts read so far.
struct Reader {
    comments: Comments,
    key: Text,
    value: Text,
    found: Vec<Assignment>,
}

impl Reader {
    /// An assignment is complete; `trim`: without the white space at its end.
    fn end(&mut self, trim: bool) {
        self.found.push(Assignment { key: self.key.take(true), value: self.value.take(trim) });
    }

    /// A character after a backslash between double quotes.
    fn escaped(&mut self, c: u8) {
        match c {
            b'"' | b'\\' | b'`' | b'$' => self.value.push_quoted(c),
            b'\n' => {}
            _ => {
                self.value.push_quoted(b'\\');
                self.value.push_quoted(c);
            }
        }
    }

    /// The state after `c` (parse_env_file_internal() of systemd's env-file.c).
    fn next(&mut self, state: State, c: u8) -> State {
        match state {
            State::Start if matches!(c, b'#' | b';') => State::Comment,
            State::Start if is_white(c) => State::Start,
            State::Start => {
                self.key.push(c);
                State::Key
            }
            State::Key if is_newline(c) => {
                self.key.take(false);
                State::Start
            }
            State::Key if c == b'=' => State::BeforeValue,
            State::Key => {
                self.key.push(c);
                State::Key
            }
            State::BeforeValue | State::Value if is_newline(c) => {
                self.end(state == State::Value);
                State::Start
            }
            // A quote only counts at the beginning of a value and after a closed quote.
            State::BeforeValue if c == b'\'' => State::Single,
            State::BeforeValue if c == b'"' => State::Double,
            State::BeforeValue if is_white(c) => State::BeforeValue,
            State::BeforeValue | State::Value if c == b'\\' => {
                self.value.blanks = None;
                State::ValueEscape
            }
            State::BeforeValue | State::Value => {
                self.value.push(c);
                State::Value
            }
            State::ValueEscape => {
                if !is_newline(c) {
                    self.value.push_quoted(c);
                }
                State::Value
            }
            State::Single if c == b'\'' => State::BeforeValue,
            State::Double if c == b'"' => State::BeforeValue,
            State::Double if c == b'\\' => State::DoubleEscape,
            State::Single | State::Double => {
                self.value.push_quoted(c);
                state
            }
            State::DoubleEscape => {
                self.escaped(c);
                State::Double
            }
            State::Comment if c == b'\\' => State::CommentEscape,
            State::Comment if is_newline(c) => State::Start,
            State::CommentEscape if is_newline(c) && self.comments == Comments::End => State::Start,
            State::Comment | State::CommentEscape => State::Comment,
        }
    }
}

/// The arguments that `$NAME` expands to. Whitespace separates, both quotes group anywhere, and a backslash,
/// even between single quotes, makes the next character literal.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (_, '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(q), _) if q == c => quote = None,
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, ' ' | '\t' | '\n' | '\r') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The value of a line that [`read`] and then [`words`] turn into exactly `args`; `None` if an argument has a
/// control character (a tab is allowed), which one of the readers cannot handle.
pub(super) fn quote(args: &[String]) -> Option<String> {
    if args.iter().any(|a| a.contains(|c: char| (c.is_control() && c != '\t') || c == '\u{feff}')) {
        return None;
    }
    let joined = args.iter().map(|a| word(a)).collect::<Vec<_>>().join(" ");
    Some(match joined.as_str() {
        "" => joined,
        // Single quotes need no escapes, so they are easy to read.
        text if !text.contains('\'') => format!("'{text}'"),
        text => format!("\"{}\"", escape(text, &['"', '\\', '`', '$'])),
    })
}

fn word(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    format!("\"{}\"", escape(arg, &['"', '\\']))
}

fn escape(text: &str, special: &[char]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for c in text.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
