//! Objectives with a language model: what is asked, what is shown, how it ends.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wiremock::{Request, Respond, ResponseTemplate};

use crate::model_server::{KEY, Model, Server, Unfinished, ended, streamed};
use crate::support::{Place, Ran, calculate, sleep};

#[test]
fn an_objective_is_planned_and_done_by_a_model() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = server.run(&place, ["run", "Compare a and b", "--model", "mock"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (0, "found it\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ask mock (http://127.0.0.1:"), "{}", ran.stderr);
    // What the model costs is not known.
    let used = "used      3 attempts, 4 model calls, 400 in / 80 out tokens\n";
    assert!(ran.stderr.contains(used), "{}", ran.stderr);
    let name = place.run(["runs", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
    let shown = place.run(["show", &name]);
    assert!(shown.stdout.contains(used), "{}", shown.stdout);
    let ran = server.run(&place, ["run", "Compare a and b", "--model", "mock", "--json"]);
    let last = ran.last_event();
    assert_eq!(
        (&last["tokens_in"], &last["tokens_out"], &last["answer"]),
        (&json!(400), &json!(80), &json!("found it"))
    );
    let step = ran.events().into_iter().find(|event| event["ev"] == "step.finished").unwrap();
    assert_eq!((&step["tokens_in"], &step["tokens_out"]), (&json!(100), &json!(20)));
    let calls = server.calls();
    assert!(calls.iter().all(|(body, key)| body["model"] == "mock" && *key == format!("Bearer {KEY}")));
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(KEY));
}

/// Turns every third request away, plans, and has a tool called in each step.
struct Busy(AtomicUsize);

impl Respond for Busy {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().unwrap();
        if self.0.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            let error = json!({ "error": { "message": "slow down" } });
            return ResponseTemplate::new(429).insert_header("retry-after", "0").set_body_json(error);
        }
        if body["stream"] == json!(true) || body["messages"].as_array().unwrap().len() > 2 {
            return Model.respond(request);
        }
        let function = json!({ "name": "calculate", "arguments": "{\"expression\": \"6 * 7\"}" });
        let call = json!({ "id": "c1", "type": "function", "function": function });
        let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
        let choice = json!({ "index": 0, "finish_reason": "tool_calls", "message": message });
        ResponseTemplate::new(200).set_body_json(json!({ "choices": [choice] }))
    }
}

#[test]
fn calls_are_the_requests_that_were_sent() {
    let (server, place) = (Server::with(Busy(AtomicUsize::new(0))), Place::new());
    place.plan(json!([
        { "id": "ask", "description": "Say it" },
        { "id": "part", "tool": "plan", "args": { "objective": "Compare a and b" } },
    ]));
    let ran = server.run(&place, ["run", "plan.json", "--model", "mock", "--step-tools", "all", "--json"]);
    let last = ran.last_event();
    let sent = server.calls().len();
    assert_eq!((ran.exit, &last["model_calls"]), (0, &json!(sent)), "{}{}", ran.stdout, ran.stderr);
    // A plan and two rounds for each of four steps, what was turned away, and a plan for the objective.
    assert!(sent > 9 && last["attempts"] != json!(sent), "{sent}: {}", ran.stdout);
    let show = place.run(["show", last["run"].as_str().unwrap()]);
    assert!(show.stdout.contains(&format!("{sent} model calls")), "{}", show.stdout);
    let before = server.calls().len();
    let ran = server.run(&place, ["run", "Compare a and b", "--model", "mock", "--step-tools", "all", "--json"]);
    let sent = server.calls().len() - before;
    assert_eq!((ran.exit, &ran.last_event()["model_calls"]), (0, &json!(sent)), "{}{}", ran.stdout, ran.stderr);
    // A run without a model asks none, and says nothing of it.
    place.plan(json!([calculate("six", "6")]));
    let ran = place.run(["run", "plan.json"]);
    assert!(ran.stderr.contains("1 attempt\n") || ran.stderr.ends_with("1 attempt"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("call"), "{}", ran.stderr);
}

/// Plans so many steps that what is told of them fills any pipe.
struct Wide;

impl Wide {
    const STEPS: usize = 300;
}

impl Respond for Wide {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().unwrap();
        if body["stream"] != json!(true) {
            return Model.respond(request);
        }
        let lines: String = (1..=Self::STEPS).map(|step| format!("{step}. look up {step}\n")).collect();
        streamed(&format!("{lines}END\n"), &json!({}))
    }
}

