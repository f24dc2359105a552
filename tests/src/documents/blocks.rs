//! The fenced blocks of a document.
//!
//! | block | meaning |
//! |---|---|
//! | `console` | lines that begin with `$ ` are commands (`> ` goes on with one); what follows is the output; lines that begin with `(rr) ` are commands for the gdb that the command before starts |
//! | `sh` | each line is a command that must succeed |
//! | others | not run; must not look like a command with its output |
//!
//! HTML comments before a block, which a reader does not see, give directions:
//!
//! * `<!-- first: COMMANDS -->`: the block begins in a new directory, and these commands are run before it. A block
//!   without it goes on in the directory of the block before.
//! * `<!-- not run: REASON -->`: the block is not run.
//! * ``<!-- not run: `COMMAND`: REASON -->``: the lines that begin with COMMAND are not run.

/// A command of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The number of its line in the document.
    pub line: usize,
    /// The command, without the prompt.
    pub text: String,
    /// The expected output. `None` if the document does not show any.
    pub output: Option<Vec<String>>,
    /// The commands for the debugger that this command starts.
    pub debugger: Vec<Command>,
}

/// Blocks that are run in one directory.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Commands that prepare the directory.
    pub first: String,
    /// The commands of the blocks.
    pub commands: Vec<Command>,
}

/// A parsed document.
#[derive(Debug, Default)]
pub struct Document {
    /// The commands to run.
    pub sections: Vec<Section>,
    /// Blocks and commands that are not run: line, and reason.
    pub left_out: Vec<(usize, String)>,
    /// Mistakes in the document: line, and complaint.
    pub mistakes: Vec<(usize, String)>,
}

/// The directions in the comments before a block.
#[derive(Default)]
struct Directions {
    first: Option<String>,
    not_run: Option<String>,
    lines_not_run: Vec<(String, String, bool)>,
}

impl Directions {
    /// Reads a comment.
    fn read(&mut self, comment: &str) {
        if let Some(commands) = comment.strip_prefix("first:") {
            self.first = Some(commands.trim().to_owned());
        } else if let Some(reason) = comment.strip_prefix("not run:") {
            let reason = reason.trim();
            match reason.strip_prefix('`').and_then(|r| r.split_once("`:")) {
                Some((command, reason)) => {
                    let line = (command.to_owned(), reason.trim().to_owned(), false);
                    self.lines_not_run.push(line);
                }
                None => self.not_run = Some(reason.to_owned()),
            }
        }
    }

    /// The reason why a command is not run.
    fn reason(&mut self, command: &str) -> Option<String> {
        let found = self
            .lines_not_run
            .iter_mut()
            .find(|(start, _, _)| command.starts_with(&**start))?;
        found.2 = true;
        Some(found.1.clone())
    }
}

/// Parses a document.
pub fn parse(text: &str) -> Document {
    let mut document = Document::default();
    let mut directions = Directions::default();
    let mut lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start();
        if let Some(start) = line.strip_prefix("<!--") {
            let mut comment = start.to_owned();
            while !comment.contains("-->") {
                let Some((_, more)) = lines.next() else { break };
                comment.push('\n');
                comment.push_str(more);
            }
            directions.read(comment.split("-->").next().unwrap_or_default().trim());
        } else if let Some(language) = line.strip_prefix("```") {
            let block: Vec<(usize, &str)> = lines
                .by_ref()
                .map_while(|(n, l)| (!l.trim_start().starts_with("```")).then_some((n, l)))
                .collect();
            document.add(number, language.trim(), &block, std::mem::take(&mut directions));
        } else if !line.is_empty() {
            directions = Directions::default();
        }
    }
    document
}

impl Document {
    fn add(&mut self, number: usize, language: &str, block: &[(usize, &str)], mut directions: Directions) {
        if let Some(reason) = directions.not_run {
            if reason.is_empty() {
                self.mistakes
                    .push((number, "a block is not run, and nobody says why".into()));
            }
            self.left_out.push((number, reason));
            return;
        }
        let commands = match language {
            "console" => console(block),
            "sh" => plain(block),
            _ => {
                let commands = block
                    .iter()
                    .filter(|(_, l)| l.starts_with("$ ") || l.starts_with("(rr) "));
                self.mistakes.extend(commands.map(|(n, l)| {
                    let l = l.trim();
                    (*n, format!("{l:?} is a command: the block should be ```console"))
                }));
                return;
            }
        };
        let commands = match commands {
            Ok(commands) => commands,
            Err(mistake) => return self.mistakes.push(mistake),
        };
        if directions.first.is_some() || self.sections.is_empty() {
            self.sections.push(Section {
                first: directions.first.take().unwrap_or_default(),
                commands: Vec::new(),
            });
        }
        for command in commands {
            match directions.reason(&command.text) {
                Some(reason) => self.left_out.push((command.line, reason)),
                None => {
                    let section = self.sections.last_mut().expect("there is a section");
                    section.commands.push(command);
                }
            }
        }
        for (command, _, used) in directions.lines_not_run {
            if !used {
                let mistake = format!("no command of the block begins with {command:?}");
                self.mistakes.push((number, mistake));
            }
        }
    }
}

