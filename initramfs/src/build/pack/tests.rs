//! What becomes of an image whose blocks cannot be kept.

use std::collections::BTreeMap;
use std::fs;

use towline_contract::Digest;

use super::*;
use crate::build::{Options, build};

/// Builds the recipe in `dir` with the cache of this name there; gives the layer's digest and what was said.
fn built(dir: &Path, cache: &str) -> (Digest, Vec<String>) {
    let recipe = Recipe::read(&dir.join("recipe.toml"), &BTreeMap::new()).unwrap();
    let options = Options {
        out: dir.join("out"),
        cache: dir.join(cache),
        fetch_wait: None,
    };
    let mut said = Vec::new();
    let built = build(&recipe, &options, &mut |line| said.push(line.to_owned())).unwrap();
    let layer = fs::read(built.layer).unwrap();
    assert_eq!(Digest::of(&layer), built.manifest.digest);
    (built.manifest.digest, said)
}

#[test]
fn a_cache_that_cannot_be_written_stops_no_layer_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("tree")).unwrap();
    fs::write(dir.join("tree/file"), "a file").unwrap();
    let recipe = "kind = \"base\"\nname = \"own\"\nversion = \"1\"\nform = \"image\"\n\n\
                  [[source]]\ntype = \"directory\"\npath = \"tree\"\n";
    fs::write(dir.join("recipe.toml"), recipe).unwrap();
    fs::create_dir(dir.join("unfit")).unwrap();
    fs::write(dir.join("unfit/images"), "no folder").unwrap();
    let (wanted, said) = built(dir, "cache");
    assert!(!said.concat().contains("not kept"), "{said:?}");
    let (found, said) = built(dir, "unfit");
    assert_eq!(found, wanted);
    let place = dir.join("unfit/images/base-own-amd64");
    let place = format!("cannot write to {}", place.display());
    let is_told = |line: &String| line.contains("are not kept") && line.contains(&place);
    assert!(said.iter().any(is_told), "{said:?}");
    // Where there is something to find, it is found; and the same comes of it.
    let (found, said) = built(dir, "cache");
    assert_eq!(found, wanted);
    assert!(
        said.concat().contains("those of an earlier build"),
        "{said:?}"
    );
}
