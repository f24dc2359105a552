//! The sizes of the types of a crate: their fields, and their methods over all `impl` blocks.
//!
//! A type with many of both is one that every change has to be made in. Methods of traits do not count,
//! and tests do not. Types of the same name in different files count as one.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::source::{closing, is_word};

/// The size of a type.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Size {
    /// Named fields.
    pub fields: usize,
    /// Methods and associated functions.
    pub methods: usize,
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Size) {
        self.fields += other.fields;
        self.methods += other.methods;
    }
}

/// Counts how often `word` stands in a block that begins at `open`, outside of brackets within it. (An `fn` before a bracket is a type.)
fn count(tokens: &[String], open: usize, word: &str) -> usize {
    let (end, mut at, mut found) = (closing(tokens, open), open + 1, 0);
    while at < end {
        match tokens[at].as_str() {
            "(" | "[" | "{" => at = closing(tokens, at),
            token => found += usize::from(token == word && (word != "fn" || tokens[at + 1] != "(")),
        }
        at += 1;
    }
    found
}

/// Index behind the generic parameters that begin at `at`, if any do.
fn behind_generics(tokens: &[String], at: usize) -> usize {
    let (mut end, mut depth) = (at, 0);
    while let Some(token) = tokens.get(end) {
        match token.as_str() {
            "<" => depth += 1,
            // Not the end of an arrow.
            ">" if tokens[end - 1] != "-" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return if end == at { at } else { end + 1 };
        }
        end += 1;
    }
    end
}

/// Adds the types of a file.
pub(super) fn add(tokens: &[String], sizes: &mut BTreeMap<String, Size>) {
    for (at, token) in tokens.iter().enumerate() {
        let is_item = at == 0
            || matches!(
                tokens[at - 1].as_str(),
                "}" | ";" | "{" | "]" | ")" | "pub" | "unsafe"
            );
        let header = |from: usize| (from..tokens.len()).find(|n| matches!(tokens[*n].as_str(), "{" | ";"));
        match token.as_str() {
            "struct" if is_item => {
                let Some(name) = tokens.get(at + 1) else { continue };
                if let Some(open) = header(at).filter(|n| tokens[*n] == "{") {
                    let fields = count(tokens, open, ":");
                    *sizes.entry(name.clone()).or_default() += Size { fields, methods: 0 };
                }
            }
            "impl" if is_item => {
                let from = behind_generics(tokens, at + 1);
                let Some(open) = header(from).filter(|n| tokens[*n] == "{") else {
                    continue;
                };
                if tokens[from..open].iter().any(|t| t == "for") {
                    continue;
                }
                let path = tokens[from..open].iter().take_while(|t| is_word(t) || *t == "::");
                let Some(name) = path.filter(|t| is_word(t)).last() else {
                    continue;
                };
                let methods = count(tokens, open, "fn");
                *sizes.entry(name.clone()).or_default() += Size { fields: 0, methods };
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tokens;
    use super::*;

    #[test]
    fn fields_and_methods_are_counted_over_all_blocks() {
        let text = "pub(crate) struct A<'a, T: Copy> { a: &'a T, /// b: u8
                    pub(crate) b: HashMap<K, std::io::Result<V>>, #[x(c: 1)] c: fn(u8) -> u8, d: (u8, u8) }
                    struct B(u8); struct C;
                    impl<'a, T: Fn(u8) -> u8> A<'a, T> { pub fn one(&self) { let x: u8 = 1; fn not() {} } const fn two() {} }
                    impl std::fmt::Display for A<'_, u8> { fn fmt() {} }
                    unsafe impl Send for B {} impl crate::x::B { fn one() -> impl Iterator<Item = fn()> {} }
                    fn f() -> impl Fn() { struct Inner { a: u8 } }";
        let mut sizes = BTreeMap::new();
        add(&tokens(text), &mut sizes);
        let sizes: Vec<_> = sizes
            .iter()
            .map(|(name, s)| (name.as_str(), s.fields, s.methods))
            .collect();
        assert_eq!(sizes, [("A", 4, 2), ("B", 0, 1), ("Inner", 1, 0)]);
    }
}
