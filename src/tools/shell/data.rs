//! Which part of a call is data for certain, also where a program runs what it is given.
//!
//! Nobody knows the options of all programs, so nothing is concluded from one that is not in the table: what comes after
//! it may be its value, and what comes after that the code, or the program, that is run.

use std::ops::Range;

/// What is data, whatever is in it.
#[derive(Debug)]
pub(super) struct Data {
    /// Of the arguments, the program included.
    pub(super) arguments: Range<usize>,
    /// What the program reads.
    pub(super) stdin: bool,
}

/// Programs that run what they are given, and options of theirs that nothing else is meant by anywhere.
struct Known {
    names: &'static [&'static str],
    /// Letters of options without a value.
    flags: &'static str,
    /// Letters of options with one.
    valued: &'static str,
    runs: Runs,
}

#[derive(Clone, Copy)]
enum Runs {
    /// What comes after an option of one of these letters; otherwise the file that is the first operand; otherwise what
    /// is read. If `ends`, all that comes after such an option and its code is for the code to look at.
    File { code: &'static str, ends: bool },
    /// What comes after an option of one of these letters; otherwise the first operand. Other options may come last.
    Operand { code: &'static str },
    /// A program, after so many operands and any variables that are set for it.
    Program { operands: usize },
    /// More than can be told from its arguments.
    Anything,
}

const fn known(names: &'static [&'static str], flags: &'static str, valued: &'static str, runs: Runs) -> Known {
    Known { names, flags, valued, runs }
}

const KNOWN: [Known; 17] = [
    known(&["ash", "bash", "dash", "ksh", "sh", "zsh"], "aefuvx", "o", Runs::File { code: "c", ends: true }),
    known(&["pypy", "python"], "BEIOSbsu", "WX", Runs::File { code: "c", ends: true }),
    known(&["perl", "ruby"], "alnpw", "", Runs::File { code: "e", ends: false }),
    known(&["node", "nodejs"], "", "", Runs::File { code: "ep", ends: false }),
    known(&["php"], "n", "", Runs::File { code: "r", ends: false }),
    known(&["csh", "fish", "julia", "lua", "rscript", "tclsh", "tcsh"], "", "", Runs::File { code: "", ends: false }),
    known(&["awk", "gawk", "mawk", "nawk"], "", "Fv", Runs::Operand { code: "" }),
    known(&["gsed", "sed"], "Enrsuz", "", Runs::Operand { code: "e" }),
    known(&["busybox", "nohup", "setsid"], "", "", Runs::Program { operands: 0 }),
    known(&["doas", "sudo"], "n", "u", Runs::Program { operands: 0 }),
    known(&["env"], "i", "u", Runs::Program { operands: 0 }),
    known(&["nice"], "", "n", Runs::Program { operands: 0 }),
    known(&["stdbuf"], "", "eio", Runs::Program { operands: 0 }),
    known(&["time"], "p", "", Runs::Program { operands: 0 }),
    known(&["timeout"], "", "ks", Runs::Program { operands: 1 }),
    known(&["bun", "deno", "npx", "osascript", "pwsh"], "", "", Runs::Anything),
    known(&["chroot", "flock", "parallel", "script", "ssh", "su", "watch", "xargs"], "", "", Runs::Anything),
];

/// Where the commands begin that `find` runs.
const FIND_RUNS: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];

impl Data {
    const NONE: Self = Self { arguments: 0..0, stdin: false };

    /// Of these arguments, the program first, where nothing stands for one that has a result in it and is no option.
    pub(super) fn of(argv: &[Option<&str>]) -> Self {
        let mut at = 0;
        while let Some(&Some(program)) = argv.get(at) {
            let Some(known) = Known::of(program) else { return Self::of_other(program, at + 1, argv) };
            let Some((end, has_code)) = known.options(at + 1, argv) else { return Self::NONE };
            match known.runs {
                Runs::Program { operands } => {
                    let rest = argv.get(end + operands..).unwrap_or_default();
                    let variables = rest.iter().take_while(|argument| argument.is_some_and(|text| text.contains('=')));
                    at = end + operands + variables.count();
                }
                Runs::File { ends, .. } if has_code => {
                    return Self { arguments: end..if ends { argv.len() } else { end }, stdin: true };
                }
                Runs::File { .. } => return Self::of_file(end, argv),
                Runs::Operand { .. } => return Self::of_files(if has_code { end } else { end + 1 }, argv),
                Runs::Anything => return Self::NONE,
            }
        }
        Self::NONE
    }

    /// Of a program that is not known to run anything, whose arguments these are.
    fn of_other(program: &str, first: usize, argv: &[Option<&str>]) -> Self {
        let runs = |argument: &Option<&str>| argument.is_some_and(|text| FIND_RUNS.contains(&text));
        let end = if name(program) == "find" { argv.iter().position(runs) } else { None };
        // A program has no name that looks like an option: one before was not what it seemed to be.
        match program.starts_with('-') {
            true => Self::NONE,
            false => Self { arguments: first..end.unwrap_or(argv.len()), stdin: true },
        }
    }

    /// Of a program that runs the file that is named first.
    fn of_file(first: usize, argv: &[Option<&str>]) -> Self {
        // What it reads can have the name of a file.
        let is_read = |file: &str| file.starts_with("/dev/") || file.starts_with("/proc/");
        match argv.get(first) {
            Some(Some(file)) if !is_read(file) => Self { arguments: first + 1..argv.len(), stdin: true },
            _ => Self::NONE,
        }
    }

    /// Of a program that has its code and is given files.
    fn of_files(first: usize, argv: &[Option<&str>]) -> Self {
        let written = argv.get(first..).unwrap_or_default().iter().flatten();
        let has_options = written.take_while(|text| **text != "--").any(|text| text.starts_with('-'));
        Self { arguments: first..if has_options { first } else { argv.len() }, stdin: true }
    }
}

impl Known {
    fn of(program: &str) -> Option<&'static Self> {
        let name = name(program);
        KNOWN.iter().find(|known| known.names.contains(&&*name))
    }

    /// Where the options end that begin here, and whether code was among them, if all of that is certain.
    fn options(&self, first: usize, argv: &[Option<&str>]) -> Option<(usize, bool)> {
        let (code, ends, may_be_joined) = match self.runs {
            // A shell takes the next argument for the value, whatever else there is in the same one.
            Runs::File { code, ends } => (code, ends, false),
            Runs::Operand { code } => (code, false, true),
            Runs::Program { .. } | Runs::Anything => ("", false, true),
        };
        let (mut at, mut has_code) = (first, false);
        while let Some(&Some(argument)) = argv.get(at)
            && argument.starts_with(['-', '+'])
        {
            let letters = argument.strip_prefix('-').filter(|letters| !letters.is_empty())?;
            let last = letters.trim_start_matches(|letter| self.flags.contains(letter));
            let letter = last.chars().next();
            let is_joined = last.chars().nth(1).is_some();
            at += 1;
            match letter {
                None => {}
                Some('-') if argument == "--" => break,
                Some(letter) if self.valued.contains(letter) && (may_be_joined || !is_joined) => {
                    at += usize::from(!is_joined);
                }
                Some(letter) if code.contains(letter) && !is_joined => {
                    argv.get(at)?.filter(|code| !code.starts_with(['-', '+']))?;
                    at += 1;
                    has_code = true;
                    if ends {
                        break;
                    }
                }
                Some(_) => return None,
            }
        }
        Some((at, has_code))
    }
}

/// What a program is called, whatever folder it is in and version it has.
fn name(program: &str) -> String {
    let name = program.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.').to_ascii_lowercase()
}
