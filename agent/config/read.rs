//! Typed reading of one table: each key is read once, and each invalid value becomes an error at its
//! location. `None`: an error was added, or the key is absent. Called by app.rs, env.rs, jobs.rs.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::error::{Problems, Show, ValueError};
use super::tree::{Node, Table, describe};

const STRING: &str = "a string";
const TIME: &str = "a string such as \"30s\"";
const SIZE: &str = "a string such as \"512M\"";
const INTEGER: &str = "an integer";
const NUMBER: &str = "a number";
const BOOLEAN: &str = "true or false, without quotes";
const LIST: &str = "a list of strings";

/// A value of the wrong type, rewritten in the intended type.
fn as_wanted(node: &Node<'_>, wanted: &str) -> Option<String> {
    if node.secret {
        return None;
    }
    match (node.value, wanted) {
        (DeValue::Integer(number), TIME) => Some(format!("add a unit, e.g. \"{number}s\"")),
        (DeValue::Integer(number), SIZE) => Some(format!("add a unit, e.g. \"{number}M\"")),
        (DeValue::Integer(number), STRING) => Some(format!("put it in quotes: \"{number}\"")),
        (DeValue::Boolean(value), STRING) => Some(format!("put it in quotes: \"{value}\"")),
        (DeValue::String(text), INTEGER) => {
            text.trim().parse::<i64>().ok().map(|n| format!("write {n}, without quotes"))
        }
        (DeValue::String(text), NUMBER) => {
            text.trim().parse::<f64>().ok().map(|n| format!("write {n}, without quotes"))
        }
        (DeValue::String(text), BOOLEAN) => match &**text {
            "true" | "yes" | "on" | "1" => Some("write true".to_owned()),
            "false" | "no" | "off" | "0" => Some("write false".to_owned()),
            _ => None,
        },
        (DeValue::String(text), LIST) => {
            let words = super::words::split(text).unwrap_or_else(|_| vec![text.to_string()]);
            let items: Vec<_> = words.iter().filter_map(|w| serde_json::to_string(w).ok()).collect();
            Some(format!("write [{}]", items.join(", ")))
        }
        _ => None,
    }
}

/// A table and the collector of its errors.
pub(super) struct Reader<'r, 'a, 's> {
    pub table: &'r Table<'a>,
    pub problems: &'r mut Problems<'s>,
}

