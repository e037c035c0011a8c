//! The values of a recipe's variables.

use std::collections::BTreeMap;
use std::path::Path;

use towline_initramfs::recipe::Recipe;

use super::failures::recipe_failure;
use crate::commands::stage1::stage1;
use crate::exit::{Exit, Failure};

/// The variable of recipes that is the stage 1 program.
const STAGE1: &str = "stage1";

/// The variable that says which release is built.
const VERSION: &str = "version";

/// A value as it is given on the command line.
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The values of the recipe's variables. Every value given must be of use; stage 1 is found when none is given.
pub(in crate::commands) fn settings(
    recipe: &Path,
    given: &[(String, String)],
) -> Result<BTreeMap<String, String>, Failure> {
    let mut settings: BTreeMap<_, _> = given.iter().cloned().map(absolute).collect();
    let used = Recipe::variables(recipe).map_err(recipe_failure)?;
    if let Some(unused) = settings.keys().find(|name| !used.contains(*name)) {
        let recipe = recipe.display();
        let error = anyhow::anyhow!("recipe {recipe} uses no ${{{unused}}}");
        let names: Vec<_> = used.into_iter().collect();
        let next = match names.as_slice() {
            [] => "it uses no variables: leave out --set".to_owned(),
            names => format!("its variables are {}", names.join(", ")),
        };
        return Err(Failure::new(Exit::Usage, error).next(next));
    }
    if used.contains(STAGE1) {
        let chosen = settings.get(STAGE1).map(Path::new);
        let path = stage1(chosen, "--set stage1=FILE")?;
        settings.insert(STAGE1.to_owned(), path.to_string_lossy().into_owned());
    }
    Ok(settings)
}

/// A value that names a file of this machine is made absolute: the recipe's own paths are relative to the recipe. A version is
/// none, though a release may well lie unpacked in a folder that is called so.
fn absolute((name, value): (String, String)) -> (String, String) {
    if name == VERSION {
        return (name, value);
    }
    let path = Path::new(&value).canonicalize().ok();
    let path = path.and_then(|path| path.to_str().map(str::to_owned));
    (name, path.unwrap_or(value))
}
