//! Which model is asked where, with which key: arguments, environment, configuration files, prompts, the doctor.

use std::ffi::OsStr;

use serde_json::{Value, json};
use wiremock::{Request, Respond, ResponseTemplate};

use crate::model_server::{KEY, Model, Server, listed, streamed};
use crate::support::{Place, Ran};

#[test]
fn each_role_can_have_a_model_of_its_own() {
    let (server, place) = (Server::with(Model), Place::new());
    let arguments =
        ["run", "x", "--planner-model", "p", "--step-model", "s", "--answer-model", "a", "--temperature", "0.3"];
    assert_eq!(server.run(&place, arguments).exit, 0);
    let mut models: Vec<String> =
        server.calls().iter().map(|(body, _)| body["model"].as_str().unwrap().to_owned()).collect();
    models.sort();
    assert_eq!(models, ["a", "p", "s", "s"]);

    // A line of a batch is an objective of its own; a step that is planned is none.
    place.file("lines.txt", "x\n");
    let plan = json!({ "id": "1", "tool": "plan", "args": { "objective": "x" } });
    place.plan(json!([plan]));
    for (source, batch, asked) in [("lines.txt", true, 1), ("plan.json", false, 0)] {
        let (server, mut arguments) = (Server::with(Model), arguments);
        arguments[1] = source;
        let mut command = server.command(&place, arguments);
        let ran: Ran = if batch { command.arg("--batch") } else { &mut command }.output().unwrap().into();
        assert_eq!(ran.exit, 0, "{ran:?}");
        let is_answer = |(body, _): &&(Value, String)| body["model"] == "a";
        assert_eq!(server.calls().iter().filter(is_answer).count(), asked, "{source}");
    }
    assert!(server.calls().iter().all(|(body, _)| body["temperature"] == json!(0.3)));

    // A plan of one's own has an answer, too: the step that it says, or the only one that nothing comes after.
    let say = |id: &str, after: Value| json!({ "id": id, "description": "say it", "depends_on": after });
    let steps = [say("a", json!([])), say("b", json!(["a"]))];
    let [first, second] = &steps;
    let declared = json!({ "answer": "b", "steps": [first, second, say("c", json!(["b"]))] });
    place.file("lines.txt", "plan.json\n");
    for (plan, expected) in [
        (json!({ "steps": steps }), vec!["a", "s"]),
        (declared, vec!["a", "s", "s"]),
        (json!({ "steps": [say("a", json!([]))] }), vec!["s"]),
        (json!({ "steps": [say("a", json!([])), say("b", json!([]))] }), vec!["s", "s"]),
    ] {
        place.file("plan.json", plan.to_string());
        for (source, batch) in [("lines.txt", true), ("plan.json", false)] {
            let (server, mut arguments) = (Server::with(Model), arguments);
            arguments[1] = source;
            let mut command = server.command(&place, arguments);
            let ran: Ran = if batch { command.arg("--batch") } else { &mut command }.output().unwrap().into();
            assert_eq!(ran.exit, 0, "{ran:?}");
            let mut models: Vec<_> = server.calls().iter().map(|(body, _)| body["model"].clone()).collect();
            models.sort_by_key(Value::to_string);
            assert_eq!(models, expected, "{source}: {plan}");
        }
    }
}

#[test]
fn arguments_win_over_environment_project_and_user() {
    let (server, place) = (Server::with(Model), Place::new());
    let model_of = |ran: Ran| {
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        server.calls().last().unwrap().0["model"].as_str().unwrap().to_owned()
    };
    assert_eq!(model_of(server.run(&place, ["run", "x"])), "first", "the first that the server lists");
    place.file(".config/plandag/config.toml", "model = \"of-user\"\n");
    assert_eq!(model_of(server.run(&place, ["run", "x"])), "of-user");
    place.file("plandag.toml", "model = \"of-project\"\n");
    assert_eq!(model_of(server.run(&place, ["run", "x"])), "of-project");
    let mut command = server.command(&place, ["run", "x"]);
    assert_eq!(model_of(command.env("PLANDAG_MODEL", "of-environment").output().unwrap().into()), "of-environment");
    let mut command = server.command(&place, ["run", "x", "--model", "of-argument"]);
    assert_eq!(model_of(command.env("PLANDAG_MODEL", "of-environment").output().unwrap().into()), "of-argument");
    let mut command = server.command(&place, ["run", "x"]);
    assert_eq!(
        model_of(command.env("PLANDAG_MODEL", "").output().unwrap().into()),
        "of-project",
        "an empty one is unset"
    );
    place.file("plandag.toml", "planner_model = \"of-project\"\nstep_model = \"of-project\"\n");
    assert_eq!(model_of(server.run(&place, ["run", "x"])), "of-project");
    assert_eq!(model_of(server.run(&place, ["run", "x", "--model", "of-argument"])), "of-argument");
    place.file("notes/a.md", "# Lmdb\n\nLMDB is durable: a commit is on disk when it returns.\n");
    let mut command = server.command(&place, ["run", "Is LMDB durable?", "--files", "notes", "--offline"]);
    let before = server.calls().len();
    let ran: Ran = command.env("PLANDAG_MODEL", "of-environment").output().unwrap().into();
    assert_eq!((ran.exit, server.calls().len()), (0, before), "{}", ran.stderr);
}

