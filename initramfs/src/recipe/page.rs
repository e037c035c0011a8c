//! `track.page`: a page that names the versions of what the recipe fetches, and how they are known there.
//!
//! What is on the page is believed of nothing but that there is such a version: what is fetched then proves itself. Finding
//! versions is a pure function of the page's bytes, bounded in time by that of the crate `regex` and by the number of matches.

use regex::bytes::{Regex, RegexBuilder};
use toml::Spanned;

use super::input::check_url;
use super::variables::unfilled;
use super::{Place, RecipeError};

/// Largest program that a pattern is made into, in bytes: what is written by hand has some ten thousand.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Most matches that are looked at. A page of hundreds of releases names each a dozen times; each match may cost a pass over what
/// is left of the page: of one that was made to harm, against a pattern that lets it, they took 100 seconds.
const MATCHES_MAX: usize = 10_000;

/// Longest version, in bytes: it goes into the layer's version, of 128, beside what the recipe has there.
const VERSION_BYTES_MAX: usize = 64;

/// A page that names versions.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it is.
    pub url: String,
    /// Its one group is the version.
    pattern: Regex,
    /// The recipe's line that names it, counted from 1.
    pub line: usize,
}

/// Why a page says no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Nothing matches.
    #[error("{url} names no version: {pattern:?} matches nothing in its {bytes} bytes")]
    None {
        /// The page.
        url: String,
        /// The pattern.
        pattern: String,
        /// The page's size.
        bytes: usize,
    },
    /// More matches than are looked at.
    #[error("{url} matches {pattern:?} more than {MATCHES_MAX} times")]
    Many {
        /// The page.
        url: String,
        /// The pattern.
        pattern: String,
    },
    /// What matches cannot be part of a URL, or of a layer's version.
    #[error("{url} has what {pattern:?} takes for a version, but {why}")]
    Version {
        /// The page.
        url: String,
        /// The pattern.
        pattern: String,
        /// What matches, and what is wrong with it.
        why: NoVersion,
    },
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is none: versions begin with a digit, have digits, lower-case letters and . + - _ ~ alone, no two dots together, \
     and at most {VERSION_BYTES_MAX} characters"
)]
pub struct NoVersion(String);

impl Page {
    /// The page, if it can be asked for, and its pattern can find a version.
    pub(super) fn checked(
        url: &Spanned<String>,
        pattern: &Spanned<String>,
        at: &Place<'_>,
    ) -> Result<Self, RecipeError> {
        let in_page = |what: &str| at.error(url.span().start, &format!("track.page: {what}"));
        check_url(url.get_ref()).map_err(|what| in_page(&what))?;
        if unfilled(url.get_ref()).is_some() {
            return Err(in_page("it cannot have variables"));
        }
        let in_pattern =
            |what: &str| at.error(pattern.span().start, &format!("track.version: {what}"));
        let regex = compiled(pattern.get_ref()).map_err(|cause| in_pattern(&cause.to_string()))?;
        match regex.captures_len() - 1 {
            1 => Ok(Self {
                url: url.get_ref().clone(),
                pattern: regex,
                line: at.line(url.span().start),
            }),
            groups => Err(in_pattern(&format!(
                "{:?} has {groups} groups, and must have one, which is the version; (?:…) groups without being one",
                pattern.get_ref()
            ))),
        }
    }

    /// The newest version that the page names, as Debian compares versions: 1.10 is newer than 1.9, and 1.0~rc1 older than 1.0.
    ///
    /// # Errors
    /// See [`PageError`].
    pub fn newest(&self, page: &[u8]) -> Result<String, PageError> {
        let (url, pattern) = (self.url.clone(), self.pattern.as_str().to_owned());
        let mut newest: Option<&str> = None;
        for (number, found) in self.pattern.captures_iter(page).enumerate() {
            if number == MATCHES_MAX {
                return Err(PageError::Many { url, pattern });
            }
            // A group of an alternative that did not match.
            let Some(group) = found.get(1) else { continue };
            let version = version(group.as_bytes());
            let version = version.map_err(|why| PageError::Version {
                url: url.clone(),
                pattern: pattern.clone(),
                why,
            })?;
            if newest.is_none_or(|it| is_newer(version, it)) {
                newest = Some(version);
            }
        }
        let newest = newest.map(str::to_owned);
        newest.ok_or(PageError::None {
            url,
            pattern,
            bytes: page.len(),
        })
    }
}

/// The pattern, for bytes: `.` and its like mean ASCII or single bytes, since a page may be of any encoding.
fn compiled(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
}

