//! Canonical JSON: a reader of its own gets back the very document, so that no two documents share their signed bytes.

use serde_json::{Map, Number, Value};
use towline_contract::trust::canonical_json;

pub(super) fn check(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let Ok(canonical) = canonical_json(&value) else {
        return;
    };
    let mut reader = Reader(&canonical);
    assert_eq!(reader.value().as_ref(), Some(&value));
    assert!(reader.0.is_empty(), "bytes were left");
    // Where it is JSON too (strings are written with control characters as they are), it is its own canonical form.
    if let Ok(again) = serde_json::from_slice::<Value>(&canonical) {
        assert_eq!(again, value);
        assert_eq!(canonical_json(&again).ok(), Some(canonical));
    }
}

/// Reads OLPC's canonical JSON, and nothing that could be written in another way.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, literal: &[u8]) -> bool {
        let rest = self.0.strip_prefix(literal);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn value(&mut self) -> Option<Value> {
        let first = *self.0.first()?;
        Some(match first {
            b'n' if self.take(b"null") => Value::Null,
            b't' if self.take(b"true") => Value::Bool(true),
            b'f' if self.take(b"false") => Value::Bool(false),
            b'"' => Value::String(self.string()?),
            b'[' => Value::Array(self.list(b"[", b"]", Self::value)?),
            b'{' => {
                let fields = self.list(b"{", b"}", |reader| {
                    let name = reader.string()?;
                    reader.take(b":").then_some(())?;
                    Some((name, reader.value()?))
                })?;
                let sorted = fields.windows(2).all(|pair| pair[0].0 < pair[1].0);
                sorted.then(|| Value::Object(Map::from_iter(fields)))?
            }
            _ => Value::Number(self.number()?),
        })
    }

    fn list<T>(
        &mut self,
        open: &[u8],
        close: &[u8],
        item: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut items = Vec::new();
        self.take(open).then_some(())?;
        while !self.take(close) {
            if !items.is_empty() {
                self.take(b",").then_some(())?;
            }
            items.push(item(self)?);
        }
        Some(items)
    }

    fn string(&mut self) -> Option<String> {
        self.take(b"\"").then_some(())?;
        let mut text = Vec::new();
        loop {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            match first {
                b'"' => return String::from_utf8(text).ok(),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    matches!(escaped, b'"' | b'\\').then(|| text.push(*escaped))?;
                }
                byte => text.push(*byte),
            }
        }
    }

    fn number(&mut self) -> Option<Number> {
        let digits = |byte: &u8| *byte == b'-' || byte.is_ascii_digit();
        let end = self.0.iter().position(|byte| !digits(byte));
        let (text, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        let text = std::str::from_utf8(text).ok()?;
        self.0 = rest;
        let unsigned = text.parse::<u64>().ok().map(Number::from);
        let number = unsigned.or_else(|| text.parse::<i64>().ok().map(Number::from))?;
        (number.to_string() == text).then_some(number)
    }
}
