//! Which of two layers of one name machines get.

use std::cmp::Ordering;

use towline_contract::Timestamp;
use towline_contract::manifest::Manifest;

/// The greater one is what machines get: the one whose newest file is newer; of two alike, the one with the greater version.
pub(crate) fn order(a: &Manifest, b: &Manifest) -> Ordering {
    by((a.created, &a.version), (b.created, &b.version))
}

/// The same of times and versions alone.
fn by(a: (Timestamp, &str), b: (Timestamp, &str)) -> Ordering {
    let as_text = || a.1.cmp(b.1);
    let of_versions = || versions(a.1, b.1).then_with(as_text);
    a.0.cmp(&b.0).then_with(of_versions)
}

/// Versions as dpkg compares them: 1.10 is after 1.9, and 1 is 0:1.
pub(crate) fn versions(a: &str, b: &str) -> Ordering {
    deb_version::compare_versions(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_decides_and_then_the_version_as_dpkg_compares_it() {
        let [first, second] = [1, 2].map(|it| Timestamp::from_second(it).unwrap());
        assert_eq!(by((first, "9"), (second, "1")), Ordering::Less);
        for (less, greater) in [
            ("1.9", "1.10"),
            ("1again9", "1again10"),
            ("1~rc1", "1"),
            ("1", "1:0"),
            ("1.0", "1.00"),
        ] {
            assert_eq!(
                by((first, less), (first, greater)),
                Ordering::Less,
                "{less}"
            );
        }
        assert_eq!(by((first, "1"), (first, "1")), Ordering::Equal);
    }
}
