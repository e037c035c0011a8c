//! The recipes that come with the program, and the files they use.

/// Name relative to a folder of recipes, and content.
const RECIPES: &[(&str, &[u8])] = &[
    (
        "kernel-debian.toml",
        include_bytes!("../recipes/kernel-debian.toml"),
    ),
    (
        "base-debian.toml",
        include_bytes!("../recipes/base-debian.toml"),
    ),
    (
        "agent-restic.toml",
        include_bytes!("../recipes/agent-restic.toml"),
    ),
    (
        "agent-borg.toml",
        include_bytes!("../recipes/agent-borg.toml"),
    ),
    (
        "agent-bacula.toml",
        include_bytes!("../recipes/agent-bacula.toml"),
    ),
    (
        "agent-run.toml",
        include_bytes!("../recipes/agent-run.toml"),
    ),
    (
        "agent-archive.toml",
        include_bytes!("../recipes/agent-archive.toml"),
    ),
    ("extra-ca.toml", include_bytes!("../recipes/extra-ca.toml")),
    (
        "personal-kernel.toml",
        include_bytes!("../recipes/personal-kernel.toml"),
    ),
    (
        "personal-base.toml",
        include_bytes!("../recipes/personal-base.toml"),
    ),
    (
        "live-kernel.toml",
        include_bytes!("../recipes/live-kernel.toml"),
    ),
    (
        "live-base.toml",
        include_bytes!("../recipes/live-base.toml"),
    ),
    (
        "host-portable.toml",
        include_bytes!("../recipes/host-portable.toml"),
    ),
    (
        "host-example.toml",
        include_bytes!("../recipes/host-example.toml"),
    ),
    (
        "host-example/disklayout.conf",
        include_bytes!("../recipes/host-example/disklayout.conf"),
    ),
    (
        "host-example/local.conf",
        include_bytes!("../recipes/host-example/local.conf"),
    ),
    (
        "host-example/os.conf",
        include_bytes!("../recipes/host-example/os.conf"),
    ),
    (
        "host-example/site.conf",
        include_bytes!("../recipes/host-example/site.conf"),
    ),
];

/// The ready recipes and the files beside them, to be written into a folder: names relative to it, some with a
/// directory, and contents.
pub fn ready_recipes() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    RECIPES.iter().copied()
}
