//! The modules and paths in one source file.

use std::collections::BTreeSet;

/// A path that may lead into another file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// Its parts.
    pub path: Vec<String>,
    /// The name by which the file refers to it.
    pub name: String,
    /// True for a `pub use`.
    pub is_handed_on: bool,
}

/// The contents of a file, without its tests.
#[derive(Debug)]
pub struct Source {
    /// The modules that the file declares.
    pub children: Vec<String>,
    /// All paths.
    pub imports: Vec<Import>,
    /// All words outside of `use`.
    pub words: BTreeSet<String>,
    /// The whole text.
    pub tokens: Vec<String>,
}

impl Source {
    /// Reads a file.
    pub fn parse(text: &str) -> Source {
        let tokens = without_tests(tokens(text));
        let mut source = Source {
            children: Vec::new(),
            imports: Vec::new(),
            words: BTreeSet::new(),
            tokens: Vec::new(),
        };
        let mut at = 0;
        let mut is_public = false;
        while let Some(token) = tokens.get(at) {
            match token.as_str() {
                // `pub(in path)` imports nothing.
                "pub" => {
                    is_public = true;
                    at += 1;
                    if tokens.get(at).is_some_and(|t| t == "(") {
                        at = closing(&tokens, at) + 1;
                    }
                    continue;
                }
                "mod" if tokens.get(at + 2).is_some_and(|t| t == ";") => {
                    source.children.push(tokens[at + 1].clone());
                    at += 2;
                }
                "use" => {
                    let end = (at..tokens.len())
                        .find(|n| tokens[*n] == ";")
                        .unwrap_or(tokens.len());
                    let (mut prefix, mut rest) = (Vec::new(), &tokens[at + 1..end]);
                    tree(&mut prefix, &mut rest, is_public, &mut source.imports);
                    at = end;
                }
                word if is_word(word) => {
                    let mut path = vec![word.to_owned()];
                    while tokens.get(at + 1).is_some_and(|t| t == "::")
                        && tokens.get(at + 2).is_some_and(|t| is_word(t))
                    {
                        path.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    source.words.extend(path.iter().cloned());
                    if let [_, .., last] = &path[..] {
                        source.imports.push(Import {
                            name: last.clone(),
                            path,
                            is_handed_on: false,
                        });
                    }
                }
                _ => {}
            }
            is_public = false;
            at += 1;
        }
        source.tokens = tokens;
        source
    }
}

/// Reads the paths of a `use`: `prefix` is the part before, `rest` the part that follows.
fn tree(prefix: &mut Vec<String>, rest: &mut &[String], is_handed_on: bool, imports: &mut Vec<Import>) {
    let depth = prefix.len();
    let mut alias = None;
    while let Some((token, more)) = rest.split_first() {
        match token.as_str() {
            "," | "}" => break,
            "{" => {
                *rest = more;
                loop {
                    tree(prefix, rest, is_handed_on, imports);
                    let Some((token, more)) = rest.split_first() else {
                        break;
                    };
                    *rest = more;
                    if token == "}" {
                        break;
                    }
                }
                prefix.truncate(depth);
                return;
            }
            "::" => *rest = more,
            "as" => {
                alias = more.first().cloned();
                *rest = more.get(1..).unwrap_or_default();
            }
            name => {
                prefix.push(name.to_owned());
                *rest = more;
            }
        }
    }
    if prefix.len() > depth {
        let mut path = prefix.clone();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = alias.or_else(|| path.last().cloned()).unwrap_or_default();
        imports.push(Import {
            path,
            name,
            is_handed_on,
        });
    }
    prefix.truncate(depth);
}

pub(super) fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Index of the bracket that closes the one at `open`.
pub(super) fn closing(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (n, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return n;
        }
    }
    tokens.len()
}

