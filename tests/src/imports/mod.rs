//! The imports between the files of a crate, read from its source: finds files that import each other
//! in a circle.
//!
//! Such files can only be understood together. So a shared type or constant has a file of its own,
//! below both.
//!
//! An import is a path that leads into another file of the crate: in a `use`, or in front of a name. A
//! re-export (`pub use`) counts for the files that use the re-exported name, and not for the file that
//! re-exports it. Test code does not count. Methods are not seen: a file may extend a type of another
//! file, and that file may call the method without naming the first.

mod sizes;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use sizes::Size;
use source::{Import, Source};

/// The place of a module in its crate: `[]` is the root, `["a", "b"]` is `crate::a::b`.
type ModulePath = Vec<String>;

/// The files of a crate, and their imports from each other.
#[derive(Debug)]
pub struct Imports {
    /// The directory of the root.
    dir: PathBuf,
    modules: BTreeMap<ModulePath, Module>,
}

#[derive(Debug)]
struct Module {
    /// Path of the file below the directory of the root.
    file: PathBuf,
    source: Source,
}

impl Imports {
    /// Reads the crate whose root is this file.
    pub fn of_crate(root: &Path) -> Imports {
        let dir = root.parent().expect("a file is in a directory");
        let mut imports = Imports {
            dir: dir.to_owned(),
            modules: BTreeMap::new(),
        };
        imports.read(root, Vec::new(), dir);
        imports
    }

    /// Reads a file, and the files of its modules, which are in `dir`.
    fn read(&mut self, file: &Path, path: ModulePath, dir: &Path) {
        let text = std::fs::read_to_string(file).expect("a file of the crate");
        let source = Source::parse(&text);
        for name in &source.children {
            let beside = dir.join(format!("{name}.rs"));
            let inside = dir.join(name).join("mod.rs");
            let found = [beside, inside].into_iter().find(|file| file.exists());
            // Other modules have a path of their own, and are files of another crate.
            if let Some(file) = found {
                let path = path.iter().chain([name]).cloned().collect();
                self.read(&file, path, &dir.join(name));
            }
        }
        let file = file.strip_prefix(&self.dir).unwrap_or(file).to_owned();
        self.modules.insert(path, Module { file, source });
    }

    /// The number of files.
    pub fn files(&self) -> usize {
        self.modules.len()
    }

    /// The sizes of the types, by name.
    pub fn sizes(&self) -> BTreeMap<String, Size> {
        let mut sizes = BTreeMap::new();
        let modules = self.modules.values();
        modules.for_each(|module| sizes::add(&module.source.tokens, &mut sizes));
        sizes
    }

    /// The circles, each with its files in order and the imports among them.
    pub fn circles(&self) -> Vec<Circle> {
        let edges = self.edges();
        let reached: BTreeMap<_, _> = self
            .modules
            .keys()
            .map(|from| (from, reach(from, &edges)))
            .collect();
        let mut done = BTreeSet::new();
        let mut circles = Vec::new();
        for (from, all) in &reached {
            if !all.contains(*from) || !done.insert((*from).clone()) {
                continue;
            }
            let members: Vec<&ModulePath> = all.iter().filter(|to| reached[to].contains(*from)).collect();
            done.extend(members.iter().map(|member| (*member).clone()));
            let file = |member: &ModulePath| self.modules[member].file.clone();
            let inside = |(pair, _): &(&(ModulePath, ModulePath), &BTreeSet<String>)| {
                members.contains(&&pair.0) && members.contains(&&pair.1)
            };
            let ties = edges.iter().filter(inside).map(|((from, to), names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!(
                    "{} -> {}: {}",
                    file(from).display(),
                    file(to).display(),
                    names.join(", ")
                )
            });
            circles.push(Circle {
                ties: ties.collect(),
                files: members.into_iter().map(file).collect(),
            });
        }
        circles
    }

    /// For each pair of files: the names that the first imports from the second.
    fn edges(&self) -> BTreeMap<(ModulePath, ModulePath), BTreeSet<String>> {
        let mut edges = BTreeMap::<_, BTreeSet<String>>::new();
        for (path, module) in &self.modules {
            for import in &module.source.imports {
                if import.is_handed_on && !module.source.words.contains(&import.name) {
                    continue;
                }
                let Some((to, name)) = self.target(path, &import.path, 0) else {
                    continue;
                };
                if to != *path {
                    edges.entry((path.clone(), to)).or_default().insert(name);
                }
            }
        }
        edges
    }

    /// The module that defines the target of a path in the module `from`, and the target's name in that
    /// module.
    fn target(&self, from: &ModulePath, path: &[String], hops: usize) -> Option<(ModulePath, String)> {
        let mut rest = path;
        let mut module = match rest.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => from.clone(),
            child
                if self.modules[from]
                    .source
                    .children
                    .iter()
                    .any(|name| name == child) =>
            {
                from.clone()
            }
            _ => return None,
        };
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => drop(module.pop()),
                name => {
                    let inner: ModulePath = module
                        .iter()
                        .map(String::as_str)
                        .chain([name])
                        .map(str::to_owned)
                        .collect();
                    if !self.modules.contains_key(&inner) {
                        break;
                    }
                    module = inner;
                }
            }
            rest = &rest[1..];
        }
        let Some(name) = rest.first() else {
            return Some((module, "(all)".into()));
        };
        if self.modules[&module].source.children.contains(name) {
            // A module with a path of its own: a file of another crate.
            return None;
        }
        let handed_on = |import: &&Import| import.is_handed_on && import.name == *name && import.path != path;
        let onward = self.modules[&module].source.imports.iter().find(handed_on);
        if let Some(onward) = onward
            && hops < 8
            && let Some(target) = self.target(&module, &onward.path, hops + 1)
        {
            return Some(target);
        }
        Some((module, name.clone()))
    }
}

/// All modules that can be reached from a module by one import or more.
fn reach(
    from: &ModulePath,
    edges: &BTreeMap<(ModulePath, ModulePath), BTreeSet<String>>,
) -> BTreeSet<ModulePath> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from.clone()];
    while let Some(module) = open.pop() {
        let next = edges.keys().filter(|(importer, _)| *importer == module);
        for (_, to) in next {
            if reached.insert(to.clone()) {
                open.push(to.clone());
            }
        }
    }
    reached
}

/// Files that import each other.
#[derive(Debug)]
pub struct Circle {
    /// The files.
    pub files: Vec<PathBuf>,
    /// The imports among them, a line each.
    pub ties: Vec<String>,
}