/// The version in `text`, if it can lead nowhere else as part of a URL's path, and be part of a layer's version. It begins with a
/// digit: any word (`nightly`) would be newer than all numbers for ever, and `hashed` is in each signature by minisign.
pub(super) fn version(text: &[u8]) -> Result<&str, NoVersion> {
    let any =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".+-_~".contains(byte);
    let is_version = text.len() <= VERSION_BYTES_MAX
        && text.first().is_some_and(u8::is_ascii_digit)
        && text.iter().all(any)
        && !text.windows(2).any(|it| it == b"..");
    let found = std::str::from_utf8(text).ok().filter(|_| is_version);
    found.ok_or_else(|| {
        let text = String::from_utf8_lossy(text);
        NoVersion(text.chars().take(VERSION_BYTES_MAX + 1).collect())
    })
}

/// Of two that are alike to Debian (1.0 and 1.00) one is the newer for good.
fn is_newer(a: &str, b: &str) -> bool {
    let order = deb_version::compare_versions(a, b);
    order.then_with(|| a.cmp(b)).is_gt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(pattern: &str) -> Page {
        Page {
            url: "https://downloads.example/agent/".into(),
            pattern: compiled(pattern).unwrap(),
            line: 1,
        }
    }

    fn newest(pattern: &str, page_text: &str) -> Result<String, PageError> {
        page(pattern).newest(page_text.as_bytes())
    }

    #[test]
    fn the_newest_version_of_a_page_is_the_one_that_debian_has_last_whatever_their_order() {
        let listing = r#"<a href="agent-1.10.tar.gz">agent-1.10.tar.gz</a> <a href="agent-1.9.tar.gz">agent-1.9.tar.gz</a>"#;
        let pattern = r"agent-([0-9][0-9.]*)\.tar\.gz";
        assert_eq!(newest(pattern, listing).unwrap(), "1.10");
        let api = r#"[{"tag_name":"v2.0-rc1"},{"tag_name":"v1.9.3"},{"tag_name":"v1.10.0"}]"#;
        let finished = r#""tag_name":"v([0-9.]+)""#;
        assert_eq!(newest(finished, api).unwrap(), "1.10.0");
        // What the pattern takes in counts, and a hyphen makes no pre-release of it, as ~ does.
        let all = r#""tag_name":"v([^"]+)""#;
        assert_eq!(newest(all, api).unwrap(), "2.0-rc1");
        assert_eq!(newest("([0-9~a-z.]+);", "2.0~rc1;2.0;1.9;").unwrap(), "2.0");
        for text in ["1.0;1.00;", "1.00;1.0;"] {
            assert_eq!(newest("([0-9.]+);", text).unwrap(), "1.00");
        }
    }

    #[test]
    fn a_page_that_names_no_version_is_told_with_the_pattern() {
        let error = newest("v([0-9]+)", "moved to another host").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("https://downloads.example/agent/ names no version")
                && text.contains("\"v([0-9]+)\" matches nothing in its 21 bytes"),
            "{text}"
        );
        assert!(newest("a|v([0-9]+)", "a a").is_err(), "no version either");
    }

    #[test]
    fn what_could_lead_elsewhere_in_a_url_is_no_version() {
        for bad in [
            "../1", "1/2", "1..2", "%2e1", "1 2", "1\n2", "1?x", "1#x", "1@b", "1:2", "1\\2", ".1",
            "-1", "", "1A", "1ä", "1\u{7f}", "1\0",
        ] {
            let error = newest("<([^<>]*)>", &format!("<1>\n<{bad}>")).unwrap_err();
            assert!(matches!(error, PageError::Version { .. }), "{bad:?}");
            assert!(version(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = "1".repeat(VERSION_BYTES_MAX + 1);
        assert!(version(long.as_bytes()).is_err());
        for good in ["1", "0.17.3", "2025-06-01", "1_2", "1.0~rc1+b2", &long[1..]] {
            assert_eq!(version(good.as_bytes()).unwrap(), good);
        }
    }

    #[test]
    fn a_word_that_would_be_newer_than_all_numbers_is_no_version() {
        for word in ["nightly", "hashed", "v1"] {
            let error = newest("tool-([^;]+);", &format!("tool-1.2;tool-{word};")).unwrap_err();
            let says = format!("{word:?} is none: versions begin with a digit");
            assert!(error.to_string().contains(&says), "{error}");
        }
    }

    #[test]
    fn a_page_that_matches_without_end_is_left() {
        let many = "1;".repeat(MATCHES_MAX + 1);
        let error = newest("([0-9]);", &many).unwrap_err();
        assert!(error.to_string().contains("more than 10000 times"));
        assert_eq!(newest("([0-9]);", &many[2..]).unwrap(), "1");
    }

    proptest::proptest! {
        #[test]
        fn no_page_makes_it_fail_otherwise_than_by_an_error(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)
        ) {
            for pattern in ["(.*)", "([^\"]+)\"", r"([\w.~+-]+)", "a|([0-9~.]+)"] {
                if let Ok(found) = page(pattern).newest(&bytes) {
                    proptest::prop_assert_eq!(version(found.as_bytes()).unwrap(), found.clone());
                }
            }
        }
    }
}