impl<'a> Reader<'_, 'a, '_> {
    pub fn node(&self, key: &str) -> Option<Node<'a>> {
        self.table.nodes.get(key).cloned()
    }

    /// A key that may be absent: the outer `None` is an error.
    pub fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self, &str) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.node(key) {
            None => Some(None),
            Some(_) => read(self, key).map(Some),
        }
    }

    /// Adds an error for the value of `key`.
    pub fn fault(&mut self, key: &str, fault: impl Into<ValueError>) {
        if let Some(node) = self.node(key) {
            self.problems.add(&node.span, node.show(), fault);
        }
    }

    /// Adds an error: `key`, which has no default, is missing.
    pub fn require(&mut self, key: &str) {
        let table = self.table.path;
        let known = self.table.nodes.contains_key(key);
        if known || self.problems.is_broken() || self.problems.is_mistaken(table) {
            return;
        }
        let table = &self.table.title;
        let fault = ValueError::new(format!("missing key `{key}` in [{table}]"));
        match &self.table.given {
            Some(span) => self.problems.add(span, Show::Line, fault),
            None => {
                self.problems.add_file(1, fault.help(format!("write `[{table}]`, and `{key} = …` below it")))
            }
        }
    }

    fn wrong<T>(&mut self, node: &Node<'_>, wanted: &str) -> Option<T> {
        let mut fault =
            ValueError::new(format!("`{}` must be {wanted}, found {}", node.name, describe(node.value)));
        fault.help.extend(as_wanted(node, wanted));
        self.problems.add(&node.span, node.show(), fault);
        None
    }

    fn text_as<T, E: Into<ValueError>>(
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

    pub fn text<T, E: Into<ValueError>>(
        &mut self,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.text_as(key, STRING, read)
    }

    pub fn time(&mut self, key: &str) -> Option<std::time::Duration> {
        let value = self.text_as(key, TIME, super::value::duration)?;
        if value.is_zero() && !["soak", "websocket_timeout"].contains(&key) {
            self.fault(key, ValueError::new(format!("`{key}` must be more than zero")));
            return None;
        }
        Some(value)
    }

    pub fn size(&mut self, key: &str) -> Option<u64> {
        let value = self.text_as(key, SIZE, super::value::size)?;
        if value == 0 && key != "min_free" {
            self.fault(key, ValueError::new(format!("`{key}` must be more than zero")));
            return None;
        }
        Some(value)
    }

    /// One word of a closed set.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let known: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.text(key, |text| {
            choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                ValueError::unknown(format!("`{text}` is not a valid `{key}`"), text, "values", &known)
            })
        })
    }

    pub fn integer<T: TryFrom<i64>>(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<T> {
        let node = self.node(key)?;
        let DeValue::Integer(number) = node.value else { return self.wrong(&node, INTEGER) };
        let value = i64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| range.contains(n));
        let value = value.and_then(|n| T::try_from(n).ok());
        if value.is_none() {
            let message =
                format!("`{key}` must be from {} to {}, found {number}", range.start(), range.end());
            self.problems.add(&node.span, node.show(), ValueError::new(message));
        }
        value
    }

    pub fn boolean(&mut self, key: &str) -> Option<bool> {
        let node = self.node(key)?;
        match node.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong(&node, BOOLEAN),
        }
    }

    /// A number above 0, integer or float.
    pub fn number(&mut self, key: &str) -> Option<f64> {
        let node = self.node(key)?;
        let value = match node.value {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => return self.wrong(&node, NUMBER),
        };
        let value = value.filter(|n| *n >= 0.01 && *n <= 1024.0);
        if value.is_none() {
            self.fault(key, ValueError::new(format!("`{key}` must be from 0.01 to 1024")));
        }
        value
    }

    /// A list of strings; every invalid item is an error of its own.
    pub fn list<T, E: Into<ValueError>>(
        &mut self,
        key: &str,
        read: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let node = self.node(key)?;
        self.items(key, &node, read)
    }

    /// A list of such lists, or one of them.
    pub fn argvs<T, E: Into<ValueError>>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<Vec<T>>> {
        let node = self.node(key)?;
        let lists = match node.value {
            DeValue::Array(items) if items.iter().any(|item| matches!(item.get_ref(), DeValue::Array(_))) => {
                items
            }
            _ => return self.items(key, &node, read).map(|one| vec![one]),
        };
        let mut all = Vec::new();
        for list in lists.iter() {
            let span = super::error::Span { file: node.span.file, bytes: list.span() };
            let list = Node { span, value: list.get_ref(), ..node.clone() };
            all.extend(self.items(key, &list, &mut read));
        }
        (all.len() == lists.len()).then_some(all)
    }

    fn items<T, E: Into<ValueError>>(
        &mut self,
        key: &str,
        node: &Node<'_>,
        mut read: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(items) = node.value else { return self.wrong(node, LIST) };
        let mut values = Vec::new();
        for item in items.iter() {
            let span = super::error::Span { file: node.span.file, bytes: item.span() };
            let item = Node { span, value: item.get_ref(), ..node.clone() };
            let DeValue::String(text) = item.value else {
                let message =
                    format!("each item of `{key}` must be a string, found {}", describe(item.value));
                self.problems.add(&item.span, item.show(), ValueError::new(message));
                continue;
            };
            match read(text) {
                Ok(value) => values.push(value),
                Err(fault) => self.problems.add(&item.span, item.show(), fault),
            }
        }
        (values.len() == items.len()).then_some(values)
    }

    /// The entries of an inline table.
    pub fn entries(&mut self, key: &str) -> Option<Vec<Node<'a>>> {
        let node = self.node(key)?;
        let DeValue::Table(table) = node.value else { return self.wrong(&node, "a table") };
        let span = |bytes| super::error::Span { file: node.span.file, bytes };
        let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<_>)| Node {
            name: std::borrow::Cow::as_ref(key.get_ref()),
            key: span(key.span()),
            span: span(value.span()),
            value: value.get_ref(),
            secret: node.secret,
        };
        Some(table.iter().map(entry).collect())
    }

    /// A table of strings; each is checked together with its name.
    pub fn pairs(
        &mut self,
        key: &str,
        read: impl Fn(&str, &str) -> Result<(), ValueError>,
    ) -> Option<std::collections::BTreeMap<String, String>> {
        let entries = self.entries(key)?;
        let mut values = std::collections::BTreeMap::new();
        for node in &entries {
            let read = match node.value {
                DeValue::String(text) => read(node.name, text).map(|()| text),
                other => Err(ValueError::new(format!(
                    "`{}` must be a string, found {}",
                    node.name,
                    describe(other)
                ))),
            };
            match read {
                Ok(text) => _ = values.insert(node.name.to_owned(), text.to_string()),
                Err(fault) => self.problems.add(&node.span, node.show(), fault),
            }
        }
        (values.len() == entries.len()).then_some(values)
    }

    /// A list without duplicates.
    pub fn distinct<T: PartialEq, E: Into<ValueError>>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let mut seen: Vec<String> = Vec::new();
        self.list(key, |text| {
            if seen.iter().any(|s| s == text) {
                return Err(ValueError::new(format!("`{text}` is listed twice in `{key}`")));
            }
            seen.push(text.to_owned());
            read(text).map_err(Into::into)
        })
    }
}
