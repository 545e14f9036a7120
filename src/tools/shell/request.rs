//! What is asked of `shell`, and what is refused.
//!
//! The arguments come filled, but the step still has them as the plan says, so it can be told which of them hold
//! results of other steps. Such results may have been written by anybody:
//!
//! - The program is never a result, and neither is the code that a shell or an interpreter runs: in
//!   `["sh", "-c", "echo ${a}"]` the result would be a part of the script. It can be handed over as an argument of the
//!   script (`["sh", "-c", "echo \"$1\"", "sh", "${a}"]`), in `env` or in `stdin`. Where such a program is told to run
//!   something in a way that is not known here, results are not taken in its arguments at all. See [`Data`].
//! - An argument that is, or begins with, a result does not begin with a `-`, unless a `--` comes before it: programs
//!   have options that run other programs or overwrite files. Numbers may be negative.
//!
//! This catches slips, of people and of models. It is no sandbox: what a plan says in so many words is done.

use serde_json::{Map, Value};

use super::super::arguments::Arguments;
use super::data::Data;
use crate::error::StepError;
use crate::reference::has_reference;
use crate::tool::StepContext;

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
        let argv = argv(items)?;
        guard(&argv, items, &cx.step.args)?;
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

/// Refuses results where they would be more than data. `written` is what the plan has in the place of the arguments.
fn guard(argv: &[String], items: &[Value], written: &Value) -> Result<(), StepError> {
    for (place, value) in [("args", written), ("argv", &written["argv"]), ("env", &written["env"])] {
        if let Some(whole) = result(value) {
            return Err(StepError::bad_input(format!(
                "`{place}` is a result ({whole}), which would decide what is run: write the program, and the names of \
                 variables, into the plan"
            )));
        }
    }
    // A call outside of any plan has nothing there: all of it was written by whoever calls.
    let Value::Array(written_argv) = &written["argv"] else { return Ok(()) };
    let results: Vec<Option<&str>> = written_argv.iter().map(result).collect();
    // What is an option stays one, whatever its value.
    let known = argv.iter().zip(&results).map(|(text, result)| match result {
        Some(result) => Some(*result).filter(|result| result.starts_with('-')),
        None => Some(text.as_str()),
    });
    let data = Data::of(&known.collect::<Vec<_>>());
    let mut options_ended = false;
    for (index, (item, result)) in items.iter().zip(results).enumerate() {
        let is_option = item.as_str().is_some_and(|text| text.starts_with('-'));
        match result {
            Some(result) if !data.arguments.contains(&index) => {
                return Err(may_decide(&format!("argv[{index}]"), result));
            }
            Some(result) if result.starts_with("${") && is_option && !options_ended => {
                return Err(StepError::bad_input(format!(
                    "`argv[{index}]` is a result that begins with `-`, so the program would take it for an option: put \
                     \"--\" before it"
                )));
            }
            Some(_) => {}
            None => options_ended |= item == "--",
        }
    }
    match result(&written["stdin"]) {
        Some(result) if !data.stdin => Err(may_decide("stdin", result)),
        _ => Ok(()),
    }
}

/// What the plan has in the place of a text, if there is a result in that.
fn result(written: &Value) -> Option<&str> {
    written.as_str().filter(|text| has_reference(text))
}