#[test]
fn a_run_does_not_wait_for_who_reads_slowly_what_is_told_of_it() {
    let (server, place) = (Server::with(Wide), Place::new());
    let mut command = server.command(&place, ["run", "Look up a lot", "--model", "mock", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while server.calls().len() < Wide::STEPS + 1 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{} calls", server.calls().len());
        std::thread::sleep(Duration::from_millis(50));
    }
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(ran.stdout.len() > 64 * 1024, "{} bytes fit into a pipe", ran.stdout.len());
    assert_eq!(
        (&ran.last_event()["ev"], &ran.last_event()["steps"]["succeeded"]),
        (&json!("run.finished"), &json!(Wide::STEPS))
    );
}

/// It does not say what it has used.
struct Sparing;

impl Respond for Sparing {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().unwrap();
        if body["stream"] == json!(true) {
            let delta = json!({ "choices": [{ "index": 0, "delta": { "content": "1. look up a\n2. look up b <- 1\nEND\n" } }] });
            let stop = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
            let body = format!("data: {delta}\n\ndata: {stop}\n\ndata: [DONE]\n\n");
            return ResponseTemplate::new(200).set_body_raw(body, "text/event-stream");
        }
        let message = json!({ "role": "assistant", "content": "found it" });
        ResponseTemplate::new(200)
            .set_body_json(json!({ "choices": [{ "index": 0, "finish_reason": "stop", "message": message }] }))
    }
}

#[test]
fn a_limit_on_tokens_holds_where_nobody_counts_and_can_be_raised() {
    let (server, place) = (Server::with(Sparing), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "m", "--max-tokens", "10", "--json"]);
    assert_eq!((ran.exit, &ran.last_event()["tokens_out"]), (8, &json!(9)), "{ran:?}");
    let run = ran.last_event()["run"].as_str().unwrap().to_owned();
    let help = ran.last_event()["error"]["help"].to_string();
    assert!(help.contains(&format!("plandag resume {run} --max-tokens N")), "{help}");
    assert!(!help.contains(&format!("plandag resume {run}\"")), "it would stop again at once: {help}");
    let unkept = server.run(&place, ["run", "x", "--model", "m", "--max-tokens", "10", "--no-journal"]);
    assert!(unkept.exit == 8 && !unkept.stderr.contains("plandag resume"), "{}", unkept.stderr);
    let again = server.run(&place, ["resume", &run, "--max-tokens", "100000", "--json"]);
    assert_eq!((again.exit, &again.last_event()["answer"]), (0, &json!("found it")), "{again:?}");
}

#[test]
fn a_step_that_is_put_off_is_told_with_the_reason() {
    let (server, place) = (Server::with(Model), Place::new());
    place.file("plandag.toml", "[providers.openai]\nrequests_per_minute = 1\n");
    let ran = server.run(&place, ["run", "x", "--model", "m", "--deadline", "2s"]);
    assert_eq!(ran.exit, 8, "{ran:?}");
    let told = ran.stderr.lines().filter(|line| line.contains("put off: ")).collect::<Vec<_>>();
    assert!(
        !told.is_empty() && told.iter().all(|line| line.contains("not asked yet") && line.contains("next in ")),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("0 attempts, ") && ran.stderr.contains(" put off"), "{ran:?}");
    let why = place.run(["why", "1"]);
    assert!(
        why.stdout.contains("it was put off: ") && why.stdout.contains("its only request a minute is used up"),
        "{why:?}"
    );
    assert!(!why.stdout.contains("attempt 1 failed"), "{why:?}");
}

/// It plans once, and lets nobody in after that.
#[derive(Default)]
struct Once(AtomicBool);

impl Respond for Once {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().unwrap();
        match body["stream"] == json!(true) && self.0.swap(true, Ordering::SeqCst) {
            true => ResponseTemplate::new(401),
            false => Sparing.respond(request),
        }
    }
}

#[test]
fn a_review_that_came_to_nothing_is_told_beside_the_answer() {
    for (limit, why) in [("200000", "401"), ("450", "the run may not use more")] {
        let place = Place::new();
        let args = ["run", "x", "--model", "m", "--review", "--max-tokens", limit];
        let ran = Server::with(Once::default()).run(&place, args);
        assert_eq!((ran.exit, ran.stdout.as_str()), (0, "found it\n"), "{ran:?}");
        let line = ran.stderr.lines().find(|line| line.trim_start().starts_with("review ")).unwrap_or_default();
        assert!(line.contains("none: ") && line.contains(why), "{ran:?}");
        let [command, objective, model, name, review, limited, limit] = args;
        let args = [command, objective, model, name, review, limited, limit, "--json"];
        let ran = Server::with(Once::default()).run(&place, args);
        let failed = ran.last_event()["review_failed"].as_str().unwrap_or_default().to_owned();
        assert!(ran.exit == 0 && failed.contains(why), "{ran:?}");
    }
}

