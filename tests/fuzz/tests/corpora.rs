//! Every input of the corpora, once, as an ordinary test: the seeds, and what was once found.

use std::path::Path;

/// Checks all inputs for `target`; gives how many there are.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let inputs = std::fs::read_dir(&folder).expect("each target has a corpus");
    let mut count = 0;
    for input in inputs {
        let path = input.expect("an entry").path();
        // Shown when the test fails.
        println!("{}", path.display());
        check(&std::fs::read(path).expect("an input"));
        count += 1;
    }
    assert!(count > 2, "{} has {count} inputs", folder.display());
    check(b"");
}

macro_rules! corpora {
    ($($target:ident: $name:ident,)*) => {$(
        #[test]
        fn $name() {
            replay(stringify!($target), towline_fuzz::$target::check);
        }
    )*};
}

corpora! {
    api: the_corpus_of_api_bodies_keeps_to_its_properties,
    http: the_corpus_of_http_answers_keeps_to_its_properties,
    lanes: the_corpus_of_layers_keeps_to_its_properties,
    manifest: the_corpus_of_manifests_keeps_to_its_properties,
    metadata: the_corpus_of_metadata_keeps_to_its_properties,
    modules: the_corpus_of_module_indexes_keeps_to_its_properties,
    newc: the_corpus_of_archives_keeps_to_its_properties,
    plan: the_corpus_of_plans_keeps_to_its_properties,
    stamp: the_corpus_of_stamps_keeps_to_its_properties,
}
