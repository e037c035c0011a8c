//! What dpkg's status file would say of packages that are only pretended to be installed.

/// All records that `apt-cache show` printed, as a status file.
pub(super) fn file(records: &str) -> String {
    records.split("\n\n").filter_map(record).collect()
}

/// A package as installed, in a version just above the archive's, so that apt sees no reason to touch it, and as a
/// provider of the archive's very version. What it needs is left out: one that is only pretended needs nothing.
fn record(record: &str) -> Option<String> {
    let field = |name: &str| {
        record
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let (name, version) = (field("Package:")?, field("Version:")?);
    let provides = field("Provides:").map_or(String::new(), |more| format!(", {more}"));
    let mut text =
        format!("Package: {name}\nStatus: install ok installed\nVersion: {version}+installed\n");
    for more in ["Architecture:", "Multi-Arch:"] {
        text += &field(more).map_or(String::new(), |value| format!("{more} {value}\n"));
    }
    Some(
        text + &format!(
            "Provides: {name} (= {version}){provides}\nMaintainer: none\nDescription: none\n\n"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pretended_package_needs_nothing_and_provides_its_exact_version() {
        let shown = "Package: perl\nVersion: 5.36.0-7\nArchitecture: amd64\nMulti-Arch: allowed\n\
                     Depends: perl-base (= 5.36.0-7)\nProvides: libjson-pp-perl (= 4.07)\nDescription: a language\n more\n\n\
                     Package: dpkg\nVersion: 1.21\nArchitecture: amd64\n\n";
        assert_eq!(
            file(shown),
            "Package: perl\nStatus: install ok installed\nVersion: 5.36.0-7+installed\nArchitecture: amd64\n\
             Multi-Arch: allowed\nProvides: perl (= 5.36.0-7), libjson-pp-perl (= 4.07)\nMaintainer: none\n\
             Description: none\n\n\
             Package: dpkg\nStatus: install ok installed\nVersion: 1.21+installed\nArchitecture: amd64\n\
             Provides: dpkg (= 1.21)\nMaintainer: none\nDescription: none\n\n"
        );
    }
}
