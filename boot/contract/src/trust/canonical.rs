//! Canonical JSON as TUF implementations write it: the bytes that are hashed and signed.
//!
//! OLPC's definition (<http://wiki.laptop.org/go/Canonical_JSON>) as securesystemslib implements it: keys sorted by code
//! point, no white space, only `"` and `\` escaped, integers only. The `olpc-cjson` crate, which this is compared with in
//! tests, also normalises strings to NFC and sorts keys as escaped; securesystemslib does neither, and with the former two
//! different documents would share one signature.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::json;

    use super::*;

    fn by_olpc_cjson(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        let formatter = olpc_cjson::CanonicalFormatter::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
        value.serialize(&mut serializer).unwrap();
        out
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            "[ -~\\n\\t\"\\\\]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-zA-Z_./-]{0,4}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn ascii_documents_are_written_as_the_olpc_cjson_crate_writes_them(value in any_value()) {
            prop_assert_eq!(canonical_json(&value).unwrap(), by_olpc_cjson(&value));
        }
    }

    #[test]
    fn strings_are_not_normalised_so_that_different_documents_differ() {
        let (composed, decomposed) = (json!("\u{e9}"), json!("e\u{301}"));
        assert_eq!(by_olpc_cjson(&composed), by_olpc_cjson(&decomposed));
        assert_ne!(
            canonical_json(&composed).unwrap(),
            canonical_json(&decomposed).unwrap()
        );
    }

    #[test]
    fn a_fraction_has_no_canonical_form() {
        assert!(canonical_json(&json!({"a": [1.5]})).is_err());
        assert!(canonical_json(&json!(1e3)).is_err());
    }
}
