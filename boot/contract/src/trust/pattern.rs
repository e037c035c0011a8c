//! Which targets a delegation is for: patterns of their names, or prefixes of their names' digests.

use super::metadata::DelegatedRole;
use crate::Digest;

impl DelegatedRole {
    /// Whether the role may sign the target of this name (TUF 1.0, section 4.5): one of its `paths` is a pattern of the name,
    /// or one of its `path_hash_prefixes` begins the SHA-256 of the name in hex. A role with neither, or with both, is for
    /// nothing.
    #[must_use]
    pub fn is_for(&self, target: &str) -> bool {
        match (&self.paths, &self.path_hash_prefixes) {
            (Some(patterns), None) => patterns.iter().any(|it| matches(it, target)),
            (None, Some(prefixes)) => {
                let digest = Digest::of(target.as_bytes()).to_string();
                let begins = |it: &String| !it.is_empty() && digest.starts_with(it.as_str());
                prefixes.iter().any(begins)
            }
            _ => false,
        }
    }
}

/// `*` stands for any characters of one part of a path, `?` for one; a `/` is matched by a `/` only.
fn matches(pattern: &str, name: &str) -> bool {
    let (patterns, parts) = (pattern.split('/'), name.split('/'));
    patterns.clone().count() == parts.clone().count()
        && patterns.zip(parts).all(|(pattern, part)| {
            part_matches(
                &pattern.chars().collect::<Vec<_>>(),
                &part.chars().collect::<Vec<_>>(),
            )
        })
}

/// The usual matcher that goes back to the last `*` only: at most one step for each pair of characters.
fn part_matches(pattern: &[char], text: &[char]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&it) if it == '?' || it == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((position, taken)) = star else {
                    return false;
                };
                star = Some((position, taken + 1));
                at = position + 1;
                read = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|it| *it == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same by recursion.
    fn model(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => {
                model(rest, text) || (!text.is_empty() && model(pattern, &text[1..]))
            }
            (Some(('?', rest)), Some((_, text))) => model(rest, text),
            (Some((it, rest)), Some((letter, text))) => it == letter && model(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_their_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            let letters = |it: &str| it.chars().collect::<Vec<_>>();
            prop_assert_eq!(matches(&pattern, &text), model(&letters(&pattern), &letters(&text)));
        }
    }

    #[test]
    fn a_star_does_not_cross_a_slash() {
        assert!(matches("agent/acme/*/*", "agent/acme/1/amd64"));
        assert!(!matches("agent/acme/*", "agent/acme/1/amd64"));
        assert!(!matches("agent/acme/*/*", "agent/acme/1/amd64/x"));
        assert!(!matches("*", "base/debian"));
        assert!(!matches("base/*/*", "BASE/debian/1"));
    }

    #[test]
    fn a_long_pattern_of_stars_ends_soon() {
        assert!(!matches(&"*a".repeat(2000), &"a".repeat(1999)));
    }
}
