//! `shell`: what programs get and give, and that nothing is left of them.

#![cfg(all(feature = "shell", unix))]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plandag::tools::Shell;
use plandag::{Effect, Plan, Runner, Step, StepContext, StepError, StepErrorKind, Tool, ToolOutput, tool_fn};
use serde_json::{Value, json};
use tempfile::TempDir;

async fn call(folder: &Path, args: Value) -> Result<Value, StepError> {
    match Shell::new(folder).call(StepContext::new(args)).await? {
        ToolOutput::Value(value) => Ok(value),
        other => panic!("{other:?}"),
    }
}

async fn script(folder: &Path, script: &str) -> Result<Value, StepError> {
    call(folder, json!({ "argv": ["sh", "-c", script] })).await
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn a_program_gets_its_arguments_and_its_input() {
    let folder = folder();
    let output = call(
        folder.path(),
        json!({
            "argv": ["sh", "-c", "cat; echo \"$1|$2\"; echo \"$COLOUR\" >&2; pwd", "sh", "a b", "$(c)"],
            "env": { "COLOUR": "gr\"een" },
            "stdin": "in\n",
        }),
    )
    .await
    .unwrap();
    let here = folder.path().canonicalize().unwrap();
    assert_eq!(output["stdout"], format!("in\na b|$(c)\n{}\n", here.display()));
    assert_eq!(output["stderr"], "gr\"een\n");
    assert_eq!(
        (&output["exit_code"], &output["truncated"], &output["lossy"]),
        (&json!(0), &json!(false), &json!(false))
    );
}

#[tokio::test]
async fn the_environment_is_clean() {
    let output = call(folder().path(), json!({ "argv": ["env"], "env": { "LANG": "C", "ANSWER": 42 } })).await.unwrap();
    let names: Vec<&str> =
        output["stdout"].as_str().unwrap().lines().map(|line| line.split('=').next().unwrap()).collect();
    let expected = ["PATH", "HOME", "LANG", "TMPDIR", "TERM", "ANSWER"];
    assert!(names.iter().all(|name| expected.contains(name)), "{names:?}");
    assert!(output["stdout"].as_str().unwrap().contains("ANSWER=42\n"));
    assert!(output["stdout"].as_str().unwrap().contains("TERM=dumb\n"));
    // Cargo sets this for tests, so it would be there if anything else were inherited.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
}

#[tokio::test]
async fn failures_say_what_happened() {
    let folder = folder();
    let path = folder.path();

    let error = script(path, "echo working; echo first >&2; echo 'no such host' >&2; exit 3").await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::Permanent);
    assert_eq!(error.message, "`sh` ended with exit code 3: no such host");
    let details = json!({ "exit_code": 3, "signal": null, "stdout": "working\n", "stderr": "first\nno such host\n" });
    assert_eq!(error.details, Some(details));

    let error = script(path, "kill -9 $$").await.unwrap_err();
    assert_eq!(error.message, "`sh` was killed by signal 9");

    let error = call(path, json!({ "argv": ["no-such-program", "x"] })).await.unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (StepErrorKind::Permanent, "there is no program `no-such-program`")
    );

    fs::write(path.join("text"), "not a program").unwrap();
    let error = call(path, json!({ "argv": ["./text"] })).await.unwrap_err();
    assert_eq!(error.message, "`./text` may not be run");

    let error = call(path, json!({ "argv": ["echo", "x".repeat(4 * 1024 * 1024)] })).await.unwrap_err();
    assert_eq!(error.kind, StepErrorKind::BadInput);
    assert!(error.message.contains("`stdin`"), "{error}");
}

