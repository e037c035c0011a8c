//! Where the user's cache is, for what can be downloaded or built again.

use std::ffi::OsString;
use std::path::PathBuf;

/// `towline` in the user's cache directory; none when no home directory is known.
///
/// An empty or relative `XDG_CACHE_HOME` counts as unset, as the XDG Base Directory Specification says.
pub(super) fn cache_dir() -> Option<PathBuf> {
    from(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
}

fn from(cache: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let cache = cache.map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(PathBuf::from(home?).join(".cache")))?;
    Some(cache.join("towline"))
}

#[cfg(test)]
mod tests {
    use super::from;

    #[test]
    fn an_empty_cache_directory_is_none() {
        let of = |cache: Option<&str>, home: Option<&str>| {
            from(cache.map(Into::into), home.map(Into::into))
        };
        assert_eq!(of(Some("/c"), Some("/h")), Some("/c/towline".into()));
        assert_eq!(of(Some(""), Some("/h")), Some("/h/.cache/towline".into()));
        assert_eq!(of(None, Some("/h")), Some("/h/.cache/towline".into()));
        assert_eq!(of(Some("c"), None), None);
    }
}