#[test]
fn what_never_had_a_plan_is_asked_again() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = place.run(["run", "x", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--json"]);
    assert_eq!(ran.exit, 6, "{ran:?}");
    let again = server.run(&place, ["resume", ran.last_event()["run"].as_str().unwrap(), "--base-url", &server.url()]);
    assert_eq!((again.exit, again.stdout.as_str()), (0, "found it\n"), "{again:?}");
    assert!(again.stderr.contains("never had a plan"), "{again:?}");
}

#[test]
fn what_a_run_may_do_is_said_before_it_does_anything() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = server.run(&place, ["run", "Compare a and b", "--model", "mock"]);
    let place_of = |word: &str| ran.stderr.find(word).unwrap_or_else(|| panic!("{word}: {}", ran.stderr));
    assert!(place_of("ask mock (http") < place_of("look up a"), "{}", ran.stderr);
    assert!(place_of("look up a") < place_of("plan      3 steps"), "{}", ran.stderr);
}

/// As [`Model`], but it takes its time.
struct Slow;

impl Respond for Slow {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        Model.respond(request).set_delay(Duration::from_millis(300))
    }
}

#[test]
fn all_steps_that_ask_a_provider_leave_the_slots_to_others_that_it_does_not_take() {
    for tool in ["plan", "answer"] {
        let (server, place) = (Server::with(Slow), Place::new());
        place.file("plandag.toml", "[providers.openai]\nconcurrency = 1\n");
        place.plan(json!([
            { "id": "asks", "description": "Say it", "estimate_ms": 9000 },
            { "id": "too", "tool": tool, "args": { "objective": "Say it" }, "estimate_ms": 8000 },
            calculate("other", "1 + 1"),
        ]));
        let arguments = ["run", "plan.json", "--model", "m", "--answer-model", "n", "--max-parallel", "2", "--json"];
        let ran = server.run(&place, arguments);
        assert_eq!(ran.exit, 0, "{}{}", ran.stdout, ran.stderr);
        let at = |name: &str, step: &str| {
            let is_it = |event: &Value| event["ev"] == name && event["step"] == step;
            ran.events().iter().position(is_it).unwrap()
        };
        assert!(at("step.started", "other") < at("step.finished", "asks"), "{tool}: {}", ran.stdout);
        assert!(at("step.started", "too") > at("step.finished", "asks"), "{tool}: {}", ran.stdout);
    }
}

#[test]
fn what_can_go_wrong_with_a_provider_has_its_code_and_a_way_out() {
    let error = |status: u16, message: &str| {
        ResponseTemplate::new(status)
            .insert_header("retry-after", "0")
            .set_body_json(json!({ "error": { "message": message } }))
    };
    let html = ResponseTemplate::new(200).set_body_raw("<html></html>", "text/html");
    // The first words of a plan, and then an error.
    let broken_off = |error: Value| {
        let words = json!({ "choices": [{ "delta": { "content": "1. a" } }] });
        let events = format!("data: {words}\n\ndata: {}\n\n", json!({ "error": error }));
        ResponseTemplate::new(200).set_body_raw(events, "text/event-stream")
    };
    for (response, exit, code, calls) in [
        (broken_off(json!({ "code": 429, "message": "slow down" })), 6, "provider.rate_limited", 3),
        (broken_off(json!({ "code": 502, "message": "bad gateway" })), 6, "provider.unavailable", 3),
        (broken_off(json!({ "code": 401, "message": "bad key" })), 5, "config.wrong_key", 1),
        (error(401, "bad key"), 5, "config.wrong_key", 1),
        (error(404, "the model `mock` does not exist"), 5, "config.unknown_model", 1),
        (error(429, "slow down"), 6, "provider.rate_limited", 5),
        (error(400, "maximum context length is 10 tokens"), 4, "model.context_overflow", 1),
        (html, 6, "provider.not_an_api", 1),
        (ended("Sure! 1. a", "length", &json!({})), 4, "planner.truncated", 3),
        (streamed("Sure! 1. a", &json!({})), 4, "planner.invalid_json", 3),
        (streamed("Sure! 1. a\nEND\n", &json!({})), 4, "planner.invalid_json", 3),
    ] {
        let (server, place) = (Server::with(response), Place::new());
        let ran = server.run(&place, ["run", "x", "--model", "mock", "--json"]);
        let last = ran.last_event();
        assert_eq!((ran.exit, &last["error"]["code"]), (exit, &json!(code)), "{}", ran.stdout);
        assert!(!last["error"]["help"].as_array().unwrap().is_empty(), "{code}");
        assert_eq!(server.calls().len(), calls, "{code}");
        assert!(!ran.stdout.contains(KEY));
    }
}

/// Wants no call for a while, once.
struct BusyOnce(AtomicBool);

impl Respond for BusyOnce {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let error = json!({ "error": { "message": "slow down" } });
        match self.0.swap(false, Ordering::Relaxed) {
            true => ResponseTemplate::new(429).insert_header("retry-after", "2").set_body_json(error),
            false => Model.respond(request),
        }
    }
}