#[tokio::test]
async fn arguments_are_checked() {
    let folder = folder();
    std::os::unix::fs::symlink("/", folder.path().join("root")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let cases = [
        (json!({}), "`argv` is missing"),
        (json!({ "argv": "ls -l" }), "must be a list"),
        (json!({ "argv": [] }), "`argv` is empty"),
        (json!({ "argv": [""] }), "the program, is empty"),
        (json!({ "argv": ["echo", "a\0b"] }), "`argv[1]` has a NUL character"),
        (json!({ "argv": ["echo", ["a"]] }), "`argv[1]` must be text"),
        (json!({ "argv": ["echo"], "arg": 1 }), "did you mean `argv`?"),
        (json!({ "argv": ["echo"], "env": { "A=B": "x" } }), "cannot be the name"),
        (json!({ "argv": ["echo"], "env": { "": "x" } }), "cannot be the name"),
        (json!({ "argv": ["echo"], "env": { "A": null } }), "`env.A` is null"),
        (json!({ "argv": ["echo"], "env": ["A=B"] }), "must be an object"),
        (json!({ "argv": ["echo"], "cwd": "none" }), "there is no `none`"),
        (json!({ "argv": ["echo"], "cwd": "file" }), "not a folder"),
        (json!({ "argv": ["echo"], "cwd": ".." }), "outside of the output folder"),
        (json!({ "argv": ["echo"], "cwd": "/" }), "outside of the output folder"),
        (json!({ "argv": ["echo"], "cwd": "root/tmp" }), "outside of the output folder"),
        (json!({ "argv": ["cat"], "stdin": 5 }), "must be text"),
    ];
    for (args, message) in cases {
        let error = call(folder.path(), args).await.unwrap_err();
        assert_eq!(error.kind, StepErrorKind::BadInput, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
}

#[tokio::test]
async fn a_folder_inside_can_be_chosen() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    let output = call(folder.path(), json!({ "argv": ["pwd"], "cwd": "a/b" })).await.unwrap();
    assert!(output["stdout"].as_str().unwrap().ends_with("/a/b\n"));
}

#[tokio::test]
async fn input_and_output_of_any_size_pass() {
    let folder = folder();
    // More than a pipe takes, so writing and reading have to go on at the same time.
    let text = "0123456789".repeat(100_000);
    let output = call(folder.path(), json!({ "argv": ["cat"], "stdin": text })).await.unwrap();
    assert_eq!(output["stdout"], text);
    // Input that nobody reads.
    let output = call(folder.path(), json!({ "argv": ["true"], "stdin": text })).await.unwrap();
    assert_eq!(output["stdout"], "");
    // No input at all.
    let output = call(folder.path(), json!({ "argv": ["cat"] })).await.unwrap();
    assert_eq!(output["stdout"], "");
}

/// Who writes it down knows the secret, and what is left of one by the mark beside it.
#[cfg(feature = "redact")]
#[tokio::test]
async fn no_part_of_a_secret_is_written_down_where_output_is_cut() {
    let (folder, secret) = (folder(), format!("canary-{}", "5ecret".repeat(4)));
    let secrets = plandag::Secrets::new([&secret]);
    let run = async |script: &str| call(folder.path(), json!({ "argv": ["sh", "-c", script, "sh", secret] })).await;
    let output = run("head -c 1048560 /dev/zero | tr '\\0' x; echo \"$1\"").await.unwrap();
    let error = run("echo \"$1\" >&2; head -c 4080 /dev/zero | tr '\\0' x >&2; exit 1").await.unwrap_err();
    for told in [output.clone(), json!(error)] {
        let written = secrets.redact_value(told).to_string();
        assert!(written.contains("[redacted]") && !written.contains("cret"), "{}", &written[written.len() - 100..]);
    }
    assert!(output["stdout"].as_str().unwrap().contains("xcanary-5ecret"), "the cut is elsewhere");
}

#[tokio::test]
async fn a_flood_of_output_is_counted_and_not_kept() {
    let folder = folder();
    let before = peak_memory();
    let output = script(folder.path(), "head -c 100000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero >&2").await;
    let output = output.unwrap();
    assert_eq!(output["stdout"].as_str().unwrap().len(), 1024 * 1024 + "...".len());
    assert_eq!((&output["stdout_bytes"], &output["stderr_bytes"]), (&json!(100_000_000), &json!(3_000_000)));
    assert_eq!(output["truncated"], true);
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 50_000_000, "grew by {grown} bytes");
}

/// The most memory this process ever had; zero where the system does not say.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    1024 * peak.unwrap_or(0_u64)
}

