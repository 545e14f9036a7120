//! What is asked of `shell`, and what is refused.
//!
//! The arguments come filled, but the step still has them as the plan says, so it can be told which of them hold
//! results of other steps. Such results may have been written by anybody:
//!
//! - The program is never a result, and neither is the code that a shell or an interpreter runs: in
//!   `["sh", "-c", "echo ${a}"]` the result would be a part of the script. It can be handed over as an argument of the
//!   script (`["sh", "-c", "echo \"$1\"", "sh", "${a}"]`), in `env` or in `stdin`.
//! - An argument that is, or begins with, a result does not begin with a `-`, unless a `--` comes before it: programs
//!   have options that run other programs or overwrite files. Numbers may be negative.
//!
//! This catches slips, of people and of models. It is no sandbox: what a plan says in so many words is done.

use serde_json::{Map, Value};

use super::super::arguments::Arguments;
use crate::error::StepError;
use crate::reference::has_reference;
use crate::tool::StepContext;

/// Programs that run the code they are given: as an argument, or in the file that an argument names.
const RUN_CODE: [&str; 19] = [
    "ash", "awk", "bash", "csh", "dash", "fish", "gawk", "ksh", "lua", "mawk", "node", "perl", "php", "python", "ruby",
    "sed", "sh", "tcsh", "zsh",
];

/// Programs that run the program they are given.
const RUN_PROGRAMS: [&str; 11] =
    ["busybox", "doas", "env", "nice", "nohup", "setsid", "stdbuf", "sudo", "time", "timeout", "xargs"];

/// A program to run.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: Option<String>,
    pub(super) stdin: Option<String>,
}

impl Request {
    /// Reads the arguments of a call.
    pub(super) fn read(cx: &StepContext) -> Result<Self, StepError> {
        let arguments = Arguments::new(&cx.args, &["argv", "env", "cwd", "stdin"])?;
        let Value::Array(items) = arguments.value("argv")? else {
            return Err(StepError::bad_input(
                "`argv` must be a list of the program and its arguments, such as [\"wc\", \"-l\", \"a.txt\"]",
            ));
        };
        guard(items, cx.step.args.get("argv"))?;
        let argv = argv(items)?;
        let (program, rest) = argv.split_first().ok_or_else(|| StepError::bad_input("`argv` is empty"))?;
        if program.is_empty() {
            return Err(StepError::bad_input("`argv[0]`, the program, is empty"));
        }
        Ok(Self {
            program: program.clone(),
            arguments: rest.to_vec(),
            env: environment(arguments.optional_object("env")?)?,
            cwd: arguments.optional_text("cwd")?.map(str::to_owned),
            stdin: arguments.optional_text("stdin")?.map(str::to_owned),
        })
    }
}

fn argv(items: &[Value]) -> Result<Vec<String>, StepError> {
    items.iter().enumerate().map(|(index, item)| text(item, || format!("argv[{index}]"))).collect()
}

fn environment(variables: Option<&Map<String, Value>>) -> Result<Vec<(String, String)>, StepError> {
    let variable = |(name, value): (&String, &Value)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(StepError::bad_input(format!("{name:?} cannot be the name of an environment variable")));
        }
        Ok((name.clone(), text(value, || format!("env.{name}"))?))
    };
    variables.into_iter().flatten().map(variable).collect()
}

/// A value as the one text that stands for it.
fn text(value: &Value, place: impl Fn() -> String) -> Result<String, StepError> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Err(StepError::bad_input(format!("`{}` has a NUL character in it", place())))
        }
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        Value::Null => Err(StepError::bad_input(format!("`{}` is null", place()))),
        Value::Array(_) | Value::Object(_) => Err(StepError::bad_input(format!(
            "`{}` must be text, not a list or an object: take a part of it, or hand it over in `stdin`",
            place()
        ))),
    }
}