#[test]
fn who_waits_for_a_planner_is_told_what_that_waits_for() {
    let error = json!({ "error": { "message": "slow down" } });
    let closed = ResponseTemplate::new(429).insert_header("retry-after", "1200").set_body_json(error);
    let (server, place) = (Server::with(closed), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "m", "--deadline", "1s"]);
    assert_eq!(ran.exit, 8, "{}", ran.stderr);
    assert!(ran.stderr.contains("↻ the planner waits 20m"), "{}", ran.stderr);
    let (_, error) = ran.stderr.split_once("error[limit.deadline]").unwrap();
    let way_on = error.lines().find(|line| line.contains("go on with it: plandag resume")).expect(error);
    assert!(way_on.ends_with(" --deadline TIME") && error.matches("--deadline").count() == 1, "{error}");
    assert!(error.contains("the planner waited: model `m` at") && error.contains("slow down"), "{error}");
    let ran = server.run(&place, ["run", "x", "--model", "m", "--deadline", "1s", "--json"]);
    let waits = ran.events().into_iter().find(|event| event["ev"] == "planning.waits").unwrap();
    assert_eq!(waits["wait_ms"], 1_200_000, "{waits}");
    assert!(waits["reason"].as_str().unwrap().contains("too many calls"), "{waits}");
    let server = Server::with(BusyOnce(true.into()));
    let ran = server.run(&place, ["plan", "x", "--model", "m"]);
    assert!(ran.exit == 0 && ran.stderr.contains("↻ the planner waits 2"), "{ran:?}");
}

#[test]
fn a_review_is_refused_where_nobody_could_make_it() {
    let (server, place) = (Server::with(Model), Place::new());
    place.plan(json!([calculate("six", "6")]));
    place.file("lines.txt", "x\n");
    let lines = [
        ["run", "plan.json", "--review", "--offline", "-q"],
        ["run", "plan.json", "--review", "--step-model", "m"],
        ["run", "--batch", "lines.txt", "--review", "--model=m"],
    ];
    for line in lines {
        let ran = server.run(&place, line);
        assert!(ran.exit == 2 && ran.stderr.contains("--review"), "{line:?}: {ran:?}");
    }
    assert_eq!(server.run(&place, ["run", "plan.json", "--review", "--model", "m"]).exit, 0);
}

#[test]
fn what_is_wrong_with_a_model_is_said_of_a_step_too() {
    let error = |status: u16, message: &str| {
        ResponseTemplate::new(status)
            .insert_header("retry-after", "0")
            .set_body_json(json!({ "error": { "message": message } }))
    };
    for (response, exit, code, can_be_retried) in [
        (error(401, "bad key"), 5, "config.wrong_key", true),
        (error(404, "the model `mock` does not exist"), 5, "config.unknown_model", false),
        // It answered other steps, perhaps: that this one failed is all that is known.
        (error(503, "overloaded"), 1, "step.transient", false),
        (error(400, "maximum context length is 10 tokens"), 1, "model.context_overflow", false),
    ] {
        let (server, place) = (Server::with(response), Place::new());
        place.plan(json!([calculate("six", "6"), { "id": "say", "description": "Say it", "depends_on": ["six"] }]));
        let ran = server.run(&place, ["run", "plan.json", "--model", "mock", "--json"]);
        let last = ran.last_event();
        assert_eq!((ran.exit, &last["error"]["code"]), (exit, &json!(code)), "{}", ran.stdout);
        assert_eq!(last["steps"]["succeeded"], 1, "what is finished is kept");
        let help = last["error"]["help"].to_string();
        let retry = format!("plandag retry {}", last["run"].as_str().unwrap());
        assert_eq!(help.contains(&retry), can_be_retried, "{help}");
    }
}

/// Plans, also what cannot be done, and does nothing.
struct LetsNobodyIn(u16);

impl Respond for LetsNobodyIn {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        if request.body_json::<Value>().unwrap()["stream"] == json!(true) {
            return streamed(
                "1. look up a\n2. @calculate {\"expression\": \"6 * 7\"}\n3. compare <- 1-2\nEND\n",
                &json!({}),
            );
        }
        ResponseTemplate::new(self.0)
            .set_body_json(json!({ "error": { "message": "the model `mock` does not exist" } }))
    }
}