#[tokio::test]
async fn output_that_is_not_utf_8_is_replaced_and_said_so() {
    let output = script(folder().path(), "printf 'gr\\374n'").await.unwrap();
    assert_eq!((&output["stdout"], &output["lossy"]), (&json!("gr\u{fffd}n"), &json!(true)));
}

#[tokio::test]
async fn it_acts_and_is_not_repeated() {
    let spec = Shell::new("out").spec();
    assert_eq!((spec.effect, spec.idempotent), (Effect::Acts, false));
}

/// Results of other steps that try to become more than data.
fn payloads(canary: &str) -> Vec<String> {
    let command = format!("touch {canary}");
    let around = [
        ("", ""),
        ("; ", ""),
        ("; ", " #"),
        ("| ", ""),
        ("|| ", ""),
        ("& ", " &"),
        ("&& ", ""),
        ("\n", "\n"),
        ("\r\n", "\r\n"),
        ("$(", ")"),
        ("`", "`"),
        ("'; ", "; '"),
        ("\"; ", "; \""),
        ("\"$(", ")\""),
        ("'$(", ")'"),
        ("\\\"; ", ""),
        ("\\'; ", ""),
        ("${IFS}; ", ""),
        (">(", ")"),
        ("<(", ")"),
        ("$((", "))"),
        ("{", ",}"),
        ("x\n", "\nx"),
        ("EOF\n", "\nEOF"),
        ("*; ", ""),
        ("!", ""),
        ("~; ", ""),
        ("%0a", ""),
        ("\u{1b}]0;", "\u{7}"),
        ("() { :; }; ", ""),
        ("eval ", ""),
        ("sh -c '", "'"),
        ("@", ""),
        ("../../bin/sh -c '", "'"),
        ("$0 -c '", "'"),
        ("x' -exec ", " ;"),
        ("x\\; ", ""),
        ("\t; ", "\t"),
        ("；", ""),
        ("$'\\n'", ""),
    ];
    let mut payloads: Vec<String> = around.iter().map(|(before, after)| format!("{before}{command}{after}")).collect();
    payloads.extend([
        format!("> {canary}"),
        format!("x > {canary}"),
        format!("x; echo > {canary}"),
        format!("$(echo x > {canary})"),
        format!("${{a}}; {command}"),
        format!("$${{a}}$({command})"),
        format!("${{inputs.x}}`{command}`"),
        format!("{{\"argv\": [\"touch\", \"{canary}\"]}}"),
        format!("import os; os.system('{command}')"),
        format!("system(\"{command}\")"),
    ]);
    payloads
}

#[tokio::test]
async fn results_cannot_inject_commands() {
    let folder = folder();
    let canary = folder.path().join("canary");
    let payloads = payloads(canary.to_str().unwrap());
    assert_eq!(payloads.len(), 50);
    for payload in payloads {
        let upstream = payload.clone();
        let plan = Plan::from_iter([
            Step::new("a", "upstream").args(json!({})),
            Step::new("argument", "shell").args(json!({ "argv": ["printf", "%s", "${a}"] })),
            Step::new("spliced", "shell").args(json!({ "argv": ["printf", "%s", "x${a}"] })),
            Step::new("script", "shell").args(json!({ "argv": ["sh", "-c", "printf %s \"$1\"", "sh", "${a}"] })),
            Step::new("env", "shell").args(json!({ "argv": ["sh", "-c", "printf %s \"$A\""], "env": { "A": "${a}" } })),
            Step::new("stdin", "shell").args(json!({ "argv": ["cat"], "stdin": "${a}" })),
        ]);
        let report = Runner::new(plan)
            .tool("upstream", tool_fn(move |_| std::future::ready(Ok(upstream.clone()))))
            .tool("shell", Shell::new(folder.path()))
            .run("inject")
            .await
            .unwrap();
        let outputs = report.answer().unwrap();
        for step in ["argument", "script", "env", "stdin"] {
            assert_eq!(outputs[step]["stdout"], payload, "{step}");
        }
        assert_eq!(outputs["spliced"]["stdout"], format!("x{payload}"));
        assert!(!canary.exists(), "{payload:?}");
    }
}

