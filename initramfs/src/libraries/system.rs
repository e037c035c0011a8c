//! Directories that glibc's loader searches by itself: Debian's has others than Red Hat's. They are written in the loader, which
//! says for certain; where it is not there, they may be those of any distribution.

use goblin::elf::header::{EM_386, EM_AARCH64, EM_ARM, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64};

use super::root::Root;
use crate::content::Content;

/// Largest loader, in bytes: Debian 12's has 220 KB, with debug information 2 MB.
const LOADER_BYTES_MAX: u64 = 64 << 20;

/// Directories of distributions whose libraries are not in one directory for each architecture.
const PLAIN_DIRS: [&str; 4] = ["lib64", "usr/lib64", "lib", "usr/lib"];

/// One architecture.
#[derive(Debug)]
struct Architecture {
    /// Its number in ELF headers.
    machine: u16,
    /// Debian's name of its directories.
    triplet: &'static str,
    /// What `$PLATFORM` may be; the first is every processor's.
    platforms: &'static [&'static str],
    /// `$LIB` where libraries are not in one directory for each architecture.
    lib: &'static str,
    /// The loader's path, which its ABI fixes.
    loader: &'static str,
}

const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        machine: EM_X86_64,
        triplet: "x86_64-linux-gnu",
        platforms: &["x86_64", "haswell", "xeon_phi"],
        lib: "lib64",
        loader: "lib64/ld-linux-x86-64.so.2",
    },
    Architecture {
        machine: EM_386,
        triplet: "i386-linux-gnu",
        platforms: &["i386", "i586", "i686"],
        lib: "lib",
        loader: "lib/ld-linux.so.2",
    },
    Architecture {
        machine: EM_AARCH64,
        triplet: "aarch64-linux-gnu",
        platforms: &["aarch64"],
        lib: "lib64",
        loader: "lib/ld-linux-aarch64.so.1",
    },
    Architecture {
        machine: EM_ARM,
        triplet: "arm-linux-gnueabihf",
        platforms: &["v6l", "v7l"],
        lib: "lib",
        loader: "lib/ld-linux-armhf.so.3",
    },
    Architecture {
        machine: EM_PPC64,
        triplet: "powerpc64le-linux-gnu",
        platforms: &["power8", "power9", "power10"],
        lib: "lib64",
        loader: "lib64/ld64.so.2",
    },
    Architecture {
        machine: EM_RISCV,
        triplet: "riscv64-linux-gnu",
        platforms: &["riscv64"],
        lib: "lib64",
        loader: "lib/ld-linux-riscv64-lp64d.so.1",
    },
    Architecture {
        machine: EM_S390,
        triplet: "s390x-linux-gnu",
        platforms: &["z13", "z14", "z15"],
        lib: "lib64",
        loader: "lib/ld64.so.1",
    },
];

/// The directories of one root's loaders.
pub(super) struct System {
    /// Of loaders that are there, by machine.
    told: Vec<(u16, Vec<String>)>,
}

impl System {
    pub(super) fn of(root: &dyn Root) -> Self {
        let told = ARCHITECTURES.iter().filter_map(|it| {
            let (_, content) = root.find(it.loader)?;
            let dirs = of_loader(&content);
            (!dirs.is_empty()).then_some((it.machine, dirs))
        });
        Self {
            told: told.collect(),
        }
    }

    /// Those that programs of this machine search, in order.
    pub(super) fn directories(&self, machine: u16) -> Vec<String> {
        if let Some((_, dirs)) = self.told.iter().find(|it| it.0 == machine) {
            return dirs.clone();
        }
        let known = ARCHITECTURES.iter().find(|it| it.machine == machine);
        let multiarch = known.into_iter().flat_map(|it| multiarch(it.triplet));
        multiarch.chain(PLAIN_DIRS.map(str::to_owned)).collect()
    }

    /// Whether a loader searches `dir`: one of those that are there, or any if none is.
    pub(super) fn searches(&self, dir: &str) -> bool {
        if !self.told.is_empty() {
            return self.told.iter().any(|it| it.1.iter().any(|it| it == dir));
        }
        let mut multiarch = ARCHITECTURES.iter().flat_map(|it| multiarch(it.triplet));
        PLAIN_DIRS.contains(&dir) || multiarch.any(|it| it == dir)
    }