#[test]
fn a_step_that_its_provider_refuses_buys_no_other_plan() {
    for (status, exit, code) in
        [(401, 5, "config.wrong_key"), (404, 5, "config.unknown_model"), (402, 6, "provider.no_quota")]
    {
        let (server, place) = (Server::with(LetsNobodyIn(status)), Place::new());
        let ran = server.run(&place, ["run", "Compare a and b", "--model", "mock", "--json"]);
        let last = ran.last_event();
        assert_eq!((ran.exit, &last["error"]["code"]), (exit, &json!(code)), "{}", ran.stdout);
        assert_eq!((server.calls().len(), &last["replans"]), (2, &json!(0)), "one for the plan, one for the step");
        assert_eq!(last["steps"]["succeeded"], 1, "what does not need it is done");
        assert!(!last["error"]["help"].as_array().unwrap().is_empty());
        // Nor of whoever plans a part of it.
        place.plan(json!([{ "id": "part", "tool": "plan", "args": { "objective": "Compare a and b" } }]));
        let ran = server.run(&place, ["run", "plan.json", "--model", "mock", "--json"]);
        let last = ran.last_event();
        assert_eq!((ran.exit, &last["error"]["code"]), (exit, &json!(code)), "{}", ran.stdout);
        assert_eq!((server.calls().len(), &last["replans"]), (4, &json!(0)));
    }
}

#[test]
fn a_step_of_a_plan_that_came_to_nothing_was_run() {
    let (server, place) = (Server::with(Unfinished), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "mock"]);
    assert!(ran.exit == 4 && ran.stderr.contains("planner.truncated"), "{ran:?}");
    assert!(ran.stderr.contains("started") && !ran.stderr.contains("nothing was run"), "{ran:?}");
}

/// Plans what fails, and has no other plan that is one.
struct Stubborn;

impl Respond for Stubborn {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body = request.body_json::<Value>().unwrap();
        let usage = json!({});
        match (body["stream"] == json!(true), body.to_string().contains("no such thing")) {
            (true, false) => streamed("1. look\nEND\n", &usage),
            (true, true) => streamed("DONE\nEND\n", &usage),
            (false, _) => ResponseTemplate::new(200).set_body_json(json!({
                "id": "1", "model": "m", "usage": usage, "choices": [{
                    "index": 0, "finish_reason": "stop",
                    "message": { "role": "assistant", "content": "UNEXPECTED: no such thing" },
                }],
            })),
        }
    }
}

#[test]
fn why_another_plan_was_refused_is_said_beside_what_failed() {
    let (server, place) = (Server::with(Stubborn), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "m"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    let (_, error) = ran.stderr.split_once("error[").unwrap();
    let refused = "another plan was refused: it says that nothing is missing";
    assert!(error.contains("no such thing") && error.contains(refused), "{error}");
}

/// A command that would plan without the model, or have it plan once more, is none to try next.
#[test]
fn what_a_model_has_planned_is_looked_at_next() {
    let (server, place) = (Server::with(Model), Place::new());
    place.file("docs/a.md", "# a\nalpha\n");
    let next = |more: &[&str]| {
        let mut command = server.command(&place, ["run", "compare a and b", "--model", "m", "--files", "docs"]);
        let ran: Ran = command.args(more).output().unwrap().into();
        let line = ran.stderr.lines().find_map(|line| line.trim().strip_prefix("next")).map(str::trim);
        line.unwrap_or_else(|| panic!("{ran:?}")).to_owned()
    };
    assert!(next(&[]).starts_with("plandag show "));
    assert_eq!(next(&["--no-journal"]), "plandag help run");
    let offline = next(&["--offline"]);
    assert!(offline.starts_with("plandag plan 'compare a and b' --files docs"), "{offline}");
}

/// Plans a part in vain, and another time.
struct InVain;

impl Respond for InVain {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body = request.body_json::<Value>().unwrap();
        let (said, usage) = (body["messages"].to_string(), json!({}));
        match (body["stream"] == json!(true), said.contains("deep"), said.contains("so far")) {
            (true, true, false) if !said.contains("Compare") => streamed("1. s1\n2. fail\nEND\n", &usage),
            (true, false, false) => streamed("1. @plan {\"objective\": \"deep\"}\nEND\n", &usage),
            (true, _, true) if said.contains("Compare") => {
                streamed("1. @plan {\"objective\": \"deep again\"}\nEND\n", &usage)
            }
            (true, ..) => streamed("2. fail again\nEND\n", &usage),
            (false, ..) if said.contains("fail") => ResponseTemplate::new(400),
            (false, ..) => Model.respond(request),
        }
    }
}

#[test]
fn what_failed_before_its_part_was_planned_anew_is_not_listed_beside_what_failed_last() {
    let (server, place) = (Server::with(InVain), Place::new());
    let ran = server.run(&place, ["run", "Compare", "--model", "m", "--max-replans", "1"]);
    assert_eq!(ran.exit, 1, "{ran:?}");
    let (_, error) = ran.stderr.split_once("error[").unwrap();
    assert!(
        error.contains("step `1` and 1 other failed") || error.contains("step `1/2` and 1 other failed"),
        "{error}"
    );
    assert_eq!(error.matches("\n  1/2: ").count(), 1, "{error}");
}

