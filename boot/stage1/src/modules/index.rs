//! depmod's text indexes of one kernel's modules: `modules.dep`, `modules.alias`, `modules.softdep`, `modules.builtin`
//! (modules.dep(5); kmod reads binary copies of the same).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::pattern::matches;

/// The modules of one kernel.
#[derive(Debug, Default)]
pub struct Index {
    directory: PathBuf,
    modules: HashMap<String, Module>,
    /// By what is before the first `:` of the pattern, when that is without wildcards; devices have a few hundred of
    /// thousands of patterns to be compared with.
    aliases: HashMap<String, Vec<Alias>>,
    builtin: HashSet<String>,
}

/// The indexes as text.
#[derive(Debug, Default)]
pub struct Texts {
    /// `modules.dep`.
    pub dependencies: String,
    /// `modules.alias`.
    pub aliases: String,
    /// `modules.softdep`.
    pub soft_dependencies: String,
    /// `modules.builtin`.
    pub builtin: String,
}

/// One module that is a file.
#[derive(Debug, Default)]
struct Module {
    /// Below the index's directory.
    path: String,
    /// What must be loaded before, in the order in which depmod lists it: the last first.
    needs: Vec<String>,
    /// Loaded before and after if they can be.
    soft_before: Vec<String>,
    soft_after: Vec<String>,
}

#[derive(Debug)]
struct Alias {
    pattern: String,
    module: String,
}

impl Index {
    /// Reads the indexes in `directory` (`/lib/modules/RELEASE`).
    ///
    /// # Errors
    /// `modules.dep` cannot be read. The others may be absent: then modules are found by name only.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let text = |name: &str| fs::read_to_string(directory.join(name));
        Ok(Self::parse(
            directory,
            &Texts {
                dependencies: text("modules.dep")?,
                aliases: text("modules.alias").unwrap_or_default(),
                soft_dependencies: text("modules.softdep").unwrap_or_default(),
                builtin: text("modules.builtin").unwrap_or_default(),
            },
        ))
    }

    /// The same of texts. Lines that are not understood are passed over, as kmod does.
    #[must_use]
    pub fn parse(directory: &Path, texts: &Texts) -> Self {
        let mut index = Self {
            directory: directory.to_owned(),
            ..Self::default()
        };
        index.add_dependencies(&texts.dependencies);
        index.add_aliases(&texts.aliases);
        index.add_soft_dependencies(&texts.soft_dependencies);
        let builtin = texts.builtin.lines();
        index.builtin.extend(builtin.map(module_name));
        index
    }

    /// Modules for a device's alias or a module's name, sorted.
    #[must_use]
    pub fn resolve(&self, alias: &str) -> Vec<&str> {
        let name = underscored(alias);
        if let Some((name, _)) = self.modules.get_key_value(&name) {
            return vec![name];
        }
        let with_bus = alias
            .split_once(':')
            .and_then(|(bus, _)| self.aliases.get(&underscored(bus)));
        let any = self.aliases.get("");
        let candidates = with_bus.into_iter().chain(any).flatten();
        let found = candidates.filter(|it| matches(&it.pattern, alias));
        let found: BTreeMap<_, _> = found.map(|it| (it.module.as_str(), ())).collect();
        found.into_keys().collect()
    }

    /// The files to load for `module`, in order, with the module's name; soft dependencies that do not exist are left out.
    #[must_use]
    pub fn load_order(&self, module: &str) -> Vec<(&str, PathBuf)> {
        let module = self.modules.get_key_value(&underscored(module));
        // Without recursion: a chain of dependencies may be as long as its file.
        let mut steps = Vec::from_iter(module.map(|(name, _)| Step::Want(name)));
        let (mut seen, mut order) = (HashSet::new(), Vec::new());
        while let Some(step) = steps.pop() {
            match step {
                Step::Load(name, module) => order.push((name, self.directory.join(&module.path))),
                Step::Want(name) => {
                    let found = self.modules.get_key_value(name);
                    let Some((name, module)) = found.filter(|(name, _)| seen.insert(*name)) else {
                        continue;
                    };
                    // The last one in comes out first.
                    steps.extend(self.soft(&module.soft_after).rev());
                    steps.push(Step::Load(name, module));
                    steps.extend(module.needs.iter().map(|it| Step::Want(it)));
                    steps.extend(self.soft(&module.soft_before).rev());
                }
            }
        }
        order
    }

    /// Soft dependencies are modules' names or aliases.
    fn soft<'a>(&'a self, words: &'a [String]) -> std::vec::IntoIter<Step<'a>> {
        let names = words.iter().flat_map(|word| self.resolve(word));
        names.map(Step::Want).collect::<Vec<_>>().into_iter()
    }

    /// Whether the kernel has it without a file.
    #[must_use]
    pub fn is_builtin(&self, module: &str) -> bool {
        self.builtin.contains(&underscored(module))
    }

    fn add_dependencies(&mut self, text: &str) {
        for (path, needs) in text.lines().filter_map(|line| line.split_once(':')) {
            let module = self.modules.entry(module_name(path)).or_default();
            path.clone_into(&mut module.path);
            module.needs = needs.split_whitespace().map(module_name).collect();
        }
    }

    fn add_aliases(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let bus = pattern.split_once(':').map_or("", |(bus, _)| bus);
            let bus = if bus.contains(['*', '?', '[', '\\']) {
                ""
            } else {
                bus
            };
            self.aliases
                .entry(underscored(bus))
                .or_default()
                .push(Alias {
                    pattern: pattern.to_owned(),
                    module: underscored(module),
                });
        }
    }

    fn add_soft_dependencies(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            let Some(module) = self.modules.get_mut(&underscored(name)) else {
                continue;
            };
            // Without `pre:` or `post:` a word counts as before (modprobe.d(5)).
            let mut after = false;
            for word in words {
                match word {
                    "pre:" => after = false,
                    "post:" => after = true,
                    word if after => module.soft_after.push(word.to_owned()),
                    word => module.soft_before.push(word.to_owned()),
                }
            }
        }
    }
}