/// The commands of a `console` block.
fn console(block: &[(usize, &str)]) -> Result<Vec<Command>, (usize, String)> {
    let mut commands: Vec<Command> = Vec::new();
    for &(line, text) in block {
        let command = |text: &str| Command {
            line,
            text: text.to_owned(),
            output: Some(Vec::new()),
            debugger: Vec::new(),
        };
        if let Some(text) = text.strip_prefix("$ ") {
            commands.push(command(text));
            continue;
        }
        let Some(last) = commands.last_mut() else {
            return Err((line, "a console block begins with a command (`$ …`)".into()));
        };
        if let Some(text) = text.strip_prefix("(rr) ") {
            last.debugger.push(command(text));
        } else if let Some(more) = text
            .strip_prefix("> ")
            .filter(|_| last.output.as_ref().is_some_and(Vec::is_empty))
        {
            last.text = format!("{}\n{more}", last.text);
        } else {
            let printed = if last.debugger.is_empty() {
                last
            } else {
                last.debugger.last_mut().expect("not empty")
            };
            printed
                .output
                .get_or_insert_default()
                .push(text.trim_end().to_owned());
        }
    }
    Ok(commands)
}

/// The commands of an `sh` block.
fn plain(block: &[(usize, &str)]) -> Result<Vec<Command>, (usize, String)> {
    let commands = block
        .iter()
        .filter(|(_, text)| !text.trim().is_empty() && !text.trim_start().starts_with('#'));
    Ok(commands
        .map(|&(line, text)| Command {
            line,
            text: text.trim().to_owned(),
            output: None,
            debugger: Vec::new(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_outputs_and_directions() {
        let text = "Text\n\n<!-- first: touch a\ntouch b -->\n```console\n$ ls\na\nb\n$ rr replay\n…\n(rr) next\n5\n```\n\
            \n```sh\nrr ls   # all\nrr serve 1\n```\n\n<!-- not run: too long -->\n\n```sh\nmake world\n```\n";
        let document = parse(text);
        assert_eq!(document.mistakes, []);
        assert_eq!(document.left_out, [(22, "too long".into())]);
        let [section] = &document.sections[..] else {
            panic!("{:?}", document.sections)
        };
        assert_eq!(section.first, "touch a\ntouch b");
        let [ls, replay, all, _] = &section.commands[..] else {
            panic!("{:?}", section.commands)
        };
        assert_eq!((ls.line, &*ls.text), (6, "ls"));
        assert_eq!(ls.output.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
        assert_eq!(replay.output.as_deref(), Some(&["…".to_owned()][..]));
        assert_eq!(replay.debugger[0].text, "next");
        assert_eq!(replay.debugger[0].output.as_deref(), Some(&["5".to_owned()][..]));
        assert_eq!((&*all.text, &all.output), ("rr ls   # all", &None));
    }

    #[test]
    fn one_line_can_be_left_out_with_a_reason() {
        let text = "<!-- not run: `rr serve`: it never ends -->\n```sh\nrr ls\nrr serve 1\n```\n";
        let document = parse(text);
        assert_eq!(document.left_out, [(4, "it never ends".into())]);
        assert_eq!(document.sections[0].commands.len(), 1);
        let unused = parse("<!-- not run: `rr swerve`: never -->\n```sh\nrr ls\n```\n");
        assert_eq!(unused.mistakes.len(), 1);
    }

    #[test]
    fn commands_do_not_hide() {
        assert_eq!(parse("```text\n$ rr ls\n```\n").mistakes.len(), 1);
        assert_eq!(parse("<!-- not run: -->\n```sh\nrr ls\n```\n").mistakes.len(), 1);
        assert_eq!(parse("```console\noutput\n```\n").mistakes.len(), 1);
    }
}
