//! Canonical JSON as TUF implementations write it: the bytes that are hashed and signed.
//!
//! OLPC's definition (<http://wiki.laptop.org/go/Canonical_JSON>) as securesystemslib implements it: keys sorted by code
//! point, no white space, only `"` and `\` escaped, integers only. The `olpc-cjson` crate, which this is compared with in
//! tests, also normalises strings to NFC; securesystemslib does not, and two different documents would then share one
//! signature, so strings are taken as they are.

use serde_json::Value;

/// A document that has no canonical form.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no canonical form: only integers have")]
pub struct CanonicalError(serde_json::Number);

/// The canonical bytes of `value`.
///
/// # Errors
/// A number that is no 64-bit integer.
pub fn canonical_json(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::new();
    write(value, &mut out)?;
    Ok(out)
}

/// Recursion is bounded: `serde_json` reads at most 128 levels.
fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_f64() => return Err(CanonicalError(number.clone())),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name.as_bytes());
            out.push(b'{');
            for (index, (name, item)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(item, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
