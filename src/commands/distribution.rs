//! Whether this machine's packages are those that the medium and the ready recipes are made of: Debian 12's.

/// The distribution's own description.
const OS_RELEASE: &str = "/etc/os-release";

/// What this machine runs, when it is not Debian 12.
pub(super) fn other_than_debian_12() -> Option<String> {
    other(&std::fs::read_to_string(OS_RELEASE).unwrap_or_default())
}

/// The same of an os-release(5) file's text.
fn other(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let value = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        let value = os_release.lines().find_map(value)?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    };
    let is = |name: &str, wanted: &str| field(name).as_deref() == Some(wanted);
    if is("ID", "debian") && is("VERSION_ID", "12") {
        return None;
    }
    let name = field("PRETTY_NAME").or_else(|| field("ID"));
    Some(name.unwrap_or_else(|| "an unknown distribution".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::other;

    #[test]
    fn a_machine_of_another_distribution_or_release_is_told_from_debian_12() {
        let of = |id: &str, version: &str| {
            other(&format!(
                "PRETTY_NAME=\"P\"\nID={id}\nVERSION_ID=\"{version}\"\nID_LIKE=debian\n"
            ))
        };
        assert_eq!(of("debian", "12"), None);
        assert_eq!(of("debian", "13"), Some("P".into()));
        assert_eq!(of("ubuntu", "12"), Some("P".into()));
        assert_eq!(other("ID=debian\n"), Some("debian".into()));
        assert_eq!(other(""), Some("an unknown distribution".into()));
    }
}