#[test]
fn files_say_only_what_makes_sense() {
    let place = Place::new();
    let refused = |text: &str, word: &str| {
        place.file("plandag.toml", text);
        let ran = place.run(["run", "x", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"]);
        assert!(ran.exit == 5 && ran.stderr.contains("config.invalid") && ran.stderr.contains(word), "{}", ran.stderr);
    };
    refused("temperature = 9.0\n", "from 0 to 2");
    for key in ["model", "planner_model", "step_model", "answer_model"] {
        refused(&format!("{key} = \"\"\n"), &format!("{key}: a model has a name"));
    }
    refused("max_usd = -1.0\n", "at least 0.000001");
    refused("[providers.opnai]\nconcurrency = 1\n", "no such provider");
    let secret = place.path().parent().unwrap().join("plandag-prompt-outside.txt");
    std::fs::write(&secret, "what a project must not send anywhere").unwrap();
    refused("[prompts]\nstep = \"../plandag-prompt-outside.txt\"\n", "outside of its folder");
    std::fs::remove_file(secret).unwrap();
}

/// A project may say how often a gateway is asked, and not that it is passed by.
#[test]
fn what_files_say_of_a_provider_is_put_together() {
    let (server, place) = (Server::with(Model), Place::new());
    let gateway = format!("[providers.openai]\nbase_url = \"{}\"\napi_key_env = \"GATEWAY_KEY\"\n", server.url());
    place.file(".config/plandag/config.toml", gateway);
    place.file("plandag.toml", "[providers.openai]\nconcurrency = 4\n");
    let mut command = place.command(["run", "x", "--model", "openai::m"]);
    let ran: Ran = command.env("GATEWAY_KEY", "sk-of-the-gateway").env_remove("HTTPS_PROXY").output().unwrap().into();
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(server.calls().iter().all(|(_, key)| key == "Bearer sk-of-the-gateway"));
}

#[test]
fn a_project_does_not_choose_among_keys() {
    let (server, place) = (Server::with(Model), Place::new());
    for key in ["api_key_env = \"MY_KEY\"", "api_key_file = \"key.txt\""] {
        for provider in ["openai", "ollama", "anthropic"] {
            place.file("plandag.toml", format!("[providers.{provider}]\n{key}\n"));
            let ran: Ran =
                server.command(&place, ["run", "x", "--model", "m"]).env("MY_KEY", KEY).output().unwrap().into();
            let name = key.split(' ').next().unwrap();
            let said = format!("plandag.toml says where a key is: `{name}` of [providers.{provider}]");
            assert!(
                ran.exit == 5 && ran.stderr.contains("config.invalid") && ran.stderr.contains(&said),
                "{}",
                ran.stderr
            );
            assert!(
                ran.stderr.contains("plandag/config.toml") && ran.stderr.contains("--api-key-file"),
                "{}",
                ran.stderr
            );
        }
    }
    assert_eq!(server.calls().len(), 0);
    let example = place.run(["doctor", "--example"]).stdout;
    let uncommented: String = example
        .lines()
        .filter_map(|line| line.strip_prefix("# ").filter(|line| line.starts_with('[') || line.contains(" = ")))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(uncommented.contains("[providers.openai]") && !uncommented.contains("api_key"), "{uncommented}");
}

#[test]
fn ollama_gets_the_key_that_is_named_for_it_and_no_other() {
    let (server, place) = (Server::with(Model), Place::new());
    let provider = format!("[providers.ollama]\nbase_url = \"{}\"\n", server.url());
    place.file(".config/plandag/config.toml", format!("{provider}api_key_env = \"MY_KEY\"\n"));
    let run = |keys: &[(&str, &str)]| {
        let mut command = place.command(["run", "x", "--model", "ollama::m"]);
        let ran: Ran = command.envs(keys.iter().copied()).output().unwrap().into();
        assert_eq!(ran.exit, 0, "{}", ran.stderr);
        server.calls().last().unwrap().1.clone()
    };
    assert_eq!(run(&[("MY_KEY", "sk-of-ollama"), ("OPENAI_API_KEY", KEY)]), "Bearer sk-of-ollama");
    assert!(!run(&[("OPENAI_API_KEY", KEY)]).contains(KEY));
    place.file("key.txt", "sk-in-a-file");
    let file = place.path().join("key.txt");
    place.file(".config/plandag/config.toml", format!("{provider}api_key_file = '{}'\n", file.display()));
    assert_eq!(run(&[]), "Bearer sk-in-a-file");
}

#[test]
fn no_key_goes_to_ollama_or_to_two_servers() {
    let (server, place) = (Server::with(Model), Place::new());
    let host = server.server.uri();
    let mut command = place.command(["run", "x"]);
    let ran: Ran = command.env("OLLAMA_HOST", &host).env("OPENAI_API_KEY", KEY).output().unwrap().into();
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(server.calls().iter().all(|(_, key)| !key.contains(KEY)));
    let file = place.file("key.txt", KEY);
    let file = file.to_str().unwrap();
    place.file("plandag.toml", format!("base_url = \"{}\"\nmodel = \"m\"\n", server.url()));
    let ran = place.run(["run", "x", "--api-key-file", file]);
    assert!(ran.exit == 0 && ran.stderr.contains("no key is sent to http://127.0.0.1:"), "{}", ran.stderr);
    assert!(server.calls().iter().all(|(_, key)| !key.contains(KEY)));
    let ran = server.run(&place, ["run", "x", "--model", "m", "--step-model", "anthropic::c", "--api-key-file", file]);
    assert!(ran.exit == 2 && ran.stderr.contains("has one key"), "{}", ran.stderr);
}

#[test]
fn ollama_is_where_the_configuration_says() {
    let (server, place) = (Server::with(Model), Place::new());
    let file = place.file("key.txt", KEY);
    let key = ["--api-key-file", file.to_str().unwrap()];
    let said = format!("[providers.ollama]\nbase_url = \"{}\"\n", server.url());
    place.file("plandag.toml", &said);
    for model in ["ollama::m", "m"] {
        let ran = place.run(["run", "x", "--model", model].iter().chain(&key));
        assert!(ran.exit == 0 && ran.stderr.contains("no key is sent to http://127.0.0.1:"), "{}", ran.stderr);
    }
    assert!(server.calls().iter().all(|(_, key)| !key.contains(KEY)), "a project does not decide where keys are sent");
    let asked = server.calls().len();
    place.file(".config/plandag/config.toml", &said);
    let ran = place.run(["run", "x", "--model", "ollama::m"].iter().chain(&key));
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(server.calls()[asked..].iter().all(|(_, key)| key.contains(KEY)));
}

#[test]
fn limits_and_prices_that_limit_nothing_are_no_configuration() {
    let place = Place::new();
    for (text, why) in [
        ("[prices.m]\ninput = nan\noutput = 1.0\n", "[prices.\"m\"]: a price is a number"),
        ("[prices.m]\ninput = 1.0\noutput = -5.0\n", "[prices.\"m\"]: a price is a number"),
        ("max_tokens = 0\n", "nonzero"),
        ("[providers.openai]\nconcurrency = 0\n", "nonzero"),
        ("[providers.openai]\ntokens_per_minute = 0\n", "nonzero"),
    ] {
        place.file("plandag.toml", text);
        let ran = place.run(["run", "x", "--model", "gpt-4o"]);
        assert!(ran.exit == 5 && ran.stderr.contains(why), "{text}: {}", ran.stderr);
    }
    let ran = place.run(["run", "x", "--model", "m", "--max-tokens", "0"]);
    assert!(ran.exit == 2 && ran.stderr.contains("at least 1"), "{}", ran.stderr);
}

#[test]
fn an_address_with_a_password_is_no_argument() {
    let place = Place::new();
    let ran = place.run(["run", "x", "--model", "m", "--base-url", "http://name:password9@127.0.0.1:9/v1"]);
    assert!(ran.exit == 2 && ran.stderr.contains("set OPENAI_BASE_URL instead"), "{}", ran.stderr);
}

#[test]
fn an_address_that_cannot_be_used_is_not_repeated_with_its_secret() {
    let place = Place::new();
    for address in ["http://name:password9@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?api-key=password9"] {
        for json in [&["--json"][..], &[]] {
            let arguments = ["run", "x", "--model", "m", "--base-url", address].into_iter().chain(json.iter().copied());
            let ran = place.run(arguments.collect::<Vec<_>>());
            assert!(ran.exit == 2 && (ran.stdout.clone() + &ran.stderr).contains("[redacted]"), "{ran:?}");
            assert!(!(ran.stdout + &ran.stderr).contains("password9"));
        }
    }
    for address in ["name:password9@127.0.0.1:9/v1", "127.0.0.1:9/v1?api-key=password9", "htp:/name:password9@h/v1"] {
        for arguments in [&["run", "x", "--model", "m", "--json"][..], &["run", "x", "--model", "m"], &["doctor"]] {
            let mut command = place.command(arguments);
            let ran: Ran = command.env("OPENAI_BASE_URL", address).output().unwrap().into();
            assert!((ran.stdout.clone() + &ran.stderr).contains("is no address"), "{address}: {ran:?}");
            assert!(!(ran.stdout + &ran.stderr).contains("password9"), "{address}");
        }
    }
}

#[test]
fn a_key_does_not_follow_a_project_to_an_address_of_its_choice() {
    let (server, place) = (Server::with(Model), Place::new());
    place.file("plandag.toml", format!("base_url = \"{}\"\nmodel = \"m\"\n", server.url()));
    let mut command = place.command(["run", "x"]);
    let ran: Ran = command.env("OPENAI_API_KEY", KEY).output().unwrap().into();
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(server.calls().iter().all(|(_, key)| !key.contains(KEY)));
    place.file(".config/plandag/config.toml", format!("base_url = \"{}\"\n", server.url()));
    let ran: Ran = place.command(["run", "x"]).env("OPENAI_API_KEY", KEY).output().unwrap().into();
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(server.calls().last().unwrap().1.contains(KEY), "the user named the address, too");
}

#[test]
fn prompts_can_be_printed_and_replaced() {
    let (server, place) = (Server::with(Model), Place::new());
    let built_in = place.run(["prompts", "step"]);
    assert!(built_in.exit == 0 && built_in.stdout.contains("Do the task"), "{}", built_in.stdout);
    let own = place.file("own.md", "Answer in French.");
    let argument = format!("step={}", own.display());
    assert_eq!(server.run(&place, ["run", "x", "--model", "m", "--prompt", &argument]).exit, 0);
    let systems: Vec<String> =
        server.calls().iter().map(|(body, _)| body["messages"][0]["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(systems.iter().filter(|system| system.starts_with("Answer in French.")).count(), 3);
    assert_eq!(place.run(["prompts", "sonnet"]).exit, 2);
}

#[test]
fn the_doctor_tries_a_call_and_says_what_is_missing() {
    let (server, place) = (Server::with(Model), Place::new());
    let ran = server.run(&place, ["doctor", "--model", "mock"]);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("`mock` (http://127.0.0.1:") && ran.stdout.contains("100 in / 20 out tokens"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("OPENAI_API_KEY is set") && !ran.stdout.contains(KEY), "{}", ran.stdout);
    let (other, asked) = (Server::with(Other), Place::new());
    let ran = other.run(&asked, ["doctor", "--model", "mock"]);
    assert_eq!(ran.exit, 5, "{}", ran.stderr);
    assert!(ran.stderr.contains("it has first"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("plandag doctor"), "it does not send to itself: {}", ran.stderr);
    let ran = place.run(["doctor", "--model", "anthropic::claude-x"]);
    assert_eq!(ran.exit, 5);
    assert!(
        ran.stderr.contains("config.missing_key") && ran.stderr.contains("export ANTHROPIC_API_KEY"),
        "{}",
        ran.stderr
    );
    let example = place.run(["doctor", "--example"]);
    place.file("plandag.toml", &example.stdout);
    assert_eq!(server.run(&place, ["doctor", "--model", "mock", "--json"]).exit, 0, "the example is valid");
    place.file("plandag.toml", "modle = 1\n");
    let ran = server.run(&place, ["run", "x", "--model", "mock"]);
    assert!(ran.exit == 5 && ran.stderr.contains("config.invalid"), "{}", ran.stderr);
}

/// A server that has other models.
struct Other;

impl Respond for Other {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        ResponseTemplate::new(404).set_body_json(json!({ "error": { "message": "model not found" } }))
    }
}

/// A server whose model is not one to talk with.
struct Vectors;

impl Respond for Vectors {
    fn respond(&self, _: &Request) -> ResponseTemplate {
        ResponseTemplate::new(400).set_body_json(json!({ "error": { "message": "it does not support chat" } }))
    }
}

#[test]
fn a_model_is_chosen_that_can_be_talked_with() {
    let (server, place) = (Server::listing(listed(&["nomic-embed-text:latest", "chat"]), Model), Place::new());
    assert_eq!(server.run(&place, ["run", "x"]).exit, 0);
    assert!(server.calls().iter().all(|(call, _)| call["model"] == "chat"), "{:?}", server.calls());
    let ran = Server::with(Vectors).run(&place, ["run", "x"]);
    assert!(ran.exit == 6 && ran.stderr.contains("plandag doctor lists"), "{ran:?}");
    let ran = Server::listing(listed(&["a", "b"]), Vectors).run(&place, ["doctor"]);
    assert!(ran.exit == 6 && ran.stderr.contains("it has a, b"), "{ran:?}");
}

#[test]
fn the_findings_of_the_doctor_are_told_whatever_is_wrong() {
    let place = Place::new();
    let asked = ["doctor", "--json", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"];
    for (file, exit, code) in [("", 6, "provider.unreachable"), ("x = 1\n", 5, "config.invalid")] {
        place.file("plandag.toml", file);
        let ran = place.run(asked);
        let found = ran.last_event();
        assert_eq!((ran.exit, ran.events().len(), &found["error"]["code"]), (exit, 1, &json!(code)), "{ran:?}");
        assert_eq!(found["config"][0], json!({ "path": "plandag.toml", "found": true }), "{ran:?}");
        assert!(!found["keys"].as_array().unwrap().is_empty() && found["servers"].is_array(), "{ran:?}");
        assert!(found["call"].is_null(), "{ran:?}");
    }
    let shown = place.run(["doctor"]);
    assert!(shown.exit == 5 && shown.stdout.contains("✓ plandag.toml"), "{shown:?}");
}

#[test]
fn the_doctor_knows_what_a_run_would_refuse() {
    let (server, place) = (Server::with(Model), Place::new());
    place.file("plandag.toml", "step_tools = \"fetch,nosuch\"\n");
    for asked in [["doctor", "--model", "m"], ["run", "--model=m", "x"]] {
        let ran = server.run(&place, asked);
        assert!(ran.exit == 2 && ran.stderr.contains("there is no tool `nosuch`"), "{ran:?}");
    }
    place.file("plandag.toml", "step_tools = \"fetch,search_files,notes.find\"\n");
    let ran = server.run(&place, ["doctor", "--model", "m"]);
    assert_eq!(ran.exit, 0, "with a folder and a server there may be such tools: {ran:?}");
    place.file("plandag.toml", "step_tools = \"search_files,calculate\"\n");
    let ran = server.run(&place, ["run", "--model=m", "x"]);
    assert_eq!(ran.exit, 0, "what a file says is said of runs with a folder, too: {ran:?}");
}

#[test]
fn an_address_that_serves_no_model_of_the_run_is_refused() {
    let place = Place::new();
    let ran = place.run(["run", "x", "--model", "ollama::x", "--base-url", "http://127.0.0.1:1/v1"]);
    assert!(ran.exit == 2 && ran.stderr.contains("no model is at --base-url http://127.0.0.1:1/v1"), "{ran:?}");
}

/// A proxy would see what is sent, and its network is another one.
#[test]
fn what_is_for_this_machine_goes_to_no_proxy() {
    let (server, place) = (Server::with(ResponseTemplate::new(418)), Place::new());
    let plan = place.plan(json!([{ "id": "a", "tool": "web_search", "args": { "query": "x" } }]));
    let servers = json!({ "mcpServers": { "bank": { "url": format!("{}/mcp", server.url()) } } });
    let servers = place.file("mcp.json", servers.to_string());
    let runs: [[&OsStr; 3]; 2] = [
        ["tools".as_ref(), "--mcp".as_ref(), servers.as_os_str()],
        ["run".as_ref(), plan.as_os_str(), "--offline".as_ref()],
    ];
    for line in runs {
        let mut command = place.command(line);
        command.env_remove("TAVILY_API_KEY").env("MEDIAWIKI_API_URL", server.url()).env_remove("NO_PROXY");
        // Nobody is there.
        let ran: Ran = command.env_remove("no_proxy").env("http_proxy", "http://127.0.0.1:1").output().unwrap().into();
        let is_answered = ["404", "418"].iter().any(|status| ran.stderr.contains(status));
        assert!(ran.exit != 0 && is_answered, "{ran:?}");
    }
}

#[test]
fn a_search_engine_is_on_the_web() {
    let place = Place::new();
    let plan = place.plan(json!([{ "id": "a", "tool": "web_search", "args": { "query": "x" } }]));
    for (address, why) in [("ftp://x/y", "it begins with ftp:"), ("file:///etc/passwd", "it begins with file:")] {
        let mut command = place.command(["run".as_ref(), plan.as_os_str()]);
        let ran: Ran = command.env_remove("TAVILY_API_KEY").env("MEDIAWIKI_API_URL", address).output().unwrap().into();
        assert!(ran.exit == 5 && ran.stderr.contains("config.web_search") && ran.stderr.contains(why), "{ran:?}");
    }
}

#[test]
fn a_limit_on_money_without_a_price_is_named_as_it_was_set() {
    let (server, place) = (Server::with(Model), Place::new());
    place.file("plandag.toml", "max_usd = 1.0\n");
    let by_file = "`max_usd` of plandag.toml needs the price of model `mock`";
    for (more, what) in [(&[][..], by_file), (&["--max-usd", "2"], "--max-usd needs the price of model `mock`")] {
        let line = [&["run", "x", "--model", "mock"], more].concat();
        let ran = place.command(line).env("OPENAI_BASE_URL", server.url()).output().unwrap();
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert!(ran.status.code() == Some(5) && stderr.contains(what), "{stderr}");
    }
    let ran = server.run(&place, ["doctor", "--model", "mock"]);
    assert!(ran.exit == 0 && ran.stdout.contains("answers:") && ran.stdout.contains(by_file), "{ran:?}");
    let ran = server.run(&place, ["doctor", "--model", "mock", "--json"]);
    assert!(ran.exit == 0 && ran.stdout.contains(by_file), "{ran:?}");
}

#[test]
fn a_key_that_cannot_be_sent_is_said_to_be_none() {
    let (server, place) = (Server::with(Model), Place::new());
    let mut command = server.command(&place, ["run", "x", "--model", "mock"]);
    let ran = command.env("OPENAI_API_KEY", "sk-one\nsk-two").output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("config.wrong_key") && stderr.contains("there is a line break in it"), "{stderr}");
    assert!(stderr.contains("set the key") && !stderr.contains("another --model"), "{stderr}");
}

/// A server that repeats the key it was given, as error pages and proxies do.
struct Parrot;

impl Respond for Parrot {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let key = request.headers.get("authorization").unwrap().to_str().unwrap();
        let body: Value = request.body_json().unwrap();
        let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
        if body["stream"] == json!(true) {
            return streamed(&format!("1. look up {key}\n2. fail\n3. compare <- 1\nEND\n"), &usage);
        }
        if body.to_string().contains("fail") {
            return ResponseTemplate::new(400).set_body_string(format!("no such header: {key}"));
        }
        let message = json!({ "role": "assistant", "content": format!("you sent {key}") });
        ResponseTemplate::new(200).set_body_json(json!({
            "id": "1", "model": "m", "usage": usage,
            "choices": [{ "index": 0, "finish_reason": "stop", "message": message }],
        }))
    }
}

const TOKEN: &str = "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5";

/// A server that says a secret where what it says is cut: in the middle of it.
struct Long(&'static str);

impl Respond for Long {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let (is_plan, usage) = (request.body_json::<Value>().unwrap()["stream"] == json!(true), json!({}));
        let long = format!("{}{TOKEN}", "x ".repeat(110));
        let message = match (self.0, is_plan) {
            ("an offence", true) => return streamed(&format!("{}{TOKEN}\n", "z".repeat(60)), &usage),
            ("a task", true) => return streamed(&format!("1. {}{TOKEN}\nEND\n", "z ".repeat(50)), &usage),
            ("a planner's error", true) | ("a step's error", false) => {
                return ResponseTemplate::new(400).set_body_json(json!({ "error": { "message": long } }));
            }
            (_, true) => return streamed("1. look it up\nEND\n", &usage),
            ("a refusal", false) => json!({ "role": "assistant", "content": null, "refusal": long }),
            (_, false) => json!({ "role": "assistant", "content": format!("{}{TOKEN}", "w ".repeat(15)) }),
        };
        ResponseTemplate::new(200).set_body_json(json!({
            "id": "1", "model": "m", "usage": usage,
            "choices": [{ "index": 0, "finish_reason": "stop", "message": message }],
        }))
    }
}

#[test]
fn no_beginning_of_a_secret_is_left_where_a_text_is_cut() {
    for what in ["an offence", "a task", "a planner's error", "a step's error", "a refusal", "a result"] {
        let (server, place) = (Server::with(Long(what)), Place::new());
        for more in [&[][..], &["--json"], &["--ascii"]] {
            let line = [&["run", "x", "--model", "m", "--max-replans", "0", "--journal", "runs.db"], more].concat();
            let ran = place.command(line).env("OPENAI_BASE_URL", server.url()).env("A_TOKEN", TOKEN).output().unwrap();
            let mut written = [ran.stdout, ran.stderr, std::fs::read(place.path().join("runs.db")).unwrap()].concat();
            written.extend(std::fs::read(place.path().join("runs.db-wal")).unwrap_or_default());
            let written = String::from_utf8_lossy(&written);
            assert!(written.contains("[redacted]"), "{what}: {written}");
            let at = written.find(&TOKEN[..6]).map(|at| &written[at..at + 40]);
            assert_eq!(at, None, "{what}, {more:?}");
        }
    }
}

#[test]
fn a_key_from_a_file_is_written_nowhere() {
    const CANARY: &str = "canary-4711-from-a-file";
    let (server, place) = (Server::with(Parrot), Place::new());
    place.file("key.txt", CANARY);
    let mut written = Vec::new();
    for output in [&["-o", "answer.txt"][..], &["--json"]] {
        let mut command = place.command([&["run", "x", "--model", "m", "-vvv", "--max-replans", "0"], output].concat());
        command.args(["--api-key-file", "key.txt", "--base-url", &server.url(), "--journal", "runs.db"]);
        let ran = command.output().unwrap();
        assert!(ran.status.code().is_some());
        written.extend([("standard output".to_owned(), ran.stdout), ("standard error".to_owned(), ran.stderr)]);
    }
    let files = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.is_file() && !file.ends_with("key.txt"));
    written.extend(files.map(|file| (file.display().to_string(), std::fs::read(&file).unwrap())));
    assert!(server.calls().iter().any(|(_, key)| key.contains(CANARY)));
    assert!(written.iter().any(|(name, _)| name.ends_with("runs.db")));
    assert!(written.iter().any(|(_, bytes)| String::from_utf8_lossy(bytes).contains("[redacted]")));
    for (name, bytes) in written {
        assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{name}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn what_has_no_end_is_not_read_to_its_end() {
    let place = Place::new();
    // A pipe, which does not say how much there is. What is too much by a little is left in it.
    let endless = "\n".repeat((1 << 20) + 10);
    let refused = |arguments: &[&str], exit: i32| {
        let ran =
            place.run_with_input([&["run", "x", "--base-url", "http://127.0.0.1:9/v1"], arguments].concat(), &endless);
        assert!(ran.exit == exit && ran.stderr.contains("it is longer than 1048576 bytes"), "{arguments:?}: {ran:?}");
    };
    refused(&["--model", "m", "--mcp", "/dev/stdin"], 5);
    refused(&["--model", "m", "--api-key-file", "/dev/stdin"], 5);
    refused(&["--model", "m", "--prompt", "planner=/dev/stdin"], 5);
    std::os::unix::fs::symlink("/dev/stdin", place.path().join("plandag.toml")).unwrap();
    refused(&["--model", "m"], 5);
}
