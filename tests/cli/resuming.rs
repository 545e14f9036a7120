//! What a run goes on with when it is taken up again.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use wiremock::{Request, Respond, ResponseTemplate};

use crate::model_server::{Model, Server, listed};
use crate::support::{Place, Ran, wait_until};

#[test]
fn what_a_resume_is_told_holds_for_those_after_it() {
    let (server, place) = (Server::with(Model), Place::new());
    let gone = Server::with(Model);
    let ran = gone.run(&place, ["run", "x", "--model", "m", "--sequential", "--max-tokens", "130", "--json"]);
    assert_eq!(ran.exit, 8, "{ran:?}");
    drop(gone);
    let url = server.url();
    let told =
        ["resume", "--base-url", &url, "--max-parallel", "2", "--max-tokens", "300", "-o", "answer.txt", "--json"];
    let told = place.run(told);
    assert_eq!((told.exit, server.calls().len()), (8, 1), "{told:?}");
    let again = place.run(["resume", "--json"]);
    assert_eq!((again.exit, server.calls().len()), (8, 1), "the limit holds still: {again:?}");
    let more = place.run(["resume", "--max-tokens", "100000"]);
    assert_eq!((more.exit, more.stdout.as_str()), (0, ""), "{more:?}");
    assert_eq!(std::fs::read_to_string(place.path().join("answer.txt")).unwrap(), "found it\n");

    let run = told.last_event()["run"].as_str().unwrap().to_owned();
    let exported = place.run(["export", &run, "--format", "ndjson"]);
    let resumed = exported.events().into_iter().filter(|event| event["event"] == "run_resumed");
    let told = resumed.filter(|event| event["policy"].is_object()).map(|event| {
        let policy = &event["policy"];
        (policy["max_parallel"].as_u64(), policy["limits"]["tokens"].as_u64())
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [(Some(2), Some(300)), (Some(2), Some(100_000))], "as it was told, twice: {exported:?}");
    let fork = place.run(["fork", &run, "--from", "3"]);
    assert_eq!(fork.exit, 0, "it asks where the models are now: {fork:?}");
}

#[test]
fn a_run_that_is_asked_again_goes_on_as_it_was_asked() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = place.run(["run", "x", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--json"]);
    assert_eq!(ran.exit, 6, "{ran:?}");
    let run = ran.last_event()["run"].as_str().unwrap().to_owned();
    let asked = place.run(["resume", &run, "--base-url", &server.url(), "--max-tokens", "130", "--json"]);
    assert_eq!(asked.exit, 8, "{asked:?}");
    let calls = server.calls().len();
    let run = asked.last_event()["run"].as_str().unwrap().to_owned();
    let again = place.run(["resume", &run, "--json"]);
    assert_eq!((again.exit, server.calls().len()), (8, calls), "{again:?}");
    let more = place.run(["resume", &run, "--max-tokens", "100000", "--json"]);
    assert_eq!((more.exit, &more.last_event()["answer"]), (0, &json!("found it")), "{more:?}");
}

#[test]
fn servers_are_where_the_environment_said_when_the_run_was_started() {
    let (server, other, place) = (Server::with(Model), Server::with(Model), Place::new());
    let started = |host: String| {
        let line = ["run", "x", "--model", "ollama::m", "--sequential", "--max-tokens", "130", "--json"];
        let ran: Ran = place.command(line).env("OLLAMA_HOST", host).output().unwrap().into();
        assert_eq!(ran.exit, 8, "{ran:?}");
        ran.last_event()["run"].as_str().unwrap().to_owned()
    };
    let on = ["resume", "--max-tokens", "100000", "--json"];
    started(server.server.uri());
    let ran = place.run(on);
    assert_eq!((ran.exit, &ran.last_event()["answer"]), (0, &json!("found it")), "{ran:?}");
    // It may have moved meanwhile.
    started(server.server.uri());
    let ran: Ran = place.command(on).env("OLLAMA_HOST", other.server.uri()).output().unwrap().into();
    assert_eq!((ran.exit, other.calls().is_empty()), (0, false), "{ran:?}");
    // What is secret in an address is written down nowhere.
    let run = started(server.server.uri().replace("http://", "http://somebody:a-secret@"));
    let exported = place.run(["export", &run, "--format", "ndjson"]);
    assert!(exported.stdout.contains("ollama::m") && !exported.stdout.contains("secret"), "{exported:?}");
    let run = started(server.server.uri().replace("http://", "somebody:a-secret@"));
    assert!(!place.run(["export", &run, "--format", "ndjson"]).stdout.contains("secret"));
}

/// The journal is the one that was named, wherever the run was kept before, and what was read then is not read again.
#[test]
fn a_run_that_is_asked_again_is_kept_where_it_was_found() {
    let (server, place) = (Server::with(Model), Place::new());
    let asked = ["run", "-", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--journal", "old.db", "--json"];
    let ran = place.run_with_input(asked, "steps: of old, none");
    assert_eq!(ran.exit, 3, "words of a plan: {ran:?}");
    let ran = place.run_with_input(asked, "who knows?");
    assert_eq!(ran.exit, 6, "{ran:?}");
    let run = ran.last_event()["run"].as_str().unwrap().to_owned();
    std::fs::rename(place.path().join("old.db"), place.path().join("new.db")).unwrap();
    let resume = ["resume", &run, "--journal", "new.db", "--base-url", &server.url(), "--json"];
    let again = place.run_with_input(resume, "something else");
    assert_eq!((again.exit, &again.last_event()["answer"]), (0, &json!("found it")), "{again:?}");
    assert!(!place.path().join("old.db").exists());
    let new = again.last_event()["run"].as_str().unwrap().to_owned();
    let shown = place.run(["show", &new, "--journal", "new.db", "--json"]);
    assert_eq!((shown.exit, &shown.last_event()["objective"]), (0, &json!("who knows?")), "{shown:?}");
}

/// Lists another model first each time.
#[derive(Default)]
struct Changing(AtomicUsize);

impl Respond for Changing {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        listed(&[&format!("model-{}", self.0.fetch_add(1, Ordering::SeqCst)), "last"])
    }
}

#[test]
fn a_model_that_was_chosen_for_a_run_stays_its_model() {
    let (server, place) = (Server::listing(Changing::default(), Model), Place::new());
    let ran = server.run(&place, ["run", "x", "--sequential", "--max-tokens", "130", "--json"]);
    assert_eq!(ran.exit, 8, "{ran:?}");
    place.file("plandag.toml", "model = \"of-project\"\n");
    let mut resume = place.command(["resume", "--max-tokens", "100000"]);
    let resumed = resume.env("PLANDAG_MODEL", "of-environment").output().unwrap();
    assert!(resumed.status.success(), "{resumed:?}");
    let calls = server.calls();
    assert!(calls.len() > 3 && calls.iter().all(|(call, _)| call["model"] == "model-0"), "{calls:?}");
}

#[test]
fn arguments_are_read_again_as_they_were_read() {
    let place = Place::new();
    place.plan(json!([crate::support::sleep("a", 300, &[])]));
    let ran = place.run(["run", "plan.json", "--output-dir", "-5", "--deadline", "100ms", "--json"]);
    assert_eq!(ran.exit, 8, "{ran:?}");
    let resumed = place.run(["resume", "--deadline", "1h"]);
    assert_eq!(resumed.exit, 0, "{resumed:?}");
}

#[test]
fn what_a_page_says_of_a_fork_is_about_the_fork() {
    let place = Place::new();
    place.plan(json!([crate::support::sleep("a", 2_000, &[]), crate::support::sleep("b", 1, &["a"])]));
    let run = place.run(["run", "plan.json", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
    assert_eq!(place.run(["fork", &run, "--from", "b"]).exit, 0);
    let page = place.run(["report"]).stdout;
    let elapsed = page.split("<span id=\"elapsed\">").nth(1).unwrap().split('<').next().unwrap();
    assert!(elapsed.ends_with("ms") && !elapsed.starts_with("2."), "{elapsed}");
    let took: Vec<u64> = place.run(["runs", "--json"]).events().iter().map(|run| run["ms"].as_u64().unwrap()).collect();
    assert!(took[0] < 2_000 && took[1] >= 2_000, "{took:?}");
}

#[test]
fn what_a_write_must_survive_is_said_of_a_fork_too() {
    let place = Place::new();
    place.plan(json!([crate::support::calculate("a", "1 / 0")]));
    let run = place.run(["run", "plan.json", "--json"]).last_event()["run"].as_str().unwrap().to_owned();
    for again in [&["retry", &run][..], &["fork", &run, "--from", "a"]] {
        for survives in ["power", "process"] {
            let ran = place.run([again, &["--durability", survives]].concat());
            assert_eq!(ran.exit, 1, "{again:?}: {ran:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_cannot_be_gone_on_with_is_passed_over() {
    let place = Place::new();
    let plan = place.plan(json!([crate::support::sleep("a", 300, &[])]));
    let (plan, gone) = (plan.to_str().unwrap(), place.path().join("gone"));
    std::fs::create_dir(&gone).unwrap();
    let begin = |folder: &std::path::Path| {
        let mut command = place.command(["run", plan, "--deadline", "100ms", "--json"]);
        let ran = Ran::from(command.current_dir(folder).output().unwrap());
        assert_eq!(ran.exit, 8, "{ran:?}");
        ran.last_event()["run"].as_str().unwrap().to_owned()
    };
    let (run, lost) = (begin(place.path()), begin(&gone));
    std::fs::remove_dir_all(gone).unwrap();
    let mut demo = place.command(["demo"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&place, &["runs", "--status", "running", "--json"], "pid");
    demo.kill().unwrap();
    demo.wait().unwrap();
    let resumed = place.run(["resume", "--deadline", "1h", "--json"]);
    assert_eq!((resumed.exit, &resumed.last_event()["run"]), (0, &json!(run)), "{resumed:?}");
    assert_eq!(resumed.stderr.matches("is passed over").count(), 2, "{resumed:?}");
    assert!(resumed.stderr.contains(&lost), "{resumed:?}");
    let none = place.run(["resume"]);
    assert!(none.exit == 2 && none.stderr.contains("error[journal.foreign_run]"), "{none:?}");
}