    /// What `$LIB` stands for, or may.
    pub(super) fn lib(&self, machine: u16) -> Vec<String> {
        if let Some((_, dirs)) = self.told.iter().find(|it| it.0 == machine) {
            let first = dirs.first().map(String::as_str).unwrap_or_default();
            return vec![first.strip_prefix("usr/").unwrap_or(first).to_owned()];
        }
        let known = ARCHITECTURES.iter().find(|it| it.machine == machine);
        known.map_or(vec!["lib64".into(), "lib".into()], |it| {
            vec![format!("lib/{}", it.triplet), it.lib.into(), "lib".into()]
        })
    }
}

/// What `$PLATFORM` may stand for, every processor's first.
pub(super) fn platforms(machine: u16) -> &'static [&'static str] {
    let known = ARCHITECTURES.iter().find(|it| it.machine == machine);
    known.map_or(&[], |it| it.platforms)
}

/// A machine's directories on Debian, in the loader's order.
fn multiarch(triplet: &str) -> [String; 2] {
    [format!("lib/{triplet}"), format!("usr/lib/{triplet}")]
}

/// The directories that a loader names; none when it cannot be read or names none, as musl's.
fn of_loader(content: &Content) -> Vec<String> {
    match content.len() {
        0..=LOADER_BYTES_MAX => content.read().map_or(Vec::new(), |it| named(&it)),
        _ => Vec::new(),
    }
}

/// `system_dirs` of glibc's elf/dl-load.c: absolute directories, with a slash and NUL behind each; in no other text of the loader
/// is a slash the last. Whatever stands before the first is cut off.
fn named(bytes: &[u8]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in bytes.split(|byte| *byte == 0) {
        if text.last() != Some(&b'/') {
            continue;
        }
        let is_path = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(byte);
        let start = text.iter().rposition(|it| !is_path(it));
        let text = text.get(start.map_or(0, |at| at + 1)..).unwrap_or_default();
        let text = std::str::from_utf8(text).unwrap_or_default();
        let dir = text.find('/').and_then(|at| text.get(at..));
        let dir = dir.unwrap_or_default().trim_matches('/').to_owned();
        if dir.contains("lib") && !found.contains(&dir) {
            found.push(dir);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Meta, Tree};

    /// A root with a loader that has these directories written in it.
    fn with_loader(dirs: &[&str]) -> Tree {
        let mut bytes = b"\x7fELF\0/etc/ld.so.cache\0\x01x".to_vec();
        for dir in dirs {
            bytes.extend(format!("/{dir}/\0").into_bytes());
        }
        let mut tree = Tree::new();
        let content = Content::from_bytes(bytes);
        let loader = b"lib64/ld-linux-x86-64.so.2";
        tree.file(loader, Meta::root(0o755), content).unwrap();
        tree
    }

    #[test]
    fn a_distributions_loader_says_which_directories_are_searched() {
        let debian = [
            "lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu",
            "lib",
            "usr/lib",
        ];
        let system = System::of(&with_loader(&debian));
        assert_eq!(system.directories(EM_X86_64), debian);
        assert!(!system.searches("usr/lib64") && system.searches("usr/lib"));
        assert_eq!(system.lib(EM_X86_64), ["lib/x86_64-linux-gnu"]);
        let system = System::of(&with_loader(&["lib64", "usr/lib64"]));
        assert!(!system.searches("usr/lib") && system.searches("usr/lib64"));
        assert_eq!(system.lib(EM_X86_64), ["lib64"]);
        let system = System::of(&with_loader(&["usr/lib"]));
        assert_eq!(system.lib(EM_X86_64), ["lib"]);
    }

    #[test]
    fn where_no_loader_is_they_may_be_those_of_any_distribution() {
        for tree in [Tree::new(), with_loader(&[])] {
            let system = System::of(&tree);
            for dir in ["usr/lib64", "usr/lib", "lib/aarch64-linux-gnu"] {
                assert!(system.searches(dir), "{dir}");
            }
            assert_eq!(system.directories(EM_AARCH64).len(), 6);
        }
    }

    #[test]
    fn this_machines_loader_tells_its_directories() {
        let told = System::of(&crate::libraries::Machine).told;
        let mut searched = told.iter().flat_map(|it| &it.1);
        assert!(searched.any(|it| it.starts_with("usr/lib")), "{told:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_loader_names_plain_directories(bytes in proptest::collection::vec(0_u8..128, 0..300)) {
            for dir in named(&bytes) {
                proptest::prop_assert!(!dir.starts_with('/') && !dir.ends_with('/') && dir.contains("lib"));
            }
        }
    }
}