#[tokio::test]
async fn results_cannot_become_scripts_or_options() {
    let folder = folder();
    let canary = folder.path().join("canary");
    let refused = [
        (json!(["sh", "-c", "echo ${a}"]), format!("; touch {}", canary.display())),
        (json!(["bash", "-euo", "pipefail", "-c", "echo ${a}"]), format!("; touch {}", canary.display())),
        (json!(["timeout", "-s", "KILL", "5", "${a}"]), "/bin/sh".to_owned()),
        (json!(["${a}", "x"]), "/bin/sh".to_owned()),
        (json!(["find", ".", "${a}"]), format!("-fprint={}", canary.display())),
        (
            json!(["tar", "-cf", "/dev/null", "${a}", "."]),
            format!("--checkpoint-action=exec=touch {}", canary.display()),
        ),
    ];
    for (argv, result) in refused {
        let plan = Plan::from_iter([
            Step::new("a", "upstream").args(json!({})),
            Step::new("run", "shell").args(json!({ "argv": argv })),
        ]);
        let report = Runner::new(plan)
            .tool("upstream", tool_fn(move |_| std::future::ready(Ok(result.clone()))))
            .tool("shell", Shell::new(folder.path()))
            .run("inject")
            .await
            .unwrap();
        let error = report.answer().unwrap_err().to_string();
        assert!(error.contains("argv["), "{argv}: {error}");
        assert!(!canary.exists(), "{argv}");
    }
}

/// Processes of ours are recognised by a variable that they inherit.
#[cfg(target_os = "linux")]
mod groups {
    use super::*;

    /// How many attempts are ended in each test.
    const ATTEMPTS: usize = 100;
    /// A leader, its child and its grandchild. None of them ends when asked to, and only killing helps.
    const STUBBORN: &str = "trap '' TERM; sh -c 'trap \"\" TERM; sh -c \"trap \\\"\\\" TERM; while :; do sleep 9; done\" & \
                            while :; do sleep 9; done' & while :; do sleep 9; done";

    fn marked(marker: &str) -> usize {
        let variable = format!("MARKER={marker}");
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let environments = processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
        environments
            .filter(|environment| environment.split(|byte| *byte == 0).any(|v| v == variable.as_bytes()))
            .count()
    }

    /// A marker of this test in this process.
    fn marker(name: &str) -> String {
        format!("{name}-{}-{:x}", std::process::id(), fastrand::u64(..))
    }

