//! The packages of a layer as a CycloneDX 1.6 document (ECMA-424), for programs that look for known flaws.
//!
//! A pure function of the manifest: the same layer gives the same document. Of the format a dozen fields are needed; the crates
//! for it bring hundreds of types, XML and a validator of schemas, so that plain structures do. `tests/interop` has the
//! reference library read and validate what is written here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use towline_contract::manifest::{Manifest, Package};

use crate::release::is_release;

/// A document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bom {
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    compositions: [Composition; 1],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Metadata {
    timestamp: String,
    tools: Tools,
    component: Component,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Tools {
    components: [Component; 1],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

/// How complete the list is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Composition {
    aggregate: &'static str,
    assemblies: [String; 1],
}

/// The document of a layer. `vendor` is the distribution that made its packages, such as `debian`.
#[must_use]
pub fn cyclonedx(manifest: &Manifest, vendor: &str) -> Bom {
    let target = manifest.target_name();
    let packages: BTreeSet<_> = manifest.packages.iter().collect();
    let digest = manifest.digest.to_string();
    Bom {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: format!("urn:uuid:{}", uuid(&digest)),
        version: 1,
        metadata: Metadata {
            timestamp: manifest.created.to_string(),
            tools: Tools {
                components: [Component {
                    kind: "application",
                    name: "towline".into(),
                    version: env!("CARGO_PKG_VERSION").into(),
                    ..Component::default()
                }],
            },
            component: Component {
                kind: "file",
                reference: Some(target.clone()),
                name: format!("{}/{}", manifest.kind, manifest.name),
                version: manifest.version.clone(),
                hashes: vec![Hash {
                    alg: "SHA-256",
                    content: digest,
                }],
                purl: None,
            },
        },
        components: packages
            .into_iter()
            .map(|it| component(it, vendor))
            .collect(),
        // What recipes take from folders and files belongs to no package.
        compositions: [Composition {
            aggregate: "unknown",
            assemblies: [target],
        }],
    }
}

fn component(package: &Package, vendor: &str) -> Component {
    let purl = purl(package, vendor);
    Component {
        kind: "library",
        reference: Some(purl.clone()),
        name: package.name.clone(),
        version: package.version.clone(),
        hashes: Vec::new(),
        purl: Some(purl),
    }
}

/// A UUID of the layer's own (RFC 9562, version 8) of the first half of its digest.
fn uuid(digest: &str) -> String {
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-8{}-a{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

/// The package's URL (ECMA-427). Which kind of package it is its architecture tells: Debian and rpm name them apart, and a
/// release that its makers offer on a page has none.
fn purl(package: &Package, vendor: &str) -> String {
    let (name, version) = (&package.name, package.version.as_str());
    if is_release(package) {
        return format!("pkg:generic/{}@{}", encoded(name), encoded(version));
    }
    let architecture = encoded(&package.architecture);
    if !is_rpm(&package.architecture) {
        let (vendor, name) = (encoded(vendor), encoded(&name.to_lowercase()));
        let version = encoded(version);
        return format!("pkg:deb/{vendor}/{name}@{version}?arch={architecture}");
    }
    let (epoch, version) = match version.split_once(':') {
        Some((epoch, rest)) => (format!("&epoch={}", encoded(epoch)), rest),
        None => (String::new(), version),
    };
    let (vendor, name, version) = (encoded(vendor), encoded(name), encoded(version));
    format!("pkg:rpm/{vendor}/{name}@{version}?arch={architecture}{epoch}")
}

/// Whether it has packages whose distribution must be said: of Debian's kind Debian's own are the likely ones, of the others none.
#[must_use]
pub fn has_rpm(manifest: &Manifest) -> bool {
    let mut packages = manifest.packages.iter();
    packages.any(|it| is_rpm(&it.architecture))
}

/// Architectures that rpm has and Debian calls otherwise.
fn is_rpm(architecture: &str) -> bool {
    let names = ["noarch", "x86_64", "aarch64", "ppc64le", "i686", "armv7hl"];
    names.contains(&architecture)
}

/// Percent-encoded as package URLs want it: a colon stays.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str, architecture: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            architecture: architecture.into(),
        }
    }

    fn manifest(packages: Vec<Package>) -> Manifest {
        let golden = include_str!("../../boot/contract/tests/golden/v1/base.manifest.json");
        let mut manifest = Manifest::parse(golden.as_bytes()).unwrap();
        manifest.packages = packages;
        manifest
    }

    #[test]
    fn packages_have_urls_that_scanners_know_them_by() {
        for (package, wanted) in [
            (
                package("libstdc++6", "12.2.0-14+deb12u1", "amd64"),
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64",
            ),
            (
                package("bsdutils", "1:2.38.1-5~x", "all"),
                "pkg:deb/debian/bsdutils@1:2.38.1-5~x?arch=all",
            ),
            (
                package("Perl-x", "4:5.1-2.el9", "noarch"),
                "pkg:rpm/debian/Perl-x@5.1-2.el9?arch=noarch&epoch=4",
            ),
            (
                package("agent", "1.2~rc1+b", "upstream"),
                "pkg:generic/agent@1.2~rc1%2Bb",
            ),
        ] {
            assert_eq!(purl(&package, "debian"), wanted);
        }
    }

    #[test]
    fn the_same_layer_gives_the_same_document_and_each_package_is_in_it_once() {
        let twice = || vec![package("a", "1", "amd64"), package("a", "1", "amd64")];
        let bom = cyclonedx(&manifest(twice()), "debian");
        assert_eq!(bom, cyclonedx(&manifest(twice()), "debian"));
        assert_eq!(bom.components.len(), 1);
        let digits = bom.serial_number.strip_prefix("urn:uuid:").unwrap();
        let lengths: Vec<_> = digits.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&digits[14..15], "8");
    }

    proptest::proptest! {
        /// Whatever a package is called, its URL has no other separators than its own, and says the name again.
        #[test]
        fn any_name_is_encoded_so_that_it_can_be_read_back(name in "\\PC{1,40}", version in "\\PC{1,40}") {
            let url = purl(&package(&name, &version, "amd64"), "debian");
            let rest = url.strip_prefix("pkg:deb/debian/").unwrap();
            let (found, rest) = rest.split_once('@').unwrap();
            let (of, arch) = rest.split_once('?').unwrap();
            proptest::prop_assert_eq!(arch, "arch=amd64");
            proptest::prop_assert_eq!(decoded(found), name.to_lowercase());
            proptest::prop_assert_eq!(decoded(of), version);
        }
    }

    fn decoded(text: &str) -> String {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let Some((first, more)) = rest.split_first() {
            rest = more;
            if *first == b'%' {
                let digits = std::str::from_utf8(&more[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &more[2..];
            } else {
                bytes.push(*first);
            }
        }
        String::from_utf8(bytes).unwrap()
    }
}