/// Leaves out code that exists only in tests.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = closing(&tokens, at + 1);
        let attribute = tokens[at] == "#" && tokens.get(at + 1).is_some_and(|t| t == "[");
        let said = tokens.get(at + 2..end).unwrap_or_default();
        let is_test =
            attribute && said.first().is_some_and(|t| t == "cfg") && said.iter().any(|t| t == "test");
        if !is_test || said.iter().any(|t| t == "not") {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at = end + 1;
        // The item that follows: to its semicolon or comma, or to the end of its block.
        while let Some(token) = tokens.get(at) {
            match token.as_str() {
                ";" | "," => break,
                "(" | "[" => at = closing(&tokens, at),
                "{" => {
                    at = closing(&tokens, at);
                    break;
                }
                "}" => {
                    at -= 1;
                    break;
                }
                _ => {}
            }
            at += 1;
        }
        at += 1;
    }
    out
}

/// Splits text into words and punctuation, one character each except `::`. Comments are left out, and a
/// quoted text is one token.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let here = chars[at];
        let next = chars.get(at + 1).copied();
        match here {
            _ if here.is_whitespace() => at += 1,
            '/' if next == Some('/') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if next == Some('*') => {
                let mut depth = 0;
                loop {
                    match (chars.get(at), chars.get(at + 1)) {
                        (Some('/'), Some('*')) => (depth, at) = (depth + 1, at + 2),
                        (Some('*'), Some('/')) => (depth, at) = (depth - 1, at + 2),
                        (None, _) => break,
                        _ => at += 1,
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            '"' => {
                at = end_of_quote(&chars, at, '"');
                out.push("\"\"".into());
            }
            // A character, or the name of a lifetime.
            '\'' if next == Some('\\') || chars.get(at + 2) == Some(&'\'') => {
                at = end_of_quote(&chars, at, '\'');
                out.push("''".into());
            }
            ':' if next == Some(':') => {
                out.push("::".into());
                at += 2;
            }
            _ if here.is_alphanumeric() || here == '_' => {
                let begin = at;
                while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                    at += 1;
                }
                let word: String = chars[begin..at].iter().collect();
                let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
                let is_raw =
                    matches!(word.as_str(), "r" | "br" | "cr") && chars.get(at + hashes) == Some(&'"');
                if is_raw {
                    let end: Vec<char> = std::iter::once('"').chain(vec!['#'; hashes]).collect();
                    at += hashes + 1;
                    while at < chars.len() && !chars[at..].starts_with(&end) {
                        at += 1;
                    }
                    at += end.len();
                    out.push("\"\"".into());
                } else {
                    out.push(word);
                }
            }
            _ => {
                out.push(here.into());
                at += 1;
            }
        }
    }
    out
}

/// Index behind the end of the quoted text that begins at `begin`.
fn end_of_quote(chars: &[char], begin: usize, quote: char) -> usize {
    let mut at = begin + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let imports = Source::parse(text).imports;
        imports.iter().map(|import| import.path.join("::")).collect()
    }

    #[test]
    fn uses_are_taken_apart() {
        let text = "pub(in crate::b) use a::{self, B as C, d::{E, f::*}};\nuse crate::x;";
        assert_eq!(paths(text), ["a", "a::B", "a::d::E", "a::d::f::*", "crate::x"]);
        let imports = Source::parse(text).imports;
        let names: Vec<&str> = imports.iter().map(|import| &*import.name).collect();
        assert_eq!(names, ["a", "C", "E", "*", "x"]);
        assert!(imports[0].is_handed_on && !imports[4].is_handed_on);
    }

    #[test]
    fn paths_in_code_count_and_those_in_comments_and_tests_do_not() {
        let text = r##"
            mod child;
            // crate::no::one
            /* crate::no::two /* */ crate::no::three */
            fn f<'a>(c: char) -> crate::yes::Type<'a> { g('\'', '"', "crate::no::four", r#"crate::no::"five"#); child::call() }
            #[cfg(test)]
            mod tests { use super::*; fn t() { crate::no::six() } }
            #[cfg(test)]
            use crate::no::{seven, eight};
            struct S { #[cfg(test)] a: crate::no::Nine, b: super::Yes }
            #[cfg(not(test))]
            use crate::yes::ten;
        "##;
        assert_eq!(
            paths(text),
            ["crate::yes::Type", "child::call", "super::Yes", "crate::yes::ten"]
        );
        assert_eq!(Source::parse(text).children, ["child"]);
    }
}