    async fn until(what: &str, limit: Duration, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(begin.elapsed() < limit, "{what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_left_of_ended_attempts() {
        let folder = folder();
        let marker = marker("ended");
        let shell = Arc::new(Shell::new(folder.path()));
        let args = json!({ "argv": ["sh", "-c", STUBBORN], "env": { "MARKER": marker } });
        let attempts: Vec<_> = (0..ATTEMPTS)
            .map(|_| {
                let (shell, args) = (shell.clone(), args.clone());
                tokio::spawn(async move { shell.call(StepContext::new(args)).await })
            })
            .collect();
        until("not all processes started", Duration::from_secs(60), || marked(&marker) >= 3 * ATTEMPTS).await;
        attempts.iter().for_each(tokio::task::JoinHandle::abort);
        until("processes were left", Duration::from_secs(2), || marked(&marker) == 0).await;
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_ends_with_it() {
        let folder = folder();
        let marker = marker("left");
        let script = "trap '' TERM; (while :; do sleep 9; done) >/dev/null 2>&1 & echo done";
        let args = json!({ "argv": ["sh", "-c", script], "env": { "MARKER": marker } });
        assert_eq!(call(folder.path(), args).await.unwrap()["stdout"], "done\n");
        assert_eq!(marked(&marker), 0);
        // One that holds on to the output is given a second.
        let args = json!({ "argv": ["sh", "-c", "sleep 60 & echo done"], "env": { "MARKER": marker } });
        let begin = Instant::now();
        assert_eq!(call(folder.path(), args).await.unwrap()["stdout"], "done\n");
        assert!(begin.elapsed() < Duration::from_secs(30));
        assert_eq!(marked(&marker), 0);
    }

    #[tokio::test]
    async fn output_after_the_end_of_the_leader_is_kept() {
        let output = script(folder().path(), "(sleep 0.3; echo late) & echo early").await.unwrap();
        assert_eq!(output["stdout"], "early\nlate\n");
    }

    /// A program that ends when asked to has the time for it.
    #[tokio::test]
    async fn programs_are_asked_before_they_are_killed() {
        let folder = folder();
        let (started, asked) = (folder.path().join("started"), folder.path().join("asked"));
        let script = "trap 'echo > asked; exit' TERM; echo > started; while :; do sleep 0.05; done";
        let path = folder.path().to_owned();
        let attempt = tokio::spawn(async move { super::script(&path, script).await });
        until("it did not start", Duration::from_secs(10), || started.exists()).await;
        attempt.abort();
        until("it was not asked", Duration::from_secs(2), || asked.exists()).await;
    }

    /// The slot of a step is free, and the step over, when its processes are gone, and not before.
    #[tokio::test]
    async fn a_timed_out_step_is_over_when_its_processes_are() {
        let folder = folder();
        let marker = marker("timeout");
        let args = json!({ "argv": ["sh", "-c", STUBBORN], "env": { "MARKER": marker } });
        let mut step = Step::new("stuck", "shell").args(args);
        step.timeout_ms = Some(300);
        let begin = Instant::now();
        let report = Runner::new(Plan::from_iter([step])).tool("shell", Shell::new(folder.path())).run("wait").await;
        assert_eq!(marked(&marker), 0);
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(1300) && took < Duration::from_secs(30), "{took:?}");
        assert!(report.unwrap().answer().is_err());
    }

    #[tokio::test]
    async fn a_cancelled_run_leaves_nothing() {
        let folder = folder();
        let marker = marker("cancelled");
        let steps = (0..10).map(|index| {
            let args = json!({ "argv": ["sh", "-c", STUBBORN], "env": { "MARKER": marker } });
            Step::new(format!("stuck-{index}"), "shell").args(args)
        });
        let runner = Runner::new(Plan::from_iter(steps)).tool("shell", Shell::new(folder.path()));
        let run = runner.start("wait");
        until("not all processes started", Duration::from_secs(30), || marked(&marker) >= 30).await;
        let begin = Instant::now();
        run.cancel_now();
        run.await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
        assert_eq!(marked(&marker), 0);
    }

    /// A runtime that goes away does not wait for the grace.
    #[test]
    fn nothing_is_left_of_a_runtime() {
        let folder = folder();
        let marker = marker("runtime");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let args = json!({ "argv": ["sh", "-c", STUBBORN], "env": { "MARKER": marker } });
        let path = folder.path().to_owned();
        runtime.spawn(async move { call(&path, args).await });
        runtime.block_on(until("not all processes started", Duration::from_secs(30), || marked(&marker) >= 3));
        drop(runtime);
        let begin = Instant::now();
        while marked(&marker) > 0 {
            assert!(begin.elapsed() < Duration::from_secs(30), "processes were left");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
