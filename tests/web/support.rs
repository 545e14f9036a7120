//! A server in this process, and clients for it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use plandag::journal::{Journal as _, MemoryJournal, Owner, RunId};
use plandag::web::{Job, Launcher, Problem, Server, Task};
use plandag::{Effect, Plan, RunHandle, RunStart, Runner, Step, StepError, ToolSpec, tool_fn};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A server with runs in memory.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    pub(crate) journal: MemoryJournal,
    /// Lets every step `wait` go on.
    pub(crate) gate: Arc<Notify>,
    client: Client,
    server: JoinHandle<()>,
}

/// Runs what is asked for in this process.
#[derive(Clone)]
struct InProcess {
    journal: MemoryJournal,
    gate: Arc<Notify>,
    handles: Arc<Mutex<BTreeMap<RunId, RunHandle>>>,
}

impl InProcess {
    fn runner(&self, plan: Plan) -> Runner {
        let gate = Arc::clone(&self.gate);
        let acts = ToolSpec { effect: Effect::Acts, ..ToolSpec::new("act", "acts") };
        Runner::new(plan)
            .tool("echo", tool_fn(|cx| async move { Ok(cx.args["value"].clone()) }))
            .tool("spread", tool_fn(|cx| async move { Ok(serde_json::from_value::<Plan>(cx.args).unwrap()) }))
            .tool("fail", tool_fn(|_| async { Err::<Value, _>(StepError::permanent("it <b>broke</b>")) }))
            .tool("outside", tool_fn(|_| async { Ok("a letter from a stranger") }).untrusted())
            .tool("act", tool_fn(|_| async { Ok("acted") }).with_spec(acts))
            .tool(
                "wait",
                tool_fn(move |_| {
                    let gate = Arc::clone(&gate);
                    async move {
                        gate.notified().await;
                        Ok("waited")
                    }
                }),
            )
            .journal(self.journal.clone())
    }

    fn keep(&self, handle: RunHandle) -> RunId {
        let run = handle.id().clone();
        self.handles.lock().unwrap().insert(run.clone(), handle);
        run
    }
}

impl Launcher for InProcess {
    fn start<'a>(&'a self, job: Job) -> BoxFuture<'a, Result<RunId, Problem>> {
        Box::pin(async move {
            let Task::Plan(file) = job.task else {
                return Err(Problem::new("config.no_planner", "nothing here plans"));
            };
            let objective = file.plan.objective.clone().unwrap_or_default();
            let runner =
                job.inputs.into_iter().fold(self.runner(file.plan), |runner, (name, value)| runner.input(name, value));
            let run = self.keep(runner.start(objective));
            while self.journal.summary(&run).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(run)
        })
    }

    fn resume<'a>(&'a self, run: &'a RunId) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            self.handles.lock().unwrap().remove(run);
            self.keep(self.runner(Plan::default()).start_resume(run));
            Ok(())
        })
    }

    fn check(&self, _: &RunStart) -> Result<(), Problem> {
        Ok(())
    }

    fn cancel<'a>(&'a self, run: &'a RunId, _: Owner, now: bool) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            let handles = self.handles.lock().unwrap();
            let handle = &handles[run];
            if now {
                handle.cancel_now()
            } else {
                handle.cancel()
            }
            Ok(())
        })
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(|server| server).await
    }

    /// A server that is set up in another way.
    pub(crate) async fn start_with(set_up: impl FnOnce(Server) -> Server) -> Self {
        let (journal, gate) = (MemoryJournal::new(), Arc::new(Notify::new()));
        let launcher = InProcess { journal: journal.clone(), gate: Arc::clone(&gate), handles: Arc::default() };
        let server = set_up(Server::new(journal.clone()).launcher(launcher, "may echo"));
        let bound = server.bind("127.0.0.1", 0).await.unwrap();
        let (address, token) = (bound.address(), bound.token().to_owned());
        let server = tokio::spawn(bound.run(std::future::pending()));
        // What a test sends is what is sent: nothing is followed, and no proxy is asked.
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().build().unwrap();
        Self { address, token, journal, gate, client, server }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request of nobody in particular.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A request of a script that has the token.
    pub(crate) fn script(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).header(AUTHORIZATION, format!("Bearer {}", self.token))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.script(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        let request = self.script(Method::POST, path).header(CONTENT_TYPE, "application/json");
        Answer::of(request.body(body.to_string()).send().await.unwrap()).await
    }

    /// Starts a run of these steps.
    pub(crate) async fn run(&self, steps: Value) -> String {
        let answer = self.post("/api/runs", json!({ "plan": { "objective": "a test", "steps": steps } })).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body["run"].as_str().unwrap().to_owned()
    }

    /// Waits until a run is in this state, and gives what its page shows then.
    pub(crate) async fn until(&self, run: &str, state: &str) -> Value {
        loop {
            if self.journal.summary(&run.into()).await.unwrap().state() == state {
                return self.get(&format!("/api/runs/{run}")).await.body;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A connection, and nothing sent.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads the answer to its end.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) text: String,
    /// Null if it is no JSON.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Self { status, kind: kind.unwrap_or_default(), text, body }
    }
}

/// A step that says what it is given.
pub(crate) fn echo(id: &str, value: impl Into<Value>) -> Value {
    json!({ "id": id, "tool": "echo", "args": { "value": value.into() } })
}

/// A step that waits for the gate.
pub(crate) fn wait(id: &str) -> Value {
    json!(Step::new(id, "wait"))
}
