//! Packages as apt lists them: by the names of their files.

/// A package that an archive has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its version, with the epoch if it has one.
    pub version: String,
}

impl Listed {
    /// The package in the file that apt calls `NAME_VERSION_ARCHITECTURE.deb`; in the version what a file name cannot have is
    /// `%` and two hex digits.
    pub(super) fn of_file(file: &str) -> Option<Self> {
        let mut parts = file.strip_suffix(".deb")?.split('_');
        let (name, version) = (parts.next()?, parts.next()?);
        (parts.next().is_some() && parts.next().is_none()).then_some(())?;
        Some(Self {
            name: name.into(),
            version: unquoted(version)?,
        })
    }

    /// Whether this is a kernel, and not a package that depends on the newest.
    #[must_use]
    pub fn is_kernel(&self) -> bool {
        is_kernel(&self.name)
    }
}

/// Whether a package of this name is a kernel.
pub(super) fn is_kernel(name: &str) -> bool {
    let release = name.strip_prefix("linux-image-");
    release.is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()))
}

fn unquoted(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok()?;
        plain.push(char::from(code));
        plain.push_str(&part[2..]);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_name_and_version_with_its_epoch() {
        let listed = Listed::of_file("perl_1%3a5.36.0-7+deb12u2_amd64.deb");
        let wanted = Listed {
            name: "perl".into(),
            version: "1:5.36.0-7+deb12u2".into(),
        };
        assert_eq!(listed, Some(wanted));
        for file in [
            "perl_1_amd64.rpm",
            "perl_1.deb",
            "a_1_b_c.deb",
            "a_1%3_b.deb",
        ] {
            assert_eq!(Listed::of_file(file), None, "{file}");
        }
    }
}