#[test]
fn what_a_planner_wrote_can_be_looked_at() {
    let (server, place) = (Server::with(streamed("Sure! 1. a\u{1b}[2J\nEND\n", &json!({}))), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "mock"]);
    assert_eq!(ran.exit, 4, "{}", ran.stderr);
    let help = ran.stderr.lines().find_map(|line| line.split_once("what it wrote: plandag ")).unwrap().1;
    let shown = place.run(help.split(' '));
    assert_eq!(shown.stdout.matches("plan 1 was sent back: 1 problem").count(), 3, "{}", shown.stdout);
    assert_eq!(shown.stdout.matches("| Sure! 1. a").count(), 3, "{}", shown.stdout);
    assert!(!shown.stdout.contains('\u{1b}'), "{}", shown.stdout);
    let json: Value = serde_json::from_str(&place.run(help.split(' ').chain(["--json"])).stdout).unwrap();
    assert_eq!(json["planner_answers"][0]["answer"], "Sure! 1. a\u{1b}[2J\nEND\n");
    assert_eq!(json["planner_answers"][2]["errors"][0]["code"], "plan.malformed");
}

#[test]
fn a_limit_on_spending_ends_a_run_with_what_is_done() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "mock", "--max-tokens", "200", "--json"]);
    assert_eq!((ran.exit, &ran.last_event()["error"]["code"]), (8, &json!("limit.tokens")), "{}", ran.stdout);
    let ran = server.run(&place, ["run", "x", "--model", "mock", "--max-usd", "0.0001"]);
    assert_eq!(ran.exit, 5, "what a limit means is not known without a price");
    assert!(ran.stderr.contains("config.no_price"), "{}", ran.stderr);
    place.file("plandag.toml", "[prices.mock]\ninput = 1.0\noutput = 2.0\n");
    let ran = server.run(&place, ["run", "x", "--model", "mock", "--max-usd", "0.0001", "--json"]);
    assert_eq!((ran.exit, &ran.last_event()["error"]["code"]), (8, &json!("limit.money")), "{}", ran.stdout);
    let ran = server.run(&place, ["run", "x", "--model", "mock", "--max-usd", "1", "--json"]);
    assert_eq!((ran.exit, &ran.last_event()["usd"]), (0, &json!(0.000_56)), "{}", ran.stdout);
    // A name with its provider is the same model; and what a project says does not make the user's limit void.
    place.file(".config/plandag/config.toml", "[prices.mock]\ninput = 100.0\noutput = 100.0\n");
    place.file("plandag.toml", "[prices.mock]\ninput = 0.0\noutput = 0.0\n");
    let ran = server.run(&place, ["run", "x", "--model", "openai::mock", "--max-usd", "0.001", "--json"]);
    assert_eq!((ran.exit, &ran.last_event()["error"]["code"]), (8, &json!("limit.money")), "{}", ran.stdout);
}

#[test]
fn a_plan_is_written_down_without_being_run() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = server.run(&place, ["plan", "Compare a and b", "--model", "mock"]);
    let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((plan["steps"].as_array().unwrap().len(), &plan["answer"]), (3, &json!("3")), "{}", ran.stderr);
    assert_eq!(server.calls().len(), 1);
    assert!(
        ran.stderr.contains(" predicted ~2.00s with 64 slots"),
        "two after each other, a second each: {}",
        ran.stderr
    );
    assert!(ran.stderr.contains(" used      1 model call, 100 in / 20 out tokens\n"), "{}", ran.stderr);
    place.file("mine.json", &ran.stdout);
    let ran = server.run(&place, ["run", "mine.json", "--model", "mock"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (0, "found it\n"), "{}", ran.stderr);
    let ran = place.run(["run", "mine.json", "--offline"]);
    assert_eq!(ran.exit, 5, "nobody does the steps: {}", ran.stderr);

    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12 });
    let (server, place) = (Server::with(streamed("Sure!\n", &usage)), Place::new());
    let ran = server.run(&place, ["plan", "Compare a and b", "--model", "mock"]);
    assert_eq!(ran.exit, 4, "{}", ran.stderr);
    assert!(ran.stderr.contains(" used      3 model calls, 30 in / 6 out tokens\n"), "{}", ran.stderr);
}

/// A planner that answers when a step of its plan has failed.
struct Answering;

impl Respond for Answering {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = request.body_json().unwrap();
        if body["stream"] != json!(true) {
            return Model.respond(request);
        }
        streamed(
            match body.to_string().contains("The plan so far") {
                true => "ANSWER: a alone",
                false => "1. look up a\n2. @calculate {\"expression\": \"1/0\"} b\n3. compare <- 1-2\nEND\n",
            },
            &json!({}),
        )
    }
}

