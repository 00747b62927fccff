//! Typed reading of one table: each key is read once, and whatever is wrong with it becomes an error at its
//! place. `None` means that an error was noted, or that the key is absent. Called by app.rs, env.rs, jobs.rs.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::error::{Fault, Problems, Show};
use super::tree::{Node, Table, describe};

/// A table and where its errors go.
pub(super) struct Reader<'r, 'a, 's> {
    pub table: &'r Table<'a>,
    pub problems: &'r mut Problems<'s>,
}

impl<'a> Reader<'_, 'a, '_> {
    pub fn node(&self, key: &str) -> Option<Node<'a>> {
        self.table.nodes.get(key).cloned()
    }

    /// Notes what is wrong with the value of `key`.
    pub fn fault(&mut self, key: &str, fault: impl Into<Fault>) {
        if let Some(node) = self.node(key) {
            self.problems.add(&node.span, node.show(), fault);
        }
    }

    /// Notes that `key`, which has no default, is not there.
    pub fn require(&mut self, key: &str) {
        if self.table.nodes.contains_key(key) || self.problems.is_broken() {
            return;
        }
        let table = self.table.path;
        let fault = Fault::new(format!("missing key `{key}` in [{table}]"));
        match &self.table.given {
            Some(span) => self.problems.add(span, Show::Line, fault),
            None => {
                self.problems.add_file(1, fault.help(format!("write `[{table}]`, and `{key} = …` below it")))
            }
        }
    }

    fn wrong<T>(&mut self, node: &Node<'_>, wanted: &str) -> Option<T> {
        let mut fault =
            Fault::new(format!("`{}` must be {wanted}, found {}", node.name, describe(node.value)));
        if let (DeValue::Integer(number), false, true) =
            (node.value, node.secret, wanted.starts_with("a text"))
        {
            fault = match wanted {
                "a text such as \"30s\"" => fault.help(format!("say of what: \"{number}s\"")),
                "a text such as \"512M\"" => fault.help(format!("say of what: \"{number}M\"")),
                _ => fault.help(format!("put it in quotes: \"{number}\"")),
            };
        }
        self.problems.add(&node.span, node.show(), fault);
        None
    }

    fn text_as<T, E: Into<Fault>>(
        &mut self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let node = self.node(key)?;
        let DeValue::String(text) = node.value else { return self.wrong(&node, wanted) };
        match read(text) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.problems.add(&node.span, node.show(), fault);
                None
            }
        }
    }

    pub fn text<T, E: Into<Fault>>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.text_as(key, "a text", read)
    }

    pub fn time(&mut self, key: &str) -> Option<std::time::Duration> {
        let value = self.text_as(key, "a text such as \"30s\"", super::value::duration)?;
        if value.is_zero() && key != "soak" {
            self.fault(key, Fault::new(format!("`{key}` must be more than zero")));
            return None;
        }
        Some(value)
    }

    pub fn size(&mut self, key: &str) -> Option<u64> {
        let value = self.text_as(key, "a text such as \"512M\"", super::value::size)?;
        if value == 0 && key != "min_free" {
            self.fault(key, Fault::new(format!("`{key}` must be more than zero")));
            return None;
        }
        Some(value)
    }

    /// One of a closed set of words.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let known: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.text(key, |text| {
            choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                Fault::unknown(format!("`{text}` is no value of `{key}`"), text, "values", &known)
            })
        })
    }

    pub fn integer<T: TryFrom<i64>>(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<T> {
        let node = self.node(key)?;
        let DeValue::Integer(number) = node.value else { return self.wrong(&node, "an integer") };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| range.contains(n));
        let value = value.and_then(|n| T::try_from(n).ok());
        if value.is_none() {
            let message =
                format!("`{key}` must be from {} to {}, found {number}", range.start(), range.end());
            self.problems.add(&node.span, node.show(), Fault::new(message));
        }
        value
    }

    pub fn boolean(&mut self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        match node.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong(&node, "true or false, without quotes"),
        }
    }

    /// A number above 0, whole or not.
    pub fn number(&mut self, key: &str) -> Option<f64> {
        let node = self.node(key)?;
        let value = match node.value {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => return self.wrong(&node, "a number"),
        };
        let value = value.filter(|n| *n >= 0.01 && *n <= 1024.0);
        if value.is_none() {
            self.fault(key, Fault::new(format!("`{key}` must be from 0.01 to 1024")));
        }
        value
    }

    /// A list of texts; every item that is wrong is an error of its own.
    pub fn list<T, E: Into<Fault>>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let node = self.node(key)?;
        let DeValue::Array(items) = node.value else { return self.wrong(&node, "a list of texts") };
        let mut values = Vec::new();
        for item in items.iter() {
            let span = super::error::Span { file: node.span.file, bytes: item.span() };
            let item = Node { span, value: item.get_ref(), ..node.clone() };
            let DeValue::String(text) = item.value else {
                let message = format!("each item of `{key}` must be a text, found {}", describe(item.value));
                self.problems.add(&item.span, item.show(), Fault::new(message));
                continue;
            };
            match read(text) {
                Ok(value) => values.push(value),
                Err(fault) => self.problems.add(&item.span, item.show(), fault),
            }
        }
        (values.len() == items.len()).then_some(values)
    }

    /// A list in which nothing stands twice.
    pub fn distinct<T: PartialEq, E: Into<Fault>>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let mut seen: Vec<String> = Vec::new();
        self.list(key, |text| {
            if seen.iter().any(|s| s == text) {
                return Err(Fault::new(format!("`{text}` stands twice in `{key}`")));
            }
            seen.push(text.to_owned());
            read(text).map_err(Into::into)
        })
    }
}
