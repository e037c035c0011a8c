//! All that one program loads, in the loader's order: breadth first, each library once, by the first who asks for it.

use std::collections::HashMap;
use std::sync::Arc;

use super::LibraryError;
use super::loader::{Flavour, Found, Loader, User};
use crate::elf::{Elf, Priority};

/// One file that asks for one library.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// Path of the file that asks.
    pub(super) user: String,
    /// The library's name.
    pub(super) name: String,
    /// Where it is.
    pub(super) found: Option<Found>,
    /// Whether the file says it can do without.
    pub(super) optional: bool,
}

/// What a program loads.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    /// Who asks for what.
    pub(super) asks: Vec<Ask>,
    /// Files by the path that they are looked up at, and their real paths; the program first.
    pub(super) files: Vec<(String, String)>,
    /// What they are, in the same order.
    pub(super) elves: Vec<Arc<Elf>>,
}

/// The program to walk from.
pub(super) struct Start<'a> {
    /// The path it is looked up at.
    pub(super) path: &'a str,
    /// Its real path.
    pub(super) real: &'a str,
    /// What it asks for.
    pub(super) elf: Arc<Elf>,
    /// Which loader starts it.
    pub(super) flavour: &'a Flavour,
    /// Libraries that it loads while it runs, beside those that its notes tell.
    pub(super) dlopen: &'a [String],
}

/// Walks through all that `start` loads.
///
/// # Errors
/// A file cannot be read, or is damaged.
pub(super) fn walk(loader: &mut Loader<'_>, start: &Start<'_>) -> Result<Walk, LibraryError> {
    let mut loaded = Loaded {
        loader,
        flavour: start.flavour,
        names: HashMap::new(),
        reals: HashMap::new(),
        users: Vec::new(),
        walk: Walk::default(),
    };
    let program = User {
        // `$ORIGIN` of a program is where Linux says that it is.
        path: start.real.to_owned(),
        elf: Arc::clone(&start.elf),
        inherited: Vec::new(),
    };
    loaded.add(start.path.to_owned(), start.real.to_owned(), program);
    loaded.interpreter(&start.elf)?;
    let mut next = 0;
    while let Some(user) = loaded.users.get(next).cloned() {
        for name in &user.elf.needed {
            loaded.ask(next, std::slice::from_ref(name), false)?;
        }
        if next == 0 {
            for name in start.dlopen {
                loaded.ask(next, std::slice::from_ref(name), false)?;
            }
        }
        let notes = user.elf.dlopen.iter();
        for note in notes.filter(|it| it.priority != Priority::Suggested) {
            loaded.ask(next, &note.soname, note.priority != Priority::Required)?;
        }
        next += 1;
    }
    Ok(loaded.walk)
}

struct Loaded<'l, 'a> {
    loader: &'l mut Loader<'a>,
    flavour: &'l Flavour,
    /// What is loaded, by the names that it was asked for, and by its own.
    names: HashMap<String, Found>,
    /// The same by real paths.
    reals: HashMap<String, Found>,
    users: Vec<User>,
    walk: Walk,
}

impl Loaded<'_, '_> {
    fn add(&mut self, path: String, real: String, user: User) {
        self.walk.files.push((path, real));
        self.walk.elves.push(Arc::clone(&user.elf));
        self.users.push(user);
    }

    /// The loader itself is loaded before anything else, by whatever name it is asked for. musl's is the C library too.
    fn interpreter(&mut self, program: &Elf) -> Result<(), LibraryError> {
        let Some(path) = program.interpreter.as_deref() else {
            return Ok(());
        };
        let path = path.trim_start_matches('/').to_owned();
        let Some((real, content)) = self.loader.root.find(&path) else {
            return Ok(());
        };
        let Some(elf) = self.loader.elf(&real, &content)? else {
            return Ok(());
        };
        let common = path
            .rsplit_once('/')
            .is_some_and(|(dir, _)| self.loader.searches(dir));
        let found = Found {
            path: path.clone(),
            common,
        };
        let own = path.rsplit('/').next().unwrap_or(&path).to_owned();
        for name in elf.soname.iter().cloned().chain([own]) {
            self.names.insert(name, found.clone());
        }
        self.reals.insert(real.clone(), found);
        let user = User {
            path: path.clone(),
            elf,
            inherited: Vec::new(),
        };
        self.add(path, real, user);
        Ok(())
    }

    /// Loads the first of `names` that is there, for the user of this number.
    fn ask(&mut self, user: usize, names: &[String], optional: bool) -> Result<(), LibraryError> {
        let (Some(asks), Some(first)) = (self.users.get(user).cloned(), names.first()) else {
            return Ok(());
        };
        let mut ask = Ask {
            user: self
                .walk
                .files
                .get(user)
                .map(|it| it.0.clone())
                .unwrap_or_default(),
            name: first.clone(),
            found: None,
            optional,
        };
        for name in names {
            if self.is_musls_own(name) {
                return Ok(());
            }
            if let Some(found) = self.load(name, &asks)? {
                (ask.name, ask.found) = (name.clone(), Some(found));
                break;
            }
        }
        self.walk.asks.push(ask);
        Ok(())
    }

    fn load(&mut self, name: &str, asks: &User) -> Result<Option<Found>, LibraryError> {
        if let Some(known) = self.names.get(name) {
            return Ok(Some(known.clone()));
        }
        let Some(found) = self.loader.find(name, asks, self.flavour)? else {
            return Ok(None);
        };
        let Some((real, content)) = self.loader.root.find(&found.path) else {
            return Ok(None);
        };
        let Some(elf) = self.loader.elf(&real, &content)? else {
            return Ok(None);
        };
        self.names.insert(name.to_owned(), found.clone());
        if let Some(known) = self.reals.get(&real) {
            // The same file by another name is loaded once, but must be there by this name too.
            let (path, user) = (found.path.clone(), known.clone());
            self.walk.files.push((path, real));
            self.walk.elves.push(elf);
            self.users.push(User {
                path: user.path,
                elf: Arc::new(Elf::default()),
                inherited: Vec::new(),
            });
            return Ok(Some(found));
        }
        if let Some(own) = &elf.soname {
            self.names
                .entry(own.clone())
                .or_insert_with(|| found.clone());
        }
        self.reals.insert(real.clone(), found.clone());
        let user = User {
            path: found.path.clone(),
            elf,
            inherited: self.loader.heritage(asks, self.flavour),
        };
        self.add(found.path.clone(), real, user);
        Ok(Some(found))
    }

    /// Names that musl's loader takes for itself (ldso/dynlink.c, `load_library`).
    fn is_musls_own(&self, name: &str) -> bool {
        let part = name.strip_prefix("lib").and_then(|it| it.split_once(".so"));
        let own = ["c", "pthread", "rt", "m", "dl", "util", "xnet"];
        *self.flavour != Flavour::Glibc && part.is_some_and(|(name, _)| own.contains(&name))
    }
}