/// What is left to do for a load order.
enum Step<'a> {
    /// To load a module, with what it needs.
    Want(&'a str),
    /// To load it, now that what it needs is.
    Load(&'a str, &'a Module),
}

/// The name of the module in a file: `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    underscored(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mut index = Index {
            directory: "/lib/modules/6.1".into(),
            ..Index::default()
        };
        index.add_dependencies(
            "kernel/drivers/net/virtio_net.ko: kernel/net/net_failover.ko kernel/net/failover.ko kernel/virtio.ko\n\
             kernel/net/net_failover.ko: kernel/net/failover.ko\n\
             kernel/net/failover.ko:\nkernel/virtio.ko:\n\
             kernel/drivers/net/phy/realtek.ko:\nkernel/drivers/net/r8169.ko:\n\
             kernel/fs/ext4.ko: kernel/fs/jbd2.ko\nkernel/fs/jbd2.ko:\n\
             kernel/crypto/crc32c-generic.ko:\nkernel/crypto/crc32c-intel.ko:\n",
        );
        index.add_aliases(
            "# Aliases extracted from modules themselves.\n\
             alias virtio:d00000001v* virtio_net\n\
             alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169\n\
             alias crypto-crc32c crc32c_generic\nalias crypto-crc32c crc32c_intel\n",
        );
        index.add_soft_dependencies(
            "softdep r8169 pre: realtek\nsoftdep ext4 crypto-crc32c\n\
             softdep realtek post: r8169\nsoftdep unknown pre: x\n",
        );
        index
    }

    fn names(index: &Index, module: &str) -> Vec<String> {
        let order = index.load_order(module);
        order.into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it() {
        assert_eq!(
            names(&index(), "virtio-net"),
            ["virtio", "failover", "net_failover", "virtio_net"]
        );
    }

    #[test]
    fn soft_dependencies_are_resolved_through_aliases_and_rings_end() {
        assert_eq!(names(&index(), "r8169"), ["realtek", "r8169"]);
        let ext4 = names(&index(), "ext4");
        assert_eq!(ext4, ["crc32c_generic", "crc32c_intel", "jbd2", "ext4"]);
    }

    #[test]
    fn a_device_finds_its_modules_and_an_unknown_one_none() {
        let index = index();
        assert_eq!(index.resolve("virtio:d00000001v00001AF4"), ["virtio_net"]);
        let device = "pci:v000010ECd00008168sv00001043sd00008677bc02sc00i00";
        assert_eq!(index.resolve(device), ["r8169"]);
        assert!(
            index
                .resolve("pci:v0000FFFFd00008168sv0sd0bc02sc00i00")
                .is_empty()
        );
    }

    #[test]
    fn a_bus_is_found_whichever_way_it_is_spelled() {
        let mut index = index();
        index.add_aliases("alias xen-backend:vbd xen_blkback\nalias a\\b:* other\n");
        assert_eq!(index.resolve("xen_backend:vbd"), ["xen_blkback"]);
        assert_eq!(index.resolve("ab:c"), ["other"]);
    }

    #[test]
    fn a_chain_of_dependencies_as_long_as_its_file_does_not_overflow_the_stack() {
        let lines = (0..200_000).map(|number| format!("m{number}.ko: m{}.ko\n", number + 1));
        let texts = Texts {
            dependencies: lines.collect(),
            ..Texts::default()
        };
        let index = Index::parse(Path::new("/"), &texts);
        assert_eq!(index.load_order("m0").len(), 200_000);
    }

    #[test]
    fn names_come_from_compressed_files_too() {
        for path in [
            "kernel/a/snd-hda.ko",
            "snd-hda.ko.zst",
            "kernel/snd-hda.ko.xz",
        ] {
            assert_eq!(module_name(path), "snd_hda");
        }
    }
}