#[test]
fn an_answer_of_the_planner_is_not_taken_for_that_of_its_plan() {
    let (server, place) = (Server::with(Answering), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "mock", "--max-parallel", "1"]);
    assert_eq!((ran.exit, ran.stdout.as_str()), (0, "a alone\n"), "{}", ran.stderr);
    let lines = [
        "✓ succeeded   1 of 3 steps done in",
        "failed    2: cannot calculate: division by zero",
        "answer    the planner's own, from what is done, without what is not done",
    ];
    for line in lines {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
    let ran = server.run(&place, ["run", "x", "--model", "mock", "--max-parallel", "1", "--json"]);
    let last = ran.last_event();
    assert_eq!((&last["answered_by_planner"], &last["steps"]["failed"]), (&json!(true), &json!(1)), "{last}");
    let shown = place.run(["show", last["run"].as_str().unwrap()]);
    assert!(shown.stdout.contains("answer    the planner's own\n"), "{}", shown.stdout);
    let (server, place) = (Server::with(Model), Place::new());
    let ran = server.run(&place, ["run", "x", "--model", "mock", "--json"]);
    assert_eq!(ran.last_event()["answered_by_planner"], json!(false));
}

/// A model that knows another way for the step that fails.
struct Reviser;

impl Respond for Reviser {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let text = request.body_json::<Value>().unwrap()["messages"].to_string();
        assert!(
            text.contains("boil. @calculate") && text.contains("failed:") && text.contains("pour. @calculate"),
            "{text}"
        );
        let usage = json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 });
        streamed("boil. @calculate {\"expression\": \"6 * 7\"}\nEND\n", &usage)
    }
}

#[test]
fn a_plan_of_ones_own_is_revised_by_a_model_that_is_named() {
    let (server, place) = (Server::with(Reviser), Place::new());
    place.plan(json!([calculate("boil", "1 / 0"), calculate("pour", "${boil.result} + 0")]));
    let ran = server.run(&place, ["run", "plan.json", "--model", "m", "--json"]);
    let last = ran.last_event();
    assert_eq!((ran.exit, &last["answer"]["result"]), (0, &json!(42)), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(server.calls().len(), 1);

    let ran = server.run(&place, ["run", "plan.json"]);
    assert_eq!(ran.exit, 1, "{}", ran.stderr);
    let ran = server.run(&place, ["run", "plan.json", "--model", "m", "--max-replans", "0"]);
    assert_eq!(ran.exit, 1, "{}", ran.stderr);
    assert_eq!(server.calls().len(), 1);
}

/// A model that first plans what fails, and knows another way then.
struct Resourceful;

impl Respond for Resourceful {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let text = request.body_json::<Value>().unwrap()["messages"].to_string();
        let usage = json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 });
        let plan = match (text.contains("failed:"), text.contains("boil. @calculate")) {
            (false, _) => "1. @calculate {\"expression\": \"1 / 0\"}\nEND\n",
            (true, false) => "1. @calculate {\"expression\": \"20 + 1\"}\nEND\n",
            (true, true) => "boil. @calculate {\"expression\": \"6 * 7\"}\nEND\n",
        };
        streamed(plan, &usage)
    }
}

