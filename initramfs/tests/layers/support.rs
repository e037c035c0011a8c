//! Recipes, folders, packages and foreign programs for the tests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use towline_initramfs::build::{self, BuildError, Built, Options};
use towline_initramfs::recipe::{Recipe, RecipeError};

/// A folder with a recipe in it, and one for results.
pub(crate) struct Workshop {
    pub(crate) dir: TempDir,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file, and the folders it lies in.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Builds what `recipe` says into the folder `out`.
    pub(crate) fn build_into(&self, out: &str, recipe: &str) -> Result<Built, BuildError> {
        let recipe = self.parse(recipe).expect("the recipe is valid");
        let options = Options {
            out: self.path(out),
            cache: package_cache(),
            fetch_wait: None,
        };
        build::build(&recipe, &options, &mut |_| {})
    }

    pub(crate) fn build(&self, recipe: &str) -> Result<Built, BuildError> {
        self.build_into("out", recipe)
    }

    pub(crate) fn parse(&self, recipe: &str) -> Result<Recipe, RecipeError> {
        Recipe::parse(&self.path("recipe.toml"), recipe, &BTreeMap::new())
    }
}

/// The folder of packages that all tests share and later runs find again.
pub(crate) fn package_cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages")
}

/// All messages of an error and its causes.
pub(crate) fn messages(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// What a command prints; it must succeed.
pub(crate) fn output(command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|cause| panic!("cannot run {command:?}: {cause}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// What a command prints when `input` is its standard input.
pub(crate) fn filter(command: &mut Command, input: &[u8]) -> Vec<u8> {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    file.rewind().unwrap();
    output(command.stdin(file))
}

/// The archive in a stored layer, unpacked by the `zstd` program.
pub(crate) fn unpacked(layer: &Path) -> Vec<u8> {
    let stored = fs::read(layer).unwrap();
    if stored.starts_with(b"0707") {
        return stored;
    }
    // `zstd` refuses the zeros that pad the file to a multiple of 4; the kernel does not.
    let end = stored.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let frames = (end..=stored.len().min(end + 4)).map(|end| &stored[..end]);
    let decoded = frames
        .into_iter()
        .find_map(|frame| zstd::decode_all(frame).ok());
    decoded.expect("one zstd frame and padding")
}

/// The text of a recipe with one directory as its source.
pub(crate) fn directory_recipe(more: &str) -> String {
    format!(
        "kind = \"base\"\nname = \"test\"\nversion = \"1\"\nform = \"files\"\nlevel = 3\ntime = \"2025-01-01T00:00:00Z\"\n\
         {more}\n[[source]]\ntype = \"directory\"\npath = \"tree\"\n"
    )
}

/// Bytes that no compression makes smaller (xorshift64).
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let numbers = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    numbers.flat_map(u64::to_le_bytes).take(bytes).collect()
}