/// Refuses results where they would be more than data. `written` is what the plan has in the place of `argv`.
fn guard(argv: &[Value], written: Option<&Value>) -> Result<(), StepError> {
    let written = match written {
        Some(Value::Array(written)) => written,
        Some(Value::String(whole)) => {
            return Err(StepError::bad_input(format!(
                "`argv` is a result ({whole}), which would choose the program: write the program into the plan"
            )));
        }
        // A call outside of any plan: all of it was written by whoever calls.
        _ => return Ok(()),
    };
    let wraps = written.first().is_some_and(|program| is_one_of(program, &RUN_PROGRAMS));
    let mut decides = true;
    let mut options_ended = false;
    for (index, (argument, written)) in argv.iter().zip(written).enumerate() {
        let argument = argument.as_str().unwrap_or_default();
        let result = written.as_str().filter(|text| has_reference(text));
        match result {
            Some(result) if decides => {
                return Err(StepError::bad_input(format!(
                    "`argv[{index}]` decides what is run, and has a result in it ({result}): hand results over as later \
                     arguments, in `env` or in `stdin`"
                )));
            }
            Some(result) if result.starts_with("${") && argument.starts_with('-') && !options_ended => {
                return Err(StepError::bad_input(format!(
                    "`argv[{index}]` is a result that begins with `-`, so the program would take it for an option: put \
                     \"--\" before it"
                )));
            }
            Some(_) => {}
            None => options_ended |= argument == "--",
        }
        // After a program that runs code come its options, and then the code or the file it is in; after one that
        // runs a program its options, variables and numbers, and then that program.
        let runs_code = (index == 0 || wraps) && result.is_none() && is_one_of(written, &RUN_CODE);
        let passed_over = argument.starts_with('-')
            || wraps && (index == 0 || argument.contains('=') || argument.starts_with(|c: char| c.is_ascii_digit()));
        decides = runs_code || decides && passed_over;
    }
    Ok(())
}

/// Whether a program is one of these, whatever folder it is in and version it has.
fn is_one_of(program: &Value, names: &[&str]) -> bool {
    let program = program.as_str().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    names.contains(&name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::plan::Step;

    /// Reads a call whose results are filled in as a run does it.
    fn read(argv: Value, result: Value) -> Result<Request, StepError> {
        let written = json!({ "argv": argv });
        let output = Arc::new(result);
        let mut cx = StepContext::new(crate::reference::fill(&written, &|_| Some(output.clone()))?);
        cx.step = Arc::new(Step::new("run", "shell").args(written));
        Request::read(&cx)
    }

    #[test]
    fn results_are_data() {
        let allowed = [
            json!(["cat", "${a}"]),
            json!(["cat", "--", "${a}"]),
            json!(["convert", "--title=${a}", "in ${a}.txt"]),
            json!(["sh", "-c", "echo \"$1\"", "sh", "${a}"]),
            json!(["/bin/bash", "-eu", "-c", "echo \"$1\"", "bash", "${a}"]),
            json!(["python3.11", "script.py", "${a}"]),
            json!(["env", "-i", "sh", "-c", "true", "${a}"]),
            json!(["grep", "python", "${a}"]),
            json!(["timeout", "5", "cat", "${a}"]),
        ];
        for argv in allowed {
            assert!(read(argv.clone(), json!("x")).is_ok(), "{argv}");
        }
    }

    #[test]
    fn results_never_decide_what_is_run() {
        let refused = [
            json!(["${a}"]),
            json!(["${a}", "x"]),
            json!(["/usr/bin/${a}"]),
            json!(["sh", "-c", "echo ${a}"]),
            json!(["sh", "-c", "${a}"]),
            json!(["sh", "${a}"]),
            json!(["/bin/bash", "-eu", "-c", "echo '${a}'"]),
            json!(["python3.11", "-c", "print('${a}')"]),
            json!(["perl", "-ne", "print '${a}'"]),
            json!(["timeout", "5", "sh", "-c", "echo ${a}"]),
            json!(["env", "X=1", "bash", "-c", "echo ${a}"]),
            json!(["env", "-i", "X=1", "${a}"]),
            json!(["timeout", "5", "${a}"]),
            json!(["xargs", "-0", "${a}"]),
            json!(["awk", "{ print \"${a}\" }"]),
        ];
        for argv in refused {
            let error = read(argv.clone(), json!("x")).unwrap_err();
            assert!(error.message.contains("${a}"), "{argv}: {error}");
        }
        assert!(read(json!("${a}"), json!(["rm", "-r", "x"])).is_err());
    }

    #[test]
    fn results_are_not_options() {
        for argv in [json!(["rm", "${a}"]), json!(["tar", "-cf", "b.tar", "${a}.txt"])] {
            let error = read(argv, json!("--checkpoint-action=exec=sh")).unwrap_err();
            assert!(error.message.contains("\"--\""), "{error}");
        }
        assert!(read(json!(["rm", "${a}"]), json!("--")).is_err());
        assert!(read(json!(["rm", "--", "${a}"]), json!("-rf")).is_ok());
        assert!(read(json!(["seq", "${a}"]), json!(-5)).is_ok());
        assert!(read(json!(["echo", "-n"]), json!(null)).is_ok());
    }

    #[test]
    fn arguments_are_texts() {
        assert_eq!(read(json!(["seq", 1, true]), json!(null)).unwrap().arguments, ["1", "true"]);
        for argv in [
            json!([]),
            json!([""]),
            json!(["a", null]),
            json!(["a", ["b"]]),
            json!(["a\0b"]),
            json!({}),
            json!("ls -l"),
        ] {
            assert!(read(argv.clone(), json!(null)).is_err(), "{argv}");
        }
    }
}