fn may_decide(place: &str, result: &str) -> StepError {
    StepError::bad_input(format!(
        "`{place}` may decide what is run, and has a result in it ({result}): hand it over in `env`, or to a script that \
         is written out, such as [\"sh\", \"-c\", \"wc -l \\\"$1\\\"\", \"sh\", \"${{step}}\"]"
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::plan::Step;

    /// Reads a call whose results are filled in as a run does it.
    fn read(argv: Value, result: Value) -> Result<Request, StepError> {
        read_all(json!({ "argv": argv }), result)
    }

    fn read_all(written: Value, result: Value) -> Result<Request, StepError> {
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
            json!(["timeout", "-s", "KILL", "-k5", 5, "cat", "${a}"]),
            json!(["nice", "-n", "5", "env", "A=b", "bash", "-c", "echo \"$1\"", "_", "${a}"]),
            json!(["bash", "-euo", "pipefail", "-c", "echo \"$1\"", "_", "--", "${a}"]),
            json!(["python3", "-X", "utf8", "-c", "import sys; print(sys.argv)", "--to", "${a}"]),
            json!(["node", "x.js", "--to", "${a}"]),
            json!(["awk", "-F,", "-v", "x=1", "{ print x }", "${a}"]),
            json!(["sed", "-n", "1,10p", "${a}"]),
            json!(["sed", "-e", "s/x/y/", "-e", "s/y/z/", "--", "${a}"]),
            json!(["find", "${a}", "-name", "x${a}", "-exec", "cat", "{}", ";"]),
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
            json!(["bash", "-euo", "pipefail", "-c", "echo ${a}"]),
            json!(["bash", "-eoc", "pipefail", "echo ${a}"]),
            json!(["bash", "-c", "-e", "${a}"]),
            json!(["bash", "+x", "-c", "${a}"]),
            json!(["bash", "--rcfile", "x", "-c", "${a}"]),
            json!(["bash", "-", "${a}"]),
            json!(["bash", "/dev/stdin", "${a}"]),
            json!(["python3", "-X", "utf8", "-c", "print('${a}')"]),
            json!(["python3", "-m", "timeit", "${a}"]),
            json!(["perl", "-e", "1", "-e", "${a}"]),
            json!(["perl", "-ne", "print", "${a}"]),
            json!(["lua", "-e", "x = 1", "${a}"]),
            json!(["awk", "-v", "x=1", "BEGIN { ${a} }"]),
            json!(["awk", "-f", "${a}"]),
            json!(["sed", "-e", "s/x/y/", "-e", "${a}"]),
            json!(["sed", "s/x/y/", "-e", "${a}"]),
            json!(["sed", "s/x/y/", "-e${a}"]),
            json!(["sed", "-e", "s/x/y/", "-e${a}"]),
            json!(["sed", "${a}"]),
            json!(["timeout", "-s", "KILL", "5", "${a}"]),
            json!(["timeout", "--signal", "KILL", "5", "${a}"]),
            json!(["timeout", "${a}", "cat"]),
            json!(["timeout", "5", "env", "--", "${a}"]),
            json!(["sudo", "-u", "bob", "${a}"]),
            json!(["sudo", "-g", "wheel", "${a}"]),
            json!(["env", "-u", "X", "${a}"]),
            json!(["env", "-S", "sh -c", "${a}"]),
            json!(["env", "A=${a}", "cat"]),
            json!(["xargs", "-I", "{}", "${a}"]),
            json!(["ssh", "host", "echo ${a}"]),
            json!(["find", ".", "-exec", "sh", "-c", "echo ${a}", ";"]),
            json!(["timeout", "5", "find", ".", "-ok", "${a}", ";"]),
        ];
        for argv in refused {
            let error = read(argv.clone(), json!("x")).unwrap_err();
            assert!(error.message.contains("${a}"), "{argv}: {error}");
        }
        assert!(read(json!("${a}"), json!(["rm", "-r", "x"])).is_err());
    }

    #[test]
    fn what_is_read_is_not_run() {
        let with_stdin = |argv: &Value| json!({ "argv": argv, "stdin": "${a}" });
        for argv in [
            json!(["cat"]),
            json!(["timeout", "5", "wc", "-l"]),
            json!(["sh", "-c", "cat"]),
            json!(["bash", "-eu", "x.sh"]),
            json!(["python3", "-c", "import sys; print(sys.stdin.read())"]),
            json!(["perl", "-lne", "print if /x/"]),
            json!(["node", "-e", "process.stdin.pipe(process.stdout)"]),
            json!(["awk", "-F", ",", "{ print $2 }"]),
            json!(["sed", "-n", "-e", "s/x/y/p"]),
        ] {
            assert!(read_all(with_stdin(&argv), json!("x")).is_ok(), "{argv}");
        }
        for argv in [
            json!(["sh"]),
            json!(["bash", "-eu"]),
            json!(["bash", "-s", "x"]),
            json!(["sudo", "-n", "bash"]),
            json!(["python3", "-"]),
            json!(["python3", "-X", "utf8"]),
            json!(["node", "/dev/stdin"]),
            json!(["awk", "-f", "/dev/stdin", "x"]),
            json!(["xargs", "sh", "-c"]),
        ] {
            let error = read_all(with_stdin(&argv), json!("x")).unwrap_err();
            assert!(error.message.contains("`stdin` may decide"), "{argv}: {error}");
        }
        let variables = read_all(json!({ "argv": ["sh", "-c", "ls"], "env": "${a}" }), json!({ "ENV": "x" }));
        assert!(variables.unwrap_err().message.contains("`env` is a result"));
        assert!(read_all(json!("${a}"), json!({ "argv": ["ls"] })).unwrap_err().message.contains("`args`"));
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