#[test]
fn each_line_of_a_batch_is_revised_by_itself() {
    let (server, place) = (Server::with(Resourceful), Place::new());
    place.plan(json!([calculate("boil", "1 / 0"), calculate("pour", "${boil.result} + 0")]));
    place.file("good.json", json!({ "steps": [calculate("a", "2 + 2")] }).to_string());
    place.file("lines.txt", "plan.json\ngood.json\nHalf of it\n");
    let results = |ran: &Ran| -> Vec<(Value, Value)> {
        let last = ran.last_event();
        let lines = last["lines"].as_array().unwrap();
        lines.iter().map(|line| (line["state"].clone(), line["answer"]["result"].clone())).collect()
    };
    let ran = server.run(&place, ["run", "--batch", "lines.txt", "--model", "m", "--json"]);
    let done = |result: u32| (json!("succeeded"), json!(result));
    assert_eq!((ran.exit, results(&ran)), (0, vec![done(42), done(4), done(21)]), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(server.calls().len(), 3, "one plan and two revisions");

    let ran = server.run(&place, ["run", "--batch", "lines.txt", "--model", "m", "--max-replans", "0", "--json"]);
    let failed = || (json!("failed"), Value::Null);
    assert_eq!((ran.exit, results(&ran)), (1, vec![failed(), done(4), failed()]), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(server.calls().len(), 4, "one plan more");
}

/// A model that knows another way to `b`, and is slow to do steps.
struct OtherWay(&'static str);

impl Respond for OtherWay {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body = request.body_json::<Value>().unwrap();
        match (body["messages"].to_string().contains("failed:"), &body["stream"]) {
            (true, _) => streamed(self.0, &json!({})),
            (false, Value::Bool(true)) => Model.respond(request),
            _ => Model.respond(request).set_delay(Duration::from_millis(1_500)),
        }
    }
}

#[test]
fn a_line_that_is_a_plan_is_revised_as_that_plan_alone() {
    let sum = json!([calculate("a", "${inputs.x} + 1"), calculate("b", "${a.result} +")]);
    let part = json!([{ "id": "a", "tool": "plan", "args": { "objective": "Half of it" } }, calculate("b", "1 +")]);
    for (steps, way, answer) in [
        (sum, "b. @calculate {\"expression\": \"${a.result} + ${inputs.x}\"}\nEND\n", json!({ "result": 7 })),
        (part, "b. @calculate {\"expression\": \"3 + 4\"}\nEND\n", Value::Null),
    ] {
        let (server, place) = (Server::with(OtherWay(way)), Place::new());
        place.plan(steps);
        place.file("lines.txt", "plan.json\n");
        let ran = server.run(&place, ["run", "--batch", "lines.txt", "--model", "m", "--input", "x=3", "--json"]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        let given = &ran.last_event()["lines"][0]["answer"];
        assert!(answer.is_null() || given["result"] == answer["result"], "{given}");
    }
}

/// Nobody is asked again and again whether a provider has time.
#[test]
fn the_revision_of_a_line_takes_its_turn_with_what_else_asks_its_provider() {
    let way = "b. @calculate {\"expression\": \"3 + 4\"}\nEND\n";
    let (server, place) = (Server::with(OtherWay(way)), Place::new());
    place.file("plandag.toml", "[providers.openai]\nconcurrency = 1\n");
    place.file("slow.json", json!({ "steps": [{ "id": "a", "description": "Say it" }] }).to_string());
    place.file("bad.json", json!({ "steps": [sleep("a", 200, &[]), calculate("b", "1 +")] }).to_string());
    place.file("lines.txt", "slow.json\nbad.json\n");
    let ran = server.run(&place, ["run", "--batch", "lines.txt", "--model", "m", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let events = ran.events();
    let of_line: Vec<&Value> = events.iter().filter(|event| event["step"] == "2").map(|event| &event["ev"]).collect();
    assert_eq!(of_line.iter().filter(|ev| **ev == "step.started").count(), 2, "{of_line:?}");
}

#[test]
fn the_code_of_an_error_goes_with_the_exit_code() {
    let say = || json!({ "id": "say", "description": "Say it" });
    let zero = || calculate("zero", "1/0");
    for (status, steps, exit, code) in [
        (401, vec![say()], 5, "config.wrong_key"),
        (401, vec![say(), zero()], 1, "step.permanent"),
        (401, vec![zero(), say()], 1, "step.bad_input"),
        (400, vec![say()], 1, "step.permanent"),
    ] {
        let error = ResponseTemplate::new(status).set_body_json(json!({ "error": { "message": "nope" } }));
        let (server, place) = (Server::with(error), Place::new());
        place.plan(Value::from(steps));
        let ran = server.run(&place, ["run", "plan.json", "--model", "mock", "--max-replans", "0", "--json"]);
        assert_eq!((ran.exit, &ran.last_event()["error"]["code"]), (exit, &json!(code)), "{ran:?}");
    }
}

/// A plan is paid for: where it goes is known before.
#[test]
fn nobody_is_asked_for_a_plan_that_could_not_be_written() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = server.run(&place, ["plan", "x", "--model", "m", "-o", "missing/plan.json"]);
    assert!(ran.exit == 2 && ran.stderr.contains("error[usage.output]"), "{ran:?}");
    assert!(server.calls().is_empty(), "{:?}", server.calls());
}

#[test]
fn a_plan_is_checked_with_the_model_that_it_would_be_run_with() {
    let (server, place) = (Server::with(Model), Place::new());
    place.plan(
        json!([{ "id": "a", "description": "look it up" }, { "id": "b", "tool": "plan", "args": { "task": "x" } }]),
    );
    let without = place.run(["check", "plan.json", "--offline"]);
    assert_ne!(without.exit, 0, "{without:?}");
    for arguments in [&["check", "plan.json", "--model", "m"][..], &["plan", "plan.json", "--model", "m"]] {
        let with = server.command(&place, []).args(arguments).output().unwrap();
        assert_eq!(with.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&with.stderr));
    }
    let no_key = place.run(["check", "plan.json", "--model", "gpt-4o-mini"]);
    assert!(no_key.exit == 5 && no_key.stderr.contains("error[config.missing_key]"), "{no_key:?}");
}
